//! Rows of simulated machines: the simulator's physics through the production features, healthy and with faults of each kind.

use kilter_machine::{Axis, FaultChange, FaultKind, Growth, LoadChange, Machine, MachineSpec};
use kilter_signal::{
    bearing::Orders,
    extract::{Vibration, VibrationSetup, scratch_len, vibration},
    fft::{Plan, table_len},
    table::{Schema, VIBRATION_LEN, describe},
};
use kilter_types::{GroupKind, Hertz, Rpm};

use crate::{Dataset, Feature, Rows, random::Random};

/// Healthy windows of so many machines at one speed, or in turn at two; beside them windows of other machines with a fault each.
pub(crate) fn dataset((machines, windows): (u32, u64), speeds: u64, seed: u64) -> Dataset {
    let mut sensor = Sensor::new();
    let (mut healthy, mut faulty) = (Rows::default(), Rows::default());
    for asset in 0..machines {
        let mut random = Random::new(seed, &format!("machine {asset}"));
        let spec = spec(&mut random);
        for index in 0..windows {
            // A speed holds for some windows, so that sequences are long enough.
            let fast = index * 4 / windows % speeds == 1;
            sensor.window(&mut healthy, &spec, (asset, index, fast), &mut random);
        }
    }
    for (number, kind) in (machines..).zip(KINDS) {
        let mut random = Random::new(seed, &format!("faulty machine {number}"));
        for index in 0..FAULTY_WINDOWS {
            let severity = 0.1 + 0.3 * index as f64 / FAULTY_WINDOWS as f64;
            let fault = FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity, growth: Growth::Linear };
            let spec = MachineSpec { faults: vec![fault], ..spec(&mut Random::new(seed, "faulty")) };
            sensor.window(&mut faulty, &spec, (number, index, false), &mut random);
        }
    }
    let name = |reference| describe(reference).map_or_else(String::new, |of| of.name.as_str().to_owned());
    let schema = Schema::of(GroupKind::Vibration, 1);
    let features =
        schema.features().iter().map(|reference| Feature { reference: *reference, name: name(reference.id) });
    Dataset { group: GroupKind::Vibration, features: features.collect(), healthy, faulty }
}

/// A machine that differs from others as machines of a kind do.
pub(crate) fn spec(random: &mut Random) -> MachineSpec {
    let mut spec = MachineSpec::named("pump");
    let mut vary = |value: &mut f64, spread: f64| *value *= 1.0 + spread * f64::from(random.symmetric());
    vary(&mut spec.unbalance_g, 0.3);
    vary(&mut spec.misalignment_g, 0.3);
    vary(&mut spec.noise_g, 0.2);
    vary(&mut spec.bearing.resonance_hz, 0.1);
    spec
}

/// The vertical sensor of a machine.
pub(crate) struct Sensor {
    plan: Plan<Vec<f32>>,
    scratch: Vec<f32>,
    samples: Vec<f32>,
}

impl Sensor {
    pub(crate) fn new() -> Self {
        let plan = Plan::new(SAMPLES, vec![0.0; table_len(SAMPLES)]).expect("a length of factors 2");
        Self { plan, scratch: vec![0.0; scratch_len(SAMPLES)], samples: vec![0.0; SAMPLES] }
    }

    /// The features of one window.
    pub(crate) fn measure(&mut self, spec: &MachineSpec, noise: u64) -> Vibration {
        let (rate, rpm) =
            (Hertz(spec.rate_hz as f32), spec.load_changes.first().map_or(spec.nominal_rpm, |load| load.rpm));
        let mut machine = Machine::new(spec.clone(), noise).expect("a good machine");
        machine.vibration(Axis::Vertical, &mut self.samples);
        let bearing = Orders::catalogue("6205").expect("a known bearing");
        let setup = VibrationSetup::new(rate).expect("a good rate");
        let setup = setup.with_shaft(Rpm(rpm as f32)).with_bearing(bearing);
        let mut out = Vibration::default();
        vibration(&self.samples, &setup, &self.plan, &mut self.scratch, &mut out).expect("a whole window");
        out
    }

    fn window(
        &mut self,
        rows: &mut Rows,
        spec: &MachineSpec,
        (asset, index, fast): (u32, u64, bool),
        random: &mut Random,
    ) {
        let rpm = if fast { 1_800.0 } else { 1_500.0 };
        let load = 0.7 + 0.1 * f64::from(random.symmetric());
        let mut spec = spec.clone();
        spec.load_changes = vec![LoadChange { at_s: 0.0, rpm, load, ramp_s: 0.0 }];
        let out = self.measure(&spec, random.next());
        rows.values.extend(&out.values[..VIBRATION_LEN]);
        rows.valid.push(out.valid);
        rows.asset.push(asset);
        rows.series.push(asset);
        rows.index.push(index);
        rows.time_us.push(index as i64 * 10_000_000);
        rows.regime.push(if fast { 96 } else { 80 });
        rows.rpm.push(rpm as f32);
        rows.load.push(f32::NAN);
    }
}

/// What is wrong with the faulty machines.
const KINDS: [FaultKind; 6] = [
    FaultKind::OuterRace,
    FaultKind::InnerRace,
    FaultKind::Unbalance,
    FaultKind::Misalignment,
    FaultKind::Looseness,
    FaultKind::Cavitation,
];
const FAULTY_WINDOWS: u64 = 48;
const SAMPLES: usize = 4_096;

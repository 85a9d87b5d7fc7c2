//! A machine whose speed comes from pulses: followed over a ramp, doubted where no shaft could give them.

use kilter_machine::{Axis, FaultChange, FaultKind, GearSpec, Growth, LoadChange, Machine, MachineSpec};
use kilter_monitor::{ChannelConfig, ChannelKind, ConfigError, Heap, MachineConfig, Monitor, Output};
use kilter_types::{
    AlarmSource, Cause, ChannelId, FeatureRow, GroupKind, Hertz, Input, MachineEvent, Micros, OperatingState, Quality,
    Rpm, Spectrum, Unit,
};

use crate::support::*;

const TACHO: ChannelId = ChannelId(3);
const PULSES: u16 = 2;

fn config(spec: &MachineSpec, window: u32) -> MachineConfig {
    let mut config = pump(spec, window);
    let kind = ChannelKind::Tacho { pulses_per_rev: PULSES };
    config.channels.push(ChannelConfig::new(name("tacho"), Unit::One, kind)).expect("room");
    config.spectrum_every = 1;
    config
}

/// Feeds tenths of a second: the pulses of each, changed by the test, and then its samples.
struct Bench {
    machine: Machine,
    tenths: u64,
}

impl Bench {
    fn new(spec: MachineSpec, seed: u64) -> Self {
        Self { machine: Machine::new(spec, seed).expect("a good spec"), tenths: 0 }
    }

    fn run(&mut self, seconds: f64, monitor: &mut Heaped, said: &mut Vec<Said>, keep: impl Fn(u64) -> bool) {
        let rate_hz = self.machine.spec().rate_hz;
        let mut block = vec![0.0; (rate_hz / 10.0) as usize];
        for _ in 0..(seconds * 10.0).round() as u64 {
            let t_s = self.tenths as f64 / 10.0;
            let mut sink = |output: Output<'_>| said.push(Said::of(&output));
            for (position, pulse_s) in self.machine.pulses(PULSES, t_s, t_s + 0.1) {
                if keep(position) {
                    let pulse = Input::Reading { t: at(pulse_s), value: 1.0 };
                    monitor.push(TACHO, position, pulse, &mut sink).expect("a pulse fits");
                }
            }
            self.machine.vibration(Axis::Vertical, &mut block);
            let position = self.tenths * block.len() as u64;
            let block = Input::Block { t0: at(t_s), rate: Hertz(rate_hz as f32), samples: &block };
            monitor.push(VIBRATION, position, block, &mut sink).expect("a block fits");
            self.tenths += 1;
        }
    }
}

fn at(t_s: f64) -> Micros {
    Micros((t_s * 1e6).round() as i64 + T0)
}

fn seconds(t: Micros) -> f64 {
    (t.0 - T0) as f64 / 1e6
}

/// From 15 to 30 Hz in twelve seconds, with a gear of fifty teeth.
fn ramp() -> MachineSpec {
    let mut spec = MachineSpec::named("m");
    spec.gear = Some(GearSpec { teeth: 50, mesh_g: 1.0 });
    spec.load_changes.push(LoadChange { at_s: 0.0, rpm: 900.0, load: 0.7, ramp_s: 0.0 });
    spec.load_changes.push(LoadChange { at_s: 4.0, rpm: 1800.0, load: 0.7, ramp_s: 12.0 });
    spec
}

fn spectra(said: &[Said]) -> Vec<Spectrum> {
    said.iter()
        .filter_map(|s| if let Words::Spectrum(spectrum) = &s.what { Some(spectrum.clone()) } else { None })
        .filter(|spectrum| !spectrum.envelope)
        .collect()
}

/// The highest stretch of a spectrum without its lowest lines, and how many are half as high or more.
fn peak(spectrum: &Spectrum) -> (usize, usize) {
    let lines = &spectrum.lines[4..];
    let top = lines.iter().copied().max().expect("lines");
    let place = lines.iter().position(|line| *line == top).expect("it is there");
    (place + 4, lines.iter().filter(|line| **line >= top / 2).count())
}

#[test]
fn a_ramp_is_followed_by_its_pulses_and_a_line_is_narrow_in_orders() {
    const WINDOW: u32 = 32_768;
    let (mut monitor, mut said) = (build(config(&ramp(), WINDOW)), Vec::new());
    let mut bench = Bench::new(ramp(), 3);
    bench.run(8.0, &mut monitor, &mut said, |_| true);
    // A restart in the middle changes nothing.
    let mut kept = vec![0; monitor.snapshot_len()];
    monitor.snapshot(&mut kept).expect("room");
    let mut monitor = build(config(&ramp(), WINDOW));
    monitor.restore(&kept).expect("the same configuration");
    bench.run(12.0, &mut monitor, &mut said, |_| true);

    let rows: Vec<FeatureRow> = rows(&said).into_iter().filter(|row| row.kind == GroupKind::Vibration).collect();
    assert_eq!(rows.len(), 20 * 12_800 / WINDOW as usize);
    let mut worst = 0.0f64;
    for row in &rows {
        let (from, to) = (seconds(row.start), seconds(row.end));
        let truth = 60.0 * (bench.machine.revolutions(to) - bench.machine.revolutions(from)) / (to - from);
        worst = worst.max((f64::from(row.rpm.0) / truth - 1.0).abs());
        assert_eq!(row.quality.0 & !Quality::TRANSIENT.0, 0, "window {}", row.index);
    }
    assert!(worst <= 0.005, "the worst window's speed is off by {worst}");
    let ramping = |row: &&FeatureRow| seconds(row.start) > 4.0 && seconds(row.end) < 16.0;
    assert!(rows.iter().filter(ramping).all(|row| row.state == OperatingState::Transient));

    // The same machine with its speed told but without pulses.
    let mut plain = config(&ramp(), WINDOW);
    plain.channels.pop();
    let (mut monitor, mut smeared) = (build(plain), Vec::new());
    let mut other = Machine::new(ramp(), 3).expect("a good spec");
    let mut block = vec![0.0; 1280];
    for tenth in 0..200u64 {
        let t = at(tenth as f64 / 10.0);
        let sink = &mut |output: Output<'_>| smeared.push(Said::of(&output));
        monitor.machine_event(t, MachineEvent::Speed(Rpm(other.speed(tenth as f64 / 10.0))), sink);
        other.vibration(Axis::Vertical, &mut block);
        let block = Input::Block { t0: t, rate: Hertz(12_800.0), samples: &block };
        monitor.push(VIBRATION, tenth * 1280, block, sink).expect("a block fits");
    }
    let mut shown = Vec::new();
    for (row, (tracked, smeared)) in rows.iter().zip(spectra(&said).iter().zip(&spectra(&smeared))) {
        assert_eq!((tracked.index, smeared.index), (row.index, row.index));
        if ramping(&row) {
            let ((place, width), (_, spread)) = (peak(tracked), peak(smeared));
            let order = |place: usize| place as f32 * tracked.line_hz / row.rpm.hertz().0;
            // The mesh lies within the stretch that stands out, up to the width of a line.
            assert!(order(place) - 0.1 <= 50.0 && 50.0 <= order(place + 1) + 0.1, "orders {} on", order(place));
            shown.push((width, spread));
        }
    }
    println!("speed off by {worst:.5} at most; stretches of 25 Hz with pulses and without: {shown:?}");
    assert!(shown.len() >= 3 && shown.iter().all(|(width, spread)| *width <= 2 && *spread >= 4), "{shown:?}");
}

#[test]
fn pulses_that_no_shaft_gives_are_a_reason_of_their_own_and_the_machine_is_judged_all_the_same() {
    const WINDOW: u32 = 4096;
    let (mut monitor, mut said) = (build(config(&MachineSpec::named("m"), WINDOW)), Vec::new());
    let mut bench = Bench::new(MachineSpec::named("m"), 5);
    bench.run(16.0, &mut monitor, &mut said, |_| true);
    assert_eq!(raised(&said), []);
    assert!(rows(&said).iter().all(|row| row.quality == Quality::GOOD));
    // The wire breaks, and the shaft goes out of balance.
    said.clear();
    let change =
        FaultChange { kind: FaultKind::Unbalance, start_s: 0.0, growth_s: 0.0, severity: 1.0, growth: Growth::Linear };
    bench.machine.set_fault(change).expect("a good fault");
    bench.run(8.0, &mut monitor, &mut said, |_| false);
    let found: Vec<FeatureRow> = rows(&said).into_iter().filter(|row| row.kind == GroupKind::Vibration).collect();
    assert_eq!(found.len(), 25);
    for row in &found[1..] {
        assert_eq!((row.quality, row.state, row.rpm), (Quality::BAD_PULSES, OperatingState::Unknown, Rpm(0.0)));
        assert!(row.vector.valid != 0, "the samples are good");
    }
    let raised: Vec<(AlarmSource, Cause)> =
        raised(&said).into_iter().map(|(_, alarm)| (alarm.source, alarm.cause)).collect();
    assert!(raised.contains(&(AlarmSource::Sensor, Cause::Sensor)), "{raised:?}");
    assert!(
        raised.iter().any(|(source, _)| *source == AlarmSource::Rule),
        "a broken tacho silenced the limit: {raised:?}"
    );
}

#[test]
fn a_second_speed_and_a_tacho_without_pulses_are_refused() {
    let spec = MachineSpec::named("m");
    let refused = |change: &dyn Fn(&mut MachineConfig)| {
        let mut config = config(&spec, 4096);
        change(&mut config);
        matches!(Monitor::<Heap>::new(config, &mut Heap), Err(ConfigError::Channel { .. }))
    };
    let add = |kind: ChannelKind, unit: Unit| {
        move |config: &mut MachineConfig| {
            config.channels.push(ChannelConfig::new(name("more"), unit, kind)).expect("room")
        }
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&add(ChannelKind::Speed, Unit::Rpm)));
    assert!(refused(&add(ChannelKind::Tacho { pulses_per_rev: 1 }, Unit::One)));
    assert!(refused(&|config| config.channels[3].kind = ChannelKind::Tacho { pulses_per_rev: 0 }));
    assert!(refused(&|config| config.channels[3].unit = Unit::Rpm));
}

//! Which way the simulator's faults move production features: what the table of injected faults is made from and held against.
//!
//! Machines that differ as machines of a kind do run healthy and, with the same noise, with a fault. A move is counted in healthy scales, as
//! the bench takes them from rows that train, and no further than the kernel looks. Each fault is made as large as moves its strongest
//! feature by a few healthy scales, which is what injected faults do; the moves at several such sizes are brought to the same length, and
//! their mean is how the fault shows. The frequencies of the strongest lines jump from one line to another and are left out.

use kilter_machine::{FaultChange, FaultKind, GearSpec, Growth, LoadChange, Machine, MachineSpec};
use kilter_signal::{
    extract::VALUES,
    reading::{self, Readings},
    table::{READING, TEMPERATURE, VIBRATION},
    temperature,
};
use kilter_types::Micros;

use super::{
    faults::{FAULTS, shown},
    simulated::{Sensor, spec},
};
use crate::{columns::trimmed_moments, export::INPUT_CLIP, random::Random};

/// How one fault moves each feature.
struct Moved {
    kind: FaultKind,
    by: Vec<(String, f64)>,
}

/// One value per feature, a row per window.
type Table = Vec<Vec<f32>>;

/// Directions of all faults by machines of this seed, at sizes that move the strongest feature by so many healthy scales.
fn moved(seed: u64, sizes: &[f64]) -> Vec<Moved> {
    let of = |kind: &FaultKind| {
        let by = if *kind == FaultKind::Cooling { heated(seed, sizes) } else { shaken(*kind, seed, sizes) };
        Moved { kind: *kind, by }
    };
    FaultKind::ALL.iter().map(of).collect()
}

/// How a fault moves the vibration features.
fn shaken(kind: FaultKind, seed: u64, sizes: &[f64]) -> Vec<(String, f64)> {
    let mut sensor = Sensor::new();
    let mut windows = Vec::new();
    for machine in 0..MACHINES {
        let mut random = Random::new(seed, &format!("physics {machine}"));
        let mut spec = spec(&mut random);
        spec.gear = (kind == FaultKind::Gear).then_some(GearSpec { teeth: 37, mesh_g: 0.1 });
        for _ in 0..WINDOWS {
            let load = 0.7 + 0.1 * f64::from(random.symmetric());
            spec.load_changes = vec![LoadChange { at_s: 0.0, rpm: 1_500.0, load, ramp_s: 0.0 }];
            windows.push((spec.clone(), random.next()));
        }
    }
    let mut measure = |severity: f64, every: usize| -> Table {
        let of = |(spec, noise): &(MachineSpec, u64)| {
            sensor.measure(&with(spec, kind, severity, 0.0), *noise).values[..VIBRATION.len()].to_vec()
        };
        windows.iter().step_by(every).map(of).collect()
    };
    let names: Vec<String> = VIBRATION.iter().map(|feature| feature.name.to_owned()).collect();
    let healthy = Healthy::of(&names, measure(0.0, 1));
    let few = Table::from_iter(healthy.rows.iter().step_by(WINDOWS).cloned());
    let of_size = |size: &f64| {
        // Severities that move one window of each machine too little and too much, ever closer.
        let (mut low, mut high) = (1e-3f64, 1.0);
        for _ in 0..HALVINGS {
            let middle = (low * high).sqrt();
            match greatest(&healthy.moves(&few, &measure(middle, WINDOWS))) < *size {
                true => low = middle,
                false => high = middle,
            }
        }
        healthy.moves(&healthy.rows, &measure(high, 1))
    };
    mean(&names, &sizes.iter().map(of_size).collect::<Vec<_>>())
}

/// How cooling that fails within a day moves temperature and reading features; each group in its own proportion.
fn heated(seed: u64, sizes: &[f64]) -> Vec<(String, f64)> {
    let machines = (0..MACHINES).map(|machine| {
        let mut random = Random::new(seed, &format!("heat {machine}"));
        let mut spec = spec(&mut random);
        spec.thermal.rise_c *= 1.0 + 0.1 * f64::from(random.symmetric());
        spec.day.start_s = 43_200.0 * (1.0 + f64::from(random.symmetric()));
        spec.day.load_swing = 0.05;
        (spec, random.next())
    });
    let machines: Vec<(MachineSpec, u64)> = machines.collect();
    let measure = |severity: f64| -> Table {
        let of =
            |(spec, noise): &(MachineSpec, u64)| hours(&with(spec, FaultKind::Cooling, severity, 86_400.0), *noise);
        machines.iter().flat_map(of).collect()
    };
    let (healthy, faulty) = (measure(0.0), measure(WARM));
    let group = |names: Vec<String>, from: usize| {
        let part = |rows: &Table| rows.iter().map(|row| row[from..from + names.len()].to_vec()).collect::<Table>();
        let healthy = Healthy::of(&names, part(&healthy));
        // Heat rises in proportion to the fault.
        let per_severity = greatest(&healthy.moves(&healthy.rows, &part(&faulty))) / WARM;
        let of_size = |size: &f64| healthy.moves(&healthy.rows, &part(&measure(size / per_severity)));
        mean(&names, &sizes.iter().map(of_size).collect::<Vec<_>>())
    };
    let warm: Vec<String> = TEMPERATURE.iter().map(|feature| feature.name.to_owned()).collect();
    let read: Vec<String> = READING.iter().map(|feature| format!("r*.{}", feature.name)).collect();
    [group(warm, 0), group(read, TEMPERATURE.len())].concat()
}

/// A day of a machine, an hour to a row: temperature features, then those of the housing as a plain reading.
fn hours(spec: &MachineSpec, noise: u64) -> Table {
    let mut machine = Machine::new(spec.clone(), noise).expect("a good machine");
    let hour = |hour: u64| {
        let seconds = || (0..60).map(move |minute| (hour * 3_600 + minute * 60) as f64);
        let times: Vec<Micros> = seconds().map(|t_s| Micros((t_s * 1e6) as i64)).collect();
        let housing: Vec<f32> = seconds().map(|t_s| machine.temperature(t_s)).collect();
        let ambient: Vec<f32> = seconds().map(|t_s| machine.ambient(t_s)).collect();
        let [housing, ambient] = [&housing, &ambient].map(|values| Readings { times: &times, values });
        let (mut warm, mut read) = ([0.0; VALUES], [0.0; VALUES]);
        temperature::features(&housing, Some(&ambient), &mut warm);
        reading::features(&[housing], &mut read);
        [&warm[..TEMPERATURE.len()], &read[..READING.len()]].concat()
    };
    (0..24).map(hour).collect()
}

fn with(spec: &MachineSpec, kind: FaultKind, severity: f64, growth_s: f64) -> MachineSpec {
    let fault = FaultChange { kind, start_s: 0.0, growth_s, severity, growth: Growth::Linear };
    MachineSpec { faults: vec![fault], ..spec.clone() }
}

/// Healthy rows and their scales.
struct Healthy {
    rows: Table,
    /// 0 of what has none: it never moves while all is well, or it jumps.
    scales: Vec<f64>,
}

impl Healthy {
    fn of(names: &[String], rows: Table) -> Self {
        let scale = |(place, name): (usize, &String)| {
            let mut values: Vec<f32> = rows.iter().map(|row| row[place]).collect();
            values.sort_by(f32::total_cmp);
            let jumps = name.starts_with("peak_") && name.ends_with("_frequency");
            if jumps { 0.0 } else { f64::from(trimmed_moments(&values).1) }
        };
        let scales = names.iter().enumerate().map(scale).collect();
        Self { rows, scales }
    }

    /// The mean move of each feature from these healthy rows to the faulty ones beside them.
    fn moves(&self, healthy: &Table, faulty: &Table) -> Vec<f64> {
        let of = |(place, scale): (usize, &f64)| {
            let by = |(faulty, healthy): (&Vec<f32>, &Vec<f32>)| f64::from(faulty[place] - healthy[place]) / scale;
            let clipped = faulty.iter().zip(healthy).map(by).map(|by| by.clamp(-CLIP, CLIP));
            if *scale > 0.0 { clipped.sum::<f64>() / faulty.len() as f64 } else { 0.0 }
        };
        self.scales.iter().enumerate().map(of).collect()
    }
}

/// Of moves at several sizes, each brought to the same length; the greatest as 1.
fn mean(names: &[String], sizes: &[Vec<f64>]) -> Vec<(String, f64)> {
    let mut sum = vec![0.0; names.len()];
    for by in sizes {
        let length = by.iter().map(|by| by * by).sum::<f64>().sqrt();
        sum.iter_mut().zip(by).for_each(|(sum, by)| *sum += by / length);
    }
    let most = greatest(&sum);
    names.iter().cloned().zip(sum.into_iter().map(|by| by / most)).collect()
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// What the table calls a kind.
fn word(kind: FaultKind) -> String {
    let bearing = [FaultKind::OuterRace, FaultKind::InnerRace, FaultKind::RollingElement, FaultKind::Cage];
    let word = kind.word().replace('_', " ");
    if bearing.contains(&kind) { format!("bearing {word}") } else { word }
}

/// A fault of the table as it is written there.
fn written<N: AsRef<str>>(fault: &str, moved: impl Iterator<Item = (N, f64)>) -> String {
    let pairs: Vec<String> = moved.map(|(name, by)| format!("(\"{}\", {by:.2}),", name.as_ref())).collect();
    let lines: Vec<String> = pairs.chunks(4).map(|pairs| format!("        {}\n", pairs.join(" "))).collect();
    format!("    (\"{fault}\", &[\n{}    ]),\n", lines.concat())
}

/// Of two directions over the same features.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

#[test]
fn the_table_is_what_the_simulators_physics_says_to_the_last_digit() {
    let physics = |moved: &Moved| {
        let kept = moved.by.iter().filter(|(_, by)| by.abs() >= LEAST);
        written(&word(moved.kind), kept.map(|(name, by)| (name, *by)))
    };
    let physics: String = moved(1, &[2.0, 4.0]).iter().map(physics).collect();
    let table = FAULTS.iter().map(|(fault, by)| written(fault, by.iter().map(|(name, by)| (name, f64::from(*by)))));
    assert!(table.collect::<String>() == physics, "the table is to be:\n{physics}");
}

#[test]
fn each_injected_fault_points_where_other_machines_with_that_fault_go_and_to_no_other_fault() {
    // Machines that the table was not made from, with faults of other sizes.
    for fault in moved(2, &[1.5, 3.0]) {
        let names: Vec<String> = fault.by.iter().map(|(name, _)| name.replace('*', "1")).collect();
        let physics: Vec<f64> = fault.by.iter().map(|(_, by)| *by).collect();
        let alike = shown(&names.iter().map(String::as_str).collect::<Vec<_>>()).into_iter().map(|direction| {
            let shift: Vec<f64> = direction.shift.iter().map(|by| f64::from(*by)).collect();
            (cosine(&physics, &shift), direction.name)
        });
        let mut alike: Vec<(f64, String)> = alike.collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!("{}: {:?}", word(fault.kind), &alike[..alike.len().min(3)]);
        let (nearest, name) = alike.first().expect("it is shown");
        assert_eq!(*name, word(fault.kind), "{alike:?}");
        assert!(*nearest >= ALIKE, "{alike:?}");
    }
}

const MACHINES: usize = 12;
/// Of each machine, healthy and with each size of a fault.
const WINDOWS: usize = 6;
/// Steps of the search for a severity, from a thousandth to 1.
const HALVINGS: usize = 8;
/// The severity at which it is seen how far heat moves the features.
const WARM: f64 = 0.1;
const CLIP: f64 = INPUT_CLIP as f64;
/// What is moved by less of the most than this is left out of the table.
const LEAST: f64 = 0.05;
/// The least cosine between the table and other machines.
const ALIKE: f64 = 0.95;

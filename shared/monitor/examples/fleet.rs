//! Measures the monitor on simulated machines: false alarms of healthy ones, delay and cause on faulty ones, cost and memory.
//!
//! ```sh
//! cargo run --release -p kilter-monitor --example fleet -- 12 900 4096
//! ```
//! Machines, simulated seconds of each healthy one, samples per window. Healthy machines change load and speed on the way; a faulty
//! one's defect grows within 30 s from second 60 on.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use kilter_machine::{FaultChange, FaultKind, Growth, LoadChange, MachineSpec};
use kilter_types::{AlarmState, Severity};

#[path = "../tests/behaviour/support.rs"]
mod support;

use support::{Feeder, Heaped, alarms, build, events, pump, raised, rows, scores};

fn main() {
    let mut arguments = std::env::args().skip(1).map_while(|text| text.parse::<u64>().ok());
    let machines = arguments.next().unwrap_or(12);
    let seconds = arguments.next().unwrap_or(900) as f64;
    let window = arguments.next().unwrap_or(4096) as u32;
    memory();
    healthy(machines, seconds, window);
    for kind in FaultKind::ALL {
        if kind != FaultKind::Gear && kind != FaultKind::Cavitation {
            faulty(kind, machines, window);
        }
    }
}

fn memory() {
    for window in [1024, 4096, 16_384] {
        let config = pump(&MachineSpec::named("m"), window);
        let needed = kilter_monitor::needed(&config).expect("a good configuration");
        let monitor = build(config);
        println!(
            "window {window}: lent {} bytes, struct {} bytes (8 groups, 1024 values per sequence) or {} (1 group, 256), snapshot {}",
            needed.bytes(),
            size_of::<kilter_monitor::Monitor<kilter_monitor::Heap>>(),
            size_of::<kilter_monitor::Monitor<kilter_monitor::Carve<'static>, 1, 256>>(),
            monitor.snapshot_len(),
        );
    }
}

fn healthy(machines: u64, seconds: f64, window: u32) {
    let (mut windows, mut wrong, mut worst) = (0u64, 0usize, 0.0f32);
    let mut spent = Duration::ZERO;
    for seed in 0..machines {
        let mut spec = MachineSpec::named("m");
        for i in 1..6u32 {
            let at_s = seconds * f64::from(i) / 6.0;
            let (rpm, load) =
                [(1500.0, 0.95), (1800.0, 0.95), (1500.0, 0.7), (1350.0, 0.45), (1500.0, 0.7)][i as usize - 1];
            spec.load_changes.push(LoadChange { at_s, rpm, load, ramp_s: 2.0 });
        }
        let mut monitor = build(pump(&spec, window));
        let mut said = Vec::new();
        let mut feeder = Feeder::new(spec, 1000 + seed);
        spent += timed(&mut feeder, seconds, &mut monitor, &mut said);
        windows += rows(&said).len() as u64;
        wrong += raised(&said).len();
        for (index, alarm) in alarms(&said) {
            println!("  false: machine {seed} window {index} {alarm:?}");
        }
        let ratio = scores(&said).iter().map(|(_, s)| s.anomaly / s.threshold).fold(0.0, f32::max);
        worst = worst.max(ratio);
        let learned = events(&said).len();
        assert!(learned > 0, "nothing was learned");
    }
    let each = spent.as_nanos() as f64 / windows as f64;
    println!(
        "healthy: {machines} machines, {windows} windows, {wrong} false alarms, worst score {worst:.2} of its threshold"
    );
    println!(
        "cost: {each:.0} ns per window with its share of the feeding (window of {window} at 12.8 kHz, all of set S)"
    );
}

fn faulty(kind: FaultKind, machines: u64, window: u32) {
    let (mut found, mut named, mut early) = (0, 0, 0);
    let mut delays = Vec::new();
    for seed in 0..machines {
        let mut spec = MachineSpec::named("m");
        spec.thermal.time_constant_s = 60.0;
        spec.faults.push(FaultChange { kind, start_s: 60.0, growth_s: 30.0, severity: 0.9, growth: Growth::Linear });
        let mut config = pump(&spec, window);
        config.commissioning_windows = (40 * 12_800 / window).max(12);
        let mut monitor = build(config);
        let mut said = Vec::new();
        let seconds = if kind == FaultKind::Cooling { 600.0 } else { 120.0 };
        Feeder::new(spec, 2000 + seed).run(seconds, &mut monitor, &mut said);
        let Some(first) =
            said.iter().find(|s| matches!(&s.what, support::Words::Alarm(alarm) if alarm.state == AlarmState::Raised))
        else {
            continue;
        };
        found += 1;
        let delay_s = (first.at.0 - support::T0) as f64 / 1e6 - 60.0;
        early += u32::from(delay_s < 0.0);
        delays.push(delay_s);
        let last = alarms(&said).pop().map(|(_, alarm)| (alarm.cause.as_str(), alarm.severity));
        let right = if kind == FaultKind::Cooling { "overheating" } else { kind.word() };
        named += u32::from(last.is_some_and(|(cause, severity)| cause == right && severity >= Severity::Alarm));
    }
    delays.sort_by(f64::total_cmp);
    println!(
        "{:16} found {found}/{machines}, before its start {early}, cause right {named}, delay median {:.1} s, longest {:.1} s",
        kind.word(),
        delays.get(delays.len() / 2).copied().unwrap_or(f64::NAN),
        delays.last().copied().unwrap_or(f64::NAN),
    );
}

/// The time that the monitor takes, without the simulation's.
fn timed(feeder: &mut Feeder, seconds: f64, monitor: &mut Heaped, said: &mut Vec<support::Said>) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..(seconds * 10.0) as u64 {
        feeder.synthesise();
        let begin = Instant::now();
        feeder.feed(&mut [(&mut *monitor, &mut *said)]);
        spent += begin.elapsed();
    }
    spent
}

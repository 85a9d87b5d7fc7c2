//! The same input gives the same bits: rows, scores and alarms of a fixed signal, word for word.

use std::fmt::Write;
use std::path::Path;

use kilter_machine::MachineSpec;
use kilter_monitor::Output;
use kilter_types::{Hertz, Input, MachineEvent, Micros, Rpm};

use crate::support::*;

/// Noise, a shaft line and, from the middle on, impacts at the outer race's rate; integers and IEEE arithmetic only.
fn signal(len: usize) -> Vec<f32> {
    let mut state = 0x1234_5678u32;
    let mut ring = [0.0f32; 2];
    (0..len)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / 16_777_216.0 - 0.5;
            // A square wave of the shaft's 25 Hz at 12.8 kHz, and a resonator that 89.6 impacts per second excite.
            let shaft = if i / 256 % 2 == 0 { 0.02 } else { -0.02 };
            let hit = if i > len / 2 && i % 143 == 0 { 2.0 } else { 0.0 };
            let next = 0.3 * ring[0] - 0.9 * ring[1] + hit;
            ring = [next, ring[0]];
            0.1 * noise + shaft + next
        })
        .collect()
}

#[test]
fn a_fixed_signal_gives_the_golden_bits() {
    const WINDOW: usize = 1024;
    let mut config = pump(&MachineSpec::named("m"), WINDOW as u32);
    config.commissioning_windows = 12;
    let mut monitor = build(config);
    let mut said = Vec::new();
    let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
    monitor.machine_event(Micros(0), MachineEvent::Speed(Rpm(1500.0)), sink);
    for (i, block) in signal(40 * WINDOW).chunks(500).enumerate() {
        let position = i as u64 * 500;
        let t0 = Micros(position as i64 * 625 / 8);
        monitor
            .push(VIBRATION, position, Input::Block { t0, rate: Hertz(12_800.0), samples: block }, sink)
            .expect("a block fits");
    }
    let mut text = String::new();
    for said in &said {
        let line = match &said.what {
            Words::Features(row) if row.index % 4 == 0 => {
                let values = row.vector.values.iter().fold(String::new(), |mut text, value| {
                    write!(text, " {:08x}", value.to_bits()).expect("text grows");
                    text
                });
                format!(
                    "features {} {:?} {:?} {:016x} {:013x}{values}",
                    row.index, row.state, row.quality, row.vector.schema.0, row.vector.valid
                )
            }
            Words::Score(score) => {
                format!(
                    "score {} {:08x} of {:08x}",
                    score.input.index,
                    score.anomaly.to_bits(),
                    score.threshold.to_bits()
                )
            }
            Words::Alarm(a) => {
                format!("alarm {} {:?} {:?} {:?} {:?}", a.input.index, a.state, a.source, a.cause, a.severity)
            }
            Words::Event(event) => format!("event {} {event:?}", said.index),
            Words::Features(_) | Words::Spectrum(_) | Words::State(_) | Words::Trip(_) => continue,
        };
        writeln!(text, "{line}").expect("text grows");
    }
    let golden = |version: &str| {
        let path = Path::new("tests/golden").join(version).join("rows.txt");
        std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("read {}: {e}; the bits are now:\n{text}", path.display()))
    };
    assert!(golden("v3") == text, "the bits differ; they are now:\n{text}");
    // Only the baseline's scores changed since version 1.
    let others =
        |text: &str| text.lines().filter(|line| !line.starts_with("score")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(others(&golden("v1")), others(&text));
}

//! `kilter-bits-windows OUT`: windows for the digest, real ones (where `KILTER_DATA` names the data folder) and simulated ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kilter_bits::{HEAD, WINDOW};
use kilter_machine::{Axis, FaultChange, FaultKind, Growth, Machine, MachineSpec};
use kilter_types::ChannelId;

fn main() -> anyhow::Result<()> {
    let out = std::env::args_os().nth(1).map(PathBuf::from).context("usage: kilter-bits-windows OUT")?;
    let file = File::create(&out).with_context(|| format!("failed to create {}", out.display()))?;
    let mut file = BufWriter::new(file);
    let real = match std::env::var_os("KILTER_DATA").map(PathBuf::from) {
        Some(data) => real(&data.join("cwru"), &mut file)?,
        None => 0,
    };
    // Without the real data there are as many simulated windows more.
    let simulated = simulated(if real == 0 { 120 } else { 20 }, &mut file)?;
    file.flush()?;
    println!("windows {} real {real} simulated {simulated}", real + simulated);
    Ok(())
}

/// Every whole window of every record of a folder.
fn real(folder: &Path, out: &mut impl Write) -> anyhow::Result<u32> {
    let mut count = 0;
    for record in kilter_recording::read_folder(folder)? {
        let recording = kilter_recording::open(&record.path, &record.declaration)?;
        let rate_hz = recording.channels.first().and_then(|channel| channel.rate).context("a record without a rate")?.0;
        let rpm = recording.rpm.map_or(0.0, |rpm| rpm.0);
        let head = [rate_hz, rpm, 3.585, 5.415, 2.357, 0.398];
        for window in recording.samples(ChannelId(0)).chunks_exact(WINDOW) {
            write(&head, window, out)?;
            count += 1;
        }
    }
    Ok(count)
}

/// So many windows of each fault at 3.2 kHz.
fn simulated(each: u32, out: &mut impl Write) -> anyhow::Result<u32> {
    let mut count = 0;
    for (i, kind) in FaultKind::ALL.into_iter().enumerate() {
        let mut spec = MachineSpec::named("bits");
        spec.rate_hz = 3200.0;
        spec.bearing.resonance_hz = 1100.0;
        if kind == FaultKind::Gear {
            continue;
        }
        let fault = FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity: 0.8, growth: Growth::default() };
        spec.faults.push(fault);
        let rpm = spec.nominal_rpm as f32;
        let mut machine = Machine::new(spec, i as u64).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut window = vec![0.0; WINDOW];
        for _ in 0..each {
            machine.vibration(Axis::ALL[0], &mut window);
            write(&[3200.0, rpm, 3.585, 5.415, 2.357, 0.398], &window, out)?;
            count += 1;
        }
    }
    Ok(count)
}

fn write(head: &[f32; HEAD], samples: &[f32], out: &mut impl Write) -> anyhow::Result<()> {
    for value in head.iter().chain(samples) {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

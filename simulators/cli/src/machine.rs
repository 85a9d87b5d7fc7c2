//! One machine's vibration as a file, for looking at by hand.

use std::path::Path;

use anyhow::Context as _;
use kilter_machine::{Axis, FaultChange, FaultKind, Growth, LoadChange, Machine, MachineSpec};

use crate::args::MachineArgs;
use crate::plant::Plant;

/// Writes the file and the truth beside it.
pub(crate) fn run(args: &MachineArgs) -> anyhow::Result<()> {
    let mut spec = base(args)?;
    if let Some(rate_hz) = args.rate {
        spec.rate_hz = rate_hz;
    }
    let rpm = args.rpm.unwrap_or(spec.nominal_rpm);
    spec.load_changes.push(LoadChange { at_s: 0.0, rpm, load: args.load, ramp_s: 0.0 });
    if let Some(word) = &args.fault {
        let kinds = || FaultKind::ALL.map(FaultKind::word).join(", ");
        let kind =
            FaultKind::from_word(word).with_context(|| format!("find the fault {word:?}; there are {}", kinds()))?;
        let change = FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity: args.severity, growth: Growth::Linear };
        spec.faults.push(change);
    }
    let axis = Axis::ALL.into_iter().find(|axis| axis.word() == args.axis);
    let axis = axis.with_context(|| format!("find the axis {:?}; there are horizontal, vertical, axial", args.axis))?;
    let samples = args.seconds * spec.rate_hz;
    anyhow::ensure!((1.0..=MAX_SAMPLES).contains(&samples), "write {samples} samples; 1 to {MAX_SAMPLES} are possible");
    let mut signal = vec![0.0; samples as usize];
    let mut machine = Machine::new(spec, args.seed).context("build the machine")?;
    machine.vibration(axis, &mut signal);
    let truth = serde_json::json!({
        "rate_hz": machine.spec().rate_hz, "unit": "g", "axis": axis.word(), "seed": args.seed,
        "truth": machine.truth(args.seconds), "spec": machine.spec(),
    });
    write(&args.out, &npy(&signal))?;
    write(&args.out.with_extension("json"), format!("{truth:#}\n").as_bytes())?;
    println!("{} samples at {} Hz in {}", signal.len(), machine.spec().rate_hz, args.out.display());
    Ok(())
}

fn base(args: &MachineArgs) -> anyhow::Result<MachineSpec> {
    let Some(name) = &args.name else { return Ok(MachineSpec::named("machine")) };
    let plant = Plant::read(&args.spec)?;
    let known = plant.machines.iter().map(|m| m.spec.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = plant.machines.into_iter().find(|machine| machine.spec.name == *name);
    Ok(found.with_context(|| format!("find the machine {name:?}; there are {known}"))?.spec)
}

fn npy(signal: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", signal.len());
    // The values begin at a multiple of 64 bytes; the header ends in a line feed.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(signal.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

const MAX_SAMPLES: f64 = 100e6;

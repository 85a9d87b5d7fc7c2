//! A recording of a simulated machine, and an agent's configuration that replays it: the journeys that compare the lake with the sensor.

use anyhow::Context;
use kilter_machine::{Axis, FaultChange, FaultKind, Growth, Machine, MachineSpec};

pub(crate) const RATE_HZ: usize = 12_800;

/// So many seconds of a machine whose unbalance changes at these seconds to these severities.
pub(crate) fn simulate(seconds: usize, changes: &[(f64, f64)]) -> anyhow::Result<Vec<f32>> {
    let spec = MachineSpec { rate_hz: RATE_HZ as f64, ..MachineSpec::named("pump-1") };
    let mut machine = Machine::new(spec, 11).context("build the machine")?;
    for (start_s, severity) in changes.iter().copied() {
        let change =
            FaultChange { kind: FaultKind::Unbalance, start_s, growth_s: 0.0, severity, growth: Growth::default() };
        machine.set_fault(change).context("change the machine")?;
    }
    let mut samples = vec![0.0; seconds * RATE_HZ];
    machine.vibration(Axis::Horizontal, &mut samples);
    Ok(samples)
}

/// One machine; `PAGE` is the address of its local page. A window is a tenth of a second.
pub(crate) const CONFIG: &str = r#"
data = "data"
bundle = "bundle.toml"
site = "north"
report_secs = 1.0

[http]
listen = "PAGE"

[clip]
before_secs = 2.0
after_secs = 0.5
# Enough for one clip and not for two.
daily_bytes = 180000

[[machine]]
asset = "pump-1"
class = "pump"
source = { kind = "file", path = "run.npy", rate_hz = 12800.0, unit = "g", rpm = 1480.0, t0_us = 0, speed = 0.0 }
nominal_rpm = 1480.0
commissioning_windows = 12
patience = { raise = 2, of = 3, diagnosis_raise = 5, diagnosis_of = 8, clear = 10, clear_ratio = 0.8, latch = false }

[[machine.limit]]
feature = "velocity_rms"
alarm = 4.5
danger = 40.0
cause = "unbalance"

[[machine.channel]]
name = "ch1"
kind = "vibration"
unit = "g"
rate_hz = 12800.0

[[machine.group]]
point = "drive-end"
kind = "vibration"
channels = ["ch1"]
window = 1280
"#;

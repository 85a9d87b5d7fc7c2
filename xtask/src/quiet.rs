//! What quiet costs: the baseline's false alarms against small faults found, over months of made-up machines.

use crate::build::whole;
use crate::step::{cargo, run};

/// Minutes of work, and the figures are printed: too long for CI, which holds the bounds on fewer machines.
pub(crate) fn proof() -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["test", "--profile", "house", "--lib", "what_quiet_costs"]);
    run(whole(&mut command).args(["--", "--ignored", "--nocapture"]))
}

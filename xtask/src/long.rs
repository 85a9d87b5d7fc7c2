//! Tests that take minutes and print figures: too long for CI, which holds bounds on less.

use crate::build::whole;
use crate::step::{cargo, run};

/// What quiet costs: the baseline's false alarms against small faults found, over months of made-up machines.
pub(crate) fn baseline() -> anyhow::Result<()> {
    ignored(&["--lib", "what_quiet_costs"])
}

/// The two kinds of heads that say how long is left, on real engines.
pub(crate) fn heads() -> anyhow::Result<()> {
    ignored(&["--test", "train", "the_head_that_is_sent"])
}

/// What the statistic and an isolation forest find, on all data at hand.
pub(crate) fn forest() -> anyhow::Result<()> {
    ignored(&["--lib", "an_isolation_forest_on_all_data_at_hand"])
}

fn ignored(tests: &[&str]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["test", "--profile", "house"]);
    run(whole(&mut command).args(tests).args(["--", "--ignored", "--nocapture"]))
}

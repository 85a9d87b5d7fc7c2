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

/// The aggregator killed a hundred times while agents deliver: every table is that of a run without kills.
pub(crate) fn kills() -> anyhow::Result<()> {
    ignored(&["--test", "kills", "a_hundred_kills"])
}

/// The lab stands still for five minutes while agents publish on.
pub(crate) fn away() -> anyhow::Result<()> {
    ignored(&["--test", "bad_input", "for_five_minutes"])
}

fn ignored(tests: &[&str]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["test", "--profile", "house"]);
    run(whole(&mut command).args(tests).args(["--", "--ignored", "--nocapture"]))
}

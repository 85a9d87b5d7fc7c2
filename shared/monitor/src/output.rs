//! What a monitor says, and where it belongs.
//!
//! Within one window the order is: features, scores, alarms and events, spectrum, state. `seq` in every [`kilter_types::RowRef`]
//! is 0: whoever numbers the records fills it in; group and index name the window.

use kilter_types::{
    Alarm, Cause, Event, FeatureId, FeatureRow, Micros, Name, OperatingState, Score, Severity, Spectrum, State,
};

/// One thing that the monitor says.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<'a> {
    /// The measuring point.
    pub point: &'a Name,
    /// The group within the machine.
    pub group: u8,
    /// The window on the group's hop grid that it belongs to: with group and class, its identity.
    pub index: u64,
    /// Time just past that window's last sample; of a model's switch or refusal, past the newest window's.
    pub at: Micros,
    /// What it says.
    pub what: What<'a>,
}

/// What an output says.
#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// A window's features.
    Features(&'a FeatureRow),
    /// A model's or the statistic's score of that window.
    Score(&'a Score),
    /// An alarm was raised, changed or cleared.
    Alarm(&'a Alarm),
    /// Something happened.
    Event(Event),
    /// A spectrum.
    Spectrum(&'a Spectrum),
    /// A learned baseline.
    State(&'a State),
    /// The machine must be stopped (A2); an alarm follows.
    Trip(Trip),
}

/// A protection that tripped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    /// The feature.
    pub feature: FeatureId,
    /// Its value.
    pub value: f32,
    /// The limit.
    pub limit: f32,
}

/// How a machine is, for local display.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The worst alarm of any group.
    pub severity: Severity,
    /// Its cause.
    pub cause: Cause,
    /// What the machine was doing in the newest window.
    pub state: OperatingState,
    /// Windows so far, over all groups.
    pub windows: u64,
    /// The newest deciding score and its threshold.
    pub score: Option<(f32, f32)>,
    /// Does every group know its present regime? Temperature, which takes long, is not waited for.
    pub baseline_ready: bool,
    /// Is a protection tripped and not yet reset?
    pub tripped: bool,
}

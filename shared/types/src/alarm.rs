//! Decisions that leave the device: alarms with their evidence, and events.

use serde::{Deserialize, Serialize};

use crate::{Contribution, Digest, FeatureId, Generation, MAX_CONTRIBUTIONS, Micros, Name, RowRef, Who};

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    #[default]
    Healthy,
    /// Look at it when convenient.
    Watch,
    /// Plan a repair.
    Alarm,
    /// Act now.
    Danger,
}

/// What raised the alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmSource {
    /// A fixed limit, active from the first minute.
    Rule,
    /// The diagnosis found a fault's own signature.
    Physics,
    /// The baseline learned on the device.
    Statistic,
    /// A trained model.
    Model,
    /// The sensor itself is faulty.
    Sensor,
    /// The protection function tripped.
    Protection,
}

/// Which side of the alarm this record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmState {
    /// It begins.
    Raised,
    /// It goes on, with another severity or cause.
    Changed,
    /// It is over.
    Cleared,
}

/// The cause that the evidence supports best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No clear fault.
    #[default]
    Unclear,
    /// Defect of the bearing's outer race.
    OuterRace,
    /// Defect of the bearing's inner race.
    InnerRace,
    /// Defect of a rolling element.
    RollingElement,
    /// Defect of the cage.
    Cage,
    /// Unbalance.
    Unbalance,
    /// Misalignment.
    Misalignment,
    /// Mechanical looseness.
    Looseness,
    /// Gear damage.
    Gear,
    /// Overheating or failing cooling.
    Overheating,
    /// Vibration severity without a clear signature.
    Severity,
    /// The sensor, not the machine.
    Sensor,
}

impl Cause {
    /// The word that people and APIs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::OuterRace => "outer_race",
            Self::InnerRace => "inner_race",
            Self::RollingElement => "rolling_element",
            Self::Cage => "cage",
            Self::Unbalance => "unbalance",
            Self::Misalignment => "misalignment",
            Self::Looseness => "looseness",
            Self::Gear => "gear",
            Self::Overheating => "overheating",
            Self::Severity => "severity",
            Self::Sensor => "sensor",
        }
    }
}

/// One line of evidence: a feature, its value, and the limit it passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The feature.
    pub feature: FeatureId,
    /// Its value in the window.
    pub value: f32,
    /// The limit.
    pub limit: f32,
}

/// A change of an alarm's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which alarm of this point: stays the same from `Raised` to `Cleared`.
    pub id: u32,
    /// What happened to it.
    pub state: AlarmState,
    /// How bad it is.
    pub severity: Severity,
    /// What raised it.
    pub source: AlarmSource,
    /// The best supported cause.
    pub cause: Cause,
    /// When it began, on the record's timeline.
    pub since: Micros,
    /// The window that decided.
    pub input: RowRef,
    /// The model that decided; [`Digest::NONE`] without one.
    pub model: Digest,
    /// What supports the cause.
    pub evidence: heapless::Vec<Evidence, 4>,
    /// The score's ranked contributions.
    pub contributions: heapless::Vec<Contribution, MAX_CONTRIBUTIONS>,
    /// Left without being durable on the device, because its disk is dead (J1).
    pub unjournaled: bool,
}

/// Something that happened to a machine or its node. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The first healthy windows are in; the baseline stands.
    Commissioned {
        /// First window's start.
        from: Micros,
        /// Last window's end.
        to: Micros,
    },
    /// The machine entered an operating state that no baseline or model knows.
    NewRegime {
        /// The bin.
        bin: u8,
    },
    /// The input no longer looks like what the model was trained on.
    Drift {
        /// The model.
        model: Digest,
        /// How many of the recent windows lie outside, 0 to 1.
        share: f32,
    },
    /// Another model decides from this window on.
    ModelSwitched {
        /// The model before.
        from: Digest,
        /// The model now.
        to: Digest,
        /// The manifest's generation.
        generation: Generation,
        /// The first window that the new model scores.
        first: RowRef,
    },
    /// A model was refused or reverted.
    ModelRefused {
        /// The model.
        model: Digest,
        /// Why, in a word.
        reason: Name,
    },
    /// Maintenance was done.
    Maintenance {
        /// What was done, in a word.
        what: Name,
    },
    /// A person's judgement on a range of time.
    Labelled {
        /// Begin of the range.
        from: Micros,
        /// End of the range.
        to: Micros,
        /// The judgement.
        label: Label,
    },
    /// A person released latched alarms and trips. Written since record version 3.
    Reset {
        /// Who.
        by: Who,
    },
}

/// What a person says of a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    /// The machine was healthy.
    Healthy,
    /// The machine was faulty.
    Faulty(Cause),
}

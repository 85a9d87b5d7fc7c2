//! The record: what the edge journals, ships and never overwrites.

use serde::{Deserialize, Serialize};

use crate::{
    Alarm, Digest, Epoch, Event, FeatureRow, Generation, Hertz, Micros, Monotonic, Name, Point, Role, Score, Seal,
    Timeline, Unit,
};

/// Kinds of records, each with its own contiguous `seq` within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// Alarms: never dropped.
    Alarm = 0,
    /// Events: maintenance, labels, model switches.
    Event = 1,
    /// Gaps: what is missing and why.
    Gap = 2,
    /// Openings, health reports and seals of the node.
    Report = 3,
    /// Scores.
    Score = 4,
    /// Feature rows.
    Feature = 5,
    /// Learned baselines.
    State = 6,
    /// Spectra.
    Spectrum = 7,
    /// Raw clips: dropped first.
    Clip = 8,
}

impl Class {
    /// Every class, in the order of priority.
    pub const ALL: [Self; 9] = [
        Self::Alarm,
        Self::Event,
        Self::Gap,
        Self::Report,
        Self::Score,
        Self::Feature,
        Self::State,
        Self::Spectrum,
        Self::Clip,
    ];

    /// The class with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The word that people and APIs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Event => "event",
            Self::Gap => "gap",
            Self::Report => "report",
            Self::Score => "score",
            Self::Feature => "feature",
            Self::State => "state",
            Self::Spectrum => "spectrum",
            Self::Clip => "clip",
        }
    }

    /// What no budget and no quota holds back: few and short, and what a person must hear of.
    pub fn is_brief(self) -> bool {
        match self {
            Self::Alarm | Self::Event | Self::Gap | Self::Report => true,
            Self::Score | Self::Feature | Self::State | Self::Spectrum | Self::Clip => false,
        }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where it was measured.
    pub point: Point,
    /// The node's epoch.
    pub epoch: Epoch,
    /// Contiguous per class within the epoch, from 0.
    pub seq: u64,
    /// When it was made, since boot.
    pub monotonic: Monotonic,
    /// Whose clock the payload's times are on.
    pub timeline: Timeline,
    /// Event time: the wall clock's guess on a `device` timeline, the time as given on a `source` timeline.
    pub wall: Option<Micros>,
    /// How far `wall` may be off.
    pub uncertainty: Micros,
    /// What it says.
    pub payload: Payload,
}

impl Record {
    /// The class that the payload belongs to.
    pub fn class(&self) -> Class {
        self.payload.class()
    }
}

/// What a record says. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// A feature row.
    Features(FeatureRow),
    /// A score.
    Score(Score),
    /// A change of an alarm.
    Alarm(Alarm),
    /// An event.
    Event(Event),
    /// Records that will never come, and why (J3).
    Gap(Gap),
    /// The first record of an epoch.
    Opening(Opening),
    /// The node's health.
    Report(Report),
    /// A learned baseline.
    State(State),
    /// An averaged spectrum with its own scaling.
    Spectrum(Spectrum),
    /// A part of a raw clip. Written since record version 2.
    Clip(Clip),
    /// What was recorded before, vouched for. Written since record version 4.
    Seal(Seal),
}

impl Payload {
    /// The class that this payload belongs to.
    pub fn class(&self) -> Class {
        match self {
            Self::Features(_) => Class::Feature,
            Self::Score(_) => Class::Score,
            Self::Alarm(_) => Class::Alarm,
            Self::Event(_) => Class::Event,
            Self::Gap(_) => Class::Gap,
            Self::Opening(_) | Self::Report(_) | Self::Seal(_) => Class::Report,
            Self::State(_) => Class::State,
            Self::Spectrum(_) => Class::Spectrum,
            Self::Clip(_) => Class::Clip,
        }
    }
}

/// Records that are missing for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Their class.
    pub class: Class,
    /// Their epoch.
    pub epoch: Epoch,
    /// First missing seq.
    pub first_seq: u64,
    /// Last missing seq.
    pub last_seq: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The journal was full and the stated policy dropped them.
    Evicted,
    /// The journal's disk failed.
    DiskFailed,
    /// They were written but not yet durable when power went.
    TornTail,
    /// A damaged segment was quarantined.
    Quarantined,
    /// The source was silent or interrupted.
    SourceSilent,
    /// A queue on the node was full.
    Overrun,
}

/// What an epoch begins with: who came before, so that a lost tail shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The journal's identity on the node.
    pub journal: u64,
    /// The epoch before and what it held.
    pub predecessor: Option<Predecessor>,
    /// Version of the node's software.
    pub version: Name,
}

/// The last known state of the epoch before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// Its id.
    pub epoch: Epoch,
    /// Per class: the last seq that was found.
    pub last: heapless::Vec<(Class, u64), 9>,
}

/// What the node runs and how it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the node's software.
    pub version: Name,
    /// The kind of machine that this point is on, for example `pump`.
    pub asset_class: Name,
    /// The plan it follows.
    pub generation: Generation,
    /// Models on this point's machine.
    pub models: heapless::Vec<RunningModel, 4>,
    /// Bytes in the journal.
    pub journal_bytes: u64,
    /// Records dropped by policy since the start.
    pub dropped: u64,
    /// Resident memory in bytes; 0 when not known.
    pub resident_bytes: u64,
    /// The journal's disk has failed; alarms go on unjournaled.
    pub journal_dead: bool,
}

/// A model on the node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningModel {
    /// The artifact.
    pub digest: Digest,
    /// Leader or shadow.
    pub role: Role,
    /// The manifest's generation.
    pub generation: Generation,
    /// Past its expiry date: flagged, never stopped.
    pub expired: bool,
    /// What one score costs, in microseconds (median of the recent ones); 0 before the first.
    pub cost_us: f32,
}

/// A learned baseline, opaque outside the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The group that it belongs to.
    pub group: u8,
    /// Version of the bytes.
    pub version: u8,
    /// The baseline.
    pub bytes: heapless::Vec<u8, 1024>,
}

/// A one-sided amplitude spectrum, decimated for display by maximum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// The group.
    pub group: u8,
    /// The window.
    pub index: u64,
    /// Is it the spectrum of the envelope?
    pub envelope: bool,
    /// Width of one line in Hz.
    pub line_hz: f32,
    /// Amplitude (peak, g) of the largest line, which 65535 stands for.
    pub full_scale: f32,
    /// Amplitudes from 0 Hz on.
    pub lines: heapless::Vec<u16, 256>,
}

/// A part of a raw clip: what a channel measured around an alarm, or when somebody asked.
///
/// Samples are the source's own, bit for bit, so that features can be computed from them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// All parts of all channels of one clip carry the same number.
    pub id: u64,
    /// Why it was taken.
    pub cause: ClipCause,
    /// The channel.
    pub channel: Name,
    /// Unit of the values.
    pub unit: Unit,
    /// Sampling rate.
    pub rate: Hertz,
    /// Position of this part's first sample since the sensor's beginning.
    pub position: u64,
    /// Time of this part's first sample, on the record's timeline.
    pub t0: Micros,
    /// Place of this part among those of its channel, from 0.
    pub part: u16,
    /// How many parts the channel has.
    pub parts: u16,
    /// The samples as f32 LE.
    pub samples: heapless::Vec<u8, CLIP_PART_BYTES>,
}

/// The most bytes of samples in one part of a clip.
pub const CLIP_PART_BYTES: usize = 1024;

/// Why a clip was taken. Variants are only ever added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipCause {
    /// An alarm of this id was raised.
    Alarm(u32),
    /// A command with this id asked.
    Command(u64),
}

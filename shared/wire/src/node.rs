//! Between a node and the gateway that carries its records: what a serial line adds to [`crate::Up`] and [`crate::Down`].
//!
//! On the line each frame is COBS-encoded and closed by a zero byte. A node speaks [`crate::Up`] like any device (hello, batches,
//! time requests, fetches, command results) and hears [`crate::Down`] (chunks, commands, time replies); the frames of this module
//! are for node and gateway only and never reach the aggregator.

use kilter_types::{Digest, Generation, Monotonic, Name, Rpm};
use serde::{Deserialize, Serialize};

use crate::SignedManifest;
use crate::frame::Message;

/// From a node to its gateway. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeUp {
    /// How the node is.
    Status(NodeStatus),
    /// Which image of the firmware it runs. Since version 4; a node without a bootloader does not say it.
    Image(ImageStatus),
}

impl Message for NodeUp {
    fn version(&self) -> u8 {
        match self {
            Self::Status(_) => 2,
            Self::Image(_) => 4,
        }
    }
}

/// From a gateway to its node. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeDown<'a> {
    /// Offers one signed model; the node fetches it when it believes the signature.
    #[serde(borrow)]
    Model(SignedManifest<'a>),
    /// Settings that replace those before.
    Settings(NodeSettings),
}

impl Message for NodeDown<'_> {
    fn version(&self) -> u8 {
        match self {
            Self::Model(_) | Self::Settings(_) => 2,
        }
    }
}

/// What a gateway may set on a node. Kept in the node's flash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// Place in order; anything not above the last one is ignored.
    pub generation: u32,
    /// Shaft speed where none is measured; 0: as built.
    pub nominal_rpm: Rpm,
    /// Windows measured in a row before a sleep.
    pub windows: u16,
    /// Seconds of sleep between two stretches of measuring; 0: never.
    pub sleep_secs: u16,
}

/// A node's own life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What the node's memory of faults says.
    pub faults: FaultCounters,
    /// The last panic, if there ever was one.
    pub panic: Option<PanicNote>,
    /// Samples lost in the ring since boot.
    pub lost_samples: u64,
    /// Reads that the sensor refused since boot.
    pub failed_reads: u32,
    /// Frames that the line did not take since boot.
    pub unsent: u32,
    /// Stretches on the line that were no frame since boot.
    pub garbled: u32,
    /// The model that runs.
    pub model: Option<(Digest, Generation)>,
    /// It still has to prove itself.
    pub on_trial: bool,
    /// Place in order of the settings that hold.
    pub settings: u32,
    /// Estimated charge per day in microampere hours, from the board's figures and what was done since boot.
    pub charge_uah_per_day: u32,
}

/// The image that a node runs, and what it knows of others. A message of its own, so that gateways of before still read the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Whose images run here: the class of machine that a manifest must name.
    pub board: Name,
    /// Generation of the image that runs; 0: as it was flashed; `None`: not known any more.
    pub runs: Option<Generation>,
    /// The highest generation that was ever kept or given up; only what is above is taken (R5).
    pub seen: Generation,
    /// The image that runs still has to prove itself.
    pub on_trial: bool,
    /// The largest image that fits.
    pub capacity_bytes: u32,
    /// The image on its way, and how much of it is there.
    pub coming: Option<(Digest, u32)>,
}

/// Faults that survive a reset; 0 after a power failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounters {
    /// Starts, this one included.
    pub boots: u32,
    /// Resets by the watchdog.
    pub watchdog: u32,
    /// Panics.
    pub panics: u32,
    /// Hard faults of the core.
    pub hard_faults: u32,
}

/// Where the firmware gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicNote {
    /// End of the source file's path.
    pub file: heapless::String<32>,
    /// Line.
    pub line: u32,
    /// When, since that boot.
    pub at: Monotonic,
}

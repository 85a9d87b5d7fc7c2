//! The nouns of Kilter: one meaning for every word that crosses a boundary.
//!
//! Firmware, agent, aggregator and simulators all speak in these types, so they are `no_std`, allocate nothing and own no
//! clock. A border newtype carries its unit; a constructor refuses what would not be good, and afterwards a value stays good.
#![no_std]

#[cfg(test)]
extern crate std;

mod alarm;
mod clock;
mod feature;
mod id;
mod input;
mod manifest;
mod mounting;
mod name;
mod quality;
mod record;
mod score;
mod seal;
mod unit;
mod who;

pub use alarm::{Alarm, AlarmSource, AlarmState, Cause, Event, Evidence, Label, Severity};
pub use clock::{Clock, Micros, Monotonic, Timeline};
pub use feature::{
    FeatureId, FeatureRef, FeatureRow, FeatureVector, GroupKind, MAX_FEATURES, OperatingState, RowRef, SchemaHash,
};
pub use id::{Digest, Epoch, Generation, JournalId, KernelId};
pub use input::{ChannelId, Input, MachineEvent};
pub use manifest::{MAX_MANIFEST_FEATURES, Manifest, ModelKey};
pub use mounting::{Axis, Mounting};
pub use name::{DeviceId, MAX_NAME, Name, NameError, Point};
pub use quality::Quality;
pub use record::{
    CLIP_PART_BYTES, Class, Clip, ClipCause, Gap, GapReason, Opening, Payload, Predecessor, Record, Report,
    RunningModel, Spectrum, State,
};
pub use score::{Contribution, MAX_CONTRIBUTIONS, Role, Rul, Score};
pub use seal::{MAX_SEALED_RANGES, MAX_SEALED_RECORDS, Seal, SealBefore, SealedRange};
pub use unit::{Celsius, Gs, Hertz, Hours, Rpm, Unit, UnitError};
pub use who::{MAX_WHO, Who};

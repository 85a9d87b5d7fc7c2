//! The deterministic fold over the aggregator's journal: what a journal entry means, said once for server and lab.
//!
//! The journal is the truth. [`Fold::apply`] takes its entries in order and gives each new record exactly once, dated, as a
//! [`Row`]; what can't be read becomes a [`Output::Quarantine`]. The fold's only clock and configuration are the entries
//! themselves, so that the same journal always gives the same rows, on both sides of the house and on every replay.
//!
//! Memory is bounded: per device at most [`MAX_EPOCHS`] epochs, per class one mark and at most [`MAX_RANGES`] ranges; what
//! lies beyond is not accepted and is sent again by the device.

mod entry;
mod fold;
mod kept;
mod marks;
mod time;

pub use entry::{Entry, EntryError, MarkState};
pub use fold::{Fold, Output, Row, SnapshotError};
pub use kept::KeptFold;
pub use marks::{MAX_EPOCHS, MAX_RANGES, Marks, Taken};
pub use time::Solved;

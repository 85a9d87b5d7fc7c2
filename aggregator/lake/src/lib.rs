//! The lake: Delta tables whose commits take effect exactly once and are durable when they are told.
//!
//! Rows come from the fold ([`kilter_fold::Row`]) and become plain columns ([`Rows`]); a [`Table`] appends them together with
//! the journal offset up to which it then holds everything (**L1**). A reader sees whole commits only (**L2**), and past
//! versions can be read again (**L3**). [`DeltaTable`] is the table on disk, [`MemoryTable`] its model; both pass the same
//! contract tests. No Arrow type crosses this crate's border: what goes out is [`Rows`] and, for `kilter-history`, a
//! [`Snapshot`] that names the files of one version.
//!
//! Besides appending, a table is compacted, vacuumed and cleared of what a person wants erased; each is one commit by the same
//! committer. A lake lies in a folder or behind an object store ([`Place`]).
//!
//! Limits: one committer per table (the lab holds a lock on its folder).

mod arrow;
mod aside;
mod back;
mod bucket;
mod check;
mod column;
mod correct;
mod delta;
mod durable;
mod erase;
mod error;
mod log;
mod maintain;
mod memory;
mod place;
mod ranges;
mod rollup;
mod rows;
mod schema;
mod stats;
mod table;
mod widen;
mod write;

pub use aside::Aside;
pub use bucket::{Bucket, Credentials};
pub use check::{Checked, Damage, Report, Wrong, gaps};
pub use column::{Blobs, Column, ColumnKind, Lists, Texts, Values};
pub use correct::{Corrected, Correction};
pub use delta::DeltaTable;
pub use durable::{Gate, Step, open_gate};
pub use erase::{Audit, Erased, Reason, Subject, Within};
pub use error::LakeError;
pub use log::Unpublished;
pub use maintain::{Compaction, Rewritten};
pub use memory::MemoryTable;
pub use place::Place;
pub use ranges::{Ranges, Stream, Streams, collect};
pub use rollup::{RollStep, RollUp, RolledBucket, SCORE_VALUES, Series, read_rows};
pub use rows::Rows;
pub use schema::{BUCKETS, TableName, bucket_of, day_of};
pub use stats::Bound;
pub use table::{Appended, DataFile, Offset, Snapshot, Table};

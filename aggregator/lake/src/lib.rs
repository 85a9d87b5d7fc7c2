//! The lake: Delta tables whose commits take effect exactly once and are durable when they are told.
//!
//! Rows come from the fold ([`kilter_fold::Row`]) and become plain columns ([`Rows`]); a [`Table`] appends them together with
//! the journal offset up to which it then holds everything (**L1**). A reader sees whole commits only (**L2**), and past
//! versions can be read again (**L3**). [`DeltaTable`] is the table on disk, [`MemoryTable`] its model; both pass the same
//! contract tests. No Arrow type crosses this crate's border: what goes out is [`Rows`] and, for `kilter-history`, a
//! [`Snapshot`] that names the files of one version.
//!
//! Limits: one committer per table (the lab holds a lock on its folder); local disk only; files are not compacted yet.

mod arrow;
mod column;
mod delta;
mod durable;
mod error;
mod memory;
mod rows;
mod schema;
mod table;

pub use column::{Blobs, Column, ColumnKind, Lists, Texts, Values};
pub use delta::DeltaTable;
pub use durable::{Gate, Step, open_gate};
pub use error::LakeError;
pub use memory::MemoryTable;
pub use rows::Rows;
pub use schema::{BUCKETS, TableName, bucket_of, day_of};
pub use table::{Appended, DataFile, Offset, Snapshot, Table};

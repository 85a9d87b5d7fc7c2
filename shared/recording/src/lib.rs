//! Recorded measurements as [`kilter_types::Input`]: `.npy`, `.wav`, `.csv` and the folders of public data sets.
//!
//! Whatever a file does not say must be declared: a unit or a rate is never guessed. Missing values become NaN, which
//! [`kilter_types::Input`] reads as missing, and a clock that goes back is kept as it is; both are told in [`Recording::notes`].
//! Labels are not read anywhere in this crate. Files are read whole, up to [`MAX_FILE_BYTES`]; text and arrays may be packed by gzip.

mod csv;
mod dataset;
mod error;
mod file;
mod folder;
mod npy;
mod recording;
mod time;
mod wav;

pub use csv::{CsvDeclaration, CsvTime, read_csv};
pub use dataset::{DataSet, Source};
pub use error::RecordingError;
pub use file::{Declaration, MAX_FILE_BYTES, open, read_bounded};
pub use folder::{FolderRecord, read_folder};
pub use npy::NpyArray;
pub use recording::{Bearing, Channel, ChannelDeclaration, Item, MAX_CHANNELS, Note, Notes, Recording};
pub use time::TimeFormat;
pub use wav::Wav;

//! A small journal on the model disk.

use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Recovery};

pub(crate) const DIR: &str = "/journal";
pub(crate) const ALARM: u8 = 0;
pub(crate) const FEATURE: u8 = 2;
pub(crate) const CLIP: u8 = 6;

/// Eight segments, each with room for seven entries of 100 bytes.
pub(crate) fn config() -> Config {
    Config {
        segment_bytes: 1024,
        max_bytes: 8192,
        fsync: FsyncPolicy::Group { interval_us: 1000 },
        reserve_bytes: 0,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    }
}

pub(crate) fn open(fs: &MemoryFilesystem, config: Config) -> (Journal<MemoryFilesystem>, Recovery) {
    Journal::open(fs.clone(), Path::new(DIR), config, 7).expect("opens")
}

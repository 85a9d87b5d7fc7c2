//! A folder of recordings with a `meta.json` that declares each: rate, speed, unit, and the bearing by name or by its orders.
//!
//! ```json
//! { "a_record": { "fs_hz": 12000, "rpm": 1797, "unit": "g", "bearing": "6205" } }
//! ```
//! Nothing else in it is read, whatever it says: no label can leak into a diagnosis. Nor is the file's name, except to find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kilter_types::{Hertz, Rpm, Unit};
use serde::Deserialize;

use crate::error::RecordingError;
use crate::file::{Declaration, read_bounded};
use crate::recording::Bearing;

/// One file of a folder and what is declared about it; [`crate::open`] reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderRecord {
    /// The file.
    pub path: PathBuf,
    /// What `meta.json` declares.
    pub declaration: Declaration,
}

/// The recordings that a folder's `meta.json` declares, in the order of their names.
pub fn read_folder(folder: &Path) -> Result<Vec<FolderRecord>, RecordingError> {
    let meta_path = folder.join("meta.json");
    let meta: BTreeMap<String, Entry> = serde_json::from_slice(&read_bounded(&meta_path)?).map_err(|error| {
        RecordingError::format(&meta_path.display().to_string(), format!("is not the expected JSON: {error}"))
    })?;
    meta.into_iter().map(|(name, entry)| entry.record(folder, &name)).collect()
}

/// The only fields that are read.
#[derive(Deserialize)]
struct Entry {
    fs_hz: Option<f32>,
    rpm: Option<f32>,
    unit: Option<String>,
    bearing: Option<String>,
    orders: Option<Orders>,
}

#[derive(Deserialize)]
struct Orders {
    bpfo: f32,
    bpfi: f32,
    bsf: f32,
    ftf: f32,
}

impl Entry {
    fn record(self, folder: &Path, name: &str) -> Result<FolderRecord, RecordingError> {
        let place = format!("meta.json, record {name}");
        let path = find(folder, name)
            .ok_or_else(|| RecordingError::format(&place, "has no file of that name (.npy, .wav or .csv) beside it"))?;
        let unit = self.unit.ok_or_else(|| RecordingError::undeclared(&place, "unit", "add \"unit\": \"g\""))?;
        let unit = Unit::parse(&unit).map_err(|error| RecordingError::Declared {
            file: place.clone(),
            field: "unit".to_owned(),
            value: format!("{unit:?}"),
            remedy: error.to_string(),
        })?;
        let is_wav = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav"));
        if self.fs_hz.is_none() && !is_wav {
            return Err(RecordingError::undeclared(&place, "fs_hz", "add the rate in samples per second"));
        }
        let orders = self.orders.map(|o| Bearing::Orders { bpfo: o.bpfo, bpfi: o.bpfi, bsf: o.bsf, ftf: o.ftf });
        let declaration = Declaration {
            rate: self.fs_hz.map(Hertz),
            unit: Some(unit),
            rpm: self.rpm.filter(|rpm| rpm.is_finite() && *rpm > 0.0).map(Rpm),
            bearing: orders.or(self.bearing.map(Bearing::Designation)),
            ..Declaration::default()
        };
        Ok(FolderRecord { path, declaration })
    }
}

/// The file of that name, with its ending given or to be found; never outside of the folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    if Path::new(name).components().count() != 1 || name.starts_with('.') {
        return None;
    }
    ["", ".npy", ".wav", ".csv"].iter().map(|ending| folder.join(format!("{name}{ending}"))).find(|path| path.is_file())
}

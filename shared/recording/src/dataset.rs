//! The public data sets by name: which files hold recordings, and what is known about their columns.
//!
//! Units are those of each set's own description; NAB states none, so its values are plain numbers. Labels and change points are
//! never read.

use std::path::{Path, PathBuf};

use kilter_types::{Hertz, Micros, Unit};

use crate::csv::{CsvDeclaration, CsvTime};
use crate::error::RecordingError;
use crate::file::{Declaration, open, read_bounded, unpacked_path};
use crate::folder::read_folder;
use crate::npy::NpyArray;
use crate::recording::{Channel, ChannelDeclaration, Item, Recording, channel_id, name_from, span};
use crate::time::TimeFormat;

/// A data set whose layout is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSet {
    /// Case Western Reserve University bearings; any folder with a `meta.json` of the same form.
    Cwru,
    /// Skoltech Anomaly Benchmark: eight signals of a water circuit, about once per second.
    Skab,
    /// IMS run to failure, as a trend of four bearings.
    Ims,
    /// Numenta Anomaly Benchmark: a machine's temperature.
    Nab,
    /// C-MAPSS turbofan engines: rows by cycle, one recording per engine.
    Cmapss,
    /// PRONOSTIA: snapshots of a bearing's vibration.
    Femto,
}

/// One recording of a data set, not read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What people call it.
    pub name: String,
    /// The file that holds it.
    pub path: PathBuf,
    kind: SourceKind,
}

#[derive(Debug, Clone, PartialEq)]
enum SourceKind {
    Declared(Box<Declaration>),
    Engine(Vec<EngineRow>),
    Snapshots,
}

/// One cycle of one engine: three settings and 21 sensors.
#[derive(Debug, Clone, PartialEq)]
struct EngineRow {
    cycle: u32,
    values: Vec<f32>,
}

impl DataSet {
    /// Every set.
    pub const ALL: [Self; 6] = [Self::Cwru, Self::Skab, Self::Ims, Self::Nab, Self::Cmapss, Self::Femto];

    /// The word that names the set and its folder.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cwru => "cwru",
            Self::Skab => "skab",
            Self::Ims => "ims",
            Self::Nab => "nab",
            Self::Cmapss => "cmapss",
            Self::Femto => "femto",
        }
    }

    /// The set that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.word() == word)
    }

    /// The recordings of this set under `folder` (the set's own, or the one above it), in a fixed order.
    pub fn sources(self, folder: &Path) -> Result<Vec<Source>, RecordingError> {
        let own = folder.join(self.word());
        let folder = if own.is_dir() { own } else { folder.to_owned() };
        let declared = |path: PathBuf, declaration: Declaration| Source {
            name: stem(&path),
            path,
            kind: SourceKind::Declared(Box::new(declaration)),
        };
        let csv = |csv: CsvDeclaration| Declaration { csv: Some(csv), ..Declaration::default() };
        let sources: Vec<Source> = match self {
            Self::Cwru => read_folder(&folder)?.into_iter().map(|r| declared(r.path, r.declaration)).collect(),
            Self::Skab => {
                let name = |path: &Path| {
                    let group = path.parent().map(stem).unwrap_or_default();
                    if group == stem(path) { group } else { format!("{group}-{}", stem(path)) }
                };
                let named = |path: PathBuf| Source { name: name(&path), ..declared(path, csv(skab())) };
                files(&folder, ".csv", 2)?.into_iter().map(named).collect()
            }
            Self::Ims => files(&folder, ".csv", 1)?.into_iter().map(|path| declared(path, csv(ims()))).collect(),
            Self::Nab => files(&folder, ".csv", 1)?.into_iter().map(|path| declared(path, csv(nab()))).collect(),
            Self::Cmapss => {
                let mut engines = Vec::new();
                // Beside them lie the remaining lives and a readme, which hold no rows of engines.
                let holds_engines =
                    |path: &PathBuf| stem(path).starts_with("train_") || stem(path).starts_with("test_");
                for path in files(&folder, ".txt", 1)?.into_iter().filter(holds_engines) {
                    engines.extend(read_engines(&path)?);
                }
                engines
            }
            Self::Femto => {
                let snapshots = |path: PathBuf| Source { name: stem(&path), path, kind: SourceKind::Snapshots };
                let raw = |path: &PathBuf| !stem(path).ends_with("fileno");
                files(&folder, ".npy", 1)?.into_iter().filter(raw).map(snapshots).collect()
            }
        };
        if sources.is_empty() {
            let what = format!("holds no recording of the set {}", self.word());
            return Err(RecordingError::format(&folder.display().to_string(), what));
        }
        Ok(sources)
    }
}

impl Source {
    /// Reads the recording.
    pub fn read(&self) -> Result<Recording, RecordingError> {
        let mut recording = match &self.kind {
            SourceKind::Declared(declaration) => open(&self.path, declaration)?,
            SourceKind::Engine(rows) => engine(rows),
            SourceKind::Snapshots => snapshots(&self.path)?,
        };
        recording.name.clone_from(&self.name);
        Ok(recording)
    }
}

fn skab() -> CsvDeclaration {
    let columns = [
        ("Accelerometer1RMS", "accelerometer1", Unit::G),
        ("Accelerometer2RMS", "accelerometer2", Unit::G),
        ("Current", "current", Unit::Ampere),
        ("Pressure", "pressure", Unit::Bar),
        ("Temperature", "temperature", Unit::DegreeCelsius),
        ("Thermocouple", "thermocouple", Unit::DegreeCelsius),
        ("Voltage", "voltage", Unit::Volt),
        ("Volume Flow RateRMS", "flow", Unit::LitrePerMinute),
    ];
    readings(Some(';'), "datetime", TimeFormat::DateTime, &columns)
}

fn ims() -> CsvDeclaration {
    let columns = [
        ("Bearing 1", "bearing1", Unit::G),
        ("Bearing 2", "bearing2", Unit::G),
        ("Bearing 3", "bearing3", Unit::G),
        ("Bearing 4", "bearing4", Unit::G),
    ];
    readings(Some(','), "Datetime", TimeFormat::Dotted, &columns)
}

fn nab() -> CsvDeclaration {
    readings(Some(','), "timestamp", TimeFormat::DateTime, &[("value", "temperature", Unit::One)])
}

fn readings(separator: Option<char>, time: &str, format: TimeFormat, columns: &[(&str, &str, Unit)]) -> CsvDeclaration {
    let column = |(column, name, unit): &(&str, &str, Unit)| ChannelDeclaration {
        column: (*column).to_owned(),
        name: Some(name_from(name)),
        unit: Some(*unit),
    };
    CsvDeclaration {
        separator,
        time: Some(CsvTime { column: time.to_owned(), format }),
        columns: columns.iter().map(column).collect(),
        ..CsvDeclaration::default()
    }
}

/// One recording per engine of a C-MAPSS file, in its order.
fn read_engines(path: &Path) -> Result<Vec<Source>, RecordingError> {
    let bytes = read_bounded(path)?;
    let file = path.display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|_| RecordingError::format(&file, "is not UTF-8 text"))?;
    let mut engines: Vec<(u32, Vec<EngineRow>)> = Vec::new();
    for (line, row) in (1u64..).zip(text.lines()) {
        let cells: Vec<&str> = row.split_ascii_whitespace().collect();
        if cells.is_empty() {
            continue;
        }
        if cells.len() != ENGINE_COLUMNS {
            return Err(RecordingError::format(&file, format!("line {line} has {} values instead of 26", cells.len())));
        }
        let wrong = |place: usize| RecordingError::Cell {
            file: file.clone(),
            line,
            column: format!("#{}", place + 1),
            text: cells[place].chars().take(40).collect(),
            expected: "a number",
        };
        let whole = |place: usize| cells[place].parse::<u32>().map_err(|_| wrong(place));
        let value = |place: usize| cells[place].parse::<f32>().map_err(|_| wrong(place));
        let values: Result<Vec<f32>, _> = (2..ENGINE_COLUMNS).map(value).collect();
        let (number, row) = (whole(0)?, EngineRow { cycle: whole(1)?, values: values? });
        match engines.last_mut().filter(|(last, _)| *last == number) {
            Some((_, rows)) => rows.push(row),
            None => engines.push((number, vec![row])),
        }
    }
    let source = |(number, rows): (u32, Vec<EngineRow>)| Source {
        name: format!("{}-{number}", stem(path)),
        path: path.to_owned(),
        kind: SourceKind::Engine(rows),
    };
    Ok(engines.into_iter().map(source).collect())
}

fn engine(rows: &[EngineRow]) -> Recording {
    let channel = Channel { name: name_from("engine"), unit: Unit::One, rate: None };
    let mut recording = Recording::empty("engine", vec![channel]);
    for (position, row) in (0u64..).zip(rows) {
        let values: Vec<f32> = row.values.iter().map(|x| if x.is_finite() { *x } else { f32::NAN }).collect();
        recording.notes.missing += values.iter().filter(|x| x.is_nan()).count() as u64;
        recording.items.push(Item::Cycle { channel: channel_id(0), position, n: row.cycle, row: values });
    }
    recording
}

/// Snapshots (file, sample, axis) of 0.1 s every ten seconds; `…_fileno.npy` beside it says which files they are.
fn snapshots(path: &Path) -> Result<Recording, RecordingError> {
    let file = path.display().to_string();
    let array = NpyArray::parse(&read_bounded(path)?, &file)?;
    let [count, samples, axes @ 1..=2] = array.shape[..] else {
        return Err(RecordingError::format(&file, "is not an array of (snapshot, sample, axis)"));
    };
    let numbers_path = path.with_file_name(format!("{}_fileno.npy", stem(path)));
    let numbers = NpyArray::parse(&read_bounded(&numbers_path)?, &numbers_path.display().to_string())?;
    if numbers.values.len() != count {
        let what = format!("holds {} numbers for {count} snapshots", numbers.values.len());
        return Err(RecordingError::format(&numbers_path.display().to_string(), what));
    }
    let rate = Hertz(SNAPSHOT_RATE_HZ as f32);
    let names = ["horizontal", "vertical"];
    let channel = |axis: usize| Channel { name: name_from(names[axis]), unit: Unit::G, rate: Some(rate) };
    let mut recording = Recording::empty(&stem(path), (0..axes).map(channel).collect());
    let mut next = 0;
    for (snapshot, number) in array.values.chunks_exact((samples * axes).max(1)).zip(&numbers.values) {
        let position = (number.max(1.0) as u64 - 1) * SNAPSHOT_PERIOD_SAMPLES;
        if position < next {
            return Err(RecordingError::format(&file, format!("has snapshot {number} out of order")));
        }
        for axis in 0..axes {
            let channel = channel_id(axis);
            if position > next {
                recording.items.push(Item::Skipped { channel, from: next, to: position });
            }
            let samples = snapshot.iter().skip(axis).step_by(axes).copied().collect();
            recording.items.push(Item::Block { channel, position, t0: Micros(0) + span(position, rate), samples });
        }
        next = position + samples as u64;
    }
    Ok(recording)
}

/// The files with this ending, packed or not, down to `depth` folders, sorted by path.
fn files(folder: &Path, ending: &str, depth: u32) -> Result<Vec<PathBuf>, RecordingError> {
    let failed = |source| RecordingError::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && depth > 1 {
            found.extend(files(&path, ending, depth - 1)?);
        } else if path.is_file() && unpacked_path(&path).to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    unpacked_path(path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

const ENGINE_COLUMNS: usize = 26;
const SNAPSHOT_RATE_HZ: u64 = 25_600;
const SNAPSHOT_PERIOD_SAMPLES: u64 = 10 * SNAPSHOT_RATE_HZ;

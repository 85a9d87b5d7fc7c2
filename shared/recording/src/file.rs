//! One recording file by its ending, with what the file does not say declared by a person.

use std::io::Read as _;
use std::path::Path;

use kilter_types::{Hertz, Micros, Name, Rpm, Unit};

use crate::csv::{CsvDeclaration, checked_rate, read_csv};
use crate::error::RecordingError;
use crate::npy::NpyArray;
use crate::recording::{Bearing, Channel, Recording, name_from};
use crate::wav::Wav;

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// What a person declares about a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declaration {
    /// Samples per second; a `.wav` states its own.
    pub rate: Option<Hertz>,
    /// Unit of the values.
    pub unit: Option<Unit>,
    /// What full scale of a PCM `.wav` means, in `unit`; 1 where it is left out.
    pub full_scale: Option<f32>,
    /// Shaft speed.
    pub rpm: Option<Rpm>,
    /// The bearing.
    pub bearing: Option<Bearing>,
    /// Time of the first sample.
    pub t0: Micros,
    /// Names of the channels in order; `ch1`, `ch2`, … where they are left out.
    pub names: Vec<Name>,
    /// Columns of a `.csv`; without them, every column is a channel of `unit` at `rate`.
    pub csv: Option<CsvDeclaration>,
}

/// Reads a `.npy`, `.wav` or `.csv`.
pub fn open(path: &Path, declaration: &Declaration) -> Result<Recording, RecordingError> {
    let bytes = read_bounded(path)?;
    let file = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let ending = unpacked_path(path).extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let mut recording = match ending.as_deref() {
        Some("npy") => {
            let values = NpyArray::parse(&bytes, &file)?.channels(&file)?;
            evenly_sampled(&file, declaration, rate(declaration, &file)?, &values)?
        }
        Some("wav") => from_wav(&bytes, &file, declaration)?,
        Some("csv" | "txt") => from_csv(&bytes, &file, declaration)?,
        Some(_) | None => return Err(RecordingError::format(&file, "is neither .npy, .wav nor .csv")),
    };
    recording.name = unpacked_path(path).file_stem().map_or(file, |stem| stem.to_string_lossy().into_owned());
    recording.rpm = declaration.rpm;
    recording.bearing.clone_from(&declaration.bearing);
    Ok(recording)
}

/// The path without the ending of a gzip file.
pub(crate) fn unpacked_path(path: &Path) -> &Path {
    let gzip = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
    // Only the stem matters to whoever asks, and a path with an ending has one.
    if gzip { path.file_stem().map_or(path, Path::new) } else { path }
}

/// The bytes of a file, those of a gzip file unpacked, at most [`MAX_FILE_BYTES`] either way.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, RecordingError> {
    let failed = |source| RecordingError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.starts_with(&GZIP) {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(packed.as_slice())
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(RecordingError::too_large(&path.display().to_string(), "the file in bytes", MAX_FILE_BYTES));
    }
    Ok(bytes)
}

/// Channels at one rate, named and with their unit.
pub(crate) fn evenly_sampled(
    file: &str,
    declaration: &Declaration,
    rate: Hertz,
    values: &[Vec<f32>],
) -> Result<Recording, RecordingError> {
    let rate = checked_rate(rate.0, file)?;
    let unit = unit(declaration, file)?;
    let channel = |index: usize| {
        let name = declaration.names.get(index).cloned().unwrap_or_else(|| name_from(&format!("ch{}", index + 1)));
        Channel { name, unit, rate: Some(rate) }
    };
    Ok(Recording::of_blocks(file, (0..values.len()).map(channel).collect(), declaration.t0, values))
}

fn from_wav(bytes: &[u8], file: &str, declaration: &Declaration) -> Result<Recording, RecordingError> {
    let mut wav = Wav::parse(bytes, file)?;
    let stated = Hertz(wav.rate_hz as f32);
    if let Some(declared) = declaration.rate.filter(|declared| (declared.0 - stated.0).abs() > 1e-3 * stated.0) {
        return Err(RecordingError::Declared {
            file: file.to_owned(),
            field: "rate".to_owned(),
            value: declared.0.to_string(),
            remedy: format!("the file itself states {} Hz; leave the rate out or correct it", stated.0),
        });
    }
    let full_scale = declaration.full_scale.unwrap_or(1.0);
    wav.channels.iter_mut().flatten().for_each(|x| *x *= full_scale);
    evenly_sampled(file, declaration, stated, &wav.channels)
}

fn from_csv(bytes: &[u8], file: &str, declaration: &Declaration) -> Result<Recording, RecordingError> {
    if let Some(csv) = &declaration.csv {
        return read_csv(bytes, csv, file);
    }
    let (rate, unit) = (rate(declaration, file)?, unit(declaration, file)?);
    let first = String::from_utf8_lossy(&bytes[..bytes.len().min(64 * 1024)]);
    let line = first.lines().next().unwrap_or("");
    let width = line.split([',', ';', '\t']).count();
    let number = |cell: &str| cell.trim().parse::<f32>().is_ok();
    let no_header = line.split([',', ';', '\t']).all(number);
    let column = |index: usize| crate::recording::ChannelDeclaration {
        column: format!("#{}", index + 1),
        name: Some(declaration.names.get(index).cloned().unwrap_or_else(|| name_from(&format!("ch{}", index + 1)))),
        unit: Some(unit),
    };
    let csv = CsvDeclaration {
        no_header,
        rate_hz: Some(rate.0),
        t0_us: declaration.t0.0,
        columns: (0..width).map(column).collect(),
        ..CsvDeclaration::default()
    };
    read_csv(bytes, &csv, file)
}

fn rate(declaration: &Declaration, file: &str) -> Result<Hertz, RecordingError> {
    declaration
        .rate
        .ok_or_else(|| RecordingError::undeclared(file, "rate", "state samples per second (--rate HZ, rate_hz, fs_hz)"))
}

fn unit(declaration: &Declaration, file: &str) -> Result<Unit, RecordingError> {
    declaration.unit.ok_or_else(|| {
        RecordingError::undeclared(file, "unit", "state g, m/s2, mm/s, degC, … or 1 for none (--unit g, unit = \"g\")")
    })
}

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

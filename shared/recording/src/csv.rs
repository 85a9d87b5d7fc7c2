//! `.csv` with declared columns: readings where a column holds the time, blocks where the rate is declared instead.
//!
//! The separator (`,` `;` tab or runs of spaces) is the one that the first line shows unless declared. With `;` a comma may be
//! the decimal point. Empty cells and `NaN`, `NA`, `null` are missing values; any other text that is no number is an error.

use kilter_types::{Hertz, Micros};
use serde::{Deserialize, Serialize};

use crate::error::RecordingError;
use crate::recording::{Channel, ChannelDeclaration, Item, MAX_CHANNELS, Note, Recording, channel_id, name_from};
use crate::time::TimeFormat;

/// What a person declares about a `.csv`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvDeclaration {
    /// `,` `;` tab, or a space for runs of spaces; found from the first line where it is left out.
    pub separator: Option<char>,
    /// Whether the first line names the columns; without a header, columns are `#1`, `#2`, …
    pub no_header: bool,
    /// The column that holds the time.
    pub time: Option<CsvTime>,
    /// The rate, where no column holds the time.
    pub rate_hz: Option<f32>,
    /// Microseconds since 1970 of the first row, where no column holds the time.
    pub t0_us: i64,
    /// The columns to read.
    pub columns: Vec<ChannelDeclaration>,
}

/// The column that holds the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvTime {
    /// Column as the header names it, or `#1` for the first.
    pub column: String,
    /// How it is written.
    #[serde(default)]
    pub format: TimeFormat,
}

/// Reads the declared columns of a `.csv`.
pub fn read_csv(text: &[u8], declaration: &CsvDeclaration, file: &str) -> Result<Recording, RecordingError> {
    let text = std::str::from_utf8(text).map_err(|_| RecordingError::format(file, "is not UTF-8 text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let table = Table::open(text, declaration, file)?;
    match (&declaration.time, declaration.rate_hz) {
        (Some(time), None) => table.readings(time),
        (None, Some(rate_hz)) => table.blocks(checked_rate(rate_hz, file)?, Micros(declaration.t0_us)),
        (None, None) => Err(RecordingError::undeclared(
            file,
            "time",
            "declare the column that holds the time (time = { column, format }) or the rate (rate_hz)",
        )),
        (Some(_), Some(rate)) => Err(RecordingError::Declared {
            file: file.to_owned(),
            field: "rate_hz".to_owned(),
            value: rate.to_string(),
            remedy: "a table has either a time column or a rate; remove one".to_owned(),
        }),
    }
}

/// A rate that can be one.
pub(crate) fn checked_rate(rate_hz: f32, file: &str) -> Result<Hertz, RecordingError> {
    if rate_hz.is_finite() && (1e-6..=1e8).contains(&rate_hz) {
        return Ok(Hertz(rate_hz));
    }
    Err(RecordingError::Declared {
        file: file.to_owned(),
        field: "rate".to_owned(),
        value: rate_hz.to_string(),
        remedy: "declare samples per second between 1e-6 and 1e8".to_owned(),
    })
}

struct Table<'t> {
    file: &'t str,
    separator: char,
    header: Vec<String>,
    rows: Rows<'t>,
    columns: Vec<(usize, Channel)>,
}

impl<'t> Table<'t> {
    fn open(text: &'t str, declaration: &CsvDeclaration, file: &'t str) -> Result<Self, RecordingError> {
        let mut rows = Rows { lines: text.lines(), line: 0 };
        let first = rows.clone().next().map_or("", |(_, row)| row);
        if first.len() > MAX_LINE_BYTES {
            return Err(RecordingError::too_large(file, "the first line", MAX_LINE_BYTES as u64));
        }
        let separator = declaration.separator.unwrap_or_else(|| seen_separator(first));
        let width = cells(first, separator).count();
        if width > MAX_COLUMNS {
            return Err(RecordingError::too_large(file, "columns", MAX_COLUMNS as u64));
        }
        let header = if declaration.no_header {
            Vec::new()
        } else {
            rows.next();
            cells(first, separator).map(str::to_owned).collect()
        };
        let mut table = Self { file, separator, header, rows, columns: Vec::new() };
        for column in &declaration.columns {
            let place = table.place(&column.column)?;
            let unit = column.unit.ok_or_else(|| {
                let field = format!("the unit of column {}", column.column);
                RecordingError::undeclared(
                    file,
                    field,
                    "add unit = \"g\", \"m/s2\", \"mm/s\", \"degC\", … or \"1\" for none",
                )
            })?;
            let name = column.name.clone().unwrap_or_else(|| name_from(&column.column));
            table.columns.push((place, Channel { name, unit, rate: None }));
        }
        if table.columns.is_empty() {
            let remedy = format!("declare the columns to read; there are {}", table.header.join(", "));
            return Err(RecordingError::undeclared(file, "columns", remedy));
        }
        if table.columns.len() > MAX_CHANNELS {
            return Err(RecordingError::too_large(file, "the number of declared columns", MAX_CHANNELS as u64));
        }
        Ok(table)
    }

    /// Every row's cells as one reading per channel.
    fn readings(mut self, time: &CsvTime) -> Result<Recording, RecordingError> {
        let time_place = self.place(&time.column)?;
        let mut recording = self.recording(None);
        let mut last: Option<Micros> = None;
        let mut position = 0;
        while let Some((line, row)) = self.next_row()? {
            let text = row.get(time_place).copied().unwrap_or("");
            let t =
                time.format.parse(text).ok_or_else(|| self.cell(line, &time.column, text, time.format.expected()))?;
            if let Some(last) = last.filter(|last| *last > t) {
                recording.notes.add(Note::ClockBack { line, by: last - t });
            }
            last = Some(t);
            for (index, (place, _)) in self.columns.iter().enumerate() {
                let value = self.value(line, *place, &row)?;
                let channel = channel_id(index);
                if value.is_nan() {
                    recording.notes.add(Note::Missing { line, channel });
                }
                recording.items.push(Item::Reading { channel, position, t, value });
            }
            position += 1;
        }
        Ok(recording)
    }

    /// Every column as an evenly sampled channel.
    fn blocks(mut self, rate: Hertz, t0: Micros) -> Result<Recording, RecordingError> {
        let mut values = vec![Vec::new(); self.columns.len()];
        let mut notes = self.recording(Some(rate)).notes;
        while let Some((line, row)) = self.next_row()? {
            for (index, (place, _)) in self.columns.iter().enumerate() {
                let value = self.value(line, *place, &row)?;
                if value.is_nan() {
                    notes.add(Note::Missing { line, channel: channel_id(index) });
                }
                values[index].push(value);
            }
        }
        let channels = self.recording(Some(rate)).channels;
        let mut recording = Recording::of_blocks(self.file, channels, t0, &values);
        recording.notes = notes;
        Ok(recording)
    }

    fn recording(&self, rate: Option<Hertz>) -> Recording {
        let channels = self.columns.iter().map(|(_, channel)| Channel { rate, ..channel.clone() }).collect();
        Recording::empty(self.file, channels)
    }

    fn next_row(&mut self) -> Result<Option<(u64, Vec<&'t str>)>, RecordingError> {
        let Some((line, row)) = self.rows.next() else { return Ok(None) };
        if row.len() > MAX_LINE_BYTES {
            return Err(RecordingError::too_large(self.file, format!("line {line}"), MAX_LINE_BYTES as u64));
        }
        Ok(Some((line, cells(row, self.separator).take(MAX_COLUMNS).collect())))
    }

    fn place(&self, column: &str) -> Result<usize, RecordingError> {
        let numbered = column.strip_prefix('#').and_then(|number| number.parse::<usize>().ok());
        let named = self.header.iter().position(|name| name == column);
        named.or(numbered.and_then(|number| number.checked_sub(1))).filter(|place| *place < MAX_COLUMNS).ok_or_else(
            || RecordingError::Declared {
                file: self.file.to_owned(),
                field: "column".to_owned(),
                value: format!("{column:?}"),
                remedy: format!("the header has {}; #1 is the first", self.header.join(", ")),
            },
        )
    }

    fn value(&self, line: u64, place: usize, row: &[&str]) -> Result<f32, RecordingError> {
        let text = row.get(place).copied().unwrap_or("");
        if MISSING.iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return Ok(f32::NAN);
        }
        let parsed = if self.separator == ';' && text.contains(',') && !text.contains('.') {
            text.replacen(',', ".", 1).parse::<f32>()
        } else {
            text.parse::<f32>()
        };
        let column = || self.header.get(place).cloned().unwrap_or_else(|| format!("#{}", place + 1));
        let value = parsed.map_err(|_| self.cell(line, &column(), text, "a number"))?;
        Ok(if value.is_finite() { value } else { f32::NAN })
    }

    fn cell(&self, line: u64, column: &str, text: &str, expected: &'static str) -> RecordingError {
        let text = text.chars().take(40).collect();
        RecordingError::Cell { file: self.file.to_owned(), line, column: column.to_owned(), text, expected }
    }
}

/// Lines that are not blank, with their numbers from 1.
#[derive(Clone)]
struct Rows<'t> {
    lines: std::str::Lines<'t>,
    line: u64,
}

impl<'t> Iterator for Rows<'t> {
    type Item = (u64, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.lines.next()?;
            self.line += 1;
            if !row.trim().is_empty() {
                return Some((self.line, row));
            }
        }
    }
}

fn seen_separator(line: &str) -> char {
    let most = [';', ',', '\t'].into_iter().map(|c| (line.matches(c).count(), c)).max_by_key(|(count, _)| *count);
    match most {
        Some((0, _)) | None => ' ',
        Some((_, separator)) => separator,
    }
}

/// The cells of a row, without blanks and quotes around them. Quoted separators are not supported: the sets have none.
fn cells(row: &str, separator: char) -> impl Iterator<Item = &str> {
    let runs = separator == ' ';
    row.split(separator).filter(move |cell| !runs || !cell.is_empty()).map(|cell| cell.trim().trim_matches('"'))
}

const MISSING: [&str; 5] = ["", "nan", "na", "null", "none"];
const MAX_LINE_BYTES: usize = 64 * 1024;
const MAX_COLUMNS: usize = 1024;

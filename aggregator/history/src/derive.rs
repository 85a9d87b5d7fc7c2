//! Values of a defined feature for one day and bucket of the features table, written as a Parquet file.
//!
//! A day's values depend on its rows and on what is carried over from the days before: the last values of each series that a statistic
//! over rows looks back at. So days are computed one after the other, each anew only when its rows or what it is handed have changed, and
//! the outcome is that of a recompute of everything. Memory is bounded: so many rows at once, whole measuring points at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kilter_lake::{DataFile, LakeError, Rows, TableName, Values, read_rows};
use kilter_signal::table::{READING, Schema as FeatureSchema};
use kilter_types::{Digest, GroupKind, MAX_FEATURES};
use polars::prelude::{
    Column as PolarsColumn, DataFrame, DataType, LazyFrame, NamedFrom, ParquetWriter, PlRefPath, PolarsResult,
    ScanArgsParquet, ScanSources, Schema, Series,
};
use serde::{Deserialize, Serialize};

use crate::HistoryError;
use crate::formula::{Formula, Input, Statistic, evaluate, input_of, rolled_name};

/// A definition with its name, and the time that it is computed for.
#[derive(Clone, Debug)]
pub struct Derivation {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// How it is computed.
    pub formula: Formula,
    /// Event time, both ends included; rows outside are not seen by statistics over rows either.
    pub within_us: (i64, i64),
}

/// What one day hands to the next: per series and statistic the last values, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carry(BTreeMap<String, Vec<Vec<f64>>>);

/// As it is stored: bits, since text may change the last one.
#[derive(Serialize, Deserialize)]
struct Kept(BTreeMap<String, Vec<Vec<u64>>>);

impl Carry {
    /// As bytes: what [`Carry::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let bits = |values: &Vec<f64>| values.iter().map(|value| value.to_bits()).collect();
        let kept = self.0.iter().map(|(series, all)| (series.clone(), all.iter().map(bits).collect())).collect();
        serde_json::to_vec(&Kept(kept)).expect("numbers and texts can be written")
    }

    /// Reads it back; `None` when these are not the bytes with this digest.
    pub fn decode(bytes: &[u8], digest: Digest) -> Option<Self> {
        let Kept(kept) = (Digest::of(bytes) == digest).then(|| serde_json::from_slice(bytes).ok()).flatten()?;
        let values = |bits: Vec<u64>| bits.into_iter().map(f64::from_bits).collect();
        Some(Self(kept.into_iter().map(|(series, all)| (series, all.into_iter().map(values).collect())).collect()))
    }

    /// What tells two of them apart.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// Computes the values for the rows of these files, which are one day of one bucket, and writes them durably to `into`; says how many
/// there are. With none no file is written. `carry` is what the day before left, and becomes what this one leaves.
pub fn derive(
    derivation: &Derivation,
    files: &[DataFile],
    carry: &mut Carry,
    into: &Path,
) -> Result<u64, HistoryError> {
    let rows: u64 = files.iter().filter_map(|file| file.rows).sum();
    let shares = rows / MOST_ROWS + 1;
    let mut out: Option<(_, File)> = None;
    let mut count = 0;
    for share in 0..shares {
        let mut cells = Cells::new(&derivation.formula);
        for file in files {
            let rows = read_rows(TableName::Features, file).map_err(unread)?;
            cells.take(&rows, derivation.within_us, (share, shares));
        }
        let frame = cells.values(derivation, carry)?;
        for begin in (0..frame.height()).step_by(ROWS_PER_GROUP) {
            if out.is_none() {
                let file = File::create(into).map_err(unwritten)?;
                let also = file.try_clone().map_err(unwritten)?;
                out = Some((ParquetWriter::new(file).batched(&schema()).map_err(unwritten)?, also));
            }
            if let Some((writer, _)) = &mut out {
                writer.write_batch(&frame.slice(begin as i64, ROWS_PER_GROUP)).map_err(unwritten)?;
            }
        }
        count += frame.height() as u64;
    }
    if let Some((writer, file)) = out {
        writer.finish().map_err(unwritten)?;
        file.sync_all().map_err(unwritten)?;
    }
    Ok(count)
}

/// Files of derived values as one table.
pub(crate) fn scan(files: &[PathBuf]) -> PolarsResult<LazyFrame> {
    use polars::prelude::IntoLazy;
    if files.is_empty() {
        return Ok(DataFrame::empty_with_schema(&schema()).lazy());
    }
    let paths = files.iter().map(|path| PlRefPath::try_from_path(path)).collect::<PolarsResult<Vec<_>>>()?;
    let args = ScanArgsParquet { schema: Some(Arc::new(schema())), glob: false, ..ScanArgsParquet::default() };
    LazyFrame::scan_parquet_sources(ScanSources::Paths(paths.into()), args)
}

fn schema() -> Schema {
    let text = |name: &'static str| (name, DataType::String);
    let whole = |name: &'static str| (name, DataType::Int64);
    let columns = [
        text("tenant"),
        text("site"),
        text("asset"),
        text("point"),
        text("device"),
        whole("group"),
        whole("epoch"),
        whole("seq"),
        whole("event_time_us"),
        whole("window_index"),
        text("name"),
        whole("version"),
        ("value", DataType::Float64),
    ];
    columns.into_iter().map(|(name, kind)| (name.into(), kind)).collect()
}

/// What a share of the rows holds of what is needed.
struct Cells {
    /// Tenant to device and group, each once; the key of a series is these with slashes.
    series: BTreeMap<String, (u32, [String; 5])>,
    rows: Vec<Place>,
    inputs: Vec<(String, Input, Held)>,
    /// Where the inputs stand in vectors of a kind, schema and width.
    places: BTreeMap<(String, i64, usize), Vec<Option<usize>>>,
}

#[derive(Clone, Copy)]
struct Place {
    series: u32,
    group: i64,
    time_us: i64,
    epoch: i64,
    seq: i64,
    window: i64,
}

/// A column of whole numbers, and where they stand.
type Whole = (&'static str, fn(&Place) -> i64);

enum Held {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Cells {
    fn new(formula: &Formula) -> Self {
        let input = |name: &str| {
            let input = input_of(name).expect("a formula that was checked");
            let held = match input {
                Input::Text(_) => Held::Texts(Vec::new()),
                Input::Number(_) | Input::Feature(_) | Input::Place(_) => Held::Numbers(Vec::new()),
            };
            (name.to_owned(), input, held)
        };
        let inputs = formula.inputs().map(input).collect();
        Self { series: BTreeMap::new(), rows: Vec::new(), inputs, places: BTreeMap::new() }
    }

    /// Takes the rows of this share that lie within the time.
    fn take(&mut self, rows: &Rows, (from_us, to_us): (i64, i64), (share, shares): (u64, u64)) {
        let Some(Values::Floats(lists)) = rows.column("values") else { return };
        let Some(Values::Float32(speeds)) = rows.column("rpm") else { return };
        for (row, speed) in speeds.iter().enumerate() {
            let text = |name: &str| rows.text(name, row).unwrap_or_default();
            let whole = |name: &str| rows.int64(name, row);
            let Some(time_us) = whole("event_time_us").filter(|us| (from_us..=to_us).contains(us)) else { continue };
            let names = ["tenant", "site", "asset", "point", "device"].map(text);
            let group = whole("group").unwrap_or(0);
            let key = format!("{}/{group}", names.join("/"));
            let hash = key.bytes().fold(FNV, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
            if hash % shares != share {
                continue;
            }
            let next = self.series.len() as u32;
            let (series, _) = self.series.entry(key).or_insert_with(|| (next, names.map(str::to_owned)));
            self.rows.push(Place {
                series: *series,
                group,
                time_us,
                epoch: whole("epoch").unwrap_or(0),
                seq: whole("seq").unwrap_or(0),
                window: whole("window_index").unwrap_or(0),
            });
            let (values, valid) = (lists.get(row), whole("valid").unwrap_or(0));
            let of = (text("kind").to_owned(), whole("schema").unwrap_or(0), values.len());
            let inputs = &self.inputs;
            let places = self.places.entry(of).or_insert_with_key(|of| places(inputs, of));
            for ((_, input, held), place) in self.inputs.iter_mut().zip(places) {
                match (held, *input) {
                    (Held::Texts(texts), Input::Text(column)) => texts.push(text(column).to_owned()),
                    (Held::Numbers(numbers), Input::Number("rpm")) => {
                        numbers.push(speed.map_or(f64::NAN, f64::from));
                    }
                    (Held::Numbers(numbers), Input::Number(column)) => {
                        numbers.push(whole(column).map_or(f64::NAN, |whole| whole as f64));
                    }
                    (Held::Numbers(numbers), _) => {
                        let place = place.filter(|place| valid >> place & 1 == 1);
                        numbers.push(
                            place.and_then(|place| values.get(place)).map_or(f64::NAN, |value| f64::from(*value)),
                        );
                    }
                    (Held::Texts(_), _) => {}
                }
            }
        }
    }

    /// The values, by series and time; rows without a finite one are left out.
    fn values(self, derivation: &Derivation, carry: &mut Carry) -> Result<DataFrame, HistoryError> {
        let formula = &derivation.formula;
        let keys: Vec<(&String, &[String; 5])> = {
            let mut keys: Vec<_> = self.series.iter().map(|(key, (at, names))| (*at, (key, names))).collect();
            keys.sort_unstable_by_key(|(at, _)| *at);
            keys.into_iter().map(|(_, key)| key).collect()
        };
        // The map is in the order of the keys; rows are put in that of keys and time, whatever file they came from.
        let mut rank = vec![0_usize; keys.len()];
        self.series.values().enumerate().for_each(|(place, (at, _))| rank[*at as usize] = place);
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_unstable_by_key(|row| {
            let Place { series, time_us, epoch, seq, .. } = self.rows[*row];
            (rank[series as usize], time_us, epoch, seq)
        });
        let column = |(name, _, held): &(String, Input, Held)| -> PolarsColumn {
            match held {
                Held::Numbers(numbers) => {
                    let numbers = order.iter().map(|row| Some(numbers[*row]).filter(|number| !number.is_nan()));
                    Series::new(name.as_str().into(), numbers.collect::<Vec<_>>()).into()
                }
                Held::Texts(texts) => {
                    let texts = order.iter().map(|row| texts[*row].as_str());
                    Series::new(name.as_str().into(), texts.collect::<Vec<_>>()).into()
                }
            }
        };
        let mut columns: Vec<PolarsColumn> = self.inputs.iter().map(column).collect();
        let inputs = DataFrame::new(order.len(), columns.clone()).map_err(unwritten)?;
        for (at, rolling) in formula.rolled.iter().enumerate() {
            let own = evaluate(&rolling.of, &inputs)?;
            let mut out = vec![f64::NAN; own.len()];
            let mut begin = 0;
            for stretch in order.chunk_by(|a, b| self.rows[*a].series == self.rows[*b].series) {
                let end = begin + stretch.len();
                let key = keys[self.rows[stretch[0]].series as usize].0;
                let carried = carry.0.entry(key.clone()).or_default();
                carried.resize(formula.rolled.len(), Vec::new());
                let kept = &mut carried[at];
                let before = kept.len();
                kept.extend_from_slice(&own[begin..end]);
                for (place, out) in out[begin..end].iter_mut().enumerate() {
                    *out = rolling.what.of(&kept[..=before + place], rolling.rows);
                }
                kept.drain(..kept.len().saturating_sub(rolling.reach()));
                begin = end;
            }
            let out: Vec<_> = out.into_iter().map(|value| Some(value).filter(|value| value.is_finite())).collect();
            columns.push(Series::new(rolled_name(at).into(), out).into());
        }
        let all = DataFrame::new(order.len(), columns).map_err(unwritten)?;
        let values = evaluate(&formula.outer, &all)?;
        let kept: Vec<(Place, f64)> = order
            .iter()
            .zip(values)
            .filter(|(_, value)| value.is_finite())
            .map(|(row, value)| (self.rows[*row], value))
            .collect();
        let text =
            |name: usize| kept.iter().map(|(row, _)| keys[row.series as usize].1[name].as_str()).collect::<Vec<_>>();
        let whole = |of: fn(&Place) -> i64| kept.iter().map(|(row, _)| of(row)).collect::<Vec<_>>();
        let wholes: [Whole; 5] = [
            ("group", |row| row.group),
            ("epoch", |row| row.epoch),
            ("seq", |row| row.seq),
            ("event_time_us", |row| row.time_us),
            ("window_index", |row| row.window),
        ];
        let texts = ["tenant", "site", "asset", "point", "device"].into_iter().enumerate();
        let mut out: Vec<PolarsColumn> = texts.map(|(at, name)| Series::new(name.into(), text(at)).into()).collect();
        out.extend(wholes.map(|(name, of)| PolarsColumn::from(Series::new(name.into(), whole(of)))));
        out.push(Series::new("name".into(), vec![derivation.name.as_str(); kept.len()]).into());
        out.push(Series::new("version".into(), vec![i64::from(derivation.version); kept.len()]).into());
        out.push(Series::new("value".into(), kept.iter().map(|(_, value)| *value).collect::<Vec<_>>()).into());
        DataFrame::new(kept.len(), out).map_err(unwritten)
    }
}

/// Where each input stands in such a vector, where it does.
fn places(inputs: &[(String, Input, Held)], (kind, schema, width): &(String, i64, usize)) -> Vec<Option<usize>> {
    let known = schema_of(kind, *width, *schema);
    let place = |input: &Input| match input {
        Input::Feature(id) => known.as_ref()?.features().iter().position(|feature| feature.id == *id),
        Input::Place(place) => Some(*place),
        Input::Number(_) | Input::Text(_) => None,
    };
    inputs.iter().map(|(_, input, _)| place(input)).collect()
}

/// The schema of vectors with so many values, kind and hash as tables have them; `None` where this build knows another, or none.
pub fn schema_of(kind: &str, width: usize, hash: i64) -> Option<FeatureSchema> {
    let kind = serde_json::from_value(kind.into()).ok()?;
    let channels = match kind {
        GroupKind::Reading => width.div_ceil(READING.len()),
        GroupKind::Cycle => width.min(MAX_FEATURES),
        GroupKind::Vibration | GroupKind::Temperature => 1,
    };
    Some(FeatureSchema::of(kind, channels)).filter(|known| known.hash().0 as i64 == hash)
}

impl Statistic {
    /// Of the last `rows` values, the newest of which is the row's own; those that are none are left out.
    fn of(self, values: &[f64], rows: usize) -> f64 {
        let seen = values[values.len().saturating_sub(rows)..].iter().copied().filter(|value| !value.is_nan());
        let mut seen: Vec<f64> = seen.collect();
        // Anew for each row: the same bits wherever a day begins.
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        match self {
            Self::Mean => mean(&seen),
            Self::Deviation => {
                let middle = mean(&seen);
                let squares: Vec<f64> = seen.iter().map(|value| (value - middle).powi(2)).collect();
                mean(&squares).sqrt()
            }
            Self::Least => seen.into_iter().fold(f64::INFINITY, f64::min),
            Self::Greatest => seen.into_iter().fold(f64::NEG_INFINITY, f64::max),
            Self::Median if seen.is_empty() => f64::NAN,
            Self::Median => {
                let (half, even) = (seen.len() / 2, seen.len().is_multiple_of(2));
                let (below, middle, _) = seen.select_nth_unstable_by(half, f64::total_cmp);
                let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if even { f64::midpoint(lower, *middle) } else { *middle }
            }
            Self::Before => values.len().checked_sub(rows + 1).map_or(f64::NAN, |at| values[at]),
        }
    }
}

fn unread(error: LakeError) -> HistoryError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    HistoryError::Read { table: TableName::Features, text }
}

fn unwritten(error: impl std::fmt::Display) -> HistoryError {
    HistoryError::Derive(error.to_string())
}

/// So many rows are held at once, as far as whole measuring points allow.
const MOST_ROWS: u64 = 1 << 20;
/// Row groups small enough that a question about one machine opens few of them.
const ROWS_PER_GROUP: usize = 16_384;
const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

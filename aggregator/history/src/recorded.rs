//! Windows and scores as the edge recorded them, stream by stream in the order of time: what a back-test replays.
//!
//! A stream is one feature group of one measuring point on one device. It goes on over restarts of the device, so its windows have the
//! epoch beside them; a score belongs to the window of the same epoch and number.

use std::collections::{BTreeMap, HashMap};

use kilter_lake::TableName;
use kilter_types::{
    FeatureRow, FeatureVector, GroupKind, MAX_FEATURES, Micros, OperatingState, Quality, Rpm, SchemaHash,
};
use polars::prelude::{DataFrame, Expr, PolarsError, SortMultipleOptions, col, lit};

use crate::{
    Asset, HistoryError, View,
    frame::{assets, numbers, texts},
};

/// One feature group of one measuring point on one device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The machine.
    pub asset: Asset,
    /// The measuring point.
    pub point: String,
    /// Who measured.
    pub device: String,
    /// The group in the device's configuration.
    pub group: u8,
}

/// One recorded window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The epoch of the record.
    pub epoch: u64,
    /// Event time.
    pub at_us: i64,
    /// What was computed.
    pub row: FeatureRow,
}

/// One recorded score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordedScore {
    /// How unusual.
    pub anomaly: f32,
    /// From where on it counts.
    pub threshold: f32,
    /// What is left in hours, and its bounds.
    pub rul_h: Option<[f32; 3]>,
    /// Which arithmetic.
    pub kernel: u16,
}

/// The scores of one stream by epoch and window.
pub type ScoresOf = HashMap<(u64, u64), RecordedScore>;

/// Every recorded window up to this event time, of each stream in the order of time. Reads files: not for an async thread.
pub fn recorded_windows(features: &View, to_us: i64) -> Result<BTreeMap<Stream, Vec<Window>>, HistoryError> {
    const COLUMNS: [&str; 17] = [
        "tenant",
        "site",
        "asset",
        "point",
        "device",
        "group",
        "event_time_us",
        "window_index",
        "epoch",
        "kind",
        "start_us",
        "end_us",
        "state",
        "rpm",
        "quality",
        "schema",
        "valid",
    ];
    expect(features, TableName::Features)?;
    let columns: Vec<Expr> = COLUMNS.into_iter().chain(["values"]).map(col).collect();
    let read = || {
        let frame = collected(features, col("event_time_us").lt_eq(lit(to_us)), columns, &COLUMNS[..8])?;
        windows(&frame)
    };
    read().map_err(|error| features.unreadable(error))
}

/// What a model (its digest in hexadecimal) said of the windows of each stream up to this event time.
pub fn recorded_scores(scores: &View, model: &str, to_us: i64) -> Result<BTreeMap<Stream, ScoresOf>, HistoryError> {
    const COLUMNS: [&str; 14] = [
        "tenant",
        "site",
        "asset",
        "point",
        "device",
        "group",
        "window_index",
        "epoch",
        "anomaly",
        "threshold",
        "rul_h",
        "rul_low_h",
        "rul_high_h",
        "kernel",
    ];
    expect(scores, TableName::Scores)?;
    let wanted = col("model").eq(lit(model.to_owned())).and(col("event_time_us").lt_eq(lit(to_us)));
    let read = || {
        let frame = collected(scores, wanted, COLUMNS.map(col).to_vec(), &COLUMNS[..7])?;
        let streams = streams(&frame)?;
        let (index, epoch) = (numbers(&frame, "window_index")?, numbers(&frame, "epoch")?);
        let (anomaly, threshold) = (floats(&frame, "anomaly")?, floats(&frame, "threshold")?);
        let rul = ["rul_h", "rul_low_h", "rul_high_h"].map(|name| floats(&frame, name));
        let [hours, low, high] = rul;
        let (hours, low, high, kernel) = (hours?, low?, high?, numbers(&frame, "kernel")?);
        let mut by_stream: BTreeMap<Stream, ScoresOf> = BTreeMap::new();
        for (row, stream) in streams.into_iter().enumerate() {
            let rul_h = match (hours[row], low[row], high[row]) {
                (Some(hours), Some(low), Some(high)) => Some([hours, low, high]),
                _ => None,
            };
            let score = RecordedScore {
                anomaly: anomaly[row].unwrap_or(f32::NAN),
                threshold: threshold[row].unwrap_or(f32::NAN),
                rul_h,
                kernel: u16::try_from(kernel[row]).unwrap_or(u16::MAX),
            };
            by_stream.entry(stream).or_default().insert((epoch[row] as u64, index[row] as u64), score);
        }
        Ok(by_stream)
    };
    read().map_err(|error: PolarsError| scores.unreadable(error))
}

fn expect(view: &View, table: TableName) -> Result<(), HistoryError> {
    if view.table() == table { Ok(()) } else { Err(HistoryError::Missing(table)) }
}

fn collected(view: &View, wanted: Expr, columns: Vec<Expr>, order: &[&str]) -> Result<DataFrame, PolarsError> {
    let scan = view.scan().map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
    scan.filter(wanted).select(columns).sort(order.to_vec(), SortMultipleOptions::default()).collect()
}

fn streams(frame: &DataFrame) -> Result<Vec<Stream>, PolarsError> {
    let (point, device, group) = (texts(frame, "point")?, texts(frame, "device")?, numbers(frame, "group")?);
    let rest = point.into_iter().zip(device).zip(group);
    let stream = |(asset, ((point, device), group))| Stream { asset, point, device, group: group as u8 };
    Ok(assets(frame)?.into_iter().zip(rest).map(stream).collect())
}

fn windows(frame: &DataFrame) -> Result<BTreeMap<Stream, Vec<Window>>, PolarsError> {
    let number = |name| numbers(frame, name);
    let (index, epoch, at_us, schema) =
        (number("window_index")?, number("epoch")?, number("event_time_us")?, number("schema")?);
    let (start, end, quality, valid) = (number("start_us")?, number("end_us")?, number("quality")?, number("valid")?);
    let (kind, state, rpm) = (texts(frame, "kind")?, texts(frame, "state")?, floats(frame, "rpm")?);
    let lists = frame.column("values")?.list()?;
    let mut by_stream: BTreeMap<Stream, Vec<Window>> = BTreeMap::new();
    for (place, stream) in streams(frame)?.into_iter().enumerate() {
        let Some(kind) = kind_of(&kind[place]) else { continue };
        let values = match lists.get_as_series(place) {
            Some(list) => list.f32()?.iter().map(Option::unwrap_or_default).take(MAX_FEATURES).collect(),
            None => std::iter::empty().collect(),
        };
        let row = FeatureRow {
            group: stream.group,
            kind,
            index: index[place] as u64,
            start: Micros(start[place]),
            end: Micros(end[place]),
            state: state_of(&state[place]),
            rpm: Rpm(rpm[place].unwrap_or_default()),
            quality: Quality(quality[place] as u16),
            vector: FeatureVector { schema: SchemaHash(schema[place] as u64), values, valid: valid[place] as u64 },
        };
        by_stream.entry(stream).or_default().push(Window { epoch: epoch[place] as u64, at_us: at_us[place], row });
    }
    Ok(by_stream)
}

fn kind_of(word: &str) -> Option<GroupKind> {
    Some(match word {
        "vibration" => GroupKind::Vibration,
        "temperature" => GroupKind::Temperature,
        "reading" => GroupKind::Reading,
        "cycle" => GroupKind::Cycle,
        _ => return None,
    })
}

fn state_of(word: &str) -> OperatingState {
    match word {
        "off" => OperatingState::Off,
        "transient" => OperatingState::Transient,
        _ => match word.strip_prefix("steady:").and_then(|bin| bin.parse().ok()) {
            Some(bin) => OperatingState::Steady(bin),
            None => OperatingState::Unknown,
        },
    }
}

fn floats(frame: &DataFrame, name: &str) -> Result<Vec<Option<f32>>, PolarsError> {
    Ok(frame.column(name)?.f32()?.iter().collect())
}

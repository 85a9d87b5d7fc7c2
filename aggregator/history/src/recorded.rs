//! Windows and scores as the edge recorded them, stream by stream in the order of time: what a back-test replays.
//!
//! A stream is one feature group of one measuring point on one device. It goes on over restarts of the device, so its windows have the
//! epoch beside them; a score belongs to the window of the same epoch and number.
//!
//! Windows come part by part, a day of one bucket of devices at a time, so that months need no more memory than a day; each file is
//! read once, and of it the columns that are needed. A part stays in columns: nothing is made for a row before its window is asked for.

mod read;

use kilter_types::{
    FeatureRow, FeatureVector, GroupKind, MAX_FEATURES, Micros, OperatingState, Quality, Rpm, SchemaHash,
};

pub use self::read::{recorded_scores, recorded_windows};
use crate::Asset;

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

/// The scores of one stream, sorted by epoch and window.
#[derive(Clone, Debug, Default)]
pub struct ScoresOf(Vec<((u64, u64), RecordedScore)>);

impl ScoresOf {
    /// The score of a window of this epoch.
    pub fn get(&self, epoch: u64, index: u64) -> Option<&RecordedScore> {
        let place = self.0.binary_search_by_key(&(epoch, index), |(key, _)| *key).ok()?;
        self.0.get(place).map(|(_, score)| score)
    }
}

/// Windows of a part of the table, in columns.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The rows of each stream in the order of time.
    streams: Vec<(Stream, Vec<u32>)>,
    epoch: Vec<i64>,
    at_us: Vec<i64>,
    index: Vec<i64>,
    start_us: Vec<i64>,
    end_us: Vec<i64>,
    kind: Vec<Option<GroupKind>>,
    state: Vec<OperatingState>,
    rpm: Vec<f32>,
    quality: Vec<i64>,
    schema: Vec<i64>,
    valid: Vec<i64>,
    values: Vec<f32>,
    /// Where each row's values begin, and where the last one's end.
    bounds: Vec<usize>,
}

impl Recorded {
    /// The streams that have windows here, in their order.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = &Stream> {
        self.streams.iter().map(|(stream, _)| stream)
    }

    /// The windows of a stream, by its place among them.
    pub fn windows(&self, stream: usize) -> impl Iterator<Item = Window> {
        let (group, rows) = self.streams.get(stream).map_or((0, &[][..]), |(stream, rows)| (stream.group, rows));
        rows.iter().filter_map(move |row| self.window(group, *row as usize))
    }

    /// One window; none where its kind is not one of this build.
    fn window(&self, group: u8, row: usize) -> Option<Window> {
        let values = &self.values[self.bounds[row]..self.bounds[row + 1]];
        let vector = FeatureVector {
            schema: SchemaHash(self.schema[row] as u64),
            values: values.iter().copied().take(MAX_FEATURES).collect(),
            valid: self.valid[row] as u64,
        };
        let window = FeatureRow {
            group,
            kind: self.kind[row]?,
            index: self.index[row] as u64,
            start: Micros(self.start_us[row]),
            end: Micros(self.end_us[row]),
            state: self.state[row],
            rpm: Rpm(self.rpm[row]),
            quality: Quality(self.quality[row] as u16),
            vector,
        };
        Some(Window { epoch: self.epoch[row] as u64, at_us: self.at_us[row], row: window })
    }
}

//! Roll-ups: the least, greatest, sum and count of each feature, and of what models said, per minute, hour and day of event time.
//!
//! They are made per data file and put together when they are asked for: a file never changes, so its roll-up never does, whatever comes
//! late, is corrected, erased or compacted changes the list of files, and the answer is always what a full recompute gives. Only new files
//! have to be read.

use std::collections::BTreeMap;

use crate::{DataFile, LakeError, Rows, TableName, Values, arrow};

/// How wide a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RollStep {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
}

impl RollStep {
    /// Every step, from the finest.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Its width in seconds.
    pub fn secs(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The step of this width.
    pub fn of_secs(secs: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.secs() == secs)
    }

    /// Its width in microseconds.
    pub fn us(self) -> i64 {
        i64::from(self.secs()) * 1_000_000
    }

    /// The begin of the bucket that an instant lies in.
    pub fn start_us(self, time_us: i64) -> i64 {
        time_us.saturating_sub(time_us.rem_euclid(self.us()))
    }
}

/// One feature of one group at one measuring point, as one schema defines it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// tenant/site/asset/point.
    pub point: String,
    /// The group.
    pub group: i32,
    /// What the group is computed from; of scores role and digest of the model.
    pub kind: String,
    /// The schema's hash; of scores 0.
    pub schema: i64,
    /// The place in the vector; of scores that in [`SCORE_VALUES`].
    pub place: u16,
}

/// The values of one bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolledBucket {
    /// The least.
    pub min: f32,
    /// The greatest.
    pub max: f32,
    /// Their sum.
    pub sum: f64,
    /// How many.
    pub count: u32,
}

impl RolledBucket {
    /// The mean of the values.
    pub fn mean(&self) -> f32 {
        (self.sum / f64::from(self.count.max(1))) as f32
    }

    fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.count = self.count.saturating_add(other.count);
    }
}

/// Buckets of one step by series and begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RollUp {
    series: BTreeMap<Series, BTreeMap<i64, RolledBucket>>,
}

impl RollUp {
    /// The roll-up of these rows, which are of features or scores; those for which `keep` says no are left out.
    pub fn of(rows: &Rows, step: RollStep, keep: impl Fn(usize) -> bool) -> Self {
        let mut out = Self::default();
        if rows.table() == TableName::Scores {
            out.scores(rows, step, keep);
            return out;
        }
        let Some(Values::Floats(lists)) = rows.column("values") else { return out };
        for row in (0..rows.len()).filter(|row| keep(*row)) {
            let text = |name| rows.text(name, row).unwrap_or_default();
            let whole = |name| rows.int64(name, row);
            let Some(time_us) = whole("event_time_us") else { continue };
            let point = [text("tenant"), text("site"), text("asset"), text("point")].join("/");
            let (group, kind) = (whole("group").unwrap_or(0) as i32, text("kind").to_owned());
            let (schema, valid) = (whole("schema").unwrap_or(0), whole("valid").unwrap_or(0));
            let mut series = Series { point, group, kind, schema, place: 0 };
            let start = step.start_us(time_us);
            // The mask has 64 bits, and so has a vector at most.
            for (place, value) in
                lists.get(row).iter().enumerate().take(64).filter(|(place, _)| valid >> place & 1 == 1)
            {
                series.place = place as u16;
                out.add(&series, start, &RolledBucket { min: *value, max: *value, sum: f64::from(*value), count: 1 });
            }
        }
        out
    }

    fn scores(&mut self, rows: &Rows, step: RollStep, keep: impl Fn(usize) -> bool) {
        for row in (0..rows.len()).filter(|row| keep(*row)) {
            let text = |name| rows.text(name, row).unwrap_or_default();
            let Some(time_us) = rows.int64("event_time_us", row) else { continue };
            let point = [text("tenant"), text("site"), text("asset"), text("point")].join("/");
            let group = rows.int64("group", row).unwrap_or(0) as i32;
            let kind = [text("role"), text("model")].join(" ");
            let mut series = Series { point, group, kind, schema: 0, place: 0 };
            for (place, (name, _)) in SCORE_VALUES.iter().enumerate() {
                let Some(Values::Float32(values)) = rows.column(name) else { continue };
                let Some(value) = values[row] else { continue };
                series.place = place as u16;
                let bucket = RolledBucket { min: value, max: value, sum: f64::from(value), count: 1 };
                self.add(&series, step.start_us(time_us), &bucket);
            }
        }
    }

    fn add(&mut self, series: &Series, start: i64, bucket: &RolledBucket) {
        if !self.series.contains_key(series) {
            self.series.insert(series.clone(), BTreeMap::new());
        }
        let buckets = self.series.get_mut(series).expect("it was put there");
        buckets.entry(start).and_modify(|known| known.join(bucket)).or_insert(*bucket);
    }

    /// Adds another one of the same step.
    pub fn join(&mut self, other: &Self) {
        for (series, buckets) in &other.series {
            buckets.iter().for_each(|(start, bucket)| self.add(series, *start, bucket));
        }
    }

    /// Only this measuring point, and buckets that begin in this range.
    pub fn part(mut self, point: &str, from_us: i64, to_us: i64) -> Self {
        self.series.retain(|series, buckets| {
            buckets.retain(|start, _| (from_us..=to_us).contains(start));
            series.point == point && !buckets.is_empty()
        });
        self
    }

    /// Every series with its buckets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Series, &BTreeMap<i64, RolledBucket>)> {
        self.series.iter()
    }

    /// As bytes: what [`RollUp::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (series, buckets) in &self.series {
            for text in [&series.point, &series.kind] {
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            bytes.extend(series.group.to_le_bytes());
            bytes.extend(series.schema.to_le_bytes());
            bytes.extend(series.place.to_le_bytes());
            bytes.extend((buckets.len() as u32).to_le_bytes());
            for (start, bucket) in buckets {
                bytes.extend(start.to_le_bytes());
                bytes.extend(bucket.min.to_le_bytes());
                bytes.extend(bucket.max.to_le_bytes());
                bytes.extend(bucket.sum.to_le_bytes());
                bytes.extend(bucket.count.to_le_bytes());
            }
        }
        let digest = kilter_types::Digest::of(&bytes);
        bytes.extend(digest.0);
        bytes
    }

    /// Reads them back; `None` when they are not what was written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if kilter_types::Digest::of(body).0 != *digest {
            return None;
        }
        let mut left = Left(body.strip_prefix(MAGIC)?);
        let mut out = Self::default();
        while !left.0.is_empty() {
            let (point, kind) = (left.text()?, left.text()?);
            let group = i32::from_le_bytes(left.take()?);
            let schema = i64::from_le_bytes(left.take()?);
            let place = u16::from_le_bytes(left.take()?);
            let mut buckets = BTreeMap::new();
            for _ in 0..u32::from_le_bytes(left.take()?) {
                let start = i64::from_le_bytes(left.take()?);
                let (min, max) = (f32::from_le_bytes(left.take()?), f32::from_le_bytes(left.take()?));
                let (sum, count) = (f64::from_le_bytes(left.take()?), u32::from_le_bytes(left.take()?));
                buckets.insert(start, RolledBucket { min, max, sum, count });
            }
            out.series.insert(Series { point, group, kind, schema, place }, buckets);
        }
        Some(out)
    }
}

/// Bytes that were not read yet.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<String> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// The rows of one data file of a table. Reads it: not for an async thread.
pub fn read_rows(table: TableName, file: &DataFile) -> Result<Rows, LakeError> {
    let mut rows = Rows::new(table);
    let read = arrow::read_file(table, &file.path, &mut rows);
    read.map(|()| rows).map_err(|source| LakeError::File { table, path: file.path.clone(), source })
}

/// Which columns of scores are rolled up, with their units.
pub const SCORE_VALUES: [(&str, &str); 2] = [("anomaly", ""), ("rul_h", "h")];

const MAGIC: &[u8; 8] = b"KROLLUP1";

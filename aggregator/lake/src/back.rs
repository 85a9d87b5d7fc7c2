//! From a row of a table back to what the fold gave: the reverse of [`Rows::push`].
//!
//! A column that is null where a record has a value means a row of an older build or of another writer: it is left out.

use kilter_fold::{Output, Row};
use kilter_text::{from_json, variant};
use kilter_types::{
    Class, Clip, DeviceId, Digest, Epoch, FeatureRow, FeatureVector, Gap, Hertz, Hours, KernelId, Micros, Monotonic,
    Name, OperatingState, Payload, Point, Quality, Record, RowRef, Rpm, Rul, SchemaHash, Score, Timeline,
};

use crate::{Rows, TableName, Values};

impl Rows {
    /// What the fold gave for row `row`; `None` where the row does not hold all of it.
    pub fn output(&self, row: usize) -> Option<Output> {
        let cells = Cells { rows: self, row };
        let device = DeviceId::new(cells.text("device")?).ok()?;
        let (received, offset) = (Micros(cells.int("received_us")?), cells.bits("journal_offset")?);
        if self.table() == TableName::Quarantine {
            let (reason, bytes) = (cells.text("reason")?.to_owned(), cells.bytes("bytes")?.to_vec());
            return Some(Output::Quarantine { device, received, offset, reason, bytes });
        }
        let name = |column| Name::new(cells.text(column)?).ok();
        let record = Record {
            point: Point { tenant: name("tenant")?, site: name("site")?, asset: name("asset")?, point: name("point")? },
            epoch: Epoch(cells.bits("epoch")?),
            seq: cells.bits("seq")?,
            monotonic: Monotonic(cells.bits("monotonic_us")?),
            timeline: match cells.text("timeline")? {
                "source" => Timeline::Source,
                _ => Timeline::Device,
            },
            wall: cells.int("recorded_wall_us").map(Micros),
            uncertainty: Micros(cells.int("uncertainty_us")?),
            payload: cells.payload()?,
        };
        let (event_time, event_bound) = (Micros(cells.int("event_time_us")?), Micros(cells.int("event_bound_us")?));
        Some(Output::Row(Box::new(Row { device, received, offset, event_time, event_bound, record })))
    }
}

impl Rows {
    /// The record that row `row` keeps, as it was recorded; `None` where the row does not hold all of it, or says beside it something that does
    /// not follow from it. A column that is null may have been added after the row was written.
    pub fn recorded(&self, row: usize) -> Option<Record> {
        let output = self.output(row)?;
        let mut again = Self::new(self.table());
        again.push(&output);
        let same = |name: &str| match (self.column(name), again.column(name)) {
            (Some(held), Some(said)) => held.is_null(row) || held.is_bit_for_bit(row, said),
            (_, _) => true,
        };
        match output {
            Output::Row(out) if self.table().columns().all(|column| same(column.name)) => Some(out.record),
            Output::Row(_) | Output::Quarantine { .. } => None,
        }
    }
}

/// One row.
#[derive(Clone, Copy)]
struct Cells<'a> {
    rows: &'a Rows,
    row: usize,
}

impl<'a> Cells<'a> {
    fn payload(self) -> Option<Payload> {
        match self.rows.table() {
            TableName::Features => self.features().map(Payload::Features),
            TableName::Scores => self.score().map(Payload::Score),
            TableName::Events => from_json(self.text("json")?),
            TableName::Gaps => self.gap().map(Payload::Gap),
            TableName::Clips => self.clip().map(Payload::Clip),
            TableName::Quarantine => None,
        }
    }

    fn features(self) -> Option<FeatureRow> {
        Some(FeatureRow {
            group: self.small("group")?,
            kind: variant(self.text("kind")?)?,
            index: self.bits("window_index")?,
            start: Micros(self.int("start_us")?),
            end: Micros(self.int("end_us")?),
            state: state(self.text("state")?)?,
            rpm: Rpm(self.float("rpm")?),
            quality: Quality(self.small("quality")?),
            vector: FeatureVector {
                schema: SchemaHash(self.bits("schema")?),
                values: self.floats("values")?.try_into().ok()?,
                valid: self.bits("valid")?,
            },
        })
    }

    fn score(self) -> Option<Score> {
        let hours = |column| self.float(column).map(Hours);
        let rul = match (hours("rul_h"), hours("rul_low_h"), hours("rul_high_h")) {
            (Some(hours), Some(low), Some(high)) => Some(Rul { hours, low, high }),
            _ => None,
        };
        Some(Score {
            input: RowRef {
                group: self.small("group")?,
                index: self.bits("window_index")?,
                seq: self.bits("input_seq")?,
            },
            anomaly: self.float("anomaly")?,
            threshold: self.float("threshold")?,
            rul,
            model: Digest::parse(self.text("model")?)?,
            kernel: KernelId(self.small("kernel")?),
            role: variant(self.text("role")?)?,
            contributions: from_json(self.text("contributions")?)?,
            rest: self.float("rest")?,
        })
    }

    fn gap(self) -> Option<Gap> {
        let class = self.text("gap_class")?;
        Some(Gap {
            class: Class::ALL.into_iter().find(|known| known.as_str() == class)?,
            epoch: Epoch(self.bits("gap_epoch")?),
            first_seq: self.bits("first_seq")?,
            last_seq: self.bits("last_seq")?,
            reason: variant(self.text("reason")?)?,
        })
    }

    fn clip(self) -> Option<Clip> {
        Some(Clip {
            id: self.bits("clip")?,
            cause: from_json(self.text("cause")?)?,
            channel: Name::new(self.text("channel")?).ok()?,
            unit: variant(self.text("unit")?)?,
            rate: Hertz(self.float("rate_hz")?),
            position: self.bits("position")?,
            t0: Micros(self.int("t0_us")?),
            part: self.small("part")?,
            parts: self.small("parts")?,
            samples: self.bytes("samples")?.try_into().ok()?,
        })
    }

    fn text(self, column: &str) -> Option<&'a str> {
        self.rows.text(column, self.row)
    }

    fn int(self, column: &str) -> Option<i64> {
        self.rows.int64(column, self.row)
    }

    /// 64 bits, as they were.
    fn bits(self, column: &str) -> Option<u64> {
        self.int(column).map(|bits| bits as u64)
    }

    fn small<T: TryFrom<i64>>(self, column: &str) -> Option<T> {
        T::try_from(self.int(column)?).ok()
    }

    fn float(self, column: &str) -> Option<f32> {
        match self.rows.column(column)? {
            Values::Float32(values) => values[self.row],
            _ => None,
        }
    }

    fn floats(self, column: &str) -> Option<&'a [f32]> {
        match self.rows.column(column)? {
            Values::Floats(lists) => Some(lists.get(self.row)),
            _ => None,
        }
    }

    fn bytes(self, column: &str) -> Option<&'a [u8]> {
        match self.rows.column(column)? {
            Values::Bytes(blobs) => Some(blobs.get(self.row)),
            _ => None,
        }
    }
}

fn state(text: &str) -> Option<OperatingState> {
    Some(match text.split_once(':') {
        Some(("steady", bin)) => OperatingState::Steady(bin.parse().ok()?),
        Some(_) => return None,
        None => match text {
            "off" => OperatingState::Off,
            "transient" => OperatingState::Transient,
            _ => OperatingState::Unknown,
        },
    })
}

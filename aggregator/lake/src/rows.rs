//! Rows of one table as plain columns, filled from what the fold gives.

mod events;

use kilter_fold::Output;
use kilter_text::{to_json, word};
use kilter_types::{DeviceId, Micros, OperatingState, Payload, Record, Timeline};

use self::events::{EventRow, event};
use crate::{TableName, Values, bucket_of, day_of};

/// Rows of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    table: TableName,
    values: Vec<Values>,
    len: usize,
}

impl Rows {
    /// No rows yet.
    pub fn new(table: TableName) -> Self {
        Self { table, values: table.columns().map(|column| Values::new(column.kind)).collect(), len: 0 }
    }

    /// The table that an output of the fold goes to.
    pub fn table_of(output: &Output) -> TableName {
        match output {
            Output::Row(row) => TableName::of(row.record.class()),
            Output::Quarantine { .. } => TableName::Quarantine,
        }
    }

    /// Appends one output of the fold; it must be this table's ([`Rows::table_of`]).
    pub fn push(&mut self, output: &Output) {
        debug_assert_eq!(Self::table_of(output), self.table, "an output goes to its own table");
        let mut row = RowWriter { table: self.table, values: &mut self.values, at: 0 };
        let (device, day) = match output {
            Output::Row(out) => {
                common(&mut row, &out.device, out.received, out.offset, (out.event_time, out.event_bound), &out.record);
                payload(&mut row, &out.record.payload);
                (&out.device, day_of(out.event_time))
            }
            Output::Quarantine { device, received, offset, reason, bytes } => {
                row.text("device", device.as_str());
                row.int64("received_us", received.0);
                row.bits("journal_offset", *offset);
                row.text("reason", reason.as_str());
                row.bytes("bytes", bytes);
                (device, day_of(*received))
            }
        };
        row.text("day", day.as_str());
        row.int32("bucket", bucket_of(device));
        debug_assert_eq!(row.at, self.values.len(), "every column got its value");
        self.len += 1;
    }

    /// Appends all rows of `other`, which is of the same table.
    pub fn extend(&mut self, other: &Self) {
        debug_assert_eq!(self.table, other.table, "rows stay in their table");
        self.values.iter_mut().zip(&other.values).for_each(|(to, from)| to.extend(from));
        self.len += other.len;
    }

    /// Appends row `row` of `other`, which is of the same table.
    pub fn copy(&mut self, other: &Self, row: usize) {
        debug_assert_eq!(self.table, other.table, "rows stay in their table");
        self.values.iter_mut().zip(&other.values).for_each(|(to, from)| to.copy(from, row));
        self.len += 1;
    }

    /// The rows whose journal offset lies in this range.
    pub fn within(&self, offsets: std::ops::Range<u64>) -> Self {
        let mut part = Self::new(self.table);
        for row in 0..self.len {
            if offsets.contains(&self.journal_offset(row)) {
                part.copy(self, row);
            }
        }
        part
    }

    /// Puts rows together from columns that were read back; missing columns become null.
    pub(crate) fn from_columns(table: TableName, len: usize, mut take: impl FnMut(&str) -> Option<Values>) -> Self {
        let values = table
            .columns()
            .map(|column| {
                take(column.name).filter(|values| values.len() == len).unwrap_or_else(|| {
                    let mut values = Values::new(column.kind);
                    (0..len).for_each(|_| values.push_null());
                    values
                })
            })
            .collect();
        Self { table, values, len }
    }

    /// Whose rows they are.
    pub fn table(&self) -> TableName {
        self.table
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What they take in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.values.iter().map(Values::bytes).sum()
    }

    /// The values of a column.
    pub fn column(&self, name: &str) -> Option<&Values> {
        self.table.position(name).map(|at| &self.values[at])
    }

    /// Where row `row` came from in the journal.
    pub fn journal_offset(&self, row: usize) -> u64 {
        self.int64("journal_offset", row).map_or(0, |bits| bits as u64)
    }

    /// A whole number of row `row`.
    pub fn int64(&self, name: &str, row: usize) -> Option<i64> {
        match self.column(name) {
            Some(Values::Int64(values)) => values[row],
            Some(Values::Int32(values)) => values[row].map(i64::from),
            _ => None,
        }
    }

    /// A text of row `row`.
    pub fn text(&self, name: &str, row: usize) -> Option<&str> {
        match self.column(name) {
            Some(Values::Text(texts)) => texts.get(row),
            _ => None,
        }
    }
}

/// Writes the columns of one row in their order; a wrong order is a bug that every test finds.
struct RowWriter<'a> {
    table: TableName,
    values: &'a mut [Values],
    at: usize,
}

impl RowWriter<'_> {
    fn next(&mut self, name: &str) -> &mut Values {
        debug_assert_eq!(self.table.position(name), Some(self.at), "column {name} of {}", self.table);
        self.at += 1;
        &mut self.values[self.at - 1]
    }

    fn text<'t>(&mut self, name: &str, text: impl Into<Option<&'t str>>) {
        if let Values::Text(texts) = self.next(name) {
            texts.push(text.into());
        }
    }

    fn int32(&mut self, name: &str, value: impl Into<Option<i32>>) {
        if let Values::Int32(values) = self.next(name) {
            values.push(value.into());
        }
    }

    fn int64(&mut self, name: &str, value: impl Into<Option<i64>>) {
        if let Values::Int64(values) = self.next(name) {
            values.push(value.into());
        }
    }

    /// 64 bits, kept as they are.
    fn bits(&mut self, name: &str, value: u64) {
        self.int64(name, value as i64);
    }

    fn float32(&mut self, name: &str, value: impl Into<Option<f32>>) {
        if let Values::Float32(values) = self.next(name) {
            values.push(value.into());
        }
    }

    fn floats(&mut self, name: &str, list: &[f32]) {
        if let Values::Floats(lists) = self.next(name) {
            lists.push(list);
        }
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        if let Values::Bytes(blobs) = self.next(name) {
            blobs.push(bytes);
        }
    }
}

fn common(
    row: &mut RowWriter<'_>,
    device: &DeviceId,
    received: Micros,
    offset: u64,
    (event_time, event_bound): (Micros, Micros),
    record: &Record,
) {
    row.text("tenant", record.point.tenant.as_str());
    row.text("site", record.point.site.as_str());
    row.text("asset", record.point.asset.as_str());
    row.text("point", record.point.point.as_str());
    row.text("device", device.as_str());
    row.bits("epoch", record.epoch.0);
    row.bits("seq", record.seq);
    row.text("class", record.class().as_str());
    row.int64("event_time_us", event_time.0);
    row.int64("event_bound_us", event_bound.0);
    row.int64("received_us", received.0);
    row.bits("monotonic_us", record.monotonic.0);
    row.int64("recorded_wall_us", record.wall.map(|wall| wall.0));
    row.int64("uncertainty_us", record.uncertainty.0);
    row.text(
        "timeline",
        match record.timeline {
            Timeline::Device => "device",
            Timeline::Source => "source",
        },
    );
    row.bits("journal_offset", offset);
}

fn payload(row: &mut RowWriter<'_>, payload: &Payload) {
    match payload {
        Payload::Features(features) => {
            row.int32("group", i32::from(features.group));
            row.text("kind", word(&features.kind).as_str());
            row.bits("window_index", features.index);
            row.int64("start_us", features.start.0);
            row.int64("end_us", features.end.0);
            row.text("state", state(features.state).as_str());
            row.float32("rpm", features.rpm.0);
            row.int32("quality", i32::from(features.quality.0));
            row.bits("schema", features.vector.schema.0);
            row.bits("valid", features.vector.valid);
            row.floats("values", &features.vector.values);
        }
        Payload::Score(score) => {
            row.int32("group", i32::from(score.input.group));
            row.bits("window_index", score.input.index);
            row.bits("input_seq", score.input.seq);
            row.float32("anomaly", score.anomaly);
            row.float32("threshold", score.threshold);
            row.float32("rul_h", score.rul.map(|rul| rul.hours.0));
            row.float32("rul_low_h", score.rul.map(|rul| rul.low.0));
            row.float32("rul_high_h", score.rul.map(|rul| rul.high.0));
            row.text("model", score.model.to_string().as_str());
            row.int32("kernel", i32::from(score.kernel.0));
            row.text("role", word(&score.role).as_str());
            row.text("contributions", to_json(&score.contributions).as_str());
            row.float32("rest", score.rest);
        }
        Payload::Gap(gap) => {
            row.text("gap_class", gap.class.as_str());
            row.bits("gap_epoch", gap.epoch.0);
            row.bits("first_seq", gap.first_seq);
            row.bits("last_seq", gap.last_seq);
            row.text("reason", word(&gap.reason).as_str());
        }
        Payload::Alarm(alarm) => event(row, &EventRow::alarm(alarm), payload),
        Payload::Event(happened) => event(row, &EventRow::event(happened), payload),
        Payload::Opening(_) => event(row, &EventRow::of("opening"), payload),
        Payload::Report(report) => {
            // Says which kind of machine the point is on: training joins by it.
            let class = Some(report.asset_class.to_string());
            event(row, &EventRow { label: class, ..EventRow::of("report") }, payload);
        }
        Payload::State(learned) => {
            event(row, &EventRow { group: Some(i32::from(learned.group)), ..EventRow::of("state") }, payload);
        }
        Payload::Seal(seal) => {
            let epoch = Some(format!("{:016x}", seal.epoch.0));
            event(row, &EventRow { label: epoch, ..EventRow::of("seal") }, payload);
        }
        Payload::Spectrum(spectrum) => {
            let window = Some(spectrum.index as i64);
            let found = EventRow { group: Some(i32::from(spectrum.group)), window, ..EventRow::of("spectrum") };
            event(row, &found, payload);
        }
        Payload::Clip(clip) => {
            row.bits("clip", clip.id);
            row.text("cause", to_json(&clip.cause).as_str());
            row.text("channel", clip.channel.as_str());
            row.text("unit", word(&clip.unit).as_str());
            row.float32("rate_hz", clip.rate.0);
            row.bits("position", clip.position);
            row.int64("t0_us", clip.t0.0);
            row.int32("part", i32::from(clip.part));
            row.int32("parts", i32::from(clip.parts));
            row.bytes("samples", &clip.samples);
        }
    }
}

fn state(state: OperatingState) -> String {
    match state {
        OperatingState::Unknown => "unknown".into(),
        OperatingState::Off => "off".into(),
        OperatingState::Transient => "transient".into(),
        OperatingState::Steady(bin) => format!("steady:{bin}"),
    }
}

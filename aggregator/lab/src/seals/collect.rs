//! Finds the seals: rows of the events, and records that an older build could not read and set aside.

use kilter_history::{View, query};
use kilter_lake::{Bound, DataFile, Rows, Stream, Streams, TableName, bucket_of, read_rows};
use kilter_types::{DeviceId, Epoch, Payload, Record};
use kilter_wire::decode_record;
use kilter_wire::seal::{is_signed, named};
use serde_json::Value;

use super::{Found, devices};
use crate::completeness::whole;

/// What is asked for.
pub(crate) enum Asked {
    /// Every seal.
    All,
    /// The seals of these devices, and of their ranges those that touch these records.
    Of(Streams),
}

impl Asked {
    /// Is it about this device?
    pub(super) fn device(&self, device: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(streams) => streams.keys().any(|stream| stream.device == device),
        }
    }

    /// Can a file hold rows of a device that it is about?
    pub(super) fn may_be_in(&self, file: &DataFile) -> bool {
        match self {
            Self::All => true,
            Self::Of(streams) => devices(streams).into_iter().any(|device| may_hold(file, device)),
        }
    }
}

/// Can a file hold rows of this device?
pub(super) fn may_hold(file: &DataFile, device: &str) -> bool {
    let bucket = DeviceId::new(device).map(|device| Bound::Whole(i64::from(bucket_of(&device)))).ok();
    let device = Bound::Text(device.to_owned());
    file.may_hold("bucket", bucket.as_ref(), bucket.as_ref()) && file.may_hold("device", Some(&device), Some(&device))
}

/// The seals in the order in which they came.
pub(super) fn collect(views: &[View], asked: &Asked) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let columns = "device, epoch, seq, json, journal_offset, received_us";
    for row in rows(views, asked, &format!("SELECT {columns} FROM events WHERE kind = 'seal'"), " AND")? {
        let [Value::String(device), epoch, seq, Value::String(text), offset, received] = row.as_slice() else {
            continue;
        };
        // One that can't be read is no seal; the chain and the range that its own record lies in tell.
        let Ok(payload @ Payload::Seal(_)) = serde_json::from_str::<Payload>(text) else { continue };
        let order = (received.as_i64(), offset.as_i64());
        found.push((order, device.clone(), Epoch(whole(epoch)?), whole(seq)?, payload));
    }
    aside(views, asked, &mut |rows, row, record| {
        let device = rows.text("device", row).unwrap_or_default();
        if asked.device(device) && matches!(record.payload, Payload::Seal(_)) {
            let order = (rows.int64("received_us", row), rows.int64("journal_offset", row));
            found.push((order, device.to_owned(), record.epoch, record.seq, record.payload));
        }
    });
    found.sort_by_key(|(order, ..)| *order);
    let each = found.into_iter().filter_map(|(_, device, epoch, seq, payload)| {
        let Payload::Seal(seal) = payload else { return None };
        Some(Found { device, at: named(epoch, seq, &seal)?, signed: is_signed(&seal), seal })
    });
    Ok(each.collect())
}

/// A gap as a device declared it, and its own place.
pub(super) struct GapRow {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// Of what is missing.
    pub(super) stream: Stream,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) reason: String,
}

/// The gaps of the devices that are asked for.
pub(super) fn gaps(views: &[View], asked: &Asked) -> anyhow::Result<Vec<GapRow>> {
    let mut gaps = Vec::new();
    let columns = "device, epoch, seq, gap_class, gap_epoch, first_seq, last_seq, reason";
    for row in rows(views, asked, &format!("SELECT {columns} FROM gaps"), " WHERE")? {
        let [Value::String(device), epoch, seq, Value::String(class), of, first, last, Value::String(reason)] =
            row.as_slice()
        else {
            continue;
        };
        let stream = Stream { device: device.clone(), epoch: whole(of)?, class: class.clone() };
        let (epoch, seq, first, last) = (whole(epoch)?, whole(seq)?, whole(first)?, whole(last)?);
        gaps.push(GapRow { epoch, seq, stream, first, last, reason: reason.clone() });
    }
    Ok(gaps)
}

/// What a statement answers for the devices that are asked for: one by one, so that the files of others stay closed.
fn rows(views: &[View], asked: &Asked, sql: &str, and: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let Asked::Of(streams) = asked else { return Ok(query(sql, views, usize::MAX)?.rows) };
    let mut rows = Vec::new();
    for device in devices(streams) {
        rows.extend(query(&format!("{sql}{and} device = '{device}'"), views, usize::MAX)?.rows);
    }
    Ok(rows)
}

/// Records in quarantine that this build can read; says which files can't be read at all.
pub(super) fn aside(views: &[View], asked: &Asked, take: &mut dyn FnMut(&Rows, usize, Record)) -> Vec<String> {
    let mut unread = Vec::new();
    let Some(view) = views.iter().find(|view| view.table() == TableName::Quarantine) else { return unread };
    let mut each = |rows: &Rows, row: usize| {
        let Some(kilter_lake::Values::Bytes(bytes)) = rows.column("bytes") else { return };
        if let Ok(record) = decode_record(bytes.get(row)) {
            take(rows, row, record);
        }
    };
    for file in view.snapshot.files.iter().filter(|file| asked.may_be_in(file)) {
        match read_rows(TableName::Quarantine, file) {
            Ok(rows) => (0..rows.len()).for_each(|row| each(&rows, row)),
            Err(error) => unread.push(error.to_string()),
        }
    }
    tail(view, &mut each);
    unread
}

/// The rows of a table that are not in its files yet.
pub(super) fn tail(view: &View, each: &mut dyn FnMut(&Rows, usize)) {
    for rows in &view.tail {
        (0..rows.len()).filter(|row| rows.journal_offset(*row) >= view.seam()).for_each(|row| each(rows, row));
    }
}

//! Records of a batch as columns: what repeats is said once, what moves slowly is said as its movement.
//!
//! Works below the meaning of a record. A record's postcard bytes are cut into literals (text, tags, lengths) and numbers; the
//! pattern of both is a *template*. Records of one class with one template form a table, and each number of the template is a column of
//! it, coded by whichever of a few predictors costs least (`number`). So a feature row, a score or a payload that does not
//! exist yet all pack alike, and unpacking gives back the bytes that were packed: nothing is rounded, nothing is read.
//! What has no companions travels as it is.
//!
//! ```text
//! shapes u8 ‖ per shape: class u8, rows, template length, template
//! ‖ records ‖ per record: its shape u8, 255 for none
//! ‖ length of the others ‖ the others as in a batch
//! ‖ per shape: its columns, seq first
//! ```
//! Lengths and counts are varints. A template is `0, n, n bytes` for a literal, 1 for an unsigned number, 2 for a signed one,
//! 3 for a float. Limits: [`MAX_RECORDS`] records, [`MAX_WORDS`] numbers; whoever unpacks states how many bytes he takes.

mod bits;
mod number;
mod token;

use core::fmt;

use bits::{Reader, Writer};
use token::Op;

use crate::up::{Batch, BatchRecord, MAX_RECORD_BYTES, decode_record};

/// The most records in one packed batch.
pub const MAX_RECORDS: usize = 512;

/// The numbers that packing and unpacking need room for.
pub const MAX_WORDS: usize = 48 * 1024;

/// Packs the bytes of a [`Batch`] into `out`; `None` when there are too many records or `out` is too small.
///
/// `words` is room for [`MAX_WORDS`] numbers; with less, more records travel as they are.
pub fn pack<'o>(records: &[u8], words: &mut [u64], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let mut tables = Tables::new(words);
    let mut order = heapless::Vec::<u8, MAX_RECORDS>::new();
    let batch = || Batch { epoch: kilter_types::Epoch(0), count: 0, records }.iter();
    for record in batch() {
        order.push(tables.take(record.ok()?)).ok()?;
    }
    tables.drop_small(&mut order);
    let mut out = Writer::new(out);
    let shapes = tables.shapes.iter().filter(|shape| shape.rows > 0);
    out.byte(shapes.clone().count() as u8)?;
    for shape in shapes.clone() {
        out.byte(shape.class)?;
        out.varint(shape.rows as u64)?;
        out.varint((shape.end - shape.start) as u64)?;
        out.bytes(&tables.templates[shape.start..shape.end])?;
    }
    out.varint(order.len() as u64)?;
    for shape in &order {
        out.byte(tables.renumbered(*shape))?;
    }
    let others = || batch().zip(&order).filter(|(_, shape)| **shape == NONE).filter_map(|(record, _)| record.ok());
    out.varint(others().map(|record| (Batch::RECORD_OVERHEAD_BYTES + record.bytes.len()) as u64).sum())?;
    for record in others() {
        let room = out.rest();
        let mut used = 0;
        if !Batch::push(room, &mut used, record) {
            return None;
        }
        out.skip(used);
    }
    for (number, shape) in tables.shapes.iter().enumerate().filter(|(_, shape)| shape.rows > 0) {
        let mut places = heapless::Vec::<u32, MAX_RECORDS>::new();
        for (at, place) in order.iter().zip(&tables.places) {
            if usize::from(*at) == number {
                places.push(*place).ok()?;
            }
        }
        number::put_table(tables.words, &places, &tables.templates[shape.start..shape.end], &mut out)?;
    }
    Some(out.finish())
}

/// Unpacks into `out` and returns the bytes of the [`Batch`] that was packed. Bytes from anywhere are safe.
pub fn unpack<'o>(packed: &[u8], words: &mut [u64], out: &'o mut [u8]) -> Result<&'o [u8], UnpackError> {
    let mut bytes = Reader::new(packed);
    let mut shapes = heapless::Vec::<Table<'_>, MAX_SHAPES>::new();
    let mut used = 0;
    for _ in 0..bytes.byte()? {
        let class = bytes.byte()?;
        let rows = bytes.length(MAX_RECORDS)?;
        let len = bytes.length(MAX_TEMPLATE_BYTES)?;
        let template = bytes.take(len)?;
        let columns = 1 + token::columns(template).ok_or(UnpackError::Damaged)?;
        let shape = Table { class, rows, template, columns, first: used, next: 0 };
        used += rows * columns;
        shapes.push(shape).map_err(|_| UnpackError::Damaged)?;
    }
    if used > words.len() {
        return Err(UnpackError::Room);
    }
    let count = bytes.length(MAX_RECORDS)?;
    let order = bytes.take(count)?;
    let len = bytes.length(packed.len())?;
    let others = Batch { epoch: kilter_types::Epoch(0), count: 0, records: bytes.take(len)? };
    let mut others = others.iter();
    for shape in &shapes {
        let table = &mut words[shape.first..shape.first + shape.rows * shape.columns];
        number::take_table(&mut bytes, shape.rows, shape.template, table)?;
    }
    if !bytes.is_empty() {
        return Err(UnpackError::Damaged);
    }
    let mut end = 0;
    for shape in order {
        if *shape == NONE {
            let record = others.next().ok_or(UnpackError::Damaged)?.map_err(|_| UnpackError::Damaged)?;
            if !Batch::push(out, &mut end, record) {
                return Err(UnpackError::Room);
            }
            continue;
        }
        let shape = shapes.get_mut(usize::from(*shape)).ok_or(UnpackError::Damaged)?;
        let row = shape.next;
        if row >= shape.rows {
            return Err(UnpackError::Damaged);
        }
        shape.next += 1;
        let number = |column: usize| words[shape.first + column * shape.rows + row];
        // Straight to where it belongs: its head is written once its length is known.
        let (head, body) = out
            .get_mut(end..)
            .and_then(|room| room.split_at_mut_checked(Batch::RECORD_OVERHEAD_BYTES))
            .ok_or(UnpackError::Room)?;
        let room = body.len().min(MAX_RECORD_BYTES);
        let full = if room < MAX_RECORD_BYTES { UnpackError::Room } else { UnpackError::Damaged };
        let len = token::fill(shape.template, |column| number(column + 1), &mut body[..room]).ok_or(full)?;
        Batch::head(head, shape.class, number(0), len).ok_or(UnpackError::Room)?;
        end += Batch::RECORD_OVERHEAD_BYTES + len;
    }
    if others.next().is_some() || shapes.iter().any(|shape| shape.next < shape.rows) {
        return Err(UnpackError::Damaged);
    }
    Ok(&out[..end])
}

/// Why packed bytes can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// They are not what packing gives.
    Damaged,
    /// More would come out than there is room for.
    Room,
}

impl UnpackError {
    /// A word for counters and quarantine tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "packed_damaged",
            Self::Room => "packed_too_long",
        }
    }
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "the packed records can't be unpacked",
            Self::Room => "the packed records are longer than they say",
        })
    }
}

impl core::error::Error for UnpackError {}

/// The tables of a batch under construction.
struct Tables<'w> {
    words: &'w mut [u64],
    used: usize,
    /// Where each record's numbers begin; seq first.
    places: heapless::Vec<u32, MAX_RECORDS>,
    shapes: heapless::Vec<Shape, MAX_SHAPES>,
    templates: [u8; TEMPLATES_BYTES],
}

struct Shape {
    class: u8,
    /// The template lies here in `templates`.
    start: usize,
    end: usize,
    rows: usize,
}

/// A table on its way out.
struct Table<'a> {
    class: u8,
    rows: usize,
    template: &'a [u8],
    columns: usize,
    first: usize,
    next: usize,
}

impl<'w> Tables<'w> {
    fn new(words: &'w mut [u64]) -> Self {
        let (places, shapes) = (heapless::Vec::new(), heapless::Vec::new());
        Self { words, used: 0, places, shapes, templates: [0; TEMPLATES_BYTES] }
    }

    /// Puts a record into the table of its shape; which one, or [`NONE`].
    fn take(&mut self, record: BatchRecord<'_>) -> u8 {
        let place = self.used;
        let shape = self.place(record);
        if shape.is_none() {
            self.used = place;
        }
        let _ = self.places.push(place as u32);
        shape.unwrap_or(NONE)
    }

    fn place(&mut self, record: BatchRecord<'_>) -> Option<u8> {
        let start = self.shapes.last().map_or(0, |shape| shape.end);
        let room = self.templates.get_mut(start..)?;
        let most = room.len().min(MAX_TEMPLATE_BYTES);
        let words = self.words.get_mut(self.used..)?;
        let (seq, numbers) = words.split_first_mut()?;
        *seq = record.seq;
        let version = *record.bytes.first()?;
        let known = decode_record(record.bytes).ok()?;
        let (len, columns) = token::cut(version, &known, &mut room[..most], numbers)?;
        if columns > MAX_COLUMNS {
            return None;
        }
        // Whatever postcard writes otherwise than it came stays as it came.
        let mut again = [0; MAX_RECORD_BYTES];
        let filled = token::fill(&room[..len], |column| numbers[column], &mut again)?;
        if again[..filled] != *record.bytes {
            return None;
        }
        let template = &self.templates[start..start + len];
        let same = |shape: &Shape| shape.class == record.class && self.templates[shape.start..shape.end] == *template;
        let number = match self.shapes.iter().position(same) {
            Some(number) => number,
            None => {
                self.shapes.push(Shape { class: record.class, start, end: start + len, rows: 0 }).ok()?;
                self.shapes.len() - 1
            }
        };
        self.shapes[number].rows += 1;
        self.used += 1 + columns;
        Some(number as u8)
    }

    /// A table of a row or two costs more than it saves.
    fn drop_small(&mut self, order: &mut [u8]) {
        for (number, shape) in self.shapes.iter_mut().enumerate().filter(|(_, shape)| shape.rows < LEAST_ROWS) {
            shape.rows = 0;
            order.iter_mut().filter(|at| usize::from(**at) == number).for_each(|at| *at = NONE);
        }
    }

    fn renumbered(&self, shape: u8) -> u8 {
        if shape == NONE {
            return NONE;
        }
        self.shapes[..usize::from(shape)].iter().filter(|shape| shape.rows > 0).count() as u8
    }
}

/// The shape of what travels as it is.
const NONE: u8 = 255;
const LEAST_ROWS: usize = 3;
const MAX_SHAPES: usize = 32;
const MAX_COLUMNS: usize = 120;
const MAX_TEMPLATE_BYTES: usize = 640;
const TEMPLATES_BYTES: usize = 8 * 1024;

/// Iterates the operations of a template.
fn ops(template: &[u8]) -> impl Iterator<Item = Option<Op<'_>>> {
    token::Ops::new(template)
}

//! Hashes again what rows give back, range by range, in whatever order files hold them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use kilter_history::{View, query};
use kilter_lake::{Bound, DataFile, Ranges, Rows, Stream, Streams, TableName, read_rows};
use kilter_types::{Class, MAX_SEALED_RECORDS, SealedRange};
use kilter_wire::seal::{RangeHash, record_hash};
use serde_json::Value;

use super::collect::{Asked, aside, may_hold, tail};
use super::{Found, devices};
use crate::mending::table_of;

/// What the rows of one sealed range gave.
#[derive(Debug)]
pub(super) struct Filled {
    /// The seal, by its place.
    pub(super) seal: usize,
    pub(super) stream: Stream,
    pub(super) range: SealedRange,
    /// Per record what was found of it; empty before the first and after the last.
    cells: Vec<Cell>,
    found: u64,
    /// The hash of all records, once they were there and could be read.
    pub(super) hash: Option<[u8; 16]>,
    /// Records that have two rows which differ.
    pub(super) unlike: Ranges,
    /// Records whose row does not hold what a record holds.
    pub(super) unread: Ranges,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Missing,
    Unread,
    Hash([u8; 32]),
}

impl Filled {
    fn new(seal: usize, found: &Found, range: SealedRange) -> Self {
        let stream = found.stream(range.class.as_str());
        let (cells, hash, unlike, unread) = (Vec::new(), None, Ranges::default(), Ranges::default());
        Self { seal, stream, range, cells, found: 0, hash, unlike, unread }
    }

    /// Is it one that a device makes?
    pub(super) fn is_good(&self) -> bool {
        let SealedRange { first_seq, last_seq, .. } = self.range;
        last_seq.checked_sub(first_seq).is_some_and(|more| more < MAX_SEALED_RECORDS)
    }

    /// The records without a row.
    pub(super) fn missing(&self) -> Ranges {
        let mut missing = Ranges::default();
        let SealedRange { first_seq, last_seq, .. } = self.range;
        if self.found == 0 {
            missing.cover(first_seq, last_seq);
        }
        let seqs = (first_seq..=last_seq).zip(&self.cells);
        seqs.filter(|(_, cell)| **cell == Cell::Missing).for_each(|(seq, _)| missing.cover(seq, seq));
        missing
    }

    fn take(&mut self, seq: u64, cell: Cell) {
        let len = self.range.last_seq - self.range.first_seq + 1;
        if self.found == len {
            return;
        }
        if self.cells.is_empty() {
            self.cells = vec![Cell::Missing; len as usize];
        }
        let place = &mut self.cells[(seq - self.range.first_seq) as usize];
        if *place != Cell::Missing {
            if *place != cell {
                self.unlike.cover(seq, seq);
            }
            return;
        }
        *place = cell;
        self.found += 1;
        if cell == Cell::Unread {
            self.unread.cover(seq, seq);
        }
        if self.found == len {
            let mut hash = RangeHash::default();
            let whole = self.cells.drain(..).all(|cell| match cell {
                Cell::Hash(record) => {
                    hash.push(&record);
                    true
                }
                Cell::Missing | Cell::Unread => false,
            });
            self.hash = whole.then(|| hash.finish());
            self.cells = Vec::new();
        }
    }
}

/// Every range that is asked for, with what its rows gave; and the files that could not be read.
pub(super) struct Fill {
    pub(super) ranges: Vec<Filled>,
    pub(super) unread: Vec<String>,
}

/// Reads the rows that lie in sealed ranges.
pub(super) fn fill(views: &[View], found: &[Found], asked: &Asked) -> anyhow::Result<Fill> {
    let of = |(place, found): (usize, &Found)| -> Vec<Filled> {
        found
            .seal
            .ranges
            .iter()
            .map(|range| Filled::new(place, found, *range))
            .filter(|range| touches(range, asked))
            .collect()
    };
    let mut index = Index::new(found.iter().enumerate().flat_map(of).collect());
    let mut unread = Vec::new();
    for view in views.iter().filter(|view| view.table() != TableName::Quarantine) {
        for file in files(view, &index, asked)? {
            match read_rows(view.table(), file) {
                Ok(rows) => (0..rows.len()).for_each(|row| index.take_row(&rows, row)),
                // Told by `reconcile` as damaged; here it only means that nobody can tell.
                Err(error) => unread.push(error.to_string()),
            }
        }
        tail(view, &mut |rows, row| index.take_row(rows, row));
    }
    unread.extend(aside(views, asked, &mut |rows, row, record| {
        let device = rows.text("device", row).unwrap_or_default();
        let (epoch, class, seq) = (record.epoch.0, record.class(), record.seq);
        index.take(device, epoch, class, seq, || record_hash(&record).map_or(Cell::Unread, Cell::Hash));
    }));
    Ok(Fill { ranges: index.ranges, unread })
}

/// Is the range asked for? Those of gaps are always: what they tell explains others.
fn touches(range: &Filled, asked: &Asked) -> bool {
    match asked {
        Asked::All => true,
        Asked::Of(_) if range.range.class == Class::Gap => true,
        Asked::Of(streams) => streams.get(&range.stream).is_some_and(|wanted| {
            let mut own = Ranges::default();
            own.cover(range.range.first_seq, range.range.last_seq);
            !own.both(wanted).is_empty()
        }),
    }
}

/// Ranges by what they are of.
struct Index {
    ranges: Vec<Filled>,
    by_device: HashMap<String, HashMap<(u64, Class), ByFirst>>,
}

/// Places of ranges by their first seq.
type ByFirst = BTreeMap<u64, Vec<usize>>;

impl Index {
    fn new(ranges: Vec<Filled>) -> Self {
        let mut by_device: HashMap<String, HashMap<(u64, Class), ByFirst>> = HashMap::new();
        for (place, filled) in ranges.iter().enumerate().filter(|(_, filled)| filled.is_good()) {
            let of_device = by_device.entry(filled.stream.device.clone()).or_default();
            let of_class = of_device.entry((filled.stream.epoch, filled.range.class)).or_default();
            of_class.entry(filled.range.first_seq).or_default().push(place);
        }
        Self { ranges, by_device }
    }

    fn take_row(&mut self, rows: &Rows, row: usize) {
        let (Some(device), Some(class)) = (rows.text("device", row), rows.text("class", row)) else { return };
        let Some(class) = Class::ALL.into_iter().find(|known| known.as_str() == class) else { return };
        let (Some(epoch), Some(seq)) = (rows.int64("epoch", row), rows.int64("seq", row)) else { return };
        self.take(device, epoch as u64, class, seq as u64, || {
            let hash = rows.recorded(row).and_then(|record| record_hash(&record).ok());
            hash.map_or(Cell::Unread, Cell::Hash)
        });
    }

    /// A record's row; it is hashed only when it lies in a range.
    fn take(&mut self, device: &str, epoch: u64, class: Class, seq: u64, cell: impl FnOnce() -> Cell) {
        let of_class = self.by_device.get(device).and_then(|of_device| of_device.get(&(epoch, class)));
        let Some(of_class) = of_class else { return };
        let near = of_class.range(seq.saturating_sub(MAX_SEALED_RECORDS - 1)..=seq).flat_map(|(_, places)| places);
        let near = near.filter(|place| self.ranges[**place].range.last_seq >= seq);
        let places: Vec<usize> = near.copied().collect();
        if !places.is_empty() {
            let cell = cell();
            places.into_iter().for_each(|place| self.ranges[place].take(seq, cell));
        }
    }
}

/// The files of a table that may hold rows of these ranges.
fn files<'v>(view: &'v View, index: &Index, asked: &Asked) -> anyhow::Result<Vec<&'v DataFile>> {
    let Asked::Of(streams) = asked else { return Ok(view.snapshot.files.iter().collect()) };
    let mut chosen = BTreeSet::new();
    for device in devices(streams) {
        let days = days(view, index, device)?;
        for (place, file) in view.snapshot.files.iter().enumerate() {
            let on_day = |day: &String| {
                let day = Bound::Text(day.clone());
                file.may_hold("day", Some(&day), Some(&day))
            };
            if may_hold(file, device) && days.as_ref().is_none_or(|days| days.iter().any(on_day)) {
                chosen.insert(place);
            }
        }
    }
    Ok(chosen.into_iter().map(|place| &view.snapshot.files[place]).collect())
}

/// The days on which a device's rows of these ranges lie; `None` for all.
fn days(view: &View, index: &Index, device: &str) -> anyhow::Result<Option<BTreeSet<String>>> {
    let mut spans = Streams::new();
    let own = |filled: &&Filled| filled.is_good() && filled.stream.device == device;
    for filled in index.ranges.iter().filter(own).filter(|filled| table_of(&filled.stream) == Some(view.table())) {
        spans.entry(filled.stream.clone()).or_default().cover(filled.range.first_seq, filled.range.last_seq);
    }
    if spans.len() > MOST_SPANS {
        return Ok(None);
    }
    let each = spans.iter().filter_map(|(stream, ranges)| {
        let ((first, last), epoch) = (ranges.span()?, stream.epoch as i64);
        Some(format!("(epoch = {epoch} AND class = '{}' AND seq >= {first} AND seq <= {last})", stream.class))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return Ok(Some(BTreeSet::new()));
    }
    let sql = format!(
        "SELECT day, COUNT(seq) AS n FROM {} WHERE device = '{device}' AND ({}) GROUP BY day",
        view.table(),
        each.join(" OR ")
    );
    let answer =
        query(&sql, std::slice::from_ref(view), usize::MAX).context("failed to find the days of sealed records")?;
    let day = |row: Vec<Value>| row.first().and_then(Value::as_str).map(str::to_owned);
    Ok(Some(answer.rows.into_iter().filter_map(day).collect()))
}

/// With more than so many a condition becomes longer than what it saves.
const MOST_SPANS: usize = 64;

//! Records that the lake had and lost, on their way from the edge again: which are wanted, and those that have come.
//!
//! The fold calls them duplicates and forgets nothing: what came once is known as taken for ever, so that no other copy of it can get in. Here they
//! are picked out of the journal's entries beside the fold, each once, and the committer puts them back where the lake lacks them.
//! What has come and is not put back yet is picked out again when the journal is read again after a crash.

use std::collections::BTreeMap;

use kilter_fold::{Entry, Fold, Output};
use kilter_lake::{Rows, Stream, Streams, TableName};
use kilter_types::{Class, DeviceId, Epoch};

/// See the module's text.
#[derive(Default)]
pub(crate) struct Lost {
    wanted: Streams,
    /// Those that have come since they were wanted.
    came: Streams,
    rows: BTreeMap<TableName, Rows>,
}

impl Lost {
    /// These are wanted from now on, in the place of those before.
    pub(crate) fn want(&mut self, wanted: Streams) {
        let none = Default::default();
        self.came.retain(|stream, came| {
            *came = came.both(wanted.get(stream).unwrap_or(&none));
            !came.is_empty()
        });
        self.wanted = wanted;
    }

    /// What is wanted.
    pub(crate) fn wanted(&self) -> &Streams {
        &self.wanted
    }

    /// Picks what is wanted out of the entry at `offset`.
    pub(crate) fn take(&mut self, fold: &Fold, offset: u64, entry: &Entry) {
        let Entry::Batch { device, epoch, .. } = entry else { return };
        if !self.wanted.keys().any(|stream| stream.device == device.as_str() && stream.epoch == epoch.0) {
            return;
        }
        let Self { wanted, came, rows } = self;
        let mut is_wanted = |device: &DeviceId, epoch: Epoch, class: Class, seq: u64| {
            wanted.get(&stream(device, epoch, class)).is_some_and(|wanted| wanted.contains(seq))
        };
        fold.again(offset, entry, &mut is_wanted, &mut |row| {
            let class = row.record.class();
            if came.entry(stream(&row.device, row.record.epoch, class)).or_default().insert(row.record.seq) {
                let table = TableName::of(class);
                rows.entry(table).or_insert_with(|| Rows::new(table)).push(&Output::Row(Box::new(row)));
            }
        });
    }

    /// What has come since the last call.
    pub(crate) fn batch(&mut self) -> Vec<Rows> {
        std::mem::take(&mut self.rows).into_values().collect()
    }

    /// These came and could not be put back: whoever sends them once more is heard.
    pub(crate) fn miss(&mut self, came: &Streams) {
        for (stream, ranges) in came {
            if let Some(all) = self.came.get_mut(stream) {
                *all = all.without(ranges);
            }
        }
    }

    /// Takes back what could not be put into the lake; it is tried again.
    pub(crate) fn give_back(&mut self, again: Vec<Rows>) {
        for rows in again {
            let table = rows.table();
            self.rows.entry(table).or_insert_with(|| Rows::new(table)).extend(&rows);
        }
    }
}

fn stream(device: &DeviceId, epoch: Epoch, class: Class) -> Stream {
    Stream { device: device.to_string(), epoch: epoch.0, class: class.as_str().to_owned() }
}

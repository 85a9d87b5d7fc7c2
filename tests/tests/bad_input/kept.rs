//! What the aggregator has kept: its journal, read from outside and folded anew.

use std::collections::{BTreeMap, BTreeSet};

use kilter_fold::{Output, Row};
use kilter_tests::{House, journalled};
use kilter_types::{Class, Digest, Epoch, FeatureRow, Gap, Payload, Role};

use crate::stage::Windows;

/// Every record, once, and every payload in quarantine.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) rows: Vec<Row>,
    /// Device and reason.
    pub(crate) quarantined: Vec<(String, String)>,
}

impl Kept {
    /// Reads the journal of a house from its beginning, beside the aggregator that writes it.
    pub(crate) fn read(house: &House) -> anyhow::Result<Self> {
        let mut kept = Self::default();
        for output in journalled(&house.data_dir())? {
            match output {
                Output::Row(row) => kept.rows.push(*row),
                Output::Quarantine { device, reason, .. } => kept.quarantined.push((device.to_string(), reason)),
            }
        }
        Ok(kept)
    }

    /// Every feature row with its asset and point.
    pub(crate) fn features(&self) -> impl Iterator<Item = (&str, &str, &FeatureRow)> {
        self.rows.iter().filter_map(|row| match &row.record.payload {
            Payload::Features(features) => {
                Some((row.record.point.asset.as_str(), row.record.point.point.as_str(), features))
            }
            _ => None,
        })
    }

    /// How many feature rows of a machine there are.
    pub(crate) fn rows_of(&self, asset: &str) -> usize {
        self.features().filter(|(found, ..)| *found == asset).count()
    }

    /// Window indexes by asset and point; one that is there twice is listed twice.
    pub(crate) fn windows(&self) -> Windows {
        let mut windows = Windows::new();
        for (asset, point, row) in self.features() {
            windows.entry((asset.to_owned(), point.to_owned())).or_default().push(row.index);
        }
        windows.values_mut().for_each(|list| list.sort_unstable());
        windows
    }

    /// How many scores name this model.
    pub(crate) fn scores_of(&self, model: Digest) -> usize {
        [Role::Leader, Role::Shadow].into_iter().map(|role| self.scores_as(model, role)).sum()
    }

    /// How many scores name this model in this role.
    pub(crate) fn scores_as(&self, model: Digest, role: Role) -> usize {
        let named = |row: &&Row| matches!(&row.record.payload, Payload::Score(score) if (score.model, score.role) == (model, role));
        self.rows.iter().filter(named).count()
    }

    /// What a device declared missing.
    pub(crate) fn gaps(&self, device: &str) -> Vec<Gap> {
        let mine = self.rows.iter().filter(|row| row.device.as_str() == device);
        mine.filter_map(|row| match &row.record.payload {
            Payload::Gap(gap) => Some(*gap),
            _ => None,
        })
        .collect()
    }

    /// Seqs of a device and class, by epoch, that are neither here nor declared missing, up to the last that is here.
    pub(crate) fn unexplained(&self, device: &str, class: Class) -> BTreeMap<Epoch, BTreeSet<u64>> {
        let mut here: BTreeMap<Epoch, BTreeSet<u64>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.device.as_str() == device && row.record.class() == class) {
            here.entry(row.record.epoch).or_default().insert(row.record.seq);
        }
        let gaps = self.gaps(device);
        let told = |epoch: Epoch, seq: u64| {
            gaps.iter()
                .any(|gap| gap.class == class && gap.epoch == epoch && (gap.first_seq..=gap.last_seq).contains(&seq))
        };
        here.into_iter()
            .map(|(epoch, seqs)| {
                let last = seqs.last().copied().unwrap_or_default();
                (epoch, (0..=last).filter(|seq| !seqs.contains(seq) && !told(epoch, *seq)).collect())
            })
            .filter(|(_, missing): &(_, BTreeSet<u64>)| !missing.is_empty())
            .collect()
    }
}

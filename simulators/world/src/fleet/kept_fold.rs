//! The fold as a commit keeps it: a snapshot, and while that is young the entries that were folded since.
//!
//! A snapshot takes time with the number of marks, and a large fleet commits every few seconds. So a large one is written only when enough
//! has come since; a small fleet's is written with every commit, as the lab does it.

use std::sync::Arc;

use kilter_fold::{Entry, Fold};

use super::truth::{Broken, broken};

/// A fold at a commit; what two of them have in common is shared.
#[derive(Clone, Debug)]
pub(crate) struct KeptFold {
    snapshot: Arc<[u8]>,
    /// Commit by commit.
    since: Vec<Arc<[Folded]>>,
    count: usize,
}

/// An entry and its offset.
type Folded = (u64, Arc<[u8]>);

impl KeptFold {
    /// Keeps the fold as it is now, `marks` of them.
    pub(crate) fn keep(before: Option<Self>, folded: &mut Vec<Folded>, fold: &Fold, marks: usize) -> Self {
        match before.filter(|before| is_young(before.count + folded.len(), marks)) {
            Some(mut kept) => {
                kept.count += folded.len();
                kept.since.push(folded.drain(..).collect());
                kept
            }
            None => {
                folded.clear();
                Self::of(fold)
            }
        }
    }

    /// The snapshot of this very moment.
    pub(crate) fn of(fold: &Fold) -> Self {
        Self { snapshot: fold.snapshot().into(), since: Vec::new(), count: 0 }
    }

    pub(crate) fn restore(&self) -> Result<Fold, Broken> {
        let mut fold = Fold::restore(&self.snapshot).or_else(|error| broken("L1", error.to_string()))?;
        for (offset, bytes) in self.since.iter().flat_map(|folded| folded.iter()) {
            let entry = Entry::decode(bytes).or_else(|error| broken("J2", error.to_string()))?;
            fold.apply(*offset, entry, &mut drop);
        }
        Ok(fold)
    }
}

/// Is a snapshot of `marks` marks young, with so many entries folded since? To fold those again takes less time than to write it anew.
pub(crate) fn is_young(since: usize, marks: usize) -> bool {
    marks > FEW_MARKS && since < marks / MARKS_PER_ENTRY
}

/// A fleet of CI's size has no more: each of its commits writes a snapshot.
const FEW_MARKS: usize = 8_192;
const MARKS_PER_ENTRY: usize = 32;

//! The marks of a commit, agent by agent and shared: a commit changes those of few agents, and nobody copies the others.

use std::sync::Arc;

use kilter_fold::MarkState;
use kilter_types::Epoch;

/// What is in the lake, by agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<Arc<[MarkState]>>);

impl Marks {
    pub(crate) fn new(agents: usize) -> Self {
        Self((0..agents).map(|_| Arc::from([])).collect())
    }

    /// An agent's marks from here on, an epoch's together.
    pub(crate) fn set(&mut self, agent: usize, marks: Vec<MarkState>) {
        self.0[agent] = marks.into();
    }

    /// The marks of one epoch of an agent. Epochs stand in the order of last sight, so what is asked for is mostly among the last.
    pub(crate) fn of(&self, agent: usize, epoch: Epoch) -> impl Iterator<Item = &MarkState> {
        let marks = self.0.get(agent).map(|marks| &**marks).unwrap_or_default();
        marks.iter().rev().skip_while(move |mark| mark.epoch != epoch).take_while(move |mark| mark.epoch == epoch)
    }

    /// Nothing of this agent has moved between the two.
    pub(crate) fn rest(&self, other: &Self, agent: usize) -> bool {
        match (self.0.get(agent), other.0.get(agent)) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Every mark.
    pub(crate) fn all(&self) -> Vec<MarkState> {
        self.0.iter().flat_map(|marks| marks.iter().cloned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|marks| marks.len()).sum()
    }
}

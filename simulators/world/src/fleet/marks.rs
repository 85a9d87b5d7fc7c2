//! The marks of a commit, agent by agent and epoch by epoch, shared: a commit changes few of them, and nobody copies the others. Agents
//! whose nodes start every other hour have hundreds of epochs after a month, of which two move.

use std::sync::Arc;

use kilter_fold::{MAX_EPOCHS, MarkState};
use kilter_types::Epoch;

/// What is in the lake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// By agent, its epochs in the order of last sight.
    agents: Vec<Arc<Vec<OfEpoch>>>,
    count: usize,
}

type OfEpoch = (Epoch, Arc<[MarkState]>);

impl Marks {
    pub(crate) fn new(agents: usize) -> Self {
        Self { agents: vec![Arc::default(); agents], count: 0 }
    }

    /// These of an agent's epochs were seen since, in this order.
    pub(crate) fn set(&mut self, agent: usize, seen: impl IntoIterator<Item = (Epoch, Vec<MarkState>)>) {
        let epochs = Arc::make_mut(&mut self.agents[agent]);
        let size = |(_, marks): &OfEpoch| marks.len();
        for (epoch, marks) in seen {
            if let Some(at) = epochs.iter().rposition(|(known, _)| *known == epoch) {
                self.count -= size(&epochs.remove(at));
            }
            self.count += marks.len();
            epochs.push((epoch, marks.into()));
        }
        let too_many = epochs.len().saturating_sub(MAX_EPOCHS);
        self.count -= epochs.drain(..too_many).map(|of| size(&of)).sum::<usize>();
    }

    /// The marks of one epoch of an agent. What is asked for is mostly among the last.
    pub(crate) fn of(&self, agent: usize, epoch: Epoch) -> &[MarkState] {
        let epochs = self.agents.get(agent).map(|epochs| epochs.as_slice()).unwrap_or_default();
        epochs.iter().rfind(|(known, _)| *known == epoch).map_or(&[], |(_, marks)| marks)
    }

    /// Nothing of this agent has moved between the two.
    pub(crate) fn rest(&self, other: &Self, agent: usize) -> bool {
        match (self.agents.get(agent), other.agents.get(agent)) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Every mark.
    pub(crate) fn all(&self) -> Vec<MarkState> {
        let epochs = self.agents.iter().flat_map(|epochs| epochs.iter());
        epochs.flat_map(|(_, marks)| marks.iter().cloned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

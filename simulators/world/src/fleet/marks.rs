//! The marks of a commit, agent by agent and epoch by epoch, shared: a commit changes few of them, and nobody copies the others. Agents
//! whose nodes start every other hour have hundreds of epochs after a month, of which two move.

use std::sync::Arc;

use kilter_fold::{MAX_EPOCHS, MarkState};
use kilter_types::Epoch;

/// What is in the lake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    agents: Vec<Arc<OfAgent>>,
    count: usize,
}

/// An agent's epochs in the order of last sight: those that may never move again, and behind them a few that do.
#[derive(Clone, Debug, Default)]
struct OfAgent {
    resting: Arc<Vec<OfEpoch>>,
    lately: Vec<OfEpoch>,
}

type OfEpoch = (Epoch, Arc<[MarkState]>);

impl Marks {
    pub(crate) fn new(agents: usize) -> Self {
        Self { agents: vec![Arc::default(); agents], count: 0 }
    }

    /// These of an agent's epochs were seen since, in this order.
    pub(crate) fn set(&mut self, agent: usize, seen: impl IntoIterator<Item = (Epoch, Vec<MarkState>)>) {
        let epochs = Arc::make_mut(&mut self.agents[agent]);
        for (epoch, marks) in seen {
            self.count += marks.len();
            self.count -= epochs.remove(epoch).map_or(0, |of| of.len());
            epochs.lately.push((epoch, marks.into()));
        }
        if epochs.lately.len() > LATELY {
            let resting = Arc::make_mut(&mut epochs.resting);
            resting.extend(epochs.lately.drain(..LATELY / 2));
        }
        let too_many = (epochs.resting.len() + epochs.lately.len()).saturating_sub(MAX_EPOCHS);
        if too_many > 0 {
            let oldest = Arc::make_mut(&mut epochs.resting).drain(..too_many);
            self.count -= oldest.map(|(_, marks)| marks.len()).sum::<usize>();
        }
    }

    /// The marks of one epoch of an agent. What is asked for is mostly among the last.
    pub(crate) fn of(&self, agent: usize, epoch: Epoch) -> &[MarkState] {
        let Some(OfAgent { resting, lately }) = self.agents.get(agent).map(Arc::as_ref) else { return &[] };
        let found = lately.iter().rev().chain(resting.iter().rev()).find(|(known, _)| *known == epoch);
        found.map_or(&[], |(_, marks)| marks)
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
        let epochs = self.agents.iter().flat_map(|of| of.resting.iter().chain(&of.lately));
        epochs.flat_map(|(_, marks)| marks.iter().cloned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl OfAgent {
    /// Takes out an epoch that was seen again.
    fn remove(&mut self, epoch: Epoch) -> Option<Arc<[MarkState]>> {
        let place = |epochs: &[OfEpoch]| epochs.iter().rposition(|(known, _)| *known == epoch);
        match place(&self.lately) {
            Some(at) => Some(self.lately.remove(at).1),
            None => place(&self.resting).map(|at| Arc::make_mut(&mut self.resting).remove(at).1),
        }
    }
}

/// The most epochs of an agent that each commit copies.
const LATELY: usize = 8;

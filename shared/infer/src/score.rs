//! What comes out of one step, and the room that the step needs.

use kilter_types::{Contribution, MAX_CONTRIBUTIONS};

use crate::{
    Artifact,
    format::{MAX_HIDDEN, MAX_INPUTS, MAX_WIDE},
    kernel::sum,
    matrix::Integers,
};

/// Room for one step; nothing in it lasts longer.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub(crate) gates: [f32; 4 * MAX_HIDDEN],
    pub(crate) hidden: [f32; MAX_HIDDEN],
    pub(crate) cell: [f32; MAX_HIDDEN],
    pub(crate) code: [f32; MAX_HIDDEN],
    pub(crate) row: [f32; MAX_INPUTS],
    pub(crate) contributions: [f32; MAX_INPUTS],
    /// What a decoder's gates begin with; a forecaster's prediction and smoothed residual.
    pub(crate) start: [f32; 4 * MAX_HIDDEN],
    pub(crate) forecast: [f32; 2 * MAX_INPUTS],
    pub(crate) integers: Integers,
    pub(crate) rul: Option<Estimate>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Empty room.
    pub const fn new() -> Self {
        Self {
            gates: [0.0; 4 * MAX_HIDDEN],
            hidden: [0.0; MAX_HIDDEN],
            cell: [0.0; MAX_HIDDEN],
            code: [0.0; MAX_HIDDEN],
            row: [0.0; MAX_INPUTS],
            contributions: [0.0; MAX_INPUTS],
            start: [0.0; 4 * MAX_HIDDEN],
            forecast: [0.0; 2 * MAX_INPUTS],
            integers: [0; MAX_WIDE],
            rul: None,
        }
    }

    pub(crate) fn scored(&self, inputs: usize) -> Scored<'_> {
        let contributions = &self.contributions[..inputs];
        Scored { anomaly: sum(contributions), contributions, rul: self.rul }
    }

    /// Brings contributions that explain an anomaly to the size of the anomaly; negative ones count as none.
    pub(crate) fn share_out(&mut self, anomaly: f32, inputs: usize) {
        let parts = &mut self.contributions[..inputs];
        parts.iter_mut().for_each(|part| *part = part.max(0.0));
        let total = sum(parts);
        if total > 0.0 && (anomaly / total).is_finite() {
            let scale = anomaly / total;
            parts.iter_mut().for_each(|part| *part *= scale);
        } else {
            parts.fill(anomaly / inputs as f32);
        }
    }
}

/// The score of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored<'s> {
    /// How unusual the row is; at least 0, always finite.
    pub anomaly: f32,
    /// What each feature adds, in the artifact's order; [`crate::kernel::sum`] of them is `anomaly`, bit for bit (M2).
    pub contributions: &'s [f32],
    /// The remaining useful life, of a [`crate::Family::RulHead`].
    pub rul: Option<Estimate>,
}

/// A remaining useful life with its interval, in the trainer's unit: hours, or cycles of a machine that counts cycles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The network's own number.
    pub value: f32,
    /// Lower end of the interval; at least 0.
    pub low: f32,
    /// Upper end of the interval.
    pub high: f32,
}

/// The largest contributions and the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Largest first; equal ones in the artifact's order.
    pub contributions: heapless::Vec<Contribution, MAX_CONTRIBUTIONS>,
    /// What the features not listed add: the anomaly less those listed, taken away one after the other.
    pub rest: f32,
}

impl Artifact<'_> {
    /// Ranks a score's contributions for a record.
    pub fn rank(&self, scored: &Scored<'_>) -> Ranking {
        let mut contributions = heapless::Vec::<Contribution, MAX_CONTRIBUTIONS>::new();
        for (feature, amount) in self.features().zip(scored.contributions) {
            let place = contributions.iter().position(|listed| *amount > listed.amount).unwrap_or(contributions.len());
            if contributions.is_full() && place < contributions.len() {
                contributions.pop();
            }
            if !contributions.is_full() {
                // There is room at a place within it. An `expect` would link how floats are written: ten thousand bytes of a node's flash.
                let _ = contributions.insert(place, Contribution { feature: feature.id, amount: *amount });
            }
        }
        let listed_all = contributions.len() == scored.contributions.len();
        let rest = contributions.iter().fold(scored.anomaly, |rest, listed| rest - listed.amount);
        // Rounding may leave a trace where nothing is left.
        Ranking { contributions, rest: if listed_all { 0.0 } else { rest.max(0.0) } }
    }
}

//! What a model does in the terms of a person on watch: how many faults it tells in time, how many alarms are for nothing.
//!
//! Windows become alarms as on the device: five of eight above the threshold fire, twenty quiet ones in a row clear. Faults are
//! simulated as in `evaluate`, but grow: from nothing to eight healthy scales over the last three quarters of a stretch of tested
//! windows. Labelled faulty stretches are faults too. Everything here is counted on rows that neither training nor calibration saw.

use kilter_infer::Artifact;

use crate::{
    TrainError,
    evaluate::{Direction, RawRun, anomalies},
};

/// Counts behind the figures on a card.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Events {
    /// Faults shown to the model.
    pub(crate) faults: usize,
    /// Of these, told by an alarm while they grew.
    pub(crate) told: usize,
    /// Alarms on healthy windows.
    pub(crate) false_alarms: usize,
    /// Healthy windows among which these lie.
    pub(crate) healthy_windows: usize,
    /// Of each simulated fault that was told, windows from the alarm to its full size.
    pub(crate) leads: Vec<usize>,
}

impl Events {
    /// Runs the artifact over all of it.
    pub(crate) fn of(
        artifact: &Artifact<'_>,
        healthy: &[RawRun],
        faulty: &[RawRun],
        scale: &[f32],
        directions: &[Direction],
    ) -> Result<Self, TrainError> {
        let mut events = Self::default();
        for run in healthy {
            let above = above(artifact, run)?;
            events.healthy_windows += above.len();
            events.false_alarms += alarms(&above).len();
        }
        for run in faulty {
            let above = above(artifact, run)?;
            if above.len() >= LEAST_WINDOWS {
                events.faults += 1;
                events.told += usize::from(!alarms(&above).is_empty());
            }
        }
        let inputs = artifact.inputs();
        let long: Vec<&RawRun> = healthy.iter().filter(|run| run.len() >= LEAST_WINDOWS * inputs).collect();
        for run in long.iter().step_by(long.len().div_ceil(STRETCHES).max(1)) {
            let run = &run[..run.len().min(MOST_WINDOWS * inputs)];
            for direction in directions {
                events.grow(artifact, run, direction, scale)?;
            }
        }
        Ok(events)
    }

    /// One fault that grows over a stretch.
    fn grow(
        &mut self,
        artifact: &Artifact<'_>,
        run: &[f32],
        direction: &Direction,
        scale: &[f32],
    ) -> Result<(), TrainError> {
        let inputs = artifact.inputs();
        let rows = run.len() / inputs;
        let begin = rows / 4;
        let mut grown = run.to_vec();
        for (row, values) in grown.chunks_exact_mut(inputs).enumerate().skip(begin) {
            let size = FULL_SIZE * (row - begin + 1) as f32 / (rows - begin) as f32;
            for (value, (shift, scale)) in values.iter_mut().zip(direction.shift.iter().zip(scale)) {
                *value += size * shift * scale;
            }
        }
        let above = above(artifact, &grown)?;
        // The first rows have no score.
        let first = rows - above.len();
        let told = alarms(&above).into_iter().map(|at| at + first).find(|at| *at >= begin);
        self.faults += 1;
        if let Some(at) = told {
            self.told += 1;
            self.leads.push(rows - 1 - at);
        }
        Ok(())
    }

    /// Alarms that were for a fault, of all alarms; none without an alarm.
    pub(crate) fn precision(&self) -> Option<f64> {
        let alarms = self.told + self.false_alarms;
        (alarms > 0).then(|| self.told as f64 / alarms as f64)
    }

    /// Faults that were told, of all faults.
    pub(crate) fn recall(&self) -> Option<f64> {
        (self.faults > 0).then(|| self.told as f64 / self.faults as f64)
    }

    /// The median time from the alarm to a simulated fault's full size.
    pub(crate) fn lead_windows(&self) -> Option<f64> {
        let mut leads = self.leads.clone();
        leads.sort_unstable();
        leads.get(leads.len() / 2).map(|lead| *lead as f64)
    }
}

/// Which windows lie above the threshold.
fn above(artifact: &Artifact<'_>, run: &[f32]) -> Result<Vec<bool>, TrainError> {
    let scores = anomalies(artifact, std::slice::from_ref(&run.to_vec()))?;
    Ok(scores.into_iter().map(|score| score > artifact.threshold()).collect())
}

/// The windows at which an alarm begins.
fn alarms(above: &[bool]) -> Vec<usize> {
    let mut begun = Vec::new();
    let mut open = false;
    let mut quiet = 0;
    for (at, high) in above.iter().enumerate() {
        quiet = if *high { 0 } else { quiet + 1 };
        let recent = above[at.saturating_sub(WATCHED - 1)..=at].iter().filter(|high| **high).count();
        if !open && recent >= FIRES_AT {
            open = true;
            begun.push(at);
        } else if open && quiet >= CLEARS_AT {
            open = false;
        }
    }
    begun
}

const WATCHED: usize = 8;
const FIRES_AT: usize = 5;
const CLEARS_AT: usize = 20;
/// Healthy scales of a fault that is fully grown.
const FULL_SIZE: f32 = 8.0;
/// A fault needs some time to be told.
const LEAST_WINDOWS: usize = 16;
const MOST_WINDOWS: usize = 96;
/// Stretches on which each fault grows.
const STRETCHES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_needs_five_of_eight_and_twenty_quiet_windows_end_it() {
        let mut above = vec![false; 100];
        above[10..14].fill(true);
        assert!(alarms(&above).is_empty(), "four are too few");
        above[16] = true;
        assert_eq!(alarms(&above), [16]);
        above[30] = true;
        above[34..40].fill(true);
        assert_eq!(alarms(&above), [16], "it has not cleared");
        above[70..80].fill(true);
        assert_eq!(alarms(&above), [16, 74]);
    }

    #[test]
    fn figures_are_shares_of_what_was_counted_and_none_of_nothing() {
        let events = Events { faults: 10, told: 8, false_alarms: 2, healthy_windows: 500, leads: vec![3, 9, 5] };
        assert_eq!((events.precision(), events.recall(), events.lead_windows()), (Some(0.8), Some(0.8), Some(5.0)));
        let none = Events::default();
        assert_eq!((none.precision(), none.recall(), none.lead_windows()), (None, None, None));
    }
}

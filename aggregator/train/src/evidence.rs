//! What the pictures of a report show: how a model was trained, and what it did on rows that it was not made from.

use crate::Progress;

/// The figures behind a model's pictures.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The score above which a window is unusual.
    pub threshold: f32,
    /// Losses over the steps; empty for what is not trained in steps.
    pub losses: Vec<Progress>,
    /// Scores of the windows that tested it.
    pub scores: Vec<ScoredWindow>,
    /// Healthy scores that the threshold was calibrated on.
    pub calibration: Vec<f32>,
    /// Faults that were simulated on tested windows.
    pub confusion: Vec<Confusion>,
}

/// A scored window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredWindow {
    /// Which machine; numbers are the data set's.
    pub asset: u32,
    /// The end of the window, in microseconds of event time.
    pub time_us: i64,
    /// Its score.
    pub anomaly: f32,
    /// Was it labelled faulty?
    pub faulty: bool,
}

/// What became of windows of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// Which kind.
    pub name: String,
    /// Above the threshold.
    pub above: usize,
    /// At or below it.
    pub below: usize,
}

impl Evidence {
    /// Tested windows, healthy or labelled faulty, above the threshold and not.
    pub fn tested(&self, faulty: bool) -> Confusion {
        let of_kind = self.scores.iter().filter(|window| window.faulty == faulty);
        let (above, below): (Vec<&ScoredWindow>, Vec<&ScoredWindow>) =
            of_kind.partition(|window| window.anomaly > self.threshold);
        let name = if faulty { "labelled faulty" } else { "healthy" };
        Confusion { name: name.to_owned(), above: above.len(), below: below.len() }
    }

    /// For shares of healthy windows that should lie above a score, the share of tested ones that do.
    pub fn calibrated(&self) -> Vec<(f64, f64)> {
        let mut sorted = self.calibration.clone();
        sorted.sort_by(f32::total_cmp);
        let healthy: Vec<f32> =
            self.scores.iter().filter(|window| !window.faulty).map(|window| window.anomaly).collect();
        let observed = |expected: &f64| {
            let place = ((1.0 - expected) * sorted.len() as f64) as usize;
            let level = *sorted.get(place)?;
            let above = healthy.iter().filter(|score| **score > level).count();
            // Fewer than three scores beyond a level say nothing of it.
            (sorted.len() - place >= 3).then(|| (*expected, above as f64 / healthy.len().max(1) as f64))
        };
        EXPECTED.iter().filter_map(observed).collect()
    }
}

const EXPECTED: [f64; 9] = [0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_like_those_of_the_calibration_lie_on_the_diagonal() {
        let calibration: Vec<f32> = (0..1_000).map(|i| i as f32).collect();
        let window = |i: usize| ScoredWindow { asset: 0, time_us: 0, anomaly: i as f32 + 0.5, faulty: i >= 1_000 };
        let evidence =
            Evidence { threshold: 989.0, scores: (0..1_010).map(window).collect(), calibration, ..Evidence::default() };
        for (expected, observed) in evidence.calibrated() {
            assert!((expected - observed).abs() < 0.002, "{expected} {observed}");
        }
        assert_eq!((evidence.tested(false).above, evidence.tested(false).below), (11, 989));
        assert_eq!((evidence.tested(true).above, evidence.tested(true).below), (10, 0));
    }
}

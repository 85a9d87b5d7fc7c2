//! Thresholds: how high healthy scores go, and how high they would go in the time that the budget speaks of.

/// The score that a healthy window exceeds with this probability.
///
/// Above the 90th percentile the excesses follow a generalised Pareto tail, fitted by probability-weighted moments. Held-out
/// data are short, so the tail is not trusted further than a probability of 1e-4 (a decision asks for several windows, which
/// covers the rest), nor heavier than shape 0.15, and the threshold lies at least a tenth above the largest score seen.
pub(crate) fn threshold(scores: &[f32], probability: f64) -> f32 {
    let mut sorted: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    sorted.sort_by(f64::total_cmp);
    let largest = sorted.last().copied().unwrap_or(0.0);
    let start = sorted.len() * 9 / 10;
    let level = sorted.get(start.saturating_sub(1)).copied().unwrap_or(0.0);
    let excesses: Vec<f64> = sorted[start..].iter().map(|score| score - level).collect();
    let tail = excesses.len() as f64 / sorted.len().max(1) as f64;
    let (shape, scale) = pareto(&excesses);
    let ratio = (tail / probability.max(LEAST_PROBABILITY)).max(1.0);
    let reach = if shape < 1e-6 { scale * ratio.ln() } else { scale / shape * (ratio.powf(shape) - 1.0) };
    ((level + reach).max(1.1 * largest)).max(1e-6) as f32
}

/// The probability with which one window may exceed the threshold.
pub(crate) fn probability(false_alarms_per_month: f64, window_period_secs: f64) -> f64 {
    const MONTH_SECS: f64 = 30.0 * 86_400.0;
    (false_alarms_per_month * window_period_secs / MONTH_SECS).clamp(LEAST_PROBABILITY, 0.1)
}

/// Shape in [0, 0.15] and scale of the excesses, which are sorted.
fn pareto(excesses: &[f64]) -> (f64, f64) {
    let count = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / count.max(1.0);
    let weighted = |(i, excess): (usize, &f64)| (1.0 - (i as f64 + 0.65) / count) * excess;
    let second = excesses.iter().enumerate().map(weighted).sum::<f64>() / count.max(1.0);
    let spread = mean - 2.0 * second;
    if mean <= 0.0 || spread <= 0.0 {
        return (0.0, mean.max(0.0));
    }
    let shape = (2.0 - mean / spread).clamp(0.0, MOST_SHAPE);
    (shape, mean * (1.0 - shape))
}

const LEAST_PROBABILITY: f64 = 1e-4;
const MOST_SHAPE: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn exponential(count: usize) -> Vec<f32> {
        let mut random = Random::new(5, "exponential");
        (0..count).map(|_| -(0.5 - 0.499_999 * random.symmetric()).ln()).collect()
    }

    #[test]
    fn an_exponential_tail_is_extrapolated_to_its_true_quantile() {
        let threshold = f64::from(threshold(&exponential(20_000), 1e-4));
        let truth = -(1e-4f64).ln();
        // 2,000 excesses fix the tail to about 15 %.
        assert!((threshold / truth - 1.0).abs() < 0.25, "{threshold} against {truth}");
    }

    #[test]
    fn the_threshold_lies_above_every_score_seen_whatever_they_are() {
        for scores in [vec![], vec![1.0], vec![0.0; 50], exponential(30)] {
            let largest = scores.iter().copied().fold(0.0, f32::max);
            let threshold = threshold(&scores, 1e-3);
            assert!(threshold.is_finite() && threshold > largest, "{threshold} of {scores:?}");
        }
    }

    #[test]
    fn a_smaller_budget_gives_a_higher_threshold() {
        let scores = exponential(500);
        assert!(threshold(&scores, 1e-4) > threshold(&scores, 1e-2));
        assert!(probability(0.1, 10.0) <= probability(1.0, 300.0));
    }
}

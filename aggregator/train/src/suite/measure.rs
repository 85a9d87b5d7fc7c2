//! The figures by which data sets are judged.

/// Root mean squared error.
pub(crate) fn rmse(said: &[f64], truth: &[f64]) -> f64 {
    (said.iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / said.len().max(1) as f64).sqrt()
}

/// The score of the PHM 2008 challenge: too late costs more than too early.
pub(crate) fn phm08(said: &[f64], truth: &[f64]) -> f64 {
    let cost = |late: f64| if late < 0.0 { (-late / 13.0).exp() - 1.0 } else { (late / 10.0).exp() - 1.0 };
    said.iter().zip(truth).map(|(said, truth)| cost(said - truth)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_words_cost_more_than_early_ones() {
        assert!((phm08(&[110.0], &[100.0]) - (1f64.exp() - 1.0)).abs() < 1e-12);
        assert!((phm08(&[87.0], &[100.0]) - (1f64.exp() - 1.0)).abs() < 1e-12);
        assert!((rmse(&[3.0, 0.0], &[0.0, 4.0]) - 12.5f64.sqrt()).abs() < 1e-12);
    }
}

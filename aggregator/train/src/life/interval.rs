//! How far estimates were off on machines that were not seen, per band of the estimate: the interval's width.

/// Below and above, per band of equal width over the capped range.
pub(crate) fn bands(said: &[f32], truth: &[f32], cap: f32, coverage: f64) -> Vec<(f32, f32)> {
    let all: Vec<f32> = truth.iter().zip(said).map(|(truth, said)| truth - said).collect();
    let band = |said: f32| ((said / cap * BANDS as f32) as usize).min(BANDS - 1);
    (0..BANDS)
        .map(|number| {
            let inside = said.iter().zip(&all).filter(|(said, _)| band(**said) == number).map(|(_, wrong)| *wrong);
            let mut wrong: Vec<f32> = inside.collect();
            if wrong.len() < LEAST {
                wrong.clone_from(&all);
            }
            wrong.sort_by(f32::total_cmp);
            let tail = (1.0 - coverage) / 2.0;
            ((-quantile(&wrong, tail)).max(0.0), quantile(&wrong, 1.0 - tail).max(0.0))
        })
        .collect()
}

/// The value below which this share of sorted values lies.
pub(crate) fn quantile(sorted: &[f32], share: f64) -> f32 {
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let (low, part) = (place.floor() as usize, place.fract() as f32);
    let at = |i: usize| sorted.get(i.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0);
    at(low) + part * (at(low + 1) - at(low))
}

const BANDS: usize = 8;
/// Rows that a band needs to speak for itself.
const LEAST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_bands_cover_the_share_that_was_asked_for_where_errors_grow_with_the_estimate() {
        let mut random = Random::new(4, "bands");
        let said: Vec<f32> = (0..8_000).map(|i| (i % 100) as f32).collect();
        let truth: Vec<f32> = said.iter().map(|s| s + 0.2 * s * random.symmetric()).collect();
        let bands = bands(&said, &truth, 100.0, 0.9);
        assert!(bands[7].1 > 3.0 * bands[1].1);
        let covered = said.iter().zip(&truth).filter(|(said, truth)| {
            let (below, above) = bands[((**said / 100.0 * 8.0) as usize).min(7)];
            (*said - below..=*said + above).contains(*truth)
        });
        let share = covered.count() as f64 / 8_000.0;
        assert!((0.88..0.92).contains(&share), "{share}");
    }
}

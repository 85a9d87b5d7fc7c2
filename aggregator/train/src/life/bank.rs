//! What a head sees of a machine's rows: exponentially weighted means with several memories, and its age.
//!
//! The same arithmetic in the same order as the kernel's, so that training and scoring see the same numbers.

/// Memories and age of a head.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// Weight of the newest row in each mean; 1 is the row itself, 0 the mean of all rows.
    pub smoothing: Vec<f32>,
    /// What a row adds to the age; 0 leaves it out of the decision.
    pub age_scale: f32,
}

impl Bank {
    /// Values per row for so many inputs.
    pub(crate) fn width(&self, inputs: usize) -> usize {
        self.smoothing.len() * inputs + 1
    }

    /// One row of values per normalised row.
    pub(crate) fn run(&self, normalised: &[Vec<f32>]) -> Vec<f32> {
        let inputs = normalised.first().map_or(0, Vec::len);
        let mut means = vec![0.0f32; self.smoothing.len() * inputs];
        let mut out = Vec::with_capacity(normalised.len() * self.width(inputs));
        for (place, row) in normalised.iter().enumerate() {
            let rows = (place + 1) as f32;
            for (means, weight) in means.chunks_exact_mut(inputs.max(1)).zip(&self.smoothing) {
                let weight = weight.max(1.0 / rows);
                for (mean, value) in means.iter_mut().zip(row) {
                    *mean += weight * (value - *mean);
                }
            }
            out.extend_from_slice(&means);
            out.push((rows * self.age_scale).min(MOST_AGE));
        }
        out
    }
}

/// No machine is older than this in the head's eyes.
const MOST_AGE: f32 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_the_plain_mean_until_it_is_full_and_the_last_row_with_weight_one() {
        let bank = Bank { smoothing: vec![1.0, 0.25, 0.0], age_scale: 0.5 };
        let rows: Vec<Vec<f32>> = [4.0, 2.0, 0.0, 6.0, 8.0].iter().map(|v| vec![*v]).collect();
        let out = bank.run(&rows);
        let row = |i: usize| &out[i * 4..(i + 1) * 4];
        assert_eq!(row(1), [2.0, 3.0, 3.0, 1.0]);
        assert_eq!(row(3), [6.0, 3.0, 3.0, 2.0]);
        assert_eq!(row(4), [8.0, 4.25, 4.0, 2.5]);
    }
}

//! Rolling features: what the last few windows of a stream were like, in one pass and in a fixed order.
//!
//! Polars' own rolling sums are left aside: these give the same bits on every machine and with any number of threads (P2). A row sees
//! itself and rows before it in its own series, never a later one. Sums are f64 and made anew once per window's length, so that what
//! cancels in one stretch does not stay for ever.

/// Of each value over the last windows of its series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rolled {
    /// Row-major, as many values a row as there were.
    pub mean: Vec<f32>,
    /// Population standard deviation.
    pub deviation: Vec<f32>,
    /// The least.
    pub least: Vec<f32>,
    /// The greatest.
    pub greatest: Vec<f32>,
}

/// Rolls `width` values a row over the last `windows` rows of the same series; shorter at a series' beginning. Rows of a series stand
/// together, in their order. Works on `threads` parts of the series side by side.
pub fn rolling(values: &[f32], series: &[u32], width: usize, windows: usize, threads: usize) -> Rolled {
    let (width, windows) = (width.max(1), windows.max(1));
    let cells = series.len() * width;
    let empty = || vec![0.0; cells];
    let mut rolled = Rolled { mean: empty(), deviation: empty(), least: empty(), greatest: empty() };
    let ends = cuts(series, threads.max(1));
    std::thread::scope(|scope| {
        let mut rest =
            (&mut rolled.mean[..], &mut rolled.deviation[..], &mut rolled.least[..], &mut rolled.greatest[..]);
        let mut begin = 0;
        for end in ends {
            let size = (end - begin) * width;
            let (mean, deviation, least, greatest) = rest;
            let (mean, mean_after) = mean.split_at_mut(size);
            let (deviation, deviation_after) = deviation.split_at_mut(size);
            let (least, least_after) = least.split_at_mut(size);
            let (greatest, greatest_after) = greatest.split_at_mut(size);
            rest = (mean_after, deviation_after, least_after, greatest_after);
            let part =
                Part { values: &values[begin * width..end * width], series: &series[begin..end], width, windows };
            scope.spawn(move || part.roll(mean, deviation, least, greatest));
            begin = end;
        }
    });
    rolled
}

/// Where parts of about equal size end, never within a series.
fn cuts(series: &[u32], parts: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    for part in 1..=parts {
        let mut end = (series.len() * part / parts).max(ends.last().copied().unwrap_or(0));
        while end > 0 && end < series.len() && series[end] == series[end - 1] {
            end += 1;
        }
        ends.push(end);
    }
    ends
}

struct Part<'a> {
    values: &'a [f32],
    series: &'a [u32],
    width: usize,
    windows: usize,
}

impl Part<'_> {
    fn roll(&self, mean: &mut [f32], deviation: &mut [f32], least: &mut [f32], greatest: &mut [f32]) {
        let mut begin = 0;
        for stretch in self.series.chunk_by(|a, b| a == b) {
            let cells = begin * self.width..(begin + stretch.len()) * self.width;
            let own = &self.values[cells.clone()];
            self.moments(own, &mut mean[cells.clone()], &mut deviation[cells.clone()]);
            self.extremes(own, &mut least[cells.clone()], |a, b| a <= b);
            self.extremes(own, &mut greatest[cells], |a, b| a >= b);
            begin += stretch.len();
        }
    }

    fn moments(&self, values: &[f32], mean: &mut [f32], deviation: &mut [f32]) {
        let (width, windows) = (self.width, self.windows);
        // Around the first value, so that a large level does not eat the digits.
        let level: Vec<f64> = values[..width].iter().map(|value| f64::from(*value)).collect();
        let (mut sums, mut squares) = (vec![0.0f64; width], vec![0.0f64; width]);
        for row in 0..values.len() / width {
            let from = row.saturating_sub(windows - 1);
            let anew = row % windows == windows - 1;
            if anew {
                sums.fill(0.0);
                squares.fill(0.0);
            }
            for other in if anew { from } else { row }..=row {
                let line = &values[other * width..][..width];
                for (((value, level), sum), square) in line.iter().zip(&level).zip(&mut sums).zip(&mut squares) {
                    let value = f64::from(*value) - level;
                    *sum += value;
                    *square += value * value;
                }
            }
            if !anew && row >= windows {
                let line = &values[(row - windows) * width..][..width];
                for (((value, level), sum), square) in line.iter().zip(&level).zip(&mut sums).zip(&mut squares) {
                    let value = f64::from(*value) - level;
                    *sum -= value;
                    *square -= value * value;
                }
            }
            let share = 1.0 / (row - from + 1) as f64;
            let cells = row * width..(row + 1) * width;
            let out = mean[cells.clone()].iter_mut().zip(&mut deviation[cells]);
            for (((mean, deviation), level), (sum, square)) in out.zip(&level).zip(sums.iter().zip(&squares)) {
                let shifted = sum * share;
                *mean = (level + shifted) as f32;
                *deviation = (square * share - shifted * shifted).max(0.0).sqrt() as f32;
            }
        }
    }

    /// The best of each stretch of rows by two passes over blocks of the window's length: from each block's beginning onwards, and from
    /// its end backwards. A window spans the end of one block and the beginning of the next.
    fn extremes(&self, values: &[f32], out: &mut [f32], better: impl Fn(f32, f32) -> bool) {
        let (width, windows) = (self.width, self.windows);
        let pick = |a: f32, b: f32| if better(a, b) { a } else { b };
        let rows = values.len() / width;
        let mut back = vec![0.0f32; windows * width];
        let mut ahead = vec![0.0f32; width];
        for block in (0..rows).step_by(windows) {
            for row in block..(block + windows).min(rows) {
                let line = &values[row * width..][..width];
                let place = (row - block + 1) * width;
                let first = row == block;
                for (i, value) in line.iter().enumerate() {
                    ahead[i] = if first { *value } else { pick(ahead[i], *value) };
                    let before = (block > 0).then(|| back.get(place + i).copied()).flatten();
                    out[row * width + i] = before.map_or(ahead[i], |before| pick(before, ahead[i]));
                }
            }
            let last = (block + windows).min(rows);
            for row in (block..last).rev() {
                for i in 0..width {
                    let value = values[row * width + i];
                    let place = (row - block) * width + i;
                    back[place] = if row + 1 == last { value } else { pick(value, back[place + width]) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, width: usize) -> (Vec<f32>, Vec<u32>) {
        let mut state = 7u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let values = (0..rows * width).map(|_| 1_000.0 + noise()).collect();
        (values, (0..rows).map(|row| (row / 37) as u32 + u32::from(row > 90)).collect())
    }

    #[test]
    fn every_value_is_that_of_the_last_windows_of_its_own_series() {
        for (rows, width, windows) in [(200, 3, 10), (200, 1, 1), (120, 2, 64), (37, 5, 37), (1, 1, 8)] {
            let (values, series) = sample(rows, width);
            let rolled = rolling(&values, &series, width, windows, 3);
            for row in 0..rows {
                let begin = series.iter().position(|other| *other == series[row]).expect("its own");
                let from = (row + 1).saturating_sub(windows).max(begin);
                for i in 0..width {
                    let seen: Vec<f64> = (from..=row).map(|row| f64::from(values[row * width + i])).collect();
                    let mean = seen.iter().sum::<f64>() / seen.len() as f64;
                    let square = seen.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / seen.len() as f64;
                    let at = row * width + i;
                    assert!((f64::from(rolled.mean[at]) - mean).abs() < 1e-4, "mean {row} {i} of {windows}");
                    assert!(
                        (f64::from(rolled.deviation[at]) - square.sqrt()).abs() < 1e-5,
                        "deviation {row} {i} of {windows}"
                    );
                    let least = seen.iter().copied().fold(f64::MAX, f64::min) as f32;
                    let greatest = seen.iter().copied().fold(f64::MIN, f64::max) as f32;
                    assert_eq!((rolled.least[at], rolled.greatest[at]), (least, greatest), "{row} {i} of {windows}");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit_and_no_later_row_does() {
        let (values, series) = sample(200, 4);
        let alone = rolling(&values, &series, 4, 16, 1);
        assert_eq!(alone, rolling(&values, &series, 4, 16, 5));
        // A leak from the future, planted: the last 50 rows change, nothing before them may.
        let mut planted = values.clone();
        planted[150 * 4..].fill(1e6);
        let leaked = rolling(&planted, &series, 4, 16, 2);
        assert_eq!(alone.mean[..150 * 4], leaked.mean[..150 * 4]);
        assert_eq!(alone.greatest[..150 * 4], leaked.greatest[..150 * 4]);
        assert_ne!(alone.mean, leaked.mean);
        assert_eq!(rolling(&[], &[], 3, 4, 2), Rolled::default());
    }
}

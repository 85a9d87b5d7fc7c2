//! From a forecast to hours: when the score, its lower and its upper end reach the limit.

use super::learn::Ahead;

/// A forecast as score over threshold; 1 is the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Fan {
    /// The level now: the mean over the newest bin.
    pub level: f32,
    /// Width of a bin in microseconds; what is forecast is the mean over one.
    pub bin_us: i64,
    /// What is forecast, the nearest first.
    pub steps: Vec<Step>,
    /// When the limit is reached.
    pub limit: Limit,
}

/// What is forecast for one time ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// How many bins ahead of the newest.
    pub bins: u32,
    /// How many hours ahead.
    pub in_h: f32,
    /// Below this lies one of twenty.
    pub low: f32,
    /// The forecast.
    pub mid: f32,
    /// Above this lies one of twenty.
    pub high: f32,
}

/// Hours until the score reaches its limit if it goes on like this; 0 where it stands there, `None` where that is not within what is foreseen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// When the upper end of the 90 % interval does.
    pub earliest_h: Option<f32>,
    /// When the forecast does.
    pub estimate_h: Option<f32>,
    /// When the lower end does.
    pub latest_h: Option<f32>,
    /// How far is foreseen.
    pub within_h: f32,
}

impl Fan {
    pub(super) fn new(level: f32, bin_us: i64, ahead: impl Iterator<Item = Ahead>) -> Self {
        let bin_h = bin_us as f32 / HOUR_US;
        let ahead: Vec<Ahead> = ahead.collect();
        let reached = |end: fn(&Ahead) -> f32| {
            if level >= 0.0 {
                return Some(0.0);
            }
            let (mut before_h, mut before) = (0.0, level);
            for step in &ahead {
                let (at_h, at) = (bin_h * step.bins as f32, end(step));
                if at >= 0.0 {
                    return Some(before_h + (at_h - before_h) * before / (before - at));
                }
                (before_h, before) = (at_h, at);
            }
            None
        };
        let limit = Limit {
            earliest_h: reached(|step| step.high),
            estimate_h: reached(|step| step.mid),
            latest_h: reached(|step| step.low),
            within_h: ahead.last().map_or(0.0, |step| bin_h * step.bins as f32),
        };
        let steps = ahead.iter().map(|step| Step {
            bins: step.bins as u32,
            in_h: bin_h * step.bins as f32,
            low: libm::expf(step.low),
            mid: libm::expf(step.mid),
            high: libm::expf(step.high),
        });
        Self { level: libm::expf(level), bin_us, steps: steps.collect(), limit }
    }
}

const HOUR_US: f32 = 3.6e9;

#[cfg(test)]
mod tests {
    use super::*;

    fn fan(level: f32, ends: &[(usize, [f32; 3])]) -> Limit {
        let ahead = ends.iter().map(|&(bins, [low, mid, high])| Ahead { bins, low, mid, high });
        Fan::new(level, 3_600_000_000, ahead).limit
    }

    #[test]
    fn the_limit_is_reached_where_a_line_between_two_steps_crosses_it() {
        let limit = fan(-1.0, &[(1, [-1.5, -1.0, -0.5]), (2, [-1.5, -0.5, 0.5]), (4, [-1.5, 0.5, 1.5])]);
        assert_eq!((limit.earliest_h, limit.estimate_h, limit.latest_h), (Some(1.5), Some(3.0), None));
        assert_eq!(limit.within_h, 4.0);
    }

    #[test]
    fn a_score_at_its_limit_has_reached_it_whatever_comes() {
        let limit = fan(0.0, &[(1, [-2.0, -1.0, -0.5])]);
        assert_eq!((limit.earliest_h, limit.estimate_h, limit.latest_h), (Some(0.0), Some(0.0), Some(0.0)));
    }
}

//! Where a machine's own score is heading: a forecast with a 90 % interval, and the hours until the score reaches its limit if it goes on so.
//!
//! Each series of deciding scores is kept as the mean logarithm of score over threshold (1 is the limit) in bins that double in width as the
//! history grows ([`bins`]). What is told ahead, and how far, comes from the series' own past errors alone ([`learn`]): before enough of them
//! are known nothing is told. A machine that is healthy and steady gets a forecast too: not within so many hours.
//!
//! This is no remaining life: nothing is known of when a machine fails, only of when its score stands at the limit of its alarm. Where a head
//! for the remaining life leads, its hours say more.
//!
//! ```text
//! score ─▶ bin that still fills ─▶ on the next bin: closed bins ─▶ errors of "it stays" by horizon
//!                │                                                                     │
//!                └─────────── level now ─▶ low, mid, high at 1, 2, 4 … 64 bins ◀────────┘
//! ```
//!
//! **Work.** A score that falls into the newest bin costs a logarithm and an addition; errors are ranked once a bin. **Memory**: 256 bins of
//! eight bytes a series, [`MAX_SERIES`] series a point. **Late scores** count in the bin they belong to and teach when the next bin opens; what
//! is older than all bins is left out (it is in the lake). A new leading model has another scale, so each has a series of its own; maintenance
//! begins them all again.

mod bins;
mod learn;
mod limit;

use kilter_types::{Digest, Micros, Score};
use serde::{Deserialize, Serialize};

use self::bins::{Bins, Went};
use self::learn::Learned;
pub use self::limit::{Fan, Limit, Step};

/// The most series of a point: feature groups, and models that decided one after the other.
pub const MAX_SERIES: usize = 8;

/// The outlook of one series of scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    bins: Bins,
    learned: Learned,
}

impl Outlook {
    /// Takes a score of event time `t`; one without a threshold or that is no number is passed over.
    pub fn take(&mut self, t: Micros, score: &Score) {
        if let Some(value) = logarithm(score) {
            self.add(t, value);
        }
    }

    /// What is ahead of the newest score; `None` until enough errors are known.
    pub fn fan(&self) -> Option<Fan> {
        if !self.learned.knows() {
            return None;
        }
        let (_, newest) = self.bins.split()?;
        let (level, steps) = self.learned.ahead(newest.mean(), newest.count());
        Some(Fan::new(level, self.bins.width_us(), steps))
    }

    fn add(&mut self, t: Micros, value: f32) {
        match self.bins.add(t, value) {
            Went::Next => self.learned = Learned::of(&self.bins),
            Went::Newest | Went::Closed | Went::Nowhere => {}
        }
    }
}

/// The series of one point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlooks {
    series: Vec<Series>,
}

/// The scores of one model on one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Series {
    group: u8,
    model: Digest,
    last: Micros,
    outlook: Outlook,
}

impl Outlooks {
    /// Takes a deciding score.
    pub(crate) fn take(&mut self, t: Micros, score: &Score) {
        let Some(value) = logarithm(score) else { return };
        let (group, model) = (score.input.group, score.model);
        let found = self.series.iter().position(|series| series.group == group && series.model == model);
        let place = found.unwrap_or_else(|| {
            if self.series.len() >= MAX_SERIES {
                let oldest = (0..self.series.len()).min_by_key(|place| self.series[*place].last);
                self.series.remove(oldest.unwrap_or(0));
            }
            self.series.push(Series { group, model, last: t, outlook: Outlook::default() });
            self.series.len() - 1
        });
        let series = &mut self.series[place];
        series.last = series.last.max(t);
        series.outlook.add(t, value);
    }

    /// Forgets everything: the machine is another after maintenance.
    pub(crate) fn restart(&mut self) {
        self.series.clear();
    }

    /// What is ahead by group, from the model that decided last: when it did, and its fan.
    pub(crate) fn fans(&self) -> impl Iterator<Item = (u8, Micros, Fan)> {
        // Where a model can't judge a window the baseline on the device decides, and says so beside it.
        let rank = |series: &Series| (series.last, series.model == Digest::NONE);
        let newest = move |series: &&Series| {
            self.series.iter().all(|other| other.group != series.group || rank(other) <= rank(series))
        };
        let decided = self.series.iter().filter(newest);
        decided.filter_map(|series| series.outlook.fan().map(|fan| (series.group, series.last, fan)))
    }
}

/// Of score over threshold, as far as that says something.
fn logarithm(score: &Score) -> Option<f32> {
    let ratio = score.anomaly / score.threshold;
    (score.threshold > 0.0 && ratio.is_finite()).then(|| libm::logf(ratio.clamp(LEAST, MOST)))
}

/// Scores that say nothing more about how far the limit is.
const LEAST: f32 = 1e-3;
const MOST: f32 = 1e4;

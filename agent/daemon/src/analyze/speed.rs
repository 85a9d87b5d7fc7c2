//! What a channel's own samples say about the shaft's speed, and about a rate or speed that is declared wrongly.

use kilter_signal::fft::{self, Plan};
use kilter_signal::spectrum::Amplitudes;
use kilter_signal::speed::{self, Estimate, Range};
use kilter_signal::welch;
use kilter_types::{Hertz, Rpm};

/// The speed by the samples, and what follows for the declarations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) estimate: Estimate,
    /// How many times too great the declared rate is, where shaft and mains agree on it.
    pub(crate) rate_factor: Option<f32>,
    declared: Option<Rpm>,
}

impl Heard {
    /// The estimate in revolutions per minute.
    pub(crate) fn rpm(&self) -> f32 {
        60.0 * self.estimate.shaft.0
    }

    /// What a reader should know; nothing where the estimate only confirms what is declared, or doubts itself beside a declaration.
    pub(crate) fn note(&self) -> Option<String> {
        let rpm = self.rpm();
        let lines = self.estimate.lines;
        match (self.declared, self.estimate.doubt) {
            (None, None) => {
                Some(format!("by {lines} lines of its own the shaft turns at {rpm:.0} rpm; state it with --rpm"))
            }
            (None, Some(doubt)) => {
                Some(format!("unsure of the shaft's speed ({rpm:.0} rpm would come nearest): {}", doubt.as_str()))
            }
            (Some(declared), None) if (rpm / declared.0 - 1.0).abs() > CONTRADICTS => Some(match self.rate_factor {
                Some(factor) => format!(
                    "shaft and mains stand at {factor:.3} times the frequency they have: the declared rate is so many times too great"
                ),
                None => format!(
                    "{lines} lines say {rpm:.0} rpm where {:.0} are declared: speed or rate is declared wrongly",
                    declared.0
                ),
            }),
            (Some(_), _) => None,
        }
    }
}

/// Listens to a whole channel in windows of four seconds; `None` of less than two, and where no line stands.
pub(crate) fn hear(samples: &[f32], rate: Hertz, declared: Option<Rpm>) -> Option<Heard> {
    let len = fft::longest_len(samples.len().min((WINDOW_SECS * rate.0) as usize))?;
    if (len as f32) < LEAST_SECS * rate.0 {
        return None;
    }
    let plan = Plan::new(len, vec![0.0; fft::fast_table_len(len)]).ok()?;
    let mut scratch = vec![0.0; welch::scratch_len(len)];
    let mut lines = vec![0.0; len / 2];
    welch::density(samples, rate, &plan, &mut scratch, &mut lines).ok()?;
    lines.iter_mut().for_each(|density| *density = density.sqrt());
    let amplitudes = Amplitudes { lines: &lines, spacing_hz: rate.0 / len as f32 };
    let range = range(declared)?;
    let mut work = vec![0.0; speed::work_len(&amplitudes, range)];
    let estimate = speed::estimate(&amplitudes, range, &mut work)?;
    let rate_factor = declared.and_then(|rpm| speed::rate_factor(&amplitudes, rpm.hertz(), range, &mut work));
    Some(Heard { estimate, rate_factor, declared })
}

/// Usual speeds; around a declared one that lies outside, a little more than an octave.
fn range(declared: Option<Rpm>) -> Option<Range> {
    let Some(shaft) = declared.map(Rpm::hertz) else { return Some(Range::usual()) };
    if Range::usual().contains(shaft) {
        Some(Range::usual())
    } else {
        Range::new(Hertz(0.5 * shaft.0), Hertz(1.5 * shaft.0))
    }
}

const WINDOW_SECS: f32 = 4.0;
const LEAST_SECS: f32 = 2.0;
/// A speed that is farther from the declared one is another one.
const CONTRADICTS: f32 = 0.02;

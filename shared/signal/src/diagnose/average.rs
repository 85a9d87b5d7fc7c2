//! The average of many windows of one setup, and what they speak for together.

use super::{Diagnosis, Limits, vibration};
use crate::{
    extract::{VALUES, Vibration},
    line::{Form, Line, Lines},
};

/// The mean of many windows, for a diagnosis of a whole record: noise averages out, lines stay.
#[derive(Clone, Debug)]
pub struct Average {
    sum: [f32; VALUES],
    count: [u32; VALUES],
    lines: Lines,
    windows: u32,
}

impl Default for Average {
    fn default() -> Self {
        Self { sum: [0.0; VALUES], count: [0; VALUES], lines: Lines::default(), windows: 0 }
    }
}

impl Average {
    /// Adds one window of the same setup.
    pub fn add(&mut self, window: &Vibration) {
        for i in 0..VALUES {
            if let Some(value) = window.get(i) {
                self.count[i] += 1;
                self.sum[i] += (value - self.sum[i]) / self.count[i] as f32;
            }
        }
        self.windows += 1;
        let weight = 1.0 / self.windows as f32;
        let (mine, new) = (&mut self.lines, &window.lines);
        for (mine, new) in [
            (&mut mine.bpfo, &new.bpfo),
            (&mut mine.bpfi, &new.bpfi),
            (&mut mine.bsf2, &new.bsf2),
            (&mut mine.ftf, &new.ftf),
        ] {
            blend(mine, new, weight);
        }
        blend(&mut mine.bpfi_sidebands, &new.bpfi_sidebands, weight);
        blend(&mut mine.bsf2_sidebands, &new.bsf2_sidebands, weight);
        blend(&mut mine.strongest, &new.strongest, weight);
        blend(&mut mine.shaft, &new.shaft, weight);
    }

    /// How many windows are in.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// What the windows together speak for. A chance line rarely comes twice at the same place, so four windows or more need
    /// only [`AVERAGE_SNR`] of the ratio that a single window needs.
    pub fn diagnose(&self, limits: &Limits) -> Diagnosis {
        let relax = if self.windows >= 4 { AVERAGE_SNR } else { 1.0 };
        let limits = Limits { snr: relax * limits.snr, ..*limits };
        vibration(&self.mean(), &limits)
    }

    /// The mean of each value over the windows where it was valid.
    pub fn mean(&self) -> Vibration {
        let mut valid = 0;
        for (i, count) in self.count.iter().enumerate() {
            valid |= u64::from(*count > 0) << i;
        }
        Vibration { values: self.sum, valid, lines: self.lines }
    }
}

fn blend<const N: usize>(mine: &mut Option<[Line; N]>, new: &Option<[Line; N]>, weight: f32) {
    let Some(new) = new else { return };
    let Some(mine) = mine else {
        *mine = Some(*new);
        return;
    };
    for (mine, new) in mine.iter_mut().zip(new) {
        mine.frequency.0 += (new.frequency.0 - mine.frequency.0) * weight;
        mine.amplitude += (new.amplitude - mine.amplitude) * weight;
        mine.snr += (new.snr - mine.snr) * weight;
        // A line of its own in any window is no flank: speed wanders, a flank's hill does not.
        if mine.form == Form::Flank || new.form == Form::Peak {
            mine.form = new.form;
        }
    }
}

/// Share of the signal-to-noise limit that an average of many windows needs.
pub const AVERAGE_SNR: f32 = 0.8;

//! What the tests share: records of the data folder, an analyser with its buffers, repeatable noise.
#![expect(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;

use kilter_signal::{
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
};
use serde_json::Value;

/// The data folder, or a line that says what was not run.
pub(crate) fn data(checks: usize) -> Option<PathBuf> {
    let root = std::env::var_os("KILTER_DATA").map(PathBuf::from);
    if root.is_none() {
        println!("not run: {checks} (KILTER_DATA is unset)");
    }
    root
}

pub(crate) fn json(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path).expect("the data folder holds this file");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The values of a one-dimensional little-endian f32 `.npy` file.
pub(crate) fn npy(path: PathBuf) -> Vec<f32> {
    let bytes = std::fs::read(&path).expect("the data folder holds this file");
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    assert!(bytes[10..10 + header].windows(3).any(|w| w == b"<f4"));
    let (values, _) = bytes[10 + header..].as_chunks::<4>();
    values.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A plan with its buffers.
pub(crate) struct Analyser {
    pub(crate) plan: Plan<Vec<f32>>,
    scratch: Vec<f32>,
    pub(crate) window: Vibration,
}

impl Analyser {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            plan: Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("a supported length"),
            scratch: vec![0.0; extract::scratch_len(len)],
            window: Vibration::default(),
        }
    }

    pub(crate) fn run(&mut self, samples: &[f32], setup: &VibrationSetup) -> &Vibration {
        extract::vibration(samples, setup, &self.plan, &mut self.scratch, &mut self.window).expect("the buffers fit");
        &self.window
    }

    /// The amplitude spectra of window and envelope.
    pub(crate) fn spectra(&mut self, samples: &[f32], setup: &VibrationSetup) -> (Vec<f32>, Vec<f32>) {
        let spectra = extract::vibration(samples, setup, &self.plan, &mut self.scratch, &mut self.window)
            .expect("the buffers fit");
        (spectra.acceleration.lines.into(), spectra.envelope.lines.into())
    }
}

/// Normal noise of deviation 1 (sum of twelve uniform numbers), the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

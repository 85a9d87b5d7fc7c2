//! The same window gives the same bits everywhere (F1): set S and the scores of four networks over a file of windows, as one digest.
//!
//! The file is made once on the host (`kilter-bits-windows`: every real record at hand, and simulated faults) and read by the
//! same code on each target: a host program, the same under qemu-user, a microcontroller over semihosting. Every output bit goes
//! into the digest: values, validity, both spectra, and of each network anomaly, contributions and what a forecaster announces.
//!
//! ```text
//! each window: rate_hz, rpm, bpfo, bpfi, bsf, ftf (f32 LE; 0: unknown), then 1024 samples in g (f32 LE)
//! ```
#![no_std]

pub mod naive;

use kilter_infer::{Artifact, Scratch, State};
use kilter_signal::{
    bearing::Orders,
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
    table::VIBRATION_LEN,
};
use kilter_types::{Hertz, Rpm};

/// Samples per window.
pub const WINDOW: usize = 1024;
/// Bytes per window of the file.
pub const WINDOW_BYTES: usize = 4 * (HEAD + WINDOW);
/// Values of scratch that a [`Bench`] borrows.
pub const SCRATCH: usize = extract::scratch_len(WINDOW);
/// Values of roots that a [`Bench`] borrows.
pub const ROOTS: usize = fft::table_len(WINDOW);

/// Small networks with their golden windows: an autoencoder and a forecaster, each in f32 and in int8.
pub static NETWORKS: [&[u8]; 4] = [
    include_bytes!("../../../shared/infer/tests/golden/lstm_autoencoder_v1.kltm"),
    include_bytes!("../../../shared/infer/tests/golden/lstm_autoencoder_int8_v1.kltm"),
    include_bytes!("../../../shared/infer/tests/golden/lstm_forecaster_v1.kltm"),
    include_bytes!("../../../shared/infer/tests/golden/lstm_forecaster_int8_v1.kltm"),
];

/// The smallest model: a statistic over three features.
pub static STATISTIC: &[u8] = include_bytes!("../../../shared/infer/tests/golden/statistic_v1.kltm");

/// Everything that one window needs.
pub struct Bench<'a> {
    plan: Plan<&'a mut [f32]>,
    scratch: &'a mut [f32],
    networks: [Network; NETWORKS.len()],
    kernel: Scratch,
    out: Vibration,
    digest: u64,
    windows: u32,
}

/// A network and its sequence.
struct Network {
    artifact: Artifact<'static>,
    state: State<NETWORK_FLOATS>,
}

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// FNV-1a over every output bit.
    pub digest: u64,
    /// Windows.
    pub windows: u32,
}

/// Why nothing could be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

impl<'a> Bench<'a> {
    /// A bench over the caller's memory: [`ROOTS`] and [`SCRATCH`] values. The networks' golden windows must come out here (P3).
    pub fn new(roots: &'a mut [f32], scratch: &'a mut [f32]) -> Result<Self, Unfit> {
        let plan = Plan::new(WINDOW, roots).map_err(|_| Unfit)?;
        let mut kernel = Scratch::new();
        let [a, b, c, d] = NETWORKS;
        let networks = [
            Network::new(a, &mut kernel)?,
            Network::new(b, &mut kernel)?,
            Network::new(c, &mut kernel)?,
            Network::new(d, &mut kernel)?,
        ];
        Ok(Self { plan, scratch, networks, kernel, out: Vibration::default(), digest: SEED, windows: 0 })
    }

    /// Set S of one window alone, for measuring.
    pub fn extract(&mut self, setup: &VibrationSetup, samples: &[f32]) -> Result<(), Unfit> {
        extract::vibration(samples, setup, &self.plan, self.scratch, &mut self.out).map(drop).map_err(|_| Unfit)
    }

    /// Takes one window of the file.
    pub fn window(&mut self, setup: &VibrationSetup, samples: &[f32]) -> Result<(), Unfit> {
        let Self { plan, scratch, networks, kernel, out, digest, windows } = self;
        let spectra = extract::vibration(samples, setup, plan, scratch, out).map_err(|_| Unfit)?;
        let mut take = |bits: u32| *digest = (*digest ^ u64::from(bits)).wrapping_mul(PRIME);
        out.values[..VIBRATION_LEN].iter().for_each(|value| take(value.to_bits()));
        take(out.valid as u32);
        take((out.valid >> 32) as u32);
        spectra.acceleration.lines.iter().chain(spectra.envelope.lines).for_each(|line| take(line.to_bits()));
        for network in networks {
            network.push(&out.values, kernel, &mut take)?;
        }
        *windows += 1;
        Ok(())
    }

    /// The values of the newest window.
    pub fn newest(&self) -> &Vibration {
        &self.out
    }

    /// What came out so far.
    pub fn outcome(&self) -> Outcome {
        Outcome { digest: self.digest, windows: self.windows }
    }
}

impl Network {
    fn new(bytes: &'static [u8], kernel: &mut Scratch) -> Result<Self, Unfit> {
        let artifact = Artifact::parse(bytes).map_err(|_| Unfit)?;
        let mut state = State::new();
        artifact.certify(&mut state, kernel).map_err(|_| Unfit)?;
        Ok(Self { artifact, state })
    }

    /// Scores the first values of a window.
    fn push(&mut self, values: &[f32], kernel: &mut Scratch, take: &mut impl FnMut(u32)) -> Result<(), Unfit> {
        let Self { artifact, state } = self;
        let row = values.get(..artifact.inputs()).ok_or(Unfit)?;
        if let Some(scored) = artifact.push(row, state, kernel).map_err(|_| Unfit)? {
            take(scored.anomaly.to_bits());
            scored.contributions.iter().for_each(|part| take(part.to_bits()));
        }
        let mut announced = [0.0; MOST_INPUTS];
        let announced = announced.get_mut(..artifact.inputs()).ok_or(Unfit)?;
        if artifact.forecast(state, kernel, announced).is_some() {
            announced.iter().for_each(|value| take(value.to_bits()));
        }
        Ok(())
    }
}

/// What the head of a window in the file says.
pub fn setup(head: &[f32; HEAD]) -> Result<VibrationSetup, Unfit> {
    let [rate_hz, rpm, bpfo, bpfi, bsf, ftf] = *head;
    let mut setup = VibrationSetup::new(Hertz(rate_hz)).map_err(|_| Unfit)?.with_shaft(Rpm(rpm));
    if bpfo > 0.0 {
        setup = setup.with_bearing(Orders::new(bpfo, bpfi, bsf, ftf).map_err(|_| Unfit)?);
    }
    Ok(setup)
}

/// A window whose every feature is valid, from whole numbers only: impacts at 3.585 times the shaft over tones and noise.
pub fn example(samples: &mut [f32]) -> [f32; HEAD] {
    let mut state = 1u32;
    for (i, sample) in samples.iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 8) as f32 / 8_388_608.0 - 1.0;
        let since = (i * 1000) % 29_803;
        let ring = if since < 12_000 { (12_000 - since) as f32 / 12_000.0 } else { 0.0 };
        let tone = ((i * 37) % 107) as f32 / 107.0 - 0.5;
        *sample = 0.05 * noise + 0.3 * tone + ring * if i % 3 == 0 { 0.8 } else { -0.4 };
    }
    [3200.0, 1797.0, 3.585, 5.415, 2.357, 0.398]
}

/// Numbers before a window's samples.
pub const HEAD: usize = 6;
/// Room for a network's sequence.
const NETWORK_FLOATS: usize = 64;
/// Values per row of a network.
const MOST_INPUTS: usize = 8;
const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

//! Time per window of Set S and of the real FFT: 4096 samples at 12.8 kHz, 1797 rpm, 6205, every feature valid.
//!
//! `cargo bench -p kilter-signal --bench set_s` prints the best and the median of many rounds on one core. With `KILTER_PYTHON` set
//! (a Python with numpy and scipy) the peer in `benches/peer/set_s.py` computes all of Set S of the same windows, its values are
//! compared with ours within 1e-4 of the larger of value and scale, and rounds of both take turns, so that a busy machine
//! is busy for both. With `KILTER_FEATURES_PYTHON` set too (a Python with tsfel and tsfresh) `benches/peer/features.py` times what those
//! share with Set S, of the same windows.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{ffi::OsStr, hint::black_box, path::Path, process::Command, time::Instant};

use kilter_signal::{
    bearing::Orders,
    cepstrum,
    demodulate::{self, Demodulation},
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Complex, Plan},
    kurtogram::{self, Kurtogram},
    moment::Moments,
    sliding::{Sliding, memory_len},
    table::{VIBRATION, VIBRATION_LEN, mask},
    welch,
};
use kilter_types::{Hertz, Rpm};

const LEN: usize = 4096;
const WINDOWS: usize = 32;
const RATE: Hertz = Hertz(12_800.0);

fn main() {
    let windows: Vec<Vec<f32>> = (0..WINDOWS as u32).map(window).collect();
    let plan = Plan::new(LEN, vec![0.0; fft::fast_table_len(LEN)]).expect("supported");
    let bearing = Orders::catalogue("6205").expect("built in");
    let setup = VibrationSetup::new(RATE).expect("a sound rate").with_shaft(Rpm(1797.0)).with_bearing(bearing);
    let mut scratch = vec![0.0; extract::scratch_len(LEN)];
    let mut values = Vec::new();
    for samples in &windows {
        let mut out = Vibration::default();
        extract::vibration(samples, &setup, &plan, &mut scratch, &mut out).expect("the buffers fit");
        assert_eq!(out.valid, mask(VIBRATION_LEN), "every feature is valid");
        values.push(out.values);
    }
    let peer = Peer::find(&windows, bearing);
    if let Some(peer) = &peer {
        peer.check(&values);
    }
    for turn in 0..if peer.is_some() { 3 } else { 1 } {
        println!("turn {}", turn + 1);
        ours(&windows, &setup, &plan);
        if let Some(peer) = &peer {
            peer.run();
        }
    }
    if let Some(peer) = &peer {
        peer.run_features();
    }
    beyond(&windows[0], &plan);
}

/// Set S, the real FFT and the moments.
fn ours(windows: &[Vec<f32>], setup: &VibrationSetup, plan: &Plan<Vec<f32>>) {
    let mut scratch = vec![0.0; extract::scratch_len(LEN)];
    let mut out = Vibration::default();
    let mut next = (0..WINDOWS).cycle();
    measure("kilter set S", || {
        let samples = &windows[next.next().expect("endless")];
        extract::vibration(black_box(samples), setup, plan, &mut scratch, &mut out).expect("the buffers fit");
        black_box(&out);
    });
    let [mut re, mut im, mut a, mut b] = [(); 4].map(|()| vec![0.0f32; LEN / 2]);
    measure("kilter real FFT", || {
        let output = Complex { re: &mut re, im: &mut im };
        let work = Complex { re: &mut a, im: &mut b };
        plan.forward(black_box(&windows[0]), output, work).expect("the buffers fit");
    });
    measure("kilter moments", || {
        black_box(Moments::of(black_box(&windows[0])));
    });
}

/// What goes beyond Set S, each apart.
fn beyond(samples: &[f32], plan: &Plan<Vec<f32>>) {
    let mut scratch = vec![0.0; kurtogram::scratch_len(LEN)];
    measure("kurtogram, 52 bands", || {
        black_box(Kurtogram::of(black_box(samples), plan, &mut scratch).expect("the buffers fit"));
    });
    let whitened = Demodulation::whitened(RATE).expect("a rate");
    measure("whitened envelope", || {
        black_box(demodulate::beats(black_box(samples), RATE, &whitened, plan, &mut scratch).expect("fits").deviation);
    });
    let mut lines = vec![0.0; LEN / 2];
    measure("cepstrum", || {
        cepstrum::real(black_box(samples), plan, &mut scratch, &mut lines).expect("the buffers fit");
    });
    let short = Plan::new(1024, vec![0.0; fft::fast_table_len(1024)]).expect("supported");
    measure("Welch, 7 x 1024", || {
        welch::density(black_box(samples), RATE, &short, &mut scratch, &mut lines).expect("the buffers fit");
    });
    let lines = [16, 32, 48, 64, 80, 96, 112, 128];
    let mut sliding = Sliding::new(1024, lines, vec![0.0; memory_len(1024)]).expect("good lines");
    measure("sliding, 8 lines of 1024", || {
        samples.iter().for_each(|sample| sliding.push(black_box(*sample)).expect("it is finite"));
        black_box(sliding.line(1));
    });
}

/// A shaft, rings at BPFO and noise.
fn window(seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..LEN)
        .map(|i| {
            let turns = i as f32 / RATE.0 * 1797.0 / 60.0;
            let beat = (turns * 3.5848).fract() / 3.5848 / (1797.0 / 60.0);
            let ring = (-900.0 * beat).exp() * (std::f32::consts::TAU * 3200.0 * beat).sin();
            0.05 * (std::f32::consts::TAU * turns).sin() + ring + 0.1 * (uniform() + uniform() + uniform())
        })
        .collect()
}

/// scipy.
struct Peer {
    python: std::ffi::OsString,
    file: std::path::PathBuf,
    orders: [String; 4],
}

impl Peer {
    fn find(windows: &[Vec<f32>], bearing: Orders) -> Option<Self> {
        let python = std::env::var_os("KILTER_PYTHON")?;
        let file = std::env::temp_dir().join(format!("kilter-set-s-{}", std::process::id()));
        let bytes: Vec<u8> = windows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(&file, bytes).expect("a temporary file");
        let orders = [bearing.bpfo, bearing.bpfi, bearing.twice_bsf(), bearing.ftf].map(|o| o.to_string());
        Some(Self { python, file, orders })
    }

    fn call(&self) -> String {
        script(&self.python, "benches/peer/set_s.py", &self.file, &self.orders)
    }

    fn run_features(&self) {
        if let Some(python) = std::env::var_os("KILTER_FEATURES_PYTHON") {
            let path = "benches/peer/features.py";
            print!("{}", script(&python, path, &self.file, &[]));
        }
    }

    fn run(&self) {
        print!("{}", self.call());
    }

    fn check(&self, ours: &[[f32; extract::VALUES]]) {
        self.call();
        let bytes = std::fs::read(self.file.with_file_name({
            let mut name = self.file.file_name().expect("a name").to_owned();
            name.push(".peer");
            name
        }));
        let bytes = bytes.expect("the peer's values");
        let values: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        assert_eq!(values.len(), ours.len() * VIBRATION_LEN);
        let mut worst = 0.0f64;
        for (window, (ours, peer)) in ours.iter().zip(values.chunks(VIBRATION_LEN)).enumerate() {
            for ((feature, ours), peer) in VIBRATION.iter().zip(ours).zip(peer) {
                let error = (f64::from(*ours) - peer).abs() / peer.abs().max(f64::from(feature.scale));
                assert!(error <= 1e-4, "window {window} {}: {ours} for {peer}", feature.name);
                worst = worst.max(error);
            }
        }
        println!("{} values of scipy checked, greatest error {worst:.1e}", values.len());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let mut peer = self.file.clone().into_os_string();
        peer.push(".peer");
        let _ = std::fs::remove_file(peer);
    }
}

/// What a script prints about the windows in the file, on one core.
fn script(python: &OsStr, path: &str, file: &Path, more: &[String]) -> String {
    let one_core = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"].map(|name| (name, "1"));
    let output = Command::new(python).arg(path).arg(file).args(more).envs(one_core).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn measure(what: &str, mut f: impl FnMut()) {
    const PER_ROUND: u32 = 10;
    let mut rounds: Vec<f64> = (0..800)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PER_ROUND {
                f();
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(PER_ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what:28} best {:8.2} us, median {:8.2} us", rounds[0], rounds[rounds.len() / 2]);
}

//! Time per window of Set S and of the real FFT: 4096 samples at 12.8 kHz, 1797 rpm, 6205, every feature valid.
//!
//! `cargo bench -p kilter-signal --bench set_s` prints the best and the median of many rounds on one core.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{hint::black_box, time::Instant};

use kilter_signal::{
    bearing::Orders,
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Complex, Plan},
    moment::Moments,
    table::{VIBRATION_LEN, mask},
};
use kilter_types::{Hertz, Rpm};

fn main() {
    const LEN: usize = 4096;
    let samples: Vec<f32> =
        (0..LEN as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect();
    let plan = Plan::new(LEN, vec![0.0; fft::fast_table_len(LEN)]).expect("supported");
    let setup = VibrationSetup::new(Hertz(12_800.0))
        .expect("a sound rate")
        .with_shaft(Rpm(1797.0))
        .with_bearing(Orders::catalogue("6205").expect("built in"));
    let mut scratch = vec![0.0; extract::scratch_len(LEN)];
    let mut out = Vibration::default();
    measure("set S", || {
        extract::vibration(black_box(&samples), &setup, &plan, &mut scratch, &mut out).expect("the buffers fit");
        black_box(&out);
    });
    assert_eq!(out.valid, mask(VIBRATION_LEN), "every feature is valid");
    let [mut re, mut im, mut a, mut b] = [(); 4].map(|()| vec![0.0f32; LEN / 2]);
    measure("real FFT", || {
        let output = Complex { re: &mut re, im: &mut im };
        let work = Complex { re: &mut a, im: &mut b };
        plan.forward(black_box(&samples), output, work).expect("the buffers fit");
    });
    measure("moments", || {
        black_box(Moments::of(black_box(&samples)));
    });
}

fn measure(what: &str, mut f: impl FnMut()) {
    const PER_ROUND: u32 = 200;
    let mut rounds: Vec<f64> = (0..60)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PER_ROUND {
                f();
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(PER_ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what:10} best {:7.2} us, median {:7.2} us", rounds[0], rounds[rounds.len() / 2]);
}

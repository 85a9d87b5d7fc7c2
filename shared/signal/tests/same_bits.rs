//! F1: the same window gives the same bits on every target; these digests were computed on x86-64 and must come out anywhere.

mod support;

use std::ops::Range;

use kilter_signal::{
    bearing::Orders,
    extract::{Vibration, VibrationSetup},
    fft, lanes,
    moment::{self, Moments},
    table::{VIBRATION_LEN, at},
};
use kilter_types::{Hertz, Rpm};
use support::Analyser;

#[test]
fn a_thousand_simulated_windows_give_the_recorded_bits() {
    let mut digest = Digest::new();
    windows(0..250, |_, window| digest.add(window));
    assert_eq!(digest.0, THOUSAND, "{:#018x}", digest.0);
}

#[test]
fn ten_thousand_simulated_windows_give_the_recorded_bits() {
    let (mut digest, mut count) = (Digest::new(), 0);
    windows(250..2_750, |_, window| {
        digest.add(window);
        count += 1;
    });
    assert_eq!((digest.0, count), (TEN_THOUSAND, 10_000), "{:#018x}", digest.0);
}

#[test]
fn one_kernel_that_rounds_once_less_is_caught_by_the_recorded_digest() {
    let (mut plain, mut fused, mut differ) = (Digest::new(), Digest::new(), 0);
    windows(0..250, |samples, window| {
        // The mean square as the crate has it, and with product and sum joined: what a compiler does that is let to contract.
        let mut rebuilt = *window;
        rebuilt.values[at::RMS] = rms(samples, |y, sum| y * y + sum);
        assert_eq!(rebuilt.values[at::RMS].to_bits(), Moments::of(samples).rms.to_bits(), "this is the crate's kernel");
        plain.add(&rebuilt);
        rebuilt.values[at::RMS] = rms(samples, f32_mul_add);
        differ += u32::from(rebuilt.values[at::RMS].to_bits() != window.values[at::RMS].to_bits());
        fused.add(&rebuilt);
    });
    println!("{differ} of 1000 windows have another last bit in one of 51 values");
    assert_eq!(plain.0, THOUSAND, "rebuilt without a change it is the recorded one");
    assert_ne!(fused.0, THOUSAND, "a build with fused multiply-add passes for the right one");
    assert!(differ > 0);
}

/// The root of the mean square without mean, by a multiply-add of the caller's.
fn rms(samples: &[f32], multiply_add: impl Fn(f32, f32) -> f32) -> f32 {
    let mean = moment::mean(samples);
    let mut sums = [0.0; lanes::LANES];
    for (i, x) in samples.iter().enumerate() {
        sums[i % lanes::LANES] = multiply_add(x - mean, sums[i % lanes::LANES]);
    }
    (lanes::reduce(sums) * (1.0 / samples.len() as f32)).sqrt()
}

/// `y * y + sum` with one rounding.
fn f32_mul_add(y: f32, sum: f32) -> f32 {
    y.mul_add(y, sum)
}

/// Windows of four lengths for each of the seeds, and what is computed of them.
fn windows(seeds: Range<u64>, mut each: impl FnMut(&[f32], &Vibration)) {
    let bearing = Orders::catalogue("6205").expect("built in");
    let setup = VibrationSetup::new(Hertz(3200.0)).expect("a sound rate").with_shaft(Rpm(1797.0)).with_bearing(bearing);
    for len in [1024, 1000, 960, 864] {
        let mut analyser = Analyser::new(len);
        assert!(fft::is_supported(len));
        for seed in seeds.clone() {
            let mut samples = support::noise(len, seed);
            // A drifting sine of whole numbers only: no library function takes part in making the input.
            for (i, x) in samples.iter_mut().enumerate() {
                let phase = (i as u64 * (seed + 3) * 7919) % 65_536;
                *x = 0.25 * *x + 0.125 + phase as f32 / 65_536.0;
            }
            each(&samples, analyser.run(&samples, &setup));
        }
    }
}

/// FNV-1a by whole words.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, window: &Vibration) {
        let bits = window.values[..VIBRATION_LEN].iter().map(|v| u64::from(v.to_bits()));
        for word in bits.chain([window.valid]) {
            self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Change only together with the version of the features that changed.
const THOUSAND: u64 = 0x3cbd_4aaa_d44d_71be;
const TEN_THOUSAND: u64 = 0xf80f_dfe9_4683_5bb5;

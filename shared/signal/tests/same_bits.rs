//! F1: the same window gives the same bits on every target; this digest was computed on x86-64 and must come out anywhere.

mod support;

use kilter_signal::{bearing::Orders, extract::VibrationSetup, fft, table::VIBRATION_LEN};
use kilter_types::{Hertz, Rpm};
use support::Analyser;

#[test]
fn a_thousand_simulated_windows_give_the_recorded_bits() {
    let bearing = Orders::catalogue("6205").expect("built in");
    let setup = VibrationSetup::new(Hertz(3200.0)).expect("a sound rate").with_shaft(Rpm(1797.0)).with_bearing(bearing);
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    for len in [1024, 1000, 960, 864] {
        let mut analyser = Analyser::new(len);
        assert!(fft::is_supported(len));
        for seed in 0..250 {
            let mut samples = support::noise(len, seed);
            // A drifting sine of whole numbers only: no library function takes part in making the input.
            for (i, x) in samples.iter_mut().enumerate() {
                let phase = (i as u64 * (seed + 3) * 7919) % 65_536;
                *x = 0.25 * *x + 0.125 + phase as f32 / 65_536.0;
            }
            let window = analyser.run(&samples, &setup);
            let bits = window.values[..VIBRATION_LEN].iter().map(|v| u64::from(v.to_bits()));
            for word in bits.chain([window.valid]) {
                digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    assert_eq!(digest, RECORDED, "{digest:#018x}");
}

/// Changes only together with the version of the features that changed.
const RECORDED: u64 = 0x3cbd_4aaa_d44d_71be;

//! No input makes what goes beyond Set S panic or lets a NaN out.

mod support;

use kilter_signal::{
    bearing::Orders,
    bearing_sign, cepstrum,
    demodulate::{self, Demodulation},
    fft::{self, Plan},
    impute,
    kurtogram::{self, Kurtogram},
    order,
    verdict::{self, Clear},
    welch,
};
use kilter_types::{Hertz, Quality};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

fn sample() -> impl Strategy<Value = f32> {
    prop_oneof![6 => -100.0f32..100.0, 2 => Just(0.0f32), 1 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::MAX)]
}

fn window() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        2 => proptest::collection::vec(sample(), 64..700),
        1 => (any::<f32>(), 64usize..700).prop_map(|(x, n)| vec![x; n]),
        2 => (-3.0f32..3.0, 1e-30f32..1e18, 64usize..900)
            .prop_map(|(offset, gain, n)| support::noise(n, n as u64).iter().map(|x| offset + gain * x).collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_beyond_set_s_stays_finite(
        mut samples in window(),
        rate in prop_oneof![10.0f32..60_000.0, any::<f32>()],
        shaft in prop_oneof![0.1f32..500.0, any::<f32>()],
        orders in (0.01f32..20.0, 0.01f32..20.0, 0.01f32..20.0, 0.01f32..1.0),
        pulses in proptest::collection::vec(-1.0f64..2.0, 0..12),
    ) {
        let len = fft::longest_len(samples.len()).expect("64 or more");
        let plan = Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("supported");
        let mut scratch = vec![f32::NAN; kurtogram::scratch_len(len)];
        let rate = Hertz(rate);
        let (bpfo, bpfi, bsf, ftf) = orders;
        let bearing = Orders::new(bpfo, bpfi, bsf, ftf).expect("in range");
        for demodulation in Demodulation::candidates(rate) {
            let beats = demodulate::beats(&samples, rate, &demodulation, &plan, &mut scratch).expect("it fits");
            prop_assert!(beats.deviation.is_finite() && beats.amplitudes.lines.iter().all(|a| a.is_finite()));
            let mut work = vec![f32::NAN; len];
            let Some(sign) = bearing_sign::weigh(&beats, Hertz(shaft), &bearing, &mut work) else { continue };
            for comb in sign.combs.iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&comb.share) && comb.likelihood.is_finite(), "{comb:?}");
                prop_assert!(comb.ratio.iter().chain(&comb.amplitude).all(|v| v.is_finite()));
            }
            for finding in verdict::of(&sign, &demodulation, &Clear::default()).findings() {
                prop_assert!((0.0..=1.0).contains(&finding.score));
                prop_assert!(finding.evidence.iter().all(|e| e.value.is_finite()));
            }
        }
        let tree = Kurtogram::of(&samples, &plan, &mut scratch).expect("it fits");
        prop_assert!(tree.nodes.iter().flatten().all(|k| k.is_finite()));
        let mut lines = vec![f32::NAN; len / 2];
        cepstrum::real(&samples, &plan, &mut scratch, &mut lines).expect("it fits");
        prop_assert!(lines.iter().all(|c| c.is_finite()));
        let _ = welch::density(&samples, rate, &plan, &mut scratch, &mut lines);
        let mut even = vec![0.0; 32];
        let _ = order::resample(&samples, rate, &pulses, 8, &mut even);
        let before = samples.clone();
        match impute::fill(&mut samples).quality() {
            Quality::NON_FINITE => prop_assert!(samples.iter().zip(&before).all(|(a, b)| a.to_bits() == b.to_bits())),
            _ => prop_assert!(samples.iter().all(|x| x.is_finite())),
        }
    }
}

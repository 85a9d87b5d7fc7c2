//! No input makes the crate panic or lets a NaN out.

mod support;

use kilter_signal::{
    bearing::Orders,
    diagnose::{self, Average, Limits},
    envelope::Band,
    extract::{self, VALUES, Vibration, VibrationSetup},
    fft::{self, Plan},
    health::{self, HealthLimits},
    reading::{self, Readings},
    temperature,
};
use kilter_types::{Hertz, Micros, Quality, Rpm};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

fn config() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases: 400, failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() }
}

fn sample() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -100.0f32..100.0,
        2 => Just(0.0f32),
        1 => any::<f32>(),
        1 => prop_oneof![Just(f32::MAX), Just(f32::MIN_POSITIVE), Just(1e-42), Just(1e20), Just(f32::NAN)],
    ]
}

fn window() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        3 => proptest::collection::vec(sample(), 0..700),
        1 => (any::<f32>(), 0usize..700).prop_map(|(x, n)| vec![x; n]),
        1 => (-3.0f32..3.0, 1e-30f32..1e18, 16usize..700)
            .prop_map(|(offset, gain, n)| support::noise(n, n as u64).iter().map(|x| offset + gain * x).collect()),
    ]
}

fn all_finite(v: &Vibration) -> bool {
    let lines = [v.lines.bpfo, v.lines.bpfi, v.lines.bsf2, v.lines.ftf];
    let lines = lines.into_iter().flatten().flatten();
    let shaft = v.lines.shaft.into_iter().flatten();
    let strongest = v.lines.strongest.into_iter().flatten();
    v.values.iter().all(|x| x.is_finite())
        && lines
            .chain(shaft)
            .chain(strongest)
            .all(|l| l.frequency.0.is_finite() && l.amplitude.is_finite() && l.snr.is_finite())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn features_and_diagnosis_stay_finite_for_any_window_rate_and_speed(
        samples in window(),
        rate in prop_oneof![1.0f32..60_000.0, any::<f32>()],
        rpm in prop_oneof![1.0f32..20_000.0, any::<f32>()],
        band in proptest::option::of((any::<f32>(), 1.0f32..30_000.0)),
        orders in proptest::option::of((0.01f32..20.0, 0.01f32..20.0, 0.01f32..20.0, 0.01f32..1.0)),
    ) {
        let Ok(mut setup) = VibrationSetup::new(Hertz(rate)) else { return Ok(()) };
        setup = setup.with_shaft(Rpm(rpm));
        if let Some((bpfo, bpfi, bsf, ftf)) = orders {
            setup = setup.with_bearing(Orders::new(bpfo, bpfi, bsf, ftf).expect("in range"));
        }
        if let Some(band) = band.and_then(|(low, high)| Band::new(Hertz(low), Hertz(high), Hertz(rate))) {
            setup = setup.with_band(band);
        }
        let Some(len) = fft::longest_len(samples.len()) else { return Ok(()) };
        let plan = Plan::new(len, vec![0.0; fft::table_len(len)]).expect("supported");
        let mut scratch = vec![f32::NAN; extract::scratch_len(len)];
        let mut out = Vibration::default();
        let spectra = extract::vibration(&samples, &setup, &plan, &mut scratch, &mut out).expect("fits");
        prop_assert!(spectra.acceleration.lines.iter().chain(spectra.envelope.lines).all(|a| a.is_finite()));
        prop_assert!(all_finite(&out), "{out:?}");
        for (i, value) in out.values.iter().enumerate() {
            prop_assert!(out.valid >> i & 1 == 1 || *value == 0.0);
        }
        let mut average = Average::default();
        average.add(&out);
        average.add(&out);
        for v in [out, average.mean()] {
            for finding in diagnose::vibration(&v, &Limits::default()).findings() {
                prop_assert!((0.0..=1.0).contains(&finding.score));
                prop_assert!(finding.evidence.iter().all(|e| e.value.is_finite() && e.limit.is_finite()));
            }
        }
    }

    #[test]
    fn too_little_of_anything_is_refused(len in 0usize..64, room in 0usize..200) {
        let plan = Plan::new(64, [0.0f32; 64]).expect("supported");
        let setup = VibrationSetup::new(Hertz(1000.0)).expect("sound");
        let mut out = Vibration::default();
        let samples = vec![1.0; len];
        let mut scratch = vec![0.0; room];
        let refused = extract::vibration(&samples, &setup, &plan, &mut scratch, &mut out);
        prop_assert!(refused.is_err());
    }

    #[test]
    fn readings_of_any_value_and_time_stay_finite(
        rows in proptest::collection::vec((any::<i64>(), sample()), 0..80),
    ) {
        let (times, values): (Vec<Micros>, Vec<f32>) = rows.into_iter().map(|(t, x)| (Micros(t), x)).unzip();
        let readings = Readings { times: &times, values: &values };
        let mut out = [0.0; VALUES];
        reading::features(&[readings; 12], &mut out);
        prop_assert!(out.iter().all(|x| x.is_finite()));
        let valid = temperature::features(&readings, Some(&readings), &mut out);
        prop_assert!(out.iter().all(|x| x.is_finite()));
        diagnose::temperature(&out, valid, &Limits::default());
        reading::cycle(&values, &mut out);
        prop_assert!(out.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn any_window_gets_a_verdict_on_its_sensor(samples in window(), full in proptest::option::of(any::<f32>())) {
        let limits = HealthLimits { full_scale: full, ..HealthLimits::default() };
        let quality = health::assess(&samples, &limits);
        let broken = samples.iter().any(|x| !x.is_finite());
        prop_assert_eq!(quality.contains(Quality::NON_FINITE), broken);
    }
}

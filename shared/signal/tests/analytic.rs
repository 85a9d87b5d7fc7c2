//! Signals whose features are known in closed form.

mod support;

use std::f64::consts::TAU;

use kilter_signal::{
    bearing::Orders,
    diagnose::{self, Average, Limits},
    extract::VibrationSetup,
    table::at,
};
use kilter_types::{Cause, Hertz, Rpm};
use support::{Analyser, noise};

fn sine(len: usize, rate_hz: f64, frequency_hz: f64, amplitude: f64) -> Vec<f32> {
    let step = TAU * frequency_hz / rate_hz;
    (0..len).map(|i| (amplitude * (step * i as f64).sin()) as f32).collect()
}

fn setup(rate_hz: f32) -> VibrationSetup {
    VibrationSetup::new(Hertz(rate_hz)).expect("a sound rate")
}

fn bearing_6205() -> Orders {
    Orders::catalogue("6205").expect("built in")
}

#[track_caller]
fn near(got: f32, expected: f32, bound: f32) {
    assert!((got - expected).abs() <= bound, "{got} for {expected}, bound {bound}");
}

#[test]
fn fifty_hertz_of_two_g_is_44_145_millimetres_per_second() {
    // One second holds whole periods, so nothing leaks: 2 g / (2 pi 50 Hz) / sqrt 2.
    let mut analyser = Analyser::new(20_480);
    let window = analyser.run(&sine(20_480, 20_480.0, 50.0, 2.0), &setup(20_480.0));
    near(window.values[at::VELOCITY_RMS], 44.145, 44.145e-4);
    near(window.values[at::PEAK_1_FREQUENCY], 50.0, 1e-3);
    near(window.values[at::PEAK_1_AMPLITUDE], 2.0, 2e-4);
}

#[test]
fn a_sine_between_two_lines_is_read_at_its_own_place_and_height() {
    let mut analyser = Analyser::new(4096);
    for offset in [0.0, 0.13, 0.5, 0.77] {
        let frequency = (200.0 + offset) * 12_800.0 / 4096.0;
        let window = analyser.run(&sine(4096, 12_800.0, frequency, 0.7), &setup(12_800.0));
        // The Hann interpolation neglects the mirror line, which is 400 lines away.
        near(window.values[at::PEAK_1_FREQUENCY], frequency as f32, 0.02);
        near(window.values[at::PEAK_1_AMPLITUDE], 0.7, 7e-4);
        near(window.values[at::SPECTRAL_CENTROID], frequency as f32, 0.5);
        let crossings = window.values[at::ZERO_CROSSING_RATE];
        near(crossings, 2.0 * frequency as f32, 2.0 * 12_800.0 / 4096.0);
    }
}

#[test]
fn the_bands_hold_the_whole_power_of_noise() {
    let mut analyser = Analyser::new(16_384);
    let window = analyser.run(&noise(16_384, 3), &setup(12_800.0));
    let power: f32 = (0..16).map(|i| window.values[at::BAND_RMS_00 + i].powi(2)).sum();
    // The taper weighs the window's middle: a relative spread of about 1/sqrt(n).
    near(power.sqrt(), window.values[at::RMS], 0.02);
    // The sum of twelve uniform numbers has 2.9; four standard errors.
    near(window.values[at::KURTOSIS], 2.9, 0.16);
    near(window.values[at::ENVELOPE_KURTOSIS], 3.245, 0.2);
    // Power of noise is exponential: 1 - (1 - gamma)/ln(lines) nats' share.
    assert!((0.93..0.98).contains(&window.values[at::SPECTRAL_ENTROPY]));
}

#[test]
fn an_amplitude_modulated_tone_has_its_depth_as_envelope_line() {
    // Carrier 3 kHz of 1 g, modulated by 40 % at BPFO: e = 1 + 0.4 cos.
    let (rate, shaft) = (12_000.0, 30.0);
    let bpfo = f64::from(bearing_6205().bpfo) * shaft;
    let samples: Vec<f32> = (0..12_000)
        .map(|i| {
            let t = i as f64 / rate;
            ((1.0 + 0.4 * (TAU * bpfo * t).cos()) * (TAU * 3000.0 * t).cos()) as f32
        })
        .collect();
    let setup = setup(12_000.0).with_shaft(Rpm(1800.0)).with_bearing(bearing_6205());
    let mut analyser = Analyser::new(12_000);
    let window = analyser.run(&samples, &setup);
    near(window.values[at::ENVELOPE_RMS], 1.08f32.sqrt(), 2e-3);
    let lines = window.lines.bpfo.expect("speed and bearing are known");
    // The line is read on the grid: a Hann lobe half a line off loses at most 15 %.
    assert!((0.34..=0.4005).contains(&lines[0].amplitude), "{}", lines[0].amplitude);
    near(lines[0].frequency.0, bpfo as f32, 0.51);
}

#[test]
fn a_bearing_line_ten_decibels_under_the_noise_is_found() {
    let (rate, shaft) = (12_000.0f64, 30.0);
    let bearing = bearing_6205();
    let setup = setup(12_000.0).with_shaft(Rpm(1800.0)).with_bearing(bearing);
    let mut analyser = Analyser::new(12_000);
    let seconds = 60;
    for (order, cause) in [(bearing.bpfo, Cause::OuterRace), (bearing.bpfi, Cause::InnerRace)] {
        let samples = buried(f64::from(order) * shaft, rate, 12_000 * seconds);
        let mut average = Average::default();
        let (mut right, mut wrong) = (0, 0);
        for (i, samples) in samples.chunks_exact(12_000).enumerate() {
            let window = analyser.run(samples, &setup);
            average.add(window);
            match diagnose::vibration(window, &Limits::default()).cause() {
                named if named == cause => right += 1,
                Cause::Unclear => {}
                _ => wrong += 1,
            }
            if average.windows() == 10 {
                let found = average.diagnose(&Limits::default());
                assert_eq!(found.cause(), cause, "ten seconds up to {i}: {found:?}");
                average = Average::default();
            }
        }
        println!("{}: {right} right and {wrong} wrong of {seconds} seconds", cause.as_str());
        assert!(right * 2 >= seconds && wrong == 0);
    }
}

/// Decaying rings at this rate of hits, 10 dB under normal noise of deviation 1.
fn buried(hits_hz: f64, rate_hz: f64, len: usize) -> Vec<f32> {
    let mut ring = vec![0.0f32; len];
    let mut hit = 0.0f64;
    while (hit as usize) < len {
        for (t, x) in ring.iter_mut().enumerate().skip(hit.ceil() as usize).take(120) {
            let age = (t as f64 - hit) / rate_hz;
            *x += ((-age * 900.0).exp() * (TAU * 3200.0 * age).sin()) as f32;
        }
        hit += rate_hz / hits_hz;
    }
    let power: f32 = ring.iter().map(|x| x * x).sum::<f32>() / len as f32;
    let gain = (0.1 / power).sqrt();
    noise(len, 11).iter().zip(&ring).map(|(n, r)| n + gain * r).collect()
}

#[test]
fn noise_alone_names_no_cause() {
    let setup = setup(12_000.0).with_shaft(Rpm(1800.0)).with_bearing(bearing_6205());
    let mut analyser = Analyser::new(12_000);
    let mut named = 0;
    for seed in 0..300 {
        let window = analyser.run(&noise(12_000, 1000 + seed), &setup);
        named += usize::from(diagnose::vibration(window, &Limits::default()).cause() != Cause::Unclear);
    }
    println!("named on noise: {named} of 300 one-second windows");
    assert_eq!(named, 0);
}

/// Velocities in mm/s RMS at orders of a 25 Hz shaft, in noise, as g at 5 kHz.
fn shaft_lines(velocities: &[(f64, f64)], seed: u64) -> Vec<f32> {
    let mut samples: Vec<f32> = noise(8192, seed).iter().map(|x| x * 0.01).collect();
    for (order, velocity) in velocities {
        let frequency = order * 25.0;
        let amplitude = velocity * 2f64.sqrt() * TAU * frequency / 9806.65;
        let phase = order * 1.7;
        for (i, x) in samples.iter_mut().enumerate() {
            *x += (amplitude * (TAU * frequency * i as f64 / 5000.0 + phase).sin()) as f32;
        }
    }
    samples
}

#[test]
fn shaft_faults_are_told_apart_and_name_no_bearing() {
    let cases: [(&[(f64, f64)], Cause); 6] = [
        (&[(1.0, 6.0), (2.0, 0.5)], Cause::Unbalance),
        (&[(1.0, 3.0), (2.0, 4.0), (3.0, 0.5)], Cause::Misalignment),
        (&[(0.5, 2.0), (1.0, 4.0), (1.5, 1.0), (2.0, 1.5), (3.0, 1.2)], Cause::Looseness),
        (&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.5), (4.0, 1.2), (5.0, 1.0)], Cause::Looseness),
        (&[(1.0, 1.0), (2.0, 0.2)], Cause::Unclear),
        (&[], Cause::Unclear),
    ];
    let setup = setup(5000.0).with_shaft(Rpm(1500.0)).with_bearing(bearing_6205());
    let mut analyser = Analyser::new(8192);
    for (lines, cause) in cases {
        for seed in 0..10 {
            let window = analyser.run(&shaft_lines(lines, seed), &setup);
            let found = diagnose::vibration(window, &Limits::default());
            assert_eq!(found.cause(), cause, "{lines:?}: {found:?}");
            assert!(found.findings().len() <= 1, "{lines:?}: {found:?}");
        }
    }
}

/// Hits at `hits_hz` whose distances vary by half a per cent, each as loud as `loudness` says at its time, ringing at `ring_hz`, in noise.
fn struck(hits_hz: f64, ring_hz: f64, loudness: impl Fn(f64) -> f64, seed: u64) -> Vec<f32> {
    let jitter = noise(2000, seed + 77);
    let mut samples: Vec<f32> = noise(12_000, seed).iter().map(|x| 0.15 * x).collect();
    let mut time = 0.0f64;
    for wobble in jitter {
        let loud = loudness(time);
        for (t, x) in samples.iter_mut().enumerate().skip((time * 12_000.0).ceil() as usize).take(150) {
            let age = t as f64 / 12_000.0 - time;
            *x += (loud * (-age * 700.0).exp() * (TAU * ring_hz * age).sin()) as f32;
        }
        time += (1.0 + 0.005 * f64::from(wobble)) / hits_hz;
        if time >= 1.0 {
            break;
        }
    }
    samples
}

#[test]
fn each_part_of_a_bearing_is_named_by_its_own_beat() {
    let bearing = bearing_6205();
    let setup = setup(12_000.0).with_shaft(Rpm(1800.0)).with_bearing(bearing);
    let mut analyser = Analyser::new(12_000);
    let beat = |order: f32| f64::from(order) * 30.0;
    let zone = |frequency: f64| move |t: f64| 1.0 + 0.7 * (TAU * frequency * t).cos();
    let (mut right, mut total) = (0, 0);
    for seed in 0..20 {
        for ring_hz in [2400.0, 3500.0, 4600.0] {
            let cases = [
                (struck(beat(bearing.bpfo), ring_hz, |_| 1.0, seed), Cause::OuterRace),
                (struck(beat(bearing.bpfi), ring_hz, zone(30.0), seed), Cause::InnerRace),
                (struck(beat(bearing.twice_bsf()), ring_hz, zone(beat(bearing.ftf)), seed), Cause::RollingElement),
                (struck(beat(bearing.ftf), ring_hz, |_| 1.5, seed), Cause::Cage),
            ];
            for (samples, cause) in cases {
                let found = diagnose::vibration(analyser.run(&samples, &setup), &Limits::default());
                assert!([cause, Cause::Unclear].contains(&found.cause()), "{cause:?} seed {seed}: {found:?}");
                right += usize::from(found.cause() == cause);
                total += 1;
            }
        }
    }
    println!("named: {right} of {total} windows, none wrongly");
    assert!(right * 20 >= total * 19, "{right} of {total}");
}

#[test]
fn a_gear_whose_mesh_beats_with_the_shaft_names_no_bearing() {
    let bearing = bearing_6205();
    let setup = setup(12_000.0).with_shaft(Rpm(1800.0)).with_bearing(bearing);
    let mut analyser = Analyser::new(12_000);
    for seed in 0..50 {
        // 97 teeth at 30 Hz, a wheel with one bad tooth: once per revolution the mesh is up to twice as loud.
        let mut samples = noise(12_000, seed);
        for (i, x) in samples.iter_mut().enumerate() {
            let turns = i as f64 * 30.0 / 12_000.0;
            let bad = (-40.0 * (turns.fract() - 0.5).powi(2)).exp();
            *x = (0.2 * f64::from(*x) + (1.0 + bad) * (TAU * 97.0 * turns).sin()) as f32;
        }
        let found = diagnose::vibration(analyser.run(&samples, &setup), &Limits::default());
        assert_eq!(found.cause(), Cause::Unclear, "seed {seed}: {found:?}");
    }
}

#[test]
fn shifting_and_scaling_the_window_does_what_it_must() {
    let setup = setup(12_800.0).with_shaft(Rpm(1797.0)).with_bearing(bearing_6205());
    let mut analyser = Analyser::new(4096);
    let samples = noise(4096, 9);
    let base = *analyser.run(&samples, &setup);
    // Every value of Set S is there, with this window, rate and speed.
    assert_eq!(base.valid, kilter_signal::table::mask(kilter_signal::table::VIBRATION_LEN));
    let scaled: Vec<f32> = samples.iter().map(|x| 4.0 * x).collect();
    let scaled = *analyser.run(&scaled, &setup);
    let shifted: Vec<f32> = samples.iter().map(|x| x + 16.0).collect();
    let shifted = *analyser.run(&shifted, &setup);
    for (i, feature) in kilter_signal::table::VIBRATION.iter().enumerate() {
        let factor = if matches!(feature.unit, "g" | "mm/s") { 4.0 } else { 1.0 };
        // A power of four (its root is one of two) scales without rounding.
        assert_eq!(scaled.values[i], factor * base.values[i], "{}", feature.name);
        let moved = if i == at::MEAN { 16.0 } else { 0.0 };
        let bound = 1e-4 * f32::max(base.values[i].abs(), feature.scale);
        near(shifted.values[i] - moved, base.values[i], bound);
    }
}

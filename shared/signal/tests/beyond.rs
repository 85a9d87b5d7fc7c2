//! What goes beyond Set S, on signals whose answer is known in closed form.

mod support;

use std::f64::consts::TAU;

use kilter_signal::{
    cepstrum,
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
    gear::Mesh,
    kurtogram::{self, Kurtogram},
    order::{self, OrderError},
    welch,
};
use kilter_types::{Cause, Hertz};

fn plan(len: usize) -> Plan<Vec<f32>> {
    Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("supported")
}

#[test]
fn welch_holds_the_mean_square_of_noise_and_of_a_tone() {
    let plan = plan(1024);
    let mut scratch = vec![0.0; welch::scratch_len(1024)];
    let mut density = vec![0.0; 512];
    let rate = Hertz(8192.0);
    let noise = support::noise(200_000, 4);
    let segments = welch::density(&noise, rate, &plan, &mut scratch, &mut density).expect("long enough");
    assert_eq!(segments, 1 + (200_000 - 1024) / 512);
    let total: f32 = density.iter().sum::<f32>() * 8.0;
    // Variance 1; 200 000 samples leave a relative error of about 0.4 %.
    assert!((total - 1.0).abs() < 0.02, "{total}");
    let tone: Vec<f32> = (0..50_000).map(|i| 3.0 * (TAU * 1000.5 * f64::from(i) / 8192.0).sin() as f32).collect();
    welch::density(&tone, rate, &plan, &mut scratch, &mut density).expect("long enough");
    let around: f32 = density[115..136].iter().sum::<f32>() * 8.0;
    assert!((around - 4.5).abs() < 4.5e-3, "{around} for 9/2");
}

#[test]
fn the_kurtogram_picks_the_planted_resonance_and_leaves_noise_alone() {
    let plan = plan(12_000);
    let mut scratch = vec![0.0; kurtogram::scratch_len(12_000)];
    let rate = Hertz(12_000.0);
    let mut work = [0.0; 8];
    for resonance_hz in [1100.0, 2300.0, 3400.0, 5300.0] {
        let trees: Vec<Kurtogram> = (0..8u64)
            .map(|seed| {
                let mut samples = support::noise(12_000, seed);
                for start in (0..12_000).step_by(311) {
                    for (t, x) in samples.iter_mut().skip(start).take(200).enumerate() {
                        let age = t as f64 / 12_000.0;
                        *x += (4.0 * (-age * 800.0).exp() * (TAU * resonance_hz * age).sin()) as f32;
                    }
                }
                Kurtogram::of(&samples, &plan, &mut scratch).expect("it fits")
            })
            .collect();
        let node = Kurtogram::median(&trees, &mut work).choose(rate, Hertz(300.0)).expect("impulses stand out");
        println!("{resonance_hz}: {:.0} to {:.0} Hz, kurtosis {:.2}", node.low.0, node.high.0, node.kurtosis);
        assert!(f64::from(node.low.0) <= resonance_hz && resonance_hz <= f64::from(node.high.0), "{node:?}");
        assert!(node.kurtosis > 0.5 && node.high.0 - node.low.0 <= 2000.0, "{node:?}");
    }
    let quiet = Kurtogram::of(&support::noise(12_000, 1), &plan, &mut scratch).expect("it fits");
    let node = quiet.choose(rate, Hertz(300.0));
    // Kurtosis over 375 points of noise spreads by about 0.2; the greatest of 52 stays below three times that.
    assert!(node.is_none_or(|n| n.kurtosis < 0.7), "{node:?}");
}

#[test]
fn a_family_of_lines_is_one_peak_of_the_cepstrum_at_its_period() {
    // Echoes: x + 0.6 x(t - 400) has ripples of period 1/400 in its log spectrum, so a peak of 0.3 at quefrency 400.
    let noise = support::noise(16_384 + 400, 9);
    let samples: Vec<f32> = (0..16_384).map(|i| noise[i + 400] + 0.6 * noise[i]).collect();
    let mut cepstrum = vec![0.0; 8192];
    cepstrum::real(&samples, &plan(16_384), &mut vec![0.0; 32_768], &mut cepstrum).expect("it fits");
    let peak = (50..8192).max_by(|a, b| cepstrum[*a].total_cmp(&cepstrum[*b])).expect("lines");
    assert_eq!(peak, 400);
    assert!((cepstrum[400] - 0.3).abs() < 0.03, "{}", cepstrum[400]);
}

/// A shaft from 20 Hz to 24 Hz within ten seconds: its angle and its pulses.
fn ramp(seconds: f64) -> (impl Fn(f64) -> f64, Vec<f64>) {
    let turns = |t: f64| 20.0 * t + 0.2 * t * t;
    let pulses = (0..).map(|n| {
        let n = f64::from(n);
        (-20.0 + (400.0 + 0.8 * n).sqrt()) / 0.4
    });
    (turns, pulses.take_while(move |t| *t < seconds).collect())
}

#[test]
fn a_line_is_narrow_in_orders_after_a_ramp_of_twenty_per_cent() {
    let rate = 5000.0;
    let (turns, pulses) = ramp(10.0);
    let samples: Vec<f32> = (0..50_000).map(|i| (TAU * 3.585 * turns(f64::from(i) / rate)).sin() as f32).collect();
    let per_rev = 64;
    let len = fft::longest_len(order::available(samples.len(), Hertz(5000.0), &pulses, per_rev)).expect("long");
    let mut even = vec![0.0; len];
    order::resample(&samples, Hertz(5000.0), &pulses, per_rev, &mut even).expect("the pulses hold it");
    let spectrum = |samples: &[f32], rate: f32| {
        let plan = plan(fft::longest_len(samples.len()).expect("long"));
        let setup = VibrationSetup::new(Hertz(rate)).expect("a rate");
        let mut scratch = vec![0.0; extract::scratch_len(plan.len())];
        let mut out = Vibration::default();
        let spectra = extract::vibration(samples, &setup, &plan, &mut scratch, &mut out).expect("it fits");
        let lines = spectra.acceleration.lines.to_vec();
        let top = (2..lines.len()).max_by(|a, b| lines[*a].total_cmp(&lines[*b])).expect("lines");
        let above = lines.iter().filter(|a| **a >= 0.5 * lines[top]).count();
        (top as f32 * spectra.acceleration.spacing_hz, lines[top], above)
    };
    let (order, amplitude, width) = spectrum(&even, per_rev as f32);
    let (_, smeared, spread) = spectrum(&samples, 5000.0);
    println!(
        "in orders: {order} of amplitude {amplitude}, {width} lines wide; in hertz {smeared}, {spread} lines wide"
    );
    assert!((order - 3.585).abs() < 0.01 && amplitude > 0.84 && width <= 2, "{order} {amplitude} {width}");
    assert!(smeared < 0.3 && spread > 40, "{smeared} {spread}");
}

#[test]
fn pulses_that_cannot_be_are_refused() {
    let mut out = [0.0; 10];
    let samples = [0.0; 100];
    let refused = |pulses: &[f64], out: &mut [f32]| order::resample(&samples, Hertz(100.0), pulses, 5, out).err();
    assert_eq!(refused(&[0.1, 0.2, 0.15, 0.3], &mut out), Some(OrderError::Pulses));
    assert_eq!(refused(&[0.1, 0.2], &mut out), Some(OrderError::Pulses));
    assert_eq!(refused(&[0.1, 0.2, 0.3, 0.4], &mut out), Some(OrderError::Revolutions { available: 5 }));
}

#[test]
fn a_damaged_tooth_shows_as_sidebands_of_the_mesh_and_even_wear_does_not() {
    let len = 12_800;
    let plan = plan(len);
    let setup = VibrationSetup::new(Hertz(12_800.0)).expect("a rate");
    let mut scratch = vec![0.0; extract::scratch_len(len)];
    let mut out = Vibration::default();
    let mut work = vec![0.0; 1000];
    for (depth, named) in [(0.0, Cause::Unclear), (0.1, Cause::Unclear), (0.6, Cause::Gear)] {
        let mut samples = support::noise(len, 8);
        for (i, x) in samples.iter_mut().enumerate() {
            let turns = i as f64 * 25.0 / 12_800.0;
            let mesh = (1.0 + depth * (TAU * turns).cos()) * (TAU * 37.0 * turns).sin();
            *x = 0.05 * *x + 0.2 * mesh as f32;
        }
        let spectra = extract::vibration(&samples, &setup, &plan, &mut scratch, &mut out).expect("it fits");
        let mesh = Mesh::read(&spectra.acceleration, Hertz(25.0), 37, &mut work).expect("resolved");
        // A modulation of depth d has sidebands of d/2; noise of 50 mg leaves a few 1e-3.
        assert!((f64::from(mesh.ratio()) - depth / 2.0).abs() < 0.01, "{}", mesh.ratio());
        assert!((mesh.mesh.amplitude - 0.2).abs() < 2e-3, "{}", mesh.mesh.amplitude);
        assert_eq!(mesh.diagnose(5.0).cause(), named, "depth {depth}");
    }
}

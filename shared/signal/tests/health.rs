//! The sensor's own faults planted into clean windows: each is named, and clean windows are clean.

mod support;

use kilter_machine::{Axis, Machine, MachineSpec};
use kilter_signal::{
    health::{self, HealthLimits},
    impute,
};
use kilter_types::Quality;

/// Clean windows of noise, of a simulated machine, and of the recorded bearings where the data folder is there.
fn clean() -> Vec<Vec<f32>> {
    let mut windows: Vec<Vec<f32>> = (0..100).map(|seed| support::noise(4096, seed)).collect();
    let mut machine = Machine::new(MachineSpec::named("clean"), 3).expect("a sound spec");
    for _ in 0..100 {
        let mut window = vec![0.0; 4096];
        machine.vibration(Axis::Vertical, &mut window);
        windows.push(window);
    }
    if let Some(root) = support::data(0) {
        let meta = support::json(root.join("cwru/meta.json"));
        for name in meta.as_object().expect("an object").keys() {
            let samples = support::npy(root.join(format!("cwru/{name}.npy")));
            windows.extend(samples.chunks_exact(4096).map(<[f32]>::to_vec));
        }
    }
    windows
}

type Plant = fn(&mut [f32]);

#[test]
fn each_planted_fault_is_named_and_fewer_than_one_clean_window_in_a_hundred_is_blamed() {
    let windows = clean();
    let blamed = windows.iter().filter(|w| health::assess(w, &HealthLimits::default()) != Quality::GOOD).count();
    println!("clean: {blamed} of {} blamed", windows.len());
    assert!(blamed * 100 < windows.len(), "{blamed} of {}", windows.len());
    let faults: [(&str, Quality, Plant); 7] = [
        ("stuck", Quality::STUCK, |w| {
            let last = w[1500];
            w[1500..].fill(last);
        }),
        ("dropout", Quality::DROPOUT, |w| w[700..900].fill(0.0)),
        ("saturated", Quality::SATURATED, |w| {
            let top = w.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let mut sizes: Vec<f32> = w.iter().map(|x| x.abs()).collect();
            sizes.sort_by(f32::total_cmp);
            // Gain that drives a tenth of the samples into the stop.
            let gain = top / sizes[sizes.len() * 9 / 10];
            w.iter_mut().for_each(|x| *x = (*x * gain).clamp(-top, top));
        }),
        ("noise floor", Quality::NOISE_FLOOR, |w| w.iter_mut().for_each(|x| *x *= 1e-7)),
        ("each value twice", Quality::WRONG_RATE, |w| (0..w.len() / 2).for_each(|i| w[2 * i + 1] = w[2 * i])),
        ("each value three times", Quality::WRONG_RATE, |w| {
            let slow = w.to_vec();
            (0..w.len()).for_each(|i| w[i] = slow[i / 3]);
        }),
        ("missing", Quality::NON_FINITE, |w| w[2000..2050].fill(f32::NAN)),
    ];
    for (name, flag, plant) in faults {
        let named = windows.iter().filter(|window| {
            let mut window = (*window).clone();
            plant(&mut window);
            health::assess(&window, &HealthLimits::default()).contains(flag)
        });
        let named = named.count();
        println!("{name}: {named} of {} named", windows.len());
        assert_eq!(named, windows.len(), "{name}");
    }
}

#[test]
fn a_sensor_whose_rate_does_not_divide_the_declared_one_is_named_where_its_steps_are_fine() {
    let windows = clean();
    for part in [1.6f64, 2.5, 3.7] {
        let named = windows.iter().map(|window| {
            let held: Vec<f32> = (0..window.len()).map(|i| window[(i as f64 / part) as usize]).collect();
            health::assess(&held, &HealthLimits::default()).contains(Quality::WRONG_RATE)
        });
        let named: Vec<bool> = named.collect();
        let fine = named.iter().take(200).filter(|named| **named).count();
        let recorded = named.iter().skip(200).filter(|named| **named).count();
        // Recorders of few bits often measure the same value twice: then the runs lose their pattern.
        println!(
            "each value {part} times: {fine} of 200 simulated, {recorded} of {} recorded named",
            named.len() - 200
        );
        assert_eq!(fine, 200, "{part}");
    }
}

#[test]
fn filled_holes_change_the_values_by_less_than_the_noise() {
    for window in clean().into_iter().skip(100).take(50) {
        let mut holed = window.clone();
        (0..8).for_each(|i| holed[200 + 450 * i] = f32::NAN);
        assert_eq!(impute::fill(&mut holed).quality(), Quality::IMPUTED);
        let rms = |w: &[f32]| (w.iter().map(|x| x * x).sum::<f32>() / w.len() as f32).sqrt();
        assert!((rms(&holed) / rms(&window) - 1.0).abs() < 0.01);
    }
}

//! The spectra of simulated faults against their closed forms, with a discrete Fourier sum written here.

use kilter_machine::{Axis, BearingSpec, FaultChange, FaultKind, GearSpec, Growth, Machine, MachineSpec};

#[test]
fn unbalance_is_a_line_at_shaft_speed_that_grows_with_speed_squared() {
    for rpm in [750.0, 1500.0, 3000.0] {
        let mut spec = quiet();
        spec.unbalance_g = 0.1;
        spec.load_changes = vec![kilter_machine::LoadChange { at_s: 0.0, rpm, load: 1.0, ramp_s: 0.0 }];
        let signal = record(spec, Axis::Horizontal, 4.0);
        let expected = 0.1 * (rpm / 1500.0) * (rpm / 1500.0);
        // f32 samples: 1e-6 of the largest value.
        close(line(&signal, rpm / 60.0), expected, 1e-5, "1x");
        close(line(&signal, rpm / 30.0), 0.0, 1e-5, "2x");
    }
}

#[test]
fn misalignment_shows_at_twice_shaft_speed_and_most_of_it_axially() {
    let with = |axis| record(faulty(quiet(), FaultKind::Misalignment), axis, 4.0);
    let (axial, radial) = (with(Axis::Axial), with(Axis::Horizontal));
    close(line(&axial, 50.0), 0.4, 1e-5, "axial 2x");
    close(line(&axial, 25.0), 0.12, 1e-5, "axial 1x");
    close(line(&radial, 50.0), 0.24, 1e-5, "radial 2x");
}

#[test]
fn looseness_shows_halves_and_multiples_of_shaft_speed() {
    let signal = record(faulty(quiet(), FaultKind::Looseness), Axis::Vertical, 4.0);
    let expected = [0.06, 0.12, 0.10, 0.14, 0.08, 0.12, 0.05, 0.10, 0.03, 0.07];
    for (half, amplitude) in expected.into_iter().enumerate() {
        close(line(&signal, 12.5 * (half as f64 + 1.0)), amplitude, 1e-5, "half order");
    }
}

#[test]
fn a_worn_gear_shows_its_mesh_with_shaft_sidebands() {
    let mut spec = quiet();
    spec.gear = Some(GearSpec { teeth: 37, mesh_g: 0.1 });
    let signal = record(faulty(spec, FaultKind::Gear), Axis::Horizontal, 4.0);
    let mesh_hz = 37.0 * 25.0;
    close(line(&signal, mesh_hz), 0.3, 1e-5, "mesh");
    close(line(&signal, mesh_hz + 25.0), 0.3 * 0.85 / 2.0, 1e-5, "upper sideband");
    close(line(&signal, mesh_hz - 25.0), 0.3 * 0.85 / 2.0, 1e-5, "lower sideband");
}

#[test]
fn an_outer_race_without_slip_has_the_line_spectrum_of_a_ringing_resonance() {
    // Eight balls and a ratio of 1/4 make BPFO = 3x = 75 Hz, a whole number of cycles in 4 s.
    let spec = faulty(regular(), FaultKind::OuterRace);
    let bearing = spec.bearing.clone();
    let signal = record(spec, Axis::Vertical, 6.0);
    let settled = &signal[(2.0 * RATE_HZ) as usize..];
    for multiple in [1.0, 10.0, 30.0, 40.0, 45.0, 46.0, 60.0] {
        let f = 75.0 * multiple;
        let expected = ringing_line(&bearing, 75.0, bearing.impact_g, f);
        // Sampling folds what lies above 12.8 kHz back; the closed form is the continuous one: 6 % of the line plus 1 mg.
        close(line(settled, f), expected, 0.06 * expected + 1e-3, "resonance line");
        close(line(settled, f + 12.5), 0.0, 1e-3, "between the lines");
    }
}

#[test]
fn a_cage_rings_once_per_turn_of_the_cage_with_its_own_softness() {
    // A ratio of 1/4 makes the cage turn 3/8 times per revolution, 9.375 Hz: thirty whole cycles in 3.2 s.
    let spec = faulty(regular(), FaultKind::Cage);
    let bearing = spec.bearing.clone();
    let signal = record(spec, Axis::Vertical, 5.2);
    let settled = &signal[(2.0 * RATE_HZ) as usize..];
    for multiple in [1.0, 8.0, 40.0, 200.0, 320.0, 360.0, 363.0, 400.0, 480.0] {
        let f = 9.375 * multiple;
        let expected = ringing_line(&bearing, 9.375, 0.7 * bearing.impact_g, f);
        // What sampling folds back falls between these lines, so the closed form holds to a hundredth.
        close(line(settled, f), expected, 0.01 * expected, "cage line");
        close(line(settled, f + 9.375 / 2.0), 0.0, 0.001 * expected, "between the lines");
    }
    // The inner race's 125 Hz is no multiple of the cage's (the outer race's is its eighth): nothing beats there.
    let envelope: Vec<f32> = settled.iter().map(|x| x * x).collect();
    assert!(line(&envelope, 125.0) < 0.01 * line(&envelope, 9.375));
}

#[test]
fn each_bearing_defect_shows_its_own_frequency_in_the_envelope() {
    let cases = [
        (FaultKind::OuterRace, kilter_machine::Defect::OuterRace),
        (FaultKind::InnerRace, kilter_machine::Defect::InnerRace),
        (FaultKind::RollingElement, kilter_machine::Defect::RollingElement),
    ];
    for (kind, own) in cases {
        let mut spec = MachineSpec::named("bearing");
        spec.rate_hz = RATE_HZ;
        spec.wander_rev = 0.0;
        let bearing = spec.bearing.clone();
        let signal = record(faulty(spec, kind), Axis::Vertical, 4.0);
        let squared: Vec<f32> = signal.iter().map(|x| x * x).collect();
        let mean = squared.iter().sum::<f32>() / squared.len() as f32;
        let envelope: Vec<f32> = squared.iter().map(|x| x - mean).collect();
        let peak = |order: f64| {
            let centre = order * 25.0;
            let bins = (-8..=8).map(|bin| line(&envelope, centre * (1.0 + 0.001 * f64::from(bin))));
            bins.fold(0.0, f64::max)
        };
        let others = cases.iter().filter(|(other, _)| *other != kind).map(|(_, defect)| peak(bearing.order(*defect)));
        let loudest_other = others.fold(0.0, f64::max);
        let own = peak(bearing.order(own));
        assert!(own > 2.0 * loudest_other, "{kind:?}: {own} against {loudest_other}");
    }
}

#[test]
fn an_inner_race_has_sidebands_at_shaft_speed_and_an_outer_race_has_none() {
    let sideband_share = |kind, order: f64| {
        let signal = record(faulty(regular(), kind), Axis::Vertical, 6.0);
        let envelope: Vec<f32> = signal[(2.0 * RATE_HZ) as usize..].iter().map(|x| x * x).collect();
        line(&envelope, (order + 1.0) * 25.0) / line(&envelope, order * 25.0)
    };
    // Eight balls and a ratio of 1/4: BPFO 3x, BPFI 5x.
    assert!(sideband_share(FaultKind::InnerRace, 5.0) > 0.3);
    assert!(sideband_share(FaultKind::OuterRace, 3.0) < 0.01);
}

#[test]
fn slip_widens_the_lines_of_a_bearing_but_not_of_the_shaft() {
    let amplitude = |slip: f64| {
        let mut spec = faulty(regular(), FaultKind::OuterRace);
        spec.bearing.slip = slip;
        let signal = record(spec, Axis::Vertical, 10.0);
        line(&signal[(2.0 * RATE_HZ) as usize..], 75.0 * 45.0)
    };
    assert!(amplitude(0.01) < 0.5 * amplitude(0.0));
}

#[test]
fn noise_has_the_declared_standard_deviation() {
    let mut spec = quiet();
    spec.noise_g = 0.05;
    spec.resonant_noise_g = 0.1;
    spec.load_changes = vec![kilter_machine::LoadChange { at_s: 0.0, rpm: 1500.0, load: 1.0, ramp_s: 0.0 }];
    let signal = record(spec, Axis::Axial, 20.0);
    let mean_square = signal.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / signal.len() as f64;
    // 512,000 samples, a tenth of them independent in the resonance: 2 % is above five standard errors.
    close(mean_square.sqrt(), (0.05f64 * 0.05 + 0.1 * 0.1).sqrt(), 0.02 * 0.112, "rms");
}

#[test]
fn cavitation_raises_the_upper_half_of_the_spectrum() {
    let mut spec = quiet();
    spec.noise_g = 0.01;
    let healthy = record(spec.clone(), Axis::Axial, 4.0);
    let cavitating = record(faulty(spec, FaultKind::Cavitation), Axis::Axial, 4.0);
    let power = |signal: &[f32], from: f64| {
        (0..200).map(|bin| line(signal, from + 2.0 * f64::from(bin))).map(|a| a * a).sum::<f64>()
    };
    let gain = |from| power(&cavitating, from) / power(&healthy, from);
    assert!(gain(10_000.0) > 10.0 * gain(100.0), "{} against {}", gain(10_000.0), gain(100.0));
}

const RATE_HZ: f64 = 25_600.0;

/// No noise, no residuals, no wander: what is left is the closed form.
fn quiet() -> MachineSpec {
    let mut spec = MachineSpec::named("quiet");
    spec.rate_hz = RATE_HZ;
    (spec.unbalance_g, spec.misalignment_g, spec.noise_g, spec.resonant_noise_g) = (0.0, 0.0, 0.0, 0.0);
    (spec.load_noise, spec.wander_rev, spec.bearing.slip) = (0.0, 0.0, 0.0);
    spec
}

/// A bearing whose orders are whole numbers: BPFO 3, BPFI 5.
fn regular() -> MachineSpec {
    let mut spec = quiet();
    spec.bearing = BearingSpec { balls: 8, ball_mm: 10.0, pitch_mm: 40.0, ..spec.bearing };
    spec
}

fn faulty(mut spec: MachineSpec, kind: FaultKind) -> MachineSpec {
    spec.faults = vec![FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity: 1.0, growth: Growth::Linear }];
    spec.load_changes = vec![kilter_machine::LoadChange { at_s: 0.0, rpm: 1500.0, load: 1.0, ramp_s: 0.0 }];
    spec
}

fn record(spec: MachineSpec, axis: Axis, seconds: f64) -> Vec<f32> {
    let mut signal = vec![0.0; (seconds * spec.rate_hz) as usize];
    Machine::new(spec, 42).expect("a valid spec").vibration(axis, &mut signal);
    signal
}

/// The line at `f` of a resonance that is hit `rate_hz` times a second: impacts of `impact_g` exp(-sigma t) sin(omega t).
fn ringing_line(bearing: &BearingSpec, rate_hz: f64, impact_g: f64, f: f64) -> f64 {
    let natural = std::f64::consts::TAU * bearing.resonance_hz;
    let (sigma, omega_square) =
        (bearing.damping * natural, natural * natural * (1.0 - bearing.damping * bearing.damping));
    let w = std::f64::consts::TAU * f;
    let real = sigma * sigma + omega_square - w * w;
    // |H(f)|; the repetition makes lines of twice the rate times it.
    let response = omega_square.sqrt() / real.hypot(2.0 * sigma * w);
    2.0 * rate_hz * impact_g * response
}

/// Peak amplitude of the line at `f` by the Fourier sum over the whole record.
fn line(signal: &[f32], f: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, x) in signal.iter().enumerate() {
        let angle = std::f64::consts::TAU * (f * n as f64 / RATE_HZ).fract();
        re += f64::from(*x) * angle.cos();
        im += f64::from(*x) * angle.sin();
    }
    2.0 * f64::hypot(re, im) / signal.len() as f64
}

fn close(value: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((value - expected).abs() <= tolerance, "{what}: {value} instead of {expected} within {tolerance}");
}

//! The sliding DFT beside the FFT: the same lines of the same window, after any number of samples.

use std::f64::consts::TAU;

use kilter_signal::fft::{self, Complex, Plan};
use kilter_signal::sliding::{Sliding, SlidingError, memory_len};

const LEN: usize = 1024;
const LINES: [usize; 5] = [0, 1, 8, 137, 512];

/// Noise from -1 to 1.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Those lines of the window by the FFT.
fn by_fft(plan: &Plan<Vec<f32>>, window: &[f32]) -> Vec<(f32, f32)> {
    let [mut re, mut im, mut a, mut b] = [(); 4].map(|()| vec![0.0; window.len() / 2]);
    let output = Complex { re: &mut re, im: &mut im };
    plan.forward(window, output, Complex { re: &mut a, im: &mut b }).expect("the buffers fit");
    let line = |line: &usize| match *line {
        0 => (re[0], 0.0),
        line if line == window.len() / 2 => (im[0], 0.0),
        line => (re[line], im[line]),
    };
    LINES.iter().map(line).collect()
}

/// The greatest distance between the two, or `None` where the sliding one does not know a line.
fn distance<T: AsRef<[f32]> + AsMut<[f32]>>(sliding: &Sliding<T, 5>, fft: &[(f32, f32)]) -> Option<f32> {
    let mut worst = 0.0_f32;
    for (place, (re, im)) in fft.iter().enumerate() {
        let line = sliding.line(place)?;
        worst = worst.max((line.re - re).hypot(line.im - im));
    }
    Some(worst)
}

#[test]
fn the_lines_are_those_of_the_fft_also_after_a_million_samples() {
    let plan = Plan::new(LEN, vec![0.0; fft::table_len(LEN)]).expect("supported");
    let mut sliding = Sliding::new(LEN, LINES, vec![0.0; memory_len(LEN)]).expect("good lines");
    let mut next = noise(3);
    let mut window = std::collections::VecDeque::new();
    let (mut checked, mut early, mut late) = (0, 0.0_f32, 0.0_f32);
    for n in 1..=1_000_000_usize {
        // Bursts a thousand times as large come and go: what they leave behind must not stay.
        let sample = next() * if n % 50_000 < 200 { 1000.0 } else { 1.0 };
        window.push_back(sample);
        if window.len() > LEN {
            window.pop_front();
        }
        sliding.push(sample).expect("it is finite");
        assert_eq!(sliding.line(0).is_some(), n >= LEN, "known as soon as the window is full, not before");
        let quiet = n % 50_000 > 200 + 2 * LEN;
        if n >= LEN && quiet && n.is_multiple_of(997) {
            let off = distance(&sliding, &by_fft(&plan, window.make_contiguous())).expect("all are known");
            assert!(off <= sliding.error_bound(1.0), "after {n} samples: {off} of {}", sliding.error_bound(1.0));
            (early, late) = if n < 100_000 { (early.max(off), late) } else { (early, late.max(off)) };
            checked += 1;
        }
    }
    assert!(checked > 800, "{checked}");
    println!("greatest error: {early:e} within 1e5 samples, {late:e} up to 1e6, bound {:e}", sliding.error_bound(1.0));
    // It does not grow: ten times as long is hardly worse. A line of this noise is about 18.
    assert!(late < 2.0 * early && late < 2e-3, "{early} {late}");
}

#[test]
fn an_order_of_the_shaft_has_its_amplitude_and_phase_at_every_sample() {
    // 32 samples to a revolution, 16 revolutions: order 2 is line 32.
    let mut memory = [0.0; memory_len(512)];
    let mut sliding = Sliding::new(512, [16, 32, 48], &mut memory[..]).expect("good lines");
    for n in 0..5_000_u32 {
        let angle = TAU * f64::from(n) / 32.0;
        sliding.push((0.7 * (2.0 * angle + 0.4).cos() + 0.1 * angle.sin()) as f32).expect("it is finite");
        let Some(second) = sliding.line(1) else { continue };
        assert!((second.amplitude() - 0.7).abs() < 1e-4, "{n}: {}", second.amplitude());
        let begins = 2.0 * TAU * f64::from(n + 1 - 512) / 32.0 + 0.4;
        let off = (f64::from(second.angle()) - begins).rem_euclid(TAU);
        assert!(off.min(TAU - off) < 1e-3, "{n}: {off}");
        assert!(sliding.line(2).is_some_and(|third| third.amplitude() < 1e-4), "{n}");
    }
}

#[test]
fn what_is_not_finite_is_refused_and_forgotten_once_it_has_left_the_window() {
    let plan = Plan::new(LEN, vec![0.0; fft::table_len(LEN)]).expect("supported");
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut sliding = Sliding::new(LEN, LINES, vec![0.0; memory_len(LEN)]).expect("good lines");
        let mut next = noise(5);
        (0..LEN + 100).for_each(|_| sliding.push(next()).expect("it is finite"));
        assert!(sliding.line(3).is_some());
        for _ in 0..3 {
            assert_eq!(sliding.push(poison), if poison.is_finite() { Ok(()) } else { Err(SlidingError::NotFinite) });
        }
        let mut unknown = 0;
        let mut window = Vec::new();
        for _ in 0..2 * LEN {
            let sample = next();
            window.push(sample);
            sliding.push(sample).expect("it is finite");
            unknown += usize::from(sliding.line(3).is_none());
        }
        let off = distance(&sliding, &by_fft(&plan, &window[LEN..])).expect("all are known again");
        assert!(off <= sliding.error_bound(1.0), "{poison}: {off}");
        // Exactly as long as it lies in the window; where a sum has overflowed, until that begins anew.
        assert!(if poison.is_finite() { unknown < 2 * LEN } else { unknown == LEN - 1 }, "{poison}: {unknown}");
    }
}

#[test]
fn lengths_and_lines_that_can_not_be_are_refused_and_a_reset_forgets() {
    let mut memory = vec![0.0_f32; 64];
    for len in [0, 2, 7, fft::MAX_LEN + 2] {
        assert_eq!(Sliding::new(len, [0], &mut memory[..]).err(), Some(SlidingError::Length { len }));
    }
    assert_eq!(Sliding::new(34, [0], &mut memory[..]).err(), Some(SlidingError::Memory { needed: 68, got: 64 }));
    assert_eq!(Sliding::new(32, [3, 17], &mut memory[..]).err(), Some(SlidingError::Line { line: 17, len: 32 }));
    let run = |sliding: &mut Sliding<Vec<f32>, 5>| {
        let mut next = noise(9);
        (0..3000).for_each(|_| sliding.push(next()).expect("it is finite"));
        [0, 1, 2, 3, 4].map(|place| sliding.line(place).map(|line| (line.re.to_bits(), line.im.to_bits())))
    };
    let mut sliding = Sliding::new(LEN, LINES, vec![0.0; memory_len(LEN)]).expect("good lines");
    let first = run(&mut sliding);
    assert!(first.iter().all(Option::is_some) && sliding.line(5).is_none());
    sliding.reset();
    assert_eq!(sliding.line(0), None);
    assert_eq!(run(&mut sliding), first, "the same samples give the same bits");
}

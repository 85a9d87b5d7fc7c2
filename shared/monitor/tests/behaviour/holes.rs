//! A stream's rows are those of the same samples off line, and a hole touches only the windows that overlap it.

use kilter_monitor::{Output, What};
use kilter_signal::bearing::Orders;
use kilter_signal::extract::{self, Vibration, VibrationSetup};
use kilter_signal::fft::{Plan, table_len};
use kilter_signal::table::mask;
use kilter_types::{ChannelId, FeatureRow, Hertz, Input, Micros, Quality, Rpm};
use proptest::prelude::*;

use crate::support::*;
use crate::window::{sample, sampled};

const RATE: Hertz = Hertz(1000.0);

/// Feeds these positions; the rows they close.
fn feed(monitor: &mut Heaped, from: u64, to: u64, value: &dyn Fn(u64) -> f32) -> Vec<FeatureRow> {
    let mut rows = Vec::new();
    let samples: Vec<f32> = (from..to).map(value).collect();
    let block = Input::Block { t0: Micros(from as i64 * 1000), rate: RATE, samples: &samples };
    let sink = &mut |output: Output<'_>| {
        if let What::Features(row) = output.what {
            rows.push(row.clone());
        }
    };
    monitor.push(ChannelId(0), from, block, sink).expect("a block fits");
    rows
}

/// The extraction of one slice, as anybody would call it afterwards.
fn off_line(samples: &[f32], setup: &VibrationSetup) -> Vibration {
    let plan = Plan::new(samples.len(), vec![0.0; table_len(samples.len())]).expect("a good length");
    let mut scratch = vec![0.0; extract::scratch_len(samples.len())];
    let mut out = Vibration::default();
    extract::vibration(samples, setup, &plan, &mut scratch, &mut out).expect("room for one window");
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rows_are_the_extraction_of_their_slice_bit_for_bit_and_come_with_their_last_sample(
        start in 0u64..1000,
        blocks in proptest::collection::vec(1u64..=256, 16..60),
    ) {
        let (window, hop) = (512u64, 256u64);
        let bearing = Orders::catalogue("6205").expect("a known bearing");
        let mut config = sampled(window as u32, hop as u32);
        config.nominal_rpm = Some(Rpm(1500.0));
        config.bearing = Some(bearing);
        let setup = VibrationSetup::new(RATE).expect("a good rate").with_shaft(Rpm(1500.0)).with_bearing(bearing);
        let mut monitor = build(config);
        let mut position = start;
        let mut next = start.div_ceil(hop);
        for len in blocks {
            for row in feed(&mut monitor, position, position + len, &sample) {
                prop_assert_eq!(row.index, next, "every window, in order");
                next += 1;
                // It came in the very push that brought its last sample: no block here is longer than a hop.
                let end = row.index * hop + window;
                prop_assert!(position < end && end <= position + len);
                let slice: Vec<f32> = (row.index * hop..end).map(sample).collect();
                let expected = off_line(&slice, &setup);
                let count = row.vector.values.len();
                prop_assert_eq!(row.vector.valid, expected.valid & mask(count));
                for (place, (value, expected)) in row.vector.values.iter().zip(&expected.values).enumerate() {
                    prop_assert_eq!(value.to_bits(), expected.to_bits(), "value {} of window {}", place, row.index);
                }
            }
            position += len;
        }
        prop_assert_eq!(next, ((position - window) / hop + 1).max(start.div_ceil(hop)), "none is late");
    }
}

/// How the monitor learns of a hole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// The samples come as NaN.
    Missing,
    /// The source says that they will not come.
    Told,
    /// The next block's position says so.
    Jumped,
}

#[test]
fn holes_of_a_sample_a_window_and_an_hour_follow_the_stated_policy() {
    const WINDOW: u64 = 128;
    const HOLE: u64 = 3 * WINDOW + 10;
    for len in [1, WINDOW, 3600 * 1000] {
        for how in [How::Missing, How::Told, How::Jumped] {
            let mut monitor = build(sampled(WINDOW as u32, WINDOW as u32));
            let mut rows = feed(&mut monitor, 0, HOLE, &sample);
            match how {
                How::Missing => rows.extend(feed(&mut monitor, HOLE, HOLE + len, &|_| f32::NAN)),
                How::Told => monitor.skipped(ChannelId(0), HOLE, HOLE + len, &mut |_| {}),
                How::Jumped => {}
            }
            let after = (HOLE + len).div_ceil(WINDOW);
            rows.extend(feed(&mut monitor, HOLE + len, (after + 3) * WINDOW, &sample));

            // A sample that came as NaN is filled and marked. More of them are left missing, and nothing is made of them. What
            // never came leaves no row of the windows that it touches, and the next one says so.
            let filled = how == How::Missing && len == 1;
            let expected: Vec<(u64, Quality, bool)> = (0..after + 3)
                .filter(|index| how == How::Missing || *index < 3 || *index >= after)
                .map(|index| match (index, how) {
                    _ if (3..after).contains(&index) && filled => (index, Quality::IMPUTED, true),
                    (_, How::Missing) if (3..after).contains(&index) => (index, Quality::NON_FINITE, false),
                    (_, How::Told | How::Jumped) if index == after => (index, Quality::GAP, true),
                    _ => (index, Quality::GOOD, true),
                })
                .collect();
            let seen: Vec<_> = rows.iter().map(|row| (row.index, row.quality, row.vector.valid != 0)).collect();
            assert!(seen == expected, "{len} samples, {how:?}: {:?}", differing(&seen, &expected));

            // Nothing is stitched: each row is what its own samples give, whatever came before them.
            let straight =
                |p: u64| if p == HOLE { sample(p - 1) + (sample(p + 1) - sample(p - 1)) * 0.5 } else { sample(p) };
            for row in rows.iter().filter(|row| row.vector.valid != 0) {
                let from = row.index * WINDOW;
                assert_eq!((row.start, row.end), (Micros(from as i64 * 1000), Micros((from + WINDOW) as i64 * 1000)));
                let value: &dyn Fn(u64) -> f32 = if filled { &straight } else { &sample };
                let slice: Vec<f32> = (from..from + WINDOW).map(value).collect();
                let alone = off_line(&slice, &VibrationSetup::new(RATE).expect("a good rate"));
                for (value, alone) in row.vector.values.iter().zip(&alone.values) {
                    assert_eq!(value.to_bits(), alone.to_bits(), "{len} samples, {how:?}: window {}", row.index);
                }
            }
        }
    }
}

/// The first place where two lists differ.
fn differing<T: Copy + PartialEq>(a: &[T], b: &[T]) -> (usize, Option<T>, Option<T>) {
    let place = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    (place, a.get(place).copied(), b.get(place).copied())
}

//! The families beyond statistic and autoencoder, against the plain arithmetic they stand for.

use crate::example::{AGE_SCALE, CAP, Counts, Head, INTERVAL, Numbers, Room, SCALE, all, forecaster, quadratic};
use kilter_infer::{
    Artifact, DraftError, Interruption, Mode, ScoreOf, Scratch,
    rescore::{RescoreError, Rescorer, SIDE},
};
use kilter_types::KernelId;

#[test]
fn a_streaming_forecaster_equals_the_full_sequence_from_the_same_start_bit_for_bit() {
    for ewma in [1.0, 0.3] {
        for length in [1, 2, 7, 32] {
            let counts = Counts(6, length, 16, 0);
            let (stream, sequence) =
                (forecaster(counts, Mode::Streaming, ewma), forecaster(counts, Mode::Sequence, ewma));
            let [stream, sequence] = [&stream, &sequence].map(|bytes| Artifact::parse(bytes).expect("it parses"));
            let mut numbers = Numbers(41);
            for _ in 0..5 {
                let (mut one, mut other, mut scratch) = (Room::new(), Room::new(), Scratch::new());
                let rows: Vec<Vec<f32>> = (0..length).map(|_| numbers.take(6, 5.0)).collect();
                for (i, row) in rows.iter().enumerate() {
                    let bits = |s: Option<kilter_infer::Scored<'_>>| {
                        s.map(|s| {
                            (s.anomaly.to_bits(), s.contributions.iter().map(|c| c.to_bits()).collect::<Vec<_>>())
                        })
                    };
                    let streamed = bits(stream.push(row, &mut one, &mut scratch).expect("the row is good"));
                    let run = bits(sequence.push(row, &mut other, &mut scratch).expect("the row is good"));
                    assert_eq!(streamed, run);
                    assert_eq!(streamed.is_some(), i + 1 == length);
                }
                let (mut a, mut b) = ([0.0; 6], [0.0; 6]);
                assert_eq!(stream.forecast(&one, &mut scratch, &mut a), Some(()));
                assert_eq!(sequence.forecast(&other, &mut scratch, &mut b), Some(()));
                assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
            }
        }
    }
}

#[test]
fn a_state_saved_in_the_middle_of_a_stream_starts_the_same_sequence_bit_for_bit() {
    let bytes = forecaster(Counts(4, 1, 24, 0), Mode::Streaming, 1.0);
    let artifact = Artifact::parse(&bytes).expect("it parses");
    let (mut state, mut scratch) = (Room::new(), Scratch::new());
    let mut numbers = Numbers(43);
    for _ in 0..50 {
        artifact.push(&numbers.take(4, 3.0), &mut state, &mut scratch).expect("the row is good");
    }
    let mut saved = vec![0; artifact.state_bytes()];
    state.save(&artifact, &mut saved).expect("it fits");
    let rows: Vec<Vec<f32>> = (0..40).map(|_| numbers.take(4, 3.0)).collect();
    let mut run = |mut state: Room| {
        let mut bits = Vec::new();
        for row in &rows {
            let scored = artifact.push(row, &mut state, &mut scratch).expect("the row is good");
            bits.push(scored.map(|s| s.anomaly.to_bits()));
        }
        bits
    };
    let (copy, _) = Room::load(&artifact, &saved).expect("what was saved loads");
    assert_eq!(run(state), run(copy));
}

#[test]
fn a_stream_starts_anew_only_after_what_its_artifact_names() {
    let head = Head::new(3, 2, 0, [8, 0], 1).write(1);
    let stream = forecaster(Counts(3, 1, 8, 0), Mode::Streaming, 1.0);
    for (bytes, resets) in [(&head, [true, false, true]), (&stream, [true, true, true])] {
        let artifact = Artifact::parse(bytes).expect("it parses");
        for (interruption, resets) in
            [Interruption::Gap, Interruption::Regime, Interruption::Switch].into_iter().zip(resets)
        {
            let (mut state, mut fresh, mut scratch) = (Room::new(), Room::new(), Scratch::new());
            for _ in 0..9 {
                artifact.push(&[2.0, -1.0, 0.5], &mut state, &mut scratch).expect("the row is good");
            }
            state.interrupt(interruption, &artifact);
            let mut next = |state: &mut Room| {
                let scored = artifact.push(&[0.1, 0.2, 0.3], state, &mut scratch).expect("the row is good");
                scored.expect("one row is enough").anomaly.to_bits()
            };
            assert_eq!(next(&mut state) == next(&mut fresh), resets, "{interruption:?}");
        }
    }
}

#[test]
fn an_autoencoder_declares_sequence_mode_and_a_forecaster_says_which() {
    let mode = |bytes: &[u8]| Artifact::parse(bytes).expect("it parses").mode();
    assert_eq!(mode(&crate::example::autoencoder(Counts(3, 4, 8, 2), ScoreOf::Sequence)), Mode::Sequence);
    for wanted in [Mode::Sequence, Mode::Streaming] {
        assert_eq!(mode(&forecaster(Counts(3, 4, 8, 0), wanted, 1.0)), wanted);
    }
}

#[test]
fn a_rul_head_is_the_mean_of_its_members_in_double_precision_with_its_interval() {
    for (points, hidden, members) in [(0, [16, 8], 3), (4, [8, 0], 2), (6, [0, 0], 1)] {
        let head = Head::new(5, 3, points, hidden, members);
        let bytes = head.write(2);
        let artifact = Artifact::parse(&bytes).expect("it parses");
        let (mut state, mut scratch) = (Room::new(), Scratch::new());
        let mut numbers = Numbers(47);
        let mut means = vec![vec![0.0f64; 5]; 3];
        let mut between = 0;
        for age in 1..=200u32 {
            let row = numbers.take(5, 4.0);
            let z = normalised(&head, &row);
            for (means, weight) in means.iter_mut().zip(&head.smoothing) {
                for (mean, z) in means.iter_mut().zip(&z) {
                    *mean += f64::from(*weight).max(1.0 / f64::from(age)) * (z - *mean);
                }
            }
            let scored = artifact.push(&row, &mut state, &mut scratch).expect("the row is good");
            assert_eq!(scored.is_some(), age >= 2);
            let Some(scored) = scored else { continue };
            let rul = scored.rul.expect("a RUL head tells a life");
            let expected = life(&head, &means, age);
            // Sums of up to 65 products in f32.
            assert!((f64::from(rul.value) - expected).abs() < 1e-3, "{} {expected}", rul.value);
            let (below, above) = INTERVAL[((rul.value / CAP * 3.0) as usize).min(2)];
            assert_eq!((rul.low, rul.high), ((rul.value - below).max(0.0), rul.value + above));
            assert!((scored.anomaly - (1.0 - rul.value / CAP)).abs() < 1e-5);
            between += usize::from(rul.value > 0.0 && rul.value < CAP);
        }
        assert!(between > 20, "the example does not only saturate: {between}");
    }
}

#[test]
fn a_linear_head_blames_each_input_by_what_it_takes_from_the_life() {
    let mut head = Head::new(4, 1, 0, [0, 0], 1);
    head.layers = vec![(vec![-0.2, 0.3, 0.0, -0.1, 0.0], vec![0.5])];
    let bytes = head.write(1);
    let artifact = Artifact::parse(&bytes).expect("it parses");
    let row: Vec<f32> =
        (0..4).filter_map(|i| artifact.training_range(i)).map(|r| (r.low + r.high) / 2.0 + 1.0).collect();
    let scored =
        artifact.push(&row, &mut Room::new(), &mut Scratch::new()).map(|s| s.map(|s| s.contributions.to_vec()));
    let parts = scored.expect("the row is good").expect("one row is enough");
    assert!(parts[0] > 0.0 && parts[3] > 0.0 && parts[1] == 0.0 && parts[2] == 0.0, "{parts:?}");
}

#[test]
fn a_quadratic_is_the_squared_length_of_the_mapped_mean() {
    for (n, rows) in [(1, 1), (6, 3), (9, 9), (20, 33)] {
        let bytes = quadratic(n, rows);
        let artifact = Artifact::parse(&bytes).expect("it parses");
        let (mut state, mut scratch) = (Room::new(), Scratch::new());
        let map = Numbers(29).take(rows * n, 0.6);
        let mut numbers = Numbers(53);
        let mut mean = vec![0.0f64; n];
        let (offset, inverse) = normaliser(n);
        for step in 0..30 {
            let row = numbers.take(n, 4.0);
            for i in 0..n {
                mean[i] += 0.5 * (f64::from((row[i] - offset[i]) * inverse[i]) - mean[i]);
            }
            let Some(scored) = artifact.push(&row, &mut state, &mut scratch).expect("the row is good") else {
                assert_eq!(step, 0);
                continue;
            };
            let square = |row: &[f32]| row.iter().zip(&mean).map(|(a, e)| f64::from(*a) * e).sum::<f64>().powi(2);
            let expected: f64 = map.chunks(n).map(square).sum();
            assert!((f64::from(scored.anomaly) - expected).abs() < 1e-4 * expected.max(1.0), "{n} {rows}");
        }
    }
}

#[test]
fn int8_stays_within_its_declared_loss_and_is_smaller() {
    for (name, bytes) in [
        ("autoencoder", crate::example::autoencoder(Counts(24, 12, 24, 8), ScoreOf::Sequence)),
        ("forecaster", forecaster(Counts(16, 8, 32, 0), Mode::Streaming, 0.3)),
        ("head", Head::new(12, 4, 0, [32, 16], 3).write(1)),
    ] {
        let small = crate::example::int8(&bytes);
        let (exact, ours) = (Artifact::parse(&bytes).expect("it parses"), Artifact::parse(&small).expect("it parses"));
        assert_eq!((exact.kernel(), ours.kernel()), (KernelId::PORTABLE_F32, KernelId::PORTABLE_I8));
        assert_eq!(exact.declared_loss(), 0.0);
        let loss = ours.declared_loss();
        assert!(loss > 0.0 && loss < 0.05, "{name} declares {loss}");
        let (mut a, mut b, mut scratch) = (Room::new(), Room::new(), Scratch::new());
        // The rows of the declaration, then others: these may be a little further.
        for (seed, reach) in [(31, 1.0), (59, 3.0)] {
            let mut numbers = Numbers(seed);
            a.reset();
            b.reset();
            for _ in 0..200 {
                let row = numbers.take(exact.inputs(), 4.0);
                let f = exact.push(&row, &mut a, &mut scratch).expect("the row is good").map(|s| s.anomaly);
                let i = ours.push(&row, &mut b, &mut scratch).expect("the row is good").map(|s| s.anomaly);
                if let (Some(f), Some(i)) = (f, i) {
                    assert!((f - i).abs() <= reach * loss * f.max(1.0) * 1.000_1, "{name} {f} {i} loss {loss}");
                }
            }
        }
        // All but the golden windows, whose rows stay as they are.
        assert!(small.len() < bytes.len() * 2 / 3, "{name}: {} of {} bytes", small.len(), bytes.len());
    }
}

#[test]
fn sequences_scored_side_by_side_have_the_bits_of_one_after_the_other() {
    let mut models: Vec<Vec<u8>> = [ScoreOf::LastRow, ScoreOf::Sequence, ScoreOf::MeanResidual]
        .map(|score_of| crate::example::autoencoder(Counts(7, 5, 16, 5), score_of))
        .to_vec();
    models.extend([1.0, 0.4].map(|ewma| forecaster(Counts(7, 5, 24, 0), Mode::Sequence, ewma)));
    models.extend(models.clone().iter().map(|bytes| crate::example::int8(bytes)));
    for bytes in models {
        let artifact = Artifact::parse(&bytes).expect("it parses");
        let (mut state, mut scratch, mut rescorer) = (Room::new(), Scratch::new(), Rescorer::new());
        let mut numbers = Numbers(67);
        for count in [SIDE, 1, 6, SIDE, 3] {
            let rows = numbers.take(count * 5 * 7, 4.0);
            let mut anomalies = vec![0.0; count];
            rescorer.score(&artifact, &rows, &mut anomalies).expect("the rows are good");
            for (window, anomaly) in rows.chunks(5 * 7).zip(anomalies) {
                state.reset();
                let mut last = None;
                for row in window.chunks(7) {
                    last = artifact.push(row, &mut state, &mut scratch).expect("the row is good").map(|s| s.anomaly);
                }
                assert_eq!(last.map(f32::to_bits), Some(anomaly.to_bits()));
            }
        }
        assert!(rescorer.score(&artifact, &[0.0; 3], &mut [0.0]).is_err());
        assert!(rescorer.score(&artifact, &[f32::NAN; 35], &mut [0.0]).is_err());
    }
    let stream = forecaster(Counts(7, 5, 8, 0), Mode::Streaming, 1.0);
    let stream = Artifact::parse(&stream).expect("it parses");
    assert_eq!(Rescorer::new().score(&stream, &[0.0; 35], &mut [0.0]), Err(RescoreError::Mode));
}

#[test]
fn what_has_no_int8_form_says_so() {
    for (name, bytes) in all() {
        let artifact = Artifact::parse(&bytes).expect("it parses");
        let mut out = vec![0; artifact.int8_bytes()];
        let written = artifact.to_int8(&[], &mut out, &mut Room::new(), &mut Scratch::new()).map(|_| ());
        let has_form = ["lstm_autoencoder", "lstm_forecaster", "rul_head"].contains(&name);
        assert_eq!(written, if has_form { Ok(()) } else { Err(DraftError::Kernel) }, "{name}");
    }
}

fn normaliser(n: usize) -> (Vec<f32>, Vec<f32>) {
    let mut numbers = Numbers(13);
    let mean = numbers.take(n, 3.0);
    let inverse = numbers.take(n, 0.5).iter().map(|v| v + 1.0).collect();
    (mean, inverse)
}

fn normalised(head: &Head, row: &[f32]) -> Vec<f64> {
    let n = head.n;
    let (mean, inverse) = match &head.points {
        None => normaliser(n),
        Some([weight, centroid, mean, inverse]) => {
            let distance =
                |point: &usize| -> f32 { (0..n).map(|i| weight[i] * (row[i] - centroid[point * n + i]).powi(2)).sum() };
            let points = 0..centroid.len() / n;
            let nearest = points.min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("there are points");
            (mean[nearest * n..][..n].to_vec(), inverse[nearest * n..][..n].to_vec())
        }
    };
    (0..n).map(|i| f64::from(((row[i] - mean[i]) * inverse[i]).clamp(-8.0, 8.0))).collect()
}

fn life(head: &Head, means: &[Vec<f64>], age: u32) -> f64 {
    let present = head.layers.len() / head.members;
    let age = (f64::from(age) * f64::from(AGE_SCALE)).min(4.0);
    let input: Vec<f64> = means.iter().flatten().copied().chain([age]).collect();
    let member = |layers: &[(Vec<f32>, Vec<f32>)]| {
        let mut x = input.clone();
        for (i, (weight, bias)) in layers.iter().enumerate() {
            let row = |(weights, bias): (&[f32], &f32)| {
                let sum = weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias);
                if i + 1 < layers.len() { sum.tanh() } else { sum }
            };
            x = weight.chunks(x.len()).zip(bias).map(row).collect();
        }
        x[0]
    };
    let sum: f64 = head.layers.chunks(present).map(member).sum();
    (sum / head.members as f64 * f64::from(SCALE)).clamp(0.0, f64::from(CAP))
}

//! What a model says about rows, against the plain arithmetic it stands for.

use crate::example::{Counts, Head, Numbers, Room, all, autoencoder, forecaster, quadratic, statistic};
use kilter_infer::{Artifact, Interruption, Mode, RowError, ScoreOf, Scratch, State, kernel};
use proptest::prelude::*;

const ALL: [ScoreOf; 3] = [ScoreOf::LastRow, ScoreOf::Sequence, ScoreOf::MeanResidual];

#[test]
fn a_statistic_is_the_weighted_square_of_a_running_mean() {
    let bytes = statistic(3, 2);
    let artifact = Artifact::parse(&bytes).expect("the example parses");
    let (mut state, mut scratch) = (Room::new(), Scratch::new());
    let mut numbers = Numbers(7);
    let mean = numbers.take(3, 3.0);
    let scale: Vec<f32> = numbers.take(3, 0.5).iter().map(|v| v + 1.0).collect();
    let mut running = [0.0f64; 3];
    for step in 0..20 {
        let row = [step as f32 * 0.3, -1.0, 2.0];
        for i in 0..3 {
            let z = (f64::from(row[i]) - f64::from(mean[i])) * f64::from(scale[i]);
            running[i] += 0.25 * (z - running[i]);
        }
        let scored = artifact.push(&row, &mut state, &mut scratch).expect("the row is good");
        assert_eq!(scored.is_some(), step >= 1, "the first score comes with row 2");
        if let Some(scored) = scored {
            let expected: f64 = running.iter().map(|r| r * r / 3.0).sum();
            // Twenty steps of f32 against f64.
            assert!((f64::from(scored.anomaly) - expected).abs() < 1e-5 * expected.max(1.0));
        }
    }
}

#[test]
fn an_autoencoder_is_the_textbook_lstm_in_double_precision() {
    for score_of in ALL {
        let counts = Counts(5, 6, 16, 3);
        let bytes = autoencoder(counts, score_of);
        let artifact = Artifact::parse(&bytes).expect("the example parses");
        let (mut state, mut scratch) = (Room::new(), Scratch::new());
        let mut numbers = Numbers(99);
        let rows: Vec<Vec<f32>> = (0..9).map(|_| numbers.take(5, 4.0)).collect();
        for (i, row) in rows.iter().enumerate() {
            let Some(scored) = artifact.push(row, &mut state, &mut scratch).expect("the row is good") else {
                assert!(i < 5);
                continue;
            };
            let expected = textbook(counts, score_of, &rows[i - 5..=i]);
            let error = (f64::from(scored.anomaly) - expected).abs();
            assert!(error < 1e-5 * expected.max(1.0), "{score_of:?} window {i}: {error:e}");
        }
    }
}

#[test]
fn contributions_add_up_to_the_anomaly_bit_for_bit_m2() {
    for n in [1, 7, 8, 9, 30, 64] {
        let models = [
            statistic(n, 3),
            autoencoder(Counts(n, 3, 8, 4), ScoreOf::Sequence),
            forecaster(Counts(n, 3, 8, 0), Mode::Streaming, 0.4),
            Head::new(n, 3, 0, [8, 0], 2).write(1),
            quadratic(n, n.min(9)),
        ];
        for bytes in models {
            let artifact = Artifact::parse(&bytes).expect("the example parses");
            let (mut state, mut scratch) = (Room::new(), Scratch::new());
            let mut numbers = Numbers(n as u64);
            for _ in 0..20 {
                let row = numbers.take(n, 50.0);
                let Some(scored) = artifact.push(&row, &mut state, &mut scratch).expect("the row is good") else {
                    continue;
                };
                assert_eq!(kernel::sum(scored.contributions).to_bits(), scored.anomaly.to_bits());
                let ranking = artifact.rank(&scored);
                assert!(ranking.contributions.windows(2).all(|pair| pair[0].amount >= pair[1].amount));
                assert_eq!(ranking.contributions.len(), n.min(8));
                let listed: f32 = ranking.contributions.iter().map(|c| c.amount).sum();
                // A ranking adds in another order.
                assert!((listed + ranking.rest - scored.anomaly).abs() <= 1e-5 * scored.anomaly.max(1.0));
            }
        }
    }
}

#[test]
fn an_interruption_starts_the_sequence_anew_and_the_score_forgets_what_was_before() {
    let bytes = autoencoder(Counts(4, 5, 8, 2), ScoreOf::Sequence);
    let artifact = Artifact::parse(&bytes).expect("the example parses");
    let (mut first, mut second, mut scratch) = (Room::new(), Room::new(), Scratch::new());
    for _ in 0..3 {
        artifact.push(&[9.0; 4], &mut first, &mut scratch).expect("the row is good");
    }
    first.interrupt(Interruption::Gap, &artifact);
    for step in 0..5 {
        let row = [0.1 * step as f32; 4];
        let a = artifact.push(&row, &mut first, &mut scratch).expect("the row is good").map(|s| s.anomaly);
        let b = artifact.push(&row, &mut second, &mut scratch).expect("the row is good").map(|s| s.anomaly);
        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
        assert_eq!(a.is_some(), step == 4);
    }
}

#[test]
fn a_saved_state_goes_on_with_the_same_bits() {
    for (_, bytes) in all() {
        let artifact = Artifact::parse(&bytes).expect("the example parses");
        let (mut state, mut scratch) = (Room::new(), Scratch::new());
        let mut numbers = Numbers(3);
        for step in 0..12 {
            let mut saved = [0; 4096];
            let written = state.save(&artifact, &mut saved).expect("the buffer is large enough");
            let (mut copy, read) = Room::load(&artifact, &saved[..written]).expect("what was saved loads");
            assert_eq!((read, written), (artifact.state_bytes(), artifact.state_bytes()));
            let row = numbers.take(artifact.inputs(), 5.0);
            let a =
                artifact.push(&row, &mut state, &mut scratch).expect("the row is good").map(|s| s.anomaly.to_bits());
            let b = artifact.push(&row, &mut copy, &mut scratch).expect("the row is good").map(|s| s.anomaly.to_bits());
            assert_eq!(a, b, "step {step}");
        }
    }
}

#[test]
fn a_bad_row_is_refused_and_leaves_the_state_as_it_was() {
    let bytes = statistic(2, 1);
    let artifact = Artifact::parse(&bytes).expect("the example parses");
    let (mut state, mut scratch) = (Room::new(), Scratch::new());
    artifact.push(&[1.0, 2.0], &mut state, &mut scratch).expect("the row is good");
    let before = format!("{state:?}");
    let mut push = |row: &[f32]| artifact.push(row, &mut state, &mut scratch).map(|_| ());
    assert_eq!(push(&[1.0]), Err(RowError::Length { expected: 2, found: 1 }));
    assert_eq!(push(&[1.0, f32::NAN]), Err(RowError::NonFinite(1)));
    assert_eq!(push(&[f32::INFINITY, 0.0]), Err(RowError::NonFinite(0)));
    assert_eq!(format!("{state:?}"), before);
    let small = artifact.push(&[1.0, 2.0], &mut State::<1>::new(), &mut scratch).map(|_| ());
    assert_eq!(small, Err(RowError::State { needed: 2, found: 1 }));
}

#[test]
fn values_and_regimes_outside_training_are_counted() {
    let bytes = statistic(3, 1);
    let artifact = Artifact::parse(&bytes).expect("the example parses");
    let middle: Vec<f32> = (0..3).filter_map(|i| artifact.training_range(i)).map(|r| (r.low + r.high) / 2.0).collect();
    assert_eq!(artifact.outside(&middle), 0);
    assert_eq!(artifact.outside(&[1e9, middle[1], f32::NAN]), 2);
    assert_eq!((artifact.regime(1_000.0, None), artifact.regime(1_000.0, Some(7.0))), (Some(0), Some(0)));
    assert_eq!(artifact.regime(2_500.0, None), None);
}

thread_local! {
    static MODELS: Vec<Vec<u8>> = vec![
        statistic(4, 2),
        autoencoder(Counts(4, 3, 8, 2), ScoreOf::Sequence),
        forecaster(Counts(4, 3, 8, 0), Mode::Sequence, 0.5),
        forecaster(Counts(4, 3, 8, 0), Mode::Streaming, 1.0),
        Head::new(4, 3, 2, [8, 8], 2).write(2),
        quadratic(4, 6),
    ];
}

proptest! {
    #[test]
    fn whatever_finite_rows_come_the_anomaly_is_finite_and_at_least_0(
        rows in prop::collection::vec(prop::array::uniform4(prop::num::f32::NORMAL), 4..12),
    ) {
        for bytes in MODELS.with(Clone::clone) {
            let artifact = Artifact::parse(&bytes).expect("the example parses");
            let (mut state, mut scratch) = (Room::new(), Scratch::new());
            for row in &rows {
                if let Some(scored) = artifact.push(row, &mut state, &mut scratch).expect("the rows are finite") {
                    prop_assert!(scored.anomaly.is_finite() && scored.anomaly >= 0.0);
                    prop_assert!(scored.contributions.iter().all(|part| part.is_finite() && *part >= 0.0));
                    prop_assert!(scored.rul.is_none_or(|rul| 0.0 <= rul.low && rul.low <= rul.value && rul.value <= rul.high));
                }
            }
        }
    }
}

/// The same model straight from its definition, in f64 with the standard library's functions.
fn textbook(Counts(n, _, h, c): Counts, score_of: ScoreOf, rows: &[Vec<f32>]) -> f64 {
    let mut weights = Numbers(11);
    let mut take =
        |count: usize, scale: f32| -> Vec<f64> { weights.take(count, scale).iter().map(|v| f64::from(*v)).collect() };
    let mut lstm = |inputs: usize| (take(4 * h * inputs, 0.4), take(4 * h * h, 0.3), take(4 * h, 0.2));
    let (encoder, decoder) = (lstm(n), lstm(c));
    let (bottleneck, bottleneck_bias) = (take(c * h, 0.5), take(c, 0.1));
    let (output, output_bias) = (take(n * h, 0.5), take(n, 0.1));
    let mut other = Numbers(13);
    let mean = other.take(n, 3.0);
    let scale: Vec<f32> = other.take(n, 0.5).iter().map(|v| v + 1.0).collect();
    let z = |row: &[f32]| -> Vec<f64> { (0..n).map(|i| f64::from((row[i] - mean[i]) * scale[i])).collect() };

    let (mut hidden, mut cell) = (vec![0.0; h], vec![0.0; h]);
    for row in rows {
        let x: Vec<f64> = z(row).iter().map(|v| v.clamp(-8.0, 8.0)).collect();
        lstm_step(&encoder, &x, &mut hidden, &mut cell);
    }
    let code: Vec<f64> = dense(&bottleneck, &bottleneck_bias, &hidden).iter().map(|v| v.tanh()).collect();
    let (mut hidden, mut cell) = (vec![0.0; h], vec![0.0; h]);
    let steps = if score_of == ScoreOf::LastRow { 1 } else { rows.len() };
    let mut sums = vec![0.0; n];
    for row in rows.iter().rev().take(steps) {
        lstm_step(&decoder, &code, &mut hidden, &mut cell);
        let rebuilt = dense(&output, &output_bias, &hidden);
        for ((sum, z), rebuilt) in sums.iter_mut().zip(z(row)).zip(rebuilt) {
            *sum += if score_of == ScoreOf::MeanResidual { z - rebuilt } else { (z - rebuilt).powi(2) };
        }
    }
    let means = sums.iter().map(|sum| sum / steps as f64);
    means.map(|mean| if score_of == ScoreOf::MeanResidual { mean * mean } else { mean }).sum::<f64>() / n as f64
}

fn dense(weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).zip(bias).map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
}

fn lstm_step(
    (input, recurrent, bias): &(Vec<f64>, Vec<f64>, Vec<f64>),
    x: &[f64],
    hidden: &mut [f64],
    cell: &mut [f64],
) {
    let h = hidden.len();
    let zeros = vec![0.0; 4 * h];
    let (a, b) = (dense(input, bias, x), dense(recurrent, &zeros, hidden));
    let gate = |i: usize| a[i] + b[i];
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for i in 0..h {
        cell[i] = sigmoid(gate(h + i)) * cell[i] + sigmoid(gate(i)) * gate(2 * h + i).tanh();
        hidden[i] = sigmoid(gate(3 * h + i)) * cell[i].tanh();
    }
}

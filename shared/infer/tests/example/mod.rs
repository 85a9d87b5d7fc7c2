//! Artifacts with made-up weights, the same on every run.

use kilter_infer::{Autoencoder, Body, Dense, Draft, Lstm, Range, Regime, ResetRule, ScoreOf, Scratch, State};
use kilter_types::{FeatureId, FeatureRef, GroupKind};

/// Room for every example.
pub(crate) type Room = State<4096>;

/// Counts of an autoencoder: inputs, sequence, hidden, code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts(pub(crate) usize, pub(crate) usize, pub(crate) usize, pub(crate) usize);

/// A generator that gives the same numbers everywhere: values in [-1, 1).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / 8_388_608.0) - 1.0
    }

    pub(crate) fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * scale).collect()
    }
}

/// Writes the draft that `fill` changes from a plausible one.
fn write(n: usize, sequence: usize, body: Body<'_>, numbers: &mut Numbers, group: GroupKind) -> Vec<u8> {
    let features: Vec<_> =
        (0..n).map(|i| FeatureRef { id: FeatureId(100 + i as u16), hash: 0x1234_5678 ^ i as u32 }).collect();
    let mean = numbers.take(n, 3.0);
    let inverse_scale: Vec<_> = numbers.take(n, 0.5).iter().map(|v| v + 1.0).collect();
    let range: Vec<_> = mean.iter().map(|m| Range { low: m - 4.0, high: m + 4.0 }).collect();
    let regime = Regime { rpm: Range { low: 900.0, high: 1_800.0 }, load: Range::ANY };
    let golden = numbers.take(2 * sequence * n, 4.0);
    let draft = Draft {
        group,
        features: &features,
        mean: &mean,
        inverse_scale: &inverse_scale,
        range: &range,
        weight: &vec![1.0 / n as f32; n],
        regimes: &[regime],
        threshold: 2.5,
        input_clip: 8.0,
        residual_clip: 1_000.0,
        sequence_len: sequence,
        reset: ResetRule::ALWAYS,
        body,
        golden: &golden,
    };
    let mut bytes = vec![0; draft.size_bytes()];
    draft.write(&mut bytes, &mut Room::new(), &mut Scratch::new()).expect("the example is well formed");
    bytes
}

pub(crate) fn statistic(n: usize, warm_up: usize) -> Vec<u8> {
    write(n, warm_up, Body::Statistic { ewma: 0.25 }, &mut Numbers(7), GroupKind::Vibration)
}

pub(crate) fn autoencoder(Counts(n, sequence, h, c): Counts, score_of: ScoreOf) -> Vec<u8> {
    let mut numbers = Numbers(11);
    let mut lstm =
        |inputs: usize| (numbers.take(4 * h * inputs, 0.4), numbers.take(4 * h * h, 0.3), numbers.take(4 * h, 0.2));
    let (encoder, decoder) = (lstm(n), lstm(c));
    let mut dense = |outputs: usize| (numbers.take(outputs * h, 0.5), numbers.take(outputs, 0.1));
    let (bottleneck, output) = (dense(c), dense(n));
    let body = Body::LstmAutoencoder(Autoencoder {
        hidden: h,
        code: c,
        score_of,
        encoder: Lstm { input: &encoder.0, recurrent: &encoder.1, bias: &encoder.2 },
        bottleneck: Dense { weight: &bottleneck.0, bias: &bottleneck.1 },
        decoder: Lstm { input: &decoder.0, recurrent: &decoder.1, bias: &decoder.2 },
        output: Dense { weight: &output.0, bias: &output.1 },
    });
    write(n, sequence, body, &mut Numbers(13), GroupKind::Reading)
}

//! Artifacts with made-up weights, the same on every run.

use kilter_infer::{
    Artifact, Autoencoder, Body, Dense, Draft, Forecaster, Interruption, Lstm, Mode, Points, Range, Regime, ResetRule,
    RulHead, ScoreOf, Scratch, State,
};
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
    let reset = match body {
        // Rows of one engine come from all its operating points: a change of regime is no interruption.
        Body::RulHead(_) => ResetRule::after(&[Interruption::Gap, Interruption::Switch]),
        _ => ResetRule::ALWAYS,
    };
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
        reset,
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

pub(crate) fn forecaster(Counts(n, sequence, h, _): Counts, mode: Mode, ewma: f32) -> Vec<u8> {
    let mut numbers = Numbers(17);
    let lstm = (numbers.take(4 * h * n, 0.4), numbers.take(4 * h * h, 0.3), numbers.take(4 * h, 0.2));
    let output = (numbers.take(n * h, 0.5), numbers.take(n, 0.1));
    let body = Body::LstmForecaster(Forecaster {
        hidden: h,
        mode,
        ewma,
        lstm: Lstm { input: &lstm.0, recurrent: &lstm.1, bias: &lstm.2 },
        output: Dense { weight: &output.0, bias: &output.1 },
    });
    write(n, sequence, body, &mut Numbers(13), GroupKind::Reading)
}

/// The numbers of a RUL head, to write and to check it.
pub(crate) struct Head {
    pub(crate) n: usize,
    pub(crate) smoothing: Vec<f32>,
    pub(crate) points: Option<[Vec<f32>; 4]>,
    pub(crate) hidden: [usize; 2],
    pub(crate) layers: Vec<(Vec<f32>, Vec<f32>)>,
    pub(crate) members: usize,
}

pub(crate) const AGE_SCALE: f32 = 0.01;
pub(crate) const SCALE: f32 = 90.0;
pub(crate) const CAP: f32 = 125.0;
pub(crate) const INTERVAL: [(f32, f32); 3] = [(5.0, 8.0), (12.0, 20.0), (30.0, 25.0)];

impl Head {
    pub(crate) fn new(n: usize, means: usize, points: usize, hidden: [usize; 2], members: usize) -> Self {
        let mut numbers = Numbers(23);
        let smoothing = [1.0, 0.3, 0.05, 0.0, 0.5, 0.1, 0.02, 0.01][..means].to_vec();
        let mut layers = Vec::new();
        for _ in 0..members {
            let mut inputs = n * means + 1;
            for outputs in hidden.into_iter().filter(|h| *h > 0).chain([1]) {
                layers.push((numbers.take(outputs * inputs, 1.5 / (inputs as f32).sqrt()), numbers.take(outputs, 0.3)));
                inputs = outputs;
            }
        }
        let points = (points > 0).then(|| {
            let weight = (0..n).map(|i| if i < 2 { 1.0 } else { 0.0 }).collect();
            let inverse = numbers.take(points * n, 0.4).iter().map(|v| v + 0.8).collect();
            [weight, numbers.take(points * n, 3.0), numbers.take(points * n, 3.0), inverse]
        });
        Self { n, smoothing, points, hidden, layers, members }
    }

    pub(crate) fn write(&self, sequence: usize) -> Vec<u8> {
        let layers: Vec<_> = self.layers.iter().map(|(weight, bias)| Dense { weight, bias }).collect();
        let body = Body::RulHead(RulHead {
            smoothing: &self.smoothing,
            age_scale: AGE_SCALE,
            points: self.points.as_ref().map(|[weight, centroid, mean, inverse_scale]| Points {
                weight,
                centroid,
                mean,
                inverse_scale,
            }),
            members: self.members,
            hidden: self.hidden,
            layers: &layers,
            scale: SCALE,
            cap: CAP,
            interval: &INTERVAL,
        });
        write(self.n, sequence, body, &mut Numbers(13), GroupKind::Cycle)
    }
}

pub(crate) fn quadratic(n: usize, rows: usize) -> Vec<u8> {
    let matrix = Numbers(29).take(rows * n, 0.6);
    write(n, 2, Body::Quadratic { ewma: 0.5, matrix: &matrix, rows }, &mut Numbers(13), GroupKind::Reading)
}

/// The int8 form, its loss measured on some made-up rows.
pub(crate) fn int8(bytes: &[u8]) -> Vec<u8> {
    let artifact = Artifact::parse(bytes).expect("the example parses");
    let rows = Numbers(31).take(200 * artifact.inputs(), 4.0);
    let mut out = vec![0; artifact.int8_bytes()];
    artifact.to_int8(&rows, &mut out, &mut Room::new(), &mut Scratch::new()).expect("the family has an int8 form");
    out
}

/// One of each family and kernel, small.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let autoencoder = autoencoder(Counts(6, 4, 8, 3), ScoreOf::MeanResidual);
    let forecaster = forecaster(Counts(5, 3, 8, 0), Mode::Streaming, 0.3);
    let head = Head::new(3, 2, 2, [8, 8], 2).write(2);
    let [autoencoder_i8, forecaster_i8, head_i8] = [&autoencoder, &forecaster, &head].map(|bytes| int8(bytes));
    vec![
        ("statistic", statistic(5, 3)),
        ("lstm_autoencoder", autoencoder),
        ("lstm_forecaster", forecaster),
        ("rul_head", head),
        ("quadratic", quadratic(4, 3)),
        ("lstm_autoencoder_int8", autoencoder_i8),
        ("lstm_forecaster_int8", forecaster_i8),
        ("rul_head_int8", head_i8),
    ]
}

//! Writes artifacts: what a trainer fills in, checked by the parser that will read it.

use kilter_types::{FeatureRef, GroupKind, KernelId};

use crate::{
    Artifact, DraftError, Family, Layout, Mode, Range, Regime, ResetRule, ScoreOf, Scratch, State,
    format::HEADER_BYTES, header, layout::Head, score::Scored,
};

/// Everything an artifact says; the golden bits are added by [`Draft::write`].
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Which groups of features the model is for.
    pub group: GroupKind,
    /// The features, in the order of a row.
    pub features: &'a [FeatureRef],
    /// Healthy mean of each feature.
    pub mean: &'a [f32],
    /// 1 / healthy scale of each feature.
    pub inverse_scale: &'a [f32],
    /// What training saw of each feature.
    pub range: &'a [Range],
    /// Weight of each feature in the anomaly.
    pub weight: &'a [f32],
    /// Speeds and loads that training saw.
    pub regimes: &'a [Regime],
    /// The anomaly above which a row is unusual.
    pub threshold: f32,
    /// Normalised values enter a network within +- this.
    pub input_clip: f32,
    /// Normalised values are compared within +- this.
    pub residual_clip: f32,
    /// Rows from a reset to the first score.
    pub sequence_len: usize,
    /// After which interruptions a sequence starts anew.
    pub reset: ResetRule,
    /// The family's own numbers.
    pub body: Body<'a>,
    /// Golden windows: `sequence_len` rows each, one after the other, as measured (not normalised).
    pub golden: &'a [f32],
}

/// What differs between families.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// [`Family::Statistic`].
    Statistic {
        /// Weight of the newest row in the running mean, (0, 1].
        ewma: f32,
    },
    /// [`Family::LstmAutoencoder`].
    LstmAutoencoder(Autoencoder<'a>),
    /// [`Family::LstmForecaster`].
    LstmForecaster(Forecaster<'a>),
    /// [`Family::RulHead`].
    RulHead(RulHead<'a>),
    /// [`Family::Quadratic`].
    Quadratic {
        /// Weight of the newest row in the running mean, (0, 1].
        ewma: f32,
        /// The map: `rows` rows of one weight per input.
        matrix: &'a [f32],
        /// Rows of the map.
        rows: usize,
    },
}

/// The weights of an autoencoder.
#[derive(Clone, Copy, Debug)]
pub struct Autoencoder<'a> {
    /// Hidden units of encoder and decoder; a multiple of 8.
    pub hidden: usize,
    /// Size of the code.
    pub code: usize,
    /// Which residuals make the anomaly.
    pub score_of: ScoreOf,
    /// Reads the rows, oldest first.
    pub encoder: Lstm<'a>,
    /// From the last hidden state to the code.
    pub bottleneck: Dense<'a>,
    /// Reads the code at every step, newest row first.
    pub decoder: Lstm<'a>,
    /// From a hidden state to a row.
    pub output: Dense<'a>,
}

/// The weights of a forecaster.
#[derive(Clone, Copy, Debug)]
pub struct Forecaster<'a> {
    /// Hidden units; a multiple of 8.
    pub hidden: usize,
    /// Is the state carried, or the sequence run anew for every row?
    pub mode: Mode,
    /// Weight of the newest residual in the mean residual, (0, 1]; 1: the residual alone.
    pub ewma: f32,
    /// Reads the rows.
    pub lstm: Lstm<'a>,
    /// From a hidden state to the next row, normalised.
    pub output: Dense<'a>,
}

/// The numbers of a RUL head.
#[derive(Clone, Copy, Debug)]
pub struct RulHead<'a> {
    /// Weight of the newest row in each running mean, [0, 1]: 1 is the last row, 0 the mean of all; 1 to 8 of them.
    pub smoothing: &'a [f32],
    /// The rows since the reset enter as `min(rows * age_scale, 4)`.
    pub age_scale: f32,
    /// Normalisers per operating point, where the machine has several.
    pub points: Option<Points<'a>>,
    /// Networks whose outputs are averaged.
    pub members: usize,
    /// Units of the two hidden layers, multiples of 8; 0 leaves one out, the second first.
    pub hidden: [usize; 2],
    /// The layers of each member, those left out not counted. A member's first reads the first mean of every input, the
    /// second mean of every input and so on, then the age.
    pub layers: &'a [Dense<'a>],
    /// From the networks' mean to the unit of life; above 0.
    pub scale: f32,
    /// The longest life that is told.
    pub cap: f32,
    /// How far the truth lies below and above, per bin; the bins divide 0 to `cap` evenly; 1 to 16 of them.
    pub interval: &'a [(f32, f32)],
}

/// Operating points and their normalisers.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// What each input counts in finding the nearest point; 0 for one that says nothing of it.
    pub weight: &'a [f32],
    /// One value per input and point, point by point, as measured.
    pub centroid: &'a [f32],
    /// Healthy means, as the centroids.
    pub mean: &'a [f32],
    /// 1 / healthy scales, as the centroids.
    pub inverse_scale: &'a [f32],
}

/// An LSTM: for each of the gates input, forget, cell, output one row of weights per hidden unit.
#[derive(Clone, Copy, Debug)]
pub struct Lstm<'a> {
    /// `4 hidden` rows of one weight per input.
    pub input: &'a [f32],
    /// `4 hidden` rows of one weight per hidden unit.
    pub recurrent: &'a [f32],
    /// `4 hidden` biases.
    pub bias: &'a [f32],
}

/// A dense layer: one row of weights per output.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    /// `outputs` rows of one weight per input.
    pub weight: &'a [f32],
    /// `outputs` biases.
    pub bias: &'a [f32],
}

impl Draft<'_> {
    /// How many bytes [`Draft::write`] needs.
    pub fn size_bytes(&self) -> usize {
        self.layout().size_bytes()
    }

    /// Writes the artifact with the kernel's bits for the golden windows, and returns what a reader will see.
    pub fn write<'o, const FLOATS: usize>(
        &self,
        out: &'o mut [u8],
        state: &mut State<FLOATS>,
        scratch: &mut Scratch,
    ) -> Result<Artifact<'o>, DraftError> {
        self.check_shapes()?;
        let layout = self.layout();
        let size = layout.size_bytes();
        let out = out.get_mut(..size).ok_or(DraftError::Buffer { needed: size })?;
        out.fill(0);
        header::write(&layout, out);
        self.write_sections(out, &layout);
        write_golden_bits(out, &layout, state, scratch)?;
        Ok(Artifact::parse(out)?)
    }

    fn layout(&self) -> Layout {
        // Counts beyond a byte are refused when the draft is parsed.
        let count = |count: usize| count.min(usize::from(u8::MAX));
        let (inputs, sequence) = (count(self.features.len()), count(self.sequence_len));
        let plain = Layout {
            kernel: KernelId::PORTABLE_F32,
            family: Family::Statistic,
            group: self.group,
            reset: self.reset,
            score_of: ScoreOf::LastRow,
            inputs,
            sequence,
            hidden: 0,
            code: 0,
            regimes: count(self.regimes.len()),
            golden: count(self.golden.len() / (sequence * inputs).max(1)),
            mode: Mode::Sequence,
            head: Head::default(),
            threshold: self.threshold,
            input_clip: self.input_clip,
            residual_clip: self.residual_clip,
            ewma: 0.0,
            loss: 0.0,
        };
        match self.body {
            Body::Statistic { ewma } => Layout { ewma, ..plain },
            Body::LstmAutoencoder(net) => Layout {
                family: Family::LstmAutoencoder,
                hidden: count(net.hidden),
                code: count(net.code),
                score_of: net.score_of,
                ..plain
            },
            Body::LstmForecaster(net) => Layout {
                family: Family::LstmForecaster,
                hidden: count(net.hidden),
                mode: net.mode,
                ewma: net.ewma,
                ..plain
            },
            Body::RulHead(net) => Layout {
                family: Family::RulHead,
                hidden: count(net.hidden[0]),
                code: count(net.hidden[1]),
                head: Head {
                    means: count(net.smoothing.len()),
                    members: count(net.members),
                    points: count(net.points.map_or(0, |points| points.centroid.len() / inputs.max(1))),
                    bins: count(net.interval.len()),
                },
                ..plain
            },
            Body::Quadratic { ewma, rows, .. } => {
                Layout { family: Family::Quadratic, code: count(rows), ewma, ..plain }
            }
        }
    }

    fn check_shapes(&self) -> Result<(), DraftError> {
        let n = self.features.len();
        check("list of means", self.mean.len(), n)?;
        check("list of scales", self.inverse_scale.len(), n)?;
        check("list of ranges", self.range.len(), n)?;
        check("list of weights", self.weight.len(), n)?;
        check("golden windows", self.golden.len(), self.layout().golden * self.sequence_len * n)?;
        match self.body {
            Body::Statistic { .. } => Ok(()),
            Body::LstmAutoencoder(net) => {
                let (h, c) = (net.hidden, net.code);
                net.encoder.check(n, h)?;
                net.bottleneck.check(h, c)?;
                net.decoder.check(c, h)?;
                net.output.check(h, n)
            }
            Body::LstmForecaster(net) => {
                net.lstm.check(n, net.hidden)?;
                net.output.check(net.hidden, n)
            }
            Body::Quadratic { matrix, rows, .. } => check("quadratic map", matrix.len(), rows * n),
            Body::RulHead(net) => net.check(n),
        }
    }

    fn write_sections(&self, out: &mut [u8], layout: &Layout) {
        for (bytes, feature) in out[HEADER_BYTES..].chunks_exact_mut(8).zip(self.features) {
            bytes[0..2].copy_from_slice(&feature.id.0.to_le_bytes());
            bytes[4..8].copy_from_slice(&feature.hash.to_le_bytes());
        }
        let normaliser = self.mean.iter().zip(self.inverse_scale).flat_map(|(mean, inverse)| [mean, inverse]);
        write_floats(&mut out[layout.normaliser_offset()..], normaliser);
        let ranges = self.range.iter().flat_map(|range| [&range.low, &range.high]);
        write_floats(&mut out[layout.ranges_offset()..], ranges);
        write_floats(&mut out[layout.weights_offset()..], self.weight);
        let regimes = self.regimes.iter().flat_map(|r| [&r.rpm.low, &r.rpm.high, &r.load.low, &r.load.high]);
        write_floats(&mut out[layout.regimes_offset()..], regimes);
        let mut at = layout.matrices_offset();
        let mut matrix = |first: &[f32], second: &[f32], bias: &[f32]| {
            at += write_matrix(&mut out[at..], first, second, bias);
        };
        match self.body {
            Body::Statistic { .. } => {}
            Body::LstmAutoencoder(net) => {
                matrix(net.encoder.input, net.encoder.recurrent, net.encoder.bias);
                matrix(net.bottleneck.weight, &[], net.bottleneck.bias);
                matrix(net.decoder.input, net.decoder.recurrent, net.decoder.bias);
                matrix(net.output.weight, &[], net.output.bias);
            }
            Body::LstmForecaster(net) => {
                matrix(net.lstm.input, net.lstm.recurrent, net.lstm.bias);
                matrix(net.output.weight, &[], net.output.bias);
            }
            Body::Quadratic { matrix: map, rows, .. } => {
                let zeros = [0.0; crate::format::MAX_HIDDEN];
                // More rows than a map may have are refused when the draft is parsed.
                if let Some(zeros) = zeros.get(..rows) {
                    matrix(map, &[], zeros);
                }
            }
            Body::RulHead(net) => {
                net.layers.iter().for_each(|layer| matrix(layer.weight, &[], layer.bias));
                net.write(&mut out[layout.body_offset()..]);
            }
        }
        let window_floats = self.sequence_len * self.features.len();
        for (i, window) in self.golden.chunks_exact(window_floats.max(1)).enumerate() {
            write_floats(&mut out[layout.golden_offset() + i * layout.golden_bytes()..], window);
        }
    }
}

impl Lstm<'_> {
    fn check(&self, inputs: usize, hidden: usize) -> Result<(), DraftError> {
        check("input weights of an LSTM", self.input.len(), 4 * hidden * inputs)?;
        check("recurrent weights of an LSTM", self.recurrent.len(), 4 * hidden * hidden)?;
        check("biases of an LSTM", self.bias.len(), 4 * hidden)
    }
}

impl Dense<'_> {
    fn check(&self, inputs: usize, outputs: usize) -> Result<(), DraftError> {
        check("weights of a dense layer", self.weight.len(), outputs * inputs)?;
        check("biases of a dense layer", self.bias.len(), outputs)
    }
}

impl RulHead<'_> {
    fn check(&self, n: usize) -> Result<(), DraftError> {
        let [h, c] = self.hidden;
        let present = 1 + usize::from(h > 0) + usize::from(c > 0);
        check("layers of a RUL head", self.layers.len(), self.members * present)?;
        let widths = [n * self.smoothing.len() + 1, h, c];
        for member in self.layers.chunks(present) {
            let mut inputs = widths[0];
            let outputs = widths[1..].iter().copied().filter(|width| *width > 0).chain([1]);
            for (layer, outputs) in member.iter().zip(outputs) {
                layer.check(inputs, outputs)?;
                inputs = outputs;
            }
        }
        let Some(points) = self.points else { return Ok(()) };
        check("weights of operating points", points.weight.len(), n)?;
        check("centroids", points.centroid.len(), points.centroid.len().next_multiple_of(n.max(1)).max(1))?;
        check("means of operating points", points.mean.len(), points.centroid.len())?;
        check("scales of operating points", points.inverse_scale.len(), points.centroid.len())
    }

    fn write(&self, out: &mut [u8]) {
        let numbers = [self.age_scale, self.scale, self.cap];
        let points = self.points.into_iter().flat_map(|points| {
            let normaliser = points.mean.iter().zip(points.inverse_scale).flat_map(|(mean, inverse)| [mean, inverse]);
            points.weight.iter().chain(points.centroid).chain(normaliser)
        });
        let interval = self.interval.iter().flat_map(|(below, above)| [below, above]);
        let last = self.smoothing.iter().chain(points).chain(interval);
        write_floats(out, numbers.iter().chain(last));
    }
}

fn check(name: &'static str, found: usize, expected: usize) -> Result<(), DraftError> {
    if found == expected { Ok(()) } else { Err(DraftError::Shape(name)) }
}

/// Runs the golden windows of what is written so far and writes the kernel's bits behind each.
pub(crate) fn write_golden_bits<const FLOATS: usize>(
    out: &mut [u8],
    layout: &Layout,
    state: &mut State<FLOATS>,
    scratch: &mut Scratch,
) -> Result<(), DraftError> {
    for window in 0..layout.golden {
        let artifact = Artifact::parse(out)?;
        let Scored { anomaly, contributions, rul } = artifact.run_golden(window, state, scratch)?;
        let bits = layout.golden_offset() + window * layout.golden_bytes() + 4 * layout.sequence * layout.inputs;
        let estimate = rul.map(|rul| [rul.value, rul.low, rul.high]);
        write_floats(&mut out[bits..], [anomaly].iter().chain(contributions).chain(estimate.iter().flatten()));
    }
    Ok(())
}

/// One row of weights per input, then the biases; returns the bytes taken.
fn write_matrix(out: &mut [u8], first: &[f32], second: &[f32], bias: &[f32]) -> usize {
    let outputs = bias.len();
    let by_input = |part: &'_ [f32]| {
        let inputs = part.len() / outputs.max(1);
        (0..inputs).flat_map(move |k| (0..outputs).map(move |output| output * inputs + k))
    };
    let rows = by_input(first).map(|at| &first[at]).chain(by_input(second).map(|at| &second[at]));
    write_floats(out, rows.chain(bias));
    4 * (first.len() + second.len() + outputs)
}

pub(crate) fn write_floats<'f>(out: &mut [u8], values: impl IntoIterator<Item = &'f f32>) {
    for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

//! Writes artifacts: what a trainer fills in, checked by the parser that will read it.

use kilter_types::{FeatureRef, GroupKind};

use crate::{
    Artifact, DraftError, Family, Layout, Range, Regime, ResetRule, ScoreOf, Scratch, State, format::HEADER_BYTES,
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
        layout.write_header(out);
        self.write_sections(out, &layout);
        for window in 0..layout.golden {
            let artifact = Artifact::parse(out)?;
            let (anomaly, contributions) = artifact.run_golden(window, state, scratch)?;
            let bits = layout.golden_offset() + (window + 1) * layout.golden_bytes() - 4 * (1 + self.features.len());
            write_floats(&mut out[bits..], [anomaly].iter().chain(contributions));
        }
        Ok(Artifact::parse(out)?)
    }

    fn layout(&self) -> Layout {
        let (family, hidden, code, score_of, ewma) = match self.body {
            Body::Statistic { ewma } => (Family::Statistic, 0, 0, ScoreOf::LastRow, ewma),
            Body::LstmAutoencoder(net) => (Family::LstmAutoencoder, net.hidden, net.code, net.score_of, 0.0),
        };
        // Counts beyond a byte are refused when the draft is parsed.
        let count = |count: usize| count.min(usize::from(u8::MAX));
        let (inputs, sequence) = (count(self.features.len()), count(self.sequence_len));
        Layout {
            family,
            group: self.group,
            reset: self.reset,
            score_of,
            inputs,
            sequence,
            hidden: count(hidden),
            code: count(code),
            regimes: count(self.regimes.len()),
            golden: count(self.golden.len() / (sequence * inputs).max(1)),
            threshold: self.threshold,
            input_clip: self.input_clip,
            residual_clip: self.residual_clip,
            ewma,
        }
    }

    fn check_shapes(&self) -> Result<(), DraftError> {
        let n = self.features.len();
        let mut lengths = heapless::Vec::<(&'static str, usize, usize), 16>::new();
        let mut check = |name, found, expected| lengths.push((name, found, expected)).expect("there are 15 lengths");
        check("list of means", self.mean.len(), n);
        check("list of scales", self.inverse_scale.len(), n);
        check("list of ranges", self.range.len(), n);
        check("list of weights", self.weight.len(), n);
        check("golden windows", self.golden.len(), self.layout().golden * self.sequence_len * n);
        if let Body::LstmAutoencoder(net) = self.body {
            let (h, c) = (net.hidden, net.code);
            for (lstm, inputs) in [(net.encoder, n), (net.decoder, c)] {
                check("input weights of an LSTM", lstm.input.len(), 4 * h * inputs);
                check("recurrent weights of an LSTM", lstm.recurrent.len(), 4 * h * h);
                check("biases of an LSTM", lstm.bias.len(), 4 * h);
            }
            for (dense, outputs) in [(net.bottleneck, c), (net.output, n)] {
                check("weights of a dense layer", dense.weight.len(), outputs * h);
                check("biases of a dense layer", dense.bias.len(), outputs);
            }
        }
        match lengths.iter().find(|(_, found, expected)| found != expected) {
            Some((name, ..)) => Err(DraftError::Shape(name)),
            None => Ok(()),
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
        if let Body::LstmAutoencoder(net) = self.body {
            let mut at = layout.body_offset();
            let parts = [
                (net.encoder.input, net.encoder.recurrent, net.encoder.bias),
                (net.bottleneck.weight, &[], net.bottleneck.bias),
                (net.decoder.input, net.decoder.recurrent, net.decoder.bias),
                (net.output.weight, &[], net.output.bias),
            ];
            for (first, second, bias) in parts {
                at += write_matrix(&mut out[at..], first, second, bias);
            }
        }
        let window_floats = self.sequence_len * self.features.len();
        for (i, window) in self.golden.chunks_exact(window_floats.max(1)).enumerate() {
            write_floats(&mut out[layout.golden_offset() + i * layout.golden_bytes()..], window);
        }
    }
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

fn write_floats<'f>(out: &mut [u8], values: impl IntoIterator<Item = &'f f32>) {
    for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

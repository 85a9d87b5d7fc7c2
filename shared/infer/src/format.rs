//! The artifact's bytes: one flat little-endian layout, version 1.
//!
//! There is no table of offsets: every offset follows from the counts in the header, so a damaged artifact can't point
//! anywhere. Nothing is aligned; numbers are read by value.
//!
//! ```text
//! offset  size      field
//!      0  4         "KLTM"
//!      4  2         layout version = 1
//!      6  2         kernel id, 1 portable f32 or 2 portable int8; the golden bits below are this kernel's
//!      8  1         family: 0 statistic, 1 LSTM autoencoder, 2 LSTM forecaster, 3 RUL head, 4 quadratic
//!      9  1         group kind: 0 vibration, 1 temperature, 2 reading, 3 cycle
//!     10  1         reset rule: bit 0 gap, bit 1 regime, bit 2 model switch
//!     11  1         what is scored: 0 last row, 1 whole sequence, 2 mean residual; only an autoencoder has other than 0
//!     12  1         n, inputs: 1..=64
//!     13  1         T, rows from a reset to the first score: 1..=64
//!     14  1         h, hidden: 8..=64, a multiple of 8; RUL head: first layer, also 0; statistic and quadratic have 0
//!     15  1         c, code: 1..=64; RUL head: second layer, 0..=64, a multiple of 8; quadratic: rows 1..=64; others have 0
//!     16  1         r, regimes: 0..=16
//!     17  1         g, golden windows: 1..=8
//!     18  1         mode: 0 sequence, 1 streaming; only a forecaster has other than 0
//!     19  1         reserved, 0
//!     20  4         size of the artifact in bytes
//!     24  4   f32   threshold, > 0
//!     28  4   f32   input clip: normalised values enter a network within +- this
//!     32  4   f32   residual clip: normalised values are compared within +- this
//!     36  4   f32   EWMA weight of the newest row, (0, 1]; autoencoder and RUL head have 0
//!     40  1         K, running means of a RUL head: 1..=8; others have 0
//!     41  1         M, members of a RUL head: 1..=8; others have 0
//!     42  1         P, operating points of a RUL head: 0..=8; others have 0
//!     43  1         B, bins of a RUL head's interval: 1..=16; others have 0
//!     44  4   f32   declared loss: the int8 kernel's largest difference from f32, see below; the f32 kernel has 0
//!     48  8n        features: id u16, reserved u16 = 0, definition hash u32
//!         8n        normaliser: mean f32, inverse scale f32 > 0
//!         8n        training range: low f32 <= high f32
//!         4n        weight of the feature in the anomaly, f32 >= 0
//!         16r       regimes: rpm low, rpm high, load low, load high, f32
//!         ..        body of the family, f32 each
//!         g windows T*n f32 rows, the anomaly's bits u32, n contributions' bits u32; a RUL head: value, low, high, bits u32
//!
//! m(out, in), f32: one row of `out` weights for each of `in` inputs, then `out` biases.
//!
//! body of a statistic: empty
//! body of an LSTM autoencoder:
//!         m(4h, n+h)  encoder, gates in the order input, forget, cell, output; row first, then hidden
//!         m(c, h)     code = tanh(...)
//!         m(4h, c+h)  decoder, fed the code at every step, reconstructs the last row first
//!         m(n, h)     output, linear
//! body of an LSTM forecaster:
//!         m(4h, n+h)  as the encoder
//!         m(n, h)     the next row, linear
//! body of a RUL head; D = K n + 1 inputs, at most 320:
//!         3 f32       age scale >= 0, output scale, cap > 0
//!         K f32       smoothing weights, [0, 1]
//!         P > 0: n f32 weight of each input in choosing the point, >= 0; P n f32 centroids; P n pairs mean, inverse scale > 0
//!         2B f32      interval: below >= 0, above >= 0, per bin of the estimate
//!         M times     m(h, D), m(c, h), m(1, c); layers of size 0 are left out
//! body of a quadratic: one row of `c` weights for each of `n` inputs, then `c` zeros
//!
//! m(out, in1 + in2) of the int8 kernel, in1 being the first vector that enters and in2 the second:
//!         4 out       biases f32
//!         4 out       scale of the weights of in1, f32 >= 0; then those of in2, if there is an in2
//!         ..          per pair of inputs of in1, then of in2: for each output the pair's weights, i8; 0 fills an odd pair
//!         ..          zeros to a multiple of 4
//! The declared loss is the largest |anomaly - anomaly of f32| / max(1, anomaly of f32) over the rows that the converter was
//! given and the golden windows; of a RUL head also the same of value / cap. A quadratic and a statistic have no int8 form.
//! ```

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"KLTM";
/// The layout's version.
pub const VERSION: u16 = 1;
/// Bytes before the features.
pub const HEADER_BYTES: usize = 48;
/// The most inputs of a model.
pub const MAX_INPUTS: usize = 64;
/// The most rows in a sequence.
pub const MAX_SEQUENCE: usize = 64;
/// The most hidden units, and the largest code.
pub const MAX_HIDDEN: usize = 64;
/// The most regimes.
pub const MAX_REGIMES: usize = 16;
/// The most golden windows.
pub const MAX_GOLDEN: usize = 8;
/// The most running means of a RUL head.
pub const MAX_MEANS: usize = 8;
/// The most inputs of a RUL head's first layer.
pub const MAX_WIDE: usize = 320;
/// The most members of a RUL head.
pub const MAX_MEMBERS: usize = 8;
/// The most operating points of a RUL head.
pub const MAX_POINTS: usize = 8;
/// The most bins of a RUL head's interval.
pub const MAX_BINS: usize = 16;
/// No age of a sequence, scaled, is greater.
pub const MAX_AGE: f32 = 4.0;
/// No artifact is larger.
pub const MAX_ARTIFACT_BYTES: usize = 1 << 20;
/// No weight is further from 0: with it no bounded input overflows.
pub const MAX_WEIGHT: f32 = 1e6;
/// No clip is wider.
pub const MAX_CLIP: f32 = 1e6;

/// What kind of model; numbers are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Distance of an exponentially weighted mean from the healthy mean, summed over features.
    Statistic,
    /// Reconstruction error of a sequence of rows.
    LstmAutoencoder,
    /// Difference between each row and what the rows before it announced.
    LstmForecaster,
    /// Remaining useful life with an interval, from running means of the rows.
    RulHead,
    /// Squared length of a linear map of an exponentially weighted mean: full Mahalanobis, T² and Q.
    Quadratic,
}

impl Family {
    pub(crate) fn parse(byte: u8) -> Option<Self> {
        [Self::Statistic, Self::LstmAutoencoder, Self::LstmForecaster, Self::RulHead, Self::Quadratic]
            .get(usize::from(byte))
            .copied()
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Statistic => 0,
            Self::LstmAutoencoder => 1,
            Self::LstmForecaster => 2,
            Self::RulHead => 3,
            Self::Quadratic => 4,
        }
    }
}

/// How a network meets the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every score runs the last rows from a zero state: nothing before them matters.
    Sequence,
    /// The state is carried: each row is one step, and the rows since the reset all matter.
    Streaming,
}

impl Mode {
    pub(crate) fn parse(byte: u8) -> Option<Self> {
        [Self::Sequence, Self::Streaming].get(usize::from(byte)).copied()
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Sequence => 0,
            Self::Streaming => 1,
        }
    }
}

/// Which residuals make an autoencoder's anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreOf {
    /// The squared residual of the newest row.
    LastRow,
    /// The mean over the sequence of squared residuals.
    Sequence,
    /// The square of the mean residual over the sequence: noise averages out, a shift stays.
    MeanResidual,
}

impl ScoreOf {
    pub(crate) fn parse(byte: u8) -> Option<Self> {
        [Self::LastRow, Self::Sequence, Self::MeanResidual].get(usize::from(byte)).copied()
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::LastRow => 0,
            Self::Sequence => 1,
            Self::MeanResidual => 2,
        }
    }
}

/// What broke a sequence of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interruption {
    /// A window is missing or unusable.
    Gap,
    /// The machine went to another operating state.
    Regime,
    /// Another model takes over.
    Switch,
}

/// After which interruptions a sequence starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResetRule(pub(crate) u8);

impl ResetRule {
    /// After each of them.
    pub const ALWAYS: Self = Self(0b111);

    /// After these.
    pub fn after(interruptions: &[Interruption]) -> Self {
        Self(interruptions.iter().fold(0, |bits, i| bits | Self::bit(*i)))
    }

    /// Does the sequence start anew after this?
    pub fn resets(self, interruption: Interruption) -> bool {
        self.0 & Self::bit(interruption) != 0
    }

    fn bit(interruption: Interruption) -> u8 {
        match interruption {
            Interruption::Gap => 1,
            Interruption::Regime => 2,
            Interruption::Switch => 4,
        }
    }
}

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub low: f32,
    /// Upper end.
    pub high: f32,
}

impl Range {
    /// Everything that is finite: for what was not known in training.
    pub const ANY: Self = Self { low: f32::MIN, high: f32::MAX };

    /// Is the value inside? NaN is not.
    pub fn contains(self, value: f32) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Speeds and loads that the training data covered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regime {
    /// Shaft speed in revolutions per minute.
    pub rpm: Range,
    /// Load in the unit of the machine's load channel; [`Range::ANY`] where there is none.
    pub load: Range,
}

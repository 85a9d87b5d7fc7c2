//! Why an artifact, a row or a draft is refused.

use core::fmt;

/// The bytes are no artifact that this kernel can score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactError {
    /// Fewer bytes than a header.
    Truncated,
    /// Not an artifact.
    Magic,
    /// Another layout version.
    Version(u16),
    /// Another arithmetic.
    Kernel(u16),
    /// A family that this version does not know.
    Family(u8),
    /// A count or mode in the header, at this offset, is out of bounds.
    Header(usize),
    /// The header implies another size than there are bytes.
    Size {
        /// By the header's counts.
        expected: usize,
        /// There are.
        found: usize,
    },
    /// The number at this offset is not finite, or outside what its field allows.
    Number(usize),
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "read the artifact's header: too short"),
            Self::Magic => write!(f, "recognise the artifact: it does not start with KLTM"),
            Self::Version(version) => write!(f, "read artifact layout version {version}"),
            Self::Kernel(id) => write!(f, "score with kernel {id}"),
            Self::Family(family) => write!(f, "score model family {family}"),
            Self::Header(offset) => write!(f, "accept the header field at offset {offset}"),
            Self::Size { expected, found } => write!(f, "match the header's {expected} bytes with {found} bytes"),
            Self::Number(offset) => write!(f, "accept the number at offset {offset}"),
        }
    }
}

impl core::error::Error for ArtifactError {}

/// A row that can't be scored; the state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// Not one value per input.
    Length {
        /// The model's inputs.
        expected: usize,
        /// The row's values.
        found: usize,
    },
    /// This value is NaN or infinite.
    NonFinite(usize),
    /// The state holds fewer floats than the artifact needs.
    State {
        /// Floats needed.
        needed: usize,
        /// Floats there.
        found: usize,
    },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "score a row of {found} values with a model of {expected} inputs")
            }
            Self::NonFinite(index) => write!(f, "score a row whose value {index} is not finite"),
            Self::State { needed, found } => write!(f, "keep {needed} floats of state in {found}"),
        }
    }
}

impl core::error::Error for RowError {}

/// This target does not reproduce the artifact's golden windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertifyError {
    /// A golden window could not be scored.
    Row(RowError),
    /// The anomaly of this golden window has other bits.
    Anomaly(usize),
    /// A contribution in this golden window has other bits.
    Contribution {
        /// The window.
        window: usize,
        /// The feature's place.
        feature: usize,
    },
    /// The remaining useful life of this golden window, or an end of its interval, has other bits.
    Estimate(usize),
}

impl fmt::Display for CertifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(error) => write!(f, "certify: {error}"),
            Self::Anomaly(window) => write!(f, "reproduce the anomaly of golden window {window}"),
            Self::Contribution { window, feature } => {
                write!(f, "reproduce contribution {feature} of golden window {window}")
            }
            Self::Estimate(window) => write!(f, "reproduce the remaining life of golden window {window}"),
        }
    }
}

impl core::error::Error for CertifyError {}

impl From<RowError> for CertifyError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

/// A draft that can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftError {
    /// This slice has not the length that the counts ask for.
    Shape(&'static str),
    /// The buffer is smaller than [`crate::Draft::size_bytes`].
    Buffer {
        /// Bytes needed.
        needed: usize,
    },
    /// What was written does not parse.
    Artifact(ArtifactError),
    /// A golden window can't be scored.
    Row(RowError),
    /// It has no int8 form: its family has none, or it is int8 already.
    Kernel,
}

impl fmt::Display for DraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(what) => write!(f, "write a model whose {what} has the wrong length"),
            Self::Buffer { needed } => write!(f, "write {needed} bytes into a smaller buffer"),
            Self::Artifact(error) => write!(f, "write a valid artifact: {error}"),
            Self::Row(error) => write!(f, "run the golden windows: {error}"),
            Self::Kernel => f.write_str("turn a model into int8 that has no such form"),
        }
    }
}

impl core::error::Error for DraftError {}

impl From<ArtifactError> for DraftError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

impl From<RowError> for DraftError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

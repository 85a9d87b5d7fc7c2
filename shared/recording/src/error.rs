//! Why a recording can't be used: the file, the field, and what to do about it.

use std::path::PathBuf;

/// A failure to read a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file or folder can't be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// More bytes, rows, columns or values than this crate takes.
    #[error("read {file}: {what} is more than {limit}")]
    TooLarge {
        /// File.
        file: String,
        /// What there is too much of.
        what: String,
        /// How much is taken.
        limit: u64,
    },
    /// Something that nobody has declared.
    #[error("read {file}: {field} is not declared; {remedy}")]
    Undeclared {
        /// File.
        file: String,
        /// The missing field.
        field: String,
        /// What to do.
        remedy: String,
    },
    /// Something declared that makes no sense or that the file does not hold.
    #[error("read {file}: {field} is {value}; {remedy}")]
    Declared {
        /// File.
        file: String,
        /// The field.
        field: String,
        /// What was given.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// The bytes are not what the format promises.
    #[error("read {file}: {what}")]
    Format {
        /// File.
        file: String,
        /// What is wrong, and where.
        what: String,
    },
    /// A cell that is neither a number nor empty.
    #[error("read {file}: line {line}, column {column}: {text:?} is not {expected}")]
    Cell {
        /// File.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column as the header names it.
        column: String,
        /// What stands there.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl RecordingError {
    pub(crate) fn format(file: &str, what: impl Into<String>) -> Self {
        Self::Format { file: file.to_owned(), what: what.into() }
    }

    pub(crate) fn undeclared(file: &str, field: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Undeclared { file: file.to_owned(), field: field.into(), remedy: remedy.into() }
    }

    pub(crate) fn too_large(file: &str, what: impl Into<String>, limit: u64) -> Self {
        Self::TooLarge { file: file.to_owned(), what: what.into(), limit }
    }
}

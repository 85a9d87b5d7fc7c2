//! What can go wrong with a question.

use kilter_lake::TableName;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The SQL can't be understood or names what is not there.
    #[error("answer the query: {0}")]
    Query(String),
    /// The query reaches for files; only the lake's tables can be asked.
    #[error(
        "answer the query: {0} is not allowed, ask the tables features, scores, events, gaps, quarantine and clips"
    )]
    Forbidden(&'static str),
    /// A table can't be read.
    #[error("read table {table}: {text}")]
    Read {
        /// The table.
        table: TableName,
        /// What Polars said.
        text: String,
    },
    /// A definition of a feature that can't be computed.
    #[error("read the definition: {0}")]
    Definition(String),
    /// Values of a defined feature can't be computed or written.
    #[error("compute a defined feature: {0}")]
    Derive(String),
    /// A view that the question needs was not given.
    #[error("read table {0}: no view of it was given")]
    Missing(TableName),
}

//! SQL over the tables, answered as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kilter_lake::DataFile;
use polars::prelude::{AnyValue, DataFrame};
use polars::sql::SQLContext;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{HistoryError, View, derive, sql};

/// The answer to a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, a value per column.
    pub rows: Vec<Vec<Value>>,
    /// There were more rows than were asked for at most.
    pub truncated: bool,
    /// What the asker should know, in words.
    #[serde(default)]
    pub note: Option<String>,
    /// How much of the lake was looked at.
    #[serde(default)]
    pub scanned: Scanned,
    /// The version of the lake that each table was read at.
    pub lake_version: BTreeMap<String, u64>,
    /// The journal offset at which the tail took over, the least of all tables.
    pub seam_offset: u64,
}

/// How much of the tables that were asked was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// Files that could hold an answer.
    pub files: usize,
    /// Their size; of a file only the columns and row groups that matter are read.
    pub bytes: u64,
    /// All files of these tables.
    pub of_files: usize,
    /// Their size.
    pub of_bytes: u64,
}

/// Answers one SQL statement over these tables with at most `max_rows` rows. Reads files: not for an async thread.
pub fn query(sql: &str, views: &[View], max_rows: usize) -> Result<Answer, HistoryError> {
    query_named(sql, views, &BTreeMap::new(), max_rows)
}

/// The same where statements have names of their own (`CREATE VIEW`, as it were): name and statement over the tables.
pub fn query_named(
    sql: &str,
    views: &[View],
    named: &BTreeMap<String, String>,
    max_rows: usize,
) -> Result<Answer, HistoryError> {
    query_with(sql, views, &[], named, max_rows)
}

/// Values of a defined feature, as files.
#[derive(Clone, Debug)]
pub struct Derived {
    /// Their table, as in crest_v2.
    pub table: String,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// The same where there are also defined features: each version is a table, and `derived` is all of them.
pub fn query_with(
    sql: &str,
    views: &[View],
    derived: &[Derived],
    named: &BTreeMap<String, String>,
    max_rows: usize,
) -> Result<Answer, HistoryError> {
    let lower = sql.to_lowercase();
    if let Some(function) = FORBIDDEN.into_iter().find(|function| lower.contains(function)) {
        return Err(HistoryError::Forbidden(function));
    }
    let sql = &sql::quoted(sql);
    let narrowed = sql::bounds(sql);
    let mut context = SQLContext::new();
    let mut scanned = Scanned::default();
    for view in views {
        let bounds = narrowed.as_ref().filter(|(table, _)| *table == view.table()).map(|(_, bounds)| bounds);
        let files = view.snapshot.files.iter();
        let files: Vec<_> = files.filter(|file| bounds.is_none_or(|bounds| bounds.allow(file))).collect();
        if lower.contains(view.table().as_str()) {
            let bytes = |file: &DataFile| file.bytes;
            scanned.files += files.len();
            scanned.bytes += files.iter().copied().map(bytes).sum::<u64>();
            scanned.of_files += view.snapshot.files.len();
            scanned.of_bytes += view.snapshot.files.iter().map(bytes).sum::<u64>();
        }
        context.register(view.table().as_str(), view.scan_files(&files)?);
    }
    let said = |error: polars::error::PolarsError| HistoryError::Query(error.to_string());
    for Derived { table, files } in derived {
        context.register(table, derive::scan(files).map_err(said)?);
    }
    let all: Vec<_> = derived.iter().flat_map(|derived| derived.files.iter().cloned()).collect();
    context.register(DERIVED, derive::scan(&all).map_err(said)?);
    for (name, statement) in named.iter().filter(|(name, _)| lower.contains(name.as_str())) {
        let frame = context.execute(&sql::quoted(statement)).map_err(said)?;
        context.register(name, frame);
    }
    // One row more than allowed tells whether there were more.
    let most = u32::try_from(max_rows.saturating_add(1)).unwrap_or(u32::MAX);
    let plan = context.execute(sql).map_err(said)?.limit(most);
    let frame = match plan.clone().collect() {
        // Polars turns the count of a union's rows into a sum of 128-bit numbers, a type that costs minutes of build time and is
        // left out here. Without pushing the projection down it counts them plainly.
        Err(error) if error.to_string().contains("UInt128") => plan.with_projection_pushdown(false).collect(),
        frame => frame,
    };
    let frame = frame.map_err(said)?;
    let mut rows = rows(&frame).map_err(said)?;
    let truncated = rows.len() > max_rows;
    rows.truncate(max_rows);
    Ok(Answer {
        columns: frame.get_column_names().into_iter().map(ToString::to_string).collect(),
        rows,
        truncated,
        note: truncated
            .then(|| format!("cut at {max_rows} rows: ask for fewer with LIMIT or WHERE, or count them with GROUP BY")),
        scanned,
        lake_version: views.iter().map(|view| (view.table().to_string(), view.snapshot.version)).collect(),
        seam_offset: views.iter().map(View::seam).min().unwrap_or(0),
    })
}

fn rows(frame: &DataFrame) -> Result<Vec<Vec<Value>>, polars::error::PolarsError> {
    (0..frame.height())
        .map(|row| frame.columns().iter().map(|column| column.get(row).map(|value| json(&value))).collect())
        .collect()
}

fn json(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::String(text) => (*text).into(),
        AnyValue::StringOwned(text) => text.as_str().into(),
        AnyValue::Int8(value) => (*value).into(),
        AnyValue::Int16(value) => (*value).into(),
        AnyValue::Int32(value) => (*value).into(),
        AnyValue::Int64(value) => (*value).into(),
        AnyValue::UInt8(value) => (*value).into(),
        AnyValue::UInt16(value) => (*value).into(),
        AnyValue::UInt32(value) => (*value).into(),
        AnyValue::UInt64(value) => (*value).into(),
        AnyValue::Float32(value) => f64::from(*value).into(),
        AnyValue::Float64(value) => (*value).into(),
        AnyValue::List(series) => series.iter().map(|value| json(&value)).collect(),
        AnyValue::Binary(bytes) => hex(bytes).into(),
        AnyValue::BinaryOwned(bytes) => hex(bytes).into(),
        other => other.to_string().into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every version of every defined feature.
pub const DERIVED: &str = "derived";

/// Table functions would read any file that the lab can.
const FORBIDDEN: [&str; 5] = ["read_parquet", "read_csv", "read_ipc", "read_json", "read_ndjson"];

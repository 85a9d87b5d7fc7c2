//! The lake as another reader sees it: the Python `deltalake` package on the files themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{House, target, workspace};

/// Rows and distinct windows of the features table per asset and point.
pub fn counts(house: &House) -> anyhow::Result<BTreeMap<(String, String), (u64, u64)>> {
    let answer = ask(house, "lake_counts.py", "features", &[])?;
    let mut counts: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for row in answer["counts"].as_array().into_iter().flatten() {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let entry = counts.entry((text("asset"), text("point"))).or_default();
        entry.0 += row["rows"].as_u64().unwrap_or_default();
        entry.1 += row["windows"].as_u64().unwrap_or_default();
    }
    Ok(counts)
}

/// Fails unless a query of these columns gives the same values for each row as a direct read of the table; returns how many rows.
pub fn equals_query(house: &House, table: &str, columns: &[&str]) -> anyhow::Result<usize> {
    let mut compared = 0;
    let quoted: Vec<_> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    for machine in &house.machines {
        let asset = &machine.asset;
        let sql = format!("SELECT {} FROM {table} WHERE asset = '{asset}'", quoted.join(", "));
        let asked = sorted(&house.query(&sql)?);
        let arguments: Vec<_> = [asset.as_str()].into_iter().chain(columns.iter().copied()).collect();
        let read = ask(house, "lake_rows.py", table, &arguments)?;
        let read = sorted(read.as_array().context("read the rows of the table")?);
        ensure!(asked.len() == read.len(), "{table} of {asset}: {} rows asked, {} read", asked.len(), read.len());
        let differs = asked.iter().zip(&read).find(|(asked, read)| asked != read);
        ensure!(differs.is_none(), "{table} of {asset} differs: asked, read {differs:?}");
        compared += read.len();
    }
    Ok(compared)
}

/// Rows in one order, numbers with a fraction as the 32 bits that were stored.
fn sorted(rows: &[Value]) -> Vec<String> {
    let mut rows: Vec<_> = rows.iter().map(canonical).collect();
    rows.sort();
    rows
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => canonical_float(whole as f64).unwrap_or_else(|| whole.to_string()),
            None => number.as_f64().and_then(canonical_float).unwrap_or_else(|| number.to_string()),
        },
        other => other.to_string(),
    }
}

/// Small numbers may stand with or without a fraction; larger ones are whole and compared as they are.
fn canonical_float(number: f64) -> Option<String> {
    (number.abs() < 1e6 || number.fract() != 0.0).then(|| format!("{:08x}", (number as f32).to_bits()))
}

fn ask(house: &House, script: &str, table: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(python())
        .arg(workspace().join("tests/python").join(script))
        .arg(house.data_dir().join("lake").join(table))
        .args(arguments)
        .output()
        .context("start the Python that `cargo xt setup` prepares")?;
    ensure!(output.status.success(), "{script} {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read the answer of Python")
}

/// The Python that `cargo xt setup` prepared.
fn python() -> PathBuf {
    target().join("python").join("bin").join("python")
}

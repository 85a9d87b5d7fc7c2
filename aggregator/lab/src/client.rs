//! The commands that ask: through the socket of a running lab, or by opening the data folder when none runs.

use std::path::Path;

use anyhow::{Context, bail};
use kilter_history::{Answer, View};
use kilter_types::Micros;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::arguments::Accept;
use crate::bar;
use crate::config;
use crate::derived::Derived;
use crate::lab::{Lab, Wait, read_on};
use crate::reprocess;

/// Asks with SQL.
pub(crate) async fn query(data: &Path, sql: &str, as_of_us: Option<i64>, as_json: bool) -> anyhow::Result<()> {
    let answer: Answer = match ask(data, &json!({ "op": "query", "sql": sql, "as_of_us": as_of_us })).await? {
        Some(answer) => serde_json::from_value(answer).context("failed to read the lab's answer")?,
        None => {
            let config = config::load(data)?;
            let mut lab = Lab::open(data, Wait::No).await?;
            while read_on(&mut lab.reader, &mut lab.state, usize::MAX)? {}
            let mut views = lab.state.views();
            if let Some(at_us) = as_of_us {
                views.clear();
                for table in lab.tables.values() {
                    views.push(View { snapshot: table.snapshot_at(Micros(at_us)).await?, tail: Vec::new() });
                }
            }
            let sql = sql.to_owned();
            let derived = Derived::open(&lab.files)?;
            let answered = tokio::task::spawn_blocking(move || {
                reprocess::answer(&sql, &views, &derived, &config.views, (config.query.max_rows, as_of_us))
            });
            serde_json::from_value(answered.await??)?
        }
    };
    if as_json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        print_table(&answer);
    }
    Ok(())
}

/// Shows how far the lab is.
pub(crate) async fn status(data: &Path) -> anyhow::Result<()> {
    let status = ask(data, &json!({ "op": "status" })).await?.context("no lab runs on this data")?;
    println!("{}", serde_json::to_string_pretty(&status)?);
    Ok(())
}

/// Tells whether everything is there.
pub(crate) async fn completeness(data: &Path, point: &str, from: i64, to: i64) -> anyhow::Result<()> {
    let request = json!({ "op": "completeness", "point": point, "from": from, "to": to });
    let told = ask(data, &request).await?.context("no lab runs on this data")?;
    print!("{}", kilter_text::account(&told));
    Ok(())
}

/// Erases rows with these values, within this time where one is given.
pub(crate) async fn erase(
    data: &Path,
    equals: &[String],
    (from_us, to_us): (Option<i64>, Option<i64>),
    who: &str,
    why: &str,
) -> anyhow::Result<()> {
    let subject = pairs(equals, |value| value.into())?;
    let request =
        json!({ "op": "erase", "equals": subject, "from_us": from_us, "to_us": to_us, "who": who, "why": why });
    order(data, "erase", &request).await
}

/// Replaces what a record says: columns with JSON values, or texts.
pub(crate) async fn correct(data: &Path, record: &Value, set: &[String], who: &str, why: &str) -> anyhow::Result<()> {
    let mut correction = record.clone();
    correction["set"] = pairs(set, |value| serde_json::from_str(value).unwrap_or_else(|_| value.into()))?.into();
    let request = json!({ "op": "correct", "correction": correction, "who": who, "why": why });
    order(data, "correct a record", &request).await
}

/// Lets a device seal with this key.
pub(crate) async fn accept_key(accept: &Accept) -> anyhow::Result<()> {
    let Accept { device, key, who, why, data } = accept;
    let request = json!({ "op": "accept", "device": device, "key": key, "who": who, "why": why });
    order(data, "accept a key", &request).await
}

async fn order(data: &Path, what: &str, request: &Value) -> anyhow::Result<()> {
    let told = ask(data, request).await?.with_context(|| format!("failed to {what}: no lab runs on this data"))?;
    println!("{}", serde_json::to_string_pretty(&told)?);
    Ok(())
}

fn pairs(texts: &[String], read: impl Fn(&str) -> Value) -> anyhow::Result<serde_json::Map<String, Value>> {
    let pair = |text: &String| {
        let (column, value) =
            text.split_once('=').with_context(|| format!("failed to read '{text}': it is COLUMN=VALUE"))?;
        Ok((column.to_owned(), read(value)))
    };
    texts.iter().map(pair).collect()
}
/// Compares the lake with what was promised.
pub(crate) async fn reconcile(data: &Path, repair: bool) -> anyhow::Result<()> {
    let request = json!({ "op": "reconcile", "repair": repair });
    let told = ask(data, &request).await?.context("failed to reconcile: no lab runs on this data")?;
    println!("{}", serde_json::to_string_pretty(&told)?);
    if told["clean"] == true { Ok(()) } else { bail!("the lake is not what it should be") }
}

/// One request to a running lab; `None` when none runs.
pub(crate) async fn ask(data: &Path, request: &Value) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(data.join("lab.sock")).await else { return Ok(None) };
    stream.write_all(format!("{request}\n").as_bytes()).await.context("failed to ask the lab")?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.context("failed to read the lab's answer")? {
        let mut answer: Value = serde_json::from_str(&line).context("failed to read the lab's answer")?;
        if let Some(ok) = answer.get_mut("ok") {
            return Ok(Some(ok.take()));
        }
        if let Some(error) = answer.get("error") {
            bail!("{}", text(error));
        }
        bar::show(&answer);
    }
    bail!("the lab ended before it answered")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn print_table(answer: &Answer) {
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(text).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([answer.columns[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..answer.columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(&answer.columns);
    rows.iter().for_each(|row| line(row));
    if answer.truncated {
        println!("… cut at {} rows", rows.len());
    }
}

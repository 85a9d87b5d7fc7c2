//! Features that people define over what the lake keeps: defined, computed over the past, followed from then on, dropped.
//!
//! A changed definition is a new version; both stay until one is dropped, and questions see them side by side. What is wrong with a
//! definition is told before anything is computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use kilter_history::{DERIVED, Formula, View, query_with};
use kilter_lake::{Audit, Snapshot, TableName};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::arguments;
use crate::client;
use crate::clock;
use crate::commit::lock;
use crate::derived::{Definition, Derived, Progress, check_name};
use crate::files::Files;
use crate::socket::Desk;

/// What is wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Wish {
    /// A new version of a feature.
    Define { name: String, expression: String },
    /// Compute it over the past, and follow what comes.
    Run { name: String, version: Option<u32>, from_us: Option<i64>, to_us: Option<i64> },
    /// Forget a version and its values.
    Drop { name: String, version: u32 },
    /// Tell what there is.
    List {},
}

impl Desk {
    /// Does what is wanted; a run tells how far it is until it has come to what the lake holds now.
    pub(crate) async fn reprocess(
        &self,
        wish: Wish,
        audit: Audit,
        progress: mpsc::Sender<Value>,
    ) -> anyhow::Result<Value> {
        let (derived, files) = (self.derived.clone(), self.files.clone());
        let told = match &wish {
            Wish::List {} => return Ok(list(&derived)),
            Wish::Define { name, expression } => {
                check_name(name)?;
                let formula = Formula::parse(expression)?;
                let definition = derived.change(|definitions| {
                    if definitions.iter().filter(|definition| !definition.dropped).count() >= MOST_DEFINITIONS {
                        bail!("failed to define {name}: there are {MOST_DEFINITIONS} definitions; drop one first");
                    }
                    let of_name = definitions.iter().filter(|definition| definition.name == *name);
                    let same = |known: &&Definition| !known.dropped && known.expression == *expression;
                    if let Some(known) = of_name.clone().find(same) {
                        bail!("failed to define {name}: version {} says the same", known.version);
                    }
                    let version = of_name.map(|definition| definition.version).max().unwrap_or(0) + 1;
                    let definition = Definition {
                        name: name.clone(),
                        version,
                        expression: expression.clone(),
                        who: audit.who.clone(),
                        at_us: audit.at_us,
                        within_us: None,
                        dropped: false,
                    };
                    if self.views.contains_key(&definition.table()) {
                        bail!("failed to define {name}: [views] in lab.toml has a {} already", definition.table());
                    }
                    definitions.push(definition.clone());
                    Ok(definition)
                })?;
                let reads: Vec<_> = formula.inputs().collect();
                json!({ "table": definition.table(), "version": definition.version, "reads": reads })
            }
            Wish::Run { name, version, from_us, to_us } => {
                let within_us = (from_us.unwrap_or(i64::MIN), to_us.unwrap_or(i64::MAX));
                if within_us.0 > within_us.1 {
                    bail!("failed to compute {name}: the time ends before it begins");
                }
                let table = derived.change(|definitions| {
                    let definition = find(definitions, name, *version)?;
                    definition.within_us = Some(within_us);
                    Ok(definition.table())
                })?;
                audited(&files, &wish, &audit, &json!({ "table": table, "begun": true }))?;
                self.follow(&table, &progress).await?
            }
            Wish::Drop { name, version } => {
                let table = derived.change(|definitions| {
                    let definition = find(definitions, name, Some(*version))?;
                    definition.dropped = true;
                    Ok(definition.table())
                })?;
                json!({ "dropped": table })
            }
        };
        audited(&files, &wish, &audit, &told)?;
        Ok(told)
    }

    /// Waits until a table holds what the lake holds now.
    async fn follow(&self, table: &str, progress: &mpsc::Sender<Value>) -> anyhow::Result<Value> {
        let features = |snapshot: &&Snapshot| snapshot.table == TableName::Features;
        let wanted = lock(&self.state).snapshots().find(features).map_or(0, |features| features.version);
        let (mut seen, mut silent_ms) = (None, 0);
        loop {
            let Some((definition, now, rows)) =
                self.derived.list().into_iter().find(|(definition, ..)| definition.table() == table)
            else {
                bail!("failed to compute {table}: it was dropped meanwhile");
            };
            if let Some(error) = now.error {
                bail!("failed to compute {table}: {error}; what is done stays, and it is tried again");
            }
            let known = self.derived.progress(table).is_some();
            if known && now.done == now.of && now.lake_version >= wanted {
                return Ok(json!({
                    "table": table, "rows": rows, "days": now.of, "lake_version": now.lake_version,
                    "expression": definition.expression,
                }));
            }
            silent_ms += FOLLOW_MS;
            if seen.as_ref() != Some(&now) || silent_ms >= SILENT_MS {
                let step = json!({ "asset_class": table, "stage": "computing", "step": now.done, "steps": now.of });
                // Whoever asked may have gone; it goes on all the same.
                let _ = progress.try_send(json!({ "progress": step }));
                (seen, silent_ms) = (Some(now), 0);
            }
            clock::pause(FOLLOW_MS).await;
        }
    }
}

/// Every definition with how far it is.
pub(crate) fn list(derived: &Derived) -> Value {
    let each = derived.list().into_iter().map(|(definition, progress, rows)| {
        let Progress { done, of, lake_version, error } = progress;
        let Definition { name, version, expression, who, at_us, within_us, .. } = &definition;
        json!({
            "table": definition.table(), "name": name, "version": version, "expression": expression, "who": who,
            "defined_at_us": at_us, "within_us": within_us, "rows": rows, "done": done, "of": of,
            "lake_version": lake_version, "error": error,
        })
    });
    each.collect()
}

/// Does a statement, or a view that it may name, speak of a defined feature?
pub(crate) fn is_asked(sql: &str, derived: &Derived, named: &BTreeMap<String, String>) -> bool {
    let tables = derived.tables();
    let speaks = |text: &String| text.contains(DERIVED) || tables.iter().any(|derived| text.contains(&derived.table));
    named.values().map(String::as_str).chain([sql]).map(str::to_lowercase).any(|text| speaks(&text))
}

/// Answers a statement that may speak of them. Its answer is not kept: values come without a commit of the lake.
pub(crate) fn answer(
    sql: &str,
    views: &[View],
    derived: &Derived,
    named: &BTreeMap<String, String>,
    (max_rows, as_of_us): (usize, Option<i64>),
) -> anyhow::Result<Value> {
    if as_of_us.is_some() && is_asked(sql, derived, named) {
        bail!("failed to answer: defined features are told as they are now; ask without as_of_us");
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let tables = derived.tables();
        match query_with(sql, views, &tables, named, max_rows) {
            Err(_) if tries < TRIES && tables.iter().any(|table| table.files.iter().any(|file| !file.exists())) => {}
            answer => return Ok(serde_json::to_value(answer?)?),
        }
    }
}

fn find<'a>(definitions: &'a mut [Definition], name: &str, version: Option<u32>) -> anyhow::Result<&'a mut Definition> {
    let wanted = |definition: &&mut Definition| {
        !definition.dropped && definition.name == name && version.is_none_or(|version| definition.version == version)
    };
    definitions
        .iter_mut()
        .filter(wanted)
        .max_by_key(|definition| definition.version)
        .with_context(|| format!("failed to find the definition {name}: `reprocess list` tells which there are"))
}

fn audited(files: &Files, wish: &Wish, audit: &Audit, told: &Value) -> anyhow::Result<()> {
    files.audit(&json!({ "reprocess": format!("{wish:?}"), "audit": audit, "told": told }))
}

/// `kilter-lab reprocess`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Define a feature, or a new version of one: an expression over features, columns and the last rows of the same point.
    Define {
        /// Its name, as in crest.
        name: String,
        /// For example: peak / rms, or rms - rolling_median(rms, 500)
        expression: String,
        #[command(flatten)]
        who: Who,
    },
    /// Compute a version over the past, and follow what comes; values that fit already stay.
    Run {
        /// Its name.
        name: String,
        /// The newest one if not told.
        #[arg(long)]
        version: Option<u32>,
        /// Event time, days or microseconds since 1970, both ends included; everything, and what comes, if not told.
        #[arg(long, value_name = "FROM..TO", value_parser = arguments::range_us)]
        range: Option<(i64, i64)>,
        #[command(flatten)]
        who: Who,
    },
    /// Tell the definitions and how far they are.
    List {
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Drop a version with its values.
    Drop {
        /// Its name.
        name: String,
        /// Which.
        #[arg(long)]
        version: u32,
        #[command(flatten)]
        who: Who,
    },
}

/// For the audit.
#[derive(Args)]
pub(crate) struct Who {
    /// Who wants it.
    #[arg(long)]
    who: String,
    /// Why.
    #[arg(long, default_value = "asked for")]
    why: String,
    /// The aggregator's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Asks the running lab.
pub(crate) async fn command(command: Command) -> anyhow::Result<()> {
    let (wish, who) = match command {
        Command::Define { name, expression, who } => {
            (json!({ "do": "define", "name": name, "expression": expression }), who)
        }
        Command::Run { name, version, range, who } => {
            let (from, to) = range.unzip();
            (json!({ "do": "run", "name": name, "version": version, "from_us": from, "to_us": to }), who)
        }
        Command::Drop { name, version, who } => (json!({ "do": "drop", "name": name, "version": version }), who),
        Command::List { data } => return ask(&data, &json!({ "do": "list" }), "-", "-").await,
    };
    ask(&who.data, &wish, &who.who, &who.why).await
}

async fn ask(data: &Path, wish: &Value, who: &str, why: &str) -> anyhow::Result<()> {
    let request = json!({ "op": "reprocess", "wish": wish, "who": who, "why": why });
    let told = client::ask(data, &request).await?.context("failed to reprocess: no lab runs on this data")?;
    println!("{}", serde_json::to_string_pretty(&told)?);
    Ok(())
}

/// A question during a recompute finds the files that it wants replaced; so often it looks again.
const TRIES: usize = 5;
const MOST_DEFINITIONS: usize = 64;
const FOLLOW_MS: u64 = 100;
/// An asker that hears nothing for long takes the lab for dead.
const SILENT_MS: u64 = 5_000;

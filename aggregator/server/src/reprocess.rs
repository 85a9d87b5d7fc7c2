//! `kilter-aggregator reprocess`: features that people define over the past, through the API.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::client;

/// What is wanted.
#[derive(Subcommand)]
pub(crate) enum Reprocess {
    /// Defines a feature, or a new version of one.
    Define {
        /// Its name, as in crest; the table of version 1 is then crest_v1.
        name: String,
        /// For example: peak / rms, or rms - rolling_median(rms, 500)
        expression: String,
        /// Why, for the audit log.
        #[arg(long, default_value = "asked for")]
        why: String,
    },
    /// Computes a version over the past, and follows what comes; ends when it has come to now.
    Run {
        /// Its name.
        name: String,
        /// The newest one if not told.
        #[arg(long)]
        version: Option<u32>,
        /// Event time in microseconds since 1970, as FROM..TO; everything, and what comes, if not told.
        #[arg(long)]
        range: Option<String>,
        /// Why, for the audit log.
        #[arg(long, default_value = "asked for")]
        why: String,
    },
    /// Tells the definitions and how far they are.
    List,
    /// Drops a version with its values.
    Drop {
        /// Its name.
        name: String,
        /// Which.
        #[arg(long)]
        version: u32,
        /// Why, for the audit log.
        #[arg(long, default_value = "asked for")]
        why: String,
    },
}

/// Asks the running aggregator.
pub(crate) async fn ask(http: SocketAddr, wish: Reprocess) -> anyhow::Result<()> {
    let wish = match wish {
        Reprocess::Define { name, expression, why } => {
            json!({ "do": "define", "name": name, "expression": expression, "why": why })
        }
        Reprocess::Run { name, version, range, why } => {
            let range = range.as_deref().map(ends).transpose()?;
            let (from, to) = range.unzip();
            json!({ "do": "run", "name": name, "version": version, "from_us": from, "to_us": to, "why": why })
        }
        Reprocess::Drop { name, version, why } => json!({ "do": "drop", "name": name, "version": version, "why": why }),
        Reprocess::List => {
            let told = client::ask(http, "GET", "/api/reprocess", None).await?;
            told.as_array().into_iter().flatten().for_each(line);
            return Ok(());
        }
    };
    println!("{:#}", client::ask(http, "POST", "/api/reprocess", Some(&wish)).await?);
    Ok(())
}

fn ends(range: &str) -> anyhow::Result<(i64, i64)> {
    let (from, to) = range.split_once("..").context("failed to read --range: it is FROM..TO")?;
    let number = |text: &str| text.parse::<i64>().context("failed to read --range: both are microseconds");
    Ok((number(from)?, number(to)?))
}

fn line(told: &Value) {
    let text = |key: &str| told[key].as_str().unwrap_or("-").to_owned();
    let how = match (told["error"].as_str(), told["within_us"].is_null()) {
        (Some(error), _) => error.to_owned(),
        (None, true) => "defined, not computed".to_owned(),
        (None, false) => format!("{} of {} days of buckets, {} rows", told["done"], told["of"], told["rows"]),
    };
    println!("{}  {}  {how}", text("table"), text("expression"));
}

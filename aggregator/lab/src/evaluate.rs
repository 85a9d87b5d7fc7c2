//! `kilter-lab evaluate`: public data sets through the production path, a table for people, rows for everything else.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use kilter_train::suite::{Evaluation, Report, Suite, evaluate};
use serde_json::json;

/// Where the answers go beside the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Destination<'a> {
    /// One JSON object per figure.
    pub(crate) json: Option<&'a Path>,
    /// A folder for the artifacts and the scores behind the figures.
    pub(crate) export: Option<&'a Path>,
}

/// Runs one suite or `all`, prints the table and writes what is asked for.
pub(crate) fn run(word: &str, data: &Path, to: Destination<'_>, evaluation: &Evaluation) -> anyhow::Result<()> {
    let suites = match Suite::from_word(word) {
        Some(suite) => vec![suite],
        None if word == "all" => Suite::ALL.to_vec(),
        None => {
            let known: Vec<_> = Suite::ALL.iter().map(|suite| suite.word()).collect();
            anyhow::bail!("there is no suite {word:?}; there are {} and all", known.join(", "));
        }
    };
    let mut report = Report::default();
    let mut failed = Vec::new();
    for suite in &suites {
        match evaluate(*suite, data, evaluation, &mut |line| eprintln!("{}: {line}", suite.word())) {
            Ok(found) => report.extend(found),
            // Of several suites the others go on: another folder may hold some of the sets only.
            Err(error) if suites.len() > 1 => {
                failed.push(format!("{}: {:#}", suite.word(), anyhow::Error::new(error)));
            }
            Err(error) => return Err(error).with_context(|| format!("failed to evaluate {}", suite.word())),
        }
    }
    print!("{}", report.table());
    for line in &failed {
        println!("  not run: {line}");
    }
    anyhow::ensure!(failed.len() < suites.len(), "no suite could be run on {}", data.display());
    if let Some(path) = to.json {
        let rows = serde_json::to_vec_pretty(&report.rows)?;
        std::fs::write(path, rows).with_context(|| format!("failed to write {}", path.display()))?;
    }
    to.export.map_or(Ok(()), |folder| export(&report, folder))
}

/// Each artifact with its card (as the lab's outbox holds them) and its signed manifest, and every score.
fn export(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))
    };
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    for model in report.exports()? {
        let digest = &model.card.digest;
        let signed = json!({
            "manifest": hex(&model.manifest), "signature": hex(&model.signature), "public_key": hex(&model.public_key),
        });
        write(format!("{digest}.kltm"), &model.artifact)?;
        write(format!("{digest}.signed.json"), signed.to_string().as_bytes())?;
        write(format!("{digest}.card.json"), &serde_json::to_vec_pretty(&model.card)?)?;
    }
    let mut lines = Vec::new();
    for score in &report.scores {
        serde_json::to_writer(&mut lines, score)?;
        lines.write_all(b"\n")?;
    }
    write("scores.jsonl".to_owned(), &lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

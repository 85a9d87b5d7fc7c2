//! `kilter-lab evaluate`: public data sets through the production path, a table for people, rows for everything else.

use std::path::Path;

use anyhow::Context;
use kilter_train::suite::{Evaluation, Report, Suite, evaluate};

/// Runs one suite or `all`, prints the table and writes the rows.
pub(crate) fn run(word: &str, data: &Path, json: Option<&Path>, evaluation: &Evaluation) -> anyhow::Result<()> {
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
    if let Some(path) = json {
        let rows = serde_json::to_vec_pretty(&report.rows)?;
        std::fs::write(path, rows).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

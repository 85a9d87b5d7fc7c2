//! What an evaluation says: one row per figure, as a table for people and as JSON for everything else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kilter_types::KernelId;
use serde::Serialize;

use super::{export::ScoreRow, path::Signed};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The suite.
    pub suite: String,
    /// The data set within it.
    pub dataset: String,
    /// The seed; none where nothing is drawn.
    pub seed: Option<u64>,
    /// What is measured.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// The same figure of the trivial baseline, where it has one.
    pub baseline: Option<f64>,
    /// SHA-256 of each artifact that scored; none where physics alone decided.
    pub artifacts: Vec<String>,
    /// The kernel that scored; 0 is rules, physics and statistics learned on the device.
    pub kernel: u16,
}

/// Every figure of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The figures.
    pub rows: Vec<Row>,
    /// What others have published, and what else to know; lines for people.
    pub notes: Vec<String>,
    /// How often the scored rows of a data set were scored in this run.
    pub scorings: usize,
    /// Each score behind the figures.
    pub scores: Vec<ScoreRow>,
    /// The artifacts that the rows name, by digest.
    pub(crate) models: BTreeMap<String, Signed>,
}

/// Whose word it was.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    models: Vec<Signed>,
    kernel: KernelId,
}

impl Source {
    pub(crate) fn of(models: &[Signed]) -> Self {
        Self { models: models.to_vec(), kernel: models.first().map_or(KernelId::RULE, |model| model.kernel) }
    }
}

impl Report {
    pub(crate) fn add(
        &mut self,
        (suite, dataset, seed): (&str, &str, Option<u64>),
        (metric, value, baseline): (&str, f64, Option<f64>),
        source: &Source,
    ) {
        for model in &source.models {
            self.models.entry(model.digest.to_string()).or_insert_with(|| model.clone());
        }
        self.rows.push(Row {
            suite: suite.to_owned(),
            dataset: dataset.to_owned(),
            seed,
            metric: metric.to_owned(),
            value,
            baseline,
            artifacts: source.models.iter().map(|model| model.digest.to_string()).collect(),
            kernel: source.kernel.0,
        });
    }

    /// Takes another report's rows behind its own.
    pub fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.notes.extend(other.notes);
        self.scorings += other.scorings;
        self.scores.extend(other.scores);
        self.models.extend(other.models);
    }

    /// For people: per metric the means over seeds and how far the figures lie apart.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<8} {:<24} {:<34} {:>10} {:>9} {:>5} {:>10}  {}\n",
            "suite", "data set", "metric", "value", "+-", "seeds", "baseline", "artifact (kernel)"
        );
        let mut told: Vec<(&str, &str, &str)> = Vec::new();
        for row in &self.rows {
            let key = (row.suite.as_str(), row.dataset.as_str(), row.metric.as_str());
            if told.contains(&key) {
                continue;
            }
            told.push(key);
            let same: Vec<&Row> =
                self.rows.iter().filter(|r| (r.suite.as_str(), r.dataset.as_str(), r.metric.as_str()) == key).collect();
            let count = same.len() as f64;
            let mean = same.iter().map(|r| r.value).sum::<f64>() / count;
            let spread = (same.iter().map(|r| (r.value - mean).powi(2)).sum::<f64>() / count).sqrt();
            let baselines: Vec<f64> = same.iter().filter_map(|r| r.baseline).collect();
            let baseline = match baselines.len() {
                0 => "-".to_owned(),
                count => format!("{:.3}", baselines.iter().sum::<f64>() / count as f64),
            };
            let _ = writeln!(
                text,
                "{:<8} {:<24} {:<34} {mean:>10.3} {spread:>9.3} {:>5} {baseline:>10}  {} ({})",
                row.suite,
                row.dataset,
                row.metric,
                same.len(),
                behind(&row.artifacts),
                row.kernel
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        let _ = writeln!(text, "  scored rows were scored {} times in this run, by this command alone", self.scorings);
        text
    }
}

/// The first artifact's first letters, and how many more there are.
fn behind(artifacts: &[String]) -> String {
    match artifacts {
        [] => "none".to_owned(),
        [one] => format!("{one:.12}"),
        [one, more @ ..] => format!("{one:.12} and {}", more.len()),
    }
}

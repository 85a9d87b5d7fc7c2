//! What an evaluation says: one row per figure, as a table for people and as JSON for everything else.

use std::fmt::Write as _;

use kilter_types::{Digest, KernelId};
use serde::Serialize;

use super::path::Signed;

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
    /// SHA-256 of the artifact that scored; of several, of their digests in order.
    pub artifact: String,
    /// The kernel that scored; 0 is rules and statistics learned on the device.
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
}

/// Whose word it was.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    artifact: String,
    kernel: KernelId,
}

impl Source {
    pub(crate) fn of(models: &[Signed]) -> Self {
        let artifact = match models {
            [] => Digest::NONE,
            [one] => one.digest,
            many => {
                let all: Vec<u8> = many.iter().flat_map(|model| model.digest.0).collect();
                Digest::of(&all)
            }
        };
        Self { artifact: artifact.to_string(), kernel: models.first().map_or(KernelId::RULE, |model| model.kernel) }
    }
}

impl Report {
    pub(crate) fn add(
        &mut self,
        (suite, dataset, seed): (&str, &str, Option<u64>),
        (metric, value, baseline): (&str, f64, Option<f64>),
        source: &Source,
    ) {
        self.rows.push(Row {
            suite: suite.to_owned(),
            dataset: dataset.to_owned(),
            seed,
            metric: metric.to_owned(),
            value,
            baseline,
            artifact: source.artifact.clone(),
            kernel: source.kernel.0,
        });
    }

    /// Takes another report's rows behind its own.
    pub fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.notes.extend(other.notes);
        self.scorings += other.scorings;
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
                "{:<8} {:<24} {:<34} {mean:>10.3} {spread:>9.3} {:>5} {baseline:>10}  {:.12} ({})",
                row.suite,
                row.dataset,
                row.metric,
                same.len(),
                row.artifact,
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

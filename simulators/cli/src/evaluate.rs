//! `kilter-sim evaluate`: simulated machines through the production monitor in this process, as rows like those of `kilter-lab evaluate`.

mod bench;
mod consent;
mod covariates;
mod false_alarms;
mod head;
mod outlook;
mod prognosis;
mod shift;

use std::io::Write as _;

use anyhow::Context as _;
use kilter_types::KernelId;
use serde::Serialize;

use crate::args::{EvaluateArgs, EvaluateSuite};

pub(crate) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    let (rows, notes) = match args.suite {
        EvaluateSuite::FalseAlarms => false_alarms::evaluate(args)?,
        EvaluateSuite::Consent => consent::evaluate(args)?,
        EvaluateSuite::Covariates => covariates::evaluate(args)?,
        EvaluateSuite::Outlook => outlook::evaluate(args)?,
        EvaluateSuite::Shift => shift::evaluate(args)?,
    };
    println!(
        "{:<14} {:<26} {:<36} {:>10} {:>10}  artifacts (kernel)",
        "suite", "data set", "metric", "value", "baseline"
    );
    for row in &rows {
        let baseline = row.baseline.map_or("-".to_owned(), |b| format!("{b:.3}"));
        let artifacts: Vec<String> = row.artifacts.iter().map(|digest| format!("{digest:.12}")).collect();
        println!(
            "{:<14} {:<26} {:<36} {:>10.3} {baseline:>10}  {} ({})",
            row.suite,
            row.dataset,
            row.metric,
            row.value,
            if artifacts.is_empty() { "none".to_owned() } else { artifacts.join(" ") },
            row.kernel
        );
    }
    notes.iter().for_each(|note| println!("  {note}"));
    if let Some(path) = &args.json {
        let file = std::fs::File::create(path).with_context(|| format!("write {}", path.display()))?;
        let mut file = std::io::BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, &rows)?;
        file.flush()?;
    }
    Ok(())
}

/// One figure, as `kilter-lab evaluate` writes it.
#[derive(Clone, Debug, Serialize)]
struct Row {
    suite: &'static str,
    dataset: String,
    seed: Option<u64>,
    metric: String,
    value: f64,
    baseline: Option<f64>,
    /// SHA-256 of each signed artifact that scored; none where only what is learned on the device decides.
    artifacts: Vec<String>,
    kernel: u16,
}

impl Row {
    fn new(suite: &'static str, dataset: &str, seed: u64, metric: &str, value: f64, baseline: Option<f64>) -> Self {
        let (dataset, metric) = (dataset.to_owned(), metric.to_owned());
        Self {
            suite,
            dataset,
            seed: Some(seed),
            metric,
            value,
            baseline,
            artifacts: Vec::new(),
            kernel: KernelId::RULE.0,
        }
    }

    fn by(self, heads: &[&head::Head]) -> Self {
        let kernel = heads.first().map_or(KernelId::RULE, |head| head.kernel).0;
        Self { artifacts: heads.iter().map(|head| head.digest.to_string()).collect(), kernel, ..self }
    }
}

/// Runs `work` for each number on all cores; the answers come in order, so that cores decide nothing.
fn on_all_cores<T: Send>(
    numbers: std::ops::Range<u64>,
    work: impl Fn(u64) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let share = |core: u64| {
        let mine = numbers.clone().filter(|number| number % cores == core);
        mine.map(|number| Ok((number, work(number)?))).collect::<anyhow::Result<Vec<_>>>()
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || share(core))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("the work does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect::<Vec<_>>())
    })?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, answer)| answer).collect())
}

/// A number for a purpose: the same on every machine.
fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = seed ^ a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Evenly between 0 and 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

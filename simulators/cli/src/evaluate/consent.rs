//! What a machine's own history saves: false alarms of a young model of its kind, with and without the baseline's consent.
//!
//! A statistic is trained on one shift of two machines of the kind and leads on others, which it never saw, through a month of shifts,
//! seasons, Sundays and another sensor. With consent an alarm of the model needs the machine's own baseline to lean the same way; without
//! it the model is heard alone. Machines, seeds and windows are the same. How late faults are seen stands beside it, or silence would win.

use kilter_infer::{Artifact, Body, Draft, Range, ResetRule, Scratch, State};
use kilter_machine::FaultKind;
use kilter_signal::table::Schema;
use kilter_types::{Digest, FeatureRow, Generation, GroupKind, KernelId, Role};

use super::{
    Row,
    false_alarms::{FAULT_WINDOWS, MONTH_WINDOWS, PERIOD_S, Watched},
    on_all_cores,
};
use crate::args::EvaluateArgs;

pub(super) fn evaluate(args: &EvaluateArgs) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let model = Model::taught(args)?;
    let mut rows = healthy(args, &model, MONTH_WINDOWS)?;
    if !args.healthy_only {
        rows.extend(delays(args, &model)?);
    }
    let notes = [
        "value: with the consent of the machine's own baseline; baseline: the model heard alone, on the same machines and windows",
        "the model: a statistic of two other machines' first shift, its threshold from their tail at the budget's rate",
    ];
    Ok((rows, notes.map(str::to_owned).into()))
}

/// Alarms of healthy machines.
fn healthy(args: &EvaluateArgs, model: &Model, windows: u64) -> anyhow::Result<Vec<Row>> {
    let run = |consent: Consent| {
        let each = on_all_cores(0..args.machine_months, |machine| {
            let mut watched = model.leads(args, machine, consent)?;
            for number in 0..windows {
                if number == windows / 2 {
                    watched.exchange_sensor(number);
                }
                watched.step(number, None)?;
            }
            Ok(watched.raised.len())
        })?;
        Ok::<_, anyhow::Error>(each.into_iter().sum::<usize>() as f64)
    };
    let (with, without) = (run(Consent::Asked)?, run(Consent::NotAsked)?);
    let months = args.machine_months as f64 * windows as f64 / MONTH_WINDOWS as f64;
    let name = format!("{months:.1} machine-months");
    let row = |metric: &str, with: f64, without: f64| model.row(&name, args.seed, metric, with, without);
    Ok(vec![row("false alarms", with, without), row("false alarms per machine-month", with / months, without / months)])
}

/// Hours from the start of a fault that grows over five days to the first alarm.
fn delays(args: &EvaluateArgs, model: &Model) -> anyhow::Result<Vec<Row>> {
    let run = |consent: Consent| {
        let mut hours = on_all_cores(0..args.faulty_machines, |machine| {
            let mut watched = model.leads(args, 1_000 + machine, consent)?;
            for number in 0..2 * FAULT_WINDOWS {
                let grown = number.saturating_sub(FAULT_WINDOWS) as f64 / FAULT_WINDOWS as f64;
                watched.step(number, (grown > 0.0).then_some((FaultKind::OuterRace, args.severity * grown)))?;
            }
            let first = watched.raised.iter().find(|(number, _)| *number >= FAULT_WINDOWS);
            Ok(first.map_or(f64::INFINITY, |(number, _)| (number - FAULT_WINDOWS) as f64 * PERIOD_S / 3_600.0))
        })?;
        hours.sort_by(f64::total_cmp);
        let found = hours.iter().filter(|hours| hours.is_finite()).count() as f64;
        Ok::<_, anyhow::Error>((found, hours.get(hours.len() / 2).copied().unwrap_or(f64::NAN)))
    };
    let (with, without) = (run(Consent::Asked)?, run(Consent::NotAsked)?);
    let name = format!("{} x {}", args.faulty_machines, FaultKind::OuterRace.word());
    Ok(vec![
        model.row(&name, args.seed, "found", with.0, without.0),
        model.row(&name, args.seed, "median delay, hours", with.1, without.1),
    ])
}

/// Must the machine's own baseline lean the same way?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consent {
    Asked,
    NotAsked,
}

/// A model of the kind.
struct Model {
    artifact: Vec<u8>,
    digest: Digest,
    kernel: KernelId,
}

impl Model {
    /// Learns from machines that are not judged.
    fn taught(args: &EvaluateArgs) -> anyhow::Result<Self> {
        let lives = on_all_cores(0..TEACHERS, |machine| {
            let mut watched = Watched::new(args, 5_000 + machine)?;
            watched.rows = Some(Vec::new());
            (0..TAUGHT_WINDOWS).try_for_each(|number| watched.step(number, None))?;
            Ok(watched.rows.unwrap_or_default())
        })?;
        let schema = Schema::of(GroupKind::Vibration, 1);
        let valid = lives.iter().flatten().fold(u64::MAX, |valid, row| valid & row.vector.valid);
        let places: Vec<usize> = (0..schema.features().len()).filter(|place| valid >> place & 1 == 1).collect();
        anyhow::ensure!(!places.is_empty() && lives.iter().flatten().count() > 100, "too few windows to teach a model");
        // With a threshold that nothing reaches it says how the scores of its teachers are spread.
        let blind = draft(&lives, &schema, &places, f32::MAX)?;
        let mut scores = scores(&blind, &lives, &places)?;
        scores.sort_by(f32::total_cmp);
        let tail = &scores[scores.len() * 9 / 10..];
        let excess = tail.iter().map(|score| score - tail[0]).sum::<f32>() / tail.len() as f32;
        // Five windows above for an alarm, a month of them, two groups.
        let rate = 5.0 * args.budget / (2.0 * MONTH_WINDOWS as f32);
        let artifact = draft(&lives, &schema, &places, tail[0] + excess * (0.1 / rate).ln())?;
        let (digest, kernel) = (Digest::of(&artifact), KernelId::PORTABLE_F32);
        Ok(Self { artifact, digest, kernel })
    }

    /// A machine on which it leads.
    fn leads(&self, args: &EvaluateArgs, machine: u64, consent: Consent) -> anyhow::Result<Watched> {
        let mut watched = Watched::new(args, machine)?;
        let monitor = &mut watched.bench.monitor;
        monitor
            .install(Role::Leader, self.artifact.clone(), self.digest, Generation(1), &mut |_| {})
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        if consent == Consent::NotAsked {
            monitor.trust(Role::Leader);
        }
        Ok(watched)
    }

    fn row(&self, name: &str, seed: u64, metric: &str, with: f64, without: f64) -> Row {
        let row = Row::new("consent", name, seed, metric, with, Some(without));
        Row { artifacts: vec![self.digest.to_string()], kernel: self.kernel.0, ..row }
    }
}

/// A statistic of these rows.
fn draft(lives: &[Vec<FeatureRow>], schema: &Schema, places: &[usize], threshold: f32) -> anyhow::Result<Vec<u8>> {
    let features: Vec<_> = places.iter().map(|place| schema.features()[*place]).collect();
    let column = |place: usize| lives.iter().flatten().map(move |row| row.vector.values[place]);
    let count = lives.iter().flatten().count() as f64;
    let (mut mean, mut inverse_scale, mut range) = (Vec::new(), Vec::new(), Vec::new());
    for place in places {
        let centre = column(*place).map(f64::from).sum::<f64>() / count;
        let spread = (column(*place).map(|v| (f64::from(v) - centre).powi(2)).sum::<f64>() / count).sqrt();
        let (low, high) = column(*place).fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
        mean.push(centre as f32);
        inverse_scale.push((1.0 / spread.max(1e-6 * centre.abs()).max(1e-9)) as f32);
        range.push(Range { low: low - 0.25 * (high - low), high: high + 0.25 * (high - low) });
    }
    let golden: Vec<f32> = lives
        .iter()
        .flatten()
        .take(SEQUENCE)
        .flat_map(|row| places.iter().map(|place| row.vector.values[*place]))
        .collect();
    let draft = Draft {
        group: GroupKind::Vibration,
        features: &features,
        mean: &mean,
        inverse_scale: &inverse_scale,
        range: &range,
        weight: &vec![1.0 / features.len() as f32; features.len()],
        regimes: &[],
        threshold,
        input_clip: 8.0,
        residual_clip: 8.0,
        sequence_len: SEQUENCE,
        reset: ResetRule::ALWAYS,
        body: Body::Statistic { ewma: 0.4 },
        golden: &golden,
    };
    let mut artifact = vec![0; draft.size_bytes()];
    let (mut state, mut scratch) = (Box::new(State::<64>::new()), Scratch::new());
    draft.write(&mut artifact, &mut state, &mut scratch).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(artifact)
}

/// What the model says of its teachers.
fn scores(artifact: &[u8], lives: &[Vec<FeatureRow>], places: &[usize]) -> anyhow::Result<Vec<f32>> {
    let artifact = Artifact::parse(artifact).map_err(|error| anyhow::anyhow!("{error}"))?;
    let (mut scores, mut scratch) = (Vec::new(), Scratch::new());
    for life in lives {
        let mut state = Box::new(State::<64>::new());
        for row in life {
            let picked: Vec<f32> = places.iter().map(|place| row.vector.values[*place]).collect();
            let scored =
                artifact.push(&picked, &mut state, &mut scratch).map_err(|error| anyhow::anyhow!("{error}"))?;
            scores.extend(scored.map(|scored| scored.anomaly));
        }
    }
    Ok(scores)
}

const TEACHERS: u64 = 2;
const TAUGHT_WINDOWS: u64 = 96;
const SEQUENCE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::EvaluateSuite;

    #[test]
    fn on_the_same_seeds_a_baselines_consent_saves_most_false_alarms_of_a_young_model() {
        let args = EvaluateArgs { suite: EvaluateSuite::Consent, machine_months: 3, ..EvaluateArgs::default() };
        let model = Model::taught(&args).expect("a model");
        // Ten days of each: three shifts a day, a Sunday, another sensor after five.
        let rows = healthy(&args, &model, MONTH_WINDOWS / 3).expect("a run");
        let (with, without) = (rows[0].value, rows[0].baseline.expect("without consent"));
        println!("{with} false alarms with consent, {without} without, in one machine-month");
        assert!(without >= 3.0, "the test shows nothing: {rows:?}");
        assert!(3.0 * with <= without, "{rows:?}");
    }
}

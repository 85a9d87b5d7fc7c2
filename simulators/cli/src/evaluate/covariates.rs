//! What surroundings, operating hours and service are worth: the error on what is left of machines on which they decide how fast wear goes.
//!
//! A machine runs some hours a day, in warmer or cooler surroundings, and is greased every so often. Wear of a day grows with the hours
//! run, doubles for every 15 K, and with the hours since the grease was fresh; vibration shows it late and through noise. Two heads are
//! fitted alike and score machines that they never saw: one sees vibration and envelope, one also the ambient temperature, the operating hours
//! and the hours since service. What both see of age is the same.

use kilter_infer::{Artifact, Scratch, State};
use kilter_signal::table::Schema;
use kilter_types::GroupKind;

use super::{
    Row,
    head::{Head, Life, picked},
    mix, unit,
};
use crate::args::EvaluateArgs;

pub(super) fn evaluate(args: &EvaluateArgs) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut rows = Vec::new();
    for seed in args.seed..args.seed + args.seeds {
        rows.extend(one(args.machines, seed)?);
    }
    let notes = [
        "baselines: the error without the covariates; of the last row the mean of the truth itself",
        "days left of simulated machines, capped; a third of the machines is kept from every head; signed artifacts score",
    ];
    Ok((rows, notes.map(str::to_owned).into()))
}

fn one(machines: u64, seed: u64) -> anyhow::Result<Vec<Row>> {
    let lives: Vec<Life> = (0..machines).map(|machine| life(mix(seed, machine, 40))).collect();
    let (with, head) = error(&lives, &[0, 1, 2, 3, 4])?;
    let (without, _) = error(&lives, &PLAIN)?;
    let truth: Vec<f64> = kept(&lives).flat_map(|life| life.left_h.iter().map(|left| left.min(CAP))).collect();
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let constant = (truth.iter().map(|truth| (truth - mean).powi(2)).sum::<f64>() / truth.len() as f64).sqrt();
    let name = format!("{machines} machines");
    let row = |metric: &str, value: f64, baseline: f64| {
        Row::new("covariates", &name, seed, metric, value, Some(baseline)).by(&[&head])
    };
    Ok(vec![row("rmse with covariates, days", with, without), row("the same, against the mean", with, constant)])
}

/// The error of a head that sees these columns, on machines that it did not see.
fn error(lives: &[Life], columns: &[usize]) -> anyhow::Result<(f64, Head)> {
    let schema = Schema::of(GroupKind::Cycle, COLUMNS);
    let features: Vec<_> = columns.iter().map(|column| schema.features()[*column]).collect();
    let seen = |life: &Life| -> anyhow::Result<Life> {
        let rows = life.rows.iter().map(|row| picked(row, columns)).collect::<anyhow::Result<_>>()?;
        Ok(Life { rows, left_h: life.left_h.clone(), weight: 1.0 })
    };
    let used = lives.iter().enumerate().filter(|(number, _)| number % 3 != 1).map(|(_, life)| seen(life));
    let head = Head::fit(&used.collect::<anyhow::Result<Vec<_>>>()?, GroupKind::Cycle, &features, CAP)?;
    let artifact = Artifact::parse(&head.artifact).map_err(|error| anyhow::anyhow!("{error}"))?;
    let (mut sum, mut count, mut scratch) = (0.0, 0.0, Scratch::new());
    for life in kept(lives) {
        let mut state = Box::new(State::<64>::new());
        for (row, left) in seen(life)?.rows.iter().zip(&life.left_h) {
            let scored = artifact.push(row, &mut state, &mut scratch).map_err(|error| anyhow::anyhow!("{error}"))?;
            if let Some(rul) = scored.and_then(|scored| scored.rul) {
                sum += (f64::from(rul.value) - left.min(CAP)).powi(2);
                count += 1.0;
            }
        }
    }
    anyhow::ensure!(count > 0.0, "no day was scored");
    Ok(((sum / count).sqrt(), head))
}

/// Every third machine is kept from every head.
fn kept(lives: &[Life]) -> impl Iterator<Item = &Life> {
    lives.iter().enumerate().filter(|(number, _)| number % 3 == 1).map(|(_, life)| life)
}

/// One machine from new to worn out, a row per day: vibration, envelope; ambient temperature, operating hours, hours since service.
fn life(seed: u64) -> Life {
    let even = |day: u64, purpose: u64| unit(mix(seed, day, purpose));
    let normal = |day: u64, purpose: u64| (0..12).map(|i| even(day, 100 + 12 * purpose + i)).sum::<f64>() - 6.0;
    let (site_c, season) = (8.0 + 24.0 * even(0, 1), std::f64::consts::TAU * even(0, 2));
    let (hours_a_day, service_h) = (8.0 + 15.0 * even(0, 3), 400.0 + 1_600.0 * even(0, 4));
    let (mut wear, mut hours, mut greased_h) = (0.0, 0.0, 0.0);
    let mut rows = Vec::new();
    while wear < 1.0 {
        let day = rows.len() as u64;
        let turn = season + std::f64::consts::TAU * day as f64 / 365.0;
        let ambient_c = site_c + 8.0 * turn.sin() + normal(day, 5);
        let run_h = (hours_a_day + 2.0 * normal(day, 6)).clamp(1.0, 24.0);
        hours += run_h;
        greased_h = if greased_h > service_h { run_h } else { greased_h + run_h };
        let dry = 1.0 + f64::powi(greased_h / 800.0, 2);
        wear += run_h / 9_000.0 * ((ambient_c - 20.0) / 15.0).exp2() * dry;
        let vibration = 1.0 + 3.0 * wear.powi(4) + 0.15 * normal(day, 7);
        let envelope = 1.0 + 2.0 * wear.powi(3) + 0.2 * normal(day, 8);
        rows.push([vibration, envelope, ambient_c, hours, greased_h].map(|value| value as f32).to_vec());
    }
    let left_h = (0..rows.len()).rev().map(|left| left as f64).collect();
    Life { rows, left_h, weight: 1.0 }
}

const COLUMNS: usize = 5;
/// What any monitor sees without being told.
const PLAIN: [usize; 2] = [0, 1];
/// Days beyond which nothing is told apart.
const CAP: f64 = 125.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_hours_and_service_make_the_word_on_what_is_left_better() {
        for seed in 1..=3 {
            let rows = one(60, seed).expect("a run");
            let of = |place: usize| (rows[place].value, rows[place].baseline.expect("a baseline"));
            let ((with, without), (_, constant)) = (of(0), of(1));
            println!("seed {seed}: {with:.1} days with, {without:.1} without, {constant:.1} by the mean");
            assert!(with < 0.9 * without, "{with} with, {without} without, {constant} by the mean");
            // Without them vibration still says something, so the comparison is not with nothing.
            assert!(without < constant, "{without} against {constant}");
        }
    }
}

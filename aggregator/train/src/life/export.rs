//! From trained members to an artifact, and the proof that the kernel says what Burn says (P3).

use kilter_infer::{Artifact, Body, Dense, Draft, Points as DraftPoints, Range, ResetRule, RulHead, Scratch};
use kilter_types::Digest;

use super::{
    Life, LifeDataset, LifeModel, LifeOptions,
    members::{CLIP, Prepared, Trained, taken},
};
use crate::{TrainError, dense::Layers, export::Room};

/// A dense layer as the artifact wants it.
struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

pub(crate) fn export(
    dataset: &LifeDataset,
    prepared: &Prepared,
    trained: &Trained,
    options: &LifeOptions,
) -> Result<LifeModel, TrainError> {
    let inputs = prepared.columns.len();
    let layers: Vec<Layer> = trained.members.iter().flat_map(by_output).collect();
    let dense: Vec<Dense<'_>> = layers.iter().map(|layer| Dense { weight: &layer.weight, bias: &layer.bias }).collect();
    let hidden = [0, 1]
        .map(|place| if trained.networks.is_empty() { 0 } else { options.hidden.get(place).copied().unwrap_or(0) });
    let points = &prepared.points;
    let flat = |rows: &[Vec<f32>]| rows.concat();
    let (centroid, mean, inverse) = (flat(&points.centroids), flat(&points.means), flat(&points.inverse_scales));
    let mut weight = vec![0.0; inputs];
    points.settings.iter().for_each(|(column, w)| weight[*column] = *w);
    let several = points.centroids.len() > 1;
    let interval: Vec<(f32, f32)> = trained
        .bands
        .iter()
        .map(|(below, above)| (below * options.hours_per_unit, above * options.hours_per_unit))
        .collect();
    let head = RulHead {
        smoothing: &options.bank.smoothing,
        age_scale: options.bank.age_scale,
        points: several.then_some(DraftPoints {
            weight: &weight,
            centroid: &centroid,
            mean: &mean,
            inverse_scale: &inverse,
        }),
        members: trained.members.len(),
        hidden,
        layers: &dense,
        scale: options.cap * options.hours_per_unit,
        cap: options.cap * options.hours_per_unit,
        interval: &interval,
    };
    let features: Vec<_> = prepared.columns.iter().map(|column| dataset.features[*column].reference).collect();
    let range = ranges(dataset, prepared);
    let golden = golden(dataset, prepared, options.least_rows);
    let draft = Draft {
        group: dataset.group,
        features: &features,
        mean: &points.means[0],
        inverse_scale: &points.inverse_scales[0],
        range: &range,
        weight: &vec![1.0; inputs],
        regimes: &[],
        threshold: THRESHOLD,
        input_clip: CLIP,
        residual_clip: 100.0,
        sequence_len: options.least_rows,
        reset: ResetRule::after(&[kilter_infer::Interruption::Switch]),
        body: Body::RulHead(head),
        golden: &golden,
    };
    let mut bytes = vec![0; draft.size_bytes()];
    let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
    let artifact = draft.write(&mut bytes, &mut *state, &mut scratch)?;
    artifact.certify(&mut *state, &mut scratch)?;
    let parity = parity(&artifact, dataset, prepared, trained, options)?;
    let kernel = artifact.kernel();
    let parameters = trained.members.iter().flatten().map(Vec::len).sum();
    Ok(LifeModel {
        digest: Digest::of(&bytes),
        artifact: bytes,
        kernel,
        head: trained.head,
        parameters,
        held_out: trained.held_out.clone(),
        parity,
        words: trained.words.clone(),
    })
}

/// The largest difference between the kernel's estimate and Burn's over some machines, in parts of the cap.
fn parity(
    artifact: &Artifact<'_>,
    dataset: &LifeDataset,
    prepared: &Prepared,
    trained: &Trained,
    options: &LifeOptions,
) -> Result<f64, TrainError> {
    if trained.networks.is_empty() {
        return Ok(0.0);
    }
    let width = dataset.features.len();
    let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
    let mut worst = 0.0f64;
    for (life, bank) in dataset.machines.iter().zip(&prepared.banks).take(PARITY_MACHINES) {
        let mut burn = vec![0.0f64; taken(life.left.len(), options.every).count()];
        for network in &trained.networks {
            let said = network.say(bank, prepared.width)?;
            burn.iter_mut().zip(said).for_each(|(sum, said)| *sum += f64::from(said) + 0.5);
        }
        state.reset();
        let mut burn = taken(life.left.len(), options.every).zip(burn).peekable();
        for (place, row) in life.rows.chunks_exact(width).enumerate() {
            let picked: Vec<f32> = prepared.columns.iter().map(|column| row[*column]).collect();
            let scored = artifact.push(&picked, &mut *state, &mut scratch).map_err(kilter_infer::CertifyError::Row)?;
            let Some((_, burn)) = burn.next_if(|(taken, _)| *taken == place) else { continue };
            let Some(estimate) = scored.and_then(|scored| scored.rul) else { continue };
            let expected = (burn / trained.networks.len() as f64).clamp(0.0, 1.0);
            let found = f64::from(estimate.value) / f64::from(options.cap * options.hours_per_unit);
            let difference = (found - expected).abs();
            // A difference that is no number is no agreement.
            worst = if difference <= worst { worst } else { difference };
        }
    }
    if worst <= ALLOWED { Ok(worst) } else { Err(TrainError::Parity { found: worst, allowed: ALLOWED }) }
}

/// Weights by output; the last bias makes up for what is left being learned around 0.
fn by_output(member: &Layers) -> Vec<Layer> {
    let count = member.len() / 2;
    let layer = |(place, pair): (usize, &[Vec<f32>])| {
        let (weight, bias) = (&pair[0], &pair[1]);
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let turned = (0..outputs).flat_map(|o| (0..inputs).map(move |i| weight[i * outputs + o])).collect();
        let last = place + 1 == count;
        Layer { weight: turned, bias: bias.iter().map(|b| if last { b + 0.5 } else { *b }).collect() }
    };
    member.chunks_exact(2).enumerate().map(layer).collect()
}

/// What training saw of each column in the first halves of the machines' lives, with a margin: it is asked while a machine is well, and
/// rows near the failure would hide that another population is another.
fn ranges<'d>(dataset: &'d LifeDataset, prepared: &Prepared) -> Vec<Range> {
    let width = dataset.features.len();
    let of = |column: &usize| {
        let fresh = |life: &'d Life| life.rows.iter().skip(*column).step_by(width).take(life.left.len().div_ceil(2));
        let values = dataset.machines.iter().flat_map(fresh);
        let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let margin = 0.25 * (high - low);
        Range { low: low - margin, high: high + margin }
    };
    prepared.columns.iter().map(of).collect()
}

/// The first rows of a machine and its last.
fn golden(dataset: &LifeDataset, prepared: &Prepared, rows: usize) -> Vec<f32> {
    let width = dataset.features.len();
    let pick = |row: &[f32]| prepared.columns.iter().map(|column| row[*column]).collect::<Vec<_>>();
    let longest = dataset.machines.iter().max_by_key(|life| life.left.len());
    let all: Vec<Vec<f32>> = longest.map_or_else(Vec::new, |life| life.rows.chunks_exact(width).map(pick).collect());
    if all.len() < rows {
        return Vec::new();
    }
    [&all[..rows], &all[all.len() - rows..]].concat().concat()
}

/// With less than this share of the cap gone, a machine is as good as new.
const THRESHOLD: f32 = 0.8;
const PARITY_MACHINES: usize = 20;
const ALLOWED: f64 = 1e-5;

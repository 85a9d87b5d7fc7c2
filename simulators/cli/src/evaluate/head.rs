//! A linear head for what a machine has left, fitted in closed form and exported as the signed artifact that agents run.
//!
//! The simulator links no trainer. Least squares with a penalty on running means of the features is the head that a network has to
//! beat, and enough to ask whether a head notices another kind of machine and learns it.

use anyhow::Context as _;
use kilter_infer::{Artifact, Body, Dense, Draft, Interruption, Range, ResetRule, RulHead, Scratch, State};
use kilter_types::{Digest, FeatureRef, Generation, GroupKind, KernelId, Manifest, Micros, ModelKey, Name, Role};
use kilter_wire::sign::{SignedManifest, public_key, sign_manifest};

/// One machine's windows until it failed, and how many hours were left after each.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// One value per feature.
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) left_h: Vec<f64>,
    /// How much it counts in training.
    pub(super) weight: f64,
}

/// A signed head.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) artifact: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) kernel: KernelId,
}

impl Head {
    /// Fits the features that lie in these places of a row.
    pub(super) fn fit(lives: &[Life], group: GroupKind, features: &[FeatureRef], cap_h: f64) -> anyhow::Result<Self> {
        let (normal, weights) = fitted(lives, features.len(), cap_h)?;
        let width = weights.len();
        // The interval comes from machines that had no part in what is said of them.
        let mut errors = Vec::new();
        for fold in 0..FOLDS {
            let (kept, seen): (Vec<_>, Vec<_>) =
                lives.iter().cloned().enumerate().partition(|(i, _)| i % FOLDS == fold);
            let seen: Vec<Life> = seen.into_iter().map(|(_, life)| life).collect();
            let (normal, weights) = fitted(&seen, features.len(), cap_h)?;
            for (_, life) in &kept {
                let said = normal.seen(life).into_iter().map(|seen| word(&seen, &weights, cap_h));
                errors.extend(said.zip(&life.left_h).map(|(said, left)| left.min(cap_h) - said));
            }
        }
        errors.sort_by(f64::total_cmp);
        let quantile = |share: f64| errors[(share * (errors.len() - 1) as f64) as usize];
        let interval = [((-quantile(0.05)).max(0.0) as f32, quantile(0.95).max(0.0) as f32)];
        let layer: Vec<f32> = weights[..width - 1].iter().map(|w| *w as f32).collect();
        let bias = weights[width - 1] as f32;
        Self::export(&normal, (group, features), (&layer, bias), cap_h as f32, &interval, lives)
    }

    fn export(
        normal: &Normal,
        (group, features): (GroupKind, &[FeatureRef]),
        (layer, bias): (&[f32], f32),
        cap_h: f32,
        interval: &[(f32, f32)],
        lives: &[Life],
    ) -> anyhow::Result<Self> {
        let golden: Vec<f32> = lives[0].rows.iter().take(2).flatten().copied().collect();
        let draft = Draft {
            group,
            features,
            mean: &normal.mean,
            inverse_scale: &normal.inverse_scale,
            range: &normal.range,
            weight: &vec![1.0; features.len()],
            regimes: &[],
            threshold: 0.8,
            input_clip: CLIP,
            residual_clip: 100.0,
            sequence_len: 1,
            reset: ResetRule::after(&[Interruption::Switch]),
            body: Body::RulHead(RulHead {
                smoothing: &SMOOTHING,
                age_scale: AGE_SCALE,
                points: None,
                members: 1,
                hidden: [0, 0],
                layers: &[Dense { weight: layer, bias: &[bias] }],
                scale: cap_h,
                cap: cap_h,
                interval,
            }),
            golden: &golden,
        };
        let mut artifact = vec![0; draft.size_bytes()];
        let (mut state, mut scratch) = (Box::new(State::<4096>::new()), Scratch::new());
        let made = draft.write(&mut artifact, &mut state, &mut scratch).map_err(|e| anyhow::anyhow!("{e}"))?;
        made.certify(&mut *state, &mut scratch).map_err(|e| anyhow::anyhow!("{e}"))?;
        let kernel = made.kernel();
        let digest = Digest::of(&artifact);
        signed(&artifact, digest)?;
        Ok(Self { artifact, digest, kernel })
    }
}

/// Scales and weights by least squares with a penalty.
fn fitted(lives: &[Life], features: usize, cap_h: f64) -> anyhow::Result<(Normal, Vec<f64>)> {
    let normal = Normal::of(lives, features)?;
    let width = features * SMOOTHING.len() + 2;
    let (mut square, mut right) = (vec![0.0; width * width], vec![0.0; width]);
    let mut total = 0.0;
    for life in lives {
        for (seen, left) in normal.seen(life).iter().zip(&life.left_h) {
            let wanted = left.min(cap_h) / cap_h;
            total += life.weight;
            for i in 0..width {
                right[i] += life.weight * seen[i] * wanted;
                (0..=i).for_each(|j| square[i * width + j] += life.weight * seen[i] * seen[j]);
            }
        }
    }
    (0..width - 1).for_each(|i| square[i * width + i] += PENALTY * total);
    let weights = solve(&mut square, right);
    Ok((normal, weights))
}

fn word(seen: &[f64], weights: &[f64], cap_h: f64) -> f64 {
    seen.iter().zip(weights).map(|(a, b)| a * b).sum::<f64>().clamp(0.0, 1.0) * cap_h
}

/// Signs with a key of this process and checks it as a node does, before anything is scored.
fn signed(artifact: &[u8], digest: Digest) -> anyhow::Result<()> {
    let parsed = Artifact::parse(artifact).map_err(|e| anyhow::anyhow!("{e}"))?;
    let name = |text: &str| Name::new(text).map_err(|e| anyhow::anyhow!("{e}"));
    let manifest = Manifest {
        digest,
        size_bytes: u32::try_from(artifact.len())?,
        name: name("rul")?,
        version: 1,
        key: ModelKey { task: name("rul")?, asset_class: name("simulated")?, asset: None },
        role: Role::Leader,
        features: parsed.features().collect(),
        minimum_agent: 1,
        expires: Micros(i64::MAX),
        generation: Generation(1),
    };
    let secret = Digest::of(&digest.0).0;
    let mut room = vec![0; 4096];
    let (bytes, signature) =
        sign_manifest(&manifest, &secret, &mut room).map_err(|e| anyhow::anyhow!("sign a manifest: {e}"))?;
    let checked = SignedManifest { manifest: bytes, signature: &signature }
        .verify(&public_key(&secret))
        .map_err(|e| anyhow::anyhow!("check a manifest: {e}"))?;
    anyhow::ensure!(checked.digest == digest, "the signature is of another artifact");
    Ok(())
}

/// Scales and ranges of the features, from training alone.
struct Normal {
    mean: Vec<f32>,
    inverse_scale: Vec<f32>,
    range: Vec<Range>,
}

impl Normal {
    fn of(lives: &[Life], features: usize) -> anyhow::Result<Self> {
        let rows = || lives.iter().flat_map(|life| &life.rows);
        // What a machine looks like while it is well: rows near the failure would hide that another kind of machine is another.
        let fresh = |place: usize| {
            lives.iter().flat_map(move |life| {
                life.rows[..life.rows.len().div_ceil(2)].iter().map(move |row| f64::from(row[place]))
            })
        };
        let count = rows().count() as f64;
        anyhow::ensure!(count > 2.0, "fit a head to {count} windows");
        let (mut mean, mut inverse_scale, mut range) = (Vec::new(), Vec::new(), Vec::new());
        for place in 0..features {
            let column = || rows().map(move |row| f64::from(row[place]));
            let centre = column().sum::<f64>() / count;
            let spread = (column().map(|v| (v - centre).powi(2)).sum::<f64>() / count).sqrt();
            let low = fresh(place).fold(f64::INFINITY, f64::min);
            let high = fresh(place).fold(f64::NEG_INFINITY, f64::max);
            let margin = MARGIN * (high - low);
            mean.push(centre as f32);
            inverse_scale.push((1.0 / spread.max(1e-6 * centre.abs()).max(1e-9)) as f32);
            range.push(Range { low: (low - margin) as f32, high: (high + margin) as f32 });
        }
        Ok(Self { mean, inverse_scale, range })
    }

    /// What the head sees after each window: running means, then the age, then 1; the kernel's arithmetic.
    fn seen(&self, life: &Life) -> Vec<Vec<f64>> {
        let inputs = self.mean.len();
        let mut means = vec![0.0f32; inputs * SMOOTHING.len()];
        let mut seen = Vec::with_capacity(life.rows.len());
        for (place, row) in life.rows.iter().enumerate() {
            let age = (place + 1) as f32;
            for (means, weight) in means.chunks_exact_mut(inputs).zip(SMOOTHING) {
                for (i, mean) in means.iter_mut().enumerate() {
                    let z = ((row[i] - self.mean[i]) * self.inverse_scale[i]).clamp(-CLIP, CLIP);
                    *mean += weight.max(1.0 / age) * (z - *mean);
                }
            }
            let last = [f64::from((age * AGE_SCALE).min(4.0)), 1.0];
            seen.push(means.iter().map(|mean| f64::from(*mean)).chain(last).collect());
        }
        seen
    }
}

/// Solves a symmetric positive system given by its lower half, by Cholesky's factors.
fn solve(square: &mut [f64], mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let inner: f64 = (0..j).map(|k| square[i * n + k] * square[j * n + k]).sum();
            let rest = square[i * n + j] - inner;
            square[i * n + j] = if i == j { rest.max(1e-12).sqrt() } else { rest / square[j * n + j] };
        }
    }
    for i in 0..n {
        let inner: f64 = (0..i).map(|k| square[i * n + k] * right[k]).sum();
        right[i] = (right[i] - inner) / square[i * n + i];
    }
    for i in (0..n).rev() {
        let inner: f64 = (i + 1..n).map(|k| square[k * n + i] * right[k]).sum();
        right[i] = (right[i] - inner) / square[i * n + i];
    }
    right
}

/// The features of these windows in these places, or an error that says which is missing.
pub(super) fn picked(values: &[f32], places: &[usize]) -> anyhow::Result<Vec<f32>> {
    places.iter().map(|place| values.get(*place).copied().context("find a feature in its row")).collect()
}

/// The last windows and all of them.
const SMOOTHING: [f32; 2] = [0.2, 0.0];
const AGE_SCALE: f32 = 0.005;
const CLIP: f32 = 6.0;
const PENALTY: f64 = 1e-3;
const FOLDS: usize = 3;
/// Beyond what training saw in the first halves of lives by this share of it, a value is outside.
const MARGIN: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_system_is_solved() {
        let mut square = vec![4.0, 0.0, 2.0, 3.0];
        let solved = solve(&mut square, vec![10.0, 8.0]);
        assert!((solved[0] - 1.75).abs() < 1e-12 && (solved[1] - 1.5).abs() < 1e-12, "{solved:?}");
    }
}

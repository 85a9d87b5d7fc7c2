//! A head for the remaining life as a training run gives it: proved on the lives that ended last, trained on all, with a card that says what it is worth.

use std::collections::BTreeMap;

use kilter_infer::{Artifact, Family};
use kilter_types::Role;

use super::{Head, LifeDataset, LifeModel, LifeOptions, LifeProof, members::groups, train_life};
use crate::{Card, CardFeature, Origin, TrainError, bench::family_name};

/// What came of lives that ran to failure.
#[derive(Clone, Debug)]
pub struct TaughtLife {
    /// The head, of all lives.
    pub model: LifeModel,
    /// What its like was worth on lives that ended later than all it knew.
    pub proof: LifeProof,
    /// What to know about it.
    pub card: Card,
    /// Step and loss while it was trained.
    pub losses: Vec<(usize, f32)>,
    /// More than this is not told apart, in hours.
    pub cap_h: f32,
}

impl TaughtLife {
    /// Did it earn its place on machines?
    pub fn is_worth(&self) -> bool {
        is_worth(&self.model, &self.proof)
    }
}

/// Proves a head and trains it. Lives come in the order of their ends, what is left in hours.
///
/// Every choice follows from lives, `seed` and `steps` (P2); with at most `workers` members side by side, 0 for as many as the machine runs at once.
pub fn teach_life(
    dataset: &LifeDataset,
    (seed, steps, workers): (u64, usize, usize),
    origin: &Origin,
    progress: &mut dyn FnMut(usize, usize, f32),
) -> Result<TaughtLife, TrainError> {
    let proof =
        LifeProof::of(dataset, (seed, steps, workers), &mut |step, steps, loss| progress(step, 2 * steps, loss))?;
    let options = LifeOptions { workers, ..LifeOptions::of_lives(dataset, seed, steps) };
    let mut losses = Vec::new();
    let model = train_life(dataset, &options, &mut |step, steps, loss| {
        losses.push((step, loss));
        progress(steps + step, 2 * steps, loss);
    })?;
    let card = card(dataset, (&model, &proof), &options, origin)?;
    Ok(TaughtLife { model, proof, card, losses, cap_h: options.cap * options.hours_per_unit })
}

/// The mean of what was left, as an artifact, would only be a forecast in name.
fn is_worth(model: &LifeModel, proof: &LifeProof) -> bool {
    proof.wins() && model.head != Head::Constant
}

fn card(
    dataset: &LifeDataset,
    (model, proof): (&LifeModel, &LifeProof),
    options: &LifeOptions,
    origin: &Origin,
) -> Result<Card, TrainError> {
    let artifact = Artifact::parse(&model.artifact).map_err(|error| TrainError::Draft(error.into()))?;
    let asked: Vec<_> = artifact.features().collect();
    let features = dataset.features.iter().filter(|feature| asked.contains(&feature.reference));
    let feature = |feature: &crate::Feature| CardFeature {
        id: feature.reference.id.0,
        hash: feature.reference.hash,
        name: feature.name.clone(),
    };
    let machines = groups(&dataset.machines).into_iter().max().map_or(0, |last| last + 1);
    let rows: usize = dataset.machines.iter().map(|life| life.left.len()).sum();
    let held_out = |head: Head| model.held_out.iter().find(|(of, _)| *of == head).map_or(f64::NAN, |(_, error)| *error);
    let named = |figures: &[(&str, f64)]| -> BTreeMap<String, f64> {
        figures
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    Ok(Card {
        digest: model.digest.to_string(),
        name: origin.name.clone(),
        key: origin.key.clone(),
        family: family_name(Family::RulHead).to_owned(),
        // What tells the remaining life decides on no alarm: it runs beside whatever does.
        role: Role::Shadow,
        pair: None,
        champion: None,
        exact: None,
        features: features.map(feature).collect(),
        trained_at_us: origin.trained_at_us,
        snapshot: origin.snapshot.clone(),
        seed: options.seed,
        rows: rows as u64,
        reason: origin.reason.clone(),
        metrics: named(&[
            ("rmse_h", proof.error_h),
            ("interval_coverage", proof.coverage),
            ("interval_width_h", proof.width_h),
            ("known_lives", proof.known as f64),
            ("judged_lives", proof.judged as f64),
            ("judged_rows", proof.rows as f64),
            ("lives", dataset.machines.len() as f64),
            ("machines", machines as f64),
            ("cap_h", f64::from(options.cap * options.hours_per_unit)),
            ("held_out_rmse_h", held_out(model.head)),
            ("parameters", model.parameters as f64),
            ("kernel", f64::from(model.kernel.0)),
        ]),
        baseline: named(&[
            ("constant_rmse_h", proof.constant_h),
            ("age_rmse_h", proof.by_age_h),
            ("held_out_rmse_h", held_out(Head::Constant)),
        ]),
        parity_max_abs: model.parity,
        reproduce: named(&[("seed", options.seed as f64), ("steps", options.steps as f64)]),
        why: why(model, proof, options),
        kept_speeds: Vec::new(),
        no_kept_speed: Some("lives are kept from a head by machine and by time".to_owned()),
    })
}

fn why(model: &LifeModel, proof: &LifeProof, options: &LifeOptions) -> String {
    let verdict = match (is_worth(model, proof), model.head, proof.wins()) {
        (true, _, _) => "tells the remaining life beside whatever leads",
        (false, Head::Constant, true) => "is not offered, for on all lives no head beats the mean",
        (false, _, _) => {
            "is not offered, for on its own validation it does not beat the mean life left and the age alone, or its interval fails"
        }
    };
    format!(
        "{verdict}: a head of {} lives was wrong by {:.1} h (root mean square, of at most {:.1} h) on {} lives of other machines that ended \
         after all of these, the mean life left by {:.1} h, the age alone by {:.1} h; its {:.0} % interval held in {:.0} % of {} windows; the {} head is sent",
        proof.known,
        proof.error_h,
        proof.cap_h,
        proof.judged,
        proof.constant_h,
        proof.by_age_h,
        100.0 * options.coverage,
        100.0 * proof.coverage,
        proof.rows,
        model.head.word(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::members::sample;

    /// The sample's lives in hours, in the order of their ends.
    fn taught(dataset: &LifeDataset) -> TaughtLife {
        teach_life(dataset, (1, 60, 2), &Origin::default(), &mut |_, _, _| {}).expect("a head")
    }

    #[test]
    fn wear_that_shows_gives_a_head_that_is_worth_having_and_noise_gives_one_whose_card_says_that_it_is_not() {
        let mut worn = sample::lives();
        // Lives of different length, or the age alone would tell everything.
        for (number, life) in worn.machines.iter_mut().enumerate() {
            let slower = 1.0 + 0.25 * ((number * 5) % 8) as f32;
            life.left.iter_mut().for_each(|left| *left *= slower);
        }
        let mut noise = worn.clone();
        let good = taught(&worn);
        println!("{}", good.card.why);
        assert!(good.is_worth() && good.card.why.starts_with("tells the remaining life"), "{}", good.card.why);
        assert_eq!((good.proof.known, good.proof.judged), (6, 2));
        assert!(good.card.metrics["rmse_h"] < good.card.baseline["age_rmse_h"]);
        assert_eq!(taught(&worn).model.digest, good.model.digest);

        let mut random = crate::random::Random::new(2, "noise");
        noise.machines.iter_mut().flat_map(|life| &mut life.rows).for_each(|value| *value = random.symmetric());
        let poor = taught(&noise);
        println!("{}", poor.card.why);
        assert!(!poor.is_worth() && poor.card.why.starts_with("is not offered"), "{}", poor.card.why);
    }
}

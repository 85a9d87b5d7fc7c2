//! One training run, from rows to a network and a statistic and the choice between them.

use std::collections::BTreeMap;

use kilter_infer::Artifact;
use kilter_types::{Digest, Role};

use crate::{
    Augmentation, Card, CardFeature, Dataset, Evidence, Progress, TrainError, TrainOptions,
    bench::{Bench, Exported, family_name},
    evaluate::Figures,
    speeds,
};

/// What a run gives: the leader first, or the better one where none leads.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Both models; the simple one alone where no network was asked for.
    pub models: Vec<TrainedModel>,
}

/// One model.
#[derive(Clone, Debug)]
pub struct TrainedModel {
    /// The bytes that `kilter_infer::Artifact` parses.
    pub artifact: Vec<u8>,
    /// The same network in f32, where the artifact is int8: what a later run goes on from.
    pub exact: Option<Vec<u8>>,
    /// What to know about it.
    pub card: Card,
    /// What it did on rows that it was not made from.
    pub evidence: Evidence,
}

/// Trains the models and says which leads, if one does.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Trained, TrainError> {
    options.check()?;
    dataset.check()?;
    let bench = Bench::new(dataset, options)?;
    let statistic = bench.statistic()?;
    let Some(mut exported) = bench.network(progress)? else { return alone(&bench, statistic) };
    let (history, words) = (exported.history(), exported.words());
    let losses = std::mem::take(&mut exported.losses);
    let kept = speeds::kept(&bench, Some(&exported));
    let Exported { bytes: network, exact, parity, warm, .. } = exported;

    let (ours, theirs) = (bench.test(&network)?, bench.test(&statistic)?);
    let rule = bench.simple_rule();
    let [network_leads, statistic_leads] = leaders(&ours, &theirs, &rule);
    let mut network_card = bench.card(&network, network_leads, &ours, &rule)?;
    network_card.why = why(network_leads, &ours, Some(&theirs), &rule) + &words;
    network_card.parity_max_abs = parity;
    network_card.metrics.extend(history);
    network_card.exact = exact.as_ref().map(|exact| Digest::of(exact).to_string());
    if warm && let Some(warm) = &options.warm {
        network_card.champion = Some(Digest::of(&warm.champion).to_string());
    }
    let mut statistic_card = bench.card(&statistic, statistic_leads, &theirs, &rule)?;
    statistic_card.why = why(statistic_leads, &theirs, Some(&ours), &rule);
    kept.network.into_iter().for_each(|scores| tell(&mut network_card, scores));
    tell(&mut statistic_card, kept.statistic);
    network_card.pair = Some(statistic_card.digest.clone());
    statistic_card.pair = Some(network_card.digest.clone());

    let mut models = vec![
        TrainedModel { evidence: bench.evidence(&network, losses)?, artifact: network, exact, card: network_card },
        TrainedModel {
            evidence: bench.evidence(&statistic, Vec::new())?,
            artifact: statistic,
            exact: None,
            card: statistic_card,
        },
    ];
    if !network_leads && (statistic_leads || theirs.worth() >= ours.worth()) {
        models.reverse();
    }
    Ok(Trained { models })
}

/// The simple detector without a network beside it.
fn alone(bench: &Bench<'_>, statistic: Vec<u8>) -> Result<Trained, TrainError> {
    let (figures, rule) = (bench.test(&statistic)?, bench.simple_rule());
    let leads = figures.worth() > rule.worth();
    let mut card = bench.card(&statistic, leads, &figures, &rule)?;
    card.why = why(leads, &figures, None, &rule) + "; no network was asked for";
    tell(&mut card, speeds::kept(bench, None).statistic);
    let evidence = bench.evidence(&statistic, Vec::new())?;
    Ok(Trained { models: vec![TrainedModel { artifact: statistic, exact: None, card, evidence }] })
}

/// What its like did at a speed that was kept away, on its card.
fn tell(card: &mut Card, scores: speeds::Scores) {
    card.why += &speeds::words(&scores);
    match scores {
        Ok(scores) => card.kept_speeds = scores,
        Err(why) => card.no_kept_speed = Some(why),
    }
}

/// Does the network lead, does the statistic? Never both, and neither where neither beats the simple rule.
///
/// The simpler one leads unless the network is better, and seen to be quiet on enough healthy windows to believe it.
fn leaders(network: &Figures, statistic: &Figures, rule: &Figures) -> [bool; 2] {
    let beats_rule = |figures: &Figures| figures.worth() > rule.worth();
    let better = !beats_rule(statistic) || network.merit() > statistic.merit();
    let network_leads = beats_rule(network) && network.quiet_at_worst() <= MOST_FALSE && better;
    [network_leads, !network_leads && beats_rule(statistic)]
}

/// The comparison in words.
fn why(leads: bool, own: &Figures, other: Option<&Figures>, rule: &Figures) -> String {
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let found =
        |figures: &Figures| format!("{} with {:.2} %", share(figures.merit()), 100.0 * figures.false_alarm_share);
    let verdict = match (leads, own.worth() > rule.worth()) {
        (true, _) => "leads",
        (false, true) => "runs as shadow",
        (false, false) => "runs as shadow, for it does not beat the simple rule",
    };
    format!(
        "{verdict}: {} of simulated{} faults found with {:.2} % of {} healthy windows above the threshold (at worst {:.2} %, at most \
         {:.0} % may lead);{} the simple rule {}",
        share(own.merit()),
        if own.labelled.is_some() { " and labelled" } else { "" },
        100.0 * own.false_alarm_share,
        own.windows,
        100.0 * own.quiet_at_worst(),
        100.0 * MOST_FALSE,
        other.map(|other| format!(" the other model {},", found(other))).unwrap_or_default(),
        found(rule),
    )
}

impl Bench<'_> {
    fn card(&self, bytes: &[u8], leads: bool, figures: &Figures, rule: &Figures) -> Result<Card, TrainError> {
        let artifact = Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()))?;
        let mut own = metrics(figures);
        own.extend(self.watched(bytes)?);
        own.insert("kernel".to_owned(), f64::from(artifact.kernel().0));
        let options = self.options;
        let feature = |column: &usize| {
            let feature = &self.dataset.features[*column];
            CardFeature { id: feature.reference.id.0, hash: feature.reference.hash, name: feature.name.clone() }
        };
        let Augmentation { noise, shift, load } = options.augment;
        let reproduce = [
            ("seed", options.seed as f64),
            ("sequence_len", options.sequence_len as f64),
            ("max_inputs", options.max_inputs as f64),
            ("hidden", options.hidden as f64),
            ("code", options.code as f64),
            ("batch", options.batch as f64),
            ("max_steps", options.max_steps as f64),
            ("look_every", options.look_every as f64),
            ("patience", options.patience as f64),
            ("learning_rate", options.learning_rate),
            ("max_windows", options.max_windows as f64),
            ("false_alarms_per_month", options.false_alarms_per_month),
            ("window_period_secs", options.window_period_secs),
            ("network", options.networks.number()),
            ("int8_loss", f64::from(options.int8_loss)),
            ("int8_needed", f64::from(u8::from(options.int8_needed))),
            ("augment_noise", f64::from(noise)),
            ("augment_shift", f64::from(shift)),
            ("augment_load", f64::from(load)),
        ];
        let warm = options
            .warm
            .iter()
            .flat_map(|warm| [("warm_until_us", warm.until_us as f64), ("rehearsal", warm.rehearsal)]);
        Ok(Card {
            digest: Digest::of(bytes).to_string(),
            name: options.origin.name.clone(),
            key: options.origin.key.clone(),
            family: family_name(artifact.family()).to_owned(),
            role: if leads { Role::Leader } else { Role::Shadow },
            pair: None,
            champion: None,
            exact: None,
            features: self.prepared.columns.iter().map(feature).collect(),
            trained_at_us: options.origin.trained_at_us,
            snapshot: options.origin.snapshot.clone(),
            seed: options.seed,
            rows: self.dataset.healthy.len() as u64,
            reason: options.origin.reason.clone(),
            metrics: own,
            baseline: metrics(rule),
            parity_max_abs: 0.0,
            reproduce: reproduce.into_iter().chain(warm).map(|(key, value)| (key.to_owned(), value)).collect(),
            why: String::new(),
            kept_speeds: Vec::new(),
            no_kept_speed: None,
        })
    }

    /// Figures in the terms of a person on watch, and those of machines that nothing was learned from.
    fn watched(&self, bytes: &[u8]) -> Result<BTreeMap<String, f64>, TrainError> {
        let events = self.events(bytes)?;
        let period_secs = self.options.window_period_secs;
        let months = events.healthy_windows as f64 * period_secs / MONTH_SECS;
        let figures = [
            ("event_precision", events.precision()),
            ("event_recall", events.recall()),
            ("lead_time_secs", events.lead_windows().map(|windows| windows * period_secs)),
            ("events", Some(events.faults as f64)),
            ("false_alarms", Some(events.false_alarms as f64)),
            ("machine_months", Some(months)),
            ("false_alarms_per_machine_month", (months > 0.0).then(|| events.false_alarms as f64 / months)),
        ];
        let strangers = self.test_strangers(bytes)?;
        let of_strangers = strangers.iter().flat_map(|figures| {
            [
                ("held_out_machine_windows", Some(figures.windows as f64)),
                ("held_out_machine_detection", Some(figures.detection)),
                ("held_out_machine_false_alarm_share", Some(figures.false_alarm_share)),
            ]
        });
        let named = |(name, figure): (&str, Option<f64>)| Some((name.to_owned(), figure?));
        Ok(figures.into_iter().chain(of_strangers).filter_map(named).collect())
    }
}

fn metrics(figures: &Figures) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::from([
        ("false_alarm_share".to_owned(), figures.false_alarm_share),
        ("detection".to_owned(), figures.detection),
        ("worth".to_owned(), figures.worth()),
        ("test_windows".to_owned(), figures.windows as f64),
    ]);
    if let Some(labelled) = figures.labelled {
        metrics.insert("labelled_detection".to_owned(), labelled);
    }
    metrics
}

/// A network that may raise a larger share of healthy windows than this does not lead.
const MOST_FALSE: f64 = 0.01;
const MONTH_SECS: f64 = 30.0 * 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(detection: f64, false_alarm_share: f64) -> Figures {
        Figures { false_alarm_share, detection, labelled: None, windows: 2_000 }
    }

    #[test]
    fn what_does_not_beat_the_simple_rule_does_not_lead_and_its_card_says_so() {
        let rule = figures(0.6, 0.0);
        let (good, fair, poor) = (figures(0.8, 0.0), figures(0.7, 0.0), figures(0.6, 0.0));
        assert_eq!(leaders(&good, &fair, &rule), [true, false]);
        assert_eq!(leaders(&fair, &good, &rule), [false, true]);
        assert_eq!(leaders(&poor, &fair, &rule), [false, true]);
        assert_eq!(leaders(&fair, &poor, &rule), [true, false]);
        assert_eq!(leaders(&poor, &poor, &rule), [false, false]);
        // Finding more by crying wolf beats nothing, nor does a rule that does so.
        let loud = figures(0.9, 0.05);
        assert_eq!(leaders(&loud, &loud, &rule), [false, false]);
        assert_eq!(leaders(&poor, &fair, &loud), [false, true]);
        assert!(
            why(false, &poor, Some(&fair), &rule).starts_with("runs as shadow, for it does not beat the simple rule")
        );
        assert!(why(false, &fair, Some(&good), &rule).starts_with("runs as shadow:"));
    }
}

//! One training run, from rows to two models and the choice between them.

use std::collections::BTreeMap;

use kilter_infer::{Artifact, Family};
use kilter_types::{Digest, Role};

use crate::{
    Card, CardFeature, Dataset, Evidence, Progress, TrainError, TrainOptions, bench::Bench, evaluate::Figures,
};

/// What a run gives: the leader first.
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
    /// What to know about it.
    pub card: Card,
    /// What it did on rows that it was not made from.
    pub evidence: Evidence,
}

/// Trains both models and says which leads.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Trained, TrainError> {
    options.check()?;
    dataset.check()?;
    let bench = Bench::new(dataset, options)?;
    let statistic = bench.statistic()?;
    let exported = options.network.then(|| bench.autoencoder(progress)).transpose()?;
    let Some(mut exported) = exported else { return alone(&bench, statistic) };
    let history = exported.history();
    let (losses, parity) = (std::mem::take(&mut exported.losses), exported.parity);
    let (warm, network) = (exported.warm, exported.bytes);

    let (ours, theirs) = (bench.test(&network)?, bench.test(&statistic)?);
    // The simpler one leads unless the network is better, and seen to be quiet on enough healthy windows to believe it.
    let network_leads = ours.quiet_at_worst() <= MOST_FALSE && ours.merit() > theirs.merit();
    let rule = bench.simple_rule();
    let why = |name: &str, own: &Figures, other: &Figures| {
        format!(
            "{name}: {:.1} % of simulated{} faults found with {:.2} % of {} healthy windows above the threshold (at worst {:.2} %, at most {:.0} % may lead); the other model {:.1} % with {:.2} %, the simple rule {:.1} % with {:.2} %",
            100.0 * own.merit(),
            if own.labelled.is_some() { " and labelled" } else { "" },
            100.0 * own.false_alarm_share,
            own.windows,
            100.0 * own.quiet_at_worst(),
            100.0 * MOST_FALSE,
            100.0 * other.merit(),
            100.0 * other.false_alarm_share,
            100.0 * rule.merit(),
            100.0 * rule.false_alarm_share,
        )
    };
    let role = |leads: bool| if leads { Role::Leader } else { Role::Shadow };
    let verdict = |leads: bool| if leads { "leads" } else { "runs as shadow" };
    let mut network_card = bench.card(&network, role(network_leads), &ours, &rule);
    network_card.why = why(verdict(network_leads), &ours, &theirs);
    network_card.parity_max_abs = parity;
    network_card.metrics.extend(history);
    if warm && let Some(warm) = &options.warm {
        network_card.champion = Some(Digest::of(&warm.champion).to_string());
    }
    let mut statistic_card = bench.card(&statistic, role(!network_leads), &theirs, &rule);
    statistic_card.why = why(verdict(!network_leads), &theirs, &ours);
    network_card.pair = Some(statistic_card.digest.clone());
    statistic_card.pair = Some(network_card.digest.clone());

    let mut models = vec![
        TrainedModel { evidence: bench.evidence(&network, losses)?, artifact: network, card: network_card },
        TrainedModel { evidence: bench.evidence(&statistic, Vec::new())?, artifact: statistic, card: statistic_card },
    ];
    if !network_leads {
        models.reverse();
    }
    Ok(Trained { models })
}

/// The simple detector without a network beside it.
fn alone(bench: &Bench<'_>, statistic: Vec<u8>) -> Result<Trained, TrainError> {
    let (figures, rule) = (bench.test(&statistic)?, bench.simple_rule());
    let mut card = bench.card(&statistic, Role::Leader, &figures, &rule);
    card.why = "leads: no network was asked for".to_owned();
    let evidence = bench.evidence(&statistic, Vec::new())?;
    Ok(Trained { models: vec![TrainedModel { artifact: statistic, card, evidence }] })
}

impl Bench<'_> {
    fn card(&self, bytes: &[u8], role: Role, figures: &Figures, rule: &Figures) -> Card {
        let family = Artifact::parse(bytes).map(|artifact| artifact.family());
        let options = self.options;
        let feature = |column: &usize| {
            let feature = &self.dataset.features[*column];
            CardFeature { id: feature.reference.id.0, hash: feature.reference.hash, name: feature.name.clone() }
        };
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
            ("network", f64::from(u8::from(options.network))),
        ];
        let warm = options
            .warm
            .iter()
            .flat_map(|warm| [("warm_until_us", warm.until_us as f64), ("rehearsal", warm.rehearsal)]);
        Card {
            digest: Digest::of(bytes).to_string(),
            name: options.origin.name.clone(),
            key: options.origin.key.clone(),
            family: match family {
                Ok(Family::LstmAutoencoder) => "lstm_autoencoder".to_owned(),
                Ok(Family::LstmForecaster) => "lstm_forecaster".to_owned(),
                Ok(Family::RulHead) => "rul_head".to_owned(),
                Ok(Family::Quadratic) => "quadratic".to_owned(),
                Ok(Family::Statistic) | Err(_) => "statistic".to_owned(),
            },
            role,
            pair: None,
            champion: None,
            features: self.prepared.columns.iter().map(feature).collect(),
            trained_at_us: options.origin.trained_at_us,
            snapshot: options.origin.snapshot.clone(),
            seed: options.seed,
            rows: self.dataset.healthy.len() as u64,
            reason: options.origin.reason.clone(),
            metrics: metrics(figures),
            baseline: metrics(rule),
            parity_max_abs: 0.0,
            reproduce: reproduce.into_iter().chain(warm).map(|(key, value)| (key.to_owned(), value)).collect(),
            why: String::new(),
        }
    }
}

fn metrics(figures: &Figures) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::from([
        ("false_alarm_share".to_owned(), figures.false_alarm_share),
        ("detection".to_owned(), figures.detection),
        ("test_windows".to_owned(), figures.windows as f64),
    ]);
    if let Some(labelled) = figures.labelled {
        metrics.insert("labelled_detection".to_owned(), labelled);
    }
    metrics
}

/// A network that may raise a larger share of healthy windows than this does not lead.
const MOST_FALSE: f64 = 0.01;

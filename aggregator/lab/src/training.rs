//! A training run: pinned tables in, two models and their cards in the outbox out, and a head for the remaining life where enough machines failed.
//!
//! Everything that decides the result is on the card: the tables' versions, the seed, the options (also those that a search found) and
//! the network that a run went on from. `again` reads them back and makes the artifact again (P2).

pub(crate) mod life;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use kilter_history::{Asset, View};
use kilter_lake::TableName;
use kilter_train::{
    CardKey, Dataset, Device, Found, Networks, Origin, Progress, SearchOptions, SearchProgress, TaughtLife, TrainError,
    TrainOptions, Trained, Warm, life_report, parallel, report, search, teach_life, train,
};
use kilter_types::{Micros, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use crate::again::shape_of;
use crate::config;
use crate::files::Files;
use crate::gather::{gather, machines, view};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// `command`, `drift`, `schedule` or `growth`.
    pub(crate) reason: String,
    /// One kind of machine; `None`: every kind.
    pub(crate) class: Option<String>,
    /// The seed.
    pub(crate) seed: u64,
    /// Look for better options first.
    pub(crate) search: Option<Search>,
    /// Go on from the newest network with this share of windows that it knows in each batch.
    pub(crate) rehearsal: Option<f64>,
}

/// A search, as it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Search {
    /// Candidates.
    pub(crate) candidates: usize,
    /// Steps of each in the first rung.
    pub(crate) first_steps: usize,
    /// Memory of the device that the model must fit in.
    pub(crate) device_ram_bytes: Option<usize>,
    /// Time that one score may take there.
    pub(crate) latency_us: Option<u64>,
    /// Multiplications with addition that it does in a second.
    pub(crate) products_per_sec: f64,
}

impl Default for Search {
    fn default() -> Self {
        let SearchOptions { candidates, first_steps, .. } = SearchOptions::default();
        Self { candidates, first_steps, device_ram_bytes: None, latency_us: None, products_per_sec: 30e6 }
    }
}

impl Search {
    fn options(&self) -> SearchOptions {
        let device = Device {
            ram_bytes: self.device_ram_bytes.unwrap_or(usize::MAX),
            latency_secs: self.latency_us.map_or(f64::MAX, |us| us as f64 / 1e6),
            products_per_sec: self.products_per_sec.max(1.0),
        };
        let bound = self.device_ram_bytes.is_some() || self.latency_us.is_some();
        SearchOptions {
            candidates: self.candidates,
            first_steps: self.first_steps,
            device: bound.then_some(device),
            ..SearchOptions::default()
        }
    }
}

/// A class's models, and how their options were found.
struct Made {
    trained: Trained,
    found: Option<Found>,
    note: Option<String>,
}

/// Trains each kind of machine on these pinned tables, side by side as far as the configured share of the processor goes.
///
/// A search's log is named by `searched_at`, the time whose tables it reads.
pub(crate) fn run(
    views: &[View],
    request: &Request,
    config: &config::Training,
    files: &Files,
    now: Micros,
    searched_at: Micros,
    progress: &mut dyn FnMut(Value),
) -> anyhow::Result<Value> {
    let (features, events) = (view(views, TableName::Features)?, view(views, TableName::Events)?);
    let by_class = machines(events)?;
    let wanted: Vec<_> = match &request.class {
        Some(class) => vec![by_class.get_key_value(class).with_context(|| {
            let known: Vec<_> = by_class.keys().map(String::as_str).collect();
            format!("failed to train: no machine of class '{class}' has reported; known: {}", known.join(", "))
        })?],
        None => by_class.iter().collect(),
    };
    if wanted.is_empty() {
        bail!("failed to train: no machine has reported its class yet");
    }
    let threads = config.threads(parallel::workers());
    let side_by_side = threads.min(wanted.len());
    // What is handed out is listed in one file.
    let handing_out = Mutex::new(());
    let work = |(class, assets): (&String, &Vec<Asset>), progress: &mut dyn FnMut(Value)| {
        let workers = threads / side_by_side;
        let run = Run { class, assets, features, events, request, config, files, now, searched_at, workers };
        let made = run.train(progress);
        let life = run.life(progress);
        let _turn = handing_out.lock().unwrap_or_else(PoisonError::into_inner);
        run.hand_out(made, life)
    };
    let classes: Vec<&String> = wanted.iter().map(|(class, _)| *class).collect();
    let done = parallel::each(wanted, side_by_side, &work, progress);
    let (mut models, mut skipped, mut notes, mut reports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut lives = Vec::new();
    for (class, done) in classes.into_iter().zip(done) {
        match done {
            Ok(done) => {
                models.extend(done.models);
                notes.extend(done.notes);
                reports.extend(done.reports);
                lives.push(done.life);
                skipped.extend(done.skipped.map(|why| json!({ "asset_class": class, "why": why })));
            }
            Err(error) => skipped.push(json!({ "asset_class": class, "why": format!("{error:#}") })),
        }
    }
    if models.is_empty() {
        let why: Vec<_> = skipped.iter().map(|skip| format!("{}: {}", skip["asset_class"], skip["why"])).collect();
        bail!("failed to train: {}", why.join("; "));
    }
    Ok(json!({
        "models": models, "skipped": skipped, "reason": request.reason, "search": notes, "reports": reports, "life": lives,
    }))
}

/// One kind of machine's part of a run.
struct Run<'r> {
    class: &'r str,
    assets: &'r [Asset],
    features: &'r View,
    events: &'r View,
    request: &'r Request,
    config: &'r config::Training,
    files: &'r Files,
    now: Micros,
    searched_at: Micros,
    /// Threads of a search.
    workers: usize,
}

/// What came of one kind of machine, for whoever asked.
#[derive(Default)]
struct Done {
    models: Vec<Value>,
    notes: Vec<Value>,
    reports: Vec<PathBuf>,
    /// The head for the remaining life, or why there is none.
    life: Value,
    /// Why there is no detector.
    skipped: Option<String>,
}

impl Run<'_> {
    fn train(&self, progress: &mut dyn FnMut(Value)) -> anyhow::Result<Made> {
        let Self { class, features, events, request, config, .. } = *self;
        progress(json!({ "progress": { "asset_class": class, "stage": "reading" } }));
        let gathered = gather(self.assets, features, events, config.margin_windows, config.least_windows)?;
        let options = TrainOptions {
            seed: request.seed,
            max_steps: config.max_steps,
            int8_loss: config.int8_loss,
            window_period_secs: gathered.period_secs,
            origin: self.origin("anomaly", "anomaly"),
            ..TrainOptions::default()
        };
        let (options, found, note) = match (&request.search, request.rehearsal) {
            (Some(search), _) => self.searched(search, &gathered.dataset, options, progress)?,
            (None, Some(rehearsal)) => self.warmed(rehearsal, options)?,
            (None, None) => (options, None, None),
        };
        let mut tell = |step: Progress| progress(told(class, step));
        let mut trained = train(&gathered.dataset, &options, &mut tell)?;
        let newest_us = gathered.dataset.healthy.time_us.iter().max().copied().unwrap_or_default();
        for model in &mut trained.models {
            model.card.reproduce.insert("margin_windows".into(), config.margin_windows.into());
            model.card.reproduce.insert("least_windows".into(), config.least_windows as f64);
            model.card.metrics.insert(NEWEST.into(), newest_us as f64);
            if let Some(found) = &found {
                model.card.why += &format!("; searched: {}", found.why);
            }
        }
        Ok(Made { trained, found, note })
    }

    /// Hands the models to the server, and tells what came of it. A run without a model is an error.
    ///
    /// A machine has room for one shadow. It is the head for the remaining life where there is one: as the leader's pair, so that one rollout brings
    /// both, or by itself beside whatever leads.
    fn hand_out(&self, made: anyhow::Result<Made>, life: Result<TaughtLife, String>) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let leader = made.as_ref().ok().and_then(|made| {
            let mut models = made.trained.models.iter();
            models.find(|model| model.card.role == Role::Leader).map(|model| model.card.digest.clone())
        });
        let head = self.hand_out_life(life, leader, &mut done)?;
        match made {
            Ok(made) => self.hand_out_detectors(made, head.as_deref(), &mut done)?,
            Err(error) if head.is_some() => done.skipped = Some(format!("{error:#}")),
            Err(error) => return Err(error),
        }
        Ok(done)
    }

    fn hand_out_detectors(&self, made: Made, head: Option<&str>, done: &mut Done) -> anyhow::Result<()> {
        let Self { class, files, .. } = *self;
        let Made { mut trained, found, note } = made;
        let leads = trained.models.iter().any(|model| model.card.role == Role::Leader);
        match (head, &mut trained.models[..]) {
            (None, [better, other]) if better.card.role == Role::Shadow => {
                better.card.why += "; it runs beside whatever leads";
                other.card.why += "; the better one of the two runs, for a machine has room for one shadow";
            }
            (None, _) => {}
            (Some(head), models) => models.iter_mut().map(|model| &mut model.card).for_each(|card| match card.role {
                Role::Leader => card.pair = Some(head.to_owned()),
                Role::Shadow => {
                    card.why +=
                        "; it does not run, for a machine has room for one shadow, the head for the remaining life"
                }
            }),
        }
        // The leader's card last: it starts the rollout, and its pair must be there by then. Where none leads, both must be there.
        for model in trained.models.iter().rev() {
            let card = &model.card;
            if NETWORKS.contains(&card.family.as_str()) {
                // A later run goes on from the weights in f32.
                files.keep_network(class, model.exact.as_ref().unwrap_or(&model.artifact), card)?;
            }
            // Without a leader a detector that the server took would begin to run, and the head would have to go.
            if leads || head.is_none() {
                files.hand_out(&card.digest, &model.artifact, &serde_json::to_vec_pretty(card)?)?;
            }
        }
        let first = trained.models.first().map_or("", |model| model.card.digest.as_str());
        done.reports.push(files.report(first, &report(&trained.models, found.as_ref()))?);
        done.notes.extend(
            found.map(|found| json!({ "asset_class": class, "why": found.why, "digest": found.digest.to_string() })),
        );
        done.notes.extend(note.map(|why| json!({ "asset_class": class, "why": why })));
        for model in trained.models {
            info!(model = %model.card.digest, class, role = ?model.card.role, why = %model.card.why, "model trained");
            done.models.push(serde_json::to_value(model.card)?);
        }
        Ok(())
    }

    /// Hands the head out if it is worth it; its digest then. The card of one that is not lies beside its report.
    fn hand_out_life(
        &self,
        life: Result<TaughtLife, String>,
        leader: Option<String>,
        done: &mut Done,
    ) -> anyhow::Result<Option<String>> {
        let Self { class, files, .. } = *self;
        let mut taught = match life {
            Ok(taught) => taught,
            Err(why) => {
                info!(class, why, "no head for the remaining life");
                done.life = json!({ "asset_class": class, "offered": false, "why": why });
                return Ok(None);
            }
        };
        taught.card.pair = leader.filter(|_| taught.is_worth());
        let page = life_report(class, &taught.model, &taught.losses, taught.cap_h, Some(&taught.card.why));
        let (card, digest, offered) = (serde_json::to_value(&taught.card)?, &taught.card.digest, taught.is_worth());
        done.reports.push(files.report(digest, &page)?);
        let text = serde_json::to_vec_pretty(&card)?;
        if offered {
            files.hand_out(digest, &taught.model.artifact, &text)?;
        } else {
            files.replace(&format!("reports/{digest}.card.json"), &text)?;
        }
        info!(model = %digest, class, offered, why = %taught.card.why, "head for the remaining life trained");
        done.life = json!({ "asset_class": class, "offered": offered, "digest": digest, "why": taught.card.why });
        done.models.extend(offered.then_some(card));
        Ok(offered.then_some(taught.card.digest))
    }

    /// The head for the remaining life; what keeps one from being made keeps no detector.
    fn life(&self, progress: &mut dyn FnMut(Value)) -> Result<TaughtLife, String> {
        let Self { class, features, events, request, config, .. } = *self;
        let said = |error: anyhow::Error| format!("no head for the remaining life: failed to {error:#}");
        let found = life::gather(self.assets, features, events, config.least_lives).map_err(said)?;
        let lives = match found {
            life::Found::Lives(lives) => lives,
            life::Found::Few(why) => return Err(why),
        };
        let mut tell = |step, steps, loss| progress(life::told(class, (step, steps, loss)));
        let budget = (request.seed, config.max_steps, self.workers);
        let taught = teach_life(&lives, budget, &self.origin("life", life::TASK), &mut tell);
        let mut taught = taught.map_err(|error| said(error.into()))?;
        taught.card.reproduce.insert("least_lives".into(), config.least_lives as f64);
        Ok(taught)
    }

    /// Where a model comes from, for its card.
    fn origin(&self, name: &str, task: &str) -> Origin {
        let versions = [self.features, self.events].map(|view| {
            (format!("{}_version", view.table()), i64::try_from(view.snapshot.version).unwrap_or(i64::MAX))
        });
        Origin {
            name: format!("{}-{name}", self.class),
            key: CardKey { task: task.into(), asset_class: self.class.into(), asset: None },
            reason: self.request.reason.clone(),
            trained_at_us: self.now.0,
            snapshot: versions.into(),
        }
    }

    /// The options that a search finds; the simple detector alone where no network fits the device.
    fn searched(
        &self,
        asked: &Search,
        dataset: &Dataset,
        options: TrainOptions,
        progress: &mut dyn FnMut(Value),
    ) -> anyhow::Result<(TrainOptions, Option<Found>, Option<String>)> {
        let mut log = self.files.trials(self.class, self.searched_at.0)?;
        let mut tell = |step: SearchProgress| {
            progress(json!({ "progress": {
                "asset_class": self.class, "stage": "search", "step": step.done, "steps": step.steps,
                "merit": step.best, "eta_secs": step.eta_secs,
            } }));
        };
        let asked = SearchOptions { workers: self.workers, ..asked.options() };
        match search(dataset, &options, &asked, &mut log, &mut tell) {
            Ok(found) => Ok((found.options.clone(), Some(found), None)),
            Err(error @ TrainError::NothingFits { .. }) => {
                let note = format!("failed to {error}; the statistic takes a few hundred bytes and is trained alone");
                Ok((TrainOptions { networks: Networks::None, ..options }, None, Some(note)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The shape of the newest network, to go on from it.
    fn warmed(
        &self,
        rehearsal: f64,
        options: TrainOptions,
    ) -> anyhow::Result<(TrainOptions, Option<Found>, Option<String>)> {
        let Some((champion, card)) = self.files.champion(self.class) else {
            return Ok((options, None, Some("there is no network yet to go on from: trained from scratch".to_owned())));
        };
        let until_us = card.metrics.get(NEWEST).copied().unwrap_or_default() as i64;
        let TrainOptions { sequence_len, max_inputs, hidden, code, augment, .. } = shape_of(&card)?;
        let warm = Some(Warm { champion, until_us, rehearsal });
        let note = format!("goes on from {}", card.digest);
        Ok((TrainOptions { sequence_len, max_inputs, hidden, code, augment, warm, ..options }, None, Some(note)))
    }
}

/// A step for whoever watches.
pub(crate) fn told(class: &str, step: Progress) -> Value {
    json!({ "progress": {
        "asset_class": class, "stage": "training", "step": step.step, "steps": step.steps,
        "loss": step.loss, "held_out_loss": step.held_out_loss, "eta_secs": step.eta_secs,
    } })
}

/// The families that a later run may go on from.
const NETWORKS: [&str; 2] = ["lstm_autoencoder", "lstm_forecaster"];
/// The newest window that a model learned from, in microseconds of event time.
const NEWEST: &str = "newest_window_us";

//! Starts training runs, one at a time, on a thread of their own: commits and questions go on meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use kilter_history::{Selection, View, drift, frames};
use kilter_lab_config::due::{Last, Timetable};
use kilter_lake::TableName;
use kilter_types::Micros;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock;
use crate::commit::{Flush, Shared, Status, lock};
use crate::config::Config;
use crate::files::Files;
use crate::gather;
use crate::searches::Begun;
use crate::training::{self, Request};
use crate::upkeep::Order;

/// Starts runs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Trainer {
    state: Shared,
    flush: mpsc::Sender<Flush>,
    orders: mpsc::Sender<Order>,
    files: Files,
    config: Config,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    running: Option<Request>,
    /// How each kind of machine was last trained.
    trained: BTreeMap<String, Last>,
    /// When the clock's last run began, or the lab was first there.
    scheduled: Option<Micros>,
    /// When the windows of a kind of machine without a leader were counted last.
    counted: BTreeMap<String, Micros>,
    /// Drift does not start a run of this kind of machine before.
    not_before: BTreeMap<String, Micros>,
    /// What the last run ended with.
    last: Option<Result<Value, String>>,
}

impl Trainer {
    pub(crate) fn new(
        state: Shared,
        flush: mpsc::Sender<Flush>,
        orders: mpsc::Sender<Order>,
        files: Files,
        config: Config,
    ) -> Self {
        let inner = Inner { trained: files.trained(), scheduled: files.scheduled(), ..Inner::default() };
        Self { state, flush, orders, files, config, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Trains: commits what is there, pins it, runs. Progress goes to `progress`, which may lag behind.
    pub(crate) async fn train(&self, request: Request, progress: mpsc::Sender<Value>) -> anyhow::Result<Value> {
        {
            let mut inner = self.inner();
            if let Some(running) = &inner.running {
                bail!("a training started by {} is running; wait for its end", running.reason);
            }
            inner.running = Some(request.clone());
        }
        let started = clock::now();
        let result = self.run(request.clone(), started, progress).await;
        let mut inner = self.inner();
        inner.running = None;
        inner.last = Some(result.as_ref().map(Clone::clone).map_err(|error| format!("{error:#}")));
        match &result {
            Ok(done) => {
                note(&mut inner.trained, &done["models"], started);
                if let Err(error) = self.files.keep_trained(&inner.trained) {
                    warn!(error = %format!("{error:#}"), "time of training not stored");
                }
            }
            Err(error) => warn!(error = %format!("{error:#}"), "training ended without a model"),
        }
        result
    }

    /// Starts what is due: where drift has settled, by the clock, and where no model leads and much more is known by now.
    pub(crate) async fn watch(self, status: Arc<Mutex<Status>>) {
        let timetable = match Timetable::of(&self.config.training) {
            Ok(timetable) => timetable,
            Err(error) => return warn!(error = %format!("{error:#}"), "nothing is trained by itself"),
        };
        let mut checked_at_commit = 0;
        loop {
            clock::pause(WATCH_MS).await;
            let now = clock::now();
            let mut due = self.drifted(now).or_else(|| self.scheduled(timetable, now));
            let commits = status.lock().unwrap_or_else(PoisonError::into_inner).commits;
            let every = u64::from(self.config.drift.check_commits);
            if due.is_none() && every > 0 && commits >= checked_at_commit + every {
                checked_at_commit = commits;
                due = self.drifted_in_lake(now).await;
            }
            if due.is_none() {
                due = self.grown_in_lake(now).await;
            }
            let Some(request) = due else { continue };
            info!(reason = request.reason, class = request.class, "training starts");
            // Nobody listens to the progress; the server tells of the model when it comes.
            let (progress, _) = mpsc::channel(1);
            // The end was told where it was noticed.
            let _ = self.train(request, progress).await;
        }
    }

    /// For people.
    pub(crate) fn json(&self) -> Value {
        let inner = self.inner();
        let last = inner.last.as_ref().map(|last| match last {
            Ok(done) => {
                let models = done["models"].as_array().into_iter().flatten();
                let models: Vec<_> = models.map(|model| model["digest"].clone()).collect();
                serde_json::json!({ "models": models, "life": done["life"] })
            }
            Err(error) => serde_json::json!({ "error": error }),
        });
        serde_json::json!({
            "running": inner.running.as_ref().map(|request| request.reason.clone()),
            "trained_at_us": inner.trained.iter().map(|(class, last)| (class.clone(), last.at_us.into())).collect::<serde_json::Map<_, _>>(),
            "trained": inner.trained,
            "last": last,
        })
    }

    async fn run(&self, request: Request, started: Micros, progress: mpsc::Sender<Value>) -> anyhow::Result<Value> {
        let (done, committed) = oneshot::channel();
        self.flush.send(done).await?;
        committed.await?;
        let searched_at = self.begin_search(&request)?;
        let views = match request.search {
            // A search that is taken up again must see what it saw before.
            Some(_) => self.as_of(searched_at).await?,
            None => lock(&self.state).pinned(),
        };
        let (files, config) = (self.files.clone(), self.config.training.clone());
        let (result, ended) = oneshot::channel();
        std::thread::Builder::new().name("training".into()).stack_size(STACK_BYTES).spawn(move || {
            // A listener that lags or has gone misses steps, nothing else.
            let mut tell = |step: Value| drop(progress.try_send(step));
            let trained = training::run(&views, &request, &config, &files, started, searched_at, &mut tell);
            if trained.is_ok() && request.search.is_some() {
                // Left standing, it would only be done again.
                let _ = files.ended(request.class.as_deref());
            }
            // Only a lab that is ending does not wait for it.
            let _ = result.send(trained);
        })?;
        match ended.await {
            Ok(result) => result,
            Err(_) => bail!("the training ended unexpectedly; the log tells why"),
        }
    }

    /// The time whose tables are read: that of the same search if it was interrupted, now otherwise.
    fn begin_search(&self, request: &Request) -> anyhow::Result<Micros> {
        let now = clock::now();
        let Some(search) = &request.search else { return Ok(now) };
        let class = request.class.as_deref();
        let same = |begun: &Begun| (begun.seed, &begun.search) == (request.seed, search);
        if let Some(begun) = self.files.begun(class).filter(same) {
            info!(at_us = begun.at_us, "an interrupted search goes on");
            return Ok(Micros(begun.at_us));
        }
        self.files.begin(class, &Begun { seed: request.seed, search: search.clone(), at_us: now.0 })?;
        Ok(now)
    }

    async fn as_of(&self, at: Micros) -> anyhow::Result<Vec<View>> {
        let (done, told) = oneshot::channel();
        self.orders.send(Order::AsOf { at, done }).await?;
        told.await?
    }

    /// A run for a kind of machine whose devices reported drift after its last training began, long enough ago.
    fn drifted(&self, now: Micros) -> Option<Request> {
        if !self.config.drift.enabled {
            return None;
        }
        let reported = lock(&self.state).drift().clone();
        let inner = self.inner();
        let settle = Micros::from_secs(self.config.drift.settle_secs.into());
        let due = |class: &String, at: Micros| {
            at.0 > inner.trained.get(class).map_or(i64::MIN, |last| last.at_us)
                && now >= at + settle
                && inner.not_before.get(class).is_none_or(|before| now >= *before)
        };
        let idle = inner.running.is_none();
        let class = reported.into_iter().find(|(class, at)| idle && due(class, *at)).map(|(class, _)| class);
        drop(inner);
        class.map(|class| self.after_drift(class, now))
    }

    fn after_drift(&self, class: String, now: Micros) -> Request {
        let pause = Micros::from_secs(self.config.drift.cooldown_secs.into());
        self.inner().not_before.insert(class.clone(), now + pause);
        let rehearsal = self.config.drift.warm_start.then_some(REHEARSAL);
        Request { rehearsal, ..by_itself("drift", Some(class)) }
    }

    /// A run for every kind of machine, if the clock says so; that it did is kept before it begins.
    fn scheduled(&self, timetable: Timetable, now: Micros) -> Option<Request> {
        let mut inner = self.inner();
        if timetable == Timetable::Never || inner.running.is_some() {
            return None;
        }
        // A clock that was ahead must not put the next run off until it is reached again.
        let last = inner.scheduled.map_or(now, |last| last.min(now));
        let due = timetable.is_due(last, now);
        let keep = if due { now } else { last };
        if inner.scheduled != Some(keep) {
            inner.scheduled = Some(keep);
            if let Err(error) = self.files.keep_scheduled(keep) {
                warn!(error = %format!("{error:#}"), "time of the clock's run not stored");
            }
        }
        due.then(|| by_itself("schedule", None))
    }

    /// A run for a kind of machine for which no model leads and which has many more healthy windows than when it was trained.
    async fn grown_in_lake(&self, now: Micros) -> Option<Request> {
        let (class, last) = {
            let mut inner = self.inner();
            if inner.running.is_some() {
                return None;
            }
            let looks = |(class, last): &(&String, &Last)| {
                self.config.again.looks(**last, inner.counted.get(*class).copied(), now)
            };
            let (class, last) = inner.trained.iter().find(looks).map(|(class, last)| (class.clone(), *last))?;
            inner.counted.insert(class.clone(), now);
            (class, last)
        };
        let views = lock(&self.state).pinned();
        let (config, counted) = (self.config.training.clone(), class.clone());
        let windows = tokio::task::spawn_blocking(move || gather::healthy_windows(&views, &counted, &config)).await;
        match windows {
            Ok(Ok(windows)) => self.config.again.has_grown(last, windows).then(|| by_itself("growth", Some(class))),
            Ok(Err(error)) => {
                warn!(class, error = %format!("{error:#}"), "healthy windows not counted");
                None
            }
            Err(error) => {
                warn!(class, %error, "healthy windows not counted");
                None
            }
        }
    }

    /// A run for a trained kind of machine whose recent windows have moved away from those it was trained on.
    async fn drifted_in_lake(&self, now: Micros) -> Option<Request> {
        if !self.config.drift.enabled || self.inner().running.is_some() {
            return None;
        }
        let views = lock(&self.state).pinned();
        let (trained, not_before) = {
            let inner = self.inner();
            (inner.trained.clone(), inner.not_before.clone())
        };
        let config = self.config.clone();
        let look = move || -> anyhow::Result<Option<String>> {
            for (class, last) in trained {
                if not_before.get(&class).is_some_and(|before| now < *before) {
                    continue;
                }
                if moved(&views, &class, last.at_us, &config)? {
                    return Ok(Some(class));
                }
            }
            Ok(None)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(due)) => due.map(|class| self.after_drift(class, now)),
            Ok(Err(error)) => {
                warn!(error = %format!("{error:#}"), "drift not computed");
                None
            }
            Err(error) => {
                warn!(%error, "drift not computed");
                None
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that nobody asked for.
fn by_itself(reason: &str, class: Option<String>) -> Request {
    Request { reason: reason.to_owned(), class, seed: DEFAULT_SEED, search: None, rehearsal: None }
}

/// Remembers what detectors a run that began then gave.
fn note(trained: &mut BTreeMap<String, Last>, models: &Value, began: Micros) {
    let mut now: BTreeMap<&str, Last> = BTreeMap::new();
    for model in models.as_array().into_iter().flatten() {
        let Some(class) = model["key"]["asset_class"].as_str() else { continue };
        if model["key"]["task"] == training::life::TASK {
            continue;
        }
        let last = now.entry(class).or_insert(Last { at_us: began.0, windows: 0, leads: false });
        last.windows = last.windows.max(model["rows"].as_u64().unwrap_or(0));
        last.leads |= model["role"] == "leader";
    }
    trained.extend(now.into_iter().map(|(class, last)| (class.to_owned(), last)));
}

/// Has the share of features moved that counts as drift?
fn moved(views: &[View], class: &str, trained_at_us: i64, config: &Config) -> anyhow::Result<bool> {
    let (features, events) = (gather::view(views, TableName::Features)?, gather::view(views, TableName::Events)?);
    let assets = gather::machines(events)?.remove(class).unwrap_or_default();
    for (_, kind) in gather::KINDS {
        let selection = |known_at_us, recent_us| Selection {
            assets: assets.clone(),
            kind: kind.into(),
            margin_windows: config.training.margin_windows,
            known_at_us,
            recent_us,
        };
        let reference = frames(features, events, &selection(Some(trained_at_us), None))?;
        if reference.healthy.index.is_empty() {
            continue;
        }
        let recent_us = i64::from(config.drift.recent_secs) * 1_000_000;
        let recent = frames(features, events, &selection(None, Some(recent_us)))?;
        if recent.schema != reference.schema {
            continue;
        }
        let figures = drift(&reference.healthy, &recent.healthy, reference.width);
        let moved = figures.iter().filter(|figure| figure.moved()).count();
        if !figures.is_empty() && moved as f32 >= config.drift.moved_share * figures.len() as f32 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The seed when nobody names one.
pub(crate) const DEFAULT_SEED: u64 = 1;
/// Share of windows that are rehearsed when nobody names one.
pub(crate) const REHEARSAL: f64 = 0.5;

const WATCH_MS: u64 = 1_000;
const STACK_BYTES: usize = 16 << 20;

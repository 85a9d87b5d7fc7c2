//! Starts training runs, one at a time, on a thread of their own: commits and questions go on meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use kilter_history::{Selection, View, drift, frames};
use kilter_lake::TableName;
use kilter_types::Micros;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock;
use crate::commit::{Flush, Shared, Status, lock};
use crate::config::Config;
use crate::files::Files;
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
    /// When each kind of machine was last trained: its start.
    trained: BTreeMap<String, i64>,
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
        let inner = Inner { trained: files.trained(), ..Inner::default() };
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
                for model in done["models"].as_array().into_iter().flatten() {
                    if let Some(class) = model["key"]["asset_class"].as_str() {
                        inner.trained.insert(class.to_owned(), started.0);
                    }
                }
                if let Err(error) = self.files.keep_trained(&inner.trained) {
                    warn!(error = %format!("{error:#}"), "time of training not stored");
                }
            }
            Err(error) => warn!(error = %format!("{error:#}"), "training ended without a model"),
        }
        result
    }

    /// Looks for drift that has settled; starts a run for the first kind of machine that has any.
    pub(crate) async fn watch(self, status: Arc<Mutex<Status>>) {
        let mut checked_at_commit = 0;
        loop {
            clock::pause(WATCH_MS).await;
            let now = clock::now();
            let mut due = self.drifted(now);
            let commits = status.lock().unwrap_or_else(PoisonError::into_inner).commits;
            let every = u64::from(self.config.drift.check_commits);
            if due.is_none() && every > 0 && commits >= checked_at_commit + every {
                checked_at_commit = commits;
                due = self.drifted_in_lake(now).await;
            }
            let Some(class) = due else { continue };
            info!(class, "drift: training starts");
            let pause = Micros::from_secs(self.config.drift.cooldown_secs.into());
            self.inner().not_before.insert(class.clone(), now + pause);
            let rehearsal = self.config.drift.warm_start.then_some(REHEARSAL);
            let reason = "drift".to_owned();
            let request = Request { reason, class: Some(class), seed: DEFAULT_SEED, search: None, rehearsal };
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
                serde_json::json!({ "models": models.map(|model| model["digest"].clone()).collect::<Vec<_>>() })
            }
            Err(error) => serde_json::json!({ "error": error }),
        });
        serde_json::json!({
            "running": inner.running.as_ref().map(|request| request.reason.clone()),
            "trained_at_us": inner.trained,
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

    /// A kind of machine whose devices reported drift after its last training began, long enough ago.
    fn drifted(&self, now: Micros) -> Option<String> {
        if !self.config.drift.enabled {
            return None;
        }
        let reported = lock(&self.state).drift().clone();
        let inner = self.inner();
        let settle = Micros::from_secs(self.config.drift.settle_secs.into());
        let due = |class: &String, at: Micros| {
            at.0 > inner.trained.get(class).copied().unwrap_or(i64::MIN)
                && now >= at + settle
                && inner.not_before.get(class).is_none_or(|before| now >= *before)
        };
        let idle = inner.running.is_none();
        reported.into_iter().find(|(class, at)| idle && due(class, *at)).map(|(class, _)| class)
    }

    /// A trained kind of machine whose recent windows have moved away from those it was trained on.
    async fn drifted_in_lake(&self, now: Micros) -> Option<String> {
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
            for (class, trained_at_us) in trained {
                if not_before.get(&class).is_some_and(|before| now < *before) {
                    continue;
                }
                if moved(&views, &class, trained_at_us, &config)? {
                    return Ok(Some(class));
                }
            }
            Ok(None)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(due)) => due,
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

/// Has the share of features moved that counts as drift?
fn moved(views: &[View], class: &str, trained_at_us: i64, config: &Config) -> anyhow::Result<bool> {
    let (features, events) = (training::view(views, TableName::Features)?, training::view(views, TableName::Events)?);
    let assets = training::machines(events)?.remove(class).unwrap_or_default();
    for (_, kind) in training::KINDS {
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

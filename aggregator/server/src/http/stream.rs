//! Live by server-sent events: what changed, at most twice a second; alarms at once.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use kilter_live::{AssetKey, Change};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::App;
use super::principal::Principal;
use crate::clock;
use crate::fleet::FleetHandle;
use crate::store::Store;

/// Everything that pages are told; cheap to clone.
#[derive(Clone)]
pub(crate) struct Feed {
    events: broadcast::Sender<(&'static str, String)>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { events: broadcast::Sender::new(256) }
    }

    /// Turns changes into events until told to stop.
    pub(crate) async fn run_changes(self, store: Store, fleet: FleetHandle, stop: CancellationToken) {
        let mut changes = store.changes();
        let mut dirty: BTreeSet<AssetKey> = BTreeSet::new();
        let mut last_rollouts = String::new();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(Change::Machine(key) | Change::Drift(key) | Change::Report(key, _)) => drop(dirty.insert(key)),
                    Ok(Change::Alarm(key, alarm)) => {
                        dirty.insert(key);
                        self.alarm(&store, &alarm);
                    }
                    Ok(Change::Nothing) => {}
                    // Too much at once: the page asks for the whole fleet again.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.send("reload", &json!({})),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = tick.tick() => {
                    if !dirty.is_empty() && self.events.receiver_count() > 0 {
                        self.rows(&store, &dirty);
                    }
                    dirty.clear();
                    let rollouts = serde_json::to_string(&fleet.view().rollouts).unwrap_or_default();
                    if rollouts != last_rollouts {
                        self.send_text("rollout", rollouts.clone());
                        last_rollouts = rollouts;
                    }
                }
            }
        }
    }

    /// An alarm changed.
    pub(crate) fn alarm(&self, store: &Store, key: &str) {
        if let Some(view) = store.state().live.alarm_view(key) {
            self.send("alarm", &json!(view));
        }
    }

    /// A training run moved on.
    pub(crate) fn run(&self, progress: &Value) {
        self.send("run", progress);
    }

    fn rows(&self, store: &Store, dirty: &BTreeSet<AssetKey>) {
        let mut view = json!(store.state().live.fleet(clock::now()));
        if let Some(machines) = view["machines"].as_array_mut() {
            machines.retain(|row| {
                dirty.iter().any(|key| {
                    row["asset"] == key.asset.as_str()
                        && row["site"] == key.site.as_str()
                        && row["tenant"] == key.tenant.as_str()
                })
            });
        }
        self.send("fleet", &view);
    }

    fn send(&self, kind: &'static str, value: &Value) {
        self.send_text(kind, value.to_string());
    }

    fn send_text(&self, kind: &'static str, text: String) {
        // Nobody listening is fine.
        let _ = self.events.send((kind, text));
    }
}

pub(super) async fn stream(_: Principal, State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = app.feed.events.subscribe();
    let events = unfold(receiver, |mut receiver| async move {
        let event = match receiver.recv().await {
            Ok((kind, text)) => Event::default().event(kind).data(text),
            // Too much at once: the page asks for everything again.
            Err(broadcast::error::RecvError::Lagged(_)) => Event::default().event("reload").data("{}"),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(event), receiver))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
}

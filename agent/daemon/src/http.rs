//! The local page: how the agent and its machines are, for people and scrapers on the same host.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use kilter_types::{Clock as _, FeatureRow, Name};
use kilter_uplink::Status;
use kilter_wire::node::NodeStatus;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::board::{Board, Machine};
use crate::clock::SystemClock;
use crate::exception::names;
use crate::recorder::resident_bytes;

/// What the page draws from.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) board: Board,
    pub(crate) uplink: watch::Receiver<Status>,
    pub(crate) clock: SystemClock,
    pub(crate) device: Name,
    pub(crate) version: Name,
    /// The key that seals what is recorded, as a person compares it.
    pub(crate) seal_key: Option<String>,
}

/// Parses where to listen; only loopback is allowed, `None` for "" (off).
pub(crate) fn address(listen: &str) -> Result<Option<SocketAddr>, String> {
    if listen.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr =
        listen.parse().map_err(|_| format!("http.listen {listen:?} is not an address like 127.0.0.1:9470"))?;
    if address.ip().is_loopback() {
        Ok(Some(address))
    } else {
        Err(format!(
            "http.listen {listen}: only loopback addresses are allowed, because the page shows to whoever asks"
        ))
    }
}

/// The page's routes.
pub(crate) fn router(page: Page) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/windows", get(windows))
        .with_state(page)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn status(State(page): State<Page>) -> Json<Value> {
    let uplink = *page.uplink.borrow();
    let (best, uncertainty) = page.clock.best();
    let board = page.board.lock();
    Json(json!({
        "device": page.device,
        "version": page.version,
        "seal_key": page.seal_key,
        "now_us": best.0,
        "clock_uncertainty_us": uncertainty.0,
        "resident_bytes": resident_bytes(),
        "generation": board.generation,
        "plans_refused": board.plans_refused,
        "configs_refused": board.configs_refused,
        "machines": board.machines.iter().map(machine).collect::<Vec<_>>(),
        "journal": {
            "bytes": board.journal.bytes,
            "dropped": board.journal.dropped,
            "quarantined": board.journal.quarantined,
            "dead": board.journal.dead,
            "durable": board.journal.durable,
            "released": board.journal.released,
            "records": board.journal.records,
            "unchanged": board.journal.unchanged,
        },
        "uplink": {
            "connected": uplink.connected,
            "in_flight": uplink.in_flight,
            "in_flight_bytes": uplink.in_flight_bytes,
            "credit_bytes": uplink.credit_bytes,
            "committed_to": uplink.released_to,
            "oldest_unacked_us": uplink.oldest_unacked_us,
            "batches": uplink.batches,
            "records": uplink.records,
            "bytes": uplink.bytes,
            "timeouts": uplink.timeouts,
            "unjournaled": uplink.unjournaled,
            "day_bytes": uplink.day_bytes,
            "over_budget_bytes": uplink.over_budget_bytes,
            "over_budget": uplink.thin,
        },
    }))
}

async fn windows(State(page): State<Page>) -> Json<Value> {
    let board = page.board.lock();
    let machines = board.machines.iter().map(|machine| {
        let rows: Vec<Value> = machine.rows.iter().map(|(point, kept)| row(point, kept)).collect();
        json!({ "asset": machine.asset, "rows": rows })
    });
    Json(machines.collect())
}

async fn metrics(State(page): State<Page>) -> impl IntoResponse {
    let uplink = *page.uplink.borrow();
    let monotonic = page.clock.monotonic();
    let board = page.board.lock();
    let mut text = Metrics(String::with_capacity(4096));
    text.one("kilter_agent_uptime_host_seconds", "gauge", monotonic.0 as f64 / 1e6);
    text.one("kilter_agent_resident_bytes", "gauge", resident_bytes() as f64);
    text.one("kilter_agent_plan_generation", "gauge", board.generation.0 as f64);
    text.one("kilter_agent_plans_refused_total", "counter", board.plans_refused as f64);
    text.one("kilter_agent_configs_refused_total", "counter", board.configs_refused as f64);
    text.one("kilter_agent_journal_bytes", "gauge", board.journal.bytes as f64);
    text.one("kilter_agent_journal_records_total", "counter", board.journal.records as f64);
    text.one("kilter_agent_journal_dropped_total", "counter", board.journal.dropped as f64);
    text.one("kilter_agent_journal_quarantined_total", "counter", board.journal.quarantined as f64);
    text.one("kilter_agent_windows_unchanged_total", "counter", board.journal.unchanged as f64);
    text.one("kilter_agent_journal_dead", "gauge", f64::from(board.journal.dead));
    text.one("kilter_agent_uplink_connected", "gauge", f64::from(uplink.connected));
    text.one("kilter_agent_uplink_in_flight", "gauge", uplink.in_flight as f64);
    text.one("kilter_agent_uplink_credit_bytes", "gauge", f64::from(uplink.credit_bytes));
    text.one("kilter_agent_uplink_oldest_unacked_seconds", "gauge", uplink.oldest_unacked_us as f64 / 1e6);
    text.one("kilter_agent_uplink_records_total", "counter", uplink.records as f64);
    text.one("kilter_agent_uplink_bytes_total", "counter", uplink.bytes as f64);
    text.one("kilter_agent_uplink_timeouts_total", "counter", uplink.timeouts as f64);
    text.one("kilter_agent_uplink_unjournaled", "gauge", uplink.unjournaled as f64);
    text.one("kilter_agent_uplink_day_bytes", "gauge", uplink.day_bytes as f64);
    text.one("kilter_agent_uplink_over_budget", "gauge", f64::from(uplink.thin));
    text.one("kilter_agent_uplink_over_budget_bytes_total", "counter", uplink.over_budget_bytes as f64);
    text.each("kilter_agent_machine_connected", "gauge", &board.machines, |machine| f64::from(machine.connected));
    text.each("kilter_agent_machine_severity", "gauge", &board.machines, |machine| {
        f64::from(machine.summary.severity as u8)
    });
    text.each("kilter_agent_machine_tripped", "gauge", &board.machines, |machine| f64::from(machine.summary.tripped));
    text.each("kilter_agent_machine_windows_total", "counter", &board.machines, |machine| {
        machine.summary.windows as f64
    });
    text.each("kilter_agent_machine_alarms_total", "counter", &board.machines, |machine| machine.alarms as f64);
    text.each("kilter_agent_machine_trips_total", "counter", &board.machines, |machine| machine.trips as f64);
    text.each("kilter_agent_machine_refused_inputs_total", "counter", &board.machines, |machine| {
        machine.refused_inputs as f64
    });
    text.decisions(&board.machines);
    let nodes: Vec<(&Machine, &NodeStatus)> =
        board.machines.iter().filter_map(|machine| Some((machine, machine.node.as_ref()?))).collect();
    text.of_nodes("kilter_agent_node_boots_total", "counter", &nodes, |node| f64::from(node.faults.boots));
    text.of_nodes("kilter_agent_node_panics_total", "counter", &nodes, |node| f64::from(node.faults.panics));
    text.of_nodes("kilter_agent_node_lost_samples_total", "counter", &nodes, |node| node.lost_samples as f64);
    text.of_nodes("kilter_agent_node_charge_uah_per_day", "gauge", &nodes, |node| f64::from(node.charge_uah_per_day));
    ([("content-type", "text/plain; version=0.0.4")], text.0)
}

fn machine(machine: &Machine) -> Value {
    let summary = &machine.summary;
    json!({
        "asset": machine.asset,
        "class": machine.class,
        "connected": machine.connected,
        "ended": machine.ended,
        "error": machine.error,
        "severity": summary.severity,
        "cause": summary.cause,
        "state": summary.state,
        "windows": summary.windows,
        "score": summary.score.map(|(anomaly, threshold)| json!({ "anomaly": anomaly, "threshold": threshold })),
        "baseline_ready": summary.baseline_ready,
        "tripped": summary.tripped,
        "newest_us": machine.newest.0,
        "positions": machine.positions.iter().map(|(name, at)| (name.to_string(), json!(at))).collect::<serde_json::Map<_, _>>(),
        "refused_inputs": machine.refused_inputs,
        "alarms": machine.alarms,
        "trips": machine.trips,
        "node": machine.node,
        "image": machine.image,
        "models": machine.models.iter().map(|model| json!({
            "digest": model.running.digest.to_string(),
            "role": model.running.role,
            "generation": model.running.generation,
            "cost_us": model.running.cost_us,
            "expires_us": model.expires.0,
        })).collect::<Vec<_>>(),
    })
}

fn row(point: &Name, row: &FeatureRow) -> Value {
    let values = names(row).enumerate().map(|(i, name)| (name, json!(row.vector.get(i))));
    json!({
        "point": point,
        "group": row.group,
        "kind": row.kind,
        "index": row.index,
        "start_us": row.start.0,
        "end_us": row.end.0,
        "state": row.state,
        "rpm": row.rpm,
        "quality": row.quality.names().collect::<Vec<_>>(),
        "values": values.collect::<serde_json::Map<_, _>>(),
    })
}

struct Metrics(String);

impl Metrics {
    fn one(&mut self, name: &str, kind: &str, value: f64) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n{name} {value}");
    }

    fn each(&mut self, name: &str, kind: &str, machines: &[Machine], value: impl Fn(&Machine) -> f64) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        for machine in machines {
            let _ = writeln!(self.0, "{name}{{asset=\"{}\"}} {}", machine.asset, value(machine));
        }
    }

    fn of_nodes(
        &mut self,
        name: &str,
        kind: &str,
        nodes: &[(&Machine, &NodeStatus)],
        value: impl Fn(&NodeStatus) -> f64,
    ) {
        if !nodes.is_empty() {
            let _ = writeln!(self.0, "# TYPE {name} {kind}");
        }
        for (machine, node) in nodes {
            let _ = writeln!(self.0, "{name}{{asset=\"{}\"}} {}", machine.asset, value(node));
        }
    }

    fn decisions(&mut self, machines: &[Machine]) {
        let name = "kilter_agent_machine_decision_seconds";
        let _ = writeln!(self.0, "# TYPE {name} histogram");
        for Machine { asset, decisions, .. } in machines {
            for (bound, count) in decisions.buckets() {
                let _ = writeln!(self.0, "{name}_bucket{{asset=\"{asset}\",le=\"{bound}\"}} {count}");
            }
            let count = decisions.count();
            let _ = writeln!(self.0, "{name}_bucket{{asset=\"{asset}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(self.0, "{name}_sum{{asset=\"{asset}\"}} {}", decisions.sum_secs());
            let _ = writeln!(self.0, "{name}_count{{asset=\"{asset}\"}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_listens_on_loopback_only() {
        assert_eq!(address(""), Ok(None));
        assert!(address("127.0.0.1:9470").is_ok_and(|address| address.is_some()));
        assert!(address("0.0.0.0:9470").is_err_and(|said| said.contains("loopback")));
        assert!(address("here").is_err_and(|said| said.contains("127.0.0.1:9470")));
    }
}

//! Metrics in Prometheus' text format. No label grows with the fleet.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::App;
use super::principal::Principal;
use crate::clock;

pub(super) async fn metrics(_: Principal, State(app): State<App>) -> impl IntoResponse {
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    {
        let state = app.store.state();
        let rows: Vec<_> = state
            .live
            .rows()
            .iter()
            .map(|(class, count)| (format!("{{class=\"{}\"}}", class.as_str()), *count as f64))
            .collect();
        put("kilter_rows_total", "counter", "Rows folded, by class.", &rows);
        put(
            "kilter_duplicates_total",
            "counter",
            "Records that came more than once.",
            &one(state.fold.duplicates() as f64),
        );
        put(
            "kilter_quarantined_total",
            "counter",
            "Records and payloads in quarantine.",
            &one(state.live.quarantined() as f64),
        );
        put(
            "kilter_gap_records_total",
            "counter",
            "Records that nodes declared missing.",
            &one(state.live.gaps().values().sum::<u64>() as f64),
        );
        put("kilter_machines", "gauge", "Machines known.", &one(state.live.machines().count() as f64));
        put("kilter_open_alarms", "gauge", "Alarms open.", &one(state.live.alarms().open().count() as f64));
    }
    let admitted = app.sessions.admitted();
    put("kilter_admitted_bytes_total", "counter", "Bytes of records let in.", &one(admitted.bytes as f64));
    put(
        "kilter_refused_batches_total",
        "counter",
        "Batches refused for lack of credit.",
        &one(admitted.refused as f64),
    );
    put(
        "kilter_over_quota_rows_total",
        "counter",
        "Rows quarantined because their device had used up its day.",
        &one(admitted.over_quota as f64),
    );
    put("kilter_journal_bytes", "gauge", "Bytes in the journal.", &one(app.store.bytes() as f64));
    let lag = app.store.next_offset().saturating_sub(app.sessions.lab_offset());
    put("kilter_lab_lag_bytes", "gauge", "Journal bytes that the lab has not committed.", &one(lag as f64));
    put(
        "kilter_journal_failed",
        "gauge",
        "1 when the journal has failed.",
        &one(f64::from(u8::from(app.store.failed()))),
    );
    let counters = app.link.counters();
    put("kilter_mqtt_connections", "gauge", "Connections open.", &one(counters.connections_now as f64));
    put(
        "kilter_mqtt_held_bytes",
        "gauge",
        "Bytes of messages between the first byte read and the verdict.",
        &one(counters.held_bytes_now as f64),
    );
    put(
        "kilter_mqtt_stalls_total",
        "counter",
        "Times a connection was not read because the byte budget was spent.",
        &one(counters.stalls as f64),
    );
    let refused: Vec<_> =
        counters.refused.iter().map(|(code, count)| (format!("{{reason=\"{code:#04x}\"}}"), *count as f64)).collect();
    put("kilter_mqtt_refused_total", "counter", "What devices were refused, by MQTT 5 reason code.", &refused);
    put("kilter_uptime_seconds", "gauge", "Seconds since the start.", &one((clock::now() - app.started).as_secs_f64()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

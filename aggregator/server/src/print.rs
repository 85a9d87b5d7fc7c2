//! What commands print for people.

use serde_json::Value;

/// The account says that something is missing; told already.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not complete")]
pub(crate) struct NotComplete;

/// What `completeness` ends with then: 1 means that it could not be told.
pub(crate) const NOT_COMPLETE: u8 = 3;

/// Machines, nodes, models and rollouts.
pub(crate) fn fleet(fleet: &Value, models: &Value) {
    println!("{:<24} {:<9} {:<16} {:>7}  {:<12} MODELS", "MACHINE", "STATE", "CAUSE", "SCORE", "NODE");
    for row in fleet["machines"].as_array().into_iter().flatten() {
        let score = row["score"].as_f64().map_or_else(|| "-".into(), |score| format!("{score:.2}"));
        let running: Vec<_> = row["models"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|model| format!("{} {}", text(&model["role"]), &text(&model["digest"])[..8]))
            .collect();
        println!(
            "{:<24} {:<9} {:<16} {:>7}  {:<12} {}",
            text(&row["asset"]),
            text(&row["state"]),
            text(&row["cause"]),
            score,
            text(&row["device"]),
            running.join(", ")
        );
    }
    println!("\n{:<12} {:<10} {:<12} {:<10} {:<10} REASON", "ROLLOUT", "CLASS", "STAGE", "LEADER", "SHADOW");
    for rollout in models["rollouts"].as_array().into_iter().flatten() {
        println!(
            "{:<12} {:<10} {:<12} {:<10} {:<10} {}",
            rollout["generation"].to_string(),
            text(&rollout["asset_class"]),
            text(&rollout["stage"]),
            digest(&rollout["pair"]["leader"]),
            digest(&rollout["pair"]["shadow"]),
            text(&rollout["reason"])
        );
        if let Some(why) = rollout["why"].as_str().filter(|why| !why.is_empty()) {
            println!("{:<12} {why}", "");
        }
    }
}

/// What the edge is asked for, and what was put back without it.
pub(crate) fn refetch(told: &Value) {
    println!("{} rows put back from the aggregator's own journal", told["restored_rows"]);
    for file in told["set_aside"].as_array().into_iter().flatten() {
        let rows = file["rows"].as_u64().map_or_else(String::new, |rows| format!(" ({rows} rows)"));
        println!("  taken out of its table: {}{rows}: {}", text(&file["path"]), text(&file["what"]));
        if let Some(kept) = file["kept"].as_str() {
            println!("    kept to be looked at: {kept}");
        }
    }
    let wanted = told["wanted"].as_array().map(Vec::as_slice).unwrap_or_default();
    for range in wanted {
        let device = text(&range["device"]);
        println!("  {device} {} {}..={}", text(&range["class"]), range["first"], range["last"]);
    }
    for (device, how) in told["devices"].as_object().into_iter().flatten() {
        println!("{device}: {}", text(how));
    }
    if wanted.is_empty() {
        println!("nothing is left to ask the edge for");
    }
}

/// The beginning of a digest that comes as bytes; a dash where there is none.
fn digest(value: &Value) -> String {
    let bytes = value.as_array().into_iter().flatten().filter_map(Value::as_u64);
    let text: String = bytes.take(4).map(|byte| format!("{byte:02x}")).collect();
    if text.is_empty() { "-".into() } else { text }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

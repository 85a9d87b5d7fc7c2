//! What commands print for people.

use std::collections::BTreeMap;

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

/// One line for the range, one for each hole.
pub(crate) fn account(told: &Value) {
    let complete = if told["complete"] == true { "complete" } else { "not complete" };
    println!("{}: {complete}, {} rows", text(&told["point"]), told["rows"]);
    for hole in told["holes"].as_array().into_iter().flatten() {
        println!("  {}: {}", range(hole), text(&hole["cause"]));
    }
    let mut stands: BTreeMap<String, u64> = BTreeMap::new();
    let seals = told["ranges"].as_array().into_iter().flatten().flat_map(|range| range["seals"].as_array());
    for piece in seals.flatten() {
        let why = piece["why"].as_str().map_or_else(String::new, |why| format!(" ({why})"));
        let numbers = piece["last"].as_u64().zip(piece["first"].as_u64()).map_or(0, |(last, first)| last - first + 1);
        *stands.entry(format!("{}{why}", text(&piece["state"]))).or_default() += numbers;
    }
    stands.iter().for_each(|(stand, numbers)| println!("seals: {numbers} {stand}"));
    for broken in told["broken"].as_array().into_iter().flatten() {
        println!("  {}: broken: {}", range(broken), text(&broken["what"]));
    }
    for (device, keys) in told["keys"].as_object().into_iter().flatten() {
        for key in keys.as_array().into_iter().flatten() {
            let accepted = if key["accepted"] == true { "" } else { ", which is not the first one seen" };
            println!("seals: {device} seals with {}{accepted}", text(&key["key"]));
        }
    }
}

/// Whose, which class, from which number to which.
fn range(told: &Value) -> String {
    format!("{} {} {}..={}", text(&told["device"]), text(&told["class"]), told["first"], told["last"])
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

//! An account of completeness for people: `kilter-aggregator completeness` has it from the API, `kilter-lab completeness` from the lab itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// One line for the range and one for each hole; then how much is under seal, what is broken, and with which keys devices seal.
pub fn account(told: &Value) -> String {
    let mut out = String::new();
    let complete = if told["complete"] == true { "complete" } else { "not complete" };
    line(&mut out, format_args!("{}: {complete}, {} rows", text(&told["point"]), told["rows"]));
    for hole in list(&told["holes"]) {
        line(&mut out, format_args!("  {}: {}", range(hole), text(&hole["cause"])));
    }
    let mut stands: BTreeMap<String, u64> = BTreeMap::new();
    for piece in list(&told["ranges"]).flat_map(|range| list(&range["seals"])) {
        let why = piece["why"].as_str().map_or_else(String::new, |why| format!(" ({why})"));
        let numbers = piece["last"].as_u64().zip(piece["first"].as_u64()).map_or(0, |(last, first)| last - first + 1);
        *stands.entry(format!("{}{why}", text(&piece["state"]))).or_default() += numbers;
    }
    for (stand, numbers) in stands {
        line(&mut out, format_args!("seals: {numbers} {stand}"));
    }
    for broken in list(&told["broken"]) {
        line(&mut out, format_args!("  {}: broken: {}", range(broken), text(&broken["what"])));
    }
    for (device, keys) in told["keys"].as_object().into_iter().flatten() {
        for key in list(keys) {
            let accepted = if key["accepted"] == true { "" } else { ", which is not the first one seen" };
            line(&mut out, format_args!("seals: {device} seals with {}{accepted}", text(&key["key"])));
        }
    }
    out
}

/// Whose, which class, from which number to which.
fn range(told: &Value) -> String {
    format!("{} {} {}..={}", text(&told["device"]), text(&told["class"]), told["first"], told["last"])
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_names_each_hole_what_stands_under_seal_what_is_broken_and_whose_keys_seal() {
        let told = serde_json::json!({
            "point": "a/b/c/d", "complete": false, "rows": 41,
            "holes": [{ "device": "press", "class": "feature", "first": 3, "last": 9, "cause": "erased" }],
            "ranges": [
                { "seals": [{ "first": 0, "last": 2, "state": "sealed" }, { "first": 3, "last": 9, "state": "open", "why": "erased" }] },
                { "seals": [{ "first": 0, "last": 0, "state": "sealed" }] },
            ],
            "broken": [{ "device": "press", "class": "score", "first": 7, "last": 7, "what": "hash: changed" }],
            "keys": { "press": [{ "key": "aa", "accepted": true }, { "key": "bb", "accepted": false }] },
        });
        let wanted = "a/b/c/d: not complete, 41 rows\n  press feature 3..=9: erased\nseals: 7 open (erased)\nseals: 4 sealed\n  \
                      press score 7..=7: broken: hash: changed\nseals: press seals with aa\n\
                      seals: press seals with bb, which is not the first one seen\n";
        assert_eq!(account(&told), wanted);
        let whole = serde_json::json!({ "point": "a/b/c/d", "complete": true, "rows": 1 });
        assert_eq!(account(&whole), "a/b/c/d: complete, 1 rows\n");
    }
}

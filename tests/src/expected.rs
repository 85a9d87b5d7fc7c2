//! What a run must have left, computed from the simulator's own books alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// Samples that the simulator produced, by asset and channel.
pub fn produced(log: &Path) -> anyhow::Result<BTreeMap<(String, String), u64>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let mut produced = BTreeMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if line["event"] == "produced" {
            let key = (string(&line["asset"]), string(&line["channel"]));
            let to = line["to"].as_u64().unwrap_or_default();
            let known = produced.entry(key).or_insert(0);
            *known = to.max(*known);
        }
    }
    Ok(produced)
}

/// How many windows of this length and hop lie whole within so many samples.
pub fn windows(samples: u64, window: u64, hop: u64) -> u64 {
    if samples < window { 0 } else { (samples - window) / hop + 1 }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_windows_count() {
        assert_eq!(windows(99, 100, 50), 0);
        assert_eq!(windows(100, 100, 50), 1);
        assert_eq!(windows(149, 100, 50), 1);
        assert_eq!(windows(250, 100, 50), 4);
    }
}

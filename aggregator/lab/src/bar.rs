//! How far a training is, in one line: what is being done, a bar, the loss and the time left.

use std::io::{IsTerminal, Write};

use serde_json::Value;

/// Shows steps as they come: on a terminal one line that is written over, elsewhere a line each.
pub(crate) fn show(step: &Value) {
    let line = drawn(&step["progress"]);
    let mut out = std::io::stderr().lock();
    // Nobody watches when it can't be written.
    let _ = if out.is_terminal() {
        write!(out, "\r\x1b[K{line}").and_then(|()| out.flush())
    } else {
        writeln!(out, "{line}")
    };
}

/// Leaves the last line standing.
pub(crate) fn end() {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

fn drawn(step: &Value) -> String {
    let word = |key: &str| step[key].as_str().unwrap_or("").to_owned();
    let (Some(at), Some(of)) = (step["step"].as_u64(), step["steps"].as_u64()) else {
        return format!("{} {}", word("asset_class"), word("stage"));
    };
    let filled = (WIDTH * at.min(of) / of.max(1)) as usize;
    let number = |key: &str| step[key].as_f64();
    let mut line = format!(
        "{} {} [{}{}] {at}/{of}",
        word("asset_class"),
        word("stage"),
        "#".repeat(filled),
        "-".repeat(WIDTH as usize - filled)
    );
    for (key, name) in [("loss", "loss"), ("held_out_loss", "held out"), ("merit", "best merit")] {
        if let Some(value) = number(key) {
            line += &format!("  {name} {value:.4}");
        }
    }
    if let Some(left) = number("eta_secs") {
        line += &if left < 90.0 { format!("  {left:.0} s left") } else { format!("  {:.0} min left", left / 60.0) };
    }
    line
}

const WIDTH: u64 = 24;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_a_bar_with_loss_and_time_left() {
        let step = json!({ "asset_class": "pump", "stage": "training", "step": 200, "steps": 800, "loss": 0.51239,
            "held_out_loss": 0.6, "eta_secs": 12.4 });
        assert_eq!(
            drawn(&step),
            "pump training [######------------------] 200/800  loss 0.5124  held out 0.6000  12 s left"
        );
        let step = json!({ "asset_class": "pump", "stage": "search", "step": 900, "steps": 800, "merit": 0.7, "eta_secs": 300.0 });
        assert_eq!(drawn(&step), "pump search [########################] 900/800  best merit 0.7000  5 min left");
        assert_eq!(drawn(&json!({ "asset_class": "pump", "stage": "reading" })), "pump reading");
    }
}

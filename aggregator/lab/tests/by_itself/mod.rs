//! What the lab trains without being asked: by the clock, and again where no model leads.

use std::path::Path;

use kilter_fold::MarkState;
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, config, seqs, within};
use crate::{cards, plant, report};

/// A machine of each kind, named like it.
fn two_kinds(server: &mut Server, windows: u64) {
    for (level, machine) in [(0.0, "press"), (5.0, "pump")] {
        server.machine = machine;
        server.records(machine, [(0, report(machine))].into_iter());
        plant(server, 0..windows, level);
    }
}

/// Whatever was ever handed out, by digest.
fn handed_out(data: &Path) -> Vec<String> {
    let names = std::fs::read_dir(data.join("lab/outbox")).expect("a folder");
    let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut cards: Vec<_> = names.filter(|name| name.ends_with(".card.json")).collect();
    cards.sort();
    cards
}

#[test]
fn s0_06_s2_07_a_run_by_the_clock_from_the_lake_alone_gives_the_models_of_a_run_on_one_thread() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let quick = "max_steps = 20\n[drift]\nenabled = false\n";
    config(data, &format!("[training]\nprocessor_share = 0.01\n{quick}"));
    let mut server = Server::open(data, 9, Vec::new());
    two_kinds(&mut server, 600);
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() == 1_200).then_some(()));
    let done = ask(data, &json!({ "op": "train", "seed": 1 })).expect("models");
    lab.terminate();
    let classes: Vec<_> =
        done["models"].as_array().expect("models").iter().map(|m| m["key"]["asset_class"].clone()).collect();
    assert_eq!(classes, ["press", "press", "pump", "pump"], "{done}");
    let by_command = handed_out(data);
    assert_eq!((by_command.len(), cards(data, "command")), (4, 4));

    // The journal is gone and nothing comes any more; the lab has the lake, and the whole processor.
    let marks: Vec<MarkState> =
        serde_json::from_value(committed(data).expect("published")["marks"].clone()).expect("marks");
    std::fs::remove_dir_all(data.join("journal")).expect("removed");
    std::fs::remove_dir_all(data.join("lab/outbox")).expect("removed");
    let _empty = Server::open(data, 10, marks);
    config(data, &format!("[training]\nevery_secs = 1\n{quick}"));
    let lab = Lab::start(data);
    within(120, || (data.join("lab/outbox").is_dir() && cards(data, "schedule") == 4).then_some(()));
    lab.terminate();
    assert_eq!(handed_out(data), by_command);
}

#[test]
fn a_class_without_a_leader_is_trained_again_by_itself_when_there_is_twice_as_much() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(
        data,
        "[commit]\nmax_wait_ms = 50\n[training]\nmax_steps = 20\n[drift]\nenabled = false\n[again]\nwait_secs = 1\n",
    );
    let mut server = Server::open(data, 9, Vec::new());
    server.records("press", [(0, report("press"))].into_iter());
    // The rows that test are nothing like those before: every detector cries wolf, the simple rule as well, and none beats it.
    plant(&mut server, 0..510, 0.0);
    plant(&mut server, 510..600, 1_000.0);
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() == 600).then_some(()));
    let done = ask(data, &json!({ "op": "train", "asset_class": "press" })).expect("two models");
    let models = done["models"].as_array().expect("models");
    assert!(models.len() == 2 && models.iter().all(|model| model["role"] == "shadow"), "{models:?}");
    let why = |model: &Value| model["why"].as_str().expect("words").to_owned();
    for (model, words) in models.iter().zip(["it runs beside whatever leads", "the better one of the two runs"]) {
        let why = why(model);
        assert!(
            why.starts_with("runs as shadow, for it does not beat the simple rule") && why.contains(words),
            "{why}"
        );
    }
    assert_eq!(cards(data, "growth"), 0);
    plant(&mut server, 600..1_200, 0.0);
    within(120, || (cards(data, "growth") == 2).then_some(()));
    let status = within(60, || {
        let status = ask(data, &json!({ "op": "status" })).ok()?;
        status["training"]["running"].is_null().then_some(status)
    });
    assert!(status["training"]["trained"]["press"]["windows"].as_u64() >= Some(1_200), "{status}");
    lab.terminate();
}

//! The real lab on a real journal: rows are seen at once, committed once, and survive kills.

mod backtest;
mod by_itself;
mod house;
mod lives;
mod sealed;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use kilter_fold::MarkState;
use kilter_types::{Digest, Event, GroupKind, Micros, Name, Payload, Report};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, config, features, seqs, within};

#[test]
fn a_row_is_seen_before_its_commit_and_the_offset_is_published_after() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 600000\n");
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    let lab = Lab::start(data);
    within(60, || (seqs(data) == (0..10).collect::<Vec<_>>()).then_some(()));
    assert_eq!(committed(data), None, "nothing is committed yet");
    let status = ask(data, &json!({ "op": "status" })).expect("a status");
    assert_eq!((&status["rows_waiting"], &status["tables"]["features"]["offset"]), (&json!(10), &Value::Null));
    // The way out commits.
    lab.terminate();
    let published = committed(data).expect("published on the way out");
    assert_eq!(published["offset"], server.journal.next_offset().get());
    let marks: Vec<MarkState> = serde_json::from_value(published["marks"].clone()).expect("marks");
    assert_eq!((marks.len(), marks[0].to), (1, 10));
    // Without a running lab the same question reads lake and journal itself.
    server.features("press", 10..12);
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
        .args(["query", "SELECT COUNT(*) AS n, MAX(seq) AS last FROM features", "--json", "--data"])
        .arg(data)
        .output()
        .expect("it runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["rows"], &answer["lake_version"]["features"]), (&json!([[12, 11]]), &json!(1)));
}

#[test]
fn l1_kills_at_any_moment_leave_every_row_once_and_queries_never_see_one_twice() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    let mut next = 0;
    for round in 0..6_u64 {
        let lab = Lab::start(data);
        for step in 0..12 {
            server.features("press", next..next + 7);
            // Sent again, as devices do.
            server.features("press", next.saturating_sub(3)..next + 2);
            next += 7;
            let seen = seqs(data);
            let unique: BTreeSet<_> = seen.iter().copied().collect();
            assert_eq!(seen.len(), unique.len(), "a row twice in round {round}");
            assert_eq!(unique, (0..seen.len() as u64).collect(), "a row missing in round {round}");
            if step as u64 == 4 + round {
                break;
            }
        }
        // The moment within a commit differs from round to round.
        lab.kill();
    }
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() as u64 >= next).then_some(()));
    assert_eq!(seqs(data), (0..next).collect::<Vec<_>>());
    within(60, || {
        let published = committed(data)?;
        (published["offset"] == server.journal.next_offset().get()).then_some(())
    });
    lab.terminate();
}

#[test]
fn a_new_journal_after_a_loss_doubles_nothing_that_the_lake_already_held() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..20);
    let lab = Lab::start(data);
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    let before = std::fs::read(data.join("lab/committed.json")).expect("published");
    server.features("press", 20..30);
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    lab.kill();
    // As if power had gone between the lake's commit and the publication; and the journal is lost.
    std::fs::write(data.join("lab/committed.json"), &before).expect("written");
    std::fs::remove_dir_all(data.join("journal")).expect("removed");
    let marks: Vec<MarkState> =
        serde_json::from_value(committed(data).expect("published")["marks"].clone()).expect("marks");
    let mut server = Server::open(data, 10, marks);
    // The device sends everything that was not acknowledged as committed.
    server.features("press", 20..40);
    let lab = Lab::start(data);
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    assert_eq!(seqs(data), (0..40).collect::<Vec<_>>());
    lab.terminate();
}

#[test]
fn questions_are_answered_clearly_and_a_second_lab_is_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..3);
    server.features("press", 5..9);
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() == 7).then_some(()));
    let request = json!({ "op": "completeness", "point": "acme/north/press/drive-end", "from": 0, "to": i64::MAX });
    let told = ask(data, &request).expect("an account");
    assert_eq!((&told["complete"], &told["rows"]), (&json!(false), &json!(7)));
    assert_eq!(told["holes"][0]["first"], 3);
    assert_eq!((&told["holes"][0]["last"], &told["holes"][0]["cause"]), (&json!(4), &json!("unexplained")));
    assert!(ask(data, &json!({ "op": "completeness", "point": "press", "from": 0, "to": 1 })).is_err());
    assert!(ask(data, &json!({ "op": "query", "sql": "SELECT x FROM features" })).expect_err("no x").contains("x"));
    assert!(ask(data, &json!({ "op": "dance" })).expect_err("no dance").contains("request"));
    let no_class = ask(data, &json!({ "op": "train", "asset_class": "pump" })).expect_err("nobody reported");
    assert!(no_class.contains("pump"), "{no_class}");
    let second =
        Command::new(env!("CARGO_BIN_EXE_kilter-lab")).args(["serve", "--data"]).arg(data).output().expect("it runs");
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another lab"),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
    lab.terminate();
}

#[test]
fn a_failing_disk_stops_commits_and_nothing_else_and_they_go_on_when_it_works_again() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..5);
    let lab = Lab::start(data);
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    let before = committed(data);
    // A file where the next log entry belongs fails the commit as a disk error does.
    let folder = data.join("lake/features");
    let log = folder.join("_delta_log");
    let hidden = folder.join("hidden");
    std::fs::rename(&log, &hidden).expect("renamed");
    std::fs::write(&log, b"in the way").expect("written");
    server.features("press", 5..9);
    within(60, || ask(data, &json!({ "op": "status" })).ok()?["error"].as_str().map(str::to_owned));
    assert_eq!(committed(data), before, "nothing is published");
    assert_eq!(seqs(data), (0..9).collect::<Vec<_>>(), "and everything is still seen");
    std::fs::remove_file(&log).expect("removed");
    std::fs::rename(&hidden, &log).expect("renamed");
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    assert_eq!(seqs(data), (0..9).collect::<Vec<_>>());
    lab.terminate();
}

/// A small disk of its own, unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl std::ops::Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_retries_do_not_fill_it_further() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let Some(_disk) = Disk::mount(&data.join("lake"), "size=1m") else {
        println!("not run: 1 (only root may mount a small disk)");
        return;
    };
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..5);
    let lab = Lab::start(data);
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    let before = committed(data);
    let ballast = data.join("lake").join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("created");
    while file.write_all(&[7; 1024]).is_ok() {}
    drop(file);
    server.features("press", 5..9);
    let told = within(60, || ask(data, &json!({ "op": "status" })).ok()?["error"].as_str().map(str::to_owned));
    assert!(told.contains("full"), "{told}");
    assert_eq!(committed(data), before, "nothing is published");
    assert_eq!(seqs(data), (0..9).collect::<Vec<_>>(), "and everything is still seen");
    std::fs::remove_file(&ballast).expect("removed");
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
    assert_eq!(seqs(data), (0..9).collect::<Vec<_>>());
    // Files of the tries that failed would be two for one version.
    let files = std::fs::read_dir(data.join("lake/features/day=1970-01-01")).expect("a folder").flat_map(|bucket| {
        std::fs::read_dir(bucket.expect("an entry").path())
            .expect("a folder")
            .map(|file| file.expect("an entry").path())
    });
    assert_eq!(files.count(), 2, "one file per commit");
    lab.terminate();
}

/// Windows of a machine that a model can learn from, as a device named like it would send them.
fn plant(server: &mut Server, windows: std::ops::Range<u64>, level: f32) {
    let schema = kilter_signal::table::Schema::of(GroupKind::Vibration, 1);
    let width = schema.features().len();
    let noise = |i: u64, k: u64| ((i * 2_654_435_761 + k * 40_503) % 1_000) as f32 / 1_000.0;
    for start in windows.clone().step_by(50) {
        let rows = (start..(start + 50).min(windows.end)).map(|i| {
            let Payload::Features(mut row) = features(i) else { unreachable!("features are features") };
            let values: Vec<f32> = (0..width as u64).map(|k| level + k as f32 + noise(i, k)).collect();
            row.vector = schema.vector(&values, kilter_signal::table::mask(width));
            (i, Payload::Features(row))
        });
        server.records(server.machine, rows);
    }
}

fn report(class: &str) -> Payload {
    Payload::Report(Report {
        version: Name::new("1").expect("a good name"),
        asset_class: Name::new(class).expect("a good name"),
        generation: kilter_types::Generation(0),
        models: Default::default(),
        journal_bytes: 0,
        dropped: 0,
        resident_bytes: 0,
        journal_dead: false,
    })
}

#[test]
fn training_by_command_and_by_drift_hands_out_two_models_that_can_be_made_again() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let quick = "[training]\nmax_steps = 40\n[drift]\nsettle_secs = 0\ncooldown_secs = 1\ncheck_commits = 0\n";
    config(data, quick);
    let mut server = Server::open(data, 9, Vec::new());
    server.records("press", [(0, report("press"))].into_iter());
    plant(&mut server, 0..600, 0.0);
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() == 600).then_some(()));
    let done = ask(data, &json!({ "op": "train", "asset_class": "press", "seed": 3 })).expect("two models");
    let models = done["models"].as_array().expect("models").clone();
    assert_eq!(models.len(), 2);
    assert_eq!((&models[0]["role"], &models[1]["role"]), (&json!("leader"), &json!("shadow")));
    for model in &models {
        let digest = model["digest"].as_str().expect("a digest");
        let artifact = std::fs::read(data.join(format!("lab/outbox/{digest}.kltm"))).expect("the artifact");
        assert_eq!(Digest::of(&artifact).to_string(), digest);
        let card = std::fs::read(data.join(format!("lab/outbox/{digest}.card.json"))).expect("the card");
        assert_eq!(&serde_json::from_slice::<Value>(&card).expect("JSON"), model);
        assert_eq!((&model["rows"], &model["reason"]), (&json!(600), &json!("command")));
        assert_eq!(model["snapshot"]["features_version"], 1);
    }
    // A device reports drift after that: training starts by itself, once.
    plant(&mut server, 600..1_000, 2.0);
    let trained_at = models[0]["trained_at_us"].as_i64().expect("a time");
    let drift = Payload::Event(Event::Drift { model: Digest::of(b"leader"), share: 0.8 });
    server.received = Micros(trained_at + 1);
    server.records("press", [(0, drift)].into_iter());
    within(120, || (cards(data, "drift") == 2).then_some(()));
    within(60, || ask(data, &json!({ "op": "status" })).ok()?["training"]["running"].is_null().then_some(()));
    let trained =
        ask(data, &json!({ "op": "status" })).expect("a status")["training"]["trained_at_us"]["press"].as_i64();
    assert!(trained.expect("a time") > trained_at);
    lab.terminate();
    assert_eq!((cards(data, "command"), cards(data, "drift")), (2, 2));

    // A run that goes on from the network of the last one says so on the network's card.
    let lab = Lab::start(data);
    let warm =
        ask(data, &json!({ "op": "train", "asset_class": "press", "seed": 4, "rehearsal": 0.5 })).expect("two models");
    lab.terminate();
    let warm = warm["models"].as_array().expect("models").clone();
    let went_on = warm
        .iter()
        .find(|model| model["family"].as_str().is_some_and(|family| family.starts_with("lstm_")))
        .expect("a network");
    assert!(went_on["champion"].is_string() && went_on["metrics"]["warm"] == 1.0, "{went_on}");

    // The lake alone is enough to make a model again, and the network that it went on from.
    let clean = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(clean.path().join("lab")).expect("a folder");
    for part in ["lake", "lab/networks"] {
        let copied = Command::new("cp").arg("-r").arg(data.join(part)).arg(clean.path().join(part)).status();
        assert!(copied.expect("cp runs").success());
    }
    for model in [&models[0], &models[1], went_on] {
        let digest = model["digest"].as_str().expect("a digest");
        let card = data.join(format!("lab/outbox/{digest}.card.json"));
        let made = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
            .arg("reproduce")
            .arg(card)
            .arg("--data")
            .arg(clean.path())
            .output();
        let made = made.expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), format!("reproduced {digest}"));
    }
}

#[test]
fn s2_08_a_search_that_is_killed_goes_on_and_ends_as_if_it_had_not_been() {
    let request =
        json!({ "op": "train", "asset_class": "press", "seed": 3, "search": { "candidates": 3, "first_steps": 6 } });
    let folder = || {
        let data = tempfile::tempdir().expect("a folder");
        config(data.path(), "[training]\nmax_steps = 20\n[drift]\nenabled = false\n");
        let mut server = Server::open(data.path(), 9, Vec::new());
        server.records("press", [(0, report("press"))].into_iter());
        plant(&mut server, 0..1_200, 0.0);
        (data, server)
    };
    let begin = |data: &Path| {
        let lab = Lab::start(data);
        within(60, || (seqs(data).len() == 1_200).then_some(()));
        lab
    };
    let (whole, _) = folder();
    let lab = begin(whole.path());
    let expected = ask(whole.path(), &request).expect("models");
    lab.terminate();
    let all = trials(whole.path());

    let (killed, mut server) = folder();
    let lab = begin(killed.path());
    let mut stream = std::os::unix::net::UnixStream::connect(killed.path().join("lab.sock")).expect("the lab listens");
    writeln!(stream, "{request}").expect("asked");
    within(60, || (trials(killed.path()) >= 3).then_some(()));
    lab.kill();
    assert!(trials(killed.path()) < all, "it was killed before its end");
    // What comes meanwhile is not what the search began with.
    plant(&mut server, 1_200..1_400, 3.0);
    let lab = Lab::start(killed.path());
    let found = ask(killed.path(), &request).expect("models");
    lab.terminate();
    let digests = |done: &Value| -> Vec<String> {
        let models = done["models"].as_array().expect("models").iter().map(|model| model["digest"].to_string());
        models.chain([done["search"][0]["digest"].to_string()]).collect()
    };
    assert_eq!(digests(&found), digests(&expected));
    assert_eq!(trials(killed.path()), all, "nothing that was known is done again");
    let reports: Vec<&str> = found["reports"].as_array().expect("reports").iter().filter_map(Value::as_str).collect();
    let page = std::fs::read_to_string(reports[0]).expect("a report");
    assert!(page.contains("Scores of the tested windows over time") && page.contains("Search"));
}

/// How many trials the logs of searches hold, whole lines only.
fn trials(data: &Path) -> usize {
    let Ok(files) = std::fs::read_dir(data.join("lab/search")) else { return 0 };
    let logs =
        files.map(|entry| entry.expect("an entry").path()).filter(|path| path.to_string_lossy().ends_with(".jsonl"));
    let trials = |path| {
        let text = std::fs::read_to_string(path).expect("a log");
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["fold"].is_u64())
            .count()
    };
    logs.map(trials).sum()
}

/// How many cards in the outbox name this reason.
fn cards(data: &Path, reason: &str) -> usize {
    let paths =
        std::fs::read_dir(data.join("lab/outbox")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let cards = paths.filter(|path| path.to_string_lossy().ends_with(".card.json"));
    let of = |path: &std::path::PathBuf| {
        let card: Value = serde_json::from_slice(&std::fs::read(path).expect("a card")).expect("JSON");
        card["reason"] == reason
    };
    cards.filter(of).count()
}

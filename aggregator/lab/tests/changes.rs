//! What changes the lake besides appends: rows that go, records that are corrected or put back, and files of the lab that are lost.

mod house;
mod refetch;
mod reprocess;
mod settled;
mod shown;
mod trends;

use std::path::Path;
use std::process::Command;

use kilter_fold::MarkState;
use kilter_types::{Event, Name, Payload};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, config, features, seqs, within};
use crate::settled::{QUICK, account, now_us, parquet_files, published, settled};

fn rows(data: &Path, sql: &str) -> Value {
    ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer")["rows"].take()
}

fn causes(told: &Value) -> Vec<Value> {
    told["holes"].as_array().expect("holes").iter().map(|hole| hole["cause"].clone()).collect()
}

/// A command beside the running lab.
fn lab(data: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn audit(data: &Path) -> String {
    std::fs::read_to_string(data.join("lab/audit.jsonl")).unwrap_or_default()
}

#[test]
fn f9_what_is_dated_in_one_range_of_time_is_erased_by_a_command_and_accounted_for() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    // Event time is the seq in seconds: these are of 2 January 1970 and of 2036.
    server.features("press", 86_390..86_410);
    server.features("press", 2_082_758_400..2_082_758_410);
    let running = settled(data, &server);
    let (ended, said) =
        lab(data, &["erase", "--from", "2036-01-01", "--to", "2036-12-31", "--who", "ops", "--why", "clock"]);
    assert!(ended && said.contains("10"), "{said}");
    assert_eq!(seqs(data), (86_390..86_410).collect::<Vec<_>>());
    let only =
        ["erase", "device=press", "--from", "1970-01-02", "--to", "1970-01-02", "--who", "ops", "--why", "one day"];
    let (ended, said) = lab(data, &only);
    assert!(ended, "{said}");
    assert_eq!(seqs(data), (86_390..86_400).collect::<Vec<_>>(), "the day before is left");
    for refused in [
        &["erase", "--who", "ops", "--why", "all"][..],
        &["erase", "--from", "2036-01-01", "--who", "ops", "--why", "half a range"],
        &["erase", "--from", "2036", "--to", "2037", "--who", "ops", "--why", "years"],
        &["erase", "--from", "2037-01-01", "--to", "2036-01-01", "--who", "ops", "--why", "the wrong way round"],
    ] {
        let (ended, said) = lab(data, refused);
        assert!(!ended, "{refused:?}: {said}");
    }
    assert_eq!(audit(data).lines().count(), 4, "begun and done, twice: {}", audit(data));
    let report = ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report");
    assert_eq!((&report["lost"], &report["damaged"]), (&json!([]), &json!([])), "what was erased is not missed");
    running.terminate();
}

#[test]
fn f9_s1_10_a_corrected_record_is_seen_from_then_on_and_not_before_and_a_restart_changes_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    let running = settled(data, &server);
    std::fs::write(data.join("lab/pins.json"), r#"{"abc":{"versions":{"features":1},"erased_at_us":null}}"#)
        .expect("written");
    let all = "SELECT seq, rpm FROM features ORDER BY seq";
    let before = rows(data, all);
    let then_us = now_us();
    let correct = ["correct", "rpm=1480.5", "--device", "press", "--epoch", "5", "--class", "feature", "--seq", "4"];
    let (ended, said) = lab(data, &[&correct[..], &["--who", "fitter", "--why", "another gear"]].concat());
    assert!(ended && said.contains("abc") && said.contains("1500"), "{said}");
    let after = rows(data, all);
    assert_eq!(after[4], json!([4, 1480.5]));
    assert_eq!((after.as_array().map(Vec::len), &after[3], &after[5]), (Some(10), &before[3], &before[5]));
    let past = ask(data, &json!({ "op": "query", "sql": all, "as_of_us": then_us })).expect("the past");
    assert_eq!(past["rows"], before, "what was asked as of then is still what it was");
    let said = audit(data);
    assert_eq!((said.lines().count(), said.matches("fitter").count()), (2, 2), "begun and done: {said}");
    assert!(std::fs::read_to_string(data.join("lab/pins.json")).expect("the pins").contains("corrected_at_us"));
    // Another class, another column, another record: each is refused, and told.
    for (class, set, seq) in [("features", "rpm=1", "4"), ("feature", "seq=1", "4"), ("feature", "rpm=fast", "4")] {
        let wrong = [
            "correct", set, "--device", "press", "--epoch", "5", "--class", class, "--seq", seq, "--who", "a", "--why",
            "b",
        ];
        let (ended, said) = lab(data, &wrong);
        assert!(!ended, "{set} of {class}: {said}");
    }
    running.kill();
    // Everything is sent again, as to a server that lost its acks.
    server.features("press", 0..12);
    let running = settled(data, &server);
    let again = rows(data, all);
    assert_eq!((again.as_array().map(Vec::len), &again[4]), (Some(12), &json!([4, 1480.5])));
    assert_eq!(account(data, 0, 100)["complete"], true);
    running.terminate();
}

#[test]
fn s4_07_classes_that_are_kept_for_a_time_go_after_it_and_the_account_says_so() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, &format!("{QUICK}[upkeep]\nkeep_days = {{ feature = 30 }}\n"));
    let mut server = Server::open(data, 9, Vec::new());
    // They came in in 1970.
    server.features("press", 0..10);
    let oil = || Payload::Event(Event::Maintenance { what: Name::new("oil").expect("a good name") });
    server.records("press", (0..4).map(|seq| (seq, oil())));
    let running = settled(data, &server);
    within(60, || (seqs(data).is_empty()).then_some(()));
    assert_eq!(rows(data, "SELECT COUNT(seq) FROM events"), json!([[4]]), "other classes stay");
    within(60, || (audit(data).lines().count() == 2).then_some(()));
    assert!(audit(data).contains("feature is kept for 30 days"), "{}", audit(data));
    server.received = kilter_types::Micros(now_us());
    server.features("press", 10..12);
    published(data, &server);
    assert_eq!(seqs(data), [10, 11], "what came in today stays");
    assert_eq!(causes(&account(data, 0, 100)), [json!("expired")]);
    let report = ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report");
    assert_eq!(report["clean"], true, "{report}");
    running.terminate();
}

#[test]
fn s4_37_a_file_that_is_lost_or_damaged_is_put_back_from_the_journal_while_that_holds_it() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, &format!("{QUICK}[upkeep]\ncompact_files = 100\n"));
    let mut server = Server::open_with(data, 9, Vec::new(), 2 << 10);
    let running = settled(data, &server);
    for part in 0..4 {
        server.features("press", part * 10..part * 10 + 10);
        published(data, &server);
    }
    let all = "SELECT * FROM features ORDER BY seq";
    let before = rows(data, all);
    assert_eq!(before.as_array().map(Vec::len), Some(40));
    let mut files = parquet_files(&data.join("lake/features"));
    assert_eq!(files.len(), 4);
    // One is gone, and a bit of another one has turned.
    std::fs::remove_file(&files[0]).expect("removed");
    let mut bytes = std::fs::read(&files[1]).expect("read");
    bytes[40] ^= 1;
    std::fs::write(&files[1], bytes).expect("written");
    let (clean, said) = lab(data, &["reconcile"]);
    assert!(!clean && said.contains("\"restored_rows\": 0") && said.contains("\"lost\""), "{said}");
    let (clean, said) = lab(data, &["reconcile", "--repair"]);
    assert!(clean && said.contains("\"restored_rows\": 20"), "{said}");
    assert_eq!(rows(data, all), before, "row by row what it was");
    // What the journal has let go of can't be put back from there, and the damaged file stays to be looked at.
    files = parquet_files(&data.join("lake/features"));
    (0..9).for_each(|part| server.features("pump", part * 10..part * 10 + 10));
    published(data, &server);
    server.journal.release(server.journal.next_offset()).expect("released");
    let gone = files.iter().find(|file| seqs_of(data, file)).expect("a file that is part of the table");
    std::fs::remove_file(gone).expect("removed");
    let (clean, said) = lab(data, &["reconcile", "--repair"]);
    assert!(!clean && said.contains("\"restored_rows\": 0") && said.contains("lost"), "{said}");
    running.terminate();
}

/// Is this file part of the newest version? One that was replaced lies there still.
fn seqs_of(data: &Path, file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let log = data.join("lake/features/_delta_log");
    let entries = std::fs::read_dir(log).expect("the log").map(|entry| entry.expect("an entry").path());
    let text: String = entries.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let of = |action: &str| {
        text.lines().filter(|line| line.starts_with(&format!("{{\"{action}\"")) && line.contains(name)).count()
    };
    of("add") > of("remove")
}

#[test]
fn s1_07_one_input_under_three_settings_of_the_commits_gives_the_same_rows() {
    let settings = ["max_wait_ms = 50", "max_wait_ms = 600000\nmax_bytes = 4096", "max_wait_ms = 600000"];
    let mut answers = Vec::new();
    for setting in settings {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        config(data, &format!("[commit]\n{setting}\n"));
        let mut server = Server::open(data, 9, Vec::new());
        let running = Lab::start(data);
        for part in 0..6 {
            server.features("press", part * 20..part * 20 + 25);
            server.features("pump", part * 7..part * 7 + 9);
            // The rows are seen whether or not they are committed.
            let seen = (part * 20 + 25, part * 7 + 9);
            within(60, || {
                let counts = rows(data, "SELECT device, COUNT(seq) AS n FROM features GROUP BY device ORDER BY device");
                (counts == json!([["press", seen.0], ["pump", seen.1]])).then_some(())
            });
        }
        let all = "SELECT * FROM features ORDER BY device, seq";
        let asked = rows(data, all);
        running.terminate();
        let commits = std::fs::read_dir(data.join("lake/features/_delta_log")).expect("the log").count() - 1;
        let running = Lab::start(data);
        assert_eq!(rows(data, all), asked, "{setting}: the same after the last commit");
        running.terminate();
        answers.push((asked, commits));
    }
    let commits: Vec<_> = answers.iter().map(|(_, commits)| *commits).collect();
    assert!(commits[0] > 1 && commits[1] > 1 && commits[2] == 1, "the settings differ in their commits: {commits:?}");
    assert!(answers.iter().all(|(rows, _)| *rows == answers[0].0), "and in nothing else");
}

#[test]
fn s4_33_a_stored_fold_that_is_lost_after_segments_were_released_doubles_nothing_in_the_lake() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open_with(data, 9, Vec::new(), 4 << 10);
    for part in 0..10 {
        server.features("press", part * 20..part * 20 + 20);
    }
    let running = settled(data, &server);
    running.kill();
    let published_marks: Vec<MarkState> =
        serde_json::from_value(committed(data).expect("published")["marks"].clone()).expect("marks");
    assert_eq!(published_marks[0].to, 200);
    let upto = server.journal.next_offset();
    server.journal.release(upto).expect("released");
    assert!(server.journal.first_offset().get() > 0, "segments are gone");
    std::fs::remove_file(data.join("lab/fold")).expect("it was there");
    // All of it is sent again, and a little more.
    for part in 0..10 {
        server.features("press", part * 20..part * 20 + 25);
    }
    let running = settled(data, &server);
    assert_eq!(seqs(data), (0..205).collect::<Vec<_>>());
    running.terminate();
}

#[test]
fn s4_40_an_answer_is_given_again_until_a_row_changes_it() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    let running = settled(data, &server);
    let query = |sql: &str| ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    let (count, events) = ("SELECT COUNT(seq) AS n FROM features", "SELECT COUNT(seq) AS n FROM events");
    let (first, again) = (query(count), query(count));
    assert_eq!((&first["cached"], &again["cached"]), (&Value::Null, &json!(true)));
    assert_eq!((&again["rows"], &again["lake_version"]), (&first["rows"], &first["lake_version"]));
    query(events);
    server.records("press", [(10, features(10))].into_iter());
    within(60, || (query(count)["rows"] == json!([[11]])).then_some(()));
    assert_eq!(query(events)["cached"], true, "nothing has changed there");
    published(data, &server);
    let erase = json!({ "op": "erase", "equals": { "device": "press" }, "who": "dpo", "why": "asked for" });
    ask(data, &erase).expect("erased");
    let after = query(count);
    assert_eq!(
        (&after["rows"], &after["cached"]),
        (&json!([[0]]), &Value::Null),
        "what was erased is not told from memory"
    );
    running.terminate();
}

#[test]
fn s0_07_the_log_read_again_through_the_live_code_gives_the_same_rows_by_their_hash() {
    let first = tempfile::tempdir().expect("a folder");
    let data = first.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    let mut running = settled(data, &server);
    let reason = kilter_types::GapReason::Evicted;
    for part in 0..6 {
        // Batches overlap, come late, and one of them can't be read.
        server.features("press", part * 20 + 5..part * 20 + 25);
        server.features("pump", part * 7..part * 7 + 9);
        let (class, epoch, first_seq) = (kilter_types::Class::Score, kilter_types::Epoch(5), part * 10);
        let gap = kilter_types::Gap { class, epoch, first_seq, last_seq: first_seq + 3, reason };
        server.records("press", [(part, kilter_types::Payload::Gap(gap))].into_iter());
        server.append(kilter_fold::Entry::Quarantined {
            device: kilter_types::DeviceId::new("fan").expect("a good name"),
            received: kilter_types::Micros::from_secs(200 + part as i64),
            reason: "crc".into(),
            bytes: vec![part as u8; 9],
        });
        if part == 3 {
            running.kill();
            running = settled(data, &server);
        }
    }
    server.features("press", 0..125);
    published(data, &server);
    let live = hashes(data);
    running.terminate();

    let second = tempfile::tempdir().expect("a folder");
    let again = second.path();
    config(again, QUICK);
    std::fs::create_dir(again.join("journal")).expect("created");
    for file in std::fs::read_dir(data.join("journal")).expect("the log").map(|file| file.expect("an entry")) {
        std::fs::copy(file.path(), again.join("journal").join(file.file_name())).expect("copied");
    }
    let running = settled(again, &server);
    let replayed = hashes(again);
    running.terminate();
    assert_eq!(live.iter().map(|(_, rows, _)| *rows).collect::<Vec<_>>(), [125 + 44, 6, 6]);
    assert_eq!(replayed, live);
}

/// Table, rows, and a hash over all of them with every column.
fn hashes(data: &Path) -> Vec<(&'static str, usize, kilter_types::Digest)> {
    let each = [("features", "device, seq"), ("gaps", "device, seq"), ("quarantine", "device, received_us")];
    let hash = |(table, order): (&'static str, &str)| {
        let rows = rows(data, &format!("SELECT * FROM {table} ORDER BY {order}"));
        let count = rows.as_array().map_or(0, Vec::len);
        (table, count, kilter_types::Digest::of(rows.to_string().as_bytes()))
    };
    each.map(hash).to_vec()
}

#[test]
fn s3_02_a_node_that_learns_another_feature_writes_beside_one_that_did_not_and_nobody_restarts() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    let running = settled(data, &server);
    server.features("old", 0..20);
    server.features("new", 0..10);
    published(data, &server);
    let all = "SELECT device, seq, schema, values FROM features ORDER BY device, seq";
    let before = rows(data, all);
    // The second node is updated: its rows say one value more, and name another list of features.
    let learned = (10..20).map(|seq| {
        let kilter_types::Payload::Features(mut row) = features(seq) else { panic!("a row of features") };
        row.vector = kilter_types::FeatureVector {
            schema: kilter_types::SchemaHash(8),
            values: [seq as f32, 1.0, 0.25].into_iter().collect(),
            valid: 7,
        };
        (seq, kilter_types::Payload::Features(row))
    });
    server.records("new", learned);
    server.features("old", 20..30);
    published(data, &server);
    let after = rows(data, all);
    let of = |rows: &Value, device: &str| -> Vec<Value> {
        rows.as_array().expect("rows").iter().filter(|row| row[0] == device).cloned().collect()
    };
    let (new, old) = (of(&after, "new"), of(&after, "old"));
    assert_eq!((new.len(), old.len()), (20, 30));
    assert_eq!(
        [&new[..10], &old[..20]].concat(),
        before.as_array().expect("rows").clone(),
        "what was there is as it was"
    );
    let third = |row: &Value| row[3][2].clone();
    assert!(old.iter().chain(&new[..10]).all(|row| row[2] == 7 && third(row).is_null()), "no third value before");
    assert!(new[10..].iter().all(|row| row[2] == 8 && third(row) == 0.25));
    running.terminate();
}

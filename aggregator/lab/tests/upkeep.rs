//! Questions within their limits, erasure, reconciliation, and the same rows for other readers.

mod house;
mod settled;
#[path = "../../lake/tests/lake/weed.rs"]
mod weed;

use std::process::Command;

use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, config, seqs, within};
use crate::settled::{QUICK, account, now_us, parquet_files, published, settled};
use crate::weed::{KEY_ID, SECRET, Weed};

#[test]
fn f4_columns_that_are_keywords_work_and_an_answer_that_is_cut_or_too_slow_says_so() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[query]\nmax_rows = 3\n");
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    let lab = Lab::start(data);
    let query = |sql: &str| ask(data, &json!({ "op": "query", "sql": sql }));
    within(60, || (query("SELECT COUNT(seq) FROM features").ok()?["rows"] == json!([[10]])).then_some(()));
    let answer =
        query("SELECT group, values, schema FROM features WHERE group = 0 ORDER BY seq LIMIT 1").expect("an answer");
    assert_eq!(
        (&answer["columns"], &answer["rows"]),
        (&json!(["group", "values", "schema"]), &json!([[0, [0.0, 1.0], 7]]))
    );
    let answer = query("SELECT group, COUNT(seq) AS n FROM features GROUP BY group").expect("an answer");
    assert_eq!(answer["rows"], json!([[0, 10]]));
    let answer = query("SELECT seq FROM features").expect("an answer");
    assert_eq!((answer["rows"].as_array().map(Vec::len), &answer["truncated"]), (Some(3), &json!(true)));
    assert!(answer["note"].as_str().is_some_and(|note| note.contains("cut at 3 rows")), "{answer}");
    lab.terminate();
    config(data, "[query]\nmax_secs = 0\n");
    let lab = Lab::start(data);
    let slow = ask(data, &json!({ "op": "query", "sql": "SELECT seq FROM features" })).expect_err("no time at all");
    assert!(slow.contains("within 0 s") && slow.contains("max_secs"), "{slow}");
    lab.terminate();
}

#[test]
fn s1_01_an_account_names_each_hole_with_its_cause_and_looks_beyond_the_ends_of_the_range() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..20);
    // 20 to 29 were evicted and told so; 40 to 44 are just missing.
    let gap = kilter_types::Gap {
        class: kilter_types::Class::Feature,
        epoch: kilter_types::Epoch(5),
        first_seq: 20,
        last_seq: 29,
        reason: kilter_types::GapReason::Evicted,
    };
    server.records("press", [(0, kilter_types::Payload::Gap(gap))].into_iter());
    server.features("press", 30..40);
    server.features("press", 45..50);
    let lab = settled(data, &server);
    // The hole behind 19 might lie in a range that ends there; in this one it can't.
    let told = account(data, 0, 15);
    assert_eq!((&told["complete"], &told["holes"]), (&json!(true), &json!([])), "{told}");
    // Event time is the seq in seconds: this range begins and ends within holes.
    let told = account(data, 22, 42);
    let holes: Vec<_> = told["holes"]
        .as_array()
        .expect("holes")
        .iter()
        .map(|hole| (&hole["first"], &hole["last"], &hole["cause"]))
        .collect();
    assert_eq!(holes, [(&json!(20), &json!(29), &json!("evicted")), (&json!(40), &json!(44), &json!("unexplained"))]);
    let told = account(data, 41, 43);
    assert_eq!(
        (&told["complete"], &told["rows"]),
        (&json!(false), &json!(0)),
        "silence in a range is not completeness"
    );
    lab.terminate();
}

#[test]
fn s0_27_an_erasure_is_told_in_audit_account_and_cards_and_is_not_undone_by_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    server.features("pump", 0..5);
    let lab = settled(data, &server);
    std::fs::write(data.join("lab/pins.json"), r#"{"abc":{"versions":{"features":1},"erased_at_us":null}}"#)
        .expect("written");
    let erase =
        |who: &str| json!({ "op": "erase", "equals": { "device": "press" }, "who": who, "why": "contract ended" });
    assert!(ask(data, &erase(" ")).expect_err("nobody").contains("who"));
    let colour = json!({ "op": "erase", "equals": { "colour": "red" }, "who": "a", "why": "b" });
    assert!(ask(data, &colour).expect_err("no such column").contains("colour"));
    let done = ask(data, &erase("dpo@acme")).expect("erased");
    assert_eq!(done, json!({ "rows": [["features", 10]], "models_that_can_not_be_made_again": ["abc"] }));
    assert_eq!(seqs(data), (0..5).collect::<Vec<_>>(), "the pump's rows are left");
    let audit = std::fs::read_to_string(data.join("lab/audit.jsonl")).expect("the audit");
    assert_eq!((audit.lines().count(), audit.matches("dpo@acme").count()), (2, 2), "begun and done: {audit}");
    let pins = std::fs::read_to_string(data.join("lab/pins.json")).expect("the pins");
    assert!(!pins.contains("null"), "{pins}");
    server.features("press", 10..12);
    published(data, &server);
    let told = account(data, 0, 100);
    let cause = |told: &Value| {
        told["holes"].as_array().expect("holes").iter().map(|hole| hole["cause"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(cause(&told), [json!("erased")], "{told}");
    let clean = ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report");
    assert_eq!((&clean["clean"], &clean["rows"]), (&json!(true), &json!(7)), "{clean}");
    lab.kill();
    let lab = settled(data, &server);
    assert_eq!(seqs(data).len(), 7);
    // A bit that turned on the disk is found, and the command says so with its exit code.
    let damaged = parquet_files(&data.join("lake/features")).pop().expect("a file");
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[8] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
        .args(["reconcile", "--data"])
        .arg(data)
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("changed since they were committed"), "{said}");
    lab.terminate();
}

#[test]
fn f3_s4_36_a_question_as_of_a_time_sees_what_was_there_then_and_a_view_joins_old_and_new_columns() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let view = "told = \"SELECT seq, device, COALESCE(rpm, 0.0) AS speed FROM features\"";
    config(data, &format!("{QUICK}[upkeep]\ncompact_files = 2\n[views]\n{view}\n"));
    let mut server = Server::open(data, 9, Vec::new());
    server.features("press", 0..10);
    let lab = settled(data, &server);
    let rows = |sql: &str, as_of_us: Option<i64>| {
        ask(data, &json!({ "op": "query", "sql": sql, "as_of_us": as_of_us })).map(|answer| answer["rows"].clone())
    };
    let all = "SELECT device, seq, speed FROM told ORDER BY device, seq";
    let then_us = now_us();
    let copy = rows(all, None).expect("an answer");
    server.features("press", 10..20);
    server.features("pump", 0..5);
    published(data, &server);
    assert_eq!(rows(all, Some(then_us)).expect("the past"), copy, "the past reads as it was");
    assert_eq!(copy.as_array().map(Vec::len), Some(10));
    assert_eq!(rows("SELECT COUNT(seq) FROM told", None).expect("an answer"), json!([[25]]));
    assert_eq!(rows("SELECT COUNT(seq) FROM features", Some(0)).expect("before the first commit"), json!([[0]]));
    // Without a running lab the command reads the same.
    lab.terminate();
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
        .args(["query", all, "--json", "--as-of", &then_us.to_string(), "--data"])
        .arg(data)
        .output()
        .expect("it runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["rows"], copy);
    // An erasure wins over the past.
    let lab = settled(data, &server);
    let erase = json!({ "op": "erase", "equals": { "device": "press" }, "who": "dpo@acme", "why": "asked for" });
    ask(data, &erase).expect("erased");
    let gone = rows(all, Some(then_us)).expect_err("its files are gone");
    assert!(gone.contains("removed"), "{gone}");
    assert_eq!(rows("SELECT COUNT(seq) FROM told", None).expect("an answer"), json!([[5]]));
    lab.terminate();
}

#[test]
fn s1_20_a_lab_whose_lake_is_in_a_bucket_survives_kills_and_keeps_the_secret() {
    let Some(weed) = Weed::start("plant") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let keys = data.join("keys.toml");
    std::fs::write(&keys, format!("access_key_id = \"{KEY_ID}\"\nsecret_access_key = \"{SECRET}\"\n"))
        .expect("written");
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let place = format!(
        "[lake]\nbucket = \"plant\"\nendpoint = \"{}\"\ncredentials_file = \"{}\"\n",
        weed.endpoint,
        keys.display()
    );
    config(data, &format!("{place}{QUICK}[upkeep]\ncompact_files = 3\n"));
    let mut server = Server::open(data, 9, Vec::new());
    for round in 0..4 {
        let lab = Lab::start(data);
        server.features("press", round * 20..round * 20 + 10);
        if round % 2 == 0 {
            within(60, || seqs(data).contains(&(round * 20)).then_some(()));
        } else {
            published(data, &server);
        }
        server.features("press", round * 20 + 10..round * 20 + 20);
        lab.kill();
    }
    // A copy for reading that is lost is fetched again.
    std::fs::remove_dir_all(data.join("lake-copy/features")).expect("there was one");
    let lab = settled(data, &server);
    assert_eq!(seqs(data), (0..80).collect::<Vec<_>>(), "each row once");
    let report = ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report");
    assert_eq!((&report["clean"], &report["rows"]), (&json!(true), &json!(80)), "{report}");
    lab.terminate();
    assert!(!data.join("lake").exists(), "nothing of the lake lies here");
    let log = std::fs::read_to_string(data.join("lab.log")).expect("a log");
    assert!(log.contains("lab serves") && !log.contains(SECRET), "{log}");
    // The stored fold speaks for that lake: another one is not begun beside it.
    config(data, QUICK);
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab")).args(["serve", "--data"]).arg(data).output();
    let said = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(said.contains("it lay in a bucket until now"), "{said}");
}

#[test]
fn what_the_lab_answers_is_row_by_row_what_the_python_package_reads() {
    let python = std::env::var("KILTER_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_package = Command::new(&python).args(["-c", "import deltalake, pyarrow"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        println!("not run: 1 (no Python with deltalake and pyarrow; set KILTER_PYTHON)");
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n[upkeep]\ncompact_files = 3\n");
    let mut server = Server::open(data, 9, Vec::new());
    let mut lab = settled(data, &server);
    for part in 0..6 {
        server.features("press", part * 50..part * 50 + 50);
        server.features("pump", part * 20..part * 20 + 20);
        published(data, &server);
        if part == 3 {
            lab.kill();
            lab = settled(data, &server);
        }
    }
    let sql = "SELECT * FROM features ORDER BY device, epoch, class, seq";
    let answer = ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    let columns: Vec<_> = answer["columns"].as_array().expect("columns").clone();
    let ours: Vec<Value> = answer["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            columns
                .iter()
                .zip(row.as_array().expect("a row"))
                .map(|(name, value)| (name.as_str().expect("a name").to_owned(), value.clone()))
                .collect()
        })
        .collect();
    lab.terminate();
    let output =
        Command::new(&python).args(["-c", READ]).arg(data.join("lake/features")).output().expect("Python just ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((ours.len(), theirs.len()), (420, 420));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

const READ: &str = r#"
import sys, json, deltalake
rows = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().to_pylist()
rows.sort(key=lambda row: (row["device"], row["epoch"], row["class"], row["seq"]))
print(json.dumps(rows))
"#;

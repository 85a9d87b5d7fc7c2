//! History again from the edge: a data file is lost, what the edge still has comes again, and nothing is doubled or undone.

use std::path::{Path, PathBuf};

use kilter_fold::MarkState;
use kilter_types::{Class, Epoch, Gap, GapReason, Payload};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, config};
use crate::settled::{QUICK, account, parquet_files, published, settled};

const POINT: &str = "acme/north/press/drive-end";

/// A lake of three files of a hundred rows of the press each, of which the journal holds nothing any more.
fn three_files(data: &Path) -> (Server, Lab, Vec<PathBuf>) {
    config(data, &format!("{QUICK}[upkeep]\ncompact_files = 1000\n"));
    let mut server = Server::open_with(data, 9, Vec::new(), 64 << 10);
    let lab = Lab::start(data);
    let mut files = Vec::new();
    (0..3).for_each(|_| one_more(data, &mut server, &mut files));
    forget(data, &mut server);
    (server, lab, files)
}

/// The next hundred rows of the press, in a file of their own.
fn one_more(data: &Path, server: &mut Server, files: &mut Vec<PathBuf>) {
    let first = files.len() as u64 * 100;
    server.features("press", first..first + 100);
    published(data, server);
    let new = |path: &PathBuf| !files.contains(path);
    let found: Vec<PathBuf> = parquet_files(&data.join("lake/features")).into_iter().filter(new).collect();
    assert_eq!(found.len(), 1, "a commit makes a file");
    files.extend(found);
}

/// Other entries come, until the journal has nothing left of those before.
fn forget(data: &Path, server: &mut Server) {
    let before = server.journal.next_offset();
    for i in 0..8 {
        server.features("pump", i * 200..i * 200 + 200);
    }
    published(data, server);
    server.journal.release(server.journal.next_offset()).expect("released");
    assert!(server.journal.first_offset() >= before, "the press is gone from the journal");
}

fn refetch(data: &Path, from_s: i64, to_s: i64) -> Value {
    let asked = json!({ "point": POINT, "device": null, "from": from_s * 1_000_000, "to": to_s * 1_000_000 });
    let request = json!({ "op": "refetch", "asked": asked, "who": "anna", "why": "a file is gone" });
    ask(data, &request).expect("an answer")
}

fn wanted(first: u64, last: u64) -> Value {
    json!([{ "device": "press", "epoch": 5, "class": "feature", "first": first, "last": last }])
}

/// What the server reads.
fn open(data: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(data.join("lab/refetch.json")).expect("a file")).expect("JSON")
}

fn rows(data: &Path) -> Vec<u64> {
    let sql = "SELECT seq FROM features WHERE device = 'press' ORDER BY seq";
    let answer = ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    answer["rows"].as_array().expect("rows").iter().map(|row| row[0].as_u64().expect("a seq")).collect()
}

fn reconciled(data: &Path) -> Value {
    ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report")
}

fn causes(told: &Value) -> Vec<(u64, u64, String)> {
    let cause = |hole: &Value| {
        let number = |name: &str| hole[name].as_u64().expect("a number");
        (number("first"), number("last"), hole["cause"].as_str().expect("a word").to_owned())
    };
    told["holes"].as_array().expect("holes").iter().filter(|hole| hole["device"] == "press").map(cause).collect()
}

#[test]
fn f11_what_a_lost_file_held_comes_again_once_and_what_is_gone_at_the_edge_becomes_a_gap() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let (mut server, lab, files) = three_files(data);
    std::fs::remove_file(&files[1]).expect("it was there");
    assert_eq!(refetch(data, 250, 260)["wanted"], json!([]), "its neighbours lie before and behind the lost file");
    let told = refetch(data, 120, 130);
    assert_eq!((&told["wanted"], &told["restored_rows"]), (&wanted(100, 199), &json!(0)), "{told}");
    assert_eq!(rows(data), (0..100).chain(200..300).collect::<Vec<_>>());
    let audit = std::fs::read_to_string(data.join("lab/audit.jsonl")).expect("the audit");
    assert!(audit.contains("anna") && audit.contains(&files[1].display().to_string()), "{audit}");
    assert_eq!(open(data), json!([[{ "device": "press", "epoch": 5, "class": "feature" }, { "100": 199 }]]));

    // The node sends what it keeps, and more than that.
    server.features("press", 90..160);
    published(data, &server);
    assert_eq!(rows(data), (0..160).chain(200..300).collect::<Vec<_>>());
    assert_eq!(open(data)[0][1], json!({ "160": 199 }));
    // The lab is killed with some in the journal, and sees the same again and again.
    server.features("press", 155..170);
    lab.kill();
    server.features("press", 150..180);
    let lab = settled(data, &server);
    assert_eq!(rows(data), (0..180).chain(200..300).collect::<Vec<_>>());
    server.features("press", 100..180);
    published(data, &server);
    assert_eq!(rows(data).len(), 280);
    // Of the rest the node says that it is gone.
    let (class, epoch, reason) = (Class::Feature, Epoch(5), GapReason::Evicted);
    let gap = Gap { class, epoch, first_seq: 180, last_seq: 199, reason };
    server.records("press", [(0, Payload::Gap(gap))].into_iter());
    published(data, &server);
    assert_eq!(open(data), json!([]));
    assert_eq!(causes(&account(data, 0, 300)), [(180, 199, "evicted".to_owned())]);
    server.features("press", 0..300);
    published(data, &server);
    assert_eq!(rows(data).len(), 280, "nobody asks any more");
    let report = reconciled(data);
    assert_eq!((&report["clean"], &report["doubled"]), (&json!(true), &json!([])), "{report}");
    lab.terminate();
}

#[test]
fn f11_a_new_journal_with_data_files_gone_opens_the_lab_which_names_them_and_doubles_and_loses_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, &format!("{QUICK}[upkeep]\ncompact_files = 1000\n"));
    let mut server = Server::open(data, 9, Vec::new());
    let (lab, mut files) = (Lab::start(data), Vec::new());
    (0..2).for_each(|_| one_more(data, &mut server, &mut files));
    let told = committed(data).expect("published");
    one_more(data, &mut server, &mut files);
    lab.kill();
    // The journal is lost, and what was published last with it; a file of before and one of after are gone from the lake.
    drop(server);
    std::fs::remove_dir_all(data.join("journal")).expect("lost");
    let gone = &files[1..];
    gone.iter().for_each(|path| std::fs::remove_file(path).expect("it was there"));
    let marks: Vec<MarkState> = serde_json::from_value(told["marks"].clone()).expect("marks");
    let mut server = Server::open(data, 10, marks);
    // The node sends what it knows of no commit.
    server.features("press", 200..300);
    let lab = settled(data, &server);
    let damaged = |data: &Path| ask(data, &json!({ "op": "status" })).expect("a status")["damaged"].to_string();
    for path in gone {
        assert!(damaged(data).contains(&path.display().to_string()), "{}", damaged(data));
    }
    let told = refetch(data, 0, 300);
    assert_eq!((&told["wanted"], told["set_aside"].as_array().map(Vec::len)), (&wanted(100, 199), Some(2)), "{told}");
    assert_eq!(told["set_aside"][0]["rows"], 100);
    assert_eq!((rows(data), damaged(data)), ((0..100).chain(200..300).collect(), "[]".to_owned()));
    server.features("press", 100..300);
    published(data, &server);
    assert_eq!(rows(data), (0..300).collect::<Vec<_>>());
    let report = reconciled(data);
    assert_eq!(report["clean"], true, "{report}");
    lab.terminate();
}

#[test]
fn f11_what_was_erased_stays_erased_and_what_was_corrected_says_the_correction() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let (mut server, lab, files) = three_files(data);
    let set = json!({ "device": "press", "epoch": 5, "class": "feature", "seq": 150, "set": { "rpm": 1480.5 } });
    let correct = json!({ "op": "correct", "correction": set, "who": "fitter", "why": "another gear" });
    ask(data, &correct).expect("corrected");
    let erase = |from_s: i64, to_s: i64| {
        let (from_us, to_us) = (from_s * 1_000_000, to_s * 1_000_000);
        let equals = json!({ "device": "press" });
        json!({ "op": "erase", "equals": equals, "from_us": from_us, "to_us": to_us, "who": "dpo", "why": "asked for" })
    };
    ask(data, &erase(100, 109)).expect("erased");
    forget(data, &mut server);
    // The file of the second hundred was written anew twice since.
    let now = parquet_files(&data.join("lake/features"));
    let sql = "SELECT COUNT(seq) AS n FROM features WHERE device = 'press'";
    let count = || ask(data, &json!({ "op": "query", "sql": sql })).map(|answer| answer["rows"][0][0].clone());
    assert_eq!(count(), Ok(json!(290)));
    let beside = |path: &PathBuf| path.parent() == files[1].parent() && !files.contains(path);
    let damaged: Vec<PathBuf> = now.into_iter().filter(beside).collect();
    assert!(!damaged.is_empty());
    for path in &damaged {
        let bytes = std::fs::read(path).expect("read");
        std::fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
    }
    let told = refetch(data, 120, 130);
    assert_eq!(told["wanted"], wanted(110, 199), "{told}");
    // What is damaged is out of the way, and kept to be looked at.
    let (kept, aside) = (data.join("lab/damaged/features"), told["set_aside"].as_array().expect("files"));
    assert_eq!((parquet_files(&kept).len(), aside.len()), (damaged.len(), damaged.len()), "{told}");
    assert!(damaged.iter().all(|path| !path.exists()), "it lies in two places");
    assert!(
        aside.iter().all(|file| file["what"].as_str().is_some_and(|what| what.contains("bytes where the log says")))
    );
    // Between asking and coming a person wants more of it erased. Nobody can tell what the damaged files held of that.
    ask(data, &erase(110, 119)).expect("erased");
    assert!(!kept.exists(), "a damaged file outlives an erasure");
    server.features("press", 100..200);
    published(data, &server);
    assert_eq!(rows(data), (0..100).chain(120..300).collect::<Vec<_>>());
    let sql = "SELECT seq, rpm FROM features WHERE device = 'press' AND seq >= 149 AND seq <= 151 ORDER BY seq";
    let answer = ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    assert_eq!(answer["rows"], json!([[149, 1500.0], [150, 1480.5], [151, 1500.0]]));
    assert_eq!(open(data), json!([]));
    assert_eq!(causes(&account(data, 0, 300)), [(100, 119, "erased".to_owned())]);
    let again = refetch(data, 0, 300)["wanted"].to_string();
    assert!(!again.contains("press"), "what was erased on purpose is not fetched: {again}");
    assert_eq!(rows(data).len(), 280);
    lab.terminate();
}

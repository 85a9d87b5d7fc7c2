//! `kilter-agent journal verify` and `dump` as a person or a script calls them.

use std::path::Path;
use std::process::{Command, Output};

use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key, RealFilesystem};
use kilter_types::{Class, Epoch, Event, Gap, GapReason, Micros, Monotonic, Payload, Point, Record, Timeline};
use kilter_wire::encode_record;
use serde_json::Value;

const EPOCH: Epoch = Epoch(0xabcd);
const EVENTS: u64 = 40;

fn journal(arguments: &[&str], dir: &Path) -> Output {
    let (command, options) = arguments.split_first().expect("a command");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_kilter-agent"));
    agent.args(["journal", command]).arg(dir).args(options).output().expect("it starts")
}

#[track_caller]
fn lines(output: &Output, code: i32) -> Vec<String> {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[track_caller]
fn objects(output: &Output, code: i32) -> Vec<Value> {
    lines(output, code).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Forty events and a gap, in several segments of one journal.
fn write(dir: &Path) {
    let config = Config {
        segment_bytes: 1024,
        max_bytes: 1 << 20,
        fsync: FsyncPolicy::Always,
        reserve_bytes: 0,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    };
    let (mut journal, _) = Journal::open(RealFilesystem, dir, config, 7).expect("opens");
    let mut put = |seq: u64, payload: Payload| {
        let record = Record {
            point: Point::parse("default/north/pump-1/de").expect("a good point"),
            epoch: EPOCH,
            seq,
            monotonic: Monotonic(seq),
            timeline: Timeline::Source,
            wall: Some(Micros(seq as i64 * 1_000_000)),
            uncertainty: Micros(0),
            payload,
        };
        let mut room = [0; 4097];
        let key = Key { class: record.class() as u8, epoch: EPOCH.0, seq };
        journal.append(key, encode_record(&record, &mut room).expect("it fits"), false).expect("appends");
    };
    (0..EVENTS).for_each(|seq| put(seq, Payload::Event(Event::NewRegime { bin: seq as u8 })));
    let (class, epoch) = (Class::Feature, EPOCH);
    put(0, Payload::Gap(Gap { class, epoch, first_seq: 3, last_seq: 5, reason: GapReason::Evicted }));
}

/// Every file with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir).expect("the journal's folder").map(|file| file.expect("listed").path());
    let mut files: Vec<_> =
        files.map(|path| (path.display().to_string(), std::fs::read(&path).expect("a file"))).collect();
    files.sort();
    files
}

#[test]
fn a_clean_journal_is_sound_and_its_records_are_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path());
    let before = files(dir.path());
    let said = lines(&journal(&["verify"], dir.path()), 0);
    assert!(said.last().is_some_and(|line| line.starts_with("41 entries") && line.ends_with(": sound")), "{said:?}");
    let [report] = objects(&journal(&["verify", "--json"], dir.path()), 0).try_into().expect("one object");
    assert_eq!((&report["sound"], &report["entries"]), (&Value::from(true), &Value::from(41)));
    assert_eq!(report["journal"], "0000000000000007");
    assert!(report["segments"].as_array().is_some_and(|segments| segments.len() > 2), "{report}");

    let all = lines(&journal(&["dump"], dir.path()), 0);
    assert_eq!(all.len(), 41);
    assert!(all[0].contains("000000000000abcd event") && all[0].contains("NewRegime"), "{}", all[0]);
    let gaps = objects(&journal(&["dump", "--class", "gap", "--json"], dir.path()), 0);
    assert_eq!(gaps.len(), 1);
    assert_eq!((&gaps[0]["class"], &gaps[0]["point"]), (&Value::from("gap"), &Value::from("default/north/pump-1/de")));
    assert!(gaps[0]["said"].as_str().is_some_and(|said| said.contains("Evicted")), "{}", gaps[0]);
    let some = objects(&journal(&["dump", "--limit", "3", "--json"], dir.path()), 0);
    let from = some[2]["offset"].to_string();
    let rest = objects(&journal(&["dump", "--from", &from, "--json"], dir.path()), 0);
    assert_eq!((some.len(), rest.len()), (3, 39), "from the third on");
    assert_eq!(rest[0], some[2]);
    assert_eq!(files(dir.path()), before, "a look changes nothing");
}

#[test]
fn one_damaged_byte_ends_verify_with_1_and_is_named_while_dump_shows_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path());
    let (path, mut bytes) =
        files(dir.path()).into_iter().find(|(path, _)| path.ends_with(".seg")).expect("the first segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).expect("damaged");
    let before = files(dir.path());

    let output = journal(&["verify"], dir.path());
    let said = lines(&output, 1);
    assert!(said.last().is_some_and(|line| line.ends_with(": damaged")), "{said:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("kilter-agent: failed to find the journal sound"));
    let [report] = objects(&journal(&["verify", "--json"], dir.path()), 1).try_into().expect("one object");
    assert_eq!((&report["sound"], &report["entries"]), (&Value::from(false), &Value::from(40)));
    let damaged = report["segments"][0]["damaged"].as_array().expect("ranges");
    assert_eq!(damaged.len(), 1, "{report}");
    let range = (damaged[0]["from"].as_u64().expect("an offset"), damaged[0]["to"].as_u64().expect("an offset"));
    assert!(range.0 < range.1 && range.1 < report["segments"][0]["to"].as_u64().expect("an offset"), "{report}");

    let shown = objects(&journal(&["dump", "--json"], dir.path()), 0);
    assert_eq!(shown.len(), 40, "all but the damaged one");
    let hit = |record: &Value| record["offset"].as_u64().is_some_and(|at| range.0 <= at && at < range.1);
    assert!(!shown.iter().any(hit));
    assert_eq!(files(dir.path()), before, "a look repairs nothing");
}

#[test]
fn what_is_no_journal_and_what_is_no_class_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let nowhere = journal(&["verify"], &dir.path().join("nowhere"));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("nowhere"), "it says which folder");
    write(dir.path());
    let unknown = journal(&["dump", "--class", "rumour"], dir.path());
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("rumour"));
}

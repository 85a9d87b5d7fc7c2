//! What devices sealed, and an insider who writes data files, their log entries and their SHA-256 as the lab would.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kilter_fold::{Entry, Output, Row};
use kilter_lake::{Audit, Correction, DeltaTable, Rows, Subject, Table, TableName, Within, open_gate};
use kilter_types::{
    Class, DeviceId, Epoch, Event, Gap, GapReason, JournalId, Micros, Name, Payload, Point, Record, Seal, SealBefore,
    SealedRange,
};
use kilter_wire::seal::{Fingerprint, RangeHash, named, record_hash, sign};
use kilter_wire::{Batch, BatchRecord, encode_record};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, config, features, record, within};

const QUICK: &str = "[commit]\nmax_wait_ms = 50\n[upkeep]\ncompact_files = 3\n";

/// A device that records and seals.
struct Device {
    name: &'static str,
    secret: [u8; 32],
    epoch: Epoch,
    before: Option<SealBefore>,
    next: BTreeMap<Class, u64>,
    /// Recorded, and under no seal.
    open: Vec<Record>,
    /// Recorded, and not sent.
    unsent: Vec<Record>,
}

impl Device {
    fn new(name: &'static str, key: u8, epoch: u64) -> Self {
        let (next, open, unsent) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { name, secret: [key; 32], epoch: Epoch(epoch), before: None, next, open, unsent }
    }

    fn key(&self) -> String {
        Fingerprint::of(&kilter_wire::sign::public_key(&self.secret)).to_string()
    }

    fn record(&mut self, payload: Payload) -> Record {
        let next = self.next.entry(payload.class()).or_default();
        let seq = *next;
        *next += 1;
        let point = Point::parse("acme/north/press/drive-end").expect("a good address");
        let made = Record { epoch: self.epoch, point, ..record(seq, payload) };
        self.open.push(made.clone());
        self.unsent.push(made.clone());
        made
    }

    fn features(&mut self, count: u64) {
        let first = self.next.get(&Class::Feature).copied().unwrap_or_default();
        (first..first + count).for_each(|index| drop(self.record(features(index))));
    }

    /// Seals what is open.
    fn seal(&mut self) -> Record {
        let mut ranges = Vec::new();
        for class in Class::ALL {
            let of_class: Vec<&Record> = self.open.iter().filter(|record| record.class() == class).collect();
            let (Some(first), Some(last)) = (of_class.first(), of_class.last()) else { continue };
            let mut hash = RangeHash::default();
            of_class.iter().for_each(|record| hash.push(&record_hash(record).expect("a record")));
            let (first_seq, last_seq) = (first.seq, last.seq);
            ranges.push(SealedRange { class, first_seq, last_seq, hash: hash.finish() });
        }
        let ranges = ranges.into_iter().collect();
        let mut seal = Seal { key: [0; 32], before: self.before, epoch: self.epoch, ranges, signature: [[0; 32]; 2] };
        sign(&mut seal, &self.secret).expect("it fits");
        self.open.clear();
        let made = self.record(Payload::Seal(seal.clone()));
        self.before = named(made.epoch, made.seq, &seal);
        made
    }

    /// Sends what was not sent.
    fn send(&mut self, server: &mut Server) {
        let (mut bytes, mut used) = (vec![0; 400_000], 0);
        for record in self.unsent.drain(..) {
            let mut room = [0; 4097];
            let encoded = encode_record(&record, &mut room).expect("a record fits");
            let part = BatchRecord { class: record.class() as u8, seq: record.seq, bytes: encoded };
            assert!(Batch::push(&mut bytes, &mut used, part), "a batch fits");
        }
        bytes.truncate(used);
        let device = DeviceId::new(self.name).expect("a good name");
        server.append(Entry::Batch { device, received: server.received, epoch: self.epoch, records: bytes });
    }
}

fn gap(epoch: Epoch, first_seq: u64, last_seq: u64) -> Payload {
    Payload::Gap(Gap { class: Class::Feature, epoch, first_seq, last_seq, reason: GapReason::Evicted })
}

fn published(data: &Path, server: &Server) {
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
}

fn account(data: &Path) -> Value {
    let point = "acme/north/press/drive-end";
    ask(data, &json!({ "op": "completeness", "point": point, "from": 0, "to": i64::MAX })).expect("an account")
}

/// How the numbers of a class of an epoch stand: first, last, state and why.
fn stands(told: &Value, device: &str, epoch: u64, class: &str) -> Vec<(u64, u64, String)> {
    let ranges = told["ranges"].as_array().expect("ranges").iter();
    let own = ranges
        .filter(|range| range["device"] == device && range["epoch"].as_u64() == Some(epoch) && range["class"] == class);
    let piece = |piece: &Value| {
        let why = piece["why"].as_str().map_or_else(String::new, |why| format!(": {why}"));
        let number = |name: &str| piece[name].as_u64().expect("a number");
        (number("first"), number("last"), format!("{}{why}", piece["state"].as_str().expect("a state")))
    };
    own.flat_map(|range| range["seals"].as_array().expect("seals")).map(piece).collect()
}

fn reconciled(data: &Path) -> Value {
    ask(data, &json!({ "op": "reconcile", "repair": false })).expect("a report")
}

/// Somebody with the lab's own tools and no business here.
fn insider() -> Audit {
    Audit { who: "nobody".into(), why: "to hide it".into(), at_us: 1 }
}

async fn table(data: &Path, name: TableName) -> DeltaTable {
    DeltaTable::open(&data.join("lake"), name, 0, JournalId(9), open_gate()).await.expect("a table")
}

async fn delete(data: &Path, name: TableName, kind: (&str, &str), seq: i64) {
    let within = Some(Within { column: "seq".into(), from_us: seq, to_us: seq });
    let subject = Subject { equals: BTreeMap::from([(kind.0.into(), kind.1.into())]), within };
    let gone = table(data, name).await.erase(&subject, &insider()).await.expect("erased");
    assert_eq!(gone.expect("a row").rows, 1);
}

/// Puts a record into the lake that no device sent.
async fn put(data: &Path, device: &str, made: Record) {
    let name = TableName::of(made.class());
    let at = Micros::from_secs(50);
    let row = Row {
        device: DeviceId::new(device).expect("a good name"),
        received: at,
        offset: 1,
        event_time: at,
        event_bound: Micros(0),
        record: made,
    };
    let mut rows = Rows::new(name);
    rows.push(&Output::Row(Box::new(row)));
    table(data, name).await.restore(&rows, &[]).await.expect("written");
}

#[test]
fn d12_what_an_insider_changes_is_told_by_the_range_of_the_seal_that_it_is_under() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    let mut press = Device::new("press", 7, 5);
    let mut seals = Vec::new();
    for hundred in 0..6 {
        press.features(100);
        press.record(Payload::Event(Event::Maintenance { what: Name::new("greased").expect("a name") }));
        if hundred == 5 {
            press.record(gap(Epoch(5), 900, 901));
        }
        seals.push(press.seal().seq as i64);
        press.send(&mut server);
    }
    let lab = Lab::start(data);
    published(data, &server);
    let told = account(data);
    assert_eq!(stands(&told, "press", 5, "feature"), [(0, 599, "sealed".into())], "{told}");
    assert_eq!((&told["complete"], &told["broken"]), (&json!(true), &json!([])), "{told}");
    assert_eq!(told["keys"], json!({ "press": [{ "key": press.key(), "accepted": true }] }));
    let newest = seals[5] as u64;
    assert_eq!(
        stands(&told, "press", 5, "report"),
        [(0, newest - 1, "sealed".into()), (newest, newest, "open: not sealed yet".into())]
    );
    let report = reconciled(data);
    assert_eq!((&report["clean"], &report["seals"]["seals"]), (&json!(true), &json!(6)), "{report}");
    lab.terminate();

    let mut forger = Device::new("press", 8, 5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // One value of a row; a row; a row behind a gap that nobody told; a row behind a gap that another key seals; a seal.
        let set = BTreeMap::from([("rpm".to_owned(), json!(1490.0))]);
        let correction = Correction { device: "press".into(), epoch: 5, class: "feature".into(), seq: 42, set };
        let done = table(data, TableName::Features).await.correct(&correction, &insider()).await;
        assert!(done.expect("corrected").is_some());
        delete(data, TableName::Features, ("device", "press"), 150).await;
        delete(data, TableName::Features, ("device", "press"), 250).await;
        forger.next = BTreeMap::from([(Class::Gap, 70), (Class::Report, 70)]);
        put(data, "press", forger.record(gap(Epoch(5), 250, 250))).await;
        forger.open.clear();
        delete(data, TableName::Features, ("device", "press"), 350).await;
        put(data, "press", forger.record(gap(Epoch(5), 350, 350))).await;
        put(data, "press", forger.seal()).await;
        delete(data, TableName::Events, ("kind", "seal"), seals[4]).await;
        // And the words beside what a record says, of the last event.
        let set = BTreeMap::from([("label".to_owned(), json!("all is well"))]);
        let correction = Correction { device: "press".into(), epoch: 5, class: "event".into(), seq: 5, set };
        let done = table(data, TableName::Events).await.correct(&correction, &insider()).await;
        assert!(done.expect("corrected").is_some());
    });
    let lab = Lab::start(data);
    let told = account(data);
    let unsealed = "open: gap inside that no seal vouches for: evicted".to_owned();
    assert_eq!(
        stands(&told, "press", 5, "feature"),
        [
            (0, 99, "broken: hash: the rows are not what the device recorded".into()),
            (100, 199, "broken: rows: 150..=150 were taken and are gone".into()),
            (200, 399, unsealed),
            (400, 499, "open: no seal covers it".into()),
            (500, 599, "sealed".into()),
        ],
        "{told}"
    );
    assert_eq!(stands(&told, "press", 5, "event")[2].2, "broken: rows: 5..=5 do not hold what a device records");
    let broken: Vec<String> = told["broken"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|broken| format!("{} {}", broken["class"], broken["what"]))
        .collect();
    let says = |what: &str| broken.iter().any(|broken| broken.contains(what));
    assert!(says("\"gap\" \"key: another key"), "{broken:?}");
    assert!(says("\"report\" \"chain: the seal that the next names is gone"), "{broken:?}");
    assert_eq!(told["complete"], false);
    let keys = json!([{ "key": press.key(), "accepted": true }, { "key": forger.key(), "accepted": false }]);
    assert_eq!(told["keys"]["press"], keys);
    let report = reconciled(data);
    assert_eq!(report["clean"], false);
    assert_eq!(report["damaged"], json!([]), "each file is what its log says");
    assert!(report["seals"]["broken"].as_array().is_some_and(|broken| broken.len() >= 6), "{report}");
    let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab")).arg("reconcile").arg("--data").arg(data).output();
    assert!(!output.expect("it runs").status.success());
    lab.terminate();
}

#[test]
fn d12_what_happens_to_honest_devices_is_sealed_or_open_with_its_reason_and_never_broken() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    let mut press = Device::new("press", 7, 5);
    let lab = Lab::start(data);
    // Each hundred is a file of its own, until they are put together.
    for hundred in 0..4 {
        press.features(100);
        press.seal();
        if hundred == 2 {
            // Sealed, and evicted before it left.
            let evicted = |record: &Record| record.class() == Class::Feature && (250..260).contains(&record.seq);
            press.unsent.retain(|record| !evicted(record));
            press.record(gap(Epoch(5), 250, 259));
        }
        press.send(&mut server);
        published(data, &server);
    }
    // A copy of it goes on from the same seal in an epoch of its own; an older image seals again what it holds.
    let mut copy = Device { epoch: Epoch(6), ..Device::new("press", 7, 6) };
    copy.before = press.before;
    copy.features(10);
    copy.seal();
    copy.send(&mut server);
    let mut image = Device::new("press", 7, 5);
    image.features(50);
    image.unsent.clear();
    (image.before, image.epoch) = (copy.before, Epoch(5));
    image.next.insert(Class::Report, 40);
    image.seal();
    image.send(&mut server);
    // Another device seals nothing; one was set up anew and has another key.
    server.features("lathe", 0..20);
    let mut anew = Device::new("press", 9, 7);
    anew.features(5);
    anew.seal();
    anew.send(&mut server);
    published(data, &server);
    lab.kill();
    let lab = Lab::start(data);
    published(data, &server);
    let ask_done = |request: Value| ask(data, &request).expect("done");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // A file is lost, and what it held is put back.
    let files =
        runtime.block_on(async { table(data, TableName::Features).await.snapshot().expect("a snapshot").files });
    std::fs::remove_file(&files[0].path).expect("it was there");
    let asked = json!({ "point": null, "device": "press", "from": 0, "to": i64::MAX });
    let back = ask_done(json!({ "op": "refetch", "asked": asked, "who": "ops", "why": "a file is gone" }));
    assert!(back["restored_rows"].as_u64().is_some_and(|rows| rows > 0), "{back}");
    let told = account(data);
    assert_eq!(stands(&told, "press", 5, "feature")[0], (0, 199, "sealed".into()), "{told}");
    let who = json!({ "who": "ops", "why": "asked for" });
    let set = json!({ "device": "press", "epoch": 5, "class": "feature", "seq": 150, "set": { "rpm": 1480.5 } });
    ask_done(json!({ "op": "correct", "correction": set, "who": who["who"], "why": who["why"] }));
    let equals = json!({ "device": "press", "class": "feature" });
    let (from_us, to_us) = (300_000_000, 304_000_000);
    ask_done(
        json!({ "op": "erase", "equals": equals, "from_us": from_us, "to_us": to_us, "who": who["who"], "why": who["why"] }),
    );
    let told = account(data);
    let other = "open: sealed by a key that is not the first one seen of the device".to_owned();
    assert_eq!(told["broken"], json!([]), "{told}");
    assert_eq!(
        stands(&told, "press", 5, "feature"),
        [
            (0, 99, "sealed".into()),
            (100, 199, "open: corrected".into()),
            (200, 299, "open: gap inside: evicted".into()),
            (300, 399, "open: erased".into()),
        ]
    );
    assert_eq!(stands(&told, "press", 5, "gap"), [(0, 0, "sealed".into())]);
    assert_eq!(stands(&told, "press", 6, "feature"), [(0, 9, "sealed".into())], "of a copy");
    assert_eq!(stands(&told, "press", 7, "feature"), [(0, 4, other)]);
    assert_eq!(stands(&told, "lathe", 5, "feature"), [(0, 19, "open: the device seals nothing".into())]);
    let report = reconciled(data);
    assert_eq!((&report["clean"], &report["seals"]["broken"]), (&json!(true), &json!([])), "{report}");

    // A person compares the two and lets the device seal with its new key.
    let accept = |key: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
            .args(["accept-key", "press", key, "--who", "ops", "--why", "a new disk", "--data"])
            .arg(data)
            .output();
        output.expect("it runs").status.success()
    };
    assert!(!accept("0000-0000"), "nobody has sealed with that");
    assert!(accept(&anew.key()));
    assert_eq!(stands(&account(data), "press", 7, "feature"), [(0, 4, "sealed".into())]);
    lab.terminate();
    assert!(std::fs::read_to_string(data.join("lab/audit.jsonl")).expect("an audit").contains(&anew.key()));

    // A seal that an older lab could not read lies among what was set aside, and counts from there.
    runtime.block_on(async {
        let events = table(data, TableName::Events).await;
        let rows = events.read_as_of(events.version()).await.expect("rows");
        let seal =
            (0..rows.len()).find(|row| rows.text("kind", *row) == Some("seal") && rows.int64("epoch", *row) == Some(6));
        let Some(Output::Row(row)) = rows.output(seal.expect("a seal of the copy")) else { panic!("a row") };
        let mut room = [0; 4097];
        let bytes = encode_record(&row.record, &mut room).expect("it fits").to_vec();
        let (device, received, offset, reason) = (row.device.clone(), row.received, 1, "record_version".to_owned());
        let mut aside = Rows::new(TableName::Quarantine);
        aside.push(&Output::Quarantine { device, received, offset, reason, bytes });
        table(data, TableName::Quarantine).await.restore(&aside, &[]).await.expect("written");
        let within = Some(Within { column: "epoch".into(), from_us: 6, to_us: 6 });
        let subject = Subject { equals: BTreeMap::from([("kind".into(), "seal".into())]), within };
        table(data, TableName::Events).await.erase(&subject, &insider()).await.expect("moved");
    });
    let lab = Lab::start(data);
    let told = account(data);
    assert_eq!(stands(&told, "press", 6, "feature"), [(0, 9, "sealed".into())], "{told}");
    assert_eq!(told["broken"], json!([]), "{told}");
    lab.terminate();
}

//! The lab is killed before each step of a round: data files, log entries, the fold's snapshot, the publication; then the journal is
//! lost. Whatever the devices send again to the new journal, the lake holds each record once.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kilter_fold::{Entry, MarkState};
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key, RealFilesystem};
use kilter_lake::{
    Audit, Correction, Gate, Reason, Rows, Streams, Subject, Table, TableName, Values, collect, open_gate,
};
use kilter_types::{
    DeviceId, Epoch, Event, FeatureRow, FeatureVector, GroupKind, JournalId, Micros, Monotonic, Name, OperatingState,
    Payload, Point, Quality, Record, Rpm, SchemaHash, Timeline,
};
use kilter_wire::{Batch, BatchRecord, encode_record};
use tokio::sync::oneshot;

use crate::commit::{Committer, Status};
use crate::config;
use crate::lab::{Lab, Wait, read_on};
use crate::upkeep::Order;

/// A journal as the server writes it.
struct Server {
    journal: Journal,
    seq: u64,
}

impl Server {
    fn open(data: &Path, journal_id: u64, marks: Vec<MarkState>) -> Self {
        let config = Config {
            segment_bytes: 1 << 20,
            max_bytes: 1 << 30,
            fsync: FsyncPolicy::Always,
            reserve_bytes: 0,
            drop_policy: Drop::Never,
            keep_bytes: 0,
        };
        let (journal, _) = Journal::open(RealFilesystem, &data.join("journal"), config, journal_id).expect("a journal");
        let mut server = Self { journal, seq: 0 };
        server.append(Entry::Opened { journal_id: JournalId(journal_id), at: Micros(1), marks });
        server
    }

    fn append(&mut self, entry: Entry) {
        let key = Key { class: entry.kind(), epoch: self.journal.id(), seq: self.seq };
        self.seq += 1;
        self.journal.append(key, &entry.encode(), false).expect("room");
        self.journal.sync().expect("a healthy disk");
    }

    /// A feature row and an event with each of these seqs.
    fn records(&mut self, seqs: std::ops::Range<u64>) {
        let (mut bytes, mut used) = (vec![0; 100_000], 0);
        for seq in seqs {
            for payload in [window(seq), Payload::Event(Event::Maintenance { what: Name::new("oil").expect("a name") })]
            {
                let record = record(seq, payload);
                let mut room = [0; 4096];
                let encoded = encode_record(&record, &mut room).expect("a record fits");
                let part = BatchRecord { class: record.class() as u8, seq, bytes: encoded };
                assert!(Batch::push(&mut bytes, &mut used, part), "a batch fits");
            }
        }
        bytes.truncate(used);
        let device = DeviceId::new("press").expect("a good name");
        self.append(Entry::Batch { device, received: Micros(2), epoch: Epoch(5), records: bytes });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_kill_before_any_step_of_a_round_and_a_lost_journal_double_nothing() {
    let mut kills = 0;
    for steps in 0.. {
        let data = room();
        let data = data.path();
        let mut server = Server::open(data, 9, Vec::new());
        server.records(0..10);
        life(data, open_gate()).await.expect("the first round");
        server.records(10..20);
        let survived = life(data, power_for(steps)).await.is_ok();
        let published = published(data);
        // The journal is lost; the device sends all that was not acknowledged as committed, and goes on.
        std::fs::remove_dir_all(data.join("journal")).expect("removed");
        let from = published.iter().map(|mark| mark.to).min().unwrap_or(0);
        assert!(!survived || from == 20, "told and not published after {steps} steps");
        let mut server = Server::open(data, 10, published);
        server.records(from..25);
        if steps % 3 == 0 {
            // The lab dies at once and the second journal is lost as well, nothing of it published.
            let _ = life(data, power_for(steps % 17)).await;
            let published = self::published(data);
            std::fs::remove_dir_all(data.join("journal")).expect("removed");
            let from = published.iter().map(|mark| mark.to).min().unwrap_or(0);
            server = Server::open(data, 11, published);
            server.records(from..25);
        }
        life(data, open_gate()).await.expect("the last round");
        drop(server);
        let (records, doubled) = held(data).await;
        assert!(doubled.is_empty(), "doubled after {steps} steps: {doubled:?}");
        let counts: Vec<_> = records.values().map(|ranges| (ranges.span(), ranges.count())).collect();
        assert_eq!(counts, [(Some((0, 24)), 25); 2], "after {steps} steps");
        if survived {
            break;
        }
        kills += 1;
    }
    assert!(kills > 20, "a round has more than {kills} steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s0_27_an_erasure_that_is_killed_before_any_step_is_ended_with_its_whole_account() {
    for steps in 0.. {
        let data = room();
        let data = data.path();
        let mut server = Server::open(data, 9, Vec::new());
        server.records(0..10);
        life(data, open_gate()).await.expect("the first round");
        std::fs::write(data.join("lab/pins.json"), r#"{"abc":{"versions":{"events":1},"erased_at_us":null}}"#)
            .expect("written");
        let equals = [("device".to_owned(), "press".to_owned())].into();
        let subject = Subject { equals, within: None };
        let (who, why) = ("dpo@acme".to_owned(), "contract ended".to_owned());
        let (told, answer) = oneshot::channel();
        let order = Order::Erase { subject, audit: Audit { who, why, at_us: 77 }, done: told };
        let begun = match committer(data, power_for(steps)).await {
            Ok(mut committer) => {
                committer.obey(order).await;
                answer.await.ok()
            }
            Err(_) => None,
        };
        let Some(done) = begun else { continue };
        // The next start ends it.
        committer(data, open_gate()).await.expect("the lab opens").finish_erasures().await;
        let (records, _) = held(data).await;
        assert!(records.is_empty(), "after {steps} steps: {records:?}");
        let files = crate::files::Files::open(data, open_gate()).expect("a folder");
        let erased: Vec<_> =
            files.erased(Reason::Erase).values().map(|ranges| (ranges.span(), ranges.count())).collect();
        assert_eq!(erased, [(Some((0, 9)), 10); 2], "after {steps} steps the account does not name what went");
        assert_eq!(files.pins()["abc"].erased_at_us, Some(77), "after {steps} steps");
        assert!(files.unfinished().is_empty());
        if done.is_ok() {
            assert!(steps > 10, "an erasure has more than {steps} steps");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_a_correction_that_is_killed_before_any_step_is_ended_once_and_told_with_what_stood_there_before() {
    for steps in 0.. {
        let data = room();
        let data = data.path();
        let mut server = Server::open(data, 9, Vec::new());
        server.records(0..10);
        life(data, open_gate()).await.expect("the first round");
        std::fs::write(data.join("lab/pins.json"), r#"{"abc":{"versions":{"features":1},"erased_at_us":null}}"#)
            .expect("written");
        let (device, class) = ("press".to_owned(), "feature".to_owned());
        let set = [("rpm".to_owned(), serde_json::json!(1_480.5))].into();
        let correction = Correction { device, epoch: 5, class, seq: 4, set };
        let (told, answer) = oneshot::channel();
        let audit = Audit { who: "fitter".into(), why: "wrong gear".into(), at_us: 77 };
        let order = Order::Correct { correction, audit, done: told };
        let begun = match committer(data, power_for(steps)).await {
            Ok(mut committer) => {
                committer.obey(order).await;
                answer.await.ok()
            }
            Err(_) => None,
        };
        let Some(done) = begun else { continue };
        // The next start ends it, and the one after that finds nothing to do.
        for _ in 0..2 {
            committer(data, open_gate()).await.expect("the lab opens").finish_erasures().await;
        }
        let lab = Lab::open_at(data, Wait::No, open_gate()).await.expect("the lab opens");
        let table = &lab.tables[&TableName::Features];
        let rows = table.read_as_of(table.version()).await.expect("rows");
        let speeds: Vec<_> = (0..rows.len()).map(|row| (rows.int64("seq", row), rpm(&rows, row))).collect();
        let corrected: Vec<_> = speeds.iter().filter(|(_, rpm)| *rpm != 1_500.0).collect();
        assert_eq!((speeds.len(), corrected), (10, vec![&(Some(4), 1_480.5)]), "after {steps} steps");
        assert_eq!(table.version(), 2, "after {steps} steps: one commit");
        let before = table.read_as_of(1).await.expect("the past");
        assert!((0..before.len()).all(|row| rpm(&before, row) == 1_500.0), "the past reads as it was");
        assert!(lab.files.unfinished_corrections().is_empty());
        assert_eq!(lab.files.pins()["abc"].corrected_at_us, Some(77), "after {steps} steps");
        let audit = std::fs::read_to_string(data.join("lab/audit.jsonl")).expect("the audit");
        assert!(audit.contains(r#""was":{"rpm":1500.0}"#), "after {steps} steps: {audit}");
        if done.is_ok() {
            assert!(steps > 5, "a correction has more than {steps} steps");
            break;
        }
    }
}

fn rpm(rows: &Rows, row: usize) -> f32 {
    match rows.column("rpm") {
        Some(Values::Float32(values)) => values[row].expect("a speed"),
        other => panic!("no speeds: {other:?}"),
    }
}
/// Opens the lab, reads all there is, commits and publishes; the gate may stop it anywhere.
async fn life(data: &Path, gate: Gate) -> anyhow::Result<()> {
    committer(data, gate).await?.round().await
}

async fn committer(data: &Path, gate: Gate) -> anyhow::Result<Committer> {
    let mut lab = Lab::open_at(data, Wait::ForJournal, gate).await?;
    while read_on(&mut lab.reader, &mut lab.state, usize::MAX)? {}
    let derived = crate::derived::Derived::open(&lab.files)?;
    Ok(Committer {
        state: Arc::new(Mutex::new(lab.state)),
        tables: lab.tables,
        files: lab.files,
        journal_id: lab.journal_id,
        config: config::Commit::default(),
        upkeep: config::Upkeep::default(),
        status: Arc::new(Mutex::new(Status::default())),
        vacuumed: None,
        roll_ups: crate::rollups::RollUps::new(data.join("lab/rollups")),
        derived,
    })
}

/// Lets `steps` steps pass, then none: what a process does that is killed there.
fn power_for(steps: usize) -> Gate {
    let passed = AtomicUsize::new(0);
    Arc::new(move |_, _| match passed.fetch_add(1, Ordering::Relaxed) < steps {
        true => Ok(()),
        false => Err(io::Error::other("killed")),
    })
}

fn published(data: &Path) -> Vec<MarkState> {
    let files = crate::files::Files::open(data, open_gate()).expect("a folder");
    files.committed().map(|committed| committed.marks).unwrap_or_default()
}

/// What features and events hold, and what they hold twice.
async fn held(data: &Path) -> (Streams, Streams) {
    let lab = Lab::open_at(data, Wait::No, open_gate()).await.expect("the lab opens");
    let (mut records, mut doubled) = (Streams::new(), Streams::new());
    for name in [TableName::Features, TableName::Events] {
        let table = &lab.tables[&name];
        let rows = table.read_as_of(table.version()).await.expect("rows");
        doubled.extend(collect(&rows, &mut records));
    }
    (records, doubled)
}

fn record(seq: u64, payload: Payload) -> Record {
    Record {
        point: Point::parse("acme/north/press/drive-end").expect("a good address"),
        epoch: Epoch(5),
        seq,
        monotonic: Monotonic(seq),
        timeline: Timeline::Source,
        wall: Some(Micros::from_secs(seq as i64)),
        uncertainty: Micros(0),
        payload,
    }
}

fn window(index: u64) -> Payload {
    Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: Micros(0),
        end: Micros(1),
        state: OperatingState::Steady(0),
        rpm: Rpm(1_500.0),
        quality: Quality::GOOD,
        vector: FeatureVector { schema: SchemaHash(7), values: [1.0].into_iter().collect(), valid: 1 },
    })
}

/// In memory where there is such a folder: what is fsynced here is thrown away.
fn room() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

//! A journal as the server writes it, and the real lab on it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kilter_fold::{Entry, MarkState};
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key, RealFilesystem};
use kilter_types::{
    DeviceId, Epoch, FeatureRow, FeatureVector, GroupKind, JournalId, Micros, Monotonic, OperatingState, Payload,
    Point, Quality, Record, Rpm, SchemaHash, Timeline,
};
use kilter_wire::{Batch, BatchRecord, encode_record};
use serde_json::{Value, json};

/// What the server does to a journal, without the server.
pub(crate) struct Server {
    pub(crate) journal: Journal,
    seq: u64,
    pub(crate) received: Micros,
    /// Between two records, in seconds of event time.
    pub(crate) apart_s: i64,
    /// Whose records they are.
    pub(crate) machine: &'static str,
}

impl Server {
    pub(crate) fn open(data: &Path, journal_id: u64, marks: Vec<MarkState>) -> Self {
        Self::open_with(data, journal_id, marks, 1 << 20)
    }

    /// The same with segments of this size.
    pub(crate) fn open_with(data: &Path, journal_id: u64, marks: Vec<MarkState>, segment_bytes: u64) -> Self {
        let config = Config {
            segment_bytes,
            max_bytes: 1 << 30,
            fsync: FsyncPolicy::Always,
            reserve_bytes: 0,
            drop_policy: Drop::Never,
            keep_bytes: 0,
        };
        let (journal, _) = Journal::open(RealFilesystem, &data.join("journal"), config, journal_id).expect("a journal");
        let mut server = Self { journal, seq: 0, received: Micros::from_secs(100), apart_s: 1, machine: "press" };
        server.append(Entry::Opened { journal_id: JournalId(journal_id), at: Micros(1), marks });
        server
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        let key = Key { class: entry.kind(), epoch: self.journal.id(), seq: self.seq };
        self.seq += 1;
        self.journal.append(key, &entry.encode(), false).expect("room");
        self.journal.sync().expect("a healthy disk");
    }

    /// A batch of feature rows with these seqs from one device.
    pub(crate) fn features(&mut self, device: &str, seqs: std::ops::Range<u64>) {
        self.records(device, seqs.map(|seq| (seq, features(seq))));
    }

    pub(crate) fn records(&mut self, device: &str, payloads: impl Iterator<Item = (u64, Payload)>) {
        let (mut bytes, mut used) = (vec![0; 200_000], 0);
        for (seq, payload) in payloads {
            let wall = Some(Micros::from_secs(seq as i64 * self.apart_s));
            let point = Point::parse(&format!("acme/north/{}/drive-end", self.machine)).expect("a good address");
            let record = Record { wall, point, ..record(seq, payload) };
            let mut room = [0; 4096];
            let encoded = encode_record(&record, &mut room).expect("a record fits");
            let part = BatchRecord { class: record.class() as u8, seq, bytes: encoded };
            assert!(Batch::push(&mut bytes, &mut used, part), "a batch fits");
        }
        bytes.truncate(used);
        let device = DeviceId::new(device).expect("a good name");
        self.append(Entry::Batch { device, received: self.received, epoch: Epoch(5), records: bytes });
    }
}

pub(crate) fn record(seq: u64, payload: Payload) -> Record {
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

pub(crate) fn features(index: u64) -> Payload {
    let values = [index as f32, 1.0].into_iter().collect();
    Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: Micros(0),
        end: Micros(1),
        state: OperatingState::Steady(0),
        rpm: Rpm(1_500.0),
        quality: Quality::GOOD,
        vector: FeatureVector { schema: SchemaHash(7), values, valid: 3 },
    })
}

/// A running `kilter-lab serve`, killed when dropped.
pub(crate) struct Lab(Child);

impl Lab {
    pub(crate) fn start(data: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("lab.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
            .args(["serve", "--data"])
            .arg(data)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the lab starts");
        Self(child)
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    pub(crate) fn terminate(mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl std::ops::Drop for Lab {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until the lab is there; what it answers.
pub(crate) fn ask(data: &Path, request: &Value) -> Result<Value, String> {
    let mut stream = within(60, || UnixStream::connect(data.join("lab.sock")).ok());
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| error.to_string())?;
    for line in BufReader::new(stream).lines() {
        let mut answer: Value = serde_json::from_str(&line.map_err(|error| error.to_string())?).expect("JSON");
        if let Some(ok) = answer.get_mut("ok") {
            return Ok(ok.take());
        }
        if let Some(error) = answer["error"].as_str() {
            return Err(error.into());
        }
    }
    Err("the lab went away".into())
}

pub(crate) fn seqs(data: &Path) -> Vec<u64> {
    let answer =
        ask(data, &json!({ "op": "query", "sql": "SELECT seq FROM features ORDER BY seq" })).expect("an answer");
    answer["rows"].as_array().expect("rows").iter().map(|row| row[0].as_u64().expect("a seq")).collect()
}

/// Polls for what other processes do.
#[expect(clippy::disallowed_methods, reason = "other processes are waited for, in real time")]
pub(crate) fn within<T>(secs: u64, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(secs);
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < end, "not within {secs} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn committed(data: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(data.join("lab/committed.json")).ok()?).ok()
}

pub(crate) fn config(data: &Path, text: &str) {
    std::fs::write(data.join("lab.toml"), text).expect("a folder that can be written");
}

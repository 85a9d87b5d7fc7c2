//! An agent of wire version 1, as the bytes that it was released with, at the listener of this build.
//!
//! The frames and records are the golden files of version 1, which nobody may edit; they walk through the real listener, admission and
//! fold, and what comes back is read by what a reader of version 1 looks at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use kilter_fold::{Entry, Fold, Output};
use kilter_ingest::listener::Limits;
use kilter_ingest::{Admission, Admit, DeviceLink};
use kilter_types::{Epoch, JournalId, Micros, Record};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Ack, Batch, BatchRecord, Down, TimeReply, Up, decode_record};

use crate::device::{Device, Door, principal};

const AGENT: &str = "edge-1";

#[tokio::test]
async fn every_record_of_version_1_becomes_a_row_and_every_answer_is_of_version_1() {
    let mut aggregator = Aggregator::open().await;
    let mut agent = Device::connect(&aggregator.door, AGENT).await;
    agent.subscribe_down().await;
    aggregator.hear(&agent, &golden("up_hello.bin")).await;
    assert!(matches!(said(&agent.mail().await), Down::Ack(_)), "an agent of version 1 knows no welcome");

    let (mut batch, mut used, mut sent) = (vec![0; 16 * 1024], 0, BTreeMap::new());
    for name in names("record_") {
        let bytes = golden(&name);
        let record = decode_record(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let key = (record.class(), record.seq);
        let outer = BatchRecord { class: record.class() as u8, seq: record.seq, bytes: &bytes };
        assert_eq!(record.epoch, epoch(), "{name} is of the epoch that the introduction names");
        // Samples of one class may share a number; who comes first is new.
        if sent.insert(key, record).is_none() {
            assert!(Batch::push(&mut batch, &mut used, outer));
        }
    }
    assert!(sent.len() >= 8, "a record of every class that version 1 had: {:?}", sent.keys());
    let up = Up::Batch(Batch { epoch: epoch(), count: sent.len() as u16, records: &batch[..used] });
    let mut room = vec![0; used + 64];
    aggregator.hear(&agent, frame::encode(Kind::Up, &up, &mut room).expect("it fits")).await;
    let mail = agent.mail().await;
    let Down::Ack(ack) = said(&mail) else { panic!("no ack") };
    assert_eq!(ack.epoch, epoch());
    let taken: usize = sent.keys().filter(|(class, seq)| accepted(&ack, *class, *seq)).count();
    assert_eq!(taken, sent.len(), "{ack:?}");
    let rows: Vec<&Record> = aggregator.rows.iter().collect();
    assert_eq!(rows.len(), sent.len());
    assert!(rows.iter().all(|row| sent.get(&(row.class(), row.seq)).is_some_and(|record| **row == *record)));

    // Again, as after a lost ack: nothing is doubled.
    aggregator.hear(&agent, frame::encode(Kind::Up, &up, &mut room).expect("it fits")).await;
    assert!(matches!(said(&agent.mail().await), Down::Ack(_)));
    assert_eq!(aggregator.rows.len(), sent.len());
    aggregator.end().await;
}

#[tokio::test]
async fn every_message_that_version_1_could_say_is_let_in() {
    let mut aggregator = Aggregator::open().await;
    let mut agent = Device::connect(&aggregator.door, AGENT).await;
    agent.subscribe_down().await;
    for name in names("up_") {
        let bytes = golden(&name);
        assert_eq!(bytes[1], 1, "{name}");
        aggregator.hear(&agent, &bytes).await;
    }
    assert_eq!(aggregator.admission.counters().quarantined, BTreeMap::new(), "of its frames none");
    let mut replies = 0;
    for _ in 0..aggregator.answers {
        replies += usize::from(matches!(said(&agent.mail().await), Down::TimeReply(_)));
    }
    assert_eq!(replies, 1);
    aggregator.end().await;
}

/// Listener, admission and fold; its journal is memory.
struct Aggregator {
    door: Door,
    admission: Admission,
    fold: Fold,
    rows: Vec<Record>,
    answers: usize,
}

impl Aggregator {
    async fn open() -> Self {
        let mut fold = Fold::new();
        fold.apply(0, Entry::Opened { journal_id: JournalId(1), at: Micros(0), marks: Vec::new() }, &mut |_| {});
        let door = Door::open(Limits::default()).await;
        Self { door, admission: Admission::new(1 << 20), fold, rows: Vec::new(), answers: 0 }
    }

    /// The agent says this, and gets its answer.
    async fn hear(&mut self, agent: &Device, frame: &[u8]) {
        agent.publish(frame).await;
        let inbound = self.door.next().await;
        let device = inbound.device.clone();
        assert_eq!(device, principal(AGENT));
        let answer = match self.admission.admit(&device, &inbound.payload, Micros(7)) {
            Admit::Hello(hello) => {
                assert_eq!(hello.wire_version, 1);
                Some(Down::Ack(self.marks()))
            }
            Admit::Batch(batch) => {
                let records = batch.records.into_owned();
                self.admission.settle(&device, records.len());
                let device = device.device.clone();
                let entry = Entry::Batch { device, received: Micros(7), epoch: batch.epoch, records };
                let rows = &mut self.rows;
                self.fold.apply(1, entry, &mut |output| match output {
                    Output::Row(row) => rows.push(row.record),
                    // The sample of a batch holds bytes that are no records.
                    Output::Quarantine { .. } => {}
                });
                Some(Down::Ack(self.marks()))
            }
            Admit::TimeRequest { request, .. } => Some(Down::TimeReply(TimeReply {
                id: request.id,
                sent: request.sent,
                received: Micros(7),
                replied: Micros(8),
            })),
            Admit::Fetch(_) | Admit::CommandResult(_) => None,
            other @ (Admit::Quarantine { .. } | Admit::Refuse(_)) => panic!("{other:?}"),
        };
        if let Some(answer) = answer {
            let mut room = vec![0; 4096];
            let bytes = Bytes::copy_from_slice(frame::encode(Kind::Down, &answer, &mut room).expect("it fits"));
            self.door.hub.send(&device, bytes).expect("the agent is there");
            self.answers += 1;
        }
        inbound.ack.accept();
    }

    fn marks(&self) -> Ack {
        let device = principal(AGENT);
        let classes = self.fold.acks(&device.device, epoch()).into_iter().collect();
        let credit_bytes = self.admission.credit_bytes(&device);
        Ack { journal_id: JournalId(1), epoch: epoch(), classes, credit_bytes }
    }

    async fn end(mut self) {
        self.door.stop();
        self.door.ended().await;
    }
}

/// What came down; a reader of version 1 refuses any other version by its number.
fn said(mail: &[u8]) -> Down<'_> {
    assert_eq!(mail[1], 1, "an agent of version 1 can't read this");
    frame::decode(Kind::Down, mail).expect("a good frame")
}

fn accepted(ack: &Ack, class: kilter_types::Class, seq: u64) -> bool {
    let marks = ack.classes.iter().find(|marks| marks.class == class);
    marks.is_some_and(|marks| {
        seq < marks.accepted_to || marks.beyond.iter().any(|range| range.first <= seq && seq <= range.last)
    })
}

/// The epoch of the samples.
fn epoch() -> Epoch {
    Epoch(0x0123_4567_89ab_cdef)
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every golden file of version 1 whose name begins so.
fn names(start: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("the golden folder");
    let names = files.map(|file| file.expect("listed").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(start)).collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/wire/tests/golden/v1")
}

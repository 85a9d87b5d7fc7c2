//! A device with a backlog, behind a good link to an aggregator that accepts everything at once.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{Class, DeviceId, Epoch, JournalId, Monotonic, Name};
use kilter_uplink::{Identity, Key, Place, Session, SessionConfig, Spool, SpoolError, Urgency};
use kilter_wire::frame::Kind;
use kilter_wire::{Ack, ClassAck, SeqRange, Up, frame};

pub(crate) const BACKLOG: u64 = 5_000;
pub(crate) const RECORD_BYTES: usize = 100;
const EPOCH: Epoch = Epoch(7);

/// A journal whose entries take ten offsets each.
struct Log(Vec<Key>);

impl Spool for &Log {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        let i = from.div_ceil(10);
        Ok(self.0.get(i as usize).map(|key| {
            bytes.clear();
            bytes.resize(RECORD_BYTES, 0);
            bytes[..8].copy_from_slice(&key.seq.to_le_bytes());
            bytes[8] = key.class as u8;
            Place { key: *key, offset: i * 10, next: i * 10 + 10 }
        }))
    }
}

/// Device and aggregator.
pub(crate) struct Site {
    log: Log,
    pub(crate) next: BTreeMap<Class, u64>,
    pub(crate) session: Session,
    accepted: BTreeMap<Class, BTreeSet<u64>>,
    pub(crate) now: Monotonic,
    /// When each record was sent, with its lane.
    pub(crate) sent: Vec<(Monotonic, Urgency, Class, u64)>,
    /// Bytes of all messages.
    pub(crate) bytes: u64,
    /// What is sent is lost.
    pub(crate) deaf: bool,
}

impl Site {
    /// It was away for a backlog of features, and its link comes up now.
    pub(crate) fn back_after_an_outage(pace: u64) -> Self {
        let config = SessionConfig { batch_bytes: 2_000, back_fill_bytes_per_sec: pace, ..SessionConfig::default() };
        Self::start(config, BACKLOG)
    }

    /// Its link comes up now, with so many features to back-fill.
    pub(crate) fn start(config: SessionConfig, backlog: u64) -> Self {
        let log = Log((0..backlog).map(|seq| Key { epoch: EPOCH, class: Class::Feature, seq }).collect());
        let identity = Identity {
            device: DeviceId::new("edge-1").expect("a good id"),
            software: Name::new("test").expect("a good name"),
        };
        let mut session = Session::new(config, identity, EPOCH, Vec::new(), 0, backlog * 10);
        let now = Monotonic(1_000_000);
        session.handle_connected(now);
        let next = [(Class::Feature, backlog)].into_iter().collect();
        let (accepted, sent) = (BTreeMap::new(), Vec::new());
        let mut site = Self { log, next, session, accepted, now, sent, bytes: 0, deaf: false };
        site.exchange();
        site
    }

    pub(crate) fn append(&mut self, class: Class) {
        let seq = self.next.entry(class).or_default();
        self.log.0.push(Key { epoch: EPOCH, class, seq: *seq });
        *seq += 1;
        let end = self.log.0.len() as u64 * 10;
        if class == Class::Alarm {
            self.session.handle_urgent(end - 10);
        }
        self.session.handle_record_available(end);
    }

    /// Everything that may leave now leaves, and its acks come.
    pub(crate) fn exchange(&mut self) {
        while let Some(frame) = self.session.poll_transmit(&mut &self.log, self.now).expect("the model reads") {
            self.bytes += frame.len() as u64;
            let batch = match frame::decode::<Up<'_>>(Kind::Up, &frame).expect("a good frame") {
                Up::Batch(batch) => Some(batch),
                Up::Hello(_) | Up::TimeRequest(_) | Up::Fetch(_) | Up::CommandResult(_) | Up::Packed(_) => None,
            };
            for record in batch.iter().flat_map(kilter_wire::Batch::iter) {
                let record = record.expect("a good record");
                let class = Class::from_u8(record.class).expect("a class");
                self.sent.push((self.now, self.session.urgency(), class, record.seq));
                if !self.deaf {
                    self.accepted.entry(class).or_default().insert(record.seq);
                }
            }
            self.ack();
        }
    }

    fn ack(&mut self) {
        let classes = self.accepted.iter().map(|(class, seqs)| {
            let accepted_to = (0..).zip(seqs).take_while(|(i, seq)| i == *seq).count() as u64;
            let mut beyond: Vec<SeqRange> = Vec::new();
            for seq in seqs.range(accepted_to..) {
                match beyond.last_mut().filter(|range| range.last + 1 == *seq) {
                    Some(range) => range.last = *seq,
                    None => beyond.push(SeqRange { first: *seq, last: *seq }),
                }
            }
            let beyond = beyond.into_iter().take(8).collect();
            ClassAck { class: *class, accepted_to, beyond, committed_to: 0 }
        });
        let ack = Ack { journal_id: JournalId(1), epoch: EPOCH, classes: classes.collect(), credit_bytes: 1 << 20 };
        self.session.handle_ack(&ack, self.now);
    }

    /// Lets so much time go by, a hundredth of a second at a time; `each` happens before each look.
    pub(crate) fn pass(&mut self, secs: u64, mut each: impl FnMut(&mut Self, u64)) {
        for step in 0..secs * 100 {
            self.now.0 += 10_000;
            each(self, step);
            self.session.handle_timeout(self.now);
            self.exchange();
        }
    }

    pub(crate) fn of(&self, class: Class) -> impl Iterator<Item = &(Monotonic, Urgency, Class, u64)> {
        self.sent.iter().filter(move |(_, _, sent, _)| *sent == class)
    }
}

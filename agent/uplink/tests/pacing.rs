//! What a site does that comes back after a long outage: alarms at once, what is new before what is old, and the old at its pace.

use std::collections::BTreeMap;

use kilter_types::{Class, DeviceId, Epoch, JournalId, Monotonic, Name};
use kilter_uplink::{Identity, Key, Place, Session, SessionConfig, Spool, SpoolError, Urgency};
use kilter_wire::frame::Kind;
use kilter_wire::{Ack, ClassAck, Up, frame};

const RECORD_BYTES: usize = 100;
const BACKLOG: u64 = 5_000;
/// A twentieth of the backlog a second.
const PACE: u64 = 25_000;
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

/// A device behind a good link to an aggregator that accepts everything at once.
struct Site {
    log: Log,
    next: BTreeMap<Class, u64>,
    session: Session,
    accepted: BTreeMap<Class, u64>,
    now: Monotonic,
    /// When each record was sent, with its lane.
    sent: Vec<(Monotonic, Urgency, Class, u64)>,
}

impl Site {
    /// It was away for a backlog of features, and its link comes up now.
    fn back_after_an_outage(pace: u64) -> Self {
        let log = Log((0..BACKLOG).map(|seq| Key { epoch: EPOCH, class: Class::Feature, seq }).collect());
        let identity = Identity {
            device: DeviceId::new("edge-1").expect("a good id"),
            software: Name::new("test").expect("a good name"),
        };
        let config = SessionConfig { batch_bytes: 2_000, back_fill_bytes_per_sec: pace, ..SessionConfig::default() };
        let mut session = Session::new(config, identity, EPOCH, Vec::new(), 0, BACKLOG * 10);
        let now = Monotonic(1_000_000);
        session.handle_connected(now);
        let next = [(Class::Feature, BACKLOG)].into_iter().collect();
        let mut site = Self { log, next, session, accepted: BTreeMap::new(), now, sent: Vec::new() };
        site.exchange();
        site
    }

    fn append(&mut self, class: Class) {
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
    fn exchange(&mut self) {
        while let Some(frame) = self.session.poll_transmit(&mut &self.log, self.now).expect("the model reads") {
            let batch = match frame::decode::<Up<'_>>(Kind::Up, &frame).expect("a good frame") {
                Up::Batch(batch) => Some(batch),
                Up::Hello(_) | Up::TimeRequest(_) | Up::Fetch(_) | Up::CommandResult(_) | Up::Packed(_) => None,
            };
            for record in batch.iter().flat_map(kilter_wire::Batch::iter) {
                let record = record.expect("a good record");
                let class = Class::from_u8(record.class).expect("a class");
                self.sent.push((self.now, self.session.urgency(), class, record.seq));
                *self.accepted.entry(class).or_default() += 1;
            }
            self.ack();
        }
    }

    /// All that came is one run of seqs in each class but features, of which the newest overtake the backlog.
    fn ack(&mut self) {
        let classes = self.accepted.iter().filter(|(class, _)| **class != Class::Feature);
        let mut classes: heapless::Vec<ClassAck, 9> = classes.map(|(class, count)| full(*class, *count)).collect();
        let features: Vec<u64> =
            self.sent.iter().filter(|(_, _, class, _)| *class == Class::Feature).map(|(_, _, _, seq)| *seq).collect();
        let backlog = (0..).zip(features.iter().filter(|seq| **seq < BACKLOG)).take_while(|(i, seq)| i == *seq).count();
        let newest = features.iter().copied().filter(|seq| *seq >= BACKLOG).max();
        let beyond = newest.map(|last| kilter_wire::SeqRange { first: BACKLOG, last }).into_iter().collect();
        let _ = classes.push(ClassAck { beyond, ..full(Class::Feature, backlog as u64) });
        let ack = Ack { journal_id: JournalId(1), epoch: EPOCH, classes, credit_bytes: 1 << 20 };
        self.session.handle_ack(&ack, self.now);
    }

    /// Lets so much time go by, a hundredth of a second at a time; `each` happens before each look.
    fn pass(&mut self, secs: u64, mut each: impl FnMut(&mut Self, u64)) {
        for step in 0..secs * 100 {
            self.now.0 += 10_000;
            each(self, step);
            self.session.handle_timeout(self.now);
            self.exchange();
        }
    }

    fn of(&self, class: Class) -> impl Iterator<Item = &(Monotonic, Urgency, Class, u64)> {
        self.sent.iter().filter(move |(_, _, sent, _)| *sent == class)
    }
}

fn full(class: Class, accepted_to: u64) -> ClassAck {
    ClassAck { class, accepted_to, beyond: heapless::Vec::new(), committed_to: 0 }
}

#[test]
fn back_fill_keeps_its_pace_and_comes_in_the_order_of_the_journal() {
    let mut site = Site::back_after_an_outage(PACE);
    let begin = site.now;
    site.pass(10, |_, _| {});
    let seqs: Vec<u64> = site.of(Class::Feature).map(|(_, _, _, seq)| *seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "oldest first");
    assert!(site.of(Class::Feature).all(|(_, urgency, ..)| *urgency == Urgency::Back));
    // In no stretch of time more than its pace and one batch.
    for (at, ..) in site.of(Class::Feature) {
        let until = site.of(Class::Feature).filter(|(other, ..)| other.0 <= at.0).count() as u64 * RECORD_BYTES as u64;
        let allowed = PACE * (at.0 - begin.0) / 1_000_000 + 2_000;
        assert!(until <= allowed, "{until} bytes after {} us, {allowed} are allowed", at.0 - begin.0);
    }
    let sent = seqs.len() as u64 * RECORD_BYTES as u64;
    assert!(sent >= PACE * 10 * 9 / 10, "the pace is used: {sent} bytes in 10 s");
}

#[test]
fn what_is_new_never_waits_behind_a_paced_backlog_and_alarms_wait_for_nothing() {
    let mut site = Site::back_after_an_outage(PACE);
    let (mut live, mut alarms) = (Vec::new(), Vec::new());
    site.pass(10, |site, step| {
        if step % 10 == 3 {
            live.push((site.now, site.next[&Class::Feature]));
            site.append(Class::Feature);
        }
        if step % 100 == 7 {
            alarms.push((site.now, site.next.get(&Class::Alarm).copied().unwrap_or(0)));
            site.append(Class::Alarm);
        }
    });
    for (at, seq) in live {
        let sent = site.of(Class::Feature).find(|(_, _, _, sent)| *sent == seq).expect("it was sent");
        assert_eq!((sent.0, sent.1), (at, Urgency::Live), "window {seq} waited");
    }
    for (at, seq) in alarms {
        let sent = site.of(Class::Alarm).find(|(_, _, _, sent)| *sent == seq).expect("it was sent");
        assert_eq!((sent.0, sent.1), (at, Urgency::Alarm), "alarm {seq} waited");
    }
    let old = site.of(Class::Feature).filter(|(_, urgency, ..)| *urgency == Urgency::Back).count();
    assert!(old > 1_000, "the backlog goes on between them: {old}");
}

#[test]
fn without_a_pace_the_backlog_leaves_as_fast_as_it_is_accepted_and_an_alarm_still_goes_first() {
    let mut site = Site::back_after_an_outage(0);
    assert_eq!(site.of(Class::Feature).count() as u64, BACKLOG, "all at once");
    site.append(Class::Alarm);
    let before = site.sent.len();
    site.append(Class::Feature);
    site.exchange();
    assert_eq!(site.sent[before].2, Class::Alarm);
}

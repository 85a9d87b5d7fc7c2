//! What the lake lost is sent again from what the journal keeps, and what it does not keep is told to be gone.

use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key as Outer};
use kilter_types::{Class, DeviceId, Epoch, Gap, GapReason, JournalId, Monotonic, Name};
use kilter_uplink::{Identity, JournalSpool, Session, SessionConfig};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Ack, ClassAck, Refetch, SeqRange, Up};

const DIR: &str = "/journal";
const EPOCH: Epoch = Epoch(5);

/// A session that has delivered everything, and the journal that keeps the newest half of it.
struct House {
    session: Session,
    spool: JournalSpool<MemoryFilesystem>,
    journal: Journal<MemoryFilesystem>,
    now: Monotonic,
}

impl House {
    fn new(config: SessionConfig) -> Self {
        let fs = MemoryFilesystem::new();
        let journal = Config {
            segment_bytes: 2048,
            max_bytes: 1 << 20,
            fsync: FsyncPolicy::Always,
            reserve_bytes: 0,
            drop_policy: Drop::Never,
            keep_bytes: 20_000,
        };
        let (mut journal, _) = Journal::open(fs.clone(), Path::new(DIR), journal, 7).expect("opens");
        for seq in 0..300 {
            for class in [Class::Feature, Class::Score] {
                let key = Outer { class: class as u8, epoch: EPOCH.0, seq };
                journal.append(key, &[seq as u8; 40], false).expect("fits");
            }
        }
        let identity = Identity {
            device: DeviceId::new("press").expect("a good name"),
            software: Name::new("test").expect("a good name"),
        };
        let mut session = Session::new(config, identity, EPOCH, vec![EPOCH], 0, journal.durable().0);
        let mut spool = JournalSpool::open(&fs, Path::new(DIR)).expect("opens");
        session.handle_connected(Monotonic(0));
        session.handle_ack(&ack(EPOCH), Monotonic(0));
        let released = session.poll_release(&mut spool).expect("reads").expect("all is committed");
        journal.release(kilter_journal::Offset(released)).expect("releases");
        let mut house = Self { session, spool, journal, now: Monotonic(1) };
        assert!(house.frames().is_empty(), "nothing waits");
        house
    }

    /// Records that go out now, frame by frame.
    fn frames(&mut self) -> Vec<Vec<(u8, u64)>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.session.poll_transmit(&mut self.spool, self.now).expect("reads") {
            if let Up::Batch(batch) = frame::decode::<Up<'_>>(Kind::Up, &frame).expect("a good frame") {
                assert_eq!(batch.epoch, EPOCH);
                let key = |record: kilter_wire::BatchRecord<'_>| {
                    assert_eq!(record.bytes, [record.seq as u8; 40], "as it was made");
                    (record.class, record.seq)
                };
                frames.push(batch.iter().map(|record| key(record.expect("a good record"))).collect());
            }
        }
        frames
    }

    /// Everything that goes out when each batch is answered.
    fn answered(&mut self) -> Vec<(u8, u64)> {
        let mut all = Vec::new();
        loop {
            let frames = self.frames();
            assert!(frames.len() <= 1, "one batch at a time");
            let Some(frame) = frames.into_iter().next() else { return all };
            all.extend(frame);
            self.session.handle_ack(&ack(EPOCH), self.now);
        }
    }

    /// The first seq of features that is kept.
    fn kept_from(&self) -> u64 {
        let mut reader = self.journal.reader(kilter_journal::Offset(0));
        let first =
            std::iter::from_fn(|| reader.next().expect("reads")).find(|entry| entry.key.class == Class::Feature as u8);
        first.expect("something is kept").key.seq
    }
}

/// Everything is accepted and committed.
fn ack(epoch: Epoch) -> Ack {
    let all = |class| ClassAck { class, accepted_to: 300, beyond: heapless::Vec::new(), committed_to: 300 };
    let classes = [all(Class::Feature), all(Class::Score)].into_iter().collect();
    Ack { journal_id: JournalId(1), epoch, classes, credit_bytes: 1 << 20 }
}

fn ask(ranges: &[(u64, u64)]) -> Refetch {
    let ranges = ranges.iter().map(|(first, last)| SeqRange { first: *first, last: *last }).collect();
    Refetch { epoch: EPOCH, class: Class::Feature, ranges }
}

fn gone(first_seq: u64, last_seq: u64) -> Gap {
    Gap { class: Class::Feature, epoch: EPOCH, first_seq, last_seq, reason: GapReason::Evicted }
}

#[test]
fn what_is_kept_is_sent_again_as_it_was_and_what_is_not_is_told_once_all_was_looked_through() {
    let mut house = House::new(SessionConfig { batch_bytes: 8192, ..SessionConfig::default() });
    let from = house.kept_from();
    assert!((20..280).contains(&from), "a part is kept: from {from}");
    house.session.handle_refetch(ask(&[(10, from + 9), (290, 290), (295, 310)]));
    let features: Vec<(u8, u64)> =
        (from..from + 10).chain([290]).chain(295..300).map(|seq| (Class::Feature as u8, seq)).collect();
    assert_eq!(house.answered(), features);
    assert_eq!(house.session.take_gone(), [gone(10, from - 1), gone(300, 310)]);
    assert!(house.answered().is_empty() && house.session.take_gone().is_empty(), "once");
    let all = SeqRange { first: 0, last: u64::MAX };
    house.session.handle_refetch(Refetch {
        epoch: Epoch(6),
        class: Class::Feature,
        ranges: [all].into_iter().collect(),
    });
    assert!(house.answered().is_empty());
    let of_nobody = Gap { epoch: Epoch(6), ..gone(0, u64::MAX) };
    assert_eq!(house.session.take_gone(), [of_nobody], "another epoch's are not mixed up with these");
}

#[test]
fn an_unanswered_batch_waits_a_broken_link_begins_anew_and_asking_twice_is_asking_once() {
    let mut house = House::new(SessionConfig { batch_bytes: 2048, ..SessionConfig::default() });
    let from = house.kept_from();
    house.session.handle_refetch(ask(&[(from, 299)]));
    house.session.handle_refetch(ask(&[(from, 299)]));
    let first = house.frames();
    assert_eq!(first.len(), 1, "the next one waits for a word");
    assert!(house.frames().is_empty());
    assert!(house.session.status(house.now).in_flight_bytes > 1_000, "it counts against the credit");
    // Of another epoch: no word about this one.
    house.session.handle_ack(&ack(Epoch(9)), house.now);
    assert!(house.frames().is_empty());
    let due = house.session.poll_timeout().expect("it is waited for");
    assert!(due.0 <= house.now.0 + 10_000_000);
    house.now = Monotonic(house.now.0 + 10_000_001);
    assert_eq!(house.frames().len(), 1, "after the patience the next one goes; what is missing is asked for again");
    house.session.handle_disconnected();
    house.session.handle_connected(house.now);
    assert!(house.frames().is_empty(), "a new link is greeted first");
    house.session.handle_ack(&ack(EPOCH), house.now);
    let all: Vec<(u8, u64)> = (from..300).map(|seq| (Class::Feature as u8, seq)).collect();
    assert_eq!(house.answered(), all, "from the beginning, and only once");
    assert!(house.session.take_gone().is_empty());
}

//! The session over a model spool and a model aggregator, in virtual time, under loss, duplication, reordering and restarts.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{Class, DeviceId, Epoch, JournalId, Monotonic, Name};
use kilter_uplink::{Identity, Key, Place, Session, SessionConfig, Spool, SpoolError};
use kilter_wire::frame::Kind;
use kilter_wire::{Ack, ClassAck, SeqRange, Up, Welcome, frame};
use proptest::prelude::*;

/// Entries of ten offsets each; what is released is gone.
#[derive(Default)]
struct Log {
    entries: Vec<Key>,
    released: u64,
}

impl Log {
    fn end(&self) -> u64 {
        self.entries.len() as u64 * 10
    }
}

impl Spool for &Log {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        assert!(from >= self.released, "a released record is asked for");
        let i = from.div_ceil(10);
        Ok(self.entries.get(i as usize).map(|key| {
            bytes.clear();
            bytes.extend_from_slice(&record(*key));
            Place { key: *key, offset: i * 10, next: i * 10 + 10 }
        }))
    }
}

/// Bytes that name their key.
fn record(key: Key) -> Vec<u8> {
    let mut bytes = key.epoch.0.to_le_bytes().to_vec();
    bytes.push(key.class as u8);
    bytes.extend_from_slice(&key.seq.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Key {
    let number = |part: &[u8]| u64::from_le_bytes(part.try_into().expect("eight bytes"));
    Key {
        epoch: Epoch(number(&bytes[..8])),
        class: Class::from_u8(bytes[8]).expect("a class"),
        seq: number(&bytes[9..]),
    }
}

/// The aggregator: a journal that can be lost and a lake that can't.
struct Aggregator {
    journal: u64,
    accepted: BTreeSet<Key>,
    committed: BTreeSet<Key>,
    credit: u32,
    in_flight_most: usize,
}

impl Aggregator {
    fn take(&mut self, frame: &[u8]) -> Vec<Ack> {
        match frame::decode::<Up>(Kind::Up, frame).expect("a good frame") {
            Up::Hello(hello) => {
                // Only who is named hears of its marks.
                let named: BTreeSet<Epoch> = hello.held.iter().copied().chain([hello.epoch]).collect();
                named.iter().map(|epoch| self.ack(*epoch)).collect()
            }
            Up::Batch(batch) => {
                self.in_flight_most = self.in_flight_most.max(batch.records.len());
                self.accepted.extend(batch.iter().map(|record| parse(record.expect("a good record").bytes)));
                vec![self.ack(batch.epoch)]
            }
            Up::TimeRequest(_) | Up::Fetch(_) | Up::CommandResult(_) => Vec::new(),
            Up::Packed(_) => panic!("nobody said that packed batches are understood"),
        }
    }

    fn ack(&self, epoch: Epoch) -> Ack {
        let classes = Class::ALL.into_iter().filter_map(|class| {
            let of = |set: &BTreeSet<Key>| -> Vec<u64> {
                set.iter().filter(|key| key.epoch == epoch && key.class == class).map(|key| key.seq).collect()
            };
            let (accepted, committed) = (of(&self.accepted), of(&self.committed));
            let mark = |seqs: &[u64]| (0..).zip(seqs).take_while(|(i, seq)| i == *seq).count() as u64;
            let accepted_to = mark(&accepted);
            let far = accepted.iter().filter(|seq| **seq >= accepted_to).take(8);
            let beyond = far.map(|seq| SeqRange { first: *seq, last: *seq }).collect();
            (!accepted.is_empty() || !committed.is_empty()).then(|| ClassAck {
                class,
                accepted_to,
                beyond,
                committed_to: mark(&committed),
            })
        });
        Ack { journal_id: JournalId(self.journal), epoch, classes: classes.collect(), credit_bytes: self.credit }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Records of these classes are appended.
    Append(Vec<u8>),
    /// Records of these classes come from a node, under its own epoch.
    Carry(u64, Vec<u8>),
    Connect,
    Disconnect,
    /// The session sends so many frames; each arrives as often as its number says.
    Send(Vec<u8>),
    /// Of the acks on their way, this one arrives (and stays on its way when told so).
    Ack(usize, bool),
    /// The first so many accepted records are committed.
    Commit(usize),
    /// The aggregator's journal is lost.
    LoseJournal,
    Credit(u32),
    /// The agent is killed and starts again under another epoch.
    Restart,
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0u8..9, 1..12).prop_map(Step::Append),
        2 => (1u64..12, prop::collection::vec(0u8..9, 1..4)).prop_map(|(node, classes)| Step::Carry(node, classes)),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => prop::collection::vec(0u8..3, 1..8).prop_map(Step::Send),
        6 => (0usize..20, any::<bool>()).prop_map(|(which, again)| Step::Ack(which, again)),
        3 => (0usize..20).prop_map(Step::Commit),
        1 => Just(Step::LoseJournal),
        1 => prop_oneof![Just(0u32), Just(5_000), Just(100_000)].prop_map(Step::Credit),
        1 => Just(Step::Restart),
        2 => (0u32..30_000_000).prop_map(Step::Wait),
    ]
}

struct World {
    log: Log,
    seqs: BTreeMap<(Epoch, Class), u64>,
    epoch: Epoch,
    session: Session,
    aggregator: Aggregator,
    acks: Vec<Ack>,
    now: Monotonic,
}

impl World {
    fn new() -> Self {
        let aggregator = Aggregator {
            journal: 1,
            accepted: BTreeSet::new(),
            committed: BTreeSet::new(),
            credit: 100_000,
            in_flight_most: 0,
        };
        let (log, epoch) = (Log::default(), Epoch(100));
        let session = Self::session(&log, epoch);
        Self { log, seqs: BTreeMap::new(), epoch, session, aggregator, acks: Vec::new(), now: Monotonic(0) }
    }

    fn session(log: &Log, epoch: Epoch) -> Session {
        let identity = Identity {
            device: DeviceId::new("edge-1").expect("a good id"),
            software: Name::new("test").expect("a good name"),
        };
        let mut held: Vec<Epoch> = Vec::new();
        let first = (log.released / 10) as usize;
        for key in &log.entries[first..] {
            if !held.contains(&key.epoch) {
                held.push(key.epoch);
            }
        }
        let config = SessionConfig { batch_bytes: 200, max_in_flight: 3, ..SessionConfig::default() };
        let mut session = Session::new(config, identity, epoch, held, log.released, log.end());
        for (i, key) in log.entries.iter().enumerate().skip(first) {
            if key.class == Class::Alarm {
                session.handle_urgent(i as u64 * 10);
            }
        }
        session
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(classes) => {
                for class in classes {
                    let class = Class::from_u8(class).expect("a class");
                    let seq = self.seqs.entry((self.epoch, class)).or_default();
                    self.log.entries.push(Key { epoch: self.epoch, class, seq: *seq });
                    *seq += 1;
                    if class == Class::Alarm {
                        self.session.handle_urgent(self.log.end() - 10);
                    }
                }
                self.session.handle_record_available(self.log.end());
            }
            Step::Carry(node, classes) => {
                let epoch = Epoch(node);
                for class in classes {
                    let class = Class::from_u8(class).expect("a class");
                    let seq = self.seqs.entry((epoch, class)).or_default();
                    self.log.entries.push(Key { epoch, class, seq: *seq });
                    *seq += 1;
                }
                self.session.handle_record_available(self.log.end());
            }
            Step::Connect => self.session.handle_connected(self.now),
            Step::Disconnect => {
                self.session.handle_disconnected();
                self.acks.clear();
            }
            Step::Send(times) => {
                for times in times {
                    let frame = self.session.poll_transmit(&mut &self.log, self.now).expect("the model reads");
                    let Some(frame) = frame else { break };
                    for _ in 0..times {
                        let acks = self.aggregator.take(&frame);
                        self.acks.extend(acks);
                    }
                }
            }
            Step::Ack(which, again) => {
                if !self.acks.is_empty() {
                    let which = which % self.acks.len();
                    let ack = if again { self.acks[which].clone() } else { self.acks.swap_remove(which) };
                    self.session.handle_ack(&ack, self.now);
                    self.release();
                }
            }
            Step::Commit(count) => {
                let open = self.aggregator.accepted.difference(&self.aggregator.committed).copied();
                let some: Vec<Key> = open.take(count).collect();
                self.aggregator.committed.extend(some);
            }
            Step::LoseJournal => {
                self.aggregator.journal += 1;
                self.aggregator.accepted = self.aggregator.committed.clone();
            }
            Step::Credit(credit) => self.aggregator.credit = credit,
            Step::Restart => {
                self.epoch = Epoch(self.epoch.0 + 1);
                self.session = Self::session(&self.log, self.epoch);
                self.acks.clear();
            }
            Step::Wait(us) => {
                self.now.0 += u64::from(us);
                self.session.handle_timeout(self.now);
            }
        }
    }

    fn release(&mut self) {
        while let Some(upto) = self.session.poll_release(&mut &self.log).expect("the model reads") {
            for key in &self.log.entries[(self.log.released / 10) as usize..(upto / 10) as usize] {
                assert!(self.aggregator.committed.contains(key), "D4: {key:?} was released before it was committed");
            }
            self.log.released = upto;
        }
    }

    /// A good link and a working lab until nothing is left, or for an hour.
    fn settle(&mut self) {
        self.aggregator.credit = 100_000;
        self.session.handle_connected(self.now);
        self.acks.clear();
        let end = self.now.0 + 3_600_000_000;
        while self.now.0 < end && self.log.released < self.log.end() {
            while let Some(frame) = self.session.poll_transmit(&mut &self.log, self.now).expect("the model reads") {
                for ack in self.aggregator.take(&frame) {
                    self.session.handle_ack(&ack, self.now);
                }
            }
            self.aggregator.committed.extend(self.aggregator.accepted.iter().copied());
            self.release();
            let next = self.session.poll_timeout().expect("a link has a next timeout");
            self.now = Monotonic(next.0.max(self.now.0 + 1));
            self.session.handle_timeout(self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn d1_d2_d4_any_loss_and_reordering_ends_with_everything_committed_and_released(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(world.log.released, world.log.end());
        let expected: BTreeSet<Key> = world.log.entries.iter().copied().collect();
        prop_assert_eq!(&world.aggregator.committed, &expected);
        prop_assert!(world.aggregator.in_flight_most <= 200, "D3: a batch grew past its bound");
    }
}

#[test]
fn alarms_overtake_the_backlog_and_need_no_credit() {
    let mut world = World::new();
    world.step(Step::Append([5; 100].to_vec()));
    world.step(Step::Append(vec![0]));
    world.aggregator.credit = 0;
    world.step(Step::Connect);
    world.step(Step::Send(vec![1]));
    world.step(Step::Ack(0, false));
    world.step(Step::Send(vec![1; 50]));
    let accepted: Vec<Key> = world.aggregator.accepted.iter().copied().collect();
    assert_eq!(accepted, [Key { epoch: Epoch(100), class: Class::Alarm, seq: 0 }]);
}

#[test]
fn live_records_go_before_the_backlog_of_an_outage() {
    let mut world = World::new();
    world.step(Step::Append([5; 100].to_vec()));
    world.step(Step::Connect);
    world.step(Step::Send(vec![1]));
    world.step(Step::Ack(0, false));
    world.step(Step::Append(vec![4]));
    world.step(Step::Send(vec![1; 2]));
    assert!(world.aggregator.accepted.iter().any(|key| key.class == Class::Score), "the live record waited");
}

#[test]
fn a_link_that_acks_nothing_is_called_stalled_and_an_idle_one_is_not() {
    let mut world = World::new();
    world.step(Step::Connect);
    world.step(Step::Send(vec![1]));
    world.step(Step::Ack(0, false));
    world.step(Step::Wait(600_000_000));
    assert!(!world.session.is_stalled(world.now), "nothing waits");
    world.step(Step::Append(vec![5]));
    world.step(Step::Send(vec![0; 9]));
    assert!(!world.session.is_stalled(world.now), "just sent");
    world.step(Step::Wait(61_000_000));
    assert!(world.session.is_stalled(world.now));
}

#[test]
fn a_late_word_of_a_lost_journal_that_records_are_committed_takes_them_out_of_the_retries() {
    let mut world = World::new();
    world.step(Step::Append([5; 5].to_vec()));
    world.step(Step::Connect);
    let ack = |journal: u64, to: u64| {
        let class = ClassAck { class: Class::Feature, accepted_to: to, beyond: heapless::Vec::new(), committed_to: to };
        let classes = heapless::Vec::from_slice(&[class]).expect("one fits");
        Ack { journal_id: JournalId(journal), epoch: Epoch(100), classes, credit_bytes: 100_000 }
    };
    world.session.handle_ack(&ack(1, 0), world.now);
    world.session.handle_ack(&ack(2, 0), world.now);
    world.step(Step::Send(vec![0; 4]));
    world.step(Step::Wait(11_000_000));
    world.aggregator.committed.extend(world.log.entries.iter().copied());
    world.session.handle_ack(&ack(1, 5), world.now);
    world.release();
    assert_eq!(world.log.released, world.log.end());
    world.step(Step::Send(vec![1; 4]));
}

#[test]
fn batches_are_packed_after_a_welcome_and_on_that_link_only() {
    let mut log = Log::default();
    let identity = Identity { device: DeviceId::new("edge-1").expect("good"), software: Name::new("1").expect("good") };
    let mut session = Session::new(SessionConfig::default(), identity, Epoch(1), vec![Epoch(1)], 0, 0);
    let mut kinds = Vec::new();
    for (link, wire_version) in [(0u64, None), (1, Some(2u16)), (2, None), (3, Some(1))] {
        let now = Monotonic(link * 1_000_000);
        session.handle_connected(now);
        while session.poll_transmit(&mut &log, now).expect("the model reads").is_some() {}
        let ack =
            Ack { journal_id: JournalId(1), epoch: Epoch(1), classes: heapless::Vec::new(), credit_bytes: 1 << 20 };
        session.handle_ack(&ack, now);
        if let Some(wire_version) = wire_version {
            session.handle_welcome(&Welcome { wire_version, software: Name::new("1").expect("good") });
        }
        for seq in 0..20 {
            log.entries.push(Key { epoch: Epoch(1), class: Class::Feature, seq: link * 20 + seq });
        }
        session.handle_record_available(log.end());
        let mut found = "none";
        while let Some(frame) = session.poll_transmit(&mut &log, now).expect("the model reads") {
            match frame::decode::<Up>(Kind::Up, &frame).expect("a good frame") {
                Up::Packed(packed) => {
                    assert!(packed.bytes.len() < packed.plain_bytes as usize);
                    found = "packed";
                }
                Up::Batch(_) => found = "plain",
                Up::Hello(_) | Up::TimeRequest(_) | Up::Fetch(_) | Up::CommandResult(_) => {}
            }
        }
        kinds.push(found);
    }
    assert_eq!(kinds, ["plain", "packed", "plain", "plain"]);
}

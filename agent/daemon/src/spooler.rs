//! Records into the journal, and what happens when the disk does not take them.
//!
//! While the disk is full or dead the monitors go on: alarms, events, gaps and reports leave unjournaled from memory, the rest
//! is lost and its loss is told by gap records (J3). A dead journal is opened again under a new epoch.

use std::path::{Path, PathBuf};

use kilter_journal::{Filesystem, Journal, JournalError, Key as JournalKey, Offset, Reason};
use kilter_types::{Alarm, Class, Epoch, Gap, GapReason, Name, Opening, Payload, Predecessor, Record};
use kilter_uplink::Key;
use kilter_wire::up::MAX_RECORD_BYTES;
use kilter_wire::{decode_record, encode_record};
use tracing::{error, info, warn};

use crate::age::Ages;
use crate::config::Cap;
use crate::hole::Holes;
use crate::number::{Numbering, Stamp, lose};
use crate::said::Said;
use crate::standing;
use crate::suppress::Suppress;

/// The journal and what is around it.
#[derive(Debug)]
pub(crate) struct Spooler<F: Filesystem> {
    fs: F,
    dir: PathBuf,
    config: kilter_journal::Config,
    caps: Vec<Cap>,
    ages: Ages,
    version: Name,
    numbering: Numbering,
    journal: Option<Journal<F>>,
    /// Losses that no gap record tells yet.
    lost: Vec<Gap>,
    /// Appended since the last sync.
    undurable: Vec<Key>,
    full: bool,
    retry_us: i64,
    effects: Vec<Effect>,
    dropped: u64,
    quarantined: u64,
    scratch: Vec<u8>,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Everything below can be delivered.
    Durable(u64),
    /// Deliver this one first.
    Urgent(u64),
    /// Deliver this one from memory.
    Unjournaled(Key, Vec<u8>),
    /// Another epoch has begun.
    Epoch(Epoch),
}

/// What a first look at the journal found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) suppress: Suppress,
    /// Epochs held, oldest first.
    pub(crate) held: Vec<Epoch>,
    /// Offsets of alarms.
    pub(crate) alarms: Vec<u64>,
    /// What is said last of each alarm: its asset, its point, the alarm.
    pub(crate) said: Vec<(Name, (Name, Alarm))>,
    /// Damaged segments that were set aside by this opening.
    quarantined: u64,
    /// The last epoch that an agent opened here: others are those of nodes.
    own: Option<Epoch>,
    pub(crate) first: u64,
    pub(crate) durable: u64,
    /// Per epoch and class: the last seq.
    last: Vec<(Epoch, Class, u64)>,
    /// Seqs that were given and are neither here nor told.
    holes: Vec<Gap>,
}

impl Found {
    fn note(&mut self, record: Record) {
        match record.payload {
            Payload::Opening(_) => self.own = Some(record.epoch),
            Payload::Alarm(alarm) => {
                let (asset, point) = (record.point.asset, record.point.point);
                let same = |(other, known): &&mut (Name, _)| *other == asset && standing::is(known, &point, &alarm);
                match self.said.iter_mut().find(same) {
                    Some((_, (_, known))) => *known = alarm,
                    None => self.said.push((asset, (point, alarm))),
                }
            }
            Payload::Features(_)
            | Payload::Score(_)
            | Payload::Event(_)
            | Payload::Gap(_)
            | Payload::Report(_)
            | Payload::State(_)
            | Payload::Spectrum(_)
            | Payload::Clip(_) => {}
        }
    }

    /// The agent's own epoch before: the last one opened here, or `previous` if that came later and its opening is gone.
    fn predecessor(&self, previous: Option<Epoch>) -> Option<Epoch> {
        let place = |epoch: Option<Epoch>| self.held.iter().position(|held| Some(*held) == epoch);
        if self.own.is_none() || place(previous) > place(self.own) { previous } else { self.own }
    }
}

impl<F: Filesystem> Spooler<F> {
    /// Opens the journal and looks through it. `numbering` builds the numbering from what was found; `previous` is the epoch
    /// before, should the journal hold none of its records any more.
    #[expect(clippy::too_many_arguments, reason = "what a journal and the first record in it are made of")]
    pub(crate) fn open(
        fs: F,
        dir: &Path,
        config: kilter_journal::Config,
        caps: Vec<Cap>,
        version: Name,
        fresh_id: u64,
        previous: Option<Epoch>,
        numbering: impl FnOnce(Suppress) -> Numbering,
        now: Stamp,
    ) -> Result<(Self, Found), JournalError> {
        let (journal, mut found) = open(&fs, dir, &config, &caps, fresh_id)?;
        let numbering = numbering(std::mem::take(&mut found.suppress));
        let ages = Ages::new(caps.iter().filter_map(|cap| Some((cap.class as u8, cap.max_age_us?))).collect());
        let mut spooler = Self {
            fs,
            dir: dir.to_owned(),
            config,
            caps,
            ages,
            version,
            numbering,
            journal: Some(journal),
            lost: std::mem::take(&mut found.holes),
            undurable: Vec::new(),
            full: false,
            retry_us: i64::MIN,
            effects: Vec::new(),
            dropped: 0,
            quarantined: found.quarantined,
            scratch: vec![0; MAX_RECORD_BYTES + 1],
        };
        spooler.begin(&found, previous, now);
        Ok((spooler, found))
    }

    /// Records what a machine said.
    pub(crate) fn say(&mut self, said: Said, now: Stamp) {
        if let Some(record) = self.numbering.record(said, now) {
            self.put(record);
        }
    }

    /// Records something about a machine that no window says.
    pub(crate) fn about(&mut self, machine: usize, payload: Payload, now: Stamp) {
        if let Some(record) = self.numbering.about(machine, payload, now) {
            self.put(record);
        }
    }

    /// Records what a node made: its point, epoch and seq stay its own.
    pub(crate) fn carry(&mut self, record: Record) {
        self.put(record);
    }

    /// Records of a node that never came.
    pub(crate) fn missing(&mut self, gap: Gap) {
        self.lose(gap);
    }

    /// So many outputs of a class never reached the recorder.
    pub(crate) fn overrun(&mut self, class: Class, count: u64) {
        if let Some((first_seq, last_seq)) = self.numbering.skip(class, count) {
            let epoch = self.numbering.epoch();
            self.lose(Gap { class, epoch, first_seq, last_seq, reason: GapReason::Overrun });
        }
    }

    /// A record that the uplink could keep no longer.
    pub(crate) fn forgotten(&mut self, key: Key) {
        let Key { epoch, class, seq } = key;
        self.lose(Gap { class, epoch, first_seq: seq, last_seq: seq, reason: GapReason::Overrun });
    }

    /// Syncs when the group's time is over; `force` does not wait for it.
    pub(crate) fn sync(&mut self, force: bool, now: Stamp) {
        let now_us = i64::try_from(now.monotonic.0).unwrap_or(i64::MAX);
        let again = self.full && now_us >= self.retry_us;
        if again {
            self.retry_us = now_us.saturating_add(RETRY_US);
        }
        self.expire(now.monotonic.0);
        self.tell_gaps(now);
        let Some(journal) = &mut self.journal else { return };
        let synced = if force || again { journal.sync().map(Some) } else { journal.poll_sync(now_us) };
        match synced {
            Ok(Some(durable)) => {
                self.full = false;
                self.undurable.clear();
                self.effects.push(Effect::Durable(durable.upto.0));
            }
            Ok(None) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// When [`sync`](Self::sync) wants to be called, in microseconds of the monotonic clock.
    pub(crate) fn sync_due_us(&self) -> Option<i64> {
        self.journal.as_ref().and_then(Journal::sync_due_us)
    }

    /// The records below are committed and checkpointed.
    pub(crate) fn release(&mut self, upto: u64) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = journal.release(Offset(upto)) {
            self.failed(&error);
        }
    }

    /// Tries to open a dead journal again; a success begins another epoch.
    pub(crate) fn revive(&mut self, epoch: Epoch, fresh_id: u64, now: Stamp) {
        if self.journal.is_some() {
            return;
        }
        // Holes stay untold here: what left unjournaled may still be on its way from memory. The next start tells them.
        match open(&self.fs, &self.dir, &self.config, &self.caps, fresh_id) {
            Ok((journal, found)) => {
                info!("journal opened again");
                let previous = self.numbering.epoch();
                self.journal = Some(journal);
                self.quarantined += found.quarantined;
                self.ages.forget();
                self.full = false;
                self.keep_what_survived(&found);
                self.numbering.begin(epoch);
                self.begin(&found, Some(previous), now);
                self.effects.push(Effect::Epoch(epoch));
                self.sync(true, now);
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "journal is still dead"),
        }
    }

    /// Tells losses through memory while the journal takes nothing.
    pub(crate) fn tell_gaps_unjournaled(&mut self, now: Stamp) {
        if self.is_dead() {
            for gap in std::mem::take(&mut self.lost) {
                let record = self.numbering.own(Payload::Gap(gap), now);
                self.put(record);
            }
        }
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Does the disk take nothing now?
    pub(crate) fn is_dead(&self) -> bool {
        self.journal.is_none() || self.full
    }

    /// The journal itself failed and has to be opened again.
    pub(crate) fn needs_revival(&self) -> bool {
        self.journal.is_none()
    }

    pub(crate) fn next_offset(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.next_offset().0)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.durable().0)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::bytes)
    }

    /// Records that were lost since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Damaged segments that were set aside since the start.
    pub(crate) fn quarantined(&self) -> u64 {
        self.quarantined
    }

    /// The epoch's first record, and gaps that the journal has to tell.
    fn begin(&mut self, found: &Found, previous: Option<Epoch>, now: Stamp) {
        let predecessor = found.predecessor(previous).map(|epoch| Predecessor {
            epoch,
            last: found.last.iter().filter(|last| last.0 == epoch).map(|last| (last.1, last.2)).collect(),
        });
        let journal = self.journal.as_ref().map_or(0, Journal::id);
        let opening = Opening { journal, predecessor, version: self.version.clone() };
        let record = self.numbering.own(Payload::Opening(opening), now);
        self.put(record);
        self.take_dropped();
    }

    fn put(&mut self, mut record: Record) {
        let class = record.class();
        let urgent = class == Class::Alarm;
        let key = Key { epoch: record.epoch, class, seq: record.seq };
        let len = match encode_record(&record, &mut self.scratch) {
            Ok(bytes) => bytes.len(),
            Err(reason) => {
                error!(class = class.as_str(), error = %reason, "a record can't be written");
                return self.lose_one(key, GapReason::Overrun);
            }
        };
        if let Some(journal) = &mut self.journal {
            let outer = JournalKey { class: class as u8, epoch: key.epoch.0, seq: key.seq };
            match journal.append(outer, &self.scratch[..len], urgent) {
                Ok(offset) => {
                    if urgent {
                        self.undurable.clear();
                        self.effects.push(Effect::Durable(journal.durable().0));
                        self.effects.push(Effect::Urgent(offset.0));
                    } else {
                        self.undurable.push(key);
                    }
                    self.take_dropped();
                    return;
                }
                Err(error) => self.failed(&error),
            }
        }
        match class {
            Class::Alarm | Class::Event | Class::Gap | Class::Report => {
                if let Payload::Alarm(alarm) = &mut record.payload {
                    alarm.unjournaled = true;
                }
                match encode_record(&record, &mut self.scratch) {
                    Ok(bytes) => self.effects.push(Effect::Unjournaled(key, bytes.to_vec())),
                    Err(_) => self.lose_one(key, GapReason::DiskFailed),
                }
            }
            Class::Score | Class::Feature | Class::State | Class::Spectrum | Class::Clip => {
                self.lose_one(key, GapReason::DiskFailed);
            }
        }
    }

    /// A full disk is waited out, anything else ends this journal.
    fn failed(&mut self, error: &JournalError) {
        if error.is_full() {
            if !std::mem::replace(&mut self.full, true) {
                error!(
                    error = error as &dyn std::error::Error,
                    "journal is full: alarms leave unjournaled, the rest waits in memory and is lost beyond its bound"
                );
            }
            return;
        }
        error!(error = error as &dyn std::error::Error, "journal is dead: alarms leave unjournaled, the rest is lost");
        self.journal = None;
        for key in std::mem::take(&mut self.undurable) {
            self.lose_one(key, GapReason::DiskFailed);
        }
    }

    /// Appends a gap record for each loss, once the journal takes records again. Only when all of them are in, the journal hears that
    /// its losses are told: what finds no room now is told again after a restart (J3).
    fn tell_gaps(&mut self, now: Stamp) {
        self.take_dropped();
        while let (false, Some(gap)) = (self.full, self.lost.last().copied()) {
            let Some(journal) = &mut self.journal else { return };
            let record = self.numbering.own(Payload::Gap(gap), now);
            let key = Key { epoch: record.epoch, class: Class::Gap, seq: record.seq };
            let outer = JournalKey { class: Class::Gap as u8, epoch: key.epoch.0, seq: key.seq };
            let Ok(bytes) = encode_record(&record, &mut self.scratch) else { return };
            match journal.append(outer, bytes, false) {
                Ok(_) => {
                    self.lost.pop();
                    self.undurable.push(key);
                    // Room for this record may have cost others.
                    self.take_dropped();
                }
                Err(error) => {
                    self.numbering.take_back(Class::Gap);
                    return self.failed(&error);
                }
            }
        }
        if let (true, Some(journal)) = (self.lost.is_empty(), &mut self.journal) {
            journal.told();
        }
    }

    /// Drops what is older than its class may be.
    fn expire(&mut self, now_us: u64) {
        let Some(journal) = &mut self.journal else { return };
        for (class, below) in self.ages.due(now_us, journal.next_offset().0) {
            if let Err(error) = journal.expire(class, Offset(below)) {
                return self.failed(&error);
            }
        }
    }

    fn take_dropped(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for dropped in journal.take_dropped() {
            let Some(gap) = gap_of(dropped) else { continue };
            let Gap { class, first_seq, last_seq, reason, .. } = gap;
            warn!(class = class.as_str(), first_seq, last_seq, reason = ?reason, "records lost");
            self.dropped += dropped.count;
            lose(&mut self.lost, gap);
        }
    }

    fn lose_one(&mut self, key: Key, reason: GapReason) {
        self.lose(Gap { class: key.class, epoch: key.epoch, first_seq: key.seq, last_seq: key.seq, reason });
    }

    fn lose(&mut self, gap: Gap) {
        self.dropped += gap.last_seq - gap.first_seq + 1;
        lose(&mut self.lost, gap);
    }

    /// What was feared lost when a sync failed, but was found on the disk, is no loss.
    fn keep_what_survived(&mut self, found: &Found) {
        for gap in &mut self.lost {
            let held = found.last.iter().find(|last| last.0 == gap.epoch && last.1 == gap.class);
            if let Some((_, _, last)) = held {
                gap.first_seq = gap.first_seq.max(last + 1);
            }
        }
        self.lost.retain(|gap| gap.first_seq <= gap.last_seq);
    }
}

fn open<F: Filesystem>(
    fs: &F,
    dir: &Path,
    config: &kilter_journal::Config,
    caps: &[Cap],
    fresh_id: u64,
) -> Result<(Journal<F>, Found), JournalError> {
    let (mut journal, recovery) = Journal::open(fs.clone(), dir, config.clone(), fresh_id)?;
    if recovery.torn_bytes > 0 || !recovery.quarantined.is_empty() {
        warn!(torn_bytes = recovery.torn_bytes, quarantined = recovery.quarantined.len(), "journal repaired");
    }
    let mut found = Found {
        first: journal.first_offset().0,
        durable: journal.durable().0,
        quarantined: recovery.quarantined.len() as u64,
        ..Found::default()
    };
    for (epoch, class, seq) in recovery.last {
        if let Some(class) = Class::from_u8(class) {
            found.last.push((Epoch(epoch), class, seq));
        }
    }
    for cap in caps {
        if let Some(max_bytes) = cap.max_bytes {
            journal.cap_class(cap.class as u8, max_bytes)?;
        }
    }
    let mut holes = Holes::default();
    let mut reader = journal.reader(journal.first_offset());
    while let Some(entry) = reader.next()? {
        let epoch = Epoch(entry.key.epoch);
        if found.held.last() != Some(&epoch) && !found.held.contains(&epoch) {
            found.held.push(epoch);
        }
        if entry.key.class == Class::Alarm as u8 {
            found.alarms.push(entry.offset.0);
        }
        match decode_record(&entry.bytes) {
            Ok(record) => {
                holes.note(&record);
                found.suppress.note(&record);
                found.note(record);
            }
            Err(error) => warn!(offset = entry.offset.0, error = %error, "a journalled record can't be read"),
        }
    }
    found.holes = holes.untold(&journal.losses().into_iter().filter_map(gap_of).collect::<Vec<_>>());
    if !found.holes.is_empty() {
        warn!(gaps = found.holes.len(), "records of earlier runs never reached the journal: told as gaps");
    }
    Ok((journal, found))
}

fn gap_of(dropped: kilter_journal::Dropped) -> Option<Gap> {
    let reason = match dropped.reason {
        Reason::Evicted | Reason::Released => GapReason::Evicted,
        Reason::Corrupt => GapReason::Quarantined,
    };
    let (epoch, first_seq, last_seq) = (Epoch(dropped.epoch), dropped.first_seq, dropped.last_seq);
    Some(Gap { class: Class::from_u8(dropped.class)?, epoch, first_seq, last_seq, reason })
}

/// How often a full disk is tried again.
const RETRY_US: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Place;
    use kilter_journal::model::MemoryFilesystem;
    use kilter_journal::{Config, Drop, FsyncPolicy};
    use kilter_types::{
        Alarm, AlarmSource, AlarmState, Cause, Digest, KernelId, Micros, Monotonic, Role, RowRef, Score, Severity,
        Timeline,
    };

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn said(index: u64, payload: Payload) -> Said {
        let (point, timeline) = (name("drive-end"), Timeline::Source);
        Said { machine: 0, point, group: 0, index, at: Micros(1), timeline, replayable: true, payload }
    }

    fn score(index: u64) -> Said {
        let score = Score {
            input: RowRef { group: 0, index, seq: 0 },
            anomaly: 1.0,
            threshold: 2.0,
            rul: None,
            model: Digest::NONE,
            kernel: KernelId::RULE,
            role: Role::Leader,
            contributions: heapless::Vec::new(),
            rest: 1.0,
        };
        said(index, Payload::Score(score))
    }

    fn alarm(index: u64) -> Said {
        let alarm = Alarm {
            id: 1,
            state: AlarmState::Raised,
            severity: Severity::Alarm,
            source: AlarmSource::Rule,
            cause: Cause::Unclear,
            since: Micros(0),
            input: RowRef { group: 0, index, seq: 0 },
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: false,
        };
        said(index, Payload::Alarm(alarm))
    }

    fn stamp(us: u64) -> Stamp {
        Stamp { monotonic: Monotonic(us), ..Stamp::default() }
    }

    fn open(fs: &MemoryFilesystem, epoch: u64) -> (Spooler<MemoryFilesystem>, Found) {
        let config = Config {
            segment_bytes: 64 * 1024,
            max_bytes: 1 << 20,
            fsync: FsyncPolicy::Group { interval_us: 1000 },
            reserve_bytes: 64 * 1024,
            drop_policy: Drop::OldestOfClass(vec![Class::Spectrum as u8, Class::Score as u8]),
        };
        let caps = vec![Cap { class: Class::Score, max_bytes: None, max_age_us: Some(100_000_000) }];
        let places = vec![Place { site: name("north"), asset: name("pump-1") }];
        let numbering = |suppress| Numbering::new(name("default"), name("edge-1"), places, Epoch(epoch), suppress);
        Spooler::open(fs.clone(), Path::new("/journal"), config, caps, name("1.0"), 7, None, numbering, stamp(0))
            .expect("the model opens")
    }

    fn records(fs: &MemoryFilesystem) -> Vec<Record> {
        let mut reader = kilter_journal::follow(fs.clone(), Path::new("/journal"), Offset(0)).expect("it follows");
        std::iter::from_fn(|| reader.next().expect("it reads"))
            .map(|entry| decode_record(&entry.bytes).expect("a record"))
            .collect()
    }

    fn gaps(records: &[Record]) -> Vec<Gap> {
        let gap = |record: &Record| match &record.payload {
            Payload::Gap(gap) => Some(*gap),
            _ => None,
        };
        records.iter().filter_map(gap).collect()
    }

    #[test]
    fn an_epoch_begins_with_its_predecessor_and_the_last_seqs_held() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        (0..3).for_each(|i| spooler.say(score(i), stamp(i)));
        spooler.sync(true, stamp(10));
        drop(spooler);
        let (mut spooler, found) = open(&fs, 2);
        assert_eq!(found.held, [Epoch(1)]);
        (0..5).for_each(|i| spooler.say(score(i), stamp(i)));
        spooler.sync(true, stamp(10));
        let records = records(&fs);
        let scores: Vec<(Epoch, u64)> =
            records.iter().filter(|r| r.class() == Class::Score).map(|r| (r.epoch, r.seq)).collect();
        let expected = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)].map(|(epoch, seq)| (Epoch(epoch), seq));
        assert_eq!(scores, expected, "windows 0 to 2 were held already");
        let opening = records.iter().find(|r| r.epoch == Epoch(2)).expect("the second epoch");
        let Payload::Opening(opening) = &opening.payload else { panic!("{opening:?} is first") };
        let predecessor = opening.predecessor.as_ref().expect("there was one");
        assert_eq!(predecessor.epoch, Epoch(1));
        assert!(predecessor.last.contains(&(Class::Score, 2)));
    }

    #[test]
    fn the_predecessor_is_the_agents_own_epoch_also_when_a_node_spoke_last() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        (0..3).for_each(|i| spooler.say(score(i), stamp(i)));
        let mut carried = spooler.numbering.record(score(9), stamp(9)).expect("it is new");
        (carried.epoch, carried.seq) = (Epoch(77), 5);
        spooler.carry(carried);
        spooler.sync(true, stamp(10));
        drop(spooler);
        let (mut spooler, found) = open(&fs, 2);
        assert_eq!(found.held, [Epoch(1), Epoch(77)]);
        spooler.sync(true, stamp(10));
        let opening = records(&fs).into_iter().find(|r| r.epoch == Epoch(2)).expect("the second epoch");
        let Payload::Opening(opening) = &opening.payload else { panic!("{opening:?} is first") };
        let predecessor = opening.predecessor.as_ref().expect("there was one");
        assert_eq!((predecessor.epoch, predecessor.last.contains(&(Class::Score, 2))), (Epoch(1), true));
        // Nothing of the agent is left in the journal: the epoch file tells.
        let node = Found { held: vec![Epoch(77)], ..Found::default() };
        assert_eq!(node.predecessor(Some(Epoch(1))), Some(Epoch(1)));
        assert_eq!(node.predecessor(None), None);
        let opened_again = Found { held: vec![Epoch(1), Epoch(77), Epoch(3)], own: Some(Epoch(3)), ..Found::default() };
        assert_eq!(
            opened_again.predecessor(Some(Epoch(1))),
            Some(Epoch(3)),
            "begun within a run, after the file was written"
        );
    }

    #[test]
    fn j3_a_full_disk_costs_no_alarm_and_the_rest_leaves_a_gap_with_its_range() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        spooler.say(score(0), stamp(0));
        spooler.sync(true, stamp(1));
        let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
        fs.set_capacity_bytes(Some(held));
        spooler.take_effects();
        (1..4000).for_each(|i| {
            spooler.say(score(i), stamp(i * 10_000));
            spooler.sync(false, stamp(i * 10_000));
        });
        assert!(spooler.is_dead());
        (0..2000).for_each(|i| spooler.say(alarm(4000 + i), stamp(50_000_000)));
        let effects = spooler.take_effects();
        let urgent = effects.iter().filter(|effect| matches!(effect, Effect::Urgent(_))).count();
        let is_alarm = |effect: &&Effect| matches!(effect, Effect::Unjournaled(key, _) if key.class == Class::Alarm);
        let from_memory = effects.iter().filter(is_alarm).count();
        assert_eq!(urgent + from_memory, 2000, "each alarm leaves, by the reserve or from memory");
        assert!(from_memory > 0, "the reserve is finite");
        fs.set_capacity_bytes(None);
        spooler.sync(true, stamp(60_000_000));
        spooler.say(score(9000), stamp(60_000_001));
        spooler.sync(true, stamp(60_010_000));
        spooler.sync(true, stamp(60_020_000));
        assert!(!spooler.is_dead());
        let records = records(&fs);
        let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
        let gaps = gaps(&records);
        for seq in 0..4000 {
            let told = gaps.iter().any(|g| g.class == Class::Score && g.first_seq <= seq && seq <= g.last_seq);
            assert!(held.contains(&seq) != told, "score {seq} is either held or told: {gaps:?}");
        }
    }

    #[test]
    fn j1_a_failed_sync_ends_the_journal_and_opening_it_again_tells_exactly_what_is_missing() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        spooler.say(score(0), stamp(0));
        spooler.sync(true, stamp(1));
        spooler.say(score(1), stamp(2));
        fs.fail_syncs(1);
        spooler.sync(true, stamp(3));
        assert!(spooler.needs_revival());
        spooler.say(score(2), stamp(4));
        spooler.say(alarm(2), stamp(4));
        let alarms = spooler.take_effects();
        assert!(matches!(&alarms[..], [.., Effect::Unjournaled(key, _)] if key.class == Class::Alarm), "{alarms:?}");
        spooler.revive(Epoch(2), 8, stamp(5));
        spooler.say(score(3), stamp(6));
        spooler.sync(true, stamp(7));
        let records = records(&fs);
        let gaps = gaps(&records);
        for seq in 0..3 {
            let held = records.iter().any(|r| r.class() == Class::Score && r.epoch == Epoch(1) && r.seq == seq);
            let told = gaps
                .iter()
                .any(|g| g.class == Class::Score && g.epoch == Epoch(1) && g.first_seq <= seq && seq <= g.last_seq);
            assert!(held != told, "score {seq} is either held or told: {gaps:?}");
        }
        assert!(records.iter().any(|r| r.class() == Class::Score && r.epoch == Epoch(2) && r.seq == 0));
        assert!(spooler.take_effects().contains(&Effect::Epoch(Epoch(2))));
    }

    #[test]
    fn j3_alarms_that_left_from_memory_before_a_crash_are_told_by_the_next_run() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        spooler.say(alarm(0), stamp(0));
        let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
        fs.set_capacity_bytes(Some(held));
        (1..2000).for_each(|i| spooler.say(alarm(i), stamp(i)));
        let unjournaled: Vec<u64> = spooler
            .take_effects()
            .into_iter()
            .filter_map(|effect| if let Effect::Unjournaled(key, _) = effect { Some(key.seq) } else { None })
            .collect();
        assert!(unjournaled.len() > 100, "the reserve is finite");
        fs.set_capacity_bytes(None);
        spooler.say(alarm(2000), stamp(2_000_000));
        drop(spooler);
        fs.kill();

        let (mut spooler, _) = open(&fs, 2);
        spooler.sync(true, stamp(1));
        let told = gaps(&records(&fs));
        let covers = |seq: u64| {
            told.iter().any(|gap| {
                (gap.class, gap.epoch) == (Class::Alarm, Epoch(1)) && gap.first_seq <= seq && seq <= gap.last_seq
            })
        };
        assert!(unjournaled.iter().all(|seq| covers(*seq)), "{told:?}");
        drop(spooler);
        // A third run finds them told.
        let (mut spooler, _) = open(&fs, 3);
        spooler.sync(true, stamp(1));
        assert_eq!(gaps(&records(&fs)), told);
    }

    #[test]
    fn j3_an_eviction_that_no_gap_record_could_tell_is_told_after_a_kill() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        let mut last = 0;
        while spooler.dropped() == 0 {
            spooler.say(score(last), stamp(last));
            last += 1;
        }
        let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
        fs.set_capacity_bytes(Some(held));
        (0..1000).for_each(|i| {
            spooler.say(score(last + i), stamp(1_000_000 + i * 10_000));
            spooler.sync(false, stamp(1_000_000 + i * 10_000));
        });
        drop(spooler);
        fs.kill();
        fs.set_capacity_bytes(None);
        let (mut spooler, _) = open(&fs, 2);
        spooler.sync(true, stamp(1));
        let records = records(&fs);
        let told = gaps(&records);
        let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
        let end = held.iter().max().map_or(0, |seq| seq + 1);
        for seq in 0..end {
            let told = told.iter().any(|g| g.class == Class::Score && g.first_seq <= seq && seq <= g.last_seq);
            assert!(held.contains(&seq) != told, "score {seq} is either held or told");
        }
    }

    #[test]
    fn what_is_older_than_its_class_may_be_goes_and_is_told() {
        let fs = MemoryFilesystem::default();
        let (mut spooler, _) = open(&fs, 1);
        // A score a second for 500 seconds in segments of 64 kB; scores may be 100 s old.
        for i in 0..8000 {
            spooler.say(score(i), stamp(i * 62_500));
            spooler.sync(false, stamp(i * 62_500));
        }
        spooler.sync(true, stamp(500_000_000));
        let records = records(&fs);
        let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
        let told: u64 = gaps(&records).iter().map(|gap| gap.last_seq - gap.first_seq + 1).sum();
        assert!(told > 0 && held.len() as u64 + told == 8000, "{} held, {told} told", held.len());
        assert!(held[0] > 3000, "{} is far too old", held[0]);
    }
}

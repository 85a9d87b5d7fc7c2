//! Records into the journal, and what happens when the disk does not take them.
//!
//! While the disk is full or dead the monitors go on: alarms, events, gaps and reports leave unjournaled from memory, the rest
//! is lost and its loss is told by gap records (J3). A dead journal is opened again under a new epoch.

mod found;
mod loss;
mod seal;

use std::path::{Path, PathBuf};

use kilter_journal::{Filesystem, Journal, JournalError, Key as JournalKey, Offset};
use kilter_types::{Class, Epoch, Gap, GapReason, Name, Opening, Payload, Predecessor, Record};
use kilter_uplink::Key;
use kilter_wire::encode_record;
use kilter_wire::up::MAX_RECORD_BYTES;
use tracing::{error, info, warn};

use crate::age::Ages;
use crate::config::Cap;
use crate::exception::Exception;
use crate::number::{Numbering, Stamp};
use crate::said::Said;
use crate::sealer::Sealer;
use crate::suppress::Suppress;
pub(crate) use found::Found;
use found::open;

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
    exception: Exception,
    /// `None` when there is no key: what is recorded stays unsealed.
    sealer: Option<Sealer>,
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
        mut sealer: Option<Sealer>,
        numbering: impl FnOnce(Suppress) -> Numbering,
        now: Stamp,
    ) -> Result<(Self, Found), JournalError> {
        let (journal, mut found) = open(&fs, dir, &config, &caps, fresh_id, &mut sealer)?;
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
            exception: Exception::default(),
            sealer,
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

    /// From now on windows that say nothing new are left out.
    pub(crate) fn report_by_exception(&mut self, exception: Exception) {
        self.exception = exception;
    }

    /// Records what a machine said, if it is new.
    pub(crate) fn say(&mut self, said: Said, now: Stamp) {
        for said in self.exception.take(said).into_iter().flatten() {
            if let Some(record) = self.numbering.record(said, now) {
                self.put(record);
            }
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

    /// Syncs when the group's time is over; `force` does not wait for it.
    pub(crate) fn sync(&mut self, force: bool, now: Stamp) {
        let now_us = i64::try_from(now.monotonic.0).unwrap_or(i64::MAX);
        let again = self.full && now_us >= self.retry_us;
        if again {
            self.retry_us = now_us.saturating_add(RETRY_US);
        }
        self.expire(now.monotonic.0);
        self.tell_gaps(now);
        self.seal_due(now, false);
        let Some(journal) = &mut self.journal else { return };
        let synced = if force || again { journal.sync().map(Some) } else { journal.poll_sync(now_us) };
        match synced {
            Ok(Some(durable)) => {
                self.full = false;
                self.undurable.clear();
                self.effects.push(Effect::Durable(durable.upto.0));
                if let Some(sealer) = &mut self.sealer {
                    sealer.durable(durable.upto.0);
                }
            }
            Ok(None) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// When [`sync`](Self::sync) wants to be called, in microseconds of the monotonic clock.
    pub(crate) fn sync_due_us(&self) -> Option<i64> {
        self.journal.as_ref().and_then(Journal::sync_due_us)
    }

    /// Nothing more is recorded: what is open is sealed.
    pub(crate) fn close(&mut self, now: Stamp) {
        self.tell_gaps(now);
        self.seal_due(now, true);
    }

    /// The key that seals, as a person compares it.
    pub(crate) fn seal_key(&self) -> Option<String> {
        self.sealer.as_ref().map(|sealer| sealer.fingerprint().to_string())
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
        match open(&self.fs, &self.dir, &self.config, &self.caps, fresh_id, &mut self.sealer) {
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

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The list that was taken, emptied: the next effects go into it.
    pub(crate) fn give_back(&mut self, emptied: Vec<Effect>) {
        if self.effects.is_empty() {
            self.effects = emptied;
        }
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

    /// Windows that were left out since the start because they said nothing new.
    pub(crate) fn unchanged(&self) -> u64 {
        self.exception.unchanged()
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
        self.seal_what_earlier_runs_left(now);
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
                    if let Some(sealer) = &mut self.sealer {
                        sealer.note(&record);
                    }
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
}

/// How often a full disk is tried again.
const RETRY_US: i64 = 1_000_000;

#[cfg(test)]
mod tests;

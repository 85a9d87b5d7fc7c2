//! The first look at a journal: what it holds, and what is missing in it.

use std::path::Path;

use kilter_journal::{Filesystem, Journal, JournalError, Reason};
use kilter_types::{Alarm, Class, Epoch, Gap, GapReason, Name, Payload, Record};
use kilter_wire::decode_record;
use tracing::warn;

use crate::config::Cap;
use crate::hole::Holes;
use crate::sealer::Sealer;
use crate::standing;
use crate::suppress::Suppress;

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
    pub(super) quarantined: u64,
    /// The last epoch that an agent opened here: others are those of nodes.
    pub(super) own: Option<Epoch>,
    pub(crate) first: u64,
    pub(crate) durable: u64,
    /// Per epoch and class: the last seq.
    pub(super) last: Vec<(Epoch, Class, u64)>,
    /// Seqs that were given and are neither here nor told.
    pub(super) holes: Vec<Gap>,
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
            | Payload::Clip(_)
            | Payload::Seal(_) => {}
        }
    }

    /// The agent's own epoch before: the last one opened here, or `previous` if that came later and its opening is gone.
    pub(super) fn predecessor(&self, previous: Option<Epoch>) -> Option<Epoch> {
        let place = |epoch: Option<Epoch>| self.held.iter().position(|held| Some(*held) == epoch);
        if self.own.is_none() || place(previous) > place(self.own) { previous } else { self.own }
    }
}

/// Opens a journal and reads all of it.
pub(super) fn open<F: Filesystem>(
    fs: &F,
    dir: &Path,
    config: &kilter_journal::Config,
    caps: &[Cap],
    fresh_id: u64,
    sealer: &mut Option<Sealer>,
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
    if let Some(sealer) = sealer {
        sealer.begin();
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
                if let Some(sealer) = sealer {
                    sealer.found(&record);
                }
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

/// A loss as a gap; `None` for a class that this build does not know.
pub(super) fn gap_of(dropped: kilter_journal::Dropped) -> Option<Gap> {
    let reason = match dropped.reason {
        Reason::Evicted | Reason::Released => GapReason::Evicted,
        Reason::Corrupt => GapReason::Quarantined,
    };
    let (epoch, first_seq, last_seq) = (Epoch(dropped.epoch), dropped.first_seq, dropped.last_seq);
    Some(Gap { class: Class::from_u8(dropped.class)?, epoch, first_seq, last_seq, reason })
}

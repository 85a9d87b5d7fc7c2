//! What is lost, and that it is told: every loss becomes a gap record with its range and its reason (J3).

use kilter_journal::{Filesystem, Key as JournalKey, Offset};
use kilter_types::{Class, Gap, GapReason, Payload};
use kilter_uplink::Key;
use kilter_wire::encode_record;
use tracing::warn;

use super::Spooler;
use super::found::{Found, gap_of};
use crate::number::{Stamp, lose};

impl<F: Filesystem> Spooler<F> {
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

    /// Records that were committed, are lost in the lake and are not kept here any more.
    pub(crate) fn gone(&mut self, gap: Gap) {
        lose(&mut self.lost, gap);
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

    /// Appends a gap record for each loss, once the journal takes records again. Only when all of them are in, the journal hears that
    /// its losses are told: what finds no room now is told again after a restart (J3).
    pub(super) fn tell_gaps(&mut self, now: Stamp) {
        self.take_dropped();
        while let (false, Some(gap)) = (self.full, self.lost.last().copied()) {
            let Some(journal) = &mut self.journal else { return };
            let record = self.numbering.own(Payload::Gap(gap), now);
            let key = Key { epoch: record.epoch, class: Class::Gap, seq: record.seq };
            let outer = JournalKey { class: Class::Gap as u8, epoch: key.epoch.0, seq: key.seq };
            let Ok(bytes) = encode_record(&record, &mut self.scratch) else { return };
            match journal.append(outer, bytes, false) {
                Ok(_) => {
                    if let Some(sealer) = &mut self.sealer {
                        sealer.note(&record);
                    }
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
    pub(super) fn expire(&mut self, now_us: u64) {
        let Some(journal) = &mut self.journal else { return };
        for (class, below) in self.ages.due(now_us, journal.next_offset().0) {
            if let Err(error) = journal.expire(class, Offset(below)) {
                return self.failed(&error);
            }
        }
    }

    pub(super) fn take_dropped(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for dropped in journal.take_dropped() {
            let Some(gap) = gap_of(dropped) else { continue };
            let Gap { class, first_seq, last_seq, reason, .. } = gap;
            warn!(class = class.as_str(), first_seq, last_seq, reason = ?reason, "records lost");
            self.dropped += dropped.count;
            lose(&mut self.lost, gap);
        }
    }

    pub(super) fn lose_one(&mut self, key: Key, reason: GapReason) {
        self.lose(Gap { class: key.class, epoch: key.epoch, first_seq: key.seq, last_seq: key.seq, reason });
    }

    fn lose(&mut self, gap: Gap) {
        self.dropped += gap.last_seq - gap.first_seq + 1;
        lose(&mut self.lost, gap);
    }

    /// What was feared lost when a sync failed, but was found on the disk, is no loss.
    pub(super) fn keep_what_survived(&mut self, found: &Found) {
        for gap in &mut self.lost {
            let held = found.last.iter().find(|last| last.0 == gap.epoch && last.1 == gap.class);
            if let Some((_, _, last)) = held {
                gap.first_seq = gap.first_seq.max(last + 1);
            }
        }
        self.lost.retain(|gap| gap.first_seq <= gap.last_seq);
    }
}

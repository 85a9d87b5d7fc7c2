//! Seqs that were given to records which never reached the journal: found when it is opened, so that gaps can tell them.
//!
//! While the disk takes nothing, alarms leave from memory. If power goes before they arrive, the journal holds the seqs around
//! them and nothing says what became of theirs; the aggregator would wait for ever (J3). Records of one epoch and class stand in the
//! journal in the order of their seqs, what was released is the journal's beginning, and what was evicted is told in a gap record or
//! in the journal's own losses: so a seq missing between two that are held, and told by neither, is such a hole. One that did
//! arrive is told too; a row in the lake outweighs a gap.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{Class, Epoch, Gap, GapReason, Payload, Record};

/// What a scan of the journal has seen.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    next: BTreeMap<(Epoch, Class), u64>,
    /// Epochs whose first record is held: all their seqs count from 0.
    whole: BTreeSet<Epoch>,
    missing: Vec<Gap>,
    told: Vec<Gap>,
}

impl Holes {
    /// The next record of the journal.
    pub(crate) fn note(&mut self, record: &Record) {
        let (epoch, class, seq) = (record.epoch, record.class(), record.seq);
        match &record.payload {
            Payload::Opening(_) => drop(self.whole.insert(epoch)),
            Payload::Gap(gap) if gap.reason != GapReason::SourceSilent => self.told.push(*gap),
            _ => {}
        }
        let first = if self.whole.contains(&epoch) { 0 } else { seq };
        let next = self.next.entry((epoch, class)).or_insert(first);
        if seq > *next {
            let reason = GapReason::DiskFailed;
            self.missing.push(Gap { class, epoch, first_seq: *next, last_seq: seq - 1, reason });
        }
        *next = (*next).max(seq.saturating_add(1));
    }

    /// What neither a gap record nor one of these losses tells.
    pub(crate) fn untold(mut self, losses: &[Gap]) -> Vec<Gap> {
        self.told.extend_from_slice(losses);
        self.told.sort_by_key(|gap| gap.first_seq);
        let mut untold = Vec::new();
        for mut hole in self.missing {
            let same = |told: &&Gap| (told.epoch, told.class) == (hole.epoch, hole.class);
            let within = |told: &&Gap| told.last_seq >= hole.first_seq && told.first_seq <= hole.last_seq;
            let covering: Vec<Gap> = self.told.iter().filter(same).filter(within).copied().collect();
            for told in covering {
                if told.first_seq > hole.first_seq {
                    untold.push(Gap { last_seq: told.first_seq - 1, ..hole });
                }
                hole.first_seq = hole.first_seq.max(told.last_seq.saturating_add(1));
            }
            if hole.first_seq <= hole.last_seq {
                untold.push(hole);
            }
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{Event, Micros, Monotonic, Name, Opening, Point, Timeline};

    fn record(epoch: u64, seq: u64, payload: Payload) -> Record {
        let name = |text| Name::new(text).expect("a good name");
        Record {
            point: Point { tenant: name("a"), site: name("b"), asset: name("c"), point: name("d") },
            epoch: Epoch(epoch),
            seq,
            monotonic: Monotonic(0),
            timeline: Timeline::Device,
            wall: None,
            uncertainty: Micros(0),
            payload,
        }
    }

    fn event(epoch: u64, seq: u64) -> Record {
        record(epoch, seq, Payload::Event(Event::NewRegime { bin: 0 }))
    }

    fn gap(first_seq: u64, last_seq: u64) -> Gap {
        Gap { class: Class::Event, epoch: Epoch(1), first_seq, last_seq, reason: GapReason::DiskFailed }
    }

    fn opening() -> Record {
        let version = Name::new("1").expect("a good name");
        record(1, 0, Payload::Opening(Opening { journal: 7, predecessor: None, version }))
    }

    #[test]
    fn j3_only_what_is_missing_between_held_records_and_told_nowhere_is_a_hole() {
        let cases: [(&[Record], &[Gap], &[Gap]); 6] = [
            (&[event(1, 7), event(1, 8)], &[], &[]),
            (&[opening(), event(1, 2)], &[], &[gap(0, 1)]),
            (&[event(1, 3), event(1, 9), event(2, 4)], &[], &[gap(4, 8)]),
            (&[event(1, 3), event(1, 9), record(1, 0, Payload::Gap(gap(4, 8)))], &[], &[]),
            (&[event(1, 3), event(1, 9)], &[gap(5, 6)], &[gap(4, 4), gap(7, 8)]),
            (&[event(1, 3), event(1, 9)], &[gap(0, 4), gap(8, 12)], &[gap(5, 7)]),
        ];
        for (records, losses, expected) in cases {
            let mut holes = Holes::default();
            records.iter().for_each(|record| holes.note(record));
            assert_eq!(holes.untold(losses), expected);
        }
    }
}

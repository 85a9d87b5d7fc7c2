//! Turns what was said into records: point, epoch, contiguous seqs, times, and rows that name their feature record.

use std::collections::BTreeMap;

use kilter_types::{
    Class, Clock, Epoch, Event, Gap, Micros, Monotonic, Name, Payload, Point, Record, RowRef, Timeline,
};

use crate::said::Said;
use crate::suppress::Suppress;

/// Where a machine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) site: Name,
    pub(crate) asset: Name,
}

/// When something is recorded, on the node's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) monotonic: Monotonic,
    pub(crate) wall: Option<Micros>,
    pub(crate) uncertainty: Micros,
}

impl Stamp {
    pub(crate) fn now(clock: &impl Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.wall(), uncertainty: clock.uncertainty() }
    }
}

/// Numbers the records of one epoch.
#[derive(Debug)]
pub(crate) struct Numbering {
    tenant: Name,
    /// The point of what concerns the node itself.
    node: Name,
    places: Vec<Place>,
    epoch: Epoch,
    next: [u64; Class::ALL.len()],
    /// Per machine and group: the newest feature row's window and seq.
    rows: BTreeMap<(usize, u8), (u64, u64)>,
    suppress: Suppress,
}

impl Numbering {
    pub(crate) fn new(tenant: Name, node: Name, places: Vec<Place>, epoch: Epoch, suppress: Suppress) -> Self {
        Self { tenant, node, places, epoch, next: [0; Class::ALL.len()], rows: BTreeMap::new(), suppress }
    }

    /// Another epoch begins: the journal was opened again while the monitors went on.
    pub(crate) fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.next = [0; Class::ALL.len()];
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The record of what a machine said; `None` when the journal holds it already.
    pub(crate) fn record(&mut self, said: Said, now: Stamp) -> Option<Record> {
        let place = self.places.get(said.machine)?.clone();
        if said.replayable && self.suppress.covers(&place.asset, said.at, &said.payload) {
            return None;
        }
        let mut payload = said.payload;
        self.refer(said.machine, &mut payload);
        let (wall, uncertainty) = match said.timeline {
            Timeline::Source => (Some(said.at), Micros(0)),
            Timeline::Device => (now.wall, now.uncertainty),
        };
        let point = Point { tenant: self.tenant.clone(), site: place.site, asset: place.asset, point: said.point };
        let seq = self.take(payload.class());
        if let Payload::Features(row) = &payload {
            self.rows.insert((said.machine, row.group), (row.index, seq));
        }
        let (epoch, monotonic, timeline) = (self.epoch, now.monotonic, said.timeline);
        Some(Record { point, epoch, seq, monotonic, timeline, wall, uncertainty, payload })
    }

    /// A record about a machine that no window says: reports, refused models.
    pub(crate) fn about(&mut self, machine: usize, payload: Payload, now: Stamp) -> Option<Record> {
        let place = self.places.get(machine)?.clone();
        let point = Point { tenant: self.tenant.clone(), site: place.site, asset: place.asset, point: node_point() };
        Some(self.device(point, payload, now))
    }

    /// A record about the node itself: openings, gaps.
    pub(crate) fn own(&mut self, payload: Payload, now: Stamp) -> Record {
        let site = self.places.first().map_or_else(node_point, |place| place.site.clone());
        let point = Point { tenant: self.tenant.clone(), site, asset: self.node.clone(), point: node_point() };
        self.device(point, payload, now)
    }

    /// Gives seqs to records that never came to be, so that a gap can name them.
    pub(crate) fn skip(&mut self, class: Class, count: u64) -> Option<(u64, u64)> {
        let next = &mut self.next[class as usize];
        let first = *next;
        *next += count;
        (count > 0).then(|| (first, *next - 1))
    }

    /// The last record of this class could not be written and was told nowhere.
    pub(crate) fn take_back(&mut self, class: Class) {
        let next = &mut self.next[class as usize];
        *next = next.saturating_sub(1);
    }

    fn device(&mut self, point: Point, payload: Payload, now: Stamp) -> Record {
        let seq = self.take(payload.class());
        let Stamp { monotonic, wall, uncertainty } = now;
        Record { point, epoch: self.epoch, seq, monotonic, timeline: Timeline::Device, wall, uncertainty, payload }
    }

    fn take(&mut self, class: Class) -> u64 {
        let next = &mut self.next[class as usize];
        *next += 1;
        *next - 1
    }

    /// Fills in the feature record's seq where a row is named.
    fn refer(&self, machine: usize, payload: &mut Payload) {
        let name = |row: &mut RowRef| {
            let known = self.rows.get(&(machine, row.group)).filter(|(index, _)| *index == row.index);
            row.seq = known.map_or(UNKNOWN_SEQ, |(_, seq)| *seq);
        };
        match payload {
            Payload::Score(score) => name(&mut score.input),
            Payload::Alarm(alarm) => name(&mut alarm.input),
            Payload::Event(Event::ModelSwitched { first, .. }) => first.seq = UNKNOWN_SEQ,
            Payload::Event(_) | Payload::Features(_) | Payload::Gap(_) | Payload::Opening(_) => {}
            Payload::Report(_) | Payload::State(_) | Payload::Spectrum(_) | Payload::Clip(_) | Payload::Seal(_) => {}
        }
    }
}

/// Joins lost records into as few gaps as possible.
pub(crate) fn lose(gaps: &mut Vec<Gap>, lost: Gap) {
    let same = |gap: &Gap| (gap.class, gap.epoch, gap.reason) == (lost.class, lost.epoch, lost.reason);
    match gaps.iter_mut().find(|gap| same(gap) && gap.last_seq.checked_add(1) == Some(lost.first_seq)) {
        Some(gap) => gap.last_seq = lost.last_seq,
        None => gaps.push(lost),
    }
}

fn node_point() -> Name {
    Name::new("node").expect("a good name")
}

/// The row was recorded in another epoch, or is still to come; its group and index name the window.
pub(crate) const UNKNOWN_SEQ: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{
        Alarm, AlarmSource, AlarmState, Cause, Digest, FeatureRow, FeatureVector, GroupKind, KernelId, OperatingState,
        Quality, Role, Rpm, SchemaHash, Score, Severity,
    };

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn numbering(epoch: u64, suppress: Suppress) -> Numbering {
        let places = vec![Place { site: name("north"), asset: name("pump-1") }];
        Numbering::new(name("default"), name("edge-1"), places, Epoch(epoch), suppress)
    }

    fn said(index: u64, payload: Payload) -> Said {
        let at = Micros(index as i64 * 1000);
        let (point, timeline) = (name("drive-end"), Timeline::Source);
        Said { machine: 0, point, group: 0, index, at, timeline, replayable: true, payload }
    }

    /// What one window says: features, leader, shadow, statistic, an alarm and an event on each third.
    fn window(index: u64) -> Vec<Said> {
        let input = RowRef { group: 0, index, seq: 0 };
        let vector = FeatureVector { schema: SchemaHash(1), values: heapless::Vec::new(), valid: 0 };
        let at = Micros(index as i64 * 1000);
        let row = FeatureRow {
            group: 0,
            kind: GroupKind::Vibration,
            index,
            start: at,
            end: at,
            state: OperatingState::Unknown,
            rpm: Rpm(0.0),
            quality: Quality::GOOD,
            vector,
        };
        let score = |model: u8, role: Role| Score {
            input,
            anomaly: 1.0,
            threshold: 2.0,
            rul: None,
            model: Digest([model; 32]),
            kernel: KernelId::RULE,
            role,
            contributions: heapless::Vec::new(),
            rest: 1.0,
        };
        let mut out = vec![
            said(index, Payload::Features(row)),
            said(index, Payload::Score(score(7, Role::Leader))),
            said(index, Payload::Score(score(8, Role::Shadow))),
            said(index, Payload::Score(score(0, Role::Shadow))),
        ];
        if index.is_multiple_of(3) {
            for (id, state) in [(1, AlarmState::Raised), (2, AlarmState::Raised), (1, AlarmState::Cleared)] {
                out.push(said(
                    index,
                    Payload::Alarm(Alarm {
                        id,
                        state,
                        severity: Severity::Alarm,
                        source: AlarmSource::Rule,
                        cause: Cause::Unclear,
                        since: at,
                        input,
                        model: Digest::NONE,
                        evidence: heapless::Vec::new(),
                        contributions: heapless::Vec::new(),
                        unjournaled: false,
                    }),
                ));
            }
            out.push(said(index, Payload::Event(Event::NewRegime { bin: 3 })));
        }
        out
    }

    #[test]
    fn wherever_a_crash_cuts_the_journal_each_output_is_recorded_once() {
        let all: Vec<Said> = (0..9).flat_map(window).collect();
        let whole: Vec<(u64, Class)> = all.iter().map(|said| (said.index, said.payload.class())).collect();
        for cut in 0..=all.len() {
            let mut first = numbering(1, Suppress::default());
            let mut held: Vec<Record> =
                all[..cut].iter().filter_map(|said| first.record(said.clone(), Stamp::default())).collect();
            let mut suppress = Suppress::default();
            held.iter().for_each(|record| suppress.note(record));
            // The checkpoint lies at the start of any window up to the cut.
            for from in 0..=all.get(cut).map_or(8, |said| said.index) {
                let mut second = numbering(2, suppress.clone());
                let again = all.iter().filter(|said| said.index >= from);
                let fresh: Vec<Record> =
                    again.filter_map(|said| second.record(said.clone(), Stamp::default())).collect();
                assert_eq!(held.len() + fresh.len(), whole.len(), "cut {cut} from {from}");
                let mut seqs = BTreeMap::<Class, u64>::new();
                for record in &fresh {
                    let next = seqs.entry(record.class()).or_default();
                    assert_eq!(record.seq, *next, "seqs are contiguous from 0");
                    *next += 1;
                }
            }
            held.clear();
        }
    }

    #[test]
    fn scores_and_alarms_name_the_seq_of_their_feature_row() {
        let mut numbering = numbering(1, Suppress::default());
        for said in (0..4).flat_map(window) {
            let record = numbering.record(said, Stamp::default()).expect("nothing is suppressed");
            match &record.payload {
                Payload::Score(score) => assert_eq!(score.input.seq, score.input.index),
                Payload::Alarm(alarm) => assert_eq!(alarm.input.seq, alarm.input.index),
                _ => {}
            }
            assert_eq!(
                record.wall,
                Some(Micros(match &record.payload {
                    Payload::Features(row) => row.end.0,
                    _ => record.wall.unwrap_or_default().0,
                }))
            );
        }
    }
}

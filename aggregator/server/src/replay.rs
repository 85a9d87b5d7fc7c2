//! From files to state: the snapshot if there is one of this journal, and what the journal holds beyond it.
//!
//! Segments that lab and snapshot have passed are gone. When the snapshot is lost as well, the journal alone no longer tells which of
//! their records were taken: sent again they would count as new. The lab keeps that beside its commits, so dedup goes on from there and
//! is what it was. What the page had shown of the released part is drawn again from the lake ([`crate::recall`]).

use std::path::Path;

use anyhow::Context;
use kilter_fold::{Entry, Fold, KeptFold, MarkState, Output};
use kilter_journal::{Journal, Offset};
use kilter_live::{Change, Live};
use kilter_types::{JournalId, Micros};
use tracing::{info, warn};

use crate::committed::Committed;
use crate::recall::{Recall, redraw};
use crate::store::State;

/// Where the snapshot lies under the data folder.
pub(crate) const SNAPSHOT: &str = "live.snapshot";

/// The state at the journal's end.
pub(crate) fn fold_up(
    journal: &Journal,
    data: &Path,
    journal_id: JournalId,
    forget_after: Option<Micros>,
    recall: Recall<'_>,
) -> anyhow::Result<State> {
    let restored = std::fs::read(data.join(SNAPSHOT)).ok().and_then(|bytes| decode_snapshot(&bytes, journal_id));
    let mut taken = if restored.is_none() { Taken::read(data, journal_id) } else { None };
    let first = journal.first_offset().0;
    let redrawn = taken.as_ref().filter(|taken| first > 0 && taken.offset >= first);
    let redrawn = redrawn.and_then(|taken| taken.redraw(forget_after, recall));
    // Below the lab's offset the lake has told everything; the journal's entries there only compare clocks.
    let is_redrawn = redrawn.is_some();
    let fresh = || State { fold: Fold::new(), live: redrawn.unwrap_or_default(), offset: first, forget_after };
    let mut state = State { forget_after, ..restored.unwrap_or_else(fresh) };
    let mut reader = journal.reader(Offset(state.offset));
    let mut entries = 0u64;
    while let Some(stored) = reader.next().context("failed to read the journal")? {
        if let Some(taken) = taken.take_if(|taken| taken.offset <= stored.offset.0) {
            taken.hand_over(&mut state.fold, journal_id);
        }
        match Entry::decode(&stored.bytes) {
            Ok(entry) => {
                // The journal is whole: it tells everything itself.
                if matches!(entry, Entry::Opened { .. }) {
                    taken = None;
                }
                if is_redrawn && taken.is_some() {
                    state.fold.apply(stored.offset.0, entry, &mut drop);
                } else {
                    apply(&mut state, stored.offset.0, entry, &mut drop);
                }
            }
            Err(error) => warn!(offset = stored.offset.0, %error, "journal entry skipped"),
        }
        entries += 1;
    }
    if let Some(taken) = taken {
        taken.hand_over(&mut state.fold, journal_id);
    }
    if state.fold.journal_id().is_none() {
        warn!(
            "the journal's begin is released, and snapshot and the lab's files are lost: records sent again may show twice"
        );
    }
    state.offset = journal.next_offset().0;
    info!(entries, "journal folded");
    Ok(state)
}

/// Folds one entry; `told` hears what changed.
pub(crate) fn apply(state: &mut State, offset: u64, entry: Entry, told: &mut dyn FnMut(Change)) {
    let State { fold, live, forget_after, .. } = state;
    let day = fold.now().0.div_euclid(DAY_US);
    fold.apply(offset, entry, &mut |output: Output| told(live.apply(&output)));
    // By the journal's own clock: whoever folds the same entries forgets the same. A clock that jumps, or a service that was away for
    // long, forgets nobody before they had a day to speak.
    if let Some(after) = forget_after.filter(|_| fold.now().0.div_euclid(DAY_US) == day + 1) {
        live.forget(fold.now(), after);
    }
}

/// The state as bytes.
pub(crate) fn encode_snapshot(state: &State, journal_id: JournalId) -> Vec<u8> {
    let parts = (SNAPSHOT_VERSION, journal_id, state.offset, state.fold.snapshot(), state.live.snapshot());
    postcard::to_allocvec(&parts).expect("bytes and numbers are always writable")
}

fn decode_snapshot(bytes: &[u8], journal_id: JournalId) -> Option<State> {
    let (version, id, offset, fold, live): (u8, JournalId, u64, Vec<u8>, Vec<u8>) = postcard::from_bytes(bytes).ok()?;
    if version != SNAPSHOT_VERSION || id != journal_id {
        return None;
    }
    Some(State { fold: Fold::restore(&fold).ok()?, live: Live::restore(&live).ok()?, offset, forget_after: None })
}

/// What the lab knows of the records below an offset.
struct Taken {
    offset: u64,
    by: By,
}

enum By {
    /// Its own fold: the same entries give the same state.
    Fold(Fold),
    /// What it published; when each device's clock was compared is not in it.
    Marks(Vec<MarkState>),
}

impl Taken {
    fn read(data: &Path, journal_id: JournalId) -> Option<Self> {
        let kept = std::fs::read(data.join("lab").join("fold")).ok().and_then(|bytes| KeptFold::decode(&bytes));
        if let Some(kept) = kept.filter(|kept| kept.journal_id == journal_id) {
            return Some(Self { offset: kept.offset, by: By::Fold(kept.fold) });
        }
        let published = Committed::read(data).filter(|published| published.journal_id == journal_id.0)?;
        Some(Self { offset: published.offset, by: By::Marks(published.marks) })
    }

    /// What the page showed below the offset.
    fn redraw(&self, forget_after: Option<Micros>, recall: Recall<'_>) -> Option<Live> {
        let (marks, now) = match &self.by {
            By::Fold(kept) => (kept.marks(), kept.now()),
            By::Marks(marks) => (marks.clone(), Micros(i64::MAX)),
        };
        match redraw(marks, now, recall) {
            Ok((mut live, rows)) => {
                if let (Some(after), By::Fold(_)) = (forget_after, &self.by) {
                    live.forget(now, after);
                }
                info!(rows, "the snapshot is lost; the page is drawn again from the lake");
                Some(live)
            }
            Err(error) => {
                let error = format!("{error:#}");
                warn!(
                    error,
                    "the snapshot is lost and the lake is not told; the page shows what the journal still holds"
                );
                None
            }
        }
    }

    fn hand_over(self, fold: &mut Fold, journal_id: JournalId) {
        match self.by {
            By::Fold(kept) => *fold = kept,
            By::Marks(marks) => fold.take_over(journal_id, &marks),
        }
    }
}

const SNAPSHOT_VERSION: u8 = 1;

const DAY_US: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use kilter_journal::{Config, Drop, FsyncPolicy, Key, RealFilesystem};
    use kilter_types::{Class, DeviceId, Epoch, Event, Micros, Monotonic, Name, Payload, Point, Record, Timeline};
    use kilter_wire::{Batch, BatchRecord, encode_record};
    use serde_json::json;

    use super::*;

    const JOURNAL: JournalId = JournalId(9);

    fn events(seqs: std::ops::Range<u64>) -> Entry {
        let (mut room, mut used) = (vec![0; 64 * 1024], 0);
        for seq in seqs {
            let record = Record {
                point: Point::parse("acme/north/press/drive-end").expect("a good address"),
                epoch: Epoch(5),
                seq,
                monotonic: Monotonic(1_000 * seq),
                timeline: Timeline::Device,
                wall: None,
                uncertainty: Micros(0),
                payload: Payload::Event(Event::Maintenance { what: Name::new("oil").expect("a good name") }),
            };
            let mut bytes = [0; 512];
            let bytes = encode_record(&record, &mut bytes).expect("a small record");
            assert!(Batch::push(&mut room, &mut used, BatchRecord { class: Class::Event as u8, seq, bytes }));
        }
        room.truncate(used);
        let device = DeviceId::new("press").expect("a good name");
        Entry::Batch { device, received: Micros(9), epoch: Epoch(5), records: room }
    }

    fn exchange(at: u64) -> Entry {
        let device = DeviceId::new("press").expect("a good name");
        let (received, monotonic) = (Micros(1_000_000 + at as i64), Monotonic(at));
        Entry::Exchange { device, epoch: Epoch(5), received, monotonic, round_trip_us: 400 }
    }

    fn no_lab(_: &mut dyn FnMut(Output)) -> anyhow::Result<()> {
        anyhow::bail!("there is no lab")
    }

    /// A journal of which the lab has committed two thirds, and what lay below is released.
    struct Released {
        journal: Journal,
        /// What all of it makes.
        whole: (Fold, Live),
        /// What it gave.
        outputs: Vec<Output>,
        /// The lab's fold.
        kept: Vec<u8>,
        /// What the lab told.
        published: serde_json::Value,
    }

    fn released(data: &Path) -> Released {
        let config = Config {
            segment_bytes: 2 << 10,
            max_bytes: 1 << 20,
            fsync: FsyncPolicy::Always,
            reserve_bytes: 0,
            drop_policy: Drop::Never,
            keep_bytes: 0,
        };
        let (mut journal, _) = Journal::open(RealFilesystem, &data.join("journal"), config, JOURNAL.0).expect("opens");
        let mut entries = vec![Entry::Opened { journal_id: JOURNAL, at: Micros(1), marks: Vec::new() }];
        for i in 0..60 {
            // Each part overlaps with the one before, and every fifth is missing when it is due.
            entries.push(events(i * 10 + 3..i * 10 + 15));
            if i % 5 == 0 {
                entries.extend([exchange(i * 1_000), events(i * 10..i * 10 + 3)]);
            }
        }
        let (mut whole, mut live, mut outputs, mut lab) = (Fold::new(), Live::new(), Vec::new(), None);
        for (i, entry) in entries.iter().enumerate() {
            let key = Key { class: entry.kind(), epoch: JOURNAL.0, seq: i as u64 };
            if i == entries.len() * 2 / 3 {
                let offset = journal.next_offset().0;
                let published = json!({ "journal_id": JOURNAL.0, "offset": offset, "marks": whole.marks() });
                lab = Some((offset, KeptFold::encode(JOURNAL, offset, &whole.snapshot()), published));
            }
            let offset = journal.append(key, &entry.encode(), false).expect("room");
            whole.apply(offset.0, entry.clone(), &mut |output| {
                live.apply(&output);
                outputs.push(output);
            });
        }
        journal.sync().expect("a healthy disk");
        let (offset, kept, published) = lab.expect("the lab was there");
        journal.release(Offset(offset)).expect("released");
        assert!(journal.first_offset().0 > 0, "segments are gone");
        Released { journal, whole: (whole, live), outputs, kept, published }
    }

    fn rows_of_all_sent_again(mut state: State) -> usize {
        let mut rows = 0;
        let State { fold, .. } = &mut state;
        fold.apply(u64::MAX, events(0..605), &mut |_| rows += 1);
        rows
    }

    #[test]
    fn s4_33_with_segments_released_and_the_snapshot_lost_dedup_goes_on_from_what_the_lab_keeps() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let Released { journal, whole: (whole, _), kept: fold, published, .. } = released(data);
        let lab = data.join("lab");
        std::fs::create_dir(&lab).expect("created");
        let up = || fold_up(&journal, data, JOURNAL, None, &no_lab).expect("folded");
        assert!(rows_of_all_sent_again(up()) > 300, "without the lab's files nobody knows what was released");
        std::fs::write(lab.join("committed.json"), published.to_string()).expect("written");
        let from_marks = up();
        assert_eq!(from_marks.fold.marks(), whole.marks(), "from what was published: the same marks");
        assert_eq!(rows_of_all_sent_again(from_marks), 0);
        std::fs::write(lab.join("fold"), &fold).expect("written");
        let from_fold = up();
        assert_eq!(from_fold.fold, whole, "from the lab's fold: the same state, clocks and all");
        let shown: u64 = from_fold.live.rows().values().sum();
        assert!(shown > 200, "what the journal still holds is shown: {shown}");
        assert_eq!(rows_of_all_sent_again(from_fold), 0);
        // Another journal's fold is nobody's, and a damaged one is left alone.
        let other = KeptFold::encode(JournalId(8), 0, &Fold::new().snapshot());
        std::fs::write(lab.join("fold"), other).expect("written");
        assert_eq!(up().fold.marks(), whole.marks());
        std::fs::write(lab.join("fold"), &fold[1..]).expect("written");
        assert_eq!(up().fold.marks(), whole.marks());
    }

    #[test]
    fn s4_33_with_segments_released_and_the_snapshot_lost_the_page_is_drawn_again_from_the_lake() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let Released { journal, whole: (whole, live), outputs, kept, published } = released(data);
        std::fs::create_dir(data.join("lab")).expect("created");
        std::fs::write(data.join("lab/committed.json"), published.to_string()).expect("written");
        // A lake that was committed to beyond what was told, or by the lab's last breath: what the journal tells again is not drawn twice.
        let offset = published["offset"].as_u64().expect("an offset");
        let of = |output: &Output| match output {
            Output::Row(row) => row.offset,
            Output::Quarantine { offset, .. } => *offset,
        };
        let more = outputs.iter().filter(|output| of(output) >= offset).count();
        assert!(more > 100 && outputs.len() > more + 100, "{more} of {}", outputs.len());
        let lake = |hear: &mut dyn FnMut(Output)| -> anyhow::Result<()> {
            outputs.iter().cloned().for_each(hear);
            Ok(())
        };
        let by_marks = fold_up(&journal, data, JOURNAL, None, &lake).expect("folded");
        assert_eq!((by_marks.fold.marks(), &by_marks.live), (whole.marks(), &live));
        std::fs::write(data.join("lab/fold"), &kept).expect("written");
        let by_fold = fold_up(&journal, data, JOURNAL, None, &lake).expect("folded");
        assert_eq!((&by_fold.fold, &by_fold.live), (&whole, &live));
        // A lab that breaks off has told nothing: the page is drawn from what the journal still holds.
        let broken = |hear: &mut dyn FnMut(Output)| {
            outputs.iter().take(50).cloned().for_each(hear);
            no_lab(&mut drop)
        };
        let state = fold_up(&journal, data, JOURNAL, None, &broken).expect("folded");
        assert_eq!(state.fold, whole);
        let without = fold_up(&journal, data, JOURNAL, None, &no_lab).expect("folded");
        assert!(state.live == without.live && state.live != live, "half of a lake is shown");
    }

    #[test]
    fn s4_20_who_is_gone_is_forgotten_on_the_same_day_by_every_replay_and_a_jump_of_the_clock_forgets_nobody() {
        let day = |day: i64| Entry::Tick { now: Micros(day * DAY_US + 5) };
        let fresh =
            || State { fold: Fold::new(), live: Live::new(), offset: 0, forget_after: Some(Micros(3 * DAY_US)) };
        let nodes = |state: &State| state.live.fleet(Micros(0)).devices.len();
        let mut entries = vec![events(0..3)];
        entries.extend((0..8).map(day));
        let run = |mut state: State, entries: &[Entry]| {
            entries.iter().for_each(|entry| apply(&mut state, 0, entry.clone(), &mut drop));
            state
        };
        let gone = (0..=entries.len()).find(|upto| *upto > 0 && nodes(&run(fresh(), &entries[..*upto])) == 0);
        assert_eq!(gone, Some(6), "after the fourth day");
        for cut in 0..entries.len() {
            let mut half = run(fresh(), &entries[..cut]);
            half = decode_snapshot(&encode_snapshot(&half, JOURNAL), JOURNAL).expect("a good snapshot");
            half.forget_after = Some(Micros(3 * DAY_US));
            assert_eq!(run(half, &entries[cut..]).live, run(fresh(), &entries).live, "cut after {cut} entries");
        }
        let jumped =
            run(fresh(), &[events(0..3), day(1), day(24_000), Entry::Tick { now: Micros(24_000 * DAY_US + 9) }]);
        assert_eq!(nodes(&jumped), 1);
        assert_eq!(nodes(&run(jumped, &[day(24_001)])), 0, "a day later it has had its time");
        let kept = run(State { forget_after: None, ..fresh() }, &entries);
        assert_eq!(nodes(&kept), 1);
    }

    #[test]
    fn s4_33_a_journal_that_is_whole_is_folded_from_its_begin_whatever_the_lab_keeps() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let config = Config { drop_policy: Drop::Never, ..Config::spool(1 << 20, Vec::new()) };
        let (mut journal, _) = Journal::open(RealFilesystem, &data.join("journal"), config, JOURNAL.0).expect("opens");
        let entries =
            [Entry::Opened { journal_id: JOURNAL, at: Micros(1), marks: Vec::new() }, events(0..4), events(2..9)];
        let mut whole = Fold::new();
        for (i, entry) in entries.into_iter().enumerate() {
            let key = Key { class: entry.kind(), epoch: JOURNAL.0, seq: i as u64 };
            let offset = journal.append(key, &entry.encode(), false).expect("room");
            whole.apply(offset.0, entry, &mut drop);
        }
        journal.sync().expect("a healthy disk");
        std::fs::create_dir(data.join("lab")).expect("created");
        let ahead = KeptFold::encode(JOURNAL, 1, &Fold::new().snapshot());
        std::fs::write(data.join("lab/fold"), ahead).expect("written");
        let state = fold_up(&journal, data, JOURNAL, None, &no_lab).expect("folded");
        assert_eq!((&state.fold, state.live.rows().values().sum::<u64>()), (&whole, 9));
        // A snapshot whose live part an older build wrote is as good as none: the journal tells all of it again.
        let mut older = state.live.snapshot();
        older[0] -= 1;
        let parts = (SNAPSHOT_VERSION, JOURNAL, state.offset, state.fold.snapshot(), older);
        let bytes = postcard::to_allocvec(&parts).expect("plain bytes");
        assert!(decode_snapshot(&bytes, JOURNAL).is_none(), "a layout that it does not know");
        std::fs::write(data.join(SNAPSHOT), bytes).expect("written");
        let again = fold_up(&journal, data, JOURNAL, None, &no_lab).expect("folded");
        assert_eq!((again.fold, again.live), (state.fold, state.live));
    }
}

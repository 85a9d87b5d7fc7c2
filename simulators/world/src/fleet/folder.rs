//! What the lab does with an entry apart from the world: it is decoded and folded, and what a row says is hashed to be compared.
//!
//! None of this depends on when it is done, only on the entries and their order. So the lab of a large fleet hands them to a second thread
//! while the world goes on, and its turn takes what came of them; the same seed ends the same way on one thread or two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use kilter_fold::{Entry, Fold, Output, Row};
use kilter_types::{DeviceId, Epoch, Payload};
use kilter_uplink::Key;
use kilter_wire::encode_record;
use kilter_wire::up::MAX_RECORD_BYTES;

use super::Plant;
use super::kept_fold::KeptFold;
use super::lake::Lost;
use super::marks::Marks;
use super::record::device;
use super::truth::{Broken, FNV, broken, fnv};

/// The fold, and what came of it since the last commit.
pub(crate) struct Folder {
    fold: Fold,
    /// As of the last commit, and which epochs' marks have moved since.
    kept: Option<KeptFold>,
    marks: Marks,
    moved: BTreeMap<usize, BTreeSet<Epoch>>,
    /// What was folded since.
    folded: Vec<(u64, Arc<[u8]>)>,
    pending: Vec<Folded>,
    /// Rows that the lake lost and that have come again.
    again: Vec<Folded>,
    broken: Result<(), Broken>,
    /// A planted mistake: where the last entry begins, and the fold before it.
    seam: Option<(u64, KeptFold)>,
    plants_seam: bool,
    /// Where a record is written.
    room: Box<[u8; MAX_RECORD_BYTES + 1]>,
}

/// A row, the number of its agent and the hash of its record.
pub(crate) struct Folded {
    pub(crate) agent: usize,
    pub(crate) row: Box<Row>,
    pub(crate) hash: u64,
}

/// What a commit takes.
pub(crate) struct Cut {
    pub(crate) rows: Vec<Folded>,
    pub(crate) again: Vec<Folded>,
    pub(crate) fold: KeptFold,
    pub(crate) marks: Marks,
    pub(crate) seam: Option<(u64, KeptFold)>,
}

impl Folder {
    /// Goes on behind a commit, or begins.
    pub(crate) fn new(fold: Fold, kept: Option<KeptFold>, marks: Marks, plant: Option<Plant>) -> Self {
        Self {
            fold,
            kept,
            marks,
            moved: BTreeMap::new(),
            folded: Vec::new(),
            pending: Vec::new(),
            again: Vec::new(),
            broken: Ok(()),
            seam: None,
            plants_seam: plant == Some(Plant::SeamOffByOne),
            room: Box::new([0; MAX_RECORD_BYTES + 1]),
        }
    }

    fn take(&mut self, offset: u64, bytes: Arc<[u8]>, lost: &Lost) {
        if self.broken.is_ok() {
            self.broken = self.fold(offset, &bytes, lost);
            self.folded.push((offset, bytes));
        }
    }

    /// One entry into the fold.
    fn fold(&mut self, offset: u64, bytes: &[u8], lost: &Lost) -> Result<(), Broken> {
        if self.plants_seam {
            self.seam = Some((offset, KeptFold::of(&self.fold)));
        }
        let entry = Entry::decode(bytes).or_else(|error| broken("J2", error.to_string()))?;
        let Self { fold, pending, again, moved, room, .. } = self;
        let mut moves = |device: &DeviceId, epoch| {
            moved.entry(agent_of(device)).or_default().insert(epoch);
        };
        match &entry {
            Entry::Opened { marks, .. } => marks.iter().for_each(|mark| moves(&mark.device, mark.epoch)),
            _ if fold.journal_id().is_none() => {
                return broken("L1", "the journal's beginning was released before the lab had read it");
            }
            Entry::Batch { device, epoch, .. } | Entry::OverQuota { device, epoch, .. } => moves(device, *epoch),
            Entry::Exchange { .. } | Entry::Tick { .. } | Entry::Quarantined { .. } => {}
        }
        let mut folded = |row: Box<Row>| {
            let hash = encode_record(&row.record, &mut **room).map_or(0, |bytes| fnv(FNV, bytes));
            Folded { agent: agent_of(&row.device), row, hash }
        };
        let mut is_lost = |device: &DeviceId, epoch, class, seq| {
            !lost.is_empty() && lost.contains(&(agent_of(device), Key { epoch, class, seq }))
        };
        fold.again(offset, &entry, &mut is_lost, &mut |row| again.push(folded(Box::new(row))));
        let mut quarantined = Ok(());
        fold.apply(offset, entry, &mut |output| match output {
            Output::Row(row) => {
                if let Payload::Gap(gap) = &row.record.payload {
                    moves(&row.device, gap.epoch);
                }
                pending.push(folded(row));
            }
            Output::Quarantine { device, reason, .. } => {
                let detail = format!("a good record of agent {} was quarantined: {reason}", agent_of(&device));
                quarantined = broken("D2", detail);
            }
        });
        quarantined
    }

    /// What is worth a commit: rows, or `enough` entries without any.
    fn cut(&mut self, enough: bool) -> Result<Option<Cut>, Broken> {
        self.broken.clone()?;
        if self.pending.is_empty() && self.again.is_empty() && !enough {
            return Ok(None);
        }
        self.gather_marks();
        let fold = KeptFold::keep(self.kept.take(), &mut self.folded, &self.fold, self.marks.len());
        self.kept = Some(fold.clone());
        let (rows, again) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.again));
        Ok(Some(Cut { rows, again, fold, marks: self.marks.clone(), seam: self.seam.take() }))
    }

    /// The marks that moved since the last commit. Their epochs were seen since, so they are the last.
    fn gather_marks(&mut self) {
        for (agent, mut epochs) in std::mem::take(&mut self.moved) {
            let mut seen = Vec::new();
            for (epoch, marks) in self.fold.latest_marks_of(&device(agent)) {
                epochs.remove(&epoch);
                seen.push((epoch, marks));
                if epochs.is_empty() {
                    break;
                }
            }
            self.marks.set(agent, seen.into_iter().rev());
        }
    }
}

/// Who folds.
pub(crate) enum Hand {
    /// Whoever asks for it.
    Own(Box<Folder>),
    /// A thread of its own, which ends when nobody asks any more.
    Other { words: Sender<Word>, cuts: Receiver<Result<Option<Cut>, Broken>>, gathered: Vec<Read> },
}

/// An entry, and what the lake had lost when it was read.
pub(crate) struct Read {
    offset: u64,
    bytes: Arc<[u8]>,
    lost: Lost,
}

/// What the other thread is told.
pub(crate) enum Word {
    Take(Vec<Read>),
    Cut { enough: bool },
}

impl Hand {
    pub(crate) fn new(mut folder: Folder, apart: bool) -> Self {
        if !apart {
            return Self::Own(Box::new(folder));
        }
        let ((words, told), (answer, cuts)) = (channel(), channel());
        std::thread::spawn(move || {
            for word in told {
                match word {
                    Word::Take(entries) => {
                        entries.into_iter().for_each(|Read { offset, bytes, lost }| folder.take(offset, bytes, &lost));
                    }
                    // Nobody to answer: the lab has ended.
                    Word::Cut { enough } => drop(answer.send(folder.cut(enough))),
                }
            }
        });
        Self::Other { words, cuts, gathered: Vec::new() }
    }

    pub(crate) fn take(&mut self, offset: u64, bytes: Arc<[u8]>, lost: &Lost) {
        match self {
            Self::Own(folder) => folder.take(offset, bytes, lost),
            Self::Other { words, gathered, .. } => {
                gathered.push(Read { offset, bytes, lost: Arc::clone(lost) });
                // To wake the other thread takes longer than to fold an entry.
                if gathered.len() >= AT_ONCE {
                    words.send(Word::Take(std::mem::take(gathered))).expect("the thread lives as long as this");
                }
            }
        }
    }

    pub(crate) fn cut(&mut self, enough: bool) -> Result<Option<Cut>, Broken> {
        match self {
            Self::Own(folder) => folder.cut(enough),
            Self::Other { words, cuts, gathered } => {
                words.send(Word::Take(std::mem::take(gathered))).expect("the thread lives as long as this");
                words.send(Word::Cut { enough }).expect("the thread lives as long as this");
                cuts.recv().expect("each cut is answered")
            }
        }
    }
}

/// So many entries go to the other thread at once.
const AT_ONCE: usize = 64;

fn agent_of(device: &DeviceId) -> usize {
    device.as_str().strip_prefix("edge-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

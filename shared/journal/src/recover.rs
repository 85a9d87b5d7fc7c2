//! Opening: finds the journal's id, cuts a torn tail, repairs or quarantines damage, and makes durable what it then vouches for.
//!
//! A bad entry in the last segment at or above the watermark was never acknowledged and is cut with all behind it. Anywhere else it is
//! damage: the original is kept as `.bad`, the segment is rewritten with its good entries at their offsets, and seqs that are
//! missing around the damage become losses. Released segments that are kept have nothing to lose: what is not whole of them goes.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use crate::format::{
    Framed, IDENTITY_FILE, LOCK_FILE, LedgerContent, RESERVE_FILE, SEGMENT_HEADER_BYTES, WATERMARK_FILE,
    encode_identity, parse_identity, parse_segment_header, parse_watermark, segment_base, segment_name, segment_path,
};
use crate::journal::{ClassBytes, Config, FsyncPolicy, Segment};
use crate::ledger::{Ledger, read_whole, replace};
use crate::scan::Cursor;
use crate::{Dropped, Filesystem, Journal, JournalError, Key, Offset, Reason};

mod aside;
mod released;
mod segment;

pub(crate) use aside::QUARANTINE_SUFFIX;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The journal's id, kept in the folder.
    pub journal_id: u64,
    /// Whether nothing was ever written to it: its first entry is still to come.
    pub created: bool,
    /// Last seq by epoch and class, of released entries too (of the latest 256 pairs).
    pub last: Vec<(u64, u8, u64)>,
    /// Entries held.
    pub entries: u64,
    /// Bytes cut from the tail: written, never acknowledged.
    pub torn_bytes: u64,
    /// Names of the `.bad` files made now.
    pub quarantined: Vec<String>,
    /// Where the next entry goes, or above.
    pub next_offset: Offset,
    /// Ranges without entries between the oldest and the next offset.
    pub gaps: Vec<Gap>,
}

/// A range of offsets without entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First offset missing.
    pub from: Offset,
    /// Offset at which it goes on.
    pub to: Offset,
    /// Why.
    pub reason: Reason,
}

pub(crate) fn open<F: Filesystem>(
    fs: F,
    dir: &Path,
    config: Config,
    fresh_id: u64,
) -> Result<(Journal<F>, Recovery), JournalError> {
    fs.create_dir_all(dir).map_err(JournalError::io("create", dir))?;
    let lock_path = dir.join(LOCK_FILE);
    let lock = fs.lock(&lock_path).map_err(JournalError::io("lock", &lock_path))?;
    let lock = lock.ok_or_else(|| JournalError::Locked { dir: dir.to_owned() })?;

    let names = fs.list(dir).map_err(JournalError::io("list", dir))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp") || *name == RESERVE_FILE) {
        remove(&fs, dir, name)?;
    }
    let mut bases: Vec<u64> = names.iter().filter_map(|name| segment_base(name)).collect();
    bases.sort_unstable();

    let ledger_content = match Ledger::read(&fs, dir)? {
        Framed::Good(content) => content,
        Framed::Bad | Framed::Newer(_) => LedgerContent::default(),
    };
    let (journal_id, known) = identify(&fs, dir, &bases, ledger_content.journal_id)?;
    let journal_id = journal_id.unwrap_or(fresh_id);
    let ledger_content =
        if ledger_content.journal_id == journal_id { ledger_content } else { LedgerContent::default() };
    if !known {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs.sync_dir(parent).map_err(JournalError::io("sync", parent))?;
        }
        replace(&fs, dir, IDENTITY_FILE, &encode_identity(journal_id))?;
    }
    let watermark = match read_whole(&fs, &dir.join(WATERMARK_FILE))?.map(|bytes| parse_watermark(&bytes)) {
        Some(Framed::Good((id, upto))) if id == journal_id => upto,
        _ => 0,
    };

    let mut recoverer = Recoverer::new(fs, dir, journal_id, &ledger_content, watermark);
    recoverer.set_strangers_aside(&mut bases)?;
    let released = recoverer.take_released(&mut bases);
    let counted_from = bases.first().copied();
    recoverer.remove_unborn(&mut bases)?;
    recoverer.set_intruders_aside(&mut bases)?;
    for (index, base) in bases.iter().enumerate() {
        recoverer.segment(*base, bases.get(index + 1).copied())?;
    }
    recoverer.keep_released(&released, counted_from.filter(|_| !bases.is_empty()), config.keep_bytes)?;
    recoverer.finish(config, lock)
}

/// The journal's id, and whether the identity file tells it; without the file, a good segment or the ledger does.
fn identify<F: Filesystem>(
    fs: &F,
    dir: &Path,
    bases: &[u64],
    in_ledger: u64,
) -> Result<(Option<u64>, bool), JournalError> {
    let path = dir.join(IDENTITY_FILE);
    match read_whole(fs, &path)?.map(|bytes| parse_identity(&bytes)) {
        Some(Framed::Good(id)) => return Ok((Some(id), true)),
        Some(Framed::Newer(found)) => return Err(JournalError::Version { path, found }),
        Some(Framed::Bad) | None => {}
    }
    for base in bases {
        let path = segment_path(dir, *base);
        if let Framed::Good((id, _)) = segment_header(fs, &path)? {
            return Ok((Some(id), false));
        }
    }
    Ok(((in_ledger != 0).then_some(in_ledger), false))
}

fn segment_header<F: Filesystem>(fs: &F, path: &Path) -> Result<Framed<(u64, u64)>, JournalError> {
    let file = fs.open(path).map_err(JournalError::io("open", path))?;
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = fs.read_at(&file, 0, &mut header).map_err(JournalError::io("read", path))?;
    match parse_segment_header(&header[..read]) {
        Framed::Newer(found) => Err(JournalError::Version { path: path.to_owned(), found }),
        header => Ok(header),
    }
}

fn remove<F: Filesystem>(fs: &F, dir: &Path, name: &str) -> Result<(), JournalError> {
    let path = dir.join(name);
    match fs.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(JournalError::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// State while the segments are read in order.
#[derive(Debug)]
struct Recoverer<'a, F: Filesystem> {
    fs: F,
    dir: &'a Path,
    /// Everything below was durable once: what is missing there is damage.
    watermark: u64,
    ledger: Ledger,
    segments: VecDeque<Segment>,
    /// Released ones that are kept, before all others.
    kept: VecDeque<Segment>,
    /// The mark as the ledger told it.
    released_durable: u64,
    report: Recovery,
    /// Ranges found damaged now; an entry behind one whose seq jumps tells what was lost in it.
    damage: Vec<(u64, u64)>,
    lost: Vec<Dropped>,
    repairs: Vec<Repair>,
    /// Offset behind the last segment read.
    end: u64,
    tail: Option<Tail>,
}

/// A segment file to be replaced.
#[derive(Debug)]
struct Repair {
    base: u64,
    content: Vec<u8>,
    keep_original: bool,
}

/// The last segment, as it will be appended to.
#[derive(Debug)]
struct Tail {
    /// Where in the file the part begins that no sync vouches for.
    unvouched_from: u64,
    good_bytes: u64,
    file_bytes: u64,
}

impl<'a, F: Filesystem> Recoverer<'a, F> {
    fn new(fs: F, dir: &'a Path, journal_id: u64, content: &LedgerContent, watermark: u64) -> Self {
        let mut ledger =
            Ledger { journal_id, released: content.released, recorded: content.recorded, ..Ledger::default() };
        ledger.next_number = content.recorded.saturating_add(1);
        for loss in &content.losses {
            ledger.next_number = ledger.next_number.max(loss.number.saturating_add(1));
            ledger.losses.push(*loss);
        }
        ledger.last =
            content.last.iter().map(|(epoch, class, seq)| ((*epoch, *class), (*seq, 0))).collect::<BTreeMap<_, _>>();
        Self {
            fs,
            dir,
            watermark: watermark.max(content.durable),
            ledger,
            segments: VecDeque::new(),
            kept: VecDeque::new(),
            released_durable: content.released,
            report: Recovery { journal_id, ..Recovery::default() },
            damage: Vec::new(),
            lost: Vec::new(),
            repairs: Vec::new(),
            end: content.released,
            tail: None,
        }
    }

    /// Removes last segments whose header was not finished: no entry can have followed.
    fn remove_unborn(&mut self, bases: &mut Vec<u64>) -> Result<(), JournalError> {
        while let Some(base) = bases.last() {
            let path = segment_path(self.dir, *base);
            let file = self.fs.open(&path).map_err(JournalError::io("open", &path))?;
            let len = self.fs.len(&file).map_err(JournalError::io("measure", &path))?;
            if len > SEGMENT_HEADER_BYTES as u64 || segment_header(&self.fs, &path)? != Framed::Bad {
                break;
            }
            self.report.torn_bytes += len;
            remove(&self.fs, self.dir, &segment_name(*base))?;
            bases.pop();
        }
        Ok(())
    }

    fn finish(mut self, config: Config, lock: F::File) -> Result<(Journal<F>, Recovery), JournalError> {
        if self.segments.is_empty() && self.watermark > self.end {
            self.damaged(self.end, self.watermark);
            self.end = self.watermark;
            self.ledger.released = self.watermark;
        }
        if !self.damage.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            self.ledger.add(&lost);
            self.ledger.write(&self.fs, self.dir, Offset(self.end))?;
        }
        for repair in std::mem::take(&mut self.repairs) {
            if repair.keep_original {
                self.quarantine(repair.base)?;
            }
            replace(&self.fs, self.dir, &segment_name(repair.base), &repair.content)?;
        }
        let (mut active, mut written_bytes) = (None, 0);
        if let (Some(tail), Some(segment)) = (&self.tail, self.segments.back()) {
            let path = segment_path(self.dir, segment.base);
            active = Some(self.vouch(tail, &path, config.fsync)?);
            written_bytes = tail.good_bytes;
        }
        if config.fsync != FsyncPolicy::Never {
            self.fs.sync_dir(self.dir).map_err(JournalError::io("sync", self.dir))?;
        }
        let watermark = self.fs.open_write(&self.dir.join(WATERMARK_FILE)).ok();
        self.report.last = self.ledger.last.iter().map(|((epoch, class), (seq, _))| (*epoch, *class, *seq)).collect();
        self.report.next_offset = Offset(self.end);
        self.report.created = self.report.entries == 0 && self.end <= SEGMENT_HEADER_BYTES as u64;
        self.report.gaps.sort_by_key(|gap| gap.from);
        let mut journal = Journal {
            fs: self.fs,
            dir: self.dir.to_owned(),
            config,
            ledger: self.ledger,
            released_durable: self.released_durable,
            segments: self.kept.into_iter().chain(self.segments).collect(),
            active,
            buffer: Vec::new(),
            written_bytes,
            next: self.end,
            durable: self.end,
            last_sync_us: None,
            watermark,
            reserve_held: false,
            class_caps: Vec::new(),
            dead: false,
            _lock: lock,
        };
        journal.write_watermark();
        journal.hold_reserve();
        Ok((journal, self.report))
    }

    /// Cuts what is torn and makes the rest durable. After a failed sync of the previous run the cache may hold pages that count as
    /// clean and are not on disk, so what no sync vouches for is written again.
    fn vouch(&self, tail: &Tail, path: &Path, fsync: FsyncPolicy) -> Result<F::File, JournalError> {
        let file = self.fs.open_write(path).map_err(JournalError::io("open", path))?;
        if tail.file_bytes > tail.good_bytes {
            self.fs.set_len(&file, tail.good_bytes).map_err(JournalError::io("cut", path))?;
        }
        let mut unvouched = vec![0; tail.good_bytes.saturating_sub(tail.unvouched_from) as usize];
        if !unvouched.is_empty() {
            let read =
                self.fs.read_at(&file, tail.unvouched_from, &mut unvouched).map_err(JournalError::io("read", path))?;
            self.fs
                .write_at(&file, tail.unvouched_from, &unvouched[..read])
                .map_err(JournalError::io("write", path))?;
        }
        if fsync != FsyncPolicy::Never {
            self.fs.sync_file(&file).map_err(JournalError::io("sync", path))?;
        }
        Ok(file)
    }

    fn cursor(&self, base: u64) -> Result<Cursor<F>, JournalError> {
        let path = segment_path(self.dir, base);
        let file = self.fs.open(&path).map_err(JournalError::io("open", &path))?;
        Ok(Cursor::new(self.fs.clone(), file, self.ledger.journal_id, base))
    }

    fn add_segment(&mut self, base: u64, end: u64, bytes: u64, classes: ClassBytes) {
        self.segments.push_back(Segment { base, end, bytes, classes });
        self.end = end;
    }

    fn damaged(&mut self, from: u64, to: u64) {
        if to > from {
            self.damage.push((from, to));
            self.report.gaps.push(Gap { from: Offset(from), to: Offset(to), reason: Reason::Corrupt });
        }
    }

    fn note(&mut self, key: Key, offset: u64) {
        self.report.entries += 1;
        let before = self.ledger.last.insert((key.epoch, key.class), (key.seq, offset));
        let Some((last_seq, last_offset)) = before else { return };
        let (first_seq, jumps) = (last_seq.saturating_add(1), key.seq > last_seq.saturating_add(1));
        if jumps && self.damage.iter().any(|(from, to)| *from >= last_offset && *to <= offset) {
            let (class, epoch, last_seq) = (key.class, key.epoch, key.seq - 1);
            let count = key.seq - first_seq;
            self.lost.push(Dropped { class, epoch, first_seq, last_seq, count, reason: Reason::Corrupt });
        }
    }
}

/// Counts an entry of `class` in.
pub(crate) fn add_class(classes: &mut ClassBytes, class: u8, size: u64) {
    match classes.iter_mut().find(|(held, _)| *held == class) {
        Some((_, bytes)) => *bytes += size,
        None => classes.push((class, size)),
    }
}

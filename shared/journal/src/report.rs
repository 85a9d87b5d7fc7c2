//! Looks at a journal without opening it for writing: what the commands `journal verify` and `journal dump` print.

use std::io::Write;
use std::path::Path;

use crate::format::{
    Framed, SEGMENT_HEADER_BYTES, WATERMARK_FILE, parse_segment_header, parse_watermark, segment_base, segment_path,
};
use crate::ledger::{Ledger, read_whole};
use crate::reader::follow;
use crate::recover::QUARANTINE_SUFFIX;
use crate::scan::{Cursor, Step};
use crate::{Dropped, Filesystem, Gap, JournalError, Offset, Reason};

/// State of a journal's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its id, if the identity file is good.
    pub journal_id: Option<u64>,
    /// Everything below is durable.
    pub durable: Offset,
    /// The mark below which segments were unlinked.
    pub released: Offset,
    /// Oldest first.
    pub segments: Vec<SegmentReport>,
    /// Losses for which no gap record is known to be durable.
    pub losses: Vec<Dropped>,
    /// Copies of damaged segments.
    pub quarantined: Vec<String>,
}

/// State of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Offset of its first byte.
    pub base: Offset,
    /// Offset behind its last good entry.
    pub end: Offset,
    /// Size of the file.
    pub file_bytes: u64,
    /// Good entries.
    pub entries: u64,
    /// Ranges that are known to be missing: evicted, or damaged and repaired.
    pub skipped: Vec<Gap>,
    /// Damaged ranges that the next opening will repair.
    pub damaged: Vec<Gap>,
    /// Bytes behind the last good entry that the next opening will cut.
    pub torn_bytes: u64,
}

impl Report {
    /// Whether nothing is damaged; a torn tail is no damage.
    pub fn is_sound(&self) -> bool {
        self.journal_id.is_some() && self.segments.iter().all(|segment| segment.damaged.is_empty())
    }

    /// Good entries in all segments.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entries).sum()
    }
}

/// Reads every segment and checks every entry; changes nothing. A writer may be at work meanwhile.
pub fn verify<F: Filesystem>(fs: F, dir: &Path) -> Result<Report, JournalError> {
    let journal_id = follow(fs.clone(), dir, Offset(0))?.journal_id()?;
    let names = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let mut report = Report { journal_id, ..Report::default() };
    report.quarantined = names.iter().filter(|name| name.ends_with(QUARANTINE_SUFFIX)).cloned().collect();
    report.quarantined.sort_unstable();
    if let Framed::Good(ledger) = Ledger::read(&fs, dir)? {
        (report.released, report.durable) = (Offset(ledger.released), Offset(ledger.durable));
        report.losses = ledger.losses.iter().map(|loss| loss.dropped).collect();
    }
    if let Some(Framed::Good((_, upto))) =
        read_whole(&fs, &dir.join(WATERMARK_FILE))?.map(|bytes| parse_watermark(&bytes))
    {
        report.durable = report.durable.max(Offset(upto));
    }
    let mut bases: Vec<u64> = names.iter().filter_map(|name| segment_base(name)).collect();
    bases.sort_unstable();
    for (index, base) in bases.iter().enumerate() {
        let segment = check_segment(&fs, dir, *base, bases.get(index + 1).copied(), &report)?;
        report.segments.push(segment);
    }
    Ok(report)
}

/// Writes one line per entry from `from`, at most `limit`; returns how many. Payloads are shown as their size and first bytes.
pub fn dump<F: Filesystem>(
    fs: F,
    dir: &Path,
    from: Offset,
    limit: u64,
    out: &mut impl Write,
) -> Result<u64, JournalError> {
    let mut reader = follow(fs, dir, from)?;
    let failed = |source| JournalError::Io { action: "print", path: dir.to_owned(), source };
    let mut entries = 0;
    while entries < limit {
        let entry = reader.next()?;
        for gap in reader.take_skipped() {
            writeln!(out, "{:>20} skipped to {} ({:?})", gap.from, gap.to, gap.reason).map_err(failed)?;
        }
        let Some(entry) = entry else { break };
        let head: String = entry.bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let key = entry.key;
        let line = format!(
            "{:>20} class {} epoch {:016x} seq {} bytes {} {head}",
            entry.offset,
            key.class,
            key.epoch,
            key.seq,
            entry.bytes.len()
        );
        writeln!(out, "{line}").map_err(failed)?;
        entries += 1;
    }
    Ok(entries)
}

fn check_segment<F: Filesystem>(
    fs: &F,
    dir: &Path,
    base: u64,
    next_base: Option<u64>,
    report: &Report,
) -> Result<SegmentReport, JournalError> {
    let path = segment_path(dir, base);
    let failed = || JournalError::io("read", &path);
    let file = fs.open(&path).map_err(failed())?;
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = fs.read_at(&file, 0, &mut header).map_err(failed())?;
    let file_bytes = fs.len(&file).map_err(failed())?;
    let first = base.saturating_add(SEGMENT_HEADER_BYTES as u64);
    let mut segment = SegmentReport { base: Offset(base), end: Offset(first), file_bytes, ..SegmentReport::default() };
    let damage = |from: u64, to: u64| Gap { from: Offset(from), to: Offset(to), reason: Reason::Corrupt };
    match parse_segment_header(&header[..read]) {
        Framed::Good((id, found)) if Some(id) == report.journal_id && found == base => {}
        Framed::Newer(found) => return Err(JournalError::Version { path, found }),
        Framed::Bad if next_base.is_none() && file_bytes <= SEGMENT_HEADER_BYTES as u64 => {
            segment.torn_bytes = file_bytes;
            return Ok(segment);
        }
        Framed::Good(_) | Framed::Bad => segment.damaged.push(damage(base, first)),
    }
    let mut cursor = Cursor::new(fs.clone(), file, report.journal_id.unwrap_or_default(), base);
    loop {
        let at = cursor.logical;
        segment.end = Offset(at);
        match cursor.step().map_err(failed())? {
            Step::Entry { .. } => segment.entries += 1,
            Step::Skip { from, skip, .. } if skip.to > from => {
                segment.skipped.push(Gap { from: Offset(from), to: Offset(skip.to), reason: skip.reason });
            }
            Step::Skip { .. } => {}
            Step::End => break,
            Step::Bad if next_base.is_none() && at >= report.durable.0 => {
                segment.torn_bytes = file_bytes.saturating_sub(cursor.physical);
                break;
            }
            Step::Bad => {
                if !cursor.resync().map_err(failed())? {
                    break;
                }
                segment.damaged.push(damage(at, cursor.logical));
            }
        }
    }
    let wanted_end = next_base.unwrap_or(report.durable.0.max(segment.end.0));
    if segment.end.0 != wanted_end {
        segment.damaged.push(damage(segment.end.0, wanted_end));
    }
    Ok(segment)
}

//! What the Delta log tells beyond its newest state: who committed what, and up to where.
//!
//! The offset of a commit and the marks that are published are two writes. Between them a process may die, and with it the journal
//! may be lost; then only the log, with the application transaction of each commit, tells which records the table holds and no
//! mark names.

use std::collections::BTreeSet;
use std::path::{Path as FsPath, PathBuf};

use deltalake::DeltaTableError;
use kilter_types::{Digest, JournalId, Micros};
use serde::Deserialize;
use serde_json::Value;

use crate::delta::DIGEST_TAG;
use crate::ranges::{Ranges, Stream, Streams, collect};
use crate::{Audit, Correction, DeltaTable, LakeError, Offset, Reason, Rows, Subject, Table, arrow};

/// What [`DeltaTable::unpublished`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unpublished {
    /// The records.
    pub records: Streams,
    /// Files of the newest version that could not be read, and why.
    pub unread: Vec<(PathBuf, String)>,
}

impl Unpublished {
    /// Takes those that the marks do not cover; are all of them covered?
    fn beyond(&mut self, records: Streams, held: &Streams) -> bool {
        let none = Ranges::default();
        let mut covered = true;
        for (stream, ranges) in records {
            let beyond = ranges.without(held.get(&stream).unwrap_or(&none));
            covered &= beyond.is_empty();
            self.records.entry(stream).or_default().join(&beyond);
        }
        covered
    }
}

/// One entry of a table's log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogEntry {
    /// Shard, journal and offset, where rows were appended.
    pub(crate) appended: Option<Offset>,
    /// Paths of the files that it added, with the SHA-256 that they had.
    pub(crate) added: Vec<(String, Option<Digest>)>,
    /// Paths of the files that it took out.
    pub(crate) removed: Vec<String>,
    /// What it says of itself, where a person or the retention asked for it.
    pub(crate) note: Option<Note>,
    /// When it was committed, by the committer's clock.
    pub(crate) at: Option<Micros>,
}

/// What the commit of an erasure, an expiry or a correction says of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Note {
    /// Whose data was erased.
    erase: Option<Subject>,
    /// What was older than it is kept.
    expire: Option<Subject>,
    /// Which record was corrected, and how.
    pub(crate) correct: Option<Correction>,
    /// What it held before.
    #[serde(default)]
    pub(crate) was: std::collections::BTreeMap<String, Value>,
    /// Who wanted it, and why.
    pub(crate) audit: Audit,
    /// How many rows went.
    #[serde(default)]
    pub(crate) rows: usize,
    /// Which records; older builds did not write them here.
    #[serde(default)]
    pub(crate) records: Vec<(Stream, Ranges)>,
}

impl Note {
    /// The word under which the subject stands.
    pub(crate) fn key(reason: Reason) -> &'static str {
        match reason {
            Reason::Erase => "erase",
            Reason::Expire => "expire",
        }
    }

    /// Whose data was taken out for this reason.
    pub(crate) fn cleared(&self, reason: Reason) -> Option<&Subject> {
        match reason {
            Reason::Erase => self.erase.as_ref(),
            Reason::Expire => self.expire.as_ref(),
        }
    }
}
impl DeltaTable {
    /// Records that stand in the table although no mark of the journal that was opened covers them: those of other journals' commits
    /// later than version `since` that are not in `held`, the records below the marks with which this journal began.
    ///
    /// A file that can't be read holds nothing any more, as far as anybody can tell: what it held and no mark covers comes again and is new.
    /// Where upkeep has replaced and removed a commit's file, its rows are looked for in what was written in its place.
    pub async fn unpublished(&self, held: &Streams, since: u64) -> Result<Unpublished, LakeError> {
        let now: BTreeSet<PathBuf> = self.snapshot()?.files.into_iter().map(|file| file.path).collect();
        let mut found = Unpublished::default();
        // Files of the newest version that were written in the place of others by commits that are younger than the one looked at.
        let mut rewritten: Vec<PathBuf> = Vec::new();
        for version in (since + 1..=self.version()).rev() {
            let entry = self.log_entry(version).await.map_err(|source| self.unreadable(version, source))?;
            let added = entry.added.iter().map(|(path, _)| self.stores.folder.join(path));
            let Some(appended) = entry.appended else {
                rewritten.extend(added.filter(|path| now.contains(path)));
                continue;
            };
            if self.committed().is_some_and(|ours| ours.journal_id == appended.journal_id) {
                continue;
            }
            let mut covered = true;
            let mut files: Vec<PathBuf> = added.collect();
            while let Some(path) = files.pop() {
                match self.records_of(&path).await {
                    Ok(records) => covered &= found.beyond(records, held),
                    Err(what) => {
                        covered = false;
                        match now.contains(&path) {
                            true => found.unread.push((path, what)),
                            false => files.append(&mut rewritten),
                        }
                    }
                }
            }
            // The marks are those of a fold at one offset: a commit that they cover lies below it, and so does all before it.
            if covered {
                break;
            }
        }
        found.records.retain(|_, ranges| !ranges.is_empty());
        Ok(found)
    }

    async fn records_of(&self, path: &FsPath) -> Result<Streams, String> {
        self.stores.fetch(path).await.map_err(|error| error.to_string())?;
        let (table, path) = (self.name, path.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let mut rows = Rows::new(table);
            arrow::read_file(table, &path, &mut rows).map_err(|error| error.to_string()).map(|()| rows)
        });
        let rows = read.await.unwrap_or_else(|error| Err(error.to_string()))?;
        let mut records = Streams::new();
        collect(&rows, &mut records);
        Ok(records)
    }

    /// The entry that made `version`; an empty one where it is no longer kept.
    pub(crate) async fn log_entry(&self, version: u64) -> Result<LogEntry, DeltaTableError> {
        let bytes = self.stores.log.read_commit_entry(version).await?;
        let mut entry = LogEntry::default();
        for line in bytes.as_deref().unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Action = serde_json::from_slice(line)?;
            if let Some(add) = action.add {
                let digest = add.tags.as_ref().and_then(|tags| tags.get(DIGEST_TAG)?.as_deref());
                entry.added.push((decoded(&add.path), digest.and_then(Digest::parse)));
            }
            entry.removed.extend(action.remove.map(|remove| decoded(&remove.path)));
            if let Some(note) = action.commit_info {
                entry.at = note["timestamp"].as_i64().map(Micros::from_millis);
                entry.note = Note::deserialize(&note["kilter"]).ok();
            }
            if let Some(offset) = action.txn.and_then(|txn| offset_of(&txn)) {
                entry.appended = Some(offset);
            }
        }
        Ok(entry)
    }
}

/// The part of a log line that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Txn>,
    commit_info: Option<Value>,
}

#[derive(Deserialize)]
struct Remove {
    path: String,
}

#[derive(Deserialize)]
struct Add {
    path: String,
    tags: Option<std::collections::BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

/// The reverse of [`crate::delta::app_id`].
fn offset_of(txn: &Txn) -> Option<Offset> {
    let (shard, journal) = txn.app_id.strip_prefix("kilter/")?.split_once('/')?;
    let journal_id = JournalId(u64::from_str_radix(journal, 16).ok()?);
    Some(Offset { shard: shard.parse().ok()?, journal_id, offset: txn.version as u64 })
}

/// Paths in the log are URL-encoded.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_names_shard_journal_and_offset_and_others_are_left_alone() {
        let txn = |app_id: &str| Txn { app_id: app_id.into(), version: 77 };
        let wanted = Offset { shard: 3, journal_id: JournalId(0xdead_beef), offset: 77 };
        assert_eq!(offset_of(&txn(&crate::delta::app_id(3, wanted.journal_id))), Some(wanted));
        assert_eq!(offset_of(&txn("spark-7")), None);
        assert_eq!(offset_of(&txn("kilter/x/1")), None);
    }

    #[test]
    fn encoded_paths_are_read_as_they_were_meant() {
        assert_eq!(decoded("day=2026-01-02/a%20b%25.parquet"), "day=2026-01-02/a b%.parquet");
        assert_eq!(decoded("100%"), "100%");
    }
}

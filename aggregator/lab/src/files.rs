//! The lab's own files under `<data>/lab`, each replaced so that a crash leaves the old or the new one.
//!
//! ```text
//! fold           `kilter_fold::KeptFold`: the fold and its offset
//! committed.json { journal_id, offset, marks }: what the server turns into committed acks; written after `fold`
//! ghosts.json    { journal_id, versions, records }: what the lake held of older journals, beyond the marks with which this one
//!                began, and the version of each table then
//! pins.json      { digest: { versions, erased_at_us, corrected_at_us } }: the versions that a model was trained on, kept from vacuum
//! audit.jsonl    one line before and one after each erasure, expiry and correction: who, why, whose, how much
//! refetch.json   [[stream, ranges]]: records that the lake lost and the edge is asked for, as the server reads; none left when all came
//! training.json  { class: { at_us, windows, leads } }: when each kind of machine was last trained, on how much, and with a leader or without
//! schedule.json  microseconds: when the clock's last run began, or the lab was first there
//! damaged/       per table the data files that were found damaged and taken out of it; an erasure in their table removes them
//! derived/       definitions.json, durable: features that people defined; per version a folder with their values, made again where one is missing
//! rollups/       per data file and step the roll-up of its features; made again from the lake where one is missing
//! keys.json      { device: [key, …] }: with what devices seal: the first key that was seen of each, and those that a person accepted since
//! lock           held by the one lab
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kilter_fold::{Fold, KeptFold, MarkState};
use kilter_lab_config::due::Last;
use kilter_lake::{Audit, Correction, Gate, Ranges, Reason, Step, Stream, Streams, Subject, TableName};
use kilter_types::{JournalId, Micros};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the server reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// The journal.
    pub(crate) journal_id: u64,
    /// Below it no table has a row pending.
    pub(crate) offset: u64,
    /// The fold's marks at that offset.
    pub(crate) marks: Vec<MarkState>,
}

/// Records that the lake holds although the fold of this journal will call them new.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ghosts {
    /// The journal.
    pub(crate) journal_id: u64,
    /// The tables when it was first seen: what earlier versions brought is among the records.
    pub(crate) versions: BTreeMap<TableName, u64>,
    /// The records.
    pub(crate) records: Vec<(Stream, Ranges)>,
}

/// What a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// The version of each table.
    pub(crate) versions: BTreeMap<String, u64>,
    /// Data of these versions was erased since: the model can't be made again.
    pub(crate) erased_at_us: Option<i64>,
    /// A record of these versions was corrected since; they still hold what it said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) corrected_at_us: Option<i64>,
}

/// The keys that each device may seal with, as hexadecimal digits; the first one seen stands first.
pub(crate) type Keys = BTreeMap<String, Vec<String>>;

/// A line of the audit: something was taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Erasure {
    /// Erased, or expired.
    #[serde(default)]
    pub(crate) reason: Reason,
    /// Whose data.
    pub(crate) subject: Subject,
    /// Who wanted it, why and when.
    pub(crate) audit: Audit,
    /// How many rows went from which tables; nothing before it is done.
    pub(crate) done: Option<Vec<(TableName, usize)>>,
    /// Which records went.
    pub(crate) records: Vec<(Stream, Ranges)>,
}

/// A line of the audit: a record was corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Corrected {
    /// Which record, and what it holds since.
    pub(crate) correction: Correction,
    /// Who wanted it, why and when.
    pub(crate) audit: Audit,
    /// What came of it; nothing before it is done.
    pub(crate) done: Option<Value>,
}

/// The folder.
#[derive(Clone)]
pub(crate) struct Files {
    folder: PathBuf,
    gate: Gate,
}

impl Files {
    /// Makes the folder; `gate` is asked before each step of a write.
    pub(crate) fn open(data: &Path, gate: Gate) -> anyhow::Result<Self> {
        let folder = data.join("lab");
        for name in ["outbox", "search", "networks", "reports"] {
            std::fs::create_dir_all(folder.join(name))
                .with_context(|| format!("failed to create {}", folder.display()))?;
        }
        Ok(Self { folder, gate })
    }

    /// Takes the lock; it holds as long as the file is open.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        let path = self.folder.join("lock");
        let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        file.try_lock().with_context(|| format!("failed to lock {}: another lab runs on this data", path.display()))?;
        Ok(file)
    }

    /// The fold of this journal with its offset, if one was stored that can still be read.
    pub(crate) fn fold(&self, journal_id: u64) -> Option<(Fold, u64)> {
        let kept = KeptFold::decode(&std::fs::read(self.folder.join("fold")).ok()?)?;
        (kept.journal_id.0 == journal_id).then_some((kept.fold, kept.offset))
    }

    /// Publishes a commit: first the fold to start again from, then what the server reads.
    pub(crate) fn publish(&self, committed: &Committed, fold: &[u8]) -> anyhow::Result<()> {
        self.replace("fold", &KeptFold::encode(JournalId(committed.journal_id), committed.offset, fold))?;
        self.replace("committed.json", &serde_json::to_vec(committed)?)
    }

    /// What was published last.
    pub(crate) fn committed(&self) -> Option<Committed> {
        serde_json::from_slice(&std::fs::read(self.folder.join("committed.json")).ok()?).ok()
    }

    /// The ghosts stored last, of whatever journal.
    pub(crate) fn ghosts(&self) -> Option<Ghosts> {
        serde_json::from_slice(&std::fs::read(self.folder.join("ghosts.json")).ok()?).ok()
    }

    /// Stores ghosts.
    pub(crate) fn keep_ghosts(&self, ghosts: &Ghosts) -> anyhow::Result<()> {
        self.replace("ghosts.json", &serde_json::to_vec(ghosts)?)
    }

    /// How each kind of machine was last trained.
    pub(crate) fn trained(&self) -> BTreeMap<String, Last> {
        let read = || serde_json::from_slice(&std::fs::read(self.folder.join("training.json")).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Stores that.
    pub(crate) fn keep_trained(&self, trained: &BTreeMap<String, Last>) -> anyhow::Result<()> {
        self.replace("training.json", &serde_json::to_vec(trained)?)
    }

    /// When the clock's last run began.
    pub(crate) fn scheduled(&self) -> Option<Micros> {
        serde_json::from_slice(&std::fs::read(self.folder.join("schedule.json")).ok()?).ok()
    }

    /// Stores that.
    pub(crate) fn keep_scheduled(&self, at: Micros) -> anyhow::Result<()> {
        self.replace("schedule.json", &serde_json::to_vec(&at)?)
    }

    /// Records that the edge is asked for.
    pub(crate) fn lost(&self) -> Streams {
        let read = || serde_json::from_slice(&std::fs::read(self.folder.join("refetch.json")).ok()?).ok();
        read().map(|lost: Vec<(Stream, Ranges)>| lost.into_iter().collect()).unwrap_or_default()
    }

    /// Stores them.
    pub(crate) fn keep_lost(&self, lost: &Streams) -> anyhow::Result<()> {
        self.replace("refetch.json", &serde_json::to_vec(&lost.iter().collect::<Vec<_>>())?)
    }

    /// With what devices seal.
    pub(crate) fn keys(&self) -> Keys {
        let read = || serde_json::from_slice(&std::fs::read(self.folder.join("keys.json")).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Stores that.
    pub(crate) fn keep_keys(&self, keys: &Keys) -> anyhow::Result<()> {
        self.replace("keys.json", &serde_json::to_vec(keys)?)
    }

    /// Erasures that persons wanted, ended or only begun.
    pub(crate) fn erasures(&self) -> Vec<Erasure> {
        self.audited::<Erasure>().into_iter().filter(|line| line.reason == Reason::Erase).collect()
    }

    /// Corrections that were made.
    pub(crate) fn corrections(&self) -> Vec<Corrected> {
        let made = |line: &Corrected| line.done.as_ref().is_some_and(|done| done.get("refused").is_none());
        self.audited::<Corrected>().into_iter().filter(made).collect()
    }

    /// The versions that models were trained on.
    pub(crate) fn pins(&self) -> BTreeMap<String, Pin> {
        let read = || serde_json::from_slice(&std::fs::read(self.folder.join("pins.json")).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Data of `table` that stood there before `version` was erased: marks the models that were trained on it.
    pub(crate) fn mark_erased(&self, table: TableName, version: u64, at_us: i64) -> anyhow::Result<Vec<String>> {
        self.mark(table, version, |pin| {
            pin.erased_at_us.get_or_insert(at_us);
        })
    }

    /// A record of `table` that stood there before `version` was corrected: marks the models that were trained on what it said then.
    pub(crate) fn mark_corrected(&self, table: TableName, version: u64, at_us: i64) -> anyhow::Result<Vec<String>> {
        self.mark(table, version, |pin| {
            pin.corrected_at_us.get_or_insert(at_us);
        })
    }

    fn mark(&self, table: TableName, version: u64, mark: impl Fn(&mut Pin)) -> anyhow::Result<Vec<String>> {
        let (mut pins, mut marked) = (self.pins(), Vec::new());
        for (digest, pin) in &mut pins {
            if pin.versions.get(table.as_str()).is_some_and(|pinned| *pinned < version) {
                mark(pin);
                marked.push(digest.clone());
            }
        }
        if !marked.is_empty() {
            self.replace("pins.json", &serde_json::to_vec(&pins)?)?;
        }
        Ok(marked)
    }

    /// Writes a line of the audit, durably.
    pub(crate) fn audit(&self, what: &impl Serialize) -> anyhow::Result<()> {
        let path = self.folder.join("audit.jsonl");
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let mut write = || -> std::io::Result<()> {
            let mut file = File::options().create(true).append(true).open(&path)?;
            // A line that a crash cut does not take this one with it.
            if std::fs::read(&path)?.last().is_some_and(|last| *last != b'\n') {
                line.insert(0, b'\n');
            }
            file.write_all(&line)?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }

    /// The records that were taken out for this reason.
    pub(crate) fn erased(&self, reason: Reason) -> Streams {
        let mut erased = Streams::new();
        let lines = self.audited::<Erasure>().into_iter().filter(|line| line.reason == reason);
        for (stream, ranges) in lines.flat_map(|line| line.records) {
            let all = erased.entry(stream).or_default();
            ranges.iter().for_each(|(first, last)| all.cover(first, last));
        }
        erased
    }

    /// Erasures that were begun and not ended.
    pub(crate) fn unfinished(&self) -> Vec<Erasure> {
        let (done, begun): (Vec<_>, Vec<_>) =
            self.audited::<Erasure>().into_iter().partition(|line| line.done.is_some());
        let ended =
            |begun: &Erasure| done.iter().any(|done| (&done.subject, &done.audit) == (&begun.subject, &begun.audit));
        begun.into_iter().filter(|begun| !ended(begun)).collect()
    }

    /// Corrections that were begun and not ended.
    pub(crate) fn unfinished_corrections(&self) -> Vec<Corrected> {
        let (done, begun): (Vec<_>, Vec<_>) =
            self.audited::<Corrected>().into_iter().partition(|line| line.done.is_some());
        let ended = |begun: &Corrected| {
            let ends =
                |done: &Corrected| done.audit == begun.audit && done.correction.is_of_the_record_of(&begun.correction);
            done.iter().any(ends)
        };
        begun.into_iter().filter(|begun| !ended(begun)).collect()
    }

    /// Every line of this kind in the audit that a crash did not cut.
    fn audited<T: DeserializeOwned>(&self) -> Vec<T> {
        let text = std::fs::read_to_string(self.folder.join("audit.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Hands a finished model to the server: the artifact first, the card last. What it was trained on is pinned before.
    pub(crate) fn hand_out(&self, digest: &str, artifact: &[u8], card: &[u8]) -> anyhow::Result<()> {
        let described: Value = serde_json::from_slice(card)?;
        let versions = described["snapshot"].as_object().into_iter().flatten();
        let versions =
            versions.filter_map(|(key, version)| Some((key.strip_suffix("_version")?.into(), version.as_u64()?)));
        let mut pins = self.pins();
        pins.insert(digest.to_owned(), Pin { versions: versions.collect(), ..Pin::default() });
        self.replace("pins.json", &serde_json::to_vec(&pins)?)?;
        self.replace(&format!("outbox/{digest}.kltm"), artifact)?;
        self.replace(&format!("outbox/{digest}.card.json"), card)
    }

    /// Where the journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.with_file_name("journal")
    }

    /// Where damaged files of a table are kept.
    pub(crate) fn damaged(&self, table: TableName) -> PathBuf {
        self.folder.join("damaged").join(table.as_str())
    }

    /// Removes them: nobody can tell what they held, and nothing that a person wants gone may stay.
    pub(crate) fn forget_damaged(&self, table: TableName) -> anyhow::Result<()> {
        let folder = self.damaged(table);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", folder.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Where a file of the lab lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file anew and durably.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let temporary = path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            (self.gate)(Step::Write, &path)?;
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            (self.gate)(Step::SyncFile, &path)?;
            file.sync_all()?;
            (self.gate)(Step::Publish, &path)?;
            std::fs::rename(&temporary, &path)?;
            (self.gate)(Step::SyncFolder, &path)?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }
}

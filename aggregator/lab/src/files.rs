//! The lab's own files under `<data>/lab`, each replaced so that a crash leaves the old or the new one.
//!
//! ```text
//! fold           magic [u8;8] | journal id u64 LE | offset u64 LE | fold snapshot … | sha-256 of all before
//! committed.json { journal_id, offset, marks }: what the server turns into committed acks; written after `fold`
//! ghosts.json    { journal_id, keys }: records of an older journal that the lake holds beyond its marks
//! training.json  { class: microseconds }: when each kind of machine was last trained
//! lock           held by the one lab
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kilter_fold::{Fold, MarkState};
use kilter_types::Digest;
use serde::{Deserialize, Serialize};

use crate::state::Ghost;

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

#[derive(Serialize, Deserialize)]
struct Ghosts {
    journal_id: u64,
    keys: BTreeSet<Ghost>,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Makes the folder.
    pub(crate) fn open(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("lab");
        std::fs::create_dir_all(folder.join("outbox"))
            .with_context(|| format!("failed to create {}", folder.display()))?;
        Ok(Self { folder })
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
        let bytes = std::fs::read(self.folder.join("fold")).ok()?;
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let rest = body.strip_prefix(FOLD_MAGIC).filter(|_| Digest::of(body).0 == *digest)?;
        let (id, rest) = rest.split_first_chunk()?;
        let (offset, fold) = rest.split_first_chunk()?;
        let fold = Fold::restore(fold).ok()?;
        (u64::from_le_bytes(*id) == journal_id).then_some((fold, u64::from_le_bytes(*offset)))
    }

    /// Publishes a commit: first the fold to start again from, then what the server reads.
    pub(crate) fn publish(&self, committed: &Committed, fold: &[u8]) -> anyhow::Result<()> {
        let mut bytes = FOLD_MAGIC.to_vec();
        bytes.extend(committed.journal_id.to_le_bytes());
        bytes.extend(committed.offset.to_le_bytes());
        bytes.extend(fold);
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        replace(&self.folder.join("fold"), &bytes)?;
        replace(&self.folder.join("committed.json"), &serde_json::to_vec(committed)?)
    }

    /// What was published last.
    pub(crate) fn committed(&self) -> Option<Committed> {
        serde_json::from_slice(&std::fs::read(self.folder.join("committed.json")).ok()?).ok()
    }

    /// The ghosts stored for this journal.
    pub(crate) fn ghosts(&self, journal_id: u64) -> Option<BTreeSet<Ghost>> {
        let ghosts: Ghosts = serde_json::from_slice(&std::fs::read(self.folder.join("ghosts.json")).ok()?).ok()?;
        (ghosts.journal_id == journal_id).then_some(ghosts.keys)
    }

    /// Stores the ghosts of this journal.
    pub(crate) fn keep_ghosts(&self, journal_id: u64, keys: &BTreeSet<Ghost>) -> anyhow::Result<()> {
        let ghosts = Ghosts { journal_id, keys: keys.clone() };
        replace(&self.folder.join("ghosts.json"), &serde_json::to_vec(&ghosts)?)
    }

    /// When each kind of machine was last trained.
    pub(crate) fn trained(&self) -> BTreeMap<String, i64> {
        let read = || serde_json::from_slice(&std::fs::read(self.folder.join("training.json")).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Stores that.
    pub(crate) fn keep_trained(&self, trained: &BTreeMap<String, i64>) -> anyhow::Result<()> {
        replace(&self.folder.join("training.json"), &serde_json::to_vec(trained)?)
    }

    /// Hands a finished model to the server: the artifact first, the card last.
    pub(crate) fn hand_out(&self, digest: &str, artifact: &[u8], card: &[u8]) -> anyhow::Result<()> {
        let outbox = self.folder.join("outbox");
        replace(&outbox.join(format!("{digest}.kltm")), artifact)?;
        replace(&outbox.join(format!("{digest}.card.json")), card)
    }
}

/// Writes a file anew and durably.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

const FOLD_MAGIC: &[u8; 8] = b"KLABFLD1";

//! Defined features: which there are, and their values, kept up to what the features table is.
//!
//! Values are kept per day and bucket under `lab/derived/<name>_v<version>/`, each beside a mark that says from which files of the lake, which
//! definition and which values of the days before it was computed ([`Mark`]). What does not fit any more (a late row, a correction, an
//! erasure, a compaction) is computed anew, one day at a time, by a thread of its own; what fits stays, also over a kill. So the outcome is
//! always that of a recompute. Definitions are durable; values can be made again at any time.

mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use kilter_history::Derived as Table;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::files::Files;

/// A definition; its version is never used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) expression: String,
    pub(crate) who: String,
    pub(crate) at_us: i64,
    /// The event time that it is computed for, once somebody asked for that.
    pub(crate) within_us: Option<(i64, i64)>,
    /// Nobody wants it any more.
    pub(crate) dropped: bool,
}

impl Definition {
    /// Its table in questions.
    pub(crate) fn table(&self) -> String {
        format!("{}_v{}", self.name, self.version)
    }
}

/// How far the values of a definition are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Progress {
    /// Days of buckets that are computed.
    pub(crate) done: usize,
    /// All of them.
    pub(crate) of: usize,
    /// The version of the features table that this is told of.
    pub(crate) lake_version: u64,
    /// What keeps it from going on; it is tried again.
    pub(crate) error: Option<String>,
}

/// Where the values of one day of one bucket come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// Of definition, time, files and what the day before handed over.
    print: String,
    /// Of the files alone.
    files: String,
    /// Of what it hands to the next day.
    carry: String,
    rows: u64,
    /// The file with the values, where there are any.
    values: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Derived {
    files: Files,
    folder: PathBuf,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    definitions: Vec<Definition>,
    /// By table and part.
    marks: BTreeMap<String, BTreeMap<String, Mark>>,
    progress: BTreeMap<String, Progress>,
    /// Goes up with whatever makes a computation that is under way worthless.
    epoch: u64,
}

impl Derived {
    /// Opens what is there.
    pub(crate) fn open(files: &Files) -> anyhow::Result<Self> {
        let folder = files.path("derived");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let path = folder.join("definitions.json");
        let mut book = Book::default();
        match std::fs::read(&path) {
            Ok(bytes) => {
                book.definitions =
                    serde_json::from_slice(&bytes).with_context(|| format!("failed to read {}", path.display()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
        for table in book.definitions.iter().filter(|definition| !definition.dropped).map(Definition::table) {
            book.marks.insert(table.clone(), marks(&folder.join(table))?);
        }
        let derived = Self { files: files.clone(), folder, book: Arc::default() };
        derived.tidy(&mut book)?;
        *derived.book() = book;
        Ok(derived)
    }

    /// Every definition that somebody wants, with its progress and its rows.
    pub(crate) fn list(&self) -> Vec<(Definition, Progress, u64)> {
        let book = self.book();
        let live = book.definitions.iter().filter(|definition| !definition.dropped);
        let told = |definition: &Definition| {
            let table = definition.table();
            let rows = book.marks.get(&table).map_or(0, |marks| marks.values().map(|mark| mark.rows).sum());
            (definition.clone(), book.progress.get(&table).cloned().unwrap_or_default(), rows)
        };
        live.map(told).collect()
    }

    /// The tables that questions may name.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let book = self.book();
        let live = book.definitions.iter().filter(|definition| !definition.dropped).map(Definition::table);
        let table = |table: String| {
            let marks = book.marks.get(&table).into_iter().flat_map(BTreeMap::values);
            let files = marks.filter_map(|mark| mark.values.as_ref()).map(|name| self.folder.join(&table).join(name));
            Table { files: files.collect(), table }
        };
        live.map(table).collect()
    }

    /// Changes the definitions, durably.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Definition>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut book = self.book();
        let mut definitions = book.definitions.clone();
        let told = change(&mut definitions)?;
        self.files.replace("derived/definitions.json", &serde_json::to_vec(&definitions)?)?;
        book.definitions = definitions;
        book.epoch += 1;
        book.progress.clear();
        self.tidy(&mut book)?;
        Ok(told)
    }

    /// How far a table is, told of this version of the features or a later one.
    pub(crate) fn progress(&self, table: &str) -> Option<Progress> {
        self.book().progress.get(table).cloned()
    }

    /// Removes what belongs to no definition.
    fn tidy(&self, book: &mut Book) -> anyhow::Result<()> {
        let live: BTreeSet<String> =
            book.definitions.iter().filter(|definition| !definition.dropped).map(Definition::table).collect();
        book.marks.retain(|table, _| live.contains(table));
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !live.contains(&name) {
                std::fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))?;
                info!(table = name, "a defined feature is gone");
            }
        }
        Ok(())
    }

    /// Nothing that a panic could leave half done: what does not fit is computed anew.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that [`Derived::step`] asks for.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> u64 {
        self.book().epoch
    }
}

/// The marks of a table whose values are there; files that belong to none are what a kill left, and go.
fn marks(folder: &Path) -> anyhow::Result<BTreeMap<String, Mark>> {
    let failed = || format!("failed to tidy {}", folder.display());
    let paths: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries
            .with_context(failed)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()
            .with_context(failed)?,
    };
    let read = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        let mark: Mark = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let there = mark.values.as_ref().is_none_or(|values| folder.join(values).exists());
        there.then_some((name, mark))
    };
    let marks: BTreeMap<String, Mark> = paths.iter().filter_map(read).collect();
    let own = |(name, mark): (&String, &Mark)| {
        [Some(format!("{name}.json")), Some(format!("{name}.carry")), mark.values.clone()].into_iter().flatten()
    };
    let wanted: BTreeSet<PathBuf> = marks.iter().flat_map(own).map(|name| folder.join(name)).collect();
    for path in paths.iter().filter(|path| !wanted.contains(*path)) {
        std::fs::remove_file(path).with_context(failed)?;
    }
    Ok(marks)
}

/// Checks a name: a table of questions begins with it.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(good) || !name.as_bytes()[0].is_ascii_lowercase() {
        bail!("failed to define '{name}': a name begins with a letter and has a-z, 0-9 and _, 40 at most, as in crest");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The thread that computes: which day of which definition is next, what it is computed from, and what goes when rows are erased.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use kilter_history::{Carry, Derivation, Formula, derive};
use kilter_lake::{DataFile, Snapshot, TableName, day_of};
use kilter_types::{Digest, Micros};
use tracing::warn;

use super::{Definition, Derived, Mark, Progress};
use crate::clock;
use crate::commit::{Shared, lock};

/// One day of one bucket; ordered by bucket, then day.
struct Part {
    bucket: String,
    day: String,
    files: Vec<DataFile>,
    /// The time begins or ends within the day.
    edge: bool,
}

impl Part {
    fn name(&self) -> String {
        format!("{}.{}", self.day, self.bucket)
    }

    /// Names of data files are never used twice.
    fn digest(&self) -> String {
        let names = self.files.iter().map(|file| file.path.file_name().unwrap_or_default().to_string_lossy());
        Digest::of(names.collect::<Vec<_>>().join("\n").as_bytes()).to_string()
    }
}

impl Derived {
    /// Computes for ever what the features table asks for.
    pub(crate) async fn watch(self, state: Shared) {
        let mut settled = None;
        loop {
            let epoch = self.book().epoch;
            let snapshot = lock(&state).snapshots().find(|snapshot| snapshot.table == TableName::Features).cloned();
            let at = snapshot.as_ref().map(|snapshot| (snapshot.version, epoch));
            let Some(snapshot) = snapshot.filter(|_| settled != at) else {
                clock::pause(WATCH_MS).await;
                continue;
            };
            let own = self.clone();
            let stepped = tokio::task::spawn_blocking(move || own.step(&snapshot, epoch)).await;
            match stepped.unwrap_or_else(|error| Err(error.into())) {
                Ok(true) => {}
                Ok(false) => settled = at,
                Err(error) => {
                    warn!(error = %format!("{error:#}"), "a defined feature is not computed; it is tried again");
                    clock::pause(RETRY_MS).await;
                }
            }
        }
    }

    /// Computes one day of one bucket for the first definition that lacks one; `false` when none does. `epoch` is older than the snapshot.
    pub(crate) fn step(&self, features: &Snapshot, epoch: u64) -> anyhow::Result<bool> {
        let definitions = self.book().definitions.clone();
        let mut failed = None;
        for definition in definitions.iter().filter(|definition| !definition.dropped) {
            let Some(within_us) = definition.within_us else { continue };
            match self.step_of(definition, within_us, features, epoch) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    let mut book = self.book();
                    let progress = book.progress.entry(definition.table()).or_default();
                    (progress.error, progress.lake_version) = (Some(format!("{error:#}")), features.version);
                    // Others go on.
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(false), Err)
    }

    fn step_of(
        &self,
        definition: &Definition,
        within_us: (i64, i64),
        features: &Snapshot,
        epoch: u64,
    ) -> anyhow::Result<bool> {
        let table = definition.table();
        let parts = parts(features, within_us);
        let formula = Formula::parse(&definition.expression)?;
        let nothing = Carry::default().digest();
        let (mut carry, mut before): (Digest, Option<&Part>) = (nothing, None);
        for (done, part) in parts.iter().enumerate() {
            if before.is_none_or(|before| before.bucket != part.bucket) {
                (carry, before) = (nothing, None);
            }
            let files = part.digest();
            let edge = part.edge.then_some(within_us);
            let said = format!("{FORMAT}\n{}\n{edge:?}\n{files}\n{carry}", definition.expression);
            let print = Digest::of(said.as_bytes()).to_string();
            let mark = self.book().marks.get(&table).and_then(|marks| marks.get(&part.name())).cloned();
            if let Some(mark) = mark.filter(|mark| mark.print == print) {
                carry = Digest::parse(&mark.carry).context("a mark without a digest")?;
                before = Some(part);
                continue;
            }
            let progress = Progress { done, of: parts.len(), lake_version: features.version, error: None };
            self.tell(&table, progress, epoch);
            let mut values = match before.filter(|_| carry != nothing) {
                None => Carry::default(),
                Some(before) => {
                    let path = self.folder.join(&table).join(format!("{}.carry", before.name()));
                    let bytes = std::fs::read(&path).ok();
                    let Some(values) = bytes.and_then(|bytes| Carry::decode(&bytes, carry)) else {
                        // Lost or cut: the day that wrote it comes first.
                        self.forget_part(&table, &before.name())?;
                        return Ok(true);
                    };
                    values
                }
            };
            let derivation =
                Derivation { name: definition.name.clone(), version: definition.version, formula, within_us };
            self.compute(&derivation, &table, part, (files, print), &mut values, epoch)?;
            return Ok(true);
        }
        // Days that the table does not have any more.
        let wanted: BTreeSet<String> = parts.iter().map(Part::name).collect();
        let gone: Vec<String> = {
            let book = self.book();
            let marks = book.marks.get(&table).into_iter().flat_map(BTreeMap::keys);
            marks.filter(|name| !wanted.contains(*name)).cloned().collect()
        };
        for name in &gone {
            self.forget_part(&table, name)?;
        }
        let all = Progress { done: parts.len(), of: parts.len(), lake_version: features.version, error: None };
        self.tell(&table, all, epoch);
        Ok(false)
    }

    fn compute(
        &self,
        derivation: &Derivation,
        table: &str,
        part: &Part,
        (files, print): (String, String),
        carry: &mut Carry,
        epoch: u64,
    ) -> anyhow::Result<()> {
        let folder = self.folder.join(table);
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let name = part.name();
        let temporary = folder.join(format!("{name}.tmp"));
        let rows = derive(derivation, &part.files, carry, &temporary)?;
        let values = (rows > 0).then(|| format!("{name}.{}.parquet", &print[..16]));
        let carried = carry.encode();
        let mark = Mark { print, files, carry: Digest::of(&carried).to_string(), rows, values };
        let mut book = self.book();
        if book.epoch != epoch {
            // What it was computed from may be erased by now.
            let _ = std::fs::remove_file(&temporary);
            return Ok(());
        }
        if let Some(values) = &mark.values {
            let path = folder.join(values);
            std::fs::rename(&temporary, &path).with_context(|| format!("failed to write {}", path.display()))?;
        }
        if derivation.formula.looks_back() {
            replace(&folder.join(format!("{name}.carry")), &carried)?;
        }
        replace(&folder.join(format!("{name}.json")), &serde_json::to_vec(&mark)?)?;
        let kept = mark.values.clone();
        let old = book.marks.entry(table.to_owned()).or_default().insert(name, mark).and_then(|old| old.values);
        if let Some(old) = old.filter(|old| kept.as_ref() != Some(old)) {
            // A question that still reads it asks again.
            let _ = std::fs::remove_file(folder.join(old));
        }
        Ok(())
    }

    /// Removes every value that was computed from files which are no longer part of the table: after an erasure nothing of it may stay.
    pub(crate) fn forget(&self, features: &Snapshot) -> anyhow::Result<()> {
        let mut book = self.book();
        book.epoch += 1;
        let definitions = book.definitions.clone();
        for definition in definitions.iter().filter(|definition| !definition.dropped) {
            let (table, within_us) = (definition.table(), definition.within_us.unwrap_or((0, 0)));
            let looks_back = Formula::parse(&definition.expression).is_ok_and(|formula| formula.looks_back());
            let mut kept = BTreeSet::new();
            // Days after one that has changed may hold something of it.
            let mut spoilt: Option<String> = None;
            for part in parts(features, within_us) {
                let mark = book.marks.get(&table).and_then(|marks| marks.get(&part.name()));
                let after = looks_back && spoilt.as_ref() == Some(&part.bucket);
                match mark.is_some_and(|mark| mark.files == part.digest()) && !after {
                    true => drop(kept.insert(part.name())),
                    false => spoilt = Some(part.bucket),
                }
            }
            // A day that is gone altogether spoils its bucket too.
            let names: Vec<String> = book.marks.get(&table).into_iter().flat_map(BTreeMap::keys).cloned().collect();
            let there: BTreeSet<String> = parts(features, within_us).iter().map(Part::name).collect();
            let gone: Vec<&String> = names.iter().filter(|name| !there.contains(*name)).collect();
            let spoils = |name: &String| {
                let ends = |name: &str| name.rsplit_once('.').map(|(day, bucket)| (bucket.to_owned(), day.to_owned()));
                looks_back
                    && gone.iter().any(|gone| match (ends(gone), ends(name)) {
                        (Some((bucket, day)), Some((own, later))) => bucket == own && day < later,
                        _ => true,
                    })
            };
            let stale: Vec<String> =
                names.iter().filter(|name| !kept.contains(*name) || spoils(name)).cloned().collect();
            for name in stale {
                let mark = book.marks.get_mut(&table).and_then(|marks| marks.remove(&name));
                remove_part(&self.folder.join(&table), &name, mark.as_ref())?;
            }
        }
        Ok(())
    }

    fn forget_part(&self, table: &str, name: &str) -> anyhow::Result<()> {
        let mut book = self.book();
        let mark = book.marks.get_mut(table).and_then(|marks| marks.remove(name));
        remove_part(&self.folder.join(table), name, mark.as_ref())
    }

    fn tell(&self, table: &str, progress: Progress, epoch: u64) {
        let mut book = self.book();
        if book.epoch == epoch {
            book.progress.insert(table.to_owned(), progress);
        }
    }
}

/// The days of the table that can hold rows of this time, by bucket and day.
fn parts(features: &Snapshot, (from_us, to_us): (i64, i64)) -> Vec<Part> {
    let day = |us: i64| (0..FAR_FUTURE_US).contains(&us).then(|| day_of(Micros(us)));
    let (first, last) = (day(from_us), day(to_us));
    let mut parts: BTreeMap<(String, String), Vec<DataFile>> = BTreeMap::new();
    for file in &features.files {
        let of = |name: &str| file.path.iter().filter_map(|part| part.to_str()?.strip_prefix(name)).next_back();
        let (Some(day), Some(bucket)) = (of("day="), of("bucket=")) else { continue };
        if first.as_deref().is_none_or(|first| day >= first) && last.as_deref().is_none_or(|last| day <= last) {
            parts.entry((bucket.to_owned(), day.to_owned())).or_default().push(file.clone());
        }
    }
    let part = |((bucket, day), files): ((String, String), Vec<DataFile>)| {
        let edge = [&first, &last].into_iter().any(|end| end.as_ref() == Some(&day));
        Part { bucket, day, files, edge }
    };
    parts.into_iter().map(part).collect()
}

/// The mark goes first: values without one are nothing.
fn remove_part(folder: &Path, name: &str, mark: Option<&Mark>) -> anyhow::Result<()> {
    let values = mark.and_then(|mark| mark.values.clone());
    for name in [Some(format!("{name}.json")), Some(format!("{name}.carry")), values].into_iter().flatten() {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Not synced: it can be made again, and what a crash cut is noticed.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

/// Goes up whenever the same definition would give other values.
const FORMAT: &str = "1";
const WATCH_MS: u64 = 250;
const RETRY_MS: u64 = 5_000;
/// Later days don't compare as texts.
const FAR_FUTURE_US: i64 = 253_370_764_800_000_000;

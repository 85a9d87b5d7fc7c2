//! Is the lake what it should be? Every file is read and compared with what the log says of it, and the records in it with what
//! was promised to be there.
//!
//! Three things are found: **corruption** (a file that is gone, has another size, another SHA-256 or other rows than the log
//! says), **duplication** (a record twice) and **loss** (a record below a mark that is in no file and in no gap). Nothing is
//! changed; a duplicate is taken out by [`DeltaTable::single`], and what another place still holds is put back by
//! [`DeltaTable::restore`].

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use deltalake::DeltaTableError;
use deltalake::arrow::array::{AsArray, BooleanArray};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::datatypes::Int64Type;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use kilter_types::Digest;
use serde_json::json;

use crate::delta::{DIGEST_TAG, parquet};
use crate::place::is_not_found;
use crate::ranges::{Ranges, Stream, Streams, collect};
use crate::{Bound, DataFile, DeltaTable, LakeError, Rows, TableName, arrow};

/// What kind of damage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The file is not there.
    Gone,
    /// It holds something else than was committed.
    Changed,
    /// Disk or bucket do not give it; it may be whole.
    Withheld,
}

/// A file that is not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it lies.
    pub path: PathBuf,
    /// What kind of damage it is.
    pub wrong: Wrong,
    /// What is wrong with it.
    pub what: String,
}

/// What a table's newest version holds, file by file.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The table.
    pub table: TableName,
    /// The version that was read.
    pub version: u64,
    /// Files that it names.
    pub files: usize,
    /// Rows that could be read.
    pub rows: u64,
    /// Files that are not what the log says.
    pub damage: Vec<Damage>,
    /// The records that could be read.
    pub records: Streams,
    /// Those of them that are there more than once.
    pub doubled: Streams,
    /// Records that gap rows declare missing.
    pub gaps: Streams,
}

/// What is wrong with a lake.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Files that are not what the log says.
    pub damage: Vec<Damage>,
    /// Records that are there more than once.
    pub doubled: Streams,
    /// Records that should be there and are not.
    pub lost: Streams,
}

impl Report {
    /// Compares what was promised (`held`: the records below the marks that were published) with what the tables hold. `erased`
    /// records are not missed.
    pub fn new(checked: &[Checked], held: &Streams, erased: &Streams) -> Self {
        let mut report = Self::default();
        let mut accounted = erased.clone();
        for table in checked {
            report.damage.extend(table.damage.iter().cloned());
            table
                .doubled
                .iter()
                .for_each(|(stream, ranges)| report.doubled.entry(stream.clone()).or_default().join(ranges));
            for (stream, ranges) in table.records.iter().chain(&table.gaps) {
                accounted.entry(stream.clone()).or_default().join(ranges);
            }
        }
        for (stream, ranges) in held {
            let none = Ranges::default();
            let lost = ranges.without(accounted.get(stream).unwrap_or(&none));
            if !lost.is_empty() {
                report.lost.insert(stream.clone(), lost);
            }
        }
        report
    }

    /// Is nothing wrong?
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.doubled.is_empty() && self.lost.is_empty()
    }
}

impl DeltaTable {
    /// Reads the whole newest version.
    pub async fn check(&self) -> Result<Checked, LakeError> {
        let snapshot = self.snapshot()?;
        let digests = self.digests().map_err(|source| self.unreadable(snapshot.version, source))?;
        let mut checked = Checked {
            table: self.name,
            version: snapshot.version,
            files: snapshot.files.len(),
            rows: 0,
            damage: Vec::new(),
            records: Streams::new(),
            doubled: Streams::new(),
            gaps: Streams::new(),
        };
        for file in snapshot.files {
            let path = file.path.clone();
            match self.read_checked(file, &digests).await {
                Ok(rows) => {
                    checked.rows += rows.len() as u64;
                    for (stream, ranges) in collect(&rows, &mut checked.records) {
                        checked.doubled.entry(stream).or_default().join(&ranges);
                    }
                    gaps(&rows, &mut checked.gaps);
                }
                Err(Bad { wrong, what }) => checked.damage.push(Damage { path, wrong, what }),
            }
        }
        Ok(checked)
    }

    /// Which of these records the newest version holds. Only files that may hold one of them are read; where one of those is damaged, nobody
    /// knows.
    pub async fn holds(&self, wanted: &Streams) -> Result<Streams, LakeError> {
        let snapshot = self.snapshot()?;
        let digests = self.digests().map_err(|source| self.unreadable(snapshot.version, source))?;
        let mut found = Streams::new();
        for file in snapshot.files.into_iter().filter(|file| wanted.iter().any(|wanted| may_be_in(file, wanted))) {
            let path = file.path.clone();
            let rows = self.read_checked(file, &digests).await.map_err(|Bad { what, .. }| {
                let source = DeltaTableError::generic(format!("{}: {what}", path.display()));
                self.unreadable(snapshot.version, source)
            })?;
            collect(&rows, &mut found);
        }
        let held = wanted.iter().filter_map(|(stream, ranges)| Some((stream.clone(), ranges.both(found.get(stream)?))));
        Ok(held.filter(|(_, ranges)| !ranges.is_empty()).collect())
    }

    /// The rows of a file, if it is what the log says.
    async fn read_checked(&self, file: DataFile, digests: &[(PathBuf, Option<Digest>)]) -> Result<Rows, Bad> {
        let digest = digests.iter().find(|(path, _)| *path == file.path).and_then(|(_, digest)| *digest);
        self.stores.fetch_anew(&file.path).await.map_err(|error| {
            // A copy for reading may be all that is left of it: a person decides.
            let gone = is_not_found(&error) && !file.path.exists();
            Bad { wrong: if gone { Wrong::Gone } else { Wrong::Withheld }, what: error.to_string() }
        })?;
        let table = self.name;
        let read = tokio::task::spawn_blocking(move || read(table, &file, digest)).await;
        read.unwrap_or_else(|error| Err(Bad { wrong: Wrong::Withheld, what: error.to_string() }))
    }

    /// Leaves one row of each record that is there more than once; says how many rows went. One commit, nothing else changes.
    pub async fn single(&mut self) -> Result<usize, LakeError> {
        if self.name == TableName::Quarantine {
            return Ok(0);
        }
        let files = self.snapshot()?.files;
        let before = self.prepare().await?;
        let done = self.keep_first(files).await;
        self.conclude(before, done).await
    }

    /// Puts rows back that were committed once and are lost, in the place of files that are damaged. One commit; the offset stays where it
    /// is, so that no replay brings them again.
    pub async fn restore(&mut self, rows: &Rows, damaged: &[PathBuf]) -> Result<(), LakeError> {
        let files: Vec<_> = self.snapshot()?.files.into_iter().filter(|file| damaged.contains(&file.path)).collect();
        let before = self.prepare().await?;
        let done = self.put_back(rows, &files).await;
        self.conclude(before, done).await
    }

    async fn put_back(&mut self, rows: &Rows, damaged: &[DataFile]) -> Result<(), DeltaTableError> {
        let mut adds = Vec::new();
        if !rows.is_empty() {
            adds = self.write(|writer| Ok(arrow::batch(rows, writer.arrow_schema())?), parquet(1)?).await?;
        }
        let actions = self.replacing(damaged, adds, true)?;
        let operation = DeltaOperation::Update { predicate: Some("records that were lost".into()) };
        self.enter(actions, None, operation, json!({ "restored": rows.len(), "damaged": damaged.len() })).await
    }

    async fn keep_first(&mut self, files: Vec<DataFile>) -> Result<usize, DeltaTableError> {
        let mut seen: BTreeSet<(String, i64, String, i64)> = BTreeSet::new();
        let (mut adds, mut touched, mut gone): (Vec<Add>, _, _) = (Vec::new(), Vec::new(), 0);
        for file in files {
            let batch = self.load(vec![file.clone()]).await?;
            let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let whole =
                |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let columns = (text("device"), whole("epoch"), text("class"), whole("seq"));
            let (Some(device), Some(epoch), Some(class), Some(seq)) = columns else { continue };
            let first = (0..batch.num_rows()).map(|row| {
                seen.insert((device.value(row).into(), epoch.value(row), class.value(row).into(), seq.value(row)))
            });
            let first = BooleanArray::from(first.collect::<Vec<_>>());
            let again = batch.num_rows() - first.true_count();
            if again == 0 {
                continue;
            }
            gone += again;
            let rest = filter_record_batch(&batch, &first)?;
            if rest.num_rows() > 0 {
                adds.extend(self.write(|_| Ok(rest), parquet(1)?).await?);
            }
            touched.push(file);
        }
        if gone > 0 {
            let actions: Vec<Action> = self.replacing(&touched, adds, true)?;
            let operation = DeltaOperation::Delete { predicate: Some("a record that is there already".into()) };
            self.enter(actions, None, operation, json!({ "duplicates": gone })).await?;
        }
        Ok(gone)
    }

    fn digests(&self) -> Result<Vec<(PathBuf, Option<Digest>)>, DeltaTableError> {
        let views = self.inner.snapshot()?.log_data();
        #[expect(deprecated, reason = "the only way to a file's tags short of decoding the log's own Arrow batches")]
        let digest = |view: &deltalake::kernel::LogicalFileView| {
            Digest::parse(view.add_action().tags?.get(DIGEST_TAG)?.as_deref()?)
        };
        let of = views.iter().map(|view| (self.stores.folder.join(view.object_store_path().as_ref()), digest(&view)));
        Ok(of.collect())
    }
}

fn read(table: TableName, file: &DataFile, digest: Option<Digest>) -> Result<Rows, Bad> {
    let bytes = std::fs::read(&file.path).map_err(|error| {
        let wrong = if error.kind() == io::ErrorKind::NotFound { Wrong::Gone } else { Wrong::Withheld };
        Bad { wrong, what: error.to_string() }
    })?;
    let changed = |what| Bad { wrong: Wrong::Changed, what };
    if bytes.len() as u64 != file.bytes {
        return Err(changed(format!("{} bytes where the log says {}", bytes.len(), file.bytes)));
    }
    if digest.is_some_and(|digest| Digest::of(&bytes) != digest) {
        return Err(changed("its bytes have changed since they were committed".into()));
    }
    let mut rows = Rows::new(table);
    arrow::read_file(table, &file.path, &mut rows).map_err(|error| changed(error.to_string()))?;
    match file.rows {
        Some(said) if said != rows.len() as u64 => {
            Err(changed(format!("{} rows where the log says {said}", rows.len())))
        }
        _ => Ok(rows),
    }
}

/// Why the rows of a file can't be had.
struct Bad {
    wrong: Wrong,
    what: String,
}

/// Can one of these records be in the file, as far as the log tells?
fn may_be_in(file: &DataFile, (stream, ranges): (&Stream, &Ranges)) -> bool {
    let equal = |column: &str, value: Bound| file.may_hold(column, Some(&value), Some(&value));
    let named = equal("device", Bound::Text(stream.device.clone()))
        && equal("class", Bound::Text(stream.class.clone()))
        && equal("epoch", Bound::Whole(stream.epoch as i64));
    let number = |seq: u64| i64::try_from(seq).ok().map(Bound::Whole);
    let near = ranges.span().is_some_and(|(first, last)| {
        let (first, last) = (number(first), number(last));
        // Beyond what a signed number says, order is another.
        last.is_none() || file.may_hold("seq", first.as_ref(), last.as_ref())
    });
    named && near
}

/// Adds the records that rows of gaps declare missing.
pub fn gaps(rows: &Rows, into: &mut Streams) {
    if rows.table() != TableName::Gaps {
        return;
    }
    for row in 0..rows.len() {
        let (Some(device), Some(class)) = (rows.text("device", row), rows.text("gap_class", row)) else { continue };
        let number = |name| rows.int64(name, row).map(|bits| bits as u64);
        let (Some(epoch), Some(first), Some(last)) = (number("gap_epoch"), number("first_seq"), number("last_seq"))
        else {
            continue;
        };
        let stream = Stream { device: device.into(), epoch, class: class.into() };
        into.entry(stream).or_default().cover(first, last);
    }
}

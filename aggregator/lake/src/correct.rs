//! A record is corrected: what it says is replaced, which record it is stays.
//!
//! One commit writes the record's file anew with the new values and says who wanted it, why, and what stood there before. The old file
//! stays for questions as of earlier and for pinned versions, as after a compaction; a question that has begun is not moved. A replay of
//! the journal does not bring the old values back: the record lies below the table's offset.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::DeltaTableError;
use deltalake::arrow::array::{
    ArrayRef, AsArray, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use deltalake::arrow::buffer::OffsetBuffer;
use deltalake::arrow::compute::concat_batches;
use deltalake::arrow::datatypes::{DataType, Int64Type};
use deltalake::protocol::DeltaOperation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::maintain::large_files;
use crate::{Audit, Bound, ColumnKind, DataFile, DeltaTable, LakeError, Rows, Table, TableName, Values, arrow};

/// Which record, and what its columns shall hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// The device that made it.
    pub device: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its class.
    pub class: String,
    /// Its number.
    pub seq: u64,
    /// Columns of the table's own, as in `rpm`: a text, a number, a list of numbers, or null.
    pub set: BTreeMap<String, Value>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrected {
    /// The table.
    pub table: TableName,
    /// The first version with the new values.
    pub version: u64,
    /// What the record held before.
    pub was: BTreeMap<String, Value>,
}

impl Correction {
    /// Do both speak of the same record? With who asked for it and when, that names a correction; values that have been through text may
    /// differ in their last bit.
    pub fn is_of_the_record_of(&self, other: &Self) -> bool {
        let record = |of: &Self| (of.device.clone(), of.epoch, of.class.clone(), of.seq);
        record(self) == record(other)
    }

    /// The values as the table will hold them: numbers with the bits of their column.
    fn values(&self, table: TableName) -> Result<BTreeMap<&str, Value>, LakeError> {
        let refused = |what: String| LakeError::Correction { table, what };
        let each = self.set.iter().map(|(name, value)| {
            let column = table.content_column(name);
            let column =
                column.ok_or_else(|| refused(format!("{name} is no column that a record's content stands in")))?;
            let value = stored(column.kind, value);
            let value = value
                .ok_or_else(|| refused(format!("{name} holds {:?}, and that is another kind of value", column.kind)))?;
            Ok((name.as_str(), value))
        });
        match self.set.is_empty() {
            true => Err(refused("no column is named".into())),
            false => each.collect(),
        }
    }

    fn row_in(&self, batch: &RecordBatch) -> Option<usize> {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let whole = |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (device, class) = (text("device")?, text("class")?);
        let (epoch, seq) = (whole("epoch")?, whole("seq")?);
        // Ids of 64 bits keep their bit pattern.
        let wanted = (self.device.as_str(), self.epoch as i64, self.class.as_str(), self.seq as i64);
        (0..batch.num_rows())
            .find(|&row| (device.value(row), epoch.value(row), class.value(row), seq.value(row)) == wanted)
    }

    fn may_be_in(&self, file: &DataFile) -> bool {
        let bounds = [
            ("device", Bound::Text(self.device.clone())),
            ("class", Bound::Text(self.class.clone())),
            ("epoch", Bound::Whole(self.epoch as i64)),
            ("seq", Bound::Whole(self.seq as i64)),
        ];
        bounds.iter().all(|(column, value)| file.may_hold(column, Some(value), Some(value)))
    }
}

impl DeltaTable {
    /// Corrects a record. `None` when the newest version does not hold it, or holds these values already.
    pub async fn correct(&mut self, correction: &Correction, audit: &Audit) -> Result<Option<Corrected>, LakeError> {
        let values = correction.values(self.name)?;
        let files: Vec<_> = self.snapshot()?.files.into_iter().filter(|file| correction.may_be_in(file)).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let before = self.prepare().await?;
        let done = self.replace_row(files, correction, &values, audit).await;
        let was = self.conclude(before, done).await?;
        Ok(was.map(|was| Corrected { table: self.name, version: self.version(), was }))
    }

    /// What this very correction replaced, as the log tells: also by a run that was killed after its commit.
    pub async fn corrected(&self, correction: &Correction, audit: &Audit) -> Result<Option<Corrected>, LakeError> {
        for version in (1..=self.version()).rev() {
            let entry = self.log_entry(version).await.map_err(|source| self.unreadable(version, source))?;
            let ours = |note: &crate::log::Note| {
                note.audit == *audit && note.correct.as_ref().is_some_and(|known| known.is_of_the_record_of(correction))
            };
            if let Some(note) = entry.note.filter(ours) {
                return Ok(Some(Corrected { table: self.name, version, was: note.was }));
            }
        }
        Ok(None)
    }

    async fn replace_row(
        &mut self,
        files: Vec<DataFile>,
        correction: &Correction,
        values: &BTreeMap<&str, Value>,
        audit: &Audit,
    ) -> Result<Option<BTreeMap<String, Value>>, DeltaTableError> {
        for file in files {
            let batch = self.load(vec![file.clone()]).await?;
            let Some(row) = correction.row_in(&batch) else { continue };
            let old = batch.slice(row, 1);
            let held = arrow::rows(self.name, &old).map_err(DeltaTableError::generic)?;
            let was: BTreeMap<String, Value> =
                values.keys().map(|name| ((*name).to_owned(), value_of(&held, name))).collect();
            if values.iter().all(|(name, value)| was[*name] == *value) {
                return Ok(None);
            }
            let rest = row + 1;
            let parts = [batch.slice(0, row), replaced(&old, values)?, batch.slice(rest, batch.num_rows() - rest)];
            let whole = concat_batches(&batch.schema(), &parts)?;
            let adds = self.write(|_| Ok(whole), large_files()?).await?;
            let Correction { device, epoch, class, seq, .. } = correction;
            let predicate = format!("device = '{device}' AND epoch = {epoch} AND class = '{class}' AND seq = {seq}");
            let note = json!({ "correct": correction, "was": was, "audit": audit });
            let actions = self.replacing(&[file], adds, true)?;
            self.enter(actions, None, DeltaOperation::Update { predicate: Some(predicate) }, note).await?;
            return Ok(Some(was));
        }
        Ok(None)
    }
}

/// The value as a column of this kind gives it back; `None` where it can't hold it.
fn stored(kind: ColumnKind, value: &Value) -> Option<Value> {
    let float = |value: &Value| {
        let value = value.as_f64()? as f32;
        value.is_finite().then(|| Value::from(f64::from(value)))
    };
    match (kind, value) {
        (ColumnKind::Bytes, _) => None,
        (ColumnKind::Floats, Value::Array(list)) => list.iter().map(float).collect::<Option<Vec<_>>>().map(Value::from),
        (ColumnKind::Floats, _) => None,
        (_, Value::Null) => Some(Value::Null),
        (ColumnKind::Text, value) => value.as_str().map(Value::from),
        (ColumnKind::Int32, value) => value.as_i64().and_then(|value| i32::try_from(value).ok()).map(Value::from),
        (ColumnKind::Int64, value) => value.as_i64().map(Value::from),
        (ColumnKind::Float32, value) => float(value),
    }
}

fn value_of(rows: &Rows, name: &str) -> Value {
    match rows.column(name) {
        Some(Values::Text(texts)) => texts.get(0).into(),
        Some(Values::Int32(values)) => values[0].into(),
        Some(Values::Int64(values)) => values[0].into(),
        Some(Values::Float32(values)) => values[0].map(f64::from).into(),
        Some(Values::Floats(lists)) => lists.get(0).iter().map(|value| f64::from(*value)).collect(),
        Some(Values::Bytes(_)) | None => Value::Null,
    }
}

/// The one row with other values.
fn replaced(row: &RecordBatch, values: &BTreeMap<&str, Value>) -> Result<RecordBatch, DeltaTableError> {
    let schema = row.schema();
    let columns = schema.fields().iter().zip(row.columns()).map(|(field, old)| -> Result<ArrayRef, DeltaTableError> {
        let Some(value) = values.get(field.name().as_str()) else { return Ok(old.clone()) };
        let float = |value: &Value| value.as_f64().map(|value| value as f32);
        Ok(match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from(vec![value.as_str()])),
            DataType::Int32 => Arc::new(Int32Array::from(vec![value.as_i64().map(|value| value as i32)])),
            DataType::Int64 => Arc::new(Int64Array::from(vec![value.as_i64()])),
            DataType::Float32 => Arc::new(Float32Array::from(vec![float(value)])),
            DataType::List(item) => {
                let list: Vec<_> = value.as_array().into_iter().flatten().filter_map(float).collect();
                let offsets = OffsetBuffer::from_lengths([list.len()]);
                Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(Float32Array::from(list)), None)?)
            }
            other => return Err(DeltaTableError::generic(format!("{} holds {other}", field.name()))),
        })
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

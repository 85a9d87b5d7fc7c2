//! A column that this build writes wider than the table holds it (a long where there were ints, a double where there were floats) is widened
//! when the table is opened: the schema first, with a note of what is under way, then every file of the newest version anew, in one commit.
//!
//! Files are rewritten because readers of other makes trust the schema: none of them has to know that some files were narrower once. A crash
//! in between is ended at the next opening, which finds the note. Past versions keep their narrow files; this house's readers widen them.

use std::sync::Arc;

use deltalake::DeltaTableError;
use deltalake::arrow::array::ArrayRef;
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::DataType as ArrowType;
use deltalake::arrow::error::ArrowError;
use deltalake::kernel::{Action, DataType, MetadataExt, PrimitiveType, StructField, StructType};
use deltalake::protocol::DeltaOperation;
use serde_json::json;
use tracing::info;

use crate::maintain::large_files;
use crate::{ColumnKind, DeltaTable, LakeError};

/// Does every value of `narrow` have its place in `wide`?
pub(crate) fn widens(narrow: &DataType, wide: &DataType) -> bool {
    use PrimitiveType::{Byte, Double, Float, Integer, Long, Short};
    let (DataType::Primitive(narrow), DataType::Primitive(wide)) = (narrow, wide) else { return false };
    matches!(
        (narrow, wide),
        (Byte, Short | Integer | Long) | (Short, Integer | Long) | (Integer, Long) | (Float, Double)
    )
}

/// A column of an older file as wide as it is read now.
pub(crate) fn widened(array: &ArrayRef, kind: ColumnKind) -> Result<ArrayRef, ArrowError> {
    let wide = match (array.data_type(), kind) {
        (ArrowType::Int8 | ArrowType::Int16, ColumnKind::Int32) => ArrowType::Int32,
        (ArrowType::Int8 | ArrowType::Int16 | ArrowType::Int32, ColumnKind::Int64) => ArrowType::Int64,
        _ => return Ok(Arc::clone(array)),
    };
    cast(array, &wide)
}

impl DeltaTable {
    /// Widens these columns of the table, and ends what an earlier opening began.
    pub(crate) async fn widen(&mut self, wider: Vec<StructField>) -> Result<(), LakeError> {
        if !wider.is_empty() {
            let before = self.prepare().await?;
            let done = self.widen_schema(&wider).await;
            self.conclude(before, done).await?;
        }
        let failed = |source| LakeError::open(self.name, self.stores.folder.clone(), source);
        let noted = self.inner.snapshot().map_err(failed)?.metadata().configuration().contains_key(NOTE);
        if noted {
            let before = self.prepare().await?;
            let done = self.widen_files().await;
            self.conclude(before, done).await?;
        }
        Ok(())
    }

    async fn widen_schema(&mut self, wider: &[StructField]) -> Result<(), DeltaTableError> {
        let snapshot = self.inner.snapshot()?;
        let schema = snapshot.schema();
        let fields = schema.fields().map(|field| {
            let wide = wider.iter().find(|wide| wide.name() == field.name());
            StructField { data_type: wide.unwrap_or(field).data_type().clone(), ..field.clone() }
        });
        let names: Vec<_> = wider.iter().map(|field| field.name().as_str()).collect();
        let metadata = snapshot.metadata().clone().with_schema(&StructType::try_new(fields)?)?;
        let metadata = metadata.add_config_key(NOTE.into(), names.join(","))?;
        let properties = [(NOTE.to_owned(), names.join(","))].into();
        let operation = DeltaOperation::SetTableProperties { properties };
        info!(table = %self.name, columns = names.join(","), "columns are widened");
        self.enter(vec![Action::Metadata(metadata)], None, operation, json!({ "widening": names })).await
    }

    /// One file in memory at a time.
    async fn widen_files(&mut self) -> Result<(), DeltaTableError> {
        let files = self.snapshot().map_err(|error| DeltaTableError::generic(error.to_string()))?.files;
        let mut adds = Vec::new();
        for file in &files {
            let batch = self.load(vec![file.clone()]).await?;
            adds.extend(self.write(|_| Ok(batch), large_files()?).await?);
        }
        let mut actions = self.replacing(&files, adds, false)?;
        let metadata = self.inner.snapshot()?.metadata().clone().remove_config_key(NOTE)?;
        actions.push(Action::Metadata(metadata));
        let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
        self.enter(actions, None, operation, json!({ "widened": files.len() })).await?;
        info!(table = %self.name, files = files.len(), "columns are wider");
        Ok(())
    }
}

/// In the table's configuration while files are narrower than the schema says.
const NOTE: &str = "kilter.widening";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_nothing_is_widening() {
        let of = DataType::Primitive;
        let (int, long) = (of(PrimitiveType::Integer), of(PrimitiveType::Long));
        let (float, double) = (of(PrimitiveType::Float), of(PrimitiveType::Double));
        assert!(widens(&int, &long) && widens(&float, &double) && widens(&of(PrimitiveType::Byte), &int));
        for (narrow, wide) in [(&long, &int), (&double, &float), (&int, &float), (&long, &double), (&int, &int)] {
            assert!(!widens(narrow, wide), "{narrow} {wide}");
        }
        assert!(!widens(&of(PrimitiveType::String), &long));
    }
}

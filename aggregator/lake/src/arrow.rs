//! Between plain columns and Arrow, on the way to and from Parquet.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float32Array, Int32Array, Int64Array, ListArray, StringArray, new_null_array,
};
use deltalake::arrow::buffer::OffsetBuffer;
use deltalake::arrow::datatypes::{DataType as ArrowType, Float32Type, Int32Type, Int64Type, SchemaRef};
use deltalake::arrow::error::ArrowError;
use deltalake::arrow::record_batch::RecordBatch;
use deltalake::kernel::{ArrayType, DataType, PrimitiveType, StructField};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::widen::widened;
use crate::{Blobs, Column, ColumnKind, Lists, Rows, TableName, Texts, Values};

type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// A column as the Delta log declares it.
pub(crate) fn delta_field(column: Column) -> StructField {
    let kind = match column.kind {
        ColumnKind::Text => DataType::Primitive(PrimitiveType::String),
        ColumnKind::Int32 => DataType::Primitive(PrimitiveType::Integer),
        ColumnKind::Int64 => DataType::Primitive(PrimitiveType::Long),
        ColumnKind::Float32 => DataType::Primitive(PrimitiveType::Float),
        ColumnKind::Floats => ArrayType::new(DataType::Primitive(PrimitiveType::Float), true).into(),
        ColumnKind::Bytes => DataType::Primitive(PrimitiveType::Binary),
    };
    StructField::new(column.name, kind, true)
}

/// The rows as one batch of the table's own schema; a column that only the table knows stays null.
pub(crate) fn batch(rows: &Rows, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match rows.column(field.name()) {
            Some(values) => array(values, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns)
}

fn array(values: &Values, kind: &ArrowType) -> Result<ArrayRef, ArrowError> {
    Ok(match values {
        Values::Text(texts) => Arc::new(texts.iter().collect::<StringArray>()),
        Values::Int32(values) => Arc::new(Int32Array::from(values.clone())),
        Values::Int64(values) => Arc::new(Int64Array::from(values.clone())),
        Values::Float32(values) => Arc::new(Float32Array::from(values.clone())),
        Values::Floats(lists) => {
            let ArrowType::List(item) = kind else {
                return Err(ArrowError::SchemaError(format!("the table holds {kind} where lists are written")));
            };
            let (numbers, _) = lists.parts();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(<[f32]>::len));
            Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(Float32Array::from(numbers.to_vec())), None)?)
        }
        Values::Bytes(blobs) => Arc::new(BinaryArray::from_iter_values(blobs.iter())),
    })
}

/// Reads one file of a table; `day` and `bucket` stand in its path.
pub(crate) fn read_file(table: TableName, path: &Path, into: &mut Rows) -> Result<(), ReadError> {
    let partition = partition_of(path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    for batch in reader {
        let part = with_partition(table, &batch?, &partition);
        into.extend(&part.map_err(|failed| format!("read {}: {failed}", path.display()))?);
    }
    Ok(())
}

/// A batch that has all of the table's columns as rows.
pub(crate) fn rows(table: TableName, batch: &RecordBatch) -> Result<Rows, String> {
    with_partition(table, batch, &BTreeMap::new())
}

fn with_partition(table: TableName, batch: &RecordBatch, partition: &BTreeMap<String, String>) -> Result<Rows, String> {
    let len = batch.num_rows();
    let mut failed = None;
    let read = |name: &str, array: &ArrayRef| {
        let kind = table.columns().find(|column| column.name == name).map(|column| column.kind);
        let wide = kind.map_or(Ok(array.clone()), |kind| widened(array, kind));
        wide.map_err(|error| error.to_string()).and_then(|array| values(&array))
    };
    let rows = Rows::from_columns(table, len, |name| match (name, batch.column_by_name(name)) {
        (_, Some(array)) => read(name, array).inspect_err(|error| failed = Some(format!("{name}: {error}"))).ok(),
        ("day", None) => partition.get("day").map(|day| {
            let mut texts = Texts::default();
            (0..len).for_each(|_| texts.push(Some(day)));
            Values::Text(texts)
        }),
        ("bucket", None) => Some(Values::Int32(vec![partition.get("bucket")?.parse().ok(); len])),
        (_, None) => None,
    });
    failed.map_or(Ok(rows), Err)
}

/// The `name=value` parts of a path.
pub(crate) fn partition_of(path: &Path) -> BTreeMap<String, String> {
    let parts = path.iter().filter_map(|part| part.to_str()?.split_once('='));
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn values(array: &ArrayRef) -> Result<Values, String> {
    Ok(match array.data_type() {
        ArrowType::Utf8 => {
            let mut texts = Texts::default();
            array.as_string::<i32>().iter().for_each(|text| texts.push(text));
            Values::Text(texts)
        }
        ArrowType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().iter().collect()),
        ArrowType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().iter().collect()),
        ArrowType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().iter().collect()),
        ArrowType::List(_) => {
            let mut lists = Lists::default();
            for list in array.as_list::<i32>().iter() {
                match list {
                    Some(list) => match list.as_primitive_opt::<Float32Type>() {
                        Some(numbers) => lists.push(numbers.values()),
                        None => return Err(format!("a list of {}", list.data_type())),
                    },
                    None => lists.push(&[]),
                }
            }
            Values::Floats(lists)
        }
        ArrowType::Binary => {
            let mut blobs = Blobs::default();
            array.as_binary::<i32>().iter().for_each(|bytes| blobs.push(bytes.unwrap_or_default()));
            Values::Bytes(blobs)
        }
        other => return Err(format!("unexpected type {other}")),
    })
}

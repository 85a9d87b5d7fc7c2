//! Between plain columns and Polars.

use kilter_lake::{Column, ColumnKind, Rows, TableName, Values};
use polars::prelude::{
    Column as PolarsColumn, DataFrame, DataType, Float32Type, IntoSeries, ListBuilderTrait,
    ListPrimitiveChunkedBuilder, NamedFrom, PolarsResult, Schema, Series,
};

/// The type of a column.
pub(crate) fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text => DataType::String,
        ColumnKind::Int32 => DataType::Int32,
        ColumnKind::Int64 => DataType::Int64,
        ColumnKind::Float32 => DataType::Float32,
        ColumnKind::Floats => DataType::List(Box::new(DataType::Float32)),
        ColumnKind::Bytes => DataType::Binary,
    }
}

/// The schema of a table, with or without what stands in the paths of its files.
pub(crate) fn schema(table: TableName, keep: impl Fn(Column) -> bool) -> Schema {
    table.columns().filter(|column| keep(*column)).map(|column| (column.name.into(), data_type(column.kind))).collect()
}

/// Is it a column that stands in the path?
pub(crate) fn in_path(column: Column) -> bool {
    matches!(column.name, "day" | "bucket")
}

/// The rows as a frame.
pub(crate) fn frame(rows: &Rows) -> PolarsResult<DataFrame> {
    let columns = rows
        .table()
        .columns()
        .map(|column| {
            let values = rows.column(column.name).expect("a table has each of its columns");
            series(column.name, values).into()
        })
        .collect::<Vec<PolarsColumn>>();
    DataFrame::new(rows.len(), columns)
}

fn series(name: &str, values: &Values) -> Series {
    match values {
        Values::Text(texts) => Series::new(name.into(), texts.iter().collect::<Vec<_>>()),
        Values::Int32(values) => Series::new(name.into(), values),
        Values::Int64(values) => Series::new(name.into(), values),
        Values::Float32(values) => Series::new(name.into(), values),
        Values::Floats(lists) => {
            let (numbers, ends) = lists.parts();
            let mut builder = ListPrimitiveChunkedBuilder::<Float32Type>::new(
                name.into(),
                ends.len(),
                numbers.len(),
                DataType::Float32,
            );
            lists.iter().for_each(|list| builder.append_slice(list));
            builder.finish().into_series()
        }
        Values::Bytes(blobs) => Series::new(name.into(), blobs.iter().collect::<Vec<_>>()),
    }
}

//! One table as a question sees it: a version of the lake and the journal's tail, with an exact seam.

use std::sync::Arc;

use kilter_lake::{DataFile, Rows, Snapshot, TableName};
use polars::prelude::{
    CastColumnsPolicy, DslBuilder, ExtraColumnsPolicy, HiveOptions, IntoLazy, LazyFrame, MissingColumnsPolicy,
    ParquetOptions, PlRefPath, PolarsResult, ScanSources, UnifiedScanArgs, UnionArgs, col, concat, lit,
};

use crate::{HistoryError, plain};

/// A pinned version and the rows of the journal's tail.
#[derive(Clone, Debug)]
pub struct View {
    /// The version.
    pub snapshot: Snapshot,
    /// Rows of the journal whose offset the snapshot carries. Those below that offset are in the snapshot and are left out here,
    /// so the tail may overlap; it must not have a hole.
    pub tail: Vec<Arc<Rows>>,
}

impl View {
    /// The table.
    pub fn table(&self) -> TableName {
        self.snapshot.table
    }

    /// The journal offset at which the tail takes over from the lake.
    pub fn seam(&self) -> u64 {
        self.snapshot.offset.map_or(0, |offset| offset.offset)
    }

    /// The whole table, read when it is collected.
    pub(crate) fn scan(&self) -> Result<LazyFrame, HistoryError> {
        self.scan_files(&self.snapshot.files.iter().collect::<Vec<_>>())
    }

    /// The table as far as these of its files hold it, and the tail.
    pub(crate) fn scan_files(&self, files: &[&DataFile]) -> Result<LazyFrame, HistoryError> {
        let failed = |error| self.unreadable(error);
        let mut parts = Vec::new();
        if !files.is_empty() {
            parts.push(self.files(files).map_err(failed)?);
        }
        for rows in &self.tail {
            let frame = plain::frame(rows).map_err(failed)?.lazy();
            // Offsets are below 2^63: the journal counts bytes.
            parts.push(frame.filter(col("journal_offset").gt_eq(lit(self.seam() as i64))));
        }
        if parts.is_empty() {
            parts.push(plain::frame(&Rows::new(self.table())).map_err(failed)?.lazy());
        }
        concat(parts, UnionArgs::default()).map_err(failed)
    }

    pub(crate) fn unreadable(&self, error: impl std::fmt::Display) -> HistoryError {
        HistoryError::Read { table: self.table(), text: error.to_string() }
    }

    /// Polars takes the first file's schema for all. So the table's own is given: columns that an older file lacks are null, those that it
    /// holds narrower are widened, and those that only a newer build knows are left out.
    fn files(&self, files: &[&DataFile]) -> PolarsResult<LazyFrame> {
        let table = self.table();
        let paths = files.iter().map(|file| PlRefPath::try_from_path(&file.path));
        let paths = paths.collect::<PolarsResult<Vec<_>>>()?;
        let own = plain::schema(table, |column| !plain::in_path(column));
        let options = ParquetOptions { schema: Some(Arc::new(own)), ..ParquetOptions::default() };
        let args = UnifiedScanArgs {
            cache: true,
            glob: false,
            hive_options: HiveOptions {
                enabled: Some(true),
                hive_start_idx: 0,
                schema: Some(Arc::new(plain::schema(table, plain::in_path))),
                try_parse_dates: false,
            },
            cast_columns_policy: CastColumnsPolicy {
                integer_upcast: true,
                float_upcast: true,
                ..CastColumnsPolicy::ERROR_ON_MISMATCH
            },
            missing_columns_policy: MissingColumnsPolicy::Insert,
            extra_columns_policy: ExtraColumnsPolicy::Ignore,
            ..UnifiedScanArgs::default()
        };
        Ok(DslBuilder::scan_parquet(ScanSources::Paths(paths.into()), options, args)?.build().into())
    }
}

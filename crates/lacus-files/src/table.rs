use std::any::Any;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::stats::Precision;
use datafusion_common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics, project_schema};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_format::FileFormat;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema, compute_all_files_statistics};
use datafusion_datasource_parquet::source::ParquetSource;
use datafusion_execution::object_store::ObjectStoreUrl;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::empty::EmptyExec;
use datafusion_physical_plan::union::UnionExec;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Partitions};
use lacus_storage::{Known, ReadScope, Scan, Stores, lake_url};
use object_store::{ObjectMeta, ObjectStore};

use crate::ahead::AheadFactory;
use crate::decimals::Changed;
use crate::kept::KeptColumns;
use crate::layout::{Layouts, aligned, columns_to_read};
use crate::named::{NamedSource, Selection, Unpacking};
use crate::partitions::{decides, select};
use crate::source::Key;

/// How many footers are read at once for statistics.
const CONCURRENT_FOOTERS: usize = 32;

/// The files of one dataset, each with its layout and its partition values.
#[derive(Debug)]
pub(crate) struct Files {
    objects: Arc<Vec<ObjectMeta>>,
    layouts: Layouts,
    partitions: Partitions,
    unpacking: Unpacking,
    /// What is known of each file's columns, those of its path among them.
    statistics: Vec<OnceLock<Arc<Statistics>>>,
}

impl Files {
    pub(crate) fn new(objects: Arc<Vec<ObjectMeta>>, layouts: Layouts, partitions: Partitions, unpacking: Unpacking) -> Self {
        let statistics = objects.iter().map(|_| OnceLock::new()).collect();
        Self { objects, layouts, partitions, unpacking, statistics }
    }

    /// A file for a scan.
    fn file(&self, place: usize) -> PartitionedFile {
        let mut file = PartitionedFile::from(self.objects[place].clone());
        file.partition_values.clone_from(&self.partitions.rows[place]);
        file.statistics = self.statistics[place].get().cloned();
        file
    }
}

/// The bytes of a text, or of another value that has no fixed width, on average.
const LONG_VALUE: usize = 16;
/// How many bytes of values lie in one of a file, on average.
const PACKED: u64 = 2;

/// The files of one dataset as a table, as one query sees them.
#[derive(Debug)]
pub(crate) struct FilesTable {
    name: String,
    stores: Arc<Stores>,
    reader: Arc<dyn FileFormat>,
    whole: SchemaRef,
    files: Files,
    statistics: Arc<Known<Key, Arc<Statistics>>>,
    kept: Option<Arc<KeptColumns>>,
    changed: Arc<Changed>,
}

impl FilesTable {
    pub(crate) fn new(
        name: &str,
        stores: Arc<Stores>,
        reader: Arc<dyn FileFormat>,
        stored: SchemaRef,
        files: Files,
        statistics: Arc<Known<Key, Arc<Statistics>>>,
    ) -> Self {
        let whole = Schema::new(stored.fields().iter().chain(&files.partitions.fields).cloned().collect::<Vec<_>>());
        Self { name: name.to_owned(), stores, reader, whole: Arc::new(whole), files, statistics, kept: None, changed: Arc::default() }
    }

    /// Serves decoded columns from memory.
    pub(crate) fn keeping(self, kept: Option<Arc<KeptColumns>>) -> Self {
        Self { kept, ..self }
    }

    /// The places of the files whose partition values pass `filters`, by layout.
    fn select(&self, filters: &[Expr]) -> Result<Vec<Vec<usize>>> {
        let Files { layouts, partitions, .. } = &self.files;
        let deciding: Vec<Expr> = filters.iter().filter(|filter| decides(partitions, filter)).cloned().collect();
        let passed = select(partitions, &deciding)?;
        let mut selected = vec![Vec::new(); layouts.schemas.len()];
        let all = layouts.of_file.iter().zip(passed).enumerate();
        for (place, (layout, _)) in all.filter(|(_, (_, passed))| *passed) {
            selected[*layout].push(place);
        }
        Ok(selected)
    }

    /// A scan of the files at `places`, which have one layout, that gives the `wanted` columns.
    async fn scan_layout(
        &self,
        session: &dyn Session,
        layout: &SchemaRef,
        places: Vec<usize>,
        wanted: &SchemaRef,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::parse(lake_url())?;
        let store = session.runtime_env().object_store(&url)?;
        let bytes = places.iter().map(|place| self.files.objects[*place].size).sum();
        let selection = Selection { matched: places.len(), total: self.files.objects.len(), bytes };
        let collects = session.config().collect_statistics();
        if collects {
            self.learn(session, &store, layout, &places).await?;
        }
        let files: Vec<PartitionedFile> = places.into_iter().map(|place| self.files.file(place)).collect();
        // A scan of no file is still a scan, so that EXPLAIN can say that none of so many matched.
        let groups = match files.is_empty() {
            true => vec![FileGroup::new(files)],
            false => FileGroup::new(files).split_files(session.config().target_partitions()),
        };
        let partitions = &self.files.partitions.fields;
        let schema = TableSchema::builder(Arc::clone(layout)).with_table_partition_cols(partitions.clone()).build();
        let (groups, statistics) = compute_all_files_statistics(groups, Arc::clone(schema.table_schema()), collects, false)?;
        // The table's own layout is read in the order that the query wants, so nothing stands between the scan and the optimiser.
        let columns = match self.files.layouts.schemas.len() {
            1 if self.whole.fields() == schema.table_schema().fields() => {
                wanted.fields().iter().map(|field| self.whole.index_of(field.name())).collect::<Result<Vec<_>, _>>()?
            }
            _ => columns_to_read(layout, partitions, wanted),
        };
        // A format needs at most one file to plan: a plan of all would be copied.
        let one = groups.iter().flat_map(FileGroup::iter).take(1).cloned().collect();
        let config = FileScanConfigBuilder::new(url, self.reader.file_source(schema))
            .with_file_groups(vec![FileGroup::new(one)])
            .with_statistics(statistics)
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .build();
        let scan = Scan::new(session.config().get_extension::<ReadScope>(), &self.name, selection.matched);
        aligned(self.named(self.reader.create_physical_plan(session, config).await?, groups, scan, selection)?, wanted)
    }

    /// Learns the statistics of the files at `places` that are not known yet.
    async fn learn(&self, session: &dyn Session, store: &Arc<dyn ObjectStore>, layout: &SchemaRef, places: &[usize]) -> Result<()> {
        let unknown: Vec<usize> = places.iter().copied().filter(|place| self.files.statistics[*place].get().is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let schema: Arc<str> = format!("{:?}", layout.fields()).into();
        let learn = |place: usize| {
            let (object, schema) = (&self.files.objects[place], Arc::clone(&schema));
            async move {
                let key = (object.location.clone(), schema);
                let stored = match self.statistics.get(&key, object) {
                    Some(stored) => stored,
                    None => {
                        let learned = self.reader.infer_stats(session, store, Arc::clone(layout), object).await;
                        let learned = learned.map_err(|error| self.name(error, object))?;
                        let learned = Arc::new(without_lost_bounds(learned));
                        self.statistics.put(key, object, Arc::clone(&learned));
                        learned
                    }
                };
                let file = with_partition_statistics(self.files.file(place), stored, layout.fields().len());
                // Another query may have learned the same.
                if let Some(learned) = file.statistics {
                    let _ = self.files.statistics[place].set(learned);
                }
                Ok::<_, DataFusionError>(())
            }
        };
        stream::iter(unknown).map(learn).buffer_unordered(CONCURRENT_FOOTERS).try_collect().await
    }

    fn name(&self, error: DataFusionError, object: &ObjectMeta) -> DataFusionError {
        Error::from(error).with("file", self.stores.shown(&object.location)).into()
    }

    /// Parquet of stores beyond this machine is read ahead.
    fn ahead(&self, source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        let any: &dyn Any = source.as_ref();
        let Some(parquet) = any.downcast_ref::<ParquetSource>() else { return source };
        let Some(factory) = parquet.parquet_file_reader_factory().cloned() else { return source };
        match self.files.objects.first() {
            Some(first) if !self.stores.is_local(&first.location) => {
                Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(AheadFactory(factory))))
            }
            _ => source,
        }
    }

    /// Puts [`NamedSource`] around the reader that the format planned, for the files in `groups`.
    fn named(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        groups: Vec<FileGroup>,
        scan: Scan,
        selection: Selection,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
            .ok_or_else(|| DataFusionError::Internal("a file format planned something else than a scan of files".to_owned()))?;
        let source = self.ahead(Arc::clone(config.file_source()));
        let source = NamedSource::new(source, Arc::clone(&self.stores), scan, selection, self.files.unpacking);
        let source = source.keeping(self.kept.clone()).changing(Arc::clone(&self.changed));
        let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).with_file_groups(groups).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// DataFusion can't take the bounds of a column whose stored type is narrower than the table's, and then says that they are exactly
/// NULL: `max` would be answered from the other files alone. And Parquet leaves NaN out of bounds: two that are equal would make a constant
/// of a column that holds NaN, too.
fn without_lost_bounds(mut statistics: Statistics) -> Statistics {
    let rows = statistics.num_rows;
    for column in &mut statistics.column_statistics {
        let all_null = matches!((column.null_count, rows), (Precision::Exact(nulls), Precision::Exact(rows)) if nulls == rows);
        for bound in [&mut column.min_value, &mut column.max_value] {
            if !all_null && bound.get_value().is_some_and(ScalarValue::is_null) {
                *bound = Precision::Absent;
            }
            if bound.get_value().is_some_and(|value| value.data_type().is_floating()) {
                *bound = std::mem::take(bound).to_inexact();
            }
        }
    }
    statistics
}

/// Attaches statistics to a file. DataFusion takes every partition value for present and every file for one with rows; a NULL value is
/// missing in all rows, and a file without rows holds no value.
fn with_partition_statistics(file: PartitionedFile, stored: Arc<Statistics>, columns: usize) -> PartitionedFile {
    let rows = stored.num_rows;
    let mut file = file.with_statistics(stored);
    let Some(statistics) = &mut file.statistics else { return file };
    let statistics = Arc::make_mut(statistics);
    for (value, column) in file.partition_values.iter().zip(statistics.column_statistics.iter_mut().skip(columns)) {
        if value.is_null() || !matches!(rows, Precision::Exact(rows) if rows > 0) {
            *column = ColumnStatistics::new_unknown();
        }
        if value.is_null() {
            column.null_count = rows;
        }
    }
    file
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.whole)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = project_schema(&self.whole, projection)?;
        let nothing_to_plan = || Arc::new(EmptyExec::new(Arc::clone(&wanted)));
        let mut scans = Vec::new();
        let selected = self.select(filters)?;
        let nothing = selected.iter().all(Vec::is_empty);
        // The Arrow format looks into its first file to tell a file from a stream.
        if nothing && self.reader.get_ext() == "arrow" {
            return Ok(nothing_to_plan());
        }
        for (layout, files) in self.files.layouts.schemas.iter().zip(selected) {
            if !files.is_empty() || (nothing && scans.is_empty()) {
                scans.push(self.scan_layout(session, layout, files, &wanted, limit).await?);
            }
        }
        match scans.len() {
            1 => Ok(scans.remove(0)),
            _ => UnionExec::try_new(scans),
        }
    }

    /// About how many rows the files hold, by their sizes and nothing that is in them.
    fn statistics(&self) -> Option<Statistics> {
        let bytes: u64 = self.files.objects.iter().map(|object| object.size).sum();
        let row: usize = self.whole.fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(LONG_VALUE)).sum();
        let rows = bytes.saturating_mul(PACKED) / (row.max(1) as u64);
        let num_rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        Some(Statistics { num_rows, ..Statistics::new_unknown(&self.whole) })
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let decided = |filter: &&Expr| match decides(&self.files.partitions, filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(decided).collect())
    }
}

//! Parquet scans that serve decoded columns from memory: DataFusion's own scan reads whatever is not wanted there.

use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::{Result, ScalarValue};
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file::FileSource;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use datafusion_datasource_parquet::source::ParquetSource;
use datafusion_datasource_parquet::{
    ParquetAccessPlan, ParquetFileMetrics, ParquetFileReaderFactory, RowGroupAccessPlanFilter, apply_file_schema_type_coercions,
};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::projection::{ProjectionExprs, Projector};
use datafusion_physical_expr::utils::reassign_expr_columns;
use datafusion_physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_pruning::PruningPredicateBuilder;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};

use crate::kept::{KeptColumns, Key, Pieces, Version, compact};

type Reader = Box<dyn AsyncFileReader>;

/// `inner`, which reads for `source`, behind what is kept; `inner` itself where the source isn't one whose columns can be.
pub(crate) fn around(
    inner: Box<dyn Morselizer>,
    source: &Arc<dyn FileSource>,
    kept: &Arc<KeptColumns>,
    piece: usize,
    partition: usize,
) -> Result<Box<dyn Morselizer>> {
    let any: &dyn Any = source.as_ref();
    let Some(parquet) = any.downcast_ref::<ParquetSource>() else { return Ok(inner) };
    let Some(factory) = parquet.parquet_file_reader_factory() else { return Ok(inner) };
    // Filters that are decided while a file is decoded leave no whole columns.
    if parquet.table_parquet_options().global.pushdown_filters {
        return Ok(inner);
    }
    let table = source.table_schema();
    // What the reader counts, such as the places of rows, is in no column of the file.
    if !table.virtual_columns().is_empty() {
        return Ok(inner);
    }
    let (whole, stored) = (table.table_schema(), table.file_schema());
    let wanted = parquet.projection().map_or_else(|| (0..whole.fields().len()).collect(), ProjectionExprs::column_indices);
    let projected = Arc::new(whole.project(&wanted)?);
    let projector = match parquet.projection() {
        Some(projection) => {
            let projection = projection.clone().try_map_exprs(|expression| reassign_expr_columns(expression, &projected))?;
            Some(projection.make_projector(&projected)?)
        }
        None => None,
    };
    let counter = |name: &'static str| MetricBuilder::new(source.metrics()).counter(name, partition);
    let scan = Scan {
        kept: Arc::clone(kept),
        factory: Arc::clone(factory),
        inner,
        metrics: source.metrics().clone(),
        predicate: source.filter(),
        stored: Arc::clone(stored),
        wanted,
        projected,
        projector,
        piece,
        partition,
        served: counter("columns_from_memory"),
        added: counter("columns_into_memory"),
    };
    Ok(Box::new(KeptMorselizer(Arc::new(scan))))
}

/// What one partition of a scan reads.
struct Scan {
    kept: Arc<KeptColumns>,
    factory: Arc<dyn ParquetFileReaderFactory>,
    inner: Box<dyn Morselizer>,
    metrics: ExecutionPlanMetricsSet,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the table that are stored in its files.
    stored: SchemaRef,
    /// The columns of the table that are wanted, and their schema.
    wanted: Vec<usize>,
    projected: SchemaRef,
    projector: Option<Projector>,
    piece: usize,
    partition: usize,
    /// Columns of row groups that came from memory, and that were kept there.
    served: Count,
    added: Count,
}

/// A file of which what is wanted is kept, or will be.
struct File {
    scan: Arc<Scan>,
    file: PartitionedFile,
    metadata: ArrowReaderMetadata,
    version: Arc<Version>,
    /// Of each wanted column of the table its place in the file; `None` for those of partitions.
    places: Vec<Option<usize>>,
}

impl Scan {
    fn reader(&self, file: &PartitionedFile) -> Result<Reader> {
        let reader: Reader = self.factory.create_reader(self.partition, file.clone(), None, &self.metrics)?;
        Ok(reader)
    }

    async fn plan(self: Arc<Self>, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        match Arc::clone(&self).known(&file).await? {
            Some((file, groups)) => {
                let morsels = groups.into_iter().map(|row_group| Group { file: Arc::clone(&file), row_group });
                Ok(Box::new(Planner::Groups(morsels.collect())))
            }
            None => Ok(Box::new(Planner::Inner(self.inner.plan_file(file)?))),
        }
    }

    /// The row groups of a file that may hold what the query asks for, where all columns of them are wanted in memory.
    async fn known(self: Arc<Self>, file: &PartitionedFile) -> Result<Option<(Arc<File>, Vec<usize>)>> {
        let metadata = self.metadata(self.reader(file)?).await?;
        let Some(places) = self.places(metadata.schema()) else { return Ok(None) };
        let version = Version::of(&file.object_meta);
        let whole = File { scan: self, file: file.clone(), metadata, version, places };
        let groups = whole.selected(None);
        let keys: Vec<Key> = groups.iter().flat_map(|group| whole.keys(*group).into_iter().flatten()).collect();
        let largest = groups.iter().map(|group| whole.bytes_of(*group)).max().unwrap_or(0);
        let wanted = largest <= whole.scan.kept.largest() && whole.scan.kept.are_wanted(&keys);
        Ok(wanted.then(|| (Arc::new(whole), groups)))
    }

    /// The metadata of a file, in the types in which the table has its columns.
    async fn metadata(&self, mut reader: Reader) -> Result<ArrowReaderMetadata> {
        let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
        match apply_file_schema_type_coercions(&self.stored, metadata.schema()) {
            None => Ok(metadata),
            Some(schema) => {
                let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
                Ok(ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?)
            }
        }
    }

    /// Where the wanted columns stand in a file; `None` when it lacks one, or has it in another type.
    fn places(&self, schema: &Schema) -> Option<Vec<Option<usize>>> {
        let place = |column: &usize| match self.stored.fields().get(*column) {
            None => Some(None),
            Some(field) => {
                let (place, found) = schema.fields().find(field.name())?;
                (found.data_type() == field.data_type()).then_some(Some(place))
            }
        };
        self.wanted.iter().map(place).collect()
    }
}

impl File {
    /// The row groups of this part of the file, or the `only` one, without those that the filters rule out, as they are known now.
    fn selected(&self, only: Option<usize>) -> Vec<usize> {
        let metadata = self.metadata.metadata();
        let groups = metadata.row_groups();
        let mut plan = match only {
            None => ParquetAccessPlan::new_all(groups.len()),
            Some(only) => {
                let mut plan = ParquetAccessPlan::new_none(groups.len());
                plan.scan(only);
                plan
            }
        };
        // A file of no rows has row groups of none.
        (0..groups.len()).filter(|group| groups[*group].num_rows() == 0).for_each(|group| plan.skip(group));
        let mut filter = RowGroupAccessPlanFilter::new(plan);
        if let Some(range) = self.file.range.as_ref().filter(|_| only.is_none()) {
            filter.prune_by_range(groups, range);
        }
        let predicate = self.scan.predicate.as_ref().and_then(|predicate| {
            let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.scan.stored));
            builder.try_build(Arc::clone(predicate)).ok()
        });
        if let Some(predicate) = predicate {
            let metrics = ParquetFileMetrics::new(self.scan.partition, self.file.object_meta.location.as_ref(), &self.scan.metrics);
            let schema = metadata.file_metadata().schema_descr();
            filter.prune_by_statistics(&self.scan.stored, schema, groups, &predicate, &metrics);
        }
        filter.row_group_indexes().collect()
    }

    /// The wanted columns of a row group; `None` for those of partitions.
    fn keys(&self, row_group: usize) -> Vec<Option<Key>> {
        let key = |column| Key { file: Arc::clone(&self.version), row_group, column, piece: self.scan.piece };
        self.places.iter().map(|place| place.map(key)).collect()
    }

    /// Bytes of the wanted columns of a row group before they were compressed.
    fn bytes_of(&self, row_group: usize) -> usize {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let group = self.metadata.metadata().row_group(row_group);
        let of_wanted = |leaf: &usize| self.places.contains(&Some(schema.get_column_root_idx(*leaf)));
        let bytes: i64 = (0..schema.num_columns()).filter(of_wanted).map(|leaf| group.column(leaf).uncompressed_size()).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The batches of a row group.
    async fn batches(self: Arc<Self>, row_group: usize) -> Result<Vec<RecordBatch>> {
        // What other operators have learned since may rule it out.
        if self.scan.predicate.is_some() && self.selected(Some(row_group)).is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys(row_group);
        let mut columns: Vec<Option<Pieces>> = keys.iter().map(|key| self.scan.kept.get(key.as_ref()?)).collect();
        self.scan.served.add(columns.iter().flatten().count());
        let missing: Vec<usize> = (0..keys.len()).filter(|place| keys[*place].is_some() && columns[*place].is_none()).collect();
        if !missing.is_empty() {
            let places: Vec<usize> = missing.iter().filter_map(|place| self.places[*place]).collect();
            for (place, pieces) in missing.iter().zip(self.decoded(row_group, &places).await?) {
                if let Some(key) = &keys[*place] {
                    self.scan.kept.put(key.clone(), Arc::clone(&pieces));
                }
                self.scan.added.add(1);
                columns[*place] = Some(pieces);
            }
        }
        self.assembled(row_group, &columns)
    }

    /// Columns of a row group, by their places in the file, which differ.
    async fn decoded(&self, row_group: usize, places: &[usize]) -> Result<Vec<Pieces>> {
        let mask = ProjectionMask::roots(self.metadata.metadata().file_metadata().schema_descr(), places.iter().copied());
        let mut batches = ParquetRecordBatchStreamBuilder::new_with_metadata(self.scan.reader(&self.file)?, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![row_group])
            .with_batch_size(self.scan.piece)
            .build()?;
        let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); places.len()];
        // Columns are decoded in the order of the file.
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|place| places[*place]);
        while let Some(batch) = batches.try_next().await? {
            for (column, place) in batch.columns().iter().zip(&order) {
                pieces[*place].push(compact(Arc::clone(column)));
            }
        }
        Ok(pieces.into_iter().map(Into::into).collect())
    }

    fn assembled(&self, row_group: usize, columns: &[Option<Pieces>]) -> Result<Vec<RecordBatch>> {
        let rows = usize::try_from(self.metadata.metadata().row_group(row_group).num_rows()).unwrap_or(0);
        let stored = self.scan.stored.fields().len();
        let mut batches = Vec::with_capacity(rows.div_ceil(self.scan.piece));
        for (piece, start) in (0..rows).step_by(self.scan.piece).enumerate() {
            let rows = self.scan.piece.min(rows - start);
            let column = |(pieces, column): (&Option<Pieces>, &usize)| match pieces {
                Some(pieces) => Ok(Arc::clone(&pieces[piece])),
                None => self.file.partition_values.get(column - stored).unwrap_or(&ScalarValue::Null).to_array_of_size(rows),
            };
            let arrays = columns.iter().zip(&self.scan.wanted).map(column).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.scan.projected), arrays, &options)?;
            batches.push(match &self.scan.projector {
                Some(projector) => projector.project_batch(&batch)?,
                None => batch,
            });
        }
        Ok(batches)
    }
}

struct KeptMorselizer(Arc<Scan>);

impl Debug for KeptMorselizer {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeptMorselizer({:?})", self.0.inner)
    }
}

impl Morselizer for KeptMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        Ok(Box::new(Planner::File(Arc::clone(&self.0), Box::new(file))))
    }
}

enum Planner {
    /// Nothing is known of the file yet.
    File(Arc<Scan>, Box<PartitionedFile>),
    /// DataFusion reads it.
    Inner(Box<dyn MorselPlanner>),
    /// It is read from memory.
    Groups(Vec<Group>),
}

impl Debug for Planner {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Planner")
    }
}

impl MorselPlanner for Planner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        match *self {
            Self::File(scan, file) => Ok(Some(MorselPlan::new().with_pending_planner(scan.plan(*file)))),
            Self::Inner(inner) => inner.plan(),
            Self::Groups(groups) if groups.is_empty() => Ok(None),
            Self::Groups(groups) => {
                let morsels = groups.into_iter().map(|group| Box::new(group) as Box<dyn Morsel>).collect();
                Ok(Some(MorselPlan::new().with_morsels(morsels)))
            }
        }
    }
}

/// A row group of a file that is read from memory.
struct Group {
    file: Arc<File>,
    row_group: usize,
}

impl Debug for Group {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "row group {} of {}", self.row_group, self.file.file.object_meta.location)
    }
}

impl Morsel for Group {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let batches = stream::once(self.file.batches(self.row_group));
        batches.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed()
    }
}

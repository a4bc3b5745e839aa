//! A table of arrays, as one query sees it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::stats::Precision;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, Result, ScalarValue, Statistics, project_schema};
use datafusion_datasource::source::DataSourceExec;
use datafusion_execution::object_store::ObjectStoreUrl;
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_pruning::PruningPredicate;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind};
use lacus_storage::{Known, ReadScope, Scan, lake_url};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::chunks::{ChunkReader, Opened};
use crate::index::{extremes, known_extremes, matching, pruning};
use crate::mapping::{ColumnLayout, Content};
use crate::scan::{FileScan, Filled, GridScan, column_of, partitions};
use crate::selection::{Boxes, Selection, box_extent};
use crate::tiles::{KnownTiles, TileBounds, Tiles, along, is_kept, is_place};
use crate::union::{Along, Part, United, conform};

/// How many containers are looked at once.
const CONCURRENT_FILES: usize = 16;
/// A coordinate longer than this is not read to plan a query: filters on it are left to the filter above the scan.
pub(crate) const LONGEST_COORDINATE: u64 = 4_000_000;
/// Rows of a box at least: below, the cost of a box outweighs what is in it.
const BOX_ROWS: u64 = 8_192;
/// Rows of a box of a table without data to read.
const PLAIN_BOX_ROWS: u64 = 1 << 20;

/// The coordinates of containers, as far as queries needed them.
pub(crate) type Coordinates = Known<(Path, String), ArrayRef>;

/// Coordinates of several dimensions are read to plan a query of so many containers at most.
const FEW_FILES: usize = 64;

/// What the bounds of coordinates tell of a query's filters.
struct Narrowing<'a> {
    predicate: PruningPredicate,
    /// The columns that the filters name.
    columns: BTreeSet<&'a str>,
    /// Whether so few containers are read that what is not known of their coordinates may be read too.
    few: bool,
}

/// One table of a dataset of arrays.
#[derive(Debug)]
pub(crate) struct ArrayTable {
    dataset: String,
    united: United,
    coordinates: Arc<Coordinates>,
    tiles: Arc<KnownTiles>,
}

impl ArrayTable {
    pub(crate) fn new(dataset: String, united: United, coordinates: Arc<Coordinates>, tiles: Arc<KnownTiles>) -> Self {
        Self { dataset, united, coordinates, tiles }
    }

    /// The dimension along which all columns of `filter` vary, if it can be decided by coordinates alone.
    fn decided_along(&self, filter: &Expr) -> Option<Option<&str>> {
        if filter.is_volatile() || has_subquery(filter) {
            return None;
        }
        let mut dimension = None;
        for column in filter.column_refs() {
            let place = self.united.schema.index_of(&column.name).ok()?;
            match (self.united.along[place].as_ref()?, dimension) {
                (Along::Nothing, _) => {}
                (Along::Dimension(name), None) => dimension = Some(name.as_str()),
                (Along::Dimension(name), Some(known)) if name == known => {}
                _ => return None,
            }
        }
        let short =
            |name: &str| self.united.kinds.iter().all(|part| extent_of(part, name).is_none_or(|extent| extent <= LONGEST_COORDINATE));
        dimension.is_none_or(short).then_some(dimension)
    }

    /// What the filters leave of one container.
    async fn select(
        &self,
        session: &dyn Session,
        reader: &ChunkReader,
        part: &Part,
        filters: &[(&Expr, Option<&str>)],
    ) -> Result<Selection> {
        let layout = part.layout();
        let wanted: BTreeSet<&str> =
            filters.iter().flat_map(|(filter, _)| filter.column_refs()).map(|column| column.name.as_str()).collect();
        let stored = layout.columns.iter().filter(|column| wanted.contains(column.field.name().as_str()));
        // All at once: each may be a request.
        let stored = stored.map(|column| async move {
            Ok::<_, datafusion_common::DataFusionError>((
                column.field.name().as_str(),
                (column, self.coordinate(reader, part, column).await?),
            ))
        });
        let stored: HashMap<&str, (&ColumnLayout, ArrayRef)> = try_join_all(stored).await?.into_iter().collect();
        let mut selection = Selection::all(layout.dimensions.iter().map(|dimension| dimension.extent));
        for (filter, dimension) in filters {
            if selection.rows() == 0 {
                break;
            }
            let axis = dimension.and_then(|name| layout.dimensions.iter().position(|known| known.dimension.name == name));
            let rows = axis.map_or(1, |axis| layout.dimensions[axis].extent) as usize;
            let mut columns = Vec::new();
            for column in filter.column_refs() {
                let field = self.united.schema.field_with_name(&column.name)?;
                let values = match stored.get(column.name.as_str()) {
                    Some((stored, values)) => conform(values, stored, field.data_type())?,
                    None => self.value(part, field),
                };
                let values = if values.len() == rows { values } else { arrow::compute::take(&values, &zeros(rows), None)? };
                columns.push((Arc::new(field.clone().with_nullable(true)), values));
            }
            let passed = evaluate(session, filter, columns, rows)?;
            match axis {
                Some(axis) => selection.restrict(axis, |index| passed.is_valid(index as usize) && passed.value(index as usize)),
                None if !(passed.is_valid(0) && passed.value(0)) => selection.clear(),
                None => {}
            }
        }
        Ok(selection)
    }

    /// The value of a column that the container does not hold: that of the file as a whole, or NULL.
    fn value(&self, part: &Part, field: &Field) -> ArrayRef {
        self.united.file_columns.value(field.name(), part.member).unwrap_or_else(|| new_null_array(field.data_type(), 1))
    }

    /// Which parts pass the filters that the columns of files decide, all at once: there may be a million.
    fn of_files(&self, session: &dyn Session, filters: &[(&Expr, Option<&str>)]) -> Result<Option<BooleanArray>> {
        let files = &self.united.file_columns;
        let of_files = |filter: &&(&Expr, Option<&str>)| {
            let columns = filter.0.column_refs();
            !columns.is_empty() && columns.iter().all(|column| files.fields().any(|field| *field.name() == column.name))
        };
        let filters: Vec<Expr> = filters.iter().filter(of_files).map(|(filter, _)| (*filter).clone()).collect();
        let Some(filter) = conjunction(filters) else { return Ok(None) };
        let places = self.united.places();
        let mut columns = Vec::new();
        for column in filter.column_refs() {
            let field = self.united.schema.field_with_name(&column.name)?;
            if let Some(values) = files.values(&column.name, &places)? {
                columns.push((Arc::new(field.clone()), values));
            }
        }
        evaluate(session, &filter, columns, places.len()).map(Some)
    }

    /// The values of a coordinate along its one dimension.
    async fn coordinate(&self, reader: &ChunkReader, part: &Part, column: &ColumnLayout) -> Result<ArrayRef> {
        let opened = &part.opened;
        let what = match &column.content {
            Content::Index => return column_of(reader, opened, part.layout(), column).await,
            Content::Array { array, decoding, .. } => format!("{}:{}", opened.array(*array).path(), decoding.is_raw()),
            Content::Expanded(_) => format!("{}:{}:{}", part.layout().name, column.field.name(), opened.decoded),
        };
        let key = (opened.object.location.clone(), what);
        if let Some(values) = self.coordinates.get(&key, &opened.object) {
            return Ok(values);
        }
        let values = column_of(reader, opened, part.layout(), column).await?;
        // The chunks of a folder may change without its metadata.
        if opened.object.size > 0 {
            self.coordinates.put(key, &opened.object, Arc::clone(&values));
        }
        Ok(values)
    }

    /// Narrows a selection to where coordinates of several dimensions may pass. What is not known of them yet is read if they are few.
    async fn narrow(
        &self,
        reader: &ChunkReader,
        part: &Part,
        selection: &mut Selection,
        Narrowing { predicate, columns, few }: &Narrowing<'_>,
    ) -> Result<()> {
        let layout = part.layout();
        let named = |column: &&ColumnLayout| columns.contains(column.field.name().as_str());
        let places = layout.columns.iter().filter(named).filter(|column| is_place(&part.opened, column));
        let mut groups: BTreeMap<&[usize], TileBounds<'_>> = BTreeMap::new();
        for column in places {
            let target = self.united.schema.field_with_name(column.field.name())?.data_type().clone();
            if let Some(tiles) = self.tiles(reader, part, column, *few).await? {
                groups.entry(&column.axes).or_insert_with(|| TileBounds { columns: Vec::new() }).columns.push((column, target, tiles));
            }
        }
        for (axes, bounds) in groups {
            let passes = predicate.prune(&bounds)?;
            for (axis, kept) in axes.iter().zip(along(bounds.counts(), &passes)) {
                selection.restrict(*axis, |index| is_kept(&kept, index));
            }
        }
        Ok(())
    }

    /// What the tiles of a column span; `None` when that is not known and not to be read now.
    async fn tiles(&self, reader: &ChunkReader, part: &Part, column: &ColumnLayout, few: bool) -> Result<Option<Arc<Tiles>>> {
        let (opened, layout) = (&part.opened, part.layout());
        let Content::Array { array, decoding, .. } = &column.content else { return Ok(None) };
        let key = (opened.object.location.clone(), format!("{}:{}", opened.array(*array).path(), decoding.is_raw()));
        // The chunks of a folder may change without its metadata.
        let lasting = opened.object.size > 0;
        if let Some(tiles) = self.tiles.get(&key, &opened.object).filter(|_| lasting) {
            return Ok(Some(tiles));
        }
        // What is not kept must be worth it now: by data of more dimensions that is not read then.
        if !few || !(lasting || column.axes.len() < layout.dimensions.len()) {
            return Ok(None);
        }
        let tiles = Arc::new(Tiles::read(reader, opened, layout, column).await?);
        if lasting {
            self.tiles.put(key, &opened.object, Arc::clone(&tiles));
        }
        Ok(Some(tiles))
    }

    /// What is read of one container.
    fn file(&self, part: &Part, selection: Selection, wanted: &SchemaRef, limit: Option<usize>) -> FileScan {
        let layout = part.layout();
        let names: HashMap<&str, usize> =
            layout.columns.iter().enumerate().map(|(place, column)| (column.field.name().as_str(), place)).collect();
        let filled = |field: &Arc<Field>| match names.get(field.name().as_str()) {
            Some(place) => Filled::Column(*place),
            None => Filled::Value(self.value(part, field)),
        };
        let columns: Vec<Filled> = wanted.fields().iter().map(filled).collect();
        let extents: Vec<u64> = layout.dimensions.iter().map(|dimension| dimension.extent).collect();
        let read: Vec<&ColumnLayout> = columns.iter().filter_map(Filled::column).map(|place| &layout.columns[place]).collect();
        let most = limit.map_or(u64::MAX, |limit| limit as u64);
        let step = match largest(&part.opened, &read, extents.len()) {
            Some(chunk) => box_extent(&chunk, &extents, BOX_ROWS.min(most)),
            None => box_extent(&vec![1; extents.len()], &extents, PLAIN_BOX_ROWS.min(most.max(BOX_ROWS))),
        };
        let boxes = Boxes::over(&selection, step);
        let row_bytes: u64 = read.iter().map(|column| width(&part.opened, column)).sum::<u64>() + 1;
        let box_bytes = (selection.rows() / boxes.len().max(1)).saturating_mul(row_bytes);
        let chunks = chunk_counts(&part.opened, &read, &selection);
        FileScan {
            opened: Arc::clone(&part.opened),
            table: part.table,
            columns,
            lookups: HashMap::new(),
            selection,
            boxes,
            box_bytes,
            chunks,
        }
    }

    /// Exact bounds of coordinates, for queries that ask for nothing else.
    async fn statistics(&self, reader: &ChunkReader, parts: &[(Part, Selection)], wanted: &SchemaRef) -> Result<Statistics> {
        let mut statistics = Statistics::new_unknown(wanted);
        statistics.num_rows = Precision::Exact(parts.iter().map(|(_, selection)| selection.rows()).sum::<u64>() as usize);
        let coordinates_only = wanted.fields().iter().all(|field| {
            self.united.schema.index_of(field.name()).is_ok_and(|place| matches!(self.united.along[place], Some(Along::Dimension(_))))
        });
        let whole = parts.iter().all(|(part, selection)| selection.rows() == part.layout().rows() && selection.rows() > 0);
        if !coordinates_only || !whole || parts.is_empty() {
            return Ok(statistics);
        }
        for (place, field) in wanted.fields().iter().enumerate() {
            let known: Vec<&Part> = parts.iter().map(|(part, _)| part).collect();
            if let Some(known) = known_extremes(&self.united.schema, &known, field.name())? {
                set_bounds(&mut statistics, place, &known)?;
                continue;
            }
            if parts.len() > CONCURRENT_FILES {
                continue;
            }
            let mut values = Vec::new();
            for (part, _) in parts {
                let Some(column) = part.layout().columns.iter().find(|column| column.field.name() == field.name()) else {
                    return Ok(statistics);
                };
                if column.axes.first().is_some_and(|axis| part.layout().dimensions[*axis].extent > LONGEST_COORDINATE) {
                    return Ok(statistics);
                }
                values.push(conform(&self.coordinate(reader, part, column).await?, column, field.data_type())?);
            }
            let values = crate::element::joined_arrays(&values)?;
            if let Some(extremes) = extremes(&values)? {
                set_bounds(&mut statistics, place, &extremes)?;
            }
        }
        Ok(statistics)
    }
}

/// Says that a column has no NULL and these extremes.
fn set_bounds(statistics: &mut Statistics, place: usize, extremes: &ArrayRef) -> Result<()> {
    let column = &mut statistics.column_statistics[place];
    column.min_value = Precision::Exact(ScalarValue::try_from_array(extremes, 0)?);
    column.max_value = Precision::Exact(ScalarValue::try_from_array(extremes, 1)?);
    column.null_count = Precision::Exact(0);
    Ok(())
}

fn zeros(rows: usize) -> arrow::array::UInt32Array {
    arrow::array::UInt32Array::from_value(0, rows)
}

fn extent_of(part: &Part, name: &str) -> Option<u64> {
    part.layout().dimensions.iter().find(|dimension| dimension.dimension.name == name).map(|dimension| dimension.extent)
}

fn has_subquery(filter: &Expr) -> bool {
    filter
        .exists(|expr| {
            let inside = matches!(
                expr,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) | Expr::Placeholder(_)
            );
            Ok(inside)
        })
        .unwrap_or(true)
}

/// A filter as one on a schema: the name of the table in front of its columns falls away.
pub(crate) fn without_table(filter: Expr) -> Result<Expr> {
    let plain = filter.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    })?;
    Ok(plain.data)
}

fn evaluate(
    session: &dyn Session,
    filter: &Expr,
    columns: Vec<(Arc<arrow::datatypes::Field>, ArrayRef)>,
    rows: usize,
) -> Result<BooleanArray> {
    let (fields, mut arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), std::mem::take(&mut arrays), &options)?;
    let plain = without_table(filter.clone())?;
    let predicate = session.create_physical_expr(plain, &DFSchema::try_from(schema)?)?;
    let passed = predicate.evaluate(&batch)?.into_array(rows)?;
    let passed = passed.as_boolean_opt().cloned();
    passed.ok_or_else(|| Error::new(Kind::Internal, format!("the filter `{filter}` is not boolean")).into())
}

/// The chunk of the largest array that is read and varies along all dimensions, in the order of the table.
fn largest(opened: &Opened, read: &[&ColumnLayout], rank: usize) -> Option<Vec<u64>> {
    let full = read.iter().filter(|column| column.axes.len() == rank);
    let arrays = full.filter_map(|column| match &column.content {
        Content::Array { array, .. } => Some((opened.array(*array), &column.axes)),
        Content::Index | Content::Expanded(_) => None,
    });
    let (meta, axes) = arrays.max_by_key(|(meta, _)| (meta.volume(), std::cmp::Reverse(meta.chunk_bytes())))?;
    let mut chunk = vec![1; rank];
    axes.iter().zip(&meta.chunk).for_each(|(axis, extent)| chunk[*axis] = *extent);
    Some(chunk)
}

fn width(opened: &Opened, column: &ColumnLayout) -> u64 {
    match &column.content {
        Content::Array { array, text, .. } => opened.array(*array).element.width() as u64 * text.unwrap_or(1).max(1),
        Content::Index | Content::Expanded(_) => 8,
    }
}

/// How many chunks hold a selected cell, of how many; over all arrays that are read.
fn chunk_counts(opened: &Opened, read: &[&ColumnLayout], selection: &Selection) -> (u64, u64) {
    let mut counts = (0u64, 0u64);
    for column in read {
        let Content::Array { array, .. } = &column.content else { continue };
        let meta = opened.array(*array);
        let along = column.axes.iter().enumerate();
        let selected = along.clone().map(|(place, axis)| selection.axes()[*axis].pieces(meta.chunk[place]).len());
        let product = |product: u64, count: u64| product.saturating_mul(count);
        counts.0 = counts.0.saturating_add(selected.fold(1, product));
        counts.1 = counts.1.saturating_add(along.map(|(place, _)| meta.shape[place].div_ceil(meta.chunk[place])).fold(1, product));
    }
    counts
}

#[async_trait]
impl TableProvider for ArrayTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.united.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let decided = |filter: &&Expr| match self.decided_along(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(decided).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.united.schema, projection)?;
        let bytes: Arc<dyn ObjectStore> = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let deciding: Vec<(&Expr, Option<&str>)> =
            filters.iter().filter_map(|filter| Some((filter, self.decided_along(filter)?))).collect();
        // A filter that is not decided here may drop rows, so a limit counts only without one.
        let fetch = limit.filter(|_| deciding.len() == filters.len());
        let pool = Arc::clone(&session.runtime_env().memory_pool);
        let reader = || ChunkReader::new(Arc::clone(&bytes), Arc::clone(&pool));
        let predicate = pruning(session, &self.united.schema, filters)?;
        let may_match = matching(&self.united, predicate.as_ref())?;
        let of_files = self.of_files(session, &deciding)?;
        let passes = |place: usize| of_files.as_ref().is_none_or(|passed| passed.is_valid(place) && passed.value(place));
        let candidates = (0..self.united.len()).filter(|place| may_match[*place] && passes(*place)).map(|place| self.united.part(place));
        let candidates: Vec<Part> = candidates.collect::<lacus_core::Result<_>>()?;
        let scope = session.config().get_extension::<ReadScope>();
        if let Some(scope) = &scope {
            candidates.iter().filter(|part| part.opened.object.size > 0).for_each(|part| scope.pin(&part.opened.object));
        }
        let columns = filters.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        let narrowing = predicate.map(|predicate| Narrowing { predicate, columns, few: candidates.len() <= FEW_FILES });
        let narrowing = narrowing.as_ref();
        let select = |part: Part| {
            let (reader, deciding) = (reader(), deciding.clone());
            async move {
                let mut selection = self.select(session, &reader, &part, &deciding).await?;
                if let Some(narrowing) = narrowing.filter(|_| selection.rows() > 0) {
                    self.narrow(&reader, &part, &mut selection, narrowing).await?;
                }
                Ok::<_, datafusion_common::DataFusionError>((part, selection))
            }
        };
        let parts: Vec<(Part, Selection)> = stream::iter(candidates).map(select).buffered(CONCURRENT_FILES).try_collect().await?;
        let statistics = self.statistics(&reader(), &parts, &schema).await?;
        let selected = parts.into_iter().filter(|(_, selection)| selection.rows() > 0);
        let mut files: Vec<FileScan> = selected.map(|(part, selection)| self.file(&part, selection, &schema, fetch)).collect();
        try_join_all(files.iter_mut().filter(|file| file.expands()).map(|file| file.look_up(reader()))).await?;
        // A few rows come from one place: partitions would each read ahead for them.
        let few = fetch.is_some_and(|rows| rows as u64 <= PLAIN_BOX_ROWS);
        let partitions = partitions(&files, if few { 1 } else { session.config().target_partitions() });
        let metrics = ExecutionPlanMetricsSet::new();
        let rows: u64 = files.iter().map(|file| file.selection.rows()).sum();
        MetricBuilder::new(&metrics).global_counter("rows_selected").add(usize::try_from(rows).unwrap_or(usize::MAX));
        MetricBuilder::new(&metrics).global_counter("files_planned").add(files.len());
        let table = format!("{}.{}", self.dataset, self.united.name);
        Ok(DataSourceExec::from_data_source(GridScan {
            bytes,
            scan: Scan::new(scope, &table, files.len()),
            table,
            files: Arc::new(files),
            of_files: self.united.len(),
            schema,
            partitions: Arc::new(partitions),
            statistics: Arc::new(statistics),
            fetch,
            metrics,
        }))
    }
}

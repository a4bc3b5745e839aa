//! One read of a table of arrays.

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_empty_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result, Statistics};
use datafusion_common_runtime::SpawnedTask;
use datafusion_datasource::source::DataSource;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::projection::ProjectionExprs;
use datafusion_physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion_physical_plan::DisplayFormatType;
use datafusion_physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use lacus_storage::Scan;
use object_store::ObjectStore;

use crate::cf::Decoding;
use crate::chunks::{ChunkKey, ChunkReader, Decoded, Opened, Wanted};
use crate::container::product;
use crate::expansion::{Expansion, Lookup, SharedLookup, stored_with};
use crate::gather::{Cells, GridAxis, Rows, cells};
use crate::mapping::{ColumnLayout, Content, TableLayout};
use crate::selection::{Boxes, Indices, Selection};
use crate::union::conform;

/// Decoded bytes that are fetched together: enough that latency is shared, little beside the memory limit.
const GROUP_BYTES: u64 = 8 * 1024 * 1024;
/// Boxes that are fetched together at most.
const GROUP_BOXES: u64 = 256;

/// What a scan reads of one container.
#[derive(Debug)]
pub(crate) struct FileScan {
    pub(crate) opened: Arc<Opened>,
    pub(crate) table: usize,
    /// What fills each column of the scan.
    pub(crate) columns: Vec<Filled>,
    /// Of columns of instances, by their places: what their elements find their values by.
    pub(crate) lookups: HashMap<usize, SharedLookup>,
    pub(crate) selection: Selection,
    pub(crate) boxes: Boxes,
    /// Decoded bytes of an average box.
    pub(crate) box_bytes: u64,
    /// How many chunks of the read arrays are selected, of how many.
    pub(crate) chunks: (u64, u64),
}

/// What fills a column of a scan in one container.
#[derive(Debug)]
pub(crate) enum Filled {
    /// A column of the container, by its place.
    Column(usize),
    /// One value in all rows: of the file as a whole, or NULL where it has no such column.
    Value(ArrayRef),
}

impl Filled {
    /// The column of the container.
    pub(crate) fn column(&self) -> Option<usize> {
        match self {
            Self::Column(place) => Some(*place),
            Self::Value(_) => None,
        }
    }
}

impl FileScan {
    pub(crate) fn layout(&self) -> &TableLayout {
        &self.opened.mapping.tables[self.table]
    }

    /// The columns of instances that are read, by their places.
    fn expansions(&self) -> impl Iterator<Item = (usize, &Arc<Expansion>)> {
        self.columns.iter().filter_map(Filled::column).filter_map(|place| match &self.layout().columns[place].content {
            Content::Expanded(expansion) => Some((place, expansion)),
            _ => None,
        })
    }

    /// Whether columns of instances are read.
    pub(crate) fn expands(&self) -> bool {
        self.expansions().next().is_some()
    }

    /// Reads what elements find the values of their instances by.
    pub(crate) async fn look_up(&mut self, reader: ChunkReader) -> Result<()> {
        let mut lookups = HashMap::new();
        for (place, expansion) in self.expansions() {
            lookups.insert(place, Arc::new(Lookup::read(&reader, &self.opened, expansion).await?));
        }
        self.lookups = lookups;
        Ok(())
    }
}

/// Consecutive boxes of one container.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// The container, by its place in the scan.
    pub(crate) file: usize,
    boxes: Range<u64>,
}

/// One read of a table of arrays.
///
/// ```text
/// boxes of a file -> groups -> places of chunks -> few requests -> decoded chunks -> rows in C order -> batches
/// ```
///
/// Which indices are selected along each dimension was decided when the table was planned ([`Selection`]); a box is a piece of the
/// table's index space, as large as a chunk. Partitions are consecutive boxes, equal in decoded bytes.
#[derive(Debug, Clone)]
pub(crate) struct GridScan {
    pub(crate) bytes: Arc<dyn ObjectStore>,
    pub(crate) scan: Scan,
    pub(crate) table: String,
    pub(crate) files: Arc<Vec<FileScan>>,
    pub(crate) of_files: usize,
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: Arc<Vec<Vec<Work>>>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) fetch: Option<usize>,
    pub(crate) metrics: ExecutionPlanMetricsSet,
}

/// Cuts the boxes of all files into at most `count` partitions of about equal decoded size.
pub(crate) fn partitions(files: &[FileScan], count: usize) -> Vec<Vec<Work>> {
    let weight = |file: &FileScan| u128::from(file.boxes.len()) * u128::from(file.box_bytes.max(1));
    let total: u128 = files.iter().map(weight).sum();
    let share = total.div_ceil(count.max(1) as u128).max(1);
    let mut partitions = vec![Vec::new()];
    let mut room = share;
    for (number, file) in files.iter().enumerate() {
        let each = u128::from(file.box_bytes.max(1));
        let mut next = 0;
        while next < file.boxes.len() {
            if room == 0 {
                partitions.push(Vec::new());
                room = share;
            }
            let take = u64::try_from(room.div_ceil(each)).unwrap_or(u64::MAX).clamp(1, file.boxes.len() - next);
            room = room.saturating_sub(u128::from(take) * each);
            if let Some(last) = partitions.last_mut() {
                last.push(Work { file: number, boxes: next..next + take });
            }
            next += take;
        }
    }
    partitions
}

impl DataSource for GridScan {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let work = self.partitions.get(partition).cloned().unwrap_or_default();
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let batch_rows = context.session_config().batch_size();
        let prepared = self.prepared(work, partition, self.reader(&context));
        let schema = Arc::clone(&self.schema);
        let batches = prepared.map_ok(move |group| group.batches(batch_rows)).try_flatten();
        let limited: BoxStream<'static, Result<RecordBatch>> = match self.fetch {
            Some(rows) => limit(batches.boxed(), rows),
            None => batches.boxed(),
        };
        let recorded = limited.inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, recorded)))
    }

    fn fmt_as(&self, format: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (chunks, of_chunks) = self.files.iter().fold((0, 0), |sum, file| (sum.0 + file.chunks.0, sum.1 + file.chunks.1));
        let rows: u64 = self.files.iter().map(|file| file.selection.rows()).sum();
        let columns = self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        match format {
            DisplayFormatType::TreeRender => {
                writeln!(formatter, "files={}/{}\nchunks={chunks}/{of_chunks}", self.files.len(), self.of_files)
            }
            _ => write!(
                formatter,
                "arrays={}, columns=[{columns}], files={}/{}, chunks={chunks}/{of_chunks}, rows={rows}",
                self.table,
                self.files.len(),
                self.of_files
            ),
        }?;
        match self.fetch {
            Some(fetch) => write!(formatter, ", fetch={fetch}"),
            None => Ok(()),
        }
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        // What is known is known of all rows: not of one partition, and not of the first few.
        let whole = partition.is_none() && self.fetch.is_none();
        Ok(if whole { Arc::clone(&self.statistics) } else { Arc::new(Statistics::new_unknown(&self.schema)) })
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { fetch: limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}

impl GridScan {
    /// What reads chunks for one partition.
    pub(crate) fn reader(&self, context: &TaskContext) -> ChunkReader {
        ChunkReader::new(self.scan.begin().store(Arc::clone(&self.bytes)), Arc::clone(context.memory_pool()))
    }

    /// The boxes of `work`, decoded group after group.
    pub(crate) fn prepared(&self, work: Vec<Work>, partition: usize, reader: ChunkReader) -> BoxStream<'static, Result<Group>> {
        let decoded = MetricBuilder::new(&self.metrics).counter("chunks_decoded", partition);
        let rows = MetricBuilder::new(&self.metrics).counter("rows_decoded", partition);
        let scan = Arc::new(self.clone());
        // The next group is fetched and decoded while the rows of this one are used; a scan that stops early does not read ahead.
        let ahead = if self.fetch.is_some() { 1 } else { 2 };
        let groups = stream::iter(groups(&scan.files, work));
        groups
            .map(move |group| prepare(Arc::clone(&scan), reader.clone(), group, decoded.clone()))
            .buffered(ahead)
            .inspect_ok(move |group| rows.add((0..group.boxes()).map(|number| group.rows(number).count).sum()))
            .boxed()
    }
}

fn limit(batches: BoxStream<'static, Result<RecordBatch>>, rows: usize) -> BoxStream<'static, Result<RecordBatch>> {
    stream::try_unfold((batches, rows), |(mut batches, rows)| async move {
        if rows == 0 {
            return Ok(None);
        }
        let Some(batch) = batches.try_next().await? else { return Ok(None) };
        let batch = if batch.num_rows() > rows { batch.slice(0, rows) } else { batch };
        let left = rows - batch.num_rows();
        Ok(Some((batch, (batches, left))))
    })
    .boxed()
}

/// Boxes of one file that are fetched together, group after group; the first is one box, so that the first rows come soon.
fn groups(files: &[FileScan], work: Vec<Work>) -> impl Iterator<Item = Work> + use<> {
    let bytes: Vec<u64> = work.iter().map(|work| files[work.file].box_bytes.max(1)).collect();
    let mut room = 0;
    work.into_iter().zip(bytes).flat_map(move |(Work { file, boxes }, each)| {
        let first = room;
        room = GROUP_BYTES;
        let mut next = boxes.start;
        std::iter::from_fn(move || {
            let bytes = if next == boxes.start { first } else { GROUP_BYTES };
            let most = (bytes / each).clamp(1, GROUP_BOXES);
            let end = boxes.end.min(next.saturating_add(most));
            let group = (next < boxes.end).then_some(Work { file, boxes: next..end });
            next = end;
            group
        })
    })
}

/// Boxes whose chunks are decoded.
pub(crate) struct Group {
    scan: Arc<GridScan>,
    file: usize,
    boxes: Vec<(Rows, Vec<Cells>)>,
    _chunks: Option<Decoded>,
}

async fn prepare(scan: Arc<GridScan>, reader: ChunkReader, work: Work, decoded: Count) -> Result<Group> {
    // A task of its own, so that decoding goes on while the rows of the group before are used.
    let task = SpawnedTask::spawn(async move { prepared(scan, reader, work, decoded).await });
    task.join().await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

async fn prepared(scan: Arc<GridScan>, reader: ChunkReader, work: Work, decoded: Count) -> Result<Group> {
    let file = &scan.files[work.file];
    let mut boxes = Vec::new();
    let mut keys = Vec::new();
    for number in work.boxes.clone() {
        let ranges = file.boxes.ranges(number);
        let selected: Vec<Indices> = file.selection.axes().iter().zip(&ranges).map(|(axis, range)| axis.within(range)).collect();
        let needs: Vec<Option<Need>> =
            file.columns.iter().map(|column| need(&file.opened, &file.layout().columns[column.column()?], &selected)).collect();
        for (need, column) in needs.iter().zip(&file.columns) {
            let (Some(need), Filled::Column(column)) = (need, column) else { continue };
            let chunk = |key: &ChunkKey| file.opened.array(key.array).chunk.as_slice();
            let axes = &file.layout().columns[*column].axes;
            let again = need.keys.first().is_some_and(|key| !file.boxes.hold(axes, chunk(key)));
            keys.extend(need.keys.iter().map(|key| Wanted { key: key.clone(), decoding: Arc::clone(&need.decoding), again }));
        }
        boxes.push((Rows::new(selected), needs));
    }
    keys.sort_by(|left, right| (left.key.array, left.key.raw, &left.key.chunk).cmp(&(right.key.array, right.key.raw, &right.key.chunk)));
    keys.dedup_by(|left, right| left.key == right.key);
    let chunks = if keys.is_empty() { None } else { Some(reader.read(&file.opened, keys).await?) };
    decoded.add(chunks.as_ref().map_or(0, |chunks| chunks.fetched));
    let boxes = boxes.into_iter().map(|(rows, needs)| {
        let columns = scan.columns(file, &rows, &needs, chunks.as_ref())?;
        Ok((rows, columns))
    });
    let boxes = boxes.collect::<Result<Vec<_>>>()?;
    Ok(Group { scan: Arc::clone(&scan), file: work.file, boxes, _chunks: chunks })
}

/// The chunks that one column needs for one box.
struct Need {
    keys: Vec<ChunkKey>,
    grid: Vec<GridAxis>,
    /// The grid along the length of texts, and that length.
    text: Option<(GridAxis, u64)>,
    decoding: Arc<Decoding>,
}

/// What a column needs for a box; `None` when it has no chunks.
fn need(opened: &Opened, column: &ColumnLayout, selected: &[Indices]) -> Option<Need> {
    if let Content::Expanded(expansion) = &column.content {
        return need(opened, &stored_with(expansion, &column.axes)?, selected);
    }
    let Content::Array { array, decoding, text, .. } = &column.content else { return None };
    let meta = opened.array(*array);
    let axis_of = |(place, axis): (usize, &usize)| {
        let chunk = meta.chunk[place];
        let chunks = match &selected[*axis] {
            Indices::Range(range) if range.is_empty() => Vec::new(),
            Indices::Range(range) => (range.start / chunk..=(range.end - 1) / chunk).collect(),
            Indices::List(list) => {
                let mut chunks: Vec<u64> = list.iter().map(|index| index / chunk).collect();
                chunks.dedup();
                chunks
            }
        };
        GridAxis { axis: *axis, chunk, chunks }
    };
    let grid: Vec<GridAxis> = column.axes.iter().enumerate().map(axis_of).collect();
    let length_chunk = meta.chunk.get(column.axes.len()).copied();
    if *text == Some(0) {
        return None;
    }
    let text = text.map(|length| {
        let chunk = length_chunk.unwrap_or(1);
        (GridAxis { axis: usize::MAX, chunk, chunks: (0..length.div_ceil(chunk)).collect() }, length)
    });
    let of_text = text.as_ref().filter(|_| length_chunk.is_some()).map(|(axis, _)| axis);
    let along: Vec<&[u64]> = grid.iter().chain(of_text).map(|axis| axis.chunks.as_slice()).collect();
    let raw = decoding.is_raw();
    let keys = product(&along).into_iter().map(|chunk| ChunkKey { array: *array, raw, chunk }).collect();
    Some(Need { keys, grid, text, decoding: Arc::clone(decoding) })
}

/// The values of a column that varies along at most one dimension, one for each index along it.
pub(crate) async fn column_of(reader: &ChunkReader, opened: &Opened, layout: &TableLayout, column: &ColumnLayout) -> Result<ArrayRef> {
    let selected = column.axes.iter().map(|axis| Indices::Range(0..layout.dimensions[*axis].extent)).collect();
    values_in(reader, opened, column, selected).await
}

/// The values of a column at the places that are `selected` along each of its own dimensions, in C order.
pub(crate) async fn values_in(reader: &ChunkReader, opened: &Opened, column: &ColumnLayout, selected: Vec<Indices>) -> Result<ArrayRef> {
    if selected.iter().any(|indices| indices.len() == 0) {
        return Ok(new_empty_array(column.field.data_type()));
    }
    if let Content::Expanded(expansion) = &column.content {
        let lookup = Lookup::read(reader, opened, expansion).await?;
        let elements: ArrayRef = match stored_with(expansion, &column.axes) {
            Some(stored) => Box::pin(values_in(reader, opened, &stored, selected)).await?,
            None => Arc::new(selected.iter().flat_map(Indices::iter).map(|index| index as i64).collect::<Int64Array>()),
        };
        return lookup.values(&elements);
    }
    let alone = ColumnLayout { axes: (0..column.axes.len()).collect(), ..column.clone() };
    let cells = match need(opened, &alone, &selected) {
        None if matches!(column.content, Content::Index) => Cells::Index(0),
        None => Cells::Constant(empty_text()),
        Some(need) => {
            let wanted = |key: &ChunkKey| Wanted { key: key.clone(), decoding: Arc::clone(&need.decoding), again: false };
            let decoded = reader.read(opened, need.keys.iter().map(wanted).collect()).await?;
            need.cells(&decoded, &selected)?
        }
    };
    let rows = Rows::new(selected);
    Ok(rows.column(&cells, 0, rows.count)?)
}

impl Need {
    fn cells(&self, decoded: &Decoded, selected: &[Indices]) -> Result<Cells> {
        let arrays: Vec<ArrayRef> = self.keys.iter().filter_map(|key| decoded.chunks.get(key).cloned()).collect();
        Ok(cells(&arrays, &self.grid, self.text.as_ref().map(|(axis, length)| (axis, *length)), selected)?)
    }
}

fn empty_text() -> ArrayRef {
    Arc::new(StringArray::from(vec![""]))
}

impl GridScan {
    fn columns(&self, file: &FileScan, rows: &Rows, needs: &[Option<Need>], chunks: Option<&Decoded>) -> Result<Vec<Cells>> {
        let layout = file.layout();
        let column = |(column, need): (&Filled, &Option<Need>)| {
            let (column, lookup) = match column {
                Filled::Column(place) => (&layout.columns[*place], file.lookups.get(place)),
                Filled::Value(value) => return Ok(Cells::Constant(Arc::clone(value))),
            };
            let cells = match (&column.content, need, chunks) {
                (Content::Index, ..) | (Content::Expanded(_), None, _) => Cells::Index(column.axes[0]),
                (_, Some(need), Some(decoded)) => need.cells(decoded, &rows.selected)?,
                // Texts of no length have no chunks.
                _ => Cells::Constant(empty_text()),
            };
            Ok(match lookup {
                Some(lookup) => Cells::Looked { elements: Box::new(cells), lookup: Arc::clone(lookup) },
                None => cells,
            })
        };
        file.columns.iter().zip(needs).map(column).collect()
    }
}

impl Group {
    fn batches(self, batch_rows: usize) -> impl futures::Stream<Item = Result<RecordBatch>> {
        let slices = |number| self.slices(number, batch_rows).map(move |(start, length)| (number, start, length)).collect::<Vec<_>>();
        let slices: Vec<(usize, usize, usize)> = (0..self.boxes()).flat_map(slices).collect();
        stream::iter(slices).map(move |(number, start, length)| self.batch(number, start, length))
    }

    /// The number of boxes.
    pub(crate) fn boxes(&self) -> usize {
        self.boxes.len()
    }

    /// The rows of a box.
    pub(crate) fn rows(&self, number: usize) -> &Rows {
        &self.boxes[number].0
    }

    /// The rows of a box as (first, length), as many at once as a batch has.
    pub(crate) fn slices(&self, number: usize, batch_rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.rows(number).count;
        (0..count).step_by(batch_rows).map(move |start| (start, batch_rows.min(count - start)))
    }

    /// Rows of a box.
    pub(crate) fn batch(&self, number: usize, start: usize, length: usize) -> Result<RecordBatch> {
        let ((rows, cells), file) = (&self.boxes[number], &self.scan.files[self.file]);
        let fields = self.scan.schema.fields();
        let columns = cells.iter().zip(&file.columns).zip(fields);
        let arrays = columns.map(|((cells, column), field)| {
            let column = column.column().map(|column| &file.layout().columns[column]);
            values(rows.column(cells, start, length)?, column, field.data_type())
        });
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.scan.schema), arrays.collect::<Result<Vec<_>>>()?, &options)?)
    }
}

/// The values of a column of the scan, out of those of the array that holds it; `None` stands for a column that the container lacks.
fn values(array: ArrayRef, column: Option<&ColumnLayout>, data_type: &DataType) -> Result<ArrayRef> {
    let Some(column) = column else { return Ok(array) };
    let array = match &column.content {
        Content::Array { member: Some(member), .. } => Arc::clone(array.as_struct().column(*member)),
        _ => array,
    };
    Ok(conform(&array, column, data_type)?)
}

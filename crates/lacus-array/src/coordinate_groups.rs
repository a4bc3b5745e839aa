//! Grouping by coordinates without hashing: along each dimension a group is a place, so a group's number is arithmetic.
//!
//! `GROUP BY lat`, `GROUP BY lat, lon` and `GROUP BY date_part('month', time)` are groupings of this kind: each expression depends on the
//! coordinates of one dimension; so is none at all. Each partition aggregates each file by places; the values of the expressions are computed once for each
//! place. The final aggregation above merges equal values, as it does for any partial one.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, Result};
use datafusion_datasource::source::{DataSource, DataSourceExec};
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{Partitioning, PhysicalExpr};
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::repartition::RepartitionExec;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};
use datafusion_session::PhysicalOptimizerRule;
use futures::{StreamExt, TryStreamExt, stream};

use crate::chunks::ChunkReader;
use crate::gather::{Rows, runs};
use crate::runs::RunAggregate;
use crate::scan::{FileScan, Filled, GridScan, Work, column_of};
use crate::selection::Indices;
use crate::table::LONGEST_COORDINATE;
use crate::union::conform;

/// Groups of one file at most: their states are kept for each partition.
const MOST_GROUPS: u64 = 1 << 20;
/// Rows of a group at least: with fewer, keeping a state for every place costs more than hashing those that occur.
const LEAST_ROWS: u64 = 8;
/// Rows of a run at least: below, rows are added one by one.
const LEAST_RUN: usize = 16;
/// Rows of which the runs are summed at once: where cells lie in the order of rows nothing is copied.
const RUN_ROWS: usize = 1 << 16;

/// Puts `CoordinateGroups` in the place of partial aggregations that group arrays by coordinates.
#[derive(Debug, Default)]
pub struct GroupByCoordinates;

impl PhysicalOptimizerRule for GroupByCoordinates {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            let replaced = plan.downcast_ref::<AggregateExec>().map(replaced).transpose()?.flatten();
            Ok(replaced.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &str {
        "group_by_coordinates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What stands in the place of an aggregation. One that is not in two parts, because there is one partition, becomes so.
fn replaced(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let part = |mode, group_by, input| {
        let (functions, filters) = (aggregate.aggr_expr().to_vec(), aggregate.filter_expr().to_vec());
        AggregateExec::try_new(mode, group_by, functions, filters, input, aggregate.input_schema())
    };
    match aggregate.mode() {
        AggregateMode::Partial => Ok(CoordinateGroups::of(aggregate).map(|groups| Arc::new(groups) as _)),
        AggregateMode::Single if scan_below(aggregate.input()).is_some() && aggregate.limit_options().is_none() => {
            let partial = part(AggregateMode::Partial, aggregate.group_expr().clone(), Arc::clone(aggregate.input()))?;
            let groups = CoordinateGroups::of(&partial).filter(|groups| groups.scan.partitions.len() == 1);
            let Some(groups) = groups else { return Ok(None) };
            let whole = part(AggregateMode::Final, aggregate.group_expr().as_final(), Arc::new(groups))?;
            Ok((whole.schema() == aggregate.schema()).then(|| Arc::new(whole) as _))
        }
        _ => Ok(None),
    }
}

/// A partial aggregation of arrays that are grouped by coordinates.
#[derive(Debug, Clone)]
struct CoordinateGroups {
    aggregate: AggregateExec,
    scan: GridScan,
    /// What stood between the scan and the aggregation, the lowest first.
    steps: Vec<Step>,
    /// The expressions of the grouping on the columns of the scan.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The aggregates, if all are those of runs and no row is left out.
    of_runs: Option<Vec<RunAggregate>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What happens to the rows of a scan.
#[derive(Debug, Clone)]
enum Step {
    /// Those stay for which this holds.
    Filter(Arc<dyn PhysicalExpr>),
    /// They become these columns.
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// The expressions by which one file is grouped.
struct Grouping {
    /// For each expression the dimension of the table along which it varies, as a place in `axes`; `None` for one value.
    along: Vec<Option<usize>>,
    /// The dimensions, each with its extent and with the step from one of its places to the next in the number of a group.
    axes: Vec<(usize, u64, u64)>,
    groups: u64,
}

impl CoordinateGroups {
    /// The same aggregation over places; `None` when the aggregation is not of this kind.
    fn of(aggregate: &AggregateExec) -> Option<Self> {
        let group_by = aggregate.group_expr();
        let supported = aggregate
            .aggr_expr()
            .iter()
            .all(|function| function.groups_accumulator_supported() && !function.is_distinct() && function.order_bys().is_empty());
        let plain = (group_by.is_single() || group_by.is_empty())
            && aggregate.filter_expr().iter().all(Option::is_none)
            && aggregate.limit_options().is_none();
        if !supported || !plain {
            return None;
        }
        let (scan, steps) = scan_below(aggregate.input())?;
        let keys = aggregate.group_expr().expr().iter().map(|(expression, _)| on_scan(expression, &steps)).collect::<Option<Vec<_>>>()?;
        let partitioning = Partitioning::UnknownPartitioning(scan.partitions.len());
        let properties = Arc::new(aggregate.properties().as_ref().clone().with_partitioning(partitioning));
        let (scan, metrics) = (scan.clone(), ExecutionPlanMetricsSet::new());
        let of_runs = |function| RunAggregate::of(function, &scan.schema, |argument| on_scan(argument, &steps));
        let all_rows = steps.iter().all(|step| matches!(step, Step::Project(..)));
        let of_runs = aggregate.aggr_expr().iter().map(|function| of_runs(function)).collect::<Option<Vec<_>>>().filter(|_| all_rows);
        // Without groups an ordinary aggregation takes no hashing, but casts.
        if keys.is_empty() && of_runs.as_ref().is_none_or(Vec::is_empty) {
            return None;
        }
        let groups = Self { aggregate: aggregate.clone(), scan, steps, keys, of_runs, properties, metrics };
        let worthwhile = |file: &FileScan| {
            let grouping = groups.grouping(file)?;
            (grouping.groups <= MOST_GROUPS && grouping.groups.saturating_mul(LEAST_ROWS) <= file.selection.rows()).then_some(())
        };
        let scan = &groups.scan;
        let fits = scan.fetch.is_none() && !scan.files.is_empty() && scan.files.iter().all(|file| worthwhile(file).is_some());
        fits.then_some(groups)
    }

    /// How a file is grouped; `None` when an expression depends on anything but the coordinates of one dimension.
    fn grouping(&self, file: &FileScan) -> Option<Grouping> {
        let layout = file.layout();
        let mut axes: Vec<(usize, u64, u64)> = Vec::new();
        let mut along = Vec::new();
        for expression in &self.keys {
            if expression.exists(|node| Ok(node.is_volatile_node())).unwrap_or(true) {
                return None;
            }
            let mut varies = None;
            for column in collect_columns(expression) {
                let Some(column) = file.columns[column.index()].column().map(|place| &layout.columns[place]) else { continue };
                let short = column.array().is_none_or(|array| file.opened.array(array).elements() <= LONGEST_COORDINATE);
                match (column.axes.as_slice(), varies) {
                    _ if !column.coordinate || !short => return None,
                    ([], _) => {}
                    ([axis], None) => varies = Some(*axis),
                    ([axis], Some(known)) if *axis == known => {}
                    _ => return None,
                }
            }
            along.push(varies.map(|axis| {
                axes.iter().position(|(known, ..)| *known == axis).unwrap_or_else(|| {
                    axes.push((axis, layout.dimensions[axis].extent, 1));
                    axes.len() - 1
                })
            }));
        }
        let mut groups = 1u64;
        for (_, extent, step) in axes.iter_mut().rev() {
            *step = groups;
            groups = groups.checked_mul(*extent)?;
        }
        Some(Grouping { along, axes, groups })
    }

    /// Aggregates what a partition reads of one file.
    async fn aggregated(self, work: Vec<Work>, context: Arc<TaskContext>, partition: usize) -> Result<Vec<RecordBatch>> {
        let Some(number) = work.first().map(|work| work.file) else { return Ok(Vec::new()) };
        let grouping = self.grouping(&self.scan.files[number]);
        let grouping = grouping.ok_or_else(|| DataFusionError::Internal("a grouping by coordinates that is none".to_owned()))?;
        let memory = MemoryConsumer::new("groups of coordinates").register(context.memory_pool());
        let mut states = States::new(&self, &grouping, memory)?;
        let reader = self.scan.reader(&context);
        let mut prepared = self.scan.prepared(work, partition, reader.clone());
        while let Some(group) = prepared.try_next().await? {
            for number in 0..group.boxes() {
                let rows = group.rows(number);
                states.touch(rows, &grouping);
                let run = grouping.run(rows);
                if let Some(aggregates) = self.of_runs.as_ref().filter(|_| run >= LEAST_RUN) {
                    for (start, length) in group.slices(number, RUN_ROWS) {
                        let (runs, numbers) = grouping.runs(rows, run, start, length);
                        states.merge(aggregates, &group.batch(number, start, length)?, &runs, &numbers)?;
                    }
                    continue;
                }
                for (start, length) in group.slices(number, context.session_config().batch_size()) {
                    let mut numbers = grouping.numbers(rows, start, length);
                    let mut batch = group.batch(number, start, length)?;
                    for step in &self.steps {
                        batch = step.apply(batch, &mut numbers)?;
                    }
                    states.add(&batch, &numbers)?;
                }
            }
        }
        let chosen = states.chosen();
        let keys = self.key_columns(&self.scan.files[number], &grouping, &chosen, &reader).await?;
        states.finish(&self.schema(), keys, &chosen, context.session_config().batch_size())
    }

    /// The value of each expression in each of the `chosen` groups. Nothing is computed of places without rows: it might be an error.
    async fn key_columns(&self, file: &FileScan, grouping: &Grouping, chosen: &[u64], reader: &ChunkReader) -> Result<Vec<ArrayRef>> {
        let (layout, schema) = (file.layout(), &self.scan.schema);
        let mut keys = Vec::new();
        for (expression, along) in self.keys.iter().zip(&grouping.along) {
            let places: Vec<u64> = chosen.iter().map(|number| grouping.place(*along, *number)).collect();
            let mut used = places.clone();
            used.sort_unstable();
            used.dedup();
            let wanted = collect_columns(expression);
            let mut columns = Vec::new();
            for (place, field) in schema.fields().iter().enumerate() {
                let is_wanted = wanted.iter().any(|column| column.index() == place);
                columns.push(match &file.columns[place] {
                    _ if !is_wanted => new_null_array(field.data_type(), used.len()),
                    Filled::Value(value) => take(value, &UInt64Array::from(vec![0; used.len()]), None)?,
                    Filled::Column(column) => {
                        let column = &layout.columns[*column];
                        let values = conform(&column_of(reader, &file.opened, layout, column).await?, column, field.data_type())?;
                        let rows = if column.axes.is_empty() { vec![0; used.len()] } else { used.clone() };
                        take(&values, &UInt64Array::from(rows), None)?
                    }
                });
            }
            let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(used.len()));
            let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?;
            let values = expression.evaluate(&batch)?.into_array(used.len())?;
            let rows: UInt64Array = places.iter().map(|place| used.partition_point(|used| used < place) as u64).collect::<Vec<_>>().into();
            keys.push(take(&values, &rows, None)?);
        }
        Ok(keys)
    }
}

impl Grouping {
    /// The group of each row of a box from `start`.
    fn numbers(&self, rows: &Rows, start: usize, length: usize) -> Vec<usize> {
        let term = |(axis, _, step): &(usize, u64, u64)| {
            let (places, step) = (&rows.selected[*axis], *step);
            (*axis, move |place| (places.at(place) * step) as usize)
        };
        rows.sums(start, length, self.axes.iter().map(term))
    }

    /// How many rows of a box follow one another in one group.
    fn run(&self, rows: &Rows) -> usize {
        rows.rows_of(self.axes.iter().map(|(axis, ..)| axis + 1).max().unwrap_or(0))
    }

    /// The runs of rows of a box from `start`, each as its first row from there and how many it has; and the group of each.
    fn runs(&self, rows: &Rows, run: usize, start: usize, length: usize) -> (Vec<(usize, usize)>, Vec<usize>) {
        let axes = self.axes.iter().map(|(axis, _, step)| (&rows.selected[*axis], rows.rows_of(axis + 1), step));
        let axes: Vec<(&Indices, usize, &u64)> = axes.collect();
        let number = |row: usize| axes.iter().map(|(places, inner, step)| places.at(row / inner % places.len()) * **step).sum::<u64>();
        runs(run, start, length).map(|(row, count)| ((row - start, count), number(row) as usize)).unzip()
    }

    /// The place of a group along a dimension.
    fn place(&self, along: Option<usize>, number: u64) -> u64 {
        along.map_or(0, |place| number / self.axes[place].2 % self.axes[place].1)
    }
}

impl Step {
    /// The rows after this step; `numbers` stays with them.
    fn apply(&self, batch: RecordBatch, numbers: &mut Vec<usize>) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        match self {
            Self::Filter(predicate) => {
                let passed = predicate.evaluate(&batch)?.into_array(rows)?;
                let passed = prep_null_mask_filter(passed.as_boolean());
                let mut row = 0;
                numbers.retain(|_| {
                    row += 1;
                    passed.value(row - 1)
                });
                Ok(filter_record_batch(&batch, &passed)?)
            }
            Self::Project(expressions, schema) => {
                let columns = expressions.iter().map(|expression| expression.evaluate(&batch)?.into_array(rows));
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_>>()?, &options)?)
            }
        }
    }
}

/// The scan of arrays below, and what happens to its rows on the way up.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<(&GridScan, Vec<Step>)> {
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        return Some((source.data_source().downcast_ref::<GridScan>()?, Vec::new()));
    }
    let (scan, mut steps) = scan_below(plan.children().first()?)?;
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        filter.fetch().is_none().then_some(())?;
        steps.push(Step::Filter(Arc::clone(filter.predicate())));
        if let Some(kept) = filter.projection() {
            let below = filter.input().schema();
            let column = |place: &usize| Arc::new(Column::new(below.field(*place).name(), *place)) as _;
            steps.push(Step::Project(kept.iter().map(column).collect(), filter.schema()));
        }
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let expressions = projection.expr().iter().map(|projected| Arc::clone(&projected.expr)).collect();
        steps.push(Step::Project(expressions, projection.schema()));
    } else {
        // Spreading rows over more partitions serves hashing them.
        let spreads =
            plan.downcast_ref::<RepartitionExec>().is_some_and(|plan| matches!(plan.partitioning(), Partitioning::RoundRobinBatch(_)));
        (spreads || plan.name() == "CooperativeExec").then_some(())?;
    }
    Some((scan, steps))
}

/// An expression on what `steps` make of the columns of a scan, as one on the columns of the scan.
fn on_scan(expression: &Arc<dyn PhysicalExpr>, steps: &[Step]) -> Option<Arc<dyn PhysicalExpr>> {
    let mut expression = Arc::clone(expression);
    for step in steps.iter().rev() {
        let Step::Project(projected, _) = step else { continue };
        let below = expression.transform_up(|node| {
            Ok(match node.downcast_ref::<Column>().and_then(|column| projected.get(column.index())) {
                Some(below) => Transformed::yes(Arc::clone(below)),
                None => Transformed::no(node),
            })
        });
        expression = below.ok()?.data;
    }
    Some(expression)
}

/// The states of all groups of one file.
struct States {
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    touched: Vec<bool>,
    /// Whether all rows of a box count, so that the box tells which groups have any.
    by_boxes: bool,
    memory: MemoryReservation,
}

impl States {
    fn new(groups: &CoordinateGroups, grouping: &Grouping, memory: MemoryReservation) -> Result<Self> {
        let functions = groups.aggregate.aggr_expr();
        memory.try_grow(grouping.groups as usize)?;
        Ok(Self {
            accumulators: functions.iter().map(|function| function.create_groups_accumulator()).collect::<Result<_>>()?,
            arguments: functions.iter().map(|function| function.expressions()).collect(),
            touched: vec![false; grouping.groups as usize],
            by_boxes: groups.steps.iter().all(|step| matches!(step, Step::Project(..))),
            memory,
        })
    }

    /// Notes which groups a box has rows of: all combinations of its places.
    fn touch(&mut self, rows: &Rows, grouping: &Grouping) {
        if rows.count == 0 || !self.by_boxes {
            return;
        }
        let mut numbers = vec![0u64];
        for (axis, _, step) in &grouping.axes {
            let places = &rows.selected[*axis];
            numbers = numbers.iter().flat_map(|number| places.iter().map(move |place| number + place * step)).collect();
        }
        numbers.into_iter().for_each(|number| self.touched[number as usize] = true);
    }

    /// Adds rows, each to the group of its number.
    fn add(&mut self, batch: &RecordBatch, numbers: &[usize]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        // Where rows are filtered, a box tells not which groups have any.
        if !self.by_boxes {
            numbers.iter().for_each(|number| self.touched[*number] = true);
        }
        let mut held = self.touched.len();
        for (accumulator, arguments) in self.accumulators.iter_mut().zip(&self.arguments) {
            let values =
                arguments.iter().map(|argument| argument.evaluate(batch)?.into_array(numbers.len())).collect::<Result<Vec<_>>>()?;
            accumulator.update_batch(&values, numbers, None, self.touched.len())?;
            held += accumulator.size();
        }
        self.memory.try_resize(held)
    }

    /// Adds runs of rows, each to the group of its number.
    fn merge(&mut self, aggregates: &[RunAggregate], batch: &RecordBatch, runs: &[(usize, usize)], numbers: &[usize]) -> Result<()> {
        let mut held = self.touched.len();
        for (accumulator, aggregate) in self.accumulators.iter_mut().zip(aggregates) {
            accumulator.merge_batch(&aggregate.states(batch, runs), numbers, self.touched.len())?;
            held += accumulator.size();
        }
        self.memory.try_resize(held)
    }

    /// The groups that have rows, in order.
    fn chosen(&self) -> Vec<u64> {
        (0u64..).zip(&self.touched).filter(|(_, touched)| **touched).map(|(number, _)| number).collect()
    }

    /// One row for each of the `chosen` groups: its keys, and the states of its aggregates.
    fn finish(mut self, schema: &SchemaRef, mut columns: Vec<ArrayRef>, chosen: &[u64], batch_rows: usize) -> Result<Vec<RecordBatch>> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = UInt64Array::from(chosen.to_vec());
        for accumulator in &mut self.accumulators {
            for state in accumulator.state(EmitTo::All)? {
                columns.push(take(&state, &chosen, None)?);
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
        let rows = batch.num_rows();
        Ok((0..rows).step_by(batch_rows.max(1)).map(|start| batch.slice(start, batch_rows.min(rows - start))).collect())
    }
}

impl DisplayAs for CoordinateGroups {
    fn fmt_as(&self, format: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        let groups = self.aggregate.group_expr().expr().iter().map(|(expression, name)| format!("{expression} as {name}"));
        let functions = self.aggregate.aggr_expr().iter().map(|function| function.name().to_owned());
        let (groups, functions) = (groups.collect::<Vec<_>>().join(", "), functions.collect::<Vec<_>>().join(", "));
        write!(formatter, "CoordinateGroups: gby=[{groups}], aggr=[{functions}], ")?;
        let filters = self.steps.iter().filter_map(|step| if let Step::Filter(predicate) = step { Some(predicate) } else { None });
        filters.into_iter().try_for_each(|predicate| write!(formatter, "filter=[{predicate}], "))?;
        DataSource::fmt_as(&self.scan, format, formatter)
    }
}

impl ExecutionPlan for CoordinateGroups {
    fn name(&self) -> &'static str {
        "CoordinateGroups"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        // A file is aggregated at a time: its places are its own.
        let mut files: Vec<Vec<Work>> = Vec::new();
        for work in self.scan.partitions.get(partition).into_iter().flatten() {
            match files.last_mut().filter(|last| last.last().is_some_and(|last| last.file == work.file)) {
                Some(last) => last.push(work.clone()),
                None => files.push(vec![work.clone()]),
            }
        }
        let groups = self.clone();
        let batches = stream::iter(files)
            .then(move |work| groups.clone().aggregated(work, Arc::clone(&context), partition))
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        DataSource::metrics(&self.scan).clone_inner().iter().for_each(|metric| metrics.push(Arc::clone(metric)));
        Some(metrics)
    }
}

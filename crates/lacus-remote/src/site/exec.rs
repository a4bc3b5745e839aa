use std::fmt::{self, Formatter};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion_common::config::ConfigOptions;
use datafusion_common::stats::Precision;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result as DataFusionResult, Statistics};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::expressions::DynamicFilterTracking;
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation};
use datafusion_physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use lacus_core::{Kind, Remotes, Result};

use super::keys;
use super::select::Select;
use super::server::{Batches, Server, Traffic, named};

/// How often a site is asked that is not there, as long as it has answered nothing.
const ATTEMPTS: u32 = 3;
/// How long is waited before it is asked again; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks a site one statement, and gives the rows that come back.
#[derive(Debug, Clone)]
pub(super) struct SiteExec {
    select: Select,
    schema: SchemaRef,
    /// What joins know of the rows that they need, once they know it.
    needed: Vec<Arc<dyn PhysicalExpr>>,
    /// The statement that was sent.
    sent: Arc<OnceLock<String>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SiteExec {
    pub(super) fn new(select: Select, schema: SchemaRef) -> Self {
        let equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        let properties =
            PlanProperties::new(equivalences, Partitioning::UnknownPartitioning(1), EmissionType::Incremental, Boundedness::Bounded);
        let (needed, sent) = (Vec::new(), Arc::default());
        Self { select, schema, needed, sent, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The statement for the rows that are needed, as far as that is known now.
    fn reduced(&self) -> DataFusionResult<String> {
        let mut select = self.select.clone();
        for needed in &self.needed {
            let (known, open) = (snapshot_physical_expr(Arc::clone(needed))?, select.clone().open());
            if let Some(condition) = keys::condition(&known, &open, &self.schema) {
                select = open.filtered(condition);
            }
        }
        Ok(select.asking_for(&self.schema))
    }
}

/// What is counted of the asking.
#[derive(Clone)]
struct Seen {
    sent: Count,
    received: Count,
    round_trips: Count,
    retries: Count,
}

impl Seen {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let [sent, received, round_trips, retries] =
            ["bytes_sent", "bytes_received", "round_trips", "retries"].map(|name| MetricBuilder::new(metrics).counter(name, partition));
        Self { sent, received, round_trips, retries }
    }

    /// Takes over what has been counted since it was last looked at.
    fn take(&self, traffic: &Traffic) {
        for (count, of) in [(&self.sent, &traffic.sent), (&self.received, &traffic.received), (&self.round_trips, &traffic.round_trips)] {
            count.add(of.swap(0, Ordering::Relaxed));
        }
    }
}

/// Asks a server, and asks again where nothing was answered yet and asking again may help.
async fn asked(server: Arc<dyn Server>, text: String, wanted: SchemaRef, ends: Option<Instant>, seen: Seen) -> Result<Batches> {
    let (mut attempt, began) = (1, Instant::now());
    loop {
        server.health().admits()?;
        let traffic = Arc::new(Traffic::until(ends));
        let found = first_rows(Arc::clone(&server).ask(&text, &wanted, &traffic).await, &server).await;
        seen.take(&traffic);
        match server.health().noted(found) {
            Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS && began.elapsed() < server.timeout() => {
                seen.retries.add(1);
                let pause = PAUSE * 2_u32.pow(attempt - 1);
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                attempt += 1;
            }
            Err(error) => {
                // What was told of its tables may be true no more.
                server.forget();
                return Err(error);
            }
            Ok((first, rest)) => {
                let rest = rest.map(move |batch| {
                    seen.take(&traffic);
                    server.health().noted(batch.map_err(|error| named(server.as_ref(), error)))
                });
                return Ok(stream::iter(first.map(Ok)).chain(rest).boxed());
            }
        }
    }
}

/// The first rows of an answer, and what follows them.
async fn first_rows(answer: Result<Batches>, server: &Arc<dyn Server>) -> Result<(Option<RecordBatch>, Batches)> {
    let mut batches = answer?;
    let first = batches.next().await.transpose().map_err(|error| named(server.as_ref(), error))?;
    Ok((first, batches))
}

impl DisplayAs for SiteExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        let text = self.sent.get().cloned().unwrap_or_else(|| self.select.asking_for(&self.schema));
        write!(formatter, "SiteExec: site={}, sql={text}", self.select.server.name())?;
        let needed: Vec<String> = self.needed.iter().map(ToString::to_string).collect();
        if needed.is_empty() || self.sent.get().is_some() {
            return Ok(());
        }
        write!(formatter, ", needed=[{}]", needed.join(", "))
    }
}

impl ExecutionPlan for SiteExec {
    fn name(&self) -> &'static str {
        "SiteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        found: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        for needed in &self.needed {
            if found(needed)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn partition_statistics(&self, _: Option<usize>) -> DataFusionResult<Arc<Statistics>> {
        let rows = Precision::Inexact(self.select.rows());
        Ok(Arc::new(Statistics { num_rows: rows, ..Statistics::new_unknown(&self.schema) }))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DataFusionResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = result.parent_filters.iter().map(|filter| &filter.filter);
        let needed: Vec<_> = filters.filter(|filter| DynamicFilterTracking::classify(filter).contains_dynamic_filter()).cloned().collect();
        // Whoever knows what is needed leaves out the rest by itself, too.
        let unsure = FilterPushdownPropagation::all_unsupported(result);
        // Of the few first rows none is left out before they are known.
        if phase != FilterPushdownPhase::Post || needed.is_empty() || self.select.is_within(usize::MAX) {
            return Ok(unsure);
        }
        let needed = self.needed.iter().cloned().chain(needed).collect();
        Ok(unsure.with_updated_node(Arc::new(Self { needed, ..self.clone() })))
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let bytes = MetricBuilder::new(&self.metrics).counter("decoded_bytes", partition);
        let first = MetricBuilder::new(&self.metrics).subset_time("first_batch", partition);
        let (plan, schema, began) = (self.clone(), Arc::clone(&self.schema), Instant::now());
        let seen = Seen::new(&self.metrics, partition);
        let remotes = context.session_config().get_extension::<Remotes>();
        let (noted, ends) = (remotes.clone(), remotes.as_ref().and_then(|remotes| remotes.ends()));
        // A join tells what it needs before it asks for the first row.
        let asking = async move {
            let text = plan.reduced()?;
            plan.sent.get_or_init(|| text.clone());
            if let Some(remotes) = noted {
                remotes.ask(plan.select.server.name(), &text);
            }
            asked(Arc::clone(&plan.select.server), text, plan.schema, ends, seen).await.map_err(DataFusionError::from)
        };
        let mut batches = stream::once(asking).map_ok(|batches| batches.map_err(DataFusionError::from)).try_flatten().boxed();
        let name = self.select.server.name().to_owned();
        let mut waiting = None;
        let batches = stream::poll_fn(move |context| {
            let polled = batches.poll_next_unpin(context);
            waiting = match polled.is_pending() {
                true => waiting.take().or_else(|| remotes.as_ref().map(|remotes| remotes.on(&name))),
                false => None,
            };
            polled
        });
        let batches = batches.enumerate().map(move |(number, batch)| {
            if number == 0 {
                first.add_duration(began.elapsed());
            }
            let batch = batch?;
            bytes.add(batch.get_array_memory_size());
            baseline.record_output(batch.num_rows());
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

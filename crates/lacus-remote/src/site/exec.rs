use std::fmt::{self, Formatter};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result as DataFusionResult};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, Result};

use super::Asked;
use crate::RemoteStream;

/// Asks a site one statement, and gives the rows that come back.
#[derive(Debug)]
pub(super) struct SiteExec {
    site: Arc<Asked>,
    text: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SiteExec {
    pub(super) fn new(site: Arc<Asked>, text: String, schema: SchemaRef) -> Self {
        let equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        let properties =
            PlanProperties::new(equivalences, Partitioning::UnknownPartitioning(1), EmissionType::Incremental, Boundedness::Bounded);
        Self { site, text, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// Asks a site, and asks once more where nothing was answered yet and asking again may help.
async fn asked(site: Arc<Asked>, text: String, wanted: SchemaRef) -> Result<RemoteStream> {
    let remote = site.within(site.remote()).await?;
    let query = match remote.query(&text, &[]).await {
        Err(error) if error.kind() == Kind::Unavailable => remote.query(&text, &[]).await,
        first => first,
    };
    let query = query.map_err(|error| site.named(error))?;
    let told = query.schema();
    let types =
        |schema: &SchemaRef| schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>();
    let is_same = told.fields().len() == wanted.fields().len()
        && told
            .fields()
            .iter()
            .zip(wanted.fields())
            .all(|(told, wanted)| told.name() == wanted.name() && of_layout(told.data_type()) == of_layout(wanted.data_type()));
    if !wanted.fields().is_empty() && !is_same {
        let error = Error::new(
            Kind::ObjectChanged,
            format!("the site gives ({}), and told that it has ({})", types(&told).join(", "), types(&wanted).join(", ")),
        );
        return Err(site.named(error).hint("ask again: the table may have changed meanwhile").retryable(true));
    }
    query.stream().map_err(|error| site.named(error))
}

/// One type for those that hold the same values in another layout: servers tell one and send the other.
fn of_layout(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => of_layout(values),
        other => other.clone(),
    }
}

impl DisplayAs for SiteExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "SiteExec: site={}, sql={}", self.site.spec.name, self.text)
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
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
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

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let bytes = MetricBuilder::new(&self.metrics).counter("decoded_bytes", partition);
        let first = MetricBuilder::new(&self.metrics).subset_time("first_batch", partition);
        let (site, schema, began) = (Arc::clone(&self.site), Arc::clone(&self.schema), Instant::now());
        let asking = asked(Arc::clone(&site), self.text.clone(), Arc::clone(&schema));
        let batches = futures::stream::once(asking).try_flatten();
        let batches = batches.enumerate().map(move |(number, batch)| {
            if number == 0 {
                first.add_duration(began.elapsed());
            }
            let batch = batch.map_err(|error| DataFusionError::from(site.named(error)))?;
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

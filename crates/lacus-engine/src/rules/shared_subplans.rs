//! Equal aggregations of one query run once: a common table expression that is used twice, a view beside its own maximum.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

pub(super) const NAME: &str = "shared_subplans";

/// `plan`, optimized, with one node for all aggregations that are equal.
pub(crate) fn share(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut seen: HashMap<LogicalPlan, usize> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Aggregate(_)) && stands_alone(node)? {
            *seen.entry(node.clone()).or_default() += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    seen.retain(|_, times| *times > 1);
    if seen.is_empty() {
        return Ok(plan);
    }
    let mut shared: HashMap<LogicalPlan, Arc<Shared>> = HashMap::new();
    let shared_plan = plan.transform_down_with_subqueries(|node| {
        if !seen.contains_key(&node) {
            return Ok(Transformed::no(node));
        }
        let number = shared.len() + 1;
        let input = Arc::clone(shared.entry(node.clone()).or_insert_with(|| Arc::new(Shared { number, ..Shared::default() })));
        let node = LogicalPlan::Extension(Extension { node: Arc::new(SharedNode { input: node, shared: input }) });
        // What lies below is shared with it.
        Ok(Transformed::new(node, true, TreeNodeRecursion::Jump))
    })?;
    Ok(shared_plan.data)
}

/// Whether a plan means the same wherever it stands: what changes from run to run is not equal to itself, and a subquery in an expression
/// is planned with the place that it stands in.
fn stands_alone(plan: &LogicalPlan) -> Result<bool> {
    let tied = |expr: &Expr| {
        let subquery = |expr: &Expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..)
            ))
        };
        Ok::<_, DataFusionError>(expr.is_volatile() || expr.exists(subquery)?)
    };
    let mut alone = true;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            alone &= !tied(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(alone)
}

/// What the places of one aggregation have in common.
#[derive(Debug, Default)]
struct Shared {
    number: usize,
    /// The plan of the first place, which serves all.
    plan: OnceLock<Arc<dyn ExecutionPlan>>,
    rows: OnceCell<Rows>,
}

#[derive(Debug)]
struct Rows {
    batches: Vec<RecordBatch>,
    /// Held for as long as the rows are.
    _memory: MemoryReservation,
}

/// One of the places of an aggregation.
#[derive(Debug, Clone)]
struct SharedNode {
    input: LogicalPlan,
    shared: Arc<Shared>,
}

impl PartialEq for SharedNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for SharedNode {}

impl PartialOrd for SharedNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.shared.number.partial_cmp(&other.shared.number)
    }
}

impl Hash for SharedNode {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.shared.number.hash(hasher);
    }
}

impl UserDefinedLogicalNodeCore for SharedNode {
    fn name(&self) -> &str {
        "Shared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shared: number={}", self.shared.number)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.len()) {
            (Some(input), 0) => Ok(Self { input, shared: Arc::clone(&self.shared) }),
            _ => plan_err!("Shared has one input"),
        }
    }
}

/// Plans shared nodes.
#[derive(Debug)]
pub(super) struct SharedPlanner;

#[async_trait]
impl ExtensionPlanner for SharedPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let any: &dyn Any = node.as_any();
        let (Some(node), [input]) = (any.downcast_ref::<SharedNode>(), inputs) else { return Ok(None) };
        let input = node.shared.plan.get_or_init(|| Arc::clone(input));
        Ok(Some(Arc::new(SharedExec::new(Arc::clone(input), Arc::clone(&node.shared)))))
    }
}

/// Runs its input once for all of its places.
#[derive(Debug)]
struct SharedExec {
    input: Arc<dyn ExecutionPlan>,
    shared: Arc<Shared>,
    properties: Arc<PlanProperties>,
}

impl SharedExec {
    fn new(input: Arc<dyn ExecutionPlan>, shared: Arc<Shared>) -> Self {
        let equal = EquivalenceProperties::new(input.schema());
        let one = Partitioning::UnknownPartitioning(1);
        let properties = Arc::new(PlanProperties::new(equal, one, EmissionType::Final, Boundedness::Bounded));
        Self { input, shared, properties }
    }

    /// The rows, from whoever was first.
    async fn rows(input: Arc<dyn ExecutionPlan>, shared: &Shared, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let gather = || async {
            let memory = MemoryConsumer::new("SharedRows").register(context.memory_pool());
            let mut whole = CoalescePartitionsExec::new(input).execute(0, Arc::clone(&context))?;
            let mut batches = Vec::new();
            while let Some(batch) = whole.try_next().await? {
                memory.try_grow(batch.get_array_memory_size())?;
                batches.push(batch);
            }
            Ok::<_, DataFusionError>(Rows { batches, _memory: memory })
        };
        Ok(shared.rows.get_or_try_init(gather).await?.batches.clone())
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedExec: number={}", self.shared.number)
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.len()) {
            (Some(input), 0) => Ok(Arc::new(Self::new(input, Arc::clone(&self.shared)))),
            _ => plan_err!("SharedExec has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, shared, schema) = (Arc::clone(&self.input), Arc::clone(&self.shared), self.schema());
        let rows = stream::once(async move { Self::rows(input, &shared, context).await });
        let batches = rows.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed())))
    }
}

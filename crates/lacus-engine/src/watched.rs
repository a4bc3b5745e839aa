//! Joins that compare every row with every row, and can be ended.
//!
//! For one batch DataFusion's nested loop join compares millions of pairs within one poll, in which nothing else runs on the thread: neither
//! the deadline of the query, nor what would cancel it, nor anybody else. But it asks its condition all the while. So the condition looks at
//! the clock: it fails once its query has ended, and gives the thread to others when it has had it for long.

use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use lacus_core::{Error, Kind, Remotes};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a condition is asked on a thread before others get it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long another thread may take to begin with what waits.
const HANDOVER: Duration = Duration::from_millis(1);

thread_local! {
    /// Since when this thread has asked conditions, as far as it knows.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether a query has ended; its session carries one as an extension.
#[derive(Debug, Default)]
pub(crate) struct Ended(AtomicBool);

impl Ended {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a condition looks at, and what else computes for long.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    ended: Arc<Ended>,
    remotes: Arc<Remotes>,
}

impl Watch {
    pub(crate) fn new(ended: &Arc<Ended>, remotes: &Arc<Remotes>) -> Self {
        Self { ended: Arc::clone(ended), remotes: Arc::clone(remotes) }
    }

    /// Ends what is no longer wanted, and gives the thread to others when it was had for long.
    pub(crate) fn look(&self, too_long: fn() -> Error) -> Result<(), Error> {
        self.check(too_long)?;
        let now = Instant::now();
        let since = SINCE.get().filter(|since| now.duration_since(*since) < PATIENCE * 4);
        match since {
            None => SINCE.set(Some(now)),
            Some(since) if now.duration_since(since) >= PATIENCE => {
                let is_shared = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
                if is_shared {
                    // What waits for this thread goes on on another.
                    tokio::task::block_in_place(|| std::thread::sleep(HANDOVER));
                }
                SINCE.set(Some(Instant::now()));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Ends what is no longer wanted.
    pub(crate) fn check(&self, too_long: fn() -> Error) -> Result<(), Error> {
        if self.ended.0.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Cancelled, "the query was cancelled"));
        }
        match self.remotes.ends() {
            Some(end) if Instant::now() >= end => Err(too_long()),
            _ => Ok(()),
        }
    }
}

/// A condition that is watched.
#[derive(Debug, Clone)]
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    watch: Arc<Watch>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl Display for Watched {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.condition.fmt(formatter)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.condition.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.watch.look(|| {
            Error::new(Kind::DeadlineExceeded, "the query took too long, comparing every row of a table with every row of another")
                .hint("join by an equality, or narrow both sides")
        })?;
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.pop().unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Self { condition, watch: Arc::clone(&self.watch) }))
    }

    fn fmt_sql(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(formatter)
    }
}

/// The plan, with conditions that look at the clock.
pub(crate) fn watched(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    let (Some(ended), Some(remotes)) = (state.config().get_extension::<Ended>(), state.config().get_extension::<Remotes>()) else {
        return Ok(plan);
    };
    let watch = Arc::new(Watch::new(&ended, &remotes));
    let wrap = |node: Arc<dyn ExecutionPlan>| {
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
        let Some(filter) = join.filter() else { return Ok(Transformed::no(node)) };
        let condition: Arc<dyn PhysicalExpr> = Arc::new(Watched { condition: Arc::clone(filter.expression()), watch: Arc::clone(&watch) });
        let filter = JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(wrap).data()
}

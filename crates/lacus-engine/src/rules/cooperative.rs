//! Joins let others run.
//!
//! DataFusion makes the leaves of a plan give way after some batches, and counts on every operator to ask its leaves often. A join does not:
//! from one batch of each side it can make millions of rows, and while an operator above takes them in one go, nothing else runs on the
//! thread - not even what would cancel the query. So joins, too, give way after some batches.
//!
//! Each operator that gives way takes a part of what tokio lets a task do in one go, before it asks what is below. Where more of them stand
//! one in another than there are parts (128), those below never get one, and the query never ends. So a row of joins is cut into tasks.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};

/// How many joins stand one in another in one task: half of what a task has, as other operators give way, too.
const JOINS_IN_A_TASK: usize = 64;
/// How much a task may be ahead of the one that it works for.
const AHEAD: usize = 8 << 20;

/// Wraps joins, once all else is decided.
#[derive(Debug)]
pub(super) struct Cooperative;

impl PhysicalOptimizerRule for Cooperative {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let wrap = |node: Arc<dyn ExecutionPlan>| {
            if !is_join(node.as_ref()) {
                return Ok(Transformed::no(node));
            }
            let ends_a_task = joins_in_task(&node) >= JOINS_IN_A_TASK;
            let node: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(node));
            Ok(Transformed::yes(if ends_a_task { Arc::new(BufferExec::new(node, AHEAD)) } else { node }))
        };
        plan.transform_up(wrap).data()
    }

    fn name(&self) -> &'static str {
        "cooperative_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// How many joins stand one in another from `node` down to where another task begins.
fn joins_in_task(node: &Arc<dyn ExecutionPlan>) -> usize {
    let (mut deepest, mut waiting) = (0, vec![(node, 0)]);
    while let Some((node, above)) = waiting.pop() {
        let joins = above + usize::from(is_join(node.as_ref()));
        deepest = deepest.max(joins);
        if node.downcast_ref::<BufferExec>().is_none() {
            waiting.extend(node.children().into_iter().map(|child| (child, joins)));
        }
    }
    deepest
}

fn is_join(node: &dyn ExecutionPlan) -> bool {
    node.downcast_ref::<NestedLoopJoinExec>().is_some()
        || node.downcast_ref::<CrossJoinExec>().is_some()
        || node.downcast_ref::<HashJoinExec>().is_some()
        || node.downcast_ref::<SortMergeJoinExec>().is_some()
}

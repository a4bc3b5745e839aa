//! Semi and anti joins make their table of the side that has fewer rows.
//!
//! DataFusion chooses sides by bytes, as it estimates them: a few rows that survived a chain of joins can look larger than a table, since of
//! a chain it knows little. What a table costs is its rows. So rows are compared, estimated as `join_order` does, right after DataFusion has
//! chosen: what comes later spreads rows over partitions and hands filters from one side to the other.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use super::join_order::estimated_rows;

pub(super) const NAME: &str = "build_side";

/// Estimates are rough: a side must look smaller by so much.
const WORTH: f64 = 2.0;

#[derive(Debug)]
pub(super) struct BuildSide;

impl PhysicalOptimizerRule for BuildSide {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) => swapped(join, config).map(|swapped| swapped.map_or_else(|| Transformed::no(Arc::clone(&node)), Transformed::yes)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The join with its sides the other way round, if that is better.
fn swapped(join: &HashJoinExec, config: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let one_sided = matches!(join.join_type(), JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti);
    // An anti join for NOT IN needs its sides as they are.
    if !one_sided || join.null_aware || !config.optimizer.join_reordering {
        return Ok(None);
    }
    let (Some(table), Some(other)) = (estimated_rows(join.left())?, estimated_rows(join.right())?) else { return Ok(None) };
    if table < WORTH * other {
        return Ok(None);
    }
    let few = other < config.optimizer.hash_join_single_partition_threshold_rows as f64;
    join.swap_inputs(if few { PartitionMode::CollectLeft } else { PartitionMode::Partitioned }).map(Some)
}

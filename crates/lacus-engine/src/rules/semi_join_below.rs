//! A semi join that looks at one side of an inner join goes below it: rows that it drops need not be joined first.
//!
//! `(A join B) semi S on a = s` is `(A semi S on a = s) join B`: the inner join neither changes the columns of A nor keeps rows of A for
//! which the semi join has no match.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::{column, handed_on};

pub(super) const NAME: &str = "semi_join_below";

#[derive(Debug)]
pub(super) struct SemiJoinBelow;

impl OptimizerRule for SemiJoinBelow {
    fn name(&self) -> &str {
        NAME
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(semi) = &plan else { return Ok(Transformed::no(plan)) };
        if semi.join_type != JoinType::LeftSemi || semi.filter.is_some() {
            return Ok(Transformed::no(plan));
        }
        let keys: Option<Vec<Column>> = semi.on.iter().map(|(left, _)| column(left).cloned()).collect();
        let Some(keys) = keys.filter(|keys| !keys.is_empty()) else { return Ok(Transformed::no(plan)) };
        match below(&semi.left, &keys, semi)? {
            Some(lower) => Ok(Transformed::yes(lower)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// `plan` with the semi join at its lowest place; `None` when there is no join to go below.
fn below(plan: &LogicalPlan, keys: &[Column], semi: &Join) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
            let Some(keys) = keys.iter().map(|key| handed_on(plan, key)).collect::<Option<Vec<_>>>() else { return Ok(None) };
            let Some(input) = plan.inputs().first().copied() else { return Ok(None) };
            let Some(lower) = below(input, &keys, semi)? else { return Ok(None) };
            plan.with_new_exprs(plan.expressions(), vec![lower]).map(Some)
        }
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            let of = |side: &LogicalPlan| keys.iter().all(|key| side.schema().has_column(key));
            let (left, right) = match (of(&join.left), of(&join.right)) {
                (true, false) => (Arc::new(lowest(&join.left, keys, semi)?), Arc::clone(&join.right)),
                (false, true) => (Arc::clone(&join.left), Arc::new(lowest(&join.right, keys, semi)?)),
                _ => return Ok(None),
            };
            Ok(Some(LogicalPlan::Join(Join { left, right, ..join.clone() })))
        }
        _ => Ok(None),
    }
}

fn lowest(plan: &LogicalPlan, keys: &[Column], semi: &Join) -> Result<LogicalPlan> {
    if let Some(lower) = below(plan, keys, semi)? {
        return Ok(lower);
    }
    let on = keys.iter().zip(&semi.on).map(|(key, (_, right))| (Expr::Column(key.clone()), right.clone())).collect();
    let join = Join { left: Arc::new(plan.clone()), on, schema: Arc::clone(plan.schema()), ..semi.clone() };
    Ok(LogicalPlan::Join(join))
}

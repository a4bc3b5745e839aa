//! Groups that a join drops need not be aggregated.
//!
//! A correlated subquery becomes an aggregation over all groups, joined with the few rows that ask for theirs. Where the keys of those rows
//! come from one filtered table, the input of the aggregation is first reduced to these keys by a semi join. Any superset of the keys that
//! the join asks for will do: the join itself drops the rest.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, NullEquality, Result};
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::{column, handed_on};

pub(super) const NAME: &str = "keys_into_aggregate";

/// What the keys are called in a plan; an aggregation that has them is left as it is.
const KEYS: &str = "__keys_of_groups";

#[derive(Debug)]
pub(super) struct KeysIntoAggregate;

impl OptimizerRule for KeysIntoAggregate {
    fn name(&self) -> &str {
        NAME
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        // The side of the aggregation must lose what finds no match.
        let loses_right = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::Left);
        let loses_left = matches!(join.join_type, JoinType::Inner | JoinType::RightSemi | JoinType::Right);
        if join.null_equality != NullEquality::NullEqualsNothing {
            return Ok(Transformed::no(plan));
        }
        let pairs: Vec<(&Column, &Column)> = join.on.iter().filter_map(|(left, right)| Some((column(left)?, column(right)?))).collect();
        for (left, right) in pairs {
            if loses_right && let Some(reduced) = reduced(&join.right, right, &join.left, left, config)? {
                return Ok(Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(reduced), ..join.clone() })));
            }
            if loses_left && let Some(reduced) = reduced(&join.left, left, &join.right, right, config)? {
                return Ok(Transformed::yes(LogicalPlan::Join(Join { left: Arc::new(reduced), ..join.clone() })));
            }
        }
        Ok(Transformed::no(plan))
    }
}

/// `plan`, in which the input of the aggregation whose group is `key` is reduced to keys of `other`; `None` when there is none, or no
/// keys that are cheaply had.
fn reduced(
    plan: &LogicalPlan,
    key: &Column,
    other: &LogicalPlan,
    asked: &Column,
    config: &dyn OptimizerConfig,
) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
            let Some(key) = handed_on(plan, key) else { return Ok(None) };
            let Some(input) = plan.inputs().first().copied() else { return Ok(None) };
            let Some(input) = reduced(input, &key, other, asked, config)? else { return Ok(None) };
            plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let Some(place) = aggregate.schema.maybe_index_of_column(key) else { return Ok(None) };
            let Some(Expr::Column(group)) = aggregate.group_expr.get(place) else { return Ok(None) };
            let input = aggregate.input.as_ref();
            if names_keys(input)? {
                return Ok(None);
            }
            let Some((keys, of)) = source(other, asked) else { return Ok(None) };
            if !is_cheaper(keys, input)? {
                return Ok(None);
            }
            let alias = config.alias_generator().next(KEYS);
            let keys = LogicalPlanBuilder::from(keys.clone()).project([Expr::Column(of.clone())])?.alias(alias.as_str())?.build()?;
            let wanted = Column::new(Some(alias), of.name);
            let input = LogicalPlanBuilder::from(input.clone())
                .join(keys, JoinType::LeftSemi, (vec![group.clone()], vec![wanted]), None)?
                .build()?;
            plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
        }
        _ => Ok(None),
    }
}

/// A filtered table all whose values of the column it is given with include those that `asked` has in `plan`.
fn source<'a>(plan: &'a LogicalPlan, asked: &Column) -> Option<(&'a LogicalPlan, Column)> {
    match plan {
        LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::TableScan(_)) => {
            (!filter.predicate.is_volatile()).then(|| (plan, asked.clone()))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
            source(plan.inputs().first()?, &handed_on(plan, asked)?)
        }
        LogicalPlan::Join(join) => {
            // The values of a key of an inner or semi join are among those of either side.
            let both = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi);
            let left = join.left.schema().has_column(asked)
                && matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::Left | JoinType::LeftAnti);
            let right = join.right.schema().has_column(asked)
                && matches!(join.join_type, JoinType::Inner | JoinType::RightSemi | JoinType::Right | JoinType::RightAnti);
            let equal = |mine: fn(&(Expr, Expr)) -> &Expr, others: fn(&(Expr, Expr)) -> &Expr| {
                let pair = join.on.iter().find(|pair| both && column(mine(pair)) == Some(asked))?;
                column(others(pair)).cloned()
            };
            if left {
                let found = equal(|pair| &pair.0, |pair| &pair.1).and_then(|other| source(&join.right, &other));
                return found.or_else(|| source(&join.left, asked));
            }
            if right {
                let found = equal(|pair| &pair.1, |pair| &pair.0).and_then(|other| source(&join.left, &other));
                return found.or_else(|| source(&join.right, asked));
            }
            None
        }
        _ => None,
    }
}

/// Whether the keys come from another table than what is aggregated: else reading them costs as much as they save.
fn is_cheaper(keys: &LogicalPlan, input: &LogicalPlan) -> Result<bool> {
    let tables = |plan: &LogicalPlan| -> Result<Vec<String>> {
        let mut tables = Vec::new();
        plan.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                tables.push(scan.table_name.to_string());
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })?;
        Ok(tables)
    };
    let read = tables(input)?;
    Ok(!read.is_empty() && tables(keys)?.iter().all(|table| !read.contains(table)))
}

fn names_keys(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with(KEYS))))
}

//! The first rows of several inputs are among the first of each: `ORDER BY ... LIMIT` over a union is asked of each site.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::tree_node::Transformed;
use datafusion_expr::logical_plan::Sort;
use datafusion_expr::{FetchType, LogicalPlan};
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::branches::{Branches, column_at, named_like};
use super::fold::{fold, reads_sites};
use super::site_table;

/// The name by which the rule is switched off.
pub(super) const NAME: &str = "split_top_k";

/// The rule.
#[derive(Debug)]
pub(super) struct SplitTopK;

impl OptimizerRule for SplitTopK {
    fn name(&self) -> &'static str {
        NAME
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !reads_sites(&plan)? {
            return Ok(Transformed::no(plan));
        }
        plan.transform_down_with_subqueries(|node| match &node {
            LogicalPlan::Sort(sort) => match split(sort)? {
                Some(split) => Ok(Transformed::yes(split)),
                None => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        })
    }
}

fn split(sort: &Sort) -> Result<Option<LogicalPlan>> {
    let Some(rows) = sort.fetch else { return Ok(None) };
    let Some(Branches(branches)) = Branches::of(&sort.input)? else { return Ok(None) };
    if branches.iter().all(|branch| is_within(branch, rows)) {
        return Ok(None);
    }
    let first = |branch| LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(branch), fetch: Some(rows) });
    let firsts: Vec<LogicalPlan> = branches.into_iter().map(first).collect();
    if !firsts.iter().any(|first| fold(first).is_some()) {
        return Ok(None);
    }
    let united = Branches(firsts).united()?;
    let columns = (0..united.schema().fields().len()).map(|place| column_at(&united, place)).collect();
    let input = named_like(united, columns, &sort.input)?;
    Ok(Some(LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: Some(rows) })))
}

/// Whether a plan gives no more than so many rows already.
fn is_within(plan: &LogicalPlan, rows: usize) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => is_within(plan.inputs()[0], rows),
        LogicalPlan::Sort(sort) => sort.fetch.is_some_and(|fetch| fetch <= rows),
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(fetch))) if fetch <= rows),
        LogicalPlan::TableScan(scan) => {
            scan.fetch.is_some_and(|fetch| fetch <= rows) || site_table(scan).is_some_and(|table| table.select.is_within(rows))
        }
        _ => false,
    }
}

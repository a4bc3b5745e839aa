//! The first rows of several inputs are among the first of each: `ORDER BY ... LIMIT` over a union is asked of each site.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::tree_node::Transformed;
use datafusion_expr::logical_plan::Sort;
use datafusion_expr::{FetchType, LogicalPlan};
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::branches::{Branches, rewritten};
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
        rewritten(plan, |node| if let LogicalPlan::Sort(sort) = node { split(sort) } else { Ok(None) })
    }
}

fn split(sort: &Sort) -> Result<Option<LogicalPlan>> {
    let Some(rows) = sort.fetch else { return Ok(None) };
    let Some(branches) = Branches::of(&sort.input)? else { return Ok(None) };
    if branches.0.iter().all(|branch| is_within(branch, rows)) {
        return Ok(None);
    }
    let first = |input| LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: Some(rows) });
    let Some(firsts) = branches.each(|branch| Ok(first(branch)))? else { return Ok(None) };
    firsts.united_like(&sort.input).map(|united| Some(first(united)))
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

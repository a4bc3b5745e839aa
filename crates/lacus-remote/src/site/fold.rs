//! What stands on tables of one site is asked of the site as one statement.
//!
//! A plan is folded from its scans up, node by node, as far as each node has a place in the normal form and each of its expressions means the
//! same there. What is left above reads the answer.

use datafusion_common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion_common::{DFSchema, JoinType, NullEquality, Result};
use datafusion_expr::logical_plan::{Aggregate, Filter, Join, Limit, Projection, Sort, TableScan};
use datafusion_expr::{Expr, ExprSchemable, FetchType, LogicalPlan, SkipType};
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::dialect::Dialect;
use super::select::Select;
use super::words::Words;
use super::{SiteTable, site_table};

/// The name by which the rule is switched off.
pub(super) const NAME: &str = "site_queries";

/// The rule.
#[derive(Debug)]
pub(super) struct SiteQueries;

impl OptimizerRule for SiteQueries {
    fn name(&self) -> &'static str {
        NAME
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !reads_sites(&plan)? {
            return Ok(Transformed::no(plan));
        }
        plan.transform_down_with_subqueries(|node| {
            if is_scan(&node) {
                return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
            }
            match fold(&node) {
                Some(select) => Ok(Transformed::new(SiteTable::plan(select, node.schema())?, true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(node)),
            }
        })
    }
}

/// Whether a plan reads a table of any site, in a subquery or outside.
pub(super) fn reads_sites(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = false;
    plan.apply_with_subqueries(|node| {
        reads = matches!(node, LogicalPlan::TableScan(scan) if site_table(scan).is_some());
        Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(reads)
}

/// Whether a plan gives columns of a scan and does no more, which the scan asks by itself.
fn is_scan(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_scan(&alias.input),
        LogicalPlan::Projection(projection) => projection.expr.iter().all(is_column) && is_scan(&projection.input),
        _ => false,
    }
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_column(&alias.expr),
        expr => matches!(expr, Expr::Column(_)),
    }
}

/// The statement that gives what a plan gives, column by column.
pub(super) fn fold(plan: &LogicalPlan) -> Option<Select> {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::SubqueryAlias(alias) => fold(&alias.input),
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Filter(filter) => filtered(filter),
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Sort(sort) => sorted(sort),
        LogicalPlan::Limit(limit) => limited(limit),
        LogicalPlan::Join(join) => joined(join),
        _ => None,
    }
}

fn words<'a>(select: &'a Select, plan: &'a LogicalPlan) -> Words<'a> {
    Words::new(select, plan.schema(), &fold)
}

fn scanned(scan: &TableScan) -> Option<Select> {
    let table = site_table(scan)?;
    let all: Vec<usize> = (0..table.schema.fields().len()).collect();
    table.asked(scan.projection.as_ref().unwrap_or(&all), &scan.filters, scan.fetch)
}

fn projected(projection: &Projection) -> Option<Select> {
    let input = fold(&projection.input)?;
    // The type of what is computed may be another elsewhere.
    let dialect = input.dialect;
    let is_told =
        |expr: &Expr| is_column(expr) || expr.get_type(projection.input.schema()).is_ok_and(|of| dialect.type_name(&of).is_some());
    if !dialect.is_own() && !projection.expr.iter().all(|expr| if dialect.is_database() { is_told(expr) } else { is_column(expr) }) {
        return None;
    }
    let reads = |expr: &Expr| !expr.column_refs().is_empty();
    // Without any of its functions a statement of one row would be one of all rows.
    let keeps_all = projection.expr.len() >= input.columns.len() && projection.expr.iter().all(reads);
    let input = if input.is_one_row() && !keeps_all { input.open() } else { input };
    let columns = words(&input, &projection.input).exprs(&projection.expr)?;
    Some(input.projected(columns))
}

fn filtered(filter: &Filter) -> Option<Select> {
    let input = fold(&filter.input)?.open();
    let condition = words(&input, &filter.input).expr(&filter.predicate)?;
    Some(input.filtered(condition))
}

fn grouped(aggregate: &Aggregate) -> Option<Select> {
    if aggregate.group_expr.is_empty() && aggregate.aggr_expr.is_empty() {
        return None;
    }
    let input = fold(&aggregate.input)?.with_keys();
    let words = words(&input, &aggregate.input);
    // A number would say which column is meant.
    let dialect = input.dialect;
    let is_key = |key: &Expr| {
        let data_type = key.get_type(aggregate.input.schema());
        // What is computed may have another type there.
        data_type
            .is_ok_and(|of| dialect.is_equal_alike(&of) && (!dialect.is_database() || is_column(key) || dialect.type_name(&of).is_some()))
    };
    let key = |key: &Expr| words.expr(key).filter(|_| !key.column_refs().is_empty() && is_key(key));
    let keys = aggregate.group_expr.iter().map(key).collect::<Option<Vec<_>>>()?;
    let functions = aggregate.aggr_expr.iter().enumerate().map(|(place, function)| {
        // Casts are left out of the names of functions, and none may be there twice.
        let is_called_alike = |other: &Expr| called(other) == called(function);
        let is_twice = dialect.is_own() && aggregate.aggr_expr[..place].iter().any(is_called_alike);
        words.aggregate(function, is_twice.then_some(place))
    });
    let functions = functions.collect::<Option<Vec<_>>>()?;
    Some(input.grouped(keys, functions))
}

/// What a function is called if nobody names it.
fn called(function: &Expr) -> String {
    match function {
        Expr::Alias(alias) => called(&alias.expr),
        function => function.schema_name().to_string(),
    }
}

/// The first rows of an order. An order of all rows is none of a site's: it is made where the rows are read.
fn sorted(sort: &Sort) -> Option<Select> {
    let (input, rows) = (fold(&sort.input)?, sort.fetch?);
    input.limited(|select| words(select, &sort.input).order(&sort.expr), rows)
}

fn limited(limit: &Limit) -> Option<Select> {
    let (Ok(SkipType::Literal(0)), Ok(FetchType::Literal(Some(rows)))) = (limit.get_skip_type(), limit.get_fetch_type()) else {
        return None;
    };
    let input = fold(&limit.input)?;
    if input.is_within(rows) { Some(input) } else { input.limited(|_| Some(Vec::new()), rows) }
}

/// How two tables are joined.
enum Joined {
    By(&'static str),
    Exists(bool),
}

fn joined(join: &Join) -> Option<Select> {
    let (left, right) = (fold(&join.left)?, fold(&join.right)?);
    let dialect = left.dialect;
    // A file is joined faster here.
    let can_join = matches!(dialect, Dialect::Lacus | Dialect::Postgres { .. } | Dialect::MySql);
    if !left.is_beside(&right) || !can_join || join.null_aware || join.null_equality != NullEquality::NullEqualsNothing {
        return None;
    }
    let is_by_keys = !join.on.is_empty();
    let kind = match join.join_type {
        // Every row with every row is more than the rows of both, unless one side has one.
        JoinType::Inner if !is_by_keys && join.filter.is_none() => {
            if left.is_one_row() || right.is_one_row() {
                Joined::By("CROSS JOIN")
            } else {
                return None;
            }
        }
        _ if !is_by_keys => return None,
        JoinType::Inner => Joined::By("JOIN"),
        JoinType::Left => Joined::By("LEFT JOIN"),
        JoinType::Right => Joined::By("RIGHT JOIN"),
        JoinType::Full if dialect == Dialect::MySql => return None,
        JoinType::Full => Joined::By("FULL JOIN"),
        JoinType::LeftSemi | JoinType::RightSemi if dialect.is_database() => Joined::Exists(true),
        JoinType::LeftAnti | JoinType::RightAnti if dialect.is_database() => Joined::Exists(false),
        JoinType::LeftSemi => Joined::By("LEFT SEMI JOIN"),
        JoinType::RightSemi => Joined::By("RIGHT SEMI JOIN"),
        JoinType::LeftAnti => Joined::By("LEFT ANTI JOIN"),
        JoinType::RightAnti => Joined::By("RIGHT ANTI JOIN"),
        JoinType::LeftMark | JoinType::RightMark => return None,
    };
    let is_of_right = matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti);
    let width = left.columns.len();
    let on = |both: &Select, schema: &DFSchema| {
        let words = Words::new(both, schema, &fold);
        // Two columns may have collations of their own, of which neither holds.
        let text = |expr: &Expr| {
            let data_type = expr.get_type(schema).ok().filter(|of| dialect.is_equal_alike(of))?;
            Some(dialect.ordered(&words.expr(expr)?, &data_type))
        };
        let equal = |(left, right): &(Expr, Expr)| Some(format!("({} = {})", text(left)?, text(right)?));
        let mut on = join.on.iter().map(equal).collect::<Option<Vec<_>>>()?;
        if let Some(filter) = &join.filter {
            on.push(words.expr(filter)?);
        }
        Some(on)
    };
    let (of_left, of_right) = (join.left.schema(), join.right.schema());
    let kind = match kind {
        Joined::Exists(is_there) => {
            let (schema, rows, others) =
                if is_of_right { (of_right.join(of_left), right, left) } else { (of_left.join(of_right), left, right) };
            let schema = schema.ok()?;
            return Select::exists(rows, others, is_there, |both| on(both, &schema));
        }
        Joined::By(kind) => kind,
    };
    let schema = of_left.join(of_right).ok()?;
    let both = Select::joined(left, right, kind, |both| on(both, &schema))?;
    let columns = match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti => both.columns[..width].to_vec(),
        JoinType::RightSemi | JoinType::RightAnti => both.columns[width..].to_vec(),
        _ => return Some(both),
    };
    Some(both.projected(columns))
}

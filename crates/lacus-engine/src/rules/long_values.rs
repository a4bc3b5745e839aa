//! Long constants are looked at with the rows that have them. This is a bound, not a rule: nothing switches it off.
//!
//! An expression hands a constant on for each row of a batch, and `||` makes a text of two: neither counts what it makes, nor asks before. A
//! constant of half a gigabyte would be 4 TB in a batch. Long constants, and what `||` joins, are bounded to what a batch has room for.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

use crate::functions::longer::{MOST, bounded, is_bounded, unbounded};

/// Bytes of a constant that all rows of a batch have room for.
const LONG: usize = 64 << 10;
/// Bytes of what is joined that there is room for in any case, be there ever so many parts.
const LEAST: u64 = 4 << 20;
/// Functions that look at a constant without handing it on.
const LOOKING: [&str; 1] = ["array_has"];

/// A plan that is optimized, with bounds; what is pushed into sources has been pushed.
pub(crate) fn with_bounds(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        // What a source is asked is its own language.
        if matches!(plan, LogicalPlan::TableScan(_) | LogicalPlan::Extension(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let (joins, has_long) = found(&expr)?;
            if joins == 0 && !has_long {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let most = (MOST / (joins + 1)).max(LEAST);
            Ok(expr.transform_up(|expr| Ok(with_bound(expr, most)))?.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}

fn is_long(expr: &Expr) -> bool {
    // The size of a value counts what it stands in.
    matches!(expr, Expr::Literal(value, _) if value.size() > LONG + size_of::<ScalarValue>())
}

fn is_join(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }))
}

/// How often `||` stands in an expression, and whether a long constant does.
fn found(expr: &Expr) -> Result<(u64, bool)> {
    let (mut joins, mut has_long) = (0, false);
    expr.apply(|expr| {
        joins += u64::from(is_join(expr));
        has_long |= is_long(expr);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((joins, has_long))
}

/// An expression with bounds to what it joins, of `most` bytes each, and to what it is, if it is a long constant.
fn with_bound(expr: Expr, most: u64) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            let side = |side: Box<Expr>| {
                // What is joined of parts is as long as they are together.
                let is_short = matches!(*side, Expr::Literal(_, _)) || is_join(&side) || is_bounded(&side);
                if is_short { side } else { Box::new(bounded(*side, most)) }
            };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: side(left), op: Operator::StringConcat, right: side(right) }))
        }
        Expr::ScalarFunction(mut function) if LOOKING.contains(&function.name()) => {
            function.args = function.args.into_iter().map(unbounded).collect();
            Transformed::yes(Expr::ScalarFunction(function))
        }
        expr if is_long(&expr) => Transformed::yes(bounded(expr, MOST)),
        expr => Transformed::no(expr),
    }
}

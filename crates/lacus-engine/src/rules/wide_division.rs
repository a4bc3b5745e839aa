//! Quotients of decimals whose dividend, widened to the scale of the quotient, has more digits than 128 bits hold: they are computed in 256
//! bits. Arrow fails at them, however small the quotient is.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub(super) struct WideDivision;

impl AnalyzerRule for WideDivision {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(divided)?.data)
    }

    fn name(&self) -> &str {
        "wide_division"
    }
}

fn divided(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut divides = false;
    plan.apply_expressions(|expr| {
        divides |= expr.exists(|expr| Ok(matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Divide, .. }))))?;
        Ok(if divides { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !divides {
        return Ok(Transformed::no(plan));
    }
    let inputs = plan.inputs();
    let schema = if inputs.is_empty() { plan.schema().as_ref().clone() } else { merge_schema(&inputs) };
    let names = NamePreserver::new(&plan);
    let changed = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| widened(expr, &schema))?.update_data(|expr| name.restore(expr)))
    })?;
    changed.map_data(|plan| plan.recompute_schema())
}

fn widened(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) = &expr else { return Ok(Transformed::no(expr)) };
    let (DataType::Decimal128(precision, scale), DataType::Decimal128(divisor, divisor_scale)) =
        (left.get_type(schema)?, right.get_type(schema)?)
    else {
        return Ok(Transformed::no(expr));
    };
    let quotient = expr.get_type(schema)?;
    let DataType::Decimal128(_, quotient_scale) = quotient else { return Ok(Transformed::no(expr)) };
    let digits = i32::from(precision) + i32::from(quotient_scale) - i32::from(scale) + i32::from(divisor_scale);
    if digits <= i32::from(DECIMAL128_MAX_PRECISION) {
        return Ok(Transformed::no(expr));
    }
    let wide = |side: &Expr, precision, scale| Box::new(cast(side.clone(), DataType::Decimal256(precision, scale)));
    let (left, right) = (wide(left, precision, scale), wide(right, divisor, divisor_scale));
    Ok(Transformed::yes(cast(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }), quotient)))
}

//! Operators on bits, which floats have none of: DataFusion rounds them, so that `x ^ 2` is 1 for 2.9, where other databases take powers.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use lacus_core::{Error, Kind};

/// Refuses them; before types are made to fit.
#[derive(Debug)]
pub(super) struct Bits;

impl AnalyzerRule for Bits {
    fn name(&self) -> &str {
        "bits"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            let mut schema = None;
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    if let Expr::BinaryExpr(binary @ BinaryExpr { op, .. }) = expr
                        && is_of_bits(*op)
                    {
                        let inputs = node.inputs();
                        check(binary, schema.get_or_insert_with(|| merge_schema(&inputs)))?;
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(plan)
    }
}

fn is_of_bits(op: Operator) -> bool {
    use Operator::{BitwiseAnd, BitwiseOr, BitwiseShiftLeft, BitwiseShiftRight, BitwiseXor};
    matches!(op, BitwiseAnd | BitwiseOr | BitwiseXor | BitwiseShiftLeft | BitwiseShiftRight)
}

fn check(binary: &BinaryExpr, schema: &DFSchema) -> Result<()> {
    let is_float = |expr: &Expr| expr.get_type(schema).is_ok_and(|of| of.is_floating());
    if !is_float(&binary.left) && !is_float(&binary.right) {
        return Ok(());
    }
    let error = Error::new(Kind::InvalidQuery, format!("`{}` is an operator on bits, and floats have none", binary.op));
    Err(match binary.op {
        Operator::BitwiseXor => error.hint("power(x, 2) takes powers"),
        _ => error.hint("CAST both sides to BIGINT, if bits are meant"),
    }
    .into())
}

//! Numbers that are written out and cast to a decimal keep all of their digits: a literal alone is a float, which has some 16.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{DataType, Expr, UnaryOperator, Value, VisitorMut};

use crate::statement::visit;

/// Casts texts instead of numbers where a decimal is meant.
pub(crate) fn keep_digits(statement: &mut Statement) {
    let _: ControlFlow<()> = visit(statement, &mut Digits);
}

struct Digits;

impl VisitorMut for Digits {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, data_type: DataType::Decimal(_) | DataType::Numeric(_) | DataType::Dec(_), .. } = expr
            && let Some(text) = number(expr)
        {
            **expr = Expr::value(Value::SingleQuotedString(text));
        }
        ControlFlow::Continue(())
    }
}

/// The text of a number that is written out with its sign.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            // One with an exponent is a float to everybody.
            Value::Number(text, _) if !text.contains(['e', 'E']) => Some(text.clone()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => number(expr).map(|text| format!("-{text}")),
        Expr::Nested(expr) => number(expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;
    use lacus_core::Result;

    #[test]
    fn digits_are_kept_in_decimals_alone() -> Result<()> {
        for (sql, kept) in [
            ("SELECT CAST(1.23456789012345678901 AS DECIMAL(22, 20))", "SELECT CAST('1.23456789012345678901' AS DECIMAL(22,20))"),
            ("SELECT (-5)::NUMERIC(3, 1)", "SELECT '-5'::NUMERIC(3,1)"),
            ("SELECT CAST(1.5 AS DOUBLE), CAST(1e3 AS DECIMAL)", "SELECT CAST(1.5 AS DOUBLE), CAST(1e3 AS DECIMAL)"),
        ] {
            let mut statement = parse(sql)?.statement;
            keep_digits(&mut statement);
            assert_eq!(statement.to_string(), kept);
        }
        Ok(())
    }
}

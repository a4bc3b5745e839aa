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

/// So many digits a float keeps.
const OF_A_FLOAT: usize = 15;

/// The text of a number that is written out with its sign, and has more digits than a float keeps.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            // One with an exponent is a float to everybody.
            Value::Number(text, _) if !text.contains(['e', 'E']) && text.len() > OF_A_FLOAT => Some(text.clone()),
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
            ("SELECT (-1234567890123456)::NUMERIC(20, 1)", "SELECT '-1234567890123456'::NUMERIC(20,1)"),
            ("SELECT CAST(1.234567890123456789 AS DOUBLE)", "SELECT CAST(1.234567890123456789 AS DOUBLE)"),
            ("SELECT CAST(1e3 AS DECIMAL), 5::NUMERIC(3,1)", "SELECT CAST(1e3 AS DECIMAL), 5::NUMERIC(3,1)"),
        ] {
            let mut statement = parse(sql)?.statement;
            keep_digits(&mut statement);
            assert_eq!(statement.to_string(), kept);
        }
        Ok(())
    }
}

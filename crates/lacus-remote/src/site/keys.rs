//! What a join has found on its other side, as a condition for a site: only rows that may be of use have to travel.
//!
//! A condition here leaves rows out that the join would leave out, and may leave in others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, Column, InListExpr, IsNullExpr, Literal};

use super::select::Select;
use super::words;

/// How long the text of a condition may be: a long list of keys costs more than the rows that it keeps away.
const LONGEST: usize = 256 << 10;

/// The condition that an expression is of the columns of a statement; `None` if it is none that a site can be asked.
pub(super) fn condition(expr: &Arc<dyn PhysicalExpr>, select: &Select, schema: &Schema) -> Option<String> {
    let text = Keys { select, schema }.condition(expr)?;
    (text.len() <= LONGEST).then_some(text)
}

struct Keys<'a> {
    select: &'a Select,
    schema: &'a Schema,
}

impl Keys<'_> {
    fn condition(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            return match binary.op() {
                // One of two conditions leaves in more than both.
                Operator::And => match (self.condition(binary.left()), self.condition(binary.right())) {
                    (Some(left), Some(right)) => Some(format!("({left} AND {right})")),
                    (one, other) => one.or(other),
                },
                Operator::Or => Some(format!("({} OR {})", self.condition(binary.left())?, self.condition(binary.right())?)),
                op => {
                    let (column, value) = (binary.left().downcast_ref::<Column>()?, binary.right().downcast_ref::<Literal>()?);
                    self.compared(column, value, words::compared_by(*op)?, !matches!(op, Operator::Eq | Operator::NotEq))
                }
            };
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            let column = list.expr().downcast_ref::<Column>()?;
            let value = |value: &Arc<dyn PhysicalExpr>| self.value(column, value.downcast_ref::<Literal>()?);
            // What is unknown is equal to nothing.
            let known = list.list().iter().filter(|value| value.downcast_ref::<Literal>().is_none_or(|value| !value.value().is_null()));
            let values = known.map(value).collect::<Option<Vec<_>>>().filter(|values| !values.is_empty() && !list.negated())?;
            return Some(self.select.dialect.one_of(self.select.columns.get(column.index())?, &values));
        }
        if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            let column = is_null.arg().downcast_ref::<Column>()?;
            return Some(format!("{} IS NULL", self.select.columns.get(column.index())?));
        }
        // One condition for each partition of the join: a row that fits none of them fits that of its own neither.
        let case = expr.downcast_ref::<CaseExpr>()?;
        let branches = case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr());
        let possible = branches.filter(|branch| !is_false(branch));
        let conditions = possible.map(|branch| self.condition(branch)).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
        Some(format!("({})", conditions.join(" OR ")))
    }

    fn compared(&self, column: &Column, value: &Literal, sign: &str, is_order: bool) -> Option<String> {
        let text = self.select.columns.get(column.index())?;
        self.select.dialect.compared(text, self.data_type(column)?, sign, value.value(), is_order)
    }

    /// A value that a column may be equal to.
    fn value(&self, column: &Column, value: &Literal) -> Option<String> {
        self.select.dialect.value(self.data_type(column)?, value.value(), false)
    }

    fn data_type(&self, column: &Column) -> Option<&DataType> {
        Some(self.schema.fields().get(column.index())?.data_type())
    }
}

fn is_false(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|literal| *literal.value() == datafusion_common::ScalarValue::Boolean(Some(false)))
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::{ANY, select};
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Field;
    use datafusion_common::Result;
    use datafusion_physical_expr::expressions::{binary, case, col, lit};

    #[test]
    fn keys_of_all_partitions_are_asked_for() -> Result<()> {
        let schema = Schema::new(vec![Field::new("i", DataType::Int64, true), Field::new("f", DataType::Float64, true)]);
        let select = select(ANY, &["i".to_owned(), "f".to_owned()]);
        let list = |values: Vec<Option<i64>>| -> Result<Arc<dyn PhysicalExpr>> {
            Ok(Arc::new(InListExpr::try_new_from_array(
                col("i", &schema)?,
                Arc::new(Int64Array::from(values)) as ArrayRef,
                false,
                &schema,
            )?))
        };
        let text = |expr: &Arc<dyn PhysicalExpr>| condition(expr, &select, &schema);
        let range = binary(
            binary(col("i", &schema)?, Operator::GtEq, lit(1_i64), &schema)?,
            Operator::And,
            binary(col("i", &schema)?, Operator::LtEq, lit(9_i64), &schema)?,
            &schema,
        )?;
        let bound = binary(Arc::clone(&range), Operator::And, list(vec![Some(1), None, Some(9)])?, &schema)?;
        assert_eq!(text(&bound).as_deref(), Some("((\"i\" >= 1 AND \"i\" <= 9) AND \"i\" IN (1, 9))"));
        // Floating point isn't compared alike everywhere, but the keys are enough.
        let unsure = binary(col("f", &schema)?, Operator::GtEq, lit(1.5), &schema)?;
        let both = binary(Arc::clone(&unsure), Operator::And, Arc::clone(&range), &schema)?;
        assert_eq!(text(&both), text(&range));
        assert_eq!(text(&binary(Arc::clone(&unsure), Operator::Or, Arc::clone(&range), &schema)?), None);
        let partition = |place: u64| (lit(place), list(vec![Some(i64::try_from(place).unwrap_or_default())]));
        let (one, two) = (partition(0), partition(1));
        let routed = case(Some(lit(0_u64)), vec![(one.0, one.1?), (two.0, two.1?)], Some(lit(false)))?;
        assert_eq!(text(&routed).as_deref(), Some("(\"i\" IN (0) OR \"i\" IN (1))"));
        let open = case(Some(lit(0_u64)), vec![(lit(0_u64), list(vec![Some(1)])?)], Some(lit(true)))?;
        assert_eq!(text(&open), None);
        assert_eq!(text(&lit(true)), None);
        Ok(())
    }
}

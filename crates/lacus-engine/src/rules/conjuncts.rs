//! Filters of several conditions as bitmaps that are combined; DataFusion evaluates each condition behind the one before, on copies of the
//! rows that are left once they are few.
//!
//! Comparisons of numbers come first and see whole batches: they take less time than a copy of the rows. What takes more, such as LIKE,
//! sees the rows that are left. It comes behind all other rules on physical plans, which look into conditions, and leaves filters alone
//! that hold a column constant or two equal.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, IsNotNullExpr, IsNullExpr, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

pub(super) const NAME: &str = "conjuncts";

#[derive(Debug)]
pub(super) struct Conjuncts;

impl PhysicalOptimizerRule for Conjuncts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_down(combined)?.data)
    }

    fn name(&self) -> &str {
        NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn combined(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(plan)) };
    let conjuncts = split_conjunction(filter.predicate());
    if conjuncts.len() < 2 || conjuncts.iter().any(|conjunct| is_volatile(conjunct)) {
        return Ok(Transformed::no(plan));
    }
    let predicate = All::of(&conjuncts, &filter.input().schema())?;
    let combined = FilterExecBuilder::from(filter).with_predicate(Arc::new(predicate)).build()?;
    // What stands above may rely on columns that a condition makes constant or equal, which only conditions of DataFusion's own tell.
    let known = |filter: &FilterExec| filter.properties().equivalence_properties().to_string();
    if known(filter) != known(&combined) {
        return Ok(Transformed::no(plan));
    }
    Ok(Transformed::yes(Arc::new(combined)))
}

/// Whether all of some conditions hold; one that is NULL does not.
#[derive(Debug, PartialEq, Eq, Hash)]
struct All {
    /// Comparisons of numbers, evaluated on whole batches.
    cheap: Vec<Arc<dyn PhysicalExpr>>,
    /// The others, in their order.
    costly: Vec<Costly>,
}

/// A condition that is evaluated on the rows that are left.
#[derive(Debug, Eq)]
struct Costly {
    condition: Arc<dyn PhysicalExpr>,
    /// The columns that it needs, ascending.
    columns: Vec<usize>,
    /// The condition on those columns alone.
    on_columns: Arc<dyn PhysicalExpr>,
}

// Derived ones would move the conditions.
impl PartialEq for Costly {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Hash for Costly {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl Costly {
    fn of(condition: Arc<dyn PhysicalExpr>) -> Result<Self> {
        let mut columns: Vec<usize> = collect_columns(&condition).iter().map(Column::index).collect();
        columns.sort_unstable();
        let placed = |expr: Arc<dyn PhysicalExpr>| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let place = columns.partition_point(|index| *index < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>))
        };
        let on_columns = Arc::clone(&condition).transform_down(placed)?.data;
        Ok(Self { condition, columns, on_columns })
    }

    /// Which of the rows in `left` pass.
    fn among(&self, batch: &RecordBatch, left: BooleanArray) -> Result<BooleanArray> {
        let (rows, of_rows) = (left.true_count(), batch.num_rows());
        if rows == 0 {
            return Ok(left);
        }
        // A copy of most rows costs more than the condition saves on the others.
        if rows > of_rows / 2 {
            return Ok(both(&left, &holds(&self.condition, batch)?));
        }
        let passed = holds(&self.on_columns, &filter_record_batch(&batch.project(&self.columns)?, &left)?)?;
        let mut among = BooleanBufferBuilder::new(of_rows);
        among.append_n(of_rows, false);
        left.values().set_indices().zip(passed.values()).filter(|(_, passed)| *passed).for_each(|(row, _)| among.set_bit(row, true));
        Ok(BooleanArray::new(among.finish(), None))
    }
}

impl All {
    fn of(conditions: &[&Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<Self> {
        let (cheap, costly): (Vec<_>, Vec<_>) = conditions.iter().map(|each| Arc::clone(each)).partition(|each| is_cheap(each, schema));
        Ok(Self { cheap, costly: costly.into_iter().map(Costly::of).collect::<Result<_>>()? })
    }
}

/// A comparison of numbers, which can't fail either: whether a row is looked at that another condition rules out makes no difference.
fn is_cheap(condition: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let is_number = |side: &Arc<dyn PhysicalExpr>| {
        let plain = side.is::<Column>() || side.is::<Literal>();
        plain && side.data_type(schema).is_ok_and(|kind| kind.is_primitive() && kind != DataType::Null)
    };
    match condition.downcast_ref::<BinaryExpr>() {
        Some(comparison) => is_order(*comparison.op()) && is_number(comparison.left()) && is_number(comparison.right()),
        None => {
            condition.children().iter().all(|child| child.is::<Column>())
                && (condition.is::<IsNullExpr>() || condition.is::<IsNotNullExpr>())
        }
    }
}

fn is_order(operator: Operator) -> bool {
    matches!(operator, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// The rows in which a condition holds, without NULLs.
fn holds(condition: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let array = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(held) = array.as_boolean_opt() else { return internal_err!("`{condition}` is no condition") };
    Ok(if held.null_count() > 0 { prep_null_mask_filter(held) } else { BooleanArray::new(held.values().clone(), None) })
}

fn both(one: &BooleanArray, other: &BooleanArray) -> BooleanArray {
    BooleanArray::new(one.values() & other.values(), None)
}

impl PhysicalExpr for All {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let mut left = BooleanArray::new(BooleanBuffer::new_set(batch.num_rows()), None);
        for condition in &self.cheap {
            left = both(&left, &holds(condition, batch)?);
        }
        for condition in &self.costly {
            left = condition.among(batch, left)?;
        }
        Ok(ColumnarValue::Array(Arc::new(left)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.cheap.iter().chain(self.costly.iter().map(|costly| &costly.condition)).collect()
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let costly = children.split_off(self.cheap.len());
        Ok(Arc::new(Self { cheap: children, costly: costly.into_iter().map(Costly::of).collect::<Result<_>>()? }))
    }

    fn fmt_sql(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.write(formatter, |condition, formatter| condition.fmt_sql(formatter))
    }
}

impl Display for All {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.write(formatter, |condition, formatter| write!(formatter, "{condition}"))
    }
}

impl All {
    fn write(
        &self,
        formatter: &mut Formatter<'_>,
        each: impl Fn(&Arc<dyn PhysicalExpr>, &mut Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        formatter.write_str("all(")?;
        for (place, condition) in self.children().into_iter().enumerate() {
            formatter.write_str(if place == 0 { "" } else { ", " })?;
            each(condition, formatter)?;
        }
        formatter.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int32Array, StringArray};
    use datafusion::arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{binary, lit};

    /// All combinations of conditions, cheap and costly, hold where DataFusion's AND holds.
    #[test]
    fn rows_are_those_of_and() -> Result<()> {
        let rows = 1000;
        let number = |row: i32| (row % 7 != 0).then_some(row * 37 % 100);
        let schema = Arc::new(Schema::new(vec![
            Field::new("unused", DataType::Float64, true),
            Field::new("n", DataType::Int32, true),
            // Two columns of one name, as joins have them.
            Field::new("s", DataType::Utf8, true),
            Field::new("s", DataType::Utf8, true),
        ]));
        let text =
            |step: i32| (0..rows).map(move |row| number(row).map(|number| format!("{}", number * step % 90))).collect::<StringArray>();
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Float64Array::from(vec![1.0; rows as usize])),
            Arc::new((0..rows).map(number).collect::<Int32Array>()),
            Arc::new(text(1)),
            Arc::new(text(13)),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let column = |place: usize| Arc::new(Column::new(schema.field(place).name(), place)) as Arc<dyn PhysicalExpr>;
        let compare = |place, op, value| binary(column(place), op, value, &schema);
        let conditions = [
            compare(1, Operator::Gt, lit(20))?,
            compare(1, Operator::LtEq, lit(90))?,
            compare(1, Operator::Eq, lit(74))?,
            compare(2, Operator::Lt, lit("5"))?,
            compare(3, Operator::Gt, lit("3"))?,
            binary(compare(1, Operator::Lt, lit(10))?, Operator::Or, compare(3, Operator::Gt, lit("7"))?, &schema)?,
        ];
        for chosen in 1u32..1 << conditions.len() {
            let chosen: Vec<_> =
                conditions.iter().enumerate().filter(|(place, _)| chosen >> place & 1 == 1).map(|(_, each)| each).collect();
            let mut and = Arc::clone(chosen[0]);
            for each in &chosen[1..] {
                and = binary(and, Operator::And, Arc::clone(each), &schema)?;
            }
            let all: Arc<dyn PhysicalExpr> = Arc::new(All::of(&chosen, &schema)?);
            assert_eq!(holds(&all, &batch)?, holds(&and, &batch)?, "{and}");
            let again = Arc::clone(&all).with_new_children(all.children().into_iter().map(Arc::clone).collect())?;
            assert_eq!(&all, &again);
        }
        Ok(())
    }
}

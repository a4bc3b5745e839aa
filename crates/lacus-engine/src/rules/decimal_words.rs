//! Sums, differences and products of decimals in machine words; Arrow computes them in 128 bits, and looks at each value for an overflow.
//!
//! Most decimals of 128 bits fit into 64. The product of two words fits into 128 bits, and so does the sum of two words times powers of ten
//! below 2^60, so nothing can overflow; from the first batch with a value that doesn't fit on, Arrow computes. It comes behind the rules that
//! look into expressions, and sees none that were moved into a scan.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, AsArray, Decimal128Array, PrimitiveArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::sort_properties::ExprProperties;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr_common::datum::apply;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

pub(super) const NAME: &str = "decimal_words";

#[derive(Debug)]
pub(super) struct DecimalWords;

impl PhysicalOptimizerRule for DecimalWords {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(node_in_words).data()
    }

    fn name(&self) -> &str {
        NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn node_in_words(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let changed = projected_in_words(projection)?;
        return Ok(changed.map_or_else(|| Transformed::no(plan), Transformed::yes));
    }
    // What merges states doesn't evaluate arguments.
    let aggregate = plan.downcast_ref::<AggregateExec>().filter(|aggregate| aggregate.mode().input_mode() == AggregateInputMode::Raw);
    let Some(aggregate) = aggregate else { return Ok(Transformed::no(plan)) };
    let schema = aggregate.input_schema();
    let functions: Vec<_> = aggregate.aggr_expr().iter().map(|function| function_in_words(function, &schema)).collect::<Result<_>>()?;
    if functions.iter().all(|function| !function.transformed) {
        return Ok(Transformed::no(plan));
    }
    let functions: Vec<_> = functions.into_iter().map(|function| function.data).collect();
    Ok(Transformed::yes(Arc::new(aggregate.with_new_aggr_exprs(functions))))
}

fn projected_in_words(projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let schema = projection.input().schema();
    let columns: Vec<_> = projection.expr().iter().map(|column| in_words(&column.expr, &schema)).collect::<Result<_>>()?;
    if columns.iter().all(|column| !column.transformed) {
        return Ok(None);
    }
    let columns =
        projection.expr().iter().zip(columns).map(|(before, column)| ProjectionExpr { expr: column.data, alias: before.alias.clone() });
    let changed = ProjectionExec::try_new_with_schema_metadata(columns, Arc::clone(projection.input()), &projection.schema())?;
    // An order by an expression is known by the expression that the plan below tells.
    let known = |node: &ProjectionExec| node.properties().equivalence_properties().to_string();
    Ok((known(projection) == known(&changed)).then(|| Arc::new(changed) as Arc<dyn ExecutionPlan>))
}

fn function_in_words(function: &Arc<AggregateFunctionExpr>, schema: &Schema) -> Result<Transformed<Arc<AggregateFunctionExpr>>> {
    let arguments: Vec<_> = function.expressions().iter().map(|argument| in_words(argument, schema)).collect::<Result<_>>()?;
    if !function.order_bys().is_empty() || function.is_reversed() || arguments.iter().all(|argument| !argument.transformed) {
        return Ok(Transformed::no(Arc::clone(function)));
    }
    let changed = function.with_new_expressions(arguments.into_iter().map(|argument| argument.data).collect(), Vec::new());
    Ok(changed.map_or_else(|| Transformed::no(Arc::clone(function)), |changed| Transformed::yes(Arc::new(changed))))
}

fn in_words(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expr).transform_up(|expr| {
        let words = Words::of(&expr, schema)?;
        Ok(words.map_or_else(|| Transformed::no(expr), |words| Transformed::yes(Arc::new(words))))
    })
}

/// What a batch of one side holds.
enum Side<'a> {
    Each(&'a Decimal128Array),
    One(i128),
}

impl<'a> Side<'a> {
    /// `None` for what Arrow computes: a NULL, and anything but decimals of 128 bits.
    fn of(value: &'a ColumnarValue) -> Option<Self> {
        match value {
            ColumnarValue::Array(array) => array.as_primitive_opt::<Decimal128Type>().map(Self::Each),
            ColumnarValue::Scalar(ScalarValue::Decimal128(value, _, _)) => value.map(Self::One),
            ColumnarValue::Scalar(_) => None,
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Each(array) => array.nulls(),
            Self::One(_) => None,
        }
    }
}

/// An operation on two decimals, in words where they fit.
#[derive(Debug)]
struct Words {
    /// The same operation of DataFusion.
    plain: BinaryExpr,
    of: DataType,
    /// What brings each side to the scale of a sum; 1 for a product.
    factors: (i64, i64),
    /// Whether a value didn't fit: others won't, either.
    is_wide: AtomicBool,
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain
    }
}

impl Eq for Words {}

impl Hash for Words {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plain.hash(state);
    }
}

impl Words {
    fn of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<Self>> {
        let Some(plain) = expr.downcast_ref::<BinaryExpr>() else { return Ok(None) };
        let sides = (plain.left().data_type(schema)?, plain.right().data_type(schema)?);
        let (DataType::Decimal128(_, left), DataType::Decimal128(_, right)) = sides else { return Ok(None) };
        let of = plain.data_type(schema)?;
        let DataType::Decimal128(_, scale) = of else { return Ok(None) };
        let factors = match plain.op() {
            Operator::Multiply => (scale == left.saturating_add(right)).then_some((1, 1)),
            Operator::Plus | Operator::Minus if scale == left.max(right) => factor(scale, left).zip(factor(scale, right)),
            _ => None,
        };
        Ok(factors.map(|factors| Self { plain: plain.clone(), of, factors, is_wide: AtomicBool::new(false) }))
    }

    /// `None` if a value doesn't fit.
    fn computed(&self, left: &ColumnarValue, right: &ColumnarValue) -> Option<Decimal128Array> {
        if self.is_wide.load(Ordering::Relaxed) {
            return None;
        }
        let (left, right) = (&Side::of(left)?, &Side::of(right)?);
        let (by_left, by_right) = self.factors;
        let values = match self.plain.op() {
            Operator::Multiply => each(left, right, product),
            Operator::Plus => each(left, right, |left, right| product(left, by_left) + product(right, by_right)),
            _ => each(left, right, |left, right| product(left, by_left) - product(right, by_right)),
        };
        let Some(values) = values else {
            self.is_wide.store(true, Ordering::Relaxed);
            return None;
        };
        let nulls = NullBuffer::union(left.nulls(), right.nulls());
        Some(PrimitiveArray::new(values.into(), nulls).with_data_type(self.of.clone()))
    }
}

/// What a word of one scale is multiplied by for a higher one.
fn factor(to: i8, from: i8) -> Option<i64> {
    10i64.checked_pow(u32::try_from(i16::from(to) - i16::from(from)).ok()?)
}

fn product(left: i64, right: i64) -> i128 {
    i128::from(left) * i128::from(right)
}

fn each(left: &Side<'_>, right: &Side<'_>, of: impl Fn(i64, i64) -> i128) -> Option<Vec<i128>> {
    let mut over = 0;
    let values = match (left, right) {
        (Side::Each(left), Side::Each(right)) => {
            let pairs = left.values().iter().zip(right.values());
            pairs.map(|(left, right)| of(word(*left, &mut over), word(*right, &mut over))).collect()
        }
        (Side::Each(left), Side::One(right)) => {
            let right = word(*right, &mut over);
            left.values().iter().map(|left| of(word(*left, &mut over), right)).collect()
        }
        (Side::One(left), Side::Each(right)) => {
            let left = word(*left, &mut over);
            right.values().iter().map(|right| of(left, word(*right, &mut over))).collect()
        }
        (Side::One(_), Side::One(_)) => return None,
    };
    (over == 0).then_some(values)
}

/// The lower half of a value; `over` is no longer 0 if that isn't all of it.
#[expect(clippy::cast_possible_truncation, reason = "what is lost is looked at")]
fn word(value: i128, over: &mut i64) -> i64 {
    let low = value as i64;
    *over |= (value >> 64) as i64 ^ low >> 63;
    low
}

impl PhysicalExpr for Words {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.of.clone())
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.plain.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.plain.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (left, right) = (self.plain.left().evaluate(batch)?, self.plain.right().evaluate(batch)?);
        if let Some(fast) = self.computed(&left, &right) {
            return Ok(ColumnarValue::Array(Arc::new(fast)));
        }
        match self.plain.op() {
            Operator::Multiply => apply(&left, &right, numeric::mul),
            Operator::Plus => apply(&left, &right, numeric::add),
            _ => apply(&left, &right, numeric::sub),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.plain.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let plain = Arc::new(self.plain.clone()).with_new_children(children)?;
        let again = plain.downcast_ref::<BinaryExpr>().map(|plain| Self {
            plain: plain.clone(),
            of: self.of.clone(),
            factors: self.factors,
            is_wide: AtomicBool::new(false),
        });
        Ok(again.map_or_else(|| Arc::clone(&plain), |again| Arc::new(again)))
    }

    fn get_properties(&self, children: &[ExprProperties]) -> Result<ExprProperties> {
        self.plain.get_properties(children)
    }

    fn fmt_sql(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.plain.fmt_sql(formatter)
    }
}

impl Display for Words {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "words({})", self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{Column, binary, lit};

    const EDGES: [i128; 10] =
        [0, 1, -1, 99, -12_345_678_901_234, i64::MAX as i128, i64::MIN as i128, i64::MAX as i128 + 1, i64::MIN as i128 - 1, -(1 << 90)];

    fn decimals(values: impl Iterator<Item = Option<i128>>, scale: i8) -> Result<Arc<dyn Array>> {
        Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(38, scale)?))
    }

    /// The answer, or that there is none.
    fn answer(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Option<Arc<dyn Array>> {
        expr.evaluate(batch).ok()?.into_array(batch.num_rows()).ok()
    }

    /// All pairs of values that just fit and that just don't, one by one and in one batch, of columns and constants of unlike scales.
    #[test]
    fn answers_are_those_of_arrow() -> Result<()> {
        let (scales, edges) = ((2, 5), EDGES.map(Some).into_iter().chain([None]));
        let pairs: Vec<_> = edges.clone().flat_map(|left| edges.clone().map(move |right| (left, right))).collect();
        let kind = |scale| DataType::Decimal128(38, scale);
        let schema = Arc::new(Schema::new(vec![Field::new("a", kind(scales.0), true), Field::new("b", kind(scales.1), true)]));
        let column = |name, place| Arc::new(Column::new(name, place)) as Arc<dyn PhysicalExpr>;
        let (mut compared, mut refused) = (0, 0);
        for op in [Operator::Multiply, Operator::Plus, Operator::Minus] {
            for chosen in pairs.chunks(1).chain([pairs.as_slice(), &pairs[..7]]) {
                let left = decimals(chosen.iter().map(|(left, _)| *left), scales.0)?;
                let right = decimals(chosen.iter().map(|(_, right)| *right), scales.1)?;
                let batch = RecordBatch::try_new(Arc::clone(&schema), vec![left, right])?;
                let constant = |value: Option<i128>, scale| lit(ScalarValue::Decimal128(value, 38, scale));
                let sides = [
                    (column("a", 0), column("b", 1)),
                    (column("a", 0), constant(chosen[0].1, scales.1)),
                    (constant(chosen[0].0, scales.0), column("b", 1)),
                ];
                for (left, right) in sides {
                    let plain = binary(left, op, right, &schema)?;
                    let words = in_words(&plain, &schema)?;
                    assert!(words.transformed && words.data.is::<Words>());
                    let expected = answer(&plain, &batch);
                    assert_eq!(answer(&words.data, &batch), expected, "{plain} of {chosen:?}");
                    assert_eq!(words.data.data_type(&schema)?, plain.data_type(&schema)?);
                    (compared, refused) = (compared + 1, refused + usize::from(expected.is_none()));
                }
            }
        }
        assert!(refused > 0 && refused < compared / 2, "{refused} of {compared}");
        Ok(())
    }

    #[test]
    fn only_decimals_of_one_kind_are_computed_in_words() -> Result<()> {
        let kinds = [DataType::Decimal128(15, 2), DataType::Float64, DataType::Decimal256(50, 2), DataType::Decimal128(30, 25)];
        let schema = Schema::new(kinds.iter().map(|kind| Field::new("c", kind.clone(), true)).collect::<Vec<_>>());
        let column = |place| Arc::new(Column::new("c", place)) as Arc<dyn PhysicalExpr>;
        for (left, op, right, changes) in [
            (0, Operator::Multiply, 0, true),
            (0, Operator::Divide, 0, false),
            (0, Operator::Gt, 0, false),
            (1, Operator::Multiply, 1, false),
            (2, Operator::Plus, 2, false),
            // 10 to the power of 23 is no word.
            (0, Operator::Plus, 3, false),
            (3, Operator::Minus, 3, true),
        ] {
            let expr: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column(left), op, column(right)));
            let words = in_words(&expr, &schema)?;
            assert_eq!(words.transformed, changes, "{expr}");
            if changes {
                let again = Arc::clone(&words.data).with_new_children(words.data.children().into_iter().map(Arc::clone).collect())?;
                assert_eq!(&again, &words.data);
            }
        }
        Ok(())
    }
}

//! Averages, variances and correlations of several inputs, put together from those of each.
//!
//! Moments are merged pair by pair around their means (Chan, Golub and LeVeque 1979), as sums of squares would lose all digits of values that
//! lie far from zero.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions_aggregate_common::utils::DecimalAverager;

/// A function of the moments of one column, or of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Moment {
    Var,
    VarPop,
    Stddev,
    StddevPop,
    CovarSamp,
    CovarPop,
    Corr,
}

impl Moment {
    /// The function of one column that has a name.
    pub(super) fn of_one(name: &str) -> Option<Self> {
        match name {
            "var" => Some(Self::Var),
            "var_pop" => Some(Self::VarPop),
            "stddev" => Some(Self::Stddev),
            "stddev_pop" => Some(Self::StddevPop),
            _ => None,
        }
    }

    /// The function of two columns that has a name.
    pub(super) fn of_two(name: &str) -> Option<Self> {
        match name {
            "covar_samp" => Some(Self::CovarSamp),
            "covar_pop" => Some(Self::CovarPop),
            "corr" => Some(Self::Corr),
            _ => None,
        }
    }

    fn is_of_one(self) -> bool {
        matches!(self, Self::Var | Self::VarPop | Self::Stddev | Self::StddevPop)
    }
}

/// A function that merges moments: of one column its count, mean and variance; of two their count, means, covariance and variances.
pub(super) fn merged_moments(moment: Moment) -> Arc<AggregateUDF> {
    let places = if moment.is_of_one() { 2 } else { 5 };
    let types = [DataType::Int64].into_iter().chain(std::iter::repeat_n(DataType::Float64, places));
    let signature = Signature::exact(types.collect(), Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(MergedMoments { moment, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MergedMoments {
    moment: Moment,
    signature: Signature,
}

impl AggregateUDFImpl for MergedMoments {
    fn name(&self) -> &'static str {
        "merged_moments"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Moments { moment: self.moment, ..Moments::EMPTY }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |place: usize| {
            let data_type = if place == 0 { DataType::Int64 } else { DataType::Float64 };
            Arc::new(Field::new(format!("{}[{place}]", args.name), data_type, true))
        };
        Ok((0..6).map(field).collect())
    }
}

/// What is known of the pairs that were seen: how many, their means, and the sums of the products of what they differ from these by.
#[derive(Debug, Clone)]
struct Moments {
    moment: Moment,
    count: i64,
    means: [f64; 2],
    products: f64,
    squares: [f64; 2],
}

impl Moments {
    const EMPTY: Self = Self { moment: Moment::Var, count: 0, means: [0.0; 2], products: 0.0, squares: [0.0; 2] };

    #[expect(clippy::cast_precision_loss, reason = "a count of rows is far below 2^53")]
    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = Self { moment: self.moment, ..other.clone() };
            return;
        }
        let (own, others) = (self.count as f64, other.count as f64);
        let all = own + others;
        let [dx, dy] = [0, 1].map(|side| other.means[side] - self.means[side]);
        self.products += other.products + dx * dy * own * others / all;
        for (side, delta) in [dx, dy].into_iter().enumerate() {
            self.squares[side] += other.squares[side] + delta * delta * own * others / all;
            self.means[side] += delta * others / all;
        }
        self.count += other.count;
    }
}

/// The values of a column of floating point.
fn floats(values: &ArrayRef, row: usize) -> f64 {
    let values = values.as_primitive::<Float64Type>();
    if values.is_null(row) { 0.0 } else { values.value(row) }
}

impl Accumulator for Moments {
    #[expect(clippy::cast_precision_loss, reason = "a count of rows is far below 2^53")]
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let counts = values[0].as_primitive::<Int64Type>();
        for row in (0..counts.len()).filter(|row| !counts.is_null(*row)) {
            let (count, at) = (counts.value(row), |place: usize| floats(&values[place], row));
            let rows = count as f64;
            let part = match values.len() {
                3 => Self { count, means: [at(1), 0.0], squares: [at(2) * rows, 0.0], ..Self::EMPTY },
                6 => Self { count, means: [at(1), at(2)], products: at(3) * rows, squares: [at(4) * rows, at(5) * rows], ..Self::EMPTY },
                other => return internal_err!("{other} columns of moments"),
            };
            self.add(&part);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of rows is far below 2^53")]
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let rows = self.count as f64;
        let ([x, y], [of_x, of_y]) = (self.squares, self.means);
        let (some, several) = (self.count > 0, self.count > 1);
        let result = match self.moment {
            Moment::Var => several.then(|| x / (rows - 1.0)),
            Moment::VarPop => some.then(|| x / rows),
            Moment::Stddev => several.then(|| (x / (rows - 1.0)).sqrt()),
            Moment::StddevPop => some.then(|| (x / rows).sqrt()),
            Moment::CovarSamp => several.then(|| self.products / (rows - 1.0)),
            Moment::CovarPop => some.then(|| self.products / rows),
            // As DataFusion has it: unknown where one of both is no number or doesn't vary.
            Moment::Corr if of_x.is_nan() && of_y.is_nan() => Some(f64::NAN),
            Moment::Corr => {
                (several && !of_x.is_nan() && !of_y.is_nan() && x != 0.0 && y != 0.0).then(|| self.products / x.sqrt() / y.sqrt())
            }
        };
        Ok(ScalarValue::Float64(result))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let floats = [self.means[0], self.means[1], self.products, self.squares[0], self.squares[1]];
        Ok(std::iter::once(self.count.into()).chain(floats.into_iter().map(Into::into)).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<Int64Type>();
        for row in 0..counts.len() {
            let at = |place: usize| floats(&states[place], row);
            let part = Self { count: counts.value(row), means: [at(1), at(2)], products: at(3), squares: [at(4), at(5)], ..Self::EMPTY };
            self.add(&part);
        }
        Ok(())
    }
}

/// The quotient of a sum of decimals and their count, rounded as their average is.
pub(super) fn decimal_average(sum: Expr, count: Expr, scale: i8, wanted: &DataType) -> Expr {
    let average = DecimalAverage { scale, wanted: wanted.clone(), signature: Signature::any(2, Volatility::Immutable) };
    ScalarUDF::new_from_impl(average).call(vec![sum, count])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DecimalAverage {
    scale: i8,
    wanted: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for DecimalAverage {
    fn name(&self) -> &'static str {
        "decimal_average"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.wanted.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(precision, scale) = self.wanted else { return internal_err!("an average of type {}", self.wanted) };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (sums, counts) = (arrays[0].as_primitive_opt::<Decimal128Type>(), arrays[1].as_primitive_opt::<Int64Type>());
        let (Some(sums), Some(counts)) = (sums, counts) else { return internal_err!("an average of no sum and count") };
        let averager = DecimalAverager::<Decimal128Type>::try_new(self.scale, precision, scale)?;
        let average = |(sum, count): (Option<i128>, Option<i64>)| match (sum, count) {
            (Some(sum), Some(count)) if count != 0 => averager.avg(sum, i128::from(count)).map(Some),
            _ => Ok(None),
        };
        let averages = sums.iter().zip(counts).map(average).collect::<Result<Decimal128Array>>()?;
        let averages = averages.with_precision_and_scale(precision, scale).map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok(ColumnarValue::Array(Arc::new(averages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};

    /// One of the values of a pair.
    type Side = fn(&(f64, f64)) -> f64;

    fn merged(moment: Moment, parts: &[&[(f64, f64)]]) -> Result<Option<f64>> {
        let mut all = Moments { moment, ..Moments::EMPTY };
        for part in parts {
            #[expect(clippy::cast_precision_loss, reason = "few values")]
            let rows = part.len() as f64;
            let mean = |side: Side| part.iter().map(side).sum::<f64>() / rows;
            let (x, y): (Side, Side) = (|pair| pair.0, |pair| pair.1);
            let product = |a: Side, b: Side| part.iter().map(|pair| (a(pair) - mean(a)) * (b(pair) - mean(b))).sum::<f64>() / rows;
            let floats = [mean(x), mean(y), product(x, y), product(x, x), product(y, y)];
            let floats = if moment.is_of_one() { vec![floats[0], floats[3]] } else { floats.to_vec() };
            let counts: ArrayRef = Arc::new(Int64Array::from(vec![i64::try_from(part.len()).unwrap_or_default()]));
            let known = floats.into_iter().map(|value| Some(value).filter(|value| !value.is_nan()));
            let columns = known.map(|value| Arc::new(Float64Array::from(vec![value])) as ArrayRef);
            all.update_batch(&[counts].into_iter().chain(columns).collect::<Vec<_>>())?;
        }
        match all.evaluate()? {
            ScalarValue::Float64(value) => Ok(value),
            other => internal_err!("{other}"),
        }
    }

    #[test]
    fn moments_of_parts_are_those_of_the_whole() -> Result<()> {
        // Far from zero, where sums of squares have no digit left.
        let far = 1e9;
        let pairs: Vec<(f64, f64)> = [1.0, 2.0, 4.0, 8.0, 9.0].into_iter().map(|x| (far + x, far - 2.0 * x)).collect();
        let (variance, covariance) = (50.8 / 5.0, -101.6 / 5.0);
        let close = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 1e-6 * wanted.abs());
        for parts in [vec![&pairs[..]], vec![&pairs[..2], &pairs[2..]], vec![&pairs[..1], &pairs[1..1], &pairs[1..4], &pairs[4..]]] {
            assert!(close(merged(Moment::VarPop, &parts)?, variance));
            assert!(close(merged(Moment::Var, &parts)?, variance * 5.0 / 4.0));
            assert!(close(merged(Moment::StddevPop, &parts)?, variance.sqrt()));
            assert!(close(merged(Moment::CovarPop, &parts)?, covariance));
            assert!(close(merged(Moment::CovarSamp, &parts)?, covariance * 5.0 / 4.0));
            assert!(close(merged(Moment::Corr, &parts)?, -1.0));
        }
        Ok(())
    }

    #[test]
    fn too_few_values_have_no_moments() -> Result<()> {
        let one: &[(f64, f64)] = &[(1.0, 2.0)];
        assert_eq!(merged(Moment::Var, &[one])?, None);
        assert_eq!(merged(Moment::VarPop, &[one])?, Some(0.0));
        assert_eq!(merged(Moment::CovarSamp, &[one])?, None);
        assert_eq!(merged(Moment::Corr, &[one, &[(1.0, 3.0)]])?, None);
        assert_eq!(merged(Moment::StddevPop, &[])?, None);
        Ok(())
    }
}

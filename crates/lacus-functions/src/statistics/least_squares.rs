//! Ordinary least squares: how a quantity depends on others, with the errors of what is estimated.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StringArray, StructArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDFImpl, Documentation, Signature, Volatility};
use lacus_core::{Error, Kind};

use super::cross::Cross;
use super::sums::Wide;
use super::{STATISTICS, numbers, refuse_distinct, tails, tested};
use crate::arguments::require_numbers;

/// The part of the squares of a quantity that the others must leave of it: below is the rounding of their products.
const INDEPENDENT: f64 = 1e-27;
/// How many quantities another may depend on.
const MOST: usize = 50;

/// `least_squares(y, x, ...)`, with a constant or through the origin.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LeastSquares {
    is_through_origin: bool,
    signature: Signature,
    documentation: Documentation,
}

impl LeastSquares {
    pub(super) fn new(is_through_origin: bool) -> Self {
        let (name, model, terms) = if is_through_origin {
            (
                "least_squares_through_origin",
                "y = b1 x1 + b2 x2 + ...",
                "`x1`, `x2` and so on. `r_squared` is of the squares of y, not of its variance",
            )
        } else {
            ("least_squares", "y = b0 + b1 x1 + b2 x2 + ...", "`intercept`, `x1`, `x2` and so on")
        };
        let what = format!(
            "How a quantity depends on others linearly (ordinary least squares): {model}. Gives a structure of {}; `coefficients` is a list of \
             {}, whose names are {terms}. `low` and `high` bound a coefficient with 95 % confidence, `statistic` and `p_value` of the whole are \
             those of F. Where the quantities depend on each other, `rank` is lower than the number of coefficients, which are NaN. Rows with \
             NULL are left out, NaN gives NaN, and of fewer rows than coefficients the result is NULL.",
            names(&fields()),
            names(&terms_fields()),
        );
        let documentation = Documentation::builder(STATISTICS, what, format!("{name}(y, x, ...)"))
            .with_argument("y", "A number: what is explained")
            .with_argument("x", format!("Numbers, up to {MOST}: what it is explained by. Powers make polynomials: x, x * x"))
            .with_sql_example(format!(
                "```sql\nSELECT c.name, c.estimate, c.standard_error\nFROM (SELECT unnest({name}(power, duration, current)['coefficients']) AS c FROM shots)\n```"
            ))
            .build();
        Self { is_through_origin, signature: Signature::variadic_any(Volatility::Immutable), documentation }
    }
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ")
}

fn terms_fields() -> Fields {
    let numbers =
        ["estimate", "standard_error", "statistic", "p_value", "low", "high"].map(|name| Field::new(name, DataType::Float64, true));
    std::iter::once(Field::new("name", DataType::Utf8, true)).chain(numbers).collect()
}

fn fields() -> Fields {
    let counts = ["count", "rank"].map(|name| Field::new(name, DataType::UInt64, true));
    let numbers = ["df", "r_squared", "adjusted_r_squared", "residual_error", "statistic", "p_value"];
    let numbers = numbers.map(|name| Field::new(name, DataType::Float64, true));
    let terms = Field::new("coefficients", DataType::List(item()), true);
    counts.into_iter().chain(numbers).chain([terms]).collect()
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(terms_fields()), true))
}

impl AggregateUDFImpl for LeastSquares {
    fn name(&self) -> &str {
        if self.is_through_origin { "least_squares_through_origin" } else { "least_squares" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if types.len() < 2 || types.len() > MOST + 1 {
            let error = Error::new(
                Kind::InvalidQuery,
                format!(
                    "`{}` takes what is explained, and 1 to {MOST} numbers that explain it; it has {} arguments",
                    self.name(),
                    types.len()
                ),
            );
            return Err(error.hint(format!("{}(y, x1, x2)", self.name())).into());
        }
        require_numbers(self.name(), types)?;
        Ok(DataType::Struct(fields()))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[kept]", args.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(self.name(), &args)?;
        Ok(Box::new(Fitting { is_through_origin: self.is_through_origin, cross: Cross::new(args.exprs.len()) }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Takes the rows of one group; what is explained stands first.
#[derive(Debug)]
struct Fitting {
    is_through_origin: bool,
    cross: Cross,
}

impl Accumulator for Fitting {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = values.iter().map(numbers).collect::<Result<Vec<_>>>()?;
        let columns: Vec<&Float64Array> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let rows = columns.first().map_or(0, |column| column.len());
        for row in (0..rows).filter(|row| columns.iter().all(|column| column.is_valid(*row))) {
            let numbers: Vec<f64> = columns.iter().map(|column| column.value(row)).collect();
            self.cross.add(&numbers);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let fields = fields();
        let Some(fit) = fitted(&self.cross, self.is_through_origin) else { return ScalarValue::try_from(&DataType::Struct(fields)) };
        let names =
            (usize::from(self.is_through_origin)..).map(|place| if place == 0 { "intercept".to_owned() } else { format!("x{place}") });
        let terms =
            [0, 1, 2, 3, 4, 5].map(|place| Arc::new(Float64Array::from_iter_values(fit.terms.iter().map(|term| term[place]))) as ArrayRef);
        let names = Arc::new(StringArray::from_iter_values(names.take(fit.terms.len()))) as ArrayRef;
        let terms = StructArray::try_new(terms_fields(), std::iter::once(names).chain(terms).collect(), None)?;
        let terms = ListArray::try_new(item(), OffsetBuffer::from_lengths([fit.terms.len()]), Arc::new(terms), None)?;
        let count = |count: Option<u64>| Arc::new(UInt64Array::from(vec![count])) as ArrayRef;
        let number = |number: f64| Arc::new(Float64Array::from(vec![number])) as ArrayRef;
        let columns =
            [count(Some(self.cross.count)), count(fit.rank)].into_iter().chain(fit.whole.map(number)).chain([Arc::new(terms) as ArrayRef]);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields, columns.collect(), None)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.cross.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::LargeBinary(Some(self.cross.bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else { return Ok(()) };
        states.as_binary::<i64>().iter().flatten().try_for_each(|kept| self.cross.merge_bytes(kept))
    }
}

/// What least squares say.
struct Fit {
    /// How many of the quantities don't depend on the others, with the constant; `None` where there is NaN.
    rank: Option<u64>,
    /// Degrees of freedom, R², R² adjusted, standard error of what is left, F and how likely it is.
    whole: [f64; 6],
    /// Of each coefficient: the estimate, its standard error, t, how likely it is, and the interval around it.
    terms: Vec<[f64; 6]>,
}

/// Of the sums of y and of what explains it. `None` when there are fewer rows than coefficients.
///
/// The normal equations are solved by elimination (L D L^T), all of it with twice the digits of a double, so that squaring the condition of the
/// problem costs none of those that a double has.
fn fitted(cross: &Cross, is_through_origin: bool) -> Option<Fit> {
    let (many, constant) = (cross.width() - 1, usize::from(!is_through_origin));
    let (n, coefficients) = (cross.count as f64, many + constant);
    if cross.count < coefficients as u64 || cross.count == 0 {
        return None;
    }
    let df = n - coefficients as f64;
    let moment = |a, b| if is_through_origin { cross.plain(a, b) } else { cross.centered(a, b) };
    // What explains first, what is explained last.
    let column = |place: usize| if place == many { 0 } else { place + 1 };
    let mut left: Vec<Vec<Wide>> = (0..=many).map(|a| (0..=a).map(|b| moment(column(a), column(b))).collect()).collect();
    let (whole, squares): (Wide, Vec<f64>) = (left[many][many], (0..many).map(|place| left[place][place].value()).collect());
    let mut factors = vec![vec![Wide::default(); many + 1]; many + 1];
    let (mut rank, mut is_number) = (constant as u64, whole.value().is_finite());
    for pivot in 0..many {
        let square = left[pivot][pivot];
        is_number &= square.value().is_finite();
        if square.value() <= INDEPENDENT * squares[pivot] || !is_number {
            continue;
        }
        rank += 1;
        let below: Vec<Wide> = left.iter().skip(pivot + 1).map(|row| row[pivot]).collect();
        for (row, factors) in left.iter_mut().zip(&mut factors).skip(pivot + 1) {
            let factor = row[pivot].over(square);
            factors[pivot] = factor;
            row[pivot + 1..].iter_mut().zip(&below).for_each(|(left, below)| *left = left.minus(factor.times(*below)));
        }
    }
    let nothing = [f64::NAN; 6];
    if !is_number || rank < coefficients as u64 {
        let whole = [df, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN];
        return Some(Fit { rank: is_number.then_some(rank), whole, terms: vec![nothing; coefficients] });
    }
    let mut estimates = vec![Wide::default(); many];
    for place in (0..many).rev() {
        let others = (place + 1..many).fold(Wide::default(), |sum, other| sum.plus(factors[other][place].times(estimates[other])));
        estimates[place] = factors[many][place].minus(others);
    }
    // The inverse of the factors, row by row.
    let mut inverse = vec![vec![Wide::default(); many]; many];
    for a in 0..many {
        let (above, below) = inverse.split_at_mut(a);
        let sum = |b: usize| (b..a).fold(Wide::default(), |sum, place| sum.plus(factors[a][place].times(above[place][b])));
        below[0].iter_mut().enumerate().take(a).for_each(|(b, part)| *part = Wide::default().minus(sum(b)));
        below[0][a] = Wide::of(1.0);
    }
    let variance = |of: &dyn Fn(usize) -> Wide| {
        (0..many).fold(Wide::default(), |sum, a| {
            let part = of(a);
            sum.plus(part.times(part).over(left[a][a]))
        })
    };
    let mut unscaled: Vec<Wide> = (0..many).map(|b| variance(&|a| inverse[a][b])).collect();
    if !is_through_origin {
        let at_mean = |a: usize| (0..=a).fold(Wide::default(), |sum, b| sum.plus(inverse[a][b].times(cross.mean(b + 1))));
        unscaled.insert(0, variance(&at_mean).plus(Wide::of(1.0).divided(n)));
        let slopes = (0..many).fold(Wide::default(), |sum, place| sum.plus(estimates[place].times(cross.mean(place + 1))));
        estimates.insert(0, cross.mean(0).minus(slopes));
    }
    let explained = (0..many).fold(Wide::default(), |sum, place| {
        let factor = factors[many][place];
        sum.plus(factor.times(factor).times(left[place][place]))
    });
    let rest = left[many][many].value().max(0.0);
    let variance = if df > 0.0 { rest / df } else { f64::NAN };
    let r_squared = explained.over(whole).value();
    let f = explained.value() / many as f64 / variance;
    let adjusted = 1.0 - (1.0 - r_squared) * (n - constant as f64) / df;
    let reach = if df > 0.0 { tails::quantile(tested::OUTSIDE, df) } else { f64::NAN };
    let terms = estimates.iter().zip(unscaled).map(|(estimate, unscaled)| {
        let (estimate, error) = (estimate.value(), (variance * unscaled.value()).sqrt());
        let t = estimate / error;
        [estimate, error, t, tails::student(t, df), estimate - reach * error, estimate + reach * error]
    });
    let whole = [df, r_squared, if df > 0.0 { adjusted } else { f64::NAN }, variance.sqrt(), f, tails::fisher(f, many as f64, df)];
    Some(Fit { rank: Some(rank), whole, terms: terms.collect() })
}

//! Functions that make values as long as their arguments say, and constants that are long.
//!
//! What one expression makes of one batch counts as nobody's memory, so that `repeat('x', 2000000000)` could take all that the machine has.
//! Each of these functions is asked for how much it would make before it makes it; and a long constant, which an expression hands on for each
//! row of a batch, is looked at with the number of its rows.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use lacus_core::{Error, Kind};

/// Bytes that one of them may make of one batch.
pub(crate) const MOST: u64 = 512 << 20;
/// The same of a constant: whoever plans copies it again and again, and writes the text of a list.
const MOST_OF_CONSTANT: u64 = 16 << 20;
/// Bytes of a value in a list, at least.
const ELEMENT: u64 = 8;
/// Bytes of a value that a list has no text for.
const AS_TEXT: u64 = 32;
/// Hours of the shortest day, and days of the shortest month.
const HOUR: i128 = 3_600_000_000_000;
const DAY: i128 = 23 * HOUR;
const MONTH: i128 = 28 * DAY;

/// How much a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Makes {
    /// A text so often.
    Repeated,
    /// A text of so many letters.
    Padded,
    /// A text with others in it.
    Replaced,
    /// A text with others in it, which may hold parts of the first.
    Rewritten,
    /// A list of something so often.
    Listed,
    /// A list of so many.
    Resized,
    /// A list from one number or time to another.
    Series,
    /// One text of a list.
    Written,
    /// All of its arguments.
    Joined,
}

const FUNCTIONS: [(&str, Makes); 22] = [
    ("repeat", Makes::Repeated),
    ("lpad", Makes::Padded),
    ("rpad", Makes::Padded),
    ("replace", Makes::Replaced),
    ("regexp_replace", Makes::Rewritten),
    ("array_repeat", Makes::Listed),
    ("array_resize", Makes::Resized),
    ("range", Makes::Series),
    ("generate_series", Makes::Series),
    ("array_to_string", Makes::Written),
    ("concat", Makes::Joined),
    ("concat_ws", Makes::Joined),
    ("encode", Makes::Joined),
    ("translate", Makes::Joined),
    ("overlay", Makes::Joined),
    ("array_concat", Makes::Joined),
    ("array_append", Makes::Joined),
    ("array_prepend", Makes::Joined),
    ("array_union", Makes::Joined),
    ("make_array", Makes::Joined),
    ("arrays_zip", Makes::Joined),
    ("map", Makes::Joined),
];

/// A function with bounds, if it is one of those.
pub(crate) fn bound(function: &ScalarUDF) -> ScalarUDF {
    match FUNCTIONS.iter().find(|(name, _)| *name == function.name()) {
        Some((_, makes)) => ScalarUDF::new_from_impl(Longer { inner: function.clone(), makes: *makes }),
        None => function.clone(),
    }
}

/// `expr`, which fails when its values have more than `most` bytes for all rows of a batch.
pub(crate) fn bounded(expr: Expr, most: u64) -> Expr {
    // A constant must not be computed before its rows are known.
    let volatility = if matches!(expr, Expr::Literal(_, _)) { Volatility::Volatile } else { Volatility::Immutable };
    ScalarUDF::new_from_impl(Bounded { most, signature: Signature::any(1, volatility) }).call(vec![expr])
}

/// What [`bounded`] was given; anything else as it is.
pub(crate) fn unbounded(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(mut function) if function.func.inner().is::<Bounded>() => function.args.swap_remove(0),
        expr => expr,
    }
}

/// Whether an expression is one that [`bounded`] gives.
pub(crate) fn is_bounded(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.inner().is::<Bounded>())
}

fn too_long(name: &str, bytes: u64, rows: usize, most: u64) -> datafusion::error::DataFusionError {
    let error = format!("`{name}` would make {} MiB of {rows} rows, and {} MiB is the most", bytes >> 20, most >> 20);
    let hint = if most != MOST_OF_CONSTANT {
        "make shorter values"
    } else {
        "make a shorter constant; generate_series(...) as a table gives any number of rows"
    };
    Error::new(Kind::LimitExceeded, error).hint(hint).into()
}

/// The value that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bounded {
    most: u64,
    signature: Signature,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        args.arg_fields.first().cloned().ok_or_else(|| Error::new(Kind::Internal, "`bounded` takes one value").into())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let value = args.args.pop().ok_or_else(|| Error::new(Kind::Internal, "`bounded` takes one value"))?;
        let bytes = total(&value, rows);
        if bytes > self.most {
            let what = if matches!(value, ColumnarValue::Scalar(_)) { "a constant" } else { "an expression" };
            return Err(too_long(what, bytes, rows, self.most));
        }
        Ok(value)
    }
}

/// A function that is asked first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Longer {
    inner: ScalarUDF,
    makes: Makes,
}

impl Longer {
    /// What the function makes, some rows at a time: all of it is known only then.
    fn piecewise(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.makes.by_row(&args.args, args.number_rows)?;
        let (mut start, mut made, mut parts) = (0, 0_u64, Vec::<ArrayRef>::new());
        while start < bytes.len() {
            let mut sum = 0_u64;
            let fits = bytes[start..].iter().take_while(|row| {
                sum = sum.saturating_add(**row);
                sum <= MOST
            });
            let count = fits.count();
            // Not even one row.
            if count == 0 {
                return Err(too_long(self.inner.name(), bytes[start], 1, MOST));
            }
            let part = |value: &ColumnarValue| match value {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, count)),
                ColumnarValue::Scalar(_) => value.clone(),
            };
            let part = ScalarFunctionArgs { args: args.args.iter().map(part).collect(), number_rows: count, ..args.clone() };
            let array = self.inner.inner().invoke_with_args(part)?.into_array(count)?;
            made = made.saturating_add(bytes_of(&array, 0, array.len()));
            if made > MOST {
                return Err(too_long(self.inner.name(), made, start + count, MOST));
            }
            parts.push(array);
            start += count;
        }
        Ok(ColumnarValue::Array(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?))
    }
}

impl ScalarUDFImpl for Longer {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let sum = self.makes.bytes(&args.args, args.number_rows)?;
        let most = if is_constant { MOST_OF_CONSTANT } else { MOST };
        match sum > most {
            true if self.makes.is_at_most() && !is_constant => self.piecewise(&args),
            true => Err(too_long(self.inner.name(), sum, args.number_rows, most)),
            false => self.inner.inner().invoke_with_args(args),
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    #[allow(deprecated, reason = "what asks still asks it")]
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.inner.inner().is_nullable(args, schema)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self { inner, makes: self.makes }))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, info)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

impl Makes {
    /// Whether it may make much less than is told before.
    fn is_at_most(self) -> bool {
        matches!(self, Self::Replaced | Self::Rewritten)
    }

    /// About how many bytes it makes of all rows.
    fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<u64> {
        let bytes: Vec<u64> = match self {
            // Whoever joins does little more than look at the ends of columns; so does this.
            Self::Joined => args.iter().map(|arg| total(arg, rows)).collect(),
            _ => self.by_row(args, rows)?,
        };
        Ok(bytes.into_iter().fold(0, u64::saturating_add))
    }

    /// The same of each row.
    fn by_row(self, args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
        let number = |at: usize| numbers(args.get(at), rows);
        let length = |at: usize| lengths(args.get(at), rows);
        Ok(match self {
            Self::Repeated => length(0).zip(number(1)?).map(|(length, times)| length.saturating_mul(times)).collect(),
            // A letter has up to four bytes.
            Self::Padded => number(1)?.map(|letters| letters.saturating_mul(4)).collect(),
            Self::Replaced => {
                let lengths = length(0).zip(length(1)).zip(length(2));
                lengths
                    .map(|((text, from), to)| {
                        let times = text.checked_div(from).unwrap_or(text + 1);
                        text.saturating_add(times.saturating_mul(to))
                    })
                    .collect()
            }
            // Two letters of what is put in may stand for all that was found.
            Self::Rewritten => {
                length(0).zip(length(2)).map(|(text, to)| text.saturating_add((text + 1).saturating_mul(to).saturating_mul(2))).collect()
            }
            Self::Listed => length(0).zip(number(1)?).map(|(length, times)| times.saturating_mul(length.max(ELEMENT))).collect(),
            Self::Resized => length(2).zip(number(1)?).map(|(length, count)| count.saturating_mul(length.max(ELEMENT))).collect(),
            Self::Series => return series(args, rows),
            Self::Written => {
                let (between, none) = (length(1), length(2));
                let each = between.zip(none).map(|(between, none)| between.saturating_add(none).saturating_add(AS_TEXT));
                let written = length(0).zip(counts(args.first(), rows)).zip(each);
                written.map(|((length, count), each)| length.saturating_add(count.saturating_mul(each))).collect()
            }
            Self::Joined => {
                let mut sums = vec![0_u64; rows];
                for at in 0..args.len() {
                    sums.iter_mut().zip(length(at)).for_each(|(sum, length)| *sum = sum.saturating_add(length));
                }
                sums
            }
        })
    }
}

/// The bytes of lists from one number or time to another, by a step. A list of NULL is none.
fn series(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let none = ColumnarValue::Scalar(ScalarValue::from(0_i64));
    let (start, stop) = match args {
        [] => return Ok(vec![0; rows]),
        [stop] => (&none, stop),
        [start, stop, ..] => (start, stop),
    };
    let one = ColumnarValue::Scalar(ScalarValue::from(1_i64));
    let step = args.get(2).unwrap_or(&one);
    let steps: Vec<u128> = match step.data_type() {
        DataType::Interval(_) => shortest(step, rows)?,
        _ => numbers_of(Some(step), rows)?.map(|step| step.unsigned_abs().into()).collect(),
    };
    let is_null = [start, stop, step].map(|arg| match arg {
        ColumnarValue::Scalar(scalar) if scalar.is_null() => Some(NullBuffer::new_null(rows)),
        ColumnarValue::Scalar(_) => None,
        ColumnarValue::Array(array) => array.logical_nulls(),
    });
    let is_none = |row: usize| is_null.iter().flatten().any(|nulls| nulls.is_null(row));
    let counts = moments(start, rows)?.zip(moments(stop, rows)?).zip(steps);
    let counts = counts.enumerate().map(|(row, ((start, stop), step))| if is_none(row) { 0 } else { stop.abs_diff(start) / step.max(1) });
    Ok(counts.map(|count| u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(ELEMENT)).collect())
}

/// Numbers as they are, times in nanoseconds.
fn moments(arg: &ColumnarValue, rows: usize) -> Result<impl Iterator<Item = i128> + use<>> {
    let unit = match arg.data_type() {
        DataType::Date32 => 24 * HOUR,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    Ok(numbers_of(Some(arg), rows)?.map(move |number| i128::from(number) * unit))
}

/// The nanoseconds of intervals, at least; their parts may have different signs.
fn shortest(step: &ColumnarValue, rows: usize) -> Result<Vec<u128>> {
    let of = |step| {
        let (months, days, nanoseconds) = IntervalMonthDayNanoType::to_parts(step);
        let (months, days, nanoseconds) = (i128::from(months), i128::from(days), i128::from(nanoseconds));
        let (short, long) = (months * MONTH + days * DAY + nanoseconds, months * (31 * 25 * HOUR) + days * (25 * HOUR) + nanoseconds);
        if short.signum() == long.signum() { short.unsigned_abs().min(long.unsigned_abs()) } else { 0 }
    };
    let array = cast(&step.to_array(rows)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let array: &IntervalMonthDayNanoArray = array.as_primitive();
    Ok(array.iter().map(|step| step.map_or(0, of)).collect())
}

/// The whole numbers of an argument, a row each; NULL and what is none is nought.
fn numbers_of(arg: Option<&ColumnarValue>, rows: usize) -> Result<Box<dyn Iterator<Item = i64>>> {
    let of = |array: Int64Array| (0..array.len()).map(|row| if array.is_null(row) { 0 } else { array.value(row) }).collect::<Vec<_>>();
    Ok(match arg {
        None => Box::new(std::iter::repeat_n(0, rows)),
        Some(ColumnarValue::Scalar(scalar)) => {
            let scalar = if scalar.data_type() == DataType::Date32 { scalar.cast_to(&DataType::Int32)? } else { scalar.clone() };
            let value = match scalar.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(value))) => value,
                _ => 0,
            };
            Box::new(std::iter::repeat_n(value, rows))
        }
        // Dates have no numbers of so many bits.
        Some(ColumnarValue::Array(array)) if *array.data_type() == DataType::Date32 => {
            return numbers_of(Some(&ColumnarValue::Array(cast(array, &DataType::Int32)?)), rows);
        }
        Some(ColumnarValue::Array(array)) => Box::new(of(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()).into_iter()),
    })
}

fn numbers(arg: Option<&ColumnarValue>, rows: usize) -> Result<impl Iterator<Item = u64> + use<>> {
    Ok(numbers_of(arg, rows)?.map(|number| u64::try_from(number).unwrap_or(0)))
}

/// What is told of each row of an argument.
fn by_row(arg: Option<&ColumnarValue>, rows: usize, told: fn(&dyn Array, usize, usize) -> u64) -> Box<dyn Iterator<Item = u64> + '_> {
    match arg {
        None => Box::new(std::iter::repeat_n(0, rows)),
        Some(ColumnarValue::Scalar(scalar)) => {
            let told = scalar.to_array().map_or(0, |array| told(array.as_ref(), 0, array.len()));
            Box::new(std::iter::repeat_n(told, rows))
        }
        Some(ColumnarValue::Array(array)) => Box::new((0..array.len()).map(move |row| told(array.as_ref(), row, row + 1))),
    }
}

/// The bytes of the values of an argument.
fn total(arg: &ColumnarValue, rows: usize) -> u64 {
    match arg {
        ColumnarValue::Scalar(_) => lengths(Some(arg), 1).next().unwrap_or(0).saturating_mul(rows as u64),
        ColumnarValue::Array(array) => bytes_of(array.as_ref(), 0, array.len()),
    }
}

/// The bytes of the values of an argument, a row each.
fn lengths(arg: Option<&ColumnarValue>, rows: usize) -> Box<dyn Iterator<Item = u64> + '_> {
    by_row(arg, rows, bytes_of)
}

/// How many values stand in the lists of an argument, and in the lists in them, a row each.
fn counts(arg: Option<&ColumnarValue>, rows: usize) -> Box<dyn Iterator<Item = u64> + '_> {
    by_row(arg, rows, count_of)
}

/// What is told of the values that stand in lists from one row to another; `None` when they are no lists.
fn in_lists(array: &dyn Array, from: usize, to: usize, told: fn(&dyn Array, usize, usize) -> u64) -> Option<u64> {
    let at = |place: i64| usize::try_from(place).unwrap_or(0);
    Some(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            told(list.values().as_ref(), at(list.value_offsets()[from].into()), at(list.value_offsets()[to].into()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            told(list.values().as_ref(), at(list.value_offsets()[from]), at(list.value_offsets()[to]))
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            told(map.entries(), at(map.value_offsets()[from].into()), at(map.value_offsets()[to].into()))
        }
        DataType::FixedSizeList(_, length) => {
            let length = at((*length).into());
            told(array.as_fixed_size_list().values().as_ref(), from * length, to * length)
        }
        _ => return None,
    })
}

/// The bytes of the values from one row to another.
fn bytes_of(array: &dyn Array, from: usize, to: usize) -> u64 {
    let between = |from: i64, to: i64| to.abs_diff(from);
    // The length stands in the lowest bits of a view.
    let in_views = |views: &[u128]| views[from..to].iter().map(|view| u64::from(*view as u32)).fold(0, u64::saturating_add);
    let rows = (to - from) as u64;
    if let Some(bytes) = in_lists(array, from, to, bytes_of) {
        return bytes;
    }
    match array.data_type() {
        DataType::Utf8 => {
            between(array.as_string::<i32>().value_offsets()[from].into(), array.as_string::<i32>().value_offsets()[to].into())
        }
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets()[from], array.as_string::<i64>().value_offsets()[to]),
        DataType::Binary => {
            between(array.as_binary::<i32>().value_offsets()[from].into(), array.as_binary::<i32>().value_offsets()[to].into())
        }
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets()[from], array.as_binary::<i64>().value_offsets()[to]),
        DataType::Utf8View => in_views(array.as_string_view().views()),
        DataType::BinaryView => in_views(array.as_binary_view().views()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| bytes_of(column.as_ref(), from, to)).fold(0, u64::saturating_add)
        }
        other => match other.primitive_width() {
            Some(width) => rows * width as u64,
            None => rows.saturating_mul((array.get_array_memory_size() / array.len().max(1)) as u64),
        },
    }
}

fn count_of(array: &dyn Array, from: usize, to: usize) -> u64 {
    in_lists(array, from, to, count_of).unwrap_or((to - from) as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray, StringViewArray};

    use datafusion::execution::SessionStateDefaults;

    use super::*;

    #[test]
    fn every_one_of_them_has_bounds() {
        let functions = SessionStateDefaults::default_scalar_functions();
        let functions = functions.iter().map(|function| bound(function));
        assert_eq!(functions.filter(|function| function.inner().is::<Longer>()).count(), FUNCTIONS.len());
    }

    #[test]
    fn what_would_be_made_is_known_before() -> Result<()> {
        let text = |text: &str| ColumnarValue::Scalar(ScalarValue::from(text));
        let number = |number: i64| ColumnarValue::Scalar(ScalarValue::from(number));
        let all = Makes::bytes;
        assert_eq!(all(Makes::Repeated, &[text("ab"), number(5)], 3)?, 30);
        assert_eq!(all(Makes::Repeated, &[text("ab"), number(-5)], 3)?, 0);
        assert_eq!(all(Makes::Repeated, &[text("ab"), number(i64::MAX)], 3)?, u64::MAX);
        let times = ColumnarValue::Array(Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])));
        assert_eq!(all(Makes::Repeated, &[text("ab"), times.clone()], 3)?, 8);
        for texts in
            [Arc::new(StringArray::from(vec!["a", "bc", "d"])) as Arc<dyn Array>, Arc::new(StringViewArray::from(vec!["a", "bc", "d"]))]
        {
            assert_eq!(all(Makes::Repeated, &[ColumnarValue::Array(texts), times.clone()], 3)?, 4);
        }
        assert_eq!(all(Makes::Padded, &[text("x"), number(7)], 2)?, 56);
        assert_eq!(all(Makes::Replaced, &[text("aaaa"), text("a"), text("bbb")], 1)?, 16);
        assert_eq!(all(Makes::Replaced, &[text("aa"), text(""), text("b")], 1)?, 5);
        assert_eq!(all(Makes::Series, &[number(10)], 1)?, 80);
        assert_eq!(all(Makes::Series, &[number(10), number(0), number(-5)], 2)?, 32);
        assert_eq!(all(Makes::Series, &[number(i64::MIN), number(i64::MAX), number(0)], 1)?, u64::MAX);
        assert_eq!(all(Makes::Resized, &[text("list"), number(4)], 1)?, 32);
        assert_eq!(all(Makes::Resized, &[text("list"), number(4), text("a hundred")], 1)?, 36);
        assert_eq!(all(Makes::Rewritten, &[text("abc"), text("b"), text("xy")], 1)?, 19);
        assert_eq!(all(Makes::Joined, &[text("abc"), text("b")], 5)?, 20);
        Ok(())
    }

    #[test]
    fn series_of_times_are_counted_by_their_shortest_step() -> Result<()> {
        let time = |seconds: i64| ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(seconds * 1_000_000_000), None));
        let step = |months, days, nanoseconds| {
            ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(months, days, nanoseconds))))
        };
        let day = |day| ColumnarValue::Scalar(ScalarValue::Date32(Some(day)));
        assert_eq!(Makes::Series.by_row(&[time(0), time(10), step(0, 0, 1_000_000_000)], 1)?, [80]);
        assert_eq!(Makes::Series.by_row(&[time(0), time(1_000_000), step(0, 0, 1)], 1)?, [8_000_000_000_000_000]);
        assert_eq!(Makes::Series.by_row(&[day(0), day(280), step(1, 0, 0)], 1)?, [280 / 26 * ELEMENT]);
        // A day is shorter by an hour where clocks are changed.
        assert_eq!(Makes::Series.by_row(&[day(0), day(280), step(0, 1, 0)], 1)?, [280 * 24 / 23 * ELEMENT]);
        // A month less 30 days may be next to nothing.
        assert_eq!(Makes::Series.by_row(&[day(0), day(1), step(1, -30, 0)], 1)?, [86_400_000_000_000 * ELEMENT]);
        let days = ColumnarValue::Array(Arc::new(datafusion::arrow::array::Date32Array::from(vec![Some(0), None])));
        assert_eq!(Makes::Series.by_row(&[days, day(10), step(0, 2, 0)], 2)?, [40, 0]);
        Ok(())
    }

    #[test]
    fn values_are_as_long_as_they_are_in_lists_of_lists() -> Result<()> {
        use datafusion::arrow::array::ListArray;
        use datafusion::arrow::datatypes::Int32Type;
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1); 100]), Some(vec![]), None]);
        let told: Vec<u64> = lengths(Some(&ColumnarValue::Array(Arc::new(list.clone()))), 3).collect();
        assert_eq!(told, [400, 0, 0]);
        assert_eq!(counts(Some(&ColumnarValue::Array(Arc::new(list.clone()))), 3).collect::<Vec<_>>(), [100, 0, 0]);
        let scalar = ColumnarValue::Scalar(ScalarValue::List(Arc::new(list.slice(0, 1))));
        assert_eq!(lengths(Some(&scalar), 2).collect::<Vec<_>>(), [400, 400]);
        let written = Makes::Written.by_row(&[scalar, ColumnarValue::Scalar(ScalarValue::from("--"))], 1)?;
        assert_eq!(written, [400 + 100 * (2 + AS_TEXT)]);
        Ok(())
    }
}

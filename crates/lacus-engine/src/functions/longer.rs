//! Functions that make values as long as their arguments say.
//!
//! What one expression makes of one batch counts as nobody's memory, so that `repeat('x', 2000000000)` could take all that the machine has.
//! Each is asked for how much it would make before it makes it.

use datafusion::arrow::array::{Array, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use lacus_core::{Error, Kind};

/// Bytes that one of them may make of one batch.
const MOST: u64 = 512 << 20;
/// Bytes of a value in a list, at least.
const ELEMENT: u64 = 8;

/// How much a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Makes {
    /// A text so often.
    Repeated,
    /// A text of so many letters.
    Padded,
    /// A text with others in it.
    Replaced,
    /// A list of something so often.
    Listed,
    /// A list of so many.
    Resized,
    /// A list from one number to another.
    Series,
}

const FUNCTIONS: [(&str, Makes); 8] = [
    ("repeat", Makes::Repeated),
    ("lpad", Makes::Padded),
    ("rpad", Makes::Padded),
    ("replace", Makes::Replaced),
    ("array_repeat", Makes::Listed),
    ("array_resize", Makes::Resized),
    ("range", Makes::Series),
    ("generate_series", Makes::Series),
];

/// Puts bounds to those functions of a session.
pub(crate) fn bound(state: &mut SessionState) -> Result<()> {
    for (name, makes) in FUNCTIONS {
        let Some(inner) = state.scalar_functions().get(name).cloned() else { continue };
        state.register_udf(ScalarUDF::new_from_impl(Longer { inner: inner.as_ref().clone(), makes }).into())?;
    }
    Ok(())
}

/// A function that is asked first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Longer {
    inner: ScalarUDF,
    makes: Makes,
}

impl ScalarUDFImpl for Longer {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A function of nothing but constants is computed once.
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let bytes = self.makes.bytes(&args.args, rows)?;
        if bytes > MOST {
            let error =
                format!("`{}` would make {} MiB of {rows} rows, and {} MiB is the most", self.inner.name(), bytes >> 20, MOST >> 20);
            return Err(Error::new(Kind::LimitExceeded, error).hint("make shorter values").into());
        }
        self.inner.inner().invoke_with_args(args)
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
    /// About how many bytes it makes of so many rows.
    fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<u64> {
        let number = |at: usize| numbers(args.get(at), rows);
        let length = |at: usize| lengths(args.get(at), rows);
        let sum = |each: &mut dyn Iterator<Item = u64>| each.fold(0, u64::saturating_add);
        Ok(match self {
            Self::Repeated => sum(&mut length(0).zip(number(1)?).map(|(length, times)| length.saturating_mul(times))),
            Self::Padded => sum(&mut number(1)?),
            Self::Replaced => sum(&mut length(0).zip(length(1)).zip(length(2)).map(|((text, from), to)| {
                let times = if from == 0 { text + 1 } else { text / from };
                text.saturating_add(times.saturating_mul(to))
            })),
            Self::Listed => sum(&mut length(0).zip(number(1)?).map(|(length, times)| times.saturating_mul(length.max(ELEMENT)))),
            Self::Resized => sum(&mut number(1)?.map(|count| count.saturating_mul(ELEMENT))),
            Self::Series => {
                let is_of_numbers = args.iter().all(|arg| arg.data_type().is_integer() || arg.data_type() == DataType::Null);
                // Those of times are bounded by the calendar, and by DataFusion.
                if !is_of_numbers {
                    return Ok(0);
                }
                let (start, stop) = match args.len() {
                    1 => (numbers_of(None, rows)?, numbers_of(args.first(), rows)?),
                    _ => (numbers_of(args.first(), rows)?, numbers_of(args.get(1), rows)?),
                };
                let steps = numbers_of(args.get(2), rows)?.collect::<Vec<_>>();
                let steps = steps.into_iter().map(|step| if args.len() > 2 { step.unsigned_abs().max(1) } else { 1 });
                sum(&mut start.zip(stop).zip(steps).map(|((start, stop), step)| (stop.abs_diff(start) / step).saturating_mul(ELEMENT)))
            }
        })
    }
}

/// The whole numbers of an argument, a row each; NULL and what is none is nought.
fn numbers_of(arg: Option<&ColumnarValue>, rows: usize) -> Result<Box<dyn Iterator<Item = i64>>> {
    let of = |array: Int64Array| (0..array.len()).map(|row| if array.is_null(row) { 0 } else { array.value(row) }).collect::<Vec<_>>();
    Ok(match arg {
        None => Box::new(std::iter::repeat_n(0, rows)),
        Some(ColumnarValue::Scalar(scalar)) => {
            let value = match scalar.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(value))) => value,
                _ => 0,
            };
            Box::new(std::iter::repeat_n(value, rows))
        }
        Some(ColumnarValue::Array(array)) => Box::new(of(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()).into_iter()),
    })
}

fn numbers(arg: Option<&ColumnarValue>, rows: usize) -> Result<impl Iterator<Item = u64> + use<>> {
    Ok(numbers_of(arg, rows)?.map(|number| u64::try_from(number).unwrap_or(0)))
}

/// The bytes of the values of an argument, a row each: of texts their own, of all else their share.
fn lengths(arg: Option<&ColumnarValue>, rows: usize) -> Box<dyn Iterator<Item = u64> + '_> {
    match arg {
        None => Box::new(std::iter::repeat_n(0, rows)),
        Some(ColumnarValue::Scalar(scalar)) => {
            let length = scalar.try_as_str().flatten().map_or_else(|| scalar.size(), str::len);
            Box::new(std::iter::repeat_n(length as u64, rows))
        }
        Some(ColumnarValue::Array(array)) => match array.data_type() {
            DataType::Utf8 => Box::new(array.as_string::<i32>().offsets().lengths().map(|length| length as u64)),
            DataType::LargeUtf8 => Box::new(array.as_string::<i64>().offsets().lengths().map(|length| length as u64)),
            // The length stands in the lowest bits of a view.
            DataType::Utf8View => Box::new(array.as_string_view().views().iter().map(|view| u64::from(*view as u32))),
            _ => Box::new(std::iter::repeat_n((array.get_array_memory_size() / array.len().max(1)) as u64, rows)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn what_would_be_made_is_known_before() -> Result<()> {
        let text = |text: &str| ColumnarValue::Scalar(ScalarValue::from(text));
        let number = |number: i64| ColumnarValue::Scalar(ScalarValue::from(number));
        assert_eq!(Makes::Repeated.bytes(&[text("ab"), number(5)], 3)?, 30);
        assert_eq!(Makes::Repeated.bytes(&[text("ab"), number(-5)], 3)?, 0);
        assert_eq!(Makes::Repeated.bytes(&[text("ab"), number(i64::MAX)], 3)?, u64::MAX);
        let times = ColumnarValue::Array(Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])));
        assert_eq!(Makes::Repeated.bytes(&[text("ab"), times.clone()], 3)?, 8);
        for texts in
            [Arc::new(StringArray::from(vec!["a", "bc", "d"])) as Arc<dyn Array>, Arc::new(StringViewArray::from(vec!["a", "bc", "d"]))]
        {
            assert_eq!(Makes::Repeated.bytes(&[ColumnarValue::Array(texts), times.clone()], 3)?, 4);
        }
        assert_eq!(Makes::Padded.bytes(&[text("x"), number(7)], 2)?, 14);
        assert_eq!(Makes::Replaced.bytes(&[text("aaaa"), text("a"), text("bbb")], 1)?, 16);
        assert_eq!(Makes::Replaced.bytes(&[text("aa"), text(""), text("b")], 1)?, 5);
        assert_eq!(Makes::Series.bytes(&[number(10)], 1)?, 80);
        assert_eq!(Makes::Series.bytes(&[number(10), number(0), number(-5)], 2)?, 32);
        assert_eq!(Makes::Series.bytes(&[number(i64::MIN), number(i64::MAX), number(0)], 1)?, u64::MAX);
        assert_eq!(Makes::Resized.bytes(&[text("list"), number(4)], 1)?, 32);
        Ok(())
    }
}

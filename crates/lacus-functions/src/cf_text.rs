use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimeUnit as ArrowUnit, TimestampMicrosecondType};
use datafusion_common::{Result, internal_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::SCIENCE;
use crate::arguments::{Numbers, is_text, require_numbers, result, rows, signature};
use crate::calendar_text::{Units, planned_unit, text_of, text_of_timestamp, with_units};

const NAME: &str = "cf_text";

/// `cf_text(column)` and `cf_text(number, units, calendar)`: the date and time of a number as text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CfText {
    signature: Signature,
    documentation: Documentation,
}

impl CfText {
    pub(crate) fn new() -> Self {
        let what = "The date and time of a number, as text in ISO 8601, by the units and the calendar of its column or by those given; \
                    microseconds only where there are any, NULL for what is not finite. A timestamp is written in the same way, and a \
                    text stays as it is, so that one query serves columns of any calendar.";
        let documentation = Documentation::builder(SCIENCE, what, "cf_text(column)")
            .with_alternative_syntax("cf_text(number, units, calendar)")
            .with_argument("column", "A column of numbers whose metadata has `units` and `calendar`; or a timestamp, or a text")
            .with_argument("number", "A number, or a column of numbers")
            .with_argument("units", "A unit and an epoch, such as `days since 2000-01-01`")
            .with_argument("calendar", "standard, proleptic_gregorian, julian, noleap, all_leap or 360_day")
            .with_sql_example("SELECT cf_text(59.5, 'days since 2000-01-01', '360_day')  -- 2000-02-30T12:00:00")
            .with_related_udf("cf_time")
            .build();
        Self { signature: signature(&[1, 3]), documentation }
    }
}

impl ScalarUDFImpl for CfText {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {NAME} depends on the fields of its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let Some((column, written)) = args.arg_fields.split_first() else { return internal_err!("{NAME} was called without arguments") };
        let data_type = match column.data_type() {
            DataType::Null => DataType::Utf8,
            text if is_text(text) && written.is_empty() => text.clone(),
            data_type if is_time(data_type) && written.is_empty() => DataType::Utf8,
            _ => {
                if !written.is_empty() {
                    require_numbers(NAME, std::slice::from_ref(column.data_type()))?;
                }
                planned_unit(NAME, column, written, &args.scalar_arguments[1..])?;
                DataType::Utf8
            }
        };
        Ok(Arc::new(Field::new(NAME, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (value, data_type) = (&args.args[0], args.arg_fields[0].data_type());
        match data_type {
            DataType::Null => value.cast_to(&DataType::Utf8, None),
            text if is_text(text) => Ok(value.clone()),
            data_type if is_time(data_type) => {
                let array = value.to_array(rows(&args))?;
                result(&args, Arc::new(texts_of_timestamps(&array)?))
            }
            _ => {
                let units = Units::of(NAME, &args.arg_fields[0], &args.args[1..])?;
                let numbers = Numbers::<Float64Type>::of(value)?;
                let text = |row: usize| -> Result<Option<String>> {
                    let Some((number, unit)) = numbers.at(row).zip(units.at(row)?) else { return Ok(None) };
                    Ok(text_of(number, &unit)?)
                };
                let texts: StringArray = (0..rows(&args)).map(text).collect::<Result<_>>()?;
                result(&args, Arc::new(texts))
            }
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(with_units(Self::new(), 1, args, info))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Timestamps with a zone are instants, and so written in UTC.
fn texts_of_timestamps(array: &ArrayRef) -> Result<StringArray> {
    let (zone, suffix) = match array.data_type() {
        DataType::Timestamp(_, Some(zone)) => (Some(Arc::clone(zone)), "Z"),
        _ => (None, ""),
    };
    let times = ColumnarValue::Array(Arc::clone(array)).cast_to(&DataType::Timestamp(ArrowUnit::Microsecond, zone), None)?;
    let times = times.into_array(array.len())?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().iter().map(|time| time.map(|time| text_of_timestamp(time) + suffix)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{Date32Array, Float32Array, Int64Array, TimestampMillisecondArray};
    use datafusion_common::ScalarValue;

    fn texts(result: ColumnarValue) -> Result<Vec<Option<String>>> {
        let array = result.into_array(1)?;
        Ok(array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn numbers_are_written_in_their_calendar() -> Result<()> {
        let metadata = [("units", "days since 2000-01-01"), ("calendar", "360_day")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let field = Field::new("time", DataType::Float32, true).with_metadata(metadata.into());
        let values = ColumnarValue::Array(Arc::new(Float32Array::from(vec![Some(59.5), None, Some(f32::NAN), Some(-0.25)])));
        let found = texts(call(CfText::new(), vec![(field, values)])?)?;
        assert_eq!(found, [some("2000-02-30T12:00:00"), None, None, some("1999-12-30T18:00:00")]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![59, 60]));
        let found = texts(call(CfText::new(), vec![column(numbers), literal("days since 2000-01-01"), literal("noleap")])?)?;
        assert_eq!(found, [some("2000-03-01T00:00:00"), some("2000-03-02T00:00:00")]);
        let found = call(CfText::new(), vec![literal(1), literal("days since 2000-01-01"), literal("noleap")])?;
        assert!(matches!(found, ColumnarValue::Scalar(ScalarValue::Utf8(Some(ref text))) if text == "2000-01-02T00:00:00"), "{found:?}");
        Ok(())
    }

    #[test]
    fn timestamps_and_texts_are_taken_too() -> Result<()> {
        let times = TimestampMillisecondArray::from(vec![Some(-1), None]);
        let found = texts(call(CfText::new(), vec![column(Arc::new(times.clone()))])?)?;
        assert_eq!(found, [some("1969-12-31T23:59:59.999000"), None]);
        let found = texts(call(CfText::new(), vec![column(Arc::new(times.with_timezone("+02:00")))])?)?;
        assert_eq!(found[0], some("1969-12-31T23:59:59.999000Z"));
        let found = texts(call(CfText::new(), vec![column(Arc::new(Date32Array::from(vec![31])))])?)?;
        assert_eq!(found, [some("1970-02-01T00:00:00")]);
        let found = texts(call(CfText::new(), vec![column(Arc::new(StringArray::from(vec!["whenever"])))])?)?;
        assert_eq!(found, [some("whenever")]);
        let found = texts(call(CfText::new(), vec![literal(ScalarValue::Null)])?)?;
        assert_eq!(found, [None]);
        Ok(())
    }

    #[test]
    fn what_is_no_time_is_an_error_with_a_remedy() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![59]));
        let message = |result: Result<ColumnarValue>| result.err().map(|error| error.to_string()).unwrap_or_default();
        let found = message(call(CfText::new(), vec![column(Arc::clone(&numbers))]));
        assert_eq!(
            found,
            "External error: `x` has no units in its metadata; say them: cf_text(number, 'days since 2000-01-01', '360_day')"
        );
        let found = message(call(CfText::new(), vec![column(numbers), literal("days since 2000-01-01"), literal(360)]));
        assert!(found.contains("takes units and calendar as text, but one of them is a Int32"), "{found}");
        let found = message(call(CfText::new(), vec![literal("1"), literal("days since 2000-01-01"), literal("noleap")]));
        assert!(found.contains("takes numbers, but its argument 1 is a Utf8"), "{found}");
    }
}

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use lacus_core::{Error, Kind};

use crate::SCIENCE;
use crate::arguments::{Texts, is_text, signature};
use crate::calendar_text::{Units, number_of, planned_unit, with_units};

const NAME: &str = "cf_time";

/// `cf_time(text, column)` and `cf_time(text, units, calendar)`: the number of a date and time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CfTime {
    signature: Signature,
    documentation: Documentation,
}

impl CfTime {
    pub(crate) fn new() -> Self {
        let what = "The number of a date and time in the units and the calendar of a column, or in those given: what a column of times \
                    that no timestamp can hold is compared with. A text that is no date of the calendar is an error.";
        let documentation = Documentation::builder(SCIENCE, what, "cf_time(text, column)")
            .with_alternative_syntax("cf_time(text, units, calendar)")
            .with_argument("text", "A date, or a date and time, in ISO 8601; without a zone it is UTC")
            .with_argument("column", "A column of numbers whose metadata has `units` and `calendar`")
            .with_argument("units", "A unit and an epoch, such as `days since 2000-01-01`")
            .with_argument("calendar", "standard, proleptic_gregorian, julian, noleap, all_leap or 360_day")
            .with_sql_example("SELECT * FROM model WHERE time >= cf_time('2000-02-30', time)")
            .with_related_udf("cf_text")
            .build();
        Self { signature: signature(&[2, 3]), documentation }
    }
}

impl ScalarUDFImpl for CfTime {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {NAME} depends on the fields of its arguments")
    }

    /// Says what is wrong as soon as the query is planned, where the text is known then.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [text, column, ..] = args.arg_fields else { return internal_err!("{NAME} was called with too few arguments") };
        if !is_text(text.data_type()) {
            let error = Error::new(Kind::InvalidQuery, format!("`{NAME}` takes a date as text first, but that is a {}", text.data_type()));
            return Err(error.hint("write it as cf_time('2000-01-30', time)").into());
        }
        let from = if args.arg_fields.len() == 2 { 2 } else { 1 };
        let unit = planned_unit(NAME, column, &args.arg_fields[from..], &args.scalar_arguments[from..])?;
        let text = args.scalar_arguments[0].and_then(|value| value.try_as_str().flatten());
        let known = text.zip(unit).map(|(text, unit)| number_of(text, &unit)).transpose()?;
        Ok(Arc::new(Field::new(NAME, DataType::Float64, known.is_none())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let written = if args.args.len() == 2 { &[] } else { &args.args[1..] };
        let units = Units::of(NAME, &args.arg_fields[1], written)?;
        let texts = Texts::of(&args.args[0])?;
        let number = |row: usize| -> Result<Option<f64>> {
            let Some((text, unit)) = texts.at(row).zip(units.at(row)?) else { return Ok(None) };
            Ok(Some(number_of(text, &unit)?))
        };
        // Of a column only the metadata counts: one number serves all of its rows.
        let varies = |value: &ColumnarValue| matches!(value, ColumnarValue::Array(_));
        if !varies(&args.args[0]) && !written.iter().any(varies) {
            return Ok(ColumnarValue::Scalar(ScalarValue::Float64(number(0)?)));
        }
        let numbers: Float64Array = (0..args.number_rows).map(number).collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(with_units(Self::new(), 2, args, info))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Float64Type;
    use datafusion_common::DFSchema;
    use datafusion_expr::{col, lit};

    fn field(units: &str, calendar: &str) -> Field {
        let metadata = [("units", units), ("calendar", calendar)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        Field::new("time", DataType::Int32, true).with_metadata(metadata.into())
    }

    fn times() -> ColumnarValue {
        ColumnarValue::Array(Arc::new(Int32Array::from(vec![0, 30, 60])))
    }

    fn message(result: Result<ColumnarValue>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn one_number_serves_all_rows_of_a_column() -> Result<()> {
        let number = call(CfTime::new(), vec![literal("2000-02-30"), (field("days since 2000-01-01", "360_day"), times())])?;
        assert!(matches!(number, ColumnarValue::Scalar(ScalarValue::Float64(Some(59.0)))), "{number:?}");
        let number = call(CfTime::new(), vec![literal("2000-02-30"), literal("hours since 2000-01-01"), literal("360_day")])?;
        assert!(matches!(number, ColumnarValue::Scalar(ScalarValue::Float64(Some(1416.0)))), "{number:?}");
        let null = call(CfTime::new(), vec![literal(ScalarValue::Null), (field("days since 2000-01-01", "360_day"), times())])?;
        assert!(matches!(null, ColumnarValue::Scalar(ScalarValue::Float64(None))), "{null:?}");
        Ok(())
    }

    #[test]
    fn texts_and_units_may_vary() -> Result<()> {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("2000-01-02"), None, Some("2000-03-01")]));
        let units: ArrayRef = Arc::new(StringArray::from(vec!["hours since 2000-01-01", "nonsense", "days since 2000-01-01"]));
        let found = call(CfTime::new(), vec![column(texts), column(units), literal("noleap")]);
        assert!(message(found).contains("`nonsense` is no unit of time"));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("2000-01-02"), None, Some("2000-03-01")]));
        let found = call(CfTime::new(), vec![column(texts), literal("days since 2000-01-01"), literal("noleap")])?.into_array(3)?;
        let found: Vec<Option<f64>> = found.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(found, [Some(1.0), None, Some(59.0)]);
        Ok(())
    }

    #[test]
    fn what_is_no_column_of_times_is_an_error_with_a_remedy() {
        let timestamps: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
        let found = message(call(CfTime::new(), vec![literal("2000-01-01"), column(timestamps)]));
        assert!(found.contains("`x` is a timestamp already") && found.contains("compare it with a timestamp or a text"), "{found}");
        let found = message(call(CfTime::new(), vec![literal("2000-01-01"), (Field::new("n", DataType::Int32, true), times())]));
        assert!(found.contains("`n` has no units in its metadata; say them: cf_time('2000-01-30', 'days since"), "{found}");
        let found = message(call(CfTime::new(), vec![literal("2000-01-01"), (field("K", ""), times())]));
        assert!(found.contains("`K` is no unit of time") && found.contains("column: time"), "{found}");
        let found = message(call(CfTime::new(), vec![literal("2000-01-01"), literal("360_day")]));
        assert!(found.contains("needs a column of numbers"), "{found}");
        let found = message(call(CfTime::new(), vec![literal(2000), (field("days since 2000-01-01", ""), times())]));
        assert!(found.contains("takes a date as text first, but that is a Int32"), "{found}");
    }

    #[test]
    fn the_units_of_a_column_become_part_of_the_plan() -> Result<()> {
        let schema = DFSchema::from_unqualified_fields(vec![field("days since 2000-01-01", "360_day")].into(), Default::default())?;
        let info = SimplifyContext::builder().with_schema(Arc::new(schema)).build();
        let simplified = CfTime::new().simplify(vec![lit("2000-02-30"), col("time")], &info)?;
        let ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)) = simplified else { panic!("{simplified:?}") };
        assert_eq!(call.args, [lit("2000-02-30"), lit("days since 2000-01-01"), lit("360_day")]);
        Ok(())
    }
}

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Documentation, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, lit,
};
use lacus_core::{Error, Kind, UNIT_KEY, unit_of};
use lacus_units::{Conversion, Unit};

use crate::SCIENCE;
use crate::arguments::{Numbers, Texts, is_text, require_numbers, result, rows, signature};

const CONVERT_UNITS: &str = "convert_units";

/// `convert_units(value, from, to)` and `convert_units(value, to)`: a number in another unit.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvertUnits {
    signature: Signature,
    documentation: Documentation,
}

impl ConvertUnits {
    pub(crate) fn new() -> Self {
        let what = "A number in another unit, which its metadata names. Units are written as in UDUNITS, which CF prescribes (`W m-2`, \
                    `degC`, `kg/m^3`), or as in FITS (`erg/s/cm**2`). Without `from` the value is in the unit of its column. 32-bit floats \
                    stay what they are, all other numbers become doubles.";
        let documentation = Documentation::builder(SCIENCE, what, "convert_units(value, from, to)")
            .with_alternative_syntax("convert_units(value, to)")
            .with_argument("value", "A number")
            .with_argument("from", "The unit that the value is in; it may be a column")
            .with_argument("to", "The unit that is wanted")
            .with_sql_example("SELECT convert_units(20.0, 'degC', 'K')")
            .build();
        Self { signature: signature(&[2, 3]), documentation }
    }
}

impl ScalarUDFImpl for ConvertUnits {
    fn name(&self) -> &str {
        CONVERT_UNITS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the unit of what `{CONVERT_UNITS}` gives depends on its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [value, units @ ..] = args.arg_fields else { return internal_err!("`{CONVERT_UNITS}` without arguments") };
        require_numbers(CONVERT_UNITS, std::slice::from_ref(value.data_type()))?;
        if let Some(other) = units.iter().find(|field| !is_text(field.data_type()) && !field.data_type().is_null()) {
            let error = Error::new(Kind::InvalidQuery, format!("`{CONVERT_UNITS}` takes units as text, not as {}", other.data_type()));
            return Err(error.hint(EXAMPLE).into());
        }
        let text = |scalar: &Option<&ScalarValue>| scalar.and_then(|scalar| scalar.try_as_str().flatten()).map(Unit::parse).transpose();
        let units = args.scalar_arguments[1..].iter().map(text).collect::<lacus_core::Result<Vec<_>>>()?;
        match units.as_slice() {
            [Some(from), Some(to)] => drop(from.conversion(to)?),
            // Of an expression, the unit may be known later.
            [Some(to)] if unit_of(value).is_some() => drop(from_field(value)?.conversion(to)?),
            _ => {}
        }
        let kind = if matches!(value.data_type(), DataType::Float16 | DataType::Float32) { DataType::Float32 } else { DataType::Float64 };
        let field = Field::new(CONVERT_UNITS, kind, true);
        Ok(Arc::new(match units.last() {
            Some(Some(to)) => field.with_metadata([(UNIT_KEY.to_owned(), to.text().to_owned())].into()),
            _ => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = Numbers::<Float64Type>::of(&args.args[0])?;
        let (from, to) = match &args.args[1..] {
            [from, to] => (Texts::of(from)?, Texts::of(to)?),
            [to] => (Texts::Same(Some(from_field(&args.arg_fields[0])?.text().to_owned())), Texts::of(to)?),
            _ => return internal_err!("`{CONVERT_UNITS}` takes two or three arguments"),
        };
        let converted: Float64Array = match (&from, &to) {
            (Texts::Same(from), Texts::Same(to)) => match from.as_deref().zip(to.as_deref()) {
                Some((from, to)) => {
                    let conversion = Unit::parse(from)?.conversion(&Unit::parse(to)?)?;
                    (0..rows(&args)).map(|row| values.at(row).map(|value| conversion.of(value))).collect()
                }
                None => Float64Array::new_null(rows(&args)),
            },
            _ => {
                // Rows of a table of measurements share few units.
                let mut known = HashMap::<(&str, &str), Conversion>::new();
                let convert = |row: usize| -> Result<Option<f64>> {
                    let (Some(value), Some(from), Some(to)) = (values.at(row), from.at(row), to.at(row)) else { return Ok(None) };
                    let conversion = match known.get(&(from, to)) {
                        Some(conversion) => *conversion,
                        None => {
                            let conversion = Unit::parse(from)?.conversion(&Unit::parse(to)?)?;
                            known.insert((from, to), conversion);
                            conversion
                        }
                    };
                    Ok(Some(conversion.of(value)))
                };
                (0..rows(&args)).map(convert).collect::<Result<_>>()?
            }
        };
        let array: ArrayRef = match args.return_type() {
            DataType::Float32 => Arc::new(converted.unary::<_, Float32Type>(|value| value as f32)),
            _ => Arc::new(converted),
        };
        result(&args, array)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [value, to] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
        // What is computed between a table and the call may drop the metadata of the column.
        match value.to_field(info.schema()).ok().and_then(|(_, field)| unit_of(&field).map(str::to_owned)) {
            Some(from) => Ok(ExprSimplifyResult::Simplified(convert_units(value.clone(), &from, to.clone()))),
            None => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

const EXAMPLE: &str = "say it: convert_units(value, 'degC', 'K')";

/// The call that converts `value`.
fn convert_units(value: Expr, from: &str, to: Expr) -> Expr {
    ScalarUDF::from(ConvertUnits::new()).call(vec![value, lit(from), to])
}

/// The unit of a column, from its metadata.
fn from_field(field: &Field) -> lacus_core::Result<Unit> {
    match unit_of(field) {
        Some(unit) => Unit::parse(unit).map_err(|error| error.with("column", field.name())),
        None => Err(Error::new(Kind::InvalidQuery, format!("`{}` has no unit in its metadata", field.name())).hint(EXAMPLE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{AsArray, Float32Array, Int32Array, StringArray};

    fn doubles(value: ColumnarValue) -> Result<Vec<Option<f64>>> {
        Ok(value.into_array(1)?.as_primitive::<Float64Type>().iter().collect())
    }

    #[test]
    fn a_column_is_converted_from_what_is_said_or_what_its_metadata_says() -> Result<()> {
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(20), None]));
        let found = call(ConvertUnits::new(), vec![column(Arc::clone(&values)), literal("degC"), literal("K")])?;
        assert_eq!(doubles(found)?, [Some(293.15), None]);
        let metadata = [(UNIT_KEY.to_owned(), "degC".to_owned())].into();
        let field = Field::new("t", DataType::Int32, true).with_metadata(metadata);
        let found = call(ConvertUnits::new(), vec![(field, ColumnarValue::Array(values)), literal("K")])?;
        assert_eq!(doubles(found)?, [Some(293.15), None]);
        Ok(())
    }

    #[test]
    fn rows_may_have_their_own_units() -> Result<()> {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(3.0)]));
        let units: ArrayRef = Arc::new(StringArray::from(vec![Some("mg/L"), Some("ug/mL"), Some("nonsense"), None]));
        let found = call(ConvertUnits::new(), vec![column(values), column(Arc::clone(&units)), literal("g m-3")])?;
        assert_eq!(doubles(found)?, [Some(1.0), Some(2.0), None, None]);
        let wrong = call(ConvertUnits::new(), vec![literal(1.0), column(units), literal("g m-3")]);
        assert!(wrong.err().is_some_and(|error| error.to_string().contains("`nonsense` is no unit")));
        Ok(())
    }

    #[test]
    fn floats_stay_floats() -> Result<()> {
        let values: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.5), None]));
        let found = call(ConvertUnits::new(), vec![column(values), literal("km"), literal("m")])?.into_array(2)?;
        assert_eq!(found.as_primitive::<Float32Type>().iter().collect::<Vec<_>>(), [Some(1500.0), None]);
        Ok(())
    }

    #[test]
    fn errors_name_the_remedy() {
        let message = |arguments| call(ConvertUnits::new(), arguments).err().map(|error| error.to_string()).unwrap_or_default();
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        assert!(message(vec![column(Arc::clone(&values)), literal("K")]).contains("`x` has no unit in its metadata; say it"));
        assert!(message(vec![column(values), literal("m"), literal("K")]).contains("`m` is not converted into `K`"));
        assert!(message(vec![literal("1"), literal("m"), literal("km")]).contains("argument 1 is a Utf8"));
        assert!(message(vec![literal(1.0), literal("m"), literal(1)]).contains("takes units as text"));
    }
}

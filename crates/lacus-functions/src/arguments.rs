//! The arguments of a call: numbers and texts that are the same for all rows, or one for each.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, Signature, TypeSignature, Volatility};
use lacus_core::{Error, Kind};

/// The signature of a function with one of these numbers of arguments, of any types.
pub(crate) fn signature(counts: &[usize]) -> Signature {
    Signature::one_of(counts.iter().map(|count| TypeSignature::Any(*count)).collect(), Volatility::Immutable)
}

/// Refuses what is no number; an untyped NULL is one.
pub(crate) fn require_numbers(function: &str, types: &[DataType]) -> Result<()> {
    match types.iter().position(|data_type| !data_type.is_numeric() && !data_type.is_null()) {
        None => Ok(()),
        Some(place) => {
            let message = format!("`{function}` takes numbers, but its argument {} is a {}", place + 1, types[place]);
            Err(Error::new(Kind::InvalidQuery, message).hint("CAST it to DOUBLE if it holds numbers").into())
        }
    }
}

/// Whether a type is a text, or an untyped NULL.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        _ => false,
    }
}

/// A numeric argument as numbers of one type.
pub(crate) enum Numbers<T: ArrowPrimitiveType> {
    /// The same for all rows.
    Same(Option<T::Native>),
    /// One for each row.
    Rows(PrimitiveArray<T>),
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    /// # Errors
    /// When a value does not fit the type.
    pub(crate) fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value.cast_to(&T::DATA_TYPE, None)? {
            ColumnarValue::Array(array) => Self::Rows(array.as_primitive::<T>().clone()),
            ColumnarValue::Scalar(scalar) => Self::Same(scalar.to_array()?.as_primitive::<T>().iter().next().flatten()),
        })
    }

    pub(crate) fn at(&self, row: usize) -> Option<T::Native> {
        match self {
            Self::Same(value) => *value,
            Self::Rows(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// A text argument.
pub(crate) enum Texts {
    /// The same for all rows.
    Same(Option<String>),
    /// One for each row.
    Rows(StringArray),
}

impl Texts {
    pub(crate) fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value.cast_to(&DataType::Utf8, None)? {
            ColumnarValue::Array(array) => Self::Rows(array.as_string::<i32>().clone()),
            ColumnarValue::Scalar(scalar) => Self::Same(scalar.try_as_str().flatten().map(str::to_owned)),
        })
    }

    pub(crate) fn at(&self, row: usize) -> Option<&str> {
        match self {
            Self::Same(text) => text.as_deref(),
            Self::Rows(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// The number of rows to compute: one when no argument varies.
pub(crate) fn rows(args: &ScalarFunctionArgs) -> usize {
    if is_constant(&args.args) { 1 } else { args.number_rows }
}

/// The rows as the result of a call: a scalar when no argument varies.
pub(crate) fn result(args: &ScalarFunctionArgs, array: ArrayRef) -> Result<ColumnarValue> {
    if is_constant(&args.args) {
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
    } else {
        Ok(ColumnarValue::Array(array))
    }
}

fn is_constant(values: &[ColumnarValue]) -> bool {
    values.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)))
}

/// Calls as a plan makes them.
#[cfg(test)]
pub(crate) mod calls {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use arrow::datatypes::{Field, FieldRef};
    use datafusion_common::{Result, ScalarValue};
    use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl};

    /// Calls a function with values and their fields.
    pub(crate) fn call(function: impl ScalarUDFImpl, arguments: Vec<(Field, ColumnarValue)>) -> Result<ColumnarValue> {
        let (arg_fields, args): (Vec<FieldRef>, Vec<ColumnarValue>) =
            arguments.into_iter().map(|(field, value)| (Arc::new(field), value)).unzip();
        let scalars: Vec<Option<&ScalarValue>> =
            args.iter().map(|value| if let ColumnarValue::Scalar(scalar) = value { Some(scalar) } else { None }).collect();
        let return_field = function.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalars })?;
        let rows = |value: &ColumnarValue| if let ColumnarValue::Array(array) = value { Some(array.len()) } else { None };
        let number_rows = args.iter().find_map(rows).unwrap_or(1);
        function.invoke_with_args(ScalarFunctionArgs { args, arg_fields, number_rows, return_field, config_options: Arc::default() })
    }

    /// An argument that is the same for all rows.
    pub(crate) fn literal(value: impl Into<ScalarValue>) -> (Field, ColumnarValue) {
        let value = value.into();
        (Field::new("literal", value.data_type(), value.is_null()), ColumnarValue::Scalar(value))
    }

    /// An argument that is a column `x`.
    pub(crate) fn column(array: ArrayRef) -> (Field, ColumnarValue) {
        (Field::new("x", array.data_type().clone(), true), ColumnarValue::Array(array))
    }
}

//! Parameters: Python values to the engine's.

use lacus::{Error, Kind, ScalarValue, nearest};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyMapping, PyString};

use crate::error::OrRaise;

/// The day of 1970-01-01 as Python counts days: the first of the year 1 is day 1.
pub(crate) const EPOCH: i32 = 719_163;

/// The text of a query and its parameters by position: those of a mapping are named in the text.
pub(crate) fn bound(py: Python<'_>, text: String, params: Option<&Bound<'_, PyAny>>) -> PyResult<(String, Vec<ScalarValue>)> {
    let Some(params) = params else { return Ok((text, Vec::new())) };
    let Ok(mapping) = params.cast::<PyMapping>() else { return Ok((text, parameters(params)?)) };
    let (text, names) = lacus::named_parameters(&text).or_raise(py)?;
    let given: Vec<String> = mapping.keys()?.extract()?;
    let values = names.iter().map(|name| match given.contains(name) {
        true => scalar(&mapping.get_item(name)?, &format!("parameter `${name}`")),
        false => {
            let error = Error::new(Kind::InvalidQuery, format!("no value is given for `${name}`"));
            let error = match nearest(name, given.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("is it `{near}`?")),
                None => error.hint(format!("give params={{\"{name}\": ...}}")),
            };
            Err(error).or_raise(py)
        }
    });
    Ok((text, values.collect::<PyResult<_>>()?))
}

/// The parameters of a query, by position.
fn parameters(params: &Bound<'_, PyAny>) -> PyResult<Vec<ScalarValue>> {
    if params.is_instance_of::<PyString>() || params.try_iter().is_err() {
        return Err(PyTypeError::new_err(
            "params is a list or tuple with one value for each `?` or `$n`, in order, or a mapping with one for each `$name`",
        ));
    }
    params.try_iter()?.enumerate().map(|(position, value)| scalar(&value?, &format!("parameter {}", position + 1))).collect()
}

/// A value of Python as one of SQL; `what` it is stands in the error.
pub(crate) fn scalar(value: &Bound<'_, PyAny>, what: &str) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(ScalarValue::Boolean(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyInt>() {
        let number: i64 = value.extract().map_err(|_| PyOverflowError::new_err(format!("{what} does not fit 64 bits")))?;
        return Ok(ScalarValue::Int64(Some(number)));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(ScalarValue::Float64(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(ScalarValue::Utf8(Some(value.extract()?)));
    }
    if value.is_instance_of::<PyBytes>() {
        return Ok(ScalarValue::Binary(Some(value.extract()?)));
    }
    match other(value, what)? {
        Some(scalar) => Ok(scalar),
        None => Err(PyTypeError::new_err(format!(
            "{what} is a `{}`; give None, bool, int, float, str, bytes, date, datetime, time, timedelta or Decimal",
            value.get_type().name()?
        ))),
    }
}

/// The values of `datetime` and `decimal`, and numpy's scalars, which know their Python value.
fn other(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<ScalarValue>> {
    let py = value.py();
    let datetime = py.import("datetime")?;
    let is = |module: &Bound<'_, PyModule>, class: &str| value.is_instance(&module.getattr(class)?);
    let microseconds = |delta: &Bound<'_, PyAny>| -> PyResult<i64> {
        let one = datetime.getattr("timedelta")?.call1((0, 0, 1))?;
        delta.floor_div(one)?.extract()
    };
    if is(&datetime, "datetime")? {
        let utc = datetime.getattr("timezone")?.getattr("utc")?;
        let aware = !value.getattr("tzinfo")?.is_none();
        let epoch = datetime.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, if aware { utc } else { py.None().into_bound(py) }))?;
        let since = microseconds(&value.sub(epoch)?)?;
        return Ok(Some(ScalarValue::TimestampMicrosecond(Some(since), aware.then(|| "UTC".into()))));
    }
    if is(&datetime, "date")? {
        let days: i32 = value.call_method0("toordinal")?.extract::<i32>()? - EPOCH;
        return Ok(Some(ScalarValue::Date32(Some(days))));
    }
    if is(&datetime, "timedelta")? {
        return Ok(Some(ScalarValue::DurationMicrosecond(Some(microseconds(value)?))));
    }
    if is(&datetime, "time")? {
        let part = |name: &str| value.getattr(name)?.extract::<i64>();
        let seconds = part("hour")? * 3600 + part("minute")? * 60 + part("second")?;
        return Ok(Some(ScalarValue::Time64Microsecond(Some(seconds * 1_000_000 + part("microsecond")?))));
    }
    if is(&py.import("decimal")?, "Decimal")? {
        return decimal(value).map(Some);
    }
    if value.hasattr("dtype")? && value.hasattr("item")? {
        return numpy_scalar(value, what);
    }
    Ok(None)
}

/// numpy's scalars know their Python value, but for times finer than a microsecond, and for types that Python lacks.
fn numpy_scalar(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<ScalarValue>> {
    let kind: String = value.getattr("dtype")?.getattr("kind")?.extract()?;
    let item = match kind.as_str() {
        "M" => value.call_method1("astype", ("datetime64[us]",))?.call_method0("item")?,
        "m" => value.call_method1("astype", ("timedelta64[us]",))?.call_method0("item")?,
        _ => value.call_method0("item")?,
    };
    if item.hasattr("dtype")? { Ok(None) } else { scalar(&item, what).map(Some) }
}

fn decimal(value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    const PRECISION: usize = 38;
    let (sign, digits, exponent): (u8, Vec<u8>, i32) =
        value.call_method0("as_tuple")?.extract().map_err(|_| PyTypeError::new_err("a Decimal that is not a number"))?;
    let scale = i8::try_from(-exponent.min(0)).map_err(|_| PyOverflowError::new_err("a Decimal with too many digits"))?;
    let zeros = usize::try_from(exponent.max(0)).unwrap_or(PRECISION);
    if digits.len() + zeros > PRECISION {
        return Err(PyOverflowError::new_err(format!("a Decimal with more than {PRECISION} digits")));
    }
    let unsigned =
        digits.iter().copied().chain(std::iter::repeat_n(0, zeros)).fold(0_i128, |number, digit| number * 10 + i128::from(digit));
    Ok(ScalarValue::Decimal128(Some(if sign == 1 { -unsigned } else { unsigned }), PRECISION as u8, scale))
}

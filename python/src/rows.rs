//! Rows as values of Python itself, which needs no library: what `to_pylist` of pyarrow gives.

use lacus::arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch};
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use lacus::arrow::util::display::array_value_to_string;
use lacus::{Error, Kind};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::error::{OrRaise, raised};
use crate::value::EPOCH;

/// The values of a column; `None` is NULL.
type Values<'py> = Vec<Option<Bound<'py, PyAny>>>;

/// Microseconds.
const DAY: i128 = 86_400_000_000;

/// The rows of a batch.
pub(crate) fn of<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| Column { py, name: field.name() }.values(column).map(Vec::into_iter));
    let mut columns: Vec<_> = columns.collect::<PyResult<_>>()?;
    (0..batch.num_rows()).map(|_| PyTuple::new(py, columns.iter_mut().map(|values| values.next().flatten()))).collect()
}

/// What stands in the errors of a column.
#[derive(Clone, Copy)]
struct Column<'py, 'c> {
    py: Python<'py>,
    name: &'c str,
}

impl<'py> Column<'py, '_> {
    fn values(self, array: &dyn Array) -> PyResult<Values<'py>> {
        let py = self.py;
        match array.data_type() {
            DataType::Null => Ok(vec![None; array.len()]),
            DataType::Boolean => self.plain(array.as_boolean().iter()),
            DataType::Int8 => self.plain(array.as_primitive::<Int8Type>().iter()),
            DataType::Int16 => self.plain(array.as_primitive::<Int16Type>().iter()),
            DataType::Int32 => self.plain(array.as_primitive::<Int32Type>().iter()),
            DataType::Int64 => self.plain(array.as_primitive::<Int64Type>().iter()),
            DataType::UInt8 => self.plain(array.as_primitive::<UInt8Type>().iter()),
            DataType::UInt16 => self.plain(array.as_primitive::<UInt16Type>().iter()),
            DataType::UInt32 => self.plain(array.as_primitive::<UInt32Type>().iter()),
            DataType::UInt64 => self.plain(array.as_primitive::<UInt64Type>().iter()),
            DataType::Float16 => self.plain(array.as_primitive::<Float16Type>().iter().map(|value| value.map(f64::from))),
            DataType::Float32 => self.plain(array.as_primitive::<Float32Type>().iter()),
            DataType::Float64 => self.plain(array.as_primitive::<Float64Type>().iter()),
            DataType::Utf8 => self.plain(array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => self.plain(array.as_string::<i64>().iter()),
            DataType::Utf8View => self.plain(array.as_string_view().iter()),
            DataType::Binary => self.bytes(array.as_binary::<i32>().iter()),
            DataType::LargeBinary => self.bytes(array.as_binary::<i64>().iter()),
            DataType::BinaryView => self.bytes(array.as_binary_view().iter()),
            DataType::FixedSizeBinary(_) => self.bytes(array.as_fixed_size_binary().iter()),
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                let decimal = py.import(intern!(py, "decimal"))?.getattr(intern!(py, "Decimal"))?;
                self.each(array, |row| decimal.call1((self.text(array, row)?,)))
            }
            DataType::List(_) => self.lists::<i32>(array),
            DataType::LargeList(_) => self.lists::<i64>(array),
            DataType::ListView(_) => self.each(array, |row| self.list(&array.as_list_view::<i32>().value(row))),
            DataType::LargeListView(_) => self.each(array, |row| self.list(&array.as_list_view::<i64>().value(row))),
            DataType::FixedSizeList(..) => self.each(array, |row| self.list(&array.as_fixed_size_list().value(row))),
            DataType::Map(..) => self.each(array, |row| {
                let entries = array.as_map().value(row);
                let (keys, values) = (self.values(entries.column(0))?, self.values(entries.column(1))?);
                PyList::new(py, keys.into_iter().zip(values))?.into_bound_py_any(py)
            }),
            DataType::Struct(_) => self.structs(array),
            DataType::Dictionary(_, values) => self.values(&cast(array, values).map_err(Error::from).or_raise(py)?),
            DataType::RunEndEncoded(_, values) => self.values(&cast(array, values.data_type()).map_err(Error::from).or_raise(py)?),
            DataType::Union(..) => {
                let one = |row| Ok(self.values(&array.as_union().value(row))?.pop().flatten());
                (0..array.len()).map(one).collect()
            }
            _ => self.times(array),
        }
    }

    /// Of dates, times and intervals, which are all that there is beside.
    fn times(self, array: &dyn Array) -> PyResult<Values<'py>> {
        let py = self.py;
        match array.data_type() {
            DataType::Date32 | DataType::Date64 => {
                let from_ordinal = datetime(py)?.getattr(intern!(py, "date"))?.getattr(intern!(py, "fromordinal"))?;
                let a_day = if *array.data_type() == DataType::Date64 { 86_400_000 } else { 1 };
                self.whole(array, |since| from_ordinal.call1((since.div_euclid(a_day).saturating_add(EPOCH.into()),)))
            }
            DataType::Time32(unit) | DataType::Time64(unit) => {
                let midnight = datetime(py)?.getattr(intern!(py, "datetime"))?.getattr(intern!(py, "min"))?;
                let delta = Delta::new(py, *unit)?;
                self.whole(array, |since| midnight.add(delta.of(since)?)?.call_method0(intern!(py, "time")))
            }
            DataType::Timestamp(unit, zone) => {
                let epoch = datetime(py)?.getattr(intern!(py, "datetime"))?;
                let delta = Delta::new(py, *unit)?;
                let Some(zone) = zone else {
                    let epoch = epoch.call1((1970, 1, 1))?;
                    return self.whole(array, |since| epoch.add(delta.of(since)?));
                };
                let (utc, zone) = (time_zone(py, "UTC")?, time_zone(py, zone).or_else(|error| self.unknown_zone(zone, error))?);
                let epoch = epoch.call1((1970, 1, 1, 0, 0, 0, 0, &utc))?;
                let is_utc = zone.is(&utc);
                self.whole(array, |since| {
                    let time = epoch.add(delta.of(since)?)?;
                    if is_utc { Ok(time) } else { time.call_method1(intern!(py, "astimezone"), (&zone,)) }
                })
            }
            DataType::Duration(unit) => {
                let delta = Delta::new(py, *unit)?;
                self.whole(array, |length| delta.of(length))
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                self.plain(array.as_primitive::<IntervalYearMonthType>().iter().map(|value| value.map(|months| (months, 0, 0))))
            }
            DataType::Interval(IntervalUnit::DayTime) => {
                let parts = array.as_primitive::<IntervalDayTimeType>().iter();
                self.plain(parts.map(|value| value.map(|part| (0, part.days, i64::from(part.milliseconds) * 1_000_000))))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let parts = array.as_primitive::<IntervalMonthDayNanoType>().iter();
                self.plain(parts.map(|value| value.map(|part| (part.months, part.days, part.nanoseconds))))
            }
            other => Err(Error::new(Kind::Unsupported, format!("column `{}`: no value of Python is {other}", self.name))).or_raise(py),
        }
    }

    fn plain<V: IntoPyObject<'py>>(self, values: impl Iterator<Item = Option<V>>) -> PyResult<Values<'py>> {
        values.map(|value| value.map(|value| value.into_bound_py_any(self.py)).transpose()).collect()
    }

    fn bytes<'b>(self, values: impl Iterator<Item = Option<&'b [u8]>>) -> PyResult<Values<'py>> {
        Ok(values.map(|value| value.map(|value| PyBytes::new(self.py, value).into_any())).collect())
    }

    fn each(self, array: &dyn Array, value: impl Fn(usize) -> PyResult<Bound<'py, PyAny>>) -> PyResult<Values<'py>> {
        (0..array.len()).map(|row| array.is_valid(row).then(|| value(row)).transpose()).collect()
    }

    /// The values of a type of dates and times, of their whole numbers.
    fn whole(self, array: &dyn Array, value: impl Fn(i64) -> PyResult<Bound<'py, PyAny>>) -> PyResult<Values<'py>> {
        let numbers = cast(array, &DataType::Int64).map_err(Error::from).or_raise(self.py)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        self.each(array, |row| {
            value(numbers.value(row)).map_err(|error| {
                let beyond = error.is_instance_of::<PyOverflowError>(self.py) || error.is_instance_of::<PyValueError>(self.py);
                if beyond { self.beyond(array, row) } else { error }
            })
        })
    }

    fn lists<O: OffsetSizeTrait>(self, array: &dyn Array) -> PyResult<Values<'py>> {
        self.each(array, |row| self.list(&array.as_list::<O>().value(row)))
    }

    fn list(self, values: &dyn Array) -> PyResult<Bound<'py, PyAny>> {
        PyList::new(self.py, self.values(values)?)?.into_bound_py_any(self.py)
    }

    fn structs(self, array: &dyn Array) -> PyResult<Values<'py>> {
        let structs = array.as_struct();
        let names = structs.column_names();
        if let Some(twice) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name)) {
            let message = format!("column `{}` has two fields `{twice}`, and a dict keeps one", self.name);
            return Err(Error::new(Kind::Unsupported, message).hint("name them apart, or read the result by to_arrow()")).or_raise(self.py);
        }
        let fields = structs.columns().iter().map(|field| self.values(field)).collect::<PyResult<Vec<_>>>()?;
        self.each(array, |row| {
            let value = PyDict::new(self.py);
            for (name, field) in names.iter().zip(&fields) {
                value.set_item(name, &field[row])?;
            }
            Ok(value.into_any())
        })
    }

    fn text(self, array: &dyn Array, row: usize) -> PyResult<String> {
        array_value_to_string(array, row).map_err(Error::from).or_raise(self.py)
    }

    fn unknown_zone<T>(self, zone: &str, error: PyErr) -> PyResult<T> {
        let message = format!("column `{}`: Python knows no time zone `{zone}`: {error}", self.name);
        Err(Error::new(Kind::Unsupported, message).hint("pip install tzdata, or read the result by to_arrow()")).or_raise(self.py)
    }

    fn beyond(self, array: &dyn Array, row: usize) -> PyErr {
        let value = self.text(array, row).unwrap_or_default();
        let message =
            format!("column `{}`: {value} is no value of Python's datetime, which has microseconds and the years 1 to 9999", self.name);
        raised(self.py, &Error::new(Kind::Unsupported, message).hint("CAST the column, or read the result by to_arrow()"))
    }
}

/// Makes differences of times.
struct Delta<'py> {
    class: Bound<'py, PyAny>,
    unit: TimeUnit,
}

impl<'py> Delta<'py> {
    fn new(py: Python<'py>, unit: TimeUnit) -> PyResult<Self> {
        Ok(Self { class: datetime(py)?.getattr(intern!(py, "timedelta"))?, unit })
    }

    /// An overflow, or an error of a value, where it is none of Python's.
    fn of(&self, count: i64) -> PyResult<Bound<'py, PyAny>> {
        let count = i128::from(count);
        let microseconds = match self.unit {
            TimeUnit::Second => count * 1_000_000,
            TimeUnit::Millisecond => count * 1_000,
            TimeUnit::Microsecond => count,
            TimeUnit::Nanosecond if count % 1_000 == 0 => count / 1_000,
            TimeUnit::Nanosecond => return Err(PyValueError::new_err("finer than a microsecond")),
        };
        let days = i64::try_from(microseconds.div_euclid(DAY))?;
        self.class.call1((days, 0, i64::try_from(microseconds.rem_euclid(DAY))?))
    }
}

fn datetime(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "datetime"))
}

/// A time zone by the name or the offset that Arrow has for it.
fn time_zone<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let of_offset = datetime(py)?.getattr(intern!(py, "timezone"))?;
    let (sign, offset) = match name.as_bytes() {
        b"UTC" | b"Z" => return of_offset.getattr(intern!(py, "utc")),
        [b'+', ..] => (1, &name[1..]),
        [b'-', ..] => (-1, &name[1..]),
        _ => return py.import("zoneinfo")?.getattr("ZoneInfo")?.call1((name,)),
    };
    let digits: String = offset.chars().filter(|letter| *letter != ':').collect();
    let digits: i32 = if digits.len() <= 2 { digits.parse::<i32>()? * 100 } else { digits.parse()? };
    let minutes = sign * (digits / 100 * 60 + digits % 100);
    of_offset.call1((datetime(py)?.getattr(intern!(py, "timedelta"))?.call1((0, 60 * minutes))?,))
}

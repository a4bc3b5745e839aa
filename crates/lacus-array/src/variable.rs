//! A column as an array of a file: by CF, its attributes say what its numbers mean and which of them mean "missing".

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int8Array, Int64Array, PrimitiveArray, Scalar, StringArray,
};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast, cast_with_options, is_not_null};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use lacus_core::{Error, Kind, Result, UNIT_KEY};

use crate::cf::{TimeUnit, default_fill};
use crate::container::Attributes;
use crate::mapping::{CALENDAR_KEY, TIME_UNITS_KEY};

/// Metadata of carriers, which says nothing about the values.
const CARRIERS: [&str; 4] = ["ARROW:", "PARQUET:", "lacus.", "pandas"];
/// Values are written as they are, so what told how they were packed or which were missing is said anew or not at all.
const OF_STORAGE: [&str; 6] = ["scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "_Encoding"];
/// In the units of what was stored.
const OF_STORED: [&str; 3] = ["valid_min", "valid_max", "valid_range"];
/// Attributes that are numbers by the CF conventions; field metadata is text.
const NUMBERS: [&str; 6] = ["valid_min", "valid_max", "valid_range", "actual_range", "flag_values", "flag_masks"];
/// The epoch of times that come without a unit.
const EPOCH: &str = "since 1970-01-01";
/// The attribute by which readers know what is missing.
const FILL: &str = "_FillValue";

/// One array of a grid that is written.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The dimensions along which it varies, by their place in the grid.
    pub axes: Vec<usize>,
    /// The type of its values: a number, a boolean or `LargeUtf8`.
    pub data_type: DataType,
    /// The attributes. `_FillValue` has the type of the values, and is there only when some mean "missing".
    pub attributes: Attributes,
    /// Bytes of the longest text.
    pub longest: usize,
    encoding: Encoding,
}

/// How the values of a column become those of the array.
#[derive(Debug, Clone)]
enum Encoding {
    Same,
    Times(TimeUnit),
    /// Times between microseconds, as nanoseconds since 1970.
    Nanoseconds,
}

impl Variable {
    /// The array that holds a column. `pieces` are its values, `gaps` whether there are cells without a row.
    ///
    /// # Errors
    /// `Unsupported` when values are missing, and no other is left to say so.
    pub(crate) fn of(field: &Field, axes: Vec<usize>, pieces: &[ArrayRef], gaps: bool) -> Result<Self> {
        let metadata: BTreeMap<&str, &str> =
            field.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())).filter(|(key, _)| !is_carrier(key)).collect();
        let missing = gaps || pieces.iter().any(|piece| piece.null_count() > 0);
        let stored = pieces.first().map_or(DataType::Null, |piece| piece.data_type().clone());
        let mut made = Self {
            name: field.name().clone(),
            axes,
            attributes: attributes(&metadata, &stored),
            longest: 0,
            encoding: Encoding::Same,
            data_type: stored.clone(),
        };
        match stored {
            DataType::Timestamp(..) => made.times(&metadata, pieces, missing)?,
            DataType::Boolean if missing => made.missing_booleans(),
            DataType::Boolean => {}
            DataType::LargeUtf8 => {
                let lengths = pieces.iter().flat_map(|piece| piece.as_string::<i64>().iter().flatten().map(str::len));
                made.longest = lengths.max().unwrap_or(0);
            }
            _ => made.choose_fill(&metadata, pieces, missing)?,
        }
        Ok(made)
    }

    /// The values as they are written: none of them is NULL.
    pub(crate) fn encode(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let numbers = match &self.encoding {
            Encoding::Same => Arc::clone(values),
            Encoding::Nanoseconds => cast(values, &DataType::Int64)?,
            Encoding::Times(unit) => numbers(values, unit, &self.data_type)?,
        };
        let numbers = if *numbers.data_type() == self.data_type { numbers } else { cast(&numbers, &self.data_type)? };
        if numbers.null_count() == 0 {
            return Ok(numbers);
        }
        // A text has no value to spare: the empty one stands for what is missing.
        let fill = match self.attributes.get(FILL) {
            Some(fill) => Arc::clone(fill),
            None => cast(&StringArray::from(vec![""]), &self.data_type)?,
        };
        Ok(zip(&is_not_null(&numbers)?, &numbers, &Scalar::new(fill))?)
    }

    /// Truth values have none to spare either, so they become the numbers 0, 1 and one more.
    fn missing_booleans(&mut self) {
        self.data_type = DataType::Int8;
        self.attributes.push("flag_values", Arc::new(Int8Array::from(vec![0, 1])));
        self.attributes.push_text("flag_meanings", "false true");
        self.attributes.push(FILL, Arc::new(Int8Array::from(vec![-1])));
    }

    /// Chooses the value that means "missing": that of the file where the column comes from, else the usual one, else any that is free.
    /// Without missing values there is one only where the file had one, or where readers would take a value for the default.
    fn choose_fill(&mut self, metadata: &BTreeMap<&str, &str>, pieces: &[ArrayRef], missing: bool) -> Result<()> {
        let packed = metadata.contains_key("scale_factor") || metadata.contains_key("add_offset");
        let own = metadata.get(FILL).or_else(|| metadata.get("missing_value")).filter(|_| !packed);
        let own = own.and_then(|text| parsed(text, &self.data_type)).filter(|own| own.len() == 1);
        let default = default_fill(&self.data_type);
        let is_taken = default.as_ref().map(|default| is_among(default, pieces)).transpose()?.unwrap_or(false);
        if let Some(own) = own
            && !is_among(&own, pieces)?
        {
            self.attributes.push(FILL, own);
            return Ok(());
        }
        if !missing && !is_taken {
            return Ok(());
        }
        for candidate in candidates(&self.data_type, default)? {
            if !is_among(&candidate, pieces)? {
                self.attributes.push(FILL, candidate);
                return Ok(());
            }
        }
        if !missing {
            return Ok(());
        }
        let message = format!("`{}` lacks values, and each {} is a value of it, so that none can say so", self.name, self.data_type);
        Err(Error::new(Kind::Unsupported, message).hint("CAST it to a wider type"))
    }

    /// Times get back the unit and calendar that they had, as whole numbers if they are whole; if they don't fit, a unit that fits.
    fn times(&mut self, metadata: &BTreeMap<&str, &str>, pieces: &[ArrayRef], missing: bool) -> Result<()> {
        let of = |key: &str| metadata.get(key).copied().unwrap_or_default();
        let calendar = of(CALENDAR_KEY);
        let Some(pieces) = pieces.iter().map(microseconds).collect::<Result<Option<Vec<_>>>>()? else {
            self.encoding = Encoding::Nanoseconds;
            return self.times_as(&format!("nanoseconds {EPOCH}"), "proleptic_gregorian", DataType::Int64, missing);
        };
        let all = || pieces.iter().flat_map(|piece| piece.iter().flatten());
        let mut wanted = vec![(of(TIME_UNITS_KEY).to_owned(), calendar)];
        for calendar in [calendar, "proleptic_gregorian"].into_iter().filter(|calendar| !calendar.is_empty()) {
            let units = ["days", "hours", "minutes", "seconds", "milliseconds", "microseconds"];
            wanted.extend(units.map(|unit| (format!("{unit} {EPOCH}"), calendar)));
        }
        for (position, (units, calendar)) in wanted.iter().enumerate() {
            let Some(unit) = TimeUnit::parse(units, calendar).filter(TimeUnit::fits_timestamp) else { continue };
            let small = |number: i64| i32::try_from(number).is_ok_and(|number| number > i32::MIN + 1);
            let data_type = if all().all(|time| whole(&unit, time).is_some_and(small)) {
                DataType::Int32
            } else if all().all(|time| whole(&unit, time).is_some_and(|number| number > i64::MIN + 2)) {
                DataType::Int64
            } else if position == 0 && all().all(|time| fraction(&unit, time).is_some()) {
                DataType::Float64
            } else {
                continue;
            };
            self.encoding = Encoding::Times(unit);
            return self.times_as(units, calendar, data_type, missing);
        }
        Err(Error::new(Kind::Unsupported, format!("the times of `{}` are beyond what a file can hold", self.name)))
    }

    fn times_as(&mut self, units: &str, calendar: &str, data_type: DataType, missing: bool) -> Result<()> {
        self.attributes.push_text(UNIT_KEY, units);
        if !calendar.is_empty() {
            self.attributes.push_text(CALENDAR_KEY, calendar);
        }
        if missing {
            let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
            let fill = default_fill(&data_type).filter(|_| data_type != DataType::Float64).unwrap_or(nan);
            self.attributes.push(FILL, fill);
        }
        self.data_type = data_type;
        Ok(())
    }
}

/// The attributes of a field that still hold.
pub(crate) fn is_carrier(key: &str) -> bool {
    CARRIERS.iter().any(|carrier| key.starts_with(carrier))
}

fn attributes(metadata: &BTreeMap<&str, &str>, stored: &DataType) -> Attributes {
    let is_time = matches!(stored, DataType::Timestamp(..));
    let packed = metadata.contains_key("scale_factor") || metadata.contains_key("add_offset");
    let mut attributes = Attributes::new();
    for (key, text) in metadata {
        let of_time = [UNIT_KEY, TIME_UNITS_KEY, CALENDAR_KEY].contains(key);
        if OF_STORAGE.contains(key) || (is_time && of_time) || ((is_time || packed) && OF_STORED.contains(key)) {
            continue;
        }
        match parsed(text, stored).filter(|_| NUMBERS.contains(key)) {
            Some(numbers) => attributes.push(*key, numbers),
            None => attributes.push_text(*key, *text),
        }
    }
    attributes
}

/// The number or numbers that a text shows, in a type that holds them.
fn parsed(text: &str, data_type: &DataType) -> Option<ArrayRef> {
    if !data_type.is_numeric() {
        return None;
    }
    let list = text.trim().trim_start_matches('[').trim_end_matches(']');
    let texts: StringArray = list.split(',').map(|item| Some(item.trim())).collect();
    let numbers = cast_with_options(&texts, data_type, &CastOptions { safe: true, ..CastOptions::default() }).ok()?;
    (numbers.null_count() == 0).then_some(numbers)
}

/// Values that may mean "missing", the usual one first.
fn candidates(data_type: &DataType, default: Option<ArrayRef>) -> Result<Vec<ArrayRef>> {
    if data_type.is_floating() {
        let nan = cast(&Float64Array::from(vec![f64::NAN]), data_type)?;
        return Ok(std::iter::once(nan).chain(default).collect());
    }
    let few = matches!(data_type, DataType::Int8 | DataType::UInt8);
    let ends = [i64::MIN, i64::MAX, -128, 255, i64::from(i32::MIN), i64::from(i32::MAX), i64::from(u32::MAX), -32_768, 32_767, 65_535];
    let numbers = if few { (-128..=255).collect::<Vec<i64>>() } else { ends.to_vec() };
    let safe = CastOptions { safe: true, ..CastOptions::default() };
    let all = cast_with_options(&Int64Array::from(numbers), data_type, &safe)?;
    let single = (0..all.len()).filter(|place| all.is_valid(*place)).map(|place| all.slice(place, 1));
    Ok(default.into_iter().chain(single).collect())
}

fn is_among(value: &ArrayRef, pieces: &[ArrayRef]) -> Result<bool> {
    let value = Scalar::new(Arc::clone(value));
    for piece in pieces {
        if eq(piece, &value)?.true_count() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Timestamps of any unit as microseconds; `None` when some lie between two microseconds.
fn microseconds(times: &ArrayRef) -> Result<Option<PrimitiveArray<Int64Type>>> {
    fn scaled<T: ArrowPrimitiveType<Native = i64>>(times: &ArrayRef, factor: i64) -> Result<PrimitiveArray<Int64Type>> {
        let beyond = || arrow::error::ArrowError::ComputeError("a time is beyond what a file can hold".to_owned());
        Ok(times.as_primitive::<T>().try_unary(|time| time.checked_mul(factor).ok_or_else(beyond))?)
    }
    Ok(match times.data_type() {
        DataType::Timestamp(ArrowUnit::Second, _) => Some(scaled::<TimestampSecondType>(times, 1_000_000)?),
        DataType::Timestamp(ArrowUnit::Millisecond, _) => Some(scaled::<TimestampMillisecondType>(times, 1000)?),
        DataType::Timestamp(ArrowUnit::Microsecond, _) => Some(scaled::<TimestampMicrosecondType>(times, 1)?),
        _ => {
            let fine = times.as_primitive::<TimestampNanosecondType>();
            let whole = fine.iter().flatten().all(|time| time % 1000 == 0);
            whole.then(|| fine.unary::<_, Int64Type>(|time| time.div_euclid(1000)))
        }
    })
}

/// The whole number of units at a time, if it is whole.
fn whole(unit: &TimeUnit, time: i64) -> Option<i64> {
    let elapsed = unit.elapsed(time)?;
    let number = if unit.microseconds < 1.0 {
        elapsed.checked_mul((1.0 / unit.microseconds).round() as i128)?
    } else {
        let length = unit.microseconds as i128;
        (elapsed % length == 0).then_some(elapsed / length)?
    };
    i64::try_from(number).ok()
}

/// The number of units at a time, if it leads back to exactly that time.
fn fraction(unit: &TimeUnit, time: i64) -> Option<f64> {
    let number = unit.elapsed(time)? as f64 / unit.microseconds;
    (unit.timestamp(number) == Some(time)).then_some(number)
}

fn numbers(times: &ArrayRef, unit: &TimeUnit, data_type: &DataType) -> Result<ArrayRef> {
    let times = microseconds(times)?.ok_or_else(|| Error::new(Kind::Internal, "times became finer while they were written"))?;
    if data_type.is_floating() {
        let numbers = times.iter().map(|time| time.and_then(|time| fraction(unit, time)));
        return Ok(Arc::new(numbers.collect::<PrimitiveArray<Float64Type>>()));
    }
    Ok(Arc::new(times.iter().map(|time| time.and_then(|time| whole(unit, time))).collect::<Int64Array>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int16Array, TimestampMicrosecondArray, UInt8Array};

    const DAY: i64 = 86_400_000_000;

    fn field(data_type: DataType, metadata: &[(&str, &str)]) -> Field {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Field::new("v", data_type, true).with_metadata(metadata.collect())
    }

    fn variable(values: &ArrayRef, metadata: &[(&str, &str)]) -> Result<(Variable, ArrayRef)> {
        let field = field(values.data_type().clone(), metadata);
        let variable = Variable::of(&field, vec![0], std::slice::from_ref(values), false)?;
        let encoded = variable.encode(values)?;
        assert_eq!(*encoded.data_type(), variable.data_type);
        assert_eq!(encoded.null_count(), 0);
        Ok((variable, encoded))
    }

    #[test]
    fn times_get_their_unit_back_or_one_that_fits() -> Result<()> {
        let noleap = [("cf_units", "days since 2000-02-28"), ("calendar", "noleap")];
        let march: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(11_017 * DAY), Some(11_017 * DAY + DAY / 2)]));
        let (variable, encoded) = variable(&march, &noleap)?;
        assert_eq!(variable.attributes.text("units"), Some("days since 2000-02-28"));
        assert_eq!(encoded.as_primitive::<Float64Type>().values(), &[1.0, 1.5]);
        let plain: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(3_600_000_000), None]));
        let (variable, encoded) = super::tests::variable(&plain, &[])?;
        assert_eq!(variable.attributes.text("units"), Some("hours since 1970-01-01"));
        assert_eq!(cast(&encoded, &DataType::Int64)?.as_primitive::<Int64Type>().values()[0], 1);
        assert!(variable.attributes.get(FILL).is_some());
        Ok(())
    }

    #[test]
    fn a_fill_value_is_no_value() -> Result<()> {
        let shorts: ArrayRef = Arc::new(Int16Array::from(vec![Some(-32_767), None]));
        let (made, encoded) = variable(&shorts, &[("_FillValue", "-32767"), ("flag_values", "[1, 2]")])?;
        assert_eq!(made.attributes.integers("flag_values").map(|values| values.values().to_vec()), Some(vec![1, 2]));
        assert!(made.attributes.number(FILL).is_some_and(|fill| fill != -32_767.0 && fill != -1.0));
        assert_eq!(
            cast(&encoded.slice(1, 1), &DataType::Float64)?.as_primitive::<Float64Type>().value(0),
            made.attributes.number(FILL).unwrap_or(0.0)
        );
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![Some(f32::NAN), None]));
        let (made, _) = variable(&floats, &[("scale_factor", "0.5"), ("units", "K")])?;
        assert!(made.attributes.number(FILL).is_some_and(|fill| fill > 1e36));
        assert!(made.attributes.get("scale_factor").is_none() && made.attributes.text("units") == Some("K"));
        let full: ArrayRef = Arc::new((0..=255).map(Some).chain([None]).collect::<UInt8Array>());
        assert!(variable(&full, &[]).is_err());
        Ok(())
    }
}

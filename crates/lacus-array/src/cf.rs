//! CF decoding: what the attributes of a variable say that its numbers mean.
//!
//! The order is that of netCDF4-python: unsigned reinterpretation, then NULL for what is missing or out of the valid range, compared in
//! packed units, then `value * scale_factor + add_offset`, or the time that `units` and `calendar` name.

mod calendar;
mod mask;
mod time;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit as ArrowUnit, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use lacus_core::{Error, Kind, Result};
use num_traits::AsPrimitive;

pub use calendar::{Calendar, Date};
pub(crate) use time::time_texts;
pub use time::{TimeUnit, iso_text};

pub(crate) use mask::{Mask, default_fill};

use crate::container::{ArrayMeta, Attributes};
use crate::element::repeated;

/// How the stored numbers of one variable of one container become the values of a column.
#[derive(Debug, Clone)]
pub(crate) struct Decoding {
    /// The type of the numbers as stored, unsigned when `_Unsigned` says so.
    stored: DataType,
    /// Whether signed numbers are read as unsigned ones.
    unsigned: bool,
    mask: Mask,
    packing: Option<Packing>,
    time: Option<TimeUnit>,
    /// What cells hold that were never written: beyond the edge of an array there are always some.
    unwritten: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Packing {
    scale: Option<f64>,
    offset: Option<f64>,
    /// Whether the arithmetic is that of 32-bit floats.
    single: bool,
}

impl Decoding {
    /// What the attributes of `array` say; `inherited` are those of the variable whose bounds it holds.
    pub(crate) fn of(array: &ArrayMeta, inherited: Option<&Attributes>) -> Self {
        let raw = array.element.data_type();
        if !array.element.is_number() {
            return Self { mask: Mask::of_names(array), ..Self::raw(array) };
        }
        let attributes = &array.attributes;
        let unsigned = attributes.text("_Unsigned").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let stored = if unsigned { to_unsigned(&raw) } else { raw.clone() };
        // Half floats are looked at as floats.
        let masked = if raw == DataType::Float16 { &DataType::Float32 } else { &raw };
        let mask = Mask::of(array, masked, if raw == DataType::Float16 { masked } else { &stored });
        let packing = packing(attributes, &stored);
        let units = attributes.text("units").or_else(|| inherited?.text("units")).unwrap_or_default();
        let calendar = attributes.text("calendar").or_else(|| inherited?.text("calendar")).unwrap_or_default();
        let time = TimeUnit::parse(units, calendar).filter(TimeUnit::fits_timestamp);
        let fill = array.fill.as_deref().and_then(|fill| repeated(&array.element, Some(fill), 1).ok());
        let fill = fill.and_then(|fill| cast(&fill, &DataType::Float64).ok());
        let unwritten = fill.and_then(|fill| fill.as_primitive::<Float64Type>().values().first().copied());
        Self { unsigned: stored != raw, stored, mask, packing, time, unwritten }
    }

    /// No decoding: what is stored is the value.
    pub(crate) fn raw(array: &ArrayMeta) -> Self {
        Self { stored: array.element.data_type(), unsigned: false, mask: Mask::default(), packing: None, time: None, unwritten: None }
    }

    /// The type of the column.
    pub(crate) fn data_type(&self) -> DataType {
        match (&self.time, &self.packing) {
            (Some(_), _) => DataType::Timestamp(ArrowUnit::Microsecond, None),
            (None, Some(packing)) if packing.single => DataType::Float32,
            (None, Some(_)) => DataType::Float64,
            (None, None) => self.stored.clone(),
        }
    }

    /// Whether values can be NULL.
    pub(crate) fn is_nullable(&self) -> bool {
        !self.mask.is_empty() || self.time.is_some() || matches!(self.stored, DataType::Dictionary(..))
    }

    /// Whether the column holds what is stored, unchanged.
    pub(crate) fn is_raw(&self) -> bool {
        !self.unsigned && self.mask.is_empty() && self.packing.is_none() && self.time.is_none()
    }

    /// Whether the values are times.
    pub(crate) fn is_time(&self) -> bool {
        self.time.is_some()
    }

    /// The values of the column.
    ///
    /// # Errors
    /// What a conversion of types says.
    pub(crate) fn apply(&self, raw: &ArrayRef) -> Result<ArrayRef> {
        match &self.stored {
            DataType::Int8 => self.numbers::<Int8Type>(raw),
            DataType::Int16 => self.numbers::<Int16Type>(raw),
            DataType::Int32 => self.numbers::<Int32Type>(raw),
            DataType::Int64 => self.numbers::<Int64Type>(raw),
            DataType::UInt8 => self.numbers::<UInt8Type>(raw),
            DataType::UInt16 => self.numbers::<UInt16Type>(raw),
            DataType::UInt32 => self.numbers::<UInt32Type>(raw),
            DataType::UInt64 => self.numbers::<UInt64Type>(raw),
            DataType::Float32 => self.numbers::<Float32Type>(raw),
            DataType::Float64 => self.numbers::<Float64Type>(raw),
            DataType::Float16 if !self.is_raw() => {
                let wide = cast(raw, &DataType::Float32)?;
                let decoded = self.numbers::<Float32Type>(&wide)?;
                Ok(if self.packing.is_none() && self.time.is_none() { cast(&decoded, &DataType::Float16)? } else { decoded })
            }
            _ => self.mask.names(raw),
        }
    }

    fn numbers<T>(&self, raw: &ArrayRef) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: ArrowNativeTypeOp + AsPrimitive<f64> + AsPrimitive<f32> + AsPrimitive<i64>,
    {
        let raw = reinterpreted::<T>(raw);
        let nulls = self.mask.nulls(raw.values())?;
        if let Some(unit) = &self.time {
            return Ok(Arc::new(self.times(&raw, unit, nulls.as_ref())?));
        }
        let Some(packing) = self.packing else { return Ok(Arc::new(PrimitiveArray::<T>::new(raw.values().clone(), nulls))) };
        let Packing { scale, offset, single } = packing;
        if single {
            let scale = scale.map(|scale| scale as f32);
            let offset = offset.map(|offset| offset as f32);
            let values: Vec<f32> = raw.values().iter().map(|value| unpacked(AsPrimitive::<f32>::as_(*value), scale, offset)).collect();
            return Ok(Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls)));
        }
        let values: Vec<f64> = raw.values().iter().map(|value| unpacked(AsPrimitive::<f64>::as_(*value), scale, offset)).collect();
        Ok(Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)))
    }

    /// A time that no timestamp can hold is an error; NaN is NULL, and so is what was never written.
    fn times<T>(&self, raw: &PrimitiveArray<T>, unit: &TimeUnit, nulls: Option<&NullBuffer>) -> Result<TimestampMicrosecondArray>
    where
        T: ArrowPrimitiveType,
        T::Native: AsPrimitive<f64> + AsPrimitive<i64>,
    {
        let whole = T::DATA_TYPE.is_integer() && self.packing.is_none();
        let (scale, offset) = self.packing.map_or((None, None), |packing| (packing.scale, packing.offset));
        let of = |stored: T::Native| {
            let value: f64 = unpacked(stored.as_(), scale, offset);
            if value.is_nan() {
                return Ok(None);
            }
            let time = if whole { unit.timestamp_of_integer(stored.as_()) } else { unit.timestamp(value) };
            if time.is_none() && self.unwritten == Some(stored.as_()) {
                return Ok(None);
            }
            time.map(Some).ok_or_else(|| {
                Error::new(Kind::CorruptData, format!("the time {value} is no date that a timestamp can hold"))
                    .hint("decode_cf => false gives the numbers")
            })
        };
        let valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        raw.values().iter().enumerate().map(|(row, value)| if valid(row) { of(*value) } else { Ok(None) }).collect()
    }
}

fn unpacked<T>(value: T, scale: Option<T>, offset: Option<T>) -> T
where
    T: std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
{
    let scaled = match scale {
        Some(scale) => value * scale,
        None => value,
    };
    match offset {
        Some(offset) => scaled + offset,
        None => scaled,
    }
}

/// The same bytes as numbers of a type of the same width: signed as unsigned.
fn reinterpreted<T: ArrowPrimitiveType>(raw: &ArrayRef) -> PrimitiveArray<T> {
    match raw.as_primitive_opt::<T>() {
        Some(array) => array.clone(),
        None => {
            let data = raw.to_data();
            let buffer = data.buffers()[0].clone();
            PrimitiveArray::new(arrow::buffer::ScalarBuffer::new(buffer, data.offset(), data.len()), None)
        }
    }
}

fn to_unsigned(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 => DataType::UInt8,
        DataType::Int16 => DataType::UInt16,
        DataType::Int32 => DataType::UInt32,
        DataType::Int64 => DataType::UInt64,
        other => other.clone(),
    }
}

/// The arithmetic is that of numpy: 32-bit floats when factor and offset are such and the packed type fits into them.
fn packing(attributes: &Attributes, stored: &DataType) -> Option<Packing> {
    let [scale, offset] = ["scale_factor", "add_offset"].map(|name| attributes.number(name));
    if scale.is_none() && offset.is_none() {
        return None;
    }
    let is_single = |name: &str| attributes.get(name).is_none_or(|value| *value.data_type() == DataType::Float32);
    let short =
        matches!(stored, DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16 | DataType::Float16 | DataType::Float32);
    Some(Packing { scale, offset, single: short && is_single("scale_factor") && is_single("add_offset") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Missing;
    use crate::element::{Element, NoHeap, Order};
    use arrow::array::{Float32Array, Float64Array, Int16Array};

    fn array(element: Element, attributes: &[(&str, ArrayRef)]) -> ArrayMeta {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.push(*name, Arc::clone(value)));
        ArrayMeta {
            group: String::new(),
            name: "v".into(),
            element,
            shape: vec![4],
            dimensions: vec![],
            chunk: vec![4],
            codecs: Ok(Vec::new()),
            fill: None,
            missing: Missing::NetcdfDefaults,
            attributes: all,
            problem: None,
            only_dimension: false,
        }
    }

    fn shorts(values: &[i16]) -> Result<ArrayRef> {
        let element = Element::Integer { bytes: 2, signed: true, order: Order::Little };
        element.decode(values.iter().flat_map(|value| value.to_le_bytes()).collect(), &NoHeap)
    }

    const SHORT: Element = Element::Integer { bytes: 2, signed: true, order: Order::Little };

    #[test]
    fn packed_values_are_masked_in_packed_units_and_scaled() -> Result<()> {
        let meta = array(
            SHORT,
            &[
                ("_FillValue", Arc::new(Int16Array::from(vec![-1]))),
                ("missing_value", Arc::new(Int16Array::from(vec![-2, -3]))),
                ("valid_range", Arc::new(Int16Array::from(vec![-10, 100]))),
                ("scale_factor", Arc::new(Float32Array::from(vec![0.5]))),
                ("add_offset", Arc::new(Float32Array::from(vec![10.0]))),
            ],
        );
        let decoding = Decoding::of(&meta, None);
        assert_eq!(decoding.data_type(), DataType::Float32);
        let decoded = decoding.apply(&shorts(&[-1, -2, -3, 4, 101, -11, 100])?)?;
        let values: Vec<Option<f32>> = decoded.as_primitive::<Float32Type>().iter().collect();
        assert_eq!(values, [None, None, None, Some(12.0), None, None, Some(60.0)]);
        Ok(())
    }

    #[test]
    fn unsigned_comes_before_everything() -> Result<()> {
        let meta = array(
            SHORT,
            &[
                ("_Unsigned", Arc::new(arrow::array::StringArray::from(vec!["true"]))),
                ("_FillValue", Arc::new(Int16Array::from(vec![-1]))),
                ("scale_factor", Arc::new(Float64Array::from(vec![2.0]))),
            ],
        );
        let decoded = Decoding::of(&meta, None).apply(&shorts(&[-1, -2, 1])?)?;
        let values: Vec<Option<f64>> = decoded.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [None, Some(131_068.0), Some(2.0)]);
        Ok(())
    }

    #[test]
    fn default_fills_mask_only_without_a_fill_of_the_variable() -> Result<()> {
        let plain = Decoding::of(&array(SHORT, &[]), None).apply(&shorts(&[-32767, 5])?)?;
        assert_eq!(plain.null_count(), 1);
        let own = array(SHORT, &[("_FillValue", Arc::new(Int16Array::from(vec![5])))]);
        let own = Decoding::of(&own, None).apply(&shorts(&[-32767, 5])?)?;
        assert!(own.is_valid(0) && own.is_null(1));
        Ok(())
    }
}

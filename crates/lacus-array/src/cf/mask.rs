//! Which stored values mean that there is no value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, new_empty_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, concat, nullif};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Int64Type};
use lacus_core::{Error, Kind, Result};
use multiversion::multiversion;

use crate::container::{ArrayMeta, Attributes, Missing};
use crate::element::{nulls, repeated};

/// The values that mean "missing", and the range of the others; all in packed units and in the stored type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    /// Values that mean "missing".
    fills: Option<ArrayRef>,
    low: Option<ArrayRef>,
    high: Option<ArrayRef>,
    /// Keys of enumerations that mean "missing".
    keys: Vec<i64>,
}

impl Mask {
    pub(crate) fn of(array: &ArrayMeta, raw: &DataType, stored: &DataType) -> Self {
        let attributes = &array.attributes;
        let own = |name: &str| attributes.get(name).and_then(|value| fitting(value, raw, stored));
        let own_fill = own("_FillValue");
        let implied = match array.missing {
            _ if own_fill.is_some() => None,
            Missing::Nothing => None,
            // As netCDF4-python has it: the default of the stored type means nothing in the type that it is read as.
            Missing::NetcdfDefaults if raw != stored => None,
            Missing::NetcdfDefaults => default_fill(raw),
            Missing::Fill => {
                let fill = array.fill.as_deref().and_then(|fill| repeated(&array.element, Some(fill), 1).ok());
                fill.and_then(|fill| fitting(&fill, raw, stored))
            }
        };
        let fills: Vec<ArrayRef> = [own("missing_value"), own_fill, implied].into_iter().flatten().collect();
        let fills = concat(&fills.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>()).ok();
        let range = own("valid_range").filter(|range| range.len() == 2);
        let [low, high] = match range {
            Some(range) => [Some(range.slice(0, 1)), Some(range.slice(1, 1))],
            None => ["valid_min", "valid_max"].map(|name| own(name).filter(|value| !value.is_empty())),
        };
        Self { fills, low, high, keys: Vec::new() }
    }

    /// The fill values of enumerations; other types without arithmetic have none.
    pub(crate) fn of_names(array: &ArrayMeta) -> Self {
        let keys = |attributes: &Attributes| attributes.integers("_FillValue").map(|values| values.values().to_vec());
        match &array.element {
            crate::Element::Enum { members, .. } => {
                let places = keys(&array.attributes).unwrap_or_default();
                let place = |value: &i64| members.iter().position(|(_, known)| known == value).map(|place| place as i64);
                Self { keys: places.iter().filter_map(place).collect(), ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fills.is_none() && self.low.is_none() && self.high.is_none() && self.keys.is_empty()
    }

    /// The rows that hold a value.
    pub(crate) fn nulls<N: ArrowNativeTypeOp>(&self, values: &ScalarBuffer<N>) -> Result<Option<NullBuffer>> {
        let fills: Vec<N> = self.fills.as_ref().map_or(Ok(Vec::new()), native)?;
        let bound = |bound: &Option<ArrayRef>| {
            bound.as_ref().map(native).transpose().map(|values| values.and_then(|values| values.first().copied()))
        };
        let (low, high) = (bound(&self.low)?, bound(&self.high)?);
        let (nan_is_missing, fills): (Vec<N>, Vec<N>) = fills.into_iter().partition(|fill| fill.is_ne(*fill) || is_nan(*fill));
        let valid = |value: N| {
            fills.iter().all(|fill| !same(value, *fill))
                && (nan_is_missing.is_empty() || !is_nan(value))
                // Written so that a NaN, which is beyond no bound, stays.
                && low.is_none_or(|low| !below(value, low))
                && high.is_none_or(|high| !below(high, value))
        };
        if self.is_empty() {
            return Ok(None);
        }
        Ok(match (fills.as_slice(), nan_is_missing.is_empty(), low, high) {
            ([], true, None, None) => None,
            // The commonest cases by far, without the others' branches.
            ([fill], true, None, None) => nulls(bits(values, |value| !same(value, *fill))),
            ([], false, None, None) => nulls(bits(values, |value| same(value, value))),
            _ => nulls(bits(values, valid)),
        })
    }

    /// Values that are no numbers, of which some names may mean "missing".
    pub(crate) fn names(&self, raw: &ArrayRef) -> Result<ArrayRef> {
        let Some(dictionary) = raw.as_any_dictionary_opt().filter(|_| !self.keys.is_empty()) else { return Ok(Arc::clone(raw)) };
        let keys = arrow::compute::cast(dictionary.keys(), &DataType::Int64)?;
        let missing: BooleanArray =
            keys.as_primitive::<Int64Type>().iter().map(|key| Some(key.is_some_and(|key| self.keys.contains(&key)))).collect();
        Ok(nullif(raw, &missing)?)
    }
}

/// A bit for each value. Sixty-four are compared at once, and eight flags become eight bits by a product: written so that the compiler
/// can vectorise it, for the instructions that a machine has.
#[multiversion(targets("x86_64+avx2"))]
fn bits<N: Copy>(values: &[N], of: impl Fn(N) -> bool) -> BooleanBuffer {
    const TO_BITS: u64 = 0x0102_0408_1020_4080;
    let mut packed: Vec<u8> = vec![0; values.len().div_ceil(8)];
    let (chunks, rest) = values.as_chunks::<64>();
    let (words, last) = packed.split_at_mut(chunks.len() * 8);
    for (chunk, word) in chunks.iter().zip(words.as_chunks_mut::<8>().0) {
        let mut flags = [0u8; 64];
        for place in 0..64 {
            flags[place] = u8::from(of(chunk[place]));
        }
        let eights = flags.as_chunks::<8>().0;
        for place in 0..8 {
            word[place] = (u64::from_le_bytes(eights[place]).wrapping_mul(TO_BITS) >> 56) as u8;
        }
    }
    for (place, value) in rest.iter().enumerate() {
        last[place / 8] |= u8::from(of(*value)) << (place % 8);
    }
    BooleanBuffer::new(packed.into(), 0, values.len())
}

/// Equality of IEEE: -0 equals 0, which the total order of Arrow tells apart.
fn same<N: ArrowNativeTypeOp>(left: N, right: N) -> bool {
    left == right
}

fn is_nan<N: ArrowNativeTypeOp>(value: N) -> bool {
    value.partial_cmp(&value).is_none()
}

fn below<N: ArrowNativeTypeOp>(left: N, right: N) -> bool {
    left.partial_cmp(&right) == Some(std::cmp::Ordering::Less)
}

fn native<N: ArrowNativeTypeOp>(array: &ArrayRef) -> Result<Vec<N>> {
    let data = array.to_data();
    let wrong = || Error::new(Kind::Internal, format!("a fill value is {}, not of its variable's type", array.data_type()));
    let buffer = data.buffers().first().ok_or_else(wrong)?;
    if array.data_type().primitive_width() != Some(N::get_byte_width()) {
        return Err(wrong());
    }
    Ok(ScalarBuffer::<N>::new(buffer.clone(), data.offset(), data.len()).to_vec())
}

/// The attribute in the stored type; `None` unless every value survives the conversion, as netCDF4-python has it.
fn fitting(value: &ArrayRef, raw: &DataType, stored: &DataType) -> Option<ArrayRef> {
    if !value.data_type().is_numeric() || value.is_empty() {
        return None;
    }
    let strict = CastOptions { safe: true, ..CastOptions::default() };
    // A fill of the unsigned reading may be written in either type.
    let target = if value.data_type() == stored { stored } else { raw };
    let cast_value = cast_with_options(value, target, &strict).ok()?;
    let back = cast_with_options(&cast_value, value.data_type(), &strict).ok()?;
    let survives = cast_value.null_count() == 0 && equal_or_both_nan(&back, value);
    survives.then(|| if target == stored { cast_value } else { as_stored(&cast_value, stored) })
}

/// The same bytes, signed as unsigned.
fn as_stored(value: &ArrayRef, stored: &DataType) -> ArrayRef {
    let data = value.to_data().into_builder().data_type(stored.clone()).build();
    data.map_or_else(|_| new_empty_array(stored), arrow::array::make_array)
}

fn equal_or_both_nan(left: &ArrayRef, right: &ArrayRef) -> bool {
    let wide = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Float64).ok();
    let (Some(left_wide), Some(right_wide)) = (wide(left), wide(right)) else { return false };
    let pairs = left_wide
        .as_primitive::<arrow::datatypes::Float64Type>()
        .iter()
        .zip(right_wide.as_primitive::<arrow::datatypes::Float64Type>().iter());
    pairs.into_iter().all(|(left, right)| match (left, right) {
        (Some(left), Some(right)) => left == right || (left.is_nan() && right.is_nan()),
        _ => false,
    })
}

/// The default fill values of the NetCDF library; types of one byte have none, because each of their values is in use.
pub(crate) fn default_fill(raw: &DataType) -> Option<ArrayRef> {
    use arrow::datatypes::{Float32Type, Float64Type, Int16Type, Int32Type, UInt16Type, UInt32Type, UInt64Type};
    fn one<T: ArrowPrimitiveType>(value: T::Native) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_value(value, 1))
    }
    Some(match raw {
        DataType::Int16 => one::<Int16Type>(-32_767),
        DataType::Int32 => one::<Int32Type>(-2_147_483_647),
        DataType::Int64 => one::<Int64Type>(-9_223_372_036_854_775_806),
        DataType::UInt16 => one::<UInt16Type>(65_535),
        DataType::UInt32 => one::<UInt32Type>(4_294_967_295),
        DataType::UInt64 => one::<UInt64Type>(18_446_744_073_709_551_614),
        DataType::Float32 => one::<Float32Type>(9.969_21e36),
        DataType::Float64 => one::<Float64Type>(9.969_209_968_386_869e36),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_stands_for_each_value() {
        for length in [0, 1, 7, 64, 65, 200] {
            let values: Vec<i32> = (0..length).map(|value| value * 7 % 13).collect();
            let expected: Vec<bool> = values.iter().map(|value| *value > 5).collect();
            assert_eq!(bits(&values, |value| value > 5), BooleanBuffer::from(expected), "{length}");
        }
    }
}

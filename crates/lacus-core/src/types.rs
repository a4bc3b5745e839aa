//! Types of which one holds the values of the other.

use arrow_schema::{DataType, Field};

use crate::{Error, Kind, Result};

/// The type that holds every value of both without loss, if there is one. Values that people `written` out as text are decimal numbers,
/// whether or not they have a fraction; stored integers are exact.
pub fn wider_type(left: &DataType, right: &DataType, written: bool) -> Option<DataType> {
    use DataType::{Binary, BinaryView, Float16, Float32, Float64, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => {
            Some(if [left, right].contains(&&LargeUtf8) { LargeUtf8 } else { Utf8View })
        }
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => {
            Some(if [left, right].contains(&&LargeBinary) { LargeBinary } else { BinaryView })
        }
        (Float16 | Float32 | Float64, Float16 | Float32 | Float64) => {
            Some(if [left, right].contains(&&Float64) { Float64 } else { Float32 })
        }
        (Float64, integer) | (integer, Float64) if integer.is_integer() && (written || is_short(integer)) => Some(Float64),
        (Float32, integer) | (integer, Float32) if integer.is_integer() => {
            let exact = integer.primitive_width().is_some_and(|bytes| bytes <= 2);
            if exact { Some(Float32) } else { (written || is_short(integer)).then_some(Float64) }
        }
        (left, right) if left.is_integer() && right.is_integer() => wider_integer(left, right),
        _ => None,
    }
}

/// The column that holds the values of `known`, which `first_file` has, and of `field`, which `file` has.
///
/// # Errors
/// `CorruptData` when no type holds the values of both; it names both files.
pub fn wider_field(known: &Field, first_file: &str, field: &Field, file: &str, written: bool) -> Result<Field> {
    let data_type = wider_type(known.data_type(), field.data_type(), written).ok_or_else(|| {
        Error::new(Kind::CorruptData, format!("the files disagree on column `{}`", field.name()))
            .with("file", file)
            .with("type", field.data_type())
            .with("first file", first_file)
            .with("its type", known.data_type())
            .hint("narrow the path, or open the files as two datasets and unite them with a cast")
    })?;
    let nullable = known.is_nullable() || field.is_nullable();
    Ok(known.clone().with_data_type(data_type).with_nullable(nullable))
}

/// Whether every value of an integer type has a place among the 64-bit floats.
fn is_short(integer: &DataType) -> bool {
    integer.primitive_width().is_some_and(|bytes| bytes <= 4)
}

fn wider_integer(left: &DataType, right: &DataType) -> Option<DataType> {
    let bits = |data_type: &DataType| data_type.primitive_width().map(|bytes| bytes * 8);
    let (left_bits, right_bits) = (bits(left)?, bits(right)?);
    match (left.is_signed_integer(), right.is_signed_integer()) {
        (true, true) | (false, false) => Some(if left_bits >= right_bits { left.clone() } else { right.clone() }),
        (true, false) => signed(left_bits.max(right_bits * 2)),
        (false, true) => signed(right_bits.max(left_bits * 2)),
    }
}

fn signed(bits: usize) -> Option<DataType> {
    match bits {
        16 => Some(DataType::Int16),
        32 => Some(DataType::Int32),
        64 => Some(DataType::Int64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_without_loss() {
        assert_eq!(wider_type(&DataType::UInt8, &DataType::Int8, false), Some(DataType::Int16));
        assert_eq!(wider_type(&DataType::UInt32, &DataType::Int64, false), Some(DataType::Int64));
        assert_eq!(wider_type(&DataType::UInt64, &DataType::Int64, false), None);
        assert_eq!(wider_type(&DataType::UInt16, &DataType::UInt64, false), Some(DataType::UInt64));
        assert_eq!(wider_type(&DataType::Int64, &DataType::Float64, false), None);
        assert_eq!(wider_type(&DataType::Int32, &DataType::Float64, false), Some(DataType::Float64));
        assert_eq!(wider_type(&DataType::Int64, &DataType::Float64, true), Some(DataType::Float64));
        assert_eq!(wider_type(&DataType::Int16, &DataType::Float32, false), Some(DataType::Float32));
        assert_eq!(wider_type(&DataType::Int32, &DataType::Float32, false), Some(DataType::Float64));
    }
}

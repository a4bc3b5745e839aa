//! What one element of a stored array is, and how its bytes become an Arrow array.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Int32Array, ListArray,
    PrimitiveArray, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::concat;
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use lacus_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// How a text of fixed width is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// The text ends at the first NUL.
    NulTerminated,
    /// NULs at the end are no part of the text.
    Nul,
    /// Spaces at the end are no part of the text.
    Space,
}

/// One member of a [`Element::Struct`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The name.
    pub name: String,
    /// Where its bytes begin inside of the element.
    pub offset: usize,
    /// What it is.
    pub element: Element,
}

/// What one element of a stored array is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Element {
    /// A whole number of 1, 2, 4 or 8 bytes.
    Integer {
        /// Width in bytes.
        bytes: usize,
        /// Whether it can be negative.
        signed: bool,
        /// The order of its bytes.
        order: Order,
    },
    /// An IEEE number of 2, 4 or 8 bytes.
    Float {
        /// Width in bytes.
        bytes: usize,
        /// The order of its bytes.
        order: Order,
    },
    /// One byte; zero is false.
    Boolean,
    /// One byte of a text; the last dimension of the array is the length of the text.
    Char,
    /// A text of fixed width in UTF-8, ASCII or an encoding that is neither.
    Text {
        /// Width in bytes.
        bytes: usize,
        /// How it is filled up.
        padding: Padding,
    },
    /// A text of a fixed number of 4-byte characters.
    Utf32 {
        /// Number of characters.
        characters: usize,
        /// The order of the bytes of a character.
        order: Order,
    },
    /// A text of varying length; the bytes are a reference that the [`Heap`] resolves.
    String {
        /// Width of the reference in bytes.
        bytes: usize,
    },
    /// A whole number with a name for each value.
    Enum {
        /// The number.
        integer: Box<Element>,
        /// The names of the values.
        members: Vec<(String, i64)>,
    },
    /// Several members, side by side.
    Struct {
        /// Width in bytes, gaps included.
        bytes: usize,
        /// The members.
        members: Vec<Member>,
    },
    /// A fixed number of elements.
    Fixed {
        /// One of them.
        element: Box<Element>,
        /// Their number.
        count: usize,
    },
    /// A varying number of elements; the bytes are a reference that the [`Heap`] resolves.
    List {
        /// One of them.
        element: Box<Element>,
        /// Width of the reference in bytes.
        bytes: usize,
    },
    /// Bytes without a meaning.
    Opaque {
        /// Width in bytes.
        bytes: usize,
    },
    /// The path of another object; the bytes are a reference that the [`Heap`] resolves.
    Reference {
        /// Width of the reference in bytes.
        bytes: usize,
    },
}

/// What lies outside of an array's own bytes: sequences of varying length, and the paths of objects.
pub trait Heap {
    /// The bytes of the sequence behind `reference`, whose items are `item` bytes wide.
    ///
    /// # Errors
    /// `CorruptData` when nothing is there.
    fn sequence(&self, reference: &[u8], item: usize) -> Result<Vec<u8>>;

    /// The path of the object behind `reference`; `None` for a reference to nothing.
    ///
    /// # Errors
    /// `CorruptData` when nothing is there.
    fn path(&self, reference: &[u8]) -> Result<Option<String>>;
}

/// The heap of a format whose elements are all of fixed width.
#[derive(Debug)]
pub struct NoHeap;

impl Heap for NoHeap {
    fn sequence(&self, _: &[u8], _: usize) -> Result<Vec<u8>> {
        Err(Error::new(Kind::Internal, "this format has no values of varying length"))
    }

    fn path(&self, _: &[u8]) -> Result<Option<String>> {
        Err(Error::new(Kind::Internal, "this format has no references"))
    }
}

impl Element {
    /// Width in bytes, as stored.
    pub fn width(&self) -> usize {
        match self {
            Self::Integer { bytes, .. }
            | Self::Float { bytes, .. }
            | Self::Text { bytes, .. }
            | Self::String { bytes }
            | Self::Struct { bytes, .. }
            | Self::List { bytes, .. }
            | Self::Opaque { bytes }
            | Self::Reference { bytes } => *bytes,
            Self::Boolean | Self::Char => 1,
            Self::Utf32 { characters, .. } => characters * 4,
            Self::Enum { integer, .. } => integer.width(),
            Self::Fixed { element, count } => element.width() * count,
        }
    }

    /// Whether decoding needs a [`Heap`].
    pub fn needs_heap(&self) -> bool {
        match self {
            Self::String { .. } | Self::List { .. } | Self::Reference { .. } => true,
            Self::Struct { members, .. } => members.iter().any(|member| member.element.needs_heap()),
            Self::Fixed { element, .. } => element.needs_heap(),
            _ => false,
        }
    }

    /// Whether arithmetic on it means something.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Integer { .. } | Self::Float { .. })
    }

    /// The type of a column that holds the elements as stored.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Integer { bytes, signed, .. } => integer_type(*bytes, *signed),
            Self::Float { bytes: 2, .. } => DataType::Float16,
            Self::Float { bytes: 4, .. } => DataType::Float32,
            Self::Float { .. } => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Char => DataType::UInt8,
            Self::Text { .. } | Self::Utf32 { .. } | Self::String { .. } | Self::Reference { .. } => DataType::Utf8,
            Self::Enum { .. } => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Struct { members, .. } => DataType::Struct(struct_fields(members)),
            Self::Fixed { element, count } => DataType::FixedSizeList(item(element), i32::try_from(*count).unwrap_or(i32::MAX)),
            Self::List { element, .. } => DataType::List(item(element)),
            Self::Opaque { bytes } => DataType::FixedSizeBinary(i32::try_from(*bytes).unwrap_or(i32::MAX)),
        }
    }

    /// `bytes` as an array of their elements.
    ///
    /// # Errors
    /// `CorruptData` when the bytes are no whole number of elements, or what the heap says.
    pub fn decode(&self, bytes: Vec<u8>, heap: &dyn Heap) -> Result<ArrayRef> {
        let width = self.width();
        if width == 0 || !bytes.len().is_multiple_of(width) {
            return Err(Error::new(Kind::CorruptData, format!("{} bytes are no whole number of {width}-byte elements", bytes.len())));
        }
        Ok(match self {
            Self::Integer { bytes: width, signed, order } => integers(bytes, *width, *signed, *order),
            Self::Float { bytes: 2, order } => numbers::<Float16Type>(bytes, *order),
            Self::Float { bytes: 4, order } => numbers::<Float32Type>(bytes, *order),
            Self::Float { order, .. } => numbers::<Float64Type>(bytes, *order),
            Self::Boolean => Arc::new(bytes.iter().map(|byte| Some(*byte != 0)).collect::<BooleanArray>()),
            Self::Char => numbers::<UInt8Type>(bytes, Order::Little),
            Self::Text { bytes: width, padding } => texts(bytes.chunks_exact(*width).map(|text| trimmed(text, *padding))),
            Self::Utf32 { order, .. } => {
                let texts: Vec<String> = bytes.chunks_exact(width).map(|text| utf32(text, *order)).collect();
                Arc::new(StringArray::from(texts))
            }
            Self::String { .. } => strings(&bytes, width, heap)?,
            Self::Reference { .. } => {
                let paths = bytes.chunks_exact(width).map(|reference| heap.path(reference)).collect::<Result<Vec<_>>>()?;
                Arc::new(StringArray::from(paths))
            }
            Self::Enum { integer, members } => named(&integer.decode(bytes, heap)?, members)?,
            Self::Struct { members, .. } => structs(&bytes, width, members, heap)?,
            Self::Fixed { element, count } => {
                let size = i32::try_from(*count).map_err(|_| too_long("an array type", *count))?;
                Arc::new(FixedSizeListArray::try_new(item(element), size, element.decode(bytes, heap)?, None)?)
            }
            Self::List { element, .. } => lists(&bytes, width, element, heap)?,
            Self::Opaque { bytes: width } => {
                let size = i32::try_from(*width).map_err(|_| too_long("an opaque type", *width))?;
                Arc::new(FixedSizeBinaryArray::try_new(size, Buffer::from_vec(bytes), None)?)
            }
        })
    }
}

fn too_long(what: &str, size: usize) -> Error {
    Error::new(Kind::Unsupported, format!("{what} of {size} items is too large for Arrow"))
}

fn item(element: &Element) -> Arc<Field> {
    Arc::new(Field::new("item", element.data_type(), true))
}

fn struct_fields(members: &[Member]) -> Fields {
    members.iter().map(|member| Field::new(&member.name, member.element.data_type(), true)).collect()
}

fn integer_type(bytes: usize, signed: bool) -> DataType {
    match (bytes, signed) {
        (1, true) => DataType::Int8,
        (2, true) => DataType::Int16,
        (4, true) => DataType::Int32,
        (_, true) => DataType::Int64,
        (1, false) => DataType::UInt8,
        (2, false) => DataType::UInt16,
        (4, false) => DataType::UInt32,
        (_, false) => DataType::UInt64,
    }
}

fn integers(bytes: Vec<u8>, width: usize, signed: bool, order: Order) -> ArrayRef {
    match (width, signed) {
        (1, true) => numbers::<Int8Type>(bytes, order),
        (2, true) => numbers::<Int16Type>(bytes, order),
        (4, true) => numbers::<Int32Type>(bytes, order),
        (_, true) => numbers::<Int64Type>(bytes, order),
        (1, false) => numbers::<UInt8Type>(bytes, order),
        (2, false) => numbers::<UInt16Type>(bytes, order),
        (4, false) => numbers::<UInt32Type>(bytes, order),
        (_, false) => numbers::<UInt64Type>(bytes, order),
    }
}

/// The buffer becomes the array: it is swapped in place, and copied only when it is not aligned for its type.
fn numbers<T: ArrowPrimitiveType>(mut bytes: Vec<u8>, order: Order) -> ArrayRef {
    let width = T::Native::get_byte_width();
    if order == Order::Big && width > 1 {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    let buffer = Buffer::from_vec(bytes);
    let aligned = buffer.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let buffer = if aligned { buffer } else { Buffer::from_slice_ref(buffer.as_slice()) };
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(buffer), None))
}

fn trimmed(text: &[u8], padding: Padding) -> &[u8] {
    let end = match padding {
        Padding::NulTerminated => text.iter().position(|byte| *byte == 0).unwrap_or(text.len()),
        Padding::Nul => text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
        Padding::Space => text.iter().rposition(|byte| *byte != b' ' && *byte != 0).map_or(0, |last| last + 1),
    };
    &text[..end]
}

/// Bytes that are no UTF-8 become U+FFFD: a text in an unknown encoding is still a text.
pub(crate) fn texts<'a>(values: impl ExactSizeIterator<Item = &'a [u8]>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 16);
    values.for_each(|text| builder.append_value(String::from_utf8_lossy(text)));
    Arc::new(builder.finish())
}

/// Rows of single bytes, such as NetCDF's `char name(station, strlen)`, as one text a row.
pub(crate) fn joined(bytes: &[u8], length: usize) -> ArrayRef {
    if length == 0 {
        return Arc::new(StringArray::from(Vec::<&str>::new()));
    }
    texts(bytes.chunks_exact(length).map(|text| trimmed(text, Padding::Nul)))
}

fn utf32(text: &[u8], order: Order) -> String {
    let characters = text.chunks_exact(4).map(|bytes| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let code = if order == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    let text: String = characters.collect();
    text.trim_end_matches('\0').to_owned()
}

fn strings(bytes: &[u8], width: usize, heap: &dyn Heap) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    for reference in bytes.chunks_exact(width) {
        let text = heap.sequence(reference, 1)?;
        builder.append_value(String::from_utf8_lossy(trimmed(&text, Padding::NulTerminated)));
    }
    Ok(Arc::new(builder.finish()))
}

fn lists(bytes: &[u8], width: usize, element: &Element, heap: &dyn Heap) -> Result<ArrayRef> {
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(bytes.len() / width);
    for reference in bytes.chunks_exact(width) {
        let sequence = heap.sequence(reference, element.width())?;
        lengths.push(sequence.len() / element.width().max(1));
        values.extend_from_slice(&sequence);
    }
    let values = element.decode(values, heap)?;
    Ok(Arc::new(ListArray::try_new(item(element), OffsetBuffer::from_lengths(lengths), values, None)?))
}

fn structs(bytes: &[u8], width: usize, members: &[Member], heap: &dyn Heap) -> Result<ArrayRef> {
    let mut columns = Vec::with_capacity(members.len());
    for member in members {
        let length = member.element.width();
        let mut column = Vec::with_capacity(bytes.len() / width * length);
        for row in bytes.chunks_exact(width) {
            let part = row.get(member.offset..member.offset + length);
            column.extend_from_slice(part.ok_or_else(|| {
                Error::new(Kind::CorruptData, format!("the member `{}` reaches beyond its {width}-byte element", member.name))
            })?);
        }
        columns.push(member.element.decode(column, heap).map_err(|error| error.with("member", &member.name))?);
    }
    if members.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(bytes.len() / width, None)));
    }
    Ok(Arc::new(StructArray::try_new(struct_fields(members), columns, None)?))
}

/// The names of the values; a value without a name is NULL.
fn named(values: &ArrayRef, members: &[(String, i64)]) -> Result<ArrayRef> {
    let values = arrow::compute::cast(values, &DataType::Int64)?;
    let values = values
        .as_any()
        .downcast_ref::<PrimitiveArray<Int64Type>>()
        .ok_or_else(|| Error::new(Kind::Internal, "an enumeration over something else than whole numbers"))?;
    let place = |value: i64| members.iter().position(|(_, known)| *known == value).and_then(|place| i32::try_from(place).ok());
    let keys: Int32Array = values.iter().map(|value| value.and_then(place)).collect();
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(members.iter().map(|(name, _)| name)));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names)?))
}

/// `count` times the element that `bytes` hold: what was never written.
///
/// # Errors
/// As [`Element::decode`].
pub(crate) fn repeated(element: &Element, bytes: Option<&[u8]>, count: usize) -> Result<ArrayRef> {
    let width = element.width();
    let zero = vec![0; width];
    let one = bytes.filter(|bytes| bytes.len() == width).unwrap_or(&zero);
    if element.needs_heap() {
        // A reference to nothing needs no heap to be resolved.
        let empty = arrow::array::new_null_array(&element.data_type(), count);
        return match element {
            Element::String { .. } => Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", count)))),
            _ => Ok(empty),
        };
    }
    if one.iter().all(|byte| *byte == one[0]) {
        return element.decode(vec![one[0]; width * count], &NoHeap);
    }
    element.decode(one.repeat(count), &NoHeap)
}

/// Arrays one after the other; no copy for a single one.
pub(crate) fn joined_arrays(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    match arrays {
        [one] => Ok(Arc::clone(one)),
        several => Ok(concat(&several.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?),
    }
}

/// A mask as a null buffer, or none when nothing is masked.
pub(crate) fn nulls(valid: arrow::buffer::BooleanBuffer) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(valid);
    (nulls.null_count() > 0).then_some(nulls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn numbers_are_swapped() -> Result<()> {
        let element = Element::Integer { bytes: 2, signed: true, order: Order::Big };
        let array = element.decode(vec![0, 1, 255, 254], &NoHeap)?;
        assert_eq!(array.as_primitive::<Int16Type>().values().as_ref(), [1, -2]);
        assert!(element.decode(vec![0, 1, 2], &NoHeap).is_err());
        Ok(())
    }

    #[test]
    fn texts_lose_their_padding_only() -> Result<()> {
        let text = |padding, bytes: &[u8]| -> Result<String> {
            let array = Element::Text { bytes: 4, padding }.decode(bytes.to_vec(), &NoHeap)?;
            Ok(array.as_string::<i32>().value(0).to_owned())
        };
        assert_eq!(text(Padding::Nul, b"ab\0\0")?, "ab");
        assert_eq!(text(Padding::NulTerminated, b"a\0b\0")?, "a");
        assert_eq!(text(Padding::Space, b"ab  ")?, "ab");
        assert_eq!(text(Padding::Nul, b"ab  ")?, "ab  ");
        Ok(())
    }

    #[test]
    fn members_stand_at_their_offsets() -> Result<()> {
        let float = Element::Float { bytes: 4, order: Order::Little };
        let text = Element::Text { bytes: 2, padding: Padding::Nul };
        let members = vec![Member { name: "t".into(), offset: 2, element: float }, Member { name: "n".into(), offset: 0, element: text }];
        let mut bytes = b"ab".to_vec();
        bytes.extend(1.5f32.to_le_bytes());
        let array = Element::Struct { bytes: 6, members }.decode(bytes, &NoHeap)?;
        let array = array.as_struct();
        assert_eq!(array.column(0).as_primitive::<Float32Type>().value(0), 1.5);
        assert_eq!(array.column(1).as_string::<i32>().value(0), "ab");
        Ok(())
    }
}

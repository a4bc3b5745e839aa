//! Types and attributes of HDF5 in the words of `lacus-array`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use hdf5_reader::{Attribute, ByteOrder, Datatype, ReferenceType, StringPadding, StringSize, VarLenKind};
use lacus_array::{Attributes, Element, Heap, Member, Order, Padding};
use lacus_core::{Error, Kind, Result};

/// Attributes that only tie datasets to dimensions; their values are addresses.
const ADDRESSES: [&str; 2] = ["DIMENSION_LIST", "REFERENCE_LIST"];

/// How the file lays out what types do not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    /// Bytes of an address.
    pub(super) offset: usize,
    /// Whether texts of one byte are characters, as NetCDF-4 stores them.
    pub(super) netcdf: bool,
}

impl Widths {
    fn reference(self) -> usize {
        4 + self.offset + 4
    }
}

/// What an element of a datatype is.
pub(super) fn element(datatype: &Datatype, widths: Widths) -> Result<Element> {
    let order = |order: &ByteOrder| if *order == ByteOrder::BigEndian { Order::Big } else { Order::Little };
    let whole = |size: u8, signed, byte_order: &ByteOrder| match size {
        1 | 2 | 4 | 8 => Ok(Element::Integer { bytes: usize::from(size), signed, order: order(byte_order) }),
        other => Err(unsupported(format!("whole numbers of {other} bytes"))),
    };
    Ok(match datatype {
        Datatype::FixedPoint { size, signed, byte_order } => whole(*size, *signed, byte_order)?,
        Datatype::Bitfield { size, byte_order } => whole(*size, false, byte_order)?,
        Datatype::FloatingPoint { size, byte_order } => match size {
            2 | 4 | 8 => Element::Float { bytes: usize::from(*size), order: order(byte_order) },
            other => return Err(unsupported(format!("floating-point numbers of {other} bytes"))),
        },
        Datatype::String { size: StringSize::Fixed(1), .. } if widths.netcdf => Element::Char,
        Datatype::String { size: StringSize::Fixed(bytes), padding, .. } => Element::Text {
            bytes: *bytes as usize,
            padding: match padding {
                StringPadding::NullTerminate => Padding::NulTerminated,
                StringPadding::NullPad => Padding::Nul,
                StringPadding::SpacePad => Padding::Space,
            },
        },
        Datatype::String { size: StringSize::Variable, .. } => Element::String { bytes: widths.reference() },
        Datatype::VarLen { kind: VarLenKind::String, .. } => Element::String { bytes: widths.reference() },
        Datatype::VarLen { base, .. } => Element::List { element: Box::new(element(base, widths)?), bytes: widths.reference() },
        Datatype::Compound { size, fields } => {
            let member = |field: &hdf5_reader::CompoundField| {
                let element = element(&field.datatype, widths)?;
                Ok(Member { name: field.name.clone(), offset: field.byte_offset as usize, element })
            };
            Element::Struct { bytes: *size as usize, members: fields.iter().map(member).collect::<Result<Vec<_>>>()? }
        }
        Datatype::Array { base, dims } => {
            let count = dims.iter().try_fold(1usize, |product, extent| product.checked_mul(usize::try_from(*extent).ok()?));
            let count = count.ok_or_else(|| unsupported("an array type of so many items".to_owned()))?;
            Element::Fixed { element: Box::new(element(base, widths)?), count }
        }
        Datatype::Enum { base, members } => enumeration(base, members, widths)?,
        Datatype::Opaque { size, .. } => Element::Opaque { bytes: *size as usize },
        Datatype::Reference { ref_type: ReferenceType::Object, size } => Element::Reference { bytes: usize::from(*size) },
        Datatype::Reference { .. } => return Err(unsupported("references to regions".to_owned())),
    })
}

fn unsupported(what: String) -> Error {
    Error::new(Kind::Unsupported, format!("{what} can't be read"))
}

fn enumeration(base: &Datatype, members: &[hdf5_reader::EnumMember], widths: Widths) -> Result<Element> {
    let integer = element(base, widths)?;
    let Element::Integer { bytes, signed, order } = integer else {
        return Err(unsupported("an enumeration of no whole numbers".to_owned()));
    };
    let value = |stored: &[u8]| {
        let mut wide = [0; 8];
        let stored: Vec<u8> = if order == Order::Big { stored.iter().rev().copied().collect() } else { stored.to_vec() };
        let negative = signed && stored.last().is_some_and(|byte| byte & 0x80 != 0);
        wide.iter_mut().enumerate().for_each(|(place, byte)| {
            *byte = stored.get(place).copied().unwrap_or(if negative { 0xFF } else { 0 });
        });
        i64::from_le_bytes(wide)
    };
    let members: Vec<(String, i64)> = members.iter().map(|member| (member.name.clone(), value(&member.value))).collect();
    let is_boolean = bytes == 1
        && members.len() == 2
        && members.iter().all(|(name, value)| (name == "FALSE" && *value == 0) || (name == "TRUE" && *value == 1));
    Ok(if is_boolean { Element::Boolean } else { Element::Enum { integer: Box::new(integer), members } })
}

/// The attributes of an object. One that can't be read says so in its place.
pub(super) fn attributes(stored: Vec<Attribute>, widths: Widths, heap: &dyn Heap) -> Attributes {
    let mut attributes = Attributes::new();
    for attribute in stored.into_iter().filter(|attribute| !ADDRESSES.contains(&attribute.name.as_str())) {
        let value = value(&attribute, widths, heap);
        let value = value.unwrap_or_else(|error| Arc::new(StringArray::from(vec![format!("cannot be read: {error}")])));
        attributes.push(attribute.name, value);
    }
    attributes
}

fn value(attribute: &Attribute, widths: Widths, heap: &dyn Heap) -> Result<ArrayRef> {
    if let Some(texts) = &attribute.decoded_strings {
        return Ok(Arc::new(StringArray::from(texts.clone())));
    }
    if let Datatype::VarLen { kind: VarLenKind::String, .. } = &attribute.datatype
        && attribute.shape.is_empty()
    {
        // The parser has put the text in the place of its reference.
        let text = String::from_utf8_lossy(&attribute.raw_data);
        return Ok(Arc::new(StringArray::from(vec![text.trim_end_matches('\0').to_owned()])));
    }
    // A text of one byte is a text here, not a row of characters.
    let element = element(&attribute.datatype, Widths { netcdf: false, ..widths })?;
    let count = attribute.shape.iter().try_fold(1usize, |product, extent| product.checked_mul(usize::try_from(*extent).ok()?)).unwrap_or(0);
    let bytes = count.checked_mul(element.width()).and_then(|length| attribute.raw_data.get(..length));
    let bytes = bytes.ok_or_else(|| Error::new(Kind::CorruptData, "the attribute is shorter than it says"))?;
    element.decode(bytes.to_vec(), heap)
}

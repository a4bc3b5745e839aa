//! The documents of a Zarr 2 store, as xarray reads them.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use bytes::Bytes;
use lacus_core::Result;
use serde_json::{Value, json};

use super::{Joined, MEANING};
use crate::container::{ArrayMeta, Attributes, Container, Dimension, joined_path, shown};
use crate::element::{Element, Order};
use crate::mapping::STRUCTURE;
use crate::writer::number_bytes;

const FILL: &str = "_FillValue";

/// The documents of all groups.
pub(super) fn groups(container: &Container, documents: &mut BTreeMap<String, String>) {
    documents.insert(".zgroup".to_owned(), r#"{"zarr_format":2}"#.to_owned());
    for group in &container.groups {
        documents.insert(joined_path(&group.path, ".zgroup"), r#"{"zarr_format":2}"#.to_owned());
        documents.insert(joined_path(&group.path, ".zattrs"), object(&attributes(&group.attributes, &[])));
    }
}

/// The names of the dimensions of each array. Unnamed ones that are not the same get names that are not the same.
pub(super) fn dimension_names<'a>(container: &'a Container) -> Vec<Vec<String>> {
    let mut numbers: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    let mut names = Vec::with_capacity(container.arrays.len());
    for array in &container.arrays {
        let name = |dimension: &'a Dimension| {
            let Dimension { name, key, named } = dimension;
            let known = numbers.entry((array.group.as_str(), name)).or_default();
            let number = known.iter().position(|known| known == key).unwrap_or_else(|| {
                known.push(key);
                known.len() - 1
            });
            if *named || number == 0 { name.clone() } else { format!("{name}_{}", number + 1) }
        };
        names.push(array.dimensions.iter().map(name).collect());
    }
    names
}

/// `.zarray` and `.zattrs` of an array; or why it can't be said.
pub(super) fn array(
    meta: &ArrayMeta,
    shape: &[u64],
    chunk: &[u64],
    dimensions: &[String],
    missing: bool,
    inline: Option<&Joined>,
) -> std::result::Result<(String, String), String> {
    let data_type = match inline {
        Some(joined) => plain_type(joined.values.data_type()),
        None => element_type(&meta.element),
    };
    let data_type = data_type.ok_or_else(|| format!("Zarr 2 has no type for {}", meta.element.data_type()))?;
    let own_fill = meta.attributes.get(FILL).filter(|fill| fill.len() == 1 && inline.is_none_or(|joined| joined.units.is_none()));
    if missing && !fills_alike(meta, own_fill) {
        return Err("chunks were never written, and are filled with another value than `_FillValue`".to_owned());
    }
    let codecs = match inline {
        Some(_) => Vec::new(),
        None => meta.codecs.clone()?,
    };
    let zarray = json!({
        "zarr_format": 2,
        "shape": shape,
        // A chunk of no cells is none, even of an array that has none.
        "chunks": chunk.iter().map(|extent| (*extent).max(1)).collect::<Vec<u64>>(),
        "dtype": data_type,
        "compressor": Value::Null,
        "filters": if codecs.is_empty() { Value::Null } else { Value::Array(codecs) },
        "fill_value": own_fill.map_or(Value::Null, fill_value),
        "order": "C",
        "dimension_separator": ".",
    });
    let mut all = attributes(&meta.attributes, &[FILL]);
    if let Some((units, calendar)) = inline.and_then(|joined| joined.units) {
        all.retain(|(name, _)| name == "standard_name" || !MEANING.contains(&name.as_str()));
        all.push(("units".to_owned(), json!(units).to_string()));
        all.push(("calendar".to_owned(), json!(calendar).to_string()));
    }
    all.push(("_ARRAY_DIMENSIONS".to_owned(), json!(dimensions).to_string()));
    Ok((zarray.to_string(), object(&all)))
}

/// Whether chunks that were never written hold what the `fill_value` of Zarr would say: `_FillValue`, or else zeros.
fn fills_alike(meta: &ArrayMeta, own_fill: Option<&ArrayRef>) -> bool {
    let zeros = vec![0; meta.element.width()];
    let stored = meta.fill.as_ref().unwrap_or(&zeros);
    let Some(own_fill) = own_fill else { return *stored == zeros };
    let order = match &meta.element {
        Element::Integer { order, .. } | Element::Float { order, .. } => *order,
        _ => Order::Little,
    };
    let said = cast(own_fill, &meta.element.data_type()).ok().and_then(|fill| number_bytes(&fill, order).ok());
    said.is_some_and(|said| said == *stored)
}

/// The bytes of values that stand in the references themselves.
pub(super) fn inline_bytes(joined: &Joined) -> Result<Bytes> {
    number_bytes(&joined.values, Order::Little).map(Bytes::from)
}

/// The type of numbers that are written least significant byte first.
fn plain_type(data_type: &DataType) -> Option<String> {
    let width = data_type.primitive_width()?;
    let kind = match data_type {
        _ if data_type.is_floating() => 'f',
        _ if data_type.is_unsigned_integer() => 'u',
        _ if data_type.is_signed_integer() => 'i',
        _ => return None,
    };
    Some(format!("{}{kind}{width}", if width == 1 { '|' } else { '<' }))
}

fn element_type(element: &Element) -> Option<String> {
    let sign = |order: &Order| if *order == Order::Big { '>' } else { '<' };
    Some(match element {
        Element::Integer { bytes: 1, signed, .. } => if *signed { "|i1" } else { "|u1" }.to_owned(),
        Element::Integer { bytes, signed, order } => format!("{}{}{bytes}", sign(order), if *signed { 'i' } else { 'u' }),
        Element::Float { bytes, order } => format!("{}f{bytes}", sign(order)),
        Element::Boolean => "|b1".to_owned(),
        Element::Char => "|S1".to_owned(),
        Element::Text { bytes, .. } => format!("|S{bytes}"),
        Element::Utf32 { characters, order } => format!("{}U{characters}", sign(order)),
        Element::Enum { integer, .. } => element_type(integer)?,
        Element::Opaque { bytes } => format!("|V{bytes}"),
        Element::Struct { bytes, members } => match members.as_slice() {
            [real, imaginary] if (real.name.as_str(), imaginary.name.as_str()) == ("r", "i") && real.element == imaginary.element => {
                let Element::Float { bytes: width, order } = &real.element else { return None };
                (*bytes == 2 * width && real.offset == 0 && imaginary.offset == *width).then(|| format!("{}c{bytes}", sign(order)))?
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The value of chunks that were never written, as the specification of Zarr 2 writes numbers.
fn fill_value(value: &ArrayRef) -> Value {
    if value.data_type().is_floating() {
        let number = cast(value, &DataType::Float64).map(|value| value.as_primitive::<Float64Type>().value(0)).unwrap_or(f64::NAN);
        return match number {
            _ if number.is_nan() => json!("NaN"),
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            _ => json!(number),
        };
    }
    serde_json::from_str(&text(value)).ok().filter(Value::is_number).unwrap_or(Value::Null)
}

/// The attributes that mean something, as JSON.
fn attributes(attributes: &Attributes, without: &[&str]) -> Vec<(String, String)> {
    let meant = attributes.iter().filter(|(name, _)| !STRUCTURE.contains(name) && !without.contains(name));
    meant.map(|(name, value)| (name.to_owned(), text(value))).collect()
}

fn object(members: &[(String, String)]) -> String {
    let member = |(name, value): &(String, String)| format!("{}:{value}", Value::String(name.clone()));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// The value of an attribute as JSON; numbers that JSON lacks as Python writes them, which is who reads this.
fn text(value: &ArrayRef) -> String {
    let items: Vec<String> = if value.data_type().is_floating() {
        let floats = cast(value, &DataType::Float64).ok();
        let number = |number: f64| match number {
            _ if number.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            _ => json!(number).to_string(),
        };
        floats.iter().flat_map(|floats| floats.as_primitive::<Float64Type>().values()).map(|value| number(*value)).collect()
    } else if value.data_type().is_integer() || *value.data_type() == DataType::Boolean {
        (0..value.len()).map(|row| shown(&value.slice(row, 1))).collect()
    } else if let Some(texts) = value.as_string_opt::<i32>() {
        texts.iter().map(|text| Value::String(text.unwrap_or_default().to_owned()).to_string()).collect()
    } else {
        vec![Value::String(shown(value)).to_string()]
    };
    match items.as_slice() {
        [one] => one.clone(),
        _ => format!("[{}]", items.join(",")),
    }
}

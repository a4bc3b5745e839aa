//! Documents of arrays in the words of `lacus-array`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use base64::Engine;
use lacus_array::{
    ArrayMeta, Attributes, Container, Dimension, Element, Group, Member, Missing, Order, Padding, groups_upward, joined_path,
};
use lacus_core::{Error, Kind, Result};
use serde_json::Value;
use zarrs::metadata::v2::MetadataV2;
use zarrs::metadata::v3::MetadataV3;
use zarrs::metadata::{Endianness, v2::ArrayMetadataV2Order};

use super::codecs::Codecs;
use super::hierarchy::{Document, Hierarchy, Node};
use super::shards::Shards;
use super::{ChunkKeys, Layout, json};

/// The name under which version 2 keeps the names of dimensions.
const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";
/// A reference of varying length; its width means nothing here.
const VARYING: usize = 16;

/// What the document of an array says.
struct Described {
    element: Element,
    shape: Vec<u64>,
    chunk: Vec<u64>,
    fill: Option<Vec<u8>>,
    missing: Missing,
    names: Option<Vec<Option<String>>>,
    keys: ChunkKeys,
    /// The codecs, the type that `zarrs` knows the elements by, and how they lie in shards.
    codecs: (Codecs, Option<Shards>),
}

impl Hierarchy {
    /// The container, and how each of its arrays is stored.
    pub(super) fn arrays(self) -> Result<(Container, Vec<Layout>)> {
        let mut container = Container::default();
        let mut layouts = Vec::new();
        for node in &self.nodes {
            if node.is_group() {
                container.groups.push(Group { path: node.path.clone(), attributes: node.attributes() });
                continue;
            }
            let (array, layout) = node.array();
            container.arrays.push(array);
            layouts.push(layout);
        }
        share_dimensions(&mut container.arrays);
        Ok((container, layouts))
    }
}

/// A dimension is that of the coordinate of its name, in the array's group or the nearest above it.
fn share_dimensions(arrays: &mut [ArrayMeta]) {
    let coordinates: HashMap<String, u64> =
        arrays.iter().filter(|array| array.shape.len() == 1).map(|array| (array.path(), array.shape[0])).collect();
    for array in arrays {
        let shape = array.shape.clone();
        for (dimension, extent) in array.dimensions.iter_mut().zip(shape).filter(|(dimension, _)| dimension.named) {
            let mut keys = groups_upward(&array.group).map(|group| joined_path(group, &dimension.name));
            if let Some(key) = keys.find(|key| coordinates.get(key) == Some(&extent)) {
                dimension.key = key;
            }
        }
    }
}

impl Node {
    fn attributes(&self) -> Attributes {
        match &self.document {
            Document::V3(document) => json::attributes(document.get("attributes")),
            Document::V2 { attributes, .. } => json::attributes(attributes.as_ref()),
        }
    }

    fn array(&self) -> (ArrayMeta, Layout) {
        let (group, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        // An array that is the root of its store has no name of its own.
        let name = if name.is_empty() { "value" } else { name };
        let mut array = ArrayMeta {
            group: group.to_owned(),
            name: name.to_owned(),
            element: Element::Integer { bytes: 1, signed: false, order: Order::Little },
            shape: Vec::new(),
            dimensions: Vec::new(),
            chunk: Vec::new(),
            codecs: Err("it is Zarr already".to_owned()),
            fill: None,
            missing: Missing::Nothing,
            attributes: self.attributes(),
            problem: None,
            only_dimension: false,
        };
        let mut layout = Layout { path: self.path.clone(), keys: ChunkKeys::Plain('.'), codecs: None, shards: None };
        let described = match &self.document {
            Document::V3(document) => v3(document),
            Document::V2 { array: Some(document), attributes } => v2(document, attributes.as_ref()),
            Document::V2 { array: None, .. } => Err(Error::new(Kind::Internal, "a group is no array")),
        };
        match described {
            Ok(described) => {
                array.dimensions = dimensions(&array.group, &described.shape, described.names.as_deref());
                array.attributes = completed(array.attributes, &described.element, &self.document);
                (array.shape, array.chunk) = (described.shape, described.chunk);
                (array.element, array.fill, array.missing) = (described.element, described.fill, described.missing);
                layout.keys = described.keys;
                (layout.codecs, layout.shards) = (Some(described.codecs.0), described.codecs.1);
            }
            Err(error) => array.problem = Some(error.to_string()),
        }
        (array, layout)
    }
}

fn dimensions(group: &str, shape: &[u64], names: Option<&[Option<String>]>) -> Vec<Dimension> {
    let dimension = |axis: usize| match names.and_then(|names| names.get(axis)).and_then(Clone::clone) {
        Some(name) => Dimension { key: format!("{}#{}", joined_path(group, &name), shape[axis]), name, named: true },
        None => Dimension { name: format!("dim_{axis}"), key: format!("{group}#{shape:?}#{axis}"), named: false },
    };
    (0..shape.len()).map(dimension).collect()
}

/// Attributes in the form that decoding expects: a fill value that xarray wrote in base64 is a number, and numpy's times say their unit.
fn completed(attributes: Attributes, element: &Element, document: &Document) -> Attributes {
    let mut completed = Attributes::new();
    for (name, value) in attributes.iter() {
        let decoded = if name == "_FillValue" && matches!(element, Element::Float { .. }) {
            attributes.text(name).and_then(base64_float)
        } else {
            None
        };
        completed.push(name, decoded.unwrap_or_else(|| Arc::clone(value)));
    }
    let unit = match document {
        Document::V3(document) => {
            let configuration = &document["data_type"]["configuration"];
            let plain = document["data_type"]["name"] == "numpy.datetime64" && configuration["scale_factor"].as_i64().unwrap_or(1) == 1;
            configuration["unit"].as_str().filter(|_| plain)
        }
        Document::V2 { array, .. } => array
            .as_ref()
            .and_then(|array| array["dtype"].as_str())
            .and_then(|dtype| dtype.get(1..)?.strip_prefix("M8[")?.strip_suffix(']')),
    };
    if let Some(unit) = unit
        && completed.get("units").is_none()
    {
        let unit = match unit {
            "D" => "days",
            "h" => "hours",
            "m" => "minutes",
            other => other,
        };
        completed.push_text("units", format!("{unit} since 1970-01-01"));
        completed.push_text("calendar", "proleptic_gregorian");
        completed.push("_FillValue", Arc::new(Int64Array::from(vec![i64::MIN])));
    }
    completed
}

fn base64_float(text: &str) -> Option<ArrayRef> {
    let bytes: [u8; 8] = base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Arc::new(Float64Array::from(vec![f64::from_le_bytes(bytes)])))
}

fn missing_key(name: &str) -> Error {
    Error::new(Kind::CorruptData, format!("the metadata lacks `{name}`"))
}

fn extents(value: &Value, name: &str) -> Result<Vec<u64>> {
    let list = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
    list.ok_or_else(|| missing_key(name))
}

/// Zero in a chunk's extent means the whole dimension, and that may be empty.
fn chunk_of(extents: Vec<u64>) -> Vec<u64> {
    extents.into_iter().map(|extent| extent.max(1)).collect()
}

// --- version 2

fn v2(document: &Value, attributes: Option<&Value>) -> Result<Described> {
    let shape = extents(&document["shape"], "shape")?;
    let chunk = chunk_of(extents(&document["chunks"], "chunks")?);
    let filters: Vec<MetadataV2> = match &document["filters"] {
        Value::Null => Vec::new(),
        other => serde_json::from_value(other.clone()).map_err(|error| Error::new(Kind::CorruptData, format!("`filters`: {error}")))?,
    };
    let compressor: Option<MetadataV2> = serde_json::from_value(document["compressor"].clone())
        .map_err(|error| Error::new(Kind::CorruptData, format!("`compressor`: {error}")))?;
    let (varying, filters): (Vec<MetadataV2>, Vec<MetadataV2>) = filters.into_iter().partition(|filter| filter.id().starts_with("vlen-"));
    let element = match (varying.first().map(MetadataV2::id), &document["dtype"]) {
        (Some("vlen-utf8"), _) => Element::String { bytes: VARYING },
        (Some("vlen-bytes"), _) => Element::String { bytes: VARYING },
        (Some(other), _) => return Err(Error::new(Kind::Unsupported, format!("the filter {other} can't be read"))),
        (None, dtype) => v2_element(dtype)?,
    };
    let separator = document["dimension_separator"].as_str().and_then(|text| text.chars().next()).unwrap_or('.');
    let order = if document["order"] == "F" { ArrayMetadataV2Order::F } else { ArrayMetadataV2Order::C };
    let names = attributes.and_then(|attributes| attributes[DIMENSIONS].as_array());
    let names = names.map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    let codecs = v2_codecs(order, shape.len(), &element, varying.first(), filters, compressor)?;
    let element = in_native_order(element);
    let fill = v2_fill(&document["fill_value"], &element);
    // Null means that nothing was said, not that zero is missing; and a fill is missing only for what has such a value to spare.
    let missing = if fill.is_some() && element.is_number() { Missing::Fill } else { Missing::Nothing };
    Ok(Described { element, shape, chunk, fill, missing, names, keys: ChunkKeys::Plain(separator), codecs: (codecs, None) })
}

/// The element of a numpy type: `<f4`, `|S5`, `<U3`, `<M8[ns]`, or a list of members.
fn v2_element(dtype: &Value) -> Result<Element> {
    let unsupported = || Error::new(Kind::Unsupported, format!("the type {dtype} can't be read"));
    if let Some(members) = dtype.as_array() {
        let mut offset = 0;
        let mut found = Vec::new();
        for member in members {
            let (Some(name), Some(element)) = (member[0].as_str(), member.get(1)) else { return Err(unsupported()) };
            let mut element = v2_element(element)?;
            if let Some(extents) = member.get(2).and_then(Value::as_array) {
                let count = extents.iter().filter_map(Value::as_u64).product::<u64>() as usize;
                element = Element::Fixed { element: Box::new(element), count };
            }
            let width = element.width();
            found.push(Member { name: name.to_owned(), offset, element });
            offset += width;
        }
        return Ok(Element::Struct { bytes: offset, members: found });
    }
    let text = dtype.as_str().ok_or_else(unsupported)?;
    let order = if text.starts_with('>') { Order::Big } else { Order::Little };
    let (kind, size) = (text.get(1..2).ok_or_else(unsupported)?, text.get(2..).ok_or_else(unsupported)?);
    let size = size.split_once('[').map_or(size, |(size, _)| size);
    let bytes: usize = size.parse().map_err(|_| unsupported())?;
    let float = |bytes| Element::Float { bytes, order };
    Ok(match (kind, bytes) {
        ("b", 1) => Element::Boolean,
        ("i" | "M" | "m", 1 | 2 | 4 | 8) => Element::Integer { bytes, signed: true, order },
        ("u", 1 | 2 | 4 | 8) => Element::Integer { bytes, signed: false, order },
        ("f", 2 | 4 | 8) => float(bytes),
        ("c", 8 | 16) => complex(float(bytes / 2)),
        ("S", 1..) => Element::Text { bytes, padding: Padding::Nul },
        ("U", 1..) => Element::Utf32 { characters: bytes, order },
        ("V", 1..) => Element::Opaque { bytes },
        _ => return Err(unsupported()),
    })
}

fn complex(part: Element) -> Element {
    let bytes = part.width();
    let member = |name: &str, offset| Member { name: name.to_owned(), offset, element: part.clone() };
    Element::Struct { bytes: bytes * 2, members: vec![member("r", 0), member("i", bytes)] }
}

fn v2_codecs(
    order: ArrayMetadataV2Order,
    rank: usize,
    element: &Element,
    varying: Option<&MetadataV2>,
    filters: Vec<MetadataV2>,
    compressor: Option<MetadataV2>,
) -> Result<Codecs> {
    let data_type = stored_type(element);
    let endianness = Some(if is_big(element) { Endianness::Big } else { Endianness::Little });
    let convert = |filters: Option<Vec<MetadataV2>>, compressor: Option<MetadataV2>| {
        zarrs::convert::codec_metadata_v2_to_v3(order, rank, &data_type, endianness, &filters, &compressor)
            .map_err(|error| Error::new(Kind::Unsupported, error.to_string()))
    };
    let Some(varying) = varying else { return Codecs::new(&convert(Some(filters), compressor)?, &data_type, element.width()) };
    // Converted together, the compressor of texts would be lost.
    let mut codecs = convert(Some(vec![varying.clone()]), None)?;
    let compressed = convert(None, compressor)?;
    codecs.extend(compressed.into_iter().filter(|codec| !["bytes", "transpose"].contains(&codec.name())));
    Codecs::new(&codecs, &data_type, element.width())
}

/// Numbers as `zarrs` hands them over, in the order of this machine; what it takes for mere bytes stays as it is.
fn in_native_order(element: Element) -> Element {
    let order = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };
    match element {
        Element::Integer { bytes, signed, .. } => Element::Integer { bytes, signed, order },
        Element::Float { bytes, .. } => Element::Float { bytes, order },
        other => other,
    }
}

/// The type that `zarrs` knows elements by: numbers as themselves, everything else as bytes.
fn stored_type(element: &Element) -> MetadataV3 {
    let name = match element {
        Element::Integer { bytes, signed, .. } => format!("{}int{}", if *signed { "" } else { "u" }, bytes * 8),
        Element::Float { bytes, .. } => format!("float{}", bytes * 8),
        Element::Boolean => "bool".to_owned(),
        Element::String { .. } => "string".to_owned(),
        other => format!("r{}", other.width() * 8),
    };
    MetadataV3::new(name)
}

fn is_big(element: &Element) -> bool {
    matches!(element, Element::Integer { order: Order::Big, .. } | Element::Float { order: Order::Big, .. })
}

/// The fill value as the bytes of an element.
fn v2_fill(value: &Value, element: &Element) -> Option<Vec<u8>> {
    match (value, element) {
        (Value::Null, _) => None,
        (Value::String(text), Element::Text { bytes, .. } | Element::Opaque { bytes } | Element::Struct { bytes, .. }) => {
            let mut decoded = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            decoded.resize(*bytes, 0);
            Some(decoded)
        }
        (Value::String(text), Element::Utf32 { characters, order }) => {
            let codes = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(*characters);
            Some(codes.flat_map(|code| if *order == Order::Big { code.to_be_bytes() } else { code.to_le_bytes() }).collect())
        }
        _ => number_bytes(value, element),
    }
}

/// The bytes of a number or truth value.
fn number_bytes(value: &Value, element: &Element) -> Option<Vec<u8>> {
    let (mut bytes, order) = match element {
        Element::Boolean => (vec![u8::from(value.as_bool()?)], Order::Little),
        Element::Integer { bytes, order, .. } => {
            let wide = value.as_i64().map(i64::to_le_bytes).or_else(|| value.as_u64().map(u64::to_le_bytes));
            let wide =
                wide.or_else(|| json::number(value).filter(|number| number.fract() == 0.0).map(|number| (number as i64).to_le_bytes()))?;
            (wide[..*bytes].to_vec(), *order)
        }
        Element::Float { bytes, order } => {
            if let Some(hex) = value.as_str().and_then(|text| text.strip_prefix("0x")) {
                let bits = u64::from_str_radix(hex, 16).ok()?;
                (bits.to_le_bytes()[..*bytes].to_vec(), *order)
            } else {
                let number = json::number(value)?;
                let stored = match bytes {
                    2 => half::f16::from_f64(number).to_le_bytes().to_vec(),
                    4 => (number as f32).to_le_bytes().to_vec(),
                    _ => number.to_le_bytes().to_vec(),
                };
                (stored, *order)
            }
        }
        _ => return None,
    };
    if order == Order::Big {
        bytes.reverse();
    }
    Some(bytes)
}

// --- version 3

fn v3(document: &Value) -> Result<Described> {
    let shape = extents(&document["shape"], "shape")?;
    let grid = &document["chunk_grid"];
    if grid["name"] != "regular" {
        return Err(Error::new(Kind::Unsupported, format!("the chunk grid {} can't be read", grid["name"])));
    }
    let outer = chunk_of(extents(&grid["configuration"]["chunk_shape"], "chunk_shape")?);
    let element = in_native_order(v3_element(&document["data_type"])?);
    let codecs: Vec<MetadataV3> =
        serde_json::from_value(document["codecs"].clone()).map_err(|error| Error::new(Kind::CorruptData, format!("`codecs`: {error}")))?;
    let encoding = &document["chunk_key_encoding"];
    let separator = encoding.pointer("/configuration/separator").and_then(Value::as_str).and_then(|text| text.chars().next());
    let keys = match encoding["name"].as_str() {
        Some("v2") => ChunkKeys::Plain(separator.unwrap_or('.')),
        _ => ChunkKeys::Prefixed(separator.unwrap_or('/')),
    };
    let names = document["dimension_names"].as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    let fill = v2_fill(&document["fill_value"], &element);
    // Elements are as `zarrs` hands them over: in the order of this machine.
    let (chunk, codecs, shards) = match sharded(document, &outer)? {
        Some((inner, codecs, shards)) => (inner, codecs, Some(shards)),
        None => (outer, codecs, None),
    };
    let codecs = Codecs::new(&codecs, &stored_type(&element), element.width())?;
    Ok(Described { element, shape, chunk, fill, missing: Missing::Nothing, names, keys, codecs: (codecs, shards) })
}

fn v3_element(data_type: &Value) -> Result<Element> {
    let unsupported = || Error::new(Kind::Unsupported, format!("the type {data_type} can't be read"));
    let name = data_type.as_str().or_else(|| data_type["name"].as_str()).ok_or_else(unsupported)?;
    let length = || data_type.pointer("/configuration/length_bytes").and_then(Value::as_u64).map(|length| length as usize);
    let order = Order::Little;
    Ok(match name {
        "bool" => Element::Boolean,
        "string" => Element::String { bytes: VARYING },
        "complex64" | "complex128" => complex(Element::Float { bytes: if name == "complex64" { 4 } else { 8 }, order }),
        "fixed_length_utf32" => Element::Utf32 { characters: length().ok_or_else(unsupported)? / 4, order },
        "null_terminated_bytes" => Element::Text { bytes: length().ok_or_else(unsupported)?, padding: Padding::Nul },
        "numpy.datetime64" | "numpy.timedelta64" => Element::Integer { bytes: 8, signed: true, order },
        name => {
            let (kind, bits) = name.split_at(name.find(|next: char| next.is_ascii_digit()).ok_or_else(unsupported)?);
            let bits: usize = bits.parse().map_err(|_| unsupported())?;
            match (kind, bits) {
                ("int", 8 | 16 | 32 | 64) => Element::Integer { bytes: bits / 8, signed: true, order },
                ("uint", 8 | 16 | 32 | 64) => Element::Integer { bytes: bits / 8, signed: false, order },
                ("float", 16 | 32 | 64) => Element::Float { bytes: bits / 8, order },
                ("r", bits) if bits > 0 && bits % 8 == 0 => Element::Opaque { bytes: bits / 8 },
                _ => return Err(unsupported()),
            }
        }
    })
}

/// The extent of the chunks in shards, their codecs, and how they lie in the shards.
type Sharded = (Vec<u64>, Vec<MetadataV3>, Shards);

/// The inner chunks of shards, when sharding is the whole of the codecs and its index is plain; else a shard is read as one chunk.
fn sharded(document: &Value, shard: &[u64]) -> Result<Option<Sharded>> {
    let [codec] = document["codecs"].as_array().map(Vec::as_slice).unwrap_or_default() else { return Ok(None) };
    if codec["name"] != "sharding_indexed" {
        return Ok(None);
    }
    let configuration = &codec["configuration"];
    let inner = chunk_of(extents(&configuration["chunk_shape"], "chunk_shape")?);
    let index: Vec<&str> =
        configuration["index_codecs"].as_array().into_iter().flatten().filter_map(|codec| codec["name"].as_str()).collect();
    let little = configuration.pointer("/index_codecs/0/configuration/endian").and_then(Value::as_str) == Some("little");
    let plain = little && matches!(index.as_slice(), ["bytes"] | ["bytes", "crc32c"]);
    let divides = inner.len() == shard.len() && inner.iter().zip(shard).all(|(inner, shard)| shard % inner == 0);
    if !plain || !divides {
        return Ok(None);
    }
    let codecs = serde_json::from_value(configuration["codecs"].clone())
        .map_err(|error| Error::new(Kind::CorruptData, format!("`codecs` of the shards: {error}")))?;
    let chunks = inner.iter().zip(shard).map(|(inner, shard)| shard / inner).collect();
    let shards = Shards::new(chunks, configuration["index_location"] != "start", index.len() == 2);
    Ok(Some((inner, codecs, shards)))
}

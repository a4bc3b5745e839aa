//! Zarr version 3, written: chunks compressed by Zstandard, names of dimensions, attributes as xarray has them.
//!
//! The document of the root comes last and describes all arrays, so a store without it is none.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use async_trait::async_trait;
use base64::Engine;
use bytes::Bytes;
use lacus_array::{Attributes, GridLayout, GridValues, GridWriter, Order, Variable, number_bytes, slab_extent, slab_range};
use lacus_core::{Error, Kind, Result};
use lacus_storage::Writing;
use serde_json::{Map, Value, json};

use super::below;

/// The level of compression: Zstandard's own default.
const LEVEL: i32 = 3;
/// Bytes before each text of a chunk, which say its length.
const TEXT_LENGTH: usize = 4;

/// Writes Zarr stores.
#[derive(Debug)]
pub(crate) struct ZarrWriter;

#[async_trait]
impl GridWriter for ZarrWriter {
    fn name(&self) -> &'static str {
        "zarr"
    }

    fn ending(&self) -> &'static str {
        ".zarr"
    }

    async fn write(&self, layout: &GridLayout, values: &mut dyn GridValues, writing: &mut Writing) -> Result<()> {
        let root = writing.target().clone();
        let mut members = Map::new();
        for (index, variable) in layout.variables.iter().enumerate() {
            let shape = layout.shape(variable);
            let extent = slab_extent(&shape, width(variable));
            let folder = below(&root, &variable.name)?;
            let array = values.values(index)?;
            let cells = usize::try_from(extent.iter().product::<u64>()).unwrap_or(usize::MAX);
            for chunk in chunks(&shape, &extent) {
                let (start, inside) = slab_range(&shape, &extent, &chunk);
                // A slab is contiguous, so what lies inside of the array is one run of its values.
                let slab = array.slice(start as usize, inside as usize);
                let name = chunk.iter().map(u64::to_string).collect::<Vec<_>>().join("/");
                writing.put(below(&folder, &format!("c/{name}"))?, move || encoded(&slab, cells)).await?;
            }
            drop(array);
            let document = array_document(layout, variable, &shape, &extent)?;
            let bytes = written(&document)?;
            writing.put(below(&folder, "zarr.json")?, move || Ok(bytes)).await?;
            members.insert(variable.name.clone(), document);
        }
        writing.settle().await?;
        let consolidated = json!({"kind": "inline", "must_understand": false, "metadata": members});
        let attributes = attributes_document(&layout.attributes)?;
        let document = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": consolidated});
        let bytes = written(&document)?;
        writing.put(below(&root, "zarr.json")?, move || Ok(bytes)).await
    }
}

/// Bytes of one element, about.
fn width(variable: &Variable) -> usize {
    match variable.data_type {
        DataType::LargeUtf8 => variable.longest + TEXT_LENGTH,
        ref number => number.primitive_width().unwrap_or(1),
    }
}

/// The places of all chunks, in C order.
fn chunks(shape: &[u64], extent: &[u64]) -> impl Iterator<Item = Vec<u64>> + use<> {
    let counts: Vec<u64> = shape.iter().zip(extent).map(|(shape, extent)| shape.div_ceil(*extent)).collect();
    (0..counts.iter().product()).map(move |number| {
        let mut rest = number;
        let mut place: Vec<u64> = counts
            .iter()
            .rev()
            .map(|count| {
                let along = rest % count;
                rest /= count;
                along
            })
            .collect();
        place.reverse();
        place
    })
}

/// A chunk as it is stored. At the edge of an array it is filled up: each chunk has all of its cells.
fn encoded(slab: &ArrayRef, cells: usize) -> Result<Bytes> {
    let bytes = match slab.as_string_opt::<i64>() {
        Some(texts) => {
            let mut bytes = length(cells)?.to_vec();
            for text in texts.iter().map(Option::unwrap_or_default).chain(std::iter::repeat("")).take(cells) {
                bytes.extend_from_slice(&length(text.len())?);
                bytes.extend_from_slice(text.as_bytes());
            }
            bytes
        }
        None => {
            let mut bytes = number_bytes(slab, Order::Little)?;
            bytes.resize(cells * slab.data_type().primitive_width().unwrap_or(1), 0);
            bytes
        }
    };
    let packed = zstd::bulk::compress(&bytes, LEVEL);
    Ok(packed.map_err(|error| Error::new(Kind::Internal, format!("a chunk can't be compressed: {error}")))?.into())
}

fn length(length: usize) -> Result<[u8; TEXT_LENGTH]> {
    let length = u32::try_from(length).map_err(|_| Error::new(Kind::LimitExceeded, "a text is longer than Zarr can hold"))?;
    Ok(length.to_le_bytes())
}

fn array_document(layout: &GridLayout, variable: &Variable, shape: &[u64], extent: &[u64]) -> Result<Value> {
    let names: Vec<&String> = variable.axes.iter().filter_map(|axis| layout.dimensions.get(*axis)).map(|(name, _)| name).collect();
    let (data_type, first, fill) = match &variable.data_type {
        DataType::Boolean => ("bool".to_owned(), json!({"name": "bytes"}), json!(false)),
        DataType::LargeUtf8 => ("string".to_owned(), json!({"name": "vlen-utf8"}), json!("")),
        number => (number.to_string().to_lowercase(), json!({"name": "bytes", "configuration": {"endian": "little"}}), json!(0)),
    };
    Ok(json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": extent}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [first, {"name": "zstd", "configuration": {"level": LEVEL, "checksum": false}}],
        "attributes": attributes_document(&variable.attributes)?,
        "dimension_names": names,
    }))
}

fn attributes_document(attributes: &Attributes) -> Result<Value> {
    let mut document = Map::new();
    for (name, value) in attributes.iter() {
        let value = match value.data_type() {
            // JSON lacks NaN, so xarray writes the bytes of floats that mean "missing".
            kind if kind.is_floating() && name == "_FillValue" => {
                let wide = arrow::compute::cast(value, &DataType::Float64)?;
                let bytes = wide.as_primitive::<Float64Type>().value(0).to_le_bytes();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            _ => attribute(value)?,
        };
        document.insert(name.to_owned(), value);
    }
    Ok(Value::Object(document))
}

fn attribute(value: &ArrayRef) -> Result<Value> {
    let items: Vec<Value> = if let Some(texts) = value.as_string_opt::<i32>() {
        texts.iter().map(|text| json!(text)).collect()
    } else if value.data_type().is_unsigned_integer() {
        let wide = arrow::compute::cast(value, &DataType::UInt64)?;
        wide.as_primitive::<arrow::datatypes::UInt64Type>().iter().map(|number| json!(number)).collect()
    } else if value.data_type().is_integer() {
        let wide = arrow::compute::cast(value, &DataType::Int64)?;
        wide.as_primitive::<arrow::datatypes::Int64Type>().iter().map(|number| json!(number)).collect()
    } else {
        let wide = arrow::compute::cast(value, &DataType::Float64)?;
        wide.as_primitive::<Float64Type>().iter().flatten().map(float).collect()
    };
    Ok(match items.len() {
        1 => items.into_iter().next().unwrap_or(Value::Null),
        _ => Value::Array(items),
    })
}

/// A float, also one that JSON lacks.
fn float(number: f64) -> Value {
    if number.is_nan() {
        json!("NaN")
    } else if number.is_infinite() {
        json!(if number > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(number)
    }
}

fn written(document: &Value) -> Result<Bytes> {
    let bytes = serde_json::to_vec_pretty(document);
    Ok(bytes.map_err(|error| Error::new(Kind::Internal, format!("metadata can't be written: {error}")))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int16Array};
    use std::sync::Arc;

    #[test]
    fn chunks_cover_an_array_and_are_whole() -> Result<()> {
        let places: Vec<Vec<u64>> = chunks(&[5, 2], &[2, 2]).collect();
        assert_eq!(places, [[0, 0], [1, 0], [2, 0]]);
        let edge: ArrayRef = Arc::new(Int16Array::from(vec![1, 2]));
        let bytes = zstd::bulk::decompress(&encoded(&edge, 4)?, 100).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        assert_eq!(bytes, [1, 0, 2, 0, 0, 0, 0, 0]);
        Ok(())
    }

    #[test]
    fn attributes_are_those_of_xarray() -> Result<()> {
        let mut attributes = Attributes::new();
        attributes.push("_FillValue", Arc::new(Float32Array::from(vec![f32::NAN])));
        attributes.push("flag_values", Arc::new(Int16Array::from(vec![1, 2])));
        attributes.push_text("units", "K");
        let document = attributes_document(&attributes)?;
        assert_eq!(document, json!({"_FillValue": "AAAAAAAA+H8=", "flag_values": [1, 2], "units": "K"}));
        Ok(())
    }
}

//! What a container (a file, or a folder of chunks) holds: groups, arrays, dimensions and attributes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::{Deserialize, Serialize};

use crate::Element;

/// What one container holds, as far as metadata tells.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// The groups, the root (whose path is empty) first.
    pub groups: Vec<Group>,
    /// The arrays of all groups, in the order of the container.
    pub arrays: Vec<ArrayMeta>,
}

/// A group of arrays.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The path without a leading `/`; empty for the root.
    pub path: String,
    /// The attributes.
    pub attributes: Attributes,
}

/// One stored array.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArrayMeta {
    /// The path of the group without a leading `/`; empty for the root.
    pub group: String,
    /// The name within the group.
    pub name: String,
    /// What one element is.
    pub element: Element,
    /// The extent along each dimension.
    pub shape: Vec<u64>,
    /// The dimensions, as many as the shape has extents.
    pub dimensions: Vec<Dimension>,
    /// The extent of a chunk along each dimension. Contiguous data is cut into slabs by the format.
    pub chunk: Vec<u64>,
    /// How the bytes of a chunk were encoded, step by step, as configurations of numcodecs, the codecs of Zarr 2; or why they can't be
    /// said so. Compression levels are left out: decoding needs none.
    pub codecs: std::result::Result<Vec<serde_json::Value>, String>,
    /// The bytes of one element that was never written; zeros when `None`.
    pub fill: Option<Vec<u8>>,
    /// Which values mean "missing" beside those that attributes name.
    pub missing: Missing,
    /// The attributes.
    #[serde(skip)]
    pub attributes: Attributes,
    /// Why the array can't be read, if so: it is listed, but it is no column.
    pub problem: Option<String>,
    /// Whether the array is nothing but the scale of a dimension, without values of its own.
    pub only_dimension: bool,
}

/// Which values mean "missing" beside those that attributes name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// None.
    Nothing,
    /// The default fill values of NetCDF, except for types of one byte.
    NetcdfDefaults,
    /// The value of elements that were never written.
    Fill,
}

/// A dimension of an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dimension {
    /// The name.
    pub name: String,
    /// What makes it the same dimension in two arrays of a container: equal lengths do not.
    pub key: String,
    /// Whether a person named it. Unnamed axes are `dim_0`, `dim_1`, ... of arrays of one shape in one group.
    pub named: bool,
}

impl ArrayMeta {
    /// The path without a leading `/`.
    pub fn path(&self) -> String {
        joined_path(&self.group, &self.name)
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, extent| product.saturating_mul(*extent))
    }

    /// Why the array can't be read: what its format says, or that no table can count its cells.
    pub(crate) fn refused(&self) -> Option<String> {
        let uncountable = || format!("{:?} are more cells than can be counted", self.shape);
        self.problem.clone().or_else(|| (self.elements() > i64::MAX as u64).then(uncountable))
    }

    /// Decoded size in bytes, as far as elements are of fixed width.
    pub fn volume(&self) -> u64 {
        self.elements().saturating_mul(self.element.width() as u64)
    }

    /// The number of chunks along each dimension.
    pub(crate) fn chunk_counts(&self) -> Vec<u64> {
        self.shape.iter().zip(&self.chunk).map(|(extent, chunk)| extent.div_ceil(*chunk)).collect()
    }

    /// All chunks, in C order.
    pub(crate) fn chunks(&self) -> Vec<Vec<u64>> {
        let along: Vec<Vec<u64>> = self.chunk_counts().into_iter().map(|count| (0..count).collect()).collect();
        product(&along.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Decoded size of one whole chunk in bytes.
    pub fn chunk_bytes(&self) -> u64 {
        let elements = self.chunk.iter().fold(1, |product: u64, extent| product.saturating_mul(*extent));
        elements.saturating_mul(self.element.width() as u64)
    }
}

/// All combinations of one item of each list, the last varying fastest.
pub(crate) fn product(lists: &[&[u64]]) -> Vec<Vec<u64>> {
    lists.iter().fold(vec![Vec::new()], |combinations, list| {
        combinations.iter().flat_map(|start| list.iter().map(move |item| start.iter().copied().chain([*item]).collect())).collect()
    })
}

/// `group/name`, or `name` alone in the root.
pub fn joined_path(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") }
}

/// A group and those above it, the root (whose path is empty) last.
pub fn groups_upward(group: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(group), |group| (!group.is_empty()).then(|| group.rsplit_once('/').map_or("", |(parent, _)| parent)))
}

/// Attributes by name, in the order of the container.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    values: Vec<(String, ArrayRef)>,
}

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; an array of several values is an attribute of several values.
    pub fn push(&mut self, name: impl Into<String>, value: ArrayRef) {
        self.values.push((name.into(), value));
    }

    /// Adds a text.
    pub fn push_text(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.push(name, Arc::new(StringArray::from(vec![text.into()])));
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayRef)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The values of one.
    pub fn get(&self, name: &str) -> Option<&ArrayRef> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of one that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        let texts = value.as_string_opt::<i32>()?;
        (!texts.is_empty() && !texts.is_null(0)).then(|| texts.value(0))
    }

    /// The values of one that holds numbers, as 64-bit floats.
    pub fn numbers(&self, name: &str) -> Option<Float64Array> {
        let value = self.get(name).filter(|value| value.data_type().is_numeric())?;
        Some(cast(value, &DataType::Float64).ok()?.as_primitive::<Float64Type>().clone())
    }

    /// The values of one that holds whole numbers.
    pub fn integers(&self, name: &str) -> Option<Int64Array> {
        let value = self.get(name).filter(|value| value.data_type().is_integer())?;
        Some(cast(value, &DataType::Int64).ok()?.as_primitive::<Int64Type>().clone())
    }

    /// The first number of one that holds numbers.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers(name).filter(|values| !values.is_empty()).map(|values| values.value(0))
    }
}

/// The value of an attribute as text: several values in brackets.
pub(crate) fn shown(value: &ArrayRef) -> String {
    if let Some(texts) = value.as_string_opt::<i32>()
        && texts.len() == 1
    {
        return texts.value(0).to_owned();
    }
    let options = FormatOptions::default();
    let Ok(formatter) = ArrayFormatter::try_new(value, &options) else { return String::new() };
    let items: Vec<String> = (0..value.len()).map(|row| formatter.value(row).to_string()).collect();
    if items.len() == 1 { items.concat() } else { format!("[{}]", items.join(", ")) }
}

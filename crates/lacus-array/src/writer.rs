//! What a format implements to be written: [`GridWriter`].

use std::fmt::Debug;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use lacus_core::{Error, Kind, Result};
use lacus_storage::Writing;

use crate::{Attributes, Order, Variable};

/// What a grid is, before its values.
#[derive(Debug, Clone, Default)]
pub struct GridLayout {
    /// The name and the extent of each dimension, slowest first.
    pub dimensions: Vec<(String, u64)>,
    /// The arrays, those of the dimensions first.
    pub variables: Vec<Variable>,
    /// The attributes of the whole.
    pub attributes: Attributes,
}

impl GridLayout {
    /// The extents of a variable.
    pub fn shape(&self, variable: &Variable) -> Vec<u64> {
        variable.axes.iter().filter_map(|axis| self.dimensions.get(*axis)).map(|(_, extent)| *extent).collect()
    }
}

/// The values of a grid.
pub trait GridValues: Send {
    /// The values of a variable in C order, of its own type and without NULL. Each is asked for once, in order: they are made then.
    ///
    /// # Errors
    /// What putting them into place says.
    fn values(&mut self, variable: usize) -> Result<ArrayRef>;
}

/// Writes grids in one format.
#[async_trait]
pub trait GridWriter: Debug + Send + Sync {
    /// The name of the format, such as `zarr`.
    fn name(&self) -> &'static str;

    /// The ending of its files or folders, such as `.zarr`.
    fn ending(&self) -> &'static str;

    /// Writes a grid. Whatever makes readers see it comes last; the caller keeps it or gives it up.
    ///
    /// # Errors
    /// `Unsupported` for what the format can't hold, and what the store says.
    async fn write(&self, layout: &GridLayout, values: &mut dyn GridValues, writing: &mut Writing) -> Result<()>;
}

/// Numbers and truth values as their bytes: what [`Element::decode`](crate::Element::decode) reads.
///
/// # Errors
/// `Internal` for other types.
pub fn number_bytes(values: &ArrayRef, order: Order) -> Result<Vec<u8>> {
    if *values.data_type() == DataType::Boolean {
        return Ok(values.as_boolean().values().iter().map(u8::from).collect());
    }
    let data = values.to_data();
    let (Some(width), Some(buffer)) = (values.data_type().primitive_width(), data.buffers().first()) else {
        return Err(Error::new(Kind::Internal, format!("{} is no number", values.data_type())));
    };
    let start = data.offset() * width;
    let mut bytes = buffer.as_slice()[start..start + data.len() * width].to_vec();
    let native = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };
    if order != native {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    Ok(bytes)
}

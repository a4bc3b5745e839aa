//! NetCDF classic files: CDF-1, CDF-2 (64-bit offsets) and CDF-5 (64-bit data).
//!
//! The header is read by `netcdf-reader`; all data is one piece per variable, or one piece per record, and big-endian.

mod write;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, StringArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use async_trait::async_trait;
use bytes::Bytes;
use lacus_array::{
    ArrayMeta, Attributes, Container, Dimension, Element, GridStore, Group, Missing, NoHeap, Opener, Order, Place, Source, slab_extent,
    slab_range,
};
use lacus_core::{Error, Kind, Result};
use netcdf_reader::NcFormat;
use netcdf_reader::classic::data::compute_record_stride;
use netcdf_reader::classic::header::{ClassicHeader, parse_header};
use netcdf_reader::types::{NcAttrValue, NcAttribute, NcType, NcVariable};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub(crate) use write::ClassicWriter;

/// Headers longer than this are refused: real ones are kilobytes.
const LONGEST_HEADER: u64 = 256 * 1024 * 1024;
/// The record count of a file that was never closed.
const STREAMING: [u8; 4] = [0xFF; 4];

/// Opens NetCDF classic files.
#[derive(Debug)]
pub(crate) struct ClassicOpener;

#[async_trait]
impl Opener for ClassicOpener {
    fn recognises(&self, head: &[u8]) -> bool {
        version(head).is_some()
    }

    async fn open(&self, source: &Source) -> Result<Arc<dyn GridStore>> {
        let Some(format) = version(&source.head) else { return Err(Error::new(Kind::CorruptData, "this is no NetCDF classic file")) };
        let (header, streaming) = header(source, format).await?;
        Ok(Arc::new(ClassicStore::new(&header, streaming, source)?))
    }
}

fn version(head: &[u8]) -> Option<NcFormat> {
    match head.strip_prefix(b"CDF")?.first()? {
        1 => Some(NcFormat::Classic),
        2 => Some(NcFormat::Offset64),
        5 => Some(NcFormat::Cdf5),
        _ => None,
    }
}

/// The header, of which the first bytes may be only a part: more are fetched until it can be read.
async fn header(source: &Source, format: NcFormat) -> Result<(ClassicHeader, bool)> {
    let mut bytes = source.head.clone();
    loop {
        let parsed = parse_header(&bytes, format);
        let read = bytes.len() as u64;
        match parsed {
            Ok(header) => return Ok((header, format != NcFormat::Cdf5 && bytes.get(4..8) == Some(&STREAMING))),
            Err(error) if read >= source.object.size.min(LONGEST_HEADER) => {
                return Err(Error::new(Kind::CorruptData, format!("the header can't be read: {error}")));
            }
            Err(_) => {
                let end = (read.max(1024) * 8).min(source.object.size).min(LONGEST_HEADER);
                bytes = source.store.get_range(&source.object.location, 0..end).await?;
                if bytes.len() as u64 <= read {
                    return Err(Error::new(Kind::CorruptData, "the file ends within its header"));
                }
            }
        }
    }
}

/// Where a variable's bytes lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    begin: u64,
    /// Bytes from one record to the next; `None` for a variable without records.
    stride: Option<u64>,
}

#[derive(Debug)]
struct ClassicStore {
    object: Path,
    container: Container,
    layouts: Vec<Layout>,
}

impl ClassicStore {
    fn new(header: &ClassicHeader, streaming: bool, source: &Source) -> Result<Self> {
        let corrupt = |error: netcdf_reader::Error| Error::new(Kind::CorruptData, error.to_string());
        let stride = compute_record_stride(&header.variables).map_err(corrupt)?;
        let records = if streaming {
            let first = header.variables.iter().filter(|variable| variable.is_record_var).map(|variable| variable.data_offset).min();
            first.map_or(0, |first| source.object.size.saturating_sub(first) / stride.max(1))
        } else {
            header.numrecs
        };
        let arrays = header.variables.iter().map(|variable| array(variable, records)).collect::<Result<Vec<_>>>()?;
        let layout = |variable: &NcVariable| Layout { begin: variable.data_offset, stride: variable.is_record_var.then_some(stride) };
        let layouts = header.variables.iter().map(layout).collect();
        let groups = vec![Group { path: String::new(), attributes: attributes(&header.global_attributes) }];
        Ok(Self { object: source.object.location.clone(), container: Container { groups, arrays }, layouts })
    }

    /// The byte ranges of one chunk.
    fn ranges(&self, array: usize, chunk: &[u64]) -> Vec<Range<u64>> {
        let (meta, layout) = (&self.container.arrays[array], &self.layouts[array]);
        let width = meta.element.width() as u64;
        let Some(stride) = layout.stride else {
            let (start, cells) = slab_range(&meta.shape, &meta.chunk, chunk);
            let start = layout.begin.saturating_add(start.saturating_mul(width));
            return std::iter::once(start..start.saturating_add(cells.saturating_mul(width))).collect();
        };
        let first = chunk[0] * meta.chunk[0];
        let last = (first + meta.chunk[0]).min(meta.shape[0]);
        let (start, cells) = slab_range(&meta.shape[1..], &meta.chunk[1..], &chunk[1..]);
        let range = |record: u64| {
            let start = layout.begin.saturating_add(record.saturating_mul(stride)).saturating_add(start.saturating_mul(width));
            start..start.saturating_add(cells.saturating_mul(width))
        };
        (first..last).map(range).collect()
    }
}

#[async_trait]
impl GridStore for ClassicStore {
    fn container(&self) -> &Container {
        &self.container
    }

    async fn locate(&self, array: usize, chunks: &[Vec<u64>], _: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        let place = |chunk: &Vec<u64>| Place::Ranges { object: self.object.clone(), ranges: self.ranges(array, chunk), flags: 0 };
        Ok(chunks.iter().map(place).collect())
    }

    async fn decode(&self, array: usize, chunk: &[u64], bytes: Bytes, _: u32, _: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
        let meta = &self.container.arrays[array];
        let expected: u64 = self.ranges(array, chunk).iter().map(|range| range.end - range.start).sum();
        if bytes.len() as u64 != expected {
            return Err(Error::new(Kind::CorruptData, format!("{} bytes where {expected} were expected", bytes.len())));
        }
        let whole = usize::try_from(meta.chunk_bytes()).map_err(|_| Error::new(Kind::CorruptData, "a chunk larger than memory"))?;
        let mut bytes = Vec::from(bytes);
        // Beyond the last row nothing is stored.
        bytes.resize(whole, 0);
        meta.element.decode(bytes, &NoHeap)
    }
}

fn array(variable: &NcVariable, records: u64) -> Result<ArrayMeta> {
    let mut shape: Vec<u64> = variable.dimensions.iter().map(|dimension| dimension.size).collect();
    let element = element(&variable.dtype)?;
    let chunk = if variable.is_record_var {
        shape[0] = records;
        let mut chunk = slab_extent(&shape, element.width());
        if chunk[0] > 1 {
            // Records of several variables lie between one another: a chunk is as many records as make a slab, one range each.
            chunk[0] = chunk[0].min(shape[0].max(1));
        }
        chunk
    } else {
        slab_extent(&shape, element.width())
    };
    let dimension = |dimension: &netcdf_reader::types::NcDimension| Dimension {
        name: dimension.name.clone(),
        key: dimension.name.clone(),
        named: true,
    };
    Ok(ArrayMeta {
        group: String::new(),
        name: variable.name.clone(),
        element,
        shape,
        dimensions: variable.dimensions.iter().map(dimension).collect(),
        chunk,
        codecs: Ok(Vec::new()),
        fill: None,
        missing: Missing::NetcdfDefaults,
        attributes: attributes(&variable.attributes),
        problem: None,
        only_dimension: false,
    })
}

fn element(nc_type: &NcType) -> Result<Element> {
    let integer = |bytes, signed| Element::Integer { bytes, signed, order: Order::Big };
    Ok(match nc_type {
        NcType::Byte => integer(1, true),
        NcType::UByte => integer(1, false),
        NcType::Short => integer(2, true),
        NcType::UShort => integer(2, false),
        NcType::Int => integer(4, true),
        NcType::UInt => integer(4, false),
        NcType::Int64 => integer(8, true),
        NcType::UInt64 => integer(8, false),
        NcType::Float => Element::Float { bytes: 4, order: Order::Big },
        NcType::Double => Element::Float { bytes: 8, order: Order::Big },
        NcType::Char => Element::Char,
        other => return Err(Error::new(Kind::CorruptData, format!("a classic file can't hold {other:?}"))),
    })
}

fn attributes(stored: &[NcAttribute]) -> Attributes {
    let mut attributes = Attributes::new();
    for NcAttribute { name, value } in stored {
        let value: ArrayRef = match value {
            NcAttrValue::Bytes(values) => Arc::new(Int8Array::from(values.clone())),
            NcAttrValue::Shorts(values) => Arc::new(Int16Array::from(values.clone())),
            NcAttrValue::Ints(values) => Arc::new(Int32Array::from(values.clone())),
            NcAttrValue::Floats(values) => Arc::new(Float32Array::from(values.clone())),
            NcAttrValue::Doubles(values) => Arc::new(Float64Array::from(values.clone())),
            NcAttrValue::UBytes(values) => Arc::new(UInt8Array::from(values.clone())),
            NcAttrValue::UShorts(values) => Arc::new(UInt16Array::from(values.clone())),
            NcAttrValue::UInts(values) => Arc::new(UInt32Array::from(values.clone())),
            NcAttrValue::Int64s(values) => Arc::new(Int64Array::from(values.clone())),
            NcAttrValue::UInt64s(values) => Arc::new(UInt64Array::from(values.clone())),
            NcAttrValue::Chars(text) => Arc::new(StringArray::from(vec![text.as_str()])),
            NcAttrValue::Strings(texts) => Arc::new(StringArray::from(texts.clone())),
            other => Arc::new(StringArray::from(vec![format!("{other:?}")])),
        };
        attributes.push(name, value);
    }
    attributes
}

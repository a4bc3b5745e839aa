//! NetCDF classic, written: with 64-bit offsets (CDF-2), or as 64-bit data (CDF-5) when a type or a size needs it.
//!
//! The header comes first and says where each variable begins, so its size is needed before its content is known: all fields that may
//! change have a fixed width. There are no records, so the data of each variable is one piece.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use bytes::Bytes;
use lacus_array::{Attributes, GridLayout, GridValues, GridWriter, Order, Variable, number_bytes};
use lacus_core::{Error, Kind, Result};
use lacus_storage::Writing;

/// Bytes of a part of an upload: S3 wants at least 5 MiB.
const PART: u64 = 8 * 1024 * 1024;
/// Parts of an upload: S3 takes at most 10,000.
const MOST_PARTS: u64 = 9000;
/// Cells whose bytes are made at once.
const CELLS: usize = 1024 * 1024;
/// The largest variable of CDF-2.
const LARGEST: u64 = (1 << 32) - 4;
const TAG_DIMENSIONS: u32 = 10;
const TAG_VARIABLES: u32 = 11;
const TAG_ATTRIBUTES: u32 = 12;

/// Writes NetCDF classic files.
#[derive(Debug)]
pub(crate) struct ClassicWriter;

#[async_trait]
impl GridWriter for ClassicWriter {
    fn name(&self) -> &'static str {
        "netcdf"
    }

    fn ending(&self) -> &'static str {
        ".nc"
    }

    async fn write(&self, layout: &GridLayout, values: &mut dyn GridValues, writing: &mut Writing) -> Result<()> {
        let file = File::new(layout)?;
        let mut bytes = file.header()?;
        let size = file.size(bytes.len() as u64);
        let part = PART.max(size.div_ceil(MOST_PARTS)) as usize;
        for (index, stored) in file.stored.iter().enumerate() {
            let array = values.values(index)?;
            for start in (0..array.len()).step_by(CELLS) {
                append(&mut bytes, &array.slice(start, CELLS.min(array.len() - start)), stored)?;
                while bytes.len() >= part && size > part as u64 {
                    let rest = bytes.split_off(part);
                    writing.part(Bytes::from(std::mem::replace(&mut bytes, rest))).await?;
                }
            }
            bytes.resize(bytes.len() + stored.padding(), 0);
        }
        if size <= part as u64 {
            let target = writing.target().clone();
            return writing.put(target, move || Ok(Bytes::from(bytes))).await;
        }
        if bytes.is_empty() { Ok(()) } else { writing.part(Bytes::from(bytes)).await }
    }
}

/// The structure of a file.
struct File<'a> {
    dimensions: Vec<(String, u64)>,
    attributes: &'a Attributes,
    stored: Vec<Stored>,
    /// Whether it is CDF-5, whose counts have 64 bits.
    wide: bool,
}

/// One variable as it is stored.
struct Stored {
    name: String,
    dimensions: Vec<usize>,
    attributes: Attributes,
    kind: Type,
    /// The length of its texts.
    length: usize,
    bytes: u64,
}

/// An external type: its number, its width, and whether only CDF-5 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Type {
    number: u32,
    width: u64,
    wide: bool,
}

impl Type {
    fn of(data_type: &DataType) -> Result<Self> {
        let (number, width, wide) = match data_type {
            DataType::Int8 | DataType::Boolean => (1, 1, false),
            DataType::Utf8 | DataType::LargeUtf8 => (2, 1, false),
            DataType::Int16 => (3, 2, false),
            DataType::Int32 => (4, 4, false),
            DataType::Float32 => (5, 4, false),
            DataType::Float64 => (6, 8, false),
            DataType::UInt8 => (7, 1, true),
            DataType::UInt16 => (8, 2, true),
            DataType::UInt32 => (9, 4, true),
            DataType::Int64 => (10, 8, true),
            DataType::UInt64 => (11, 8, true),
            other => return Err(Error::new(Kind::Unsupported, format!("NetCDF has no type for {other}"))),
        };
        Ok(Self { number, width, wide })
    }
}

impl Stored {
    fn padding(&self) -> usize {
        (self.bytes.next_multiple_of(4) - self.bytes) as usize
    }
}

impl<'a> File<'a> {
    fn new(layout: &'a GridLayout) -> Result<Self> {
        let mut dimensions = layout.dimensions.clone();
        let mut stored = Vec::new();
        for variable in &layout.variables {
            let mut of = variable.axes.clone();
            let length = variable.longest.max(1);
            if variable.data_type == DataType::LargeUtf8 {
                of.push(text_dimension(&mut dimensions, length, layout));
            }
            let kind = Type::of(&variable.data_type)?;
            let cells = of.iter().fold(1, |product: u64, axis| product.saturating_mul(dimensions[*axis].1));
            let bytes = cells.saturating_mul(kind.width);
            stored.push(Stored { name: variable.name.clone(), dimensions: of, attributes: attributes(variable), kind, length, bytes });
        }
        let is_wide = |attributes: &Attributes| attributes.iter().any(|(_, value)| Type::of(value.data_type()).is_ok_and(|kind| kind.wide));
        let wide = stored.iter().any(|stored| stored.kind.wide || stored.bytes > LARGEST || is_wide(&stored.attributes))
            || dimensions.iter().any(|(_, extent)| i32::try_from(*extent).is_err());
        Ok(Self { dimensions, attributes: &layout.attributes, stored, wide })
    }

    /// The whole file in bytes.
    fn size(&self, header: u64) -> u64 {
        self.stored.iter().fold(header, |end, stored| end + stored.bytes.next_multiple_of(4))
    }

    fn header(&self) -> Result<Vec<u8>> {
        // Where variables begin has a fixed width, so the first header has the size of the second.
        let size = self.header_of(0)?.len() as u64;
        self.header_of(size)
    }

    fn header_of(&self, data: u64) -> Result<Vec<u8>> {
        let mut header = Header { bytes: b"CDF".to_vec(), wide: self.wide };
        header.bytes.push(if self.wide { 5 } else { 2 });
        // No records.
        header.count(0);
        header.list(TAG_DIMENSIONS, self.dimensions.len());
        for (name, extent) in &self.dimensions {
            header.name(name);
            header.count(*extent);
        }
        header.attributes(self.attributes)?;
        header.list(TAG_VARIABLES, self.stored.len());
        let mut begin = data;
        for stored in &self.stored {
            header.name(&stored.name);
            header.count(stored.dimensions.len() as u64);
            stored.dimensions.iter().for_each(|dimension| header.count(*dimension as u64));
            header.attributes(&stored.attributes)?;
            header.word(stored.kind.number);
            header.count(stored.bytes.next_multiple_of(4));
            header.bytes.extend_from_slice(&begin.to_be_bytes());
            begin += stored.bytes.next_multiple_of(4);
        }
        Ok(header.bytes)
    }
}

/// The dimension that is the length of texts. Texts of one length share it; no other array may have it.
fn text_dimension(dimensions: &mut Vec<(String, u64)>, length: usize, layout: &GridLayout) -> usize {
    let mut name = format!("string{length}");
    while layout.dimensions.iter().any(|(taken, _)| *taken == name) {
        name.push('_');
    }
    let found = dimensions.iter().position(|(known, _)| *known == name);
    found.unwrap_or_else(|| {
        dimensions.push((name, length as u64));
        dimensions.len() - 1
    })
}

/// The attributes, with what xarray needs to know of types that NetCDF lacks.
fn attributes(variable: &Variable) -> Attributes {
    let mut attributes = variable.attributes.clone();
    match variable.data_type {
        DataType::Boolean => attributes.push_text("dtype", "bool"),
        DataType::LargeUtf8 => attributes.push_text("_Encoding", "utf-8"),
        _ => {}
    }
    attributes
}

struct Header {
    bytes: Vec<u8>,
    wide: bool,
}

impl Header {
    fn word(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// A number that is never negative: 32 bits, in CDF-5 64.
    fn count(&mut self, count: u64) {
        match (self.wide, u32::try_from(count)) {
            (false, Ok(count)) => self.word(count),
            // Only the size of a variable could be larger, which then makes the file a wide one.
            (false, Err(_)) => self.word(u32::MAX),
            (true, _) => self.bytes.extend_from_slice(&count.to_be_bytes()),
        }
    }

    fn list(&mut self, tag: u32, items: usize) {
        self.word(if items == 0 { 0 } else { tag });
        self.count(items as u64);
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn name(&mut self, name: &str) {
        self.count(name.len() as u64);
        self.bytes.extend_from_slice(name.as_bytes());
        self.pad();
    }

    fn attributes(&mut self, attributes: &Attributes) -> Result<()> {
        self.list(TAG_ATTRIBUTES, attributes.iter().count());
        for (name, value) in attributes.iter() {
            self.name(name);
            let kind = Type::of(value.data_type())?;
            let bytes = match value.as_any().downcast_ref::<StringArray>() {
                Some(texts) => texts.iter().flatten().collect::<Vec<_>>().join(" ").into_bytes(),
                None => number_bytes(value, Order::Big)?,
            };
            self.word(kind.number);
            self.count(bytes.len() as u64 / kind.width);
            self.bytes.extend_from_slice(&bytes);
            self.pad();
        }
        Ok(())
    }
}

fn append(bytes: &mut Vec<u8>, values: &ArrayRef, stored: &Stored) -> Result<()> {
    let Some(texts) = values.as_string_opt::<i64>() else {
        bytes.extend_from_slice(&number_bytes(&Arc::clone(values), Order::Big)?);
        return Ok(());
    };
    for text in texts.iter().map(Option::unwrap_or_default) {
        let end = bytes.len() + stored.length;
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(end, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int64Array};
    use netcdf_reader::NcFormat;
    use netcdf_reader::classic::header::parse_header;

    fn header_of(wide: bool) -> Result<Vec<u8>> {
        let mut own = Attributes::new();
        own.push_text("units", "K");
        own.push("_FillValue", Arc::new(Float32Array::from(vec![f32::NAN])));
        if wide {
            own.push("flag_values", Arc::new(Int64Array::from(vec![1, 2])));
        }
        let mut of_file = Attributes::new();
        of_file.push_text("title", "é");
        let float = Type::of(&DataType::Float32)?;
        let stored = |name: &str, dimensions: Vec<usize>, attributes: Attributes, bytes| Stored {
            name: name.to_owned(),
            dimensions,
            attributes,
            kind: float,
            length: 1,
            bytes,
        };
        let stored = vec![stored("x", vec![0], Attributes::new(), 12), stored("temperature", vec![1, 0], own, 24)];
        let dimensions = vec![("x".to_owned(), 3), ("y".to_owned(), 2)];
        File { dimensions, attributes: &of_file, stored, wide }.header()
    }

    #[test]
    fn headers_are_read_by_the_reader() -> Result<()> {
        for (wide, format) in [(false, NcFormat::Offset64), (true, NcFormat::Cdf5)] {
            let bytes = header_of(wide)?;
            let header = parse_header(&bytes, format).map_err(|error| Error::new(Kind::CorruptData, error.to_string()))?;
            assert_eq!(header.global_attributes.len(), 1);
            let variable = &header.variables[1];
            assert_eq!((variable.name.as_str(), variable.dimensions.len(), variable.is_record_var), ("temperature", 2, false));
            assert_eq!(variable.attributes.len(), if wide { 3 } else { 2 });
            assert_eq!(header.variables[0].data_offset, bytes.len() as u64);
            assert_eq!(variable.data_offset, bytes.len() as u64 + 12);
        }
        Ok(())
    }
}

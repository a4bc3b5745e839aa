//! The structures of an index: what the files that hold the same arrays have in common, as rows of Parquet.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Builder,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::writer_properties;
use crate::container::{ArrayMeta, Attributes, Container, Group};
use crate::mapping::{Mapping, MappingOptions, map};

/// The attribute of groups on which tables depend; the others belong to the file.
const COORDINATES: &str = "coordinates";

/// What files that hold the same arrays have in common.
#[derive(Debug)]
pub(crate) struct Structure {
    pub(crate) container: Container,
    mappings: Mutex<HashMap<MappingOptions, Arc<Mapping>>>,
}

impl Structure {
    /// The tables of these files; all of them share one mapping.
    pub(crate) fn mapping(&self, options: &MappingOptions) -> Arc<Mapping> {
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mappings.entry(options.clone()).or_insert_with(|| Arc::new(map(&self.container, options))))
    }

    /// Whether `container` has the arrays that this structure tells.
    pub(crate) fn fits(&self, container: &Container) -> bool {
        let same = |(known, found): (&ArrayMeta, &ArrayMeta)| {
            known.name == found.name && known.group == found.group && known.element == found.element && known.shape == found.shape
        };
        self.container.arrays.len() == container.arrays.len() && self.container.arrays.iter().zip(&container.arrays).all(same)
    }
}

/// Structures as they are found, each once.
#[derive(Debug, Default)]
pub(super) struct Collected {
    rows: Vec<Row>,
    numbers: HashMap<u128, i32>,
}

/// One array of a structure, or one group, which has no name.
#[derive(Debug, Clone)]
struct Row {
    structure: i32,
    group: String,
    array: Option<ArrayMeta>,
    attributes: Vec<u8>,
}

impl Collected {
    /// The number of the structure of a container.
    pub(super) fn number(&mut self, container: &Container) -> Result<i32> {
        let mut rows = Vec::with_capacity(container.groups.len() + container.arrays.len());
        let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
        1u8.hash(&mut hashers[1]);
        for group in &container.groups {
            let mut kept = Attributes::new();
            if let Some(value) = group.attributes.get(COORDINATES) {
                kept.push(COORDINATES, Arc::clone(value));
            }
            rows.push(Row { structure: 0, group: group.path.clone(), array: None, attributes: encode_attributes(&kept)? });
        }
        for array in &container.arrays {
            let attributes = encode_attributes(&array.attributes)?;
            rows.push(Row { structure: 0, group: array.group.clone(), array: Some(array.clone()), attributes });
        }
        for row in &rows {
            let text = row.array.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
            hashers.iter_mut().for_each(|hasher| (&row.group, &text, &row.attributes).hash(hasher));
        }
        let key = u128::from(hashers[0].finish()) << 64 | u128::from(hashers[1].finish());
        let next = i32::try_from(self.numbers.len()).map_err(|_| Error::new(Kind::LimitExceeded, "too many structures"))?;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.rows.extend(rows.into_iter().map(|row| Row { structure: number, ..row }));
        }
        Ok(number)
    }

    /// The name and the bytes of the file that holds all structures. Equal structures have an equal name.
    pub(super) fn encode(&self) -> Result<(String, Vec<u8>)> {
        let batch = self.batch()?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(writer_properties(Vec::new())))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok((named_by_content("structures", &bytes), bytes))
    }

    fn batch(&self) -> Result<RecordBatch> {
        let rows = &self.rows;
        let text = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
        let of_array = |of: fn(&ArrayMeta) -> String| move |row: &Row| row.array.as_ref().map(of);
        let attribute =
            |name: &'static str| move |row: &Row| row.array.as_ref().and_then(|array| array.attributes.text(name).map(str::to_owned));
        let number = |name: &'static str| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.array.as_ref()?.attributes.number(name)).collect::<Float64Array>())
        };
        let extents = |of: fn(&ArrayMeta) -> &[u64]| -> ArrayRef {
            let mut builder = ListBuilder::new(UInt64Builder::new());
            for row in rows {
                builder.values().append_slice(row.array.as_ref().map_or(&[], of));
                builder.append(row.array.is_some());
            }
            Arc::new(builder.finish())
        };
        let mut dimensions = ListBuilder::new(StringBuilder::new());
        for row in rows {
            row.array.iter().flat_map(|array| &array.dimensions).for_each(|dimension| dimensions.values().append_value(&dimension.name));
            dimensions.append(row.array.is_some());
        }
        let metas = rows.iter().map(|row| row.array.as_ref().map(serde_json::to_string).transpose().map_err(unwritable));
        let metas: StringArray = metas.collect::<Result<Vec<_>>>()?.into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("structure", Arc::new(rows.iter().map(|row| Some(row.structure)).collect::<Int32Array>())),
            ("group", text(&|row| Some(row.group.clone()))),
            ("name", text(&of_array(|array| array.name.clone()))),
            ("type", text(&of_array(|array| array.element.data_type().to_string()))),
            ("dimensions", Arc::new(dimensions.finish())),
            ("shape", extents(|array| &array.shape)),
            ("chunk", extents(|array| &array.chunk)),
            ("units", text(&attribute("units"))),
            ("calendar", text(&attribute("calendar"))),
            ("scale_factor", number("scale_factor")),
            ("add_offset", number("add_offset")),
            ("array", Arc::new(metas)),
            ("attributes", Arc::new(rows.iter().map(|row| Some(row.attributes.as_slice())).collect::<BinaryArray>())),
        ];
        let nullable = |name: &str| !matches!(name, "structure" | "group" | "attributes");
        let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), nullable(name)));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect())?)
    }
}

/// A name that only these bytes have: a reader never meets half of one table and half of another.
pub(super) fn named_by_content(table: &str, bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{table}-{:016x}.parquet", hasher.finish())
}

/// The structures of the bytes of their file, by number.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<Arc<Structure>>> {
    let mut containers: BTreeMap<i32, Container> = BTreeMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| Error::new(Kind::CorruptData, format!("no column `{name}`")));
        let numbers = column("structure")?.as_primitive::<Int32Type>().clone();
        let groups = column("group")?.as_string::<i32>().clone();
        let metas = column("array")?.as_string::<i32>().clone();
        let attributes = column("attributes")?.as_binary::<i32>().clone();
        for row in 0..batch.num_rows() {
            let container = containers.entry(numbers.value(row)).or_default();
            let attributes = decode_attributes(attributes.value(row))?;
            if metas.is_null(row) {
                container.groups.push(Group { path: groups.value(row).to_owned(), attributes });
                continue;
            }
            let meta: ArrayMeta = serde_json::from_str(metas.value(row)).map_err(unwritable)?;
            container.arrays.push(ArrayMeta { attributes, ..meta });
        }
    }
    let dense = containers.keys().copied().eq(0..i32::try_from(containers.len()).unwrap_or(i32::MAX));
    if !dense {
        return Err(Error::new(Kind::CorruptData, "the numbers of the structures have gaps"));
    }
    Ok(containers.into_values().map(|container| Arc::new(Structure { container, mappings: Mutex::default() })).collect())
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(Kind::CorruptData, format!("the description of an array: {error}"))
}

/// Attributes as an Arrow stream of one row, a list a name: every type keeps its values to the last bit.
fn encode_attributes(attributes: &Attributes) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let values: Vec<(&str, &ArrayRef)> = attributes.iter().collect();
    if values.is_empty() {
        return Ok(bytes);
    }
    let list = |value: &ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new("item", value.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([value.len()]);
        Arc::new(arrow::array::ListArray::new(field, offsets, Arc::clone(value), None))
    };
    let columns: Vec<ArrayRef> = values.iter().map(|(_, value)| list(value)).collect();
    let fields = values.iter().zip(&columns).map(|((name, _), column)| Field::new(*name, column.data_type().clone(), false));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn decode_attributes(bytes: &[u8]) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    if bytes.is_empty() {
        return Ok(attributes);
    }
    for batch in StreamReader::try_new(bytes, None)? {
        let batch = batch?;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            attributes.push(field.name().clone(), column.as_list::<i32>().value(0));
        }
    }
    Ok(attributes)
}

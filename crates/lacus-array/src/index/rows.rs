//! The rows of an index: one for each file, as Parquet.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array, new_empty_array, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimestampNanosecondType, UInt64Type};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{Bounds, CHUNKS_KEY, FORM, FORM_KEY, GroupAttributes, Index, LOCATION_KEY, STRUCTURES_KEY, Tables, structures};

/// Rows that are read at once: of most indices all, so that nothing is held twice while parts are joined.
const BATCH_ROWS: usize = 4 << 20;

/// What `files.parquet` is read with.
type Reader = ParquetRecordBatchReaderBuilder<Bytes>;

/// What the index says of one file.
#[derive(Debug, Clone)]
pub(super) struct FileRow {
    pub(super) object: ObjectMeta,
    pub(super) structure: i32,
    /// The attributes of its groups, as JSON: group, name, type and value of each.
    pub(super) attributes: String,
    /// The bounds of its coordinates, by the path of the array: two values of one type.
    pub(super) bounds: BTreeMap<String, ArrayRef>,
}

pub(crate) fn writer_properties(metadata: Vec<(&str, String)>) -> WriterProperties {
    let pairs = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    let compression = Compression::ZSTD(ZstdLevel::default());
    WriterProperties::builder().set_compression(compression).set_key_value_metadata(Some(pairs)).build()
}

/// The bytes of `files.parquet`.
pub(super) fn encode(rows: &[FileRow], tables: &Tables, location: &str) -> Result<Vec<u8>> {
    let batch = batch(rows)?;
    let mut bytes = Vec::new();
    let properties = writer_properties(vec![
        (FORM_KEY, FORM.to_owned()),
        (STRUCTURES_KEY, tables.structures.clone()),
        (CHUNKS_KEY, tables.chunks.clone()),
        (LOCATION_KEY, location.to_owned()),
    ]);
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn batch(rows: &[FileRow]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&FileRow) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let modified = rows.iter().map(|row| row.object.last_modified.timestamp_nanos_opt());
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("file".into(), text(&|row| Some(row.object.location.to_string()))),
        ("size".into(), Arc::new(rows.iter().map(|row| Some(row.object.size)).collect::<UInt64Array>())),
        ("last_modified".into(), Arc::new(modified.collect::<TimestampNanosecondArray>().with_timezone("UTC"))),
        ("e_tag".into(), text(&|row| row.object.e_tag.clone())),
        ("version".into(), text(&|row| row.object.version.clone())),
        ("structure".into(), Arc::new(rows.iter().map(|row| Some(row.structure)).collect::<Int32Array>())),
        ("attributes".into(), text(&|row| Some(row.attributes.clone()))),
    ];
    let mut kinds: Vec<(&str, &DataType)> =
        rows.iter().flat_map(|row| row.bounds.iter().map(|(array, values)| (array.as_str(), values.data_type()))).collect();
    kinds.sort_by_key(|(array, data_type)| (*array, data_type.to_string()));
    kinds.dedup();
    for (array, data_type) in kinds {
        let unknown = new_null_array(data_type, 1);
        for (place, what) in ["min", "max"].into_iter().enumerate() {
            let of = |row: &FileRow| match row.bounds.get(array).filter(|values| values.data_type() == data_type) {
                Some(values) => values.slice(place, 1),
                None => Arc::clone(&unknown),
            };
            let values: Vec<ArrayRef> = rows.iter().map(of).collect();
            let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
            columns.push((format!("{what}({array}) {data_type}"), concat(&values)?));
        }
    }
    let required = ["file", "size", "structure"];
    let fields = columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), !required.contains(&name.as_str())));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect())?)
}

/// The names of the tables that belong to `files.parquet`; `None` when its form is another.
pub(super) fn tables_of(files: &Bytes) -> Result<Option<Tables>> {
    let builder = Reader::try_new(files.clone())?;
    let said = |key| said(&builder, key);
    let names = said(STRUCTURES_KEY).zip(said(CHUNKS_KEY)).filter(|_| said(FORM_KEY).as_deref() == Some(FORM));
    Ok(names.map(|(structures, chunks)| Tables { structures, chunks }))
}

/// What the metadata of `files.parquet` says.
fn said(builder: &Reader, key: &str) -> Option<String> {
    let pairs = builder.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.clone()
}

fn batches(builder: Reader, wanted: impl Fn(&str) -> bool) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let builder = builder.with_batch_size(BATCH_ROWS);
    let fields = builder.schema().fields().iter().enumerate();
    let places: Vec<usize> = fields.filter(|(_, field)| wanted(field.name())).map(|(place, _)| place).collect();
    let mask = parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), places);
    let reader = builder.with_projection(mask).build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    Ok((schema, reader.collect::<std::result::Result<_, _>>()?))
}

fn missing(name: &str) -> Error {
    Error::new(Kind::CorruptData, format!("no column `{name}`"))
}

/// The files of an index, by their versions, and the number of the structure of each.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) paths: StringArray,
    sizes: UInt64Array,
    modified: TimestampNanosecondArray,
    tags: StringArray,
    pub(super) structures: Int32Array,
}

impl Files {
    fn of(whole: impl Fn(&str) -> Result<ArrayRef>, structures: usize) -> Result<Self> {
        let text = |name: &str| whole(name)?.as_string_opt::<i32>().cloned().ok_or_else(|| missing(name));
        let structures_of = whole("structure")?;
        let numbers = structures_of.as_primitive_opt::<Int32Type>().cloned().ok_or_else(|| missing("structure"))?;
        if let Some(number) = numbers.values().iter().find(|number| !usize::try_from(**number).is_ok_and(|number| number < structures)) {
            return Err(Error::new(Kind::CorruptData, format!("there is no structure {number}")));
        }
        if u32::try_from(numbers.len()).is_err() {
            return Err(Error::new(Kind::LimitExceeded, "more files than an index can hold"));
        }
        let modified = whole("last_modified")?;
        let modified = modified.as_primitive_opt::<TimestampNanosecondType>();
        Ok(Self {
            paths: text("file")?,
            sizes: whole("size")?.as_primitive_opt::<UInt64Type>().cloned().ok_or_else(|| missing("size"))?,
            modified: modified.cloned().ok_or_else(|| missing("last_modified"))?,
            tags: text("e_tag")?,
            structures: numbers,
        })
    }

    /// The file of a row.
    pub(super) fn object(&self, row: usize) -> Result<ObjectMeta> {
        let location = Path::parse(self.paths.value(row)).map_err(|error| Error::new(Kind::CorruptData, error.to_string()))?;
        let last_modified = self.modified.value_as_datetime(row).map(|time| time.and_utc()).unwrap_or_default();
        let e_tag = self.tags.is_valid(row).then(|| self.tags.value(row).to_owned());
        Ok(ObjectMeta { location, last_modified, size: self.sizes.value(row), e_tag, version: None })
    }
}

/// The index of the bytes of `files.parquet` and of the structures that belong to it.
pub(super) fn index(files: Bytes, structures: Bytes) -> Result<Index> {
    let structures = structures::decode(structures)?;
    let builder = Reader::try_new(files)?;
    let location = said(&builder, LOCATION_KEY);
    let (schema, batches) = batches(builder, |name| name != "attributes" && name != "version")?;
    let whole = |name: &str| -> Result<Option<ArrayRef>> {
        let Ok(field) = schema.field_with_name(name) else { return Ok(None) };
        let parts: Vec<&dyn Array> = batches.iter().filter_map(|batch| Some(batch.column_by_name(name)?.as_ref())).collect();
        Ok(Some(if parts.is_empty() { new_empty_array(field.data_type()) } else { concat(&parts)? }))
    };
    let files = Files::of(|name| whole(name)?.ok_or_else(|| missing(name)), structures.len())?;
    let mut bounds = Vec::new();
    for field in schema.fields() {
        let Some((array, data_type)) = field.name().strip_prefix("min(").and_then(|rest| rest.rsplit_once(") ")) else { continue };
        if let (Some(low), Some(high)) = (whole(field.name())?, whole(&format!("max({array}) {data_type}"))?) {
            bounds.push(Bounds { array: array.to_owned(), low, high });
        }
    }
    Ok(Index { structures, location, version: String::new(), files, bounds, rows: OnceLock::new() })
}

/// What each file of `index` has in the column of attributes; `None` when the rows are those of another index.
fn attributes_of(files: Bytes, index: &Index) -> Result<Option<StringArray>> {
    let (_, batches) = batches(Reader::try_new(files)?, |name| ["file", "attributes"].contains(&name))?;
    let mut row = 0;
    let mut parts = Vec::with_capacity(batches.len());
    for batch in &batches {
        let text = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| missing(name));
        let paths = text("file")?;
        if row + paths.len() > index.len() || index.files.paths.slice(row, paths.len()) != *paths {
            return Ok(None);
        }
        row += paths.len();
        parts.push(text("attributes")?);
    }
    if row != index.len() {
        return Ok(None);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(|part| *part as &dyn Array).collect();
    Ok(Some(if parts.is_empty() { StringArray::new_null(0) } else { concat(&parts)?.as_string::<i32>().clone() }))
}

/// The attributes of the groups of each file of `index`; `None` when the rows are those of another index.
pub(super) fn attributes(files: Bytes, index: &Index) -> Result<Option<Vec<GroupAttributes>>> {
    let Some(texts) = attributes_of(files, index)? else { return Ok(None) };
    let read = |text: Option<&str>| {
        let read = serde_json::from_str(text.unwrap_or("[]"));
        read.map_err(|error| Error::new(Kind::CorruptData, format!("the attributes of a file: {error}")))
    };
    texts.iter().map(read).collect::<Result<_>>().map(Some)
}

/// Everything that an index says of its files, to write it again.
pub(super) fn decode(files: Bytes, index: &Index) -> Result<Vec<FileRow>> {
    let texts = attributes_of(files, index)?.ok_or_else(|| Error::new(Kind::CorruptData, "the rows are those of another index"))?;
    let row = |row: usize| {
        let known = index.bounds.iter().filter(|bounds| bounds.low.is_valid(row) && bounds.high.is_valid(row));
        let bounds = known.map(|bounds| {
            let pair = concat(&[bounds.low.slice(row, 1).as_ref(), bounds.high.slice(row, 1).as_ref()])?;
            Ok((bounds.array.clone(), pair))
        });
        let (object, structure) = (index.files.object(row)?, index.files.structures.value(row));
        Ok(FileRow { object, structure, attributes: texts.value(row).to_owned(), bounds: bounds.collect::<Result<_>>()? })
    };
    (0..index.len()).map(row).collect()
}

//! The rows of an index: one for each file, as Parquet.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array, new_null_array};
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

use super::{Bounds, FORM, FORM_KEY, GroupAttributes, Index, STRUCTURES_KEY, fingerprint, structures};

/// The columns of which every index has one.
const PLAIN: [&str; 6] = ["file", "size", "last_modified", "e_tag", "structure", "attributes"];
/// Rows that are read at once.
const BATCH_ROWS: usize = 64 * 1024;

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

pub(super) fn writer_properties(metadata: Vec<(&str, String)>) -> WriterProperties {
    let pairs = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    let compression = Compression::ZSTD(ZstdLevel::default());
    WriterProperties::builder().set_compression(compression).set_key_value_metadata(Some(pairs)).build()
}

/// The bytes of `files.parquet`.
pub(super) fn encode(rows: &[FileRow], structures: &str) -> Result<Vec<u8>> {
    let batch = batch(rows)?;
    let mut bytes = Vec::new();
    let properties = writer_properties(vec![(FORM_KEY, FORM.to_owned()), (STRUCTURES_KEY, structures.to_owned())]);
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

/// The name of the file of structures that belongs to `files.parquet`; `None` when its form is another.
pub(super) fn structures_of(files: &Bytes) -> Result<Option<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(files.clone())?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let value = |key: &str| pairs?.iter().find(|pair| pair.key == key)?.value.clone();
    Ok(value(STRUCTURES_KEY).filter(|_| value(FORM_KEY).as_deref() == Some(FORM)))
}

fn batches(files: Bytes, wanted: impl Fn(&str) -> bool) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(files)?.with_batch_size(BATCH_ROWS);
    let fields = builder.schema().fields().iter().enumerate();
    let places: Vec<usize> = fields.filter(|(_, field)| wanted(field.name())).map(|(place, _)| place).collect();
    let mask = parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), places);
    let reader = builder.with_projection(mask).build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    Ok((schema, reader.collect::<std::result::Result<_, _>>()?))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::new(Kind::CorruptData, format!("no column `{name}`")))
}

/// The files of a batch, by their versions.
fn objects(batch: &RecordBatch) -> Result<Vec<ObjectMeta>> {
    let files = column(batch, "file")?.as_string::<i32>();
    let sizes = column(batch, "size")?.as_primitive::<UInt64Type>();
    let modified = column(batch, "last_modified")?.as_primitive::<TimestampNanosecondType>();
    let tags = column(batch, "e_tag")?.as_string::<i32>();
    let object = |row: usize| {
        let location = Path::parse(files.value(row)).map_err(|error| Error::new(Kind::CorruptData, error.to_string()))?;
        let time = modified.value_as_datetime(row).map(|time| time.and_utc()).unwrap_or_default();
        let e_tag = tags.is_valid(row).then(|| tags.value(row).to_owned());
        Ok(ObjectMeta { location, last_modified: time, size: sizes.value(row), e_tag, version: None })
    };
    (0..batch.num_rows()).map(object).collect()
}

/// The index of the bytes of `files.parquet` and of the structures that belong to it.
pub(super) fn index(files: Bytes, structures: Bytes) -> Result<Index> {
    let structures = structures::decode(structures)?;
    let (schema, batches) = batches(files, |name| name != "attributes" && name != "version")?;
    let mut found = HashMap::with_capacity_and_hasher(batches.iter().map(RecordBatch::num_rows).sum(), BuildHasherDefault::default());
    for batch in &batches {
        let numbers = column(batch, "structure")?.as_primitive::<Int32Type>();
        for (object, structure) in objects(batch)?.iter().zip(numbers.values()) {
            let number = u32::try_from(*structure).ok().filter(|number| (*number as usize) < structures.len());
            let number = number.ok_or_else(|| Error::new(Kind::CorruptData, format!("there is no structure {structure}")))?;
            let row = u32::try_from(found.len()).map_err(|_| Error::new(Kind::LimitExceeded, "more files than an index can hold"))?;
            found.insert(fingerprint(object), (number, row));
        }
    }
    let whole = |name: &str| -> Result<Option<ArrayRef>> {
        let parts: Vec<&dyn Array> = batches.iter().filter_map(|batch| Some(batch.column_by_name(name)?.as_ref())).collect();
        Ok(if parts.is_empty() { None } else { Some(concat(&parts)?) })
    };
    let mut bounds = Vec::new();
    for field in schema.fields() {
        let Some((array, data_type)) = field.name().strip_prefix("min(").and_then(|rest| rest.rsplit_once(") ")) else { continue };
        if let (Some(low), Some(high)) = (whole(field.name())?, whole(&format!("max({array}) {data_type}"))?) {
            bounds.push(Bounds { array: array.to_owned(), low, high });
        }
    }
    Ok(Index { structures, files: found, bounds })
}

/// The attributes of the groups of each file of `index`; `None` when the rows are those of another index.
pub(super) fn attributes(files: Bytes, index: &Index) -> Result<Option<Vec<GroupAttributes>>> {
    let (_, batches) = batches(files, |name| PLAIN.contains(&name))?;
    let mut all = Vec::new();
    for batch in &batches {
        for (object, text) in objects(batch)?.iter().zip(column(batch, "attributes")?.as_string::<i32>()) {
            if index.find(object).is_none_or(|(_, row)| row as usize != all.len()) {
                return Ok(None);
            }
            let read = serde_json::from_str(text.unwrap_or("[]"));
            all.push(read.map_err(|error| Error::new(Kind::CorruptData, format!("the attributes of a file: {error}")))?);
        }
    }
    Ok(Some(all).filter(|all| all.len() == index.len()))
}

/// Everything that an index says of its files, to write it again; bounds are those of [`Index`].
pub(super) fn decode(files: Bytes, index: &Index) -> Result<Vec<FileRow>> {
    let (_, batches) = batches(files, |name| PLAIN.contains(&name))?;
    let mut rows = Vec::new();
    for batch in &batches {
        let numbers = column(batch, "structure")?.as_primitive::<Int32Type>();
        let attributes = column(batch, "attributes")?.as_string::<i32>();
        for (place, object) in objects(batch)?.into_iter().enumerate() {
            let row = rows.len();
            let known = index.bounds.iter().filter(|bounds| bounds.low.is_valid(row) && bounds.high.is_valid(row));
            let bounds = known.map(|bounds| {
                let pair = concat(&[bounds.low.slice(row, 1).as_ref(), bounds.high.slice(row, 1).as_ref()])?;
                Ok((bounds.array.clone(), pair))
            });
            let bounds = bounds.collect::<Result<_>>()?;
            rows.push(FileRow { object, structure: numbers.value(place), attributes: attributes.value(place).to_owned(), bounds });
        }
    }
    Ok(rows)
}

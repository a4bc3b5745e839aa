//! References as files: one of JSON, or a folder of Parquet that is read as far as needed.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lacus_core::{Error, Kind, Result};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{ArrayReferences, Reference, References, key};

/// References in one file of the Parquet form.
const RECORDS: usize = 100_000;

/// All references as one document.
pub(crate) fn json(references: &References) -> Result<Vec<u8>> {
    let mut refs = serde_json::Map::new();
    refs.insert(".zmetadata".to_owned(), Value::String(consolidated(references, "")));
    for (key, document) in &references.documents {
        refs.insert(key.clone(), Value::String(document.clone()));
    }
    for ArrayReferences { path, counts, chunks } in &references.arrays {
        for (number, chunk) in chunks.iter().enumerate() {
            let value = match chunk {
                None => continue,
                Some(Reference::Range { url, offset, length }) => json!([url.as_ref(), offset, length]),
                Some(Reference::Inline(bytes)) => Value::String(format!("base64:{}", STANDARD.encode(bytes))),
            };
            refs.insert(format!("{path}/{}", key(number as u64, counts)), value);
        }
    }
    serde_json::to_vec(&json!({"version": 1, "refs": refs})).map_err(|error| Error::new(Kind::Internal, error.to_string()))
}

/// All documents in one, with `more` members.
fn consolidated(references: &References, more: &str) -> String {
    let members: Vec<String> =
        references.documents.iter().map(|(key, document)| format!("{}:{document}", Value::String(key.clone()))).collect();
    format!("{{\"zarr_consolidated_format\":1,{more}\"metadata\":{{{}}}}}", members.join(","))
}

/// All references as the files of a folder: the documents, and the chunks of each array in files of equally many.
pub(crate) fn parquet(references: &References) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![(".zmetadata".to_owned(), consolidated(references, &format!("\"record_size\":{RECORDS},")).into_bytes())];
    for array in &references.arrays {
        for (number, chunks) in array.chunks.chunks(RECORDS).enumerate() {
            files.push((format!("{}/refs.{number}.parq", array.path), records(chunks)?));
        }
    }
    Ok(files)
}

fn records(chunks: &[Option<Reference>]) -> Result<Vec<u8>> {
    let (mut path, mut offset, mut size, mut raw) = (StringBuilder::new(), Int64Builder::new(), Int64Builder::new(), BinaryBuilder::new());
    let whole = |number: u64| i64::try_from(number).map_err(|_| Error::new(Kind::LimitExceeded, "a chunk lies too far back in its file"));
    for chunk in chunks {
        let (url, at, length, bytes) = match chunk {
            None => (None, 0, 0, None),
            Some(Reference::Range { url, offset, length }) => (Some(url.as_ref()), whole(*offset)?, whole(*length)?, None),
            Some(Reference::Inline(bytes)) => (None, 0, 0, Some(bytes)),
        };
        path.append_option(url);
        offset.append_value(at);
        size.append_value(length);
        raw.append_option(bytes);
    }
    let fields = [
        ("path", DataType::Utf8, true),
        ("offset", DataType::Int64, false),
        ("size", DataType::Int64, false),
        ("raw", DataType::Binary, true),
    ];
    let schema = Arc::new(Schema::new(fields.map(|(name, kind, nullable)| Field::new(name, kind, nullable)).to_vec()));
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(path.finish()), Arc::new(offset.finish()), Arc::new(size.finish()), Arc::new(raw.finish())];
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(crate::index::writer_properties(Vec::new())))?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.close()?;
    Ok(bytes)
}

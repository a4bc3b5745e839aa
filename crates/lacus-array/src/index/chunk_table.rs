//! The chunk table of an index: where the bytes of each chunk of each file lie, as Parquet that anyone can read.
//!
//! A chunk that was never written has no row; one that is stored in several pieces, as records of NetCDF are, has a row for each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, RecordBatch, StringDictionaryBuilder, UInt32Builder, UInt64Builder,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::writer_properties;
use super::structures::named_by_content;
use crate::chunks::{ChunkReader, Opened};
use crate::format::Place;

/// Chunks whose places are asked for at once.
const BLOCK: u64 = 1 << 16;

/// A file with an array of more chunks is not indexed.
const MOST_CHUNKS: u64 = 100_000_000;

/// Where one piece of a chunk lies.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The number of the chunk in C order.
    pub(crate) chunk: u64,
    /// Where its bytes begin in the file.
    pub(crate) offset: u64,
    /// How many they are.
    pub(crate) length: u64,
    /// The filters that were left out, a bit each.
    pub(crate) mask: u32,
    /// The bytes themselves, when they are part of the metadata.
    pub(crate) inline: Option<Bytes>,
}

fn schema() -> SchemaRef {
    let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("file", name(), false),
        Field::new("array", name(), false),
        Field::new("chunk", DataType::UInt64, false),
        Field::new("part", DataType::UInt32, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("length", DataType::UInt64, false),
        Field::new("filter_mask", DataType::UInt32, false),
        Field::new("inline", DataType::Binary, true),
    ]))
}

/// The rows of a container that is one file.
///
/// # Errors
/// What reading its chunk indices says.
pub(crate) async fn chunk_rows(opened: &Opened, reader: &ChunkReader) -> Result<RecordBatch> {
    let mut files = StringDictionaryBuilder::<Int32Type>::new();
    let mut arrays = StringDictionaryBuilder::<Int32Type>::new();
    let (mut chunk, mut part, mut offset) = (UInt64Builder::new(), UInt32Builder::new(), UInt64Builder::new());
    let (mut length, mut mask, mut inline) = (UInt64Builder::new(), UInt32Builder::new(), BinaryBuilder::new());
    for (number, meta) in opened.store.container().arrays.iter().enumerate() {
        if meta.refused().is_some() || meta.only_dimension {
            continue;
        }
        let counts = meta.chunk_counts();
        let all = counts.iter().fold(1, |product: u64, count| product.saturating_mul(*count));
        if all > MOST_CHUNKS {
            let error = Error::new(Kind::LimitExceeded, format!("{all} chunks are more than an index can hold"));
            return Err(opened.name(error, number));
        }
        let mut next = 0;
        while next < all {
            let block: Vec<u64> = (next..all.min(next.saturating_add(BLOCK))).collect();
            let places: Vec<Vec<u64>> = block.iter().map(|chunk| place_of(*chunk, &counts)).collect();
            let found = opened.store.locate(number, &places, &reader.bytes).await.map_err(|error| opened.name(error, number))?;
            next += block.len() as u64;
            for (number, place) in block.into_iter().zip(found) {
                let (ranges, flags, bytes) = match place {
                    Place::Missing | Place::Object(_) => continue,
                    Place::Inline(bytes) => (std::iter::once(0..bytes.len() as u64).collect(), 0, Some(bytes)),
                    Place::Ranges { ranges, flags, .. } => (ranges, flags, None),
                };
                for (place, range) in ranges.into_iter().enumerate() {
                    files.append_value(&opened.object.location);
                    arrays.append_value(meta.path());
                    chunk.append_value(number);
                    part.append_value(place as u32);
                    offset.append_value(range.start);
                    length.append_value(range.end - range.start);
                    mask.append_value(flags);
                    inline.append_option(bytes.as_ref());
                }
            }
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(files.finish()),
        Arc::new(arrays.finish()),
        Arc::new(chunk.finish()),
        Arc::new(part.finish()),
        Arc::new(offset.finish()),
        Arc::new(length.finish()),
        Arc::new(mask.finish()),
        Arc::new(inline.finish()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The place of a chunk along each dimension.
pub(crate) fn place_of(number: u64, counts: &[u64]) -> Vec<u64> {
    let mut rest = number;
    let mut place: Vec<u64> = counts
        .iter()
        .rev()
        .map(|count| {
            let at = rest % (*count).max(1);
            rest /= (*count).max(1);
            at
        })
        .collect();
    place.reverse();
    place
}

/// The name and the bytes of the table: what `before` says of files in `kept`, and the rows that are new.
pub(super) fn encode(before: Option<Bytes>, kept: &HashSet<&str>, added: &[RecordBatch]) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema(), Some(writer_properties(Vec::new())))?;
    for batch in before.into_iter().map(read).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let files = text(&batch, "file")?;
        let of_kept: BooleanArray = files.as_string::<i32>().iter().map(|file| file.map(|file| kept.contains(file))).collect();
        writer.write(&filter_record_batch(&batch, &of_kept)?)?;
    }
    for batch in added {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok((named_by_content("chunks", &bytes), bytes))
}

fn read(bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(1 << 16).build()?;
    Ok(reader.collect::<std::result::Result<_, _>>()?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::new(Kind::CorruptData, format!("no column `{name}`")))
}

fn text(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    Ok(cast(column(batch, name)?, &DataType::Utf8)?)
}

/// The pieces of each array of each file, in the order of their chunks.
pub(crate) type Pieces = BTreeMap<String, BTreeMap<String, Vec<Piece>>>;

/// The rows of the bytes of the table.
pub(super) fn decode(bytes: Bytes) -> Result<Pieces> {
    let mut pieces = Pieces::new();
    for batch in read(bytes)? {
        let (files, arrays) = (text(&batch, "file")?, text(&batch, "array")?);
        let long = |name: &str| Ok::<_, Error>(column(&batch, name)?.as_primitive_opt::<UInt64Type>().cloned());
        let absent = || Error::new(Kind::CorruptData, "a column has another type");
        let (chunk, offset) = (long("chunk")?.ok_or_else(absent)?, long("offset")?.ok_or_else(absent)?);
        let length = long("length")?.ok_or_else(absent)?;
        let mask = column(&batch, "filter_mask")?.as_primitive_opt::<UInt32Type>().ok_or_else(absent)?;
        let inline = column(&batch, "inline")?.as_binary_opt::<i32>().ok_or_else(absent)?;
        for row in 0..batch.num_rows() {
            let (file, array) = (files.as_string::<i32>().value(row), arrays.as_string::<i32>().value(row));
            let of_file = match pieces.get_mut(file) {
                Some(of_file) => of_file,
                None => pieces.entry(file.to_owned()).or_default(),
            };
            let of_array = match of_file.get_mut(array) {
                Some(of_array) => of_array,
                None => of_file.entry(array.to_owned()).or_default(),
            };
            of_array.push(Piece {
                chunk: chunk.value(row),
                offset: offset.value(row),
                length: length.value(row),
                mask: mask.value(row),
                inline: inline.is_valid(row).then(|| Bytes::copy_from_slice(inline.value(row))),
            });
        }
    }
    Ok(pieces)
}

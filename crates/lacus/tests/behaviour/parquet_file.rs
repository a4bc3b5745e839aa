//! Parquet files for tests.

use std::sync::Arc;

use lacus::arrow::array::{Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// A file with a column `n` of `count` numbers from `first`, and `filler` bytes of text that does not compress in each row.
pub(crate) fn numbers(first: i64, count: i64, filler: usize) -> lacus::Result<Vec<u8>> {
    let text = |row: i64| (0..filler).map(|place| char::from(b'a' + (noise(row, place) % 26) as u8)).collect::<String>();
    let numbers: Int64Array = (first..first + count).collect();
    let texts: StringArray = (first..first + count).map(|row| Some(text(row))).collect();
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("text", Arc::new(texts) as _)])?;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn noise(row: i64, place: usize) -> u64 {
    let mixed = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (place as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33
}

/// A file with one column `x`.
pub(crate) fn column(values: lacus::arrow::array::ArrayRef) -> lacus::Result<Vec<u8>> {
    let batch = RecordBatch::try_from_iter_with_nullable([("x", values, true)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

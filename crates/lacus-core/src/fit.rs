//! Rows in the columns of the table that takes them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, SchemaRef};
use datafusion_common::arrow::array::{Array as _, ArrayRef, AsArray, RecordBatch, new_null_array};
use datafusion_common::arrow::compute::{CastOptions, cast_with_options};

use crate::metadata::text_length;
use crate::{Error, Kind, Result};

/// A column in the type of `field`: a value that doesn't fit is an error, not a NULL; and so is NULL where none may be, also one that only
/// a dictionary knows of.
fn fit_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let column = if column.data_type() == field.data_type() {
        Arc::clone(column)
    } else if column.data_type().is_null() {
        new_null_array(field.data_type(), column.len())
    } else {
        let exact = CastOptions { safe: false, ..CastOptions::default() };
        let wrong = |error| Error::new(Kind::InvalidQuery, format!("a value doesn't fit the column: {error}")).with("column", field.name());
        cast_with_options(column, field.data_type(), &exact).map_err(wrong)?
    };
    check_length(&column, field)?;
    if !field.is_nullable() && column.logical_null_count() > 0 {
        return Err(Error::new(Kind::InvalidQuery, "NULL in a column that is NOT NULL").with("column", field.name()));
    }
    Ok(column)
}

/// Refuses texts that are longer than their column takes; spaces at their ends count.
fn check_length(column: &ArrayRef, field: &Field) -> Result<()> {
    let Some((word, most)) = text_length(field) else { return Ok(()) };
    let texts: Box<dyn Iterator<Item = Option<&str>>> = match column.data_type() {
        DataType::Utf8 => Box::new(column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(column.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(column.as_string_view().iter()),
        _ => return Ok(()),
    };
    // A text has no more characters than bytes, which take no time to count.
    let is_long = |text: &&str| text.len() as u64 > most && text.chars().count() as u64 > most;
    match texts.flatten().find(is_long) {
        None => Ok(()),
        Some(text) => {
            let message = format!("a text of {} characters in a column of type {word}({most})", text.chars().count());
            Err(Error::new(Kind::InvalidQuery, message).with("column", field.name()).hint(format!("left(x, {most}) cuts a text off")))
        }
    }
}

/// The columns of `schema`, in the order of those of the batch, and fitted.
///
/// # Errors
/// `InvalidQuery` for a value that doesn't fit its column, which it names, and for another number of columns.
pub fn fit_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let message = format!("{} columns were given, and the table has {}", batch.num_columns(), schema.fields().len());
        return Err(Error::new(Kind::InvalidQuery, message));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| fit_column(column, field));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// The columns of `schema`, found by name and fitted; one that the batch lacks is NULL, and one that the schema lacks is left out.
///
/// # Errors
/// `InvalidQuery` for a value that doesn't fit its column, which it names.
pub fn fit_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let missing = new_null_array(&DataType::Null, batch.num_rows());
    let columns = schema.fields().iter().map(|field| fit_column(batch.column_by_name(field.name()).unwrap_or(&missing), field));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

//! Rows in the columns of the table that takes them.

use std::sync::Arc;

use arrow_schema::{Field, SchemaRef};
use datafusion_common::arrow::array::{Array as _, ArrayRef, RecordBatch, new_null_array};
use datafusion_common::arrow::compute::{CastOptions, cast_with_options};

use crate::{Error, Kind, Result};

/// A column in the type of `field`: a value that doesn't fit is an error, not a NULL.
///
/// # Errors
/// `InvalidQuery` for such a value; it names the column.
pub fn fit_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    if column.data_type().is_null() {
        return Ok(new_null_array(field.data_type(), column.len()));
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &exact)
        .map_err(|error| Error::new(Kind::InvalidQuery, format!("a value doesn't fit the column: {error}")).with("column", field.name()))
}

/// Refuses NULL in a column that takes none, also one that only a dictionary knows of.
fn checked(column: ArrayRef, field: &Field) -> Result<ArrayRef> {
    if !field.is_nullable() && column.logical_null_count() > 0 {
        return Err(Error::new(Kind::InvalidQuery, "NULL in a column that is NOT NULL").with("column", field.name()));
    }
    Ok(column)
}

/// The columns of `schema`, in the order of those of the batch, and fitted.
///
/// # Errors
/// As [`fit_column`]; `InvalidQuery` for another number of columns.
pub fn fit_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let message = format!("{} columns were given, and the table has {}", batch.num_columns(), schema.fields().len());
        return Err(Error::new(Kind::InvalidQuery, message));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| checked(fit_column(column, field)?, field));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// The columns of `schema`, found by name and fitted; one that the batch lacks is NULL, and one that the schema lacks is left out.
///
/// # Errors
/// As [`fit_column`].
pub fn fit_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => checked(fit_column(column, field)?, field),
        None => checked(new_null_array(field.data_type(), batch.num_rows()), field),
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

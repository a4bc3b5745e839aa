//! The Arrow C data interface: the only place of this crate with unsafe code, because the interface is a C structure behind a pointer.
#![expect(unsafe_code, reason = "the Arrow C data interface hands structures over by pointer")]

use std::ffi::CStr;
use std::ptr::NonNull;

use lacus::arrow::array::{Array, RecordBatch, RecordBatchReader, StructArray};
use lacus::arrow::datatypes::{Schema, SchemaRef};
use lacus::arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use lacus::arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use lacus::{Error, Kind};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::OrRaise;

const STREAM: &CStr = c"arrow_array_stream";
const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";

/// A reader as the capsule that `__arrow_c_stream__` returns.
pub(crate) fn stream<'py>(py: Python<'py>, reader: Box<dyn RecordBatchReader + Send>) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

/// A schema as the capsule that `__arrow_c_schema__` returns.
pub(crate) fn schema<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    let exported = FFI_ArrowSchema::try_from(schema).map_err(Error::from).or_raise(py)?;
    PyCapsule::new_with_value(py, exported, SCHEMA)
}

/// A batch as the two capsules that `__arrow_c_array__` returns.
pub(crate) fn array<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let columns = StructArray::from(batch.clone());
    let (array, _): (FFI_ArrowArray, FFI_ArrowSchema) = to_ffi(&columns.to_data()).map_err(Error::from).or_raise(py)?;
    Ok((schema(py, batch.schema_ref())?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

/// The batches of any object that has `__arrow_c_stream__`: a pyarrow, pandas or polars table, a DuckDB result, another result.
pub(crate) fn read(data: &Bound<'_, PyAny>) -> PyResult<(SchemaRef, Vec<RecordBatch>)> {
    let py = data.py();
    let method = data.getattr("__arrow_c_stream__").map_err(|_| {
        let kind = data.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "`{kind}` holds no Arrow data: give an object with `__arrow_c_stream__`, such as a pyarrow, pandas or polars table"
        ))
    })?;
    let capsule = method.call0()?;
    let capsule = capsule.cast::<PyCapsule>()?;
    let pointer: NonNull<FFI_ArrowArrayStream> = capsule.pointer_checked(Some(STREAM))?.cast();
    // SAFETY: the capsule is named `arrow_array_stream`, so by the interface it points to a valid stream structure that nobody else
    // consumes; `from_raw` moves the structure out and marks the original as released.
    let reader = unsafe { ArrowArrayStreamReader::from_raw(pointer.as_ptr()) }.map_err(Error::from).or_raise(py)?;
    let schema = reader.schema();
    // The producer may need the interpreter on another thread.
    let batches = py.detach(|| reader.collect::<Result<Vec<_>, _>>());
    let batches = batches.map_err(|error| Error::new(Kind::InvalidQuery, error.to_string())).or_raise(py)?;
    Ok((schema, batches))
}

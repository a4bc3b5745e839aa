//! The Arrow C data interface: the only place of this crate with unsafe code, because the interface is a C structure behind a pointer.
#![expect(unsafe_code, reason = "the Arrow C data interface hands structures over by pointer")]

use std::ffi::CStr;
use std::ptr::NonNull;

use lacus::arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, RecordBatchReader, StructArray, make_array};
use lacus::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use lacus::arrow::compute::concat_batches;
use lacus::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lacus::arrow::error::ArrowError;
use lacus::arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
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

/// A type as the capsule that `__arrow_c_schema__` returns.
pub(crate) fn data_type<'py>(py: Python<'py>, data_type: &DataType) -> PyResult<Bound<'py, PyCapsule>> {
    let exported = FFI_ArrowSchema::try_from(data_type).map_err(Error::from).or_raise(py)?;
    PyCapsule::new_with_value(py, exported, SCHEMA)
}

/// A batch as the two capsules that `__arrow_c_array__` returns.
pub(crate) fn batch<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let columns = StructArray::from(batch.clone());
    Ok((schema(py, batch.schema_ref())?, data(py, &columns)?))
}

/// An array as the two capsules that `__arrow_c_array__` returns.
pub(crate) fn array<'py>(py: Python<'py>, array: &ArrayRef) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    Ok((data_type(py, array.data_type())?, data(py, array)?))
}

fn data<'py>(py: Python<'py>, array: &dyn Array) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArray::new(&array.to_data()), ARRAY)
}

/// The field or type of any object that has `__arrow_c_schema__`; `None` for objects that have not.
pub(crate) fn read_field(object: &Bound<'_, PyAny>) -> PyResult<Option<Field>> {
    let py = object.py();
    if !object.hasattr("__arrow_c_schema__")? {
        return Ok(None);
    }
    let capsule = object.call_method0("__arrow_c_schema__")?;
    let pointer: NonNull<FFI_ArrowSchema> = capsule.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?.cast();
    // SAFETY: the capsule is named `arrow_schema`, so by the interface it points to a valid schema for as long as the capsule lives.
    let field = Field::try_from(unsafe { pointer.as_ref() }).map_err(Error::from).or_raise(py)?;
    Ok(Some(field))
}

/// The values of an object that has `__arrow_c_array__`, or of the only column of a frame that has `__arrow_c_stream__`. They are copied:
/// memory of Python can't be given back without the interpreter, for which no thread of the engine should have to wait.
pub(crate) fn read_values(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    if object.hasattr("__arrow_c_array__")? {
        return read_array(object);
    }
    let py = object.py();
    let (schema, batches) = read(object)?;
    let columns = concat_batches(&schema, &batches).and_then(|frame| copy(&frame.column(0).to_data()));
    Ok(make_array(columns.map_err(Error::from).or_raise(py)?))
}

/// The values of an object that has `__arrow_c_array__`, copied.
pub(crate) fn read_array(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let py = object.py();
    let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = object.call_method0("__arrow_c_array__")?.extract()?;
    let schema: NonNull<FFI_ArrowSchema> = schema.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?.cast();
    let array: NonNull<FFI_ArrowArray> = array.cast::<PyCapsule>()?.pointer_checked(Some(ARRAY))?.cast();
    // SAFETY: the capsules are named `arrow_schema` and `arrow_array`, so by the interface they point to valid structures that belong
    // together and that nobody else consumes; `from_raw` moves the array out and marks the original as released.
    let imported = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) };
    let copied = imported.and_then(|data| copy(&data)).map_err(|error| Error::new(Kind::InvalidQuery, error.to_string()));
    Ok(make_array(copied.or_raise(py)?))
}

/// The same values in memory of our own, looked through for what Arrow does not allow.
fn copy(data: &ArrayData) -> Result<ArrayData, ArrowError> {
    let copied = |buffer: &Buffer| Buffer::from_slice_ref(buffer.as_slice());
    let nulls = data.nulls().map(|nulls| NullBuffer::new(BooleanBuffer::new(copied(nulls.buffer()), nulls.offset(), nulls.len())));
    let children = data.child_data().iter().map(copy).collect::<Result<_, _>>()?;
    let builder = ArrayData::builder(data.data_type().clone()).len(data.len()).offset(data.offset()).nulls(nulls);
    builder.buffers(data.buffers().iter().map(copied).collect()).child_data(children).build()
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

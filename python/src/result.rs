use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use lacus::arrow::array::{AsArray, RecordBatch, RecordBatchIterator, RecordBatchReader};
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::{DataType, SchemaRef};
use lacus::arrow::error::ArrowError;
use lacus::arrow::util::pretty::pretty_format_batches;
use lacus::{Error, Provenance, ProvenanceRecord, Query, QueryProgress, ScalarValue, notices_of};
use lacus_remote::{RemoteProvenance, RemoteQuery};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};

use crate::batch::Batch;
use crate::calls::is_calling;
use crate::capsule;
use crate::error::OrRaise;
use crate::lake::Door;
use crate::rows;
use crate::runtime::{Ended, runtime, wait, wait_and_say, watched};

type Batches = BoxStream<'static, lacus::Result<RecordBatch>>;

/// The result of a query: planned, and run when it is read. Reading it again asks again.
#[pyclass(frozen, module = "lacus")]
pub(crate) struct Result {
    door: Door,
    text: String,
    parameters: Vec<ScalarValue>,
    schema: SchemaRef,
    /// The plan that the first reading runs.
    planned: Mutex<Option<Planned>>,
    /// What a command gave: it has run, and reading it again must not run it again.
    kept: Option<Vec<RecordBatch>>,
    /// What the last reading was computed from.
    told: Mutex<Option<Told>>,
}

/// What an answer was computed from, from either door.
enum Told {
    Here(Provenance),
    There(RemoteProvenance),
}

impl Told {
    fn record(&self) -> Option<ProvenanceRecord> {
        match self {
            Self::Here(provenance) => provenance.record(),
            Self::There(provenance) => provenance.record(),
        }
    }
}

/// A planned query, from either door.
enum Planned {
    Here(Query),
    There(RemoteQuery),
}

impl Planned {
    async fn ask(door: &Door, text: &str, parameters: &[ScalarValue]) -> lacus::Result<Self> {
        match door {
            Door::Embedded(engine, session) => Ok(Self::Here(engine.query(text, parameters, session).await?)),
            Door::Remote(remote) => Ok(Self::There(remote.query(text, parameters).await?)),
        }
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Here(query) => query.schema(),
            Self::There(query) => query.schema(),
        }
    }

    fn told(&self) -> Told {
        match self {
            Self::Here(query) => Told::Here(query.provenance()),
            Self::There(query) => Told::There(query.provenance()),
        }
    }

    /// How far it is once it runs; a server does not say.
    fn progress(&self) -> Option<QueryProgress> {
        match self {
            Self::Here(query) => Some(query.progress()),
            Self::There(_) => None,
        }
    }

    /// Whether it has run already.
    fn has_run(&self) -> bool {
        match self {
            Self::Here(query) => query.is_command() || query.rows_written().is_some(),
            Self::There(query) => query.is_command(),
        }
    }

    fn stream(self) -> lacus::Result<Batches> {
        Ok(match self {
            Self::Here(query) if is_calling() => query.stream_within()?.boxed(),
            Self::Here(query) => query.stream()?.boxed(),
            Self::There(query) => query.stream()?.boxed(),
        })
    }
}

impl Result {
    /// Plans the query; a command has run when this returns.
    pub(crate) fn plan(py: Python<'_>, door: Door, text: String, parameters: Vec<ScalarValue>) -> PyResult<Self> {
        let planned = wait(py, Planned::ask(&door, &text, &parameters))?;
        for notice in notices_of(&planned.schema()) {
            let text = std::ffi::CString::new(notice).unwrap_or_default();
            PyErr::warn(py, &py.get_type::<pyo3::exceptions::PyUserWarning>(), &text, 1)?;
        }
        let schema = planned.schema();
        if !planned.has_run() {
            return Ok(Self { door, text, parameters, schema, planned: Mutex::new(Some(planned)), kept: None, told: Mutex::default() });
        }
        let told = Mutex::new(Some(planned.told()));
        let rows = wait(py, async move { planned.stream()?.try_collect().await })?;
        Ok(Self { door, text, parameters, schema, planned: Mutex::new(None), kept: Some(rows), told })
    }

    /// Starts a reading.
    fn start(&self, py: Python<'_>) -> PyResult<(SchemaRef, Batches, Option<QueryProgress>)> {
        if let Some(kept) = &self.kept {
            return Ok((Arc::clone(&self.schema), stream::iter(kept.clone().into_iter().map(Ok)).boxed(), None));
        }
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let planned = match planned {
            Some(planned) => planned,
            None => wait(py, Planned::ask(&self.door, &self.text, &self.parameters))?,
        };
        // The operators spawn their tasks when they start, so that must happen on the runtime.
        let _entered = runtime().or_raise(py)?.enter();
        // What is asked again may have another schema by now, and batches must leave under their own.
        let (schema, progress) = (planned.schema(), planned.progress());
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned.told());
        Ok((schema, planned.stream().or_raise(py)?, progress))
    }

    fn collect(&self, py: Python<'_>) -> PyResult<(SchemaRef, Vec<RecordBatch>)> {
        let (schema, batches, progress) = self.start(py)?;
        Ok((schema, wait_and_say(py, batches.try_collect(), progress)?))
    }

    fn collected_stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (schema, batches) = self.collect(py)?;
        let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
        Ok(Bound::new(py, Stream { reader: Mutex::new(Some(Box::new(reader))) })?.into_any())
    }

    /// The texts of the first column.
    pub(crate) fn first_column(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let mut texts = Vec::new();
        for batch in self.collect(py)?.1 {
            let column = cast(batch.column(0), &DataType::Utf8).map_err(Error::from).or_raise(py)?;
            texts.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        Ok(texts)
    }
}

#[pymethods]
impl Result {
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[getter]
    fn provenance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let record = self.told.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Told::record);
        let Some(record) = record else { return Ok(None) };
        let text = record.to_json().or_raise(py)?;
        py.import("json")?.call_method1("loads", (text,)).map(Some)
    }

    fn to_arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pyarrow = needed(py, "pyarrow", "to_arrow")?;
        pyarrow.call_method1("table", (self.collected_stream(py)?,))
    }

    fn to_pandas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        needed(py, "pandas", "to_pandas")?;
        self.to_arrow(py)?.call_method0("to_pandas")
    }

    fn to_polars<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let polars = needed(py, "polars", "to_polars")?;
        polars.call_method1("DataFrame", (self.collected_stream(py)?,))
    }

    fn fetchall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let fetched = PyList::empty(py);
        for batch in self.collect(py)?.1 {
            for row in rows::of(py, &batch)? {
                fetched.append(row)?;
            }
            py.check_signals()?;
        }
        Ok(fetched)
    }

    fn batches(&self, py: Python<'_>) -> PyResult<BatchIterator> {
        let (_, batches, progress) = self.start(py)?;
        Ok(BatchIterator { batches: tokio::sync::Mutex::new(batches), progress })
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<BatchIterator> {
        self.batches(py)
    }

    #[pyo3(signature = (rows=20))]
    fn show(&self, py: Python<'_>, rows: usize) -> PyResult<()> {
        let (schema, mut batches, progress) = self.start(py)?;
        let shown = async move {
            let (mut shown, mut count) = (Vec::new(), 0);
            while count <= rows
                && let Some(batch) = batches.try_next().await?
            {
                shown.push(batch.slice(0, batch.num_rows().min(rows - count.min(rows))));
                count += batch.num_rows();
            }
            Ok((shown, count > rows))
        };
        let (batches, more) = wait_and_say(py, shown, progress)?;
        let batches = if batches.is_empty() { vec![RecordBatch::new_empty(schema)] } else { batches };
        let table = pretty_format_batches(&batches).map_err(Error::from).or_raise(py)?.to_string();
        let note = if more { format!("\nonly the first {rows} rows are shown; show(rows=...) shows more") } else { String::new() };
        py.import("builtins")?.call_method1("print", (format!("{table}{note}"),))?;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        format!("<lacus.Result ({})>", columns.join(", "))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema(py, &self.schema)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer keep its own types, so a requested schema is a wish that is not met.
        drop(requested_schema);
        let (schema, batches, _) = self.start(py)?;
        capsule::stream(py, Box::new(BlockingReader { schema, batches }))
    }
}

fn needed<'py>(py: Python<'py>, module: &str, method: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(module).map_err(|error| {
        let message =
            format!("{method}() needs {module}: pip install {module}; or give the result to any library that reads __arrow_c_stream__");
        let raised = pyo3::exceptions::PyImportError::new_err(message);
        raised.set_cause(py, Some(error));
        raised
    })
}

/// A result on its way to an Arrow library: it waits for each batch where the library asks.
struct BlockingReader {
    schema: SchemaRef,
    batches: Batches,
}

impl Iterator for BlockingReader {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match watched(self.batches.try_next()) {
            Ok(batch) => batch.map(Ok),
            Err(Ended::Failed(error)) => Some(Err(ArrowError::ExternalError(Box::new(error)))),
            Err(Ended::Interrupted(error)) => Some(Err(ArrowError::ExternalError(Box::new(error)))),
        }
    }
}

impl RecordBatchReader for BlockingReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Batches that wait to be taken by an Arrow library.
#[pyclass(frozen, module = "lacus")]
pub(crate) struct Stream {
    reader: Mutex<Option<Box<dyn RecordBatchReader + Send>>>,
}

#[pymethods]
impl Stream {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        match reader {
            Some(reader) => capsule::stream(py, reader),
            None => Err(pyo3::exceptions::PyValueError::new_err("the stream was read already")),
        }
    }
}

/// The batches of one reading, one by one. Forgetting it cancels the query.
#[pyclass(frozen, module = "lacus")]
pub(crate) struct BatchIterator {
    batches: tokio::sync::Mutex<Batches>,
    progress: Option<QueryProgress>,
}

#[pymethods]
impl BatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let next = async { self.batches.lock().await.try_next().await };
        Ok(wait_and_say(py, next, self.progress.clone())?.map(|inner| Batch { inner }))
    }
}

use std::path::PathBuf;
use std::sync::Arc;

use lacus::datafusion::datasource::MemTable;
use lacus::{Engine, Error, Kind, ScalarValue};
use lacus_remote::Remote;
use pyo3::prelude::*;

use crate::error::OrRaise;
use crate::result::Result;
use crate::runtime::wait;
use crate::{capsule, value};

/// Opens the lake of a `lacus.toml`; see `lacus/_lacus.pyi`.
#[pyfunction]
#[pyo3(signature = (path=None))]
pub(crate) fn open(py: Python<'_>, path: Option<PathBuf>) -> PyResult<Lake> {
    let engine = py.detach(|| lacus::open(path.as_deref())).or_raise(py)?;
    Ok(Lake { door: Door::Embedded(engine) })
}

/// Connects to a Flight SQL server; see `lacus/_lacus.pyi`.
#[pyfunction]
pub(crate) fn connect(py: Python<'_>, uri: &str) -> PyResult<Lake> {
    let remote = wait(py, Remote::connect(uri))?;
    Ok(Lake { door: Door::Remote(remote) })
}

/// Where a lake answers.
#[derive(Clone)]
pub(crate) enum Door {
    /// In this process.
    Embedded(Engine),
    /// On a server.
    Remote(Remote),
}

/// A lake, embedded or remote: the same methods give the same answers.
#[pyclass(frozen, module = "lacus")]
pub(crate) struct Lake {
    door: Door,
}

#[pymethods]
impl Lake {
    #[pyo3(signature = (text, params=None))]
    fn sql(&self, py: Python<'_>, text: String, params: Option<&Bound<'_, PyAny>>) -> PyResult<Result> {
        let parameters: Vec<ScalarValue> = value::parameters(params)?;
        Result::plan(py, self.door.clone(), text, parameters)
    }

    fn register(&self, py: Python<'_>, name: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Door::Embedded(engine) = &self.door else {
            let error = Error::new(Kind::Unsupported, "a server keeps no tables of its clients");
            return Err(error.hint("open the lake with lacus.open() to join it with your own data")).or_raise(py);
        };
        let (schema, batches) = capsule::read(data)?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(Error::from).or_raise(py)?;
        engine.register(name, Arc::new(table)).or_raise(py)
    }

    fn tables(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let text = "SELECT CASE table_schema WHEN 'main' THEN table_name ELSE table_schema || '.' || table_name END AS name \
                    FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'system') ORDER BY name";
        Result::plan(py, self.door.clone(), text.to_owned(), Vec::new())?.first_column(py)
    }

    fn __repr__(&self) -> String {
        match &self.door {
            Door::Embedded(engine) => format!("<lacus.Lake `{}`>", engine.lake()),
            Door::Remote(remote) => format!("<lacus.Lake at {}>", remote.uri()),
        }
    }
}

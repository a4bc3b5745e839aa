use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lacus::datafusion::datasource::MemTable;
use lacus::datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use lacus::{Engine, Error, Function, Kind, Principal, ReferenceForm, Session};
use lacus_remote::Remote;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::aggregate::AggregateFunction;
use crate::error::OrRaise;
use crate::function::{Declaration, ScalarFunction, field};
use crate::result::Result;
use crate::runtime::wait;
use crate::{capsule, value};

/// The time from one word of progress to the next.
const SAYS: Duration = Duration::from_millis(100);

/// Opens the lake of a `lacus.toml`; see `lacus/_lacus.pyi`.
#[pyfunction]
#[pyo3(signature = (path=None, *, user=None, groups=Vec::new(), claims=BTreeMap::new()))]
pub(crate) fn open(
    py: Python<'_>,
    path: Option<PathBuf>,
    user: Option<&str>,
    groups: Vec<String>,
    claims: BTreeMap<String, String>,
) -> PyResult<Lake> {
    let principal = match user {
        Some("") => {
            let error = Error::new(Kind::InvalidConfiguration, "`user` is empty, and nobody has that name");
            return Err(error.hint("leave it out for the owner")).or_raise(py);
        }
        Some(user) => Principal::user(user).with_groups(groups).with_claims(claims),
        None if groups.is_empty() && claims.is_empty() => Principal::owner(),
        None => {
            let error = Error::new(Kind::InvalidConfiguration, "`groups` and `claims` are those of a user, and none is named");
            return Err(error.hint("give `user`, too")).or_raise(py);
        }
    };
    let engine = py.detach(|| lacus::open(path.as_deref())).or_raise(py)?;
    Ok(Lake { door: Door::Embedded(engine, Session::through("python", &principal, true)) })
}

/// Connects to a Flight SQL server; see `lacus/_lacus.pyi`.
#[pyfunction]
pub(crate) fn connect(py: Python<'_>, uri: &str) -> PyResult<Lake> {
    let remote = wait(py, Remote::connect(uri))?;
    Ok(Lake { door: Door::Remote(remote) })
}

/// Splits a script; see `lacus/_lacus.pyi`.
#[pyfunction]
pub(crate) fn split(py: Python<'_>, text: &str) -> PyResult<Vec<String>> {
    lacus::split(text).or_raise(py)
}

/// The names of the parameters of a text; see `lacus/_lacus.pyi`.
#[pyfunction]
pub(crate) fn parameter_names(py: Python<'_>, text: &str) -> PyResult<Vec<String>> {
    Ok(lacus::named_parameters(text).or_raise(py)?.1)
}

/// Where a lake answers.
#[derive(Clone)]
pub(crate) enum Door {
    /// In this process.
    Embedded(Engine, Session),
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
        let (text, parameters) = value::bound(py, text, params)?;
        Result::plan(py, self.door.clone(), text, parameters)
    }

    fn register(&self, py: Python<'_>, name: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Door::Embedded(engine, _) = &self.door else {
            let error = Error::new(Kind::Unsupported, "a server keeps no tables of its clients");
            return Err(error.hint("open the lake with lacus.open() to join it with your own data")).or_raise(py);
        };
        let (schema, batches) = capsule::read(data)?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(Error::from).or_raise(py)?;
        engine.register(name, Arc::new(table)).or_raise(py)
    }

    /// The native half of `register_function`: `pyarrow` is `pyarrow.array` where it is installed.
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the method in Python")]
    fn _register_function(
        &self,
        py: Python<'_>,
        name: String,
        function: Py<PyAny>,
        arguments: Vec<Bound<'_, PyAny>>,
        returns: &Bound<'_, PyAny>,
        volatility: &Bound<'_, PyString>,
        replace: bool,
        pyarrow: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let engine = self.taking_functions().or_raise(py)?;
        let declared = Declaration::new(engine, name, &arguments, returns, volatility)?;
        let function = Function::Scalar(ScalarUDF::from(ScalarFunction::new(declared, function, pyarrow)));
        register(py, engine, function, replace)
    }

    /// The native half of `register_aggregate`.
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the method in Python")]
    fn _register_aggregate(
        &self,
        py: Python<'_>,
        name: String,
        class: Py<PyAny>,
        arguments: Vec<Bound<'_, PyAny>>,
        returns: &Bound<'_, PyAny>,
        state: Vec<Bound<'_, PyAny>>,
        volatility: &Bound<'_, PyString>,
        replace: bool,
        pyarrow: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let engine = self.taking_functions().or_raise(py)?;
        let declared = Declaration::new(engine, name, &arguments, returns, volatility)?;
        let state = state.iter().map(|kind| Ok(field(engine, kind)?.data_type().clone())).collect::<PyResult<Vec<_>>>()?;
        let function = Function::Aggregate(AggregateUDF::from(AggregateFunction::new(declared, class, state, pyarrow)));
        register(py, engine, function, replace)
    }

    /// The native half of `build_index`: `progress` is called with the files that are done and all of them, some times a second.
    fn _build_index<'py>(&self, py: Python<'py>, dataset: &str, progress: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let Door::Embedded(engine, _) = &self.door else {
            let error = Error::new(Kind::Unsupported, "a server's indices are built where its lake file is");
            return Err(error.hint("run `lacus index build` there")).or_raise(py);
        };
        let (progress, said) = (progress.clone().unbind(), Mutex::new((None::<Instant>, None::<PyErr>)));
        let say = |done: u64, of: u64| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if done < of && said.0.is_some_and(|last| last.elapsed() < SAYS) {
                return;
            }
            said.0 = Some(Instant::now());
            let outcome = Python::attach(|py| progress.call1(py, (done, of)).map(drop));
            said.1 = said.1.take().or(outcome.err());
        };
        let status = wait(py, engine.build_index(dataset, &say))?;
        if let Some(error) = said.lock().unwrap_or_else(PoisonError::into_inner).1.take() {
            return Err(error);
        }
        let status = status.ok_or_else(|| no_index(dataset)).or_raise(py)?;
        let counts = PyDict::new(py);
        counts.set_item("files", status.files)?;
        counts.set_item("added", status.added().saturating_sub(status.failed.len() as u64))?;
        counts.set_item("changed", status.changed)?;
        counts.set_item("removed", status.removed)?;
        counts.set_item("failed", status.failed)?;
        counts.set_item("place", status.place)?;
        Ok(counts)
    }

    #[pyo3(signature = (dataset, to, *, along = None))]
    fn export_index<'py>(&self, py: Python<'py>, dataset: &str, to: PathBuf, along: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
        let Door::Embedded(engine, _) = &self.door else {
            let error = Error::new(Kind::Unsupported, "a server's indices are exported where its lake file is");
            return Err(error.hint("run `lacus index export` there")).or_raise(py);
        };
        let form = ReferenceForm::of(&to).or_raise(py)?;
        let exported = wait(py, engine.export_index(dataset, form, along))?.ok_or_else(|| no_index(dataset)).or_raise(py)?;
        exported.write(&to).or_raise(py)?;
        let counts = PyDict::new(py);
        counts.set_item("arrays", exported.arrays)?;
        counts.set_item("chunks", exported.chunks)?;
        counts.set_item("left_out", exported.left_out)?;
        Ok(counts)
    }

    fn tables(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let text = "SELECT CASE table_schema WHEN 'main' THEN table_name ELSE table_schema || '.' || table_name END AS name \
                    FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'system') ORDER BY name";
        Result::plan(py, self.door.clone(), text.to_owned(), Vec::new())?.first_column(py)
    }

    fn __repr__(&self) -> String {
        match &self.door {
            Door::Embedded(engine, _) => format!("<lacus.Lake `{}`>", engine.lake()),
            Door::Remote(remote) => format!("<lacus.Lake at {}>", remote.uri()),
        }
    }
}

impl Lake {
    /// The engine, where functions can be registered.
    fn taking_functions(&self) -> lacus::Result<&Engine> {
        match &self.door {
            Door::Embedded(engine, _) => Ok(engine),
            Door::Remote(_) => {
                let error = Error::new(Kind::Unsupported, "functions run where the engine is, and a server takes none of its clients");
                Err(error.hint("open the lake with lacus.open() to use functions of your own"))
            }
        }
    }
}

/// Other threads may hold what registering waits for while they wait for the interpreter.
fn register(py: Python<'_>, engine: &Engine, function: Function, replace: bool) -> PyResult<()> {
    let registered = py.detach(|| engine.register_function(function, replace));
    let registered = registered.map_err(|error| match error.kind() {
        Kind::AlreadyExists => Error::new(Kind::AlreadyExists, error.message()).hint("choose another name, or say replace=True"),
        _ => error,
    });
    registered.or_raise(py)
}

fn no_index(dataset: &str) -> Error {
    let error = Error::new(Kind::Unsupported, "this dataset has no index").with("dataset", dataset);
    error.hint("datasets of arrays have one, in the state folder of a lake file")
}

use std::error::Error as _;

use lacus::{Error, Kind};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

/// The exception for an error, by what the handler would do: the classes stand in `lacus/_exceptions.py`, chosen by the stable code. What a
/// function of Python has raised is its cause; Ctrl-C in such a function is Ctrl-C.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let cause = error.source().and_then(|source| source.downcast_ref::<PyErr>()).map(|cause| cause.clone_ref(py));
    if let Some(interruption) = cause.as_ref().filter(|cause| !cause.is_instance_of::<PyException>(py)) {
        return interruption.clone_ref(py);
    }
    let made = py
        .import("lacus._exceptions")
        .and_then(|module| module.getattr("from_engine"))
        .and_then(|make| make.call1((error.kind().code(), error.to_string(), error.is_retryable())));
    match made {
        Ok(exception) => {
            let exception = PyErr::from_value(exception);
            if cause.is_some() {
                exception.set_cause(py, cause);
            }
            exception
        }
        Err(missing) => missing,
    }
}

/// Raises an error of Lacus as its exception.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for lacus::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}

/// The stable codes of all kinds, for the test that each has an exception.
#[pyfunction]
pub(crate) fn error_codes() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.code()).collect()
}

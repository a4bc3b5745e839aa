use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use lacus::{Error, Kind, Result};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::error::raised;

/// How often a wait looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// The runtime that all engines of this process share.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().thread_name("lacus").enable_all().build().ok());
    made.as_ref().ok_or_else(|| Error::new(Kind::Internal, "no runtime could be started"))
}

/// What ended a wait.
pub(crate) enum Ended {
    /// The engine failed.
    Failed(Error),
    /// A signal handler of Python raised, as Ctrl-C does.
    Interrupted(PyErr),
}

impl Ended {
    /// As a Python exception.
    pub(crate) fn raised(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Failed(error) => raised(py, &error),
            Self::Interrupted(error) => error,
        }
    }
}

/// Runs `work` to its end without holding up other Python threads. On Ctrl-C the work is dropped, which cancels it.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = Result<T>> + Send) -> PyResult<T> {
    py.detach(|| watched(work)).map_err(|ended| ended.raised(py))
}

/// Runs `work` on a thread that may or may not hold the interpreter.
pub(crate) fn watched<T>(work: impl Future<Output = Result<T>>) -> std::result::Result<T, Ended> {
    let runtime = runtime().map_err(Ended::Failed)?;
    runtime.block_on(async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(Ended::Failed),
                () = tokio::time::sleep(SIGNALS) => Python::attach(|py| py.check_signals()).map_err(Ended::Interrupted)?,
            }
        }
    })
}

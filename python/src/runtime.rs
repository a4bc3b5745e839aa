use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use lacus::{Error, Kind, QueryProgress, Result};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::error::raised;
use crate::progress::Line;

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

/// As [`wait`], and says how far the query is where somebody watches.
pub(crate) fn wait_and_say<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = Result<T>> + Send,
    query: Option<QueryProgress>,
) -> PyResult<T> {
    let mut line = Line::new(py, query);
    let done = py.detach(|| looked_after(work, |py| line.say(py))).map_err(|ended| ended.raised(py));
    line.erase(py);
    done
}

/// Runs `work` on a thread that may or may not hold the interpreter.
pub(crate) fn watched<T>(work: impl Future<Output = Result<T>>) -> std::result::Result<T, Ended> {
    looked_after(work, |_| ())
}

/// As [`watched`]; `look` is called from time to time.
fn looked_after<T>(work: impl Future<Output = Result<T>>, mut look: impl FnMut(Python<'_>)) -> std::result::Result<T, Ended> {
    let runtime = runtime().map_err(Ended::Failed)?;
    runtime.block_on(async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(Ended::Failed),
                () = tokio::time::sleep(SIGNALS) => {
                    let looked = Python::attach(|py| {
                        look(py);
                        py.check_signals()
                    });
                    looked.map_err(Ended::Interrupted)?;
                }
            }
        }
    })
}

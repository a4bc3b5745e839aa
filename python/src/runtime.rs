use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use lacus::{Error, Kind, QueryProgress, Result};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::calls::stop_daemon;
use crate::error::raised;
use crate::progress::Line;

/// How often a wait looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// The runtime that all engines of this process share. Its threads don't follow a fork: whoever waits for them would wait forever.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<(u32, Option<Runtime>)> = OnceLock::new();
    let process = std::process::id();
    let (of, made) = RUNTIME.get_or_init(|| {
        lacus_allocator::give_memory_back();
        (process, lacus::runtime().ok())
    });
    if *of != process {
        return Err(Error::new(Kind::Unsupported, "lacus was used before this process was forked, and can't be used in the child").hint(
            "start processes by \"spawn\" or \"forkserver\" (multiprocessing.set_start_method, multiprocessing_context of a DataLoader)",
        ));
    }
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
    let mut line = Line::new(query);
    let done = py.detach(|| looked_after(work, |py| line.say(py))).map_err(|ended| ended.raised(py));
    line.erase(py)?;
    done
}

/// Runs `work` on a thread that may or may not hold the interpreter.
pub(crate) fn watched<T>(work: impl Future<Output = Result<T>>) -> std::result::Result<T, Ended> {
    looked_after(work, |_| Ok(()))
}

/// As [`watched`]; `look` is called from time to time. The clock is that of this thread: those of the runtime may all be busy.
fn looked_after<T>(
    work: impl Future<Output = Result<T>>,
    mut look: impl FnMut(Python<'_>) -> PyResult<()>,
) -> std::result::Result<T, Ended> {
    let _entered = runtime().map_err(Ended::Failed)?.enter();
    let waker = Waker::from(Arc::new(Unparked(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    let mut looked = Instant::now();
    loop {
        let polled = work.as_mut().poll(&mut context);
        stop_daemon();
        if let Poll::Ready(done) = polled {
            return done.map_err(Ended::Failed);
        }
        std::thread::park_timeout(SIGNALS.saturating_sub(looked.elapsed()));
        if looked.elapsed() >= SIGNALS {
            stop_daemon();
            looked = Instant::now();
            Python::attach(|py| look(py).and_then(|()| py.check_signals())).map_err(Ended::Interrupted)?;
        }
    }
}

/// Wakes a thread that waits.
struct Unparked(Thread);

impl Wake for Unparked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

//! Calls of Python by the threads of the engine.
//!
//! A thread that is in Python when the interpreter ends can neither go on nor be ended well, so the interpreter waits for the calls that
//! run, and begins no more.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use lacus::{Error, Kind, Result};
use pyo3::prelude::*;

/// How often the end of the program looks for Ctrl-C while it waits.
const SIGNALS: Duration = Duration::from_millis(50);

static CALLS: Mutex<Calls> = Mutex::new(Calls { running: 0, closed_by: None });
static RETURNED: Condvar = Condvar::new();
/// The process whose calls are counted: the threads of a forked one are gone, and what they held stays held.
static PROCESS: OnceLock<u32> = OnceLock::new();

thread_local! {
    static IS_CALLING: Cell<bool> = const { Cell::new(false) };
}

struct Calls {
    running: usize,
    /// The thread that ends the program.
    closed_by: Option<ThreadId>,
}

/// Runs `work` with the interpreter, if its query is wanted then. Other queries go on meanwhile, on a thread that takes the place of this one.
pub(crate) fn call<T>(work: impl FnOnce(Python<'_>) -> Result<T>) -> Result<T> {
    let _running = Running::begin()?;
    let wanted = lacus::wanted();
    // Calls take the interpreter one after the other: the query of one that waited for long may have ended.
    let work = |py: Python<'_>| wanted().and_then(|()| work(py));
    // A thread of the runtime that waits for the interpreter must not keep others from running.
    tokio::task::block_in_place(|| lacus::aside(|| Python::try_attach(work))).unwrap_or_else(|| Err(closed()))
}

/// Whether this thread is in a function that the engine has called.
pub(crate) fn is_calling() -> bool {
    IS_CALLING.get()
}

/// Begins no more calls and waits for those that run: the last thing that a program does with its interpreter.
#[pyfunction]
pub(crate) fn end_calls(py: Python<'_>) -> PyResult<()> {
    if PROCESS.get() != Some(&std::process::id()) {
        return Ok(());
    }
    calls().closed_by = Some(std::thread::current().id());
    while py.detach(|| {
        let (calls, _) = RETURNED.wait_timeout_while(calls(), SIGNALS, |calls| calls.running > 0).unwrap_or_else(PoisonError::into_inner);
        calls.running > 0
    }) {
        py.check_signals()?;
    }
    Ok(())
}

/// Stops this thread when the program ends and another thread ends it: only threads that Python calls daemons are left then, for which there
/// is no way back into Python. Those in a function that the engine has called are waited for.
pub(crate) fn stop_daemon() {
    while !is_calling() && calls().closed_by.is_some_and(|thread| thread != std::thread::current().id()) {
        std::thread::park();
    }
}

/// A call that runs.
struct Running {
    /// Whether this thread was in a call before.
    was_calling: bool,
}

impl Running {
    fn begin() -> Result<Self> {
        PROCESS.get_or_init(std::process::id);
        let mut calls = calls();
        if calls.closed_by.is_some() {
            return Err(closed());
        }
        calls.running += 1;
        Ok(Self { was_calling: IS_CALLING.replace(true) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        IS_CALLING.set(self.was_calling);
        calls().running -= 1;
        RETURNED.notify_all();
    }
}

fn calls() -> MutexGuard<'static, Calls> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::new(Kind::Cancelled, "the program ends, and its functions are no longer called")
}

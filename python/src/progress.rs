use std::time::{Duration, Instant};

use lacus::{Progress, QueryProgress};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

/// A query that ends sooner says nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time from one word to the next.
const SAYS: Duration = Duration::from_millis(200);

/// A line on standard error that tells how far a query is, where a person watches: in terminals and notebooks.
pub(crate) struct Line {
    query: Option<QueryProgress>,
    /// Whether somebody watches; nobody looks for that while it need not be known.
    is_watched: Option<bool>,
    began: Instant,
    said: Option<Instant>,
    width: usize,
}

impl Line {
    pub(crate) fn new(query: Option<QueryProgress>) -> Self {
        Self { query, is_watched: None, began: Instant::now(), said: None, width: 0 }
    }

    /// Says how far the query is, if it is time to.
    ///
    /// # Errors
    /// What is no failure to write but an interruption meanwhile, as by Ctrl-C.
    pub(crate) fn say(&mut self, py: Python<'_>) -> PyResult<()> {
        let due = self.began.elapsed() >= PATIENCE && self.said.is_none_or(|said| said.elapsed() >= SAYS);
        let Some(query) = self.query.as_ref().filter(|_| due) else { return Ok(()) };
        if !*self.is_watched.get_or_insert_with(|| is_watched(py)) {
            return Ok(());
        }
        self.said = Some(Instant::now());
        let text = line(query.now(), self.began.elapsed());
        let padding = self.width.saturating_sub(text.len());
        self.width = text.len();
        write(py, &format!("\r{text}{:padding$}", ""))
    }

    /// Takes away what was said.
    ///
    /// # Errors
    /// As [`Line::say`].
    pub(crate) fn erase(&self, py: Python<'_>) -> PyResult<()> {
        if self.said.is_none() {
            return Ok(());
        }
        write(py, &format!("\r{:1$}\r", "", self.width))
    }
}

/// Whether standard error is a terminal or a notebook.
fn is_watched(py: Python<'_>) -> bool {
    let watched = || {
        let sys = py.import("sys")?;
        let terminal = sys.getattr("stderr")?.call_method0("isatty")?.is_truthy()?;
        Ok::<_, PyErr>(terminal || sys.getattr("modules")?.contains("ipykernel")?)
    };
    // That nobody can be asked is no reason to fail.
    watched().unwrap_or(false)
}

fn write(py: Python<'_>, text: &str) -> PyResult<()> {
    let written = || {
        let stderr = py.import("sys")?.getattr("stderr")?;
        stderr.call_method1("write", (text,))?;
        stderr.call_method0("flush")
    };
    match written() {
        // That nobody reads it is no reason to fail; Ctrl-C is no failure.
        Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
        _ => Ok(()),
    }
}

/// `42 %, 1.2 million rows, 3.1 GB read, 12 s, 17 s left`; what is not known is left out.
fn line(now: Progress, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let mut parts = vec![format!("{:.1} million rows", now.rows as f64 / 1e6), format!("{:.2} GB read", now.bytes as f64 / 1e9)];
    parts.push(format!("{seconds:.0} s"));
    if let Some(part) = now.part() {
        parts.insert(0, format!("{:.0} %", part * 100.0));
        if part > 0.02 && part < 1.0 {
            parts.push(format!("{:.0} s left", seconds / part * (1.0 - part)));
        }
    }
    parts.join(", ")
}

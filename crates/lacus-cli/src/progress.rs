use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use lacus::QueryProgress;

use crate::terminal;

/// How often a query is looked at.
const LOOKS: Duration = Duration::from_millis(200);

/// What a running query has read, and how far it is, on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Looks at the query from time to time.
    watch: Option<Watch>,
}

/// A thread of its own, because those of the runtime are busy with the query.
struct Watch {
    end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(bar: ProgressBar, query: QueryProgress) -> Self {
        let (end, ended) = mpsc::channel();
        let look = move || bar.set_message(line(query.now(), bar.elapsed()));
        let thread = thread::spawn(move || {
            look();
            while ended.recv_timeout(LOOKS) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        });
        Self { end, thread }
    }

    fn stop(self) {
        drop(self.end);
        // A thread that failed has said so, and nothing is left to do for it.
        let _ = self.thread.join();
    }
}

impl Progress {
    /// Shows progress unless it is unwanted or nobody watches.
    pub(crate) fn start(quiet: bool) -> Self {
        let bar = if quiet || !terminal::is_watched() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message("planning");
        Self { bar, watch: None }
    }

    /// Shows how far a query of this process is, from now on.
    pub(crate) fn follow(&mut self, query: QueryProgress) {
        if !self.bar.is_hidden() {
            self.watch = Some(Watch::start(self.bar.clone(), query));
        }
    }

    /// Shows how many rows have come from elsewhere.
    pub(crate) fn arrived(&self, rows: u64) {
        if self.watch.is_none() {
            self.bar.set_message(format!("{} rows, {:.1} s", HumanCount(rows), self.bar.elapsed().as_secs_f64()));
        }
    }
}

/// `42 %, 1,234 rows, 3 GiB read, 12.3 s, 17 s left`; what is not known is left out.
fn line(now: lacus::Progress, elapsed: Duration) -> String {
    let mut parts = vec![format!("{} rows", HumanCount(now.rows)), format!("{} read", HumanBytes(now.bytes))];
    parts.push(format!("{:.1} s", elapsed.as_secs_f64()));
    if let Some(part) = now.part() {
        parts.insert(0, format!("{:.0} %", part * 100.0));
        // Of the first rows nobody can tell.
        if part > 0.02 && part < 1.0 {
            parts.push(format!("{:.0} s left", elapsed.as_secs_f64() / part * (1.0 - part)));
        }
    }
    parts.join(", ")
}

/// How many files are done, of how many, on a terminal.
pub(crate) struct FileProgress {
    bar: ProgressBar,
}

impl FileProgress {
    /// Shows progress unless it is unwanted or nobody watches.
    pub(crate) fn start(quiet: bool, what: &str) -> Self {
        let bar = if quiet || !terminal::is_watched() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} files, {elapsed}, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// Says how many files are done, of how many.
    pub(crate) fn at(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.stop();
        }
        self.bar.finish_and_clear();
    }
}

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// Rows, bytes and time of a running query, on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    rows: u64,
}

impl Progress {
    /// Shows progress unless it is unwanted or nobody watches.
    pub(crate) fn start(quiet: bool) -> Self {
        let bar = if quiet || !terminal::is_watched() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_draw_target(if quiet || !terminal::is_watched() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        });
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message("planning");
        Self { bar, rows: 0 }
    }

    /// Counts rows that arrived; `bytes` is what was read so far, where that is known.
    pub(crate) fn advance(&mut self, rows: usize, bytes: Option<u64>) {
        self.rows += rows as u64;
        let read = bytes.map(|bytes| format!(", {} read", HumanBytes(bytes))).unwrap_or_default();
        self.bar.set_message(format!("{} rows{read}, {:.1} s", HumanCount(self.rows), self.bar.elapsed().as_secs_f64()));
    }
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
        self.bar.finish_and_clear();
    }
}

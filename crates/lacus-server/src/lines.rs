//! Lines on standard error, written by a thread of their own: a reader that is slow or gone must not stop the server.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use lacus::{Error, Kind, Result};

/// How many lines may wait to be written.
const WAITING: usize = 4096;
/// How long the last lines may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for room before looking again.
const PAUSE: Duration = Duration::from_millis(1);

enum Message {
    Line(String),
    /// Everything before this is to be written, and this told then.
    Settle(SyncSender<()>),
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Lines to `out`.
    pub(crate) fn to(out: impl Write + Send + 'static) -> Result<Self> {
        let (messages, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let lines = Self { messages, lost: Arc::clone(&lost) };
        let thread = std::thread::Builder::new().name("lacus-log".to_owned()).spawn(move || write(out, &waiting, &lost));
        thread.map_err(|error| Error::new(Kind::Internal, format!("no thread for the log: {error}")))?;
        Ok(lines)
    }

    /// Writes a line soon. What finds no room is counted, and the number told in the place of the lines.
    pub(crate) fn write(&self, line: String) {
        if let Err(TrySendError::Full(_)) = self.messages.try_send(Message::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment for the last lines.
    pub(crate) fn settle(&self) {
        let (done, settled) = sync_channel(1);
        let (begun, mut message) = (Instant::now(), Message::Settle(done));
        // Whoever doesn't read them by then doesn't want them.
        while let Err(TrySendError::Full(again)) = self.messages.try_send(message) {
            if begun.elapsed() > PATIENCE {
                return;
            }
            message = again;
            std::thread::sleep(PAUSE);
        }
        let _ = settled.recv_timeout(PATIENCE);
    }
}

fn write(mut out: impl Write, waiting: &Receiver<Message>, lost: &AtomicU64) {
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Line(line) => {
                // Nobody is left to be told of a log that can't be written.
                let _ = out.write_all(line.as_bytes());
            }
            Message::Settle(done) => {
                // Whoever waited no longer needs not be told.
                let _ = done.try_send(());
            }
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{{\"level\":\"WARN\",\"message\":\"{missing} log lines were lost: their reader is too slow\"}}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes lines when it is told to.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_stops_nobody() -> Result<()> {
        let ((go, gate), (taken, lines)) = (mpsc::channel(), mpsc::channel());
        let log = Lines::to(Slow(gate, taken))?;
        (0..WAITING + 10).for_each(|number| log.write(format!("{number}\n")));
        drop(go);
        log.settle();
        drop(log);
        let written: Vec<String> = lines.iter().collect();
        assert_eq!(written.first().map(String::as_str), Some("0\n"));
        assert!(written.iter().any(|line| line.contains("log lines were lost")), "{}", written.len());
        Ok(())
    }
}

//! Who follows the process: its log, and a collector of traces.

use lacus::{Error, Kind, Result};
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::lines::Lines;
use crate::logs::{LogFilter, LogFormat, Logs};

/// Keeps what a process tells of itself flowing; dropped, it lets the last of it out.
#[derive(Debug)]
pub struct Following {
    lines: Option<Lines>,
}

/// Begins to tell what the process does. Only a program that is the whole process may call it, once.
///
/// # Errors
/// `Internal` when somebody follows already.
pub fn follow(format: LogFormat, filter: LogFilter) -> Result<Following> {
    let lines = (!filter.is_off()).then(|| Lines::to(std::io::stderr())).transpose()?;
    let logs = lines.clone().map(|lines| Logs { format, lines }.with_filter(filter.layer_filter()));
    tracing::subscriber::set_global_default(Registry::default().with(logs))
        .map_err(|error| Error::new(Kind::Internal, format!("the process is followed already: {error}")))?;
    Ok(Following { lines })
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(lines) = &self.lines {
            lines.settle();
        }
    }
}

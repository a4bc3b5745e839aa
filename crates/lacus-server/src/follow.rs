//! Who follows the process: its log, and a collector of traces.

use lacus::{Error, Kind, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::collector::{Collector, Traces};
use crate::lines::Lines;
use crate::logs::{LogFilter, LogFormat, Logs};
use crate::traces::{self, Spans};

/// Keeps what a process tells of itself flowing; dropped, it lets the last of it out.
#[derive(Debug)]
pub struct Following {
    lines: Option<Lines>,
    collector: Option<Collector>,
}

/// Begins to tell what the process does. Only a program that is the whole process may call it, once, on the runtime that is to send traces.
///
/// # Errors
/// `InvalidConfiguration` when traces can't be sent there, `Internal` when somebody follows already.
pub fn follow(format: LogFormat, filter: LogFilter, traces: Option<&Traces>) -> Result<Following> {
    let lines = (!filter.is_off()).then(|| Lines::to(std::io::stderr())).transpose()?;
    let logs = lines.clone().map(|lines| Logs { format, lines }.with_filter(filter.layer_filter()));
    let collector = traces.map(Collector::open).transpose()?;
    let spans = collector.clone().map(|collector| Spans { collector }.with_filter(traces::filter()));
    tracing::subscriber::set_global_default(Registry::default().with(logs).with(spans))
        .map_err(|error| Error::new(Kind::Internal, format!("the process is followed already: {error}")))?;
    Ok(Following { lines, collector })
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(collector) = &self.collector {
            collector.settle();
        }
        if let Some(lines) = &self.lines {
            lines.settle();
        }
    }
}

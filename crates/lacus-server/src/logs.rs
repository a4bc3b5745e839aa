//! Structured logs: a line for each event and each piece of work that ends, with the query that it belongs to.

use std::str::FromStr;
use std::time::Instant;

use lacus::{Error, Kind, Result};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::lines::Lines;

/// What the parts of Lacus are called by those who follow them. Libraries below may write addresses and headers, so they are not followed.
pub(crate) const OURS: &str = "lacus";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Words and `name=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which log lines are written: `info`, `off`, `debug`, or for single crates, as in `info,lacus_storage=debug`.
#[derive(Debug, Clone)]
pub struct LogFilter {
    wanted: Targets,
    most: LevelFilter,
}

impl FromStr for LogFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(Kind::InvalidConfiguration, format!("the log filter `{text}` can't be used: {why}"))
                .hint("write off, error, warn, info, debug or trace, for all or as in `info,lacus_storage=debug`")
        };
        let mut filter = Self { wanted: Targets::new(), most: LevelFilter::OFF };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = part.split_once('=').unwrap_or((OURS, part));
            if !target.starts_with(OURS) {
                return Err(wrong(format!("`{target}` is no part of Lacus")));
            }
            let level: LevelFilter = level.parse().map_err(|_| wrong(format!("`{level}` is no level")))?;
            filter.most = filter.most.max(level);
            filter.wanted = filter.wanted.with_target(target, level);
        }
        Ok(filter)
    }
}

impl LogFilter {
    /// Whether nothing is written.
    pub(crate) fn is_off(&self) -> bool {
        self.most == LevelFilter::OFF
    }

    /// What is followed for the lines: with them, the queries that they belong to.
    pub(crate) fn layer_filter(self) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
        let Self { wanted, most } = self;
        let is_query = |metadata: &Metadata<'_>| metadata.is_span() && *metadata.level() <= Level::INFO;
        let enabled = move |metadata: &Metadata<'_>| {
            metadata.target().starts_with(OURS) && (is_query(metadata) || wanted.would_enable(metadata.target(), metadata.level()))
        };
        FilterFn::new(enabled).with_max_level_hint(most.max(LevelFilter::INFO))
    }
}

/// Writes the lines.
pub(crate) struct Logs {
    pub(crate) format: LogFormat,
    pub(crate) lines: Lines,
}

/// What is known of a piece of work.
struct Work {
    began: Instant,
    fields: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Logs {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut work = Work { began: Instant::now(), fields: Fields::default() };
        attributes.record(&mut work.fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(work);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(work) = span.extensions_mut().get_mut::<Work>()
        {
            values.record(&mut work.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = context.event_span(event).map(inherited).unwrap_or_default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            _ => event.metadata().name().to_owned(),
        };
        self.line(event.metadata(), &message, fields);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        // A query says itself how it ended.
        if *span.metadata().level() <= Level::INFO {
            return;
        }
        let seconds = span.extensions().get::<Work>().map(|work| work.began.elapsed().as_secs_f64());
        let (metadata, mut fields) = (span.metadata(), inherited(span));
        fields.0.insert("seconds".to_owned(), seconds.into());
        self.line(metadata, metadata.name(), fields);
    }
}

impl Logs {
    fn line(&self, metadata: &Metadata<'_>, message: &str, fields: Fields) {
        let mut time = String::new();
        // Writing into a text does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let (level, target) = (metadata.level(), metadata.target());
        self.lines.write(match self.format {
            LogFormat::Text => {
                let pairs: String = fields.0.iter().map(|(name, value)| format!(" {name}={}", plain(value))).collect();
                format!("{time} {level:>5} {target}: {}{pairs}\n", message.replace(['\n', '\r'], " "))
            }
            LogFormat::Json => {
                let own = [("time", time), ("level", level.to_string()), ("target", target.to_owned()), ("message", message.to_owned())];
                let own = own.map(|(name, value)| (name.to_owned(), Value::String(value)));
                let object: Map<String, Value> = own.into_iter().chain(fields.0).collect();
                format!("{}\n", Value::Object(object))
            }
        });
    }
}

/// A value as it stands in a line of text: quoted where it isn't one word.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic() && !"\"=".contains(letter)) => {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// The fields of a span and of those around it; the inner ones count.
fn inherited<S: for<'a> LookupSpan<'a>>(span: SpanRef<'_, S>) -> Fields {
    let mut all = Fields::default();
    for span in span.scope().from_root() {
        if let Some(work) = span.extensions().get::<Work>() {
            all.0.extend(work.fields.0.clone());
        }
    }
    all
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_parts_of_lacus_alone() -> Result<()> {
        let filter: LogFilter = "info,lacus_storage=debug".parse()?;
        let wanted = |target, level| filter.wanted.would_enable(target, &level);
        assert!(wanted("lacus_engine::activity", Level::INFO) && !wanted("lacus_engine::activity", Level::DEBUG));
        assert!(wanted("lacus_storage::scan", Level::DEBUG) && !wanted("hyper", Level::ERROR));
        let refused = |text: &str| text.parse::<LogFilter>().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused("hyper=trace").contains("`hyper` is no part of Lacus"));
        assert!(refused("loud").contains("`loud` is no level"));
        Ok(())
    }
}

//! Traces: queries, plans, scans and requests as spans of OpenTelemetry, each a part of what its caller does.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use lacus::TraceParent;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::collector::Collector;
use crate::logs::OURS;
use crate::otlp::{Attribute, Span, SpanKind, Status, Value};

/// The header by which a caller names its trace, and the field that hands it on.
const TRACEPARENT: &str = "traceparent";

/// The span of a call, for a caller that says which trace it belongs to: it is no work of its own, but what is begun within it belongs there.
pub(crate) fn call(headers: &HeaderMap) -> tracing::Span {
    let named = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).filter(|text| TraceParent::read(text).is_some());
    match named {
        Some(traceparent) => tracing::info_span!("call", traceparent),
        None => tracing::Span::none(),
    }
}

/// What is followed for traces: work, but no events.
pub(crate) fn filter() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    let is_work = |metadata: &Metadata<'_>| metadata.is_span() && *metadata.level() <= Level::DEBUG && metadata.target().starts_with(OURS);
    FilterFn::new(is_work).with_max_level_hint(LevelFilter::DEBUG)
}

/// Where a piece of work stands.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    trace: u128,
    span: u64,
    /// Whether the trace is kept; whoever begins it decides.
    kept: bool,
    /// Two clocks at one moment: within a trace all times go by the second one.
    clocks: (SystemTime, Instant),
}

impl Place {
    /// The beginning of a trace.
    fn root() -> Self {
        Self { trace: rand::random::<u128>().max(1), span: rand::random::<u64>().max(1), kept: true, clocks: clocks() }
    }

    /// A part of the work at this place.
    fn part(&self) -> Self {
        Self { span: rand::random::<u64>().max(1), ..self.clone() }
    }

    /// The place that a caller names.
    fn of_caller(text: &str) -> Option<Self> {
        let TraceParent { trace, span, kept } = TraceParent::read(text)?;
        Some(Self { trace, span, kept, clocks: clocks() })
    }

    /// Nanoseconds since 1970.
    fn now(&self) -> u64 {
        let (time, instant) = self.clocks;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default() + instant.elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn clocks() -> (SystemTime, Instant) {
    (SystemTime::now(), Instant::now())
}

/// Work that goes on.
struct Open {
    parent: Option<u64>,
    start: u64,
    known: Fields,
}

/// Hands what ended to the collector.
pub(crate) struct Spans {
    pub(crate) collector: Collector,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut known = Fields::default();
        attributes.record(&mut known);
        if let Some(caller) = known.caller {
            span.extensions_mut().insert(caller);
            return;
        }
        let parent = span.parent().and_then(|parent| parent.extensions().get::<Place>().cloned());
        let place = parent.as_ref().map_or_else(Place::root, Place::part);
        let open = Open { parent: parent.map(|parent| parent.span), start: place.now(), known };
        let mut extensions = span.extensions_mut();
        extensions.insert(place);
        extensions.insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.known);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let mut extensions = span.extensions_mut();
        let (Some(open), Some(place)) = (extensions.remove::<Open>(), extensions.get_mut::<Place>()) else { return };
        if place.kept {
            self.collector.take(finished(span.metadata().name(), open, place));
        }
    }
}

fn finished(name: &str, open: Open, place: &Place) -> Span {
    let kind = match name {
        "query" => SpanKind::Server,
        "store request" => SpanKind::Client,
        _ => SpanKind::Internal,
    };
    Span {
        trace_id: place.trace.to_be_bytes().into(),
        span_id: place.span.to_be_bytes().into(),
        parent_span_id: open.parent.map(|parent| parent.to_be_bytes().into()).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.into(),
        start: open.start,
        end: place.now(),
        attributes: open.known.attributes,
        status: open.known.failed.then_some(Status::FAILED),
        flags: 1,
    }
}

#[derive(Default)]
struct Fields {
    attributes: Vec<Attribute>,
    failed: bool,
    caller: Option<Place>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.attributes.push(Attribute::new(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.failed |= field.name() == "failed" && value;
        self.add(field, Value::Boolean(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.failed |= (field.name(), value) == ("outcome", "failed");
        match field.name() {
            TRACEPARENT => self.caller = Place::of_caller(value),
            _ => self.add(field, Value::Text(value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }
}

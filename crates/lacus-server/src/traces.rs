//! Traces: queries, plans, scans and requests as spans of OpenTelemetry, each a part of what its caller does.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
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

/// The name of the span of a call.
const CALL: &str = "call";

/// The span of a call, for a caller that says which trace it belongs to: it is no work of its own, but what is begun within it belongs there.
pub(crate) fn call(headers: &HeaderMap) -> tracing::Span {
    let named = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).filter(|text| Place::of_caller(text).is_some());
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

    /// The place that the header `traceparent` of the W3C names: version, trace, span, flags.
    fn of_caller(text: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = parts.as_slice() else { return None };
        let lengths = [version.len(), trace.len(), span.len(), flags.len()] == [2, 32, 16, 2];
        // Later versions may say more, the first may not.
        let known = *version != "ff" && (*version != "00" || rest.is_empty());
        if !lengths || !known || ![version, trace, span, flags].into_iter().all(|part| is_hex(part)) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let kept = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && span != 0).then(|| Self { trace, span, kept, clocks: clocks() })
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
        let parent = span.parent().and_then(|parent| parent.extensions().get::<Place>().cloned());
        if span.name() == CALL {
            // Where what the caller says can't be read, the work belongs to what is around the call, if to anything.
            if let Some(place) = known.caller.or(parent) {
                span.extensions_mut().insert(place);
            }
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_as_the_w3c_says() {
        let place = |text: &str| Place::of_caller(text).map(|place| (place.trace, place.span, place.kept));
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let found = Some((0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331, true));
        assert_eq!(place(&format!("00-{trace}-{span}-01")), found);
        assert_eq!(place(&format!("00-{trace}-{span}-00")).map(|place| place.2), Some(false));
        assert_eq!(place(&format!("cc-{trace}-{span}-01-what-the-future-says")), found);
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-+{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(place(&wrong), None, "{wrong}");
        }
    }
}

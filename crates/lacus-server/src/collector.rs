//! The collector that traces are sent to, in the background: a collector that is slow or gone loses spans, and delays nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use lacus::{Engine, Error, Kind, Result, Secret, masked};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::otlp::{Attribute, ExportRequest, Resource, ResourceSpans, Scope, ScopeSpans, Span, Value};

/// How many spans may wait to be sent.
const WAITING: usize = 2048;
/// How many spans are sent at once.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take to accept some spans.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to accept the last ones.
const LAST: Duration = Duration::from_secs(3);

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub collector: String,
    /// What the process is called there.
    pub service: String,
    /// What is said to the collector in headers, such as keys: `name=value,name=value`, escaped as in addresses.
    pub headers: Option<Secret>,
}

enum Message {
    Span(Box<Span>),
    /// Everything before this is to be sent, and this told then.
    Settle(SyncSender<()>),
}

/// Takes spans that are to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    messages: Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl Collector {
    /// Begins to send spans, on the runtime that calls this.
    pub(crate) fn open(traces: &Traces) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(Kind::InvalidConfiguration, format!("traces can't be sent to `{}`: {why}", masked(&traces.collector)))
                .hint("write the address of a collector for OTLP over HTTP, such as http://127.0.0.1:4318")
        };
        let address = format!("{}/v1/traces", traces.collector.trim_end_matches('/'));
        let address = Url::parse(&address).map_err(|error| wrong(error.to_string()))?;
        if !["http", "https"].contains(&address.scheme()) {
            return Err(wrong(format!("`{}` is not http or https", address.scheme())));
        }
        let headers = headers(traces.headers.as_ref()).ok_or_else(|| wrong("its headers are not name=value,name=value".to_owned()))?;
        let client = Client::builder().timeout(PATIENCE).default_headers(headers).build().map_err(|error| wrong(error.to_string()))?;
        let (messages, waiting) = channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let sending = Sending { client, address, resource: resource(&traces.service), lost: Arc::clone(&lost), fails: false };
        tokio::spawn(sending.run(waiting));
        Ok(Self { messages, lost })
    }

    /// Sends a span soon. What finds no room is counted, and the number told.
    pub(crate) fn take(&self, span: Span) {
        if self.messages.try_send(Message::Span(Box::new(span))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment for the last spans; not from the only thread of the runtime that sends them.
    pub(crate) fn settle(&self) {
        let (done, settled) = sync_channel(1);
        if self.messages.try_send(Message::Settle(done)).is_ok() {
            // A collector that is gone was told of.
            let _ = settled.recv_timeout(LAST);
        }
    }
}

/// The headers of each request; `None` when they can't be read.
fn headers(written: Option<&Secret>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))]);
    let written = written.map(Secret::reveal).unwrap_or_default();
    for pair in written.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value);
    }
    Some(headers)
}

fn resource(service: &str) -> Resource {
    let texts = [("service.name", service), ("service.version", Engine::version())];
    Resource { attributes: texts.map(|(key, text)| Attribute::new(key, Value::Text(text.to_owned()))).into() }
}

/// The task that sends.
struct Sending {
    client: Client,
    address: Url,
    resource: Resource,
    lost: Arc<AtomicU64>,
    /// Whether the last request failed: an outage is told once.
    fails: bool,
}

impl Sending {
    async fn run(mut self, mut waiting: Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut messages, BATCH).await > 0 {
            if messages.iter().all(|message| matches!(message, Message::Span(_))) && messages.len() < BATCH {
                tokio::time::sleep(GATHER).await;
                while messages.len() < BATCH
                    && let Ok(message) = waiting.try_recv()
                {
                    messages.push(message);
                }
            }
            let (mut spans, mut settled) = (Vec::new(), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Span(span) => spans.push(*span),
                    Message::Settle(done) => settled.push(done),
                }
            }
            if !spans.is_empty() {
                self.send(spans).await;
            }
            for done in settled {
                // Whoever waited no longer needs not be told.
                let _ = done.try_send(());
            }
        }
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let scope = Scope { name: "lacus".to_owned(), version: Engine::version().to_owned() };
        let scopes = vec![ScopeSpans { scope: Some(scope), spans }];
        let request = ExportRequest { resources: vec![ResourceSpans { resource: Some(self.resource.clone()), scopes }] };
        let sent = self.client.post(self.address.clone()).body(request.encode_to_vec()).send().await;
        match sent.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {
                self.tell_lost();
                self.fails = false;
            }
            Err(error) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                if !self.fails {
                    let error = error.without_url().to_string();
                    tracing::warn!(error, "the collector of traces takes none: they are lost until it does");
                }
                self.fails = true;
            }
        }
    }

    fn tell_lost(&self) {
        let spans = self.lost.swap(0, Ordering::Relaxed);
        if spans > 0 {
            tracing::warn!(spans, "traces lack spans: the collector was gone or too slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_never_shown() {
        let read = headers(Some(&Secret::new("api-key=a%20b, x=1"))).unwrap_or_default();
        assert_eq!(read.get("api-key").map(HeaderValue::as_bytes), Some(&b"a b"[..]));
        assert!(!format!("{read:?}").contains("a b"));
        assert!(headers(Some(&Secret::new("nothing"))).is_none() && headers(None).is_some_and(|read| read.len() == 1));
    }
}

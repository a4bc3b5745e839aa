//! The requests of one query: counted, and followed by those who listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::Result;
use tracing::Span;
use tracing::field::Empty;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A body, or a part of one.
    Get,
    /// What is known of an object.
    Head,
    /// A listing.
    List,
    /// An object to keep, or the beginning of one that comes in parts.
    Put,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Get, Self::Head, Self::List, Self::Put];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
        }
    }
}

/// How much a query read from one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReads {
    /// The store.
    pub store: String,
    /// Requests sent: reads and listings, not counting retries.
    pub requests: u64,
    /// Bytes of bodies received.
    pub bytes: u64,
    /// Bytes that the cache on local disk had.
    pub cached: u64,
    /// Requests by [`Operation::ALL`].
    pub operations: [u64; Operation::ALL.len()],
}

/// What is counted of one store.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    operations: [AtomicU64; Operation::ALL.len()],
    bytes: AtomicU64,
    cached: AtomicU64,
}

impl Counts {
    /// Counts bytes that the cache had.
    pub(crate) fn cached(&self, bytes: u64) {
        self.cached.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn now(&self, store: &str) -> StoreReads {
        let operations = Operation::ALL.map(|operation| self.operations[operation as usize].load(Ordering::Relaxed));
        let [gets, heads, lists, _] = operations;
        let [bytes, cached] = [&self.bytes, &self.cached].map(|count| count.load(Ordering::Relaxed));
        StoreReads { store: store.to_owned(), requests: gets + heads + lists, bytes, cached, operations }
    }
}

/// One request; it lasts until this is dropped.
#[derive(Debug)]
pub(crate) struct Request {
    counts: Arc<Counts>,
    span: Span,
    bytes: u64,
}

impl Request {
    /// Counts a request. It belongs to the scan or the planning that sends it, else to `query`.
    pub(crate) fn begin(counts: Arc<Counts>, store: &str, operation: Operation, query: impl FnOnce() -> Span) -> Self {
        counts.operations[operation as usize].fetch_add(1, Ordering::Relaxed);
        let sender = || Some(Span::current()).filter(|current| !current.is_none()).unwrap_or_else(query);
        let operation = operation.name();
        let span = tracing::debug_span!(parent: &sender(), "store request", store, operation, bytes = Empty, failed = Empty);
        Self { counts, span, bytes: 0 }
    }

    /// Says of what was answered whether it is a failure.
    pub(crate) fn failed_or<T>(&self, answer: Result<T>) -> Result<T> {
        // That nothing has changed, or that nothing is there, is an answer.
        let answered = matches!(&answer, Ok(_) | Err(object_store::Error::NotModified { .. } | object_store::Error::NotFound { .. }));
        if !answered {
            self.span.record("failed", true);
        }
        answer
    }

    /// Counts bytes of its body.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.span.record("bytes", self.bytes);
    }
}

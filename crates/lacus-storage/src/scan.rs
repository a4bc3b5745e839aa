//! One scan, as those who follow a query see it.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tracing::{Instrument, Span};

use crate::ReadScope;
use crate::masked;
use crate::reads::held;

/// One read of a table: the requests that it sends are its parts. It begins with its first partition and ends with its last.
#[derive(Debug, Clone)]
pub struct Scan {
    scope: Option<Arc<ReadScope>>,
    table: String,
    files: usize,
    running: Arc<Mutex<Weak<Span>>>,
}

impl Scan {
    /// A scan of `files` files of a table, for the query of `scope`.
    pub fn new(scope: Option<Arc<ReadScope>>, table: &str, files: usize) -> Self {
        Self { scope, table: table.to_owned(), files, running: Arc::default() }
    }

    /// Begins one partition.
    pub fn begin(&self) -> Scanning {
        Scanning(self.span())
    }

    /// A file of it is opened. What is read of it may be kept in memory, so that no store is asked.
    pub fn opens(&self, location: &Path) {
        if let Some(scope) = &self.scope {
            scope.touch(location);
        }
    }

    /// The span that all partitions share; `None` when nobody follows.
    fn span(&self) -> Option<Arc<Span>> {
        let query = self.scope.as_ref()?.span();
        if query.is_none() {
            return None;
        }
        let mut running = held(&self.running);
        if let Some(span) = running.upgrade() {
            return Some(span);
        }
        let span = tracing::debug_span!(parent: &query, "scan", table = masked(&self.table), files = self.files);
        let span = (!span.is_disabled()).then(|| Arc::new(span))?;
        *running = Arc::downgrade(&span);
        Some(span)
    }
}

/// A partition of a scan that goes on until all clones of this are dropped.
#[derive(Debug, Clone)]
pub struct Scanning(Option<Arc<Span>>);

impl Scanning {
    /// What is done within this span is done by the scan.
    pub fn span(&self) -> Span {
        self.0.as_deref().cloned().unwrap_or_else(Span::none)
    }

    /// `items`, each made by the scan.
    pub fn stream<T: 'static>(self, mut items: BoxStream<'static, T>) -> BoxStream<'static, T> {
        match self.0 {
            Some(span) => stream::poll_fn(move |context| span.in_scope(|| items.poll_next_unpin(context))).boxed(),
            None => items,
        }
    }

    /// `store`, whose requests are sent by the scan, on whatever thread.
    pub fn store(self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match self.0 {
            Some(span) => Arc::new(Followed { store, span }),
            None => store,
        }
    }
}

/// A store whose requests belong to a span.
#[derive(Debug)]
struct Followed {
    store: Arc<dyn ObjectStore>,
    span: Arc<Span>,
}

impl Followed {
    fn span(&self) -> Span {
        self.span.as_ref().clone()
    }
}

impl Display for Followed {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.store.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Followed {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).instrument(self.span()).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).instrument(self.span()).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.span.in_scope(|| self.store.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).instrument(self.span()).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).instrument(self.span()).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).instrument(self.span()).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).instrument(self.span()).await
    }
}

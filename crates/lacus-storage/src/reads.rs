//! What one query reads: counted, bounded, and held to one version of each object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, coalesce_ranges,
};

use tracing::Span;

use crate::Stores;
use crate::answers::{Answer, Answers, Asked, LONGEST};
use crate::cache;
use crate::requests::{Counts, Operation, Request, StoreReads};

/// A body longer than this is fetched in pieces of it, so that the timeout of one request bounds every wait.
const PIECE: u64 = 16 * 1024 * 1024;
/// Ranges closer than this are fetched by one request: about what a server sends during one round trip.
pub(crate) const COALESCE: u64 = 1024 * 1024;

/// A read of so many first bytes of an object is a read of its metadata: what lies close is read next.
const HEAD: u64 = 64 * 1024;

/// The reads of one query.
#[derive(Debug, Default)]
pub struct ReadScope {
    versions: Mutex<HashMap<Path, ObjectMeta>>,
    /// Objects that were listed, in the order of their paths.
    listed: Mutex<Vec<Arc<Vec<ObjectMeta>>>>,
    /// The first bytes of objects.
    heads: Answers<Path>,
    counts: Mutex<BTreeMap<String, Arc<Counts>>>,
    warnings: Mutex<BTreeSet<String>>,
    /// The span of the query, for as long as it runs.
    query: Mutex<Option<Span>>,
    forgotten: AtomicU64,
    /// The objects of which something was read, also from what is kept of them.
    touched: Mutex<BTreeSet<Path>>,
    /// The tables that the query names, in full.
    tables: Mutex<BTreeSet<String>>,
    /// The indices that were asked, by their datasets, in their versions.
    indices: Mutex<BTreeMap<String, String>>,
}

/// An object among `objects`, which stand in the order of their paths.
fn find<'a>(objects: &'a [ObjectMeta], location: &Path) -> Option<&'a ObjectMeta> {
    let place = objects.binary_search_by(|object| object.location.cmp(location)).ok()?;
    objects.get(place)
}

impl ReadScope {
    /// The reads of the query that `span` follows.
    pub fn of(span: Span) -> Self {
        Self { query: Mutex::new(Some(span)), ..Self::default() }
    }

    /// The span of the query; none once it has ended, or when nobody follows it.
    pub fn span(&self) -> Span {
        held(&self.query).clone().unwrap_or_else(Span::none)
    }

    /// The query has ended, and its span with it.
    pub fn leave(&self) {
        *held(&self.query) = None;
    }

    /// Holds the query to this version of an object. The version that the query saw first stays.
    pub fn pin(&self, object: &ObjectMeta) {
        if self.pinned(&object.location).is_none() {
            held(&self.versions).entry(object.location.clone()).or_insert_with(|| object.clone());
        }
    }

    /// Holds the query to the entity tag of an object of which it knew less.
    fn tag(&self, object: &ObjectMeta) {
        let mut versions = held(&self.versions);
        let known = versions.entry(object.location.clone()).or_insert_with(|| object.clone());
        if known.e_tag.is_none() {
            known.e_tag.clone_from(&object.e_tag);
        }
    }

    /// Holds the query to the versions of `objects`, which stand in the order of their paths.
    ///
    /// # Errors
    /// The path of one of which the query saw another version before.
    pub fn pin_all(&self, objects: &Arc<Vec<ObjectMeta>>) -> std::result::Result<(), Path> {
        let mut listed = held(&self.listed);
        if listed.iter().any(|known| Arc::ptr_eq(known, objects)) {
            return Ok(());
        }
        let differs = |seen: &ObjectMeta, among: &[ObjectMeta]| find(among, &seen.location).is_some_and(|now| !same_version(seen, now));
        if let Some(seen) = held(&self.versions).values().find(|seen| differs(seen, objects)) {
            return Err(seen.location.clone());
        }
        for known in listed.iter() {
            let (few, many) = if known.len() < objects.len() { (known, objects) } else { (objects, known) };
            if let Some(seen) = few.iter().find(|seen| differs(seen, many)) {
                return Err(seen.location.clone());
            }
        }
        listed.push(Arc::clone(objects));
        Ok(())
    }

    /// Something of this object is read.
    pub fn touch(&self, location: &Path) {
        let mut touched = held(&self.touched);
        if !touched.contains(location) {
            touched.insert(location.clone());
        }
    }

    /// The objects of which something was read, each in its version as far as that is known.
    pub fn touched(&self) -> Vec<(Path, Option<ObjectMeta>)> {
        let touched: Vec<Path> = held(&self.touched).iter().cloned().collect();
        let known = |path: Path| {
            let meta = self.pinned(&path);
            (path, meta)
        };
        touched.into_iter().map(known).collect()
    }

    /// The query names this table.
    pub fn name_table(&self, name: String) {
        held(&self.tables).insert(name);
    }

    /// The tables that the query names.
    pub fn tables(&self) -> Vec<String> {
        held(&self.tables).iter().cloned().collect()
    }

    /// Notes that the index of a dataset was asked, in this version.
    pub fn name_index(&self, dataset: &str, version: &str) {
        held(&self.indices).insert(dataset.to_owned(), version.to_owned());
    }

    /// The indices that were asked, by their datasets, in their versions.
    pub fn indices(&self) -> BTreeMap<String, String> {
        held(&self.indices).clone()
    }

    /// How often listings had been forgotten when the query began.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// What was read so far, store by store.
    pub fn reads(&self) -> Vec<StoreReads> {
        held(&self.counts).iter().map(|(store, counts)| counts.now(store)).collect()
    }

    /// How many bytes were read so far.
    pub fn bytes(&self) -> u64 {
        self.reads().iter().map(|read| read.bytes).sum()
    }

    /// What whoever reads the result should know of how it was read.
    pub fn warnings(&self) -> Vec<String> {
        held(&self.warnings).iter().cloned().collect()
    }

    fn pinned(&self, location: &Path) -> Option<ObjectMeta> {
        if let Some(single) = held(&self.versions).get(location) {
            return Some(single.clone());
        }
        held(&self.listed).iter().find_map(|objects| find(objects, location)).cloned()
    }

    /// The store of an object, and what is counted of it.
    fn counts(&self, location: &Path) -> (String, Arc<Counts>) {
        let store = location.parts().next().map(|part| part.as_ref().to_owned()).unwrap_or_default();
        let counts = Arc::clone(held(&self.counts).entry(store.clone()).or_default());
        (store, counts)
    }

    /// Counts one more request.
    fn request(&self, location: &Path, operation: Operation) -> Request {
        let (store, counts) = self.counts(location);
        Request::begin(counts, &store, operation, || self.span())
    }
}

/// A poisoned lock only means that another thread panicked; the maps behind these locks are valid at every instant.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stores as one query sees them.
#[derive(Debug, Clone)]
pub struct ScopedStore {
    stores: Arc<Stores>,
    scope: Arc<ReadScope>,
}

impl ScopedStore {
    /// `stores`, read within `scope`.
    pub fn new(stores: Arc<Stores>, scope: Arc<ReadScope>) -> Self {
        scope.forgotten.store(stores.forgotten(), Ordering::Relaxed);
        Self { stores, scope }
    }

    /// One request, held to the pinned version.
    async fn get_pinned(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.warn(location);
        let head = options.head;
        let mut request = self.scope.request(location, if head { Operation::Head } else { Operation::Get });
        let pinned = self.scope.pinned(location);
        // A tag of a listing that has no quotes is none that a server would know again; what comes is compared all the same.
        let known_again = |tag: &String| tag.starts_with('"') || self.stores.is_local(location);
        let pinned_tag = pinned.as_ref().and_then(|object| object.e_tag.clone()).filter(known_again);
        let options = if options.if_match.is_none() { options.with_if_match(pinned_tag) } else { options };
        let mut result = match request.failed_or(self.stores.get_opts(location, options).await) {
            Err(object_store::Error::NotFound { .. }) if pinned.is_some() => return Err(self.changed(location, "is gone")),
            Err(object_store::Error::Precondition { .. }) => return Err(self.changed(location, "was replaced")),
            other => other?,
        };
        match &pinned {
            Some(first) if !same_version(first, &result.meta) => return Err(self.changed(location, "was replaced")),
            // What a listing tells without entity tags is too little for the cache while the object is young: its tag is enough.
            Some(first) if first.e_tag.is_none() && cache::version(String::new(), first).is_none() => self.scope.tag(&result.meta),
            Some(_) => {}
            None => self.scope.pin(&result.meta),
        }
        result.payload = match result.payload {
            GetResultPayload::Stream(body) => {
                GetResultPayload::Stream(body.inspect_ok(move |bytes| request.received(bytes.len() as u64)).boxed())
            }
            // What is only asked about is not read.
            file if head => file,
            file => {
                request.received(result.range.end - result.range.start);
                file
            }
        };
        Ok(result)
    }

    /// One request, or what the cache has of it.
    async fn get_kept(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let pinned = self.scope.pinned(location).filter(|_| is_plain(&options));
        let known = pinned.and_then(|meta| Some((asked(options.range.as_ref(), meta.size)?, meta)));
        let Some((range, meta)) = known else { return self.get_pinned(location, options).await };
        let Some(parts) = self.read_cache(location, std::slice::from_ref(&range)).await? else {
            return self.get_pinned(location, options).await;
        };
        let payload = GetResultPayload::Stream(stream::iter(parts.into_iter().map(Ok)).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    /// Ranges of an object by the cache, which fetches what it doesn't have. `None` when it is not for this object: it is a file of this
    /// machine, say, or the query doesn't know its version.
    async fn read_cache(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let Some((cache, object)) = self.stores.cache(location) else { return Ok(None) };
        let Some(pinned) = self.scope.pinned(location) else { return Ok(None) };
        let Some(of) = cache::version(object, &pinned) else { return Ok(None) };
        let opened = cache.get().await;
        let inside = ranges.iter().all(|range| range.start < range.end && range.end <= pinned.size);
        let Some(cached) = opened.filter(|_| inside) else { return Ok(None) };
        let (this, path) = (self.clone(), location.clone());
        let fetch = move |range| {
            let (this, path) = (this.clone(), path.clone());
            async move { this.get_pinned(&path, GetOptions::new().with_range(Some(range))).await?.bytes().await }
        };
        let (parts, known) = cached.read(&of, ranges, fetch).await?;
        self.scope.counts(location).1.cached(known);
        Ok(Some(parts))
    }

    /// A small object, which is not sent again if it is as an earlier query saw it.
    async fn get_remembered(&self, asked: Asked, location: &Path, options: GetOptions) -> Result<GetResult> {
        let remembered = self.stores.remembered();
        let known = remembered.get(&asked);
        let tag = known.as_ref().and_then(|known| known.meta.e_tag.clone());
        let result = match (self.get_pinned(location, options.with_if_none_match(tag)).await, known) {
            (Err(object_store::Error::NotModified { .. }), Some(known)) => {
                self.scope.pin(&known.meta);
                return Ok(known.result());
            }
            (result, _) => result?,
        };
        // A file of this machine is read where it is.
        let far = matches!(result.payload, GetResultPayload::Stream(_));
        if !far || result.meta.e_tag.is_none() || result.range.end - result.range.start > LONGEST {
            return Ok(result);
        }
        let answer = Answer::of(result).await?.apart();
        remembered.put(asked, answer.clone());
        Ok(answer.result())
    }

    /// Counts a listing.
    fn lists(&self, prefix: Option<&Path>) -> Option<Request> {
        let prefix = prefix?;
        self.warn(prefix);
        Some(self.scope.request(prefix, Operation::List))
    }

    /// Tells why what is read here is not kept, if it should be.
    fn warn(&self, location: &Path) {
        let warning = self.stores.cache(location).and_then(|(cache, _)| cache.warning());
        held(&self.scope.warnings).extend(warning);
    }

    fn changed(&self, location: &Path, how: &str) -> object_store::Error {
        object_store::Error::Generic { store: "lake", source: Box::new(self.stores.changed(location, how)) }
    }

    /// The rest of a long body, piece by piece.
    fn pieces(&self, location: &Path, options: &GetOptions, rest: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let (this, location, options) = (self.clone(), location.clone(), options.clone());
        let starts = stream::iter((rest.start..rest.end).step_by(PIECE as usize));
        starts
            .then(move |start| {
                let (this, location) = (this.clone(), location.clone());
                let options = options.clone().with_range(Some(start..(start + PIECE).min(rest.end)));
                async move { Ok::<_, object_store::Error>(this.get_kept(&location, options).await?.into_stream()) }
            })
            .try_flatten()
            .boxed()
    }
}

/// Whether two sightings of an object are of one version: by entity tag, else by size and time.
pub fn same_version(first: &ObjectMeta, now: &ObjectMeta) -> bool {
    let tags = match (&first.e_tag, &now.e_tag) {
        (Some(first), Some(now)) => bare(first) == bare(now),
        // Listings and reads may state times with different precision, so without tags whole seconds must do.
        _ => first.last_modified.timestamp() == now.last_modified.timestamp(),
    };
    tags && first.size == now.size
}

/// An entity tag without its quotes, and whether it is weak: listings of WebDAV and Azure tell tags in another form than answers do.
fn bare(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

/// Whether a read is of bytes, and of the version that the query is held to: a condition of the caller's own is the store's to judge.
fn is_plain(options: &GetOptions) -> bool {
    let tags = options.if_match.is_some() || options.if_none_match.is_some() || options.version.is_some();
    let times = options.if_modified_since.is_some() || options.if_unmodified_since.is_some();
    !options.head && !tags && !times
}

/// The part of an object of `size` bytes that `range` asks for.
fn asked(range: Option<&GetRange>, size: u64) -> Option<Range<u64>> {
    match range {
        None => Some(0..size),
        Some(range) => range.as_range(size).ok(),
    }
}

#[async_trait]
impl ObjectStore for ScopedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !options.head {
            self.scope.touch(location);
        }
        let plain = is_plain(&options);
        let known = match &options.range {
            Some(GetRange::Bounded(range)) if plain => self.scope.heads.part(location, range),
            _ => None,
        };
        if let Some(known) = known {
            return Ok(known.result());
        }
        if plain && matches!(&options.range, Some(GetRange::Bounded(range)) if range.start == 0 && range.end <= HEAD) {
            let mut result = self.get_kept(location, options).await?;
            let attributes = std::mem::take(&mut result.attributes);
            let head = Answer::of(result).await?;
            self.scope.heads.put(location.clone(), head.clone());
            return Ok(GetResult { attributes, ..head.result() });
        }
        // What the query knows the version of is read as that version, and need not be asked for on a condition.
        let pinned = self.scope.pinned(location);
        if let Some(asked) = Asked::of(location, options.range.as_ref()).filter(|_| plain && pinned.is_none()) {
            return self.get_remembered(asked, location, options).await;
        }
        let size = pinned.map(|object| object.size);
        let whole = size.and_then(|size| asked(options.range.as_ref(), size));
        let long = whole.filter(|range| !options.head && range.end - range.start > PIECE && !self.stores.is_local(location));
        let Some(range) = long else { return self.get_kept(location, options).await };
        let rest = self.pieces(location, &options, range.start + PIECE..range.end);
        let first = self.get_kept(location, options.with_range(Some(range.start..range.start + PIECE))).await?;
        let (meta, attributes) = (first.meta.clone(), first.attributes.clone());
        let payload = GetResultPayload::Stream(first.into_stream().chain(rest).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.scope.touch(location);
        if let Some(parts) = self.read_cache(location, ranges).await? {
            return Ok(parts);
        }
        let fetch =
            |range: Range<u64>| async move { self.get_pinned(location, GetOptions::new().with_range(Some(range))).await?.bytes().await };
        coalesce_ranges(ranges, fetch, COALESCE).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let request = self.lists(prefix);
        let listed = self.stores.list(prefix);
        let lasts_as_long = move |_: &Result<ObjectMeta>| {
            let _ = &request;
        };
        listed.inspect(lasts_as_long).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let request = self.lists(prefix);
        let listed = self.stores.list_with_delimiter(prefix).await;
        drop(request);
        listed
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let request = self.scope.request(location, Operation::Put);
        request.failed_or(self.stores.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let request = self.scope.request(location, Operation::Put);
        request.failed_or(self.stores.put_multipart_opts(location, options).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.stores.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.stores.copy_opts(from, to, options).await
    }
}

impl fmt::Display for ScopedStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("lake")
    }
}

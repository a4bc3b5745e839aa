//! The virtual object store.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, Location, StoreName, nearest};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use percent_encoding::percent_decode_str;

use crate::answers::{Answers, Asked};
use crate::cache::BlockCache;
use crate::listings::Listings;
use crate::mount::Mount;
use crate::reads::ReadScope;
use crate::writing::Targets;
use crate::{CacheSpec, Pattern, Place, StoreSpec, Unnamed, Writing, local};

/// The first segment of paths on this machine that belong to no named store.
const LOCAL: &str = "file";
/// The first segments of what belongs to no named store but is reached by its URL alone; the bucket or the host is the second.
const UNNAMED: [&str; 4] = ["s3", "gs", "https", "http"];

/// The folder of the tables that SQL makes, in the store that is written to.
pub const TABLES: &str = "tables";

/// How many objects are deleted at once.
const CONCURRENT_DELETES: usize = 8;

/// The URL under which an engine registers its stores.
///
/// It has no host: the store's name is the first segment of the *path*, because DataFusion's caches know an object by its path alone.
pub fn lake_url() -> &'static str {
    "lake:///"
}

/// One object store over all stores of a lake: `<store>/<path>`.
///
/// Names of URL schemes are reserved for what no store names: `file/<absolute path>`, `s3/<bucket>/<key>`, `https/<host>/<path>`.
#[derive(Debug)]
pub struct Stores {
    mounts: RwLock<BTreeMap<String, Arc<Mount>>>,
    base: PathBuf,
    unnamed: Unnamed,
    /// The store that targets without one are written to.
    write_to: RwLock<Option<StoreName>>,
    targets: Targets,
    remembered: Arc<Answers<Asked>>,
    listed: Listed,
    cache: Option<Arc<BlockCache>>,
}

/// What stores listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    objects: Arc<Listings<ObjectMeta>>,
    folders: Arc<Listings<Path>>,
}

impl Listed {
    /// Forgets what names anything at or below `place`, or what it is a part of.
    pub(crate) fn forget(&self, place: &Path) {
        self.objects.forget(place);
        self.folders.forget(place);
    }

    fn clear(&self) {
        self.objects.clear();
        self.folders.clear();
    }
}

/// Where a virtual path leads.
struct Route {
    mount: Arc<Mount>,
    outside: Path,
    path: Path,
}

impl Stores {
    /// Small objects as queries saw them.
    pub(crate) fn remembered(&self) -> &Answers<Asked> {
        &self.remembered
    }

    /// Stores over the given places. Relative locations stand below `base`; `unnamed` says how a URL is read that no named store covers.
    pub fn new(base: impl Into<PathBuf>, unnamed: Unnamed, specs: Vec<StoreSpec>) -> Self {
        let mounts = specs.into_iter().map(|spec| (spec.name.as_str().to_owned(), Arc::new(Mount::open(spec)))).collect();
        Self {
            mounts: RwLock::new(mounts),
            base: base.into(),
            unnamed,
            write_to: RwLock::default(),
            targets: Targets::default(),
            remembered: Arc::default(),
            listed: Listed::default(),
            cache: None,
        }
    }

    /// Writes targets that name no store to this one.
    #[must_use]
    pub fn with_write_to(mut self, store: Option<StoreName>) -> Self {
        self.write_to = RwLock::new(store);
        self
    }

    /// Keeps blocks of the objects of remote stores on local disk.
    #[must_use]
    pub fn with_cache(mut self, spec: Option<CacheSpec>) -> Self {
        self.cache = spec.map(|spec| Arc::new(BlockCache::new(spec)));
        self
    }

    /// The stores as they are now: what is replaced later stays for those who have this.
    #[must_use]
    pub fn now(&self) -> Self {
        Self {
            mounts: RwLock::new(self.mounts.read().unwrap_or_else(PoisonError::into_inner).clone()),
            base: self.base.clone(),
            unnamed: self.unnamed.clone(),
            write_to: RwLock::new(self.write_to.read().unwrap_or_else(PoisonError::into_inner).clone()),
            targets: self.targets.clone(),
            remembered: Arc::clone(&self.remembered),
            listed: self.listed.clone(),
            cache: self.cache.clone(),
        }
    }

    /// Replaces `before`, named stores, by others, and the one that targets without a store are written to.
    pub fn replace(&self, before: &[StoreName], specs: Vec<StoreSpec>, write_to: Option<StoreName>) {
        let opened: Vec<_> = specs.into_iter().map(|spec| (spec.name.as_str().to_owned(), Arc::new(Mount::open(spec)))).collect();
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        before.iter().for_each(|name| drop(mounts.remove(name.as_str())));
        mounts.extend(opened);
        self.listed.clear();
        *self.write_to.write().unwrap_or_else(PoisonError::into_inner) = write_to;
    }

    /// The folder below which relative locations stand.
    pub fn base(&self) -> &FilePath {
        &self.base
    }

    /// The names of the stores.
    pub fn names(&self) -> Vec<String> {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        mounts.keys().filter(|name| !name.contains('/')).cloned().collect()
    }

    /// Forgets what is kept of the objects at `location`: small ones in memory, blocks on local disk.
    ///
    /// # Errors
    /// As [`Stores::resolve`].
    pub async fn forget(&self, location: &Location) -> lacus_core::Result<()> {
        let pattern = self.resolve(location)?;
        self.remembered.forget(|asked| asked.is_below(pattern.prefix()));
        self.listed.forget(pattern.prefix());
        if let Some((cache, folder)) = self.cache(pattern.prefix()) {
            cache.forget(folder).await;
        }
        Ok(())
    }

    /// Whether anything can be written.
    pub fn is_writable(&self) -> bool {
        self.mounts.read().unwrap_or_else(PoisonError::into_inner).values().any(|mount| mount.spec.writable)
    }

    /// Adds or replaces a store.
    pub fn add(&self, spec: StoreSpec) {
        let name = spec.name.as_str().to_owned();
        self.mounts.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(Mount::open(spec)));
        self.listed.clear();
    }

    /// The objects that match `pattern`, as [`Pattern::list`] finds them through `store`, these stores as a query sees them; or as it found
    /// them within the `listing_ttl` of the store. The query is held to their versions from here on.
    ///
    /// # Errors
    /// As [`Pattern::list`]; `ObjectChanged` when the query saw another version of one of them before.
    pub async fn objects(
        &self,
        pattern: &Pattern,
        store: &dyn ObjectStore,
        scope: Option<&ReadScope>,
    ) -> lacus_core::Result<Arc<Vec<ObjectMeta>>> {
        let listings = &self.listed.objects;
        let found = listings.get(pattern, self.listing_ttl(pattern.prefix()), self.known_since(scope), pattern.list(store)).await?;
        if let Some(scope) = scope {
            scope.pin_all(&found).map_err(|location| self.changed(&location, "was replaced"))?;
        }
        Ok(found)
    }

    /// The folders that match `pattern`, as [`Pattern::folders`] finds them, or found them within the `listing_ttl` of the store.
    ///
    /// # Errors
    /// As [`Pattern::folders`].
    pub async fn folders(
        &self,
        pattern: &Pattern,
        store: &dyn ObjectStore,
        scope: Option<&ReadScope>,
    ) -> lacus_core::Result<Arc<Vec<Path>>> {
        let listings = &self.listed.folders;
        listings.get(pattern, self.listing_ttl(pattern.prefix()), self.known_since(scope), pattern.folders(store)).await
    }

    /// How often listings had been forgotten when the query of `scope` began to know the stores, or now.
    fn known_since(&self, scope: Option<&ReadScope>) -> u64 {
        scope.map_or_else(|| self.forgotten(), ReadScope::forgotten)
    }

    /// How often listings were forgotten so far: those of folders are forgotten together with those of objects.
    pub(crate) fn forgotten(&self) -> u64 {
        self.listed.objects.forgotten()
    }

    /// How long what the store of `location` tells of its objects is taken for true.
    fn listing_ttl(&self, location: &Path) -> Duration {
        self.route(location).map_or(Duration::ZERO, |route| route.mount.spec.listing_ttl)
    }

    /// The error for an object that is not what a query took it for; nor is it taken for that again.
    pub(crate) fn changed(&self, location: &Path, how: &str) -> Error {
        self.listed.forget(location);
        let message = format!("`{}` {how} while it was read", self.shown(location));
        Error::new(Kind::ObjectChanged, message).hint("run the query again")
    }

    /// The objects that `location` names.
    ///
    /// # Errors
    /// `NotFound` for an unknown store, with the nearest; `Unsupported` for a scheme that Lacus doesn't read;
    /// `InvalidConfiguration` for an `s3://` URL that several stores cover.
    pub fn resolve(&self, location: &Location) -> lacus_core::Result<Pattern> {
        let shown = location.to_string();
        match location {
            Location::Store { store, path } => {
                self.known(store.as_str())?;
                Pattern::new(shown, &Path::from(store.as_str()), path)
            }
            Location::Path(path) => self.resolve_file(shown, path),
            Location::Url { scheme, rest } if scheme == LOCAL => self.resolve_file(shown, FilePath::new(rest)),
            Location::Url { scheme, rest } => self.resolve_url(shown, scheme, rest),
        }
    }

    /// Whether a store can be used at all: its folder is there, its credentials are.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, name: &str) -> lacus_core::Result<()> {
        self.known(name)?;
        match &self.mount(name)?.store {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone().with("store", name)),
        }
    }

    /// The place that `location` names for something new, in a store that may be written.
    ///
    /// # Errors
    /// `PermissionDenied` when the store isn't writable, or no store is named; `InvalidQuery` when the path can't be one place.
    pub fn target(&self, location: &Location) -> lacus_core::Result<Path> {
        let write_to = self.write_to();
        let (store, path) = match (location, &write_to) {
            (Location::Store { store, path }, _) => (store, path.clone()),
            (Location::Path(path), Some(store)) if path.is_relative() => (store, path.to_string_lossy().into_owned()),
            _ => return Err(outside_of_stores(location)),
        };
        self.known(store.as_str())?;
        if !self.mount(store.as_str())?.spec.writable {
            return Err(read_only(store.as_str()));
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !["", "."].contains(segment)).collect();
        let wrong = |why: String| Error::new(Kind::InvalidQuery, format!("`{path}` can't be written: {why}")).with("store", store);
        if segments.is_empty() {
            return Err(wrong("it names nothing in the store".to_owned()));
        }
        if write_to.as_ref() == Some(store) && segments[0] == TABLES {
            return Err(wrong(format!("`{TABLES}/` is where the tables of the lake lie")));
        }
        if path.contains(['*', '?', '[', ']', '{', '}']) {
            return Err(wrong("it would be read as a pattern of names".to_owned()));
        }
        let whole = std::iter::once(store.as_str()).chain(segments).collect::<Vec<_>>().join("/");
        Path::parse(whole).map_err(|error| wrong(error.to_string()))
    }

    /// The store that targets without one are written to.
    pub fn write_to(&self) -> Option<StoreName> {
        self.write_to.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to write what `location` names, through `store`: these stores, as a query sees them.
    ///
    /// # Errors
    /// As [`Stores::target`], and `AlreadyExists` when something is there.
    pub async fn write(&self, location: &Location, store: Arc<dyn ObjectStore>) -> lacus_core::Result<Writing> {
        let target = self.target(location)?;
        let shown = self.shown(&target);
        Writing::begin(store, target, &shown, &self.targets, self.listed.clone()).await
    }

    /// Refuses what would change a store that can be read only.
    fn writable(&self, location: &Path) -> Result<Route> {
        let route = self.route(location)?;
        match route.mount.spec.writable {
            true => Ok(route),
            false => Err(store_error(read_only(route.outside.as_ref()))),
        }
    }

    fn known(&self, name: &str) -> lacus_core::Result<()> {
        let names = self.names();
        if names.iter().any(|known| known == name) {
            return Ok(());
        }
        let unknown = Error::new(Kind::NotFound, format!("no store `{name}`"));
        Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None => unknown.hint(format!("declare [store.{name}] in the lake file")),
        })
    }

    fn resolve_file(&self, shown: String, path: &FilePath) -> lacus_core::Result<Pattern> {
        let text = |path: &FilePath| {
            let text = path.to_str().map(|text| text.trim_matches('/').to_owned());
            text.ok_or_else(|| Error::new(Kind::Unsupported, format!("the path `{shown}` is not UTF-8")))
        };
        let folder = if shown.ends_with('/') { "/" } else { "" };
        let inside = path.is_relative() && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // Only what the person wrote can be a glob, not the folder that it stands in.
        let (root, below) = match inside {
            true => (text(&local::absolute(&self.base, FilePath::new("")))?, text(&local::absolute(FilePath::new(""), path))?),
            false => (String::new(), text(&local::absolute(&self.base, path))?),
        };
        let root = Path::parse(format!("{LOCAL}/{root}"))
            .map_err(|error| Error::new(Kind::Unsupported, format!("the folder can't be read: {error}")).with("location", &shown))?;
        Pattern::new(shown, &root, &format!("{below}{folder}"))
    }

    /// A URL: below the store that covers it, else by a mount of its own.
    fn resolve_url(&self, shown: String, scheme: &str, rest: &str) -> lacus_core::Result<Pattern> {
        let (scheme, rest) = match scheme {
            "s3a" => ("s3", Cow::Borrowed(rest)),
            "gcs" => ("gs", Cow::Borrowed(rest)),
            // What is pasted from a browser is escaped; names are not.
            "http" | "https" => (scheme, percent_decode_str(rest).decode_utf8().unwrap_or(Cow::Borrowed(rest))),
            _ => (scheme, Cow::Borrowed(rest)),
        };
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        let covering: Vec<(&str, &str)> = mounts
            .iter()
            .filter(|(name, _)| !name.contains('/'))
            .filter_map(|(name, mount)| {
                let (own, root) = mount.root()?;
                let below = rest.strip_prefix(root.as_str()).filter(|below| own == scheme && (below.is_empty() || below.starts_with('/')));
                Some((name.as_str(), below?))
            })
            .collect();
        match covering.as_slice() {
            [] if UNNAMED.contains(&scheme) => {
                let (authority, key) = rest.split_once('/').unwrap_or((&rest, ""));
                Pattern::new(shown, &Path::from_iter([scheme, authority]), key)
            }
            [] => Err(Error::new(Kind::Unsupported, format!("`{scheme}://` can't be read by URL alone"))
                .with("location", &shown)
                .hint("declare a [store.NAME] with this `url` in the lake file, and write 'NAME:path'")),
            [(name, below)] => Pattern::new(shown, &Path::from(*name), below),
            several => {
                let names = several.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
                Err(Error::new(Kind::InvalidConfiguration, format!("the stores {names} both cover this URL"))
                    .with("location", shown)
                    .hint(format!("write `{}:...`", several[0].0)))
            }
        }
    }

    /// A virtual path as a person would write it.
    pub fn shown(&self, location: &Path) -> String {
        let mut parts = location.parts().map(|part| part.as_ref().to_owned());
        let first = parts.next().unwrap_or_default();
        let rest = parts.collect::<Vec<_>>().join("/");
        match first.as_str() {
            LOCAL => format!("/{rest}"),
            scheme if UNNAMED.contains(&scheme) => format!("{scheme}://{rest}"),
            store => format!("{store}:{rest}"),
        }
    }

    /// The address by which other programs find the object of a virtual path: `file://`, `s3://`, `https://`.
    ///
    /// # Errors
    /// `Unsupported` for a store that has no such address.
    pub fn url(&self, location: &Path) -> lacus_core::Result<String> {
        let route = self.route(location).map_err(|error| Error::from(error).with("file", self.shown(location)))?;
        match &route.mount.spec.place {
            Place::Folder(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                Ok(format!("file://{}", folder.join(route.path.as_ref()).display()))
            }
            _ => match route.mount.address(&route.path) {
                Some(address) => Ok(address),
                None => {
                    Err(Error::new(Kind::Unsupported, "the store has no address for other programs").with("file", self.shown(location)))
                }
            },
        }
    }

    /// Whether reading `location` is reading a file of this machine.
    pub fn is_local(&self, location: &Path) -> bool {
        self.route(location).is_ok_and(|route| matches!(route.mount.spec.place, Place::Folder(_)))
    }

    /// The cache for what is at `location`, and its name there.
    pub(crate) fn cache(&self, location: &Path) -> Option<(&BlockCache, String)> {
        let cache = self.cache.as_deref()?;
        let route = self.route(location).ok()?;
        Some((cache, format!("{}\n{}", route.mount.cache_name()?, route.path)))
    }

    fn route(&self, location: &Path) -> Result<Route> {
        let mut parts = location.parts();
        let first = parts.next().map(|part| part.as_ref().to_owned()).unwrap_or_default();
        let name = match first.as_str() {
            scheme if UNNAMED.contains(&scheme) => {
                format!("{scheme}/{}", parts.next().map(|part| part.as_ref().to_owned()).unwrap_or_default())
            }
            _ => first,
        };
        let below = Path::from_iter(parts);
        let mount = self.mount(&name).map_err(store_error)?;
        if let Err(error) = &mount.store {
            return Err(store_error(error.clone().with("store", &name)));
        }
        let path = Path::from_iter(mount.inside.parts().chain(below.parts()));
        Ok(Route { mount, outside: Path::from(name), path })
    }

    fn mount(&self, name: &str) -> lacus_core::Result<Arc<Mount>> {
        if let Some(mount) = self.mounts.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(mount));
        }
        let mount = match name.split_once('/') {
            None if name == LOCAL => Mount::machine(),
            Some((scheme, authority)) => Mount::unnamed(&self.unnamed, scheme, authority),
            _ => return Err(Error::new(Kind::NotFound, format!("no store `{name}`"))),
        };
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(mounts.entry(name.to_owned()).or_insert(Arc::new(mount))))
    }
}

impl Route {
    fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        self.mount.store.as_ref().map_err(|error| store_error(error.clone()))
    }

    /// A path of the store as a path of the lake.
    fn outward(mount: &Mount, outside: &Path, path: &Path) -> Path {
        // Both are paths already: joined as texts they are one, and need not be taken apart.
        if let Some(Ok(whole)) = mount.inside.is_root().then(|| Path::parse(format!("{outside}/{path}"))) {
            return whole;
        }
        match path.prefix_match(&mount.inside) {
            Some(rest) => Path::from_iter(outside.parts().chain(rest)),
            None => Path::from_iter(outside.parts().chain(path.parts())),
        }
    }

    fn outward_meta(&self, mut object: ObjectMeta) -> ObjectMeta {
        object.location = Self::outward(&self.mount, &self.outside, &object.location);
        object
    }
}

fn read_only(store: &str) -> Error {
    Error::new(Kind::PermissionDenied, format!("the store `{store}` can be read, not written"))
        .hint(format!("write `writable = true` under [store.{store}] in the lake file"))
}

fn outside_of_stores(location: &Location) -> Error {
    let error = Error::new(Kind::PermissionDenied, format!("`{location}` lies in no store, and only stores can be written"));
    match location {
        Location::Path(path) if path.is_relative() => {
            error.hint(format!("write 'STORE:{location}', or `write_to = \"STORE\"` under [lake] in the lake file"))
        }
        _ => error.hint("declare a [store.NAME] with its `url` and `writable = true` in the lake file, and write 'NAME:...'"),
    }
}

fn store_error(error: Error) -> object_store::Error {
    match error.kind() {
        Kind::NotFound => object_store::Error::NotFound { path: String::new(), source: Box::new(error) },
        _ => object_store::Error::Generic { store: "lake", source: Box::new(error) },
    }
}

/// Says which object an error of a store is about, in one line that a person can act on. The variants that callers branch on stay.
fn explain(error: object_store::Error, shown: &str) -> object_store::Error {
    if Error::find(&error).is_some() {
        return error;
    }
    let path = shown.to_owned();
    match error {
        object_store::Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket") => {
            let error = Error::new(Kind::NotFound, format!("no object `{shown}`")).because(source);
            object_store::Error::NotFound { path, source: Box::new(error) }
        }
        object_store::Error::AlreadyExists { source, .. } => object_store::Error::AlreadyExists { path, source },
        object_store::Error::Precondition { source, .. } => object_store::Error::Precondition { path, source },
        object_store::Error::NotModified { source, .. } => object_store::Error::NotModified { path, source },
        object_store::Error::NotFound { source, .. } => {
            let error = Error::new(Kind::NotFound, "the bucket does not exist").with("object", shown).because(source);
            let error = error.hint("check the `url` and the `endpoint` of the store");
            object_store::Error::Generic { store: "lake", source: Box::new(error) }
        }
        other => {
            let error = Error::from(other).with("object", shown);
            object_store::Error::Generic { store: "lake", source: Box::new(error) }
        }
    }
}

async fn within<T>(patience: Duration, shown: &str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(result) => result.map_err(|error| explain(error, shown)),
        Err(_) => Err(store_error(timed_out(patience, shown))),
    }
}

fn timed_out(patience: Duration, shown: &str) -> Error {
    Error::new(Kind::Unavailable, format!("no answer within {} s", patience.as_secs()))
        .with("object", shown)
        .hint("check that the server answers and the file system is mounted, or raise `timeout` of the store")
}

/// Each item of a listing or a body must come in time; the whole may take as long as it takes.
fn each_within<T: Send + 'static>(
    patience: Duration,
    shown: String,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    stream::try_unfold((items, shown), move |(mut items, shown)| async move {
        // What is there already needs no timer: a listing has a hundred thousand items.
        let item = match items.try_next().now_or_never() {
            Some(item) => item.map_err(|error| explain(error, &shown))?,
            None => within(patience, &shown, items.try_next()).await?,
        };
        Ok(item.map(|item| (item, (items, shown))))
    })
    .boxed()
}

#[async_trait]
impl ObjectStore for Stores {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let route = self.route(location)?;
        let (patience, shown) = (route.mount.patience(), self.shown(location));
        let mut result = within(patience, &shown, route.store()?.get_opts(&route.path, options)).await?;
        result.meta.location = location.clone();
        if let GetResultPayload::Stream(body) = result.payload {
            result.payload = GetResultPayload::Stream(each_within(patience, shown, body));
        }
        Ok(result)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        let route = match self.route(&prefix) {
            Ok(route) => route,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let items = match route.store() {
            Ok(store) => store.list(Some(&route.path)),
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let items = each_within(route.mount.patience(), self.shown(&prefix), items);
        items.map_ok(move |object| route.outward_meta(object)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let route = self.route(&prefix)?;
        let call = route.store()?.list_with_delimiter(Some(&route.path));
        let listed = within(route.mount.patience(), &self.shown(&prefix), call).await?;
        let folders = listed.common_prefixes.iter().map(|path| Route::outward(&route.mount, &route.outside, path)).collect();
        let objects = listed.objects.into_iter().map(|object| route.outward_meta(object)).collect();
        Ok(ListResult { common_prefixes: folders, objects })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let route = self.writable(location)?;
        let call = route.store()?.put_opts(&route.path, payload, options);
        within(route.mount.patience(), &self.shown(location), call).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let route = self.writable(location)?;
        let call = route.store()?.put_multipart_opts(&route.path, options);
        within(route.mount.patience(), &self.shown(location), call).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // The stream may outlive the call, so it takes along the mounts in which anything can be deleted.
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let delete = move |location: Result<Path>| {
            let found = location.and_then(|location| {
                let store = location.parts().next().map(|part| part.as_ref().to_owned()).unwrap_or_default();
                match mounts.get(&store).filter(|mount| mount.spec.writable) {
                    Some(mount) => Ok((Arc::clone(mount), location)),
                    None => Err(store_error(read_only(&store))),
                }
            });
            async move {
                let (mount, location) = found?;
                let store = mount.store.as_ref().map_err(|error| store_error(error.clone()))?;
                let path = Path::from_iter(mount.inside.parts().chain(location.parts().skip(1)));
                within(mount.patience(), location.as_ref(), store.delete(&path)).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(CONCURRENT_DELETES).boxed()
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target) = (self.route(from)?, self.writable(to)?);
        if source.outside != target.outside {
            return Err(store_error(Error::new(Kind::Unsupported, "an object can't be copied from store to store")));
        }
        let call = source.store()?.copy_opts(&source.path, &target.path, options);
        within(source.mount.patience(), &self.shown(from), call).await
    }
}

impl fmt::Display for Stores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("lake")
    }
}

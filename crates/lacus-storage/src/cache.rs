//! Blocks of the objects of remote stores, kept on local disk.
//!
//! ```text
//! ranges of one version -> blocks on disk + fetches of others under way + what is left, in few requests -> bytes
//! ```
//!
//! What is asked for is fetched, and no more: a reader of few bytes of many chunks pays for these bytes with the cache as without it. Nothing
//! is answered from here for a reader that doesn't know the version of the object, and no failure of the disk is one of a query.

mod contents;
mod disk;
mod entry;
mod flights;
mod ranges;
mod reading;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use lacus_core::{Error, Kind};
use object_store::ObjectMeta;
use tokio::sync::OnceCell;

use self::disk::Disk;
use self::entry::Version;
use self::flights::Flights;
use crate::reads::held;

/// An object without an entity tag that is younger may be changed within the second that its time tells.
const SETTLED: Duration = Duration::from_secs(2);

/// Where blocks of remote objects are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// The folder. It is made when the first block is to be kept, and belongs to one process at a time.
    pub folder: PathBuf,
    /// How many bytes there may be in it.
    pub bytes: u64,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus {
    /// Bytes on disk.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Whether another process uses it.
    pub in_use: bool,
}

impl CacheSpec {
    /// The least that is worth a cache.
    pub const LEAST: u64 = 16 * 1024 * 1024;

    /// What is kept now. Changes nothing.
    ///
    /// # Errors
    /// When the folder can't be read; that there is none is no error.
    pub fn status(&self) -> lacus_core::Result<CacheStatus> {
        let usage = match disk::look(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk::Usage::default(),
            usage => usage.map_err(|error| self.wrong(format!("can't be read: {error}")))?,
        };
        Ok(CacheStatus { bytes: usage.bytes, blocks: usage.blocks, in_use: disk::in_use(&self.folder) })
    }

    /// Removes all blocks, and tells how much that was.
    ///
    /// # Errors
    /// When another process uses the folder, or it can't be changed.
    pub fn clear(&self) -> lacus_core::Result<CacheStatus> {
        let before = self.status()?;
        if before.bytes > 0 {
            let cached = Cached::open(self).map_err(|why| self.wrong(format!("can't be cleared: {why}")))?;
            cached.disk.clear();
            if self.status()?.bytes > 0 {
                return Err(self.wrong("can't be cleared: its files can't be removed".to_owned()));
            }
        }
        Ok(before)
    }

    fn wrong(&self, what: String) -> Error {
        Error::new(Kind::Unavailable, format!("the block cache {what}")).with("folder", self.folder.display()).retryable(false)
    }
}

/// The cache of an engine: opened by the first read that could use it.
#[derive(Debug)]
pub(crate) struct BlockCache {
    spec: CacheSpec,
    opened: OnceCell<Result<Arc<Cached>, String>>,
}

/// A folder that is open in this process, however many engines read through it.
#[derive(Debug)]
pub(crate) struct Cached {
    disk: Disk,
    flights: Arc<Flights>,
}

/// The folders that are open in this process: a second lock of one would be refused as that of another process is.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Cached>>> = Mutex::new(BTreeMap::new());

impl Cached {
    fn open(spec: &CacheSpec) -> Result<Arc<Self>, String> {
        let folder = std::path::absolute(&spec.folder).unwrap_or_else(|_| spec.folder.clone());
        let mut open = held(&OPEN);
        open.retain(|_, cached| cached.strong_count() > 0);
        if let Some(cached) = open.get(&folder).and_then(Weak::upgrade) {
            return Ok(cached);
        }
        let cached = Arc::new(Self { disk: Disk::open(&folder, spec.bytes)?, flights: Arc::default() });
        open.insert(folder, Arc::downgrade(&cached));
        Ok(cached)
    }
}

impl BlockCache {
    pub(crate) fn new(spec: CacheSpec) -> Self {
        Self { spec, opened: OnceCell::new() }
    }

    /// The cache, unless its folder can't be used.
    pub(crate) async fn get(&self) -> Option<Arc<Cached>> {
        let open = || async {
            let spec = self.spec.clone();
            let opened = tokio::task::spawn_blocking(move || Cached::open(&spec)).await;
            opened.unwrap_or_else(|_| Err("the program is ending".to_owned()))
        };
        self.opened.get_or_init(open).await.clone().ok()
    }

    /// Forgets the blocks of an object, or of all below a folder.
    pub(crate) async fn forget(&self, object: String) {
        let Some(cached) = self.get().await else { return };
        // When the program is ending nobody asks again.
        let _ = tokio::task::spawn_blocking(move || cached.disk.forget(&object)).await;
    }

    /// Why blocks are not kept, or not for now.
    pub(crate) fn warning(&self) -> Option<String> {
        match self.opened.get()? {
            Ok(cached) => cached.disk.warning(),
            Err(why) => Some(format!("the block cache is not used: {why}")),
        }
    }
}

/// An object by its server and path, in one version; `None` when the version isn't told surely enough to keep bytes for longer than a query.
pub(crate) fn version(object: String, meta: &ObjectMeta) -> Option<Version> {
    let size = meta.size;
    let version = match &meta.e_tag {
        // A weak tag says that two versions mean the same, not that they are the same bytes.
        Some(tag) if tag.starts_with("W/") => return None,
        Some(tag) => format!("{size} {tag}"),
        None => {
            let changed = meta.last_modified;
            let settled = SystemTime::now().duration_since(changed.into()).is_ok_and(|age| age > SETTLED);
            (settled && changed.timestamp() > 0).then(|| format!("{size} at {}", changed.timestamp()))?
        }
    };
    Some(Version { object: object.into(), version: version.into() })
}

//! An object as the parser wants to read it: byte ranges, at once.
//!
//! The parser is synchronous, so it runs on a blocking thread and waits there for the store. Blocks are kept while it runs: metadata
//! lies close together.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::{Storage, StorageBuffer};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use super::index::FileFacts;

/// Metadata is read in blocks of this size: large enough that neighbours come along, small enough not to download the file.
const BLOCK: u64 = 64 * 1024;
/// A longer range is data; it is read as it is and not kept.
const LONGEST_KEPT: u64 = 1024 * 1024;

/// An object behind the parser's storage trait.
pub(super) struct ObjectBytes {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
    /// Where offsets count from.
    base: u64,
    runtime: Handle,
    blocks: Mutex<HashMap<u64, Bytes>>,
}

impl ObjectBytes {
    /// The object of `size` bytes at `location`, of which `head` is known already. Call within a tokio runtime.
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: Path, size: u64, head: &Bytes) -> Self {
        let whole = head.len() as u64 == size;
        let blocks = (0..(head.len() as u64).div_ceil(BLOCK)).filter_map(|block| {
            let range = (block * BLOCK) as usize..(((block + 1) * BLOCK) as usize).min(head.len());
            (whole || range.len() as u64 == BLOCK).then(|| (block, head.slice(range)))
        });
        let blocks = Mutex::new(blocks.collect());
        Self { store, location, size, base: 0, runtime: Handle::current(), blocks }
    }

    /// The file of `facts`, in which offsets count from the superblock as its addresses do. Call within a tokio runtime.
    pub(super) fn behind(facts: &FileFacts, store: Arc<dyn ObjectStore>) -> Self {
        Self { base: facts.base, ..Self::new(store, facts.location.clone(), facts.size, &Bytes::new()) }
    }

    fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        let length = range.end - range.start;
        let bytes = self.runtime.block_on(self.store.get_range(&self.location, range))?;
        if bytes.len() as u64 != length {
            return Err(Error::new(Kind::CorruptData, "the object is shorter than it was").hint("run the query again"));
        }
        Ok(bytes)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.end - range.start > LONGEST_KEPT {
            return Ok(self.fetch(range)?.into());
        }
        let (first, last) = (range.start / BLOCK, range.end.div_ceil(BLOCK));
        let known: Vec<Option<Bytes>> = {
            let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            (first..last).map(|block| blocks.get(&block).cloned()).collect()
        };
        let missing = |block: u64| known[(block - first) as usize].is_none();
        let mut fetched: HashMap<u64, Bytes> = HashMap::new();
        let mut block = first;
        while block < last {
            let end = (block..last).find(|block| !missing(*block)).unwrap_or(last);
            if end > block {
                let bytes = self.fetch(block * BLOCK..(end * BLOCK).min(self.size))?;
                for (place, number) in (block..end).enumerate() {
                    let start = place * BLOCK as usize;
                    fetched.insert(number, bytes.slice(start..(start + BLOCK as usize).min(bytes.len())));
                }
            }
            block = end.max(block + 1);
        }
        let mut all = Vec::with_capacity((range.end - range.start) as usize);
        for (number, known) in (first..last).zip(&known) {
            let Some(bytes) = known.as_ref().or_else(|| fetched.get(&number)) else { continue };
            let from = range.start.saturating_sub(number * BLOCK) as usize;
            let to = (range.end - number * BLOCK).min(bytes.len() as u64) as usize;
            all.extend_from_slice(&bytes[from..to]);
        }
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).extend(fetched);
        Ok(all)
    }
}

impl Storage for ObjectBytes {
    fn len(&self) -> u64 {
        self.size.saturating_sub(self.base)
    }

    fn read_range(&self, offset: u64, len: usize) -> Result<StorageBuffer, Hdf5Error> {
        let available = self.len().saturating_sub(offset);
        let needed = len as u64;
        if needed > available {
            return Err(Hdf5Error::UnexpectedEof { offset, needed, available });
        }
        if len == 0 {
            return Ok(StorageBuffer::from_vec(Vec::new()));
        }
        let bytes =
            self.read(self.base + offset..self.base + offset + needed).map_err(|error| Hdf5Error::Io(std::io::Error::other(error)))?;
        Ok(StorageBuffer::from_vec(bytes))
    }
}

/// What the parser says, in the words of Lacus; what the store said comes back as it was.
pub(super) fn explained(error: Hdf5Error) -> Error {
    match &error {
        Hdf5Error::Io(inner) => match inner.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(known) => known.clone(),
            None => Error::new(Kind::Unavailable, inner.to_string()).because(error),
        },
        Hdf5Error::UnsupportedFilter(filter) => {
            Error::new(Kind::Unsupported, format!("the data is stored with {filter}, which can't be read"))
        }
        Hdf5Error::UnsupportedLayoutClass(3) => Error::new(Kind::Unsupported, "a virtual dataset can't be read"),
        other if format!("{other:?}").starts_with("Unsupported") => Error::new(Kind::Unsupported, other.to_string()),
        other => Error::new(Kind::CorruptData, other.to_string()),
    }
}

/// Runs the parser on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(Kind::Internal, format!("the parser stopped: {error}"))),
    }
}

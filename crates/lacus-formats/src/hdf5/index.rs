//! Where the chunks of a dataset lie.
//!
//! B-trees ([`tree`]) and extensible arrays ([`extensible`]) are walked here, level by level: all pieces of a level that can hold a wanted
//! chunk are fetched at once. The other kinds of index lie in one piece; the parser collects them, and they are kept whole.

mod extensible;
mod tree;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hdf5_reader::checksum::jenkins_lookup3;
use hdf5_reader::chunk_index::{ChunkEntry, collect_implicit_chunk_entries, single_chunk_entry};
use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::fixed_array::collect_fixed_array_chunk_entries_storage;
use hdf5_reader::io::Cursor;
use hdf5_reader::messages::layout::ChunkIndexing;
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;

use super::storage::{ObjectBytes, blocking, explained};
use extensible::ExtensibleArray;
use tree::Tree;

/// Pieces of an index fetched at once.
const CONCURRENT_PIECES: usize = 32;
/// A piece of an index that says to be longer than this is none: those that HDF5 writes have some kilobytes.
const LONGEST_PIECE: u64 = 64 << 20;
/// The length of a checksum.
const CHECKSUM: u64 = 4;

/// Where a chunk lies in the file, and which of its filters were skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) mask: u32,
}

/// The places of chunks by their offsets in cells.
type ChunkPlaces = HashMap<Vec<u64>, ChunkPlace>;

/// What the file says of itself once, for all datasets.
#[derive(Debug, Clone)]
pub(super) struct FileFacts {
    pub(super) location: Path,
    pub(super) size: u64,
    /// Where addresses count from.
    pub(super) base: u64,
    pub(super) offset_size: u8,
    pub(super) length_size: u8,
}

impl FileFacts {
    /// The `length` bytes of an index at `address`, or those that the file has of them.
    async fn piece(&self, address: u64, length: u64, store: &Arc<dyn ObjectStore>) -> Result<Bytes> {
        let start = self.base.saturating_add(address);
        if start >= self.size || length > LONGEST_PIECE {
            let problem = format!("the index of chunks names {length} bytes at {start} in a file of {}", self.size);
            return Err(Error::new(Kind::CorruptData, problem));
        }
        Ok(store.get_range(&self.location, start..start.saturating_add(length).min(self.size)).await?)
    }

    /// Why the piece at `address` can't be read.
    fn unread(&self, error: Hdf5Error, address: u64) -> Error {
        explained(error).with("index of chunks at", self.base.saturating_add(address))
    }

    fn is_defined(&self, address: u64) -> bool {
        !Cursor::is_undefined_offset(address, self.offset_size)
    }

    /// Where a chunk lies that an index says to be at `address`; `None` if it was never written.
    fn place(&self, address: u64, size: u64, mask: u32) -> Option<ChunkPlace> {
        self.is_defined(address).then(|| ChunkPlace { address: self.base.saturating_add(address), size, mask })
    }
}

/// How an index says where a chunk is: its address, and of a filtered one how long it is and which filters were skipped.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The bytes that say how long a filtered chunk is.
    size_width: Option<usize>,
}

impl Entry {
    /// An entry of so many bytes; `None` when none has as many.
    fn of(bytes: u64, filtered: bool, file: &FileFacts) -> Option<Self> {
        let rest = bytes.checked_sub(u64::from(file.offset_size))?;
        if !filtered {
            return (rest == 0).then_some(Self { size_width: None });
        }
        let width = rest.checked_sub(4).filter(|width| (1..=8).contains(width))?;
        Some(Self { size_width: Some(width as usize) })
    }

    fn read(self, cursor: &mut Cursor<'_>, chunked: &Chunked, file: &FileFacts) -> Result<Option<ChunkPlace>, Hdf5Error> {
        let address = cursor.read_offset(file.offset_size)?;
        let (size, mask) = match self.size_width {
            Some(width) => (cursor.read_uvar(width)?, cursor.read_u32_le()?),
            None => (chunked.whole_chunk(), 0),
        };
        Ok(file.place(address, size, mask))
    }
}

/// Compares a piece of an index with the checksum at its end.
fn check(bytes: &[u8]) -> Result<(), Hdf5Error> {
    let end = bytes.len().saturating_sub(CHECKSUM as usize);
    let expected = Cursor::new(&bytes[end..]).read_u32_le()?;
    let actual = jenkins_lookup3(&bytes[..end]);
    if expected == actual { Ok(()) } else { Err(Hdf5Error::ChecksumMismatch { expected, actual }) }
}

/// A dataset in chunks, as its index counts them.
#[derive(Debug)]
pub(super) struct Chunked {
    /// The extent of a chunk along each dimension.
    pub(super) chunk: Vec<u32>,
    /// The extent of the dataset as stored.
    pub(super) shape: Vec<u64>,
    /// The extents that it can grow to.
    pub(super) most: Option<Vec<u64>>,
    /// The bytes of an element.
    pub(super) width: usize,
}

impl Chunked {
    fn whole_chunk(&self) -> u64 {
        self.chunk.iter().fold(self.width as u64, |product, extent| product.saturating_mul(u64::from(*extent)))
    }

    /// The offsets, in cells, of a chunk.
    fn offsets(&self, chunk: &[u64]) -> Vec<u64> {
        chunk.iter().zip(&self.chunk).map(|(chunk, extent)| chunk * u64::from(*extent)).collect()
    }

    /// Whether the chunk lies inside of what is stored: dimensions may have grown since.
    fn is_stored(&self, chunk: &[u64]) -> bool {
        self.offsets(chunk).iter().zip(&self.shape).all(|(offset, extent)| offset < extent)
    }
}

/// Pieces of an index by their addresses; each is read once, however many partitions want it.
#[derive(Debug)]
struct Pieces<T>(Mutex<HashMap<u64, Arc<OnceCell<Arc<T>>>>>);

impl<T> Pieces<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    async fn get(&self, address: u64, read: impl Future<Output = Result<T>>) -> Result<Arc<T>> {
        let cell = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default());
        cell.get_or_try_init(|| async { Ok(Arc::new(read.await?)) }).await.cloned()
    }
}

/// The index of one chunked dataset.
#[derive(Debug)]
pub(super) struct ChunkIndex {
    chunked: Arc<Chunked>,
    kind: IndexKind,
}

#[derive(Debug)]
enum IndexKind {
    Tree(Tree),
    Extensible(ExtensibleArray),
    /// An index in one piece, and what is in it once somebody asked.
    Whole(Arc<Whole>, OnceCell<ChunkPlaces>),
}

/// An index in one piece.
#[derive(Debug)]
struct Whole {
    address: u64,
    kind: ChunkIndexing,
}

impl ChunkIndex {
    /// The index at `address`; of a version 1 B-tree, layouts name no kind.
    pub(super) fn new(address: u64, kind: Option<&ChunkIndexing>, chunked: Chunked) -> Self {
        let kind = match kind {
            None => IndexKind::Tree(Tree::version_1(address)),
            Some(ChunkIndexing::BTreeV2) => IndexKind::Tree(Tree::version_2(address)),
            Some(ChunkIndexing::ExtensibleArray { .. }) => IndexKind::Extensible(ExtensibleArray::new(address)),
            Some(kind) => IndexKind::Whole(Arc::new(Whole { address, kind: kind.clone() }), OnceCell::new()),
        };
        Self { chunked: Arc::new(chunked), kind }
    }

    /// The places of `chunks`; `None` for those that were never written.
    pub(super) async fn find(
        &self,
        chunks: &[Vec<u64>],
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<Vec<Option<ChunkPlace>>> {
        let stored: Vec<&[u64]> = chunks.iter().map(Vec::as_slice).filter(|chunk| self.chunked.is_stored(chunk)).collect();
        if stored.is_empty() {
            return Ok(vec![None; chunks.len()]);
        }
        let found = match &self.kind {
            IndexKind::Tree(tree) => tree.find(&stored, &self.chunked, file, store).await?,
            IndexKind::Extensible(array) => array.find(&stored, &self.chunked, file, store).await?,
            IndexKind::Whole(whole, all) => {
                let all = all.get_or_try_init(|| collect(whole, &self.chunked, file, store)).await?;
                stored
                    .iter()
                    .filter_map(|chunk| all.get_key_value(&self.chunked.offsets(chunk)))
                    .map(|(at, place)| (at.clone(), *place))
                    .collect()
            }
        };
        Ok(chunks.iter().map(|chunk| found.get(&self.chunked.offsets(chunk)).copied()).collect())
    }
}

async fn collect(whole: &Arc<Whole>, chunked: &Arc<Chunked>, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<ChunkPlaces> {
    let storage = ObjectBytes::behind(file, Arc::clone(store));
    let (whole, chunked, file) = (Arc::clone(whole), Arc::clone(chunked), file.clone());
    blocking(move || {
        let entries = whole.entries(&chunked, &file, &storage).map_err(|error| file.unread(error, whole.address))?;
        let place = |entry: ChunkEntry| {
            let size = if entry.size == 0 { chunked.whole_chunk() } else { entry.size };
            Some((entry.offsets, file.place(entry.address, size, entry.filter_mask)?))
        };
        Ok(entries.into_iter().filter_map(place).collect())
    })
    .await
}

impl Whole {
    fn entries(&self, chunked: &Chunked, file: &FileFacts, storage: &ObjectBytes) -> Result<Vec<ChunkEntry>, Hdf5Error> {
        let Chunked { chunk, shape, width, .. } = chunked;
        match &self.kind {
            ChunkIndexing::SingleChunk { filtered_size, filters } => {
                Ok(vec![single_chunk_entry(self.address, *filtered_size, *filters, chunk.len())])
            }
            ChunkIndexing::Implicit => {
                collect_implicit_chunk_entries(self.address, shape, chunk, *width, None, file.size.saturating_sub(file.base))
            }
            _ => collect_fixed_array_chunk_entries_storage(storage, self.address, file.offset_size, file.length_size, shape, chunk, None),
        }
    }
}

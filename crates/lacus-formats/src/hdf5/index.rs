//! Where the chunks of a dataset lie.
//!
//! A version 1 B-tree is walked here, level by level: all nodes of a level that can hold a wanted chunk are fetched at once. The other
//! kinds of index are compact; the parser collects them, and they are kept whole.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use hdf5_reader::Storage;
use hdf5_reader::btree_v1::{BTreeV1Key, BTreeV1Node};
use hdf5_reader::chunk_index::{ChunkEntry, collect_implicit_chunk_entries, collect_v2_chunk_entries_storage, single_chunk_entry};
use hdf5_reader::extensible_array::collect_extensible_array_chunk_entries_storage;
use hdf5_reader::fixed_array::collect_fixed_array_chunk_entries_storage;
use hdf5_reader::io::Cursor;
use hdf5_reader::messages::layout::ChunkIndexing;
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;

use super::storage::explained;

/// Nodes fetched at once.
const CONCURRENT_NODES: usize = 32;
/// Half of the children of a node, unless the file says otherwise.
const USUAL_RANK: u64 = 32;
/// A tree deeper than this is none.
const DEEPEST: u8 = 64;

/// Where a chunk lies in the file, and which of its filters were skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) mask: u32,
}

/// The places of chunks by their offsets in cells.
pub(super) type ChunkPlaces = HashMap<Vec<u64>, ChunkPlace>;

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

/// The index of one chunked dataset.
#[derive(Debug)]
pub(super) struct ChunkIndex {
    pub(super) address: u64,
    pub(super) kind: Option<ChunkIndexing>,
    /// The extent of a chunk along each dimension.
    pub(super) chunk: Vec<u32>,
    /// The extent of the dataset as stored.
    pub(super) shape: Vec<u64>,
    pub(super) most: Option<Vec<u64>>,
    pub(super) width: usize,
    /// Nodes by address; each is read once, however many partitions want it.
    pub(super) nodes: Mutex<HashMap<u64, Arc<OnceCell<Arc<BTreeV1Node>>>>>,
    pub(super) all: OnceCell<Arc<ChunkPlaces>>,
}

impl ChunkIndex {
    fn whole_chunk(&self) -> u64 {
        self.chunk.iter().fold(self.width as u64, |product, extent| product.saturating_mul(u64::from(*extent)))
    }

    /// The offsets, in cells, of a chunk.
    fn offsets(&self, chunk: &[u64]) -> Vec<u64> {
        chunk.iter().zip(&self.chunk).map(|(chunk, extent)| chunk * u64::from(*extent)).collect()
    }

    /// Whether the chunk lies inside of what is stored: dimensions may have grown since.
    fn is_stored(&self, offsets: &[u64]) -> bool {
        offsets.iter().zip(&self.shape).all(|(offset, extent)| offset < extent)
    }

    /// The places of `chunks` by version 1 B-tree; `None` for chunks that were never written.
    pub(super) async fn walk(
        &self,
        chunks: &[Vec<u64>],
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<Vec<Option<ChunkPlace>>> {
        let mut wanted: Vec<Vec<u64>> = chunks.iter().map(|chunk| self.offsets(chunk)).filter(|offsets| self.is_stored(offsets)).collect();
        wanted.sort();
        let mut found: HashMap<Vec<u64>, ChunkPlace> = HashMap::new();
        let mut level = if wanted.is_empty() { vec![] } else { vec![self.address] };
        // A node that is named twice, or by one below it, is no part of a tree.
        let mut visited: HashSet<u64> = HashSet::from([self.address]);
        for _ in 0..DEEPEST {
            if level.is_empty() {
                break;
            }
            let nodes = stream::iter(std::mem::take(&mut level)).map(|address| self.node(address, file, store));
            let nodes: Vec<Arc<BTreeV1Node>> = nodes.buffered(CONCURRENT_NODES).try_collect().await?;
            for node in nodes {
                for (place, child) in node.children.iter().enumerate() {
                    let (Some((low, size, mask)), Some((high, ..))) = (key(&node.keys[place]), key(&node.keys[place + 1])) else {
                        continue;
                    };
                    let rank = self.chunk.len();
                    let (low, high) = (&low[..rank.min(low.len())], &high[..rank.min(high.len())]);
                    if node.level == 0 {
                        if wanted.binary_search_by(|wanted| wanted.as_slice().cmp(low)).is_ok() {
                            found.insert(low.to_vec(), ChunkPlace { address: file.base + child, size: u64::from(size), mask });
                        }
                        continue;
                    }
                    let first = wanted.partition_point(|wanted| wanted.as_slice() < low);
                    // The last key of a level may be anything that is beyond all chunks below it, or zeros.
                    let last = place + 1 == node.children.len();
                    if wanted.get(first).is_some_and(|wanted| last || wanted.as_slice() < high) && visited.insert(*child) {
                        level.push(*child);
                    }
                }
            }
        }
        Ok(chunks.iter().map(|chunk| found.get(&self.offsets(chunk)).copied()).collect())
    }

    async fn node(&self, address: u64, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Arc<BTreeV1Node>> {
        let cell = Arc::clone(self.nodes.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default());
        cell.get_or_try_init(|| self.read_node(address, file, store)).await.cloned()
    }

    async fn read_node(&self, address: u64, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Arc<BTreeV1Node>> {
        let rank = self.chunk.len() as u64;
        let offset = u64::from(file.offset_size);
        let length = |children: u64| 8 + 2 * offset + children * offset + (children + 1) * (8 + 8 * (rank + 1));
        let start = file.base.saturating_add(address);
        let most = file.size.saturating_sub(start);
        let mut bytes = store.get_range(&file.location, start..start + length(2 * USUAL_RANK).min(most)).await?;
        let used = bytes.get(6..8).map_or(0, |used| u64::from(u16::from_le_bytes([used[0], used[1]])));
        if length(used) > bytes.len() as u64 {
            bytes = store.get_range(&file.location, start..start + length(used).min(most)).await?;
        }
        let mut cursor = Cursor::new(&bytes);
        let node = BTreeV1Node::parse(&mut cursor, file.offset_size, file.length_size, Some(self.chunk.len() as u32));
        Ok(Arc::new(node.map_err(|error| explained(error).with("index node at", start))?))
    }

    /// The whole of an index that is no version 1 B-tree. Waits for the storage.
    pub(super) fn collect(&self, file: &FileFacts, storage: &dyn Storage) -> Result<Arc<ChunkPlaces>> {
        let entries = self.entries(file, storage)?;
        let place = |entry: ChunkEntry| {
            let size = if entry.size == 0 { self.whole_chunk() } else { entry.size };
            (entry.offsets, ChunkPlace { address: file.base + entry.address, size, mask: entry.filter_mask })
        };
        Ok(Arc::new(entries.into_iter().map(place).collect()))
    }

    fn entries(&self, file: &FileFacts, storage: &dyn Storage) -> Result<Vec<ChunkEntry>> {
        let (offset, length) = (file.offset_size, file.length_size);
        let rank = self.chunk.len();
        let entries = match &self.kind {
            None => return Err(Error::new(Kind::Internal, "a version 1 B-tree is walked, not collected")),
            Some(ChunkIndexing::SingleChunk { filtered_size, filters }) => {
                Ok(vec![single_chunk_entry(self.address, *filtered_size, *filters, rank)])
            }
            Some(ChunkIndexing::BTreeV2) => {
                collect_v2_chunk_entries_storage(storage, self.address, offset, length, rank as u32, &self.chunk, None)
            }
            Some(ChunkIndexing::Implicit) => collect_implicit_chunk_entries(
                self.address,
                &self.shape,
                &self.chunk,
                self.width,
                None,
                file.size.saturating_sub(file.base),
            ),
            Some(ChunkIndexing::FixedArray { .. }) => {
                collect_fixed_array_chunk_entries_storage(storage, self.address, offset, length, &self.shape, &self.chunk, None)
            }
            Some(ChunkIndexing::ExtensibleArray { .. }) => collect_extensible_array_chunk_entries_storage(
                storage,
                self.address,
                offset,
                length,
                &self.shape,
                self.most.as_deref(),
                &self.chunk,
                None,
            ),
        };
        entries.map_err(explained)
    }

    /// The places of `chunks` in a collected index.
    pub(super) fn look_up(&self, all: &ChunkPlaces, chunks: &[Vec<u64>]) -> Vec<Option<ChunkPlace>> {
        let place = |chunk: &Vec<u64>| {
            Some(self.offsets(chunk)).filter(|offsets| self.is_stored(offsets)).and_then(|offsets| all.get(&offsets).copied())
        };
        chunks.iter().map(place).collect()
    }
}

fn key(key: &BTreeV1Key) -> Option<(&[u64], u32, u32)> {
    match key {
        BTreeV1Key::RawData { chunk_size, filter_mask, offsets } => Some((offsets, *chunk_size, *filter_mask)),
        BTreeV1Key::Group { .. } => None,
    }
}

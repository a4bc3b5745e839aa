//! B-trees of both versions.
//!
//! In version 1 only leaves name chunks, and the keys between the children of a node are bounds of what is below. In version 2 every node
//! names chunks, and those between its children are such bounds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hdf5_reader::btree_v1::{BTreeV1Key, BTreeV1Node};
use hdf5_reader::btree_v2::BTreeV2Header;
use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::io::Cursor;
use lacus_core::Result;
use object_store::ObjectStore;
use tokio::sync::OnceCell;

use super::{CHECKSUM, CONCURRENT_PIECES, ChunkPlace, ChunkPlaces, Chunked, Entry, FileFacts, Pieces, check};

/// Half of the children of a node of version 1, unless the file says otherwise.
const USUAL_RANK: u64 = 32;
/// A tree deeper than this is none.
const DEEPEST: u16 = 64;
/// What stands around the content of a node of version 2: signature, version, type, checksum.
const AROUND: u64 = 10;
/// The types of a tree of version 2 that holds chunks, without and with filters.
const PLAIN: u8 = 10;
const FILTERED: u8 = 11;

/// A tree and the nodes of it that were read.
#[derive(Debug)]
pub(super) struct Tree {
    address: u64,
    /// What a tree of version 2 says of its nodes.
    header: Option<OnceCell<Shape>>,
    nodes: Pieces<Node>,
}

/// A node to read; a tree of version 2 says how many records it has, and how many levels are below it.
#[derive(Debug, Clone, Copy)]
struct Pointer {
    address: u64,
    records: u64,
    below: u16,
}

#[derive(Debug)]
struct Node {
    /// The chunks that the node names, by their offsets.
    chunks: Vec<(Vec<u64>, Option<ChunkPlace>)>,
    children: Vec<Child>,
}

/// What a node says of one below it: all its chunks are at or behind `first`, and before `end`.
#[derive(Debug)]
struct Child {
    first: Option<Vec<u64>>,
    end: Option<Vec<u64>>,
    pointer: Pointer,
}

impl Tree {
    pub(super) fn version_1(address: u64) -> Self {
        Self { address, header: None, nodes: Pieces::new() }
    }

    pub(super) fn version_2(address: u64) -> Self {
        Self { address, header: Some(OnceCell::new()), nodes: Pieces::new() }
    }

    pub(super) async fn find(
        &self,
        chunks: &[&[u64]],
        chunked: &Chunked,
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<ChunkPlaces> {
        let mut wanted: Vec<Vec<u64>> = chunks.iter().map(|chunk| chunked.offsets(chunk)).collect();
        wanted.sort();
        let mut found: ChunkPlaces = HashMap::new();
        let shape = match &self.header {
            Some(header) => Some(header.get_or_try_init(|| Shape::read(self.address, chunked, file, store)).await?),
            None => None,
        };
        let root = Pointer { address: self.address, records: 0, below: DEEPEST };
        let mut level = vec![shape.map_or(root, |shape| shape.root)];
        level.retain(|root| file.is_defined(root.address));
        // A node that is named twice, or by one below it, is no part of a tree.
        let mut visited: HashSet<u64> = level.iter().map(|root| root.address).collect();
        for _ in 0..=DEEPEST {
            if level.is_empty() {
                break;
            }
            let nodes = stream::iter(std::mem::take(&mut level)).map(|pointer| self.node(pointer, shape, chunked, file, store));
            let nodes: Vec<Arc<Node>> = nodes.buffered(CONCURRENT_PIECES).try_collect().await?;
            for node in nodes {
                let named = node.chunks.iter().filter(|(offsets, _)| wanted.binary_search(offsets).is_ok());
                found.extend(named.filter_map(|(offsets, place)| Some((offsets.clone(), (*place)?))));
                let may_hold = node.children.iter().filter(|child| child.may_hold(&wanted) && visited.insert(child.pointer.address));
                level.extend(may_hold.map(|child| child.pointer));
            }
        }
        match level.first() {
            Some(deeper) => Err(file.unread(Hdf5Error::InvalidData(format!("a B-tree of more than {DEEPEST} levels")), deeper.address)),
            None => Ok(found),
        }
    }

    async fn node(
        &self,
        pointer: Pointer,
        shape: Option<&Shape>,
        chunked: &Chunked,
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<Arc<Node>> {
        let read = async {
            match shape {
                None => version_1(pointer.address, chunked, file, store).await,
                Some(shape) => {
                    let bytes = file.piece(pointer.address, shape.node_size, store).await?;
                    shape.node(pointer, &bytes, chunked, file).map_err(|error| file.unread(error, pointer.address))
                }
            }
        };
        self.nodes.get(pointer.address, read).await
    }
}

impl Child {
    fn may_hold(&self, wanted: &[Vec<u64>]) -> bool {
        let first = self.first.as_ref().map_or(0, |first| wanted.partition_point(|wanted| wanted < first));
        wanted.get(first).is_some_and(|wanted| self.end.as_ref().is_none_or(|end| wanted < end))
    }
}

async fn version_1(address: u64, chunked: &Chunked, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Node> {
    let rank = chunked.chunk.len();
    let offset = u64::from(file.offset_size);
    let length = |children: u64| 8 + 2 * offset + children * offset + (children + 1) * (8 + 8 * (rank as u64 + 1));
    let mut bytes = file.piece(address, length(2 * USUAL_RANK), store).await?;
    let used = bytes.get(6..8).map_or(0, |used| u64::from(u16::from_le_bytes([used[0], used[1]])));
    if used > 2 * USUAL_RANK {
        bytes = file.piece(address, length(used), store).await?;
    }
    let parsed = BTreeV1Node::parse(&mut Cursor::new(&bytes), file.offset_size, file.length_size, Some(rank as u32));
    let parsed = parsed.map_err(|error| file.unread(error, address))?;
    let mut node = Node { chunks: Vec::new(), children: Vec::new() };
    for (place, child) in parsed.children.iter().enumerate() {
        let (Some((first, size, mask)), Some((end, ..))) = (key(&parsed.keys[place], rank), key(&parsed.keys[place + 1], rank)) else {
            continue;
        };
        if parsed.level == 0 {
            node.chunks.push((first, file.place(*child, u64::from(size), mask)));
            continue;
        }
        // The last key of a level may be anything that is beyond all chunks below it, or zeros.
        let end = (place + 1 < parsed.children.len()).then_some(end);
        node.children.push(Child { first: Some(first), end, pointer: Pointer { address: *child, records: 0, below: 0 } });
    }
    Ok(node)
}

fn key(key: &BTreeV1Key, rank: usize) -> Option<(Vec<u64>, u32, u32)> {
    match key {
        BTreeV1Key::RawData { chunk_size, filter_mask, offsets } => {
            Some((offsets.iter().take(rank).copied().collect(), *chunk_size, *filter_mask))
        }
        BTreeV1Key::Group { .. } => None,
    }
}

/// What a tree of version 2 says of its nodes.
#[derive(Debug)]
struct Shape {
    root: Pointer,
    node_size: u64,
    entry: Entry,
    /// By the levels below a node: the bytes that say how many records a child has, and how many it and all below it have.
    widths: Vec<(usize, usize)>,
}

impl Shape {
    async fn read(address: u64, chunked: &Chunked, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Self> {
        let length = 22 + u64::from(file.offset_size) + u64::from(file.length_size);
        let bytes = file.piece(address, length, store).await?;
        let header = BTreeV2Header::parse(&mut Cursor::new(&bytes), file.offset_size, file.length_size);
        header.and_then(|header| Self::of(&header, chunked, file)).map_err(|error| file.unread(error, address))
    }

    fn of(header: &BTreeV2Header, chunked: &Chunked, file: &FileFacts) -> Result<Self, Hdf5Error> {
        let invalid = |what: String| Err(Hdf5Error::InvalidData(what));
        if ![PLAIN, FILTERED].contains(&header.btree_type) || header.depth > DEEPEST {
            return invalid(format!("a B-tree of type {} and depth {} is no index of chunks", header.btree_type, header.depth));
        }
        let (offset, record) = (u64::from(file.offset_size), u64::from(header.record_size));
        let entry = record.checked_sub(8 * chunked.chunk.len() as u64);
        let Some(entry) = entry.and_then(|bytes| Entry::of(bytes, header.btree_type == FILTERED, file)) else {
            return invalid(format!("a B-tree with records of {record} bytes is no index of {} dimensions", chunked.chunk.len()));
        };
        let node_size = u64::from(header.node_size);
        let room = node_size.saturating_sub(AROUND);
        // A leaf holds the most records, so a child's are counted in as many bytes at each level.
        let leaf = room / record.max(1);
        let own = counted_in(leaf);
        let mut widths = vec![(0, 0)];
        let (mut all, mut total) = (leaf, 0);
        for _ in 0..header.depth {
            widths.push((own, total));
            let pointer = offset + (own + total) as u64;
            let records = room.saturating_sub(pointer) / (record + pointer);
            all = (records + 1).saturating_mul(all).saturating_add(records);
            total = counted_in(all);
        }
        let root = Pointer { address: header.root_node_address, records: u64::from(header.num_records_in_root), below: header.depth };
        Ok(Self { root, node_size, entry, widths })
    }

    fn node(&self, pointer: Pointer, bytes: &[u8], chunked: &Chunked, file: &FileFacts) -> Result<Node, Hdf5Error> {
        let mut cursor = Cursor::new(bytes);
        let (signature, context) = if pointer.below == 0 { (b"BTLF", "leaf") } else { (b"BTIN", "internal node") };
        if cursor.read_bytes(4)? != signature {
            return Err(Hdf5Error::InvalidBTreeV2Signature { context });
        }
        let version = cursor.read_u8()?;
        if version != 0 {
            return Err(Hdf5Error::UnsupportedBTreeVersion(version));
        }
        cursor.skip(1)?;
        let chunks = (0..pointer.records).map(|_| self.record(&mut cursor, chunked, file)).collect::<Result<Vec<_>, _>>()?;
        let mut children = Vec::new();
        if pointer.below > 0 {
            let (own, total) = self.widths.get(usize::from(pointer.below)).copied().unwrap_or_default();
            for place in 0..=chunks.len() {
                let address = cursor.read_offset(file.offset_size)?;
                let records = cursor.read_uvar(own)?;
                cursor.skip(total)?;
                // A child begins behind the chunk before it: what is longer, and alike as far as both go, is behind.
                let first = place.checked_sub(1).map(|before| [chunks[before].0.as_slice(), &[0]].concat());
                let end = chunks.get(place).map(|(offsets, _)| offsets.clone());
                children.push(Child { first, end, pointer: Pointer { address, records, below: pointer.below - 1 } });
            }
        }
        cursor.skip(CHECKSUM as usize)?;
        check(&bytes[..cursor.position() as usize])?;
        Ok(Node { chunks, children })
    }

    fn record(&self, cursor: &mut Cursor<'_>, chunked: &Chunked, file: &FileFacts) -> Result<(Vec<u64>, Option<ChunkPlace>), Hdf5Error> {
        let place = self.entry.read(cursor, chunked, file)?;
        let offsets = chunked.chunk.iter().map(|extent| Ok(cursor.read_u64_le()?.saturating_mul(u64::from(*extent))));
        Ok((offsets.collect::<Result<Vec<u64>, Hdf5Error>>()?, place))
    }
}

/// The bytes that a number up to `most` takes.
fn counted_in(most: u64) -> usize {
    (most.max(1).ilog2() / 8 + 1) as usize
}

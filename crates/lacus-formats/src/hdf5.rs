//! HDF5 files, and what is HDF5 inside: NetCDF-4, MATLAB v7.3, AnnData, NWB, NeXus, HDF-EOS5.
//!
//! `hdf5-reader` parses metadata and decodes filters. Chunks are located ([`index`]) and fetched here, through the stores of the lake.

mod filters;
mod index;
mod old_layout;
mod storage;
mod types;
mod walk;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::ArrayRef;
use async_trait::async_trait;
use bytes::Bytes;
use hdf5_reader::filters::{FILTER_SHUFFLE, FilterRegistry, apply_pipeline_with_limit};
use hdf5_reader::global_heap::GlobalHeapCollection;
use hdf5_reader::messages::filter_pipeline::FilterDescription;
use hdf5_reader::{Hdf5File, OpenOptions};
use lacus_array::{Container, GridStore, Heap, NoHeap, Opener, Place, Source, slab_range};
use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;

use index::{ChunkIndex, ChunkPlace, FileFacts};
use storage::{ObjectBytes, blocking, explained};

/// The signature; behind a user block it stands at 512, 1024, 2048, ...
const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Decoding may pass through a stage that is a little longer than the chunk, such as a checksum.
const DECODING_ROOM: usize = 4096;

static FILTERS: LazyLock<FilterRegistry> = LazyLock::new(filters::registry);

/// Opens HDF5 files. As NetCDF-4, single characters are parts of texts, and the default fill values of NetCDF mean "missing".
#[derive(Debug)]
pub(crate) struct Hdf5Opener {
    /// Whether the file is known to be NetCDF-4 by its name; one that says so itself is in any case.
    pub(crate) netcdf: bool,
}

#[async_trait]
impl Opener for Hdf5Opener {
    fn recognises(&self, head: &[u8]) -> bool {
        let starts = std::iter::successors(Some(512usize), |start| start.checked_mul(2)).take_while(|start| *start < head.len());
        std::iter::once(0).chain(starts).any(|start| head[start..].starts_with(MAGIC))
    }

    async fn open(&self, source: &Source) -> Result<Arc<dyn GridStore>> {
        let (store, object, netcdf) = (Arc::clone(&source.store), source.object.clone(), self.netcdf);
        let bytes = Arc::new(ObjectBytes::new(store, object.location.clone(), object.size, &source.head));
        let opened = blocking(move || {
            let file = Hdf5File::from_storage_with_options(bytes, options()).map_err(explained)?;
            let superblock = file.superblock();
            let facts = FileFacts {
                location: object.location.clone(),
                size: object.size,
                base: superblock.base_address,
                offset_size: superblock.offset_size,
                length_size: superblock.length_size,
            };
            walk::walk(&file, facts, netcdf)
        });
        Ok(Arc::new(opened.await?))
    }
}

fn options() -> OpenOptions {
    // Data is never read through the parser: its caches stay empty.
    OpenOptions { chunk_cache_bytes: 0, filter_registry: Some(filters::registry()), ..OpenOptions::default() }
}

/// How the bytes of a dataset are stored.
#[derive(Debug)]
enum Layout {
    /// Not at all, or in a way that the array's problem names.
    Nothing,
    /// In the metadata.
    Compact(Bytes),
    /// In one piece, at this address of the file.
    Contiguous(u64),
    /// In chunks.
    Chunked(Box<ChunkIndex>),
}

/// One opened file.
#[derive(Debug)]
struct Hdf5Store {
    facts: FileFacts,
    container: Container,
    layouts: Vec<Layout>,
    filters: Vec<Vec<FilterDescription>>,
    /// The paths of objects by their addresses, for references.
    paths: Arc<HashMap<u64, String>>,
}

impl Hdf5Store {
    fn place(&self, chunk: Option<ChunkPlace>) -> Place {
        match chunk {
            Some(ChunkPlace { address, size, mask }) => {
                Place::one_range(self.facts.location.clone(), address..address.saturating_add(size), mask)
            }
            None => Place::Missing,
        }
    }

    async fn locate_chunks(&self, index: &ChunkIndex, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        let places = index.find(chunks, &self.facts, store).await?;
        Ok(places.into_iter().map(|place| self.place(place)).collect())
    }
}

/// The width that bytes were shuffled by: that of the elements in the memory of the writer, which may differ from that in the file.
fn shuffled(filters: &[FilterDescription], width: usize) -> usize {
    let shuffle = filters.iter().find(|filter| filter.id == FILTER_SHUFFLE);
    shuffle.and_then(|filter| filter.client_data.first()).map_or(width, |width| *width as usize)
}

#[async_trait]
impl GridStore for Hdf5Store {
    fn container(&self) -> &Container {
        &self.container
    }

    async fn locate(&self, array: usize, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        let meta = &self.container.arrays[array];
        match &self.layouts[array] {
            Layout::Nothing => Ok(vec![Place::Missing; chunks.len()]),
            Layout::Compact(bytes) => Ok(vec![Place::Inline(bytes.clone()); chunks.len()]),
            Layout::Contiguous(address) => {
                let width = meta.element.width() as u64;
                let place = |chunk: &Vec<u64>| {
                    let (start, cells) = slab_range(&meta.shape, &meta.chunk, chunk);
                    self.place(Some(ChunkPlace {
                        address: address.saturating_add(start.saturating_mul(width)),
                        size: cells.saturating_mul(width),
                        mask: 0,
                    }))
                };
                Ok(chunks.iter().map(place).collect())
            }
            Layout::Chunked(index) => self.locate_chunks(index, chunks, store).await,
        }
    }

    async fn decode(&self, array: usize, chunk: &[u64], bytes: Bytes, flags: u32, store: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
        let meta = &self.container.arrays[array];
        let whole = usize::try_from(meta.chunk_bytes()).map_err(|_| Error::new(Kind::CorruptData, "a chunk larger than memory"))?;
        let filters = &self.filters[array];
        let mut decoded = match filters.is_empty() {
            true => Vec::from(bytes),
            false => {
                let limit = Some(whole.saturating_add(DECODING_ROOM));
                apply_pipeline_with_limit(&bytes, filters, flags, shuffled(filters, meta.element.width()), Some(&FILTERS), limit)
                    .map_err(explained)?
            }
        };
        match &self.layouts[array] {
            Layout::Contiguous(_) => {
                let (_, cells) = slab_range(&meta.shape, &meta.chunk, chunk);
                if decoded.len() as u64 == cells.saturating_mul(meta.element.width() as u64) {
                    decoded.resize(whole, 0);
                }
            }
            // Some filters round the last block up.
            _ if decoded.len() > whole => decoded.truncate(whole),
            _ => {}
        }
        if decoded.len() != whole {
            let error = Error::new(Kind::CorruptData, format!("a chunk has {} bytes where {whole} were expected", decoded.len()));
            return Err(error.with("chunk", format!("{chunk:?}")));
        }
        let element = meta.element.clone();
        if !element.needs_heap() {
            return element.decode(decoded, &NoHeap);
        }
        let storage = ObjectBytes::behind(&self.facts, Arc::clone(store));
        let heap = GlobalHeap { storage, facts: self.facts.clone(), paths: Arc::clone(&self.paths), collections: Mutex::default() };
        blocking(move || element.decode(decoded, &heap)).await
    }
}

/// Where values of varying length lie.
struct GlobalHeap {
    storage: ObjectBytes,
    facts: FileFacts,
    paths: Arc<HashMap<u64, String>>,
    collections: Mutex<HashMap<u64, Arc<GlobalHeapCollection>>>,
}

impl GlobalHeap {
    fn collection(&self, address: u64) -> Result<Arc<GlobalHeapCollection>> {
        let mut collections = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = collections.get(&address) {
            return Ok(Arc::clone(known));
        }
        let parsed = GlobalHeapCollection::parse_at_storage(&self.storage, address, self.facts.offset_size, self.facts.length_size);
        let parsed = Arc::new(parsed.map_err(explained)?);
        collections.insert(address, Arc::clone(&parsed));
        Ok(parsed)
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The parts of a reference into the heap: how many items, the collection, the object in it.
fn heap_reference(reference: &[u8], offset_size: u8) -> Option<(usize, u64, u16)> {
    let offset = usize::from(offset_size);
    let count = number(reference.get(..4)?) as usize;
    let address = number(reference.get(4..4 + offset)?);
    let index = u16::try_from(number(reference.get(4 + offset..8 + offset)?)).ok()?;
    Some((count, address, index))
}

impl Heap for GlobalHeap {
    fn sequence(&self, reference: &[u8], item: usize) -> Result<Vec<u8>> {
        let corrupt = |what: &str| Error::new(Kind::CorruptData, format!("a value of varying length {what}"));
        let (count, address, index) = heap_reference(reference, self.facts.offset_size).ok_or_else(|| corrupt("has no valid reference"))?;
        if count == 0 || index == 0 || address == 0 {
            return Ok(Vec::new());
        }
        let collection = self.collection(address)?;
        let object = collection.get_object(index).ok_or_else(|| corrupt("is not where its reference says"))?;
        let length = count.checked_mul(item).filter(|length| *length <= object.data.len());
        length.map(|length| object.data[..length].to_vec()).ok_or_else(|| corrupt("is shorter than its reference says"))
    }

    fn path(&self, reference: &[u8]) -> Result<Option<String>> {
        let address = number(&reference[..reference.len().min(usize::from(self.facts.offset_size))]);
        Ok(self.paths.get(&address).map(|path| format!("/{path}")))
    }
}

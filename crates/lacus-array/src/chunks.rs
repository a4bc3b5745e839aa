//! Decoded chunks: fetched together, decoded once, kept while a scan needs them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef};
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use lacus_core::{Error, Kind, Result};
use lacus_storage::Stores;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::cf::Decoding;
use crate::container::ArrayMeta;
use crate::element::repeated;
use crate::fetch::fetch;
use crate::format::{GridStore, Place};
use crate::index::Index;
use crate::mapping::Mapping;

/// Decoded chunks that one partition of a scan keeps for boxes to come.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// A container that was opened, and the tables in it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn GridStore>,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) object: Arc<ObjectMeta>,
    pub(crate) stores: Arc<Stores>,
    /// The index that describes it, and its row there.
    pub(crate) described: Option<(Arc<Index>, u32)>,
    /// Whether its values are decoded, as those whose bounds an index holds are.
    pub(crate) decoded: bool,
    /// Whether this query saw it in a listing; else it is there because the index says so.
    pub(crate) listed: bool,
}

impl Opened {
    pub(crate) fn array(&self, index: usize) -> &ArrayMeta {
        &self.store.container().arrays[index]
    }

    /// A number that containers of one mapping have in common.
    pub(crate) fn kind(&self) -> usize {
        Arc::as_ptr(&self.mapping) as usize
    }

    /// The location as a person would write it.
    pub(crate) fn shown(&self) -> String {
        self.stores.shown(&self.object.location)
    }

    /// The index that holds the bounds of its coordinates, and its row there.
    pub(crate) fn bounded(&self) -> Option<(&Arc<Index>, u32)> {
        self.described.as_ref().filter(|_| self.decoded).map(|(index, row)| (index, *row))
    }

    /// Says which array an error is about.
    pub(crate) fn name(&self, error: Error, array: usize) -> Error {
        self.name_file(error.with("array", self.array(array).path()))
    }

    /// Says which file an error is about.
    pub(crate) fn name_file(&self, error: Error) -> Error {
        let error = match error.kind() {
            Kind::NotFound | Kind::ObjectChanged if !self.listed => {
                let stale = Error::new(Kind::ObjectChanged, "the file is not there as the index of the dataset says").retryable(false);
                stale.because(error).hint("bring the index up to date: `lacus index build`")
            }
            _ => error,
        };
        error.with("file", self.shown())
    }
}

/// A chunk of an array within its container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) array: usize,
    /// Whether its values are as they are stored: of a ragged array both may be wanted, the indices and what they mean.
    pub(crate) raw: bool,
    pub(crate) chunk: Vec<u64>,
}

/// A chunk to read.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) key: ChunkKey,
    /// What its numbers mean.
    pub(crate) decoding: Arc<Decoding>,
    /// Whether boxes to come may want it too.
    pub(crate) again: bool,
}

/// Reads chunks of one container after the other, for one partition of a scan.
#[derive(Debug, Clone)]
pub(crate) struct ChunkReader {
    pub(crate) bytes: Arc<dyn ObjectStore>,
    pub(crate) pool: Arc<dyn MemoryPool>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By container too: the group of the next one is prepared while the last of this one still is.
    chunks: HashMap<(Path, ChunkKey), (u64, ArrayRef)>,
    bytes: usize,
    clock: u64,
}

/// The chunks of one array that are not at hand.
#[derive(Debug)]
struct Absent {
    decoding: Arc<Decoding>,
    again: bool,
    chunks: Vec<Vec<u64>>,
}

/// Decoded chunks, and the memory that they hold.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) chunks: HashMap<ChunkKey, ArrayRef>,
    pub(crate) fetched: usize,
    _memory: MemoryReservation,
}

impl ChunkReader {
    pub(crate) fn new(bytes: Arc<dyn ObjectStore>, pool: Arc<dyn MemoryPool>) -> Self {
        Self { bytes, pool, kept: Arc::default() }
    }

    /// The chunks that are wanted. Only those are kept that may be wanted again: memory that is free at once is used again.
    pub(crate) async fn read(&self, opened: &Opened, keys: Vec<Wanted>) -> Result<Decoded> {
        let container = &opened.object.location;
        let mut chunks = HashMap::new();
        let mut absent: HashMap<(usize, bool), Absent> = HashMap::new();
        let mut size = 0u64;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clock += 1;
            for Wanted { key, decoding, again } in keys {
                if let Some(array) = kept.get(&(container.clone(), key.clone())) {
                    chunks.insert(key, array);
                    continue;
                }
                size = size.saturating_add(opened.array(key.array).chunk_bytes());
                absent.entry((key.array, key.raw)).or_insert_with(|| Absent { decoding, again, chunks: Vec::new() }).chunks.push(key.chunk);
            }
        }
        let memory = self.reserve(opened, &absent, size)?;
        let fetched = absent.values().map(|absent| absent.chunks.len()).sum();
        let mut wanted = Vec::with_capacity(fetched);
        for ((array, raw), Absent { decoding, again, chunks }) in absent {
            let places = opened.store.locate(array, &chunks, &self.bytes).await.map_err(|error| opened.name(error, array))?;
            let key = |chunk| ChunkKey { array, raw, chunk };
            let chunk = |chunk| Wanted { key: key(chunk), decoding: Arc::clone(&decoding), again };
            wanted.extend(chunks.into_iter().map(chunk).zip(places));
        }
        for (Wanted { key, .. }, place) in &wanted {
            within(opened, place).map_err(|error| opened.name(error.with("chunk", format!("{:?}", key.chunk)), key.array))?;
        }
        let places: Vec<Place> = wanted.iter().map(|(_, place)| place.clone()).collect();
        let bytes = fetch(&self.bytes, &places).await.map_err(|error| opened.name_file(error))?;
        for ((Wanted { key, decoding, again }, place), bytes) in wanted.into_iter().zip(bytes) {
            let decoded = self.decode(opened, key.array, &key.chunk, &place, bytes, &decoding).await;
            let decoded = decoded.map_err(|error| opened.name(error, key.array))?;
            if again {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).put((container.clone(), key.clone()), &decoded);
            }
            chunks.insert(key, decoded);
        }
        Ok(Decoded { chunks, fetched, _memory: memory })
    }

    /// Memory is reserved before anything is decoded: a chunk larger than the limit is refused, not tried.
    fn reserve(&self, opened: &Opened, absent: &HashMap<(usize, bool), Absent>, size: u64) -> Result<MemoryReservation> {
        let memory = MemoryConsumer::new("array scan").register(&self.pool);
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        let Err(refused) = memory.try_grow(bytes) else { return Ok(memory) };
        let largest = absent.keys().map(|(array, _)| *array).max_by_key(|array| opened.array(*array).chunk_bytes());
        let limit = match self.pool.memory_limit() {
            MemoryLimit::Finite(limit) => format!(" of {limit} bytes"),
            _ => String::new(),
        };
        let error = Error::new(Kind::LimitExceeded, format!("{size} bytes of decoded chunks do not fit into the memory limit{limit}"));
        let error = match largest {
            Some(array) => {
                let meta = opened.array(array);
                opened.name(error.with("chunk", format!("{:?} = {} bytes", meta.chunk, meta.chunk_bytes())), array)
            }
            None => error,
        };
        Err(error.because(refused).hint("raise `memory` under [limits], or store the array in smaller chunks"))
    }

    async fn decode(
        &self,
        opened: &Opened,
        array: usize,
        chunk: &[u64],
        place: &Place,
        bytes: Option<bytes::Bytes>,
        decoding: &Decoding,
    ) -> Result<ArrayRef> {
        let meta = opened.array(array);
        let cells = meta.chunk.iter().try_fold(1usize, |product, extent| product.checked_mul(usize::try_from(*extent).ok()?));
        let cells = cells.ok_or_else(|| Error::new(Kind::CorruptData, "a chunk of more cells than memory has addresses"))?;
        let flags = if let Place::Ranges { flags, .. } = place { *flags } else { 0 };
        let raw = match bytes {
            Some(bytes) => opened.store.decode(array, chunk, bytes, flags, &self.bytes).await?,
            None => repeated(&meta.element, meta.fill.as_deref(), cells)?,
        };
        if raw.len() != cells {
            let error = Error::new(Kind::CorruptData, format!("a chunk holds {} elements, not {cells}", raw.len()));
            return Err(error.with("chunk", format!("{chunk:?}")));
        }
        if decoding.is_raw() { Ok(raw) } else { decoding.apply(&raw) }
    }
}

/// Refuses bytes beyond the end of the object that was listed.
pub(crate) fn within(opened: &Opened, place: &Place) -> Result<()> {
    let Place::Ranges { object, ranges, .. } = place else { return Ok(()) };
    let size = opened.object.size;
    match ranges.iter().find(|range| range.end > size) {
        Some(range) if *object == opened.object.location => {
            let message = format!("bytes {} to {} lie beyond the end of the file at {size}", range.start, range.end);
            Err(Error::new(Kind::CorruptData, message).hint("the file is truncated; copy it again"))
        }
        _ => Ok(()),
    }
}

impl Kept {
    fn get(&mut self, key: &(Path, ChunkKey)) -> Option<ArrayRef> {
        let clock = self.clock;
        let (used, array) = self.chunks.get_mut(key)?;
        *used = clock;
        Some(Arc::clone(array))
    }

    fn put(&mut self, key: (Path, ChunkKey), array: &ArrayRef) {
        let size = array.get_array_memory_size();
        if size > KEPT_BYTES {
            return;
        }
        while self.bytes + size > KEPT_BYTES {
            let oldest = self.chunks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            let Some((_, gone)) = oldest.and_then(|key| self.chunks.remove(&key)) else { break };
            self.bytes = self.bytes.saturating_sub(gone.get_array_memory_size());
        }
        self.bytes += size;
        if let Some((_, before)) = self.chunks.insert(key, (self.clock, Arc::clone(array))) {
            self.bytes = self.bytes.saturating_sub(before.get_array_memory_size());
        }
    }
}

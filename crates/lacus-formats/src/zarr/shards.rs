//! Shards: objects that hold many chunks, and an index of them at one end.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::{StreamExt, TryStreamExt, stream};
use lacus_array::Place;
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use tokio::sync::OnceCell;

/// Shard indices fetched at once.
const CONCURRENT_INDICES: usize = 16;
/// Indices that are kept for the query that read them.
const MOST_INDICES: usize = 4096;
/// The bytes of an absent chunk's place.
const ABSENT: u64 = u64::MAX;

/// How the chunks of an array lie in shards.
#[derive(Debug)]
pub(super) struct Shards {
    /// Chunks of a shard along each dimension.
    pub(super) chunks: Vec<u64>,
    /// Whether the index stands at the end of the shard.
    pub(super) at_end: bool,
    /// Whether a checksum follows the index.
    pub(super) checksum: bool,
    indices: Mutex<HashMap<Path, Kept>>,
}

/// An index, and the view of the stores through which it was read: another query has another view, and may see another shard.
#[derive(Debug)]
struct Kept {
    view: Weak<dyn ObjectStore>,
    /// Read once, however many partitions want it.
    index: Arc<OnceCell<Option<Arc<ShardIndex>>>>,
}

#[derive(Debug)]
struct ShardIndex {
    places: Vec<(u64, u64)>,
}

impl Shards {
    pub(super) fn new(chunks: Vec<u64>, at_end: bool, checksum: bool) -> Self {
        Self { chunks, at_end, checksum, indices: Mutex::default() }
    }

    /// The places of chunks, whose shards `object` names.
    pub(super) async fn locate(
        &self,
        chunks: &[Vec<u64>],
        store: &Arc<dyn ObjectStore>,
        object: impl Fn(&[u64]) -> Result<Path>,
    ) -> Result<Vec<Place>> {
        let shard_of = |chunk: &[u64]| -> Vec<u64> { chunk.iter().zip(&self.chunks).map(|(chunk, of)| chunk / of).collect() };
        let paths = chunks.iter().map(|chunk| object(&shard_of(chunk))).collect::<Result<Vec<Path>>>()?;
        let mut shards = paths.clone();
        shards.sort();
        shards.dedup();
        let read = stream::iter(shards).map(|shard| self.index(shard, Arc::clone(store))).buffered(CONCURRENT_INDICES);
        let indices: HashMap<Path, Option<Arc<ShardIndex>>> = read.try_collect().await?;
        let place = |(chunk, path): (&Vec<u64>, Path)| {
            let number = chunk.iter().zip(&self.chunks).fold(0, |number, (chunk, of)| number * of + chunk % of);
            let found = indices.get(&path).and_then(Option::as_ref).and_then(|index| index.places.get(number as usize));
            match found {
                Some((offset, length)) if (*offset, *length) != (ABSENT, ABSENT) => {
                    let range: Range<u64> = *offset..offset.saturating_add(*length);
                    Place::one_range(path, range, 0)
                }
                _ => Place::Missing,
            }
        };
        Ok(chunks.iter().zip(paths).map(place).collect())
    }

    async fn index(&self, shard: Path, store: Arc<dyn ObjectStore>) -> Result<(Path, Option<Arc<ShardIndex>>)> {
        let cell = {
            let mut kept = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
            let known = kept.get(&shard).filter(|kept| kept.view.upgrade().is_some_and(|view| Arc::ptr_eq(&view, &store)));
            match known {
                Some(known) => Arc::clone(&known.index),
                None => {
                    if kept.len() >= MOST_INDICES {
                        kept.clear();
                    }
                    let index = Arc::new(OnceCell::new());
                    kept.insert(shard.clone(), Kept { view: Arc::downgrade(&store), index: Arc::clone(&index) });
                    index
                }
            }
        };
        let index = cell.get_or_try_init(|| self.read(&shard, &store)).await?.clone();
        Ok((shard, index))
    }

    async fn read(&self, shard: &Path, store: &Arc<dyn ObjectStore>) -> Result<Option<Arc<ShardIndex>>> {
        let count = self.chunks.iter().product::<u64>();
        let length = count.saturating_mul(16) + if self.checksum { 4 } else { 0 };
        let range = if self.at_end { GetRange::Suffix(length) } else { GetRange::Bounded(0..length) };
        match store.get_opts(shard, GetOptions::new().with_range(Some(range))).await {
            Ok(result) => {
                let index = parse(&result.bytes().await?, length, count).map_err(|error| error.with("shard", shard))?;
                Ok(Some(Arc::new(index)))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(bytes: &[u8], length: u64, count: u64) -> Result<ShardIndex> {
    if bytes.len() as u64 != length {
        return Err(Error::new(Kind::CorruptData, format!("the index of a shard has {} bytes, not {length}", bytes.len())));
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let entries = bytes.chunks_exact(16).take(count as usize);
    Ok(ShardIndex { places: entries.map(|entry| (number(&entry[..8]), number(&entry[8..]))).collect() })
}

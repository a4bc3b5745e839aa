//! What every format must keep, as checks that a format runs in its own tests.
//!
//! [`check`] opens one container and compares all of it with what it is known to hold; [`check_damaged`] cuts and changes its bytes, which
//! must give errors or answers, and never a panic.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::{concat, take};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::container::ArrayMeta;
use crate::element::repeated;
use crate::fetch::fetch;
use crate::format::{Format, GridStore, Place};
use crate::source::read_container;

/// An array that a container is known to hold.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its path, without a leading `/`.
    pub path: String,
    /// The extent along each dimension.
    pub shape: Vec<u64>,
    /// The names of its dimensions, where people named them.
    pub dimensions: Vec<String>,
    /// All of its elements as stored, in C order.
    pub values: ArrayRef,
}

/// Opens the container at `location` and compares it with what it is known to hold.
///
/// What is checked: the container describes itself without contradiction; each expected array is there with its shape, its dimensions and
/// its values to the last bit; the places of chunks lie within their objects, come in the order asked for, and are the same when asked
/// again; every chunk decodes to as many elements as a whole chunk has, of the type that the metadata says.
///
/// # Errors
/// The first thing that does not hold, by array and chunk.
pub async fn check(format: &Format, store: &Arc<dyn ObjectStore>, location: &Path, expected: &[Expected]) -> Result<()> {
    let opened = open(format, store, location).await?;
    described(opened.as_ref())?;
    let arrays = &opened.container().arrays;
    for wanted in expected {
        let index = arrays.iter().position(|array| array.path() == wanted.path);
        let index = index.ok_or_else(|| broken(format!("there is no array `{}`", wanted.path)))?;
        let array = &arrays[index];
        let named = |error: Error| error.with("array", &wanted.path);
        if array.shape != wanted.shape {
            return Err(named(broken(format!("the shape is {:?}, not {:?}", array.shape, wanted.shape))));
        }
        let names: Vec<&str> = array.dimensions.iter().map(|dimension| dimension.name.as_str()).collect();
        if array.dimensions.iter().all(|dimension| dimension.named) && names != wanted.dimensions {
            return Err(named(broken(format!("the dimensions are {names:?}, not {:?}", wanted.dimensions))));
        }
        let values = values(opened.as_ref(), index, store).await.map_err(named)?;
        if values.to_data() != wanted.values.to_data() {
            return Err(named(broken(format!("the values are {values:?}, not {:?}", wanted.values))));
        }
    }
    Ok(())
}

/// Reads all that `bytes`, cut and changed in `rounds` ways, hold as a container of one object. Errors are right, answers are too; a panic
/// or an endless loop is what this finds, so run it under a time limit.
///
/// # Errors
/// When the bytes as they are can't be read.
pub async fn check_damaged(format: &Format, bytes: &Bytes, rounds: usize) -> Result<()> {
    let location = Path::from("damaged");
    let read = async |bytes: Bytes| -> Result<()> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&location, bytes.into()).await?;
        let opened = open(format, &store, &location).await?;
        for (index, array) in opened.container().arrays.iter().enumerate() {
            if array.problem.is_none() && array.elements() <= MOST_ELEMENTS && array.chunk_bytes() <= MOST_BYTES {
                values(opened.as_ref(), index, &store).await?;
            }
        }
        Ok(())
    };
    read(bytes.clone()).await?;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (below.max(1) as u64)).unwrap_or(0)
    };
    for round in 0..rounds {
        let mut changed = bytes.to_vec();
        match round % 3 {
            0 => changed.truncate(random(bytes.len())),
            _ => {
                // Metadata stands at the beginning of most files: that is where damage tells most.
                let within = if round % 2 == 0 { bytes.len() } else { bytes.len().min(4096) };
                for _ in 0..=random(4) {
                    let place = random(within);
                    if let Some(byte) = changed.get_mut(place) {
                        *byte = random(256) as u8;
                    }
                }
            }
        }
        // Either is right.
        let _ = read(changed.into()).await;
    }
    Ok(())
}

/// Damaged metadata may promise any size; more than this is not read.
const MOST_ELEMENTS: u64 = 1_000_000;
const MOST_BYTES: u64 = 64 * 1024 * 1024;

fn broken(what: impl Into<String>) -> Error {
    Error::new(Kind::Internal, what)
}

async fn open(format: &Format, store: &Arc<dyn ObjectStore>, location: &Path) -> Result<Arc<dyn GridStore>> {
    let object = match format.folder {
        true => ObjectMeta { location: location.clone(), last_modified: Default::default(), size: 0, e_tag: None, version: None },
        false => store.head(location).await?,
    };
    read_container(format, &object, Arc::clone(store)).await
}

/// What a container says of itself must not contradict itself.
fn described(opened: &dyn GridStore) -> Result<()> {
    let container = opened.container();
    if container.groups.first().is_none_or(|root| !root.path.is_empty()) {
        return Err(broken("the first group is not the root, whose path is empty"));
    }
    let groups: HashSet<&str> = container.groups.iter().map(|group| group.path.as_str()).collect();
    let mut paths = HashSet::new();
    for array in &container.arrays {
        let named = |what: String| Err(broken(what).with("array", array.path()));
        if !groups.contains(array.group.as_str()) {
            return named(format!("its group `{}` is not listed", array.group));
        }
        if !paths.insert(array.path()) {
            return named("it is listed twice".to_owned());
        }
        if array.problem.is_none() && (array.dimensions.len() != array.shape.len() || array.chunk.len() != array.shape.len()) {
            return named(format!("shape {:?}, chunk {:?} and {} dimensions", array.shape, array.chunk, array.dimensions.len()));
        }
    }
    Ok(())
}

/// All elements of an array in C order, out of all of its chunks.
async fn values(opened: &dyn GridStore, index: usize, store: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
    let array = &opened.container().arrays[index];
    let chunks = array.chunks();
    let places = located(opened, index, &chunks, store).await?;
    let bytes = fetch(store, &places).await?;
    let mut decoded = Vec::with_capacity(chunks.len());
    for ((chunk, place), bytes) in chunks.iter().zip(&places).zip(bytes) {
        let cells = usize::try_from(array.chunk.iter().product::<u64>()).map_err(|_| broken("a chunk larger than memory"))?;
        let flags = if let Place::Ranges { flags, .. } = place { *flags } else { 0 };
        let values = match bytes {
            Some(bytes) => opened.decode(index, chunk, bytes, flags, store).await?,
            None => repeated(&array.element, array.fill.as_deref(), cells)?,
        };
        if values.len() != cells || *values.data_type() != array.element.data_type() {
            let error =
                broken(format!("{} elements of {}, not {cells} of {}", values.len(), values.data_type(), array.element.data_type()));
            return Err(error.with("chunk", format!("{chunk:?}")));
        }
        decoded.push(values);
    }
    let whole: Vec<&dyn Array> = decoded.iter().map(AsRef::as_ref).collect();
    let whole = if whole.is_empty() { new_empty_array(&array.element.data_type()) } else { concat(&whole)? };
    Ok(take(&whole, &order(array), None)?)
}

/// The places of chunks, which must not depend on how they are asked for.
async fn located(opened: &dyn GridStore, index: usize, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
    let places = opened.locate(index, chunks, store).await?;
    let backward: Vec<Vec<u64>> = chunks.iter().rev().cloned().collect();
    let mut again = opened.locate(index, &backward, store).await?;
    again.reverse();
    if places.len() != chunks.len() || places != again {
        return Err(broken(format!("{} places of {} chunks, which depend on the order", places.len(), chunks.len())));
    }
    for (chunk, place) in chunks.iter().zip(&places) {
        let Place::Ranges { object, ranges, .. } = place else { continue };
        let size = store.head(object).await?.size;
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > size) {
            let error = Error::new(Kind::CorruptData, format!("bytes {range:?} of {size}"));
            return Err(error.with("chunk", format!("{chunk:?}")));
        }
    }
    Ok(places)
}

/// Where each element of an array stands among its chunks, which follow one another.
fn order(array: &ArrayMeta) -> arrow::array::UInt64Array {
    let rank = array.shape.len();
    let counts = array.chunk_counts();
    let of = |mut element: u64| {
        let (mut place, mut stride) = (0, 1);
        let mut index = vec![0; rank];
        for axis in (0..rank).rev() {
            index[axis] = element % array.shape[axis];
            element /= array.shape[axis];
        }
        for axis in (0..rank).rev() {
            place += index[axis] % array.chunk[axis] * stride;
            stride *= array.chunk[axis];
        }
        for axis in (0..rank).rev() {
            place += index[axis] / array.chunk[axis] * stride;
            stride *= counts[axis];
        }
        place
    };
    (0..array.elements()).map(of).collect::<Vec<_>>().into()
}

//! What an index knows as references: where the chunks of a Zarr 2 store lie that nobody has written. Kerchunk's forms, JSON and Parquet,
//! open with fsspec and xarray.
//!
//! ```text
//! index of a dataset -> pieces of each array as a chunk grid -> files one after the other along a dimension -> references
//! ```
//!
//! A chunk grid is one for all files, so what references can say is less than what a query reads: an array whose files differ in chunks,
//! codecs or packing is left out, with the reason.

mod write;
mod zarr2;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, sort_to_indices};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use bytes::Bytes;
use lacus_core::Result;

use crate::container::{ArrayMeta, Container};
use crate::element::joined_arrays;
use crate::index::{Index, Piece, place_of};
use crate::slabs::slab_range;

pub(crate) use write::{json, parquet};

/// Bytes of a chunk of what lies in one piece, at most, where the extents allow.
const SLAB_BYTES: u64 = 16 * 1024 * 1024;
/// Attributes that must be equal where the chunks of files stand in one array: they say what the bytes mean.
const MEANING: [&str; 11] = [
    "_FillValue",
    "_Unsigned",
    "add_offset",
    "calendar",
    "missing_value",
    "scale_factor",
    "standard_name",
    "units",
    "valid_max",
    "valid_min",
    "valid_range",
];

/// A Zarr 2 store as references.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The documents by their keys, as JSON.
    documents: BTreeMap<String, String>,
    arrays: Vec<ArrayReferences>,
    /// Arrays that references can't say, and why.
    pub(crate) left_out: Vec<(String, String)>,
}

/// The chunks of one array.
#[derive(Debug)]
struct ArrayReferences {
    path: String,
    /// How many chunks there are along each dimension.
    counts: Vec<u64>,
    /// By number in C order; `None` of those that were never written.
    chunks: Vec<Option<Reference>>,
}

/// Where a chunk lies.
#[derive(Debug, Clone)]
enum Reference {
    Range { url: Arc<str>, offset: u64, length: u64 },
    Inline(Bytes),
}

impl References {
    /// The number of arrays, and of chunks that are there.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let chunks = self.arrays.iter().flat_map(|array| &array.chunks).flatten().count();
        (self.arrays.len() as u64, chunks as u64)
    }
}

/// One file of a dataset.
pub(crate) struct FileChunks<'a> {
    pub(crate) url: Arc<str>,
    pub(crate) container: &'a Container,
    pub(crate) pieces: Option<&'a BTreeMap<String, Vec<Piece>>>,
}

/// The values of an array along the dimension in which files follow one another, and the attributes that say what they mean now.
pub(crate) struct Joined {
    pub(crate) values: ArrayRef,
    /// Of times that are counted anew.
    pub(crate) units: Option<(&'static str, &'static str)>,
}

/// The arrays along the dimension in which files follow one another, or why there is none of a path.
pub(crate) type JoinedArrays = BTreeMap<String, std::result::Result<Joined, String>>;

/// The files of an index, in the order of the bounds of the coordinate `concat` where all are known, else of their paths.
pub(crate) fn ordered(index: &Index, concat: Option<&str>) -> Result<Vec<u32>> {
    let rows = 0..index.len() as u32;
    let Some(low) = concat.and_then(|path| index.lows(path)) else { return Ok(rows.collect()) };
    Ok(sort_to_indices(low, None, None)?.values().to_vec())
}

/// The chunks of one array of one file.
enum Stored {
    /// In one piece, from this byte of the file.
    Whole(u64),
    /// In chunks of this extent.
    Chunks(Vec<u64>, Vec<Option<Reference>>),
}

/// The references to `files`, which follow one another along `concat` if they are several. `joined` holds the arrays along it alone.
pub(crate) fn references(files: &[FileChunks<'_>], concat: Option<&str>, joined: &JoinedArrays) -> References {
    let mut references = References::default();
    let Some(first) = files.first() else { return references };
    zarr2::groups(first.container, &mut references.documents);
    let names = zarr2::dimension_names(first.container);
    for (number, meta) in first.container.arrays.iter().enumerate().filter(|(_, meta)| !meta.only_dimension) {
        let path = meta.path();
        match array(files, number, concat, joined) {
            Ok(Described { shape, chunk, chunks, inline }) => {
                let missing = chunks.iter().any(Option::is_none);
                match zarr2::array(meta, &shape, &chunk, &names[number], missing, inline) {
                    Ok((zarray, zattrs)) => {
                        references.documents.insert(format!("{path}/.zarray"), zarray);
                        references.documents.insert(format!("{path}/.zattrs"), zattrs);
                        let counts = shape.iter().zip(&chunk).map(|(extent, chunk)| extent.div_ceil(*chunk)).collect();
                        references.arrays.push(ArrayReferences { path, counts, chunks });
                    }
                    Err(reason) => references.left_out.push((path, reason)),
                }
            }
            Err(reason) => references.left_out.push((path, reason)),
        }
    }
    let known = |path: &str| first.container.arrays.iter().any(|array| array.path() == path);
    let mut elsewhere: Vec<String> =
        files.iter().flat_map(|file| &file.container.arrays).filter(|array| !array.only_dimension).map(ArrayMeta::path).collect();
    elsewhere.sort();
    elsewhere.dedup();
    let elsewhere = elsewhere.into_iter().filter(|path| !known(path));
    references.left_out.extend(elsewhere.map(|path| (path, format!("it is not in {}", first.url))));
    references
}

/// An array of all files.
struct Described<'a> {
    shape: Vec<u64>,
    chunk: Vec<u64>,
    chunks: Vec<Option<Reference>>,
    inline: Option<&'a Joined>,
}

fn array<'a>(
    files: &[FileChunks<'_>],
    number: usize,
    concat: Option<&str>,
    joined: &'a JoinedArrays,
) -> std::result::Result<Described<'a>, String> {
    let meta = &files[0].container.arrays[number];
    if let Some(problem) = meta.refused() {
        return Err(problem);
    }
    if let Some(inline) = joined.get(&meta.path()) {
        let inline = inline.as_ref().map_err(Clone::clone)?;
        let bytes = zarr2::inline_bytes(inline).map_err(|error| error.to_string())?;
        let extent = inline.values.len() as u64;
        let chunks = vec![(extent > 0).then(|| Reference::Inline(bytes))];
        let chunks = if extent == 0 { Vec::new() } else { chunks };
        return Ok(Described { shape: vec![extent], chunk: vec![extent.max(1)], chunks, inline: Some(inline) });
    }
    meta.codecs.as_ref().map_err(Clone::clone)?;
    let metas = files.iter().map(|file| same_array(file, meta, concat)).collect::<std::result::Result<Vec<_>, _>>()?;
    let along = concat.and_then(|name| meta.dimensions.iter().position(|dimension| dimension.name == name));
    if files.len() > 1 && along.is_some_and(|axis| axis > 0) {
        return Err("files can follow one another along its first dimension only".to_owned());
    }
    // What does not vary along the dimension is that of the first file.
    let files = if along.is_some() { files } else { &files[..1] };
    let stored = files.iter().zip(&metas).map(|(file, meta)| stored(file, meta)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut shape = meta.shape.clone();
    if along.is_some() {
        shape[0] = metas.iter().map(|meta| meta.shape[0]).sum();
    }
    let (chunk, chunks) = one_grid(files, &metas, stored)?;
    Ok(Described { shape, chunk, chunks, inline: None })
}

/// The array of a file that is `meta` in the first, if its chunks can stand beside those.
fn same_array<'a>(file: &FileChunks<'a>, meta: &ArrayMeta, concat: Option<&str>) -> std::result::Result<&'a ArrayMeta, String> {
    let url = &file.url;
    let found = file.container.arrays.iter().find(|found| found.name == meta.name && found.group == meta.group);
    let found = found.ok_or_else(|| format!("{url} lacks it"))?;
    if let Some(problem) = found.refused() {
        return Err(format!("in {url}: {problem}"));
    }
    if found.element != meta.element {
        return Err(format!("its type differs in {url}"));
    }
    if found.codecs != meta.codecs {
        return Err(format!("its codecs differ in {url}"));
    }
    let fill = |meta: &ArrayMeta| meta.fill.clone().unwrap_or_else(|| vec![0; meta.element.width()]);
    if fill(found) != fill(meta) {
        return Err(format!("what stands for cells that were never written differs in {url}"));
    }
    let names = |meta: &ArrayMeta| meta.dimensions.iter().map(|dimension| dimension.name.clone()).collect::<Vec<_>>();
    let others = |meta: &ArrayMeta| -> Vec<u64> {
        let along = meta.dimensions.iter().zip(&meta.shape).filter(|(dimension, _)| Some(dimension.name.as_str()) != concat);
        along.map(|(_, extent)| *extent).collect()
    };
    if names(found) != names(meta) || others(found) != others(meta) {
        return Err(format!("its shape is {:?} in {url}, and {:?} in the first file", found.shape, meta.shape));
    }
    match differing(found, meta) {
        Some(name) => Err(format!("its `{name}` differs in {url}; a query decodes each file by its own")),
        None => Ok(found),
    }
}

/// The attribute by which the bytes of two arrays differ in meaning.
fn differing(left: &ArrayMeta, right: &ArrayMeta) -> Option<&'static str> {
    let value = |array: &ArrayMeta, name: &str| array.attributes.get(name).cloned();
    MEANING.into_iter().find(|name| value(left, name).as_deref() != value(right, name).as_deref())
}

/// Whether the bytes of two arrays mean the same.
pub(crate) fn means_the_same(left: &ArrayMeta, right: &ArrayMeta) -> bool {
    left.element == right.element && differing(left, right).is_none()
}

/// The chunks of an array in its file.
fn stored(file: &FileChunks<'_>, meta: &ArrayMeta) -> std::result::Result<Stored, String> {
    let none = Vec::new();
    let pieces = file.pieces.and_then(|pieces| pieces.get(&meta.path())).unwrap_or(&none);
    if meta.element.needs_heap() {
        return Err("its values are of varying length".to_owned());
    }
    if pieces.iter().any(|piece| piece.mask != 0) {
        return Err(format!("chunks in {} skip filters", file.url));
    }
    let plain = meta.codecs.as_ref().is_ok_and(Vec::is_empty) && pieces.iter().all(|piece| piece.inline.is_none());
    let row = row_bytes(meta);
    if plain && meta.elements() > 0 && is_sliced(meta) && !is_padded(meta, pieces) {
        let runs = runs(pieces);
        match runs.as_slice() {
            [(offset, length)] if *length == meta.volume() => return Ok(Stored::Whole(*offset)),
            rows if rows.len() as u64 == meta.shape[0] && rows.iter().all(|(_, length)| *length == row) => {
                let chunk = std::iter::once(1).chain(meta.shape[1..].iter().copied()).collect();
                let reference = |(offset, length): &(u64, u64)| Some(range(file, *offset, *length));
                return Ok(Stored::Chunks(chunk, rows.iter().map(reference).collect()));
            }
            _ => {}
        }
    }
    let count = meta.chunk_counts().iter().fold(1, |product: u64, count| product.saturating_mul(*count));
    let mut chunks = vec![None; usize::try_from(count).map_err(|_| "it has too many chunks".to_owned())?];
    for piece in pieces {
        let place = chunks.get_mut(piece.chunk as usize).ok_or_else(|| format!("a chunk in {} is beyond its end", file.url))?;
        if place.is_some() || (plain && piece.length != meta.chunk_bytes()) {
            return Err(format!("a chunk in {} lies in several pieces, or ends early", file.url));
        }
        *place = Some(match &piece.inline {
            Some(bytes) => Reference::Inline(bytes.clone()),
            None => range(file, piece.offset, piece.length),
        });
    }
    Ok(Stored::Chunks(meta.chunk.clone(), chunks))
}

fn range(file: &FileChunks<'_>, offset: u64, length: u64) -> Reference {
    Reference::Range { url: Arc::clone(&file.url), offset, length }
}

/// Bytes of one index along the first dimension; of everything, when there is none.
fn row_bytes(meta: &ArrayMeta) -> u64 {
    meta.shape.first().map_or(meta.volume(), |extent| meta.volume() / (*extent).max(1))
}

/// Whether chunks in C order are cells in C order: all dimensions behind the first that is cut are whole, all before it cut to one.
fn is_sliced(meta: &ArrayMeta) -> bool {
    let cut = meta.shape.iter().zip(&meta.chunk).rposition(|(extent, chunk)| chunk < extent);
    cut.is_none_or(|last| meta.chunk[..last].iter().all(|chunk| *chunk == 1))
}

/// Whether chunks are stored with more cells than the array has there.
fn is_padded(meta: &ArrayMeta, pieces: &[Piece]) -> bool {
    let counts = meta.chunk_counts();
    let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
    pieces.iter().for_each(|piece| *stored.entry(piece.chunk).or_default() += piece.length);
    let inside = |chunk: u64| slab_range(&meta.shape, &meta.chunk, &place_of(chunk, &counts)).1;
    stored.into_iter().any(|(chunk, length)| length != inside(chunk).saturating_mul(meta.element.width() as u64))
}

/// What lies side by side as one: offset and length.
fn runs(pieces: &[Piece]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some((offset, length)) if *offset + *length == piece.offset => *length += piece.length,
            _ => runs.push((piece.offset, piece.length)),
        }
    }
    runs
}

/// One chunk grid for all files.
fn one_grid(
    files: &[FileChunks<'_>],
    metas: &[&ArrayMeta],
    stored: Vec<Stored>,
) -> std::result::Result<(Vec<u64>, Vec<Option<Reference>>), String> {
    let given = stored.iter().find_map(|stored| match stored {
        Stored::Chunks(chunk, _) => Some(chunk.clone()),
        Stored::Whole(_) => None,
    });
    let rows = metas[..files.len()].iter().fold(0, |common, meta| greatest_divisor(common, meta.shape.first().copied().unwrap_or(1)));
    let chunk = given.unwrap_or_else(|| slab(metas[0], rows));
    let mut chunks = Vec::new();
    for (place, ((file, meta), stored)) in files.iter().zip(metas).zip(stored).enumerate() {
        let whole_chunks = meta.shape.first().is_none_or(|extent| extent.is_multiple_of(chunk[0]));
        if place + 1 < files.len() && !whole_chunks {
            return Err(format!("{} has {} rows, which are no whole chunks of {}", file.url, meta.shape[0], chunk[0]));
        }
        match stored {
            Stored::Chunks(own, own_chunks) if own == chunk => chunks.extend(own_chunks),
            Stored::Chunks(own, _) => return Err(format!("its chunks are {own:?} in {}, and {chunk:?} elsewhere", file.url)),
            Stored::Whole(offset) => {
                let is_slab = chunk.iter().zip(&meta.shape).all(|(chunk, extent)| extent.is_multiple_of(*chunk));
                let sliced = is_sliced(&ArrayMeta { chunk: chunk.clone(), ..(*meta).clone() });
                if !is_slab || !sliced {
                    return Err(format!("it lies in one piece in {}, and in chunks of {chunk:?} elsewhere", file.url));
                }
                let length = chunk.iter().product::<u64>() * meta.element.width() as u64;
                let count = meta.volume() / length.max(1);
                chunks.extend((0..count).map(|number| Some(range(file, offset + number * length, length))));
            }
        }
    }
    Ok((chunk, chunks))
}

/// A chunk of an array that lies in one piece: it cuts the array into equal parts, for none may be shorter. `rows` divides its rows.
fn slab(meta: &ArrayMeta, rows: u64) -> Vec<u64> {
    let mut chunk = meta.shape.clone();
    let mut inner = meta.volume();
    for (axis, extent) in chunk.iter_mut().enumerate() {
        let divided = if axis == 0 { rows.max(1) } else { *extent };
        inner /= (*extent).max(1);
        let most = (SLAB_BYTES / inner.max(1)).clamp(1, divided.max(1));
        *extent = (1..=most).rev().find(|part| divided.is_multiple_of(*part)).unwrap_or(1);
        if *extent > 1 {
            break;
        }
    }
    chunk
}

fn greatest_divisor(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { greatest_divisor(right, left % right) }
}

/// The key of a chunk.
fn key(number: u64, counts: &[u64]) -> String {
    match counts {
        [] => "0".to_owned(),
        _ => place_of(number, counts).iter().map(u64::to_string).collect::<Vec<_>>().join("."),
    }
}

/// Values of one file after the other: as they are stored, where they mean the same in all, or decoded. Times are counted anew then.
///
/// # Errors
/// Why they can't follow one another: they are no times. Else what Arrow says.
pub(crate) fn joined(values: &[ArrayRef], same_meaning: bool) -> Result<std::result::Result<Joined, String>> {
    if same_meaning {
        return Ok(Ok(Joined { values: joined_arrays(values)?, units: None }));
    }
    if !values.iter().all(|values| matches!(values.data_type(), DataType::Timestamp(..)) && values.null_count() == 0) {
        return Ok(Err("its attributes differ between files (`lacus doctor` names them), and it is no time to count anew".to_owned()));
    }
    let times = cast(&joined_arrays(values)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let micros = cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
    Ok(Ok(match micros.values().iter().all(|time| time % 1_000_000 == 0) {
        true => {
            let seconds = micros.unary::<_, Int64Type>(|time| time / 1_000_000);
            Joined { values: Arc::new(seconds), units: Some(("seconds since 1970-01-01", "proleptic_gregorian")) }
        }
        false => Joined { values: Arc::new(micros), units: Some(("microseconds since 1970-01-01", "proleptic_gregorian")) },
    }))
}

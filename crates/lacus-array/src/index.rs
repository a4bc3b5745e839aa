//! The index of a dataset: what is known of its files without opening them, kept as Parquet beside the lake.
//!
//! ```text
//! <folder>/<dataset>/files.parquet           one row a file: version, structure, attributes, bounds of its coordinates
//! <folder>/<dataset>/structures-<id>.parquet one row an array of each structure: type, dimensions, chunks, packing, attributes
//! <folder>/<dataset>/chunks-<id>.parquet     one row a chunk of each file: where its bytes lie
//! ```
//!
//! Files that hold the same arrays share a structure. A file is looked up by a fingerprint of its path and version, so that an entry of
//! another version is never found. `files.parquet` names the tables that belong to it and replaces the one before at once.

mod bounds;
mod build;
mod chunk_table;
mod lazy;
mod rows;
mod structures;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use lacus_storage::Known;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

pub(crate) use bounds::{bounded_arrays, extremes, known_extremes, matching, pruning};
pub(crate) use build::{Builder, GroupAttribute, GroupAttributes, Known as KnownFile};
pub(crate) use chunk_table::{Piece, Pieces, chunk_rows, place_of};
pub(crate) use lazy::{Containers, Unopened};
use rows::Files;
pub(crate) use rows::writer_properties;
pub(crate) use structures::Structure;

/// The form of the files. An index of another form is passed over, and written anew by the next build.
const FORM: &str = "2";
/// The keys of the metadata of `files.parquet`.
const FORM_KEY: &str = "lacus.index";
const STRUCTURES_KEY: &str = "lacus.structures";
const CHUNKS_KEY: &str = "lacus.chunks";
const LOCATION_KEY: &str = "lacus.location";
/// Indices whose contents are kept in memory.
const MOST_INDICES: usize = 1_000;

/// Where the indices of all datasets are kept.
#[derive(Debug)]
pub(crate) struct Indices {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    loaded: Known<String, Arc<Index>>,
}

/// What is known of the files of one dataset.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) structures: Vec<Arc<Structure>>,
    /// The location of the dataset whose files these are.
    pub(crate) location: Option<String>,
    /// By what one build of it is told from another.
    pub(crate) version: String,
    files: Files,
    bounds: Vec<Bounds>,
    /// The row of each file by its fingerprint, once somebody looks for one.
    rows: OnceLock<HashMap<u128, u32, BuildHasherDefault<Folded>>>,
}

/// The least and greatest value of a coordinate in each file; NULL where that is not known.
#[derive(Debug)]
struct Bounds {
    /// The path of the array.
    array: String,
    low: ArrayRef,
    high: ArrayRef,
}

impl Index {
    /// The row of this version of a file.
    pub(crate) fn find(&self, object: &ObjectMeta) -> Option<u32> {
        let rows = self.rows.get_or_init(|| {
            let known = (0..self.len() as u32).filter_map(|row| Some((fingerprint(&self.object(row).ok()?), row)));
            known.collect()
        });
        rows.get(&fingerprint(object)).copied()
    }

    /// The file of a row, as it was when it was described.
    ///
    /// # Errors
    /// `CorruptData` when the path is none.
    pub(crate) fn object(&self, row: u32) -> Result<ObjectMeta> {
        self.files.object(row as usize)
    }

    /// The least values of a coordinate, where they are known of all files.
    pub(crate) fn lows(&self, array: &str) -> Option<&ArrayRef> {
        self.bounds.iter().find(|bounds| bounds.array == array && bounds.low.null_count() == 0).map(|bounds| &bounds.low)
    }

    /// The path of a row.
    pub(crate) fn path(&self, row: u32) -> &str {
        self.files.paths.value(row as usize)
    }

    /// The structure of the file of a row.
    pub(crate) fn structure(&self, row: u32) -> &Arc<Structure> {
        &self.structures[self.structure_number(row)]
    }

    /// The number of that structure.
    pub(crate) fn structure_number(&self, row: u32) -> usize {
        self.files.structures.value(row as usize) as usize
    }

    /// How many files are known.
    pub(crate) fn len(&self) -> usize {
        self.files.paths.len()
    }
}

/// A fingerprint is a hash already: half of it is as good as the hash of it.
#[derive(Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

/// A number that another path or another version of the object would not have.
fn fingerprint(object: &ObjectMeta) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, object.location.as_ref(), object.size).hash(&mut hasher);
        match &object.e_tag {
            Some(tag) => tag.hash(&mut hasher),
            // Listings and reads may state times with different precision.
            None => object.last_modified.timestamp().hash(&mut hasher),
        }
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

impl Indices {
    /// Indices below a folder of a store. Nothing is there before the first is built.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder, loaded: Known::new(MOST_INDICES) }
    }

    fn files(&self, dataset: &str) -> Path {
        self.folder.clone().join(dataset).join("files.parquet")
    }

    /// Where the index of a dataset lies.
    pub(crate) fn place(&self, dataset: &str) -> Path {
        self.folder.clone().join(dataset)
    }

    /// The index of a dataset, if there is one that can be used.
    ///
    /// # Errors
    /// `CorruptData` when it can't be read.
    pub(crate) async fn load(&self, dataset: &str) -> Result<Option<Arc<Index>>> {
        let Some(object) = self.head(dataset).await? else { return Ok(None) };
        if let Some(index) = self.loaded.get(&dataset.to_owned(), &object) {
            return Ok(Some(index));
        }
        let Some((files, structures)) = self.read(dataset).await? else { return Ok(None) };
        let mut index = rows::index(files, structures).map_err(|error| self.unreadable(dataset, error))?;
        index.version = object.e_tag.clone().unwrap_or_else(|| format!("{} {}", object.last_modified.to_rfc3339(), object.size));
        let index = Arc::new(index);
        self.loaded.put(dataset.to_owned(), &object, Arc::clone(&index));
        Ok(Some(index))
    }

    /// The attributes of the groups of each file, in the order of the rows of `index`.
    ///
    /// # Errors
    /// `CorruptData` when they can't be read.
    pub(crate) async fn attributes(&self, dataset: &str, index: &Index) -> Result<Vec<GroupAttributes>> {
        let files = self.read_files(dataset).await?.map(|(files, _)| files);
        let read = files.map(|files| rows::attributes(files, index)).transpose().map_err(|error| self.unreadable(dataset, error))?;
        read.flatten().ok_or_else(|| replaced(dataset))
    }

    async fn head(&self, dataset: &str) -> Result<Option<ObjectMeta>> {
        match self.store.head(&self.files(dataset)).await {
            Ok(object) => Ok(Some(object)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of the files and of their structures; `None` when there is no index, or one of another form.
    async fn read(&self, dataset: &str) -> Result<Option<(Bytes, Bytes)>> {
        let Some((files, tables)) = self.read_files(dataset).await? else { return Ok(None) };
        let structures = self.read_table(dataset, &tables.structures).await?;
        Ok(Some((files, structures)))
    }

    /// The pieces of the chunks of all files, with the index that describes these.
    ///
    /// # Errors
    /// `CorruptData` when they can't be read.
    pub(crate) async fn chunks(&self, dataset: &str) -> Result<Option<(Index, Pieces)>> {
        let Some((files, tables)) = self.read_files(dataset).await? else { return Ok(None) };
        let structures = self.read_table(dataset, &tables.structures).await?;
        let pieces = self.read_table(dataset, &tables.chunks).await?;
        let read = || Ok((rows::index(files, structures)?, chunk_table::decode(pieces)?));
        read().map(Some).map_err(|error| self.unreadable(dataset, error))
    }

    /// A table that `files.parquet` names. Only another build takes it away.
    async fn read_table(&self, dataset: &str, name: &str) -> Result<Bytes> {
        match self.store.get(&self.place(dataset).join(name)).await {
            Ok(found) => Ok(found.bytes().await?),
            Err(object_store::Error::NotFound { .. }) => Err(replaced(dataset)),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of `files.parquet`, and the names of the tables that belong to it.
    async fn read_files(&self, dataset: &str) -> Result<Option<(Bytes, Tables)>> {
        let files = match self.store.get(&self.files(dataset)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let tables = rows::tables_of(&files).map_err(|error| self.unreadable(dataset, error))?;
        Ok(tables.map(|tables| (files, tables)))
    }

    fn unreadable(&self, dataset: &str, error: Error) -> Error {
        Error::new(Kind::CorruptData, "the index can't be read")
            .with("index", format!("/{}", self.place(dataset)))
            .because(error)
            .hint(format!("delete it and run `lacus index build {dataset}`"))
    }

    /// Replaces the index of a dataset, `files.parquet` last: until then the one before is whole.
    async fn write(&self, dataset: &str, tables: [(&str, Vec<u8>); 2], files: Vec<u8>) -> Result<()> {
        let place = self.place(dataset);
        let names = tables.each_ref().map(|(name, _)| *name);
        for (name, bytes) in tables {
            self.store.put(&place.clone().join(name), bytes.into()).await?;
        }
        self.store.put(&self.files(dataset), files.into()).await?;
        let listed = self.store.list_with_delimiter(Some(&place)).await?;
        for object in listed.objects {
            let is_table = |file: &str| file.starts_with("structures-") || file.starts_with("chunks-");
            if object.location.filename().is_some_and(|file| is_table(file) && !names.contains(&file)) {
                self.store.delete(&object.location).await?;
            }
        }
        Ok(())
    }
}

/// The names of the tables that belong to one `files.parquet`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tables {
    structures: String,
    chunks: String,
}

fn replaced(dataset: &str) -> Error {
    Error::new(Kind::Unavailable, "the index was replaced while it was read").with("dataset", dataset).hint("ask again")
}

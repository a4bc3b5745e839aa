//! What a format implements: [`Format`] opens a container, [`GridStore`] says where its chunks lie and decodes them.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use async_trait::async_trait;
use bytes::Bytes;
use lacus_core::Result;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::Container;

/// A format of containers: a name, and what opens them.
///
/// The engine reads `read_<name>('...')` and `format = "<name>"`. Several openers may share a name when files of one ending differ
/// inside, as NetCDF files do.
#[derive(Debug, Clone)]
pub struct Format {
    /// The name, such as `netcdf`.
    pub name: &'static str,
    /// The endings of its files or folders, such as `.nc`.
    pub endings: &'static [&'static str],
    /// What opens its containers; the first that recognises one opens it.
    pub openers: Vec<Arc<dyn Opener>>,
    /// Whether a container is a folder of many objects rather than one object.
    pub folder: bool,
}

/// Opens the containers of one kind.
#[async_trait]
pub trait Opener: Debug + Send + Sync {
    /// Whether a container whose first bytes are `head` is of this kind. A folder has no first bytes.
    fn recognises(&self, head: &[u8]) -> bool;

    /// The object whose version tells whether anything that [`Opener::open`] reads of a folder has changed; `None` when no single
    /// object does, and for containers that are one object.
    ///
    /// # Errors
    /// What the store says.
    async fn version(&self, _object: &ObjectMeta, _store: &Arc<dyn ObjectStore>) -> Result<Option<ObjectMeta>> {
        Ok(None)
    }

    /// Opens a container. Reads metadata only.
    ///
    /// # Errors
    /// `CorruptData` when the metadata can't be read; `Unsupported` when no part of it can.
    async fn open(&self, source: &Source) -> Result<Arc<dyn GridStore>>;
}

/// The bytes of one container.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the bytes are read from.
    pub store: Arc<dyn ObjectStore>,
    /// The object; of a folder, only the location means something.
    pub object: ObjectMeta,
    /// The first bytes of the object, as many as one request gives; empty for a folder.
    pub head: Bytes,
}

/// One opened container: what it holds, and how its chunks are read.
///
/// A store holds metadata only. All bytes come through the object store that a call hands over, so that each query reads within its
/// own scope.
#[async_trait]
pub trait GridStore: Debug + Send + Sync {
    /// What the container holds.
    fn container(&self) -> &Container;

    /// Whether what [`Opener::version`] gave describes all that the container holds: a folder may hold documents beside it.
    fn version_describes_all(&self) -> bool {
        true
    }

    /// Where the given chunks of an array lie, in the order asked for. An index that is stored may be read once and kept.
    ///
    /// # Errors
    /// `CorruptData` when the index can't be read.
    async fn locate(&self, array: usize, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>>;

    /// Decodes the bytes of one chunk: an array of as many elements as a whole chunk has, in C order, padding at the edges included.
    ///
    /// # Errors
    /// `CorruptData` when the bytes are not what the metadata says.
    async fn decode(&self, array: usize, chunk: &[u64], bytes: Bytes, flags: u32, store: &Arc<dyn ObjectStore>) -> Result<ArrayRef>;
}

/// Where a chunk lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It was never written: all of its elements are the fill value.
    Missing,
    /// Its bytes are part of the metadata.
    Inline(Bytes),
    /// Its bytes are these ranges of an object, one after the other.
    Ranges {
        /// The object.
        object: Path,
        /// The ranges.
        ranges: Vec<Range<u64>>,
        /// What the format noted for this chunk, such as HDF5's filter mask.
        flags: u32,
    },
    /// Its bytes are a whole object, which may not exist; then it was never written.
    Object(Path),
}

impl Place {
    /// A chunk that is one range of an object.
    pub fn one_range(object: Path, range: Range<u64>, flags: u32) -> Self {
        Self::Ranges { object, ranges: Vec::from([range]), flags }
    }
}

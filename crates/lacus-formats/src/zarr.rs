//! Zarr stores, version 2 and 3: folders of metadata and chunks.
//!
//! Metadata is read here, because real version 2 metadata is not always JSON and real stores can not always be listed; codecs are those
//! of `zarrs`. A shard is a chunk of chunks: its index is read first, and then only the chunks that are wanted.

mod codecs;
mod hierarchy;
mod json;
mod shards;
mod types;
mod write;

use std::sync::Arc;

use arrow::array::ArrayRef;
use async_trait::async_trait;
use bytes::Bytes;
use lacus_array::{Container, GridStore, Opener, Place, Source};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use codecs::Codecs;
use shards::Shards;

pub(crate) use write::ZarrWriter;

/// Opens Zarr stores.
#[derive(Debug)]
pub(crate) struct ZarrOpener;

#[async_trait]
impl Opener for ZarrOpener {
    fn recognises(&self, _: &[u8]) -> bool {
        true
    }

    async fn version(&self, object: &ObjectMeta, store: &Arc<dyn ObjectStore>) -> Result<Option<ObjectMeta>> {
        let (v3, v2) = (below(&object.location, "zarr.json")?, below(&object.location, ".zmetadata")?);
        let (v3, v2) = futures::join!(store.head(&v3), store.head(&v2));
        match if is_absent(&v3) { v2 } else { v3 } {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, source: &Source) -> Result<Arc<dyn GridStore>> {
        let hierarchy = hierarchy::read(&source.store, &source.object.location).await?;
        let describes_all = hierarchy.root_describes_all;
        let (container, layouts) = hierarchy.arrays()?;
        Ok(Arc::new(ZarrStore { root: source.object.location.clone(), describes_all, container, layouts }))
    }
}

fn is_absent(found: &object_store::Result<ObjectMeta>) -> bool {
    matches!(found, Err(object_store::Error::NotFound { .. }))
}

/// A path below a folder, taken as it stands: a key is not a URL.
fn below(folder: &Path, name: &str) -> Result<Path> {
    let text = [folder.as_ref(), name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    Path::parse(&text).map_err(|error| Error::new(Kind::Unsupported, format!("`{name}` can't be the name of an object: {error}")))
}

/// How the chunks of one array are stored.
#[derive(Debug)]
struct Layout {
    /// Where the array's objects lie below the root.
    path: String,
    keys: ChunkKeys,
    codecs: Option<Codecs>,
    shards: Option<Shards>,
}

/// How the objects of chunks are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkKeys {
    /// `c/0/1`, with this separator; version 3's default.
    Prefixed(char),
    /// `0.1`, with this separator; version 2.
    Plain(char),
}

impl ChunkKeys {
    fn name(self, chunk: &[u64]) -> String {
        let joined = |separator: char| chunk.iter().map(u64::to_string).collect::<Vec<_>>().join(&separator.to_string());
        match self {
            Self::Prefixed(_) if chunk.is_empty() => "c".to_owned(),
            Self::Prefixed(separator) => format!("c{separator}{}", joined(separator)),
            Self::Plain(_) if chunk.is_empty() => "0".to_owned(),
            Self::Plain(separator) => joined(separator),
        }
    }
}

/// One opened store.
#[derive(Debug)]
struct ZarrStore {
    root: Path,
    /// Whether the documents at the root are all there are: consolidated metadata, or a single array.
    describes_all: bool,
    container: Container,
    layouts: Vec<Layout>,
}

impl ZarrStore {
    fn object(&self, layout: &Layout, chunk: &[u64]) -> Result<Path> {
        let name = layout.keys.name(chunk);
        below(&self.root, &if layout.path.is_empty() { name } else { format!("{}/{name}", layout.path) })
    }
}

#[async_trait]
impl GridStore for ZarrStore {
    fn container(&self) -> &Container {
        &self.container
    }

    fn version_describes_all(&self) -> bool {
        self.describes_all
    }

    async fn locate(&self, array: usize, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        let layout = &self.layouts[array];
        match &layout.shards {
            None => chunks.iter().map(|chunk| self.object(layout, chunk).map(Place::Object)).collect(),
            Some(shards) => shards.locate(chunks, store, |shard| self.object(layout, shard)).await,
        }
    }

    async fn decode(&self, array: usize, _: &[u64], bytes: Bytes, _: u32, _: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
        let meta = &self.container.arrays[array];
        let codecs = self.layouts[array].codecs.as_ref().ok_or_else(|| Error::new(Kind::Internal, "an array without codecs was read"))?;
        codecs.decode(bytes, &meta.chunk, &meta.element)
    }
}

//! A container that an index describes: it is opened when the first of its chunks is read.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::array::ArrayRef;
use async_trait::async_trait;
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use lacus_storage::Known;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tokio::sync::OnceCell;

use super::Structure;
use crate::container::Container;
use crate::format::{Format, GridStore, Place};
use crate::source::read_container;

/// Containers that an index describes and a query opened.
#[derive(Debug)]
pub(crate) struct Containers {
    pub(crate) format: Format,
    pub(crate) opened: Arc<Known<Path, Arc<dyn GridStore>>>,
}

/// A container that an index describes.
pub(crate) struct Unopened {
    structure: Arc<Structure>,
    object: Arc<ObjectMeta>,
    version: Arc<ObjectMeta>,
    containers: Arc<Containers>,
    /// Opened once, however many columns want it.
    opened: OnceCell<Arc<dyn GridStore>>,
}

impl Unopened {
    pub(crate) fn new(structure: Arc<Structure>, object: Arc<ObjectMeta>, version: Arc<ObjectMeta>, containers: Arc<Containers>) -> Self {
        Self { structure, object, version, containers, opened: OnceCell::new() }
    }

    async fn opened(&self, store: &Arc<dyn ObjectStore>) -> Result<&Arc<dyn GridStore>> {
        self.opened.get_or_try_init(|| self.open(store)).await
    }

    async fn open(&self, store: &Arc<dyn ObjectStore>) -> Result<Arc<dyn GridStore>> {
        let location = &self.object.location;
        if let Some(opened) = self.containers.opened.get(location, &self.version) {
            return Ok(opened);
        }
        let opened = read_container(&self.containers.format, &self.object, Arc::clone(store)).await?;
        if !self.structure.fits(opened.container()) {
            let error = Error::new(Kind::CorruptData, "the file holds other arrays than the index says, with the same version");
            return Err(error.hint("build the index of the dataset again: lacus index build"));
        }
        self.containers.opened.put(location.clone(), &self.version, Arc::clone(&opened));
        Ok(opened)
    }
}

impl Debug for Unopened {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Unopened({})", self.object.location)
    }
}

#[async_trait]
impl GridStore for Unopened {
    fn container(&self) -> &Container {
        &self.structure.container
    }

    async fn locate(&self, array: usize, chunks: &[Vec<u64>], store: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        self.opened(store).await?.locate(array, chunks, store).await
    }

    async fn decode(&self, array: usize, chunk: &[u64], bytes: Bytes, flags: u32, store: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
        self.opened(store).await?.decode(array, chunk, bytes, flags, store).await
    }
}

//! Objects that a query writes: all of them stay, or none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::stores::Listed;

/// How many requests that write are under way at once.
const CONCURRENT_WRITES: usize = 4;

/// The objects below one target while they are written.
///
/// What isn't [kept](Writing::keep) is deleted when this is dropped, as on an error or when the query is cancelled. A request that is
/// under way then runs to its end first: given up, it could still make its object after the deletion.
#[derive(Debug)]
pub struct Writing {
    store: Arc<dyn ObjectStore>,
    target: Path,
    /// Where a drop can start the deletion: it may happen on a thread without a runtime.
    runtime: Handle,
    under_way: JoinSet<Result<()>>,
    written: Vec<Path>,
    upload: Option<Box<dyn MultipartUpload>>,
    /// The target is taken until everything is kept, or deleted again.
    taken: Option<Taken>,
    listed: Listed,
}

impl Writing {
    /// Begins to write the object `target`, or objects below it.
    ///
    /// # Errors
    /// `AlreadyExists` when something is there, or another query of this engine writes it.
    pub(crate) async fn begin(store: Arc<dyn ObjectStore>, target: Path, shown: &str, targets: &Targets, listed: Listed) -> Result<Self> {
        let exists = |what: &str| {
            let error = Error::new(Kind::AlreadyExists, format!("`{shown}` {what}"));
            error.hint("COPY overwrites nothing: choose another name, or delete it first")
        };
        let taken = targets.claim(&target).ok_or_else(|| exists("is being written by another query"))?;
        let object = match store.head(&target).await {
            Ok(_) => true,
            Err(object_store::Error::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if object || store.list(Some(&target)).next().await.transpose()?.is_some() {
            return Err(exists("exists"));
        }
        let under_way = JoinSet::new();
        Ok(Self { store, target, runtime: Handle::current(), under_way, written: Vec::new(), upload: None, taken: Some(taken), listed })
    }

    /// The target.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes an object whose bytes are made by `bytes`, on a thread for work that takes long. It need not be written yet when this
    /// returns: [`Writing::settle`] waits.
    ///
    /// # Errors
    /// What writing an earlier object said.
    pub async fn put(&mut self, path: Path, bytes: impl FnOnce() -> Result<Bytes> + Send + 'static) -> Result<()> {
        self.wait_for_room(CONCURRENT_WRITES).await?;
        self.written.push(path.clone());
        let store = Arc::clone(&self.store);
        self.under_way.spawn(async move {
            let made = tokio::task::spawn_blocking(bytes).await;
            let bytes = made.map_err(|error| Error::new(Kind::Internal, format!("a task of the query stopped: {error}")))??;
            store.put(&path, PutPayload::from_bytes(bytes)).await?;
            Ok(())
        });
        Ok(())
    }

    /// Adds bytes to the one object that is the target. All parts but the last are of one size, at least 5 MiB, as S3 wants it; nothing
    /// is seen of the object before [`Writing::keep`].
    ///
    /// # Errors
    /// What the store says of this part or an earlier one.
    pub async fn part(&mut self, bytes: Bytes) -> Result<()> {
        self.wait_for_room(CONCURRENT_WRITES).await?;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(self.store.put_multipart(&self.target).await?),
        };
        let part = upload.put_part(PutPayload::from_bytes(bytes));
        self.under_way.spawn(async move { Ok(part.await?) });
        Ok(())
    }

    /// Waits until everything so far is written.
    ///
    /// # Errors
    /// What the store says.
    pub async fn settle(&mut self) -> Result<()> {
        self.wait_for_room(1).await
    }

    /// Completes the writing: everything stays.
    ///
    /// # Errors
    /// What the store says; then nothing stays.
    pub async fn keep(mut self) -> Result<()> {
        self.settle().await?;
        if let Some(mut upload) = self.upload.take() {
            self.written.push(self.target.clone());
            self.under_way.spawn(async move {
                upload.complete().await?;
                Ok(())
            });
            self.settle().await?;
        }
        self.written.clear();
        self.listed.forget(&self.target);
        Ok(())
    }

    async fn wait_for_room(&mut self, most: usize) -> Result<()> {
        while self.under_way.len() >= most {
            let ended = self.under_way.join_next().await;
            ended.transpose().map_err(|error| Error::new(Kind::Internal, format!("a task of the query stopped: {error}")))?.transpose()?;
        }
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let (mut upload, written, taken) = (self.upload.take(), std::mem::take(&mut self.written), self.taken.take());
        if upload.is_none() && written.is_empty() {
            return;
        }
        let mut under_way = std::mem::take(&mut self.under_way);
        let (store, target, listed) = (Arc::clone(&self.store), self.target.clone(), self.listed.clone());
        self.runtime.spawn(async move {
            while under_way.join_next().await.is_some() {}
            if let Some(upload) = &mut upload {
                // Parts that can't be removed are seen by nobody; the server removes them by its own rules.
                let _ = upload.abort().await;
            }
            let deletions = stream::iter(written.into_iter().rev().map(Ok)).boxed();
            // What was never written can't be deleted, and nobody is left to be told of the rest.
            let _: Vec<_> = store.delete_stream(deletions).collect().await;
            listed.forget(&target);
            drop(taken);
        });
    }
}

/// The targets that are being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets(Arc<Mutex<BTreeSet<Path>>>);

impl Targets {
    fn claim(&self, target: &Path) -> Option<Taken> {
        self.held().insert(target.clone()).then(|| Taken { targets: self.clone(), target: target.clone() })
    }

    /// A poisoned lock only means that another thread panicked; the set is valid at every instant.
    fn held(&self) -> MutexGuard<'_, BTreeSet<Path>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A target that one query writes.
#[derive(Debug)]
struct Taken {
    targets: Targets,
    target: Path,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.targets.held().remove(&self.target);
    }
}

//! Results that are computed while nobody fetches: `PollFlightInfo` tells how far they are, and they are kept on disk for a while.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use lacus_core::{Error, Kind, Result};
use lacus_engine::{Query, QueryProgress};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::wire;

/// How far a result is.
#[derive(Debug, Clone)]
enum Stage {
    Running,
    Done { rows: u64 },
    Failed(Error),
}

/// One result. Dropping it ends its query and gives its place on disk back.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) schema: SchemaRef,
    pub(crate) query: String,
    progress: QueryProgress,
    /// The most that was told: what is told never falls.
    told: Mutex<f64>,
    stage: watch::Receiver<Stage>,
    file: Arc<File>,
    task: AbortHandle,
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a poll tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Told {
    /// It runs; the part that is done.
    Running(f64),
    /// All of it is there; its rows.
    Done(u64),
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::LimitExceeded, format!("the result can't be kept: {error}"))
        .hint("fetch it while it is computed, with GetFlightInfo and DoGet")
}

/// A file that nobody else sees: it has no name, and is gone with the last who holds it.
fn file(folder: Option<&Path>) -> Result<File> {
    let made = match folder {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    };
    made.map_err(unwritable)
}

impl Spool {
    /// Begins to run `query` into a file of at most `most` bytes in `folder`.
    pub(crate) fn begin(query: Query, schema: SchemaRef, folder: Option<&Path>, most: u64) -> Result<Self> {
        let (id, progress) = (query.id().to_owned(), query.progress());
        let (tell, stage) = watch::channel(Stage::Running);
        let file = Arc::new(file(folder)?);
        let (into, columns) = (Arc::clone(&file), Arc::clone(&schema));
        let task = tokio::spawn(async move {
            let stage = match run(query, columns, into, most).await {
                Ok(rows) => Stage::Done { rows },
                Err(error) => Stage::Failed(error),
            };
            // Nobody waits when the result was given up.
            let _ = tell.send(stage);
        });
        Ok(Self { schema, query: id, progress, told: Mutex::new(0.), stage, file, task: task.abort_handle() })
    }

    /// How far it is, once it is done or `patience` is over.
    ///
    /// # Errors
    /// Why the query failed.
    pub(crate) async fn wait(&self, patience: Duration) -> Result<Told> {
        let mut stage = self.stage.clone();
        // An end of the waiting is no error: how far it is can be told all the same.
        let waited = tokio::time::timeout(patience, stage.wait_for(|stage| !matches!(stage, Stage::Running)).map_ok(|_| ())).await;
        let now = self.stage.borrow().clone();
        if matches!((&waited, &now), (Ok(Err(_)), Stage::Running)) {
            return Err(Error::new(Kind::Internal, "what computed the result stopped"));
        }
        match now {
            Stage::Failed(error) => Err(error),
            Stage::Done { rows } => Ok(Told::Done(rows)),
            Stage::Running => {
                let part = self.progress.now().part().unwrap_or(0.).clamp(0., 0.99);
                let mut told = self.told();
                *told = told.max(part);
                Ok(Told::Running(*told))
            }
        }
    }

    /// A poisoned lock only means that another thread panicked; the number is valid at every instant.
    fn told(&self) -> MutexGuard<'_, f64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batches, of which all are there; any number of times.
    ///
    /// # Errors
    /// `InvalidQuery` while it still runs.
    pub(crate) fn batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match &*self.stage.borrow() {
            Stage::Done { .. } => {}
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Running => return Err(Error::new(Kind::InvalidQuery, "the result is not complete yet").hint("poll until it is")),
        }
        let opened = Reopened { file: Arc::clone(&self.file), at: 0 };
        let reader = move || StreamReader::try_new(BufReader::new(opened), None).map_err(unreadable);
        let first = stream::once(async move { blocking(reader).await });
        Ok(first.map_ok(read).try_flatten().boxed())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("the kept result can't be read: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::new(Kind::Internal, error.to_string()))?
}

type Reader = StreamReader<BufReader<Reopened>>;

fn read(reader: Reader) -> impl futures::Stream<Item = Result<RecordBatch>> {
    stream::try_unfold(reader, |mut reader| {
        blocking(move || match reader.next() {
            None => Ok(None),
            Some(batch) => Ok(Some((batch.map_err(unreadable)?, reader))),
        })
    })
}

/// A place of its own in a file that several read.
#[derive(Debug)]
struct Reopened {
    file: Arc<File>,
    at: u64,
}

impl std::io::Read for Reopened {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(self.file.as_ref(), buffer, self.at)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(self.file.as_ref(), buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

async fn run(query: Query, schema: SchemaRef, file: Arc<File>, most: u64) -> Result<u64> {
    let mut batches = query.stream()?;
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(BufWriter::new(Shared(file)), &schema, options)?;
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        let batch = wire::batch(&batch, &schema)?;
        rows += batch.num_rows() as u64;
        writer = blocking(move || {
            writer.write(&batch).map_err(unwritable)?;
            let length = writer.get_mut().stream_position().map_err(unwritable)?;
            if length > most {
                return Err(unwritable(format!("it takes more than {} MiB", most >> 20)));
            }
            Ok(writer)
        })
        .await?;
    }
    blocking(move || {
        writer.finish().map_err(unwritable)?;
        writer.into_inner().map_err(unwritable)?.into_inner().map_err(unwritable)?;
        Ok(())
    })
    .await?;
    Ok(rows)
}

/// A file that is written by one.
#[derive(Debug)]
struct Shared(Arc<File>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut self.0.as_ref(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::Write::flush(&mut self.0.as_ref())
    }
}

impl Seek for Shared {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        Seek::seek(&mut self.0.as_ref(), position)
    }
}

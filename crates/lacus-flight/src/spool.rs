//! Results that are computed while nobody fetches: `PollFlightInfo` tells how far they are, and they are kept on disk for a while.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
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
use lacus_engine::{Provenance, Query, QueryProgress};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::wire;

/// The size on disk of the first segment; each is twice as large as the one before.
const FIRST_SEGMENT: u64 = 64 << 20;
/// How many segments a result has at most: clients fetch each by a call of its own.
const MOST_SEGMENTS: usize = 8;

/// A part of a result that is all there.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Where it begins in the file.
    start: u64,
    rows: u64,
}

/// How far a result is.
#[derive(Debug, Clone, Default)]
struct Stage {
    segments: Vec<Segment>,
    /// How it ended, once it has.
    end: Option<Result<()>>,
}

/// One result. Dropping it ends its query and gives its place on disk back.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) schema: SchemaRef,
    pub(crate) query: String,
    provenance: Provenance,
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
pub(crate) struct Told {
    /// The part that is done, from 0 to 1.
    pub(crate) part: f64,
    /// How many segments can be fetched; more may follow.
    pub(crate) segments: usize,
    /// The rows of all, once all are there.
    pub(crate) rows: Option<u64>,
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
        let (id, progress, provenance) = (query.id().to_owned(), query.progress(), query.provenance());
        let (tell, stage) = watch::channel(Stage::default());
        let file = Arc::new(file(folder)?);
        let (into, columns) = (Arc::clone(&file), Arc::clone(&schema));
        let task = tokio::spawn(async move {
            let last = run(query, columns, into, (FIRST_SEGMENT, most), &tell).await;
            tell.send_modify(|stage| stage.end = Some(last.map(|segment| stage.segments.push(segment))));
        });
        Ok(Self { schema, query: id, provenance, progress, told: Mutex::new(0.), stage, file, task: task.abort_handle() })
    }

    /// How far it is, once it is done or `patience` is over.
    ///
    /// # Errors
    /// Why the query failed.
    pub(crate) async fn wait(&self, patience: Duration) -> Result<Told> {
        let mut stage = self.stage.clone();
        // An end of the waiting is no error: how far it is can be told all the same.
        let waited = tokio::time::timeout(patience, stage.wait_for(|stage| stage.end.is_some()).map_ok(|_| ())).await;
        let Stage { segments, end } = self.stage.borrow().clone();
        let rows = match (end, waited) {
            (Some(Err(error)), _) => return Err(error),
            (Some(Ok(())), _) => Some(segments.iter().map(|segment| segment.rows).sum()),
            (None, Ok(Err(_))) => return Err(Error::new(Kind::Internal, "what computed the result stopped")),
            (None, _) => None,
        };
        let mut told = self.told();
        let part = if rows.is_some() { 1. } else { self.progress.now().part().unwrap_or(0.).clamp(0., 0.99) };
        *told = told.max(part);
        Ok(Told { part: *told, segments: segments.len(), rows })
    }

    /// A poisoned lock only means that another thread panicked; the number is valid at every instant.
    fn told(&self) -> MutexGuard<'_, f64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the result was computed from, behind the last of its segments. Of one whose batches are there already: it may be told only now that it is the last.
    pub(crate) fn record(&self, segment: usize) -> Vec<Provenance> {
        let Stage { segments, end } = self.stage.borrow().clone();
        let is_last = matches!(end, Some(Ok(()))) && segment + 1 == segments.len();
        if is_last { vec![self.provenance.clone()] } else { Vec::new() }
    }

    /// The batches of a segment; any number of times.
    ///
    /// # Errors
    /// `NotFound` when there is no such segment.
    pub(crate) fn batches(&self, segment: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let start = self.stage.borrow().segments.get(segment).map(|segment| segment.start);
        let start = start.ok_or_else(|| {
            let error = Error::new(Kind::NotFound, "the result has no such part yet");
            error.hint("PollFlightInfo tells the endpoints of those that there are")
        })?;
        let opened = Reopened { file: Arc::clone(&self.file), at: start };
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

/// A segment that is being written.
struct Writing {
    writer: StreamWriter<BufWriter<Shared>>,
    segment: Segment,
}

impl Writing {
    fn begin(file: BufWriter<Shared>, start: u64, schema: &SchemaRef) -> Result<Self> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        Ok(Self { writer: StreamWriter::try_new_with_options(file, schema, options)?, segment: Segment { start, rows: 0 } })
    }

    /// Writes a batch, and tells where the file ends.
    fn write(&mut self, batch: &RecordBatch, most: u64) -> Result<u64> {
        self.writer.write(batch).map_err(unwritable)?;
        self.segment.rows += batch.num_rows() as u64;
        let end = self.writer.get_mut().stream_position().map_err(unwritable)?;
        if end > most {
            return Err(unwritable(format!("it takes more than {} MiB", most >> 20)));
        }
        Ok(end)
    }

    /// Ends the segment, all of which is in the file then.
    fn finish(mut self) -> Result<(Segment, BufWriter<Shared>)> {
        self.writer.finish().map_err(unwritable)?;
        let mut file = self.writer.into_inner().map_err(unwritable)?;
        file.flush().map_err(unwritable)?;
        Ok((self.segment, file))
    }
}

/// Writes the result, the first segment of which has the size that is given, tells of each segment that is there, and gives the last: nobody fetches
/// it before it is known to be the last.
async fn run(
    query: Query,
    schema: SchemaRef,
    file: Arc<File>,
    (mut size, most): (u64, u64),
    tell: &watch::Sender<Stage>,
) -> Result<Segment> {
    let mut batches = query.stream()?;
    let mut writing = Writing::begin(BufWriter::new(Shared(file)), 0, &schema)?;
    let (mut count, mut end) = (1, 0);
    while let Some(batch) = batches.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = wire::batch(&batch, &schema)?;
        let columns = Arc::clone(&schema);
        // A segment ends when there are rows for another.
        let is_full = count < MOST_SEGMENTS && end - writing.segment.start >= size;
        let (next, now, ended) = blocking(move || {
            let (mut writing, ended) = match is_full {
                true => {
                    let (segment, mut file) = writing.finish()?;
                    let start = file.stream_position().map_err(unwritable)?;
                    (Writing::begin(file, start, &columns)?, Some(segment))
                }
                false => (writing, None),
            };
            let end = writing.write(&batch, most)?;
            Ok((writing, end, ended))
        })
        .await?;
        (writing, end) = (next, now);
        if let Some(segment) = ended {
            (count, size) = (count + 1, size * 2);
            tell.send_modify(|stage| stage.segments.push(segment));
        }
    }
    Ok(blocking(move || writing.finish()).await?.0)
}

/// A file that is written by one.
#[derive(Debug)]
struct Shared(Arc<File>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut self.0.as_ref(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Write::flush(&mut self.0.as_ref())
    }
}

impl Seek for Shared {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        Seek::seek(&mut self.0.as_ref(), position)
    }
}

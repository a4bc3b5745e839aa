//! Parquet is read ahead: while a row group is decoded, the next ones are on their way.
//!
//! ```text
//! ask for columns of row group 4, then of 5 -> the same columns of 6 are asked for; then of 6 -> those of 7 and 8; of 7 -> of 9 to 11
//! ```
//!
//! Only a reader that goes from row group to row group is helped, and more with each that follows, so that little is fetched for nothing
//! where statistics or a LIMIT spare some: at the first that is spared it ends. What is ahead is bounded by [`MOST`] row groups and by
//! [`MOST_BYTES`].

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion_common_runtime::SpawnedTask;
use datafusion_datasource::{FileRange, PartitionedFile};
use datafusion_datasource_parquet::ParquetFileReaderFactory;
use datafusion_physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

/// Row groups that are ahead at most: a store that answers after 20 ms is so kept busy by decoding that takes 3 ms for each.
const MOST: usize = 8;
/// Bytes that are ahead at most: what waits for its turn is memory.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

type Reader = Box<dyn AsyncFileReader + Send>;

/// Makes readers that read ahead.
pub(crate) struct AheadFactory(pub(crate) Arc<dyn ParquetFileReaderFactory>);

impl Debug for AheadFactory {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "ahead of {:?}", self.0)
    }
}

impl ParquetFileReaderFactory for AheadFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion_common::Result<Reader> {
        let inner = self.0.create_reader(partition, file.clone(), hint, metrics)?;
        let (factory, metrics, range) = (Arc::clone(&self.0), metrics.clone(), file.range.clone());
        let another = Box::new(move || factory.create_reader(partition, file.clone(), hint, &metrics));
        Ok(Box::new(AheadReader {
            inner,
            another,
            range,
            spare: Vec::new(),
            metadata: None,
            before: None,
            depth: 1,
            ahead: VecDeque::new(),
        }))
    }
}

/// Row groups and the columns of them that were asked for.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    row_group: usize,
    columns: Vec<usize>,
}

/// Ranges that are on their way, and the reader that fetches them.
struct Ahead {
    ranges: Vec<Range<u64>>,
    task: SpawnedTask<(Reader, Result<Vec<Bytes>>)>,
}

struct AheadReader {
    inner: Reader,
    /// Makes what reads ahead.
    another: Box<dyn Fn() -> datafusion_common::Result<Reader> + Send>,
    /// What has read ahead, and can again.
    spare: Vec<Reader>,
    /// The part of the file whose row groups are this reader's.
    range: Option<FileRange>,
    metadata: Option<Arc<ParquetMetaData>>,
    before: Option<Asked>,
    /// How many row groups may be ahead; none any more after one that was not asked for.
    depth: usize,
    /// The row groups behind the one that was asked for last, one after the other.
    ahead: VecDeque<Ahead>,
}

impl AheadReader {
    /// The bytes of `ranges`, if they are on their way.
    async fn arrived(&mut self, ranges: &[Range<u64>]) -> Option<Result<Vec<Bytes>>> {
        let Ahead { ranges: expected, task } = self.ahead.pop_front()?;
        if expected != ranges {
            // Dropping what is ahead gives the requests up.
            self.ahead.clear();
            self.depth = 0;
            return None;
        }
        self.depth = (self.depth * 2).min(MOST);
        match task.join().await {
            Ok((spare, bytes)) => {
                self.spare.push(spare);
                Some(bytes)
            }
            Err(error) => Some(Err(ParquetError::External(Box::new(error)))),
        }
    }

    /// Sets out for the row groups behind the one of `ranges`, if one after the other is asked for.
    fn look_ahead(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        let Some(metadata) = self.metadata.clone() else { return Ok(()) };
        let asked = asked(&metadata, ranges, self.before.as_ref().map_or(0, |before| before.row_group));
        let before = std::mem::replace(&mut self.before, asked.clone());
        let (Some(asked), Some(before)) = (asked, before) else { return Ok(()) };
        if before.columns != asked.columns || before.row_group + 1 != asked.row_group {
            return Ok(());
        }
        let size = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        let mut bytes: u64 = self.ahead.iter().map(|ahead| size(&ahead.ranges)).sum();
        while self.ahead.len() < self.depth {
            let next = metadata.row_groups().get(asked.row_group + 1 + self.ahead.len());
            let Some(next) = next.filter(|next| self.is_own(next)) else { break };
            let Some(ranges) = asked.columns.iter().map(|column| chunk(next, *column)).collect::<Option<Vec<_>>>() else { break };
            bytes += size(&ranges);
            if bytes > MOST_BYTES {
                break;
            }
            let spare = self.spare.pop().map_or_else(|| (self.another)(), Ok);
            let mut spare = spare.map_err(|error| ParquetError::External(Box::new(error)))?;
            let wanted = ranges.clone();
            let task = SpawnedTask::spawn(async move {
                let bytes = spare.get_byte_ranges(wanted).await;
                (spare, bytes)
            });
            self.ahead.push_back(Ahead { ranges, task });
        }
        Ok(())
    }

    /// Whether a row group is this reader's: the one of the partition in which its first page lies, as DataFusion has it.
    fn is_own(&self, row_group: &RowGroupMetaData) -> bool {
        let Some(range) = &self.range else { return true };
        let Some(first) = row_group.columns().first() else { return false };
        let start = first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset());
        range.contains(start)
    }
}

/// Where a column of a row group lies; `None` where the footer says nonsense, which whoever reads the column complains about.
fn chunk(row_group: &RowGroupMetaData, column: usize) -> Option<Range<u64>> {
    let column = row_group.columns().get(column)?;
    let start = u64::try_from(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())).ok()?;
    Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
}

/// The row group of which `ranges` are whole columns, at or behind row group `from`.
fn asked(metadata: &ParquetMetaData, ranges: &[Range<u64>], from: usize) -> Option<Asked> {
    let first = ranges.first()?;
    let of = |row_group: &RowGroupMetaData, range: &Range<u64>| {
        (0..row_group.num_columns()).find(|column| chunk(row_group, *column).as_ref() == Some(range))
    };
    let row_group = from + metadata.row_groups().iter().skip(from).position(|row_group| of(row_group, first).is_some())?;
    let columns = ranges.iter().map(|range| of(metadata.row_group(row_group), range)).collect::<Option<_>>()?;
    Some(Asked { row_group, columns })
}

impl AsyncFileReader for AheadReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            if self.metadata.is_none() {
                // Another reader has asked for it to plan the scan, so that it is in memory.
                self.metadata = Some(self.inner.get_metadata(None).await?);
            }
            let arrived = self.arrived(&ranges).await;
            self.look_ahead(&ranges)?;
            match arrived {
                Some(bytes) => bytes,
                None => self.inner.get_byte_ranges(ranges).await,
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        self.inner.get_metadata(options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use futures::TryStreamExt;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// What the readers of a file in memory were asked for: the number of the reader, and the ranges.
    type Log = Arc<Mutex<Vec<(usize, Vec<Range<u64>>)>>>;

    #[derive(Debug, Default)]
    struct Memory {
        file: Bytes,
        log: Log,
        readers: Mutex<usize>,
    }

    struct MemoryReader {
        file: Bytes,
        log: Log,
        number: usize,
    }

    impl ParquetFileReaderFactory for Memory {
        fn create_reader(
            &self,
            _: usize,
            _: PartitionedFile,
            _: Option<usize>,
            _: &ExecutionPlanMetricsSet,
        ) -> datafusion_common::Result<Reader> {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            *readers += 1;
            Ok(Box::new(MemoryReader { file: self.file.clone(), log: Arc::clone(&self.log), number: *readers }))
        }
    }

    impl AsyncFileReader for MemoryReader {
        fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
            async move { Ok(self.file.slice(range.start as usize..range.end as usize)) }.boxed()
        }

        fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
            let file = &self.file;
            let parts = ranges.iter().map(|range| file.slice(range.start as usize..range.end as usize)).collect();
            self.log.lock().unwrap_or_else(PoisonError::into_inner).push((self.number, ranges));
            async move { Ok(parts) }.boxed()
        }

        fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
            async move { Ok(Arc::new(ParquetMetaDataReader::new().parse_and_finish(&self.file)?)) }.boxed()
        }
    }

    fn memory() -> Result<Memory> {
        let column: ArrayRef = Arc::new((0..600).collect::<Int64Array>());
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&column)), ("b", column)])?;
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(Memory { file: file.into(), ..Memory::default() })
    }

    async fn rows(reader: Reader, row_groups: Option<Vec<usize>>) -> Result<usize> {
        let reader: Box<dyn AsyncFileReader> = reader;
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
        let builder = row_groups.into_iter().fold(builder, ParquetRecordBatchStreamBuilder::with_row_groups);
        let batches: Vec<RecordBatch> = builder.build()?.try_collect().await?;
        Ok(batches.iter().map(RecordBatch::num_rows).sum())
    }

    fn reader(memory: Memory, range: Option<FileRange>) -> datafusion_common::Result<(Reader, Log)> {
        let log = Arc::clone(&memory.log);
        let mut file = PartitionedFile::new("file", memory.file.len() as u64);
        file.range = range;
        let reader = AheadFactory(Arc::new(memory)).create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?;
        Ok((reader, log))
    }

    fn ahead(log: &Log) -> (usize, usize) {
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        (log.len(), log.iter().filter(|(number, _)| *number > 1).count())
    }

    #[tokio::test]
    async fn row_groups_that_follow_are_fetched_ahead_and_once() -> datafusion_common::Result<()> {
        let (reader, log) = reader(memory()?, None)?;
        assert_eq!(rows(reader, None).await?, 600);
        // The first two tell that one follows the other.
        assert_eq!(ahead(&log), (6, 4));
        Ok(())
    }

    #[tokio::test]
    async fn what_is_skipped_is_fetched_in_vain_once() -> datafusion_common::Result<()> {
        let (reader, log) = reader(memory()?, None)?;
        assert_eq!(rows(reader, Some(vec![0, 1, 3, 4, 5])).await?, 500);
        // Of what is ahead when a row group is left out, as much was asked for as came before it was given up.
        assert!(matches!(ahead(&log), (5..=7, 0..=2)), "{log:?}");
        Ok(())
    }

    #[tokio::test]
    async fn row_groups_of_other_partitions_are_not_fetched() -> datafusion_common::Result<()> {
        let memory = memory()?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&memory.file)?;
        let end = chunk(metadata.row_group(3), 0).map_or(0, |range| range.start as i64);
        let (reader, log) = reader(memory, Some(FileRange { start: 0, end }))?;
        assert_eq!(rows(reader, Some(vec![0, 1, 2])).await?, 300);
        assert_eq!(ahead(&log), (3, 1));
        Ok(())
    }
}

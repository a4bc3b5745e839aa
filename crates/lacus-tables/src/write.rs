//! Rows to Parquet files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Kind, Result, Rows, fit_columns};
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tokio::runtime::Handle;

use crate::delta::DataFile;

/// A file grows to about this.
const LARGEST: usize = 256 << 20;

/// Files that no log names yet: they are deleted when this is dropped, unless they were [kept](Written::keep).
#[derive(Debug)]
pub(crate) struct Written {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// Where a drop can start the deletion: it may happen on a thread without a runtime.
    runtime: Handle,
    /// The files, and one that was begun.
    names: BTreeSet<String>,
    pub(crate) files: Vec<DataFile>,
    pub(crate) rows: u64,
}

impl Written {
    fn new(store: &Arc<dyn ObjectStore>, folder: &Path) -> Self {
        let (names, files, runtime) = (BTreeSet::new(), Vec::new(), Handle::current());
        Self { store: Arc::clone(store), folder: folder.clone(), runtime, names, files, rows: 0 }
    }

    /// A log names the files now, or may.
    pub(crate) fn keep(mut self) {
        self.names.clear();
    }

    /// Deletes the files when a commit was refused. After any other error nobody knows whether a log names them: they stay, to be swept up
    /// if none does.
    pub(crate) fn settle<T>(self, committed: Result<T>) -> Result<T> {
        match &committed {
            Err(error) if error.kind() == Kind::ObjectChanged => drop(self),
            _ => self.keep(),
        }
        committed
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let paths: Vec<_> = self.names.iter().map(|name| Ok(self.folder.clone().join(name.as_str()))).collect();
        let store = Arc::clone(&self.store);
        self.runtime.spawn(async move {
            // What can't be deleted is swept up later.
            let _: Vec<_> = store.delete_stream(stream::iter(paths).boxed()).collect().await;
        });
    }
}

/// Writes `rows` into files of `folder` that have the columns `stored`, in the same order.
///
/// # Errors
/// `InvalidQuery` for a value that its column can't hold, or a NULL where none may be; what the rows and the store say.
pub(crate) async fn write(store: &Arc<dyn ObjectStore>, folder: &Path, stored: &SchemaRef, mut rows: Rows<'_>) -> Result<Written> {
    let mut written = Written::new(store, folder);
    let plain = Arc::new(in_files(stored));
    let mut open: Option<(String, AsyncArrowWriter<BufWriter>, u64)> = None;
    while let Some(batch) = rows.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = fit_columns(&batch, &plain)?;
        let (_, writer, count) = match &mut open {
            Some(open) => open,
            None => {
                let name = format!("part-{:032x}.parquet", rand::random::<u128>());
                let object = BufWriter::new(Arc::clone(store), folder.clone().join(name.as_str()));
                let writer = AsyncArrowWriter::try_new(object, Arc::clone(&plain), Some(properties()))?;
                written.names.insert(name.clone());
                open.insert((name, writer, 0))
            }
        };
        writer.write(&batch).await?;
        *count += batch.num_rows() as u64;
        if writer.bytes_written() + writer.in_progress_size() > LARGEST
            && let Some(full) = open.take()
        {
            close(&mut written, full).await?;
        }
    }
    if let Some(last) = open {
        close(&mut written, last).await?;
    }
    Ok(written)
}

async fn close(written: &mut Written, (name, mut writer, rows): (String, AsyncArrowWriter<BufWriter>, u64)) -> Result<()> {
    writer.finish().await?;
    let modified = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    written.files.push(DataFile { name, size: writer.bytes_written() as u64, modified, rows: Some(rows) });
    written.rows += rows;
    Ok(())
}

fn properties() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

/// What stands in the files: views are a matter of reading.
fn in_files(stored: &Schema) -> Schema {
    let field = |field: &Arc<Field>| {
        let kept = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::new(field.name(), kept, field.is_nullable())
    };
    Schema::new(stored.fields().iter().map(field).collect::<Vec<_>>())
}

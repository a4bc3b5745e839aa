//! The log of a Delta table: read, and added to, by the kernel of Delta.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use delta_kernel::engine_data::FilteredEngineData;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::table_features::ColumnMappingMode;
use delta_kernel::transaction::{CommitResult, Transaction, UpdateTableOperation};
use delta_kernel::{FileMeta, KernelError, Snapshot};
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use delta_kernel_default_engine::{DefaultEngine, build_add_file_metadata};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;
use url::Url;

use crate::ordered::Ordered;

/// What the log says of who wrote.
const WRITER: &str = concat!("Lacus/", env!("CARGO_PKG_VERSION"));
/// How often a commit is tried again when others commit at the same time.
const ATTEMPTS: usize = 100;

/// A data file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its name in the folder of the table.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) modified: i64,
    /// `None` when the log doesn't say.
    pub(crate) rows: Option<u64>,
}

/// A table, as one version of its log tells it.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) snapshot: SnapshotRef,
    pub(crate) files: Arc<Vec<DataFile>>,
}

impl State {
    pub(crate) fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The schema, as it was written down.
    pub(crate) fn schema(&self) -> Result<Schema> {
        let schema: Schema = self.snapshot.schema().as_ref().try_into_arrow()?;
        Ok(schema)
    }
}

/// What a commit does to the files of a table.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) added: Vec<DataFile>,
    /// The names of those that are taken away; when one of them is gone already, the commit is refused.
    pub(crate) removed: HashSet<String>,
    /// Whether the rows are others afterwards.
    pub(crate) changes_rows: bool,
}

/// One log. Its calls wait for the store, on a thread that may.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    runtime: Handle,
}

impl Log {
    /// The log of the table in `folder`.
    ///
    /// # Errors
    /// `Unsupported` on a runtime of one thread: who waits for the store would keep it from answering.
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, folder: Path) -> Result<Self> {
        let runtime = Handle::current();
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Err(Error::new(Kind::Unsupported, "tables need a tokio runtime of several threads")
                .hint("build it with `tokio::runtime::Builder::new_multi_thread`"));
        }
        Ok(Self { store: Arc::new(Ordered(Arc::clone(store))), folder, runtime })
    }

    fn engine(&self) -> DefaultEngine<TokioMultiThreadExecutor> {
        let executor = Arc::new(TokioMultiThreadExecutor::new(self.runtime.clone()));
        DefaultEngine::builder(Arc::clone(&self.store)).with_task_executor(executor).build()
    }

    fn root(&self) -> Result<Url> {
        Url::parse(&format!("lake:///{}/", self.folder)).map_err(|error| Error::new(Kind::Internal, error.to_string()))
    }

    async fn waiting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &DefaultEngine<TokioMultiThreadExecutor>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this, &this.engine())).await.map_err(stopped)?
    }

    /// The table as it is now; `known` is an earlier version of it. `None` when there is none.
    pub(crate) async fn state(&self, known: Option<State>) -> Result<Option<State>> {
        self.waiting(move |log, engine| log.read(engine, known)).await
    }

    fn read(&self, engine: &DefaultEngine<TokioMultiThreadExecutor>, known: Option<State>) -> Result<Option<State>> {
        let anew = || Snapshot::builder_for(self.root()?.as_str()).build(engine).map_err(of_kernel);
        let snapshot = match &known {
            // Versions behind the one that is known may have been cleaned away since.
            Some(known) => Snapshot::builder_from(Arc::clone(&known.snapshot)).build(engine).map_err(of_kernel).or_else(|_| anew()),
            None => anew(),
        };
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(known) = known.filter(|known| known.version() == snapshot.version()) {
            return Ok(Some(known));
        }
        let mapped = snapshot.table_properties().column_mapping_mode;
        if mapped.is_some_and(|mode| mode != ColumnMappingMode::None) {
            return Err(Error::new(
                Kind::Unsupported,
                "the columns have other names in the files of the table: another program changed it",
            ));
        }
        let mut files: Vec<ScanFile> = Vec::new();
        let scan = Arc::clone(&snapshot).scan_builder().build().map_err(of_kernel)?;
        for part in scan.scan_metadata(engine).map_err(of_kernel)? {
            files = part.map_err(of_kernel)?.visit_scan_files(files, |files, file| files.push(file)).map_err(of_kernel)?;
        }
        let files = files.into_iter().map(|file| {
            if file.dv_info.has_vector() || !file.partition_values.is_empty() {
                let what = "rows of the table are marked as deleted, or it is partitioned: another program changed it";
                return Err(Error::new(Kind::Unsupported, what).with("file", &file.path));
            }
            Ok(DataFile {
                name: file.path,
                size: u64::try_from(file.size).unwrap_or(0),
                modified: file.modification_time,
                rows: file.stats.map(|stats| stats.num_records),
            })
        });
        let mut files = files.collect::<Result<Vec<_>>>()?;
        // Rows are read in the order in which they were written, as far as anything orders them.
        files.sort_unstable_by(|left, right| (left.modified, &left.name).cmp(&(right.modified, &right.name)));
        Ok(Some(State { snapshot, files: Arc::new(files) }))
    }

    /// Begins the log with `schema` and its first files.
    pub(crate) async fn create(&self, schema: SchemaRef, files: Vec<DataFile>) -> Result<()> {
        self.waiting(move |log, engine| {
            let schema: StructType = schema.as_ref().try_into_kernel()?;
            let committer = Box::new(FileSystemCommitter::new());
            let begun = delta_kernel::transaction::create_table::create_table(log.root()?.as_str(), Arc::new(schema), WRITER, true);
            let mut transaction = begun.build(engine, committer).map_err(of_kernel)?;
            log.add(&mut transaction, &files)?;
            match transaction.commit(engine).map_err(of_kernel)? {
                CommitResult::Committed(_) => Ok(()),
                CommitResult::Retryable(failed) => Err(of_kernel(failed.error)),
                // The folder has a random name: what is there can only be the first attempt, whose answer was lost.
                CommitResult::Conflicted(_) => Ok(()),
            }
        })
        .await
    }

    /// Commits a change in one step, after those that others committed meanwhile. The state is that right after it, where it can be read.
    ///
    /// # Errors
    /// `ObjectChanged` when a file that is to be removed is gone; then nothing is changed. After any other error nobody knows.
    pub(crate) async fn commit(&self, operation: UpdateTableOperation, change: Change) -> Result<Option<State>> {
        self.waiting(move |log, engine| {
            let mark = format!("{:032x}", rand::random::<u128>());
            let mut known = None;
            for _ in 0..ATTEMPTS {
                let state = log.read(engine, known)?.ok_or_else(gone)?;
                let here = state.files.iter().filter(|file| change.removed.contains(&file.name)).count();
                if here != change.removed.len() {
                    return Err(Error::new(Kind::ObjectChanged, "another statement changed the same rows of the table meanwhile")
                        .hint("run the statement again")
                        .retryable(true));
                }
                let attempted = log.attempt(engine, &state, operation.clone(), &change, &mark);
                // The answer to a write may be lost although it was carried out: the entry itself says whose it is.
                let committed = match &attempted {
                    Ok(true) => true,
                    _ => log.is_ours(state.version() + 1, &mark).unwrap_or(false),
                };
                match attempted {
                    // What is committed stays so, whether or not it can be read just now.
                    _ if committed => return Ok(log.read(engine, Some(state)).ok().flatten()),
                    Ok(_) => known = Some(state),
                    Err(error) => return Err(error),
                }
            }
            Err(Error::new(Kind::ObjectChanged, "others write to the table all the time").hint("try again").retryable(true))
        })
        .await
    }

    /// Whether the entry of a version is the one that bears `mark`.
    fn is_ours(&self, version: u64, mark: &str) -> Result<bool> {
        let entry = self.folder.clone().join("_delta_log").join(format!("{version:020}.json"));
        let store = Arc::clone(&self.store);
        let read = async move { Ok::<_, Error>(store.get(&entry).await?.bytes().await?) };
        let bytes = self.runtime.block_on(read)?;
        Ok(String::from_utf8_lossy(&bytes).contains(mark))
    }

    /// One attempt on top of `state`; false when another commit came first, or nobody knows.
    fn attempt(
        &self,
        engine: &DefaultEngine<TokioMultiThreadExecutor>,
        state: &State,
        operation: UpdateTableOperation,
        change: &Change,
        mark: &str,
    ) -> Result<bool> {
        let begun = Arc::clone(&state.snapshot).update_table(operation, WRITER, change.changes_rows);
        let begun = begun.with_operation_parameters([("mark", Some(mark))]);
        let begun = if change.removed.is_empty() && change.changes_rows { begun.with_blind_append() } else { begun };
        let mut transaction = begun.build(engine, Box::new(FileSystemCommitter::new())).map_err(of_kernel)?;
        self.add(&mut transaction, &change.added)?;
        if !change.removed.is_empty() {
            let scan = Arc::clone(&state.snapshot).scan_builder().build().map_err(of_kernel)?;
            for part in scan.scan_metadata(engine).map_err(of_kernel)? {
                let part = part.map_err(of_kernel)?;
                let names = part.visit_scan_files(Vec::new(), |names, file| names.push(file.path)).map_err(of_kernel)?;
                let (data, mut selected) = part.scan_files.into_parts();
                selected.resize(data.len(), true);
                // The visitor told the selected rows alone, in their order.
                let mut names = names.into_iter();
                for chosen in selected.iter_mut().filter(|chosen| **chosen) {
                    *chosen = names.next().is_some_and(|name| change.removed.contains(&name));
                }
                if selected.contains(&true) {
                    transaction.remove_files(FilteredEngineData::try_new(data, selected).map_err(of_kernel)?);
                }
            }
        }
        match transaction.commit(engine).map_err(of_kernel)? {
            CommitResult::Committed(_) => Ok(true),
            CommitResult::Conflicted(_) | CommitResult::Retryable(_) => Ok(false),
        }
    }

    /// Sums the log up, so that it need not be read from its beginning.
    pub(crate) async fn checkpoint(&self, state: State) -> Result<()> {
        self.waiting(move |_, engine| state.snapshot.checkpoint(engine, None).map(|_| ()).map_err(of_kernel)).await
    }

    fn add<S>(&self, transaction: &mut Transaction<S>, files: &[DataFile]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let context = transaction.write_state().and_then(|state| state.write_context_builder().build()).map_err(of_kernel)?;
        for file in files {
            transaction.add_files(build_add_file_metadata(self.added(file)?, &context).map_err(of_kernel)?);
        }
        Ok(())
    }

    /// What the log says of a file.
    fn added(&self, file: &DataFile) -> Result<DataFileMetadata> {
        let location = self.root()?.join(&file.name).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let rows = file.rows.and_then(|rows| i64::try_from(rows).ok());
        // Bounds of columns stand in the footers of the files, where Lacus reads them.
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![rows]));
        let stats = StructArray::from(vec![(Arc::new(Field::new("numRecords", DataType::Int64, true)), rows)]);
        Ok(DataFileMetadata::new(FileMeta::new(location, file.modified, file.size), stats))
    }
}

/// The error for a task that panicked, or whose runtime went away.
#[expect(clippy::needless_pass_by_value, reason = "stands behind map_err")]
pub(crate) fn stopped(error: JoinError) -> Error {
    Error::new(Kind::Internal, format!("a task of the table stopped: {error}"))
}

fn gone() -> Error {
    Error::new(Kind::ObjectChanged, "the table was dropped meanwhile").hint("run the statement again")
}

/// An error of the kernel: what the store said, where it said something.
fn of_kernel(error: KernelError) -> Error {
    if let Some(found) = Error::find(&error) {
        return found.clone();
    }
    let missing = matches!(error, KernelError::FileNotFound(_) | KernelError::InvalidTableLocation(_))
        || error.to_string().contains("No files in log segment");
    match missing {
        true => Error::new(Kind::NotFound, format!("there is no table: {error}")),
        false => Error::new(Kind::CorruptData, format!("the log of the table can't be used: {error}")),
    }
}

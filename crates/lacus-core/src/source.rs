use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};

use crate::{DatasetSpec, ReferenceFiles, ReferenceForm, Result};

/// The kind of thing that opens a dataset: files, arrays, a database, a site.
///
/// A source turns a [`DatasetSpec`] into a table. Everything it discovers (schema, partitions, statistics) is carried in the
/// provider, so that no later step asks again. Register one with the engine's builder.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The word for this source in messages, such as `files`.
    fn name(&self) -> &'static str;

    /// The formats that this source opens, as they stand after `format =` and `read_`.
    fn formats(&self) -> &[&'static str];

    /// The format that this source would read `path` as, judged by its ending; `None` when it doesn't know.
    fn format_of(&self, path: &str) -> Option<&'static str>;

    /// Checks what can be checked without opening anything: options and their values.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names the option and the nearest known one.
    fn check(&self, spec: &DatasetSpec) -> Result<()>;

    /// Opens the dataset. Reads metadata only.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, `CorruptData` when a file can't be read, naming the file.
    async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>>;

    /// Forgets what is remembered of the files of a dataset, so that they are learned anew.
    ///
    /// # Errors
    /// When its location can't be read.
    fn forget(&self, _spec: &DatasetSpec) -> Result<()> {
        Ok(())
    }

    /// Whether datasets of this kind hold several tables: the dataset's name is a schema then, and also the table that
    /// [`Source::open`] gives.
    fn has_tables(&self) -> bool {
        false
    }

    /// The tables of a dataset that holds several. Reads metadata only.
    ///
    /// # Errors
    /// As [`Source::open`].
    async fn tables(&self, _spec: &DatasetSpec, _session: &dyn Session) -> Result<Vec<TableInfo>> {
        Ok(Vec::new())
    }

    /// The tables of the schema `system` that this source fills.
    fn system_tables(&self) -> &[&'static str] {
        &[]
    }

    /// One of [`Source::system_tables`], over the given datasets of this source. A dataset that can't be opened has a row that says why.
    ///
    /// # Errors
    /// When the table can't be made.
    async fn system_table(
        &self,
        _table: &str,
        _specs: &[Arc<DatasetSpec>],
        _session: &dyn Session,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }

    /// How far the index of a dataset knows its files; `None` when this source keeps no index.
    ///
    /// # Errors
    /// As [`Source::open`].
    async fn index_status(&self, _spec: &DatasetSpec, _session: &dyn Session) -> Result<Option<IndexStatus>> {
        Ok(None)
    }

    /// Brings the index of a dataset up to its files: what it knows is kept, what is new or changed is opened. `progress` is told how
    /// many files are done, of how many. What is given is how far the index knew them before; `None` when this source keeps no index.
    ///
    /// # Errors
    /// As [`Source::open`]; a single file that can't be opened is no error, but is named in the result.
    async fn build_index(&self, _spec: &DatasetSpec, _session: &dyn Session, _progress: IndexProgress<'_>) -> Result<Option<IndexStatus>> {
        Ok(None)
    }

    /// What the index of a dataset knows, as references that other programs read the files by; `None` when this source keeps no index.
    /// Several files follow one another along the dimension `along`.
    ///
    /// # Errors
    /// `NotFound` without an index, `ObjectChanged` when the files are no longer those of the index, `InvalidQuery` for a dimension
    /// that several files lack.
    async fn export_index(
        &self,
        _spec: &DatasetSpec,
        _session: &dyn Session,
        _form: ReferenceForm,
        _along: Option<&str>,
    ) -> Result<Option<ReferenceFiles>> {
        Ok(None)
    }

    /// Opens one table of a dataset that holds several; `None` when it has no such table.
    ///
    /// # Errors
    /// As [`Source::open`].
    async fn open_table(&self, _spec: &DatasetSpec, _table: &str, _session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }
}

/// Told how many files of an index are done, of how many.
pub type IndexProgress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// How far the index of a dataset knows its files.
#[derive(Debug, Clone, Default)]
pub struct IndexStatus {
    /// Where the index is kept.
    pub place: String,
    /// Whether there is one.
    pub exists: bool,
    /// The number of files of the dataset.
    pub files: u64,
    /// Of them, those that the index knows as they are.
    pub current: u64,
    /// Of them, those that the index knows in another version.
    pub changed: u64,
    /// Files that the index knows, and that are no longer there.
    pub removed: u64,
    /// Files that could not be opened, and why; they stay out of the index.
    pub failed: Vec<(String, String)>,
}

impl IndexStatus {
    /// Files that the index does not know.
    pub fn added(&self) -> u64 {
        self.files.saturating_sub(self.current + self.changed)
    }
}

/// A table of a dataset that holds several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// The name.
    pub name: String,
    /// What it holds, in a few words.
    pub description: Option<String>,
    /// Whether listings show it; tables of metadata and of bounds can be asked for by name alone.
    pub listed: bool,
}

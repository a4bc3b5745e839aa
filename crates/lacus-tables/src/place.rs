//! The place for tables.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use delta_kernel::transaction::UpdateTableOperation;
use lacus_core::{Error, IfExists, Kind, Result, Rows, TableName, Tables};
use lacus_files::FilesSource;
use lacus_storage::{Stores, TABLES};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tokio_util::task::TaskTracker;

use crate::catalog::Catalog;
use crate::delta::{Change, Log, State, stopped};
use crate::table::WrittenTable;
use crate::types::{self, Columns};
use crate::write::{self, Written};

/// The schema that every lake has.
const MAIN: &str = "main";
/// How many tables are remembered as they were read last.
const MOST_KNOWN: usize = 1000;

/// A table as it was read last.
#[derive(Debug, Clone)]
struct Known {
    state: State,
    columns: Columns,
    opened: Option<Arc<WrittenTable>>,
}

/// The tables in the store that the lake writes to.
///
/// Clones share what is known.
#[derive(Debug, Clone)]
pub struct LakeTables {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stores: Arc<Stores>,
    files: Arc<FilesSource>,
    pub(crate) catalog: Catalog,
    known: Mutex<HashMap<Path, Known>>,
    /// How long files stay that tables no longer consist of: queries that began before still read them.
    pub(crate) retention: Duration,
    pub(crate) swept: AtomicBool,
    /// When each table was swept last.
    pub(crate) swept_at: Mutex<HashMap<Path, Instant>>,
    /// The tables whose files are being merged.
    pub(crate) merging: Mutex<HashSet<Path>>,
    /// What was begun in the background.
    pub(crate) tasks: TaskTracker,
}

impl LakeTables {
    /// Files that tables no longer consist of stay for so long, unless it is said otherwise.
    pub const RETENTION: Duration = Duration::from_secs(3600);

    /// Tables in the store that `stores` write to; `files` reads their Parquet.
    pub fn new(stores: Arc<Stores>, files: Arc<FilesSource>, retention: Duration) -> Self {
        let (catalog, known, merging) = (Catalog::default(), Mutex::default(), Mutex::default());
        Self {
            shared: Arc::new(Shared {
                stores,
                files,
                catalog,
                known,
                retention,
                swept: AtomicBool::new(false),
                swept_at: Mutex::default(),
                merging,
                tasks: TaskTracker::new(),
            }),
        }
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.shared.stores) as Arc<dyn ObjectStore>
    }

    /// The folder of all tables.
    fn root(&self) -> Option<Path> {
        self.shared.stores.write_to().map(|store| Path::from(store.as_str()).join(TABLES))
    }

    fn needed_root(&self) -> Result<Path> {
        let none = || {
            Error::new(Kind::PermissionDenied, "there is no place for tables in this lake")
                .hint("write `write_to = \"STORE\"` under [lake] in the lake file, the name of a store that says `writable = true`")
        };
        let root = self.root().ok_or_else(none)?;
        if !self.shared.swept.swap(true, Ordering::Relaxed) {
            self.sweep(root.clone());
        }
        Ok(root)
    }

    /// The folder of a table.
    async fn folder(&self, name: &TableName) -> Result<Option<Path>> {
        let Some(root) = self.root() else { return Ok(None) };
        let version = self.shared.catalog.now(self.store().as_ref(), &root).await?;
        Ok(version.names.folder(&name.schema, &name.table).map(|folder| root.join(folder.as_str())))
    }

    async fn needed_folder(&self, name: &TableName) -> Result<Path> {
        self.needed_root()?;
        self.folder(name).await?.ok_or_else(|| Error::new(Kind::NotFound, format!("no table `{name}` that can be written")))
    }

    /// A table as it is now.
    async fn known(&self, folder: &Path) -> Result<Option<Known>> {
        let before = self.held().get(folder).cloned();
        let log = Log::new(&self.store(), folder.clone())?;
        let Some(state) = log.state(before.as_ref().map(|known| known.state.clone())).await? else { return Ok(None) };
        if let Some(before) = before.filter(|before| before.state.version() == state.version()) {
            return Ok(Some(before));
        }
        let known = Known { columns: types::read_back(&state.schema()?)?, state, opened: None };
        self.remember(folder, known.clone());
        Ok(Some(known))
    }

    fn remember(&self, folder: &Path, known: Known) {
        let mut all = self.held();
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(folder.clone(), known);
    }

    fn opened(&self, folder: &Path, name: &TableName, mut known: Known) -> Result<Arc<WrittenTable>> {
        if let Some(opened) = &known.opened {
            return Ok(Arc::clone(opened));
        }
        let objects = known.state.files.iter().map(|file| ObjectMeta {
            location: folder.clone().join(file.name.as_str()),
            last_modified: chrono_of(file.modified),
            size: file.size,
            e_tag: None,
            version: None,
        });
        let objects: Vec<ObjectMeta> = objects.collect();
        let inner = match objects.is_empty() {
            true => None,
            false => Some(self.shared.files.parquet_table(&name.table, &known.columns.stored, objects)?),
        };
        let opened = Arc::new(WrittenTable::new(known.columns.clone(), &known.state.files, inner));
        known.opened = Some(Arc::clone(&opened));
        self.remember(folder, known);
        Ok(opened)
    }

    /// Commits what was written, whether or not the caller still waits: a commit that has begun is not taken back.
    async fn commit(&self, folder: Path, operation: UpdateTableOperation, written: Written, removed: HashSet<String>) -> Result<u64> {
        let this = self.clone();
        let committing = tokio::spawn(async move {
            let (rows, added) = (written.rows, written.files.clone());
            let log = Log::new(&this.store(), folder.clone())?;
            let committed = log.commit(operation, Change { added, removed, changes_rows: true }).await;
            if let Some(state) = written.settle(committed)? {
                this.keep_up(&folder, state);
            }
            Ok(rows)
        });
        committing.await.map_err(stopped)?
    }

    /// A poisoned lock only means that another thread panicked; the map is valid at every instant.
    fn held(&self) -> MutexGuard<'_, HashMap<Path, Known>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The columns of the files in a folder.
    pub(crate) async fn columns(&self, folder: &Path) -> Result<Columns> {
        let known = self.known(folder).await?;
        known.map(|known| known.columns).ok_or_else(|| Error::new(Kind::NotFound, "the table was dropped meanwhile"))
    }
}

fn chrono_of(milliseconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

/// A folder for a table: its name, as far as every store takes it, and a random part.
fn new_folder(name: &TableName) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '_' { character } else { '_' };
    let shown: String = name.table.chars().map(plain).take(40).collect();
    format!("{shown}-{:016x}", rand::random::<u64>())
}

fn exists(name: &TableName) -> Error {
    Error::new(Kind::AlreadyExists, format!("the table `{}` exists already", name.table))
        .hint("choose another name, or CREATE OR REPLACE TABLE")
}

fn no_schema(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no schema `{name}`")).hint(format!("CREATE SCHEMA {name} makes it"))
}

#[async_trait]
impl Tables for LakeTables {
    fn check(&self) -> Result<()> {
        self.needed_root().map(|_| ())
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        let Some(root) = self.root() else { return Ok(Vec::new()) };
        let version = self.shared.catalog.now(self.store().as_ref(), &root).await?;
        Ok(version.names.schemas.keys().filter(|schema| *schema != MAIN).cloned().collect())
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        let Some(root) = self.root() else { return Ok(Vec::new()) };
        let version = self.shared.catalog.now(self.store().as_ref(), &root).await?;
        let of_schema = |(schema, tables): (&String, &std::collections::BTreeMap<String, String>)| {
            let schema = schema.clone();
            let name = move |table: &String| TableName { schema: schema.clone(), table: table.clone() };
            tables.keys().map(name).collect::<Vec<_>>()
        };
        Ok(version.names.schemas.iter().flat_map(of_schema).collect())
    }

    async fn open(&self, name: &TableName, _: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(folder) = self.folder(name).await? else { return Ok(None) };
        let known = self.known(&folder).await.map_err(|error| error.with("table", name))?;
        let Some(known) = known else {
            return Err(Error::new(Kind::CorruptData, "the folder of the table holds no log")
                .with("table", name)
                .with("folder", self.shared.stores.shown(&folder)));
        };
        Ok(Some(self.opened(&folder, name, known)?))
    }

    fn check_schema(&self, schema: &SchemaRef) -> Result<()> {
        types::written_down(schema).map(|_| ())
    }

    async fn create(&self, name: &TableName, schema: SchemaRef, rows: Rows<'_>, if_exists: IfExists) -> Result<Option<u64>> {
        let (root, store) = (self.needed_root()?, self.store());
        let written_down = types::written_down(&schema)?;
        // Looked at first, so that nothing is computed for a name that is taken; the step at the end decides.
        let before = self.shared.catalog.now(store.as_ref(), &root).await?;
        let there = before.names.folder(&name.schema, &name.table).is_some();
        match if_exists {
            IfExists::Keep if there => return Ok(None),
            IfExists::Fail if there => return Err(exists(name)),
            _ if name.schema != MAIN && !before.names.schemas.contains_key(&name.schema) => return Err(no_schema(&name.schema)),
            _ => {}
        }
        let folder_name = new_folder(name);
        let folder = root.clone().join(folder_name.as_str());
        let columns = types::read_back(&written_down)?;
        let written = write::write(&store, &folder, &columns.stored, rows).await?;
        let (this, name) = (self.clone(), name.clone());
        let making = tokio::spawn(async move {
            let count = written.rows;
            Log::new(&store, folder.clone())?.create(written_down, written.files.clone()).await?;
            // From here on the catalog decides: after an error of the store nobody knows, and what is named must not be deleted.
            written.keep();
            let made = this.shared.catalog.change(&store, &root, |names| {
                if name.schema != MAIN && !names.schemas.contains_key(&name.schema) {
                    return Err(no_schema(&name.schema));
                }
                let tables = names.schemas.entry(name.schema.clone()).or_default();
                match (tables.get(&name.table).cloned(), if_exists) {
                    (Some(_), IfExists::Fail) => return Err(exists(&name)),
                    (Some(_), IfExists::Keep) => return Ok(false),
                    (before, _) => {
                        tables.insert(name.table.clone(), folder_name.clone());
                        before.into_iter().for_each(|folder| names.retire(folder));
                    }
                }
                Ok(true)
            });
            match made.await {
                Ok(true) => Ok(Some(count)),
                Ok(false) => {
                    this.delete_folder(&folder).await;
                    Ok(None)
                }
                Err(error) => {
                    // The change itself was refused, before anything was written.
                    if matches!(error.kind(), Kind::AlreadyExists | Kind::NotFound) {
                        this.delete_folder(&folder).await;
                    }
                    Err(error)
                }
            }
        });
        making.await.map_err(stopped)?
    }

    async fn append(&self, name: &TableName, rows: Rows<'_>) -> Result<u64> {
        let folder = self.needed_folder(name).await?;
        let columns = self.columns(&folder).await?;
        let written = write::write(&self.store(), &folder, &columns.stored, rows).await.map_err(|error| error.with("table", name))?;
        if written.files.is_empty() {
            return Ok(0);
        }
        self.commit(folder, UpdateTableOperation::Write, written, HashSet::new()).await.map_err(|error| error.with("table", name))
    }

    async fn rewrite(&self, name: &TableName, seen: &Arc<dyn TableProvider>, rows: Rows<'_>) -> Result<u64> {
        let seen = seen.downcast_ref::<WrittenTable>();
        let seen = seen.ok_or_else(|| Error::new(Kind::Internal, format!("`{name}` was not opened by its place")))?;
        let folder = self.needed_folder(name).await?;
        let columns = self.columns(&folder).await?;
        // Merging would take away the files that this replaces.
        let _merging = self.keep_from_merging(&folder).await;
        let written = write::write(&self.store(), &folder, &columns.stored, rows).await.map_err(|error| error.with("table", name))?;
        if written.files.is_empty() && seen.files.is_empty() {
            return Ok(0);
        }
        let operation = UpdateTableOperation::Update;
        self.commit(folder, operation, written, seen.files.clone()).await.map_err(|error| error.with("table", name))
    }

    async fn settle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        let Some(root) = self.root() else { return Ok(false) };
        let store = self.store();
        let dropped = self.shared.catalog.change(&store, &root, |names| {
            let folder = names.schemas.get_mut(&name.schema).and_then(|tables| tables.remove(&name.table));
            Ok(folder.map(|folder| names.retire(folder)).is_some())
        });
        dropped.await
    }

    async fn create_schema(&self, name: &str) -> Result<bool> {
        let root = self.needed_root()?;
        TableName::new(name, name)?;
        let store = self.store();
        let made = self.shared.catalog.change(&store, &root, |names| {
            let new = name != MAIN && !names.schemas.contains_key(name);
            names.schemas.entry(name.to_owned()).or_default();
            Ok(new)
        });
        made.await
    }

    async fn drop_schema(&self, name: &str, cascade: bool) -> Result<bool> {
        let Some(root) = self.root() else { return Ok(false) };
        let store = self.store();
        let dropped = self.shared.catalog.change(&store, &root, |names| {
            let Some(tables) = names.schemas.get(name) else { return Ok(false) };
            if !tables.is_empty() && !cascade {
                let message = format!("the schema `{name}` holds {} tables", tables.len());
                return Err(Error::new(Kind::InvalidQuery, message).hint("drop them first, or write CASCADE"));
            }
            for folder in names.schemas.remove(name).unwrap_or_default().into_values() {
                names.retire(folder);
            }
            Ok(true)
        });
        dropped.await
    }
}

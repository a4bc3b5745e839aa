use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::Statistics;
use datafusion_datasource::file_format::FileFormat;
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{DatasetSpec, Error, Kind, Location, Partitions, Result, Source, describe_field};
use lacus_storage::{Known, Pattern, ReadScope, Stores, lake_url, same_version};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::compressed::Compression;
use crate::format::{self, Format};
use crate::kept::KeptColumns;
use crate::layout::Layouts;
use crate::named::Unpacking;
use crate::table::{Files, FilesTable};
use crate::union::{declared_fits, unite};

/// How many files are opened at once to learn their schemas: remote latency is hidden, a small server is not flooded.
const CONCURRENT_OPENS: usize = 32;
/// Enough for every dataset of a large lake.
const MOST: usize = 500_000;
/// How many tables are kept as they were opened.
const MOST_TABLES: usize = 1000;

/// A file, and the options with which it was looked at.
pub(crate) type Key = (Path, Arc<str>);

/// Single files in folders and buckets as datasets.
///
/// A dataset is opened anew by every query: its files are listed, so new and changed files are seen at once. If they are those of the last
/// time, the table is that of the last time. What was learned about a file (schema, statistics) is kept for as long as the file has the same
/// version.
#[derive(Debug)]
pub struct FilesSource {
    stores: Arc<Stores>,
    schemas: Known<Key, SchemaRef>,
    statistics: Arc<Known<Key, Arc<Statistics>>>,
    versions: Known<Key, ()>,
    tables: Mutex<HashMap<(String, String), Opened>>,
    kept: Option<Arc<KeptColumns>>,
}

/// A dataset as it was opened last.
#[derive(Debug)]
struct Opened {
    spec: DatasetSpec,
    prefix: Path,
    listed: Arc<Vec<ObjectMeta>>,
    table: Arc<FilesTable>,
}

impl Opened {
    /// Whether `listed` are the same versions of the same objects.
    fn is_of(&self, spec: &DatasetSpec, listed: &Arc<Vec<ObjectMeta>>) -> bool {
        let same = |(before, now): (&ObjectMeta, &ObjectMeta)| before.location == now.location && same_version(before, now);
        let unchanged = || self.listed.len() == listed.len() && self.listed.iter().zip(listed.iter()).all(same);
        self.spec == *spec && (Arc::ptr_eq(&self.listed, listed) || unchanged())
    }
}

impl FilesSource {
    /// A source over `stores`.
    pub fn new(stores: Arc<Stores>) -> Self {
        let (schemas, statistics, versions) = (Known::new(MOST), Arc::new(Known::new(MOST)), Known::new(MOST));
        Self { stores, schemas, statistics, versions, tables: Mutex::default(), kept: None }
    }

    /// Keeps decoded columns of Parquet files in so many bytes of memory; none in 0.
    #[must_use]
    pub fn keeping(self, bytes: usize) -> Self {
        Self { kept: (bytes > 0).then(|| Arc::new(KeptColumns::new(bytes))), ..self }
    }

    /// DataFusion keeps footers by path, size and time. An object that was replaced within the second by one of the same size is another
    /// object all the same, as its entity tag says: its footer is forgotten.
    fn forget_replaced(&self, session: &dyn Session, objects: &[ObjectMeta]) {
        let footers = session.runtime_env().cache_manager.get_file_metadata_cache();
        let none: Arc<str> = "".into();
        for object in objects {
            let key = (object.location.clone(), Arc::clone(&none));
            if self.versions.get(&key, object).is_none() {
                footers.remove(&object.location);
                self.versions.put(key, object, ());
            }
        }
    }

    /// A poisoned lock only means that another thread panicked; the map is valid at every instant.
    fn tables(&self) -> MutexGuard<'_, HashMap<(String, String), Opened>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, opened: Opened) {
        let mut tables = self.tables();
        let files: usize = tables.values().map(|known| known.listed.len()).sum();
        if files + opened.listed.len() > MOST || tables.len() >= MOST_TABLES {
            tables.clear();
        }
        tables.insert((opened.spec.name.clone(), opened.spec.location.to_string()), opened);
    }

    async fn schemas(&self, opening: &Opening<'_>, objects: &[ObjectMeta]) -> Result<Vec<SchemaRef>> {
        let learn = |object: ObjectMeta| async move {
            let key = opening.key(&object);
            if let Some(schema) = self.schemas.get(&key, &object) {
                return Ok(schema);
            }
            let learned = opening.reader.infer_schema(opening.session, &opening.store, std::slice::from_ref(&object)).await;
            let schema = learned.map_err(|error| ragged(Error::from(error)).with("file", self.stores.shown(&object.location)))?;
            self.schemas.put(key, &object, Arc::clone(&schema));
            Ok::<_, Error>(schema)
        };
        stream::iter(objects.iter().cloned()).map(learn).buffered(CONCURRENT_OPENS).try_collect().await
    }
}

/// One opening of a dataset.
struct Opening<'a> {
    session: &'a dyn Session,
    store: Arc<dyn ObjectStore>,
    reader: Arc<dyn FileFormat>,
    /// The options with which schemas are inferred: the same file has another schema with another delimiter.
    options: Arc<str>,
}

impl Opening<'_> {
    fn key(&self, object: &ObjectMeta) -> Key {
        (object.location.clone(), Arc::clone(&self.options))
    }
}

#[async_trait]
impl Source for FilesSource {
    fn name(&self) -> &'static str {
        "files"
    }

    fn formats(&self) -> &[&'static str] {
        &Format::NAMES
    }

    fn format_of(&self, path: &str) -> Option<&'static str> {
        Format::of(path).map(Format::name)
    }

    fn forget(&self, spec: &DatasetSpec) -> Result<()> {
        let pattern = self.stores.resolve(&spec.location)?;
        let below = |(path, _): &Key| path.prefix_matches(pattern.prefix());
        self.schemas.forget(below);
        self.statistics.forget(below);
        // An object of no known version is taken for one that was replaced: its footer is forgotten when it is opened.
        self.versions.forget(below);
        self.tables()
            .retain(|_, opened| !(opened.prefix.prefix_matches(pattern.prefix()) || pattern.prefix().prefix_matches(&opened.prefix)));
        Ok(())
    }

    fn check(&self, spec: &DatasetSpec) -> Result<()> {
        let pattern = self.stores.resolve(&spec.location)?;
        let known = match &spec.format {
            Some(_) => Some(format::choose(spec, &[], &|path| self.stores.shown(path))?),
            None => pattern.ending().and_then(Format::of),
        };
        match known {
            Some(format) => format.reader(spec).map(|_| ()),
            None => Ok(()),
        }
    }

    async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let pattern = self.stores.resolve(&spec.location)?;
        let store = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let scope = session.config().get_extension::<ReadScope>();
        let listed = self.stores.objects(&pattern, store.as_ref(), scope.as_deref()).await?;
        let key = (spec.name.clone(), spec.location.to_string());
        if let Some(known) = self.tables().get(&key).filter(|known| known.is_of(spec, &listed)) {
            return Ok(Arc::clone(&known.table) as Arc<dyn TableProvider>);
        }
        let table = Arc::new(self.table(spec, session, &pattern, &store, &listed).await?);
        self.remember(Opened { spec: spec.clone(), prefix: pattern.prefix().clone(), listed, table: Arc::clone(&table) });
        Ok(table)
    }
}

impl FilesSource {
    /// A table of Parquet files that somebody else keeps account of: its schema is `stored`, and nothing is listed or opened now. The files
    /// must not change.
    ///
    /// # Errors
    /// `Internal` when there is no reader of Parquet.
    pub fn parquet_table(&self, name: &str, stored: &SchemaRef, objects: Vec<ObjectMeta>) -> Result<Arc<dyn TableProvider>> {
        let reader = Format::Parquet.reader(&DatasetSpec::new(name, Location::Path(name.into())))?;
        let rows = objects.iter().map(|_| Vec::new()).collect();
        let partitions = Partitions { fields: Vec::new(), rows };
        let layouts = Layouts::one(stored, objects.len());
        let files = Files::new(Arc::new(objects), layouts, partitions, Unpacking::default());
        let (stores, statistics) = (Arc::clone(&self.stores), Arc::clone(&self.statistics));
        Ok(Arc::new(FilesTable::new(name, stores, reader, Arc::clone(stored), files, statistics).keeping(self.kept.clone())))
    }

    /// The table of a dataset whose files were `listed`.
    async fn table(
        &self,
        spec: &DatasetSpec,
        session: &dyn Session,
        pattern: &Pattern,
        store: &Arc<dyn ObjectStore>,
        listed: &Arc<Vec<ObjectMeta>>,
    ) -> Result<FilesTable> {
        // Tools leave empty objects behind as marks of folders; a lone empty file is a mistake worth an error.
        let marks = listed.len() > 1 && listed.iter().any(|object| object.size == 0);
        let objects = match marks {
            true => Arc::new(listed.iter().filter(|object| object.size > 0).cloned().collect::<Vec<_>>()),
            false => Arc::clone(listed),
        };
        if objects.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("only empty files match `{}`", pattern.shown())));
        }
        self.forget_replaced(session, &objects);
        let format = format::choose(spec, &objects, &|path| self.stores.shown(path))?;
        let reader = format.reader(spec)?;
        let options = format!("{} {:?}", format.name(), spec.options).into();
        let declared = format.compression(spec)?;
        let packed = |object: &ObjectMeta| Compression::of(object.location.as_ref()).0 != Compression::None;
        let needed = format.is_written() && declared.map_or_else(|| objects.iter().any(packed), |declared| declared != Compression::None);
        let unpacking = Unpacking { needed, declared };
        let opening = Opening { session, store: unpacking.store(Arc::clone(store)), reader, options };
        let schemas = self.schemas(&opening, &objects).await?;
        let shown: Vec<String> = objects.iter().map(|object| self.stores.shown(&object.location)).collect();
        let (stored, layouts) = table_schema(spec, format, &shown, &schemas)?;
        let paths: Vec<&Path> = objects.iter().map(|object| &object.location).collect();
        let partitions = Partitions::find(pattern.prefix(), &paths, spec.partitions.as_deref())
            .map_err(|error| error.with("dataset", &spec.name))?
            .without(&stored);
        let files = Files::new(objects, layouts, partitions, unpacking);
        let kept = if format.keeps(spec)? { self.kept.clone() } else { None };
        let stores = Arc::clone(&self.stores);
        let table = FilesTable::new(&spec.name, stores, opening.reader, stored, files, Arc::clone(&self.statistics));
        Ok(table.keeping(kept))
    }
}

/// The stored columns of the table, and how each file lays them out.
fn table_schema(spec: &DatasetSpec, format: Format, shown: &[String], schemas: &[SchemaRef]) -> Result<(SchemaRef, Layouts)> {
    let files = || shown.iter().map(String::as_str).zip(schemas);
    let stored = match &spec.schema {
        Some(declared) => declared.as_ref().clone(),
        None => unite(files(), format)?,
    };
    if stored.fields().is_empty() {
        let error = Error::new(Kind::CorruptData, "the files hold no columns");
        return Err(match shown.first() {
            Some(first) => error.with("file", first),
            None => error,
        });
    }
    let stored = Arc::new(described(stored, spec));
    let Some(declared) = &spec.schema else { return Ok((Arc::clone(&stored), Layouts::of(format, schemas, &stored))) };
    let header = spec.options.get("header").map_or(Ok(true), |header| header.boolean("header"))?;
    if format.is_text() && !header {
        return Ok((Arc::clone(&stored), Layouts::one(&stored, schemas.len())));
    }
    declared_fits(declared, files(), format)?;
    Ok((Arc::clone(&stored), Layouts::of(format, schemas, &stored)))
}

/// What helps against the commonest reasons for rows of different lengths.
fn ragged(error: Error) -> Error {
    let unequal = ["unequal lengths", "incorrect number of fields"].iter().any(|words| error.message().contains(words));
    if unequal {
        error.hint("mend the row; other separators and lines of comment are told by the options `delimiter` and `comment`")
    } else {
        error
    }
}

fn described(schema: Schema, spec: &DatasetSpec) -> Schema {
    let fields = schema.fields().iter().map(|field| match spec.columns.get(field.name()) {
        Some(column) => Arc::new(describe_field(field.as_ref().clone(), column.description.as_deref(), column.unit.as_deref())),
        None => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<Arc<Field>>>())
}

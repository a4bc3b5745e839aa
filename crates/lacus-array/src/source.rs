//! Datasets of arrays.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::Field;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion_catalog::{Session, TableProvider};
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{DatasetSpec, Error, Kind, Notices, OptionValue, Result, Source as DatasetSource, TableInfo, describe_field, nearest};
use lacus_storage::{Known, Pattern, ReadScope, Stores, lake_url};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use crate::chunks::Opened;
use crate::format::{Format, Source};
use crate::mapping::{ColumnLayout, MappingOptions, map};
use crate::metadata_tables::{ARRAYS, ATTRIBUTES, metadata_table};
use crate::table::{ArrayTable, Coordinates};
use crate::union::{Listed, listed, unite};

/// How many containers are opened at once: latency is hidden, a small server is not flooded.
const CONCURRENT_OPENS: usize = 32;
/// How many datasets are opened at once for tables about all of them.
const CONCURRENT_DATASETS: usize = 4;
/// What the first request of a container asks for: the headers of most files, all of a small one.
const HEAD: u64 = 64 * 1024;
/// Containers whose metadata is kept.
const MOST_CONTAINERS: usize = 100_000;
/// Coordinates that are kept.
const MOST_COORDINATES: usize = 100_000;

const OPTIONS: [&str; 6] = ["broadcast", "decode_cf", "dims", "group", "index", "table"];

/// Datasets of arrays in files and folders: each set of dimensions is a table.
///
/// A dataset is listed by every query, so new and changed files are seen at once. What was learned of a container (its metadata, its
/// coordinates) is kept for as long as it has the same version.
#[derive(Debug)]
pub struct ArraySource {
    stores: Arc<Stores>,
    formats: Vec<Format>,
    names: Vec<&'static str>,
    containers: Known<(Path, MappingOptions), Arc<Opened>>,
    coordinates: Arc<Coordinates>,
}

impl ArraySource {
    /// A source of the given formats over `stores`.
    pub fn new(stores: Arc<Stores>, formats: Vec<Format>) -> Self {
        let names = formats.iter().map(|format| format.name).collect();
        let coordinates = Arc::new(Known::new(MOST_COORDINATES));
        Self { stores, formats, names, containers: Known::new(MOST_CONTAINERS), coordinates }
    }

    fn format(&self, spec: &DatasetSpec) -> Result<&Format> {
        let path = spec.location.to_string();
        let found = match &spec.format {
            Some(name) => self.formats.iter().find(|format| format.name == name),
            None => self.formats.iter().find(|format| Some(format.name) == self.format_of(&path)),
        };
        found.ok_or_else(|| {
            Error::new(Kind::InvalidConfiguration, "the location's ending tells no format of arrays")
                .with("location", path)
                .hint(format!("name one: {}", self.names.join(", ")))
        })
    }

    /// Opens all containers of a dataset, in the order of their paths.
    async fn opened(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Vec<Arc<Opened>>> {
        let options = Options::of(spec)?;
        let format = self.format(spec)?;
        let pattern = self.stores.resolve(&spec.location)?;
        let store = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let objects = if format.folder { folders(&pattern, &store).await? } else { pattern.list(store.as_ref()).await? };
        if let Some(scope) = session.config().get_extension::<ReadScope>() {
            objects.iter().filter(|_| !format.folder).for_each(|object| scope.pin(object));
        }
        let open = |object: ObjectMeta| {
            let (store, mapping) = (Arc::clone(&store), options.mapping.clone());
            async move { self.open_container(format, object, store, mapping).await }
        };
        stream::iter(objects).map(open).buffered(CONCURRENT_OPENS).try_collect().await
    }

    async fn open_container(
        &self,
        format: &Format,
        object: ObjectMeta,
        store: Arc<dyn ObjectStore>,
        options: MappingOptions,
    ) -> Result<Arc<Opened>> {
        let key = (object.location.clone(), options);
        let shown = self.stores.shown(&object.location);
        // A folder is known by the one object that describes all of it, if there is one; else it is read again.
        let version = match (format.folder, format.openers.first()) {
            (true, Some(opener)) => opener.version(&object, &store).await.map_err(|error| error.with("file", &shown))?,
            _ => Some(object.clone()),
        };
        if let Some(opened) = version.as_ref().and_then(|version| self.containers.get(&key, version)) {
            return Ok(opened);
        }
        let opened = self.read_container(format, &object, store).await.map_err(|error| error.with("file", &shown))?;
        let mapping = map(opened.container(), &key.1);
        let opened = Arc::new(Opened { store: opened, mapping, object, shown });
        if let Some(version) = version {
            self.containers.put(key, &version, Arc::clone(&opened));
        }
        Ok(opened)
    }

    async fn read_container(
        &self,
        format: &Format,
        object: &ObjectMeta,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Arc<dyn crate::format::GridStore>> {
        let head = match format.folder {
            true => Bytes::new(),
            false => {
                let options = GetOptions::new().with_range(Some(GetRange::Bounded(0..HEAD.min(object.size.max(1)))));
                store.get_opts(&object.location, options).await?.bytes().await?
            }
        };
        let Some(opener) = format.openers.iter().find(|opener| opener.recognises(&head)) else {
            let error = Error::new(Kind::CorruptData, format!("this is no {} file", format.name));
            return Err(error.hint("narrow the path, or name another format"));
        };
        let opened = opener.open(&Source { store, object: object.clone(), head }).await?;
        for array in &opened.container().arrays {
            let ranks = [array.dimensions.len(), array.chunk.len()];
            if array.problem.is_none() && (ranks != [array.shape.len(); 2] || array.chunk.contains(&0)) {
                let error = Error::new(Kind::Internal, format!("{:?} cells in chunks of {:?}", array.shape, array.chunk));
                return Err(error.with("array", array.path()));
            }
        }
        Ok(opened)
    }

    fn table(&self, spec: &DatasetSpec, name: &str, opened: &[Arc<Opened>]) -> Result<Arc<dyn TableProvider>> {
        let describe = |field: Field| match spec.columns.get(field.name()) {
            Some(column) => describe_field(field, column.description.as_deref(), column.unit.as_deref()),
            None => field,
        };
        let united = unite(name, opened, describe)?;
        Ok(Arc::new(ArrayTable::new(spec.name.clone(), united, Arc::clone(&self.coordinates))))
    }
}

/// The options of a dataset.
#[derive(Debug, Default)]
struct Options {
    mapping: MappingOptions,
    group: Option<String>,
    dimensions: Option<Vec<String>>,
    table: Option<String>,
}

impl Options {
    fn of(spec: &DatasetSpec) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in &spec.options {
            match name.as_str() {
                "broadcast" => options.mapping.broadcast = value.boolean(name)?,
                "index" => options.mapping.index = value.boolean(name)?,
                "decode_cf" => options.mapping.decode_cf = value.boolean(name)?,
                "dims" => {
                    options.dimensions =
                        Some(text(name, value)?.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect())
                }
                "group" => options.group = Some(text(name, value)?.trim_matches('/').to_owned()),
                "table" => options.table = Some(text(name, value)?.to_owned()),
                _ => {
                    let unknown = Error::new(Kind::InvalidConfiguration, format!("arrays have no option `{name}`"));
                    return Err(match nearest(name, OPTIONS) {
                        Some(near) => unknown.hint(format!("did you mean `{near}`?")),
                        None => unknown.hint(format!("their options are {}", OPTIONS.join(", "))),
                    });
                }
            }
        }
        Ok(options)
    }

    fn fits(&self, table: &Listed) -> bool {
        let mut dimensions = table.dimensions.clone();
        dimensions.sort();
        let same_dimensions = self.dimensions.as_ref().is_none_or(|wanted| {
            let mut wanted = wanted.clone();
            wanted.sort();
            wanted == dimensions
        });
        let same_name = self.table.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&table.name));
        self.group.as_ref().is_none_or(|wanted| *wanted == table.group) && same_dimensions && same_name
    }

    fn narrows(&self) -> bool {
        self.group.is_some() || self.dimensions.is_some() || self.table.is_some()
    }
}

fn text<'a>(name: &str, value: &'a OptionValue) -> Result<&'a str> {
    match value {
        OptionValue::Text(text) => Ok(text),
        other => Err(Error::new(Kind::InvalidConfiguration, format!("option `{name}` is {other}, but must be a text"))),
    }
}

/// The folders that a pattern names, each as an object of no size: a container of many objects has no version of its own.
async fn folders(pattern: &Pattern, store: &Arc<dyn ObjectStore>) -> Result<Vec<ObjectMeta>> {
    let folders = pattern.folders(store.as_ref()).await?;
    let object = |location: Path| ObjectMeta { location, last_modified: Default::default(), size: 0, e_tag: None, version: None };
    Ok(folders.into_iter().map(object).collect())
}

/// The table that the dataset's name alone means: the one with the most data.
fn largest<'a>(tables: &'a [Listed], options: &Options) -> Option<&'a Listed> {
    let fitting = tables.iter().filter(|table| options.fits(table));
    // Of equals the first: `max_by_key` gives the last.
    fitting.rev().max_by_key(|table| (!table.auxiliary, table.volume))
}

fn no_table(tables: &[Listed], options: &Options) -> Error {
    let error = Error::new(Kind::NotFound, if options.narrows() { "no table fits the options" } else { "the files hold no arrays" });
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    match options.table.as_deref().and_then(|wanted| nearest(wanted, names.iter().copied())) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if names.is_empty() => error,
        None => error.hint(format!("the tables are {}", names.join(", "))),
    }
}

#[async_trait]
impl DatasetSource for ArraySource {
    fn name(&self) -> &'static str {
        "arrays"
    }

    fn formats(&self) -> &[&'static str] {
        &self.names
    }

    fn format_of(&self, path: &str) -> Option<&'static str> {
        let path = path.trim_end_matches('/').to_ascii_lowercase();
        let ends = |format: &&Format| format.endings.iter().any(|ending| path.ends_with(ending));
        self.formats.iter().find(ends).map(|format| format.name)
    }

    fn check(&self, spec: &DatasetSpec) -> Result<()> {
        self.stores.resolve(&spec.location)?;
        self.format(spec)?;
        Options::of(spec).map(|_| ())
    }

    fn has_tables(&self) -> bool {
        true
    }

    async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let options = Options::of(spec)?;
        let opened = self.opened(spec, session).await?;
        if let Some(table) = options.table.as_deref().and_then(|name| metadata_table(name, &[(spec.name.clone(), Ok(opened.clone()))])) {
            return table;
        }
        let tables = listed(&opened);
        let table = largest(&tables, &options).ok_or_else(|| no_table(&tables, &options))?;
        if !options.narrows()
            && let Some(notices) = session.config().get_extension::<Notices>()
            && let Some(notice) = partial(spec, &opened, &table.name)
        {
            notices.add(notice);
        }
        self.table(spec, &table.name, &opened)
    }

    async fn tables(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Vec<TableInfo>> {
        let opened = self.opened(spec, session).await?;
        let info = |table: Listed| TableInfo {
            description: Some(format!(
                "{} rows along {}",
                table.rows,
                if table.dimensions.is_empty() { "no dimension".to_owned() } else { table.dimensions.join(", ") }
            )),
            listed: !table.auxiliary,
            name: table.name,
        };
        let metadata = [ARRAYS, ATTRIBUTES].map(|name| TableInfo { name: name.to_owned(), description: None, listed: false });
        Ok(listed(&opened).into_iter().map(info).chain(metadata).collect())
    }

    fn system_tables(&self) -> &[&'static str] {
        &["arrays", "attributes"]
    }

    async fn system_table(&self, table: &str, specs: &[Arc<DatasetSpec>], session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        let open = |spec: &Arc<DatasetSpec>| {
            let spec = Arc::clone(spec);
            async move { (spec.name.clone(), self.opened(&spec, session).await) }
        };
        let datasets: Vec<_> = stream::iter(specs).map(open).buffered(CONCURRENT_DATASETS).collect().await;
        metadata_table(&format!("_{table}"), &datasets).transpose()
    }

    async fn open_table(&self, spec: &DatasetSpec, table: &str, session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        let opened = self.opened(spec, session).await?;
        if let Some(table) = metadata_table(table, &[(spec.name.clone(), Ok(opened.clone()))]) {
            return table.map(Some);
        }
        let tables = listed(&opened);
        let exact = tables.iter().find(|known| known.name == table);
        let found = exact.or_else(|| tables.iter().find(|known| known.name.eq_ignore_ascii_case(table)));
        found.map(|found| self.table(spec, &found.name, &opened)).transpose()
    }
}

/// What is in the dataset beside the table that its name alone means.
fn partial(spec: &DatasetSpec, opened: &[Arc<Opened>], table: &str) -> Option<String> {
    let mut elsewhere = BTreeSet::new();
    for opened in opened {
        let layout = opened.mapping.tables.iter().find(|layout| layout.name == table);
        let shown: HashSet<usize> = layout.into_iter().flat_map(|layout| &layout.columns).filter_map(ColumnLayout::array).collect();
        let arrays = opened.store.container().arrays.iter().zip(&opened.mapping.places).enumerate();
        let others = arrays.filter(|(index, (array, place))| {
            let is_data = place.role != "coordinate" && place.role != "bounds" && !array.only_dimension;
            is_data && !shown.contains(index)
        });
        elsewhere.extend(others.map(|(_, (array, _))| array.path()));
    }
    let first = elsewhere.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let more = if elsewhere.len() > 3 { ", ..." } else { "" };
    (!elsewhere.is_empty()).then(|| {
        format!(
            "`{}` is its table `{table}`; {} other variables ({first}{more}) are in other tables or can't be read: see the table `{ARRAYS}`",
            spec.name,
            elsewhere.len()
        )
    })
}

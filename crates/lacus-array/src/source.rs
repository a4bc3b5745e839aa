//! Datasets of arrays.

mod export;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{filter, is_not_null};
use arrow::datatypes::Field;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common_runtime::SpawnedTask;
use datafusion_execution::memory_pool::MemoryPool;
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{
    DatasetSpec, Error, IndexProgress, IndexStatus, Kind, Notices, OptionValue, ReferenceFiles, ReferenceForm, Result,
    Source as DatasetSource, TableInfo, describe_field, nearest,
};
use lacus_storage::{Known, ReadScope, Stores, lake_url};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use crate::chunks::{ChunkReader, Opened};
use crate::differences::{DIFFERENCES, differences, examined};
use crate::file_columns::FileColumns;
use crate::format::{Format, GridStore, Source};
use crate::index::{Builder, Containers, Indices, KnownFile, bounded_arrays, chunk_rows, extremes};
use crate::mapping::{ColumnLayout, MappingOptions, map};
use crate::members::{Described, Member, Members};
use crate::metadata_tables::{ARRAYS, ATTRIBUTES, Dataset, metadata_table};
use crate::references;
use crate::scan::column_of;
use crate::table::{ArrayTable, Coordinates};
use crate::tiles::KnownTiles;
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
/// Coordinates of several dimensions of whose tiles is kept what they span.
const MOST_TILED: usize = 1_000;

const OPTIONS: [&str; 9] = ["attribute_columns", "broadcast", "decode_cf", "dims", "file", "files", "group", "index", "table"];

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
    tiles: Arc<KnownTiles>,
    indices: Option<Indices>,
    /// Containers that an index described and a query opened.
    described: Arc<Known<Path, Arc<dyn GridStore>>>,
}

impl ArraySource {
    /// A source of the given formats over `stores`.
    pub fn new(stores: Arc<Stores>, formats: Vec<Format>) -> Self {
        let names = formats.iter().map(|format| format.name).collect();
        let (coordinates, tiles) = (Arc::new(Known::new(MOST_COORDINATES)), Arc::new(Known::new(MOST_TILED)));
        let (containers, described) = (Known::new(MOST_CONTAINERS), Arc::new(Known::new(MOST_CONTAINERS)));
        Self { stores, formats, names, containers, coordinates, tiles, indices: None, described }
    }

    /// Keeps the indices of datasets below `folder` of `store`.
    #[must_use]
    pub fn with_indices(mut self, store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        self.indices = Some(Indices::new(store, folder));
        self
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

    /// Which files a dataset means, and what they are read as: an index of others is none of it.
    fn place(&self, spec: &DatasetSpec, format: &Format) -> Result<String> {
        let pattern = self.stores.resolve(&spec.location)?;
        Ok(format!("{} /{} {}", format.name, pattern.prefix(), pattern.shown()))
    }

    /// The files or folders of a dataset, in the order of their paths.
    async fn objects(&self, spec: &DatasetSpec, format: &Format, session: &dyn Session) -> Result<(Vec<ObjectMeta>, Arc<dyn ObjectStore>)> {
        let pattern = self.stores.resolve(&spec.location)?;
        let store = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let scope = session.config().get_extension::<ReadScope>();
        if !format.folder {
            let objects = self.stores.objects(&pattern, store.as_ref(), scope.as_deref()).await?;
            return Ok((Arc::unwrap_or_clone(objects), store));
        }
        // Each as an object of no size: a container of many objects has no version of its own.
        let object = |location: &Path| ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size: 0,
            e_tag: None,
            version: None,
        };
        let folders = self.stores.folders(&pattern, store.as_ref(), scope.as_deref()).await?;
        Ok((folders.iter().map(object).collect(), store))
    }

    /// All containers of a dataset, in the order of their paths: those that its index knows are only described, the others are opened.
    async fn members(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<Members>> {
        let options = Options::of(spec)?;
        let format = self.format(spec)?;
        let index = match &self.indices {
            Some(indices) => indices.load(&spec.name).await?,
            None => None,
        };
        if let (Some(index), Some(scope)) = (&index, session.config().get_extension::<ReadScope>()) {
            scope.name_index(&spec.name, &index.version);
        }
        let containers = Containers { format: format.clone(), opened: Arc::clone(&self.described) };
        let described =
            index.map(|index| Described::new(index, containers, Arc::clone(&self.stores), &options.mapping, !options.as_indexed));
        if options.as_indexed {
            let place = self.place(spec, format)?;
            let described = described.filter(|described| described.index.location.as_ref() == Some(&place)).ok_or_else(|| {
                let none = "the files are those of the index, and there is none of this location";
                let error = Error::new(Kind::NotFound, none).with("dataset", &spec.name).with("location", &spec.location);
                error.hint(format!("run `lacus index build {}`, or take the option `files` away", spec.name))
            })?;
            let rows = (0..described.index.len() as u32).map(Member::Row).collect();
            return Ok(Arc::new(Members::new(rows, Some(described))));
        }
        let (objects, store) = self.objects(spec, format, session).await?;
        let (of_index, mapping) = (described.as_ref(), &options.mapping);
        let open = |object: Arc<ObjectMeta>| {
            let store = Arc::clone(&store);
            async move {
                let version = self.version(format, &object, &store).await?;
                let known = version.as_ref().and_then(|version| Some((of_index?, of_index?.index.find(version)?, version)));
                let opened = match known {
                    Some((described, row, version)) => described.container(row, object, Arc::clone(version)),
                    None => self.open_container(format, object, version, store, mapping.clone()).await?,
                };
                Ok::<_, Error>(Member::Opened(opened))
            }
        };
        if format.folder {
            let all = stream::iter(objects).map(Arc::new).map(open).buffered(CONCURRENT_OPENS).try_collect().await?;
            return Ok(Arc::new(Members::new(all, described)));
        }
        // Files need no request to tell their version: what the index knows is not waited for.
        let known = |object: &ObjectMeta| of_index.and_then(|described| described.index.find(object));
        let mut unknown = Vec::new();
        let mut all: Vec<Option<u32>> = Vec::with_capacity(objects.len());
        for object in objects {
            let row = known(&object);
            unknown.extend(row.is_none().then(|| Arc::new(object)));
            all.push(row);
        }
        let opened: Vec<Member> = stream::iter(unknown).map(open).buffered(CONCURRENT_OPENS).try_collect().await?;
        let mut opened = opened.into_iter();
        let all = all.into_iter().filter_map(|row| row.map(Member::Row).or_else(|| opened.next())).collect();
        Ok(Arc::new(Members::new(all, described)))
    }

    /// The object that tells the version of a container. A folder is known by the one object that describes all of it, if there is one;
    /// else it is read again by every query.
    async fn version(&self, format: &Format, object: &Arc<ObjectMeta>, store: &Arc<dyn ObjectStore>) -> Result<Option<Arc<ObjectMeta>>> {
        match (format.folder, format.openers.first()) {
            (true, Some(opener)) => {
                let version =
                    opener.version(object, store).await.map_err(|error| error.with("file", self.stores.shown(&object.location)))?;
                Ok(version.map(Arc::new))
            }
            _ => Ok(Some(Arc::clone(object))),
        }
    }

    async fn open_container(
        &self,
        format: &Format,
        object: Arc<ObjectMeta>,
        version: Option<Arc<ObjectMeta>>,
        store: Arc<dyn ObjectStore>,
        options: MappingOptions,
    ) -> Result<Arc<Opened>> {
        let key = (object.location.clone(), options);
        if let Some(opened) = version.as_ref().and_then(|version| self.containers.get(&key, version)) {
            return Ok(opened);
        }
        let opened =
            read_container(format, &object, store).await.map_err(|error| error.with("file", self.stores.shown(&object.location)))?;
        let mapping = Arc::new(map(opened.container(), &key.1));
        let describes_all = opened.version_describes_all();
        let stores = Arc::clone(&self.stores);
        let decoded = key.1.decode_cf;
        let opened = Arc::new(Opened { store: opened, mapping, object, stores, described: None, decoded, listed: true });
        if let Some(version) = version.filter(|_| describes_all) {
            self.containers.put(key, &version, Arc::clone(&opened));
        }
        Ok(opened)
    }

    /// A dataset with all that its metadata tables tell.
    async fn dataset(&self, spec: &DatasetSpec, members: Result<Arc<Members>>) -> Dataset {
        let index = members.as_ref().ok().and_then(|members| members.index());
        let described = match (&self.indices, index) {
            (Some(indices), Some(index)) => indices.attributes(&spec.name, index).await,
            _ => Ok(Vec::new()),
        };
        let (members, described) = match (members, described) {
            (Ok(members), Ok(described)) => (Ok(members), described),
            (Ok(_), Err(error)) | (Err(error), _) => (Err(error), Vec::new()),
        };
        Dataset { name: spec.name.clone(), members, described }
    }

    async fn metadata_table(&self, name: &str, spec: &DatasetSpec, members: &Arc<Members>) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            ARRAYS | ATTRIBUTES => metadata_table(name, &[self.dataset(spec, Ok(Arc::clone(members))).await]).transpose(),
            _ => Ok(None),
        }
    }

    /// What the files of a dataset disagree about. All of them are opened, and those that can't be are listed.
    async fn differences(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let options = Options::of(spec)?.mapping;
        let format = self.format(spec)?;
        let (objects, store) = self.objects(spec, format, session).await?;
        let pool = &session.runtime_env().memory_pool;
        let examine = |object: ObjectMeta| {
            let options = options.clone();
            self.anew(format, object, &store, pool, options, async |opened, reader| examined(&opened, &reader).await)
        };
        let files: Vec<_> = stream::iter(objects).map(examine).buffered(CONCURRENT_OPENS).collect().await;
        differences(&spec.name, &files)
    }

    /// Opens a container as it is now, whatever is known of it, and does `work` with it; gives its name too. That is a task of its own,
    /// so that all cores parse and decode.
    async fn anew<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        &self,
        format: &Format,
        object: ObjectMeta,
        store: &Arc<dyn ObjectStore>,
        pool: &Arc<dyn MemoryPool>,
        options: MappingOptions,
        work: impl FnOnce(Opened, ChunkReader) -> W + Send + 'static,
    ) -> (String, Result<T>) {
        let (format, stores, store) = (format.clone(), Arc::clone(&self.stores), Arc::clone(store));
        let reader = ChunkReader::new(Arc::clone(&store), Arc::clone(pool));
        let file = stores.shown(&object.location);
        let task = SpawnedTask::spawn(async move {
            let opened = read_container(&format, &object, store).await?;
            let mapping = Arc::new(map(opened.container(), &options));
            let (object, decoded) = (Arc::new(object), options.decode_cf);
            work(Opened { store: opened, mapping, object, stores, described: None, decoded, listed: true }, reader).await
        });
        (file, task.join().await.unwrap_or_else(|error| Err(Error::new(Kind::Internal, error.to_string()))))
    }

    /// The columns that are one value in each file.
    async fn file_columns(&self, spec: &DatasetSpec, members: &Members) -> Result<FileColumns> {
        let options = Options::of(spec)?;
        let mut columns = FileColumns::default();
        let pattern = self.stores.resolve(&spec.location)?;
        columns.add_partitions(members, pattern.prefix(), spec.partitions.as_deref()).map_err(|error| error.with("dataset", &spec.name))?;
        if !options.attribute_columns.is_empty() {
            let described = match (&self.indices, members.index()) {
                (Some(indices), Some(index)) => indices.attributes(&spec.name, index).await?,
                _ => Vec::new(),
            };
            columns.add_attributes(members, &options.attribute_columns, &described)?;
        }
        if options.file {
            columns.add_file(members);
        }
        Ok(columns)
    }

    async fn table(&self, spec: &DatasetSpec, name: &str, members: Arc<Members>, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let file_columns = self.file_columns(spec, &members).await?;
        let describe = |field: Field| match spec.columns.get(field.name()) {
            Some(column) => describe_field(field, column.description.as_deref(), column.unit.as_deref()),
            None => field,
        };
        let notices = session.config().get_extension::<Notices>();
        let mut notice = |text: String| notices.iter().for_each(|notices| notices.add(format!("`{}`: {text}", spec.name)));
        let united = unite(name, members, file_columns, describe, &mut notice)?;
        Ok(Arc::new(ArrayTable::new(spec.name.clone(), united, Arc::clone(&self.coordinates), Arc::clone(&self.tiles))))
    }
}

/// Opens a container with the format's first opener that recognises it.
pub(crate) async fn read_container(format: &Format, object: &ObjectMeta, store: Arc<dyn ObjectStore>) -> Result<Arc<dyn GridStore>> {
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

/// The options of a dataset.
#[derive(Debug, Default)]
struct Options {
    mapping: MappingOptions,
    group: Option<String>,
    dimensions: Option<Vec<String>>,
    table: Option<String>,
    /// Whether the files are those of the index, without a listing.
    as_indexed: bool,
    /// Attributes of whole files that are columns.
    attribute_columns: Vec<String>,
    /// Whether the names of the files are a column.
    file: bool,
}

impl Options {
    fn of(spec: &DatasetSpec) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in &spec.options {
            match name.as_str() {
                "attribute_columns" => options.attribute_columns = words(text(name, value)?),
                "file" => options.file = value.boolean(name)?,
                "broadcast" => options.mapping.broadcast = value.boolean(name)?,
                "index" => options.mapping.index = value.boolean(name)?,
                "decode_cf" => options.mapping.decode_cf = value.boolean(name)?,
                "dims" => options.dimensions = Some(words(text(name, value)?)),
                "files" => {
                    options.as_indexed = match text(name, value)? {
                        "index" => true,
                        "listing" => false,
                        other => {
                            let error = Error::new(Kind::InvalidConfiguration, format!("option `files` is `{other}`"));
                            return Err(error.hint("it is `listing`, or `index` for the files that the index of the dataset holds"));
                        }
                    }
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

fn words(text: &str) -> Vec<String> {
    text.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn text<'a>(name: &str, value: &'a OptionValue) -> Result<&'a str> {
    match value {
        OptionValue::Text(text) => Ok(text),
        other => Err(Error::new(Kind::InvalidConfiguration, format!("option `{name}` is {other}, but must be a text"))),
    }
}

/// The table that the dataset's name alone means: the one with the most data; one of a single row only if there is no other.
fn largest<'a>(tables: &'a [Listed], options: &Options) -> Option<&'a Listed> {
    let fitting = tables.iter().filter(|table| options.fits(table));
    // Of equals the first: `max_by_key` gives the last.
    fitting.rev().max_by_key(|table| (!table.auxiliary, table.rows > 1, table.volume))
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

    fn forget(&self, spec: &DatasetSpec) -> Result<()> {
        let pattern = self.stores.resolve(&spec.location)?;
        let below = |path: &Path| path.prefix_matches(pattern.prefix());
        self.containers.forget(|(path, _)| below(path));
        self.coordinates.forget(|(path, _)| below(path));
        self.tiles.forget(|(path, _)| below(path));
        self.described.forget(below);
        Ok(())
    }

    fn check(&self, spec: &DatasetSpec) -> Result<()> {
        self.stores.resolve(&spec.location)?;
        let format = self.format(spec)?;
        let options = Options::of(spec)?;
        if options.as_indexed && format.folder {
            let error =
                Error::new(Kind::InvalidConfiguration, format!("option `files` is for files, and {} stores are folders", format.name));
            return Err(error.hint("take it away"));
        }
        Ok(())
    }

    fn has_tables(&self) -> bool {
        true
    }

    async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let options = Options::of(spec)?;
        if options.table.as_deref() == Some(DIFFERENCES) {
            return self.differences(spec, session).await;
        }
        let members = self.members(spec, session).await?;
        if let Some(name) = &options.table
            && let Some(table) = self.metadata_table(name, spec, &members).await?
        {
            return Ok(table);
        }
        let tables = listed(&members)?;
        let table = largest(&tables, &options).ok_or_else(|| no_table(&tables, &options))?;
        if !options.narrows()
            && let Some(notices) = session.config().get_extension::<Notices>()
            && let Some(notice) = partial(spec, &members, &table.name)?
        {
            notices.add(notice);
        }
        self.table(spec, &table.name, members, session).await
    }

    async fn tables(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Vec<TableInfo>> {
        let members = self.members(spec, session).await?;
        let info = |table: Listed| TableInfo {
            description: Some(format!(
                "{} rows along {}",
                table.rows,
                if table.dimensions.is_empty() { "no dimension".to_owned() } else { table.dimensions.join(", ") }
            )),
            listed: !table.auxiliary,
            name: table.name,
        };
        let metadata = [ARRAYS, ATTRIBUTES, DIFFERENCES].map(|name| TableInfo { name: name.to_owned(), description: None, listed: false });
        Ok(listed(&members)?.into_iter().map(info).chain(metadata).collect())
    }

    fn system_tables(&self) -> &[&'static str] {
        &["arrays", "attributes"]
    }

    async fn system_table(&self, table: &str, specs: &[Arc<DatasetSpec>], session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        let open = |spec: &Arc<DatasetSpec>| {
            let spec = Arc::clone(spec);
            async move {
                let members = self.members(&spec, session).await;
                self.dataset(&spec, members).await
            }
        };
        let datasets: Vec<_> = stream::iter(specs).map(open).buffered(CONCURRENT_DATASETS).collect().await;
        metadata_table(&format!("_{table}"), &datasets).transpose()
    }

    async fn index_status(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Option<IndexStatus>> {
        let Some(indices) = &self.indices else { return Ok(None) };
        let builder = Builder::start(indices, &spec.name).await;
        let (_, status) = self.survey(spec, session, indices, builder).await?;
        Ok(Some(status))
    }

    async fn build_index(&self, spec: &DatasetSpec, session: &dyn Session, progress: IndexProgress<'_>) -> Result<Option<IndexStatus>> {
        let Some(indices) = &self.indices else { return Ok(None) };
        let builder = Builder::start(indices, &spec.name).await;
        let (Survey { mut builder, unknown, store }, mut status) = self.survey(spec, session, indices, builder).await?;
        let format = self.format(spec)?;
        let (pool, folder) = (&session.runtime_env().memory_pool, format.folder);
        let examine = |(object, version): (ObjectMeta, Option<ObjectMeta>)| {
            let work = async move |opened: Opened, reader: ChunkReader| {
                // The chunks of a folder may change without its metadata: bounds would not be told by its version.
                let known = match folder {
                    true => KnownFile { bounds: BTreeMap::new(), chunks: None },
                    false => KnownFile { bounds: bounds_of(&opened, &reader).await?, chunks: Some(chunk_rows(&opened, &reader).await?) },
                };
                Ok((opened, version, known))
            };
            self.anew(format, object, &store, pool, MappingOptions::default(), work)
        };
        let mut done = status.files - unknown.len() as u64;
        progress(done, status.files);
        let mut examined = stream::iter(unknown).map(examine).buffered(CONCURRENT_OPENS);
        while let Some((file, examined)) = examined.next().await {
            match examined {
                Ok((opened, Some(version), known)) if opened.store.version_describes_all() => {
                    builder.add(version, opened.store.container(), known)?;
                }
                Ok(_) => status.failed.push((file, "the store has no consolidated metadata, whose version would tell its own".into())),
                Err(error) => status.failed.push((file, error.to_string())),
            }
            done += 1;
            progress(done, status.files);
        }
        builder.write(indices, &spec.name, &self.place(spec, format)?).await?;
        Ok(Some(status))
    }

    async fn export_index(
        &self,
        spec: &DatasetSpec,
        session: &dyn Session,
        form: ReferenceForm,
        along: Option<&str>,
    ) -> Result<Option<ReferenceFiles>> {
        let Some(indices) = &self.indices else { return Ok(None) };
        let (index, pieces) = self.current_index(spec, session, indices).await?;
        let references = self.references(spec, session, Arc::new(index), &pieces, along).await?;
        let (arrays, chunks) = references.counts();
        let files = match form {
            ReferenceForm::Json => vec![(String::new(), references::json(&references)?)],
            ReferenceForm::Parquet => references::parquet(&references)?,
        };
        Ok(Some(ReferenceFiles { files, arrays, chunks, left_out: references.left_out }))
    }

    async fn open_table(&self, spec: &DatasetSpec, table: &str, session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
        if table == DIFFERENCES {
            return self.differences(spec, session).await.map(Some);
        }
        let members = self.members(spec, session).await?;
        if let Some(table) = self.metadata_table(table, spec, &members).await? {
            return Ok(Some(table));
        }
        let tables = listed(&members)?;
        let exact = tables.iter().find(|known| known.name == table);
        let found = exact.or_else(|| tables.iter().find(|known| known.name.eq_ignore_ascii_case(table)));
        match found {
            Some(found) => self.table(spec, &found.name, members, session).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The files of a dataset beside what its index knows.
struct Survey {
    /// Holds what is known of the files as they are.
    builder: Builder,
    /// The files that are new or changed, with the objects that tell their versions.
    unknown: Vec<(ObjectMeta, Option<ObjectMeta>)>,
    store: Arc<dyn ObjectStore>,
}

impl ArraySource {
    async fn survey(
        &self,
        spec: &DatasetSpec,
        session: &dyn Session,
        indices: &Indices,
        mut builder: Builder,
    ) -> Result<(Survey, IndexStatus)> {
        let format = self.format(spec)?;
        let (objects, store) = self.objects(spec, format, session).await?;
        let mut status = IndexStatus { place: format!("/{}", indices.place(&spec.name)), exists: builder.len() > 0, ..Default::default() };
        let version = |object: ObjectMeta| {
            let store = Arc::clone(&store);
            async move {
                let version = self.version(format, &Arc::new(object.clone()), &store).await?;
                Ok::<_, Error>((object, version.map(|version| version.as_ref().clone())))
            }
        };
        let versions: Vec<_> = stream::iter(objects).map(version).buffered(CONCURRENT_OPENS).try_collect().await?;
        let mut unknown = Vec::new();
        for (object, version) in versions {
            status.files += 1;
            match &version {
                Some(version) if builder.keep(version)? => status.current += 1,
                Some(version) if builder.knows(&version.location) => {
                    status.changed += 1;
                    unknown.push((object, Some(version.clone())));
                }
                _ => unknown.push((object, version)),
            }
        }
        status.removed = (builder.len() as u64).saturating_sub(status.current + status.changed);
        Ok((Survey { builder, unknown, store }, status))
    }
}

/// The bounds of the coordinates of a container, by the paths of their arrays.
async fn bounds_of(opened: &Opened, reader: &ChunkReader) -> Result<BTreeMap<String, ArrayRef>> {
    let mut bounds = BTreeMap::new();
    for (path, (layout, column)) in bounded_arrays(opened) {
        let mut values = column_of(reader, opened, layout, column).await?;
        // Cells of a swath may lie nowhere. Bounds of several dimensions tell only where a file has nothing, never what it has.
        if column.axes.len() > 1 && values.null_count() > 0 {
            values = filter(&values, &is_not_null(&values)?)?;
        }
        if let Some(extremes) = extremes(&values)? {
            bounds.insert(path, extremes);
        }
    }
    Ok(bounds)
}

/// What is in the dataset beside the table that its name alone means.
fn partial(spec: &DatasetSpec, members: &Members, table: &str) -> Result<Option<String>> {
    let mut elsewhere = BTreeSet::new();
    for (opened, _) in members.alike()? {
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
    Ok((!elsewhere.is_empty()).then(|| {
        format!(
            "`{}` is its table `{table}`; {} other variables ({first}{more}) are in other tables or can't be read: see the table `{ARRAYS}`",
            spec.name,
            elsewhere.len()
        )
    }))
}

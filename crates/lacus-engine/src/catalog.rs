//! What the lake's names mean. Nothing is opened before a query names it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ResolvedTableReference, TableReference};
use futures::{FutureExt, StreamExt, stream};
use lacus_core::{DatasetName, DatasetSpec, Error, Kind, Location, Result, Site, Source, SpreadSpec, TableName, Tables, nearest};

use crate::access::{Access, Asked};
use crate::activity::Activity;
use crate::client::TEMPORARY;
use crate::information_schema::INFORMATION_SCHEMA;
use crate::settings::{MAIN, SYSTEM};
use crate::system;

/// How many datasets are opened at once for listings.
const CONCURRENT_OPENS: usize = 8;

/// What one name of the lake means.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A dataset that a source opens.
    Dataset { spec: Arc<DatasetSpec>, origin: Origin },
    /// A view: the text of its `CREATE VIEW`, planned by every query that uses it.
    View(View),
    /// A dataset of the lake file of which each of several sites has a part.
    Spread(Arc<SpreadSpec>),
    /// A table that the embedding program brought.
    Table { provider: Arc<dyn TableProvider> },
}

/// Who said that there is a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The lake file, which SQL doesn't change.
    LakeFile,
    /// `CREATE EXTERNAL TABLE`: it lasts until the engine closes.
    Sql,
}

/// A table as it is listed: known without opening anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The catalog: the lake's name.
    pub catalog: String,
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
    /// Table or view.
    pub kind: TableKind,
    /// One sentence on what it holds.
    pub description: Option<String>,
}

/// What kind of table a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// A dataset, a table that SQL made, or one that an embedding program brought.
    Table,
    /// A view.
    View,
    /// A table of `information_schema`.
    System,
    /// A table of a session.
    Temporary,
}

impl TableKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Table, Self::View, Self::System, Self::Temporary];

    /// The word for it that tools filter on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::System => "SYSTEM TABLE",
            Self::Temporary => "LOCAL TEMPORARY",
        }
    }
}

/// What CREATE VIEW said.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) definition: String,
    /// The schema in which its names were looked for that have none: they mean the same to whoever asks.
    pub(crate) schema: String,
}

/// The names of one lake, shared by all of its queries.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) lake: String,
    sources: Vec<Arc<dyn Source>>,
    /// The names of `main`.
    entries: RwLock<BTreeMap<String, Entry>>,
    /// The views of schemas that SQL made, by schema and name.
    views: RwLock<BTreeMap<(String, String), View>>,
    written: Option<Arc<dyn Tables>>,
    /// Other engines, by their names.
    sites: BTreeMap<String, Arc<dyn Site>>,
}

impl Catalog {
    pub(crate) fn new(lake: String, sources: Vec<Arc<dyn Source>>, written: Option<Arc<dyn Tables>>) -> Self {
        Self { lake, sources, entries: RwLock::default(), views: RwLock::default(), written, sites: BTreeMap::new() }
    }

    /// With other engines, each a catalog.
    ///
    /// # Errors
    /// `AlreadyExists` for a name that is another catalog's.
    pub(crate) fn with_sites(mut self, sites: Vec<Arc<dyn Site>>) -> Result<Self> {
        for site in sites {
            let name = site.name().to_owned();
            if name == self.lake || self.sites.insert(name.clone(), site).is_some() {
                return Err(Error::new(Kind::AlreadyExists, format!("`{name}` is the name of two catalogs"))
                    .hint("the lake and its sites need names of their own"));
            }
        }
        Ok(self)
    }

    /// The engine whose tables stand in a catalog.
    pub(crate) fn site(&self, catalog: &str) -> Option<&Arc<dyn Site>> {
        self.sites.get(catalog)
    }

    /// All other engines, by their names.
    pub(crate) fn sites(&self) -> &BTreeMap<String, Arc<dyn Site>> {
        &self.sites
    }

    /// The tables that SQL made.
    pub(crate) fn written(&self) -> Option<&Arc<dyn Tables>> {
        self.written.as_ref()
    }

    /// The place for tables that SQL makes.
    pub(crate) fn place_for_tables(&self) -> Result<&Arc<dyn Tables>> {
        let none = || {
            Error::new(Kind::Unsupported, "this engine keeps no tables").hint("call `lacus::register_defaults`, or add a place for them")
        };
        let written = self.written.as_ref().ok_or_else(none)?;
        written.check()?;
        Ok(written)
    }

    pub(crate) fn sources(&self) -> &[Arc<dyn Source>] {
        &self.sources
    }

    pub(crate) fn entries(&self) -> BTreeMap<String, Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds an entry, or replaces what SQL or the program said before.
    pub(crate) fn add(&self, name: &str, entry: Entry, replace: bool) -> Result<()> {
        match &entry {
            // What is written like a place of files means these.
            Entry::View(_) if !name.is_empty() && !is_location(name) => {}
            _ => drop(DatasetName::new(name).map_err(|error| error.with("table", name))?),
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match entries.get(name) {
            Some(Entry::Dataset { origin: Origin::LakeFile, .. } | Entry::Spread(_)) => {
                return Err(Error::new(Kind::AlreadyExists, format!("`{name}` is a dataset of the lake file"))
                    .hint("choose another name, or change the lake file"));
            }
            Some(_) if !replace => {
                return Err(
                    Error::new(Kind::AlreadyExists, format!("`{name}` exists already")).hint("choose another name, or CREATE OR REPLACE")
                );
            }
            _ => entries.insert(name.to_owned(), entry),
        };
        Ok(())
    }

    /// The views of schemas that SQL made, by schema and name.
    pub(crate) fn views_of_schemas(&self) -> BTreeMap<(String, String), View> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A view in a schema that SQL made.
    pub(crate) fn view(&self, schema: &str, name: &str) -> Option<View> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).get(&(schema.to_owned(), name.to_owned())).cloned()
    }

    /// Adds a view to a schema that SQL made.
    pub(crate) fn add_view(&self, schema: &str, name: &str, view: View, replace: bool) -> Result<()> {
        let key = (schema.to_owned(), name.to_owned());
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        if views.contains_key(&key) && !replace {
            return Err(Error::new(Kind::AlreadyExists, format!("`{name}` exists already in `{schema}`"))
                .hint("choose another name, or CREATE OR REPLACE"));
        }
        views.insert(key, view);
        Ok(())
    }

    /// Takes views of a schema away: those for whose names `is_meant`; whether there were any.
    pub(crate) fn remove_views(&self, schema: &str, is_meant: impl Fn(&str) -> bool) -> bool {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        let before = views.len();
        views.retain(|(of, name), _| of != schema || !is_meant(name));
        views.len() < before
    }

    /// Puts the datasets that the lake file says now in the place of those that it said before. Its names come before those of SQL.
    pub(crate) fn replace_lake_file(&self, datasets: Vec<(DatasetName, DatasetSpec)>, spread: Vec<(DatasetName, SpreadSpec)>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| !matches!(entry, Entry::Dataset { origin: Origin::LakeFile, .. } | Entry::Spread(_)));
        entries.extend(spread.into_iter().map(|(name, spec)| (name.as_str().to_owned(), Entry::Spread(Arc::new(spec)))));
        let said = datasets
            .into_iter()
            .map(|(name, spec)| (name.as_str().to_owned(), Entry::Dataset { spec: Arc::new(spec), origin: Origin::LakeFile }));
        entries.extend(said);
    }

    /// Takes an entry away; `wanted` says which kind `DROP` named.
    pub(crate) fn remove(&self, name: &str, wanted: TableKind, if_exists: bool, access: &Access) -> Result<()> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let kind = match entries.get(name) {
            None if if_exists => return Ok(()),
            None => {
                drop(entries);
                return Err(self.unknown_table(name, access));
            }
            Some(Entry::Dataset { origin: Origin::LakeFile, .. } | Entry::Spread(_)) => {
                return Err(
                    Error::new(Kind::InvalidQuery, format!("`{name}` is a dataset of the lake file")).hint("take it out of the lake file")
                );
            }
            Some(entry) => kind_of(entry),
        };
        if kind != wanted {
            return Err(Error::new(Kind::InvalidQuery, format!("`{name}` is a {}", kind.as_str().to_lowercase()))
                .hint(format!("DROP {} {name}", kind.as_str())));
        }
        entries.remove(name);
        Ok(())
    }

    /// Checks that a reference which DDL names stands in `main` of this lake, and gives its name.
    pub(crate) async fn own_name(&self, resolved: &ResolvedTableReference, access: &Access) -> Result<String> {
        self.check_schema(resolved, access).await?;
        if resolved.schema.as_ref() != MAIN {
            return Err(Error::new(Kind::InvalidQuery, format!("nothing can be created or dropped in `{}`", resolved.schema)));
        }
        Ok(resolved.table.to_string())
    }

    /// The dataset whose tables stand in a schema of its name, and the source that opens them.
    pub(crate) fn dataset_schema(&self, schema: &str) -> Option<(Arc<DatasetSpec>, Arc<dyn Source>)> {
        let Some(Entry::Dataset { spec, .. }) = self.entry(schema) else { return None };
        let source = self.source_of(&spec).ok().filter(|source| source.has_tables())?;
        let source = Arc::clone(source);
        Some((spec, source))
    }

    /// All schemas that the principal may know of, those that SQL made among them.
    pub(crate) async fn all_schemas(&self, access: &Access) -> Result<Vec<String>> {
        let mut all = self.schemas();
        if let Some(written) = &self.written {
            all.extend(written.schemas().await?);
        }
        all.retain(|schema| access.sees_schema(self, schema));
        Ok(all)
    }

    /// What is known of a table without opening it.
    pub(crate) fn asked<'a>(&self, resolved: &'a ResolvedTableReference) -> Asked<'a> {
        let spec = match resolved.schema.as_ref() {
            // What another engine has of this name is another table.
            _ if resolved.catalog.as_ref() != self.lake => None,
            MAIN => match self.entry(&resolved.table) {
                Some(Entry::Dataset { spec, .. }) => Some(spec),
                _ => None,
            },
            schema => self.dataset_schema(schema).map(|(spec, _)| spec),
        };
        let (classification, location) = spec.map_or((None, None), |spec| (spec.classification, Some(spec.location.clone())));
        Asked { resolved, classification, location, is_elsewhere: resolved.catalog.as_ref() != self.lake }
    }

    /// The full name of a table of `main`.
    pub(crate) fn in_main(&self, name: &str) -> ResolvedTableReference {
        ResolvedTableReference { catalog: self.lake.as_str().into(), schema: MAIN.into(), table: name.into() }
    }

    /// Whether every lake has this schema.
    pub(crate) fn is_fixed(&self, schema: &str) -> bool {
        [INFORMATION_SCHEMA, MAIN, SYSTEM, TEMPORARY].contains(&schema)
    }

    /// The schemas of every lake, and one for each dataset that holds several tables.
    pub(crate) fn schemas(&self) -> Vec<String> {
        let fixed = [INFORMATION_SCHEMA, MAIN, SYSTEM].map(str::to_owned);
        let of_datasets = self.entries().into_keys().filter(|name| self.dataset_schema(name).is_some());
        fixed.into_iter().chain(of_datasets).collect()
    }

    /// The datasets that a source opens.
    pub(crate) fn datasets_of(&self, source: &Arc<dyn Source>) -> Vec<Arc<DatasetSpec>> {
        let spec = |entry: Entry| match entry {
            Entry::Dataset { spec, .. } => self.source_of(&spec).is_ok_and(|known| Arc::ptr_eq(known, source)).then_some(spec),
            Entry::View(_) | Entry::Spread(_) | Entry::Table { .. } => None,
        };
        self.entries().into_values().filter_map(spec).collect()
    }

    async fn check_schema(&self, resolved: &ResolvedTableReference, access: &Access) -> Result<()> {
        if resolved.catalog.as_ref() != self.lake {
            return Err(self.no_catalog(&resolved.catalog));
        }
        check_among(&resolved.schema, &self.all_schemas(access).await?)
    }

    /// The error for a catalog that there isn't.
    pub(crate) fn no_catalog(&self, name: &str) -> Error {
        let error = Error::new(Kind::NotFound, format!("no catalog `{name}`"));
        if self.sites.is_empty() {
            return error.hint(format!("the catalog is `{}`", self.lake));
        }
        match nearest(name, self.sites.keys().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                let sites = self.sites.keys().cloned().collect::<Vec<_>>().join(", ");
                error.hint(format!("the catalogs are `{}` and those of the sites: {sites}", self.lake))
            }
        }
    }

    /// The error for a name that means nothing, with the nearest that does.
    pub(crate) fn unknown_table(&self, name: &str, access: &Access) -> Error {
        let seen = access.seen(self, self.tables());
        let error = Error::new(Kind::NotFound, format!("no table `{name}`"));
        match nearest(name, seen.iter().map(|entry| entry.name.as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                error.hint("SHOW TABLES lists the tables; files are named in quotes, as in FROM 'store:path/x.parquet' or FROM './folder/'")
            }
        }
    }

    /// The error for a table that a site doesn't have.
    async fn unknown_there(&self, site: &Arc<dyn Site>, resolved: &ResolvedTableReference, access: &Access) -> Error {
        let (schema, table) = (resolved.schema.as_ref(), resolved.table.as_ref());
        let error = Error::new(Kind::NotFound, format!("the site has no table `{schema}.{table}`")).with("site", site.name());
        // That its tables can't be listed would hide that this one is not there.
        let mut there = match access.asker(site.as_ref()) {
            Ok(asker) => site.tables(schema, asker).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        there.retain(|table| {
            let resolved = ResolvedTableReference { table: table.as_str().into(), ..resolved.clone() };
            access.sees(&self.asked(&resolved))
        });
        match nearest(table, there.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if there.is_empty() => error.hint(format!("it has no table in the schema `{schema}` that you may know of")),
            None => error,
        }
    }

    /// The error for a reference that means nothing: its catalog, its schema or its name.
    pub(crate) async fn unknown(&self, resolved: &ResolvedTableReference, access: &Access) -> Error {
        if let Some(site) = self.site(&resolved.catalog) {
            return self.unknown_there(site, resolved, access).await;
        }
        if resolved.schema.as_ref() != TEMPORARY
            && let Err(error) = self.check_schema(resolved, access).await
        {
            return error;
        }
        let (schema, name) = (resolved.schema.as_ref(), resolved.table.as_ref());
        // That the tables can't be listed would hide that this one is not there.
        let made = match &self.written {
            Some(written) => written.tables().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let is_seen = |table: &&TableName| {
            let resolved = TableReference::full(self.lake.as_str(), schema, table.table.as_str()).resolve("", "");
            table.schema == schema && access.sees(&self.asked(&resolved))
        };
        let made = made.iter().filter(is_seen).map(|table| table.table.as_str());
        let error = match schema {
            MAIN => Error::new(Kind::NotFound, format!("no table `{name}`")),
            schema => Error::new(Kind::NotFound, format!("no table `{name}` in `{schema}`")),
        };
        match nearest(name, made) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if schema == MAIN => self.unknown_table(name, access),
            None => error.hint(format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' lists them")),
        }
    }

    /// The dataset that a quoted location names: `FROM 's3://bucket/x.parquet'`.
    pub(crate) fn ad_hoc(name: &str) -> Option<Result<DatasetSpec>> {
        is_location(name).then(|| Ok(DatasetSpec::new(name, Location::parse(name)?)))
    }

    /// Opens a dataset with the source that knows its format.
    pub(crate) async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let opened = self.source_of(spec)?.open(spec, session).await;
        opened.map_err(|error| error.with("dataset", &spec.name))
    }

    /// The source that opens `spec`.
    pub(crate) fn source_of(&self, spec: &DatasetSpec) -> Result<&Arc<dyn Source>> {
        let path = spec.location.to_string();
        let claimed = self.sources.iter().find(|source| match &spec.format {
            Some(format) => source.formats().contains(&format.as_str()),
            None => source.format_of(&path).is_some(),
        });
        // A folder's name tells no format; the first source looks at the endings of what lies in it.
        claimed.or_else(|| self.sources.first()).ok_or_else(|| {
            Error::new(Kind::InvalidConfiguration, "no source is registered").hint("call `lacus::register_defaults`, or add a source")
        })
    }

    /// All tables of all schemas. Datasets that hold several tables are opened for it; one that can't be opened has no other tables
    /// than the one of its name, and the query that uses it says why.
    /// `wanted` says of which schemas the tables are of use; the datasets behind others are not opened.
    pub(crate) async fn all_tables(
        &self,
        session: &dyn Session,
        client: &crate::Session,
        access: &Access,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<TableEntry>> {
        let mut all = self.tables();
        let entry = |schema: String, name: String, kind| TableEntry { catalog: self.lake.clone(), schema, name, kind, description: None };
        if let Some(written) = &self.written {
            all.extend(written.tables().await?.into_iter().map(|name| entry(name.schema, name.table, TableKind::Table)));
            all.extend(self.views_of_schemas().into_keys().map(|(schema, name)| entry(schema, name, TableKind::View)));
            all.sort_by(|left, right| (&left.schema, &left.name).cmp(&(&right.schema, &right.name)));
        }
        all.extend(client.temporary_tables().into_iter().map(|name| entry(TEMPORARY.to_owned(), name, TableKind::Temporary)));
        let mut opening = Vec::new();
        for name in self.entries().into_keys().filter(|name| wanted(name) && access.sees_schema(self, name)) {
            if let Some((spec, source)) = self.dataset_schema(&name) {
                opening.push(async move { (name, source.tables(&spec, session).await.unwrap_or_default()) }.boxed());
            }
        }
        let opened = stream::iter(opening).buffered(CONCURRENT_OPENS).collect::<Vec<_>>();
        for (schema, tables) in opened.await {
            all.extend(tables.into_iter().filter(|table| table.listed).map(|table| TableEntry {
                catalog: self.lake.clone(),
                schema: schema.clone(),
                name: table.name,
                kind: TableKind::Table,
                description: table.description,
            }));
        }
        let records = session.config().get_extension::<Activity>().is_some_and(|activity| activity.audit().is_some());
        let (audit, sites) = (records.then_some(&system::AUDIT), (!self.sites.is_empty()).then_some(&system::SITES));
        let system = self.sources.iter().flat_map(|source| source.system_tables()).chain(&system::TABLES).chain(audit).chain(sites);
        all.extend(system.map(|name| entry(SYSTEM.to_owned(), (*name).to_owned(), TableKind::System)));
        Ok(access.seen(self, all))
    }

    /// All tables of `main`, by name.
    pub(crate) fn tables(&self) -> Vec<TableEntry> {
        let listed = |(name, entry): (String, Entry)| TableEntry {
            catalog: self.lake.clone(),
            schema: MAIN.to_owned(),
            name,
            kind: kind_of(&entry),
            description: match entry {
                Entry::Dataset { spec, .. } => spec.description.clone(),
                Entry::Spread(spec) => spec.description.clone(),
                Entry::View(_) | Entry::Table { .. } => None,
            },
        };
        self.entries().into_iter().map(listed).collect()
    }
}

fn kind_of(entry: &Entry) -> TableKind {
    match entry {
        Entry::View(_) => TableKind::View,
        Entry::Dataset { .. } | Entry::Spread(_) | Entry::Table { .. } => TableKind::Table,
    }
}

fn is_location(name: &str) -> bool {
    name.contains(['/', '.', ':'])
}

/// Refuses a schema that is not among those that there are.
pub(crate) fn check_among(name: &str, schemas: &[String]) -> Result<()> {
    if schemas.iter().any(|schema| schema == name) {
        return Ok(());
    }
    let error = Error::new(Kind::NotFound, format!("no schema `{name}`"));
    Err(match nearest(name, schemas.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("the schemas are {}", schemas.join(", "))),
    })
}

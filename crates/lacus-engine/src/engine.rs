mod asking;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::optimizer::OptimizerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use lacus_audit::{Audit, Event};
use lacus_core::{
    DatasetName, DatasetSpec, Error, IndexProgress, IndexStatus, Kind, Notices, Principal, ReferenceFiles, ReferenceForm, Result, Sink,
    Site, Source, SpreadSpec, StoreName, Tables,
};
use lacus_policy::{PolicyFile, Privilege};
use lacus_provenance::Kept;
use lacus_storage::Stores;

use crate::access::{Access, Rights};
use crate::activity::Activity;
use crate::catalog::{Catalog, Entry, Origin, TableEntry};
use crate::client::{Room, Session};
use crate::functions::{Base, Function, FunctionKind};
use crate::memory::SharedMemory;
use crate::query::Deadline;
use crate::rules::LogicalRule;
use crate::session::Scope;
use crate::totals::Totals;
use crate::units::UnitRules;
use crate::{LakeContent, LakeFile, Limits, ddl, information_schema, rules, session, share};

pub use asking::{AccessReport, Ingest};

/// How much of the name is recorded that somebody says to have.
const LONGEST_NAME: usize = 256;

/// One engine over one lake.
///
/// ```text
/// EngineBuilder -> Engine -> query(sql, parameters, principal) -> Query -> stream
/// ```
///
/// An engine is cheap to clone; clones share datasets, views, limits and caches. It runs on the tokio runtime that calls it.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: Base,
    stores: Arc<Stores>,
    catalog: Arc<Catalog>,
    sinks: Vec<Arc<dyn Sink>>,
    limits: Limits,
    memory: Arc<SharedMemory>,
    temporary: Arc<Room>,
    activity: Arc<Activity>,
    /// Whether equal parts of a plan run once.
    shares: bool,
    lake_file: Option<WatchedFile>,
    policy: Option<Arc<PolicyFile>>,
}

/// A lake file that may change.
#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn LakeFile>,
    /// The stores that it names: taken away when it names others.
    stores: Mutex<Vec<StoreName>>,
}

/// What a text would do, found without doing it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The schema of the result; empty for a command.
    pub schema: SchemaRef,
    /// The type of each parameter by position, where the text tells it.
    pub parameters: Vec<Option<DataType>>,
    /// Whether it is an update (`CREATE`, `DROP`, `INSERT`), which gives no rows but their number.
    pub is_command: bool,
    /// Whether it adds rows to a table, so that those of many rows of parameters can be added in one step.
    pub adds_rows: bool,
}

impl Prepared {
    fn update(parameters: Vec<Option<DataType>>) -> Self {
        Self { schema: Arc::new(Schema::empty()), parameters, is_command: true, adds_rows: false }
    }
}

/// How many keys of a join its other side may be asked for, where that may be a site.
const KEYS_FOR_SITES: usize = 10_000;

/// Builds an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    lake: String,
    stores: Arc<Stores>,
    limits: Limits,
    state: Option<PathBuf>,
    sources: Vec<Arc<dyn Source>>,
    sinks: Vec<Arc<dyn Sink>>,
    written: Option<Arc<dyn Tables>>,
    sites: Vec<Arc<dyn Site>>,
    datasets: Vec<(DatasetName, DatasetSpec)>,
    spread: Vec<(DatasetName, SpreadSpec)>,
    tables: Vec<(String, Arc<dyn TableProvider>)>,
    functions: Vec<Function>,
    logical_rules: Vec<LogicalRule>,
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    rules_off: Vec<String>,
    units: UnitRules,
    audit: Option<Audit>,
    provenance: Option<Kept>,
    policy: Option<PolicyFile>,
    lake_file: Option<(Arc<dyn LakeFile>, Vec<StoreName>)>,
}

impl EngineBuilder {
    /// The name of the lake, which is the catalog of its tables.
    #[must_use]
    pub fn lake(mut self, name: impl Into<String>) -> Self {
        self.lake = name.into();
        self
    }

    /// What queries may use of the machine.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What becomes of a query that brings numbers of different units together; sessions may change it for themselves.
    #[must_use]
    pub fn units(mut self, units: UnitRules) -> Self {
        self.units = units;
        self
    }

    /// Where what is asked is recorded.
    #[must_use]
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Where the records of answers are kept; without it the last thousand are, for as long as the engine.
    #[must_use]
    pub fn provenance(mut self, kept: Kept) -> Self {
        self.provenance = Some(kept);
        self
    }

    /// Who may do what. It binds everybody but the owner, and holds for a statement as it is when the statement begins.
    #[must_use]
    pub fn policy(mut self, policy: PolicyFile) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Bytes of memory for decoded columns, which sources may keep.
    pub fn column_memory(&self) -> usize {
        self.limits.columns
    }

    /// The folder that keeps what the lake learns, such as indices. It need not exist; without one nothing is kept.
    #[must_use]
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// The folder that keeps what the lake learns.
    pub fn state_folder(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// Adds a kind of dataset.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds a kind of thing that keeps results.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// The place for tables that SQL makes.
    #[must_use]
    pub fn tables(mut self, place: Arc<dyn Tables>) -> Self {
        self.written = Some(place);
        self
    }

    /// Adds another engine, whose tables stand in a catalog of its name.
    #[must_use]
    pub fn site(mut self, site: Arc<dyn Site>) -> Self {
        self.sites.push(site);
        self
    }

    /// Adds a dataset, opened by the first query that names it.
    #[must_use]
    pub fn dataset(mut self, name: DatasetName, spec: DatasetSpec) -> Self {
        self.datasets.push((name, spec));
        self
    }

    /// Adds a table of which each of several sites has a part.
    #[must_use]
    pub fn spread(mut self, name: DatasetName, spec: SpreadSpec) -> Self {
        self.spread.push((name, spec));
        self
    }

    /// Adds a table of the program's own.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>, table: Arc<dyn TableProvider>) -> Self {
        self.tables.push((name.into(), table));
        self
    }

    /// Adds a scalar function.
    #[must_use]
    pub fn scalar_function(mut self, function: ScalarUDF) -> Self {
        self.functions.push(Function::Scalar(function));
        self
    }

    /// Adds an aggregate function.
    #[must_use]
    pub fn aggregate_function(mut self, function: AggregateUDF) -> Self {
        self.functions.push(Function::Aggregate(function));
        self
    }

    /// Adds a window function.
    #[must_use]
    pub fn window_function(mut self, function: WindowUDF) -> Self {
        self.functions.push(Function::Window(function));
        self
    }

    /// Adds an optimizer rule of a source, which sees physical plans after all others.
    #[must_use]
    pub fn physical_rule(mut self, rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds an optimizer rule, which sees logical plans after all others. The registry that DataFusion gives a rule has few functions: a rule
    /// takes those that it puts into plans from their crates.
    #[must_use]
    pub fn logical_rule(mut self, rule: Arc<dyn OptimizerRule + Send + Sync>) -> Self {
        self.logical_rules.push(rule);
        self
    }

    /// Switches rules of the optimizer off, by their names: those of [`RULES`](crate::RULES), or of a rule that was added.
    #[must_use]
    pub fn without_rules(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.rules_off.extend(names);
        self
    }

    /// Looks at the lake file, which named `stores`, before each query: what was changed in it takes effect, and what runs goes on with what
    /// it began with.
    #[must_use]
    pub fn lake_file(mut self, file: Arc<dyn LakeFile>, stores: Vec<StoreName>) -> Self {
        self.lake_file = Some((file, stores));
        self
    }

    /// The stores that the engine reads, to add one.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// Builds the engine. Opens nothing.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the spill folder can't be made or a rule is unknown, `AlreadyExists` when a name is given twice.
    pub fn build(self) -> Result<Engine> {
        rules::check(&self.rules_off, &self.logical_rules)?;
        share::install();
        let activity = Activity::new(self.limits.queries, self.limits.queue, self.audit, self.provenance);
        let mut state =
            session::base_state(&self.lake, &self.limits, &activity, (&self.rules_off, self.units), self.logical_rules, self.rules)?;
        if !self.sites.is_empty() {
            // What is near is cheap to compare with many keys; a row from afar is not.
            state.config_mut().options_mut().optimizer.hash_join_inlist_pushdown_max_distinct_values = KEYS_FOR_SITES;
        }
        let base = Base::new(state, self.functions);
        let catalog = Catalog::new(self.lake, self.sources, self.written).with_sites(self.sites)?;
        for (name, spec) in self.datasets {
            catalog.add(name.as_str(), Entry::Dataset { spec: Arc::new(spec), origin: Origin::LakeFile }, false)?;
        }
        for (name, spec) in self.spread {
            catalog.add(name.as_str(), Entry::Spread(Arc::new(spec)), false)?;
        }
        for (name, provider) in self.tables {
            catalog.add(&name, Entry::Table { provider }, false)?;
        }
        let (memory, shares) = (SharedMemory::new(self.limits.memory.saturating_sub(self.limits.columns)), rules::shares(&self.rules_off));
        let catalog = Arc::new(catalog);
        let lake_file = self.lake_file.map(|(file, stores)| WatchedFile { file, stores: Mutex::new(stores) });
        let (stores, sinks, limits, policy) = (self.stores, self.sinks, self.limits, self.policy.map(Arc::new));
        let temporary = Arc::new(Room::new(limits.memory));
        let shared = Shared { base, stores, catalog, sinks, limits, memory, temporary, activity, shares, lake_file, policy };
        Ok(Engine { shared: Arc::new(shared) })
    }
}

impl Engine {
    /// Builds an engine over `stores`.
    pub fn builder(stores: Arc<Stores>) -> EngineBuilder {
        EngineBuilder {
            lake: "lake".to_owned(),
            stores,
            limits: Limits::default(),
            state: None,
            sources: Vec::new(),
            sinks: Vec::new(),
            written: None,
            sites: Vec::new(),
            datasets: Vec::new(),
            spread: Vec::new(),
            tables: Vec::new(),
            functions: Vec::new(),
            logical_rules: Vec::new(),
            rules: Vec::new(),
            rules_off: Vec::new(),
            units: UnitRules::default(),
            audit: None,
            provenance: None,
            policy: None,
            lake_file: None,
        }
    }

    /// Decides whether the principal may have a dataset forgotten.
    fn decide_refresh(&self, name: &str, access: &Access) -> Result<()> {
        let catalog = &self.shared.catalog;
        let resolved = catalog.in_main(name);
        if access.hides(&catalog.asked(&resolved)) {
            return Err(catalog.unknown_table(name, access));
        }
        access.require(Privilege::Admin, &catalog.asked(&resolved))
    }

    /// Forgets what is remembered of a dataset's files: the next query learns them anew.
    async fn refresh(&self, name: &str, access: &Access) -> Result<()> {
        let catalog = &self.shared.catalog;
        self.decide_refresh(name, access)?;
        let spec = match catalog.entry(name) {
            Some(Entry::Dataset { spec, .. }) => spec,
            Some(_) => return Err(Error::new(Kind::InvalidQuery, format!("`{name}` is no dataset: nothing is remembered of it"))),
            None => return Err(catalog.unknown_table(name, access)),
        };
        catalog.source_of(&spec)?.forget(&spec)?;
        self.shared.stores.forget(&spec.location).await
    }

    /// Takes over what has changed in the lake file. One that can't be used changes nothing, and is worth a notice.
    fn reload(&self, notices: &Notices) {
        let Some(watched) = &self.shared.lake_file else { return };
        match watched.file.changed() {
            Ok(None) => {}
            Ok(Some(LakeContent { stores, write_to, datasets, spread })) => {
                let names = stores.iter().map(|store| store.name.clone()).collect();
                let mut named = watched.stores.lock().unwrap_or_else(PoisonError::into_inner);
                self.shared.stores.replace(&named, stores, write_to);
                self.shared.catalog.replace_lake_file(datasets, spread);
                *named = names;
            }
            Err(error) => notices.add(format!("the lake file was changed, and can't be used: {error}; the lake is as it was")),
        }
    }

    /// The name of the lake.
    pub fn lake(&self) -> &str {
        &self.shared.catalog.lake
    }

    /// The schemas of the lake that the principal may know of. Nothing is opened.
    ///
    /// # Errors
    /// What the store of the tables says.
    pub async fn schemas(&self, session: impl Into<Session>) -> Result<Vec<String>> {
        self.shared.catalog.all_schemas(&self.asking(&session.into())).await
    }

    /// Looks for names without a schema in `schema`, in the queries of `session` from now on.
    ///
    /// # Errors
    /// `NotFound` when there is no such schema.
    pub async fn set_schema(&self, schema: &str, session: &Session) -> Result<()> {
        ddl::set_variable("schema", schema, &self.shared.catalog, session, &self.asking(session)).await
    }

    /// All tables, those of `information_schema` last. Datasets that hold several tables are opened for it.
    ///
    /// # Errors
    /// `DeadlineExceeded` when that takes too long.
    pub async fn tables(&self, session: impl Into<Session>) -> Result<Vec<TableEntry>> {
        let (catalog, session) = (&self.shared.catalog, session.into());
        let state = self.state(&session)?;
        let access = self.asking(&session);
        let listing = catalog.all_tables(&state, &session, &access, |_| true);
        let listed = Deadline::after(self.shared.limits.deadline).bound(listing).await?;
        Ok(listed.into_iter().chain(information_schema::entries(catalog)).collect())
    }

    /// The table of `main` of this name, if the principal may know of it. Nothing is opened.
    pub fn table(&self, name: &str, session: impl Into<Session>) -> Option<TableEntry> {
        let catalog = &self.shared.catalog;
        self.asking(&session.into()).seen(catalog, catalog.tables()).into_iter().find(|table| table.name == name)
    }

    /// The schema of one table, which is opened for it.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub async fn table_schema(&self, table: &TableEntry, session: impl Into<Session>) -> Result<SchemaRef> {
        let session = session.into();
        let state = self.state(&session)?;
        let reference = TableReference::full(table.catalog.as_str(), table.schema.as_str(), table.name.as_str());
        let planner = self.planner(&state, &session);
        let opened = Deadline::after(self.shared.limits.deadline).bound(planner.table(reference)).await?;
        Ok(opened.schema())
    }

    /// The specification behind a dataset's name, if the principal may know of it.
    pub fn dataset(&self, name: &str, session: impl Into<Session>) -> Option<Arc<DatasetSpec>> {
        let catalog = &self.shared.catalog;
        match catalog.entry(name) {
            Some(Entry::Dataset { spec, .. }) => {
                Some(spec).filter(|_| self.asking(&session.into()).sees(&catalog.asked(&catalog.in_main(name))))
            }
            _ => None,
        }
    }

    /// Whether columns of a table of `main` are hidden from the principal.
    pub fn hides_columns(&self, table: &str, columns: &[String], session: impl Into<Session>) -> bool {
        let catalog = &self.shared.catalog;
        self.asking(&session.into()).hides_columns(&catalog.asked(&catalog.in_main(table)), columns)
    }

    /// The settings of a session that the principal may change.
    ///
    /// # Errors
    /// `PermissionDenied` when this one is not.
    pub fn check_setting(&self, name: &str, session: impl Into<Session>) -> Result<()> {
        self.asking(&session.into()).require_setting(name)
    }

    /// How far the index of a dataset knows its files; `None` when datasets of its kind have none, or nothing is kept beside this lake.
    ///
    /// # Errors
    /// `NotFound` when there is no such dataset; else what its files say.
    pub async fn index_status(&self, dataset: &str) -> Result<Option<IndexStatus>> {
        let (spec, source) = self.indexed(dataset)?;
        let state = self.state(&Session::from(&Principal::owner()))?;
        source.index_status(&spec, &state).await.map_err(|error| error.with("dataset", dataset))
    }

    /// Brings the index of a dataset up to its files, and gives how far it knew them before. It takes as long as it takes: no deadline
    /// holds.
    ///
    /// # Errors
    /// As [`Engine::index_status`].
    pub async fn build_index(&self, dataset: &str, progress: IndexProgress<'_>) -> Result<Option<IndexStatus>> {
        let (spec, source) = self.indexed(dataset)?;
        let state = self.state(&Session::from(&Principal::owner()))?;
        source.build_index(&spec, &state, progress).await.map_err(|error| error.with("dataset", dataset))
    }

    /// What the index of a dataset knows, as references by which fsspec and xarray read the files; `None` as for
    /// [`Engine::index_status`]. Several files follow one another along the dimension `along`.
    ///
    /// # Errors
    /// `NotFound` without an index, `ObjectChanged` when the files are no longer those of the index, `InvalidQuery` for a dimension that
    /// several files lack.
    pub async fn export_index(&self, dataset: &str, form: ReferenceForm, along: Option<&str>) -> Result<Option<ReferenceFiles>> {
        let (spec, source) = self.indexed(dataset)?;
        let state = self.state(&Session::from(&Principal::owner()))?;
        source.export_index(&spec, &state, form, along).await.map_err(|error| error.with("dataset", dataset))
    }

    /// The session of a question that is no query: what it reads is not counted.
    fn state(&self, session: &Session) -> Result<SessionState> {
        self.state_of(session, &Scope::default())
    }

    fn state_of(&self, session: &Session, scope: &Scope) -> Result<SessionState> {
        let (memory, access) = (self.shared.memory.of_query(None), self.access(session, scope));
        session::query_state(&self.shared.base, &self.shared.stores, scope, &memory, session, &access)
    }

    /// What the principal of a query may do, by the policy as it is now.
    fn access(&self, session: &Session, scope: &Scope) -> Arc<Access> {
        Access::new(self.shared.policy.as_ref(), session.principal(), Arc::clone(&self.shared.stores), Arc::clone(&scope.findings))
    }

    /// What the principal of a question may do that is no query.
    pub(crate) fn asking(&self, session: &Session) -> Arc<Access> {
        self.access(session, &Scope::default())
    }

    fn indexed(&self, dataset: &str) -> Result<(Arc<DatasetSpec>, Arc<dyn Source>)> {
        let owner = Session::from(&Principal::owner());
        let spec = self.dataset(dataset, &owner).ok_or_else(|| self.unknown_table(dataset, &owner))?;
        let source = Arc::clone(self.shared.catalog.source_of(&spec)?);
        Ok((spec, source))
    }

    /// Checks a dataset's specification without opening it.
    ///
    /// # Errors
    /// `InvalidConfiguration` for options, `NotFound` for its store.
    pub fn check(&self, spec: &DatasetSpec) -> Result<()> {
        self.shared.catalog.source_of(spec)?.check(spec).map_err(|error| error.with("dataset", &spec.name))
    }

    /// Puts a table of the program's own under `name`, replacing what the program or SQL put there.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is a dataset of the lake file, `InvalidConfiguration` when it can't be a name.
    pub fn register(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.shared.catalog.add(name, Entry::Table { provider: table }, true)
    }

    /// Adds a function for the queries that begin from now on, of all clones of this engine. With `replace`, what has its name is no longer
    /// called, built-in functions included; queries that have begun keep it.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `InvalidConfiguration` when it can't be a name.
    pub fn register_function(&self, function: Function, replace: bool) -> Result<()> {
        self.shared.base.register(function, replace)
    }

    /// The type of Arrow that SQL calls `name`, as in `CAST(x AS name)`; texts are those of [`DataType::Utf8`].
    ///
    /// # Errors
    /// `InvalidQuery` when there is none.
    pub fn data_type(&self, name: &str) -> Result<DataType> {
        let owner = Session::from(&Principal::owner());
        self.planner(self.shared.base.state(), &owner).data_type(name)
    }

    /// The stores behind this engine.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.shared.stores
    }

    /// Bytes of memory that queries hold now in operators that grow with their data.
    pub fn memory_held(&self) -> usize {
        self.shared.memory.reserved()
    }

    /// What the queries of this engine did since it was built, and what they do now.
    pub fn totals(&self) -> Totals {
        let (memory_reserved, memory_limit) = (self.shared.memory.reserved() as u64, self.shared.memory.limit() as u64);
        Totals { memory_reserved, memory_limit, ..self.shared.activity.totals() }
    }

    /// The names of the functions by kind: scalar, aggregate, window.
    pub fn functions(&self) -> [Vec<String>; 3] {
        let all = self.shared.base.functions();
        let mut names = [
            all.scalar().keys().cloned().collect::<Vec<_>>(),
            all.aggregate().keys().cloned().collect(),
            all.window().keys().cloned().collect(),
        ];
        names.iter_mut().for_each(|names| names.sort());
        names
    }

    /// The names of scalar functions of one kind, in order.
    pub fn scalar_functions_of(&self, kind: FunctionKind) -> Vec<String> {
        let all = self.shared.base.functions();
        let of_kind = all.scalar().iter().filter(|(_, function)| FunctionKind::of(function) == kind);
        let mut names: Vec<String> = of_kind.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The words that SQL gives a meaning of their own.
    pub fn keywords() -> &'static [&'static str] {
        datafusion::sql::sqlparser::keywords::ALL_KEYWORDS
    }

    /// Records that somebody who says to be `user` was not let in.
    pub fn record_refused(&self, user: &str, door: &'static str, error: &Error) {
        if let Some(audit) = self.shared.activity.audit() {
            let (user, error) = (user.chars().take(LONGEST_NAME).collect(), Some(error.message().to_owned()));
            audit.record(Event { event: "login failed", user, door, outcome: "denied".to_owned(), error, ..Event::default() });
        }
    }

    /// Ends a query of this engine, as `KILL` does.
    ///
    /// # Errors
    /// `NotFound` when no query of this id runs.
    pub fn cancel(&self, id: &str, principal: &Principal) -> Result<()> {
        let access = self.asking(&Session::from(principal));
        self.shared.activity.kill(id, principal, |of| access.oversees(self.lake(), of))
    }

    /// Waits until what statements began in the background has ended: tables are tidied up after changes.
    pub async fn settle(&self) {
        if let Some(written) = self.shared.catalog.written() {
            written.settle().await;
        }
    }

    /// What queries may use.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// All datasets by name that the principal may know of: those of the lake file, and those that SQL declared.
    pub fn datasets(&self, session: impl Into<Session>) -> BTreeMap<String, Arc<DatasetSpec>> {
        let (catalog, access) = (&self.shared.catalog, self.asking(&session.into()));
        let datasets = catalog.entries().into_iter().filter_map(|(name, entry)| match entry {
            Entry::Dataset { spec, .. } => Some((name, spec)),
            Entry::View(_) | Entry::Spread(_) | Entry::Table { .. } => None,
        });
        datasets.filter(|(name, _)| access.sees(&catalog.asked(&catalog.in_main(name)))).collect()
    }

    /// What the policy grants the principal of a session now.
    pub fn rights(&self, session: &Session) -> Rights {
        Rights::of(self.shared.policy.as_deref(), session.principal())
    }

    /// The version of this engine.
    pub fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The error for a table that isn't there, as a query would give it.
    pub fn unknown_table(&self, name: &str, session: impl Into<Session>) -> Error {
        self.shared.catalog.unknown_table(name, &self.asking(&session.into()))
    }

    /// The error for work whose caller went away.
    pub fn cancelled() -> Error {
        Error::new(Kind::Cancelled, "the query was cancelled")
    }
}

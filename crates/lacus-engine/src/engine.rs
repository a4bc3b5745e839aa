use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, ScalarUDF, WindowUDF};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use futures::{StreamExt, TryStreamExt, future, stream};
use lacus_core::{
    DatasetName, DatasetSpec, Error, IfExists, IndexProgress, IndexStatus, Kind, Notices, Principal, ReferenceFiles, ReferenceForm, Result,
    Rows, Sink, Source, StoreName, Tables,
};
use lacus_storage::Stores;
use tracing::Instrument;

use crate::activity::{Activity, Record, Recorded};
use crate::catalog::{Catalog, Entry, Origin, TableEntry};
use crate::client::Session;
use crate::copy::Target;
use crate::functions::{BaseState, Function, FunctionKind};
use crate::memory::{QueryMemory, SharedMemory};
use crate::planner::Planner;
use crate::query::{Deadline, Fallback, Query, Ready, RowsWork, Work};
use crate::session::Scope;
use crate::statement::{self, Own, Parsed};
use crate::totals::Totals;
use crate::writes::{self, Part, Place, Write};
use crate::{LakeContent, LakeFile, Limits, copy, ddl, describe, explain, information_schema, rules, session, summarize};

/// The part of the memory that the temporary tables of one session may take: one of so many.
const TEMPORARY_SHARE: usize = 10;

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
    base: BaseState,
    stores: Arc<Stores>,
    catalog: Arc<Catalog>,
    sinks: Vec<Arc<dyn Sink>>,
    limits: Limits,
    memory: Arc<SharedMemory>,
    activity: Arc<Activity>,
    /// Whether equal parts of a plan run once.
    shares: bool,
    lake_file: Option<WatchedFile>,
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

/// What to do with the rows of an ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// Make a table of them; one that exists is an error.
    Create {
        /// Whether it is one of the session.
        temporary: bool,
    },
    /// Add them to the table.
    Append,
    /// Make a table of them, in the place of one that exists.
    Replace {
        /// Whether it is one of the session.
        temporary: bool,
    },
    /// Add them to the table, which is made when there is none.
    CreateAppend {
        /// Whether it is one of the session.
        temporary: bool,
    },
}

impl Ingest {
    fn may_add(self) -> bool {
        matches!(self, Self::Append | Self::CreateAppend { .. })
    }

    fn is_temporary(self) -> bool {
        matches!(self, Self::Create { temporary: true } | Self::Replace { temporary: true } | Self::CreateAppend { temporary: true })
    }

    fn if_exists(self) -> IfExists {
        if matches!(self, Self::Replace { .. }) { IfExists::Replace } else { IfExists::Fail }
    }
}

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
    datasets: Vec<(DatasetName, DatasetSpec)>,
    tables: Vec<(String, Arc<dyn TableProvider>)>,
    functions: Vec<Function>,
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    rules_off: Vec<String>,
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

    /// Adds a dataset, opened by the first query that names it.
    #[must_use]
    pub fn dataset(mut self, name: DatasetName, spec: DatasetSpec) -> Self {
        self.datasets.push((name, spec));
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

    /// Switches rules of the optimizer off, by their names: those of [`RULES`](crate::RULES).
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
        rules::check(&self.rules_off)?;
        let activity = Activity::new(self.limits.queries, self.limits.queue);
        let state = session::base_state(&self.lake, &self.limits, &activity, &self.rules_off, self.rules)?;
        let base = BaseState::new(state, self.functions)?;
        let catalog = Catalog::new(self.lake, self.sources, self.written);
        for (name, spec) in self.datasets {
            catalog.add(name.as_str(), Entry::Dataset { spec: Arc::new(spec), origin: Origin::LakeFile }, false)?;
        }
        for (name, provider) in self.tables {
            catalog.add(&name, Entry::Table { provider }, false)?;
        }
        let (memory, shares) = (SharedMemory::new(self.limits.memory.saturating_sub(self.limits.columns)), rules::shares(&self.rules_off));
        let catalog = Arc::new(catalog);
        let lake_file = self.lake_file.map(|(file, stores)| WatchedFile { file, stores: Mutex::new(stores) });
        let (stores, sinks, limits) = (self.stores, self.sinks, self.limits);
        let shared = Shared { base, stores, catalog, sinks, limits, memory, activity, shares, lake_file };
        Ok(Engine { shared: Arc::new(shared) })
    }
}

/// A statement as far as planning: what it reads is counted in its own scope.
struct Planned {
    /// The plans whose rows it gives, one after another; or one command.
    plans: Vec<Part>,
    state: SessionState,
    text: String,
    is_command: bool,
    /// What is done with the rows.
    keeping: Option<Keeping>,
}

/// What is done with rows that the caller doesn't get.
enum Keeping {
    /// They are kept beside the lake's tables, by COPY.
    Copy(Target),
    /// A table is made or changed.
    Table(Write),
}

/// What a statement gives.
enum Outcome {
    /// Rows for the caller, or none.
    Ready(Ready),
    /// Rows that are kept.
    Kept(Box<Kept>),
}

/// Rows that are kept, planned.
struct Kept {
    keeping: Keeping,
    schema: SchemaRef,
    plans: Vec<Part>,
    rows: Vec<Vec<ScalarValue>>,
    state: SessionState,
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
            datasets: Vec::new(),
            tables: Vec::new(),
            functions: Vec::new(),
            rules: Vec::new(),
            rules_off: Vec::new(),
            lake_file: None,
        }
    }

    /// Plans one statement, with a value for each `?` or `$n` by position. A command has run when this returns, and so has what writes:
    /// its result is the number of rows. Dropping the call before it returns cancels it.
    ///
    /// # Errors
    /// By kind: `InvalidQuery` for the text and the parameters, `NotFound` for names, `CorruptData` for files that can't be read,
    /// `Unsupported` for statements that there are not; what [`Sink::write`] and [`Tables`] say.
    pub async fn query(&self, sql: &str, parameters: &[ScalarValue], session: impl Into<Session>) -> Result<Query> {
        let mut queries = self.query_rows(sql, &[parameters.to_vec()], session).await?;
        queries.pop().ok_or_else(|| Error::new(Kind::Internal, "a statement gave nothing"))
    }

    /// As [`Engine::query`], for each of several rows of parameters. INSERT adds what it says for all of them in one step, and is one
    /// query; any other statement is a query for each.
    ///
    /// # Errors
    /// As [`Engine::query`]; `InvalidQuery` when there is no row.
    pub async fn query_rows(&self, sql: &str, rows: &[Vec<ScalarValue>], session: impl Into<Session>) -> Result<Vec<Query>> {
        let session = session.into();
        if rows.len() > 1 && !self.prepare(sql, &session).await?.adds_rows {
            let mut all = Vec::with_capacity(rows.len());
            for row in rows {
                all.extend(self.query_once(sql, std::slice::from_ref(row), &session).await?);
            }
            return Ok(all);
        }
        self.query_once(sql, rows, &session).await
    }

    async fn query_once(&self, sql: &str, rows: &[Vec<ScalarValue>], session: &Session) -> Result<Vec<Query>> {
        let deadline = Deadline::after(self.shared.limits.deadline);
        let memory = self.shared.memory.of_query(self.shared.limits.query_memory);
        let recorded = self.shared.activity.begin(sql, session.principal(), memory);
        let record = Arc::clone(&recorded.record);
        let planned = tokio::select! {
            planned = deadline.bound(self.query_before(sql, rows, session, deadline, &recorded)) => planned,
            killed = Arc::clone(&record).killed() => Err(killed),
        };
        match planned {
            Ok(planned) => Ok(vec![planned.into_query(deadline, recorded)]),
            Err(error) => {
                recorded.ended(Err::<(), _>(&error));
                Err(error)
            }
        }
    }

    async fn query_before(
        &self,
        sql: &str,
        rows: &[Vec<ScalarValue>],
        session: &Session,
        deadline: Deadline,
        recorded: &Recorded,
    ) -> Result<Ready> {
        let query = recorded.record.scope.reads.span();
        let planning = self.outcome(sql, rows, session, &recorded.record).instrument(tracing::debug_span!(parent: &query, "plan"));
        match planning.await? {
            Outcome::Ready(ready) => Ok(ready),
            Outcome::Kept(kept) => self.keep(*kept, session, deadline, recorded).instrument(query).await,
        }
    }

    /// Plans one statement; a command has run then.
    async fn outcome(&self, sql: &str, rows: &[Vec<ScalarValue>], session: &Session, record: &Record) -> Result<Outcome> {
        let scope = &record.scope;
        let first = rows
            .first()
            .map(Vec::as_slice)
            .ok_or_else(|| Error::new(Kind::InvalidQuery, "no row of parameters was bound").hint("bind at least one row"))?;
        self.reload(&scope.notices);
        let done = || Outcome::Ready(Ready { schema: Arc::new(Schema::empty()), work: Work::Done });
        let parsed = match statement::own(sql)? {
            None => statement::parse_as(sql, session.dialect().as_ref())?,
            Some(Own::Summarize(from)) => self.summary(&from, session, scope, &record.memory).await?,
            Some(Own::Kill(id)) => {
                statement::check_parameters(0, first)?;
                self.shared.activity.kill(&id, &record.principal)?;
                return Ok(done());
            }
            Some(Own::Refresh(name)) => {
                statement::check_parameters(0, first)?;
                self.refresh(&name).await?;
                return Ok(done());
            }
        };
        rows.iter().try_for_each(|row| statement::check_parameters(parsed.parameters, row))?;
        let Planned { mut plans, state, text, is_command, keeping } = self.plan(parsed, session, scope, &record.memory).await?;
        if is_command {
            let planner = self.planner(&state, session);
            for part in plans {
                ddl::apply(part.plan, &text, &planner).await?;
            }
            return Ok(done());
        }
        if let Some(keeping) = keeping {
            let schema = Arc::new(told_schema(&analyzed(bind(&plans[0].plan, first)?, &state)?));
            match &keeping {
                Keeping::Copy(target) => target.sink.check(&target.spec, &schema)?,
                Keeping::Table(Write::Create { place: Place::Lake(_), .. }) => {
                    self.shared.catalog.place_for_tables()?.check_schema(&schema)?;
                }
                Keeping::Table(_) => {}
            }
            return Ok(Outcome::Kept(Box::new(Kept { keeping, schema, plans, rows: rows.to_vec(), state })));
        }
        let part = plans.pop().ok_or_else(|| Error::new(Kind::Internal, "a statement has no plan"))?;
        Ok(Outcome::Ready(self.ready(bind(&part.plan, first)?, &state, scope).await?))
    }

    /// A plan with its parameters, ready to run.
    async fn ready(&self, logical: LogicalPlan, state: &SessionState, scope: &Scope) -> Result<Ready> {
        let logical = analyzed(logical, state)?;
        let schema = Arc::new(scope.noticed(told_schema(&logical)));
        let explains = explain::is_explanation(&logical);
        let plan = session::physical_plan(state, &logical, self.shared.shares).await?;
        let rows = RowsWork { plan, task: state.task_ctx(), explains, fallback: Some(Fallback { logical, state: state.clone() }) };
        Ok(Ready { schema, work: Work::Rows(Box::new(rows)) })
    }

    /// Runs plans whose rows are kept.
    async fn keep(&self, kept: Kept, session: &Session, deadline: Deadline, recorded: &Recorded) -> Result<Ready> {
        let Kept { keeping, schema, plans, rows, state } = kept;
        let scope = &recorded.record.scope;
        let (state, counted, told) = (&state, &AtomicU64::new(0), &AtomicU64::new(0));
        let bound = rows.iter().flat_map(|row| plans.iter().enumerate().map(move |(place, part)| (place, part, row)));
        let parts = stream::iter(bound.collect::<Vec<_>>()).then(move |(place, part, row)| async move {
            let ready = self.ready(bind(&part.plan, row)?, state, scope).await?;
            let rows = ready.into_query(deadline, recorded.part()).stream()?;
            let rows = rows.inspect_ok(move |batch| {
                // Only the rows of the first plan are those that the statement is about.
                let count = batch.num_rows() as u64;
                counted.fetch_add(if place == 0 { count } else { 0 }, Ordering::Relaxed);
                told.fetch_add(count, Ordering::Relaxed);
            });
            Ok::<_, Error>(rows.try_filter(|_| future::ready(part.is_written)))
        });
        let rows = parts.try_flatten();
        let checked = match &keeping {
            Keeping::Table(write) => write.checked(session),
            Keeping::Copy(_) => None,
        };
        let all_told = stream::once(async move {
            let told = told.load(Ordering::Relaxed);
            match checked {
                Some(before) if before != told => Err(writes::undecided(before, told)),
                _ => Ok(None),
            }
        });
        let rows: Rows<'_> = rows.chain(all_told.try_filter_map(future::ok)).boxed();
        let count = match &keeping {
            Keeping::Copy(target) => target.sink.write(&target.spec, schema, rows, state).await?,
            Keeping::Table(write) => self.write(write, schema, rows, counted, session).await?,
        };
        if let Keeping::Table(Write::Create { unchecked: Some(what), .. }) = &keeping {
            scope.notices.add(format!("{what} is not kept, and nobody checks it"));
        }
        if let Keeping::Table(write) = &keeping
            && !write.answers()
        {
            return Ok(Ready { schema: Arc::new(scope.noticed(Schema::empty())), work: Work::Done });
        }
        let schema = Arc::new(scope.noticed(copy::count_schema().as_ref().clone()));
        let answer = copy::answer(&schema, count)?;
        Ok(Ready { schema, work: Work::Kept { answer, count } })
    }

    /// Makes or changes a table, and gives the number of rows that the statement is about.
    async fn write(&self, write: &Write, schema: SchemaRef, rows: Rows<'_>, counted: &AtomicU64, session: &Session) -> Result<u64> {
        let name = match write.place() {
            Place::Lake(name) => name,
            Place::Temporary(name) => {
                let batches: Vec<RecordBatch> = rows.try_collect().await?;
                return self.write_temporary(name, write, schema, batches, counted, session);
            }
        };
        let tables = self.shared.catalog.place_for_tables()?;
        match write {
            Write::Create { if_exists, .. } => Ok(tables.create(name, schema, rows, *if_exists).await?.unwrap_or(0)),
            Write::Append { .. } => tables.append(name, rows).await.map_err(|error| writes::of_null(error, &schema)),
            Write::Rewrite { seen, counts, .. } => {
                let before = writes::rows_of(seen);
                let after = tables.rewrite(name, seen, rows).await?;
                Ok(counts.of(before, after, counted.load(Ordering::Relaxed)))
            }
        }
    }

    fn write_temporary(
        &self,
        name: &str,
        write: &Write,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        counted: &AtomicU64,
        session: &Session,
    ) -> Result<u64> {
        let most = self.shared.limits.memory / TEMPORARY_SHARE;
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        match write {
            Write::Create { if_exists, .. } => {
                session.create(name, schema, batches, *if_exists, most).map(|made| if made { count } else { 0 })
            }
            Write::Append { .. } => session.fill(name, batches, false, most).map(|()| count),
            Write::Rewrite { counts, .. } => {
                let before = session.rows(name);
                session.fill(name, batches, true, most)?;
                Ok(counts.of(before, count, counted.load(Ordering::Relaxed)))
            }
        }
    }

    fn planner<'a>(&'a self, state: &'a SessionState, session: &'a Session) -> Planner<'a> {
        Planner { state, catalog: &self.shared.catalog, session }
    }

    /// The query that tells what the columns of `from` hold.
    async fn summary(&self, from: &str, session: &Session, scope: &Scope, memory: &QueryMemory) -> Result<Parsed> {
        let parsed = statement::parse(&format!("SELECT * FROM {from}"))?;
        if parsed.parameters > 0 {
            return Err(Error::new(Kind::Unsupported, "SUMMARIZE takes no parameters").hint("write the values out"));
        }
        let planned = self.plan(parsed, session, scope, memory).await?;
        let schemas = planned.plans.iter().map(|part| part.plan.schema().as_arrow());
        let schema = schemas.last().ok_or_else(|| Error::new(Kind::Internal, "a query has no plan"))?;
        statement::parse(&summarize::query(from, schema)?)
    }

    /// Forgets what is remembered of a dataset's files: the next query learns them anew.
    async fn refresh(&self, name: &str) -> Result<()> {
        let catalog = &self.shared.catalog;
        let spec = match catalog.entry(name) {
            Some(Entry::Dataset { spec, .. }) => spec,
            Some(_) => return Err(Error::new(Kind::InvalidQuery, format!("`{name}` is no dataset: nothing is remembered of it"))),
            None => return Err(catalog.unknown_table(name)),
        };
        catalog.source_of(&spec)?.forget(&spec)?;
        self.shared.stores.forget(&spec.location).await
    }

    /// Takes over what has changed in the lake file. One that can't be used changes nothing, and is worth a notice.
    fn reload(&self, notices: &Notices) {
        let Some(watched) = &self.shared.lake_file else { return };
        match watched.file.changed() {
            Ok(None) => {}
            Ok(Some(LakeContent { stores, write_to, datasets })) => {
                let names = stores.iter().map(|store| store.name.clone()).collect();
                let mut named = watched.stores.lock().unwrap_or_else(PoisonError::into_inner);
                self.shared.stores.replace(&named, stores, write_to);
                self.shared.catalog.replace_lake_file(datasets);
                *named = names;
            }
            Err(error) => notices.add(format!("the lake file was changed, and can't be used: {error}; the lake is as it was")),
        }
    }

    async fn plan(&self, parsed: Parsed, session: &Session, scope: &Scope, memory: &QueryMemory) -> Result<Planned> {
        ddl::refuse_unknown(&parsed.statement)?;
        let parameters = parsed.parameters;
        let (mut statement, target) = copy::take(parsed.statement, &self.shared.sinks)?;
        let temporary = writes::take_temporary(&mut statement);
        let state = session::query_state(&self.shared.base.now(), &Arc::new(self.shared.stores.now()), scope, memory, session)?;
        let text = statement.to_string();
        let planner = self.planner(&state, session);
        let plan = planner.plan(statement).await?;
        if let Some((write, plans)) = writes::take(&plan, &planner, temporary)? {
            return Ok(Planned { plans, state, text, is_command: false, keeping: Some(Keeping::Table(write)) });
        }
        let is_command = ddl::is_command(&plan)?;
        if is_command && parameters > 0 {
            return Err(
                Error::new(Kind::InvalidQuery, "a command can't have parameters: what it makes outlives them").hint("write the values out")
            );
        }
        let plan = describe::rewrite(plan)?;
        Ok(Planned { plans: vec![Part::written(plan)], state, text, is_command, keeping: target.map(Keeping::Copy) })
    }

    /// What `sql` would give, without running it: not even a command.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub async fn prepare(&self, sql: &str, session: impl Into<Session>) -> Result<Prepared> {
        let session = &session.into();
        let deadline = Deadline::after(self.shared.limits.deadline);
        let (scope, memory) = (Scope::default(), self.shared.memory.of_query(self.shared.limits.query_memory));
        self.reload(&scope.notices);
        let parsed = match statement::own(sql)? {
            None => statement::parse_as(sql, session.dialect().as_ref())?,
            Some(Own::Summarize(from)) => deadline.bound(self.summary(&from, session, &scope, &memory)).await?,
            Some(Own::Kill(_) | Own::Refresh(_)) => return Ok(Prepared::update(Vec::new())),
        };
        let count = parsed.parameters;
        let Planned { plans, is_command, keeping, state, .. } = deadline.bound(self.plan(parsed, session, &scope, &memory)).await?;
        let mut types = HashMap::new();
        for part in &plans {
            types.extend(part.plan.get_parameter_types()?.into_iter().filter(|(_, data_type)| data_type.is_some()));
        }
        let parameters = (1..=count).map(|number| types.get(&format!("${number}")).cloned().flatten()).collect();
        let first = plans.into_iter().next().ok_or_else(|| Error::new(Kind::Internal, "a statement has no plan"))?.plan;
        // What a parameter will be may be needed to know the types: then they are those of the planner.
        let first = if is_command || count > 0 { analyzed(first.clone(), &state).unwrap_or(first) } else { analyzed(first, &state)? };
        let schema = Arc::new(told_schema(&first));
        match keeping {
            // What a parameter will be is not known before it is bound, and neither is then whether it can be written.
            Some(Keeping::Copy(target)) => {
                if count == 0 {
                    target.sink.check(&target.spec, &schema)?;
                }
                Ok(Prepared { schema: copy::count_schema(), parameters, is_command: false, adds_rows: false })
            }
            Some(Keeping::Table(write)) => {
                Ok(Prepared { adds_rows: matches!(write, Write::Append { .. }), ..Prepared::update(parameters) })
            }
            None if is_command => Ok(Prepared::update(parameters)),
            None => Ok(Prepared { schema, parameters, is_command: false, adds_rows: false }),
        }
    }

    /// Appends `rows` to the table `name`, or makes it of them, as `how` says; and gives their number. The columns are matched by name, and
    /// cast to those of the table; one that is not given is NULL.
    ///
    /// # Errors
    /// As [`Engine::query`]; `InvalidQuery` for columns that the table lacks.
    pub async fn ingest(&self, name: &TableReference, how: Ingest, schema: SchemaRef, rows: Rows<'_>, session: &Session) -> Result<u64> {
        let state = self.state(session)?;
        let planner = self.planner(&state, session);
        let there = match planner.written_table(name) {
            Ok(place) if how.may_add() => match planner.table(name.clone()).await {
                Ok(table) => Some((place, table)),
                Err(error) if error.kind() == Kind::NotFound => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        let counted = AtomicU64::new(0);
        match there {
            Some((place, table)) => {
                let rows = writes::by_name(rows, &schema, &table.schema(), name)?;
                self.write(&Write::Append { place }, table.schema(), rows, &counted, session).await
            }
            None if how == Ingest::Append => Err(self.shared.catalog.unknown(&planner.resolve(name.clone()))),
            None => {
                let place = planner.new_table(name, how.is_temporary())?;
                if matches!(place, Place::Lake(_)) {
                    self.shared.catalog.place_for_tables()?.check_schema(&schema)?;
                }
                self.write(&Write::Create { place, if_exists: how.if_exists(), unchecked: None }, schema, rows, &counted, session).await
            }
        }
    }

    /// The name of the lake.
    pub fn lake(&self) -> &str {
        &self.shared.catalog.lake
    }

    /// The schemas of the lake. Nothing is opened.
    ///
    /// # Errors
    /// What the store of the tables says.
    pub async fn schemas(&self, _session: impl Into<Session>) -> Result<Vec<String>> {
        self.shared.catalog.all_schemas().await
    }

    /// Looks for names without a schema in `schema`, in the queries of `session` from now on.
    ///
    /// # Errors
    /// `NotFound` when there is no such schema.
    pub async fn set_schema(&self, schema: &str, session: &Session) -> Result<()> {
        ddl::set_variable("schema", schema, &self.shared.catalog, session).await
    }

    /// All tables, those of `information_schema` last. Datasets that hold several tables are opened for it.
    ///
    /// # Errors
    /// `DeadlineExceeded` when that takes too long.
    pub async fn tables(&self, session: impl Into<Session>) -> Result<Vec<TableEntry>> {
        let (catalog, session) = (&self.shared.catalog, session.into());
        let state = self.state(&session)?;
        let listing = catalog.all_tables(&state, &session, |_| true);
        let listed = Deadline::after(self.shared.limits.deadline).bound(listing).await?;
        Ok(listed.into_iter().chain(information_schema::entries(catalog)).collect())
    }

    /// The table of `main` of this name. Nothing is opened.
    pub fn table(&self, name: &str) -> Option<TableEntry> {
        self.shared.catalog.tables().into_iter().find(|table| table.name == name)
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

    /// The specification behind a dataset's name.
    pub fn dataset(&self, name: &str) -> Option<Arc<DatasetSpec>> {
        match self.shared.catalog.entry(name) {
            Some(Entry::Dataset { spec, .. }) => Some(spec),
            _ => None,
        }
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
        session::query_state(&self.shared.base.now(), &self.shared.stores, &Scope::default(), &self.shared.memory.of_query(None), session)
    }

    fn indexed(&self, dataset: &str) -> Result<(Arc<DatasetSpec>, Arc<dyn Source>)> {
        let spec = self.dataset(dataset).ok_or_else(|| self.unknown_table(dataset))?;
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
        self.planner(&self.shared.base.now(), &Session::from(&Principal::owner())).data_type(name)
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
        let state = self.shared.base.now();
        let mut names = [
            state.scalar_functions().keys().cloned().collect::<Vec<_>>(),
            state.aggregate_functions().keys().cloned().collect(),
            state.window_functions().keys().cloned().collect(),
        ];
        names.iter_mut().for_each(|names| names.sort());
        names
    }

    /// The names of scalar functions of one kind, in order.
    pub fn scalar_functions_of(&self, kind: FunctionKind) -> Vec<String> {
        let state = self.shared.base.now();
        let of_kind = state.scalar_functions().iter().filter(|(_, function)| FunctionKind::of(function) == kind);
        let mut names: Vec<String> = of_kind.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The words that SQL gives a meaning of their own.
    pub fn keywords() -> &'static [&'static str] {
        datafusion::sql::sqlparser::keywords::ALL_KEYWORDS
    }

    /// Ends a query of this engine, as `KILL` does.
    ///
    /// # Errors
    /// `NotFound` when no query of this id runs.
    pub fn cancel(&self, id: &str, principal: &Principal) -> Result<()> {
        self.shared.activity.kill(id, principal)
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

    /// All datasets by name: those of the lake file, and those that SQL declared.
    pub fn datasets(&self) -> BTreeMap<String, Arc<DatasetSpec>> {
        let datasets = self.shared.catalog.entries().into_iter().filter_map(|(name, entry)| match entry {
            Entry::Dataset { spec, .. } => Some((name, spec)),
            Entry::View { .. } | Entry::Table { .. } => None,
        });
        datasets.collect()
    }

    /// The version of this engine.
    pub fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The error for a table that isn't there, as a query would give it.
    pub fn unknown_table(&self, name: &str) -> Error {
        self.shared.catalog.unknown_table(name)
    }

    /// The error for work whose caller went away.
    pub fn cancelled() -> Error {
        Error::new(Kind::Cancelled, "the query was cancelled")
    }
}

/// A plan whose types are those that it will run with: of a UNION, the planner tells the types of its first half.
fn analyzed(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    // What is explained is analyzed step by step, to be shown.
    if explain::is_explanation(&plan) {
        return Ok(plan);
    }
    Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
}

/// The schema of what a plan gives. A subquery for one value gives NULL when it has no row, whatever DataFusion says of the value.
fn told_schema(plan: &LogicalPlan) -> Schema {
    let schema = plan.schema().as_arrow();
    let asks = plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_))))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    });
    match asks {
        Ok(false) => schema.clone(),
        _ => {
            let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            Schema::new_with_metadata(nullable.collect::<Vec<_>>(), schema.metadata().clone())
        }
    }
}

/// A plan with the values of its parameters.
fn bind(plan: &LogicalPlan, parameters: &[ScalarValue]) -> Result<LogicalPlan> {
    let plan = plan.clone();
    Ok(if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters.to_vec()))? })
}

//! A statement to a logical plan, over the tables that it names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, ResolvedTableReference, TableReference, plan_datafusion_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, DdlStatement, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, TimezoneInfo};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use lacus_core::{DatasetSpec, Error, Kind, Location, Notices, Remotes, Result, SpreadSpec, TableName};
use lacus_policy::Privilege;
use lacus_storage::ReadScope;

use crate::access::Access;
use crate::activity::Activity;
use crate::catalog::{Catalog, Entry, View};
use crate::client::{Session, TEMPORARY, unknown_setting};
use crate::functions::Functions;
use crate::information_schema::{self, INFORMATION_SCHEMA};
use crate::provenance::Noted;
use crate::settings::{MAIN, SYSTEM};
use crate::view::PlannedView;
use crate::writes::Place;
use crate::{calls, like, literals, repeated, settings, spelling, statement, system};

/// How many tables of a statement are opened at once.
const OPENED_AT_ONCE: usize = 8;
/// How many views may stand on one another: a view that names itself ends here.
const VIEW_DEPTH: usize = 32;

/// Plans statements of one query.
pub(crate) struct Planner<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) catalog: &'a Arc<Catalog>,
    pub(crate) session: &'a Session,
    /// What the principal may do; nothing can be opened without it.
    access: Result<Arc<Access>>,
    /// A table that a name means, whatever else it means.
    given: Option<(ResolvedTableReference, Arc<dyn TableProvider>)>,
}

impl<'a> Planner<'a> {
    /// Plans in `state`, which says what the principal may do.
    pub(crate) fn new(state: &'a SessionState, catalog: &'a Arc<Catalog>, session: &'a Session) -> Self {
        Self { state, catalog, session, access: Access::of(state), given: None }
    }

    /// What the principal may do.
    pub(crate) fn access(&self) -> Result<&Arc<Access>> {
        self.access.as_ref().map_err(Error::clone)
    }

    /// Refuses what the principal may not do with a table; one that it may not know of is not there.
    pub(crate) async fn require(&self, privilege: Privilege, resolved: &ResolvedTableReference) -> Result<()> {
        let (access, asked) = (self.access()?, self.catalog.asked(resolved));
        match access.sees(&asked) {
            _ if resolved.schema.as_ref() == TEMPORARY => Ok(()),
            true => access.require(privilege, &asked),
            false => {
                access.require(privilege, &asked).ok();
                Err(self.catalog.unknown(resolved, access).await)
            }
        }
    }

    /// Plans `statement`: opens the calls and the names that it uses, then plans over them.
    pub(crate) async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        self.plan_at(statement, 0).await
    }

    /// Refuses to make what the principal may not make, or may not put in the place of what is there.
    pub(crate) fn require_new(&self, resolved: &ResolvedTableReference, replaces: bool) -> Result<()> {
        let (access, asked) = (self.access()?, self.catalog.asked(resolved));
        access.require(Privilege::Create, &asked)?;
        if replaces { access.require(Privilege::Drop, &asked) } else { Ok(()) }
    }

    /// The table behind a reference, for those who only want its schema.
    pub(crate) async fn table(&self, reference: TableReference) -> Result<Arc<dyn TableProvider>> {
        let resolved = self.resolve(reference);
        match self.open(&resolved, 0).await? {
            Some(table) => Ok(table),
            None => Err(self.catalog.unknown(&resolved, self.access()?).await),
        }
    }

    /// The full name behind a reference. A temporary table comes before others of its name.
    pub(crate) fn resolve(&self, reference: TableReference) -> ResolvedTableReference {
        match &reference {
            TableReference::Bare { table } if self.session.has_temporary(table) => reference.resolve(&self.catalog.lake, TEMPORARY),
            _ => reference.resolve(&self.catalog.lake, &self.session.schema()),
        }
    }

    /// Where a table is made that a statement names.
    pub(crate) fn new_table(&self, reference: &TableReference, temporary: bool, replaces: bool) -> Result<Place> {
        if temporary {
            if reference.schema().is_some_and(|schema| schema != TEMPORARY) {
                return Err(Error::new(Kind::InvalidQuery, "temporary tables have no schema").with("table", reference));
            }
            return Ok(Place::Temporary(TableName::new(TEMPORARY, reference.table())?.table));
        }
        let resolved = reference.clone().resolve(&self.catalog.lake, &self.session.schema());
        self.require_new(&resolved, replaces)?;
        self.check_written(&resolved)?;
        if self.is_no_table(&resolved) {
            return Err(Error::new(Kind::AlreadyExists, format!("`{}` exists already, and is no table that SQL made", resolved.table))
                .hint("choose another name"));
        }
        Ok(Place::Lake(TableName::new(&resolved.schema, &resolved.table)?))
    }

    /// The table that a statement writes.
    pub(crate) fn written_table(&self, reference: &TableReference, privilege: Privilege) -> Result<Place> {
        let resolved = self.resolve(reference.clone());
        if resolved.schema.as_ref() == TEMPORARY {
            return Ok(Place::Temporary(resolved.table.to_string()));
        }
        self.access()?.require(privilege, &self.catalog.asked(&resolved))?;
        if self.is_no_table(&resolved) {
            return Err(Error::new(Kind::Unsupported, format!("`{}` can be read, not written", resolved.table))
                .hint("tables that CREATE TABLE made can be written"));
        }
        self.check_written(&resolved)?;
        Ok(Place::Lake(TableName::new(&resolved.schema, &resolved.table)?))
    }

    /// Whether a name means something that SQL can't write.
    fn is_no_table(&self, resolved: &ResolvedTableReference) -> bool {
        match resolved.schema.as_ref() {
            MAIN => self.catalog.entry(&resolved.table).is_some(),
            schema => self.catalog.view(schema, &resolved.table).is_some(),
        }
    }

    /// Refuses schemas in which nothing can be made.
    fn check_written(&self, resolved: &ResolvedTableReference) -> Result<()> {
        if resolved.catalog.as_ref() != self.catalog.lake {
            return Err(self.catalog.no_catalog(&resolved.catalog));
        }
        let schema = resolved.schema.as_ref();
        if [INFORMATION_SCHEMA, SYSTEM, TEMPORARY].contains(&schema) || self.catalog.dataset_schema(schema).is_some() {
            return Err(
                Error::new(Kind::InvalidQuery, format!("nothing can be made or written in `{schema}`")).with("table", &resolved.table)
            );
        }
        self.catalog.place_for_tables().map(|_| ())
    }

    /// The type of Arrow that SQL calls `name`.
    pub(crate) fn data_type(&self, name: &str) -> Result<DataType> {
        let unknown = || {
            let error = Error::new(Kind::InvalidQuery, format!("`{name}` is no type of SQL"));
            error.hint("write BOOLEAN, BIGINT, DOUBLE, VARCHAR, DATE, TIMESTAMP or another that CAST takes")
        };
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(name).map_err(|error| unknown().because(error))?;
        let data_type = parser.parse_data_type().map_err(|error| unknown().because(error))?;
        if parser.peek_token().token != Token::EOF {
            return Err(unknown());
        }
        let column = ast::ColumnDef { name: ast::Ident::new("value"), data_type, options: Vec::new() };
        let context = Context { planner: self, functions: Arc::default(), tables: HashMap::new(), missing: Mutex::default() };
        let options = ParserOptions { map_string_types_to_utf8view: false, ..parser_options(self.state) };
        let schema = SqlToRel::new_with_options(&context, options).build_schema(vec![column]);
        let schema = schema.map_err(|error| unknown().because(error))?;
        Ok(schema.field(0).data_type().clone())
    }

    /// A planner for what the policy reads: as whoever wrote it, with the table that it is about.
    /// Names mean what they mean in `session`, which is none that whoever asks can change.
    pub(crate) fn of_policy<'b>(
        &'b self,
        session: &'b Session,
        access: &Arc<Access>,
        given: (ResolvedTableReference, Arc<dyn TableProvider>),
    ) -> Planner<'b> {
        let (access, given) = (Ok(Arc::clone(access)), Some(given));
        Planner { state: self.state, catalog: self.catalog, session, access, given }
    }

    fn plan_at(&self, mut statement: Statement, depth: usize) -> BoxFuture<'_, Result<LogicalPlan>> {
        async move {
            like::unescape(&mut statement)?;
            literals::keep_digits(&mut statement);
            let formats: Vec<&str> = self.catalog.sources().iter().flat_map(|source| source.formats()).copied().collect();
            // Each may wait for a store, so they are opened side by side; the first that fails in the order of the statement is the error.
            let calls = calls::replace(&mut statement, &formats)?;
            let opened = calls.into_iter().map(|call| async move {
                self.session.check_place(&call.spec.location)?;
                self.access()?.require_path(Privilege::Select, &call.spec.location)?;
                let provider = self.catalog.open(&call.spec, self.state).await?;
                let provider = self.access()?.opened(provider);
                Ok::<_, Error>((self.resolve(TableReference::bare(call.name)), provider_as_source(provider)))
            });
            let mut tables: HashMap<_, _> = stream::iter(opened).buffered(OPENED_AT_ONCE).try_collect().await?;
            let mut seen = HashSet::new();
            let references = self.references(&statement)?.into_iter();
            let references = references.filter(|resolved| !tables.contains_key(resolved) && seen.insert(resolved.clone()));
            // A name that means nothing may be one that the statement makes; the planner says when it isn't.
            let opened = references.map(|resolved| async move {
                let provider = self.open(&resolved, depth).await?;
                Ok::<_, Error>(provider.map(|provider| (resolved, provider_as_source(provider))))
            });
            let opened: Vec<Option<_>> = stream::iter(opened.collect::<Vec<_>>()).buffered(OPENED_AT_ONCE).try_collect().await?;
            tables.extend(opened.into_iter().flatten());
            let columns: BTreeSet<String> = tables
                .values()
                .flat_map(|table| table.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>())
                .collect();
            spelling::quote(&mut statement, &columns);
            if let Some(reads) = self.state.config().get_extension::<ReadScope>() {
                tables.keys().for_each(|resolved| reads.name_table(resolved.to_string()));
            }
            let access = self.access()?;
            // What a policy reads is not told.
            if let Some(noted) = self.state.config().get_extension::<Noted>().filter(|_| !access.is_of_policy()) {
                let seen = tables.keys().filter(|resolved| access.sees(&self.catalog.asked(resolved)));
                seen.for_each(|resolved| noted.table(resolved, self.catalog));
            }
            if depth == 0 {
                repeated::mark(&mut statement, &columns);
            }
            let context = Context { planner: self, functions: Functions::of(self.state), tables, missing: Mutex::default() };
            let planned = SqlToRel::new_with_options(&context, parser_options(self.state)).statement_to_plan(statement);
            let missing = context.missing.into_inner().unwrap_or_else(PoisonError::into_inner);
            match (planned, missing) {
                (Err(_), Some(missing)) => Err(self.catalog.unknown(&missing, self.access()?).await),
                (planned, _) => planned.map_err(|error| of_show(error.into())),
            }
        }
        .boxed()
    }

    /// The tables that a statement reads. What it creates or drops is not read, so a broken table can be replaced.
    fn references(&self, statement: &Statement) -> Result<Vec<ResolvedTableReference>> {
        let made = match statement {
            Statement::CreateExternalTable(_) => return Ok(Vec::new()),
            Statement::Statement(statement) => match statement.as_ref() {
                ast::Statement::Drop { .. } | ast::Statement::CreateSchema { .. } => return Ok(Vec::new()),
                ast::Statement::CreateView(view) => Some(view.name.to_string()),
                // CREATE OR REPLACE TABLE t AS SELECT ... FROM t reads what it replaces.
                ast::Statement::CreateTable(table) if table.query.is_none() => return Ok(Vec::new()),
                _ => None,
            },
            _ => None,
        };
        let references = self.state.resolve_table_references(statement)?;
        let read = references.into_iter().filter(|reference| made.as_deref() != Some(reference.to_string().as_str()));
        Ok(read.map(|reference| self.resolve(reference)).collect())
    }

    /// The table behind a name; `None` when the name means nothing.
    async fn open(&self, resolved: &ResolvedTableReference, depth: usize) -> Result<Option<Arc<dyn TableProvider>>> {
        let access = self.access()?;
        if let Some((_, table)) = self.given.as_ref().filter(|(name, _)| name == resolved) {
            return Ok(Some(access.opened(Arc::clone(table))));
        }
        let elsewhere = match resolved.catalog.as_ref() == self.catalog.lake {
            true => None,
            false => match self.catalog.site(&resolved.catalog) {
                Some(site) => Some((site, access.asker(site.as_ref())?)),
                None => return Ok(None),
            },
        };
        let asked = self.catalog.asked(resolved);
        // Files that are named by their place are no table of the lake, so the rules for tables are not about them.
        if elsewhere.is_none()
            && let Some(location) = self.named_by_place(resolved)
        {
            let location = location?;
            self.session.check_place(&location)?;
            access.require_path(Privilege::Select, &location)?;
            return Ok(self.opened(resolved, depth).await?.map(|table| access.opened(table)));
        }
        if access.hides(&asked) {
            return Ok(None);
        }
        let opened = match elsewhere {
            Some((site, asker)) => {
                let _waiting = self.state.config().get_extension::<Remotes>().map(|remotes| remotes.on(site.name()));
                site.open(&resolved.schema, &resolved.table, asker).await?
            }
            None => self.opened(resolved, depth).await?,
        };
        match opened {
            Some(table) => access.secured(&asked, table, self).await.map(Some),
            None => Ok(None),
        }
    }

    /// The place of the files that a name in quotes means, if it is no name of the lake.
    fn named_by_place(&self, resolved: &ResolvedTableReference) -> Option<Result<Location>> {
        let means_files = resolved.schema.as_ref() == MAIN && self.catalog.entry(&resolved.table).is_none();
        Catalog::ad_hoc(&resolved.table).filter(|_| means_files).map(|spec| spec.map(|spec| spec.location))
    }

    /// The table behind a name, whoever asks for it.
    async fn opened(&self, resolved: &ResolvedTableReference, depth: usize) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = resolved.table.as_ref();
        if resolved.schema.as_ref() == TEMPORARY {
            return self.session.temporary(name);
        }
        if resolved.schema.as_ref() == INFORMATION_SCHEMA {
            return information_schema::table(name, self.catalog, self.state, self.session).await.map(Some);
        }
        if resolved.schema.as_ref() == SYSTEM {
            return self.system_table(name).await;
        }
        if let Some(view) = self.catalog.view(&resolved.schema, name) {
            return self.view(name, view, depth).await.map(Some);
        }
        if resolved.schema.as_ref() != MAIN {
            let Some((spec, source)) = self.catalog.dataset_schema(&resolved.schema) else { return self.lake_table(resolved).await };
            let opened = source.open_table(&spec, name, self.state).await;
            return opened.map_err(|error| error.with("dataset", &spec.name));
        }
        match self.catalog.entry(name) {
            Some(Entry::Dataset { spec, .. }) => self.catalog.open(&spec, self.state).await.map(Some),
            Some(Entry::Table { provider }) => Ok(Some(provider)),
            Some(Entry::View(view)) => self.view(name, view, depth).await.map(Some),
            Some(Entry::Spread(spec)) => {
                let parts = self.reachable(name, &spec).await?;
                self.view(name, spread(&spec, &parts), depth).await.map(Some)
            }
            None => match Catalog::ad_hoc(name) {
                Some(spec) => self.catalog.open(&spec?, self.state).await.map(Some),
                None => self.lake_table(resolved).await,
            },
        }
    }

    /// The sites that are asked for the parts of a table, each with the one whose part it is: the first that is there, those last that were
    /// not just now. What is left out is told before the first row.
    async fn reachable<'s>(&self, table: &str, spec: &'s SpreadSpec) -> Result<Vec<(&'s str, &'s str)>> {
        let access = self.access()?;
        let remotes = self.state.config().get_extension::<Remotes>();
        if let Some(remotes) = remotes.as_ref().filter(|_| spec.sites.iter().any(|(_, replicas)| !replicas.is_empty())) {
            remotes.has_stand_in();
        }
        let remotes = remotes.as_ref();
        let may_lack_parts = spec.may_lack_parts && !remotes.is_some_and(|remotes| remotes.is_again());
        let chosen = spec.sites.iter().map(|(part, replicas)| async move {
            let is_failing = |name: &&String| self.catalog.site(name).is_some_and(|site| site.status().is_failing);
            let (failing, well): (Vec<_>, Vec<_>) = std::iter::once(part).chain(replicas).partition(is_failing);
            let mut failed = None;
            for name in well.into_iter().chain(failing) {
                // One that nobody stands in for is not asked twice.
                let Some(site) = self.catalog.site(name).filter(|_| !replicas.is_empty() || may_lack_parts) else {
                    return Ok(Ok((part.as_str(), part.as_str())));
                };
                let _waiting = remotes.map(|remotes| remotes.on(name));
                match site.reach(access.asker(site.as_ref())?).await {
                    Ok(()) => return Ok(Ok((part.as_str(), name.as_str()))),
                    Err(error) if error.kind() == Kind::Unavailable => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
            let error = failed.unwrap_or_else(|| Error::new(Kind::Internal, "a part of a table is at no site"));
            if may_lack_parts { Ok(Err((part, error))) } else { Err(error) }
        });
        let found: Vec<_> = stream::iter(chosen.collect::<Vec<_>>()).buffered(OPENED_AT_ONCE).try_collect().await?;
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        found.into_iter().for_each(|part| match part {
            Ok(part) => parts.push(part),
            Err(part) => missing.push(part),
        });
        if parts.is_empty()
            && let Some((_, error)) = missing.pop()
        {
            return Err(error);
        }
        if let Some(notices) = self.state.config().get_extension::<Notices>() {
            missing
                .iter()
                .for_each(|(part, error)| notices.add(format!("the answer lacks the part of `{table}` that `{part}` has: {error}")));
        }
        Ok(parts)
    }

    /// A table that SQL made.
    async fn lake_table(&self, resolved: &ResolvedTableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        let (Some(tables), Ok(name)) = (self.catalog.written(), TableName::new(&resolved.schema, &resolved.table)) else { return Ok(None) };
        tables.open(&name, self.state).await
    }

    async fn system_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(activity) = self.state.config().get_extension::<Activity>()
            && let Some(table) = system::table(name, &activity, self.access()?, self.catalog, self.state)?
        {
            return Ok(Some(table));
        }
        let source = self.catalog.sources().iter().find(|source| source.system_tables().contains(&name));
        let Some(source) = source else { return Ok(None) };
        let access = self.access()?;
        let told = |spec: &Arc<DatasetSpec>| access.tells_all(&self.catalog.asked(&self.catalog.in_main(&spec.name)));
        let datasets: Vec<_> = self.catalog.datasets_of(source).into_iter().filter(told).collect();
        source.system_table(name, &datasets, self.state).await
    }

    /// A view is planned anew by every query, so it sees its datasets as they are now.
    pub(crate) async fn view(&self, name: &str, view: View, depth: usize) -> Result<Arc<dyn TableProvider>> {
        if depth >= VIEW_DEPTH {
            return Err(
                Error::new(Kind::InvalidQuery, format!("views stand on one another more than {VIEW_DEPTH} deep")).with("view", name)
            );
        }
        let View { definition, schema } = view;
        let parsed = statement::parse(&definition)?;
        let session = self.session.of_view(schema);
        let planner = Planner { access: self.access.clone(), ..Planner::new(self.state, self.catalog, &session) };
        let planned = planner.plan_at(parsed.statement, depth + 1).await.map_err(|error| error.with("view", name))?;
        match planned {
            LogicalPlan::Ddl(DdlStatement::CreateView(view)) => Ok(Arc::new(PlannedView::new(view.input.as_ref().clone(), definition))),
            _ => Err(Error::new(Kind::Internal, "a view's definition is not CREATE VIEW").with("view", name)),
        }
    }
}

/// A table that is spread over sites, as the view that it is. Columns are brought together by their names, as those of files are.
fn spread(spec: &SpreadSpec, parts: &[(&str, &str)]) -> View {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let part = |(part, site): &(&str, &str)| {
        let column = spec.site_column.as_ref().map(|column| format!("'{}' AS {}, ", part.replace('\'', "''"), quoted(column)));
        format!("SELECT {}* FROM {}.{}.{}", column.unwrap_or_default(), quoted(site), quoted(&spec.schema), quoted(&spec.table))
    };
    let parts = parts.iter().map(part).collect::<Vec<_>>().join(" UNION ALL BY NAME ");
    View { definition: format!("CREATE VIEW spread AS {parts}"), schema: MAIN.to_owned() }
}

/// What SHOW doesn't know is no setting.
fn of_show(error: Error) -> Error {
    let name = error.message().strip_suffix("' is not a variable which can be viewed with 'SHOW'").and_then(|name| name.strip_prefix('\''));
    name.map(|name| unknown_setting(name, &settings::options())).unwrap_or(error)
}

fn parser_options(state: &SessionState) -> ParserOptions {
    let options = &state.config_options().sql_parser;
    ParserOptions {
        parse_float_as_decimal: options.parse_float_as_decimal,
        enable_ident_normalization: options.enable_ident_normalization,
        enable_options_value_normalization: options.enable_options_value_normalization,
        support_varchar_with_length: options.support_varchar_with_length,
        map_string_types_to_utf8view: options.map_string_types_to_utf8view,
        collect_spans: options.collect_spans,
        default_null_ordering: options.default_null_ordering.as_str().into(),
    }
}

/// The zone of what has one, where a session chooses none.
const UTC: &str = "+00:00";

/// Types that DataFusion's planner takes for others, or doesn't know.
#[derive(Debug)]
struct Types {
    zone: Arc<str>,
}

impl TypePlanner for Types {
    fn plan_type_field(&self, named: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        let unit = |precision: &Option<u64>| match precision {
            Some(0) => Some(TimeUnit::Second),
            Some(3) => Some(TimeUnit::Millisecond),
            Some(6) => Some(TimeUnit::Microsecond),
            None | Some(9) => Some(TimeUnit::Nanosecond),
            Some(_) => None,
        };
        let data_type = match named {
            // Without a zone it would be a time of nowhere.
            ast::DataType::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
                unit(precision).map(|unit| DataType::Timestamp(unit, Some(Arc::clone(&self.zone))))
            }
            ast::DataType::Datetime(precision) => unit(precision).map(|unit| DataType::Timestamp(unit, None)),
            ast::DataType::Time(Some(0..=9), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                Some(DataType::Time64(TimeUnit::Nanosecond))
            }
            ast::DataType::Blob(_) | ast::DataType::Binary(_) | ast::DataType::Varbinary(_) => Some(DataType::Binary),
            _ => None,
        };
        Ok(data_type.map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}

/// What DataFusion's planner asks for: our tables, its functions.
struct Context<'a> {
    planner: &'a Planner<'a>,
    functions: Arc<Functions>,
    tables: HashMap<ResolvedTableReference, Arc<dyn TableSource>>,
    /// The first name that was asked for and means nothing. What it could mean instead is looked up by whoever can wait.
    missing: Mutex<Option<ResolvedTableReference>>,
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        let resolved = self.planner.resolve(name);
        let found = self.tables.get(&resolved).cloned();
        found.ok_or_else(|| {
            let error = plan_datafusion_err!("no table `{resolved}`");
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(resolved);
            error
        })
    }

    fn get_table_function_source(&self, name: &str, arguments: Vec<Expr>) -> DataFusionResult<Arc<dyn TableSource>> {
        let function = self.planner.state.table_functions().get(name).ok_or_else(|| plan_datafusion_err!("no table function `{name}`"))?;
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.planner.state.config().options()))
            .with_query_execution_start_time(self.planner.state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let simplify = |argument| simplifier.coerce(argument, &schema).and_then(|argument| simplifier.simplify(argument));
        let arguments = arguments.into_iter().map(simplify).collect::<DataFusionResult<Vec<_>>>()?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&arguments, self.planner.state))?;
        Ok(provider_as_source(self.planner.access()?.opened(provider)))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        let table: Arc<dyn TableProvider> = Arc::new(datafusion::datasource::cte_worktable::CteWorkTable::new(name, schema));
        Ok(provider_as_source(self.planner.access()?.opened(table)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.planner.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.planner.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        let zone = self.planner.state.config_options().execution.time_zone.as_deref();
        Some(Arc::new(Types { zone: zone.unwrap_or(UTC).into() }))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        // Those of the session are in its state.
        let function = self.planner.state.scalar_functions().get(name).or_else(|| self.functions.scalar().get(name))?;
        match function.inner().with_updated_config(self.options()) {
            Some(configured) => Some(Arc::new(configured)),
            None => Some(Arc::clone(function)),
        }
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.functions.higher_order().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.planner.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.planner.state.scalar_functions().keys().chain(self.functions.scalar().keys()).cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.functions.higher_order().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window().keys().cloned().collect()
    }
}

//! A text asked: what it plans, what it runs, and what it writes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use lacus_audit::Event;
use lacus_core::{Error, IfExists, Kind, Principal, Result, Rows, fit_columns};
use lacus_policy::{Limit, Privilege};
use lacus_storage::masked;
use tracing::Instrument;

use super::{Engine, Prepared};
use crate::access::{self, Access};
use crate::activity::{Record, Recorded, Stage};
use crate::client::{Room, Session};
use crate::copy::Target;
use crate::memory::QueryMemory;
use crate::planner::Planner;
use crate::query::{Deadline, Elsewhere, Fallback, Query, Ready, RowsWork, Work};
use crate::session::Scope;
use crate::settings::OwnSettings;
use crate::slots::name_of;
use crate::statement::{self, Own, Parsed};
use crate::units::UnitRules;
use crate::writes::{self, Part, Place, Unplanned, Write};
use crate::{Decided, copy, ddl, describe, explain, repeated, session, summarize, units};

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

/// What a policy says of a statement.
#[derive(Debug)]
pub struct AccessReport {
    /// What it decided, in the order in which it was asked.
    pub decided: Vec<Decided>,
    /// The plan, with what stands in the place of tables that are seen in part; none when it is refused.
    pub plan: Option<String>,
    /// What whoever asks is told, if it is refused.
    pub refused: Option<Error>,
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

/// What the plans of one statement share while they run.
#[derive(Clone, Copy)]
struct RunningParts<'a> {
    state: &'a SessionState,
    scope: &'a Scope,
    recorded: &'a Recorded,
    deadline: Deadline,
    counted: &'a AtomicU64,
    told: &'a AtomicU64,
}

impl Engine {
    /// Plans one statement, with a value for each `?` or `$n` by position. A command has run when this returns, and so has what writes:
    /// its result is the number of rows. Dropping the call before it returns cancels it.
    ///
    /// # Errors
    /// By kind: `InvalidQuery` for the text and the parameters, `NotFound` for names, `CorruptData` for files that can't be read,
    /// `Unsupported` for statements that there are not; what [`Sink::write`](lacus_core::Sink::write) and [`Tables`](lacus_core::Tables) say.
    pub async fn query(&self, sql: &str, parameters: &[ScalarValue], session: impl Into<Session>) -> Result<Query> {
        self.query_once(sql, &[parameters.to_vec()], &session.into()).await
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
                all.push(self.query_once(sql, std::slice::from_ref(row), &session).await?);
            }
            return Ok(all);
        }
        Ok(vec![self.query_once(sql, rows, &session).await?])
    }

    /// What the policy lets the principal of a session use.
    fn limit(&self, session: &Session) -> Option<Arc<Limit>> {
        self.shared.policy.as_ref().and_then(|policy| policy.now().limit_of(session.principal()))
    }

    /// The memory of one query of the principal of a session.
    fn query_memory(&self, session: &Session, limit: Option<&Limit>) -> QueryMemory {
        let limits = [self.shared.limits.query_memory, limit.and_then(|limit| limit.query_memory)];
        let together = limit.and_then(|limit| limit.memory);
        self.shared.memory.of_user(limits.into_iter().flatten().min(), name_of(session.principal()), together)
    }

    async fn query_once(&self, sql: &str, rows: &[Vec<ScalarValue>], session: &Session) -> Result<Query> {
        let limit = self.limit(session);
        let deadline = Deadline::of(session, self.shared.limits.deadline, limit.as_deref());
        let recorded = self.shared.activity.begin(sql, session, self.query_memory(session, limit.as_deref()), limit)?;
        let record = Arc::clone(&recorded.record);
        record.scope.remotes.end(deadline.at.into_std());
        let planned = {
            let mut planning = std::pin::pin!(self.query_before(sql, rows, session, deadline, &recorded));
            let planned = tokio::select! {
                planned = deadline.bound(planning.as_mut()) => planned,
                killed = Arc::clone(&record).killed() => Err(killed),
            };
            // Who is waited for is known as long as planning isn't dropped.
            planned.map_err(|error| if error.kind() == Kind::DeadlineExceeded { record.scope.remotes.told(error) } else { error })
        };
        match planned {
            Ok(mut planned) => {
                if record.scope.remotes.has_stand_ins()
                    && let Work::Rows(work) = &mut planned.work
                    && let Some(fallback) = &mut work.fallback
                {
                    fallback.elsewhere = Some(self.elsewhere(sql, rows, session, &record, &planned.schema));
                }
                Ok(planned.into_query(deadline, recorded))
            }
            Err(error) => {
                recorded.ended(Err::<(), _>(&error));
                Err(error)
            }
        }
    }

    /// How a query is planned once more when a site is lost for which another stands in.
    fn elsewhere(&self, sql: &str, rows: &[Vec<ScalarValue>], session: &Session, record: &Arc<Record>, schema: &SchemaRef) -> Elsewhere {
        let (engine, sql, rows, session) = (self.clone(), sql.to_owned(), rows.to_vec(), session.clone());
        let (record, schema) = (Arc::clone(record), Arc::clone(schema));
        Box::new(move || {
            let planned = async move {
                record.scope.remotes.again();
                let planned = engine.outcome(&sql, &rows, &session, &record).await?;
                match planned {
                    Outcome::Ready(Ready { schema: found, work: Work::Rows(rows) }) if found.fields() == schema.fields() => Ok(*rows),
                    _ => Err(Error::new(Kind::ObjectChanged, "a site was lost, and the others answer in another way")
                        .hint("ask again")
                        .retryable(true)),
                }
            };
            planned.boxed()
        })
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
        let access = self.access(session, scope);
        let first = rows
            .first()
            .map(Vec::as_slice)
            .ok_or_else(|| Error::new(Kind::InvalidQuery, "no row of parameters was bound").hint("bind at least one row"))?;
        self.reload(&scope.notices);
        let done = || Outcome::Ready(Ready { schema: Arc::new(Schema::empty()), work: Work::Done });
        let parsed = match statement::own(sql)? {
            None => statement::parse_as(sql, session.dialect().as_ref())?,
            Some(Own::Summarize(from)) => self.summary(&from, session, scope, &record.memory, &access).await?,
            Some(Own::Kill(id)) => {
                statement::check_parameters(0, first)?;
                session.check_writes("KILL ends a query")?;
                self.shared.activity.kill(&id, &record.principal, |of| access.oversees(self.lake(), of))?;
                return Ok(done());
            }
            Some(Own::Refresh(name)) => {
                statement::check_parameters(0, first)?;
                session.check_writes("REFRESH changes what is remembered")?;
                self.refresh(&name, &access).await?;
                return Ok(done());
            }
        };
        rows.iter().try_for_each(|row| statement::check_parameters(parsed.parameters, row))?;
        let Planned { mut plans, state, text, is_command, keeping } = self.plan(parsed, session, scope, &record.memory, &access).await?;
        scope.noted.statement(&text, rows, session);
        if is_command {
            let planner = self.planner(&state, session);
            for part in plans {
                if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &part.plan {
                    // What nobody could ask is refused before it has a name.
                    told_schema(&units::resolved(view.input.as_ref().clone())?, &state, scope)?;
                }
                ddl::apply(part.plan, &text, &planner).await?;
            }
            return Ok(done());
        }
        if let Some(keeping) = keeping {
            let mut schemas = Vec::with_capacity(plans.len());
            for part in &plans {
                schemas.push(told_schema(&analyzed(bind(&part.plan, first)?, &state)?, &state, scope)?);
            }
            if let Keeping::Table(write) = &keeping
                && let Some(columns) = write.columns()
            {
                schemas.iter().try_for_each(|schema| tell_units(units::misplaced(schema, &columns), &state, scope))?;
            }
            let schema = schemas.into_iter().next().ok_or_else(|| Error::new(Kind::Internal, "a statement has no plan"))?;
            let schema = Arc::new(match &keeping {
                Keeping::Table(write) => write.declared(schema),
                Keeping::Copy(_) => schema,
            });
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
        scope.noted.plan(&logical);
        let schema = Arc::new(scope.noticed(told_schema(&logical, state, scope)?));
        let explains = explain::is_explanation(&logical);
        let plan = session::physical_plan(state, &logical, self.shared.shares).await?;
        let rows = RowsWork {
            plan,
            task: state.task_ctx(),
            explains,
            fallback: Some(Fallback { logical, state: state.clone(), elsewhere: None }),
            partitions: None,
        };
        Ok(Ready { schema, work: Work::Rows(Box::new(rows)) })
    }

    /// Runs plans whose rows are kept.
    async fn keep(&self, kept: Kept, session: &Session, deadline: Deadline, recorded: &Recorded) -> Result<Ready> {
        let Kept { keeping, schema, plans, rows, state } = kept;
        let scope = &recorded.record.scope;
        let (state, counted, told) = (&state, &AtomicU64::new(0), &AtomicU64::new(0));
        // Owned, each: futures over borrowed ones can't be sent to another thread by all who want to.
        let mut bound: Vec<(usize, Part, Vec<ScalarValue>)> = Vec::with_capacity(rows.len() * plans.len());
        for row in &rows {
            bound.extend(plans.iter().enumerate().map(|(place, part)| (place, part.clone(), row.clone())));
        }
        let running = RunningParts { state, scope, recorded, deadline, counted, told };
        let rows = self.parts(bound, running);
        let before = match &keeping {
            Keeping::Table(write) => self.rows_before(write, state, session, deadline, recorded).await?,
            Keeping::Copy(_) => None,
        };
        let checked = match &keeping {
            Keeping::Table(write) if write.rewritten().is_some_and(|(_, is_checked)| is_checked) => before,
            _ => None,
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
            Keeping::Table(write) => self.write(write, schema, rows, (before.unwrap_or(0), counted), session).await?,
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

    /// The rows of the plans, one after another.
    fn parts<'a>(&'a self, bound: Vec<(usize, Part, Vec<ScalarValue>)>, running: RunningParts<'a>) -> Rows<'a> {
        stream::iter(bound).then(move |part| self.part(part, running)).try_flatten().boxed()
    }

    /// The rows of one of the plans, which are counted.
    fn part<'a>(
        &'a self,
        (place, part, row): (usize, Part, Vec<ScalarValue>),
        running: RunningParts<'a>,
    ) -> BoxFuture<'a, Result<Rows<'a>>> {
        let RunningParts { state, scope, recorded, deadline, counted, told } = running;
        async move {
            let ready = self.ready(bind(&part.plan, &row)?, state, scope).await?;
            let rows = ready.into_query(deadline, recorded.within()).stream()?;
            let rows = rows.inspect_ok(move |batch| {
                // Only the rows of the first plan are those that the statement is about.
                let count = batch.num_rows() as u64;
                counted.fetch_add(if place == 0 { count } else { 0 }, Ordering::Relaxed);
                told.fetch_add(count, Ordering::Relaxed);
            });
            let rows: Rows<'a> = rows.try_filter(move |_| future::ready(part.is_written)).boxed();
            Ok(rows)
        }
        .boxed()
    }

    /// How many rows the table has that a statement rewrites.
    async fn rows_before(
        &self,
        write: &Write,
        state: &SessionState,
        session: &Session,
        deadline: Deadline,
        recorded: &Recorded,
    ) -> Result<Option<u64>> {
        let Some((seen, _)) = write.rewritten() else { return Ok(None) };
        if let Place::Temporary(name) = write.place() {
            return Ok(Some(session.rows(name)));
        }
        if let Some(rows) = writes::rows_of(seen) {
            return Ok(Some(rows));
        }
        // Another program wrote files whose rows the log doesn't tell.
        let ready = self.ready(writes::counting(seen)?, state, &recorded.record.scope).await?;
        let batches: Vec<RecordBatch> = ready.into_query(deadline, recorded.within()).stream()?.try_collect().await?;
        let mut count = batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| ScalarValue::try_from_array(batch.column(0), 0));
        match count.next().transpose()? {
            Some(ScalarValue::Int64(Some(rows))) => Ok(u64::try_from(rows).ok()),
            _ => Err(Error::new(Kind::Internal, "the rows of the table could not be counted")),
        }
    }

    /// Makes or changes a table, and gives the number of rows that the statement is about.
    async fn write(
        &self,
        write: &Write,
        schema: SchemaRef,
        rows: Rows<'_>,
        (before, counted): (u64, &AtomicU64),
        session: &Session,
    ) -> Result<u64> {
        let mut rows = write.fitted(rows);
        let name = match write.place() {
            Place::Lake(name) => name,
            Place::Temporary(name) => {
                let room = &self.shared.temporary;
                let (mut batches, mut bytes) = (Vec::new(), 0);
                while let Some(batch) = rows.try_next().await? {
                    bytes += batch.get_array_memory_size();
                    room.check_session(bytes)?;
                    batches.push(batch);
                }
                return Self::write_temporary(name, write, schema, batches, (before, counted), (session, room));
            }
        };
        let tables = self.shared.catalog.place_for_tables()?;
        match write {
            Write::Create { if_exists, .. } => Ok(tables.create(name, schema, rows, *if_exists).await?.unwrap_or(0)),
            Write::Append { .. } => tables.append(name, rows).await,
            Write::Rewrite { seen, counts, .. } => {
                let after = tables.rewrite(name, seen, rows).await?;
                Ok(counts.of(before, after, counted.load(Ordering::Relaxed)))
            }
        }
    }

    fn write_temporary(
        name: &str,
        write: &Write,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        (before, counted): (u64, &AtomicU64),
        (session, room): (&Session, &Arc<Room>),
    ) -> Result<u64> {
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        match write {
            Write::Create { if_exists, .. } => {
                // What a query says of its columns may be other than what the table says.
                let batches = batches.iter().map(|batch| fit_columns(batch, &schema)).collect::<Result<Vec<_>>>()?;
                session.create(name, schema, batches, *if_exists, room).map(|made| if made { count } else { 0 })
            }
            Write::Append { .. } => session.fill(name, batches, false, room).map(|()| count),
            Write::Rewrite { counts, .. } => {
                session.fill(name, batches, true, room)?;
                Ok(counts.of(before, count, counted.load(Ordering::Relaxed)))
            }
        }
    }

    pub(super) fn planner<'a>(&'a self, state: &'a SessionState, session: &'a Session) -> Planner<'a> {
        Planner::new(state, &self.shared.catalog, session)
    }

    /// The query that tells what the columns of `from` hold.
    async fn summary(&self, from: &str, session: &Session, scope: &Scope, memory: &QueryMemory, access: &Arc<Access>) -> Result<Parsed> {
        let parsed = statement::parse(&format!("SELECT * FROM {from}"))?;
        if parsed.parameters > 0 {
            return Err(Error::new(Kind::Unsupported, "SUMMARIZE takes no parameters").hint("write the values out"));
        }
        let planned = self.plan(parsed, session, scope, memory, access).await?;
        let schema = planned.plans.first().map(|part| part.plan.schema().as_arrow());
        let schema = schema.ok_or_else(|| Error::new(Kind::Internal, "a query has no plan"))?;
        statement::parse(&summarize::query(from, schema)?)
    }

    async fn plan(&self, parsed: Parsed, session: &Session, scope: &Scope, memory: &QueryMemory, access: &Arc<Access>) -> Result<Planned> {
        ddl::refuse_unknown(&parsed.statement)?;
        let parameters = parsed.parameters;
        let (mut statement, target) = copy::take(parsed.statement, &self.shared.sinks)?;
        if target.is_some() {
            session.check_writes("COPY writes files")?;
        }
        let unplanned = Unplanned::take(&mut statement);
        if let Some(target) = &target {
            access.require_path(Privilege::Insert, &target.spec.location)?;
        }
        let state = session::query_state(&self.shared.base, &Arc::new(self.shared.stores.now()), scope, memory, session, access)?;
        let text = statement.to_string();
        let planner = self.planner(&state, session);
        let describes = describe::take_query(&mut statement);
        let plan = planner.plan(statement).await?;
        if let Some(what) = writes::does_more_than_read(&plan) {
            session.check_writes(&format!("{what} does more than read"))?;
        }
        if let Some((write, plans)) = writes::take(&plan, &planner, unplanned)? {
            return Ok(Planned { plans, state, text, is_command: false, keeping: Some(Keeping::Table(write)) });
        }
        let is_command = ddl::is_command(&plan)?;
        if is_command && parameters > 0 {
            return Err(
                Error::new(Kind::InvalidQuery, "a command can't have parameters: what it makes outlives them").hint("write the values out")
            );
        }
        let plan = match describes {
            // Of what has parameters, types may not be known yet.
            true => {
                let plan = analyzed(plan.clone(), &state).or_else(|error| if parameters > 0 { Ok(plan) } else { Err(error) })?;
                describe::rows(&told_schema(&plan, &state, scope)?, access)?
            }
            false => describe::rewrite(plan, access)?,
        };
        Ok(Planned { plans: vec![Part::written(plan)], state, text, is_command, keeping: target.map(Keeping::Copy) })
    }

    /// What `sql` would give, without running it: not even a command.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub async fn prepare(&self, sql: &str, session: impl Into<Session>) -> Result<Prepared> {
        let (session, scope) = (&session.into(), Scope::default());
        let prepared = self.prepared(sql, session, &scope).await;
        // What is refused here never becomes a query.
        if let (Err(error), Some(denied), Some(audit)) = (&prepared, scope.findings.refused(), self.shared.activity.audit()) {
            audit.record(Event {
                event: "prepare",
                user: session.principal().name().to_owned(),
                door: session.door(),
                sql: Some(masked(sql)),
                fingerprint: Some(statement::fingerprint(sql)),
                outcome: "denied".to_owned(),
                error: Some(masked(&error.to_string())),
                denied: Some(denied),
                policy: scope.findings.version(),
                ..Event::default()
            });
        }
        prepared
    }

    async fn prepared(&self, sql: &str, session: &Session, scope: &Scope) -> Result<Prepared> {
        let deadline = Deadline::of(session, self.shared.limits.deadline, self.limit(session).as_deref());
        let (memory, access) = (self.shared.memory.of_query(self.shared.limits.query_memory), self.access(session, scope));
        self.reload(&scope.notices);
        let parsed = match statement::own(sql)? {
            None => statement::parse_as(sql, session.dialect().as_ref())?,
            Some(Own::Summarize(from)) => deadline.bound(self.summary(&from, session, scope, &memory, &access)).await?,
            Some(Own::Kill(_) | Own::Refresh(_)) => return Ok(Prepared::update(Vec::new())),
        };
        let count = parsed.parameters;
        let Planned { plans, is_command, keeping, state, .. } = deadline.bound(self.plan(parsed, session, scope, &memory, &access)).await?;
        let mut types = HashMap::new();
        for part in &plans {
            types.extend(part.plan.get_parameter_types()?.into_iter().filter(|(_, data_type)| data_type.is_some()));
        }
        let parameters = (1..=count).map(|number| types.get(&format!("${number}")).cloned().flatten()).collect();
        let first = plans.into_iter().next().ok_or_else(|| Error::new(Kind::Internal, "a statement has no plan"))?.plan;
        // What a parameter will be may be needed to know the types: then they are those of the planner.
        let first = if is_command || count > 0 { analyzed(first.clone(), &state).unwrap_or(first) } else { analyzed(first, &state)? };
        let schema = Arc::new(told_schema(&first, &state, scope)?);
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

    /// What the policy says of a statement, without running it: what it decided on each table, and the plan that would run.
    ///
    /// # Errors
    /// What is wrong with the statement but for what the policy refuses, which is part of the report.
    pub async fn check_access(&self, sql: &str, session: impl Into<Session>) -> Result<AccessReport> {
        let (session, scope) = (&session.into(), Scope::default());
        let (memory, access) = (self.shared.memory.of_query(self.shared.limits.query_memory), self.access(session, &scope));
        let planning = async {
            let parsed = match statement::own(sql)? {
                None => statement::parse_as(sql, session.dialect().as_ref())?,
                Some(Own::Summarize(from)) => self.summary(&from, session, &scope, &memory, &access).await?,
                Some(Own::Refresh(name)) => return self.decide_refresh(&name, &access).map(|()| String::new()),
                Some(Own::Kill(_)) => {
                    return Err(Error::new(Kind::Unsupported, "who may kill a query depends on whose it is")
                        .hint("KILL takes one's own, and those of others from who may `admin` on `system.queries`"));
                }
            };
            let Planned { plans, state, is_command, .. } = self.plan(parsed, session, &scope, &memory, &access).await?;
            if is_command {
                let planner = self.planner(&state, session);
                for part in &plans {
                    ddl::decide(&part.plan, &planner).await?;
                }
                return Ok(String::new());
            }
            let mut shown = String::new();
            for part in plans {
                let analyzed = analyzed(part.plan, &state)?;
                shown.push_str(&access::rewritten(analyzed)?.display_indent().to_string());
                shown.push('\n');
            }
            Ok::<_, Error>(shown)
        };
        let planned = Deadline::of(session, self.shared.limits.deadline, self.limit(session).as_deref()).bound(planning).await;
        let decided = scope.findings.decided();
        let (plan, refused) = match planned {
            Ok(plan) => (Some(plan), None),
            Err(error) if scope.findings.refused().is_some() => (None, Some(error)),
            Err(error) => return Err(error),
        };
        Ok(AccessReport { decided, plan, refused })
    }

    /// What is wrong with the policy where it meets the tables of the lake: filters and masks that can't be planned. It opens every table that
    /// a rule shows in part.
    ///
    /// # Errors
    /// As [`Engine::tables`].
    pub async fn check_policy(&self) -> Result<Vec<Error>> {
        let Some(policy) = self.shared.policy.as_ref().map(|policy| policy.now()) else { return Ok(Vec::new()) };
        let owner = Session::from(&Principal::owner());
        let (state, mut problems) = (self.state(&owner)?, Vec::new());
        let planner = self.planner(&state, &owner);
        for entry in self.tables(&owner).await? {
            let resolved = TableReference::full(entry.catalog, entry.schema, entry.name).resolve("", "");
            for rule in policy.rules().iter().filter(|rule| rule.restricts()) {
                let checked = access::check_rule(rule, &resolved, &planner).await;
                problems.extend(checked.err().map(|error| error.with("rule", &rule.name).with("table", &resolved)));
            }
        }
        Ok(problems)
    }

    /// Appends `rows` to the table `name`, or makes it of them, as `how` says; and gives their number. The columns are matched by name, and
    /// cast to those of the table; one that is not given is NULL.
    ///
    /// # Errors
    /// As [`Engine::query`]; `InvalidQuery` for columns that the table lacks.
    pub async fn ingest(&self, name: &TableReference, how: Ingest, schema: SchemaRef, rows: Rows<'_>, session: &Session) -> Result<u64> {
        session.check_writes("an ingest writes rows")?;
        let limit = self.limit(session);
        let recorded =
            self.shared.activity.begin(&format!("INGEST INTO {name}"), session, self.query_memory(session, limit.as_deref()), limit)?;
        let deadline = Deadline::of(session, Deadline::LONG, recorded.record.limit.as_deref());
        let _slot = recorded.slot().await.inspect_err(|error| recorded.ended(Err::<(), _>(error)))?;
        recorded.record.reach(Stage::Running);
        let state = self.state_of(session, &recorded.record.scope)?;
        let ingesting = self.ingest_rows(name, how, schema, rows, session, &state);
        let ingested = deadline.bound(ingesting).await;
        recorded.record.rows.store(ingested.as_ref().copied().unwrap_or_default(), Ordering::Relaxed);
        recorded.record.scope.reads.name_table(self.planner(&state, session).resolve(name.clone()).to_string());
        recorded.ended(ingested.as_ref().map(|_| ()));
        ingested
    }

    async fn ingest_rows(
        &self,
        name: &TableReference,
        how: Ingest,
        schema: SchemaRef,
        rows: Rows<'_>,
        session: &Session,
        state: &SessionState,
    ) -> Result<u64> {
        let planner = self.planner(state, session);
        let appending = if how.may_add() { planner.written_table(name, Privilege::Insert) } else { Err(Error::new(Kind::NotFound, "")) };
        let there = match appending {
            Ok(place) => match planner.table(name.clone()).await {
                Ok(table) => Some((place, table)),
                Err(error) if error.kind() == Kind::NotFound => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        let counted = AtomicU64::new(0);
        match there {
            Some((place, table)) => {
                writes::check_whole(&table, Privilege::Insert, name)?;
                let rows = writes::by_name(rows, &schema, &table.schema(), name)?;
                let columns = table.schema();
                self.write(&Write::Append { place, columns: Arc::clone(&columns) }, columns, rows, (0, &counted), session).await
            }
            None if how == Ingest::Append => {
                let resolved = planner.resolve(name.clone());
                planner.require(Privilege::Insert, &resolved).await?;
                Err(self.shared.catalog.unknown(&resolved, planner.access()?).await)
            }
            None => {
                let place = planner.new_table(name, how.is_temporary(), how.if_exists() == IfExists::Replace)?;
                if matches!(place, Place::Lake(_)) {
                    self.shared.catalog.place_for_tables()?.check_schema(&schema)?;
                }
                let create = Write::Create { place, if_exists: how.if_exists(), unchecked: None, strict: None, notes: HashMap::new() };
                self.write(&create, schema, rows, (0, &counted), session).await
            }
        }
    }
}

/// A plan whose types are those that it will run with: of a UNION, the planner tells the types of its first half.
fn analyzed(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = units::resolved(plan)?;
    // What is explained is analyzed step by step, to be shown.
    if explain::is_explanation(&plan) {
        return Ok(plan);
    }
    Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
}

/// The schema of what a plan gives. A subquery for one value gives NULL when it has no row, whatever DataFusion says of the value.
///
/// # Errors
/// `InvalidQuery` where different units come together and the session doesn't want it; else that is a notice.
fn told_schema(plan: &LogicalPlan, state: &SessionState, scope: &Scope) -> Result<Schema> {
    let (schema, problems) = units::told(plan, repeated::unmarked(plan.schema().as_arrow().clone()));
    tell_units(problems, state, scope)?;
    let asks = plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_))))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    });
    Ok(match asks {
        Ok(false) => schema,
        _ => {
            let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            Schema::new_with_metadata(nullable.collect::<Vec<_>>(), schema.metadata().clone())
        }
    })
}

/// Refuses what brings different units together, or tells of it, as the session wants it.
fn tell_units(problems: BTreeSet<String>, state: &SessionState, scope: &Scope) -> Result<()> {
    match OwnSettings::of(state.config_options()).units {
        UnitRules::Strict => units::refused(&problems).map_or(Ok(()), Err),
        UnitRules::Warn => {
            problems.into_iter().for_each(|problem| scope.notices.add(problem));
            Ok(())
        }
    }
}

/// A plan with the values of its parameters. Times of day are brought into the unit of SQL's own, which isn't compared with others.
fn bind(plan: &LogicalPlan, parameters: &[ScalarValue]) -> Result<LogicalPlan> {
    let plan = plan.clone();
    let values = parameters.iter().map(|value| match value.data_type() {
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => value.cast_to(&DataType::Time64(TimeUnit::Nanosecond)),
        _ => Ok(value.clone()),
    });
    let values = values.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(if values.is_empty() { plan } else { plan.with_param_values(ParamValues::from(values))? })
}

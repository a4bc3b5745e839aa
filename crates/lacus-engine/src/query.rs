use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::config::ExecutionOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning, execute_stream, replace_children_if_necessary};
use futures::future::{BoxFuture, ready};
use futures::{Stream, StreamExt, ready, stream};
use lacus_core::{Error, Kind, Result};
use lacus_policy::Limit;
use lacus_storage::StoreReads;
use tokio::time::{Instant, Sleep};
use tracing::{Instrument, Span};

use crate::access::{Access, RestrictedExec};
use crate::activity::{Recorded, SharedSlot, Stage};
use crate::metered::{Meter, batch_bytes};
use crate::progress::QueryProgress;
use crate::provenance::Provenance;
use crate::share::Seat;
use crate::{explain, session};

/// How a query is planned whose memory was short.
const FEW_PARTITIONS: usize = 2;
const SMALL_BATCH: usize = 1024;
/// How many bytes of an answer are hashed and given at once.
const AT_ONCE: u64 = 64 << 20;

/// One SQL text, planned: its schema is known, and nothing but metadata was read.
///
/// A command (`CREATE`, `DROP`, `KILL`) has run when [`Engine::query`](crate::Engine::query) returns it; its stream is empty. So has COPY,
/// whose stream is one row: how many were written.
#[derive(Debug)]
pub struct Query {
    schema: SchemaRef,
    work: Work,
    deadline: Deadline,
    recorded: Recorded,
}

/// What is left to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing: the command has run.
    Done,
    /// Nothing: the rows were kept, and this says how many.
    Kept { answer: RecordBatch, count: u64 },
    /// A plan to run.
    Rows(Box<RowsWork>),
}

/// A plan to run.
#[derive(Debug)]
pub(crate) struct RowsWork {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) task: Arc<TaskContext>,
    /// Whether it explains, and so ends with what was read.
    pub(crate) explains: bool,
    pub(crate) fallback: Option<Fallback>,
    /// The partitions that are run; all, unless others are run beside.
    pub(crate) partitions: Option<Vec<usize>>,
}

impl RowsWork {
    fn stream(self) -> Result<SendableRecordBatchStream> {
        let Self { plan, task, partitions, .. } = self;
        let Some(partitions) = partitions else { return Ok(execute_stream(plan, task)?) };
        let mut merged = RecordBatchReceiverStream::builder(plan.schema(), partitions.len());
        for partition in partitions {
            let (mut rows, sender) = (plan.execute(partition, Arc::clone(&task))?, merged.tx());
            merged.spawn(async move {
                while let Some(batch) = rows.next().await {
                    // Nobody reads on, or needs to after an error.
                    let is_last = batch.is_err();
                    if sender.send(batch).await.is_err() || is_last {
                        break;
                    }
                }
                Ok(())
            });
        }
        Ok(merged.build())
    }
}

/// A plan each partition of which is computed of one partition of what it reads, so that some can be read without the others; `None` where that
/// can't be. What only deals rows out to more partitions is left out: its partitions wait for one another.
fn with_independent_partitions(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(exchange) = plan.downcast_ref::<RepartitionExec>() {
        let deals_out = matches!(exchange.partitioning(), Partitioning::RoundRobinBatch(_));
        return if deals_out { with_independent_partitions(exchange.input()) } else { None };
    }
    match plan.children().as_slice() {
        // What is below a restricted table may be anything.
        [] => (!plan.is::<RestrictedExec>()).then(|| Arc::clone(plan)),
        [child] if child.output_partitioning().partition_count() == plan.output_partitioning().partition_count() => {
            replace_children_if_necessary(Arc::clone(plan), vec![with_independent_partitions(child)?]).ok()
        }
        _ => None,
    }
}

/// How a query is planned again that fails before its first batch has left.
pub(crate) struct Fallback {
    /// When the table of a hash join, or rows that are kept for several places, do not fit: by sorting and merging, which spills, and
    /// without keeping rows.
    pub(crate) logical: LogicalPlan,
    pub(crate) state: SessionState,
    /// When a site is lost for which another stands in: from its text.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Plans a query anew, without the sites that failed just now.
pub(crate) type Elsewhere = Box<dyn FnOnce() -> BoxFuture<'static, Result<RowsWork>> + Send>;

impl std::fmt::Debug for Fallback {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fallback").finish_non_exhaustive()
    }
}

impl Fallback {
    /// The plan that helps against an error, if one does.
    fn against(self, error: &DataFusionError) -> Option<BoxFuture<'static, Result<RowsWork>>> {
        if Self::is_short(error) {
            return Some(Box::pin(self.plan()));
        }
        let is_lost = Error::find(error).is_some_and(|error| error.kind() == Kind::Unavailable);
        self.elsewhere.filter(|_| is_lost).map(|elsewhere| elsewhere())
    }

    async fn plan(self) -> Result<RowsWork> {
        let Self { logical, mut state, .. } = self;
        let config = state.config_mut();
        // Memory is short: fewer operators share it, and each hands over less at once.
        let (partitions, batch) = (config.target_partitions().min(FEW_PARTITIONS), config.batch_size().min(SMALL_BATCH));
        *config = std::mem::take(config).with_target_partitions(partitions).with_batch_size(batch);
        let (options, usual) = (config.options_mut(), ExecutionOptions::default());
        options.optimizer.prefer_hash_join = false;
        options.execution.perfect_hash_join_small_build_threshold = usual.perfect_hash_join_small_build_threshold;
        options.execution.perfect_hash_join_min_key_density = usual.perfect_hash_join_min_key_density;
        let plan = session::physical_plan(&state, &logical, false).await?;
        Ok(RowsWork { plan, task: state.task_ctx(), explains: explain::is_explanation(&logical), fallback: None, partitions: None })
    }

    /// Whether an error tells of memory that another plan does without.
    fn is_short(error: &DataFusionError) -> bool {
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(message) if ["HashJoin", "SharedRows"].iter().any(|name| message.contains(name)))
    }
}

/// A query but for its record.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) schema: SchemaRef,
    pub(crate) work: Work,
}

impl Ready {
    pub(crate) fn into_query(self, deadline: Deadline, recorded: Recorded) -> Query {
        let Self { schema, work } = self;
        let plan = match &work {
            Work::Rows(rows) => Some(Arc::clone(&rows.plan)),
            Work::Done | Work::Kept { .. } => None,
        };
        if !recorded.is_within() {
            recorded.record.scope.noted.schema(&schema);
        }
        recorded.record.planned(QueryProgress::new(Arc::clone(&recorded.record.scope.reads), plan));
        if matches!(work, Work::Done) {
            recorded.ended(Ok(()));
        }
        Query { schema, work, deadline, recorded }
    }
}

/// When a query must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) allowed: Duration,
    /// Whether the principal is nobody from then on.
    expires: bool,
    /// Whether it is the policy that allows no more.
    by_policy: bool,
}

impl Deadline {
    pub(crate) fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed, expires: false, by_policy: false }
    }

    /// For what may take as long as it takes: a year.
    pub(crate) const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

    /// The end of what `session` asks for: after so long, or when its principal is nobody any more.
    pub(crate) fn of(session: &crate::Session, allowed: Duration, limit: Option<&Limit>) -> Self {
        let allowed = session.longest().map_or(allowed, |longest| longest.min(allowed));
        let less = limit.and_then(|limit| limit.deadline).filter(|less| *less < allowed);
        let left = session.expires().map(|expires| expires.duration_since(SystemTime::now()).unwrap_or_default());
        let allowed = less.unwrap_or(allowed);
        match left.filter(|left| *left < allowed) {
            Some(left) => Self { expires: true, ..Self::after(left) },
            None => Self { by_policy: less.is_some(), ..Self::after(allowed) },
        }
    }

    pub(crate) fn error(&self) -> Error {
        if self.expires {
            return Error::new(Kind::Unauthenticated, "what says who asks has ended").hint("ask again with a new token or certificate");
        }
        let error = Error::new(Kind::DeadlineExceeded, format!("the query took longer than {:?}", self.allowed));
        match self.by_policy {
            true => error.hint("narrow the query, or ask whoever keeps the policy of this lake for more"),
            false => error.hint("narrow the query, or raise `deadline` under [limits]"),
        }
    }

    /// Runs `work` until the deadline.
    pub(crate) async fn bound<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout_at(self.at, work).await.unwrap_or_else(|_| Err(self.error()))
    }
}

impl Query {
    /// What the answer is computed from, to be asked for once all of it was read.
    pub fn provenance(&self) -> Provenance {
        Provenance(Arc::clone(&self.recorded.record))
    }

    /// A random name for this query, in every record of it.
    pub fn id(&self) -> &str {
        &self.recorded.record.id
    }

    /// The schema of the result. Every batch has exactly this schema.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether this was a command, which has no rows.
    pub fn is_command(&self) -> bool {
        matches!(self.work, Work::Done)
    }

    /// How many rows COPY wrote; `None` for everything else.
    pub fn rows_written(&self) -> Option<u64> {
        match self.work {
            Work::Kept { count, .. } => Some(count),
            _ => None,
        }
    }

    /// Whether the rows come in an order that the text asks for.
    pub fn is_ordered(&self) -> bool {
        match &self.work {
            Work::Rows(rows) => rows.plan.output_partitioning().partition_count() == 1 && rows.plan.output_ordering().is_some(),
            Work::Done | Work::Kept { .. } => false,
        }
    }

    /// The query in at most `most` parts that can be read at once or one after another, each by another reader: together they have all
    /// rows, in no order. It is one part when the rows are ordered, or are computed together.
    ///
    /// The parts are one query in all records, and share its memory and its deadline; those that run at once share a turn. A part that is
    /// never read cancels the query when it is dropped.
    pub fn into_parts(self, most: usize) -> Vec<Self> {
        let Self { schema, work, deadline, recorded } = self;
        let (Work::Rows(rows), true) = (&work, most > 1) else { return vec![Self { schema, work, deadline, recorded }] };
        let independent =
            with_independent_partitions(&rows.plan).filter(|plan| !rows.explains && plan.output_partitioning().partition_count() > 1);
        let Some(plan) = independent else { return vec![Self { schema, work, deadline, recorded }] };
        let partitions = plan.output_partitioning().partition_count();
        let count = most.min(partitions);
        let part = |(place, recorded): (usize, Recorded)| {
            let partitions = Some((place..partitions).step_by(count).collect());
            // Other parts may have given rows when one is short of memory, so that none can be planned anew.
            let part = RowsWork { plan: Arc::clone(&plan), task: Arc::clone(&rows.task), explains: false, fallback: None, partitions };
            Self { schema: Arc::clone(&schema), work: Work::Rows(Box::new(part)), deadline, recorded }
        };
        recorded.into_parts(count).into_iter().enumerate().map(part).collect()
    }

    /// What is left to do.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Tells how far the query is, once it runs.
    pub fn progress(&self) -> QueryProgress {
        let known = self.recorded.record.watch();
        known.unwrap_or_else(|| QueryProgress::new(Arc::clone(&self.recorded.record.scope.reads), None))
    }

    /// Runs the query, on the tokio runtime that calls it, once few enough others do: see [`Limits`](crate::Limits). Dropping the stream
    /// cancels it: all tasks and reads stop.
    ///
    /// # Errors
    /// None now: what the operators find before their first batch is the first item.
    pub fn stream(self) -> Result<ResultStream> {
        self.started(true)
    }

    /// As [`Query::stream`], without a turn of its own: for what a function asks that a running query has called. That query has its turn
    /// and waits for the answer, so turns that were waited for might never come.
    ///
    /// # Errors
    /// As [`Query::stream`].
    pub fn stream_within(self) -> Result<ResultStream> {
        self.started(false)
    }

    fn started(self, takes_turn: bool) -> Result<ResultStream> {
        let Self { schema, work, deadline, recorded } = self;
        let task = if let Work::Rows(rows) = &work { Some(Arc::clone(&rows.task)) } else { None };
        let (body, explains) = match work {
            Work::Done => (Body::Done, false),
            Work::Kept { answer, .. } => {
                let (schema, answer) = (answer.schema(), stream::once(ready(Ok(answer))));
                let batches = Box::pin(RecordBatchStreamAdapter::new(schema, answer));
                (Body::Running(Box::new(Running { batches, rest: None, slot: None, fallback: None })), false)
            }
            Work::Rows(rows) => {
                let explains = rows.explains;
                let slot = takes_turn.then(|| recorded.slot());
                let turn = async move {
                    let slot = match slot {
                        Some(slot) => Some(slot.await?),
                        None => None,
                    };
                    Ok((*rows, slot))
                };
                (Body::Waiting(Box::pin(turn)), explains)
            }
        };
        Ok(ResultStream {
            schema,
            body,
            deadline,
            alarm: Box::pin(tokio::time::sleep_until(deadline.at)),
            killed: Box::pin(Arc::clone(&recorded.record).killed()),
            explains,
            meter: Meter::of(&recorded.record, !recorded.is_within()),
            // What a running query waits for computes in its turn.
            seat: Seat::new(takes_turn.then(|| Arc::clone(&recorded.lane))),
            span: recorded.record.scope.reads.span(),
            _task: task,
            recorded,
        })
    }
}

/// The result of a query, batch by batch. Dropping it cancels the query.
pub struct ResultStream {
    schema: SchemaRef,
    body: Body,
    deadline: Deadline,
    alarm: Pin<Box<Sleep>>,
    killed: Pin<Box<dyn Future<Output = Error> + Send>>,
    explains: bool,
    meter: Option<Meter>,
    seat: Seat,
    span: Span,
    /// What runs may yet spill, into a folder that is there for as long as the configuration of its task.
    _task: Option<Arc<TaskContext>>,
    // Dropped last: a query is no longer listed once nothing of it runs.
    recorded: Recorded,
}

/// A plan that waits for its turn.
type Turn = Pin<Box<dyn Future<Output = Result<(RowsWork, Option<SharedSlot>)>> + Send>>;

/// Where a stream is.
enum Body {
    /// It waits for its turn, or is planned again with a turn of its own.
    Waiting(Turn),
    /// It runs.
    Running(Box<Running>),
    /// Nothing is left.
    Done,
}

struct Running {
    batches: SendableRecordBatchStream,
    /// What is left of a batch that is too large for one.
    rest: Option<RecordBatch>,
    slot: Option<SharedSlot>,
    /// Kept until the first batch is there.
    fallback: Option<Fallback>,
}

impl Running {
    /// As many of the next rows as are given at once.
    fn next(&mut self, seat: &mut Seat, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, DataFusionError>>> {
        let next = match self.rest.take() {
            Some(rest) => Some(Ok(rest)),
            None => ready!(seat.poll(context, |context| self.batches.as_mut().poll_next(context))),
        };
        Poll::Ready(next.map(|next| {
            next.map(|batch| {
                let (first, rest) = parted(batch);
                self.rest = rest;
                first
            })
        }))
    }
}

impl std::fmt::Debug for ResultStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ResultStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl ResultStream {
    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What the query has read so far, store by store.
    pub fn reads(&self) -> Vec<StoreReads> {
        self.recorded.record.scope.reads.reads()
    }

    fn end(&mut self) -> Option<Result<RecordBatch>> {
        self.body = Body::Done;
        let explains = std::mem::take(&mut self.explains);
        let last = explains.then(|| explain::reads(&self.schema, &self.recorded.record.scope));
        self.recorded.ended(Ok(()));
        last
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<RecordBatch>>> {
        self.recorded.record.memory.spilled(0);
        self.recorded.ended(Err::<(), _>(&error));
        self.body = Body::Done;
        Poll::Ready(Some(Err(error)))
    }

    fn run(&mut self, mut rows: RowsWork, slot: Option<SharedSlot>) -> Result<()> {
        let record = &self.recorded.record;
        if let Some(access) = rows.task.session_config().get_extension::<Access>() {
            access.check_current()?;
        }
        record.reach(Stage::Running);
        if let Some(progress) = record.watch() {
            progress.replan(Arc::clone(&rows.plan));
        }
        let fallback = rows.fallback.take();
        self.body = Body::Running(Box::new(Running { batches: self.seat.within(|| rows.stream())?, rest: None, slot, fallback }));
        Ok(())
    }
}

impl Stream for ResultStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let _inside = this.span.clone().entered();
        if matches!(this.body, Body::Done) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(killed) = this.killed.as_mut().poll(context) {
            return this.fail(killed);
        }
        // The alarm wakes whoever reads; threads that are all busy may be late to sound it.
        if this.alarm.as_mut().poll(context).is_ready() || Instant::now() >= this.deadline.at {
            let error = this.recorded.record.scope.remotes.told(this.deadline.error());
            return this.fail(error);
        }
        if let Some(Err(error)) = this.meter.as_mut().map(|meter| meter.look(&this.recorded.record, context)) {
            return this.fail(error);
        }
        loop {
            match &mut this.body {
                Body::Done => return Poll::Ready(None),
                Body::Waiting(turn) => match ready!(turn.as_mut().poll(context)).and_then(|(rows, slot)| this.run(rows, slot)) {
                    Ok(()) => {}
                    Err(error) => return this.fail(error),
                },
                Body::Running(running) => match ready!(running.next(&mut this.seat, context)) {
                    None => return Poll::Ready(this.end()),
                    Some(Ok(batch)) => {
                        running.fallback = None;
                        this.recorded.record.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                        let conformed = conform(batch, &this.schema);
                        if let (false, Ok(batch)) = (this.recorded.is_within(), &conformed) {
                            this.recorded.record.scope.noted.batch(batch);
                        }
                        let counted = conformed.and_then(|batch| match &mut this.meter {
                            Some(meter) => meter.count(&this.recorded.record, &batch).map(|()| batch),
                            None => Ok(batch),
                        });
                        return match counted {
                            Ok(batch) => Poll::Ready(Some(Ok(batch))),
                            Err(error) => this.fail(error),
                        };
                    }
                    Some(Err(error)) => match running.fallback.take().and_then(|fallback| fallback.against(&error)) {
                        Some(planned) => {
                            // The slot is kept: what was begun goes on.
                            let slot = running.slot.take();
                            this.body =
                                Body::Waiting(Box::pin(async move { Ok((planned.instrument(tracing::debug_span!("plan")).await?, slot)) }))
                        }
                        None => return this.fail(error.into()),
                    },
                },
            }
        }
    }
}

/// As much of a batch as is hashed and given at once, and the rest: the texts of its rows may be one that all of them share, and be too much for
/// a query that is to be ended meanwhile.
fn parted(batch: RecordBatch) -> (RecordBatch, Option<RecordBatch>) {
    let (bytes, rows) = (batch_bytes(&batch).unwrap_or_default(), batch.num_rows());
    let first = if bytes > AT_ONCE { ((rows as u64).saturating_mul(AT_ONCE) / bytes).max(1) as usize } else { rows };
    if first >= rows {
        return (batch, None);
    }
    (batch.slice(0, first), Some(batch.slice(first, rows - first)))
}

/// Whether two types hold the same values in other encodings: a number that became another number would be another value.
fn same_values(given: &DataType, declared: &DataType) -> bool {
    let plain = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        other => other.clone(),
    };
    let (given, declared) = (plain(given), plain(declared));
    given == declared
        || given.is_null()
        || (given.is_string() && declared.is_string())
        || (given.is_binary() && declared.is_binary())
        || (given.is_nested() && declared.is_nested())
        || matches!((&given, &declared), (DataType::Timestamp(unit, _), DataType::Timestamp(other, _)) if unit == other)
        // What a function of decimals gives may depend on its arguments, which are known after all; more digits hold the same.
        || matches!((scale(&given), scale(&declared)), (Some(given), Some(declared)) if given <= declared)
}

fn scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Some(*scale)
        }
        _ => None,
    }
}

/// Gives a batch the declared schema: a physical plan may differ in nullability, metadata or the encoding of a column.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let rows = batch.num_rows();
    // A value that does not fit is an error, not a NULL.
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let (given, declared) = (column.data_type(), field.data_type());
        if given == declared {
            return Ok(Arc::clone(column));
        }
        if !same_values(given, declared) {
            let message = format!("the column is {given}, and {declared} was declared");
            return Err(Error::new(Kind::Internal, message).with("column", field.name()));
        }
        Ok(cast_with_options(column, declared, &exact)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let conformed = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
    conformed.map_err(|error| Error::new(Kind::Internal, format!("a batch differs from the declared schema: {error}")))
}

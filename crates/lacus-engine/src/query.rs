use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::future::ready;
use futures::{Stream, stream};
use lacus_core::{Error, Kind, Result};
use lacus_storage::StoreReads;
use tokio::time::{Instant, Sleep};

use crate::explain;
use crate::progress::QueryProgress;
use crate::session::Scope;

/// One SQL text, planned: its schema is known, and nothing but metadata was read.
///
/// A command (`CREATE`, `DROP`) has run when [`Engine::query`](crate::Engine::query) returns it; its stream is empty. So has COPY, whose
/// stream is one row: how many were written.
#[derive(Debug)]
pub struct Query {
    pub(crate) id: String,
    pub(crate) schema: SchemaRef,
    pub(crate) work: Work,
    pub(crate) scope: Scope,
    pub(crate) deadline: Deadline,
}

/// What is left to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing: the command has run.
    Done,
    /// Nothing: the rows were kept, and this says how many.
    Kept { answer: RecordBatch, count: u64 },
    /// A plan to run; an explanation ends with what was read.
    Rows { plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>, explains: bool },
}

/// When a query must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) allowed: Duration,
}

impl Deadline {
    pub(crate) fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    pub(crate) fn error(&self) -> Error {
        Error::new(Kind::DeadlineExceeded, format!("the query took longer than {:?}", self.allowed))
            .hint("narrow the query, or raise `deadline` under [limits]")
    }

    /// Runs `work` until the deadline.
    pub(crate) async fn bound<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout_at(self.at, work).await.unwrap_or_else(|_| Err(self.error()))
    }
}

impl Query {
    /// A random name for this query, in every record of it.
    pub fn id(&self) -> &str {
        &self.id
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

    /// Tells how far the query is, once it runs.
    pub fn progress(&self) -> QueryProgress {
        let plan = match &self.work {
            Work::Rows { plan, .. } => Some(Arc::clone(plan)),
            Work::Done | Work::Kept { .. } => None,
        };
        QueryProgress::new(Arc::clone(&self.scope.reads), plan)
    }

    /// Runs the query, on the tokio runtime that calls it. Dropping the stream cancels it: all tasks and reads stop.
    ///
    /// # Errors
    /// What the operators find before their first batch, such as a limit.
    pub fn stream(self) -> Result<ResultStream> {
        let (batches, explains) = match self.work {
            Work::Done => (None, false),
            Work::Kept { answer, .. } => {
                let (schema, answer) = (answer.schema(), stream::once(ready(Ok(answer))));
                (Some(Box::pin(RecordBatchStreamAdapter::new(schema, answer)) as SendableRecordBatchStream), false)
            }
            Work::Rows { plan, task, explains } => (Some(execute_stream(plan, task)?), explains),
        };
        Ok(ResultStream {
            schema: self.schema,
            batches,
            scope: self.scope,
            deadline: self.deadline,
            alarm: Box::pin(tokio::time::sleep_until(self.deadline.at)),
            explains,
        })
    }
}

/// The result of a query, batch by batch. Dropping it cancels the query.
pub struct ResultStream {
    schema: SchemaRef,
    batches: Option<SendableRecordBatchStream>,
    scope: Scope,
    deadline: Deadline,
    alarm: Pin<Box<Sleep>>,
    explains: bool,
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
        self.scope.reads.reads()
    }

    fn end(&mut self) -> Option<Result<RecordBatch>> {
        self.batches = None;
        let explains = std::mem::take(&mut self.explains);
        explains.then(|| explain::reads(&self.schema, &self.scope.reads))
    }
}

impl Stream for ResultStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(batches) = &mut this.batches else { return Poll::Ready(None) };
        if this.alarm.as_mut().poll(context).is_ready() {
            this.batches = None;
            return Poll::Ready(Some(Err(this.deadline.error())));
        }
        match Pin::new(batches).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(this.end()),
            Poll::Ready(Some(Ok(batch))) => Poll::Ready(Some(conform(batch, &this.schema))),
            Poll::Ready(Some(Err(error))) => {
                this.batches = None;
                Poll::Ready(Some(Err(error.into())))
            }
        }
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
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast_with_options(column, field.data_type(), &exact) }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let conformed = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
    conformed.map_err(|error| Error::new(Kind::Internal, format!("a batch differs from the declared schema: {error}")))
}

//! The commands of Flight SQL.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::metadata::{SqlInfoDataBuilder, XdbcTypeInfoData};
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest, ActionBeginTransactionResult,
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest, ActionEndTransactionRequest, Any, Command, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    IpcMessage, PollInfo, PutResult, RenewFlightEndpointRequest, SchemaAsIpc, Ticket,
};
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use datafusion_common::ScalarValue;
use futures::stream;
use futures::{Stream, TryStreamExt};
use lacus_core::{Error, Kind, Principal, Result};
use lacus_engine::{Engine, Prepared, Query, Session, named_parameters};
use prost::Message;
use prost_types::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::access::{Access, Caller, Gate};
use crate::command::{check_transaction, command, no_substrait, no_transactions, unknown_command};
use crate::handles::Handles;
use crate::keys::Named;
use crate::running::Running;
use crate::sessions::Connection;
use crate::spool::Spool;
use crate::status::{to_status, unreadable};
use crate::wire::Wire;
use crate::{bind, encode, ingest, keys, metadata, session_options, sql_info, xdbc};

/// The action that cancels what a `FlightInfo` leads to.
pub(crate) const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

/// The action that keeps a result for longer.
pub(crate) const RENEW: &str = "RenewFlightEndpoint";

/// How long a plan waits to be fetched. Files may change meanwhile, which the fetch would report, so not for long.
const PLAN_LIFETIME: Duration = Duration::from_secs(300);
/// How many plans may wait to be fetched.
const MOST_PLANS: usize = 1000;
/// About what a plan takes, which holds the state that it was planned in.
const PLAN_BYTES: usize = 200 << 10;
/// About what is left of a query that wrote.
const COUNT_BYTES: usize = 2 << 10;
/// What all plans may take; one that is bound to many rows of parameters is many.
const MOST_PLAN_BYTES: usize = 256 << 20;
/// The header by which a client says how many endpoints it reads.
const ENDPOINTS: &str = "endpoints";
/// How many endpoints a result may have.
const MOST_ENDPOINTS: usize = 64;
/// How many prepared statements may be open.
const MOST_STATEMENTS: usize = 10_000;
/// About what each column of a result and each parameter takes in a prepared statement, beside its text.
const COLUMN_BYTES: usize = 300;
/// What all prepared statements may take, with what is bound to them.
const MOST_STATEMENT_BYTES: usize = 256 << 20;
/// How long a prepared statement lives after its last use.
const PREPARED_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a result that was computed in the background is kept after it was asked for last.
const SPOOL_LIFETIME: Duration = Duration::from_secs(600);
/// How many results may be computed or kept so.
const MOST_SPOOLS: usize = 20;
/// The part of the space for spilled data that one of them may take: one of so many.
const SPOOL_SHARE: u64 = MOST_SPOOLS as u64;
/// How long a poll waits for the end.
const POLL: Duration = Duration::from_millis(500);
/// What the descriptor of a poll begins with, before the handle.
const POLLED: &[u8] = b"lacus.poll.";

type FlightStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
type PutStream = Pin<Box<dyn Stream<Item = Result<PutResult, Status>> + Send>>;
type ActionStream = Pin<Box<dyn Stream<Item = Result<arrow_flight::Result, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// What a client may fetch once: the results of its rows of parameters, one after another.
struct Waiting {
    schema: SchemaRef,
    queries: Vec<Query>,
}

/// A prepared statement, with what was bound to it last.
#[derive(Clone)]
struct Statement {
    sql: String,
    prepared: Prepared,
    /// The names of its parameters in their order, if the text names them.
    names: Vec<String>,
    rows: Option<Vec<Vec<ScalarValue>>>,
}

impl Statement {
    /// About what it takes.
    fn bytes(&self) -> usize {
        let columns = self.prepared.schema.fields().len() + self.prepared.parameters.len();
        let bound: usize = self.rows.iter().flatten().flatten().map(ScalarValue::size).sum();
        self.sql.len() + (1 + columns) * COLUMN_BYTES + bound
    }
}

/// The Flight SQL service over one engine.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    types: XdbcTypeInfoData,
    running: Running,
    waiting: Handles<Waiting>,
    statements: Handles<Statement>,
    spools: Handles<Arc<Spool>>,
    pub(crate) access: Arc<Access>,
}

impl Service {
    pub(crate) fn new(engine: Engine, gate: Gate) -> Result<Self> {
        let types = xdbc::types()?;
        let waiting = Handles::new("result", PLAN_LIFETIME, MOST_PLANS, MOST_PLAN_BYTES);
        let statements = Handles::new("prepared statement", PREPARED_LIFETIME, MOST_STATEMENTS, MOST_STATEMENT_BYTES);
        // They lie on disk, where each has its share.
        let spools = Handles::new("result", SPOOL_LIFETIME, MOST_SPOOLS, usize::MAX).refusing();
        let Gate(access) = gate;
        Ok(Self { engine, types, running: Running::default(), waiting, statements, spools, access })
    }

    /// Lets go of what nobody asked for in time.
    pub(crate) fn expire(&self) {
        self.waiting.expire();
        self.statements.expire();
        self.spools.expire();
    }

    /// The session of a call: whoever stands in front of this service has found out whose it is.
    pub(crate) fn session_of<T>(request: &Request<T>) -> Result<Session> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.session.clone());
        caller.ok_or_else(|| Error::new(Kind::Internal, "nobody found out who calls"))
    }

    fn session<T>(request: &Request<T>) -> Result<Session, Status> {
        Self::session_of(request).map_err(|error| to_status(&error))
    }

    /// Plans `sql` for each row of parameters and keeps the plans. A command has run when this returns, and leaves nothing to fetch.
    async fn plan(
        &self,
        sql: &str,
        rows: &[Vec<ScalarValue>],
        session: &Session,
        request: Request<FlightDescriptor>,
    ) -> Result<FlightInfo> {
        let wire = Wire::of(request.metadata())?;
        let most = endpoints(request.metadata())?;
        let queries = self.engine.query_rows(sql, rows, session).await?;
        let Some(first) = queries.first() else { return Err(Error::new(Kind::Internal, "a statement gave nothing")) };
        let schema = wire.schema(&first.schema());
        let mut info =
            FlightInfo::new().try_with_schema(&schema)?.with_descriptor(request.into_inner()).with_app_metadata(first.id().to_owned());
        if first.is_command() {
            return Ok(info);
        }
        if first.rows_written().is_some() {
            info = info.with_total_records(i64::try_from(queries.len()).unwrap_or(-1));
        }
        info = info.with_ordered(first.is_ordered());
        let parts: Vec<Vec<Query>> = match queries.len() {
            1 => queries.into_iter().flat_map(|query| query.into_parts(most)).map(|part| vec![part]).collect(),
            _ => vec![queries],
        };
        let count = parts.len().max(1);
        for queries in parts {
            // The parts of a query share its plan; of what was written there is a number left.
            let of_query = |query: &Query| if query.rows_written().is_some() { COUNT_BYTES } else { PLAN_BYTES / count };
            let bytes = queries.iter().map(of_query).sum();
            let waiting = Waiting { schema: Arc::clone(&schema), queries };
            info = info.with_endpoint(endpoint(self.waiting.keep(waiting, bytes, session.principal())?));
        }
        Ok(info)
    }

    /// Computes a result in the background, and tells how far it is: what `PollFlightInfo` asks.
    pub(crate) async fn poll(&self, request: Request<FlightDescriptor>) -> Result<PollInfo> {
        let session = Self::session_of(&request)?;
        let wire = Wire::of(request.metadata())?;
        let principal = session.principal();
        let descriptor = request.into_inner();
        let handle = match descriptor.cmd.strip_prefix(POLLED) {
            Some(handle) => Bytes::copy_from_slice(handle),
            None => {
                let (sql, rows) = match command(&descriptor.cmd)? {
                    Command::CommandStatementQuery(query) => {
                        check_transaction(query.transaction_id.as_ref())?;
                        (query.query, vec![Vec::new()])
                    }
                    Command::CommandPreparedStatementQuery(query) => self.statement(&query.prepared_statement_handle, principal)?,
                    other => {
                        return Err(Error::new(Kind::Unsupported, format!("PollFlightInfo does not know {}", other.type_url()))
                            .hint("use GetFlightInfo, which answers at once"));
                    }
                };
                let mut queries = self.engine.query_rows(&sql, &rows, &session).await?;
                let (Some(query), true) = (queries.pop(), queries.is_empty()) else {
                    return Err(Error::new(Kind::Unsupported, "several rows of parameters can't be polled")
                        .hint("bind one row, or use GetFlightInfo"));
                };
                let schema = wire.schema(&query.schema());
                if query.is_command() {
                    let info = FlightInfo::new().try_with_schema(&schema)?.with_descriptor(descriptor);
                    return Ok(PollInfo::new().with_info(info.with_app_metadata(query.id().to_owned())).try_with_progress(1.)?);
                }
                let limits = self.engine.limits();
                let spool = Spool::begin(query, schema, limits.spill_directory.as_deref(), limits.spill / SPOOL_SHARE)?;
                self.spools.keep(Arc::new(spool), 0, principal)?
            }
        };
        let spool = self.spools.with(&handle, principal, Arc::clone)?;
        let told = spool.wait(POLL).await.inspect_err(|_| self.spools.forget(&handle, principal))?;
        let info = FlightInfo::new().try_with_schema(&spool.schema)?.with_app_metadata(spool.query.clone()).with_ordered(true);
        let info = (0..told.segments).fold(info, |info, segment| info.with_endpoint(spooled(&segment_ticket(&handle, segment))));
        let poll = PollInfo::new().try_with_progress(told.part)?.with_expiration_time(expiration());
        Ok(match told.rows {
            None => poll.with_info(info).with_descriptor(FlightDescriptor::new_cmd([POLLED, &handle].concat())),
            Some(rows) => poll.with_info(info.with_total_records(i64::try_from(rows).unwrap_or(-1))),
        })
    }

    /// The result in the background of which a ticket stands for a segment.
    fn spool_of(&self, ticket: &Bytes, principal: &Principal) -> Result<(Arc<Spool>, usize)> {
        let (handle, segment) = ticket.split_at_checked(ticket.len().saturating_sub(1)).unwrap_or_default();
        let spool = self.spools.with(&ticket.slice_ref(handle), principal, Arc::clone)?;
        Ok((spool, segment.first().copied().unwrap_or_default().into()))
    }

    /// Keeps a result that was computed in the background for longer.
    fn renew(&self, endpoint: Option<FlightEndpoint>, principal: &Principal) -> Result<FlightEndpoint> {
        let ticket = endpoint.and_then(|endpoint| handle_of(&endpoint));
        let ticket = ticket.ok_or_else(|| Error::new(Kind::InvalidQuery, "the endpoint has no ticket of this server"))?;
        // Looking at it is what keeps it.
        self.spool_of(&ticket, principal)?;
        Ok(spooled(&ticket))
    }

    /// Runs what waits under a ticket, once; or gives what was computed in the background, as often as it is asked for.
    fn run(&self, ticket: &Bytes, principal: &Principal, headers: &MetadataMap) -> Result<FlightStream> {
        let options = encode::options(headers)?;
        if let Ok((spool, segment)) = self.spool_of(ticket, principal) {
            let batches = spool.batches(segment)?;
            let records = encode::records(headers, spool.record(segment));
            return Ok(encode::messages(Arc::clone(&spool.schema), options, batches, records)? as FlightStream);
        }
        let take = || {
            let waiting = self.waiting.take(ticket, principal)?;
            let ids = waiting.queries.iter().map(|query| query.id().to_owned()).collect();
            Ok((waiting, ids))
        };
        let (Waiting { schema, queries }, guard) = self.running.take(ticket, principal, take)?;
        let records = encode::records(headers, queries.iter().map(Query::provenance).collect());
        Ok(Box::pin(guard.around(encode::messages(schema, options, one_after_another(queries), records)?)))
    }

    /// Cancels what a `FlightInfo` leads to: what waits, and what is being fetched.
    fn cancel(&self, info: Option<FlightInfo>, principal: &Principal) -> Result<CancelStatus> {
        let says_something =
            |info: &FlightInfo| info.flight_descriptor.is_some() || !info.endpoint.is_empty() || !info.app_metadata.is_empty();
        let Some(info) = info.filter(says_something) else {
            return Err(
                Error::new(Kind::InvalidQuery, "the information names no query").hint("send what GetFlightInfo answered to the query")
            );
        };
        let tickets: Vec<Bytes> = info.endpoint.iter().filter_map(handle_of).collect();
        let mut status = CancelStatus::NotCancellable;
        // What is polled has no ticket yet, and is known by the query.
        if self.spools.forget_where(principal, |spool| !info.app_metadata.is_empty() && spool.query.as_bytes() == info.app_metadata) {
            status = CancelStatus::Cancelled;
        }
        for ticket in tickets {
            if self.waiting.take(&ticket, principal).is_ok() {
                status = CancelStatus::Cancelled;
            }
            for query in self.running.queries(&ticket, principal).unwrap_or_default() {
                // One that has ended meanwhile needs no cancelling.
                if self.engine.cancel(&query, principal).is_ok() {
                    status = CancelStatus::Cancelled;
                }
            }
        }
        Ok(status)
    }

    /// Plans a statement under a handle; the answer, and whether the statement is an update.
    pub(crate) async fn create_statement(
        &self,
        sql: String,
        wire: Wire,
        session: &Session,
    ) -> Result<(ActionCreatePreparedStatementResult, bool)> {
        let (sql, names) = named_parameters(&sql)?;
        let prepared = self.engine.prepare(&sql, session).await?;
        // COPY answers with a row, the count, so that clients are to fetch it.
        let is_update = prepared.is_command;
        let dataset_schema = message(&wire.schema(&prepared.schema))?;
        let parameter_schema = message(&bind::schema(&prepared.parameters, &names))?;
        let statement = Statement { sql, prepared, names, rows: None };
        let bytes = statement.bytes();
        let prepared_statement_handle = self.statements.keep(statement, bytes, session.principal())?;
        Ok((ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema }, is_update))
    }

    /// The schema of what a command gives. Nothing is run.
    pub(crate) async fn schema_of(&self, command: Command, wire: Wire, session: &Session) -> Result<SchemaRef> {
        Ok(match command {
            Command::CommandStatementQuery(query) => self.statement_schema(&query.query, wire, session).await?,
            Command::CommandPreparedStatementQuery(query) => {
                self.prepared_schema(&query.prepared_statement_handle, wire, session.principal())?
            }
            Command::CommandGetCatalogs(query) => query.into_builder().schema(),
            Command::CommandGetDbSchemas(query) => query.into_builder().schema(),
            Command::CommandGetTables(query) => query.into_builder().schema(),
            Command::CommandGetTableTypes(query) => query.into_builder().schema(),
            Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
            Command::CommandGetXdbcTypeInfo(query) => query.into_builder(&self.types).schema(),
            Command::CommandGetPrimaryKeys(_) => Arc::clone(&keys::PRIMARY),
            Command::CommandGetExportedKeys(_) | Command::CommandGetImportedKeys(_) | Command::CommandGetCrossReference(_) => {
                Arc::clone(&keys::FOREIGN)
            }
            other => {
                return Err(Error::new(Kind::Unsupported, format!("GetSchema does not know {}", other.type_url()))
                    .hint("use GetFlightInfo, which carries the schema too"));
            }
        })
    }

    fn statement(&self, handle: &Bytes, principal: &Principal) -> Result<(String, Vec<Vec<ScalarValue>>)> {
        self.statements.with(handle, principal, |statement| {
            let rows = match (&statement.rows, statement.prepared.parameters.len()) {
                (Some(rows), _) => rows.clone(),
                (None, 0) => vec![Vec::new()],
                (None, count) => {
                    return Err(Error::new(Kind::InvalidQuery, format!("the query has {count} parameters, none were bound"))
                        .hint("bind one value for each `?` or `$n`, in order"));
                }
            };
            // Each row of what gives rows is a plan; they are counted before they are made.
            if !statement.prepared.is_command && rows.len() > MOST_PLAN_BYTES / PLAN_BYTES {
                let message = format!("{} rows of parameters, and {} are answered at once", rows.len(), MOST_PLAN_BYTES / PLAN_BYTES);
                return Err(Error::new(Kind::LimitExceeded, message).hint("bind fewer, or join with a table of them"));
            }
            Ok((statement.sql.clone(), rows))
        })?
    }

    /// The schema that a statement would have, for those who ask for nothing else.
    async fn statement_schema(&self, sql: &str, wire: Wire, session: &Session) -> Result<SchemaRef> {
        Ok(wire.schema(&self.engine.prepare(sql, session).await?.schema))
    }

    /// The schema of a prepared statement.
    fn prepared_schema(&self, handle: &Bytes, wire: Wire, principal: &Principal) -> Result<SchemaRef> {
        self.statements.with(handle, principal, |statement| wire.schema(&statement.prepared.schema))
    }

    /// Runs an update for each row, and counts the rows that were written.
    async fn update(&self, sql: &str, rows: &[Vec<ScalarValue>], session: &Session) -> Result<i64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut count = 0;
        for query in self.engine.query_rows(sql, rows, session).await? {
            count += query.rows_written().and_then(|rows| i64::try_from(rows).ok()).unwrap_or(0);
            if !query.is_command() && query.rows_written().is_none() {
                return Err(Error::new(Kind::InvalidQuery, "the statement has rows to fetch: it is a query, not an update")
                    .hint("execute it as a query"));
            }
        }
        Ok(count)
    }
}

/// When what is kept in the background is let go, unless it is asked for again.
fn expiration() -> Timestamp {
    let at = (SystemTime::now() + SPOOL_LIFETIME).duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// The rows of queries, one after another.
fn one_after_another(queries: Vec<Query>) -> impl Stream<Item = Result<RecordBatch>> + Send {
    stream::iter(queries.into_iter().map(Query::stream)).try_flatten()
}

/// How many endpoints a client takes: one, unless it says that it reads several. Many read the first one alone, and would miss rows.
///
/// # Errors
/// `InvalidQuery` for what is no number of endpoints.
fn endpoints(headers: &MetadataMap) -> Result<usize> {
    let Some(given) = headers.get(ENDPOINTS) else { return Ok(1) };
    let number = given.to_str().ok().and_then(|number| number.parse().ok()).filter(|number| (1..=MOST_ENDPOINTS).contains(number));
    number.ok_or_else(|| {
        let message = format!("the header `{ENDPOINTS}` is `{}`", given.to_str().unwrap_or_default());
        Error::new(Kind::InvalidQuery, message).hint(format!("send a number from 1 to {MOST_ENDPOINTS}"))
    })
}

/// The ticket of a segment of a result that is computed in the background.
fn segment_ticket(handle: &Bytes, segment: usize) -> Bytes {
    // There are few of them.
    [handle, &[segment as u8][..]].concat().into()
}

/// Where a segment of a result that was computed in the background is fetched.
fn spooled(ticket: &Bytes) -> FlightEndpoint {
    FlightEndpoint { expiration_time: Some(expiration()), ..endpoint(ticket.clone()) }
}

/// Where what a handle stands for is fetched: from whoever gave it.
fn endpoint(statement_handle: Bytes) -> FlightEndpoint {
    FlightEndpoint::new().with_ticket(Ticket::new(TicketStatementQuery { statement_handle }.as_any().encode_to_vec()))
}

/// The handle that the ticket of an endpoint names.
fn handle_of(endpoint: &FlightEndpoint) -> Option<Bytes> {
    match command(&endpoint.ticket.as_ref()?.ticket) {
        Ok(Command::TicketStatementQuery(ticket)) => Some(ticket.statement_handle),
        _ => None,
    }
}

/// A metadata answer is computed by the fetch; the ticket is the command itself.
fn metadata_info(command: &impl ProstMessageExt, schema: &Schema, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| to_status(&error.into()))?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
}

fn metadata_batch(batch: Result<RecordBatch>) -> Answer<FlightStream> {
    let messages = |batch: RecordBatch| encode::messages(batch.schema(), IpcWriteOptions::default(), stream::iter([Ok(batch)]), Vec::new());
    answered(batch.and_then(messages).map(|messages| messages as FlightStream))
}

fn answered<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let session = Self::session(&request)?;
        answered(check_transaction(query.transaction_id.as_ref()))?;
        answered(self.plan(&query.query, &[Vec::new()], &session, request).await)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Answer<FlightStream> {
        let session = Self::session(&request)?;
        answered(self.run(&ticket.statement_handle, session.principal(), request.metadata()))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let session = Self::session(&request)?;
        let principal = session.principal();
        let handle = query.prepared_statement_handle;
        let bound = async {
            let mut statement = self.statements.with(&handle, principal, Statement::clone)?;
            statement.rows = Some(bind::rows(request.into_inner(), statement.prepared.parameters.len(), &statement.names).await?);
            let bytes = statement.bytes();
            self.statements.replace(&handle, principal, statement, bytes)
        };
        bound.await.map_err(|error| to_status(&error))?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let session = Self::session(&request)?;
        let planned = async {
            let bound = |statement: &Statement| statement.rows.is_some() || statement.prepared.parameters.is_empty();
            if !self.statements.with(&query.prepared_statement_handle, session.principal(), bound)? {
                // Some clients bind after they have asked: the ticket is the statement, which the fetch runs.
                let wire = Wire::of(request.metadata())?;
                let schema = self.prepared_schema(&query.prepared_statement_handle, wire, session.principal())?;
                let ticket = Ticket::new(query.as_any().encode_to_vec());
                let info = FlightInfo::new().try_with_schema(&schema)?.with_descriptor(request.into_inner());
                return Ok(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)));
            }
            let (sql, rows) = self.statement(&query.prepared_statement_handle, session.principal())?;
            self.plan(&sql, &rows, &session, request).await
        };
        answered(planned.await)
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<Ticket>) -> Answer<FlightStream> {
        let session = Self::session(&request)?;
        let run = async {
            let (wire, options) = (Wire::of(request.metadata())?, encode::options(request.metadata())?);
            let (sql, rows) = self.statement(&query.prepared_statement_handle, session.principal())?;
            let queries = self.engine.query_rows(&sql, &rows, &session).await?;
            let first = queries.first().ok_or_else(|| Error::new(Kind::Internal, "a statement gave nothing"))?;
            let schema = wire.schema(&first.schema());
            let records = encode::records(request.metadata(), queries.iter().map(Query::provenance).collect());
            Ok(encode::messages(schema, options, one_after_another(queries), records)? as FlightStream)
        };
        answered(run.await)
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = Self::session(&request)?;
        let principal = session.principal();
        let handle = query.prepared_statement_handle;
        let updated = async {
            let statement = self.statements.with(&handle, principal, Statement::clone)?;
            let rows = match statement.prepared.parameters.len() {
                0 => vec![Vec::new()],
                count => bind::rows(request.into_inner(), count, &statement.names).await?,
            };
            self.update(&statement.sql, &rows, &session).await
        };
        updated.await.map_err(|error: Error| to_status(&error))
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = Self::session(&request)?;
        answered(check_transaction(query.transaction_id.as_ref()))?;
        self.update(&query.query, &[Vec::new()], &session).await.map_err(|error| to_status(&error))
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = Self::session(&request)?;
        answered(check_transaction(command.transaction_id.as_ref()))?;
        let count = ingest::ingest(&self.engine, &command, request.into_inner(), &session).await.map_err(|error| to_status(&error))?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.forget(&query.prepared_statement_handle, Self::session(&request)?.principal());
        Ok(())
    }

    async fn get_flight_info_catalogs(&self, query: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::catalogs(&self.engine, query))
    }

    async fn get_flight_info_schemas(&self, query: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::schemas(&self.engine, query, &Self::session(&request)?).await)
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::tables(&self.engine, query, &Self::session(&request)?).await)
    }

    async fn get_flight_info_table_types(&self, query: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::table_types(query))
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, SqlInfoDataBuilder::schema(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Answer<FlightStream> {
        // By each fetch anew: a lake file that was edited may have made it writable.
        let told = sql_info::sql_info(&self.engine).and_then(|info| query.into_builder(&info).build().map_err(metadata::unencodable));
        metadata_batch(told)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        metadata_info(&query, &query.into_builder(&self.types).schema(), request)
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(query.into_builder(&self.types).build().map_err(metadata::unencodable))
    }

    async fn get_flight_info_primary_keys(&self, query: CommandGetPrimaryKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &keys::PRIMARY, request)
    }

    async fn do_get_primary_keys(&self, query: CommandGetPrimaryKeys, request: Request<Ticket>) -> Answer<FlightStream> {
        let asked = Named { catalog: query.catalog, schema: query.db_schema, table: query.table };
        metadata_batch(keys::primary(&self.engine, &Self::session(&request)?, &asked))
    }

    async fn get_flight_info_exported_keys(&self, query: CommandGetExportedKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn do_get_exported_keys(&self, query: CommandGetExportedKeys, request: Request<Ticket>) -> Answer<FlightStream> {
        let asked = Named { catalog: query.catalog, schema: query.db_schema, table: query.table };
        metadata_batch(keys::foreign(&self.engine, &Self::session(&request)?, None, Some(&asked)))
    }

    async fn get_flight_info_imported_keys(&self, query: CommandGetImportedKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn do_get_imported_keys(&self, query: CommandGetImportedKeys, request: Request<Ticket>) -> Answer<FlightStream> {
        let asked = Named { catalog: query.catalog, schema: query.db_schema, table: query.table };
        metadata_batch(keys::foreign(&self.engine, &Self::session(&request)?, Some(&asked), None))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn do_get_cross_reference(&self, query: CommandGetCrossReference, request: Request<Ticket>) -> Answer<FlightStream> {
        let to = Named { catalog: query.pk_catalog, schema: query.pk_db_schema, table: query.pk_table };
        let from = Named { catalog: query.fk_catalog, schema: query.fk_db_schema, table: query.fk_table };
        metadata_batch(keys::foreign(&self.engine, &Self::session(&request)?, Some(&from), Some(&to)))
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(to_status(&no_transactions()))
    }

    async fn do_action_end_transaction(&self, _: ActionEndTransactionRequest, _: Request<Action>) -> Result<(), Status> {
        Err(to_status(&no_transactions()))
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(to_status(&no_transactions()))
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        Err(to_status(&no_transactions()))
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _: ActionCreatePreparedSubstraitPlanRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Err(no_substrait())
    }

    async fn get_flight_info_substrait_plan(&self, _: CommandStatementSubstraitPlan, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(no_substrait())
    }

    async fn do_put_substrait_plan(&self, _: CommandStatementSubstraitPlan, _: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        Err(no_substrait())
    }

    async fn get_flight_info_fallback(&self, command: Command, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(unknown_command("GetFlightInfo", command.type_url()))
    }

    async fn do_get_fallback(&self, _: Request<Ticket>, message: Any) -> Answer<FlightStream> {
        Err(unknown_command("DoGet", &message.type_url))
    }

    async fn do_put_fallback(&self, _: Request<PeekableFlightDataStream>, message: Any) -> Answer<PutStream> {
        Err(unknown_command("DoPut", &message.type_url))
    }

    async fn do_put_error_callback(&self, _: Request<PeekableFlightDataStream>, _: DoPutError) -> Answer<PutStream> {
        let error = Error::new(Kind::InvalidQuery, "what was put has no command");
        Err(to_status(&error.hint("the first message carries a descriptor with a command, such as CommandStatementIngest")))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(&*query.info).map_err(|error| to_status(&unreadable("FlightInfo", &error)))?;
        let status = self.cancel(Some(info), Self::session(&request)?.principal()).map_err(|error| to_status(&error))?;
        // The numbers of the older enumeration are those of the newer one.
        Ok(ActionCancelQueryResult { result: status as i32 })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Answer<ActionStream> {
        let session = Self::session(&request)?;
        let body = &request.get_ref().body;
        let answer = match request.get_ref().r#type.as_str() {
            CANCEL_FLIGHT_INFO => CancelFlightInfoRequest::decode(&**body)
                .map_err(|error| unreadable("request", &error))
                .and_then(|asked| self.cancel(asked.info, session.principal()))
                .map(|status| CancelFlightInfoResult { status: status as i32 }.encode_to_vec()),
            RENEW => RenewFlightEndpointRequest::decode(&**body)
                .map_err(|error| unreadable("request", &error))
                .and_then(|asked| self.renew(asked.endpoint, session.principal()))
                .map(|endpoint| endpoint.encode_to_vec()),
            session_options::SET => session_options::set(&self.engine, &session, body).await,
            session_options::GET => session_options::get(&self.engine, &session, body),
            session_options::CLOSE => session_options::closed(body).inspect(|_| {
                self.access.close(request.metadata(), request.extensions().get::<Connection>(), &session);
            }),
            other => {
                let error = Error::new(Kind::Unsupported, format!("there is no action `{other}`"));
                Err(error.hint("ListActions tells those that there are"))
            }
        };
        let body = answer.map_err(|error| to_status(&error))?.into();
        Ok(Response::new(Box::pin(stream::iter([Ok(arrow_flight::Result { body })]))))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// A schema in the form that messages carry.
fn message(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

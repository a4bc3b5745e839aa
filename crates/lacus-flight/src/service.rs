//! The commands of Flight SQL.

use std::pin::Pin;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion_common::ScalarValue;
use futures::stream;
use futures::{Stream, TryStreamExt};
use lacus_core::{Error, Kind, Principal, Result};
use lacus_engine::{Engine, Prepared, Query};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::handles::Handles;
use crate::status::to_status;
use crate::{bind, encode, metadata, wire};

/// How long a plan waits to be fetched. Files may change meanwhile, which the fetch would report, so not for long.
const PLAN_LIFETIME: Duration = Duration::from_secs(300);
/// How many plans may wait to be fetched: each holds its session, about 0.2 MB.
const MOST_PLANS: usize = 1000;
/// How many prepared statements may be open: each holds its text and two schemas.
const MOST_STATEMENTS: usize = 10_000;
/// How long a prepared statement lives after its last use.
const PREPARED_LIFETIME: Duration = Duration::from_secs(3600);

type FlightStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// What a client may fetch once: the results of its rows of parameters, one after another.
struct Waiting {
    schema: SchemaRef,
    queries: Vec<Query>,
}

/// A prepared statement, with what was bound to it last.
struct Statement {
    sql: String,
    prepared: Prepared,
    rows: Option<Vec<Vec<ScalarValue>>>,
}

/// The Flight SQL service over one engine.
pub(crate) struct Service {
    engine: Engine,
    sql_info: SqlInfoData,
    waiting: Handles<Waiting>,
    statements: Handles<Statement>,
}

impl Service {
    pub(crate) fn new(engine: Engine) -> Result<Self> {
        let sql_info = metadata::sql_info(&engine)?;
        let waiting = Handles::new("result", PLAN_LIFETIME, MOST_PLANS);
        let statements = Handles::new("prepared statement", PREPARED_LIFETIME, MOST_STATEMENTS);
        Ok(Self { engine, sql_info, waiting, statements })
    }

    /// Whoever can reach a loopback address is the owner, until users can be told apart.
    fn principal<T>(_: &Request<T>) -> Principal {
        Principal::owner()
    }

    /// Plans `sql` for each row of parameters and keeps the plans. A command has run when this returns, and leaves nothing to fetch.
    async fn plan(&self, sql: &str, rows: &[Vec<ScalarValue>], principal: &Principal, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let mut queries = Vec::with_capacity(rows.len());
        for row in rows {
            queries.push(self.engine.query(sql, row, principal).await?);
        }
        let Some(first) = queries.first() else {
            return Err(Error::new(Kind::InvalidQuery, "no row of parameters was bound").hint("bind at least one row"));
        };
        let schema = wire::schema(&first.schema());
        let info = FlightInfo::new().try_with_schema(&schema)?.with_descriptor(descriptor).with_app_metadata(first.id().to_owned());
        if first.is_command() {
            return Ok(info);
        }
        let statement_handle = self.waiting.keep(Waiting { schema, queries }, principal)?;
        let ticket = TicketStatementQuery { statement_handle }.as_any().encode_to_vec();
        Ok(info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket))))
    }

    fn run(waiting: Waiting) -> FlightStream {
        let Waiting { schema, queries } = waiting;
        let batches = stream::iter(queries.into_iter().map(Query::stream)).try_flatten();
        encode::messages(schema, batches)
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
            Ok((statement.sql.clone(), rows))
        })?
    }

    /// The schema that a statement would have, for those who ask for nothing else.
    pub(crate) async fn statement_schema(&self, sql: &str) -> Result<SchemaRef> {
        Ok(wire::schema(&self.engine.prepare(sql, &Principal::owner()).await?.schema))
    }

    /// The schema of a prepared statement.
    pub(crate) fn prepared_schema(&self, handle: &Bytes) -> Result<SchemaRef> {
        self.statements.with(handle, &Principal::owner(), |statement| wire::schema(&statement.prepared.schema))
    }

    /// Runs a command for each row, and counts the rows that were written: only COPY writes any.
    async fn update(&self, sql: &str, rows: &[Vec<ScalarValue>], principal: &Principal) -> Result<i64> {
        let mut count = 0;
        for row in rows {
            let query = self.engine.query(sql, row, principal).await?;
            count += query.rows_written().and_then(|rows| i64::try_from(rows).ok()).unwrap_or(0);
            if !query.is_command() && query.rows_written().is_none() {
                return Err(Error::new(Kind::InvalidQuery, "the statement has rows to fetch: it is a query, not an update")
                    .hint("execute it as a query"));
            }
        }
        Ok(count)
    }
}

/// A metadata answer is computed by the fetch; the ticket is the command itself.
fn metadata_info(command: &impl ProstMessageExt, schema: &Schema, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| to_status(&error.into()))?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
}

fn metadata_batch(batch: Result<RecordBatch>) -> Answer<FlightStream> {
    let batch = batch.map_err(|error| to_status(&error))?;
    Ok(Response::new(encode::messages(batch.schema(), stream::iter([Ok(batch)]))))
}

fn answered<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let principal = Self::principal(&request);
        answered(self.plan(&query.query, &[Vec::new()], &principal, request.into_inner()).await)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Answer<FlightStream> {
        answered(self.waiting.take(&ticket.statement_handle, &Self::principal(&request)).map(Self::run))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let principal = Self::principal(&request);
        let created = async {
            let prepared = self.engine.prepare(&query.query, &principal).await?;
            let dataset_schema = message(&wire::schema(&prepared.schema))?;
            let parameter_schema = message(&bind::schema(&prepared.parameters))?;
            let statement = Statement { sql: query.query, prepared, rows: None };
            let prepared_statement_handle = self.statements.keep(statement, &principal)?;
            Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
        };
        created.await.map_err(|error: Error| to_status(&error))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let principal = Self::principal(&request);
        let handle = query.prepared_statement_handle;
        let bound = async {
            let count = self.statements.with(&handle, &principal, |statement| statement.prepared.parameters.len())?;
            let rows = bind::rows(request.into_inner(), count).await?;
            self.statements.with(&handle, &principal, |statement| statement.rows = Some(rows))
        };
        bound.await.map_err(|error| to_status(&error))?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let principal = Self::principal(&request);
        let planned = async {
            let (sql, rows) = self.statement(&query.prepared_statement_handle, &principal)?;
            self.plan(&sql, &rows, &principal, request.into_inner()).await
        };
        answered(planned.await)
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let principal = Self::principal(&request);
        let handle = query.prepared_statement_handle;
        let updated = async {
            let (sql, count) =
                self.statements.with(&handle, &principal, |statement| (statement.sql.clone(), statement.prepared.parameters.len()))?;
            let rows = if count == 0 { vec![Vec::new()] } else { bind::rows(request.into_inner(), count).await? };
            self.update(&sql, &rows, &principal).await
        };
        updated.await.map_err(|error: Error| to_status(&error))
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let principal = Self::principal(&request);
        self.update(&query.query, &[Vec::new()], &principal).await.map_err(|error| to_status(&error))
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.forget(&query.prepared_statement_handle, &Self::principal(&request));
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
        metadata_batch(metadata::schemas(&self.engine, query, &Self::principal(&request)))
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::tables(&self.engine, query, &Self::principal(&request)).await)
    }

    async fn get_flight_info_table_types(&self, query: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(metadata::table_types(query))
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        metadata_info(&query, &query.clone().into_builder(&self.sql_info).schema(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Answer<FlightStream> {
        metadata_batch(query.into_builder(&self.sql_info).build().map_err(metadata::unencodable))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// A schema in the form that messages carry.
fn message(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &arrow_ipc::writer::IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

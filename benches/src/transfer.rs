//! Two servers over the same record batches in memory: Lacus, and one that does nothing but encode them with `arrow-flight` while it sends.
//! `transfer.py` measures them with ADBC; they are served until the standard input ends.
#![expect(clippy::print_stdout, reason = "who measures reads the addresses")]

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use lacus::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use lacus::datafusion::datasource::MemTable;
use lacus::{Engine, Error, Kind, Result, Stores, TryStreamExt, Unnamed};
use lacus_server::Server;
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Rows of a batch: those that the engine's own batches have.
const BATCH: i64 = 8192;

fn batch(start: i64, rows: i64) -> Result<RecordBatch> {
    let ids = || start..start + rows;
    let columns: [(&str, ArrayRef); 8] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("shot", Arc::new(Int64Array::from_iter_values(ids().map(|id| id / 1000)))),
        ("probe", Arc::new(Int32Array::from_iter_values(ids().map(|id| (id % 64) as i32)))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(ids()))),
        ("te", Arc::new(Float64Array::from_iter_values(ids().map(|id| id as f64 / 7.)))),
        ("ne", Arc::new(Float64Array::from_iter(ids().map(|id| (id % 10 > 0).then_some(id as f64))))),
        ("quality", Arc::new(Int64Array::from_iter_values(ids().map(|id| id % 5)))),
        ("gas", Arc::new(StringArray::from_iter_values(ids().map(|id| ["D2", "H2", "He"][(id % 3) as usize])))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, name == "ne")))?)
}

/// Sends all batches, whatever it is asked.
struct Bare(Arc<Vec<RecordBatch>>);

#[tonic::async_trait]
impl FlightSqlService for Bare {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        _: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = TicketStatementQuery { statement_handle: "all".into() }.as_any().encode_to_vec();
        let info = FlightInfo::new().try_with_schema(&self.0[0].schema()).map_err(|error| Status::internal(error.to_string()))?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
        Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
    }

    async fn do_get_statement(
        &self,
        _: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let batches = Arc::clone(&self.0);
        let sent = futures::stream::iter((0..batches.len()).map(move |place| Ok(batches[place].clone())));
        let messages = FlightDataEncoderBuilder::new().with_schema(self.0[0].schema()).build(sent).map_err(Status::from);
        Ok(Response::new(Box::pin(messages) as Pin<Box<dyn futures::Stream<Item = Result<FlightData, Status>> + Send>>))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(10_000_000_i64);
    let batches: Vec<_> = (0..rows).step_by(BATCH as usize).map(|start| batch(start, BATCH.min(rows - start))).collect::<Result<_>>()?;
    let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| Error::new(Kind::InvalidQuery, "there are no rows"))?;
    let table = MemTable::try_new(schema, vec![batches.clone()])?;
    let engine = Engine::builder(Arc::new(Stores::new(std::env::temp_dir(), Unnamed::anonymous(), Vec::new())))
        .table("rows", Arc::new(table))
        .build()?;
    let server = Server::bind("127.0.0.1:0").await?;
    println!("lacus {}", server.uri());
    tokio::spawn(server.serve(engine, std::future::pending()));

    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Unavailable, error.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(&error))?;
    println!("bare grpc://{}", listener.local_addr().map_err(|error| failed(&error))?);
    let bare = FlightServiceServer::new(Bare(Arc::new(batches))).max_encoding_message_size(usize::MAX);
    tokio::spawn(tonic::transport::Server::builder().add_service(bare).serve_with_incoming(TcpIncoming::from(listener)));
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(())
}

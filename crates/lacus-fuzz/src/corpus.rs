//! Real messages of clients, which fuzzing begins with.

use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt,
};
use arrow_flight::{CancelFlightInfoRequest, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, RenewFlightEndpointRequest, Ticket};
use futures::TryStreamExt;
use lacus::arrow::array::{Int64Array, RecordBatch, StringArray};
use prost::Message;

const QUERIES: [&str; 11] = [
    "SELECT 1",
    "SELECT * FROM information_schema.tables",
    "SELECT sum(x) OVER (ORDER BY x), x::varchar || 'a' FROM (VALUES (1), (NULL)) AS t(x) WHERE x > 0 OR x IS NULL",
    "SELECT value % 3 AS k, count(*), max(value) FROM generate_series(1, 100) GROUP BY 1 ORDER BY 1",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT array_agg(n), {'a': 1} FROM r",
    "EXPLAIN ANALYZE SELECT DATE '2020-01-01' + INTERVAL '1' DAY, CAST('x' AS INT)",
    "CREATE TEMPORARY TABLE t AS SELECT 1 AS x",
    "INSERT INTO t VALUES (2), (3)",
    "SET datafusion.execution.batch_size = 10",
    "SHOW TABLES",
    "DROP TABLE IF EXISTS t",
];

/// A value of a session option, as it travels.
fn option(name: &str, value: &str) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, bytes.len() as u8][..], bytes].concat();
    field(1, &[field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
}

/// What is asked for by a descriptor.
pub(crate) fn commands(handle: &[u8]) -> Vec<Vec<u8>> {
    let (text, table) = (|text: &str| Some(text.to_owned()), || "t".to_owned());
    let tables = CommandGetTables {
        catalog: text(""),
        db_schema_filter_pattern: text("_%"),
        table_name_filter_pattern: text("%\\_"),
        table_types: vec!["TABLE".to_owned(), "VIEW".to_owned()],
        include_schema: true,
    };
    let mut commands = vec![
        CommandGetSqlInfo { info: vec![1, 2, 500] }.as_any(),
        CommandGetXdbcTypeInfo { data_type: Some(4) }.as_any(),
        CommandGetCatalogs {}.as_any(),
        CommandGetDbSchemas { catalog: text("main"), db_schema_filter_pattern: text("p%") }.as_any(),
        CommandGetTableTypes {}.as_any(),
        tables.as_any(),
        CommandGetPrimaryKeys { catalog: text("main"), db_schema: text("public"), table: table() }.as_any(),
        CommandGetImportedKeys { catalog: None, db_schema: None, table: table() }.as_any(),
        CommandGetExportedKeys { catalog: None, db_schema: None, table: table() }.as_any(),
        CommandGetCrossReference { pk_table: table(), fk_table: table(), ..CommandGetCrossReference::default() }.as_any(),
        CommandPreparedStatementQuery { prepared_statement_handle: handle.to_vec().into() }.as_any(),
    ];
    commands.extend(QUERIES.map(|sql| CommandStatementQuery { query: sql.to_owned(), transaction_id: None }.as_any()));
    commands.iter().map(Message::encode_to_vec).collect()
}

/// Actions by their names.
pub(crate) fn actions(handle: &[u8], ticket: &[u8]) -> [(&'static str, Vec<u8>); 10] {
    let prepare = |sql: &str| ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None }.as_any().encode_to_vec();
    let endpoint = FlightEndpoint { ticket: Some(Ticket::new(ticket.to_vec())), ..FlightEndpoint::default() };
    let info = FlightInfo { endpoint: vec![endpoint.clone()], ..FlightInfo::default() };
    let close = ActionClosePreparedStatementRequest { prepared_statement_handle: handle.to_vec().into() };
    [
        ("CreatePreparedStatement", prepare("SELECT ?, $name")),
        ("CreatePreparedStatement", prepare("INSERT INTO t VALUES (?)")),
        ("ClosePreparedStatement", close.as_any().encode_to_vec()),
        ("CancelFlightInfo", CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec()),
        ("CancelQuery", ActionCancelQueryRequest { info: info.encode_to_vec().into() }.as_any().encode_to_vec()),
        ("RenewFlightEndpoint", RenewFlightEndpointRequest { endpoint: Some(endpoint) }.encode_to_vec()),
        ("SetSessionOptions", option("x.datafusion.execution.batch_size", "10")),
        ("SetSessionOptions", option("schema", "public")),
        ("GetSessionOptions", Vec::new()),
        ("CloseSession", Vec::new()),
    ]
}

/// Streams of rows, each with its command.
pub(crate) fn puts(handle: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, FlightError> {
    let columns = [("x", Arc::new(Int64Array::from(vec![Some(1), None])) as _), ("y", Arc::new(StringArray::from(vec!["a", "b"])) as _)];
    let batch = RecordBatch::try_from_iter(columns)?;
    let ingest = |temporary| CommandStatementIngest { table: "t".to_owned(), temporary, ..CommandStatementIngest::default() }.as_any();
    let commands = [
        CommandPreparedStatementQuery { prepared_statement_handle: handle.to_vec().into() }.as_any(),
        CommandPreparedStatementUpdate { prepared_statement_handle: handle.to_vec().into() }.as_any(),
        ingest(true),
        ingest(false),
    ];
    let mut sent = Vec::new();
    for command in commands {
        let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.encode_to_vec())));
        let messages = encoder.build(futures::stream::iter([Ok(batch.clone())])).try_collect::<Vec<_>>();
        sent.push(futures::executor::block_on(messages)?.iter().map(Message::encode_to_vec).collect());
    }
    let update = CommandStatementUpdate { query: "SET a.b = 1".to_owned(), transaction_id: None }.as_any().encode_to_vec();
    let update = FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(update)), ..FlightData::default() };
    sent.push(vec![update.encode_to_vec()]);
    Ok(sent)
}

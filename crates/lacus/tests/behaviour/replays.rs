//! What drivers and tools send, call by call, and what they do with the answers: none of them can be had where these tests run. The sequences
//! are those of the sources of the JDBC driver of arrow-java 19, the ODBC driver of arrow 24, the ADBC driver as Power BI drives it, the data
//! source of Grafana, and `adbc_scanner` of DuckDB. Schemas are compared whole, as these clients read them by position and by type.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo,
    CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
    DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{FlightData, FlightDescriptor, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream;
use lacus::TryStreamExt;
use lacus::arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use lacus::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use prost::Message;
use tonic::Code;

use super::flight::{Client, Result, query, told};
use crate::{TestResult, engine};

fn utf8(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn of(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// The schemas of the specification.
fn tables_schema(with_schema: bool) -> SchemaRef {
    let mut fields = vec![utf8("catalog_name", true), utf8("db_schema_name", true), utf8("table_name", false), utf8("table_type", false)];
    if with_schema {
        fields.push(Field::new("table_schema", DataType::Binary, false));
    }
    of(fields)
}

fn primary_keys_schema() -> SchemaRef {
    of(vec![
        utf8("catalog_name", true),
        utf8("db_schema_name", true),
        utf8("table_name", false),
        utf8("column_name", false),
        utf8("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

fn foreign_keys_schema() -> SchemaRef {
    of(vec![
        utf8("pk_catalog_name", true),
        utf8("pk_db_schema_name", true),
        utf8("pk_table_name", false),
        utf8("pk_column_name", false),
        utf8("fk_catalog_name", true),
        utf8("fk_db_schema_name", true),
        utf8("fk_table_name", false),
        utf8("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        utf8("fk_key_name", true),
        utf8("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}

fn types_schema() -> SchemaRef {
    let int = |name: &str, nullable| Field::new(name, DataType::Int32, nullable);
    let truth = |name: &str, nullable| Field::new(name, DataType::Boolean, nullable);
    let parameters = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false)));
    of(vec![
        utf8("type_name", false),
        int("data_type", false),
        int("column_size", true),
        utf8("literal_prefix", true),
        utf8("literal_suffix", true),
        Field::new("create_params", parameters, true),
        int("nullable", false),
        truth("case_sensitive", false),
        int("searchable", false),
        truth("unsigned_attribute", true),
        truth("fixed_prec_scale", false),
        truth("auto_increment", true),
        utf8("local_type_name", true),
        int("minimum_scale", true),
        int("maximum_scale", true),
        int("sql_data_type", false),
        int("datetime_subcode", true),
        int("num_prec_radix", true),
        int("interval_precision", true),
    ])
}

async fn prepare(client: &mut Client, sql: &str) -> Result<ActionCreatePreparedStatementResult> {
    let asked = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let answer = Any::decode(&*client.act("CreatePreparedStatement", asked.as_any().encode_to_vec()).await?)?;
    Ok(answer.unpack()?.ok_or("no statement")?)
}

async fn close(client: &mut Client, handle: Bytes) -> TestResult {
    let asked = ActionClosePreparedStatementRequest { prepared_statement_handle: handle };
    client.act("ClosePreparedStatement", asked.as_any().encode_to_vec()).await?;
    Ok(())
}

/// What a client puts: the messages of some rows, the first of which carries the command.
async fn put(client: &mut Client, command: &impl ProstMessageExt, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<Bytes> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).with_flight_descriptor(Some(descriptor));
    let messages: Vec<FlightData> = encoder.build(stream::iter(rows.into_iter().map(Ok))).try_collect().await?;
    let answers: Vec<_> = client.calls.do_put(stream::iter(messages)).await?.into_inner().try_collect().await?;
    Ok(answers.first().map(|answer| answer.app_metadata.clone()).unwrap_or_default())
}

/// A statement as JDBC runs each of them: prepared, asked for, fetched from all endpoints, and closed.
async fn executed(client: &mut Client, sql: &str) -> Result<RecordBatch> {
    let statement = prepare(client, sql).await?;
    let prepared = Schema::try_from(IpcMessage(statement.dataset_schema.clone()))?;
    let asked = CommandPreparedStatementQuery { prepared_statement_handle: statement.prepared_statement_handle.clone() };
    let rows = client.rows(&asked).await?;
    assert_eq!(*rows.schema(), prepared, "{sql}");
    close(client, statement.prepared_statement_handle).await?;
    Ok(rows)
}

const VIEW: &str = "CREATE OR REPLACE VIEW readings AS SELECT 1 AS id, 'D2' AS gas, CAST(2.5 AS DECIMAL(10, 2)) AS te, \
                    TIMESTAMP '2026-11-26 10:00:00' AS time";

/// A lake with a view, whose columns are of several types.
async fn lake() -> Result<Client> {
    let mut client = Client::of(engine(Vec::new())?).await?;
    client.info(&query(VIEW)).await?;
    Ok(client)
}

/// Flight SQL: 2, 3, 7, 9, 11, 12, 13, 14, 15, 16, 17, 18
#[tokio::test(flavor = "multi_thread")]
async fn jdbc_connects_looks_around_and_asks() -> TestResult {
    let mut client = lake().await?;
    // What `DatabaseMetaData` casts: the product, and that there are no transactions.
    let info = told(&client.rows(&CommandGetSqlInfo { info: Vec::new() }).await?)?;
    assert_eq!(info[&0].1.as_string::<i32>().value(0), "Lacus");
    assert_eq!(info[&8].1.as_primitive::<Int32Type>().value(0), 0);
    let catalogs = client.rows(&CommandGetCatalogs {}).await?;
    assert_eq!(catalogs.schema(), of(vec![utf8("catalog_name", false)]));
    let schemas = client.rows(&CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: None }).await?;
    assert_eq!(schemas.schema(), of(vec![utf8("catalog_name", true), utf8("db_schema_name", false)]));
    assert!(schemas.num_rows() >= 3);
    // getTables(null, null, "read%", {"VIEW"}), then getColumns.
    let tables = |types: &[&str], include_schema| CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: Some("read%".to_owned()),
        table_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        include_schema,
    };
    let found = client.rows(&tables(&["VIEW"], false)).await?;
    assert_eq!((found.schema(), found.num_rows()), (tables_schema(false), 1));
    assert_eq!(client.rows(&tables(&["TABLE"], false)).await?.num_rows(), 0);
    let columns = client.rows(&tables(&[], true)).await?;
    assert_eq!((columns.schema(), columns.num_rows()), (tables_schema(true), 1));
    let columns = Schema::try_from(IpcMessage(columns.column(4).as_binary::<i32>().value(0).to_vec().into()))?;
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "gas", "te", "time"]);
    let types = client.rows(&CommandGetTableTypes {}).await?;
    assert_eq!(types.schema(), of(vec![utf8("table_type", false)]));
    assert_eq!(client.rows(&CommandGetXdbcTypeInfo { data_type: None }).await?.schema(), types_schema());
    let table = "readings".to_owned();
    let keys = client.rows(&CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.clone() }).await?;
    assert_eq!((keys.schema(), keys.num_rows()), (primary_keys_schema(), 0));
    let imported = client.rows(&CommandGetImportedKeys { catalog: None, db_schema: None, table: table.clone() }).await?;
    let exported = client.rows(&CommandGetExportedKeys { catalog: None, db_schema: None, table }).await?;
    assert_eq!((imported.schema(), exported.schema()), (foreign_keys_schema(), foreign_keys_schema()));
    let rows = executed(&mut client, "SELECT id, gas, te, time FROM readings").await?;
    let expected = [DataType::Int64, DataType::Utf8, DataType::Decimal128(10, 2), DataType::Timestamp(TimeUnit::Nanosecond, None)];
    assert_eq!(rows.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>(), expected);
    assert_eq!(rows.num_rows(), 1);
    Ok(())
}

/// Flight SQL: 7, 8, 9, 10, 11
#[tokio::test(flavor = "multi_thread")]
async fn jdbc_binds_and_updates() -> TestResult {
    let mut client = lake().await?;
    // setLong and executeQuery: the row has the names that the driver gives, which are those of the parameter schema.
    let statement = prepare(&mut client, "SELECT x FROM (VALUES (1), (2), (3)) AS t(x) WHERE x > ? ORDER BY x").await?;
    let parameters = Schema::try_from(IpcMessage(statement.parameter_schema.clone()))?;
    assert_eq!(*parameters.field(0).data_type(), DataType::Int64);
    let row = RecordBatch::try_new(Arc::new(parameters), vec![Arc::new(Int64Array::from(vec![1]))])?;
    let handle = statement.prepared_statement_handle.clone();
    let bind = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    let bound = DoPutPreparedStatementResult::decode(put(&mut client, &bind, row.schema(), vec![row.clone()]).await?)?;
    assert_eq!(bound.prepared_statement_handle, Some(handle.clone()));
    let rows = client.rows(&bind).await?;
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[2, 3]);
    close(&mut client, handle.clone()).await?;
    // A second close is what try-with-resources does.
    close(&mut client, handle).await?;
    // executeUpdate of what has no parameters puts rows without columns.
    for (sql, count) in [("CREATE TEMPORARY TABLE numbers (x BIGINT)", 0), ("INSERT INTO numbers VALUES (1), (2)", 2)] {
        let statement = prepare(&mut client, sql).await?;
        assert!(Schema::try_from(IpcMessage(statement.dataset_schema))?.fields().is_empty());
        let update = CommandPreparedStatementUpdate { prepared_statement_handle: statement.prepared_statement_handle };
        let told = DoPutUpdateResult::decode(put(&mut client, &update, of(Vec::new()), Vec::new()).await?)?;
        assert_eq!(told.record_count, count, "{sql}");
    }
    // addBatch and executeBatch.
    let statement = prepare(&mut client, "INSERT INTO numbers VALUES (?)").await?;
    let parameters = Arc::new(Schema::try_from(IpcMessage(statement.parameter_schema))?);
    let rows = RecordBatch::try_new(Arc::clone(&parameters), vec![Arc::new(Int64Array::from(vec![10, 20, 30]))])?;
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: statement.prepared_statement_handle };
    let told = DoPutUpdateResult::decode(put(&mut client, &update, parameters, vec![rows]).await?)?;
    assert_eq!(told.record_count, 3);
    let sum = executed(&mut client, "SELECT sum(x) FROM numbers").await?;
    assert_eq!(sum.column(0).as_primitive::<Int64Type>().value(0), 63);
    Ok(())
}

/// Flight SQL: 12, 13, 14, 15, 16, 18
#[tokio::test(flavor = "multi_thread")]
async fn odbc_reads_what_it_casts_without_looking() -> TestResult {
    let mut client = lake().await?;
    // The first SQLGetInfo asks for all, and casts these to 64 bits.
    let info = told(&client.rows(&CommandGetSqlInfo { info: Vec::new() }).await?)?;
    for id in [503, 505, 507] {
        assert_eq!(info[&id].1.data_type(), &DataType::Int64, "{id}");
    }
    assert_eq!(client.rows(&CommandGetXdbcTypeInfo { data_type: None }).await?.schema(), types_schema());
    assert!(client.rows(&CommandGetXdbcTypeInfo { data_type: Some(12) }).await?.num_rows() > 0);
    // SQLTables of one kind of names each, and SQLColumns, whose patterns are all set.
    assert_eq!(client.rows(&CommandGetCatalogs {}).await?.num_rows(), 1);
    let everything = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("%".to_owned()) };
    assert!(client.rows(&everything).await?.num_rows() >= 3);
    assert!(client.rows(&CommandGetTableTypes {}).await?.num_rows() >= 3);
    let columns = CommandGetTables {
        catalog: Some("lake".to_owned()),
        db_schema_filter_pattern: Some("main".to_owned()),
        table_name_filter_pattern: Some("readings".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let found = client.rows(&columns).await?;
    assert_eq!((found.schema(), found.num_rows()), (tables_schema(true), 1));
    // The empty name of a catalog means those that are in none.
    let nowhere = client.rows(&CommandGetTables { catalog: Some(String::new()), ..columns }).await?;
    assert_eq!(nowhere.num_rows(), 0);
    Ok(())
}

/// Flight SQL: 13, 14, 15, 18
#[tokio::test(flavor = "multi_thread")]
async fn power_bi_finds_the_names_of_types() -> TestResult {
    let mut client = lake().await?;
    // GetObjects down to the columns: the driver names no catalog, and matches it itself.
    let asked =
        CommandGetTables { table_name_filter_pattern: Some("readings".to_owned()), include_schema: true, ..CommandGetTables::default() };
    let found = client.rows(&asked).await?;
    let columns = Schema::try_from(IpcMessage(found.column(4).as_binary::<i32>().value(0).to_vec().into()))?;
    let names = |key: &str| {
        let key = format!("ARROW:FLIGHT:SQL:{key}");
        columns.fields().iter().map(|field| field.metadata().get(&key).cloned()).collect::<Vec<_>>()
    };
    assert!(names("TYPE_NAME").iter().all(Option::is_some) && names("IS_READ_ONLY").iter().all(Option::is_some));
    assert!(names("TABLE_NAME").iter().all(|name| name.as_deref() == Some("readings")));
    Ok(())
}

/// Flight SQL: 2, 3, 15
#[tokio::test(flavor = "multi_thread")]
async fn grafana_reads_the_first_endpoint_alone() -> TestResult {
    let mut client = lake().await?;
    // The query of a panel, whose macros the data source has replaced.
    let sql = "SELECT time, id FROM readings WHERE time >= '2026-11-26T00:00:00Z' AND time <= '2026-11-27T00:00:00Z' ORDER BY time ASC";
    let info = client.info(&query(sql)).await?;
    assert_eq!(info.endpoint.len(), 1, "what it does not read would be missing");
    let rows = client.fetch(info.endpoint[0].ticket.clone().ok_or("no ticket")?).await?;
    assert!(matches!(rows.schema().field(0).data_type(), DataType::Timestamp(_, _)) && rows.num_rows() == 1);
    // The lists of its editor.
    let all = CommandGetTables::default();
    assert_eq!(client.rows(&all).await?.schema(), tables_schema(false));
    Ok(())
}

/// Flight SQL: 2, 3, 7, 9, 15
#[tokio::test(flavor = "multi_thread")]
async fn duckdb_scans_by_four_columns_and_by_prepared_statements() -> TestResult {
    let mut client = lake().await?;
    let asked = CommandGetTables {
        catalog: Some("lake".to_owned()),
        db_schema_filter_pattern: Some("main".to_owned()),
        table_types: vec!["TABLE".to_owned(), "VIEW".to_owned()],
        ..CommandGetTables::default()
    };
    // It refuses a fifth column.
    let found = client.rows(&asked).await?;
    assert_eq!(found.schema(), tables_schema(false));
    assert!(found.column(2).as_string::<i32>().iter().flatten().any(|name| name == "readings"));
    // Its scan names the columns that it wants, quoted.
    let rows = executed(&mut client, r#"SELECT "te", "gas" FROM "lake"."main"."readings""#).await?;
    assert_eq!((rows.num_rows(), rows.column(1).as_string::<i32>().value(0)), (1, "D2"));
    // What it doesn't know it asks again, as text.
    let missing = prepare(&mut client, "SELECT * FROM lake.main.nosuch").await;
    let code = missing.err().and_then(|error| error.downcast::<tonic::Status>().ok()).map(|status| status.code());
    assert_eq!(code, Some(Code::NotFound));
    Ok(())
}

/// Messages of a schema are the same bytes wherever a client gets them.
///
/// Flight SQL: 2, 5, 7
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_the_same_bytes_at_each_call() -> TestResult {
    let mut client = lake().await?;
    let sql = "SELECT id, gas, [te] AS l, {'a': time} AS s FROM readings";
    let info = client.info(&query(sql)).await?;
    let prepared = prepare(&mut client, sql).await?;
    let descriptor = FlightDescriptor::new_cmd(query(sql).as_any().encode_to_vec());
    let told = client.calls.get_schema(descriptor).await?.into_inner().schema;
    assert_eq!(info.schema, prepared.dataset_schema);
    assert_eq!(info.schema, told);
    let mut messages = client.calls.do_get(info.endpoint[0].ticket.clone().ok_or("no ticket")?).await?.into_inner();
    let first = messages.try_next().await?.ok_or("nothing was sent")?;
    let schema = info.try_decode_schema()?;
    let sent: FlightData = SchemaAsIpc::new(&schema, &Default::default()).into();
    assert_eq!(first.data_header, sent.data_header);
    Ok(())
}

/// Clients that know nothing of 64 MiB: other Go clients take 4 MiB a message.
///
/// Flight SQL: 3
#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_larger_than_clients_take() -> TestResult {
    let mut client = lake().await?;
    let info = client.info(&query("SELECT repeat('x', 1000) AS word, value FROM generate_series(1, 50000)")).await?;
    let messages: Vec<FlightData> =
        client.calls.do_get(info.endpoint[0].ticket.clone().ok_or("no ticket")?).await?.into_inner().try_collect().await?;
    let sizes: HashMap<bool, usize> = messages.iter().fold(HashMap::new(), |mut sizes, message| {
        *sizes.entry(message.encoded_len() <= 4 << 20).or_default() += 1;
        sizes
    });
    assert!(!sizes.contains_key(&false) && sizes[&true] > 10, "{sizes:?}");
    Ok(())
}

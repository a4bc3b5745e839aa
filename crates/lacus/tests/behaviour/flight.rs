//! The server as a client of nothing but gRPC messages sees it: what drivers read is asserted as it travels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest, Any, CommandGetCrossReference,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetXdbcTypeInfo,
    CommandStatementQuery, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Empty, FlightData, FlightDescriptor, FlightInfo, SchemaResult,
    Ticket,
};
use lacus::arrow::array::{Array, AsArray, RecordBatch, UnionArray};
use lacus::arrow::compute::concat_batches;
use lacus::arrow::datatypes::{Int32Type, Int64Type, Schema, UInt32Type};
use lacus::arrow::util::pretty::pretty_format_batches;
use lacus::{Config, Engine, Principal, TryStreamExt};
use lacus_server::Server;
use prost::Message;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::{TestResult, ask, engine, eventually};

pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

pub(crate) struct Client {
    pub(crate) calls: FlightServiceClient<Channel>,
    serving: JoinHandle<lacus::Result<()>>,
}

impl Client {
    pub(crate) async fn of(engine: Engine) -> Result<Self> {
        let server = Server::bind("127.0.0.1:0").await?;
        let uri = server.uri().replace("grpc://", "http://");
        let serving = tokio::spawn(server.serve(engine, std::future::pending()));
        Ok(Self { calls: FlightServiceClient::new(Channel::from_shared(uri)?.connect().await?), serving })
    }

    pub(crate) async fn info(&mut self, command: &impl ProstMessageExt) -> Result<FlightInfo, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        Ok(self.calls.get_flight_info(descriptor).await?.into_inner())
    }

    pub(crate) async fn fetch(&mut self, ticket: Ticket) -> Result<RecordBatch> {
        let messages = self.calls.do_get(ticket).await?.into_inner();
        let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut read = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            read.push(batch);
        }
        let schema = batches.schema().ok_or("no schema was sent")?;
        Ok(concat_batches(schema, &read)?)
    }

    /// The rows of a command, whose schema is the one that was advertised, and the one that GetSchema tells.
    pub(crate) async fn rows(&mut self, command: &impl ProstMessageExt) -> Result<RecordBatch> {
        let info = self.info(command).await?;
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let told = Schema::try_from(SchemaResult { schema: self.calls.get_schema(descriptor).await?.into_inner().schema })?;
        let advertised = info.clone().try_decode_schema()?;
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).ok_or("no ticket")?;
        let batch = self.fetch(ticket).await?;
        assert_eq!(*batch.schema(), advertised);
        assert_eq!(told, advertised);
        Ok(batch)
    }

    pub(crate) async fn act(&mut self, name: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        let answers = self.calls.do_action(Action::new(name, body)).await?.into_inner();
        let answers: Vec<arrow_flight::Result> = answers.try_collect().await?;
        Ok(answers.first().map(|answer| answer.body.to_vec()).unwrap_or_default())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn query(sql: &str) -> CommandStatementQuery {
    CommandStatementQuery { query: sql.to_owned(), transaction_id: None }
}

/// The ids of the specification by the member of the union that drivers cast them to: 0 text, 1 truth value, 2 64 bits, 3 a bitmask of 32
/// bits, 4 a list of texts, 5 a map.
fn kinds() -> BTreeMap<u32, i8> {
    let texts = [0..=2, 504..=504, 513..=514, 529..=531];
    let truths = [3..=5, 9..=11, 500..=502, 506..=506, 515..=516, 518..=521, 523..=524, 527..=527, 532..=532, 536..=537, 539..=539];
    let more_truths = [556..=556, 563..=563, 565..=566, 572..=576];
    let wide = [503..=503, 505..=505, 507..=507, 541..=555, 557..=562];
    let masks = [8..=8, 100..=101, 522..=522, 525..=526, 528..=528, 533..=535, 538..=538, 540..=540, 564..=564, 567..=571];
    let lists = std::iter::once(508..=512);
    let all = texts.into_iter().map(|ids| (ids, 0)).chain(truths.into_iter().chain(more_truths).map(|ids| (ids, 1)));
    let all = all.chain(wide.into_iter().map(|ids| (ids, 2))).chain(masks.into_iter().map(|ids| (ids, 3)));
    let all = all.chain(lists.map(|ids| (ids, 4))).chain(std::iter::once((517..=517, 5)));
    all.flat_map(|(ids, kind)| ids.map(move |id| (id, kind))).collect()
}

pub(crate) type Told = BTreeMap<u32, (i8, Arc<dyn Array>)>;

pub(crate) fn told(batch: &RecordBatch) -> Result<Told> {
    let names = batch.column(0).as_primitive::<UInt32Type>();
    let values = batch.column(1).as_any().downcast_ref::<UnionArray>().ok_or("the values are no union")?;
    Ok((0..batch.num_rows()).map(|row| (names.value(row), (values.type_id(row), values.value(row)))).collect())
}

/// Flight SQL: 12
#[tokio::test(flavor = "multi_thread")]
async fn everything_about_the_server_is_told_in_the_types_of_drivers() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let told_all = told(&client.rows(&CommandGetSqlInfo { info: Vec::new() }).await?)?;
    let found: BTreeMap<u32, i8> = told_all.iter().map(|(id, (kind, _))| (*id, *kind)).collect();
    assert_eq!(found, kinds());
    let defined: BTreeSet<u32> = (0..1000).filter(|id| SqlInfo::try_from(*id).is_ok()).map(|id| id as u32).collect();
    let substrait = BTreeSet::from([6, 7]);
    assert_eq!(defined, found.keys().copied().chain(substrait).collect());
    let texts =
        |id: u32| told_all[&id].1.as_list::<i32>().value(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
    for (id, has) in [(508, "SELECT"), (509, "sqrt"), (510, "lower"), (511, "version"), (512, "date_trunc")] {
        assert!(texts(id).iter().any(|text| text == has), "{id}: {:?}", texts(id));
    }
    assert_eq!(told_all[&8].1.as_primitive::<Int32Type>().value(0), 0);
    assert_eq!(told_all[&503].1.as_primitive::<Int64Type>().value(0), 3);
    assert_eq!(told_all[&0].1.as_string::<i32>().value(0), "Lacus");
    // Some of them, and one that nobody knows.
    let some = told(&client.rows(&CommandGetSqlInfo { info: vec![8, 504, 99_999] }).await?)?;
    assert_eq!(some.keys().copied().collect::<Vec<_>>(), [8, 504]);
    Ok(())
}

/// What is told of the grammar is so.
///
/// Flight SQL: 12
#[tokio::test(flavor = "multi_thread")]
async fn the_grammar_is_as_it_is_told() -> TestResult {
    let engine = engine(Vec::new())?;
    for (sql, answer) in [
        ("SELECT count(*) FROM (VALUES (1, 2)) AS t(a, b) GROUP BY a, b", "1"),
        ("SELECT a FROM (VALUES (1, 2), (2, 1)) AS t(a, b) ORDER BY b", "2\n1"),
        ("SELECT a FROM (VALUES (2), (1)) AS t(a) ORDER BY -a", "2\n1"),
        (r"SELECT 'a_b' LIKE 'a\_b', 'axb' LIKE 'a\_b'", "true,false"),
        ("SELECT 'a_b' LIKE 'a/_b' ESCAPE '/', 'axb' LIKE 'a/_b' ESCAPE '/'", "true,false"),
        ("SELECT 'a' || NULL IS NULL", "true"),
        ("SELECT count(*) FROM (VALUES (1)) AS a(x) FULL OUTER JOIN (VALUES (2)) AS b(x) ON a.x = b.x", "2"),
        ("SELECT a FROM (VALUES (1), (2)) AS t(a) WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS b) AS u WHERE u.b = t.a)", "1"),
        ("SELECT a FROM (VALUES (1), (2)) AS t(a) WHERE a IN (SELECT 2) AND a = (SELECT 2)", "2"),
        ("SELECT a FROM (VALUES (1), (NULL)) AS t(a) ORDER BY a", "1\nNULL"),
        ("SELECT x FROM (SELECT 1 AS x UNION SELECT 1 UNION ALL SELECT 1) ORDER BY x", "1\n1"),
        ("SELECT a FROM (VALUES (1), (2)) AS t(a) WHERE a = (SELECT max(b) FROM (SELECT 2 AS b) AS u WHERE u.b = t.a)", "2"),
    ] {
        assert_eq!(ask(&engine, sql).await?, answer, "{sql}");
    }
    Ok(())
}

/// Flight SQL: 18
#[tokio::test(flavor = "multi_thread")]
async fn the_types_of_columns_are_those_of_odbc() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let all = client.rows(&CommandGetXdbcTypeInfo { data_type: None }).await?;
    let codes: Vec<i32> = all.column(1).as_primitive::<Int32Type>().values().to_vec();
    assert!(codes.is_sorted() && all.num_columns() == 19, "{codes:?}");
    for code in [-7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 91, 92, 93] {
        assert!(codes.contains(&code), "{code}");
    }
    let decimal = client.rows(&CommandGetXdbcTypeInfo { data_type: Some(3) }).await?;
    let shown = pretty_format_batches(&[decimal])?.to_string();
    assert!(shown.contains("| DECIMAL   | 3         | 38          |") && shown.contains("[precision, scale]"), "{shown}");
    let text = client.rows(&CommandGetXdbcTypeInfo { data_type: Some(12) }).await?;
    assert_eq!((text.column(3).as_string::<i32>().value(0), text.column(4).as_string::<i32>().value(0)), ("'", "'"));
    // Every type that is told can be cast to.
    let engine = engine(Vec::new())?;
    let names: BTreeSet<String> = all.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    for name in names {
        assert_eq!(ask(&engine, &format!("SELECT CAST(NULL AS {name}) IS NULL")).await?, "true", "{name}");
    }
    Ok(())
}

fn with_keys() -> Result<Engine> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lacus.toml");
    std::fs::write(
        &file,
        r#"
[dataset.shots]
path = "shots.csv"
primary_key = ["machine", "number"]
[dataset.probes]
path = "probes.csv"
[dataset.probes.foreign_keys.of_shot]
columns = ["machine", "shot"]
references = "shots"
[dataset.notes]
path = "notes.csv"
[dataset.notes.foreign_keys.about]
columns = ["probe"]
references = "probes"
referenced = ["name"]
"#,
    )?;
    Ok(Config::load(&file)?.engine()?)
}

fn texts(batch: &RecordBatch, columns: &[usize]) -> Vec<String> {
    let column = |row: usize, column: &usize| batch.column(*column).as_string::<i32>().value(row).to_owned();
    (0..batch.num_rows()).map(|row| columns.iter().map(|place| column(row, place)).collect::<Vec<_>>().join(".")).collect()
}

/// Flight SQL: 17
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_those_that_the_lake_declares() -> TestResult {
    let mut client = Client::of(with_keys()?).await?;
    let of = |table: &str| CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.to_owned() };
    let primary = client.rows(&of("shots")).await?;
    assert_eq!(texts(&primary, &[0, 1, 2, 3, 4]), ["lake.main.shots.machine.shots_primary", "lake.main.shots.number.shots_primary"]);
    assert_eq!(primary.column(5).as_primitive::<Int32Type>().values(), &[1, 2]);
    assert_eq!(client.rows(&of("probes")).await?.num_rows(), 0);
    assert_eq!(client.rows(&of("nothing")).await?.num_rows(), 0);
    let elsewhere = CommandGetPrimaryKeys { catalog: None, db_schema: Some("system".to_owned()), table: "shots".to_owned() };
    assert_eq!(client.rows(&elsewhere).await?.num_rows(), 0);
    let pairs = ["shots.machine.probes.machine.of_shot.shots_primary", "shots.number.probes.shot.of_shot.shots_primary"];
    let exported = CommandGetExportedKeys { catalog: None, db_schema: None, table: "shots".to_owned() };
    assert_eq!(texts(&client.rows(&exported).await?, &[2, 3, 6, 7, 9, 10]), pairs);
    let imported = CommandGetImportedKeys { catalog: Some("lake".to_owned()), db_schema: None, table: "probes".to_owned() };
    assert_eq!(texts(&client.rows(&imported).await?, &[2, 3, 6, 7, 9, 10]), pairs);
    let cross = |from: &str, to: &str| CommandGetCrossReference {
        pk_catalog: None,
        pk_db_schema: None,
        pk_table: to.to_owned(),
        fk_catalog: None,
        fk_db_schema: None,
        fk_table: from.to_owned(),
    };
    assert_eq!(texts(&client.rows(&cross("notes", "probes")).await?, &[2, 3, 6, 7]), ["probes.name.notes.probe"]);
    assert_eq!(client.rows(&cross("notes", "shots")).await?.num_rows(), 0);
    Ok(())
}

/// `ActionCreatePreparedStatementResult` with the field that arrow-flight's own lacks.
#[derive(Clone, PartialEq, Message)]
struct Created {
    #[prost(bytes = "vec", tag = "1")]
    handle: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    dataset_schema: Vec<u8>,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

/// Flight SQL: 7
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_tells_whether_it_is_an_update() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    for (sql, is_update) in [
        ("SELECT ? + 1", false),
        ("SHOW TABLES", false),
        ("CREATE VIEW v AS SELECT 1", true),
        ("REFRESH nothing", true),
        ("KILL 'x'", true),
    ] {
        let asked = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
        let answer = Any::decode(&*client.act("CreatePreparedStatement", asked.as_any().encode_to_vec()).await?)?;
        assert!(answer.type_url.ends_with("/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult"));
        let created = Created::decode(&*answer.value)?;
        assert_eq!(created.is_update, Some(is_update), "{sql}");
        assert!(!created.handle.is_empty() && !created.dataset_schema.is_empty());
    }
    let unreadable = client.act("CreatePreparedStatement", vec![0xff; 7]).await;
    assert_eq!(unreadable.map_err(|status| status.code()), Err(Code::InvalidArgument));
    Ok(())
}

pub(crate) const LONG: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) WHERE x * y % 7 = 3";

fn futures_of(messages: Vec<FlightData>) -> impl futures::Stream<Item = Result<FlightData, FlightError>> {
    futures::stream::iter(messages.into_iter().map(Ok))
}

pub(crate) async fn cancel(client: &mut Client, info: FlightInfo) -> Result<CancelStatus, Status> {
    let answer = client.act("CancelFlightInfo", CancelFlightInfoRequest::new(info).encode_to_vec()).await?;
    let answer = CancelFlightInfoResult::decode(&*answer).map_err(|error| Status::internal(error.to_string()))?;
    Ok(answer.status())
}

/// Flight SQL: 3, 19, 25
#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_while_it_waits_and_while_it_runs() -> TestResult {
    let engine = engine(Vec::new())?;
    let mut client = Client::of(engine.clone()).await?;
    // Before it is fetched.
    let info = client.info(&query("SELECT 1")).await?;
    assert_eq!(cancel(&mut client, info.clone()).await?, CancelStatus::Cancelled);
    let ticket = info.endpoint[0].ticket.clone().ok_or("no ticket")?;
    assert_eq!(client.calls.do_get(ticket).await.map(|_| ()).map_err(|status| status.code()), Err(Code::NotFound));
    assert_eq!(cancel(&mut client, info).await?, CancelStatus::NotCancellable);
    // While it is fetched, by the newer action and by the older one.
    for older in [false, true] {
        let info = client.info(&query(LONG)).await?;
        let ticket = info.endpoint[0].ticket.clone().ok_or("no ticket")?;
        let mut fetching = client.calls.clone();
        let fetched = tokio::spawn(async move {
            let messages = fetching.do_get(ticket).await?.into_inner();
            messages.try_collect::<Vec<_>>().await
        });
        let (watching, id) = (engine.clone(), String::from_utf8(info.app_metadata.to_vec())?);
        let runs = format!("SELECT count(*) FROM system.queries WHERE id = '{id}' AND state = 'running'");
        for _ in 0..600 {
            if ask(&watching, &runs).await? == "1" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if older {
            let asked = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
            let answer = Any::decode(&*client.act("CancelQuery", asked.as_any().encode_to_vec()).await?)?;
            let answer: Option<ActionCancelQueryResult> = answer.unpack()?;
            assert_eq!(answer.map(|answer| answer.result), Some(CancelStatus::Cancelled as i32));
        } else {
            assert_eq!(cancel(&mut client, info).await?, CancelStatus::Cancelled);
        }
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), fetched).await??;
        assert_eq!(ended.map(|_| ()).map_err(|status| status.code()), Err(Code::Cancelled));
        eventually("memory is given back", || engine.memory_held() == 0).await?;
    }
    // Nothing that it leads to.
    assert_eq!(cancel(&mut client, FlightInfo::new()).await.map_err(|status| status.code()), Err(Code::InvalidArgument));
    Ok(())
}

/// What is advertised, prepared and streamed is the same, in both choices of types.
///
/// Flight SQL: 2, 5
#[tokio::test(flavor = "multi_thread")]
async fn types_travel_as_the_client_chooses() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let sql = "SELECT INTERVAL '1 month 2 days' AS i, arrow_cast('x', 'Utf8View') AS v, arrow_cast('y', 'Dictionary(Int32, Utf8)') AS d, \
               arrow_cast(1.5, 'Decimal256(60, 1)') AS w, [INTERVAL '1 hour'] AS l";
    let compat = client.rows(&query(sql)).await?;
    assert_eq!(texts(&compat, &[0, 1, 2, 3]), ["P1M2D.x.y.1.5"]);
    assert_eq!(compat.column(4).as_list::<i32>().value(0).as_string::<i32>().value(0), "PT1H");
    let asking = |choice: &'static str| {
        let mut request = tonic::Request::new(FlightDescriptor::new_cmd(query(sql).as_any().encode_to_vec()));
        request.metadata_mut().insert("wire_types", choice.parse().unwrap_or_else(|_| unreachable!("it is ASCII")));
        request
    };
    let info = client.calls.get_flight_info(asking("native")).await?.into_inner();
    let advertised = info.clone().try_decode_schema()?;
    let told = Schema::try_from(SchemaResult { schema: client.calls.get_schema(asking("native")).await?.into_inner().schema })?;
    let batch = client.fetch(info.endpoint[0].ticket.clone().ok_or("no ticket")?).await?;
    assert!(*batch.schema() == advertised && told == advertised, "{advertised} {told} {}", batch.schema());
    let types: Vec<String> = advertised.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types[..4], ["Interval(MonthDayNano)", "Utf8View", "Utf8", "Decimal256(60, 1)"]);
    let refused = client.calls.get_flight_info(asking("fancy")).await.map(|_| ());
    assert_eq!(refused.map_err(|status| status.code()), Err(Code::InvalidArgument));
    Ok(())
}

/// Flight SQL: 30
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_actions_is_true() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let actions: Vec<_> = client.calls.list_actions(Empty {}).await?.into_inner().try_collect().await?;
    assert!(actions.len() >= 4);
    for action in actions {
        let answer = client.act(&action.r#type, vec![0xff; 3]).await.map_err(|status| status.code());
        assert_eq!(answer, Err(Code::InvalidArgument), "{}", action.r#type);
    }
    let unknown = client.act("BrewCoffee", Vec::new()).await.map_err(|status| (status.code(), status.message().to_owned()));
    let (code, message) = unknown.err().ok_or("an unknown action gave an answer")?;
    assert!(code == Code::Unimplemented && message.contains("BrewCoffee"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_lead_nowhere_are_errors_of_the_lake_file() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lacus.toml");
    let shots = "[dataset.shots]\npath = \"shots.csv\"\nprimary_key = [\"number\"]\n[dataset.probes]\npath = \"probes.csv\"\n";
    for (key, said) in [
        ("columns = [\"shot\"]\nreferences = \"shot\"", "did you mean `shots`?"),
        ("columns = [\"a\", \"b\"]\nreferences = \"shots\"", "2 columns refer to `shots`, whose primary key has 1"),
        ("columns = [\"a\", \"b\"]\nreferences = \"shots\"\nreferenced = [\"number\"]", "differ in number"),
        ("references = \"shots\"", "has no `columns`"),
        ("columns = [\"a\"]", "has no `references`"),
    ] {
        std::fs::write(&file, format!("{shots}[dataset.probes.foreign_keys.of]\n{key}\n"))?;
        let error = Config::load(&file).map(|_| ()).map_err(|error| error.to_string());
        let error = error.err().unwrap_or_default();
        assert!(error.contains(said) && error.contains("dataset.probes.foreign_keys.of"), "{error}");
    }
    Ok(())
}

/// Proxies close streams on which nothing flows: while a query is silent, empty batches do.
///
/// Flight SQL: 3
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_query_sends_empty_batches() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let info = client.info(&query(LONG)).await?;
    let ticket = info.endpoint[0].ticket.clone().ok_or("no ticket")?;
    let mut messages = client.calls.do_get(ticket).await?.into_inner();
    let mut lengths = Vec::new();
    for _ in 0..2 {
        let message = tokio::time::timeout(std::time::Duration::from_secs(60), messages.try_next()).await??.ok_or("the stream ended")?;
        assert!(!message.data_header.is_empty());
        lengths.push(message.data_body.len());
    }
    assert_eq!(lengths, [0, 0]);
    Ok(())
}

/// Flight SQL: 3
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_on_request() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let mut sizes = BTreeMap::new();
    for compression in ["none", "zstd", "lz4"] {
        let info = client.info(&query("SELECT value / 1000 AS v FROM generate_series(1, 100000)")).await?;
        let mut request = tonic::Request::new(info.endpoint[0].ticket.clone().ok_or("no ticket")?);
        request.metadata_mut().insert("ipc_compression", compression.parse()?);
        let messages: Vec<_> = client.calls.do_get(request).await?.into_inner().try_collect().await?;
        sizes.insert(compression, messages.iter().map(|message| message.data_body.len()).sum::<usize>());
        let mut batches = FlightRecordBatchStream::new_from_flight_data(futures_of(messages));
        let mut total = 0;
        while let Some(batch) = batches.try_next().await? {
            total += batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        }
        assert_eq!(total, 4_950_100);
    }
    assert!(sizes["zstd"] * 10 < sizes["none"] && sizes["lz4"] * 10 < sizes["none"], "{sizes:?}");
    let info = client.info(&query("SELECT 1")).await?;
    let mut request = tonic::Request::new(info.endpoint[0].ticket.clone().ok_or("no ticket")?);
    request.metadata_mut().insert("ipc_compression", "brotli".parse()?);
    assert_eq!(client.calls.do_get(request).await.map(|_| ()).map_err(|status| status.code()), Err(Code::InvalidArgument));
    Ok(())
}

/// Flight SQL: 31
#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_by_grpc() -> TestResult {
    let server = Server::bind("127.0.0.1:0").await?;
    let uri = server.uri().replace("grpc://", "http://");
    let serving = tokio::spawn(server.serve(engine(Vec::new())?, std::future::pending()));
    let mut health = tonic_health::pb::health_client::HealthClient::new(Channel::from_shared(uri)?.connect().await?);
    for service in ["", "arrow.flight.protocol.FlightService"] {
        let asked = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let status = health.check(asked).await?.into_inner().status();
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving);
    }
    let unknown = tonic_health::pb::HealthCheckRequest { service: "brewer".to_owned() };
    assert_eq!(health.check(unknown).await.map(|_| ()).map_err(|status| status.code()), Err(Code::NotFound));
    serving.abort();
    Ok(())
}

/// A value of a session option, as it travels: arrow-flight has no messages for them.
fn option(name: &str, value: &str) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let value = field(1, value.as_bytes());
    field(1, &[field(1, name.as_bytes()), field(2, &value)].concat())
}

/// Flight SQL: 23
#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_session_are_set_told_and_forgotten() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    assert_eq!(client.act("SetSessionOptions", option("x.datafusion.execution.time_zone", "+05:00")).await?, Vec::<u8>::new());
    let told = String::from_utf8_lossy(&client.act("GetSessionOptions", Vec::new()).await?).into_owned();
    assert!(told.contains("+05:00") && told.contains("catalog") && told.contains("main"), "{told}");
    let shown = client.rows(&query("SHOW datafusion.execution.time_zone")).await?;
    assert!(pretty_format_batches(&[shown])?.to_string().contains("+05:00"));
    // A name that there is not, and a value that can't be: 1 and 2 of the enumeration, each by the name of its option.
    let unknown = client.act("SetSessionOptions", option("x.brewer", "1")).await?;
    assert!(unknown.ends_with(&[8, 1]), "{unknown:?}");
    let wrong = client.act("SetSessionOptions", option("schema", "nosuch")).await?;
    assert!(wrong.ends_with(&[8, 2]), "{wrong:?}");
    assert_eq!(client.act("CloseSession", Vec::new()).await?, [8, 1]);
    let after = String::from_utf8_lossy(&client.act("GetSessionOptions", Vec::new()).await?).into_owned();
    assert!(!after.contains("+05:00"), "{after}");
    assert_eq!(client.act("CloseSession", Vec::new()).await?, [8, 1]);
    Ok(())
}

/// Flight SQL: 8
#[tokio::test(flavor = "multi_thread")]
async fn names_of_parameters_are_bound_by_name() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let asked = ActionCreatePreparedStatementRequest {
        query: "SELECT CAST($word AS VARCHAR) || CAST($number AS VARCHAR) AS x".to_owned(),
        transaction_id: None,
    };
    let created = client.act("CreatePreparedStatement", asked.as_any().encode_to_vec()).await?;
    let any = Any::decode(&*created)?;
    let created: arrow_flight::sql::ActionCreatePreparedStatementResult = any.unpack()?.ok_or("no statement")?;
    let parameters = Schema::try_from(arrow_flight::IpcMessage(created.parameter_schema.clone()))?;
    assert_eq!(parameters.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["word", "number"]);
    Ok(())
}

/// What is planned for one principal is not another's.
///
/// Flight SQL: 3
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_gave_finds_nothing() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    assert_eq!(Principal::owner().name(), "owner");
    let forged = arrow_flight::sql::TicketStatementQuery { statement_handle: vec![7; 16].into() };
    let fetched = client.calls.do_get(Ticket::new(forged.as_any().encode_to_vec())).await;
    assert_eq!(fetched.map(|_| ()).map_err(|status| status.code()), Err(Code::NotFound));
    Ok(())
}

/// What there is not is refused in words that say what there is instead; nothing of it is taken for something else.
///
/// Flight SQL: 6, 27, 28, 29
#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_refused_in_words() -> TestResult {
    use arrow_flight::sql::{ActionBeginSavepointRequest, ActionBeginTransactionRequest, ActionEndTransactionRequest};
    let mut client = Client::of(engine(Vec::new())?).await?;
    let said =
        |status: Option<Status>| status.map(|status| (status.code(), status.message().to_owned())).unwrap_or((Code::Ok, String::new()));
    let begin = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
    let end = ActionEndTransactionRequest { transaction_id: vec![1].into(), action: 1 }.as_any().encode_to_vec();
    let savepoint = ActionBeginSavepointRequest { transaction_id: vec![1].into(), name: "s".to_owned() }.as_any().encode_to_vec();
    for (name, body) in [("BeginTransaction", begin), ("EndTransaction", end), ("BeginSavepoint", savepoint)] {
        let (code, words) = said(client.act(name, body).await.err());
        assert!(code == Code::Unimplemented && words.contains("committed by itself"), "{name}: {words}");
    }
    let in_transaction = CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: Some(vec![1].into()) };
    let update =
        arrow_flight::sql::CommandStatementUpdate { query: "CREATE VIEW v AS SELECT 1".to_owned(), transaction_id: Some(vec![1].into()) };
    let (code, words) = said(client.info(&in_transaction).await.err());
    assert!(code == Code::Unimplemented && words.contains("no transactions"), "{words}");
    let put = |command: Vec<u8>| {
        let message = FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(command)), ..Default::default() };
        futures::stream::iter([message])
    };
    let (code, words) = said(client.calls.do_put(put(update.as_any().encode_to_vec())).await.err());
    assert!(code == Code::Unimplemented && words.contains("no transactions"), "{words}");
    let counted = arrow_flight::sql::CommandStatementUpdate { transaction_id: None, ..update };
    let answers: Vec<_> = client.calls.do_put(put(counted.as_any().encode_to_vec())).await?.into_inner().try_collect().await?;
    let counted = arrow_flight::sql::DoPutUpdateResult::decode(&*answers[0].app_metadata)?;
    assert_eq!(counted.record_count, 0);
    let substrait = arrow_flight::sql::CommandStatementSubstraitPlan { plan: None, transaction_id: None };
    let (code, words) = said(client.info(&substrait).await.err());
    assert!(code == Code::Unimplemented && words.contains("send the SQL"), "{words}");
    let (code, words) = said(client.calls.list_flights(arrow_flight::Criteria::default()).await.err());
    assert!(code == Code::Unimplemented && words.contains("CommandGetTables"), "{words}");
    let (code, words) = said(client.calls.do_exchange(futures::stream::iter([FlightData::default()])).await.err());
    assert!(code == Code::Unimplemented && words.contains("DoPut"), "{words}");
    // Texts and bytes that are no commands.
    for bytes in [b"SELECT 1".to_vec(), vec![0xff; 9], Vec::new()] {
        for (code, words) in [
            said(client.calls.get_flight_info(FlightDescriptor::new_cmd(bytes.clone())).await.err()),
            said(client.calls.do_get(Ticket::new(bytes.clone())).await.err()),
        ] {
            assert!(code == Code::InvalidArgument && words.contains("packed into google.protobuf.Any"), "{words}");
        }
    }
    let (code, words) = said(client.calls.get_flight_info(FlightDescriptor::new_path(vec!["shots".to_owned()])).await.err());
    assert!(code == Code::InvalidArgument && words.contains("a path names nothing"), "{words}");
    let (code, words) = said(client.calls.do_put(futures::stream::iter([FlightData::default()])).await.err());
    assert!(code == Code::InvalidArgument && words.contains("has no command"), "{words}");
    Ok(())
}

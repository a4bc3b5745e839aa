//! Many requests of all kinds from many connections, after which a server holds what it held before: no memory, no task.
//!
//! The clients are another process, so that the heap that is measured is the server's alone. `LACUS_SOAK_REQUESTS` says how many requests from
//! how many connections, such as `10000,64`. What was planned and never fetched is cancelled before anything is measured; with
//! `LACUS_SOAK_WAITS` it is not, but waited for until it is let go.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetTables, SqlInfo};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightInfo};
use futures::future::try_join_all;
use lacus::arrow::array::{Int64Array, RecordBatch};
use lacus::{Config, Engine, TryStreamExt};
use lacus_server::Server;
use peak_alloc::PeakAlloc;
use prost::Message;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tonic::transport::Channel;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How long a plan waits to be fetched, and how often those are let go that waited for longer.
const FORGOTTEN: Duration = Duration::from_secs(300 + 15 + 5);
/// A query that ends only when it is cancelled.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(x) WHERE x % 7 = 9";
/// After so many the server has everything that it keeps.
const WARM: usize = 1000;
/// How long what was cancelled may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the heap is told on the way.
const STEPS: usize = 6;
/// What may be left of the heap after the rest: a part of what was there before.
const GROWTH: f64 = 0.05;
/// What a request may leave in a short run, such as the queries that have ended, of which a thousand are remembered. A plan takes far more.
const REMEMBERED: usize = 4000;

type Client = FlightSqlServiceClient<Channel>;

struct Load {
    uri: String,
    /// What was planned and is never fetched.
    abandoned: Mutex<Vec<FlightInfo>>,
    kinds: [Counted; 11],
}

/// How many requests of a kind there were, and the milliseconds that they took.
#[derive(Debug, Default)]
struct Counted {
    requests: AtomicUsize,
    milliseconds: AtomicUsize,
}

async fn fetched(client: &mut Client, info: FlightInfo) -> Result<usize> {
    let mut rows = 0;
    for endpoint in info.endpoint {
        let mut batches = client.do_get(endpoint.ticket.ok_or("no ticket")?).await?;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
        }
    }
    Ok(rows)
}

async fn asked(client: &mut Client, sql: &str) -> Result<usize> {
    let info = client.execute(sql.to_owned(), None).await?;
    fetched(client, info).await
}

fn expect(is_so: bool, what: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(what.into()) }
}

impl Load {
    async fn one(&self, client: &mut Client, kind: usize) -> Result<()> {
        let begun = tokio::time::Instant::now();
        self.ask(client, kind).await.map_err(|error| format!("a request of kind {kind}: {error}"))?;
        self.kinds[kind].requests.fetch_add(1, Ordering::Relaxed);
        self.kinds[kind].milliseconds.fetch_add(begun.elapsed().as_millis() as usize, Ordering::Relaxed);
        Ok(())
    }

    async fn ask(&self, client: &mut Client, kind: usize) -> Result<()> {
        match kind {
            0 => expect(asked(client, "SELECT value, value % 7 AS k FROM generate_series(1, 20000)").await? == 20_000, "rows are missing"),
            1 => {
                let sql =
                    "SELECT value % 1000 AS k, count(*), max(md5(value::varchar)) FROM generate_series(1, 20000) GROUP BY 1 ORDER BY 1";
                expect(asked(client, sql).await? == 1000, "groups are missing")
            }
            2 => {
                let mut statement = client.prepare("SELECT $1 + 1 AS x".to_owned(), None).await?;
                statement.set_parameters(RecordBatch::try_from_iter([("1", Arc::new(Int64Array::from(vec![41])) as _)])?)?;
                let info = statement.execute().await?;
                expect(fetched(client, info).await? == 1, "no answer")?;
                Ok(statement.close().await?)
            }
            3 => {
                let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
                let info = client.get_tables(command).await?;
                fetched(client, info).await?;
                let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await?;
                expect(fetched(client, info).await? == 1, "no name")
            }
            4 => expect(asked(client, "SELECT nosuch FROM nowhere").await.is_err(), "a mistake was answered"),
            5 => {
                let sql = "SELECT 100 / (value - 9000) FROM generate_series(1, 10000)";
                expect(asked(client, sql).await.is_err(), "a division by zero was answered")
            }
            6 => {
                let info = client.execute("SELECT 1".to_owned(), None).await?;
                self.abandoned.lock().await.push(info);
                Ok(())
            }
            7 => {
                // A reader that goes away.
                let info = client.execute(LONG.to_owned(), None).await?;
                let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).ok_or("no ticket")?;
                let mut batches = client.do_get(ticket).await?;
                let read = tokio::time::timeout(Duration::from_millis(50), batches.try_next()).await;
                // An empty batch says that it goes on.
                expect(!matches!(read, Ok(Ok(Some(batch))) if batch.num_rows() > 0), "it ended")
            }
            8 => {
                let name = format!("t{:016x}", rand::random::<u64>());
                client.execute_update(format!("CREATE TEMPORARY TABLE {name} AS SELECT value FROM generate_series(1, 1000)"), None).await?;
                expect(client.execute_update(format!("INSERT INTO {name} VALUES (1), (2)"), None).await? == 2, "a wrong count")?;
                client.execute_update(format!("DROP TABLE {name}"), None).await?;
                Ok(())
            }
            9 => {
                client.execute_update("SET datafusion.execution.time_zone = '+05:00'".to_owned(), None).await?;
                client.execute_update("RESET datafusion.execution.time_zone".to_owned(), None).await?;
                Ok(())
            }
            _ => {
                // A connection of its own, with a session of its own.
                let mut other = FlightSqlServiceClient::new(Channel::from_shared(self.uri.clone())?.connect().await?);
                other.execute_update("CREATE TEMPORARY TABLE own (x BIGINT)".to_owned(), None).await?;
                expect(asked(&mut other, "SELECT * FROM own").await? == 0, "rows from nowhere")
            }
        }
    }

    async fn many(&self, clients: &mut [Client], requests: usize, seed: u64) -> Result<()> {
        let left = AtomicUsize::new(requests);
        let work = clients.iter_mut().enumerate().map(|(place, client)| {
            let left = &left;
            async move {
                let mut chance = rand::rngs::StdRng::seed_from_u64(seed + place as u64);
                // Each connection asks one of each kind before it asks by chance, so that its buffers are as large as they get.
                let mut first = (0..self.kinds.len()).cycle().skip(place).take(self.kinds.len());
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let kind = first.next().unwrap_or_else(|| chance.random_range(0..self.kinds.len()));
                    self.one(client, kind).await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }
        });
        try_join_all(work).await?;
        Ok(())
    }

    async fn cancel_abandoned(&self, client: &mut Client) -> Result<()> {
        for info in std::mem::take(&mut *self.abandoned.lock().await) {
            let action = Action::new("CancelFlightInfo", CancelFlightInfoRequest::new(info).encode_to_vec());
            client.inner_mut().do_action(action).await?.into_inner().try_collect::<Vec<_>>().await?;
        }
        Ok(())
    }
}

/// What the process of the clients is told by a line each, which it answers by a line when it is done.
const ASK: &str = "ask";
const CANCEL: &str = "cancel";
const TELL: &str = "tell";
/// Where the clients find the server, and how many connections they make.
const CLIENTS: &str = "LACUS_SOAK_CLIENTS_OF";

/// The clients, when the test has started itself for them; otherwise it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn clients() -> Result<()> {
    let Ok(of) = std::env::var(CLIENTS) else { return Ok(()) };
    let (connections, uri) = of.split_once(' ').ok_or("the clients are told CONNECTIONS and a URI")?;
    let load = Load { uri: uri.to_owned(), abandoned: Mutex::default(), kinds: Default::default() };
    let connect = || async { Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Channel::from_shared(uri.to_owned())?.connect().await?) };
    let channels = try_join_all((0..connections.parse()?).map(|_| connect())).await?;
    let mut clients: Vec<Client> = channels.into_iter().map(FlightSqlServiceClient::new).collect();
    // It is this test's own thread that waits for a line: the connections live on others.
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            [ASK, requests, seed] => load.many(&mut clients, requests.parse()?, seed.parse()?).await?,
            [CANCEL] => load.cancel_abandoned(&mut clients[0]).await?,
            [TELL] => {
                for (kind, counted) in load.kinds.iter().enumerate() {
                    let (count, milliseconds) = (counted.requests.load(Ordering::Relaxed), counted.milliseconds.load(Ordering::Relaxed));
                    let each = milliseconds.checked_div(count).ok_or("there was no request of a kind")?;
                    println!("kind {kind}: {count} requests, {each} ms each");
                }
            }
            _ => return Err(line.into()),
        }
        println!("{DONE}");
    }
    Ok(())
}

/// What the clients answer.
const DONE: &str = "done";

struct Clients {
    lines: Lines<BufReader<ChildStdout>>,
    told: ChildStdin,
    /// What they tell of each kind of request.
    heard: Vec<String>,
    _process: Child,
}

impl Clients {
    fn of(uri: &str, connections: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["clients", "--exact", "--nocapture"]).env(CLIENTS, format!("{connections} {uri}"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (told, said) = (process.stdin.take().ok_or("no input")?, process.stdout.take().ok_or("no output")?);
        Ok(Self { lines: BufReader::new(said).lines(), told, heard: Vec::new(), _process: process })
    }

    async fn told(&mut self, what: &str) -> Result<()> {
        self.told.write_all(format!("{what}\n").as_bytes()).await?;
        loop {
            let line = self.lines.next_line().await?.ok_or("the clients ended: their errors are above")?;
            if line == DONE {
                return Ok(());
            }
            self.heard.extend(line.starts_with("kind").then_some(line));
        }
    }

    /// Waits until nothing runs and nothing waits to be fetched.
    async fn quiet(&mut self, engine: &Engine, waits: bool) -> Result<()> {
        if waits {
            tokio::time::sleep(FORGOTTEN).await;
        } else {
            self.told(CANCEL).await?;
        }
        let begun = tokio::time::Instant::now();
        while engine.memory_held() > 0 {
            expect(begun.elapsed() < PATIENCE, "memory is held by what was cancelled")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }
}

/// Flight SQL: 2, 3, 6, 8, 15, 19, 32
#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_as_it_began() -> Result<()> {
    let asked = std::env::var("LACUS_SOAK_REQUESTS").unwrap_or_else(|_| "600,8".to_owned());
    let (requests, connections) = asked.split_once(',').ok_or("LACUS_SOAK_REQUESTS is REQUESTS,CONNECTIONS")?;
    let (requests, connections): (usize, usize) = (requests.parse()?, connections.parse()?);
    let (warm, waits) = (WARM.min(requests / 2), std::env::var_os("LACUS_SOAK_WAITS").is_some());
    let folder = tempfile::tempdir()?;
    let engine = Config::discover(folder.path())?.engine()?;
    let server = Server::bind("127.0.0.1:0").await?;
    let uri = server.uri().replace("grpc://", "http://");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(engine.clone(), async move {
        let _ = stopped.await;
    }));
    let mut clients = Clients::of(&uri, connections)?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();

    clients.told(&format!("{ASK} {warm} 1")).await?;
    clients.quiet(&engine, waits).await?;
    let (heap, alive) = (HEAP.current_usage(), tasks());
    let step = ((requests - warm) / STEPS).max(1);
    for (number, start) in (warm..requests).step_by(step).enumerate() {
        clients.told(&format!("{ASK} {} {}", step.min(requests - start), 1_000_000 * (number + 1))).await?;
        if !waits {
            clients.quiet(&engine, waits).await?;
        }
        println!("heap: {} bytes after {}, and {} tasks", HEAP.current_usage(), requests.min(start + step), tasks());
    }
    clients.quiet(&engine, waits).await?;
    let (heap_after, alive_after) = (HEAP.current_usage(), tasks());

    println!("{requests} requests from {connections} connections");
    clients.told(TELL).await?;
    println!("{}", clients.heard.join("\n"));
    println!("heap: {heap} bytes after {warm}, {heap_after} at the end ({:+.1}%)", 100. * (heap_after as f64 / heap as f64 - 1.));
    println!("tasks: {alive} after {warm}, {alive_after} at the end");
    assert!(alive_after <= alive, "{alive_after} tasks are left, {alive} were there");
    // A short run has not remembered as many ended queries as it will, which is a bounded list.
    let remembered = if warm < WARM { (requests - warm) * REMEMBERED } else { 0 };
    let most = (heap as f64 * (1. + GROWTH)) as usize + remembered;
    assert!(heap_after < most, "{heap_after} bytes are left, {heap} were there");

    // A stop drains: what runs ends as it would.
    let mut client = FlightSqlServiceClient::new(Channel::from_shared(uri)?.connect().await?);
    let info = client.execute("SELECT count(*) FROM generate_series(1, 3000000) AS a(x) WHERE x % 3 = 0".to_owned(), None).await?;
    let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).ok_or("no ticket")?;
    let draining = client.do_get(ticket).await?;
    let _ = stop.send(());
    assert_eq!(draining.try_collect::<Vec<_>>().await?.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    drop((client, clients));
    tokio::time::timeout(PATIENCE, serving).await???;
    Ok(())
}

//! Memory, spill, deadline, cancelling.

use std::sync::Arc;
use std::time::Duration;

use lacus::datafusion::datasource::MemTable;
use lacus::{Kind, Limits, Principal, StoreSpec, TryStreamExt};
use lacus_testbed::{Fault, S3Server};

use crate::parquet_file::numbers;
use crate::{TestResult, ask, batches, bucket, engine, eventually, failure, limited};

fn small(memory: usize) -> Result<(Limits, tempfile::TempDir), std::io::Error> {
    let folder = tempfile::tempdir()?;
    let limits = Limits {
        memory,
        spill_directory: Some(folder.path().to_owned()),
        spill: 1 << 30,
        deadline: Duration::from_secs(120),
        ..Limits::default()
    };
    Ok((limits, folder))
}

/// How many files lie in a spill folder, beside locks.
fn files_in(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => files_in(&path),
        path if path.ends_with("lock") || path.extension().is_some_and(|ending| ending == "lock") => 0,
        _ => 1,
    };
    entries.flatten().map(count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_larger_than_memory_spills_and_cleans_up() -> TestResult {
    let (limits, folder) = small(48 << 20)?;
    let engine = limited(Vec::new(), limits)?;
    let sql = "SELECT max(rank) FROM (SELECT row_number() OVER (ORDER BY md5(value::varchar)) AS rank, value FROM generate_series(1, 600000) AS t(value))";
    assert_eq!(ask(&engine, sql).await?, "600000");
    assert_eq!(engine.memory_held(), 0);
    assert_eq!(files_in(folder.path()), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_is_an_error_that_says_so() -> TestResult {
    let (limits, _folder) = small(1 << 20)?;
    let engine = limited(Vec::new(), limits)?;
    let sql = "SELECT length(string_agg(md5(value::varchar), ',')) FROM generate_series(1, 500000) AS t(value)";
    let error = failure(&engine, sql).await;
    assert_eq!(error.kind(), Kind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("raise `memory` under [limits]"), "{error}");
    eventually("memory is given back", || engine.memory_held() == 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spill_folder_is_an_error_that_says_so() -> TestResult {
    let (mut limits, _folder) = small(40 << 20)?;
    limits.spill = 1 << 20;
    let engine = limited(Vec::new(), limits)?;
    let error = failure(&engine, "SELECT md5(value::varchar) AS h, value FROM generate_series(1, 2000000) AS t(value) ORDER BY h").await;
    assert_eq!(error.kind(), Kind::LimitExceeded, "{error}");
    Ok(())
}

/// apache/datafusion#24883: under a memory limit, a grouped aggregation on several partitions can deadlock. The query and sizes:
/// whether it deadlocks or not, it ends by its deadline, and the next query finds its memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_spilling_aggregation_ends_by_its_deadline() -> TestResult {
    const ATTEMPTS: usize = 12;
    let unlimited = engine(Vec::new())?;
    let sql = "SELECT v % 13 AS g, md5(CAST(v % 337 AS varchar)) AS trace_id FROM generate_series(1, 40000) AS s(v)";
    let rows = batches(&unlimited, sql, &[]).await?;
    let small_batches =
        rows.iter().flat_map(|batch| (0..batch.num_rows()).step_by(64).map(|start| batch.slice(start, 64.min(batch.num_rows() - start))));
    let table = Arc::new(MemTable::try_new(rows[0].schema(), vec![small_batches.collect()])?);
    let (mut limits, _folder) = small(2 << 20)?;
    limits.deadline = Duration::from_secs(5);
    let engine = limited(Vec::new(), limits)?;
    engine.register("t", table)?;
    for _ in 0..ATTEMPTS {
        let asked = ask(&engine, "SELECT g, count(DISTINCT trace_id) AS n FROM t GROUP BY g ORDER BY g LIMIT 1");
        match tokio::time::timeout(Duration::from_secs(60), asked).await.map_err(|_| "the query neither ended nor met its deadline")? {
            Ok(answer) => assert_eq!(answer, "0,337"),
            Err(error) => assert!([Kind::DeadlineExceeded, Kind::LimitExceeded].contains(&error.kind()), "{error}"),
        }
        eventually("memory is given back", || engine.memory_held() == 0).await?;
    }
    Ok(())
}

/// Everything that the engine started has ended: its tasks on this runtime, its reads on the server.
async fn all_is_quiet(server: &S3Server, before: usize) -> TestResult {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // Connections stay open for reuse, each with a task of its own on either side.
    const CONNECTIONS: usize = 40;
    eventually("tasks end", || tasks() <= before + CONNECTIONS).await?;
    let mut sent = server.faults().sent();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = server.faults().sent();
        if now == sent {
            return Ok(());
        }
        sent = now;
    }
    Err("bytes are still sent".into())
}

/// A store whose one object takes minutes to read, with the patience to wait for it, and the object's size.
async fn slow_lab() -> Result<(S3Server, StoreSpec, u64), Box<dyn std::error::Error + Send + Sync>> {
    let server = S3Server::start().await?;
    let file = numbers(0, 20_000, 1000)?;
    let size = file.len() as u64;
    server.put("data", "a.parquet", file).await?;
    let store = StoreSpec { timeout: Duration::from_secs(60), ..bucket("lab", &server, "data")? };
    Ok((server, store, size))
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_stops_tasks_and_reads() -> TestResult {
    let (server, store, size) = slow_lab().await?;
    let engine = engine(vec![store])?;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let query = engine.query("SELECT text, n FROM 'lab:a.parquet' ORDER BY text", &[], &Principal::owner()).await?;
    server.faults().inject("a.parquet", Fault::Trickle(Duration::from_millis(100)), 1000);
    let sent = server.faults().sent();
    let mut stream = query.stream()?;
    let reading = tokio::time::timeout(Duration::from_secs(2), stream.try_next()).await;
    assert!(reading.is_err(), "the read was to be slow");
    drop(stream);
    all_is_quiet(&server, before).await?;
    assert!(server.faults().sent() - sent < size, "everything was read all the same");
    assert_eq!(engine.memory_held(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_stops_tasks_and_reads() -> TestResult {
    let (server, store, size) = slow_lab().await?;
    let (mut limits, _folder) = small(1 << 30)?;
    limits.deadline = Duration::from_secs(3);
    let engine = limited(vec![store], limits)?;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let query = engine.query("SELECT text, n FROM 'lab:a.parquet' ORDER BY text", &[], &Principal::owner()).await?;
    server.faults().inject("a.parquet", Fault::Trickle(Duration::from_millis(100)), 1000);
    let sent = server.faults().sent();
    let ended: lacus::Result<Vec<_>> = query.stream()?.try_collect().await;
    let error = ended.err().ok_or("the query gave an answer")?;
    assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
    assert!(error.to_string().contains("raise `deadline` under [limits]"));
    all_is_quiet(&server, before).await?;
    assert!(server.faults().sent() - sent < size, "everything was read all the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_stops_tasks_and_reads() -> TestResult {
    let (server, store, size) = slow_lab().await?;
    let engine = engine(vec![store])?;
    let door = lacus_server::Server::bind("127.0.0.1:0").await?;
    let uri = door.uri();
    let serving = tokio::spawn(door.serve(engine.clone(), std::future::pending()));
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let query = lacus_remote::Remote::connect(&uri).await?.query("SELECT text, n FROM 'lab:a.parquet' ORDER BY text", &[]).await?;
    server.faults().inject("a.parquet", Fault::Trickle(Duration::from_millis(100)), 1000);
    let sent = server.faults().sent();
    let mut stream = query.stream()?;
    let reading = tokio::time::timeout(Duration::from_secs(2), stream.try_next()).await;
    assert!(reading.is_err(), "the read was to be slow");
    drop(stream);
    all_is_quiet(&server, before).await?;
    assert!(server.faults().sent() - sent < size, "everything was read all the same");
    eventually("memory is given back", || engine.memory_held() == 0).await?;
    serving.abort();
    Ok(())
}

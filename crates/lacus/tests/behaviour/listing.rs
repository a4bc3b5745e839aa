//! Listings that later queries take for true, where the store says for how long.

use std::sync::Arc;
use std::time::Duration;

use lacus::{CacheSpec, Engine, Kind, StoreSpec, Stores, Unnamed, register_defaults};
use lacus_testbed::S3Server;

use crate::parquet_file::numbers;
use crate::{TestResult, ask, bucket, failure};

const LONG: Duration = Duration::from_secs(3600);
const SUM: &str = "SELECT count(n), min(n + 0) FROM 'lab:x/*.parquet'";
const GRID: &str = "SELECT CAST(value % 4 AS DOUBLE) AS x, CAST(value / 4 AS DOUBLE) AS y, value AS z FROM generate_series(0, 15)";

fn trusting(server: &S3Server, listing_ttl: Duration, cache: Option<CacheSpec>) -> Result<Engine, lacus::Error> {
    let lab = StoreSpec { listing_ttl, writable: true, ..bucket("lab", server, "data")? };
    let stores = Stores::new("/", Unnamed::anonymous(), vec![lab]).with_cache(cache);
    register_defaults(Engine::builder(Arc::new(stores))).build()
}

async fn lab() -> Result<S3Server, Box<dyn std::error::Error + Send + Sync>> {
    let server = S3Server::start().await?;
    server.put("data", "x/a.parquet", numbers(0, 10, 8)?).await?;
    server.put("data", "x/b.parquet", numbers(10, 10, 8)?).await?;
    Ok(server)
}

/// How many requests a query makes, and its answer.
async fn requests(server: &S3Server, engine: &Engine, sql: &str) -> Result<(u64, String), lacus::Error> {
    let before = server.faults().requests();
    let answer = ask(engine, sql).await?;
    Ok((server.faults().requests() - before, answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_cache_a_later_query_asks_for_nothing() -> TestResult {
    let (server, folder) = (lab().await?, tempfile::tempdir()?);
    // The test server's listings tell no entity tags: an object is kept once its time can't be that of a later change.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let cache = CacheSpec { folder: folder.path().to_owned(), bytes: 64 << 20 };
    let engine = trusting(&server, LONG, Some(cache))?;
    let (first, rows) = requests(&server, &engine, SUM).await?;
    assert!(first > 1 && rows == "20,0", "{first} {rows}");
    // The first query has the bytes of files so small from reading their footers, by a request that knows no version yet.
    let (second, _) = requests(&server, &engine, SUM).await?;
    assert!(second <= 2, "{second}");
    assert_eq!(requests(&server, &engine, SUM).await?, (0, rows));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_is_seen_after_the_time_or_a_refresh() -> TestResult {
    let server = lab().await?;
    let engine = trusting(&server, LONG, None)?;
    ask(&engine, "CREATE EXTERNAL TABLE shots STORED AS PARQUET LOCATION 'lab:x/'").await?;
    let sql = "SELECT count(n) FROM shots";
    assert_eq!(ask(&engine, sql).await?, "20");
    server.put("data", "x/c.parquet", numbers(20, 10, 8)?).await?;
    assert_eq!(ask(&engine, sql).await?, "20");
    ask(&engine, "REFRESH shots").await?;
    assert_eq!(ask(&engine, sql).await?, "30");
    let short = trusting(&server, Duration::from_millis(20), None)?;
    assert_eq!(ask(&short, SUM).await?, "30,0");
    server.put("data", "x/d.parquet", numbers(30, 10, 8)?).await?;
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(ask(&short, SUM).await?, "40,0");
    Ok(())
}

/// An object that is not what the listing says is an error that names it, once: the next query lists again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_object_is_an_error_and_then_read() -> TestResult {
    let server = lab().await?;
    let engine = trusting(&server, LONG, None)?;
    assert_eq!(ask(&engine, SUM).await?, "20,0");
    server.put("data", "x/a.parquet", numbers(5, 9, 300)?).await?;
    let error = failure(&engine, SUM).await;
    assert!(error.kind() == Kind::ObjectChanged && error.message().contains("`lab:x/a.parquet`"), "{error}");
    assert_eq!(ask(&engine, SUM).await?, "19,5");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_writes_itself_is_seen_at_once() -> TestResult {
    let server = lab().await?;
    let engine = trusting(&server, LONG, None)?;
    let copy = |name: &str| format!("COPY ({GRID}) TO 'lab:grids/{name}.nc' OPTIONS (dims 'y,x')");
    let sql = "SELECT count(z) FROM 'lab:grids/*.nc'";
    for (count, name) in [("16", "a"), ("32", "b")] {
        ask(&engine, &copy(name)).await?;
        assert_eq!(ask(&engine, sql).await?, count);
    }
    Ok(())
}

/// A fresh look at an object that a kept listing names in another version is an error, not a mixture.
#[tokio::test(flavor = "multi_thread")]
async fn versions_are_not_mixed_within_a_query() -> TestResult {
    let server = lab().await?;
    let engine = trusting(&server, LONG, None)?;
    assert_eq!(ask(&engine, SUM).await?, "20,0");
    server.put("data", "x/a.parquet", numbers(5, 10, 300)?).await?;
    let both = "SELECT count(*) FROM 'lab:x/*.parquet' AS listed, 'lab:x/a.parquet' AS single WHERE listed.n = single.n";
    let error = failure(&engine, both).await;
    assert!(error.kind() == Kind::ObjectChanged && error.message().contains("`lab:x/a.parquet`"), "{error}");
    // 5..15 and 10..20 beside 5..15.
    assert_eq!(ask(&engine, both).await?, "15");
    Ok(())
}

/// A store that is replaced by another of its name is listed anew, and so is what is kept of its small objects by version.
#[tokio::test(flavor = "multi_thread")]
async fn another_store_of_the_name_is_another_store() -> TestResult {
    let server = lab().await?;
    server.put("other", "x/a.parquet", numbers(100, 3, 8)?).await?;
    let engine = trusting(&server, LONG, None)?;
    assert_eq!(ask(&engine, SUM).await?, "20,0");
    engine.stores().add(StoreSpec { listing_ttl: LONG, ..bucket("lab", &server, "other")? });
    assert_eq!(ask(&engine, SUM).await?, "3,100");
    Ok(())
}

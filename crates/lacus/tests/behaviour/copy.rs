//! COPY: what is written reads back as what it was; what isn't written to its end leaves nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lacus::arrow::array::AsArray;
use lacus::arrow::datatypes::UInt64Type;
use lacus::{Engine, Kind, Limits, Place, Principal, StoreName, StoreSpec, register_defaults};
use lacus_testbed::S3Server;

use crate::{TestResult, ask, batches, bucket, engine, eventually, failure, limited, stores};

const CLIMATE: &str = "OPTIONS (dims 'time,lat,lon')";

fn folder(name: &str, path: &Path, writable: bool) -> lacus::Result<StoreSpec> {
    Ok(StoreSpec { writable, ..StoreSpec::new(StoreName::new(name)?, Place::Folder(path.to_owned())) })
}

fn testdata() -> lacus::Result<StoreSpec> {
    folder("data", &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/arrays"), false)
}

/// A lake of test data and a folder that can be written.
fn lake() -> Result<(Engine, tempfile::TempDir), Box<dyn std::error::Error + Send + Sync>> {
    let out = tempfile::tempdir()?;
    Ok((engine(vec![testdata()?, folder("out", out.path(), true)?])?, out))
}

fn files_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

/// Whether two queries give the same rows.
async fn same(engine: &Engine, left: &str, right: &str) -> TestResult {
    for (left, right) in [(left, right), (right, left)] {
        let differing = ask(engine, &format!("SELECT count(*) FROM ({left} EXCEPT {right})")).await?;
        assert_eq!(differing, "0", "{left} EXCEPT {right}");
        assert_ne!(ask(engine, &format!("SELECT count(*) FROM ({left})")).await?, "0");
    }
    Ok(())
}

/// The unit, the unit of times and the calendar of each column.
async fn units(engine: &Engine, sql: &str) -> lacus::Result<Vec<(String, String, [Option<String>; 4])>> {
    let schema = engine.query(sql, &[], &Principal::owner()).await?.schema();
    let keys = ["units", "cf_units", "calendar", "standard_name"];
    let of = |field: &lacus::arrow::datatypes::FieldRef| {
        let metadata = keys.map(|key| field.metadata().get(key).cloned());
        (field.name().clone(), field.data_type().to_string(), metadata)
    };
    Ok(schema.fields().iter().map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_arrays_survives_zarr_and_netcdf() -> TestResult {
    let server = S3Server::start().await?;
    server.make_bucket("data")?;
    let out = tempfile::tempdir()?;
    let lab = StoreSpec { writable: true, ..bucket("lab", &server, "data")? };
    let engine = engine(vec![lab, testdata()?, folder("out", out.path(), true)?])?;
    let source = "SELECT * FROM 'data:climate.nc'";
    assert_eq!(ask(&engine, &format!("COPY ({source}) TO 'lab:x/climate.zarr' {CLIMATE}")).await?, "1728");
    assert_eq!(ask(&engine, &format!("COPY 'lab:x/climate.zarr' TO 'out:deep/climate.nc' {CLIMATE}")).await?, "1728");
    assert_eq!(ask(&engine, &format!("COPY (SELECT * FROM 'out:deep/climate.nc') TO 'lab:again.nc' {CLIMATE}")).await?, "1728");
    for copy in ["lab:x/climate.zarr", "out:deep/climate.nc", "lab:again.nc"] {
        let copy = format!("SELECT * FROM '{copy}'");
        same(&engine, source, &copy).await?;
        assert_eq!(units(&engine, source).await?, units(&engine, &copy).await?);
    }
    assert_eq!(engine.memory_held(), 0);
    Ok(())
}

/// Rows in any order; cells without a row are NULL; every type comes back.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_come_back_with_their_gaps() -> TestResult {
    let (engine, _out) = lake()?;
    let rows = "SELECT site, n, CASE WHEN n = 2 THEN NULL ELSE n * 1.5e0 END AS f, arrow_cast(n, 'Int16') - 32769 AS i16, \
                arrow_cast(n + 253, 'UInt8') AS u8, arrow_cast(n * 2e9, 'UInt32') AS u32, n * 4611686018427387904 / 2 AS i64, \
                arrow_cast(9223372036854775808 + n, 'UInt64') AS u64, 'é' || site AS name, n > 1 AS flag, \
                CASE WHEN n = 1 THEN NULL ELSE to_timestamp_micros(n * 1500000) END AS t, to_date('2020-01-01') + n::int AS d \
                FROM (VALUES ('b', 2), ('a', 0), ('b', 1), ('a', 2)) AS v(site, n)";
    let shown = "site, n, f, i16, u8, u32, i64, u64, name, flag::int AS flag, t, d::timestamp AS d";
    for target in ["out:types.zarr", "out:types.nc"] {
        assert_eq!(ask(&engine, &format!("COPY ({rows}) TO '{target}' OPTIONS (dims 'site, n')")).await?, "4");
        assert_eq!(ask(&engine, &format!("SELECT count(*), count(f), count(i16), count(t) FROM '{target}'")).await?, "6,2,4,3");
        let written = format!("SELECT {shown} FROM '{target}' WHERE i16 IS NOT NULL");
        same(&engine, &format!("SELECT {shown} FROM ({rows})"), &written).await?;
        assert_eq!(ask(&engine, &format!("SELECT DISTINCT site FROM '{target}' ORDER BY site")).await?, "a\nb");
    }
    Ok(())
}

/// Without missing values, a value that readers would take for the default fill stays a value.
#[tokio::test(flavor = "multi_thread")]
async fn default_fills_among_the_values_stay_values() -> TestResult {
    let (engine, _out) = lake()?;
    let rows = "SELECT x, arrow_cast(x - 32767, 'Int16') AS v FROM (VALUES (0), (1)) AS t(x)";
    ask(&engine, &format!("COPY ({rows}) TO 'out:v.nc' OPTIONS (dims 'x')")).await?;
    assert_eq!(ask(&engine, "SELECT v FROM 'out:v.nc' ORDER BY x").await?, "-32767\n-32766");
    Ok(())
}

/// More than one part of an upload, and chunks that don't divide the array.
#[tokio::test(flavor = "multi_thread")]
async fn large_grids_are_written_in_parts() -> TestResult {
    let server = S3Server::start().await?;
    server.make_bucket("data")?;
    let engine = engine(vec![StoreSpec { writable: true, timeout: Duration::from_secs(20), ..bucket("lab", &server, "data")? }])?;
    let rows = "SELECT value / 1000 AS y, value % 1000 AS x, value * 0.5e0 AS v, value AS w FROM generate_series(0, 1234999) AS t(value)";
    for target in ["lab:big.nc", "lab:big.zarr"] {
        assert_eq!(ask(&engine, &format!("COPY ({rows}) TO '{target}' OPTIONS (dims 'y,x')")).await?, "1235000");
        let sums = "sum(v), sum(w), count(*), sum(v * x), sum(w * y % 7)";
        assert_eq!(
            ask(&engine, &format!("SELECT {sums} FROM '{target}'")).await?,
            ask(&engine, &format!("SELECT {sums} FROM ({rows})")).await?
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_written_says_why_and_leaves_nothing() -> TestResult {
    let (engine, out) = lake()?;
    let twice = "SELECT * FROM (VALUES (1, 1, 'p'), (1, 1, 'q'), (1, 2, 'r')) AS t(x, y, v)";
    for (sql, kind, said) in [
        (
            format!("COPY ({twice}) TO 'out:a.zarr' OPTIONS (dims 'x,y')"),
            Kind::InvalidQuery,
            "several rows have x = 1 and y = 1, and 1 of 3",
        ),
        (format!("COPY ({twice}) TO 'out:a.nc'"), Kind::InvalidQuery, "OPTIONS (dims 'x,y'), for example; the columns are `x`, `y`, `v`"),
        (format!("COPY ({twice}) TO 'out:a.nc' OPTIONS (dims 'x,latt')"), Kind::InvalidQuery, "`latt`, which is no column"),
        (format!("COPY ({twice}) TO 'out:a.nc' OPTIONS (dim 'x')"), Kind::InvalidQuery, "did you mean `dims`?"),
        (format!("COPY ({twice}) TO 'out:a.parquet' OPTIONS (dims 'x')"), Kind::InvalidQuery, "no option `dims` of COPY to parquet"),
        (format!("COPY ({twice}) TO 'out:a.xlsx'"), Kind::Unsupported, "netcdf, zarr, parquet, csv, json, arrow"),
        (format!("COPY ({twice}) TO 'out:a' STORED AS orc"), Kind::Unsupported, "netcdf, zarr, parquet, csv, json, arrow"),
        (format!("COPY ({twice}) TO 'data:a.nc' OPTIONS (dims 'x')"), Kind::PermissionDenied, "`writable = true` under [store.data]"),
        (format!("COPY ({twice}) TO '/tmp/a.nc' OPTIONS (dims 'x')"), Kind::PermissionDenied, "declare a [store.NAME]"),
        (format!("COPY ({twice}) TO 's3://b/a.nc' OPTIONS (dims 'x')"), Kind::PermissionDenied, "lies in no store"),
        (format!("COPY ({twice}) TO 'a.nc' OPTIONS (dims 'x')"), Kind::PermissionDenied, "`write_to = \"STORE\"` under [lake]"),
        (format!("COPY ({twice}) TO 'outt:a.nc' OPTIONS (dims 'x')"), Kind::NotFound, "did you mean `out`?"),
        (format!("COPY ({twice}) TO 'out:../a.nc' OPTIONS (dims 'x')"), Kind::InvalidQuery, "can't be written"),
        (format!("COPY ({twice}) TO 'out:*.nc' OPTIONS (dims 'x')"), Kind::InvalidQuery, "pattern"),
        (format!("COPY (SELECT * FROM ({twice}) WHERE x > 5) TO 'out:a.nc' OPTIONS (dims 'x')"), Kind::InvalidQuery, "no rows"),
        ("COPY (SELECT 1 AS x, [1] AS l) TO 'out:a.nc' OPTIONS (dims 'x')".to_owned(), Kind::Unsupported, "unnest(l)"),
        ("COPY (SELECT NULL::int AS x, 1 AS l) TO 'out:a.nc' OPTIONS (dims 'x')".to_owned(), Kind::InvalidQuery, "WHERE x IS NOT NULL"),
        ("EXPLAIN COPY (SELECT 1) TO 'out:a.nc'".to_owned(), Kind::Unsupported, "explain the query inside"),
    ] {
        let error = failure(&engine, &sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.to_string().contains(said), "{sql}: {error}");
    }
    assert_eq!(files_in(out.path()), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten() -> TestResult {
    let (engine, out) = lake()?;
    for target in ["out:a.nc", "out:a.zarr"] {
        let sql = format!("COPY (SELECT 1 AS x, 2 AS v) TO '{target}' OPTIONS (dims 'x')");
        assert_eq!(ask(&engine, &sql).await?, "1");
        let before = files_in(out.path());
        let error = failure(&engine, &sql.replace("2 AS v", "3 AS v")).await;
        assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
        assert!(error.to_string().contains(target) && error.to_string().contains("overwrites nothing"), "{error}");
        assert_eq!(ask(&engine, &format!("SELECT v FROM '{target}'")).await?, "2");
        assert_eq!(files_in(out.path()), before);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_store_goes_where_the_lake_says() -> TestResult {
    let out = tempfile::tempdir()?;
    let text = format!("[lake]\nwrite_to = \"out\"\n[store.out]\nurl = {:?}\nwritable = true", out.path().display().to_string());
    let engine = lacus::Config::parse(&text, out.path().to_owned(), &|_| None)?.engine()?;
    ask(&engine, "COPY (SELECT 1 AS x, 2 AS v) TO './a/b.nc' OPTIONS (dims 'x')").await?;
    assert!(out.path().join("a/b.nc").is_file());
    assert_eq!(ask(&engine, "SELECT v FROM 'out:a/b.nc'").await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_beyond_the_memory_limit_is_refused_by_its_size() -> TestResult {
    let out = tempfile::tempdir()?;
    let limits = Limits { memory: 8 << 20, ..Limits::default() };
    let engine = limited(vec![folder("out", out.path(), true)?], limits)?;
    let rows = "SELECT value AS x, value AS v FROM generate_series(1, 1000000) AS t(value)";
    let error = failure(&engine, &format!("COPY ({rows}) TO 'out:a.zarr' OPTIONS (dims 'x')")).await;
    assert_eq!(error.kind(), Kind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("8.0 MiB"), "{error}");
    let sparse = "SELECT value AS x, value AS y FROM generate_series(1, 20000) AS t(value)";
    let error = failure(&engine, &format!("COPY ({sparse}) TO 'out:a.zarr' OPTIONS (dims 'x,y')")).await;
    assert!(error.kind() == Kind::LimitExceeded && error.to_string().contains("x: 20000, y: 20000"), "{error}");
    assert_eq!(engine.memory_held(), 0);
    assert_eq!(files_in(out.path()), 0);
    Ok(())
}

/// The parts of uploads that were neither completed nor given up.
fn parts_in(root: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().contains("upload")).count()
}

const LARGE: &str = "SELECT value / 1000 AS y, value % 1000 AS x, value AS v, value AS w FROM generate_series(0, 2999999) AS t(value)";

/// Requests that write take a second each, and the query is dropped while the first of them are under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_copy_leaves_nothing() -> TestResult {
    for target in ["lab:big.zarr", "lab:big.nc"] {
        let root = tempfile::tempdir()?;
        let server = S3Server::start_at("127.0.0.1:0", root.path()).await?;
        server.make_bucket("data")?;
        let engine = engine(vec![StoreSpec { writable: true, timeout: Duration::from_secs(20), ..bucket("lab", &server, "data")? }])?;
        let sql = format!("COPY ({LARGE}) TO '{target}' OPTIONS (dims 'y,x')");
        let running = {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, &sql).await })
        };
        let data = root.path().join("data");
        // Whether an object is there already, or only parts that nobody sees, the writing has begun.
        eventually("the writing begins", || server.faults().requests() > 6).await?;
        server.faults().set_delay(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!running.is_finished(), "the copy was to be slow");
        running.abort();
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
        server.faults().set_delay(Duration::ZERO);
        eventually("everything is deleted", || files_in(&data) == 0).await?;
        eventually("memory is given back", || engine.memory_held() == 0).await?;
        let mut before = 0;
        while server.faults().requests() != before {
            before = server.faults().requests();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        assert_eq!(files_in(&data), 0);
        assert_eq!(parts_in(root.path()), 0, "parts of an upload stay");
        // The test server keeps empty folders, and takes them for objects that it can't read.
        std::fs::remove_dir_all(&data)?;
        server.make_bucket("data")?;
        assert_eq!(ask(&engine, &format!("COPY (SELECT 1 AS x, 2 AS v) TO '{target}' OPTIONS (dims 'x')")).await?, "1");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_a_copy() -> TestResult {
    let root = tempfile::tempdir()?;
    let server = S3Server::start_at("127.0.0.1:0", root.path()).await?;
    server.make_bucket("data")?;
    let store = StoreSpec { writable: true, timeout: Duration::from_secs(20), ..bucket("lab", &server, "data")? };
    let engine = limited(vec![store], Limits { deadline: Duration::from_secs(6), ..Limits::default() })?;
    server.faults().set_delay(Duration::from_secs(2));
    let error = failure(&engine, &format!("COPY ({LARGE}) TO 'lab:a.zarr' OPTIONS (dims 'y,x')")).await;
    assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
    server.faults().set_delay(Duration::ZERO);
    eventually("everything is deleted", || files_in(&root.path().join("data")) == 0).await
}

/// A client that goes away cancels its COPY on the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_cancels_a_copy() -> TestResult {
    let root = tempfile::tempdir()?;
    let server = S3Server::start_at("127.0.0.1:0", root.path()).await?;
    server.make_bucket("data")?;
    let engine = engine(vec![StoreSpec { writable: true, timeout: Duration::from_secs(20), ..bucket("lab", &server, "data")? }])?;
    let door = lacus_server::Server::bind("127.0.0.1:0").await?;
    let remote = lacus_remote::Remote::connect(&door.uri()).await?;
    let serving = tokio::spawn(door.serve(engine.clone(), std::future::pending()));
    let sql = format!("COPY ({LARGE}) TO 'lab:big.zarr' OPTIONS (dims 'y,x')");
    let asking = tokio::spawn(async move { remote.query(&sql, &[]).await.map(|_| ()) });
    eventually("the writing begins", || server.faults().requests() > 6).await?;
    server.faults().set_delay(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished(), "the copy was to be slow");
    asking.abort();
    assert!(asking.await.is_err_and(|error| error.is_cancelled()));
    eventually("memory is given back", || engine.memory_held() == 0).await?;
    server.faults().set_delay(Duration::ZERO);
    eventually("everything is deleted", || files_in(&root.path().join("data")) == 0).await?;
    serving.abort();
    Ok(())
}

/// Over Flight SQL it is the same statement with the same answer; a driver's update counts the rows.
#[tokio::test(flavor = "multi_thread")]
async fn copy_works_over_flight() -> TestResult {
    let out = tempfile::tempdir()?;
    let engine = register_defaults(Engine::builder(stores(vec![folder("out", out.path(), true)?]))).build()?;
    let door = lacus_server::Server::bind("127.0.0.1:0").await?;
    let uri = door.uri();
    let serving = tokio::spawn(door.serve(engine.clone(), std::future::pending()));
    let remote = lacus_remote::Remote::connect(&uri).await?;
    let query = remote.query("COPY (SELECT 1 AS x, $1 AS v) TO 'out:a.nc' OPTIONS (dims 'x')", &[7_i64.into()]).await?;
    let answer: Vec<_> = lacus::TryStreamExt::try_collect(query.stream()?).await?;
    assert_eq!(answer[0].column(0).as_primitive::<UInt64Type>().value(0), 1);
    assert_eq!(batches(&engine, "SELECT v FROM 'out:a.nc' WHERE v = 7", &[]).await?.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    serving.abort();
    Ok(())
}

/// A store fails in the middle: the error is the store's, and nothing stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_leaves_nothing() -> TestResult {
    let out = tempfile::tempdir()?;
    let engine = engine(vec![folder("out", out.path(), true)?])?;
    // A name that is too long for a file, in the second column: the first is written by then.
    let long = "n".repeat(300);
    let sql = format!("COPY (SELECT 1 AS x, 2 AS {long}) TO 'out:deep/a.zarr' OPTIONS (dims 'x')");
    let error = failure(&engine, &sql).await;
    assert!(error.to_string().contains("too long"), "{error}");
    eventually("everything is deleted", || !out.path().join("deep").exists()).await
}

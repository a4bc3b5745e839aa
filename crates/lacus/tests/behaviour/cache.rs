//! What is kept of remote stores on local disk: fewer bytes from the server, the same rows.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use lacus::{CacheSpec, Engine, Kind, Principal, Result, StoreSpec, Stores, TryStreamExt, Unnamed, notices_of, register_defaults};
use lacus_testbed::S3Server;

use crate::parquet_file::numbers;
use crate::{TestResult, ask, bucket, failure};

const SUM: &str = "SELECT sum(n), count(text), max(text) > 'a' FROM 'lab:x/a.parquet'";
const ALL: &str = "SELECT sum(n), count(text), max(text) > 'a' FROM 'lab:x/*.parquet'";

/// An engine that keeps blocks in `folder`.
fn caching(folder: &Path, specs: Vec<StoreSpec>) -> Result<Engine> {
    let cache = CacheSpec { folder: folder.to_owned(), bytes: 64 << 20 };
    let stores = Stores::new("/", Unnamed::anonymous(), specs).with_cache(Some(cache));
    register_defaults(Engine::builder(Arc::new(stores))).build()
}

/// The requests and the bytes that the server sends for a query, and its answer.
async fn cost(server: &S3Server, engine: &Engine, sql: &str) -> Result<(u64, u64, String)> {
    let before = (server.faults().requests(), server.faults().sent());
    let answer = ask(engine, sql).await?;
    Ok((server.faults().requests() - before.0, server.faults().sent() - before.1, answer))
}

async fn notices(engine: &Engine, sql: &str) -> Result<Vec<String>> {
    let query = engine.query(sql, &[], &Principal::owner()).await?;
    let notices = notices_of(&query.schema()).map(str::to_owned).collect();
    let _rows: Vec<_> = query.stream()?.try_collect().await?;
    Ok(notices)
}

async fn lab() -> Result<(S3Server, tempfile::TempDir), Box<dyn std::error::Error + Send + Sync>> {
    let server = S3Server::start().await?;
    for (name, first) in [("a", 0), ("b", 4000)] {
        server.put("data", &format!("x/{name}.parquet"), numbers(first, 4000, 300)?).await?;
    }
    Ok((server, tempfile::tempdir()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_query_and_a_new_process_read_from_disk() -> TestResult {
    let (server, folder) = lab().await?;
    let first = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let (_, bytes, rows) = cost(&server, &first, SUM).await?;
    assert!(bytes > 1_000_000 && rows.starts_with("7998000,4000,"), "{bytes} {rows}");
    // What is left is to ask for the version.
    let (requests, bytes, again) = cost(&server, &first, SUM).await?;
    assert!(requests == 1 && bytes < 2000 && again == rows, "{requests} requests, {bytes} bytes");
    let plan = ask(&first, &format!("EXPLAIN ANALYZE {SUM}")).await?;
    assert!(plan.contains("lab: requests=1, bytes_read=0, bytes_cached=1"), "{plan}");
    drop(first);
    let second = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let (requests, bytes, again) = cost(&server, &second, SUM).await?;
    assert!(requests == 1 && bytes < 2000 && again == rows, "{requests} requests, {bytes} bytes");
    Ok(())
}

/// The listings of the test server tell no entity tags, so size and time are the version: once the time can't be that of a later change.
#[tokio::test(flavor = "multi_thread")]
async fn objects_without_a_tag_are_kept_once_they_are_settled() -> TestResult {
    let (server, folder) = lab().await?;
    let engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let (_, young, rows) = cost(&server, &engine, ALL).await?;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let (_, first, _) = cost(&server, &engine, ALL).await?;
    let (requests, second, again) = cost(&server, &engine, ALL).await?;
    assert!(young > 2_000_000 && first > 2_000_000 && requests == 1 && second < 2000 && again == rows, "{young} {first} {second}");
    Ok(())
}

/// The bytes of a changed object have its size and may have its time; its entity tag is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_object_is_never_answered_from_old_blocks() -> TestResult {
    let (server, folder) = lab().await?;
    let engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let sql = "SELECT min(n), count(text) FROM 'lab:x/a.parquet'";
    assert_eq!(ask(&engine, sql).await?, "0,4000");
    for first in [5000, 0, 7000] {
        server.put("data", "x/a.parquet", numbers(first, 4000, 300)?).await?;
        assert_eq!(ask(&engine, sql).await?, format!("{first},4000"));
        let fresh = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
        assert_eq!(ask(&fresh, sql).await?, format!("{first},4000"));
    }
    // Another bucket with the same paths under the same name of a store.
    server.put("other", "x/a.parquet", numbers(9000, 4000, 300)?).await?;
    let moved = caching(folder.path(), vec![bucket("lab", &server, "other")?])?;
    assert_eq!(ask(&moved, sql).await?, "9000,4000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_at_once_fetch_the_same_bytes_once() -> TestResult {
    let (server, folder) = lab().await?;
    let size = numbers(0, 4000, 300)?.len() as u64;
    let engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let before = server.faults().sent();
    let rows = futures::future::try_join_all((0..6).map(|_| ask(&engine, SUM))).await?;
    let sent = server.faults().sent() - before;
    assert!(rows.iter().all(|row| *row == rows[0]) && sent < size + size / 5, "{sent} bytes were sent of {size}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_can_opt_out_and_folders_are_never_kept() -> TestResult {
    let (server, folder) = lab().await?;
    let store = StoreSpec { cache: false, ..bucket("lab", &server, "data")? };
    let engine = caching(&folder.path().join("cache"), vec![store])?;
    let (_, first, _) = cost(&server, &engine, SUM).await?;
    let (_, second, _) = cost(&server, &engine, SUM).await?;
    assert!(first > 1_000_000 && second > 1_000_000, "{first} {second}");
    let file = folder.path().join("a.parquet");
    std::fs::write(&file, numbers(0, 10, 8)?)?;
    assert_eq!(ask(&engine, &format!("SELECT sum(n) FROM '{}'", file.display())).await?, "45");
    assert!(!folder.path().join("cache").exists());
    Ok(())
}

/// No failure of the cache is one of a query, and whoever reads the result is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_can_not_be_used_is_a_notice() -> TestResult {
    let (server, folder) = lab().await?;
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder")?;
    let engine = caching(&file.join("cache"), vec![bucket("lab", &server, "data")?])?;
    for _ in 0..2 {
        let told = notices(&engine, SUM).await?;
        assert!(told.len() == 1 && told[0].starts_with("the block cache is not used: can't make the folder"), "{told:?}");
        assert!(notices(&engine, "SELECT 1").await?.is_empty());
    }
    // Another process holds the lock.
    let used = folder.path().join("used");
    std::fs::create_dir(&used)?;
    let lock = File::create(used.join("lock"))?;
    lock.lock()?;
    let engine = caching(&used, vec![bucket("lab", &server, "data")?])?;
    let told = notices(&engine, SUM).await?;
    assert!(told.len() == 1 && told[0].starts_with("the block cache is not used: another process uses the folder"), "{told:?}");
    let spec = CacheSpec { folder: used.clone(), bytes: 64 << 20 };
    assert!(spec.status()?.in_use && spec.status()?.bytes == 0 && std::fs::read_dir(&used)?.count() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_cut_or_changed_give_the_right_rows() -> TestResult {
    let (server, folder) = lab().await?;
    let mut engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    let rows = ask(&engine, SUM).await?;
    for change in [
        |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2),
        |bytes: &mut Vec<u8>| bytes.iter_mut().step_by(999).for_each(|byte| *byte ^= 4),
    ] {
        for file in std::fs::read_dir(folder.path())? {
            let path = file?.path();
            let mut bytes = std::fs::read(&path)?;
            change(&mut bytes);
            std::fs::write(&path, bytes)?;
        }
        assert_eq!(ask(&engine, SUM).await?, rows);
        drop(engine);
        engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
        assert_eq!(ask(&engine, SUM).await?, rows);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_and_what_is_kept_can_be_cleared() -> TestResult {
    let (server, folder) = lab().await?;
    for number in 0..12 {
        server.put("data", &format!("x/{number}.parquet"), numbers(number * 4000, 4000, 500)?).await?;
    }
    let spec = CacheSpec { folder: folder.path().to_owned(), bytes: CacheSpec::LEAST };
    let stores = Stores::new("/", Unnamed::anonymous(), vec![bucket("lab", &server, "data")?]).with_cache(Some(spec.clone()));
    let engine = register_defaults(Engine::builder(Arc::new(stores))).build()?;
    let rows = ask(&engine, ALL).await?;
    assert_eq!(ask(&engine, ALL).await?, rows);
    let status = spec.status()?;
    assert!(status.bytes <= spec.bytes && status.bytes > spec.bytes / 2 && status.blocks > 10, "{status:?}");
    assert_eq!(spec.clear()?.bytes, status.bytes);
    assert_eq!((spec.status()?.bytes, ask(&engine, ALL).await?), (0, rows));
    Ok(())
}

/// REFRESH forgets what is remembered of a dataset, in memory and on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_refreshed_dataset_is_read_anew() -> TestResult {
    let (server, folder) = lab().await?;
    let engine = caching(folder.path(), vec![bucket("lab", &server, "data")?])?;
    ask(&engine, "CREATE EXTERNAL TABLE shots STORED AS PARQUET LOCATION 'lab:x/a.parquet'").await?;
    let sql = "SELECT count(text), max(text) > 'a' FROM shots";
    let (_, first, rows) = cost(&server, &engine, sql).await?;
    let (_, second, _) = cost(&server, &engine, sql).await?;
    ask(&engine, "REFRESH shots").await?;
    let (_, third, again) = cost(&server, &engine, sql).await?;
    // The footer was read to learn the columns, before the first query.
    assert!(second < 2000 && third > first && first > 500_000 && again == rows, "{first} {second} {third}");
    let error = failure(&engine, "REFRESH shot").await;
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("did you mean `shots`"), "{error}");
    Ok(())
}

//! What is recorded of who asked what.

use std::path::Path;
use std::sync::Arc;

use lacus::arrow::array::{Int64Array, RecordBatch};
use lacus::{Audit, Engine, Ingest, Kind, Limits, Principal, Session, TryStreamExt, WhenFull, notices_of, register_defaults, verify};
use lacus_testbed::S3Server;
use serde_json::Value;

use crate::parquet_file::numbers;
use crate::{TestResult, ask, bucket, stores};

fn recording(file: &Path, full: WhenFull, server: &S3Server, columns: usize) -> lacus::Result<Engine> {
    let limits = Limits { columns, ..Limits::default() };
    let builder = Engine::builder(stores(vec![bucket("lab", server, "data")?])).limits(limits);
    register_defaults(builder.audit(Audit::new(file.to_owned(), full))).build()
}

fn records(file: &Path) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
    verify(file, None)?;
    Ok(std::fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_is_recorded_with_what_it_read() -> TestResult {
    let server = S3Server::start().await?;
    for (name, first) in [("a", 0), ("b", 1000)] {
        server.put("data", &format!("x/{name}.parquet"), numbers(first, 1000, 8)?).await?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("audit.jsonl");
    let engine = recording(&file, WhenFull::Refuse, &server, 64 << 20)?;
    // The third time the columns come from memory, and were read all the same.
    for _ in 0..3 {
        ask(&engine, "SELECT sum(n) FROM 'lab:x/'").await?;
    }
    ask(&engine, "SELECT n FROM 'lab:x/a.parquet' WHERE n < 3").await?;
    let ada = Session::through("flight", &Principal::user("ada"), true);
    assert!(engine.query("SELECT nosuch FROM 'lab:x/'", &[], &ada).await.is_err());
    drop(engine.query("SELECT sum(n) FROM 's3://key:word@nowhere/y.parquet?sig=abc'", &[], &ada).await.err());
    engine.query("SELECT n FROM 'lab:x/' WHERE n < 7", &[], &ada).await?.stream()?.try_collect::<Vec<_>>().await?;
    let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)])?;
    let (schema, rows) = (batch.schema(), Box::pin(futures::stream::iter([Ok(batch)])));
    engine.ingest(&"kept".into(), Ingest::Create { temporary: true }, schema, rows, &ada).await?;
    engine.record_refused("eve", "flight", &lacus::Error::new(Kind::Unauthenticated, "no user has this name and password"));

    let records = records(&file)?;
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let told: Vec<_> = records.iter().map(|record| (text(record, "user"), text(record, "door"), text(record, "outcome"))).collect();
    let told: Vec<_> = told.iter().map(|(user, door, outcome)| (user.as_str(), door.as_str(), outcome.as_str())).collect();
    let (owner, flight) = (("owner", "embedded", "finished"), ("ada", "flight", "finished"));
    let failed = ("ada", "flight", "failed");
    assert_eq!(told, [owner, owner, owner, owner, failed, failed, flight, flight, ("eve", "flight", "denied")]);
    let paths =
        |record: &Value| -> Vec<String> { record["files"].as_array().into_iter().flatten().map(|file| text(file, "path")).collect() };
    for record in &records[..3] {
        assert_eq!(paths(record), ["lab/x/a.parquet", "lab/x/b.parquet"]);
        assert_eq!((&record["files_read"], &record["fingerprint"]), (&Value::from(2), &records[0]["fingerprint"]));
        assert_eq!(record["tables"][0], "lake.main.lab:x/");
    }
    // The listings of this server have no entity tags: reading tells them.
    assert!(records[..2].iter().all(|record| record["files"][0]["e_tag"].is_string()));
    assert_eq!(records[0]["files_hash"], records[1]["files_hash"]);
    assert_eq!((paths(&records[3]), &records[3]["rows"]), (vec!["lab/x/a.parquet".to_owned()], &Value::from(3)));
    assert!(text(&records[4], "error").contains("no column `nosuch`"));
    let secret = records[5].to_string();
    assert!(!secret.contains("word") && !secret.contains("abc") && secret.contains("nowhere/y.parquet"), "{secret}");
    assert_eq!((text(&records[7], "sql"), &records[7]["rows"]), ("INGEST INTO kept".to_owned(), &Value::from(2)));
    assert_eq!(text(&records[8], "event"), "login failed");

    // Another version of a file is another hash.
    server.put("data", "x/b.parquet", numbers(5000, 1000, 8)?).await?;
    ask(&engine, "SELECT sum(n) FROM 'lab:x/'").await?;
    let again = self::records(&file)?;
    assert!(again[9]["files_hash"] != records[0]["files_hash"] && again[9]["sql"] == records[0]["sql"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_does_not_run_or_is_warned_of() -> TestResult {
    let server = S3Server::start().await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("logs");
    std::fs::write(&place, "a file where a folder should be")?;
    let file = place.join("audit.jsonl");
    let refuses = recording(&file, WhenFull::Refuse, &server, 0)?;
    // That nothing can be written is found by the first record.
    ask(&refuses, "SELECT 1").await?;
    let refused = ask(&refuses, "SELECT 2").await.err().ok_or("it ran")?;
    assert!(refused.kind() == Kind::Unavailable && refused.to_string().contains("the audit log can't be written"), "{refused}");
    let warns = recording(&file, WhenFull::Warn, &server, 0)?;
    ask(&warns, "SELECT 3").await?;
    let warned = warns.query("SELECT 4", &[], &Principal::owner()).await?;
    assert!(notices_of(&warned.schema()).any(|notice| notice.contains("the audit log can't be written")), "{:?}", warned.schema());
    drop(warned);
    std::fs::remove_file(&place)?;
    for engine in [&refuses, &warns] {
        ask(engine, "SELECT 5").await?;
    }
    let told: Vec<String> = records(&file)?.iter().map(|record| record["sql"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, ["SELECT 1", "SELECT 5", "SELECT 3", "SELECT 4", "SELECT 5"]);
    Ok(())
}

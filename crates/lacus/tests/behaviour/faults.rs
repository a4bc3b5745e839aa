//! A server that misbehaves: what can be tried again is, what can't is one clear line.

use std::time::Duration;

use lacus::Kind;
use lacus_testbed::{Fault, S3Server};

use crate::parquet_file::numbers;
use crate::{TestResult, ask, bucket, engine, failure};

const SUM: &str = "SELECT sum(n), count(text) FROM 'lab:a.parquet'";

async fn lab() -> Result<(S3Server, lacus::Engine), Box<dyn std::error::Error + Send + Sync>> {
    let server = S3Server::start().await?;
    server.put("data", "a.parquet", numbers(0, 2000, 200)?).await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    Ok((server, engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_pass_are_outlived() -> TestResult {
    for fault in [
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Reset,
        Fault::Truncated(1000),
        Fault::Slow(Duration::from_secs(2)),
    ] {
        let (server, engine) = lab().await?;
        server.faults().inject("a.parquet", fault.clone(), 2);
        let before = server.faults().requests();
        assert_eq!(ask(&engine, SUM).await?, "1999000,2000", "{fault:?}");
        assert!(server.faults().requests() > before + 2, "{fault:?} was never met");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_down_is_named_in_one_line() -> TestResult {
    let (server, engine) = lab().await?;
    server.faults().inject("a.parquet", Fault::Status(503), 1000);
    let error = failure(&engine, SUM).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("lab:a.parquet"), "{error}");
    assert!(!error.to_string().contains('\n') && !error.to_string().contains(lacus_testbed::SECRET_KEY));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_object_is_corrupt_data() -> TestResult {
    let (server, engine) = lab().await?;
    let whole = numbers(0, 2000, 200)?;
    server.put("data", "half.parquet", whole[..whole.len() / 2].to_vec()).await?;
    let error = failure(&engine, "SELECT * FROM 'lab:half.parquet'").await;
    assert_eq!(error.kind(), Kind::CorruptData, "{error}");
    assert!(error.to_string().contains("file: lab:half.parquet"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_missing_buckets_are_told_apart() -> TestResult {
    let (server, _) = lab().await?;
    let mut wrong = bucket("lab", &server, "data")?;
    if let lacus::Place::S3(spec) = &mut wrong.place {
        let secret_access_key = lacus::Secret::new("not-the-secret");
        let access_key_id = lacus_testbed::ACCESS_KEY.to_owned();
        spec.credentials = lacus::Credentials::Keys { access_key_id, secret_access_key, session_token: None };
    }
    let engine = engine(vec![wrong, bucket("gone", &server, "no-such-bucket")?])?;
    for sql in [SUM, "SELECT * FROM 'lab:**/*.parquet'"] {
        let error = failure(&engine, sql).await;
        assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("check the `credentials`") && !error.to_string().contains("not-the-secret"), "{error}");
    }
    let error = failure(&engine, "SELECT * FROM 'gone:x.parquet'").await;
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("bucket does not exist"), "{error}");
    Ok(())
}

/// The body of a long object is fetched in pieces, so one slow request is tried again, not the whole object.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_csv_outlives_a_reset_in_its_middle() -> TestResult {
    let server = S3Server::start().await?;
    let mut text = String::from("n,text\n");
    for row in 0..40_000 {
        text.push_str(&format!("{row},{}\n", "x".repeat(900)));
    }
    server.put("data", "long.csv", text).await?;
    let mut patient = bucket("lab", &server, "data")?;
    patient.timeout = Duration::from_secs(20);
    let engine = engine(vec![patient])?;
    let planned = engine.query("SELECT sum(n) FROM 'lab:long.csv'", &[], &lacus::Principal::owner()).await?;
    server.faults().inject("long.csv", Fault::Truncated(3_000_000), 2);
    let rows: Vec<lacus::arrow::array::RecordBatch> = lacus::TryStreamExt::try_collect(planned.stream()?).await?;
    let sum = lacus::arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
    assert!(sum.contains("799980000"), "{sum}");
    Ok(())
}

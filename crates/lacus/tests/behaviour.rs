//! What SQL files can't say: versions of objects, faults of a server, limits, cancelling, parameters.

#[path = "behaviour/activity.rs"]
mod activity;
#[path = "behaviour/arrays.rs"]
mod arrays;
#[path = "behaviour/audit.rs"]
mod audit;
#[path = "behaviour/cache.rs"]
mod cache;
#[path = "behaviour/copy.rs"]
mod copy;
#[path = "behaviour/faults.rs"]
mod faults;
#[path = "behaviour/flight.rs"]
mod flight;
#[path = "behaviour/index.rs"]
mod index;
#[path = "behaviour/kept.rs"]
mod kept;
#[path = "behaviour/limits.rs"]
mod limits;
#[path = "behaviour/listing.rs"]
mod listing;
#[path = "behaviour/parquet_file.rs"]
mod parquet_file;
#[path = "behaviour/queries.rs"]
mod queries;
#[path = "behaviour/replays.rs"]
mod replays;
#[path = "behaviour/results.rs"]
mod results;
#[path = "behaviour/rules.rs"]
mod rules;
#[path = "behaviour/values.rs"]
mod values;
#[path = "behaviour/versions.rs"]
mod versions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacus::arrow::array::RecordBatch;
use lacus::arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus::{
    Credentials, Engine, Limits, Place, Principal, Result, S3Spec, ScalarValue, Secret, StoreName, StoreSpec, Stores, TryStreamExt,
    Unnamed, register_defaults,
};
use lacus_testbed::{ACCESS_KEY, S3Server, SECRET_KEY};

type TestResult = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A bucket of a test server as a store.
fn bucket(name: &str, server: &S3Server, bucket: &str) -> Result<StoreSpec> {
    let spec = s3(server, bucket);
    Ok(StoreSpec { timeout: Duration::from_millis(700), ..StoreSpec::new(StoreName::new(name)?, Place::S3(spec)) })
}

fn s3(server: &S3Server, bucket: &str) -> S3Spec {
    S3Spec {
        bucket: bucket.to_owned(),
        prefix: String::new(),
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        credentials: Credentials::Keys {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: Secret::new(SECRET_KEY),
            session_token: None,
        },
        path_style: true,
        requester_pays: false,
    }
}

/// Stores without unnamed buckets.
fn stores(specs: Vec<StoreSpec>) -> Arc<Stores> {
    let mut nowhere = Unnamed::anonymous();
    (nowhere.s3.endpoint, nowhere.s3.path_style) = (Some("http://127.0.0.1:9".to_owned()), true);
    Arc::new(Stores::new(PathBuf::from("/"), nowhere, specs))
}

fn engine(specs: Vec<StoreSpec>) -> Result<Engine> {
    register_defaults(Engine::builder(stores(specs))).build()
}

fn limited(specs: Vec<StoreSpec>, limits: Limits) -> Result<Engine> {
    register_defaults(Engine::builder(stores(specs)).limits(limits)).build()
}

async fn batches(engine: &Engine, sql: &str, parameters: &[ScalarValue]) -> Result<Vec<RecordBatch>> {
    engine.query(sql, parameters, &Principal::owner()).await?.stream()?.try_collect().await
}

/// The result as text: rows by newlines, cells by commas.
async fn ask(engine: &Engine, sql: &str) -> Result<String> {
    ask_with(engine, sql, &[]).await
}

async fn ask_with(engine: &Engine, sql: &str, parameters: &[ScalarValue]) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches(engine, sql, parameters).await? {
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            lines.push(formatters.iter().map(|cell| cell.value(row).to_string()).collect::<Vec<_>>().join(","));
        }
    }
    Ok(lines.join("\n"))
}

/// The error of a query that must fail.
async fn failure(engine: &Engine, sql: &str) -> lacus::Error {
    match ask(engine, sql).await {
        Ok(answer) => lacus::Error::new(lacus::Kind::Internal, format!("the query gave an answer: {answer}")),
        Err(error) => error,
    }
}

/// Waits until `done`, under a generous timeout: the event is asserted, not its time.
async fn eventually(what: &str, done: impl Fn() -> bool) -> TestResult {
    for _ in 0..600 {
        if done() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("never happened: {what}").into())
}

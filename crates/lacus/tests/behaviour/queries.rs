//! Parameters, preparing, explaining, bringing one's own.

use std::sync::Arc;

use lacus::arrow::array::AsArray;
use lacus::arrow::datatypes::{DataType, Int64Type};
use lacus::datafusion::datasource::MemTable;
use lacus::datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use lacus::object_store::memory::InMemory;
use lacus::object_store::{ObjectStoreExt, PutPayload};
use lacus::{Function, Kind, Place, Principal, ScalarValue, StoreName, StoreSpec, TryStreamExt};
use lacus_testbed::S3Server;

use crate::parquet_file::numbers;
use crate::{TestResult, ask, ask_with, batches, bucket, engine, failure};

#[tokio::test(flavor = "multi_thread")]
async fn parameters_bind_by_position() -> TestResult {
    let engine = engine(Vec::new())?;
    assert_eq!(ask_with(&engine, "SELECT ? - ?", &[10_i64.into(), 4_i64.into()]).await?, "6");
    let eleven: Vec<ScalarValue> = (1..=11_i64).map(ScalarValue::from).collect();
    assert_eq!(ask_with(&engine, "SELECT $11, $2, $2 + 0", &eleven).await?, "11,2,2");
    assert_eq!(ask_with(&engine, "SELECT '?' || ?", &["a'b".into()]).await?, "?a'b");
    assert_eq!(
        ask_with(&engine, "SELECT x FROM generate_series(1, 9) AS t(x) WHERE x > ? ORDER BY x LIMIT ?", &[6_i64.into(), 2_i64.into()])
            .await?,
        "7\n8"
    );
    let error = batches(&engine, "SELECT ?", &[]).await.err().ok_or("no error")?;
    assert_eq!(error.kind(), Kind::InvalidQuery);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_tells_types_and_runs_nothing() -> TestResult {
    let engine = engine(Vec::new())?;
    let owner = Principal::owner();
    let prepared = engine.prepare("SELECT x + 1 AS y FROM generate_series(1, 3) AS t(x) WHERE x > ?", &owner).await?;
    assert_eq!(prepared.parameters, [Some(DataType::Int64)]);
    assert_eq!(prepared.schema.field(0).name(), "y");
    let view = engine.prepare("CREATE VIEW v AS SELECT 1", &owner).await?;
    assert!(view.is_command);
    assert_eq!(failure(&engine, "SELECT * FROM v").await.kind(), Kind::NotFound);
    assert!(engine.query("CREATE VIEW v AS SELECT 1 AS one", &[], &owner).await?.is_command());
    assert_eq!(ask(&engine, "SELECT one FROM v").await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_files_row_groups_requests_and_bytes() -> TestResult {
    let server = S3Server::start().await?;
    for year in 2020..2024 {
        server.put("data", &format!("x/year={year}/a.parquet"), numbers(i64::from(year) * 10_000, 3000, 20)?).await?;
    }
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let sql = "SELECT count(text) FROM 'lab:x/**' WHERE year = 2021 AND n >= 20212000";
    let plan = ask(&engine, &format!("EXPLAIN {sql}")).await?;
    assert!(plan.contains("files=1/4"), "{plan}");
    assert!(plan.contains("stores,lab: requests="), "{plan}");
    let analyzed = ask(&engine, &format!("EXPLAIN ANALYZE {sql}")).await?;
    for shown in ["files=1/4", "row_groups_pruned_statistics=3 total → 1 matched", "stores,lab: requests=", "bytes_read="] {
        assert!(analyzed.contains(shown), "{shown} is missing: {analyzed}");
    }
    assert!(!analyzed.contains(lacus_testbed::SECRET_KEY) && !plan.contains(lacus_testbed::SECRET_KEY));
    assert!(ask(&engine, "EXPLAIN SELECT * FROM 'lab:x/**' WHERE year = 1900").await?.contains("files=0/4"));
    assert_eq!(ask(&engine, sql).await?, "1000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_brings_its_own_store_and_table() -> TestResult {
    let memory = InMemory::new();
    memory.put(&"runs/a.csv".into(), PutPayload::from_static(b"n\n1\n2\n")).await?;
    let engine = engine(vec![StoreSpec::new(StoreName::new("mem")?, Place::Custom(Arc::new(memory)))])?;
    let rows = batches(&engine, "SELECT n FROM 'mem:runs/*.csv'", &[]).await?;
    engine.register("mine", Arc::new(MemTable::try_new(rows[0].schema(), vec![rows])?))?;
    assert_eq!(ask(&engine, "SELECT sum(n) FROM mine").await?, "3");
    assert!(
        engine
            .register("not a name", Arc::new(MemTable::try_new(Arc::new(lacus::arrow::datatypes::Schema::empty()), vec![vec![]])?))
            .is_err()
    );
    Ok(())
}

/// Views that stand on each other in a circle end in an error, not in an endless planning.
#[tokio::test(flavor = "multi_thread")]
async fn views_in_a_circle_are_an_error() -> TestResult {
    let engine = engine(Vec::new())?;
    for sql in ["CREATE VIEW a AS SELECT 1 AS x", "CREATE VIEW b AS SELECT x FROM a", "CREATE OR REPLACE VIEW a AS SELECT x FROM b"] {
        engine.query(sql, &[], &Principal::owner()).await?;
    }
    assert_eq!(failure(&engine, "SELECT * FROM a").await.kind(), Kind::InvalidQuery);
    Ok(())
}

/// A function that gives `value` for each row.
fn constant(name: &str, value: i64) -> Function {
    let body = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(value)));
    Function::Scalar(create_udf(name, vec![DataType::Int64], DataType::Int64, Volatility::Volatile, Arc::new(body)))
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_taken_while_the_engine_runs() -> TestResult {
    let engine = engine(Vec::new())?;
    assert_eq!(failure(&engine, "SELECT mine(1)").await.kind(), Kind::InvalidQuery);
    engine.clone().register_function(constant("mine", 7), false)?;
    assert_eq!(ask(&engine, "SELECT mine(1)").await?, "7");
    let begun = engine.query("SELECT mine(1)", &[], &Principal::owner()).await?;
    engine.register_function(constant("mine", 8), true)?;
    let kept: Vec<_> = begun.stream()?.try_collect().await?;
    assert_eq!(kept[0].column(0).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(
        ask(&engine, "SELECT mine(1), (SELECT count(*) FROM information_schema.routines WHERE routine_name = 'mine')").await?,
        "8,1"
    );
    for taken in ["mine", "sin", "sum", "row_number"] {
        let error = engine.register_function(constant(taken, 9), false).err().ok_or("no error")?;
        assert_eq!(error.kind(), Kind::AlreadyExists, "{taken}");
    }
    // What has the name as another kind of function is no longer called.
    engine.register_function(constant("sum", 9), true)?;
    assert_eq!(ask(&engine, "SELECT sum(x) FROM generate_series(1, 2) AS t(x)").await?, "9\n9");
    let error = engine.register_function(constant("Mine", 9), false).err().ok_or("no error")?;
    assert_eq!(error.kind(), Kind::InvalidConfiguration);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn types_have_their_names_of_sql() -> TestResult {
    let engine = engine(Vec::new())?;
    for (name, expected) in [("DOUBLE", DataType::Float64), ("varchar", DataType::Utf8), ("BIGINT", DataType::Int64)] {
        assert_eq!(engine.data_type(name)?, expected);
    }
    for wrong in ["", "DUBLE", "DOUBLE, x", "DOUBLE DOUBLE"] {
        assert_eq!(engine.data_type(wrong).err().map(|error| error.kind()), Some(Kind::InvalidQuery), "{wrong}");
    }
    Ok(())
}

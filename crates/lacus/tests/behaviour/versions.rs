//! Which bytes answer: of the right store, of one version.

use lacus::Kind;
use lacus_testbed::{Fault, S3Server};

use crate::parquet_file::numbers;
use crate::{TestResult, ask, batches, bucket, engine, failure};

/// DataFusion keys its caches by path: two buckets with the same layout must not answer for each other.
#[tokio::test(flavor = "multi_thread")]
async fn two_stores_with_the_same_paths_give_their_own_rows() -> TestResult {
    let (first, second) = (S3Server::start().await?, S3Server::start().await?);
    // The same path, the same size, and (within the second) the same time.
    let (one, two) = (numbers(1000, 10, 8)?, numbers(2000, 10, 8)?);
    assert_eq!(one.len(), two.len());
    first.put("data", "x/a.parquet", one.clone()).await?;
    second.put("data", "x/a.parquet", two).await?;
    let other_bucket = numbers(3000, 10, 8)?;
    first.put("other", "x/a.parquet", other_bucket).await?;
    let engine = engine(vec![bucket("one", &first, "data")?, bucket("two", &second, "data")?, bucket("three", &first, "other")?])?;
    for _ in 0..2 {
        for (store, sum) in [("one", 10045), ("two", 20045), ("three", 30045)] {
            assert_eq!(ask(&engine, &format!("SELECT sum(n) FROM '{store}:x/a.parquet'")).await?, sum.to_string(), "{store}");
            assert_eq!(ask(&engine, &format!("SELECT min(n) FROM '{store}:x/*.parquet'")).await?, ((sum - 45) / 10).to_string());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_and_changed_files_are_seen_by_the_next_query() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "x/a.parquet", numbers(0, 10, 8)?).await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let sql = "SELECT count(*), max(n) FROM 'lab:x/*.parquet'";
    assert_eq!(ask(&engine, sql).await?, "10,9");
    server.put("data", "x/b.parquet", numbers(10, 5, 8)?).await?;
    assert_eq!(ask(&engine, sql).await?, "15,14");
    server.put("data", "x/a.parquet", numbers(100, 20, 8)?).await?;
    assert_eq!(ask(&engine, sql).await?, "25,119");
    Ok(())
}

/// A file that is replaced between planning and reading is an error, not a mixture of two versions.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_while_it_is_read_is_an_error() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "a.parquet", numbers(0, 4000, 300)?).await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let planned = engine.query("SELECT count(text), sum(n) FROM 'lab:a.parquet'", &[], &lacus::Principal::owner()).await?;
    server.put("data", "a.parquet", numbers(5000, 4000, 300)?).await?;
    let ended: lacus::Result<Vec<_>> = lacus::TryStreamExt::try_collect(planned.stream()?).await;
    let error = ended.err().ok_or("the query gave an answer")?;
    assert_eq!(error.kind(), Kind::ObjectChanged, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("`lab:a.parquet` was replaced while it was read"), "{error}");
    // The second version has the size of the first and may have its time: only the entity tag tells them apart.
    assert_eq!(ask(&engine, "SELECT min(n) FROM 'lab:a.parquet'").await?, "5000");
    Ok(())
}

/// A server that answers with another version, whatever was asked for, is not believed either.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entity_tag_is_an_error() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "a.csv", "n\n1\n2\n").await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let planned = engine.query("SELECT sum(n) FROM 'lab:a.csv'", &[], &lacus::Principal::owner()).await?;
    server.faults().inject("a.csv", Fault::ChangedTag, 1);
    let ended: lacus::Result<Vec<_>> = lacus::TryStreamExt::try_collect(planned.stream()?).await;
    assert_eq!(ended.err().map(|error| error.kind()), Some(Kind::ObjectChanged));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_that_is_replaced_is_an_error() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, numbers(0, 4000, 100)?)?;
    let engine = engine(Vec::new())?;
    let sql = format!("SELECT max(n % 5000), count(md5(text)) FROM '{}'", path.display());
    assert_eq!(ask(&engine, &sql).await?, "3999,4000");
    let planned = engine.query(&sql, &[], &lacus::Principal::owner()).await?;
    std::fs::write(&path, numbers(0, 3000, 100)?)?;
    let ended: lacus::Result<Vec<_>> = lacus::TryStreamExt::try_collect(planned.stream()?).await;
    assert_eq!(ended.err().map(|error| error.kind()), Some(Kind::ObjectChanged));
    std::fs::remove_file(&path)?;
    assert_eq!(failure(&engine, &sql).await.kind(), Kind::NotFound);
    Ok(())
}

/// Readers of CSV go by position; columns must be matched by name all the same.
#[tokio::test(flavor = "multi_thread")]
async fn csv_files_with_their_columns_in_another_order_unite_by_name() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "x/a.csv", "shot,te\n1,10.5\n2,11.5\n").await?;
    server.put("data", "x/b.csv", "te,shot,gas\n20.5,3,D2\n").await?;
    server.put("data", "x/c.csv", "te,shot\n7,4\n").await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let rows = ask(&engine, "SELECT shot, te, gas FROM 'lab:x/*.csv' ORDER BY shot").await?;
    assert_eq!(rows, "1,10.5,NULL\n2,11.5,NULL\n3,20.5,D2\n4,7.0,NULL");
    assert_eq!(ask(&engine, "SELECT gas FROM 'lab:x/*.csv' WHERE te > 20").await?, "D2");
    assert_eq!(ask(&engine, "SELECT count(*) FROM 'lab:x/*.csv'").await?, "4");
    assert_eq!(batches(&engine, "SELECT te FROM 'lab:x/*.csv' LIMIT 2", &[]).await?.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    Ok(())
}

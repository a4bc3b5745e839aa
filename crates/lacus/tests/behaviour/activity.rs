//! What runs: its record, its turn, its end by others, and joins that do not fit.

use std::time::Duration;

use lacus::{Kind, Limits, Principal, TryStreamExt};

use crate::{TestResult, ask, engine, eventually, failure, limited};

/// Rows that take hours to make, the first at once.
const ENDLESS: &str = "SELECT a.value, b.value FROM generate_series(1, 10000000) AS a, generate_series(1, 100000) AS b";

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_recorded_from_their_text_to_their_end() -> TestResult {
    let engine = engine(Vec::new())?;
    let mut stream = engine.query(ENDLESS, &[], &Principal::owner()).await?.stream()?;
    assert!(stream.try_next().await?.is_some());
    let running =
        ask(&engine, "SELECT state, rows > 0, user, seconds >= 0, sql LIKE 'SELECT a.value%' FROM system.queries ORDER BY started LIMIT 1");
    assert_eq!(running.await?, "running,true,owner,true,true");
    drop(stream);
    assert!(failure(&engine, "SELECT nope").await.to_string().contains("nope"));
    assert_eq!(ask(&engine, "SELECT 7 AS kept").await?, "7");
    let states =
        ask(&engine, "SELECT string_agg(state, ' ' ORDER BY started) FROM system.queries WHERE sql NOT LIKE '%system.queries%'").await?;
    assert_eq!(states, "cancelled failed finished");
    let failed = ask(&engine, "SELECT error LIKE '%nope%', rows, memory FROM system.queries WHERE state = 'failed'").await?;
    assert_eq!(failed, "true,0,0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_ends_a_query_wherever_it_is() -> TestResult {
    let engine = engine(Vec::new())?;
    let query = engine.query(ENDLESS, &[], &Principal::owner()).await?;
    let id = query.id().to_owned();
    let mut stream = query.stream()?;
    assert!(stream.try_next().await?.is_some());
    let reading = tokio::spawn(async move {
        while stream.try_next().await?.is_some() {}
        Ok::<_, lacus::Error>(())
    });
    ask(&engine, &format!("KILL QUERY '{id}'")).await?;
    let ended = tokio::time::timeout(Duration::from_secs(60), reading).await??;
    let error = ended.err().ok_or("the query went on")?;
    assert_eq!((error.kind(), error.message()), (Kind::Cancelled, "the query was killed by `owner`"));
    assert_eq!(ask(&engine, &format!("SELECT state, error FROM system.queries WHERE id = '{id}'")).await?, "killed,killed by `owner`");
    assert!(failure(&engine, &format!("KILL '{id}'")).await.to_string().contains("has ended"));
    // One that nobody reads yet is killed, too.
    let query = engine.query(ENDLESS, &[], &Principal::owner()).await?;
    ask(&engine, &format!("KILL '{}'", query.id())).await?;
    let ended: lacus::Result<Vec<_>> = query.stream()?.try_collect().await;
    assert_eq!(ended.err().map(|error| error.kind()), Some(Kind::Cancelled));
    let error = failure(&engine, "KILL 'nobody'").await;
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("system.queries"), "{error}");
    eventually("memory is given back", || engine.memory_held() == 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_wait_for_their_turn_and_too_many_are_refused() -> TestResult {
    let engine = limited(Vec::new(), Limits { queries: 1, queue: 1, ..Limits::default() })?;
    let mut first = engine.query(ENDLESS, &[], &Principal::owner()).await?.stream()?;
    assert!(first.try_next().await?.is_some());
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { ask(&engine, "SELECT 2").await.map_err(|error| error.to_string()) }
    });
    // What runs is asked without running: the question would wait itself.
    let mut refused = None;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished(), "two queries ran at once");
        let asked = tokio::time::timeout(Duration::from_millis(500), ask(&engine, "SELECT 3")).await;
        if let Ok(Err(error)) = asked {
            refused = Some(error);
            break;
        }
    }
    let error = refused.ok_or("a third query was not refused")?;
    assert!(error.kind() == Kind::LimitExceeded && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("raise `queries` or `queue` under [limits]"), "{error}");
    drop(first);
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), waiting).await???, "2");
    assert_eq!(ask(&engine, "SELECT 4").await?, "4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_join_that_does_not_fit_is_sorted_and_merged() -> TestResult {
    let folder = tempfile::tempdir()?;
    let limits = Limits { memory: 24 << 20, spill_directory: Some(folder.path().to_owned()), ..Limits::default() };
    let engine = limited(Vec::new(), limits)?;
    let join = "SELECT count(*), sum(a.x + b.y) FROM \
                (SELECT value AS x, repeat('x', 100) || value AS t FROM generate_series(1, 400000)) AS a \
                JOIN (SELECT value AS y, repeat('x', 100) || value AS t FROM generate_series(1, 400000)) AS b ON a.t = b.t";
    assert_eq!(ask(&engine, join).await?, "400000,160000400000");
    let plan = ask(&engine, &format!("EXPLAIN ANALYZE {join}")).await?;
    assert!(plan.contains("SortMergeJoin") && !plan.contains("HashJoin"), "{plan}");
    assert_eq!(ask(&engine, "SELECT max(spilled) > 0 FROM system.queries WHERE sql LIKE 'SELECT count(*), sum(a.x%'").await?, "true");
    let roomy = crate::engine(Vec::new())?;
    assert!(ask(&roomy, &format!("EXPLAIN {join}")).await?.contains("HashJoin"));
    eventually("memory is given back", || engine.memory_held() == 0).await
}

//! Decoded columns that are kept in memory change what is read, never what is answered.

use lacus::{Engine, Limits};
use lacus_testbed::S3Server;

use crate::parquet_file::numbers;
use crate::{TestResult, ask, bucket, limited};

const ROOM: usize = 64 << 20;

/// Filters that rule row groups out, dynamic ones of sorts and joins, partitions, expressions, and columns in any order or none.
const QUESTIONS: [&str; 9] = [
    "SELECT count(*), sum(n), min(text), max(text) FROM 'lab:x/**/*.parquet'",
    "SELECT n, text FROM 'lab:x/**/*.parquet' WHERE n BETWEEN 995 AND 1004 ORDER BY n",
    "SELECT text, year, n FROM 'lab:x/**/*.parquet' WHERE year = 2 AND n % 1000 = 7 ORDER BY n",
    "SELECT year, count(*), max(n) FROM 'lab:x/**/*.parquet' GROUP BY year ORDER BY year",
    "SELECT n + 1 AS m, year * 2 AS y FROM 'lab:x/**/*.parquet' ORDER BY n DESC LIMIT 3",
    "SELECT a.n, b.text FROM 'lab:x/**/*.parquet' AS a JOIN 'lab:x/**/*.parquet' AS b ON a.n = b.n WHERE a.n > 5990 ORDER BY a.n",
    "SELECT count(*) FROM 'lab:x/**/*.parquet' WHERE n > 100000",
    "SELECT DISTINCT year FROM 'lab:x/**/*.parquet' WHERE text IS NOT NULL ORDER BY 1",
    "SELECT 1 AS one FROM 'lab:x/**/*.parquet' LIMIT 2",
];

fn keeping(server: &S3Server, columns: usize) -> lacus::Result<Engine> {
    limited(vec![bucket("lab", server, "data")?], Limits { columns, ..Limits::default() })
}

/// A counter of `EXPLAIN ANALYZE`, summed up.
async fn counted(engine: &Engine, sql: &str, name: &str) -> lacus::Result<u64> {
    let plan = ask(engine, &format!("EXPLAIN ANALYZE {sql}")).await?;
    let name = format!("{name}=");
    Ok(plan.split(&name).skip(1).filter_map(|rest| rest.split(|next: char| !next.is_ascii_digit()).next()?.parse::<u64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_columns_from_memory() -> TestResult {
    let server = S3Server::start().await?;
    for (year, file, first, rows) in [(1, "a", 0, 2500), (1, "b", 2500, 500), (2, "a", 3000, 3000)] {
        server.put("data", &format!("x/year={year}/{file}.parquet"), numbers(first, rows, 8)?).await?;
    }
    let (plain, kept) = (keeping(&server, 0)?, keeping(&server, ROOM)?);
    for round in 0..3 {
        for question in QUESTIONS {
            assert_eq!(ask(&kept, question).await?, ask(&plain, question).await?, "round {round}: {question}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_kept_from_their_second_read_and_for_one_version() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "a.parquet", numbers(0, 3000, 8)?).await?;
    let kept = keeping(&server, ROOM)?;
    let question = "SELECT sum(n), count(text) FROM 'lab:a.parquet'";
    assert_eq!(counted(&kept, question, "columns_into_memory").await?, 0);
    assert_eq!(counted(&kept, question, "columns_into_memory").await?, 6);
    assert_eq!(counted(&kept, question, "columns_from_memory").await?, 6);
    // Filters leave out row groups here, too, and of what is kept nothing is read again.
    let few = "SELECT sum(n) FROM 'lab:a.parquet' WHERE n < 10";
    assert_eq!(counted(&kept, few, "columns_from_memory").await?, 1);
    let reads = ask(&kept, &format!("EXPLAIN ANALYZE {question}")).await?;
    assert!(!reads.contains("MiB"), "{reads}");
    // Another version is another file.
    server.put("data", "a.parquet", numbers(5000, 3000, 8)?).await?;
    assert_eq!(ask(&kept, "SELECT min(n), max(text) IS NOT NULL FROM 'lab:a.parquet'").await?, "5000,true");
    assert_eq!(counted(&kept, question, "columns_from_memory").await?, 0);
    // A dataset can stay out.
    let out = "CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION 'lab:a.parquet' OPTIONS (keep false)";
    ask(&kept, out).await?;
    for _ in 0..3 {
        assert_eq!(counted(&kept, "SELECT sum(n) FROM out", "columns_into_memory").await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_read_as_ever() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "a.parquet", numbers(0, 3000, 64)?).await?;
    // A quarter of the room is less than a column of text, and more than one of numbers.
    let kept = keeping(&server, 128 << 10)?;
    for _ in 0..3 {
        assert_eq!(ask(&kept, "SELECT count(text), sum(n) FROM 'lab:a.parquet'").await?, "3000,4498500");
        assert_eq!(ask(&kept, "SELECT max(n) + 0 * sum(n) FROM 'lab:a.parquet'").await?, "2999");
    }
    assert_eq!(counted(&kept, "SELECT sum(n) FROM 'lab:a.parquet'", "columns_from_memory").await?, 3);
    Ok(())
}

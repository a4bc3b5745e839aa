//! Rules of the optimizer change plans, never answers.

use std::sync::Arc;

use lacus::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use lacus::datafusion::datasource::MemTable;
use lacus::{Engine, EngineBuilder, Limits, RULES, register_defaults};

use crate::{TestResult, ask, stores};

/// Tables with missing and repeated keys.
const TABLES: [&str; 3] = [
    "CREATE VIEW a AS SELECT * FROM (VALUES (1, 10, 'x'), (1, 11, 'y'), (2, 20, NULL), (3, NULL, 'x'), (NULL, 40, 'x'), (5, 50, 'z'), (5, 50, 'z')) AS t(k, v, g)",
    "CREATE VIEW b AS SELECT * FROM (VALUES (1, 100), (2, 200), (2, 201), (NULL, 300), (4, 400), (5, 1)) AS t(k, w)",
    "CREATE VIEW c AS SELECT * FROM (VALUES (1, 'p'), (1, 'q'), (3, 'p'), (5, 'p'), (NULL, 'p'), (6, NULL)) AS t(k, x)",
];

const QUESTIONS: [&str; 21] = [
    // Semi joins above inner joins, through projections, aliases and filters.
    "SELECT a.k, v, w FROM a JOIN b ON a.k = b.k WHERE a.k IN (SELECT k FROM c WHERE x = 'p')",
    "SELECT a.k, v, w FROM a JOIN b ON a.k = b.k WHERE b.w IN (SELECT w FROM b WHERE w > 100)",
    "SELECT s.key, s.w FROM (SELECT a.k AS key, b.w, v + 1 AS v1 FROM a JOIN b ON a.k = b.k) AS s WHERE s.key IN (SELECT k FROM c) AND s.v1 > 11",
    "SELECT s.key FROM (SELECT a.k + 1 AS key FROM a JOIN b ON a.k = b.k) AS s WHERE s.key IN (SELECT k FROM c)",
    "SELECT a.k, a.v, b.w, c.x FROM a JOIN b ON a.k = b.k JOIN c ON c.k = a.k WHERE EXISTS (SELECT 1 FROM b AS s WHERE s.k = a.k AND s.w = b.w)",
    "SELECT a.k, w FROM a LEFT JOIN b ON a.k = b.k WHERE a.k IN (SELECT k FROM c)",
    "SELECT a.k, w FROM a LEFT JOIN b ON a.k = b.k WHERE b.k IN (SELECT k FROM c)",
    "SELECT a.k, w FROM a JOIN b ON a.k = b.k AND a.v < b.w WHERE EXISTS (SELECT 1 FROM c WHERE c.k = b.k AND c.x = 'p')",
    "SELECT a.k FROM a JOIN b ON a.k = b.k WHERE a.k NOT IN (SELECT k FROM c WHERE k IS NOT NULL)",
    // Correlated aggregates.
    "SELECT a.k, a.v FROM a JOIN c ON a.k = c.k WHERE c.x = 'p' AND a.v < (SELECT avg(w) FROM b WHERE b.k = c.k)",
    "SELECT c.k, c.x, (SELECT sum(v) FROM a WHERE a.k = c.k) AS s FROM c WHERE c.x = 'p'",
    "SELECT c.k, (SELECT count(*) FROM a WHERE a.k = c.k) AS n FROM c WHERE c.x = 'p'",
    "SELECT c.k, n FROM c LEFT JOIN (SELECT k, count(*) AS n FROM a GROUP BY k HAVING count(*) > 1) AS g ON g.k = c.k WHERE c.x = 'p'",
    "SELECT c.k, n FROM (SELECT k, count(*) AS n FROM a GROUP BY k) AS g RIGHT JOIN c ON g.k = c.k WHERE c.x = 'p'",
    // Equal aggregations.
    "WITH g AS (SELECT k, sum(v) AS s FROM a GROUP BY k) SELECT k, s FROM g WHERE s = (SELECT max(s) FROM g)",
    "WITH g AS (SELECT g, count(*) AS n FROM a GROUP BY g) SELECT l.g, r.n FROM g AS l JOIN g AS r ON l.n = r.n WHERE l.g <> 'z'",
    // Several inner joins, with filters over them, repeated columns, aliases, a cycle, and groups among them.
    "SELECT a.v, b.w, c.x, d.w AS other FROM a JOIN b ON a.k = b.k JOIN c ON c.k = b.k JOIN b AS d ON d.k = c.k WHERE d.w > 100",
    "SELECT c.x, c.k, a.k AS k2, b.k AS k3, a.g FROM a, b, c WHERE a.k = b.k AND b.k = c.k AND a.k = c.k AND a.v + b.w > length(c.x)",
    "SELECT s.x, d.v FROM (SELECT c.x, b.w, b.k AS key FROM c JOIN b ON c.k = b.k) AS s JOIN a AS d ON d.k = s.key JOIN a AS e ON e.v = d.v AND e.v < s.w",
    "SELECT t.n, c.x, b.w FROM (SELECT k, count(*) AS n FROM a GROUP BY k) AS t JOIN b ON t.k = b.k JOIN c ON c.k = t.k",
    "SELECT count(*), sum(l.v) FROM a AS l JOIN a AS r ON l.g = r.g JOIN c ON c.k = r.k LEFT JOIN b ON b.k = c.k JOIN a AS m ON m.k = l.k",
];

async fn made(off: impl IntoIterator<Item = String>) -> lacus::Result<Engine> {
    let engine = register_defaults(Engine::builder(stores(Vec::new()))).without_rules(off).build()?;
    for table in TABLES {
        ask(&engine, table).await?;
    }
    Ok(engine)
}

async fn sorted(engine: &Engine, sql: &str) -> lacus::Result<Vec<String>> {
    let mut rows: Vec<String> = ask(engine, sql).await?.split('\n').map(str::to_owned).collect();
    rows.sort();
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_and_without_each_rule() -> TestResult {
    let plain = made(RULES.map(str::to_owned)).await?;
    let mut engines = vec![made([]).await?];
    for rule in RULES {
        engines.push(made(RULES.into_iter().filter(|name| *name != rule).map(str::to_owned)).await?);
    }
    for question in QUESTIONS {
        let expected = sorted(&plain, question).await?;
        for engine in &engines {
            assert_eq!(sorted(engine, question).await?, expected, "{question}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_shows_in_explain_and_can_be_switched_off() -> TestResult {
    let (all, none) = (made([]).await?, made(RULES.map(str::to_owned)).await?);
    let shared = format!("EXPLAIN {}", QUESTIONS[14]);
    assert_eq!(ask(&all, &shared).await?.matches("SharedExec: number=1").count(), 2);
    assert!(!ask(&none, &shared).await?.contains("SharedExec"));
    let volatile = "EXPLAIN WITH g AS (SELECT k, sum(random()) AS s FROM a GROUP BY k) SELECT l.s FROM g AS l JOIN g AS r ON l.k = r.k";
    assert!(!ask(&all, volatile).await?.contains("SharedExec"), "what is random was shared");
    let error = made(["shared_subplan".to_owned()]).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("did you mean `shared_subplans`?"), "{error}");
    Ok(())
}

/// A table of `rows` numbers, from 0.
/// What builds an engine without the rules in `off`.
fn without(off: &[&str]) -> EngineBuilder {
    register_defaults(Engine::builder(stores(Vec::new()))).without_rules(off.iter().map(|name| (*name).to_owned()))
}

fn numbers(name: &str, rows: i64) -> lacus::Result<Arc<MemTable>> {
    let column: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([(name, column)])?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_begin_with_what_makes_few_rows() -> TestResult {
    let made = |off: &[&str]| -> lacus::Result<Engine> {
        without(off).table("large", numbers("l", 100_000)?).table("larger", numbers("r", 200_000)?).table("few", numbers("f", 3)?).build()
    };
    let (on, off) = (made(&[])?, made(&["join_order"])?);
    let question = "SELECT r, l, f FROM large JOIN larger ON l = r JOIN few ON f = r ORDER BY r";
    // The lowest join stands last in EXPLAIN.
    let lowest = |plan: String| plan.lines().rfind(|line| line.contains("HashJoinExec")).unwrap_or_default().to_owned();
    assert!(lowest(ask(&on, &format!("EXPLAIN {question}")).await?).contains("(f@0, r@0)"));
    assert!(lowest(ask(&off, &format!("EXPLAIN {question}")).await?).contains("(l@0, r@0)"));
    assert_eq!(ask(&on, question).await?, "0,0,0\n1,1,1\n2,2,2");
    assert_eq!(ask(&off, question).await?, "0,0,0\n1,1,1\n2,2,2");
    Ok(())
}

/// A thousand long texts take more bytes than fifty thousand numbers, and a smaller table of a join.
#[tokio::test(flavor = "multi_thread")]
async fn semi_and_anti_joins_make_their_table_of_fewer_rows() -> TestResult {
    let wide = || -> lacus::Result<Arc<MemTable>> {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|_| "x".repeat(4000))));
        let batch = RecordBatch::try_from_iter([("w", Arc::new((0..1000).collect::<Int64Array>()) as ArrayRef), ("text", text)])?;
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    };
    let made = |off: &[&str]| -> lacus::Result<Engine> { without(off).table("wide", wide()?).table("long", numbers("l", 50_000)?).build() };
    let (on, off) = (made(&[])?, made(&["build_side"])?);
    for (word, kind, answer) in [("NOT EXISTS", "Anti", "500,4000,999"), ("EXISTS", "Semi", "500,4000,499")] {
        let question =
            format!("SELECT count(*), max(length(text)), max(w) FROM wide WHERE {word} (SELECT 1 FROM long WHERE l = w AND l < 500)");
        let plans = [ask(&on, &format!("EXPLAIN {question}")).await?, ask(&off, &format!("EXPLAIN {question}")).await?];
        assert!(plans[0].contains(&format!("Left{kind}")), "{}", plans[0]);
        assert!(plans[1].contains(&format!("Right{kind}")), "{}", plans[1]);
        assert_eq!([ask(&on, &question).await?, ask(&off, &question).await?], [answer, answer]);
    }
    Ok(())
}

/// Few regions, customers in them, suppliers in them: that a customer's region is a region of few follows from the two equalities that
/// are written, and only by it the large tables never meet before the few have thinned one of them.
#[tokio::test(flavor = "multi_thread")]
async fn joins_use_equalities_that_follow() -> TestResult {
    let pairs = |names: [&str; 2], rows: i64, regions: i64| -> lacus::Result<Arc<MemTable>> {
        let key: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
        let region: ArrayRef = Arc::new((0..rows).map(|row| row % regions).collect::<Int64Array>());
        let batch = RecordBatch::try_from_iter([(names[0], key), (names[1], region)])?;
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    };
    let made = |off: &[&str]| -> lacus::Result<Engine> {
        let builder = without(off).table("customers", pairs(["c", "c_region"], 20_000, 5_000)?);
        builder.table("suppliers", pairs(["s", "s_region"], 10_000, 5_000)?).table("regions", pairs(["n", "x"], 2, 2)?).build()
    };
    let (on, off) = (made(&[])?, made(&["join_order"])?);
    let question = "SELECT count(*), sum(c), sum(s) FROM customers JOIN suppliers ON c_region = s_region JOIN regions ON s_region = n";
    let (first, second) = (ask(&on, question).await?, ask(&off, question).await?);
    assert_eq!(first, second);
    assert_eq!(first.split(',').next(), Some("16"));
    let plan = ask(&on, &format!("EXPLAIN {question}")).await?;
    let lowest = plan.lines().rfind(|line| line.contains("HashJoinExec")).unwrap_or_default();
    assert!(lowest.contains("n@0"), "{plan}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_combined() -> TestResult {
    let made = |off: &[&str]| -> lacus::Result<Engine> { without(off).table("many", numbers("v", 100_000)?).build() };
    let (on, off) = (made(&[])?, made(&["conjuncts"])?);
    let question = "SELECT count(*), sum(v) FROM many WHERE v % 7 > 3 AND v > 1000 AND v < 60000 AND CAST(v AS VARCHAR) LIKE '%7%'";
    let plans = (ask(&on, &format!("EXPLAIN {question}")).await?, ask(&off, &format!("EXPLAIN {question}")).await?);
    assert!(plans.0.contains("FilterExec: all(v@0 > 1000, v@0 < 60000, "), "{}", plans.0);
    assert!(!plans.1.contains("all("), "{}", plans.1);
    assert_eq!(ask(&on, question).await?, ask(&off, question).await?);
    // What the plan above a filter relies on is not taken away.
    let question = "SELECT v, row_number() OVER (PARTITION BY v % 2 ORDER BY v) AS n FROM many WHERE v = 7 AND v % 5 = 2";
    assert_eq!(ask(&on, question).await?, "7,1");
    let question = "SELECT w, v, row_number() OVER (PARTITION BY w ORDER BY v) AS n FROM (SELECT v % 3 AS w, v FROM many) \
                    WHERE w = 1 AND v > 10 AND v < 20 ORDER BY v";
    assert_eq!(ask(&on, question).await?, "1,13,1\n1,16,2\n1,19,3");
    assert_eq!(ask(&off, question).await?, "1,13,1\n1,16,2\n1,19,3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn decimals_are_computed_in_words() -> TestResult {
    let made = |off: &[&str]| -> lacus::Result<Engine> { without(off).table("many", numbers("v", 100_000)?).build() };
    let (on, off) = (made(&[])?, made(&["decimal_words"])?);
    let decimals = "FROM (SELECT v, CAST(v AS DECIMAL(15,2)) AS d, CAST(v AS DECIMAL(38,0)) * 1000000000000000 AS wide FROM many)";
    for (question, has_words) in [
        (format!("SELECT sum(d * (1 - d)), count(d + wide), sum(d - 0.5) {decimals}"), true),
        (format!("SELECT v, d * d AS n, wide + d AS m {decimals} ORDER BY d * d DESC LIMIT 3"), true),
        (format!("SELECT avg(d), sum(v * v) {decimals}"), false),
        (format!("SELECT n, row_number() OVER (ORDER BY n) AS place FROM (SELECT d + 1 AS n {decimals}) ORDER BY n LIMIT 2"), true),
    ] {
        let plans = (ask(&on, &format!("EXPLAIN {question}")).await?, ask(&off, &format!("EXPLAIN {question}")).await?);
        assert_eq!(plans.0.contains("words("), has_words, "{}", plans.0);
        assert!(!plans.1.contains("words("), "{}", plans.1);
        assert_eq!(ask(&on, &question).await?, ask(&off, &question).await?, "{question}");
    }
    // What 128 bits don't hold is still told.
    let failed = ask(&on, "SELECT sum(w * w) FROM (SELECT CAST(v AS DECIMAL(38,0)) * 10000000000000000000 AS w FROM many)").await;
    assert!(failed.is_err_and(|error| error.to_string().contains("verflow")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_joins_are_found_by_their_place_where_there_is_room() -> TestResult {
    let made = |memory: usize| -> lacus::Result<Engine> {
        let limits = Limits { memory, ..Limits::default() };
        let builder = register_defaults(Engine::builder(stores(Vec::new()))).limits(limits);
        builder.table("many", numbers("v", 100_000)?).table("few", numbers("f", 1000)?).build()
    };
    let apart =
        |step: i64| format!("SELECT count(*), sum(v), min(f) FROM many JOIN (SELECT (f - 500) * {step} AS f FROM few) AS few ON v = f");
    let answer = |step: i64| {
        let found = 0..=(99_999 / step).min(499);
        format!("{},{},0", found.end() + 1, found.sum::<i64>() * step)
    };
    for (memory, step, by_place) in [
        (64 << 20, 10, true),
        // A range of 100,000 takes 400 KB, which is much of 64 MiB.
        (64 << 20, 100, false),
        (1 << 30, 100, true),
        // One in 10,000 of a range of ten million is there.
        (16 << 30, 10_000, false),
        (16 << 30, 100, true),
    ] {
        let engine = made(memory)?;
        let plan = ask(&engine, &format!("EXPLAIN ANALYZE {}", apart(step))).await?;
        let is_by_place = plan.contains("array_map_created_count=") && !plan.contains("array_map_created_count=0");
        assert_eq!(is_by_place, by_place, "{memory} {step}: {plan}");
        assert_eq!(ask(&engine, &apart(step)).await?, answer(step), "{memory} {step}");
    }
    Ok(())
}

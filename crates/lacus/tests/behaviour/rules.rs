//! Rules of the optimizer change plans, never answers.

use lacus::{Engine, RULES, register_defaults};

use crate::{TestResult, ask, stores};

/// Tables with missing and repeated keys.
const TABLES: [&str; 3] = [
    "CREATE VIEW a AS SELECT * FROM (VALUES (1, 10, 'x'), (1, 11, 'y'), (2, 20, NULL), (3, NULL, 'x'), (NULL, 40, 'x'), (5, 50, 'z'), (5, 50, 'z')) AS t(k, v, g)",
    "CREATE VIEW b AS SELECT * FROM (VALUES (1, 100), (2, 200), (2, 201), (NULL, 300), (4, 400), (5, 1)) AS t(k, w)",
    "CREATE VIEW c AS SELECT * FROM (VALUES (1, 'p'), (1, 'q'), (3, 'p'), (5, 'p'), (NULL, 'p'), (6, NULL)) AS t(k, x)",
];

const QUESTIONS: [&str; 16] = [
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
    let engines = [
        made([]).await?,
        made(RULES[1..].iter().map(|name| (*name).to_owned())).await?,
        made([RULES[0], RULES[2]].map(str::to_owned)).await?,
        made(RULES[..2].iter().map(|name| (*name).to_owned())).await?,
    ];
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

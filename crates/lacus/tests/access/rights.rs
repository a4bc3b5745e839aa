//! What is refused beside reading, and what changes when the policy does.

use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use futures::TryStreamExt;
use lacus::{Decided, Ingest, Kind, Session};

use crate::doors::{Answer, Door, Doors, rows};
use crate::lake::{Lake, principal};
use crate::{Matrix, TestResult};

/// What `ada` may do, and what she may not: by which rule (by none, if the name is empty; where it is `-`, nothing has to be decided), and with
/// which part of the error.
const STATEMENTS: [(&str, &str, Option<&str>); 64] = [
    ("CREATE TABLE ada_a AS SELECT * FROM filtered", "own tables", None),
    ("INSERT INTO ada_a SELECT * FROM filtered", "own tables", None),
    ("UPDATE ada_a SET v = 1 WHERE id = 1", "own tables", None),
    ("DELETE FROM ada_a WHERE id = 1", "own tables", None),
    ("CREATE OR REPLACE TABLE ada_a AS SELECT id FROM masked", "own tables", None),
    ("CREATE VIEW ada_v AS SELECT * FROM filtered", "own tables", None),
    ("DROP VIEW ada_v", "own tables", None),
    ("INSERT OVERWRITE ada_a SELECT id FROM controlled", "own tables", None),
    ("TRUNCATE TABLE ada_a", "own tables", None),
    ("DROP TABLE ada_a", "own tables", None),
    ("CREATE TABLE shared.mine_a AS SELECT 1 AS x", "own part of what is shared", None),
    ("DROP TABLE shared.mine_a", "own part of what is shared", None),
    ("DROP TABLE IF EXISTS unnamed", "nobody", None),
    ("DROP TABLE IF EXISTS nosuch", "", None),
    ("CREATE SCHEMA labbook", "own tables", None),
    ("CREATE TABLE labbook.page AS SELECT 1 AS x", "own tables", None),
    ("DROP SCHEMA labbook CASCADE", "own tables", None),
    ("SELECT * FROM 'disk:open/fine.csv'", "own folder", None),
    ("SELECT * FROM read_csv('disk:open/fine.csv')", "own folder", None),
    ("CREATE EXTERNAL TABLE ada_e STORED AS CSV LOCATION 'disk:open/fine.csv'", "own folder", None),
    ("SELECT * FROM ada_e", "own tables", None),
    ("DROP TABLE ada_e", "own tables", None),
    ("COPY (SELECT id, v FROM filtered) TO 'disk:results/a.zarr' OPTIONS (dims 'id')", "one's own rows", None),
    ("SET datafusion.execution.batch_size = 100", "batch size", None),
    ("SET datafusion.execution.time_zone = 'UTC'", "-", None),
    ("SELECT * FROM 'disk:*/fine.csv'", "not for ada", Some("by path")),
    ("SELECT * FROM read_csv('disk:open/')", "not for ada", Some("by path")),
    ("CREATE TABLE other AS SELECT 1 AS x", "", Some("may not create")),
    ("CREATE VIEW other AS SELECT 1 AS x", "", Some("may not create")),
    ("CREATE OR REPLACE VIEW plain AS SELECT 1 AS x", "", Some("may not create")),
    ("CREATE SCHEMA other", "", Some("may not create")),
    ("CREATE SCHEMA hideout", "nobody", Some("may not create")),
    ("DROP TABLE plain", "", Some("may not drop")),
    ("DROP SCHEMA shared CASCADE", "", Some("may not drop")),
    ("DROP SCHEMA mixed CASCADE", "kept", Some("holds what you may not drop")),
    ("UPDATE partial SET id = 1", "part of a table", Some("can't be written by who sees only a part")),
    ("DELETE FROM partial WHERE id = 1", "part of a table", Some("can't be written by who sees only a part")),
    ("INSERT INTO hiding (id) VALUES (1)", "without a column", Some("can't be written by who sees only a part")),
    ("SELECT id FROM failing", "a filter that fails", Some("can't be computed")),
    ("DROP SCHEMA hideout CASCADE", "-", Some("no schema `hideout`")),
    ("DROP SCHEMA main CASCADE", "", Some("")),
    ("DROP TABLE shared.kept", "", Some("no table")),
    ("INSERT OVERWRITE plain VALUES (1, 'x', 2)", "", Some("may not")),
    ("INSERT OVERWRITE filtered SELECT * FROM filtered", "", Some("may not")),
    ("INSERT INTO inbox SELECT id, name FROM unnamed", "nobody", Some("no table `unnamed`")),
    ("CREATE TABLE ada_c AS SELECT (SELECT max(id) FROM embargoed) AS x", "", Some("no table `embargoed`")),
    ("CREATE OR REPLACE VIEW ada_w AS SELECT * FROM unnamed", "nobody", Some("no table `unnamed`")),
    ("DROP TABLE unnamed", "nobody", Some("no table `unnamed`")),
    ("DROP TABLE inbox", "", Some("may not drop")),
    ("INSERT INTO plain VALUES (1, 'x', 2)", "", Some("may not insert")),
    ("INSERT INTO unnamed VALUES (1, 'x', 2)", "nobody", Some("no table `unnamed`")),
    ("UPDATE plain SET v = 1", "", Some("may not update")),
    ("DELETE FROM filtered", "", Some("may not delete")),
    ("TRUNCATE TABLE plain", "", Some("may not delete")),
    ("SELECT * FROM inbox", "", Some("may not select")),
    ("SELECT * FROM 'disk:closed/secret.csv'", "", Some("by path")),
    ("SELECT * FROM 'disk:open/../closed/secret.csv'", "", Some("")),
    ("SELECT * FROM read_csv('disk:**/secret.csv')", "not for ada", Some("by path")),
    ("SELECT * FROM '/etc/passwd'", "", Some("by path")),
    ("SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')", "", Some("by path")),
    ("CREATE EXTERNAL TABLE ada_x STORED AS CSV LOCATION 'disk:closed/secret.csv'", "", Some("by path")),
    ("COPY plain TO 'disk:open/x.zarr' OPTIONS (dims 'id')", "", Some("by path")),
    ("SET datafusion.explain.show_statistics = true", "", Some("is not for `ada` to change")),
    ("REFRESH plain", "", Some("may not admin")),
];

/// What is to be seen of the lake as a whole, by whom, and what stands in it that is hidden.
const LISTINGS: [&str; 9] = [
    "SHOW TABLES",
    "SELECT table_schema, table_name FROM information_schema.tables",
    "SELECT table_name, column_name FROM information_schema.columns",
    "SELECT * FROM information_schema.schemata",
    "SELECT * FROM information_schema.views",
    "SELECT id, error FROM system.queries",
    "SELECT * FROM system.arrays",
    "SELECT * FROM unnamee",
    "SELECT * FROM hideouts.cellar",
];

pub(crate) async fn check(matrix: &mut Matrix, lake: &Lake, doors: &Doors) -> TestResult {
    let owner = Session::from(&principal("owner"));
    for statement in [
        "CREATE TABLE inbox (id BIGINT, name VARCHAR)",
        "CREATE SCHEMA hideout",
        "CREATE TABLE hideout.cellar AS SELECT 1 AS treasure",
        "CREATE SCHEMA shared",
        "CREATE TABLE shared.kept AS SELECT 1 AS x",
        "CREATE SCHEMA mixed",
        "CREATE TABLE mixed.kept AS SELECT 1 AS x",
        "CREATE TABLE partial AS SELECT 1 AS id",
        "CREATE TABLE hiding AS SELECT 1 AS id, 'SECRET' AS name",
        "CREATE TABLE failing AS SELECT 1 AS id, 'SECRET-other' AS name",
    ] {
        doors.engine.query(statement, &[], &owner).await?.stream()?.try_collect::<Vec<_>>().await?;
    }
    statements(matrix, doors).await;
    listings(matrix, doors).await?;
    ingests(matrix, doors).await;
    others(matrix, doors).await?;
    shadowed(matrix, doors).await?;
    revoked(matrix, lake, doors).await?;
    recorded(matrix, lake)
}

async fn statements(matrix: &mut Matrix, doors: &Doors) {
    for door in doors.opened() {
        for (statement, rule, refused) in STATEMENTS {
            // The command has a session for each statement, and Python shares that of its process.
            if door == Door::Command && refused.is_none() {
                continue;
            }
            // Of a folder that was written, another can't be.
            let statement = statement.replace("a.zarr", &format!("{door:?}.zarr"));
            let case = format!("ada by {door:?}: {statement}");
            if door == Door::Embedded {
                let report = doors.engine.check_access(&statement, &principal("ada")).await;
                if refused.is_none() && report.is_err() {
                    matrix.leaks.push(format!("{case}: can't be checked: {report:?}"));
                }
                let is_error = report.is_err();
                let decided = report.map(|report| report.decided).unwrap_or_default();
                // What a table is dropped by that may not be there, the answer doesn't tell.
                let is_allowed = refused.is_none() && !statement.contains("IF EXISTS");
                // What is refused for what a rule shows in part was allowed by that rule.
                let is_partly = ["part of a table", "without a column", "a filter that fails"].contains(&rule);
                let named = |decided: &Decided| {
                    (is_partly || decided.is_allowed == is_allowed) && decided.rule.as_deref().unwrap_or_default() == rule
                };
                if !(rule == "-" && decided.is_empty() || is_partly && is_error || decided.iter().any(named)) {
                    matrix.leaks.push(format!("{case}: is not decided by `{rule}`, but by {decided:?}"));
                }
            }
            let answer = doors.ask(door, "ada", &statement).await;
            match (refused, &answer) {
                (None, Answer::Refused(Some(Kind::Unsupported), text)) if text.contains("belongs to a session") => {
                    matrix.look(&case, &answer)
                }
                (None, Answer::Refused(_, text)) => {
                    matrix.look(&case, &answer);
                    matrix.leaks.push(format!("{case}: is refused: {text}"));
                }
                (None, Answer::Rows(_)) => matrix.look(&case, &answer),
                (Some(part), _) => matrix.wanted(&case, &answer, |text| text.contains(part)),
            }
        }
    }
}

async fn listings(matrix: &mut Matrix, doors: &Doors) -> TestResult {
    const NOT_TOLD: [&str; 7] = ["unnamed", "embargoed", "hideout", "cellar", "treasure", "members", "seen_"];
    for name in ["ada", "bob", "anonymous"] {
        for door in doors.opened() {
            for question in LISTINGS {
                let case = format!("{name} by {door:?}: {question}");
                let answer = doors.ask(door, name, question).await;
                matrix.look(&case, &answer);
                let told =
                    answer.text().replace("unnamee", "").replace("hideouts.cellar", "").replace("hideouts", "").replace("`cellar`", "");
                let may_oversee = name == "bob" && question.contains("system.queries");
                for hidden in NOT_TOLD.iter().filter(|hidden| told.contains(*hidden) && !may_oversee) {
                    // What one asked oneself one may read.
                    if !question.contains("system.queries") {
                        matrix.leaks.push(format!("{case}: `{hidden}` stands in {told}"));
                    }
                }
            }
        }
        let mut client = doors.client(name);
        let tables = client.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await?;
        let schemas = client.get_db_schemas(CommandGetDbSchemas::default()).await?;
        let mut told = String::new();
        for info in [tables, schemas] {
            for endpoint in info.endpoint {
                let batches: Vec<_> = client.do_get(endpoint.ticket.ok_or("no ticket")?).await?.try_collect().await?;
                let text = |batch| rows(batch).concat().join(" ");
                told.push_str(&batches.iter().map(text).collect::<String>());
                // Schemas of tables are messages, in which names stand as they are.
                for column in batches.iter().filter_map(|batch| batch.column_by_name("table_schema")) {
                    told.push_str(&String::from_utf8_lossy(column.to_data().buffers().last().map_or(&[], |bytes| bytes.as_slice())));
                }
            }
        }
        matrix.cases += 3;
        let keys = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: "everything".to_owned() };
        if let Ok(info) = client.get_primary_keys(keys).await {
            for endpoint in info.endpoint {
                let batches: Vec<_> = client.do_get(endpoint.ticket.ok_or("no ticket")?).await?.try_collect().await?;
                told.push_str(&batches.iter().map(|batch| rows(batch).concat().join(" ")).collect::<String>());
            }
        }
        let columns = if name == "bob" { ["unnamed", "hideout"].as_slice() } else { ["unnamed", "hideout", "owner", "phone"].as_slice() };
        for hidden in columns.iter().filter(|hidden| told.contains(**hidden)) {
            matrix.leaks.push(format!("{name} by metadata calls: `{hidden}` stands in {told}"));
        }
    }
    Ok(())
}

async fn ingests(matrix: &mut Matrix, doors: &Doors) {
    use lacus::arrow::array::{Int64Array, RecordBatch};
    use std::sync::Arc;
    let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![7])) as _)]);
    let Ok(batch) = batch else { return };
    let cases = [
        ("ada", "inbox", Ingest::Append, None),
        ("ada", "ada_i", Ingest::Create { temporary: false }, None),
        ("ada", "ada_i", Ingest::Replace { temporary: false }, None),
        ("ada", "plain", Ingest::Append, Some("may not insert")),
        ("ada", "unnamed", Ingest::Append, Some("no table `unnamed`")),
        ("ada", "filtered", Ingest::Append, Some("")),
        ("ada", "other", Ingest::Create { temporary: false }, Some("may not create")),
        ("ada", "inbox", Ingest::Replace { temporary: false }, Some("may not")),
        ("bob", "inbox", Ingest::Append, Some("no table `inbox`")),
        ("bob", "inbox", Ingest::CreateAppend { temporary: false }, Some("may not create")),
        ("anonymous", "inbox", Ingest::Append, Some("no table `inbox`")),
    ];
    for (name, table, how, refused) in cases {
        let rows = Box::pin(futures::stream::iter([Ok(batch.clone())]));
        let ingested = doors.engine.ingest(&table.into(), how, batch.schema(), rows, &Session::new(&principal(name))).await;
        let case = format!("{name} ingests into {table} by {how:?}");
        match (refused, ingested) {
            (None, Ok(_)) => matrix.cases += 1,
            (None, Err(error)) => matrix.leaks.push(format!("{case}: {error}")),
            (Some(_), Ok(_)) => matrix.leaks.push(format!("{case}: is done")),
            (Some(part), Err(error)) => {
                matrix.wanted(&case, &Answer::Refused(Some(error.kind()), error.to_string()), |text| text.contains(part));
            }
        }
    }
}

/// Queries of others.
async fn others(matrix: &mut Matrix, doors: &Doors) -> TestResult {
    let running = doors.engine.query("SELECT 1 AS \"SECRETLY\"", &[], &Session::from(&principal("owner"))).await?;
    let id = running.id().to_owned();
    for (name, refused) in [("ada", true), ("anonymous", true), ("bob", false)] {
        let answer = doors.ask(Door::Embedded, name, &format!("SELECT count(*) FROM system.queries WHERE id = '{id}'")).await;
        matrix.cases += 1;
        if answer != Answer::Rows(vec![vec![u8::from(!refused).to_string()]]) {
            matrix.leaks.push(format!("{name} sees of a query of the owner: {}", answer.text()));
        }
        let killed = doors.ask(Door::Embedded, name, &format!("KILL '{id}'")).await;
        match refused {
            true => matrix.wanted(&format!("{name} kills"), &killed, |text| text.contains("no query")),
            false => matrix.cases += 1,
        }
    }
    // How much was read of a table that is seen in part is not told of one's own queries either.
    let asked = "SELECT count(*) FROM filtered WHERE id > 0";
    doors.ask(Door::Embedded, "ada", asked).await;
    let told = format!("SELECT count(*) > 0, count(rows_read) + count(bytes_read) FROM system.queries WHERE sql = '{asked}'");
    let answer = doors.ask(Door::Embedded, "ada", &told).await;
    matrix.cases += 1;
    if answer != Answer::Rows(vec![vec!["true".to_owned(), "0".to_owned()]]) {
        matrix.leaks.push(format!("what was read of a part is told: {}", answer.text()));
    }
    assert_eq!(running.stream()?.try_collect::<Vec<_>>().await.map_err(|error| error.kind()), Err(Kind::Cancelled));
    Ok(())
}

/// What a session calls its own is nothing to the policy.
async fn shadowed(matrix: &mut Matrix, doors: &Doors) -> TestResult {
    let session = Session::new(&principal("ada"));
    let run = async |text: &str| -> TestResult<Vec<lacus::arrow::array::RecordBatch>> {
        Ok(doors.engine.query(text, &[], &session).await?.stream()?.try_collect().await?)
    };
    let everything = "SELECT count(*) FROM main.everything";
    let wanted = run(everything).await?;
    run("CREATE TEMPORARY TABLE members AS SELECT 'ada' AS person, unnest(make_array('ada', 'bob', 'carl')) AS member").await?;
    let shadowed = run(everything).await?;
    run("SET schema = 'information_schema'").await?;
    let (moved, arrays) = (run(everything).await?, run("SELECT * FROM system.attributes").await?);
    matrix.cases += 3;
    if shadowed != wanted || moved != wanted || arrays.iter().any(|batch| batch.num_rows() > 0) {
        matrix.leaks.push("what a session calls its own changes what the policy means".to_owned());
    }
    Ok(())
}

/// What is no longer granted is refused by the next statement of an open connection, prepared before or not.
async fn revoked(matrix: &mut Matrix, lake: &Lake, doors: &Doors) -> TestResult {
    let mut client = doors.client("ada");
    let mut prepared = client.prepare("SELECT count(*) FROM filtered".to_owned(), None).await?;
    let planned = client.execute("SELECT count(*) FROM filtered".to_owned(), None).await?;
    assert_eq!(prepared.execute().await?.endpoint.len(), 1);
    lake.repolicy(|text| text.replace("to = [\"user:ada\"]\ntables = [\"filtered\"]", "to = [\"user:nobody\"]\ntables = [\"filtered\"]"))?;
    let refused = |outcome: Option<String>| outcome.filter(|text| text.contains("no table `filtered`"));
    let again = prepared.execute().await.err().map(|error| error.to_string());
    let anew = client.execute("SELECT count(*) FROM filtered".to_owned(), None).await.err().map(|error| error.to_string());
    let ticket = planned.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).ok_or("no ticket")?;
    let fetched = match client.do_get(ticket).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    matrix.cases += 3;
    for (case, outcome) in [("a prepared statement", refused(again)), ("a new statement", refused(anew)), ("a ticket of before", fetched)] {
        if outcome.is_none() {
            matrix.leaks.push(format!("{case} is answered after the grant was taken away"));
        }
    }
    // What can't be read leaves the rules as they were.
    lake.repolicy(|text| format!("{text}\n[[rule]]\nto = [\"user:ada\"]\n"))?;
    let answer = doors.ask(Door::Embedded, "ada", "SELECT count(*) FROM filtered").await;
    matrix.wanted("a policy that can't be used", &answer, |text| text.contains("no table `filtered`"));
    Ok(())
}

/// What was refused is recorded as denied, with the version of the policy.
fn recorded(matrix: &mut Matrix, lake: &Lake) -> TestResult {
    let text = std::fs::read_to_string(lake.folder().join("audit.jsonl"))?;
    let records: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_unnamed = records.iter().filter(|record| record["user"] == "bob" && record["sql"] == "SELECT * FROM unnamed ORDER BY id");
    let outcomes: Vec<_> = of_unnamed.map(|record| (record["outcome"].as_str(), record["denied"].as_str())).collect();
    matrix.cases += 1;
    if outcomes.is_empty()
        || outcomes.iter().any(|outcome| *outcome != (Some("denied"), Some("select on `lab.main.unnamed` denied: by the rule `nobody`")))
    {
        matrix.leaks.push(format!("a denial is not recorded: {outcomes:?}"));
    }
    if !records
        .iter()
        .all(|record| record["event"] != "query" || record["policy"].as_str().is_some_and(|version| version.starts_with("1 (")))
    {
        matrix.leaks.push("a record has no version of the policy".to_owned());
    }
    Ok(())
}

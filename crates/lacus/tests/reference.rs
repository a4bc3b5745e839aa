//! The reference pages that are generated from the code: `make docs` writes them, this test compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lacus::{Kind, reference};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn same_or_write(page: &str, text: &str) -> TestResult {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    if std::env::var("LACUS_WRITE_REFERENCE").is_ok() {
        std::fs::write(&path, text)?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/{page} is not what the code says: run `make docs`");
    Ok(())
}

#[test]
fn the_lake_file() -> TestResult {
    let mut page = String::from("# The lake file\n\nEvery key of `lacus.toml`. Generated from the code by `make docs`.\n");
    let mut section = "";
    for option in reference() {
        if option.section != section {
            section = option.section;
            write!(page, "\n## `{section}`\n\n| key | default | meaning |\n|---|---|---|\n")?;
        }
        writeln!(page, "| `{}` | {} | {} |", option.key, option.default, option.doc.trim())?;
    }
    same_or_write("lake-file.md", &page)
}

#[test]
fn the_kinds_of_errors() -> TestResult {
    let status = |kind| format!("{:?}", lacus_flight::to_status(&lacus::Error::new(kind, "")).code());
    let mut page = String::from("# Errors\n\nEvery kind, and what it becomes at each edge. Generated from the code by `make docs`.\n\n");
    page.push_str(
        "The code is `x-error-code` in the headers of Flight SQL and `.code` in Python; `lacus --help` lists the exit codes.\n\n",
    );
    page.push_str("| code | gRPC status |\n|---|---|\n");
    for kind in Kind::ALL {
        writeln!(page, "| `{}` | {} |", kind.code(), status(kind))?;
    }
    same_or_write("errors.md", &page)
}

/// What the specification of Flight SQL, and what its drivers rely on, has; the last of each says what Lacus does.
const CALLS: [(&str, &str, &str); 32] = [
    (
        "Handshake",
        "yes",
        "name and password in the header or in the message, for a bearer token; also with a token, as JDBC does. Not needed on an address of this machine without users",
    ),
    (
        "GetFlightInfo of CommandStatementQuery",
        "yes",
        "plans once, and keeps the plan under a handle that nobody guesses, for five minutes",
    ),
    (
        "DoGet of a ticket",
        "yes",
        "runs the plan that was made, once; what is streamed has the schema that was told. No message is above 4 MiB; an empty batch every five silent seconds",
    ),
    ("DDL and DML as a query", "yes", "runs when it is asked for, whether or not anything is fetched"),
    ("GetSchema", "yes", "of statements, prepared statements and all metadata, without running"),
    ("DoPut of CommandStatementUpdate", "yes", "the number of rows"),
    ("CreatePreparedStatement", "yes", "runs nothing; the schema of the parameters in their order; `is_update`"),
    ("DoPut of parameters of a query", "yes", "by position, or by the names of `$name`; several rows answer one after another"),
    ("GetFlightInfo and DoGet of a prepared statement", "yes", "as often as it is asked; also bound after it was asked for"),
    ("DoPut of CommandPreparedStatementUpdate", "yes", "for each row of parameters; INSERT of many rows is one commit"),
    ("ClosePreparedStatement", "yes", "any number of times"),
    ("GetSqlInfo", "yes", "every id but those of Substrait, in the types that drivers cast to"),
    ("GetCatalogs", "yes", "the lake"),
    ("GetDbSchemas", "yes", "by catalog and pattern"),
    (
        "GetTables",
        "yes",
        "by catalog, patterns and types; schemas with descriptions, units and names of types. Without schemas no dataset is opened",
    ),
    ("GetTableTypes", "yes", "those that GetTables tells"),
    ("GetPrimaryKeys, GetExportedKeys, GetImportedKeys, GetCrossReference", "yes", "the keys that the lake file declares"),
    ("GetXdbcTypeInfo", "yes", "all types, or one"),
    ("CancelFlightInfo, CancelQuery", "yes", "what waits, runs, or is polled, by whoever asked for it"),
    ("Going away, and the deadline of a call", "yes", "ends the query and what it reads"),
    (
        "PollFlightInfo",
        "yes",
        "computes in the background onto disk; progress that never falls; endpoints as parts of the result are there",
    ),
    ("RenewFlightEndpoint", "yes", "results of PollFlightInfo; they tell when they expire"),
    ("SetSessionOptions, GetSessionOptions, CloseSession", "yes", "`catalog`, `schema`, settings"),
    (
        "Several endpoints",
        "yes",
        "with the header `endpoints: N`, as many as can be read apart; parts of a polled result, in their order. One otherwise: many clients read no other",
    ),
    ("app_metadata", "yes", "the id of the query in `system.queries`"),
    (
        "DoPut of CommandStatementIngest",
        "yes",
        "create, append, replace, create_append; temporary; columns by name; all or nothing; survives a killed server",
    ),
    ("BeginTransaction, EndTransaction, savepoints", "refused", "each statement is committed by itself, and GetSqlInfo says so"),
    ("Plans of Substrait", "refused", "GetSqlInfo says so"),
    ("ListFlights, DoExchange", "refused", "the answer names the call to use"),
    ("ListActions", "yes", "those that there are"),
    ("Health of gRPC", "yes", "that of the server and of its service"),
    ("A stop that drains", "yes", "on SIGTERM what runs may finish within 30 seconds"),
];

/// The tests that say in a comment which calls they are about.
fn proofs(folder: &Path, found: &mut BTreeMap<usize, BTreeSet<String>>) -> TestResult {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proofs(&path, found)?;
            continue;
        }
        if !path.extension().is_some_and(|ending| ending == "rs" || ending == "py") {
            continue;
        }
        let (text, mut calls) = (std::fs::read_to_string(&path)?, Vec::new());
        for line in text.lines() {
            let line = line.trim();
            if let Some(numbers) = line.strip_prefix("/// Flight SQL: ").or_else(|| line.strip_prefix("# Flight SQL: ")) {
                calls = numbers.split(", ").map(str::parse::<usize>).collect::<Result<_, _>>()?;
            }
            let named = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("def ")).and_then(|rest| rest.split('(').next());
            if let Some(name) = named {
                for call in calls.drain(..) {
                    found.entry(call).or_default().insert(name.to_owned());
                }
            }
        }
        assert!(calls.is_empty(), "{}: a comment names calls, and no test follows", path.display());
    }
    Ok(())
}

#[test]
fn the_calls_of_flight_sql() -> TestResult {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    proofs(&root.join("tests"), &mut found)?;
    proofs(&root.join("../../python/tests"), &mut found)?;
    let mut page = String::from(
        "# Flight SQL\n\nWhat each call of [Arrow Flight SQL](https://arrow.apache.org/docs/format/FlightSql.html) does, and the tests that hold it, all of \
         which run in `make test`. Generated from them by `make docs`. How clients ask is in [clients](clients.md), what a server offers in \
         [serve](serve.md); beside other servers stand the steps of the ADBC driver in \
         [benches/results/probe.md](../benches/results/probe.md).\n\n",
    );
    page.push_str("| # | call | | what it does | held by |\n|---|---|---|---|---|\n");
    for (place, (call, status, what)) in CALLS.iter().enumerate() {
        let number = place + 1;
        let tests = found.remove(&number).unwrap_or_default();
        assert!(!tests.is_empty(), "no test is about {number}, {call}");
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        writeln!(page, "| {number} | {call} | {status} | {what} | {} |", tests.join(", "))?;
    }
    assert!(found.is_empty(), "tests are about calls that are not listed: {found:?}");
    same_or_write("flight-sql.md", &page)
}

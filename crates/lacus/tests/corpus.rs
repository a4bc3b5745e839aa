//! The SQL tests of DataFusion, as they lie in the crate `datafusion-sqllogictest`, through a server: what they expect of DataFusion is
//! expected of Lacus. `LACUS_CORPUS` is the folder `test_files` of that crate; without it nothing is run. `make conformance` sets it.
//!
//! A record is left out for one of five reasons, each printed with its count:
//!
//! * `explain`: it shows a plan, and plans are those of another optimizer;
//! * `files`: it names files that the crate doesn't carry, or writes beside them;
//! * `fixtures`: it needs tables or functions that the program of those tests makes;
//! * `spark`: it is about another dialect;
//! * `settings`: it is about the settings and the catalogs of that program.
//!
//! A record that expects an error passes with any: texts of errors are those of Lacus. What follows from a record that is left out is left out with it. Failures are listed in `sql/corpus-failures.txt`, each with its reason:
//! one that is not there fails the test, and so does one that is there and passes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what was counted is the result")]

#[path = "sql/files.rs"]
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bigdecimal::BigDecimal;
use lacus::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use lacus::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
};
use lacus::arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use lacus::{Config, Error, Kind, TryStreamExt};
use lacus_remote::Remote;
use lacus_server::Server;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Normalizer, Record, Runner};
use tokio::task::JoinHandle;

use crate::files::files;

type TestResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LAKE: &str = "[lake]\nname = \"datafusion\"\nwrite_to = \"disk\"\n[store.disk]\nurl = \"store\"\nwritable = true\n";
/// How many files are run at once.
const AT_ONCE: usize = 2;
/// What one record may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Files whose tables and functions are made by the program of those tests.
const FIXTURES: [&str; 13] = [
    "avro.slt",
    "async_udf.slt",
    "information_schema_table_types.slt",
    "information_schema_columns.slt",
    "map.slt",
    "range_partitioning.slt",
    "metadata.slt",
    "arrow_field.slt",
    "union_function.slt",
    "cast_extension_type_metadata.slt",
    "run_end_encoded.slt",
    "dynamic_file.slt",
    "encrypted_parquet.slt",
];
/// Files about settings, catalogs and caches of that program.
const SETTINGS: [&str; 8] = [
    "set_variable.slt",
    "information_schema.slt",
    "information_schema_multiple_catalogs.slt",
    "slt_features.slt",
    "parquet_cdc_config.slt",
    "dynamic_filter_pushdown_config.slt",
    "statistics_registry.slt",
    "parquet_metadata_functions.slt",
];

/// A server over a lake of its own.
struct Db {
    remote: Remote,
    serving: JoinHandle<lacus::Result<()>>,
}

impl Db {
    async fn open(folder: &Path) -> lacus::Result<Self> {
        let config = Config::parse(LAKE, folder.to_owned(), &|_| None)?;
        let server = Server::bind("127.0.0.1:0").await?;
        let uri = server.uri();
        let serving = tokio::spawn(server.serve(config.engine()?, std::future::pending()));
        Ok(Self { remote: Remote::connect(&uri).await?, serving })
    }
}

#[async_trait::async_trait]
impl AsyncDB for Db {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> lacus::Result<DBOutput<DefaultColumnType>> {
        let asked = async {
            let query = self.remote.query(sql, &[]).await?;
            if query.is_command() {
                return Ok(DBOutput::StatementComplete(0));
            }
            let columns = query.schema().fields().len();
            let batches: Vec<RecordBatch> = query.stream()?.try_collect().await?;
            let mut rows = Vec::new();
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| cell(column, row)).collect::<lacus::Result<Vec<_>>>()?;
                    rows.extend(lines(cells));
                }
            }
            Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Error::new(Kind::DeadlineExceeded, "the record takes too long")))
    }

    async fn shutdown(&mut self) {
        self.serving.abort();
    }
}

/// A cell as those tests write it.
fn cell(column: &ArrayRef, row: usize) -> lacus::Result<String> {
    if column.is_null(row) {
        return Ok("NULL".to_owned());
    }
    let text = |text: &str| match text {
        "" => "(empty)".to_owned(),
        text => text.trim_end_matches('\n').replace('\0', "\\0"),
    };
    let shown = || -> lacus::Result<String> {
        let options = FormatOptions::default().with_null("NULL").with_duration_format(DurationFormat::Pretty);
        Ok(ArrayFormatter::try_new(column, &options)?.value(row).to_string())
    };
    Ok(match column.data_type() {
        DataType::Float16 => {
            number(f64::from(column.as_primitive::<Float16Type>().value(row)), &column.as_primitive::<Float16Type>().value(row).to_string())
        }
        DataType::Float32 => {
            number(f64::from(column.as_primitive::<Float32Type>().value(row)), &column.as_primitive::<Float32Type>().value(row).to_string())
        }
        DataType::Float64 => {
            number(column.as_primitive::<Float64Type>().value(row), &column.as_primitive::<Float64Type>().value(row).to_string())
        }
        DataType::Decimal32(_, scale) => plain(&column.as_primitive::<Decimal32Type>().value_as_string(row), i64::from(*scale)),
        DataType::Decimal64(_, scale) => plain(&column.as_primitive::<Decimal64Type>().value_as_string(row), i64::from(*scale)),
        DataType::Decimal128(_, scale) => plain(&column.as_primitive::<Decimal128Type>().value_as_string(row), i64::from(*scale)),
        DataType::Decimal256(_, scale) => plain(&column.as_primitive::<Decimal256Type>().value_as_string(row), i64::from(*scale)),
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row)),
        DataType::Utf8View => text(column.as_string_view().value(row)),
        _ => shown()?,
    })
}

fn number(value: f64, text: &str) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => plain(text, 12),
    }
}

fn plain(text: &str, digits: i64) -> String {
    BigDecimal::from_str(text).map_or_else(|_| text.to_owned(), |value| value.round(digits).normalized().to_plain_string())
}

/// A row whose last cell has several lines is several rows.
fn lines(mut row: Vec<String>) -> Vec<Vec<String>> {
    match row.last() {
        Some(last) if last.contains('\n') => {
            let last = row.pop().unwrap_or_default();
            let numbered = last.split('\n').enumerate().map(|(place, line)| {
                let content = line.trim_start();
                vec![format!("{:02}){}{content}", place + 1, "-".repeat(line.len() - content.len()))]
            });
            std::iter::once(row).chain(numbered).collect()
        }
        _ => vec![row],
    }
}

/// Compares as those tests do: `<slt:ignore>` stands for anything.
fn agrees(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    let expected: Vec<String> = expected.iter().map(normalizer).collect();
    let actual: Vec<String> = actual.iter().map(|row| row.join(" ").trim_end().to_owned()).collect();
    let (expected, actual) = (expected.join("\n"), actual.join("\n"));
    let mut rest = actual.as_str();
    let mut fragments = expected.split("<slt:ignore>");
    let Some(first) = fragments.next() else { return false };
    if !expected.contains("<slt:ignore>") {
        return expected == actual;
    }
    match rest.strip_prefix(first) {
        Some(after) => rest = after,
        None => return false,
    }
    fragments.all(|fragment| match rest.find(fragment) {
        Some(place) => {
            rest = &rest[place + fragment.len()..];
            true
        }
        None => false,
    })
}

/// Why a record is left out; `None` when it is run.
fn left_out(file: &str, sql: &str) -> Option<&'static str> {
    let name = file.rsplit('/').next().unwrap_or(file);
    if file.starts_with("spark/") {
        return Some("spark");
    }
    if FIXTURES.contains(&name) {
        return Some("fixtures");
    }
    if SETTINGS.contains(&name) {
        return Some("settings");
    }
    let text = sql.trim_start().to_lowercase();
    if text.starts_with("explain") {
        return Some("explain");
    }
    let of_files = ["../../", "test_files/", "workspace_root", "location '", "stored as", "copy "];
    if of_files.iter().any(|word| text.contains(word)) {
        return Some("files");
    }
    let of_settings = [
        "datafusion.runtime",
        "datafusion.catalog",
        "show all",
        "df_settings",
        "create database",
        "datafusion.format",
        "datafusion.public",
        "show functions",
        "explain.format",
    ];
    if of_settings.iter().any(|word| text.contains(word)) {
        return Some("settings");
    }
    None
}

/// The names that a statement makes.
fn makes(sql: &str) -> Option<String> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    if lower.first().is_none_or(|word| word != "create") {
        return None;
    }
    let place = lower.iter().position(|word| ["table", "view", "function"].contains(&word.as_str()))? + 1;
    let place = if lower.get(place).is_some_and(|word| word == "if") { place + 3 } else { place };
    let name = words.get(place)?.split('(').next()?;
    Some(name.trim_matches('"').to_lowercase())
}

/// The table that a statement fills.
fn fills(sql: &str) -> Option<String> {
    let mut words = sql.split_whitespace().map(str::to_lowercase);
    let begins = words.next()? == "insert" && words.next()? == "into";
    begins.then(|| words.next()).flatten().map(|name| name.split('(').next().unwrap_or_default().trim_matches('"').to_owned())
}

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: Vec<(String, String)>,
    skipped: BTreeMap<&'static str, usize>,
}

async fn run(root: &Path, path: &Path, counts: &Mutex<Counts>) -> TestResult<()> {
    let file = path.strip_prefix(root)?.display().to_string();
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("store"))?;
    let at = folder.path().to_owned();
    let mut runner = Runner::new(move || {
        let at = at.clone();
        async move { Db::open(&at).await }
    });
    runner.add_label("Datafusion");
    runner.with_validator(agrees);
    runner.with_normalizer(|text| text.trim_end().to_owned());
    let mut gone: BTreeMap<String, &'static str> = BTreeMap::new();
    for record in sqllogictest::parse_file::<DefaultColumnType>(path)? {
        let (sql, line) = match &record {
            Record::Statement { sql, loc, .. } | Record::Query { sql, loc, .. } => (sql.clone(), loc.line()),
            Record::Halt { .. } => break,
            _ => {
                // Controls change how what follows is compared.
                let _ = runner.run_async(record).await;
                continue;
            }
        };
        let skip = |reason| {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.skipped.entry(reason).or_default() += 1;
        };
        if let Some(reason) = left_out(&file, &sql) {
            if let Some(name) = makes(&sql).or_else(|| fills(&sql)) {
                gone.insert(name, reason);
            }
            // A table that is dropped, and made anew by another record, is no longer left out.
            skip(reason);
            continue;
        }
        let lower = sql.to_lowercase();
        let words: BTreeSet<&str> = lower.split(|character: char| !(character.is_alphanumeric() || character == '_')).collect();
        if let Some(name) = makes(&sql).filter(|name| gone.contains_key(name))
            && !gone.keys().any(|other| *other != name && words.contains(other.as_str()))
        {
            gone.remove(&name);
        }
        if let Some(reason) = gone.iter().find(|(name, _)| words.contains(name.as_str())).map(|(_, reason)| *reason) {
            if let Some(name) = makes(&sql).or_else(|| fills(&sql)) {
                gone.insert(name, reason);
            }
            skip(reason);
            // What was made, and then filled by what was left out, must be gone for what makes it anew.
            if words.contains("drop") && words.contains("table") {
                gone.retain(|name, _| !words.contains(name.as_str()));
                let _ = runner.run_async(record).await;
            }
            continue;
        }
        let outcome = runner.run_async(record).await;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => counts.passed += 1,
            Err(error) => match error.display(false).to_string() {
                // An error was expected, and is given; its text is that of Lacus.
                text if text.contains("is expected to fail with error") => counts.passed += 1,
                text => counts.failed.push((format!("{file}:{line}"), text)),
            },
        }
    }
    runner.shutdown_async().await;
    Ok(())
}

fn main() -> ExitCode {
    let Some(root) = std::env::var_os("LACUS_CORPUS").map(PathBuf::from) else { return ExitCode::SUCCESS };
    match check(&root) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the corpus can't be run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> TestResult<bool> {
    let only = std::env::var("LACUS_CORPUS_ONLY").ok();
    let runtime = lacus::runtime()?;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let all = files(root)?.into_iter().filter(|file| only.as_ref().is_none_or(|only| file.to_string_lossy().contains(only.as_str())));
    runtime.block_on(async {
        let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let mut running = tokio::task::JoinSet::new();
        for file in all {
            let (root, counts, turns) = (root.to_owned(), Arc::clone(&counts), Arc::clone(&turns));
            running.spawn(async move {
                let _turn = turns.acquire().await?;
                run(&root, &file, &counts).await.map_err(|error| format!("{}: {error}", file.display()).into())
            });
        }
        while let Some(ended) = running.join_next().await {
            let ended: TestResult<()> = ended?;
            ended?;
        }
        TestResult::Ok(())
    })?;
    let counts = std::mem::take(&mut *counts.lock().unwrap_or_else(PoisonError::into_inner));
    report(&counts, only.is_some())
}

/// Prints what was counted; whether the failures are those that are known.
fn report(counts: &Counts, is_part: bool) -> TestResult<bool> {
    let known = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sql/corpus-failures.txt");
    let known: BTreeMap<String, String> = std::fs::read_to_string(known)?
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once(' ').map(|(place, reason)| (place.to_owned(), reason.trim().to_owned())))
        .collect();
    let failed: BTreeMap<&str, &str> = counts.failed.iter().map(|(place, error)| (place.as_str(), error.as_str())).collect();
    if std::env::var_os("LACUS_CORPUS_SHOW").is_some() {
        counts.failed.iter().for_each(|(place, error)| println!("== {place}\n{error}\n"));
    }
    let new: Vec<&&str> = failed.keys().filter(|place| !known.contains_key(**place)).collect();
    // What nothing orders may come in the order that is expected.
    let by_chance = |reason: &str| reason.starts_with("the order of rows");
    let mended: Vec<&String> =
        known.iter().filter(|(place, reason)| !failed.contains_key(place.as_str()) && !by_chance(reason)).map(|(place, _)| place).collect();
    new.iter().for_each(|place| println!("fails, and is not listed: {place}"));
    if !is_part {
        mended.iter().for_each(|place| println!("is listed, and passes: {place}"));
    }
    let applicable = counts.passed + counts.failed.len();
    let skipped: usize = counts.skipped.values().sum();
    println!(
        "corpus: {applicable} applicable, {} passed ({:.2}%), {} failed; {skipped} left out: {:?}",
        counts.passed,
        100. * counts.passed as f64 / applicable.max(1) as f64,
        counts.failed.len(),
        counts.skipped
    );
    Ok(new.is_empty() && (is_part || mended.is_empty()))
}

//! SQLite: a file, read by SQLite itself in threads that may wait.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::{NaiveDate, NaiveDateTime};
use lacus_core::{Error, Kind, Result};
use lacus_remote::{Batches, Dialect, Stored, Traffic};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;

use crate::database::{About, Described, Driver};
use crate::reading::read_by;
use crate::values::{Rows, Unfit, Values};

/// How long is waited for whoever writes.
const BUSY: Duration = Duration::from_secs(5);
/// After how many of its steps SQLite looks whether anybody still waits.
const STEPS: std::ffi::c_int = 10_000;
/// How many rows tell what a column holds whose type says nothing.
const LOOKED_AT: usize = 1_000;

/// A file of SQLite.
#[derive(Debug)]
pub(crate) struct Sqlite {
    file: PathBuf,
    is_immutable: bool,
}

impl Sqlite {
    pub(crate) fn new(file: PathBuf, is_immutable: bool) -> Self {
        Self { file, is_immutable }
    }

    /// What a thread that may wait does with the file.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let (file, is_immutable) = (self.file.clone(), self.is_immutable);
        let broken = |error| Error::new(Kind::Internal, format!("reading of a database broke off: {error}"));
        let work = move || opened(&file, is_immutable).and_then(work);
        tokio::task::spawn_blocking(work).await.map_err(broken)?
    }
}

fn opened(file: &std::path::Path, is_immutable: bool) -> Result<Connection> {
    if !file.is_file() {
        let error = Error::new(Kind::NotFound, "there is no such file of SQLite").with("file", file.display());
        return Err(error.hint("check the path in `url`, which stands below the folder of the lake file"));
    }
    // Whatever stands for itself in an address.
    let mut address = url::Url::from_file_path(std::path::absolute(file).unwrap_or_else(|_| file.to_owned()))
        .map(String::from)
        .map_err(|()| Error::new(Kind::InvalidConfiguration, "the path can't be written as an address").with("file", file.display()))?;
    if is_immutable {
        address.push_str("?immutable=1");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(address, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    });
    opened.map_err(|error| failed(&error).with("file", file.display()))
}

/// What SQLite says against it.
fn failed(error: &rusqlite::Error) -> Error {
    let said = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Kind::Unavailable, format!("the file is being written: {said}")).retryable(true)
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::new(Kind::Unavailable, format!("the file can't be opened: {said}"))
                .hint("a file with a write-ahead log needs a folder that can be written, unless nobody writes it: sqlite:PATH?immutable=1")
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Error::new(Kind::CorruptData, format!("it is no file of SQLite: {said}"))
        }
        Some(ErrorCode::OperationInterrupted) => Error::new(Kind::Cancelled, said),
        _ if said.contains("no such") => Error::new(Kind::ObjectChanged, format!("the table has changed: {said}"))
            .hint("ask again: it is looked at anew")
            .retryable(true),
        _ => Error::new(Kind::InvalidQuery, format!("SQLite refuses what it was asked: {said}")),
    }
}

fn quoted(name: &str) -> String {
    Dialect::Sqlite { is_strict: false }.quoted(name)
}

/// What a column holds by the type that it declares (https://www.sqlite.org/datatype3.html, 3.1); `None` if that says nothing.
fn declared(name: &str) -> Option<DataType> {
    let name = name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    Some(match name.split('(').next().unwrap_or_default().trim() {
        "DATE" => DataType::Date32,
        "DATETIME" | "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "BOOL" | "BOOLEAN" => DataType::Boolean,
        _ if has(&["INT"]) => DataType::Int64,
        _ if has(&["CHAR", "CLOB", "TEXT", "UUID", "JSON"]) => DataType::Utf8,
        _ if has(&["BLOB"]) => DataType::Binary,
        _ if has(&["REAL", "FLOA", "DOUB", "DEC", "NUMERIC"]) => DataType::Float64,
        _ => return None,
    })
}

/// What a column holds by its first rows.
fn looked_at(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<DataType> {
    let text = format!("SELECT DISTINCT typeof(c) FROM (SELECT {0} AS c FROM {table} LIMIT {LOOKED_AT})", quoted(column));
    let mut statement = connection.prepare(&text)?;
    let kinds = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut kinds: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| *kind != "null").collect();
    kinds.sort_unstable();
    Ok(match kinds.as_slice() {
        ["integer"] => DataType::Int64,
        ["real"] | ["integer", "real"] => DataType::Float64,
        ["blob"] => DataType::Binary,
        _ => DataType::Utf8,
    })
}

fn describe(connection: &Connection, table: &str) -> rusqlite::Result<Option<Described>> {
    let found = "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
    let Some(is_strict) = connection.query_row(found, [table], |row| row.get::<_, bool>(0)).optional()? else { return Ok(None) };
    let mut is_strict = is_strict;
    let from = format!("\"main\".{}", quoted(table));
    let mut statement = connection.prepare("SELECT name, type, \"notnull\" FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?;
    let told = statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)))?;
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for told in told {
        let (name, type_name, is_required) = told?;
        let data_type = match declared(&type_name) {
            Some(data_type) => data_type,
            None => {
                // Such a column may hold anything in a strict table as well.
                is_strict = false;
                looked_at(connection, &from, &name)?
            }
        };
        let column = format!("\"t\".{}", quoted(&name));
        columns.push(if data_type == DataType::Utf8 { format!("{column} COLLATE BINARY") } else { column });
        fields.push(Field::new(name, data_type, !is_required));
    }
    let stored = Stored { from: format!("{from} AS \"t\""), columns, schema: Arc::new(Schema::new(fields)), rows: None };
    Ok(Some(Described { dialect: Dialect::Sqlite { is_strict }, stored }))
}

#[async_trait]
impl Driver for Sqlite {
    async fn about(&self) -> Result<About> {
        self.with(|connection| {
            // The first look at the file tells whether it is one.
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0)).map_err(|error| failed(&error))?;
            Ok(About { server: "SQLite".to_owned(), version: rusqlite::version().to_owned() })
        })
        .await
    }

    async fn describe(&self, schema: &str, table: &str) -> Result<Option<Described>> {
        if schema != "main" {
            return Ok(None);
        }
        let table = table.to_owned();
        self.with(move |connection| describe(&connection, &table).map_err(|error| failed(&error))).await
    }

    async fn tables(&self, schema: &str) -> Result<Vec<String>> {
        if schema != "main" {
            return Ok(Vec::new());
        }
        let all = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' ORDER BY 1";
        self.with(move |connection| {
            let mut statement = connection.prepare(all).map_err(|error| failed(&error))?;
            let names = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
            names.map_err(|error| failed(&error))
        })
        .await
    }

    async fn ask(&self, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>, permit: OwnedSemaphorePermit) -> Result<Batches> {
        traffic.asked(text.len());
        let (text, rows, traffic) = (text.to_owned(), Rows::new(Arc::clone(wanted))?, Arc::clone(traffic));
        let (file, is_immutable) = (self.file.clone(), self.is_immutable);
        let task = move |sender: Sender<RecordBatch>| {
            let _permit = permit;
            let mut connection = opened(&file, is_immutable)?;
            // Looked at while it computes, so that it ends when nobody reads on.
            let gone = sender.clone();
            connection.progress_handler(STEPS, Some(move || gone.is_closed())).map_err(|error| failed(&error))?;
            read(&connection, &text, rows, &sender, &traffic)
        };
        Ok(read_by(|sender| tokio::task::spawn_blocking(move || task(sender))))
    }
}

fn read(connection: &Connection, text: &str, mut rows: Rows, sender: &Sender<RecordBatch>, traffic: &Traffic) -> Result<()> {
    let mut statement = connection.prepare(text).map_err(|error| failed(&error))?;
    let mut answer = statement.query([]).map_err(|error| failed(&error))?;
    while let Some(row) = answer.next().map_err(|error| failed(&error))? {
        let mut bytes = 0;
        for place in 0..rows.width() {
            bytes += size(row.get_ref(place).map_err(|error| failed(&error))?);
        }
        traffic.answered(bytes);
        rows.row(bytes, |place, column| put(column, row.get_ref(place).map_err(|error| error.to_string())?))?;
        if let Some(batch) = rows.batch(false)?
            && sender.blocking_send(batch).is_err()
        {
            return Ok(());
        }
    }
    if let Some(batch) = rows.batch(true)? {
        // Whoever left needs no last rows.
        drop(sender.blocking_send(batch));
    }
    Ok(())
}

fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
    }
}

/// Puts a value into its column.
fn put(column: &mut Values, value: ValueRef<'_>) -> std::result::Result<(), Unfit> {
    match (value, &column) {
        (ValueRef::Null, _) => {
            column.null();
            Ok(())
        }
        (ValueRef::Integer(number), _) => column.integer(number.into()),
        (ValueRef::Real(number), Values::Decimal(..)) => Err(format!("the number {number} is no decimal")),
        (ValueRef::Real(number), _) => column.float(number),
        (ValueRef::Text(bytes), Values::Text(_)) | (ValueRef::Blob(bytes), Values::Binary(_)) => column.text(bytes),
        (ValueRef::Text(bytes), Values::Date(_) | Values::Timestamp(_)) => {
            let text = String::from_utf8_lossy(bytes);
            column.count(time(&text, matches!(column, Values::Date(_))).ok_or_else(|| format!("`{text}` is no day or time"))?)
        }
        (ValueRef::Text(bytes), _) => Err(format!("the text `{}` is no value of its type", String::from_utf8_lossy(bytes))),
        (ValueRef::Blob(bytes), _) => Err(format!("{} bytes are no value of its type", bytes.len())),
    }
}

/// A day or a time as SQLite writes them (https://www.sqlite.org/lang_datefunc.html), in days or microseconds.
fn time(text: &str, is_day: bool) -> Option<i64> {
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let text = text.strip_suffix('Z').unwrap_or(text);
    let time = day(text)
        .and_then(|day| day.and_hms_opt(0, 0, 0))
        .or_else(|| formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()))?;
    match is_day {
        true => (time.time() == chrono::NaiveTime::MIN).then(|| time.date().signed_duration_since(NaiveDate::default()).num_days()),
        // What is less than a microsecond has no place.
        false => (time.and_utc().timestamp_subsec_nanos() % 1_000 == 0).then(|| time.and_utc().timestamp_micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_times_are_read_as_sqlite_writes_them() {
        assert_eq!(declared("VARCHAR(20)"), Some(DataType::Utf8));
        assert_eq!(declared("unsigned big int"), Some(DataType::Int64));
        assert_eq!(declared("decimal(10,5)"), Some(DataType::Float64));
        assert_eq!(declared(""), None);
        assert_eq!(time("1970-01-02", true), Some(1));
        assert_eq!(time("1970-01-01 00:00:01.5", false), Some(1_500_000));
        assert_eq!(time("1970-01-01T00:00", false), Some(0));
        assert_eq!(time("yesterday", false), None);
        assert_eq!(time("1970-01-02 01:00:00", true), None);
    }
}

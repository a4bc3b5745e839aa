//! MySQL and MariaDB: rows come in the binary protocol, in which numbers have all their digits.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use lacus_core::{DESCRIPTION_KEY, Error, Kind, Result};
use lacus_remote::{Batches, Dialect, Stored, Traffic};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, SslOpts, Value};
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use url::Url;

use crate::database::{About, DatabaseSpec, Described, Driver};
use crate::reading::read_by;
use crate::tls::Tls;
use crate::values::{Rows, Unfit, Values};

/// How long a server that sends nothing is not asked for a sign.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long telling it to stop may take.
const STOPPING: Duration = Duration::from_secs(5);
/// What each connection says of itself before all else: nothing may be written, and numbers that have no place are errors.
const SESSION: [&str; 4] = [
    "SET SESSION TRANSACTION READ ONLY",
    "SET SESSION time_zone = '+00:00'",
    // Of longer texts it would compare the beginnings alone.
    "SET SESSION max_sort_length = 8388608",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
];

const COLUMNS: &str = "
    SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.NUMERIC_PRECISION, c.NUMERIC_SCALE, c.IS_NULLABLE, c.COLUMN_COMMENT, t.TABLE_ROWS,
           c.TABLE_SCHEMA, c.TABLE_NAME
    FROM information_schema.COLUMNS c
    JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
    WHERE c.TABLE_SCHEMA = ? AND c.TABLE_NAME = ? ORDER BY c.ORDINAL_POSITION";

type Column = (String, String, String, Option<u64>, Option<u64>, String, String, Option<u64>, String, String);

/// A MySQL or a MariaDB.
#[derive(Debug)]
pub(crate) struct MySql {
    pool: Pool,
    /// How one that is told to stop is reached beside the pool, of which all may be in use.
    opts: Opts,
}

impl MySql {
    pub(crate) fn new(url: &Url, spec: &DatabaseSpec) -> Result<Self> {
        let mut url = url.clone();
        let tls = Tls::taken_from(&mut url, &spec.base)?;
        let wrong = |what: &dyn std::fmt::Display| {
            Error::new(Kind::InvalidConfiguration, format!("the address of the database can't be used: {what}")).with("key", "url")
        };
        // Its driver knows one scheme.
        let text = url.as_str().replacen("mariadb:", "mysql:", 1);
        let opts = Opts::from_url(&text).map_err(|error| wrong(&error))?;
        // What tables are is asked beside the statements.
        let constraints = PoolConstraints::new(0, spec.connections.saturating_add(2)).ok_or_else(|| wrong(&"`connections` is 0"))?;
        let pool = PoolOpts::default().with_constraints(constraints).with_inactive_connection_ttl(Duration::from_secs(60));
        // What a session is set to would be forgotten.
        let pool = pool.with_reset_connection(false);
        let password = spec.password.as_ref().map(|password| password.reveal().to_owned()).or_else(|| opts.pass().map(str::to_owned));
        let builder = OptsBuilder::from_opts(opts)
            .pass(password)
            .pool_opts(pool)
            .setup(SESSION.map(str::to_owned).to_vec())
            .prefer_socket(false)
            .tcp_keepalive(Some(KEEP_ALIVE));
        let ssl = match tls {
            Tls::Off | Tls::Here => None,
            Tls::On { authorities } => {
                let authorities = authorities.iter().map(|one| one.to_vec().into()).collect();
                Some(SslOpts::default().with_root_certs(authorities).with_disable_built_in_roots(true))
            }
        };
        let opts = Opts::from(builder.ssl_opts(ssl));
        Ok(Self { pool: Pool::new(opts.clone()), opts })
    }

    async fn connection(&self) -> Result<Conn> {
        self.pool.get_conn().await.map_err(|error| failed(&error))
    }
}

/// What the database says against it.
fn failed(error: &mysql_async::Error) -> Error {
    let mysql_async::Error::Server(error) = error else {
        let said = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).last().map(ToString::to_string);
        let said = said.unwrap_or_default();
        return Error::new(Kind::Unavailable, format!("the database can't be reached: {said}"))
            .hint("check its address, and whether it runs");
    };
    let said = error.message.clone();
    match error.code {
        1044 | 1045 => Error::new(Kind::Unauthenticated, said).hint("check the user in its `url` and its `password`"),
        1142 | 1143 | 1227 | 1370 => Error::new(Kind::PermissionDenied, said).hint("ask for GRANT SELECT to the user of the lake"),
        1146 | 1054 => Error::new(Kind::ObjectChanged, format!("the table has changed: {said}"))
            .hint("ask again: it is looked at anew")
            .retryable(true),
        1040 | 1053 | 1203 | 1317 => Error::new(Kind::Unavailable, said),
        1205 | 1213 => Error::new(Kind::Unavailable, said).retryable(true),
        1969 | 3024 => Error::new(Kind::DeadlineExceeded, said).hint("the database has a limit of its own on statements"),
        1690 => Error::new(Kind::InvalidQuery, format!("the database can't compute it: {said}")),
        code => Error::new(Kind::InvalidQuery, format!("the database refuses what it was asked: {said} ({code})")),
    }
}

/// What a column is here, and how it is asked for.
fn column_type(column: &str, told: &Column) -> (DataType, String) {
    let (_, name, whole, precision, scale, ..) = told;
    let is_unsigned = whole.contains("unsigned");
    let sized = |signed: DataType, unsigned: DataType| if is_unsigned { unsigned } else { signed };
    let data_type = match name.as_str() {
        "tinyint" => sized(DataType::Int8, DataType::UInt8),
        "smallint" => sized(DataType::Int16, DataType::UInt16),
        "mediumint" | "int" => sized(DataType::Int32, DataType::UInt32),
        "bigint" => sized(DataType::Int64, DataType::UInt64),
        // Numbers below 100 would be taken for years of two centuries.
        "year" => return (DataType::UInt16, format!("CAST({column} AS UNSIGNED)")),
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "decimal" => {
            let digits = |digits: &Option<u64>| u8::try_from(digits.unwrap_or_default().min(38)).unwrap_or(38);
            DataType::Decimal128(digits(precision).max(1), digits(scale).cast_signed())
        }
        "date" => DataType::Date32,
        "datetime" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "time" => DataType::Duration(TimeUnit::Microsecond),
        "bit" => return (DataType::UInt64, format!("CAST({column} AS UNSIGNED)")),
        name if name.ends_with("blob") || name.ends_with("binary") => DataType::Binary,
        name if name.contains("geom")
            || ["point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"].contains(&name) =>
        {
            DataType::Binary
        }
        "enum" | "set" => return (DataType::Utf8, Dialect::mysql_text(column)),
        name if name.ends_with("char") || name.ends_with("text") => return (DataType::Utf8, Dialect::mysql_text(column)),
        // Whatever else there is has a text.
        _ => return (DataType::Utf8, Dialect::mysql_other_text(column)),
    };
    (data_type, column.to_owned())
}

#[async_trait]
impl Driver for MySql {
    async fn about(&self) -> Result<About> {
        let version: Option<String> = self.connection().await?.query_first("SELECT VERSION()").await.map_err(|error| failed(&error))?;
        let version = version.unwrap_or_default();
        let server = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
        Ok(About { server: server.to_owned(), version })
    }

    async fn describe(&self, schema: &str, table: &str) -> Result<Option<Described>> {
        let told: Vec<Column> = self.connection().await?.exec(COLUMNS, (schema, table)).await.map_err(|error| failed(&error))?;
        // A server that takes names for others in another case has the table; rules of a lake that name it would not be asked.
        let told: Vec<Column> = told.into_iter().filter(|column| column.8 == schema && column.9 == table).collect();
        if told.is_empty() {
            return Ok(None);
        }
        let dialect = Dialect::MySql;
        let rows = told.first().and_then(|first| first.7).and_then(|rows| usize::try_from(rows).ok());
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for told in &told {
            let (name, type_name, _, _, _, is_nullable, comment, ..) = told;
            let (data_type, column) = column_type(&format!("`t`.{}", dialect.quoted(name)), told);
            columns.push(column);
            let described = (!comment.is_empty()).then(|| (DESCRIPTION_KEY.to_owned(), comment.clone()));
            let is_text = data_type == DataType::Utf8 && !type_name.ends_with("char") && !type_name.ends_with("text");
            let stored_as = is_text.then(|| ("database_type".to_owned(), type_name.clone()));
            let field = Field::new(name, data_type, is_nullable == "YES");
            fields.push(field.with_metadata(described.into_iter().chain(stored_as).collect()));
        }
        let from = format!("{}.{} AS `t`", dialect.quoted(schema), dialect.quoted(table));
        Ok(Some(Described { dialect, stored: Stored { from, columns, schema: Arc::new(Schema::new(fields)), rows } }))
    }

    async fn tables(&self, schema: &str) -> Result<Vec<String>> {
        let text = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? ORDER BY 1";
        self.connection().await?.exec(text, (schema,)).await.map_err(|error| failed(&error))
    }

    async fn ask(&self, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>, permit: OwnedSemaphorePermit) -> Result<Batches> {
        let connection = self.connection().await?;
        // A statement is prepared, and then read.
        traffic.asked(text.len());
        traffic.asked(0);
        let (id, opts) = (connection.id(), self.opts.clone());
        let reading = Reading { rows: Rows::new(Arc::clone(wanted))?, traffic: Arc::clone(traffic) };
        let (started, starting) = oneshot::channel();
        let text = text.to_owned();
        let task = async move |sender| {
            let mut connection = connection;
            let ended = reading.read(&mut connection, &text, started, sender).await;
            if !matches!(ended, Ok(End::Read)) {
                // The server would go on: it is told to stop, and the connection is given up.
                let telling = async {
                    let mut other = Conn::new(opts).await?;
                    other.query_drop(format!("KILL QUERY {id}")).await?;
                    other.disconnect().await
                };
                // Whoever can't be told doesn't answer, either.
                drop(tokio::time::timeout(STOPPING, telling).await);
                drop(tokio::time::timeout(STOPPING, connection.disconnect()).await);
            }
            drop(permit);
            ended.map(|_| ())
        };
        let batches = read_by(|sender| tokio::spawn(task(sender)));
        // Without a sign it has failed, which its batches tell.
        drop(starting.await);
        Ok(batches)
    }
}

/// How reading ended.
enum End {
    Read,
    Left,
}

/// An answer that is being read.
struct Reading {
    rows: Rows,
    traffic: Arc<Traffic>,
}

impl Reading {
    async fn read(mut self, connection: &mut Conn, text: &str, started: oneshot::Sender<()>, sender: Sender<RecordBatch>) -> Result<End> {
        let prepared = tokio::select! {
            prepared = connection.prep(text) => prepared.map_err(|error| failed(&error))?,
            () = sender.closed() => return Ok(End::Left),
        };
        // What follows may take as long as it takes. Whoever waits for the sign may have given up; then nobody reads, either.
        let _ = started.send(());
        let mut answer = tokio::select! {
            asked = connection.exec_iter(&prepared, ()) => asked.map_err(|error| failed(&error))?,
            () = sender.closed() => return Ok(End::Left),
        };
        loop {
            let row = tokio::select! {
                row = answer.next() => row.map_err(|error| failed(&error))?,
                () = sender.closed() => return Ok(End::Left),
            };
            let Some(row) = row else { break };
            let bytes = (0..row.len()).filter_map(|place| row.as_ref(place)).map(size).sum();
            self.traffic.answered(bytes);
            self.rows.row(bytes, |place, column| put(column, row.as_ref(place).ok_or("the answer has no such column")?))?;
            if let Some(batch) = self.rows.batch(false)?
                && sender.send(batch).await.is_err()
            {
                return Ok(End::Left);
            }
        }
        if answer.warnings() > 0 {
            drop(answer);
            return Err(warned(connection).await?);
        }
        if let Some(batch) = self.rows.batch(true)? {
            // Whoever left needs no last rows.
            drop(sender.send(batch).await);
        }
        Ok(End::Read)
    }
}

/// What the database only warns of: a value that it took for another.
async fn warned(connection: &mut Conn) -> Result<Error> {
    let told: Option<(String, u32, String)> = connection.query_first("SHOW WARNINGS").await.map_err(|error| failed(&error))?;
    let (_, code, said) = told.unwrap_or_default();
    Ok(Error::new(Kind::CorruptData, format!("the database warns of its answer: {said} ({code})")))
}

/// About how many bytes a value took on its way.
fn size(value: &Value) -> usize {
    match value {
        Value::NULL => 0,
        Value::Bytes(bytes) => bytes.len() + 1,
        _ => 8,
    }
}

/// Puts a value into its column.
fn put(column: &mut Values, value: &Value) -> std::result::Result<(), Unfit> {
    match value {
        Value::NULL => {
            column.null();
            Ok(())
        }
        Value::Int(number) => column.integer((*number).into()),
        Value::UInt(number) => column.integer((*number).into()),
        Value::Float(number) => match column {
            Values::Float32(builder) => {
                builder.append_value(*number);
                Ok(())
            }
            column => column.float((*number).into()),
        },
        Value::Double(number) => column.float(*number),
        Value::Bytes(bytes) => match column {
            Values::Text(_) | Values::Binary(_) => column.text(bytes),
            column => {
                let (mantissa, scale) = decimal(bytes)?;
                column.decimal(mantissa, scale)
            }
        },
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let days = days(*year, *month, *day).ok_or_else(|| format!("{year:04}-{month:02}-{day:02} is no day"))?;
            let second = (i64::from(*hour) * 60 + i64::from(*minute)) * 60 + i64::from(*second);
            match column {
                Values::Timestamp(_) => column.count((days * 86_400 + second) * 1_000_000 + i64::from(*micros)),
                column => column.count(days),
            }
        }
        Value::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let hours = i64::from(*days) * 24 + i64::from(*hours);
            let count = ((hours * 60 + i64::from(*minutes)) * 60 + i64::from(*seconds)) * 1_000_000 + i64::from(*micros);
            column.count(if *is_negative { -count } else { count })
        }
    }
}

/// Days from 1970-01-01 to a day; `None` for one that there is not, such as 0000-00-00.
fn days(year: u16, month: u8, day: u8) -> Option<i64> {
    let day = chrono::NaiveDate::from_ymd_opt(year.into(), month.into(), day.into()).filter(|_| year > 0)?;
    Some(day.signed_duration_since(chrono::NaiveDate::default()).num_days())
}

/// A number as it is written: `-12.50`.
fn decimal(bytes: &[u8]) -> std::result::Result<(i128, i32), Unfit> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a number is no text".to_owned())?;
    let unfit = || format!("`{text}` is no number of at most 38 digits");
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{rest}");
    let scale = i32::try_from(rest.len()).map_err(|_| unfit())?;
    Ok((digits.parse().map_err(|_| unfit())?, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_days_are_what_is_written() {
        assert_eq!(decimal(b"-12.50"), Ok((-1250, 2)));
        assert_eq!(decimal(b"7"), Ok((7, 0)));
        assert!(decimal(b"1e5").is_err() && decimal(&[b'9'; 40]).is_err() && decimal(b"").is_err());
        assert_eq!(days(1970, 1, 2), Some(1));
        assert_eq!(days(0, 0, 0), None);
    }
}

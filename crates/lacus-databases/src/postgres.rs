//! PostgreSQL: rows come by `COPY (SELECT ...) TO STDOUT (FORMAT binary)`, as they lie in its memory.

mod binary;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use futures::TryStreamExt;
use lacus_core::{DESCRIPTION_KEY, Error, Kind, Result};
use lacus_remote::{Batches, Dialect, Stored, Traffic};
use rustls::ClientConfig;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::database::{About, DatabaseSpec, Described, Driver, held};
use crate::reading::read_by;
use crate::tls::Tls;
use crate::values::Rows;

/// What each connection says of itself before all else: nothing may be written.
const SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET search_path = pg_catalog; SET timezone = 'UTC'; \
                       SET extra_float_digits = 3; SET IntervalStyle = 'postgres'; SET DateStyle = 'ISO'";

/// The columns of a table that may be read, each with its type, or the one below if it is a domain.
const COLUMNS: &str = "
    SELECT a.attname, b.typname, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, a.attnotnull,
           col_description(c.oid, a.attnum), coalesce(l.collisdeterministic, true), c.reltuples::float8, bn.nspname = 'pg_catalog'
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    JOIN pg_namespace bn ON bn.oid = b.typnamespace
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY a.attnum";

const TABLES: &str = "
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1";

/// How long a server that sends nothing is not asked for a sign.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long telling it to stop may take.
const STOPPING: Duration = Duration::from_secs(5);

/// What a number has that declares no digits: this many, of which so many behind the point.
const DIGITS: (u8, i8) = (38, 20);

/// A PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres {
    config: Config,
    tls: Option<ClientConfig>,
    idle: Arc<Mutex<Vec<Client>>>,
    is_utf8: Mutex<bool>,
}

impl Postgres {
    pub(crate) fn new(url: &Url, spec: &DatabaseSpec) -> Result<Self> {
        let mut url = url.clone();
        let tls = Tls::taken_from(&mut url, &spec.base)?;
        let wrong = |error: tokio_postgres::Error| {
            Error::new(Kind::InvalidConfiguration, format!("the address of the database can't be used: {}", said(&error)))
                .with("key", "url")
        };
        let mut config: Config = url.as_str().parse().map_err(wrong)?;
        if let Some(password) = &spec.password {
            config.password(password.reveal());
        }
        let is_remote = |host: &Host| match host {
            Host::Tcp(host) => !["localhost", "127.0.0.1", "::1"].contains(&host.as_str()),
            #[cfg(unix)]
            Host::Unix(_) => false,
        };
        if tls == Tls::Here
            && (config.get_hosts().iter().any(is_remote) || config.get_hostaddrs().iter().any(|address| !address.is_loopback()))
        {
            let error = Error::new(Kind::InvalidConfiguration, "its host is another machine, and it would be asked in the clear")
                .with("key", "url");
            return Err(error.hint("write the host before the path, or sslmode=require"));
        }
        config.ssl_mode(if matches!(tls, Tls::On { .. }) { SslMode::Require } else { SslMode::Disable });
        // One that is gone without a word is noticed while rows are waited for.
        config.application_name("lacus").connect_timeout(spec.timeout).keepalives_idle(KEEP_ALIVE).keepalives_interval(KEEP_ALIVE / 3);
        config.keepalives_retries(3).tcp_user_timeout(KEEP_ALIVE * 2);
        let tls = tls.config()?;
        Ok(Self { config, tls, idle: Arc::default(), is_utf8: Mutex::new(true) })
    }

    /// A connection, of those that wait or a new one.
    async fn client(&self) -> Result<Client> {
        loop {
            let Some(client) = held(&self.idle).pop() else { break };
            if !client.is_closed() {
                return Ok(client);
            }
        }
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) =
                    self.config.connect(MakeRustlsConnect::new(tls.clone())).await.map_err(|error| failed(&error))?;
                // It ends with the client, which tells what it ended of.
                tokio::spawn(async move { drop(connection.await) });
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(|error| failed(&error))?;
                tokio::spawn(async move { drop(connection.await) });
                client
            }
        };
        client.batch_execute(SESSION).await.map_err(|error| failed(&error))?;
        let encoding = client.query_one("SELECT current_setting('server_encoding')", &[]).await.map_err(|error| failed(&error))?;
        *held(&self.is_utf8) = cell::<String>(&encoding, 0)? == "UTF8";
        Ok(client)
    }

    async fn rows(&self, text: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.client().await?;
        let rows = client.query(text, parameters).await.map_err(|error| failed(&error))?;
        held(&self.idle).push(client);
        Ok(rows)
    }
}

/// A value of a row about the database.
fn cell<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T> {
    row.try_get(place).map_err(|error| failed(&error))
}

/// What an error says, with what lies below it.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
    }
}

/// What the database says against it.
fn failed(error: &tokio_postgres::Error) -> Error {
    let said = said(error);
    let Some(code) = error.code() else {
        return Error::new(Kind::Unavailable, format!("the database can't be reached: {said}"))
            .hint("check its address, and whether it runs");
    };
    let class = code.code().get(..2).unwrap_or_default();
    match code {
        &SqlState::INSUFFICIENT_PRIVILEGE => Error::new(Kind::PermissionDenied, said).hint("ask for GRANT SELECT to the user of the lake"),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::DATATYPE_MISMATCH | &SqlState::UNDEFINED_FUNCTION => {
            Error::new(Kind::ObjectChanged, format!("the table has changed: {said}"))
                .hint("ask again: it is looked at anew")
                .retryable(true)
        }
        &SqlState::QUERY_CANCELED => Error::new(Kind::DeadlineExceeded, said).hint("the database has a `statement_timeout` of its own"),
        &SqlState::TOO_MANY_CONNECTIONS | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW => {
            Error::new(Kind::Unavailable, said)
        }
        _ if class == "28" => Error::new(Kind::Unauthenticated, said).hint("check the user in its `url` and its `password`"),
        _ if class == "08" => Error::new(Kind::Unavailable, said),
        _ if class == "40" => Error::new(Kind::Unavailable, said).retryable(true),
        _ if class == "22" => Error::new(Kind::InvalidQuery, format!("the database can't compute it: {said}")),
        _ if class == "53" || class == "54" => Error::new(Kind::LimitExceeded, said),
        _ => Error::new(Kind::InvalidQuery, format!("the database refuses what it was asked: {said} ({})", code.code())),
    }
}

/// What a column is here, and whether it is read as a text there.
fn column_type(name: &str, modifier: i32, is_own: bool) -> (DataType, bool) {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let data_type = match name {
        _ if !is_own => return (DataType::Utf8, true),
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" | "oid" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "text" | "varchar" => DataType::Utf8,
        "bytea" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => micros(None),
        "timestamptz" => micros(Some("UTC")),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "numeric" => decimal(modifier),
        "_bool" => list(DataType::Boolean),
        "_int2" => list(DataType::Int16),
        "_int4" => list(DataType::Int32),
        "_int8" => list(DataType::Int64),
        "_float4" => list(DataType::Float32),
        "_float8" => list(DataType::Float64),
        "_text" | "_varchar" => list(DataType::Utf8),
        // What has no type here has a text there.
        _ => return (DataType::Utf8, true),
    };
    (data_type, name == "oid")
}

/// The digits that a `numeric` declares.
fn decimal(modifier: i32) -> DataType {
    if modifier < 4 {
        return DataType::Decimal128(DIGITS.0, DIGITS.1);
    }
    let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024);
    // A negative scale leaves zeros before the point.
    let (precision, scale) = if scale < 0 { (precision - scale, 0) } else { (precision.max(scale), scale) };
    let (scale, precision) = (i8::try_from(scale.min(38)).unwrap_or(38), u8::try_from(precision.min(38)).unwrap_or(38));
    DataType::Decimal128(precision, scale)
}

#[async_trait]
impl Driver for Postgres {
    async fn about(&self) -> Result<About> {
        let rows = self.rows("SELECT current_setting('server_version')", &[]).await?;
        let version = rows.first().map(|row| cell::<String>(row, 0)).transpose()?.unwrap_or_default();
        Ok(About { server: "PostgreSQL".to_owned(), version })
    }

    async fn describe(&self, schema: &str, table: &str) -> Result<Option<Described>> {
        let rows = self.rows(COLUMNS, &[&schema, &table]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let dialect = Dialect::Postgres { is_utf8: *held(&self.is_utf8) };
        let (mut fields, mut columns, mut stored) = (Vec::new(), Vec::new(), None);
        for row in &rows {
            let (name, is_own) = (cell::<String>(row, 0)?, cell::<bool>(row, 7)?);
            let (type_name, modifier) = (cell::<String>(row, 1)?, cell::<i32>(row, 2)?);
            let (data_type, is_cast) = column_type(&type_name, modifier, is_own);
            let column = format!("\"t\".{}", dialect.quoted(&name));
            columns.push(match &data_type {
                data_type if is_cast => format!("CAST({column} AS {})", dialect.type_name(data_type).unwrap_or_default()),
                _ => column,
            });
            // Its equality is not that of bytes.
            if let (false, DataType::Utf8, Some(column)) = (cell::<bool>(row, 5)?, &data_type, columns.last_mut()) {
                *column = format!("({column} COLLATE \"C\")");
            }
            let described = cell::<Option<String>>(row, 4)?.map(|text| (DESCRIPTION_KEY.to_owned(), text));
            let stored_as = is_cast.then(|| ("database_type".to_owned(), type_name));
            let field = Field::new(name, data_type, !cell::<bool>(row, 3)?);
            fields.push(field.with_metadata(described.into_iter().chain(stored_as).collect()));
            // What was never counted has none or less, and so has a view.
            stored = Some(cell::<f64>(row, 6)?).filter(|rows| *rows > 0.0).map(|rows| rows as usize);
        }
        let from = format!("{}.{} AS \"t\"", dialect.quoted(schema), dialect.quoted(table));
        let stored = Stored { from, columns, schema: Arc::new(Schema::new(fields)), rows: stored };
        Ok(Some(Described { dialect, stored }))
    }

    async fn tables(&self, schema: &str) -> Result<Vec<String>> {
        self.rows(TABLES, &[&schema]).await?.iter().map(|row| cell(row, 0)).collect()
    }

    async fn ask(&self, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>, permit: OwnedSemaphorePermit) -> Result<Batches> {
        let client = self.client().await?;
        // It is prepared, and then read: what follows may take as long as it takes.
        traffic.asked(text.len());
        // Both go in one message.
        let limit = traffic.time_left().map(limit);
        let limited = async {
            match &limit {
                Some(limit) => client.batch_execute(limit).await,
                None => Ok(()),
            }
        };
        let copy = format!("COPY ({text}) TO STDOUT (FORMAT binary)");
        let (limited, prepared) = tokio::join!(limited, client.prepare(&copy));
        limited.map_err(|error| failed(&error))?;
        let prepared = prepared.map_err(|error| failed(&error))?;
        traffic.asked(0);
        let (tls, idle) = (self.tls.clone(), Arc::clone(&self.idle));
        let reading = Reading { rows: Rows::new(Arc::clone(wanted))?, traffic: Arc::clone(traffic) };
        let task = async move |sender| {
            let ended = reading.read(&client, &prepared, sender).await;
            drop(prepared);
            match ended {
                Ok(End::Read) if limit.is_none() => held(&idle).push(client),
                // What follows on the connection has another end. Nobody who has all rows waits for that.
                Ok(End::Read) => drop(tokio::spawn(async move {
                    if client.batch_execute("RESET statement_timeout").await.is_ok() {
                        held(&idle).push(client);
                    }
                    drop(permit);
                })),
                // The server would go on: it is told to stop, and the connection is given up.
                _ => {
                    drop(permit);
                    cancelled(&client, tls).await;
                }
            }
            ended.map(|_| ())
        };
        Ok(read_by(|sender| tokio::spawn(task(sender))))
    }
}

/// What tells a connection how long its next statement may take; a shorter time that the database keeps to stays.
fn limit(left: Duration) -> String {
    let millis = left.as_millis().min(i32::MAX as u128);
    format!(
        "SELECT set_config('statement_timeout', CASE WHEN setting::bigint BETWEEN 1 AND {millis} THEN setting ELSE '{millis}' END, false) \
         FROM pg_settings WHERE name = 'statement_timeout'"
    )
}

/// How reading ended.
enum End {
    Read,
    Left,
}

async fn cancelled(client: &Client, tls: Option<ClientConfig>) {
    let token = client.cancel_token();
    let telling = async {
        match tls {
            Some(tls) => token.cancel_query(MakeRustlsConnect::new(tls)).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    // Whoever can't be told doesn't answer, either.
    drop(tokio::time::timeout(STOPPING, telling).await);
}

/// An answer that is being read.
struct Reading {
    rows: Rows,
    traffic: Arc<Traffic>,
}

impl Reading {
    async fn read(mut self, client: &Client, prepared: &Statement, sender: Sender<RecordBatch>) -> Result<End> {
        // The sign that it has begun comes with the first row.
        let answer = tokio::select! {
            answer = client.copy_out(prepared) => answer.map_err(|error| failed(&error))?,
            () = sender.closed() => return Ok(End::Left),
        };
        let width = self.rows.width();
        // A row of no columns has one that says nothing.
        let mut answer = std::pin::pin!(BinaryCopyOutStream::new(answer, &vec![Type::BYTEA; width.max(1)]));
        loop {
            let row = tokio::select! {
                row = answer.try_next() => row.map_err(|error| failed(&error))?,
                () = sender.closed() => return Ok(End::Left),
            };
            let Some(row) = row else { break };
            let mut values = Vec::with_capacity(width);
            for place in 0..width {
                values.push(row.try_get::<Option<Raw<'_>>>(place).map_err(|error| failed(&error))?);
            }
            let bytes = values.iter().map(|value| 4 + value.as_ref().map_or(0, |value| value.0.len())).sum::<usize>() + 2;
            self.traffic.answered(bytes);
            self.rows.row(bytes, |place, column| match &values[place] {
                Some(Raw(bytes)) => binary::put(column, bytes),
                None => {
                    column.null();
                    Ok(())
                }
            })?;
            if let Some(batch) = self.rows.batch(false)?
                && sender.send(batch).await.is_err()
            {
                return Ok(End::Left);
            }
        }
        if let Some(batch) = self.rows.batch(true)? {
            // Whoever left needs no last rows.
            drop(sender.send(batch).await);
        }
        Ok(End::Read)
    }
}

/// A value as it came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_they_declare() {
        let modifier = |precision: i32, scale: i32| (precision << 16 | scale & 0x7ff) + 4;
        assert_eq!(decimal(-1), DataType::Decimal128(38, 20));
        assert_eq!(decimal(modifier(15, 2)), DataType::Decimal128(15, 2));
        assert_eq!(decimal(modifier(5, -3)), DataType::Decimal128(8, 0));
        assert_eq!(decimal(modifier(3, 5)), DataType::Decimal128(5, 5));
        assert_eq!(decimal(modifier(100, 50)), DataType::Decimal128(38, 38));
    }
}

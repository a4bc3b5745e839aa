use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt32Type};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetTables, SqlInfo};
use arrow_flight::{FlightData, FlightInfo, HandshakeRequest, IpcMessage, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use datafusion_common::ScalarValue;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, Principal, Result, Secret};
use lacus_identity::{Hub, Logins};
use lacus_provenance::Record;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::address::{Address, Place, without_password};
use crate::site::Traffic;
use crate::status::{from_flight, from_status};

/// How long a server may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that answers nothing may say nothing, before it is asked for a sign, and then again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What may be on its way before it is read: what a network of 1 Gbit/s holds at a round trip of 100 ms, and more than HTTP/2 has by itself.
const WINDOW: u32 = 16 << 20;

/// A connection to a Flight SQL server, cheap to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Box<FlightSqlServiceClient<Channel>>,
    uri: String,
    /// Whose token is brought, when somebody has logged in to be known by this server.
    login: Option<(Logins, String)>,
    /// On whose behalf it is asked, when the lake says so itself.
    assertion: Option<Arc<Assertion>>,
    /// What every request says beside the token.
    headers: &'static [(&'static str, &'static str)],
}

/// On whose behalf a site is asked, and what it is called in the tokens that say so.
#[derive(Debug)]
pub(crate) struct Assertion {
    pub(crate) hub: Arc<Hub>,
    pub(crate) principal: Principal,
    pub(crate) audience: String,
}

/// Arrow as it is: what other clients can't read, this one can.
const NATIVE: [(&str, &str); 1] = [("wire_types", "native")];
/// As what is near, and smaller.
const FAR: [(&str, &str); 2] = [NATIVE[0], ("ipc_compression", "zstd")];

/// The variables that hold what is not for a command line.
const PASSWORD: &str = "LACUS_PASSWORD";
const TOKEN: &str = "LACUS_TOKEN";

impl Remote {
    /// Connects to `grpc://host:port`, `grpc+tls://user@host:port?ca=file` or `grpc+unix:///path`. The password of the user may stand in the
    /// address, or in `LACUS_PASSWORD`; a token in `LACUS_TOKEN` stands for both. Without either the token of `lacus login` is brought, if there
    /// is one for this server, and renewed when it ends.
    ///
    /// # Errors
    /// `InvalidConfiguration` for another form, `Unauthenticated` when the server doesn't know who calls, `Unavailable` when nobody answers
    /// there.
    pub async fn connect(uri: &str) -> Result<Self> {
        let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::connect_by(uri, of_environment(PASSWORD), of_environment(TOKEN), &NATIVE).await
    }

    /// As [`Remote::connect`], to a server that may be far, with this token, or that of `lacus login`; the environment, which is about one
    /// server, says nothing.
    ///
    /// # Errors
    /// As [`Remote::connect`].
    pub async fn connect_far(uri: &str, token: Option<&Secret>) -> Result<Self> {
        Self::connect_by(uri, None, token.map(|token| token.reveal().to_owned()), &FAR).await
    }

    async fn connect_by(
        uri: &str,
        password: Option<String>,
        token: Option<String>,
        headers: &'static [(&'static str, &'static str)],
    ) -> Result<Self> {
        let address = Address::parse(uri)?;
        let Self { mut client, uri, .. } = Self::reach(&address, uri, headers).await?;
        let mut login = None;
        match address.user {
            Some((user, written)) => {
                let password = written.or(password).ok_or_else(|| {
                    Error::new(Kind::Unauthenticated, format!("the user `{user}` has no password")).hint(format!("set {PASSWORD}"))
                })?;
                if let Some(token) = handshake(&mut client, &user, &password).await? {
                    client.set_token(token);
                }
            }
            None => {
                if let Some(token) = token {
                    client.set_token(token);
                } else if address.identity.is_none()
                    && let Some(server) = address.login()
                {
                    // Without a certificate it is a login that says who calls. Where there is no home, nobody has logged in.
                    login = Logins::of_user().ok().map(|logins| (logins, server));
                }
            }
        }
        let remote = Self { client, uri, login, assertion: None, headers };
        // A login that can't be renewed is told now, and not by the first query.
        remote.client().await?;
        Ok(remote)
    }

    /// A connection on which nobody has said who asks.
    async fn reach(address: &Address, uri: &str, headers: &'static [(&'static str, &'static str)]) -> Result<Self> {
        let shown = without_password(uri);
        let channel = channel(address, &shown).await?;
        let inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        let mut client = Box::new(FlightSqlServiceClient::new_from_inner(inner));
        headers.iter().for_each(|(name, value)| client.set_header(*name, *value));
        Ok(Self { client, uri: shown, login: None, assertion: None, headers })
    }

    /// A connection to a server that may be far, by which it is asked on behalf of several: see [`Remote::on_behalf`].
    pub(crate) async fn reach_far(uri: &str) -> Result<Self> {
        Self::reach(&Address::parse(uri)?, uri, &FAR).await
    }

    /// The same connection, by which the server is told on whose behalf it is asked.
    pub(crate) fn on_behalf(&self, assertion: Arc<Assertion>) -> Self {
        Self { assertion: Some(assertion), ..self.clone() }
    }

    /// The address of the server.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A client that brings a token which is good.
    async fn client(&self) -> Result<FlightSqlServiceClient<Channel>> {
        let mut client = self.client.as_ref().clone();
        if let Some((logins, server)) = &self.login
            && let Some(token) = logins.token(server).await?
        {
            client.set_token(token.reveal().to_owned());
        }
        if let Some(assertion) = &self.assertion {
            client.set_token(assertion.hub.token(&assertion.principal, &assertion.audience)?.reveal().to_owned());
        }
        Ok(client)
    }

    /// Asks one statement, with a value for each `?` or `$n` by position. A command has run when this returns.
    ///
    /// # Errors
    /// What the server says, by its kind.
    pub async fn query(&self, sql: &str, parameters: &[ScalarValue]) -> Result<RemoteQuery> {
        let query = self.query_counted(sql, parameters, Arc::default()).await?;
        Ok(RemoteQuery { record: Some(RemoteProvenance::default()), ..query })
    }

    /// As [`Remote::query`]; `traffic` takes what goes over the network, in messages of Flight.
    pub(crate) async fn query_counted(&self, sql: &str, parameters: &[ScalarValue], traffic: Arc<Traffic>) -> Result<RemoteQuery> {
        let mut client = self.client().await?;
        if let Some(left) = traffic.time_left() {
            // Of milliseconds the protocol has room for eight digits.
            client.set_header("grpc-timeout", format!("{}m", left.as_millis().min(99_999_999)));
        }
        traffic.asked(sql.len());
        let info = match parameters {
            [] => client.execute(sql.to_owned(), None).await.map_err(from_flight)?,
            parameters => {
                let mut prepared = client.prepare(sql.to_owned(), None).await.map_err(from_flight)?;
                prepared.set_parameters(row(parameters)?).map_err(from_flight)?;
                let info = prepared.execute().await.map_err(from_flight);
                // The server forgets the statement in time; what a failed close says would hide what the execution says.
                let _ = prepared.close().await;
                info?
            }
        };
        let schema = match info.schema.is_empty() {
            true => Schema::empty(),
            false => info.clone().try_decode_schema()?,
        };
        traffic.answered(info.encoded_len());
        Ok(RemoteQuery {
            client: Box::new(client),
            headers: self.headers,
            schema: schema.into(),
            info: Box::new(info),
            traffic,
            record: None,
        })
    }
}

/// What a server says of itself, as far as it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What names are put in.
    pub(crate) quote: String,
}

/// A table as a server tells it.
#[derive(Debug, Clone)]
pub(crate) struct RemoteTable {
    pub(crate) catalog: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
    /// Its columns, if they were asked for.
    pub(crate) columns: Option<SchemaRef>,
}

impl Remote {
    /// What the server is. One that doesn't tell is any.
    pub(crate) async fn server_info(&self) -> Result<ServerInfo> {
        let wanted = [SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerVersion, SqlInfo::SqlIdentifierQuoteChar];
        let mut client = self.client().await?;
        let unknown = |error: &Error| matches!(error.kind(), Kind::Unsupported | Kind::InvalidQuery | Kind::NotFound | Kind::Internal);
        let info = match client.get_sql_info(wanted.to_vec()).await.map_err(from_flight) {
            Ok(info) => info,
            Err(error) if unknown(&error) => return Ok(ServerInfo::default()),
            Err(error) => return Err(error),
        };
        let mut told = ServerInfo::default();
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            let batches: Vec<RecordBatch> = match client.do_get(ticket).await {
                Ok(batches) => batches.try_collect().await.map_err(from_flight)?,
                Err(error) => match from_flight(error) {
                    error if unknown(&error) => continue,
                    error => return Err(error),
                },
            };
            for batch in batches {
                let [names, values] = batch.columns() else { continue };
                let (Some(names), Some(values)) = (names.as_primitive_opt::<UInt32Type>(), values.as_union_opt()) else { continue };
                for row in 0..batch.num_rows() {
                    let value = values.value(row);
                    let Some(text) = value.as_string_opt::<i32>().filter(|text| !text.is_empty()) else { continue };
                    match wanted.iter().find(|wanted| **wanted as u32 == names.value(row)) {
                        Some(SqlInfo::FlightSqlServerName) => told.name = text.value(0).to_owned(),
                        Some(SqlInfo::FlightSqlServerVersion) => told.version = text.value(0).to_owned(),
                        Some(SqlInfo::SqlIdentifierQuoteChar) => told.quote = text.value(0).to_owned(),
                        _ => {}
                    }
                }
            }
        }
        Ok(told)
    }

    /// The tables of a schema, or the one of the name, with their columns if these are wanted.
    pub(crate) async fn tables(&self, catalog: Option<&str>, schema: &str, name: Option<&str>, columns: bool) -> Result<Vec<RemoteTable>> {
        let mut client = self.client().await?;
        let asked = CommandGetTables {
            catalog: catalog.map(str::to_owned),
            db_schema_filter_pattern: Some(schema.to_owned()),
            table_name_filter_pattern: name.map(str::to_owned),
            include_schema: columns,
            ..CommandGetTables::default()
        };
        let info = client.get_tables(asked).await.map_err(from_flight)?;
        let tickets = info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket);
        let mut found = Vec::new();
        for ticket in tickets {
            let batches: Vec<RecordBatch> = client.do_get(ticket).await.map_err(from_flight)?.try_collect().await.map_err(from_flight)?;
            for batch in batches {
                let texts =
                    |column: &str| batch.column_by_name(column).map(|values| arrow::compute::cast(values, &DataType::Utf8)).transpose();
                let (catalogs, schemas, names) = (texts("catalog_name")?, texts("db_schema_name")?, texts("table_name")?);
                let told = batch.column_by_name("table_schema").and_then(|values| values.as_binary_opt::<i32>());
                let text = |values: &Option<ArrayRef>, row: usize| {
                    let values = values.as_ref()?.as_string::<i32>();
                    (!values.is_null(row)).then(|| values.value(row).to_owned())
                };
                for row in 0..batch.num_rows() {
                    let columns = told.map(|told| Schema::try_from(IpcMessage(told.value(row).to_vec().into()))).transpose()?;
                    let columns = columns.map(|columns| of_columns(&columns));
                    found.push(RemoteTable {
                        catalog: text(&catalogs, row),
                        schema: text(&schemas, row),
                        name: text(&names, row).unwrap_or_default(),
                        columns: columns.map(Arc::new),
                    });
                }
            }
        }
        // What was asked for are patterns, in which `_` and `%` stand for others.
        found.retain(|table| name.is_none_or(|name| table.name == name) && table.schema.as_deref().is_none_or(|of| of == schema));
        Ok(found)
    }
}

/// Columns with what is said of them, without what is said of how they were stored and brought here.
fn of_columns(schema: &Schema) -> Schema {
    let of_column = |key: &String| !["ARROW:FLIGHT:SQL:", "PARQUET:"].iter().any(|prefix| key.starts_with(prefix));
    let column = |field: &FieldRef| {
        let kept = field.metadata().iter().filter(|(key, _)| of_column(key)).map(|(key, value)| (key.clone(), value.clone()));
        field.as_ref().clone().with_metadata(kept.collect())
    };
    Schema::new(schema.fields().iter().map(column).collect::<Vec<_>>())
}

/// The token that a server gives a user. The client of arrow-flight would tell only the text of what a server says against it.
async fn handshake(client: &mut FlightSqlServiceClient<Channel>, user: &str, password: &str) -> Result<Option<String>> {
    let mut request = tonic::Request::new(stream::iter([HandshakeRequest::default()]));
    let wrong = || Error::new(Kind::InvalidConfiguration, format!("`{user}` can't be the name of a user"));
    let header = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    request.metadata_mut().insert("authorization", header.parse().map_err(|_| wrong())?);
    let answer = client.inner_mut().handshake(request).await.map_err(|status| from_status(&status))?;
    let token = answer.metadata().get("authorization").and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
    Ok(token.map(str::to_owned))
}

/// Reaches a server.
async fn channel(address: &Address, shown: &str) -> Result<Channel> {
    let wrong = |error: &dyn std::fmt::Display| Error::new(Kind::InvalidConfiguration, format!("`{shown}` can't be reached: {error}"));
    let uri = match &address.place {
        Place::Network { authority, tls: true } => format!("https://{authority}"),
        Place::Network { authority, tls: false } => format!("http://{authority}"),
        // The name of a host is a matter of form: a socket has none.
        Place::Socket(_) => "http://localhost".to_owned(),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| wrong(&error))?;
    let mut endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    // A server that is gone without a word is noticed while an answer is waited for.
    endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    if matches!(address.place, Place::Network { tls: true, .. }) {
        let mut tls = ClientTlsConfig::new().with_native_roots();
        let read = |file: &std::path::Path, what: &str| {
            let wrong =
                |error| Error::new(Kind::InvalidConfiguration, format!("{what} can't be read: {error}")).with("file", file.display());
            std::fs::read(file).map_err(wrong)
        };
        if let Some(ca) = &address.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca, "the certificates")?));
        }
        if let Some((certificate, key)) = &address.identity {
            let (certificate, key) = (read(certificate, "the certificate of the client")?, read(key, "the key of the client")?);
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
    }
    let connected = match &address.place {
        Place::Network { .. } => endpoint.connect().await,
        #[cfg(unix)]
        Place::Socket(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        }
        #[cfg(not(unix))]
        Place::Socket(_) => return Err(wrong(&"this system has no sockets in its file system")),
    };
    connected.map_err(|error| {
        let reason = std::iter::successors(std::error::Error::source(&error), |error| error.source()).last().map(ToString::to_string);
        let reason = reason.unwrap_or_default();
        let hint = if reason.contains("UnknownIssuer") {
            "name the certificate of the authority: ?ca=FILE"
        } else if reason.contains("corrupt message") || reason.contains("InvalidContentType") {
            "it may answer without TLS: write grpc://"
        } else if address.has_no_port() {
            "write the port: grpc://HOST:50051"
        } else {
            "start one with `lacus serve`, or check the address"
        };
        let refused = if reason.contains("ertificate") { format!(": {reason}") } else { String::new() };
        Error::new(Kind::Unavailable, format!("no server answers at {shown}{refused}")).hint(hint).because(error)
    })
}

/// The parameters as the one row that Flight SQL binds.
fn row(parameters: &[ScalarValue]) -> Result<RecordBatch> {
    let columns = parameters.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>()?;
    let field = |(position, value): (usize, &ScalarValue)| Field::new((position + 1).to_string(), value.data_type(), true);
    let schema = Schema::new(parameters.iter().enumerate().map(field).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(schema.into(), columns)?)
}

/// An answer that waits on the server.
#[derive(Debug)]
pub struct RemoteQuery {
    client: Box<FlightSqlServiceClient<Channel>>,
    headers: &'static [(&'static str, &'static str)],
    schema: SchemaRef,
    info: Box<FlightInfo>,
    traffic: Arc<Traffic>,
    /// Where the record of the answer comes to, if it is wanted.
    record: Option<RemoteProvenance>,
}

/// What an answer was computed from, as the server tells it behind the last of its rows.
#[derive(Debug, Clone, Default)]
pub struct RemoteProvenance(Arc<Mutex<Bytes>>);

impl RemoteProvenance {
    /// The record, once all of the answer was read; `None` before, and from a server that tells none.
    pub fn record(&self) -> Option<Record> {
        Record::parse(std::str::from_utf8(&self.held()).ok()?).ok()
    }

    /// A poisoned lock only means that another thread panicked; the bytes are valid at every instant.
    fn held(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteQuery {
    /// The schema of the result.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// What the answer is computed from, to be asked for once all of it was read.
    pub fn provenance(&self) -> RemoteProvenance {
        self.record.clone().unwrap_or_default()
    }

    /// Whether this was a command, which leaves nothing to fetch.
    pub fn is_command(&self) -> bool {
        self.info.endpoint.is_empty()
    }

    /// Fetches the result, endpoint after endpoint. Dropping the stream cancels the query on the server.
    ///
    /// # Errors
    /// `Internal` when the server gives no ticket.
    pub fn stream(self) -> Result<RemoteStream> {
        let Self { client, headers, schema, info, traffic, record } = self;
        let tickets = info
            .endpoint
            .into_iter()
            .map(|endpoint| endpoint.ticket.ok_or_else(|| Error::new(Kind::Internal, "the server sent an endpoint without a ticket")));
        let tickets = tickets.collect::<Result<Vec<Ticket>>>()?;
        let batches = stream::iter(tickets)
            .then(move |ticket| fetch(client.clone(), headers, ticket, Arc::clone(&traffic), record.clone()))
            .try_flatten()
            .boxed();
        Ok(RemoteStream { schema, batches })
    }
}

/// Fetches one part of a result. The client of arrow-flight would not tell how large the messages are.
async fn fetch(
    mut client: Box<FlightSqlServiceClient<Channel>>,
    headers: &'static [(&'static str, &'static str)],
    ticket: Ticket,
    traffic: Arc<Traffic>,
    record: Option<RemoteProvenance>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    traffic.asked(ticket.encoded_len());
    let mut request = tonic::Request::new(ticket);
    if let Some(left) = traffic.time_left() {
        request.set_timeout(left);
    }
    let unwanted = record.is_none().then_some(&("x-lacus-provenance", "none"));
    for (name, value) in headers.iter().chain(unwanted) {
        request.metadata_mut().insert(*name, MetadataValue::from_static(value));
    }
    if let Some(token) = client.token() {
        let unfit = |_| Error::new(Kind::Unauthenticated, "the token can't be sent: it has letters that no header may have");
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().map_err(unfit)?);
    }
    let messages = client.inner_mut().do_get(request).await.map_err(|status| from_status(&status))?.into_inner();
    let seen = move |message: &FlightData| {
        traffic.answered(message.encoded_len());
        if let Some(record) = record.as_ref().filter(|_| !message.app_metadata.is_empty()) {
            *record.held() = message.app_metadata.clone();
        }
    };
    let messages = messages.inspect_ok(seen).map_err(FlightError::from);
    Ok(FlightRecordBatchStream::new_from_flight_data(messages).map_err(from_flight).boxed())
}

/// The batches of a remote result.
pub struct RemoteStream {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl RemoteStream {
    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl std::fmt::Debug for RemoteStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Stream for RemoteStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(context)
    }
}

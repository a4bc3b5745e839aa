//! What arrow-flight's own implementation of the service leaves out or says wrongly: who calls, `GetSchema`, whether a prepared statement is
//! an update, and a list of actions that tells the truth.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, Any, Command, ProstMessageExt};
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind, Result};
use lacus_engine::Engine;
use prost::Message;
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use crate::access::{Gate, claimed};
use crate::command::{check_transaction, command};
use crate::service::{CANCEL_FLIGHT_INFO, RENEW, Service};
use crate::session_options;
use crate::sessions::{Connection, DOOR};
use crate::status::{to_status, unreadable};
use crate::wire::Wire;

/// The largest message that a client may send: parameters, and rows to ingest.
const LARGEST_REQUEST: usize = 64 << 20;

/// How often what nobody asked for in time is let go.
const EXPIRES: Duration = Duration::from_secs(15);

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The Flight service of one engine.
pub struct LacusFlight {
    inner: Arc<Service>,
}

/// The gRPC service for `engine`, for a server to mount, on the tokio runtime that calls it.
///
/// # Errors
/// `Internal` when what the server says about itself can't be encoded.
pub fn flight_service(engine: Engine, gate: Gate) -> Result<FlightServiceServer<LacusFlight>> {
    let service = LacusFlight { inner: Arc::new(Service::new(engine, gate)?) };
    let served = Arc::downgrade(&service.inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EXPIRES).await;
            match served.upgrade() {
                Some(served) => served.expire(),
                None => return,
            }
        }
    });
    // Answers are split by us, to sizes that clients take; tonic need not refuse them.
    Ok(FlightServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST).max_encoding_message_size(usize::MAX))
}

impl LacusFlight {
    /// Finds out who calls, for those behind; and what the client is to keep of it.
    async fn admit<T>(&self, mut request: Request<T>) -> Result<(Request<T>, Option<String>), Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let caller = self.inner.access.caller(request.metadata(), connection.as_ref()).await;
        let caller = caller.map_err(|error| to_status(&self.refused(request.metadata(), None, error)))?;
        let cookie = caller.cookie.clone();
        request.extensions_mut().insert(caller);
        Ok((request, cookie))
    }

    /// Records that nobody was let in.
    fn refused(&self, headers: &MetadataMap, name: Option<String>, error: Error) -> Error {
        if error.kind() == Kind::Unauthenticated {
            let name = name.or_else(|| claimed(headers)).unwrap_or_default();
            self.inner.engine.record_refused(&name, DOOR, &error);
        }
        error
    }

    /// What a client says of itself to get a token.
    async fn shake_hands(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Messages<HandshakeResponse>>> {
        let (headers, extensions, mut messages) = request.into_parts();
        let first = messages.try_next().await.map_err(|status| unreadable("handshake", &status.message()))?;
        let payload = first.and_then(|message| BasicAuth::decode(&*message.payload).ok());
        let payload = payload.filter(|auth| !auth.username.is_empty()).map(|auth| (auth.username, auth.password));
        let name = payload.as_ref().map(|(name, _)| name.clone());
        let token = self.inner.access.handshake(&headers, payload, extensions.get()).await;
        let token = token.map_err(|error| self.refused(&headers, name, error))?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token.clone()) };
        let mut response: Response<Messages<HandshakeResponse>> = Response::new(Box::pin(stream::iter([Ok(answer)])));
        let bearer = MetadataValue::try_from(format!("Bearer {token}")).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn create_statement(&self, request: Request<Action>) -> Result<Response<Messages<arrow_flight::Result>>> {
        let unreadable = |error: &dyn Display| unreadable("action", error);
        let wire = Wire::of(request.metadata())?;
        let session = Service::session_of(&request)?;
        let any = Any::decode(&*request.get_ref().body).map_err(|error| unreadable(&error))?;
        let asked: Option<ActionCreatePreparedStatementRequest> = any.unpack().map_err(|error| unreadable(&error))?;
        let asked = asked.ok_or_else(|| unreadable(&"it is no ActionCreatePreparedStatementRequest"))?;
        check_transaction(asked.transaction_id.as_ref())?;
        let (created, is_update) = self.inner.create_statement(asked.query, wire, &session).await?;
        let type_url = created.as_any().type_url;
        let created = CreatedStatement {
            prepared_statement_handle: created.prepared_statement_handle,
            dataset_schema: created.dataset_schema,
            parameter_schema: created.parameter_schema,
            is_update: Some(is_update),
        };
        let body = Any { type_url, value: created.encode_to_vec().into() }.encode_to_vec().into();
        Ok(Response::new(Box::pin(stream::iter([Ok(arrow_flight::Result { body })]))))
    }

    async fn schema(&self, request: Request<FlightDescriptor>) -> Result<SchemaResult> {
        let wire = Wire::of(request.metadata())?;
        let session = Service::session_of(&request)?;
        let command = command_of(request.get_ref())?;
        let schema = self.inner.schema_of(command, wire, &session).await?;
        Ok(SchemaAsIpc::new(&schema, &arrow_ipc::writer::IpcWriteOptions::default()).try_into()?)
    }
}

/// The command of a descriptor.
fn command_of(descriptor: &FlightDescriptor) -> Result<Command> {
    if descriptor.r#type() == DescriptorType::Path {
        return Err(
            Error::new(Kind::InvalidQuery, "a path names nothing here").hint("ask for `SELECT * FROM table` by CommandStatementQuery")
        );
    }
    command(&descriptor.cmd)
}

/// arrow-flight takes a message that it can't decode for a fault of the server, and says so in the words of its own types.
fn of_message(status: Status) -> Status {
    match status.message().strip_prefix("ParseError(") {
        Some(what) if status.code() == tonic::Code::Internal => {
            to_status(&unreadable("message", &what.trim_end_matches(')').trim_matches('"')))
        }
        _ => status,
    }
}

/// How long a client waits for the end of its call. Until an answer begins, the transport keeps to it; of streams it knows nothing.
fn patience(headers: &MetadataMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The messages that come in time; what makes them is dropped when it is over.
fn until(messages: Messages<FlightData>, patience: Duration) -> Messages<FlightData> {
    // Of a time that no clock reaches, there is no end.
    let Some(end) = Instant::now().checked_add(patience) else { return messages };
    Box::pin(stream::unfold(Some(messages), move |messages| async move {
        let mut messages = messages?;
        match tokio::time::timeout_at(end, messages.next()).await {
            Ok(message) => message.map(|message| (message, Some(messages))),
            Err(_) => {
                let error = Error::new(Kind::DeadlineExceeded, format!("the call took longer than the {patience:?} that it was given"));
                Some((Err(to_status(&error.hint("give it more time, or narrow the query"))), None))
            }
        }
    }))
}

/// Tells the client the cookie by which it is known again.
fn with_cookie<T>(mut response: Response<T>, cookie: Option<String>) -> Response<T> {
    if let Some(cookie) = cookie.and_then(|cookie| MetadataValue::try_from(cookie).ok()) {
        response.metadata_mut().insert("set-cookie", cookie);
    }
    response
}

/// The answer to `CreatePreparedStatement` with the field that tells drivers apart what they send next; arrow-flight's lacks it.
#[derive(Clone, PartialEq, Message)]
struct CreatedStatement {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

#[tonic::async_trait]
impl FlightService for LacusFlight {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let (request, _) = self.admit(request).await?;
        self.schema(request).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let action = |(name, description): (&str, &str)| Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() });
        let actions = [
            ("CreatePreparedStatement", "Plans a statement under a handle: ActionCreatePreparedStatementRequest"),
            (CANCEL_FLIGHT_INFO, "Cancels a query: CancelFlightInfoRequest, CancelFlightInfoResult"),
            ("CancelQuery", "Cancels a query, for older clients: ActionCancelQueryRequest, ActionCancelQueryResult"),
            (RENEW, "Keeps a result of PollFlightInfo for longer: RenewFlightEndpointRequest, FlightEndpoint"),
            (session_options::CLOSE, "Ends the session: CloseSessionRequest, CloseSessionResult"),
            (session_options::GET, "What the session has set: GetSessionOptionsRequest, GetSessionOptionsResult"),
            (
                session_options::SET,
                "Sets `catalog`, `schema` and settings of the session: SetSessionOptionsRequest, SetSessionOptionsResult",
            ),
            ("ClosePreparedStatement", "Forgets a prepared statement: ActionClosePreparedStatementRequest"),
        ];
        Ok(Response::new(Box::pin(stream::iter(actions.map(action)))))
    }

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        self.shake_hands(request).await.map_err(|error| to_status(&error))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.admit(request).await?;
        let error = Error::new(Kind::Unsupported, "flights are not listed");
        Err(to_status(&error.hint("CommandGetTables lists the tables, and `system.queries` what was asked")))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let (request, cookie) = self.admit(request).await?;
        command_of(request.get_ref()).map_err(|error| to_status(&error))?;
        self.inner.get_flight_info(request).await.map(|response| with_cookie(response, cookie)).map_err(of_message)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let (request, _) = self.admit(request).await?;
        self.inner.poll(request).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let patience = patience(request.metadata());
        let (request, _) = self.admit(request).await?;
        command(&request.get_ref().ticket).map_err(|error| to_status(&error))?;
        let answer = self.inner.do_get(request).await.map_err(of_message)?;
        Ok(match patience {
            Some(patience) => answer.map(|messages| until(messages, patience)),
            None => answer,
        })
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (request, _) = self.admit(request).await?;
        self.inner.do_put(request).await.map_err(of_message)
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.admit(request).await?;
        let error = Error::new(Kind::Unsupported, "there is nothing to exchange");
        Err(to_status(&error.hint("send rows by DoPut, and fetch them by DoGet")))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let (request, cookie) = self.admit(request).await?;
        let answer = match request.get_ref().r#type.as_str() {
            "CreatePreparedStatement" => self.create_statement(request).await.map_err(|error| to_status(&error)),
            _ => self.inner.do_action(request).await.map_err(of_message),
        };
        answer.map(|response| with_cookie(response, cookie))
    }
}

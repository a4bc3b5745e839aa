//! Messages of Flight SQL that no client would send, for a server that has to answer each of them.
//!
//! A *case* is any string of bytes: which call, which action, then messages, each behind its length. Two readers share it: `cargo fuzz` lets
//! coverage choose the bytes (`make fuzz`), and a test changes the bytes of real messages by a fixed seed.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, Criteria, Empty, FlightData, FlightDescriptor, HandshakeRequest, Ticket};
use futures::TryStreamExt;
use lacus::{Config, Engine};
use lacus_server::Server;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

mod corpus;

/// What can't be answered, or was answered by an error that only a mistake of the server's makes.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so many messages the session is closed and the statement prepared anew: a message may have closed it.
const ANEW: usize = 512;
/// How much of an answer is read.
const ENOUGH: usize = 64;
/// The calls of the protocol.
const CALLS: u8 = 9;

const INFO: u8 = 0;
const SCHEMA: u8 = 1;
const POLL: u8 = 2;
const GET: u8 = 3;
const ACTION: u8 = 4;
const PUT: u8 = 5;
const HANDSHAKE: u8 = 6;
const EXCHANGE: u8 = 7;
const LIST: u8 = 8;

/// A server, and a client that sends it bytes.
pub struct Target {
    runtime: Runtime,
    calls: FlightServiceClient<Channel>,
    actions: Vec<String>,
    /// The names that only a server can give, which take the places of [`Target::stand_ins`] in a message.
    live: [Vec<u8>; 2],
    sent: usize,
    answers: BTreeMap<String, usize>,
    _folder: TempDir,
}

fn case(call: u8, action: u8, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![call, action];
    for message in messages {
        bytes.extend_from_slice(&u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}

/// The messages of a case: a length that says more than there is means all that there is.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (message, after) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        messages.push(message.to_vec());
        bytes = after;
    }
    messages
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for place in 0..=bytes.len().saturating_sub(from.len()) {
        if bytes[place..].starts_with(from) && from.len() == to.len() {
            bytes[place..place + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// A message of the corpus with up to four changes: a byte changed, put in or left out, a part of another message, an end cut off.
pub fn mutated(corpus: &[Vec<u8>], chance: &mut StdRng) -> Vec<u8> {
    let mut bytes = corpus[chance.random_range(0..corpus.len())].clone();
    for _ in 0..chance.random_range(0..=4) {
        let place = chance.random_range(0..=bytes.len());
        match chance.random_range(0..6) {
            0 if place < bytes.len() => bytes[place] = chance.random(),
            1 if place < bytes.len() => bytes[place] ^= 1 << chance.random_range(0..8),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            3 => bytes.truncate(place),
            4 => {
                let other = &corpus[chance.random_range(0..corpus.len())];
                let start = chance.random_range(0..other.len());
                let end = chance.random_range(start..=other.len());
                drop(bytes.splice(place..place, other[start..end].iter().copied()));
            }
            _ => bytes.insert(place, chance.random()),
        }
    }
    bytes
}

impl Target {
    /// A server of an empty lake, whose queries end within seconds whatever they ask.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let limits = "[limits]\nmemory = \"256 MiB\"\ndeadline = \"5s\"";
        let config = Config::parse(limits, folder.path().to_owned(), &|_| None)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (calls, actions) = runtime.block_on(Self::connected(config.engine()?))?;
        let mut target =
            Self { runtime, calls, actions, live: [Vec::new(), Vec::new()], sent: 0, answers: BTreeMap::new(), _folder: folder };
        target.anew()?;
        Ok(target)
    }

    async fn connected(engine: Engine) -> Result<(FlightServiceClient<Channel>, Vec<String>)> {
        let server = Server::bind("127.0.0.1:0").await?;
        let uri = server.uri().replace("grpc://", "http://");
        tokio::spawn(server.serve(engine, std::future::pending()));
        let mut calls = FlightServiceClient::new(Channel::from_shared(uri)?.connect().await?);
        let actions: Vec<_> = calls.list_actions(Empty {}).await?.into_inner().try_collect().await?;
        Ok((calls, actions.into_iter().map(|action| action.r#type).collect()))
    }

    /// What stands in a case for the handle of a prepared statement and for a ticket of a plan.
    fn stand_ins(&self) -> [Vec<u8>; 2] {
        [vec![b'H'; self.live[0].len()], vec![b'T'; self.live[1].len()]]
    }

    /// Closes the session, prepares a statement and plans a query anew.
    ///
    /// # Errors
    /// When the server lives no longer.
    pub fn anew(&mut self) -> Result<()> {
        let calls = &mut self.calls;
        self.live = self.runtime.block_on(async {
            calls.do_action(Action::new("CloseSession", Vec::new())).await?.into_inner().try_collect::<Vec<_>>().await?;
            let asked = ActionCreatePreparedStatementRequest { query: "SELECT $1 + 1 AS x, $2 AS y".to_owned(), transaction_id: None };
            let action = Action::new("CreatePreparedStatement", asked.as_any().encode_to_vec());
            let answers: Vec<_> = calls.do_action(action).await?.into_inner().try_collect().await?;
            let answer = Any::decode(&*answers.first().ok_or("no statement")?.body)?;
            let prepared: ActionCreatePreparedStatementResult = answer.unpack()?.ok_or("no statement")?;
            let command = CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: None };
            let info = calls.get_flight_info(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())).await?.into_inner();
            let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).ok_or("no ticket")?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>([prepared.prepared_statement_handle.to_vec(), ticket.ticket.to_vec()])
        })?;
        Ok(())
    }

    /// What clients send: each call, each command and each action at least once, with what varies in them.
    ///
    /// # Errors
    /// When a batch can't be encoded, or the server has no such action.
    pub fn corpus(&self) -> Result<Vec<Vec<u8>>> {
        let [handle, ticket] = self.stand_ins();
        let mut cases = Vec::new();
        for command in corpus::commands(&handle) {
            cases.extend([INFO, SCHEMA, POLL, GET].map(|call| case(call, 0, std::slice::from_ref(&command))));
        }
        cases.push(case(GET, 0, std::slice::from_ref(&ticket)));
        cases.push(case(POLL, 0, &[b"lacus.poll.0123456789abcdef".to_vec()]));
        cases.push(case(HANDSHAKE, 0, &[HandshakeRequest { protocol_version: 0, payload: b"user:word".to_vec().into() }.encode_to_vec()]));
        cases.push(case(LIST, 0, &[b"t".to_vec()]));
        for (name, body) in corpus::actions(&handle, &ticket) {
            let place = self.actions.iter().position(|action| action == name);
            let place = place.and_then(|place| u8::try_from(place).ok()).ok_or_else(|| format!("there is no action {name}"))?;
            cases.push(case(ACTION, place, &[body]));
        }
        for sent in corpus::puts(&handle)? {
            cases.extend([PUT, EXCHANGE].map(|call| case(call, 0, &sent)));
        }
        Ok(cases)
    }

    /// Sends one case, and reads the answer.
    ///
    /// # Errors
    /// No answer in time, or one that only a mistake of the server's makes: what is internal, of an unknown kind, or a connection that ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.sent += 1;
        if self.sent.is_multiple_of(ANEW) {
            self.anew()?;
        }
        let mut bytes = bytes.to_vec();
        for (stand_in, live) in self.stand_ins().iter().zip(&self.live) {
            bytes = replaced(&bytes, stand_in, live);
        }
        let [call, action, rest @ ..] = &*bytes else { return Ok(()) };
        let (calls, action) = (&mut self.calls, self.actions[usize::from(*action) % self.actions.len()].clone());
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, call_of(calls, *call, action, messages(rest))).await });
        let code = match answered.map_err(|_| "it was never answered")? {
            Ok(()) => Code::Ok,
            Err(status) if matches!(status.code(), Code::Internal | Code::Unknown | Code::Unavailable) => return Err(status.into()),
            Err(status) => status.code(),
        };
        *self.answers.entry(format!("{code:?}")).or_default() += 1;
        Ok(())
    }

    /// How many messages were answered by no error.
    pub fn well(&self) -> usize {
        self.answers.get("Ok").copied().unwrap_or_default()
    }

    /// How many answers there were of each kind.
    pub fn answers(&self) -> String {
        self.answers.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}

async fn call_of(calls: &mut FlightServiceClient<Channel>, call: u8, action: String, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    let first = messages.first().cloned().unwrap_or_default();
    let sent = |message: Vec<u8>| {
        // What is no message of the protocol is a command.
        let command = |_| FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(message.clone())), ..FlightData::default() };
        FlightData::decode(&*message).unwrap_or_else(command)
    };
    let sent: Vec<FlightData> = messages.into_iter().map(sent).collect();
    match call % CALLS {
        INFO => drop(calls.get_flight_info(FlightDescriptor::new_cmd(first)).await?),
        SCHEMA => drop(calls.get_schema(FlightDescriptor::new_cmd(first)).await?),
        POLL => drop(calls.poll_flight_info(FlightDescriptor::new_cmd(first)).await?),
        GET => read(calls.do_get(Ticket::new(first)).await?.into_inner()).await?,
        ACTION => read(calls.do_action(Action::new(action, first)).await?.into_inner()).await?,
        PUT => read(calls.do_put(futures::stream::iter(sent)).await?.into_inner()).await?,
        HANDSHAKE => {
            let request = HandshakeRequest::decode(&*first).unwrap_or_default();
            read(calls.handshake(futures::stream::iter([request])).await?.into_inner()).await?;
        }
        EXCHANGE => read(calls.do_exchange(futures::stream::iter(sent)).await?.into_inner()).await?,
        _ => read(calls.list_flights(Criteria { expression: first.into() }).await?.into_inner()).await?,
    }
    Ok(())
}

async fn read<T>(mut answer: tonic::Streaming<T>) -> Result<(), Status> {
    for _ in 0..ENOUGH {
        if answer.message().await?.is_none() {
            break;
        }
    }
    Ok(())
}

//! The door of agents: the Model Context Protocol over HTTP, at `/mcp`.
//!
//! Who asks is found out here, as for every other door; what may be asked is decided behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Asked;
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use lacus::{AgentLimits, Bearer, Engine, Error, Kind, Result};
use lacus_flight::Gate;
use lacus_mcp::{Agents, HttpService, Origins, over_http};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::Instrument;

use crate::incoming::{self, Tls};
use crate::traces;

/// Where the protocol is spoken.
const PATH: &str = "/mcp";
/// Where those without a token learn who gives them one (RFC 9728).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// How many connections are held at once.
const CONNECTIONS: usize = 1024;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where and how agents are answered.
#[derive(Debug, Clone, Default)]
pub struct AgentsListen {
    /// An address, such as `127.0.0.1:50052`; port 0 takes a free one.
    pub address: String,
    /// The URL by which agents know the server, if it is another than its address: `https://lacus.lab.example/mcp`.
    pub url: Option<String>,
    /// Pages that may ask from a browser.
    pub origins: Vec<String>,
    /// What tokens must be for that were given by issuers.
    pub scopes: Vec<String>,
    /// Who gives tokens for the server.
    pub issuers: Vec<String>,
    /// What one may ask for.
    pub limits: AgentLimits,
}

/// A door that is open, and not answered yet.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    listen: AgentsListen,
}

impl Listening {
    pub(crate) fn new(listener: TcpListener, tls: Option<Arc<Tls>>, listen: AgentsListen) -> Result<Self> {
        let address = crate::local_address(&listener)?;
        Ok(Self { listener, address, tls, listen })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.listen.url.clone().unwrap_or_else(|| format!("{scheme}://{}{PATH}", self.address))
    }
}

/// What answers requests.
#[derive(Clone)]
struct Door {
    service: HttpService,
    gate: Gate,
    engine: Engine,
    scheme: &'static str,
    listen: Arc<AgentsListen>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Answers agents until it is dropped, or until what it gives beside is cancelled.
pub(crate) fn serve(listening: Option<Listening>, engine: &Engine, gate: &Gate) -> (impl Future<Output = ()> + use<>, CancellationToken) {
    let stopping = CancellationToken::new();
    let (engine, gate, stop) = (engine.clone(), gate.clone(), stopping.clone());
    let serving = async move {
        let Some(Listening { listener, address, tls, listen }) = listening else { return std::future::pending().await };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let own = listen.url.as_deref().and_then(|url| url.parse::<hyper::Uri>().ok()).and_then(|url| url.authority().cloned());
        // A page of this server itself may ask it.
        let here = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{scheme}://{name}:{}", address.port()));
        let allowed = Origins {
            hosts: own.into_iter().map(|own| own.to_string()).chain([address.to_string()]).collect(),
            origins: listen.origins.iter().cloned().chain(here).collect(),
        };
        let agents = Agents::new(engine.clone(), listen.limits.clone());
        let service = over_http(agents, &allowed, stop.clone());
        let mut doors = incoming::accept(
            Some(listener),
            tls,
            #[cfg(unix)]
            None,
            &engine,
        );
        let door = Door { service, gate, engine, scheme, listen: Arc::new(listen) };
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let incoming = tokio::select! {
                incoming = doors.next() => incoming,
                () = stop.cancelled() => return std::future::pending().await,
            };
            let Some(incoming) = incoming else { return };
            let (door, connection) = (door.clone(), incoming.connection());
            tokio::spawn(async move {
                let longest = door.longest();
                let used = Arc::new(Used::default());
                let uses = Arc::clone(&used);
                let answers = service_fn(move |request: Request<Asked>| {
                    let (door, connection, span) = (door.clone(), connection.clone(), traces::call(request.headers()));
                    let in_use = InUse::new(&uses);
                    async move {
                        // Until all of the answer has been sent.
                        let answer = door.answer(request, &connection).await.map(|body| {
                            let sent = move |frame| {
                                let _ = &in_use;
                                frame
                            };
                            body.map_frame(sent).boxed()
                        });
                        Ok::<_, Infallible>(answer)
                    }
                    .instrument(span)
                });
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                builder.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE);
                let mut serving = pin!(builder.serve_connection(TokioIo::new(incoming), answers));
                let mut look = tokio::time::interval(PATIENCE / 4);
                loop {
                    tokio::select! {
                        served = &mut serving => {
                            // Whoever goes away in the middle of a question needs no answer.
                            if let Err(error) = served {
                                tracing::debug!(%error, "a connection of an agent broke");
                            }
                            break;
                        }
                        _ = look.tick() => if used.is_in_vain(longest) {
                            serving.as_mut().graceful_shutdown();
                            drop(tokio::time::timeout(PATIENCE / 4, &mut serving).await);
                            break;
                        },
                    }
                }
                drop(place);
            });
        }
    };
    (serving, stopping)
}

/// How a connection is used: one that holds a place and asks nothing takes it from others.
#[derive(Debug)]
struct Used {
    running: AtomicUsize,
    /// When the last request began or ended.
    last: Mutex<Instant>,
}

impl Default for Used {
    fn default() -> Self {
        Self { running: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }
    }
}

impl Used {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether nothing was asked for long, or an answer is not taken.
    fn is_in_vain(&self, longest: Duration) -> bool {
        let since = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let room = if self.running.load(Ordering::Relaxed) == 0 { PATIENCE } else { longest.saturating_mul(2) };
        since > room
    }
}

/// One request, from its first line to the last byte of its answer.
#[derive(Debug)]
struct InUse(Arc<Used>);

impl InUse {
    fn new(used: &Arc<Used>) -> Self {
        used.running.fetch_add(1, Ordering::Relaxed);
        used.touch();
        Self(Arc::clone(used))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// How long a request may take, with its body. The call itself has its own deadline.
    fn longest(&self) -> Duration {
        self.listen.limits.deadline.saturating_add(PATIENCE)
    }

    async fn answer(mut self, mut request: Request<Asked>, connection: &lacus_flight::Connection) -> Answer {
        let path = request.uri().path();
        // Who has no token must be able to learn where there is one.
        if path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.is_empty() || rest == PATH) {
            return match *request.method() {
                Method::GET | Method::HEAD => self.resource(&request),
                _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n", &[(ALLOW, "GET, HEAD")]),
            };
        }
        if path != PATH && path.strip_suffix('/') != Some(PATH) {
            return text(StatusCode::NOT_FOUND, "agents ask at /mcp\n", &[]);
        }
        match self.gate.bearer(request.headers(), connection).await {
            Ok(bearer) => {
                if let Some(error) = self.lacking(&bearer) {
                    return self.refused_for(
                        &request,
                        StatusCode::FORBIDDEN,
                        bearer.principal.name(),
                        &error,
                        "error=\"insufficient_scope\", ",
                    );
                }
                request.extensions_mut().insert(bearer);
                // A body that doesn't come to its end must not hold a place for ever.
                match tokio::time::timeout(self.longest(), self.service.call(request)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(never)) => match never {},
                    Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the request took too long\n", &[]),
                }
            }
            Err(error) => self.refused(&request, &error),
        }
    }

    /// What a client is told who did not prove who it is.
    fn refused(&self, request: &Request<Asked>, error: &Error) -> Answer {
        if error.kind() != Kind::Unauthenticated {
            tracing::warn!(%error, "who an agent is can't be found out");
            return text(StatusCode::SERVICE_UNAVAILABLE, "who asks can't be found out now: try again\n", &[]);
        }
        let claimed = Gate::claimed(request.headers()).unwrap_or_default();
        // Who brought no token learns only where there is one (RFC 6750, 3.1).
        let why = if request.headers().contains_key(AUTHORIZATION) { "error=\"invalid_token\", " } else { "" };
        self.refused_for(request, StatusCode::UNAUTHORIZED, &claimed, error, why)
    }

    /// Why a token is not for this server, if it isn't. Who has another proof than a token of an issuer has no scopes to show.
    fn lacking(&self, bearer: &Bearer) -> Option<Error> {
        bearer.principal.claim("iss")?;
        let lacks: Vec<&str> =
            self.listen.scopes.iter().map(String::as_str).filter(|scope| !bearer.principal.scopes().any(|has| has == *scope)).collect();
        (!lacks.is_empty()).then(|| {
            let error = Error::new(Kind::PermissionDenied, format!("the token is not for {}", lacks.join(" ")));
            error.hint("ask for one with these scopes")
        })
    }

    /// A refusal that says how to ask otherwise, and is in the records.
    fn refused_for(&self, request: &Request<Asked>, status: StatusCode, who: &str, error: &Error, why: &str) -> Answer {
        self.engine.record_refused(who, lacus_mcp::DOOR, error);
        let scope = match self.listen.scopes.join(" ") {
            none if none.is_empty() => none,
            scopes => format!(", scope=\"{scopes}\""),
        };
        let challenge = format!("Bearer {why}resource_metadata=\"{}{WELL_KNOWN}{PATH}\"{scope}", self.base(request));
        text(status, format!("{error}\n"), &[(WWW_AUTHENTICATE, &challenge)])
    }

    /// The address of the server without a path, as the client knows it.
    fn base(&self, request: &Request<Asked>) -> String {
        if let Some(url) = self.listen.url.as_deref().and_then(|url| url.parse::<hyper::Uri>().ok())
            && let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority())
        {
            return format!("{scheme}://{authority}");
        }
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
        // It goes into a header and into JSON, and comes from whoever asks.
        let plain = host.chars().filter(|letter| letter.is_ascii_alphanumeric() || ".-:[]".contains(*letter)).collect::<String>();
        format!("{}://{plain}", self.scheme)
    }

    /// Who gives tokens for this server.
    fn resource(&self, request: &Request<Asked>) -> Answer {
        let resource = self.listen.url.clone().unwrap_or_else(|| format!("{}{PATH}", self.base(request)));
        let mut told = json!({
            "resource": resource,
            "resource_name": format!("Lacus: {}", self.engine.lake()),
            "authorization_servers": self.listen.issuers,
            "bearer_methods_supported": ["header"],
        });
        if !self.listen.scopes.is_empty() {
            told["scopes_supported"] = json!(self.listen.scopes);
        }
        text(StatusCode::OK, told.to_string(), &[(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "max-age=300")])
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>, headers: &[(hyper::header::HeaderName, &str)]) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name.clone(), value);
        }
    }
    answer
}

//! One process that serves a lake.
//!
//! * [`Server`] listens, as [`Listen`] says, and answers over Flight SQL; `incoming` is how it is reached, `serving` the connections;
//! * `agents` answers those who speak the Model Context Protocol;
//! * `http` tells of it: `metrics`, health, readiness;
//! * [`follow`] begins to write `logs`, by `lines` that keep nobody waiting, and to send `traces` to a `collector` that speaks `otlp`.

mod agents;
mod collector;
mod follow;
mod http;
mod incoming;
mod lines;
mod logs;
mod metrics;
mod otlp;
mod serving;
mod traces;

pub use collector::Traces;
pub use follow::{Following, follow};
pub use logs::{LogFilter, LogFormat};

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use agents::AgentsListen;
use lacus::{CertificateSpec, Engine, Error, Kind, Result};
use lacus_flight::Gate;
pub use lacus_flight::{Callers, User, check_hash, hash_password};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::incoming::Tls;

/// The services whose health can be asked for: all of the server, and the one of Flight.
const SERVICES: [&str; 2] = ["", "arrow.flight.protocol.FlightService"];
/// How long a shutdown waits for running queries.
const GRACE: Duration = Duration::from_secs(30);

/// Where a server listens, and whom it answers.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// An address, such as `127.0.0.1:50051`; port 0 takes a free one.
    pub address: Option<String>,
    /// The path of a socket in the file system, which only the user of this process can open.
    pub socket: Option<PathBuf>,
    /// The PEM files of a certificate chain and of its key: the address is reached by TLS then. They are read again when they change.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whose certificates prove who calls by the address. They are read again when they change.
    pub clients: Option<CertificateSpec>,
    /// Who else may call.
    pub callers: Callers,
    /// Listen beyond this machine without TLS or without knowing who calls: what travels can be read and changed on its way, and anyone
    /// reads the lake.
    pub insecure: bool,
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: Option<TcpListener>,
    address: Option<SocketAddr>,
    #[cfg(unix)]
    socket: Option<(tokio::net::UnixListener, SocketFile)>,
    tls: Option<Arc<Tls>>,
    callers: Callers,
    safety: Safety,
    certificate: Option<(PathBuf, PathBuf)>,
    clients: Option<CertificateSpec>,
    http: Option<TcpListener>,
    agents: Option<agents::Listening>,
    began: SystemTime,
}

/// The file of a socket, which is taken away with it.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Listens on an address of this machine, such as `127.0.0.1:50051`, for its owner.
    ///
    /// # Errors
    /// As [`Server::listen`].
    pub async fn bind(address: &str) -> Result<Self> {
        Self::listen(Listen { address: Some(address.to_owned()), ..Listen::default() }).await
    }

    /// Listens.
    ///
    /// # Errors
    /// `PermissionDenied` for an address beyond this machine without TLS or without users, unless `insecure` says so.
    /// `InvalidConfiguration` for what is no address, no certificate or no hash of a password, `Unavailable` when the port is taken.
    pub async fn listen(listen: Listen) -> Result<Self> {
        let began = SystemTime::now();
        for user in &listen.callers.users {
            check_hash(&user.password).map_err(|error| error.with("user", &user.name))?;
        }
        let mut callers = listen.callers;
        callers.certified = listen.clients.is_some();
        let tls = match listen.certificate.clone() {
            Some((certificate, key)) => Some(Arc::new(Tls::new(certificate, key, listen.clients.clone(), &[b"h2"])?)),
            None if callers.certified => {
                return Err(Error::new(Kind::InvalidConfiguration, "clients show certificates by TLS alone, and the server has none")
                    .hint("write `certificate` and `key` under [serve]"));
            }
            None => None,
        };
        let safety = Safety { tls: tls.is_some(), users: !callers.is_empty(), insecure: listen.insecure };
        let listener = match &listen.address {
            Some(address) => Some(bind(address, "127.0.0.1:50051", "--listen", safety).await?),
            None => None,
        };
        let address = listener.as_ref().map(local_address).transpose()?;
        #[cfg(unix)]
        let socket = listen.socket.map(bind_socket).transpose()?;
        Ok(Self {
            listener,
            address,
            #[cfg(unix)]
            socket,
            tls,
            callers,
            safety,
            certificate: listen.certificate,
            clients: listen.clients,
            http: None,
            agents: None,
            began,
        })
    }

    /// A token that nobody guesses.
    pub fn new_token() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    /// Listens on `address` for HTTP, too: there it tells of itself, at `/metrics`, `/health` and `/ready`.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn with_http(mut self, address: &str) -> Result<Self> {
        self.http = Some(bind(address, "127.0.0.1:9090", "--http", Safety::default()).await?);
        Ok(self)
    }

    /// Listens on an address for agents, too, which speak the Model Context Protocol over HTTP: by the certificate of the server, for those
    /// who may call it.
    ///
    /// # Errors
    /// As [`Server::listen`].
    pub async fn with_agents(mut self, listen: AgentsListen) -> Result<Self> {
        let listener = bind(&listen.address, "127.0.0.1:50052", "--mcp", self.safety).await?;
        let tls = self
            .certificate
            .clone()
            .map(|(certificate, key)| Tls::new(certificate, key, self.clients.clone(), &[b"h2", b"http/1.1"]).map(Arc::new));
        self.agents = Some(agents::Listening::new(listener, tls.transpose()?, listen)?);
        Ok(self)
    }

    /// The address that agents ask, such as `http://127.0.0.1:50052/mcp`, if there is one.
    pub fn agents_url(&self) -> Option<String> {
        self.agents.as_ref().map(agents::Listening::url)
    }

    /// The address that tells of the server.
    ///
    /// # Errors
    /// `Internal` when the system doesn't know it.
    pub fn http_address(&self) -> Result<Option<SocketAddr>> {
        self.http.as_ref().map(local_address).transpose()
    }

    /// The address that clients connect to, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The address as clients write it: `grpc://127.0.0.1:50051`; empty when the server only has a socket.
    pub fn uri(&self) -> String {
        let scheme = if self.tls.is_some() { "grpc+tls" } else { "grpc" };
        self.address.map(|address| format!("{scheme}://{address}")).unwrap_or_default()
    }

    /// Answers until `shutdown` completes: then running queries may finish within a grace period, and new ones are refused.
    ///
    /// # Errors
    /// `Unavailable` when the transport fails.
    pub async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        #[cfg(unix)]
        let (socket, _file) = self.socket.unzip();
        let incoming = incoming::accept(
            self.listener,
            self.tls,
            #[cfg(unix)]
            socket,
            &engine,
        );
        let tidied = engine.clone();
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let about = http::About { engine: engine.clone(), began: self.began, ready: Arc::new(AtomicBool::new(true)) };
        let ready = Arc::clone(&about.ready);
        let gate = Gate::new(self.callers);
        let (for_agents, no_agents) = agents::serve(self.agents, &engine, &gate);
        let shutdown = async move {
            shutdown.await;
            ready.store(false, Ordering::Relaxed);
            tracing::info!("stopping: what runs may finish");
            no_agents.cancel();
            // The receiver is only gone when the server is.
            let _ = stopping.send(());
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        for service in SERVICES {
            reporter.set_service_status(service, ServingStatus::Serving).await;
        }
        let shutdown = async move {
            shutdown.await;
            for service in SERVICES {
                reporter.set_service_status(service, ServingStatus::NotServing).await;
            }
        };
        let routes = Routes::new(health).add_service(lacus_flight::flight_service(engine, gate)?);
        let serving = serving::serve(incoming, routes, shutdown);
        let overdue = async move {
            // Without a shutdown there is no deadline for one.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        let telling = async move {
            match self.http {
                Some(listener) => http::serve(listener, about).await,
                None => std::future::pending().await,
            }
        };
        tracing::info!(address = self.address.map(|address| address.to_string()), "serving");
        let ended = tokio::select! {
            () = telling => Ok(()),
            () = for_agents => Ok(()),
            () = serving => Ok(()),
            () = overdue => Ok(()),
        };
        // Who stops a server doesn't wait for longer.
        let _ = tokio::time::timeout(GRACE, tidied.settle()).await;
        ended
    }
}

/// What makes it safe to listen beyond this machine.
#[derive(Debug, Clone, Copy, Default)]
struct Safety {
    tls: bool,
    users: bool,
    insecure: bool,
}

/// Listens on an address; `example` and `option` say how another is written and given.
async fn bind(address: &str, example: &str, option: &str, safety: Safety) -> Result<TcpListener> {
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(address).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Error::new(Kind::InvalidConfiguration, format!("`{address}` is no address to listen on: {error}"))
                .hint(format!("write {example}")));
        }
    };
    let open = resolved.iter().find(|address| !address.ip().is_loopback());
    if let Some(open) = open.filter(|_| !(safety.insecure || (safety.tls && safety.users))) {
        let error = Error::new(Kind::PermissionDenied, format!("refusing to listen on {open}: it can be reached from other machines"));
        return Err(match option {
            "--http" => error.hint("listen on 127.0.0.1; what it tells is for this machine"),
            _ => error.hint(
                "write `certificate` and `key` under [serve], and a [user.NAME], [issuer.NAME] or [certificates], in the lake file, or listen on \
                 127.0.0.1; \
                 `--insecure` gives up both",
            ),
        });
    }
    TcpListener::bind(resolved.as_slice()).await.map_err(|error| {
        Error::new(Kind::Unavailable, format!("can't listen on {address}: {error}")).hint(format!("choose another port with {option}"))
    })
}

/// Listens on a socket in the file system that only the user of this process can open.
#[cfg(unix)]
fn bind_socket(path: PathBuf) -> Result<(tokio::net::UnixListener, SocketFile)> {
    use std::os::unix::fs::PermissionsExt;
    let failed =
        |error: std::io::Error| Error::new(Kind::Unavailable, format!("can't listen on the socket: {error}")).with("file", path.display());
    // A socket that nobody answers by is what a server left behind that was killed.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(Error::new(Kind::Unavailable, "another server listens on the socket").with("file", path.display()));
        }
        let is_socket =
            std::fs::symlink_metadata(&path).is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
        if !is_socket {
            return Err(Error::new(Kind::AlreadyExists, "there is something else than a socket").with("file", path.display()));
        }
        std::fs::remove_file(&path).map_err(failed)?;
    }
    // It is made under another name, so that nobody opens it before it is closed to others.
    let hidden = path.with_extension(format!("{:08x}", rand::random::<u32>()));
    let listener = tokio::net::UnixListener::bind(&hidden).map_err(failed)?;
    let placed = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).and_then(|()| std::fs::rename(&hidden, &path));
    placed.map_err(|error| {
        let _ = std::fs::remove_file(&hidden);
        failed(error)
    })?;
    Ok((listener, SocketFile(path)))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::new(Kind::Internal, error.to_string()))
}

//! One process that serves a lake.
//!
//! * [`Server`] listens and answers over Flight SQL;
//! * `http` tells of it: `metrics`, health, readiness;
//! * [`follow`] begins to write `logs`, by `lines` that keep nobody waiting, and to send `traces` to a `collector` that speaks `otlp`.

mod collector;
mod follow;
mod http;
mod lines;
mod logs;
mod metrics;
mod otlp;
mod traces;

pub use collector::Traces;
pub use follow::{Following, follow};
pub use logs::{LogFilter, LogFormat};

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use lacus::{Engine, Error, Kind, Result};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

/// What a stream may have in flight before it is read.
const WINDOW: u32 = 8 << 20;
/// The services whose health can be asked for: all of the server, and the one of Flight.
const SERVICES: [&str; 2] = ["", "arrow.flight.protocol.FlightService"];
/// The longest list of headers: some drivers send what they don't know of a URL as headers.
const HEADERS: u32 = 64 << 10;
/// How many calls one connection may have open.
const STREAMS: u32 = 1024;
/// How long a shutdown waits for running queries.
const GRACE: Duration = Duration::from_secs(30);

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    http: Option<TcpListener>,
    began: SystemTime,
}

impl Server {
    /// Listens on `address`, such as `127.0.0.1:50051`; port 0 takes a free one.
    ///
    /// # Errors
    /// `PermissionDenied` for an address beyond loopback: there are no users yet, so whoever reaches the port reads the lake.
    /// `InvalidConfiguration` for what is no address, `Unavailable` when the port is taken.
    pub async fn bind(address: &str) -> Result<Self> {
        let began = SystemTime::now();
        let listener = listen(address, "127.0.0.1:50051", "--listen").await?;
        let address = local_address(&listener)?;
        Ok(Self { listener, address, http: None, began })
    }

    /// Listens on `address` for HTTP, too: there it tells of itself, at `/metrics`, `/health` and `/ready`.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn with_http(mut self, address: &str) -> Result<Self> {
        self.http = Some(listen(address, "127.0.0.1:9090", "--http").await?);
        Ok(self)
    }

    /// The address that tells of the server.
    ///
    /// # Errors
    /// `Internal` when the system doesn't know it.
    pub fn http_address(&self) -> Result<Option<SocketAddr>> {
        self.http.as_ref().map(local_address).transpose()
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` completes: then running queries may finish within a grace period, and new ones are refused.
    ///
    /// # Errors
    /// `Unavailable` when the transport fails.
    pub async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let about = http::About { engine: engine.clone(), began: self.began, ready: Arc::new(AtomicBool::new(true)) };
        let ready = Arc::clone(&about.ready);
        let shutdown = async move {
            shutdown.await;
            ready.store(false, Ordering::Relaxed);
            tracing::info!("stopping: what runs may finish");
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
        let serving = tonic::transport::Server::builder()
            .trace_fn(|request| traces::call(request.headers()))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .http2_max_header_list_size(HEADERS)
            .max_concurrent_streams(STREAMS)
            .add_service(health)
            .add_service(lacus_flight::flight_service(engine)?)
            .serve_with_incoming_shutdown(incoming, shutdown);
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
        tracing::info!(address = %self.address, "serving");
        tokio::select! {
            () = telling => Ok(()),
            served = serving => served.map_err(|error| Error::new(Kind::Unavailable, "the server stopped").because(error)),
            () = overdue => Ok(()),
        }
    }
}

/// Listens on an address of this machine; `example` and `option` say how another is written and given.
async fn listen(address: &str, example: &str, option: &str) -> Result<TcpListener> {
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(address).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Error::new(Kind::InvalidConfiguration, format!("`{address}` is no address to listen on: {error}"))
                .hint(format!("write {example}")));
        }
    };
    if let Some(open) = resolved.iter().find(|address| !address.ip().is_loopback()) {
        return Err(Error::new(Kind::PermissionDenied, format!("refusing to listen on {open}: it can be reached from other machines"))
            .hint("users and TLS are not built yet; listen on 127.0.0.1 and reach it through `ssh -L`"));
    }
    TcpListener::bind(resolved.as_slice()).await.map_err(|error| {
        Error::new(Kind::Unavailable, format!("can't listen on {address}: {error}")).hint(format!("choose another port with {option}"))
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::new(Kind::Internal, error.to_string()))
}

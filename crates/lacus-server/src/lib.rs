//! One process that serves a lake.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use lacus::{Engine, Error, Kind, Result};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// What a stream may have in flight before it is read.
const WINDOW: u32 = 8 << 20;
/// How long a shutdown waits for running queries.
const GRACE: Duration = Duration::from_secs(30);

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`, such as `127.0.0.1:50051`; port 0 takes a free one.
    ///
    /// # Errors
    /// `PermissionDenied` for an address beyond loopback: there are no users yet, so whoever reaches the port reads the lake.
    /// `InvalidConfiguration` for what is no address, `Unavailable` when the port is taken.
    pub async fn bind(address: &str) -> Result<Self> {
        let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(address).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                return Err(Error::new(Kind::InvalidConfiguration, format!("`{address}` is no address to listen on: {error}"))
                    .hint("write 127.0.0.1:50051"));
            }
        };
        if let Some(open) = resolved.iter().find(|address| !address.ip().is_loopback()) {
            return Err(Error::new(Kind::PermissionDenied, format!("refusing to listen on {open}: it can be reached from other machines"))
                .hint("users and TLS are not built yet; listen on 127.0.0.1 and reach it through `ssh -L`"));
        }
        let listener = TcpListener::bind(resolved.as_slice()).await.map_err(|error| {
            Error::new(Kind::Unavailable, format!("can't listen on {address}: {error}")).hint("choose another port with --listen")
        })?;
        let address = listener.local_addr().map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        Ok(Self { listener, address })
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
        let shutdown = async move {
            shutdown.await;
            // The receiver is only gone when the server is.
            let _ = stopping.send(());
        };
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .add_service(lacus_flight::flight_service(engine)?)
            .serve_with_incoming_shutdown(incoming, shutdown);
        let overdue = async move {
            // Without a shutdown there is no deadline for one.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served.map_err(|error| Error::new(Kind::Unavailable, "the server stopped").because(error)),
            () = overdue => Ok(()),
        }
    }
}

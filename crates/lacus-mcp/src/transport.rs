//! The ways by which the protocol is spoken.

use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use crate::Agents;

/// How long a request may be: statements, not data.
const LONGEST: usize = 1 << 20;

/// Who may ask from a browser, and by which names of the server. What a page on another site sends is refused.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// The names of the server, `host` or `host:port`, beside those of this machine.
    pub hosts: Vec<String>,
    /// The origins of pages that may ask, such as `https://chat.lab.example`.
    pub origins: Vec<String>,
}

/// What answers requests over HTTP, each of which has a [`Bearer`](lacus_core::Bearer) in its extensions: whoever takes it in finds out who asks.
pub type HttpService<S = Agents> = StreamableHttpService<S, NeverSessionManager>;

/// A service for Streamable HTTP without sessions: each request stands for itself, and closing its answer cancels it. `handler` is
/// [`Agents`], or what wraps them.
pub fn over_http<S: rmcp::ServerHandler + Clone + Send + 'static>(
    handler: S,
    allowed: &Origins,
    stopping: CancellationToken,
) -> HttpService<S> {
    let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(allowed.hosts.iter().cloned());
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts)
        .with_allowed_origins(allowed.origins.iter().cloned())
        .enforce_origin_validation()
        .with_max_request_body_bytes(LONGEST)
        .with_cancellation_token(stopping);
    StreamableHttpService::new(move || Ok(handler.clone()), Arc::new(NeverSessionManager::default()), config)
}

/// Speaks by standard input and output, until the client goes away. Nothing else may write to standard output.
///
/// # Errors
/// `Unavailable` when the client can't be understood.
pub async fn over_stdio(agents: Agents) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Unavailable, format!("the client of the protocol went away: {error}"));
    let running = match agents.serve(rmcp::transport::io::stdio()).await {
        Ok(running) => running,
        // Nobody wanted anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    running.waiting().await.map_err(|error| failed(&error))?;
    Ok(())
}

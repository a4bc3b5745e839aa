use std::path::Path;

use lacus::Result;
use lacus_server::Server;

use crate::arguments::ServeArguments;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &ServeArguments) -> Result<()> {
    let config = super::config(lake)?;
    let server = Server::bind(arguments.listen.as_deref().unwrap_or(&config.listen)).await?;
    terminal::print(&format!("lacus: serving lake `{}` at grpc://{}", config.lake, server.address()))?;
    server.serve(config.engine()?, stopped()).await
}

/// Completes when the process is asked to stop.
async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    // Without signals the process can only be killed.
    let _ = interrupted.await;
}

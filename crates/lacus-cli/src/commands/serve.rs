use std::path::Path;

use lacus::Result;
use lacus_server::{Following, LogFormat, Server, follow};

use crate::arguments::{LogForm, ServeArguments};
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &ServeArguments) -> Result<()> {
    let config = super::config(lake)?;
    let _following = followed(arguments)?;
    let mut server = Server::bind(arguments.listen.as_deref().unwrap_or(&config.listen)).await?;
    if let Some(http) = arguments.http.as_deref().or(config.http.as_deref()) {
        server = server.with_http(http).await?;
    }
    if let Some(http) = server.http_address()? {
        terminal::print(&format!("lacus: telling of itself at http://{http}"))?;
    }
    terminal::print(&format!("lacus: serving lake `{}` at grpc://{}", config.lake, server.address()))?;
    server.serve(config.engine()?, stopped()).await
}

/// Begins to log as the arguments and the environment say.
fn followed(arguments: &ServeArguments) -> Result<Following> {
    let of_environment = || std::env::var("LACUS_LOG").ok();
    let filter = arguments.log.clone().or_else(of_environment).unwrap_or_else(|| "info".to_owned());
    let format = match arguments.log_format {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    };
    follow(format, filter.parse()?)
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

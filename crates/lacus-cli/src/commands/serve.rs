use std::path::Path;

use lacus::{Config, Result, Secret};
use lacus_server::{Following, LogFormat, Server, Traces, follow};

use crate::arguments::{LogForm, ServeArguments};
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &ServeArguments) -> Result<()> {
    let config = super::config(lake)?;
    let _following = followed(arguments, &config)?;
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

/// Begins to write logs and to send traces, as the arguments, the lake file and the environment say.
fn followed(arguments: &ServeArguments, config: &Config) -> Result<Following> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let filter = arguments.log.clone().or_else(|| of_environment("LACUS_LOG")).unwrap_or_else(|| "info".to_owned());
    let format = match arguments.log_format {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    };
    let collector = config.otlp.clone().or_else(|| of_environment("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let headers = of_environment("OTEL_EXPORTER_OTLP_HEADERS").map(Secret::new);
    let service = of_environment("OTEL_SERVICE_NAME").unwrap_or_else(|| "lacus".to_owned());
    let traces = collector.map(|collector| Traces { collector, service, headers });
    follow(format, filter.parse()?, traces.as_ref())
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

use std::path::Path;
use std::sync::Arc;

use lacus::{Config, Result, Secret, Tokens};
use lacus_identity::{Issuers, KeyFile};
use lacus_server::{AgentsListen, Callers, Following, Listen, LogFormat, Server, Traces, User, follow};

use crate::arguments::{LogForm, ServeArguments};
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &ServeArguments) -> Result<()> {
    let config = super::config(lake)?;
    let _following = followed(arguments, &config)?;
    let socket = arguments.socket.clone().or_else(|| config.socket.clone());
    let token = arguments.token.then(|| Secret::new(Server::new_token()));
    // Who asks for a socket alone wants no address.
    let wants_address = arguments.socket.is_none() || arguments.listen.is_some();
    let mut tokens: Vec<Arc<dyn Tokens>> = Vec::new();
    if let Some(keys) = &config.keys {
        tokens.push(Arc::new(KeyFile::open(keys)?));
    }
    if !config.issuers.is_empty() {
        let issuers = Arc::new(Issuers::new(config.issuers.clone())?);
        tokens.push(Arc::clone(&issuers) as Arc<dyn Tokens>);
        tokio::spawn(async move { issuers.warm().await });
    }
    let listen = Listen {
        address: wants_address.then(|| arguments.listen.clone().unwrap_or_else(|| config.listen.clone())),
        socket: socket.clone(),
        certificate: config.certificate.clone(),
        clients: config.certificates.clone(),
        callers: Callers {
            users: config.users.iter().map(|(name, password)| User { name: name.clone(), password: password.clone() }).collect(),
            token: token.clone(),
            anonymous: config.anonymous,
            tokens,
            ..Callers::default()
        },
        insecure: arguments.insecure,
    };
    // What can't be served is told before anybody is told where.
    let engine = config.engine()?;
    let mut server = Server::listen(listen).await?;
    if let Some(http) = arguments.http.as_deref().or(config.http.as_deref()) {
        server = server.with_http(http).await?;
    }
    if let Some(address) = arguments.mcp.as_ref().or(config.agents.listen.as_ref()) {
        let listen = AgentsListen {
            address: address.clone(),
            url: config.agents.url.clone(),
            origins: config.agents.origins.clone(),
            scopes: config.agents.scopes.clone(),
            issuers: config.issuers.iter().map(|issuer| issuer.url.clone()).collect(),
            limits: config.agents.limits.clone(),
        };
        server = server.with_agents(listen).await?;
    }
    if let Some(url) = server.agents_url() {
        terminal::print(&format!("lacus: agents ask at {url}"))?;
    }
    if let Some(http) = server.http_address()? {
        terminal::print(&format!("lacus: telling of itself at http://{http}"))?;
    }
    let places = server.address().map(|_| server.uri()).into_iter();
    let places = places.chain(socket.map(|socket| format!("grpc+unix://{}", socket.display()))).collect::<Vec<_>>().join(" and ");
    if let Some(token) = &token {
        terminal::print(&format!("lacus: callers bring the token {}", token.reveal()))?;
    }
    if arguments.insecure {
        terminal::say("lacus: --insecure: what travels can be read and changed on its way, and whoever reaches the address reads the lake");
    }
    terminal::print(&format!("lacus: serving lake `{}` at {places}", config.lake))?;
    server.serve(engine, stopped()).await
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

//! The connections by which Flight is asked: HTTP/2, as gRPC has it.

use std::future::Future;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use hyper::body::Incoming as Asked;
use hyper::header::{DATE, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::Instrument;

use crate::incoming::Doors;
use crate::traces;

/// What a stream may have in flight before it is read.
const WINDOW: u32 = 8 << 20;
/// The longest list of headers: some drivers send what they don't know of a URL as headers.
const HEADERS: u32 = 64 << 10;
/// How many calls one connection may have open.
const STREAMS: u32 = 1024;
/// How long a client may say nothing before it is asked for a sign, and how long it may take for one.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers on all connections that come, until `shutdown`; then what was asked is answered, and nothing else.
pub(crate) async fn serve(mut doors: Doors, routes: Routes, shutdown: impl Future<Output = ()>) {
    let routes = routes.prepare();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(PATIENCE)
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS)
        // A table of the headers of a client saves a few hundred bytes a call, and keeps kilobytes for every connection.
        .header_table_size(0)
        .auto_date_header(false);
    let (stop, stopped) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let incoming = tokio::select! {
            incoming = doors.next() => incoming,
            () = &mut shutdown => break,
        };
        let Some(incoming) = incoming else { break };
        let (routes, connection) = (routes.clone(), incoming.connection());
        let answers = service_fn(move |mut request: Request<Asked>| {
            let (mut routes, span) = (routes.clone(), traces::call(request.headers()));
            request.extensions_mut().insert(connection.clone());
            async move { routes.call(request.map(Body::new)).await.map(dated) }.instrument(span)
        });
        let serving = builder.serve_connection(TokioIo::new(incoming), answers);
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let mut serving = std::pin::pin!(serving);
            let served = tokio::select! {
                served = &mut serving => served,
                _ = stopped.changed() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            // Whoever goes away in the middle of a question needs no answer.
            if let Err(error) = served {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    // Each connection holds what it is told by, for as long as it is there.
    drop((doors, stopped));
    let _ = stop.send(());
    stop.closed().await;
}

/// Dates an answer by a value that HPACK doesn't index: a new date each second would fill the table of every connection, of which the slots
/// alone are 10 kB.
fn dated(mut answer: Response<Body>) -> Response<Body> {
    if let Ok(mut date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        date.set_sensitive(true);
        answer.headers_mut().insert(DATE, date);
    }
    answer
}

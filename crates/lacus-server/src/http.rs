//! What a server says of itself over HTTP: `/metrics`, `/health` and `/ready`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lacus::Engine;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::{self, Metrics};

/// How many connections are held at once: scrapers and probes are few.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a listener that failed rests: it may lack file handles.
const REST: Duration = Duration::from_millis(100);

/// What is told of a server.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) engine: Engine,
    pub(crate) began: SystemTime,
    /// Whether queries are taken.
    pub(crate) ready: Arc<AtomicBool>,
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, about: About) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let about = about.clone();
        tokio::spawn(async move {
            let answers = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(about.answer(&request))));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(connection), answers);
            // Whoever goes away in the middle of a question needs no answer.
            let _ = connection.await;
            drop(place);
        });
    }
}

impl About {
    fn answer<T>(&self, request: &Request<T>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/metrics" => {
                let mut answer = text(StatusCode::OK, Metrics::of(&self.engine, self.began).to_string());
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                answer
            }
            "/health" => text(StatusCode::OK, "alive\n"),
            "/ready" if self.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n"),
            "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
            _ => text(StatusCode::NOT_FOUND, "there is /metrics, /health and /ready\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

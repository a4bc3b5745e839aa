//! How clients reach the server: TCP, TLS over it, or a socket in the file system.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lacus::{Error, FileStamp, Kind, Result};
use lacus_flight::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tonic::transport::server::Connected;

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files of a certificate are looked at.
const LOOKS: Duration = Duration::from_secs(1);
/// How long the server waits when the system gives it no connection, as when it has too many files open.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections may wait to be served.
const WAITING: usize = 64;

/// The files of a certificate. They are read again when they change.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    config: Arc<ServerConfig>,
    of: [Option<FileStamp>; 2],
    looked: Instant,
}

fn unusable(path: &Path, what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("{what} can't be used: {error}")).with("file", path.display())
}

fn stamps(certificate: &Path, key: &Path) -> [Option<FileStamp>; 2] {
    [certificate, key].map(FileStamp::of)
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unusable(certificate, "the certificate", error))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "the certificate", "there is none in the file").hint("write PEM: -----BEGIN CERTIFICATE-----"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "the key of the certificate", error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(certificate, "TLS", error))?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, private).map_err(|error| unusable(certificate, "the certificate", error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

impl Tls {
    /// The certificate chain and its key, each a PEM file.
    pub(crate) fn new(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let (of, looked) = (stamps(&certificate, &key), Instant::now());
        let known = Known { config: load(&certificate, &key)?, of, looked };
        Ok(Self { certificate, key, known: Mutex::new(known) })
    }

    /// What new connections agree on. Files that can't be used change nothing, and are worth a warning.
    fn config(&self) -> Arc<ServerConfig> {
        // A poisoned lock only means that another thread panicked; the value is valid at every instant.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOKS {
            known.looked = Instant::now();
            let of = stamps(&self.certificate, &self.key);
            if of != known.of {
                known.of = of;
                match load(&self.certificate, &self.key) {
                    Ok(config) => {
                        tracing::info!(file = %self.certificate.display(), "the certificate was read again");
                        known.config = config;
                    }
                    Err(error) => tracing::warn!(%error, "the certificate was changed, and can't be used: the one before stays"),
                }
            }
        }
        Arc::clone(&known.config)
    }
}

/// One connection.
pub(crate) struct Incoming {
    socket: Socket,
    connection: Connection,
}

enum Socket {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Incoming {
    fn new(socket: Socket) -> Self {
        #[cfg(unix)]
        let connection = if matches!(socket, Socket::Unix(_)) { Connection::of_owner() } else { Connection::default() };
        #[cfg(not(unix))]
        let connection = Connection::default();
        Self { socket, connection }
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut (dyn Both + Unpin)> {
        match &mut self.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket),
            Socket::Tls(socket) => Pin::new(socket.as_mut()),
            #[cfg(unix)]
            Socket::Unix(socket) => Pin::new(socket),
        }
    }
}

trait Both: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Both for T {}

impl Connected for Incoming {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read(context, buffer)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket().poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(context)
    }
}

/// The connections of all listeners, until what this gives is dropped.
pub(crate) struct Doors(mpsc::Receiver<io::Result<Incoming>>);

impl futures::Stream for Doors {
    type Item = io::Result<Incoming>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// Accepts connections on `tcp`, by TLS if there is a certificate, and on `unix`.
pub(crate) fn accept(tcp: Option<TcpListener>, tls: Option<Arc<Tls>>, #[cfg(unix)] unix: Option<UnixListener>) -> Doors {
    let (sender, receiver) = mpsc::channel(WAITING);
    if let Some(listener) = tcp {
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(socket) = accepted(|| listener.accept(), &sender).await {
                // A socket that can't be told is slower, not wrong.
                let _ = socket.set_nodelay(true);
                let (sender, tls) = (sender.clone(), tls.clone());
                // Each agrees on its own: one that is slow keeps no other waiting.
                tokio::spawn(async move {
                    if let Some(socket) = agreed(socket, tls.as_deref()).await {
                        let _ = sender.send(Ok(Incoming::new(socket))).await;
                    }
                });
            }
        });
    }
    #[cfg(unix)]
    if let Some(listener) = unix {
        tokio::spawn(async move {
            while let Some(socket) = accepted(|| listener.accept(), &sender).await {
                let _ = sender.send(Ok(Incoming::new(Socket::Unix(socket)))).await;
            }
        });
    }
    Doors(receiver)
}

/// The next connection of a listener; `None` once nobody takes connections any more.
async fn accepted<S, A, F>(accept: impl Fn() -> F, taker: &mpsc::Sender<io::Result<Incoming>>) -> Option<S>
where
    F: Future<Output = io::Result<(S, A)>>,
{
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = taker.closed() => return None,
        };
        match accepted {
            Ok((socket, _)) => return Some(socket),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The socket, once client and server agree on TLS if there is any.
async fn agreed(socket: TcpStream, tls: Option<&Tls>) -> Option<Socket> {
    let Some(tls) = tls else { return Some(Socket::Tcp(socket)) };
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls.config()).accept(socket)).await {
        Ok(Ok(socket)) => Some(Socket::Tls(Box::new(socket))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client did not agree on TLS");
            None
        }
        Err(_) => None,
    }
}

//! How clients reach the server: TCP, TLS over it, or a socket in the file system.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lacus::{Bearer, CertificateSpec, Engine, Error, FileStamp, Kind, Result};
use lacus_flight::{Certified, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files of a certificate are looked at.
const LOOKS: Duration = Duration::from_secs(1);
/// How long a certificate that was found good is taken for good: lists and authorities end.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// How long the server waits when the system gives it no connection, as when it has too many files open.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections may wait to be served.
const WAITING: usize = 64;

/// What the server shows of itself, and whom it believes; the files are read again when they change.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Whose certificates prove who calls.
    clients: Option<CertificateSpec>,
    /// The protocols that are spoken behind it.
    protocols: &'static [&'static [u8]],
}

#[derive(Debug)]
struct Known {
    agreed: Agreed,
    of: Vec<Option<FileStamp>>,
    looked: Instant,
    /// What was wrong with the files when they were read last.
    wrong: Option<String>,
}

/// What new connections agree on.
#[derive(Debug, Clone)]
struct Agreed {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

fn unusable(path: &Path, what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("{what} can't be used: {error}")).with("file", path.display())
}

/// What a PEM file holds of one kind; at least one.
fn read<T: PemObject>(path: &Path, what: &str, header: &str) -> Result<Vec<T>> {
    let found = T::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = found.map_err(|error| unusable(path, what, error))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(unusable(path, what, "there is none in the file").hint(format!("write PEM: -----BEGIN {header}-----"))),
    }
}

/// What believes the certificates of clients.
fn verifier(clients: &CertificateSpec, provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>> {
    const WHAT: &str = "the authorities of the clients";
    let mut roots = RootCertStore::empty();
    for authority in read::<CertificateDer<'_>>(&clients.ca, WHAT, "CERTIFICATE")? {
        roots.add(authority).map_err(|error| unusable(&clients.ca, WHAT, error))?;
    }
    // Who shows none may still bring a token.
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider)).allow_unauthenticated();
    if let Some(crl) = &clients.crl {
        let lists = read::<CertificateRevocationListDer<'_>>(crl, "the list of certificates that were withdrawn", "X509 CRL")?;
        // A list that is out of date would let in who was withdrawn since.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().map_err(|error| unusable(clients.crl.as_ref().unwrap_or(&clients.ca), WHAT, error))
}

impl Files {
    fn stamps(&self) -> Vec<Option<FileStamp>> {
        let clients = self.clients.iter().flat_map(|clients| [Some(&clients.ca), clients.crl.as_ref()]);
        [Some(&self.certificate), Some(&self.key)].into_iter().chain(clients).flatten().map(|file| FileStamp::of(file)).collect()
    }

    fn load(&self) -> Result<Agreed> {
        const WHAT: &str = "the certificate";
        let Self { certificate, key, clients, protocols } = self;
        let chain = read::<CertificateDer<'_>>(certificate, WHAT, "CERTIFICATE")?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "the key of the certificate", error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = clients.as_ref().map(|clients| verifier(clients, &provider)).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(certificate, "TLS", error))?;
        let builder = match &clients {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|error| unusable(certificate, WHAT, error))?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        if clients.is_some() {
            // Who comes back by a ticket would show the certificate of before, and nobody would look at it.
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Agreed { config: Arc::new(config), clients })
    }
}

impl Tls {
    /// The certificate chain and its key, each a PEM file, and whose certificates prove who calls.
    pub(crate) fn new(
        certificate: PathBuf,
        key: PathBuf,
        clients: Option<CertificateSpec>,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self> {
        let files = Files { certificate, key, clients, protocols };
        let (of, looked) = (files.stamps(), Instant::now());
        let known = Known { agreed: files.load()?, of, looked, wrong: None };
        Ok(Self { files, known: Mutex::new(known) })
    }

    /// What new connections agree on. Files that can't be used change nothing, and are worth a warning.
    fn agreed(&self) -> Agreed {
        let mut known = held(&self.known);
        if known.looked.elapsed() >= LOOKS {
            known.looked = Instant::now();
            let of = self.files.stamps();
            if of != known.of {
                match self.files.load() {
                    Ok(agreed) => {
                        tracing::info!(file = %self.files.certificate.display(), "the certificates were read again");
                        (known.agreed, known.of, known.wrong) = (agreed, of, None);
                    }
                    // It may be no fault of the files, which are read again at the next look.
                    Err(error) => {
                        let wrong = error.to_string();
                        if known.wrong.as_ref() != Some(&wrong) {
                            tracing::warn!(%error, "the certificates were changed, and can't be used: those before stay");
                            known.wrong = Some(wrong);
                        }
                    }
                }
            }
        }
        known.agreed.clone()
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The certificate that a client showed, and proved to be its own.
#[derive(Debug)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    bearer: Result<Bearer>,
    tls: Arc<Tls>,
    /// Who found it good last, and when.
    found: Mutex<(Arc<dyn ClientCertVerifier>, Instant)>,
}

impl Certified for Shown {
    /// Whom it stands for, by the files as they are now: who was withdrawn calls no more, be its connection as old as it may.
    fn bearer(&self) -> Result<Bearer> {
        if let Some(verifier) = self.tls.agreed().clients {
            let mut found = held(&self.found);
            let is_known = Arc::ptr_eq(&found.0, &verifier) && found.1.elapsed() < BELIEVED_FOR;
            if !is_known && let [own, between @ ..] = self.chain.as_slice() {
                verifier.verify_client_cert(own, between, UnixTime::now()).map_err(|error| {
                    let of = self.bearer.as_ref().map(|bearer| format!(" of `{}`", bearer.principal.name())).unwrap_or_default();
                    Error::new(Kind::Unauthenticated, format!("the certificate{of} is no longer believed: {error}"))
                        .hint("ask whoever gives out the certificates, or bring a token")
                })?;
                *found = (verifier, Instant::now());
            }
        }
        self.bearer.clone()
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
    /// What comes by the socket in the file system is the owner's.
    #[cfg(unix)]
    fn local(socket: UnixStream) -> Self {
        Self { socket: Socket::Unix(socket), connection: Connection::of_owner() }
    }

    /// What is known of the connection beside its bytes.
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
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
pub(crate) struct Doors(mpsc::Receiver<Incoming>);

impl futures::Stream for Doors {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// Accepts connections on `tcp`, by TLS if there is a certificate, and on `unix`. `engine` records whose certificates are not believed.
pub(crate) fn accept(tcp: Option<TcpListener>, tls: Option<Arc<Tls>>, #[cfg(unix)] unix: Option<UnixListener>, engine: &Engine) -> Doors {
    let (sender, receiver) = mpsc::channel(WAITING);
    if let Some(listener) = tcp {
        let (sender, engine) = (sender.clone(), engine.clone());
        tokio::spawn(async move {
            while let Some(socket) = accepted(|| listener.accept(), &sender).await {
                // A socket that can't be told is slower, not wrong.
                let _ = socket.set_nodelay(true);
                let (sender, tls, engine) = (sender.clone(), tls.clone(), engine.clone());
                // Each agrees on its own: one that is slow keeps no other waiting.
                tokio::spawn(async move {
                    if let Some(incoming) = agreed(socket, tls, &engine).await {
                        let _ = sender.send(incoming).await;
                    }
                });
            }
        });
    }
    #[cfg(unix)]
    if let Some(listener) = unix {
        tokio::spawn(async move {
            while let Some(socket) = accepted(|| listener.accept(), &sender).await {
                let _ = sender.send(Incoming::local(socket)).await;
            }
        });
    }
    Doors(receiver)
}

/// The next connection of a listener; `None` once nobody takes connections any more.
async fn accepted<S, A, F>(accept: impl Fn() -> F, taker: &mpsc::Sender<Incoming>) -> Option<S>
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

/// The connection, once client and server agree on TLS if there is any.
async fn agreed(socket: TcpStream, tls: Option<Arc<Tls>>, engine: &Engine) -> Option<Incoming> {
    let Some(tls) = tls else { return Some(Incoming { socket: Socket::Tcp(socket), connection: Connection::default() }) };
    let Agreed { config, clients } = tls.agreed();
    let socket = match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client did not agree on TLS");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if clients.is_some()
                && matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidCertRevocationList(_)))
            {
                let refused = Error::new(Kind::Unauthenticated, format!("the certificate of a client is not believed: {error}"));
                engine.record_refused("", "flight", &refused);
            }
            return None;
        }
        Err(_) => return None,
    };
    let (_, agreed) = socket.get_ref();
    let chain: Vec<_> = agreed.peer_certificates().unwrap_or_default().iter().map(|part| part.clone().into_owned()).collect();
    let connection = match (clients, &tls.files.clients, chain.first()) {
        (Some(by), Some(spec), Some(own)) => {
            let bearer = spec.bearer(own);
            Connection::of_certified(Arc::new(Shown { bearer, chain, tls: Arc::clone(&tls), found: Mutex::new((by, Instant::now())) }))
        }
        _ => Connection::default(),
    };
    Some(Incoming { socket: Socket::Tls(Box::new(socket)), connection })
}

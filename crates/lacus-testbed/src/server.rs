use std::io::SeekFrom;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::http::response::Parts;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload};
use percent_encoding::percent_decode_str;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use crate::{Fault, Faults};

/// The access key that a test server accepts.
pub const ACCESS_KEY: &str = "LACUSTESTKEY";
/// Its secret.
pub const SECRET_KEY: &str = "lacus-test-secret";

/// Whatever keeps a test server from its work.
pub type TestbedError = Box<dyn std::error::Error + Send + Sync>;

/// How much of an object is read and sent at once.
const PIECE: usize = 256 * 1024;
const TRICKLE: usize = 4 * 1024;

type Pieces = BoxStream<'static, Result<Bytes, TestbedError>>;
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, TestbedError>;

/// A real S3 server on a loopback port, with faults on request. Dropping it stops it.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    faults: Arc<Faults>,
    root: PathBuf,
    _folder: Option<TempDir>,
    accepting: JoinHandle<()>,
}

impl S3Server {
    /// Starts a server with an empty folder of its own, on a free port.
    ///
    /// # Errors
    /// When the folder or the port can't be had.
    pub async fn start() -> Result<Self, TestbedError> {
        let folder = tempfile::tempdir()?;
        let mut server = Self::start_at("127.0.0.1:0", folder.path()).await?;
        server._folder = Some(folder);
        Ok(server)
    }

    /// Starts a server that keeps its objects in `root`.
    ///
    /// # Errors
    /// When the folder or the port can't be had.
    pub async fn start_at(listen: &str, root: &Path) -> Result<Self, TestbedError> {
        let files = FileSystem::new(root).map_err(|error| format!("{error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let faults = Arc::new(Faults::default());
        let writes = Arc::default();
        let service = FaultyService { inner: builder.build(), faults: Arc::clone(&faults), root: Arc::from(root), writes };
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, service));
        Ok(Self { address, faults, root: root.to_owned(), _folder: None, accepting })
    }

    /// The endpoint, for the `endpoint` of a store.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults in front of this server.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When its folder can't be made.
    pub fn make_bucket(&self, bucket: &str) -> Result<(), TestbedError> {
        Ok(std::fs::create_dir_all(self.root.join(bucket))?)
    }

    /// Puts an object through S3, as a client would: what is copied into the folder has no entity tag and is slow to read.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> Result<(), TestbedError> {
        self.make_bucket(bucket)?;
        self.client(bucket)?.put(&ObjectPath::from(key), PutPayload::from_bytes(bytes.into())).await?;
        Ok(())
    }

    /// Puts every file below `folder` under `prefix`.
    ///
    /// # Errors
    /// When a file can't be read, or what the server says.
    pub async fn put_folder(&self, bucket: &str, prefix: &str, folder: &Path) -> Result<(), TestbedError> {
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let below = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                self.put(bucket, &format!("{prefix}{below}"), std::fs::read(&path)?).await?;
            }
        }
        Ok(())
    }

    fn client(&self, bucket: &str) -> Result<AmazonS3, TestbedError> {
        let builder = AmazonS3Builder::new().with_bucket_name(bucket).with_endpoint(self.endpoint()).with_allow_http(true);
        let builder = builder.with_region("us-east-1").with_access_key_id(ACCESS_KEY).with_secret_access_key(SECRET_KEY);
        Ok(builder.build()?)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: FaultyService) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(socket, service.clone()));
    }
}

async fn serve(socket: TcpStream, service: FaultyService) {
    // A connection that ends in an error is what a fault looks like from here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

#[derive(Clone)]
struct FaultyService {
    inner: S3Service,
    faults: Arc<Faults>,
    root: Arc<Path>,
    /// `s3s-fs` looks whether an object is there before it writes one that must be new; servers of S3 do both in one step.
    writes: Arc<tokio::sync::Mutex<()>>,
}

impl Service<Request<Incoming>> for FaultyService {
    type Response = Response<Body>;
    type Error = TestbedError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            this.faults.count_request();
            let delay = this.faults.delay();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let reading = request.method() == Method::GET;
            let fault = if reading { this.faults.meet(&request.uri().to_string()) } else { None };
            match fault {
                Some(Fault::Reset) => return Err("reset on request".into()),
                Some(Fault::Status(status)) => return Ok(Response::builder().status(StatusCode::from_u16(status)?).body(empty())?),
                Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
                _ => {}
            }
            let conditions = [IF_MATCH, IF_NONE_MATCH].map(|name| request.headers().get(name).filter(|_| reading).cloned());
            let object = reading.then(|| this.object(request.uri())).flatten();
            let is_new = request.method() == Method::PUT && request.headers().contains_key(IF_NONE_MATCH);
            let _alone = if is_new { Some(this.writes.lock().await) } else { None };
            let response = Service::call(&this.inner, request).await.map_err(|error| TestbedError::from(format!("{error:?}")))?;
            Ok(match refused(&response, &conditions) {
                Some(status) => Response::builder().status(status).body(empty())?,
                None => {
                    let (parts, body) = response.into_parts();
                    // A network that trickles sends little at once.
                    let at_once = if matches!(fault, Some(Fault::Trickle(_))) { TRICKLE } else { PIECE };
                    let pieces = pieces(object, at_once, &parts, body).await?;
                    this.disturb(parts, pieces, fault)
                }
            })
        })
    }
}

impl FaultyService {
    /// The file of the object that a request names.
    fn object(&self, uri: &Uri) -> Option<PathBuf> {
        let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
        let path = self.root.join(path.trim_start_matches('/'));
        (uri.query().is_none() && path.is_file()).then_some(path)
    }

    fn disturb(&self, mut parts: Parts, pieces: Pieces, fault: Option<Fault>) -> Response<Body> {
        if matches!(fault, Some(Fault::ChangedTag)) {
            parts.headers.insert(ETAG, HeaderValue::from_static("\"another-version\""));
        }
        let faults = Arc::clone(&self.faults);
        let mut left = match fault {
            Some(Fault::Truncated(bytes)) => Some(bytes),
            _ => None,
        };
        let pause = match fault {
            Some(Fault::Trickle(pause)) => pause,
            _ => std::time::Duration::ZERO,
        };
        let frames = pieces.map(move |data| {
            let data = data?;
            let data = match &mut left {
                None => data,
                Some(0) => return Err("truncated on request".into()),
                Some(left) => {
                    let kept = data.slice(..data.len().min(*left));
                    *left = if kept.len() < data.len() { 0 } else { *left - kept.len() };
                    kept
                }
            };
            faults.count_sent(data.len());
            Ok(Frame::data(data))
        });
        let paced = frames.then(move |frame| async move {
            // Even a sleep of no length lasts until the clock's next tick, which for each frame of 4 KiB would make a slow network.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            frame
        });
        Response::from_parts(parts, StreamBody::new(paced).boxed_unsync())
    }
}

/// The bytes of an answer. Those of an object are read here: `s3s-fs` reads 4 KiB at once, each by another thread, which would take more of
/// this machine than what is measured on it.
async fn pieces(object: Option<PathBuf>, at_once: usize, parts: &Parts, body: s3s::Body) -> Result<Pieces, TestbedError> {
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let first = match header(CONTENT_RANGE) {
        Some(range) => range.strip_prefix("bytes ").and_then(|range| range.split_once('-')).and_then(|(first, _)| first.parse().ok()),
        None => Some(0),
    };
    if let (Some(object), Some(length), Some(first), true) = (object, length, first, parts.status.is_success()) {
        let mut file = tokio::fs::File::open(object).await?;
        file.seek(SeekFrom::Start(first)).await?;
        return Ok(ReaderStream::with_capacity(file.take(length), at_once).map_err(TestbedError::from).boxed());
    }
    let frames = BodyStream::new(body).map(|frame| match frame {
        Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
        Err(error) => Err(TestbedError::from(error.to_string())),
    });
    Ok(frames.boxed())
}

/// The status by which S3 answers a read whose condition does not hold; `s3s-fs` knows conditions of writes alone.
fn refused(response: &Response<s3s::Body>, [same, other]: &[Option<HeaderValue>; 2]) -> Option<StatusCode> {
    let tag = response.headers().get(ETAG).filter(|_| response.status().is_success())?;
    match (same, other) {
        (Some(same), _) if same != tag => Some(StatusCode::PRECONDITION_FAILED),
        (_, Some(other)) if other == tag => Some(StatusCode::NOT_MODIFIED),
        _ => None,
    }
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

//! A web server as an object store: files by GET, folders by WebDAV or by the pages that servers make of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Limited};
use lacus_core::{Error, Kind, Secret};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::http::{HttpBuilder, HttpStore};
use object_store::path::Path;
use object_store::{
    ClientOptions, CopyOptions, GetOptions, GetResult, HeaderValue, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use crate::{Listing, StoreSpec, WebCredentials, WebSpec, network, page};

/// How many files are asked for their size at once: as many as a polite browser opens connections.
const CONCURRENT_HEADS: usize = 8;
/// A page of more bytes lists no folder that anyone would wait for.
const LONGEST_PAGE: usize = 32 * 1024 * 1024;
/// How often a page is asked for again, and how long between.
const PAGE_RETRIES: u32 = 3;
const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// Folders deeper than this are links that lead back to themselves.
const MOST_LEVELS: usize = 32;

pub(crate) fn open(store: &StoreSpec, spec: &WebSpec) -> lacus_core::Result<Arc<dyn ObjectStore>> {
    let wrong = |why: String| Error::new(Kind::InvalidConfiguration, format!("the web store can't be used: {why}")).with("url", &spec.url);
    let url = Url::parse(&spec.url).map_err(|error| wrong(error.to_string()))?;
    let options = network::options(store, network::is_plain(&spec.url))?;
    let asking = Asking { credentials: spec.credentials.clone() };
    let client = asking.connect(&options).map_err(|error| wrong(error.to_string()))?;
    let builder =
        HttpBuilder::new().with_url(&spec.url).with_client_options(options).with_retry(network::retry(store)).with_http_connector(asking);
    let http = builder.build().map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(WebStore { http: Arc::new(http), client, url, listing: spec.listing, found: Arc::default() }))
}

/// Makes clients that say who asks.
#[derive(Debug)]
struct Asking {
    credentials: WebCredentials,
}

impl HttpConnector for Asking {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(match &self.credentials {
            WebCredentials::Anonymous => client,
            credentials => HttpClient::new(Authorized { client, credentials: credentials.clone() }),
        })
    }
}

#[derive(Debug)]
struct Authorized {
    client: HttpClient,
    credentials: WebCredentials,
}

#[async_trait]
impl HttpService for Authorized {
    async fn call(&self, mut request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        if let Some(header) = header(&self.credentials).map_err(|error| HttpError::new(HttpErrorKind::Request, error))? {
            request.headers_mut().insert("authorization", header);
        }
        self.client.execute(request).await
    }
}

/// What a request carries. A token in a file is read by each request, because tokens are renewed there.
fn header(credentials: &WebCredentials) -> lacus_core::Result<Option<HeaderValue>> {
    let text = match credentials {
        WebCredentials::Anonymous => return Ok(None),
        WebCredentials::Basic { user, password } => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()))),
        WebCredentials::Bearer(token) => format!("Bearer {}", token.reveal()),
        WebCredentials::BearerFile(file) => format!("Bearer {}", token(file)?.reveal()),
    };
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| Error::new(Kind::InvalidConfiguration, "the credentials hold what a request can't carry"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn token(file: &PathBuf) -> lacus_core::Result<Secret> {
    let read = std::fs::read_to_string(file);
    let text =
        read.map_err(|error| Error::new(Kind::PermissionDenied, format!("the token can't be read: {error}")).with("file", file.display()))?;
    Ok(Secret::new(text.trim()))
}

/// The files and folders of a web server.
#[derive(Debug, Clone)]
struct WebStore {
    http: Arc<HttpStore>,
    client: HttpClient,
    url: Url,
    listing: Listing,
    /// How folders are listed, once that is known.
    found: Arc<OnceLock<Listing>>,
}

impl WebStore {
    /// The address of a folder.
    fn url_of(&self, folder: &Path) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(folder.parts().map(|part| part.as_ref().to_owned())).push("");
        }
        url
    }

    /// The page of a folder; `None` when there is no such folder. Pages are made as they are sent, so their length is not told, and the
    /// client for files refuses them.
    async fn html(&self, folder: &Path) -> Result<Option<String>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let request = http::Request::get(self.url_of(folder).as_str()).body(HttpRequestBody::empty());
            let request = request.map_err(|error| no_listing(folder, &error.to_string()))?;
            match self.client.execute(request).await {
                Ok(answer) if answer.status().is_server_error() && tries <= PAGE_RETRIES => {}
                Ok(answer) => return body(folder, answer).await,
                Err(_) if tries <= PAGE_RETRIES => {}
                Err(error) => return Err(object_store::Error::Generic { store: "web", source: Box::new(error) }),
            }
            tokio::time::sleep(PAGE_PAUSE * tries).await;
        }
    }

    async fn folder(&self, folder: &Path) -> Result<ListResult> {
        match self.found.get().copied().unwrap_or(self.listing) {
            Listing::WebDav => self.http.list_with_delimiter(Some(folder)).await,
            Listing::Page => self.page(folder).await,
            Listing::Either => self.either(folder).await,
        }
    }

    /// Asks by WebDAV; a server that doesn't know it may have a page.
    async fn either(&self, folder: &Path) -> Result<ListResult> {
        let dav = self.http.list_with_delimiter(Some(folder)).await;
        if let Ok(listed) = &dav
            && !(listed.objects.is_empty() && listed.common_prefixes.is_empty())
        {
            self.found.get_or_init(|| Listing::WebDav);
            return dav;
        }
        match (self.page(folder).await, dav) {
            (Ok(listed), _) => {
                if !listed.objects.is_empty() {
                    self.found.get_or_init(|| Listing::Page);
                }
                Ok(listed)
            }
            // A folder that WebDAV finds empty is no page.
            (Err(_), Ok(listed)) => Ok(listed),
            (Err(error @ object_store::Error::NotFound { .. }), Err(_)) => Err(error),
            (Err(page), Err(dav)) => Err(no_listing(folder, &format!("{page}; by WebDAV: {dav}"))),
        }
    }

    /// The links of the page that the server makes of a folder.
    async fn page(&self, folder: &Path) -> Result<ListResult> {
        let Some(html) = self.html(folder).await? else {
            return Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() });
        };
        let links = page::links(&html, self.url_of(folder).path());
        let below = |name: &str| Path::parse(Path::from_iter(folder.parts()).as_ref().to_owned() + "/" + name);
        let common_prefixes = links.folders.iter().map(|name| below(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        let files = links.files.iter().map(|name| below(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        let heads = stream::iter(files).map(|file| async move {
            match self.http.head(&file).await {
                Ok(object) => Ok(Some(object)),
                // A link to nothing is no file.
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let objects: Vec<Option<ObjectMeta>> = heads.buffered(CONCURRENT_HEADS).try_collect().await?;
        Ok(ListResult { common_prefixes, objects: objects.into_iter().flatten().collect() })
    }
}

/// The text of a page.
async fn body(folder: &Path, answer: HttpResponse) -> Result<Option<String>> {
    let status = answer.status();
    let refused = |status| Box::new(Error::new(Kind::PermissionDenied, format!("the server answers with {status}")));
    match status.as_u16() {
        404 | 410 => return Ok(None),
        401 => return Err(object_store::Error::Unauthenticated { path: folder.to_string(), source: refused(status) }),
        403 => return Err(object_store::Error::PermissionDenied { path: folder.to_string(), source: refused(status) }),
        _ if !status.is_success() => return Err(no_listing(folder, &format!("the server answers with {status}"))),
        _ => {}
    }
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("nothing").to_owned();
    if !kind.contains("html") {
        return Err(no_listing(folder, &format!("the server answers with `{kind}`, not with a page")));
    }
    let page = Limited::new(answer.into_body(), LONGEST_PAGE).collect().await;
    let page = page.map_err(|error| no_listing(folder, &format!("its page can't be read: {error}")))?;
    Ok(Some(String::from_utf8_lossy(&page.to_bytes()).into_owned()))
}

fn no_listing(folder: &Path, why: &str) -> object_store::Error {
    let error = Error::new(Kind::Unsupported, format!("the server does not list `/{folder}`: {why}"))
        .hint("name the files one by one, or set `listing` of the store to `webdav` or `page`");
    object_store::Error::Generic { store: "web", source: Box::new(error) }
}

#[async_trait]
impl ObjectStore for WebStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.http.get_opts(location, options).await {
            Err(object_store::Error::NotSupported { .. }) => {
                let error = Error::new(Kind::Unsupported, "the server sends whole files only, not parts of them")
                    .hint("copy the file, or have it served by a server that knows the header `Range`, as most do");
                Err(object_store::Error::Generic { store: "web", source: Box::new(error) })
            }
            answer => answer,
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, first) = (self.clone(), prefix.cloned().unwrap_or_default());
        stream::try_unfold(vec![(first, 0)], move |mut left| {
            let this = this.clone();
            async move {
                let Some((folder, level)) = left.pop() else { return Ok(None) };
                if level > MOST_LEVELS {
                    return Err(no_listing(&folder, "its folders have no end"));
                }
                let listed = this.folder(&folder).await?;
                left.extend(listed.common_prefixes.into_iter().map(|folder| (folder, level + 1)));
                Ok(Some((stream::iter(listed.objects.into_iter().map(Ok)), left)))
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.folder(&prefix.cloned().unwrap_or_default()).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.http.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.http.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.http.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.http.copy_opts(from, to, options).await
    }
}

impl fmt::Display for WebStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("web")
    }
}

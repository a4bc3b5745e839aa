//! One store of a lake, opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{GoogleSpec, Listing, Place, S3Spec, StoreSpec, Unnamed, WebCredentials, WebSpec, azure, google, local, s3, sftp, web};

#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) spec: StoreSpec,
    pub(crate) store: Result<Arc<dyn ObjectStore>>,
    /// What every path begins with inside `store`.
    pub(crate) inside: Path,
}

impl Mount {
    pub(crate) fn open(spec: StoreSpec) -> Self {
        let (store, prefix) = match &spec.place {
            Place::S3(s3) => (s3::open(&spec, s3), s3.prefix.as_str()),
            Place::Google(google) => (google::open(&spec, google), google.prefix.as_str()),
            Place::Azure(azure) => (azure::open(&spec, azure), azure.prefix.as_str()),
            Place::Web(web) => (web::open(&spec, web), ""),
            Place::Sftp(sftp) => (sftp::open(sftp), ""),
            Place::Folder(folder) => (local::open(folder), ""),
            Place::Custom(store) => (Ok(Arc::clone(store)), ""),
            Place::Broken(error) => (Err(error.clone()), ""),
        };
        let (store, inside) = match Path::parse(prefix) {
            Ok(inside) => (store, inside),
            Err(error) => (Err(Error::new(Kind::InvalidConfiguration, error.to_string())), Path::default()),
        };
        Self { spec, store, inside }
    }

    /// The files of this machine.
    pub(crate) fn machine() -> Self {
        let spec = without_name(Place::Folder(PathBuf::from("/")));
        Self { spec, store: Ok(local::open_root()), inside: Path::default() }
    }

    /// A bucket or a host that no store names.
    pub(crate) fn unnamed(defaults: &Unnamed, scheme: &str, authority: &str) -> Self {
        let (name, prefix) = (authority.to_owned(), String::new());
        let place = match scheme {
            "s3" => Place::S3(S3Spec { bucket: name, prefix, ..defaults.s3.clone() }),
            "gs" => Place::Google(GoogleSpec { bucket: name, prefix, ..defaults.google.clone() }),
            _ => Place::Web(WebSpec {
                url: format!("{scheme}://{authority}"),
                listing: Listing::default(),
                credentials: WebCredentials::Anonymous,
            }),
        };
        Self::open(without_name(place))
    }

    /// The scheme of the URLs that lead into this store, and what they begin with after it.
    pub(crate) fn root(&self) -> Option<(&'static str, String)> {
        let below =
            |first: &str, prefix: &str| [first, prefix].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
        match &self.spec.place {
            Place::S3(s3) => Some(("s3", below(&s3.bucket, &s3.prefix))),
            Place::Google(google) => Some(("gs", below(&google.bucket, &google.prefix))),
            Place::Azure(azure) => Some(("az", below(&azure.container, &azure.prefix))),
            Place::Sftp(sftp) => Some(("sftp", below(&sftp.host, sftp.folder.trim_matches('/')))),
            Place::Web(web) => {
                let (scheme, rest) = web.url.split_once("://")?;
                Some((if scheme == "http" { "http" } else { "https" }, rest.trim_end_matches('/').to_owned()))
            }
            Place::Folder(_) | Place::Custom(_) | Place::Broken(_) => None,
        }
    }

    /// The URL of an object of this store, given its path inside.
    pub(crate) fn address(&self, path: &Path) -> Option<String> {
        let (scheme, root) = self.root()?;
        let below: Vec<String> = path.prefix_match(&self.inside)?.map(|part| part.as_ref().to_owned()).collect();
        Some(format!("{scheme}://{root}/{}", below.join("/")))
    }

    /// What tells the objects of this store from those of any other, today and tomorrow: the server, and the place there that paths stand
    /// below. `None` when nothing of it is kept: it lies on this machine, is a program's own, or opted out.
    pub(crate) fn cache_name(&self) -> Option<String> {
        let server = |endpoint: &Option<String>| endpoint.clone().unwrap_or_default();
        let name = match &self.spec.place {
            _ if !self.spec.cache => return None,
            Place::S3(s3) => format!("s3 {} {}", server(&s3.endpoint), s3.bucket),
            Place::Google(google) => format!("gs {} {}", server(&google.endpoint), google.bucket),
            Place::Azure(azure) => format!("az {} {} {}", server(&azure.endpoint), azure.account, azure.container),
            Place::Web(web) => web.url.clone(),
            Place::Sftp(sftp) => format!("sftp {} {} {}", sftp.user.as_deref().unwrap_or_default(), sftp.host, sftp.folder),
            Place::Folder(_) | Place::Custom(_) | Place::Broken(_) => return None,
        };
        Some(name)
    }

    /// Bounds how long one call may take as a whole, retries included: a hung mount must not hang a query.
    pub(crate) fn patience(&self) -> Duration {
        self.spec.timeout * 5
    }
}

fn without_name(place: Place) -> StoreSpec {
    // The name is never looked up: an unnamed mount is reached by its reserved path.
    StoreSpec::new(lacus_core::StoreName::unnamed(), place)
}

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacus_core::{Error, Secret, StoreName};
use object_store::ObjectStore;

/// A named place for bytes, resolved: nothing is left to the environment.
#[derive(Debug, Clone)]
pub struct StoreSpec {
    /// The name, as it stands before the colon of a location.
    pub name: StoreName,
    /// What kind of place it is.
    pub place: Place,
    /// How long one request may take before it is given up and, if it can be, tried again.
    pub timeout: Duration,
    /// How often a request that failed is tried again: on 429, 5xx, a reset connection, a truncated answer.
    pub retries: usize,
    /// Whether queries may write into it.
    pub writable: bool,
    /// How requests travel.
    pub network: Network,
    /// Whether blocks of its objects may be kept in the cache of the lake, if that has one. Folders have no need of it.
    pub cache: bool,
    /// How long what it listed is taken for true; none asks it for every query.
    pub listing_ttl: Duration,
}

/// How requests to a server travel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// A file of PEM certificates that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// The proxy; `None` takes the one that the environment names (`HTTPS_PROXY`).
    pub proxy: Option<String>,
}

impl StoreSpec {
    /// How long one request may take unless the store says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// How often a failed request is tried again unless the store says otherwise.
    pub const RETRIES: usize = 6;

    /// A store with the default timeout and retries, which can be read only, and cached.
    pub fn new(name: StoreName, place: Place) -> Self {
        let (timeout, retries, listing_ttl) = (Self::TIMEOUT, Self::RETRIES, Duration::ZERO);
        Self { name, place, timeout, retries, writable: false, network: Network::default(), cache: true, listing_ttl }
    }
}

/// How URLs are read that no named store covers: with which server, region and credentials. Buckets and prefixes in it do not matter.
#[derive(Debug, Clone)]
pub struct Unnamed {
    /// Of `s3://` URLs.
    pub s3: S3Spec,
    /// Of `gs://` URLs.
    pub google: GoogleSpec,
}

impl Unnamed {
    /// As anybody: without credentials, at Amazon and at Google.
    pub fn anonymous() -> Self {
        let (bucket, prefix) = (String::new(), String::new());
        let google =
            GoogleSpec { bucket: bucket.clone(), prefix: prefix.clone(), endpoint: None, credentials: GoogleCredentials::Anonymous };
        let region = "us-east-1".to_owned();
        let (credentials, path_style) = (Credentials::Anonymous, false);
        Self { s3: S3Spec { bucket, prefix, endpoint: None, region, credentials, path_style, requester_pays: false }, google }
    }
}

/// What kind of place a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A bucket, or a prefix in one, of an S3-compatible server.
    S3(S3Spec),
    /// A bucket, or a prefix in one, of Google Cloud Storage.
    Google(GoogleSpec),
    /// A container, or a prefix in one, of Azure Blob Storage.
    Azure(AzureSpec),
    /// A folder of a web server.
    Web(WebSpec),
    /// A folder of another machine, by SFTP.
    Sftp(SftpSpec),
    /// A folder of this machine, which may be a mounted parallel file system.
    Folder(PathBuf),
    /// A store that the embedding program brings.
    Custom(Arc<dyn ObjectStore>),
    /// A store that can't be used; the error is given to whoever tries. The rest of the lake works.
    Broken(Error),
}

/// A bucket of an S3-compatible server.
#[derive(Debug, Clone)]
pub struct S3Spec {
    /// The bucket.
    pub bucket: String,
    /// The part of the key that every object of this store begins with; empty for the whole bucket.
    pub prefix: String,
    /// The server, such as `https://s3.lab.example`; `None` is AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Whether the bucket stands in the path (`https://host/bucket/key`) rather than in the host name.
    pub path_style: bool,
    /// Whether who asks pays for the requests, as some public buckets want it.
    pub requester_pays: bool,
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GoogleSpec {
    /// The bucket.
    pub bucket: String,
    /// The part of the key that every object of this store begins with; empty for the whole bucket.
    pub prefix: String,
    /// A server other than Google's.
    pub endpoint: Option<String>,
    /// Who asks.
    pub credentials: GoogleCredentials,
}

/// Who asks Google Cloud Storage.
#[derive(Debug, Clone)]
pub enum GoogleCredentials {
    /// Nobody: requests are not signed.
    Anonymous,
    /// A file of credentials: the key of a service account, or what `gcloud auth application-default login` writes.
    File(PathBuf),
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone)]
pub struct AzureSpec {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The part of the name that every object of this store begins with; empty for the whole container.
    pub prefix: String,
    /// A server other than Azure's.
    pub endpoint: Option<String>,
    /// Who asks.
    pub credentials: AzureCredentials,
}

/// Who asks Azure Blob Storage.
#[derive(Debug, Clone)]
pub enum AzureCredentials {
    /// Nobody: requests are not signed.
    Anonymous,
    /// The key of the account.
    Key(Secret),
    /// A shared access signature (SAS).
    Signature(Secret),
    /// A workload identity, whose token is in a file.
    WebIdentity {
        /// The file of the token, read again when it must be renewed.
        token_file: PathBuf,
        /// The client (application) id.
        client: String,
        /// The tenant id.
        tenant: String,
    },
}

/// A folder of a web server, WebDAV or not.
#[derive(Debug, Clone)]
pub struct WebSpec {
    /// The folder: `https://data.lab.example/runs`.
    pub url: String,
    /// How folders are listed.
    pub listing: Listing,
    /// Who asks.
    pub credentials: WebCredentials,
}

/// How a web server lists its folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listing {
    /// By WebDAV where the server knows it, else by pages.
    #[default]
    Either,
    /// By WebDAV (dCache, EOS, Nextcloud, Apache).
    WebDav,
    /// By the links of the pages that the server makes of folders.
    Page,
}

/// Who asks a web server.
#[derive(Debug, Clone)]
pub enum WebCredentials {
    /// Nobody.
    Anonymous,
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// The holder of a token.
    Bearer(Secret),
    /// The holder of the token in a file, read by each request.
    BearerFile(PathBuf),
}

/// A folder of another machine that the `ssh` of this one reaches.
#[derive(Debug, Clone)]
pub struct SftpSpec {
    /// The machine: `transfer.lab.example` or `transfer.lab.example:2222`, or a `Host` of the configuration of ssh.
    pub host: String,
    /// The folder there.
    pub folder: String,
    /// The user there; `None` is for ssh to say.
    pub user: Option<String>,
    /// The private key; `None` is for ssh to say.
    pub key: Option<PathBuf>,
}

/// Who asks an S3-compatible server.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nobody: requests are not signed.
    Anonymous,
    /// An access key.
    Keys {
        /// The key's public half.
        access_key_id: String,
        /// The key's secret half.
        secret_access_key: Secret,
        /// The token of a session, for keys that expire.
        session_token: Option<Secret>,
    },
    /// A profile of a file of credentials in the form of the AWS tools, read again when it changes.
    File {
        /// The file.
        file: PathBuf,
        /// The profile.
        profile: String,
    },
    /// A role that is assumed by the token in a file.
    WebIdentity {
        /// The file of the token, read again when keys must be renewed.
        token_file: PathBuf,
        /// The role's ARN.
        role: String,
        /// The name of the session, in the records of the server.
        session: String,
        /// The security token service; `None` is that of AWS.
        sts: Option<String>,
    },
}

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacus_core::{Error, StoreName};
use object_store::ObjectStore;

use crate::Secret;

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
}

impl StoreSpec {
    /// How long one request may take unless the store says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// How often a failed request is tried again unless the store says otherwise.
    pub const RETRIES: usize = 6;

    /// A store with the default timeout and retries, which can be read only.
    pub fn new(name: StoreName, place: Place) -> Self {
        Self { name, place, timeout: Self::TIMEOUT, retries: Self::RETRIES, writable: false }
    }
}

/// What kind of place a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A bucket, or a prefix in one, of an S3-compatible server.
    S3(S3Spec),
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
}

//! An S3-compatible server as an object store.

use std::sync::Arc;
use std::time::Duration;

use lacus_core::{Error, Kind, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::{Credentials, S3Spec};

/// Longer than any healthy server needs, short enough that a firewall that drops packets is noticed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn open(spec: &S3Spec, timeout: Duration, retries: usize) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&spec.bucket)
        .with_region(&spec.region)
        .with_virtual_hosted_style_request(!spec.path_style)
        .with_client_options(ClientOptions::new().with_timeout(timeout).with_connect_timeout(CONNECT_TIMEOUT))
        .with_retry(retry(timeout, retries));
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder = match &spec.credentials {
        Credentials::Anonymous => builder.with_skip_signature(true),
        Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            let keyed = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key.reveal());
            match session_token {
                Some(token) => keyed.with_token(token.reveal()),
                None => keyed,
            }
        }
    };
    let store: AmazonS3 = builder.build().map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the S3 store can't be used: {error}")).with("bucket", &spec.bucket)
    })?;
    Ok(Arc::new(store))
}

/// Waits of 0.1 s, doubled with jitter up to 5 s: a busy server is given room, a user is not kept for minutes.
fn retry(timeout: Duration, retries: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2. },
        max_retries: retries,
        retry_timeout: timeout * 4,
    }
}

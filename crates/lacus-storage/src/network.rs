//! How requests travel: timeouts, retries, proxies, certificates.

use std::time::Duration;

use lacus_core::{Error, Kind, Result};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use crate::StoreSpec;

/// Longer than any healthy server needs, short enough that a firewall that drops packets is noticed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client of a store; `plain` lets it speak HTTP without TLS.
pub(crate) fn options(spec: &StoreSpec, plain: bool) -> Result<ClientOptions> {
    let mut options = ClientOptions::new().with_timeout(spec.timeout).with_connect_timeout(CONNECT_TIMEOUT).with_allow_http(plain);
    if let Some(file) = &spec.network.ca {
        let unreadable = |why: String| {
            Error::new(Kind::InvalidConfiguration, format!("the certificates can't be read: {why}"))
                .with("file", file.display())
                .hint("`ca` is a file of PEM certificates")
        };
        let pem = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unreadable("it holds none".to_owned()));
        }
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    if let Some(proxy) = &spec.network.proxy {
        options = options.with_proxy_url(proxy);
    }
    Ok(options)
}

/// Waits of 0.1 s, doubled with jitter up to 5 s: a busy server is given room, a user is not kept for minutes.
pub(crate) fn retry(spec: &StoreSpec) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2. },
        max_retries: spec.retries,
        retry_timeout: spec.timeout * 4,
    }
}

/// Whether an address is not encrypted.
pub(crate) fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

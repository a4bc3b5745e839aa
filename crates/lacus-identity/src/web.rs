//! How issuers are asked.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lacus_core::{Error, Kind, Result, Secret};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use crate::key_set::read;

/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer answer is none.
const MOST_BYTES: usize = 1 << 20;

/// A client of issuers: by TLS, or on this machine; it follows no redirects, and reads no long answers.
#[derive(Clone)]
pub(crate) struct Web {
    client: Client,
}

impl fmt::Debug for Web {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Web").finish_non_exhaustive()
    }
}

impl Web {
    /// A client that trusts what the system trusts, and the authorities in the PEM file `ca`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the file can't be used.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self> {
        let mut builder = Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).user_agent("lacus");
        if let Some(file) = ca {
            let unusable = |error: &dyn fmt::Display| {
                Error::new(Kind::InvalidConfiguration, format!("the authority can't be used: {error}")).with("file", file.display())
            };
            let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build();
        Ok(Self { client: client.map_err(|error| Error::new(Kind::Internal, format!("there is no client of HTTP: {error}")))? })
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// `Unavailable` with the reason; `InvalidConfiguration` for an address that others could read along.
    pub(crate) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        let (status, body) = self.sent(self.client.get(safe(url)?), url).await?;
        answered(status, url)?;
        read(&body, url)
    }

    /// Sends a form by a client of the issuer, and gives the status and the body of the answer.
    ///
    /// # Errors
    /// As [`Web::get`].
    pub(crate) async fn post(&self, url: &str, form: &[(&str, &str)], client: Option<(&str, &Secret)>) -> Result<(StatusCode, Vec<u8>)> {
        let request = self.client.post(safe(url)?).header("accept", "application/json").form(form);
        let request = match client {
            // Each part is written as in a form, says RFC 6749.
            Some((client, secret)) => request.basic_auth(written(client), Some(written(secret.reveal()))),
            None => request,
        };
        self.sent(request, url).await
    }

    async fn sent(&self, request: RequestBuilder, url: &str) -> Result<(StatusCode, Vec<u8>)> {
        let failed = |error: reqwest::Error| {
            Error::new(Kind::Unavailable, format!("the issuer doesn't answer: {}", reason(&error.without_url()))).with("url", url)
        };
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(Error::new(Kind::Unavailable, "the issuer answers more than a megabyte").with("url", url));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

pub(crate) fn answered(status: StatusCode, url: &str) -> Result<()> {
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::new(Kind::Unavailable, format!("the issuer answers {status}")).with("url", url)),
    }
}

fn written(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What is at the bottom of an error: the rest says that a request failed.
fn reason(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

/// An address that nobody else can answer at, or read along.
///
/// # Errors
/// `InvalidConfiguration` when it is none.
pub(crate) fn safe(url: &str) -> Result<Url> {
    let wrong = |what: &str| {
        let error = Error::new(Kind::InvalidConfiguration, format!("`{url}` {what}"));
        error.hint("write https://HOST/..., or http:// with an address of this machine")
    };
    let parsed = Url::parse(url).map_err(|error| wrong(&format!("is no address: {error}")))?;
    let is_here = match parsed.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if is_here => Ok(parsed),
        _ => Err(wrong("can be read and answered by others on the way")),
    }
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn what_others_could_answer_is_refused() {
        for good in ["https://login.lab.example/realms/lab", "http://127.0.0.1:8080", "http://[::1]:1/a", "http://localhost:9"] {
            assert!(safe(good).is_ok(), "{good}");
        }
        for bad in ["http://login.lab.example", "ftp://127.0.0.1", "file:///etc/passwd", "login.lab.example", "http://127.0.0.1.example"] {
            assert!(safe(bad).is_err(), "{bad}");
        }
    }
}

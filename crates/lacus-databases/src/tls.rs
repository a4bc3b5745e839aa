use std::path::Path;
use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

/// How a database is reached, as its address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// In the clear.
    Off,
    /// Encrypted, with a certificate of one of the authorities that are trusted, for the host that was named.
    On { authorities: Vec<CertificateDer<'static>> },
}

impl Tls {
    /// Takes what an address says of TLS out of it: `sslmode=disable|require`, `sslrootcert=FILE`. Without a word, what doesn't leave the machine is in the
    /// clear.
    pub(crate) fn taken_from(url: &mut Url, base: &Path) -> Result<Self> {
        let wrong = |message: String| Error::new(Kind::InvalidConfiguration, message).with("key", "url");
        let (mut mode, mut file, mut kept) = (None, None, Vec::new());
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => file = Some(base.join(value.as_ref())),
                _ => kept.push((key.into_owned(), value.into_owned())),
            }
        }
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        let is_here = match url.host_str() {
            None | Some("" | "localhost" | "127.0.0.1" | "::1" | "[::1]") => true,
            Some(host) => host.starts_with("%2F") || host.starts_with("%2f"),
        };
        let is_on = match mode.as_deref() {
            None => !is_here || file.is_some(),
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            Some(other) => {
                return Err(wrong(format!("`sslmode={other}` would let anybody between read along"))
                    .hint("write sslmode=require, which verifies the certificate, or sslmode=disable"));
            }
        };
        if !is_on {
            return Ok(Self::Off);
        }
        let authorities = match file {
            Some(file) => {
                let unreadable =
                    |error: &dyn std::fmt::Display| wrong(format!("the certificates can't be read: {error}")).with("file", file.display());
                let read = CertificateDer::pem_file_iter(&file).map_err(|error| unreadable(&error))?;
                read.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?
            }
            None => rustls_native_certs::load_native_certs().certs,
        };
        match authorities.is_empty() {
            true => Err(wrong("no authority is trusted that could have certified the database".to_owned())
                .hint("name the file of its authority: ?sslrootcert=FILE")),
            false => Ok(Self::On { authorities }),
        }
    }

    /// What rustls is to do; `None` in the clear.
    pub(crate) fn config(&self) -> Result<Option<ClientConfig>> {
        let Self::On { authorities } = self else { return Ok(None) };
        let wrong = |error: rustls::Error| Error::new(Kind::InvalidConfiguration, format!("the certificates are of no use: {error}"));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
        Ok(Some(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

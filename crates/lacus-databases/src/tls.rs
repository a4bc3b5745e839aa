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
    /// In the clear, as it was written.
    Off,
    /// In the clear, as nothing leaves the machine.
    Here,
    /// Encrypted, with a certificate of one of the authorities that are trusted, for the host that was named.
    On { authorities: Vec<CertificateDer<'static>> },
}

impl Tls {
    /// Takes what an address says of TLS out of it: `sslmode=disable|require`, `sslrootcert=FILE`. Without a word, what doesn't leave the machine is in the
    /// clear.
    pub(crate) fn taken_from(url: &mut Url, base: &Path) -> Result<Self> {
        let wrong = |message: String| Error::new(Kind::InvalidConfiguration, message).with("key", "url");
        let (mut mode, mut file) = (None, None);
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => file = Some(base.join(value.as_ref())),
                "password" => {
                    return Err(wrong("a password in the address is shown".to_owned()).hint("write `password = \"${NAME}\"` beside it"));
                }
                _ => {}
            }
        }
        // The others stay as they are written.
        let is_own = |pair: &&str| ["sslmode=", "sslrootcert="].iter().any(|own| pair.starts_with(own));
        let kept: Vec<&str> = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !is_own(pair)).collect();
        let kept = (!kept.is_empty()).then(|| kept.join("&"));
        url.set_query(kept.as_deref());
        let is_here = match url.host_str() {
            None | Some("" | "localhost" | "127.0.0.1" | "::1" | "[::1]") => true,
            Some(host) => host.to_ascii_lowercase().starts_with("%2f") && !host.contains(','),
        };
        let is_on = match mode.as_deref() {
            None if is_here && file.is_none() => return Ok(Self::Here),
            None => true,
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

//! Addresses of servers, as people write them.

use std::path::PathBuf;

use lacus_core::{Error, Kind, Result};

/// An address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// The name and, if it is written there, the password.
    pub(crate) user: Option<(String, Option<String>)>,
    /// A file of certificates to trust beside those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// The files of a certificate that says who calls, and of its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `host:port`, by TLS or not.
    Network { authority: String, tls: bool },
    /// A socket in the file system.
    Socket(PathBuf),
}

fn wrong(uri: &str, why: &str) -> Error {
    let error = Error::new(Kind::InvalidConfiguration, format!("`{}` is no address of a server: {why}", without_password(uri)));
    error.hint("write grpc://HOST:PORT, grpc+tls://USER@HOST:PORT?ca=FILE or grpc+unix:///PATH; a certificate of your own is ?certificate=FILE&key=FILE")
}

/// The address without the password, for messages.
pub(crate) fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, place)) => format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default()),
        None => uri.to_owned(),
    }
}

impl Address {
    /// Whether the port is left to the scheme, which knows none.
    pub(crate) fn has_no_port(&self) -> bool {
        matches!(&self.place, Place::Network { authority, .. } if authority.rsplit(':').next().is_none_or(|port| port.parse::<u16>().is_err()))
    }

    /// The name of the server under which a login for it is kept; `None` where a token could be read on its way.
    pub(crate) fn login(&self) -> Option<String> {
        match &self.place {
            Place::Network { authority, tls: true } => Some(format!("grpc+tls://{authority}")),
            Place::Network { authority, tls: false } => is_here(authority).then(|| format!("grpc://{authority}")),
            Place::Socket(path) => Some(format!("grpc+unix://{}", path.display())),
        }
    }

    pub(crate) fn parse(uri: &str) -> Result<Self> {
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| wrong(uri, "it has no scheme"))?;
        let (rest, options) = rest.split_once('?').map_or((rest, None), |(rest, options)| (rest, Some(options)));
        let (mut ca, mut certificate, mut key) = (None, None, None);
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            match option.split_once('=') {
                Some(("ca", file)) if !file.is_empty() => ca = Some(PathBuf::from(file)),
                Some(("certificate", file)) if !file.is_empty() => certificate = Some(PathBuf::from(file)),
                Some(("key", file)) if !file.is_empty() => key = Some(PathBuf::from(file)),
                _ => return Err(wrong(uri, &format!("there is no option `{option}`"))),
            }
        }
        let identity = match (certificate, key) {
            (Some(_), _) | (_, Some(_)) if scheme != "grpc+tls" => return Err(wrong(uri, "a certificate is shown by grpc+tls alone")),
            // Both may stand in one file.
            (Some(certificate), key) => Some((certificate.clone(), key.unwrap_or(certificate))),
            (None, Some(_)) => return Err(wrong(uri, "there is a `key`, and no `certificate`")),
            (None, None) => None,
        };
        if scheme == "grpc+unix" {
            return match rest {
                "" => Err(wrong(uri, "it names no socket")),
                path => Ok(Self { place: Place::Socket(PathBuf::from(path)), user: None, ca, identity }),
            };
        }
        let tls = match scheme {
            "grpc" | "grpc+tcp" => false,
            "grpc+tls" => true,
            _ => return Err(wrong(uri, &format!("`{scheme}` is not known"))),
        };
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => match user.split_once(':') {
                Some((name, password)) => (Some((name.to_owned(), Some(password.to_owned()))), authority),
                None => (Some((user.to_owned(), None)), authority),
            },
            None => (None, rest),
        };
        let authority = authority.trim_end_matches('/');
        if authority.is_empty() {
            return Err(wrong(uri, "it names no host"));
        }
        Ok(Self { place: Place::Network { authority: authority.to_owned(), tls }, user, ca, identity })
    }
}

/// Whether a host is this machine.
fn is_here(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name under which a login for the server at `uri` is kept.
///
/// # Errors
/// `InvalidConfiguration` when it is no address of a server, `PermissionDenied` when others could read a token on its way there.
pub fn login_name(uri: &str) -> Result<String> {
    let address = Address::parse(uri)?;
    address.login().ok_or_else(|| {
        Error::new(Kind::PermissionDenied, format!("a token could be read on its way to `{}`", without_password(uri)))
            .hint("write grpc+tls://HOST:PORT")
    })
}

/// Looks whether a text is the address of a server.
///
/// # Errors
/// `InvalidConfiguration` that says how one is written.
pub fn check_address(uri: &str) -> Result<()> {
    Address::parse(uri).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() -> Result<()> {
        let parsed = Address::parse("grpc+tls://ada:s3cr@t@lab.example:50051?ca=/etc/lab.pem")?;
        assert_eq!(parsed.place, Place::Network { authority: "lab.example:50051".to_owned(), tls: true });
        assert_eq!(parsed.user, Some(("ada".to_owned(), Some("s3cr@t".to_owned()))));
        assert_eq!(parsed.ca, Some(PathBuf::from("/etc/lab.pem")));
        let own = Address::parse("grpc+tls://lab.example:50051?certificate=ada.pem&key=ada.key")?.identity;
        assert_eq!(own, Some((PathBuf::from("ada.pem"), PathBuf::from("ada.key"))));
        assert!(Address::parse("grpc+tls://lab?key=ada.key").is_err() && Address::parse("grpc://lab?certificate=ada.pem").is_err());
        assert_eq!(Address::parse("grpc+unix:///run/lacus.sock")?.place, Place::Socket(PathBuf::from("/run/lacus.sock")));
        assert!(Address::parse("grpc://lab")?.has_no_port() && Address::parse("grpc://[::1]")?.has_no_port());
        assert!(!Address::parse("grpc://[::1]:5")?.has_no_port());
        assert_eq!(login_name("grpc+tls://lab.example:5?ca=a.pem")?, "grpc+tls://lab.example:5");
        assert_eq!(login_name("grpc://[::1]:5")?, "grpc://[::1]:5");
        assert!(login_name("grpc://lab.example:5").is_err() && login_name("grpc://127.0.0.1.example:5").is_err());
        assert!(Address::parse("http://x").is_err() && Address::parse("x").is_err() && Address::parse("grpc://x?y=1").is_err());
        let refused = Address::parse("grpc://ada:secret@x?y=1").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!refused.contains("secret"), "{refused}");
        Ok(())
    }
}

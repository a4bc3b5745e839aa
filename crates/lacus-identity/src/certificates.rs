use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lacus_core::{Bearer, Error, Kind, Principal, Result, nearest};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

/// The attribute CN of names (RFC 4519).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What in the certificate of a client names its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name of the subject.
    CommonName,
    /// The whole subject, as RFC 4514 writes it: `CN=ada,O=Lab`.
    DistinguishedName,
    /// The mail address among the alternative names.
    Email,
    /// The host among the alternative names.
    Dns,
    /// The URI among the alternative names, as SPIFFE has it: `spiffe://lab.example/loader`.
    Uri,
}

/// By the name that a lake file has for it.
const NAMES: [(&str, CertificateName); 5] = [
    ("cn", CertificateName::CommonName),
    ("dn", CertificateName::DistinguishedName),
    ("email", CertificateName::Email),
    ("dns", CertificateName::Dns),
    ("uri", CertificateName::Uri),
];

impl FromStr for CertificateName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, what)| *what).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name);
            let near = nearest(text, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Error::new(Kind::InvalidConfiguration, format!("`{text}` is nothing that a certificate names users by"))
                .hint(format!("write one of {}{near}", names.join(", ")))
        })
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(_, what)| what == self);
        formatter.write_str(known.map_or("", |(name, _)| name))
    }
}

/// The certificates of clients that are believed, and whom they stand for.
#[derive(Debug, Clone)]
pub struct CertificateSpec {
    /// The authorities that gave them out, in PEM.
    pub ca: PathBuf,
    /// The certificates that these authorities withdrew, in PEM: a list of each authority (CRL).
    pub crl: Option<PathBuf>,
    /// What names the user.
    pub user: CertificateName,
    /// What stands before the names of users here.
    pub prefix: String,
}

impl CertificateSpec {
    /// Whom a certificate stands for that was proven to be the client's, and until when. `der` is the certificate in DER.
    ///
    /// # Errors
    /// `Unauthenticated` when it doesn't name one user.
    pub fn bearer(&self, der: &[u8]) -> Result<Bearer> {
        let unreadable = |error: x509_cert::der::Error| refused(format!("the certificate can't be read: {error}"));
        let certificate = Certificate::from_der(der).map_err(unreadable)?;
        let certificate = certificate.tbs_certificate();
        let subject = certificate.subject();
        let alternative = certificate.get_extension::<SubjectAltName>().map_err(unreadable)?;
        let alternative = alternative.map(|(_, names)| names.0).unwrap_or_default();
        let names: Vec<String> = match self.user {
            CertificateName::CommonName => {
                let common = subject.iter().filter(|part| part.oid == COMMON_NAME);
                let texts = common.map(|part| part.value.decode_as::<DirectoryString>().map(|text| text.value().into_owned()));
                texts.collect::<std::result::Result<_, _>>().map_err(unreadable)?
            }
            CertificateName::DistinguishedName => vec![subject.to_string()],
            CertificateName::Email => texts(&alternative, |name| if let GeneralName::Rfc822Name(text) = name { Some(text) } else { None }),
            CertificateName::Dns => texts(&alternative, |name| if let GeneralName::DnsName(text) = name { Some(text) } else { None }),
            CertificateName::Uri => {
                texts(&alternative, |name| if let GeneralName::UniformResourceIdentifier(text) = name { Some(text) } else { None })
            }
        };
        // Of several, nobody said which is meant.
        let [name] = names.as_slice() else {
            return Err(refused(format!(
                "the certificate of `{subject}` has {} names of the kind `{}`, and one is needed",
                names.len(),
                self.user
            )));
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(refused(format!("the certificate of `{subject}` names nobody by its `{}`", self.user)));
        }
        let principal = Principal::user(&format!("{}{name}", self.prefix)).with_claims([("dn".to_owned(), subject.to_string())]);
        Ok(Bearer { principal, expires: Some(certificate.validity().not_after.to_system_time()) })
    }
}

fn refused(what: String) -> Error {
    Error::new(Kind::Unauthenticated, what).hint("ask whoever gives out the certificates, or bring a token")
}

fn texts<'a, T: ToString + 'a>(names: &'a [GeneralName], text: impl Fn(&'a GeneralName) -> Option<&'a T>) -> Vec<String> {
    names.iter().filter_map(text).map(ToString::to_string).collect()
}

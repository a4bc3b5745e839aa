//! Whom tokens stand for: keys that a lake gives out to programs and to people, and the tokens of identity providers.
//!
//! * A key of [`KeyFile`] is `lacus_ID_SECRET`. The file of keys holds the SHA-256 of the secret, which is 256 random bits, so that nobody
//!   who reads the file can call by it; a slow hash would add nothing.
//! * [`Issuers`] believe the signed tokens (JWT) of OpenID Connect, WLCG and SciTokens by the public keys of who issued them, and ask who
//!   issued them about others (RFC 7662), such as those of Globus.
//! * [`CertificateSpec`] reads users from the certificates of clients.
//! * [`Hub`] says to other sites on whose behalf a lake asks.
//! * [`Logins`] get tokens for people, who agree at a browser (RFC 8628), and renew them.

mod certificates;
mod hub;
mod issuers;
mod key_set;
mod keys;
mod login;
mod private;
mod signatures;
mod web;

pub use certificates::{CertificateName, CertificateSpec};
pub use hub::{Hub, HubSpec};
pub use issuers::{IssuerSpec, Issuers};
pub use keys::{Key, KeyFile, NewKey};
pub use login::{LoginSpec, Logins, Waiting};

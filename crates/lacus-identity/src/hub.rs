//! On whose behalf a lake asks other sites: short tokens that it signs, for sites that know its public key.
//!
//! A token (JWT, EdDSA) names the user as its subject, the lake as its issuer and actor (RFC 8693, `act`), and the one site that it is for.
//! It holds for minutes; nothing that the user brought is handed on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use lacus_core::{Error, Kind, Principal, PrincipalKind, Result, Secret, hex};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::private;

/// What a file of a private key begins and ends with.
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// How much longer a token has to hold to be used again.
const LEFT: Duration = Duration::from_secs(30);
/// How many tokens are kept.
const MOST_KEPT: usize = 1_000;

/// What a lake calls itself to other sites, and by which key it proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSpec {
    /// What it calls itself, to the letter: the claim `iss` of its tokens.
    pub name: String,
    /// The file of its private key: Ed25519, in PEM (PKCS #8).
    pub key: PathBuf,
    /// How long its tokens hold.
    pub lifetime: Duration,
}

/// Whom a token is for, and on whose behalf it asks.
type Asker = (Principal, String);

/// A lake that says on whose behalf it asks.
#[derive(Debug)]
pub struct Hub {
    spec: HubSpec,
    pair: Mutex<Option<Arc<Ed25519KeyPair>>>,
    tokens: Mutex<HashMap<Asker, (SystemTime, Secret)>>,
}

impl Hub {
    /// The lake. Its key is read when it is needed.
    pub fn new(spec: HubSpec) -> Self {
        Self { spec, pair: Mutex::default(), tokens: Mutex::default() }
    }

    /// Makes a key, unless there is one.
    ///
    /// # Errors
    /// `Unavailable` when the file can't be written.
    pub fn make_key(&self) -> Result<()> {
        if self.spec.key.exists() {
            return Ok(());
        }
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| Error::new(Kind::Internal, "no key could be made"))?;
        let text = BASE64_STANDARD.encode(made.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|from| &text[from..text.len().min(from + 64)]).collect();
        let written = private::replace(&self.spec.key, format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")).as_bytes());
        written.map_err(|error| {
            Error::new(Kind::Unavailable, format!("the key can't be written: {error}")).with("file", self.spec.key.display())
        })
    }

    /// Its public key, as a site reads it: a set of keys (RFC 7517).
    ///
    /// # Errors
    /// `InvalidConfiguration` when there is no key, or it is of another kind.
    pub fn public_keys(&self) -> Result<String> {
        let pair = self.pair()?;
        let public = pair.public_key().as_ref();
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name_of(public), "x": BASE64_URL_SAFE_NO_PAD.encode(public),
        });
        Ok(format!("{:#}", json!({ "keys": [key] })))
    }

    /// Refuses to ask on behalf of somebody of whom too little is known.
    ///
    /// # Errors
    /// `PermissionDenied` for who is anonymous, or has a token that is for its scopes alone.
    pub fn check(principal: &Principal) -> Result<()> {
        let refused = |what: &str| Error::new(Kind::PermissionDenied, format!("`{}` may not ask the site: {what}", principal.name()));
        match principal.kind() {
            PrincipalKind::User if principal.is_limited() => {
                Err(refused("the token is for its scopes alone, which a site would not know")
                    .hint("bring one that is for all that you may do"))
            }
            PrincipalKind::User => Ok(()),
            PrincipalKind::Owner | PrincipalKind::Anonymous => Err(refused("nobody is named on whose behalf it would be asked")),
        }
    }

    /// A token by which a site is asked on behalf of somebody.
    ///
    /// # Errors
    /// As [`Hub::check`] and [`Hub::public_keys`].
    pub fn token(&self, principal: &Principal, audience: &str) -> Result<Secret> {
        Self::check(principal)?;
        let (asker, now) = ((principal.clone(), audience.to_owned()), SystemTime::now());
        let mut tokens = held(&self.tokens);
        if let Some((expires, token)) = tokens.get(&asker)
            && *expires > now + LEFT
        {
            return Ok(token.clone());
        }
        let expires = now + self.spec.lifetime;
        let token = self.signed(principal, audience, now, expires)?;
        tokens.retain(|_, (expires, _)| *expires > now);
        if tokens.len() >= MOST_KEPT {
            tokens.clear();
        }
        tokens.insert(asker, (expires, token.clone()));
        Ok(token)
    }

    fn signed(&self, principal: &Principal, audience: &str, now: SystemTime, expires: SystemTime) -> Result<Secret> {
        let pair = self.pair()?;
        let at = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": name_of(pair.public_key().as_ref()) });
        let claims = json!({
            "iss": self.spec.name,
            "sub": principal.name(),
            "act": { "sub": self.spec.name },
            "aud": audience,
            "groups": principal.groups().collect::<Vec<_>>(),
            "iat": at(now),
            "nbf": at(now),
            "exp": at(expires),
            "jti": BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
        });
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
        Ok(Secret::new(format!("{text}.{signature}")))
    }

    fn pair(&self) -> Result<Arc<Ed25519KeyPair>> {
        let mut known = held(&self.pair);
        if let Some(pair) = &*known {
            return Ok(Arc::clone(pair));
        }
        let pair = Arc::new(read(&self.spec.key).map_err(|error| error.with("file", self.spec.key.display()))?);
        *known = Some(Arc::clone(&pair));
        Ok(pair)
    }
}

/// The private key of a file.
fn read(file: &Path) -> Result<Ed25519KeyPair> {
    let wrong = |what: String| Error::new(Kind::InvalidConfiguration, what).hint("`lacus site-key` makes one where there is none");
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!("the key can't be read: {error}")))?;
    let within =
        text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(within, _)| within.split_whitespace().collect::<String>());
    let bytes = within.and_then(|within| BASE64_STANDARD.decode(within).ok());
    let bytes = bytes.ok_or_else(|| wrong("this is no private key in PEM (PKCS #8)".to_owned()))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|error| wrong(format!("this is no key of Ed25519: {error}")))
}

/// What a public key is called in tokens.
fn name_of(public: &[u8]) -> String {
    hex(&Sha256::digest(public)[..8])
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IssuerSpec, Issuers};
    use lacus_core::Tokens;

    #[tokio::test]
    async fn a_site_believes_a_lake_whose_key_it_has_and_no_other() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let hub = |name: &str| {
            let spec = HubSpec { name: "https://hub.example".to_owned(), key: folder.path().join(name), lifetime: Duration::from_secs(60) };
            let hub = Hub::new(spec);
            hub.make_key().map(|()| hub)
        };
        let (known, other) = (hub("known.key")?, hub("other.key")?);
        let keys = folder.path().join("known.jwks");
        std::fs::write(&keys, known.public_keys()?).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let issuers = Issuers::new(vec![IssuerSpec {
            name: "hub".to_owned(),
            url: "https://hub.example".to_owned(),
            audience: vec!["ornl".to_owned()],
            algorithms: Vec::new(),
            user: "sub".to_owned(),
            prefix: "hub/".to_owned(),
            groups: vec!["groups".to_owned()],
            claims: Vec::new(),
            limited: None,
            client: None,
            ca: None,
            keys: Some(keys),
            keys_kept: Duration::from_secs(60),
        }])?;
        let ada = Principal::user("ada").with_groups(["plasma".to_owned()]);
        let token = known.token(&ada, "ornl")?;
        let bearer = issuers.bearer(token.reveal()).await?;
        let principal = bearer.map(|bearer| bearer.principal);
        assert_eq!(principal.as_ref().map(Principal::name), Some("hub/ada"));
        assert!(principal.is_some_and(|principal| principal.groups().eq(["hub/plasma"])));
        assert_eq!(known.token(&ada, "ornl")?.reveal(), token.reveal());
        assert_ne!(known.token(&Principal::user("ada"), "ornl")?.reveal(), token.reveal());
        for (token, says) in [(other.token(&ada, "ornl")?, "no key of its kind"), (known.token(&ada, "anl")?, "it is for anl")] {
            let error = issuers.bearer(token.reveal()).await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{error}");
        }
        for nobody in [Principal::owner(), Principal::anonymous(), ada.limited_to(["read".to_owned()])] {
            assert!(known.token(&nobody, "ornl").is_err_and(|error| error.kind() == Kind::PermissionDenied));
        }
        Ok(())
    }
}

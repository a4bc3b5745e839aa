//! The public keys of an issuer: where it says that they are, kept for a while.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use lacus_core::{Error, Kind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::web::Web;

/// How long keys are used before they are asked for again: a key that the issuer took back is refused after as long.
const FRESH: Duration = Duration::from_secs(300);
/// How long an issuer is waited for whose keys are known.
const HANGS: Duration = Duration::from_secs(2);
/// How soon an issuer is asked again, whatever tokens say: a token with a made-up key costs it nothing.
const AGAIN: Duration = Duration::from_secs(5);
/// Where an issuer says where its keys are: by OpenID Connect, and by OAuth 2 (RFC 8414).
const DISCOVERY: [&str; 2] = ["openid-configuration", "oauth-authorization-server"];

/// What an issuer says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Discovered {
    pub(crate) issuer: String,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) introspection_endpoint: Option<String>,
    pub(crate) device_authorization_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
}

/// Asks an issuer what it says of itself.
pub(crate) async fn discover(web: &Web, issuer: &str) -> Result<Discovered> {
    let mut failed = None;
    for document in DISCOVERY {
        let url = format!("{}/.well-known/{document}", issuer.trim_end_matches('/'));
        match web.get::<Discovered>(&url).await {
            // One that speaks of another would have us trust the keys of that.
            Ok(discovered) if discovered.issuer != issuer => {
                let error =
                    Error::new(Kind::InvalidConfiguration, format!("the issuer at `{issuer}` calls itself `{}`", discovered.issuer));
                return Err(error.hint(format!("write `url = \"{}\"`, to the letter", discovered.issuer)));
            }
            Ok(discovered) => return Ok(discovered),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(Kind::Internal, "an issuer is asked nothing")))
}

/// The keys of an issuer.
#[derive(Debug)]
pub(crate) struct KeySet {
    web: Web,
    issuer: String,
    /// Where its keys are, if it isn't asked for them.
    file: Option<PathBuf>,
    /// How long keys are used when the issuer can't be reached.
    kept: Duration,
    seen: Mutex<Seen>,
    /// One asks for all.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    keys: Arc<Vec<Jwk>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failure: Option<Error>,
}

impl KeySet {
    pub(crate) fn new(web: Web, issuer: String, file: Option<PathBuf>, kept: Duration) -> Self {
        Self { web, issuer, file, kept, seen: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The keys that a token with this header may be signed by; there is one at least.
    ///
    /// # Errors
    /// `Unauthenticated` when the issuer has no such key, `Unavailable` when it can't be asked.
    pub(crate) async fn fitting(&self, algorithm: Algorithm, id: Option<&str>) -> Result<Vec<DecodingKey>> {
        if let Some(file) = &self.file {
            let keys = self.of_file(file)?;
            let known: Vec<_> = keys.iter().filter_map(|key| fits(key, algorithm, id)).collect();
            return if known.is_empty() { Err(self.unknown()) } else { Ok(known) };
        }
        let (known, age) = self.known(algorithm, id);
        if !known.is_empty() {
            if age.is_none_or(|age| age < FRESH) || !self.may_ask() {
                return Ok(known);
            }
            // A key that was taken back is believed only while its issuer can't be asked; one that hangs is not waited for.
            let _ = tokio::time::timeout(HANGS, self.ask()).await;
        } else {
            self.ask().await;
        }
        let (known, _) = self.known(algorithm, id);
        if !known.is_empty() {
            return Ok(known);
        }
        let seen = self.held();
        match &seen.failure {
            Some(failure) => Err(Error::new(Kind::Unavailable, "the keys of the issuer of this token can't be had now")
                .with("issuer", &self.issuer)
                .because(failure.clone())),
            None => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Error {
        Error::new(Kind::Unauthenticated, "the issuer of this token has no key of its kind and name").with("issuer", &self.issuer)
    }

    /// The keys of a file, read for each token: who takes one out is heard at once.
    fn of_file(&self, file: &Path) -> Result<Vec<Jwk>> {
        let read = std::fs::read(file).map_err(|error| error.to_string());
        let keys = read.and_then(|bytes| serde_json::from_slice::<JwkSet>(&bytes).map_err(|error| error.to_string()));
        // Where the file lies is not for who brings a token.
        keys.map(|set| set.keys).map_err(|error| {
            tracing::error!(file = %file.display(), error, "the keys of an issuer can't be read: nobody is believed by them");
            Error::new(Kind::Unavailable, "the keys of the issuer of this token can't be had now").with("issuer", &self.issuer)
        })
    }

    /// The keys that fit and are not too old, and how old they are.
    fn known(&self, algorithm: Algorithm, id: Option<&str>) -> (Vec<DecodingKey>, Option<Duration>) {
        let seen = self.held();
        let age = seen.fetched.map(|fetched| fetched.elapsed()).filter(|age| *age < FRESH.max(self.kept));
        let keys = if age.is_some() { seen.keys.as_slice() } else { &[] };
        (keys.iter().filter_map(|key| fits(key, algorithm, id)).collect(), age)
    }

    fn may_ask(&self) -> bool {
        self.held().tried.is_none_or(|tried| tried.elapsed() >= AGAIN)
    }

    /// Asks the issuer for its keys, unless it was asked a moment ago.
    pub(crate) async fn ask(&self) {
        let _one = self.asking.lock().await;
        if self.file.is_some() || !self.may_ask() {
            return;
        }
        // Others go on with what is known while it is asked.
        let now = Instant::now();
        self.held().tried = Some(now);
        let fetched = self.fetched().await;
        let mut seen = self.held();
        match fetched {
            Ok(keys) => {
                tracing::debug!(issuer = self.issuer, keys = keys.len(), "the keys of an issuer were read");
                *seen = Seen { keys: Arc::new(keys), fetched: Some(now), tried: Some(now), failure: None };
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, %error, "the keys of an issuer can't be read: those known stay for a while");
                seen.failure = Some(error);
            }
        }
    }

    async fn fetched(&self) -> Result<Vec<Jwk>> {
        let discovered = discover(&self.web, &self.issuer).await?;
        let place = discovered.jwks_uri.ok_or_else(|| Error::new(Kind::Unavailable, "the issuer doesn't say where its keys are"))?;
        Ok(self.web.get::<JwkSet>(&place).await?.keys)
    }

    fn held(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key, when a token may be signed by it with this algorithm.
fn fits(key: &Jwk, algorithm: Algorithm, id: Option<&str>) -> Option<DecodingKey> {
    let common = &key.common;
    let is_public =
        matches!(key.algorithm, AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_));
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature);
    let is_named = id.is_none_or(|id| common.key_id.as_deref() == Some(id));
    let is_for_algorithm = common.key_algorithm.is_none_or(|own| format!("{own:?}") == format!("{algorithm:?}"));
    let fits = is_public && is_for_signatures && is_named && is_for_algorithm;
    let key = fits.then(|| DecodingKey::from_jwk(key).ok()).flatten()?;
    key.family().algorithms().contains(&algorithm).then_some(key)
}

/// Reads what an issuer answers.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], url: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(Kind::Unavailable, format!("what the issuer answers can't be read: {error}")).with("url", url))
}

//! Tokens of identity providers: signed ones by the public keys of who issued them, others by asking.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use lacus_core::{Bearer, Error, Kind, Principal, Result, Secret, Tokens, nearest};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::key_set::{KeySet, discover, read};
use crate::signatures::{self, ALGORITHMS};
use crate::web::{Web, answered, safe};

/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(60);
/// A longer token is none: those of the largest federations have some 8 KiB.
const MOST_BYTES: usize = 16 << 10;
/// How long an answer about a token is kept: one that is taken back is refused after as long.
const ASKED_FOR: Duration = Duration::from_secs(60);
/// About how many tokens answers are kept.
const MOST_ANSWERS: usize = 10_000;
/// How many tokens are asked about at once, and how many wait for that: made-up tokens cost who brings them nothing.
const AT_ONCE: usize = 16;
const MOST_WAITING: usize = 256;
/// How much of what a token says is told.
const SHOWN: usize = 200;
/// How long it is believed where an issuer is asked.
const PLACE_KEPT: Duration = Duration::from_secs(300);

/// Who issues tokens, and how they are read.
#[derive(Debug, Clone)]
pub struct IssuerSpec {
    /// What this lake calls it.
    pub name: String,
    /// What it calls itself, to the letter: the claim `iss`. It says there where its keys are.
    pub url: String,
    /// What this server is called in tokens: one of these must be in the claim `aud`.
    pub audience: Vec<String>,
    /// What tokens may be signed by: `RS256`, `ES256` and so on; whatever is safe without any.
    pub algorithms: Vec<String>,
    /// The claim that names the user.
    pub user: String,
    /// What stands before the names of its users and groups here, so that they are no others'.
    pub prefix: String,
    /// The claims that name groups: lists, or words in one text; those in objects with dots between.
    pub groups: Vec<String>,
    /// What else rules may ask of tokens, beside `iss` and `sub`.
    pub claims: Vec<String>,
    /// Whether its tokens may do what rules say of their scopes, and no more. If it isn't said: those with scopes that name places.
    pub limited: Option<bool>,
    /// The client and its secret by which it is asked about tokens that say nothing themselves.
    pub client: Option<(String, Secret)>,
    /// The authorities that are trusted beside those of the system: a PEM file.
    pub ca: Option<PathBuf>,
    /// The file of its public keys, if it isn't asked for them: a set of keys (JWKS), read again when it changes.
    pub keys: Option<PathBuf>,
    /// How long its keys are used when it can't be reached.
    pub keys_kept: Duration,
}

impl IssuerSpec {
    /// What its tokens may be signed by, when all else is as it must be.
    fn checked(&self) -> Result<Vec<Algorithm>> {
        let wrong = |what: String| Error::new(Kind::InvalidConfiguration, what);
        safe(&self.url)?;
        if self.audience.is_empty() {
            let error = wrong("an issuer without `audience`: its tokens for every other service would be good here, too".to_owned());
            return Err(error.hint("write what tokens for this server have in their claim `aud`: `audience = [\"lacus\"]`"));
        }
        let algorithm = |name: &String| {
            ALGORITHMS.into_iter().find(|algorithm| spelled(*algorithm) == *name).ok_or_else(|| {
                let known = ALGORITHMS.map(spelled);
                let error = wrong(format!("`{name}` is no algorithm that a token may be signed by"));
                match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("there are {}", known.join(", "))),
                }
            })
        };
        let algorithms = self.algorithms.iter().map(algorithm).collect::<Result<Vec<_>>>()?;
        Ok(if algorithms.is_empty() { ALGORITHMS.to_vec() } else { algorithms })
    }
}

/// When an issuer was asked about a token, and whom it stands for.
type Answer = (Instant, Result<Option<Bearer>>);

/// One issuer.
#[derive(Debug)]
struct Issuer {
    spec: IssuerSpec,
    algorithms: Vec<Algorithm>,
    web: Web,
    keys: KeySet,
    asking: Semaphore,
    /// Those that ask, and those that wait to.
    waiting: Semaphore,
    /// Where it is asked about tokens, as it said.
    place: Mutex<Option<(Instant, String)>>,
    answers: Mutex<HashMap<[u8; 32], Answer>>,
}

/// The issuers whose tokens are believed.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Issuer>,
}

impl Issuers {
    /// Believes tokens of these issuers. They are asked for their keys when the first token of theirs is brought.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names the issuer and the key.
    pub fn new(specs: Vec<IssuerSpec>) -> Result<Self> {
        Self::check(&specs)?;
        signatures::install();
        let issuer = |spec: IssuerSpec| {
            let named = format!("issuer.{}", spec.name);
            Issuer::new(spec).map_err(|error| error.with("key", named))
        };
        Ok(Self { all: specs.into_iter().map(issuer).collect::<Result<_>>()? })
    }

    /// Says what is wrong with issuers as they are written; their files are not opened, and nobody is asked.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names the issuer and the key.
    pub fn check(specs: &[IssuerSpec]) -> Result<()> {
        if specs.iter().filter(|spec| spec.client.is_some()).count() > 1 {
            // Each would be shown the tokens of the others.
            let error = Error::new(Kind::InvalidConfiguration, "two issuers have a `client`, and one alone can be asked about tokens");
            return Err(error.hint("leave `client` and `secret` of those out whose tokens are signed"));
        }
        let mut urls = BTreeSet::new();
        for spec in specs {
            if !urls.insert(&spec.url) {
                return Err(Error::new(Kind::InvalidConfiguration, format!("`{}` is the url of two issuers", spec.url)));
            }
            spec.checked().map_err(|error| error.with("key", format!("issuer.{}", spec.name)))?;
        }
        Ok(())
    }

    /// Asks all issuers for their keys, so that the log tells early of one that can't be reached.
    pub async fn warm(&self) {
        futures::future::join_all(self.all.iter().map(|issuer| issuer.keys.ask())).await;
    }
}

#[async_trait]
impl Tokens for Issuers {
    async fn bearer(&self, token: &str) -> Result<Option<Bearer>> {
        if let Some(bearer) = self.of_password(token).await? {
            return Ok(Some(bearer));
        }
        match self.all.iter().find(|issuer| issuer.spec.client.is_some()) {
            Some(issuer) => issuer.asked(token).await,
            None => Ok(None),
        }
    }

    /// Only tokens that are signed: nobody is asked about what may be a password.
    async fn of_password(&self, token: &str) -> Result<Option<Bearer>> {
        if token.len() > MOST_BYTES {
            return Err(refused(format!("the token has {} bytes, and those that are read have {MOST_BYTES} at most", token.len())));
        }
        let Some((header, says)) = parts(token) else { return Ok(None) };
        // What the token says is believed only when the keys of who it says issued it prove it.
        let named = says.get("iss").and_then(Value::as_str).unwrap_or_default();
        let issuer = self.all.iter().find(|issuer| issuer.spec.url == named).ok_or_else(|| {
            let known = self.all.iter().map(|issuer| issuer.spec.url.as_str()).collect::<Vec<_>>().join(", ");
            refused(format!("the token is of the issuer `{}`, whom this server doesn't know", shown(named)))
                .hint(format!("bring one of {known}"))
        })?;
        issuer.proven(token, &header, &says).await.map(Some)
    }
}

/// The beginning of what a token says, for messages.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn refused(what: impl Into<String>) -> Error {
    Error::new(Kind::Unauthenticated, what.into())
}

/// The header of a token, as far as it decides anything.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: there are none here.
    crit: Option<Value>,
}

/// What a signed token says in its header and of itself, which nothing has proven yet; `None` when it is no signed token.
fn parts(token: &str) -> Option<(Header, Map<String, Value>)> {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next()?, parts.next()?);
    (parts.next().is_some() && parts.next().is_none()).then_some(())?;
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    Some((serde_json::from_slice(&decoded(header)?).ok()?, serde_json::from_slice(&decoded(claims)?).ok()?))
}

impl Issuer {
    fn new(spec: IssuerSpec) -> Result<Self> {
        let (algorithms, web) = (spec.checked()?, Web::new(spec.ca.as_deref())?);
        let keys = KeySet::new(web.clone(), spec.url.clone(), spec.keys.clone(), spec.keys_kept);
        let (asking, waiting) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE + MOST_WAITING));
        Ok(Self { algorithms, web, keys, asking, waiting, place: Mutex::default(), answers: Mutex::default(), spec })
    }

    /// Whom a token stands for that this issuer is said to have signed.
    async fn proven(&self, token: &str, header: &Header, says: &Map<String, Value>) -> Result<Bearer> {
        let algorithm = self.algorithms.iter().copied().find(|algorithm| spelled(*algorithm) == header.alg);
        let algorithm = algorithm.ok_or_else(|| {
            let known = self.algorithms.iter().map(|algorithm| spelled(*algorithm)).collect::<Vec<_>>().join(", ");
            refused(format!("the token is signed by `{}`, which proves nothing here", shown(&header.alg)))
                .hint(format!("what proves it: {known}"))
        })?;
        if header.crit.is_some() {
            return Err(refused("the token has to be read by an extension that this server doesn't know"));
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.spec.url]);
        validation.set_audience(&self.spec.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut wrong = None;
        for key in self.keys.fitting(algorithm, header.kid.as_deref()).await? {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
                Ok(token) => return self.bearer(&token.claims),
                Err(error) => wrong = Some(error),
            }
        }
        let reason = wrong.map_or_else(|| "nothing proves it".to_owned(), |error| self.reason(error.kind(), says));
        Err(refused(format!("the token is refused: {reason}")).with("issuer", &self.spec.url))
    }

    /// Why a token is refused, in words. What it says is its bearer's own.
    fn reason(&self, kind: &ErrorKind, says: &Map<String, Value>) -> String {
        let at = |claim: &str| instant(says, claim).map_or_else(|| "?".to_owned(), |at| DateTime::<Utc>::from(at).to_rfc3339());
        match kind {
            ErrorKind::ExpiredSignature => format!("it expired at {}", at("exp")),
            ErrorKind::ImmatureSignature => format!("it holds from {} on", at("nbf")),
            ErrorKind::InvalidAudience => {
                format!("it is for {}, and this server is {}", shown(&words(says.get("aud")).join(", ")), self.spec.audience.join(", "))
            }
            ErrorKind::InvalidSignature => "its signature is not by the key of the issuer that it names".to_owned(),
            ErrorKind::MissingRequiredClaim(claim) => format!("it doesn't say `{claim}`"),
            other => format!("{other:?}"),
        }
    }

    /// Whom a token stands for that says nothing itself; `None` when this issuer doesn't know it.
    async fn asked(&self, token: &str) -> Result<Option<Bearer>> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = || {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.retain(|_, (at, _)| at.elapsed() < ASKED_FOR);
            answers.get(&digest).map(|(_, bearer)| bearer.clone())
        };
        let is_good = |bearer: &Bearer| bearer.expires.is_none_or(|expires| expires > SystemTime::now());
        if let Some(known) = known() {
            return Ok(known?.filter(is_good));
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| {
            let error = Error::new(Kind::Unavailable, "too many tokens wait to be asked about").with("issuer", &self.spec.url);
            error.retryable(true)
        })?;
        let _asking = self.asking.acquire().await.map_err(|_| Error::new(Kind::Internal, "nobody asks issuers any more"))?;
        if let Some(known) = known() {
            return Ok(known?.filter(is_good));
        }
        let unasked = |error: Error| {
            Error::new(Kind::Unavailable, "the issuer can't be asked about the token now").with("issuer", &self.spec.url).because(error)
        };
        let answer = self.answer(token).await.map_err(unasked)?;
        let bearer = answer.map(|claims| self.allowed(&claims)).transpose();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST_ANSWERS
            && let Some(oldest) = answers.iter().min_by_key(|(_, (at, _))| *at).map(|(digest, _)| *digest)
        {
            answers.remove(&oldest);
        }
        answers.insert(digest, (Instant::now(), bearer.clone()));
        Ok(bearer?.filter(is_good))
    }

    /// Where the issuer is asked about tokens.
    async fn place(&self) -> Result<String> {
        let known = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, place)) = known.filter(|(at, _)| at.elapsed() < PLACE_KEPT) {
            return Ok(place);
        }
        let place = discover(&self.web, &self.spec.url).await?.introspection_endpoint;
        let place = place.ok_or_else(|| Error::new(Kind::Unavailable, "the issuer doesn't say where it is asked about tokens"))?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), place.clone()));
        Ok(place)
    }

    /// What the issuer says of a token (RFC 7662); `None` when it is none of its own, or no longer good.
    async fn answer(&self, token: &str) -> Result<Option<Map<String, Value>>> {
        let Some((client, secret)) = &self.spec.client else { return Ok(None) };
        let place = self.place().await?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        let (status, body) = self.web.post(&place, &form, Some((client, secret))).await?;
        answered(status, &place)?;
        let claims: Map<String, Value> = read(&body, &place)?;
        Ok((claims.get("active") == Some(&Value::Bool(true))).then_some(claims))
    }

    /// Whom a token stands for of which the issuer says this.
    fn allowed(&self, claims: &Map<String, Value>) -> Result<Bearer> {
        let is_own = claims.get("iss").is_none_or(|issuer| issuer.as_str() == Some(&self.spec.url));
        let is_for_us = words(claims.get("aud")).iter().any(|audience| self.spec.audience.contains(audience));
        match is_own && is_for_us {
            true => self.bearer(claims),
            false => Err(refused(format!("the token is for others, and this server is {}", self.spec.audience.join(", ")))),
        }
    }

    /// Whom a token stands for that was proven to say this.
    fn bearer(&self, claims: &Map<String, Value>) -> Result<Bearer> {
        let IssuerSpec { user, prefix, .. } = &self.spec;
        let name = text(claims, user).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refused(format!("the token names no user: it has no `{user}`")).with("issuer", &self.spec.url))?;
        if user == "email" && text(claims, "email_verified").is_some_and(|verified| verified != "true") {
            return Err(refused("the address in the token was never verified").with("issuer", &self.spec.url));
        }
        let groups = self.spec.groups.iter().flat_map(|claim| words(found(claims, claim))).map(|group| format!("{prefix}{group}"));
        let scopes: BTreeSet<String> = ["scope", "scp"].iter().flat_map(|claim| words(claims.get(*claim))).collect();
        let own = self.spec.claims.iter().map(String::as_str).chain(["sub"]);
        let own = own.filter_map(|claim| Some((claim.to_owned(), text(claims, claim)?)));
        // An issuer that is asked about a token need not say its own name.
        let issuer = ("iss".to_owned(), self.spec.url.clone());
        let principal = Principal::user(&format!("{prefix}{name}")).with_claims(own.chain([issuer]));
        let principal = match self.spec.limited.unwrap_or_else(|| scopes.iter().any(|scope| names_place(scope))) {
            true => principal.limited_to(scopes),
            false => principal.with_groups(groups).with_scopes(scopes),
        };
        Ok(Bearer { principal, expires: instant(claims, "exp").map(|expires| expires + LEEWAY) })
    }
}

/// Whether a scope names what may be done where, as those of WLCG and of SciTokens do: such a token is for that alone.
fn names_place(scope: &str) -> bool {
    scope
        .split_once(':')
        .is_some_and(|(what, place)| (what.starts_with("storage.") || ["read", "write"].contains(&what)) && place.starts_with('/'))
}

/// An algorithm as tokens spell it.
fn spelled(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// A claim by its name, or by the names on the way to it with dots between.
fn found<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a Value> {
    claims.get(claim).or_else(|| {
        let (outer, inner) = claim.split_once('.')?;
        found(claims.get(outer)?.as_object()?, inner)
    })
}

fn text(claims: &Map<String, Value>, claim: &str) -> Option<String> {
    match found(claims, claim)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// The words of a claim: a list of texts, or one text.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// An instant, in seconds since 1970.
fn instant(claims: &Map<String, Value>, claim: &str) -> Option<SystemTime> {
    let seconds = claims.get(claim)?.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    Some(UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

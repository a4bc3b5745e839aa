//! Who calls: users with passwords, and the tokens that a handshake gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use argon2::password_hash::{PasswordHash, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use lacus_core::{Bearer, Error, Kind, Principal, Result, Secret, Tokens};
use lacus_engine::Session;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use crate::sessions::{Connection, DOOR, Sessions, held, make_room};

/// How long a token lives after its last use.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How many tokens there may be; the one that was not used for longest goes first.
const MOST_TOKENS: usize = 10_000;
/// How long a password that was right need not be looked at again: looking takes a part of a second.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// How many passwords are looked at once: each takes about 20 MiB.
const AT_ONCE: usize = 4;

/// A user of a server.
#[derive(Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The hash of the password, as Argon2id gives it: `$argon2id$v=19$...`.
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who may call a server. When nobody is named, whoever reaches it may.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Users with passwords.
    pub users: Vec<User>,
    /// A token that stands for the owner of the lake.
    pub token: Option<Secret>,
    /// Whether who doesn't say who it is may call beside those.
    pub anonymous: bool,
    /// Who else says whom tokens stand for.
    pub tokens: Vec<Arc<dyn Tokens>>,
    /// Whether the certificates of clients say who calls.
    pub certified: bool,
}

impl Callers {
    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.token.is_none() && self.tokens.is_empty() && !self.certified
    }
}

/// The hash of a password, as a lake file holds it.
///
/// # Errors
/// `Internal` when the hash can't be made.
pub fn hash_password(password: &str) -> Result<String> {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let unmade = |error: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("the hash can't be made: {error}"));
    let salt = SaltString::encode_b64(&rand::random::<u128>().to_be_bytes()).map_err(|error| unmade(&error))?;
    let hash = argon2().hash_password(password.as_bytes(), &salt).map_err(|error| unmade(&error))?;
    Ok(hash.to_string())
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

/// Checks that a hash of a password is one.
///
/// # Errors
/// `InvalidConfiguration` that says how one is made.
pub fn check_hash(hash: &str) -> Result<()> {
    let of_argon2 = PasswordHash::new(hash).is_ok_and(|parsed| parsed.algorithm.as_str() == "argon2id" && parsed.hash.is_some());
    match of_argon2 {
        true => Ok(()),
        false => Err(Error::new(Kind::InvalidConfiguration, "the password is no hash by Argon2id").hint("`lacus hash-password` makes one")),
    }
}

/// A token that was given.
struct Token {
    principal: Principal,
    /// The token of others that was brought for it: it is good for as long as that is.
    proof: Option<Secret>,
    session: Session,
    used: Instant,
}

/// Who may call, and who has called.
pub(crate) struct Access {
    users: Arc<HashMap<String, String>>,
    /// A token that stands for the owner.
    token: Option<Secret>,
    /// Whether the server asks nobody who it is.
    is_open: bool,
    /// Whether who doesn't say who it is may call.
    anonymous: bool,
    /// Who else says whom tokens stand for.
    others: Vec<Arc<dyn Tokens>>,
    /// Makes hashes of credentials useless to anyone who reads the memory of another process.
    salt: [u8; 16],
    known: Mutex<HashMap<[u8; 32], Instant>>,
    tokens: Mutex<HashMap<String, Token>>,
    looking: Semaphore,
    pub(crate) sessions: Sessions,
}

/// Who was proven to call, and until when.
struct Proven {
    principal: Principal,
    expires: Option<SystemTime>,
    proof: Option<Secret>,
}

impl From<Principal> for Proven {
    fn from(principal: Principal) -> Self {
        Self { principal, expires: None, proof: None }
    }
}

/// Who may call a server, for all protocols that it speaks. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<Access>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate for those who may call.
    pub fn new(callers: Callers) -> Self {
        Self(Arc::new(Access::new(callers)))
    }

    /// Whom the headers of a request and its connection prove.
    ///
    /// # Errors
    /// `Unauthenticated` when nobody proved who it is.
    pub async fn bearer(&self, headers: &http::HeaderMap, connection: &Connection) -> Result<Bearer> {
        let headers = MetadataMap::from_headers(headers.clone());
        let (bearer, _) = self.0.bearer(&headers, Some(connection)).await?;
        Ok(bearer)
    }

    /// Who a request says it is of, whether or not it is true.
    pub fn claimed(headers: &http::HeaderMap) -> Option<String> {
        claimed(&MetadataMap::from_headers(headers.clone()))
    }
}

/// The caller of one call, which stands in its extensions.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) session: Session,
    pub(crate) cookie: Option<String>,
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Unauthenticated, what).hint("give the name of a user of this server and the password, a token, or a certificate")
}

impl Access {
    pub(crate) fn new(callers: Callers) -> Self {
        let is_open = callers.is_empty();
        let Callers { users, token, anonymous, tokens: others, certified: _ } = callers;
        let users = users.into_iter().map(|user| (user.name, user.password)).collect();
        Self {
            users: Arc::new(users),
            token,
            is_open,
            anonymous: anonymous || is_open,
            others,
            salt: rand::random(),
            known: Mutex::default(),
            tokens: Mutex::default(),
            looking: Semaphore::new(AT_ONCE),
            sessions: Sessions::default(),
        }
    }

    /// Whom a token stands for that is neither the owner's nor one of a handshake.
    async fn of_others(&self, token: &str) -> Result<Option<Bearer>> {
        for tokens in &self.others {
            if let Some(bearer) = tokens.bearer(token).await? {
                return Ok(Some(bearer));
            }
        }
        Ok(None)
    }

    /// Whether this is the token that stands for the owner.
    fn is_owners(&self, token: &str) -> bool {
        // The digests are compared, so that the time tells nothing of how much was right.
        let digest = |text: &str| Sha256::new_with_prefix(self.salt).chain_update(text.as_bytes()).finalize();
        self.token.as_ref().is_some_and(|known| digest(known.reveal()) == digest(token))
    }

    /// The caller, by what the headers and the connection say.
    ///
    /// # Errors
    /// `Unauthenticated` when nobody proved who it is; what [`Sessions::of`] says.
    pub(crate) async fn caller(&self, headers: &MetadataMap, connection: Option<&Connection>) -> Result<Caller> {
        let named_by_header = headers.contains_key(crate::sessions::HEADER);
        let (Bearer { principal, expires }, of_token) = self.bearer(headers, connection).await?;
        if let Some(session) = of_token.filter(|_| !named_by_header) {
            return Ok(Caller { session, cookie: None });
        }
        let found = self.sessions.of(&principal, headers, connection)?;
        let session = found.session.until(expires);
        Ok(Caller { session, cookie: found.cookie })
    }

    /// Whom headers and connection prove, and the session of the token if it is one of a handshake.
    async fn bearer(&self, headers: &MetadataMap, connection: Option<&Connection>) -> Result<(Bearer, Option<Session>)> {
        let (mut expires, mut of_token) = (None, None);
        let principal = match authorization(headers) {
            Some(Authorization::Bearer(token)) => match self.of_token(token).await? {
                Some((principal, session)) => {
                    expires = session.expires();
                    of_token = Some(session);
                    principal
                }
                None if self.is_owners(token) => Principal::owner(),
                None if self.is_open => Principal::anonymous(),
                None if let Some(bearer) = self.of_others(token).await? => {
                    expires = bearer.expires;
                    bearer.principal
                }
                None => return Err(refused("the token is unknown here, or has expired")),
            },
            Some(Authorization::Basic(credentials)) => {
                let proven = self.of_credentials(&decoded(credentials)?).await?;
                expires = proven.expires;
                proven.principal
            }
            None if let Some(bearer) = connection.and_then(Connection::certified) => {
                let Bearer { principal, expires: until } = bearer?;
                expires = until;
                principal
            }
            // Nobody else can open the socket; where users are named, they are asked for there, too.
            None if self.is_open && connection.is_some_and(Connection::is_owners) => Principal::owner(),
            None if self.anonymous => Principal::anonymous(),
            None => return Err(refused("the call doesn't say who calls")),
        };
        if expires.is_some_and(|expires| expires <= SystemTime::now()) {
            return Err(refused("what says who calls has ended"));
        }
        Ok((Bearer { principal, expires }, of_token))
    }

    /// What a handshake gives: the caller, and the token to call by from now on. `payload` is what clients of old send instead of headers.
    ///
    /// # Errors
    /// As [`Access::caller`].
    pub(crate) async fn handshake(
        &self,
        headers: &MetadataMap,
        payload: Option<(String, String)>,
        connection: Option<&Connection>,
    ) -> Result<String> {
        let proven = match (authorization(headers), payload) {
            // Who has a token may ask whether it is good.
            (Some(Authorization::Bearer(token)), _) if self.of_token(token).await?.is_some() => return Ok(token.to_owned()),
            (Some(Authorization::Bearer(token)), _) if self.is_owners(token) => Principal::owner().into(),
            (Some(Authorization::Bearer(token)), _) if self.of_others(token).await?.is_some() => return Ok(token.to_owned()),
            (Some(Authorization::Bearer(_)), _) if !self.is_open => return Err(refused("the token is unknown here, or has expired")),
            (Some(Authorization::Basic(credentials)), _) => self.of_credentials(&decoded(credentials)?).await?,
            (_, Some(credentials)) => self.of_credentials(&credentials).await?,
            // A token would be good beyond the connection that the certificate is shown by.
            _ if let Some(certified) = connection.and_then(Connection::certified) => {
                certified?;
                return Err(Error::new(Kind::Unsupported, "the certificate of the client says who calls, and a handshake adds nothing")
                    .hint("call without a handshake, or bring a name and a password, or a token"));
            }
            _ if self.is_open && connection.is_some_and(Connection::is_owners) => Principal::owner().into(),
            _ if self.anonymous => Principal::anonymous().into(),
            _ => return Err(refused("the handshake doesn't say who calls")),
        };
        let token = format!("{:032x}", rand::random::<u128>());
        let now = Instant::now();
        let mut tokens = held(&self.tokens);
        tokens.retain(|_, token| now.duration_since(token.used) < TOKEN_LIFETIME);
        make_room(&mut tokens, MOST_TOKENS, |token| token.used);
        let Proven { principal, proof, .. } = proven;
        tokens.insert(token.clone(), Token { session: Session::through(DOOR, &principal, true), principal, proof, used: now });
        Ok(token)
    }

    /// Ends the session of a call, and the token by which it came.
    pub(crate) fn close(&self, headers: &MetadataMap, connection: Option<&Connection>, session: &Session) {
        if let Some(Authorization::Bearer(token)) = authorization(headers)
            && let Some(token) = held(&self.tokens).get_mut(token)
        {
            // The token stays good for a new session.
            token.session = Session::through(DOOR, &token.principal, true);
        }
        self.sessions.close(session.principal(), headers, connection);
    }

    /// Whom a token of a handshake stands for.
    async fn of_token(&self, token: &str) -> Result<Option<(Principal, Session)>> {
        let (principal, session, proof) = {
            let now = Instant::now();
            let mut tokens = held(&self.tokens);
            let Some(known) = tokens.get_mut(token).filter(|token| now.duration_since(token.used) < TOKEN_LIFETIME) else {
                return Ok(None);
            };
            known.used = now;
            (known.principal.clone(), known.session.clone(), known.proof.clone())
        };
        let Some(proof) = proof else { return Ok(Some((principal, session))) };
        match self.of_others(proof.reveal()).await? {
            Some(bearer) if bearer.principal == principal => Ok(Some((principal, session.until(bearer.expires)))),
            _ => Err(refused("what the token stands for has changed")),
        }
    }

    async fn of_credentials(&self, credentials: &(String, String)) -> Result<Proven> {
        // Clients that can send nothing else send a token as a password.
        let (_, password) = credentials;
        if self.is_owners(password) {
            return Ok(Principal::owner().into());
        }
        if self.is_open {
            return Ok(Principal::anonymous().into());
        }
        for tokens in &self.others {
            if let Some(Bearer { principal, expires }) = tokens.of_password(password).await? {
                return Ok(Proven { principal, expires, proof: Some(Secret::new(password.clone())) });
            }
        }
        self.of_password(credentials).await.map(Proven::from)
    }

    async fn of_password(&self, (name, password): &(String, String)) -> Result<Principal> {
        let mut digest = Sha256::new_with_prefix(self.salt);
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name.as_bytes());
        digest.update(password.as_bytes());
        let digest: [u8; 32] = digest.finalize().into();
        let now = Instant::now();
        {
            let mut known = held(&self.known);
            known.retain(|_, at| now.duration_since(*at) < KNOWN_FOR);
            if known.contains_key(&digest) {
                return Ok(Principal::user(name));
            }
        }
        let _looking = self.looking.acquire().await.map_err(|_| Error::new(Kind::Internal, "nobody looks at passwords any more"))?;
        let (users, name, password) = (Arc::clone(&self.users), name.clone(), password.clone());
        let looked = tokio::task::spawn_blocking(move || {
            // A name that is no user takes as long, so that nobody learns from the time who is one.
            let hash = users.get(&name).or_else(|| users.values().next());
            let right = hash
                .and_then(|hash| PasswordHash::new(hash).ok())
                .is_some_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok());
            (right && users.contains_key(&name)).then(|| Principal::user(&name))
        });
        let principal = looked.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let principal = principal.ok_or_else(|| refused("no user has this name and password"))?;
        held(&self.known).insert(digest, now);
        Ok(principal)
    }
}

/// What the header `authorization` says.
enum Authorization<'a> {
    Basic(&'a str),
    Bearer(&'a str),
}

fn authorization(headers: &MetadataMap) -> Option<Authorization<'_>> {
    let (scheme, rest) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Authorization::Basic(rest.trim())),
        "bearer" => Some(Authorization::Bearer(rest.trim())),
        _ => None,
    }
}

/// Who a caller says it is, whether or not it is true.
pub(crate) fn claimed(headers: &MetadataMap) -> Option<String> {
    match authorization(headers)? {
        Authorization::Basic(credentials) => decoded(credentials).ok().map(|(name, _)| name),
        Authorization::Bearer(_) => None,
    }
}

fn decoded(credentials: &str) -> Result<(String, String)> {
    // Clients written in Go leave the padding out.
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, config).decode(credentials);
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (name, password) = pair.ok_or_else(|| refused("the header `authorization` can't be read"))?;
    Ok((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    fn basic(name: &str, password: &str) -> Result<MetadataMap> {
        let mut headers = MetadataMap::new();
        let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")));
        headers.insert("authorization", MetadataValue::try_from(value).map_err(|error| Error::new(Kind::Internal, error.to_string()))?);
        Ok(headers)
    }

    #[tokio::test]
    async fn a_password_is_needed_and_a_token_stands_for_it() -> Result<()> {
        let user = User { name: "ada".to_owned(), password: hash_password("pass:word")? };
        check_hash(&user.password)?;
        let access = Access::new(Callers { users: vec![user], ..Callers::default() });
        let kind = |refused: Result<Caller>| refused.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind(access.caller(&MetadataMap::new(), None).await), Err(Kind::Unauthenticated));
        assert_eq!(kind(access.caller(&basic("ada", "wrong")?, None).await), Err(Kind::Unauthenticated));
        assert_eq!(kind(access.caller(&basic("bob", "pass:word")?, None).await), Err(Kind::Unauthenticated));
        assert_eq!(access.caller(&basic("ada", "pass:word")?, None).await?.session.principal().name(), "ada");
        let token = access.handshake(&basic("ada", "pass:word")?, None, None).await?;
        let mut headers = MetadataMap::new();
        let value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        headers.insert("authorization", value);
        let caller = access.caller(&headers, None).await?;
        caller.session.set("datafusion.execution.batch_size", Some("9"))?;
        assert_eq!(access.caller(&headers, None).await?.session.settings().len(), 1);
        assert_eq!(access.handshake(&headers, None, None).await?, token);
        Ok(())
    }

    #[test]
    fn a_password_in_the_clear_is_no_hash() {
        assert!(check_hash("secret").is_err());
        assert!(check_hash("$argon2i$v=19$m=16,t=2,p=1$MTIzNDU2Nzg$abcd").is_err());
    }
}

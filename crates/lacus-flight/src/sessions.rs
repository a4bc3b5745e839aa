//! Sessions: what clients keep between their calls.
//!
//! A session is known by what a call brings: the header `x-session-id`, a cookie, or the connection that it comes by. That of a connection
//! ends with it, unless its client took the cookie; the others end when nobody has used them for long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lacus_core::{Bearer, Error, Kind, Principal, Result};
use lacus_engine::Session;
use tonic::metadata::MetadataMap;

/// What queries of clients are recorded as coming through.
pub(crate) const DOOR: &str = "flight";

/// The header by which a client names its session.
pub(crate) const HEADER: &str = "x-session-id";
/// The cookie by which it does.
const COOKIE: &str = "session_id";
/// The longest name of a session that a client may choose.
const LONGEST: usize = 128;
/// How long a session lives after its last use.
const LIFETIME: Duration = Duration::from_secs(120 * 60);
/// How many sessions there may be, beside those of connections.
const MOST: usize = 10_000;

/// The certificate that a client showed, and proved to be its own.
pub trait Certified: std::fmt::Debug + Send + Sync {
    /// Whom it stands for.
    ///
    /// # Errors
    /// `Unauthenticated` when it names nobody, or is no longer good.
    fn bearer(&self) -> Result<Bearer>;
}

/// One connection, and the session of each principal that calls by it. It stands in the extensions of every call.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    sessions: Arc<Mutex<HashMap<Principal, Named>>>,
    is_owners: bool,
    certified: Option<Arc<dyn Certified>>,
}

/// A session and the name by which cookies know it.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    session: Session,
}

impl Connection {
    /// A connection that only the owner of the process can have made.
    pub fn of_owner() -> Self {
        Self { is_owners: true, ..Self::default() }
    }

    /// A connection of a client that showed a certificate.
    pub fn of_certified(certified: Arc<dyn Certified>) -> Self {
        Self { certified: Some(certified), ..Self::default() }
    }

    /// Whom the certificate of the client stands for, if it showed one.
    pub(crate) fn certified(&self) -> Option<Result<Bearer>> {
        self.certified.as_ref().map(|certified| certified.bearer())
    }

    pub(crate) fn is_owners(&self) -> bool {
        self.is_owners
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Principal, Named>> {
        held(&self.sessions)
    }

    fn session(&self, principal: &Principal) -> Named {
        let new = || Named { name: format!("{:032x}", rand::random::<u128>()), session: Session::through(DOOR, principal, true) };
        self.held().entry(principal.clone()).or_insert_with(new).clone()
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of what was not used for longest when there are `most` already.
pub(crate) fn make_room<K: Clone + Eq + Hash, V>(all: &mut HashMap<K, V>, most: usize, used: impl Fn(&V) -> Instant) {
    if all.len() >= most {
        forget_oldest(all, used);
    }
}

/// Lets go of what was not used for longest.
pub(crate) fn forget_oldest<K: Clone + Eq + Hash, V>(all: &mut HashMap<K, V>, used: impl Fn(&V) -> Instant) {
    let oldest = all.iter().min_by_key(|(_, value)| used(value)).map(|(key, _)| key.clone());
    oldest.map(|oldest| all.remove(&oldest));
}

/// The sessions that outlive a connection.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<(Principal, String), Entry>>);

#[derive(Debug)]
struct Entry {
    used: Instant,
    /// `None` when it was closed: its name is not used again for a while.
    session: Option<Session>,
}

/// A session, and how the client is to name it from now on.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) session: Session,
    /// The value of `set-cookie`, for a client that brought no cookie.
    pub(crate) cookie: Option<String>,
}

fn closed() -> Error {
    Error::new(Kind::NotFound, "the session was closed").hint("connect again")
}

impl Sessions {
    /// The session of a call.
    ///
    /// # Errors
    /// `NotFound` when it was closed, `InvalidQuery` for a name that can't be one.
    pub(crate) fn of(&self, principal: &Principal, headers: &MetadataMap, connection: Option<&Connection>) -> Result<Found> {
        if let Some(name) = headers.get(HEADER) {
            let name = name.to_str().ok().filter(|name| !name.is_empty() && name.len() <= LONGEST).ok_or_else(|| {
                Error::new(Kind::InvalidQuery, format!("the header `{HEADER}` names no session"))
                    .hint(format!("send up to {LONGEST} characters that nobody else guesses"))
            })?;
            let session = self.named(principal, name, || Session::through(DOOR, principal, true))?;
            return Ok(Found { session, cookie: None });
        }
        let Some(connection) = connection else { return Ok(Found { session: Session::through(DOOR, principal, false), cookie: None }) };
        let own = connection.session(principal);
        match cookie(headers) {
            // A name that this server has not given, or no longer knows, is not taken over: the client gets another.
            Some(name) if name == own.name || self.knows(principal, name) => {
                Ok(Found { session: self.named(principal, name, || own.session)?, cookie: None })
            }
            _ => {
                let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", own.name);
                Ok(Found { session: own.session, cookie: Some(cookie) })
            }
        }
    }

    fn knows(&self, principal: &Principal, name: &str) -> bool {
        held(&self.0).contains_key(&(principal.clone(), name.to_owned()))
    }

    /// The session of this name, which is made when there is none.
    pub(crate) fn named(&self, principal: &Principal, name: &str, new: impl FnOnce() -> Session) -> Result<Session> {
        let now = Instant::now();
        let mut all = held(&self.0);
        all.retain(|_, entry| now.duration_since(entry.used) < LIFETIME);
        let key = (principal.clone(), name.to_owned());
        if let Some(entry) = all.get_mut(&key) {
            entry.used = now;
            return entry.session.clone().ok_or_else(closed);
        }
        make_room(&mut all, MOST, |entry| entry.used);
        let session = new();
        all.insert(key, Entry { used: now, session: Some(session.clone()) });
        Ok(session)
    }

    /// Closes the session of a call; one that is closed already stays so.
    pub(crate) fn close(&self, principal: &Principal, headers: &MetadataMap, connection: Option<&Connection>) {
        if let Some(connection) = connection {
            connection.held().remove(principal);
        }
        let header = headers.get(HEADER).and_then(|name| name.to_str().ok());
        if let Some(name) = header.or_else(|| cookie(headers))
            && let Some(entry) = held(&self.0).get_mut(&(principal.clone(), name.to_owned()))
        {
            entry.session = None;
        }
    }
}

/// The session that a cookie names.
fn cookie(headers: &MetadataMap) -> Option<&str> {
    let all = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    fn headers(name: &'static str, value: &str) -> Result<MetadataMap> {
        let mut map = MetadataMap::new();
        map.insert(name, MetadataValue::try_from(value).map_err(|error| Error::new(Kind::Internal, error.to_string()))?);
        Ok(map)
    }

    #[test]
    fn a_session_is_found_by_connection_then_by_its_cookie() -> Result<()> {
        let (sessions, owner, connection) = (Sessions::default(), Principal::owner(), Connection::default());
        let first = sessions.of(&owner, &MetadataMap::new(), Some(&connection))?;
        first.session.set("datafusion.execution.batch_size", Some("7"))?;
        let cookie = first.cookie.and_then(|cookie| cookie.split(';').next().map(str::to_owned)).unwrap_or_default();
        let again = sessions.of(&owner, &MetadataMap::new(), Some(&connection))?;
        assert_eq!(again.session.settings().len(), 1);
        let by_cookie = sessions.of(&owner, &headers("cookie", &cookie)?, Some(&connection))?;
        assert!(by_cookie.cookie.is_none());
        let elsewhere = Connection::default();
        let kept = sessions.of(&owner, &headers("cookie", &cookie)?, Some(&elsewhere))?;
        assert_eq!(kept.session.settings().len(), 1);
        sessions.close(&owner, &headers("cookie", &cookie)?, Some(&elsewhere));
        let after = sessions.of(&owner, &headers("cookie", &cookie)?, Some(&elsewhere)).map_err(|error| error.kind());
        assert_eq!(after.map(|_| ()), Err(Kind::NotFound));
        Ok(())
    }

    #[test]
    fn a_name_that_was_not_given_is_not_taken_over() -> Result<()> {
        let (sessions, owner, connection) = (Sessions::default(), Principal::owner(), Connection::default());
        let found = sessions.of(&owner, &headers("cookie", "session_id=guessed")?, Some(&connection))?;
        assert!(found.cookie.is_some_and(|cookie| !cookie.contains("guessed")));
        Ok(())
    }
}

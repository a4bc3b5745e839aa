//! What the server keeps between two calls of a client: bounded in number and in time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lacus_core::{Error, Kind, Principal, Result};

/// Values under random handles, each bound to the principal that made it.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    what: &'static str,
    lifetime: Duration,
    most: usize,
    entries: Mutex<HashMap<Bytes, Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    expires: Instant,
    principal: Principal,
    value: T,
}

impl<T> Handles<T> {
    /// Keeps at most `most` values, each for `lifetime`; `what` names one in messages.
    pub(crate) fn new(what: &'static str, lifetime: Duration, most: usize) -> Self {
        Self { what, lifetime, most, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Bytes, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what has expired.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        self.entries().retain(|_, entry| entry.expires > now);
    }

    /// Keeps `value` and gives its handle.
    pub(crate) fn keep(&self, value: T, principal: &Principal) -> Result<Bytes> {
        let handle = Bytes::copy_from_slice(&rand::random::<u128>().to_be_bytes());
        let now = Instant::now();
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.expires > now);
        if entries.len() >= self.most {
            return Err(Error::new(Kind::LimitExceeded, format!("{} {}s wait already", self.most, self.what))
                .hint("fetch or close what was asked for, then try again")
                .retryable(true));
        }
        entries.insert(handle.clone(), Entry { expires: now + self.lifetime, principal: principal.clone(), value });
        Ok(handle)
    }

    /// Takes the value out: a second call finds nothing.
    pub(crate) fn take(&self, handle: &Bytes, principal: &Principal) -> Result<T> {
        let mut entries = self.entries();
        match entries.get(handle) {
            Some(entry) if entry.principal == *principal && entry.expires > Instant::now() => {}
            _ => return Err(self.unknown()),
        }
        entries.remove(handle).map(|entry| entry.value).ok_or_else(|| self.unknown())
    }

    /// Looks at or changes the value, which then lives on for its lifetime.
    pub(crate) fn with<R>(&self, handle: &Bytes, principal: &Principal, visit: impl FnOnce(&mut T) -> R) -> Result<R> {
        let now = Instant::now();
        match self.entries().get_mut(handle) {
            Some(entry) if entry.principal == *principal && entry.expires > now => {
                entry.expires = now + self.lifetime;
                Ok(visit(&mut entry.value))
            }
            _ => Err(self.unknown()),
        }
    }

    /// Forgets the value, if it is there.
    pub(crate) fn forget(&self, handle: &Bytes, principal: &Principal) {
        let mut entries = self.entries();
        if entries.get(handle).is_some_and(|entry| entry.principal == *principal) {
            entries.remove(handle);
        }
    }

    /// Forgets the values of this principal that are meant; whether there were any.
    pub(crate) fn forget_where(&self, principal: &Principal, is_meant: impl Fn(&T) -> bool) -> bool {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|_, entry| !(entry.principal == *principal && is_meant(&entry.value)));
        entries.len() < before
    }

    fn unknown(&self) -> Error {
        Error::new(Kind::NotFound, format!("no such {}: it was fetched already, closed, or has expired", self.what)).hint("ask again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_once_and_expires() -> Result<()> {
        let owner = Principal::owner();
        let kept = Handles::new("result", Duration::from_secs(60), 1);
        let handle = kept.keep(7, &owner)?;
        assert_eq!(kept.with(&handle, &owner, |value| *value)?, 7);
        assert_eq!(kept.keep(8, &owner).map_err(|error| error.kind()), Err(Kind::LimitExceeded));
        assert_eq!(kept.take(&handle, &owner)?, 7);
        assert_eq!(kept.take(&handle, &owner).map_err(|error| error.kind()), Err(Kind::NotFound));
        let gone = Handles::new("result", Duration::ZERO, 1);
        let handle = gone.keep(7, &owner)?;
        assert!(gone.take(&handle, &owner).is_err());
        Ok(())
    }
}

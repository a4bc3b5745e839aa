//! What the server keeps between two calls of a client: bounded in number, in bytes and in time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lacus_core::{Error, Kind, Principal, Result};

use crate::sessions::forget_oldest;

/// Values under random handles, each bound to the principal that made it.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    what: &'static str,
    lifetime: Duration,
    most: usize,
    most_bytes: usize,
    /// Whether what was not used for longest goes when there is no room; else what is new is refused.
    makes_room: bool,
    entries: Mutex<HashMap<Bytes, Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    expires: Instant,
    principal: Principal,
    /// What it takes of the memory, as far as that is known.
    bytes: usize,
    value: T,
}

impl<T> Entry<T> {
    fn serves(&self, principal: &Principal) -> bool {
        self.principal == *principal && self.expires > Instant::now()
    }
}

impl<T> Handles<T> {
    /// Keeps at most `most` values of together at most `most_bytes`, each for `lifetime`; `what` names one in messages.
    pub(crate) fn new(what: &'static str, lifetime: Duration, most: usize, most_bytes: usize) -> Self {
        Self { what, lifetime, most, most_bytes, makes_room: true, entries: Mutex::default() }
    }

    /// As it is, but what is new is refused when there is no room.
    pub(crate) fn refusing(self) -> Self {
        Self { makes_room: false, ..self }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Bytes, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what has expired.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        self.entries().retain(|_, entry| entry.expires > now);
    }

    /// Keeps `value`, which takes so many bytes, and gives its handle.
    pub(crate) fn keep(&self, value: T, bytes: usize, principal: &Principal) -> Result<Bytes> {
        let handle = Bytes::copy_from_slice(&rand::random::<u128>().to_be_bytes());
        let mut entries = self.entries();
        self.make_room(&mut entries, bytes)?;
        entries.insert(handle.clone(), Entry { expires: Instant::now() + self.lifetime, principal: principal.clone(), bytes, value });
        Ok(handle)
    }

    /// Lets go of what has expired, and of what was not used for longest, until one more of `bytes` has room.
    fn make_room(&self, entries: &mut HashMap<Bytes, Entry<T>>, bytes: usize) -> Result<()> {
        let too_much = |others: usize| {
            let (wanted, others, most) = (bytes.div_ceil(1 << 20), others >> 20, self.most_bytes >> 20);
            let taken = format!("this {} takes {wanted} MiB, others {others} MiB, and {most} MiB may be kept", self.what);
            Error::new(Kind::LimitExceeded, taken)
        };
        // What never has room must not cost the others theirs.
        if bytes > self.most_bytes {
            return Err(too_much(0).hint("bind fewer rows of parameters at once"));
        }
        let now = Instant::now();
        entries.retain(|_, entry| entry.expires > now);
        loop {
            let others: usize = entries.values().map(|entry| entry.bytes).sum();
            let is_full = entries.len() >= self.most;
            if !is_full && others + bytes <= self.most_bytes {
                return Ok(());
            }
            let hint = "fetch or close what was asked for, then try again";
            if !self.makes_room && is_full {
                let error = Error::new(Kind::LimitExceeded, format!("{} {}s wait already", self.most, self.what));
                return Err(error.hint(hint).retryable(true));
            }
            if !self.makes_room {
                return Err(too_much(others).hint(hint).retryable(true));
            }
            forget_oldest(entries, |entry| entry.expires);
        }
    }

    /// Puts a value, which takes so many bytes, in the place of another.
    pub(crate) fn replace(&self, handle: &Bytes, principal: &Principal, value: T, bytes: usize) -> Result<()> {
        let mut entries = self.entries();
        // Its own place is room for it.
        let Some(before) = entries.remove(handle) else { return Err(self.unknown()) };
        let replaced = if before.serves(principal) { self.make_room(&mut entries, bytes) } else { Err(self.unknown()) };
        let after = match replaced {
            Ok(()) => Entry { expires: Instant::now() + self.lifetime, principal: before.principal, bytes, value },
            Err(_) => before,
        };
        entries.insert(handle.clone(), after);
        replaced
    }

    /// Takes the value out: a second call finds nothing.
    pub(crate) fn take(&self, handle: &Bytes, principal: &Principal) -> Result<T> {
        let mut entries = self.entries();
        match entries.get(handle) {
            Some(entry) if entry.serves(principal) => {}
            _ => return Err(self.unknown()),
        }
        entries.remove(handle).map(|entry| entry.value).ok_or_else(|| self.unknown())
    }

    /// Looks at the value, which then lives on for its lifetime.
    pub(crate) fn with<R>(&self, handle: &Bytes, principal: &Principal, visit: impl FnOnce(&T) -> R) -> Result<R> {
        match self.entries().get_mut(handle) {
            Some(entry) if entry.serves(principal) => {
                entry.expires = Instant::now() + self.lifetime;
                Ok(visit(&entry.value))
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
        let kept = Handles::new("result", Duration::from_secs(60), 1, 100).refusing();
        let handle = kept.keep(7, 10, &owner)?;
        assert_eq!(kept.with(&handle, &owner, |value| *value)?, 7);
        assert_eq!(kept.keep(8, 10, &owner).map_err(|error| error.kind()), Err(Kind::LimitExceeded));
        assert_eq!(kept.take(&handle, &owner)?, 7);
        assert_eq!(kept.take(&handle, &owner).map_err(|error| error.kind()), Err(Kind::NotFound));
        let gone = Handles::new("result", Duration::ZERO, 1, 100);
        let handle = gone.keep(7, 10, &owner)?;
        assert!(gone.take(&handle, &owner).is_err());
        Ok(())
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() -> Result<()> {
        let owner = Principal::owner();
        let kept = Handles::new("result", Duration::from_secs(60), 2, 100);
        let handles = (0..3).map(|value| kept.keep(value, 10, &owner)).collect::<Result<Vec<_>>>()?;
        assert!(kept.with(&handles[0], &owner, |_| ()).is_err());
        kept.with(&handles[1], &owner, |_| ())?;
        let large = kept.keep(3, 90, &owner)?;
        assert!(kept.with(&handles[2], &owner, |_| ()).is_err());
        assert_eq!((kept.take(&handles[1], &owner)?, kept.take(&large, &owner)?), (1, 3));
        let stays = kept.keep(4, 10, &owner)?;
        assert!(kept.keep(5, 101, &owner).is_err());
        assert!(kept.replace(&stays, &owner, 4, 101).is_err());
        let other = kept.keep(6, 10, &owner)?;
        kept.replace(&stays, &owner, 4, 95)?;
        assert!(kept.with(&other, &owner, |_| ()).is_err());
        assert_eq!(kept.take(&stays, &owner)?, 4);
        Ok(())
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() -> Result<()> {
        let owner = Principal::owner();
        let kept = Handles::new("statement", Duration::from_secs(60), 10, 100).refusing();
        assert!(kept.keep(0, 101, &owner).is_err_and(|error| !error.is_retryable()));
        let (first, second) = (kept.keep(1, 60, &owner)?, kept.keep(2, 40, &owner)?);
        assert!(kept.keep(3, 1, &owner).is_err_and(|error| error.is_retryable()));
        assert!(kept.replace(&first, &owner, 9, 61).is_err());
        kept.forget(&second, &owner);
        kept.replace(&first, &owner, 9, 100)?;
        assert_eq!(kept.take(&first, &owner)?, 9);
        kept.keep(4, 100, &owner).map(drop)
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::Error;

/// How much is remembered of what was asked: so many statements, and so many letters of each.
const MOST_ASKED: usize = 100;
const LONGEST: usize = 64 * 1024;

/// The sites and databases of a query: what they were asked, which of them have not answered yet, and until when they are waited for.
///
/// A query's session carries one as an extension.
#[derive(Debug, Default)]
pub struct Remotes {
    names: Mutex<BTreeMap<String, usize>>,
    ends: OnceLock<Instant>,
    has_stand_ins: AtomicBool,
    is_again: AtomicBool,
    asked: Mutex<BTreeSet<(String, String)>>,
}

impl Remotes {
    /// Nobody is waited for after `at`, which is said once.
    pub fn end(&self, at: Instant) {
        self.ends.get_or_init(|| at);
    }

    /// Until when somebody is waited for, if that is known.
    pub fn ends(&self) -> Option<Instant> {
        self.ends.get().copied()
    }

    /// Notes that others have what one of those has that are asked.
    pub fn has_stand_in(&self) {
        self.has_stand_ins.store(true, Ordering::Relaxed);
    }

    /// Whether others may be asked in the place of one that fails.
    pub fn has_stand_ins(&self) -> bool {
        self.has_stand_ins.load(Ordering::Relaxed)
    }

    /// Notes that all is planned and asked once more: whoever waits for the answer was told by now what it lacks.
    pub fn again(&self) {
        self.is_again.store(true, Ordering::Relaxed);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this is not the first time.
    pub fn is_again(&self) -> bool {
        self.is_again.load(Ordering::Relaxed)
    }

    /// Notes that one of them is asked something.
    pub fn ask(&self, name: &str, text: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MOST_ASKED {
            asked.insert((name.to_owned(), text.chars().take(LONGEST).collect()));
        }
    }

    /// Who was asked what.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Somebody is waited for until what is returned is dropped.
    #[must_use]
    pub fn on(self: &Arc<Self>, name: &str) -> Waiting {
        *self.held().entry(name.to_owned()).or_default() += 1;
        Waiting { remotes: Arc::clone(self), name: name.to_owned() }
    }

    /// An error with those who are waited for, if there are any.
    #[must_use]
    pub fn told(&self, error: Error) -> Error {
        let names: Vec<String> = self.held().keys().cloned().collect();
        if names.is_empty() { error } else { error.with("waiting for", names.join(", ")) }
    }

    /// A poisoned lock only means that another thread panicked; the names are valid at every instant.
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That somebody is waited for.
#[derive(Debug)]
pub struct Waiting {
    remotes: Arc<Remotes>,
    name: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut names = self.remotes.held();
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn who_is_waited_for_is_told() {
        let waits = Arc::new(Remotes::default());
        let late = || waits.told(Error::new(Kind::DeadlineExceeded, "late")).to_string();
        let (far, again) = (waits.on("far"), waits.on("far"));
        drop(far);
        assert_eq!(late(), "late (waiting for: far)");
        drop(again);
        assert_eq!(late(), "late");
    }
}

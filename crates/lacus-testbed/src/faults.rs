use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server answers with this status and no body.
    Status(u16),
    /// The server waits before it answers.
    Slow(Duration),
    /// The connection closes after so many bytes of the body.
    Truncated(usize),
    /// The connection closes without an answer.
    Reset,
    /// The entity tag is another one.
    ChangedTag,
    /// The body comes in pieces with waits between them.
    Trickle(Duration),
}

/// The faults in front of a server, and what it was asked.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    /// Requests that arrived.
    requests: AtomicU64,
    /// Bytes of bodies that were sent.
    sent: AtomicU64,
    delay: Mutex<Duration>,
}

#[derive(Debug)]
struct Rule {
    path: String,
    fault: Fault,
    times: usize,
}

impl Faults {
    /// The next `times` GET requests whose path contains `path` meet `fault`.
    pub fn inject(&self, path: &str, fault: Fault, times: usize) {
        self.rules().push(Rule { path: path.to_owned(), fault, times });
    }

    /// No faults from now on.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// Every answer takes this much longer: the round trip to a server far away.
    pub fn set_delay(&self, delay: Duration) {
        *self.delay.lock().unwrap_or_else(PoisonError::into_inner) = delay;
    }

    /// Requests that arrived so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn delay(&self) -> Duration {
        *self.delay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The fault that a request for `path` meets, used up by one.
    pub(crate) fn meet(&self, path: &str) -> Option<Fault> {
        let mut rules = self.rules();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && path.contains(&rule.path))?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

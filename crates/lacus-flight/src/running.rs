//! What clients are fetching: so that it can be cancelled by whoever may.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use lacus_core::{Principal, Result};

/// Who fetches what a ticket stands for, and the queries behind it.
type Fetched = HashMap<Bytes, (Principal, Vec<String>)>;

/// The queries behind each ticket that is being fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Fetched>>);

impl Running {
    /// What `take` gives, whose queries are known under `ticket` until the guard is dropped. Nobody sees the ticket taken and not yet known.
    pub(crate) fn take<T>(
        &self,
        ticket: &Bytes,
        principal: &Principal,
        take: impl FnOnce() -> Result<(T, Vec<String>)>,
    ) -> Result<(T, Guard)> {
        let mut held = self.held();
        let (taken, queries) = take()?;
        held.insert(ticket.clone(), (principal.clone(), queries));
        Ok((taken, Guard { running: self.clone(), ticket: ticket.clone() }))
    }

    /// The queries behind a ticket of this principal.
    pub(crate) fn queries(&self, ticket: &Bytes, principal: &Principal) -> Option<Vec<String>> {
        let held = self.held();
        held.get(ticket).filter(|(of, _)| of == principal).map(|(_, queries)| queries.clone())
    }

    /// A poisoned lock only means that another thread panicked; the map is valid at every instant.
    fn held(&self) -> MutexGuard<'_, Fetched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a ticket when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    running: Running,
    ticket: Bytes,
}

impl Guard {
    /// `stream`, known until it ends or is dropped.
    pub(crate) fn around<S>(self, stream: S) -> Followed<S> {
        Followed { stream, _guard: self }
    }
}

/// A stream that is being fetched.
#[derive(Debug)]
pub(crate) struct Followed<S> {
    stream: S,
    _guard: Guard,
}

impl<S: Stream + Unpin> Stream for Followed<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(context)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.held().remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_for_as_long_as_it_is_fetched() {
        let (running, owner, ticket) = (Running::default(), Principal::owner(), Bytes::from_static(b"ticket"));
        let taken = running.take(&ticket, &owner, || Ok(((), vec!["query".to_owned()])));
        assert_eq!(running.queries(&ticket, &owner), Some(vec!["query".to_owned()]));
        assert_eq!(running.queries(&Bytes::from_static(b"other"), &owner), None);
        drop(taken);
        assert_eq!(running.queries(&ticket, &owner), None);
    }
}

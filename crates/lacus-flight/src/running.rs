//! What clients are fetching: so that it can be cancelled by whoever may.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use lacus_core::Principal;

/// Who fetches what a ticket stands for, and the queries behind it.
type Fetched = HashMap<Bytes, (Principal, Vec<String>)>;

/// The queries behind each ticket that is being fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Fetched>>);

impl Running {
    /// `stream`, known under `ticket` until it ends or is dropped.
    pub(crate) fn follow<S>(&self, ticket: &Bytes, principal: &Principal, queries: Vec<String>, stream: S) -> Followed<S> {
        self.held().insert(ticket.clone(), (principal.clone(), queries));
        Followed { stream, running: self.clone(), ticket: ticket.clone() }
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

/// A stream that is being fetched.
#[derive(Debug)]
pub(crate) struct Followed<S> {
    stream: S,
    running: Running,
    ticket: Bytes,
}

impl<S: Stream + Unpin> Stream for Followed<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(context)
    }
}

impl<S> Drop for Followed<S> {
    fn drop(&mut self) {
        self.running.held().remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_known_for_as_long_as_it_lives_and_to_its_principal() {
        let (running, owner, ticket) = (Running::default(), Principal::owner(), Bytes::from_static(b"ticket"));
        let stream = running.follow(&ticket, &owner, vec!["query".to_owned()], ());
        assert_eq!(running.queries(&ticket, &owner), Some(vec!["query".to_owned()]));
        assert_eq!(running.queries(&Bytes::from_static(b"other"), &owner), None);
        drop(stream);
        assert_eq!(running.queries(&ticket, &owner), None);
    }
}

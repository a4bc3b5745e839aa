//! Whose query runs next.
//!
//! So many queries run at once, and so many wait. No principal takes all of either: a part is left to those who have none. Of those that
//! wait, the next is of who has the fewest that run, and of these the one that came first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lacus_core::{Error, Kind, Principal, PrincipalKind, Result};
use lacus_policy::Limit;
use tokio::sync::oneshot;

/// The part of what there is that nobody takes who has some already: a quarter.
const LEFT: usize = 4;

/// Who shares: all queries of one name are of one principal, whatever its tokens say.
pub(crate) type Name = (PrincipalKind, String);

pub(crate) fn name_of(principal: &Principal) -> Name {
    (principal.kind(), principal.name().to_owned())
}

/// The turns of an engine.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    most_waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<Name, usize>,
    total: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    name: Name,
    /// How many of its queries may run at once.
    allowed: usize,
    give: oneshot::Sender<Slot>,
}

/// A turn, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    name: Name,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give_back(&self.name);
    }
}

/// A turn, or the wait for one.
pub(crate) enum Turn {
    Now(Slot),
    Later(oneshot::Receiver<Slot>),
}

impl State {
    fn of(&self, name: &Name) -> usize {
        self.running.get(name).copied().unwrap_or(0)
    }

    /// Whether a query of `name` may run now.
    fn may_run(&self, name: &Name, allowed: usize, most: usize) -> bool {
        let own = self.of(name);
        let left = if own == 0 { 0 } else { most / LEFT };
        own < allowed && self.total + left < most
    }

    fn run(&mut self, name: &Name) {
        self.total += 1;
        *self.running.entry(name.clone()).or_default() += 1;
    }

    /// The place of who is next, if anybody may run.
    fn next(&self, most: usize) -> Option<usize> {
        let may_run = self.waiting.iter().enumerate().filter(|(_, waiting)| self.may_run(&waiting.name, waiting.allowed, most));
        may_run.min_by_key(|(place, waiting)| (self.of(&waiting.name), *place)).map(|(place, _)| place)
    }
}

impl Slots {
    /// At most `most` at once, and `most_waiting` behind them.
    pub(crate) fn new(most: usize, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self { most, most_waiting, state: Mutex::default() })
    }

    /// A poisoned lock only means that another thread panicked; the counts behind it are whole at every instant.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for a query of `principal`, of whose queries so many may run and wait as `limit` says.
    ///
    /// # Errors
    /// `LimitExceeded` when too many wait.
    pub(crate) fn turn(self: &Arc<Self>, principal: &Principal, limit: Option<&Limit>) -> Result<Turn> {
        let name = name_of(principal);
        let allowed = limit.and_then(|limit| limit.queries).unwrap_or(usize::MAX);
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.give.is_closed());
        let is_first = !state.waiting.iter().any(|waiting| waiting.name == name);
        if is_first && state.may_run(&name, allowed, self.most) {
            state.run(&name);
            return Ok(Turn::Now(Slot { slots: Arc::clone(self), name }));
        }
        let (running, waiting) = (state.of(&name), state.waiting.iter().filter(|waiting| waiting.name == name).count());
        let left = if waiting == 0 { 0 } else { self.most_waiting / LEFT };
        if let Some(limit) = limit.filter(|limit| limit.queue.is_some_and(|queue| waiting >= queue)) {
            let message = format!("{running} queries of `{}` run and {waiting} wait for them, which is as many as may", principal.name());
            return Err(Error::new(Kind::LimitExceeded, message)
                .with("limit", &limit.name)
                .hint("try again later, or ask whoever keeps the policy of this lake for more")
                .retryable(true));
        }
        if state.waiting.len() + left >= self.most_waiting {
            let message = format!("{} queries run and {} wait for them", state.total, state.waiting.len());
            return Err(Error::new(Kind::LimitExceeded, message)
                .hint("try again later, or raise `queries` or `queue` under [limits]")
                .retryable(true));
        }
        let (give, take) = oneshot::channel();
        state.waiting.push_back(Waiting { name, allowed, give });
        Ok(Turn::Later(take))
    }

    fn give_back(self: &Arc<Self>, name: &Name) {
        let mut state = self.state();
        state.total = state.total.saturating_sub(1);
        if let Some(running) = state.running.get_mut(name) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(name);
            }
        }
        state.waiting.retain(|waiting| !waiting.give.is_closed());
        let mut given = Vec::new();
        while let Some(Waiting { name, give, .. }) = state.next(self.most).and_then(|place| state.waiting.remove(place)) {
            state.run(&name);
            given.push((give, Slot { slots: Arc::clone(self), name }));
        }
        // Who went away meanwhile gives it back, which locks again.
        drop(state);
        for (give, slot) in given {
            drop(give.send(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use lacus_policy::Policy;

    use super::*;

    fn now(turn: Result<Turn>) -> Option<Slot> {
        match turn {
            Ok(Turn::Now(slot)) => Some(slot),
            _ => None,
        }
    }

    #[test]
    fn nobody_takes_all() -> Result<()> {
        let slots = Slots::new(8, 8);
        let (ada, bob) = (Principal::user("ada"), Principal::user("bob"));
        let mut of_ada: Vec<_> = (0..6).map(|_| now(slots.turn(&ada, None))).collect();
        assert!(of_ada.iter().all(Option::is_some));
        let Turn::Later(mut next) = slots.turn(&ada, None)? else { return Err(Error::new(Kind::Internal, "a quarter is left")) };
        let (first, second) = (now(slots.turn(&bob, None)), now(slots.turn(&bob, None)));
        assert!(first.is_some() && second.is_none());
        // The turn that comes free is for who has fewer.
        let Turn::Later(mut of_bob) = slots.turn(&bob, None)? else { return Err(Error::new(Kind::Internal, "a quarter is left")) };
        of_ada.truncate(4);
        assert!(of_bob.try_recv().is_ok() || next.try_recv().is_ok());
        drop((of_ada, first, next));
        let state = slots.state();
        assert_eq!((state.total, state.waiting.len()), (0, 0));
        Ok(())
    }

    #[test]
    fn so_many_wait_and_who_went_away_is_passed_over() -> Result<()> {
        let slots = Slots::new(1, 4);
        let (ada, bob) = (Principal::user("ada"), Principal::user("bob"));
        let running = now(slots.turn(&ada, None));
        let mut waiting = (0..3).map(|_| slots.turn(&ada, None)).collect::<Result<Vec<_>>>()?;
        assert!(slots.turn(&ada, None).is_err());
        let Turn::Later(mut of_bob) = slots.turn(&bob, None)? else { return Err(Error::new(Kind::Internal, "one runs")) };
        let policy = Policy::parse("[[limit]]\nname = \"few\"\nto = [\"user:bob\"]\nqueue = 1")?;
        let refused = slots.turn(&bob, policy.limit_of(&bob).as_deref()).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|refused| refused.contains("limit: few")));
        waiting.remove(0);
        drop(running);
        let Some(Turn::Later(next)) = waiting.first_mut() else { return Err(Error::new(Kind::Internal, "one runs")) };
        let slot = next.try_recv().ok();
        assert!(slot.is_some());
        // The next in line goes away with its turn.
        drop((slot, waiting));
        assert!(of_bob.try_recv().is_ok());
        Ok(())
    }
}

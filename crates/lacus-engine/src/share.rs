//! Computing, shared by those who ask.
//!
//! What computes a batch takes milliseconds, and a runtime runs tasks in the order in which they are woken: behind fifty queries of one
//! principal, each with a task a core, the point query of another would wait for a hundred batches at each of its steps. So the tasks of
//! one principal's queries take turns among themselves: no more of them compute at once than there are cores, and one fewer while somebody
//! else computes, too. The others wait here, and not in the queue of the runtime, which stays short for everybody.
//!
//! A turn is one poll of a task.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::future::BoxFuture;
use lacus_core::{Error, Kind, Principal, Result};
use tokio::time::Sleep;

use crate::slots::{Name, name_of};
use crate::watched::Watch;

/// How long somebody who computed is reckoned with.
const RECENT: Duration = Duration::from_millis(100);
/// After how long one that waits looks again by itself: who was woken in its stead may never come.
const PATIENCE: Duration = Duration::from_millis(100);

/// All who compute in this process: the cores are its own, however many engines it has.
static SHARES: LazyLock<Shares> =
    LazyLock::new(|| Shares { cores: std::thread::available_parallelism().map_or(1, usize::from), lanes: Mutex::default() });

thread_local! {
    /// On whose behalf this thread computes now.
    static CURRENT: RefCell<Option<Now>> = const { RefCell::new(None) };
}

/// On whose behalf a thread computes, and whether it has a turn for that.
#[derive(Debug, Clone)]
struct Now {
    lane: Arc<Lane>,
    has_turn: bool,
}

struct Shares {
    cores: usize,
    lanes: Mutex<HashMap<Name, Queue>>,
}

/// The tasks of a principal.
#[derive(Default)]
struct Queue {
    /// How many queries of it there are.
    queries: usize,
    computing: usize,
    last: Option<Instant>,
    waiting: VecDeque<(u64, Waker)>,
    tickets: u64,
}

impl Queue {
    fn is_active(&self) -> bool {
        self.computing > 0 || !self.waiting.is_empty() || self.last.is_some_and(|last| last.elapsed() < RECENT)
    }
}

impl Shares {
    /// A poisoned lock only means that another thread panicked; the counts behind it are whole at every instant.
    fn lanes(&self) -> MutexGuard<'_, HashMap<Name, Queue>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks of `name` may compute at once.
    fn allowed(&self, lanes: &HashMap<Name, Queue>, name: &Name) -> usize {
        let is_alone = !lanes.iter().any(|(other, queue)| other != name && queue.is_active());
        if is_alone { self.cores } else { (self.cores - 1).max(1) }
    }
}

/// The share of one principal in the computing of this process.
#[derive(Debug)]
pub(crate) struct Lane {
    name: Name,
    watch: Watch,
}

impl Lane {
    /// The share of `principal`, for as long as a query of it holds this, which ends as `watch` says.
    pub(crate) fn of(principal: &Principal, watch: Watch) -> Arc<Self> {
        let name = name_of(principal);
        let mut lanes = SHARES.lanes();
        lanes.retain(|_, queue| queue.queries > 0 || queue.is_active());
        let queue = lanes.entry(name.clone()).or_default();
        queue.queries += 1;
        // Who begins to plan will compute in a moment.
        queue.last = Some(Instant::now());
        drop(lanes);
        Arc::new(Self { name, watch })
    }

    /// Takes a turn, or waits for one.
    fn enter(&self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        let mut lanes = SHARES.lanes();
        let allowed = SHARES.allowed(&lanes, &self.name);
        let Some(queue) = lanes.get_mut(&self.name) else { return true };
        let is_next = queue.waiting.front().is_none_or(|(first, _)| Some(*first) == *ticket);
        // One that was woken is no longer in the queue, and goes first.
        let was_woken = ticket.is_some_and(|ticket| queue.waiting.iter().all(|(waiting, _)| *waiting != ticket));
        if queue.computing < allowed && (is_next || was_woken) {
            queue.waiting.retain(|(waiting, _)| Some(*waiting) != *ticket);
            *ticket = None;
            queue.computing += 1;
            return true;
        }
        match *ticket {
            Some(own) if was_woken => queue.waiting.push_front((own, waker.clone())),
            Some(own) => queue.waiting.iter_mut().filter(|(waiting, _)| *waiting == own).for_each(|(_, known)| known.clone_from(waker)),
            None => {
                queue.tickets += 1;
                *ticket = Some(queue.tickets);
                queue.waiting.push_back((queue.tickets, waker.clone()));
            }
        }
        false
    }

    /// Ends a turn, and wakes who is next.
    fn leave(&self) {
        let mut lanes = SHARES.lanes();
        let allowed = SHARES.allowed(&lanes, &self.name);
        let Some(queue) = lanes.get_mut(&self.name) else { return };
        queue.computing = queue.computing.saturating_sub(1);
        queue.last = Some(Instant::now());
        let free = allowed.saturating_sub(queue.computing);
        let next: Vec<Waker> = (0..free).map_while(|_| queue.waiting.pop_front()).map(|(_, waker)| waker).collect();
        drop(lanes);
        next.into_iter().for_each(Waker::wake);
    }

    fn forget(&self, ticket: u64) {
        if let Some(queue) = SHARES.lanes().get_mut(&self.name) {
            queue.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut lanes = SHARES.lanes();
        if let Some(queue) = lanes.get_mut(&self.name) {
            // The next query of who asks one after the other is about to come: its core is kept for as long as it is reckoned with.
            queue.queries = queue.queries.saturating_sub(1);
            queue.last = Some(Instant::now());
        }
    }
}

/// On whose behalf a thread computed before.
struct Inside(Option<Now>);

impl Inside {
    fn enter(now: Option<Now>) -> Self {
        Self(CURRENT.replace(now))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// One turn.
struct Turn<'a>(&'a Lane);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A place among the tasks of a principal; `None` for what computes in the turn of another.
#[derive(Debug)]
pub(crate) struct Seat {
    lane: Option<Arc<Lane>>,
    ticket: Option<u64>,
    again: Option<Pin<Box<Sleep>>>,
}

impl Seat {
    pub(crate) fn new(lane: Option<Arc<Lane>>) -> Self {
        Self { lane, ticket: None, again: None }
    }

    /// Does `work`, which begins tasks.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = Inside::enter(self.lane.clone().map(|lane| Now { lane, has_turn: false }));
        work()
    }

    /// Polls `work` when it is its turn.
    pub(crate) fn poll<T>(&mut self, context: &mut Context<'_>, work: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Some(lane) = &self.lane else {
            let _inside = Inside::enter(None);
            return work(context);
        };
        // What polls this has the turn, and waits for what it gives.
        if CURRENT.with_borrow(Option::is_some) {
            return work(context);
        }
        while !lane.enter(&mut self.ticket, context.waker()) {
            let again = self.again.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
            ready!(again.as_mut().poll(context));
            self.again = None;
        }
        self.again = None;
        let _turn = Turn(lane);
        let _inside = Inside::enter(Some(Now { lane: Arc::clone(lane), has_turn: true }));
        work(context)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let (Some(lane), Some(ticket)) = (&self.lane, self.ticket) {
            lane.forget(ticket);
        }
    }
}

/// A task that takes turns.
struct Taking<F> {
    work: F,
    seat: Seat,
}

impl<F: Future + Unpin> Future for Taking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, seat } = &mut *self;
        seat.poll(context, |context| Pin::new(work).poll(context))
    }
}

/// Has the tasks that operators begin take turns.
struct Tasks;

impl JoinSetTracer for Tasks {
    fn trace_future(&self, future: BoxFuture<'static, Box<dyn std::any::Any + Send>>) -> BoxFuture<'static, Box<dyn std::any::Any + Send>> {
        match CURRENT.with_borrow(Clone::clone) {
            Some(Now { lane, .. }) => Box::pin(Taking { work: future, seat: Seat::new(Some(lane)) }),
            None => future,
        }
    }

    fn trace_block(
        &self,
        block: Box<dyn FnOnce() -> Box<dyn std::any::Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn std::any::Any + Send> + Send> {
        block
    }
}

/// Does what doesn't compute, or computes on nobody's turn, in the course of a query: it waits for another program, or for another query. The
/// turn of the query is for others meanwhile.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let before = CURRENT.take();
    let _again = before.as_ref().filter(|now| now.has_turn).map(|now| {
        now.lane.leave();
        Again(Arc::clone(&now.lane))
    });
    let _inside = Inside(before);
    work()
}

/// The way back to a turn, which nobody waits for: the thread is there.
struct Again(Arc<Lane>);

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(queue) = SHARES.lanes().get_mut(&self.0.name) {
            queue.computing += 1;
        }
    }
}

/// Whether the query on whose behalf this thread computes is still wanted.
fn look() -> Result<()> {
    let now = CURRENT.with_borrow(Clone::clone);
    now.map_or(Ok(()), |now| now.lane.watch.look(|| late("the query took too long, computing of one group of rows")))
}

/// What tells, on any thread and also from [`aside`], whether the query on whose behalf this thread computes is still wanted.
///
/// # Errors
///
/// What it gives fails when the query was cancelled, or has taken too long.
pub fn wanted() -> impl Fn() -> Result<()> {
    let now = CURRENT.with_borrow(Clone::clone);
    let too_long = || late("the query took too long, waiting for a function of its own");
    move || now.as_ref().map_or(Ok(()), |now| now.lane.watch.check(too_long))
}

fn late(message: &'static str) -> Error {
    Error::new(Kind::DeadlineExceeded, message).hint("narrow the query, or raise `deadline` under [limits]")
}

/// Has the tasks of all engines of this process take turns, and what computes for long know whether it is wanted.
pub(crate) fn install() {
    lacus_core::know_wanted(look);
    // A program that traces tasks of its own sees them all; they take turns no more, and that is all.
    let _ = set_join_set_tracer(&Tasks);
}

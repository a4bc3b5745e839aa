//! Memory, shared by queries first and by their operators second.
//!
//! Operators that can spill share what the others leave: each query gets an equal part of it, and so does each of its operators, so that
//! a query with many operators can't push out one with few. What can't spill, such as the table of a hash join, may take what is free,
//! but beyond the query's equal part only as long as a reserve stays free for the others. A sort that merges what it has spilled opens as
//! many runs at once as it may, and two would do: it gets an equal part of its query's, so that sorts side by side all come to their end.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size};

use crate::slots::Name;

/// The part of the memory that one query leaves to the others when it takes more than its equal part.
const RESERVE: usize = 4;
/// What DataFusion calls the merging of what a sort has spilled, with the number of a partition behind it.
const MERGE: &str = "ExternalSorterMerge";

fn merges(consumer: &MemoryConsumer) -> bool {
    consumer.name().starts_with(MERGE)
}

/// The memory of an engine.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    limit: usize,
    held: Mutex<Held>,
    users: Mutex<HashMap<Name, Weak<OfUser>>>,
}

/// What the queries of one user use together. Its memory is changed where [`Held`] is locked.
#[derive(Debug, Default)]
struct OfUser {
    held: AtomicUsize,
    /// Its queries that have operators which can spill.
    spilling_queries: AtomicUsize,
    spilled: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    spillable: usize,
    unspillable: usize,
    /// Queries that have operators which hold memory, and those of them that have such as can spill.
    queries: usize,
    spilling_queries: usize,
}

impl SharedMemory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default(), users: Mutex::default() })
    }

    /// Bytes that all queries hold.
    pub(crate) fn reserved(&self) -> usize {
        self.with(|held| held.spillable + held.unspillable)
    }

    /// Bytes that all queries may hold.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The memory of one more query, which may hold at most `limit` bytes of it.
    pub(crate) fn of_query(self: &Arc<Self>, limit: Option<usize>) -> QueryMemory {
        self.query(limit, Arc::default(), None)
    }

    /// The memory of one more query of a user, whose queries may hold at most `together` bytes.
    pub(crate) fn of_user(self: &Arc<Self>, limit: Option<usize>, user: Name, together: Option<usize>) -> QueryMemory {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, user| user.strong_count() > 0);
        let known = users.get(&user).and_then(Weak::upgrade).unwrap_or_default();
        users.insert(user, Arc::downgrade(&known));
        self.query(limit, known, together)
    }

    fn query(self: &Arc<Self>, limit: Option<usize>, user: Arc<OfUser>, together: Option<usize>) -> QueryMemory {
        let (shared, own, peak) = (Arc::clone(self), Mutex::default(), AtomicUsize::new(0));
        QueryMemory(Arc::new(Query { shared, limit, user, together, own, peak }))
    }

    /// A poisoned lock only means that another thread panicked: the sums behind it are whole at every instant.
    fn with<T>(&self, action: impl FnOnce(&mut Held) -> T) -> T {
        action(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The memory of one query.
#[derive(Debug, Clone)]
pub(crate) struct QueryMemory(Arc<Query>);

#[derive(Debug)]
struct Query {
    shared: Arc<SharedMemory>,
    limit: Option<usize>,
    user: Arc<OfUser>,
    /// What all queries of the user may hold.
    together: Option<usize>,
    /// Locked before what all queries share.
    own: Mutex<Own>,
    peak: AtomicUsize,
}

#[derive(Debug, Default)]
struct Own {
    held: usize,
    spilled: u64,
    consumers: usize,
    spilling: usize,
    /// Sorts that merge what they have spilled, or will.
    merging: usize,
}

impl QueryMemory {
    /// Bytes that the query holds.
    pub(crate) fn held(&self) -> usize {
        self.own(|own| own.held)
    }

    /// The most bytes that it held at once.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Counts what the query has spilled; gives what all queries of its user have that run.
    pub(crate) fn spilled(&self, bytes: u64) -> u64 {
        self.own(|own| {
            // One step, so that nobody sees the bytes of before and of now together.
            let more = bytes.wrapping_sub(std::mem::replace(&mut own.spilled, bytes));
            self.0.user.spilled.fetch_add(more, Ordering::Relaxed).wrapping_add(more)
        })
    }

    fn own<T>(&self, action: impl FnOnce(&mut Own) -> T) -> T {
        action(&mut self.0.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, own: &mut Own, held: &mut Held, spills: bool, bytes: usize) {
        let sum = if spills { &mut held.spillable } else { &mut held.unspillable };
        *sum += bytes;
        own.held += bytes;
        self.0.user.held.fetch_add(bytes, Ordering::Relaxed);
        self.0.peak.fetch_max(own.held, Ordering::Relaxed);
    }

    fn refused(&self, reservation: &MemoryReservation, additional: usize, left: usize, limit: usize, whose: &str) -> DataFusionError {
        let sizes = [additional, reservation.size(), left, limit].map(human_readable_size);
        let [additional, has, left, limit] = sizes;
        DataFusionError::ResourcesExhausted(format!(
            "`{}` needs {additional} beyond the {has} that it has, and {left} are left to it of the {limit} that {whose}",
            reservation.consumer().name()
        ))
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own(|own| {
            self.0.shared.with(|held| {
                held.queries += usize::from(own.consumers == 0);
                own.consumers += 1;
                own.merging += usize::from(merges(consumer));
                if consumer.can_spill() {
                    held.spilling_queries += usize::from(own.spilling == 0);
                    self.0.user.spilling_queries.fetch_add(usize::from(own.spilling == 0), Ordering::Relaxed);
                    own.spilling += 1;
                }
            });
        });
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own(|own| {
            self.0.shared.with(|held| {
                own.consumers = own.consumers.saturating_sub(1);
                own.merging = own.merging.saturating_sub(usize::from(merges(consumer)));
                held.queries -= usize::from(own.consumers == 0 && held.queries > 0);
                if consumer.can_spill() {
                    own.spilling = own.spilling.saturating_sub(1);
                    held.spilling_queries -= usize::from(own.spilling == 0 && held.spilling_queries > 0);
                    self.0.user.spilling_queries.fetch_sub(usize::from(own.spilling == 0), Ordering::Relaxed);
                }
            });
        });
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own(|own| self.0.shared.with(|held| self.take(own, held, reservation.consumer().can_spill(), additional)));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own(|own| {
            self.0.shared.with(|held| {
                let sum = if reservation.consumer().can_spill() { &mut held.spillable } else { &mut held.unspillable };
                *sum = sum.saturating_sub(shrink);
                let shrunk = shrink.min(own.held);
                own.held -= shrunk;
                self.0.user.held.fetch_sub(shrunk, Ordering::Relaxed);
            });
        });
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let limit = self.0.shared.limit;
        self.own(|own| {
            if let Some(most) = self.0.limit.filter(|most| own.held + additional > *most) {
                return Err(self.refused(reservation, additional, most.saturating_sub(own.held), most, "one query may hold"));
            }
            self.0.shared.with(|held| {
                let spills = reservation.consumer().can_spill();
                if let Some(most) = self.0.together {
                    let mut left = most.saturating_sub(self.0.user.held.load(Ordering::Relaxed));
                    // One that took all would leave the next nothing that it could spill.
                    if spills {
                        let queries = self.0.user.spilling_queries.load(Ordering::Relaxed);
                        let part = most / queries.max(1) / own.spilling.max(1);
                        left = left.min(part.saturating_sub(reservation.size()));
                    }
                    if additional > left {
                        return Err(self.refused(reservation, additional, left, most, "all queries of one user may hold"));
                    }
                }
                let free = limit.saturating_sub(held.unspillable + held.spillable);
                let left = if spills {
                    let shared = limit.saturating_sub(held.unspillable) / held.spilling_queries.max(1) / own.spilling.max(1);
                    shared.saturating_sub(reservation.size())
                } else if merges(reservation.consumer()) {
                    let part = limit / held.queries.max(1) / own.merging.max(1);
                    free.min(part.saturating_sub(reservation.size()))
                } else {
                    let fair = (limit / held.queries.max(1)).saturating_sub(own.held);
                    // A query that is alone may take all.
                    let reserve = if held.queries > 1 { limit / RESERVE } else { 0 };
                    free.min(fair.max(free.saturating_sub(reserve)))
                };
                if additional > left {
                    return Err(self.refused(reservation, additional, left, limit, "all queries share"));
                }
                self.take(own, held, spills, additional);
                Ok(())
            })
        })
    }

    fn reserved(&self) -> usize {
        self.held()
    }

    fn memory_limit(&self) -> MemoryLimit {
        let limits = [Some(self.0.shared.limit), self.0.limit, self.0.together];
        MemoryLimit::Finite(limits.into_iter().flatten().min().unwrap_or(usize::MAX))
    }
}

impl Display for QueryMemory {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "query({} of {})", human_readable_size(self.held()), human_readable_size(self.0.shared.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation(memory: &QueryMemory, name: &str, spills: bool) -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = Arc::new(memory.clone());
        MemoryConsumer::new(name).with_can_spill(spills).register(&pool)
    }

    #[test]
    fn queries_share_equally_whatever_their_operators() -> Result<()> {
        let shared = SharedMemory::new(1200);
        let (many, few) = (shared.of_query(None), shared.of_query(None));
        let sorts: Vec<_> = (0..3).map(|number| reservation(&many, &format!("sort{number}"), true)).collect();
        let sort = reservation(&few, "sort", true);
        assert!(sorts[0].try_grow(201).is_err());
        sorts.iter().try_for_each(|sort| sort.try_grow(200))?;
        sort.try_grow(600)?;
        assert_eq!((shared.reserved(), many.held(), few.peak()), (1200, 600, 600));
        drop(sorts);
        assert_eq!((shared.reserved(), many.held(), many.peak()), (600, 0, 600));
        Ok(())
    }

    #[test]
    fn sorts_that_merge_leave_their_parts_to_each_other() -> Result<()> {
        let shared = SharedMemory::new(1000);
        let query = shared.of_query(None);
        let merges: Vec<_> = (0..2).map(|number| reservation(&query, &format!("ExternalSorterMerge[{number}]"), false)).collect();
        assert!(merges[0].try_grow(501).is_err());
        merges[0].try_grow(500)?;
        merges[1].try_grow(500)
    }

    #[test]
    fn queries_of_a_user_are_bounded_together() -> Result<()> {
        let shared = SharedMemory::new(1000);
        let name = |name: &str| (lacus_core::PrincipalKind::User, name.to_owned());
        let queries: Vec<_> = (0..2).map(|_| shared.of_user(None, name("ada"), Some(300))).collect();
        let other = shared.of_user(None, name("bob"), Some(300));
        let sorts: Vec<_> = queries.iter().chain([&other]).map(|query| reservation(query, "sort", true)).collect();
        // Each has an equal part, and what can't spill what is left.
        sorts[0].try_grow(150)?;
        assert!(sorts[0].try_grow(1).is_err());
        sorts[2].try_grow(300)?;
        let table = reservation(&queries[0], "HashJoinInput", false);
        table.try_grow(100)?;
        let error = sorts[1].try_grow(51).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("all queries of one user may hold"), "{error}");
        drop(table);
        sorts[1].try_grow(150)?;
        assert_eq!((queries[0].spilled(10), queries[1].spilled(5), queries[0].spilled(20), other.spilled(1)), (10, 15, 25, 1));
        assert_eq!(queries[0].spilled(0), 5);
        Ok(())
    }

    #[test]
    fn what_can_not_spill_leaves_a_reserve() -> Result<()> {
        let shared = SharedMemory::new(1000);
        let (first, second) = (shared.of_query(None), shared.of_query(Some(100)));
        let table = reservation(&first, "HashJoinInput", false);
        table.try_grow(700)?;
        let other = reservation(&second, "HashJoinInput", false);
        // With another query about, a quarter stays free.
        assert!(table.try_grow(100).is_err());
        table.try_grow(50)?;
        other.try_grow(100)?;
        let error = other.try_grow(1).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("`HashJoinInput` needs 1.0 B") && error.contains("one query may hold"), "{error}");
        drop(other);
        table.try_grow(250)?;
        assert_eq!(shared.reserved(), 1000);
        Ok(())
    }
}

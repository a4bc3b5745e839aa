//! What all queries of an engine did: sums over their records, for those who watch a server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lacus_storage::{Operation, StoreReads};

use crate::activity::{Record, Stage};

/// What the queries of an engine did since it was built, and what they do now. It counts queries alone: what is read to list tables or to
/// build an index is in none.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Queries that ended, by how: finished, failed, cancelled, killed.
    pub ended: [u64; Totals::OUTCOMES.len()],
    /// Queries that run.
    pub running: u64,
    /// Queries that wait for their turn.
    pub queued: u64,
    /// How long those that ended took, waiting included.
    pub durations: Durations,
    /// Rows that were handed out.
    pub rows: u64,
    /// Bytes written to the spill folder.
    pub spilled: u64,
    /// What was asked of each store, by its name.
    pub stores: Vec<StoreReads>,
    /// Bytes of memory that operators hold.
    pub memory_reserved: u64,
    /// Bytes of memory that they may hold.
    pub memory_limit: u64,
}

/// How long queries took.
#[derive(Debug, Clone, Default)]
pub struct Durations {
    /// How many took no longer than the bound of this place and longer than the one before; the last is beyond all bounds.
    pub counts: [u64; Durations::BOUNDS.len() + 1],
    /// All together.
    pub sum: Duration,
}

impl Durations {
    /// The bounds in seconds: from a look at metadata to the default deadline.
    pub const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[place] += 1;
        self.sum += duration;
    }
}

impl Totals {
    /// How a query can end, in the order of `ended`.
    pub const OUTCOMES: [&'static str; 5] = ["finished", "failed", "denied", "cancelled", "killed"];

    pub(crate) fn add_ended(&mut self, record: &Record) {
        let outcome = record.stage().name();
        if let Some(place) = Self::OUTCOMES.iter().position(|known| *known == outcome) {
            self.ended[place] += 1;
        }
        self.durations.add(record.elapsed());
        self.add_work(record);
    }

    pub(crate) fn add_current(&mut self, record: &Record) {
        match record.stage() {
            Stage::Running => self.running += 1,
            Stage::Queued => self.queued += 1,
            _ => {}
        }
        self.add_work(record);
    }

    fn add_work(&mut self, record: &Record) {
        self.rows += record.rows.load(Ordering::Relaxed);
        self.spilled += record.spilled();
        record.scope.reads.reads().into_iter().for_each(|reads| self.add_reads(reads));
    }

    fn add_reads(&mut self, reads: StoreReads) {
        match self.stores.binary_search_by(|known| known.store.cmp(&reads.store)) {
            Ok(place) => {
                let known = &mut self.stores[place];
                known.requests += reads.requests;
                known.bytes += reads.bytes;
                (0..Operation::ALL.len()).for_each(|operation| known.operations[operation] += reads.operations[operation]);
            }
            Err(place) => self.stores.insert(place, reads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_below_their_bound() {
        let mut durations = Durations::default();
        [0, 5, 6, 4_000_000].map(Duration::from_millis).into_iter().for_each(|duration| durations.add(duration));
        assert_eq!((durations.counts[0], durations.counts[1], durations.counts[14]), (2, 1, 1));
        assert_eq!(durations.sum, Duration::from_millis(4_000_011));
    }
}

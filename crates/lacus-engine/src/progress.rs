//! How far a running query is, told by what its scans count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use lacus_storage::ReadScope;

/// The counter of rows that a scan has decoded, and that of those it will: a scan that leaves neither is told by its output.
const DECODED: &str = "rows_decoded";
const SELECTED: &str = "rows_selected";

/// Tells how far a query is while its stream is read; see [`Query::progress`](crate::Query::progress).
#[derive(Debug, Clone)]
pub struct QueryProgress {
    reads: Arc<ReadScope>,
    /// What runs: another plan than at first once the query had to be planned anew.
    plan: Arc<Mutex<Option<Arc<dyn ExecutionPlan>>>>,
    /// What was spilled by plans that ran before.
    spilled_before: Arc<AtomicU64>,
}

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The bytes read from all stores.
    pub bytes: u64,
    /// The rows that its scans have read.
    pub rows: u64,
    /// The rows that they will have read in the end, as far as they know: an estimate.
    pub of_rows: Option<u64>,
}

impl Progress {
    /// The part of the rows that is read, from 0 to 1.
    pub fn part(&self) -> Option<f64> {
        let of = self.of_rows.filter(|of| *of > 0)?;
        Some((self.rows as f64 / of as f64).min(1.0))
    }
}

impl QueryProgress {
    pub(crate) fn new(reads: Arc<ReadScope>, plan: Option<Arc<dyn ExecutionPlan>>) -> Self {
        Self { reads, plan: Arc::new(Mutex::new(plan)), spilled_before: Arc::default() }
    }

    /// The bytes that operators have written to the spill folder.
    pub(crate) fn spilled(&self) -> u64 {
        self.spilled_before.load(Ordering::Relaxed) + self.plan().map_or(0, |plan| spilled(plan.as_ref()))
    }

    /// Nothing runs any more.
    pub(crate) fn forget(&self) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn plan(&self) -> Option<Arc<dyn ExecutionPlan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another plan runs from now on.
    pub(crate) fn replan(&self, plan: Arc<dyn ExecutionPlan>) {
        let mut running = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = running.as_ref().filter(|before| !Arc::ptr_eq(before, &plan)) {
            self.spilled_before.fetch_add(spilled(before.as_ref()), Ordering::Relaxed);
        }
        *running = Some(plan);
    }

    /// How far the query is now.
    pub fn now(&self) -> Progress {
        let plan = self.plan();
        let mut progress = Progress { bytes: self.reads.bytes(), rows: 0, of_rows: plan.is_some().then_some(0) };
        if let Some(plan) = &plan {
            add(plan.as_ref(), &mut progress);
        }
        progress
    }
}

/// Adds what the scans of a plan have read.
fn add(plan: &dyn ExecutionPlan, progress: &mut Progress) {
    let children = plan.children();
    if !children.is_empty() {
        children.into_iter().for_each(|child| add(child.as_ref(), progress));
        return;
    }
    let metrics = plan.metrics();
    let counted = |name: &str| metrics.as_ref().and_then(|metrics| sum(metrics, name));
    let expected = || Some(*StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok()?.num_rows.get_value()? as u64);
    let (rows, of_rows) = match counted(SELECTED) {
        Some(selected) => (counted(DECODED).unwrap_or(0), Some(selected)),
        None => (metrics.as_ref().and_then(MetricsSet::output_rows).unwrap_or(0) as u64, expected()),
    };
    progress.rows += rows;
    progress.of_rows = progress.of_rows.zip(of_rows).map(|(sum, of_rows)| sum + of_rows);
}

fn sum(metrics: &MetricsSet, name: &str) -> Option<u64> {
    metrics.sum_by_name(name).map(|value| value.as_usize() as u64)
}

fn spilled(plan: &dyn ExecutionPlan) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0) as u64;
    own + plan.children().into_iter().map(|child| spilled(child.as_ref())).sum::<u64>()
}

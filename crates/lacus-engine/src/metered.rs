//! What a query uses, beside what the policy lets its principal use.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use lacus_core::{Error, Kind, Result};
use lacus_policy::Limit;
use tokio::time::Sleep;

use crate::activity::Record;

/// How often it is looked at what a query has read and spilled: a sort reads all before it gives a row.
const LOOKS: Duration = Duration::from_millis(100);

/// Counts what one query uses.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: Arc<Limit>,
    bytes: u64,
    next: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// A meter for a query whose principal may not use all.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        record.limit.as_ref().map(|limit| Self { limit: Arc::clone(limit), bytes: 0, next: None })
    }

    /// Looks at what was read and spilled, from time to time.
    ///
    /// # Errors
    /// `LimitExceeded` that names the limit.
    pub(crate) fn look(&mut self, record: &Record, context: &mut Context<'_>) -> Result<()> {
        while self.limit.is_watched() {
            let next = self.next.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOKS)));
            if next.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.next = None;
            self.check(record)?;
        }
        Ok(())
    }

    fn check(&self, record: &Record) -> Result<()> {
        self.within("bytes read", self.limit.bytes_read, record.scope.reads.bytes())?;
        self.within("bytes spilled", self.limit.spill, record.spilled())
    }

    /// Counts what was given.
    ///
    /// # Errors
    /// As [`Meter::look`].
    pub(crate) fn count(&mut self, record: &Record, batch: &RecordBatch) -> Result<()> {
        if self.limit.bytes.is_some() {
            let size = |column: &datafusion::arrow::array::ArrayRef| column.to_data().get_slice_memory_size();
            let sizes = batch.columns().iter().map(size).collect::<std::result::Result<Vec<_>, _>>()?;
            self.bytes += sizes.iter().sum::<usize>() as u64;
        }
        self.within("rows", self.limit.rows, record.rows.load(Ordering::Relaxed))?;
        self.within("bytes", self.limit.bytes, self.bytes)?;
        // A query that ends between two looks is bounded, too.
        if self.limit.is_watched() { self.check(record) } else { Ok(()) }
    }

    fn within(&self, what: &str, most: Option<u64>, used: u64) -> Result<()> {
        match most.filter(|most| used > *most) {
            None => Ok(()),
            Some(most) => Err(Error::new(Kind::LimitExceeded, format!("the query has {used} {what}, and {most} are allowed to who asks"))
                .with("limit", &self.limit.name)
                .hint("narrow the query, or ask whoever keeps the policy of this lake for more")),
        }
    }
}

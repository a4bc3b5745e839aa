//! What a query uses, beside what the policy lets its principal use.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use lacus_core::{Error, Kind, Result};
use lacus_policy::Limit;
use tokio::time::Sleep;

use crate::activity::Record;

/// How often it is looked at what a query has read and spilled: a sort reads all before it gives a row.
const LOOKS: Duration = Duration::from_millis(100);
/// Texts that are no longer stand in their views.
const IN_VIEW: u32 = 12;

/// Counts what one query uses.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: Arc<Limit>,
    /// Whether the rows are for who asks.
    gives: bool,
    next: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// A meter for a query whose principal may not use all.
    pub(crate) fn of(record: &Record, gives: bool) -> Option<Self> {
        record.limit.as_ref().map(|limit| Self { limit: Arc::clone(limit), gives, next: None })
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
        self.within("the query has", "bytes read", self.limit.bytes_read, || record.scope.reads.bytes())?;
        self.within("the queries of who asks have", "bytes spilled", self.limit.spill, || {
            let own = record.spilled();
            let together = record.memory.spilled(own);
            // One that has spilled nothing is not the one to end.
            if own > 0 { together } else { 0 }
        })
    }

    /// Counts what was given.
    ///
    /// # Errors
    /// As [`Meter::look`].
    pub(crate) fn count(&mut self, record: &Record, batch: &RecordBatch) -> Result<()> {
        if self.gives {
            let size = if self.limit.bytes.is_some() { batch_bytes(batch)? } else { 0 };
            let bytes = record.bytes.fetch_add(size, Ordering::Relaxed) + size;
            self.within("the query has", "rows", self.limit.rows, || record.rows.load(Ordering::Relaxed))?;
            self.within("the query has", "bytes", self.limit.bytes, || bytes)?;
        }
        // A query that ends between two looks is bounded, too.
        self.check(record)
    }

    fn within(&self, whose: &str, what: &str, most: Option<u64>, used: impl FnOnce() -> u64) -> Result<()> {
        match most.map(|most| (most, used())).filter(|(most, used)| used > most) {
            None => Ok(()),
            Some((most, used)) => {
                Err(Error::new(Kind::LimitExceeded, format!("{whose} {used} {what}, and {most} are allowed to who asks"))
                    .with("limit", &self.limit.name)
                    .hint("narrow the query, or ask whoever keeps the policy of this lake for more"))
            }
        }
    }
}

/// The bytes of the values of a batch, where each has its own: rows may share a long text.
///
/// # Errors
/// For columns whose type has no such size.
pub fn batch_bytes(batch: &RecordBatch) -> Result<u64> {
    batch.columns().iter().map(column_bytes).sum()
}

/// The same of one column.
///
/// # Errors
/// As [`batch_bytes`].
pub fn column_bytes(column: &ArrayRef) -> Result<u64> {
    // Long texts lie beside their views.
    let beside = match column.data_type() {
        DataType::Utf8View => lengths(column.as_string_view().lengths()),
        DataType::BinaryView => lengths(column.as_binary_view().lengths()),
        _ => 0,
    };
    Ok(column.to_data().get_slice_memory_size()? as u64 + beside)
}

fn lengths(lengths: impl Iterator<Item = u32>) -> u64 {
    lengths.filter(|length| *length > IN_VIEW).map(u64::from).sum()
}

//! The tables of the schema `system` that are about the engine itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use lacus_core::Result;

use crate::access::{Access, QUERIES};
use crate::activity::{Activity, Record};

/// The names of these tables.
pub(crate) const TABLES: [&str; 1] = [QUERIES];
/// Those of this schema that a policy has to grant by name.
pub(crate) const IS_GRANTED: [&str; 1] = ["audit"];

/// The table of this name, as things are now.
pub(crate) fn table(name: &str, activity: &Activity, access: &Access, lake: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    match name {
        QUERIES => {
            let mut records = activity.records();
            records.retain(|record| access.oversees(lake, &record.principal));
            Ok(Some(queries(&records, access.is_bound())?))
        }
        _ => Ok(None),
    }
}

/// One row a query: those that run, then those that ended, the last first.
fn queries(records: &[Arc<Record>], is_bound: bool) -> Result<Arc<dyn TableProvider>> {
    // How much was read of a table that is seen in part tells of the rest.
    let is_told = |record: &Record| !(is_bound && record.scope.findings.is_restricted());
    let texts = |text: &dyn Fn(&Record) -> Option<String>| -> ArrayRef {
        Arc::new(records.iter().map(|record| text(record)).collect::<StringArray>())
    };
    let counts = |count: &dyn Fn(&Record) -> Option<u64>| -> ArrayRef {
        Arc::new(records.iter().map(|record| count(record)).collect::<UInt64Array>())
    };
    let floats = |value: &dyn Fn(&Record) -> Option<f64>| -> ArrayRef {
        Arc::new(records.iter().map(|record| value(record)).collect::<Float64Array>())
    };
    let began = |record: &Arc<Record>| record.began.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_micros()).ok());
    let started: TimestampMicrosecondArray = records.iter().map(began).collect();
    let columns = [
        ("id", texts(&|record| Some(record.id.clone()))),
        ("user", texts(&|record| Some(record.principal.name().to_owned()))),
        ("state", texts(&|record| Some(record.stage().name().to_owned()))),
        ("sql", texts(&|record| Some(record.text.clone()))),
        ("started", Arc::new(started.with_timezone("UTC")) as ArrayRef),
        ("seconds", floats(&|record| Some(record.elapsed().as_secs_f64()))),
        ("progress", floats(&|record| record.progress().filter(|_| is_told(record))?.part())),
        ("rows", counts(&|record| Some(record.rows.load(Ordering::Relaxed)))),
        ("rows_read", counts(&|record| Some(record.progress().filter(|_| is_told(record))?.rows))),
        ("bytes_read", counts(&|record| is_told(record).then(|| record.scope.reads.bytes()))),
        ("memory", counts(&|record| Some(record.memory.held() as u64))),
        ("memory_peak", counts(&|record| Some(record.memory.peak() as u64))),
        ("spilled", counts(&|record| Some(record.spilled()))),
        ("error", texts(&|record| record.stage().error())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

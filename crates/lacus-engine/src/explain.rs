//! What EXPLAIN adds: how much was read from each store.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use lacus_core::Result;
use lacus_storage::StoreReads;

use crate::session::Scope;

/// Whether the result of `plan` is an explanation.
pub(crate) fn is_explanation(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_))
}

/// The last row of an explanation: requests and bytes per store, and what the cache had of it, for planning alone (EXPLAIN) or with the
/// execution (EXPLAIN ANALYZE).
pub(crate) fn reads(schema: &SchemaRef, scope: &Scope) -> Result<RecordBatch> {
    let line = |read: &StoreReads| {
        let cached = if read.cached > 0 { format!(", bytes_cached={}", read.cached) } else { String::new() };
        format!("{}: requests={}, bytes_read={}{cached}", read.store, read.requests, read.bytes)
    };
    let lines: Vec<String> = scope.reads.reads().iter().map(line).collect();
    let text = match lines.is_empty() {
        // How much was read would tell of the rows that are not seen.
        _ if scope.findings.is_restricted() => "not told of tables that are seen in part".to_owned(),
        true => "nothing read".to_owned(),
        false => lines.join("\n"),
    };
    let column = |value: &str| Arc::new(StringArray::from(vec![value.to_owned()])) as _;
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![column("stores"), column(&text)])?)
}

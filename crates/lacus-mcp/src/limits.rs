//! What an agent may ask for, held against what a plan says.

use lacus_core::{AgentLimits, Error, Kind, Result};
use lacus_engine::Estimate;

/// What of an estimate is more than is allowed, in words.
pub(crate) fn exceeded(limits: &AgentLimits, estimate: &Estimate) -> Vec<String> {
    let (bytes, files) = (estimate.sum(|scan| scan.bytes), estimate.sum(|scan| scan.files));
    let mut exceeded = Vec::new();
    if let Some(bytes) = bytes.filter(|bytes| *bytes > limits.scan_bytes) {
        exceeded.push(format!("about {} would be read, and {} may be", size(bytes), size(limits.scan_bytes)));
    }
    if let Some(files) = files.filter(|files| *files > limits.scan_files) {
        exceeded.push(format!("{files} files would be read, and {} may be", limits.scan_files));
    }
    let calls = estimate.remote_calls();
    if calls > limits.remote_calls {
        exceeded.push(format!("sites and databases would be asked {calls} times, and {} times they may be", limits.remote_calls));
    }
    exceeded
}

/// Refuses what would read too much, before it is read.
///
/// # Errors
/// `LimitExceeded` with the estimate, and how to narrow the query.
pub(crate) fn check(limits: &AgentLimits, estimate: &Estimate) -> Result<()> {
    let exceeded = exceeded(limits, estimate);
    if exceeded.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::LimitExceeded, format!("the query was not run: {}", exceeded.join("; ")))
        .hint("narrow it: fewer columns, a WHERE on the columns that `describe` calls partitions, a range of time or of coordinates"))
}

/// A number of bytes in words.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

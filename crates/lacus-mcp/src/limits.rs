//! What an agent may ask for, held against what a plan says.

use lacus_core::{AgentLimits, Error, Kind, Result};
use lacus_engine::Estimate;

/// What of an estimate is more than is allowed, in words. What is not known counts as nothing; how much there is of a table that is shown in
/// part is not told.
pub(crate) fn exceeded(limits: &AgentLimits, estimate: &Estimate) -> Vec<String> {
    let (bytes, files, calls) = (estimate.at_least(|scan| scan.bytes), estimate.at_least(|scan| scan.files), estimate.all_remote_calls());
    let told = |number: String| if estimate.is_restricted { "more".to_owned() } else { number };
    let mut exceeded = Vec::new();
    if bytes > limits.scan_bytes {
        exceeded.push(format!("about {} would be read, and {} may be", told(size(bytes)), size(limits.scan_bytes)));
    }
    if files > limits.scan_files {
        exceeded.push(format!("{} files would be read, and {} may be", told(files.to_string()), limits.scan_files));
    }
    if calls > limits.remote_calls {
        let calls = told(calls.to_string());
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

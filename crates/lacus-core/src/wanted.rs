use std::sync::OnceLock;

use crate::Result;

static LOOK: OnceLock<fn() -> Result<()>> = OnceLock::new();

/// Whether what the calling thread computes is still wanted: what computes for longer than some milliseconds without giving rows asks this now
/// and then, and ends with the error. It may give the thread to others meanwhile.
///
/// # Errors
/// `Cancelled` or `DeadlineExceeded`, when whoever asked the query has gone or its time is over.
pub fn check_wanted() -> Result<()> {
    LOOK.get().map_or(Ok(()), |look| look())
}

/// Says how [`check_wanted`] knows: the engine does, once in a process.
pub fn know_wanted(look: fn() -> Result<()>) {
    LOOK.get_or_init(|| look);
}

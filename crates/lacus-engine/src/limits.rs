use std::path::PathBuf;
use std::time::Duration;

/// What queries may use of the machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory that all queries together may hold in operators that grow with their data (sorts, aggregations, join tables).
    pub memory: usize,
    /// Bytes of `memory` that hold decoded columns for later queries; the rest is for operators.
    pub columns: usize,
    /// The folder in which operators that can do so spill when memory runs out; a folder of the system's own when `None`.
    pub spill_directory: Option<PathBuf>,
    /// Bytes that may lie in the spill folder.
    pub spill: u64,
    /// How long one query may take from its text to its last batch. A query without an end is never what anyone wanted.
    pub deadline: Duration,
    /// Bytes of memory that one query may hold; as many as all together when `None`.
    pub query_memory: Option<usize>,
    /// How many queries may run at once; those behind them wait.
    pub queries: usize,
    /// How many queries may wait; those behind them are refused.
    pub queue: usize,
}

impl Default for Limits {
    /// 4 GiB of memory, 100 GiB of spill, an hour, 64 queries and 1,000 that wait: `lacus` itself derives the memory from the machine.
    fn default() -> Self {
        let deadline = Duration::from_secs(3600);
        Self {
            memory: 4 << 30,
            columns: 0,
            spill_directory: None,
            spill: 100 << 30,
            deadline,
            query_memory: None,
            queries: 64,
            queue: 1000,
        }
    }
}

use std::time::Duration;

/// What an agent may ask for. The owner of the server sets it; what an agent says can only be less.
#[derive(Debug, Clone)]
pub struct AgentLimits {
    /// Rows of one page of an answer.
    pub rows: usize,
    /// Characters of the text of one page.
    pub text: usize,
    /// Characters of one value.
    pub cell: usize,
    /// Rows that are kept of an answer, to be read page by page; what is behind them is cut off.
    pub kept_rows: usize,
    /// Bytes that are kept of an answer, and that an export may have.
    pub kept_bytes: usize,
    /// Bytes that are kept of all answers.
    pub all_kept_bytes: usize,
    /// How long an answer is kept.
    pub kept_for: Duration,
    /// How long one call may take.
    pub deadline: Duration,
    /// How long a call is waited for by a client that knows tasks, before it is one.
    pub patience: Duration,
    /// Bytes that one query may read.
    pub scan_bytes: u64,
    /// Files that one query may read.
    pub scan_files: u64,
    /// Requests that one query may send to sites and databases.
    pub remote_calls: usize,
}

impl Default for AgentLimits {
    /// 200 rows and 25,000 characters a page, 10,000 rows kept for a quarter of an hour, a minute, 100 GiB of 10,000 files.
    fn default() -> Self {
        Self {
            rows: 200,
            text: 25_000,
            cell: 500,
            kept_rows: 10_000,
            kept_bytes: 32 << 20,
            all_kept_bytes: 256 << 20,
            kept_for: Duration::from_secs(900),
            deadline: Duration::from_secs(60),
            patience: Duration::from_secs(2),
            scan_bytes: 100 << 30,
            scan_files: 10_000,
            remote_calls: 32,
        }
    }
}

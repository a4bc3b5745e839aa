use std::time::Duration;

use lacus_core::{Error, Kind, Principal, PrincipalKind, Result, amount};
use serde::Deserialize;

use crate::rule::Whom;
use crate::written::read_whom;

/// What one principal may use of a server. What isn't said is bounded by the limits of the lake alone.
#[derive(Debug)]
pub struct Limit {
    /// What errors call it.
    pub name: String,
    to: Vec<Whom>,
    /// How many of its queries may run at once.
    pub queries: Option<usize>,
    /// How many of its queries may wait.
    pub queue: Option<usize>,
    /// How long a query may take.
    pub deadline: Option<Duration>,
    /// The bytes of memory that a query may hold.
    pub query_memory: Option<usize>,
    /// The bytes of memory that all of its queries may hold together.
    pub memory: Option<usize>,
    /// The bytes that its queries that run may have spilled together.
    pub spill: Option<u64>,
    /// The rows that a query may give.
    pub rows: Option<u64>,
    /// The bytes that a query may give, as they are in memory.
    pub bytes: Option<u64>,
    /// The bytes that a query may read from stores.
    pub bytes_read: Option<u64>,
}

impl Limit {
    pub(crate) fn names(&self, principal: &Principal, groups: &std::collections::BTreeSet<String>) -> bool {
        // What narrows a token for grants frees it of no limit.
        self.to.iter().any(|whom| match whom {
            Whom::User(pattern) => principal.kind() != PrincipalKind::Anonymous && pattern.is_match(principal.name()),
            Whom::Group(pattern) => groups.iter().any(|group| pattern.is_match(group)),
            whom => whom.names(principal, groups),
        })
    }

    /// Whether it bounds what a query has done while it runs.
    pub fn is_watched(&self) -> bool {
        self.spill.is_some() || self.bytes_read.is_some()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitSection {
    #[serde(default)]
    name: Option<String>,
    to: Vec<String>,
    #[serde(default)]
    queries: Option<usize>,
    #[serde(default)]
    queue: Option<usize>,
    #[serde(default)]
    deadline: Option<String>,
    #[serde(default)]
    query_memory: Option<String>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    spill: Option<String>,
    #[serde(default)]
    rows: Option<u64>,
    #[serde(default)]
    bytes: Option<String>,
    #[serde(default)]
    bytes_read: Option<String>,
}

impl LimitSection {
    pub(crate) fn limit(self, place: usize) -> Result<Limit> {
        let name = self.name.unwrap_or_else(|| format!("limit {}", place + 1));
        let in_limit = |error: Error| error.with("limit", &name);
        let bytes = |text: &Option<String>, key| text.as_deref().map(|text| amount::bytes(text, key)).transpose().map_err(in_limit);
        if self.queries == Some(0) {
            let error = Error::new(Kind::InvalidConfiguration, "`queries` is 0, and then none could run");
            return Err(in_limit(error.hint("a rule denies what is not to be asked")));
        }
        let memory =
            |text: &Option<String>, key| bytes(text, key).map(|bytes| bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
        Ok(Limit {
            to: self.to.iter().map(|whom| read_whom(whom)).collect::<Result<_>>().map_err(in_limit)?,
            queries: self.queries,
            queue: self.queue,
            deadline: self.deadline.as_deref().map(|text| amount::duration(text, "deadline")).transpose().map_err(in_limit)?,
            query_memory: memory(&self.query_memory, "query_memory")?,
            memory: memory(&self.memory, "memory")?,
            spill: bytes(&self.spill, "spill")?,
            rows: self.rows,
            bytes: bytes(&self.bytes, "bytes")?,
            bytes_read: bytes(&self.bytes_read, "bytes_read")?,
            name,
        })
    }
}

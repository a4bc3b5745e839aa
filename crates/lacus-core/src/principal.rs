/// On whose behalf a query runs.
///
/// Every query has one, from every door; with one kind of principal there is nothing yet to decide on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// The person who holds the process: embedded use, the command line, a server that only this machine can reach.
    pub fn owner() -> Self {
        Self { name: "owner".to_owned() }
    }

    /// The name, for records and handles.
    pub fn name(&self) -> &str {
        &self.name
    }
}

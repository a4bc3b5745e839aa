/// On whose behalf a query runs.
///
/// Every query has one, from every door.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// The person who holds the process: embedded use, the command line, a server that only this machine can reach.
    pub fn owner() -> Self {
        Self { name: "owner".to_owned() }
    }

    /// A user whom a server knows.
    pub fn user(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// The name, for records and handles.
    pub fn name(&self) -> &str {
        &self.name
    }
}

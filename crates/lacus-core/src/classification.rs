use std::time::SystemTime;

/// How far data may be given to others. Policies speak of it; without a policy it is a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    /// Anybody may have it.
    Open,
    /// It becomes open at this instant, and may not be given away before.
    Embargoed(SystemTime),
    /// Only those who are named may have it: export-controlled, personal.
    Controlled,
}

impl Classification {
    /// The words for it, in lake files and policies.
    pub const WORDS: [&str; 3] = ["open", "embargoed", "controlled"];

    /// What it is at `now`: an embargo ends.
    pub fn at(self, now: SystemTime) -> Self {
        match self {
            Self::Embargoed(until) if now >= until => Self::Open,
            other => other,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Embargoed(_) => "embargoed",
            Self::Controlled => "controlled",
        }
    }
}

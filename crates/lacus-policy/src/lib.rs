//! Who may do what with which tables, paths and settings.
//!
//! A policy is a file of rules in an order. The first rule that names the principal, the privilege and the thing decides; what no rule
//! names is denied. It knows no tables and no SQL: filters and masks are text here, for the engine to plan.
//!
//! ```
//! use lacus_core::Principal;
//! use lacus_policy::{Policy, Privilege, Table};
//! let policy = Policy::parse(r#"
//!     [[rule]]
//!     name = "shots of one's own machine"
//!     to = ["group:plasma"]
//!     tables = ["shots"]
//!     allow = ["select"]
//!     filter = "machine = 'jet'"
//! "#)?;
//! let granted = policy.of(&Principal::user("ada").with_groups(["plasma".to_owned()]));
//! let decision = granted.on_table(Privilege::Select, &Table::new("lake", "main", "shots"));
//! assert_eq!(decision.rule().and_then(|rule| rule.filter.as_deref()), Some("machine = 'jet'"));
//! assert!(!policy.of(&Principal::user("bob")).on_table(Privilege::Select, &Table::new("lake", "main", "shots")).is_allowed());
//! # Ok::<(), lacus_core::Error>(())
//! ```

mod granted;
mod limit;
mod rule;
mod watched;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lacus_core::{Principal, Result, hex};
use sha2::{Digest, Sha256};

pub use granted::{Covers, Decision, Granted, Table};
pub use limit::Limit;
pub use rule::{Privilege, Rule};
pub use watched::PolicyFile;

/// How much of the hash of its text is part of the version of a policy.
const SHOWN_OF_HASH: usize = 6;

/// The rules of a lake, as one version of a file says them.
#[derive(Debug)]
pub struct Policy {
    version: String,
    /// Members by group, for those whose tokens tell none.
    groups: BTreeMap<String, BTreeSet<String>>,
    rules: Vec<Arc<Rule>>,
    limits: Vec<Arc<Limit>>,
}

impl Policy {
    /// Reads the text of a policy file.
    ///
    /// # Errors
    /// `InvalidConfiguration` with the line or the rule, the key and the nearest known one.
    pub fn parse(text: &str) -> Result<Self> {
        let written::PolicyText { version, group, rule, limit } = written::read(text)?;
        let rules = rule.into_iter().enumerate().map(|(place, section)| section.rule(place).map(Arc::new)).collect::<Result<_>>()?;
        let limits = limit.into_iter().enumerate().map(|(place, section)| section.limit(place).map(Arc::new)).collect::<Result<_>>()?;
        let groups = group.into_iter().map(|(name, section)| (name, section.members)).collect();
        let hash = hex(&Sha256::digest(text.as_bytes())[..SHOWN_OF_HASH]);
        let version = version.map_or_else(|| hash.clone(), |version| format!("{version} ({hash})"));
        Ok(Self { version, groups, rules, limits })
    }

    /// What the file calls its version, and the beginning of the SHA-256 of its text.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// What `principal` may use of the server: the first limit that names it. The owner has none.
    pub fn limit_of(&self, principal: &Principal) -> Option<Arc<Limit>> {
        let groups = self.groups_of(principal);
        let named = self.limits.iter().find(|limit| limit.names(principal, &groups));
        named.filter(|_| !principal.is_owner()).cloned()
    }

    /// All groups that `principal` is in: those that were told of it, and those of this file.
    pub fn groups_of(&self, principal: &Principal) -> BTreeSet<String> {
        let here = self.groups.iter().filter(|(_, members)| members.contains(principal.name())).map(|(name, _)| name.clone());
        principal.groups().map(str::to_owned).chain(here).collect()
    }

    /// What is granted to `principal`.
    pub fn of(&self, principal: &Principal) -> Granted {
        let groups = self.groups_of(principal);
        let rules = self.rules.iter().filter(|rule| rule.names(principal, &groups)).cloned().collect();
        Granted::new(rules, principal, groups, self.version.clone())
    }
}

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use lacus_core::{Classification, Principal};

use crate::{Privilege, Rule};

/// Scopes of tokens that name paths, with what they allow: those of the WLCG profile, and those of SciTokens.
const SCOPES: [(&str, &[Privilege]); 5] = [
    ("storage.read", &[Privilege::Select]),
    ("storage.create", &[Privilege::Insert, Privilege::Create]),
    ("storage.modify", &[Privilege::Insert, Privilege::Create]),
    ("read", &[Privilege::Select]),
    ("write", &[Privilege::Insert, Privilege::Create]),
];

/// Whether what is asked for lies below a place that a rule writes as `store:path`, a URL or a path.
pub type Covers<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// A table that is asked for.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// The catalog.
    pub catalog: &'a str,
    /// The schema.
    pub schema: &'a str,
    /// The name.
    pub name: &'a str,
    /// How far its data may be given to others, where that is said.
    pub classification: Option<Classification>,
    /// Where its files lie, where it has files.
    pub covers: Option<Covers<'a>>,
}

impl<'a> Table<'a> {
    /// A table of which only the name is known.
    pub fn new(catalog: &'a str, schema: &'a str, name: &'a str) -> Self {
        Self { catalog, schema, name, classification: None, covers: None }
    }
}

/// What was decided, and by which rule.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The rule allows it.
    Allowed(Arc<Rule>),
    /// The rule denies it; without one, no rule allows it.
    Denied(Option<Arc<Rule>>),
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The rule that decided.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Allowed(rule) => Some(rule),
            Self::Denied(rule) => rule.as_ref(),
        }
    }
}

/// What is granted to one principal: the rules that name it.
#[derive(Debug)]
pub struct Granted {
    rules: Vec<Arc<Rule>>,
    /// Places by the paths in the scopes of the principal's token.
    scoped: Vec<(Privilege, String)>,
    groups: BTreeSet<String>,
    version: String,
}

impl Granted {
    pub(crate) fn new(rules: Vec<Arc<Rule>>, principal: &Principal, groups: BTreeSet<String>, version: String) -> Self {
        let scoped = principal.scopes().filter_map(|scope| {
            let (word, path) = scope.split_once(':')?;
            let (_, privileges) = SCOPES.iter().find(|(known, _)| *known == word)?;
            // What climbs out of its place names none.
            let is_plain = path.split('/').all(|part| part != "..");
            is_plain.then(|| privileges.iter().map(|privilege| (*privilege, path.trim_matches('/').to_owned())))
        });
        let scoped = scoped.flatten().collect();
        Self { rules, scoped, groups, version }
    }

    /// Whether the same is granted by the same rules, whatever else the policy says.
    pub fn is_same(&self, other: &Self) -> bool {
        let text = |granted: &Self| format!("{:?} {:?} {:?}", granted.rules, granted.scoped, granted.groups);
        self.version == other.version || text(self) == text(other)
    }

    /// The groups that the principal is in.
    pub fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    fn first(&self, privilege: Privilege, classification: Option<Classification>, is_meant: impl Fn(&Rule) -> bool) -> Decision {
        let classification = classification.map(|classification| classification.at(SystemTime::now()));
        let decided = self.rules.iter().find_map(|rule| {
            let allows = rule.decides(privilege)?;
            (rule.is_about(classification, !allows) && is_meant(rule)).then_some((rule, allows))
        });
        match decided {
            Some((rule, true)) => Decision::Allowed(Arc::clone(rule)),
            Some((rule, false)) => Decision::Denied(Some(Arc::clone(rule))),
            None => Decision::Denied(None),
        }
    }

    /// Whether the scopes of the token name a place below that of the rule, which holds what is asked for.
    fn is_scoped(&self, rule: &Rule, privilege: Privilege, covers: Covers<'_>) -> bool {
        let Some(storage) = &rule.storage else { return false };
        let separator = if storage.ends_with(['/', ':']) { "" } else { "/" };
        self.scoped.iter().any(|(scoped, path)| *scoped == privilege && covers(&format!("{storage}{separator}{path}")))
    }

    /// Decides on a table.
    pub fn on_table(&self, privilege: Privilege, table: &Table<'_>) -> Decision {
        self.first(privilege, table.classification, |rule| {
            rule.tables.iter().any(|pattern| pattern.matches(table))
                || table.covers.is_some_and(|covers| self.is_scoped(rule, privilege, covers))
        })
    }

    /// Whether the principal may know that there is this table: whether anything of it is allowed.
    pub fn sees(&self, table: &Table<'_>) -> bool {
        Privilege::ALL.iter().any(|privilege| self.on_table(*privilege, table).is_allowed())
    }

    /// Decides on a schema as a whole: on making and dropping it.
    pub fn on_schema(&self, privilege: Privilege, catalog: &str, schema: &str) -> Decision {
        self.first(privilege, None, |rule| rule.tables.iter().any(|pattern| pattern.is_whole() && pattern.matches_schema(catalog, schema)))
    }

    /// Whether the principal may know that there is this schema: whether a rule allows anything of any table in it, which no rule before
    /// denies for all of them.
    pub fn sees_schema(&self, catalog: &str, schema: &str, classification: Option<Classification>) -> bool {
        let classification = classification.map(|classification| classification.at(SystemTime::now()));
        let sees = |privilege: Privilege| {
            let decided = self.rules.iter().find_map(|rule| {
                let allows = rule.decides(privilege)?;
                let mut meant = rule.tables.iter().filter(|pattern| pattern.matches_schema(catalog, schema));
                let is_meant = if allows { meant.next().is_some() } else { meant.any(|pattern| pattern.is_whole()) };
                (is_meant && rule.is_about(classification, !allows)).then_some(allows)
            });
            decided == Some(true)
        };
        Privilege::ALL.into_iter().any(sees)
    }

    /// Decides on files that are named by their place. A rule that denies is about what holds its place, too: `holds` says of which that is.
    pub fn on_path(&self, privilege: Privilege, covers: Covers<'_>, holds: Covers<'_>) -> Decision {
        self.first(privilege, None, |rule| {
            let denies = rule.decides(privilege) == Some(false);
            rule.paths.iter().any(|path| covers(path) || (denies && holds(path))) || self.is_scoped(rule, privilege, covers)
        })
    }

    /// Decides on a setting of the principal's own session.
    pub fn on_setting(&self, name: &str) -> Decision {
        self.first(Privilege::Select, None, |rule| rule.settings.iter().any(|pattern| pattern.is_match(name)))
    }
}

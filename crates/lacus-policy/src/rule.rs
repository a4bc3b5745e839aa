use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use globset::GlobMatcher;
use lacus_core::{Classification, Principal, PrincipalKind};
use serde::Deserialize;

/// What may be done with a table, a path or a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Read it; of a setting: change it for one's own session.
    Select,
    /// Add rows; of a path: write new objects below it by COPY.
    Insert,
    /// Change rows.
    Update,
    /// Take rows out.
    Delete,
    /// Make it; of a path: name files below it by CREATE EXTERNAL TABLE.
    Create,
    /// Take it away, or put another in its place.
    Drop,
    /// Forget what is remembered of its files; of `system.queries`: see and end the queries of others.
    Admin,
}

impl Privilege {
    /// Every privilege.
    pub const ALL: [Self; 7] = [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::Create, Self::Drop, Self::Admin];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Create => "create",
            Self::Drop => "drop",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// One rule of a policy.
#[derive(Clone)]
pub struct Rule {
    /// The name, unique in its policy.
    pub name: String,
    pub(crate) to: Vec<Whom>,
    pub(crate) tables: Vec<TablePattern>,
    /// Places of files: all that lies below them.
    pub(crate) paths: Vec<String>,
    /// A place below which the scopes of tokens name paths.
    pub(crate) storage: Option<String>,
    pub(crate) settings: Vec<GlobMatcher>,
    pub(crate) classification: BTreeSet<String>,
    pub(crate) allow: BTreeSet<Privilege>,
    pub(crate) deny: BTreeSet<Privilege>,
    /// The condition that rows meet which are seen.
    pub filter: Option<String>,
    /// What is seen in the place of columns, by their names.
    pub mask: BTreeMap<String, String>,
    /// The columns that are not seen.
    pub hide: BTreeSet<String>,
}

/// As the policy has it: rules are compared by this text, so it has all of a rule, and nothing of how globs are matched.
impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, to, tables, paths, storage, settings, classification, allow, deny, filter, mask, hide } = self;
        let settings: Vec<&str> = settings.iter().map(|setting| setting.glob().glob()).collect();
        let what = (name, to, tables, paths, storage, settings);
        formatter.debug_tuple("Rule").field(&what).field(&(classification, allow, deny, filter, mask, hide)).finish()
    }
}

impl fmt::Debug for Whom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => formatter.write_str("everyone"),
            Self::Users => formatter.write_str("users"),
            Self::Anonymous => formatter.write_str("anonymous"),
            Self::User(glob) => write!(formatter, "user:{:?}", glob.glob().glob()),
            Self::Group(glob) => write!(formatter, "group:{:?}", glob.glob().glob()),
            Self::Scope(glob) => write!(formatter, "scope:{:?}", glob.glob().glob()),
        }
    }
}

impl fmt::Debug for TablePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { catalog, schema, table, is_literal } = self;
        let catalog = catalog.as_ref().map(|glob| glob.glob().glob());
        write!(formatter, "{catalog:?} {:?} {:?} {is_literal}", schema.glob().glob(), table.glob().glob())
    }
}

impl Rule {
    /// Whether a rule shows less than all of a table.
    pub fn restricts(&self) -> bool {
        self.filter.is_some() || !self.mask.is_empty() || !self.hide.is_empty()
    }

    /// Whether the rule is about a table, by its name.
    pub fn means(&self, table: &crate::Table<'_>) -> bool {
        self.tables.iter().any(|pattern| pattern.matches(table))
    }

    /// Whether one table alone is meant, so that a column which it lacks is a mistake in the rule.
    pub fn names_one(&self, table: &crate::Table<'_>) -> bool {
        self.tables.iter().any(|pattern| pattern.is_literal && pattern.matches(table))
    }

    /// Whether the rule is about `principal`, who is in `groups`.
    pub(crate) fn names(&self, principal: &Principal, groups: &BTreeSet<String>) -> bool {
        self.to.iter().any(|whom| whom.names(principal, groups))
    }

    /// Whether the rule decides on a privilege: as allowed or not.
    pub(crate) fn decides(&self, privilege: Privilege) -> Option<bool> {
        match (self.deny.contains(&privilege), self.allow.contains(&privilege)) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    /// Whether the rule is about data of this kind. A rule that allows says so of data that is not open; one that denies is about all.
    pub(crate) fn is_about(&self, classification: Option<Classification>, denies: bool) -> bool {
        match (self.classification.is_empty(), classification) {
            (true, None | Some(Classification::Open)) => true,
            (true, Some(_)) => denies,
            (false, None) => false,
            (false, Some(classification)) => self.classification.contains(classification.word()),
        }
    }
}

/// Whom a rule is about.
#[derive(Clone)]
pub(crate) enum Whom {
    /// Also who doesn't say who it is.
    Everyone,
    /// Who proved who it is.
    Users,
    Anonymous,
    User(GlobMatcher),
    Group(GlobMatcher),
    Scope(GlobMatcher),
}

impl Whom {
    /// Whether this is `principal`, who is in `groups`.
    pub(crate) fn names(&self, principal: &Principal, groups: &BTreeSet<String>) -> bool {
        match self {
            Self::Everyone => true,
            Self::Users => principal.kind() != PrincipalKind::Anonymous,
            Self::Anonymous => principal.kind() == PrincipalKind::Anonymous,
            // Nobody gets a right by calling itself so.
            Self::User(pattern) => {
                principal.kind() != PrincipalKind::Anonymous && !principal.is_limited() && pattern.is_match(principal.name())
            }
            Self::Group(pattern) => !principal.is_limited() && groups.iter().any(|group| pattern.is_match(group)),
            Self::Scope(pattern) => principal.scopes().any(|scope| pattern.is_match(scope)),
        }
    }
}

/// Tables, by patterns of their catalog, their schema and their name.
#[derive(Clone)]
pub(crate) struct TablePattern {
    pub(crate) catalog: Option<GlobMatcher>,
    pub(crate) schema: GlobMatcher,
    pub(crate) table: GlobMatcher,
    /// Whether it names one table.
    pub(crate) is_literal: bool,
}

/// The schema that only a pattern means which spells it out: what `*` means to those who write it are data.
const SPELLED_OUT: &str = "system";

impl TablePattern {
    pub(crate) fn matches(&self, table: &crate::Table<'_>) -> bool {
        self.matches_schema(table.catalog, table.schema) && self.table.is_match(table.name)
    }

    pub(crate) fn matches_schema(&self, catalog: &str, schema: &str) -> bool {
        self.catalog.as_ref().is_none_or(|pattern| pattern.is_match(catalog))
            && self.schema.is_match(schema)
            && (schema != SPELLED_OUT || self.schema.glob().glob() == SPELLED_OUT)
    }

    /// Whether it means all tables of the schemas that it means.
    pub(crate) fn is_whole(&self) -> bool {
        self.table.glob().glob() == "*"
    }
}

//! The policy file as it is written.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};
use lacus_core::{Classification, Error, Kind, Location, Result, nearest};
use serde::Deserialize;

use crate::limit::LimitSection;
use crate::rule::{TablePattern, Whom};
use crate::{Privilege, Rule};

/// Words for whom a rule is about, and those that begin one.
const WHOM: [&str; 6] = ["everyone", "users", "anonymous", "user:", "group:", "scope:"];
/// What stands for several in a glob.
const GLOB: [char; 6] = ['*', '?', '[', ']', '{', '}'];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyText {
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) group: BTreeMap<String, GroupSection>,
    #[serde(default)]
    pub(crate) rule: Vec<RuleSection>,
    #[serde(default)]
    pub(crate) limit: Vec<LimitSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupSection {
    pub(crate) members: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSection {
    #[serde(default)]
    name: Option<String>,
    to: Vec<String>,
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    storage: Option<String>,
    #[serde(default)]
    settings: Vec<String>,
    #[serde(default)]
    classification: BTreeSet<String>,
    #[serde(default)]
    allow: BTreeSet<Privilege>,
    #[serde(default)]
    deny: BTreeSet<Privilege>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    mask: BTreeMap<String, String>,
    #[serde(default)]
    hide: BTreeSet<String>,
}

/// Reads a policy file, as far as its keys.
pub(crate) fn read(text: &str) -> Result<PolicyText> {
    let policy: PolicyText = toml::from_str(text).map_err(|error| unreadable(text, &error))?;
    let mut names = BTreeSet::new();
    for rule in &policy.rule {
        if let Some(name) = &rule.name
            && !names.insert(name)
        {
            return Err(wrong("two rules have this name").with("rule", name));
        }
    }
    Ok(policy)
}

/// A mistake with its line, and with the nearest word.
fn unreadable(text: &str, error: &toml::de::Error) -> Error {
    let message = error.message();
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (unknown, known) = names.split_first().unwrap_or((&"", &[]));
    let described = wrong(message);
    let described = match nearest(unknown, known.iter().copied()).filter(|_| message.starts_with("unknown ")) {
        Some(near) => described.hint(format!("did you mean `{near}`?")),
        None => described,
    };
    match error.span() {
        Some(span) => described.with("line", text[..span.start.min(text.len())].matches('\n').count() + 1),
        None => described,
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidConfiguration, message)
}

impl RuleSection {
    /// The rule at a place in its file.
    pub(crate) fn rule(self, place: usize) -> Result<Rule> {
        let name = self.name.clone().unwrap_or_else(|| format!("rule {}", place + 1));
        self.checked(&name).map_err(|error| error.with("rule", name))
    }

    fn checked(self, name: &str) -> Result<Rule> {
        let Self { to, tables, paths, storage, settings, classification, allow, deny, filter, mask, hide, .. } = self;
        if to.is_empty() {
            return Err(
                wrong("`to` names nobody").hint("write `everyone`, `users`, `anonymous`, `user:NAME`, `group:NAME` or `scope:NAME`")
            );
        }
        if tables.is_empty() && paths.is_empty() && settings.is_empty() && storage.is_none() {
            return Err(wrong("the rule is about nothing").hint("write `tables`, `paths`, `storage` or `settings`"));
        }
        if allow.is_empty() && deny.is_empty() {
            return Err(wrong("the rule decides nothing").hint("write `allow` or `deny`"));
        }
        if let Some(both) = allow.intersection(&deny).next() {
            return Err(wrong(format!("`{both}` is both allowed and denied")));
        }
        let restricts = filter.is_some() || !mask.is_empty() || !hide.is_empty();
        if restricts && (!allow.contains(&Privilege::Select) || (tables.is_empty() && storage.is_none())) {
            return Err(wrong("`filter`, `mask` and `hide` belong to a rule that allows `select` on tables"));
        }
        if let Some(both) = hide.iter().find(|column| mask.contains_key(*column)) {
            return Err(wrong(format!("the column `{both}` is both hidden and masked")));
        }
        if let Some(unknown) = classification.iter().find(|word| !Classification::WORDS.contains(&word.as_str())) {
            let error = wrong(format!("`{unknown}` is no classification"));
            return Err(error.hint(format!("there are {}", Classification::WORDS.join(", "))));
        }
        for place in paths.iter().chain(&storage) {
            if place.contains(GLOB) {
                return Err(wrong(format!("`{place}` holds a glob")).hint("a place stands for all that lies below it: leave the glob out"));
            }
            Location::parse(place).map_err(|error| error.with("path", place))?;
        }
        Ok(Rule {
            name: name.to_owned(),
            to: to.iter().map(|whom| read_whom(whom)).collect::<Result<_>>()?,
            tables: tables.iter().map(|pattern| table(pattern)).collect::<Result<_>>()?,
            settings: settings.iter().map(|pattern| glob(pattern)).collect::<Result<_>>()?,
            paths,
            storage,
            classification,
            allow,
            deny,
            filter,
            mask,
            hide,
        })
    }
}

pub(crate) fn read_whom(text: &str) -> Result<Whom> {
    match text.split_once(':') {
        None if text == "everyone" => Ok(Whom::Everyone),
        None if text == "users" => Ok(Whom::Users),
        None if text == "anonymous" => Ok(Whom::Anonymous),
        Some(("user", name)) => glob(name).map(Whom::User),
        Some(("group", name)) => glob(name).map(Whom::Group),
        Some(("scope", name)) => glob(name).map(Whom::Scope),
        _ => {
            let error = wrong(format!("`to` names `{text}`, which means nobody"));
            Err(match nearest(text, WHOM) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("write `everyone`, `users`, `anonymous`, `user:NAME`, `group:NAME` or `scope:NAME`"),
            })
        }
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    if pattern.is_empty() {
        return Err(wrong("an empty pattern").hint("`*` means all"));
    }
    let built = GlobBuilder::new(pattern).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| wrong(format!("`{pattern}` is no pattern: {error}")))
}

/// A pattern of one, two or three parts: tables of `main`, of a schema, of a catalog.
fn table(pattern: &str) -> Result<TablePattern> {
    let parts: Vec<&str> = pattern.split('.').collect();
    let (catalog, schema, name) = match parts.as_slice() {
        [name] => (None, "main", *name),
        [schema, name] => (None, *schema, *name),
        [catalog, schema, name] => (Some(*catalog), *schema, *name),
        _ => return Err(wrong(format!("`{pattern}` has more parts than catalog, schema and table"))),
    };
    let is_literal = !parts.iter().any(|part| part.contains(GLOB));
    Ok(TablePattern { catalog: catalog.map(glob).transpose()?, schema: glob(schema)?, table: glob(name)?, is_literal })
}

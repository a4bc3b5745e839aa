use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// On whose behalf a query runs.
///
/// Every query has one, from every door. Two are equal when they may do the same: sessions and handles belong to a principal.
///
/// ```
/// use lacus_core::Principal;
/// let ada = Principal::user("ada").with_groups(["plasma".to_owned()]);
/// assert!(!ada.is_owner() && ada.groups().any(|group| group == "plasma"));
/// assert_ne!(ada, Principal::user("ada"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    inner: Arc<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Inner {
    kind: PrincipalKind,
    name: String,
    groups: BTreeSet<String>,
    scopes: BTreeSet<String>,
    claims: BTreeMap<String, String>,
    /// Whether its scopes are all that it may use.
    is_limited: bool,
}

/// How much is known of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// Who holds the process, and with it the data: no policy binds it.
    Owner,
    /// Who proved to a server who it is.
    User,
    /// Who reached a server that lets in whoever does.
    Anonymous,
}

impl Principal {
    fn new(kind: PrincipalKind, name: &str) -> Self {
        let (groups, scopes, claims, is_limited) = Default::default();
        Self { inner: Arc::new(Inner { kind, name: name.to_owned(), groups, scopes, claims, is_limited }) }
    }

    /// The person who holds the process: embedded use, the command line, a server that only this machine can reach.
    pub fn owner() -> Self {
        Self::new(PrincipalKind::Owner, "owner")
    }

    /// A user whom a server knows.
    pub fn user(name: &str) -> Self {
        Self::new(PrincipalKind::User, name)
    }

    /// Anybody, where a server lets in who doesn't say who it is.
    pub fn anonymous() -> Self {
        Self::new(PrincipalKind::Anonymous, "anonymous")
    }

    /// The same as a member of `groups`.
    #[must_use]
    pub fn with_groups(self, groups: impl IntoIterator<Item = String>) -> Self {
        self.changed(|inner| inner.groups = groups.into_iter().collect())
    }

    /// The same with what its token allows.
    #[must_use]
    pub fn with_scopes(self, scopes: impl IntoIterator<Item = String>) -> Self {
        self.changed(|inner| inner.scopes = scopes.into_iter().collect())
    }

    /// The same by a token that is for `scopes` alone: what its user and the groups of it may do, it may not.
    #[must_use]
    pub fn limited_to(self, scopes: impl IntoIterator<Item = String>) -> Self {
        self.with_scopes(scopes).changed(|inner| inner.is_limited = true)
    }

    /// The same with what else its token says of it.
    #[must_use]
    pub fn with_claims(self, claims: impl IntoIterator<Item = (String, String)>) -> Self {
        self.changed(|inner| inner.claims = claims.into_iter().collect())
    }

    fn changed(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// How much is known of it.
    pub fn kind(&self) -> PrincipalKind {
        self.inner.kind
    }

    /// Whether it is who holds the process.
    pub fn is_owner(&self) -> bool {
        self.inner.kind == PrincipalKind::Owner
    }

    /// Whether it may do what its scopes allow, and not what its name and its groups do.
    pub fn is_limited(&self) -> bool {
        self.inner.is_limited
    }

    /// The name, for records and handles.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The groups that it is in, in order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.inner.groups.iter().map(String::as_str)
    }

    /// What its token allows, in order.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.inner.scopes.iter().map(String::as_str)
    }

    /// What its token says of it.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.inner.claims.get(name).map(String::as_str)
    }
}

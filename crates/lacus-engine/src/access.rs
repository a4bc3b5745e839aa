//! What the principal of a query may do, enforced twice: names that it may not see mean nothing to the planner (`Access::hides`), and the
//! plan as a whole is looked at before it runs (`Access::check`): every table in it must have come through here.

mod secured;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ResolvedTableReference, Result as DataFusionResult};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::optimizer::AnalyzerRule;
use lacus_core::{Classification, Error, Kind, Location, Principal, PrincipalKind, Result, Site};
use lacus_policy::{Decision, Granted, Policy, PolicyFile, Privilege, Rule, Table};
use lacus_storage::Stores;
use object_store::path::Path;

use crate::catalog::{Catalog, TableEntry};
use crate::client::TEMPORARY;
use crate::information_schema::INFORMATION_SCHEMA;
use crate::settings::SYSTEM;
use crate::system::IS_GRANTED;

pub(crate) use secured::{RestrictedExec, Secured, Unreadable, is_partial, lacks_columns, rewritten};

/// The table about queries. Everybody sees it, with one's own.
pub(crate) const QUERIES: &str = "queries";
/// Settings that mean nothing but the form of one's own answers; the others are granted.
const HARMLESS: [&str; 3] = ["datafusion.execution.time_zone", "datafusion.sql_parser.dialect", "lacus.units"];

/// What was found while one query was planned, for its record.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was refused, or passed off as not there.
    refused: Mutex<Vec<String>>,
    /// What decided on each table: in the order of their opening.
    decided: Mutex<Vec<Decided>>,
    /// Whether a table of it is seen in part, so that counts of what was read would tell of the rest.
    restricted: AtomicBool,
    version: Mutex<Option<String>>,
}

/// What a policy decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What was to be done: `select`, `insert`, ...
    pub privilege: &'static str,
    /// With what: the full name of a table, a path, a setting.
    pub object: String,
    /// Whether it is allowed.
    pub is_allowed: bool,
    /// The rule that decided; none denies it.
    pub rule: Option<String>,
}

impl Decided {
    /// What decided, in words.
    pub fn by(&self) -> String {
        self.rule.as_ref().map_or_else(|| "no rule allows it".to_owned(), |rule| format!("by the rule `{rule}`"))
    }
}

impl Findings {
    /// What was refused, if anything was.
    pub(crate) fn refused(&self) -> Option<String> {
        let refused = held(&self.refused);
        (!refused.is_empty()).then(|| refused.join("; "))
    }

    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// The version of the policy that held.
    pub(crate) fn version(&self) -> Option<String> {
        held(&self.version).clone()
    }

    /// The policy that holds.
    pub(crate) fn hold(&self, policy: Option<&Policy>) {
        *held(&self.version) = policy.map(|policy| policy.version().to_owned());
    }

    /// What was decided.
    pub(crate) fn decided(&self) -> Vec<Decided> {
        held(&self.decided).clone()
    }

    fn note(&self, privilege: Privilege, object: String, decision: &Decision) {
        let (is_allowed, rule) = (decision.is_allowed(), decision.rule().map(|rule| rule.name.clone()));
        let decided = Decided { privilege: privilege.word(), object, is_allowed, rule };
        if !is_allowed {
            held(&self.refused).push(format!("{privilege} on `{}` denied: {}", decided.object, decided.by()));
        }
        let mut all = held(&self.decided);
        if !all.contains(&decided) {
            all.push(decided);
        }
    }
}

/// What the policy grants a principal at an instant: what was computed by other rules is not for it any more.
#[derive(Debug, Clone)]
pub struct Rights(Option<Arc<Granted>>);

impl Rights {
    pub(crate) fn of(policy: Option<&PolicyFile>, principal: &Principal) -> Self {
        Self(policy.filter(|_| !principal.is_owner()).map(|policy| Arc::new(policy.now().of(principal))))
    }
}

impl PartialEq for Rights {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            _ => false,
        }
    }
}

/// What the principal of one query may do.
#[derive(Debug)]
pub(crate) struct Access {
    principal: Principal,
    /// What the policy grants; without a policy, and to the owner, everything is.
    granted: Option<Granted>,
    /// Where the rules stand by which it was granted.
    policy: Option<Arc<PolicyFile>>,
    stores: Arc<Stores>,
    findings: Arc<Findings>,
    /// The access of whoever asks, for views in the plans of a policy: they see as whoever asks.
    asking: Option<Arc<Self>>,
    /// The tables that came through here, each kept so that its address stays its own.
    opened: Mutex<HashMap<usize, Arc<dyn TableProvider>>>,
}

/// What is known of a table before it is opened.
pub(crate) struct Asked<'a> {
    pub(crate) resolved: &'a ResolvedTableReference,
    pub(crate) classification: Option<Classification>,
    pub(crate) location: Option<Location>,
    /// Whether it is a table of a site, whose schemas may have the names of ours.
    pub(crate) is_elsewhere: bool,
}

impl Access {
    pub(crate) fn new(policy: Option<&Arc<PolicyFile>>, principal: &Principal, stores: Arc<Stores>, findings: Arc<Findings>) -> Arc<Self> {
        let now = policy.map(|policy| policy.now());
        let granted = now.as_ref().filter(|_| !principal.is_owner()).map(|policy| policy.of(principal));
        findings.hold(now.as_deref());
        let (principal, policy) = (principal.clone(), policy.cloned());
        Arc::new(Self { principal, granted, policy, stores, findings, asking: None, opened: Mutex::default() })
    }

    /// The access of whoever wrote the policy: what its filters and masks read.
    fn of_policy(self: &Arc<Self>) -> Arc<Self> {
        let (principal, stores, findings) = (self.principal.clone(), Arc::clone(&self.stores), Arc::default());
        let asking = Some(Arc::clone(self));
        Arc::new(Self { principal, granted: None, policy: None, stores, findings, asking, opened: Mutex::default() })
    }

    /// Whether this is the access of whoever wrote the policy.
    pub(crate) fn is_of_policy(&self) -> bool {
        self.asking.is_some()
    }

    /// The access of the query that `state` is of.
    ///
    /// # Errors
    /// `Internal` when there is none: nothing can be opened then.
    pub(crate) fn of(state: &SessionState) -> Result<Arc<Self>> {
        state.config().get_extension::<Self>().ok_or_else(|| Error::new(Kind::Internal, "nobody said what the principal may do"))
    }

    /// Refuses to run what was planned by rules that no longer hold for the principal.
    ///
    /// # Errors
    /// `PermissionDenied`, which asking anew may mend.
    pub(crate) fn check_current(&self) -> Result<()> {
        let (Some(granted), Some(policy)) = (&self.granted, &self.policy) else { return Ok(()) };
        if policy.now().of(&self.principal).is_same(granted) {
            return Ok(());
        }
        Err(Error::new(Kind::PermissionDenied, "what you may read has changed since this was planned").hint("ask again").retryable(true))
    }

    /// Whether anything is denied to the principal.
    pub(crate) fn is_bound(&self) -> bool {
        self.granted.is_some()
    }

    /// The groups that the principal is in.
    pub(crate) fn groups(&self) -> Vec<String> {
        match &self.granted {
            Some(granted) => granted.groups().iter().cloned().collect(),
            None => self.principal.groups().map(str::to_owned).collect(),
        }
    }

    fn with<T>(&self, asked: &Asked<'_>, decide: impl FnOnce(&Table<'_>) -> T) -> T {
        // Few rules ask where a table lies.
        let place = OnceLock::new();
        let place = || place.get_or_init(|| asked.location.as_ref().and_then(|location| self.place(location))).as_ref();
        let covers = |rule: &str| place().is_some_and(|place| self.place_of(rule).is_some_and(|rule| place.prefix_matches(&rule)));
        let ResolvedTableReference { catalog, schema, table } = asked.resolved;
        let table = Table { classification: asked.classification, covers: Some(&covers), ..Table::new(catalog, schema, table) };
        decide(&table)
    }

    /// The place that a location names, as far as it is no glob.
    fn place(&self, location: &Location) -> Option<Path> {
        self.stores.resolve(location).ok().map(|pattern| pattern.prefix().clone())
    }

    /// The place that a rule writes.
    fn place_of(&self, rule: &str) -> Option<Path> {
        self.place(&Location::parse(rule).ok()?)
    }

    /// Whether the rules are about a table: those of every lake that tell a principal of its own are not.
    fn is_ruled(asked: &Asked<'_>) -> bool {
        match asked.resolved.schema.as_ref() {
            _ if asked.is_elsewhere => true,
            INFORMATION_SCHEMA | TEMPORARY => false,
            SYSTEM => IS_GRANTED.contains(&asked.resolved.table.as_ref()),
            _ => true,
        }
    }

    /// Whether the principal may know that there is this table.
    pub(crate) fn sees(&self, asked: &Asked<'_>) -> bool {
        let Some(granted) = &self.granted else { return true };
        !Self::is_ruled(asked) || self.with(asked, |table| granted.sees(table))
    }

    /// Whether the principal may know that there is this schema.
    pub(crate) fn sees_schema(&self, catalog: &Catalog, schema: &str) -> bool {
        let Some(granted) = &self.granted else { return true };
        if catalog.is_fixed(schema) {
            return true;
        }
        let classification = catalog.dataset_schema(schema).and_then(|(spec, _)| spec.classification);
        granted.sees_schema(&catalog.lake, schema, classification)
    }

    /// Whether the principal may do something with a table that it sees.
    fn on_table(&self, privilege: Privilege, asked: &Asked<'_>) -> Option<Decision> {
        let granted = self.granted.as_ref()?;
        Some(self.with(asked, |table| granted.on_table(privilege, table)))
    }

    /// Refuses what the principal may not do with a table. [`Planner::require`](crate::planner::Planner::require) also passes off as not
    /// there what it may not know of.
    pub(crate) fn require(&self, privilege: Privilege, asked: &Asked<'_>) -> Result<()> {
        let Some(decision) = self.on_table(privilege, asked) else { return Ok(()) };
        self.findings.note(privilege, asked.resolved.to_string(), &decision);
        match decision.is_allowed() {
            true => Ok(()),
            false => Err(self.denied(privilege, &asked.resolved.to_string())),
        }
    }

    /// Refuses to make or drop a schema.
    pub(crate) fn require_schema(&self, privilege: Privilege, catalog: &str, schema: &str) -> Result<()> {
        let Some(granted) = &self.granted else { return Ok(()) };
        let decision = granted.on_schema(privilege, catalog, schema);
        let object = format!("{catalog}.{schema}.*");
        self.findings.note(privilege, object.clone(), &decision);
        if decision.is_allowed() { Ok(()) } else { Err(self.denied(privilege, &object)) }
    }

    /// Refuses files that are named by their place.
    pub(crate) fn require_path(&self, privilege: Privilege, location: &Location) -> Result<()> {
        let Some(granted) = &self.granted else { return Ok(()) };
        let place = self.place(location);
        let both = |rule: &str| place.as_ref().zip(self.place_of(rule));
        let covers = |rule: &str| both(rule).is_some_and(|(place, rule)| place.prefix_matches(&rule));
        // What is denied may lie below what is asked for by its folder, or by a glob.
        let holds = |rule: &str| both(rule).is_some_and(|(place, rule)| rule.prefix_matches(place));
        let decision = granted.on_path(privilege, &covers, &holds);
        self.findings.note(privilege, location.to_string(), &decision);
        match decision.is_allowed() {
            true => Ok(()),
            false => Err(Error::new(Kind::PermissionDenied, format!("`{}` may not {privilege} by path here", self.principal.name()))
                .with("location", location)
                .hint("use the tables that SHOW TABLES lists, or ask whoever keeps the policy for a rule with `paths`")),
        }
    }

    /// On whose behalf a site is asked, which it is told. What the policy reads is read on behalf of nobody.
    pub(crate) fn asker(&self, site: &dyn Site) -> Result<&Principal> {
        let refused = match self.asking {
            None => site.check(&self.principal).err(),
            Some(_) => Some(Error::new(Kind::PermissionDenied, "a rule of the policy may not ask a site").with("site", site.name())),
        };
        let Some(error) = refused else { return Ok(&self.principal) };
        held(&self.findings.refused).push(format!("the site `{}` denied: {}", site.name(), error.message()));
        Err(error)
    }

    /// Refuses a setting that is not the principal's to change.
    pub(crate) fn require_setting(&self, name: &str) -> Result<()> {
        let Some(granted) = self.granted.as_ref().filter(|_| !HARMLESS.contains(&name)) else { return Ok(()) };
        let decision = granted.on_setting(name);
        self.findings.note(Privilege::Select, format!("setting {name}"), &decision);
        match decision.is_allowed() {
            true => Ok(()),
            false => Err(Error::new(Kind::PermissionDenied, format!("`{name}` is not for `{}` to change", self.principal.name()))
                .hint("ask whoever keeps the policy for a rule with `settings`")),
        }
    }

    /// Whether the principal may see and end the queries of `owner`.
    pub(crate) fn oversees(&self, catalog: &str, owner: &Principal) -> bool {
        let queries = ResolvedTableReference { catalog: catalog.into(), schema: SYSTEM.into(), table: QUERIES.into() };
        let asked = Asked { resolved: &queries, classification: None, location: None, is_elsewhere: false };
        // Who is anonymous may be anybody.
        let is_own = *owner == self.principal && owner.kind() != PrincipalKind::Anonymous;
        is_own || self.on_table(Privilege::Admin, &asked).is_none_or(|decision| decision.is_allowed())
    }

    fn denied(&self, privilege: Privilege, object: &str) -> Error {
        Error::new(Kind::PermissionDenied, format!("`{}` may not {privilege} on `{object}`", self.principal.name()))
            .hint("ask whoever keeps the policy of this lake")
    }

    /// How a table is read: by which rule, or that it is not; `None` when nothing binds the principal.
    fn reading(&self, asked: &Asked<'_>) -> Option<Decision> {
        if Self::is_ruled(asked) { self.on_table(Privilege::Select, asked) } else { None }
    }

    /// Whether the principal sees all of a table, so that what is known of its files may be told.
    pub(crate) fn tells_all(&self, asked: &Asked<'_>) -> bool {
        self.reading(asked).is_none_or(|decision| decision.is_allowed() && !decision.rule().is_some_and(|rule| rule.restricts()))
    }

    /// Whether a table is hidden from the principal. What is hidden is refused in the record alone.
    pub(crate) fn hides(&self, asked: &Asked<'_>) -> bool {
        if self.sees(asked) {
            return false;
        }
        if let Some(decision) = self.on_table(Privilege::Select, asked) {
            self.findings.note(Privilege::Select, asked.resolved.to_string(), &decision);
        }
        true
    }

    /// What stands in the place of an opened table: the table, what is seen of it, or that nothing is.
    pub(crate) async fn secured(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        table: Arc<dyn TableProvider>,
        planner: &crate::planner::Planner<'_>,
    ) -> Result<Arc<dyn TableProvider>> {
        let Some(decision) = self.reading(asked) else { return Ok(self.opened(table)) };
        let name = asked.resolved.to_string();
        let secured: Arc<dyn TableProvider> = match &decision {
            Decision::Denied(_) => Arc::new(Unreadable::new(self.denied(Privilege::Select, &name), table.schema())),
            Decision::Allowed(rule) if rule.restricts() => {
                self.findings.restricted.store(true, Ordering::Relaxed);
                let is_named = self.with(asked, |asked| rule.names_one(asked));
                let restricted = Secured::new(asked.resolved, table, rule, is_named, self.of_policy(), planner).await;
                Arc::new(restricted.map_err(|error| unusable(&error, rule, &name))?)
            }
            Decision::Allowed(_) => table,
        };
        // What may not be read may be written; only a plan that reads it is refused.
        if decision.is_allowed() {
            self.findings.note(Privilege::Select, name, &decision);
        }
        Ok(self.opened(secured))
    }

    /// A table that may stand in plans.
    pub(crate) fn opened(&self, table: Arc<dyn TableProvider>) -> Arc<dyn TableProvider> {
        if self.is_bound() || self.asking.is_some() {
            held(&self.opened).insert(address(&table), Arc::clone(&table));
        }
        table
    }

    /// Whether columns of a table are hidden from the principal.
    pub(crate) fn hides_columns(&self, asked: &Asked<'_>, columns: &[String]) -> bool {
        let rule = self.reading(asked).and_then(|decision| decision.rule().cloned());
        rule.is_some_and(|rule| columns.iter().any(|column| rule.hide.contains(column)))
    }

    /// Looks at a whole plan, with its subqueries: each table that it reads came through here, and may be read.
    fn check(&self, plan: &LogicalPlan) -> Result<()> {
        let mut found = Ok(());
        let walked = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                found = self.check_scan(scan);
            }
            Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        walked.map_err(Error::from).and(found)
    }

    fn check_scan(&self, scan: &TableScan) -> Result<()> {
        let table = source_as_provider(&scan.source)?;
        if let Some(unreadable) = table.downcast_ref::<Unreadable>() {
            let decision = Decision::Denied(None);
            self.findings.note(Privilege::Select, scan.table_name.to_string(), &decision);
            return Err(unreadable.refused());
        }
        let is_opened = |access: &Self| held(&access.opened).contains_key(&address(&table));
        match is_opened(self) || self.asking.as_deref().is_some_and(is_opened) {
            true => Ok(()),
            false => Err(Error::new(Kind::Internal, format!("nobody decided on `{}`, which the plan reads", scan.table_name))),
        }
    }

    /// The rule that looks at the plans of this query.
    pub(crate) fn rule(self: &Arc<Self>) -> Arc<dyn AnalyzerRule + Send + Sync> {
        Arc::new(CheckAccess { access: Arc::clone(self) })
    }

    /// The entries of a listing that the principal may know of.
    pub(crate) fn seen(&self, catalog: &Catalog, mut entries: Vec<TableEntry>) -> Vec<TableEntry> {
        if self.is_bound() {
            entries.retain(|entry| {
                let resolved = ResolvedTableReference {
                    catalog: entry.catalog.as_str().into(),
                    schema: entry.schema.as_str().into(),
                    table: entry.name.as_str().into(),
                };
                self.sees(&catalog.asked(&resolved))
            });
        }
        entries
    }
}

/// Plans what a rule shows of a table, if it is about it.
pub(crate) async fn check_rule(rule: &Arc<Rule>, resolved: &ResolvedTableReference, planner: &crate::planner::Planner<'_>) -> Result<()> {
    let (access, asked) = (planner.access()?, planner.catalog.asked(resolved));
    let (is_about, is_named) = access.with(&asked, |table| (rule.means(table), rule.names_one(table)));
    if !is_about {
        return Ok(());
    }
    let table = planner.table(resolved.clone().into()).await?;
    Secured::new(resolved, table, rule, is_named, access.of_policy(), planner).await.map(|_| ())
}

/// A rule of the policy that can't be applied to a table. Its text is not for the user.
fn unusable(error: &Error, rule: &Rule, table: &str) -> Error {
    tracing::error!(rule = rule.name, table, %error, "a rule of the policy can't be applied");
    Error::new(Kind::InvalidConfiguration, "the policy can't be applied to this table")
        .with("table", table)
        .hint("whoever keeps the policy finds the reason by `lacus policy check`")
}

/// Where a table is kept, which is its own for as long as it is.
fn address(table: &Arc<dyn TableProvider>) -> usize {
    Arc::as_ptr(table).cast::<()>() as usize
}

/// Looks at plans before they run.
#[derive(Debug)]
struct CheckAccess {
    access: Arc<Access>,
}

/// The name of the rule that looks at plans.
pub(crate) const CHECK: &str = "check_access";

impl AnalyzerRule for CheckAccess {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        self.access.check(&plan).map_err(DataFusionError::from)?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        CHECK
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::datasource::provider_as_source;
    use datafusion::logical_expr::{LogicalPlanBuilder, exists};
    use lacus_storage::Unnamed;

    fn scan(table: &Arc<dyn TableProvider>) -> DataFusionResult<LogicalPlanBuilder> {
        LogicalPlanBuilder::scan("t", provider_as_source(Arc::clone(table)), None)
    }

    #[test]
    fn a_plan_with_a_table_on_which_nobody_decided_is_refused() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "").map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let (policy, stores) = (Arc::new(PolicyFile::open(file)?), Arc::new(Stores::new(folder.path(), Unnamed::anonymous(), Vec::new())));
        let access = Access::new(Some(&policy), &Principal::user("ada"), stores, Arc::default());
        let [known, unknown] = [(); 2].map(|()| Arc::new(EmptyTable::new(Arc::new(Schema::empty()))) as Arc<dyn TableProvider>);
        let known = access.opened(known);
        let kind = |plan: &LogicalPlan| access.rule().analyze(plan.clone(), &ConfigOptions::default()).map(|_| ()).map_err(Error::from);
        let refused = |plan: &LogicalPlan| kind(plan).is_err_and(|error| error.to_string().contains("nobody decided on `t`"));
        assert!(kind(&scan(&known)?.build()?).is_ok());
        assert!(refused(&scan(&unknown)?.build()?));
        let subquery = Arc::new(scan(&unknown)?.build()?);
        assert!(refused(&scan(&known)?.filter(exists(subquery))?.build()?));
        Ok(())
    }
}

//! Servers whose tables are queried where they are: sites, which speak Flight SQL, and whatever else is a [`Server`].
//!
//! ```text
//! a plan -> rules that split it between sites -> a statement for each (`fold`, `select`, `words`) -> SiteExec (`exec`) -> `Server::ask` -> rows,
//! if they have the columns that were told
//! ```

mod branches;
mod database;
mod dialect;
mod exec;
mod fold;
mod keys;
mod moments;
mod select;
mod server;
mod sketches;
mod split_aggregate;
mod split_top_k;
mod words;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::default_table_source::DefaultTableSource;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, TableReference, internal_datafusion_err, project_schema};
use datafusion_expr::logical_plan::{Projection, TableScan, TableScanBuilder};
use datafusion_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion_optimizer::OptimizerRule;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use lacus_core::{Error, Kind, Principal, Result, Secret, Site, SiteStatus, hex};
use lacus_identity::Hub;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::Remote;
use crate::address::without_password;
use crate::client::{Assertion, RemoteTable, ServerInfo};
use exec::SiteExec;
use select::Select;
use words::Words;

pub use dialect::Dialect;
use server::check_columns;
pub use server::{Batches, Health, Server, Told, Traffic, named, within};
pub use sketches::sketch_functions;

/// What a Lacus says that it is.
const OWN_NAME: &str = "Lacus";

/// A site, as a lake file says it.
#[derive(Debug, Clone)]
pub struct SiteSpec {
    /// The name.
    pub name: String,
    /// The address, as [`Remote::connect`] takes it.
    pub url: String,
    /// The token that is brought; without one that of `lacus login`, if there is one for the address.
    pub token: Option<Secret>,
    /// What it is called in tokens that say on whose behalf it is asked; without it the owner of the lake alone may ask.
    pub audience: Option<String>,
    /// How long the site may take to be reached, to tell what a table is, and to plan what it is asked.
    pub timeout: Duration,
    /// How long what it told of a table is taken for true.
    pub schema_ttl: Duration,
}

/// A server of Flight SQL whose tables stand in a catalog. Nothing is asked before a query names a table of it.
#[derive(Debug)]
pub struct FlightSite {
    hub: Option<Arc<Hub>>,
    /// The site as the owner of the lake asks it.
    owner: Arc<Asked>,
    /// The site as others do. What one is told is not told to another.
    others: Mutex<HashMap<Principal, Arc<Asked>>>,
}

/// For how many it is remembered at once what they were told.
const MOST_OTHERS: usize = 1_000;

impl FlightSite {
    /// The site. Opens nothing. `hub` is what the lake calls itself when it asks on behalf of its users.
    pub fn new(spec: SiteSpec, hub: Option<Arc<Hub>>) -> Self {
        Self { hub, owner: Arc::new(Asked::new(spec)), others: Mutex::default() }
    }

    /// What the lake calls itself and the site when it asks on behalf of somebody; `None` for the owner, of whom other things tell.
    fn asserts(&self, principal: &Principal) -> Result<Option<(&Arc<Hub>, &String)>> {
        let found = match (&self.hub, &self.owner.spec.audience) {
            _ if principal.is_owner() => Ok(None),
            (Some(hub), Some(audience)) => Hub::check(principal).map(|()| Some((hub, audience))),
            _ => Err(Error::new(Kind::PermissionDenied, format!("`{}` may not ask the site", principal.name())).hint(
                "it is asked on behalf of the owner of this lake alone, unless the lake file says who this lake is ([federation]) and what the site is called (`audience`)",
            )),
        };
        found.map_err(|error| self.owner.named(error))
    }

    /// The site as somebody asks it.
    fn asked(&self, principal: &Principal) -> Result<Arc<Asked>> {
        let Some((hub, audience)) = self.asserts(principal)? else { return Ok(Arc::clone(&self.owner)) };
        let mut others = held(&self.others);
        if let Some(known) = others.get(principal) {
            return Ok(Arc::clone(known));
        }
        if others.len() >= MOST_OTHERS {
            // Whoever is in the middle of a query keeps what it was told.
            others.clear();
        }
        let assertion = Assertion { hub: Arc::clone(hub), principal: principal.clone(), audience: audience.clone() };
        let asked = Arc::new(self.owner.on_behalf(assertion));
        others.insert(principal.clone(), Arc::clone(&asked));
        Ok(asked)
    }
}

/// A site as the tables of it know it.
#[derive(Debug)]
struct Asked {
    spec: Arc<SiteSpec>,
    /// On whose behalf, if not of the owner.
    assertion: Option<Arc<Assertion>>,
    /// The connection on which nobody has said yet who asks, for all but the owner.
    nameless: Arc<OnceCell<Remote>>,
    remote: OnceCell<Remote>,
    about: Arc<Mutex<Option<Arc<About>>>>,
    told: Told<RemoteTable>,
    health: Health,
}

/// What a site says of itself.
#[derive(Debug, Clone)]
struct About {
    server: String,
    version: String,
    dialect: Dialect,
}

impl About {
    /// What a server told.
    fn told(info: ServerInfo) -> Self {
        let ServerInfo { name, version, quote } = info;
        // Functions and their rounding may differ between versions.
        let is_own = name == OWN_NAME && version.split('.').take(2).eq(env!("CARGO_PKG_VERSION").split('.').take(2));
        let quote = quote.chars().next().filter(|quote| ['"', '`'].contains(quote)).unwrap_or('"');
        Self { server: name, version, dialect: if is_own { Dialect::Lacus } else { Dialect::Standard { quote } } }
    }
}

impl Asked {
    fn new(spec: SiteSpec) -> Self {
        let (nameless, about, told, health) = Default::default();
        Self { spec: Arc::new(spec), assertion: None, nameless, remote: OnceCell::new(), about, told, health }
    }

    /// The same site on behalf of another, for whom it may fail while it answers others.
    fn on_behalf(&self, assertion: Assertion) -> Self {
        let (spec, nameless) = (Arc::clone(&self.spec), Arc::clone(&self.nameless));
        let (about, assertion) = (Arc::clone(&self.about), Some(Arc::new(assertion)));
        Self { spec, assertion, nameless, remote: OnceCell::new(), about, told: Told::default(), health: Health::default() }
    }

    /// The connection, which is made once and finds its way again by itself.
    async fn remote(&self) -> Result<&Remote> {
        let SiteSpec { url, token, .. } = self.spec.as_ref();
        match &self.assertion {
            None => self.remote.get_or_try_init(|| Remote::connect_far(url, token.as_ref())).await,
            Some(assertion) => {
                let nameless = self.nameless.get_or_try_init(|| Remote::reach_far(url)).await?;
                self.remote.get_or_try_init(|| async { Ok(nameless.on_behalf(Arc::clone(assertion))) }).await
            }
        }
    }

    /// What the site is. It is asked whenever it tells what a table is, as it may be another by now.
    async fn about(&self) -> Result<Arc<About>> {
        let about = Arc::new(About::told(self.remote().await?.server_info().await?));
        *held(&self.about) = Some(Arc::clone(&about));
        Ok(about)
    }

    /// A table that it told of.
    fn table(self: &Arc<Self>, told: RemoteTable, about: Arc<About>) -> Result<Arc<dyn TableProvider>> {
        let columns = told.columns.clone().ok_or_else(|| {
            self.named(Error::new(Kind::Unsupported, "the site doesn't tell the columns of its tables (CommandGetTables)"))
        })?;
        let parts = [told.catalog.as_deref(), told.schema.as_deref(), Some(told.name.as_str())].into_iter().flatten();
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).map(|part| about.dialect.quoted(part)).collect();
        let names = columns.fields().iter().map(|field| about.dialect.quoted(field.name())).collect();
        let stored = Stored { from: parts.join("."), columns: names, schema: columns, rows: None };
        Ok(server_table(Arc::clone(self) as Arc<dyn Server>, about.dialect, stored))
    }

    /// What the site says, by its name.
    fn named(&self, error: Error) -> Error {
        named(self, error)
    }
}

#[async_trait]
impl Server for Asked {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn timeout(&self) -> Duration {
        self.spec.timeout
    }

    fn health(&self) -> &Health {
        &self.health
    }

    async fn ask(self: Arc<Self>, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>) -> Result<Batches> {
        let remote = within(self.as_ref(), self.remote()).await?;
        let query = within(self.as_ref(), remote.query_counted(text, &[], Arc::clone(traffic))).await?;
        check_columns(self.as_ref(), &query.schema(), wanted)?;
        Ok(query.stream().map_err(|error| self.named(error))?.boxed())
    }

    fn forget(&self) {
        self.told.forget();
    }
}

#[async_trait]
impl Site for FlightSite {
    fn name(&self) -> &str {
        &self.owner.spec.name
    }

    fn check(&self, principal: &Principal) -> Result<()> {
        self.asserts(principal).map(|_| ())
    }

    async fn open(&self, schema: &str, table: &str, principal: &Principal) -> Result<Option<Arc<dyn TableProvider>>> {
        let site = self.asked(principal)?;
        if let (Some(known), Some(about)) = (site.told.known(schema, table, site.spec.schema_ttl), held(&site.about).clone()) {
            return site.table(known, about).map(Some);
        }
        let asked = async {
            // A site with several catalogs has their names before those of their schemas.
            let (catalog, schema) = schema.split_once('.').map_or((None, schema), |(catalog, schema)| (Some(catalog), schema));
            let told = async { site.remote().await?.tables(catalog, schema, Some(table), true).await };
            futures::try_join!(told, site.about())
        };
        site.health.admits()?;
        let (mut found, about) = site.health.noted(within(site.as_ref(), asked).await)?;
        let Some(told) = found.pop() else { return Ok(None) };
        if let Some(other) = found.pop() {
            let catalogs = [&other, &told].map(|told| told.catalog.clone().unwrap_or_default());
            let error = Error::new(Kind::InvalidQuery, format!("`{schema}.{table}` is in the catalogs {}", catalogs.join(", ")));
            return Err(site.named(error).hint(format!("write {}.\"{}.{schema}\".{table}", self.name(), catalogs[0])));
        }
        let provider = site.table(told.clone(), about)?;
        site.told.remember(schema, table, told);
        Ok(Some(provider))
    }

    async fn tables(&self, schema: &str, principal: &Principal) -> Result<Vec<String>> {
        let site = self.asked(principal)?;
        let asked = async { site.remote().await?.tables(None, schema, None, false).await };
        Ok(within(site.as_ref(), asked).await?.into_iter().map(|told| told.name).collect())
    }

    async fn reach(&self, principal: &Principal) -> Result<()> {
        let site = self.asked(principal)?;
        site.health.admits()?;
        let asked = async { site.remote().await?.server_info().await.map(|_| ()) };
        site.health.noted(within(site.as_ref(), asked).await)
    }

    fn status(&self) -> SiteStatus {
        let about = held(&self.owner.about).clone();
        let others: Vec<Arc<Asked>> = held(&self.others).values().cloned().collect();
        let mut status = SiteStatus {
            url: without_password(&self.owner.spec.url),
            server: about.as_ref().map(|about| about.server.clone()),
            version: about.as_ref().map(|about| about.version.clone()),
            computes_alike: about.map(|about| about.dialect.is_own()),
            ..SiteStatus::default()
        };
        for asked in std::iter::once(&self.owner).chain(&others) {
            status.tables += asked.told.tables();
            status.failures = status.failures.max(asked.health.failures());
            status.is_failing |= asked.health.is_failing();
        }
        // What another was told is not told here.
        status.error = self.owner.health.shut().map(|error| error.to_string());
        status
    }
}

/// What a site is asked, as a table: one of its tables, or a statement over several.
#[derive(Debug)]
struct SiteTable {
    select: Select,
    schema: SchemaRef,
}

/// A table as a server stores it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What stands behind FROM.
    pub from: String,
    /// Each column as an expression of the server.
    pub columns: Vec<String>,
    /// Their names and types.
    pub schema: SchemaRef,
    /// About how many rows it has, if that is known.
    pub rows: Option<usize>,
}

/// A table of a server, which is asked for what queries need of it.
pub fn server_table(server: Arc<dyn Server>, dialect: Dialect, stored: Stored) -> Arc<dyn TableProvider> {
    let Stored { from, columns, schema, rows } = stored;
    let select = Select::over(server, dialect, from, columns);
    let select = if let Some(rows) = rows { select.with_stored(rows) } else { select };
    Arc::new(SiteTable { select, schema })
}

/// The table of a site that a scan reads.
fn site_table(scan: &TableScan) -> Option<Arc<SiteTable>> {
    let source = scan.source.downcast_ref::<DefaultTableSource>()?;
    (Arc::clone(&source.table_provider) as Arc<dyn std::any::Any + Send + Sync>).downcast().ok()
}

impl SiteTable {
    /// A plan that reads a statement, and gives its columns as `schema` has them.
    fn plan(select: Select, schema: &DFSchema) -> datafusion_common::Result<LogicalPlan> {
        let is_plain = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        let all: HashSet<&String> = schema.fields().iter().map(|field| field.name()).collect();
        let mut seen = HashSet::new();
        let name = |(place, field): (usize, &FieldRef)| match is_plain(field.name()) && seen.insert(field.name().clone()) {
            true => field.as_ref().clone(),
            false => {
                let free = (0..).map(|more| format!("c{place}{}", "_".repeat(more))).find(|name| !all.contains(name));
                field.as_ref().clone().with_name(free.unwrap_or_default())
            }
        };
        let columns: Vec<Field> = schema.fields().iter().enumerate().map(name).collect();
        // Scans are equal that have one name and give the same columns: another statement has another name.
        let text = select.text(&columns.iter().map(|column| column.name()).collect::<Vec<_>>());
        let site = TableReference::partial(select.server.name(), hex(&Sha256::digest(text)[..8]));
        let table = Self { select, schema: Arc::new(Schema::new_with_metadata(columns, schema.metadata().clone())) };
        let columns = schema.iter().zip(table.schema.fields()).map(|((qualifier, field), column)| {
            Expr::Column(Column::new(Some(site.clone()), column.name())).alias_qualified(qualifier.cloned(), field.name())
        });
        let columns = columns.collect();
        let scan = TableScanBuilder::new(site, Arc::new(DefaultTableSource::new(Arc::new(table)))).build()?;
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::TableScan(scan)))?))
    }

    fn words<'a>(select: &'a Select, schema: &'a DFSchema) -> Words<'a> {
        Words::new(select, schema, &fold::fold)
    }

    /// What the site is asked for rows of it; `None` if it can't be asked one of the filters.
    fn asked(&self, projection: &[usize], filters: &[Expr], limit: Option<usize>) -> Option<Select> {
        let mut select = self.select.clone();
        if !filters.is_empty() {
            select = select.open();
            let schema = unqualified(&self.schema);
            for filter in filters {
                let condition = Self::words(&select, &schema).expr(&bare(filter))?;
                select = select.filtered(condition);
            }
        }
        // Without one of its functions a statement of one row would be one of all rows.
        if select.is_one_row() && projection.len() < select.columns.len() {
            select = select.open();
        }
        let columns = projection.iter().map(|place| select.columns[*place].clone()).collect();
        let select = select.projected(columns);
        match limit {
            Some(rows) if !select.is_within(rows) => select.limited(|_| Some(Vec::new()), rows),
            _ => Some(select),
        }
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The columns of a table, as expressions without a table's name find them.
fn unqualified(schema: &Schema) -> DFSchema {
    DFSchema::try_from(schema.clone()).unwrap_or_else(|_| DFSchema::empty())
}

/// An expression whose columns have no table's name.
fn bare(expr: &Expr) -> Expr {
    let bare = expr.clone().transform(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::from_name(column.name)))),
        expr => Ok(Transformed::no(expr)),
    });
    bare.map_or_else(|_| expr.clone(), |bare| bare.data)
}

#[async_trait]
impl TableProvider for SiteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> datafusion_common::Result<Vec<TableProviderFilterPushDown>> {
        let (select, schema) = (self.select.clone().open(), unqualified(&self.schema));
        // What means the same on both sides is done there alone; everything else here.
        let pushed = |filter: &&Expr| match Self::words(&select, &schema).expr(&bare(filter)) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion_common::Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.schema, projection)?;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let asked = self.asked(projection.unwrap_or(&all), filters, limit);
        let select = asked.ok_or_else(|| internal_datafusion_err!("a site was given a condition that it can't be asked"))?;
        Ok(Arc::new(SiteExec::new(select, schema)))
    }
}

/// The rules that ask sites for more than their tables, in the order in which they are applied, behind all others.
pub fn site_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(split_aggregate::WholeGroups),
        Arc::new(split_aggregate::SplitAggregate),
        Arc::new(split_top_k::SplitTopK),
        Arc::new(fold::SiteQueries),
    ]
}

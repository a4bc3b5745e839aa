//! Other sites: servers of Flight SQL whose tables are queried where they are.
//!
//! ```text
//! scan(columns, filters, limit) -> text of SQL (`sql`) -> SiteExec (`exec`) -> Flight SQL -> rows, if they have the columns that were told
//! ```

mod exec;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::project_schema;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use lacus_core::{Error, Kind, Result, Secret, Site};
use tokio::sync::OnceCell;

use crate::Remote;
use crate::client::RemoteTable;
use exec::SiteExec;

/// A site, as a lake file says it.
#[derive(Debug, Clone)]
pub struct SiteSpec {
    /// The name.
    pub name: String,
    /// The address, as [`Remote::connect`] takes it.
    pub url: String,
    /// The token that is brought; without one that of `lacus login`, if there is one for the address.
    pub token: Option<Secret>,
    /// How long the site may take to be reached, and to tell what a table is.
    pub timeout: Duration,
}

/// A server of Flight SQL whose tables stand in a catalog. Nothing is asked before a query names a table of it.
#[derive(Debug)]
pub struct FlightSite(Arc<Asked>);

impl FlightSite {
    /// The site. Opens nothing.
    pub fn new(spec: SiteSpec) -> Self {
        Self(Arc::new(Asked { spec, remote: OnceCell::new() }))
    }
}

/// A site as the tables of it know it.
#[derive(Debug)]
struct Asked {
    spec: SiteSpec,
    remote: OnceCell<Remote>,
}

impl Asked {
    /// The connection, which is made once and finds its way again by itself.
    async fn remote(&self) -> Result<&Remote> {
        let SiteSpec { url, token, .. } = &self.spec;
        self.remote.get_or_try_init(|| Remote::connect_as(url, token.as_ref())).await
    }

    /// What the site says, by its name.
    fn named(&self, error: Error) -> Error {
        error.with("site", &self.spec.name)
    }

    /// Waits for a short answer.
    async fn within<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let SiteSpec { timeout, .. } = &self.spec;
        let late = || {
            let error = Error::new(Kind::Unavailable, format!("no answer within {}s", timeout.as_secs_f64()));
            error.hint("ask whoever keeps the site, or write a longer `timeout` for it").retryable(true)
        };
        let answer = tokio::time::timeout(*timeout, asked).await.unwrap_or_else(|_| Err(late()));
        answer.map_err(|error| self.named(error))
    }
}

#[async_trait]
impl Site for FlightSite {
    fn name(&self) -> &str {
        &self.0.spec.name
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let asked = async {
            // A site with several catalogs has their names before those of their schemas.
            let (catalog, schema) = schema.split_once('.').map_or((None, schema), |(catalog, schema)| (Some(catalog), schema));
            self.0.remote().await?.tables(catalog, schema, Some(table), true).await
        };
        let mut found = self.0.within(asked).await?;
        let Some(told) = found.pop() else { return Ok(None) };
        if let Some(other) = found.pop() {
            let catalogs = [&other, &told].map(|told| told.catalog.clone().unwrap_or_default());
            let error = Error::new(Kind::InvalidQuery, format!("`{schema}.{table}` is in the catalogs {}", catalogs.join(", ")));
            return Err(self.0.named(error).hint(format!("write {}.\"{}.{schema}\".{table}", self.name(), catalogs[0])));
        }
        let columns = told.columns.clone().ok_or_else(|| {
            self.0.named(Error::new(Kind::Unsupported, "the site doesn't tell the columns of its tables (CommandGetTables)"))
        })?;
        Ok(Some(Arc::new(SiteTable { site: Arc::clone(&self.0), told, columns })))
    }

    async fn tables(&self, schema: &str) -> Result<Vec<String>> {
        let asked = async { self.0.remote().await?.tables(None, schema, None, false).await };
        Ok(self.0.within(asked).await?.into_iter().map(|told| told.name).collect())
    }
}

/// A table of a site.
#[derive(Debug)]
struct SiteTable {
    site: Arc<Asked>,
    told: RemoteTable,
    columns: SchemaRef,
}

#[async_trait]
impl TableProvider for SiteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> datafusion_common::Result<Vec<TableProviderFilterPushDown>> {
        // What means the same on both sides is done there alone; everything else here.
        let pushed = |filter: &&Expr| match sql::condition(filter, &self.columns) {
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
        let schema = project_schema(&self.columns, projection)?;
        let conditions: Vec<String> = filters.iter().filter_map(|filter| sql::condition(filter, &self.columns)).collect();
        // Rows that are left out here come off the limit.
        let limit = limit.filter(|_| conditions.len() == filters.len());
        let text = sql::select(&self.told, &schema, &conditions, limit);
        Ok(Arc::new(SiteExec::new(Arc::clone(&self.site), text, schema)))
    }
}

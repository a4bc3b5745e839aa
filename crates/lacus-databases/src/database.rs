use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion_catalog::TableProvider;
use lacus_core::{Error, Kind, Principal, Result, Secret, Site, SiteStatus};
use lacus_remote::{Batches, Dialect, Health, Server, Stored, Told, Traffic, named, server_table, within};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::mysql::MySql;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// A database, as a lake file says it.
#[derive(Debug, Clone)]
pub struct DatabaseSpec {
    /// The name.
    pub name: String,
    /// The address: `postgresql://USER@HOST/DATABASE`, `mysql://USER@HOST/DATABASE`, `sqlite:PATH`.
    pub url: String,
    /// The password of the user.
    pub password: Option<Secret>,
    /// The folder below which relative paths stand.
    pub base: PathBuf,
    /// How long it may take to be reached, and to plan what it is asked.
    pub timeout: Duration,
    /// How long what it told of a table is taken for true.
    pub schema_ttl: Duration,
    /// How many statements it is asked at once.
    pub connections: usize,
}

/// A table as a database tells it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) dialect: Dialect,
    pub(crate) stored: Stored,
}

/// What a database is.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) server: String,
    pub(crate) version: String,
}

/// One kind of database.
#[async_trait]
pub(crate) trait Driver: Debug + Send + Sync {
    /// What it is.
    async fn about(&self) -> Result<About>;

    /// What a table is; `None` when there is none that may be read.
    async fn describe(&self, schema: &str, table: &str) -> Result<Option<Described>>;

    /// The tables of a schema that may be read.
    async fn tables(&self, schema: &str) -> Result<Vec<String>>;

    /// Asks a statement; `permit` is kept as long as it runs.
    async fn ask(&self, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>, permit: OwnedSemaphorePermit) -> Result<Batches>;
}

/// A database whose tables stand in a catalog. Nothing is asked before a query names one of them.
///
/// It is asked in transactions that can't write, by one account, which is the lake's as the credentials of a store are: who may read what
/// of it is up to the rules of the lake.
#[derive(Debug)]
pub struct Database {
    asked: Arc<Asked>,
}

#[derive(Debug)]
struct Asked {
    spec: DatabaseSpec,
    driver: Box<dyn Driver>,
    /// How many more statements it may be asked now. What it is, and what its tables are, is asked beside them.
    permits: Arc<Semaphore>,
    health: Health,
    about: Mutex<Option<About>>,
    told: Told<Described>,
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kinds of databases by their schemes.
enum Place {
    Postgres(Url),
    MySql(Url),
    Sqlite(PathBuf, bool),
}

fn unfit(url: &str, why: &str) -> Error {
    let error = Error::new(Kind::InvalidConfiguration, format!("`{}` is no address of a database: {why}", without_password(url)));
    error.hint("write postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:PATH")
}

/// The address without what may be secret, for messages.
fn without_password(url: &str) -> String {
    let without_options = |text: &str| text.split('?').next().unwrap_or_default().to_owned();
    let Some((scheme, rest)) = url.split_once("://") else { return without_options(url) };
    // A password may hold whatever else means something in an address.
    match rest.rsplit_once('@') {
        Some((user, place)) => format!("{scheme}://{}@{}", user.split(':').next().unwrap_or_default(), without_options(place)),
        None => without_options(url),
    }
}

impl Place {
    fn parse(url: &str, base: &Path) -> Result<Self> {
        let (scheme, rest) = url.split_once(':').ok_or_else(|| unfit(url, "it has no scheme"))?;
        let parsed = || Url::parse(url).map_err(|error| unfit(url, &error.to_string()));
        match scheme {
            "postgres" | "postgresql" => Ok(Self::Postgres(parsed()?)),
            "mysql" | "mariadb" => Ok(Self::MySql(parsed()?)),
            "sqlite" => {
                let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
                let is_immutable = match options {
                    "" => false,
                    "immutable=1" => true,
                    other => return Err(unfit(url, &format!("`{other}` is none of its options, which are immutable=1"))),
                };
                let path = path.strip_prefix("//").unwrap_or(path);
                (!path.is_empty()).then(|| Self::Sqlite(base.join(path), is_immutable)).ok_or_else(|| unfit(url, "it names no file"))
            }
            other => Err(unfit(url, &format!("`{other}` is none of the kinds of databases"))),
        }
    }
}

/// Looks whether a text is the address of a database.
///
/// # Errors
/// `InvalidConfiguration` that says how one is written.
pub fn check_url(url: &str) -> Result<()> {
    Place::parse(url, Path::new("")).map(|_| ())
}

impl Database {
    /// The database. Opens nothing.
    ///
    /// # Errors
    /// `InvalidConfiguration` for an address that is none, or for certificates that can't be read.
    pub fn new(spec: DatabaseSpec) -> Result<Self> {
        let name = spec.name.clone();
        let driver: Box<dyn Driver> = match Place::parse(&spec.url, &spec.base)? {
            Place::Postgres(url) => Box::new(Postgres::new(&url, &spec).map_err(|error| error.with("database", &name))?),
            Place::MySql(url) => Box::new(MySql::new(&url, &spec).map_err(|error| error.with("database", &name))?),
            Place::Sqlite(path, is_immutable) => Box::new(Sqlite::new(path, is_immutable)),
        };
        let (permits, (health, about, told)) = (Arc::new(Semaphore::new(spec.connections)), Default::default());
        Ok(Self { asked: Arc::new(Asked { spec, driver, permits, health, about, told }) })
    }
}

impl Asked {
    fn table(self: &Arc<Self>, described: Described) -> Arc<dyn TableProvider> {
        server_table(Arc::clone(self) as Arc<dyn Server>, described.dialect, described.stored)
    }

    /// Asks something short.
    async fn short<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        self.health.admits()?;
        self.health.noted(within(self, asked).await)
    }

    async fn described(&self, schema: &str, table: &str) -> Result<Option<Described>> {
        if held(&self.about).is_none() {
            let about = self.driver.about().await?;
            *held(&self.about) = Some(about);
        }
        self.driver.describe(schema, table).await
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
        // One that is busy is not one that is gone: the turn may take as long as the query may.
        let closed = |_| Error::new(Kind::Internal, "the connections of a database are closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        within(self.as_ref(), self.driver.ask(text, wanted, traffic, permit)).await
    }

    fn forget(&self) {
        self.told.forget();
    }
}

#[async_trait]
impl Site for Database {
    fn name(&self) -> &str {
        &self.asked.spec.name
    }

    fn check(&self, _: &Principal) -> Result<()> {
        Ok(())
    }

    async fn open(&self, schema: &str, table: &str, _: &Principal) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(known) = self.asked.told.known(schema, table, self.asked.spec.schema_ttl) {
            return Ok(Some(self.asked.table(known)));
        }
        let Some(described) = self.asked.short(self.asked.described(schema, table)).await? else { return Ok(None) };
        self.asked.told.remember(schema, table, described.clone());
        Ok(Some(self.asked.table(described)))
    }

    async fn tables(&self, schema: &str, _: &Principal) -> Result<Vec<String>> {
        self.asked.short(self.asked.driver.tables(schema)).await
    }

    async fn reach(&self, _: &Principal) -> Result<()> {
        let about = self.asked.short(self.asked.driver.about()).await.map_err(|error| named(self.asked.as_ref(), error))?;
        *held(&self.asked.about) = Some(about);
        Ok(())
    }

    fn status(&self) -> SiteStatus {
        let about = held(&self.asked.about).clone();
        SiteStatus {
            url: without_password(&self.asked.spec.url),
            server: about.as_ref().map(|about| about.server.clone()),
            version: about.as_ref().map(|about| about.version.clone()),
            computes_alike: Some(false),
            tables: self.asked.told.tables(),
            failures: self.asked.health.failures(),
            is_failing: self.asked.health.is_failing(),
            error: self.asked.health.shut().map(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(without_password("postgresql://reader:se?c@r/et@db:5432/logbook?options=x"), "postgresql://reader@db:5432/logbook");
        assert_eq!(without_password("postgresql://db/logbook?password=secret"), "postgresql://db/logbook");
        assert_eq!(without_password("sqlite:log.db?immutable=1"), "sqlite:log.db");
    }
}

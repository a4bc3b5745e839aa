use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_catalog::TableProvider;

use crate::{Principal, Result};

/// A table of which each of several sites holds a part: the rows of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadSpec {
    /// The sites, by their names, each with those that have the same part, for when it can't be reached.
    pub sites: Vec<(String, Vec<String>)>,
    /// The schema there.
    pub schema: String,
    /// The name there.
    pub table: String,
    /// The column that says of each row which site has it, if there is one.
    pub site_column: Option<String>,
    /// Whether what no site gives is left out, with a notice, rather than an error.
    pub may_lack_parts: bool,
    /// One sentence on what it holds.
    pub description: Option<String>,
}

/// What is known of a site without asking it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteStatus {
    /// Its address, without secrets.
    pub url: String,
    /// What server it said that it is, once it was asked.
    pub server: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it computes as this engine does, so that it can be asked more than rows. Unknown before it was asked.
    pub computes_alike: Option<bool>,
    /// Of how many tables it is known what they are.
    pub tables: u64,
    /// How often in a row it could not be reached.
    pub failures: u64,
    /// Whether that was just now.
    pub is_failing: bool,
    /// Why it is not asked for a while.
    pub error: Option<String>,
}

/// Another engine, which is asked where it is: what is pushed to it travels as SQL, and only answers come back. Its tables stand in a catalog
/// of its name.
#[async_trait]
pub trait Site: Debug + Send + Sync {
    /// The name, which is the catalog of its tables.
    fn name(&self) -> &str;

    /// Refuses to be asked on behalf of somebody.
    ///
    /// # Errors
    /// `PermissionDenied` when the site would not be told on whose behalf it is asked.
    fn check(&self, principal: &Principal) -> Result<()>;

    /// A table as the site tells it now to a principal, without a row of it; `None` when there is none of the name that it may know of.
    ///
    /// # Errors
    /// As [`Site::check`]; `Unavailable` when the site can't be reached; what it says, with its name.
    async fn open(&self, schema: &str, table: &str, principal: &Principal) -> Result<Option<Arc<dyn TableProvider>>>;

    /// The tables of a schema by name, for the error about one that isn't there.
    ///
    /// # Errors
    /// As [`Site::open`].
    async fn tables(&self, schema: &str, principal: &Principal) -> Result<Vec<String>>;

    /// Asks whether it is there.
    ///
    /// # Errors
    /// As [`Site::open`].
    async fn reach(&self, principal: &Principal) -> Result<()>;

    /// What is known of it now.
    fn status(&self) -> SiteStatus;
}

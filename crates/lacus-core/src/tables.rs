use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};

use crate::{Error, Kind, Result, Rows};

/// The longest name of a table or a schema.
const LONGEST_NAME: usize = 200;

/// The full name of a table that SQL made: its schema and its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name within it.
    pub table: String,
}

impl TableName {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidQuery` when it would be read as the location of files, is empty, or is too long.
    pub fn new(schema: &str, table: &str) -> Result<Self> {
        for name in [schema, table] {
            let wrong =
                name.is_empty() || name.len() > LONGEST_NAME || name.contains(['/', '.', ':', '\\']) || name.contains(char::is_control);
            if wrong {
                return Err(Error::new(Kind::InvalidQuery, format!("`{name}` can't name a table or a schema"))
                    .hint(format!("names have up to {LONGEST_NAME} bytes and no `/`, `.`, `:` or `\\`, by which locations are known")));
            }
        }
        Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.schema, self.table)
    }
}

/// What to do when a table that is to be made exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// It is an error.
    Fail,
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place, at once.
    Replace,
}

/// The place for tables that SQL makes and changes: what [`Source`](crate::Source) is for reading and [`Sink`](crate::Sink) for results.
///
/// Every change is one atomic step: readers see all of it or nothing, and once the call has returned it survives the end of the process.
#[async_trait]
pub trait Tables: Debug + Send + Sync {
    /// Whether there is a place for tables.
    ///
    /// # Errors
    /// Why there is none, and the remedy.
    fn check(&self) -> Result<()>;

    /// The schemas that SQL made, in order.
    ///
    /// # Errors
    /// What the store says.
    async fn schemas(&self) -> Result<Vec<String>>;

    /// All tables, in order. None is opened.
    ///
    /// # Errors
    /// What the store says.
    async fn tables(&self) -> Result<Vec<TableName>>;

    /// Opens a table as it is now; `None` when there is none of the name.
    ///
    /// # Errors
    /// What the store says.
    async fn open(&self, name: &TableName, session: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>>;

    /// Checks what can be checked before the rows of a new table are computed.
    ///
    /// # Errors
    /// `Unsupported` for a type of a column that can't be kept, `InvalidQuery` for names of columns.
    fn check_schema(&self, schema: &SchemaRef) -> Result<()>;

    /// Makes a table that holds `rows`, and gives their number; `None` when it was there and stays.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` for the schema; what the rows and the store say. Then nothing of it is seen.
    async fn create(&self, name: &TableName, schema: SchemaRef, rows: Rows<'_>, if_exists: IfExists) -> Result<Option<u64>>;

    /// Adds `rows`, which have the columns of the table in its order, and gives their number.
    ///
    /// # Errors
    /// `NotFound`; what the rows and the store say. Then nothing of it is seen.
    async fn append(&self, name: &TableName, rows: Rows<'_>) -> Result<u64>;

    /// Puts `rows` in the place of those that `seen` held, which [`Tables::open`] gave: what others added meanwhile stays.
    ///
    /// # Errors
    /// `ObjectChanged` when some of the rows that `seen` held were replaced meanwhile; what the rows and the store say.
    async fn rewrite(&self, name: &TableName, seen: &Arc<dyn TableProvider>, rows: Rows<'_>) -> Result<u64>;

    /// Takes a table away; whether it was there.
    ///
    /// # Errors
    /// What the store says.
    async fn drop_table(&self, name: &TableName) -> Result<bool>;

    /// Waits until what was begun in the background has ended.
    async fn settle(&self) {}

    /// Makes a schema; whether it was not there.
    ///
    /// # Errors
    /// What the store says.
    async fn create_schema(&self, name: &str) -> Result<bool>;

    /// Takes a schema away, with its tables if `cascade` says so; whether it was there.
    ///
    /// # Errors
    /// `InvalidQuery` when it holds tables; what the store says.
    async fn drop_schema(&self, name: &str, cascade: bool) -> Result<bool>;
}

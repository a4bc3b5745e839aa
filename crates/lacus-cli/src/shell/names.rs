//! What can be completed: the tables, columns and functions of the lake, learned in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use lacus::Result;
use lacus::arrow::array::AsArray;
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::DataType;
use tokio::runtime::Handle;

use crate::door::Door;

/// How long a person who pressed Tab waits for the columns of a table.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The words of SQL that people write most.
pub(crate) const WORDS: [&str; 74] = [
    "ALL",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "CROSS",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "KILL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "QUALIFY",
    "REFRESH",
    "REPLACE",
    "RIGHT",
    "ROWS",
    "SELECT",
    "SHOW",
    "STORED",
    "SUMMARIZE",
    "TABLE",
    "TABLES",
    "THEN",
    "TO",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// What is known so far, shared with those who learn it.
#[derive(Clone)]
pub(crate) struct Names {
    door: Door,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// Schemas to their tables.
    tables: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeSet<String>,
    columns: BTreeMap<String, Vec<String>>,
}

impl Names {
    /// Begins to learn the names behind `door`.
    pub(crate) fn learn(door: &Door) -> Self {
        let names = Self { door: door.clone(), known: Arc::default() };
        let learning = names.clone();
        tokio::spawn(async move {
            // Without them there is less to complete, and nothing else is lost.
            let _ = learning.learn_functions().await;
            let _ = learning.learn_tables().await;
        });
        names
    }

    async fn learn_tables(&self) -> Result<()> {
        let rows = self.rows("SELECT table_schema, table_name FROM information_schema.tables").await?;
        let mut known = held(&self.known);
        known.tables.clear();
        for row in rows {
            if let [schema, table] = row.as_slice() {
                known.tables.entry(schema.clone()).or_default().insert(table.clone());
            }
        }
        Ok(())
    }

    async fn learn_functions(&self) -> Result<()> {
        let rows = self.rows("SELECT DISTINCT routine_name FROM information_schema.routines").await?;
        held(&self.known).functions = rows.into_iter().flatten().collect();
        Ok(())
    }

    /// The rows of a statement as texts.
    async fn rows(&self, statement: &str) -> Result<Vec<Vec<String>>> {
        let Some(answer) = self.door.ask(statement, &[]).await? else { return Ok(Vec::new()) };
        let batches: Vec<_> = answer.batches.try_collect().await?;
        let mut rows = Vec::new();
        for batch in batches {
            let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect::<std::result::Result<Vec<_>, _>>()?;
            let text = |row: usize| columns.iter().map(|column| column.as_string::<i32>().value(row).to_owned()).collect();
            rows.extend((0..batch.num_rows()).map(text));
        }
        Ok(rows)
    }

    /// The tables of a schema.
    pub(crate) fn tables(&self, schema: &str) -> Vec<String> {
        held(&self.known).tables.get(schema).into_iter().flatten().cloned().collect()
    }

    /// The schemas.
    pub(crate) fn schemas(&self) -> Vec<String> {
        held(&self.known).tables.keys().cloned().collect()
    }

    /// The functions.
    pub(crate) fn functions(&self) -> Vec<String> {
        held(&self.known).functions.iter().cloned().collect()
    }

    /// The columns of a table as it is written in SQL; none when they can't be had soon.
    pub(crate) fn columns(&self, table: &str) -> Vec<String> {
        if let Some(columns) = held(&self.known).columns.get(table) {
            return columns.clone();
        }
        let (sender, receiver) = mpsc::channel();
        let (names, table) = (self.clone(), table.to_owned());
        // The editor waits on the thread that the runtime blocks, so somebody else must ask.
        let _ = Handle::try_current().map(|runtime| {
            runtime.spawn(async move {
                let schema = names.door.schema(&format!("SELECT * FROM {table} LIMIT 0")).await;
                let columns: Vec<String> =
                    schema.map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect()).unwrap_or_default();
                held(&names.known).columns.insert(table, columns.clone());
                // Whoever asked may have lost patience.
                let _ = sender.send(columns);
            })
        });
        receiver.recv_timeout(PATIENCE).unwrap_or_default()
    }
}

/// A poisoned lock only means that another thread panicked; what is known stays known.
fn held(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

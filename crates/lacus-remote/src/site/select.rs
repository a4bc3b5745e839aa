//! The normal form of what a site is asked.
//!
//! `SELECT columns FROM table WHERE conditions GROUP BY keys ORDER BY keys LIMIT rows`, where a table may be a statement of this form, or two
//! that are joined. It is built from parts whose meaning is known, never written from a plan as a whole.

use std::sync::Arc;

use arrow::datatypes::Schema;

use super::dialect::Dialect;
use super::server::Server;

/// How many rows a table of a site may have: enough that a join rather waits for its other side and asks for the rows that fit.
const SOME_ROWS: usize = 10_000_000;
/// How many groups it may have.
const SOME_GROUPS: usize = 10_000;
/// The column that stands for none: a row has to have one on its way.
const NOTHING: &str = "1 AS ";

/// A statement of a site. Its columns have places, and no names before it is written.
#[derive(Debug, Clone)]
pub(super) struct Select {
    pub(super) server: Arc<dyn Server>,
    pub(super) dialect: Dialect,
    from: String,
    /// About how many rows the tables have.
    stored: usize,
    conditions: Vec<String>,
    /// What each column is, as the statement writes it.
    pub(super) columns: Vec<String>,
    /// The keys of groups; none of them when all rows are one group.
    group: Option<Vec<String>>,
    order: Vec<String>,
    limit: Option<usize>,
    /// How deep statements stand in one another here.
    depth: usize,
}

impl Select {
    /// All rows of what stands behind FROM.
    pub(super) fn over(server: Arc<dyn Server>, dialect: Dialect, from: String, columns: Vec<String>) -> Self {
        let (conditions, order) = Default::default();
        Self { server, dialect, from, stored: SOME_ROWS, conditions, columns, group: None, order, limit: None, depth: 0 }
    }

    /// With what is known of how many rows the tables have.
    #[must_use]
    pub(super) fn with_stored(self, rows: usize) -> Self {
        Self { stored: rows, ..self }
    }

    /// Two statements of one site, joined by `kind`; `on` says by what, of the columns of both.
    pub(super) fn joined(left: Self, right: Self, kind: &str, on: impl FnOnce(&Self) -> Option<Vec<String>>) -> Option<Self> {
        let depth = left.depth.max(right.depth) + 1;
        let (server, dialect, stored) = (Arc::clone(&left.server), left.dialect, left.stored.max(right.stored));
        let ((left, of_left), (right, of_right)) =
            (left.into_table(&format!("l{depth}"), "c"), right.into_table(&format!("r{depth}"), "c"));
        let columns = of_left.into_iter().chain(of_right).collect();
        let mut both = Self { depth, stored, ..Self::over(server, dialect, String::new(), columns) };
        let on = on(&both)?;
        let on = if on.is_empty() { String::new() } else { format!(" ON {}", on.join(" AND ")) };
        both.from = format!("{left} {kind} {right}{on}");
        Some(both)
    }

    /// The rows for which there is one of `right`, or for which there is none.
    pub(super) fn exists(left: Self, right: Self, is_there: bool, on: impl FnOnce(&Self) -> Option<Vec<String>>) -> Option<Self> {
        let depth = left.depth.max(right.depth) + 1;
        let (server, dialect, stored) = (Arc::clone(&left.server), left.dialect, left.stored);
        let ((left, of_left), (right, of_right)) =
            (left.into_table(&format!("l{depth}"), "c"), right.into_table(&format!("r{depth}"), "c"));
        let both = Self::over(Arc::clone(&server), dialect, String::new(), of_left.iter().cloned().chain(of_right).collect());
        let (on, not) = (on(&both)?.join(" AND "), if is_there { "" } else { "NOT " });
        let found = Self { depth, stored, ..Self::over(server, dialect, left, of_left) };
        Some(found.filtered(format!("{not}EXISTS (SELECT 1 FROM {right} WHERE {on})")))
    }

    /// Whether it can be asked together with another.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.server), Arc::as_ptr(&other.server))
    }

    /// Whether it gives one row, whatever the tables hold.
    pub(super) fn is_one_row(&self) -> bool {
        self.group.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it gives no more than so many rows.
    pub(super) fn is_within(&self, rows: usize) -> bool {
        self.limit.is_some_and(|limit| limit <= rows)
    }

    /// About how many rows it gives, where nobody has counted them.
    pub(super) fn rows(&self) -> usize {
        let of_keys = |keys: &Vec<String>| if keys.is_empty() { 1 } else { SOME_GROUPS };
        let found = self.conditions.iter().fold(self.stored, |rows, _| rows / 5).max(1);
        let found = self.group.as_ref().map_or(found, of_keys);
        self.limit.map_or(found, |limit| limit.min(found))
    }

    /// Whether rows are counted or grouped by it, so that conditions and groups have to be those of a statement around it.
    fn is_closed(&self) -> bool {
        self.group.is_some() || self.limit.is_some()
    }

    /// The same as a table that another statement reads.
    fn nested(self) -> Self {
        self.nested_by("c")
    }

    /// As [`Select::nested`], with names of columns that begin with `letter`.
    fn nested_by(self, letter: &str) -> Self {
        let depth = self.depth + 1;
        let (server, dialect, stored) = (Arc::clone(&self.server), self.dialect, self.stored);
        let (from, columns) = self.into_table(&format!("q{depth}"), letter);
        Self { depth, stored, ..Self::over(server, dialect, from, columns) }
    }

    /// The statement as a table of a name, and its columns.
    fn into_table(self, name: &str, letter: &str) -> (String, Vec<String>) {
        let names: Vec<String> = (0..self.columns.len()).map(|place| format!("{letter}{place}")).collect();
        let (text, name) = (self.text(&names), self.dialect.quoted(name));
        let columns = names.iter().map(|column| format!("{name}.{}", self.dialect.quoted(column))).collect();
        (format!("({text}) AS {name}"), columns)
    }

    /// As it is, if rows can be left out and grouped by another clause of it, or as a table of another.
    pub(super) fn open(self) -> Self {
        if self.is_closed() { self.nested() } else { self }
    }

    /// As [`Select::open`], with columns that can be keys: a number would say which column is meant.
    pub(super) fn with_keys(self) -> Self {
        let is_named = self.columns.iter().all(|column| column.contains(self.dialect.quote()));
        if is_named { self.open() } else { self.nested() }
    }

    /// With a condition, of an open statement.
    #[must_use]
    pub(super) fn filtered(mut self, condition: String) -> Self {
        debug_assert!(!self.is_closed(), "rows are left out before they are counted");
        self.conditions.push(condition);
        self
    }

    /// With other columns.
    #[must_use]
    pub(super) fn projected(self, columns: Vec<String>) -> Self {
        Self { columns, ..self }
    }

    /// Grouped by keys, the first columns, which aggregates follow.
    #[must_use]
    pub(super) fn grouped(mut self, keys: Vec<String>, aggregates: Vec<String>) -> Self {
        debug_assert!(!self.is_closed(), "groups have a statement of their own");
        self.columns = keys.iter().cloned().chain(aggregates).collect();
        self.group = Some(keys);
        self
    }

    /// The first rows in an order; with no keys any rows.
    pub(super) fn limited(self, keys: impl FnOnce(&Self) -> Option<Vec<String>>, rows: usize) -> Option<Self> {
        // A key by its own name would be taken for the column that the statement gives another of this name.
        // Neither may it be called like one that the statement gives.
        let nested = self.clone().nested_by("key_");
        let order = keys(&nested)?;
        let mut first = if self.limit.is_some() || !order.is_empty() { nested } else { self };
        first.order = order;
        first.limit = Some(rows);
        Some(first)
    }

    /// The statement that is sent for columns of these names and types.
    pub(super) fn asking_for(&self, schema: &Schema) -> String {
        let answered = |(column, field): (&String, &Arc<arrow::datatypes::Field>)| self.dialect.answered(column, field.data_type());
        let columns = self.columns.iter().zip(schema.fields()).map(answered).collect();
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        self.clone().projected(columns).text(&names)
    }

    /// The statement, whose columns have `names`.
    pub(super) fn text(&self, names: &[impl AsRef<str>]) -> String {
        let named = |(column, name): (&String, &str)| {
            let name = self.dialect.quoted(name);
            if *column == name { name } else { format!("{column} AS {name}") }
        };
        let columns: Vec<String> = self.columns.iter().zip(names.iter().map(AsRef::as_ref)).map(named).collect();
        let columns = if columns.is_empty() { format!("{NOTHING}{}", self.dialect.quoted("nothing")) } else { columns.join(", ") };
        let mut text = format!("SELECT {columns} FROM {}", self.from);
        let mut clause = |word: &str, parts: &[String], by: &str| {
            if !parts.is_empty() {
                text.push_str(&format!(" {word} {}", parts.join(by)));
            }
        };
        clause("WHERE", &self.conditions, " AND ");
        clause("GROUP BY", self.group.as_deref().unwrap_or_default(), ", ");
        clause("ORDER BY", &self.order, ", ");
        if let Some(limit) = self.limit {
            text.push_str(&format!(" LIMIT {limit}"));
        }
        text
    }
}

//! Names of columns without quotes: SQL folds them to lower case, files of science spell them `T2M` or `sshHeight`.
//!
//! A name that no table of the statement spells in lower case, but one spells otherwise, is that column.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, VisitorMut};

use crate::statement::visit;

/// Quotes the names in `statement` that mean one of `columns` in another spelling.
pub(crate) fn quote(statement: &mut Statement, columns: &BTreeSet<String>) {
    if columns.iter().all(|column| !column.chars().any(char::is_uppercase)) {
        return;
    }
    let mut aliases = Aliases(HashSet::new());
    let _: ControlFlow<()> = visit(statement, &mut aliases);
    let _: ControlFlow<()> = visit(statement, &mut Spelling { columns, aliases: aliases.0 });
}

/// The names that the statement gives itself.
struct Aliases(HashSet<String>);

impl VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.of(&query.body);
        ControlFlow::Continue(())
    }
}

impl Aliases {
    fn of(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => self.0.extend(select.projection.iter().filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
                _ => None,
            })),
            SetExpr::SetOperation { left, right, .. } => {
                self.of(left);
                self.of(right);
            }
            _ => {}
        }
    }
}

struct Spelling<'a> {
    columns: &'a BTreeSet<String>,
    aliases: HashSet<String>,
}

impl VisitorMut for Spelling<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.quote(name),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().skip(1).for_each(|part| self.quote(part)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Spelling<'_> {
    fn quote(&self, name: &mut Ident) {
        let folded = name.value.to_lowercase();
        if name.quote_style.is_some() || self.columns.contains(&folded) || self.aliases.contains(&folded) {
            return;
        }
        // The exact spelling wins among columns that differ in case alone; without it, two such columns leave the name as it is.
        let exact = self.columns.get(&name.value);
        let mut alike = self.columns.iter().filter(|column| column.to_lowercase() == folded);
        let only = alike.next().filter(|_| alike.next().is_none());
        if let Some(column) = exact.or(only) {
            *name = Ident::with_quote('"', column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;
    use lacus_core::Result;

    fn quoted(sql: &str, columns: &[&str]) -> Result<String> {
        let mut statement = parse(sql)?.statement;
        quote(&mut statement, &columns.iter().map(|column| (*column).to_owned()).collect());
        Ok(statement.to_string())
    }

    #[test]
    fn columns_are_found_in_their_spelling() -> Result<()> {
        assert_eq!(quoted("SELECT T2M, t.LAT FROM t WHERE t2m > 1", &["T2M", "lat"])?, "SELECT \"T2M\", t.LAT FROM t WHERE \"T2M\" > 1");
        assert_eq!(quoted("SELECT Ta FROM t", &["TA", "Ta"])?, "SELECT \"Ta\" FROM t");
        assert_eq!(quoted("SELECT ta FROM t", &["TA", "Ta"])?, "SELECT ta FROM t");
        assert_eq!(quoted("SELECT ta FROM t", &["TA", "ta"])?, "SELECT ta FROM t");
        Ok(())
    }

    #[test]
    fn names_that_the_statement_gives_itself_stay() -> Result<()> {
        let sql = "SELECT avg(T2M) AS t2m FROM t ORDER BY t2m";
        assert_eq!(quoted(sql, &["T2M"])?, sql);
        Ok(())
    }
}

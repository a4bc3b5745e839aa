//! Columns of a result that have one name: `SELECT a, a` is SQL, and DataFusion wants the names of a projection to differ.
//!
//! A name that was there before is marked by invisible letters while the statement is planned, and loses them where the result is told. One
//! that `ORDER BY` and its kind use stays, unless all of its columns are the same: what they would mean then is not said.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, Query, SelectItem, SetExpr, visit_expressions};

use crate::statement::folded;

/// The invisible separator of Unicode: nobody types it, and it is no space that somebody could trim.
const MARK: char = '\u{2063}';

/// Marks the names that repeat among the columns that `statement` gives; `columns` are those of the tables that it reads.
pub(crate) fn mark(statement: &mut Statement, columns: &BTreeSet<String>) {
    match statement {
        Statement::Explain(explain) => mark(&mut explain.statement, columns),
        Statement::Statement(statement) => match statement.as_mut() {
            ast::Statement::Query(query) => mark_query(query, columns),
            ast::Statement::Insert(insert) => {
                if let Some(query) = &mut insert.source {
                    mark_query(query, columns);
                }
            }
            _ => {}
        },
        _ => {}
    }
}

/// A schema whose names are as the statement wrote them.
pub(crate) fn unmarked(schema: Schema) -> Schema {
    if !schema.fields().iter().any(|field| field.name().ends_with(MARK)) {
        return schema;
    }
    let field = |field: &std::sync::Arc<Field>| Field::clone(field).with_name(field.name().trim_end_matches(MARK));
    Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone())
}

fn mark_query(query: &mut Query, columns: &BTreeSet<String>) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut used = HashSet::new();
    let mut collect = |expr: &Expr| {
        used.extend(if let Expr::Identifier(name) = expr { Some(folded(name)) } else { None });
        ControlFlow::<()>::Continue(())
    };
    let _ = visit_expressions(&query.order_by, &mut collect);
    let _ = visit_expressions(&select.group_by, &mut collect);
    let _ = visit_expressions(&select.having, &mut collect);
    let _ = visit_expressions(&select.qualify, &mut collect);
    let _ = visit_expressions(&select.distinct, &mut collect);
    // What an asterisk stands for is any column of any table here.
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let mut seen: Vec<Name> = Vec::new();
    if select.projection.iter().any(is_star) {
        seen.extend(columns.iter().map(|column| Name { qualifier: Vec::new(), name: column.clone(), is_column: true }));
    }
    for item in &mut select.projection {
        let Some(name) = Name::of(item) else { continue };
        let times = seen.iter().filter(|other| other.collides(&name)).count();
        let is_same = || name.is_column && seen.iter().all(|other| other.is_column || !other.collides(&name));
        if times > 0 && (!used.contains(&name.name) || is_same()) {
            let alias = Ident::with_quote('"', format!("{}{}", name.name, String::from(MARK).repeat(times)));
            match item {
                SelectItem::ExprWithAlias { alias: given, .. } => *given = alias,
                SelectItem::UnnamedExpr(expr) => *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias },
                _ => {}
            }
        }
        seen.push(name);
    }
}

/// The name of a column of the result, and the table that it is said to be of.
struct Name {
    qualifier: Vec<String>,
    name: String,
    /// Whether it is the column of this name, rather than another expression that is given the name.
    is_column: bool,
}

impl Name {
    fn of(item: &SelectItem) -> Option<Self> {
        match item {
            SelectItem::ExprWithAlias { alias, expr } => {
                let column = match expr {
                    Expr::Identifier(name) => Some(name),
                    Expr::CompoundIdentifier(parts) => parts.last(),
                    _ => None,
                };
                let is_column = column.is_some_and(|column| folded(column) == folded(alias));
                Some(Self { qualifier: Vec::new(), name: folded(alias), is_column })
            }
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(Self { qualifier: Vec::new(), name: folded(name), is_column: true }),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let (name, qualifier) = parts.split_last()?;
                Some(Self { qualifier: qualifier.iter().map(folded).collect(), name: folded(name), is_column: true })
            }
            _ => None,
        }
    }

    /// Columns of one name that two tables have are told apart by their tables.
    fn collides(&self, other: &Self) -> bool {
        let is_apart = !self.qualifier.is_empty() && !other.qualifier.is_empty() && self.qualifier != other.qualifier;
        self.name == other.name && !is_apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;
    use lacus_core::Result;

    fn marked(sql: &str) -> Result<String> {
        let mut statement = parse(sql)?.statement;
        mark(&mut statement, &BTreeSet::from(["a".to_owned()]));
        Ok(statement.to_string().replace(MARK, "+"))
    }

    #[test]
    fn names_that_repeat_are_marked() -> Result<()> {
        assert_eq!(marked("SELECT a, A, b, t.a FROM t")?, "SELECT a, A AS \"a+\", b, t.a AS \"a++\" FROM t");
        assert_eq!(marked("SELECT 1 AS x, 2 AS x")?, "SELECT 1 AS x, 2 AS \"x+\"");
        assert_eq!(marked("SELECT *, a, b FROM t")?, "SELECT *, a AS \"a+\", b FROM t");
        assert_eq!(marked("SELECT a, t.a AS a FROM t ORDER BY a")?, "SELECT a, t.a AS \"a+\" FROM t ORDER BY a");
        Ok(())
    }

    #[test]
    fn others_stay() -> Result<()> {
        for sql in ["SELECT t.a, u.a FROM t, u", "SELECT a, \"A\" FROM t", "SELECT a FROM t UNION ALL SELECT a FROM t"] {
            assert_eq!(marked(sql)?, sql);
        }
        for sql in ["SELECT a, -b AS a FROM t ORDER BY a", "SELECT *, sum(b) AS a FROM t GROUP BY c HAVING a > 1"] {
            assert_eq!(marked(sql)?, sql);
        }
        Ok(())
    }
}

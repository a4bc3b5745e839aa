//! `CREATE` and `DROP`: what they change lasts until the engine closes, and all clients see it.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateExternalTable, CreateView, DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, ObjectType};
use lacus_core::{DatasetSpec, Error, Kind, Location, OptionValue, Result};

use crate::catalog::{Catalog, Entry, Origin, TableKind};

/// Refuses statements that would write or change settings, before anything is opened for them.
pub(crate) fn refuse_writes(statement: &Statement) -> Result<()> {
    let allowed = match statement {
        // COPY writes into stores that say so, and never over anything.
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) => true,
        Statement::Explain(explain) if matches!(*explain.statement, Statement::CopyTo(_)) => {
            return Err(Error::new(Kind::Unsupported, "EXPLAIN COPY is not supported").hint("explain the query inside"));
        }
        Statement::Explain(explain) => return refuse_writes(&explain.statement),
        Statement::Reset(_) => false,
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::Drop { object_type, .. } => matches!(object_type, ObjectType::Table | ObjectType::View),
            other => matches!(
                other,
                ast::Statement::Query(_)
                    | ast::Statement::CreateView(_)
                    | ast::Statement::Explain { .. }
                    | ast::Statement::ExplainTable { .. }
                    | ast::Statement::ShowTables { .. }
                    | ast::Statement::ShowColumns { .. }
                    | ast::Statement::ShowCreate { .. }
                    | ast::Statement::ShowFunctions { .. }
                    | ast::Statement::ShowVariable { .. }
            ),
        },
    };
    if allowed {
        return Ok(());
    }
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let hint = match words.as_slice() {
        ["CREATE", ..] => "CREATE VIEW keeps a query under a name; CREATE EXTERNAL TABLE names files",
        ["SET" | "RESET", ..] => "limits are set in the lake file",
        _ => "tables can be read, not written; COPY ... TO keeps a result",
    };
    Err(Error::new(Kind::Unsupported, format!("{} is not supported", words.join(" "))).hint(hint))
}

/// Whether a plan is a command, which has no rows.
pub(crate) fn is_command(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::Ddl(
            DdlStatement::CreateExternalTable(_) | DdlStatement::CreateView(_) | DdlStatement::DropTable(_) | DdlStatement::DropView(_),
        ) => Ok(true),
        // `refuse_writes` looked at the text; a plan that writes all the same is refused here.
        LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
            Err(Error::new(Kind::Unsupported, format!("{} is not supported", plan.display())))
        }
        _ => Ok(false),
    }
}

/// Applies a statement for which [`is_command`] said yes.
pub(crate) async fn apply(plan: LogicalPlan, text: &str, catalog: &Catalog, state: &SessionState) -> Result<()> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => create_table(&table, catalog, state).await,
        LogicalPlan::Ddl(DdlStatement::CreateView(view)) => create_view(&view, text, catalog),
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => catalog.remove(&catalog.own_name(&drop.name)?, TableKind::Table, drop.if_exists),
        LogicalPlan::Ddl(DdlStatement::DropView(drop)) => catalog.remove(&catalog.own_name(&drop.name)?, TableKind::View, drop.if_exists),
        other => Err(Error::new(Kind::Internal, format!("`{}` is no command", other.display()))),
    }
}

fn create_view(view: &CreateView, text: &str, catalog: &Catalog) -> Result<()> {
    let name = catalog.own_name(&view.name)?;
    catalog.add(&name, Entry::View { definition: text.to_owned() }, view.or_replace)
}

async fn create_table(table: &CreateExternalTable, catalog: &Catalog, state: &SessionState) -> Result<()> {
    let name = catalog.own_name(&table.name)?;
    if table.if_not_exists && catalog.entry(&name).is_some() {
        return Ok(());
    }
    let spec = spec(&name, table)?;
    catalog.source_of(&spec)?.check(&spec)?;
    // A table that can't be opened is a mistake in the statement: say so now, not at the first query.
    catalog.open(&spec, state).await?;
    catalog.add(&name, Entry::Dataset { spec: Arc::new(spec), origin: Origin::Sql }, table.or_replace)
}

fn spec(name: &str, table: &CreateExternalTable) -> Result<DatasetSpec> {
    let not_read = [
        (!table.order_exprs.is_empty(), "WITH ORDER"),
        (table.unbounded, "UNBOUNDED"),
        (!table.column_defaults.is_empty(), "DEFAULT"),
        (table.locations.len() != 1, "LOCATION of several paths"),
    ];
    if let Some((_, clause)) = not_read.iter().find(|(given, _)| *given) {
        return Err(Error::new(Kind::Unsupported, format!("{clause} is not supported in CREATE EXTERNAL TABLE")).with("table", name));
    }
    let mut spec = DatasetSpec::new(name, Location::parse(&table.locations[0])?);
    spec.format = Some(table.file_type.to_lowercase());
    for (key, value) in &table.options {
        let key = key.strip_prefix("format.").unwrap_or(key);
        spec.options.insert(key.to_owned(), OptionValue::Text(value.clone()));
    }
    let declared = table.schema.as_arrow();
    if !declared.fields().is_empty() {
        let stored = declared.fields().iter().filter(|field| !table.table_partition_cols.contains(field.name())).cloned();
        spec.schema = Some(Arc::new(datafusion::arrow::datatypes::Schema::new(stored.collect::<Vec<_>>())));
    }
    if !table.table_partition_cols.is_empty() {
        spec.partitions = Some(table.table_partition_cols.clone());
    }
    Ok(spec)
}

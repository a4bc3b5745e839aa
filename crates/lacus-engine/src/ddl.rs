//! Commands: `CREATE` and `DROP` of names, and `SET`. Views and external tables last until the engine closes, and all clients see them.

use std::sync::Arc;

use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::logical_expr::{
    CreateExternalTable, CreateView, DdlStatement, DropCatalogSchema, LogicalPlan, Statement as PlannedStatement,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, ObjectType};
use lacus_core::{DatasetSpec, Error, Kind, Location, OptionValue, Result, TableName};
use lacus_policy::Privilege;

use crate::access::Access;
use crate::catalog::{Catalog, Entry, Origin, TableKind, View, check_among};
use crate::client::{Session, TEMPORARY};
use crate::planner::Planner;
use crate::settings::MAIN;

/// Refuses statements that nothing is done for, before anything is opened for them.
pub(crate) fn refuse_unknown(statement: &Statement) -> Result<()> {
    let allowed = match statement {
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => true,
        Statement::Explain(explain) => {
            return match explain.statement.as_ref() {
                Statement::CopyTo(_) => {
                    Err(Error::new(Kind::Unsupported, "EXPLAIN COPY is not supported").hint("explain the query inside"))
                }
                inner => refuse_unknown(inner),
            };
        }
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::CreateView(view) => !view.temporary,
            ast::Statement::Drop { object_type, .. } => matches!(object_type, ObjectType::Table | ObjectType::View | ObjectType::Schema),
            other => matches!(
                other,
                ast::Statement::Query(_)
                    | ast::Statement::CreateTable(_)
                    | ast::Statement::CreateSchema { .. }
                    | ast::Statement::Insert(_)
                    | ast::Statement::Update(_)
                    | ast::Statement::Delete(_)
                    | ast::Statement::Truncate(_)
                    | ast::Statement::Set(_)
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
        ["CREATE", "TEMPORARY"] => "CREATE TEMPORARY TABLE keeps rows for the session",
        ["CREATE", ..] => "CREATE TABLE keeps rows, CREATE VIEW a query under a name; CREATE EXTERNAL TABLE names files",
        ["BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT", ..] => "each statement is committed by itself, as a whole",
        ["MERGE", ..] => "write UPDATE, DELETE and INSERT",
        ["USE", ..] => "SET schema = 'name' chooses the schema",
        _ => "SQL for queries, CREATE, DROP, INSERT, UPDATE, DELETE, TRUNCATE, COPY and SET is known",
    };
    Err(Error::new(Kind::Unsupported, format!("{} is not supported", words.join(" "))).hint(hint))
}

/// Whether a plan is a command, which has no rows.
pub(crate) fn is_command(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::Ddl(
            DdlStatement::CreateExternalTable(_)
            | DdlStatement::CreateView(_)
            | DdlStatement::CreateCatalogSchema(_)
            | DdlStatement::DropTable(_)
            | DdlStatement::DropView(_)
            | DdlStatement::DropCatalogSchema(_),
        )
        | LogicalPlan::Statement(PlannedStatement::SetVariable(_) | PlannedStatement::ResetVariable(_)) => Ok(true),
        // `refuse_unknown` looked at the text, and what writes was taken off; a plan that writes all the same is refused here.
        LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
            Err(Error::new(Kind::Unsupported, format!("{} is not supported", plan.display())))
        }
        _ => Ok(false),
    }
}

/// Decides whether the principal may do what a command does, and nothing else. `false` when there is nothing to do, as far as the principal
/// may know.
pub(crate) async fn decide(plan: &LogicalPlan, planner: &Planner<'_>) -> Result<bool> {
    let (catalog, access) = (planner.catalog, planner.access()?);
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => {
            planner.require_new(&planner.resolve(table.name.clone()), table.or_replace)?;
            table.locations.iter().try_for_each(|location| access.require_path(Privilege::Create, &Location::parse(location)?))?;
        }
        LogicalPlan::Ddl(DdlStatement::CreateView(view)) => planner.require_new(&planner.resolve(view.name.clone()), view.or_replace)?,
        LogicalPlan::Ddl(DdlStatement::CreateCatalogSchema(schema)) => {
            access.require_schema(Privilege::Create, &catalog.lake, &own_schema(&schema.schema_name, catalog)?)?;
        }
        LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(drop)) => {
            let name = drop.name.schema_name();
            if !access.sees_schema(catalog, name) {
                return if drop.if_exists { Ok(false) } else { check_among(name, &catalog.all_schemas(access).await?).map(|()| false) };
            }
            access.require_schema(Privilege::Drop, &catalog.lake, name)?;
            if drop.cascade {
                check_contents(name, catalog, access).await?;
            }
        }
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => {
            match planner.require(Privilege::Drop, &planner.resolve(drop.name.clone())).await {
                Err(error) if error.kind() == Kind::NotFound && drop.if_exists => return Ok(false),
                required => required?,
            }
        }
        LogicalPlan::Ddl(DdlStatement::DropView(drop)) => planner.require(Privilege::Drop, &planner.resolve(drop.name.clone())).await?,
        LogicalPlan::Statement(PlannedStatement::SetVariable(set)) if !chooses(&set.variable) => access.require_setting(&set.variable)?,
        LogicalPlan::Statement(PlannedStatement::ResetVariable(reset)) => access.require_setting(&reset.variable)?,
        // What is chosen is looked for among what one sees.
        LogicalPlan::Statement(PlannedStatement::SetVariable(_)) => {}
        other => return Err(Error::new(Kind::Internal, format!("nobody decides on `{}`", other.display()))),
    }
    Ok(true)
}

/// The command with full names: what is decided on is what is done, whatever other calls of the session make names mean meanwhile.
fn settled(mut plan: LogicalPlan, planner: &Planner<'_>) -> LogicalPlan {
    if let LogicalPlan::Ddl(ddl) = &mut plan
        && let Some(name) = match ddl {
            DdlStatement::CreateExternalTable(table) => Some(&mut table.name),
            DdlStatement::CreateView(view) => Some(&mut view.name),
            DdlStatement::DropTable(drop) => Some(&mut drop.name),
            DdlStatement::DropView(drop) => Some(&mut drop.name),
            _ => None,
        }
    {
        *name = planner.resolve(name.clone()).into();
    }
    plan
}

/// Applies a statement for which [`is_command`] said yes.
pub(crate) async fn apply(plan: LogicalPlan, text: &str, planner: &Planner<'_>) -> Result<()> {
    let plan = settled(plan, planner);
    if !decide(&plan, planner).await? {
        return Ok(());
    }
    let Planner { catalog, session, .. } = planner;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => create_table(&table, planner).await,
        LogicalPlan::Ddl(DdlStatement::CreateView(view)) => create_view(&view, text, planner).await,
        LogicalPlan::Ddl(DdlStatement::CreateCatalogSchema(schema)) => {
            let name = own_schema(&schema.schema_name, catalog)?;
            if catalog.schemas().contains(&name) || !catalog.place_for_tables()?.create_schema(&name).await? {
                let error = Error::new(Kind::AlreadyExists, format!("the schema `{name}` exists already"));
                return if schema.if_not_exists { Ok(()) } else { Err(error.hint("write IF NOT EXISTS, or choose another name")) };
            }
            Ok(())
        }
        LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(drop)) => drop_schema(&drop, planner).await,
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => drop_table(&drop.name, drop.if_exists, planner).await,
        LogicalPlan::Ddl(DdlStatement::DropView(drop)) => {
            let resolved = planner.resolve(drop.name);
            match is_made(&resolved, catalog).await? {
                true if catalog.remove_views(&resolved.schema, |name| name == resolved.table.as_ref()) || drop.if_exists => Ok(()),
                true => Err(catalog.unknown(&resolved, planner.access()?).await),
                false => {
                    let access = planner.access()?;
                    catalog.remove(&catalog.own_name(&resolved, access).await?, TableKind::View, drop.if_exists, access)
                }
            }
        }
        LogicalPlan::Statement(PlannedStatement::SetVariable(set)) => {
            set_variable(&set.variable, &set.value, catalog, session, planner.access()?).await
        }
        LogicalPlan::Statement(PlannedStatement::ResetVariable(reset)) => session.set(&reset.variable, None),
        other => Err(Error::new(Kind::Internal, format!("`{}` is no command", other.display()))),
    }
}

/// Changes what a session keeps: its schema, or a setting.
pub(crate) async fn set_variable(name: &str, value: &str, catalog: &Catalog, session: &Session, access: &Access) -> Result<()> {
    match name.to_lowercase().as_str() {
        name if SCHEMA.contains(&name) => {
            check_among(value, &catalog.all_schemas(access).await?)?;
            session.set_schema(value)
        }
        CATALOG if value == catalog.lake => Ok(()),
        CATALOG => Err(catalog.no_catalog(value)),
        name => {
            access.require_setting(name)?;
            session.set(name, Some(value))
        }
    }
}

/// What a session calls the schema in which names stand alone.
const SCHEMA: [&str; 3] = ["schema", "search_path", "current_schema"];
const CATALOG: &str = "catalog";

/// Whether a variable is a choice among what one sees, and no setting.
fn chooses(variable: &str) -> bool {
    let variable = variable.to_lowercase();
    SCHEMA.contains(&variable.as_str()) || variable == CATALOG
}

fn own_schema(name: &str, catalog: &Catalog) -> Result<String> {
    match name.split_once('.') {
        Some((of, name)) if of == catalog.lake => Ok(name.to_owned()),
        Some((of, _)) => Err(catalog.no_catalog(of)),
        None => Ok(name.to_owned()),
    }
}

async fn drop_schema(drop: &DropCatalogSchema, planner: &Planner<'_>) -> Result<()> {
    let Planner { catalog, session, .. } = planner;
    let name = drop.name.schema_name();
    if catalog.schemas().iter().any(|schema| schema == name) {
        return Err(Error::new(Kind::InvalidQuery, format!("the schema `{name}` was not made by SQL, which can't drop it")));
    }
    if !drop.cascade && catalog.views_of_schemas().keys().any(|(schema, _)| schema == name) {
        return Err(
            Error::new(Kind::InvalidQuery, format!("the schema `{name}` holds views")).hint("drop them first, or DROP SCHEMA ... CASCADE")
        );
    }
    let dropped = match catalog.written() {
        Some(written) => written.drop_schema(name, drop.cascade).await?,
        None => false,
    };
    if dropped {
        catalog.remove_views(name, |_| true);
        if session.schema() == name {
            session.set_schema(MAIN)?;
        }
    }
    match dropped || drop.if_exists {
        true => Ok(()),
        false => Err(Error::new(Kind::NotFound, format!("no schema `{name}`"))),
    }
}

/// Refuses to drop a schema with what the principal may not drop in it.
async fn check_contents(schema: &str, catalog: &Catalog, access: &Access) -> Result<()> {
    let tables = match catalog.written() {
        Some(written) => written.tables().await?,
        None => Vec::new(),
    };
    let tables = tables.into_iter().filter(|table| table.schema == schema).map(|table| table.table);
    let views = catalog.views_of_schemas().into_keys().filter(|(of, _)| of == schema).map(|(_, view)| view);
    for name in tables.chain(views) {
        let resolved = TableReference::full(catalog.lake.as_str(), schema, name).resolve("", "");
        // Which one it is may be nothing to know.
        access.require(Privilege::Drop, &catalog.asked(&resolved)).map_err(|_| {
            Error::new(Kind::PermissionDenied, format!("the schema `{schema}` holds what you may not drop"))
                .hint("ask whoever keeps the policy of this lake")
        })?;
    }
    Ok(())
}

async fn drop_table(name: &TableReference, if_exists: bool, planner: &Planner<'_>) -> Result<()> {
    let (catalog, resolved) = (planner.catalog, planner.resolve(name.clone()));
    let access = planner.access()?;
    if resolved.schema.as_ref() == TEMPORARY && planner.session.drop_temporary(&resolved.table) {
        return Ok(());
    }
    let known = resolved.schema.as_ref() == MAIN && catalog.entry(&resolved.table).is_some();
    if !known
        && let (Some(written), Ok(name)) = (catalog.written(), TableName::new(&resolved.schema, &resolved.table))
        && resolved.catalog.as_ref() == catalog.lake
    {
        return match written.drop_table(&name).await? || if_exists {
            true => Ok(()),
            false => Err(catalog.unknown(&resolved, access).await),
        };
    }
    catalog.remove(&catalog.own_name(&resolved, access).await?, TableKind::Table, if_exists, access)
}

/// Whether a name stands in a schema of this lake that SQL made.
async fn is_made(resolved: &ResolvedTableReference, catalog: &Catalog) -> Result<bool> {
    match catalog.written() {
        Some(written) if resolved.catalog.as_ref() == catalog.lake && resolved.schema.as_ref() != MAIN => {
            Ok(written.schemas().await?.iter().any(|schema| schema == resolved.schema.as_ref()))
        }
        _ => Ok(false),
    }
}

/// Refuses a name that a table has which SQL made: it would be hidden.
async fn check_new(schema: &str, name: &str, catalog: &Catalog) -> Result<()> {
    let (Some(written), Ok(table)) = (catalog.written(), TableName::new(schema, name)) else { return Ok(()) };
    match written.tables().await?.contains(&table) {
        true => Err(Error::new(Kind::AlreadyExists, format!("the table `{name}` exists already")).hint("choose another name, or drop it")),
        false => Ok(()),
    }
}

async fn create_view(view: &CreateView, text: &str, planner: &Planner<'_>) -> Result<()> {
    let catalog = planner.catalog;
    let resolved = planner.resolve(view.name.clone());
    let made = View { definition: text.to_owned(), schema: planner.session.schema() };
    // What only this session sees is nothing to others.
    if !planner.session.temporary_tables().is_empty() {
        let refused = Error::new(Kind::InvalidQuery, "a view can't use temporary tables").with("view", &resolved.table);
        planner.view(&resolved.table, made.clone(), 0).await.map_err(|error| refused.because(error))?;
    }
    if is_made(&resolved, catalog).await? {
        check_new(&resolved.schema, &resolved.table, catalog).await?;
        return catalog.add_view(&resolved.schema, &resolved.table, made, view.or_replace);
    }
    let name = catalog.own_name(&resolved, planner.access()?).await?;
    check_new(MAIN, &name, catalog).await?;
    catalog.add(&name, Entry::View(made), view.or_replace)
}

async fn create_table(table: &CreateExternalTable, planner: &Planner<'_>) -> Result<()> {
    let catalog = planner.catalog;
    let (access, resolved) = (planner.access()?, planner.resolve(table.name.clone()));
    let name = catalog.own_name(&resolved, access).await?;
    if table.if_not_exists && catalog.entry(&name).is_some() {
        return Ok(());
    }
    check_new(MAIN, &name, catalog).await?;
    let spec = spec(&name, table)?;
    catalog.source_of(&spec)?.check(&spec)?;
    // A table that can't be opened is a mistake in the statement: say so now, not at the first query.
    catalog.open(&spec, planner.state).await?;
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

//! Statements that make and change tables: what they do, and the plans whose rows they take.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Constraint, DFSchema, DFSchemaRef, ScalarValue, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::expr::Expr;
use datafusion::logical_expr::{
    CreateMemoryTable, DdlStatement, DmlStatement, EmptyRelation, Filter, LogicalPlan, LogicalPlanBuilder, WriteOp,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use lacus_core::{Error, IfExists, Kind, Result, Rows, TableName, describe_field, fit_batch, fit_columns, nearest, with_text_length};
use lacus_policy::Privilege;

use crate::access;
use crate::planner::Planner;
use crate::statement::folded;

/// A table that is written.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// One of the lake.
    Lake(TableName),
    /// One of the session.
    Temporary(String),
}

/// What is done with the rows of the plans.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// They are a new table.
    Create {
        place: Place,
        if_exists: IfExists,
        /// What the statement says of its rows that nobody checks.
        unchecked: Option<&'static str>,
        /// The columns that take no NULL, where the rows are those of a query; the others do, whatever the query gives.
        strict: Option<HashSet<String>>,
        /// What the statement says of its columns.
        notes: HashMap<String, ColumnNotes>,
    },
    /// They are added, as these columns.
    Append { place: Place, columns: SchemaRef },
    /// They are put in the place of all rows that the table had.
    Rewrite {
        place: Place,
        seen: Arc<dyn TableProvider>,
        counts: Counts,
        /// Whether the plans together must give as many rows as the table had.
        is_checked: bool,
    },
}

/// Which rows a statement counts that rewrites a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Those that are no longer there.
    Missing,
    /// Those of the first plan.
    First,
}

impl Counts {
    /// The number of rows that the statement is about.
    pub(crate) fn of(self, before: u64, after: u64, first: u64) -> u64 {
        match self {
            Self::Missing => before.saturating_sub(after),
            Self::First => first,
        }
    }
}

/// The error for a condition that divides the rows of a table into those that match and those that don't, and leaves some out.
pub(crate) fn undecided(before: u64, told: u64) -> Error {
    let message = format!("the condition decides on {told} of the {before} rows of the table: some of its subqueries give NULL");
    Error::new(Kind::Unsupported, message).hint("leave NULL out of the subquery: WHERE ... IS NOT NULL")
}

/// How many rows a table holds, where its log tells it.
pub(crate) fn rows_of(table: &Arc<dyn TableProvider>) -> Option<u64> {
    match table.statistics().map(|statistics| statistics.num_rows) {
        Some(Precision::Exact(rows)) => Some(rows as u64),
        _ => None,
    }
}

/// The plan that counts the rows of a table.
pub(crate) fn counting(table: &Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let scan = LogicalPlanBuilder::scan("counted", provider_as_source(Arc::clone(table)), None)?;
    Ok(scan.aggregate(Vec::<Expr>::new(), vec![count(Expr::Literal(ScalarValue::Int64(Some(1)), None))])?.build()?)
}

/// Rows with the columns of a table, which were given by name.
pub(crate) fn by_name<'a>(rows: Rows<'a>, given: &SchemaRef, wanted: &SchemaRef, table: &TableReference) -> Result<Rows<'a>> {
    let names = || wanted.fields().iter().map(|field| field.name().as_str());
    for field in given.fields() {
        if wanted.column_with_name(field.name()).is_none() {
            let error = Error::new(Kind::InvalidQuery, format!("the table has no column `{}`", field.name())).with("table", table);
            return Err(match nearest(field.name(), names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its columns are {}", names().collect::<Vec<_>>().join(", "))),
            });
        }
    }
    let wanted = Arc::clone(wanted);
    Ok(rows.map(move |batch| fit_batch(&batch?, &wanted)).boxed())
}

impl Write {
    /// Whether the answer is the number of rows.
    pub(crate) fn answers(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// The table of which all rows are counted, and whether the plans must give as many together.
    pub(crate) fn rewritten(&self) -> Option<(&Arc<dyn TableProvider>, bool)> {
        match self {
            Self::Rewrite { seen, is_checked, .. } => Some((seen, *is_checked)),
            _ => None,
        }
    }

    /// The columns of the table that is made of rows of `given`.
    pub(crate) fn declared(&self, given: Schema) -> Schema {
        let Self::Create { strict, notes, .. } = self else { return given };
        let field = |field: &FieldRef| {
            let nullable = strict.as_ref().map_or(field.is_nullable(), |strict| !strict.contains(field.name()));
            let field = Field::clone(field).with_nullable(nullable);
            notes.get(field.name()).map(|notes| notes.on(field.clone())).unwrap_or(field)
        };
        Schema::new_with_metadata(given.fields().iter().map(field).collect::<Vec<_>>(), given.metadata().clone())
    }

    /// The columns of the table that takes the rows, unless it is made of them.
    pub(crate) fn columns(&self) -> Option<SchemaRef> {
        match self {
            Self::Create { .. } => None,
            Self::Append { columns, .. } => Some(Arc::clone(columns)),
            Self::Rewrite { seen, .. } => Some(seen.schema()),
        }
    }

    /// Rows in the columns of the table. The planner casts what it knows the type of, which a parameter may not have had.
    pub(crate) fn fitted<'a>(&self, rows: Rows<'a>) -> Rows<'a> {
        let Some(columns) = self.columns() else { return rows };
        rows.map(move |batch| fit_columns(&batch.map_err(|error| of_null(error, &columns))?, &columns)).boxed()
    }

    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Create { place, .. } | Self::Append { place, .. } | Self::Rewrite { place, .. } => place,
        }
    }
}

/// One of the plans whose rows a statement takes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) plan: LogicalPlan,
    /// Whether its rows are written, or counted alone.
    pub(crate) is_written: bool,
}

impl Part {
    pub(crate) fn written(plan: LogicalPlan) -> Self {
        Self { plan, is_written: true }
    }
}

/// What in a plan does more than read, if anything does, however deep it lies.
pub(crate) fn does_more_than_read(plan: &LogicalPlan) -> Option<&'static str> {
    let mut found = None;
    let looked = plan.apply_with_subqueries(|node| {
        found = match node {
            LogicalPlan::Ddl(_) => Some("what makes, changes or drops tables"),
            LogicalPlan::Dml(_) => Some("what changes rows"),
            LogicalPlan::Copy(_) => Some("COPY"),
            LogicalPlan::Statement(_) => Some("what changes a session"),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    // Looking at nodes does not fail; what could not be looked at is not taken for reading.
    if looked.is_err() { Some("what can't be looked at") } else { found }
}

/// Takes what writes off a plan: what it does, and the plans whose rows it takes, one after another.
pub(crate) fn take(plan: &LogicalPlan, planner: &Planner<'_>, unplanned: Unplanned) -> Result<Option<(Write, Vec<Part>)>> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => created(create, planner, unplanned).map(Some),
        LogicalPlan::Dml(change) => changed(change, planner).map(Some),
        _ => Ok(None),
    }
}

/// What CREATE TABLE says of a column that is no part of its type in Arrow.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNotes {
    comment: Option<String>,
    /// The word of SQL for its texts, and how many characters they may have.
    length: Option<(&'static str, u64)>,
}

impl ColumnNotes {
    fn of(column: &ast::ColumnDef) -> Self {
        use ast::DataType::{Char, CharVarying, Character, CharacterVarying, Nvarchar, Varchar};
        let comment = column.options.iter().find_map(|option| match &option.option {
            ast::ColumnOption::Comment(text) => Some(text.clone()),
            _ => None,
        });
        let length = match &column.data_type {
            Char(Some(length)) | Character(Some(length)) => Some(("char", length)),
            Varchar(Some(length)) | CharVarying(Some(length)) | CharacterVarying(Some(length)) | Nvarchar(Some(length)) => {
                Some(("varchar", length))
            }
            _ => None,
        };
        let length = length.and_then(|(word, length)| match length {
            ast::CharacterLength::IntegerLength { length, .. } => Some((word, *length)),
            ast::CharacterLength::Max => None,
        });
        Self { comment, length }
    }

    fn on(&self, field: Field) -> Field {
        let field = self.length.iter().fold(field, |field, (word, length)| with_text_length(field, word, *length));
        match &self.comment {
            Some(comment) => describe_field(field, Some(comment), None),
            None => field,
        }
    }
}

/// What CREATE TABLE says that DataFusion doesn't plan.
#[derive(Debug, Default)]
pub(crate) struct Unplanned {
    temporary: bool,
    /// What is kept of columns beside their types, by their names.
    notes: HashMap<String, ColumnNotes>,
    /// The columns that are NOT NULL.
    strict: HashSet<String>,
}

impl Unplanned {
    /// Takes it off a statement.
    pub(crate) fn take(statement: &mut Statement) -> Self {
        let Statement::Statement(statement) = statement else { return Self::default() };
        let ast::Statement::CreateTable(table) = statement.as_mut() else { return Self::default() };
        let (mut notes, mut strict) = (HashMap::new(), HashSet::new());
        for column in &table.columns {
            let name = folded(&column.name);
            notes.insert(name.clone(), ColumnNotes::of(column));
            if column.options.iter().any(|option| option.option == ast::ColumnOption::NotNull) {
                strict.insert(name);
            }
        }
        Self { temporary: std::mem::take(&mut table.temporary), notes, strict }
    }
}

/// DataFusion knows the columns of VALUES by numbers: a NULL among them says which columns of the table take none.
fn of_null(error: Error, columns: &SchemaRef) -> Error {
    if !error.message().contains("declared as non-nullable but contains null values") {
        return error;
    }
    let strict: Vec<String> =
        columns.fields().iter().filter(|field| !field.is_nullable()).map(|field| format!("`{}`", field.name())).collect();
    Error::new(Kind::InvalidQuery, "NULL in a column that is NOT NULL").hint(format!("{} must have values", strict.join(", ")))
}

fn created(
    create: &CreateMemoryTable,
    planner: &Planner<'_>,
    Unplanned { temporary, notes, strict }: Unplanned,
) -> Result<(Write, Vec<Part>)> {
    if let Some((column, _)) = create.column_defaults.first() {
        return Err(unsupported("DEFAULT").with("column", column).hint("write the value in each INSERT"));
    }
    let unchecked = create.constraints.iter().next().map(|constraint| match constraint {
        Constraint::PrimaryKey(_) => "PRIMARY KEY",
        Constraint::Unique(_) => "UNIQUE",
    });
    let if_exists = match (create.if_not_exists, create.or_replace) {
        (true, true) => return Err(Error::new(Kind::InvalidQuery, "OR REPLACE and IF NOT EXISTS contradict one another")),
        (true, false) => IfExists::Keep,
        (false, true) => IfExists::Replace,
        (false, false) => IfExists::Fail,
    };
    let place = planner.new_table(&create.name, temporary, create.or_replace)?;
    let is_declared = matches!(create.input.as_ref(), LogicalPlan::EmptyRelation(_));
    let strict = Some(strict).filter(|_| !is_declared);
    Ok((Write::Create { place, if_exists, unchecked, strict, notes }, vec![Part::written(create.input.as_ref().clone())]))
}

/// Refuses to write by what is seen of a table where that is not all of it: what is not seen would be lost.
pub(crate) fn check_whole(target: &Arc<dyn TableProvider>, privilege: Privilege, name: &TableReference) -> Result<()> {
    let is_whole = match privilege {
        Privilege::Insert => !access::lacks_columns(target),
        _ => !access::is_partial(target),
    };
    if is_whole {
        return Ok(());
    }
    let refused = Error::new(Kind::PermissionDenied, format!("`{name}` can't be written by who sees only a part of it"));
    Err(refused.hint("ask whoever keeps the policy of this lake for a rule without `filter`, `mask` and `hide`"))
}

fn changed(change: &DmlStatement, planner: &Planner<'_>) -> Result<(Write, Vec<Part>)> {
    let privilege = match &change.op {
        WriteOp::Insert(InsertOp::Append) => Privilege::Insert,
        WriteOp::Update => Privilege::Update,
        _ => Privilege::Delete,
    };
    let place = planner.written_table(&change.table_name, privilege)?;
    if matches!(change.op, WriteOp::Insert(InsertOp::Overwrite)) {
        planner.written_table(&change.table_name, Privilege::Insert)?;
    }
    check_whole(&source_as_provider(&change.target)?, privilege, &change.table_name)?;
    let input = change.input.as_ref();
    let rewrite = |counts, is_checked| -> Result<Write> {
        Ok(Write::Rewrite { place: place.clone(), seen: source_as_provider(&change.target)?, counts, is_checked })
    };
    let all = || Part::written(input.clone());
    Ok(match &change.op {
        WriteOp::Insert(InsertOp::Append) => (Write::Append { place, columns: change.target.schema() }, vec![all()]),
        WriteOp::Insert(InsertOp::Overwrite) => (rewrite(Counts::First, false)?, vec![all()]),
        WriteOp::Delete => {
            let others = Part::written(unmatched(input, &change.table_name)?);
            match has_subquery(input) {
                true => (rewrite(Counts::First, true)?, vec![Part { plan: input.clone(), is_written: false }, others]),
                false => (rewrite(Counts::Missing, false)?, vec![others]),
            }
        }
        WriteOp::Truncate => {
            let columns = DFSchema::try_from_qualified_schema(change.table_name.clone(), &change.target.schema())?;
            (rewrite(Counts::Missing, false)?, vec![Part::written(nothing(Arc::new(columns)))])
        }
        WriteOp::Update => {
            let LogicalPlan::Projection(values) = input else { return Err(unsupported("UPDATE of this form")) };
            let parts = match values.input.as_ref() {
                LogicalPlan::Filter(filter) if !is_steady(&filter.predicate)? => {
                    return Err(unsupported("UPDATE by a condition that two readings may decide differently")
                        .hint("keep the keys in a table first: CREATE TEMPORARY TABLE keys AS SELECT ...; then WHERE key IN (SELECT key FROM keys)"));
                }
                LogicalPlan::Filter(_) => vec![all(), Part::written(unmatched(&values.input, &change.table_name)?)],
                // Without a condition all rows are changed, and none stays as it was.
                scan => {
                    only_of(scan, &change.table_name)?;
                    vec![all()]
                }
            };
            (rewrite(Counts::First, true)?, parts)
        }
        WriteOp::Insert(InsertOp::Replace) => return Err(unsupported("REPLACE INTO")),
        other => return Err(unsupported(&other.name().to_uppercase())),
    })
}

/// Whether a condition is decided in one way, however often it is asked: no random number is in it, and no LIMIT, which may take other rows
/// the next time.
fn is_steady(predicate: &Expr) -> Result<bool> {
    let limited = |plan: &LogicalPlan| plan.exists(|node| Ok(matches!(node, LogicalPlan::Limit(_)) || node_is_volatile(node)));
    let unsteady = predicate.exists(|expr| match expr {
        Expr::InSubquery(asks) => limited(&asks.subquery.subquery),
        Expr::Exists(asks) => limited(&asks.subquery.subquery),
        Expr::ScalarSubquery(asks) => limited(&asks.subquery),
        expr => Ok(expr.is_volatile_node()),
    });
    Ok(!unsteady?)
}

fn node_is_volatile(node: &LogicalPlan) -> bool {
    node.expressions().iter().any(Expr::is_volatile)
}

/// Whether the condition of a statement asks other tables. DataFusion takes a membership that nobody knows for false where it stands
/// inside of another expression, so that what is matched and what isn't must be counted against all rows.
fn has_subquery(plan: &LogicalPlan) -> bool {
    let asks = |expr: &Expr| matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_));
    match plan {
        LogicalPlan::Filter(filter) => filter.predicate.exists(|expr| Ok(asks(expr))).unwrap_or(true),
        _ => false,
    }
}

/// Names what subqueries give: DataFusion gives the result of an aggregate two columns of one name, and then refuses them.
fn with_named_subqueries(predicate: &Expr) -> Result<Expr> {
    let named = predicate.clone().transform(|expr| match expr {
        Expr::InSubquery(mut asks) => {
            let inner = asks.subquery.subquery.as_ref().clone();
            let member = Expr::Column(Column::from(inner.schema().qualified_field(0))).alias("member");
            asks.subquery.subquery = Arc::new(LogicalPlanBuilder::from(inner).project([member])?.build()?);
            Ok(Transformed::yes(Expr::InSubquery(asks)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(named?.data)
}

fn unsupported(what: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{what} is not supported"))
}

/// No row of these columns.
fn nothing(schema: DFSchemaRef) -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })
}

/// The rows that a statement leaves alone: those for which its condition is false, or nobody knows.
fn unmatched(plan: &LogicalPlan, table: &TableReference) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Filter(filter) => {
            only_of(&filter.input, table)?;
            let others = Expr::IsNotTrue(Box::new(with_named_subqueries(&filter.predicate)?));
            Ok(LogicalPlan::Filter(Filter::try_new(others, Arc::clone(&filter.input))?))
        }
        // Without a condition every row is meant.
        scan => {
            only_of(scan, table)?;
            Ok(nothing(Arc::clone(scan.schema())))
        }
    }
}

/// A row that several rows of another table match would be changed several times.
fn only_of(plan: &LogicalPlan, table: &TableReference) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(_) => Ok(()),
        LogicalPlan::SubqueryAlias(alias) => only_of(&alias.input, table),
        _ => Err(unsupported("UPDATE or DELETE over several tables, or with LIMIT")
            .with("table", table)
            .hint("write WHERE key IN (SELECT ...)")),
    }
}

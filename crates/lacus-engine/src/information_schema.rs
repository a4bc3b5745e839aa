//! What there is, as tables: `information_schema`, with descriptions.
//!
//! `schemata` and `views` are known without opening anything. `tables` opens the datasets that hold several. `columns` opens the datasets
//! that the query asks for by `table_schema = '...'` and `table_name = '...'`, or all; a dataset that can't be opened has one row that says
//! why, so it isn't missing.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{MemTable, SchemaProvider, Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::{StreamExt, stream};
use lacus_core::{Error, Kind, Result, description_of, nearest, text_length, unit_of};

use crate::access::Access;
use crate::catalog::{Catalog, Entry, TableEntry, TableKind, View};
use crate::functions::Functions;
use crate::planner::Planner;
use crate::session::state_of;
use crate::settings::MAIN;

pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// The tables of `information_schema`; the last three are DataFusion's own.
const TABLES: [&str; 7] = ["tables", "columns", "schemata", "views", "df_settings", "routines", "parameters"];
/// How many datasets are opened at once for `columns`.
const CONCURRENT_OPENS: usize = 8;

pub(crate) async fn table(
    name: &str,
    catalog: &Arc<Catalog>,
    state: &SessionState,
    session: &crate::Session,
) -> Result<Arc<dyn TableProvider>> {
    let access = &Access::of(state)?;
    match name {
        "tables" => in_memory(tables(catalog, catalog.all_tables(state, session, access, |_| true).await?)?),
        "schemata" => in_memory(schemata(catalog, &catalog.all_schemas(access).await?)?),
        "views" => in_memory(views(catalog, access)?),
        "columns" => Ok(Arc::new(Columns { catalog: Arc::clone(catalog), session: session.clone() })),
        "df_settings" | "routines" | "parameters" => {
            let provider = InformationSchemaProvider::new(Arc::clone(state.catalog_list()));
            let table = provider.table(name).await?.ok_or_else(|| unknown(name))?;
            if name == "df_settings" {
                return Ok(table);
            }
            let told = collect(table.scan(state, None, &[], None).await?, Functions::of(state).task(state)).await?;
            Ok(Arc::new(MemTable::try_new(table.schema(), vec![told])?))
        }
        _ => Err(unknown(name)),
    }
}

/// The tables of this schema, as they are listed.
pub(crate) fn entries(catalog: &Catalog) -> impl Iterator<Item = TableEntry> {
    TABLES.into_iter().map(|name| TableEntry {
        catalog: catalog.lake.clone(),
        schema: INFORMATION_SCHEMA.to_owned(),
        name: name.to_owned(),
        kind: TableKind::System,
        description: None,
    })
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Kind::NotFound, format!("no table `{INFORMATION_SCHEMA}.{name}`"));
    match nearest(name, TABLES) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("there are {}", TABLES.join(", "))),
    }
}

fn in_memory(batch: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

fn text<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn texts(names: &[(&str, bool)]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|(name, nullable)| Field::new(*name, DataType::Utf8, *nullable)).collect::<Vec<_>>()))
}

fn tables(catalog: &Catalog, listed: Vec<TableEntry>) -> Result<RecordBatch> {
    let all: Vec<TableEntry> = listed.into_iter().chain(entries(catalog)).collect();
    let schema =
        texts(&[("table_catalog", false), ("table_schema", false), ("table_name", false), ("table_type", false), ("table_comment", true)]);
    // The standard's word for a table is `BASE TABLE` here; Flight SQL's is `TABLE`.
    let kind = |entry: &TableEntry| if entry.kind == TableKind::Table { "BASE TABLE" } else { entry.kind.as_str() };
    let columns = vec![
        text(all.iter().map(|entry| Some(&entry.catalog))),
        text(all.iter().map(|entry| Some(&entry.schema))),
        text(all.iter().map(|entry| Some(&entry.name))),
        text(all.iter().map(|entry| Some(kind(entry)))),
        text(all.iter().map(|entry| entry.description.as_ref())),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn schemata(catalog: &Catalog, schemas: &[String]) -> Result<RecordBatch> {
    let schema = texts(&[("catalog_name", false), ("schema_name", false)]);
    let columns = vec![text(schemas.iter().map(|_| Some(&catalog.lake))), text(schemas.iter().map(Some))];
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn views(catalog: &Catalog, access: &Access) -> Result<RecordBatch> {
    let schema = texts(&[("table_catalog", false), ("table_schema", false), ("table_name", false), ("definition", true)]);
    let view = |entry: Entry| match entry {
        Entry::View(view) => Some(view),
        Entry::Dataset { .. } | Entry::Spread(_) | Entry::Table { .. } => None,
    };
    let of_main = catalog.entries().into_iter().filter_map(|(name, entry)| Some(((MAIN.to_owned(), name), view(entry)?)));
    let is_seen = |((schema, name), _): &((String, String), View)| {
        let resolved = TableReference::full(catalog.lake.as_str(), schema.as_str(), name.as_str()).resolve("", "");
        access.sees(&catalog.asked(&resolved))
    };
    let all: Vec<((String, String), View)> = of_main.chain(catalog.views_of_schemas()).filter(is_seen).collect();
    let columns = vec![
        text(all.iter().map(|_| Some(&catalog.lake))),
        text(all.iter().map(|((schema, _), _)| Some(schema))),
        text(all.iter().map(|((_, name), _)| Some(name))),
        text(all.iter().map(|(_, view)| Some(&view.definition))),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// `information_schema.columns`, filled when it is scanned.
#[derive(Debug)]
struct Columns {
    catalog: Arc<Catalog>,
    session: crate::Session,
}

/// One column of one table, or the reason why there are none.
struct Column {
    entry: TableEntry,
    position: u64,
    name: String,
    data_type: String,
    /// The word of SQL and the length that CREATE TABLE gave a text.
    text: Option<(String, u64)>,
    nullable: bool,
    unit: Option<String>,
    comment: Option<String>,
}

impl Columns {
    fn declared() -> SchemaRef {
        let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            text("table_catalog", false),
            text("table_schema", false),
            text("table_name", false),
            text("column_name", false),
            Field::new("ordinal_position", DataType::UInt64, false),
            text("is_nullable", false),
            text("data_type", false),
            Field::new("character_maximum_length", DataType::UInt64, true),
            text("column_type", true),
            text("unit", true),
            text("column_comment", true),
        ]))
    }

    async fn of(&self, entry: TableEntry, state: &SessionState) -> Vec<Column> {
        let planner = Planner::new(state, &self.catalog, &self.session);
        let reference = TableReference::full(entry.catalog.as_str(), entry.schema.as_str(), entry.name.as_str());
        let describe = |(position, field): (usize, &Arc<Field>)| Column {
            entry: entry.clone(),
            position: position as u64 + 1,
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            text: text_length(field).map(|(word, length)| (word.to_owned(), length)),
            nullable: field.is_nullable(),
            unit: unit_of(field).map(str::to_owned),
            comment: description_of(field).map(str::to_owned),
        };
        match Box::pin(planner.table(reference)).await {
            Ok(table) => table.schema().fields().iter().enumerate().map(describe).collect(),
            Err(error) => vec![Column {
                position: 0,
                name: String::new(),
                data_type: String::new(),
                text: None,
                nullable: true,
                unit: None,
                comment: Some(format!("cannot be opened: {error}")),
                entry,
            }],
        }
    }
}

#[async_trait]
impl TableProvider for Columns {
    fn schema(&self) -> SchemaRef {
        Self::declared()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let state = state_of(session)?;
        let wanted = |entry: &TableEntry| filters.iter().all(|filter| may_hold(filter, entry));
        let of_use = |schema: &str| {
            filters.iter().all(|filter| equality(filter).is_none_or(|(column, value)| column != "table_schema" || value == schema))
        };
        let access = Access::of(state)?;
        let listed = self.catalog.all_tables(session, &self.session, &access, of_use).await?;
        let entries: Vec<TableEntry> = listed.into_iter().chain(entries(&self.catalog)).filter(wanted).collect();
        let rows: Vec<Column> =
            stream::iter(entries).map(|entry| self.of(entry, state)).buffered(CONCURRENT_OPENS).flat_map(stream::iter).collect().await;
        let columns: Vec<ArrayRef> = vec![
            text(rows.iter().map(|row| Some(&row.entry.catalog))),
            text(rows.iter().map(|row| Some(&row.entry.schema))),
            text(rows.iter().map(|row| Some(&row.entry.name))),
            text(rows.iter().map(|row| Some(&row.name))),
            Arc::new(rows.iter().map(|row| Some(row.position)).collect::<UInt64Array>()),
            text(rows.iter().map(|row| Some(if row.nullable { "YES" } else { "NO" }))),
            text(rows.iter().map(|row| Some(&row.data_type))),
            Arc::new(rows.iter().map(|row| row.text.as_ref().map(|(_, length)| *length)).collect::<UInt64Array>()),
            text(rows.iter().map(|row| row.text.as_ref().map(|(word, length)| format!("{word}({length})")))),
            text(rows.iter().map(|row| row.unit.as_ref())),
            text(rows.iter().map(|row| row.comment.as_ref())),
        ];
        let batch = RecordBatch::try_new(Self::declared(), columns)?;
        MemTable::try_new(batch.schema(), vec![vec![batch]])?.scan(session, projection, &[], limit).await
    }
}

/// Whether rows of `entry` can pass `filter`: decided for `table_name = '...'` and `table_schema = '...'`, open for the rest.
fn may_hold(filter: &Expr, entry: &TableEntry) -> bool {
    match equality(filter) {
        Some(("table_name", name)) => entry.name == name,
        Some(("table_schema", schema)) => entry.schema == schema,
        _ => true,
    }
}

/// The column and the text of a filter `column = '...'`.
fn equality(filter: &Expr) -> Option<(&str, &str)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    let (Expr::Column(column), Expr::Literal(value, _)) = (left.as_ref(), right.as_ref()) else { return None };
    Some((column.name.as_str(), value.try_as_str().flatten()?))
}

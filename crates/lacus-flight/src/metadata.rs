//! What the server says about its tables.

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use futures::{StreamExt, stream};
use lacus_core::{Error, Result, description_of, unit_of};
use lacus_engine::{Engine, Session, TableEntry, TableKind};

use crate::wire::Wire;

/// How many datasets are opened at once for their schemas.
const CONCURRENT_OPENS: usize = 8;

pub(crate) fn catalogs(engine: &Engine, query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    builder.append(engine.lake());
    builder.build().map_err(unencodable)
}

pub(crate) async fn schemas(engine: &Engine, query: CommandGetDbSchemas, session: &Session) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    let schemas = engine.schemas(session).await?;
    schemas.iter().for_each(|schema| builder.append(engine.lake(), schema));
    builder.build().map_err(unencodable)
}

/// Tables are opened only when the client asks for their schemas. One that can't be opened is listed with an empty schema: the query
/// that names it says why.
pub(crate) async fn tables(engine: &Engine, query: CommandGetTables, session: &Session) -> Result<RecordBatch> {
    let include_schema = query.include_schema;
    let mut builder = query.into_builder();
    let open = |table: TableEntry| async move {
        let schema = match include_schema {
            true => engine.table_schema(&table, session).await.map(|schema| documented(&schema, &table)),
            false => Ok(Schema::empty()),
        };
        (table, schema.unwrap_or_else(|_| Schema::empty()))
    };
    let opened: Vec<(TableEntry, Schema)> =
        stream::iter(engine.tables(session).await?).map(open).buffered(CONCURRENT_OPENS).collect().await;
    for (table, schema) in opened {
        builder.append(&table.catalog, &table.schema, &table.name, table.kind.as_str(), &schema).map_err(unencodable)?;
    }
    builder.build().map_err(unencodable)
}

pub(crate) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    TableKind::ALL.iter().for_each(|kind| builder.append(kind.as_str()));
    builder.build().map_err(unencodable)
}

/// The schema as it travels, each column with the metadata that tools look for.
fn documented(schema: &Schema, table: &TableEntry) -> Schema {
    let document = |field: &std::sync::Arc<Field>| {
        let mut metadata = field.metadata().clone();
        let remarks = match (description_of(field), unit_of(field)) {
            (Some(description), Some(unit)) => Some(format!("{description} [{unit}]")),
            (Some(text), None) => Some(text.to_owned()),
            (None, Some(unit)) => Some(format!("[{unit}]")),
            (None, None) => None,
        };
        let known = [
            ("CATALOG_NAME", Some(table.catalog.clone())),
            ("DB_SCHEMA_NAME", Some(table.schema.clone())),
            ("TABLE_NAME", Some(table.name.clone())),
            ("TYPE_NAME", Some(field.data_type().to_string())),
            ("IS_READ_ONLY", Some("1".to_owned())),
            ("REMARKS", remarks),
        ];
        let known = known.into_iter().filter_map(|(key, value)| Some((format!("ARROW:FLIGHT:SQL:{key}"), value?)));
        metadata.extend(known);
        Field::clone(field).with_metadata(metadata)
    };
    Schema::new(Wire::Compat.schema(schema).fields().iter().map(document).collect::<Vec<_>>())
}

pub(crate) fn unencodable(error: arrow_flight::error::FlightError) -> Error {
    Error::new(lacus_core::Kind::Internal, format!("metadata can't be encoded: {error}"))
}

//! What the server says about its tables and itself.

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity,
    SqlSupportedTransaction,
};
use futures::{StreamExt, stream};
use lacus_core::{Error, Principal, Result, description_of, unit_of};
use lacus_engine::{Engine, TableEntry, TableKind};

use crate::wire;

/// The functions that clients ask for by kind; those that the engine has are told.
const NUMERIC: [&str; 16] =
    ["abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "exp", "floor", "ln", "log", "power", "round", "sin", "sqrt", "tan"];
const STRING: [&str; 12] = ["ascii", "concat", "left", "length", "lower", "ltrim", "replace", "right", "rtrim", "substr", "trim", "upper"];
const DATETIME: [&str; 6] = ["current_date", "date_bin", "date_part", "date_trunc", "now", "to_timestamp"];

/// How many datasets are opened at once for their schemas.
const CONCURRENT_OPENS: usize = 8;

pub(crate) fn catalogs(engine: &Engine, query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    builder.append(engine.lake());
    builder.build().map_err(unencodable)
}

pub(crate) fn schemas(engine: &Engine, query: CommandGetDbSchemas, principal: &Principal) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    let schemas = engine.schemas(principal);
    schemas.iter().for_each(|schema| builder.append(engine.lake(), schema));
    builder.build().map_err(unencodable)
}

/// Tables are opened only when the client asks for their schemas. One that can't be opened is listed with an empty schema: the query
/// that names it says why.
pub(crate) async fn tables(engine: &Engine, query: CommandGetTables, principal: &Principal) -> Result<RecordBatch> {
    let include_schema = query.include_schema;
    let mut builder = query.into_builder();
    let open = |table: TableEntry| async move {
        let schema = match include_schema {
            true => engine.table_schema(&table, principal).await.map(|schema| documented(&schema, &table)),
            false => Ok(Schema::empty()),
        };
        (table, schema.unwrap_or_else(|_| Schema::empty()))
    };
    let opened: Vec<(TableEntry, Schema)> =
        stream::iter(engine.tables(principal).await?).map(open).buffered(CONCURRENT_OPENS).collect().await;
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
    Schema::new(wire::schema(schema).fields().iter().map(document).collect::<Vec<_>>())
}

/// What the server says about itself.
pub(crate) fn sql_info(engine: &Engine) -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Lacus");
    info.append(SqlInfo::FlightSqlServerVersion, Engine::version());
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, !engine.stores().is_writable());
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i64);
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    let [scalar, ..] = engine.functions();
    let among = |known: &[&'static str]| known.iter().copied().filter(|name| scalar.iter().any(|has| has == name)).collect::<Vec<&str>>();
    info.append(SqlInfo::SqlNumericFunctions, among(&NUMERIC).as_slice());
    info.append(SqlInfo::SqlStringFunctions, among(&STRING).as_slice());
    info.append(SqlInfo::SqlDatetimeFunctions, among(&DATETIME).as_slice());
    info.build().map_err(unencodable)
}

pub(crate) fn unencodable(error: arrow_flight::error::FlightError) -> Error {
    Error::new(lacus_core::Kind::Internal, format!("metadata can't be encoded: {error}"))
}

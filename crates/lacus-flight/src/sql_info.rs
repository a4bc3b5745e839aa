//! What the server says about itself and its SQL: every id of the specification, each in the type that drivers cast it to.

use std::collections::BTreeMap;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, SqlSupportsConvert};
use lacus_core::Result;
use lacus_engine::{Engine, FunctionKind};

use crate::metadata::unencodable;

/// Bits are the positions that the specification gives to the members of its enumerations.
const fn bits<const N: usize>(positions: [u32; N]) -> i32 {
    let (mut mask, mut at) = (0, 0);
    while at < N {
        mask |= 1 << positions[at];
        at += 1;
    }
    mask
}

pub(crate) fn sql_info(engine: &Engine) -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, engine);
    names(&mut info, engine);
    grammar(&mut info);
    limits(&mut info);
    info.build().map_err(unencodable)
}

fn server(info: &mut SqlInfoDataBuilder, engine: &Engine) {
    info.append(SqlInfo::FlightSqlServerName, "Lacus");
    info.append(SqlInfo::FlightSqlServerVersion, Engine::version());
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, !engine.stores().is_writable());
    info.append(SqlInfo::FlightSqlServerSql, true);
    // The ids of Substrait's versions are told only by servers that speak it.
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(engine.limits().deadline.as_millis()).unwrap_or(0));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

fn names(info: &mut SqlInfoDataBuilder, engine: &Engine) {
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // ODBC takes what is unknown for sensitive, which is what a quoted name is here.
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i64);
    info.append(SqlInfo::SqlKeywords, Engine::keywords());
    let functions = |kind| engine.scalar_functions_of(kind);
    info.append(SqlInfo::SqlNumericFunctions, functions(FunctionKind::Numeric));
    info.append(SqlInfo::SqlStringFunctions, functions(FunctionKind::Text));
    info.append(SqlInfo::SqlSystemFunctions, functions(FunctionKind::Other));
    info.append(SqlInfo::SqlDatetimeFunctions, functions(FunctionKind::Time));
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
}

fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    // By columns that are not selected, and by more than those.
    info.append(SqlInfo::SqlSupportedGroupBy, bits([0, 1]));
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    // Minimum and core.
    info.append(SqlInfo::SqlSupportedGrammar, bits([0, 1]));
    // Entry level.
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits([0]));
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    // Limited and full.
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, bits([1, 2]));
    for none in [SqlInfo::SqlSchemasSupportedActions, SqlInfo::SqlCatalogsSupportedActions, SqlInfo::SqlSupportedPositionedCommands] {
        info.append(none, bits([]));
    }
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    // In comparisons, EXISTS and IN.
    info.append(SqlInfo::SqlSupportedSubqueries, bits([0, 1, 2]));
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(SqlInfo::SqlSupportedUnions, bits([0, 1]));
    info.append(SqlInfo::SqlTransactionsSupported, false);
    // None.
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits([0]));
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    // Forward only, and to be read.
    info.append(SqlInfo::SqlSupportedResultSetTypes, bits([1]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, bits([]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, bits([1]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, bits([]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, bits([]));
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    for not in [
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
    ] {
        info.append(not, false);
    }
}

/// Nothing is limited, or by nothing that is known: 0 says so to drivers.
fn limits(info: &mut SqlInfoDataBuilder) {
    for limit in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
        SqlInfo::SqlDefaultTransactionIsolation,
    ] {
        info.append(limit, 0_i64);
    }
}

/// Which types CAST turns into which.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as To;
    let types = [
        (To::SqlConvertBigint, DataType::Int64),
        (To::SqlConvertBinary, DataType::Binary),
        (To::SqlConvertBit, DataType::Boolean),
        (To::SqlConvertChar, DataType::Utf8),
        (To::SqlConvertDate, DataType::Date32),
        (To::SqlConvertDecimal, DataType::Decimal128(38, 10)),
        (To::SqlConvertFloat, DataType::Float64),
        (To::SqlConvertInteger, DataType::Int32),
        (To::SqlConvertIntervalDayTime, DataType::Interval(IntervalUnit::DayTime)),
        (To::SqlConvertIntervalYearMonth, DataType::Interval(IntervalUnit::YearMonth)),
        (To::SqlConvertLongvarbinary, DataType::Binary),
        (To::SqlConvertLongvarchar, DataType::Utf8),
        (To::SqlConvertNumeric, DataType::Decimal128(38, 10)),
        (To::SqlConvertReal, DataType::Float32),
        (To::SqlConvertSmallint, DataType::Int16),
        (To::SqlConvertTime, DataType::Time64(TimeUnit::Microsecond)),
        (To::SqlConvertTimestamp, DataType::Timestamp(TimeUnit::Microsecond, None)),
        (To::SqlConvertTinyint, DataType::Int8),
        (To::SqlConvertVarbinary, DataType::Binary),
        (To::SqlConvertVarchar, DataType::Utf8),
    ];
    let targets = |from: &DataType| types.iter().filter(|(_, to)| can_cast_types(from, to)).map(|(name, _)| *name as i32).collect();
    types.iter().map(|(name, from)| (*name as i32, targets(from))).collect()
}

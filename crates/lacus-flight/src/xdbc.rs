//! The types of columns as ODBC and JDBC know them.

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use lacus_core::Result;

use crate::metadata::unencodable;

/// A number: its SQL name, its type, how many bits or digits it has.
fn number(name: &str, data_type: XdbcDataType, size: i32, radix: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(size),
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..plain(name, data_type)
    }
}

fn plain(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}

/// A type whose literals stand in quotes.
fn quoted(name: &str, data_type: XdbcDataType, size: Option<i32>, prefix: &str) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: size,
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..plain(name, data_type)
    }
}

fn moment(name: &str, data_type: XdbcDataType, size: i32, code: XdbcDatetimeSubcode, scale: Option<i32>) -> XdbcTypeInfo {
    XdbcTypeInfo {
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(code),
        minimum_scale: scale.map(|_| 0),
        maximum_scale: scale,
        ..quoted(name, data_type, Some(size), &format!("{} '", name.split(' ').next().unwrap_or(name)))
    }
}

/// Ordered by type, and then by how closely each fits it, as ODBC wants it: the first of a type is what a driver takes.
pub(crate) fn types() -> Result<XdbcTypeInfoData> {
    use XdbcDataType as Type;
    use XdbcDatetimeSubcode as Code;
    let decimal = XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        fixed_prec_scale: false,
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        ..number("DECIMAL", Type::XdbcDecimal, 38, 10, false)
    };
    let numeric = XdbcTypeInfo {
        data_type: Type::XdbcNumeric,
        sql_data_type: Type::XdbcNumeric,
        type_name: "NUMERIC".to_owned(),
        local_type_name: Some("NUMERIC".to_owned()),
        ..decimal.clone()
    };
    let text = |name, data_type| XdbcTypeInfo { case_sensitive: true, ..quoted(name, data_type, None, "'") };
    let varchar = XdbcTypeInfo { create_params: Some(vec!["length".to_owned()]), ..text("VARCHAR", Type::XdbcVarchar) };
    let all = [
        text("TEXT", Type::XdbcLongvarchar),
        quoted("BYTEA", Type::XdbcLongvarbinary, None, "X'"),
        quoted("BYTEA", Type::XdbcVarbinary, None, "X'"),
        quoted("BYTEA", Type::XdbcBinary, None, "X'"),
        number("BIGINT", Type::XdbcBigint, 64, 2, false),
        number("BIGINT UNSIGNED", Type::XdbcBigint, 64, 2, true),
        number("TINYINT", Type::XdbcTinyint, 8, 2, false),
        number("TINYINT UNSIGNED", Type::XdbcTinyint, 8, 2, true),
        plain("BOOLEAN", Type::XdbcBit),
        text("CHAR", Type::XdbcChar),
        numeric,
        decimal,
        number("INTEGER", Type::XdbcInteger, 32, 2, false),
        number("INTEGER UNSIGNED", Type::XdbcInteger, 32, 2, true),
        number("SMALLINT", Type::XdbcSmallint, 16, 2, false),
        number("SMALLINT UNSIGNED", Type::XdbcSmallint, 16, 2, true),
        number("DOUBLE", Type::XdbcFloat, 53, 2, false),
        number("REAL", Type::XdbcReal, 24, 2, false),
        number("DOUBLE", Type::XdbcDouble, 53, 2, false),
        quoted("INTERVAL", Type::XdbcInterval, None, "INTERVAL '"),
        varchar,
        moment("DATE", Type::XdbcDate, 10, Code::XdbcSubcodeYear, None),
        moment("TIME", Type::XdbcTime, 18, Code::XdbcSubcodeTime, Some(9)),
        moment("TIMESTAMP", Type::XdbcTimestamp, 29, Code::XdbcSubcodeTimestamp, Some(9)),
        moment("TIMESTAMP WITH TIME ZONE", Type::XdbcTimestamp, 35, Code::XdbcSubcodeTimestampWithTimezone, Some(9)),
    ];
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let mut ordered: Vec<XdbcTypeInfo> = all.into();
    ordered.sort_by_key(|info| info.data_type as i32);
    ordered.into_iter().for_each(|info| builder.append(info));
    builder.build().map_err(unencodable)
}

//! The text that a site is asked.
//!
//! It is made of a normal form, `SELECT columns FROM table WHERE conditions LIMIT rows`, and of conditions that mean the same everywhere:
//! comparisons of a column with a value of its type. Left out, and done here, is what engines differ in: the order of texts, NaN, time
//! zones, division, patterns.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use chrono::{DateTime, NaiveDate};
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::expr::InList;
use datafusion_expr::{Between, BinaryExpr, Expr, Operator};

use crate::client::RemoteTable;

/// The column that stands for none: a row has to have one on its way.
const NOTHING: &str = "1 AS \"nothing\"";

/// The statement.
pub(super) fn select(table: &RemoteTable, schema: &Schema, conditions: &[String], limit: Option<usize>) -> String {
    let columns = schema.fields().iter().map(|field| quoted(field.name())).collect::<Vec<_>>().join(", ");
    let columns = if columns.is_empty() { NOTHING } else { &columns };
    let parts = [table.catalog.as_deref(), table.schema.as_deref(), Some(table.name.as_str())];
    let name = parts.into_iter().flatten().filter(|part| !part.is_empty()).map(quoted).collect::<Vec<_>>().join(".");
    let mut text = format!("SELECT {columns} FROM {name}");
    if !conditions.is_empty() {
        text.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    if let Some(limit) = limit {
        text.push_str(&format!(" LIMIT {limit}"));
    }
    text
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A condition, if it means the same everywhere.
pub(super) fn condition(expr: &Expr, schema: &Schema) -> Option<String> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            Some(format!("({} {op} {})", condition(left, schema)?, condition(right, schema)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
                (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
                _ => return None,
            };
            let sign = match op {
                Operator::Eq => "=",
                Operator::NotEq => "<>",
                Operator::Lt => "<",
                Operator::LtEq => "<=",
                Operator::Gt => ">",
                Operator::GtEq => ">=",
                _ => return None,
            };
            let is_order = !matches!(op, Operator::Eq | Operator::NotEq);
            let value = compared(column, value, is_order, schema)?;
            Some(format!("{} {sign} {value}", quoted(&column.name)))
        }
        Expr::Not(inner) => Some(format!("NOT ({})", condition(inner, schema)?)),
        Expr::IsNull(inner) => Some(format!("{} IS NULL", named(inner, schema)?)),
        Expr::IsNotNull(inner) => Some(format!("{} IS NOT NULL", named(inner, schema)?)),
        Expr::InList(InList { expr, list, negated }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let value = |value: &Expr| if let Expr::Literal(value, _) = value { compared(column, value, false, schema) } else { None };
            let values = list.iter().map(value).collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())?;
            let not = if *negated { " NOT" } else { "" };
            Some(format!("{}{not} IN ({})", quoted(&column.name), values.join(", ")))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) = (expr.as_ref(), low.as_ref(), high.as_ref()) else {
                return None;
            };
            let not = if *negated { " NOT" } else { "" };
            let (low, high) = (compared(column, low, true, schema)?, compared(column, high, true, schema)?);
            Some(format!("({}{not} BETWEEN {low} AND {high})", quoted(&column.name)))
        }
        _ => None,
    }
}

/// The name of a column that the table has.
fn named(expr: &Expr, schema: &Schema) -> Option<String> {
    let Expr::Column(column) = expr else { return None };
    schema.column_with_name(&column.name).map(|_| quoted(&column.name))
}

/// A value that a column is compared with, if it has the type of the column, and comparing means the same everywhere.
fn compared(column: &Column, value: &ScalarValue, is_order: bool, schema: &Schema) -> Option<String> {
    let (_, field) = schema.column_with_name(&column.name)?;
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let fits = *field.data_type() == value.data_type() || is_text(field.data_type()) && is_text(&value.data_type());
    if !fits || (is_order && is_text(field.data_type())) {
        return None;
    }
    literal(value)
}

/// A value as SQL writes it; `None` for NULL and for what is written differently elsewhere.
fn literal(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Boolean(value) => value.map(|value| if value { "TRUE" } else { "FALSE" }.to_owned()),
        ScalarValue::Int8(value) => value.map(|value| value.to_string()),
        ScalarValue::Int16(value) => value.map(|value| value.to_string()),
        ScalarValue::Int32(value) => value.map(|value| value.to_string()),
        // The least is written as a number that is too large, with a sign before it.
        ScalarValue::Int64(value) => value.filter(|value| *value != i64::MIN).map(|value| value.to_string()),
        ScalarValue::UInt8(value) => value.map(|value| value.to_string()),
        ScalarValue::UInt16(value) => value.map(|value| value.to_string()),
        ScalarValue::UInt32(value) => value.map(|value| value.to_string()),
        ScalarValue::UInt64(value) => value.map(|value| value.to_string()),
        ScalarValue::Utf8(value) | ScalarValue::LargeUtf8(value) | ScalarValue::Utf8View(value) => {
            // Some engines take a backslash for an escape.
            let plain = value.as_deref().filter(|text| !text.contains('\\') && !text.contains('\0'));
            plain.map(|text| format!("'{}'", text.replace('\'', "''")))
        }
        ScalarValue::Date32(Some(days)) => {
            let day = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(chrono::TimeDelta::try_days(i64::from(*days))?)?;
            written_year(day).then(|| format!("DATE '{day}'"))
        }
        ScalarValue::Decimal128(Some(_), precision, scale) if *scale >= 0 => {
            Some(format!("CAST('{value}' AS DECIMAL({precision}, {scale}))"))
        }
        ScalarValue::TimestampSecond(Some(count), None) => instant(*count, &TimeUnit::Second),
        ScalarValue::TimestampMillisecond(Some(count), None) => instant(*count, &TimeUnit::Millisecond),
        ScalarValue::TimestampMicrosecond(Some(count), None) => instant(*count, &TimeUnit::Microsecond),
        ScalarValue::TimestampNanosecond(Some(count), None) => instant(*count, &TimeUnit::Nanosecond),
        _ => None,
    }
}

/// An instant without a zone.
fn instant(count: i64, unit: &TimeUnit) -> Option<String> {
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let rest = u32::try_from(count.rem_euclid(per_second) * (1_000_000_000 / per_second)).ok()?;
    let instant = DateTime::from_timestamp(count.div_euclid(per_second), rest)?.naive_utc();
    written_year(instant.date()).then(|| format!("TIMESTAMP '{}'", instant.format("%Y-%m-%d %H:%M:%S%.9f")))
}

/// Whether a day lies in a year of four digits, which everybody writes alike.
fn written_year(day: NaiveDate) -> bool {
    use chrono::Datelike;
    (1..=9999).contains(&day.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use datafusion_expr::{col, lit};

    #[test]
    fn only_what_means_the_same_everywhere_is_written() {
        let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int64, true),
            Field::new("A b", DataType::Utf8, true),
            Field::new("f", DataType::Float64, true),
            Field::new("d", DataType::Date32, true),
            Field::new("t", timestamp, true),
            Field::new("m", DataType::Decimal128(9, 2), true),
        ]);
        let text = |expr: Expr| condition(&expr, &schema);
        let name = || Expr::Column(Column::from_name("A b"));
        assert_eq!(text(col("i").gt(lit(5_i64)).and(name().eq(lit("it's")))).as_deref(), Some("(\"i\" > 5 AND \"A b\" = 'it''s')"));
        assert_eq!(text(lit(5_i64).gt(col("i"))).as_deref(), Some("\"i\" < 5"));
        assert_eq!(text(col("i").in_list(vec![lit(1_i64), lit(2_i64)], true)).as_deref(), Some("\"i\" NOT IN (1, 2)"));
        assert_eq!(text(col("d").eq(lit(ScalarValue::Date32(Some(-1))))).as_deref(), Some("\"d\" = DATE '1969-12-31'"));
        let before = lit(ScalarValue::TimestampMillisecond(Some(-1), None));
        assert_eq!(text(col("t").lt(before)).as_deref(), Some("\"t\" < TIMESTAMP '1969-12-31 23:59:59.999000000'"));
        let money = lit(ScalarValue::Decimal128(Some(-150), 9, 2));
        assert_eq!(
            text(col("m").between(money.clone(), money)).as_deref(),
            Some("(\"m\" BETWEEN CAST('-1.50' AS DECIMAL(9, 2)) AND CAST('-1.50' AS DECIMAL(9, 2)))")
        );
        assert_eq!(text(!col("i").is_null()).as_deref(), Some("NOT (\"i\" IS NULL)"));
        let not_written = [
            name().gt(lit("a")),
            name().eq(lit("a\\b")),
            col("f").gt(lit(1.5)),
            col("i").eq(lit(i64::MIN)),
            col("i").eq(lit(ScalarValue::Int64(None))),
            col("i").eq(lit(1_i32)),
            (col("i") / lit(2_i64)).eq(lit(1_i64)),
            col("i").gt(lit(5_i64)).or(col("f").gt(lit(1.5))),
            col("d").lt(lit(ScalarValue::Date32(Some(i32::MAX)))),
            name().like(lit("a%")),
            col("nosuch").is_null(),
        ];
        for expr in not_written {
            assert_eq!(text(expr.clone()), None, "{expr}");
        }
    }

    #[test]
    fn a_statement_names_the_whole_table() {
        let table =
            RemoteTable { catalog: Some("lab".to_owned()), schema: Some("main".to_owned()), name: "a\"b".to_owned(), columns: None };
        let schema = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
        assert_eq!(
            select(&table, &schema, &["\"x\" > 1".to_owned()], Some(3)),
            "SELECT \"x\" FROM \"lab\".\"main\".\"a\"\"b\" WHERE \"x\" > 1 LIMIT 3"
        );
        let bare = RemoteTable { catalog: None, schema: Some(String::new()), name: "t".to_owned(), columns: None };
        assert_eq!(select(&bare, &Schema::empty(), &[], None), "SELECT 1 AS \"nothing\" FROM \"t\"");
    }
}

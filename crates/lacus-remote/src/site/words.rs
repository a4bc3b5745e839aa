//! Expressions as a site is asked them.
//!
//! A site that is no Lacus is asked conditions that mean the same everywhere: comparisons of a column with a value of its type. Left out, and
//! done here, is what engines differ in: the order of texts, NaN, time zones, division, patterns. A Lacus of this version computes as this one
//! does, so it is asked all that depends on nothing but the row.

use std::cell::Cell;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate};
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams, InList};
use datafusion_expr::utils::split_binary;
use datafusion_expr::{Between, BinaryExpr, Case, Expr, Like, LogicalPlan, Operator, SortExpr};

use super::dialect::Dialect;
use super::select::Select;
use super::sketches::is_sketch;

/// The one function that orders the values of a group by what it is a function of.
pub(super) const PERCENTILE: &str = "approx_percentile_cont";
/// Functions of a row that a Lacus has.
const FUNCTIONS: [&str; 62] = [
    "abs",
    "acos",
    "asin",
    "ascii",
    "atan",
    "atan2",
    "bit_length",
    "btrim",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cot",
    "date_part",
    "date_trunc",
    "degrees",
    "ends_with",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "greatest",
    "initcap",
    "isnan",
    "iszero",
    "lcm",
    "least",
    "left",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "nanvl",
    "nullif",
    "octet_length",
    "power",
    "radians",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "signum",
    "sin",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "tan",
    "to_hex",
    "trunc",
    "upper",
];
/// Functions of groups that a Lacus has, and that don't depend on the order of rows.
const AGGREGATES: [&str; 21] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "median",
    "min",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// How deep parentheses may stand in one another: parsers have an end.
const DEEPEST: usize = 30;

/// How deep parentheses stand in one another; those in texts count as well.
fn nesting(text: &str) -> usize {
    let mut deepest = 0;
    text.bytes().fold(0_usize, |depth, letter| {
        let depth = match letter {
            b'(' => depth + 1,
            b')' => depth.saturating_sub(1),
            _ => depth,
        };
        deepest = deepest.max(depth);
        depth
    });
    deepest
}

/// What expressions are written over: a statement, whose columns have the names and types of `schema`.
pub(super) struct Words<'a> {
    pub(super) select: &'a Select,
    pub(super) schema: &'a DFSchema,
    /// The statement behind a subquery, if the site can be asked it.
    pub(super) folded: &'a dyn Fn(&LogicalPlan) -> Option<Select>,
    /// In how many expressions the one stands that is written.
    depth: Cell<usize>,
}

impl<'a> Words<'a> {
    pub(super) fn new(select: &'a Select, schema: &'a DFSchema, folded: &'a dyn Fn(&LogicalPlan) -> Option<Select>) -> Self {
        Self { select, schema, folded, depth: Cell::default() }
    }

    /// An expression, which stands in another as it is; `None` if the site may take it for another, or hasn't what it needs.
    pub(super) fn expr(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Alias(alias) => self.expr(&alias.expr),
            // It may hold what is no boolean, and would be none of both.
            Expr::Column(column) if self.is_loose(column) => None,
            Expr::Column(column) => self.column(column).cloned(),
            _ if self.depth.get() >= DEEPEST => None,
            _ => {
                self.depth.set(self.depth.get() + 1);
                let text = self.condition(expr).or_else(|| match self.select.dialect {
                    Dialect::Lacus => self.own(expr),
                    Dialect::Standard { .. } => None,
                    Dialect::Postgres { .. } | Dialect::MySql | Dialect::Sqlite { .. } => self.of_database(expr),
                });
                self.depth.set(self.depth.get() - 1);
                // The columns are expressions as well.
                text.filter(|text| nesting(text) <= DEEPEST)
            }
        }
    }

    /// Several, all or none.
    pub(super) fn exprs<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> Option<Vec<String>> {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    /// The keys of an order.
    pub(super) fn order(&self, keys: &[SortExpr]) -> Option<Vec<String>> {
        let key = |key: &SortExpr| {
            let Expr::Column(column) = &key.expr else { return None };
            let (dialect, data_type) = (self.select.dialect, self.data_type(column)?);
            // A number would say which column is meant.
            let text = self.expr(&key.expr).filter(|text| text.contains(dialect.quote()))?;
            dialect.is_sorted_alike(data_type).then(|| dialect.key(&text, data_type, key.asc, key.nulls_first))
        };
        keys.iter().map(key).collect()
    }

    /// A function of a group of rows; if it is `called` like another but for casts, with a name of its own.
    pub(super) fn aggregate(&self, expr: &Expr, called: Option<usize>) -> Option<String> {
        let function = match expr {
            Expr::Alias(alias) => return self.aggregate(&alias.expr, called),
            Expr::AggregateFunction(function) => function,
            _ => return None,
        };
        let AggregateFunction { func, params: AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } } = function;
        let (name, dialect) = (func.name(), self.select.dialect);
        let is_ordered_by_itself = dialect.is_own() && name == PERCENTILE;
        if null_treatment.is_some() || !(order_by.is_empty() || is_ordered_by_itself) {
            return None;
        }
        if dialect.is_database() {
            return self.aggregate_of_database(function, expr);
        }
        if !dialect.is_own() {
            let alike = |arg: &Expr| {
                if let Expr::Column(column) = arg { self.data_type(column).is_some_and(|of| dialect.is_ordered_alike(of)) } else { false }
            };
            let alike = match (name, args.as_slice()) {
                ("count", [Expr::Literal(value, _)]) => !value.is_null() && !distinct,
                ("count", [Expr::Column(_)]) => !distinct,
                ("min" | "max", [arg]) => alike(arg),
                _ => false,
            };
            if !alike || filter.is_some() {
                return None;
            }
        } else if !AGGREGATES.contains(&name) && !is_sketch(name) {
            return None;
        }
        let among = self.among(filter.as_deref())?;
        if let ([key], [value, others @ ..]) = (order_by.as_slice(), args.as_slice()) {
            let direction = if key.asc { "ASC" } else { "DESC" };
            let (key, others) = (self.expr(&key.expr).filter(|key| self.expr(value).as_ref() == Some(key))?, self.exprs(others)?);
            return Some(format!("{name}({}) WITHIN GROUP (ORDER BY {key} {direction}){among}", others.join(", ")));
        }
        let args = match args.as_slice() {
            [Expr::Literal(value, _)] if name == "count" && !value.is_null() && !distinct => "*".to_owned(),
            args => {
                let mut texts = self.exprs(args)?;
                if let (Some(place), Some(text)) = (called, texts.first_mut()) {
                    *text = format!("CASE WHEN {place} = {place} THEN {text} END");
                }
                texts.join(", ")
            }
        };
        let distinct = if *distinct { "DISTINCT " } else { "" };
        Some(format!("{name}({distinct}{args}){among}"))
    }

    /// Of which rows of a group a function is, in words behind it.
    pub(super) fn among(&self, filter: Option<&Expr>) -> Option<String> {
        filter.map_or(Some(String::new()), |filter| Some(format!(" FILTER (WHERE {})", self.expr(filter)?)))
    }

    fn place(&self, column: &Column) -> Option<usize> {
        self.schema.maybe_index_of_column(column)
    }

    fn column(&self, column: &Column) -> Option<&String> {
        self.select.columns.get(self.place(column)?)
    }

    /// Whether a column is a boolean of SQLite, which has none.
    fn is_loose(&self, column: &Column) -> bool {
        matches!(self.select.dialect, Dialect::Sqlite { .. }) && self.data_type(column) == Some(&DataType::Boolean)
    }

    pub(super) fn data_type(&self, column: &Column) -> Option<&DataType> {
        Some(self.schema.field(self.place(column)?).data_type())
    }

    /// A condition that means the same everywhere.
    fn condition(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
                let parts = self.exprs(split_binary(expr, *op))?;
                Some(format!("({})", parts.join(&format!(" {op} "))))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (column, op, value) = match (left.as_ref(), right.as_ref()) {
                    (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
                    (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
                    _ => return None,
                };
                let sign = compared_by(op)?;
                let is_order = !matches!(op, Operator::Eq | Operator::NotEq);
                let text = self.select.dialect.compared(self.column(column)?, self.data_type(column)?, sign, value, is_order)?;
                Some(format!("({text})"))
            }
            Expr::Not(inner) => Some(format!("(NOT {})", self.expr(inner)?)),
            Expr::IsNull(inner) => Some(format!("({} IS NULL)", self.expr(inner)?)),
            Expr::IsNotNull(inner) => Some(format!("({} IS NOT NULL)", self.expr(inner)?)),
            Expr::InList(InList { expr, list, negated }) => {
                let Expr::Column(column) = expr.as_ref() else { return None };
                let value = |value: &Expr| if let Expr::Literal(value, _) = value { self.compared(column, value, false) } else { None };
                let values = list.iter().map(value).collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())?;
                if *negated && !self.select.dialect.is_sure() {
                    return None;
                }
                Some(match negated {
                    true => format!("({} NOT IN ({}))", self.column(column)?, values.join(", ")),
                    false => format!("({})", self.select.dialect.one_of(self.column(column)?, &values)),
                })
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) = (expr.as_ref(), low.as_ref(), high.as_ref())
                else {
                    return None;
                };
                if !self.select.dialect.is_sure() {
                    return None;
                }
                let not = if *negated { " NOT" } else { "" };
                let (low, high) = (self.compared(column, low, true)?, self.compared(column, high, true)?);
                Some(format!("({}{not} BETWEEN {low} AND {high})", self.column(column)?))
            }
            _ => None,
        }
    }

    /// A value that a column is compared with, if it has the type of the column, and comparing means the same everywhere.
    fn compared(&self, column: &Column, value: &ScalarValue, is_order: bool) -> Option<String> {
        self.select.dialect.value(self.data_type(column)?, value, is_order)
    }

    /// What depends on nothing but the row, for a site that computes as we do.
    fn own(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Literal(value, _) => typed(value),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let sign = match op {
                    Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => op.to_string(),
                    Operator::IsDistinctFrom | Operator::IsNotDistinctFrom | Operator::StringConcat => op.to_string(),
                    Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => op.to_string(),
                    _ => compared_by(*op)?.to_owned(),
                };
                Some(format!("({} {sign} {})", self.expr(left)?, self.expr(right)?))
            }
            Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive }) => {
                let (not, word) = (if *negated { "NOT " } else { "" }, if *case_insensitive { "ILIKE" } else { "LIKE" });
                Some(format!("({} {not}{word} {})", self.expr(expr)?, self.expr(pattern)?))
            }
            Expr::IsTrue(inner) => Some(format!("({} IS TRUE)", self.expr(inner)?)),
            Expr::IsFalse(inner) => Some(format!("({} IS FALSE)", self.expr(inner)?)),
            Expr::IsUnknown(inner) => Some(format!("({} IS UNKNOWN)", self.expr(inner)?)),
            Expr::IsNotTrue(inner) => Some(format!("({} IS NOT TRUE)", self.expr(inner)?)),
            Expr::IsNotFalse(inner) => Some(format!("({} IS NOT FALSE)", self.expr(inner)?)),
            Expr::IsNotUnknown(inner) => Some(format!("({} IS NOT UNKNOWN)", self.expr(inner)?)),
            Expr::Negative(inner) => Some(format!("(- {})", self.expr(inner)?)),
            Expr::Between(Between { expr, negated, low, high }) => {
                let not = if *negated { " NOT" } else { "" };
                Some(format!("({}{not} BETWEEN {} AND {})", self.expr(expr)?, self.expr(low)?, self.expr(high)?))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let not = if *negated { " NOT" } else { "" };
                let values = self.exprs(list).filter(|values| !values.is_empty())?;
                Some(format!("({}{not} IN ({}))", self.expr(expr)?, values.join(", ")))
            }
            Expr::Case(Case { expr, when_then_expr, else_expr }) => {
                let mut text = "CASE".to_owned();
                if let Some(expr) = expr {
                    text.push_str(&format!(" {}", self.expr(expr)?));
                }
                for (when, then) in when_then_expr {
                    text.push_str(&format!(" WHEN {} THEN {}", self.expr(when)?, self.expr(then)?));
                }
                if let Some(other) = else_expr {
                    text.push_str(&format!(" ELSE {}", self.expr(other)?));
                }
                text.push_str(" END");
                Some(text)
            }
            Expr::Cast(cast) => Some(format!("CAST({} AS {})", self.expr(&cast.expr)?, type_name(cast.field.data_type())?)),
            Expr::TryCast(cast) => Some(format!("TRY_CAST({} AS {})", self.expr(&cast.expr)?, type_name(cast.field.data_type())?)),
            Expr::ScalarFunction(function) if FUNCTIONS.contains(&function.name()) => {
                Some(format!("{}({})", function.name(), self.exprs(&function.args)?.join(", ")))
            }
            Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                let inner = (self.folded)(&subquery.subquery).filter(|inner| inner.is_beside(self.select) && inner.columns.len() == 1)?;
                Some(format!("({})", inner.text(&["c0"])))
            }
            _ => None,
        }
    }
}

/// The sign of a comparison.
pub(super) fn compared_by(op: Operator) -> Option<&'static str> {
    Some(match op {
        Operator::Eq => "=",
        Operator::NotEq => "<>",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        _ => return None,
    })
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The type as SQL names it, for a site that computes as we do.
fn type_name(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Decimal128(precision, scale) if *scale >= 0 => format!("DECIMAL({precision}, {scale})"),
        DataType::Timestamp(unit, None) => match unit {
            TimeUnit::Second => "TIMESTAMP(0)".to_owned(),
            TimeUnit::Millisecond => "TIMESTAMP(3)".to_owned(),
            TimeUnit::Microsecond => "TIMESTAMP(6)".to_owned(),
            TimeUnit::Nanosecond => "TIMESTAMP(9)".to_owned(),
        },
        _ => return None,
    })
}

/// A value with its type, for a site that computes as we do.
pub(super) fn typed(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Null => Some("NULL".to_owned()),
        value if value.is_null() => Some(format!("CAST(NULL AS {})", type_name(&value.data_type())?)),
        // What has this type as it is written.
        ScalarValue::Float64(Some(number)) if number.is_finite() => {
            Some(if *number < 0.0 { format!("({number:?})") } else { format!("{number:?}") })
        }
        ScalarValue::Float64(Some(number)) => Some(format!("CAST('{number}' AS DOUBLE)")),
        ScalarValue::Float32(Some(number)) => Some(format!("CAST('{number:?}' AS REAL)")),
        ScalarValue::Int64(Some(number)) if *number < 0 => literal(value).map(|text| format!("({text})")),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', "''")))
        }
        ScalarValue::Boolean(_) | ScalarValue::Int64(_) | ScalarValue::Date32(_) | ScalarValue::Decimal128(..) => literal(value),
        value => Some(format!("CAST({} AS {})", literal(value)?, type_name(&value.data_type())?)),
    }
}

/// A value as SQL writes it; `None` for NULL and for what is written differently elsewhere.
pub(super) fn literal(value: &ScalarValue) -> Option<String> {
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
    // Where all are counted in nanoseconds, there is no other year.
    let counted = (1678..=2261).contains(&chrono::Datelike::year(&instant.date()));
    counted.then(|| format!("TIMESTAMP '{}'", instant.format("%Y-%m-%d %H:%M:%S%.9f")))
}

/// Whether a day lies in a year of four digits, which everybody writes alike.
fn written_year(day: NaiveDate) -> bool {
    use chrono::Datelike;
    (1..=9999).contains(&day.year())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Asked, SiteSpec};
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use datafusion_expr::{col, lit};

    pub(in super::super) fn select(dialect: Dialect, columns: &[String]) -> Select {
        let spec = SiteSpec {
            name: "far".to_owned(),
            url: "grpc://127.0.0.1:1".to_owned(),
            token: None,
            timeout: Duration::from_secs(1),
            audience: None,
            schema_ttl: Duration::ZERO,
        };
        let columns = columns.iter().map(|column| dialect.quoted(column)).collect();
        let table = ["lab", "main", "a\"b"].map(|part| dialect.quoted(part)).join(".");
        Select::over(Arc::new(Asked::new(spec)), dialect, table, columns)
    }

    pub(in super::super) const ANY: Dialect = Dialect::Standard { quote: '"' };

    fn schema() -> Schema {
        let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
        Schema::new(vec![
            Field::new("i", DataType::Int64, true),
            Field::new("A b", DataType::Utf8, true),
            Field::new("f", DataType::Float64, true),
            Field::new("d", DataType::Date32, true),
            Field::new("t", timestamp, true),
            Field::new("m", DataType::Decimal128(9, 2), true),
        ])
    }

    fn written(dialect: Dialect, expr: &Expr) -> Option<String> {
        let schema = schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let schema = DFSchema::try_from(schema).ok()?;
        Words::new(&select(dialect, &names), &schema, &|_| None).expr(expr)
    }

    fn name() -> Expr {
        Expr::Column(Column::from_name("A b"))
    }

    #[test]
    fn only_what_means_the_same_everywhere_is_written() {
        let text = |expr: Expr| written(ANY, &expr);
        assert_eq!(text(col("i").gt(lit(5_i64)).and(name().eq(lit("it's")))).as_deref(), Some("((\"i\" > 5) AND (\"A b\" = 'it''s'))"));
        assert_eq!(text(lit(5_i64).gt(col("i"))).as_deref(), Some("(\"i\" < 5)"));
        assert_eq!(text(col("i").in_list(vec![lit(1_i64), lit(2_i64)], true)).as_deref(), Some("(\"i\" NOT IN (1, 2))"));
        assert_eq!(text(col("d").eq(lit(ScalarValue::Date32(Some(-1))))).as_deref(), Some("(\"d\" = DATE '1969-12-31')"));
        let before = lit(ScalarValue::TimestampMillisecond(Some(-1), None));
        assert_eq!(text(col("t").lt(before)).as_deref(), Some("(\"t\" < TIMESTAMP '1969-12-31 23:59:59.999000000')"));
        let money = lit(ScalarValue::Decimal128(Some(-150), 9, 2));
        assert_eq!(
            text(col("m").between(money.clone(), money)).as_deref(),
            Some("(\"m\" BETWEEN CAST('-1.50' AS DECIMAL(9, 2)) AND CAST('-1.50' AS DECIMAL(9, 2)))")
        );
        assert_eq!(text(!col("i").is_null()).as_deref(), Some("(NOT (\"i\" IS NULL))"));
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
            col("t").lt(lit(ScalarValue::TimestampMillisecond(Some(253_402_214_400_000), None))),
        ];
        for expr in not_written {
            assert_eq!(text(expr.clone()), None, "{expr}");
        }
    }

    #[test]
    fn one_that_computes_as_we_do_is_asked_more() {
        let text = |expr: Expr| written(Dialect::Lacus, &expr);
        assert_eq!(text(col("f").gt(lit(1.5))).as_deref(), Some("(\"f\" > 1.5)"));
        assert_eq!(text(col("f") * lit(-1e300)).as_deref(), Some("(\"f\" * (-1e300))"));
        assert_eq!(text(name().like(lit("a%\\b"))).as_deref(), Some("(\"A b\" LIKE 'a%\\b')"));
        assert_eq!(text(col("i") + lit(1_i32)).as_deref(), Some("(\"i\" + CAST(1 AS INT))"));
        assert_eq!(text(col("f").eq(lit(f64::NAN))).as_deref(), Some("(\"f\" = CAST('NaN' AS DOUBLE))"));
        let is_null = |name: &str| col(name).is_null();
        assert_eq!(text(is_null("i").eq(is_null("f"))).as_deref(), Some("((\"i\" IS NULL) = (\"f\" IS NULL))"));
        assert_eq!(text((!is_null("i")).is_true()).as_deref(), Some("((NOT (\"i\" IS NULL)) IS TRUE)"));
        let any = (0..500).map(|number| name().like(lit(format!("%{number}%")))).reduce(Expr::or);
        assert!(any.and_then(text).is_some_and(|text| nesting(&text) == 2));
        let sum = (0..500).map(|_| col("i")).reduce(|sum, one| sum + one);
        assert_eq!(sum.and_then(text), None);
        assert_eq!(text(lit(ScalarValue::Int64(None))).as_deref(), Some("CAST(NULL AS BIGINT)"));
        assert_eq!(text(col("i").eq(lit(i64::MIN))), None);
        assert_eq!(text(col("nosuch") + lit(1_i64)), None);
    }

    #[test]
    fn a_statement_names_the_whole_table() {
        let one = select(ANY, &["x".to_owned()]).filtered("\"x\" > 1".to_owned()).limited(|_| Some(Vec::new()), 3);
        assert_eq!(
            one.map(|one| one.text(&["x"])).as_deref(),
            Some("SELECT \"x\" FROM \"lab\".\"main\".\"a\"\"b\" WHERE \"x\" > 1 LIMIT 3")
        );
        let none: [&str; 0] = [];
        assert_eq!(select(ANY, &[]).text(&none), "SELECT 1 AS \"nothing\" FROM \"lab\".\"main\".\"a\"\"b\"");
    }

    #[test]
    fn what_is_grouped_is_a_table_for_what_leaves_rows_out() {
        let grouped =
            select(Dialect::Lacus, &["k".to_owned(), "x".to_owned()]).grouped(vec!["\"k\"".to_owned()], vec!["sum(\"x\")".to_owned()]);
        let text = grouped.open().filtered("\"q1\".\"c1\" > 5".to_owned()).text(&["k", "s"]);
        let inner = "SELECT \"k\" AS \"c0\", sum(\"x\") AS \"c1\" FROM \"lab\".\"main\".\"a\"\"b\" GROUP BY \"k\"";
        assert_eq!(text, format!("SELECT \"q1\".\"c0\" AS \"k\", \"q1\".\"c1\" AS \"s\" FROM ({inner}) AS \"q1\" WHERE \"q1\".\"c1\" > 5"));
    }
}

//! Expressions as databases are asked them: what each computes as this engine does, to the last digit, or refuses.
//!
//! Where this engine wraps whole numbers around, a database says that they are too large; that is an error, and no other answer.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams, ScalarFunction};
use datafusion_expr::{BinaryExpr, Case, Expr, ExprSchemable, Like, Operator};

use super::dialect::{Dialect, MYSQL_SCALE};
use super::words::{Words, compared_by, is_text};

impl Words<'_> {
    fn type_of(&self, expr: &Expr) -> Option<DataType> {
        expr.get_type(self.schema).ok()
    }

    fn is_postgres(&self) -> bool {
        matches!(self.select.dialect, Dialect::Postgres { .. })
    }

    /// Whether it is a PostgreSQL that counts letters, not bytes.
    fn has_letters(&self) -> bool {
        self.select.dialect == Dialect::Postgres { is_utf8: true }
    }

    /// What depends on nothing but the row.
    pub(super) fn of_database(&self, expr: &Expr) -> Option<String> {
        let dialect = self.select.dialect;
        match expr {
            Expr::Literal(value, _) if !value.is_null() => dialect.literal(value),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus | Operator::Multiply), right }) => {
                self.is_computed_alike(*op, expr, left, right).then_some(())?;
                Some(format!("({} {op} {})", self.expr(left)?, self.expr(right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (sign, data_type) = (compared_by(*op)?, self.type_of(left)?);
                let is_order = !matches!(op, Operator::Eq | Operator::NotEq);
                let is_alike = if is_order { dialect.is_ordered_alike(&data_type) } else { dialect.is_equal_alike(&data_type) };
                // Zero has two signs here, and one there.
                (is_alike && dialect.is_sure() && !data_type.is_floating() && self.type_of(right)? == data_type).then_some(())?;
                // Two columns may have collations of their own, of which neither holds.
                let text = |expr: &Expr| Some(dialect.ordered(&self.expr(expr)?, &data_type));
                Some(format!("({} {sign} {})", text(left)?, text(right)?))
            }
            Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive: false }) if self.has_letters() => {
                let Expr::Literal(pattern, _) = pattern.as_ref() else { return None };
                let not = if *negated { "NOT " } else { "" };
                // A text with a backslash is none of the literals.
                Some(format!("({} {not}LIKE {})", self.expr(expr)?, dialect.literal(pattern).filter(|_| is_text(&pattern.data_type()))?))
            }
            Expr::Case(Case { expr: None, when_then_expr, else_expr }) if !matches!(dialect, Dialect::Sqlite { .. }) => {
                // Whatever the parts are there, together they have the type that they have here.
                let data_type = self.type_of(expr)?;
                let mut text = "CASE".to_owned();
                for (when, then) in when_then_expr {
                    text.push_str(&format!(" WHEN {} THEN {}", self.expr(when)?, self.expr(then)?));
                }
                if let Some(other) = else_expr {
                    text.push_str(&format!(" ELSE {}", self.expr(other)?));
                }
                dialect.cast(&format!("{text} END"), &data_type)
            }
            Expr::Cast(cast) => {
                let (from, to) = (self.type_of(&cast.expr)?, cast.field.data_type());
                (!matches!(dialect, Dialect::Sqlite { .. }) && is_wider(&from, to)).then_some(())?;
                dialect.cast(&self.expr(&cast.expr)?, to)
            }
            Expr::ScalarFunction(function) => self.function_of_database(function),
            _ => None,
        }
    }

    /// Whether a sum, a difference or a product is the same there.
    fn is_computed_alike(&self, op: Operator, expr: &Expr, left: &Expr, right: &Expr) -> bool {
        let (Some(result), Some(left), Some(right)) = (self.type_of(expr), self.type_of(left), self.type_of(right)) else { return false };
        let is_one = left == right && left == result;
        let is_mysql = self.select.dialect == Dialect::MySql;
        match result {
            // SQLite makes a number of floating point of what is too large.
            _ if !is_mysql && !self.is_postgres() => false,
            // Here it has all digits behind the point, or is an error.
            DataType::Decimal128(_, scale) => match (op, &left, &right) {
                (Operator::Multiply, DataType::Decimal128(_, left), DataType::Decimal128(_, right)) => {
                    left + right == scale && (!is_mysql || scale <= MYSQL_SCALE)
                }
                (_, DataType::Decimal128(_, left), DataType::Decimal128(_, right)) => *left.max(right) == scale,
                _ => false,
            },
            // MySQL has one type for all, which doesn't wrap around where a smaller one does.
            DataType::Int16 | DataType::Int32 => is_one && !is_mysql,
            DataType::Int64 => is_one,
            DataType::Float64 => is_one && !is_mysql,
            _ => false,
        }
    }

    fn function_of_database(&self, function: &ScalarFunction) -> Option<String> {
        let dialect = self.select.dialect;
        match (function.name(), function.args.as_slice()) {
            ("date_part", [Expr::Literal(part, _), date]) if self.is_postgres() => {
                let part = part.try_as_str()??.to_ascii_uppercase();
                let is_date = matches!(self.type_of(date)?, DataType::Date32 | DataType::Timestamp(_, None));
                (is_date && ["YEAR", "MONTH", "DAY"].contains(&part.as_str())).then_some(())?;
                let number = format!("EXTRACT({part} FROM {})", self.expr(date)?);
                // The year before the first is 0 here, and -1 there.
                let number = if part == "YEAR" { format!("{number} + CASE WHEN {number} < 0 THEN 1 ELSE 0 END") } else { number };
                dialect.cast(&number, &DataType::Int32)
            }
            ("substr", [text, Expr::Literal(ScalarValue::Int64(Some(from)), _), Expr::Literal(ScalarValue::Int64(Some(count)), _)])
                if self.has_letters()
                    && i32::try_from(*from).is_ok_and(|from| from > 0)
                    && i32::try_from(*count).is_ok_and(|count| count >= 0) =>
            {
                Some(format!("substr({}, {from}, {count})", self.expr(text)?))
            }
            _ => None,
        }
    }

    /// A function of a group of rows; `expr` is the whole of it.
    pub(super) fn aggregate_of_database(&self, function: &AggregateFunction, expr: &Expr) -> Option<String> {
        let AggregateFunction { func, params: AggregateFunctionParams { args, distinct, filter, .. } } = function;
        let (dialect, result) = (self.select.dialect, self.type_of(expr)?);
        if filter.is_some() && dialect == Dialect::MySql {
            return None;
        }
        let filter = self.among(filter.as_deref())?;
        if let ("count", [Expr::Literal(value, _)], false) = (func.name(), args.as_slice(), distinct) {
            return (!value.is_null()).then(|| format!("count(*){filter}"));
        }
        let is_sure = dialect.is_sure();
        let types = args.iter().map(|arg| self.type_of(arg)).collect::<Option<Vec<_>>>()?;
        let texts = self.exprs(args)?;
        let (data_type, text) = (types.first()?, texts.first()?);
        let is_bool = matches!(data_type, DataType::Boolean);
        let is_float = matches!(data_type, DataType::Float64);
        let text = match (func.name(), types.len()) {
            ("count", 1) if *distinct => dialect.is_equal_alike(data_type).then(|| format!("count(DISTINCT {text}){filter}"))?,
            ("count", 1) => format!("count({text}){filter}"),
            // NULL where a group is empty would be 0 there.
            (_, _) if *distinct && !matches!(func.name(), "min" | "max") => return None,
            ("min" | "max", 1) if is_sure && dialect.is_ordered_alike(data_type) && !is_bool => {
                format!("{}({}){filter}", func.name(), dialect.ordered(text, data_type))
            }
            ("sum", 1) if is_sure && is_float => format!("sum({text}){filter}"),
            ("sum", 1) if is_sure && (data_type.is_integer() || matches!(data_type, DataType::Decimal128(..))) => {
                format!("sum({text}){filter}")
            }
            ("avg", 1) if is_sure && is_float => format!("avg({text}){filter}"),
            ("avg", 1) if self.is_postgres() => match (data_type, &result) {
                // The digits behind those that it has here are cut off, not rounded.
                (DataType::Decimal128(..), DataType::Decimal128(_, scale)) if *scale > 0 => {
                    let zeros = "0".repeat(usize::try_from(*scale).ok()?);
                    let unit = format!("0.{}1", &zeros[1..]);
                    format!("(div(sum({text}){filter} * 1{zeros}, count({text}){filter}) * {unit})")
                }
                _ => return None,
            },
            ("bool_and" | "bool_or", 1) if self.is_postgres() => format!("{}({text}){filter}", func.name()),
            ("bit_and" | "bit_or", 1) if self.is_postgres() && data_type.is_integer() => format!("{}({text}){filter}", func.name()),
            ("var" | "var_pop" | "stddev" | "stddev_pop", 1) if is_float && !matches!(dialect, Dialect::Sqlite { .. }) => {
                let name = match func.name() {
                    "var" => "var_samp",
                    "stddev" => "stddev_samp",
                    name => name,
                };
                format!("{name}({text}){filter}")
            }
            ("covar_pop" | "covar_samp", 2) if is_float && types[1] == *data_type && self.is_postgres() => {
                format!("{}({text}, {}){filter}", func.name(), texts[1])
            }
            _ => return None,
        };
        Some(text)
    }
}

/// Whether a type has a place for all values of another.
fn is_wider(from: &DataType, to: &DataType) -> bool {
    let digits = |of: &DataType| match of {
        DataType::Int8 | DataType::UInt8 => Some(3),
        DataType::Int16 | DataType::UInt16 => Some(5),
        DataType::Int32 | DataType::UInt32 => Some(10),
        DataType::Int64 => Some(19),
        _ => None,
    };
    match (from, to) {
        (from, to) if from.is_integer() && to.is_integer() => {
            from.is_signed_integer() && to.is_signed_integer() && digits(from).zip(digits(to)).is_some_and(|(from, to)| from <= to)
        }
        (from, DataType::Float64) => *from == DataType::Float32 || from.is_signed_integer(),
        (DataType::Decimal128(of, scale), DataType::Decimal128(to, wider)) => {
            wider >= scale && i16::from(*to) - i16::from(*wider) >= i16::from(*of) - i16::from(*scale)
        }
        (from, DataType::Decimal128(precision, scale)) => {
            digits(from).is_some_and(|digits| i16::from(*precision) - i16::from(*scale) >= digits) && *scale >= 0
        }
        _ => false,
    }
}

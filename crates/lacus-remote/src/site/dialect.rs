//! What servers of a kind compute as this engine does, and how they are told to.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::ScalarValue;

use super::words::{is_text, literal, typed};

/// The kind of a server: which words it knows, and which of them mean there what they mean here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A Lacus of this version: all that depends on the row alone.
    Lacus,
    /// Any other server of SQL, which puts names in `quote`: what means the same everywhere.
    Standard {
        /// What names are put in.
        quote: char,
    },
    /// PostgreSQL.
    Postgres {
        /// Whether the bytes of its texts are in the order of their letters.
        is_utf8: bool,
    },
    /// MySQL and MariaDB. Texts are brought as bytes: their own order and equality depend on collations.
    MySql,
    /// SQLite, where any column may hold values of any type unless the table is `STRICT`.
    Sqlite {
        /// Whether columns hold values of their types alone.
        is_strict: bool,
    },
}

/// The most digits behind the point that MySQL has.
pub(super) const MYSQL_SCALE: i8 = 30;
/// What stands around the column of a text that MySQL compares by its bytes.
const BYTES: (&str, &str) = ("CAST(CONVERT(", " USING utf8mb4) AS BINARY)");

impl Dialect {
    /// What names are put in.
    pub fn quote(self) -> char {
        match self {
            Self::Standard { quote } => quote,
            Self::MySql => '`',
            Self::Lacus | Self::Postgres { .. } | Self::Sqlite { .. } => '"',
        }
    }

    /// A name.
    pub fn quoted(self, name: &str) -> String {
        let quote = self.quote();
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    /// Whether it computes as this engine does.
    pub fn is_own(self) -> bool {
        self == Self::Lacus
    }

    /// Whether it is a database, whose dialect is known.
    pub fn is_database(self) -> bool {
        matches!(self, Self::Postgres { .. } | Self::MySql | Self::Sqlite { .. })
    }

    /// Whether columns hold values of their types alone. Where they may hold others, these would be told apart from numbers, counted and summed there,
    /// and are errors here.
    pub(super) fn is_sure(self) -> bool {
        self != Self::Sqlite { is_strict: false }
    }

    /// The column of a text as MySQL compares it by its bytes.
    pub fn mysql_text(column: &str) -> String {
        format!("{}{column}{}", BYTES.0, BYTES.1)
    }

    /// As [`Dialect::mysql_text`], of what is stored as no text, which comparing with one would take for another.
    pub fn mysql_other_text(column: &str) -> String {
        format!("({})", Self::mysql_text(column))
    }

    /// Whether it takes values of a type for equal as this engine does, so that they can be keys.
    pub(super) fn is_equal_alike(self, data_type: &DataType) -> bool {
        let is_exact = is_plain(data_type) || is_text(data_type);
        match self {
            Self::Lacus => true,
            Self::Standard { .. } => is_exact,
            Self::Postgres { .. } | Self::MySql => is_exact || is_instant(data_type),
            // Other types are stored as one of these in a way of their own.
            Self::Sqlite { .. } => data_type.is_integer() || is_text(data_type),
        }
    }

    /// Whether it orders values of a type as this engine does.
    pub(super) fn is_ordered_alike(self, data_type: &DataType) -> bool {
        match self {
            Self::Lacus => true,
            Self::Standard { .. } => is_plain(data_type),
            Self::Postgres { is_utf8 } => {
                is_plain(data_type) || is_instant(data_type) || is_float(data_type) || is_utf8 && is_text(data_type)
            }
            Self::MySql => is_plain(data_type) || is_instant(data_type) || is_float(data_type) || is_text(data_type),
            // Where a column may hold anything, a text is greater than any number.
            Self::Sqlite { .. } => self.is_sure() && (data_type.is_integer() || is_float(data_type) || is_text(data_type)),
        }
    }

    /// Whether the first rows by values of a type are the first here, too.
    pub(super) fn is_sorted_alike(self, data_type: &DataType) -> bool {
        // Zero has two signs here, of which one is less than the other.
        self.is_ordered_alike(data_type) && (self.is_own() || !data_type.is_floating())
    }

    /// An expression in the order of this engine.
    pub(super) fn ordered(self, text: &str, data_type: &DataType) -> String {
        match self {
            Self::Postgres { .. } if is_text(data_type) => format!("({text} COLLATE \"C\")"),
            _ => text.to_owned(),
        }
    }

    /// The key of an order.
    pub(super) fn key(self, text: &str, data_type: &DataType, is_ascending: bool, nulls_first: bool) -> String {
        let (text, direction) = (self.ordered(text, data_type), if is_ascending { "ASC" } else { "DESC" });
        match self {
            // It has no words for where NULL stands.
            Self::MySql => format!("({text} IS NULL) {}, {text} {direction}", if nulls_first { "DESC" } else { "ASC" }),
            _ => format!("{text} {direction} NULLS {}", if nulls_first { "FIRST" } else { "LAST" }),
        }
    }

    /// What a column is compared with, which `sign` stands before, if comparing means the same.
    pub(super) fn compared(self, column: &str, data_type: &DataType, sign: &str, value: &ScalarValue, is_order: bool) -> Option<String> {
        // What is no number is not equal to any, and would not be left out here.
        if !self.is_sure() && sign != "=" {
            return None;
        }
        let value_text = self.value(data_type, value, is_order)?;
        let plain = format!("{column} {sign} {value_text}");
        if !self.has_bytes(column) || is_order {
            return Some(plain);
        }
        Some(if sign == "=" { self.also_by_index(column, &plain, &format!("= {value_text}")) } else { plain })
    }

    /// That a column has one of some values.
    pub(super) fn one_of(self, column: &str, values: &[String]) -> String {
        let list = format!("IN ({})", values.join(", "));
        let plain = format!("{column} {list}");
        if self.has_bytes(column) { self.also_by_index(column, &plain, &list) } else { plain }
    }

    fn has_bytes(self, column: &str) -> bool {
        self == Self::MySql && column.starts_with(BYTES.0) && column.ends_with(BYTES.1)
    }

    /// A condition by bytes, and before it the one by the collation of the column, which has an index and leaves no more out: what has the same bytes
    /// is the same in any collation.
    fn also_by_index(self, column: &str, plain: &str, condition: &str) -> String {
        let bare = column.strip_prefix(BYTES.0).and_then(|rest| rest.strip_suffix(BYTES.1));
        match bare.filter(|bare| !bare.contains('(') && condition.is_ascii()) {
            Some(bare) => format!("({bare} {condition} AND {plain})"),
            None => plain.to_owned(),
        }
    }

    /// A value that a column of a type is compared with, if comparing means the same.
    pub(super) fn value(self, data_type: &DataType, value: &ScalarValue, is_order: bool) -> Option<String> {
        let is_same = *data_type == value.data_type() || is_text(data_type) && is_text(&value.data_type());
        if !is_same || value.is_null() && !self.is_own() {
            return None;
        }
        match self {
            Self::Lacus => literal(value).or_else(|| if value.is_null() { None } else { typed(value) }),
            Self::Standard { .. } => (!is_order || !is_text(data_type)).then(|| literal(value)).flatten(),
            Self::Postgres { is_utf8 } if is_text(data_type) && is_order => {
                is_utf8.then(|| Some(format!("{} COLLATE \"C\"", literal(value)?))).flatten()
            }
            Self::Sqlite { .. } if !(data_type.is_integer() || is_text(data_type) || is_float(data_type)) => None,
            _ => self.literal(value),
        }
    }

    /// A value of a database.
    pub(super) fn literal(self, value: &ScalarValue) -> Option<String> {
        // Zero has two signs here and one there.
        let is_usual = |number: f64| number.is_finite() && number != 0.0;
        match (self, value) {
            (Self::Postgres { .. }, ScalarValue::Float64(Some(number))) if is_usual(*number) => {
                Some(format!("CAST('{number:?}' AS double precision)"))
            }
            (Self::Postgres { .. }, ScalarValue::Float32(Some(number))) if is_usual((*number).into()) => {
                Some(format!("CAST('{number:?}' AS real)"))
            }
            (Self::MySql | Self::Sqlite { .. }, ScalarValue::Float64(Some(number))) if is_usual(*number) => Some(format!("({number:e})")),
            (Self::Postgres { .. } | Self::MySql, ScalarValue::TimestampMicrosecond(Some(micros), zone)) => {
                let text = literal(&ScalarValue::TimestampMicrosecond(Some(*micros), None))?;
                let text = text.strip_suffix("000'")?.strip_prefix("TIMESTAMP '")?.to_owned();
                Some(match (self, zone) {
                    (Self::Postgres { .. }, Some(_)) => format!("TIMESTAMP WITH TIME ZONE '{text}+00'"),
                    // Its session is in UTC.
                    _ => format!("TIMESTAMP '{text}'"),
                })
            }
            // It has no more digits behind the point.
            (Self::MySql, ScalarValue::Decimal128(_, _, scale)) if *scale > MYSQL_SCALE => None,
            (_, value) => literal(value),
        }
    }

    /// The type as it is named there in a cast; `None` if it has none that holds the same values.
    pub fn type_name(self, data_type: &DataType) -> Option<String> {
        let name = match self {
            Self::Postgres { .. } => match data_type {
                DataType::Boolean => "boolean",
                DataType::Int16 => "smallint",
                DataType::Int32 => "integer",
                DataType::Int64 => "bigint",
                DataType::Float32 => "real",
                DataType::Float64 => "double precision",
                DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text",
                DataType::Binary => "bytea",
                DataType::Date32 => "date",
                DataType::Time64(TimeUnit::Microsecond) => "time",
                DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp with time zone",
                DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano) => "interval",
                // With a scale it would round what has more digits.
                DataType::Decimal128(..) => "numeric",
                DataType::List(item) if !item.data_type().is_nested() => return Some(format!("{}[]", self.type_name(item.data_type())?)),
                _ => return None,
            },
            Self::MySql => match data_type {
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => "SIGNED",
                DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => "UNSIGNED",
                DataType::Float64 => "DOUBLE",
                DataType::Date32 => "DATE",
                DataType::Timestamp(TimeUnit::Microsecond, _) => "DATETIME(6)",
                DataType::Decimal128(precision, scale) if (0..=MYSQL_SCALE).contains(scale) => {
                    return Some(format!("DECIMAL({precision}, {scale})"));
                }
                _ => return None,
            },
            Self::Sqlite { .. } => match data_type {
                DataType::Int64 => "INTEGER",
                DataType::Float64 => "REAL",
                _ => return None,
            },
            Self::Lacus | Self::Standard { .. } => return None,
        };
        Some(name.to_owned())
    }

    /// An expression as a value of a type.
    pub(super) fn cast(self, text: &str, data_type: &DataType) -> Option<String> {
        Some(format!("CAST({text} AS {})", self.type_name(data_type)?))
    }

    /// A column of an answer, as whoever reads the answer takes it to be.
    pub(super) fn answered(self, text: &str, data_type: &DataType) -> String {
        match self {
            // The bytes of an answer say nothing of their type.
            Self::Postgres { .. } => self.cast(text, data_type).unwrap_or_else(|| text.to_owned()),
            _ => text.to_owned(),
        }
    }
}

/// Values of which there is one way to be equal, and one order.
fn is_plain(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(data_type, DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, None) | DataType::Decimal128(..))
}

/// A time with a zone: the same instant everywhere, however it is written.
fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

//! Dates of a calendar as text, and where a call says which units and calendar its numbers are in.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Expr, ExprSchemable, ScalarUDF, ScalarUDFImpl, lit};
use lacus_array::{CALENDAR_KEY, Calendar, TimeUnit, iso_text};
use lacus_core::{Error, Kind, Result, unit_of};

use crate::arguments::{Texts, is_text};

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// The units of a call, in which its numbers are times.
pub(crate) enum Units {
    /// The same for all rows; `None` when units or calendar are NULL.
    Same(Option<TimeUnit>),
    /// Units and calendar of each row.
    Rows(Box<(Texts, Texts)>),
}

impl Units {
    /// From the arguments for units and calendar, or from the field of the column when the call has none.
    ///
    /// # Errors
    /// `InvalidQuery` for what is no unit of time, no calendar, or no column of times.
    pub(crate) fn of(function: &str, column: &Field, written: &[ColumnarValue]) -> DataFusionResult<Self> {
        let [units, calendar] = written else { return Ok(Self::Same(Some(unit_of_column(function, column)?))) };
        Ok(match (Texts::of(units)?, Texts::of(calendar)?) {
            (Texts::Same(units), Texts::Same(calendar)) => {
                Self::Same(units.zip(calendar).map(|(units, calendar)| unit(&units, &calendar)).transpose()?)
            }
            texts => Self::Rows(Box::new(texts)),
        })
    }

    /// Those of a row; `None` where units or calendar are NULL.
    pub(crate) fn at(&self, row: usize) -> Result<Option<TimeUnit>> {
        match self {
            Self::Same(unit) => Ok(*unit),
            Self::Rows(texts) => texts.0.at(row).zip(texts.1.at(row)).map(|(units, calendar)| unit(units, calendar)).transpose(),
        }
    }
}

/// The units that are known when a query is planned, after all arguments but the first were looked at: `None` when a row decides.
///
/// # Errors
/// `InvalidQuery`, as [`Units::of`].
pub(crate) fn planned_unit(
    function: &str,
    column: &Field,
    written: &[FieldRef],
    values: &[Option<&ScalarValue>],
) -> Result<Option<TimeUnit>> {
    if written.is_empty() {
        return unit_of_column(function, column).map(Some);
    }
    if let Some(other) = written.iter().find(|field| !is_text(field.data_type())) {
        let message = format!("`{function}` takes units and calendar as text, but one of them is a {}", other.data_type());
        return Err(Error::new(Kind::InvalidQuery, message).hint(written_out(function)));
    }
    let texts: Vec<&str> = values.iter().filter_map(|value| value.and_then(|value| value.try_as_str().flatten())).collect();
    match texts.as_slice() {
        [units, calendar] => unit(units, calendar).map(Some),
        _ => Ok(None),
    }
}

/// A call of `short` arguments, of which the last is a column, as one that says the units of that column itself, so that it depends on no
/// metadata any more: what is computed between a table and the call may drop that. As it is when the column has no units.
pub(crate) fn with_units(
    function: impl ScalarUDFImpl + 'static,
    short: usize,
    args: Vec<Expr>,
    info: &SimplifyContext,
) -> ExprSimplifyResult {
    match args.as_slice() {
        [first, ..] if args.len() == short => match units_of_expression(&args[short - 1], info.schema()) {
            Some([units, calendar]) => ExprSimplifyResult::Simplified(ScalarUDF::from(function).call(vec![first.clone(), units, calendar])),
            None => ExprSimplifyResult::Original(args),
        },
        _ => ExprSimplifyResult::Original(args),
    }
}

/// The units and the calendar of an expression's numbers; `None` when it has no units.
fn units_of_expression(column: &Expr, schema: &DFSchema) -> Option<[Expr; 2]> {
    let (_, field) = column.to_field(schema).ok()?;
    let units = unit_of(&field).filter(|_| field.data_type().is_numeric())?;
    Some([lit(units), lit(calendar_of(&field))])
}

fn calendar_of(field: &Field) -> &str {
    field.metadata().get(CALENDAR_KEY).map_or("", String::as_str)
}

fn unit_of_column(function: &str, field: &Field) -> Result<TimeUnit> {
    let invalid = |message: String| Error::new(Kind::InvalidQuery, message);
    let name = field.name();
    match field.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let message = format!("`{name}` is a timestamp already, and no number in units of a calendar");
            Err(invalid(message).hint(format!("compare it with a timestamp or a text: {name} >= '2000-01-31'")))
        }
        data_type if data_type.is_numeric() => match unit_of(field) {
            Some(units) => unit(units, calendar_of(field)).map_err(|error| error.with("column", name)),
            None => Err(invalid(format!("`{name}` has no units in its metadata")).hint(written_out(function))),
        },
        other => Err(invalid(format!("`{function}` needs a column of numbers, but `{name}` is a {other}")).hint(written_out(function))),
    }
}

fn written_out(function: &str) -> String {
    let first = if function == "cf_time" { "'2000-01-30'" } else { "number" };
    format!("say them: {function}({first}, 'days since 2000-01-01', '360_day')")
}

/// Units and calendar, read.
///
/// # Errors
/// `InvalidQuery` for a calendar that is none, and for what is no unit of fixed length since a date of the calendar.
pub(crate) fn unit(units: &str, calendar: &str) -> Result<TimeUnit> {
    let Some(known) = Calendar::named(calendar) else {
        let error = Error::new(Kind::InvalidQuery, format!("there is no calendar `{calendar}`"));
        return Err(error.hint("the calendars are standard, proleptic_gregorian, julian, noleap, all_leap, 360_day"));
    };
    TimeUnit::parse(units, known.name()).ok_or_else(|| {
        Error::new(Kind::InvalidQuery, format!("`{units}` is no unit of time since a date of the calendar `{}`", known.name()))
            .hint("units are written as `days since 2000-01-01`: weeks, days, hours, minutes, seconds or less; months and years have no fixed length")
    })
}

/// The number of a date and time.
///
/// # Errors
/// `InvalidQuery` for what is no date of the calendar.
pub(crate) fn number_of(text: &str, unit: &TimeUnit) -> Result<f64> {
    let calendar = unit.calendar;
    // A date is written like the epoch of units.
    let parsed = TimeUnit::parse(&format!("microseconds since {text}"), calendar.name());
    parsed.and_then(|parsed| parsed.date(0.0)).and_then(|(date, time)| unit.value(date, time)).ok_or_else(|| {
        Error::new(Kind::InvalidQuery, format!("`{text}` is no date of the calendar `{}`", calendar.name()))
            .hint(format!("{}; a date is written as 2000-01-30 or 2000-01-30T12:00:00", peculiarity(calendar)))
    })
}

fn peculiarity(calendar: Calendar) -> &'static str {
    match calendar {
        Calendar::Standard => "it has leap years, and no 5 to 14 October 1582",
        Calendar::ProlepticGregorian => "it has the leap years of the Gregorian calendar",
        Calendar::Julian => "each fourth year is a leap year",
        Calendar::NoLeap => "it has no 29 February",
        Calendar::AllLeap => "each year has a 29 February",
        Calendar::Day360 => "each month has 30 days",
    }
}

/// The text of a number; `None` for what is not finite.
///
/// # Errors
/// `InvalidQuery` for a number beyond all dates.
pub(crate) fn text_of(value: f64, unit: &TimeUnit) -> Result<Option<String>> {
    if !value.is_finite() {
        return Ok(None);
    }
    match unit.date(value) {
        Some((date, time)) => Ok(Some(iso_text(date, time))),
        None => {
            Err(Error::new(Kind::InvalidQuery, format!("the time {value} is beyond all dates of the calendar `{}`", unit.calendar.name()))
                .hint("a fill value that the file does not declare looks like this: nullif(number, value) makes it NULL"))
        }
    }
}

/// The text of a timestamp in microseconds since 1970.
pub(crate) fn text_of_timestamp(microseconds: i64) -> String {
    let date = Calendar::ProlepticGregorian.date(microseconds.div_euclid(DAY));
    iso_text(date, microseconds.rem_euclid(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_each_others_inverse() -> Result<()> {
        for (units, calendar, text, number) in [
            ("days since 2000-01-01", "360_day", "2000-02-30T12:00:00", 59.5),
            ("days since 2000-01-01", "noleap", "2001-03-01T00:00:00", 424.0),
            ("hours since 2000-01-01", "all_leap", "2001-02-29T01:00:00", (366.0 + 59.0) * 24.0 + 1.0),
            ("days since 1582-10-04", "standard", "1582-10-15T00:00:00", 1.0),
            ("seconds since 1970-01-01", "", "1969-12-31T23:59:59.500000", -0.5),
            ("days since 0000-01-01", "360_day", "-0001-12-30T00:00:00", -1.0),
            ("days since 9999-12-31", "proleptic_gregorian", "10000-01-01T00:00:00", 1.0),
        ] {
            let unit = unit(units, calendar)?;
            assert_eq!(number_of(text, &unit)?, number, "{text}");
            assert_eq!(text_of(number, &unit)?.as_deref(), Some(text));
        }
        Ok(())
    }

    #[test]
    fn dates_are_read_as_people_write_them() -> Result<()> {
        let unit = unit("hours since 2000-01-01", "360_day")?;
        for text in ["2000-02-30", "2000-02-30 00:00", "2000-02-30T00:00:00Z", "2000-02-30T02:00+02:00", "2000-2-30"] {
            assert_eq!(number_of(text, &unit)?, 59.0 * 24.0, "{text}");
        }
        for text in ["", "yesterday", "2000-02-31", "2000-13-01", "2000-02-30T25:00", "2000-02-30 or so", "30.2.2000"] {
            assert!(number_of(text, &unit).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn errors_name_text_calendar_and_remedy() -> Result<()> {
        let noleap = unit("days since 2000-01-01", "365_day")?;
        let message = |result: Result<f64>| result.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            message(number_of("2001-02-29", &noleap)),
            "`2001-02-29` is no date of the calendar `noleap`; it has no 29 February; a date is written as 2000-01-30 or 2000-01-30T12:00:00"
        );
        assert!(message(unit("days since 2000-01-01", "mayan").map(|_| 0.0)).contains("there is no calendar `mayan`"));
        assert!(message(unit("months since 2000-01-01", "").map(|_| 0.0)).contains("months and years have no fixed length"));
        assert!(text_of(1e300, &noleap).is_err());
        assert_eq!(text_of(f64::NAN, &noleap)?, None);
        Ok(())
    }
}

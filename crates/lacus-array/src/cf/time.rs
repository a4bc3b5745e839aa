//! Time as the CF conventions write it: numbers, a unit, an epoch and a calendar.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use lacus_core::Result;

use super::calendar::{Calendar, Date, civil_days};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// `<unit> since <epoch>` in a calendar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeUnit {
    /// Microseconds of one unit; of nanoseconds a thousandth.
    pub microseconds: f64,
    /// The day number of the epoch in the calendar.
    day: i64,
    /// Microseconds from the beginning of that day to the epoch, in UTC; negative when a zone moves it to the day before.
    time: i64,
    /// The calendar.
    pub calendar: Calendar,
}

impl TimeUnit {
    /// Reads the attributes `units` and `calendar`. `None` for what is no time, and for units of no fixed length: months and years.
    pub fn parse(units: &str, calendar: &str) -> Option<Self> {
        let calendar = Calendar::named(calendar)?;
        let words: Vec<&str> = units.split_whitespace().collect();
        let since = words.iter().position(|word| word.eq_ignore_ascii_case("since"))?;
        let [unit] = &words[..since] else { return None };
        let (day, time) = epoch(&words[since + 1..].join(" "), calendar)?;
        Some(Self { microseconds: unit_length(unit)?, day, time, calendar })
    }

    /// Whether the calendar's dates can be timestamps.
    pub fn fits_timestamp(&self) -> bool {
        self.calendar.fits_timestamp()
    }

    /// The timestamp of a value: microseconds since 1970 of the date and time that the calendar gives, rounded. `None` when it is no
    /// number, beyond what a timestamp can hold, or a date that the Gregorian calendar does not have.
    pub fn timestamp(&self, value: f64) -> Option<i64> {
        let (days, rest) = self.split(value)?;
        civil_days(self.calendar.date(days))?.checked_mul(DAY)?.checked_add(rest)
    }

    /// As [`TimeUnit::timestamp`], for values that are stored as whole numbers: exact.
    pub fn timestamp_of_integer(&self, value: i64) -> Option<i64> {
        let elapsed = if self.microseconds < 1.0 {
            i128::from(value).div_euclid((1.0 / self.microseconds).round() as i128)
        } else {
            i128::from(value) * self.microseconds as i128
        };
        let (days, rest) = self.days_of(elapsed)?;
        civil_days(self.calendar.date(days))?.checked_mul(DAY)?.checked_add(rest)
    }

    /// The date and the microseconds of the day of a value.
    pub fn date(&self, value: f64) -> Option<(Date, i64)> {
        let (days, rest) = self.split(value)?;
        Some((self.calendar.date(days), rest))
    }

    /// The value of a date and microseconds of its day; `None` when the calendar has no such date.
    pub fn value(&self, date: Date, microseconds: i64) -> Option<f64> {
        let days = self.calendar.day_number(date)? - self.day;
        Some((days as f64 * DAY as f64 + (microseconds - self.time) as f64) / self.microseconds)
    }

    /// Microseconds from the epoch to a timestamp; `None` when the calendar has no such date.
    pub(crate) fn elapsed(&self, timestamp: i64) -> Option<i128> {
        let date = Calendar::ProlepticGregorian.date(timestamp.div_euclid(DAY));
        let days = self.calendar.day_number(date)? - self.day;
        Some(i128::from(days) * i128::from(DAY) + i128::from(timestamp.rem_euclid(DAY) - self.time))
    }

    /// Day number and microseconds of the day. The whole part and the fraction are scaled apart, so that no digit is lost.
    fn split(&self, value: f64) -> Option<(i64, i64)> {
        // Beyond this, whole units times their length leave the range of a timestamp many times over.
        if !value.is_finite() || value.abs() > 1e18 {
            return None;
        }
        let (whole, fraction) = (value.trunc(), value.fract());
        let whole = if self.microseconds < 1.0 {
            (whole * self.microseconds).round() as i128
        } else {
            (whole as i128) * (self.microseconds as i128)
        };
        self.days_of(whole + (fraction * self.microseconds).round() as i128)
    }

    fn days_of(&self, elapsed: i128) -> Option<(i64, i64)> {
        let total = elapsed + i128::from(self.time);
        let days = i64::try_from(total.div_euclid(i128::from(DAY))).ok()?;
        let rest = total.rem_euclid(i128::from(DAY)) as i64;
        Some((self.day.checked_add(days).filter(|day| day.abs() < 1 << 40)?, rest))
    }
}

/// Microseconds of a unit of fixed length.
fn unit_length(unit: &str) -> Option<f64> {
    let length = match unit.to_ascii_lowercase().as_str() {
        "nanosecond" | "nanoseconds" | "nanosec" | "nanosecs" | "nsec" | "nsecs" | "ns" => 1e-3,
        "microsecond" | "microseconds" | "microsec" | "microsecs" | "us" => 1.0,
        "millisecond" | "milliseconds" | "millisec" | "millisecs" | "msec" | "msecs" | "ms" => 1e3,
        "second" | "seconds" | "sec" | "secs" | "s" => SECOND as f64,
        "minute" | "minutes" | "min" | "mins" => 60.0 * SECOND as f64,
        "hour" | "hours" | "hr" | "hrs" | "h" => 3600.0 * SECOND as f64,
        "day" | "days" | "d" => DAY as f64,
        "week" | "weeks" => 7.0 * DAY as f64,
        _ => return None,
    };
    Some(length)
}

/// The epoch `YYYY-MM-DD[T ][hh[:mm[:ss[.f]]]][ zone]` as day number and microseconds of the day in UTC.
fn epoch(text: &str, calendar: Calendar) -> Option<(i64, i64)> {
    let text = text.trim();
    let after_date = text.char_indices().skip(1).find(|(_, next)| ['T', 't', ' '].contains(next)).map_or(text.len(), |(place, _)| place);
    let (date, rest) = text.split_at(after_date);
    let date = parse_date(date)?;
    let rest = rest.trim_start_matches(['T', 't', ' ']).trim();
    let zone_at = rest
        .char_indices()
        .find(|(place, next)| next.is_ascii_alphabetic() || ['+', ' '].contains(next) || (*next == '-' && *place > 0))
        .map_or(rest.len(), |(place, _)| place);
    let (clock, zone) = rest.split_at(zone_at);
    let time = parse_clock(clock)?.checked_sub(parse_zone(zone.trim())?)?;
    Some((calendar.day_number(date)?, time))
}

/// A date and the microseconds of its day as ISO 8601 writes them: `2000-02-30T12:00:00`, with microseconds only where there are any.
pub fn iso_text(date: Date, microseconds: i64) -> String {
    let (seconds, fraction) = (microseconds.div_euclid(SECOND), microseconds.rem_euclid(SECOND));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let sign = if date.year < 0 { "-" } else { "" };
    let whole = format!("{sign}{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}", date.year.abs(), date.month, date.day);
    if fraction == 0 { whole } else { format!("{whole}.{fraction:06}") }
}

/// The texts of times: of timestamps, or of numbers that `unit` makes times of. `None` for what is neither.
///
/// # Errors
/// When numbers have no place among 64-bit floats.
pub(crate) fn time_texts(values: &ArrayRef, unit: Option<&TimeUnit>) -> Result<Option<ArrayRef>> {
    let text = |place: Option<(Date, i64)>| place.map(|(date, time)| iso_text(date, time));
    if let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() {
        let of = |time: i64| (Calendar::ProlepticGregorian.date(time.div_euclid(DAY)), time.rem_euclid(DAY));
        return Ok(Some(Arc::new(times.iter().map(|time| text(time.map(of))).collect::<StringArray>())));
    }
    let Some(unit) = unit else { return Ok(None) };
    let numbers = cast(values, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>().iter();
    Ok(Some(Arc::new(numbers.map(|number| text(number.and_then(|number| unit.date(number)))).collect::<StringArray>())))
}

/// A date of which month and day may be missing or of one digit.
fn parse_date(text: &str) -> Option<Date> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = digits.split(['-', '/']).collect();
    let (year, month, day) = match parts.as_slice() {
        [year] if year.len() == 8 => (year.get(..4)?, year.get(4..6)?, year.get(6..)?),
        [year] => (*year, "1", "1"),
        [year, month] => (*year, *month, "1"),
        [year, month, day] => (*year, *month, *day),
        _ => return None,
    };
    let year: i64 = year.parse().ok().filter(|year: &i64| (0..1_000_000).contains(year))?;
    Some(Date { year: sign * year, month: month.parse().ok()?, day: day.parse().ok()? })
}

/// Microseconds of `hh[:mm[:ss[.f]]]`.
fn parse_clock(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let mut parts = text.split(':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next().map_or(Ok(0), str::parse).ok()?;
    let seconds: f64 = parts.next().map_or(Ok(0.0), str::parse).ok()?;
    let fits = (0.0..=24.0).contains(&hours) && (0..60).contains(&minutes) && (0.0..61.0).contains(&seconds) && parts.next().is_none();
    fits.then(|| (hours * 3600.0 * SECOND as f64).round() as i64 + minutes * 60 * SECOND + (seconds * SECOND as f64).round() as i64)
}

/// Microseconds that a zone is ahead of UTC: `Z`, `UTC`, `+01:00`, `-5`, `0:00`, `+0100`.
fn parse_zone(text: &str) -> Option<i64> {
    let text = text.trim_start_matches("UTC").trim_start_matches("GMT").trim();
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    // Some writers add seconds, which no zone has.
    let minutes = minutes.split(':').next()?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=18).contains(&hours) && (0..60).contains(&minutes)).then(|| sign * (hours * 60 + minutes) * 60 * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(units: &str, calendar: &str, value: f64) -> Option<i64> {
        TimeUnit::parse(units, calendar)?.timestamp(value)
    }

    #[test]
    fn epochs_are_read_as_people_write_them() {
        for units in [
            "seconds since 1970-01-01",
            "seconds since 1970-1-1",
            "seconds since 1970-01-01T00:00:00Z",
            "s since 1970-01-01 00:00:00.0",
            "seconds since 1970-01-01 00:00:00 UTC",
            "seconds since 1970-01-01 00:00:00 +0:00",
            "seconds since 1970-01-01T01:00:00+01:00",
            "seconds since 1969-12-31 19:00 -5:00",
            "sec since 1970-01-01 0:00:00 0:00",
            "Seconds Since 1970",
        ] {
            assert_eq!(at(units, "", 1.0), Some(1_000_000), "{units}");
        }
        for units in ["seconds", "months since 2000-01-01", "degrees since 1970-01-01", "days since yesterday", "days since 2001-02-30"] {
            assert_eq!(at(units, "", 1.0), None, "{units}");
        }
    }

    #[test]
    fn calendars_give_their_own_dates() {
        let day = DAY;
        let date = |year, month, day| civil_days(Date { year, month, day }).map(|days| days * DAY);
        assert_eq!(at("days since 2000-02-28", "noleap", 1.0), date(2000, 3, 1));
        assert_eq!(at("days since 2000-02-28", "standard", 1.0), date(2000, 2, 29));
        assert_eq!(at("days since 1582-10-04", "gregorian", 1.0), date(1582, 10, 15));
        assert_eq!(at("days since 0001-01-01", "proleptic_gregorian", 0.5).map(|time| time - day / 2), date(1, 1, 1));
        assert_eq!(at("hours since 1900-01-01", "", 17_000_000.25).map(|time| time.rem_euclid(DAY)), Some(8 * 3_600_000_000 + 900_000_000));
        assert_eq!(TimeUnit::parse("days since 2000-02-30", "360_day").and_then(|unit| unit.date(0.0)).map(|(date, _)| date.day), Some(30));
    }

    #[test]
    fn texts_are_as_iso_8601_writes_them() {
        assert_eq!(iso_text(Date { year: 2000, month: 2, day: 30 }, 12 * 3600 * SECOND), "2000-02-30T12:00:00");
        assert_eq!(iso_text(Date { year: 33, month: 1, day: 2 }, DAY - 1), "0033-01-02T23:59:59.999999");
        assert_eq!(iso_text(Date { year: -5, month: 12, day: 31 }, 0), "-0005-12-31T00:00:00");
    }

    #[test]
    fn values_round_trip() {
        for calendar in ["standard", "noleap", "360_day", "all_leap", "julian"] {
            let Some(unit) = TimeUnit::parse("hours since 1850-01-01 06:00", calendar) else { panic!("{calendar}") };
            for value in [-1e6, -0.25, 0.0, 17.5, 1_234_567.0] {
                let back = unit.date(value).and_then(|(date, time)| unit.value(date, time));
                assert_eq!(back, Some(value), "{calendar}");
            }
        }
    }
}

//! Calendars of the CF conventions: dates of a calendar to day numbers and back.

/// A calendar of the CF conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// Julian before 1582-10-15, Gregorian from then on: `standard` and `gregorian`.
    Standard,
    /// Gregorian at all times.
    ProlepticGregorian,
    /// Julian at all times.
    Julian,
    /// Every year has 365 days: `noleap`, `365_day`.
    NoLeap,
    /// Every year has 366 days: `all_leap`, `366_day`.
    AllLeap,
    /// Every month has 30 days: `360_day`.
    Day360,
}

/// A date of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year, astronomical: 0 is the year before 1.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

const MONTH_STARTS: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
const LEAP_MONTH_STARTS: [i64; 13] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366];
/// The first day of the Gregorian calendar, as a day number of it.
const REFORM: i64 = days_gregorian(1582, 10, 15);

impl Calendar {
    /// The calendar that an attribute names; an absent attribute means `standard`.
    pub fn named(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "standard" | "gregorian" => Some(Self::Standard),
            "proleptic_gregorian" => Some(Self::ProlepticGregorian),
            "julian" => Some(Self::Julian),
            "noleap" | "365_day" => Some(Self::NoLeap),
            "all_leap" | "366_day" => Some(Self::AllLeap),
            "360_day" => Some(Self::Day360),
            _ => None,
        }
    }

    /// The name that the CF conventions prefer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::ProlepticGregorian => "proleptic_gregorian",
            Self::Julian => "julian",
            Self::NoLeap => "noleap",
            Self::AllLeap => "all_leap",
            Self::Day360 => "360_day",
        }
    }

    /// Whether each of its dates is a date of the Gregorian calendar too, so that a timestamp can hold it.
    pub fn fits_timestamp(self) -> bool {
        matches!(self, Self::Standard | Self::ProlepticGregorian | Self::NoLeap)
    }

    /// The number of a date's day, counted from some fixed day of this calendar; `None` when the calendar has no such date.
    pub fn day_number(self, date: Date) -> Option<i64> {
        let Date { year, month, day } = date;
        if !(1..=12).contains(&month) || day == 0 || i64::from(day) > self.month_length(year, month) {
            return None;
        }
        let (month, day) = (usize::from(month), i64::from(day));
        Some(match self {
            Self::ProlepticGregorian => days_gregorian(year, month as i64, day),
            Self::Julian => days_julian(year, month as i64, day),
            Self::Standard => {
                let gregorian = days_gregorian(year, month as i64, day);
                if gregorian >= REFORM { gregorian } else { days_julian(year, month as i64, day) }
            }
            Self::NoLeap => year * 365 + MONTH_STARTS[month - 1] + day - 1,
            Self::AllLeap => year * 366 + LEAP_MONTH_STARTS[month - 1] + day - 1,
            Self::Day360 => year * 360 + (month as i64 - 1) * 30 + day - 1,
        })
    }

    /// The date of a day number.
    pub fn date(self, number: i64) -> Date {
        let of_year = |days_a_year: i64, starts: &[i64; 13]| {
            let (year, rest) = (number.div_euclid(days_a_year), number.rem_euclid(days_a_year));
            let month = starts.partition_point(|start| *start <= rest);
            Date { year, month: month as u8, day: (rest - starts[month - 1] + 1) as u8 }
        };
        match self {
            Self::ProlepticGregorian => date_gregorian(number),
            Self::Julian => date_julian(number),
            Self::Standard if number >= REFORM => date_gregorian(number),
            Self::Standard => date_julian(number),
            Self::NoLeap => of_year(365, &MONTH_STARTS),
            Self::AllLeap => of_year(366, &LEAP_MONTH_STARTS),
            Self::Day360 => {
                let (year, rest) = (number.div_euclid(360), number.rem_euclid(360));
                Date { year, month: (rest / 30 + 1) as u8, day: (rest % 30 + 1) as u8 }
            }
        }
    }

    fn month_length(self, year: i64, month: u8) -> i64 {
        let leap = match self {
            Self::ProlepticGregorian => is_leap(year),
            Self::Standard if year > 1582 => is_leap(year),
            Self::Julian | Self::Standard => year.rem_euclid(4) == 0,
            Self::NoLeap => false,
            Self::AllLeap => true,
            Self::Day360 => return 30,
        };
        let starts = if leap { &LEAP_MONTH_STARTS } else { &MONTH_STARTS };
        starts[usize::from(month)] - starts[usize::from(month) - 1]
    }
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days since 1970-01-01 of a Gregorian date. Years begin in March, so that the leap day is the last of its year.
const fn days_gregorian(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_gregorian(number: i64) -> Date {
    let days = number + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    date_of(era * 400 + year_of_era, of_year)
}

/// Days since the Gregorian 1970-01-01 of a Julian date.
const fn days_julian(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(4);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 1461 + year.rem_euclid(4) * 365 + of_year - 719_470
}

fn date_julian(number: i64) -> Date {
    let days = number + 719_470;
    let era = days.div_euclid(1461);
    let of_era = days.rem_euclid(1461);
    let year_of_era = (of_era - of_era / 1460) / 365;
    date_of(era * 4 + year_of_era, of_era - 365 * year_of_era)
}

/// The date of a day of a year that begins in March.
fn date_of(year: i64, of_year: i64) -> Date {
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    Date { year: if month <= 2 { year + 1 } else { year }, month: month as u8, day: day as u8 }
}

/// Days since 1970-01-01 of a date's label in the Gregorian calendar; `None` when that calendar has no such date.
pub(crate) fn civil_days(date: Date) -> Option<i64> {
    Calendar::ProlepticGregorian.day_number(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Calendar; 6] =
        [Calendar::Standard, Calendar::ProlepticGregorian, Calendar::Julian, Calendar::NoLeap, Calendar::AllLeap, Calendar::Day360];

    #[test]
    fn dates_and_numbers_are_each_others_inverse() {
        for calendar in ALL {
            let mut previous = None;
            for number in -800_000..800_000 {
                let date = calendar.date(number);
                assert_eq!(calendar.day_number(date), Some(number), "{calendar:?} {date:?}");
                assert!(previous < Some(date), "{calendar:?} {date:?}");
                previous = Some(date);
            }
        }
    }

    #[test]
    fn the_reform_follows_the_fourth_of_october() {
        let after = Calendar::Standard.day_number(Date { year: 1582, month: 10, day: 15 });
        assert_eq!(after.map(|number| Calendar::Standard.date(number - 1)), Some(Date { year: 1582, month: 10, day: 4 }));
        assert_eq!(Calendar::ProlepticGregorian.date(0), Date { year: 1970, month: 1, day: 1 });
        assert_eq!(Calendar::NoLeap.day_number(Date { year: 2000, month: 2, day: 29 }), None);
    }
}

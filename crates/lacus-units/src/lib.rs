//! Units of measurement as science writes them: `W m-2`, `degC`, `kg m^-3`, `erg/s/cm**2`, `dBZ`.
//!
//! The notation is that of UDUNITS, which the conventions of climate and forecast data (CF) prescribe, with what FITS and lab software write
//! beside it; the values are those of UCUM. Dates (`days since 2000-01-01`) are no units here: they belong to calendars.
//!
//! ```
//! use lacus_units::Unit;
//!
//! let to_kelvin = Unit::parse("degC")?.conversion(&Unit::parse("K")?)?;
//! assert_eq!(to_kelvin.of(20.0), 293.15);
//! assert!(Unit::parse("m")?.conversion(&Unit::parse("K")?).is_err());
//! # Ok::<(), lacus_core::Error>(())
//! ```

mod names;
mod parse;

use std::collections::BTreeMap;

use lacus_core::{Error, Kind, Result};
use octofhir_ucum::Number;

/// A unit, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    text: String,
    measure: Measure,
}

/// What a value in a unit says of a quantity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measure {
    /// The exponents of the base units, none of them zero.
    dimension: BTreeMap<&'static str, i32>,
    scale: Scale,
    /// The names that it is a product of, with their powers, as they were written: none when it is more than that.
    factors: Option<Vec<(String, i32)>>,
}

/// How a value becomes a quantity in base units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// `factor * value + origin`
    Linear { factor: Number, origin: Number },
    /// `reference * base ^ (per * value)`
    Level { base: Base, per: Number, reference: Number },
}

/// The base of a logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base {
    Two,
    E,
    Ten,
}

impl Base {
    fn log(self, value: f64) -> f64 {
        match self {
            Self::Two => value.log2(),
            Self::E => value.ln(),
            Self::Ten => value.log10(),
        }
    }

    fn power(self, value: f64) -> f64 {
        match self {
            Self::Two => value.exp2(),
            Self::E => value.exp(),
            Self::Ten => 10_f64.powf(value),
        }
    }
}

impl Measure {
    fn is_number(&self) -> bool {
        self.dimension.is_empty() && matches!(self.scale, Scale::Linear { origin, .. } if origin.is_zero())
    }
}

impl Unit {
    /// Reads a unit. An empty text, `1` and `-` are the unit of pure numbers.
    ///
    /// # Errors
    /// `InvalidQuery` for what is no unit, with the part of it that is none, and the nearest name.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { text: text.trim().to_owned(), measure: parse::measure(text)? })
    }

    /// The unit as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether two units measure the same kind of quantity, so that one converts into the other.
    pub fn is_comparable(&self, other: &Self) -> bool {
        self.measure.dimension == other.measure.dimension
    }

    /// Whether a number says the same in both units, however they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_comparable(other) && self.measure.scale == other.measure.scale
    }

    /// Whether it is counted from another zero than that of its quantity, as `degC` is.
    pub fn has_origin(&self) -> bool {
        matches!(self.measure.scale, Scale::Linear { origin, .. } if !origin.is_zero())
    }

    /// Whether it is a logarithm, as `dBZ` is.
    pub fn is_level(&self) -> bool {
        matches!(self.measure.scale, Scale::Level { .. })
    }

    /// How values in this unit become values in `target`.
    ///
    /// # Errors
    /// `InvalidQuery` when the units measure different kinds of quantities.
    pub fn conversion(&self, target: &Self) -> Result<Conversion> {
        if !self.is_comparable(target) {
            let error = Error::new(Kind::InvalidQuery, format!("`{}` is not converted into `{}`", self.text, target.text));
            return Err(error.hint(format!("`{}` is {}, `{}` is {}", self.text, self.kind(), target.text, target.kind())));
        }
        if self.is_same(target) {
            return Ok(Conversion(Steps::None));
        }
        let steps = Steps::between(self.measure.scale, target.measure.scale);
        steps.map(Conversion).ok_or_else(|| {
            Error::new(Kind::InvalidQuery, format!("`{}` in `{}` is beyond all numbers", self.text, target.text))
                .hint("use units whose sizes are nearer to one another")
        })
    }

    /// Its dimension in words of base units, `m s-1`.
    fn kind(&self) -> String {
        match self.measure.dimension.is_empty() {
            true => "a pure number".to_owned(),
            false => format!("measured in `{}`", written(self.measure.dimension.iter().map(|(base, power)| (*base, *power)), " ")),
        }
    }

    /// The unit of the product of two numbers, `m s-1` for `m` and `s-1`; `None` where it can't be written in their names: of what is
    /// counted from an origin (`degC`), of logarithms, and of units with numbers in them.
    pub fn times(&self, other: &Self) -> Option<String> {
        self.product(other, 1)
    }

    /// The unit of the quotient of two numbers, as [`Unit::times`].
    pub fn per(&self, other: &Self) -> Option<String> {
        self.product(other, -1)
    }

    fn product(&self, other: &Self, sign: i32) -> Option<String> {
        let mut factors = self.measure.factors.clone()?;
        for (name, power) in other.measure.factors.as_ref()? {
            match factors.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.checked_add(sign * power)?,
                None => factors.push((name.clone(), sign * power)),
            }
        }
        let product = parse::multiplied(self.measure.clone(), other.measure.clone(), sign)?;
        let factors = || factors.iter().map(|(name, power)| (name.as_str(), *power)).filter(|(_, power)| *power != 0);
        // Two names may be one together: `degree K` is a temperature.
        let is_read =
            |text: &String| parse::measure(text).is_ok_and(|read| read.dimension == product.dimension && read.scale == product.scale);
        [" ", "."].into_iter().map(|between| written(factors(), between)).find(is_read)
    }

    /// The unit of differences of numbers in this one: that of the base for what is counted from an origin, `K` for `degC`. `None` where
    /// that has no name, and for logarithms.
    pub fn difference(&self) -> Option<String> {
        match self.measure.scale {
            Scale::Linear { origin, .. } if origin.is_zero() => Some(self.text.clone()),
            Scale::Linear { factor, .. } if factor == Number::ONE && self.measure.dimension == BTreeMap::from([("K", 1)]) => {
                Some("K".to_owned())
            }
            _ => None,
        }
    }
}

/// Names with their powers: `m s-1`, `1` for none.
fn written<'a>(factors: impl Iterator<Item = (&'a str, i32)>, between: &str) -> String {
    let parts: Vec<String> = factors.map(|(name, power)| if power == 1 { name.to_owned() } else { format!("{name}{power}") }).collect();
    if parts.is_empty() { "1".to_owned() } else { parts.join(between) }
}

/// How values in one unit become values in another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion(Steps);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Steps {
    None,
    Times(f64),
    /// A division by a whole number is nearer to what people expect than the product with its inverse: 1500 m are 1.5 km.
    By(f64),
    Shifted {
        factor: f64,
        shift: f64,
    },
    /// Of logarithms, one or both.
    Levels {
        from: Level,
        to: Level,
    },
}

/// A scale in double precision: of logarithms, or linear.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Linear { factor: f64, origin: f64 },
    Log { base: Base, per: f64, reference: f64 },
}

impl From<Scale> for Level {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Linear { factor, origin } => Self::Linear { factor: factor.to_f64(), origin: origin.to_f64() },
            Scale::Level { base, per, reference } => Self::Log { base, per: per.to_f64(), reference: reference.to_f64() },
        }
    }
}

impl Steps {
    /// `None` where a factor is beyond all numbers.
    fn between(from: Scale, to: Scale) -> Option<Self> {
        let (Scale::Linear { factor, origin }, Scale::Linear { factor: by, origin: target }) = (from, to) else {
            return Some(Self::Levels { from: from.into(), to: to.into() });
        };
        let (ratio, inverse) = (factor.checked_div(by)?, by.checked_div(factor)?.to_f64());
        let shift = origin.checked_sub(target)?.checked_div(by)?;
        let times = ratio.to_f64();
        let is_whole = inverse.fract() == 0.0 && inverse.abs() > 1.0 && inverse.abs() < 2_f64.powi(53);
        Some(match shift.is_zero() {
            true if times == 1.0 => Self::None,
            true if is_whole => Self::By(inverse),
            true => Some(Self::Times(times)).filter(|_| times != 0.0 && times.is_finite())?,
            false => Self::Shifted { factor: times, shift: shift.to_f64() },
        })
    }
}

impl Conversion {
    /// A value in the other unit. NaN stays NaN; the logarithm of what is negative is NaN.
    pub fn of(&self, value: f64) -> f64 {
        match self.0 {
            Steps::None => value,
            Steps::Times(factor) => value * factor,
            Steps::By(divisor) => value / divisor,
            Steps::Shifted { factor, shift } => value * factor + shift,
            Steps::Levels { from, to } => {
                let quantity = match from {
                    Level::Linear { factor, origin } => value * factor + origin,
                    Level::Log { base, per, reference } => reference * base.power(per * value),
                };
                match to {
                    Level::Linear { factor, origin } => (quantity - origin) / factor,
                    Level::Log { base, per, reference } => base.log(quantity / reference) / per,
                }
            }
        }
    }

    /// Whether values stay as they are.
    pub fn is_none(&self) -> bool {
        self.0 == Steps::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> Result<f64> {
        Ok(Unit::parse(from)?.conversion(&Unit::parse(to)?)?.of(value))
    }

    #[test]
    fn values_are_those_of_the_field() -> Result<()> {
        for (value, from, to, expected) in [
            (20.0, "degC", "K", 293.15),
            (212.0, "degF", "degC", 100.0),
            (-40.0, "Fahrenheit", "celsius", -40.0),
            (1.0, "W m-2", "mW/cm^2", 0.1),
            (5.0, "kg m-2 s-1", "mm h-1 kg/(m^2 mm)", 18000.0),
            (1013.25, "hPa", "atm", 1.0),
            (1.0, "mbar", "Pa", 100.0),
            (36.0, "km/h", "m.s**-1", 10.0),
            (1.0, "degrees_north", "arcmin", 60.0),
            (180.0, "degree", "rad", std::f64::consts::PI),
            (2.0, "1e3 km", "m", 2e6),
            (2.0, "10^3 m", "km", 2.0),
            (30.0, "dBZ", "mm6 m-3", 1000.0),
            (0.0, "dBm", "mW", 1.0),
            (1.0, "W", "dBm", 30.0),
            (25.0, "percent", "1", 0.25),
            (1.0, "µm", "Angstrom", 10000.0),
            (300.0, "DU", "mmol m-2", 133.86),
            (1.0, "nautical_mile per hour", "kt", 1.0),
            (20.0, "degrees Celsius", "deg F", 68.0),
            (1.0, "kilometers", "m", 1000.0),
            (3.0, "m²·s⁻²", "J/kg", 3.0),
            (1.0, "K @ 273.15", "degC", 1.0),
            (2.0, "(km/h)2", "km2 h-2", 2.0),
            (1.0, "m s−1", "m/s", 1.0),
            (760.0, "mmHg", "Pa", 101_325.014_435_4),
            (35.0, "psu", "1e-3", 35.0),
            (5.0, "adu/electron", "adu electron-1", 5.0),
        ] {
            let found = convert(value, from, to)?;
            assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{value} {from} in {to}: {found}, not {expected}");
        }
        assert_eq!(convert(1500.0, "m", "km")?, 1.5);
        assert_eq!(convert(5.1, "m", "mm")?, 5.1 * 1000.0);
        assert!(convert(f64::NAN, "m", "km")?.is_nan());
        Ok(())
    }

    #[test]
    fn kinds_are_told_apart() -> Result<()> {
        for (one, other) in [("m", "K"), ("mol", "1"), ("adu", "electron"), ("W m-2", "W m-1"), ("Hz", "m")] {
            let refused = convert(1.0, one, other).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(&format!("`{one}` is not converted into `{other}`")), "{refused}");
        }
        let is_same = |one, other| Ok::<_, Error>(Unit::parse(one)?.is_same(&Unit::parse(other)?));
        assert!(is_same("W m-2", "W/m**2")? && is_same("m2 s-2", "J kg-1")? && is_same("degrees_north", "degrees_east")?);
        assert!(is_same("", "1")? && is_same("hPa", "mbar")? && is_same("rad", "1")?);
        assert!(!is_same("m", "km")? && !is_same("degC", "K")? && !is_same("degrees_west", "degrees_east")?);
        Ok(())
    }

    #[test]
    fn products_are_written_in_the_names_of_their_factors() -> Result<()> {
        let unit = Unit::parse;
        assert_eq!(unit("m s-1")?.times(&unit("s")?).as_deref(), Some("m"));
        assert_eq!(unit("W/m2")?.times(&unit("kg")?).as_deref(), Some("W m-2 kg"));
        assert_eq!(unit("m")?.per(&unit("m")?).as_deref(), Some("1"));
        assert_eq!(unit("kg m-3")?.per(&unit("1")?).as_deref(), Some("kg m-3"));
        assert_eq!(unit("degree")?.times(&unit("K")?).as_deref(), Some("degree.K"));
        assert_eq!(unit("degree")?.per(&unit("K")?).as_deref(), Some("degree.K-1"));
        assert_eq!(unit("degC")?.times(&unit("m")?), None);
        assert_eq!(unit("1e3 km")?.times(&unit("m")?), None);
        assert_eq!(unit("dBZ")?.times(&unit("m")?), None);
        assert_eq!(unit("degC")?.difference().as_deref(), Some("K"));
        assert_eq!(unit("degF")?.difference(), None);
        assert_eq!(unit("hPa")?.difference().as_deref(), Some("hPa"));
        Ok(())
    }

    #[test]
    fn what_is_no_unit_says_why() {
        let message = |text: &str| Unit::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(message("W degX-1"), "`degX` in `W degX-1` is no unit; did you mean `deg`?");
        assert!(message("kelvn").contains("did you mean `kelvin`?"), "{}", message("kelvn"));
        for text in [
            "m/",
            "(m",
            "m)",
            "m^",
            "m^x",
            "^2",
            "/",
            "days since 2000-01-01",
            "m s-",
            "lg(re K",
            "1e999999 m",
            "0 m",
            "m^2.5",
            "m99999999999",
            "m -1",
        ] {
            assert!(message(text).contains("is no unit"), "{text}: {}", message(text));
        }
        assert!(message("days since 2000-01-01").contains("cf_time and cf_text read dates"));
        assert!(message(&"(".repeat(100_000)).contains("is no unit"));
        assert!(message(&"m ".repeat(100_000)).contains("is no unit"));
    }

    #[test]
    fn every_name_of_the_table_is_a_unit() -> Result<()> {
        for name in names::all() {
            Unit::parse(name).map_err(|error| error.with("name", name))?;
        }
        Ok(())
    }
}

//! Units by name.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use lacus_core::{Result, nearest};
use octofhir_ucum::{Dimension, Number, SpecialKind, UnitAnalysis, analyse};

use crate::parse::{measure, no_unit};
use crate::{Base, Measure, Scale};

const TABLE: &str = include_str!("names.txt");

/// The angle is a pure number to the SI and to UDUNITS; to UCUM, whose tables are read, it is a base.
const ANGLE: &str = "rad";

const SYMBOL_PREFIXES: [(&str, &str); 27] = [
    ("Q", "1e30"),
    ("R", "1e27"),
    ("Y", "1e24"),
    ("Z", "1e21"),
    ("E", "1e18"),
    ("P", "1e15"),
    ("T", "1e12"),
    ("G", "1e9"),
    ("M", "1e6"),
    ("k", "1e3"),
    ("h", "100"),
    ("da", "10"),
    ("d", "0.1"),
    ("c", "0.01"),
    ("m", "1e-3"),
    // The micro sign and the Greek letter look the same.
    ("\u{b5}", "1e-6"),
    ("\u{3bc}", "1e-6"),
    ("u", "1e-6"),
    ("n", "1e-9"),
    ("p", "1e-12"),
    ("f", "1e-15"),
    ("a", "1e-18"),
    ("z", "1e-21"),
    ("y", "1e-24"),
    ("r", "1e-27"),
    ("q", "1e-30"),
    ("K", "1e3"),
];

const NAME_PREFIXES: [(&str, &str); 25] = [
    ("quetta", "1e30"),
    ("ronna", "1e27"),
    ("yotta", "1e24"),
    ("zetta", "1e21"),
    ("exa", "1e18"),
    ("peta", "1e15"),
    ("tera", "1e12"),
    ("giga", "1e9"),
    ("mega", "1e6"),
    ("kilo", "1e3"),
    ("hecto", "100"),
    ("deka", "10"),
    ("deca", "10"),
    ("deci", "0.1"),
    ("centi", "0.01"),
    ("milli", "1e-3"),
    ("micro", "1e-6"),
    ("nano", "1e-9"),
    ("pico", "1e-12"),
    ("femto", "1e-15"),
    ("atto", "1e-18"),
    ("zepto", "1e-21"),
    ("yocto", "1e-24"),
    ("ronto", "1e-27"),
    ("quecto", "1e-30"),
];

/// A unit of the table.
struct Entry {
    definition: &'static str,
    /// The name of the base that it is, if it is one of our own.
    base: &'static str,
    read: OnceLock<Option<Measure>>,
}

struct Names {
    entries: Vec<Entry>,
    /// By names in small letters.
    names: HashMap<&'static str, usize>,
    symbols: HashMap<&'static str, usize>,
    /// Both, as they are listed.
    order: Vec<&'static str>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mut all = Names { entries: Vec::new(), names: HashMap::new(), symbols: HashMap::new(), order: Vec::new() };
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.split(';').map(str::trim);
        let (Some(definition), Some(names), Some(symbols)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let place = all.entries.len();
        let base = symbols.split(' ').chain(names.split(' ')).find(|name| !name.is_empty()).unwrap_or(definition);
        all.entries.push(Entry { definition, base, read: OnceLock::new() });
        let each = |part: &'static str| part.split(' ').filter(|name| !name.is_empty());
        all.names.extend(each(names).map(|name| (name, place)));
        all.symbols.extend(each(symbols).map(|symbol| (symbol, place)));
        all.order.extend(each(names).chain(each(symbols)));
    }
    all
});

/// All names and symbols of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.order.iter().copied()
}

/// The unit of a name or a symbol, with a prefix or without.
///
/// # Errors
/// `InvalidQuery` when there is none in `text`.
pub(crate) fn named(name: &str, text: &str) -> Result<Measure> {
    let found = NAMES.exact(name).or_else(|| {
        prefixed(name).find_map(|(factor, rest)| {
            let Measure { dimension, scale, .. } = NAMES.exact(rest)?;
            let factor = Number::parse(factor)?;
            let scale = match scale {
                Scale::Linear { factor: of, origin } => Scale::Linear { factor: of.checked_mul(factor)?, origin },
                Scale::Level { base, per, reference } => Scale::Level { base, per: per.checked_mul(factor)?, reference },
            };
            Some(Measure { dimension, scale, factors: None })
        })
    });
    let Some(measure) = found else {
        let error = no_unit(name, text);
        return Err(match nearest(name, all().filter(|name| name.len() > 1)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("units are written as in UDUNITS: W m-2, degC, kg m-3, hPa, 1"),
        });
    };
    let is_plain = matches!(measure.scale, Scale::Linear { origin, .. } if origin.is_zero());
    Ok(Measure { factors: is_plain.then(|| vec![(name.to_owned(), 1)]), ..measure })
}

/// What may be left of a name without a prefix, with what the prefix stands for.
fn prefixed(name: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let by_name = NAME_PREFIXES.iter().filter_map(move |(prefix, factor)| {
        let first = name.get(..prefix.len())?;
        first.eq_ignore_ascii_case(prefix).then(|| (*factor, &name[prefix.len()..]))
    });
    let by_symbol = SYMBOL_PREFIXES.iter().filter_map(move |(prefix, factor)| Some((*factor, name.strip_prefix(prefix)?)));
    by_name.chain(by_symbol)
}

impl Names {
    /// The unit of a name without a prefix.
    fn exact(&self, name: &str) -> Option<Measure> {
        let place = self.symbols.get(name).copied().or_else(|| {
            let small = name.to_lowercase();
            let known = |name: &str| self.names.get(name).copied();
            known(&small).or_else(|| singular(&small).find_map(|name| known(&name)))
        })?;
        self.entries[place].measure()
    }
}

/// What a name in small letters may be the plural of: `degrees_c` is that of `degree_c`.
fn singular(name: &str) -> impl Iterator<Item = String> {
    let whole = name.strip_suffix('s').map(str::to_owned);
    let of_es = name.strip_suffix("es").map(str::to_owned);
    let of_ies = name.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let first = ["degrees", "degs"].iter().find_map(|plural| name.strip_prefix(plural).map(|rest| (plural, rest)));
    let inner = first.map(|(plural, rest)| format!("{}{rest}", &plural[..plural.len() - 1]));
    [whole, of_es, of_ies, inner].into_iter().flatten()
}

impl Entry {
    fn measure(&self) -> Option<Measure> {
        self.read.get_or_init(|| self.define()).clone()
    }

    fn define(&self) -> Option<Measure> {
        match self.definition.strip_prefix(':') {
            Some(code) => of_ucum(&analyse(code).ok()?),
            None if self.definition == "!" => {
                let scale = Scale::Linear { factor: Number::ONE, origin: Number::ZERO };
                Some(Measure { dimension: [(self.base, 1)].into(), scale, factors: None })
            }
            None => measure(self.definition).ok(),
        }
    }
}

fn of_ucum(analysis: &UnitAnalysis) -> Option<Measure> {
    let powers = Dimension::BASE_UNITS.into_iter().zip(analysis.dimension.0);
    let dimension = powers.filter(|(base, power)| *power != 0 && *base != ANGLE).map(|(base, power)| (base, i32::from(power))).collect();
    let level = |base, per: Number| Some(Scale::Level { base, per, reference: analysis.factor });
    let scale = match analysis.special {
        None => Scale::Linear { factor: analysis.factor, origin: Number::ZERO },
        Some(SpecialKind::Celsius | SpecialKind::Fahrenheit) => {
            Scale::Linear { factor: analysis.factor.checked_mul(analysis.scale)?, origin: analysis.offset }
        }
        Some(SpecialKind::Lg) => level(Base::Ten, analysis.scale)?,
        Some(_) => return None,
    };
    Some(Measure { dimension, scale, factors: None })
}

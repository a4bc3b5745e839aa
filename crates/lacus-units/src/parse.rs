//! The notation of UDUNITS: products by spaces, dots and stars, quotients by strokes, powers by numbers behind names.

use std::collections::BTreeMap;

use lacus_core::{Error, Kind, Result};
use octofhir_ucum::Number;

use crate::names::named;
use crate::{Base, Measure, Scale};

/// No unit is longer, and none nests deeper.
const LONGEST: usize = 200;
const DEEPEST: usize = 8;
/// No power is higher.
const HIGHEST: i32 = 99;
/// What a text may consist of that says it has no unit.
const NONE: [&str; 2] = ["", "-"];
/// In two words, these are names in one.
const DEGREES: [&str; 4] = ["deg", "degs", "degree", "degrees"];
const OF_DEGREES: [&str; 14] =
    ["C", "F", "K", "R", "Celsius", "celsius", "Fahrenheit", "fahrenheit", "Kelvin", "kelvin", "North", "north", "East", "east"];

/// Reads a unit.
///
/// # Errors
/// `InvalidQuery` for what is none.
pub(crate) fn measure(text: &str) -> Result<Measure> {
    // A minus sign of typesetting is one, too.
    let text = &text.trim().replace('\u{2212}', "-");
    if NONE.contains(&text.as_str()) {
        return Ok(number(Number::ONE));
    }
    if text.len() > LONGEST {
        let start: String = text.chars().take(LONGEST / 10).collect();
        return Err(no_unit(&format!("{start}..."), &format!("{start}...")).hint(format!("a unit has at most {LONGEST} bytes")));
    }
    if text.contains(" since ") {
        return Err(no_unit(text, text).hint("cf_time and cf_text read dates"));
    }
    let mut parser = Parser { text, rest: text, depth: 0 };
    let found = parser.shifted()?;
    match parser.rest.is_empty() {
        true => Ok(found),
        false => Err(parser.unexpected()),
    }
}

/// The error of a part of a text that is no unit.
pub(crate) fn no_unit(part: &str, text: &str) -> Error {
    let message = if part == text { format!("`{part}` is no unit") } else { format!("`{part}` in `{text}` is no unit") };
    Error::new(Kind::InvalidQuery, message)
}

fn number(factor: Number) -> Measure {
    let scale = Scale::Linear { factor, origin: Number::ZERO };
    Measure { dimension: BTreeMap::new(), scale, factors: (factor == Number::ONE).then(Vec::new) }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn unexpected(&self) -> Error {
        let rest = if self.rest.is_empty() { self.text } else { self.rest };
        no_unit(rest, self.text).hint("units are written as in UDUNITS: W m-2, degC, kg m-3, hPa, 1")
    }

    fn first(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let found = self.rest.strip_prefix(prefix);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn spaces(&mut self) -> bool {
        let rest = self.rest.trim_start();
        let are_some = rest.len() < self.rest.len();
        self.rest = rest;
        are_some
    }

    /// A word, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let found = self.rest.get(..word.len()).filter(|found| found.eq_ignore_ascii_case(word));
        let ends = self.rest.get(word.len()..).is_some_and(|after| after.starts_with(|next: char| next.is_whitespace() || next == '('));
        if found.is_none() || !ends {
            return false;
        }
        self.rest = &self.rest[word.len()..];
        true
    }

    /// A product, counted from another zero: `K @ 273.15`.
    fn shifted(&mut self) -> Result<Measure> {
        let product = self.product()?;
        self.spaces();
        if !self.skip("@") && !self.word("from") {
            return Ok(product);
        }
        self.spaces();
        let zero = self.number()?;
        let Scale::Linear { factor, origin } = product.scale else { return Err(self.unexpected()) };
        let origin = zero.checked_mul(factor).and_then(|zero| zero.checked_add(origin)).ok_or_else(|| self.unexpected())?;
        Ok(Measure { scale: Scale::Linear { factor, origin }, factors: None, ..product })
    }

    fn product(&mut self) -> Result<Measure> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.unexpected());
        }
        self.spaces();
        let mut product = self.power()?;
        loop {
            let spaces = self.spaces();
            let divides = self.skip("/") || self.word("per");
            if !divides && !self.is_product(spaces) {
                break;
            }
            self.spaces();
            let next = self.power()?;
            product = multiplied(product, next, if divides { -1 } else { 1 }).ok_or_else(|| self.unexpected())?;
        }
        self.depth -= 1;
        Ok(product)
    }

    /// Whether a factor follows; what joins it is skipped.
    fn is_product(&mut self, spaces: bool) -> bool {
        let joined = (!self.rest.starts_with("**") && self.skip("*")) || self.skip("·") || self.skip("⋅") || self.skip("×");
        if joined {
            return true;
        }
        match self.first() {
            Some('.' | '-') => {
                let is_joined = self.rest[1..].starts_with(|next: char| is_letter(next) || next == '(');
                self.rest = if is_joined { &self.rest[1..] } else { self.rest };
                is_joined || (spaces && self.rest.len() > 1)
            }
            Some('@') | None => false,
            Some(')') => false,
            Some(first) => (spaces && !self.rest.to_ascii_lowercase().starts_with("from ")) || first == '(',
        }
    }

    fn power(&mut self) -> Result<Measure> {
        let is_inner = self.first() == Some('(');
        let base = match self.first() {
            Some('(') => {
                self.rest = &self.rest[1..];
                let inner = self.product()?;
                self.spaces();
                if !self.skip(")") {
                    return Err(self.unexpected());
                }
                inner
            }
            Some(first) if first.is_ascii_digit() || first == '.' || (first == '-' && self.rest.len() == self.text.len()) => {
                number(self.number()?)
            }
            Some(first) if is_letter(first) => return self.named(),
            _ => return Err(self.unexpected()),
        };
        self.raised(base, is_inner)
    }

    /// A name with its power, or a logarithm.
    fn named(&mut self) -> Result<Measure> {
        let end = self.rest.find(|next: char| !is_letter(next) && !next.is_ascii_digit()).unwrap_or(self.rest.len());
        let name = self.rest[..end].trim_end_matches(|last: char| last.is_ascii_digit());
        let base = match name {
            "lg" | "log" => Some(Base::Ten),
            "ln" => Some(Base::E),
            "lb" => Some(Base::Two),
            _ => None,
        };
        self.rest = &self.rest[name.len()..];
        if let Some(base) = base.filter(|_| self.rest.starts_with('(')) {
            return self.level(base);
        }
        if DEGREES.contains(&name.to_ascii_lowercase().as_str()) {
            let after = self.rest.trim_start();
            let end = after.find(|next: char| !is_letter(next)).unwrap_or(after.len());
            if after.len() < self.rest.len() && OF_DEGREES.contains(&&after[..end]) {
                let joined = format!("{name}_{}", &after[..end]);
                self.rest = &after[end..];
                let found = named(&joined, self.text)?;
                return self.raised(found, true);
            }
        }
        let found = named(name, self.text)?;
        self.raised(found, true)
    }

    /// `lg(re 1 mW)`, behind its name.
    fn level(&mut self, base: Base) -> Result<Measure> {
        self.rest = &self.rest[1..];
        self.spaces();
        let is_read = self.skip("re:") || self.word("re");
        let reference = self.product()?;
        self.spaces();
        let Scale::Linear { factor, origin } = reference.scale else { return Err(self.unexpected()) };
        if !is_read || !origin.is_zero() || !self.skip(")") {
            return Err(self.unexpected());
        }
        let scale = Scale::Level { base, per: Number::ONE, reference: factor };
        Ok(Measure { dimension: reference.dimension, scale, factors: None })
    }

    /// What was read, to the power that follows. Behind a name, and behind parentheses, it may stand alone.
    fn raised(&mut self, base: Measure, is_name: bool) -> Result<Measure> {
        let marked = self.skip("^") || self.skip("**");
        let power = match self.first() {
            Some('(') if marked => {
                self.rest = &self.rest[1..];
                let power = self.integer().ok_or_else(|| self.unexpected())?;
                if !self.skip(")") {
                    return Err(self.unexpected());
                }
                power
            }
            Some(first) if is_superscript(first) => self.superscript().ok_or_else(|| self.unexpected())?,
            Some(first) if marked || (is_name && first.is_ascii_digit()) || (is_name && self.is_signed()) => {
                self.integer().ok_or_else(|| self.unexpected())?
            }
            _ if marked => return Err(self.unexpected()),
            _ => return Ok(base),
        };
        raised(base, power).ok_or_else(|| self.unexpected())
    }

    fn is_signed(&self) -> bool {
        let mut next = self.rest.chars();
        next.next().is_some_and(|first| ['-', '+'].contains(&first)) && next.next().is_some_and(|next| next.is_ascii_digit())
    }

    fn integer(&mut self) -> Option<i32> {
        let signs = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[signs..].find(|next: char| !next.is_ascii_digit()).unwrap_or(self.rest.len() - signs);
        let (number, rest) = self.rest.split_at(signs + digits);
        // A power with a fraction has no unit.
        if rest.starts_with('.') && rest[1..].starts_with(|next: char| next.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok().filter(|power: &i32| power.abs() <= HIGHEST)?;
        self.rest = rest;
        Some(number)
    }

    fn superscript(&mut self) -> Option<i32> {
        let end = self.rest.find(|next: char| !is_superscript(next)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let plain: String = number.chars().filter_map(plain).collect();
        self.rest = rest;
        plain.parse().ok().filter(|power: &i32| power.abs() <= HIGHEST)
    }

    fn number(&mut self) -> Result<Number> {
        let bytes = self.rest.as_bytes();
        let mut end = usize::from(bytes.first().is_some_and(|first| b"+-".contains(first)));
        let digits = |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(end);
        end += whole;
        let mut fraction = 0;
        if bytes.get(end) == Some(&b'.') && (digits(end + 1) > 0 || (whole > 0 && !self.rest[end + 1..].starts_with(is_letter))) {
            fraction = digits(end + 1);
            end += 1 + fraction;
        }
        if whole + fraction == 0 {
            return Err(self.unexpected());
        }
        if bytes.get(end).is_some_and(|byte| b"eE".contains(byte)) {
            let signs = usize::from(bytes.get(end + 1).is_some_and(|byte| b"+-".contains(byte)));
            let exponent = digits(end + 1 + signs);
            end += if exponent > 0 { 1 + signs + exponent } else { 0 };
        }
        let number = Number::parse(&self.rest[..end]).filter(|number| is_sane(*number)).ok_or_else(|| self.unexpected())?;
        self.rest = &self.rest[end..];
        Ok(number)
    }
}

/// Whether a double holds it, and its inverse.
fn is_sane(number: Number) -> bool {
    let value = number.to_f64();
    value != 0.0 && value.is_finite() && (1.0 / value).is_finite()
}

fn is_letter(next: char) -> bool {
    (next.is_alphabetic() && !is_superscript(next)) || "_°%‰'\"′″℃℉".contains(next)
}

const SUPERSCRIPTS: [(char, char); 12] = [
    ('⁰', '0'),
    ('¹', '1'),
    ('²', '2'),
    ('³', '3'),
    ('⁴', '4'),
    ('⁵', '5'),
    ('⁶', '6'),
    ('⁷', '7'),
    ('⁸', '8'),
    ('⁹', '9'),
    ('⁻', '-'),
    ('⁺', '+'),
];

fn is_superscript(next: char) -> bool {
    plain(next).is_some()
}

fn plain(next: char) -> Option<char> {
    SUPERSCRIPTS.iter().find(|(superscript, _)| *superscript == next).map(|(_, plain)| *plain)
}

/// `left * right ^ sign`. Beside another unit, one that is counted from an origin is a difference: W per degC are W per K.
pub(crate) fn multiplied(left: Measure, right: Measure, sign: i32) -> Option<Measure> {
    // A number times a unit is that unit in other steps.
    match (left.scale, right.scale) {
        (Scale::Linear { factor, .. }, Scale::Linear { factor: of, origin }) if left.is_number() && sign > 0 => {
            // Ten degrees Celsius at once have no zero of their own, as in UDUNITS.
            let origin = if factor == Number::ONE { origin } else { Number::ZERO };
            let scale = Scale::Linear { factor: factor.checked_mul(of).filter(|factor| is_sane(*factor))?, origin };
            let factors = if factor == Number::ONE { right.factors } else { None };
            return Some(Measure { dimension: right.dimension, scale, factors });
        }
        (Scale::Linear { factor, .. }, Scale::Level { base, per, reference }) if left.is_number() && sign > 0 => {
            let scale = Scale::Level { base, per: per.checked_mul(factor)?, reference };
            return Some(Measure { dimension: right.dimension, scale, factors: None });
        }
        _ => {}
    }
    let right = raised(right, sign)?;
    let (Scale::Linear { factor, .. }, Scale::Linear { factor: other, .. }) = (left.scale, right.scale) else { return None };
    let mut dimension = left.dimension;
    for (base, power) in right.dimension {
        let sum = dimension.entry(base).or_insert(0);
        *sum = sum.checked_add(power)?;
    }
    dimension.retain(|_, power| *power != 0);
    let factors = left.factors.zip(right.factors).and_then(|(mut factors, others)| {
        for (name, power) in others {
            match factors.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = known.checked_add(power)?,
                None => factors.push((name, power)),
            }
        }
        factors.retain(|(_, power)| *power != 0);
        Some(factors)
    });
    let factor = factor.checked_mul(other).filter(|factor| is_sane(*factor))?;
    Some(Measure { dimension, scale: Scale::Linear { factor, origin: Number::ZERO }, factors })
}

fn raised(base: Measure, power: i32) -> Option<Measure> {
    if power == 1 {
        return Some(base);
    }
    let Scale::Linear { factor, .. } = base.scale else { return None };
    let factor = factor.checked_powi(power).filter(|factor| is_sane(*factor))?;
    let powers = base.dimension.into_iter().map(|(base, of)| Some((base, of.checked_mul(power)?)));
    let mut dimension = powers.collect::<Option<BTreeMap<_, _>>>()?;
    dimension.retain(|_, power| *power != 0);
    let factors = base.factors.and_then(|factors| factors.into_iter().map(|(name, of)| Some((name, of.checked_mul(power)?))).collect());
    Some(Measure { dimension, scale: Scale::Linear { factor, origin: Number::ZERO }, factors })
}

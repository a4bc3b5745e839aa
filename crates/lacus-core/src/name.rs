use std::fmt;

use crate::{Error, Kind, RESERVED_STORE_NAMES, Result};

/// The name of a store: a lower-case letter, then letters, digits, `_` or `-`; never a URL scheme.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreName(String);

impl StoreName {
    /// Checks `name`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the form is wrong or the name equals a URL scheme, because `s3:x` could then mean two things.
    pub fn new(name: &str) -> Result<Self> {
        if RESERVED_STORE_NAMES.contains(&name) {
            return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` can't name a store: it is a URL scheme"))
                .hint("choose another name, such as the lab's or the bucket's"));
        }
        if !is_plain(name, |character| character == '-') {
            return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` can't name a store"))
                .hint("a store's name is a lower-case letter, then lower-case letters, digits, `_` or `-`"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name of a place that nobody named; no location can say it.
    pub fn unnamed() -> Self {
        Self(String::new())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a dataset: a lower-case letter or `_`, then letters, digits or `_`, so that SQL needs no quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetName(String);

impl DatasetName {
    /// Checks `name`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when SQL would need quotes around it.
    pub fn new(name: &str) -> Result<Self> {
        if !is_plain(name.strip_prefix('_').unwrap_or(name), |_| false) {
            return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` can't name a dataset"))
                .hint("a dataset's name is a lower-case letter, then lower-case letters, digits or `_`, so that SQL needs no quotes"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(name: &str, also: impl Fn(char) -> bool) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '_' || also(next))
}

impl fmt::Display for StoreName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The candidate that a person who wrote `name` most likely meant, if one is close enough to say so.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const CLOSE_ENOUGH: f64 = 0.8;
    let wanted = name.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // One letter too many, too few, another, or two in the wrong order; of very short names that would be any.
        let slip = wanted.len() > 2 && strsim::osa_distance(&wanted, &candidate) == 1;
        let likeness = strsim::jaro_winkler(&wanted, &candidate);
        if slip { likeness.max(CLOSE_ENOUGH) } else { likeness }
    };
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= CLOSE_ENOUGH)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(StoreName::new("als-beamline_7").is_ok());
        assert!(StoreName::new("s3").is_err());
        assert!(StoreName::new("9a").is_err());
        assert!(DatasetName::new("_raw2").is_ok());
        for wrong in ["", "a-b", "A", "é", "a.b", "1"] {
            assert!(DatasetName::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_or_none() {
        assert_eq!(nearest("shot", ["shots", "weather"]), Some("shots"));
        assert_eq!(nearest("endpiont", ["url", "endpoint", "region"]), Some("endpoint"));
        assert_eq!(nearest("tne", ["one", "ten"]), Some("ten"));
        assert_eq!(nearest("qqq", ["shots", "weather"]), None);
    }
}

//! Amounts that people write: sizes and durations.

use std::time::Duration;

use crate::{Error, Kind, Result};

/// Reads `512 MiB`, `1.5GB`, `100000`.
///
/// # Errors
/// `InvalidConfiguration` that names `key`.
pub fn bytes(text: &str, key: &str) -> Result<u64> {
    let (number, unit) = number(text).ok_or_else(|| wrong(text, key, "a size such as `8 GiB`"))?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong(text, key, "a size such as `8 GiB`")),
    };
    Ok((number * factor as f64) as u64)
}

/// Reads a duration: `500ms`, `90s`, `10m`, `2h`, `30d`.
///
/// # Errors
/// `InvalidConfiguration` that names `key`.
pub fn duration(text: &str, key: &str) -> Result<Duration> {
    let wanted = "a duration such as `90s`, `10m` or `2h`";
    let (number, unit) = number(text).ok_or_else(|| wrong(text, key, wanted))?;
    let seconds = match unit {
        "ms" => number / 1000.,
        "s" => number,
        "m" | "min" => number * 60.,
        "h" => number * 3600.,
        "d" => number * 86400.,
        _ => return Err(wrong(text, key, wanted)),
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| wrong(text, key, wanted))
}

/// The number and the unit of an amount.
pub fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// That an amount is none.
pub fn wrong(text: &str, key: &str, wanted: &str) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("`{key}` is `{text}`, but must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() -> Result<()> {
        assert_eq!(bytes("1.5 KiB", "k")?, 1536);
        assert_eq!(bytes("7", "k")?, 7);
        assert!(bytes("7 apples", "k").is_err() && bytes("", "k").is_err());
        assert_eq!(duration("1.5s", "k")?, Duration::from_millis(1500));
        assert!(duration("0s", "k").is_err() && duration("5", "k").is_err());
        Ok(())
    }
}

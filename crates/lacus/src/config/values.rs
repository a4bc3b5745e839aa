//! Values of the lake file that are written as text: sizes, durations, `${NAME}`.

use std::time::Duration;

use lacus_core::{Error, Kind, Result};

/// Replaces each `${NAME}` in `text`, and `${NAME:-default}`. The value never appears in an error.
pub(crate) fn expand(text: &str, key: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) =
            after.split_once('}').ok_or_else(|| Error::new(Kind::InvalidConfiguration, "`${` without `}`").with("key", key))?;
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default.to_owned())));
        let value = environment(name).or(default).ok_or_else(|| {
            Error::new(Kind::InvalidConfiguration, format!("the environment variable `{name}` is not set"))
                .with("key", key)
                .hint(format!("export {name}, or write the value"))
        })?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Reads `512 MiB`, `1.5GB`, `100000`.
pub(crate) fn bytes(text: &str, key: &str) -> Result<u64> {
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

/// Reads a size, or a share of the machine's memory: `60%`.
pub(crate) fn memory(text: &str, key: &str) -> Result<usize> {
    let bytes = match number(text) {
        Some((percent, "%")) if percent > 0. && percent <= 100. => (machine_memory() as f64 * percent / 100.) as u64,
        Some((_, "%")) => return Err(wrong(text, key, "a size such as `8 GiB`, or a share up to `100%`")),
        _ => bytes(text, key)?,
    };
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(|| wrong(text, key, "a size above zero"))
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

fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

fn wrong(text: &str, key: &str, wanted: &str) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("`{key}` is `{text}`, but must be {wanted}"))
}

/// Bytes of memory that this process may use: the machine's, or less where a container says so.
fn machine_memory() -> u64 {
    const UNKNOWN: u64 = 4 << 30;
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    total.unwrap_or(UNKNOWN).min(container.unwrap_or(u64::MAX))
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
        assert!(memory("50%", "k")? > 0);
        Ok(())
    }

    #[test]
    fn variables_expand_or_are_named() -> Result<()> {
        let environment = |name: &str| (name == "A").then(|| "x".to_owned());
        assert_eq!(expand("1${A}2${A}", "k", &environment)?, "1x2x");
        assert_eq!(expand("${B:-y}${A:-y}", "k", &environment)?, "yx");
        assert!(expand("${B}", "k", &environment).is_err());
        assert!(expand("${A", "k", &environment).is_err());
        Ok(())
    }
}

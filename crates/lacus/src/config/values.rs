//! Values of the lake file that are written as text: shares of memory, `${NAME}`.

use lacus_core::amount::{bytes, number, wrong};
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

/// Reads a size, or a share of the machine's memory: `60%`.
pub(crate) fn memory(text: &str, key: &str) -> Result<usize> {
    let bytes = match number(text) {
        Some((percent, "%")) if percent > 0. && percent <= 100. => (machine_memory() as f64 * percent / 100.) as u64,
        Some((_, "%")) => return Err(wrong(text, key, "a size such as `8 GiB`, or a share up to `100%`")),
        _ => bytes(text, key)?,
    };
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(|| wrong(text, key, "a size above zero"))
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
    fn shares_of_memory() -> Result<()> {
        assert!(memory("50%", "k")? > 0 && memory("1 KiB", "k")? == 1024);
        assert!(memory("101%", "k").is_err() && memory("0", "k").is_err());
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

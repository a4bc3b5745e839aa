//! The door of agents.

use std::fmt;

use lacus_core::{AgentLimits, Error, Kind, Result, amount};

use super::Config;
use super::resolve::Environment;
use super::values::{expand, memory};
use super::written::McpSection;

/// How agents are answered.
#[derive(Debug, Clone, Default)]
pub struct AgentsSpec {
    /// The address on which `lacus serve` answers them over HTTP.
    pub listen: Option<String>,
    /// The URL by which they know it.
    pub url: Option<String>,
    /// Pages that may ask from a browser.
    pub origins: Vec<String>,
    /// What the tokens of issuers must be for.
    pub scopes: Vec<String>,
    /// What one may ask for.
    pub limits: AgentLimits,
}

pub(super) fn agents(written: &McpSection, environment: Environment<'_>) -> Result<AgentsSpec> {
    let text = |text: &Option<String>, key: &str| text.as_deref().map(|text| expand(text, key, environment)).transpose();
    let some = |number: Option<usize>, default: usize, key: &str| match number {
        Some(0) => Err(Error::new(Kind::InvalidConfiguration, format!("`{key}` is 0")).hint("write 1 or more")),
        number => Ok(number.unwrap_or(default)),
    };
    let defaults = AgentLimits::default();
    let duration =
        |written: &Option<String>, default, key: &str| text(written, key)?.map_or(Ok(default), |text| amount::duration(&text, key));
    let scan = text(&written.scan, "mcp.scan")?.map(|text| memory(&text, "mcp.scan")).transpose()?;
    let limits = AgentLimits {
        rows: some(written.rows, defaults.rows, "mcp.rows")?,
        text: some(written.text, defaults.text, "mcp.text")?,
        cell: some(written.cell, defaults.cell, "mcp.cell")?,
        kept_rows: some(written.kept_rows, defaults.kept_rows, "mcp.kept_rows")?,
        kept_for: duration(&written.kept_for, defaults.kept_for, "mcp.kept_for")?,
        deadline: duration(&written.deadline, defaults.deadline, "mcp.deadline")?,
        scan_bytes: scan.map_or(defaults.scan_bytes, |bytes| bytes as u64),
        scan_files: written.files.unwrap_or(defaults.scan_files),
        remote_calls: written.remote_calls.unwrap_or(defaults.remote_calls),
        ..defaults
    };
    // They stand in a header, separated by spaces (RFC 6749, 3.3).
    let is_scope =
        |scope: &&String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    if let Some(wrong) = written.scopes.iter().find(|scope| !is_scope(scope)) {
        let error = Error::new(Kind::InvalidConfiguration, format!("`mcp.scopes` has {wrong:?}, which is no scope"));
        return Err(error.hint("write each by itself, without spaces and quotes: [\"lacus:read\", \"openid\"]"));
    }
    Ok(AgentsSpec {
        listen: text(&written.listen, "mcp.listen")?,
        url: text(&written.url, "mcp.url")?,
        origins: written.origins.clone(),
        scopes: written.scopes.clone(),
        limits,
    })
}

impl Config {
    /// Writes the door of agents, as far as it is not what it is without a word.
    pub(super) fn agents(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AgentsSpec { listen, url, origins, scopes, limits } = &self.agents;
        writeln!(formatter, "\n[mcp]")?;
        listen.iter().try_for_each(|listen| writeln!(formatter, "listen = {listen:?}"))?;
        url.iter().try_for_each(|url| writeln!(formatter, "url = {url:?}"))?;
        if !origins.is_empty() {
            writeln!(formatter, "origins = {origins:?}")?;
        }
        if !scopes.is_empty() {
            writeln!(formatter, "scopes = {scopes:?}")?;
        }
        writeln!(formatter, "rows = {}\ntext = {}\ncell = {}\nkept_rows = {}", limits.rows, limits.text, limits.cell, limits.kept_rows)?;
        writeln!(formatter, "kept_for = \"{}s\"\ndeadline = \"{}s\"", limits.kept_for.as_secs_f64(), limits.deadline.as_secs_f64())?;
        writeln!(formatter, "scan = \"{} B\"\nfiles = {}\nremote_calls = {}", limits.scan_bytes, limits.scan_files, limits.remote_calls)
    }
}

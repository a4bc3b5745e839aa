use std::path::Path;

use lacus::{Principal, Result};
use lacus_mcp::{Agents, over_stdio};
use lacus_server::{LogFormat, follow};

use crate::arguments::McpArguments;

/// Answers one agent, by standard input and output. What else there is to say goes to standard error.
pub(crate) async fn run(lake: Option<&Path>, arguments: &McpArguments) -> Result<()> {
    let config = super::config(lake)?;
    let _following = follow(LogFormat::Text, arguments.log.parse()?, None)?;
    let principal = match arguments.user.as_deref() {
        None => Principal::owner(),
        Some("anonymous") => Principal::anonymous(),
        Some(user) => Principal::user(user).with_groups(arguments.groups.iter().cloned()),
    };
    let limits = config.agents.limits.clone();
    over_stdio(Agents::of(config.engine()?, limits, principal)).await
}

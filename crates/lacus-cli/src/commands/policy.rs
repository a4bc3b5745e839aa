use std::path::Path;

use lacus::{Error, Kind, PolicyFile, Principal, Result};

use crate::arguments::PolicyCommand;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, command: PolicyCommand) -> Result<()> {
    let PolicyCommand::Check { sql, user, groups, scopes } = command;
    let config = super::config(lake)?;
    let file = config.policy.as_deref().ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, "this lake has no policy")
            .hint("write `file = \"policy.toml\"` under [policy] in the lake file")
    })?;
    let policy = PolicyFile::open(file)?.now();
    let engine = config.engine()?;
    let Some(sql) = sql else {
        let problems = engine.check_policy().await?;
        for problem in &problems {
            terminal::say(&problem.to_string());
        }
        if let Some(first) = problems.into_iter().next() {
            return Err(first);
        }
        return terminal::print(&format!("{}: version {}, {} rules", file.display(), policy.version(), policy.rules().len()));
    };
    let principal = if user == "anonymous" { Principal::anonymous() } else { Principal::user(&user) };
    let principal = principal.with_groups(groups).with_scopes(scopes);
    let report = engine.check_access(&sql, &principal).await?;
    terminal::print(&format!("policy: {}", policy.version()))?;
    for decided in &report.decided {
        let verdict = if decided.is_allowed { "allowed" } else { "denied" };
        terminal::print(&format!("{verdict}: {} on {}: {}", decided.privilege, decided.object, decided.by()))?;
    }
    if let Some(refused) = report.refused {
        return terminal::print(&format!("{user} is told: {refused}"));
    }
    terminal::print(report.plan.as_deref().unwrap_or_default().trim_end())
}

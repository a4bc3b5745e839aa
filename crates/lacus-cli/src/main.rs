//! The `lacus` command: the only place that talks to a terminal.

mod arguments;
mod commands;
mod door;
mod exit;
mod output;
mod progress;
mod shell;
mod terminal;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command, ROWS, RecordArguments, SqlArguments};

/// How long the end of a command waits for tasks that are under way.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    lacus_allocator::keep_memory_at_hand();
    let arguments = Arguments::parse();
    lacus_allocator::give_memory_back();
    let runtime = match lacus::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::fail(&error),
    };
    let outcome = runtime.block_on(run(arguments));
    // Tasks end and remove what they spilled; a read that hangs must not keep the process.
    runtime.shutdown_timeout(PATIENCE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::fail(&error),
    }
}

async fn run(arguments: Arguments) -> lacus::Result<()> {
    let (lake, connect) = (arguments.lake.as_deref(), arguments.connect.as_deref());
    let Some(command) = arguments.command else {
        return match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            true => shell::run(lake, connect).await,
            // Whoever pipes SQL in wants its result.
            false => commands::sql::run(lake, connect, SqlArguments { rows: ROWS, ..SqlArguments::default() }).await,
        };
    };
    if connect.is_some()
        && !matches!(
            command,
            Command::Sql(_) | Command::Verify(_) | Command::Cite(_) | Command::Provenance { .. } | Command::Catalog { .. }
        )
    {
        let error = lacus::Error::new(lacus::Kind::InvalidConfiguration, "only the shell and `sql` ask a server");
        return Err(error.hint("leave --connect out"));
    }
    match command {
        Command::Sql(sql) => commands::sql::run(lake, connect, sql).await,
        Command::Serve(serve) => commands::serve::run(lake, &serve).await,
        Command::Check(check) => commands::check::run(lake, &check).await,
        Command::Add(add) => commands::add::run(lake, add).await,
        Command::Datasets => commands::datasets::run(lake),
        Command::Describe(describe) => commands::describe::run(lake, &describe).await,
        Command::Index(index) => commands::index::run(lake, &index).await,
        Command::Cache(cache) => commands::cache::run(lake, cache),
        Command::Audit(audit) => commands::audit::run(lake, audit),
        Command::Verify(RecordArguments { record }) => commands::provenance::verify(lake, connect, &record).await,
        Command::Cite(RecordArguments { record }) => commands::provenance::cite(lake, connect, &record).await,
        Command::Provenance { record, form } => commands::provenance::print(lake, connect, &record.record, &form).await,
        Command::Catalog { dataset, form } => commands::catalog::run(lake, connect, dataset.as_deref(), &form).await,
        Command::Keys(keys) => commands::keys::run(lake, keys),
        Command::SiteKey => commands::site_key::run(lake),
        Command::Login(login) => commands::login::log_in(login).await,
        Command::Logout { server } => commands::login::log_out(&server),
        Command::Token { server } => commands::login::token(&server).await,
        Command::Mcp(mcp) => commands::mcp::run(lake, &mcp).await,
        Command::Policy(policy) => commands::policy::run(lake, policy).await,
        Command::Doctor(doctor) => commands::doctor::run(lake, &doctor).await,
        Command::HashPassword => commands::hash_password::run(),
        Command::Completions(completions) => commands::completions::run(&completions),
        Command::Man(man) => commands::man::run(&man),
    }
}

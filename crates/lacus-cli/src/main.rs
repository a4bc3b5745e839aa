//! The `lacus` command: the only place that talks to a terminal.

mod arguments;
mod commands;
mod exit;
mod output;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::fail(&lacus::Error::new(lacus::Kind::Internal, format!("no runtime: {error}"))),
    };
    let outcome = runtime.block_on(run(arguments));
    // A read that hangs must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::fail(&error),
    }
}

async fn run(arguments: Arguments) -> lacus::Result<()> {
    let lake = arguments.lake.as_deref();
    match arguments.command {
        Command::Sql(sql) => commands::sql::run(lake, sql).await,
        Command::Serve(serve) => commands::serve::run(lake, &serve).await,
        Command::Check(check) => commands::check::run(lake, &check).await,
        Command::Add(add) => commands::add::run(lake, add).await,
        Command::Datasets => commands::datasets::run(lake),
        Command::Describe(describe) => commands::describe::run(lake, &describe).await,
        Command::Index(index) => commands::index::run(lake, &index).await,
        Command::Doctor(doctor) => commands::doctor::run(lake, &doctor).await,
    }
}

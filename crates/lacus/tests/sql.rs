//! The SQL tests: every `.slt` file of `sql/`, through every door, with one answer.
//!
//! `LACUS_DOORS` names the doors: `embedded`, `flight`, `python` (needs `LACUS_PYTHON`, an interpreter that has the wheel) and `cli`
//! (needs `LACUS_BIN`; it keeps no DDL between statements, so it runs the TPC-H files). The default is the first two.
//! `LACUS_TPCH` is the folder of the TPC-H tables at scale factor 0.01; without it those files are ignored.
//! `LACUS_SLT_UPDATE=1` writes the answers of the embedded engine into the files, to be reviewed as a diff.
#![expect(clippy::print_stderr, reason = "a harness that can't start says so")]

#[path = "clients/processes.rs"]
mod clients;
#[path = "sql/doors.rs"]
mod doors;
#[path = "sql/files.rs"]
mod files;
#[path = "sql/lake.rs"]
mod lake;
#[path = "sql/values.rs"]
mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use sqllogictest::{Runner, default_column_validator, default_normalizer, default_validator};

use crate::doors::{Door, DoorKind};
use crate::files::files;
use crate::lake::Lakes;

type TestResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match trials() {
        Ok((trials, _runtime)) => libtest_mimic::run(&Arguments::from_args(), trials).exit_code(),
        Err(error) => {
            eprintln!("the SQL tests can't start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> TestResult<(Vec<Trial>, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build()?;
    let lakes = Arc::new(runtime.block_on(Lakes::start())?);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sql").canonicalize()?;
    let update = std::env::var("LACUS_SLT_UPDATE").is_ok();
    let kinds = if update { vec![DoorKind::Embedded] } else { DoorKind::requested()? };
    let mut trials = Vec::new();
    for file in files(&root)? {
        let name = file.strip_prefix(&root)?.with_extension("").display().to_string();
        let is_tpch = name.starts_with("tpch");
        for kind in kinds.iter().copied().filter(|kind| *kind != DoorKind::Cli || is_tpch) {
            let (lakes, file, handle) = (Arc::clone(&lakes), file.clone(), runtime.handle().clone());
            let run = move || handle.block_on(run(&lakes, kind, &file, is_tpch, update && !is_tpch));
            trials.push(Trial::test(format!("{name} [{kind}]"), run).with_ignored_flag(is_tpch && lakes_without_tpch()));
        }
    }
    Ok((trials, runtime))
}

fn lakes_without_tpch() -> bool {
    std::env::var_os("LACUS_TPCH").is_none()
}

async fn run(lakes: &Lakes, kind: DoorKind, file: &Path, is_tpch: bool, update: bool) -> Result<(), Failed> {
    let makes_tables = file.parent().is_some_and(|folder| folder.ends_with("tables"));
    let source = match (is_tpch, makes_tables) {
        (true, _) => lakes.tpch(),
        (_, true) => lakes.tables().map_err(|error| Failed::from(error.to_string()))?,
        _ => lakes.fusion(),
    };
    let mut runner = Runner::new(|| Door::open(kind, &source));
    runner.add_label(kind.name());
    if is_tpch {
        runner.with_validator(values::close_enough);
    }
    if update {
        let updated = runner.update_test_file(file, " ", default_validator, default_normalizer, default_column_validator).await;
        return updated.map_err(|error| Failed::from(error.to_string()));
    }
    runner.run_file_async(file).await.map_err(|error| Failed::from(error.display(false).to_string()))
}

//! The reference pages that are generated from the code: `make docs` writes them, this test compares.

use std::fmt::Write as _;
use std::path::PathBuf;

use lacus::{Kind, reference};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn same_or_write(page: &str, text: &str) -> TestResult {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    if std::env::var("LACUS_WRITE_REFERENCE").is_ok() {
        std::fs::write(&path, text)?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/{page} is not what the code says: run `make docs`");
    Ok(())
}

#[test]
fn the_lake_file() -> TestResult {
    let mut page = String::from("# The lake file\n\nEvery key of `lacus.toml`. Generated from the code by `make docs`.\n");
    let mut section = "";
    for option in reference() {
        if option.section != section {
            section = option.section;
            write!(page, "\n## `{section}`\n\n| key | default | meaning |\n|---|---|---|\n")?;
        }
        writeln!(page, "| `{}` | {} | {} |", option.key, option.default, option.doc.trim())?;
    }
    same_or_write("lake-file.md", &page)
}

#[test]
fn the_kinds_of_errors() -> TestResult {
    let status = |kind| format!("{:?}", lacus_flight::to_status(&lacus::Error::new(kind, "")).code());
    let mut page = String::from("# Errors\n\nEvery kind, and what it becomes at each edge. Generated from the code by `make docs`.\n\n");
    page.push_str(
        "The code is `x-error-code` in the headers of Flight SQL and `.code` in Python; `lacus --help` lists the exit codes.\n\n",
    );
    page.push_str("| code | gRPC status |\n|---|---|\n");
    for kind in Kind::ALL {
        writeln!(page, "| `{}` | {} |", kind.code(), status(kind))?;
    }
    same_or_write("errors.md", &page)
}

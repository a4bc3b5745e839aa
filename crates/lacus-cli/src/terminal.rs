//! What is said to the person: messages on standard error, results on standard output.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use lacus::Error;

use crate::exit;

/// Says what went wrong in one line, and gives the exit code.
pub(crate) fn fail(error: &Error) -> ExitCode {
    say(&format!("lacus: {error}"));
    ExitCode::from(exit::code(error.kind()))
}

/// A line on standard error. That nobody reads it is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A line on standard output.
pub(crate) fn print(line: &str) -> lacus::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| crate::output::unwritable(&error))
}

/// A text of many lines on standard output.
pub(crate) fn print_bytes(text: &[u8]) -> lacus::Result<()> {
    std::io::stdout().lock().write_all(text).map_err(|error| crate::output::unwritable(&error))
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

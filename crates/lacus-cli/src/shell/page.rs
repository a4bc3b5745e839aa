//! What is larger than the screen is shown by a pager.

use std::io::Write;
use std::process::{Command, Stdio};

use lacus::Result;

use crate::terminal;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Shows `text`, through the pager when it does not fit into `size`.
pub(crate) fn show(text: &str, size: Option<Size>) -> Result<()> {
    let fits = |size: Size| text.lines().count() < size.rows && text.lines().all(|line| line.chars().count() <= size.columns);
    match size {
        Some(size) if !fits(size) && paged(text) => Ok(()),
        _ => terminal::print(text.trim_end_matches('\n')),
    }
}

/// Whether a pager took the text: `$PAGER`, else `less` with long lines cut, so that a table stays a table.
fn paged(text: &str) -> bool {
    let chosen = std::env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty());
    let mut command = match &chosen {
        Some(pager) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", pager]);
            shell
        }
        None => {
            let mut less = Command::new("less");
            less.args(["--chop-long-lines", "--RAW-CONTROL-CHARS", "--quit-if-one-screen", "--no-init"]);
            less
        }
    };
    let Ok(mut pager) = command.env("LESSCHARSET", "utf-8").stdin(Stdio::piped()).spawn() else { return false };
    if let Some(mut input) = pager.stdin.take() {
        // A person who has seen enough closes the pager before the end.
        let _ = input.write_all(text.as_bytes());
    }
    pager.wait().is_ok_and(|status| status.success())
}

use std::path::Path;

use lacus::{Error, Kind, Result, Verified, verify};

use crate::arguments::AuditCommand;
use crate::terminal;

pub(crate) fn run(lake: Option<&Path>, command: AuditCommand) -> Result<()> {
    let AuditCommand::Verify { file, noted } = command;
    let file = match file {
        Some(file) => file,
        None => super::config(lake)?.audit.map(|(file, _)| file).ok_or_else(|| {
            let error = Error::new(Kind::InvalidConfiguration, "nothing is recorded in this lake");
            error.hint("write `file = \"audit.jsonl\"` under [audit] in the lake file, or name a file here")
        })?,
    };
    let Verified { records, hash } = verify(&file, noted.as_deref())?;
    terminal::print(&format!("{}: {records} records, as they were written\nlast: {hash}", file.display()))
}

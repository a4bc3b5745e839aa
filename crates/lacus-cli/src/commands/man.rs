use std::path::Path;

use clap::CommandFactory;
use lacus::Result;

use crate::arguments::{Arguments, ManArguments};
use crate::output::unwritable;
use crate::terminal;

pub(crate) fn run(arguments: &ManArguments) -> Result<()> {
    match &arguments.output {
        Some(folder) => write(folder).map_err(|error| unwritable(&error).with("folder", folder.display())),
        None => {
            let mut page = Vec::new();
            // `lacus help` has no page to point to.
            let command = Arguments::command().disable_help_subcommand(true);
            clap_mangen::Man::new(command).render(&mut page).map_err(|error| unwritable(&error))?;
            terminal::print_bytes(&page)
        }
    }
}

/// A page for each command: `lacus.1`, `lacus-sql.1`, `lacus-index-build.1`, ...
fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}

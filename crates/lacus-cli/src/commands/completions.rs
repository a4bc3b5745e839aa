use clap::CommandFactory;
use lacus::Result;

use crate::arguments::{Arguments, CompletionsArguments};
use crate::terminal;

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<()> {
    // It would panic where its sink fails, and memory doesn't.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "lacus", &mut script);
    terminal::print_bytes(&script)
}

use std::io::{BufRead, IsTerminal};

use lacus::{Error, Kind, Result};

use crate::terminal;

/// Prints the hash of the password that stands in the first line of standard input, for a lake file.
pub(crate) fn run() -> Result<()> {
    let input = std::io::stdin();
    if input.is_terminal() {
        // A password that is typed is seen by whoever looks on.
        terminal::say("type the password and press Enter; it is seen on the screen, so a pipe or a file is better");
    }
    let mut password = String::new();
    input.lock().read_line(&mut password).map_err(|error| Error::new(Kind::Unavailable, format!("no password could be read: {error}")))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Error::new(Kind::InvalidConfiguration, "the password is empty").hint("write it into standard input"));
    }
    terminal::print(&lacus_server::hash_password(password)?)
}

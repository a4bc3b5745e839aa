use std::path::Path;
use std::time::SystemTime;

use lacus::{Error, Kind, Result};
use lacus_identity::{KeyFile, NewKey};

use crate::arguments::KeysCommand;
use crate::terminal;

pub(crate) fn run(lake: Option<&Path>, command: KeysCommand) -> Result<()> {
    let config = super::config(lake)?;
    let file = config.keys.as_ref().ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, "this lake gives out no keys")
            .hint("write `keys = \"keys.toml\"` under [serve] in the lake file")
    })?;
    let keys = KeyFile::open(file)?;
    match command {
        KeysCommand::Create { user, groups, scopes, expires, note } => {
            let expires = expires.map(|time| lacus::duration(&time, "--expires")).transpose()?.map(|time| SystemTime::now() + time);
            let (id, key) = keys.create(NewKey { user, groups, scopes, expires, note })?;
            terminal::say(&format!("lacus: the key {id}, which is shown this once:"));
            terminal::print(&key)
        }
        KeysCommand::List => {
            for (id, key) in keys.keys()?.iter() {
                let expires =
                    key.expires.map_or_else(|| "does not expire".to_owned(), |expires| format!("expires {}", expires.to_rfc3339()));
                let scopes = if key.scopes.is_empty() { String::new() } else { format!(", for {}", join(&key.scopes)) };
                let groups = if key.groups.is_empty() { String::new() } else { format!(", in {}", join(&key.groups)) };
                let note = key.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                terminal::print(&format!("{id}  {}{groups}{scopes}, {expires}{note}", key.user))?;
            }
            Ok(())
        }
        KeysCommand::Revoke { id } => keys.revoke(&id),
    }
}

fn join(all: &std::collections::BTreeSet<String>) -> String {
    all.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

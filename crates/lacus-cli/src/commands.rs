//! One module a command.

pub(crate) mod add;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod datasets;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod hash_password;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod policy;
pub(crate) mod provenance;
pub(crate) mod serve;
pub(crate) mod site_key;
pub(crate) mod sql;

use std::path::Path;

use lacus::{Config, Result};

/// The configuration that `--lake` names, or the one found from the working folder upward.
pub(crate) fn config(lake: Option<&Path>) -> Result<Config> {
    match lake {
        Some(path) => Config::load(path),
        None => Config::discover(&std::env::current_dir().unwrap_or_default()),
    }
}

use std::path::Path;

use lacus::{CacheStatus, Error, Kind, Result};

use crate::arguments::CacheCommand;
use crate::terminal;

pub(crate) fn run(lake: Option<&Path>, command: CacheCommand) -> Result<()> {
    let Some(cache) = super::config(lake)?.cache else {
        let error = Error::new(Kind::InvalidConfiguration, "nothing is kept of remote stores in this lake");
        return Err(error.hint("write `disk = \"10 GiB\"` under [cache] in the lake file"));
    };
    let folder = cache.folder.display();
    match command {
        CacheCommand::Status => {
            let CacheStatus { bytes, blocks, in_use } = cache.status()?;
            let used = if in_use { "; in use" } else { "" };
            let percent = bytes as f64 * 100. / cache.bytes as f64;
            terminal::print(&format!("{folder}: {bytes} of {} bytes ({percent:.1}%) in {blocks} blocks{used}", cache.bytes))
        }
        CacheCommand::Clear => {
            let CacheStatus { bytes, blocks, .. } = cache.clear()?;
            terminal::print(&format!("{folder}: {bytes} bytes in {blocks} blocks removed"))
        }
    }
}

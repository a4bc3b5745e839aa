use std::path::Path;

use lacus::{Error, Kind, Result};
use lacus_identity::Hub;

use crate::terminal;

pub(crate) fn run(lake: Option<&Path>) -> Result<()> {
    let config = super::config(lake)?;
    let spec = config.hub.ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, "this lake asks sites on behalf of its owner alone").hint(
            "write `name = \"https://hub.lab.example\"` and `key = \"site.key\"` under [federation] in the lake file, and `audience` under each [site.NAME]",
        )
    })?;
    let hub = Hub::new(spec);
    hub.make_key()?;
    terminal::print(&hub.public_keys()?)
}

//! A folder of another machine, by SFTP: through the `ssh` of this machine, so that its configuration, its known hosts, agents and jump
//! hosts hold.

use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;
use object_store_opendal::OpendalStore;
use opendal::Operator;
use opendal::services::Sftp;

use crate::SftpSpec;

pub(crate) fn open(spec: &SftpSpec) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = Sftp::default().endpoint(&format!("ssh://{}", spec.host)).root(&spec.folder).known_hosts_strategy("strict");
    if let Some(user) = &spec.user {
        builder = builder.user(user);
    }
    if let Some(key) = &spec.key {
        builder = builder.key(&key.display().to_string());
    }
    let operator = Operator::new(builder).map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the SFTP store can't be used: {error}")).with("host", &spec.host)
    })?;
    Ok(Arc::new(OpendalStore::new(operator)))
}

//! A bucket of Google Cloud Storage as an object store.

use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;

use crate::{GoogleCredentials, GoogleSpec, StoreSpec, network};

pub(crate) fn open(store: &StoreSpec, spec: &GoogleSpec) -> Result<Arc<dyn ObjectStore>> {
    let plain = spec.endpoint.as_deref().is_some_and(network::is_plain);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&spec.bucket)
        .with_client_options(network::options(store, plain)?)
        .with_retry(network::retry(store));
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder = match &spec.credentials {
        GoogleCredentials::Anonymous => builder.with_skip_signature(true),
        GoogleCredentials::File(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                let error = Error::new(Kind::PermissionDenied, format!("the credentials can't be read: {error}"));
                error.with("file", file.display())
            })?;
            let path = file.display().to_string();
            // What `gcloud auth` writes is of another kind than the key of a service account.
            if text.contains("\"authorized_user\"") {
                builder.with_application_credentials(path)
            } else {
                builder.with_service_account_path(path)
            }
        }
    };
    let store = builder.build().map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the Google store can't be used: {error}")).with("bucket", &spec.bucket)
    })?;
    Ok(Arc::new(store))
}

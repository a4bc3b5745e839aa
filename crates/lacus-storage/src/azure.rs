//! A container of Azure Blob Storage as an object store.

use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::{AzureCredentials, AzureSpec, StoreSpec, network};

pub(crate) fn open(store: &StoreSpec, spec: &AzureSpec) -> Result<Arc<dyn ObjectStore>> {
    let plain = spec.endpoint.as_deref().is_some_and(network::is_plain);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&spec.account)
        .with_container_name(&spec.container)
        .with_client_options(network::options(store, plain)?)
        .with_allow_http(plain)
        .with_retry(network::retry(store));
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder = match &spec.credentials {
        AzureCredentials::Anonymous => builder.with_skip_signature(true),
        AzureCredentials::Key(key) => builder.with_access_key(key.reveal()),
        AzureCredentials::Signature(signature) => builder.with_config(AzureConfigKey::SasKey, signature.reveal()),
        AzureCredentials::WebIdentity { token_file, client, tenant } => {
            builder.with_federated_token_file(token_file.display().to_string()).with_client_id(client).with_tenant_id(tenant)
        }
    };
    let store = builder.build().map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the Azure store can't be used: {error}")).with("container", &spec.container)
    })?;
    Ok(Arc::new(store))
}

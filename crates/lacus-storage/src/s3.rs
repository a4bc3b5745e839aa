//! An S3-compatible server as an object store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use configparser::ini::Ini;
use lacus_core::{Error, Kind, Result, nearest};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::{CredentialProvider, ObjectStore};

use crate::reads::held;
use crate::{Credentials, S3Spec, StoreSpec, network};

pub(crate) fn open(store: &StoreSpec, spec: &S3Spec) -> Result<Arc<dyn ObjectStore>> {
    let plain = spec.endpoint.as_deref().is_some_and(network::is_plain);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&spec.bucket)
        .with_region(&spec.region)
        .with_virtual_hosted_style_request(!spec.path_style)
        .with_request_payer(spec.requester_pays)
        .with_client_options(network::options(store, plain)?)
        .with_retry(network::retry(store));
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(plain);
    }
    builder = match &spec.credentials {
        Credentials::Anonymous => builder.with_skip_signature(true),
        Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            let keyed = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key.reveal());
            match session_token {
                Some(token) => keyed.with_token(token.reveal()),
                None => keyed,
            }
        }
        Credentials::File { file, profile } => builder.with_credentials(Arc::new(KeysInFile::open(file, profile)?)),
        Credentials::WebIdentity { token_file, role, session, sts } => {
            let builder = builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file.display().to_string())
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::RoleSessionName, session);
            match sts {
                Some(sts) => builder.with_config(AmazonS3ConfigKey::StsEndpoint, sts),
                None => builder,
            }
        }
    };
    let store: AmazonS3 = builder.build().map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the S3 store can't be used: {error}")).with("bucket", &spec.bucket)
    })?;
    Ok(Arc::new(store))
}

/// Keys in a file, in the form of the AWS tools, read again when the file changes: whoever renews keys writes them there.
#[derive(Debug)]
struct KeysInFile {
    file: PathBuf,
    profile: String,
    known: Mutex<(SystemTime, Arc<AwsCredential>)>,
}

impl KeysInFile {
    fn open(file: &Path, profile: &str) -> Result<Self> {
        let known = Mutex::new(read(file, profile)?);
        Ok(Self { file: file.to_owned(), profile: profile.to_owned(), known })
    }
}

#[async_trait]
impl CredentialProvider for KeysInFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut known = held(&self.known);
        if modified(&self.file).is_none_or(|time| time != known.0) {
            *known =
                read(&self.file, &self.profile).map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        }
        Ok(Arc::clone(&known.1))
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

/// The keys of a profile. No error holds a value of the file.
fn read(file: &Path, profile: &str) -> Result<(SystemTime, Arc<AwsCredential>)> {
    let wrong = |kind: Kind, why: String| Error::new(kind, why).with("file", file.display());
    // The time comes first: a file that changes meanwhile is read again.
    let time = modified(file).unwrap_or(SystemTime::UNIX_EPOCH);
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(Kind::PermissionDenied, format!("the credentials can't be read: {error}")))?;
    let mut ini = Ini::new_cs();
    ini.read(text).map_err(|_| wrong(Kind::InvalidConfiguration, "this is no file of credentials".to_owned()))?;
    let sections = ini.sections();
    if !sections.iter().any(|section| section == profile) {
        let error = wrong(Kind::PermissionDenied, format!("no profile `{profile}`"));
        return Err(match nearest(profile, sections.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("write [{profile}] with aws_access_key_id and aws_secret_access_key")),
        });
    }
    let needed = |key: &str| {
        let value = ini.get(profile, key).filter(|value| !value.is_empty());
        value.ok_or_else(|| wrong(Kind::PermissionDenied, format!("the profile `{profile}` has no {key}")))
    };
    let keys = AwsCredential {
        key_id: needed("aws_access_key_id")?,
        secret_key: needed("aws_secret_access_key")?,
        token: ini.get(profile, "aws_session_token"),
    };
    Ok((time, Arc::new(keys)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_and_missing_ones_named() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("credentials");
        std::fs::write(&file, "[default]\naws_access_key_id = A\naws_secret_access_key = s/+=\n[beam]\naws_access_key_id=B\n")?;
        let (_, keys) = read(&file, "default")?;
        assert_eq!((keys.key_id.as_str(), keys.secret_key.as_str(), &keys.token), ("A", "s/+=", &None));
        let said = |profile: &str| read(&file, profile).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said("bean").contains("no profile `bean`") && said("bean").contains("did you mean `beam`?"), "{}", said("bean"));
        assert!(said("beam").contains("has no aws_secret_access_key"), "{}", said("beam"));
        Ok(())
    }
}

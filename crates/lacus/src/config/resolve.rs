//! Written -> resolved: the one place where defaults, the environment and paths are decided.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lacus_core::{ColumnSpec, DatasetName, DatasetSpec, Error, Kind, Location, OptionValue, Result, StoreName, nearest};
use lacus_engine::Limits;
use lacus_storage::{Credentials, Place, S3Spec, Secret, StoreSpec};

use super::values;
use super::written::{DatasetSection, LakeFile, LimitsSection, StoreSection};
use crate::Config;

const LISTEN: &str = "127.0.0.1:50051";
const REGION: &str = "us-east-1";
const STATE: &str = ".lacus";

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(crate) fn resolve(written: LakeFile, base: PathBuf, environment: Environment<'_>) -> Result<Config> {
    let expand = |text: &Option<String>, key: &str| text.as_deref().map(|text| values::expand(text, key, environment)).transpose();
    let has_file = !written.lake.is_empty() || !written.store.is_empty() || !written.dataset.is_empty();
    let written_state = expand(&written.lake.state, "lake.state")?;
    let state_is_written = written_state.is_some();
    let beside = has_file.then(|| STATE.to_owned());
    let state = written_state.or(beside).map(|state| base.join(state));
    let stores = written.store.iter().map(|(name, section)| store(name, section, &base, environment)).collect::<Result<Vec<_>>>()?;
    let datasets =
        written.dataset.iter().map(|(name, section)| dataset(name, section, &stores, environment)).collect::<Result<Vec<_>>>()?;
    let lake = expand(&written.lake.name, "lake.name")?.unwrap_or_else(|| "lake".to_owned());
    let write_to = expand(&written.lake.write_to, "lake.write_to")?.map(|name| write_to(&name, &stores)).transpose()?;
    DatasetName::new(&lake).map_err(|error| error.with("key", "lake.name"))?;
    Ok(Config {
        file: None,
        limits: limits(&written.limits)?,
        listen: expand(&written.serve.listen, "serve.listen")?.unwrap_or_else(|| LISTEN.to_owned()),
        buckets: buckets(environment)?,
        base,
        lake,
        state,
        state_is_written,
        write_to,
        stores,
        datasets,
    })
}

impl super::written::LakeSection {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.state.is_none() && self.write_to.is_none()
    }
}

/// The store that is written to: a mistake in it is found when the lake is opened, not when a result is to be kept.
fn write_to(name: &str, stores: &[StoreSpec]) -> Result<StoreName> {
    let in_key = |error: Error| error.with("key", "lake.write_to");
    let store = StoreName::new(name).map_err(in_key)?;
    known_store(&store, stores).map_err(in_key)?;
    if stores.iter().any(|known| known.name == store && known.writable) {
        return Ok(store);
    }
    let error = Error::new(Kind::InvalidConfiguration, format!("the store `{store}` can be read, not written"));
    Err(in_key(error.hint(format!("write `writable = true` under [store.{store}]"))))
}

fn limits(written: &LimitsSection) -> Result<Limits> {
    let defaults = Limits::default();
    Ok(Limits {
        memory: values::memory(written.memory.as_deref().unwrap_or("60%"), "limits.memory")?,
        spill_directory: None,
        spill: written.spill.as_deref().map_or(Ok(defaults.spill), |text| values::bytes(text, "limits.spill"))?,
        deadline: written.deadline.as_deref().map_or(Ok(defaults.deadline), |text| values::duration(text, "limits.deadline"))?,
    })
}

fn store(name: &str, section: &StoreSection, base: &Path, environment: Environment<'_>) -> Result<StoreSpec> {
    let key = |option: &str| format!("store.{name}.{option}");
    let text =
        |value: &Option<String>, option: &str| value.as_deref().map(|value| values::expand(value, &key(option), environment)).transpose();
    let store_name = StoreName::new(name)?;
    let url = text(&section.url, "url")?.ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, format!("store `{name}` has no `url`")).hint("write `url = \"s3://bucket\"` or a folder")
    })?;
    let place = match Location::parse(&url).map_err(|error| error.with("key", key("url")))? {
        Location::Url { scheme, rest } if scheme == "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((&rest, ""));
            let endpoint = text(&section.endpoint, "endpoint")?.map(|endpoint| server(endpoint, &key("endpoint"))).transpose()?;
            let region = text(&section.region, "region")?.or_else(|| environment("AWS_REGION")).unwrap_or_else(|| REGION.to_owned());
            let spec = |credentials| S3Spec {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
                path_style: section.path_style.unwrap_or(endpoint.is_some()),
                endpoint: endpoint.clone(),
                region: region.clone(),
                credentials,
            };
            match credentials(name, section, environment) {
                Ok(credentials) => Place::S3(spec(credentials)),
                // A key that is missing from this environment must not keep the rest of the lake from being used.
                Err(error) if error.kind() == Kind::PermissionDenied => Place::Broken(error),
                Err(error) => return Err(error),
            }
        }
        Location::Url { scheme, rest } if scheme == "file" => Place::Folder(PathBuf::from(rest)),
        Location::Url { scheme, .. } => {
            return Err(Error::new(Kind::Unsupported, format!("`{scheme}://` can't be a store yet"))
                .with("key", key("url"))
                .hint("use s3:// with any S3-compatible server, or a folder"));
        }
        Location::Path(path) => Place::Folder(base.join(path)),
        Location::Store { .. } => {
            return Err(Error::new(Kind::InvalidConfiguration, "a store can't lie in another store").with("key", key("url")));
        }
    };
    let timeout = text(&section.timeout, "timeout")?;
    Ok(StoreSpec {
        name: store_name,
        place,
        timeout: timeout.map_or(Ok(StoreSpec::TIMEOUT), |text| values::duration(&text, &key("timeout")))?,
        retries: section.retries.unwrap_or(StoreSpec::RETRIES),
        writable: section.writable.unwrap_or(false),
    })
}

fn credentials(name: &str, section: &StoreSection, environment: Environment<'_>) -> Result<Credentials> {
    let key = |option: &str| format!("store.{name}.{option}");
    if let (Some(id), Some(secret)) = (&section.access_key_id, &section.secret_access_key) {
        let token = section.session_token.as_deref().map(|token| values::expand(token, &key("session_token"), environment)).transpose()?;
        return Ok(Credentials::Keys {
            access_key_id: values::expand(id, &key("access_key_id"), environment)?,
            secret_access_key: Secret::new(values::expand(secret, &key("secret_access_key"), environment)?),
            session_token: token.map(Secret::new),
        });
    }
    if section.access_key_id.is_some() || section.secret_access_key.is_some() {
        if let Some(secret) = &section.secret_access_key {
            values::expand(secret, &key("secret_access_key"), environment)?;
        }
        return Err(Error::new(Kind::InvalidConfiguration, format!("store `{name}` has half an access key"))
            .hint("give both `access_key_id` and `secret_access_key`"));
    }
    match section.credentials.as_deref().unwrap_or("env") {
        "anonymous" => Ok(Credentials::Anonymous),
        "env" => from_environment("AWS", environment).ok_or_else(|| no_keys(name, "AWS")),
        other => match other.split_once(':') {
            Some(("env", prefix)) => from_environment(prefix, environment).ok_or_else(|| no_keys(name, prefix)),
            _ => Err(unknown_credentials(&key("credentials"), other)),
        },
    }
}

fn unknown_credentials(key: &str, written: &str) -> Error {
    if written == "web-identity" || written.starts_with("profile:") || written.starts_with("file:") {
        return Error::new(Kind::Unsupported, format!("credentials `{written}` are not built yet"))
            .with("key", key)
            .hint("use `env:PREFIX`");
    }
    let error = Error::new(Kind::InvalidConfiguration, format!("no credentials `{written}`")).with("key", key);
    match nearest(written, ["env", "anonymous"]) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("write `env`, `env:PREFIX` or `anonymous`"),
    }
}

fn no_keys(store: &str, prefix: &str) -> Error {
    Error::new(
        Kind::PermissionDenied,
        format!("store `{store}` has no credentials: {prefix}_ACCESS_KEY_ID and {prefix}_SECRET_ACCESS_KEY are not set"),
    )
    .hint("export them, or write `credentials = \"anonymous\"` for a public bucket")
}

fn from_environment(prefix: &str, environment: Environment<'_>) -> Option<Credentials> {
    let value = |name: &str| environment(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
    Some(Credentials::Keys {
        access_key_id: value("ACCESS_KEY_ID")?,
        secret_access_key: Secret::new(value("SECRET_ACCESS_KEY")?),
        session_token: value("SESSION_TOKEN").map(Secret::new),
    })
}

/// How an `s3://` URL is read that no store covers: as the AWS tools would, anonymously when there are no keys.
fn buckets(environment: Environment<'_>) -> Result<S3Spec> {
    let named = |name: &'static str| environment(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    let endpoint = named("AWS_ENDPOINT_URL_S3").or_else(|| named("AWS_ENDPOINT_URL")).or_else(|| named("AWS_ENDPOINT"));
    let endpoint = endpoint.map(|(name, endpoint)| server(endpoint, name)).transpose()?;
    Ok(S3Spec {
        bucket: String::new(),
        prefix: String::new(),
        path_style: endpoint.is_some(),
        endpoint,
        region: environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION")).unwrap_or_else(|| REGION.to_owned()),
        credentials: from_environment("AWS", environment).unwrap_or(Credentials::Anonymous),
    })
}

/// An endpoint with its scheme: without one, the S3 client can't tell whether to encrypt.
fn server(endpoint: String, key: &str) -> Result<String> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://")).unwrap_or_default();
    let plain = |next: char| next.is_ascii_alphanumeric() || ".-_:/[]".contains(next);
    if host.is_empty() || host.starts_with('/') || !host.chars().all(plain) {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`{endpoint}` is no address of an S3 server"))
            .with("key", key)
            .hint("write it as https://s3.lab.example"));
    }
    Ok(endpoint)
}

fn dataset(name: &str, section: &DatasetSection, stores: &[StoreSpec], environment: Environment<'_>) -> Result<(DatasetName, DatasetSpec)> {
    let key = |option: &str| format!("dataset.{name}.{option}");
    let dataset_name = DatasetName::new(name)?;
    let path = section.path.as_deref().ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, format!("dataset `{name}` has no `path`")).hint("write `path = \"store:folder/**\"`")
    })?;
    let location = Location::parse(&values::expand(path, &key("path"), environment)?).map_err(|error| error.with("key", key("path")))?;
    if let Location::Store { store, .. } = &location {
        known_store(store, stores).map_err(|error| error.with("key", key("path")))?;
    }
    let mut spec = DatasetSpec::new(name, location);
    spec.format = section.format.as_deref().map(str::to_lowercase);
    spec.options =
        section.options.iter().map(|(option, value)| Ok((option.clone(), option_value(&key(option), value)?))).collect::<Result<_>>()?;
    spec.partitions.clone_from(&section.partitions);
    spec.description.clone_from(&section.description);
    spec.license.clone_from(&section.license);
    spec.doi.clone_from(&section.doi);
    spec.contact.clone_from(&section.contact);
    let column = |(name, column): (&String, &super::written::ColumnSection)| {
        (name.clone(), ColumnSpec { description: column.description.clone(), unit: column.unit.clone() })
    };
    spec.columns = section.columns.iter().map(column).collect::<BTreeMap<_, _>>();
    Ok((dataset_name, spec))
}

fn known_store(store: &StoreName, stores: &[StoreSpec]) -> Result<()> {
    if stores.iter().any(|known| known.name == *store) {
        return Ok(());
    }
    let error = Error::new(Kind::InvalidConfiguration, format!("no store `{store}`"));
    Err(match nearest(store.as_str(), stores.iter().map(|known| known.name.as_str())) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("declare [store.{store}]")),
    })
}

fn option_value(key: &str, value: &toml::Value) -> Result<OptionValue> {
    match value {
        toml::Value::String(text) => Ok(OptionValue::Text(text.clone())),
        toml::Value::Integer(number) => Ok(OptionValue::Integer(*number)),
        toml::Value::Boolean(value) => Ok(OptionValue::Boolean(*value)),
        other => Err(Error::new(
            Kind::InvalidConfiguration,
            format!("`{key}` is a {}, but must be text, a whole number, true or false", other.type_str()),
        )),
    }
}

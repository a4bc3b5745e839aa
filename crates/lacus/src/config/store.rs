//! A `[store.NAME]` section -> where bytes lie and who asks for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lacus_core::{Error, Kind, Location, Result, Secret, StoreName, amount, nearest};
use lacus_storage::{
    AzureCredentials, AzureSpec, Credentials, GoogleCredentials, GoogleSpec, Listing, Network, Place, S3Spec, SftpSpec, StoreSpec, Unnamed,
    WebCredentials, WebSpec,
};

use super::resolve::Environment;
use super::values;
use super::written::StoreSection;

const REGION: &str = "us-east-1";

/// One section with what it is read against.
struct Written<'a> {
    name: &'a str,
    section: &'a StoreSection,
    base: &'a Path,
    environment: Environment<'a>,
}

pub(crate) fn store(name: &str, section: &StoreSection, base: &Path, environment: Environment<'_>) -> Result<StoreSpec> {
    let written = Written { name, section, base, environment };
    let store_name = StoreName::new(name)?;
    let url = written.text(&section.url, "url")?.ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, format!("store `{name}` has no `url`")).hint("write `url = \"s3://bucket\"` or a folder")
    })?;
    let place = match written.place(&url) {
        // A key that is missing from this environment must not keep the rest of the lake from being used.
        Err(error) if error.kind() == Kind::PermissionDenied => Place::Broken(error),
        place => place?,
    };
    written.check_keys(&place)?;
    let timeout = written.text(&section.timeout, "timeout")?;
    let listing_ttl = written.text(&section.listing_ttl, "listing_ttl")?;
    Ok(StoreSpec {
        name: store_name,
        place,
        timeout: timeout.map_or(Ok(StoreSpec::TIMEOUT), |text| amount::duration(&text, &written.key("timeout")))?,
        retries: section.retries.unwrap_or(StoreSpec::RETRIES),
        writable: section.writable.unwrap_or(false),
        cache: section.cache.unwrap_or(true),
        listing_ttl: listing_ttl.map_or(Ok(Duration::ZERO), |text| amount::duration(&text, &written.key("listing_ttl")))?,
        network: Network {
            ca: written.text(&section.ca, "ca")?.map(|file| base.join(file)),
            proxy: written.text(&section.proxy, "proxy")?,
        },
    })
}

impl Written<'_> {
    fn key(&self, option: &str) -> String {
        format!("store.{}.{option}", self.name)
    }

    fn text(&self, value: &Option<String>, option: &str) -> Result<Option<String>> {
        value.as_deref().map(|value| values::expand(value, &self.key(option), self.environment)).transpose()
    }

    fn endpoint(&self) -> Result<Option<String>> {
        self.text(&self.section.endpoint, "endpoint")?.map(|endpoint| server(endpoint, &self.key("endpoint"))).transpose()
    }

    fn variable(&self, prefix: &str, name: &str) -> Option<String> {
        (self.environment)(&format!("{prefix}_{name}")).filter(|value| !value.is_empty())
    }

    fn place(&self, url: &str) -> Result<Place> {
        let (scheme, rest) = match Location::parse(url).map_err(|error| error.with("key", self.key("url")))? {
            Location::Url { scheme, rest } => (scheme, rest),
            Location::Path(path) => return Ok(Place::Folder(self.base.join(path))),
            Location::Store { .. } => {
                return Err(Error::new(Kind::InvalidConfiguration, "a store can't lie in another store").with("key", self.key("url")));
            }
        };
        let (first, below) = rest.split_once('/').unwrap_or((&rest, ""));
        let (first, prefix) = (first.to_owned(), below.trim_matches('/').to_owned());
        match scheme.as_str() {
            "file" => Ok(Place::Folder(PathBuf::from(rest))),
            "s3" | "s3a" => self.s3(first, prefix).map(Place::S3),
            "gs" | "gcs" => {
                let credentials = self.google_credentials()?;
                Ok(Place::Google(GoogleSpec { bucket: first, prefix, endpoint: self.endpoint()?, credentials }))
            }
            "az" | "azure" => self.azure(first, prefix).map(Place::Azure),
            "http" | "https" | "dav" | "davs" => self.web(&scheme, &rest).map(Place::Web),
            "sftp" => Ok(Place::Sftp(SftpSpec {
                host: first,
                folder: format!("/{prefix}"),
                user: self.text(&self.section.user, "user")?,
                key: self.sftp_key()?,
            })),
            _ => {
                let known = ["s3", "gs", "az", "https", "http", "davs", "dav", "sftp", "file"];
                let error = Error::new(Kind::Unsupported, format!("`{scheme}://` can't be a store")).with("key", self.key("url"));
                Err(match nearest(&scheme, known) {
                    Some(near) => error.hint(format!("did you mean `{near}://`?")),
                    None => error.hint(format!("use {}:// or a folder", known.join("://, "))),
                })
            }
        }
    }

    /// Refuses keys that mean nothing for a kind of store: one that is written for nothing is a mistake.
    fn check_keys(&self, place: &Place) -> Result<()> {
        let section = self.section;
        let (kind, known): (&str, &[&str]) = match place {
            Place::S3(_) => (
                "an S3 store",
                &[
                    "endpoint",
                    "region",
                    "credentials",
                    "access_key_id",
                    "secret_access_key",
                    "session_token",
                    "path_style",
                    "requester_pays",
                    "ca",
                    "proxy",
                    "cache",
                ],
            ),
            Place::Google(_) => ("a Google store", &["endpoint", "credentials", "ca", "proxy", "cache"]),
            Place::Azure(_) => ("an Azure store", &["endpoint", "credentials", "account", "ca", "proxy", "cache"]),
            Place::Web(_) => ("a web store", &["credentials", "listing", "ca", "proxy", "cache"]),
            Place::Sftp(_) => ("an SFTP store", &["credentials", "user", "cache"]),
            Place::Folder(_) => ("a folder", &[]),
            Place::Custom(_) | Place::Broken(_) => return Ok(()),
        };
        let given = [
            ("endpoint", section.endpoint.is_some()),
            ("region", section.region.is_some()),
            ("credentials", section.credentials.is_some()),
            ("access_key_id", section.access_key_id.is_some()),
            ("secret_access_key", section.secret_access_key.is_some()),
            ("session_token", section.session_token.is_some()),
            ("path_style", section.path_style.is_some()),
            ("requester_pays", section.requester_pays.is_some()),
            ("account", section.account.is_some()),
            ("user", section.user.is_some()),
            ("listing", section.listing.is_some()),
            ("ca", section.ca.is_some()),
            ("proxy", section.proxy.is_some()),
            ("cache", section.cache.is_some()),
        ];
        match given.iter().find(|(key, given)| *given && !known.contains(key)) {
            None => Ok(()),
            Some((key, _)) => {
                let error = Error::new(Kind::InvalidConfiguration, format!("{kind} has no `{key}`")).with("key", self.key(key));
                Err(if known.is_empty() { error } else { error.hint(format!("it knows {}", known.join(", "))) })
            }
        }
    }

    fn s3(&self, bucket: String, prefix: String) -> Result<S3Spec> {
        let endpoint = self.endpoint()?;
        let region = self.text(&self.section.region, "region")?.or_else(|| (self.environment)("AWS_REGION"));
        Ok(S3Spec {
            bucket,
            prefix,
            path_style: self.section.path_style.unwrap_or(endpoint.is_some()),
            endpoint,
            region: region.unwrap_or_else(|| REGION.to_owned()),
            credentials: self.s3_credentials()?,
            requester_pays: self.section.requester_pays.unwrap_or(false),
        })
    }

    fn s3_credentials(&self) -> Result<Credentials> {
        let section = self.section;
        if let (Some(id), Some(secret)) = (&section.access_key_id, &section.secret_access_key) {
            let expand = |text: &str, option: &str| values::expand(text, &self.key(option), self.environment);
            return Ok(Credentials::Keys {
                access_key_id: expand(id, "access_key_id")?,
                secret_access_key: Secret::new(expand(secret, "secret_access_key")?),
                session_token: self.text(&section.session_token, "session_token")?.map(Secret::new),
            });
        }
        if section.access_key_id.is_some() || section.secret_access_key.is_some() {
            self.text(&section.secret_access_key, "secret_access_key")?;
            return Err(Error::new(Kind::InvalidConfiguration, format!("store `{}` has half an access key", self.name))
                .hint("give both `access_key_id` and `secret_access_key`"));
        }
        match self.who("env") {
            Who::Anonymous => Ok(Credentials::Anonymous),
            Who::Environment(prefix) => {
                let prefix = prefix.unwrap_or("AWS");
                let missing = || self.missing(&[&format!("{prefix}_ACCESS_KEY_ID"), &format!("{prefix}_SECRET_ACCESS_KEY")], " and ");
                aws_keys(prefix, self.environment).ok_or_else(missing)
            }
            Who::Profile(profile) => Ok(Credentials::File { file: self.aws_file()?, profile: profile.to_owned() }),
            Who::File(file) => Ok(Credentials::File { file: self.file(file)?, profile: "default".to_owned() }),
            Who::WebIdentity => {
                let needed = |name: &str| self.variable("AWS", name);
                let both = needed("WEB_IDENTITY_TOKEN_FILE").zip(needed("ROLE_ARN"));
                let (token_file, role) = both.ok_or_else(|| self.missing(&["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"], " and "))?;
                let session = needed("ROLE_SESSION_NAME").unwrap_or_else(|| "lacus".to_owned());
                Ok(Credentials::WebIdentity { token_file: token_file.into(), role, session, sts: needed("ENDPOINT_URL_STS") })
            }
            Who::Unknown => Err(self.unknown(&["env", "env:PREFIX", "profile:NAME", "file:PATH", "web-identity", "anonymous"])),
        }
    }

    fn aws_file(&self) -> Result<PathBuf> {
        let named = self.variable("AWS", "SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let home = || (self.environment)("HOME").map(|home| Path::new(&home).join(".aws/credentials"));
        named.or_else(home).ok_or_else(|| self.missing(&["AWS_SHARED_CREDENTIALS_FILE", "HOME"], " or "))
    }

    fn google_credentials(&self) -> Result<GoogleCredentials> {
        match self.who("env") {
            Who::Anonymous => Ok(GoogleCredentials::Anonymous),
            Who::File(file) => Ok(GoogleCredentials::File(self.file(file)?)),
            Who::Environment(prefix) => {
                let prefix = prefix.unwrap_or("GOOGLE");
                let file = self.variable(prefix, "APPLICATION_CREDENTIALS");
                let file = file.ok_or_else(|| self.missing(&[&format!("{prefix}_APPLICATION_CREDENTIALS")], ""))?;
                Ok(GoogleCredentials::File(file.into()))
            }
            Who::Profile(_) | Who::WebIdentity | Who::Unknown => Err(self.unknown(&["env", "env:PREFIX", "file:PATH", "anonymous"])),
        }
    }

    fn azure(&self, container: String, prefix: String) -> Result<AzureSpec> {
        let account = self.text(&self.section.account, "account")?.or_else(|| self.variable("AZURE_STORAGE", "ACCOUNT_NAME"));
        let account = account.ok_or_else(|| {
            Error::new(Kind::InvalidConfiguration, format!("store `{}` has no `account`", self.name))
                .hint("write `account = \"NAME\"`, the storage account of the container")
        })?;
        let credentials = match self.who("env") {
            Who::Anonymous => AzureCredentials::Anonymous,
            Who::Environment(prefix) => {
                let prefix = prefix.unwrap_or("AZURE_STORAGE");
                let key = self.variable(prefix, "ACCOUNT_KEY").map(|key| AzureCredentials::Key(Secret::new(key)));
                let signature = || self.variable(prefix, "SAS_TOKEN").map(|text| AzureCredentials::Signature(Secret::new(text)));
                let missing = || self.missing(&[&format!("{prefix}_ACCOUNT_KEY"), &format!("{prefix}_SAS_TOKEN")], " or ");
                key.or_else(signature).ok_or_else(missing)?
            }
            Who::WebIdentity => {
                let names = ["FEDERATED_TOKEN_FILE", "CLIENT_ID", "TENANT_ID"];
                let [Some(token_file), Some(client), Some(tenant)] = names.map(|name| self.variable("AZURE", name)) else {
                    return Err(self.missing(&names.map(|name| format!("AZURE_{name}")).each_ref().map(String::as_str), ", "));
                };
                AzureCredentials::WebIdentity { token_file: token_file.into(), client, tenant }
            }
            Who::Profile(_) | Who::File(_) | Who::Unknown => {
                return Err(self.unknown(&["env", "env:PREFIX", "web-identity", "anonymous"]));
            }
        };
        Ok(AzureSpec { account, container, prefix, endpoint: self.endpoint()?, credentials })
    }

    fn web(&self, scheme: &str, rest: &str) -> Result<WebSpec> {
        let (secure, dav) = (scheme.ends_with('s'), scheme.starts_with("dav"));
        let listing = match self.text(&self.section.listing, "listing")?.as_deref() {
            None if dav => Listing::WebDav,
            None => Listing::Either,
            Some("webdav") => Listing::WebDav,
            Some("page") => Listing::Page,
            Some(other) => {
                return Err(Error::new(Kind::InvalidConfiguration, format!("no `listing` `{other}`"))
                    .with("key", self.key("listing"))
                    .hint("write `webdav` or `page`; without it both are tried"));
            }
        };
        let credentials = match self.who("anonymous") {
            Who::Anonymous => WebCredentials::Anonymous,
            Who::File(file) => WebCredentials::BearerFile(self.file(file)?),
            Who::Environment(None) => {
                let token = (self.environment)("BEARER_TOKEN").filter(|token| !token.is_empty());
                let file = || (self.environment)("BEARER_TOKEN_FILE").map(|file| WebCredentials::BearerFile(file.into()));
                let token = token.map(|token| WebCredentials::Bearer(Secret::new(token))).or_else(file);
                token.ok_or_else(|| self.missing(&["BEARER_TOKEN", "BEARER_TOKEN_FILE"], " or "))?
            }
            Who::Environment(Some(prefix)) => {
                let token = self.variable(prefix, "TOKEN").map(|token| WebCredentials::Bearer(Secret::new(token)));
                let both = || self.variable(prefix, "USERNAME").zip(self.variable(prefix, "PASSWORD"));
                let basic = || both().map(|(user, password)| WebCredentials::Basic { user, password: Secret::new(password) });
                let missing = || self.missing(&[&format!("{prefix}_TOKEN"), &format!("{prefix}_USERNAME and {prefix}_PASSWORD")], ", or ");
                token.or_else(basic).ok_or_else(missing)?
            }
            Who::Profile(_) | Who::WebIdentity | Who::Unknown => {
                return Err(self.unknown(&["env", "env:PREFIX", "file:PATH", "anonymous"]));
            }
        };
        let host = rest.split('/').next().unwrap_or_default();
        let loopback = host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
        if !secure && !loopback && !matches!(credentials, WebCredentials::Anonymous) {
            return Err(Error::new(Kind::InvalidConfiguration, "credentials are sent over https alone")
                .with("key", self.key("url"))
                .hint("write https:// (or davs://), or `credentials = \"anonymous\"`"));
        }
        let url = format!("{}://{}", if secure { "https" } else { "http" }, rest.trim_end_matches('/'));
        Ok(WebSpec { url, listing, credentials })
    }

    fn sftp_key(&self) -> Result<Option<PathBuf>> {
        match self.who("env") {
            Who::Environment(None) => Ok(None),
            Who::File(file) => Ok(Some(self.file(file)?)),
            _ => Err(self.unknown(&["env", "file:PATH"])),
        }
    }

    /// A path of the lake file: `~` is the home of whoever runs it.
    fn file(&self, path: &str) -> Result<PathBuf> {
        let path = values::expand(path, &self.key("credentials"), self.environment)?;
        match (path.strip_prefix("~/"), (self.environment)("HOME")) {
            (Some(below), Some(home)) => Ok(Path::new(&home).join(below)),
            _ => Ok(self.base.join(path)),
        }
    }

    fn who<'a>(&'a self, default: &'a str) -> Who<'a> {
        let written = self.section.credentials.as_deref().unwrap_or(default);
        match (written, written.split_once(':')) {
            ("anonymous", _) => Who::Anonymous,
            ("env", _) => Who::Environment(None),
            ("web-identity", _) => Who::WebIdentity,
            (_, Some(("env", prefix))) if !prefix.is_empty() => Who::Environment(Some(prefix)),
            (_, Some(("profile", name))) if !name.is_empty() => Who::Profile(name),
            (_, Some(("file", path))) if !path.is_empty() => Who::File(path),
            _ => Who::Unknown,
        }
    }

    fn unknown(&self, known: &[&str]) -> Error {
        let written = self.section.credentials.as_deref().unwrap_or_default();
        let error = Error::new(Kind::InvalidConfiguration, format!("no credentials `{written}` for this kind of store"))
            .with("key", self.key("credentials"));
        match nearest(written, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("write {}", known.join(", "))),
        }
    }

    fn missing(&self, names: &[&str], between: &str) -> Error {
        let are = if names.len() == 1 || between.contains("or") { "is" } else { "are" };
        let names = names.join(between);
        Error::new(Kind::PermissionDenied, format!("store `{}` has no credentials: {names} {are} not set", self.name))
            .hint("export what is missing, or write `credentials = \"anonymous\"` for public data")
    }
}

/// What `credentials` says.
enum Who<'a> {
    Anonymous,
    Environment(Option<&'a str>),
    Profile(&'a str),
    File(&'a str),
    WebIdentity,
    Unknown,
}

fn aws_keys(prefix: &str, environment: Environment<'_>) -> Option<Credentials> {
    let value = |name: &str| environment(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
    Some(Credentials::Keys {
        access_key_id: value("ACCESS_KEY_ID")?,
        secret_access_key: Secret::new(value("SECRET_ACCESS_KEY")?),
        session_token: value("SESSION_TOKEN").map(Secret::new),
    })
}

/// How a URL is read that no store covers: as the tools of Amazon and Google would, anonymously when there are no keys.
pub(crate) fn unnamed(environment: Environment<'_>) -> Result<Unnamed> {
    let named = |name: &'static str| environment(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    let endpoint = named("AWS_ENDPOINT_URL_S3").or_else(|| named("AWS_ENDPOINT_URL")).or_else(|| named("AWS_ENDPOINT"));
    let endpoint = endpoint.map(|(name, endpoint)| server(endpoint, name)).transpose()?;
    let mut unnamed = Unnamed::anonymous();
    unnamed.s3.path_style = endpoint.is_some();
    unnamed.s3.endpoint = endpoint;
    if let Some(region) = environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION")) {
        unnamed.s3.region = region;
    }
    if let Some(keys) = aws_keys("AWS", environment) {
        unnamed.s3.credentials = keys;
    }
    if let Some((_, file)) = named("GOOGLE_APPLICATION_CREDENTIALS") {
        unnamed.google.credentials = GoogleCredentials::File(file.into());
    }
    Ok(unnamed)
}

/// An endpoint with its scheme: without one, a client can't tell whether to encrypt.
fn server(endpoint: String, key: &str) -> Result<String> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://")).unwrap_or_default();
    let plain = |next: char| next.is_ascii_alphanumeric() || ".-_:/[]".contains(next);
    if host.is_empty() || host.starts_with('/') || !host.chars().all(plain) {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`{endpoint}` is no address of a server"))
            .with("key", key)
            .hint("write it as https://s3.lab.example"));
    }
    Ok(endpoint)
}

//! The resolved configuration in the form of a lake file, with secrets masked.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use lacus_audit::WhenFull;
use lacus_core::{Classification, DatasetSpec, SpreadSpec};
use lacus_databases::DatabaseSpec;
use lacus_engine::UnitRules;
use lacus_identity::{CertificateSpec, HubSpec, IssuerSpec};
use lacus_remote::SiteSpec;
use lacus_storage::{
    AzureCredentials, AzureSpec, Credentials, GoogleCredentials, GoogleSpec, Listing, Place, S3Spec, StoreSpec, WebCredentials, WebSpec,
    masked,
};

use crate::Config;

impl Config {
    /// What is kept of what was asked and answered.
    fn records(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some((file, full)) = &self.audit {
            let full = if *full == WhenFull::Warn { "warn" } else { "refuse" };
            writeln!(formatter, "\n[audit]\nfile = {}\nfull = \"{full}\"", quoted(file.display().to_string()))?;
        }
        if let Some((folder, keep)) = &self.provenance {
            writeln!(formatter, "\n[provenance]\nfolder = {}\nkeep = \"{}s\"", quoted(folder.display().to_string()), keep.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Display for Config {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            writeln!(formatter, "# resolved from {}", file.display())?;
        }
        writeln!(formatter, "[lake]\nname = {:?}", self.lake)?;
        if let Some(state) = &self.state {
            writeln!(formatter, "state = {:?}", state.display().to_string())?;
        }
        if let Some(store) = &self.write_to {
            writeln!(formatter, "write_to = \"{store}\"")?;
        }
        if self.units != UnitRules::default() {
            writeln!(formatter, "units = \"{}\"", self.units)?;
        }
        let limits = &self.limits;
        writeln!(formatter, "\n[limits]\nmemory = \"{} B\"", limits.memory)?;
        writeln!(formatter, "spill = \"{} B\"\ndeadline = \"{}s\"", limits.spill, limits.deadline.as_secs_f64())?;
        writeln!(formatter, "queries = {}\nqueue = {}", limits.queries, limits.queue)?;
        if limits.columns > 0 {
            writeln!(formatter, "columns = \"{} B\"", limits.columns)?;
        }
        if let Some(memory) = limits.query_memory {
            writeln!(formatter, "query_memory = \"{memory} B\"")?;
        }
        if let Some(cache) = &self.cache {
            writeln!(formatter, "\n[cache]\ndisk = \"{} B\"\nfolder = {}", cache.bytes, quoted(cache.folder.display().to_string()))?;
        }
        self.records(formatter)?;
        if let Some(file) = &self.policy {
            writeln!(formatter, "\n[policy]\nfile = {}", quoted(file.display().to_string()))?;
        }
        if !self.rules_off.is_empty() {
            writeln!(formatter, "\n[optimizer]\noff = {:?}", self.rules_off)?;
        }
        writeln!(formatter, "\n[serve]\nlisten = {:?}", self.listen)?;
        if let Some((certificate, key)) = &self.certificate {
            writeln!(formatter, "certificate = {}", quoted(certificate.display().to_string()))?;
            writeln!(formatter, "key = {}", quoted(key.display().to_string()))?;
        }
        self.socket.iter().try_for_each(|socket| writeln!(formatter, "socket = {}", quoted(socket.display().to_string())))?;
        self.keys.iter().try_for_each(|keys| writeln!(formatter, "keys = {}", quoted(keys.display().to_string())))?;
        if self.anonymous {
            writeln!(formatter, "anonymous = true")?;
        }
        self.http.iter().try_for_each(|http| writeln!(formatter, "http = {http:?}"))?;
        self.otlp.iter().try_for_each(|otlp| writeln!(formatter, "otlp = {:?}", masked(otlp)))?;
        self.agents(formatter)?;
        self.users.iter().try_for_each(|(name, _)| writeln!(formatter, "\n[user.{name}]\npassword = \"***\""))?;
        self.issuers.iter().try_for_each(|issuer| write_issuer(formatter, issuer))?;
        let is_partial = self.spread.iter().any(|(_, spec)| spec.may_lack_parts);
        if self.hub.is_some() || is_partial {
            writeln!(formatter, "\n[federation]")?;
        }
        if let Some(HubSpec { name, key, lifetime }) = &self.hub {
            let key = quoted(key.display().to_string());
            writeln!(formatter, "name = {name:?}\nkey = {key}\nlifetime = \"{}s\"", lifetime.as_secs_f64())?;
        }
        if is_partial {
            writeln!(formatter, "on_site_failure = \"partial\"")?;
        }
        for SiteSpec { name, url, token, audience, timeout, schema_ttl } in &self.sites {
            writeln!(formatter, "\n[site.{name}]\nurl = {:?}\ntimeout = \"{}s\"", masked(url), timeout.as_secs_f64())?;
            writeln!(formatter, "schema_ttl = \"{}s\"", schema_ttl.as_secs_f64())?;
            audience.iter().try_for_each(|audience| writeln!(formatter, "audience = {audience:?}"))?;
            token.iter().try_for_each(|_| writeln!(formatter, "token = \"***\""))?;
        }
        self.databases.iter().try_for_each(|database| write_database(formatter, database))?;
        self.certificates.iter().try_for_each(|certificates| write_certificates(formatter, certificates))?;
        self.stores.iter().try_for_each(|store| write_store(formatter, store))?;
        for (name, SpreadSpec { sites, schema, table, site_column, may_lack_parts: _, description }) in &self.spread {
            let names: Vec<&String> = sites.iter().map(|(site, _)| site).collect();
            writeln!(formatter, "\n[dataset.{name}]\nsites = {names:?}\ntable = {:?}", format!("{schema}.{table}"))?;
            let replicas: Vec<String> =
                sites.iter().filter(|(_, of)| !of.is_empty()).map(|(site, of)| format!("{site} = {of:?}")).collect();
            if !replicas.is_empty() {
                writeln!(formatter, "replicas = {{ {} }}", replicas.join(", "))?;
            }
            site_column.iter().try_for_each(|column| writeln!(formatter, "site_column = {column:?}"))?;
            description.iter().try_for_each(|text| writeln!(formatter, "description = {text:?}"))?;
        }
        self.datasets.iter().try_for_each(|(_, spec)| write_dataset(formatter, spec))
    }
}

fn write_database(formatter: &mut Formatter<'_>, database: &DatabaseSpec) -> fmt::Result {
    let DatabaseSpec { name, url, password, base: _, timeout, schema_ttl, connections } = database;
    writeln!(formatter, "\n[database.{name}]\nurl = {:?}\ntimeout = \"{}s\"", masked(url), timeout.as_secs_f64())?;
    writeln!(formatter, "schema_ttl = \"{}s\"\nconnections = {connections}", schema_ttl.as_secs_f64())?;
    password.iter().try_for_each(|_| writeln!(formatter, "password = \"***\""))
}

fn write_issuer(formatter: &mut Formatter<'_>, issuer: &IssuerSpec) -> fmt::Result {
    let IssuerSpec { name, url, audience, user, prefix, groups, .. } = issuer;
    writeln!(
        formatter,
        "\n[issuer.{name}]\nurl = {url:?}\naudience = {audience:?}\nuser = {user:?}\nprefix = {prefix:?}\ngroups = {groups:?}"
    )?;
    if !issuer.algorithms.is_empty() {
        writeln!(formatter, "algorithms = {:?}", issuer.algorithms)?;
    }
    if !issuer.claims.is_empty() {
        writeln!(formatter, "claims = {:?}", issuer.claims)?;
    }
    issuer.limited.iter().try_for_each(|limited| writeln!(formatter, "limited = {limited}"))?;
    issuer.client.iter().try_for_each(|(client, _)| writeln!(formatter, "client = {client:?}\nsecret = \"***\""))?;
    issuer.keys.iter().try_for_each(|keys| writeln!(formatter, "keys = {}", quoted(keys.display().to_string())))?;
    issuer.ca.iter().try_for_each(|ca| writeln!(formatter, "ca = {}", quoted(ca.display().to_string())))?;
    writeln!(formatter, "keys_kept = \"{}s\"", issuer.keys_kept.as_secs())
}

fn write_certificates(formatter: &mut Formatter<'_>, certificates: &CertificateSpec) -> fmt::Result {
    let CertificateSpec { ca, crl, user, prefix } = certificates;
    writeln!(formatter, "\n[certificates]\nca = {}\nuser = \"{user}\"\nprefix = {prefix:?}", quoted(ca.display().to_string()))?;
    crl.iter().try_for_each(|crl| writeln!(formatter, "crl = {}", quoted(crl.display().to_string())))
}

fn write_store(formatter: &mut Formatter<'_>, store: &StoreSpec) -> fmt::Result {
    writeln!(formatter, "\n[store.{}]", store.name)?;
    match &store.place {
        Place::S3(spec) => write_s3(formatter, spec)?,
        Place::Google(spec) => write_google(formatter, spec)?,
        Place::Azure(spec) => write_azure(formatter, spec)?,
        Place::Web(spec) => write_web(formatter, spec)?,
        Place::Sftp(spec) => {
            writeln!(formatter, "url = \"sftp://{}{}\"", spec.host, spec.folder)?;
            spec.user.iter().try_for_each(|user| writeln!(formatter, "user = {}", quoted(user)))?;
            spec.key.iter().try_for_each(|key| write_file(formatter, key))?;
        }
        Place::Folder(folder) => writeln!(formatter, "url = {:?}", folder.display().to_string())?,
        Place::Custom(custom) => writeln!(formatter, "# {custom}, brought by the program")?,
        Place::Broken(error) => writeln!(formatter, "# can't be used: {error}")?,
    }
    store.network.ca.iter().try_for_each(|ca| writeln!(formatter, "ca = {}", quoted(ca.display().to_string())))?;
    store.network.proxy.iter().try_for_each(|proxy| writeln!(formatter, "proxy = {}", quoted(without_user(proxy))))?;
    writeln!(formatter, "timeout = \"{}s\"\nretries = {}", store.timeout.as_secs_f64(), store.retries)?;
    if !store.listing_ttl.is_zero() {
        writeln!(formatter, "listing_ttl = \"{}s\"", store.listing_ttl.as_secs_f64())?;
    }
    if store.writable {
        writeln!(formatter, "writable = true")?;
    }
    if store.cache { Ok(()) } else { writeln!(formatter, "cache = false") }
}

fn write_s3(formatter: &mut Formatter<'_>, spec: &S3Spec) -> fmt::Result {
    let slash = if spec.prefix.is_empty() { "" } else { "/" };
    writeln!(formatter, "url = \"s3://{}{slash}{}\"", spec.bucket, spec.prefix)?;
    if let Some(endpoint) = &spec.endpoint {
        writeln!(formatter, "endpoint = {endpoint:?}")?;
    }
    writeln!(formatter, "region = {:?}\npath_style = {}", spec.region, spec.path_style)?;
    if spec.requester_pays {
        writeln!(formatter, "requester_pays = true")?;
    }
    match &spec.credentials {
        Credentials::Anonymous => writeln!(formatter, "credentials = \"anonymous\""),
        Credentials::File { file, profile } => {
            writeln!(formatter, "credentials = {} # [{profile}]", quoted(format!("file:{}", file.display())))
        }
        Credentials::WebIdentity { token_file, role, .. } => {
            writeln!(formatter, "credentials = \"web-identity\" # {role} by {}", token_file.display())
        }
        Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            writeln!(formatter, "access_key_id = {access_key_id:?}\nsecret_access_key = \"{secret_access_key}\"")?;
            session_token.iter().try_for_each(|token| writeln!(formatter, "session_token = \"{token}\""))
        }
    }
}

fn write_google(formatter: &mut Formatter<'_>, spec: &GoogleSpec) -> fmt::Result {
    let slash = if spec.prefix.is_empty() { "" } else { "/" };
    writeln!(formatter, "url = \"gs://{}{slash}{}\"", spec.bucket, spec.prefix)?;
    spec.endpoint.iter().try_for_each(|endpoint| writeln!(formatter, "endpoint = {endpoint:?}"))?;
    match &spec.credentials {
        GoogleCredentials::Anonymous => writeln!(formatter, "credentials = \"anonymous\""),
        GoogleCredentials::File(file) => write_file(formatter, file),
    }
}

fn write_azure(formatter: &mut Formatter<'_>, spec: &AzureSpec) -> fmt::Result {
    let slash = if spec.prefix.is_empty() { "" } else { "/" };
    writeln!(formatter, "url = \"az://{}{slash}{}\"\naccount = {:?}", spec.container, spec.prefix, spec.account)?;
    spec.endpoint.iter().try_for_each(|endpoint| writeln!(formatter, "endpoint = {endpoint:?}"))?;
    match &spec.credentials {
        AzureCredentials::Anonymous => writeln!(formatter, "credentials = \"anonymous\""),
        AzureCredentials::Key(key) => writeln!(formatter, "credentials = \"env\" # the account's key {key}"),
        AzureCredentials::Signature(signature) => writeln!(formatter, "credentials = \"env\" # a shared access signature {signature}"),
        AzureCredentials::WebIdentity { client, token_file, .. } => {
            writeln!(formatter, "credentials = \"web-identity\" # {client} by {}", token_file.display())
        }
    }
}

fn write_web(formatter: &mut Formatter<'_>, spec: &WebSpec) -> fmt::Result {
    writeln!(formatter, "url = {}", quoted(&spec.url))?;
    match spec.listing {
        Listing::Either => {}
        Listing::WebDav => writeln!(formatter, "listing = \"webdav\"")?,
        Listing::Page => writeln!(formatter, "listing = \"page\"")?,
    }
    match &spec.credentials {
        WebCredentials::Anonymous => writeln!(formatter, "credentials = \"anonymous\""),
        WebCredentials::Basic { user, password } => writeln!(formatter, "credentials = \"env\" # {user:?} with the password {password}"),
        WebCredentials::Bearer(token) => writeln!(formatter, "credentials = \"env\" # the token {token}"),
        WebCredentials::BearerFile(file) => write_file(formatter, file),
    }
}

fn write_file(formatter: &mut Formatter<'_>, file: &Path) -> fmt::Result {
    writeln!(formatter, "credentials = {}", quoted(format!("file:{}", file.display())))
}

/// A proxy's address may hold a password.
fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://***{}", &address[at..]),
        _ => address.to_owned(),
    }
}

/// One dataset in the form of a lake file.
pub(crate) struct Dataset<'a>(pub(crate) &'a DatasetSpec);

impl Display for Dataset<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write_dataset(formatter, self.0)
    }
}

/// `text` as TOML writes it.
fn quoted(text: impl Into<String>) -> toml::Value {
    toml::Value::String(text.into())
}

fn write_dataset(formatter: &mut Formatter<'_>, spec: &DatasetSpec) -> fmt::Result {
    writeln!(formatter, "\n[dataset.{}]\npath = {}", spec.name, quoted(spec.location.to_string()))?;
    let texts = [
        ("format", &spec.format),
        ("description", &spec.description),
        ("license", &spec.license),
        ("doi", &spec.doi),
        ("contact", &spec.contact),
    ];
    for (key, text) in texts {
        text.iter().try_for_each(|text| writeln!(formatter, "{key} = {}", quoted(text)))?;
    }
    if let Some(classification) = spec.classification {
        writeln!(formatter, "classification = \"{}\"", classification.word())?;
        if let Classification::Embargoed(until) = classification {
            let until: DateTime<Utc> = until.into();
            writeln!(formatter, "embargo_until = \"{}\"", until.to_rfc3339_opts(SecondsFormat::Secs, true))?;
        }
    }
    if let Some(partitions) = &spec.partitions {
        writeln!(formatter, "partitions = {partitions:?}")?;
    }
    if !spec.options.is_empty() {
        let options: Vec<String> = spec.options.iter().map(|(option, value)| format!("{option} = {value}")).collect();
        writeln!(formatter, "options = {{ {} }}", options.join(", "))?;
    }
    if !spec.primary_key.is_empty() {
        writeln!(formatter, "primary_key = {:?}", spec.primary_key)?;
    }
    for (name, key) in &spec.foreign_keys {
        writeln!(formatter, "[dataset.{}.foreign_keys.{name:?}]", spec.name)?;
        writeln!(formatter, "columns = {:?}\nreferences = {:?}", key.columns, key.references)?;
        key.referenced.iter().try_for_each(|columns| writeln!(formatter, "referenced = {columns:?}"))?;
    }
    for (name, column) in &spec.columns {
        writeln!(formatter, "[dataset.{}.columns.{name:?}]", spec.name)?;
        column.description.iter().try_for_each(|text| writeln!(formatter, "description = {}", quoted(text)))?;
        column.unit.iter().try_for_each(|unit| writeln!(formatter, "unit = {}", quoted(unit)))?;
    }
    Ok(())
}

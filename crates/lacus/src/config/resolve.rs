//! Written -> resolved: the one place where defaults, the environment and paths are decided.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDate};
use lacus_audit::WhenFull;
use lacus_core::{
    Classification, ColumnSpec, DatasetName, DatasetSpec, Error, ForeignKey, Kind, Location, OptionValue, Result, Secret, SpreadSpec,
    StoreName, amount, nearest,
};
use lacus_databases::{DatabaseSpec, check_url};
use lacus_engine::{Limits, UnitRules};
use lacus_identity::HubSpec;
use lacus_remote::{SiteSpec, check_address};
use lacus_storage::{CacheSpec, StoreSpec};

use super::written::{
    AuditSection, CacheSection, DatabaseSection, DatasetSection, FederationSection, LakeFile, LimitsSection, ProvenanceSection,
    ServeSection, SiteSection, UserSection,
};
use super::{issuer, store, values};
use crate::Config;

const LISTEN: &str = "127.0.0.1:50051";
const STATE: &str = ".lacus";
/// How long a site may take to be reached.
const SITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what a site told of a table is taken for true.
const SCHEMA_TTL: Duration = Duration::from_secs(60);
/// How many statements a database is asked at once.
const CONNECTIONS: usize = 8;
/// How long a token of this lake holds.
const LIFETIME: Duration = Duration::from_secs(600);
/// Clocks may be apart by as much.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);
/// The folder of the cache in that of the state.
const CACHE: &str = "cache";

pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(crate) fn resolve(written: LakeFile, base: PathBuf, environment: Environment<'_>) -> Result<Config> {
    let expand = |text: &Option<String>, key: &str| text.as_deref().map(|text| values::expand(text, key, environment)).transpose();
    let has_file = !written.lake.is_empty() || !written.store.is_empty() || !written.dataset.is_empty() || !written.cache.is_empty();
    let written_state = expand(&written.lake.state, "lake.state")?;
    let state_is_written = written_state.is_some();
    let beside = has_file.then(|| STATE.to_owned());
    let state = written_state.or(beside).map(|state| base.join(state));
    let stores = written.store.iter().map(|(name, section)| store::store(name, section, &base, environment)).collect::<Result<Vec<_>>>()?;
    let (spread_written, of_files): (Vec<_>, Vec<_>) = written.dataset.iter().partition(|(_, section)| section.sites.is_some());
    if let Some(name) = written.database.keys().find(|name| written.site.contains_key(*name)) {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` is a site and a database"))
            .with("key", format!("database.{name}"))
            .hint("give one of them another name: each is a catalog"));
    }
    let known: Vec<&str> = written.site.keys().chain(written.database.keys()).map(String::as_str).collect();
    let may_lack_parts = may_lack_parts(&written.federation)?;
    let spread = spread_written.into_iter().map(|(name, section)| spread(name, section, &known, may_lack_parts)).collect::<Result<_>>()?;
    let datasets = of_files.into_iter().map(|(name, section)| dataset(name, section, &stores, environment)).collect::<Result<Vec<_>>>()?;
    check_foreign_keys(&datasets)?;
    let lake = expand(&written.lake.name, "lake.name")?.unwrap_or_else(|| "lake".to_owned());
    let write_to = expand(&written.lake.write_to, "lake.write_to")?.map(|name| write_to(&name, &stores)).transpose()?;
    let cache = cache(&written.cache, &base, state.as_deref(), environment)?;
    DatasetName::new(&lake).map_err(|error| error.with("key", "lake.name"))?;
    let has_hub = written.federation.key.is_some();
    let (issuers, certificates) = issuer::issuers(&written, &base, environment)?;
    Ok(Config {
        file: None,
        limits: limits(&written.limits, environment)?,
        rules_off: written.optimizer.off,
        units: expand(&written.lake.units, "lake.units")?.map(|units| unit_rules(&units)).transpose()?.unwrap_or_default(),
        audit: audit(&written.audit, &base, environment)?,
        provenance: provenance(&written.provenance, &base, environment)?,
        policy: expand(&written.policy.file, "policy.file")?.map(|file| base.join(file)),
        listen: expand(&written.serve.listen, "serve.listen")?.unwrap_or_else(|| LISTEN.to_owned()),
        certificate: certificate(&written.serve, &base, environment)?,
        socket: expand(&written.serve.socket, "serve.socket")?.map(|socket| base.join(socket)),
        keys: expand(&written.serve.keys, "serve.keys")?.map(|keys| base.join(keys)),
        anonymous: written.serve.anonymous.unwrap_or(false),
        users: users(&written.user, environment)?,
        issuers,
        certificates,
        hub: hub(&written.federation, &base, environment)?,
        sites: written.site.iter().map(|(name, section)| site(name, section, has_hub, environment)).collect::<Result<_>>()?,
        databases: written.database.iter().map(|(name, section)| database(name, section, &base, environment)).collect::<Result<_>>()?,
        http: expand(&written.serve.http, "serve.http")?,
        agents: super::agents::agents(&written.mcp, environment)?,
        otlp: expand(&written.serve.otlp, "serve.otlp")?,
        unnamed: store::unnamed(environment)?,
        base,
        lake,
        state,
        state_is_written,
        write_to,
        cache,
        stores,
        datasets,
        spread,
    })
}

/// The certificate of the server and its key: one is of no use without the other.
fn certificate(written: &ServeSection, base: &Path, environment: Environment<'_>) -> Result<Option<(PathBuf, PathBuf)>> {
    let expand = |text: &Option<String>, key: &str| text.as_deref().map(|text| values::expand(text, key, environment)).transpose();
    match (expand(&written.certificate, "serve.certificate")?, expand(&written.key, "serve.key")?) {
        (Some(certificate), Some(key)) => Ok(Some((base.join(certificate), base.join(key)))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(Error::new(Kind::InvalidConfiguration, "`serve.certificate` has no `serve.key`").hint("write both, or none"))
        }
        (None, Some(_)) => {
            Err(Error::new(Kind::InvalidConfiguration, "`serve.key` has no `serve.certificate`").hint("write both, or none"))
        }
    }
}

/// Whether what no site gives is left out.
fn may_lack_parts(section: &FederationSection) -> Result<bool> {
    match section.on_site_failure.as_deref() {
        None | Some("fail") => Ok(false),
        Some("partial") => Ok(true),
        Some(other) => Err(Error::new(Kind::InvalidConfiguration, format!("`{other}` is nothing to do when a site fails"))
            .with("key", "federation.on_site_failure")
            .hint("write `fail` or `partial`")),
    }
}

/// What the lake calls itself to other sites.
fn hub(section: &FederationSection, base: &Path, environment: Environment<'_>) -> Result<Option<HubSpec>> {
    let expand = |text: &Option<String>, key: &str| text.as_deref().map(|text| values::expand(text, key, environment)).transpose();
    let lifetime = section.lifetime.as_deref().map(|text| amount::duration(text, "federation.lifetime")).transpose()?;
    if lifetime.is_some_and(|lifetime| lifetime < SHORTEST_LIFETIME) {
        let error = Error::new(Kind::InvalidConfiguration, "the tokens of this lake would end before they are used");
        return Err(error.with("key", "federation.lifetime").hint("write a minute or more: `lifetime = \"10m\"`"));
    }
    match (expand(&section.name, "federation.name")?, expand(&section.key, "federation.key")?) {
        (Some(name), Some(key)) => Ok(Some(HubSpec { name, key: base.join(key), lifetime: lifetime.unwrap_or(LIFETIME) })),
        (None, None) => Ok(None),
        _ => {
            Err(Error::new(Kind::InvalidConfiguration, "one of `federation.name` and `federation.key` is missing")
                .hint("write both, or none"))
        }
    }
}

/// Another server.
fn site(name: &str, section: &SiteSection, has_hub: bool, environment: Environment<'_>) -> Result<SiteSpec> {
    let key = |key: &str| format!("site.{name}.{key}");
    let expand = |text: &Option<String>, of: &str| text.as_deref().map(|text| values::expand(text, &key(of), environment)).transpose();
    DatasetName::new(name).map_err(|error| error.with("key", format!("site.{name}")))?;
    let url = expand(&section.url, "url")?.ok_or_else(|| {
        let error = Error::new(Kind::InvalidConfiguration, "a site without `url`").with("key", format!("site.{name}"));
        error.hint("write its address: `url = \"grpc+tls://lab.example:50051\"`")
    })?;
    check_address(&url).map_err(|error| error.with("key", key("url")))?;
    let audience = expand(&section.audience, "audience")?;
    if audience.is_some() && !has_hub {
        let error = Error::new(Kind::InvalidConfiguration, "`audience` without [federation]: nothing says who this lake is");
        return Err(error.with("key", key("audience")).hint("write `name` and `key` under [federation]"));
    }
    let timeout = section.timeout.as_deref().map(|text| amount::duration(text, &key("timeout"))).transpose()?;
    let schema_ttl = section.schema_ttl.as_deref().map(|text| amount::duration(text, &key("schema_ttl"))).transpose()?;
    Ok(SiteSpec {
        name: name.to_owned(),
        url,
        token: expand(&section.token, "token")?.map(Secret::new),
        audience,
        timeout: timeout.unwrap_or(SITE_TIMEOUT),
        schema_ttl: schema_ttl.unwrap_or(SCHEMA_TTL),
    })
}

/// A database.
fn database(name: &str, section: &DatabaseSection, base: &Path, environment: Environment<'_>) -> Result<DatabaseSpec> {
    let key = |key: &str| format!("database.{name}.{key}");
    let expand = |text: &Option<String>, of: &str| text.as_deref().map(|text| values::expand(text, &key(of), environment)).transpose();
    DatasetName::new(name).map_err(|error| error.with("key", format!("database.{name}")))?;
    let url = expand(&section.url, "url")?.ok_or_else(|| {
        let error = Error::new(Kind::InvalidConfiguration, "a database without `url`").with("key", format!("database.{name}"));
        error.hint("write its address: `url = \"postgresql://reader@db.lab.example/logbook\"`")
    })?;
    check_url(&url).map_err(|error| error.with("key", key("url")))?;
    let duration = |text: &Option<String>, of: &str| text.as_deref().map(|text| amount::duration(text, &key(of))).transpose();
    if section.connections == Some(0) {
        return Err(
            Error::new(Kind::InvalidConfiguration, "`connections` is 0, and then none could be asked").with("key", key("connections"))
        );
    }
    Ok(DatabaseSpec {
        name: name.to_owned(),
        url,
        password: expand(&section.password, "password")?.map(Secret::new),
        base: base.to_owned(),
        timeout: duration(&section.timeout, "timeout")?.unwrap_or(SITE_TIMEOUT),
        schema_ttl: duration(&section.schema_ttl, "schema_ttl")?.unwrap_or(SCHEMA_TTL),
        connections: section.connections.unwrap_or(CONNECTIONS),
    })
}

/// The users by name, each with the hash of the password.
fn users(written: &BTreeMap<String, UserSection>, environment: Environment<'_>) -> Result<Vec<(String, String)>> {
    let user = |(name, section): (&String, &UserSection)| {
        let key = format!("user.{name}.password");
        let password = section.password.as_deref().ok_or_else(|| {
            Error::new(Kind::InvalidConfiguration, format!("the user `{name}` has no `password`"))
                .hint("write what `lacus hash-password` makes of it")
        })?;
        Ok((name.clone(), values::expand(password, &key, environment)?))
    };
    written.iter().map(user).collect()
}

impl super::written::LakeSection {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.state.is_none() && self.write_to.is_none() && self.units.is_none()
    }
}

impl CacheSection {
    fn is_empty(&self) -> bool {
        self.disk.is_none() && self.folder.is_none()
    }
}

fn cache(written: &CacheSection, base: &Path, state: Option<&Path>, environment: Environment<'_>) -> Result<Option<CacheSpec>> {
    let folder = written.folder.as_deref().map(|folder| values::expand(folder, "cache.folder", environment)).transpose()?;
    let folder = folder.map(|folder| base.join(folder)).or_else(|| state.map(|state| state.join(CACHE)));
    let (Some(disk), Some(folder)) = (&written.disk, folder) else { return Ok(None) };
    let bytes = amount::bytes(disk, "cache.disk")?;
    if bytes < CacheSpec::LEAST {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`cache.disk` is `{disk}`, and too little is kept then"))
            .hint("write at least `16 MiB`, or leave it out for no cache"));
    }
    Ok(Some(CacheSpec { folder, bytes }))
}

/// Where is recorded who asks what, and what happens while that can't be.
fn audit(written: &AuditSection, base: &Path, environment: Environment<'_>) -> Result<Option<(PathBuf, WhenFull)>> {
    let file = written.file.as_deref().map(|file| values::expand(file, "audit.file", environment)).transpose()?;
    let full = match written.full.as_deref() {
        None | Some("refuse") => WhenFull::Refuse,
        Some("warn") => WhenFull::Warn,
        Some(other) => {
            let error = Error::new(Kind::InvalidConfiguration, format!("`audit.full` is `{other}`"));
            return Err(error.hint("write `refuse` or `warn`"));
        }
    };
    match file {
        Some(file) => Ok(Some((base.join(file), full))),
        None if written.full.is_some() => {
            Err(Error::new(Kind::InvalidConfiguration, "`audit.full` has no `audit.file`").hint("write the file, or leave both out"))
        }
        None => Ok(None),
    }
}

/// Where the records of answers are kept, and for how long.
fn provenance(written: &ProvenanceSection, base: &Path, environment: Environment<'_>) -> Result<Option<(PathBuf, Duration)>> {
    let folder = written.folder.as_deref().map(|folder| values::expand(folder, "provenance.folder", environment)).transpose()?;
    let keep = amount::duration(written.keep.as_deref().unwrap_or("90d"), "provenance.keep")?;
    match folder {
        Some(folder) => Ok(Some((base.join(folder), keep))),
        None if written.keep.is_some() => {
            let error = Error::new(Kind::InvalidConfiguration, "`provenance.keep` has no `provenance.folder`");
            Err(error.hint("write the folder, or leave both out"))
        }
        None => Ok(None),
    }
}

/// The store that is written to: a mistake in it is found when the lake is opened, not when a result is to be kept.
fn unit_rules(text: &str) -> Result<UnitRules> {
    text.parse().map_err(|error: Error| Error::new(Kind::InvalidConfiguration, error.message().to_owned()).with("key", "lake.units"))
}

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

fn limits(written: &LimitsSection, environment: Environment<'_>) -> Result<Limits> {
    let defaults = Limits::default();
    let expand = |text: &Option<String>, key: &str| text.as_deref().map(|text| values::expand(text, key, environment)).transpose();
    let (memory, spill) = (expand(&written.memory, "limits.memory")?, expand(&written.spill, "limits.spill")?);
    let (query_memory, columns) = (expand(&written.query_memory, "limits.query_memory")?, expand(&written.columns, "limits.columns")?);
    let deadline = expand(&written.deadline, "limits.deadline")?;
    let memory = values::memory(memory.as_deref().unwrap_or("60%"), "limits.memory")?;
    let columns = columns.map_or(Ok(0), |text| values::memory(&text, "limits.columns"))?;
    if columns > memory / 2 {
        let message = format!("`limits.columns` is {columns} bytes, more than half of the {memory} bytes of `limits.memory`");
        return Err(Error::new(Kind::InvalidConfiguration, message).hint("operators need the rest: keep fewer columns, or raise `memory`"));
    }
    Ok(Limits {
        memory,
        columns,
        spill_directory: None,
        spill: spill.as_deref().map_or(Ok(defaults.spill), |text| amount::bytes(text, "limits.spill"))?,
        query_memory: query_memory.as_deref().map(|text| values::memory(text, "limits.query_memory")).transpose()?,
        queries: written.queries.map_or(Ok(defaults.queries), at_least_one)?,
        queue: written.queue.unwrap_or(defaults.queue),
        deadline: deadline.as_deref().map_or(Ok(defaults.deadline), |text| amount::duration(text, "limits.deadline"))?,
    })
}

fn at_least_one(queries: usize) -> Result<usize> {
    match queries {
        0 => Err(Error::new(Kind::InvalidConfiguration, "`limits.queries` is 0, and then none could run")),
        queries => Ok(queries),
    }
}

/// A dataset of which several sites have parts.
fn spread(name: &str, section: &DatasetSection, known: &[&str], may_lack_parts: bool) -> Result<(DatasetName, SpreadSpec)> {
    let key = |option: &str| format!("dataset.{name}.{option}");
    let DatasetSection { sites, table, site_column, description, .. } = section;
    let others = [
        ("path", section.path.is_some()),
        ("format", section.format.is_some()),
        ("options", !section.options.is_empty()),
        ("partitions", section.partitions.is_some()),
        ("license", section.license.is_some()),
        ("doi", section.doi.is_some()),
        ("contact", section.contact.is_some()),
        ("classification", section.classification.is_some()),
        ("embargo_until", section.embargo_until.is_some()),
        ("columns", !section.columns.is_empty()),
        ("primary_key", section.primary_key.is_some()),
        ("foreign_keys", !section.foreign_keys.is_empty()),
    ];
    if let Some((other, _)) = others.into_iter().find(|(_, is_written)| *is_written) {
        let error = Error::new(Kind::InvalidConfiguration, format!("a dataset that is spread over sites has no `{other}`"));
        return Err(error.with("key", key(other)).hint("write it at the sites, where the data lies"));
    }
    let sites = sites.clone().unwrap_or_default();
    if sites.is_empty() {
        return Err(Error::new(Kind::InvalidConfiguration, "no site has a part of it")
            .with("key", key("sites"))
            .hint("write `sites = [\"ornl\"]`"));
    }
    let replicas = &section.replicas;
    if let Some(other) = replicas.keys().find(|site| !sites.contains(site)) {
        let error = Error::new(Kind::InvalidConfiguration, format!("`{other}` has no part of it")).with("key", key("replicas"));
        return Err(error.hint(format!("the sites are {}", sites.join(", "))));
    }
    let all: Vec<&String> = sites.iter().chain(replicas.values().flatten()).collect();
    for (place, site) in all.iter().copied().enumerate() {
        if !known.contains(&site.as_str()) {
            let error = Error::new(Kind::InvalidConfiguration, format!("no site `{site}`")).with("key", key("sites"));
            return Err(match nearest(site, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("write a section [site.{site}]")),
            });
        }
        if all[..place].contains(&site) {
            return Err(
                Error::new(Kind::InvalidConfiguration, format!("`{site}` is named twice, and its rows would be")).with("key", key("sites"))
            );
        }
    }
    let (schema, table) = match table.as_deref() {
        None => ("main".to_owned(), name.to_owned()),
        Some(full) => full.rsplit_once('.').map(|(schema, table)| (schema.to_owned(), table.to_owned())).ok_or_else(|| {
            let error = Error::new(Kind::InvalidConfiguration, format!("`{full}` has no schema")).with("key", key("table"));
            error.hint(format!("write `table = \"main.{full}\"`"))
        })?,
    };
    let sites = sites.into_iter().map(|site| (site.clone(), replicas.get(&site).cloned().unwrap_or_default())).collect();
    let spec = SpreadSpec { sites, schema, table, site_column: site_column.clone(), may_lack_parts, description: description.clone() };
    Ok((DatasetName::new(name)?, spec))
}

fn dataset(name: &str, section: &DatasetSection, stores: &[StoreSpec], environment: Environment<'_>) -> Result<(DatasetName, DatasetSpec)> {
    let key = |option: &str| format!("dataset.{name}.{option}");
    let dataset_name = DatasetName::new(name)?;
    let path = section.path.as_deref().ok_or_else(|| {
        Error::new(Kind::InvalidConfiguration, format!("dataset `{name}` has no `path`"))
            .hint("write `path = \"store:folder/**\"`, or `sites` for one that is spread over sites")
    })?;
    let location = Location::parse(&values::expand(path, &key("path"), environment)?).map_err(|error| error.with("key", key("path")))?;
    let of_sites =
        [("replicas", !section.replicas.is_empty()), ("table", section.table.is_some()), ("site_column", section.site_column.is_some())];
    if let Some((other, _)) = of_sites.into_iter().find(|(_, is_written)| *is_written) {
        let error = Error::new(Kind::InvalidConfiguration, format!("`{other}` is for a dataset that is spread over sites"));
        return Err(error.with("key", key(other)).hint("write `sites`, or take it out"));
    }
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
    spec.classification = classification(section, &key)?;
    let column = |(name, column): (&String, &super::written::ColumnSection)| {
        (name.clone(), ColumnSpec { description: column.description.clone(), unit: column.unit.clone() })
    };
    spec.columns = section.columns.iter().map(column).collect::<BTreeMap<_, _>>();
    spec.primary_key = section.primary_key.clone().unwrap_or_default();
    let foreign = |(name, written): (&String, &super::written::ForeignKeySection)| {
        let named = key(&format!("foreign_keys.{name}"));
        Ok((name.clone(), foreign_key(written).map_err(|error| error.with("key", named))?))
    };
    spec.foreign_keys = section.foreign_keys.iter().map(foreign).collect::<Result<BTreeMap<_, _>>>()?;
    Ok((dataset_name, spec))
}

/// How far a dataset may be given to others.
fn classification(section: &DatasetSection, key: &dyn Fn(&str) -> String) -> Result<Option<Classification>> {
    let wrong = |what: &str, message: String| Error::new(Kind::InvalidConfiguration, message).with("key", key(what));
    let until = section.embargo_until.as_deref().map(|text| {
        let day = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|instant| instant.and_utc());
        let instant = day.or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.to_utc()));
        instant.map(SystemTime::from).ok_or_else(|| {
            wrong("embargo_until", format!("`{text}` is no instant")).hint("write a day, 2027-03-01, or an instant, 2027-03-01T12:00:00Z")
        })
    });
    match (section.classification.as_deref(), until.transpose()?) {
        (Some("embargoed"), Some(until)) => Ok(Some(Classification::Embargoed(until))),
        (Some("embargoed"), None) => {
            Err(wrong("classification", "an embargo has no end".to_owned())
                .hint("write `embargo_until`, or the classification `controlled`"))
        }
        (_, Some(_)) => {
            Err(wrong("embargo_until", "only what is `embargoed` has an end of it".to_owned())
                .hint("write `classification = \"embargoed\"`"))
        }
        (Some("open"), None) => Ok(Some(Classification::Open)),
        (Some("controlled"), None) => Ok(Some(Classification::Controlled)),
        (Some(other), None) => {
            let error = wrong("classification", format!("`{other}` is no classification"));
            Err(error.hint(format!("there are {}", Classification::WORDS.join(", "))))
        }
        (None, None) => Ok(None),
    }
}

fn foreign_key(written: &super::written::ForeignKeySection) -> Result<ForeignKey> {
    let wrong = |what: &str| Error::new(Kind::InvalidConfiguration, what);
    let columns = written
        .columns
        .clone()
        .filter(|columns| !columns.is_empty())
        .ok_or_else(|| wrong("a foreign key has no `columns`").hint("write the columns of this dataset: `columns = [\"shot\"]`"))?;
    let references = written.references.clone().ok_or_else(|| {
        wrong("a foreign key has no `references`").hint("write the dataset that its columns refer to: `references = \"shots\"`")
    })?;
    match &written.referenced {
        Some(referenced) if referenced.len() != columns.len() => {
            Err(wrong("`columns` and `referenced` of a foreign key differ in number").hint("write one column there for each column here"))
        }
        referenced => Ok(ForeignKey { columns, references, referenced: referenced.clone() }),
    }
}

/// A foreign key must lead to a dataset, and without `referenced` to as many columns of its primary key.
fn check_foreign_keys(datasets: &[(DatasetName, DatasetSpec)]) -> Result<()> {
    for (name, spec) in datasets {
        for (key, foreign) in &spec.foreign_keys {
            let wrong = |error: Error| error.with("key", format!("dataset.{name}.foreign_keys.{key}"));
            let Some((_, other)) = datasets.iter().find(|(_, other)| other.name == foreign.references) else {
                let error = Error::new(Kind::InvalidConfiguration, format!("no dataset `{}`", foreign.references));
                return Err(wrong(match nearest(&foreign.references, datasets.iter().map(|(_, other)| other.name.as_str())) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint("name a dataset of the lake file"),
                }));
            };
            if foreign.referenced.is_none() && other.primary_key.len() != foreign.columns.len() {
                let message = format!(
                    "{} columns refer to `{}`, whose primary key has {}",
                    foreign.columns.len(),
                    foreign.references,
                    other.primary_key.len()
                );
                return Err(wrong(Error::new(Kind::InvalidConfiguration, message).hint("write `primary_key` there, or `referenced` here")));
            }
        }
    }
    Ok(())
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

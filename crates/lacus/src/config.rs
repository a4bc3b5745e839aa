//! The lake file: written -> resolved.
//!
//! `written` declares every option once: its type, its default and its line in the reference. `resolve` is the only place where
//! defaults, the environment and paths are decided; from there on only [`Config`] travels, and nothing in it is optional that an
//! engine needs.

mod add;
mod agents;
mod issuer;
mod print;
mod resolve;
mod store;
mod values;
mod watched;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lacus_audit::{Audit, WhenFull};
use lacus_core::{DatasetName, DatasetSpec, Error, Kind, Result, SpreadSpec, StoreName, nearest};
use lacus_databases::{Database, DatabaseSpec};
use lacus_engine::{Engine, EngineBuilder, Limits, UnitRules};
use lacus_identity::{CertificateSpec, Hub, HubSpec, IssuerSpec};
use lacus_policy::PolicyFile;
use lacus_provenance::Kept;
use lacus_remote::{FlightSite, SiteSpec};
use lacus_storage::{CacheSpec, StoreSpec, Stores, Unnamed};

pub use agents::AgentsSpec;
pub use lacus_core::amount::duration;
pub use written::{OptionDoc, reference};

/// The name of a lake file.
pub const FILE_NAME: &str = "lacus.toml";

/// The configuration of a lake, resolved.
///
/// `Display` prints it in the form of a lake file, with secrets masked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The lake file, if there is one.
    pub file: Option<PathBuf>,
    /// The folder below which relative locations stand.
    pub base: PathBuf,
    /// The name of the lake.
    pub lake: String,
    /// The folder for what Lacus keeps: none without a lake file.
    pub state: Option<PathBuf>,
    /// Whether the lake file names that folder, so that it must be had.
    pub state_is_written: bool,
    /// The store that results are written to when their target names none.
    pub write_to: Option<StoreName>,
    /// What queries may use of the machine.
    pub limits: Limits,
    /// The rules of the optimizer that are switched off.
    pub rules_off: Vec<String>,
    /// What becomes of a query that brings numbers of different units together.
    pub units: UnitRules,
    /// The address on which `lacus serve` listens.
    pub listen: String,
    /// The certificate chain of the server and its key, each a PEM file.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The socket in the file system that it listens on, too.
    pub socket: Option<PathBuf>,
    /// The file of keys that were given out, if there is one.
    pub keys: Option<PathBuf>,
    /// Whether who doesn't say who it is may call beside them.
    pub anonymous: bool,
    /// Its users by name, each with the hash of the password by Argon2id.
    pub users: Vec<(String, String)>,
    /// The identity providers whose tokens are believed.
    pub issuers: Vec<IssuerSpec>,
    /// The certificates of clients that are believed, if any are.
    pub certificates: Option<CertificateSpec>,
    /// What the lake calls itself to these, if it asks on behalf of its users.
    pub hub: Option<HubSpec>,
    /// Other servers, whose tables are queried where they are.
    pub sites: Vec<SiteSpec>,
    /// Databases, whose tables are queried where they are, too.
    pub databases: Vec<DatabaseSpec>,
    /// Where it is recorded who asks what, if it is, and what happens while that can't be.
    pub audit: Option<(PathBuf, WhenFull)>,
    /// Where the records of answers are kept, if they are, and for how long.
    pub provenance: Option<(PathBuf, Duration)>,
    /// The file that says who may do what, if there is one.
    pub policy: Option<PathBuf>,
    /// Where what is read of remote stores is kept, if it is.
    pub cache: Option<CacheSpec>,
    /// The address on which it tells of itself over HTTP.
    pub http: Option<String>,
    /// How agents are answered.
    pub agents: AgentsSpec,
    /// The collector that it sends traces to.
    pub otlp: Option<String>,
    /// The stores.
    pub stores: Vec<StoreSpec>,
    /// How a URL is read that no store covers.
    pub unnamed: Unnamed,
    /// The datasets.
    pub datasets: Vec<(DatasetName, DatasetSpec)>,
    /// The datasets that are spread over sites.
    pub spread: Vec<(DatasetName, SpreadSpec)>,
}

impl Config {
    /// Reads a lake file, or the `lacus.toml` in a folder.
    ///
    /// # Errors
    /// `NotFound` when there is none; `InvalidConfiguration` with the line, the key and the nearest known one.
    pub fn load(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::new(Kind::NotFound, format!("the lake file can't be read: {error}"))
                .with("file", file.display())
                .hint("give the path of a lacus.toml or of the folder that holds one")
        })?;
        let file = std::path::absolute(&file).unwrap_or(file);
        let base = file.parent().map(Path::to_owned).unwrap_or_default();
        let parsed = Self::parse(&text, base, &|name| std::env::var(name).ok());
        let mut config = parsed.map_err(|error| error.with("file", file.display()))?;
        config.file = Some(file);
        Ok(config)
    }

    /// The lake file that `folder` belongs to: in it, or in the nearest folder above. An empty lake if there is none.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn discover(folder: &Path) -> Result<Self> {
        match folder.ancestors().map(|folder| folder.join(FILE_NAME)).find(|file| file.is_file()) {
            Some(file) => Self::load(&file),
            None => Self::parse("", folder.to_owned(), &|name| std::env::var(name).ok()),
        }
    }

    /// Resolves the text of a lake file. Relative locations stand below `base`; `environment` answers `${NAME}` and credentials.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, base: PathBuf, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let written: written::LakeFile = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        resolve::resolve(written, base, environment)
    }

    /// A builder for the engine of this lake, to which a program can add its own.
    ///
    /// # Errors
    /// What is wrong with the policy.
    pub fn builder(&self) -> Result<EngineBuilder> {
        let stores = Stores::new(&self.base, self.unnamed.clone(), self.stores.clone());
        let stores = Arc::new(stores.with_write_to(self.write_to.clone()).with_cache(self.cache.clone()));
        let limits = Limits { spill_directory: self.spill_directory(), ..self.limits.clone() };
        let builder = Engine::builder(stores).lake(&self.lake).limits(limits).without_rules(self.rules_off.clone()).units(self.units);
        let builder = match &self.state {
            Some(state) => builder.state(state),
            None => builder,
        };
        let builder = match &self.file {
            Some(file) => {
                let named = self.stores.iter().map(|store| store.name.clone()).collect();
                builder.lake_file(Arc::new(watched::Watched::new(file)), named)
            }
            None => builder,
        };
        let builder = match &self.audit {
            Some((file, full)) => builder.audit(Audit::new(file.clone(), *full)),
            None => builder,
        };
        let builder = match &self.provenance {
            Some((folder, keep)) => builder.provenance(Kept::new(folder.clone(), *keep)),
            None => builder,
        };
        let builder = match &self.policy {
            Some(file) => builder.policy(PolicyFile::open(file)?),
            None => builder,
        };
        let builder = crate::register_defaults(builder);
        let hub = self.hub.clone().map(|spec| Arc::new(Hub::new(spec)));
        let site = |builder: EngineBuilder, spec| builder.site(Arc::new(FlightSite::new(spec, hub.clone())));
        let builder = self.sites.iter().cloned().fold(builder, site);
        let database = |builder: EngineBuilder, spec| Ok::<_, Error>(builder.site(Arc::new(Database::new(spec)?)));
        let builder = self.databases.iter().cloned().try_fold(builder, database)?;
        let builder = self.spread.iter().fold(builder, |builder, (name, spec)| builder.spread(name.clone(), spec.clone()));
        Ok(self.datasets.iter().fold(builder, |builder, (name, spec)| builder.dataset(name.clone(), spec.clone())))
    }

    /// Where data may spill. Data often lies in folders that can't be written, and reading it must work: without a state folder of its
    /// own, a lake spills where the system keeps temporary files.
    fn spill_directory(&self) -> Option<PathBuf> {
        let spill = self.state.as_ref()?.join("spill");
        let usable = self.state_is_written || std::fs::create_dir_all(&spill).is_ok();
        usable.then_some(spill)
    }

    /// The engine of this lake.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`].
    pub fn engine(&self) -> Result<Engine> {
        self.builder()?.build()
    }
}

/// A syntax error or an unknown key, with its line and the nearest key.
fn syntax(text: &str, error: &toml::de::Error) -> Error {
    let message = error.message();
    let position = error.span().map(|span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("line {line}, column {column}")
    });
    let described = match message.strip_prefix("unknown field ") {
        Some(rest) => unknown_key(rest),
        None => Error::new(Kind::InvalidConfiguration, message.to_owned()),
    };
    match position {
        Some(position) => described.with("at", position),
        None => described,
    }
}

/// Reads serde's words "`key`, expected one of `a`, `b`".
fn unknown_key(rest: &str) -> Error {
    let names: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let (key, known) = names.split_first().unwrap_or((&"", &[]));
    let error = Error::new(Kind::InvalidConfiguration, format!("unknown key `{key}`"));
    match nearest(key, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("known here: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAKE: &str = r#"
        [lake]
        name = "fusion"
        write_to = "lustre"
        [store.beamline]
        url = "s3://beamline-data/runs/"
        endpoint = "https://s3.lab.example"
        access_key_id = "AKIALAB"
        secret_access_key = "${LAB_SECRET}"
        [store.lustre]
        url = "data"
        writable = true
        [dataset.shots]
        path = "beamline:shots/**/*.parquet"
        description = "Shots"
        [dataset.shots.columns.te]
        unit = "eV"
        [dataset.logbook]
        path = "lustre:log.csv"
        options = { delimiter = ";", header = false }
        [limits]
        memory = "1.5 GiB"
        deadline = "90s"
    "#;

    fn environment(name: &str) -> Option<String> {
        (name == "LAB_SECRET").then(|| "hunter2".to_owned())
    }

    fn refused(text: &str) -> String {
        Config::parse(text, "/lake".into(), &environment).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_lake_file_resolves_and_prints_without_secrets() -> Result<()> {
        let config = Config::parse(LAKE, "/lake".into(), &environment)?;
        assert_eq!(config.limits.memory, 3 << 29);
        assert_eq!(config.limits.deadline.as_secs(), 90);
        let printed = config.to_string();
        assert!(printed.contains("secret_access_key = \"***\"") && !printed.contains("hunter2"), "{printed}");
        assert!(!format!("{config:?}").contains("hunter2"));
        let again = Config::parse(&printed, "/lake".into(), &environment)?;
        assert_eq!(again.write_to.as_ref().map(StoreName::as_str), Some("lustre"));
        Ok(())
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_nearest() {
        assert_eq!(
            refused("[store.x]\nurl = 's3://b'\nendpiont = 'e'"),
            "unknown key `endpiont` (at: line 3, column 1); did you mean `endpoint`?"
        );
        assert!(refused("[datset.x]\npath='a'").contains("did you mean `dataset`?"));
        assert!(refused("[database.logbook]\nurl='oracle://x'").contains("postgresql://"));
        assert!(refused("[lake\n").contains("at: line 1"));
    }

    #[test]
    fn what_can_not_be_resolved_says_why() {
        assert!(refused("[store.s3]\nurl='/x'").contains("URL scheme"));
        assert!(refused("[store.x]\nurl='s3://b'\nsecret_access_key='${NOPE}'").contains("NOPE"));
        assert!(refused("[dataset.A-b]\npath='x'").contains("can't name a dataset"));
        assert!(refused("[dataset.a]\npath='nope:x'").contains("no store `nope`"));
        assert!(refused("[limits]\nmemory='much'").contains("memory"));
        assert!(refused("[store.x]\nurl='ftp://b'").contains("ftp"));
        assert!(refused("[lake]\nwrite_to='x'\n[store.x]\nurl='d'").contains("`writable = true` under [store.x]"));
        assert!(refused("[lake]\nwrite_to='y'\n[store.x]\nurl='d'").contains("no store `y`"));
    }
}

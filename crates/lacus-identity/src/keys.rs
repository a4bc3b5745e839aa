use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use lacus_core::{Bearer, Error, FileStamp, Kind, Principal, Result, Tokens, hex, nearest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::private;

/// How every key begins.
const PREFIX: &str = "lacus_";

/// What is known of a key that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// On whose behalf its calls run.
    pub user: String,
    /// The groups that its user is in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// What it is for: with scopes it may do what rules say of these, and no more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// From when on it stands for nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
    /// Who holds it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The SHA-256 of its secret.
    hash: String,
}

impl Key {
    fn principal(&self, id: &str) -> Principal {
        let principal = Principal::user(&self.user).with_claims([("key".to_owned(), id.to_owned())]);
        match self.scopes.is_empty() {
            true => principal.with_groups(self.groups.iter().cloned()),
            false => principal.limited_to(self.scopes.iter().cloned()),
        }
    }
}

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// On whose behalf its calls run.
    pub user: String,
    /// The groups that its user is in.
    pub groups: Vec<String>,
    /// What it is for; all that its user may do, without any.
    pub scopes: Vec<String>,
    /// From when on it stands for nobody.
    pub expires: Option<SystemTime>,
    /// Who holds it, in words.
    pub note: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    key: BTreeMap<String, Key>,
}

/// A file of keys, which takes effect when it changes. One that can't be read lets nobody in.
#[derive(Debug)]
pub struct KeyFile {
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<FileStamp>,
    keys: Result<Arc<BTreeMap<String, Key>>>,
}

impl KeyFile {
    /// Reads a file of keys. That there is none yet is no error: there are no keys then.
    ///
    /// # Errors
    /// `InvalidConfiguration` for a file that holds something else.
    pub fn open(file: impl Into<PathBuf>) -> Result<Self> {
        let file = file.into();
        let stamp = FileStamp::of(&file);
        let keys = Ok(Arc::new(load(&file)?));
        Ok(Self { file, seen: Mutex::new(Seen { stamp, keys }) })
    }

    /// The keys by their ids, as they are now.
    ///
    /// # Errors
    /// As [`KeyFile::open`].
    pub fn keys(&self) -> Result<Arc<BTreeMap<String, Key>>> {
        let mut seen = self.held();
        let stamp = FileStamp::of(&self.file);
        if stamp != seen.stamp {
            seen.stamp = stamp;
            seen.keys =
                load(&self.file).map(Arc::new).inspect_err(|error| tracing::error!(%error, "the keys can't be read; none is valid"));
        }
        seen.keys.clone()
    }

    /// Makes a key, and gives its id and the key itself, which is kept nowhere.
    ///
    /// # Errors
    /// As [`KeyFile::open`]; `Unavailable` when the file can't be written.
    pub fn create(&self, new: NewKey) -> Result<(String, String)> {
        let _locked = self.locked()?;
        let mut keys = load(&self.file)?;
        let id = format!("{:08x}", rand::random::<u32>());
        let secret = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let NewKey { user, groups, scopes, expires, note } = new;
        let (groups, scopes) = (groups.into_iter().collect(), scopes.into_iter().collect());
        let (created, expires) = (Utc::now(), expires.map(DateTime::from));
        keys.insert(id.clone(), Key { user, groups, scopes, created, expires, note, hash: digest(&secret) });
        self.write(keys)?;
        Ok((id.clone(), format!("{PREFIX}{id}_{secret}")))
    }

    /// Takes a key back.
    ///
    /// # Errors
    /// `NotFound` when there is no such key; else as [`KeyFile::create`].
    pub fn revoke(&self, id: &str) -> Result<()> {
        let _locked = self.locked()?;
        let mut keys = load(&self.file)?;
        if keys.remove(id).is_none() {
            let error = Error::new(Kind::NotFound, format!("no key `{id}`"));
            return Err(match nearest(id, keys.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`lacus keys list` lists them"),
            });
        }
        self.write(keys)
    }

    /// Keeps others from changing the file until what this gives is dropped.
    fn locked(&self) -> Result<std::fs::File> {
        private::lock(&self.file).map_err(|error| {
            Error::new(Kind::Unavailable, format!("the keys can't be locked: {error}"))
                .with("file", self.file.with_extension("lock").display())
        })
    }

    /// Puts a file with these keys in the place of the one that is there.
    fn write(&self, keys: BTreeMap<String, Key>) -> Result<()> {
        let unwritten = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Unavailable, format!("the keys can't be written: {error}")).with("file", self.file.display())
        };
        let text = toml::to_string(&Written { key: keys }).map_err(|error| unwritten(&error))?;
        private::replace(&self.file, text.as_bytes()).map_err(|error| unwritten(&error))
    }

    fn held(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(file: &Path) -> Result<BTreeMap<String, Key>> {
    let unread = |error: &dyn std::fmt::Display| {
        Error::new(Kind::InvalidConfiguration, format!("the keys can't be read: {error}")).with("file", file.display())
    };
    match std::fs::read_to_string(file) {
        Ok(text) => toml::from_str::<Written>(&text).map(|written| written.key).map_err(|error| unread(&error.message())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(unread(&error)),
    }
}

fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

#[async_trait]
impl Tokens for KeyFile {
    async fn bearer(&self, token: &str) -> Result<Option<Bearer>> {
        let Some((id, secret)) = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else { return Ok(None) };
        let refused = |what: String| Error::new(Kind::Unauthenticated, what).hint("ask whoever keeps this lake for a new key");
        let keys = self.keys().map_err(|_| refused("the keys of this server can't be read now".to_owned()))?;
        // Hashes are compared: how much of one was right tells nothing of the secret.
        let known = keys.get(id).filter(|key| key.hash == digest(secret));
        let key = known.ok_or_else(|| refused("the key is unknown here, or was taken back".to_owned()))?;
        if let Some(expired) = key.expires.filter(|expires| *expires <= Utc::now()) {
            return Err(refused(format!("the key expired at {}", expired.to_rfc3339())));
        }
        Ok(Some(Bearer { principal: key.principal(id), expires: key.expires.map(SystemTime::from) }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_key_is_good_until_it_expires_or_is_taken_back() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (file, other) = (KeyFile::open(folder.path().join("keys.toml"))?, KeyFile::open(folder.path().join("keys.toml"))?);
        let new = |expires| NewKey { user: "ada".to_owned(), groups: vec!["plasma".to_owned()], expires, ..NewKey::default() };
        let (id, key) = file.create(new(None))?;
        let (_, old) = file.create(new(Some(SystemTime::now() - Duration::from_secs(1))))?;
        let (_, scoped) = file.create(NewKey { scopes: vec!["read".to_owned()], ..new(None) })?;
        let bearer = other.bearer(&key).await?.ok_or("is none of its own")?;
        assert_eq!((bearer.principal.name(), bearer.principal.groups().collect::<Vec<_>>()), ("ada", vec!["plasma"]));
        let scoped = other.bearer(&scoped).await?.ok_or("is none of its own")?.principal;
        assert!(scoped.is_limited() && scoped.groups().count() == 0 && scoped.scopes().eq(["read"]));
        let kind = |refused: Result<Option<Bearer>>| refused.map(|bearer| bearer.is_some()).map_err(|error| error.kind());
        assert_eq!(kind(other.bearer(&old).await), Err(Kind::Unauthenticated));
        assert_eq!(kind(other.bearer(&format!("{key}x")).await), Err(Kind::Unauthenticated));
        assert_eq!(kind(other.bearer("eyJhbGciOi.x.y").await), Ok(false));
        let text = std::fs::read_to_string(folder.path().join("keys.toml"))?;
        assert!(!text.contains(&key[PREFIX.len() + id.len() + 1..]));
        file.revoke(&id)?;
        assert!(file.revoke(&id).is_err());
        assert_eq!(kind(other.bearer(&key).await), Err(Kind::Unauthenticated));
        std::fs::write(folder.path().join("keys.toml"), "[key")?;
        assert_eq!(kind(other.bearer(&key).await), Err(Kind::Unauthenticated));
        Ok(())
    }
}

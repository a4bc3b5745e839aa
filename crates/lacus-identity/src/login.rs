//! How a person comes by a token: at a browser, be it of another device (RFC 8628). Tokens are kept for the server that they were asked
//! for, and brought to no other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lacus_core::{Error, Kind, Result, Secret, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::key_set::{discover, read};
use crate::private;
use crate::web::Web;

/// What is asked for when nothing is said: who it is, and to stay for a while.
const SCOPES: &str = "openid offline_access";
/// How long an issuer waits for its user when it doesn't say.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is asked whether its user has agreed, when it doesn't say, and how much less often when that is too often.
const INTERVAL: Duration = Duration::from_secs(5);
/// A token that ends sooner is renewed.
const LEAST_LEFT: TimeDelta = TimeDelta::seconds(30);

/// Who is asked for a token, and for what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginSpec {
    /// What the issuer calls itself.
    pub issuer: String,
    /// What it calls this program: a public client, which has no secret.
    pub client: String,
    /// The scopes that are asked for; `openid offline_access` without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Whom the token is for, where the issuer wants to be told (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whom the token is for, in the word of issuers that know no `resource`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The authorities that are trusted beside those of the system: a PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// A token that was given, with what renews it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    spec: LoginSpec,
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<DateTime<Utc>>,
}

/// What an issuer answers who asks for a token on another device.
#[derive(Debug, Deserialize)]
struct Asked {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<i64>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    error_description: Option<String>,
}

impl Granted {
    fn kept(self, spec: LoginSpec, before: Option<String>) -> Kept {
        let expires = self.expires_in.map(|seconds| Utc::now() + TimeDelta::seconds(seconds));
        Kept { spec, access: self.access_token, refresh: self.refresh_token.or(before), expires }
    }
}

/// A login that waits for its user.
pub struct Waiting {
    spec: LoginSpec,
    web: Web,
    place: String,
    asked: Asked,
}

impl Waiting {
    /// Where the user agrees.
    pub fn place(&self) -> &str {
        self.asked.verification_uri_complete.as_deref().unwrap_or(&self.asked.verification_uri)
    }

    /// What the user types or compares there.
    pub fn code(&self) -> &str {
        &self.asked.user_code
    }

    /// Waits until the user has agreed.
    async fn agreed(self) -> Result<Kept> {
        let Self { spec, web, place, asked } = self;
        let until = tokio::time::Instant::now() + asked.expires_in.map_or(PATIENCE, Duration::from_secs);
        let mut interval = asked.interval.map_or(INTERVAL, Duration::from_secs);
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", asked.device_code.as_str()),
            ("client_id", spec.client.as_str()),
        ];
        loop {
            tokio::time::sleep(interval).await;
            match granted(&web, &place, &form).await? {
                Ok(granted) => return Ok(granted.kept(spec, None)),
                Err(refused) => match refused.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += INTERVAL,
                    _ => return Err(refused.error()),
                },
            }
            if tokio::time::Instant::now() >= until {
                return Err(Error::new(Kind::DeadlineExceeded, "nobody agreed in time").hint("begin again"));
            }
        }
    }
}

impl Refused {
    fn error(self) -> Error {
        let why = self.error_description.map(|why| format!(": {why}")).unwrap_or_default();
        Error::new(Kind::Unauthenticated, format!("the issuer refuses a token: {}{why}", self.error))
    }
}

/// Asks for a token: what is granted, or why none is.
async fn granted(web: &Web, place: &str, form: &[(&str, &str)]) -> Result<std::result::Result<Granted, Refused>> {
    let (status, body) = web.post(place, form, None).await?;
    match status.is_success() {
        true => Ok(Ok(read(&body, place)?)),
        false => match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) => Ok(Err(refused)),
            Err(_) => Err(Error::new(Kind::Unavailable, format!("the issuer answers {status}")).with("url", place)),
        },
    }
}

/// The tokens that a person has been given, a file for each server that they are for.
#[derive(Debug, Clone)]
pub struct Logins {
    folder: PathBuf,
}

impl Logins {
    /// The tokens in this folder, which nobody else can read.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The tokens of the user of this process: below `XDG_STATE_HOME`, or `~/.local/state`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the environment names no home.
    pub fn of_user() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        let state = state.ok_or_else(|| Error::new(Kind::InvalidConfiguration, "there is no home to keep tokens in").hint("set HOME"))?;
        Ok(Self::in_folder(state.join("lacus/logins")))
    }

    /// Begins a login.
    ///
    /// # Errors
    /// `Unavailable` when the issuer can't be asked, `Unauthenticated` when it refuses, `Unsupported` when it knows no such login.
    pub async fn begin(&self, spec: LoginSpec) -> Result<Waiting> {
        let web = Web::new(spec.ca.as_deref())?;
        let discovered = discover(&web, &spec.issuer).await?;
        let (Some(ask), Some(place)) = (discovered.device_authorization_endpoint, discovered.token_endpoint) else {
            return Err(Error::new(Kind::Unsupported, "the issuer gives no tokens to who agrees on another device")
                .with("issuer", &spec.issuer)
                .hint("get a token elsewhere, and set LACUS_TOKEN"));
        };
        let scopes = if spec.scopes.is_empty() { SCOPES.to_owned() } else { spec.scopes.join(" ") };
        let mut form = vec![("client_id", spec.client.as_str()), ("scope", scopes.as_str())];
        form.extend(spec.resource.as_deref().map(|resource| ("resource", resource)));
        form.extend(spec.audience.as_deref().map(|audience| ("audience", audience)));
        let (status, body) = web.post(&ask, &form, None).await?;
        if !status.is_success() {
            return Err(match serde_json::from_slice::<Refused>(&body) {
                Ok(refused) => refused.error(),
                Err(_) => Error::new(Kind::Unavailable, format!("the issuer answers {status}")).with("url", &ask),
            });
        }
        let asked = read(&body, &ask)?;
        Ok(Waiting { spec, web, place, asked })
    }

    /// Waits until the user has agreed, and keeps the token for `server`.
    ///
    /// # Errors
    /// `Unauthenticated` when the user refuses, `DeadlineExceeded` when none agrees; `Unavailable` when the token can't be kept.
    pub async fn finish(&self, waiting: Waiting, server: &str) -> Result<()> {
        self.keep(server, &waiting.agreed().await?)
    }

    /// The token for `server`, renewed if it ends soon; `None` when there was no login.
    ///
    /// # Errors
    /// `Unauthenticated` when it has ended and can't be renewed; `Unavailable` when the issuer can't be asked.
    pub async fn token(&self, server: &str) -> Result<Option<Secret>> {
        let Some(kept) = self.kept(server)? else { return Ok(None) };
        if !ends(&kept) {
            return Ok(Some(Secret::new(kept.access)));
        }
        // What renews a token is good once: another process may have used it meanwhile.
        let lock = self.lock(server).await?;
        let Some(kept) = self.kept(server)? else { return Ok(None) };
        if !ends(&kept) {
            return Ok(Some(Secret::new(kept.access)));
        }
        let again = |error: Error| error.hint("log in again: `lacus login`");
        let Kept { spec, refresh, .. } = kept;
        let refresh = refresh.ok_or_else(|| again(Error::new(Kind::Unauthenticated, "the token has ended, and can't be renewed")))?;
        let web = Web::new(spec.ca.as_deref())?;
        let place = discover(&web, &spec.issuer).await?.token_endpoint;
        let place = place.ok_or_else(|| Error::new(Kind::Unavailable, "the issuer doesn't say where it gives tokens"))?;
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", &refresh), ("client_id", &spec.client)];
        form.extend(spec.resource.as_deref().map(|resource| ("resource", resource)));
        let kept = match granted(&web, &place, &form).await? {
            Ok(granted) => granted.kept(spec, Some(refresh)),
            Err(refused) => return Err(again(refused.error())),
        };
        self.keep(server, &kept)?;
        drop(lock);
        Ok(Some(Secret::new(kept.access)))
    }

    /// Forgets the token for `server`; whether there was one.
    ///
    /// # Errors
    /// `Unavailable` when it can't be taken away.
    pub fn forget(&self, server: &str) -> Result<bool> {
        let file = self.file(server);
        match std::fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unkept(&file, &error)),
        }
    }

    fn file(&self, server: &str) -> PathBuf {
        self.folder.join(format!("{}.json", &hex(&Sha256::digest(server.as_bytes()))[..32]))
    }

    fn kept(&self, server: &str) -> Result<Option<Kept>> {
        let file = self.file(server);
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::new(Kind::InvalidConfiguration, format!("the token that was kept can't be read: {error}"))
                    .with("file", file.display())
                    .hint("log in again: `lacus login`")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unkept(&file, &error)),
        }
    }

    fn keep(&self, server: &str, kept: &Kept) -> Result<()> {
        let file = self.file(server);
        let text = serde_json::to_vec_pretty(kept).map_err(|error| unkept(&file, &error))?;
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| private::replace(&file, &text));
        written.map_err(|error| unkept(&file, &error))
    }

    async fn lock(&self, server: &str) -> Result<std::fs::File> {
        let file = self.file(server);
        let locking = file.clone();
        let locked = tokio::task::spawn_blocking(move || private::lock(&locking));
        locked.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))?.map_err(|error| unkept(&file, &error))
    }
}

fn ends(kept: &Kept) -> bool {
    kept.expires.is_some_and(|expires| expires - Utc::now() < LEAST_LEFT)
}

fn unkept(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Unavailable, format!("tokens can't be kept: {error}")).with("file", file.display())
}

use std::path::Path;
use std::time::Duration;

use lacus_core::{Error, Kind, Result, Secret, amount};
use lacus_identity::{IssuerSpec, Issuers};

use super::resolve::Environment;
use super::values;
use super::written::{IssuerSection, LakeFile};

/// The claims that name groups when nothing is written: the usual one, and that of the WLCG profile.
const GROUPS: [&str; 2] = ["groups", "wlcg.groups"];
/// How long keys are used when their issuer can't be reached.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The identity providers whose tokens are believed.
pub(crate) fn issuers(written: &LakeFile, base: &Path, environment: Environment<'_>) -> Result<Vec<IssuerSpec>> {
    // Somebody else may be called `ada` there.
    let is_shared = !written.user.is_empty() || written.serve.keys.is_some() || written.issuer.len() > 1;
    let issuer = |(name, section): (&String, &IssuerSection)| issuer(name, section, is_shared, base, environment);
    let issuers = written.issuer.iter().map(issuer).collect::<Result<Vec<_>>>()?;
    for issuer in &issuers {
        let meets =
            |other: &&IssuerSpec| other.name != issuer.name && !issuer.prefix.is_empty() && other.prefix.starts_with(&issuer.prefix);
        if let Some(other) = issuers.iter().find(meets) {
            let message =
                format!("the prefix `{}` begins that of the issuer `{}`, whose users could have the same names", issuer.prefix, other.name);
            return Err(Error::new(Kind::InvalidConfiguration, message).with("key", format!("issuer.{}.prefix", issuer.name)));
        }
    }
    // A mistake is told when the lake is opened, and not when the first token is brought.
    Issuers::check(&issuers)?;
    Ok(issuers)
}

fn issuer(name: &str, section: &IssuerSection, is_shared: bool, base: &Path, environment: Environment<'_>) -> Result<IssuerSpec> {
    let wrong = |message: &str| Error::new(Kind::InvalidConfiguration, message).with("key", format!("issuer.{name}"));
    let expand = |text: &Option<String>, key: &str| {
        text.as_deref().map(|text| values::expand(text, &format!("issuer.{name}.{key}"), environment)).transpose()
    };
    let url = expand(&section.url, "url")?
        .ok_or_else(|| wrong("an issuer without `url`").hint("write what it calls itself: `url = \"https://login.lab.example\"`"))?;
    let client = match (expand(&section.client, "client")?, expand(&section.secret, "secret")?) {
        (Some(client), Some(secret)) => Some((client, Secret::new(secret))),
        (None, None) => None,
        _ => return Err(wrong("one of `client` and `secret` is missing").hint("write both, or none")),
    };
    if section.prefix.is_none() && is_shared {
        return Err(wrong("users of this issuer could have the names of others").hint(format!(
            "write `prefix = \"{name}/\"`, which stands before their names then; or `prefix = \"\"`, if the same names are the same people"
        )));
    }
    let kept = section.keys_kept.as_deref().map(|text| amount::duration(text, &format!("issuer.{name}.keys_kept")));
    Ok(IssuerSpec {
        name: name.to_owned(),
        url,
        audience: section.audience.clone(),
        algorithms: section.algorithms.clone(),
        user: section.user.clone().unwrap_or_else(|| "sub".to_owned()),
        prefix: section.prefix.clone().unwrap_or_default(),
        groups: section.groups.clone().unwrap_or_else(|| GROUPS.map(str::to_owned).to_vec()),
        claims: section.claims.clone(),
        limited: section.limited,
        client,
        ca: expand(&section.ca, "ca")?.map(|file| base.join(file)),
        keys_kept: kept.transpose()?.unwrap_or(KEYS_KEPT),
    })
}

use std::path::Path;
use std::time::Duration;

use lacus_core::{Error, Kind, Result, Secret, amount};
use lacus_identity::{CertificateName, CertificateSpec, IssuerSpec, Issuers};

use super::resolve::Environment;
use super::values;
use super::written::{CertificatesSection, IssuerSection, LakeFile};

/// The claims that name groups when nothing is written: the usual one, and that of the WLCG profile.
const GROUPS: [&str; 2] = ["groups", "wlcg.groups"];
/// How long keys are used when their issuer can't be reached.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The identity providers whose tokens are believed, and the authorities whose certificates are.
pub(crate) fn issuers(written: &LakeFile, base: &Path, environment: Environment<'_>) -> Result<(Vec<IssuerSpec>, Option<CertificateSpec>)> {
    // Somebody else may be called `ada` there.
    let others = written.issuer.len() + usize::from(written.certificates.ca.is_some());
    let is_shared = !written.user.is_empty() || written.serve.keys.is_some() || others > 1;
    let issuer = |(name, section): (&String, &IssuerSection)| issuer(name, section, is_shared, base, environment);
    let issuers = written.issuer.iter().map(issuer).collect::<Result<Vec<_>>>()?;
    let certificates = certificates(&written.certificates, is_shared, base, environment)?;
    let of_issuers = issuers.iter().map(|issuer| (format!("issuer.{}", issuer.name), &issuer.prefix));
    let prefixes: Vec<_> = of_issuers.chain(certificates.iter().map(|spec| ("certificates".to_owned(), &spec.prefix))).collect();
    for (section, prefix) in &prefixes {
        let meets = |(other, theirs): &&(String, &String)| other != section && !prefix.is_empty() && theirs.starts_with(prefix.as_str());
        if let Some((other, _)) = prefixes.iter().find(meets) {
            let message = format!("the prefix `{prefix}` begins that of [{other}], whose users could have the same names");
            return Err(Error::new(Kind::InvalidConfiguration, message).with("key", format!("{section}.prefix")));
        }
    }
    // A mistake is told when the lake is opened, and not when the first token is brought.
    Issuers::check(&issuers)?;
    Ok((issuers, certificates))
}

/// The refusal of what could give a user the name of another.
fn prefix(written: &Option<String>, section: &str, example: &str, is_shared: bool) -> Result<String> {
    if written.is_none() && is_shared {
        let error = Error::new(Kind::InvalidConfiguration, format!("users of [{section}] could have the names of others"));
        return Err(error.with("key", format!("{section}.prefix")).hint(format!(
            "write `prefix = \"{example}/\"`, which stands before their names then; or `prefix = \"\"`, if the same names are the same people"
        )));
    }
    Ok(written.clone().unwrap_or_default())
}

fn certificates(
    written: &CertificatesSection,
    is_shared: bool,
    base: &Path,
    environment: Environment<'_>,
) -> Result<Option<CertificateSpec>> {
    let file = |text: &Option<String>, key: &str| {
        let file = text.as_deref().map(|text| values::expand(text, &format!("certificates.{key}"), environment)).transpose()?;
        Ok::<_, Error>(file.map(|file| base.join(file)))
    };
    let Some(ca) = file(&written.ca, "ca")? else {
        let CertificatesSection { ca: _, crl, user, prefix } = written;
        return match crl.is_some() || user.is_some() || prefix.is_some() {
            true => Err(Error::new(Kind::InvalidConfiguration, "[certificates] without `ca`")
                .hint("write the file of the authorities whose certificates are believed: `ca = \"lab-ca.pem\"`")),
            false => Ok(None),
        };
    };
    let user = written.user.as_deref().map(|user| user.parse().map_err(|error: Error| error.with("key", "certificates.user")));
    Ok(Some(CertificateSpec {
        ca,
        crl: file(&written.crl, "crl")?,
        user: user.transpose()?.unwrap_or(CertificateName::CommonName),
        prefix: prefix(&written.prefix, "certificates", "lab", is_shared)?,
    }))
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
    let keys = expand(&section.keys, "keys")?.map(|file| base.join(file));
    if keys.is_some() && client.is_some() {
        return Err(wrong("one of `keys` and `client` is too much: who has its keys in a file isn't asked").hint("leave one of them out"));
    }
    let kept = section.keys_kept.as_deref().map(|text| amount::duration(text, &format!("issuer.{name}.keys_kept")));
    Ok(IssuerSpec {
        name: name.to_owned(),
        url,
        audience: section.audience.clone(),
        algorithms: section.algorithms.clone(),
        user: section.user.clone().unwrap_or_else(|| "sub".to_owned()),
        prefix: prefix(&section.prefix, &format!("issuer.{name}"), name, is_shared)?,
        groups: section.groups.clone().unwrap_or_else(|| GROUPS.map(str::to_owned).to_vec()),
        claims: section.claims.clone(),
        limited: section.limited,
        client,
        ca: expand(&section.ca, "ca")?.map(|file| base.join(file)),
        keys,
        keys_kept: kept.transpose()?.unwrap_or(KEYS_KEPT),
    })
}

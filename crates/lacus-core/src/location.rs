use std::fmt;
use std::path::PathBuf;

use crate::{Error, Kind, Result, StoreName};

/// URL schemes, which can't name a store.
pub const RESERVED_STORE_NAMES: [&str; 19] = [
    "abfs", "abfss", "adl", "az", "azure", "dav", "davs", "file", "ftp", "gcs", "grpc", "gs", "http", "https", "lake", "root", "s3", "s3a",
    "sftp",
];

/// Where a dataset lies, as a person writes it: `store:path`, a URL, or a path.
///
/// Parsing is syntax alone: whether the store exists is for the stores to say. A path that begins with `/`, `./` or `../`
/// is always a path, so a file whose name holds a colon can be named too.
///
/// ```
/// use lacus_core::Location;
/// assert_eq!(Location::parse("beamline:shots/**/*.parquet")?.to_string(), "beamline:shots/**/*.parquet");
/// assert!(matches!(Location::parse("s3://bucket/x.parquet")?, Location::Url { .. }));
/// assert!(matches!(Location::parse("runs/a.csv")?, Location::Path(_)));
/// # Ok::<(), lacus_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A path below a named store.
    Store {
        /// The store.
        store: StoreName,
        /// The path below it, possibly a glob.
        path: String,
    },
    /// `scheme://rest`, taken literally: keys of objects hold spaces, `?`, `#` and `%`, and `?` is a glob besides.
    Url {
        /// What stands before `://`, in lower case.
        scheme: String,
        /// What stands behind it, possibly with a glob.
        rest: String,
    },
    /// A local path, relative to the lake file or to the working folder.
    Path(PathBuf),
}

impl Location {
    /// Reads `text`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when it is empty, not a URL though it has `://`, or carries credentials.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Err(Error::new(Kind::InvalidConfiguration, "an empty location").hint("write `store:path`, a URL or a path"));
        }
        if text.contains("://") {
            return parse_url(text);
        }
        let explicit_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        match text.split_once(':') {
            Some((store, path)) if !explicit_path => match StoreName::new(store) {
                Ok(store) => Ok(Self::Store { store, path: path.trim_start_matches('/').to_owned() }),
                Err(error) => Err(error.with("location", text).hint("a path that holds a colon begins with `./` or `/`")),
            },
            _ => Ok(Self::Path(PathBuf::from(text))),
        }
    }
}

fn parse_url(text: &str) -> Result<Location> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let plain = |next: char| next.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&next);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.chars().all(plain) || rest.is_empty() {
        return Err(Error::new(Kind::InvalidConfiguration, "not a URL").with("location", without_user_info(text)));
    }
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        return Err(Error::new(Kind::InvalidConfiguration, "a location may not carry credentials")
            .with("location", without_user_info(text))
            .hint("declare a [store.NAME] with `credentials` in the lake file"));
    }
    Ok(Location::Url { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned() })
}

fn without_user_info(text: &str) -> String {
    match (text.split_once("://"), text.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://***{}", &text[at..]),
        _ => text.to_owned(),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { store, path } => write!(formatter, "{store}:{path}"),
            Self::Url { scheme, rest } => write!(formatter, "{scheme}://{rest}"),
            Self::Path(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_colons_are_paths_when_they_say_so() {
        assert!(matches!(Location::parse("./a:b.csv"), Ok(Location::Path(_))));
        assert!(matches!(Location::parse("a:b.csv"), Ok(Location::Store { .. })));
        assert!(Location::parse("2024:x").is_err());
        assert!(Location::parse("").is_err());
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_echoed() {
        let error = Location::parse("s3://key:secret@bucket/x").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("credentials") && !error.contains("secret"), "{error}");
    }
}

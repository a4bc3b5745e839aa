use std::fmt;
use std::path::PathBuf;

use url::Url;

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
/// assert!(matches!(Location::parse("s3://bucket/x.parquet")?, Location::Url(_)));
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
    /// An absolute URL, possibly with a glob in its path.
    Url(Url),
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
    let url = Url::parse(text)
        .map_err(|error| Error::new(Kind::InvalidConfiguration, format!("not a URL: {error}")).with("location", without_user_info(text)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::new(Kind::InvalidConfiguration, "a location may not carry credentials")
            .with("location", without_user_info(text))
            .hint("declare a [store.NAME] with `credentials` in the lake file"));
    }
    Ok(Location::Url(url))
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
            Self::Url(url) => formatter.write_str(url.as_str()),
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

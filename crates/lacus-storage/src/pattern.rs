//! Which objects a location names: one object, a folder, or a glob.

use futures::TryStreamExt;
use globset::{GlobBuilder, GlobMatcher};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// How deep `**` reaches for folders.
const MOST_LEVELS: usize = 16;

/// A location resolved to the virtual store: a literal prefix, and a glob for what follows it.
#[derive(Debug, Clone)]
pub struct Pattern {
    shown: String,
    prefix: Path,
    glob: Option<GlobMatcher>,
    folder_only: bool,
    /// How many segments the glob has; none when it crosses segments.
    depth: Option<usize>,
    /// The object that the text would name if it were no glob.
    named: Option<Path>,
}

impl Pattern {
    /// The pattern `path` below `root` of the virtual store; `shown` is what the person wrote.
    ///
    /// `*` and `?` stay within one segment, `**` crosses segments.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the glob can't be read.
    pub fn new(shown: impl Into<String>, root: &Path, path: &str) -> Result<Self> {
        let shown = shown.into();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let literal = segments.iter().take_while(|segment| !segment.contains(['*', '?', '[', '{'])).count();
        let below = |segments: &[&str]| {
            let text = std::iter::once(root.as_ref()).chain(segments.iter().copied()).collect::<Vec<_>>().join("/");
            // Taken as it stands: a key is not a URL.
            Path::parse(text).map_err(|error| {
                Error::new(Kind::InvalidConfiguration, format!("the path can't be read: {error}")).with("location", &shown)
            })
        };
        let prefix = below(&segments[..literal])?;
        let glob = match &segments[literal..] {
            [] => None,
            rest => Some(matcher(&shown, &rest.join("/"))?),
        };
        // `[` stands in the names of files more often than in globs, so the name comes first.
        let named = if glob.is_some() && path.contains('[') { Some(below(&segments)?) } else { None };
        let depth = (!segments.contains(&"**")).then(|| segments.len() - literal);
        Ok(Self { depth, folder_only: path.is_empty() || path.ends_with('/'), shown, prefix, glob, named })
    }

    /// What the person wrote.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The literal part in the virtual store.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The last part of what was written, whose ending tells a format: `None` for a folder.
    pub fn ending(&self) -> Option<&str> {
        if self.folder_only { None } else { self.shown.rsplit(['/', ':']).next().filter(|last| last.contains('.')) }
    }

    /// The objects that match, in the order of their paths.
    ///
    /// Below a folder or a glob, names that begin with `.` or `_` are not data (`_SUCCESS`, `.snapshot`) and are passed over, as
    /// every engine that reads folders does.
    ///
    /// # Errors
    /// `NotFound` when nothing matches, or what the store says.
    pub async fn list(&self, store: &dyn ObjectStore) -> Result<Vec<ObjectMeta>> {
        let single = if self.glob.is_none() && !self.folder_only { Some(&self.prefix) } else { self.named.as_ref() };
        if let Some(single) = single {
            match store.head(single).await {
                Ok(object) => return Ok(vec![object]),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let matching = store.list(Some(&self.prefix)).try_filter(|object| std::future::ready(self.matches(&object.location)));
        let mut objects: Vec<ObjectMeta> = matching.try_collect().await?;
        if objects.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("no file matches `{}`", self.shown))
                .hint("check the path; `*` stays within one folder, `**` reaches below"));
        }
        objects.sort_unstable_by(|left, right| left.location.cmp(&right.location));
        Ok(objects)
    }

    /// The folders that match, in the order of their paths: without a glob the one that is named, whether or not it exists. Nothing
    /// below a folder that matches is listed.
    ///
    /// # Errors
    /// `NotFound` when nothing matches, or what the store says.
    pub async fn folders(&self, store: &dyn ObjectStore) -> Result<Vec<Path>> {
        if self.glob.is_none() {
            return Ok(vec![self.prefix.clone()]);
        }
        let mut found = Vec::new();
        let mut level = vec![self.prefix.clone()];
        for _ in 0..self.depth.unwrap_or(MOST_LEVELS) {
            let mut next = Vec::new();
            for folder in level {
                for below in store.list_with_delimiter(Some(&folder)).await?.common_prefixes {
                    if self.matches(&below) { found.push(below) } else { next.push(below) }
                }
            }
            level = next;
        }
        if found.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("no folder matches `{}`", self.shown))
                .hint("check the path; `*` stays within one folder, `**` reaches below"));
        }
        found.sort();
        Ok(found)
    }

    /// Whether the object at `path` is named by this pattern.
    pub fn matches(&self, path: &Path) -> bool {
        if !path.prefix_matches(&self.prefix) {
            return false;
        }
        let rest = path.as_ref()[self.prefix.as_ref().len()..].trim_start_matches('/');
        let hidden = rest.split('/').any(is_hidden);
        !hidden && !rest.is_empty() && self.glob.as_ref().is_none_or(|glob| glob.is_match(rest))
    }
}

/// `_date=2024-01-01` is a partition, `_SUCCESS` and `.snapshot` are marks.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

fn matcher(shown: &str, glob: &str) -> Result<GlobMatcher> {
    GlobBuilder::new(glob).literal_separator(true).build().map(|glob| glob.compile_matcher()).map_err(|error| {
        Error::new(Kind::InvalidConfiguration, format!("the glob can't be read: {}", error.kind())).with("location", shown)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> Result<bool> {
        Ok(Pattern::new(pattern, &Path::from("lab"), pattern)?.matches(&Path::from(path)))
    }

    #[test]
    fn globs_match_below_their_literal_part() -> Result<()> {
        assert!(matches("shots/**/*.parquet", "lab/shots/x.parquet")?);
        assert!(matches("shots/**/*.parquet", "lab/shots/a/b/x.parquet")?);
        assert!(!matches("shots/*.parquet", "lab/shots/a/x.parquet")?);
        assert!(!matches("shots/*.parquet", "other/shots/x.parquet")?);
        assert!(matches("shots", "lab/shots/deep/x.csv")?);
        assert!(!matches("shots", "lab/shotsx/x.csv")?);
        assert!(!matches("shots", "lab/shots/_temporary/x.csv")?);
        assert!(matches("y={1,2}/*.csv", "lab/y=2/x.csv")?);
        assert!(Pattern::new("a[", &Path::from("lab"), "a[").is_err());
        Ok(())
    }

    #[test]
    fn names_are_taken_as_they_stand() -> Result<()> {
        for name in ["M\u{e4}rz 1.csv", "a%20b#c+d~.csv", "x/{.csv"] {
            if let Ok(pattern) = Pattern::new(name, &Path::from("lab"), name) {
                assert!(name.contains('{') || pattern.prefix().as_ref() == format!("lab/{name}"), "{name}");
            }
        }
        assert!(matches("M\u{e4}rz/*.csv", "lab/M\u{e4}rz/x.csv").is_ok());
        Ok(())
    }

    #[test]
    fn only_a_file_has_an_ending() -> Result<()> {
        let ending = |text: &str| Ok::<_, Error>(Pattern::new(text, &Path::from("lab"), text)?.ending().map(str::to_owned));
        assert_eq!(ending("a/*.csv")?.as_deref(), Some("*.csv"));
        assert_eq!(ending("a/")?, None);
        assert_eq!(ending("a/b")?, None);
        Ok(())
    }
}

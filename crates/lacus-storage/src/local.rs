//! Folders of this machine as object stores.

use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

pub(crate) fn open(folder: &FilePath) -> Result<Arc<dyn ObjectStore>> {
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| {
        Error::new(Kind::NotFound, format!("no folder `{}`", folder.display()))
            .hint("check the `url` of the store, and that the file system is mounted")
            .because(error)
    })?;
    // Object stores have no folders of their own, so a folder goes with the last file that is deleted in it.
    Ok(Arc::new(store.with_automatic_cleanup(true)))
}

pub(crate) fn open_root() -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new())
}

/// `path` below `base`, with `.` and `..` resolved by text: the path of a dataset must not depend on what is mounted.
pub(crate) fn absolute(base: &FilePath, path: &FilePath) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            other => whole.push(other),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_stand_below_the_base() {
        let base = FilePath::new("/lake");
        assert_eq!(absolute(base, FilePath::new("a/./b/../c")), PathBuf::from("/lake/a/c"));
        assert_eq!(absolute(base, FilePath::new("../x")), PathBuf::from("/x"));
        assert_eq!(absolute(base, FilePath::new("/abs")), PathBuf::from("/abs"));
    }
}

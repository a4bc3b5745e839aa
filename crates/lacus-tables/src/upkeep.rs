//! What tables need beside reading and writing: small files are merged, logs are summed up, what nobody uses is swept away.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use delta_kernel::transaction::UpdateTableOperation;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind, Result, Rows};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::catalog::{age, now};
use crate::delta::{Change, DataFile, Log, State};
use crate::place::LakeTables;
use crate::write;

/// A file is small below this.
const SMALL: u64 = 32 << 20;
/// So many small files are merged.
const MANY: usize = 32;
/// A log is summed up after so many commits.
const CHECKPOINT: u64 = 64;
/// What a folder holds that no catalog names may be a table that is being made: it stays for so long.
const UNNAMED: Duration = Duration::from_secs(24 * 3600);
/// A process sweeps once it has been there for so long: one that runs a single statement doesn't.
const SWEEP: Duration = Duration::from_secs(10);
/// How often a rewrite looks whether the merging of its table has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// A table whose files are not merged while this is there.
#[derive(Debug)]
pub(crate) struct Merging {
    tables: LakeTables,
    folder: Path,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.tables.shared.merging.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.folder);
    }
}

/// Which of the files are merged: the smaller ones, each as long as it isn't much larger than all that are smaller. Then what was merged is
/// merged again only when as much has come after it, and a row is copied as often as its table doubles.
fn to_merge(files: &[DataFile]) -> Vec<DataFile> {
    let mut small: Vec<&DataFile> = files.iter().filter(|file| file.size < SMALL).collect();
    if small.len() < MANY {
        return Vec::new();
    }
    small.sort_by_key(|file| file.size);
    let (mut chosen, mut sum) = (Vec::new(), 0);
    for file in small {
        if chosen.len() >= MANY / 2 && file.size > sum {
            break;
        }
        sum += file.size;
        chosen.push(file.clone());
    }
    chosen
}

impl LakeTables {
    /// Keeps the files of a table from being merged, after what is under way.
    pub(crate) async fn keep_from_merging(&self, folder: &Path) -> Merging {
        loop {
            if let Some(merging) = self.try_merging(folder) {
                return merging;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn try_merging(&self, folder: &Path) -> Option<Merging> {
        let mut all = self.shared.merging.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(folder.clone()).then(|| Merging { tables: self.clone(), folder: folder.clone() })
    }

    /// Does in the background what a commit made necessary.
    pub(crate) fn keep_up(&self, folder: &Path, state: State) {
        let (this, folder) = (self.clone(), folder.clone());
        let (sums_up, files) = (state.version().is_multiple_of(CHECKPOINT) && state.version() > 0, to_merge(&state.files));
        if !sums_up && files.is_empty() {
            return;
        }
        self.shared.tasks.spawn(async move {
            if sums_up && let Err(error) = this.sum_up(&folder, state).await {
                tracing::warn!(table = %folder, %error, "the log could not be summed up");
            }
            if !files.is_empty()
                && let Some(_merging) = this.try_merging(&folder)
            {
                match this.merge(&folder).await {
                    // Who changed the same files was quicker; the next commit tries again.
                    Err(error) if error.kind() != Kind::ObjectChanged => {
                        tracing::warn!(table = %folder, %error, "small files could not be merged");
                    }
                    _ => {}
                }
            }
        });
    }

    async fn sum_up(&self, folder: &Path, state: State) -> Result<()> {
        let version = state.version();
        let store = self.store();
        Log::new(&store, folder.clone())?.checkpoint(state).await?;
        let retention = self.shared.retention;
        let entry = |object: &ObjectMeta| object.location.filename().and_then(|name| name.split('.').next()?.parse::<u64>().ok());
        let old = store.list(Some(&folder.clone().join("_delta_log"))).try_filter_map(move |object| async move {
            let before = entry(&object).is_some_and(|of| of < version);
            Ok((before && age(object.last_modified.timestamp()) > retention).then_some(object.location))
        });
        let _: Vec<_> = store.delete_stream(old.boxed()).collect().await;
        self.sweep_table(folder).await
    }

    async fn merge(&self, folder: &Path) -> Result<()> {
        let store = self.store();
        let log = Log::new(&store, folder.clone())?;
        let Some(state) = log.state(None).await? else { return Ok(()) };
        let chosen = to_merge(&state.files);
        if chosen.is_empty() {
            return Ok(());
        }
        let columns = self.columns(folder).await?;
        let rows: Rows<'_> = {
            let (store, folder) = (&store, folder);
            let opened = stream::iter(chosen.clone()).then(move |file| async move {
                // The file is small.
                let bytes = store.get(&folder.clone().join(file.name.as_str())).await?.bytes().await?;
                let rows = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
                Ok::<_, Error>(stream::iter(rows).map_err(Error::from))
            });
            opened.try_flatten().boxed()
        };
        let written = write::write(&store, folder, &columns.stored, rows).await?;
        let removed: HashSet<String> = chosen.into_iter().map(|file| file.name).collect();
        log.commit(UpdateTableOperation::Optimize, Change { added: written.files.clone(), removed, changes_rows: false }).await?;
        written.keep();
        Ok(())
    }

    /// Deletes what a folder holds.
    pub(crate) async fn delete_folder(&self, folder: &Path) {
        let store = self.store();
        let all = store.list(Some(folder)).map_ok(|object| object.location).boxed();
        // What can't be deleted now is swept up later.
        let _: Vec<_> = store.delete_stream(all).collect().await;
    }

    /// Sweeps away, in the background, what nobody uses: tables that were dropped, files that no table consists of any more, and what
    /// processes left behind that ended in the midst of writing.
    pub(crate) fn sweep(&self, root: Path) {
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SWEEP).await;
            let _under_way = this.shared.tasks.token();
            if let Err(error) = this.sweep_all(&root).await {
                tracing::warn!(%error, "what tables left behind could not be swept up");
            }
        });
    }

    async fn sweep_all(&self, root: &Path) -> Result<()> {
        let store = self.store();
        let version = self.shared.catalog.now(store.as_ref(), root).await?;
        let old: Vec<String> = {
            let past = |at: &u64| Duration::from_secs(now().saturating_sub(*at)) > self.shared.retention;
            version.names.dropped.iter().filter(|(_, at)| past(at)).map(|(folder, _)| folder.clone()).collect()
        };
        for folder in &old {
            self.delete_folder(&root.clone().join(folder.as_str())).await;
        }
        if !old.is_empty() {
            let forget = |names: &mut crate::catalog::Names| {
                names.dropped.retain(|folder, _| !old.contains(folder));
                Ok(())
            };
            self.shared.catalog.change(&store, root, forget).await?;
        }
        let named: HashSet<&String> = version.names.schemas.values().flat_map(|tables| tables.values()).collect();
        for folder in store.list_with_delimiter(Some(root)).await?.common_prefixes {
            let name = folder.filename().unwrap_or_default().to_owned();
            if named.contains(&name) {
                self.sweep_table(&folder).await?;
            } else if !name.starts_with('_') && !version.names.dropped.contains_key(&name) {
                let newest = store
                    .list(Some(&folder))
                    .map_ok(|object| object.last_modified.timestamp())
                    .try_fold(0, |most, at| async move { Ok(most.max(at)) });
                if age(newest.await?) > UNNAMED.max(self.shared.retention) {
                    self.delete_folder(&folder).await;
                }
            }
        }
        Ok(())
    }

    /// Deletes the files of a folder that its table no longer consists of.
    async fn sweep_table(&self, folder: &Path) -> Result<()> {
        let store = self.store();
        // Listed before the log is read: what is written afterwards is in neither.
        let listed: Vec<ObjectMeta> = store.list(Some(folder)).try_collect().await?;
        let Some(state) = Log::new(&store, folder.clone())?.state(None).await? else { return Ok(()) };
        let used: HashSet<&str> = state.files.iter().map(|file| file.name.as_str()).collect();
        let retention = self.shared.retention;
        let unused = listed.into_iter().filter(|object| {
            let name = object.location.filename().unwrap_or_default();
            name.ends_with(".parquet")
                && !object.location.as_ref().contains("/_delta_log/")
                && !used.contains(name)
                && age(object.last_modified.timestamp()) > retention
        });
        let unused = stream::iter(unused.map(|object| Ok(object.location)).collect::<Vec<_>>());
        let _: Vec<_> = store.delete_stream(unused.boxed()).collect().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<DataFile> {
        sizes.iter().map(|size| DataFile { name: format!("{size}"), size: *size, modified: 0, rows: None }).collect()
    }

    #[test]
    fn many_small_files_are_merged_and_a_large_one_stays() {
        assert!(to_merge(&files(&[10; 31])).is_empty());
        let mut sizes = vec![10; 32];
        sizes.push(10_000);
        let chosen = to_merge(&files(&sizes));
        assert_eq!(chosen.len(), 32);
        assert!(chosen.iter().all(|file| file.size == 10));
        assert_eq!(to_merge(&files(&[&[10; 40][..], &[300]].concat())).len(), 41);
    }

    #[test]
    fn a_row_is_copied_seldom() {
        // One row at a time: how often all bytes are copied on the whole.
        let (mut sizes, mut copied): (Vec<u64>, u64) = (Vec::new(), 0);
        for _ in 0..20_000 {
            sizes.extend([1]);
            let chosen = to_merge(&files(&sizes));
            if !chosen.is_empty() {
                let sum: u64 = chosen.iter().map(|file| file.size).sum();
                for file in &chosen {
                    let place = sizes.iter().position(|size| *size == file.size).unwrap_or_default();
                    sizes.swap_remove(place);
                }
                sizes.push(sum);
                copied += sum;
            }
        }
        assert!(sizes.len() < 64, "{} files", sizes.len());
        assert!(copied < 20_000 * 16, "{copied}");
    }
}

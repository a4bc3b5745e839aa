//! What tables need beside reading and writing: small files are merged, logs are summed up, what nobody uses is swept away.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use delta_kernel::transaction::UpdateTableOperation;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind, Result, Rows, fit_batch};
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
/// What no log and no catalog names may belong to what is being written: it stays for so long.
const UNNAMED: Duration = Duration::from_secs(24 * 3600);
/// A process sweeps once it has been there for so long: one that runs a single statement doesn't.
const SWEEP: Duration = Duration::from_secs(10);
/// A table is swept so often at most.
const SWEPT_FOR: Duration = Duration::from_secs(3600);
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

/// Whether a name is one that Lacus gives to a data file: others are not its to delete.
fn is_part(name: &str) -> bool {
    let random = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".parquet"));
    random.is_some_and(|random| random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a name is one that Lacus gives to the folder of a table.
fn is_table(name: &str) -> bool {
    let random = name.rsplit_once('-').map(|(_, random)| random);
    random.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
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
            let (store, folder, stored) = (&store, folder, &columns.stored);
            let opened = stream::iter(chosen.clone()).then(move |file| async move {
                // The file is small.
                let bytes = store.get(&folder.clone().join(file.name.as_str())).await?.bytes().await?;
                let rows = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
                // Other programs write the columns in an order of theirs, and leave out those that came later.
                let rows = stream::iter(rows).map(move |batch| fit_batch(&batch?, stored));
                Ok::<_, Error>(rows)
            });
            opened.try_flatten().boxed()
        };
        let written = write::write(&store, folder, &columns.stored, rows).await?;
        let removed: HashSet<String> = chosen.into_iter().map(|file| file.name).collect();
        let change = Change { added: written.files.clone(), removed, changes_rows: false };
        let committed = log.commit(UpdateTableOperation::Optimize, change).await;
        written.settle(committed).map(|_| ())
    }

    /// Whether what no log and no catalog names has been there for so long that nobody can still be writing or reading it.
    fn is_forgotten(&self, modified: i64) -> bool {
        age(modified) > UNNAMED.max(self.shared.retention)
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
        if version.is_none() {
            // Without a catalog nobody knows what the folders are.
            return Ok(());
        }
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
            } else if is_table(&name) && !version.names.dropped.contains_key(&name) {
                // A table that was never finished. What anybody else put there is not touched.
                let objects: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await?;
                let ours = |object: &ObjectMeta| {
                    object.location.as_ref().contains("/_delta_log/") || object.location.filename().is_some_and(is_part)
                };
                let newest = objects.iter().map(|object| object.last_modified.timestamp()).max().unwrap_or(0);
                if objects.iter().all(ours) && self.is_forgotten(newest) {
                    self.delete_folder(&folder).await;
                }
            }
        }
        Ok(())
    }

    /// Deletes the files of a folder that its table no longer consists of: those that were written long ago, by Lacus, and that nobody
    /// removed lately. Queries that began before a removal still read what was removed.
    async fn sweep_table(&self, folder: &Path) -> Result<()> {
        {
            let mut swept = self.shared.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.get(folder).is_some_and(|at| at.elapsed() < SWEPT_FOR) {
                return Ok(());
            }
            swept.insert(folder.clone(), Instant::now());
        }
        let store = self.store();
        // Listed before the log is read: what is written afterwards is in neither.
        let listed: Vec<ObjectMeta> = store.list(Some(folder)).try_collect().await?;
        let Some(state) = Log::new(&store, folder.clone())?.state(None).await? else { return Ok(()) };
        let used: HashSet<&str> = state.files.iter().map(|file| file.name.as_str()).collect();
        let mut removed = HashSet::new();
        for entry in listed.iter().filter(|object| object.location.filename().is_some_and(|name| name.ends_with(".json"))) {
            if age(entry.last_modified.timestamp()) > self.shared.retention {
                continue;
            }
            let bytes = store.get(&entry.location).await?.bytes().await?;
            for line in String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains("\"remove\"")) {
                let action: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                removed.extend(action["remove"]["path"].as_str().map(str::to_owned));
            }
        }
        let unused = listed.into_iter().filter(|object| {
            let Some(name) = object.location.filename() else { return false };
            let beside_log = object.location.parts().count() == folder.parts().count() + 1;
            let old = self.is_forgotten(object.last_modified.timestamp());
            beside_log && is_part(name) && old && !used.contains(name) && !removed.contains(name)
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
    fn only_names_that_were_given_here_are_known() {
        assert!(is_part("part-0123456789abcdef0123456789abcdef.parquet") && !is_part("part-00000-x.c000.snappy.parquet"));
        assert!(is_table("runs-0123456789abcdef") && !is_table("runs") && !is_table("run1.zarr") && !is_table("my-data"));
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

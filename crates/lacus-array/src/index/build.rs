//! Building an index: what it already knows is kept, what is new or changed is opened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::rows::{self, FileRow};
use super::structures::Collected;
use super::{Indices, Structure, Tables, chunk_table, fingerprint};
use crate::container::{Container, Group, shown};

/// An index that is being built.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    before: HashMap<u128, FileRow>,
    paths: HashSet<Path>,
    structures_before: Vec<Arc<Structure>>,
    rows: Vec<FileRow>,
    structures: Collected,
    chunks_before: Option<Bytes>,
    kept: HashSet<Path>,
    chunks: Vec<RecordBatch>,
}

/// What a file that was opened brings into an index.
#[derive(Debug)]
pub(crate) struct Known {
    /// The bounds of its coordinates, by the paths of their arrays.
    pub(crate) bounds: BTreeMap<String, ArrayRef>,
    /// Where its chunks lie; none of a folder, whose chunks are objects.
    pub(crate) chunks: Option<RecordBatch>,
}

impl Builder {
    /// Starts from what is known. An index that can't be read is as good as none.
    pub(crate) async fn start(indices: &Indices, dataset: &str) -> Self {
        let Ok(Some((files, tables))) = indices.read_files(dataset).await else { return Self::default() };
        let Ok(structures) = indices.read_table(dataset, &tables.structures).await else { return Self::default() };
        let Ok(chunks) = indices.read_table(dataset, &tables.chunks).await else { return Self::default() };
        let known = || {
            let index = rows::index(files.clone(), structures)?;
            Ok::<_, Error>((rows::decode(files, &index)?, index.structures))
        };
        let Ok((rows, structures_before)) = known() else { return Self::default() };
        let paths = rows.iter().map(|row| row.object.location.clone()).collect();
        let before = rows.into_iter().map(|row| (fingerprint(&row.object), row)).collect();
        Self { before, paths, structures_before, chunks_before: Some(chunks), ..Self::default() }
    }

    /// Whether a file of this path is known in some version.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// How many files are known.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Keeps what is known of this version of a file; false when nothing is.
    ///
    /// # Errors
    /// When its structure can't be written.
    pub(crate) fn keep(&mut self, object: &ObjectMeta) -> Result<bool> {
        let Some(mut row) = self.before.remove(&fingerprint(object)) else { return Ok(false) };
        row.structure = self.structures.number(&self.structures_before[row.structure as usize].container)?;
        self.kept.insert(object.location.clone());
        self.rows.push(row);
        Ok(true)
    }

    /// Adds a file that was opened.
    ///
    /// # Errors
    /// When its structure can't be written.
    pub(crate) fn add(&mut self, object: ObjectMeta, container: &Container, known: Known) -> Result<()> {
        let structure = self.structures.number(container)?;
        self.chunks.extend(known.chunks);
        self.rows.push(FileRow { object, structure, attributes: attributes(container)?, bounds: known.bounds });
        Ok(())
    }

    /// Writes the index of the dataset, whose files are at `location`.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn write(mut self, indices: &Indices, dataset: &str, location: &str) -> Result<()> {
        self.rows.sort_by(|left, right| left.object.location.cmp(&right.object.location));
        let (structures, of_structures) = self.structures.encode()?;
        let kept = self.kept.iter().map(AsRef::as_ref).collect();
        let (chunks, of_chunks) = chunk_table::encode(self.chunks_before, &kept, &self.chunks)?;
        let tables = Tables { structures, chunks };
        let files = rows::encode(&self.rows, &tables, location)?;
        indices.write(dataset, [(&tables.structures, of_structures), (&tables.chunks, of_chunks)], files).await
    }
}

/// An attribute of a group, as the index writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupAttribute {
    /// The path of the group.
    pub(crate) path: String,
    /// The name of the attribute.
    pub(crate) name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) data_type: String,
    /// Its value as text.
    pub(crate) value: String,
}

/// The attributes of the groups of one file.
pub(crate) type GroupAttributes = Vec<GroupAttribute>;

/// The attributes of the groups of a container, as JSON that SQL and people can read.
fn attributes(container: &Container) -> Result<String> {
    let of_group = |group: &Group| {
        let attribute = |(name, value): (&str, &ArrayRef)| GroupAttribute {
            path: group.path.clone(),
            name: name.to_owned(),
            data_type: value.data_type().to_string(),
            value: shown(value),
        };
        group.attributes.iter().map(attribute).collect::<Vec<_>>()
    };
    let all: GroupAttributes = container.groups.iter().flat_map(of_group).collect();
    serde_json::to_string(&all).map_err(|error| Error::new(Kind::Internal, error.to_string()))
}

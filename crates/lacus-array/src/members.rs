//! The containers of a dataset, as one query sees them.
//!
//! A dataset may have a million files: of those that an index describes only the row is kept, until somebody asks for the file.

use std::collections::HashMap;
use std::sync::Arc;

use lacus_core::{Error, Kind, Result};
use lacus_storage::Stores;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::chunks::Opened;
use crate::index::{Containers, Index, Unopened};
use crate::mapping::{Mapping, MappingOptions};

/// The containers of a dataset, in the order of their paths.
#[derive(Debug)]
pub(crate) struct Members {
    all: Vec<Member>,
    described: Option<Described>,
}

/// A container that was opened, or the row of an index that describes it.
#[derive(Debug, Clone)]
pub(crate) enum Member {
    Opened(Arc<Opened>),
    Row(u32),
}

/// What an index says of files, and how they are opened.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) index: Arc<Index>,
    containers: Arc<Containers>,
    stores: Arc<Stores>,
    /// By structure.
    mappings: Vec<Arc<Mapping>>,
    decoded: bool,
    listed: bool,
}

impl Described {
    /// `listed` says whether the files were seen in a listing.
    pub(crate) fn new(index: Arc<Index>, containers: Containers, stores: Arc<Stores>, options: &MappingOptions, listed: bool) -> Self {
        let mappings = index.structures.iter().map(|structure| structure.mapping(options)).collect();
        Self { index, containers: Arc::new(containers), stores, mappings, decoded: options.decode_cf, listed }
    }

    /// The container of a row, which is `object` in this version.
    pub(crate) fn container(&self, row: u32, object: Arc<ObjectMeta>, version: Arc<ObjectMeta>) -> Arc<Opened> {
        let structure = Arc::clone(self.index.structure(row));
        let store = Arc::new(Unopened::new(structure, Arc::clone(&object), version, Arc::clone(&self.containers)));
        let (mapping, stores) = (Arc::clone(self.mapping(row)), Arc::clone(&self.stores));
        let described = Some((Arc::clone(&self.index), row));
        Arc::new(Opened { store, mapping, object, stores, described, decoded: self.decoded, listed: self.listed })
    }

    fn mapping(&self, row: u32) -> &Arc<Mapping> {
        &self.mappings[self.index.structure_number(row)]
    }
}

impl Members {
    /// Containers of which an index describes those that are rows of it.
    pub(crate) fn new(all: Vec<Member>, described: Option<Described>) -> Self {
        Self { all, described }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The index that describes some of them.
    pub(crate) fn index(&self) -> Option<&Arc<Index>> {
        self.described.as_ref().map(|described| &described.index)
    }

    /// The container at a place.
    ///
    /// # Errors
    /// `CorruptData` when the index names no valid path.
    pub(crate) fn get(&self, place: usize) -> Result<Arc<Opened>> {
        match (&self.all[place], &self.described) {
            (Member::Opened(opened), _) => Ok(Arc::clone(opened)),
            (Member::Row(row), Some(described)) => {
                let object = Arc::new(described.index.object(*row)?);
                Ok(described.container(*row, Arc::clone(&object), object))
            }
            (Member::Row(_), None) => Err(Error::new(Kind::Internal, "a row of no index")),
        }
    }

    /// The row of the index that describes the container at a place.
    pub(crate) fn row(&self, place: usize) -> Option<u32> {
        match &self.all[place] {
            Member::Opened(opened) => opened.described.as_ref().map(|(_, row)| *row),
            Member::Row(row) => Some(*row),
        }
    }

    /// Where the containers lie.
    pub(crate) fn locations(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|member| match (member, &self.described) {
            (Member::Opened(opened), _) => opened.object.location.as_ref(),
            (Member::Row(row), Some(described)) => described.index.path(*row),
            (Member::Row(_), None) => "",
        })
    }

    /// Where the containers lie, as a person would write it.
    pub(crate) fn shown(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|member| match (member, &self.described) {
            (Member::Opened(opened), _) => opened.shown(),
            (Member::Row(row), Some(described)) => {
                let path = described.index.path(*row);
                Path::parse(path).map_or_else(|_| path.to_owned(), |path| described.stores.shown(&path))
            }
            (Member::Row(_), None) => String::new(),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Arc<Opened>>> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// What [`Opened::kind`] is of a container.
    pub(crate) fn kind(&self, place: usize) -> usize {
        match (&self.all[place], &self.described) {
            (Member::Opened(opened), _) => opened.kind(),
            (Member::Row(row), Some(described)) => Arc::as_ptr(described.mapping(*row)) as usize,
            (Member::Row(_), None) => 0,
        }
    }

    /// The index that holds the bounds of the coordinates of a container, and the row of it there.
    pub(crate) fn bounded(&self, place: usize) -> Option<(&Arc<Index>, u32)> {
        match (&self.all[place], &self.described) {
            (Member::Opened(opened), _) => opened.bounded(),
            (Member::Row(row), described) => described.as_ref().filter(|described| described.decoded).map(|known| (&known.index, *row)),
        }
    }

    /// The first container of each kind, and how many there are of it: what containers of one mapping share is looked at once.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn alike(&self) -> Result<Vec<(Arc<Opened>, u64)>> {
        let kinds = alike((0..self.len()).map(|place| self.kind(place)));
        kinds.into_iter().map(|(place, count)| Ok((self.get(place)?, count))).collect()
    }
}

/// The place of the first of each kind, and how many there are of it.
pub(crate) fn alike(kinds: impl Iterator<Item = usize>) -> Vec<(usize, u64)> {
    let mut found: Vec<(usize, u64)> = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for (place, kind) in kinds.enumerate() {
        let number = *known.entry(kind).or_insert_with(|| {
            found.push((place, 0));
            found.len() - 1
        });
        found[number].1 += 1;
    }
    found
}

//! What an index knows, as references for other programs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use datafusion_catalog::Session;
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{DatasetSpec, Error, IndexStatus, Kind, Result};
use lacus_storage::lake_url;
use object_store::ObjectStore;

use super::{ArraySource, CONCURRENT_OPENS};
use crate::chunks::{ChunkReader, Opened};
use crate::container::{ArrayMeta, Container, joined_path};
use crate::index::{Builder, Containers, Index, Indices, Pieces};
use crate::mapping::{ColumnLayout, Content, MappingOptions, TableLayout};
use crate::members::Described;
use crate::references::{self, FileChunks, JoinedArrays, References, ordered};
use crate::scan::column_of;
use crate::table::LONGEST_COORDINATE;

impl ArraySource {
    /// The index of a dataset, if its files are as it says.
    pub(super) async fn current_index(&self, spec: &DatasetSpec, session: &dyn Session, indices: &Indices) -> Result<(Index, Pieces)> {
        let format = self.format(spec)?;
        if format.folder {
            let error = Error::new(Kind::Unsupported, format!("{} stores need no references", format.name));
            return Err(error.hint("open them by their address"));
        }
        let build = format!("run `lacus index build {}`", spec.name);
        let place = self.place(spec, format)?;
        let found = indices.chunks(&spec.name).await?.filter(|(index, _)| index.location.as_ref() == Some(&place));
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, "there is no index to export").hint(build.clone()))?;
        let (_, status) = self.survey(spec, session, indices, Builder::start(indices, &spec.name).await).await?;
        let IndexStatus { files, current, changed, removed, .. } = status;
        if files != current || removed > 0 {
            let added = status.added();
            let message = format!("the index is not of the files as they are: {added} are new, {changed} changed, {removed} gone");
            return Err(Error::new(Kind::ObjectChanged, message).retryable(false).hint(build));
        }
        Ok((found.0, found.1))
    }

    pub(super) async fn references(
        &self,
        spec: &DatasetSpec,
        session: &dyn Session,
        index: Arc<Index>,
        pieces: &Pieces,
        along: Option<&str>,
    ) -> Result<References> {
        let along = along.filter(|_| index.len() > 1);
        let dimensions: BTreeSet<&str> = index.structures.iter().flat_map(|structure| dimension_names(&structure.container)).collect();
        let names = || dimensions.iter().copied().collect::<Vec<_>>().join(", ");
        match along {
            None if index.len() > 1 => {
                let error =
                    Error::new(Kind::InvalidQuery, format!("{} files need a dimension along which they follow one another", index.len()));
                return Err(error.hint(format!("name it: one of {}", names())));
            }
            Some(along) if !dimensions.contains(along) => {
                let error = Error::new(Kind::InvalidQuery, format!("the files have no dimension `{along}`"));
                return Err(error.hint(format!("they have {}", names())));
            }
            _ => {}
        }
        let first = index.structure(0);
        let coordinate = first.container.arrays.iter().find(|array| along == Some(array.name.as_str()) && array.shape.len() == 1);
        let rows = ordered(&index, coordinate.map(ArrayMeta::path).as_deref())?;
        let joined = match along {
            Some(along) => self.joined(spec, session, &index, &rows, along).await?,
            None => BTreeMap::new(),
        };
        let mut files = Vec::with_capacity(rows.len());
        for row in rows {
            let location = index.object(row)?.location;
            let url = self.stores.url(&location)?.into();
            files.push(FileChunks { url, container: &index.structure(row).container, pieces: pieces.get(location.as_ref()) });
        }
        Ok(references::references(&files, along, &joined))
    }

    /// The arrays that vary along `along` alone: their values of all files. Their chunks are many and small, and times may count from
    /// several epochs.
    async fn joined(
        &self,
        spec: &DatasetSpec,
        session: &dyn Session,
        index: &Arc<Index>,
        rows: &[u32],
        along: &str,
    ) -> Result<JoinedArrays> {
        let store: Arc<dyn ObjectStore> = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let described = |decode_cf| {
            let containers = Containers { format: self.format(spec)?.clone(), opened: Arc::clone(&self.described) };
            let options = MappingOptions { decode_cf, ..MappingOptions::default() };
            Ok::<_, Error>(Described::new(Arc::clone(index), containers, Arc::clone(&self.stores), &options, true))
        };
        let (raw, decoded) = (described(false)?, described(true)?);
        let first = &index.structure(rows[0]).container;
        let is_along = |array: &&ArrayMeta| {
            matches!(array.dimensions.as_slice(), [one] if one.name == along)
                && array.refused().is_none()
                && !array.only_dimension
                && array.element.is_number()
        };
        let reader = || ChunkReader::new(Arc::clone(&store), Arc::clone(&session.runtime_env().memory_pool));
        let mut joined = JoinedArrays::new();
        for array in &first.arrays {
            let path = array.path();
            let metas = rows.iter().map(|row| index.structure(*row).container.arrays.iter().find(|found| found.path() == path));
            let Some(metas) = metas.collect::<Option<Vec<_>>>() else { continue };
            let same = metas.iter().all(|meta| references::means_the_same(meta, array));
            if is_along(&array) {
                let opened = of_rows(index, if same { &raw } else { &decoded }, rows)?;
                let read = |opened: Arc<Opened>| {
                    let (reader, path) = (reader(), path.clone());
                    async move { values_of(&opened, &reader, &path).await.map_err(|error| opened.name_file(error)) }
                };
                let values: Vec<ArrayRef> = stream::iter(opened).map(read).buffered(CONCURRENT_OPENS).try_collect().await?;
                let found = references::joined(&values, same)?;
                let anew = found.as_ref().is_ok_and(|found| found.units.is_some());
                // Bounds count from where their coordinate did.
                for name in ["bounds", "climatology"].iter().filter_map(|name| array.attributes.text(name)).filter(|_| anew) {
                    joined.insert(joined_path(&array.group, name), Err(format!("they are bounds of `{path}`, which is counted anew")));
                }
                joined.insert(path, found);
            } else if same && !array.only_dimension && array.refused().is_none() && !array.dimensions.iter().any(|one| one.name == along) {
                let opened = of_rows(index, &raw, rows)?;
                if let Err(reason) = equal_in_all(opened, &reader, array).await {
                    joined.insert(path, Err(reason));
                }
            }
        }
        Ok(joined)
    }
}

fn of_rows(index: &Index, described: &Described, rows: &[u32]) -> Result<Vec<Arc<Opened>>> {
    let container = |row: &u32| {
        let object = Arc::new(index.object(*row)?);
        Ok(described.container(*row, Arc::clone(&object), object))
    };
    rows.iter().map(container).collect()
}

/// Compares an array that does not vary from file to file: references take it from the first.
async fn equal_in_all(
    opened: Vec<Arc<Opened>>,
    reader: &(impl Fn() -> ChunkReader + Sync),
    array: &ArrayMeta,
) -> std::result::Result<(), String> {
    if array.elements() > LONGEST_COORDINATE {
        return Err("it does not vary along the dimension, and is too large to be compared between files".to_owned());
    }
    let path = array.path();
    let read = |opened: Arc<Opened>| {
        let (reader, path) = (reader(), path.clone());
        async move {
            let values = values_of(&opened, &reader, &path).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((opened.shown(), values))
        }
    };
    let mut values = stream::iter(opened).map(read).buffered(CONCURRENT_OPENS);
    let mut first: Option<ArrayRef> = None;
    while let Some((file, values)) = values.try_next().await? {
        match &first {
            None => first = Some(values),
            Some(first) if first.to_data() == values.to_data() => {}
            Some(_) => return Err(format!("it differs in {file}, and does not vary along the dimension")),
        }
    }
    Ok(())
}

/// The values of an array along one dimension.
async fn values_of(opened: &Opened, reader: &ChunkReader, path: &str) -> Result<ArrayRef> {
    let (layout, column) = column_at(opened, path).ok_or_else(|| Error::new(Kind::Unsupported, "it is no column").with("array", path))?;
    Ok(column_of(reader, opened, layout, column).await?)
}

fn column_at<'a>(opened: &'a Opened, path: &str) -> Option<(&'a TableLayout, &'a ColumnLayout)> {
    let shows = |column: &&ColumnLayout| {
        matches!(column.content, Content::Array { .. }) && column.array().is_some_and(|array| opened.array(array).path() == path)
    };
    opened.mapping.tables.iter().find_map(|layout| Some((layout, layout.columns.iter().find(shows)?)))
}

fn dimension_names(container: &Container) -> impl Iterator<Item = &str> {
    container.arrays.iter().flat_map(|array| &array.dimensions).map(|dimension| dimension.name.as_str())
}

//! A file to its groups and arrays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use hdf5_reader::group::Group as Hdf5Group;
use hdf5_reader::messages::HdfMessage;
use hdf5_reader::messages::filter_pipeline::FilterDescription;
use hdf5_reader::messages::layout::DataLayout;
use hdf5_reader::messages::link::LinkTarget;
use hdf5_reader::{Dataset, Hdf5File};
use lacus_array::{ArrayMeta, Attributes, Container, Dimension, Element, Group, Heap, Missing, Order, joined_path, slab_extent};
use lacus_core::{Error, Kind, Result};

use super::index::{ChunkIndex, Chunked, FileFacts};
use super::old_layout;
use super::storage::explained;
use super::types::{Widths, attributes, element};
use super::{Hdf5Store, Layout, heap_reference, number};

/// A file of more objects than this is refused; it would fill the memory with names.
const MOST_OBJECTS: usize = 2_000_000;
/// A file whose attributes take more memory is refused: a group of several names is shown by each of them, with all that is in it.
const MOST_ATTRIBUTE_BYTES: usize = 256 << 20;
/// Groups nested deeper than this are refused: each takes a piece of the stack.
const DEEPEST: usize = 500;
/// The class of groups of NeXus whose attribute `axes` names the coordinates of what is in them.
const NEXUS_DATA: &str = "NXdata";
/// What NetCDF-4 writes in front of a variable that is named like a dimension but is not its coordinate.
const NON_COORDINATE: &str = "_nc4_non_coord_";
/// What NetCDF-4 writes as `NAME` of a dimension without values.
const ONLY_DIMENSION: &str = "This is a netCDF dimension but not a netCDF variable";

/// Reads all metadata of `file`. Waits for its storage.
pub(super) fn walk(file: &Hdf5File, facts: FileFacts, netcdf: bool) -> Result<Hdf5Store> {
    let mut walker = Walker {
        file,
        facts,
        netcdf,
        found: Vec::new(),
        groups: Vec::new(),
        within: HashSet::new(),
        paths: HashMap::new(),
        nexus: HashMap::new(),
        attribute_bytes: 0,
    };
    let root = file.root_group().map_err(explained)?;
    walker.group(&root, String::new())?;
    walker.finish()
}

/// The bytes of memory that attributes take.
fn memory(attributes: &Attributes) -> usize {
    attributes.iter().map(|(_, value)| value.get_array_memory_size()).sum()
}

/// A dataset, as far as it can be told without the others.
struct Found {
    group: String,
    name: String,
    address: u64,
    /// The dataset, or why it can't be read.
    dataset: Result<Dataset>,
    attributes: Attributes,
    /// The addresses of the scales along each dimension.
    scales: Vec<Option<u64>>,
}

/// A group of NeXus data: the names of its axes, and how long the arrays of one dimension in it are.
struct NexusData {
    axes: Vec<String>,
    extents: HashMap<String, u64>,
}

struct Walker<'a> {
    file: &'a Hdf5File,
    facts: FileFacts,
    netcdf: bool,
    found: Vec<Found>,
    groups: Vec<Group>,
    /// The groups that lead to the one that is walked.
    within: HashSet<u64>,
    paths: HashMap<u64, String>,
    /// The groups of NeXus data by their paths.
    nexus: HashMap<String, NexusData>,
    attribute_bytes: usize,
}

/// Values of varying length in attributes, through the parser's own heap.
struct AttributeHeap<'a>(&'a Hdf5Group);

impl Heap for AttributeHeap<'_> {
    fn sequence(&self, reference: &[u8], item: usize) -> Result<Vec<u8>> {
        self.0.resolve_vlen_reference_bytes(reference, item).map_err(explained)
    }

    fn path(&self, _: &[u8]) -> Result<Option<String>> {
        Ok(None)
    }
}

impl Walker<'_> {
    fn widths(&self) -> Widths {
        Widths { offset: usize::from(self.facts.offset_size), netcdf: self.netcdf }
    }

    fn group(&mut self, group: &Hdf5Group, path: String) -> Result<()> {
        // A group may be in several others, and is shown in each; but one that is in itself would never end.
        if !self.within.insert(group.address()) {
            return Ok(());
        }
        if path.split('/').count() > DEEPEST {
            return Err(Error::new(Kind::LimitExceeded, format!("groups are nested more than {DEEPEST} deep")).with("group", path));
        }
        self.paths.entry(group.address()).or_insert_with(|| path.clone());
        let heap = AttributeHeap(group);
        let own = group.attributes().map_err(|error| explained(error).with("group", &path))?;
        self.netcdf |= path.is_empty() && own.iter().any(|attribute| ["_NCProperties", "_nc3_strict"].contains(&attribute.name.as_str()));
        let attributes = attributes(own, self.widths(), &heap);
        let axes = attributes.get("axes").and_then(|axes| axes.as_string_opt::<i32>());
        if let Some(axes) = axes.filter(|_| attributes.text("NX_class") == Some(NEXUS_DATA)) {
            let axes = axes.iter().map(|name| name.unwrap_or_default().to_owned()).collect();
            self.nexus.insert(path.clone(), NexusData { axes, extents: HashMap::new() });
        }
        self.attribute_bytes += memory(&attributes);
        self.groups.push(Group { path: path.clone(), attributes });
        let (groups, datasets) = group.member_names().map_err(|error| explained(error).with("group", &path))?;
        for name in datasets {
            self.dataset(group, &path, name);
        }
        self.links_elsewhere(group, &path)?;
        if self.found.len() + self.groups.len() > MOST_OBJECTS {
            return Err(Error::new(Kind::LimitExceeded, format!("the file holds more than {MOST_OBJECTS} objects")));
        }
        if self.attribute_bytes > MOST_ATTRIBUTE_BYTES {
            return Err(Error::new(Kind::LimitExceeded, format!("the file holds more than {MOST_ATTRIBUTE_BYTES} bytes of attributes")));
        }
        for name in groups {
            let below = group.group(&name).map_err(|error| explained(error).with("group", joined_path(&path, &name)))?;
            self.group(&below, joined_path(&path, &name))?;
        }
        self.within.remove(&group.address());
        Ok(())
    }

    /// Links into other files are listed, and not followed: they could lead out of what the lake shows.
    fn links_elsewhere(&mut self, group: &Hdf5Group, path: &str) -> Result<()> {
        let header = self.file.get_or_parse_header(group.address()).map_err(explained)?;
        for message in &header.messages {
            if let HdfMessage::Link(link) = message
                && let LinkTarget::External { filename, path: target } = &link.target
            {
                let problem =
                    Error::new(Kind::PermissionDenied, format!("a link to `{target}` in the file `{filename}`, which is not followed"));
                let (group, name) = (path.to_owned(), link.name.clone());
                self.found.push(Found { group, name, address: 0, dataset: Err(problem), attributes: Attributes::new(), scales: vec![] });
            }
        }
        Ok(())
    }

    fn dataset(&mut self, group: &Hdf5Group, path: &str, name: String) {
        let shown = name.strip_prefix(NON_COORDINATE).unwrap_or(&name).to_owned();
        let dataset = group.dataset(&name).map_err(explained);
        let mut found = Found { group: path.to_owned(), name: shown, address: 0, dataset, attributes: Attributes::new(), scales: vec![] };
        if let Ok(dataset) = &found.dataset {
            let stored = dataset.attributes();
            self.netcdf |= stored.iter().any(|attribute| ["_Netcdf4Dimid", "_Netcdf4Coordinates"].contains(&attribute.name.as_str()));
            let list = stored.iter().find(|attribute| attribute.name == "DIMENSION_LIST");
            found.scales = list.map(|list| self.scales(group, &list.raw_data, dataset.shape().len())).unwrap_or_default();
            found.address = dataset.address();
            if let (Some(nexus), [extent]) = (self.nexus.get_mut(path), dataset.shape()) {
                nexus.extents.insert(found.name.clone(), *extent);
            }
            found.attributes = attributes(stored, self.widths(), &AttributeHeap(group));
            self.attribute_bytes += memory(&found.attributes);
            self.paths.entry(found.address).or_insert_with(|| joined_path(path, &found.name));
        }
        self.found.push(found);
    }

    /// The first scale along each dimension.
    fn scales(&self, group: &Hdf5Group, list: &[u8], rank: usize) -> Vec<Option<u64>> {
        let width = 8 + usize::from(self.facts.offset_size);
        let scale = |reference: &[u8]| {
            heap_reference(reference, self.facts.offset_size).filter(|(count, ..)| *count > 0)?;
            let bytes = group.resolve_vlen_reference_bytes(reference, usize::from(self.facts.offset_size)).ok()?;
            bytes.get(..usize::from(self.facts.offset_size)).map(number)
        };
        list.chunks_exact(width).take(rank).map(scale).collect()
    }

    fn finish(self) -> Result<Hdf5Store> {
        let extents = self.extents();
        let by_id = self.dimension_ids();
        let mut store = Hdf5Store {
            facts: self.facts.clone(),
            container: Container { groups: self.groups.clone(), arrays: Vec::new() },
            layouts: Vec::new(),
            filters: Vec::new(),
            paths: Arc::new(self.paths.clone()),
        };
        for found in &self.found {
            let (array, layout, filters) = self.array(found, &extents, &by_id);
            store.container.arrays.push(array);
            store.layouts.push(layout);
            store.filters.push(filters);
        }
        Ok(store)
    }

    /// The scales of a dataset as places in `found`; a scale is its own.
    fn dimensions(&self, found: &Found, by_id: &HashMap<i64, u64>) -> Vec<Dimension> {
        let shape = found.dataset.as_ref().map(|dataset| dataset.shape().to_vec()).unwrap_or_default();
        let is_scale = found.attributes.text("CLASS") == Some("DIMENSION_SCALE");
        let ids = found.attributes.integers("_Netcdf4Coordinates").filter(|ids| ids.len() == shape.len());
        let scale = |axis: usize| match (is_scale, &ids) {
            (true, Some(ids)) if shape.len() > 1 => by_id.get(&ids.value(axis)).copied(),
            (true, _) if shape.len() == 1 => Some(found.address),
            _ => found.scales.get(axis).copied().flatten(),
        };
        let nexus = self.nexus_axes(found, &shape);
        let path = |axis: usize| {
            let scale = scale(axis).and_then(|address| self.paths.get(&address)).cloned();
            scale.or_else(|| nexus.get(axis).cloned().flatten())
        };
        let dimension = |axis: usize| match path(axis) {
            Some(path) => Dimension { name: path.rsplit('/').next().unwrap_or(&path).to_owned(), key: path, named: true },
            None => Dimension { name: format!("dim_{axis}"), key: format!("{}#{shape:?}#{axis}", found.group), named: false },
        };
        (0..shape.len()).map(dimension).collect()
    }

    /// The paths of the axes that a group of NeXus data names for an array in it, and for the axes themselves.
    fn nexus_axes(&self, found: &Found, shape: &[u64]) -> Vec<Option<String>> {
        let Some(NexusData { axes, extents }) = self.nexus.get(&found.group) else { return Vec::new() };
        let path = |(name, extent): (&String, &u64)| (extents.get(name) == Some(extent)).then(|| joined_path(&found.group, name));
        match shape {
            [extent] if axes.contains(&found.name) => vec![path((&found.name, extent))],
            _ if axes.len() == shape.len() => axes.iter().zip(shape).map(path).collect(),
            _ => Vec::new(),
        }
    }

    /// The addresses of scales by the numbers that NetCDF-4 gives to dimensions.
    fn dimension_ids(&self) -> HashMap<i64, u64> {
        let id = |found: &Found| Some((*found.attributes.integers("_Netcdf4Dimid")?.values().first()?, found.address));
        let is_scale = |found: &&Found| found.attributes.text("CLASS") == Some("DIMENSION_SCALE");
        self.found.iter().filter(is_scale).filter_map(id).collect()
    }

    /// The extent of each named dimension: that of the longest array along it. Arrays along a dimension that grew may be shorter.
    fn extents(&self) -> HashMap<String, u64> {
        let by_id = self.dimension_ids();
        let mut extents: HashMap<String, u64> = HashMap::new();
        for found in &self.found {
            let Ok(dataset) = &found.dataset else { continue };
            for (dimension, extent) in
                self.dimensions(found, &by_id).into_iter().zip(dataset.shape()).filter(|(dimension, _)| dimension.named)
            {
                let longest = extents.entry(dimension.key).or_default();
                *longest = (*longest).max(*extent);
            }
        }
        extents
    }

    fn array(
        &self,
        found: &Found,
        extents: &HashMap<String, u64>,
        by_id: &HashMap<i64, u64>,
    ) -> (ArrayMeta, Layout, Vec<FilterDescription>) {
        let dimensions = self.dimensions(found, by_id);
        let mut array = ArrayMeta {
            group: found.group.clone(),
            name: found.name.clone(),
            element: Element::Integer { bytes: 1, signed: false, order: Order::Little },
            shape: Vec::new(),
            dimensions,
            chunk: Vec::new(),
            codecs: Ok(Vec::new()),
            fill: None,
            missing: if self.netcdf { Missing::NetcdfDefaults } else { Missing::Nothing },
            attributes: found.attributes.clone(),
            problem: None,
            only_dimension: found.attributes.text("NAME").is_some_and(|name| name.starts_with(ONLY_DIMENSION)),
        };
        match self.stored(found, &mut array, extents) {
            Ok((layout, filters)) => (array, layout, filters),
            Err(error) => {
                array.problem = Some(error.to_string());
                array.chunk = array.shape.iter().map(|extent| (*extent).max(1)).collect();
                (array, Layout::Nothing, Vec::new())
            }
        }
    }

    fn stored(&self, found: &Found, array: &mut ArrayMeta, extents: &HashMap<String, u64>) -> Result<(Layout, Vec<FilterDescription>)> {
        let dataset = found.dataset.as_ref().map_err(Clone::clone)?;
        let stored = dataset.shape().to_vec();
        array.shape = stored.clone();
        array.element = element(dataset.dtype(), self.widths())?;
        let width = array.element.width();
        if width == 0 {
            return Err(Error::new(Kind::Unsupported, "elements without a size can't be read"));
        }
        if matches!(array.element, Element::Char) && array.attributes.text("CLASS") == Some("DIMENSION_SCALE") && array.only_dimension {
            array.element = Element::Integer { bytes: 1, signed: false, order: Order::Little };
        }
        let header = self.file.get_or_parse_header(found.address).map_err(explained)?;
        let mut layout = None;
        let mut filters = Vec::new();
        for message in &header.messages {
            match message {
                HdfMessage::DataLayout(found) => layout = Some(&found.layout),
                HdfMessage::FilterPipeline(pipeline) => filters.clone_from(&pipeline.filters),
                HdfMessage::ExternalFiles(_) => {
                    return Err(Error::new(Kind::PermissionDenied, "the data lies in another file, which is not followed"));
                }
                _ => {}
            }
        }
        if let Some(fill) = dataset.fill_value() {
            array.fill.clone_from(&fill.value);
        }
        let grown: Vec<u64> = array
            .dimensions
            .iter()
            .zip(&stored)
            .map(|(dimension, extent)| extents.get(&dimension.key).copied().unwrap_or(*extent))
            .collect();
        let layout = layout.ok_or_else(|| Error::new(Kind::CorruptData, "the dataset has no layout"))?;
        let bytes = stored.iter().fold(width as u64, |bytes, extent| bytes.saturating_mul(*extent));
        let old = match header.version == 1 && old_layout::is_doubtful(layout, bytes) {
            true => old_layout::read(self.file.storage(), found.address, &self.facts).map_err(explained)?,
            false => None,
        };
        let layout = self.layout(old.as_ref().unwrap_or(layout), dataset, array, width)?;
        for axis in 0..stored.len() {
            // Only a dimension without a limit can have grown beyond an array along it.
            let unlimited = dataset.max_dims().and_then(|most| most.get(axis)) == Some(&u64::MAX);
            if stored[axis] == grown[axis] {
                continue;
            }
            if unlimited && matches!(layout, Layout::Chunked(_) | Layout::Nothing) {
                array.shape[axis] = grown[axis];
            } else {
                // Of another length it is another dimension, whatever scale is attached: bins have one edge more than counts.
                let dimension = &mut array.dimensions[axis];
                dimension.key = format!("{}#{}", dimension.key, stored[axis]);
            }
        }
        if let Some(unknown) = filters.iter().find_map(super::filters::unreadable) {
            return Err(Error::new(Kind::Unsupported, format!("stored with the filter {unknown}, which can't be read")));
        }
        array.codecs = super::filters::codecs(&filters, width);
        Ok((layout, filters))
    }

    fn layout(&self, layout: &DataLayout, dataset: &Dataset, array: &mut ArrayMeta, width: usize) -> Result<Layout> {
        let undefined = |address: u64| hdf5_reader::io::Cursor::is_undefined_offset(address, self.facts.offset_size);
        let whole = |shape: &[u64]| -> Vec<u64> { shape.iter().map(|extent| (*extent).max(1)).collect() };
        Ok(match layout {
            DataLayout::Compact { data } => {
                array.chunk = whole(&array.shape);
                Layout::Compact(Bytes::from(data.clone()))
            }
            DataLayout::Contiguous { address, .. } => {
                array.chunk = slab_extent(&array.shape, width);
                if undefined(*address) { Layout::Nothing } else { Layout::Contiguous(self.facts.base.saturating_add(*address)) }
            }
            DataLayout::Chunked { address, dims, chunk_indexing, .. } => {
                let mut chunk = dims.clone();
                chunk.truncate(array.shape.len());
                if chunk.len() != array.shape.len() || chunk.contains(&0) {
                    return Err(Error::new(Kind::CorruptData, format!("chunks of {dims:?} cells in an array of {:?}", array.shape)));
                }
                array.chunk = chunk.iter().map(|extent| u64::from(*extent)).collect();
                if undefined(*address) {
                    return Ok(Layout::Nothing);
                }
                let most = dataset.max_dims().map(<[u64]>::to_vec);
                let chunked = Chunked { chunk, shape: array.shape.clone(), most, width };
                Layout::Chunked(Box::new(ChunkIndex::new(*address, chunk_indexing.as_ref(), chunked)))
            }
        })
    }
}

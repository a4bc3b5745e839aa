//! Arrays to tables: one table for each set of dimensions, and nothing is dropped silently.
//!
//! A table's columns are its dimensions (their coordinates, or an index), the coordinate-like arrays whose dimensions are among them, and
//! the arrays that have exactly these dimensions. Other arrays of lower rank stay in tables of their own: repeated, they would make sums
//! and means quietly wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use lacus_core::UNIT_KEY;

use crate::cf::{Decoding, TimeUnit};
use crate::container::{ArrayMeta, Attributes, Container, Dimension, groups_upward, joined_path, shown};
use crate::element::Element;
use crate::expansion::{By, Expansion};

/// The metadata key of the unit and epoch from which a time was decoded.
pub const TIME_UNITS_KEY: &str = "cf_units";
/// The metadata key of the calendar of a time.
pub const CALENDAR_KEY: &str = "calendar";
/// Attributes by which HDF5 and NetCDF-4 tie arrays to dimensions: structure, not meaning.
pub(crate) const STRUCTURE: [&str; 9] = [
    "CLASS",
    "DIMENSION_LIST",
    "DIMENSION_LABELS",
    "NAME",
    "REFERENCE_LIST",
    "_ARRAY_DIMENSIONS",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_nc3_strict",
];

/// Observations belong to profiles, and these to stations: that is as deep as the conventions go.
const EXPANSIONS: usize = 2;

/// How arrays become tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct MappingOptions {
    /// Whether attributes are applied to numbers.
    pub(crate) decode_cf: bool,
    /// Whether data of lower rank is repeated into tables of higher rank.
    pub(crate) broadcast: bool,
    /// Whether tables have the index along each dimension as columns of their own.
    pub(crate) index: bool,
}

impl Default for MappingOptions {
    fn default() -> Self {
        Self { decode_cf: true, broadcast: false, index: false }
    }
}

/// The tables of one container.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// The tables.
    pub(crate) tables: Vec<TableLayout>,
    /// Where each array of the container went.
    pub(crate) places: Vec<ArrayPlace>,
}

/// One table of one container.
#[derive(Debug, Clone)]
pub(crate) struct TableLayout {
    /// The name.
    pub(crate) name: String,
    /// The group whose arrays it holds.
    pub(crate) group: String,
    /// The dimensions, slowest first.
    pub(crate) dimensions: Vec<TableDimension>,
    /// The columns: dimensions, coordinates, data.
    pub(crate) columns: Vec<ColumnLayout>,
    /// Decoded size of its data; what the attributes of other arrays name as coordinates is none.
    pub(crate) volume: u64,
    /// Whether it holds nothing but the bounds of coordinates, and so stays out of listings.
    pub(crate) auxiliary: bool,
}

/// A dimension of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableDimension {
    /// What it is.
    pub(crate) dimension: Dimension,
    /// Its extent.
    pub(crate) extent: u64,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct ColumnLayout {
    /// Name, type and metadata.
    pub(crate) field: FieldRef,
    /// What it holds.
    pub(crate) content: Content,
    /// The dimensions of the table along which it varies, in the order of its array.
    pub(crate) axes: Vec<usize>,
    /// Whether it names places rather than holding data: a dimension or a coordinate.
    pub(crate) coordinate: bool,
    /// What its numbers count, when they are times that no timestamp can hold.
    pub(crate) time: Option<TimeUnit>,
}

/// What a column holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// The index along a dimension.
    Index,
    /// The values of an array.
    Array {
        /// Its place in the container.
        array: usize,
        /// What its numbers mean.
        decoding: Arc<Decoding>,
        /// The length of its texts, when its last dimension is that.
        text: Option<u64>,
        /// The member of a compound type, when that is the column.
        member: Option<usize>,
    },
    /// The values of the instances to which the elements along a dimension belong.
    Expanded(Arc<Expansion>),
}

/// Where an array went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayPlace {
    /// The table that holds it; `None` when no table does.
    pub(crate) table: Option<String>,
    /// What it is, or why no table holds it.
    pub(crate) role: String,
}

impl ColumnLayout {
    /// The array that it shows, by its place in the container.
    pub(crate) fn array(&self) -> Option<usize> {
        match &self.content {
            Content::Array { array, .. } => Some(*array),
            Content::Expanded(expansion) => expansion.of.array(),
            Content::Index => None,
        }
    }
}

impl TableLayout {
    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.dimensions.iter().fold(1, |product: u64, dimension| product.saturating_mul(dimension.extent))
    }
}

/// Maps the arrays of `container` to tables.
pub(crate) fn map(container: &Container, options: &MappingOptions) -> Mapping {
    Mapper::new(container, options).run()
}

/// An array as tables see it.
struct Seen {
    dimensions: Vec<(Dimension, u64)>,
    text: Option<u64>,
}

struct Mapper<'a> {
    container: &'a Container,
    options: &'a MappingOptions,
    seen: Vec<Seen>,
    /// The coordinate of each dimension.
    coordinates: HashMap<String, usize>,
    /// Coordinate-like arrays that other arrays name, by the array that names them.
    auxiliary: HashMap<usize, Vec<usize>>,
    /// The owner of each array that holds bounds.
    bounds: HashMap<usize, usize>,
}

/// A table is one set of dimensions in one group; compound arrays are tables of their own.
type Set = (String, BTreeSet<String>, Option<usize>);

impl<'a> Mapper<'a> {
    fn new(container: &'a Container, options: &'a MappingOptions) -> Self {
        let lengths = text_lengths(container);
        let seen = container.arrays.iter().zip(&lengths).map(|(array, text)| seen(array, *text)).collect::<Vec<_>>();
        let mut mapper = Self { container, options, seen, coordinates: HashMap::new(), auxiliary: HashMap::new(), bounds: HashMap::new() };
        mapper.find_coordinates();
        mapper.find_named();
        mapper
    }

    fn find_coordinates(&mut self) {
        for (index, array) in self.container.arrays.iter().enumerate() {
            if let [(dimension, _)] = self.seen[index].dimensions.as_slice()
                && dimension.key == array.path()
                && is_readable(array)
                && !matches!(array.element, Element::Struct { .. })
            {
                self.coordinates.insert(dimension.key.clone(), index);
            }
        }
    }

    /// Arrays that are named by the attributes of others.
    fn find_named(&mut self) {
        let by_path: HashMap<String, usize> =
            self.container.arrays.iter().enumerate().map(|(index, array)| (array.path(), index)).collect();
        let find = |group: &str, name: &str| groups_upward(group).find_map(|group| by_path.get(&joined_path(group, name)).copied());
        for (index, array) in self.container.arrays.iter().enumerate() {
            for name in ["bounds", "climatology"].iter().filter_map(|attribute| array.attributes.text(attribute)) {
                if let Some(bounds) = find(&array.group, name.trim()) {
                    self.bounds.insert(bounds, index);
                }
            }
            let of_group = self.container.groups.iter().find(|group| group.path == array.group).map(|group| &group.attributes);
            let names = named_coordinates(&array.attributes, of_group);
            let found = names.iter().filter_map(|name| find(&array.group, name)).filter(|found| *found != index);
            self.auxiliary.insert(index, found.collect());
        }
    }

    fn run(self) -> Mapping {
        let sets = self.sets();
        let names = self.names(&sets);
        let tables: Vec<TableLayout> =
            sets.iter().zip(&names).map(|((set, members), name)| self.table(name.clone(), set, members)).collect();
        let places = self.places(&sets, &names);
        Mapping { tables, places }
    }

    /// The sets of dimensions, each with the arrays that have it, in the order of the container.
    fn sets(&self) -> Vec<(Set, Vec<usize>)> {
        let mut sets: Vec<(Set, Vec<usize>)> = Vec::new();
        let mut found: HashMap<Set, usize> = HashMap::new();
        let mut add = |set: Set, array: Option<usize>| {
            let place = *found.entry(set.clone()).or_insert_with(|| {
                sets.push((set, Vec::new()));
                sets.len() - 1
            });
            sets[place].1.extend(array);
        };
        for (index, array) in self.container.arrays.iter().enumerate().filter(|(_, array)| is_readable(array)) {
            let keys: BTreeSet<String> = self.seen[index].dimensions.iter().map(|(dimension, _)| dimension.key.clone()).collect();
            if keys.len() < self.seen[index].dimensions.len() {
                // A dimension that occurs twice (a covariance) has no place in a set.
                continue;
            }
            let compound = array.shape.len() == 1 && is_record(&array.element);
            let coordinate = self.is_coordinate(index);
            add((array.group.clone(), keys, compound.then_some(index)), (!coordinate).then_some(index));
        }
        sets
    }

    fn is_coordinate(&self, index: usize) -> bool {
        self.coordinates.values().any(|coordinate| *coordinate == index)
    }

    fn names(&self, sets: &[(Set, Vec<usize>)]) -> Vec<String> {
        // Of the sets of unnamed dimensions in a group, that of most dimensions is named after the group, and of several that whose array
        // comes first by name: extents differ from file to file, and the tables of a dataset must not.
        let first = |members: &[usize]| members.iter().map(|index| self.container.arrays[*index].name.as_str()).min().unwrap_or_default();
        let mut chosen: HashMap<&str, ((std::cmp::Reverse<usize>, &str), usize)> = HashMap::new();
        for (place, ((group, keys, compound), members)) in sets.iter().enumerate() {
            if compound.is_none() && !keys.is_empty() && self.is_unnamed(members) {
                let rank = (std::cmp::Reverse(keys.len()), first(members));
                let entry = chosen.entry(group).or_insert((rank, place));
                *entry = (*entry).min((rank, place));
            }
        }
        let mut taken = HashSet::new();
        let mut names = Vec::with_capacity(sets.len());
        for (place, ((group, _, compound), members)) in sets.iter().enumerate() {
            let own = match compound {
                Some(array) => self.container.arrays[*array].name.clone(),
                None if self.is_unnamed(members) => match chosen.get(group.as_str()) {
                    Some((_, chosen)) if *chosen == place => String::new(),
                    _ => first(members).to_owned(),
                },
                None => self.dimensions_of(&sets[place]).iter().map(|(dimension, _)| dimension.name.as_str()).collect::<Vec<_>>().join("_"),
            };
            let scalar = own.is_empty() && sets[place].0.1.is_empty() && compound.is_none();
            let own = if scalar { "scalar".to_owned() } else { own };
            let name = match (group.is_empty(), own.is_empty()) {
                (true, true) => "root".to_owned(),
                (true, false) => own,
                (false, true) => group.clone(),
                (false, false) => format!("{group}_{own}"),
            };
            let name = plain(&name);
            let mut free = name.clone();
            let mut number = 2;
            while !taken.insert(free.to_lowercase()) {
                free = format!("{name}_{number}");
                number += 1;
            }
            names.push(free);
        }
        names
    }

    fn is_unnamed(&self, members: &[usize]) -> bool {
        members.first().is_some_and(|index| {
            let dimensions = &self.seen[*index].dimensions;
            !dimensions.is_empty() && dimensions.iter().all(|(dimension, _)| !dimension.named)
        })
    }

    /// The dimensions of a set in the order of its largest array.
    fn dimensions_of(&self, (set, members): &(Set, Vec<usize>)) -> Vec<(Dimension, u64)> {
        let largest = members.iter().max_by_key(|index| (self.container.arrays[**index].volume(), std::cmp::Reverse(**index)));
        match largest {
            Some(index) => self.seen[*index].dimensions.clone(),
            None => {
                set.1.iter().filter_map(|key| self.coordinates.get(key)).flat_map(|index| self.seen[*index].dimensions.clone()).collect()
            }
        }
    }

    fn table(&self, name: String, set: &Set, members: &[usize]) -> TableLayout {
        let dimensions = self.dimensions_of(&(set.clone(), members.to_vec()));
        let mut columns = Columns::default();
        let named_like = |name: &str| members.iter().any(|index| self.container.arrays[*index].name == name);
        for (axis, (dimension, _)) in dimensions.iter().enumerate() {
            match self.coordinates.get(&dimension.key) {
                Some(index) => columns.push(self.column(*index, &dimensions, true)),
                None => {
                    let name = if named_like(&dimension.name) { format!("{}_index", dimension.name) } else { dimension.name.clone() };
                    let field = Arc::new(Field::new(name, DataType::Int64, false));
                    columns.push(Some(index_column(field, axis)));
                }
            }
        }
        if self.options.index {
            for (axis, (dimension, _)) in dimensions.iter().enumerate() {
                let field = Arc::new(Field::new(format!("_i_{}", dimension.name), DataType::Int64, false));
                columns.push(Some(index_column(field, axis)));
            }
        }
        let wanted: BTreeSet<usize> = members.iter().flat_map(|index| self.auxiliary.get(index)).flatten().copied().collect();
        for index in wanted {
            if !members.contains(&index) && !self.is_coordinate(index) && is_readable(&self.container.arrays[index]) {
                columns.push(self.column(index, &dimensions, true));
            }
        }
        for (axis, dimension) in dimensions.iter().enumerate() {
            let expanded = self.expanded(&set.0, dimension, EXPANSIONS).into_iter();
            expanded.for_each(|column| columns.push(Some(ColumnLayout { axes: vec![axis], ..column })));
        }
        if self.options.broadcast {
            for index in 0..self.container.arrays.len() {
                let array = &self.container.arrays[index];
                let lower = self.seen[index].dimensions.len() < dimensions.len() && array.group == set.0;
                if lower && is_readable(array) && !self.is_coordinate(index) && !self.bounds.contains_key(&index) {
                    columns.push(self.column(index, &dimensions, false));
                }
            }
        }
        for index in members {
            match &self.container.arrays[*index].element {
                Element::Struct { members, .. } if set.2.is_some() => self.member_columns(*index, members.len(), &mut columns),
                _ => columns.push(self.column(*index, &dimensions, false)),
            }
        }
        let named: HashSet<usize> = self.auxiliary.values().flatten().copied().collect();
        let is_data = |index: &&usize| !self.bounds.contains_key(index) && !named.contains(index);
        let volume = members.iter().filter(is_data).map(|index| self.container.arrays[*index].volume()).sum();
        let auxiliary = !members.is_empty() && members.iter().all(|index| self.bounds.contains_key(index));
        let dimensions = dimensions.into_iter().map(|(dimension, extent)| TableDimension { dimension, extent }).collect();
        TableLayout { name, group: set.0.clone(), dimensions, columns: columns.all, volume, auxiliary }
    }

    /// The column of an array in a table of `dimensions`; `None` when it varies along others.
    fn column(&self, index: usize, dimensions: &[(Dimension, u64)], coordinate: bool) -> Option<ColumnLayout> {
        let array = &self.container.arrays[index];
        let place = |wanted: &Dimension| dimensions.iter().position(|(dimension, _)| dimension.key == wanted.key);
        let axes = self.seen[index].dimensions.iter().map(|(dimension, _)| place(dimension)).collect::<Option<Vec<_>>>()?;
        let inherited = self.bounds.get(&index).map(|owner| &self.container.arrays[*owner].attributes);
        let decoding = if self.options.decode_cf { Decoding::of(array, inherited) } else { Decoding::raw(array) };
        let text = self.seen[index].text;
        let data_type = if text.is_some() { DataType::Utf8 } else { decoding.data_type() };
        let nullable = !coordinate || decoding.is_nullable() || axes.len() != 1;
        let field = Field::new(&array.name, data_type, nullable).with_metadata(metadata(&array.attributes, decoding.is_time()));
        let content = Content::Array { array: index, decoding: Arc::new(decoding), text, member: None };
        let time = if self.options.decode_cf { number_time(&field) } else { None };
        Some(ColumnLayout { field: Arc::new(field), content, axes, coordinate, time })
    }

    /// The columns of the instances to which the elements along a dimension belong, each along that dimension alone.
    fn expanded(&self, group: &str, dimension: &(Dimension, u64), depth: usize) -> Vec<ColumnLayout> {
        let mut columns = Vec::new();
        let Some(deeper) = depth.checked_sub(1) else { return columns };
        for (index, array) in self.container.arrays.iter().enumerate() {
            if array.group != group || !is_readable(array) || !array.element.is_number() {
                continue;
            }
            let [own] = self.seen[index].dimensions.as_slice() else { continue };
            let text = |name: &str| array.attributes.text(name).map(str::trim);
            if text("sample_dimension") == Some(dimension.0.name.as_str()) && own.0.key != dimension.0.key {
                let by = By::Counts(self.raw_column(index));
                columns.extend(self.instances(group, own, index, deeper).into_iter().map(|of| expand(of, own.1, by.clone())));
            }
            if own.0.key != dimension.0.key {
                continue;
            }
            if let Some(instances) = text("instance_dimension").and_then(|name| self.dimension_named(group, name)) {
                let by = By::Indices(self.raw_column(index));
                columns.extend(self.instances(group, &instances, index, deeper).into_iter().map(|of| expand(of, instances.1, by.clone())));
            }
            columns.extend(text("compress").map(|names| self.gathered(group, index, names)).unwrap_or_default());
        }
        columns
    }

    /// The places on a grid of the points of a list, whose numbers in that grid an array holds.
    fn gathered(&self, group: &str, index: usize, names: &str) -> Vec<ColumnLayout> {
        let grid = names.split_whitespace().map(|name| self.dimension_named(group, name));
        let grid = grid.collect::<Option<Vec<_>>>().unwrap_or_default();
        let cells = grid.iter().fold(1, |product: u64, (_, extent)| product.saturating_mul(*extent));
        let mut stride = cells;
        let mut columns = Vec::new();
        for (along, extent) in grid {
            stride /= extent.max(1);
            let of = match self.coordinates.get(&along.key) {
                Some(coordinate) => self.column(*coordinate, &[(along.clone(), extent)], true),
                None => Some(index_column(Arc::new(Field::new(&along.name, DataType::Int64, false)), 0)),
            };
            let by = By::Cells { column: self.raw_column(index), stride: stride.max(1), cells };
            columns.extend(of.map(|of| expand(of, extent, by)));
        }
        columns
    }

    /// The columns along the dimension of instances; `but` tells which elements are theirs.
    fn instances(&self, group: &str, instances: &(Dimension, u64), but: usize, depth: usize) -> Vec<ColumnLayout> {
        let along = |index: &usize| {
            let array = &self.container.arrays[*index];
            let alone = matches!(self.seen[*index].dimensions.as_slice(), [(own, _)] if own.key == instances.0.key);
            alone && *index != but && array.group == group && is_readable(array) && !matches!(array.element, Element::Struct { .. })
        };
        let own = (0..self.container.arrays.len()).filter(along);
        let own = own.filter_map(|index| self.column(index, std::slice::from_ref(instances), true));
        own.chain(self.expanded(group, instances, depth)).collect()
    }

    /// A dimension of the arrays of a group, by its name.
    fn dimension_named(&self, group: &str, name: &str) -> Option<(Dimension, u64)> {
        let of_group = self.container.arrays.iter().zip(&self.seen).filter(|(array, _)| array.group == group);
        of_group.flat_map(|(_, seen)| &seen.dimensions).find(|(dimension, _)| dimension.name == name).cloned()
    }

    /// What is stored of an array of numbers along one dimension.
    fn raw_column(&self, index: usize) -> ColumnLayout {
        let array = &self.container.arrays[index];
        let decoding = Arc::new(Decoding::raw(array));
        let field = Arc::new(Field::new(&array.name, decoding.data_type(), true));
        let content = Content::Array { array: index, decoding, text: None, member: None };
        ColumnLayout { field, content, axes: vec![0], coordinate: true, time: None }
    }

    fn member_columns(&self, index: usize, count: usize, columns: &mut Columns) {
        let array = &self.container.arrays[index];
        let DataType::Struct(fields) = array.element.data_type() else { return };
        let decoding = Arc::new(Decoding::raw(array));
        for (member, field) in fields.iter().enumerate().take(count) {
            let content = Content::Array { array: index, decoding: Arc::clone(&decoding), text: None, member: Some(member) };
            columns.push(Some(ColumnLayout { field: Arc::clone(field), content, axes: vec![0], coordinate: false, time: None }));
        }
    }

    fn places(&self, sets: &[(Set, Vec<usize>)], names: &[String]) -> Vec<ArrayPlace> {
        let mut tables: BTreeMap<usize, &String> = BTreeMap::new();
        for ((_, members), name) in sets.iter().zip(names) {
            members.iter().for_each(|index| {
                tables.insert(*index, name);
            });
        }
        let place = |(index, array): (usize, &ArrayMeta)| match (array.refused(), tables.get(&index)) {
            (Some(problem), _) => ArrayPlace { table: None, role: problem },
            (None, Some(table)) => {
                let role = if self.bounds.contains_key(&index) { "bounds" } else { "data" };
                ArrayPlace { table: Some((*table).clone()), role: role.to_owned() }
            }
            (None, None) if array.only_dimension => ArrayPlace { table: None, role: "a dimension without values".to_owned() },
            (None, None) if self.is_coordinate(index) => {
                let own = sets.iter().zip(names).find(|((set, _), _)| set.0 == array.group && set.1 == BTreeSet::from([array.path()]));
                ArrayPlace { table: own.map(|(_, name)| name.clone()), role: "coordinate".to_owned() }
            }
            (None, None) => ArrayPlace { table: None, role: "a dimension occurs twice; it has no place in a table".to_owned() },
        };
        self.container.arrays.iter().enumerate().map(place).collect()
    }
}

/// A column of instances for their elements. An element may belong to none.
fn expand(of: ColumnLayout, instances: u64, by: By) -> ColumnLayout {
    let field = Arc::new(of.field.as_ref().clone().with_nullable(true));
    let time = of.time;
    ColumnLayout { field, content: Content::Expanded(Arc::new(Expansion { of, instances, by })), axes: vec![0], coordinate: true, time }
}

/// The index along a dimension.
fn index_column(field: FieldRef, axis: usize) -> ColumnLayout {
    ColumnLayout { field, content: Content::Index, axes: vec![axis], coordinate: true, time: None }
}

/// What the numbers of a column count, when its attributes name a time that is left as a number.
fn number_time(field: &Field) -> Option<TimeUnit> {
    let text = |key: &str| field.metadata().get(key).map_or("", String::as_str);
    field.data_type().is_numeric().then(|| TimeUnit::parse(text(UNIT_KEY), text(CALENDAR_KEY))).flatten()
}

/// Whether an element is a record of a table. A complex number is one value.
fn is_record(element: &Element) -> bool {
    let Element::Struct { members, .. } = element else { return false };
    !matches!(members.as_slice(), [real, imaginary] if real.name == "r" && imaginary.name == "i" && real.element == imaginary.element)
}

/// Columns of one table, each array once; of two arrays of one name the second gets a number.
#[derive(Default)]
struct Columns {
    all: Vec<ColumnLayout>,
    names: HashSet<String>,
}

impl Columns {
    fn push(&mut self, column: Option<ColumnLayout>) {
        let Some(mut column) = column else { return };
        let what = |column: &ColumnLayout| match &column.content {
            Content::Array { array, member, .. } => Some((*array, *member)),
            Content::Index | Content::Expanded(_) => None,
        };
        if what(&column).is_some() && self.all.iter().any(|known| what(known) == what(&column)) {
            return;
        }
        let name = column.field.name().clone();
        let mut free = name.clone();
        let mut number = 2;
        while !self.names.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        if free != name {
            column.field = Arc::new(column.field.as_ref().clone().with_name(free));
        }
        self.all.push(column);
    }
}

fn is_readable(array: &ArrayMeta) -> bool {
    array.refused().is_none() && !array.only_dimension
}

fn seen(array: &ArrayMeta, text: Option<TextLength>) -> Seen {
    let mut dimensions: Vec<(Dimension, u64)> = array.dimensions.iter().cloned().zip(array.shape.iter().copied()).collect();
    if matches!(text, Some(TextLength::Dimension(_))) {
        dimensions.pop();
    }
    let text = text.map(|text| match text {
        TextLength::Dimension(length) => length,
        TextLength::One => 1,
    });
    Seen { dimensions, text }
}

/// How long the texts of an array of characters are.
#[derive(Debug, Clone, Copy)]
enum TextLength {
    /// As long as the last dimension, which is no dimension of the table then.
    Dimension(u64),
    /// Each character stands for itself.
    One,
}

/// The length of the texts of each array of characters. A last dimension that other arrays use too is no length: each character stands
/// for itself.
fn text_lengths(container: &Container) -> Vec<Option<TextLength>> {
    let is_text = |array: &ArrayMeta| array.element == Element::Char;
    let used: HashSet<&str> = container
        .arrays
        .iter()
        .filter(|array| !is_text(array) && !array.only_dimension)
        .flat_map(|array| array.dimensions.iter().map(|dimension| dimension.key.as_str()))
        .collect();
    let length = |array: &ArrayMeta| match (array.dimensions.last(), array.shape.last()) {
        (Some(dimension), Some(extent)) if !used.contains(dimension.key.as_str()) => TextLength::Dimension(*extent),
        _ => TextLength::One,
    };
    container.arrays.iter().map(|array| is_text(array).then(|| length(array))).collect()
}

/// The coordinate-like arrays that the attributes of an array name.
fn named_coordinates(attributes: &Attributes, of_group: Option<&Attributes>) -> Vec<String> {
    let plain = ["coordinates", "ancillary_variables"].iter().filter_map(|name| attributes.text(name));
    let of_group = of_group.and_then(|attributes| attributes.text("coordinates"));
    let mut names: Vec<String> = plain.chain(of_group).flat_map(str::split_whitespace).map(str::to_owned).collect();
    // `cell_measures` is a list of `measure: variable`.
    let measures = attributes.text("cell_measures").unwrap_or_default();
    names.extend(measures.split_whitespace().filter(|word| !word.ends_with(':')).map(str::to_owned));
    names
}

/// The attributes as the metadata of a field. The unit of a decoded time is no unit of the column any more.
fn metadata(attributes: &Attributes, is_time: bool) -> HashMap<String, String> {
    let meaning = attributes.iter().filter(|(name, _)| !STRUCTURE.contains(name));
    let mut metadata: HashMap<String, String> = meaning.map(|(name, value)| (name.to_owned(), shown(value))).collect();
    if is_time && let Some(units) = metadata.remove(UNIT_KEY) {
        metadata.insert(TIME_UNITS_KEY.to_owned(), units);
    }
    metadata
}

/// A name without what SQL would need quotes for, apart from upper case.
fn plain(name: &str) -> String {
    name.chars().map(|next| if next.is_alphanumeric() { next } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Missing;
    use crate::element::Order;

    fn array(name: &str, dimensions: &[(&str, u64)]) -> ArrayMeta {
        let dimension =
            |(name, _): &(&str, u64)| Dimension { name: (*name).to_owned(), key: (*name).to_owned(), named: !name.starts_with("dim_") };
        ArrayMeta {
            group: String::new(),
            name: name.to_owned(),
            element: Element::Float { bytes: 4, order: Order::Little },
            shape: dimensions.iter().map(|(_, extent)| *extent).collect(),
            dimensions: dimensions.iter().map(dimension).collect(),
            chunk: dimensions.iter().map(|(_, extent)| *extent).collect(),
            codecs: Ok(Vec::new()),
            fill: None,
            missing: Missing::Nothing,
            attributes: Attributes::new(),
            problem: None,
            only_dimension: false,
        }
    }

    fn tables(arrays: Vec<ArrayMeta>) -> Vec<String> {
        let mapping = map(&Container { groups: vec![], arrays }, &MappingOptions::default());
        let columns = |table: &TableLayout| table.columns.iter().map(|column| column.field.name().as_str()).collect::<Vec<_>>().join(",");
        mapping.tables.iter().map(|table| format!("{}({})", table.name, columns(table))).collect()
    }

    #[test]
    fn each_set_of_dimensions_is_a_table() {
        let arrays = vec![
            array("time", &[("time", 2)]),
            array("lat", &[("lat", 3)]),
            array("t", &[("time", 2), ("lat", 3)]),
            array("p", &[("lat", 3), ("time", 2)]),
            array("mask", &[("lat", 3)]),
            array("level", &[]),
            array("s", &[("time", 2), ("sample", 4)]),
        ];
        let expected = ["time(time)", "lat(lat,mask)", "time_lat(time,lat,t,p)", "scalar(level)", "time_sample(time,sample,s)"];
        assert_eq!(tables(arrays), expected);
    }

    #[test]
    fn coordinates_are_repeated_and_data_is_not() {
        let mut data = array("t", &[("y", 2), ("x", 3)]);
        data.attributes.push_text("coordinates", "lon height");
        let arrays = vec![data, array("lon", &[("y", 2), ("x", 3)]), array("height", &[]), array("area", &[("y", 2)])];
        assert_eq!(tables(arrays), ["y_x(y,x,height,t,lon)", "scalar(height)", "y(y,area)"]);
    }

    #[test]
    fn unnamed_dimensions_make_tables_of_a_group() {
        let mut arrays = vec![array("a", &[("dim_0", 5), ("dim_1", 5)]), array("b", &[("dim_0", 7)]), array("c", &[("dim_0", 7)])];
        for array in &mut arrays {
            let shape = format!("{:?}", array.shape);
            array.dimensions.iter_mut().for_each(|dimension| dimension.key = format!("#{shape}#{}", dimension.name));
        }
        assert_eq!(tables(arrays), ["root(dim_0,dim_1,a)", "b(dim_0,b,c)"]);
    }
}

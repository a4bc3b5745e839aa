//! What the files of a dataset disagree about: what a person would want to know before trusting them as one.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use datafusion_catalog::TableProvider;
use lacus_core::Result;

use crate::chunks::{ChunkReader, Opened, within};
use crate::container::{ArrayMeta, shown};
use crate::index::{bounded_arrays, extremes};
use crate::metadata_tables::in_memory;
use crate::scan::column_of;

/// The table that lists what the files of a dataset disagree about.
pub const DIFFERENCES: &str = "_differences";

/// Attributes that change what numbers mean.
const MEANING: [&str; 12] = [
    "units",
    "calendar",
    "scale_factor",
    "add_offset",
    "_FillValue",
    "missing_value",
    "valid_min",
    "valid_max",
    "valid_range",
    "_Unsigned",
    "standard_name",
    "grid_mapping",
];
/// More different values than this are counted, not listed.
const MOST_VALUES: usize = 10;
/// An array of more chunks is not looked at chunk by chunk.
const MOST_CHUNKS: u64 = 1_000_000;

/// What one file says, by the path of the array and what is said.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    said: BTreeMap<(String, &'static str), String>,
    grids: BTreeMap<String, Grid>,
    problems: Vec<(String, String)>,
}

/// The values of a coordinate.
#[derive(Debug, Clone, PartialEq)]
struct Grid {
    hash: u64,
    shown: String,
    /// The least and the greatest, where they are numbers or times.
    range: Option<(f64, f64)>,
}

/// Looks at one file: its metadata, its coordinates, and whether all of its chunks lie within it.
///
/// # Errors
/// When values have no text, which none of Arrow's types is known for.
pub(crate) async fn examined(opened: &Opened, reader: &ChunkReader) -> Result<Examined> {
    let mut examined = Examined::default();
    for (index, array) in opened.store.container().arrays.iter().enumerate() {
        let path = array.path();
        match array.refused() {
            Some(problem) => examined.problems.push((path.clone(), problem)),
            None => examined.problems.extend(truncated(opened, reader, index, array).await.map(|problem| (path.clone(), problem))),
        }
        let names: Vec<&str> = array.dimensions.iter().map(|dimension| dimension.name.as_str()).collect();
        examined.said.insert((path.clone(), "type"), array.element.data_type().to_string());
        examined.said.insert((path.clone(), "dimensions"), names.join(", "));
        examined.said.insert((path.clone(), "table"), opened.mapping.places[index].table.clone().unwrap_or_else(|| "none".to_owned()));
        for name in MEANING {
            let value = array.attributes.get(name).map_or_else(|| "none".to_owned(), shown);
            examined.said.insert((path.clone(), name), value);
        }
    }
    for (path, (layout, column)) in bounded_arrays(opened).into_iter().filter(|(_, (_, column))| column.axes.len() == 1) {
        match column_of(reader, opened, layout, column).await {
            Ok(values) => drop(examined.grids.insert(path, grid(&values)?)),
            Err(error) => examined.problems.push((path, error.to_string())),
        }
    }
    Ok(examined)
}

/// Why not all chunks of an array can be read, as far as their places tell.
async fn truncated(opened: &Opened, reader: &ChunkReader, index: usize, array: &ArrayMeta) -> Option<String> {
    let total = array.chunk_counts().iter().try_fold(1u64, |product, count| product.checked_mul(*count))?;
    if total == 0 || total > MOST_CHUNKS {
        return None;
    }
    let places = match opened.store.locate(index, &array.chunks(), &reader.bytes).await {
        Ok(places) => places,
        Err(error) => return Some(error.to_string()),
    };
    places.iter().find_map(|place| within(opened, place).err()).map(|error| error.to_string())
}

fn grid(values: &ArrayRef) -> Result<Grid> {
    let mut hasher = DefaultHasher::new();
    let numbers = match values.data_type() {
        DataType::Timestamp(..) => Some(cast(&cast(values, &DataType::Int64)?, &DataType::Float64)?),
        data_type if data_type.is_numeric() => Some(cast(values, &DataType::Float64)?),
        _ => None,
    };
    match &numbers {
        Some(numbers) => numbers.as_primitive::<Float64Type>().iter().for_each(|value| value.map(f64::to_bits).hash(&mut hasher)),
        None => {
            for row in 0..values.len() {
                array_value_to_string(values, row)?.hash(&mut hasher);
            }
        }
    }
    let shown = match extremes(values)? {
        Some(ends) => {
            format!("{} values from {} to {}", values.len(), array_value_to_string(&ends, 0)?, array_value_to_string(&ends, 1)?)
        }
        None => format!("{} values", values.len()),
    };
    let ends = numbers.map(|numbers| extremes(&numbers)).transpose()?.flatten();
    let range = ends.map(|ends| {
        let ends = ends.as_primitive::<Float64Type>();
        (ends.value(0), ends.value(1))
    });
    Ok(Grid { hash: hasher.finish(), shown, range })
}

/// One thing that some files say.
#[derive(Debug, Default)]
struct Said {
    files: u64,
    example: String,
}

/// The table of differences, most telling first: what can't be read, then array by array.
pub(crate) fn differences(dataset: &str, files: &[(String, Result<Examined>)]) -> Result<Arc<dyn TableProvider>> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    let mut counts: Vec<u64> = Vec::new();
    let mut add = |path: &str, what: &str, value: &str, said: &Said| {
        rows.push([path.to_owned(), what.to_owned(), value.to_owned(), said.example.clone()]);
        counts.push(said.files);
    };
    for (file, examined) in files {
        let one = Said { files: 1, example: file.clone() };
        match examined {
            Ok(examined) => examined.problems.iter().for_each(|(path, problem)| add(path, "can't be read", problem, &one)),
            Err(error) => add("", "can't be opened", &error.to_string(), &one),
        }
    }
    let good: Vec<(&String, &Examined)> = files.iter().filter_map(|(file, examined)| Some((file, examined.as_ref().ok()?))).collect();
    let paths: BTreeSet<&String> = good.iter().flat_map(|(_, examined)| examined.said.keys().map(|(path, _)| path)).collect();
    for path in paths {
        let mut kinds = vec!["type", "dimensions", "table"];
        kinds.extend(MEANING);
        let presence = groups(&good, |examined| {
            Some(if examined.said.contains_key(&(path.clone(), "type")) { "there" } else { "missing" }.to_owned())
        });
        let presence = presence.into_iter().collect();
        let mut all: Vec<(&str, Vec<(String, Said)>)> = vec![("presence", presence), ("grid", grids(&good, path))];
        for kind in kinds {
            let values = groups(&good, |examined| examined.said.get(&(path.clone(), kind)).cloned());
            all.push((kind, values.into_iter().collect()));
        }
        for (kind, values) in all.iter().filter(|(_, values)| values.len() > 1) {
            if values.len() <= MOST_VALUES {
                values.iter().for_each(|(value, said)| add(path, kind, value, said));
                continue;
            }
            let files = values.iter().map(|(_, said)| said.files).sum();
            let example = values[0].1.example.clone();
            add(path, kind, &format!("{} different ones, such as {}", values.len(), values[0].0), &Said { files, example });
        }
    }
    let text = |place: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[place].as_str()))) };
    let datasets: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|_| dataset)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dataset", datasets),
        ("path", text(0)),
        ("what", text(1)),
        ("value", text(2)),
        ("files", Arc::new(counts.into_iter().collect::<UInt64Array>())),
        ("example", text(3)),
    ];
    in_memory(columns)
}

/// What the files say, each with how many say it and one of them.
fn groups(files: &[(&String, &Examined)], of: impl Fn(&Examined) -> Option<String>) -> BTreeMap<String, Said> {
    let mut groups: BTreeMap<String, Said> = BTreeMap::new();
    for (file, examined) in files {
        if let Some(value) = of(examined) {
            let said = groups.entry(value).or_default();
            if said.files == 0 {
                said.example = (*file).clone();
            }
            said.files += 1;
        }
    }
    groups
}

/// The grids of a coordinate, where they differ without following one another as the years of a series do.
fn grids(files: &[(&String, &Examined)], path: &str) -> Vec<(String, Said)> {
    let mut grids: BTreeMap<u64, (Grid, Said)> = BTreeMap::new();
    for (file, examined) in files {
        if let Some(grid) = examined.grids.get(path) {
            let (_, said) = grids.entry(grid.hash).or_insert_with(|| (grid.clone(), Said { files: 0, example: (*file).clone() }));
            said.files += 1;
        }
    }
    let mut ranges: Vec<(f64, f64)> = grids.values().filter_map(|(grid, _)| grid.range).collect();
    ranges.sort_by(|left, right| left.0.total_cmp(&right.0));
    let follow = ranges.len() == grids.len() && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    if grids.len() < 2 || follow {
        return Vec::new();
    }
    grids.into_values().map(|(grid, said)| (grid.shown, said)).collect()
}

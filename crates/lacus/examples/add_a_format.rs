//! A format of arrays of one's own: `cargo run --example add_a_format`. The guide to it is `docs/add-a-format.md`.
//!
//! A `.grid` file is a line of text, `name rows columns`, and then rows times columns 32-bit floats, little-endian.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lacus::arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use lacus::arrow::datatypes::Float64Type;
use lacus::object_store::path::Path;
use lacus::object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use lacus::{Config, Error, Kind, Place as StorePlace, Principal, Result, StoreName, StoreSpec, TryStreamExt};
use lacus_array::conformance::{Expected, check, check_damaged};
use lacus_array::{
    ArrayMeta, ArraySource, Attributes, Container, Dimension, Element, Format, GridStore, Group, Missing, NoHeap, Opener, Order, Place,
    Source, slab_extent, slab_range,
};

/// Opens `.grid` files.
#[derive(Debug)]
struct GridOpener;

#[async_trait]
impl Opener for GridOpener {
    fn recognises(&self, head: &[u8]) -> bool {
        header(head).is_some()
    }

    async fn open(&self, source: &Source) -> Result<Arc<dyn GridStore>> {
        let unreadable = || Error::new(Kind::CorruptData, "the first line is not `name rows columns`");
        let (name, shape, begin) = header(&source.head).ok_or_else(unreadable)?;
        let dimension = |name: &str| Dimension { name: name.to_owned(), key: name.to_owned(), named: true };
        let array = ArrayMeta {
            group: String::new(),
            name,
            element: Element::Float { bytes: 4, order: Order::Little },
            // What lies in one piece is read in slabs.
            chunk: slab_extent(&shape, 4),
            shape,
            dimensions: vec![dimension("row"), dimension("column")],
            // As numcodecs would say it: the bytes are values as they are.
            codecs: Ok(Vec::new()),
            fill: None,
            missing: Missing::Nothing,
            attributes: Attributes::new(),
            problem: None,
            only_dimension: false,
        };
        let container = Container { groups: vec![Group::default()], arrays: vec![array] };
        Ok(Arc::new(Grid { object: source.object.location.clone(), container, begin }))
    }
}

fn header(head: &[u8]) -> Option<(String, Vec<u64>, u64)> {
    let end = head.iter().take(200).position(|byte| *byte == b'\n')?;
    let words: Vec<&str> = std::str::from_utf8(&head[..end]).ok()?.split(' ').collect();
    let [name, rows, columns] = words.as_slice() else { return None };
    Some(((*name).to_owned(), vec![rows.parse().ok()?, columns.parse().ok()?], end as u64 + 1))
}

/// One opened file.
#[derive(Debug)]
struct Grid {
    object: Path,
    container: Container,
    begin: u64,
}

#[async_trait]
impl GridStore for Grid {
    fn container(&self) -> &Container {
        &self.container
    }

    async fn locate(&self, array: usize, chunks: &[Vec<u64>], _: &Arc<dyn ObjectStore>) -> Result<Vec<Place>> {
        let array = &self.container.arrays[array];
        let place = |chunk: &Vec<u64>| {
            let (start, cells) = slab_range(&array.shape, &array.chunk, chunk);
            let start = self.begin.saturating_add(start.saturating_mul(4));
            Place::one_range(self.object.clone(), start..start.saturating_add(cells.saturating_mul(4)), 0)
        };
        Ok(chunks.iter().map(place).collect())
    }

    async fn decode(&self, array: usize, _: &[u64], bytes: Bytes, _: u32, _: &Arc<dyn ObjectStore>) -> Result<ArrayRef> {
        let array = &self.container.arrays[array];
        let mut bytes = Vec::from(bytes);
        // A chunk at the edge is filled up to a whole one.
        bytes.resize(array.chunk_bytes() as usize, 0);
        array.element.decode(bytes, &NoHeap)
    }
}

/// Checks the format, and asks a file of it.
async fn run() -> std::result::Result<f64, Box<dyn std::error::Error + Send + Sync>> {
    let format = Format { name: "grid", endings: &[".grid"], openers: vec![Arc::new(GridOpener)], folder: false };
    let values: Vec<f32> = (0..12).map(|cell| cell as f32).collect();
    let file: Bytes = b"height 3 4\n".iter().copied().chain(values.iter().flat_map(|value| value.to_le_bytes())).collect();
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    memory.put(&Path::from("alps.grid"), file.clone().into()).await?;

    let dimensions = vec!["row".to_owned(), "column".to_owned()];
    let values: ArrayRef = Arc::new(Float32Array::from(values));
    let expected = Expected { path: "height".to_owned(), shape: vec![3, 4], dimensions, values };
    check(&format, &memory, &Path::from("alps.grid"), &[expected]).await?;
    check_damaged(&format, &file, 300).await?;

    let builder = Config::discover(&std::env::temp_dir())?.builder()?;
    let stores = Arc::clone(builder.stores());
    stores.add(StoreSpec::new(StoreName::new("memory")?, StorePlace::Custom(memory)));
    let engine = builder.source(Arc::new(ArraySource::new(stores, vec![format]))).build()?;
    let sql = "SELECT avg(height) FROM 'memory:alps.grid' WHERE \"row\" >= 1 AND \"column\" = 2";
    let batches: Vec<RecordBatch> = engine.query(sql, &[], &Principal::owner()).await?.stream()?.try_collect().await?;
    Ok(batches[0].column(0).as_primitive::<Float64Type>().value(0))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mean = run().await?;
    if mean != 8.0 {
        return Err(format!("the mean is {mean}, not 8").into());
    }
    Ok(())
}

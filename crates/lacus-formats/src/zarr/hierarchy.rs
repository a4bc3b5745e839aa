//! The metadata documents of a store: consolidated where there is one, else group by group.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::{below, json};

/// Documents fetched at once.
const CONCURRENT_DOCUMENTS: usize = 32;
/// A store of more arrays and groups than this is refused.
const MOST_NODES: usize = 1_000_000;

/// One group or array, as its documents describe it.
#[derive(Debug)]
pub(super) struct Node {
    /// The path below the root of the store; empty for the root.
    pub(super) path: String,
    pub(super) document: Document,
}

/// The documents of a node.
#[derive(Debug)]
pub(super) enum Document {
    /// Version 3.
    V3(Value),
    /// Version 2: `.zarray` or nothing for a group, and `.zattrs`.
    V2 {
        /// The array's document; `None` for a group.
        array: Option<Value>,
        /// The attributes.
        attributes: Option<Value>,
    },
}

/// All nodes of a store, the root first.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// Whether the documents at the root are all there are: consolidated metadata, or a single array.
    pub(super) root_describes_all: bool,
    pub(super) nodes: Vec<Node>,
}

/// Reads the documents of the store at `root`.
pub(super) async fn read(store: &Arc<dyn ObjectStore>, root: &Path) -> Result<Hierarchy> {
    let names = ["zarr.json", ".zmetadata", ".zarray", ".zgroup", ".zattrs"];
    let [v3, consolidated, array, group, attributes] = names.map(|name| document(store, below(root, name)));
    let (v3, consolidated, array, group, attributes) = futures::try_join!(v3, consolidated, array, group, attributes)?;
    if let Some(root_document) = v3 {
        return v3_nodes(store, root, root_document).await;
    }
    if let Some(consolidated) = consolidated {
        return Ok(Hierarchy { root_describes_all: true, nodes: consolidated_v2(&consolidated) });
    }
    if array.is_none() && group.is_none() {
        let error = Error::new(Kind::NotFound, "there is no Zarr store: neither zarr.json nor .zgroup, .zarray or .zmetadata");
        return Err(error.hint("check the path; it names the folder that holds the metadata"));
    }
    let is_group = array.is_none();
    let mut nodes = vec![Node { path: String::new(), document: Document::V2 { array, attributes } }];
    if is_group {
        nodes.extend(walk(store, root, false).await?);
    }
    Ok(Hierarchy { root_describes_all: !is_group, nodes })
}

async fn document(store: &Arc<dyn ObjectStore>, path: Result<Path>) -> Result<Option<Value>> {
    let path = path?;
    match store.get(&path).await {
        Ok(found) => Ok(Some(json::parse(&found.bytes().await?).map_err(|error| error.with("object", &path))?)),
        // A folder in the place of a document, as on file systems, is no document.
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn v3_nodes(store: &Arc<dyn ObjectStore>, root: &Path, document: Value) -> Result<Hierarchy> {
    let is_group = document["node_type"] == "group";
    let consolidated = document.pointer("/consolidated_metadata/metadata").and_then(Value::as_object).cloned();
    let root_describes_all = consolidated.is_some() || !is_group;
    let mut nodes = vec![Node { path: String::new(), document: Document::V3(document) }];
    match consolidated {
        Some(members) => {
            nodes.extend(members.into_iter().map(|(path, document)| Node { path, document: Document::V3(document) }));
        }
        None if is_group => nodes.extend(walk(store, root, true).await?),
        None => {}
    }
    Ok(Hierarchy { root_describes_all, nodes })
}

/// The nodes that `.zmetadata` describes.
fn consolidated_v2(consolidated: &Value) -> Vec<Node> {
    let mut found: BTreeMap<String, (Option<Value>, Option<Value>)> = BTreeMap::from([(String::new(), (None, None))]);
    for (key, value) in consolidated["metadata"].as_object().into_iter().flatten() {
        let (path, name) = key.rsplit_once('/').unwrap_or(("", key));
        let node = found.entry(path.to_owned()).or_default();
        match name {
            ".zarray" => node.0 = Some(value.clone()),
            ".zattrs" => node.1 = Some(value.clone()),
            _ => {}
        }
    }
    let node = |(path, (array, attributes))| Node { path, document: Document::V2 { array, attributes } };
    found.into_iter().map(node).collect()
}

/// The nodes below the root, by listing.
async fn walk(store: &Arc<dyn ObjectStore>, root: &Path, v3: bool) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut level = vec![String::new()];
    while !level.is_empty() {
        let listed = stream::iter(level).map(|path| members(store, root, path)).buffered(CONCURRENT_DOCUMENTS);
        let members: Vec<Vec<String>> = listed.try_collect().await?;
        let read = stream::iter(members.into_iter().flatten()).map(|path| node(store, root, path, v3)).buffered(CONCURRENT_DOCUMENTS);
        let found: Vec<Option<Node>> = read.try_collect().await?;
        let found: Vec<Node> = found.into_iter().flatten().collect();
        level = found.iter().filter(|node| node.is_group()).map(|node| node.path.clone()).collect();
        nodes.extend(found);
        if nodes.len() > MOST_NODES {
            return Err(Error::new(Kind::LimitExceeded, format!("the store holds more than {MOST_NODES} arrays and groups")));
        }
    }
    Ok(nodes)
}

async fn members(store: &Arc<dyn ObjectStore>, root: &Path, path: String) -> Result<Vec<String>> {
    let folder = below(root, &path)?;
    let listed = store.list_with_delimiter(Some(&folder)).await.map_err(|error| {
        Error::from(error).hint("a store that can't be listed needs consolidated metadata: zarr.consolidate_metadata(...)")
    })?;
    let name = |prefix: &Path| prefix.filename().map(|name| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
    Ok(listed.common_prefixes.iter().filter_map(name).collect())
}

async fn node(store: &Arc<dyn ObjectStore>, root: &Path, path: String, v3: bool) -> Result<Option<Node>> {
    let folder = below(root, &path)?;
    if v3 {
        let document = document(store, below(&folder, "zarr.json")).await?;
        return Ok(document.map(|document| Node { path, document: Document::V3(document) }));
    }
    let read = |name: &'static str| document(store, below(&folder, name));
    let (array, group, attributes) = futures::try_join!(read(".zarray"), read(".zgroup"), read(".zattrs"))?;
    let is_node = array.is_some() || group.is_some();
    Ok(is_node.then_some(Node { path, document: Document::V2 { array, attributes } }))
}

impl Node {
    pub(super) fn is_group(&self) -> bool {
        match &self.document {
            Document::V3(document) => document["node_type"] == "group",
            Document::V2 { array, .. } => array.is_none(),
        }
    }
}

//! A record in the forms of others, and as a citation.

use std::collections::HashSet;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, TimeDelta};
use lacus_core::{Error, Kind, Result};
use serde_json::{Value, json};

use crate::record::{Dataset, FileRead, Record};

/// Where this engine is told of.
const PRODUCER: &str = "https://github.com/lacus-engine/lacus";

/// A form in which a record is given to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The record itself.
    Record,
    /// RO-Crate 1.1, as the metadata file of a folder: an action that made a result of files, by an engine, for somebody.
    RoCrate,
    /// PROV-JSON, the W3C's member submission of 2013.
    Prov,
    /// An event of OpenLineage 2-0-2 that tells of a run that ended.
    OpenLineage,
}

impl Form {
    /// The names.
    pub const NAMES: [&str; 4] = ["record", "ro-crate", "prov", "openlineage"];

    /// The form of a name.
    ///
    /// # Errors
    /// `InvalidQuery` with the names that there are.
    pub fn of_name(name: &str) -> Result<Self> {
        Ok(match name {
            "record" => Self::Record,
            "ro-crate" => Self::RoCrate,
            "prov" => Self::Prov,
            "openlineage" => Self::OpenLineage,
            other => {
                let error = Error::new(Kind::InvalidQuery, format!("no form of a record is called `{other}`"));
                return Err(error.hint(format!("write one of {}", Self::NAMES.join(", "))));
            }
        })
    }

    /// A record in this form, as JSON.
    ///
    /// # Errors
    /// `InvalidQuery` for a record whose time is none.
    pub fn write(self, record: &Record) -> Result<String> {
        let written = match self {
            Self::Record => return record.to_json(),
            Self::RoCrate => ro_crate(record, &ended(record)?),
            Self::Prov => prov(record, &ended(record)?),
            Self::OpenLineage => open_lineage(record, &ended(record)?),
        };
        serde_json::to_string_pretty(&written).map_err(|error| Error::new(Kind::Internal, error.to_string()))
    }
}

/// When the query ended.
fn ended(record: &Record) -> Result<String> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(Kind::InvalidQuery, format!("the record was begun at `{}`, which is no time: {why}", record.began))
    };
    let began = DateTime::parse_from_rfc3339(&record.began).map_err(|error| wrong(&error))?;
    let took = TimeDelta::milliseconds((record.seconds * 1000.0) as i64);
    let ended = began.checked_add_signed(took).ok_or_else(|| wrong(&"it is too far away"))?;
    Ok(ended.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The name of something in a form that wants addresses.
pub(crate) fn urn(kind: &str, name: &str) -> String {
    let escaped: String =
        name.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            })
            .collect();
    format!("urn:lacus:{kind}:{escaped}")
}

/// The address by which a dataset is cited, or a name for it.
fn address(dataset: &Dataset) -> String {
    dataset.doi.as_deref().map_or_else(|| urn("dataset", &dataset.name), doi)
}

/// A DOI as an address, however it was written.
pub(crate) fn doi(text: &str) -> String {
    let bare = ["https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "doi:"].iter().find_map(|prefix| text.strip_prefix(prefix));
    format!("https://doi.org/{}", bare.unwrap_or(text).trim())
}

fn ro_crate(record: &Record, ended: &str) -> Value {
    let query = urn("query", &record.id);
    let (result, text, user) = (format!("{query}#result"), format!("{query}#sql"), urn("user", &record.user));
    let file = |file: &FileRead| json!({"@id": urn("file", &file.path), "@type": "File", "name": file.path, "contentSize": file.size.to_string(), "dateModified": file.modified, "version": file.e_tag});
    let dataset = |dataset: &Dataset| {
        json!({"@id": address(dataset), "@type": "Dataset", "name": dataset.name, "description": dataset.description, "license": dataset.license,
               "identifier": dataset.doi, "contactPoint": dataset.contact})
    };
    let used: Vec<Value> = record
        .datasets
        .iter()
        .map(|dataset| json!({"@id": address(dataset)}))
        .chain(record.files.iter().map(|file| json!({"@id": urn("file", &file.path)})))
        .collect();
    let columns = record
        .schema
        .iter()
        .map(|column| json!({"@type": "PropertyValue", "name": column.name, "value": column.data_type, "unitText": column.unit}));
    let parts: Vec<Value> =
        record.files.iter().map(|file| urn("file", &file.path)).chain([result.clone()]).map(|id| json!({"@id": id})).collect();
    let mut graph = vec![
        json!({"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}, "about": {"@id": "./"}}),
        json!({"@id": "./", "@type": "Dataset", "name": format!("The answer to query {}", record.id), "description": citation(record), "datePublished": ended,
               "license": licenses(record), "mentions": [{"@id": query}], "hasPart": parts}),
        json!({"@id": query, "@type": "CreateAction", "name": "A query of Lacus", "startTime": record.began, "endTime": ended, "agent": {"@id": user},
               "instrument": [{"@id": "#lacus"}, {"@id": text}], "object": used, "result": {"@id": result}}),
        json!({"@id": "#lacus", "@type": "SoftwareApplication", "name": "Lacus", "version": record.lacus, "url": PRODUCER}),
        json!({"@id": text, "@type": "SoftwareSourceCode", "programmingLanguage": "SQL", "text": record.sql}),
        json!({"@id": user, "@type": "Person", "name": record.user}),
        json!({"@id": result, "@type": "Dataset", "name": "The rows", "size": format!("{} rows", record.rows), "identifier": format!("lacus-hash:{}", record.hash.all),
               "variableMeasured": columns.collect::<Vec<_>>()}),
    ];
    graph.extend(record.datasets.iter().map(dataset));
    graph.extend(record.files.iter().map(file));
    // Several tables of one dataset have one address.
    let mut named = HashSet::new();
    graph.retain(|entity| named.insert(entity["@id"].clone()));
    for entity in &mut graph {
        let entity = entity.as_object_mut();
        entity.into_iter().for_each(|entity| entity.retain(|_, value| !value.is_null()));
    }
    json!({"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph})
}

/// The licences of what was used.
fn licenses(record: &Record) -> Option<String> {
    let mut licenses: Vec<&str> = record.datasets.iter().filter_map(|dataset| dataset.license.as_deref()).collect();
    licenses.sort_unstable();
    licenses.dedup();
    (!licenses.is_empty()).then(|| licenses.join(", "))
}

fn prov(record: &Record, ended: &str) -> Value {
    let (query, result) = (format!("lacus:query/{}", record.id), format!("lacus:result/{}", record.id));
    let (engine, user) = (format!("lacus:engine/{}", record.lacus), format!("lacus:user/{}", record.user));
    let mut entities = serde_json::Map::new();
    let mut used = serde_json::Map::new();
    let mut derived = serde_json::Map::new();
    let mut take = |id: String, about: Value| {
        let place = used.len();
        used.insert(format!("_:used{place}"), json!({"prov:activity": query, "prov:entity": id}));
        derived.insert(format!("_:derived{place}"), json!({"prov:generatedEntity": result, "prov:usedEntity": id}));
        entities.insert(id, about);
    };
    for dataset in &record.datasets {
        let mut about = json!({"prov:type": "lacus:Dataset", "prov:label": dataset.name});
        for (key, value) in
            [("dcterms:identifier", &dataset.doi), ("dcterms:license", &dataset.license), ("dcterms:description", &dataset.description)]
        {
            if let Some(value) = value {
                about[key] = json!(value);
            }
        }
        take(format!("lacus:dataset/{}", dataset.name), about);
    }
    for file in &record.files {
        let about = json!({"prov:type": "lacus:File", "prov:label": file.path, "lacus:bytes": file.size, "lacus:modified": file.modified, "lacus:version": file.e_tag.as_deref().unwrap_or("")});
        take(format!("lacus:file/{}", file.path), about);
    }
    for (place, site) in record.sites.iter().enumerate() {
        take(
            format!("lacus:site/{}/{place}", site.site),
            json!({"prov:type": "lacus:Site", "prov:label": site.site, "lacus:asked": site.sql}),
        );
    }
    entities.insert(result.clone(), json!({"prov:type": "lacus:Result", "lacus:rows": record.rows, "lacus:hash": record.hash.all}));
    json!({
        "prefix": {"lacus": format!("{PRODUCER}#"), "prov": "http://www.w3.org/ns/prov#", "dcterms": "http://purl.org/dc/terms/"},
        "entity": entities,
        "activity": {query.as_str(): {"prov:startTime": record.began, "prov:endTime": ended, "lacus:sql": record.sql}},
        "agent": {engine.as_str(): {"prov:type": "prov:SoftwareAgent", "prov:label": format!("Lacus {}", record.lacus)},
                  user.as_str(): {"prov:type": "prov:Person", "prov:label": record.user}},
        "used": used,
        "wasGeneratedBy": {"_:generated": {"prov:entity": result, "prov:activity": query, "prov:time": ended}},
        "wasDerivedFrom": derived,
        "wasAssociatedWith": {"_:by": {"prov:activity": query, "prov:agent": engine}, "_:for": {"prov:activity": query, "prov:agent": user}},
    })
}

fn open_lineage(record: &Record, ended: &str) -> Value {
    let facet = |name: &str, url: &str, mut facet: Value| {
        facet["_producer"] = json!(PRODUCER);
        facet["_schemaURL"] = json!(format!("https://openlineage.io/spec/facets/{url}.json#/$defs/{name}"));
        facet
    };
    // Runs are named by UUIDs, which an id has the digits of.
    let id = &record.id;
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    let run = format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    let input = |dataset: &Dataset| {
        let mut facets = json!({});
        if let Some(description) = &dataset.description {
            facets["documentation"] =
                facet("DocumentationDatasetFacet", "1-0-1/DocumentationDatasetFacet", json!({"description": description}));
        }
        // Of several datasets the hash is one of all.
        if let (Some(hash), [_]) = (&record.files_hash, record.datasets.as_slice()) {
            facets["version"] = facet("DatasetVersionDatasetFacet", "1-0-1/DatasetVersionDatasetFacet", json!({"datasetVersion": hash}));
        }
        json!({"namespace": "lacus", "name": dataset.name, "facets": facets})
    };
    let fields: Vec<Value> = record.schema.iter().map(|column| json!({"name": column.name, "type": column.data_type})).collect();
    let output = json!({"namespace": "lacus", "name": format!("result/{id}"),
        "facets": {"schema": facet("SchemaDatasetFacet", "1-1-1/SchemaDatasetFacet", json!({"fields": fields})),
                   "version": facet("DatasetVersionDatasetFacet", "1-0-1/DatasetVersionDatasetFacet", json!({"datasetVersion": record.hash.all}))},
        "outputFacets": {"outputStatistics": facet("OutputStatisticsOutputDatasetFacet", "1-0-2/OutputStatisticsOutputDatasetFacet", json!({"rowCount": record.rows}))}});
    json!({
        "eventType": "COMPLETE",
        "eventTime": ended,
        "producer": PRODUCER,
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run, "facets": {"processing_engine": facet("ProcessingEngineRunFacet", "1-1-1/ProcessingEngineRunFacet", json!({"version": record.lacus, "name": "Lacus"}))}},
        "job": {"namespace": "lacus", "name": format!("query/{id}"),
                "facets": {"sql": facet("SQLJobFacet", "1-0-1/SQLJobFacet", json!({"query": record.sql}))}},
        "inputs": record.datasets.iter().map(input).collect::<Vec<_>>(),
        "outputs": [output],
    })
}

/// What to write beside an answer: the datasets with their DOI, licence and contact, the engine, and by what the answer is known again.
pub fn citation(record: &Record) -> String {
    let mut text = String::new();
    for dataset in &record.datasets {
        let told = dataset.description.as_deref().map(|told| format!(", {}", told.trim_end_matches('.'))).unwrap_or_default();
        // Writing into a text does not fail.
        let _ = write!(text, "{}{told}. ", dataset.name);
        for (before, part) in
            [("", dataset.doi.as_deref().map(doi)), ("Licence: ", dataset.license.clone()), ("Contact: ", dataset.contact.clone())]
        {
            if let Some(part) = part {
                let _ = write!(text, "{before}{part}. ");
            }
        }
    }
    let day = record.began.get(..10).unwrap_or(&record.began);
    let _ =
        write!(text, "Computed with Lacus {} on {day}: query {}, {} rows, hash {}.", record.lacus, record.id, record.rows, record.hash.all);
    text
}

//! What a lake has, in the forms in which catalogs of data read it.

use std::collections::HashSet;

use lacus_core::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use crate::export::{doi, urn};

/// A form in which the datasets of a lake are told to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogForm {
    /// schema.org, as JSON-LD: what search engines of datasets read.
    SchemaOrg,
    /// DCAT 3, as JSON-LD: what data portals read.
    Dcat,
    /// MLCommons Croissant 1.0, of one dataset: what tools of machine learning read.
    Croissant,
}

impl CatalogForm {
    /// The names.
    pub const NAMES: [&str; 3] = ["schema.org", "dcat", "croissant"];

    /// The form of a name.
    ///
    /// # Errors
    /// `InvalidQuery` with the names that there are.
    pub fn of_name(name: &str) -> Result<Self> {
        Ok(match name {
            "schema.org" => Self::SchemaOrg,
            "dcat" => Self::Dcat,
            "croissant" => Self::Croissant,
            other => {
                let error = Error::new(Kind::InvalidQuery, format!("no form of a catalog is called `{other}`"));
                return Err(error.hint(format!("write one of {}", Self::NAMES.join(", "))));
            }
        })
    }
}

/// What a lake tells of its datasets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakeCatalog {
    /// The name of the lake.
    pub lake: String,
    /// Its datasets.
    pub datasets: Vec<CatalogDataset>,
}

/// What a lake tells of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogDataset {
    /// Its name in the lake.
    pub name: String,
    /// What it holds.
    pub description: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// The DOI by which it is cited.
    pub doi: Option<String>,
    /// Whom to ask.
    pub contact: Option<String>,
    /// How far it may be given to others: `open`, `embargoed`, `controlled`.
    pub classification: Option<String>,
    /// The format of its files.
    pub format: Option<String>,
    /// Where it lies, as the lake file has it.
    pub location: Option<String>,
    /// The address of the folder or the file where it lies.
    pub url: Option<String>,
    /// Its tables.
    pub tables: Vec<CatalogTable>,
}

/// A table of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogTable {
    /// Its name, with its schema where that is not the usual one.
    pub name: String,
    /// Its columns.
    pub columns: Vec<CatalogColumn>,
}

/// A column of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow has it.
    pub data_type: String,
    /// Its unit.
    pub unit: Option<String>,
    /// What it means.
    pub description: Option<String>,
}

impl LakeCatalog {
    /// The catalog in a form, as JSON.
    ///
    /// # Errors
    /// `InvalidQuery` for a Croissant of more or fewer than one dataset.
    pub fn write(&self, form: CatalogForm) -> Result<String> {
        let written = match form {
            CatalogForm::SchemaOrg => self.schema_org(),
            CatalogForm::Dcat => self.dcat(),
            CatalogForm::Croissant => match self.datasets.as_slice() {
                [dataset] => self.croissant(dataset),
                several => {
                    let error = Error::new(Kind::InvalidQuery, format!("a Croissant is of one dataset, and there are {}", several.len()));
                    let names: Vec<&str> = several.iter().take(12).map(|dataset| dataset.name.as_str()).collect();
                    return Err(error.hint(format!("name one of {}", names.join(", "))));
                }
            },
        };
        serde_json::to_string_pretty(&without_nulls(written)).map_err(|error| Error::new(Kind::Internal, error.to_string()))
    }

    fn schema_org(&self) -> Value {
        let datasets: Vec<Value> = self.datasets.iter().map(|dataset| self.of_schema_org(dataset)).collect();
        json!({"@context": {"@vocab": "https://schema.org/"}, "@id": urn("lake", &self.lake), "@type": "DataCatalog", "name": self.lake, "dataset": datasets})
    }

    fn of_schema_org(&self, dataset: &CatalogDataset) -> Value {
        let variable = |column: &CatalogColumn| json!({"@type": "PropertyValue", "name": column.name, "unitText": column.unit, "description": column.description});
        // Several tables of a container have the same variables.
        let mut told = HashSet::new();
        let variables: Vec<Value> =
            dataset.tables.iter().flat_map(|table| &table.columns).filter(|column| told.insert(&column.name)).map(variable).collect();
        let download = dataset.address().map(|address| json!([{"@type": "DataDownload", "contentUrl": address, "encodingFormat": dataset.media_type(), "name": dataset.location}]));
        json!({
            "@id": dataset.id(&self.lake), "@type": "Dataset", "name": dataset.name, "description": dataset.description, "license": dataset.license(),
            "identifier": dataset.doi.as_deref().map(doi), "isAccessibleForFree": dataset.is_open(),
            "conditionsOfAccess": dataset.classification, "variableMeasured": variables, "distribution": download,
            "maintainer": dataset.contact.as_ref().map(|contact| json!({"@type": "Organization", "name": contact})),
        })
    }

    fn dcat(&self) -> Value {
        let dataset = |dataset: &CatalogDataset| {
            let distribution = dataset.address().map(|address| {
                json!([{"@id": format!("{}#distribution", dataset.id(&self.lake)), "@type": "dcat:Distribution", "dct:title": dataset.location,
                        "dcat:accessURL": {"@id": address}, "dct:license": dataset.license().map(reference), "dcat:mediaType": dataset.registered_type()}])
            });
            json!({
                "@id": dataset.id(&self.lake), "@type": "dcat:Dataset", "dct:title": dataset.name, "dct:description": dataset.description,
                "dct:identifier": dataset.doi.as_deref().map(doi), "dct:license": dataset.license().map(reference), "dct:accessRights": dataset.classification,
                "dcat:contactPoint": dataset.contact.as_ref().map(|contact| json!({"@type": "vcard:Kind", "vcard:fn": contact})),
                "dcat:distribution": distribution,
            })
        };
        json!({
            "@context": {"dcat": "http://www.w3.org/ns/dcat#", "dct": "http://purl.org/dc/terms/", "vcard": "http://www.w3.org/2006/vcard/ns#"},
            "@id": urn("lake", &self.lake), "@type": "dcat:Catalog", "dct:title": self.lake, "dct:description": format!("The datasets of the lake {}", self.lake),
            "dcat:dataset": self.datasets.iter().map(dataset).collect::<Vec<_>>(),
        })
    }

    fn croissant(&self, dataset: &CatalogDataset) -> Value {
        let address = dataset.address();
        // Croissant reads columns out of tables of text and Parquet alone; of a grid it knows the files.
        let is_table = dataset.is_table();
        let is_many = dataset.location.as_ref().is_some_and(|location| location.contains(['*', '?', '[']) || location.ends_with('/'));
        let (source, distribution) = match (&address, is_many) {
            (None, _) => (Value::Null, json!([])),
            (Some(address), false) => (
                json!({"fileObject": {"@id": "files"}}),
                json!([{"@id": "files", "@type": "cr:FileObject", "name": dataset.location, "contentUrl": address, "encodingFormat": dataset.media_type()}]),
            ),
            (Some(address), true) => (
                json!({"fileSet": {"@id": "files"}}),
                json!([
                    {"@id": "place", "@type": "cr:FileObject", "name": "place", "contentUrl": address, "encodingFormat": "inode/directory"},
                    {"@id": "files", "@type": "cr:FileSet", "name": dataset.location, "containedIn": {"@id": "place"}, "encodingFormat": dataset.media_type(), "includes": dataset.glob()},
                ]),
            ),
        };
        let record_set = |table: &CatalogTable| {
            let field = |column: &CatalogColumn| {
                let mut source = source.clone();
                source["extract"] = json!({"column": column.name});
                let description = [column.description.clone(), column.unit.as_ref().map(|unit| format!("in {unit}"))];
                let description = description.into_iter().flatten().collect::<Vec<_>>().join(", ");
                json!({"@id": format!("{}/{}", identifier(&table.name), identifier(&column.name)), "@type": "cr:Field", "name": column.name, "dataType": kind(&column.data_type),
                       "description": Some(description).filter(|text| !text.is_empty()), "source": source})
            };
            json!({"@id": identifier(&table.name), "@type": "cr:RecordSet", "name": table.name, "field": table.columns.iter().map(field).collect::<Vec<_>>()})
        };
        let records: Vec<Value> = dataset.tables.iter().filter(|_| is_table && address.is_some()).map(record_set).collect();
        let mut written = json!({
            "@context": context(), "@id": dataset.id(&self.lake), "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": dataset.name,
            "description": dataset.description, "license": dataset.license(), "url": dataset.id(&self.lake), "isLiveDataset": true, "distribution": distribution,
            "maintainer": dataset.contact.as_ref().map(|contact| json!({"@type": "sc:Organization", "name": contact})),
            "citeAs": dataset.doi.as_deref().map(doi),
        });
        if !records.is_empty() {
            written["recordSet"] = records.into();
        }
        written
    }
}

impl CatalogDataset {
    /// By what it is known: where it is cited, or a name.
    fn id(&self, lake: &str) -> String {
        self.doi.as_deref().filter(|text| text.contains("10.")).map_or_else(|| urn("dataset", &format!("{lake}.{}", self.name)), doi)
    }

    /// Its licence as the address of that, where it has one.
    fn license(&self) -> Option<String> {
        let license = self.license.as_ref()?;
        // SPDX names one licence without a space; what has some is an expression of several, or words.
        let is_name = license.contains(['-', '.']) && license.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte));
        Some(if is_name { format!("https://spdx.org/licenses/{license}") } else { license.clone() })
    }

    /// The media type as IANA's address of it, where it is registered.
    fn registered_type(&self) -> Option<Value> {
        let registered = match self.media_type() {
            "application/x-parquet" => "application/vnd.apache.parquet",
            known @ ("text/csv" | "text/tab-separated-values" | "application/vnd.apache.arrow.file") => known,
            _ => return None,
        };
        Some(json!({"@id": format!("https://www.iana.org/assignments/media-types/{registered}")}))
    }

    fn is_open(&self) -> Option<bool> {
        self.classification.as_deref().map(|classification| classification == "open")
    }

    /// The address of its files.
    fn address(&self) -> Option<String> {
        self.url.clone()
    }

    /// What its address doesn't say of which files it has.
    fn glob(&self) -> String {
        let location = self.location.as_deref().unwrap_or_default();
        let start =
            location.find(['*', '?', '[']).map_or(location.len(), |glob| location[..glob].rfind(['/', ':']).map_or(0, |slash| slash + 1));
        let glob = &location[start..];
        if glob.is_empty() { "**".to_owned() } else { glob.to_owned() }
    }

    /// The ending of its files, or its format.
    fn ending(&self) -> String {
        let location = self.location.as_deref().unwrap_or_default().to_lowercase();
        let ending = location.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_owned());
        self.format.clone().or(ending).unwrap_or_default()
    }

    fn is_table(&self) -> bool {
        matches!(self.ending().as_str(), "parquet" | "csv" | "tsv" | "json" | "jsonl" | "ndjson")
    }

    /// As IANA registers it, or as programs of the field name it.
    fn media_type(&self) -> &'static str {
        match self.ending().as_str() {
            // As Croissant names it.
            "parquet" => "application/x-parquet",
            "csv" => "text/csv",
            "tsv" => "text/tab-separated-values",
            "json" | "jsonl" | "ndjson" => "application/jsonl",
            "arrow" => "application/vnd.apache.arrow.file",
            "nc" | "netcdf" => "application/netcdf",
            "h5" | "hdf5" => "application/x-hdf5",
            "zarr" => "application/vnd.zarr",
            _ => "application/octet-stream",
        }
    }
}

/// A licence as DCAT has it: an address where it is one.
fn reference(license: String) -> Value {
    if license.starts_with("https://") || license.starts_with("http://") { json!({"@id": license}) } else { license.into() }
}

/// A name as the end of an address.
fn identifier(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() || "._-".contains(letter) { letter } else { '-' }).collect()
}

/// The type of schema.org for an Arrow type.
fn kind(data_type: &str) -> &'static str {
    match data_type {
        text if text.starts_with("Utf8") || text.starts_with("LargeUtf8") => "sc:Text",
        "Boolean" => "sc:Boolean",
        number if number.starts_with("Int") && !number.starts_with("Interval") || number.starts_with("UInt") => "sc:Integer",
        number if number.starts_with("Float") || number.starts_with("Decimal") => "sc:Float",
        date if date.starts_with("Date") => "sc:Date",
        time if time.starts_with("Timestamp") => "sc:DateTime",
        _ => "sc:Text",
    }
}

/// The context that the specification of Croissant prescribes.
fn context() -> Value {
    let own = [
        "citeAs",
        "column",
        "equivalentProperty",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    ];
    let mut context: Map<String, Value> = own.into_iter().map(|name| (name.to_owned(), json!(format!("cr:{name}")))).collect();
    for (name, value) in [
        ("@language", json!("en")),
        ("@vocab", json!("https://schema.org/")),
        ("cr", json!("http://mlcommons.org/croissant/")),
        ("rai", json!("http://mlcommons.org/croissant/RAI/")),
        ("sc", json!("https://schema.org/")),
        ("dct", json!("http://purl.org/dc/terms/")),
        ("conformsTo", json!("dct:conformsTo")),
        ("data", json!({"@id": "cr:data", "@type": "@json"})),
        ("examples", json!({"@id": "cr:examples", "@type": "@json"})),
        ("dataType", json!({"@id": "cr:dataType", "@type": "@vocab"})),
    ] {
        context.insert(name.to_owned(), value);
    }
    Value::Object(context)
}

/// Without what is not known.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

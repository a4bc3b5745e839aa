//! Resources: tables, records of answers, files that were exported.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lacus_core::{Error, Kind, Result};
use lacus_provenance::citation;
use rmcp::model::{CompleteRequestParams, CompletionInfo, ReadResourceResult, Reference, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use crate::answer::fitting;
use crate::tools::{Call, full_name};
use crate::uris::{self, Uri};
use crate::values::clean;

const JSON: &str = "application/json";
/// How long a description may be.
const DESCRIPTION: usize = 500;

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(uris::TABLE, "table")
            .with_description("Columns, units, ranges, licence and DOI of a table")
            .with_mime_type(JSON),
        ResourceTemplate::new(uris::PROVENANCE, "provenance")
            .with_description("The record of an answer: what was asked, of which files in which versions, and a hash of the rows")
            .with_mime_type(JSON),
        ResourceTemplate::new(uris::CITATION, "citation").with_description("How an answer is cited").with_mime_type("text/plain"),
    ]
}

impl Call<'_> {
    /// The lake, and each table that one may know of.
    pub(crate) async fn resources(&self) -> Result<Vec<Resource>> {
        let lake = self.engine.lake();
        let all = Resource::new(uris::catalog(lake), clean(lake, 200).0).with_description("All tables").with_mime_type(JSON);
        let tables = self.tables().await?;
        let table = |table: &lacus_engine::TableEntry| {
            let resource = Resource::new(uris::table(&table.catalog, &table.schema, &table.name), clean(&full_name(table), 400).0);
            let resource = resource.with_mime_type(JSON);
            match &table.description {
                Some(description) => resource.with_description(clean(description, DESCRIPTION).0),
                None => resource,
            }
        };
        Ok(std::iter::once(all).chain(tables.iter().map(table)).collect())
    }

    pub(crate) async fn resource(&self, uri: &str) -> Result<ReadResourceResult> {
        let (asker, limits) = (self.asker, self.limits);
        let no_record =
            || Error::new(Kind::NotFound, "the answer is not whole, and has no record").hint("ask for less, so that all of it is read");
        let text = |text: String, kind: &str| ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type(kind)]);
        match uris::parse(uri) {
            Some(Uri::Catalog) => {
                let tables = self.tables().await?;
                let told = |table: &lacus_engine::TableEntry| {
                    let description = table.description.as_deref().map(|text| clean(text, DESCRIPTION).0);
                    json!({"table": clean(&full_name(table), 400).0, "description": description, "uri": uris::table(&table.catalog, &table.schema, &table.name)})
                };
                let (told, left) = fitting(tables.iter().map(told), limits);
                Ok(text(json!({"tables": told, "tables_left_out": left}).to_string(), JSON))
            }
            Some(Uri::Table([catalog, schema, name])) => {
                let described = self.describe(&format!("{catalog}.{schema}.{name}")).await?;
                Ok(text(Value::Object(described.structured).to_string(), JSON))
            }
            Some(Uri::Provenance(id)) => {
                let kept = self.store.answer(&id, asker, limits)?;
                Ok(text(kept.record.as_ref().ok_or_else(no_record)?.to_json()?, JSON))
            }
            Some(Uri::Citation(id)) => {
                let kept = self.store.answer(&id, asker, limits)?;
                Ok(text(clean(&citation(kept.record.as_ref().ok_or_else(no_record)?), 10_000).0, "text/plain"))
            }
            Some(Uri::Export(id)) => {
                let file = self.store.file(&id, asker, limits)?;
                let contents = ResourceContents::blob(STANDARD.encode(&file.bytes), uri).with_mime_type(file.media_type);
                Ok(ReadResourceResult::new(vec![contents]))
            }
            None => Err(Error::new(Kind::NotFound, format!("no resource `{}`", clean(uri, 200).0)).hint("resources/list has them all")),
        }
    }

    /// What an argument of a template or of a prompt may be.
    pub(crate) async fn completions(&self, request: &CompleteRequestParams) -> Result<CompletionInfo> {
        let (name, begun) = (request.argument.name.as_str(), request.argument.value.to_lowercase());
        let is_table = |reference: &Reference| match reference {
            Reference::Resource(_) => matches!(name, "catalog" | "schema" | "table"),
            Reference::Prompt(_) => name == "dataset",
            _ => false,
        };
        let mut values: Vec<String> = Vec::new();
        if is_table(&request.r#ref) {
            values = self
                .tables()
                .await?
                .iter()
                .map(|table| match name {
                    "catalog" => table.catalog.clone(),
                    "schema" => table.schema.clone(),
                    "table" => table.name.clone(),
                    _ => full_name(table),
                })
                .filter(|value| value.to_lowercase().starts_with(&begun))
                .collect();
            values.sort();
            values.dedup();
        }
        let total = u32::try_from(values.len()).ok();
        let more = values.len() > CompletionInfo::MAX_VALUES;
        values.truncate(CompletionInfo::MAX_VALUES);
        let mut info = CompletionInfo::new(values).map_err(|error| Error::new(Kind::Internal, error))?;
        (info.total, info.has_more) = (total, Some(more));
        Ok(info)
    }
}

use std::collections::BTreeMap;
use std::path::Path;

use lacus::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::DataType;
use lacus::{CatalogColumn, CatalogDataset, CatalogForm, CatalogTable, Error, Kind, LakeCatalog, Result, TryStreamExt, nearest};

use crate::door::Door;
use crate::terminal;

const DATASETS: &str =
    "SELECT name, description, license, doi, contact, classification, format, location, url FROM system.datasets ORDER BY name";
const COLUMNS: &str = "SELECT table_catalog, table_schema, table_name, column_name, data_type, unit, column_comment \
                       FROM information_schema.columns WHERE table_schema NOT IN ('information_schema', 'system') \
                       ORDER BY table_schema, table_name, ordinal_position";
/// The schema of tables that are datasets themselves; those of a container have one of its name.
const MAIN: &str = "main";

/// Tells others what the lake has.
pub(crate) async fn run(lake: Option<&Path>, connect: Option<&str>, dataset: Option<&str>, form: &str) -> Result<()> {
    let form = CatalogForm::of_name(form)?;
    let door = Door::open(lake, connect).await?;
    let mut catalog = LakeCatalog::default();
    for [name, description, license, doi, contact, classification, format, location, url] in rows(&door, DATASETS).await? {
        let name = name.unwrap_or_default();
        let tables = Vec::new();
        catalog.datasets.push(CatalogDataset { name, description, license, doi, contact, classification, format, location, url, tables });
    }
    if let Some(wanted) = dataset {
        let names: Vec<String> = catalog.datasets.iter().map(|dataset| dataset.name.clone()).collect();
        catalog.datasets.retain(|dataset| dataset.name == wanted);
        if catalog.datasets.is_empty() {
            let error = Error::new(Kind::NotFound, format!("no dataset `{wanted}`"));
            return Err(match nearest(wanted, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`lacus datasets` lists them"),
            });
        }
    }
    let mut tables = BTreeMap::<(String, String), Vec<CatalogColumn>>::new();
    for [lake, schema, table, name, data_type, unit, description] in rows(&door, COLUMNS).await? {
        catalog.lake = lake.unwrap_or_default();
        let name = name.unwrap_or_default();
        let columns = tables.entry((schema.unwrap_or_default(), table.unwrap_or_default())).or_default();
        // A table that can't be opened has one column without a type, which says why.
        if let Some(data_type) = data_type.filter(|data_type| !data_type.is_empty()) {
            columns.push(CatalogColumn { name, data_type, unit, description });
        } else {
            terminal::say(&format!("notice: {}", description.as_deref().unwrap_or_default()));
        }
    }
    for ((schema, table), columns) in tables {
        let (owner, name) = if schema == MAIN { (&table, table.clone()) } else { (&schema, format!("{schema}.{table}")) };
        if let Some(dataset) = catalog.datasets.iter_mut().find(|dataset| dataset.name == *owner) {
            dataset.tables.push(CatalogTable { name, columns });
        }
    }
    terminal::print(&catalog.write(form)?)
}

/// The rows of a query as texts.
async fn rows<const WIDTH: usize>(door: &Door, sql: &str) -> Result<Vec<[Option<String>; WIDTH]>> {
    let batches: Vec<RecordBatch> = match door.ask(sql, &[]).await? {
        Some(answer) => answer.batches.try_collect().await?,
        None => Vec::new(),
    };
    let mut rows = Vec::new();
    for batch in batches {
        let texts = batch.columns().iter().map(|column| Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()));
        let texts = texts.collect::<Result<Vec<StringArray>>>()?;
        let cell = |row: usize, place: usize| texts.get(place).filter(|text| text.is_valid(row)).map(|text| text.value(row).to_owned());
        rows.extend((0..batch.num_rows()).map(|row| std::array::from_fn(|place| cell(row, place))));
    }
    Ok(rows)
}

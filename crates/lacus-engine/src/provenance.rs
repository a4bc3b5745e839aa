//! What is noted of a query while it is planned and read, and the record of its answer that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ResolvedTableReference, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use futures::{TryStreamExt, future};
use lacus_core::{Error, Kind, Result, notices_of, unit_of};
use lacus_provenance::{Column, Comparison, Dataset, Digest, FORM, Parameter, Record as Told, SiteQuery, time};
use lacus_storage::masked;

use crate::activity::{Record, Stage};
use crate::catalog::{Catalog, Entry};
use crate::client::Session;
use crate::engine::Engine;

/// What is noted of one query.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    statement: OnceLock<Statement>,
    volatile: Mutex<BTreeSet<String>>,
    datasets: Mutex<BTreeMap<String, Dataset>>,
    schema: OnceLock<SchemaRef>,
    digest: Mutex<Digest>,
}

/// The statement, as it was asked.
#[derive(Debug)]
struct Statement {
    /// As the engine writes it.
    canonical: String,
    parameters: Vec<Parameter>,
    settings: BTreeMap<String, String>,
}

impl Noted {
    /// Notes the statement.
    pub(crate) fn statement(&self, canonical: &str, parameters: &[ScalarValue], session: &Session) {
        self.statement.get_or_init(|| Statement {
            canonical: masked(canonical),
            parameters: parameters.iter().map(parameter).collect(),
            settings: session.settings(),
        });
    }

    /// Notes a table that it names, as the lake describes it.
    pub(crate) fn table(&self, resolved: &ResolvedTableReference, catalog: &Catalog) {
        let mut dataset = Dataset { name: resolved.to_string(), ..Dataset::default() };
        let is_here = resolved.catalog.as_ref() == catalog.lake;
        let is_main = *resolved == catalog.in_main(&resolved.table);
        let spec = match catalog.entry(&resolved.table).filter(|_| is_main) {
            Some(Entry::Dataset { spec, .. }) => Some(spec),
            Some(Entry::Spread(spec)) => {
                dataset.description.clone_from(&spec.description);
                None
            }
            _ => catalog.dataset_schema(&resolved.schema).filter(|_| is_here).map(|(spec, _)| spec),
        };
        if let Some(spec) = spec {
            (dataset.description, dataset.doi) = (spec.description.clone(), spec.doi.clone());
            (dataset.license, dataset.contact) = (spec.license.clone(), spec.contact.clone());
        }
        held(&self.datasets).insert(dataset.name.clone(), dataset);
    }

    /// Notes what the query calls that gives another value each time.
    pub(crate) fn plan(&self, plan: &LogicalPlan) {
        let mut found = held(&self.volatile);
        let looked = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    if let Expr::ScalarFunction(call) = expr
                        && (call.func.signature().volatility == Volatility::Volatile || CLOCKS.contains(&call.func.name()))
                    {
                        found.insert(call.func.name().to_owned());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        // Looking at expressions does not fail.
        drop(looked);
    }

    /// Notes the columns of the answer.
    pub(crate) fn schema(&self, schema: &SchemaRef) {
        self.schema.get_or_init(|| Arc::clone(schema));
    }

    /// Notes a batch of the answer.
    ///
    /// # Errors
    /// For a value in an encoding that Arrow can't read.
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<()> {
        // Batches of several parts are hashed at once.
        let digest = Digest::of(batch)?;
        held(&self.digest).add(&digest);
        Ok(())
    }
}

/// Functions that tell the time: the same for one query, and another for the next.
const CLOCKS: [&str; 3] = ["now", "current_date", "current_time"];

/// What an answer was computed from; see [`Query::provenance`](crate::Query::provenance).
#[derive(Debug, Clone)]
pub struct Provenance(pub(crate) Arc<Record>);

impl Provenance {
    /// The record of the answer, once all of it was read; `None` before, and when the query failed.
    pub fn record(&self) -> Option<Told> {
        told(&self.0)
    }
}

/// The record of the answer of a query, if all of it was read.
pub(crate) fn told(record: &Record) -> Option<Told> {
    if record.stage() != Stage::Finished {
        return None;
    }
    let noted = &record.scope.noted;
    let (statement, schema) = (noted.statement.get()?, noted.schema.get()?);
    let read = record.read();
    // How much was read of a table that is seen in part tells of the rest.
    let is_told = !record.scope.findings.is_restricted();
    let column = |field: &Arc<datafusion::arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        unit: unit_of(field).map(str::to_owned),
    };
    Some(Told {
        lacus_provenance: FORM,
        id: record.id.clone(),
        began: time(record.began),
        seconds: record.elapsed().as_secs_f64(),
        user: record.principal.name().to_owned(),
        door: record.door().to_owned(),
        lacus: env!("CARGO_PKG_VERSION").to_owned(),
        sql: masked(&record.text),
        canonical_sql: statement.canonical.clone(),
        parameters: statement.parameters.clone(),
        volatile: held(&noted.volatile).iter().cloned().collect(),
        settings: statement.settings.clone(),
        datasets: held(&noted.datasets).values().cloned().collect(),
        files: if is_told { read.files } else { Vec::new() },
        files_read: if is_told { read.count } else { 0 },
        files_hash: read.hash.filter(|_| is_told),
        sites: record.scope.remotes.asked().into_iter().map(|(site, sql)| SiteQuery { site, sql: masked(&sql) }).collect(),
        policy: record.scope.findings.version(),
        notices: notices_of(schema).map(str::to_owned).collect(),
        schema: schema.fields().iter().map(column).collect(),
        rows: record.rows.load(Ordering::Relaxed),
        hash: held(&noted.digest).finish(),
    })
}

/// A parameter as a text from which it can be had again.
fn parameter(value: &ScalarValue) -> Parameter {
    let text = (!value.is_null()).then(|| value.to_string());
    Parameter { data_type: value.data_type().to_string(), value: text }
}

/// The values of the parameters of a record, by position.
///
/// # Errors
/// `InvalidQuery` for one that can't be had again.
pub fn parameters_of(record: &Told) -> Result<Vec<ScalarValue>> {
    record.parameters.iter().map(value).collect()
}

/// The value of a parameter of a record.
fn value(parameter: &Parameter) -> Result<ScalarValue> {
    let wrong = |why: String| {
        let text = parameter.value.as_deref().unwrap_or("NULL");
        Error::new(Kind::InvalidQuery, format!("the parameter `{text}` of the record is no {}: {why}", parameter.data_type))
    };
    let data_type = DataType::from_str(&parameter.data_type).map_err(|error| wrong(error.to_string()))?;
    let value = match &parameter.value {
        Some(text) => ScalarValue::try_from_string(text.clone(), &data_type),
        None => ScalarValue::try_from(&data_type),
    };
    value.map_err(|error| wrong(Error::from(error).message().to_owned()))
}

impl Engine {
    /// Asks again what a record tells of, and compares what comes out.
    ///
    /// # Errors
    /// `PermissionDenied` for a statement that writes, and for what the principal may not read; `InvalidQuery` for parameters and settings
    /// that can't be had again. That it fails now in another way is a verdict.
    pub async fn verify(&self, before: &Told, session: &Session) -> Result<Comparison> {
        let parameters = parameters_of(before)?;
        for (name, value) in &before.settings {
            session.set(name, Some(value))?;
        }
        // A record may come from anywhere.
        let now = self.asked_again(&before.sql, &parameters, &session.clone().reading_only()).await;
        match now {
            Err(error) if error.kind() == Kind::PermissionDenied => Err(error),
            now => Ok(Comparison::of(before, now.as_ref())),
        }
    }

    async fn asked_again(&self, sql: &str, parameters: &[ScalarValue], session: &Session) -> Result<Told> {
        let query = self.query(sql, parameters, session).await?;
        let provenance = query.provenance();
        query.stream()?.try_for_each(|_| future::ok(())).await?;
        provenance.record().ok_or_else(|| Error::new(Kind::Internal, "a query that was read has no record"))
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

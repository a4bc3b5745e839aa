//! What is noted of a query while it is planned and read, and the record of its answer that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ResolvedTableReference, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use futures::{TryStreamExt, future};
use lacus_core::{Error, Kind, Result, hex, notices_of, unit_of};
use lacus_provenance::{Column, Comparison, Dataset, Digest, FORM, Parameter, Record as Told, SiteQuery, time};
use lacus_storage::masked;

use crate::activity::{Record, Stage, held};
use crate::catalog::{Catalog, Entry};
use crate::client::Session;
use crate::engine::Engine;
use crate::settings::MAIN;

/// What is noted of one query.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    statement: OnceLock<Statement>,
    volatile: Mutex<BTreeSet<String>>,
    datasets: Mutex<BTreeMap<String, Dataset>>,
    schema: OnceLock<SchemaRef>,
    digest: Mutex<Digest>,
    /// Whether a value could not be hashed.
    has_no_hash: AtomicBool,
}

/// The statement, as it was asked.
#[derive(Debug)]
struct Statement {
    /// As the engine writes it.
    canonical: String,
    parameters: Vec<Parameter>,
    settings: BTreeMap<String, String>,
    search_path: Option<String>,
    /// Why it can't be asked again.
    lacks: Vec<String>,
}

impl Noted {
    /// Notes the statement.
    pub(crate) fn statement(&self, canonical: &str, rows: &[Vec<ScalarValue>], session: &Session) {
        self.statement.get_or_init(|| {
            let (mut parameters, mut lacks, mut room) = (Vec::new(), Vec::new(), LONGEST);
            for (place, value) in rows.first().into_iter().flatten().enumerate() {
                match recorded(value, &mut room) {
                    Ok(parameter) => parameters.push(parameter),
                    Err(why) => {
                        lacks.push(format!("the parameter {} {why}", place + 1));
                        parameters.push(Parameter { data_type: value.data_type().to_string(), value: None });
                    }
                }
            }
            if rows.len() > 1 {
                lacks.push("it was asked with several rows of parameters, and this is the first".to_owned());
            }
            let schema = session.schema();
            Statement {
                canonical: cut(&masked(canonical)),
                parameters,
                settings: session.settings(),
                search_path: (schema != MAIN).then_some(schema),
                lacks,
            }
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

    /// Notes a batch of the answer. One that can't be hashed is an answer all the same, without a record.
    pub(crate) fn batch(&self, batch: &RecordBatch) {
        // Batches of several parts are hashed at once.
        match Digest::of(batch) {
            Ok(digest) => held(&self.digest).add(&digest),
            Err(error) => {
                tracing::warn!(%error, "an answer can't be hashed, and has no record");
                self.has_no_hash.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// How many bytes of a text are kept.
const LONGEST: usize = 64 * 1024;

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
    if record.stage() != Stage::Finished || record.scope.noted.has_no_hash.load(Ordering::Relaxed) {
        return None;
    }
    let noted = &record.scope.noted;
    let (statement, schema) = (noted.statement.get()?, noted.schema.get()?);
    let read = record.read();
    let (sql, mut lacks) = (masked(&record.text), statement.lacks.clone());
    if sql != record.text {
        lacks.push("its text held a secret".to_owned());
    }
    if record.is_cut {
        lacks.push("its text is too long".to_owned());
    }
    // What was read for a table that is seen in part tells of the rest, and what sites were asked for it of the rules.
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
        sql,
        canonical_sql: statement.canonical.clone(),
        parameters: statement.parameters.clone(),
        volatile: held(&noted.volatile).iter().cloned().collect(),
        lacks,
        search_path: statement.search_path.clone(),
        settings: statement.settings.clone(),
        datasets: held(&noted.datasets).values().cloned().collect(),
        files: if is_told { read.files } else { Vec::new() },
        files_read: if is_told { read.count } else { 0 },
        files_hash: read.hash.filter(|_| is_told),
        indices: if is_told { record.scope.reads.indices() } else { Default::default() },
        sites: if is_told { asked(record) } else { Vec::new() },
        policy: record.scope.findings.version(),
        notices: notices_of(schema).map(str::to_owned).collect(),
        schema: schema.fields().iter().map(column).collect(),
        rows: record.rows.load(Ordering::Relaxed),
        hash: held(&noted.digest).finish(),
    })
}

/// What sites and databases were asked.
fn asked(record: &Record) -> Vec<SiteQuery> {
    record.scope.remotes.asked().into_iter().map(|(site, sql)| SiteQuery { site, sql: masked(&sql) }).collect()
}

/// The beginning of a long text.
fn cut(text: &str) -> String {
    let end = text.char_indices().map(|(start, letter)| start + letter.len_utf8()).take_while(|end| *end <= LONGEST).last().unwrap_or(0);
    if end < text.len() { format!("{} ...", &text[..end]) } else { text.to_owned() }
}

/// A parameter as a text from which it can be had again, or why there is none.
fn recorded(given: &ScalarValue, room: &mut usize) -> std::result::Result<Parameter, &'static str> {
    let data_type = given.data_type().to_string();
    if given.is_null() {
        return Ok(Parameter { data_type, value: None });
    }
    let length = given.size() - size_of::<ScalarValue>();
    if length > *room {
        return Err("is too long");
    }
    *room -= length;
    let text = match given {
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => Some(hex(bytes)),
        other => other.cast_to(&DataType::Utf8).ok().and_then(|text| text.try_as_str().flatten().map(str::to_owned)),
    };
    let parameter = Parameter { data_type, value: Some(text.unwrap_or_default()) };
    match value(&parameter) {
        Ok(again) if again == *given && parameter.value.as_deref().is_some_and(|text| masked(text) == text) => Ok(parameter),
        Ok(again) if again == *given => Err("held a secret"),
        _ => Err("has no text from which it could be had again"),
    }
}

/// The values of the parameters of a record, by position.
///
/// # Errors
/// `InvalidQuery` for one that can't be had again, and where the record says that it lacks something.
pub fn parameters_of(record: &Told) -> Result<Vec<ScalarValue>> {
    if !record.lacks.is_empty() {
        let error = Error::new(Kind::InvalidQuery, format!("the record is not all that was asked: {}", record.lacks.join("; ")));
        return Err(error.hint("ask the query itself again, with `lacus sql --provenance`"));
    }
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
        Some(text) if data_type.is_binary() => {
            let bytes = bytes_of(text).ok_or_else(|| wrong("bytes are written in hexadecimal digits".to_owned()))?;
            ScalarValue::Binary(Some(bytes)).cast_to(&data_type)
        }
        Some(text) => ScalarValue::from(text.as_str()).cast_to(&data_type),
        None => ScalarValue::try_from(&data_type),
    };
    value.map_err(|error| wrong(Error::from(error).message().to_owned()))
}

/// The bytes that hexadecimal digits stand for.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.len().is_multiple_of(2) { digits.chunks_exact(2).map(byte).collect() } else { None }
}

impl Engine {
    /// Asks again what a record tells of, and compares what comes out.
    ///
    /// # Errors
    /// `PermissionDenied` for a statement that writes, and for what the principal may not read; `InvalidQuery` for parameters and settings
    /// that can't be had again. That it fails now in another way is a verdict.
    pub async fn verify(&self, before: &Told, session: &Session) -> Result<Comparison> {
        let parameters = parameters_of(before)?;
        // A record may come from anywhere: it may set what its reader may set, for itself alone, and nothing else.
        let own = Session::through(session.door(), session.principal(), true).until(session.expires());
        if let Some(schema) = &before.search_path {
            own.set_schema(schema)?;
        }
        let access = self.asking(&own);
        for (name, value) in &before.settings {
            access.require_setting(name)?;
            own.set(name, Some(value))?;
        }
        let now = self.asked_again(&before.sql, &parameters, &own.reading_only()).await;
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

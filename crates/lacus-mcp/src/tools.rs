//! What the tools do. Whoever calls is known; nothing here decides what one may see: the engine does, as for every other door.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use futures::StreamExt;
use lacus_core::{AgentLimits, Error, Kind, Result, description_of, nearest};
use lacus_engine::{
    Engine, Estimate, Query, QueryProgress, ResultStream, ScanEstimate, Session, TableEntry, TableKind, batch_bytes, column_bytes,
};
use lacus_provenance::citation;
use rmcp::model::{JsonObject, Resource};
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;

use crate::answer::{Answer, column, fitting, notices, page};
use crate::arguments::{self, Describe, Detail, Export, Form, Sample, Search, Sought, Statement, Status, bound, read};
use crate::kept::{Asker, File, Kept, Store};
use crate::limits::{self, size};
use crate::progress::Teller;
use crate::uris;
use crate::values::clean;

/// How many tables are opened to look through their columns.
const OPENED: usize = 200;
/// How many columns a search tells of a table.
const COLUMNS: usize = 50;
/// How many things a search finds at once.
const FOUND: usize = 50;
/// How often whoever waits is told how far a query is.
const TOLD: Duration = Duration::from_secs(1);
/// How many rows of a text file are written at once.
const FEW: usize = 64;
/// How long a description may be.
const DESCRIPTION: usize = 500;

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) limits: &'a AgentLimits,
    pub(crate) store: &'a Store,
    /// Who calls, for statements that only read what the lake names.
    pub(crate) session: &'a Session,
    /// For whom answers are kept.
    pub(crate) asker: &'a Asker,
    pub(crate) teller: &'a Teller,
}

/// What was read of an answer.
struct Read {
    batches: Vec<RecordBatch>,
    rows: usize,
    cut: Option<String>,
}

impl Call<'_> {
    /// Runs a tool; `None` when there is none of this name.
    pub(crate) async fn run(&self, tool: &str, arguments: Option<JsonObject>) -> Option<Result<Answer>> {
        let answered = match tool {
            "search_datasets" => match read(arguments) {
                Ok(search) => self.search(search).await,
                Err(error) => Err(error),
            },
            "describe" => match read::<Describe>(arguments) {
                Ok(describe) => self.describe(&describe.table).await,
                Err(error) => Err(error),
            },
            "estimate" => match read(arguments) {
                Ok(statement) => self.estimate(&statement).await,
                Err(error) => Err(error),
            },
            "query" => match read(arguments) {
                Ok(query) => self.query(query).await,
                Err(error) => Err(error),
            },
            "sample" => match read(arguments) {
                Ok(sample) => self.sample(sample).await,
                Err(error) => Err(error),
            },
            "explain" => match read(arguments) {
                Ok(statement) => self.explain(&statement).await,
                Err(error) => Err(error),
            },
            "export" => match read(arguments) {
                Ok(export) => self.export(export).await,
                Err(error) => Err(error),
            },
            "status" => match read::<Status>(arguments) {
                Ok(status) => self.status(status.cancel.as_deref()).await,
                Err(error) => Err(error),
            },
            _ => return None,
        };
        Some(answered)
    }

    /// The tables that one may know of, without those of the system.
    pub(crate) async fn tables(&self) -> Result<Vec<TableEntry>> {
        let tables = self.engine.tables(self.session).await?.into_iter();
        Ok(tables.filter(|table| table.kind != TableKind::System && table.schema != "system").collect())
    }

    async fn search(&self, search: Search) -> Result<Answer> {
        let from: usize = match search.cursor.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(from)) => from,
            Some(Err(_)) => return Err(unknown_cursor()),
        };
        let words: Vec<String> = search.query.split_whitespace().map(str::to_lowercase).collect();
        let tables = self.tables().await?;
        let most = search.limit.unwrap_or(FOUND).clamp(1, FOUND);
        let (mut words_said, mut unopened) = (String::new(), Vec::new());
        let (told, total) = match search.kind {
            Sought::Table => {
                let text = |table: &TableEntry| format!("{} {}", full_name(table), table.description.as_deref().unwrap_or_default());
                let found = tables.iter().filter_map(|table| Some((score(&text(table), &words)?, table)));
                let found = best(found.collect());
                let mut told = Vec::new();
                for table in found.iter().skip(from).take(most) {
                    told.push(self.told(table, search.detail).await?);
                }
                (told, found.len())
            }
            Sought::Column => {
                let mut found = Vec::new();
                if tables.len() > OPENED {
                    words_said = format!("Only the first {OPENED} of {} tables were looked through. ", tables.len());
                }
                for table in tables.iter().take(OPENED) {
                    // A table that can't be opened says why when it is described.
                    let Ok(schema) = self.engine.table_schema(table, self.session).await else {
                        unopened.push(Value::from(clean(&full_name(table), 400).0));
                        continue;
                    };
                    for field in schema.fields() {
                        let text = format!("{} {}", field.name(), description_of(field).unwrap_or_default());
                        if let Some(score) = score(&text, &words) {
                            let mut told = column(field);
                            told.insert("table".to_owned(), clean(&full_name(table), 400).0.into());
                            if let Some(description) = description_of(field).filter(|_| search.detail != Detail::Names) {
                                told.insert("description".to_owned(), clean(description, DESCRIPTION).0.into());
                            }
                            found.push((score, Value::Object(told)));
                        }
                    }
                }
                let found = best(found);
                let total = found.len();
                (found.into_iter().skip(from).take(most).collect(), total)
            }
        };
        let (shown, _) = fitting(told.into_iter(), self.limits);
        if !unopened.is_empty() {
            words_said.push_str(&format!("{} tables can't be opened. ", unopened.len()));
        }
        let next = (from + shown.len() < total).then(|| (from + shown.len()).to_string());
        words_said.push_str(&match &next {
            Some(next) => format!("{} of {total} found; the cursor {next} gives more.", shown.len()),
            None => format!("{total} found."),
        });
        let mut structured = Map::new();
        structured.insert("found".to_owned(), shown.into());
        structured.insert("total".to_owned(), total.into());
        structured.insert("next_cursor".to_owned(), next.into());
        if !unopened.is_empty() {
            structured.insert("unopened".to_owned(), fitting(unopened.into_iter().take(FOUND), self.limits).0.into());
        }
        Ok(Answer::of(words_said, structured))
    }

    async fn told(&self, table: &TableEntry, detail: Detail) -> Result<Value> {
        let mut told = Map::new();
        told.insert("table".to_owned(), clean(&full_name(table), 400).0.into());
        if detail != Detail::Names
            && let Some(description) = &table.description
        {
            told.insert("description".to_owned(), clean(description, DESCRIPTION).0.into());
        }
        if detail == Detail::Full {
            match self.engine.table_schema(table, self.session).await {
                Ok(schema) => {
                    let columns = schema.fields().iter().take(COLUMNS).map(|field| Value::Object(column(field)));
                    told.insert("columns".to_owned(), columns.collect());
                    let left = schema.fields().len().saturating_sub(COLUMNS);
                    if left > 0 {
                        told.insert("columns_left_out".to_owned(), left.into());
                    }
                }
                Err(error) => {
                    told.insert("error".to_owned(), clean(error.message(), DESCRIPTION).0.into());
                }
            }
        }
        Ok(Value::Object(told))
    }

    /// The table that a name means, and how it is written in SQL.
    async fn table(&self, name: &str) -> Result<(TableEntry, String)> {
        let tables = self.engine.tables(self.session).await?;
        let plain = name.replace('"', "");
        let names = |table: &TableEntry| {
            [
                table.name.clone(),
                format!("{}.{}", table.schema, table.name),
                full_name(table),
                format!("{}.{}.{}", table.catalog, table.schema, table.name),
            ]
        };
        let is_it = |table: &&TableEntry| names(table).iter().any(|known| known.eq_ignore_ascii_case(&plain));
        // The shortest name is that of `main`.
        let Some(table) = tables.iter().filter(is_it).min_by_key(|table| (table.schema != "main", table.schema.clone())) else {
            let known: Vec<String> = tables.iter().map(full_name).collect();
            let error = Error::new(Kind::NotFound, format!("no table `{}`", clean(name, 200).0));
            return Err(match nearest(&plain, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("search_datasets lists the tables"),
            });
        };
        let sql = format!("{}.{}.{}", quoted(&table.catalog), quoted(&table.schema), quoted(&table.name));
        Ok((table.clone(), sql))
    }

    pub(crate) async fn describe(&self, name: &str) -> Result<Answer> {
        let (table, sql) = self.table(name).await?;
        let schema = self.engine.table_schema(&table, self.session).await?;
        let query = self.planned(&format!("SELECT * FROM {sql}"), &[]).await?;
        let estimate = query.estimate();
        drop(query);
        let columns = schema.fields().iter().enumerate().map(|(at, field)| {
            let mut told = column(field);
            if let Some(description) = description_of(field) {
                told.insert("description".to_owned(), clean(description, DESCRIPTION).0.into());
            }
            if let Some(Some((least, greatest))) = estimate.ranges.get(at) {
                told.insert("min".to_owned(), self.shown(least));
                told.insert("max".to_owned(), self.shown(greatest));
            }
            Value::Object(told)
        });
        let (columns, left) = fitting(columns, self.limits);
        let mut structured = Map::new();
        structured.insert("table".to_owned(), clean(&full_name(&table), 400).0.into());
        structured.insert("description".to_owned(), table.description.as_deref().map(|text| clean(text, 2_000).0).into());
        structured.insert("columns".to_owned(), columns.into());
        structured.insert("columns_left_out".to_owned(), left.into());
        let spec = self.engine.dataset(if table.schema == "main" { &table.name } else { &table.schema }, self.session);
        if let Some(spec) = &spec {
            for (key, value) in [("doi", &spec.doi), ("license", &spec.license), ("contact", &spec.contact), ("format", &spec.format)] {
                if let Some(value) = value {
                    structured.insert(key.to_owned(), clean(value, DESCRIPTION).0.into());
                }
            }
            if let Some(partitions) = &spec.partitions {
                structured.insert("partitions".to_owned(), partitions.iter().map(|name| Value::from(clean(name, 200).0)).collect());
            }
        }
        structured.insert("rows".to_owned(), estimate.rows.filter(|_| !estimate.is_restricted).into());
        structured.insert("bytes".to_owned(), estimate.sum(|scan| scan.bytes).into());
        structured.insert("files".to_owned(), estimate.sum(|scan| scan.files).into());
        structured.insert("examples".to_owned(), examples(&sql, &schema).into());
        let mut words = "Rows, bytes and ranges are what the files say of themselves, where they do.".to_owned();
        if left > 0 {
            words.push_str(&format!(" TRUNCATED: {left} columns have no room here; search_datasets finds them by their names."));
        }
        Ok(Answer::of(words, structured))
    }

    fn shown(&self, value: &ScalarValue) -> Value {
        let array: Option<ArrayRef> = value.to_array().ok();
        let cell = array.and_then(|array| crate::values::Column::new(&array, self.limits.cell).and_then(|column| column.cell(0)).ok());
        cell.map_or(Value::Null, |cell| cell.value)
    }

    /// One statement, planned. Nothing of it has run.
    async fn planned(&self, sql: &str, params: &[ScalarValue]) -> Result<Query> {
        self.engine.query(sql, params, self.session).await
    }

    async fn estimate(&self, statement: &Statement) -> Result<Answer> {
        let (sql, params) = bound(&statement.sql, statement.params.as_ref())?;
        let estimate = self.planned(&sql, &params).await?.estimate();
        let exceeded = limits::exceeded(self.limits, &estimate);
        let words = match exceeded.is_empty() {
            true => format!("The query may run: {}.", summary(&estimate)),
            false => format!("The query would be refused: {}.", exceeded.join("; ")),
        };
        let site = |scan: &ScanEstimate| scan.site.as_deref().map(|site| clean(site, 200).0);
        let scans =
            estimate.scans.iter().map(|scan| json!({"site": site(scan), "files": scan.files, "rows": scan.rows, "bytes": scan.bytes}));
        let (scans, left) = fitting(scans, self.limits);
        let mut structured = Map::new();
        structured.insert("rows".to_owned(), estimate.rows.filter(|_| !estimate.is_restricted).into());
        structured.insert("files".to_owned(), estimate.sum(|scan| scan.files).into());
        structured.insert("bytes".to_owned(), estimate.sum(|scan| scan.bytes).into());
        structured.insert("rows_scanned".to_owned(), estimate.sum(|scan| scan.rows).into());
        structured.insert("remote_calls".to_owned(), estimate.remote_calls().into());
        structured.insert("scans".to_owned(), if estimate.is_restricted { Value::Null } else { scans.into() });
        structured.insert("scans_left_out".to_owned(), left.into());
        structured.insert("would_exceed".to_owned(), exceeded.into());
        Ok(Answer::of(words, structured))
    }

    async fn query(&self, query: arguments::Query) -> Result<Answer> {
        let most = query.max_rows.unwrap_or(usize::MAX).clamp(1, self.limits.rows);
        match (query.sql, query.cursor) {
            (None, Some(cursor)) => self.next(&cursor, most),
            (Some(sql), None) => {
                let (sql, params) = bound(&sql, query.params.as_ref())?;
                self.answered(&sql, &params, most).await
            }
            _ => Err(Error::new(Kind::InvalidQuery, "`query` takes either `sql` or `cursor`").hint("a cursor stands for its statement")),
        }
    }

    async fn sample(&self, sample: Sample) -> Result<Answer> {
        let (table, sql) = self.table(&sample.table).await?;
        let most = sample.n.unwrap_or(10).clamp(1, self.limits.rows);
        let schema = self.engine.table_schema(&table, self.session).await?;
        let columns = sample.columns.iter().map(|name| {
            let found = schema.fields().iter().find(|field| field.name() == name || field.name().eq_ignore_ascii_case(name));
            found.map(|field| quoted(field.name())).ok_or_else(|| {
                let error =
                    Error::new(Kind::NotFound, format!("no column `{}` in `{}`", clean(name, 200).0, clean(&full_name(&table), 400).0));
                match nearest(name, schema.fields().iter().map(|field| field.name().as_str())) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint("describe lists them"),
                }
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
        // What is more is not read, whatever a plan says of the whole table: what is read is still watched.
        let query = self.planned(&format!("SELECT {columns} FROM {sql} LIMIT {most}"), &[]).await?;
        let kept = self.read_whole(query, most, true).await?;
        self.page(&kept, 0, most)
    }

    /// The first page of the answer to a statement.
    async fn answered(&self, sql: &str, params: &[ScalarValue], most: usize) -> Result<Answer> {
        let query = self.planned(sql, params).await?;
        limits::check(self.limits, &query.estimate())?;
        let kept = self.read_whole(query, self.limits.kept_rows, false).await?;
        self.page(&kept, 0, most)
    }

    /// An answer, of which up to `most` rows are read and kept.
    async fn read_whole(&self, query: Query, most: usize, is_sample: bool) -> Result<Arc<Kept>> {
        let (id, provenance, progress) = (query.id().to_owned(), query.provenance(), query.progress());
        let mut stream = query.stream()?;
        let read = self.read(&mut stream, &progress, most).await?;
        let schema = stream.schema();
        drop(stream);
        let record = provenance.record().filter(|_| read.cut.is_none());
        let Read { batches, rows, cut } = read;
        let asker = self.asker.clone();
        Ok(self.store.keep(Kept { asker, query_id: id, schema, batches, rows, cut, is_sample, record }, self.limits))
    }

    /// All of a small result.
    async fn all(&self, query: Query) -> Result<(SchemaRef, Read)> {
        let progress = query.progress();
        let mut stream = query.stream()?;
        let read = self.read(&mut stream, &progress, self.limits.kept_rows).await?;
        Ok((stream.schema(), read))
    }

    /// Reads a result until its end, or to a limit.
    async fn read(&self, stream: &mut ResultStream, progress: &QueryProgress, most: usize) -> Result<Read> {
        let mut read = Read { batches: Vec::new(), rows: 0, cut: None };
        let (mut bytes, mut tick) = (0, tokio::time::interval(TOLD));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        loop {
            let scanned = progress.now().bytes;
            if scanned > self.limits.scan_bytes {
                let error = format!("the query has read {}, and {} may be read", size(scanned), size(self.limits.scan_bytes));
                return Err(Error::new(Kind::LimitExceeded, error).hint("narrow it: `estimate` tells what a query reads"));
            }
            let batch = {
                let mut next = pin!(stream.next());
                tokio::select! {
                    batch = &mut next => Some(batch),
                    _ = tick.tick() => None,
                }
            };
            match batch {
                None => self.teller.tell(progress).await,
                Some(None) => return Ok(read),
                Some(Some(batch)) => {
                    let batch = batch?;
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    let room = most - read.rows;
                    // One row more than is kept tells that there are more.
                    if room == 0 {
                        read.cut = Some(format!("only {most} rows are kept of an answer; aggregate in SQL, or use `export`"));
                        return Ok(read);
                    }
                    let part = if batch.num_rows() > room { copied(&batch.slice(0, room))? } else { batch.clone() };
                    bytes += batch_bytes(&part)?;
                    read.rows += part.num_rows();
                    read.batches.push(part);
                    if batch.num_rows() > room {
                        read.cut = Some(format!("only {most} rows are kept of an answer; aggregate in SQL, or use `export`"));
                        return Ok(read);
                    }
                    if bytes > self.limits.kept_bytes as u64 {
                        let kept = size(self.limits.kept_bytes as u64);
                        read.cut = Some(format!("only {kept} are kept of an answer; ask for fewer columns, or aggregate in SQL"));
                        return Ok(read);
                    }
                }
            }
        }
    }

    fn next(&self, cursor: &str, most: usize) -> Result<Answer> {
        let (id, from) = cursor.split_once('.').ok_or_else(unknown_cursor)?;
        let from: usize = from.parse().map_err(|_| unknown_cursor())?;
        let kept = self.store.answer(id, self.asker, self.limits)?;
        self.page(&kept, from, most)
    }

    /// Rows of an answer from `from` on.
    fn page(&self, kept: &Kept, from: usize, most: usize) -> Result<Answer> {
        let page = page(&kept.schema, &kept.batches, from, most, self.limits)?;
        let (count, end) = (page.rows.len(), from.saturating_add(page.rows.len()));
        let more = end < kept.rows;
        let total = (kept.cut.is_none() && !kept.is_sample).then_some(kept.rows);
        let reason = match (more, &kept.cut) {
            (true, _) if page.is_short => Some(format!("a page has at most {} characters", self.limits.text)),
            (true, _) => Some(format!("a page has at most {most} rows")),
            (false, None) if kept.is_sample => Some("these are some rows of a table, which may have more".to_owned()),
            (false, cut) => cut.clone(),
        };
        let next = more.then(|| format!("{}.{end}", kept.query_id));
        let of = match total {
            Some(total) => total.to_string(),
            None if kept.is_sample => "a sample".to_owned(),
            None => format!("more than {}", kept.rows),
        };
        let mut words = match (count, from) {
            (0, _) => format!("No rows{}.", if from > 0 { " are left" } else { "" }),
            _ => format!("Rows {} to {end} of {of}.", from + 1),
        };
        if let Some(reason) = &reason {
            words.push_str(&format!(" TRUNCATED: {reason}."));
        }
        if let Some(next) = &next {
            words.push_str(&format!(" Call query with cursor \"{next}\" for more."));
        }
        if page.changed > 0 {
            words.push_str(&format!(" {} values are shortened, or shown without letters that can't be seen.", page.changed));
        }
        let notices = notices(&kept.schema);
        let mut structured = Map::new();
        structured.insert("columns".to_owned(), page.columns.into());
        structured.insert("rows".to_owned(), page.rows.into());
        structured.insert("row_count".to_owned(), count.into());
        structured.insert("total_rows".to_owned(), total.into());
        structured.insert("truncated".to_owned(), reason.is_some().into());
        structured.insert("reason".to_owned(), reason.into());
        structured.insert("next_cursor".to_owned(), next.into());
        structured.insert("query_id".to_owned(), kept.query_id.clone().into());
        structured.insert("values_changed".to_owned(), page.changed.into());
        let mut data = page.text;
        if !notices.is_empty() {
            data.push_str(&format!("\nNotices: {}", notices.join("; ")));
            structured.insert("notices".to_owned(), notices.into());
        }
        match &kept.record {
            Some(record) => {
                let cited = clean(&citation(record), 2_000).0;
                data.push_str(&format!("\nCite: {cited}"));
                structured.insert("citation".to_owned(), cited.into());
                structured.insert("provenance".to_owned(), uris::provenance(&kept.query_id).into());
            }
            None => words.push_str(" An answer that is not whole has no record to cite."),
        }
        Ok(Answer { words, data, structured, link: None })
    }

    async fn explain(&self, statement: &Statement) -> Result<Answer> {
        let (sql, params) = bound(&statement.sql, statement.params.as_ref())?;
        // Only a query is explained, not an EXPLAIN that would run it.
        lacus_engine::check_query(&sql)?;
        let query = self.planned(&format!("EXPLAIN {sql}"), &params).await?;
        let (schema, read) = self.all(query).await?;
        let all = concat_batches(&schema, &read.batches).map_err(shown_wrongly)?;
        let mut lines = Vec::new();
        if let Some(plans) = all.columns().last() {
            let options = FormatOptions::new();
            let formatter = ArrayFormatter::try_new(plans.as_ref(), &options).map_err(shown_wrongly)?;
            lines.extend((0..all.num_rows()).map(|row| formatter.value(row).to_string()));
        }
        let plan = clean(&lines.join("\n"), usize::MAX).0;
        let (plan, is_cut) = clean(&plan, self.limits.text);
        let mut structured = Map::new();
        structured.insert("plan".to_owned(), plan.clone().into());
        structured.insert("truncated".to_owned(), is_cut.into());
        let words = if is_cut { "The plan, TRUNCATED: it is too long." } else { "The plan." };
        Ok(Answer { words: words.to_owned(), data: plan, structured, link: None })
    }

    async fn export(&self, export: Export) -> Result<Answer> {
        let (sql, params) = bound(&export.sql, export.params.as_ref())?;
        let query = self.planned(&sql, &params).await?;
        limits::check(self.limits, &query.estimate())?;
        let (id, provenance, progress) = (query.id().to_owned(), query.provenance(), query.progress());
        let mut stream = query.stream()?;
        let read = self.read(&mut stream, &progress, usize::MAX).await?;
        let schema = stream.schema();
        drop(stream);
        // A file that is not whole would be taken for one that is.
        if read.cut.is_some() {
            let most = size(self.limits.kept_bytes as u64);
            return Err(Error::new(Kind::LimitExceeded, format!("the result has more than {most}, and an export has at most that"))
                .hint("ask for fewer columns or rows; larger results are read over Flight SQL"));
        }
        let (bytes, media_type) = written(export.format, &schema, &read.batches, self.limits.kept_bytes)?;
        let length = bytes.len();
        let asker = self.asker.clone();
        let uri = uris::export(&self.store.keep_file(File { asker, media_type, bytes }, self.limits));
        let link = Resource::new(uri.clone(), format!("result-{}", &id[..id.len().min(8)]));
        let link = link.with_mime_type(media_type).with_size(length as u64);
        let mut structured = Map::new();
        structured.insert("uri".to_owned(), uri.clone().into());
        structured.insert("rows".to_owned(), read.rows.into());
        structured.insert("bytes".to_owned(), length.into());
        structured.insert("query_id".to_owned(), id.clone().into());
        structured.insert("truncated".to_owned(), false.into());
        let mut data = format!("{uri}, {} rows, {}", read.rows, size(length as u64));
        if let Some(record) = provenance.record() {
            let cited = clean(&citation(&record), 2_000).0;
            data.push_str(&format!("\nCite: {cited}"));
            structured.insert("citation".to_owned(), cited.into());
        }
        let words =
            format!("The whole result is kept as a file for {} minutes; resources/read gives it.", self.limits.kept_for.as_secs() / 60);
        Ok(Answer { words, data, structured, link: Some(link) })
    }

    async fn status(&self, cancel: Option<&str>) -> Result<Answer> {
        let mut words = String::new();
        if let Some(id) = cancel {
            self.engine.cancel(id, self.session.principal())?;
            words = "The query was told to end. ".to_owned();
        }
        let user = ScalarValue::from(self.session.principal().name());
        let text = "SELECT id, sql, state, seconds, rows FROM system.queries WHERE \"user\" = $1 AND state IN ('planning', 'planned', 'queued', 'running') ORDER BY started";
        let query = self.planned(text, &[user]).await?;
        let (schema, read) = self.all(query).await?;
        let page = page(&schema, &read.batches, 0, self.limits.rows, self.limits)?;
        let names: Vec<Value> = page.columns.iter().filter_map(|column| column.get("name").cloned()).collect();
        let running = page.rows.iter().filter_map(Value::as_array).map(|row| {
            let named = names.iter().filter_map(Value::as_str).map(str::to_owned).zip(row.iter().cloned());
            Value::Object(named.collect())
        });
        let running: Vec<Value> = running.collect();
        let is_short = page.is_short || running.len() < read.rows || read.cut.is_some();
        words.push_str(&match is_short {
            true => format!("TRUNCATED: the first {} of more queries that are running, with this one.", running.len()),
            false => format!("{} queries are running, with this one.", running.len()),
        });
        let mut structured = Map::new();
        structured.insert("running".to_owned(), running.into());
        Ok(Answer::of(words, structured))
    }
}

/// A part of a batch that doesn't hold all of it in memory.
fn copied(part: &RecordBatch) -> Result<RecordBatch> {
    let rows = arrow::array::UInt64Array::from_iter_values(0..part.num_rows() as u64);
    let taken = arrow::compute::take_record_batch(part, &rows).map_err(shown_wrongly)?;
    let has_more = |column: &ArrayRef| Ok::<_, Error>(column_bytes(column)? < column.get_array_memory_size() as u64);
    // Views still hold all that others of them saw; a text that many of them see is not written out for each.
    let owned = taken.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View if has_more(column)? => Ok(Arc::new(column.as_string_view().gc()) as ArrayRef),
        DataType::BinaryView if has_more(column)? => Ok(Arc::new(column.as_binary_view().gc()) as ArrayRef),
        _ => Ok(Arc::clone(column)),
    });
    RecordBatch::try_new(taken.schema(), owned.collect::<Result<_>>()?).map_err(shown_wrongly)
}

/// What is best of what was found. Where more words are found stands first; else the order stays.
fn best<T>(mut found: Vec<(usize, T)>) -> Vec<T> {
    found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    found.into_iter().map(|(_, what)| what).collect()
}

fn shown_wrongly(error: arrow::error::ArrowError) -> Error {
    Error::new(Kind::Internal, format!("the answer can't be shown: {error}"))
}

fn unknown_cursor() -> Error {
    Error::new(Kind::InvalidQuery, "no answer has this cursor").hint("take `next_cursor` of an answer as it is")
}

/// How a table is named: without the schema `main`.
pub(crate) fn full_name(table: &TableEntry) -> String {
    if table.schema == "main" { table.name.clone() } else { format!("{}.{}", table.schema, table.name) }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How many of the words stand in a text; `None` unless one does, or there are none.
fn score(text: &str, words: &[String]) -> Option<usize> {
    let text = text.to_lowercase();
    let found = words.iter().filter(|word| text.contains(word.as_str())).count();
    (found > 0 || words.is_empty()).then_some(found)
}

fn summary(estimate: &Estimate) -> String {
    let part = |number: Option<u64>, what: &str| {
        number.map_or_else(|| format!("an unknown number of {what}"), |number| format!("{number} {what}"))
    };
    let bytes = estimate.sum(|scan| scan.bytes).map_or_else(|| "an unknown number of bytes".to_owned(), size);
    let (files, rows) = (part(estimate.sum(|scan| scan.files), "files"), part(estimate.sum(|scan| scan.rows), "rows"));
    format!("it reads at most {files}, {bytes} and {rows}, and asks {} times elsewhere", estimate.remote_calls())
}

/// Queries that somebody who doesn't know the table can begin with.
fn examples(table: &str, schema: &SchemaRef) -> Vec<String> {
    let mut examples = vec![format!("SELECT count(*) FROM {table}")];
    // A name that can't be shown as it is would be another one in SQL.
    let is_plain = |name: &str| !clean(name, 200).1 && !name.contains('\n');
    let number = schema.fields().iter().find(|field| field.data_type().is_floating() && is_plain(field.name()));
    if let Some(number) = number.map(|field| quoted(field.name())) {
        examples.push(format!("SELECT min({number}), avg({number}), stddev({number}), max({number}) FROM {table}"));
    }
    examples
}

/// A file in memory that takes so many bytes and no more.
struct Sheet<'a> {
    bytes: Vec<u8>,
    most: usize,
    is_full: &'a AtomicBool,
}

impl std::io::Write for Sheet<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.is_full.store(true, Ordering::Relaxed);
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A result as a file of at most so many bytes, and its media type.
fn written(form: Form, schema: &SchemaRef, batches: &[RecordBatch], most: usize) -> Result<(Vec<u8>, &'static str)> {
    let is_full = AtomicBool::new(false);
    let wrong = |error: arrow::error::ArrowError| {
        if is_full.load(Ordering::Relaxed) {
            let error = format!("the file has more than {}, and an export has at most that", size(most as u64));
            return Error::new(Kind::LimitExceeded, error).hint("parquet is the smallest form; ask for fewer columns or rows");
        }
        Error::new(Kind::Unsupported, format!("the result can't be written in this form: {error}")).hint("parquet and arrow take all types")
    };
    let mut bytes = Sheet { bytes: Vec::new(), most, is_full: &is_full };
    // Whoever writes a text keeps that of all rows that it is given.
    let mut few =
        batches.iter().flat_map(|batch| (0..batch.num_rows()).step_by(FEW).map(|at| batch.slice(at, FEW.min(batch.num_rows() - at))));
    let media_type = match form {
        Form::Csv => {
            let mut writer = arrow::csv::Writer::new(&mut bytes);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(schema.clone())).map_err(wrong)?;
            }
            few.try_for_each(|batch| writer.write(&batch)).map_err(wrong)?;
            drop(writer);
            "text/csv"
        }
        Form::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
            few.try_for_each(|batch| writer.write(&batch)).and_then(|()| writer.finish()).map_err(wrong)?;
            drop(writer);
            "application/x-ndjson"
        }
        Form::Arrow => {
            let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut bytes, schema).map_err(wrong)?;
            batches.iter().try_for_each(|batch| writer.write(batch)).and_then(|()| writer.finish()).map_err(wrong)?;
            drop(writer);
            "application/vnd.apache.arrow.file"
        }
        Form::Parquet => {
            let failed = |error: parquet::errors::ParquetError| wrong(arrow::error::ArrowError::ParquetError(error.to_string()));
            let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema.clone(), None).map_err(failed)?;
            batches.iter().try_for_each(|batch| writer.write(batch)).map_err(failed)?;
            writer.close().map_err(failed)?;
            "application/vnd.apache.parquet"
        }
    };
    Ok((bytes.bytes, media_type))
}

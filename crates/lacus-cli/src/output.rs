//! Results in their forms, on standard output or in a file that appears when it is complete.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, TryStreamExt};
use lacus::arrow::array::{RecordBatch, RecordBatchOptions};
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lacus::arrow::ipc::writer::{FileWriter, StreamWriter};
use lacus::arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus::arrow::util::pretty::pretty_format_batches_with_options;
use lacus::arrow::{csv, json};
use lacus::{Error, Kind, Result};
use parquet::arrow::ArrowWriter;

use crate::arguments::Format;

type Sink = Box<dyn Write + Send>;

/// Where batches go.
pub(crate) struct Output {
    writer: Writer,
    /// The file that is being written, and the name that it will have.
    file: Option<(PathBuf, PathBuf)>,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// The rows that were written.
    pub(crate) rows: u64,
    /// Whether there are more.
    pub(crate) cut: bool,
}

/// A text that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    /// What was written.
    pub(crate) fn take(&self) -> String {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&std::mem::take(&mut *bytes)).into_owned()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Writer {
    Table { schema: SchemaRef, rows: usize, held: Vec<RecordBatch>, count: usize, sink: Sink },
    Csv(csv::Writer<Sink>),
    Json(json::ArrayWriter<Sink>),
    Ndjson(json::LineDelimitedWriter<Sink>),
    ArrowFile(FileWriter<Sink>),
    ArrowStream(StreamWriter<Sink>),
    Parquet(ArrowWriter<Sink>),
}

impl Output {
    /// Opens an output in `format`, or in the one that the ending of `path` tells; a table shows at most `rows` rows.
    pub(crate) fn open(format: Option<Format>, path: Option<&Path>, schema: &SchemaRef, rows: usize) -> Result<Self> {
        let format = match (format, path) {
            (Some(format), _) => format,
            (None, Some(path)) => by_ending(path)?,
            (None, None) => Format::Table,
        };
        let (sink, file): (Sink, _) = match path {
            Some(path) => {
                let partial = path.with_file_name(format!(".{}.partial", path.file_name().unwrap_or_default().to_string_lossy()));
                let created = File::create(&partial).map_err(|error| unwritable(&error).with("file", path.display()))?;
                (Box::new(BufWriter::new(created)), Some((partial, path.to_owned())))
            }
            None => {
                let binary = matches!(format, Format::Arrow | Format::Parquet);
                if binary && std::io::stdout().is_terminal() {
                    return Err(Error::new(Kind::InvalidConfiguration, "a terminal can't show this format").hint("write it with -o FILE"));
                }
                (Box::new(BufWriter::new(std::io::stdout())), None)
            }
        };
        Self::begin(format, sink, file, schema, rows)
    }

    /// A table of at most `rows` rows as a text, for whoever shows it.
    pub(crate) fn text(schema: &SchemaRef, rows: usize) -> Result<(Self, Text)> {
        let text = Text::default();
        Ok((Self::begin(Format::Table, Box::new(text.clone()), None, schema, rows)?, text))
    }

    fn begin(format: Format, sink: Sink, file: Option<(PathBuf, PathBuf)>, schema: &SchemaRef, rows: usize) -> Result<Self> {
        let writer = match format {
            Format::Table => Writer::Table { schema: schema.clone(), rows, held: Vec::new(), count: 0, sink },
            Format::Csv => Writer::Csv(csv::WriterBuilder::new().with_header(true).build(sink)),
            Format::Json => Writer::Json(json::WriterBuilder::new().with_explicit_nulls(true).build(sink)),
            Format::Ndjson => Writer::Ndjson(json::WriterBuilder::new().with_explicit_nulls(true).build(sink)),
            Format::Arrow if file.is_some() => Writer::ArrowFile(FileWriter::try_new(sink, &unpacked(schema))?),
            Format::Arrow => Writer::ArrowStream(StreamWriter::try_new(sink, schema)?),
            Format::Parquet => Writer::Parquet(ArrowWriter::try_new(sink, schema.clone(), None)?),
        };
        let mut output = Self { writer, file };
        // A result without rows still has a header.
        match output.write(&RecordBatch::new_empty(schema.clone())) {
            Ok(()) => Ok(output),
            Err(error) => {
                output.abandon();
                Err(error)
            }
        }
    }

    /// Whether the output takes no more rows: a table that is full.
    fn is_full(&self) -> bool {
        matches!(&self.writer, Writer::Table { rows, count, .. } if *rows > 0 && count > rows)
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.writer {
            Writer::Csv(_) if batch.schema().fields().iter().any(|field| field.data_type().is_nested()) => {
                return Err(Error::new(Kind::Unsupported, "CSV holds no nested values")
                    .hint("write json or parquet, or take the columns apart in SQL"));
            }
            Writer::Table { rows, held, count, .. } => {
                let room = if *rows == 0 { batch.num_rows() } else { rows.saturating_sub(*count).min(batch.num_rows()) };
                held.push(batch.slice(0, room));
                *count += batch.num_rows();
            }
            Writer::Csv(writer) => writer.write(batch)?,
            Writer::Json(writer) => writer.write(batch)?,
            Writer::Ndjson(writer) => writer.write(batch)?,
            Writer::ArrowFile(writer) => writer.write(&unpack(batch)?)?,
            Writer::ArrowStream(writer) => writer.write(batch)?,
            Writer::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Writes all batches, or leaves nothing behind; `arrived` is told how many rows there were so far.
    pub(crate) async fn write_all(
        mut self,
        mut batches: impl Stream<Item = Result<RecordBatch>> + Unpin,
        arrived: impl Fn(u64),
    ) -> Result<Written> {
        let mut rows = 0;
        while !self.is_full() {
            let written = match batches.try_next().await {
                Ok(Some(batch)) => {
                    rows += batch.num_rows() as u64;
                    arrived(rows);
                    self.write(&batch)
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                self.abandon();
                return Err(error);
            }
        }
        let cut = self.is_full();
        let rows = match &self.writer {
            Writer::Table { rows: most, .. } if cut => *most as u64,
            _ => rows,
        };
        self.finish()?;
        Ok(Written { rows, cut })
    }

    /// Completes the output; a file gets its name now.
    pub(crate) fn finish(mut self) -> Result<()> {
        match &mut self.writer {
            Writer::Table { schema, held, sink, .. } => {
                writeln!(sink, "{}", shown(schema, held)?).map_err(|error| unwritable(&error))?;
                sink.flush().map_err(|error| unwritable(&error))?;
            }
            Writer::Json(writer) => writer.finish()?,
            Writer::Ndjson(writer) => writer.finish()?,
            Writer::ArrowFile(writer) => writer.finish()?,
            Writer::ArrowStream(writer) => writer.finish()?,
            // These two have nothing to complete, or complete when their sink is taken back.
            Writer::Csv(_) | Writer::Parquet(_) => {}
        }
        let flushed: std::io::Result<()> = match self.writer {
            Writer::Csv(writer) => writer.into_inner().flush(),
            Writer::Json(writer) => finish_line(writer.into_inner()),
            Writer::Ndjson(writer) => writer.into_inner().flush(),
            Writer::ArrowFile(writer) => writer.into_inner()?.flush(),
            Writer::ArrowStream(writer) => writer.into_inner()?.flush(),
            Writer::Parquet(writer) => writer.into_inner()?.flush(),
            Writer::Table { .. } => Ok(()),
        };
        flushed.map_err(|error| unwritable(&error))?;
        match self.file.take() {
            Some((partial, path)) => std::fs::rename(partial, &path).map_err(|error| unwritable(&error).with("file", path.display())),
            None => Ok(()),
        }
    }

    /// Leaves nothing behind.
    fn abandon(self) {
        if let Some((partial, _)) = self.file {
            // The error that brought us here is the one to report.
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// Batches for reading: aligned columns; a plan line by line, since its lines are longer than any screen.
fn shown(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if names != ["plan_type", "plan"] {
        return Ok(pretty_format_batches_with_options(batches, &options)?.to_string());
    }
    let mut parts = Vec::new();
    for batch in batches {
        let title = ArrayFormatter::try_new(batch.column(0), &options)?;
        let plan = ArrayFormatter::try_new(batch.column(1), &options)?;
        let part = |row| format!("-- {}\n{}", title.value(row), plan.value(row).to_string().trim_end());
        parts.extend((0..batch.num_rows()).map(part));
    }
    Ok(parts.join("\n"))
}

/// The schema of a file: it holds one dictionary a column where a result may have one a batch, so dictionaries are written as values.
fn unpacked(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, values) => Arc::new(Field::clone(field).with_data_type(values.as_ref().clone())),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}

fn unpack(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = unpacked(batch.schema_ref());
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect::<std::result::Result<_, _>>()?, &options)?)
}

fn finish_line(mut sink: Sink) -> std::io::Result<()> {
    sink.write_all(b"\n")?;
    sink.flush()
}

fn by_ending(path: &Path) -> Result<Format> {
    match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => Ok(Format::Csv),
        Some("json") => Ok(Format::Json),
        Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
        Some("arrow" | "feather") => Ok(Format::Arrow),
        Some("parquet") => Ok(Format::Parquet),
        Some("txt") => Ok(Format::Table),
        _ => Err(Error::new(Kind::InvalidConfiguration, format!("the ending of `{}` tells no format", path.display()))
            .hint("say --format csv, json, ndjson, arrow or parquet")),
    }
}

/// The error for a result that can't be written.
pub(crate) fn unwritable(error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::StorageFull => Kind::LimitExceeded,
        _ => Kind::Unavailable,
    };
    Error::new(kind, format!("the result can't be written: {error}"))
}

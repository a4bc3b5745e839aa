//! `COPY ... TO` for results that stay tables: one file each.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion_catalog::Session;
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use lacus_core::{Error, Kind, OptionValue, Result, Rows, Sink, WriteSpec, nearest};
use lacus_storage::{Stores, Writing, lake_url};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// A file is sent in parts of this, which is more than the least that S3 takes.
const PART: usize = 8 << 20;
/// The formats by their names, which are also the endings of files.
const FORMATS: [&str; 4] = ["parquet", "csv", "json", "arrow"];

/// Writes results as files of tables.
#[derive(Debug)]
pub struct FilesSink {
    stores: Arc<Stores>,
}

impl FilesSink {
    /// A sink over `stores`.
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores }
    }
}

/// What options say.
struct Options {
    compression: Compression,
    header: bool,
}

fn options(target: &WriteSpec) -> Result<Options> {
    let mut options = Options { compression: Compression::ZSTD(ZstdLevel::default()), header: true };
    let known: &[&str] = match target.format {
        "parquet" => &["compression"],
        "csv" => &["header"],
        _ => &[],
    };
    for (name, value) in &target.options {
        match (name.as_str(), value) {
            ("compression", value) if known.contains(&"compression") => {
                options.compression = match value.text("compression")?.to_lowercase().as_str() {
                    "zstd" => Compression::ZSTD(ZstdLevel::default()),
                    "snappy" => Compression::SNAPPY,
                    "none" | "uncompressed" => Compression::UNCOMPRESSED,
                    other => {
                        return Err(Error::new(Kind::InvalidQuery, format!("the option `compression` is `{other}`"))
                            .hint("write `zstd`, `snappy` or `none`"));
                    }
                }
            }
            ("header", value @ (OptionValue::Boolean(_) | OptionValue::Text(_))) if known.contains(&"header") => {
                options.header = value.boolean("header")?;
            }
            (name, _) => {
                let error = Error::new(Kind::InvalidQuery, format!("no option `{name}` of COPY to {}", target.format));
                return Err(match nearest(name, known.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(match known {
                        [] => "there is none".to_owned(),
                        known => format!("there is {}", known.join(", ")),
                    }),
                });
            }
        }
    }
    Ok(options)
}

/// The bytes that were encoded and not yet sent.
#[derive(Debug, Clone, Default)]
struct Encoded(Arc<Mutex<Vec<u8>>>);

impl Encoded {
    /// A poisoned lock only means that another thread panicked; the bytes are valid at every instant.
    fn held(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One whole part, if there is one.
    fn part(&self) -> Option<Bytes> {
        let mut bytes = self.held();
        if bytes.len() < PART {
            return None;
        }
        let rest = bytes.split_off(PART);
        Some(Bytes::from(std::mem::replace(&mut *bytes, rest)))
    }

    /// Sends the whole parts; whether there were any.
    async fn send(&self, writing: &mut Writing) -> Result<bool> {
        let mut sent = false;
        while let Some(part) = self.part() {
            writing.part(part).await?;
            sent = true;
        }
        Ok(sent)
    }

    fn rest(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.held()))
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One file that is being encoded.
enum Encoder {
    Parquet(Box<ArrowWriter<Encoded>>),
    Csv(Box<csv::Writer<Encoded>>),
    Json(LineDelimitedWriter<Encoded>),
    Arrow(Box<FileWriter<Encoded>>),
}

impl Encoder {
    fn new(format: &str, options: &Options, schema: &SchemaRef, into: Encoded) -> Result<Self> {
        Ok(match format {
            "csv" => {
                let mut writer = csv::WriterBuilder::new().with_header(options.header).build(into);
                // A result without rows has a header, too.
                writer.write(&RecordBatch::new_empty(Arc::clone(schema)))?;
                Self::Csv(Box::new(writer))
            }
            "json" => Self::Json(LineDelimitedWriter::new(into)),
            "arrow" => Self::Arrow(Box::new(FileWriter::try_new(into, schema)?)),
            _ => {
                let properties = WriterProperties::builder().set_compression(options.compression).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(into, Arc::clone(schema), Some(properties))?))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch)?,
            Self::Csv(writer) => writer.write(batch)?,
            Self::Json(writer) => writer.write(batch)?,
            Self::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.close().map(|_| ())?,
            Self::Csv(_) => {}
            Self::Json(mut writer) => writer.finish()?,
            Self::Arrow(mut writer) => writer.finish()?,
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn formats(&self) -> &[&'static str] {
        &FORMATS
    }

    fn format_of(&self, path: &str) -> Option<&'static str> {
        let path = path.to_lowercase();
        FORMATS.into_iter().find(|format| path.ends_with(&format!(".{format}")))
    }

    fn check(&self, target: &WriteSpec, schema: &SchemaRef) -> Result<()> {
        // What a format can't hold is told before anything is computed.
        Encoder::new(target.format, &options(target)?, schema, Encoded::default())?;
        self.stores.target(&target.location).map(|_| ())
    }

    async fn write(&self, target: &WriteSpec, schema: SchemaRef, mut rows: Rows<'_>, session: &dyn Session) -> Result<u64> {
        let store = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        let encoded = Encoded::default();
        let mut encoder = Encoder::new(target.format, &options(target)?, &schema, encoded.clone())?;
        // Taken before the query runs, so that what is there already is told at once.
        let mut writing = self.stores.write(&target.location, store).await?;
        let (mut count, mut sent) = (0, false);
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows() as u64;
            encoder.write(&batch)?;
            sent |= encoded.send(&mut writing).await?;
        }
        drop(rows);
        encoder.finish()?;
        sent |= encoded.send(&mut writing).await?;
        let rest = encoded.rest();
        if sent {
            writing.part(rest).await?;
        } else {
            let path = writing.target().clone();
            writing.put(path, move || Ok(rest)).await?;
        }
        writing.keep().await?;
        Ok(count)
    }
}

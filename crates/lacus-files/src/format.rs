//! Which reader opens a dataset, and with which options.

use std::sync::Arc;

use datafusion_datasource::file_format::FileFormat;
use datafusion_datasource_arrow::ArrowFormat;
use datafusion_datasource_avro::AvroFormat;
use datafusion_datasource_csv::CsvFormat;
use datafusion_datasource_json::JsonFormat;
use datafusion_datasource_parquet::ParquetFormat;
use lacus_core::{DatasetSpec, Error, Kind, OptionValue, Result, nearest};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::compressed::Compression;
use crate::orc::OrcFormat;

/// The option that keeps a dataset out of the memory for decoded columns.
const KEEP: &str = "keep";

/// A format of single files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Csv,
    Tsv,
    Json,
    Arrow,
    Avro,
    Orc,
}

impl Format {
    pub(crate) const NAMES: [&'static str; 7] = ["parquet", "csv", "tsv", "json", "arrow", "avro", "orc"];
    const ALL: [Self; 7] = [Self::Parquet, Self::Csv, Self::Tsv, Self::Json, Self::Arrow, Self::Avro, Self::Orc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::Arrow => "arrow",
            Self::Avro => "avro",
            Self::Orc => "orc",
        }
    }

    /// Whether values are text, which is parsed as whatever type is wanted.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }

    /// Whether numbers are written as people write them, without a type of their own.
    pub(crate) fn is_written(self) -> bool {
        self.is_text() || self == Self::Json
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format that the ending of `path` tells.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (compression, path) = Compression::of(path);
        let ending = path.rsplit(['/', ':']).next()?.rsplit_once('.')?.1;
        let format = match ending.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "arrow" | "arrows" | "feather" | "ipc" => Some(Self::Arrow),
            "avro" => Some(Self::Avro),
            "orc" => Some(Self::Orc),
            _ => None,
        };
        format.filter(|format| compression == Compression::None || format.is_written())
    }

    /// The options that this format knows, each with its meaning.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &[KEEP],
            Self::Arrow | Self::Avro | Self::Orc => &[],
            Self::Json => &["compression"],
            Self::Csv => &["compression", "header", "delimiter", "quote", "escape", "comment", "newlines_in_values", "infer_rows"],
            Self::Tsv => &["compression", "header", "quote", "escape", "comment", "newlines_in_values", "infer_rows"],
        }
    }

    /// The reader, with the options of the dataset.
    pub(crate) fn reader(self, spec: &DatasetSpec) -> Result<Arc<dyn FileFormat>> {
        for option in spec.options.keys() {
            self.know(option)?;
        }
        match self {
            // Field metadata holds units and descriptions; metadata of whole files is dropped when schemas are united.
            Self::Parquet => Ok(Arc::new(ParquetFormat::default().with_skip_metadata(false))),
            Self::Arrow => Ok(Arc::new(ArrowFormat)),
            Self::Avro => Ok(Arc::new(AvroFormat)),
            Self::Orc => Ok(Arc::new(OrcFormat)),
            Self::Csv => separated(spec, b','),
            Self::Tsv => separated(spec, b'\t'),
            // A key that first appears after the rows looked at would be left out silently, so all rows are looked at.
            Self::Json => Ok(Arc::new(JsonFormat::default().with_schema_infer_max_rec(usize::MAX))),
        }
    }

    /// How the files of the dataset are compressed as a whole, if it says so.
    pub(crate) fn compression(self, spec: &DatasetSpec) -> Result<Option<Compression>> {
        option(spec, "compression", OptionValue::text)?.map(Compression::named).transpose()
    }

    /// Whether decoded columns of the dataset may be kept in memory.
    pub(crate) fn keeps(self, spec: &DatasetSpec) -> Result<bool> {
        Ok(self == Self::Parquet && option(spec, KEEP, OptionValue::boolean)?.unwrap_or(true))
    }

    fn know(self, option: &str) -> Result<()> {
        let known = self.options();
        if known.contains(&option) {
            return Ok(());
        }
        let unknown = Error::new(Kind::InvalidConfiguration, format!("{} has no option `{option}`", self.name()));
        Err(match nearest(option, known.iter().copied()) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => unknown.hint("it has no options"),
            None => unknown.hint(format!("its options are {}", known.join(", "))),
        })
    }
}

fn option<'a, T>(spec: &'a DatasetSpec, name: &str, read: impl Fn(&'a OptionValue, &str) -> Result<T>) -> Result<Option<T>> {
    spec.options.get(name).map(|value| read(value, name)).transpose()
}

fn separated(spec: &DatasetSpec, delimiter: u8) -> Result<Arc<dyn FileFormat>> {
    let mut format = CsvFormat::default()
        .with_has_header(option(spec, "header", OptionValue::boolean)?.unwrap_or(true))
        .with_delimiter(option(spec, "delimiter", OptionValue::character)?.unwrap_or(delimiter))
        .with_escape(option(spec, "escape", OptionValue::character)?)
        .with_comment(option(spec, "comment", OptionValue::character)?)
        .with_newlines_in_values(option(spec, "newlines_in_values", OptionValue::boolean)?.unwrap_or(false));
    if let Some(quote) = option(spec, "quote", OptionValue::character)? {
        format = format.with_quote(quote);
    }
    if let Some(rows) = option(spec, "infer_rows", OptionValue::count)? {
        format = format.with_schema_infer_max_rec(rows);
    }
    Ok(Arc::new(format))
}

/// The format of a dataset: declared, or told by the endings of its files, which must agree.
pub(crate) fn choose(spec: &DatasetSpec, objects: &[ObjectMeta], shown: &dyn Fn(&Path) -> String) -> Result<Format> {
    if let Some(name) = &spec.format {
        return declared(name);
    }
    let mut found: Option<(Format, &ObjectMeta)> = None;
    for object in objects {
        let Some(format) = Format::of(object.location.as_ref()) else { return Err(unknown_ending(&shown(&object.location))) };
        match found {
            None => found = Some((format, object)),
            Some((first, _)) if first == format => {}
            Some((first, example)) => {
                return Err(Error::new(Kind::InvalidConfiguration, "files of several formats lie there")
                    .with(first.name(), shown(&example.location))
                    .with(format.name(), shown(&object.location))
                    .hint(format!("narrow the path, such as `**/*.{}`", first.name())));
            }
        }
    }
    found.map(|(format, _)| format).ok_or_else(|| Error::new(Kind::NotFound, "no files"))
}

fn declared(name: &str) -> Result<Format> {
    let lower = name.to_ascii_lowercase();
    let lower = if lower == "ndjson" || lower == "jsonl" { "json" } else { &lower };
    Format::named(lower).ok_or_else(|| {
        let unknown = Error::new(Kind::InvalidConfiguration, format!("no format `{name}`"));
        match nearest(name, Format::NAMES) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None => unknown.hint(format!("the formats are {}", Format::NAMES.join(", "))),
        }
    })
}

fn unknown_ending(path: &str) -> Error {
    if Compression::of(path).0 != Compression::None {
        return Error::new(Kind::Unsupported, "only CSV, TSV and JSON lines can be read from compressed files")
            .with("file", path)
            .hint("unpack the file; or name the format: read_csv('...') in SQL, `format = \"csv\"` in the lake file");
    }
    Error::new(Kind::InvalidConfiguration, "the file's ending tells no format")
        .with("file", path)
        .hint("narrow the path, or name the format: read_csv('...') in SQL, `format = \"csv\"` in the lake file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacus_core::Location;

    #[test]
    fn endings_tell_formats() {
        assert_eq!(Format::of("a:b/x.PARQUET"), Some(Format::Parquet));
        assert_eq!(Format::of("s3/b/x.ndjson"), Some(Format::Json));
        assert_eq!(Format::of("s3/b.csv/x"), None);
        assert_eq!(Format::of("x.csv.gz"), Some(Format::Csv));
        assert_eq!(Format::of("x.parquet.gz"), None);
        for name in Format::NAMES {
            assert_eq!(Format::named(name).map(Format::name), Some(name));
        }
    }

    #[test]
    fn an_unknown_option_names_the_nearest() -> Result<()> {
        let mut spec = DatasetSpec::new("t", Location::parse("x.csv")?);
        spec.options.insert("delimeter".into(), OptionValue::Text(";".into()));
        let error = Format::Csv.reader(&spec).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("csv has no option `delimeter`; did you mean `delimiter`?"));
        Ok(())
    }
}

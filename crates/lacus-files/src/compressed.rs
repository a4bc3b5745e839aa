//! Text files that are compressed as a whole, read as if they were not.
//!
//! The readers see a store that decompresses. All members of a file are read: `bgzip`, `pigz`, `pbzip2` and `zstd --rsyncable` write
//! many, and whoever stops at the first would lose rows silently.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, nearest};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::io::{AsyncBufRead, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};

/// How many bytes are handed over at once.
const STEP: usize = 256 * 1024;

/// How a whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    const NAMES: [(&'static str, Self); 5] =
        [("none", Self::None), ("gzip", Self::Gzip), ("zstd", Self::Zstd), ("bzip2", Self::Bzip2), ("xz", Self::Xz)];

    /// By name, as the option `compression` gives it.
    pub(crate) fn named(name: &str) -> lacus_core::Result<Self> {
        if let Some((_, found)) = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Ok(*found);
        }
        let names = Self::NAMES.map(|(name, _)| name);
        let error = Error::new(Kind::InvalidConfiguration, format!("no compression `{name}`"));
        Err(match nearest(name, names) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("it is one of {}", names.join(", "))),
        })
    }

    /// By the ending of a path, and what stands before that ending.
    pub(crate) fn of(path: &str) -> (Self, &str) {
        let endings = [
            (".gz", Self::Gzip),
            (".bgz", Self::Gzip),
            (".zst", Self::Zstd),
            (".zstd", Self::Zstd),
            (".bz2", Self::Bzip2),
            (".xz", Self::Xz),
        ];
        let lower = path.to_ascii_lowercase();
        let found = endings.iter().find(|(ending, _)| lower.ends_with(ending));
        found.map_or((Self::None, path), |(ending, compression)| (*compression, &path[..path.len() - ending.len()]))
    }

    fn decoder<R: AsyncBufRead + Send + Unpin + 'static>(self, packed: R) -> Box<dyn AsyncRead + Send + Unpin> {
        macro_rules! all_members {
            ($decoder:ident) => {{
                let mut decoder = $decoder::new(packed);
                decoder.multiple_members(true);
                Box::new(decoder)
            }};
        }
        match self {
            Self::None => Box::new(packed),
            Self::Gzip => all_members!(GzipDecoder),
            Self::Zstd => all_members!(ZstdDecoder),
            Self::Bzip2 => all_members!(BzDecoder),
            Self::Xz => all_members!(XzDecoder),
        }
    }
}

/// A store whose compressed objects read as what is in them. Only whole objects are: nobody can seek in them.
#[derive(Debug)]
pub(crate) struct Decompressing {
    inner: Arc<dyn ObjectStore>,
    /// What the dataset says; `None` leaves it to the endings.
    declared: Option<Compression>,
}

impl Decompressing {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, declared: Option<Compression>) -> Self {
        Self { inner, declared }
    }
}

#[async_trait]
impl ObjectStore for Decompressing {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let compression = self.declared.unwrap_or_else(|| Compression::of(location.as_ref()).0);
        let result = self.inner.get_opts(location, options).await?;
        if compression == Compression::None || result.range != (0..result.meta.size) {
            return Ok(result);
        }
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let packed = StreamReader::new(result.into_stream().map_err(std::io::Error::other));
        let unpacked = ReaderStream::with_capacity(compression.decoder(packed), STEP).map_err(unreadable);
        Ok(GetResult { payload: GetResultPayload::Stream(unpacked.boxed()), meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Decompressing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, formatter)
    }
}

/// What the store said if it failed; else the file is at fault.
fn unreadable(error: std::io::Error) -> object_store::Error {
    let of_store = error.get_ref().is_some_and(|inner| inner.is::<object_store::Error>());
    if of_store && let Some(Ok(inner)) = error.into_inner().map(|inner| inner.downcast::<object_store::Error>()) {
        return *inner;
    }
    let error = Error::new(Kind::CorruptData, "the file can't be decompressed: it is damaged, cut off, or not compressed as it says");
    object_store::Error::Generic { store: "lake", source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_compressions() -> lacus_core::Result<()> {
        assert_eq!(Compression::of("a/x.csv.GZ"), (Compression::Gzip, "a/x.csv"));
        assert_eq!(Compression::of("x.ndjson.zst"), (Compression::Zstd, "x.ndjson"));
        assert_eq!(Compression::of("x.csv"), (Compression::None, "x.csv"));
        assert_eq!(Compression::named("XZ")?, Compression::Xz);
        assert!(Compression::named("gzp").is_err_and(|error| error.to_string().contains("did you mean `gzip`?")));
        Ok(())
    }
}

//! Batches to messages, split by their encoded size, and empty ones while there is nothing to send.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, SchemaAsIpc};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, Result};
use lacus_engine::Provenance;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::status::to_status;
use crate::wire;

/// What a message aims at: large enough to amortise a message, small enough to flow.
const TARGET: usize = 2 << 20;
/// What a message may not exceed: many clients refuse more than 4 MiB.
const CEILING: usize = (4 << 20) - (64 << 10);

/// The header by which a client asks for compressed bodies.
pub(crate) const COMPRESSION_HEADER: &str = "ipc_compression";
/// How long a result may be silent. Proxies close streams on which no data flows for a minute or so, and pings are no data to them.
const SILENCE: Duration = Duration::from_secs(5);

/// How the messages of a result are written, as a client asks.
///
/// # Errors
/// `InvalidQuery` for a compression that there is not.
pub(crate) fn options(headers: &MetadataMap) -> Result<IpcWriteOptions> {
    let compression = match headers.get(COMPRESSION_HEADER).map(|value| value.to_str().unwrap_or("")) {
        None | Some("none") => None,
        Some("zstd") => Some(CompressionType::ZSTD),
        Some("lz4") => Some(CompressionType::LZ4_FRAME),
        Some(other) => {
            return Err(Error::new(Kind::InvalidQuery, format!("the header `{COMPRESSION_HEADER}` is `{other}`"))
                .hint("send `zstd`, `lz4` or `none`"));
        }
    };
    Ok(IpcWriteOptions::default().try_with_compression(compression)?)
}

/// The header by which a client says that it wants no record of what the result was computed from.
const RECORD_HEADER: &str = "x-lacus-provenance";

/// The longest record that is sent.
const LONGEST_RECORD: usize = 1 << 20;

/// The records of what results were computed from, where a client wants them.
pub(crate) fn records(headers: &MetadataMap, of: Vec<Provenance>) -> Vec<Provenance> {
    if headers.get(RECORD_HEADER).is_some_and(|value| value == "none") { Vec::new() } else { of }
}

/// The messages of a result: its schema, then its batches, and an empty one for each time that none came for long. Behind them come the records
/// of what they were computed from, each as the metadata of an empty batch: every client reads on over one.
pub(crate) fn messages(
    schema: SchemaRef,
    options: IpcWriteOptions,
    batches: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    records: Vec<Provenance>,
) -> Result<BoxStream<'static, Result<FlightData, Status>>> {
    let first: FlightData = SchemaAsIpc::new(&schema, &options).into();
    let mut empty = Vec::new();
    encode(&RecordBatch::new_empty(Arc::clone(&schema)), &options, &mut empty)?;
    let encoded = batches.map(move |batch| {
        let batch = wire::batch(&batch?, &schema)?;
        let mut messages = Vec::new();
        split(&batch, &options, &mut messages)?;
        Ok::<_, Error>(stream::iter(messages.into_iter().map(Ok)))
    });
    let encoded = encoded.try_flatten().map_err(|error| to_status(&error));
    let sign = empty.into_iter().next().unwrap_or_default();
    let carrier = sign.clone();
    // What they are is known when all of the result was sent.
    let told = stream::iter(records).filter_map(move |provenance| {
        // Clients refuse messages that are much larger than they expect; a long one is had by its id.
        let text = provenance.record().and_then(|record| record.to_json().ok()).filter(|text| text.len() <= LONGEST_RECORD);
        std::future::ready(text.map(|text| Ok(carrier.clone().with_app_metadata(text))))
    });
    let answered = encoded.chain(told).boxed();
    let alive = stream::unfold((answered, sign), |(mut answered, sign)| async move {
        match tokio::time::timeout(SILENCE, answered.next()).await {
            Ok(message) => Some((message?, (answered, sign))),
            Err(_) => Some((Ok(sign.clone()), (answered, sign))),
        }
    });
    Ok(stream::once(async { Ok(first) }).chain(alive).boxed())
}

/// Cuts a batch where its estimated size says so.
fn split(batch: &RecordBatch, options: &IpcWriteOptions, messages: &mut Vec<FlightData>) -> Result<()> {
    let size: usize = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let rows = batch.num_rows();
    let step = rows.div_ceil(size.div_ceil(TARGET).max(1)).max(1);
    for start in (0..rows).step_by(step) {
        encode(&batch.slice(start, step.min(rows - start)), options, messages)?;
    }
    Ok(())
}

/// Encodes a batch, and halves it while what comes out is too large: an estimate can be wrong, the encoded size can't.
fn encode(batch: &RecordBatch, options: &IpcWriteOptions, messages: &mut Vec<FlightData>) -> Result<()> {
    let mut tracker = DictionaryTracker::new(false);
    // The context is a buffer that each message takes over, so it can't be shared between them.
    let (_, encoded) = IpcDataGenerator::default().encode(batch, &mut tracker, options, &mut Default::default())?;
    let rows = batch.num_rows();
    if encoded.arrow_data.len() <= CEILING {
        messages.push(encoded.into());
        return Ok(());
    }
    if rows <= 1 {
        return Err(too_large(batch, encoded.arrow_data.len()));
    }
    encode(&batch.slice(0, rows / 2), options, messages)?;
    encode(&batch.slice(rows / 2, rows - rows / 2), options, messages)
}

fn too_large(batch: &RecordBatch, size: usize) -> Error {
    let width = |column: usize| batch.column(column).to_data().get_slice_memory_size().unwrap_or(0);
    let widest = (0..batch.num_columns()).max_by_key(|column| width(*column)).unwrap_or(0);
    Error::new(Kind::LimitExceeded, format!("one row takes {size} bytes; a message holds {CEILING}"))
        .with("column", batch.schema().field(widest).name())
        .hint("leave the column out, or shorten it in SQL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, StringViewArray};

    fn sent(batch: &RecordBatch) -> Result<Vec<usize>> {
        let mut messages = Vec::new();
        let batch = wire::batch(batch, &wire::Wire::Compat.schema(batch.schema_ref()))?;
        split(&batch, &IpcWriteOptions::default(), &mut messages)?;
        Ok(messages.iter().map(|message| message.data_body.len()).collect())
    }

    #[test]
    fn a_slice_of_a_view_array_travels_without_the_bytes_behind_it() -> Result<()> {
        let long = "x".repeat(1000);
        let views: StringViewArray = (0..40_000).map(|_| Some(long.as_str())).collect();
        let batch = RecordBatch::try_from_iter([("s", Arc::new(views) as _)])?.slice(100, 1000);
        let sizes = sent(&batch)?;
        assert!(sizes.iter().sum::<usize>() < 1_100_000, "{sizes:?}");
        Ok(())
    }

    #[test]
    fn messages_stay_below_the_ceiling_even_when_rows_differ() -> Result<()> {
        let rows: StringArray = (0..64).map(|row| Some("y".repeat(if row == 0 { 3_900_000 } else { 100_000 }))).collect();
        let sizes = sent(&RecordBatch::try_from_iter([("s", Arc::new(rows) as _)])?)?;
        assert!(sizes.iter().all(|size| *size <= CEILING) && sizes.len() > 2, "{sizes:?}");
        Ok(())
    }

    #[test]
    fn a_row_that_fits_no_message_is_an_error_that_names_its_column() -> Result<()> {
        let batch = RecordBatch::try_from_iter([
            ("thin", Arc::new(StringArray::from(vec!["a"])) as _),
            ("wide", Arc::new(StringArray::from(vec!["z".repeat(5_000_000)])) as _),
        ])?;
        let error = sent(&batch).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("column: wide"), "{error}");
        Ok(())
    }
}

//! The rows that clients send.

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future};
use lacus_core::{Error, Kind, Result};

use crate::status::unreadable;

/// What the messages of a client hold; `what` names it in errors.
///
/// arrow-ipc panics at schemas that say what no type is, and at buffers that are shorter than the rows of their batch need: mistakes of the
/// client's like any other.
pub(crate) fn payloads(stream: PeekableFlightDataStream, what: &'static str) -> BoxStream<'static, Result<DecodedPayload>> {
    let messages = stream.into_peekable().map_err(|status| FlightError::Tonic(Box::new(status)));
    let decoded = AssertUnwindSafe(FlightDataDecoder::new(messages)).catch_unwind();
    let told = move |decoded: std::thread::Result<Result<_, FlightError>>| match decoded {
        Ok(data) => data.map(|data: arrow_flight::decode::DecodedFlightData| data.payload).map_err(|error| unreadable(what, &error)),
        Err(_) => Err(unreadable(what, &"a schema names no type, or a buffer is shorter than its rows need")),
    };
    decoded.map(told).boxed()
}

/// The batches among what is left behind a schema.
pub(crate) fn batches(payloads: BoxStream<'static, Result<DecodedPayload>>) -> BoxStream<'static, Result<RecordBatch>> {
    let batch = |payload| {
        future::ready(match payload {
            DecodedPayload::RecordBatch(batch) => Ok(Some(batch)),
            DecodedPayload::None => Ok(None),
            DecodedPayload::Schema(_) => Err(Error::new(Kind::InvalidQuery, "the rows have a second schema")),
        })
    };
    payloads.try_filter_map(batch).boxed()
}

/// The schema that rows begin with, which is taken from what a client sent.
///
/// # Errors
/// `InvalidQuery` when there is none, or rows come before it.
pub(crate) async fn schema(payloads: &mut BoxStream<'static, Result<DecodedPayload>>) -> Result<arrow::datatypes::SchemaRef> {
    loop {
        match payloads.try_next().await? {
            None => return Err(Error::new(Kind::InvalidQuery, "the rows have no schema").hint("send one before them")),
            Some(DecodedPayload::Schema(schema)) => return Ok(schema),
            Some(DecodedPayload::None) => {}
            Some(DecodedPayload::RecordBatch(_)) => return Err(Error::new(Kind::InvalidQuery, "rows came before their schema")),
        }
    }
}

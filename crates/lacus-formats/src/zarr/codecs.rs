//! The codecs of an array: those of `zarrs`.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use bytes::Bytes;
use lacus_array::{Element, NoHeap};
use lacus_core::{Error, Kind, Result};
use zarrs::array::{ArrayBytes, CodecChain, DataType, FillValue};
use zarrs::array::{ArrayToBytesCodecTraits, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

use crate::blosc;

/// The names of Blosc in metadata.
const BLOSC: [&str; 2] = ["blosc", "numcodecs.blosc"];

/// How bytes become elements.
#[derive(Debug)]
pub(super) struct Codecs {
    chain: CodecChain,
    /// Whether what `chain` wrote was put into a Blosc frame.
    blosc: bool,
    /// The bytes of an element, unless what `chain` writes is of another size than the elements.
    width: Option<usize>,
    data_type: DataType,
    fill: FillValue,
}

impl Codecs {
    /// The codecs that `codecs` names, over elements that `zarrs` knows as `data_type`.
    pub(super) fn new(codecs: &[MetadataV3], data_type: &MetadataV3, width: usize) -> Result<Self> {
        let unsupported = |error: &dyn std::fmt::Display| Error::new(Kind::Unsupported, format!("the codecs can't be read: {error}"));
        let (codecs, blosc) = match codecs {
            [inner @ .., last] if BLOSC.contains(&last.name()) => (inner, true),
            all => (all, false),
        };
        let chain = CodecChain::from_metadata(codecs).map_err(|error| unsupported(&error))?;
        let data_type = DataType::from_metadata(data_type).map_err(|error| unsupported(&error))?;
        // Other codecs may write elements of another width.
        let plain =
            matches!(codecs, [before @ .., last] if last.name() == "bytes" && before.iter().all(|codec| codec.name() == "transpose"));
        Ok(Self { chain, blosc, width: plain.then_some(width), data_type, fill: FillValue::new(vec![0; width]) })
    }

    /// The elements of one chunk.
    pub(super) fn decode(&self, bytes: Bytes, chunk: &[u64], element: &Element) -> Result<ArrayRef> {
        let corrupt = |error: &dyn std::fmt::Display| Error::new(Kind::CorruptData, format!("a chunk can't be decoded: {error}"));
        let shape: Vec<NonZeroU64> = chunk.iter().filter_map(|extent| NonZeroU64::new(*extent)).collect();
        let options = CodecOptions::default();
        let bytes = if self.blosc { self.frame(&bytes, chunk).map_err(|error| corrupt(&error))? } else { Vec::from(bytes) };
        let decoded = self.chain.decode(bytes.into(), &shape, &self.data_type, &self.fill, &options);
        match decoded.map_err(|error| corrupt(&error))? {
            ArrayBytes::Fixed(bytes) => element.decode(bytes.into_owned(), &NoHeap),
            ArrayBytes::Variable(values) => {
                let offsets: Vec<i32> = values
                    .offsets()
                    .iter()
                    .map(|offset| i32::try_from(*offset))
                    .collect::<Result<_, _>>()
                    .map_err(|error| corrupt(&error))?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let bytes = Buffer::from_vec(values.bytes().to_vec());
                match element {
                    Element::String { .. } => Ok(Arc::new(StringArray::try_new(offsets, bytes, None)?)),
                    _ => Ok(Arc::new(BinaryArray::try_new(offsets, bytes, None)?)),
                }
            }
            ArrayBytes::Optional(_) => Err(Error::new(Kind::Unsupported, "arrays with a mask can't be read")),
        }
    }

    /// What a Blosc frame holds: no more than its chunk.
    fn frame(&self, frame: &[u8], chunk: &[u64]) -> std::result::Result<Vec<u8>, String> {
        let most = self.width.map(|width| chunk.iter().fold(width as u64, |bytes, extent| bytes.saturating_mul(*extent)));
        let most = most.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        blosc::decode(frame, most).map_err(|error| format!("a Blosc frame: {error}"))
    }
}

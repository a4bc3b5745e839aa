//! ZFP (filter 32013): blocks of 4 to the power of the dimensions, each a run of bits.

use hdf5_reader::error::Error;
use hdf5_reader::messages::filter_pipeline::FilterDescription;
use zfp_rs::{ZfpBitStreamRef, ZfpConfig, ZfpFieldMetadata, ZfpFieldMut, ZfpHeaderMask, ZfpScalar, ZfpScalarType};

use super::super::number;

/// The codec that the decoder knows, which is the only one that was ever released widely.
const CODEC: u32 = 5;
/// From this version of the filter on, the first client value names the codec.
const CODEC_NAMED: u32 = 0x110;

/// Decodes a chunk. Client values: versions, then the header of a ZFP stream; the chunk is the stream behind it.
pub(super) fn decode(filter: &FilterDescription, data: &[u8], most_bytes: u64) -> Result<Vec<u8>, Error> {
    let (_, header) = filter.client_data.split_first().ok_or_else(|| corrupt("has no header"))?;
    // A header that only makes sense the other way round is that of a big-endian writer, and so are its numbers.
    let (swapped, (shape, config)) = match read_header(header) {
        Some(known) => (false, known),
        None => {
            let turned: Vec<u32> = header.iter().map(|word| word.swap_bytes()).collect();
            (true, read_header(&turned).ok_or_else(|| corrupt("has a header that can't be read"))?)
        }
    };
    let elements = element_count(&shape, data.len(), most_bytes)?;
    let words: Vec<u64> = data.chunks(8).map(number).collect();
    let mut bytes = match shape.scalar_type {
        ZfpScalarType::I32 => decompress(&words, &shape, &config, elements, i32::to_le_bytes),
        ZfpScalarType::I64 => decompress(&words, &shape, &config, elements, i64::to_le_bytes),
        ZfpScalarType::F32 => decompress(&words, &shape, &config, elements, f32::to_le_bytes),
        ZfpScalarType::F64 => decompress(&words, &shape, &config, elements, f64::to_le_bytes),
    }?;
    if swapped {
        bytes.chunks_exact_mut(shape.scalar_type.size()).for_each(<[u8]>::reverse);
    }
    Ok(bytes)
}

/// The codec that a dataset was written with, if it is one that is not known.
pub(super) fn later_codec(filter: &FilterDescription) -> Option<u32> {
    let versions = filter.client_data.first()?;
    Some(versions >> 12 & 0xf).filter(|codec| versions & 0xfff >= CODEC_NAMED && *codec > CODEC)
}

fn corrupt(what: &str) -> Error {
    Error::InvalidData(format!("a ZFP chunk {what}"))
}

fn read_header(values: &[u32]) -> Option<(ZfpFieldMetadata, ZfpConfig)> {
    let pair = |pair: &[u32]| pair.iter().rev().fold(0, |word, value| word << 32 | u64::from(*value));
    let words: Vec<u64> = values.chunks(2).map(pair).collect();
    let mask = ZfpHeaderMask::MAGIC | ZfpHeaderMask::META | ZfpHeaderMask::MODE;
    let header = ZfpBitStreamRef::from_words(&words).read_header(mask).ok()?;
    // Bits behind the end read as zeros.
    (header.bits_read <= values.len() * 32).then_some(())?;
    Some((header.metadata?, header.config?))
}

/// How many elements a chunk has, if its bytes can hold as many.
fn element_count(shape: &ZfpFieldMetadata, bytes: usize, most_bytes: u64) -> Result<usize, Error> {
    let dims = || shape.dims.iter().copied().filter(|dim| *dim > 0);
    let elements = dims().try_fold(1usize, usize::checked_mul).ok_or_else(|| corrupt("is larger than memory"))?;
    let size = elements as u128 * shape.scalar_type.size() as u128;
    if size > u128::from(most_bytes) {
        return Err(corrupt(&format!("decodes to more than {most_bytes} bytes")));
    }
    // No block takes less than a bit: a larger claim is none.
    let blocks = dims().fold(1u128, |blocks, dim| blocks * dim.div_ceil(4) as u128);
    if blocks > bytes as u128 * 8 {
        return Err(corrupt("ends too early"));
    }
    Ok(elements)
}

fn decompress<T: ZfpScalar, const N: usize>(
    words: &[u64],
    shape: &ZfpFieldMetadata,
    config: &ZfpConfig,
    elements: usize,
    encode: impl Fn(T) -> [u8; N],
) -> Result<Vec<u8>, Error> {
    let mut values = vec![T::default(); elements];
    let mut field = ZfpFieldMut::new(&mut values, shape.dims).map_err(|error| corrupt(&format!("has a wrong shape: {error}")))?;
    let read = ZfpBitStreamRef::from_words(words).decompress(config, &mut field);
    read.map_err(|error| corrupt(&format!("can't be decoded: {error}")))?;
    let mut bytes = Vec::with_capacity(elements * N);
    values.into_iter().for_each(|value| bytes.extend_from_slice(&encode(value)));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: [u8; 19] = [0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x9b, 0x82, 0xd8, 7, 0, 0, 0, 0x16];
    /// Versions, and a header of five integers, reversible.
    const VALUES: [u32; 4] = [0x1010_5111, 0x0570_667a, 0x40, 0x8800_0000];
    const PLAIN: [i32; 5] = [i32::MIN, 7, i32::MAX, 0, -1];

    fn decoded(values: &[u32], raw: &[u8]) -> Result<Vec<u8>, Error> {
        decode(&FilterDescription { id: 32_013, name: None, client_data: values.to_vec() }, raw, 1 << 20)
    }

    #[test]
    fn numbers_come_back_in_the_byte_order_of_the_writer() {
        let swapped: Vec<u32> = VALUES.iter().enumerate().map(|(place, word)| if place == 0 { *word } else { word.swap_bytes() }).collect();
        assert_eq!(decoded(&VALUES, &RAW).unwrap(), PLAIN.map(i32::to_le_bytes).concat());
        assert_eq!(decoded(&swapped, &RAW).unwrap(), PLAIN.map(i32::to_be_bytes).concat());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(decoded(&VALUES, &RAW[..8]).unwrap_err().to_string().contains("truncated"));
        assert!(decoded(&VALUES, &[]).unwrap_err().to_string().contains("ends too early"));
        assert!(decoded(&VALUES[..2], &RAW).is_err() && decoded(&[], &RAW).is_err());
        // A codec from the future, and more elements than the limit.
        let filter = |versions| FilterDescription { id: 32_013, name: None, client_data: vec![versions] };
        assert_eq!((later_codec(&filter(0x1000_7110)), later_codec(&filter(0x1000_5110))), (Some(7), None));
        assert!(decoded(&[VALUES[0], VALUES[1], !15, VALUES[3]], &RAW).unwrap_err().to_string().contains("more than"));
    }
}

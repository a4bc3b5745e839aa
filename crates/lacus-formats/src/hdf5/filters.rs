//! Filters beside those of the parser: LZF, bzip2, Zstandard, Blosc and bitshuffle; in modules of their own ZFP, HTJ2K and JPEG-LS.

mod jpeg2000;
mod jpegls;
mod zfp;

use std::io::Read;

use hdf5_reader::error::Error;
use hdf5_reader::filters::{FILTER_DEFLATE, FILTER_FLETCHER32, FILTER_SHUFFLE, FilterRegistry};
use hdf5_reader::messages::filter_pipeline::FilterDescription;
use serde_json::json;

use crate::blosc;

const LZF: u16 = 32_000;
const BZIP2: u16 = 307;
const ZSTD: u16 = 32_015;
const BLOSC: u16 = 32_001;
const BITSHUFFLE: u16 = 32_008;
const ZFP: u16 = 32_013;
const JPEG_LS: u16 = 32_018;
const HTJ2K: u16 = 32_033;
/// Ours.
const OWN: [u16; 8] = [LZF, BZIP2, ZSTD, BLOSC, BITSHUFFLE, ZFP, JPEG_LS, HTJ2K];
/// No chunk decodes to more; a stream that does is a trap.
const MOST_BYTES: u64 = 1 << 30;
/// Those of the parser.
const BUILT_IN: [u16; 7] = [1, 2, 3, 4, 5, 6, 32_004];

/// The registered names of filters that people meet.
const NAMES: [(u16, &str); 17] = [
    (4, "szip"),
    (5, "N-bit"),
    (6, "scale-offset"),
    (32_004, "LZ4"),
    (307, "bzip2"),
    (32_000, "LZF"),
    (32_001, "Blosc"),
    (32_008, "bitshuffle"),
    (32_013, "ZFP"),
    (32_015, "Zstandard"),
    (32_017, "SZ"),
    (32_018, "JPEG-LS (FCIDECOMP)"),
    (32_024, "SZ3"),
    (32_026, "Blosc2"),
    (32_028, "SPERR"),
    (32_033, "HTJ2K"),
    (32_012, "JPEG-LS"),
];

/// The parser's filters and ours.
pub(super) fn registry() -> FilterRegistry {
    let mut registry = FilterRegistry::new();
    registry.register(LZF, Box::new(|filter, data, _| lzf(filter, data)));
    registry.register(BZIP2, Box::new(|_, data, _| read_all(bzip2::read::BzDecoder::new(data))));
    registry.register(ZSTD, Box::new(|_, data, _| read_all(zstd::stream::read::Decoder::new(data).map_err(Error::Io)?)));
    registry.register(BLOSC, Box::new(|filter, data, _| blosc(filter, data)));
    registry.register(BITSHUFFLE, Box::new(|filter, data, _| bitshuffle(filter, data)));
    registry.register(ZFP, Box::new(|filter, data, _| zfp::decode(filter, data, MOST_BYTES)));
    registry.register(JPEG_LS, Box::new(|filter, data, _| jpegls::decode(filter, data, MOST_BYTES)));
    registry.register(HTJ2K, Box::new(|filter, data, _| jpeg2000::decode(filter, data, MOST_BYTES)));
    registry
}

/// What to call a filter, if data that passed through it can't be read.
pub(super) fn unreadable(filter: &FilterDescription) -> Option<String> {
    match filter.id {
        ZFP => zfp::later_codec(filter).map(|codec| format!("ZFP ({ZFP}) with codec {codec}")),
        id if BUILT_IN.contains(&id) || OWN.contains(&id) => None,
        _ => Some(name(filter)),
    }
}

/// The filters as numcodecs calls them, in the order of writing; or the one that it does not have.
pub(super) fn codecs(filters: &[FilterDescription], width: usize) -> Result<Vec<serde_json::Value>, String> {
    let codec = |filter: &FilterDescription| {
        Ok(match filter.id {
            FILTER_DEFLATE => json!({"id": "zlib", "level": 1}),
            FILTER_SHUFFLE => json!({"id": "shuffle", "elementsize": super::shuffled(filters, width)}),
            FILTER_FLETCHER32 => json!({"id": "fletcher32"}),
            BZIP2 => json!({"id": "bz2", "level": 1}),
            ZSTD => json!({"id": "zstd", "level": 1}),
            BLOSC => json!({"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 0}),
            _ => return Err(format!("the filter {} has no codec in Zarr 2", name(filter))),
        })
    };
    filters.iter().map(codec).collect()
}

fn name(filter: &FilterDescription) -> String {
    let known = NAMES.iter().find(|(id, _)| *id == filter.id).map(|(_, name)| (*name).to_owned());
    let own = filter.name.as_ref().map(|name| name.trim_end_matches('\0').to_owned()).filter(|name| !name.is_empty());
    known.or(own).map_or_else(|| filter.id.to_string(), |name| format!("{name} ({})", filter.id))
}

fn read_all(stream: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stream.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Error::Io)?;
    match bytes.len() as u64 {
        0..=MOST_BYTES => Ok(bytes),
        _ => Err(Error::InvalidData(format!("a chunk decodes to more than {MOST_BYTES} bytes"))),
    }
}

/// LZF: literal runs, and copies of what came before. The third client value is the decoded size of the chunk.
fn lzf(filter: &FilterDescription, data: &[u8]) -> Result<Vec<u8>, Error> {
    let corrupt = || Error::InvalidData("an LZF chunk ends too early, or refers to what is not there".to_owned());
    let size = filter.client_data.get(2).map(|size| *size as usize);
    // A byte stands for at most 264: a larger claim is none.
    let mut out = Vec::with_capacity(size.unwrap_or(0).min(data.len().saturating_mul(264)));
    let mut input = data.iter().copied();
    while let Some(control) = input.next() {
        if control < 32 {
            let length = usize::from(control) + 1;
            let before = out.len();
            out.extend(input.by_ref().take(length));
            if out.len() - before != length {
                return Err(corrupt());
            }
            continue;
        }
        let mut length = usize::from(control >> 5);
        if length == 7 {
            length += usize::from(input.next().ok_or_else(corrupt)?);
        }
        let back = (usize::from(control & 31) << 8) + usize::from(input.next().ok_or_else(corrupt)?) + 1;
        let start = out.len().checked_sub(back).ok_or_else(corrupt)?;
        for place in start..start + length + 2 {
            out.push(out[place]);
        }
        if size.is_some_and(|size| size > 0 && out.len() > size) {
            return Err(corrupt());
        }
    }
    Ok(out)
}

/// Blosc: a frame that says itself how it is compressed. The fourth client value is the decoded size of a chunk, if it is known.
fn blosc(filter: &FilterDescription, data: &[u8]) -> Result<Vec<u8>, Error> {
    let most = filter.client_data.get(3).filter(|most| **most > 0).map(|most| *most as usize);
    blosc::decode(data, most).map_err(|error| Error::InvalidData(format!("a Blosc chunk can't be decoded: {error}")))
}

/// Bitshuffle: blocks of elements whose bits are transposed, each compressed with LZ4 or Zstandard or not at all. Client values: two of
/// the version, the width of an element, elements of a block, the compression.
fn bitshuffle(filter: &FilterDescription, data: &[u8]) -> Result<Vec<u8>, Error> {
    let corrupt = || Error::InvalidData("a bitshuffled chunk ends too early, or is not what it says".to_owned());
    let value = |place: usize| filter.client_data.get(place).copied().unwrap_or(0) as usize;
    let (width, compression) = (value(2).max(1), value(4));
    let usual = || (8192 / width / 8 * 8).max(128);
    let number = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte)));
    let (size, block, mut rest) = match compression {
        0 => (data.len(), if value(3) == 0 { usual() } else { value(3) }, data),
        _ => {
            let size = number(data.get(..8)).ok_or_else(corrupt)?;
            let block = number(data.get(8..12)).ok_or_else(corrupt)? / width;
            (size, block, data.get(12..).ok_or_else(corrupt)?)
        }
    };
    // Neither compression shrinks more than a few thousand times: a larger claim is none.
    if block == 0 || block % 8 != 0 || size / 100_000 > data.len() {
        return Err(corrupt());
    }
    let mut out = Vec::with_capacity(size.min(1 << 26));
    while out.len() < size {
        let elements = ((size - out.len()) / width).min(block) / 8 * 8;
        let length = elements * width;
        if length == 0 {
            out.extend_from_slice(rest.get(..size - out.len()).ok_or_else(corrupt)?);
            break;
        }
        let taken = if compression == 0 { length } else { number(rest.get(..4)).ok_or_else(corrupt)? + 4 };
        let part = rest.get(if compression == 0 { 0 } else { 4 }..taken).ok_or_else(corrupt)?;
        let plain = match compression {
            0 => part.to_vec(),
            2 => lz4_flex::block::decompress(part, length).map_err(|_| corrupt())?,
            3 => zstd::bulk::decompress(part, length).map_err(Error::Io)?,
            _ => return Err(Error::UnsupportedFilter(format!("bitshuffle with compression {compression}"))),
        };
        if plain.len() != length {
            return Err(corrupt());
        }
        unshuffle_bits(&plain, width, elements, &mut out);
        rest = &rest[taken..];
    }
    Ok(out)
}

/// Row `byte * 8 + bit` of the transposed block holds that bit of each element.
fn unshuffle_bits(block: &[u8], width: usize, elements: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + elements * width, 0);
    let row = elements / 8;
    for byte in 0..width {
        for bit in 0..8 {
            let bits = &block[(byte * 8 + bit) * row..][..row];
            for (eight, bits) in bits.iter().enumerate().filter(|(_, bits)| **bits != 0) {
                for element in (0..8).filter(|element| bits >> element & 1 == 1) {
                    out[start + (eight * 8 + element) * width + byte] |= 1 << bit;
                }
            }
        }
    }
}

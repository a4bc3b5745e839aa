//! HTJ2K (filter 32033): a bare codestream of JPEG 2000 with the block coder of part 15, lossless.

use dicom_toolkit_jpeg2000::{DecodeSettings, Image};
use hdf5_reader::error::Error;
use hdf5_reader::messages::filter_pipeline::FilterDescription;

/// The version of the filter that is known.
const VERSION: u32 = 1;
/// The most samples of a chunk: decoding takes about twenty bytes of memory for each.
const MOST_SAMPLES: u64 = 1 << 26;
/// The most blocks of a chunk, in all layers: each takes memory, whether it holds anything or not.
const MOST_BLOCKS: u64 = 1 << 22;
/// Where the segment of coding says which transform was used: 0 is the lossy one.
const TRANSFORM: usize = 9;
/// The start of a codestream and of its image header.
const START: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
/// Where the components of the image header stand, each of three bytes.
const COMPONENTS: usize = 42;

/// Markers of segments: how components are coded, or one of them; their steps, or those of one.
const COD: u8 = 0x52;
const COC: u8 = 0x53;
const QCD: u8 = 0x5c;
const QCC: u8 = 0x5d;
/// Markers of segments that decoding needs not: capabilities, a profile, lengths, registration, a comment.
const CAP: u8 = 0x50;
const CPF: u8 = 0x59;
const TLM: u8 = 0x55;
const PLT: u8 = 0x58;
const CRG: u8 = 0x63;
const COM: u8 = 0x64;
/// Markers of structure: a part of a tile, its data, the end.
const SOT: u8 = 0x90;
const SOD: u8 = 0x93;
const EOC: u8 = 0xd9;

/// What the image header says.
struct Header {
    width: u64,
    height: u64,
    tile: (u64, u64),
    components: usize,
    bits: u32,
    signed: bool,
}

impl Header {
    fn samples(&self) -> u64 {
        self.width.saturating_mul(self.height).saturating_mul(self.components as u64)
    }

    fn tiles(&self) -> u64 {
        self.width.div_ceil(self.tile.0).saturating_mul(self.height.div_ceil(self.tile.1))
    }
}

/// Decodes a chunk. Client values: the version, the type of the elements, the extents of a chunk.
pub(super) fn decode(filter: &FilterDescription, data: &[u8], most_bytes: u64) -> Result<Vec<u8>, Error> {
    let value = |place: usize| filter.client_data.get(place).copied().unwrap_or(0);
    if value(0) > VERSION {
        return Err(Error::UnsupportedFilter(format!("HTJ2K of version {}", value(0))));
    }
    let header = read_header(data).ok_or_else(|| corrupt("has a header that can't be read"))?;
    // The type: its bytes, a bit for the sign, a bit for big-endian. Files of the first version have none.
    let width = match value(1) & 0x7f {
        0 if header.bits <= 8 => 1,
        0 => 2,
        known => known,
    };
    if !(1..=2).contains(&width) || header.bits > width * 8 {
        return Err(corrupt(&format!("has samples of {} bits in {width} bytes", header.bits)));
    }
    let (samples, expected) = (header.samples(), (2..5).map(value).fold(1u64, |samples, extent| samples.saturating_mul(u64::from(extent))));
    let most = if expected > 0 { expected.min(MOST_SAMPLES) } else { MOST_SAMPLES };
    if samples > most || samples * u64::from(width) > most_bytes {
        return Err(corrupt(&format!("has {samples} samples, which are too many")));
    }
    decode_samples(data, &header, width as usize, value(1) & 0x100 != 0)
}

fn corrupt(what: &str) -> Error {
    Error::InvalidData(format!("an HTJ2K chunk {what}"))
}

/// A big-endian number of up to eight bytes.
fn number(data: &[u8], place: usize, length: usize) -> Option<u64> {
    Some(data.get(place..place.checked_add(length)?)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads the image header: behind its marker, length and capabilities, pairs of the extents, where the image starts, the extents of
/// tiles, where they start; then the components.
fn read_header(data: &[u8]) -> Option<Header> {
    let pair = |place| Some((number(data, place, 4)?, number(data, place + 4, 4)?));
    let ((width, height), tile) = (pair(8)?, pair(24)?);
    let components = number(data, 40, 2)? as usize;
    let depth = *data.get(COMPONENTS)?;
    // Elements of a dataset are all of a type, and none is left out.
    let mut described = data.get(COMPONENTS..)?.get(..components * 3)?.chunks_exact(3);
    let plain = described.all(|component| component == [depth, 1, 1]) && pair(16)? == (0, 0) && pair(32)? == (0, 0);
    let plain = plain && number(data, 4, 2)? as usize == 38 + components * 3;
    let some = width > 0 && height > 0 && tile.0 > 0 && tile.1 > 0 && components > 0;
    let header = Header { width, height, tile, components, bits: u32::from(depth & 0x7f) + 1, signed: depth & 0x80 != 0 };
    (data.starts_with(&START) && plain && some).then_some(header)
}

/// How many blocks the decoder makes at most, by the segment that says how components are coded: flags, progression, layers (2),
/// transform of components, levels, exponents of the extents of blocks less two, style, transform, exponents of precincts.
fn count_blocks(header: &Header, coding: &[u8]) -> Option<u64> {
    let (flags, layers, levels) = (*coding.first()?, number(coding, 2, 2)?, *coding.get(5)?);
    let block = (u32::from(*coding.get(6)?) + 2, u32::from(*coding.get(7)?) + 2);
    // The decoder relies on what the segment says more than on its length.
    let length = 10 + if flags & 1 == 0 { 0 } else { usize::from(levels) + 1 };
    if levels > 32 || block.0 > 10 || block.1 > 10 || coding.len() != length {
        return None;
    }
    let tile = (header.tile.0.min(header.width), header.tile.1.min(header.height));
    let mut blocks = 0u64;
    for resolution in 0..=levels {
        // The extents of precincts bound those of blocks, and in all but the first resolution they are those of four bands.
        let precinct = if flags & 1 == 0 { 0xff } else { *coding.get(10 + usize::from(resolution))? };
        let (halved, bands) = if resolution == 0 { (0, 1) } else { (1, 3) };
        let along = |extent: u64, block: u32, precinct: u8| {
            let exponent = block.min(u32::from(precinct).saturating_sub(halved)) + u32::from(levels - resolution);
            extent.checked_shr(exponent).unwrap_or(0) + 2
        };
        blocks += bands * along(tile.0, block.0, precinct & 15) * along(tile.1, block.1, precinct >> 4);
    }
    [header.tiles(), header.components as u64, layers.max(1)].into_iter().try_fold(blocks, u64::checked_mul)
}

/// A copy of the codestream with headers that suit the decoder, if they ask for nothing outrageous.
fn suited(data: &[u8], header: &Header) -> Result<Vec<u8>, Error> {
    let early = || corrupt("ends too early");
    let mut suited = data.to_vec();
    // The decoder clips what is below zero. As the sign only decides whether half the range is added in the end, signed samples are
    // declared unsigned, and the half is taken off again.
    suited.iter_mut().skip(COMPONENTS).take(header.components * 3).step_by(3).for_each(|depth| *depth &= 0x7f);
    // The place of the next segment, and behind the main header, where the part of a tile ends that has the segment.
    let (mut place, mut part, mut parts) = (COMPONENTS + header.components * 3, None, 0);
    loop {
        let marker = match suited.get(place..place + 2) {
            Some([0xff, marker]) => *marker,
            _ => return Err(early()),
        };
        let end = match (marker, part) {
            // A tile that has no part would be read as zeros.
            (EOC, None) => return if parts < header.tiles() { Err(early()) } else { Ok(suited) },
            (SOD, Some(end)) if end >= place + 2 => {
                (place, part) = (end, None);
                continue;
            }
            _ => place + 2 + number(&suited, place + 2, 2).ok_or_else(early)? as usize,
        };
        let segment = suited.get(place + 4..end).ok_or_else(early)?;
        match (marker, part) {
            // The index of the tile, the length of its part from this marker on, two bytes more.
            (SOT, None) if segment.len() == 8 => {
                part = Some(place + number(segment, 2, 4).ok_or_else(early)? as usize);
                parts += 1;
            }
            // Decoders round the coefficients of lossy streams in ways of their own: the values would not be those of other readers.
            (COD, None) if segment.get(TRANSFORM) == Some(&0) => {
                return Err(Error::UnsupportedFilter("lossy HTJ2K, which every decoder rounds in its own way".to_owned()));
            }
            (COD, None) if count_blocks(header, segment).is_some_and(|blocks| blocks <= MOST_BLOCKS) => {}
            (COD, None) => return Err(corrupt("has too many blocks")),
            (COD | COC, _) => return Err(Error::UnsupportedFilter("HTJ2K with components or tiles that are coded differently".to_owned())),
            (QCD | QCC | CAP | CPF | TLM | PLT | CRG | COM, _) => {}
            _ => return Err(corrupt(&format!("has a segment ff{marker:02x}, which is out of place or not supported"))),
        }
        place = end;
    }
}

/// The samples, component by component of each pixel, as numbers of one or two bytes.
fn decode_samples(data: &[u8], header: &Header, width: usize, big_endian: bool) -> Result<Vec<u8>, Error> {
    let suited = suited(data, header)?;
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let failed = |error| corrupt(&format!("can't be decoded: {error}"));
    let image = Image::new(&suited, &settings).map_err(failed)?;
    let bitmap = image.decode_native().map_err(failed)?;
    let (narrow, count) = (bitmap.bytes_per_sample == 1, bitmap.data.len() / usize::from(bitmap.bytes_per_sample.max(1)));
    if count as u64 != header.samples() {
        return Err(corrupt(&format!("has {count} samples where {} were expected", header.samples())));
    }
    let offset = if header.signed { 1u16 << (header.bits - 1) } else { 0 };
    let mut bytes = Vec::with_capacity(count * width);
    let mut push = |sample: u16| match (width, big_endian) {
        (1, _) => bytes.push(sample.wrapping_sub(offset) as u8),
        (_, false) => bytes.extend_from_slice(&sample.wrapping_sub(offset).to_le_bytes()),
        (_, true) => bytes.extend_from_slice(&sample.wrapping_sub(offset).to_be_bytes()),
    };
    match narrow {
        true => bitmap.data.iter().for_each(|sample| push(u16::from(*sample))),
        false => bitmap.data.as_chunks().0.iter().for_each(|sample| push(u16::from_le_bytes(*sample))),
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five signed bytes as OpenJPH writes them, without its comment.
    const RAW: [u8; 139] = [
        0xff, 0x4f, 0xff, 0x51, 0, 0x29, 0x40, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 1, 0x87, 1, 1, 0xff, 0x50, 0, 8, 0, 2, 0, 0, 0, 2, 0xff, 0x52, 0, 0xc, 0, 2, 0, 1, 0, 5, 4, 4, 0x40, 1, 0xff, 0x5c, 0,
        0x13, 0x20, 0x48, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x48, 0x48, 0x48, 0xff, 0x90, 0, 0xa, 0,
        0, 0, 0, 0, 0x2f, 0, 1, 0xff, 0x93, 0xc0, 0x25, 0xe0, 0, 7, 0x74, 0, 0, 0, 0xc0, 0x12, 0x80, 0xc6, 0, 0x87, 0x74, 0, 0xc0, 0x12,
        0x80, 0xf8, 0, 0x87, 0x74, 0, 0xc0, 0x26, 0x7c, 5, 1, 0x81, 0x74, 0, 0xff, 0xd9,
    ];
    const VALUES: [u32; 5] = [1, 0x81, 5, 1, 1];

    fn decoded(values: &[u32], raw: &[u8]) -> Result<Vec<u8>, Error> {
        decode(&FilterDescription { id: 32_033, name: None, client_data: values.to_vec() }, raw, 1 << 20)
    }

    #[test]
    fn signed_samples_come_back() {
        assert_eq!(decoded(&VALUES, &RAW).unwrap(), [-128i8, 127, 0, -1, 5].map(|sample| sample as u8));
        assert_eq!(decoded(&[], &RAW).unwrap(), [-128i8, 127, 0, -1, 5].map(|sample| sample as u8));
        let wide = [-128i16, 127, 0, -1, 5].map(i16::to_be_bytes).concat();
        assert_eq!(decoded(&[1, 0x182], &RAW).unwrap(), wide);
    }

    #[test]
    fn what_asks_for_too_much_is_an_error() {
        let changed = |place: usize, bytes: &[u8]| {
            let mut raw = RAW;
            raw[place..place + bytes.len()].copy_from_slice(bytes);
            decoded(&[], &raw).unwrap_err().to_string()
        };
        assert!((0..RAW.len()).all(|length| decoded(&VALUES, &RAW[..length]).is_err()));
        assert!(decoded(&[2], &RAW).is_err());
        assert!(decoded(&[1, 0x81, 2, 2, 1], &RAW).unwrap_err().to_string().contains("too many"));
        assert!(changed(8, &[0xff; 8]).contains("too many"));
        let coding = RAW.windows(2).position(|marker| marker == [0xff, COD]).unwrap() + 4;
        assert!(changed(coding + TRANSFORM, &[0]).contains("lossy"));
        // Tiles of one sample, of which all but the first have no part.
        assert!(changed(24, &[0, 0, 0, 1]).contains("too early"));
    }
}

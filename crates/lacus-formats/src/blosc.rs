//! Blosc frames, version 1: blocks that are shuffled and compressed one by one.
//!
//! Zstandard with or without byte shuffle, which writers of Zarr choose by default, is decoded here: C-Blosc sets up a decompressor anew
//! for each block, and is built without the wide instructions that a machine may have. Frames of other kinds are left to C-Blosc. The
//! format is that of `README_CHUNK_FORMAT.rst` in the sources of C-Blosc 1.21.

use std::borrow::Cow;
use std::cell::RefCell;

use multiversion::multiversion;
use zarrs::array::codec::bytes_to_bytes::blosc::BloscCodec;
use zarrs::array::codec::bytes_to_bytes::blosc::{BloscCompressionLevel, BloscCompressor, BloscShuffleMode};
use zarrs::array::{BytesRepresentation, BytesToBytesCodecTraits, CodecOptions};
use zstd::bulk::Decompressor;

/// Bytes before the starts of the blocks.
const HEADER: usize = 16;
/// The format of frames; those of Blosc2 are another.
const VERSION: u8 = 2;
const SHUFFLED: u8 = 1;
const COPIED: u8 = 1 << 1;
const BIT_SHUFFLED: u8 = 1 << 2;
/// No writer sets it.
const UNKNOWN: u8 = 1 << 3;
const NOT_SPLIT: u8 = 1 << 4;
const ZSTD: u8 = 4;
/// Blocks of elements wider than this, or of fewer elements, are never split.
const MOST_SPLITS: usize = 16;
const LEAST_SPLIT: usize = 128;
/// A thread keeps no buffer for blocks that is larger than this.
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What decoding a block needs, kept by each thread: to set it up costs as much as a small block.
#[derive(Default)]
struct Scratch {
    zstd: Option<Decompressor<'static>>,
    part: Vec<u8>,
    block: Vec<u8>,
}

/// What the header of a frame says.
struct Header {
    version: u8,
    flags: u8,
    width: usize,
    bytes: usize,
    block: usize,
}

/// The bytes that a frame holds. One that says it holds more than `most` is refused before memory is taken for it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(frame: &[u8], most: Option<usize>) -> Result<Vec<u8>, String> {
    let header = header(frame).ok_or("it has no valid header")?;
    if let Some(most) = most.filter(|most| header.bytes > *most) {
        return Err(format!("it holds {} bytes, where a chunk has {most}", header.bytes));
    }
    if header.version != VERSION || header.flags & UNKNOWN != 0 {
        return Err(format!("its format is {}, with flags {:#04x}; {VERSION} is read", header.version, header.flags));
    }
    if header.flags & COPIED != 0 || header.bytes == 0 {
        return match frame.get(HEADER..) {
            Some(copied) if header.bytes == 0 || copied.len() == header.bytes => Ok(copied[..header.bytes].to_vec()),
            _ => Err(format!("it says that it holds {} bytes as they are, and has {}", header.bytes, frame.len())),
        };
    }
    if header.flags & BIT_SHUFFLED != 0 || header.flags >> 5 != ZSTD {
        return by_library(frame, header.bytes);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let decoded = blocks(frame, &header, scratch);
        if scratch.block.capacity().max(scratch.part.capacity()) > KEPT_BYTES {
            (scratch.part, scratch.block) = (Vec::new(), Vec::new());
        }
        decoded
    })
}

fn number(frame: &[u8], place: usize) -> Option<usize> {
    let bytes = frame.get(place..)?.first_chunk::<4>()?;
    usize::try_from(i32::from_le_bytes(*bytes)).ok()
}

fn header(frame: &[u8]) -> Option<Header> {
    let [version, _, flags, width] = *frame.first_chunk::<4>()?;
    let (bytes, block, length) = (number(frame, 4)?, number(frame, 8)?, number(frame, 12)?);
    let header = Header { version, flags, width: usize::from(width), bytes, block };
    (width > 0 && length == frame.len() && (bytes == 0 || (1..=bytes).contains(&block))).then_some(header)
}

fn by_library(frame: &[u8], bytes: usize) -> Result<Vec<u8>, String> {
    // Only a frame says how it was written: these settings are those of writing.
    let level = BloscCompressionLevel::try_from(0).map_err(|error| error.to_string())?;
    let codec = BloscCodec::new(BloscCompressor::BloscLZ, level, None, BloscShuffleMode::NoShuffle, None);
    let codec = codec.map_err(|error| error.to_string())?;
    let decoded = codec.decode(Cow::Borrowed(frame), &BytesRepresentation::FixedSize(bytes as u64), &CodecOptions::default());
    Ok(decoded.map_err(|error| error.to_string())?.into_owned())
}

fn blocks(frame: &[u8], header: &Header, scratch: &mut Scratch) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    out.try_reserve_exact(header.bytes).map_err(|error| error.to_string())?;
    let of_whole = if header.flags & NOT_SPLIT == 0 && header.width <= MOST_SPLITS && header.block / header.width >= LEAST_SPLIT {
        header.width
    } else {
        1
    };
    for block in 0..header.bytes.div_ceil(header.block) {
        let start = number(frame, HEADER + block * 4).ok_or_else(early)?;
        let size = header.block.min(header.bytes - out.len());
        // What is left behind the last whole block is not split.
        let splits = if size == header.block { of_whole } else { 1 };
        scratch.read(frame, start, size, splits)?;
        match if header.flags & SHUFFLED == 0 { 1 } else { header.width } {
            1 => out.extend_from_slice(&scratch.block),
            2 => unshuffle(&scratch.block, &mut out, join_two),
            4 => unshuffle(&scratch.block, &mut out, join_four),
            8 => unshuffle(&scratch.block, &mut out, join_eight),
            width => unshuffle_any(&scratch.block, width, &mut out),
        }
    }
    Ok(out)
}

fn early() -> String {
    "it ends too early".to_owned()
}

impl Scratch {
    /// Reads the `size` bytes of the block at `start`, as they were before they were compressed in `splits` parts of one size.
    fn read(&mut self, frame: &[u8], start: usize, size: usize, splits: usize) -> Result<(), String> {
        let Self { zstd, part, block } = self;
        let zstd = match zstd {
            Some(zstd) => zstd,
            None => zstd.insert(Decompressor::new().map_err(|error| error.to_string())?),
        };
        block.clear();
        let (mut place, expected) = (start, size / splits);
        for _ in 0..splits {
            let length = number(frame, place).ok_or_else(early)?;
            let stored = frame.get(place + 4..).and_then(|rest| rest.get(..length)).ok_or_else(early)?;
            place += 4 + length;
            if length == expected {
                // Compression would not have made it smaller.
                block.extend_from_slice(stored);
                continue;
            }
            let into = if splits == 1 { &mut *block } else { &mut *part };
            into.clear();
            into.try_reserve(expected).map_err(|error| error.to_string())?;
            let found = zstd.decompress_to_buffer(stored, into).map_err(|error| error.to_string())?;
            if found != expected {
                return Err(format!("a block holds {found} bytes, not {expected}"));
            }
            if splits > 1 {
                block.extend_from_slice(part);
            }
        }
        if block.len() == size { Ok(()) } else { Err(format!("a block of {size} bytes is split into {splits} parts")) }
    }
}

/// The first bytes of all elements, then their second bytes, and so on: elements again. What is left behind the last whole one is as it
/// was.
fn unshuffle<const WIDTH: usize>(block: &[u8], out: &mut Vec<u8>, join: impl Fn([&[u8]; WIDTH], &mut [[u8; WIDTH]])) {
    let (count, start) = (block.len() / WIDTH, out.len());
    out.resize(start + block.len(), 0);
    let (elements, rest) = out[start..].as_chunks_mut::<WIDTH>();
    join(std::array::from_fn(|lane| &block[lane * count..][..count]), elements);
    rest.copy_from_slice(&block[count * WIDTH..]);
}

fn unshuffle_any(block: &[u8], width: usize, out: &mut Vec<u8>) {
    let count = block.len() / width;
    out.extend((0..count * width).map(|place| block[place % width * count + place / width]));
    out.extend_from_slice(&block[count * width..]);
}

// Lanes are cut to the length of the elements, and bytes are joined by shifts: written so that the compiler can vectorise it.

#[multiversion(targets("x86_64+avx2"))]
fn join_two([a, b]: [&[u8]; 2], elements: &mut [[u8; 2]]) {
    let count = elements.len();
    let (a, b) = (&a[..count], &b[..count]);
    for place in 0..count {
        elements[place] = (u16::from(a[place]) | u16::from(b[place]) << 8).to_le_bytes();
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn join_four([a, b, c, d]: [&[u8]; 4], elements: &mut [[u8; 4]]) {
    let count = elements.len();
    let (a, b, c, d) = (&a[..count], &b[..count], &c[..count], &d[..count]);
    for place in 0..count {
        elements[place] = joined(a[place], b[place], c[place], d[place]).to_le_bytes();
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn join_eight([a, b, c, d, e, f, g, h]: [&[u8]; 8], elements: &mut [[u8; 8]]) {
    let count = elements.len();
    let (a, b, c, d) = (&a[..count], &b[..count], &c[..count], &d[..count]);
    let (e, f, g, h) = (&e[..count], &f[..count], &g[..count], &h[..count]);
    for place in 0..count {
        let low = joined(a[place], b[place], c[place], d[place]);
        let high = joined(e[place], f[place], g[place], h[place]);
        elements[place] = (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    }
}

fn joined(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from(a) | u32::from(b) << 8 | u32::from(c) << 16 | u32::from(d) << 24
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: &[u8], width: usize, shuffle: BloscShuffleMode, block: usize) -> Result<Vec<u8>, String> {
        let level = BloscCompressionLevel::try_from(5).map_err(|error| error.to_string())?;
        let codec = BloscCodec::new(BloscCompressor::Zstd, level, Some(block), shuffle, Some(width)).map_err(|error| error.to_string())?;
        let encoded = codec.encode(Cow::Borrowed(values), &CodecOptions::default());
        Ok(encoded.map_err(|error| error.to_string())?.into_owned())
    }

    /// Some of it compresses, and some does not.
    fn values(count: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..count).map(|place| if place % 4 < 2 { next() as u8 } else { (place / 4000) as u8 }).collect()
    }

    #[test]
    fn frames_hold_what_was_written() -> Result<(), String> {
        for count in [0, 1, 7, 800, 4096, 100_003] {
            let values = values(count);
            for width in [1, 2, 3, 4, 8, 16, 24] {
                for (shuffle, block) in [
                    (BloscShuffleMode::Shuffle, 0),
                    (BloscShuffleMode::Shuffle, 1024),
                    (BloscShuffleMode::NoShuffle, 4096),
                    (BloscShuffleMode::BitShuffle, 0),
                ] {
                    let frame = frame(&values, width, shuffle, block)?;
                    assert!(decode(&frame, Some(count - count.min(1))).is_err() || count == 0);
                    assert!(decode(&frame, Some(count))? == values, "{count} bytes, {width} wide, {shuffle:?} in blocks of {block}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_other_bytes() -> Result<(), String> {
        let values = values(5000);
        let frame = frame(&values, 4, BloscShuffleMode::Shuffle, 1024)?;
        for length in 0..frame.len() {
            assert!(decode(&frame[..length], None).is_err(), "{length}");
        }
        for place in 0..frame.len() {
            for bit in 0..8 {
                let mut changed = frame.clone();
                changed[place] ^= 1 << bit;
                // Only that it returns is asserted: a frame has no checksum.
                let _: Result<Vec<u8>, String> = decode(&changed, None);
            }
        }
        Ok(())
    }
}

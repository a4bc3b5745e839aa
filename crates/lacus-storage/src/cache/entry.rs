//! The line of an index that says what a block is: bytes of one version of one object.

use std::ops::Range;
use std::sync::Arc;

use twox_hash::XxHash64;

/// What every index begins with: another form of it gets another word here, and is then not read.
pub(crate) const FORM: &[u8; 8] = b"LACUSBC1";
/// The length of a body and its checksum.
const HEAD: usize = 12;

/// One version of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// The server, the bucket and the path there.
    pub(crate) object: Arc<str>,
    /// The entity tag or the time, and the size.
    pub(crate) version: Arc<str>,
}

/// What a line of an index says: a version of an object, where the block begins in it, and where it lies.
pub(crate) type Line = (Version, u64, Block);

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) segment: u32,
    pub(crate) at: u64,
    pub(crate) length: u32,
    pub(crate) checksum: u64,
}

impl Block {
    /// The part of the object that the block holds, if it begins at `start`.
    pub(crate) fn range(&self, start: u64) -> Range<u64> {
        start..start + u64::from(self.length)
    }
}

pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Adds the line of a block that begins at `start` of its object.
pub(crate) fn write(line: &mut Vec<u8>, of: &Version, start: u64, block: &Block) {
    let mut body = Vec::with_capacity(64 + of.object.len() + of.version.len());
    body.extend(start.to_le_bytes());
    body.extend(block.at.to_le_bytes());
    body.extend(block.length.to_le_bytes());
    body.extend(block.checksum.to_le_bytes());
    body.extend((of.object.len() as u32).to_le_bytes());
    body.extend(of.object.as_bytes());
    body.extend(of.version.as_bytes());
    line.extend((body.len() as u32).to_le_bytes());
    line.extend(checksum(&body).to_le_bytes());
    line.extend(body);
}

/// The first line of `index`, the blocks of which lie in `segment`, and what follows it. `None` at the end, and where a line isn't whole: it was being written when the
/// process ended.
pub(crate) fn read(index: &[u8], segment: u32) -> Option<(Version, u64, Block, &[u8])> {
    let (head, rest) = index.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?);
    let (body, rest) = rest.split_at_checked(length as usize)?;
    if checksum(body) != u64::from_le_bytes(head[4..].try_into().ok()?) {
        return None;
    }
    let (start, body) = body.split_first_chunk::<8>()?;
    let (at, body) = body.split_first_chunk::<8>()?;
    let (length, body) = body.split_first_chunk::<4>()?;
    let (checksum, body) = body.split_first_chunk::<8>()?;
    let (object, body) = body.split_first_chunk::<4>()?;
    let (object, version) = body.split_at_checked(u32::from_le_bytes(*object) as usize)?;
    let text = |bytes: &[u8]| Some(Arc::from(std::str::from_utf8(bytes).ok()?));
    let of = Version { object: text(object)?, version: text(version)? };
    let (at, length, checksum) = (u64::from_le_bytes(*at), u32::from_le_bytes(*length), u64::from_le_bytes(*checksum));
    Some((of, u64::from_le_bytes(*start), Block { segment, at, length, checksum }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written_and_torn_ones_are_not() {
        let of = Version { object: "s3://é/a b\nc".into(), version: "12 \"tag\"".into() };
        let block = Block { segment: 7, at: 1 << 40, length: 12, checksum: u64::MAX };
        let mut lines = Vec::new();
        write(&mut lines, &of, 5, &block);
        let first = lines.len();
        write(&mut lines, &of, 99, &block);
        let read_back = read(&lines, 7).map(|(version, start, found, rest)| (version, start, found, rest.len()));
        assert_eq!(read_back, Some((of, 5, block, first)));
        for length in 0..first {
            assert!(read(&lines[..length], 7).is_none(), "{length}");
        }
        for place in 0..first {
            let mut torn = lines[..first].to_vec();
            torn[place] ^= 0x10;
            assert!(read(&torn, 7).is_none(), "{place}");
        }
    }
}

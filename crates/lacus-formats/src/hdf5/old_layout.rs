//! Layouts as HDF5 before 1.6.3 wrote them: messages of version 1 and 2.
//!
//! The parser takes version 2 for two bytes shorter than it is, so that the address and the extents it gives are wrong, and reads an address
//! of compact data, which has none. Where what it says can't be, the message is read here.

use hdf5_reader::Storage;
use hdf5_reader::error::{Error, Result};
use hdf5_reader::io::Cursor;
use hdf5_reader::messages::layout::DataLayout;

use super::index::FileFacts;

/// The numbers of messages.
const LAYOUT: u16 = 8;
const CONTINUATION: u16 = 16;
/// A message that lies elsewhere.
const SHARED: u8 = 2;
/// Blocks of messages of one object, and their length; more is no header.
const MOST_BLOCKS: usize = 1_000;
const LONGEST_BLOCK: u64 = 1 << 20;

/// Whether a layout that the parser gives for an array of so many bytes could be one that it misread.
pub(super) fn is_doubtful(layout: &DataLayout, bytes: u64) -> bool {
    match layout {
        DataLayout::Compact { data } => data.len() as u64 != bytes,
        DataLayout::Contiguous { size, .. } => *size != bytes,
        // Two bytes too early, an extent is its lower half shifted up, and the upper half of what stands before: an extent or the address.
        DataLayout::Chunked { dims, .. } => dims.iter().any(|extent| [0, 65_535].contains(&(extent % 65_536))),
    }
}

/// The layout of the object at `address`; `None` unless its message has version 1 or 2.
pub(super) fn read(storage: &dyn Storage, address: u64, facts: &FileFacts) -> Result<Option<DataLayout>> {
    let prefix = storage.read_range(address, 16)?;
    let mut cursor = Cursor::new(prefix.as_ref());
    if cursor.read_u8()? != 1 {
        return Ok(None);
    }
    cursor.set_position(8);
    let mut blocks = vec![(address.saturating_add(16), u64::from(cursor.read_u32_le()?))];
    let mut next = 0;
    while let Some((start, length)) = blocks.get(next).copied() {
        next += 1;
        if next > MOST_BLOCKS || length > LONGEST_BLOCK || blocks[..next - 1].iter().any(|(known, _)| *known == start) {
            return Err(Error::InvalidData("an object header of blocks that can't be".into()));
        }
        let length = length.min(storage.len().saturating_sub(start));
        let block = storage.read_range(start, usize::try_from(length).unwrap_or(usize::MAX))?;
        let mut cursor = Cursor::new(block.as_ref());
        while cursor.remaining() >= 8 {
            let (kind, size, flags) = (cursor.read_u16_le()?, cursor.read_u16_le()?, cursor.read_u8()?);
            cursor.skip(3)?;
            let mut message = Cursor::new(cursor.read_bytes(usize::from(size))?);
            match kind {
                LAYOUT if flags & SHARED == 0 => return layout(&mut message, facts.offset_size),
                CONTINUATION => blocks.push((message.read_offset(facts.offset_size)?, message.read_length(facts.length_size)?)),
                _ => {}
            }
        }
    }
    Ok(None)
}

fn layout(message: &mut Cursor<'_>, offset_size: u8) -> Result<Option<DataLayout>> {
    if ![1, 2].contains(&message.read_u8()?) {
        return Ok(None);
    }
    let (rank, class) = (message.read_u8()?, message.read_u8()?);
    message.skip(5)?;
    let address = if class == 0 { u64::MAX } else { message.read_offset(offset_size)? };
    let mut extents = (0..rank).map(|_| message.read_u32_le()).collect::<Result<Vec<u32>>>()?;
    Ok(match class {
        0 => {
            let length = message.read_u32_le()? as usize;
            Some(DataLayout::Compact { data: message.read_bytes(length)?.to_vec() })
        }
        1 => {
            let size = extents.iter().fold(1, |size: u64, extent| size.saturating_mul(u64::from(*extent)));
            Some(DataLayout::Contiguous { address, size })
        }
        2 => {
            let element_size = extents.pop().unwrap_or_default();
            Some(DataLayout::Chunked { address, dims: extents, element_size, chunk_indexing: None })
        }
        _ => None,
    })
}

//! Extensible arrays: the index of a dataset that can grow without limit along one dimension.
//!
//! Chunks are numbered, that dimension slowest. The index block holds the entries of the first chunks, then names data blocks of growing
//! length, then secondary blocks that name further data blocks. A data block that is longer than a page is stored in pages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::io::Cursor;
use lacus_core::Result;
use object_store::ObjectStore;
use tokio::sync::OnceCell;

use super::{CHECKSUM, CONCURRENT_PIECES, ChunkPlace, ChunkPlaces, Chunked, Entry, FileFacts, Pieces, check};

/// An extent without limit.
const UNLIMITED: u64 = u64::MAX;

/// An extensible array and the pieces of it that were read.
#[derive(Debug)]
pub(super) struct ExtensibleArray {
    address: u64,
    head: OnceCell<Head>,
    secondary: Pieces<Secondary>,
    /// Data blocks, or pages of them.
    data: Pieces<Bytes>,
}

/// What the header and the index block say.
#[derive(Debug)]
struct Head {
    form: Form,
    /// The first chunks.
    inline: Vec<Option<ChunkPlace>>,
    runs: Vec<Run>,
}

/// How entries are stored.
#[derive(Debug, Clone, Copy)]
struct Form {
    entry: Entry,
    /// The bytes of an entry.
    width: u64,
    /// The bytes in front of the content of a secondary or data block.
    prefix: u64,
    /// The entries of a page; 0 if there are none.
    page: u64,
}

/// Data blocks of one length.
#[derive(Debug)]
struct Run {
    /// The entries of a block.
    entries: u64,
    blocks: u64,
    named: Named,
}

/// Where the data blocks of a run lie.
#[derive(Debug)]
enum Named {
    At(Vec<u64>),
    /// In the secondary block at this address.
    By(u64),
}

#[derive(Debug)]
struct Secondary {
    blocks: Vec<u64>,
    /// A bit for each page that was written.
    written: Vec<u8>,
}

/// An entry of a data block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    run: usize,
    block: u64,
    entry: u64,
}

/// What is fetched to read entries: where it is, how long, and where its entries begin.
#[derive(Debug, Clone, Copy)]
struct Piece {
    address: u64,
    length: u64,
    entries_at: u64,
}

/// A piece, and of the wanted chunks in it the offsets and the places of their entries.
#[derive(Debug)]
struct Wanted {
    piece: Piece,
    entries: Vec<(Vec<u64>, u64)>,
}

impl ExtensibleArray {
    pub(super) fn new(address: u64) -> Self {
        Self { address, head: OnceCell::new(), secondary: Pieces::new(), data: Pieces::new() }
    }

    pub(super) async fn find(
        &self,
        chunks: &[&[u64]],
        chunked: &Chunked,
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<ChunkPlaces> {
        let mut found: ChunkPlaces = HashMap::new();
        let head = self.head.get_or_try_init(|| Head::read(self.address, chunked, file, store)).await?;
        let weights = weights(chunked);
        let mut spots: Vec<(Vec<u64>, Spot)> = Vec::new();
        for chunk in chunks {
            let number = chunk.iter().zip(&weights).fold(0u64, |sum, (place, weight)| sum.saturating_add(place.saturating_mul(*weight)));
            match head.inline.get(usize::try_from(number).unwrap_or(usize::MAX)) {
                Some(place) => found.extend(place.map(|place| (chunked.offsets(chunk), place))),
                None => spots.extend(spot(&head.runs, number - head.inline.len() as u64).map(|spot| (chunked.offsets(chunk), spot))),
            }
        }
        let secondary = self.secondary(head, &spots, file, store).await?;
        let mut pieces: BTreeMap<u64, Wanted> = BTreeMap::new();
        for (offsets, spot) in spots {
            let piece = head.piece(spot, &secondary, file).map_err(|error| file.unread(error, self.address))?;
            if let Some((piece, entry)) = piece {
                pieces.entry(piece.address).or_insert_with(|| Wanted { piece, entries: Vec::new() }).entries.push((offsets, entry));
            }
        }
        let read = stream::iter(pieces.into_values()).map(|Wanted { piece, entries }| async move {
            let bytes = self.data.get(piece.address, data(piece, file, store)).await?;
            let place = |(offsets, entry): (Vec<u64>, u64)| {
                let mut cursor = Cursor::new(&bytes);
                cursor.set_position(piece.entries_at + entry * head.form.width);
                Ok(head.form.entry.read(&mut cursor, chunked, file)?.map(|place| (offsets, place)))
            };
            let places = entries.into_iter().filter_map(|wanted| place(wanted).transpose()).collect::<Result<ChunkPlaces, Hdf5Error>>();
            places.map_err(|error| file.unread(error, piece.address))
        });
        let read: Vec<ChunkPlaces> = read.buffered(CONCURRENT_PIECES).try_collect().await?;
        found.extend(read.into_iter().flatten());
        Ok(found)
    }

    /// The secondary blocks that name the data blocks of `spots`, by run.
    async fn secondary(
        &self,
        head: &Head,
        spots: &[(Vec<u64>, Spot)],
        file: &FileFacts,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<HashMap<usize, Arc<Secondary>>> {
        let mut runs: Vec<usize> = spots.iter().map(|(_, spot)| spot.run).collect();
        runs.sort_unstable();
        runs.dedup();
        let named = runs.into_iter().filter_map(|run| match head.runs[run].named {
            Named::By(address) => file.is_defined(address).then_some((run, address)),
            Named::At(_) => None,
        });
        let read = stream::iter(named).map(|(run, address)| async move {
            let read = Secondary::read(address, &head.runs[run], head.form, file, store);
            Ok((run, self.secondary.get(address, read).await?))
        });
        read.buffered(CONCURRENT_PIECES).try_collect().await
    }
}

/// How far apart neighbours along each dimension are numbered: the dimension that grows is the slowest, and the others count up to what
/// they can grow to.
fn weights(chunked: &Chunked) -> Vec<u64> {
    let rank = chunked.shape.len();
    let most = chunked.most.as_ref().filter(|most| most.len() == rank);
    let slowest = most.and_then(|most| most.iter().position(|most| *most == UNLIMITED)).unwrap_or(0);
    let mut weights = vec![1u64; rank];
    let mut weight = 1u64;
    for axis in (0..rank).rev().filter(|axis| *axis != slowest) {
        weights[axis] = weight;
        let extent = most.map(|most| most[axis]).filter(|most| *most != UNLIMITED).unwrap_or(0).max(chunked.shape[axis]);
        weight = weight.saturating_mul(extent.div_ceil(u64::from(chunked.chunk[axis])));
    }
    if let Some(slowest) = weights.get_mut(slowest) {
        *slowest = weight;
    }
    weights
}

/// Where an entry is, of those behind the inline ones.
fn spot(runs: &[Run], mut number: u64) -> Option<Spot> {
    for (run, Run { entries, blocks, .. }) in runs.iter().enumerate() {
        let all = entries.saturating_mul(*blocks);
        if number < all {
            return Some(Spot { run, block: number / entries, entry: number % entries });
        }
        number -= all;
    }
    None
}

/// The bytes of a data block or page.
async fn data(piece: Piece, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Bytes> {
    let bytes = file.piece(piece.address, piece.length, store).await?;
    let check = || {
        if piece.entries_at > 0 && !bytes.starts_with(b"EADB") {
            return Err(Hdf5Error::InvalidExtensibleArraySignature { context: "data block" });
        }
        check(&bytes)
    };
    check().map_err(|error| file.unread(error, piece.address))?;
    Ok(bytes)
}

impl Form {
    /// The pages of a data block of `entries`; 0 if it is stored in one piece.
    fn pages(&self, entries: u64) -> u64 {
        if self.page == 0 || entries <= self.page { 0 } else { entries.div_ceil(self.page) }
    }
}

impl Head {
    async fn read(address: u64, chunked: &Chunked, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Self> {
        let length = 12 + 6 * u64::from(file.length_size) + u64::from(file.offset_size) + CHECKSUM;
        let bytes = file.piece(address, length, store).await?;
        let (form, inline, mut runs, direct, block) = Self::header(&bytes, file).map_err(|error| file.unread(error, address))?;
        let named: u64 = runs.iter().take(direct).map(|run| run.blocks).sum::<u64>() + (runs.len() - direct) as u64;
        let length = 6 + u64::from(file.offset_size) * (1 + named) + inline * form.width + CHECKSUM;
        let bytes = file.piece(block, length, store).await?;
        let parse = || {
            if !bytes.starts_with(b"EAIB\0") {
                return Err(Hdf5Error::InvalidExtensibleArraySignature { context: "index block" });
            }
            check(&bytes)?;
            let mut cursor = Cursor::new(&bytes);
            cursor.set_position(6 + u64::from(file.offset_size));
            let inline = (0..inline).map(|_| form.entry.read(&mut cursor, chunked, file)).collect::<Result<Vec<_>, _>>()?;
            for (place, run) in runs.iter_mut().enumerate() {
                run.named = match place < direct {
                    true => Named::At((0..run.blocks).map(|_| cursor.read_offset(file.offset_size)).collect::<Result<_, _>>()?),
                    false => Named::By(cursor.read_offset(file.offset_size)?),
                };
            }
            Ok(Self { form, inline, runs })
        };
        parse().map_err(|error| file.unread(error, block))
    }

    /// How entries are stored, how many of them are in the index block, the runs and how many of them the index block names itself, and
    /// where that block lies.
    fn header(bytes: &[u8], file: &FileFacts) -> Result<(Form, u64, Vec<Run>, usize, u64), Hdf5Error> {
        if !bytes.starts_with(b"EAHD\0") {
            return Err(Hdf5Error::InvalidExtensibleArraySignature { context: "header" });
        }
        check(bytes)?;
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(5);
        let filtered = cursor.read_u8()? == 1;
        let width = u64::from(cursor.read_u8()?);
        let bits = cursor.read_u8()?;
        let inline = cursor.read_u8()?;
        let (shortest, fewest, page_bits) = (cursor.read_u8()?, cursor.read_u8()?, cursor.read_u8()?);
        cursor.skip(6 * usize::from(file.length_size))?;
        let block = cursor.read_offset(file.offset_size)?;
        let levels = u32::from(bits).checked_sub(shortest.trailing_zeros());
        let (Some(entry), Some(levels), true, true) = (
            Entry::of(width, filtered, file),
            levels,
            bits <= 64 && page_bits < 64,
            shortest.is_power_of_two() && fewest.is_power_of_two(),
        ) else {
            return Err(Hdf5Error::InvalidData("an extensible array with parameters that no chunks have".into()));
        };
        let run =
            |level: u32| Run { entries: u64::from(shortest) << level.div_ceil(2), blocks: 1 << (level / 2), named: Named::At(vec![]) };
        let runs: Vec<Run> = (0..=levels).map(run).collect();
        let direct = (2 * fewest.trailing_zeros() as usize).min(runs.len());
        let form = Form {
            entry,
            width,
            prefix: 6 + u64::from(file.offset_size) + u64::from(bits.div_ceil(8)),
            page: if page_bits == 0 { 0 } else { 1 << page_bits },
        };
        Ok((form, u64::from(inline), runs, direct, block))
    }

    /// What to fetch for an entry, and its place there; `None` if it was never written.
    fn piece(&self, spot: Spot, secondary: &HashMap<usize, Arc<Secondary>>, file: &FileFacts) -> Result<Option<(Piece, u64)>, Hdf5Error> {
        let Form { width, prefix, page, .. } = self.form;
        let run = &self.runs[spot.run];
        let secondary = secondary.get(&spot.run);
        let blocks = match (&run.named, secondary) {
            (Named::At(blocks), _) => blocks,
            (Named::By(_), Some(secondary)) => &secondary.blocks,
            (Named::By(_), None) => return Ok(None),
        };
        let Some(address) = blocks.get(spot.block as usize).copied().filter(|address| file.is_defined(*address)) else { return Ok(None) };
        let pages = self.form.pages(run.entries);
        if pages == 0 {
            let length = prefix + run.entries.saturating_mul(width).saturating_add(CHECKSUM);
            return Ok(Some((Piece { address, length, entries_at: prefix }, spot.entry)));
        }
        let Some(secondary) = secondary else {
            return Err(Hdf5Error::InvalidData("an extensible array whose index block names a data block of pages".into()));
        };
        let number = spot.entry / page;
        if !secondary.is_written(spot.block * pages + number) {
            return Ok(None);
        }
        let length = page * width + CHECKSUM;
        let address = address.saturating_add(prefix + CHECKSUM).saturating_add(number.saturating_mul(length));
        Ok(Some((Piece { address, length, entries_at: 0 }, spot.entry % page)))
    }
}

impl Secondary {
    async fn read(address: u64, run: &Run, form: Form, file: &FileFacts, store: &Arc<dyn ObjectStore>) -> Result<Self> {
        let bitmap = run.blocks.saturating_mul(form.pages(run.entries).div_ceil(8));
        let names = run.blocks.saturating_mul(u64::from(file.offset_size));
        let bytes = file.piece(address, form.prefix.saturating_add(bitmap).saturating_add(names).saturating_add(CHECKSUM), store).await?;
        let parse = || {
            if !bytes.starts_with(b"EASB\0") {
                return Err(Hdf5Error::InvalidExtensibleArraySignature { context: "secondary block" });
            }
            check(&bytes)?;
            let mut cursor = Cursor::new(&bytes);
            cursor.set_position(form.prefix);
            let written = cursor.read_bytes(bitmap as usize)?.to_vec();
            let blocks = (0..run.blocks).map(|_| cursor.read_offset(file.offset_size)).collect::<Result<_, _>>()?;
            Ok(Self { blocks, written })
        };
        parse().map_err(|error| file.unread(error, address))
    }

    /// Whether a page was written; the first is the highest bit of the first byte.
    fn is_written(&self, page: u64) -> bool {
        self.written.get((page / 8) as usize).is_some_and(|byte| byte & (0x80 >> (page % 8)) != 0)
    }
}

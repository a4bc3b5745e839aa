//! Filters beside those of the parser: LZF, bzip2 and Zstandard.

use std::io::Read;

use hdf5_reader::error::Error;
use hdf5_reader::filters::FilterRegistry;
use hdf5_reader::messages::filter_pipeline::FilterDescription;

const LZF: u16 = 32_000;
const BZIP2: u16 = 307;
const ZSTD: u16 = 32_015;
/// Those of the parser.
const BUILT_IN: [u16; 7] = [1, 2, 3, 4, 5, 6, 32_004];

/// The registered names of filters that people meet.
const NAMES: [(u16, &str); 12] = [
    (307, "bzip2"),
    (32_000, "LZF"),
    (32_001, "Blosc"),
    (32_008, "bitshuffle"),
    (32_013, "ZFP"),
    (32_015, "Zstandard"),
    (32_016, "HTJ2K"),
    (32_017, "SZ"),
    (32_024, "SZ3"),
    (32_026, "Blosc2"),
    (32_028, "SPERR"),
    (32_012, "JPEG-LS"),
];

/// The parser's filters and ours.
pub(super) fn registry() -> FilterRegistry {
    let mut registry = FilterRegistry::new();
    registry.register(LZF, Box::new(|filter, data, _| lzf(filter, data)));
    registry.register(BZIP2, Box::new(|_, data, _| read_all(bzip2::read::BzDecoder::new(data))));
    registry.register(ZSTD, Box::new(|_, data, _| zstd::stream::decode_all(data).map_err(Error::Io)));
    registry
}

/// Whether data that passed through the filter can be read.
pub(super) fn is_known(id: u16) -> bool {
    BUILT_IN.contains(&id) || [LZF, BZIP2, ZSTD].contains(&id)
}

/// What to call a filter.
pub(super) fn name(filter: &FilterDescription) -> String {
    let known = NAMES.iter().find(|(id, _)| *id == filter.id).map(|(_, name)| (*name).to_owned());
    let own = filter.name.as_ref().map(|name| name.trim_end_matches('\0').to_owned()).filter(|name| !name.is_empty());
    known.or(own).map_or_else(|| filter.id.to_string(), |name| format!("{name} ({})", filter.id))
}

fn read_all(mut stream: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(Error::Io)?;
    Ok(bytes)
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

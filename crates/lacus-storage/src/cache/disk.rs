//! Blocks on disk: segments of many blocks each, the one that was used longest ago goes first.
//!
//! A segment is two files: `N.blocks` holds bytes, `N.index` says of which objects they are. A block is there once its line is; a block whose
//! bytes don't have the checksum of its line is dropped when it is read. So nothing that ends a process in between, and nothing that
//! changes the files, gives wrong bytes.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::contents::Contents;
use super::entry::{self, Block, FORM, Line, Version};
use super::ranges::cut;
use crate::reads::held;

/// Blocks end at the multiples of this. A block is read and checked as a whole, so a small read should not need a large one; and each takes
/// some 100 bytes of memory, so there should not be too many: 40,000 in 10 GiB.
pub(crate) const BLOCK: u64 = 256 * 1024;
/// Small reads are blocks of their own. So that memory is bounded by the bound on disk, there are at most as many as if each had this length.
const SMALLEST: u64 = 32 * 1024;
/// What is used last is kept by segment: the more there are, the better is told what that is.
const SEGMENTS: u64 = 64;
const LARGEST_SEGMENT: u64 = 64 * 1024 * 1024;
/// Bytes that may wait to be written. When the disk is slower than the network, queries don't wait for it: what comes then is not kept.
const WAITING: u64 = 64 * 1024 * 1024;
/// How long nothing is written after the disk refused to.
const PAUSE: Duration = Duration::from_secs(60);
/// A process that is ending may hold the lock a little longer.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

const LOCK: &str = "lock";
const BLOCKS: &str = "blocks";
const INDEX: &str = "index";

/// The blocks of one folder, which belongs to this process until this is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    bound: u64,
    contents: Mutex<Contents>,
    writer: Mutex<Writer>,
    waiting: AtomicU64,
    paused: Mutex<Option<(Instant, String)>>,
    _lock: File,
}

/// Where the next block goes.
#[derive(Debug, Default)]
struct Writer {
    last: u32,
    open: Option<Open>,
}

/// The segment that grows.
#[derive(Debug)]
struct Open {
    number: u32,
    blocks: File,
    index: File,
    /// Bytes in each.
    length: u64,
    index_length: u64,
    count: u64,
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

impl Disk {
    /// Opens a folder, which is made if it isn't there, and drops from it what is more than `bound` bytes.
    pub(crate) fn open(folder: &Path, bound: u64) -> Result<Self, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} `{}`: {error}", folder.display());
        // What is cached may be read by whoever may read the objects; nobody else is let in.
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed("can't make the folder", &error))?;
        let lock = lock(folder)?;
        let mut contents = Contents::default();
        for number in segments(folder).map_err(|error| failed("can't read the folder", &error))? {
            match read_index(folder, number) {
                Some((bytes, lines)) if !lines.is_empty() => contents.add(number, bytes, lines),
                _ => remove(folder, number),
            }
        }
        let writer = Mutex::new(Writer { last: contents.last(), open: None });
        let (contents, waiting) = (Mutex::new(contents), AtomicU64::new(0));
        let disk = Self { folder: folder.to_owned(), bound, contents, writer, waiting, paused: Mutex::default(), _lock: lock };
        disk.make_room(0, None);
        Ok(disk)
    }

    /// The blocks that hold some of `wanted`, in order.
    pub(crate) fn find(&self, of: &Version, wanted: &Range<u64>) -> Vec<(u64, Block)> {
        held(&self.contents).find(of, wanted)
    }

    /// Reads the parts of `wanted` that `found` holds: one piece for blocks that follow one another. A block that can't be read, or isn't
    /// what was written, is forgotten, and its piece left out. Blocks the thread.
    pub(crate) fn read(&self, of: &Version, wanted: &Range<u64>, found: &[(u64, Block)]) -> Vec<(u64, Bytes)> {
        let mut pieces = Vec::new();
        let runs = found.chunk_by(|(start, block), (next, _)| block.range(*start).end == *next);
        for run in runs {
            let mut bytes = Vec::new();
            let first = run.first().map_or(0, |(start, _)| *start).max(wanted.start);
            match run.iter().find(|(start, block)| self.read_block(*start, block, wanted, &mut bytes).is_err()) {
                None => pieces.push((first, Bytes::from(bytes))),
                Some((start, block)) => held(&self.contents).forget(of, *start, block),
            }
        }
        pieces
    }

    /// Adds to `bytes` what of `wanted` is in one block.
    fn read_block(&self, start: u64, block: &Block, wanted: &Range<u64>, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = File::open(path(&self.folder, block.segment, BLOCKS))?;
        let (before, length) = (bytes.len(), block.length as usize);
        bytes.resize(before + length, 0);
        file.read_exact_at(&mut bytes[before..], block.at)?;
        if entry::checksum(&bytes[before..]) != block.checksum {
            return Err(io::Error::other("the block isn't what was written"));
        }
        let range = block.range(start);
        bytes.truncate(before + length - range.end.saturating_sub(wanted.end) as usize);
        bytes.drain(before..before + wanted.start.saturating_sub(range.start) as usize);
        Ok(())
    }

    /// Keeps what isn't there of `bytes`, which begin at `start` of the object, if the disk takes it. Blocks the thread.
    pub(crate) fn keep(&self, of: &Version, start: u64, bytes: &Bytes) {
        let length = bytes.len() as u64;
        if self.warning().is_none() && self.waiting.fetch_add(length, Ordering::Relaxed) <= WAITING {
            let mut writer = held(&self.writer);
            let missing = held(&self.contents).missing(of, &(start..start + length));
            let pieces = missing.iter().flat_map(|range| cut(range, BLOCK));
            let written = pieces.map(|piece| (piece.start, bytes.slice((piece.start - start) as usize..(piece.end - start) as usize)));
            if let Err(error) = self.write(&mut writer, of, &written.collect::<Vec<_>>()) {
                if let Some(open) = writer.open.take() {
                    // What was begun takes no space. If that can't be had either, the folder is put in order when it is opened next.
                    let _ = (open.blocks.set_len(open.length), open.index.set_len(open.index_length));
                }
                *held(&self.paused) = Some((Instant::now() + PAUSE, error.to_string()));
            }
        }
        self.waiting.fetch_sub(length, Ordering::Relaxed);
    }

    /// Why nothing is written now.
    pub(crate) fn warning(&self) -> Option<String> {
        let mut paused = held(&self.paused);
        if paused.as_ref().is_some_and(|(until, _)| *until <= Instant::now()) {
            *paused = None;
        }
        paused.as_ref().map(|(_, why)| format!("the block cache keeps nothing more in `{}` for now: {why}", self.folder.display()))
    }

    fn write(&self, writer: &mut Writer, of: &Version, blocks: &[(u64, Bytes)]) -> io::Result<()> {
        for (start, bytes) in blocks {
            self.make_room(bytes.len() as u64, writer.open.as_ref().map(|open| open.number));
            let open = self.open_segment(writer, bytes.len() as u64)?;
            let block = Block { segment: open.number, at: open.length, length: bytes.len() as u32, checksum: entry::checksum(bytes) };
            let mut line = Vec::new();
            entry::write(&mut line, of, *start, &block);
            open.blocks.write_all_at(bytes, open.length)?;
            open.index.write_all_at(&line, open.index_length)?;
            open.length += bytes.len() as u64;
            open.index_length += line.len() as u64;
            open.count += 1;
            held(&self.contents).insert(of, *start, block, line.len() as u64);
        }
        Ok(())
    }

    /// The segment that takes so many bytes more.
    fn open_segment<'a>(&self, writer: &'a mut Writer, more: u64) -> io::Result<&'a mut Open> {
        let most = (self.bound / SEGMENTS).clamp(BLOCK, LARGEST_SEGMENT);
        let most_blocks = self.bound / SEGMENTS / SMALLEST;
        let number = writer.last + 1;
        writer.open.take_if(|open| open.length + more > most || open.count >= most_blocks);
        if writer.open.is_none() {
            let create =
                |what| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path(&self.folder, number, what));
            let (blocks, index) = (create(BLOCKS)?, create(INDEX)?);
            index.write_all_at(FORM, 0)?;
            writer.last = number;
            writer.open = Some(Open { number, blocks, index, length: 0, index_length: FORM.len() as u64, count: 0 });
            held(&self.contents).add(number, FORM.len() as u64, Vec::new());
        }
        writer.open.as_mut().ok_or_else(|| io::Error::other("no segment is open"))
    }

    /// Drops the segments that were used longest ago, but for the one that grows, until so many bytes more are within the bound.
    fn make_room(&self, more: u64, growing: Option<u32>) {
        loop {
            let mut contents = held(&self.contents);
            let Usage { bytes, blocks } = contents.usage();
            if bytes + more <= self.bound && blocks < self.bound / SMALLEST {
                return;
            }
            let Some(oldest) = contents.oldest(growing) else { return };
            contents.remove(oldest);
            drop(contents);
            remove(&self.folder, oldest);
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.drop_segments(|_| true);
    }

    /// Drops the blocks of an object, or of all below it, and with them those that share their segments: what is dropped must not be back
    /// after a restart.
    pub(crate) fn forget(&self, object: &str) {
        let below =
            |other: &str| other.strip_prefix(object).is_some_and(|rest| rest.is_empty() || object.ends_with('\n') || rest.starts_with('/'));
        self.drop_segments(below);
    }

    fn drop_segments(&self, holding: impl Fn(&str) -> bool) {
        let mut writer = held(&self.writer);
        writer.open = None;
        let numbers = held(&self.contents).holding(holding);
        for number in numbers {
            held(&self.contents).remove(number);
            remove(&self.folder, number);
        }
    }
}

/// What lies in a folder that another process may be using.
pub(crate) fn look(folder: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for number in segments(folder)? {
        let length = |what| path(folder, number, what).metadata().map_or(0, |file| file.len());
        usage.bytes += length(BLOCKS) + length(INDEX);
        usage.blocks += read_index(folder, number).map_or(0, |(_, lines)| lines.len() as u64);
    }
    Ok(usage)
}

/// Whether a process holds the lock of a folder.
pub(crate) fn in_use(folder: &Path) -> bool {
    let tried = File::open(folder.join(LOCK)).map(|file| file.try_lock_shared());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File, String> {
    let failed = |error: &io::Error| format!("can't lock the folder `{}`: {error}", folder.display());
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK)).map_err(|error| failed(&error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
    Err(format!("another process uses the folder `{}`", folder.display()))
}

fn path(folder: &Path, segment: u32, what: &str) -> PathBuf {
    folder.join(format!("{segment:08}.{what}"))
}

/// The numbers of the segments of a folder, in order. Files that are not of a cache are left alone.
fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.')).filter(|(_, what)| [BLOCKS, INDEX].contains(what));
        numbers.extend(parts.filter(|(number, _)| number.len() == 8).and_then(|(number, _)| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The bytes of both files of a segment, and the blocks that its index names and that are there. `None` for what is no index.
fn read_index(folder: &Path, segment: u32) -> Option<(u64, Vec<Line>)> {
    let index = std::fs::read(path(folder, segment, INDEX)).ok()?;
    let length = path(folder, segment, BLOCKS).metadata().ok()?.len();
    let mut rest = index.strip_prefix(FORM)?;
    let mut lines = Vec::new();
    while let Some((of, start, block, after)) = entry::read(rest, segment) {
        if block.at + u64::from(block.length) <= length {
            lines.push((of, start, block));
        }
        rest = after;
    }
    Some((length + index.len() as u64, lines))
}

/// Removes the files of a segment. One that can't be removed is found, and tried again, when the folder is opened next.
fn remove(folder: &Path, segment: u32) {
    for what in [INDEX, BLOCKS] {
        let _ = std::fs::remove_file(path(folder, segment, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    const BOUND: u64 = 16 << 20;

    fn version(version: &str) -> Version {
        Version { object: "s3 https://lab bucket\na".into(), version: version.into() }
    }

    /// Bytes that differ from place to place.
    fn numbers(start: u64, length: u64) -> Bytes {
        (start..start + length).map(|place| (place * 7 + place / 251) as u8).collect()
    }

    fn read(disk: &Disk, of: &Version, wanted: Range<u64>) -> Vec<(u64, Bytes)> {
        disk.read(of, &wanted, &disk.find(of, &wanted))
    }

    #[test]
    fn what_was_kept_is_read_after_a_restart_too() -> TestResult {
        let folder = tempfile::tempdir()?;
        let of = version("1");
        let check = |disk: &Disk| {
            assert_eq!(read(disk, &of, 1000..2 * BLOCK), [(1000, numbers(1000, 2 * BLOCK - 1000))]);
            assert_eq!(read(disk, &of, 3 * BLOCK - 1..5 * BLOCK), [(3 * BLOCK - 1, numbers(3 * BLOCK - 1, 101))]);
            assert!(read(disk, &version("2"), 0..BLOCK).is_empty());
        };
        let disk = Disk::open(folder.path(), BOUND)?;
        disk.keep(&of, 500, &numbers(500, BLOCK));
        disk.keep(&of, 100, &numbers(100, 3 * BLOCK));
        check(&disk);
        assert!(Disk::open(folder.path(), BOUND).is_err_and(|why| why.contains("another process")) && in_use(folder.path()));
        drop(disk);
        let usage = look(folder.path())?;
        check(&Disk::open(folder.path(), BOUND)?);
        assert!(usage.bytes > 3 * BLOCK && usage.bytes < 3 * BLOCK + 2000 && usage == look(folder.path())? && !in_use(folder.path()));
        Ok(())
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_old_one() -> TestResult {
        let folder = tempfile::tempdir()?;
        let disk = Disk::open(folder.path(), BOUND)?;
        disk.keep(&version("1"), 0, &numbers(0, 100));
        disk.keep(&version("2"), 50, &numbers(0, 100));
        assert!(read(&disk, &version("1"), 0..100).is_empty());
        assert_eq!(read(&disk, &version("2"), 0..100), [(50, numbers(0, 50))]);
        drop(disk);
        let disk = Disk::open(folder.path(), BOUND)?;
        assert!(read(&disk, &version("1"), 0..100).is_empty() && !read(&disk, &version("2"), 0..100).is_empty());
        Ok(())
    }

    #[test]
    fn the_bound_holds_and_what_was_used_last_stays() -> TestResult {
        let folder = tempfile::tempdir()?;
        let disk = Disk::open(folder.path(), BOUND)?;
        let of = |number: u64| Version { object: format!("{number}").into(), version: "1".into() };
        let length = 200 * 1024;
        for number in 0..200 {
            disk.keep(&of(number), 0, &numbers(number, length));
            assert_eq!(read(&disk, &of(0), 10..20), [(10, numbers(10, 10))], "{number}");
            assert!(look(folder.path())?.bytes <= BOUND);
        }
        assert!(read(&disk, &of(1), 0..length).is_empty() && !read(&disk, &of(199), 0..length).is_empty());
        for number in 0..3000 {
            disk.keep(&of(number), 0, &numbers(number, 10));
        }
        assert!(look(folder.path())?.blocks <= BOUND / SMALLEST + 1);
        drop(disk);
        let smaller = Disk::open(folder.path(), BOUND / 4)?;
        assert!(look(folder.path())?.bytes <= BOUND / 4);
        smaller.clear();
        assert_eq!(look(folder.path())?, Usage::default());
        smaller.keep(&of(1), 0, &numbers(1, length));
        assert_eq!(read(&smaller, &of(1), 0..5), [(0, numbers(1, 5))]);
        Ok(())
    }

    /// Whatever becomes of the files, what is read is what was kept, or nothing.
    #[test]
    fn changed_files_never_give_wrong_bytes() -> TestResult {
        let of = version("1");
        let right = numbers(0, 3 * BLOCK);
        let change = |what: &str, change: &dyn Fn(&mut Vec<u8>)| -> Result<usize, Box<dyn std::error::Error>> {
            let folder = tempfile::tempdir()?;
            let disk = Disk::open(folder.path(), BOUND)?;
            disk.keep(&of, 0, &right);
            let files: Vec<_> = segments(folder.path())?.into_iter().map(|segment| path(folder.path(), segment, what)).collect();
            for file in files {
                let mut bytes = std::fs::read(&file)?;
                change(&mut bytes);
                std::fs::write(&file, bytes)?;
            }
            let mut found = 0;
            let mut check = |disk: &Disk| {
                let pieces = [0..10, BLOCK - 5..BLOCK + 5, 2 * BLOCK + 7..3 * BLOCK].map(|wanted| read(disk, &of, wanted));
                for (start, bytes) in pieces.into_iter().flatten() {
                    assert_eq!(bytes, right.slice(start as usize..start as usize + bytes.len()), "{what}");
                    found += 1;
                }
            };
            check(&disk);
            check(&disk);
            drop(disk);
            check(&Disk::open(folder.path(), BOUND)?);
            Ok(found)
        };
        assert_eq!(change(BLOCKS, &|_| ())?, 9);
        assert_eq!(change(BLOCKS, &Vec::clear)?, 0);
        assert_eq!(change(BLOCKS, &|bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1))?, 0);
        for place in [0, 7, 8, 20, 30, 60, 200] {
            change(BLOCKS, &|bytes| bytes[place] ^= 1)?;
            change(BLOCKS, &|bytes| bytes.truncate(place))?;
            change(INDEX, &|bytes| bytes[place.min(70)] ^= 1)?;
            change(INDEX, &|bytes| bytes.truncate(place.min(70)))?;
        }
        Ok(())
    }

    #[test]
    fn a_full_disk_is_told_and_what_is_there_stays() -> TestResult {
        let folder = tempfile::tempdir()?;
        let disk = Disk::open(folder.path(), BOUND)?;
        disk.keep(&version("1"), 0, &numbers(0, BLOCK));
        assert_eq!(disk.warning(), None);
        // The next segment is on a device that is always full.
        std::os::unix::fs::symlink("/dev/full", path(folder.path(), 2, BLOCKS))?;
        disk.keep(&version("1"), BLOCK, &numbers(BLOCK, BLOCK));
        assert!(disk.warning().is_some_and(|why| why.contains("No space left on device")), "{:?}", disk.warning());
        assert_eq!(read(&disk, &version("1"), 0..2 * BLOCK), [(0, numbers(0, BLOCK))]);
        Ok(())
    }

    #[test]
    fn what_is_forgotten_is_not_back_after_a_restart() -> TestResult {
        let folder = tempfile::tempdir()?;
        let of = |path: &str| Version { object: format!("s3 lab\n{path}").into(), version: "1".into() };
        let disk = Disk::open(folder.path(), BOUND)?;
        for path in ["a/b/c", "a/bc", "d"] {
            disk.keep(&of(path), 0, &numbers(0, BLOCK));
        }
        disk.forget("s3 lab\na/b");
        let there = |disk: &Disk| ["a/b/c", "a/bc", "d"].map(|path| !read(disk, &of(path), 0..10).is_empty());
        assert_eq!(there(&disk), [false, true, true]);
        drop(disk);
        let disk = Disk::open(folder.path(), BOUND)?;
        assert_eq!(there(&disk), [false, true, true]);
        disk.forget("s3 lab\n");
        assert_eq!(there(&disk), [false, false, false]);
        Ok(())
    }

    #[test]
    fn files_of_others_are_left_alone() -> TestResult {
        let folder = tempfile::tempdir()?;
        let others = ["notes.txt", "1.blocks", "00000001.index.bak"].map(|name| folder.path().join(name));
        for file in &others {
            std::fs::write(file, "mine")?;
        }
        std::fs::write(folder.path().join("00000007.index"), "no index")?;
        Disk::open(folder.path(), BOUND)?.clear();
        assert!(others.iter().all(|file| file.is_file()) && !folder.path().join("00000007.index").exists());
        Ok(())
    }
}

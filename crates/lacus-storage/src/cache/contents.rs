//! Which blocks there are, in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::disk::Usage;
use super::entry::{Block, Line, Version};
use super::ranges::without;

/// The blocks of all segments. Of each object those of one version are found, the one that was kept last.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    objects: HashMap<Arc<str>, Blocks>,
    segments: BTreeMap<u32, Segment>,
    /// Counts up with each use.
    clock: u64,
}

/// The blocks of one version of an object by where they begin. They don't overlap.
#[derive(Debug)]
struct Blocks {
    version: Arc<str>,
    blocks: BTreeMap<u64, Block>,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    used: u64,
    blocks: Vec<(Arc<str>, u64)>,
}

impl Contents {
    /// Adds a segment with its blocks.
    pub(crate) fn add(&mut self, number: u32, bytes: u64, blocks: Vec<Line>) {
        self.clock += 1;
        self.segments.insert(number, Segment { bytes, used: self.clock, blocks: Vec::new() });
        blocks.into_iter().for_each(|(of, start, block)| self.place(&of, start, block));
    }

    /// Adds a block to a segment that is known, and that became longer by it and by its line in the index.
    pub(crate) fn insert(&mut self, of: &Version, start: u64, block: Block, line: u64) {
        self.place(of, start, block);
        if let Some(segment) = self.segments.get_mut(&block.segment) {
            segment.bytes += u64::from(block.length) + line;
        }
    }

    fn place(&mut self, of: &Version, start: u64, block: Block) {
        let object = self.objects.get_key_value(&of.object).map_or_else(|| Arc::clone(&of.object), |(object, _)| Arc::clone(object));
        if let Some(segment) = self.segments.get_mut(&block.segment) {
            segment.blocks.push((Arc::clone(&object), start));
        }
        let new = || Blocks { version: Arc::clone(&of.version), blocks: BTreeMap::new() };
        let blocks = self.objects.entry(object).or_insert_with(new);
        if blocks.version != of.version {
            *blocks = new();
        }
        blocks.blocks.insert(start, block);
    }

    /// The blocks that hold some of `wanted`, in order; their segments are used by that.
    pub(crate) fn find(&mut self, of: &Version, wanted: &Range<u64>) -> Vec<(u64, Block)> {
        let found = self.overlapping(of, wanted);
        for (_, block) in &found {
            self.clock += 1;
            if let Some(segment) = self.segments.get_mut(&block.segment) {
                segment.used = self.clock;
            }
        }
        found
    }

    fn overlapping(&self, of: &Version, wanted: &Range<u64>) -> Vec<(u64, Block)> {
        let Some(blocks) = self.objects.get(&of.object).filter(|blocks| blocks.version == of.version) else { return Vec::new() };
        let before = blocks.blocks.range(..=wanted.start).next_back().map_or(wanted.start, |(start, _)| *start);
        let overlapping =
            blocks.blocks.range(before..wanted.end.max(before)).filter(|(start, block)| block.range(**start).end > wanted.start);
        overlapping.map(|(start, block)| (*start, *block)).collect()
    }

    /// What of `wanted` is in no block.
    pub(crate) fn missing(&self, of: &Version, wanted: &Range<u64>) -> Vec<Range<u64>> {
        without(wanted, self.overlapping(of, wanted).into_iter().map(|(start, block)| block.range(start)))
    }

    /// Forgets a block, unless another took its place.
    pub(crate) fn forget(&mut self, of: &Version, start: u64, block: &Block) {
        if let Some(blocks) = self.objects.get_mut(&of.object)
            && blocks.blocks.get(&start) == Some(block)
        {
            blocks.blocks.remove(&start);
        }
    }

    /// Forgets a segment with its blocks.
    pub(crate) fn remove(&mut self, number: u32) {
        for (object, start) in self.segments.remove(&number).unwrap_or_default().blocks {
            let Some(blocks) = self.objects.get_mut(&object) else { continue };
            if blocks.blocks.get(&start).is_some_and(|block| block.segment == number) {
                blocks.blocks.remove(&start);
            }
            if blocks.blocks.is_empty() {
                self.objects.remove(&object);
            }
        }
    }

    /// The segment that was used longest ago, but for one.
    pub(crate) fn oldest(&self, except: Option<u32>) -> Option<u32> {
        let others = self.segments.iter().filter(|(number, _)| Some(**number) != except);
        others.min_by_key(|(_, segment)| segment.used).map(|(number, _)| *number)
    }

    /// The segments that hold a block of one of these objects, or hold nothing.
    pub(crate) fn holding(&self, which: impl Fn(&str) -> bool) -> Vec<u32> {
        let holds = |segment: &Segment| segment.blocks.is_empty() || segment.blocks.iter().any(|(object, _)| which(object));
        self.segments.iter().filter(|(_, segment)| holds(segment)).map(|(number, _)| *number).collect()
    }

    /// The highest number of a segment.
    pub(crate) fn last(&self) -> u32 {
        self.segments.last_key_value().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn usage(&self) -> Usage {
        let sum = |of: fn(&Segment) -> u64| self.segments.values().map(of).sum();
        Usage { bytes: sum(|segment| segment.bytes), blocks: sum(|segment| segment.blocks.len() as u64) }
    }
}

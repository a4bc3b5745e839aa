//! Ranges of bytes, as sets: what is wanted, what is there, what is missing.

use std::ops::Range;

/// The ranges without overlaps, in order; those that touch are one. Empty ones are left out.
pub(crate) fn union(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| range.start < range.end).cloned().collect();
    sorted.sort_by_key(|range| range.start);
    together(sorted, 0)
}

/// Ranges in order, with those as one that no more than `gap` bytes lie between.
pub(crate) fn together(sorted: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + gap => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What of `range` lies in none of `others`, which are in order and don't overlap.
pub(crate) fn without(range: &Range<u64>, others: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let (mut left, mut start) = (Vec::new(), range.start);
    for other in others.into_iter().filter(|other| other.start < range.end && other.end > range.start) {
        if start < other.start {
            left.push(start..other.start);
        }
        start = start.max(other.end);
    }
    if start < range.end {
        left.push(start..range.end);
    }
    left
}

/// What two ranges share.
pub(crate) fn both(one: &Range<u64>, other: &Range<u64>) -> Option<Range<u64>> {
    let shared = one.start.max(other.start)..one.end.min(other.end);
    (shared.start < shared.end).then_some(shared)
}

/// `range`, cut at the multiples of `block`.
pub(crate) fn cut(range: &Range<u64>, block: u64) -> impl Iterator<Item = Range<u64>> {
    let (mut start, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let piece = (start < end).then(|| start..end.min((start / block + 1) * block))?;
        start = piece.end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of one range are what is meant")]

    use std::collections::BTreeSet;

    use super::*;

    fn members(ranges: &[Range<u64>]) -> BTreeSet<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    /// Ranges below 60 that a simple generator makes of a seed.
    fn some(seed: u64, count: u64) -> Vec<Range<u64>> {
        let number =
            |place: u64| (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(place.wrapping_mul(0xBF58_476D_1CE4_E5B9)) >> 33) % 50;
        (0..count).map(|place| number(2 * place)..number(2 * place) + number(2 * place + 1) % 10).collect()
    }

    #[test]
    fn the_set_operations_agree_with_sets() {
        for seed in 1..2000 {
            let (many, wanted) = (some(seed, 6), some(seed + 7, 1).remove(0));
            let united = union(&many);
            assert_eq!(members(&united), members(&many), "{many:?}");
            assert!(united.windows(2).all(|pair| pair[0].end < pair[1].start), "{united:?}");
            let missing = without(&wanted, united.clone());
            let expected: BTreeSet<u64> = members(std::slice::from_ref(&wanted)).difference(&members(&many)).copied().collect();
            assert_eq!(members(&missing), expected, "{wanted:?} without {united:?}");
            let shared: Vec<_> = united.iter().filter_map(|range| both(range, &wanted)).collect();
            assert_eq!(members(&shared).len() + expected.len(), members(&[wanted]).len());
        }
    }

    #[test]
    fn near_ranges_are_one() {
        assert_eq!(together(vec![0..10, 15..20, 26..30], 5), [0..20, 26..30]);
        assert_eq!(together(Vec::new(), 5), Vec::<Range<u64>>::new());
    }

    #[test]
    fn pieces_end_at_the_blocks() {
        assert_eq!(cut(&(5..25), 10).collect::<Vec<_>>(), [5..10, 10..20, 20..25]);
        assert_eq!(cut(&(10..20), 10).collect::<Vec<_>>(), [10..20]);
        assert_eq!(cut(&(7..7), 10).count(), 0);
    }
}

//! Sums of rows of several numbers: their means, and the sums of their products.

use datafusion_common::Result;

use super::samples::{broken, take_count, take_numbers};
use super::sums::Wide;

/// What is kept of rows of so many numbers: as much of many rows as of few. `Moments` are the same of two, in one place of memory: there may be
/// some for each of many labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cross {
    pub(super) count: u64,
    /// The first row: what is summed is how far others are from it, so that what all have in common costs no digits.
    first: Vec<f64>,
    sums: Vec<Wide>,
    /// The lower triangle, row by row.
    products: Vec<Wide>,
}

/// Where the product of two columns is kept.
fn place(a: usize, b: usize) -> usize {
    let (a, b) = (a.max(b), a.min(b));
    a * (a + 1) / 2 + b
}

impl Cross {
    pub(super) fn new(width: usize) -> Self {
        Self { count: 0, first: vec![0.0; width], sums: vec![Wide::default(); width], products: vec![Wide::default(); place(width, 0)] }
    }

    pub(super) fn width(&self) -> usize {
        self.first.len()
    }

    pub(super) fn size(&self) -> usize {
        self.first.capacity() * size_of::<f64>() + (self.sums.capacity() + self.products.capacity()) * size_of::<Wide>()
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &[f64]) {
        if self.count == 0 {
            // From an infinity nothing is at any distance.
            self.first.iter_mut().zip(row).for_each(|(first, number)| *first = if number.is_finite() { *number } else { 0.0 });
        }
        self.count += 1;
        let apart: Vec<Wide> = row.iter().zip(&self.first).map(|(number, first)| Wide::difference(*number, *first)).collect();
        for (a, x) in apart.iter().enumerate() {
            self.sums[a] = self.sums[a].plus(*x);
            for (b, y) in apart[..=a].iter().enumerate() {
                let sum = &mut self.products[place(a, b)];
                *sum = sum.plus(x.times(*y));
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        let n = Wide::of(other.count as f64);
        let apart: Vec<Wide> = other.first.iter().zip(&self.first).map(|(other, first)| Wide::difference(*other, *first)).collect();
        for a in 0..self.width() {
            for b in 0..=a {
                let moved = apart[a].times(other.sums[b]).plus(apart[b].times(other.sums[a])).plus(n.times(apart[a]).times(apart[b]));
                let sum = &mut self.products[place(a, b)];
                *sum = sum.plus(other.products[place(a, b)]).plus(moved);
            }
        }
        for (a, apart) in apart.iter().enumerate() {
            self.sums[a] = self.sums[a].plus(other.sums[a]).plus(n.times(*apart));
        }
        self.count += other.count;
    }

    pub(super) fn mean(&self, a: usize) -> Wide {
        Wide::of(self.first[a]).plus(self.sums[a].divided(self.count as f64))
    }

    /// The sum of products of differences from the means.
    pub(super) fn centered(&self, a: usize, b: usize) -> Wide {
        self.products[place(a, b)].minus(self.sums[a].times(self.sums[b].divided(self.count as f64)))
    }

    /// The sum of products.
    pub(super) fn plain(&self, a: usize, b: usize) -> Wide {
        let [x, y] = [a, b].map(|place| Wide::of(self.first[place]));
        let n = Wide::of(self.count as f64);
        self.products[place(a, b)].plus(x.times(self.sums[b])).plus(y.times(self.sums[a])).plus(n.times(x).times(y))
    }

    /// As bytes, for another partition of the same engine.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let numbers = self.first.iter().copied().chain(self.sums.iter().chain(&self.products).flat_map(|sum| sum.parts()));
        self.count.to_le_bytes().into_iter().chain(numbers.flat_map(f64::to_le_bytes)).collect()
    }

    /// Adds what another partition kept.
    pub(super) fn merge_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        let mut other = Self::new(self.width());
        other.count = take_count(&mut rest)?;
        other.first = take_numbers(&mut rest, self.width())?;
        for sum in other.sums.iter_mut().chain(&mut other.products) {
            *sum = Wide::of_parts(take_numbers(&mut rest, 2)?.try_into().map_err(|_| broken())?);
        }
        self.merge(&other);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_same_in_one_part_or_in_many() -> Result<()> {
        let rows: Vec<[f64; 3]> =
            (0..500).map(|row| [1e9 + f64::from(row % 7), f64::from(row * row % 11) - 1e6, f64::from(row) / 8.0]).collect();
        let (mut whole, mut parts) = (Cross::new(3), Cross::new(3));
        rows.iter().for_each(|row| whole.add(row));
        for some in rows.chunks(37) {
            let mut part = Cross::new(3);
            some.iter().for_each(|row| part.add(row));
            parts.merge_bytes(&part.bytes())?;
        }
        assert_eq!(whole.count, parts.count);
        for a in 0..3 {
            assert_eq!(whole.mean(a).value(), parts.mean(a).value());
            for b in 0..3 {
                assert_eq!(whole.centered(a, b).value(), parts.centered(a, b).value());
                assert_eq!(whole.plain(a, b).value(), parts.plain(a, b).value());
            }
        }
        let exact: f64 = rows.iter().map(|row| row[2] * row[2]).sum();
        assert_eq!(whole.plain(2, 2).value(), exact);
        Ok(())
    }
}

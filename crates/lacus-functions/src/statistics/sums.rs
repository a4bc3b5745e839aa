//! Sums that keep twice the digits of a double: what is left when two large sums are subtracted is still exact.

/// A number as the sum of two doubles that don't overlap: about 31 digits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wide {
    high: f64,
    low: f64,
}

/// The sum of two doubles and what rounding took from it (Knuth).
fn two_sum(a: f64, b: f64) -> Wide {
    let high = a + b;
    let part = high - a;
    Wide { high, low: (a - (high - part)) + (b - part) }
}

impl Wide {
    pub(super) fn of(number: f64) -> Self {
        Self { high: number, low: 0.0 }
    }

    /// The difference of two doubles, exact.
    pub(super) fn difference(a: f64, b: f64) -> Self {
        two_sum(a, -b).or_plain()
    }

    /// The product of two doubles, exact.
    fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self { high, low: a.mul_add(b, -high) }.or_plain()
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let sum = two_sum(self.high, other.high);
        if !sum.high.is_finite() {
            return Self::of(sum.high);
        }
        let rest = two_sum(self.low, other.low);
        let first = two_sum(sum.high, sum.low + rest.high);
        two_sum(first.high, first.low + rest.low).or_plain()
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self { high: -other.high, low: -other.low })
    }

    pub(super) fn times(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        if !product.high.is_finite() {
            return product;
        }
        two_sum(product.high, product.low + (self.high * other.low + self.low * other.high)).or_plain()
    }

    pub(super) fn divided(self, by: f64) -> Self {
        let first = self.high / by;
        if !first.is_finite() {
            return Self::of(first);
        }
        let rest = self.minus(Self::product(first, by));
        two_sum(first, rest.value() / by).or_plain()
    }

    pub(super) fn over(self, by: Self) -> Self {
        let first = self.high / by.high;
        if !first.is_finite() {
            return Self::of(first);
        }
        let rest = self.minus(by.times(Self::of(first)));
        let second = rest.high / by.high;
        let third = rest.minus(by.times(Self::of(second))).high / by.high;
        let sum = two_sum(first, second);
        two_sum(sum.high, sum.low + third).or_plain()
    }

    pub(super) fn value(self) -> f64 {
        self.high + self.low
    }

    /// Where there is an infinity or NaN, what rounding took from it means nothing.
    fn or_plain(self) -> Self {
        if self.high.is_finite() && self.low.is_finite() { self } else { Self::of(self.high) }
    }

    pub(super) fn parts(self) -> [f64; 2] {
        [self.high, self.low]
    }

    pub(super) fn of_parts([high, low]: [f64; 2]) -> Self {
        Self { high, low }
    }
}

/// A sum of squares, which rounding can bring below 0; NaN stays what it is.
fn not_below_zero(sum: f64) -> f64 {
    if sum < 0.0 { 0.0 } else { sum }
}

/// The moments of pairs of numbers, or of numbers with 0 in the place of the second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) count: u64,
    /// The first pair: what is summed is how far others are from it, so that what all have in common costs no digits.
    first: [f64; 2],
    /// The sums of x, y, x², y² and xy.
    sums: [Wide; 5],
}

impl Moments {
    /// How many numbers one is written as.
    pub(super) const NUMBERS: usize = 12;

    pub(super) fn add(&mut self, x: f64, y: f64) {
        if self.count == 0 {
            // From an infinity nothing is at any distance.
            self.first = [x, y].map(|first| if first.is_finite() { first } else { 0.0 });
        }
        self.count += 1;
        let [x, y] = [Wide::difference(x, self.first[0]), Wide::difference(y, self.first[1])];
        let terms = [x, y, x.times(x), y.times(y), x.times(y)];
        self.sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum = sum.plus(term));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            *self = *other;
            return;
        }
        let n = Wide::of(other.count as f64);
        let [dx, dy] = [0, 1].map(|place| Wide::difference(other.first[place], self.first[place]));
        let [x, y, xx, yy, xy] = other.sums;
        let twice = |distance: Wide, sum: Wide| distance.times(sum).times(Wide::of(2.0));
        let terms = [
            x.plus(n.times(dx)),
            y.plus(n.times(dy)),
            xx.plus(twice(dx, x)).plus(n.times(dx).times(dx)),
            yy.plus(twice(dy, y)).plus(n.times(dy).times(dy)),
            xy.plus(dx.times(y)).plus(dy.times(x)).plus(n.times(dx).times(dy)),
        ];
        self.count += other.count;
        self.sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum = sum.plus(term));
    }

    /// The mean of x, with all its digits.
    pub(super) fn mean(&self) -> Wide {
        Wide::of(self.first[0]).plus(self.sums[0].divided(self.count as f64))
    }

    pub(super) fn mean_x(&self) -> f64 {
        self.mean().value()
    }

    /// The sum of products of differences from the means; of squares never below 0.
    fn centered(&self, product: usize, a: usize, b: usize) -> f64 {
        self.sums[product].minus(self.sums[a].times(self.sums[b].divided(self.count as f64))).value()
    }

    pub(super) fn squares_x(&self) -> f64 {
        not_below_zero(self.centered(2, 0, 0))
    }

    pub(super) fn squares_y(&self) -> f64 {
        not_below_zero(self.centered(3, 1, 1))
    }

    pub(super) fn products(&self) -> f64 {
        self.centered(4, 0, 1)
    }

    /// The variance of x, of a sample.
    pub(super) fn variance_x(&self) -> f64 {
        self.squares_x() / (self.count as f64 - 1.0)
    }

    /// The correlation of x and y.
    pub(super) fn correlation(&self) -> f64 {
        let (x, y) = (self.squares_x(), self.squares_y());
        // One root rounds less than two, unless the product is none.
        let scale = if (x * y).is_normal() { (x * y).sqrt() } else { x.sqrt() * y.sqrt() };
        // Of a constant, and of numbers whose squares are out of range, there is none.
        if scale > 0.0 && scale.is_finite() { (self.products() / scale).clamp(-1.0, 1.0) } else { f64::NAN }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = f64> {
        self.first.into_iter().chain(self.sums.into_iter().flat_map(Wide::parts))
    }

    pub(super) fn of_numbers(count: u64, numbers: &[f64]) -> Self {
        let mut moments = Self { count, ..Self::default() };
        let (first, sums) = numbers.split_at(2.min(numbers.len()));
        moments.first.iter_mut().zip(first).for_each(|(to, from)| *to = *from);
        for (sum, parts) in moments.sums.iter_mut().zip(sums.chunks_exact(2)) {
            *sum = Wide::of_parts([parts[0], parts[1]]);
        }
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_same_in_one_part_or_in_many() {
        let pairs: Vec<(f64, f64)> =
            (0..1000).map(|place| (1e12 + f64::from(place % 7) / 8.0, f64::from(place * place % 11) - 1e6)).collect();
        let mut whole = Moments::default();
        pairs.iter().for_each(|(x, y)| whole.add(*x, *y));
        let mut parts = Moments::default();
        for part in pairs.chunks(37) {
            let mut moments = Moments::default();
            part.iter().for_each(|(x, y)| moments.add(*x, *y));
            let numbers: Vec<f64> = moments.numbers().collect();
            assert_eq!(numbers.len(), Moments::NUMBERS);
            parts.merge(&Moments::of_numbers(moments.count, &numbers));
        }
        assert_eq!(whole.count, parts.count);
        for of in [Moments::mean_x, Moments::squares_x, Moments::squares_y, Moments::products] {
            assert_eq!(of(&whole), of(&parts));
        }
        // The values are multiples of an eighth, so that their variance is known.
        let (n, eighths) = (1000.0, pairs.iter().map(|(x, _)| (x - 1e12) * 8.0));
        let (sum, squares) = eighths.fold((0.0, 0.0), |(sum, squares), value| (sum + value, squares + value * value));
        assert_eq!(whole.squares_x(), (squares - sum * sum / n) / 64.0);
    }

    #[test]
    fn infinities_and_nan_stay_what_they_are() {
        for numbers in [[f64::INFINITY, 1.0], [1.0, f64::INFINITY], [f64::NAN, 1.0], [1.0, f64::NAN]] {
            let mut moments = Moments::default();
            numbers.iter().for_each(|number| moments.add(*number, 0.0));
            assert!(!moments.mean_x().is_finite(), "{numbers:?}");
            assert!(moments.centered(2, 0, 0).is_nan(), "{numbers:?}");
        }
    }
}

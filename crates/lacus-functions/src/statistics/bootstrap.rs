//! Bootstrap intervals: how sure a statistic is, from samples of the sample. A seed makes them the same each time.
//!
//! The samples are those that NumPy's default generator draws with the seed of the values in ascending order, so that results are those of
//! `scipy.stats.bootstrap` of sorted values, which uses the same correction for bias and skewness ("BCa": Efron, "Better bootstrap confidence
//! intervals", 1987).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Scalar, StructArray, UInt64Array};
use arrow::compute::cast;
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDFImpl, Documentation, Signature, TypeSignature, Volatility};
use lacus_core::{Error, Kind, check_wanted, nearest};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::samples::{broken, take_count, take_numbers};
use super::sums::Wide;
use super::{STATISTICS, numbers, refuse_distinct, tails};
use crate::arguments::{is_text, require_numbers};

const NAME: &str = "bootstrap_interval";
const RESAMPLES: u64 = 9999;
const MOST_RESAMPLES: u64 = 1_000_000;
const CONFIDENCE: f64 = 0.95;
/// After so many values that were drawn it is asked whether the result is still wanted.
const AT_ONCE: usize = 1 << 20;

/// What is computed of each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Mean,
    Median,
    Deviation,
    Variance,
}

impl Of {
    const ALL: [(&str, Self); 4] =
        [("mean", Self::Mean), ("median", Self::Median), ("stddev", Self::Deviation), ("variance", Self::Variance)];

    fn named(name: &str) -> Result<Self, Error> {
        if let Some((_, of)) = Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Ok(*of);
        }
        let error = Error::new(Kind::InvalidQuery, format!("`{NAME}` knows no statistic `{name}`"));
        let all = Self::ALL.map(|(name, _)| name);
        Err(match nearest(name, all) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there are {}", all.join(", "))),
        })
    }

    /// Of values, which are put into another order.
    fn of(self, values: &mut [f64]) -> f64 {
        let n = values.len() as f64;
        match self {
            Self::Mean => sum(values.iter().copied()).divided(n).value(),
            Self::Median => {
                let middle = values.len() / 2;
                let is_even = values.len().is_multiple_of(2);
                let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
                let upper = *upper;
                if is_even { halfway(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), upper) } else { upper }
            }
            Self::Variance => squares(values).divided(n - 1.0).value(),
            Self::Deviation => Self::Variance.of(values).sqrt(),
        }
    }

    /// Of all values but one, for each of them; they are in ascending order.
    fn without_each(self, sorted: &[f64]) -> Vec<f64> {
        let (count, n) = (sorted.len(), sorted.len() as f64);
        match self {
            Self::Mean => {
                let all = sum(sorted.iter().copied());
                sorted.iter().map(|value| all.minus(Wide::of(*value)).divided(n - 1.0).value()).collect()
            }
            Self::Median => {
                // Of the others, the value at `place` is the next one from the one that is left out on.
                let at = |out: usize, place: usize| sorted[if place < out { place } else { place + 1 }];
                let middle = (count - 1) / 2;
                let is_even = (count - 1).is_multiple_of(2);
                (0..count).map(|out| if is_even { halfway(at(out, middle - 1), at(out, middle)) } else { at(out, middle) }).collect()
            }
            Self::Variance | Self::Deviation => {
                let mean = sum(sorted.iter().copied()).divided(n);
                let squares = squares(sorted);
                let without = sorted.iter().map(|value| {
                    let away = Wide::of(*value).minus(mean);
                    squares.minus(away.times(away).times(Wide::of(n)).divided(n - 1.0)).divided(n - 2.0).value().max(0.0)
                });
                without.map(|variance| if self == Self::Deviation { variance.sqrt() } else { variance }).collect()
            }
        }
    }
}

fn halfway(a: f64, b: f64) -> f64 {
    0.5 * a + 0.5 * b
}

/// The sum of the squares of how far values are from their mean, with the digits by which equal ones are told.
fn squares(values: &[f64]) -> Wide {
    let mean = sum(values.iter().copied()).divided(values.len() as f64);
    values.iter().fold(Wide::default(), |sum, value| {
        let away = Wide::of(*value).minus(mean);
        sum.plus(away.times(away))
    })
}

fn sum(values: impl Iterator<Item = f64>) -> Wide {
    values.fold(Wide::default(), |sum, value| sum.plus(Wide::of(value)))
}

/// `bootstrap_interval(value, statistic, seed, ...)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Bootstrap {
    signature: Signature,
    documentation: Documentation,
}

impl Bootstrap {
    pub(super) fn new() -> Self {
        let names = Of::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        let what = "How sure a statistic is, whatever the distribution: the interval that holds it, from samples that are drawn of the values with \
             replacement, corrected for bias and skewness (BCa). Gives a structure of `count`, `estimate`, `standard_error`, `low`, `high`. The \
             same seed gives the same result, that of `scipy.stats.bootstrap` of the sorted values with `numpy.random.default_rng(seed)`. \
             Each group begins with the seed. Rows with NULL are left out, NaN gives NaN, and of fewer than three values the result is NULL. \
             Keeps all values in memory.";
        let documentation = Documentation::builder(STATISTICS, what, format!("{NAME}(value, statistic, seed)"))
            .with_alternative_syntax(format!("{NAME}(value, statistic, seed, resamples, confidence)"))
            .with_argument("value", "A number")
            .with_argument("statistic", format!("One of {names}"))
            .with_argument("seed", "A whole number, not negative")
            .with_argument("resamples", format!("How many samples are drawn: {RESAMPLES} if not given"))
            .with_argument("confidence", format!("The part of such intervals that hold the value: {CONFIDENCE} if not given"))
            .with_sql_example(format!(
                "```sql\nSELECT b.estimate, b.low, b.high FROM (SELECT {NAME}(power, 'median', 42) AS b FROM shots)\n```"
            ))
            .build();
        let counts = (3..=5).map(TypeSignature::Any).collect();
        Self { signature: Signature::one_of(counts, Volatility::Immutable), documentation }
    }
}

fn fields() -> Fields {
    let count = Field::new("count", DataType::UInt64, true);
    let numbers = ["estimate", "standard_error", "low", "high"].map(|name| Field::new(name, DataType::Float64, true));
    std::iter::once(count).chain(numbers).collect()
}

impl AggregateUDFImpl for Bootstrap {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if let Some(other) = types.get(1).filter(|of| !is_text(of)) {
            let names = Of::ALL.map(|(name, _)| name).join(", ");
            let error = Error::new(Kind::InvalidQuery, format!("`{NAME}` takes the name of a statistic, and {other} is none"));
            return Err(error.hint(format!("{NAME}(value, 'mean', 42); there are {names}")).into());
        }
        let numbers: Vec<DataType> = types.iter().enumerate().filter(|(place, _)| *place != 1).map(|(_, of)| of.clone()).collect();
        require_numbers(NAME, &numbers)?;
        Ok(DataType::Struct(fields()))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[kept]", args.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(NAME, &args)?;
        Ok(Box::new(Resampling { how: None, values: Vec::new() }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// How samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct How {
    of: Of,
    seed: u64,
    resamples: u64,
    confidence: f64,
}

/// Takes the rows of one group.
#[derive(Debug)]
struct Resampling {
    how: Option<How>,
    values: Vec<f64>,
}

/// Whether a row has a value; an untyped NULL has none.
fn has_value(column: &ArrayRef, row: usize) -> bool {
    column.is_valid(row) && !column.data_type().is_null()
}

impl How {
    fn of_row(values: &[ArrayRef], row: usize) -> Result<Self> {
        let invalid = |message: String| Error::new(Kind::InvalidQuery, message);
        let whole = |place: usize, name: &str| -> Result<Option<u64>> {
            let Some(column) = values.get(place).filter(|column| has_value(column, row)) else { return Ok(None) };
            let number = cast(&column.slice(row, 1), &DataType::Int64)?;
            let wanted = cast(&column.slice(row, 1), &DataType::Float64)?.as_primitive::<Float64Type>().value(0);
            let number = Some(number.as_primitive::<Int64Type>()).filter(|number| number.is_valid(0)).map(|number| number.value(0));
            match number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number as f64 == wanted) {
                Some(number) => Ok(Some(number)),
                None => Err(invalid(format!("the {name} of `{NAME}` is {wanted}, and no whole number from 0 on")).into()),
            }
        };
        let statistic = cast(&values[1].slice(row, 1), &DataType::Utf8)?;
        let Some(statistic) = statistic.as_string::<i32>().iter().next().flatten() else {
            return Err(invalid(format!("`{NAME}` has no statistic")).hint(format!("{NAME}(value, 'mean', 42)")).into());
        };
        let Some(seed) = whole(2, "seed")? else {
            return Err(invalid(format!("`{NAME}` has no seed")).hint(format!("{NAME}(value, 'mean', 42)")).into());
        };
        let resamples = whole(3, "number of samples")?.unwrap_or(RESAMPLES);
        if !(100..=MOST_RESAMPLES).contains(&resamples) {
            return Err(invalid(format!("`{NAME}` draws 100 to {MOST_RESAMPLES} samples, not {resamples}")).into());
        }
        let confidence = match values.get(4).filter(|column| has_value(column, row)) {
            Some(column) => cast(&column.slice(row, 1), &DataType::Float64)?.as_primitive::<Float64Type>().value(0),
            None => CONFIDENCE,
        };
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(invalid(format!("the confidence of `{NAME}` is {confidence}, and not between 0 and 1")).into());
        }
        Ok(Self { of: Of::named(statistic)?, seed, resamples, confidence })
    }

    fn bytes(self) -> Vec<u8> {
        let of = Of::ALL.iter().position(|(_, of)| *of == self.of).unwrap_or_default() as u64;
        [of, self.seed, self.resamples, self.confidence.to_bits()].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn of_bytes(rest: &mut &[u8]) -> Result<Self> {
        let of = usize::try_from(take_count(rest)?).ok().and_then(|place| Of::ALL.get(place)).ok_or_else(broken)?.1;
        Ok(Self { of, seed: take_count(rest)?, resamples: take_count(rest)?, confidence: f64::from_bits(take_count(rest)?) })
    }
}

impl Resampling {
    fn agree(&mut self, how: How) -> Result<()> {
        match self.how {
            Some(known) if known != how => {
                let error = Error::new(Kind::InvalidQuery, format!("`{NAME}` is asked in different ways in one group"));
                Err(error.hint("statistic, seed, number of samples and confidence are the same for all rows").into())
            }
            _ => {
                self.how = Some(how);
                Ok(())
            }
        }
    }
}

impl Accumulator for Resampling {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [value, ways @ ..] = values else { return Ok(()) };
        let column = numbers(value)?;
        let column = column.as_primitive::<Float64Type>();
        if column.is_empty() {
            return Ok(());
        }
        self.agree(How::of_row(values, 0)?)?;
        for way in ways {
            if way.data_type().is_null() {
                continue;
            }
            let differs = distinct(way, &Scalar::new(way.slice(0, 1)))?;
            if let Some(row) = differs.values().set_indices().next() {
                self.agree(How::of_row(values, row)?)?;
            }
        }
        self.values.extend(column.iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(how) = self.how.filter(|_| self.values.len() > 2) else { return ScalarValue::try_from(&DataType::Struct(fields())) };
        self.values.sort_by(f64::total_cmp);
        let found = interval(&self.values, how)?;
        let count: ArrayRef = Arc::new(UInt64Array::from(vec![self.values.len() as u64]));
        let numbers = found.map(|number| Arc::new(Float64Array::from(vec![number])) as ArrayRef);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), std::iter::once(count).chain(numbers).collect(), None)?)))
    }

    fn size(&self) -> usize {
        // Samples, what was computed of them, and of all values but one.
        let resamples = self.how.map_or(0, |how| how.resamples as usize);
        size_of_val(self) + (3 * self.values.capacity() + resamples) * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Some(how) = self.how else { return Ok(vec![ScalarValue::LargeBinary(None)]) };
        let mut bytes = how.bytes();
        self.values.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else { return Ok(()) };
        for mut kept in states.as_binary::<i64>().iter().flatten() {
            self.agree(How::of_bytes(&mut kept)?)?;
            let count = kept.len() / 8;
            self.values.extend(take_numbers(&mut kept, count)?);
        }
        Ok(())
    }
}

/// Estimate, standard error, and the ends of the interval; of values in ascending order.
fn interval(sorted: &[f64], how: How) -> Result<[f64; 4]> {
    if sorted.iter().any(|value| !value.is_finite()) {
        return Ok([f64::NAN; 4]);
    }
    let mut sample = sorted.to_vec();
    let estimate = how.of.of(&mut sample);
    let mut draws = Draws::new(how.seed, sorted.len())?;
    let mut found = Vec::with_capacity(how.resamples as usize);
    let mut drawn = AT_ONCE;
    for _ in 0..how.resamples {
        if drawn >= AT_ONCE {
            check_wanted()?;
            drawn = 0;
        }
        drawn += sorted.len();
        sample.iter_mut().for_each(|value| *value = sorted[draws.next()]);
        found.push(how.of.of(&mut sample));
    }
    let error = Of::Deviation.of(&mut found.clone());
    found.sort_by(f64::total_cmp);
    // Values that are all the same leave nothing to correct.
    if sorted.first() == sorted.last() {
        return Ok([estimate, error, estimate, estimate]);
    }
    let below = found.partition_point(|value| *value < estimate) as f64;
    let up_to = found.partition_point(|value| *value <= estimate) as f64;
    let bias = normal_quantile((below + up_to) / (2.0 * found.len() as f64));
    let without = how.of.without_each(sorted);
    let n = sorted.len() as f64;
    let middle = sum(without.iter().copied()).divided(n).value();
    let pulls = || without.iter().map(|value| (n - 1.0) * (middle - value));
    let cubes = sum(pulls().map(|pull| pull * pull * pull)).value() / (n * n * n);
    let squares = sum(pulls().map(|pull| pull * pull)).value() / (n * n);
    let skew = cubes / squares.powf(1.5) / 6.0;
    let outside = (1.0 - how.confidence) / 2.0;
    let end = |z: f64| {
        let moved = bias + z;
        percentile(&found, normal_below(bias + moved / (1.0 - skew * moved)))
    };
    let reach = normal_quantile(outside);
    Ok([estimate, error, end(reach), end(-reach)])
}

/// The value below which the part `part` of sorted values lies, between two of them by their distance.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    if part.is_nan() {
        return f64::NAN;
    }
    let place = part.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    low + (high - low) * (place - below as f64)
}

/// How likely a value of the normal distribution is to be below `z`.
fn normal_below(z: f64) -> f64 {
    let outside = tails::normal(z) / 2.0;
    if z < 0.0 { outside } else { 1.0 - outside }
}

/// The value of the normal distribution below which the part `p` lies.
fn normal_quantile(p: f64) -> f64 {
    match p {
        p if p <= 0.0 => f64::NEG_INFINITY,
        p if p >= 1.0 => f64::INFINITY,
        p if p < 0.5 => -tails::quantile(2.0 * p, f64::INFINITY),
        p => tails::quantile(2.0 * (1.0 - p), f64::INFINITY),
    }
}

/// What `numpy.random.default_rng(seed).integers(0, count, ...)` draws.
struct Draws {
    generator: Pcg64,
    /// The upper half of a number whose lower half was drawn.
    half: Option<u32>,
    count: u32,
}

impl Draws {
    /// # Errors
    /// `Unsupported` for more values than can be drawn from.
    fn new(seed: u64, count: usize) -> Result<Self> {
        let count = u32::try_from(count).map_err(|_| {
            Error::new(Kind::Unsupported, format!("`{NAME}` draws from up to {} values, and there are {count}", u32::MAX))
                .hint("of so many, the interval around the mean is that of the normal distribution")
        })?;
        let [a, b, c, d] = seeded(seed);
        Ok(Self { generator: Pcg64::new(wide(a, b), wide(c, d)), half: None, count })
    }

    fn half(&mut self) -> u32 {
        self.half.take().unwrap_or_else(|| {
            let number = self.generator.next_u64();
            self.half = Some((number >> 32) as u32);
            number as u32
        })
    }

    /// A place (Lemire, "Fast random integer generation in an interval", 2019).
    fn next(&mut self) -> usize {
        let count = u64::from(self.count);
        let mut product = u64::from(self.half()) * count;
        if (product as u32) < self.count {
            let least = self.count.wrapping_neg() % self.count;
            while (product as u32) < least {
                product = u64::from(self.half()) * count;
            }
        }
        (product >> 32) as usize
    }
}

fn wide(high: u64, low: u64) -> u128 {
    (u128::from(high) << 64) | u128::from(low)
}

/// The state of a generator from a seed, as NumPy's `SeedSequence` spreads it (O'Neill, "Developing a seed_seq alternative", 2015).
fn seeded(seed: u64) -> [u64; 4] {
    const POOL: usize = 4;
    /// A hash whose constant changes with each word.
    struct Hash {
        constant: u32,
        factor: u32,
    }
    impl Hash {
        fn of(&mut self, word: u32) -> u32 {
            let word = word ^ self.constant;
            self.constant = self.constant.wrapping_mul(self.factor);
            let word = word.wrapping_mul(self.constant);
            word ^ (word >> 16)
        }
    }
    let mixed = |x: u32, y: u32| {
        let mixed = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        mixed ^ (mixed >> 16)
    };
    let mut hash = Hash { constant: 0x43b0_d7e5, factor: 0x931e_8875 };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash.of(word));
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            pool[to] = mixed(pool[to], hash.of(pool[from]));
        }
    }
    let mut hash = Hash { constant: 0x8b51_f9dd, factor: 0x58f3_8ded };
    let mut word = |place: usize| {
        let low = hash.of(pool[(2 * place) % POOL]);
        u64::from(low) | (u64::from(hash.of(pool[(2 * place + 1) % POOL])) << 32)
    };
    [word(0), word(1), word(2), word(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_numpy_draws() -> Result<()> {
        let drawn = |seed, count| -> Result<Vec<usize>> {
            let mut draws = Draws::new(seed, count)?;
            Ok((0..8).map(|_| draws.next()).collect())
        };
        // numpy.random.default_rng(seed).integers(0, count, 8)
        assert_eq!(drawn(42, 10)?, [0, 7, 6, 4, 4, 8, 0, 6]);
        assert_eq!(drawn(0, 1000)?, [850, 636, 511, 269, 307, 40, 75, 16]);
        Ok(())
    }

    #[test]
    fn leaving_one_out_is_as_computing_without_it() {
        let sorted = [-3.5, -1.0, 0.25, 2.0, 2.0, 7.5, 100.0];
        for (name, of) in Of::ALL {
            for count in [3, 4, 7] {
                let sorted = &sorted[..count];
                for (out, found) in of.without_each(sorted).into_iter().enumerate() {
                    let mut others: Vec<f64> =
                        sorted.iter().enumerate().filter(|(place, _)| *place != out).map(|(_, value)| *value).collect();
                    let wanted = of.of(&mut others);
                    assert!((found - wanted).abs() <= 1e-13 * wanted.abs().max(1.0), "{name} without {out}: {found}, {wanted}");
                }
            }
        }
    }
}

//! The hash of a result: the same whatever the order of its rows, how they were batched and in which encoding they came.
//!
//! A value is hashed to 64 bits: what is stored as a number by its bits, texts and bytes by XXH3. The values of a row are mixed, in the order of
//! its columns, to 128 bits, and rows are summed modulo 2^128: a sum doesn't know their order, and counts each as often as it is there. It tells
//! of changes; it is no seal against somebody who looks for another result of the same hash.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use twox_hash::XxHash3_64;

use crate::record::{FloatSums, ResultHash, SINGLE_TOLERANCE, TOLERANCE};

/// What stands for a value that is not there.
const NULL: u64 = 0x6e75_6c6c_9e37_79b9;
/// What stands for each NaN, and for each infinity; a finite number has a hash of its own.
const NAN: u64 = 0x7ff8_0000_0000_0000;
const FINITE: u64 = 0xf1a1_7e00_0000_0001;
/// 2^-100, and its root.
const UNIT: f64 = UNIT_ROOT * UNIT_ROOT;
const UNIT_ROOT: f64 = 1.0 / ((1_u64 << 50) as f64);
/// Where the two halves of the hash of a row begin.
const SEEDS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
/// By which one half takes a value differently from the other.
const TURN: u64 = 0xd6e8_feb8_6659_fd93;

type Result<T> = std::result::Result<T, ArrowError>;

/// A hash with one more value in it. Nothing that was told apart is told apart no more: the steps can be undone.
fn mix(hash: u64, value: u64) -> u64 {
    let mut mixed = (hash.rotate_left(25) ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The hashes of rows, one for each, that grow column by column.
struct Rows([Vec<u64>; 2]);

impl Rows {
    fn new(count: usize) -> Self {
        Self(SEEDS.map(|seed| vec![seed; count]))
    }

    fn add(&mut self, values: &[u64]) {
        let [first, second] = &mut self.0;
        for ((first, second), value) in first.iter_mut().zip(second).zip(values) {
            *first = mix(*first, *value);
            *second = mix(*second, value.wrapping_mul(TURN));
        }
    }

    fn sum(&self) -> u128 {
        let [first, second] = &self.0;
        let rows = first.iter().zip(second).map(|(first, second)| (u128::from(*first) << 64) | u128::from(*second));
        rows.fold(0, u128::wrapping_add)
    }
}

/// The hash of a part of a result, to which others are added.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    rows: u64,
    /// The sum of the hashes of all rows, and of what of them is no floating point.
    all: u128,
    exact: u128,
    floats: Vec<FloatSums>,
}

impl Digest {
    /// The hash of a batch.
    ///
    /// # Errors
    /// For a value in an encoding that Arrow can't read.
    pub fn of(batch: &RecordBatch) -> Result<Self> {
        let count = batch.num_rows();
        let schema = batch.schema();
        let is_float = |column: &ArrayRef| column.data_type().is_floating();
        let mut all = Rows::new(count);
        if !batch.columns().iter().any(is_float) {
            for column in batch.columns() {
                all.add(&hashes(column)?);
            }
            return Ok(Self { rows: count as u64, all: all.sum(), exact: all.sum(), floats: Vec::new() });
        }
        let (mut exact, mut floats) = (Rows::new(count), Vec::new());
        for (column, field) in batch.columns().iter().zip(schema.fields()) {
            if !is_float(column) {
                let values = hashes(column)?;
                all.add(&values);
                exact.add(&values);
                continue;
            }
            let numbers = cast(column, &DataType::Float64)?;
            let numbers: Vec<Option<f64>> = numbers.as_primitive::<Float64Type>().iter().collect();
            all.add(&numbers.iter().map(|number| number.map_or(NULL, float)).collect::<Vec<_>>());
            exact.add(&numbers.iter().map(|number| number.map_or(NULL, class)).collect::<Vec<_>>());
            let tolerance = if *column.data_type() == DataType::Float64 { TOLERANCE } else { SINGLE_TOLERANCE };
            floats.push((field.name().clone(), tolerance, numbers));
        }
        // Which number stands in which row counts: each has the weight of what else is in its row.
        let weights: Vec<f64> = exact.0[0].iter().map(|hash| 0.5 + (hash >> 11) as f64 / (1_u64 << 53) as f64).collect();
        let mut sums: Vec<FloatSums> =
            floats.iter().map(|(name, tolerance, numbers)| float_sums(name, *tolerance, numbers, &weights)).collect();
        // Products of neighbours tell which numbers stand together, whatever the unit of each.
        for [(_, tolerance, ones), (_, other, others)] in floats.array_windows() {
            let finite = |number: &Option<f64>| number.filter(|number| number.is_finite());
            let product = |(one, other): (&Option<f64>, &Option<f64>)| {
                let (one, other) = (finite(one)?, finite(other)?);
                Some(one.signum() * other.signum() * one.abs().sqrt() * other.abs().sqrt())
            };
            let products: Vec<Option<f64>> = ones.iter().zip(others).map(product).collect();
            sums.push(float_sums("", tolerance.max(*other), &products, &weights));
        }
        Ok(Self { rows: count as u64, all: all.sum(), exact: exact.sum(), floats: sums })
    }

    /// Adds the hash of another part of the same result.
    pub fn add(&mut self, other: &Self) {
        if self.rows == 0 && self.floats.is_empty() {
            self.floats.clone_from(&other.floats);
        } else {
            self.floats.iter_mut().zip(&other.floats).for_each(|(sums, other)| sums.add(other));
        }
        self.rows += other.rows;
        self.all = self.all.wrapping_add(other.all);
        self.exact = self.exact.wrapping_add(other.exact);
    }

    /// The hash of all that was added.
    pub fn finish(&self) -> ResultHash {
        ResultHash { all: format!("{:032x}", self.all), exact: format!("{:032x}", self.exact), floats: self.floats.clone() }
    }
}

/// Sums over numbers, each with its weight. In a unit that is so large, no sum of doubles is an infinity.
fn float_sums(column: &str, tolerance: f64, numbers: &[Option<f64>], weights: &[f64]) -> FloatSums {
    let mut sums = FloatSums { column: column.to_owned(), tolerance, ..FloatSums::default() };
    for (number, weight) in numbers.iter().zip(weights) {
        let Some(number) = number.filter(|number| number.is_finite()) else { continue };
        let root = number.abs().sqrt() * UNIT_ROOT * weight;
        let number = number * UNIT;
        sums.sum += number * weight;
        sums.absolute += number.abs() * weight;
        sums.root_sum += if number < 0.0 { -root } else { root };
        sums.root_absolute += root;
    }
    sums
}

/// The bits of a number. NaN has many of them, and is one value; so are the two zeros, which are equal in SQL.
fn float(number: f64) -> u64 {
    if number.is_nan() { NAN } else { (number + 0.0).to_bits() }
}

/// What can be compared of a number exactly.
fn class(number: f64) -> u64 {
    if number.is_finite() { FINITE } else { float(number) }
}

/// A hash for each value of an array.
fn hashes(array: &ArrayRef) -> Result<Vec<u64>> {
    let mut hashes = values(array)?;
    if let Some(nulls) = array.logical_nulls() {
        hashes.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)).for_each(|(_, hash)| *hash = NULL);
    }
    Ok(hashes)
}

/// A hash for each place of an array, be there a value or not.
fn values(array: &ArrayRef) -> Result<Vec<u64>> {
    match array.data_type() {
        kind if kind.is_string() || kind.is_binary() => Ok(texts(array)),
        kind if kind.is_nested() || matches!(kind, DataType::Dictionary(..) | DataType::RunEndEncoded(..)) => nested(array),
        _ => numbers(array),
    }
}

fn numbers(array: &ArrayRef) -> Result<Vec<u64>> {
    macro_rules! numbers {
        ($type:ty) => {
            array.as_primitive::<$type>().values().iter().map(|value| i64::from(*value).cast_unsigned()).collect()
        };
    }
    // A decimal is as long as its type says, and is the same number in each.
    let decimal = |value: i128| mix(value as u64, (value >> 64) as u64);
    Ok(match array.data_type() {
        DataType::Null => vec![NULL; array.len()],
        DataType::Boolean => array.as_boolean().values().iter().map(u64::from).collect(),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().values().to_vec(),
        DataType::Float16 => array.as_primitive::<Float16Type>().values().iter().map(|value| float(value.to_f64())).collect(),
        DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().map(|value| float(f64::from(*value))).collect(),
        DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().map(|value| float(*value)).collect(),
        DataType::Decimal32(..) => array.as_primitive::<Decimal32Type>().values().iter().map(|value| decimal((*value).into())).collect(),
        DataType::Decimal64(..) => array.as_primitive::<Decimal64Type>().values().iter().map(|value| decimal((*value).into())).collect(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().values().iter().map(|value| decimal(*value)).collect(),
        DataType::Decimal256(..) => {
            let wide = array.as_primitive::<Decimal256Type>().values();
            wide.iter().map(|value| value.to_i128().map_or_else(|| XxHash3_64::oneshot(&value.to_le_bytes()), decimal)).collect()
        }
        DataType::Date32 | DataType::Time32(_) => return values(&cast(array, &DataType::Int32)?),
        DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => {
            return values(&cast(array, &DataType::Int64)?);
        }
        DataType::Interval(IntervalUnit::YearMonth) => numbers!(IntervalYearMonthType),
        DataType::Interval(IntervalUnit::DayTime) => {
            let intervals = array.as_primitive::<IntervalDayTimeType>().values();
            intervals.iter().map(|value| mix(value.days as u64, value.milliseconds as u64)).collect()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>().values();
            intervals.iter().map(|value| mix(mix(value.months as u64, value.days as u64), value.nanoseconds as u64)).collect()
        }
        other => return Err(ArrowError::NotYetImplemented(format!("the hash of {other}"))),
    })
}

fn texts(array: &ArrayRef) -> Vec<u64> {
    let bytes = |value: &[u8]| XxHash3_64::oneshot(value);
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| bytes(text.unwrap_or_default().as_bytes())).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| bytes(text.unwrap_or_default().as_bytes())).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(|text| bytes(text.unwrap_or_default().as_bytes())).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(|value| bytes(value.unwrap_or_default())).collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().map(|value| bytes(value.unwrap_or_default())).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(|value| bytes(value.unwrap_or_default())).collect(),
        _ => array.as_fixed_size_binary().iter().map(|value| bytes(value.unwrap_or_default())).collect(),
    }
}

fn nested(array: &ArrayRef) -> Result<Vec<u64>> {
    Ok(match array.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().len() > array.len() {
                // Most of its values are for other rows.
                return hashes(&cast(array, dictionary.values().data_type())?);
            }
            if dictionary.values().is_empty() {
                return Ok(vec![NULL; array.len()]);
            }
            let known = hashes(dictionary.values())?;
            // A place without a value may have any key.
            dictionary.normalized_keys().into_iter().map(|key| known.get(key).copied().unwrap_or(NULL)).collect()
        }
        DataType::RunEndEncoded(_, field) => return hashes(&cast(array, field.data_type())?),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            listed(lists.values(), lists.value_offsets().iter().map(|offset| offset.as_usize()))?
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            listed(lists.values(), lists.value_offsets().iter().map(|offset| offset.as_usize()))?
        }
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            let lists = array.as_fixed_size_list();
            listed(lists.values(), (0..=lists.len()).map(|row| row * size))?
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            let entries: ArrayRef = Arc::new(maps.entries().clone());
            listed(&entries, maps.value_offsets().iter().map(|offset| offset.as_usize()))?
        }
        DataType::ListView(field) => return values(&cast(array, &DataType::List(Arc::clone(field)))?),
        DataType::LargeListView(field) => return values(&cast(array, &DataType::LargeList(Arc::clone(field)))?),
        DataType::Struct(_) => {
            let mut rows = vec![SEEDS[0]; array.len()];
            for column in array.as_struct().columns() {
                rows.iter_mut().zip(hashes(column)?).for_each(|(row, value)| *row = mix(*row, value));
            }
            rows
        }
        DataType::Union(..) => {
            let union = array.as_union();
            let one = |row: usize| Ok(mix(union.type_id(row) as u64, hashes(&union.value(row))?.first().copied().unwrap_or(NULL)));
            (0..union.len()).map(one).collect::<Result<_>>()?
        }
        other => return Err(ArrowError::NotYetImplemented(format!("the hash of {other}"))),
    })
}

/// A hash for each list: of how many values it has, and of each of them.
fn listed(values: &ArrayRef, ends: impl Iterator<Item = usize>) -> Result<Vec<u64>> {
    let ends: Vec<usize> = ends.collect();
    // What lies before and behind is of other rows.
    let (Some(start), Some(end)) = (ends.first().copied(), ends.last().copied()) else { return Ok(Vec::new()) };
    let known = hashes(&values.slice(start, end - start))?;
    let one = |pair: &[usize]| {
        let list = known.get(pair[0] - start..pair[1] - start).unwrap_or_default();
        list.iter().fold(list.len() as u64, |hash, value| mix(hash, *value))
    };
    Ok(ends.windows(2).map(one).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray, StringArray,
        StringViewArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_from_iter(columns.into_iter().enumerate().map(|(place, column)| (format!("c{place}"), column))).unwrap()
    }

    fn hash(batch: &RecordBatch) -> ResultHash {
        Digest::of(batch).unwrap().finish()
    }

    fn rows() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)])]);
        let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("")]));
        let nested = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), inner)]);
        batch(vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(-7)])),
            Arc::new(StringArray::from(vec![Some("x"), Some("x"), None, Some("")])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(true), None, Some(false)])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(0), Some(-1)])),
            Arc::new(list),
            Arc::new(nested),
            Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None, Some(-1e300)])),
        ])
    }

    #[test]
    fn the_order_of_rows_and_how_they_are_batched_mean_nothing() {
        let rows = rows();
        let turned = take_record_batch(&rows, &Int32Array::from(vec![3, 1, 0, 2])).unwrap();
        let mut parts = Digest::default();
        for start in 0..4 {
            parts.add(&Digest::of(&turned.slice(start, 1)).unwrap());
        }
        let (whole, parts) = (hash(&rows), parts.finish());
        assert_eq!((&whole.all, &whole.exact), (&parts.all, &parts.exact));
        assert!(whole.floats[0].is_near(&parts.floats[0]), "{whole:?} {parts:?}");
        assert_eq!(hash(&turned).all, whole.all);
    }

    #[test]
    fn rows_count_as_often_as_they_are_there_and_each_value_in_its_place() {
        let rows = rows();
        let twice = concat_batches(&rows.schema(), [&rows, &rows]).unwrap();
        let without = rows.slice(0, 3);
        let swapped = batch(vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![3, 4]))]);
        let other = batch(vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![4, 3]))]);
        let columns = batch(vec![Arc::clone(swapped.column(1)), Arc::clone(swapped.column(0))]);
        let all: Vec<String> = [&rows, &twice, &without, &swapped, &other, &columns].map(|batch| hash(batch).all).into();
        for (place, one) in all.iter().enumerate() {
            assert!(!all[place + 1..].contains(one), "{place}: {all:?}");
        }
    }

    #[test]
    fn encodings_of_a_value_are_the_same() {
        let texts = [Some("tokamak"), None, Some("stellarator"), Some("tokamak")];
        let plain = hash(&batch(vec![Arc::new(StringArray::from(texts.to_vec()))])).all;
        let encodings: [ArrayRef; 3] = [
            Arc::new(LargeStringArray::from(texts.to_vec())),
            Arc::new(StringViewArray::from(texts.to_vec())),
            Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
        ];
        for encoded in encodings {
            assert_eq!(hash(&batch(vec![encoded])).all, plain);
        }
        // Slices of arrays begin in the middle of their buffers.
        let rows = rows();
        for start in 0..4 {
            let taken = take_record_batch(&rows, &Int32Array::from(vec![start])).unwrap();
            assert_eq!(hash(&rows.slice(start as usize, 1)).all, hash(&taken).all, "{start}");
        }
    }

    #[test]
    fn numbers_are_near_that_differ_by_rounding_and_no_others() {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let numbers = |change: &dyn Fn(usize, f64) -> f64| -> FloatSums {
            let numbers = (0..1000).map(|row| change(row, ((row * 7919) % 1000) as f64 * 1e6 + 1.5));
            hash(&batch(vec![Arc::clone(&ids), Arc::new(Float64Array::from_iter_values(numbers))])).floats.remove(0)
        };
        let plain = numbers(&|_, number| number);
        assert!(plain.is_near(&numbers(&|row, number| number * (1.0 + 1e-14 * (row % 3) as f64))));
        assert!(!plain.is_near(&numbers(&|row, number| if row == 500 { number * 1.001 } else { number })));
        // The smallest among large ones, and two that change places.
        assert!(!plain.is_near(&numbers(&|row, number| if row == 0 { 3.0 } else { number })));
        let swap = |row: usize, number: f64| match row {
            1 => ((2 * 7919) % 1000) as f64 * 1e6 + 1.5,
            2 => ((7919) % 1000) as f64 * 1e6 + 1.5,
            _ => number,
        };
        assert!(!plain.is_near(&numbers(&swap)));
        assert!(!plain.is_near(&numbers(&|row, number| if row == 3 { -number } else { number })));
    }

    /// What was written down once is compared with what comes out later: the hash may never change.
    #[test]
    fn the_hash_is_the_one_that_it_was() {
        assert_eq!(hash(&rows()).all, "321ee621ce215f34dfc40f8fa87e9bd9");
    }
}

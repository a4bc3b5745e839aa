//! Aggregates of runs: rows that follow one another and belong to one group are summed and counted where they lie, without a copy, a cast
//! or the number of a group for each of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::{CastExpr, Column, Literal};
use num_traits::AsPrimitive;

/// Sums that are added up side by side, so that none waits for the one before.
const LANES: usize = 8;
/// Values for which one word of a bitmap tells whether they are any.
const WORD: usize = 64;

/// An aggregate whose state of a run is known from its sum and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunAggregate {
    kind: Aggregate,
    /// The column of the scan; none when rows are counted.
    column: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Average,
    Sum,
    Count,
}

impl RunAggregate {
    /// `function` as such an aggregate of columns of a scan; `on_scan` gives an expression as one on those.
    pub(crate) fn of(
        function: &AggregateFunctionExpr,
        schema: &SchemaRef,
        on_scan: impl Fn(&Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>>,
    ) -> Option<Self> {
        let arguments = function.expressions();
        let [argument] = arguments.as_slice() else { return None };
        let states = function.state_fields().ok()?;
        let states: Vec<&DataType> = states.iter().map(|field| field.data_type()).collect();
        let argument = on_scan(argument)?;
        let column = |expression: &Arc<dyn PhysicalExpr>| expression.downcast_ref::<Column>().map(Column::index);
        let kind = match (function.fun().name(), states.as_slice()) {
            ("avg", [DataType::UInt64, DataType::Float64]) => Aggregate::Average,
            ("sum", [DataType::Float64]) => Aggregate::Sum,
            ("count", [DataType::Int64]) => {
                let literal = argument.downcast_ref::<Literal>();
                return match literal {
                    Some(literal) => (!literal.value().is_null()).then_some(Self { kind: Aggregate::Count, column: None }),
                    None => Some(Self { kind: Aggregate::Count, column: Some(column(&argument)?) }),
                };
            }
            _ => return None,
        };
        let widened = argument.downcast_ref::<CastExpr>().filter(|cast| *cast.cast_type() == DataType::Float64);
        let column = column(widened.map_or(&argument, CastExpr::expr))?;
        is_summed(schema.field(column).data_type()).then_some(Self { kind, column: Some(column) })
    }

    /// The states of runs of a batch, each the first row and how many there are: what partial aggregation would hand on.
    pub(crate) fn states(self, batch: &RecordBatch, runs: &[(usize, usize)]) -> Vec<ArrayRef> {
        let column = self.column.map(|place| batch.column(place));
        if self.kind == Aggregate::Count {
            let nulls = column.and_then(|column| column.logical_nulls());
            let counts = runs.iter().map(|(start, rows)| match &nulls {
                Some(nulls) => rows - nulls.slice(*start, *rows).null_count(),
                None => *rows,
            });
            return vec![Arc::new(counts.map(|count| count as i64).collect::<Int64Array>())];
        }
        let totals: Vec<(f64, usize)> = column.map_or_else(Vec::new, |column| runs.iter().map(|run| total(column, *run)).collect());
        let sums = totals.iter().map(|(sum, count)| (*count > 0).then_some(*sum)).collect::<Float64Array>();
        match self.kind {
            Aggregate::Average => {
                // As the sum of nothing, its count is NULL: a count of 0 would be merged as if there were a mean.
                let counts = totals.iter().map(|(_, count)| (*count > 0).then_some(*count as u64)).collect::<UInt64Array>();
                vec![Arc::new(counts), Arc::new(sums)]
            }
            _ => vec![Arc::new(sums)],
        }
    }
}

/// Whether [`total`] sums values of this type: those that a double holds exactly.
fn is_summed(data_type: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, UInt8, UInt16, UInt32};
    matches!(data_type, Float32 | Float64 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32)
}

/// The sum of the values of a run, and how many there are.
fn total(column: &ArrayRef, run: (usize, usize)) -> (f64, usize) {
    match column.data_type() {
        DataType::Float32 => total_of(column.as_primitive::<Float32Type>(), run),
        DataType::Float64 => total_of(column.as_primitive::<Float64Type>(), run),
        DataType::Int8 => total_of(column.as_primitive::<Int8Type>(), run),
        DataType::Int16 => total_of(column.as_primitive::<Int16Type>(), run),
        DataType::Int32 => total_of(column.as_primitive::<Int32Type>(), run),
        DataType::UInt8 => total_of(column.as_primitive::<UInt8Type>(), run),
        DataType::UInt16 => total_of(column.as_primitive::<UInt16Type>(), run),
        _ => total_of(column.as_primitive::<UInt32Type>(), run),
    }
}

fn total_of<T>(column: &PrimitiveArray<T>, (start, rows): (usize, usize)) -> (f64, usize)
where
    T: ArrowPrimitiveType,
    T::Native: AsPrimitive<f64>,
{
    let values = &column.values()[start..start + rows];
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => (sum(values), rows),
        Some(nulls) => sum_of_valid(values, &nulls.inner().slice(start, rows)),
    }
}

fn sum<N: AsPrimitive<f64>>(values: &[N]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for place in 0..LANES {
            lanes[place] += chunk[place].as_();
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|value| value.as_()).sum::<f64>()
}

/// What is not valid may be anything, even NaN: it is passed over, not multiplied by nothing.
fn sum_of_valid<N: AsPrimitive<f64>>(values: &[N], valid: &BooleanBuffer) -> (f64, usize) {
    let bits = valid.bit_chunks();
    let words = bits.iter().chain(std::iter::once(bits.remainder_bits()));
    let (mut total, mut count) = (0.0, 0);
    for (word, chunk) in words.zip(values.chunks(WORD)) {
        count += word.count_ones() as usize;
        if word.count_ones() as usize == chunk.len() {
            total += sum(chunk);
        } else if word != 0 {
            total += sum_of_some(chunk, word);
        }
    }
    (total, count)
}

/// The sum of the values whose bits are set.
fn sum_of_some<N: AsPrimitive<f64>>(values: &[N], word: u64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for (chunk, byte) in chunks.iter().zip(word.to_le_bytes()) {
        let masks = &MASKS[usize::from(byte)];
        for place in 0..LANES {
            lanes[place] += f64::from_bits(chunk[place].as_().to_bits() & masks[place]);
        }
    }
    let first = chunks.len() * LANES;
    let rest = rest.iter().enumerate().filter(|(place, _)| word >> (first + place) & 1 == 1);
    lanes.iter().sum::<f64>() + rest.map(|(_, value)| value.as_()).sum::<f64>()
}

/// For each byte what keeps or clears the numbers that its bits stand for.
static MASKS: [[u64; LANES]; 256] = masks();

const fn masks() -> [[u64; LANES]; 256] {
    let mut masks = [[0; LANES]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut place = 0;
        while place < LANES {
            masks[byte][place] = if byte >> place & 1 == 1 { u64::MAX } else { 0 };
            place += 1;
        }
        byte += 1;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_runs_are_those_of_their_values() {
        let value = |row: usize| if row % 7 == 3 || (200..300).contains(&row) { None } else { Some(row as f32) };
        let column: ArrayRef = Arc::new((0..1000).map(value).collect::<arrow::array::Float32Array>());
        for (start, rows) in [(0, 1000), (1, 64), (63, 130), (195, 120), (210, 40), (999, 1), (5, 0)] {
            let known: Vec<f64> = (start..start + rows).filter_map(value).map(f64::from).collect();
            assert_eq!(total(&column, (start, rows)), (known.iter().sum(), known.len()), "{start} {rows}");
        }
        let whole: ArrayRef = Arc::new((0..77).collect::<arrow::array::Int16Array>());
        assert_eq!(total(&whole, (3, 74)), ((3..77).sum::<i32>().into(), 74));
    }

    #[test]
    fn what_is_not_valid_is_not_summed_even_if_it_is_not_finite() {
        let nulls = arrow::buffer::NullBuffer::from(vec![true, false, true]);
        let column: ArrayRef = Arc::new(Float64Array::new(vec![1.0, f64::NAN, 2.0].into(), Some(nulls)));
        assert_eq!(total(&column, (0, 3)), (3.0, 2));
    }
}

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use lacus_core::{Error, Kind};

use crate::SCIENCE;
use crate::arguments::{Numbers, require_numbers, result, rows, signature};

const NAME: &str = "bin";

/// `bin(value, width)` and `bin(value, width, origin)`: the lower edge of the bin that holds a value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bin {
    signature: Signature,
    documentation: Documentation,
}

impl Bin {
    pub(crate) fn new() -> Self {
        let what = "The lower edge of the bin that holds a value: `floor((value - origin) / width) * width + origin`, in the units of the \
                    value. An edge belongs to the bin above it. Integers give an integer, other numbers a double; NaN and infinities stay \
                    what they are. For timestamps there is `date_bin`.";
        let documentation = Documentation::builder(SCIENCE, what, "bin(value, width)")
            .with_alternative_syntax("bin(value, width, origin)")
            .with_argument("value", "A number")
            .with_argument("width", "The width of a bin, positive")
            .with_argument("origin", "An edge, 0 if not given")
            .with_sql_example("SELECT bin(t, 0.5) AS edge, count(*) FROM weather GROUP BY edge ORDER BY edge")
            .with_related_udf("date_bin")
            .build();
        Self { signature: signature(&[2, 3]), documentation }
    }
}

impl ScalarUDFImpl for Bin {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if types.iter().any(DataType::is_temporal) {
            let error = Error::new(Kind::InvalidQuery, "`bin` is for numbers, not for times");
            return Err(error.hint("use date_bin(INTERVAL '1 day', time), or date_trunc('month', time) for months").into());
        }
        require_numbers(NAME, types)?;
        Ok(if types.iter().all(|data_type| data_type.is_integer() || data_type.is_null()) { DataType::Int64 } else { DataType::Float64 })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if *args.return_type() == DataType::Int64 { integers(&args) } else { floats(&args) }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn integers(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let numbers = args.args.iter().map(Numbers::<Int64Type>::of).collect::<Result<Vec<_>>>()?;
    let edge = |row: usize| -> Result<Option<i64>> {
        let origin = numbers.get(2).map_or(Some(0), |origin| origin.at(row));
        let (Some(value), Some(width), Some(origin)) = (numbers[0].at(row), numbers[1].at(row), origin) else { return Ok(None) };
        edge_of_integer(value, width, origin).map(Some)
    };
    let edges: Int64Array = (0..rows(args)).map(edge).collect::<Result<_>>()?;
    result(args, Arc::new(edges))
}

fn floats(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let numbers = args.args.iter().map(Numbers::<Float64Type>::of).collect::<Result<Vec<_>>>()?;
    let bins = |row: usize| -> Result<Option<Bins>> {
        let origin = numbers.get(2).map_or(Some(0.0), |origin| origin.at(row));
        numbers[1].at(row).zip(origin).map(|(width, origin)| Bins::new(width, origin)).transpose()
    };
    let edges: Float64Array = if numbers[1..].iter().all(|number| matches!(number, Numbers::Same(_))) {
        let same = bins(0)?;
        (0..rows(args)).map(|row| Some(same.as_ref()?.edge_below(numbers[0].at(row)?))).collect()
    } else {
        let edge = |row: usize| Ok(bins(row)?.zip(numbers[0].at(row)).map(|(bins, value)| bins.edge_below(value)));
        (0..rows(args)).map(edge).collect::<Result<_>>()?
    };
    result(args, Arc::new(edges))
}

fn no_width(width: impl std::fmt::Display) -> Error {
    Error::new(Kind::InvalidQuery, format!("{width} is no width of a bin")).hint("bin(value, width) needs a width above zero")
}

fn edge_of_integer(value: i64, width: i64, origin: i64) -> Result<i64> {
    if width <= 0 {
        return Err(no_width(width).into());
    }
    let above = (i128::from(value) - i128::from(origin)).rem_euclid(i128::from(width));
    i64::try_from(i128::from(value) - above).map_err(|_| {
        let error = Error::new(Kind::InvalidQuery, format!("the bin of {value} begins below the least 64-bit integer"));
        error.hint("CAST the value to DOUBLE").into()
    })
}

/// Bins of one width.
#[derive(Debug, Clone, Copy)]
struct Bins {
    width: f64,
    origin: f64,
    /// The number of bins in one, where that is whole: an edge is then divided by it, so that it is 0.3 and not 3 * 0.1.
    of_one: Option<f64>,
}

impl Bins {
    fn new(width: f64, origin: f64) -> Result<Self> {
        if width <= 0.0 || !width.is_finite() {
            return Err(no_width(width).into());
        }
        if !origin.is_finite() {
            return Err(Error::new(Kind::InvalidQuery, format!("{origin} is no origin of bins")).hint("give an edge as a number").into());
        }
        let of_one = Some((1.0 / width).round()).filter(|count| 1.0 / count == width);
        Ok(Self { width, origin, of_one })
    }

    fn edge(&self, index: f64) -> f64 {
        let distance = match self.of_one {
            Some(count) => index / count,
            None => index * self.width,
        };
        distance + self.origin
    }

    /// The greatest edge that isn't above a value. It depends on the index of the bin alone, so that all values of a bin have the same.
    fn edge_below(&self, value: f64) -> f64 {
        let distance = value - self.origin;
        let index = match self.of_one {
            Some(count) => distance * count,
            None => distance / self.width,
        };
        let index = index.floor();
        if !index.is_finite() {
            return value;
        }
        // Rounding may have led to the bin beside.
        if self.edge(index) > value {
            self.edge(index - 1.0).min(value)
        } else if self.edge(index + 1.0) <= value {
            self.edge(index + 1.0)
        } else {
            self.edge(index)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{AsArray, Float32Array, TimestampMicrosecondArray, UInt8Array};
    use datafusion_common::ScalarValue;

    fn edge(value: f64, width: f64, origin: f64) -> Result<f64> {
        Ok(Bins::new(width, origin)?.edge_below(value))
    }

    #[test]
    fn edges_are_what_people_write() -> Result<()> {
        for (value, width, origin, expected) in [
            (0.3, 0.1, 0.0, 0.3),
            (0.7, 0.1, 0.0, 0.7),
            (-0.05, 0.1, 0.0, -0.1),
            (289.15, 0.05, 0.0, 289.15),
            (7.0, 2.5, 0.0, 5.0),
            (7.0, 2.5, 1.0, 6.0),
            (-7.0, 5.0, 0.0, -10.0),
            (10.0, 5.0, 0.0, 10.0),
            (1.0, 3.0, 100.0, 1.0),
        ] {
            assert_eq!(edge(value, width, origin)?, expected, "{value} in bins of {width} from {origin}");
        }
        assert!(edge(f64::NAN, 1.0, 0.0)?.is_nan());
        assert_eq!(edge(f64::NEG_INFINITY, 1.0, 0.0)?, f64::NEG_INFINITY);
        assert!(edge(1e300, 0.3, 0.0)? <= 1e300);
        Ok(())
    }

    #[test]
    fn a_value_lies_between_its_edge_and_the_next() -> Result<()> {
        let mut state = 1_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 11) as f64 / (1_u64 << 53) as f64;
            let width = [0.1, 0.3, 0.7, 1.0, 1e-3, 3.3e5, 2.0 / 3.0, 0.05][(state >> 60) as usize % 8];
            for origin in [0.0, 0.1, -17.3] {
                // Values on edges and a rounding beside them are where it goes wrong.
                let bins = Bins::new(width, origin)?;
                let index = ((random - 0.5) * 1e6).round();
                let on_edge = bins.edge(index);
                for value in [on_edge, on_edge.next_up(), on_edge.next_down(), (random - 0.5) * 1e6 * width] {
                    let found = bins.edge_below(value);
                    assert!(found <= value && value < found + width * (1.0 + 1e-8), "{value} in bins of {width} from {origin}: {found}");
                    assert_eq!(bins.edge_below(found), found, "an edge is in its own bin");
                }
                assert_eq!(bins.edge_below(on_edge), on_edge);
            }
        }
        Ok(())
    }

    #[test]
    fn integers_stay_integers() -> Result<()> {
        let values = UInt8Array::from(vec![Some(7), None, Some(255)]);
        let found = call(Bin::new(), vec![column(Arc::new(values)), literal(5), literal(1)])?.into_array(3)?;
        assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(6), None, Some(251)]);
        let found = call(Bin::new(), vec![literal(-7), literal(5_i64)])?;
        assert!(matches!(found, ColumnarValue::Scalar(ScalarValue::Int64(Some(-10)))), "{found:?}");
        assert_eq!(edge_of_integer(i64::MAX, 10, i64::MIN)?, i64::MAX - 5);
        assert!(edge_of_integer(i64::MIN, 10, 0).is_err());
        Ok(())
    }

    #[test]
    fn other_numbers_are_doubles() -> Result<()> {
        let values = Float32Array::from(vec![Some(7.25), None]);
        let found = call(Bin::new(), vec![column(Arc::new(values)), literal(2)])?.into_array(2)?;
        assert_eq!(found.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(6.0), None]);
        let widths = Float64Array::from(vec![Some(2.0), None, Some(0.5)]);
        let found = call(Bin::new(), vec![literal(7.25), column(Arc::new(widths))])?.into_array(3)?;
        assert_eq!(found.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(6.0), None, Some(7.0)]);
        Ok(())
    }

    #[test]
    fn errors_name_the_remedy() {
        let message = |result: Result<ColumnarValue>| result.err().map(|error| error.to_string()).unwrap_or_default();
        for width in [literal(0), literal(-1.5), literal(f64::NAN)] {
            assert!(message(call(Bin::new(), vec![literal(1.0), width])).contains("needs a width above zero"));
        }
        assert!(message(call(Bin::new(), vec![literal(1.0), literal(1.0), literal(f64::INFINITY)])).contains("inf is no origin of bins"));
        let times = TimestampMicrosecondArray::from(vec![0]);
        let day = ScalarValue::new_interval_dt(1, 0);
        assert!(message(call(Bin::new(), vec![column(Arc::new(times)), literal(day)])).contains("use date_bin(INTERVAL '1 day', time)"));
        assert!(message(call(Bin::new(), vec![literal("1"), literal(1)])).contains("argument 1 is a Utf8"));
    }
}

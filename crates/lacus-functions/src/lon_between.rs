use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::SCIENCE;
use crate::arguments::{Numbers, require_numbers, result, rows, signature};

const NAME: &str = "lon_between";

/// `lon_between(lon, west, east)`: whether a longitude lies in the arc from `west` eastward to `east`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct LonBetween {
    signature: Signature,
    documentation: Documentation,
}

impl LonBetween {
    pub(crate) fn new() -> Self {
        let what = "Whether a longitude lies in the arc that goes from `west` eastward to `east`, both included. All are in degrees, each \
                    in whatever convention: -180 to 180, 0 to 360, or beyond. An arc of 360 degrees or more holds every longitude. NULL \
                    for what is not finite.";
        let documentation = Documentation::builder(SCIENCE, what, "lon_between(lon, west, east)")
            .with_argument("lon", "A longitude in degrees, positive to the east")
            .with_argument("west", "Where the arc begins, in degrees")
            .with_argument("east", "Where the arc ends, in degrees")
            .with_sql_example("SELECT lon_between(-175, 170, 190)  -- true")
            .build();
        Self { signature: signature(&[3]), documentation }
    }
}

impl ScalarUDFImpl for LonBetween {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        require_numbers(NAME, types)?;
        Ok(DataType::Boolean)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let single = args.arg_fields.iter().any(is_single);
        let lon = Numbers::<Float64Type>::of(&args.args[0])?;
        let west = Numbers::<Float64Type>::of(&args.args[1])?;
        let east = Numbers::<Float64Type>::of(&args.args[2])?;
        let arc = |row: usize| west.at(row).zip(east.at(row)).and_then(|(west, east)| Arc360::new(west, east, single));
        let found: BooleanArray = if let (Numbers::Same(_), Numbers::Same(_)) = (&west, &east) {
            let same = arc(0);
            (0..rows(&args)).map(|row| same.as_ref()?.holds(lon.at(row)?)).collect()
        } else {
            (0..rows(&args)).map(|row| arc(row)?.holds(lon.at(row)?)).collect()
        };
        result(&args, Arc::new(found))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn is_single(field: &FieldRef) -> bool {
    matches!(field.data_type(), DataType::Float16 | DataType::Float32)
}

/// An arc of a circle of latitude.
#[derive(Debug, Clone, Copy)]
struct Arc360 {
    west: f64,
    east: f64,
    /// Degrees from west to east; from 360 on it is the whole circle.
    span: f64,
    /// Whether longitudes are the same when they are so as 32-bit floats.
    single: bool,
}

impl Arc360 {
    /// `None` for edges that are not finite.
    fn new(west: f64, east: f64, single: bool) -> Option<Self> {
        let difference = east - west;
        if !difference.is_finite() {
            return None;
        }
        // Edges that name one meridian are no turn or whole turns apart, however their difference was rounded.
        let span = match turns_apart(east, west, single) {
            Some(turns) if turns >= 1.0 => 360.0,
            Some(_) => 0.0,
            None if difference >= 360.0 => 360.0,
            None => difference.rem_euclid(360.0),
        };
        Some(Self { west, east, span, single })
    }

    /// Whether a longitude lies in it; `None` for what is not finite.
    fn holds(&self, lon: f64) -> Option<bool> {
        if !lon.is_finite() {
            return None;
        }
        let inside = self.span >= 360.0
            || turns_apart(lon, self.west, self.single).is_some()
            || turns_apart(lon, self.east, self.single).is_some()
            || (lon - self.west).rem_euclid(360.0) < self.span;
        Some(inside)
    }
}

/// By how many turns two longitudes that name one meridian differ; `None` when they name two. Turning is rounded as whoever wrote the
/// numbers has rounded it: 359.9 is -0.1, though their difference in floats is not 360.
fn turns_apart(lon: f64, other: f64, single: bool) -> Option<f64> {
    let turns = ((lon - other) / 360.0).round();
    let same = |left: f64, right: f64| left == right || (single && left as f32 == right as f32);
    (same(lon - turns * 360.0, other) || same(other + turns * 360.0, lon)).then_some(turns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{AsArray, Float32Array, Float64Array};
    use datafusion_common::ScalarValue;

    fn holds(lon: f64, west: f64, east: f64) -> Option<bool> {
        Arc360::new(west, east, false)?.holds(lon)
    }

    #[test]
    fn edges_are_included_in_every_convention() {
        for (lon, west, east) in [
            (-180.0, 170.0, 180.0),
            (180.0, -180.0, -170.0),
            (180.0, 170.0, -180.0),
            (0.0, 350.0, 360.0),
            (360.0, 0.0, 10.0),
            (0.0, -10.0, 360.0),
            (359.75, -0.25, 0.25),
            (-0.25, 359.75, 0.25),
            (359.9, -0.1, 0.1),
            (-0.1, 359.9, 0.1),
            (0.1, -0.1, 360.1),
            (360.1, 0.0, 0.1),
            (-540.0, 180.0, 180.0),
        ] {
            assert_eq!(holds(lon, west, east), Some(true), "{lon} in {west}..{east}");
        }
    }

    #[test]
    fn an_arc_goes_east() {
        assert_eq!(holds(-175.0, 170.0, -170.0), Some(true));
        assert_eq!(holds(185.0, 170.0, -170.0), Some(true));
        assert_eq!(holds(0.0, 170.0, -170.0), Some(false));
        assert_eq!(holds(0.0, -170.0, 170.0), Some(true));
        assert_eq!(holds(180.0, -170.0, 170.0), Some(false));
        assert_eq!(holds(10.0_f64.next_up(), 0.0, 10.0), Some(false));
        assert_eq!(holds(0.0_f64.next_down(), 0.0, 10.0), Some(false));
    }

    #[test]
    fn the_whole_circle_and_a_single_meridian() {
        for (west, east) in [(-180.0, 180.0), (0.0, 360.0), (-0.1, 359.9), (0.0, 1000.0)] {
            assert_eq!(holds(123.4, west, east), Some(true), "{west}..{east}");
        }
        for (west, east) in [(180.0, -180.0), (0.0, 0.0), (359.9, -0.1), (360.0, 0.0)] {
            assert_eq!(holds(123.4, west, east), Some(false), "{west}..{east}");
            assert_eq!(holds(west, west, east), Some(true), "{west}..{east}");
        }
    }

    #[test]
    fn conventions_do_not_change_the_answer() {
        let turns = [-720.0, -360.0, 0.0, 360.0];
        for step in 0..72 {
            let lon = f64::from(step) * 5.0;
            let expected = lon >= 350.0 || lon <= 20.0;
            for (turn, west, east) in turns.iter().flat_map(|turn| turns.map(|edge| (*turn, 350.0 + edge, 20.0 + edge))) {
                assert_eq!(holds(lon + turn, west, east), Some(expected), "{lon} + {turn} in {west}..{east}");
            }
        }
    }

    #[test]
    fn columns_of_32_bit_floats_meet_edges_written_in_64() -> Result<()> {
        let lon = Float32Array::from(vec![Some(359.9), Some(0.1), Some(0.2), None, Some(f32::NAN), Some(f32::INFINITY)]);
        let found = call(LonBetween::new(), vec![column(Arc::new(lon)), literal(-0.1), literal(0.1)])?.into_array(6)?;
        let found: Vec<Option<bool>> = found.as_boolean().iter().collect();
        assert_eq!(found, [Some(true), Some(true), Some(false), None, None, None]);
        Ok(())
    }

    #[test]
    fn scalars_stay_scalars_and_edges_may_vary() -> Result<()> {
        let found = call(LonBetween::new(), vec![literal(185), literal(170_u8), literal(-170.0)])?;
        assert!(matches!(found, ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))), "{found:?}");
        let found = call(LonBetween::new(), vec![literal(185), literal(ScalarValue::Null), literal(-170.0)])?;
        assert!(matches!(found, ColumnarValue::Scalar(ScalarValue::Boolean(None))), "{found:?}");
        let west = Float64Array::from(vec![Some(170.0), Some(-170.0), None]);
        let found = call(LonBetween::new(), vec![literal(180), column(Arc::new(west)), literal(-175)])?.into_array(3)?;
        assert_eq!(found.as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(true), None]);
        let error = call(LonBetween::new(), vec![literal("x"), literal(1), literal(2)]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("`lon_between` takes numbers, but its argument 1 is a Utf8")));
        Ok(())
    }
}

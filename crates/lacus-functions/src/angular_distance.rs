use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::SCIENCE;
use crate::arguments::{Numbers, require_numbers, result, rows, signature};

const NAME: &str = "angular_distance";

/// `angular_distance(lon1, lat1, lon2, lat2)`: the angle between two directions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AngularDistance {
    signature: Signature,
    documentation: Documentation,
}

impl AngularDistance {
    pub(crate) fn new() -> Self {
        let what = "The angle between two places on a sphere along the great circle, in degrees from 0 to 180. All arguments are in degrees, \
                    longitude before latitude, as right ascension comes before declination; longitudes in any convention. One degree on \
                    the Earth is about 111.2 km. NULL for what is not finite and for latitudes beyond the poles.";
        let documentation = Documentation::builder(SCIENCE, what, "angular_distance(lon1, lat1, lon2, lat2)")
            .with_argument("lon1", "The longitude, or right ascension, of the first place, in degrees")
            .with_argument("lat1", "The latitude, or declination, of the first place, in degrees")
            .with_argument("lon2", "The longitude of the second place, in degrees")
            .with_argument("lat2", "The latitude of the second place, in degrees")
            .with_sql_example("SELECT name FROM stations ORDER BY angular_distance(lon, lat, 8.5, 47.4) LIMIT 1")
            .build();
        Self { signature: signature(&[4]), documentation }
    }
}

impl ScalarUDFImpl for AngularDistance {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        require_numbers(NAME, types)?;
        Ok(DataType::Float64)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let degrees = args.args.iter().map(Numbers::<Float64Type>::of).collect::<Result<Vec<_>>>()?;
        let at = |place: usize, row: usize| degrees[place].at(row);
        let angle = |row: usize| angle((at(0, row)?, at(1, row)?), (at(2, row)?, at(3, row)?));
        let angles: Float64Array = (0..rows(&args)).map(angle).collect();
        result(&args, Arc::new(angles))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The angle between two places, each longitude and latitude. This is Vincenty's formula for a sphere, which loses no digits of angles
/// that are small or close to 180 degrees. `None` for what is no place.
fn angle((lon1, lat1): (f64, f64), (lon2, lat2): (f64, f64)) -> Option<f64> {
    // Differences are taken in degrees, where those of neighbours are exact, and the short way round.
    let turned = lon2 - lon1;
    let turned = turned - (turned / 360.0).round() * 360.0;
    let is_latitude = |lat: f64| (-90.0..=90.0).contains(&lat);
    if !turned.is_finite() || !is_latitude(lat1) || !is_latitude(lat2) {
        return None;
    }
    let ((sin1, cos1), (sin2, cos2)) = (lat1.to_radians().sin_cos(), lat2.to_radians().sin_cos());
    let (sin_turned, cos_turned) = turned.to_radians().sin_cos();
    let sin_half = (turned / 2.0).to_radians().sin();
    let east = cos2 * sin_turned;
    // cos1 * sin2 - sin1 * cos2 * cos_turned, written so that nothing cancels.
    let north = (lat2 - lat1).to_radians().sin() + 2.0 * sin1 * cos2 * sin_half * sin_half;
    let along = sin1 * sin2 + cos1 * cos2 * cos_turned;
    Some(east.hypot(north).atan2(along).to_degrees())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::calls::{call, column, literal};
    use arrow::array::{AsArray, Float32Array};
    use datafusion_common::ScalarValue;

    #[test]
    fn angles_are_right_from_nothing_to_half_a_turn() {
        for (first, second, expected) in [
            ((10.0, 50.0), (10.0, 50.0), 0.0),
            ((0.0, 0.0), (90.0, 0.0), 90.0),
            ((0.0, 90.0), (123.0, -90.0), 180.0),
            ((0.0, 0.0), (180.0, 0.0), 180.0),
            ((30.0, 40.0), (-150.0, -40.0), 180.0),
            ((179.5, 0.0), (-179.5, 0.0), 1.0),
            ((0.25, 0.0), (359.75, 0.0), 0.5),
            ((77.0, 90.0), (-12.0, 90.0), 0.0),
            ((0.0, 60.0), (180.0, 60.0), 60.0),
            // Sirius and Betelgeuse.
            ((101.287_155_33, -16.716_115_86), (88.792_939, 7.407_064), 27.104_5),
        ] {
            let found = angle(first, second);
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-4), "{first:?} {second:?}: {found:?}");
            assert_eq!(found.map(|found| (found * 1e9).round()), angle(second, first).map(|found| (found * 1e9).round()));
        }
    }

    #[test]
    fn small_angles_keep_their_digits() {
        let small = 1e-9;
        for (first, second) in [((10.0, 0.0), (10.0 + small, 0.0)), ((10.0, 0.0), (10.0, small))] {
            let expected = (second.0 - first.0) + (second.1 - first.1);
            assert!(angle(first, second).is_some_and(|found| (found / expected - 1.0).abs() < 1e-12));
        }
        assert!(angle((0.0, 0.0), (180.0 - 1e-7, 0.0)).is_some_and(|found| (180.0 - found - 1e-7).abs() < 1e-13));
    }

    #[test]
    fn what_is_no_place_is_null() -> Result<()> {
        assert_eq!(angle((0.0, 90.5), (0.0, 0.0)), None);
        assert_eq!(angle((f64::INFINITY, 0.0), (0.0, 0.0)), None);
        assert_eq!(angle((0.0, 0.0), (0.0, f64::NAN)), None);
        let lon = Float32Array::from(vec![Some(1.0), None]);
        let found = call(AngularDistance::new(), vec![column(Arc::new(lon)), literal(0), literal(-1_i64), literal(0.0)])?.into_array(2)?;
        assert_eq!(found.as_primitive::<Float64Type>().iter().map(|angle| angle.map(f64::round)).collect::<Vec<_>>(), [Some(2.0), None]);
        let found = call(AngularDistance::new(), vec![literal(0), literal(0), literal(0), literal(0)])?;
        assert!(matches!(found, ColumnarValue::Scalar(ScalarValue::Float64(Some(0.0)))), "{found:?}");
        Ok(())
    }
}

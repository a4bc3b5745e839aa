//! Functions of SQL for science, each in a file of its own:
//!
//! * `cf_time`, `cf_text`: dates of the calendars of climate models, as numbers and as text (`calendar_text` has what they share);
//! * `lon_between`: longitudes in any convention;
//! * `bin`: the bins of histograms;
//! * `angular_distance`: angles on the sphere;
//! * `convert_units`: numbers in other units;
//! * `statistics`: tests of hypotheses.
//!
//! Each takes any types and says itself what is wrong with them: the error of a signature would name neither argument nor remedy.

mod angular_distance;
mod arguments;
mod bin;
mod calendar_text;
mod cf_text;
mod cf_time;
mod convert_units;
mod lon_between;
mod statistics;

use datafusion_expr::{DocSection, ScalarUDF};

pub use statistics::{statistics, window_statistics};

/// The section of the reference that documents these functions.
const SCIENCE: DocSection = DocSection { include: true, label: "Functions for science", description: None };

/// All functions of this crate.
pub fn functions() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::from(cf_time::CfTime::new()),
        ScalarUDF::from(cf_text::CfText::new()),
        ScalarUDF::from(lon_between::LonBetween::new()),
        ScalarUDF::from(bin::Bin::new()),
        ScalarUDF::from(angular_distance::AngularDistance::new()),
        ScalarUDF::from(convert_units::ConvertUnits::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_documented_with_an_example() {
        for function in functions() {
            let documentation = function.documentation().cloned();
            assert!(documentation.is_some_and(|page| page.sql_example.is_some() && page.arguments.is_some()), "{}", function.name());
        }
    }
}

//! Cells as text: one way for all doors.

use lacus::arrow::array::RecordBatch;
use lacus::arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::{DBOutput, DefaultColumnType, Normalizer};

pub(crate) fn output(batches: &[RecordBatch], columns: usize) -> lacus::Result<DBOutput<DefaultColumnType>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cell = |formatter: &ArrayFormatter<'_>| match formatter.value(row).to_string() {
                empty if empty.is_empty() => "(empty)".to_owned(),
                text => text,
            };
            rows.push(formatters.iter().map(cell).collect());
        }
    }
    Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
}

/// Whether the answer equals one of another engine, which may have more digits or another type of number.
pub(crate) fn close_enough(_: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    const RELATIVE: f64 = 1e-6;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let equal = |left: &String, right: &String| match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => (left - right).abs() <= RELATIVE * left.abs().max(right.abs()).max(1.),
        _ => left == right,
    };
    actual.len() == expected.len()
        && actual.iter().zip(expected).all(|(actual, expected)| {
            let (actual, expected) = (words(&actual.join(" ")), words(expected));
            actual.len() == expected.len() && actual.iter().zip(&expected).all(|(left, right)| equal(left, right))
        })
}

//! Drawing one column over another: in the terminal with the dots of braille, or as an SVG.

use std::path::Path;

use futures::TryStreamExt;
use lacus::arrow::array::{Array, ArrayRef, AsArray};
use lacus::arrow::compute::cast;
use lacus::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit};
use lacus::arrow::temporal_conversions::timestamp_us_to_datetime;
use lacus::{Error, Kind, Result, nearest, unit_of};
use plotters::prelude::{ChartBuilder, Circle, IntoDrawingArea, SVGBackend};
use plotters::series::PointSeries;
use plotters::style::{Color, RGBColor, WHITE};

use crate::door::Answer;
use crate::shell::page::Size;

/// More points are no drawing but a load on whoever looks at it.
const MOST: usize = 1_000_000;
/// The size of an SVG.
const PIXELS: (u32, u32) = (900, 540);
const INK: RGBColor = RGBColor(31, 119, 180);
/// The size of a drawing in a terminal whose size nobody knows.
const SIZE: Size = Size { columns: 80, rows: 24 };

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Points {
    at: Vec<(f64, f64)>,
    x: Axis,
    y: Axis,
    /// Rows in which a value is missing.
    missing: usize,
}

#[derive(Debug)]
struct Axis {
    /// The column, with its unit.
    label: String,
    is_time: bool,
    from: f64,
    to: f64,
}

impl Points {
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }
}

/// The points of two columns of a result.
pub(crate) async fn points(answer: Answer, x: &str, y: &str) -> Result<Points> {
    let place = |name: &str| -> Result<usize> {
        let name = name.trim_matches('"');
        let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.iter().position(|known| *known == name).ok_or_else(|| {
            let error = Error::new(Kind::InvalidQuery, format!("the last result has no column `{name}`"));
            match nearest(name, names.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its columns are {}", names.join(", "))),
            }
        })
    };
    let (x, y) = (place(x)?, place(y)?);
    let (x_field, y_field) = (answer.schema.field(x).clone(), answer.schema.field(y).clone());
    let (mut at, mut missing) = (Vec::new(), 0);
    let mut batches = answer.batches;
    while let Some(batch) = batches.try_next().await? {
        let (xs, ys) = (numbers(batch.column(x), &x_field)?, numbers(batch.column(y), &y_field)?);
        for pair in xs.into_iter().zip(ys) {
            match pair {
                (Some(x), Some(y)) if x.is_finite() && y.is_finite() => at.push((x, y)),
                _ => missing += 1,
            }
        }
        if at.len() > MOST {
            return Err(Error::new(Kind::LimitExceeded, format!("the result has more than {MOST} points"))
                .hint("draw less of it: GROUP BY a coarser step, or LIMIT"));
        }
    }
    if at.is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "there is no point to draw: in every row a value is missing, or there are no rows"));
    }
    let axis = |field: &Field, of: &dyn Fn(&(f64, f64)) -> f64| {
        let (low, high) =
            at.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        // One value alone stands in the middle.
        let room = if low < high { 0.0 } else { low.abs().max(1.0) * 0.5 };
        let label = unit_of(field).map_or_else(|| field.name().clone(), |unit| format!("{} [{unit}]", field.name()));
        Axis { label, is_time: is_time(field.data_type()), from: low - room, to: high + room }
    };
    let (x, y) = (axis(&x_field, &|point| point.0), axis(&y_field, &|point| point.1));
    Ok(Points { x, y, at, missing })
}

fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// The values of a column: times as microseconds since 1970.
fn numbers(column: &ArrayRef, field: &Field) -> Result<Vec<Option<f64>>> {
    let kind = field.data_type();
    let unfit = || {
        Error::new(Kind::InvalidQuery, format!("`{}` is {kind}, which has no place on an axis", field.name()))
            .hint("draw numbers and times; CAST what can be one")
    };
    if is_time(kind) {
        let times = cast(&cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?, &DataType::Int64)?;
        return Ok(times.as_primitive::<Int64Type>().iter().map(|value| value.map(|value| value as f64)).collect());
    }
    if !kind.is_numeric() {
        return Err(unfit());
    }
    let values = cast(column, &DataType::Float64)?;
    Ok((0..values.len()).map(|row| values.is_valid(row).then(|| values.as_primitive::<Float64Type>().value(row))).collect())
}

impl Axis {
    /// Where a value stands, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    fn text(&self, value: f64) -> String {
        if self.is_time {
            // A place between two points may be any fraction of a microsecond.
            let time = timestamp_us_to_datetime(value as i64).map(|time| time.format("%Y-%m-%d %H:%M").to_string());
            return time.unwrap_or_default();
        }
        let span = (self.to - self.from).abs();
        match value.abs() {
            size if size >= 1e6 || (size > 0.0 && size < 1e-3 && span < 1e-2) => format!("{value:.3e}"),
            _ if span >= 100.0 => format!("{value:.0}"),
            _ => format!("{value:.3}"),
        }
    }
}

/// The drawing as text: two dots across and four down in each character.
pub(crate) fn text(points: &Points, size: Option<Size>) -> String {
    let size = size.unwrap_or(SIZE);
    let labels = [points.y.text(points.y.to), points.y.text(points.y.from)];
    let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let (columns, rows) = (size.columns.saturating_sub(margin + 3).max(10), size.rows.saturating_sub(6).clamp(5, 40));
    let mut dots = vec![0_u8; columns * rows];
    let place = |part: f64, places: usize| ((part * (places - 1) as f64).round() as usize).min(places - 1);
    for (x, y) in &points.at {
        let (across, down) = (place(points.x.part(*x), columns * 2), place(1.0 - points.y.part(*y), rows * 4));
        dots[down / 4 * columns + across / 2] |= DOTS[down % 4][across % 2];
    }
    let mut lines = vec![format!("{:margin$}   {}", "", points.y.label)];
    for (row, dots) in dots.chunks(columns).enumerate() {
        let label = match row {
            0 => labels[0].as_str(),
            row if row + 1 == rows => labels[1].as_str(),
            _ => "",
        };
        let drawn: String = dots.iter().map(|dots| char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ')).collect();
        lines.push(format!("{label:>margin$} │{}", drawn.trim_end_matches('\u{2800}')));
    }
    lines.push(format!("{:margin$} └{}", "", "─".repeat(columns)));
    let (from, to) = (points.x.text(points.x.from), points.x.text(points.x.to));
    let gap = columns.saturating_sub(from.chars().count() + to.chars().count() + points.x.label.chars().count());
    let (left, right) = (" ".repeat((gap / 2).max(1)), " ".repeat((gap - gap / 2).max(1)));
    lines.push(format!("{:margin$}  {from}{left}{}{right}{to}", "", points.x.label));
    if points.missing > 0 {
        lines.push(format!("({} points; in {} more rows a value is missing)", points.at.len(), points.missing));
    }
    lines.join("\n")
}

/// The bits of the dots of a character of braille, from above to below.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Writes the drawing as an SVG.
pub(crate) fn svg(points: &Points, file: &Path) -> Result<()> {
    if file.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("svg")) {
        return Err(Error::new(Kind::InvalidQuery, format!("`{}` is no SVG", file.display())).hint("name it `NAME.svg`"));
    }
    let mut drawn = String::new();
    draw(points, &mut drawn).map_err(|why| Error::new(Kind::Internal, format!("the drawing failed: {why}")))?;
    std::fs::write(file, drawn).map_err(|error| crate::output::unwritable(&error).with("file", file.display()))
}

fn draw(points: &Points, drawn: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(drawn, PIXELS).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(points.x.from..points.x.to, points.y.from..points.y.to)?;
    chart
        .configure_mesh()
        .x_desc(&points.x.label)
        .y_desc(&points.y.label)
        .x_labels(6)
        .x_label_formatter(&|value| points.x.text(*value))
        .y_label_formatter(&|value| points.y.text(*value))
        .draw()?;
    chart.draw_series(PointSeries::<_, _, Circle<_, _>, _>::new(points.at.iter().copied(), 2, INK.filled()))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Points {
        let axis = |label: &str| Axis { label: label.to_owned(), is_time: false, from: 0.0, to: 9.0 };
        Points { at: (0..10).map(|at| (f64::from(at), f64::from(at))).collect(), x: axis("x"), y: axis("y [K]"), missing: 1 }
    }

    #[test]
    fn a_line_rises_from_left_to_right() {
        let text = text(&line(), Some(Size { columns: 30, rows: 12 }));
        let first_dot = |line: &str| line.split('│').nth(1).and_then(|drawn| drawn.chars().position(|dot| dot != '\u{2800}'));
        let rows: Vec<usize> = text.lines().filter_map(first_dot).collect();
        assert!(rows.len() >= 4 && rows.is_sorted_by(|above, below| above > below), "{text}");
        assert!(text.contains("y [K]") && text.contains("in 1 more rows a value is missing"), "{text}");
    }

    #[test]
    fn an_svg_holds_its_points_and_labels() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut drawn = String::new();
        draw(&line(), &mut drawn)?;
        assert!(drawn.starts_with("<svg") && drawn.matches("<circle").count() == 10 && drawn.contains("y [K]"), "{drawn}");
        Ok(())
    }
}

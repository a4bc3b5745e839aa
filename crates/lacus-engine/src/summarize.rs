//! `SUMMARIZE table` and `SUMMARIZE SELECT ...`: what each column holds, by one scan.

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use lacus_core::{Error, Kind, Result, unit_of};

/// What is told of each column, with how its SQL is made of the column's.
const TOLD: [&str; 12] =
    ["column_name", "column_type", "unit", "min", "max", "approx_unique", "avg", "std", "q25", "q50", "q75", "null_percentage"];

/// The query that summarizes what `from` stands for, a table or a query in parentheses, whose columns are those of `schema`.
pub(crate) fn query(from: &str, schema: &Schema) -> Result<String> {
    if schema.fields().is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "there are no columns to summarize"));
    }
    let columns: Vec<Column<'_>> = schema.fields().iter().enumerate().map(|(place, field)| Column { place, field }).collect();
    let aggregates: Vec<String> = columns.iter().flat_map(Column::aggregates).collect();
    let lists = TOLD.iter().enumerate().map(|(told, name)| {
        let values: Vec<String> = columns.iter().map(|column| column.told(told)).collect();
        format!("unnest(make_array({})) AS {name}", values.join(", "))
    });
    let lists: Vec<String> = lists.chain([format!("unnest(make_array({})) AS count", vec!["rows"; columns.len()].join(", "))]).collect();
    Ok(format!("SELECT {} FROM (SELECT count(*) AS rows, {} FROM {from})", lists.join(", "), aggregates.join(", ")))
}

/// A column of the table, by its place.
struct Column<'a> {
    place: usize,
    field: &'a Field,
}

impl Column<'_> {
    fn name(&self) -> String {
        format!("\"{}\"", self.field.name().replace('"', "\"\""))
    }

    /// Whether its values have an order that means something.
    fn is_ordered(&self) -> bool {
        use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
        let kind = self.field.data_type();
        !kind.is_nested() && !matches!(kind, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
    }

    /// Its value in a form that `approx_distinct` takes: floats, and what is stored by reference, as text.
    fn countable(&self) -> String {
        match self.field.data_type() {
            kind if kind.is_floating() || matches!(kind, DataType::Dictionary(..)) => format!("CAST({} AS varchar)", self.name()),
            _ => self.name(),
        }
    }

    fn is_number(&self) -> bool {
        self.field.data_type().is_numeric()
    }

    /// What is computed of it, each under a name of its own.
    fn aggregates(&self) -> Vec<String> {
        let (name, place) = (self.name(), self.place);
        let mut all = vec![format!("count({name}) AS n{place}")];
        if self.is_ordered() {
            all.push(format!("CAST(min({name}) AS varchar) AS low{place}, CAST(max({name}) AS varchar) AS high{place}"));
            all.push(format!("approx_distinct({}) AS unique{place}", self.countable()));
        }
        if self.is_number() {
            let value = format!("CAST({name} AS double)");
            all.push(format!("avg({value}) AS mean{place}, stddev({value}) AS std{place}"));
            let quartile =
                |part: f64, suffix: &str| format!("approx_percentile_cont({part}) WITHIN GROUP (ORDER BY {value}) AS {suffix}{place}");
            all.extend([quartile(0.25, "q25x"), quartile(0.5, "q50x"), quartile(0.75, "q75x")]);
        }
        all
    }

    /// The SQL of what is told of it, by the order of [`TOLD`].
    fn told(&self, told: usize) -> String {
        let place = self.place;
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let when = |holds: bool, name: &str, kind: &str| if holds { format!("{name}{place}") } else { format!("CAST(NULL AS {kind})") };
        match TOLD[told] {
            "column_name" => text(self.field.name()),
            "column_type" => text(&self.field.data_type().to_string()),
            "unit" => unit_of(self.field).map_or_else(|| "CAST(NULL AS varchar)".to_owned(), text),
            "min" => when(self.is_ordered(), "low", "varchar"),
            "max" => when(self.is_ordered(), "high", "varchar"),
            "approx_unique" => when(self.is_ordered(), "unique", "bigint unsigned"),
            "avg" => when(self.is_number(), "mean", "double"),
            "std" => when(self.is_number(), "std", "double"),
            "q25" => when(self.is_number(), "q25x", "double"),
            "q50" => when(self.is_number(), "q50x", "double"),
            "q75" => when(self.is_number(), "q75x", "double"),
            _ => format!("100.0 * (rows - n{place}) / nullif(rows, 0)"),
        }
    }
}

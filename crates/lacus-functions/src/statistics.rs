//! Tests of hypotheses, as aggregate functions: each gives a structure with the statistic, its degrees of freedom and how likely it is, two-sided.
//!
//! A row with NULL in an argument is left out. NaN makes the result NaN. What can't be said of too few rows is NULL.

mod adjusted;
mod bootstrap;
mod cross;
mod least_squares;
mod samples;
mod sums;
mod tails;
mod tested;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray, StructArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility, WindowUDF};
use lacus_core::{Error, Kind};

use crate::arguments::require_numbers;
use adjusted::AdjustedPValue;
use bootstrap::Bootstrap;
use least_squares::LeastSquares;
use samples::Samples;
use tested::Tested;

/// The section of the reference that documents these functions.
const STATISTICS: DocSection = DocSection { include: true, label: "Tests of hypotheses", description: None };

/// All of them.
pub fn statistics() -> Vec<AggregateUDF> {
    let tests = Test::ALL.into_iter().map(|test| AggregateUDF::from(Statistic::new(test)));
    let fits = [false, true].map(|is_through_origin| AggregateUDF::from(LeastSquares::new(is_through_origin)));
    tests.chain(fits).chain([AggregateUDF::from(Bootstrap::new())]).collect()
}

/// Those that look at all rows of a window.
pub fn window_statistics() -> Vec<WindowUDF> {
    vec![WindowUDF::from(AdjustedPValue::new())]
}

/// A test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Test {
    Welch,
    Paired,
    Anova,
    Pearson,
    Spearman,
    MannWhitney,
    KolmogorovSmirnov,
    ChiSquare,
}

impl Test {
    const ALL: [Self; 8] = [
        Self::Welch,
        Self::Paired,
        Self::Anova,
        Self::Pearson,
        Self::Spearman,
        Self::MannWhitney,
        Self::KolmogorovSmirnov,
        Self::ChiSquare,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Welch => "welch_t_test",
            Self::Paired => "paired_t_test",
            Self::Anova => "anova_test",
            Self::Pearson => "pearson_test",
            Self::Spearman => "spearman_test",
            Self::MannWhitney => "mann_whitney_test",
            Self::KolmogorovSmirnov => "kolmogorov_smirnov_test",
            Self::ChiSquare => "chi_square_test",
        }
    }

    /// What it is about, what its arguments are, and how it is called.
    fn page(self) -> (&'static str, [(&'static str, &'static str); 2], &'static str) {
        let (value, group) = (("value", "A number"), ("group", "Which group the row is of; any type, two values"));
        match self {
            Self::Welch => (
                "Whether two groups have the same mean, be their variances what they are (Welch's t test). `difference` is the mean of the \
                 group whose label comes first less that of the other; `low` and `high` bound it with 95 % confidence.",
                [value, group],
                "SELECT t.p_value, t.difference, t.low, t.high FROM (SELECT welch_t_test(power, machine) AS t FROM shots)",
            ),
            Self::Paired => (
                "Whether two measurements of each row have the same mean (the paired t test). `difference` is the mean of x - y; `low` and \
                 `high` bound it with 95 % confidence.",
                [("x", "A number"), ("y", "A number")],
                "SELECT paired_t_test(before, after) FROM runs",
            ),
            Self::Anova => (
                "Whether several groups have the same mean (one-way analysis of variance). `eta_squared` is the part of the variance that \
                 lies between the groups.",
                [value, ("group", "Which group the row is of; any type, any number of values")],
                "SELECT anova_test(power, machine) FROM shots",
            ),
            Self::Pearson => (
                "Whether two quantities are correlated linearly. `low` and `high` bound the correlation with 95 % confidence (Fisher).",
                [("x", "A number"), ("y", "A number")],
                "SELECT pearson_test(power, duration) FROM shots",
            ),
            Self::Spearman => (
                "Whether two quantities rise together, by their ranks. How likely that is comes from the distribution of t, which is near \
                 from some ten rows on. Keeps all values in memory.",
                [("x", "A number"), ("y", "A number")],
                "SELECT spearman_test(power, duration) FROM shots",
            ),
            Self::MannWhitney => (
                "Whether the values of one group tend to be larger than those of another, by their ranks. `statistic` is U of the group \
                 whose label comes first, `superiority` how likely one of its values is to be the larger one. Up to eight values in the \
                 smaller group, and none twice, the tail is counted (`exact`); else it is that of the normal distribution, corrected for \
                 ties and for continuity. Keeps all values in memory.",
                [value, group],
                "SELECT mann_whitney_test(power, machine) FROM shots",
            ),
            Self::KolmogorovSmirnov => (
                "Whether the values of two groups have the same distribution, by the greatest distance of their distribution functions \
                 (`statistic`, at the value `location`). Up to 10,000 values in each group the tail is counted (`exact`), as if none were there \
                 twice; else, and where counting takes too many steps, it is the limit for many. Keeps all values in memory.",
                [value, group],
                "SELECT kolmogorov_smirnov_test(power, machine) FROM shots",
            ),
            Self::ChiSquare => (
                "Whether two properties depend on each other, by how often their values stand in one row. Of two values each it is corrected \
                 for continuity (Yates). Where `least_expected` is below 5 the test says little.",
                [("a", "A value of any type"), ("b", "A value of any type")],
                "SELECT chi_square_test(machine, quality) FROM shots",
            ),
        }
    }

    fn fields(self) -> Fields {
        let (float, count, text) = (DataType::Float64, DataType::UInt64, DataType::Utf8);
        let student = ["statistic", "df", "p_value", "low", "high"].map(|name| (name, float.clone()));
        let mut fields = match self {
            Self::Welch => vec![
                ("group_a", text.clone()),
                ("group_b", text),
                ("count_a", count.clone()),
                ("count_b", count),
                ("mean_a", float.clone()),
                ("mean_b", float.clone()),
                ("difference", float.clone()),
            ],
            Self::Paired => vec![("count", count), ("difference", float.clone())],
            Self::Anova => vec![
                ("groups", count.clone()),
                ("count", count),
                ("statistic", float.clone()),
                ("df_between", float.clone()),
                ("df_within", float.clone()),
                ("p_value", float.clone()),
                ("eta_squared", float.clone()),
            ],
            Self::Pearson => vec![
                ("count", count),
                ("correlation", float.clone()),
                ("p_value", float.clone()),
                ("low", float.clone()),
                ("high", float.clone()),
            ],
            Self::Spearman => vec![("count", count), ("correlation", float.clone()), ("p_value", float.clone())],
            Self::MannWhitney => vec![
                ("group_a", text.clone()),
                ("group_b", text),
                ("count_a", count.clone()),
                ("count_b", count),
                ("statistic", float.clone()),
                ("p_value", float.clone()),
                ("exact", DataType::Boolean),
                ("superiority", float.clone()),
            ],
            Self::KolmogorovSmirnov => vec![
                ("group_a", text.clone()),
                ("group_b", text),
                ("count_a", count.clone()),
                ("count_b", count),
                ("statistic", float.clone()),
                ("location", float.clone()),
                ("p_value", float.clone()),
                ("exact", DataType::Boolean),
            ],
            Self::ChiSquare => vec![
                ("count", count),
                ("statistic", float.clone()),
                ("df", float.clone()),
                ("p_value", float.clone()),
                ("least_expected", float.clone()),
            ],
        };
        if matches!(self, Self::Welch | Self::Paired) {
            fields.extend(student);
        }
        fields.into_iter().map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))).collect()
    }

    fn samples(self) -> Samples {
        match self {
            Self::Welch | Self::Paired | Self::Anova | Self::Pearson => Samples::Moments(BTreeMap::new()),
            Self::Spearman | Self::MannWhitney | Self::KolmogorovSmirnov => Samples::Numbers(BTreeMap::new()),
            Self::ChiSquare => Samples::Counts(BTreeMap::new()),
        }
    }

    /// Whether an argument is a number, rather than a label.
    fn is_number(self, place: usize) -> bool {
        match self {
            Self::Paired | Self::Pearson | Self::Spearman => true,
            Self::Welch | Self::Anova | Self::MannWhitney | Self::KolmogorovSmirnov => place == 0,
            Self::ChiSquare => false,
        }
    }

    fn check(self, types: &[DataType]) -> Result<()> {
        let numbers: Vec<DataType> =
            types.iter().enumerate().filter(|(place, _)| self.is_number(*place)).map(|(_, of)| of.clone()).collect();
        require_numbers(self.name(), &numbers)?;
        // Bytes are no texts, and their texts would be those of other bytes.
        let is_no_label = |of: &DataType| of.is_nested() || of.is_binary() || matches!(of, DataType::FixedSizeBinary(_));
        match types.iter().enumerate().find(|(place, of)| !self.is_number(*place) && is_no_label(of)) {
            None => Ok(()),
            Some((_, of)) => {
                let error = Error::new(Kind::InvalidQuery, format!("`{}` takes simple values as labels, and a {of} is none", self.name()));
                Err(error.hint("name one of its parts, or write encode(..., 'hex') for bytes").into())
            }
        }
    }

    fn tested(self, samples: &Samples) -> Result<Tested> {
        let nothing = Default::default();
        Ok(match (self, samples) {
            (Self::Welch, Samples::Moments(labels)) => tested::welch(self.name(), labels)?,
            (Self::Paired, Samples::Moments(labels)) => tested::paired(labels.get(ALL_ROWS).unwrap_or(&nothing)),
            (Self::Anova, Samples::Moments(labels)) => tested::anova(labels),
            (Self::Pearson, Samples::Moments(labels)) => tested::pearson(labels.get(ALL_ROWS).unwrap_or(&nothing)),
            (Self::Spearman, Samples::Numbers(labels)) => {
                let [x, y] = [X, Y].map(|of| labels.get(of).map(Vec::as_slice).unwrap_or_default());
                tested::spearman(x, y)
            }
            (Self::MannWhitney, Samples::Numbers(labels)) => tested::mann_whitney(self.name(), labels)?,
            (Self::KolmogorovSmirnov, Samples::Numbers(labels)) => tested::kolmogorov_smirnov(self.name(), labels)?,
            (Self::ChiSquare, Samples::Counts(pairs)) => tested::chi_square(pairs),
            _ => None,
        })
    }
}

/// Under which labels the numbers of tests stand that have no groups.
const ALL_ROWS: &str = "";
const X: &str = "x";
const Y: &str = "y";

/// A test as a function of SQL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Statistic {
    test: Test,
    signature: Signature,
    documentation: Documentation,
}

impl Statistic {
    fn new(test: Test) -> Self {
        let (what, arguments, example) = test.page();
        let [(first, _), (second, _)] = arguments;
        let fields: Vec<String> = test.fields().iter().map(|field| format!("`{}`", field.name())).collect();
        let what = format!(
            "{what} Gives a structure of {}; rows with NULL are left out, NaN gives NaN, and of too few rows the result is NULL.",
            fields.join(", ")
        );
        let page = Documentation::builder(STATISTICS, what, format!("{}({first}, {second})", test.name()));
        let page = arguments.into_iter().fold(page, |page, (name, what)| page.with_argument(name, what));
        let documentation = page.with_sql_example(format!("```sql\n{example}\n```")).build();
        Self { test, signature: Signature::any(2, Volatility::Immutable), documentation }
    }
}

impl AggregateUDFImpl for Statistic {
    fn name(&self) -> &str {
        self.test.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.test.check(types)?;
        Ok(DataType::Struct(self.test.fields()))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[kept]", args.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(self.test.name(), &args)?;
        Ok(Box::new(Collecting { test: self.test, samples: self.test.samples() }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn refuse_distinct(name: &str, args: &AccumulatorArgs<'_>) -> Result<()> {
    if args.is_distinct {
        let error = Error::new(Kind::Unsupported, format!("`{name}` takes no DISTINCT"));
        return Err(error.hint("SELECT DISTINCT in a subquery, if equal rows are one").into());
    }
    Ok(())
}

/// Takes the rows of one group.
#[derive(Debug)]
struct Collecting {
    test: Test,
    samples: Samples,
}

/// The values of a column as numbers.
fn numbers(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(column, &DataType::Float64)?)
}

/// The values of a column as labels.
fn labels(column: &ArrayRef) -> Result<ArrayRef> {
    // What has no text is an error, not a row that is left out.
    Ok(cast_with_options(column, &DataType::Utf8, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// The numbers of a batch by their labels, each of which is looked for once then.
fn by_label<'a>(values: &Float64Array, groups: &'a StringArray, rows: impl Iterator<Item = usize>) -> BTreeMap<&'a str, Vec<f64>> {
    let mut labels = BTreeMap::<&str, Vec<f64>>::new();
    rows.for_each(|row| labels.entry(groups.value(row)).or_default().push(values.value(row)));
    labels
}

impl Accumulator for Collecting {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [first, second] = values else { return Ok(()) };
        let test = self.test;
        let of = |place: usize, column: &ArrayRef| if test.is_number(place) { numbers(column) } else { labels(column) };
        let (first, second) = (of(0, first)?, of(1, second)?);
        let rows = (0..first.len()).filter(|row| first.is_valid(*row) && second.is_valid(*row));
        match &mut self.samples {
            Samples::Moments(kept) if test.is_number(1) => {
                let (x, y) = (first.as_primitive::<Float64Type>(), second.as_primitive::<Float64Type>());
                let moments = kept.entry(ALL_ROWS.to_owned()).or_default();
                for row in rows {
                    let (x, y) = (x.value(row), y.value(row));
                    if test == Test::Paired { moments.add(x - y, 0.0) } else { moments.add(x, y) }
                }
            }
            Samples::Moments(kept) => {
                let (values, groups) = (first.as_primitive::<Float64Type>(), second.as_string::<i32>());
                for (label, numbers) in by_label(values, groups, rows) {
                    let moments = kept.entry(label.to_owned()).or_default();
                    numbers.into_iter().for_each(|number| moments.add(number, 0.0));
                }
            }
            Samples::Numbers(kept) if test.is_number(1) => {
                let (x, y) = (first.as_primitive::<Float64Type>(), second.as_primitive::<Float64Type>());
                let rows: Vec<usize> = rows.collect();
                kept.entry(X.to_owned()).or_default().extend(rows.iter().map(|row| x.value(*row)));
                kept.entry(Y.to_owned()).or_default().extend(rows.iter().map(|row| y.value(*row)));
            }
            Samples::Numbers(kept) => {
                let (values, groups) = (first.as_primitive::<Float64Type>(), second.as_string::<i32>());
                for (label, numbers) in by_label(values, groups, rows) {
                    kept.entry(label.to_owned()).or_default().extend(numbers);
                }
            }
            Samples::Counts(kept) => {
                let (a, b) = (first.as_string::<i32>(), second.as_string::<i32>());
                let mut pairs = BTreeMap::<(&str, &str), u64>::new();
                rows.for_each(|row| *pairs.entry((a.value(row), b.value(row))).or_default() += 1);
                for ((a, b), count) in pairs {
                    *kept.entry((a.to_owned(), b.to_owned())).or_default() += count;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let fields = self.test.fields();
        match self.test.tested(&self.samples)? {
            None => ScalarValue::try_from(&DataType::Struct(fields)),
            Some(values) => {
                let columns = values.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
                Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields, columns, None)?)))
            }
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.samples.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::LargeBinary(Some(self.samples.bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else { return Ok(()) };
        states.as_binary::<i64>().iter().flatten().try_for_each(|kept| self.samples.merge(kept))
    }
}

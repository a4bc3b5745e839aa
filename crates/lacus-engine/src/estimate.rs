//! What a query will read, told from its plan: nothing runs.

use std::any::Any;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use crate::access::RestrictedExec;
use crate::query::{Query, Work};

/// The counters by which a scan that is none of DataFusion's tells its files.
const FILES: &str = "files_planned";
/// Bytes of a value of which only its rows tell how long it is.
const LONG_VALUE: u64 = 32;

/// What a query will read, as far as its plan knows; see [`Query::estimate`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estimate {
    /// Rows of the answer.
    pub rows: Option<u64>,
    /// Each scan, in the order of the plan.
    pub scans: Vec<ScanEstimate>,
    /// The least and the greatest value of each column of the answer, where files tell them.
    pub ranges: Vec<Option<(ScalarValue, ScalarValue)>>,
    /// Whether rules show a table in part: what is read for it is not told.
    pub is_restricted: bool,
    /// The scans of such tables, which count for limits and for nobody's eyes.
    hidden: Vec<ScanEstimate>,
}

/// What one scan will read at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanEstimate {
    /// The site or database that is asked, if it is none of files.
    pub site: Option<String>,
    /// Files, where it knows them.
    pub files: Option<u64>,
    /// Rows.
    pub rows: Option<u64>,
    /// Bytes: of the files, or of the values where files hold more than is read.
    pub bytes: Option<u64>,
}

impl Estimate {
    /// The sum over the scans; `None` when one of them doesn't know.
    pub fn sum(&self, of: impl Fn(&ScanEstimate) -> Option<u64>) -> Option<u64> {
        if self.is_restricted {
            return None;
        }
        self.scans.iter().map(of).try_fold(0, |sum: u64, each| each.map(|each| sum.saturating_add(each)))
    }

    /// The sum over all scans, of what is known: for limits. Where a table is [restricted](Self::is_restricted) whoever asks may not see it.
    pub fn at_least(&self, of: impl Fn(&ScanEstimate) -> Option<u64>) -> u64 {
        self.scans.iter().chain(&self.hidden).filter_map(of).fold(0, u64::saturating_add)
    }

    /// How many requests go to sites and databases, as far as one may see it.
    pub fn remote_calls(&self) -> usize {
        self.scans.iter().filter(|scan| scan.site.is_some()).count()
    }

    /// How many requests go to sites and databases in all: for limits.
    pub fn all_remote_calls(&self) -> usize {
        self.scans.iter().chain(&self.hidden).filter(|scan| scan.site.is_some()).count()
    }
}

impl Query {
    /// What the query will read, and how much it will answer: nothing runs.
    pub fn estimate(&self) -> Estimate {
        let mut estimate = Estimate::default();
        let Work::Rows(rows) = self.work() else { return estimate };
        let whole = statistics(rows.plan.as_ref());
        estimate.rows = whole.as_ref().and_then(|whole| known(&whole.num_rows));
        let columns = whole.iter().flat_map(|whole| &whole.column_statistics);
        estimate.ranges = columns.map(|column| Some((value(&column.min_value)?, value(&column.max_value)?))).collect();
        add(rows.plan.as_ref(), &mut estimate, false);
        estimate
    }
}

fn statistics(plan: &dyn ExecutionPlan) -> Option<Statistics> {
    StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok().map(|found| Statistics::clone(&found))
}

fn known(rows: &Precision<usize>) -> Option<u64> {
    rows.get_value().and_then(|rows| u64::try_from(*rows).ok())
}

fn value(found: &Precision<ScalarValue>) -> Option<ScalarValue> {
    found.get_value().filter(|value| !value.is_null()).cloned()
}

/// Adds what the scans of a plan read.
fn add(plan: &dyn ExecutionPlan, estimate: &mut Estimate, is_hidden: bool) {
    let is_restricted = (plan as &dyn Any).is::<RestrictedExec>();
    estimate.is_restricted |= is_restricted;
    let is_hidden = is_hidden || is_restricted;
    let children = plan.children();
    if !children.is_empty() {
        children.into_iter().for_each(|child| add(child.as_ref(), estimate, is_hidden));
        return;
    }
    let rows = statistics(plan).and_then(|found| known(&found.num_rows));
    let decoded = || rows.map(|rows| rows.saturating_mul(width(&plan.schema())));
    let scan = match (plan as &dyn Any).downcast_ref::<DataSourceExec>() {
        Some(scan) => match (scan.data_source().as_ref() as &dyn Any).downcast_ref::<FileScanConfig>() {
            Some(files) => {
                let files = || files.file_groups.iter().flat_map(|group| group.iter());
                let bytes: u64 = files()
                    .map(|file| file.range.as_ref().map_or(file.object_meta.size, |range| (range.end - range.start).unsigned_abs()))
                    .sum();
                let count: std::collections::BTreeSet<_> = files().map(|file| &file.object_meta.location).collect();
                // Of wide files few columns are read.
                let bytes = decoded().map_or(bytes, |decoded| decoded.min(bytes));
                ScanEstimate { site: None, files: Some(count.len() as u64), rows, bytes: Some(bytes) }
            }
            None => {
                let planned = plan.metrics().and_then(|metrics| metrics.sum_by_name(FILES)).map(|files| files.as_usize() as u64);
                let planned = planned.or((scan.data_source().as_ref() as &dyn Any).is::<MemorySourceConfig>().then_some(0));
                ScanEstimate { site: None, files: planned, rows, bytes: decoded() }
            }
        },
        None => ScanEstimate { site: site(plan), files: Some(0), rows, bytes: decoded() },
    };
    if is_hidden { estimate.hidden.push(scan) } else { estimate.scans.push(scan) }
}

/// The site that a leaf asks, by what it tells of itself.
fn site(plan: &dyn ExecutionPlan) -> Option<String> {
    let shown = datafusion::physical_plan::displayable(plan).one_line().to_string();
    let (_, rest) = shown.split_once("site=").filter(|_| plan.name() == "SiteExec")?;
    rest.split([',', '\n']).next().map(str::to_owned)
}

/// About how many bytes a row has, decoded.
fn width(schema: &Schema) -> u64 {
    schema.fields().iter().map(|field| field.data_type().primitive_width().map_or(LONG_VALUE, |width| width as u64)).sum()
}

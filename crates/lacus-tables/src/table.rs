//! A table as queries see it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::stats::Precision;
use datafusion_common::{Result, Statistics, project_schema};
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, Column};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::empty::EmptyExec;
use datafusion_physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::delta::DataFile;
use crate::types::Columns;

/// One version of a table.
#[derive(Debug)]
pub(crate) struct WrittenTable {
    columns: Columns,
    /// The names of the files that it consists of.
    pub(crate) files: HashSet<String>,
    /// The files; `None` when there are none.
    inner: Option<Arc<dyn TableProvider>>,
    rows: Option<u64>,
}

impl WrittenTable {
    pub(crate) fn new(columns: Columns, files: &[DataFile], inner: Option<Arc<dyn TableProvider>>) -> Self {
        let names = files.iter().map(|file| file.name.clone()).collect();
        let rows = files.iter().map(|file| file.rows).sum();
        Self { columns, files: names, inner, rows }
    }

    /// Whether a column is in the files as the table tells it.
    fn is_plain(&self, place: usize) -> bool {
        let (told, stored) = (self.columns.told.field(place), self.columns.stored.field(place));
        told.name() == stored.name() && told.data_type() == stored.data_type()
    }

    fn reads_plainly(&self, filter: &Expr) -> bool {
        filter.column_refs().into_iter().all(|column| self.columns.told.index_of(column.name()).is_ok_and(|place| self.is_plain(place)))
    }
}

/// An expression that gives a column of the files as the table tells it.
fn told(place: usize, name: &str, stored: &DataType, wanted: &DataType) -> Arc<dyn PhysicalExpr> {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, place));
    if stored == wanted { column } else { Arc::new(CastExpr::new(column, wanted.clone(), None)) }
}

#[async_trait]
impl TableProvider for WrittenTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.told)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = project_schema(&self.columns.told, projection)?;
        let Some(inner) = &self.inner else { return Ok(Arc::new(EmptyExec::new(wanted))) };
        let filters: Vec<Expr> = filters.iter().filter(|filter| self.reads_plainly(filter)).cloned().collect();
        let scan = inner.scan(session, projection, &filters, limit).await?;
        let places: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.columns.told.fields().len()).collect(),
        };
        if places.iter().all(|place| self.is_plain(*place)) {
            return Ok(scan);
        }
        let columns = places.iter().enumerate().map(|(position, place)| {
            let (field, stored) = (self.columns.told.field(*place), self.columns.stored.field(*place));
            ProjectionExpr { expr: told(position, stored.name(), stored.data_type(), field.data_type()), alias: field.name().clone() }
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), scan)?))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.reads_plainly(filter) && self.inner.is_some() {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        // The log tells the number of rows; a file of which it doesn't leaves it open.
        let rows = self.rows.map_or(Precision::Absent, |rows| Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX)));
        Some(Statistics { num_rows: rows, ..Statistics::new_unknown(&self.columns.told) })
    }
}

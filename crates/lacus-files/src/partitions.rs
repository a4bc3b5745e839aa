//! Which files the columns that stand in their paths leave of a query.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::Schema;
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, utils::conjunction};
use datafusion_physical_expr::create_physical_expr;
use lacus_core::{Error, Kind, Partitions, Result};

/// Whether `filter` can be decided by the partition columns alone.
pub(crate) fn decides(partitions: &Partitions, filter: &Expr) -> bool {
    let names: Vec<&str> = partitions.fields.iter().map(|field| field.name().as_str()).collect();
    !names.is_empty() && datafusion_catalog_listing::helpers::expr_applicable_for_cols(&names, filter)
}

/// Which files pass all `filters`, each of which the partition columns decide.
pub(crate) fn select(partitions: &Partitions, filters: &[Expr]) -> Result<Vec<bool>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(vec![true; partitions.rows.len()]) };
    let schema = Arc::new(Schema::new(partitions.fields.clone()));
    let columns = (0..partitions.fields.len())
        .map(|column| ScalarValue::iter_to_array(partitions.rows.iter().map(|row| row[column].clone())))
        .collect::<datafusion_common::Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let schema = DFSchema::try_from(schema)?;
    let predicate = create_physical_expr(&filter, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let passed = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
    let passed = passed
        .as_any()
        .downcast_ref::<BooleanArray>()
        .ok_or_else(|| Error::new(Kind::Internal, format!("the filter `{filter}` is {}, not boolean", passed.data_type())))?;
    Ok((0..passed.len()).map(|row| passed.is_valid(row) && passed.value(row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_expr::{col, lit};
    use object_store::path::Path;

    #[test]
    fn filters_select_files() -> Result<()> {
        let paths = ["lab/x/year=2024/f.csv", "lab/x/year=2025/f.csv", "lab/x/year=__HIVE_DEFAULT_PARTITION__/f.csv"].map(Path::from);
        let found = Partitions::find(&Path::from("lab/x"), &paths.iter().collect::<Vec<_>>(), None)?;
        assert!(decides(&found, &col("year").gt(lit(1_i64))));
        assert!(!decides(&found, &col("other").gt(lit(1_i64))));
        assert_eq!(select(&found, &[col("year").gt(lit(2024_i64))])?, [false, true, false]);
        assert_eq!(select(&found, &[])?, [true, true, true]);
        Ok(())
    }
}

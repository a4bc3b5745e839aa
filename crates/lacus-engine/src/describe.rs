//! `DESCRIBE table`: names, types, units and descriptions.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::MemTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, DescribeAlias};
use lacus_core::{Result, description_of, unit_of};

use crate::access::Access;

/// The query that a statement describes, in the place of the statement: its plan tells more than its schema does.
pub(crate) fn take_query(statement: &mut Statement) -> bool {
    let Statement::Statement(outer) = statement else { return false };
    let ast::Statement::Explain {
        describe_alias: DescribeAlias::Describe | DescribeAlias::Desc,
        analyze: false,
        verbose: false,
        statement: inner,
        ..
    } = outer.as_mut()
    else {
        return false;
    };
    if !matches!(inner.as_ref(), ast::Statement::Query(_)) {
        return false;
    }
    let query = std::mem::replace(inner.as_mut(), ast::Statement::Commit { chain: false, end: false, modifier: None });
    *outer.as_mut() = query;
    true
}

/// Replaces DataFusion's `DESCRIBE`, which knows neither units nor descriptions.
pub(crate) fn rewrite(plan: LogicalPlan, access: &Access) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::DescribeTable(describe) => rows(&describe.schema, access),
        other => Ok(other),
    }
}

/// A table of the columns of `schema`.
pub(crate) fn rows(schema: &Schema, access: &Access) -> Result<LogicalPlan> {
    let fields = schema.fields();
    let text = |of: fn(&Field) -> Option<String>| -> ArrayRef { Arc::new(fields.iter().map(|field| of(field)).collect::<StringArray>()) };
    let nullable: BooleanArray = fields.iter().map(|field| Some(field.is_nullable())).collect();
    let columns = vec![
        text(|field| Some(field.name().clone())),
        text(|field| Some(field.data_type().to_string())),
        Arc::new(nullable),
        text(|field| unit_of(field).map(str::to_owned)),
        text(|field| description_of(field).map(str::to_owned)),
    ];
    let column = |(name, data_type, nullable)| Field::new(name, data_type, nullable);
    let described = Arc::new(Schema::new(
        [
            ("column_name", DataType::Utf8, false),
            ("data_type", DataType::Utf8, false),
            ("is_nullable", DataType::Boolean, false),
            ("unit", DataType::Utf8, true),
            ("description", DataType::Utf8, true),
        ]
        .map(column)
        .to_vec(),
    ));
    let batch = RecordBatch::try_new(Arc::clone(&described), columns)?;
    let table = MemTable::try_new(described, vec![vec![batch]])?;
    let table = access.opened(Arc::new(table));
    Ok(LogicalPlanBuilder::scan("describe", provider_as_source(table), None)?.build()?)
}

//! A recursive query whose steps compute a column that has metadata.
//!
//! DataFusion wants the rows of all steps to have the same metadata, and an expression has none of that of its column: `SELECT x FROM t UNION
//! ALL SELECT x * 2 FROM r` fails where `x` has a unit. So both say what the first says.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, RecursiveQuery};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub(super) struct RecursiveMetadata;

impl AnalyzerRule for RecursiveMetadata {
    fn name(&self) -> &str {
        "recursive_metadata"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::RecursiveQuery(query) if differs(&query) => told(query).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn differs(query: &RecursiveQuery) -> bool {
    let (first, step) = (query.static_term.schema().fields(), query.recursive_term.schema().fields());
    first.iter().zip(step).any(|(first, step)| first.metadata() != step.metadata())
}

fn told(query: RecursiveQuery) -> Result<LogicalPlan> {
    let fields = query.static_term.schema().fields().clone();
    // What only a step says, the first says, too: metadata is added by an alias, and never taken away.
    let metadata = fields.iter().zip(query.recursive_term.schema().fields()).map(|(first, step)| {
        let mut metadata = step.metadata().clone();
        metadata.extend(first.metadata().clone());
        FieldMetadata::from(metadata)
    });
    let metadata: Vec<FieldMetadata> = metadata.collect();
    let project = |term: Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        let columns = term.schema().iter().map(|(relation, field)| Column::new(relation.cloned(), field.name()));
        let named = columns.zip(&fields).zip(&metadata);
        let exprs = named.map(|((column, field), metadata)| Expr::Column(column).alias_with_metadata(field.name(), Some(metadata.clone())));
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs.collect(), Arc::clone(&term))?)))
    };
    let (static_term, recursive_term) = (project(Arc::clone(&query.static_term))?, project(Arc::clone(&query.recursive_term))?);
    Ok(LogicalPlan::RecursiveQuery(RecursiveQuery { static_term, recursive_term, ..query }))
}

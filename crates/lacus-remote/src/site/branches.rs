//! A union of inputs, some of which are asked of sites, below what could be computed for each input before the rows come together.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, DFSchema, Result, TableReference};
use datafusion_expr::logical_plan::{Projection, Union};
use datafusion_expr::{Expr, LogicalPlan, cast};

use super::fold::{fold, reads_sites};

/// A plan in which `rewrite` has put something in the place of nodes, if it reads a table of a site.
pub(super) fn rewritten(
    plan: LogicalPlan,
    rewrite: impl Fn(&LogicalPlan) -> Result<Option<LogicalPlan>>,
) -> Result<Transformed<LogicalPlan>> {
    if !reads_sites(&plan)? {
        return Ok(Transformed::no(plan));
    }
    plan.transform_down_with_subqueries(|node| match rewrite(&node)? {
        Some(other) => Ok(Transformed::yes(other)),
        None => Ok(Transformed::no(node)),
    })
}

/// The inputs of a union, each as the plan that stands on the union would see it if it were the only one.
pub(super) struct Branches(pub(super) Vec<LogicalPlan>);

impl Branches {
    /// The branches of `plan`, if it is a union below projections.
    pub(super) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        Ok(match plan {
            LogicalPlan::Union(union) => Some(Self(union.inputs.iter().map(|input| renamed(input, union)).collect::<Result<Vec<_>>>()?)),
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => match Self::of(plan.inputs()[0])? {
                Some(Self(below)) => {
                    let on = |branch| plan.with_new_exprs(plan.expressions(), vec![branch]);
                    Some(Self(below.into_iter().map(on).collect::<Result<Vec<_>>>()?))
                }
                None => None,
            },
            _ => None,
        })
    }

    /// What each branch becomes, if a site can be asked one of them.
    pub(super) fn each(self, other: impl Fn(LogicalPlan) -> Result<LogicalPlan>) -> Result<Option<Self>> {
        let all = self.0.into_iter().map(other).collect::<Result<Vec<_>>>()?;
        Ok(all.iter().any(|branch| fold(branch).is_some()).then_some(Self(all)))
    }

    /// The union of what each branch has become, with the names that `like` has.
    pub(super) fn united_like(self, like: &LogicalPlan) -> Result<LogicalPlan> {
        let united = self.united()?;
        let columns = (0..united.schema().fields().len()).map(|place| column_at(&united, place)).collect();
        named_like(united, columns, like)
    }

    /// The union of what each branch has become, whose columns are those of the first.
    pub(super) fn united(self) -> Result<LogicalPlan> {
        let Union { inputs, schema } = Union::try_new(self.0.into_iter().map(Arc::new).collect())?;
        let columns = schema.iter().enumerate().map(|(place, (qualifier, field))| {
            // What is said of the columns of the inputs is brought together as the union of their rows does it.
            let of_inputs: Vec<&FieldRef> = inputs.iter().map(|input| input.schema().field(place)).collect();
            let base = of_inputs.iter().position(|field| field.is_nullable()).unwrap_or_default();
            let others = of_inputs.iter().enumerate().filter(|(input, _)| *input != base).map(|(_, field)| field.metadata());
            let mut metadata = of_inputs[base].metadata().clone();
            others.for_each(|other| metadata.extend(other.clone()));
            (qualifier.cloned(), Arc::new(field.as_ref().clone().with_metadata(metadata)))
        });
        let schema = Arc::new(DFSchema::new_with_metadata(columns.collect(), schema.metadata().clone())?);
        Ok(LogicalPlan::Union(Union { inputs, schema }))
    }
}

/// An input of a union with the names and the types of the union.
fn renamed(input: &LogicalPlan, union: &Union) -> Result<LogicalPlan> {
    let columns = input.schema().iter().zip(union.schema.iter()).map(|((qualifier, field), (of_union, wanted))| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let column = if field.data_type() == wanted.data_type() { column } else { cast(column, wanted.data_type().clone()) };
        column.alias_qualified(of_union.cloned(), wanted.name())
    });
    let columns = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input.clone()))?))
}

/// A column by its place in a plan.
pub(super) fn column_at(plan: &LogicalPlan, place: usize) -> Expr {
    let (qualifier, field) = plan.schema().qualified_field(place);
    Expr::Column(Column::new(qualifier.cloned(), field.name()))
}

/// `plan`, whose columns are `exprs`, with the names that `like` has.
pub(super) fn named_like(plan: LogicalPlan, exprs: Vec<Expr>, like: &LogicalPlan) -> Result<LogicalPlan> {
    let named = exprs
        .into_iter()
        .zip(like.schema().iter())
        .map(|(expr, (qualifier, field)): (Expr, (Option<&TableReference>, _))| expr.alias_qualified(qualifier.cloned(), field.name()));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(plan))?))
}

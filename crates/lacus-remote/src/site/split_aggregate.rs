//! Aggregates over a union are computed for each input and put together: what is asked of a site is its groups, not its rows.
//!
//! Where a key of the groups is a value of its own for each input, no group is in two of them, and their aggregates are those of the union.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion_expr::logical_plan::{Aggregate, Projection};
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, SortExpr, cast, col, lit};
use datafusion_functions_aggregate::average::avg_udaf;
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::covariance::covar_pop_udaf;
use datafusion_functions_aggregate::sum::sum_udaf;
use datafusion_functions_aggregate::variance::var_pop_udaf;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::branches::{Branches, column_at, named_like, rewritten};
use super::moments::{Moment, decimal_average, merged_moments};
use super::sketches::{merged_sketches, sketch_of};
use super::words::PERCENTILE;

/// The name by which the rule is switched off.
pub(super) const NAME: &str = "split_aggregate";
/// The name by which groups stay whole where they can.
pub(super) const WHOLE: &str = "whole_groups";
/// What names of columns begin with that hold parts.
const PART: &str = "part_of_";

/// The rule that splits aggregates.
#[derive(Debug)]
pub(super) struct SplitAggregate;

/// The rule that leaves aggregates whole whose groups are of one input each.
#[derive(Debug)]
pub(super) struct WholeGroups;

impl OptimizerRule for SplitAggregate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        rewritten(plan, of_aggregate(split))
    }
}

impl OptimizerRule for WholeGroups {
    fn name(&self) -> &'static str {
        WHOLE
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        rewritten(plan, of_aggregate(whole))
    }
}

/// What becomes of an aggregation, by one of the rules; of anything else nothing.
fn of_aggregate(by: fn(&Aggregate) -> Result<Option<LogicalPlan>>) -> impl Fn(&LogicalPlan) -> Result<Option<LogicalPlan>> {
    move |node| if let LogicalPlan::Aggregate(aggregate) = node { by(aggregate) } else { Ok(None) }
}

/// The union of the aggregates of each input, where these are those of the union.
fn whole(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some(branches) = Branches::of(&aggregate.input)? else { return Ok(None) };
    let tells_apart = |key: &Expr| {
        let values: Option<HashSet<&ScalarValue>> = branches.0.iter().map(|branch| constant(key, branch)).collect();
        values.is_some_and(|values| values.len() == branches.0.len())
    };
    if !aggregate.group_expr.iter().any(tells_apart) {
        return Ok(None);
    }
    let (keys, functions) = (&aggregate.group_expr, &aggregate.aggr_expr);
    let of_branch = |branch| Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(branch), keys.clone(), functions.clone())?));
    let Some(all) = branches.each(of_branch)? else { return Ok(None) };
    all.unnamed()?.united_like(&LogicalPlan::Aggregate(aggregate.clone())).map(Some)
}

impl Branches {
    /// The branches with columns that are called by their places.
    fn unnamed(self) -> Result<Self> {
        let unnamed = |plan: LogicalPlan| {
            let columns = (0..plan.schema().fields().len()).map(|place| column_at(&plan, place).alias(format!("{PART}{place}")));
            Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?))
        };
        Ok(Self(self.0.into_iter().map(unnamed).collect::<Result<Vec<_>>>()?))
    }
}

/// The value that an expression has in all rows of a plan, if it stands there as one.
fn constant<'a>(expr: &'a Expr, plan: &'a LogicalPlan) -> Option<&'a ScalarValue> {
    match expr {
        Expr::Alias(alias) => constant(&alias.expr, plan),
        // What floating point takes for equal may be written differently.
        Expr::Literal(value, _) => Some(value).filter(|value| !value.data_type().is_floating()),
        Expr::Column(column) => match plan {
            LogicalPlan::Projection(projection) => {
                constant(projection.expr.get(plan.schema().maybe_index_of_column(column)?)?, &projection.input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (qualifier, field) = alias.input.schema().qualified_field(plan.schema().maybe_index_of_column(column)?);
                let LogicalPlan::Projection(projection) = alias.input.as_ref() else { return None };
                let column = Column::new(qualifier.cloned(), field.name());
                constant(projection.expr.get(alias.input.schema().maybe_index_of_column(&column)?)?, &projection.input)
            }
            LogicalPlan::Filter(filter) => constant(expr, &filter.input),
            _ => None,
        },
        _ => None,
    }
}

/// Aggregates of each input, put together.
fn split(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some(branches) = Branches::of(&aggregate.input)? else { return Ok(None) };
    let is_part = |field: &str| field.starts_with(PART);
    if aggregate.input.schema().fields().iter().any(|field| is_part(field.name())) {
        return Ok(None);
    }
    let mut parts = Parts::default();
    let mut finished = Vec::with_capacity(aggregate.aggr_expr.len());
    for (function, wanted) in aggregate.aggr_expr.iter().zip(&aggregate.schema.fields()[aggregate.group_expr.len()..]) {
        let Some(result) = parts.of(function, &aggregate.input, wanted.data_type())? else { return Ok(None) };
        finished.push(result);
    }
    let keys = aggregate.group_expr.len();
    let of_branch = |branch| {
        // What differs in a cast alone has one name.
        let named = |(place, part): (usize, &Expr)| part.clone().alias(format!("{PART}function_{place}"));
        let functions = parts.partial.iter().enumerate().map(named).collect();
        Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(branch), aggregate.group_expr.clone(), functions)?))
    };
    let Some(all) = branches.each(of_branch)? else { return Ok(None) };
    let united = all.unnamed()?.united()?;
    let group = (0..keys).map(|place| column_at(&united, place)).collect();
    let merged = parts.merged.into_iter().enumerate().map(|(place, Merge { by, parts })| {
        let args = parts.into_iter().map(|part| column_at(&united, keys + part)).collect();
        Expr::AggregateFunction(AggregateFunction::new_udf(by, args, false, None, Vec::new(), None)).alias(merged_name(place))
    });
    let merged = merged.collect();
    let whole = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(united), group, merged)?);
    let columns = (0..keys).map(|place| column_at(&whole, place)).chain(finished).collect();
    named_like(whole, columns, &LogicalPlan::Aggregate(aggregate.clone())).map(Some)
}

fn merged_name(place: usize) -> String {
    format!("{PART}all_{place}")
}

/// A function that puts parts together, and which of them.
struct Merge {
    by: Arc<AggregateUDF>,
    parts: Vec<usize>,
}

/// What is computed of each input, and how it is put together.
#[derive(Default)]
struct Parts {
    partial: Vec<Expr>,
    merged: Vec<Merge>,
}

impl Parts {
    /// The place of a part, which is computed once.
    fn part(&mut self, part: AggregateFunction) -> usize {
        let part = Expr::AggregateFunction(part);
        match self.partial.iter().position(|known| *known == part) {
            Some(place) => place,
            None => {
                self.partial.push(part);
                self.partial.len() - 1
            }
        }
    }

    /// The column that holds parts, put together.
    fn merge(&mut self, by: Arc<AggregateUDF>, parts: Vec<usize>) -> Expr {
        self.merged.push(Merge { by, parts });
        col(merged_name(self.merged.len() - 1))
    }

    /// What gives the result of a function; `None` if it can't be put together from those of parts.
    fn of(&mut self, function: &Expr, input: &LogicalPlan, wanted: &DataType) -> Result<Option<Expr>> {
        let function = match function {
            Expr::Alias(alias) => return self.of(&alias.expr, input, wanted),
            Expr::AggregateFunction(function) => function,
            _ => return Ok(None),
        };
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = &function.params;
        let name = function.func.name();
        let keeps_duplicates = !matches!(name, "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or");
        let is_ordered = !order_by.is_empty() && name != PERCENTILE;
        if is_ordered || null_treatment.is_some() || (*distinct && keeps_duplicates) {
            return Ok(None);
        }
        let by = |func: Arc<AggregateUDF>, args: Vec<Expr>| AggregateFunction::new_udf(func, args, false, filter.clone(), Vec::new(), None);
        let data_type = |expr: &Expr| expr.get_type(input.schema().as_ref());
        let as_float = |expr: &Expr| {
            Ok::<_, DataFusionError>(match data_type(expr)? {
                DataType::Float64 => expr.clone(),
                _ => cast(expr.clone(), DataType::Float64),
            })
        };
        Ok(Some(match (name, args.as_slice()) {
            ("count", _) => {
                let part = self.part(function.clone());
                let all = self.merge(sum_udaf(), vec![part]);
                // No rows at all are none, and not unknown.
                datafusion_functions::core::expr_fn::coalesce(vec![all, lit(0_i64)])
            }
            ("sum", _) => {
                let part = self.part(function.clone());
                // A sum of sums has more digits than any sum needs.
                cast(self.merge(sum_udaf(), vec![part]), wanted.clone())
            }
            ("min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor", _) => {
                let part = self.part(function.clone());
                self.merge(Arc::clone(&function.func), vec![part])
            }
            ("avg", [arg]) => {
                let (sum, count) = (self.part(by(sum_udaf(), args.clone())), self.part(by(count_udaf(), args.clone())));
                let (sum, count) = (self.merge(sum_udaf(), vec![sum]), self.merge(sum_udaf(), vec![count]));
                match (data_type(arg)?, wanted) {
                    (DataType::Float64, DataType::Float64) => sum / cast(count, DataType::Float64),
                    (DataType::Decimal128(_, scale), DataType::Decimal128(..)) => decimal_average(sum, count, scale, wanted),
                    _ => return Ok(None),
                }
            }
            _ if let Some(sketch) = sketch_of(name) => {
                let types = args.iter().map(data_type).collect::<Result<Vec<_>>>()?;
                let Some(merged) = merged(name, types, args, order_by) else { return Ok(None) };
                let part = self.part(by(sketch, args.clone()));
                self.merge(merged, vec![part])
            }
            (_, [arg]) if let Some(moment) = Moment::of_one(name) => {
                let arg = vec![as_float(arg)?];
                let parts = [count_udaf(), avg_udaf(), var_pop_udaf()].map(|func| self.part(by(func, arg.clone())));
                self.merge(merged_moments(moment), parts.to_vec())
            }
            (_, [x, y]) if let Some(moment) = Moment::of_two(name) => {
                // A pair of which one is unknown is in no moment.
                let both = x.clone().is_not_null().and(y.clone().is_not_null());
                let among = match filter {
                    Some(filter) => filter.as_ref().clone().and(both),
                    None => both,
                };
                let among = Some(Box::new(among));
                let by = |func: Arc<AggregateUDF>, args: Vec<Expr>| {
                    AggregateFunction::new_udf(func, args, false, among.clone(), Vec::new(), None)
                };
                let (x, y) = (vec![as_float(x)?], vec![as_float(y)?]);
                let parts = [
                    by(count_udaf(), x.clone()),
                    by(avg_udaf(), x.clone()),
                    by(avg_udaf(), y.clone()),
                    by(covar_pop_udaf(), [x.clone(), y.clone()].concat()),
                    by(var_pop_udaf(), x),
                    by(var_pop_udaf(), y),
                ];
                let parts = parts.map(|part| self.part(part)).to_vec();
                self.merge(merged_moments(moment), parts)
            }
            _ => return Ok(None),
        }))
    }
}

/// What puts the sketches of a function together; `None` where its arguments are not known before it is computed.
fn merged(name: &str, types: Vec<DataType>, args: &[Expr], order: &[SortExpr]) -> Option<Arc<AggregateUDF>> {
    let (first, values) = args.split_first()?;
    if order.first().is_some_and(|key| key.expr != *first) {
        return None;
    }
    let is_descending = order.first().is_some_and(|key| !key.asc);
    let value = |(place, value): (usize, &Expr)| match value {
        // A share from above is another from below.
        Expr::Literal(ScalarValue::Float64(Some(share)), _) if place == 0 && is_descending => Some((1.0 - share).into()),
        Expr::Literal(value, _) if place > 0 || !is_descending => Some(value.clone()),
        _ => None,
    };
    merged_sketches(name, types, values.iter().enumerate().map(value).collect::<Option<Vec<_>>>()?)
}

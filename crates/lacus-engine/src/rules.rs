//! What DataFusion's optimizer leaves out: one rule a file, each of use to anybody, none that knows a source.
//!
//! Rules change plans, not answers. `benches/README.md` says what each gained or lost.

mod bits;
mod build_side;
mod conjuncts;
mod cooperative;
mod decimal_words;
mod join_order;
mod keys_into_aggregate;
mod long_values;
mod recursive_metadata;
mod semi_join_below;
mod shared_subplans;
mod wide_division;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{AnalyzerRule, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_planner::ExtensionPlanner;
use lacus_core::{Error, Kind, Result, nearest};

pub(crate) use long_values::with_bounds;
pub(crate) use shared_subplans::share;

/// The names of the rules, as the lake file switches them off.
pub const RULES: [&str; 7] = [
    semi_join_below::NAME,
    keys_into_aggregate::NAME,
    shared_subplans::NAME,
    join_order::NAME,
    build_side::NAME,
    decimal_words::NAME,
    conjuncts::NAME,
];

/// A rule on logical plans.
pub(crate) type LogicalRule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rules on logical plans, without those that are switched off; `more` are those that the program brought.
pub(crate) fn logical(off: &[String], more: Vec<LogicalRule>) -> Vec<LogicalRule> {
    let all: [LogicalRule; 2] = [Arc::new(semi_join_below::SemiJoinBelow), Arc::new(keys_into_aggregate::KeysIntoAggregate)];
    all.into_iter().chain(more).filter(|rule| is_on(off, rule.name())).collect()
}

/// What is wrong with the types that a statement has, as long as it has them.
pub(crate) fn before_coercion() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(bits::Bits)
}

/// What plans need to have an answer at all, behind DataFusion's coercion of types.
pub(crate) fn analyzers() -> [Arc<dyn AnalyzerRule + Send + Sync>; 2] {
    [Arc::new(wide_division::WideDivision), Arc::new(recursive_metadata::RecursiveMetadata)]
}

/// All rules on physical plans: DataFusion's among ours, without those that are switched off.
pub(crate) fn physical(off: &[String]) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;
    let own = |rule: Rule| Some(rule).filter(|rule| is_on(off, rule.name()));
    let mut rules: Vec<Rule> = own(Arc::new(join_order::JoinOrder)).into_iter().collect();
    for rule in PhysicalOptimizer::new().rules {
        let chooses_sides = rule.name() == "join_selection";
        rules.push(rule);
        rules.extend(chooses_sides.then(|| own(Arc::new(build_side::BuildSide))).flatten());
    }
    rules.extend(own(Arc::new(decimal_words::DecimalWords)));
    rules.extend(own(Arc::new(conjuncts::Conjuncts)));
    rules.push(Arc::new(cooperative::Cooperative));
    rules
}

/// Whether equal parts of a plan are shared.
pub(crate) fn shares(off: &[String]) -> bool {
    is_on(off, shared_subplans::NAME)
}

/// What plans the nodes that rules put into plans.
pub(crate) fn extension_planners() -> Vec<Arc<dyn ExtensionPlanner + Send + Sync>> {
    vec![Arc::new(shared_subplans::SharedPlanner)]
}

/// Refuses names that no rule has, be it one of `more`.
pub(crate) fn check(off: &[String], more: &[LogicalRule]) -> Result<()> {
    let known: Vec<&str> = RULES.into_iter().chain(more.iter().map(|rule| rule.name())).collect();
    match off.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let error = Error::new(Kind::InvalidConfiguration, format!("no rule `{unknown}`"));
            Err(match nearest(unknown, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the rules are {}", known.join(", "))),
            })
        }
    }
}

fn is_on(off: &[String], name: &str) -> bool {
    !off.iter().any(|off| off == name)
}

/// The column that an expression is, through its aliases.
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column(&alias.expr),
        _ => None,
    }
}

/// The column of the input that a column of `plan` is handed on from: through projections that leave it as it is, aliases and filters.
fn handed_on(plan: &LogicalPlan, wanted: &Column) -> Option<Column> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let place = projection.schema.maybe_index_of_column(wanted)?;
            column(projection.expr.get(place)?).cloned()
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let place = alias.schema.maybe_index_of_column(wanted)?;
            Some(Column::from(alias.input.schema().qualified_field(place)))
        }
        LogicalPlan::Filter(filter) => filter.input.schema().has_column(wanted).then(|| wanted.clone()),
        _ => None,
    }
}

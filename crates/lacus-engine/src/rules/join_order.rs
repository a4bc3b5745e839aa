//! Inner joins in the order that makes the fewest rows, by what is known of the tables; DataFusion joins them as they are written.
//!
//! ```text
//! hash joins -> relations, equalities, filters (graph) -> the cheapest tree (search) -> hash joins, with the columns as they were
//! ```
//!
//! It comes before all other rules on physical plans, which choose sides, partitions and what filters the scans.

mod graph;
mod search;

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{JoinSide, JoinType, NullEquality, Result};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use graph::{Filter, Graph};
use search::{Relations, Tree};

pub(super) const NAME: &str = "join_order";

/// Estimates are rough, so an order that looks only a little cheaper than what was written is left alone.
const WORTH: f64 = 0.8;

#[derive(Debug)]
pub(super) struct JoinOrder;

impl PhysicalOptimizerRule for JoinOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        ordered(plan)
    }

    fn name(&self) -> &str {
        NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn ordered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(mut graph) = Graph::of(&plan)? else {
        let children = plan.children().into_iter().map(|child| ordered(Arc::clone(child))).collect::<Result<Vec<_>>>()?;
        return replace_children_if_necessary(plan, children);
    };
    for relation in &mut graph.relations {
        relation.plan = ordered(Arc::clone(&relation.plan))?;
    }
    let Some(relations) = Relations::of(&graph)? else { return graph.unchanged(plan) };
    let written = relations.cost_of(&graph.written);
    match relations.cheapest() {
        Some(tree) if relations.cost_of(&tree) < WORTH * written => {
            let joined = joined(&graph, &relations, &tree)?;
            // Whatever is unusual about the columns, such as metadata that only a join has, is left as it is.
            if joined.schema() == plan.schema() { Ok(joined) } else { graph.unchanged(plan) }
        }
        _ => graph.unchanged(plan),
    }
}

/// The rows that a plan may give: of inner joins by what is known of their tables, of a semi or anti join those of its side, else what
/// DataFusion estimates. `None` when nobody knows.
pub(super) fn estimated_rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<f64>> {
    if let Some(graph) = Graph::of(plan)? {
        return Ok(Relations::of(&graph)?.map(|relations| relations.rows_of(&graph.written)));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        match join.join_type() {
            JoinType::LeftSemi | JoinType::LeftAnti => return estimated_rows(join.left()),
            JoinType::RightSemi | JoinType::RightAnti => return estimated_rows(join.right()),
            _ => {}
        }
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return estimated_rows(projection.input());
    }
    search::rows(plan)
}

/// What has been joined, and which column of the graph each of its columns is.
struct Part {
    plan: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
}

impl Part {
    fn place(&self, column: usize) -> Option<usize> {
        self.columns.iter().position(|own| *own == column)
    }

    fn column(&self, column: usize) -> Option<Arc<dyn PhysicalExpr>> {
        let place = self.place(column)?;
        Some(Arc::new(Column::new(self.plan.schema().field(place).name(), place)))
    }
}

/// The joins of a tree, below a projection that gives the columns their places and names.
fn joined(graph: &Graph, relations: &Relations<'_>, tree: &Tree) -> Result<Arc<dyn ExecutionPlan>> {
    let mut filters = graph.filters.iter().collect();
    let whole = part(graph, relations, tree, &mut filters)?;
    let columns = graph.output.iter().filter_map(|(column, name)| Some((whole.column(*column)?, name.clone())));
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), whole.plan)?))
}

fn part(graph: &Graph, relations: &Relations<'_>, tree: &Tree, filters: &mut Vec<&Filter>) -> Result<Part> {
    let (left, right) = match tree {
        Tree::Relation(number) => {
            let relation = &graph.relations[*number];
            return Ok(Part { plan: Arc::clone(&relation.plan), columns: relation.columns().collect() });
        }
        Tree::Join(left, right) => (left, right),
    };
    // The table of a join is made of its left side.
    let (build, probe) = if relations.rows_of(left) <= relations.rows_of(right) { (left, right) } else { (right, left) };
    let (left, right) = (part(graph, relations, build, filters)?, part(graph, relations, probe, filters)?);
    // Columns that are equal are so within each side already: one of each stands for them.
    let of = |part: &Part, class: &[usize]| class.iter().find_map(|column| part.column(*column));
    let on = graph.classes.iter().filter_map(|class| Some((of(&left, class)?, of(&right, class)?))).collect();
    let both: Vec<usize> = left.columns.iter().chain(&right.columns).copied().collect();
    // A filter belongs to the first join that has all of its columns.
    let (now, later): (Vec<_>, Vec<_>) = filters.drain(..).partition(|filter| filter.columns.iter().all(|column| both.contains(column)));
    *filters = later;
    let kept: Vec<usize> = (0..both.len()).filter(|place| is_needed(graph, tree, filters, &both, *place)).collect();
    let columns = kept.iter().map(|place| both[*place]).collect();
    let builder = HashJoinExecBuilder::new(Arc::clone(&left.plan), Arc::clone(&right.plan), on, JoinType::Inner)
        .with_filter(filter(&now, &left, &right))
        .with_projection((kept.len() < both.len()).then_some(kept));
    Ok(Part { plan: Arc::new(builder.build()?), columns })
}

/// Whether anything above a join of `tree` asks for the column at `place` of `both`. Of columns that are equal the first stands for all in
/// the joins to come.
fn is_needed(graph: &Graph, tree: &Tree, filters: &[&Filter], both: &[usize], place: usize) -> bool {
    let column = both[place];
    let joined_later = |class: &Vec<usize>| {
        let first = both.iter().find(|other| class.contains(other));
        first == Some(&column) && class.iter().any(|other| !graph.holds(tree, *other))
    };
    graph.output.iter().any(|(output, _)| *output == column)
        || filters.iter().any(|filter| filter.columns.contains(&column))
        || graph.classes.iter().any(joined_later)
}

/// Filters as the one filter of a join.
fn filter(filters: &[&Filter], left: &Part, right: &Part) -> Option<JoinFilter> {
    let mut whole: Option<Arc<dyn PhysicalExpr>> = None;
    let (mut indices, mut fields) = (Vec::new(), Vec::new());
    for filter in filters {
        let expression = filter.shifted(fields.len());
        fields.extend(filter.schema.fields().iter().cloned());
        indices.extend(filter.columns.iter().filter_map(|column| {
            let of_left = left.place(*column).map(|index| ColumnIndex { index, side: JoinSide::Left });
            of_left.or_else(|| right.place(*column).map(|index| ColumnIndex { index, side: JoinSide::Right }))
        }));
        whole = Some(match whole {
            Some(before) => Arc::new(BinaryExpr::new(before, Operator::And, expression)),
            None => expression,
        });
    }
    Some(JoinFilter::new(whole?, indices, Arc::new(Schema::new(fields))))
}

/// An inner join that only says which columns are equal, and maybe what else must hold.
fn plain(plan: &dyn ExecutionPlan) -> Option<&HashJoinExec> {
    let join = plan.downcast_ref::<HashJoinExec>()?;
    let columns = join.on().iter().all(|(left, right)| left.downcast_ref::<Column>().is_some() && right.downcast_ref::<Column>().is_some());
    let ordinary = *join.join_type() == JoinType::Inner && join.fetch().is_none();
    (ordinary && columns && join.null_equality() == NullEquality::NullEqualsNothing).then_some(join)
}

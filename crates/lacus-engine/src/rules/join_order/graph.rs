//! What a tree of inner joins says, whatever their order.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinSide, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use super::plain;
use super::search::Tree;

/// Relations whose rows are combined, and what must hold of a combination. Columns are numbered through all relations.
pub(super) struct Graph {
    pub(super) relations: Vec<Relation>,
    /// Columns that are equal, each set once: of `a = b` and `b = c` follows `a = c`.
    pub(super) classes: Vec<Vec<usize>>,
    pub(super) filters: Vec<Filter>,
    /// The columns of the result, and what they are called there.
    pub(super) output: Vec<(usize, String)>,
    /// The order that the plan has.
    pub(super) written: Tree,
}

/// What is joined.
pub(super) struct Relation {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// The number of its first column.
    pub(super) first: usize,
}

impl Relation {
    pub(super) fn columns(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.plan.schema().fields().len()
    }
}

/// What must hold beside equalities.
pub(super) struct Filter {
    expression: Arc<dyn PhysicalExpr>,
    /// What the columns of the expression are.
    pub(super) columns: Vec<usize>,
    pub(super) schema: SchemaRef,
}

impl Filter {
    /// The expression for columns that stand `by` places later.
    pub(super) fn shifted(&self, by: usize) -> Arc<dyn PhysicalExpr> {
        let shift = |expression: Arc<dyn PhysicalExpr>| {
            Ok(match expression.downcast_ref::<Column>() {
                Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), column.index() + by)) as Arc<dyn PhysicalExpr>),
                None => Transformed::no(expression),
            })
        };
        let shifted = Arc::clone(&self.expression).transform(shift);
        shifted.map_or_else(|_| Arc::clone(&self.expression), |shifted| shifted.data)
    }
}

impl Graph {
    /// The graph of a plan whose root is one of several inner joins; `None` for any other.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        if plain(plan.as_ref()).is_none() {
            return Ok(None);
        }
        let mut graph =
            Self { relations: Vec::new(), classes: Vec::new(), filters: Vec::new(), output: Vec::new(), written: Tree::Relation(0) };
        let (tree, columns) = graph.take(plan);
        let schema = plan.schema();
        graph.output = columns.into_iter().zip(schema.fields()).map(|(column, field)| (column, field.name().clone())).collect();
        graph.written = tree;
        Ok((graph.relations.len() > 2).then_some(graph))
    }

    /// Whether a column is of a relation in `tree`.
    pub(super) fn holds(&self, tree: &Tree, column: usize) -> bool {
        match tree {
            Tree::Relation(number) => self.relations[*number].columns().contains(&column),
            Tree::Join(left, right) => self.holds(left, column) || self.holds(right, column),
        }
    }

    /// The plan in its order, with its relations as they are now.
    pub(super) fn unchanged(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        self.with_relations(plan, &mut self.relations.iter())
    }

    fn with_relations<'a>(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        relations: &mut impl Iterator<Item = &'a Relation>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if joins_below(&plan) {
            let children = plan.children().into_iter().map(|child| self.with_relations(Arc::clone(child), relations));
            let children = children.collect::<Result<_>>()?;
            return replace_children_if_necessary(plan, children);
        }
        Ok(relations.next().map_or(plan, |relation| Arc::clone(&relation.plan)))
    }

    /// Takes in what a plan says: its tree, and what its columns are.
    fn take(&mut self, plan: &Arc<dyn ExecutionPlan>) -> (Tree, Vec<usize>) {
        if let Some(join) = plain(plan.as_ref()) {
            return self.take_join(join);
        }
        if joins_below(plan)
            && let Some(projection) = plan.downcast_ref::<ProjectionExec>()
        {
            let (tree, columns) = self.take(projection.input());
            let places = projection.expr().iter().filter_map(|projected| projected.expr.downcast_ref::<Column>());
            return (tree, places.map(|column| columns[column.index()]).collect());
        }
        let first = self.relations.last().map_or(0, |last| last.columns().end);
        self.relations.push(Relation { plan: Arc::clone(plan), first });
        (Tree::Relation(self.relations.len() - 1), (first..first + plan.schema().fields().len()).collect())
    }

    fn equate(&mut self, one: usize, other: usize) {
        let (with, without): (Vec<Vec<usize>>, Vec<_>) =
            std::mem::take(&mut self.classes).into_iter().partition(|class| class.contains(&one) || class.contains(&other));
        self.classes = without;
        let mut merged: Vec<usize> = with.concat();
        merged.extend([one, other]);
        merged.sort_unstable();
        merged.dedup();
        self.classes.push(merged);
    }

    fn take_join(&mut self, join: &HashJoinExec) -> (Tree, Vec<usize>) {
        let ((left_tree, left), (right_tree, right)) = (self.take(join.left()), self.take(join.right()));
        for (one, other) in join.on() {
            if let (Some(one), Some(other)) = (one.downcast_ref::<Column>(), other.downcast_ref::<Column>()) {
                self.equate(left[one.index()], right[other.index()]);
            }
        }
        if let Some(filter) = join.filter() {
            let columns = filter.column_indices().iter().map(|column| match column.side {
                JoinSide::Right => right[column.index],
                JoinSide::Left | JoinSide::None => left[column.index],
            });
            let (expression, schema) = (Arc::clone(filter.expression()), Arc::clone(filter.schema()));
            self.filters.push(Filter { expression, columns: columns.collect(), schema });
        }
        let all: Vec<usize> = left.into_iter().chain(right).collect();
        let columns = match &join.projection {
            Some(places) => places.iter().map(|place| all[*place]).collect(),
            None => all,
        };
        (Tree::Join(Box::new(left_tree), Box::new(right_tree)), columns)
    }
}

/// Whether a plan is an inner join, or hands on columns of one.
fn joins_below(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let columns = projection.expr().iter().all(|projected| projected.expr.downcast_ref::<Column>().is_some());
        return columns && joins_below(projection.input());
    }
    plain(plan.as_ref()).is_some()
}

//! The cheapest order of joins.
//!
//! The rows of a join are the product of those of its relations, divided for each set of equal columns by the number of distinct values
//! of all but the one that has fewest. How many values a column has is bounded by its rows and, of whole numbers and dates, by its range. The cost of a join is
//! the rows that go into its table, those that look into it, and those that come out.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use super::graph::Graph;

/// More relations have too many orders to look at all.
const MOST: usize = 10;
/// What a row costs that goes into the table of a join, beside one that looks into it.
const BUILD: f64 = 2.0;
/// The part of rows that a filter beside the equalities lets through, as DataFusion assumes.
const PASSES: f64 = 0.2;

/// An order of joins.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Relation(usize),
    Join(Box<Tree>, Box<Tree>),
}

/// A set of relations, a bit each.
type Set = u32;

/// A column that is equal to others, and how many values it may have.
#[derive(Debug, Clone, Copy)]
struct Member {
    relation: usize,
    distinct: f64,
}

/// What is known of the relations of a graph.
pub(super) struct Relations<'a> {
    graph: &'a Graph,
    rows: Vec<f64>,
    /// Rows before their filters.
    unfiltered: Vec<f64>,
    /// Columns that are equal; of each relation at most one.
    classes: Vec<Vec<Member>>,
    filters: Vec<Set>,
    /// The rows of the join of each set, which are the same in whatever order it is joined.
    joined: Vec<f64>,
}

impl<'a> Relations<'a> {
    /// `None` where too little is known, where there are too many, or where a filter or equal columns are of one relation.
    pub(super) fn of(graph: &'a Graph) -> Result<Option<Self>> {
        if graph.relations.len() > MOST {
            return Ok(None);
        }
        let (mut rows, mut unfiltered, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for relation in &graph.relations {
            let statistics = statistics(&relation.plan)?;
            let Some(count) = rows_in(&statistics, &relation.plan) else { return Ok(None) };
            rows.push(count);
            unfiltered.push(rows_before_filters(&relation.plan)?.unwrap_or(count).max(count));
            known.push(statistics);
        }
        let owner = |column: usize| graph.relations.iter().position(|relation| relation.columns().contains(&column));
        let mut classes = Vec::new();
        for class in &graph.classes {
            let mut members: Vec<Member> = Vec::new();
            for column in class {
                let Some(relation) = owner(*column) else { return Ok(None) };
                if members.iter().any(|member| member.relation == relation) {
                    return Ok(None);
                }
                let place = column - graph.relations[relation].first;
                let values = known[relation].column_statistics.get(place).map_or(rows[relation], |column| distinct(column, rows[relation]));
                members.push(Member { relation, distinct: values });
            }
            classes.push(members);
        }
        let set = |columns: &[usize]| columns.iter().try_fold(0, |set: Set, column| Some(set | 1 << owner(*column)?));
        let filters: Option<Vec<Set>> = graph.filters.iter().map(|filter| set(&filter.columns)).collect();
        let Some(filters) = filters.filter(|filters| filters.iter().all(|filter| filter.count_ones() > 1)) else { return Ok(None) };
        let mut relations = Self { graph, rows, unfiltered, classes, filters, joined: Vec::new() };
        relations.joined = (0..1 << graph.relations.len()).map(|set| relations.estimate(set)).collect();
        Ok(Some(relations))
    }

    /// The cheapest order without products of unrelated relations; `None` when there is none.
    pub(super) fn cheapest(&self) -> Option<Tree> {
        let all: Set = (1 << self.graph.relations.len()) - 1;
        let mut best: HashMap<Set, (f64, Tree)> =
            (0..self.graph.relations.len()).map(|one| (1 << one, (0.0, Tree::Relation(one)))).collect();
        // Parts of a set are smaller numbers than the set.
        for set in 1..=all {
            if set.count_ones() < 2 {
                continue;
            }
            let mut part = (set - 1) & set;
            while part > 0 {
                let rest = set & !part;
                if part > rest
                    && self.touch(part, rest)
                    && let (Some((left, left_tree)), Some((right, right_tree))) = (best.get(&part), best.get(&rest))
                {
                    let cost = left + right + self.cost(part, rest);
                    if best.get(&set).is_none_or(|(known, _)| cost < *known) {
                        let tree = Tree::Join(Box::new(left_tree.clone()), Box::new(right_tree.clone()));
                        best.insert(set, (cost, tree));
                    }
                }
                part = (part - 1) & set;
            }
        }
        best.remove(&all).map(|(_, tree)| tree)
    }

    /// What an order costs.
    pub(super) fn cost_of(&self, tree: &Tree) -> f64 {
        match tree {
            Tree::Relation(_) => 0.0,
            Tree::Join(left, right) => self.cost_of(left) + self.cost_of(right) + self.cost(set(left), set(right)),
        }
    }

    /// The rows that come out of an order.
    pub(super) fn rows_of(&self, tree: &Tree) -> f64 {
        self.rows_in(set(tree))
    }

    fn touch(&self, one: Set, other: Set) -> bool {
        let reaches = |class: &[Member], set: Set| class.iter().any(|member| set & (1 << member.relation) != 0);
        self.classes.iter().any(|class| reaches(class, one) && reaches(class, other))
    }

    fn cost(&self, one: Set, other: Set) -> f64 {
        let (one_rows, other_rows) = (self.rows_in(one), self.rows_in(other));
        BUILD * one_rows.min(other_rows) + one_rows.max(other_rows) + self.rows_in(one | other)
    }

    fn rows_in(&self, set: Set) -> f64 {
        self.joined[set as usize]
    }

    fn estimate(&self, set: Set) -> f64 {
        let inside = |relation: usize| set & (1 << relation) != 0;
        let all: Vec<usize> = (0..self.rows.len()).filter(|relation| inside(*relation)).collect();
        let mut rows: f64 = all.iter().map(|relation| self.rows[*relation]).product();
        // Of each class the parts that are not yet equal to each other: their relations, and how many values they have.
        let part = |member: &Member| (1 << member.relation, member.distinct);
        let parts = |class: &Vec<Member>| class.iter().filter(|member| inside(member.relation)).map(part).collect();
        let mut parts: Vec<Vec<(Set, f64)>> = self.classes.iter().map(parts).collect();
        // Several equalities of the same two relations are one key, which has no more values than the smaller of them has rows.
        for (place, left) in all.iter().enumerate() {
            for right in &all[place + 1..] {
                let pair = |class: &Vec<(Set, f64)>| {
                    let of = |relation: &usize| class.iter().position(|(set, _)| set & (1 << relation) != 0);
                    Some((of(left)?, of(right)?)).filter(|(left, right)| left != right)
                };
                let pairs: Vec<(usize, (usize, usize))> =
                    parts.iter().enumerate().filter_map(|(class, parts)| Some((class, pair(parts)?))).collect();
                if pairs.len() < 2 {
                    continue;
                }
                let mut key = 1.0;
                for (class, (one, other)) in pairs {
                    let (set, distinct) = parts[class][other];
                    let kept = &mut parts[class][one];
                    *kept = (kept.0 | set, kept.1.max(distinct));
                    key *= kept.1.max(1.0);
                    parts[class].swap_remove(other);
                }
                rows /= key.min(self.unfiltered[*left].min(self.unfiltered[*right]).max(1.0));
            }
        }
        for class in &mut parts {
            class.sort_by(|(_, one), (_, other)| one.total_cmp(other));
            rows = class.iter().skip(1).fold(rows, |rows, (_, distinct)| rows / distinct.max(1.0));
        }
        let filters = self.filters.iter().filter(|filter| set & *filter == **filter).count();
        (rows * PASSES.powi(i32::try_from(filters).unwrap_or(i32::MAX))).max(1.0)
    }
}

fn set(tree: &Tree) -> Set {
    match tree {
        Tree::Relation(number) => 1 << number,
        Tree::Join(left, right) => set(left) | set(right),
    }
}

fn statistics(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<Statistics>> {
    StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())
}

/// The rows of a plan, as far as they are known.
pub(super) fn rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<f64>> {
    Ok(rows_in(&*statistics(plan)?, plan))
}

fn count(rows: &Precision<usize>) -> Option<f64> {
    rows.get_value().map(|rows| *rows as f64)
}

/// The rows of a relation. Of groups nobody says how many there are, but they are no more than the values of their keys.
fn rows_in(statistics: &Statistics, plan: &Arc<dyn ExecutionPlan>) -> Option<f64> {
    let rows = count(&statistics.num_rows)?;
    let Some(groups) = grouped(plan).map(|aggregate| aggregate.group_expr().expr().len()) else { return Some(rows) };
    let keys = statistics.column_statistics.iter().take(groups).map(|column| distinct(column, rows)).product::<f64>();
    Some(if groups == 0 { 1.0 } else { rows.min(keys) })
}

fn grouped(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    plan.downcast_ref::<AggregateExec>()
}

/// The rows of a relation without what filters it.
fn rows_before_filters(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<f64>> {
    let input = plan.downcast_ref::<FilterExec>().map(FilterExec::input);
    match input.or_else(|| plan.downcast_ref::<ProjectionExec>().map(ProjectionExec::input)) {
        Some(input) => rows_before_filters(input),
        None => Ok(count(&statistics(plan)?.num_rows)),
    }
}

/// How many values a column may have among `rows`.
fn distinct(column: &ColumnStatistics, rows: f64) -> f64 {
    let told = count(&column.distinct_count);
    let range = column.min_value.get_value().zip(column.max_value.get_value()).and_then(|(min, max)| Some(whole(max)? - whole(min)? + 1.0));
    [told, range].into_iter().flatten().fold(rows, f64::min).max(1.0)
}

fn whole(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Int8(value) => value.map(f64::from),
        ScalarValue::Int16(value) => value.map(f64::from),
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => value.map(f64::from),
        ScalarValue::Int64(value) => value.map(|value| value as f64),
        ScalarValue::UInt8(value) => value.map(f64::from),
        ScalarValue::UInt16(value) => value.map(f64::from),
        ScalarValue::UInt32(value) => value.map(f64::from),
        ScalarValue::UInt64(value) => value.map(|value| value as f64),
        _ => None,
    }
}

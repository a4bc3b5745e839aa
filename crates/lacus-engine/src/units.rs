//! The units of what a query gives, as far as its plan tells them.
//!
//! DataFusion hands on the metadata of a column, and leaves out that of most expressions: `max(t)` has none. Here a plan is walked through
//! once for the units of its columns: what keeps a quantity keeps its unit, what makes another one of it has the unit of that, and of all
//! else the unit is not known, so that none is told. In passing, what brings numbers of different units together is found: sums,
//! differences, comparisons, branches of one column.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{AggregateFunctionParams, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, ExprSchemable, JoinType, LogicalPlan, Operator, lit};
use lacus_core::{Error, Kind, Result, UNIT_KEY, unit_of};
use lacus_units::Unit;

/// The other key of a unit, which some writers of files use.
const OTHER_KEY: &str = "unit";
/// What belongs to a unit that is a date.
const CALENDAR_KEY: &str = "calendar";
/// How the keys of a type begin, which are no description.
const TYPE_KEYS: &str = "ARROW:";
/// What files write where there is no unit.
const NONE: [&str; 5] = ["none", "n/a", "unknown", "undefined", "-"];
/// The function that converts numbers.
const CONVERT: &str = "convert_units";
/// So many letters of an expression are shown.
const SHOWN: usize = 80;

/// What becomes of a query that brings numbers of different units together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnitRules {
    /// It is answered, with a notice.
    #[default]
    Warn,
    /// It is refused.
    Strict,
}

impl UnitRules {
    const ALL: [(&str, Self); 2] = [("warn", Self::Warn), ("strict", Self::Strict)];
}

impl std::str::FromStr for UnitRules {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, rules)| *rules).ok_or_else(|| Error::new(Kind::InvalidQuery, format!("`{text}` is neither `warn` nor `strict`")))
    }
}

impl Display for UnitRules {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Self::ALL.iter().filter(|(_, rules)| rules == self).try_for_each(|(name, _)| formatter.write_str(name))
    }
}

/// A schema of what `plan` gives with the units of its columns, and what the plan brings together that has different ones.
pub(crate) fn told(plan: &LogicalPlan, schema: Schema) -> (Schema, BTreeSet<String>) {
    let mut walk = Walk::default();
    let columns = walk.plan(plan);
    if columns.len() != schema.fields().len() {
        return (schema, walk.problems);
    }
    let fields = schema.fields().iter().zip(columns).map(|(field, told)| with_unit(field, &told));
    let fields: Vec<Field> = fields.collect();
    (Schema::new_with_metadata(fields, schema.metadata().clone()), walk.problems)
}

/// A plan whose calls of `convert_units` all say what they convert from: where they don't, it is what the plan tells of their values.
///
/// # Errors
/// `InvalidQuery` for values whose unit nobody tells.
pub(crate) fn resolved(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_short = |call: &ScalarFunction| call.func.name() == CONVERT && call.args.len() == 2;
    let asks = |node: &LogicalPlan| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::ScalarFunction(call) if is_short(call))))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok::<_, DataFusionError>(found)
    };
    // Few statements ask, and a plan is not taken apart for the others.
    let mut is_asked = false;
    plan.apply_with_subqueries(|node| {
        is_asked |= asks(node)?;
        Ok(if is_asked { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !is_asked {
        return Ok(plan);
    }
    let resolved = plan.transform_up_with_subqueries(|node| {
        if !asks(&node)? {
            return Ok(Transformed::no(node));
        }
        let mut walk = Walk::default();
        let inputs: Vec<(DFSchema, Vec<Told>)> =
            node.inputs().into_iter().map(|input| (input.schema().as_ref().clone(), walk.plan(input))).collect();
        let seen: Vec<(&DFSchema, &[Told])> = inputs.iter().map(|(schema, told)| (schema, told.as_slice())).collect();
        let names = NamePreserver::new(&node);
        let mut resolve = |expr: Expr| {
            let name = names.save(&expr);
            let resolved = expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut call) if is_short(&call) => {
                    let told = walk.expr(&call.args[0], &seen);
                    call.args.insert(1, lit(converted(&call.args[0], &told, &call.args[1])?));
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(resolved.update_data(|expr| name.restore(expr)))
        };
        let resolved = node.map_expressions(|expr| match expr {
            // The names are those of what stands in it.
            Expr::GroupingSet(_) => expr.map_children(&mut resolve),
            expr => resolve(expr),
        })?;
        resolved.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(resolved.data)
}

/// The unit that a value is converted from.
///
/// # Errors
/// `InvalidQuery` where it isn't known, and where a difference would be taken for a place on a scale.
fn converted(value: &Expr, told: &Told, target: &Expr) -> Result<String> {
    let invalid = |message: String| Error::new(Kind::InvalidQuery, message);
    let say = format!("say it: {CONVERT}(value, 'degC', 'K'); DESCRIBE shows those of columns");
    match told {
        Told::Unit(unit) if unit.is_difference && has_origin(target) => {
            Err(invalid(format!("{} is a difference in `{}`, and {} is counted from another zero", Code(value), unit.text, Code(target)))
                .hint("differences of degC are in K as they are"))
        }
        Told::Unit(unit) => Ok(unit.text.clone()),
        Told::Mixed => Err(invalid(format!("{} has several units", Code(value))).hint("convert each of its parts")),
        Told::Any | Told::Unknown => Err(invalid(format!("nobody tells the unit of {}", Code(value))).hint(say)),
    }
}

fn has_origin(unit: &Expr) -> bool {
    let Expr::Literal(text, _) = unit else { return false };
    text.try_as_str().flatten().and_then(|text| Unit::parse(text).ok()).is_some_and(|unit| unit.has_origin())
}

/// What is wrong with rows that go into columns: those that are in other units than the columns.
pub(crate) fn misplaced(rows: &Schema, columns: &Schema) -> BTreeSet<String> {
    let mut walk = Walk::default();
    for (row, column) in rows.fields().iter().zip(columns.fields()) {
        let (one, other) = (walk.field(column), walk.field(row));
        walk.compare(&one, &other, &format_args!("the column `{}`", column.name()));
    }
    walk.problems
}

fn with_unit(field: &Field, told: &Told) -> Field {
    let known = match told {
        Told::Unit(unit) if unit_of(field) == Some(&unit.text) => return field.clone(),
        Told::Unit(unit) => Some(unit),
        Told::Any | Told::Unknown if unit_of(field).is_none() => return field.clone(),
        Told::Any | Told::Unknown => None,
        Told::Mixed => {
            let of_type = field.metadata().iter().filter(|(key, _)| key.starts_with(TYPE_KEYS));
            let metadata = of_type.map(|(key, value)| (key.clone(), value.clone())).collect();
            return field.clone().with_metadata(metadata);
        }
    };
    let mut metadata = field.metadata().clone();
    [UNIT_KEY, OTHER_KEY, CALENDAR_KEY].iter().for_each(|key| drop(metadata.remove(*key)));
    if let Some(known) = known {
        metadata.insert(UNIT_KEY.to_owned(), known.text.clone());
        metadata.extend(known.calendar.iter().map(|calendar| (CALENDAR_KEY.to_owned(), calendar.clone())));
    }
    field.clone().with_metadata(metadata)
}

/// What is known of the unit of a column or an expression.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    /// It fits any unit: a number that is written out, a parameter, NULL.
    Any,
    /// It may have one, which nobody tells.
    Unknown,
    /// It has several, so that what describes one of them doesn't describe it.
    Mixed,
    Unit(Rc<Known>),
}

/// A unit as the metadata of a column has it.
#[derive(Debug, PartialEq)]
struct Known {
    text: String,
    calendar: Option<String>,
    /// Whether it is how far numbers are apart, which no zero matters to.
    is_difference: bool,
    /// `None` for what is no unit here: dates, and what somebody made up.
    read: Option<Unit>,
}

/// Columns that expressions are about, with their units.
type Inputs<'a> = [(&'a DFSchema, &'a [Told])];

#[derive(Default)]
struct Walk {
    problems: BTreeSet<String>,
    known: HashMap<(String, Option<String>, bool), Rc<Known>>,
}

impl Walk {
    fn unit(&mut self, text: &str, calendar: Option<&str>) -> Told {
        self.known(text, calendar, false)
    }

    fn known(&mut self, text: &str, calendar: Option<&str>, is_difference: bool) -> Told {
        let key = (text.to_owned(), calendar.map(str::to_owned), is_difference);
        let known = self.known.entry(key).or_insert_with_key(|(text, calendar, is_difference)| {
            let (text, calendar, read) = (text.clone(), calendar.clone(), Unit::parse(text).ok());
            Rc::new(Known { text, calendar, is_difference: *is_difference, read })
        });
        Told::Unit(Rc::clone(known))
    }

    /// The unit of how far numbers are apart.
    fn apart(&mut self, text: Option<String>) -> Told {
        text.map_or(Told::Unknown, |text| self.known(&text, None, true))
    }

    /// A unit that was made of others, if one was.
    fn made(&mut self, text: Option<String>) -> Told {
        text.map_or(Told::Unknown, |text| self.unit(&text, None))
    }

    fn field(&mut self, field: &Field) -> Told {
        match unit_of(field) {
            Some(text) => self.unit(text, field.metadata().get(CALENDAR_KEY).map(String::as_str)),
            None => Told::Unknown,
        }
    }

    fn schema(&mut self, schema: &DFSchema) -> Vec<Told> {
        schema.fields().iter().map(|field| self.field(field)).collect()
    }

    /// The units of the columns of a plan.
    #[recursive::recursive]
    fn plan(&mut self, plan: &LogicalPlan) -> Vec<Told> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.plan(&projection.input);
                self.all(&projection.expr, &[(projection.input.schema(), &input)])
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = self.plan(&aggregate.input);
                let inputs: &Inputs<'_> = &[(aggregate.input.schema(), &input)];
                let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr).unwrap_or_default().into_iter().cloned().collect();
                let mut columns = self.all(&keys, inputs);
                let computed = self.all(&aggregate.aggr_expr, inputs);
                // Grouping sets have a column of their own.
                columns.resize(aggregate.schema.fields().len().saturating_sub(computed.len()), Told::Unknown);
                columns.extend(computed);
                columns
            }
            LogicalPlan::Window(window) => {
                let mut columns = self.plan(&window.input);
                let computed = self.all(&window.window_expr, &[(window.input.schema(), &columns)]);
                columns.extend(computed);
                columns
            }
            LogicalPlan::Join(join) => {
                let (left, right) = (self.plan(&join.left), self.plan(&join.right));
                let inputs: &Inputs<'_> = &[(join.left.schema(), &left), (join.right.schema(), &right)];
                for (one, other) in &join.on {
                    let (first, second) = (self.expr(one, inputs), self.expr(other, inputs));
                    self.compare(&first, &second, &format_args!("{} = {}", Code(one), Code(other)));
                }
                join.filter.iter().for_each(|filter| drop(self.expr(filter, inputs)));
                match join.join_type {
                    JoinType::LeftSemi | JoinType::LeftAnti => left,
                    JoinType::RightSemi | JoinType::RightAnti => right,
                    JoinType::LeftMark => left.into_iter().chain([Told::Unknown]).collect(),
                    JoinType::RightMark => right.into_iter().chain([Told::Unknown]).collect(),
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => left.into_iter().chain(right).collect(),
                }
            }
            LogicalPlan::Union(union) => {
                let terms: Vec<Vec<Told>> = union.inputs.iter().map(|input| self.plan(input)).collect();
                terms.into_iter().reduce(|columns, more| self.stacked(columns, more, &union.schema)).unwrap_or_default()
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.plan(&on.input);
                self.all(&on.select_expr, &[(on.input.schema(), &input)])
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.plan(&unnest.input);
                let of_struct = |place: &usize| unnest.struct_type_columns.contains(place);
                let columns = unnest.dependency_indices.iter().zip(unnest.schema.fields());
                columns
                    .map(|(place, field)| match input.get(*place) {
                        Some(told) if !of_struct(place) => told.clone(),
                        _ => self.field(field),
                    })
                    .collect()
            }
            LogicalPlan::RecursiveQuery(query) => {
                let (columns, more) = (self.plan(unnamed(&query.static_term)), self.plan(unnamed(&query.recursive_term)));
                self.stacked(columns, more, query.static_term.schema())
            }
            LogicalPlan::TableScan(scan) => self.schema(&scan.projected_schema),
            other => {
                let inputs: Vec<(&LogicalPlan, Vec<Told>)> = other.inputs().into_iter().map(|input| (input, self.plan(input))).collect();
                let seen: Vec<(&DFSchema, &[Told])> = inputs.iter().map(|(plan, told)| (plan.schema().as_ref(), told.as_slice())).collect();
                let walked = other.apply_expressions(|expr| {
                    self.expr(expr, &seen);
                    Ok(TreeNodeRecursion::Continue)
                });
                debug_assert!(walked.is_ok(), "a walk that never fails");
                let hands_on = matches!(
                    other,
                    LogicalPlan::Filter(_)
                        | LogicalPlan::Sort(_)
                        | LogicalPlan::Limit(_)
                        | LogicalPlan::Distinct(_)
                        | LogicalPlan::Repartition(_)
                        | LogicalPlan::Subquery(_)
                        | LogicalPlan::SubqueryAlias(_)
                );
                match inputs.as_slice() {
                    [(_, told)] if hands_on => told.clone(),
                    _ => self.schema(other.schema()),
                }
            }
        }
    }

    /// The columns of two terms, the rows of one below those of the other.
    fn stacked(&mut self, columns: Vec<Told>, more: Vec<Told>, schema: &DFSchema) -> Vec<Told> {
        let pairs = columns.into_iter().zip(more).zip(schema.fields());
        pairs.map(|((one, other), field)| self.together(one, other, &format_args!("the column `{}` of a UNION", field.name()))).collect()
    }

    fn all(&mut self, exprs: &[Expr], inputs: &Inputs<'_>) -> Vec<Told> {
        exprs.iter().map(|expr| self.expr(expr, inputs)).collect()
    }

    fn column(&self, column: &Column, inputs: &Inputs<'_>) -> Told {
        let found = inputs.iter().find_map(|(schema, told)| told.get(schema.maybe_index_of_column(column)?));
        found.cloned().unwrap_or(Told::Unknown)
    }

    #[recursive::recursive]
    fn expr(&mut self, expr: &Expr, inputs: &Inputs<'_>) -> Told {
        match expr {
            Expr::Column(column) => self.column(column, inputs),
            Expr::OuterReferenceColumn(field, _) => self.field(field),
            Expr::Literal(_, metadata) => match metadata.as_ref().and_then(|metadata| metadata.inner().get(UNIT_KEY)) {
                Some(unit) => self.unit(unit, None),
                None => Told::Any,
            },
            Expr::Placeholder(_) => Told::Any,
            Expr::Alias(alias) => {
                let inner = self.expr(&alias.expr, inputs);
                match alias.metadata.as_ref().and_then(|metadata| metadata.inner().get(UNIT_KEY)) {
                    Some(unit) => self.unit(unit, None),
                    None => inner,
                }
            }
            Expr::Cast(cast) => self.cast(&cast.expr, cast.field.data_type().is_numeric(), inputs),
            Expr::TryCast(cast) => self.cast(&cast.expr, cast.field.data_type().is_numeric(), inputs),
            Expr::Negative(inner) => self.expr(inner, inputs),
            Expr::Unnest(unnest) => self.expr(&unnest.expr, inputs),
            Expr::BinaryExpr(binary) => self.binary(binary, expr, inputs),
            Expr::Between(between) => {
                let value = self.expr(&between.expr, inputs);
                for bound in [&between.low, &between.high] {
                    let bound = self.expr(bound, inputs);
                    self.compare(&value, &bound, &Code(expr));
                }
                Told::Unknown
            }
            Expr::InList(list) => {
                let value = self.expr(&list.expr, inputs);
                for one in &list.list {
                    let one = self.expr(one, inputs);
                    self.compare(&value, &one, &Code(expr));
                }
                Told::Unknown
            }
            Expr::Case(case) => {
                let subject = case.expr.as_ref().map(|subject| self.expr(subject, inputs));
                let mut result = Told::Any;
                for (when, then) in &case.when_then_expr {
                    let when = self.expr(when, inputs);
                    if let Some(subject) = &subject {
                        self.compare(subject, &when, &Code(expr));
                    }
                    let then = self.expr(then, inputs);
                    result = self.together(result, then, &Code(expr));
                }
                if let Some(other) = &case.else_expr {
                    let other = self.expr(other, inputs);
                    result = self.together(result, other, &Code(expr));
                }
                result
            }
            Expr::ScalarFunction(call) => self.call(call, expr, inputs),
            Expr::AggregateFunction(call) => {
                let AggregateFunctionParams { args, filter, order_by, .. } = &call.params;
                filter.iter().for_each(|filter| drop(self.expr(filter, inputs)));
                order_by.iter().for_each(|order| drop(self.expr(&order.expr, inputs)));
                let args = self.all(args, inputs);
                self.aggregate(call.func.name(), args, expr)
            }
            Expr::WindowFunction(call) => {
                let params = &call.params;
                params.filter.iter().for_each(|filter| drop(self.expr(filter, inputs)));
                self.all(&params.partition_by, inputs);
                params.order_by.iter().for_each(|order| drop(self.expr(&order.expr, inputs)));
                let args = self.all(&params.args, inputs);
                self.aggregate(call.fun.name(), args, expr)
            }
            Expr::ScalarSubquery(subquery) => self.plan(&subquery.subquery).into_iter().next().unwrap_or(Told::Unknown),
            Expr::InSubquery(asked) => {
                let value = self.expr(&asked.expr, inputs);
                let found = self.plan(&asked.subquery.subquery).into_iter().next().unwrap_or(Told::Unknown);
                self.compare(&value, &found, &format_args!("{} IN (SELECT ...)", Code(&asked.expr)));
                Told::Unknown
            }
            Expr::SetComparison(asked) => {
                let value = self.expr(&asked.expr, inputs);
                let found = self.plan(&asked.subquery.subquery).into_iter().next().unwrap_or(Told::Unknown);
                self.compare(&value, &found, &format_args!("{} {} (SELECT ...)", Code(&asked.expr), asked.op));
                Told::Unknown
            }
            Expr::Exists(exists) => {
                self.plan(&exists.subquery.subquery);
                Told::Unknown
            }
            other => self.parts(other, inputs),
        }
    }

    /// What has no unit itself, but parts that may.
    fn parts(&mut self, expr: &Expr, inputs: &Inputs<'_>) -> Told {
        let walked = expr.apply_children(|part| {
            self.expr(part, inputs);
            Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
        });
        debug_assert!(walked.is_ok(), "a walk that never fails");
        Told::Unknown
    }

    fn cast(&mut self, inner: &Expr, is_number: bool, inputs: &Inputs<'_>) -> Told {
        match self.expr(inner, inputs) {
            Told::Unit(_) if !is_number => Told::Unknown,
            told => told,
        }
    }

    fn binary(&mut self, binary: &BinaryExpr, whole: &Expr, inputs: &Inputs<'_>) -> Told {
        let (left, right) = (self.expr(&binary.left, inputs), self.expr(&binary.right, inputs));
        let shown = Code(whole);
        match binary.op {
            Operator::Plus | Operator::Minus => self.sum(&left, &right, binary.op == Operator::Minus, &shown),
            Operator::Modulo => match (&left, &right) {
                (Told::Unit(_), Told::Any) => left,
                _ if self.fits(&left, &right, &shown) => left,
                _ => any_of(&left, &right),
            },
            Operator::Multiply | Operator::Divide => match (&left, &right) {
                (Told::Unit(left), Told::Unit(right)) => {
                    let made = left.read.as_ref().zip(right.read.as_ref()).and_then(|(left, right)| match binary.op {
                        Operator::Multiply => left.times(right),
                        _ => left.per(right),
                    });
                    self.made(made)
                }
                _ => any_of(&left, &right),
            },
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => {
                self.compare(&left, &right, &shown);
                Told::Unknown
            }
            _ => Told::Unknown,
        }
    }

    /// The unit of a sum or a difference.
    fn sum(&mut self, left: &Told, right: &Told, is_difference: bool, shown: &dyn Display) -> Told {
        let (Told::Unit(one), Told::Unit(other)) = (left, right) else { return any_of(left, right) };
        // A place on a scale, and how far to go from it.
        if moves(one, other) {
            return left.clone();
        }
        if !is_difference && moves(other, one) {
            return right.clone();
        }
        if !self.compare(left, right, shown) {
            return Told::Unknown;
        }
        match &one.read {
            Some(unit) if is_difference => self.apart(unit.difference()),
            // 20 degC and 10 degC are no temperature together.
            Some(unit) if unit.has_origin() || unit.is_level() => Told::Unknown,
            Some(_) if one.is_difference && !other.is_difference => right.clone(),
            Some(_) => left.clone(),
            // Dates; what somebody made up stays so.
            None => match since(&one.text) {
                Some((unit, _)) if is_difference => self.apart(Some(unit.to_owned())),
                _ => Told::Unknown,
            },
        }
    }

    fn call(&mut self, call: &ScalarFunction, whole: &Expr, inputs: &Inputs<'_>) -> Told {
        let told = self.all(&call.args, inputs);
        let shown = Code(whole);
        let first = told.first().cloned().unwrap_or(Told::Unknown);
        match call.func.name() {
            "abs" | "round" | "trunc" | "floor" | "ceil" | "bin" => first,
            "nullif" => {
                self.compare(&first, told.get(1).unwrap_or(&Told::Any), &shown);
                first
            }
            "coalesce" | "greatest" | "least" | "nvl" | "ifnull" | "nanvl" | "make_array" => {
                told.into_iter().reduce(|one, other| self.together(one, other, &shown)).unwrap_or(Told::Unknown)
            }
            "sqrt" | "cbrt" | "exp" | "ln" | "log10" | "log2" => Told::Unknown,
            "sin" | "cos" | "tan" | "cot" => {
                self.angle(&first, "rad", &shown);
                Told::Unknown
            }
            "radians" => {
                self.angle(&first, "degree", &shown);
                self.unit("rad", None)
            }
            "degrees" => {
                self.angle(&first, "rad", &shown);
                self.unit("degree", None)
            }
            // An angle of two lengths, which no unit of theirs matters to as long as it is one.
            "atan2" => {
                self.compare(&first, told.get(1).unwrap_or(&Told::Any), &shown);
                Told::Unknown
            }
            "power" => match (&first, call.args.get(1)) {
                (Told::Unit(unit), Some(power)) => {
                    let made = unit.read.as_ref().zip(power_of(power)).and_then(|(unit, power)| {
                        (1..power).try_fold(unit.text().to_owned(), |text, _| Unit::parse(&text).ok()?.times(unit))
                    });
                    self.made(made)
                }
                _ => Told::Unknown,
            },
            CONVERT => {
                let text = |place: usize| match call.args.get(place) {
                    Some(Expr::Literal(value, _)) => value.try_as_str().flatten().map(str::to_owned),
                    _ => None,
                };
                if let (3, Some(from)) = (call.args.len(), text(1)) {
                    let said = self.unit(&from, None);
                    self.compare(&first, &said, &shown);
                    if matches!(&first, Told::Unit(unit) if unit.is_difference) && has_origin(&call.args[2]) {
                        self.problems.insert(format!("{shown} converts a difference into what is counted from another zero"));
                    }
                }
                let target = text(call.args.len().saturating_sub(1));
                self.made(target)
            }
            // A function that was brought may say the unit of what it gives.
            _ => match inputs {
                [(schema, _)] => whole.to_field(*schema).map_or(Told::Unknown, |(_, field)| self.field(&field)),
                _ => Told::Unknown,
            },
        }
    }

    fn aggregate(&mut self, name: &str, args: Vec<Told>, whole: &Expr) -> Told {
        let first = args.first().cloned().unwrap_or(Told::Unknown);
        let read = match &first {
            Told::Unit(unit) => unit.read.clone(),
            _ => None,
        };
        match name {
            "paired_t_test" => {
                let (one, other) = (first, args.get(1).cloned().unwrap_or(Told::Any));
                self.compare(&one, &other, &Code(whole));
                Told::Unknown
            }
            "min"
            | "max"
            | "avg"
            | "mean"
            | "median"
            | "first_value"
            | "last_value"
            | "nth_value"
            | "any_value"
            | "mode"
            | "array_agg"
            | "approx_median"
            | "approx_percentile_cont"
            | "approx_percentile_cont_with_weight"
            | "percentile_cont"
            | "quantile_cont" => first,
            "lag" | "lead" => {
                // The distance between them, and what stands for none.
                let other = args.get(2).cloned().unwrap_or(Told::Any);
                self.together(first, other, &Code(whole))
            }
            "sum" => match &read {
                Some(unit) if unit.has_origin() || unit.is_level() => Told::Unknown,
                Some(_) => first,
                None => Told::Unknown,
            },
            "stddev" | "stddev_samp" | "stddev_pop" | "std" => self.apart(read.and_then(|unit| unit.difference())),
            "var" | "var_samp" | "var_sample" | "var_pop" | "var_population" => {
                let difference = read.and_then(|unit| unit.difference()).and_then(|difference| Unit::parse(&difference).ok());
                self.made(difference.and_then(|unit| unit.times(&unit)))
            }
            _ => Told::Unknown,
        }
    }

    /// Whether two units are known to be the same. Those that are not are a problem.
    fn fits(&mut self, one: &Told, other: &Told, shown: &dyn Display) -> bool {
        self.compare(one, other, shown) && matches!((one, other), (Told::Unit(_), Told::Unit(_)))
    }

    /// Whether nothing speaks against numbers of two units together; what does is a problem.
    fn compare(&mut self, one: &Told, other: &Told, shown: &dyn Display) -> bool {
        let (Told::Unit(one), Told::Unit(other)) = (one, other) else { return true };
        let difference = match (&one.read, &other.read) {
            _ if one.text == other.text && one.calendar == other.calendar => return true,
            _ if [one, other].iter().any(|unit| NONE.iter().any(|none| unit.text.eq_ignore_ascii_case(none))) => return true,
            (Some(first), Some(second)) if first.is_same(second) => return true,
            (Some(first), Some(second)) if first.is_comparable(second) => {
                format!("convert_units(value, '{}', '{}') makes them one", other.text, one.text)
            }
            (Some(_), Some(_)) => "they measure different things".to_owned(),
            _ if one.text == other.text => "their calendars differ".to_owned(),
            _ if one.calendar == other.calendar && is_same_date(&one.text, &other.text) => return true,
            _ => "nobody knows whether they are the same".to_owned(),
        };
        self.problems.insert(format!("{shown} brings together `{}` and `{}`: {difference}", one.text, other.text));
        false
    }

    /// The unit of a column that has both.
    fn together(&mut self, one: Told, other: Told, shown: &dyn Display) -> Told {
        match (&one, &other) {
            (Told::Any, _) => other,
            (_, Told::Any) => one,
            (Told::Unit(_), Told::Unit(_)) => {
                if self.compare(&one, &other, shown) {
                    one
                } else {
                    Told::Mixed
                }
            }
            (Told::Mixed, _) | (_, Told::Mixed) => Told::Mixed,
            (Told::Unknown, _) | (_, Told::Unknown) => Told::Unknown,
        }
    }

    /// What a function of angles takes is in one unit.
    fn angle(&mut self, told: &Told, wanted: &str, shown: &dyn Display) {
        let Told::Unit(unit) = told else { return };
        let (Some(read), Ok(angle)) = (&unit.read, Unit::parse(wanted)) else { return };
        if read.is_same(&angle) {
            return;
        }
        let what = match read.is_comparable(&angle) {
            true => format!("convert_units(value, '{}', '{wanted}') makes it what the function takes", unit.text),
            false => format!("it takes `{wanted}`"),
        };
        self.problems.insert(format!("{shown} is of `{}`: {what}", unit.text));
    }
}

/// The beginning of an expression, as it is shown in a sentence.
struct Code<'a>(&'a Expr);

impl Display for Code<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let whole = self.0.human_display().to_string();
        let short: String = whole.chars().take(SHOWN).collect();
        let dots = if short.len() < whole.len() { "..." } else { "" };
        write!(formatter, "`{short}{dots}`")
    }
}

/// What a term of a recursive query computes, without the names and the metadata that all of its terms share.
fn unnamed(term: &LogicalPlan) -> &LogicalPlan {
    match term {
        LogicalPlan::Projection(named) if named.expr.iter().all(|expr| matches!(expr, Expr::Alias(alias) if alias.metadata.is_some())) => {
            &named.input
        }
        other => other,
    }
}

/// Whether `by` says how far to go from a place on the scale of `from`: K of degrees Celsius, days of days since an epoch.
fn moves(from: &Known, by: &Known) -> bool {
    let Some(step) = &by.read else { return false };
    match (&from.read, since(&from.text)) {
        (Some(scale), _) if scale.has_origin() && by.is_difference => {
            scale.difference().and_then(|text| Unit::parse(&text).ok()).is_some_and(|unit| unit.is_same(step))
        }
        (None, Some((unit, _))) => Unit::parse(unit).is_ok_and(|unit| unit.is_same(step)),
        _ => false,
    }
}

/// The unit and the epoch of a unit of dates.
fn since(text: &str) -> Option<(&str, &str)> {
    text.split_once(" since ")
}

/// Whether two units of dates count the same from the same day, however midnight is written.
fn is_same_date(one: &str, other: &str) -> bool {
    let (Some((unit, epoch)), Some((other_unit, other_epoch))) = (since(one), since(other)) else { return false };
    let day = |epoch: &str| {
        let epoch = epoch.trim().replace('T', " ");
        let epoch = epoch.trim_end_matches(['Z', 'z']).trim_end_matches("UTC").trim_end();
        let midnight = [" 00:00:00.0", " 00:00:00", " 0:0:0", " 00:00"].iter().find_map(|midnight| epoch.strip_suffix(midnight));
        midnight.unwrap_or(epoch).to_owned()
    };
    let is_same = |one: &str, other: &str| Unit::parse(one).is_ok_and(|one| Unit::parse(other).is_ok_and(|other| one.is_same(&other)));
    is_same(unit, other_unit) && day(epoch) == day(other_epoch)
}

/// A power that is written out: a small whole one.
fn power_of(expr: &Expr) -> Option<u32> {
    match expr {
        Expr::Cast(cast) => power_of(&cast.expr),
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(Some(power)) => [1.0, 2.0, 3.0, 4.0].contains(&power).then_some(power as u32),
            _ => None,
        },
        _ => None,
    }
}

/// Of what is written out alone, anything may be meant.
fn any_of(left: &Told, right: &Told) -> Told {
    if matches!((left, right), (Told::Any, Told::Any)) { Told::Any } else { Told::Unknown }
}

/// The error of a query that brings different units together.
pub(crate) fn refused(problems: &BTreeSet<String>) -> Option<Error> {
    let first = problems.first()?;
    let error = Error::new(Kind::InvalidQuery, first.clone());
    Some(error.hint("convert one of them; SET lacus.units = 'warn' answers with a notice"))
}

//! The functions that SQL may call: those that the engine was built with, and those that the program adds while it runs.

pub(crate) mod longer;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::execution::{SessionState, SessionStateDefaults, TaskContext};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, SelectItem, SetExpr};
use lacus_core::{DatasetName, Error, Kind, Result};

use crate::statement;

/// What looks like a call, and is none: the planner never asks for a function of this name.
const UNNEST: &str = "unnest";

/// What scalar functions are about, as drivers ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// Numbers.
    Numeric,
    /// Texts, regular expressions among them.
    Text,
    /// Dates and times.
    Time,
    /// All else.
    Other,
}

impl FunctionKind {
    /// What a function's own documentation says.
    pub(crate) fn of(function: &ScalarUDF) -> Self {
        match function.documentation().map_or("", |documentation| documentation.doc_section.label) {
            "Math Functions" => Self::Numeric,
            "String Functions" | "Regular Expression Functions" => Self::Text,
            "Time and Date Functions" => Self::Time,
            _ => Self::Other,
        }
    }
}

/// A function of SQL.
#[derive(Debug, Clone)]
pub enum Function {
    /// A value for each row.
    Scalar(ScalarUDF),
    /// A value for each group of rows.
    Aggregate(AggregateUDF),
    /// A value for each row, of the rows around it.
    Window(WindowUDF),
}

impl Function {
    /// The name by which SQL calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Scalar(function) => function.name(),
            Self::Aggregate(function) => function.name(),
            Self::Window(function) => function.name(),
        }
    }
}

/// Functions by each of their names, aliases among them.
type Named<F> = HashMap<String, Arc<F>>;

/// The functions that a query may call. They are no part of its state, since copying hundreds of names takes longer than planning a small
/// query; its configuration has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Functions {
    scalar: Named<ScalarUDF>,
    higher_order: Named<HigherOrderUDF>,
    aggregate: Named<AggregateUDF>,
    window: Named<WindowUDF>,
}

impl Functions {
    /// Those of DataFusion, bounded.
    fn built_in() -> Self {
        let mut all = Self::default();
        for function in SessionStateDefaults::default_scalar_functions() {
            all.add(Function::Scalar(longer::bound(&function)));
        }
        for function in SessionStateDefaults::default_higher_order_functions() {
            enter(&mut all.higher_order, &function, HigherOrderUDF::name, HigherOrderUDF::aliases);
        }
        for function in SessionStateDefaults::default_aggregate_functions() {
            enter(&mut all.aggregate, &function, AggregateUDF::name, AggregateUDF::aliases);
        }
        for function in SessionStateDefaults::default_window_functions() {
            enter(&mut all.window, &function, WindowUDF::name, WindowUDF::aliases);
        }
        all
    }

    /// Those of a query.
    pub(crate) fn of(state: &SessionState) -> Arc<Self> {
        state.config().get_extension().unwrap_or_default()
    }

    /// Adds a function under its names.
    fn add(&mut self, function: Function) {
        match function {
            Function::Scalar(function) => enter(&mut self.scalar, &Arc::new(function), ScalarUDF::name, ScalarUDF::aliases),
            Function::Aggregate(function) => enter(&mut self.aggregate, &Arc::new(function), AggregateUDF::name, AggregateUDF::aliases),
            Function::Window(function) => enter(&mut self.window, &Arc::new(function), WindowUDF::name, WindowUDF::aliases),
        }
    }

    /// Adds a function in the place of what had its name, of whatever kind: its aliases are gone with it.
    fn put(&mut self, function: Function) {
        let own = function.name().to_owned();
        self.scalar.retain(|name, function| *name != own && function.name() != own);
        self.higher_order.retain(|name, function| *name != own && function.name() != own);
        self.aggregate.retain(|name, function| *name != own && function.name() != own);
        self.window.retain(|name, function| *name != own && function.name() != own);
        self.add(function);
    }

    /// The task of a query that knows all functions that it may call, those of its session among them.
    pub(crate) fn task(&self, state: &SessionState) -> Arc<TaskContext> {
        let mut scalar = self.scalar.clone();
        scalar.extend(state.scalar_functions().clone());
        let (higher_order, aggregate, window) = (self.higher_order.clone(), self.aggregate.clone(), self.window.clone());
        let (id, config, runtime) = (state.session_id().to_owned(), state.config().clone(), Arc::clone(state.runtime_env()));
        Arc::new(TaskContext::new(None, id, config, scalar, higher_order, aggregate, window, runtime))
    }

    /// The scalar functions.
    pub(crate) fn scalar(&self) -> &Named<ScalarUDF> {
        &self.scalar
    }

    /// The functions of functions.
    pub(crate) fn higher_order(&self) -> &Named<HigherOrderUDF> {
        &self.higher_order
    }

    /// The aggregates.
    pub(crate) fn aggregate(&self) -> &Named<AggregateUDF> {
        &self.aggregate
    }

    /// The window functions.
    pub(crate) fn window(&self) -> &Named<WindowUDF> {
        &self.window
    }
}

/// Puts a function under its aliases and its name.
fn enter<F>(named: &mut Named<F>, function: &Arc<F>, name: fn(&F) -> &str, aliases: fn(&F) -> &[String]) {
    let names = aliases(function).iter().map(String::as_str).chain([name(function)]);
    named.extend(names.map(|name| (name.to_owned(), Arc::clone(function))));
}

/// What the session of every query is made from. Its functions are replaced as a whole, so a query that has begun keeps those that it has.
#[derive(Debug)]
pub(crate) struct Base {
    /// Without functions.
    state: SessionState,
    functions: RwLock<Arc<Functions>>,
}

impl Base {
    /// A state without functions, and those that the engine is built with: of two of one name the last one counts.
    pub(crate) fn new(state: SessionState, functions: Vec<Function>) -> Self {
        let mut all = Functions::built_in();
        functions.into_iter().for_each(|function| all.put(function));
        Self { state, functions: RwLock::new(Arc::new(all)) }
    }

    /// What the state of a query is made from.
    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }

    /// The functions of a query that begins now.
    pub(crate) fn functions(&self) -> Arc<Functions> {
        Arc::clone(&self.functions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a function for the queries that begin from now on.
    pub(crate) fn register(&self, function: Function, replace: bool) -> Result<()> {
        let name = function.name().to_owned();
        check_name(&name)?;
        let mut now = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = kind_of(&name, &now).filter(|_| !replace) {
            let error = Error::new(Kind::AlreadyExists, format!("there is {kind} `{name}` already"));
            return Err(error.hint("choose another name, or say that it is to be replaced"));
        }
        let mut functions = now.as_ref().clone();
        functions.put(function);
        let before = std::mem::replace(&mut *now, Arc::new(functions));
        // What a function holds may run code of its own when it is let go, which may ask this engine.
        drop(now);
        drop(before);
        Ok(())
    }
}

/// What has the name already.
fn kind_of(name: &str, functions: &Functions) -> Option<&'static str> {
    [
        (functions.scalar.contains_key(name) || functions.higher_order.contains_key(name), "a function"),
        (functions.aggregate.contains_key(name), "an aggregate function"),
        (functions.window.contains_key(name), "a window function"),
    ]
    .into_iter()
    .find_map(|(has, kind)| has.then_some(kind))
}

/// Refuses what SQL could not call without quotes.
fn check_name(name: &str) -> Result<()> {
    if DatasetName::new(name).is_err() {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` can't name a function"))
            .hint("a function's name is a lower-case letter, then lower-case letters, digits or `_`, so that SQL needs no quotes"));
    }
    if name == UNNEST || !is_called(name) {
        return Err(Error::new(Kind::InvalidConfiguration, format!("`{name}` can't name a function: it is a word of SQL"))
            .hint("choose another name"));
    }
    Ok(())
}

/// Whether `name(1)` is a call, and no syntax of its own, as `exists(1)` is.
fn is_called(name: &str) -> bool {
    let Ok(parsed) = statement::parse(&format!("SELECT {name}(1)")) else { return false };
    let Statement::Statement(statement) = parsed.statement else { return false };
    let ast::Statement::Query(query) = *statement else { return false };
    let SetExpr::Select(select) = *query.body else { return false };
    matches!(select.projection.as_slice(), [SelectItem::UnnamedExpr(Expr::Function(call))] if call.name.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_sql_calls_without_quotes() {
        for name in ["mine", "_own2", "celsius", "median_of"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Mine", "a b", "2x", "a.b", "größe", "not", "exists", "interval", "from", "trim", "unnest"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}

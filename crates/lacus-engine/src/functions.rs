//! The functions that SQL may call: those that the engine was built with, and those that the program adds while it runs.

pub(crate) mod longer;

use std::sync::{Arc, PoisonError, RwLock};

use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
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

    /// Adds it to a session, in the place of what had its name.
    fn add_to(self, state: &mut SessionState) -> Result<()> {
        match self {
            Self::Scalar(function) => drop(state.register_udf(Arc::new(function))?),
            Self::Aggregate(function) => drop(state.register_udaf(Arc::new(function))?),
            Self::Window(function) => drop(state.register_udwf(Arc::new(function))?),
        }
        Ok(())
    }
}

/// The state that the session of every query is made from. It is replaced as a whole, so a query that has begun keeps its functions.
#[derive(Debug)]
pub(crate) struct BaseState {
    now: RwLock<Arc<SessionState>>,
}

impl BaseState {
    /// The state with the functions that the engine is built with: of two of one name the last one counts.
    pub(crate) fn new(mut state: SessionState, functions: Vec<Function>) -> Result<Self> {
        functions.into_iter().try_for_each(|function| function.add_to(&mut state))?;
        Ok(Self { now: RwLock::new(Arc::new(state)) })
    }

    /// The state that a query begins with now.
    pub(crate) fn now(&self) -> Arc<SessionState> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a function for the queries that begin from now on.
    pub(crate) fn register(&self, function: Function, replace: bool) -> Result<()> {
        let name = function.name().to_owned();
        check_name(&name)?;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let kind = kind_of(&name, &now);
        if let Some(kind) = kind.filter(|_| !replace) {
            let error = Error::new(Kind::AlreadyExists, format!("there is {kind} `{name}` already"));
            return Err(error.hint("choose another name, or say that it is to be replaced"));
        }
        let mut state = now.as_ref().clone();
        // The kinds are looked up one after the other, so what had the name as another kind would still be called.
        state.deregister_udf(&name)?;
        state.deregister_udaf(&name)?;
        state.deregister_udwf(&name)?;
        state.deregister_higher_order_function(&name)?;
        function.add_to(&mut state)?;
        let before = std::mem::replace(&mut *now, Arc::new(state));
        // What a function holds may run code of its own when it is let go, which may ask this engine.
        drop(now);
        drop(before);
        Ok(())
    }
}

/// What has the name already.
fn kind_of(name: &str, state: &SessionState) -> Option<&'static str> {
    [
        (state.scalar_functions().contains_key(name) || state.higher_order_functions().contains_key(name), "a function"),
        (state.aggregate_functions().contains_key(name), "an aggregate function"),
        (state.window_functions().contains_key(name), "a window function"),
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

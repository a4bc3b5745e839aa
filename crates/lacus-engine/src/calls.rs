//! `read_parquet('store:path/**', option => value)`: datasets that are opened where they are named.
//!
//! A call is replaced by a quoted name before planning, because opening a dataset waits for a store and DataFusion's table functions
//! can't wait.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor, UnaryOperator, Value, VisitorMut,
};
use lacus_core::{DatasetSpec, Error, Kind, Location, OptionValue, Result, nearest};

use crate::statement::visit;

const PREFIX: &str = "read_";

/// A dataset that a statement opens itself, and the name under which the statement then knows it.
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) spec: DatasetSpec,
}

/// Replaces the calls in `statement`. `formats` are those of the registered sources.
pub(crate) fn replace(statement: &mut Statement, formats: &[&str]) -> Result<Vec<Call>> {
    let mut replacer = Replacer { formats, calls: Vec::new() };
    match visit(statement, &mut replacer) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(replacer.calls),
    }
}

struct Replacer<'a> {
    formats: &'a [&'a str],
    calls: Vec<Call>,
}

impl VisitorMut for Replacer<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let shown = factor.to_string();
        let TableFactor::Table { name, args, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(function) = args.as_ref().and_then(|_| function_name(name)) else { return ControlFlow::Continue(()) };
        let arguments = args.take().map(|arguments| arguments.args).unwrap_or_default();
        let shown = match alias {
            Some(alias) => shown.strip_suffix(&format!(" {alias}")).unwrap_or(&shown).to_owned(),
            None => shown,
        };
        match self.spec(&function, &shown, arguments) {
            Ok(spec) => {
                *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', &shown))]);
                self.calls.push(Call { name: shown, spec });
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error.with("call", shown)),
        }
    }
}

/// The name of the function, if it is one of ours.
fn function_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.to_lowercase()).filter(|name| name.starts_with(PREFIX)),
        _ => None,
    }
}

impl Replacer<'_> {
    fn spec(&self, function: &str, shown: &str, arguments: Vec<FunctionArg>) -> Result<DatasetSpec> {
        let format = function.strip_prefix(PREFIX).unwrap_or(function);
        if !self.formats.contains(&format) {
            return Err(self.unknown(function));
        }
        let mut location = None;
        let mut options = std::collections::BTreeMap::new();
        for argument in arguments {
            match named(argument)? {
                (None, OptionValue::Text(text)) if location.is_none() => location = Some(text),
                (None, value) => {
                    return Err(Error::new(Kind::InvalidQuery, format!("`{function}` takes one location, not {value}"))
                        .hint(format!("write {function}('store:path/**', option => value)")));
                }
                (Some(name), value) => {
                    options.insert(name, value);
                }
            }
        }
        let location = location.ok_or_else(|| {
            Error::new(Kind::InvalidQuery, format!("`{function}` needs a location")).hint(format!("write {function}('store:path/**')"))
        })?;
        let mut spec = DatasetSpec::new(shown, Location::parse(&location)?);
        spec.format = Some(format.to_owned());
        spec.options = options;
        Ok(spec)
    }

    fn unknown(&self, function: &str) -> Error {
        let known: Vec<String> = self.formats.iter().map(|format| format!("{PREFIX}{format}")).collect();
        let error = Error::new(Kind::InvalidQuery, format!("no table function `{function}`"));
        match nearest(function, known.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there are {}", known.join(", "))),
        }
    }
}

fn named(argument: FunctionArg) -> Result<(Option<String>, OptionValue)> {
    let (name, value) = match argument {
        FunctionArg::Unnamed(value) => (None, value),
        FunctionArg::Named { name, arg, .. } => (Some(name.value.to_lowercase()), arg),
        FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(name.value.to_lowercase()), arg),
        FunctionArg::ExprNamed { name, .. } => return Err(Error::new(Kind::InvalidQuery, format!("`{name}` is no option name"))),
    };
    let FunctionArgExpr::Expr(value) = value else {
        return Err(Error::new(Kind::InvalidQuery, "a wildcard is no argument here"));
    };
    Ok((name, literal(&value)?))
}

fn literal(expr: &Expr) -> Result<OptionValue> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => return Ok(OptionValue::Text(text.clone())),
            Value::Boolean(value) => return Ok(OptionValue::Boolean(*value)),
            Value::Number(digits, _) => {
                if let Ok(number) = digits.to_string().parse() {
                    return Ok(OptionValue::Integer(number));
                }
            }
            _ => {}
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            if let OptionValue::Integer(number) = literal(expr)? {
                return Ok(OptionValue::Integer(-number));
            }
        }
        _ => {}
    }
    Err(Error::new(Kind::InvalidQuery, format!("`{expr}` must be written out here: a text, a whole number, true or false")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;

    fn calls(sql: &str) -> Result<(String, Vec<Call>)> {
        let mut statement = parse(sql)?.statement;
        let calls = replace(&mut statement, &["parquet", "csv"])?;
        Ok((statement.to_string(), calls))
    }

    #[test]
    fn calls_become_names() -> Result<()> {
        let (sql, calls) = calls("EXPLAIN SELECT * FROM read_csv('lab:x/*.csv', delimiter => ';', header => false) AS t")?;
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].spec.options["delimiter"], OptionValue::Text(";".into()));
        assert_eq!(calls[0].spec.options["header"], OptionValue::Boolean(false));
        assert_eq!(calls[0].spec.location.to_string(), "lab:x/*.csv");
        assert!(sql.contains("\"read_csv('lab:x/*.csv'"), "{sql}");
        Ok(())
    }

    #[test]
    fn wrong_calls_say_what_is_right() {
        let error = |sql: &str| calls(sql).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error("SELECT * FROM read_parqet('x')").contains("did you mean `read_parquet`?"));
        assert!(error("SELECT * FROM read_csv()").contains("needs a location"));
        assert!(error("SELECT * FROM read_csv(a || 'b')").contains("written out"));
    }
}

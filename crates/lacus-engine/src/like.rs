//! LIKE with an escape of its own: what runs knows the backslash alone, so a pattern is written anew with that.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lacus_core::{Error, Kind, Result};

use crate::statement::visit;

/// Stands for the escape that escapes itself while a pattern is written anew: no text of SQL has it.
const DOUBLED: char = '\u{10FFFF}';

/// Writes the patterns of `statement` anew that have an escape.
///
/// # Errors
/// `InvalidQuery` for an escape that is not one character.
pub(crate) fn unescape(statement: &mut Statement) -> Result<()> {
    match visit(statement, &mut Patterns) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Patterns;

impl VisitorMut for Patterns {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else {
            return ControlFlow::Continue(());
        };
        let Some(given) = escape_char.take() else { return ControlFlow::Continue(()) };
        match rewritten(pattern, &given.value) {
            Ok(rewritten) => {
                **pattern = rewritten;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A pattern whose escape is the backslash.
fn rewritten(pattern: &Expr, escape: &Value) -> Result<Expr> {
    let text = escape.clone().into_string().unwrap_or_default();
    let mut letters = text.chars();
    let (Some(escape), None) = (letters.next(), letters.next()) else {
        return Err(Error::new(Kind::InvalidQuery, format!("the ESCAPE of LIKE is {escape}")).hint("write one character, as in ESCAPE '/'"));
    };
    if escape == '\\' {
        return Ok(pattern.clone());
    }
    if let Expr::Value(value) = pattern
        && let Some(text) = value.value.clone().into_string()
    {
        return Ok(Expr::value(Value::SingleQuotedString(written(&text, escape))));
    }
    // The escape of itself goes first, so that the rest of a pattern is read from the left: of `//%` the first two are a pair. Last, what
    // escapes anything else is taken away.
    let steps = [
        ("\\".to_owned(), "\\\\".to_owned()),
        (format!("{escape}{escape}"), DOUBLED.to_string()),
        (format!("{escape}%"), "\\%".to_owned()),
        (format!("{escape}_"), "\\_".to_owned()),
        (escape.to_string(), String::new()),
        (DOUBLED.to_string(), literally(escape)),
    ];
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let calls = steps.iter().fold(PATTERN.to_owned(), |inner, (from, to)| format!("replace({inner}, {}, {})", quoted(from), quoted(to)));
    let parsed = Parser::new(&GenericDialect {}).try_with_sql(&calls).and_then(|mut parser| parser.parse_expr());
    let mut parsed = parsed.map_err(DataFusionError::from)?;
    let _: ControlFlow<()> = parsed.visit(&mut Put(pattern));
    Ok(parsed)
}

/// The name in whose place a pattern is put that is no literal.
const PATTERN: &str = "lacus_pattern";

struct Put<'a>(&'a Expr);

impl VisitorMut for Put<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(name) if name.value == PATTERN) {
            *expr = self.0.clone();
        }
        ControlFlow::Continue(())
    }
}

/// A pattern that is a literal.
fn written(text: &str, escape: char) -> String {
    let (mut anew, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter == escape => letters.next().into_iter().for_each(|next| anew += &literally(next)),
            '\\' => anew += "\\\\",
            letter => anew.push(letter),
        }
    }
    anew
}

/// A character that is itself, whatever it means in patterns.
fn literally(letter: char) -> String {
    if ['%', '_', '\\'].contains(&letter) { format!("\\{letter}") } else { letter.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;

    fn unescaped(sql: &str) -> Result<String> {
        let mut statement = parse(sql)?.statement;
        unescape(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn patterns_are_written_with_backslashes() -> Result<()> {
        for (pattern, expected) in [("a/%b", r"a\%b"), ("a///%%", r"a/\%%"), (r"\/_", r"\\\_"), ("/x//y", "x/y"), (r"/\", r"\\")] {
            assert_eq!(unescaped(&format!("SELECT x LIKE '{pattern}' ESCAPE '/'"))?, format!("SELECT x LIKE '{expected}'"));
        }
        assert_eq!(unescaped("SELECT x LIKE '%%a%_' ESCAPE '%'")?, r"SELECT x LIKE '\%a\_'");
        assert!(unescaped("SELECT x NOT LIKE '%' || $1 ESCAPE '#'")?.contains("replace("));
        assert_eq!(unescaped(r"SELECT x ILIKE y ESCAPE '\'")?, "SELECT x ILIKE y");
        assert!(unescaped("SELECT x LIKE y ESCAPE 'ab'").is_err());
        Ok(())
    }
}

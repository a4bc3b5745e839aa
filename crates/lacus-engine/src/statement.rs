//! Text to one statement.

mod depth;

use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use lacus_core::{Error, Kind, Result, hex};
use sha2::{Digest, Sha256};

/// How deeply a statement may nest: enough for generated SQL, too little to exhaust a stack.
const NESTING: usize = 100;

/// One statement, read.
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// How many parameters the text has.
    pub(crate) parameters: usize,
}

/// Reads exactly one statement. Each `?` becomes `$1`, `$2`, ... in the order of the text, because DataFusion takes all `?` for one
/// parameter; positions in error messages stay those of the text.
pub(crate) fn parse(sql: &str) -> Result<Parsed> {
    parse_as(sql, &GenericDialect {})
}

/// As [`parse`], in a dialect.
pub(crate) fn parse_as(sql: &str, dialect: &dyn Dialect) -> Result<Parsed> {
    let mut tokens = without_empty_calls(tokenize_as(sql, dialect)?);
    let parameters = number(&mut tokens)?;
    depth::check_text(&tokens)?;
    let mut parser = DFParserBuilder::new(tokens).with_dialect(dialect).with_recursion_limit(NESTING).build()?;
    let mut statements = parser.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(mut statement), 0) => depth::check(&mut statement).map(|()| Parsed { statement, parameters }),
        (None, _) => Err(Error::new(Kind::InvalidQuery, "there is no SQL in the text")),
        (Some(_), more) => {
            Err(Error::new(Kind::InvalidQuery, format!("{} statements where one is expected", more + 1)).hint("send them one by one"))
        }
    }
}

/// Words that are functions without parentheses: the parser doesn't know those that have some.
const BARE: [&str; 4] = ["current_user", "session_user", "current_catalog", "user"];

/// `current_user` for `current_user()`.
fn without_empty_calls(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let means_call = |at: usize| {
        let is_word = matches!(&tokens[at].token, Token::Word(word) if word.quote_style.is_none() && BARE.iter().any(|bare| word.value.eq_ignore_ascii_case(bare)));
        is_word && matches!(tokens.get(at + 1..at + 3), Some([left, right]) if left.token == Token::LParen && right.token == Token::RParen)
    };
    let calls: Vec<usize> = (0..tokens.len()).filter(|at| means_call(*at)).collect();
    let is_kept = |at: usize| !calls.iter().any(|call| (call + 1..call + 3).contains(&at));
    tokens.into_iter().enumerate().filter(|(at, _)| is_kept(*at)).map(|(_, token)| token).collect()
}

/// An expression, alone.
pub(crate) fn expression(text: &str) -> Result<Expr> {
    let unreadable = |error| Error::new(Kind::InvalidConfiguration, format!("`{text}` is no expression: {error}"));
    let tokens = without_empty_calls(tokenize(text)?);
    depth::check_text(&tokens)?;
    let mut parser = Parser::new(&GenericDialect {}).with_recursion_limit(NESTING).with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(unreadable)?;
    match parser.peek_token().token {
        Token::EOF => Ok(expression),
        other => Err(Error::new(Kind::InvalidConfiguration, format!("`{other}` follows the expression `{expression}`"))),
    }
}

/// Shows the SQL of a statement to `visitor`, also that of one that is explained.
pub(crate) fn visit<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) -> ControlFlow<V::Break> {
    match statement {
        Statement::Statement(statement) => statement.visit(visitor),
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

/// A name as SQL means it: without quotes its letters are small ones.
pub(crate) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// A statement of our own, which the parser of DataFusion doesn't know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Own {
    /// `KILL 'id'`: ends a running query.
    Kill(String),
    /// `REFRESH dataset`: forgets what is remembered of its files.
    Refresh(String),
    /// `SUMMARIZE table` or `SUMMARIZE SELECT ...`: what can stand after FROM.
    Summarize(String),
}

/// Refuses a text that is no query: one SELECT, VALUES, or several of them put together.
///
/// # Errors
/// `PermissionDenied` for a statement that may do more than read; `InvalidQuery` for what can't be read.
pub fn check_query(sql: &str) -> Result<()> {
    /// Stops at a query, however deep, that is none.
    struct OnlyReads;
    impl VisitorMut for OnlyReads {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
            if body_reads(&query.body) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    fn body_reads(body: &ast::SetExpr) -> bool {
        match body {
            ast::SetExpr::Select(select) => select.into.is_none(),
            ast::SetExpr::SetOperation { left, right, .. } => body_reads(left) && body_reads(right),
            ast::SetExpr::Query(_) | ast::SetExpr::Values(_) => true,
            _ => false,
        }
    }
    let is_query = own(sql)?.is_none() && {
        let mut statement = parse(sql)?.statement;
        let is_query = matches!(&statement, Statement::Statement(statement) if matches!(statement.as_ref(), ast::Statement::Query(_)));
        is_query && visit(&mut statement, &mut OnlyReads).is_continue()
    };
    match is_query {
        true => Ok(()),
        false => Err(Error::new(Kind::PermissionDenied, "the statement may do more than read, and here is only read")
            .hint("ask a query: SELECT ...")),
    }
}

/// Reads a statement of our own, if `sql` is one.
pub(crate) fn own(sql: &str) -> Result<Option<Own>> {
    // Everything else is left to the parser, even what can't be read.
    let begins = |word: &str| sql.trim_start().get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word));
    if begins("summarize") {
        return summarized(sql);
    }
    if begins("refresh") {
        return refreshed(sql);
    }
    if !begins("kill") {
        return Ok(None);
    }
    let tokens = words(sql)?;
    match tokens.as_slice() {
        [first, ..] if !is(first, "kill") => Ok(None),
        [_, Token::SingleQuotedString(id)] => Ok(Some(Own::Kill(id.clone()))),
        [_, query, Token::SingleQuotedString(id)] if is(query, "query") => Ok(Some(Own::Kill(id.clone()))),
        _ => Err(Error::new(Kind::InvalidQuery, "KILL takes the id of a query, in single quotes")
            .hint("SELECT id, state, sql FROM system.queries lists them")),
    }
}

fn refreshed(sql: &str) -> Result<Option<Own>> {
    match words(sql)?.as_slice() {
        [first, ..] if !is(first, "refresh") => Ok(None),
        [_, Token::Word(name)] if name.quote_style.is_some() => Ok(Some(Own::Refresh(name.value.clone()))),
        [_, Token::Word(name)] => Ok(Some(Own::Refresh(name.value.to_lowercase()))),
        _ => Err(Error::new(Kind::InvalidQuery, "REFRESH takes the name of one dataset").hint("SHOW TABLES lists them")),
    }
}

/// The tokens of a statement that have a meaning.
fn words(sql: &str) -> Result<Vec<Token>> {
    let tokens = tokenize(sql)?.into_iter().map(|token| token.token);
    Ok(tokens.filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF)).collect())
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.value.eq_ignore_ascii_case(word))
}

fn summarized(sql: &str) -> Result<Option<Own>> {
    let tokens = tokenize(sql)?;
    let parts: Vec<&TokenWithSpan> = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    let lines = line_starts(sql);
    let text = |from: &TokenWithSpan| sql[offset(sql, &lines, from.span.start)..].trim().trim_end_matches(';').trim();
    let is = |token: &Token, words: &[&str]| matches!(token, Token::Word(found) if words.iter().any(|word| found.value.eq_ignore_ascii_case(word)));
    match parts.as_slice() {
        [first, ..] if !is(&first.token, &["summarize"]) => Ok(None),
        [_] | [_, TokenWithSpan { token: Token::SemiColon, .. }] => {
            Err(Error::new(Kind::InvalidQuery, "SUMMARIZE takes a table or a query").hint("write SUMMARIZE name, or SUMMARIZE SELECT ..."))
        }
        [_, query, ..] if is(&query.token, &["select", "with", "values", "from"]) => Ok(Some(Own::Summarize(format!("({})", text(query))))),
        [_, table, ..] => Ok(Some(Own::Summarize(text(table).to_owned()))),
        [] => Ok(None),
    }
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    tokenize_as(sql, &GenericDialect {})
}

fn tokenize_as(sql: &str, dialect: &dyn Dialect) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(dialect, sql).tokenize_with_location().map_err(|error| {
        let error = ParserError::from(error).to_string();
        let text = error.strip_prefix("sql parser error: ").unwrap_or(&error);
        Error::new(Kind::InvalidQuery, format!("syntax error: {text}"))
    })
}

/// What is the same of texts that differ in their values, their letters and their spaces alone: the first half of a hash.
pub(crate) fn fingerprint(sql: &str) -> String {
    let mut hash = Sha256::new();
    match tokenize(sql) {
        Ok(tokens) => tokens.into_iter().map(|token| token.token).for_each(|token| match token {
            Token::Whitespace(_) | Token::EOF | Token::SemiColon => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::HexStringLiteral(_) | Token::Placeholder(_) => hash.update("?\n"),
            Token::Word(word) if word.quote_style.is_none() => hash.update(format!("{}\n", word.value.to_lowercase())),
            token => hash.update(format!("{token}\n")),
        }),
        Err(_) => hash.update(sql),
    }
    hex(&hash.finalize()[..16])
}

/// Numbers the `?` and counts the parameters.
fn number(tokens: &mut [TokenWithSpan]) -> Result<usize> {
    let (mut unnumbered, mut highest) = (0, 0);
    for token in tokens.iter_mut() {
        let Token::Placeholder(name) = &mut token.token else { continue };
        if name == "?" {
            unnumbered += 1;
            *name = format!("${unnumbered}");
        } else {
            let number: usize =
                name.strip_prefix('$').and_then(|number| number.parse().ok()).filter(|number| *number > 0).ok_or_else(|| {
                    Error::new(Kind::InvalidQuery, format!("the parameter `{name}` has no position")).hint("write `?`, or `$1`, `$2`, ...")
                })?;
            highest = highest.max(number);
        }
    }
    match (unnumbered, highest) {
        (0, _) => Ok(highest),
        (_, 0) => Ok(unnumbered),
        _ => Err(Error::new(Kind::InvalidQuery, "the text mixes `?` and numbered parameters").hint("use one of the two")),
    }
}

/// Gives each `$name` of a text a position, in the order of first use: the text with `$1`, `$2`, ..., and the names. A text without names
/// stays as it is.
///
/// # Errors
/// `InvalidQuery` when names stand beside `?` or numbers.
pub fn named_parameters(sql: &str) -> Result<(String, Vec<String>)> {
    let lines = line_starts(sql);
    let (mut text, mut names, mut rest) = (String::new(), Vec::<String>::new(), 0);
    let mut unnamed = false;
    for token in tokenize(sql)? {
        let Token::Placeholder(placeholder) = &token.token else { continue };
        let name = placeholder.strip_prefix('$').filter(|name| !name.starts_with(|first: char| first.is_ascii_digit()));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            unnamed = true;
            continue;
        };
        let position = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        let start = offset(sql, &lines, token.span.start);
        text.push_str(&sql[rest..start]);
        text.push_str(&format!("${}", position + 1));
        rest = start + placeholder.len();
    }
    if unnamed && !names.is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "the text mixes named parameters with `?` or numbers").hint("use one of the two"));
    }
    text.push_str(&sql[rest..]);
    Ok((text, names))
}

/// Splits a script into its statements, by the semicolons that stand outside of strings and comments.
///
/// # Errors
/// `InvalidQuery` when a string or a comment doesn't end.
pub fn split(script: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let (mut start, mut empty) = (0, true);
    let lines = line_starts(script);
    for token in tokenize(script)? {
        match token.token {
            Token::SemiColon => {
                let end = offset(script, &lines, token.span.start);
                if !empty {
                    statements.push(script[start..end].trim().to_owned());
                }
                (start, empty) = (end + 1, true);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => empty = false,
        }
    }
    if !empty {
        statements.push(script[start..].trim().to_owned());
    }
    Ok(statements)
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(position, _)| position + 1)).collect()
}

/// The byte at which a token's location stands; its columns count characters.
fn offset(text: &str, lines: &[usize], location: Location) -> usize {
    let line = usize::try_from(location.line).unwrap_or(1).saturating_sub(1);
    let column = usize::try_from(location.column).unwrap_or(1).saturating_sub(1);
    let start = lines.get(line).copied().unwrap_or(text.len());
    text[start..].char_indices().nth(column).map_or(text.len(), |(position, _)| start + position)
}

/// Refuses a wrong number of parameters before anything is planned.
pub(crate) fn check_parameters(expected: usize, given: &[ScalarValue]) -> Result<()> {
    if expected == given.len() {
        return Ok(());
    }
    Err(Error::new(Kind::InvalidQuery, format!("the query has {expected} parameters, {} were given", given.len()))
        .hint("give one value for each `?` or `$n`, in order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_that_of_the_shape() {
        let of = fingerprint;
        assert_eq!(of("SELECT a FROM t WHERE b = 1"), of("select A from T\n where b = 'x';"));
        assert!(of("SELECT a FROM t") != of("SELECT b FROM t") && of("SELECT a FROM t") != of("SELECT \"A\" FROM t"));
        assert_eq!(of("SELECT 'open").len(), 32);
    }

    #[test]
    fn question_marks_are_numbered_outside_of_strings() -> Result<()> {
        let parsed = parse("SELECT '?', ? + ?")?;
        assert_eq!(parsed.parameters, 2);
        assert_eq!(parsed.statement.to_string(), "SELECT '?', $1 + $2");
        assert_eq!(parse("SELECT $2, $10")?.parameters, 10);
        assert!(parse("SELECT ?, $1").is_err());
        assert_eq!(parse("SELECT current_user(), Session_User()")?.statement.to_string(), "SELECT current_user, Session_User");
        assert!(parse("SELECT $name").is_err());
        Ok(())
    }

    #[test]
    fn scripts_split_at_their_semicolons() -> Result<()> {
        assert_eq!(split("SELECT ';é' ; -- ;\n SELECT 2;;\n")?, ["SELECT ';é'", "-- ;\n SELECT 2"]);
        assert!(split("  ;; -- nothing\n")?.is_empty());
        assert!(split("SELECT 'open").is_err());
        Ok(())
    }

    #[test]
    fn names_get_positions_outside_of_strings() -> Result<()> {
        let (text, names) = named_parameters("SELECT '$a é', $b + $a -- $c\n, $b")?;
        assert_eq!((text.as_str(), names), ("SELECT '$a é', $1 + $2 -- $c\n, $1", vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(named_parameters("SELECT $2, $1")?, ("SELECT $2, $1".to_owned(), Vec::new()));
        assert!(named_parameters("SELECT $a, ?").is_err());
        Ok(())
    }

    #[test]
    fn statements_of_our_own_are_told() -> Result<()> {
        assert_eq!(own("kill 'a1' ;")?, Some(Own::Kill("a1".to_owned())));
        assert_eq!(own(" KILL QUERY 'a1'")?, Some(Own::Kill("a1".to_owned())));
        assert!(own("KILL a1").is_err() && own("KILL").is_err());
        assert_eq!(own("summarize shots;")?, Some(Own::Summarize("shots".to_owned())));
        assert_eq!(own("SUMMARIZE SELECT 1")?, Some(Own::Summarize("(SELECT 1)".to_owned())));
        assert!(own("SUMMARIZE ;").is_err());
        assert_eq!(own("Refresh Shots;")?, Some(Own::Refresh("shots".to_owned())));
        assert_eq!(own("refresh \"A b\"")?, Some(Own::Refresh("A b".to_owned())));
        assert!(own("REFRESH").is_err() && own("REFRESH a b").is_err() && own("refreshed a")?.is_none());
        assert_eq!(own("summarized")?, None);
        assert_eq!(own("SELECT 'KILL'")?, None);
        assert_eq!(own("killed")?, None);
        Ok(())
    }

    #[test]
    fn one_statement_is_expected() {
        assert!(parse("").is_err());
        assert!(parse("SELECT 1; SELECT 2").is_err());
        assert!(parse("SELECT 1;").is_ok());
    }

    #[test]
    fn positions_in_errors_are_those_of_the_text() {
        let error = parse("SELECT ? +\n  )").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("Line: 2"), "{error}");
    }
}

//! How far the parts of a statement stand one in another. Whatever walks through a statement, its plan or its expressions calls itself once
//! for each level, so a bound on levels is a bound on the stack.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use lacus_core::{Error, Kind, Result};

/// How many operators may build one on another: what planning and computing take for each fits a stack of 2 MiB, which is what a thread of
/// tokio has.
const LEVELS: usize = 1_000;
/// How many tables and queries one query may join: the time to plan them grows faster than their square.
const JOINS: usize = 200;
/// How many operators a part of the text may have before it is parsed: what has more can't even be dropped safely. A part may have more
/// operators than levels: each branch of a CASE has its own.
const OPERATORS: usize = 10_000;

/// Refuses a text of more operators in a row than a parsed one could be looked through for.
pub(super) fn check_text(tokens: &[TokenWithSpan]) -> Result<()> {
    /// What stands between a pair of parentheses: its operators since the last comma, and the deepest parts in it.
    #[derive(Default, Clone, Copy)]
    struct Part {
        operators: usize,
        within: usize,
        deepest: usize,
    }
    impl Part {
        fn levels(self) -> usize {
            self.deepest.max(self.operators + self.within)
        }
    }
    let (mut outer, mut part) = (Vec::<Part>::new(), Part::default());
    for token in tokens {
        match &token.token {
            Token::LParen => outer.push(std::mem::take(&mut part)),
            Token::RParen => {
                let inner = part.levels();
                part = outer.pop().unwrap_or_default();
                part.within = part.within.max(inner);
            }
            Token::Comma => part = Part { deepest: part.levels(), ..Part::default() },
            token if is_operator(token) => part.operators += 1,
            _ => {}
        }
        if part.levels() > OPERATORS {
            return Err(too_deep(OPERATORS).with("position", format!("line {}, column {}", token.span.start.line, token.span.start.column)));
        }
    }
    Ok(())
}

/// What can make a level: signs, and words that take what stands before them.
fn is_operator(token: &Token) -> bool {
    const WORDS: [&str; 20] = [
        "and",
        "or",
        "xor",
        "not",
        "is",
        "in",
        "like",
        "ilike",
        "rlike",
        "regexp",
        "similar",
        "between",
        "div",
        "collate",
        "at",
        "overlaps",
        "union",
        "intersect",
        "except",
        "minus",
    ];
    match token {
        Token::Word(word) => word.quote_style.is_none() && WORDS.iter().any(|known| word.value.eq_ignore_ascii_case(known)),
        Token::Whitespace(_) | Token::EOF | Token::SemiColon | Token::Period | Token::Number(..) | Token::Placeholder(_) => false,
        Token::SingleQuotedString(_) | Token::HexStringLiteral(_) | Token::NationalStringLiteral(_) => false,
        _ => true,
    }
}

/// Refuses a statement with more levels than its plan could be computed with.
pub(super) fn check(statement: &mut Statement) -> Result<()> {
    match super::visit(statement, &mut Levels::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

fn too_deep(bound: usize) -> Error {
    Error::new(Kind::InvalidQuery, format!("more than {bound} operators build one on another"))
        .hint("write `x IN (a, b, ...)` for `x = a OR x = b OR ...`, or put the values into a table and join it")
}

#[derive(Default)]
struct Levels {
    now: usize,
    /// The queries that are being looked through, outermost first.
    queries: Vec<Looked>,
}

struct Looked {
    /// Levels of its own, and those above its expressions.
    own: usize,
    above: usize,
    /// What the SELECT of it joins that is being looked through.
    joins: usize,
}

impl Levels {
    fn deeper(&mut self, by: usize) -> ControlFlow<Error> {
        self.now += by;
        if self.now > LEVELS { ControlFlow::Break(too_deep(LEVELS)) } else { ControlFlow::Continue(()) }
    }

    /// The SELECT that is being looked through joins `more`.
    fn joins(&mut self, more: usize) -> ControlFlow<Error> {
        let Some(query) = self.queries.last_mut() else { return ControlFlow::Continue(()) };
        query.joins += more;
        if query.joins <= JOINS {
            return ControlFlow::Continue(());
        }
        let error = Error::new(Kind::InvalidQuery, format!("a SELECT joins more than {JOINS} tables and queries"));
        ControlFlow::Break(error.hint("keep what some of them give in a table: CREATE TABLE ... AS SELECT ..."))
    }
}

impl VisitorMut for Levels {
    type Break = Error;

    fn pre_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Error> {
        self.deeper(1)
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Error> {
        self.now -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        // A query in an expression becomes a join of the one around it.
        if self.queries.last().is_some_and(|outer| self.now > outer.above) {
            self.joins(1)?;
        }
        let own = levels_of(&query.body);
        self.queries.push(Looked { own, above: self.now + own, joins: 0 });
        self.deeper(own)
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.now -= self.queries.pop().map_or(0, |query| query.own);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        if let Some(query) = self.queries.last_mut() {
            query.joins = 0;
        }
        let joined: usize = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        self.joins(joined.saturating_sub(1))
    }
}

/// Levels that a query has of its own: one, and one for each that it unites.
fn levels_of(body: &SetExpr) -> usize {
    let (mut levels, mut deepest, mut body) = (1, 0, body);
    // A row of UNIONs grows to the left.
    while let SetExpr::SetOperation { left, right, .. } = body {
        levels += 1;
        deepest = deepest.max(levels + levels_of(right));
        body = left;
    }
    deepest.max(levels)
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn refused(sql: &str) -> Option<String> {
        parse(sql).err().map(|error| error.to_string())
    }

    #[test]
    fn operators_in_a_row_are_bounded() {
        let row = |part: &str, times: usize| vec![part; times].join(" ");
        for (first, next) in [("a", "OR a"), ("1", "+ 1"), ("a", "= 1 AND a"), ("a", "IS NULL"), ("a", "::INT"), ("a", "|| 'x'")] {
            let text = |times| format!("SELECT * FROM t WHERE {first} {}", row(next, times));
            assert_eq!(refused(&text(300)), None, "{next}");
            assert!(refused(&text(1_001)).is_some_and(|error| error.contains("1000 operators")), "{next}");
            assert!(refused(&text(50_000)).is_some_and(|error| error.contains("10000 operators")), "{next}");
        }
        let unions = |times| format!("SELECT 1 {}", row("UNION ALL SELECT 1", times));
        assert!(refused(&unions(400)).is_none() && refused(&unions(1_001)).is_some() && refused(&unions(50_000)).is_some());
    }

    #[test]
    fn joins_are_bounded() {
        let row = |part: &str, times: usize| vec![part; times].join(" ");
        let too_many = |sql: &str| refused(sql).is_some_and(|error| error.contains("200 tables"));
        for next in ["JOIN t USING (a)", ", t", "JOIN (SELECT 1) USING (a)"] {
            assert_eq!(refused(&format!("SELECT 1 FROM t {}", row(next, 199))), None, "{next}");
            assert!(too_many(&format!("SELECT 1 FROM t {}", row(next, 201))), "{next}");
        }
        assert_eq!(refused(&format!("SELECT 1 FROM t {}", row("UNION SELECT 1 FROM t, t, t", 300))), None);
        assert!(too_many(&format!("SELECT * FROM t WHERE true {}", row("AND a IN (SELECT 1)", 201))));
    }

    #[test]
    fn groups_add_up() {
        let row = vec!["OR a"; 700].join(" ");
        assert!(refused(&format!("SELECT a {row}, a {row}, (a {row}), f(a {row}, a {row})")).is_none());
        assert!(refused(&format!("SELECT (a {row}) {row}")).is_some());
        assert!(refused(&format!("SELECT (SELECT a {row} FROM t) {row}")).is_some());
        assert!(refused(&format!("EXPLAIN SELECT (a {row}) {row}")).is_some());
    }

    #[test]
    fn what_stands_side_by_side_is_not_deep() {
        let branches = (0..3_000).map(|at| format!("WHEN a = {at} THEN -{at}")).collect::<Vec<_>>().join(" ");
        assert_eq!(refused(&format!("SELECT CASE {branches} END")), None);
        let values = vec!["(-1.0, +2)"; 20_000].join(", ");
        assert_eq!(refused(&format!("VALUES {values}")), None);
        let list = vec!["-1"; 20_000].join(", ");
        assert_eq!(refused(&format!("SELECT * FROM t WHERE a IN ({list})")), None);
    }
}

//! The parts of SQL as it is written, complete or not: for colours, for completion, and to tell whether a statement is complete.

/// What a part of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Space,
    Comment,
    Word,
    Number,
    /// `'text'`
    Text,
    /// `"name"`
    Name,
    Symbol,
}

/// A part of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    /// Whether it ends where it should: a text that is still being written does not.
    pub(crate) ends: bool,
}

/// The parts of `sql`, which together are all of it.
pub(crate) fn parts(sql: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < sql.len() {
        let (kind, length, ends) = first(&sql[start..]);
        parts.push(Part { kind, text: &sql[start..start + length], start, ends });
        start += length;
    }
    parts
}

/// Whether nothing is missing from a statement: it ends with a semicolon.
pub(crate) fn is_complete(sql: &str) -> bool {
    let parts = parts(sql);
    let last = parts.iter().rev().find(|part| !matches!(part.kind, Kind::Space | Kind::Comment));
    parts.iter().all(|part| part.ends) && last.is_none_or(|last| last.text == ";")
}

fn first(rest: &str) -> (Kind, usize, bool) {
    let next = rest.chars().next().unwrap_or_default();
    let while_it = |holds: &dyn Fn(char) -> bool| rest.find(|next| !holds(next)).unwrap_or(rest.len());
    if next.is_whitespace() {
        return (Kind::Space, while_it(&char::is_whitespace), true);
    }
    if rest.starts_with("--") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        let end = rest.find("*/").map(|end| end + 2);
        return (Kind::Comment, end.unwrap_or(rest.len()), end.is_some());
    }
    if next == '\'' || next == '"' {
        let end = rest[1..].find(next).map(|end| end + 2);
        return (if next == '"' { Kind::Name } else { Kind::Text }, end.unwrap_or(rest.len()), end.is_some());
    }
    if next.is_ascii_digit() {
        return (Kind::Number, while_it(&|next| next.is_ascii_alphanumeric() || next == '.'), true);
    }
    if next.is_alphabetic() || next == '_' || next == '$' {
        return (Kind::Word, while_it(&|next| next.is_alphanumeric() || next == '_' || next == '$'), true);
    }
    (Kind::Symbol, next.len_utf8(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        for complete in ["SELECT 1;", "SELECT ';' ; -- that's all", "", "  ", "SELECT 'it''s';"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT 1 /* ;", "SELECT \"a;"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn parts_are_all_of_the_text() {
        let sql = "SELECT é.x1, 1.5e3 FROM \"a b\" -- so\nWHERE t='ü' /* open";
        assert_eq!(parts(sql).iter().map(|part| part.text).collect::<String>(), sql);
        assert!(parts(sql).iter().any(|part| part.kind == Kind::Number && part.text == "1.5e3"));
    }
}

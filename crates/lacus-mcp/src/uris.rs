//! The URIs of resources.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a URI means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uri {
    /// All tables.
    Catalog,
    /// A table: catalog, schema, name.
    Table([String; 3]),
    /// The record of an answer.
    Provenance(String),
    /// How an answer is cited.
    Citation(String),
    /// A file that was made of an answer.
    Export(String),
}

pub(crate) const TABLE: &str = "table://{catalog}/{schema}/{table}";
pub(crate) const PROVENANCE: &str = "provenance://{query_id}";
pub(crate) const CITATION: &str = "citation://{query_id}";

pub(crate) fn catalog(lake: &str) -> String {
    format!("catalog://{}", encoded(lake))
}

pub(crate) fn table(catalog: &str, schema: &str, name: &str) -> String {
    format!("table://{}/{}/{}", encoded(catalog), encoded(schema), encoded(name))
}

pub(crate) fn provenance(query_id: &str) -> String {
    format!("provenance://{query_id}")
}

pub(crate) fn export(id: &str) -> String {
    format!("export://{id}")
}

/// All but letters, digits, and what names mostly have beside them.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, ESCAPED).to_string()
}

/// What a URI means; `None` for one that is none of ours.
pub(crate) fn parse(uri: &str) -> Option<Uri> {
    let (scheme, rest) = uri.split_once("://")?;
    let parts = rest.split('/').map(|part| percent_decode_str(part).decode_utf8().ok().map(String::from));
    let parts = parts.collect::<Option<Vec<_>>>()?;
    match (scheme, <[String; 3]>::try_from(parts)) {
        ("table", Ok(parts)) => Some(Uri::Table(parts)),
        ("catalog", Err(parts)) if parts.len() == 1 => Some(Uri::Catalog),
        ("provenance", Err(parts)) if parts.len() == 1 => parts.into_iter().next().map(Uri::Provenance),
        ("citation", Err(parts)) if parts.len() == 1 => parts.into_iter().next().map(Uri::Citation),
        ("export", Err(parts)) if parts.len() == 1 => parts.into_iter().next().map(Uri::Export),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went() {
        let uri = table("lake", "main", "a b/ü?");
        assert_eq!(uri, "table://lake/main/a%20b%2F%C3%BC%3F");
        assert_eq!(parse(&uri), Some(Uri::Table(["lake", "main", "a b/ü?"].map(str::to_owned))));
        assert_eq!(parse("export://ab"), Some(Uri::Export("ab".to_owned())));
        for other in ["file:///etc/passwd", "table://a/b", "export://a/b/c/d", "x", "table://lake/main/%ff"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}

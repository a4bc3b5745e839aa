//! Metadata documents, which are JSON but for the numbers that JSON lacks.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use lacus_array::Attributes;
use lacus_core::{Error, Kind, Result};
use serde_json::Value;

/// Reads a document. `NaN`, `Infinity` and `-Infinity` outside of texts are read as texts: Python writes them so.
pub(super) fn parse(bytes: &[u8]) -> Result<Value> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(error) => serde_json::from_str(&quoted(&String::from_utf8_lossy(bytes)))
            .map_err(|_| Error::new(Kind::CorruptData, format!("the metadata is no JSON: {error}"))),
    }
}

fn quoted(text: &str) -> String {
    const BARE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut inside = false;
    while let Some(next) = rest.chars().next() {
        if !inside && let Some(word) = BARE.iter().find(|word| rest.starts_with(**word)) {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        if inside && next == '\\' {
            let length = rest.char_indices().nth(2).map_or(rest.len(), |(place, _)| place);
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        inside ^= next == '"';
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}

/// The attributes of a document.
pub(super) fn attributes(value: Option<&Value>) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in value.and_then(Value::as_object).into_iter().flatten() {
        attributes.push(name, array(value));
    }
    attributes
}

fn array(value: &Value) -> ArrayRef {
    let items: Vec<&Value> = match value {
        Value::Array(items) if !items.is_empty() => items.iter().collect(),
        other => vec![other],
    };
    let all = |is: fn(&Value) -> bool| items.iter().all(|item| is(item));
    if all(Value::is_i64) {
        return Arc::new(items.iter().filter_map(|item| item.as_i64()).collect::<Int64Array>());
    }
    if all(Value::is_u64) {
        return Arc::new(items.iter().filter_map(|item| item.as_u64()).collect::<UInt64Array>());
    }
    if items.iter().all(|item| number(item).is_some()) {
        return Arc::new(items.iter().filter_map(|item| number(item)).collect::<Float64Array>());
    }
    if all(Value::is_boolean) {
        return Arc::new(items.iter().map(|item| item.as_bool()).collect::<BooleanArray>());
    }
    if all(Value::is_string) {
        return Arc::new(items.iter().map(|item| item.as_str()).collect::<StringArray>());
    }
    Arc::new(StringArray::from(vec![value.to_string()]))
}

/// A number, also one that JSON lacks.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_are_read_outside_of_texts() -> Result<()> {
        let value = parse(br#"{"fill_value": NaN, "a": [-Infinity, 1], "t": "say \"NaN\" twice: NaN"}"#)?;
        assert!(number(&value["fill_value"]).is_some_and(f64::is_nan));
        assert_eq!(number(&value["a"][0]), Some(f64::NEG_INFINITY));
        assert_eq!(value["t"], "say \"NaN\" twice: NaN");
        assert!(parse(b"{").is_err());
        Ok(())
    }
}

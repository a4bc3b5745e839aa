//! What Arrow field metadata says about a column: the keys that every interface of Lacus carries.

use arrow_schema::Field;

/// The metadata key of a column's description.
pub const DESCRIPTION_KEY: &str = "description";
/// The metadata key of a column's unit, in the notation of UDUNITS (CF's `units`).
pub const UNIT_KEY: &str = "units";

/// The metadata key of the type that SQL gave a text: `varchar(n)` or `char(n)`, of at most `n` characters. It is Spark's in Delta tables.
const TEXT_TYPE_KEY: &str = "__CHAR_VARCHAR_TYPE_STRING";

/// `field` as texts of at most `length` characters, which SQL calls by `word`.
pub fn with_text_length(field: Field, word: &str, length: u64) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(TEXT_TYPE_KEY.to_owned(), format!("{word}({length})"));
    field.with_metadata(metadata)
}

/// SQL's word for the texts of `field`, and how many characters each may have, when that is said.
pub fn text_length(field: &Field) -> Option<(&str, u64)> {
    let (word, length) = field.metadata().get(TEXT_TYPE_KEY)?.strip_suffix(')')?.split_once('(')?;
    Some((word, length.parse().ok()?))
}

/// `field` with a description and a unit, where given.
pub fn describe_field(field: Field, description: Option<&str>, unit: Option<&str>) -> Field {
    let mut metadata = field.metadata().clone();
    for (key, value) in [(DESCRIPTION_KEY, description), (UNIT_KEY, unit)] {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value.to_owned());
        }
    }
    field.with_metadata(metadata)
}

/// What the column means, from [`DESCRIPTION_KEY`] or from the keys that other writers use.
pub fn description_of(field: &Field) -> Option<&str> {
    [DESCRIPTION_KEY, "long_name", "comment"].iter().find_map(|key| field.metadata().get(*key)).map(String::as_str)
}

/// The unit of the column, from [`UNIT_KEY`] or `unit`.
pub fn unit_of(field: &Field) -> Option<&str> {
    [UNIT_KEY, "unit"].iter().find_map(|key| field.metadata().get(*key)).map(String::as_str)
}

//! Values as a model reads them: nothing in them may be taken for anything but data, and no digit is lost.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus_core::{Error, Kind, Result, hex};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The greatest whole number up to which all can be told apart in JSON.
const EXACT: u64 = (1 << 53) - 1;

/// The values of one column.
pub(crate) struct Column {
    array: ArrayRef,
    /// The most characters of a value.
    most: usize,
}

/// One value: as JSON, and whether it is not all that is there.
pub(crate) struct Cell {
    pub(crate) value: Value,
    pub(crate) is_changed: bool,
}

impl Column {
    /// Values of which each is shown with at most `most` characters. Texts and bytes are read where they lie: a few rows may share what they
    /// would have no room for if each had its own.
    pub(crate) fn new(array: &ArrayRef, most: usize) -> Result<Self> {
        let plain = match array.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Some(DataType::Int64),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::UInt64),
            _ => None,
        };
        match plain {
            Some(plain) => Self::new(&cast(array, &plain).map_err(unreadable)?, most),
            None => Ok(Self { array: array.clone(), most }),
        }
    }

    pub(crate) fn cell(&self, row: usize) -> Result<Cell> {
        let whole = |value| Ok(Cell { value, is_changed: false });
        let array = &self.array;
        if array.is_null(row) || *array.data_type() == DataType::Null {
            return whole(Value::Null);
        }
        if let Some(text) = text(array.as_ref(), row) {
            let (text, is_changed) = clean(text, self.most);
            return Ok(Cell { value: text.into(), is_changed });
        }
        if let Some(bytes) = bytes(array.as_ref(), row) {
            let hash = hex(&Sha256::digest(bytes)[..8]);
            return Ok(Cell { value: format!("<{} bytes, sha256 {hash}...>", bytes.len()).into(), is_changed: true });
        }
        match array.data_type() {
            DataType::Dictionary(_, _) => {
                let values = array.as_any_dictionary();
                let row = values.normalized_keys().get(row).copied().unwrap_or_default();
                Self::new(values.values(), self.most)?.cell(row)
            }
            DataType::RunEndEncoded(_, values) => {
                let one = cast(&array.slice(row, 1), values.data_type()).map_err(unreadable)?;
                Self::new(&one, self.most)?.cell(0)
            }
            DataType::Boolean => whole(array.as_boolean().value(row).into()),
            DataType::Int64 => {
                let value = array.as_primitive::<Int64Type>().value(row);
                whole(if value.unsigned_abs() > EXACT { value.to_string().into() } else { value.into() })
            }
            DataType::UInt64 => {
                let value = array.as_primitive::<UInt64Type>().value(row);
                whole(if value > EXACT { value.to_string().into() } else { value.into() })
            }
            DataType::Float64 => whole(float(array.as_primitive::<Float64Type>().value(row))),
            // Widened by its shortest digits: 0.1 stays 0.1.
            DataType::Float32 => whole(float(array.as_primitive::<Float32Type>().value(row).to_string().parse().unwrap_or(f64::NAN))),
            DataType::Float16 => whole(float(array.as_primitive::<Float16Type>().value(row).into())),
            _ => {
                let options = FormatOptions::new().with_null("NULL");
                let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(unreadable)?;
                // What is longer than is shown is not written out.
                let mut text = Bounded { text: String::new(), room: self.most.saturating_mul(4) + 64 };
                let is_cut = write!(text, "{}", formatter.value(row)).is_err() && text.room == 0;
                let (text, is_changed) = clean(&text.text, self.most);
                Ok(Cell { value: text.into(), is_changed: is_changed || is_cut })
            }
        }
    }
}

/// The text at a row, of any kind of texts.
fn text(array: &dyn Array, row: usize) -> Option<&str> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row),
        DataType::Utf8View => array.as_string_view().value(row),
        _ => return None,
    })
}

/// The bytes at a row, of any kind of bytes.
fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    Some(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(row),
        _ => return None,
    })
}

/// A text that takes so many bytes and no more.
struct Bounded {
    text: String,
    room: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if text.len() > self.room {
            self.room = 0;
            return Err(std::fmt::Error);
        }
        self.room -= text.len();
        self.text.push_str(text);
        Ok(())
    }
}

fn unreadable(error: arrow::error::ArrowError) -> Error {
    Error::new(Kind::Internal, format!("a value can't be shown: {error}"))
}

fn float(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// A text without what nobody sees, cut to `most` characters; and whether it is another than it was.
pub(crate) fn clean(text: &str, most: usize) -> (String, bool) {
    let mut kept = String::new();
    let mut is_changed = false;
    for (place, letter) in text.chars().filter(|letter| !is_hidden(*letter)).enumerate() {
        if place == most {
            kept.push_str("...");
            return (kept, true);
        }
        kept.push(letter);
    }
    is_changed |= kept.len() != text.len();
    (kept, is_changed)
}

/// Letters that are read without being seen, or that change in which order others are seen.
fn is_hidden(letter: char) -> bool {
    let controls = letter.is_control() && !matches!(letter, '\n' | '\t');
    controls
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}' |
            '\u{ffa0}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A value as it stands in a line of the text.
pub(crate) fn in_line(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text,
        other => return other.to_string(),
    };
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
    if text.is_empty() || text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn shown(array: ArrayRef) -> Result<Vec<Value>> {
        let column = Column::new(&array, 10)?;
        (0..array.len()).map(|row| column.cell(row).map(|cell| cell.value)).collect()
    }

    #[test]
    fn no_digit_is_lost() -> Result<()> {
        assert_eq!(
            shown(Arc::new(Int64Array::from(vec![1, i64::MAX, -(1 << 53)])))?,
            [1.into(), Value::from("9223372036854775807"), "-9007199254740992".into()]
        );
        assert_eq!(
            shown(Arc::new(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY])))?,
            [0.1.into(), Value::from("NaN"), "-Infinity".into()]
        );
        assert_eq!(shown(Arc::new(Float32Array::from(vec![0.1])))?, [Value::from(0.1)]);
        let decimal = Decimal128Array::from(vec![123_456]).with_precision_and_scale(10, 3).map_err(unreadable)?;
        assert_eq!(shown(Arc::new(decimal))?, [Value::from("123.456")]);
        let time = TimestampMillisecondArray::from(vec![0]).with_timezone("UTC");
        assert_eq!(Column::new(&(Arc::new(time) as ArrayRef), 30)?.cell(0)?.value, Value::from("1970-01-01T00:00:00Z"));
        Ok(())
    }

    #[test]
    fn texts_are_cut_and_hide_nothing() -> Result<()> {
        let column =
            Column::new(&(Arc::new(StringArray::from(vec!["0123456789ab", "a\u{202e}b\u{e0041}\u{1b}[0m", "plain"])) as ArrayRef), 10)?;
        let cells = (0..3).map(|row| column.cell(row)).collect::<Result<Vec<_>>>()?;
        assert_eq!(cells.iter().map(|cell| cell.value.clone()).collect::<Vec<_>>(), ["0123456789...", "ab[0m", "plain"].map(Value::from));
        assert_eq!(cells.iter().map(|cell| cell.is_changed).collect::<Vec<_>>(), [true, true, false]);
        let bytes = shown(Arc::new(BinaryArray::from(vec![b"abc".as_slice()])))?;
        assert_eq!(bytes, [Value::from("<3 bytes, sha256 ba7816bf8f01cfea...>")]);
        Ok(())
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(in_line(&"a,b\n\"c\"".into()), "\"a,b\\n\"\"c\"\"\"");
        assert_eq!(in_line(&Value::Null), "");
        assert_eq!(in_line(&"".into()), "\"\"");
    }
}

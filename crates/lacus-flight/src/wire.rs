//! Types as they travel: those that every client reads, or those that there are.
//!
//! Every client reads [`Wire::Compat`]: views become plain strings and bytes, dictionaries and runs are unpacked, lists have 32-bit offsets,
//! decimals 128 bits; intervals become ISO 8601 durations and unions JSON, because clients that don't know these types crash rather than
//! say so. [`Wire::Native`] unpacks dictionaries and runs alone. Advertised, prepared and streamed schemas all come from [`Wire::schema`].

use std::fmt::Display;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    UnionArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Schema, SchemaRef,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus_core::{Error, Kind, Result};
use tonic::metadata::MetadataMap;

/// The header by which a client chooses.
pub(crate) const HEADER: &str = "wire_types";
/// The largest precision that 128 bits hold.
const DECIMAL128_PRECISION: u8 = 38;

/// Which types travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Those that every client reads.
    #[default]
    Compat,
    /// Those that there are.
    Native,
}

impl Wire {
    /// What a client asks for.
    ///
    /// # Errors
    /// `InvalidQuery` for what is no choice.
    pub(crate) fn of(headers: &MetadataMap) -> Result<Self> {
        match headers.get(HEADER).map(|value| value.to_str().unwrap_or("")) {
            None | Some("compat") => Ok(Self::Compat),
            Some("native") => Ok(Self::Native),
            Some(other) => Err(Error::new(Kind::InvalidQuery, format!("the header `{HEADER}` is `{other}`"))
                .hint("send `compat`, which every client reads, or `native`")),
        }
    }

    /// The schema under which batches of `schema` travel.
    pub(crate) fn schema(self, schema: &Schema) -> SchemaRef {
        let fields: Vec<FieldRef> = schema.fields().iter().map(|field| self.field(field)).collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    fn field(self, field: &FieldRef) -> FieldRef {
        let travelling = self.data_type(field.data_type());
        if travelling == *field.data_type() { Arc::clone(field) } else { Arc::new(Field::clone(field).with_data_type(travelling)) }
    }

    fn data_type(self, data_type: &DataType) -> DataType {
        match data_type {
            DataType::Dictionary(_, values) => self.data_type(values),
            DataType::RunEndEncoded(_, values) => self.data_type(values.data_type()),
            DataType::List(item) => DataType::List(self.field(item)),
            DataType::FixedSizeList(item, length) => DataType::FixedSizeList(self.field(item), *length),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| self.field(field)).collect()),
            DataType::Map(entries, sorted) => DataType::Map(self.field(entries), *sorted),
            DataType::LargeList(item) if self == Self::Native => DataType::LargeList(self.field(item)),
            // What holds a dictionary or a run travels as for everybody, which holds none.
            other if self == Self::Native && !is_packed(other) => other.clone(),
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => DataType::List(self.field(item)),
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
            DataType::Decimal256(precision, scale) if *precision <= DECIMAL128_PRECISION => DataType::Decimal128(*precision, *scale),
            DataType::Decimal256(..) | DataType::Interval(_) | DataType::Union(..) => DataType::Utf8,
            other => other.clone(),
        }
    }
}

/// `batch` as it travels, under a schema that [`Wire::schema`] made. A sliced view array takes only its own bytes along.
pub(crate) fn batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| converted(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn converted(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(match to {
            DataType::Utf8View => Arc::new(array.as_string_view().gc()),
            DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
            _ => Arc::clone(array),
        });
    }
    let cast = |array: &ArrayRef, to: &DataType| {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(array, to, &options)?)
    };
    if !is_told_in_text(array.data_type()) {
        return cast(array, to);
    }
    match (array.data_type(), to) {
        (DataType::Interval(unit), DataType::Utf8) => Ok(durations(array, *unit)),
        (DataType::Union(..), DataType::Utf8) => values_as_json(array.as_union()),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = converted(list.values(), item.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        // The other lists become this one first, with the items that they have.
        (DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item), DataType::List(_)) => {
            converted(&cast(array, &DataType::List(Arc::clone(item)))?, to)
        }
        (DataType::FixedSizeList(_, length), DataType::FixedSizeList(item, _)) => {
            let list = array.as_fixed_size_list();
            let values = converted(list.values(), item.data_type())?;
            Ok(Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *length, values, list.nulls().cloned())?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let row = array.as_struct();
            let columns = row.columns().iter().zip(fields).map(|(column, field)| converted(column, field.data_type()));
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, row.nulls().cloned())?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let pairs: ArrayRef = Arc::new(map.entries().clone());
            let pairs = converted(&pairs, entries.data_type())?.as_struct().clone();
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)?))
        }
        // Dictionaries and runs of such values are unpacked first.
        (DataType::Dictionary(_, values), _) => converted(&cast(array, values)?, to),
        (DataType::RunEndEncoded(_, values), _) => converted(&cast(array, values.data_type())?, to),
        _ => cast(array, to),
    }
}

/// Whether values of the type hold dictionaries or runs, which would have to be sent apart.
fn is_packed(data_type: &DataType) -> bool {
    holds(data_type, |part| matches!(part, DataType::Dictionary(..) | DataType::RunEndEncoded(..)))
}

/// Whether values of the type, or in it, travel as texts that no cast makes.
fn is_told_in_text(data_type: &DataType) -> bool {
    holds(data_type, |part| matches!(part, DataType::Interval(_) | DataType::Union(..)))
}

/// Whether a type, or one that is part of it, is one of those.
fn holds(data_type: &DataType, is: fn(&DataType) -> bool) -> bool {
    let inside = |field: &FieldRef| holds(field.data_type(), is);
    is(data_type)
        || match data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _)
            | DataType::RunEndEncoded(_, item) => inside(item),
            DataType::Struct(fields) => fields.iter().any(inside),
            DataType::Union(fields, _) => fields.iter().any(|(_, field)| inside(field)),
            DataType::Dictionary(_, values) => holds(values, is),
            _ => false,
        }
}

fn durations(array: &ArrayRef, unit: IntervalUnit) -> ArrayRef {
    let texts: StringArray = match unit {
        IntervalUnit::YearMonth => {
            array.as_primitive::<IntervalYearMonthType>().iter().map(|months| Some(duration(months?, 0, 0))).collect()
        }
        IntervalUnit::DayTime => {
            let values = array.as_primitive::<IntervalDayTimeType>().iter();
            values.map(|value| value.map(|value| duration(0, value.days, i64::from(value.milliseconds) * 1_000_000))).collect()
        }
        IntervalUnit::MonthDayNano => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().iter();
            values.map(|value| value.map(|value| duration(value.months, value.days, value.nanoseconds))).collect()
        }
    };
    Arc::new(texts)
}

/// An ISO 8601 duration, each part with its own sign: months, days and seconds can't be turned into each other.
fn duration(months: i32, days: i32, nanoseconds: i64) -> String {
    let part = |negative: bool, value: &dyn Display, unit: char| format!("{}{value}{unit}", if negative { "-" } else { "" });
    let calendar = [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')].into_iter().filter(|(value, _)| *value != 0);
    let calendar: String = calendar.map(|(value, unit)| part(value < 0, &value.unsigned_abs(), unit)).collect();
    if nanoseconds == 0 {
        return if calendar.is_empty() { "PT0S".to_owned() } else { format!("P{calendar}") };
    }
    let (size, negative) = (nanoseconds.unsigned_abs(), nanoseconds < 0);
    let (whole, fraction) = (size / 1_000_000_000, size % 1_000_000_000);
    let clock = [(whole / 3600, 'H'), (whole / 60 % 60, 'M')].into_iter().filter(|(value, _)| *value != 0);
    let mut clock: String = clock.map(|(value, unit)| part(negative, &value, unit)).collect();
    let seconds = whole % 60;
    if fraction != 0 {
        let digits = format!("{fraction:09}");
        clock += &part(negative, &format!("{seconds}.{}", digits.trim_end_matches('0')), 'S');
    } else if seconds != 0 {
        clock += &part(negative, &seconds, 'S');
    }
    format!("P{calendar}T{clock}")
}

/// The values of a union, each as JSON: numbers and truth values as such, all else as text, as it is shown.
fn values_as_json(union: &UnionArray) -> Result<ArrayRef> {
    let options = FormatOptions::default();
    let texts = (0..union.len()).map(|row| {
        let value = union.value(row);
        if value.logical_nulls().is_some_and(|nulls| nulls.is_null(0)) {
            return Ok(None);
        }
        let shown = ArrayFormatter::try_new(&value, &options)?.value(0).to_string();
        let plain = value.data_type().is_integer() || matches!(value.data_type(), DataType::Boolean);
        let number = value.data_type().is_floating() && shown.parse::<f64>().is_ok_and(f64::is_finite);
        Ok(Some(if plain || number { shown } else { serde_json::Value::String(shown).to_string() }))
    });
    Ok(Arc::new(texts.collect::<Result<StringArray>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, IntervalMonthDayNanoArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn views_and_dictionaries_are_unpacked_and_metadata_stays() -> Result<()> {
        let dictionary: DictionaryArray<Int32Type> = ["K", "K", "eV"].into_iter().collect();
        let views = StringViewArray::from(vec!["a", "b", "a string that is too long to be inlined"]);
        let columns: Vec<(&str, ArrayRef)> =
            vec![("unit", Arc::new(dictionary)), ("name", Arc::new(views)), ("n", Arc::new(Int32Array::from(vec![1, 2, 3])))];
        let original = RecordBatch::try_from_iter(columns)?;
        let described = lacus_core::describe_field(original.schema().field(1).clone(), Some("what"), None);
        let fields = vec![original.schema().field(0).clone(), described, original.schema().field(2).clone()];
        let original = RecordBatch::try_new(Arc::new(Schema::new(fields)), original.columns().to_vec())?;
        let travelling = Wire::Compat.schema(original.schema_ref());
        let sent = batch(&original, &travelling)?;
        assert_eq!(sent.schema(), travelling);
        assert_eq!(travelling.field(1).metadata()["description"], "what");
        assert_eq!(
            travelling.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>(),
            [DataType::Utf8, DataType::Utf8, DataType::Int32]
        );
        Ok(())
    }

    #[test]
    fn intervals_are_durations_of_iso_8601() {
        for (months, days, nanoseconds, text) in [
            (0, 0, 0, "PT0S"),
            (14, 3, 14_706_500_000_000, "P1Y2M3DT4H5M6.5S"),
            (-1, 2, -500_000_000, "P-1M2DT-0.5S"),
            (0, 0, 3_600_000_000_000, "PT1H"),
            (0, -1, 0, "P-1D"),
            (0, 0, i64::MIN, "PT-2562047H-47M-16.854775808S"),
        ] {
            assert_eq!(duration(months, days, nanoseconds), text);
        }
    }

    #[test]
    fn what_crashes_clients_travels_as_text_also_inside_of_other_types() -> Result<()> {
        let intervals = IntervalMonthDayNanoArray::from(vec![Some(arrow::datatypes::IntervalMonthDayNano::new(1, 2, 3)), None]);
        let item = Arc::new(Field::new("item", intervals.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1]);
        let lists = ListArray::try_new(item, offsets, Arc::new(intervals.clone()), None)?;
        let members = [(0, Arc::new(Field::new("n", DataType::Int32, true))), (1, Arc::new(Field::new("s", DataType::Utf8, true)))];
        let fields = members.into_iter().collect();
        let children: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![7, 8])), Arc::new(StringArray::from(vec!["a\"b", "c"]))];
        let union = UnionArray::try_new(fields, vec![0, 1].into(), None, children)?;
        let row =
            StructArray::from(vec![(Arc::new(Field::new("i", intervals.data_type().clone(), true)), Arc::new(intervals) as ArrayRef)]);
        let columns: Vec<(&str, ArrayRef)> = vec![("l", Arc::new(lists)), ("u", Arc::new(union)), ("r", Arc::new(row))];
        let original = RecordBatch::try_from_iter(columns)?;
        let sent = batch(&original, &Wire::Compat.schema(original.schema_ref()))?;
        let shown = arrow::util::pretty::pretty_format_batches(&[sent])?.to_string();
        assert!(shown.contains(r#"| [P1M2DT0.000000003S] | 7   | {i: P1M2DT0.000000003S} |"#), "{shown}");
        assert!(shown.contains(r#"| []                   | "c" | {i: }                   |"#), "{shown}");
        let native = batch(&original, &Wire::Native.schema(original.schema_ref()))?;
        assert_eq!(native, original);
        Ok(())
    }

    #[test]
    fn natively_no_dictionary_is_left_in_lists() -> Result<()> {
        let words: DictionaryArray<Int32Type> = ["K", "eV", "K"].into_iter().collect();
        let item = Arc::new(Field::new("item", words.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
        let lists = arrow::array::LargeListArray::try_new(item, offsets, Arc::new(words), None)?;
        let original = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)])?;
        let travelling = Wire::Native.schema(original.schema_ref());
        assert!(!is_packed(travelling.field(0).data_type()) && matches!(travelling.field(0).data_type(), DataType::LargeList(_)));
        let sent = batch(&original, &travelling)?;
        assert_eq!(sent.column(0).as_list::<i64>().values().as_string::<i32>().value(1), "eV");
        Ok(())
    }
}

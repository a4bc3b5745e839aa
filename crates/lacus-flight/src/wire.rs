//! Types as they travel: those that every client reads.
//!
//! Views become plain strings and bytes (a sliced view array would be sent with all the bytes behind it), dictionaries and runs are
//! unpacked, lists have 32-bit offsets, decimals 128 bits. Advertised, prepared and streamed schemas all come from [`schema`].

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use lacus_core::Result;

/// The largest precision that 128 bits hold.
const DECIMAL128_PRECISION: u8 = 38;

/// The schema under which batches of `schema` travel.
pub(crate) fn schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn field(field: &FieldRef) -> FieldRef {
    let travelling = data_type(field.data_type());
    if travelling == *field.data_type() { Arc::clone(field) } else { Arc::new(Field::clone(field).with_data_type(travelling)) }
}

fn data_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => self::data_type(values),
        DataType::RunEndEncoded(_, values) => self::data_type(values.data_type()),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(field(item))
        }
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(precision, scale) if *precision <= DECIMAL128_PRECISION => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(..) => DataType::Utf8,
        other => other.clone(),
    }
}

/// `batch` as it travels, under a schema that [`schema`] made.
pub(crate) fn batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast_with_options(column, field.data_type(), &options),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, StringViewArray};
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
        let travelling = schema(original.schema_ref());
        let sent = batch(&original, &travelling)?;
        assert_eq!(sent.schema(), travelling);
        assert_eq!(travelling.field(1).metadata()["description"], "what");
        assert_eq!(
            travelling.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>(),
            [DataType::Utf8, DataType::Utf8, DataType::Int32]
        );
        Ok(())
    }
}

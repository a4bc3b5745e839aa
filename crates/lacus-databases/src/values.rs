//! Values of rows, put into columns of Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Decimal128Builder, ListArray, PrimitiveBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use lacus_core::{Error, Kind, Result};

/// How many rows go together, and about how many bytes.
const ROWS: usize = 8192;
const BYTES: usize = 4 << 20;

/// Why a value has no place in its column, in words that follow it.
pub(crate) type Unfit = String;

/// The values of one column.
pub(crate) enum Values {
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal(Decimal128Builder, u8, u32),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Duration(PrimitiveBuilder<DurationMicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    List(Box<Values>, FieldRef, Vec<i32>, Vec<bool>),
}

fn integer<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: i128) -> std::result::Result<(), Unfit>
where
    T::Native: TryFrom<i128>,
{
    builder.append_value(T::Native::try_from(value).map_err(|_| format!("{value} is too large for {}", T::DATA_TYPE))?);
    Ok(())
}

impl Values {
    /// A column of a type.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(PrimitiveBuilder::new()),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::new()),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::new()),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::new()),
            DataType::UInt8 => Self::UInt8(PrimitiveBuilder::new()),
            DataType::UInt16 => Self::UInt16(PrimitiveBuilder::new()),
            DataType::UInt32 => Self::UInt32(PrimitiveBuilder::new()),
            DataType::UInt64 => Self::UInt64(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?;
                Self::Decimal(builder, *precision, u32::try_from(*scale).unwrap_or_default())
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(PrimitiveBuilder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(PrimitiveBuilder::new()),
            DataType::Duration(TimeUnit::Microsecond) => Self::Duration(PrimitiveBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => Self::Timestamp(PrimitiveBuilder::new().with_timezone_opt(zone.clone())),
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(PrimitiveBuilder::new()),
            DataType::List(item) if !item.data_type().is_nested() => {
                Self::List(Box::new(Self::new(item.data_type())?), Arc::clone(item), vec![0], Vec::new())
            }
            other => return Err(Error::new(Kind::Unsupported, format!("a database gives no column of type {other}"))),
        })
    }

    /// NULL.
    pub(crate) fn null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::UInt8(builder) => builder.append_null(),
            Self::UInt16(builder) => builder.append_null(),
            Self::UInt32(builder) => builder.append_null(),
            Self::UInt64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Duration(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Interval(builder) => builder.append_null(),
            Self::List(_, _, offsets, valid) => {
                offsets.push(offsets.last().copied().unwrap_or_default());
                valid.push(false);
            }
        }
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, value: i128) -> std::result::Result<(), Unfit> {
        match self {
            Self::Int8(builder) => integer(builder, value),
            Self::Int16(builder) => integer(builder, value),
            Self::Int32(builder) => integer(builder, value),
            Self::Int64(builder) => integer(builder, value),
            Self::UInt8(builder) => integer(builder, value),
            Self::UInt16(builder) => integer(builder, value),
            Self::UInt32(builder) => integer(builder, value),
            Self::UInt64(builder) => integer(builder, value),
            Self::Boolean(builder) if (0..=1).contains(&value) => {
                builder.append_value(value == 1);
                Ok(())
            }
            Self::Float64(builder) => {
                // Beyond this whole numbers have no place of their own.
                if value.unsigned_abs() > 1 << 53 {
                    return Err(format!("{value} has more digits than Float64"));
                }
                builder.append_value(value as f64);
                Ok(())
            }
            Self::Decimal(..) => self.decimal(value, 0),
            other => Err(format!("the whole number {value} is none of {}", other.data_type())),
        }
    }

    /// A number of floating point.
    pub(crate) fn float(&mut self, value: f64) -> std::result::Result<(), Unfit> {
        match self {
            Self::Float64(builder) => builder.append_value(value),
            Self::Float32(builder) => builder.append_value(value as f32),
            other => return Err(format!("the number {value} is none of {}", other.data_type())),
        }
        Ok(())
    }

    /// `mantissa` of which the last `scale` digits stand behind the point.
    pub(crate) fn decimal(&mut self, mantissa: i128, scale: i32) -> std::result::Result<(), Unfit> {
        let Self::Decimal(builder, precision, wanted) = self else {
            return if scale == 0 { self.integer(mantissa) } else { Err(format!("a decimal is none of {}", self.data_type())) };
        };
        let shift = i32::try_from(*wanted).unwrap_or_default() - scale;
        let power = 10_i128.checked_pow(shift.unsigned_abs());
        let large = || format!("a decimal has more digits than Decimal128({precision}, {wanted})");
        let value = match power {
            Some(power) if shift >= 0 => mantissa.checked_mul(power).ok_or_else(large)?,
            Some(power) if mantissa % power == 0 => mantissa / power,
            None if mantissa == 0 => 0,
            _ => return Err(large()),
        };
        if value.unsigned_abs() >= 10_u128.pow((*precision).into()) {
            return Err(large());
        }
        builder.append_value(value);
        Ok(())
    }

    /// A text.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> std::result::Result<(), Unfit> {
        match self {
            Self::Text(builder) => builder.append_value(std::str::from_utf8(bytes).map_err(|_| "a text is no UTF-8".to_owned())?),
            Self::Binary(builder) => builder.append_value(bytes),
            other => return Err(format!("`{}` is none of {}", String::from_utf8_lossy(bytes), other.data_type())),
        }
        Ok(())
    }

    /// Whole units of time: of days, of microseconds.
    pub(crate) fn count(&mut self, value: i64) -> std::result::Result<(), Unfit> {
        match self {
            Self::Date(builder) => builder.append_value(i32::try_from(value).map_err(|_| format!("no day is so far: {value}"))?),
            Self::Time(builder) => builder.append_value(value),
            Self::Duration(builder) => builder.append_value(value),
            Self::Timestamp(builder) => builder.append_value(value),
            other => return Err(format!("a time is none of {}", other.data_type())),
        }
        Ok(())
    }

    /// An interval.
    pub(crate) fn interval(&mut self, months: i32, days: i32, micros: i64) -> std::result::Result<(), Unfit> {
        let Self::Interval(builder) = self else { return Err(format!("an interval is none of {}", self.data_type())) };
        let nanos = micros.checked_mul(1_000).ok_or_else(|| format!("an interval of {micros} microseconds is too long"))?;
        builder.append_value(IntervalMonthDayNano::new(months, days, nanos));
        Ok(())
    }

    fn data_type(&self) -> String {
        match self {
            Self::Boolean(_) => "Boolean".to_owned(),
            Self::Int8(_) => "Int8".to_owned(),
            Self::Int16(_) => "Int16".to_owned(),
            Self::Int32(_) => "Int32".to_owned(),
            Self::Int64(_) => "Int64".to_owned(),
            Self::UInt8(_) => "UInt8".to_owned(),
            Self::UInt16(_) => "UInt16".to_owned(),
            Self::UInt32(_) => "UInt32".to_owned(),
            Self::UInt64(_) => "UInt64".to_owned(),
            Self::Float32(_) => "Float32".to_owned(),
            Self::Float64(_) => "Float64".to_owned(),
            Self::Decimal(_, precision, scale) => format!("Decimal128({precision}, {scale})"),
            Self::Text(_) => "Utf8".to_owned(),
            Self::Binary(_) => "Binary".to_owned(),
            Self::Date(_) => "Date32".to_owned(),
            Self::Time(_) => "Time64".to_owned(),
            Self::Duration(_) => "Duration".to_owned(),
            Self::Timestamp(_) => "Timestamp".to_owned(),
            Self::Interval(_) => "Interval".to_owned(),
            Self::List(items, ..) => format!("List({})", items.data_type()),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::UInt8(builder) => Arc::new(builder.finish()),
            Self::UInt16(builder) => Arc::new(builder.finish()),
            Self::UInt32(builder) => Arc::new(builder.finish()),
            Self::UInt64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Duration(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Interval(builder) => Arc::new(builder.finish()),
            Self::List(items, field, offsets, valid) => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let list = ListArray::try_new(Arc::clone(field), offsets, items.finish()?, Some(std::mem::take(valid).into()))?;
                Arc::new(list)
            }
        })
    }
}

/// Rows on their way into batches.
pub(crate) struct Rows {
    schema: SchemaRef,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
    /// How many rows went before them.
    before: usize,
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        let column = |field: &FieldRef| Values::new(field.data_type()).map_err(|error| error.with("column", field.name()));
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(Self { schema, columns, rows: 0, bytes: 0, before: 0 })
    }

    /// How many columns they have.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// A row, whose values `put` gives column by column, and its size.
    pub(crate) fn row(&mut self, bytes: usize, mut put: impl FnMut(usize, &mut Values) -> std::result::Result<(), Unfit>) -> Result<()> {
        for (place, column) in self.columns.iter_mut().enumerate() {
            if let Err(why) = put(place, column) {
                let error = Error::new(Kind::CorruptData, why).with("column", self.schema.field(place).name());
                return Err(error
                    .with("row of the answer", self.before + self.rows + 1)
                    .hint("the column holds what has no place in its type; a view of the database can give it another (CAST, NULLIF)"));
            }
        }
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The rows so far, if they are many, or all of them.
    pub(crate) fn batch(&mut self, is_last: bool) -> Result<Option<RecordBatch>> {
        if self.rows == 0 || !is_last && self.rows < ROWS && self.bytes < BYTES {
            return Ok(None);
        }
        let columns = self.columns.iter_mut().map(Values::finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.before += self.rows;
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }
}

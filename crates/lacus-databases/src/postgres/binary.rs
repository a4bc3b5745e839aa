//! Values as PostgreSQL sends them in binary: `src/backend/utils/adt/*.c`, the functions called `..._send`.

use crate::values::{Unfit, Values};

/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;

/// Puts a value into its column.
pub(super) fn put(column: &mut Values, bytes: &[u8]) -> Result<(), Unfit> {
    match column {
        Values::Boolean(builder) => {
            builder.append_value(fixed::<1>(bytes)? != [0]);
            Ok(())
        }
        Values::Int16(_) => column.integer(i16::from_be_bytes(fixed(bytes)?).into()),
        Values::Int32(_) => column.integer(i32::from_be_bytes(fixed(bytes)?).into()),
        Values::Int64(_) => column.integer(i64::from_be_bytes(fixed(bytes)?).into()),
        Values::Float32(builder) => {
            let number = f32::from_be_bytes(fixed(bytes)?);
            // It has one NaN, greater than all; here one with a sign is less.
            builder.append_value(if number.is_nan() { f32::NAN } else { number });
            Ok(())
        }
        Values::Float64(_) => {
            let number = f64::from_be_bytes(fixed(bytes)?);
            column.float(if number.is_nan() { f64::NAN } else { number })
        }
        Values::Decimal(..) => {
            let (mantissa, scale) = numeric(bytes)?;
            column.decimal(mantissa, scale)
        }
        Values::Date(_) => match i32::from_be_bytes(fixed(bytes)?) {
            i32::MIN | i32::MAX => Err("the date is infinite".to_owned()),
            days => column.count(i64::from(days) + EPOCH_DAYS),
        },
        Values::Time(_) => column.count(i64::from_be_bytes(fixed(bytes)?)),
        Values::Timestamp(_) => match i64::from_be_bytes(fixed(bytes)?) {
            i64::MIN | i64::MAX => Err("the time is infinite".to_owned()),
            micros => column.count(micros.checked_add(EPOCH_MICROS).ok_or("the time is too far away")?),
        },
        Values::Interval(_) => {
            let bytes: [u8; 16] = fixed(bytes)?;
            let [micros, days, months] = [&bytes[..8], &bytes[8..12], &bytes[12..]];
            column.interval(i32::from_be_bytes(fixed(months)?), i32::from_be_bytes(fixed(days)?), i64::from_be_bytes(fixed(micros)?))
        }
        Values::List(items, _, offsets, valid) => {
            let count = list(items, bytes)?;
            offsets.push(offsets.last().copied().unwrap_or_default() + count);
            valid.push(true);
            Ok(())
        }
        Values::Text(_) | Values::Binary(_) => column.text(bytes),
        Values::Int8(_) | Values::UInt8(_) | Values::UInt16(_) | Values::UInt32(_) | Values::UInt64(_) | Values::Duration(_) => {
            Err("PostgreSQL has no such type".to_owned())
        }
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Unfit> {
    bytes.try_into().map_err(|_| format!("a value has {} bytes in place of {N}", bytes.len()))
}

/// The first `N` bytes, and what follows them.
fn taken<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Unfit> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| "a value is cut off".to_owned())?;
    Ok((*first, rest))
}

/// A `numeric`: digits to the base 10,000, of which the first stands for `10,000^weight`.
fn numeric(bytes: &[u8]) -> Result<(i128, i32), Unfit> {
    let ([a, b, c, d, e, f, _, _], mut rest) = taken::<8>(bytes)?;
    let (count, weight, sign) = (u16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]), u16::from_be_bytes([e, f]));
    let is_negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Err("the number is NaN, which no decimal is".to_owned()),
        _ => return Err("the number is infinite".to_owned()),
    };
    let mut mantissa = 0_i128;
    let mut scale = 4 * (i32::from(count) - 1 - i32::from(weight));
    for place in 1..=count {
        let (digit, others) = taken::<2>(rest)?;
        rest = others;
        let (mut digit, mut base) = (i128::from(u16::from_be_bytes(digit)), 10_000);
        // Zeros at the end are none of its digits.
        while place == count && base > 1 && digit % 10 == 0 {
            (digit, base, scale) = (digit / 10, base / 10, scale - 1);
        }
        mantissa =
            mantissa.checked_mul(base).and_then(|mantissa| mantissa.checked_add(digit)).ok_or("the number has more than 38 digits")?;
    }
    Ok((if is_negative { -mantissa } else { mantissa }, if mantissa == 0 { 0 } else { scale }))
}

/// The items of a list; how many they are.
fn list(items: &mut Values, bytes: &[u8]) -> Result<i32, Unfit> {
    let (dimensions, rest) = taken::<4>(bytes)?;
    let (_, rest) = taken::<8>(rest)?;
    match i32::from_be_bytes(dimensions) {
        0 => return Ok(0),
        1 => {}
        more => return Err(format!("the array has {more} dimensions, and a list has one")),
    }
    let (count, rest) = taken::<4>(rest)?;
    let (_, mut rest) = taken::<4>(rest)?;
    let count = i32::from_be_bytes(count);
    for _ in 0..count {
        let (length, others) = taken::<4>(rest)?;
        rest = others;
        match usize::try_from(i32::from_be_bytes(length)) {
            Err(_) => items.null(),
            Ok(length) => {
                let (item, others) = rest.split_at_checked(length).ok_or_else(|| "an item is cut off".to_owned())?;
                put(items, item)?;
                rest = others;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let count = u16::try_from(digits.len()).unwrap_or_default();
        let header = [count, weight.cast_unsigned(), sign, 0];
        header.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_keep_all_digits() {
        assert_eq!(numeric(&sent(0, 0, &[])), Ok((0, 0)));
        assert_eq!(numeric(&sent(0, 0x4000, &[1, 5000])), Ok((-15, 1)));
        assert_eq!(numeric(&sent(2, 0, &[1])), Ok((1, -8)));
        assert_eq!(numeric(&sent(-1, 0, &[1])), Ok((1, 4)));
        assert_eq!(numeric(&sent(1, 0, &[1, 2345, 6789])), Ok((123_456_789, 4)));
        assert!(numeric(&sent(0, 0xC000, &[])).is_err());
        assert!(numeric(&sent(0, 0, &[9999; 10])).is_err());
        assert!(numeric(&[0, 1, 0, 0]).is_err());
    }
}

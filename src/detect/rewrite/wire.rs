//! The protobuf wire format, as much of it as a rewrite needs (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Reads borrow, never copy, and never index unchecked; groups, which ONNX does not use, are refused.

use super::{Result, RewriteError};

/// One field of a protobuf message.
pub(super) struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    /// Key and value as they stood.
    pub raw: &'a [u8],
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

pub(super) const TRUNCATED: RewriteError = RewriteError::Malformed("it ends in the middle of a field");

/// The fields of a message in their order. Ends after the first error.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = take_field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// The embedded messages or strings that stand at `number`.
pub(super) fn embedded(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8]>> {
    fields(message).filter_map(move |field| match field {
        Ok(Field { number: n, value: Value::Bytes(bytes), .. }) if n == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The string at `number`; empty when there is none, as protobuf has it.
pub(super) fn name_of(message: &[u8], number: u64) -> Result<&[u8]> {
    embedded(message, number).last().transpose().map(Option::unwrap_or_default)
}

/// `message` with each embedded message at `number` put through `change`, and all else as it stood.
pub(super) fn map_embedded(
    message: &[u8],
    number: u64,
    change: &mut dyn FnMut(&[u8]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len().saturating_add(16));
    for field in fields(message) {
        let field = field?;
        match field.value {
            Value::Bytes(inner) if field.number == number => put_bytes(&mut out, number, &change(inner)?),
            _ => out.extend_from_slice(field.raw),
        }
    }
    Ok(out)
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>> {
    let start = *rest;
    let key = take_varint(rest)?;
    let value = match key & 7 {
        0 => Value::Varint(take_varint(rest)?),
        1 => take_bytes(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(take_varint(rest)?).map_err(|_| TRUNCATED)?;
            Value::Bytes(take_bytes(rest, length)?)
        }
        5 => take_bytes(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err(RewriteError::Malformed("it has a field of no known wire type")),
    };
    let number = key >> 3;
    if number == 0 {
        return Err(RewriteError::Malformed("it has a field numbered 0"));
    }
    let raw = start.get(..start.len() - rest.len()).ok_or(TRUNCATED)?;
    Ok(Field { number, value, raw })
}

fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (bytes, tail) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(bytes)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(TRUNCATED)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(RewriteError::Malformed("it has a number of more than ten bytes"))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_survive_the_round_trip(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest).unwrap(), value);
            prop_assert!(rest.is_empty());
        }
    }
}

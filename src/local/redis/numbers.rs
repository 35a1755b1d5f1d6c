//! Integers as Redis reads them, and the counters: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.

use super::float::{self, Extended, Number};
use super::reply::Error;
use super::{Call, NOT_AN_INTEGER, Outcome};

const NOT_A_FLOAT: &str = "ERR value is not a valid float";
const NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";

/// An integer in the only form that Redis accepts: no sign but `-`, no leading zero, no space.
pub fn integer(text: &[u8]) -> Result<i64, Error> {
    let canonical = match text {
        b"0" => true,
        [b'-', first, ..] | [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    let number = std::str::from_utf8(text).ok().filter(|_| canonical).and_then(|t| t.parse().ok());
    number.ok_or_else(|| NOT_AN_INTEGER.into())
}

pub fn incr(call: &mut Call<'_>) -> Outcome {
    add(call, 1)
}

pub fn decr(call: &mut Call<'_>) -> Outcome {
    add(call, -1)
}

pub fn incrby(call: &mut Call<'_>) -> Outcome {
    let by = integer(call.arg(1))?;
    add(call, by)
}

pub fn decrby(call: &mut Call<'_>) -> Outcome {
    let by = integer(call.arg(1))?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(call, by)
}

fn add(call: &mut Call<'_>, by: i64) -> Outcome {
    let old = match call.store.peek(call.arg(0), call.now) {
        Some(item) => integer(&item.value)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or("ERR increment or decrement would overflow")?;
    overwrite(call, itoa::Buffer::new().format(new).as_bytes())?;
    call.reply.integer(new);
    Ok(())
}

pub fn incrbyfloat(call: &mut Call<'_>) -> Outcome {
    let number = |text: &[u8]| float::parse(text).ok_or(Error::from(NOT_A_FLOAT));
    let old = match call.store.peek(call.arg(0), call.now) {
        Some(item) => number(&item.value)?,
        None => number(b"0")?,
    };
    let sum = match (old, number(call.arg(1))?) {
        (Number::Finite(old), Number::Finite(by)) => old.plus(by).map(Extended::to_text),
        _ => None,
    };
    let sum = sum.ok_or(NOT_FINITE)?;
    overwrite(call, sum.as_bytes())?;
    call.reply.bulk(sum.as_bytes());
    Ok(())
}

/// Replaces the value and leaves the expiry, if any, as it is.
fn overwrite(call: &mut Call<'_>, value: &[u8]) -> Outcome {
    let key = call.arg(0);
    let edited = call.store.edit(key, call.now, value.len(), |old| {
        old.clear();
        old.extend_from_slice(value);
    })?;
    if edited.is_none() {
        call.store.set(key, value.to_vec(), 0, None)?;
    }
    Ok(())
}

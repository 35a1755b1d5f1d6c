//! Times to live: the options of SET and GETEX, the EXPIRE family, the TTL family, PERSIST.

use super::numbers::integer;
use super::reply::Error;
use super::{Call, Outcome};
use crate::local::store::Millis;

/// How a time is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Unix seconds.
    ExAt,
    /// Unix milliseconds.
    PxAt,
}

impl Expiry {
    /// By the name of the option, in lower case.
    pub fn from_option(name: &[u8]) -> Option<Self> {
        match name {
            b"ex" => Some(Self::Ex),
            b"px" => Some(Self::Px),
            b"exat" => Some(Self::ExAt),
            b"pxat" => Some(Self::PxAt),
            _ => None,
        }
    }

    /// As Unix time; `None` if that does not fit.
    fn resolve(self, number: i64, now: Millis) -> Option<Millis> {
        let millis = if matches!(self, Self::Ex | Self::ExAt) { number.checked_mul(1000)? } else { number };
        if matches!(self, Self::Ex | Self::Px) { millis.checked_add(now) } else { Some(millis) }
    }
}

/// The time of an option of SET, SETEX, GETEX: positive.
pub fn expires_at(call: &Call<'_>, expiry: Expiry, text: &[u8]) -> Result<Millis, Error> {
    let number = integer(text)?;
    let at = if number > 0 { expiry.resolve(number, call.now) } else { None };
    at.ok_or_else(|| invalid_time(call))
}

fn invalid_time(call: &Call<'_>) -> Error {
    format!("ERR invalid expire time in '{}' command", call.command.name).into()
}

pub fn expire(call: &mut Call<'_>) -> Outcome {
    change(call, Expiry::Ex)
}

pub fn pexpire(call: &mut Call<'_>) -> Outcome {
    change(call, Expiry::Px)
}

pub fn expireat(call: &mut Call<'_>) -> Outcome {
    change(call, Expiry::ExAt)
}

pub fn pexpireat(call: &mut Call<'_>) -> Outcome {
    change(call, Expiry::PxAt)
}

/// When EXPIRE applies.
#[derive(Default)]
struct Conditions {
    /// NX: only to a key without an expiry.
    if_none: bool,
    /// XX: only to a key with one.
    if_some: bool,
    /// GT: only to a later time; never is later than any time.
    if_later: bool,
    /// LT: only to an earlier time.
    if_earlier: bool,
}

impl Conditions {
    fn read(options: &[&[u8]]) -> Result<Self, Error> {
        let mut conditions = Self::default();
        for option in options {
            match option.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.if_none = true,
                b"xx" => conditions.if_some = true,
                b"gt" => conditions.if_later = true,
                b"lt" => conditions.if_earlier = true,
                _ => {
                    let shown = String::from_utf8_lossy(option).replace(['\r', '\n'], " ");
                    return Err(format!("ERR Unsupported option {shown}").into());
                }
            }
        }
        if conditions.if_none && (conditions.if_some || conditions.if_later || conditions.if_earlier) {
            return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
        }
        if conditions.if_later && conditions.if_earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(conditions)
    }

    fn allow(&self, current: Option<Millis>, new: Millis) -> bool {
        !(self.if_none && current.is_some()
            || self.if_some && current.is_none()
            || self.if_later && current.is_none_or(|at| new <= at)
            || self.if_earlier && current.is_some_and(|at| new >= at))
    }
}

fn change(call: &mut Call<'_>, expiry: Expiry) -> Outcome {
    let conditions = Conditions::read(call.args.get(2..).unwrap_or_default())?;
    let number = integer(call.arg(1))?;
    let at = expiry.resolve(number, call.now).ok_or_else(|| invalid_time(call))?;
    let key = call.arg(0);
    let applies = call.store.get(key, call.now).is_some_and(|item| conditions.allow(item.expires_at, at));
    if applies && at <= call.now {
        call.store.remove(key, call.now);
    } else if applies {
        call.store.set_expiry(key, call.now, Some(at));
    }
    call.reply.integer(i64::from(applies));
    Ok(())
}

pub fn ttl(call: &mut Call<'_>) -> Outcome {
    let now = call.now;
    report(call, |at| in_seconds((at - now).max(0)))
}

pub fn pttl(call: &mut Call<'_>) -> Outcome {
    let now = call.now;
    report(call, |at| (at - now).max(0))
}

pub fn expiretime(call: &mut Call<'_>) -> Outcome {
    report(call, in_seconds)
}

pub fn pexpiretime(call: &mut Call<'_>) -> Outcome {
    report(call, |at| at)
}

/// Rounded, as Redis does it.
fn in_seconds(millis: Millis) -> i64 {
    millis.saturating_add(500) / 1000
}

fn report(call: &mut Call<'_>, show: impl Fn(Millis) -> i64) -> Outcome {
    // Looking at the expiry is no use of the value: it does not keep the key from being evicted.
    let answer = match call.store.peek(call.arg(0), call.now) {
        None => -2,
        Some(item) => item.expires_at.map_or(-1, show),
    };
    call.reply.integer(answer);
    Ok(())
}

pub fn persist(call: &mut Call<'_>) -> Outcome {
    let previous = call.store.set_expiry(call.arg(0), call.now, None).flatten();
    call.reply.integer(i64::from(previous.is_some()));
    Ok(())
}

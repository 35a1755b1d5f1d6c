//! Commands on values: SET and its kin, GET and its kin, the multi-key ones, ranges.

use super::expiry::{Expiry, expires_at};
use super::numbers::integer;
use super::reply::Error;
use super::{Call, Outcome, SYNTAX, wrong_arity};

/// Redis's own limit on a string, in bytes.
const MAX_STRING: i64 = 512 * 1024 * 1024;

/// Which command's options are read: SET and GETEX share them in part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Options {
    Set,
    GetEx,
}

#[derive(Default)]
struct Parsed<'a> {
    not_exists: bool,
    exists: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<(Expiry, &'a [u8])>,
}

impl<'a> Parsed<'a> {
    fn read(arguments: &[&'a [u8]], of: Options) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let option = option.to_ascii_lowercase();
            let (set, no_expiry) = (of == Options::Set, parsed.expiry.is_none());
            match option.as_slice() {
                b"nx" if set && !parsed.exists => parsed.not_exists = true,
                b"xx" if set && !parsed.not_exists => parsed.exists = true,
                b"get" if set => parsed.get = true,
                b"keepttl" if set && no_expiry => parsed.keep_ttl = true,
                b"persist" if !set && no_expiry => parsed.persist = true,
                name => {
                    let expiry = Expiry::from_option(name).ok_or(SYNTAX)?;
                    let value = arguments.next().ok_or(SYNTAX)?;
                    let other = parsed.expiry.is_some_and(|(earlier, _)| earlier != expiry);
                    if other || parsed.keep_ttl || parsed.persist {
                        return Err(SYNTAX.into());
                    }
                    parsed.expiry = Some((expiry, value));
                }
            }
        }
        Ok(parsed)
    }
}

pub fn set(call: &mut Call<'_>) -> Outcome {
    let (key, value) = (call.arg(0), call.arg(1));
    let options = Parsed::read(call.args.get(2..).unwrap_or_default(), Options::Set)?;
    let mut expires = options.expiry.map(|(expiry, text)| expires_at(call, expiry, text)).transpose()?;
    let old = call.store.get(key, call.now);
    let found = old.is_some();
    if options.keep_ttl {
        expires = old.and_then(|item| item.expires_at);
    }
    let old = old.filter(|_| options.get).map(|item| item.value.clone());
    let refused = (options.not_exists && found) || (options.exists && !found);
    if !refused {
        call.store.set(key, value.to_vec(), 0, expires)?;
    }
    match (options.get, refused) {
        (true, _) => call.reply.bulk_or_null(old.as_deref()),
        (false, true) => call.reply.bulk_or_null(None),
        (false, false) => call.reply.ok(),
    }
    Ok(())
}

pub fn setnx(call: &mut Call<'_>) -> Outcome {
    let found = call.store.get(call.arg(0), call.now).is_some();
    if !found {
        call.store.set(call.arg(0), call.arg(1).to_vec(), 0, None)?;
    }
    call.reply.integer(i64::from(!found));
    Ok(())
}

pub fn setex(call: &mut Call<'_>) -> Outcome {
    set_with_expiry(call, Expiry::Ex)
}

pub fn psetex(call: &mut Call<'_>) -> Outcome {
    set_with_expiry(call, Expiry::Px)
}

fn set_with_expiry(call: &mut Call<'_>, expiry: Expiry) -> Outcome {
    let expires = expires_at(call, expiry, call.arg(1))?;
    call.store.set(call.arg(0), call.arg(2).to_vec(), 0, Some(expires))?;
    call.reply.ok();
    Ok(())
}

pub fn getset(call: &mut Call<'_>) -> Outcome {
    let old = call.store.get(call.arg(0), call.now).map(|item| item.value.clone());
    call.store.set(call.arg(0), call.arg(1).to_vec(), 0, None)?;
    call.reply.bulk_or_null(old.as_deref());
    Ok(())
}

pub fn get(call: &mut Call<'_>) -> Outcome {
    let value = call.store.get(call.arg(0), call.now).map(|item| item.value.as_slice());
    call.reply.bulk_or_null(value);
    Ok(())
}

pub fn getdel(call: &mut Call<'_>) -> Outcome {
    let item = call.store.remove(call.arg(0), call.now);
    call.reply.bulk_or_null(item.as_ref().map(|item| item.value.as_slice()));
    Ok(())
}

pub fn getex(call: &mut Call<'_>) -> Outcome {
    let options = Parsed::read(call.args.get(1..).unwrap_or_default(), Options::GetEx)?;
    let key = call.arg(0);
    if call.store.get(key, call.now).is_none() {
        call.reply.bulk_or_null(None);
        return Ok(());
    }
    let expires = options.expiry.map(|(expiry, text)| expires_at(call, expiry, text)).transpose()?;
    let value = call.store.get(key, call.now).map(|item| item.value.as_slice());
    call.reply.bulk_or_null(value);
    if expires.is_some() || options.persist {
        call.store.set_expiry(key, call.now, expires);
    }
    Ok(())
}

pub fn mget(call: &mut Call<'_>) -> Outcome {
    // Each key is touched first: that drops what has expired and marks the rest as used.
    let total: usize = call.args.iter().map(|key| call.store.get(key, call.now).map_or(0, |i| i.value.len())).sum();
    // Only repeated keys can ask for more than the store holds.
    if total as u64 > call.store.capacity() {
        return Err("ERR the reply would be larger than this in-process server's memory (local_memory)".into());
    }
    let peek = |key: &&[u8]| call.store.peek(key, call.now).map(|item| item.value.as_slice());
    let values: Vec<_> = call.args.iter().map(peek).collect();
    call.reply.bulks_or_nulls(&values);
    Ok(())
}

pub fn mset(call: &mut Call<'_>) -> Outcome {
    set_pairs(call)?;
    call.reply.ok();
    Ok(())
}

pub fn msetnx(call: &mut Call<'_>) -> Outcome {
    let any = call.args.iter().step_by(2).any(|key| call.store.peek(key, call.now).is_some());
    if call.args.len() % 2 == 1 || !any {
        set_pairs(call)?;
    }
    call.reply.integer(i64::from(!any));
    Ok(())
}

/// All of the pairs or, if one of them is too large, none.
fn set_pairs(call: &mut Call<'_>) -> Outcome {
    let (pairs, rest) = call.args.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_arity(call.command));
    }
    for [key, value] in pairs {
        call.store.check_size(key, value.len())?;
    }
    for [key, value] in pairs {
        call.store.set(key, value.to_vec(), 0, None)?;
    }
    Ok(())
}

pub fn append(call: &mut Call<'_>) -> Outcome {
    let (key, tail) = (call.arg(0), call.arg(1));
    let new_len = call.store.get(key, call.now).map_or(0, |item| item.value.len()) + tail.len();
    let edited = call.store.edit(key, call.now, new_len, |value| value.extend_from_slice(tail))?;
    if edited.is_none() {
        call.store.set(key, tail.to_vec(), 0, None)?;
    }
    call.reply.integer(new_len as i64);
    Ok(())
}

pub fn strlen(call: &mut Call<'_>) -> Outcome {
    let len = call.store.get(call.arg(0), call.now).map_or(0, |item| item.value.len());
    call.reply.integer(len as i64);
    Ok(())
}

pub fn getrange(call: &mut Call<'_>) -> Outcome {
    let (start, end) = (integer(call.arg(1))?, integer(call.arg(2))?);
    let value = call.store.get(call.arg(0), call.now).map_or([].as_slice(), |item| item.value.as_slice());
    call.reply.bulk(range(value, start, end));
    Ok(())
}

/// The bytes from `start` to `end`, both inclusive, counted from the end where negative.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_front = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    if start > end {
        return &[];
    }
    value.get(start as usize..=end as usize).unwrap_or_default()
}

pub fn setrange(call: &mut Call<'_>) -> Outcome {
    let (key, patch) = (call.arg(0), call.arg(2));
    let offset = integer(call.arg(1))?;
    if offset < 0 {
        return Err("ERR offset is out of range".into());
    }
    let old_len = call.store.get(key, call.now).map(|item| item.value.len());
    if patch.is_empty() {
        call.reply.integer(old_len.unwrap_or(0) as i64);
        return Ok(());
    }
    if offset.saturating_add(patch.len() as i64) > MAX_STRING {
        return Err("ERR string exceeds maximum allowed size (proto-max-bulk-len)".into());
    }
    let (start, end) = (offset as usize, offset as usize + patch.len());
    let new_len = end.max(old_len.unwrap_or(0));
    let write = |value: &mut Vec<u8>| {
        value.resize(new_len, 0);
        if let Some(place) = value.get_mut(start..end) {
            place.copy_from_slice(patch);
        }
    };
    if call.store.edit(key, call.now, new_len, write)?.is_none() {
        let mut value = Vec::new();
        write(&mut value);
        call.store.set(key, value, 0, None)?;
    }
    call.reply.integer(new_len as i64);
    Ok(())
}

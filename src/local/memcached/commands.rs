//! What each command does and answers. Lines are well formed: the parser has refused what is not.

use std::str;

use super::{Counters, MemcachedServer};
use crate::local::store::{Millis, TooLarge};
use crate::protocol::memcached::request::{Request, Span, part};
use crate::protocol::memcached::{Rejection, Verb, replies};

/// Up to this many seconds, an exptime counts from now; more is Unix time.
const MAX_RELATIVE: i64 = 60 * 60 * 24 * 30;

/// A fixed reply, or the refusal of a value that is too large.
type Reply = Result<&'static [u8], TooLarge>;

/// A complete request with the bytes it lies in.
struct Call<'a> {
    request: &'a Request,
    bytes: &'a [u8],
    now: Millis,
}

impl<'a> Call<'a> {
    /// The key of a command that has one.
    fn key(&self) -> &'a [u8] {
        self.request.keys(self.bytes).next().unwrap_or_default()
    }

    fn part(&self, span: Option<Span>) -> &'a [u8] {
        span.map(|span| part(self.bytes, span)).unwrap_or_default()
    }

    fn number<T: str::FromStr>(&self, span: Option<Span>) -> Option<T> {
        str::from_utf8(self.part(span)).ok()?.parse().ok()
    }

    /// When the exptime ends: 0 never, negative at once, small ones count from now, large ones are Unix seconds.
    fn expires_at(&self) -> Option<Millis> {
        match self.number(self.request.exptime).unwrap_or(0_i64) {
            0 => None,
            seconds if seconds < 0 => Some(self.now),
            seconds if seconds <= MAX_RELATIVE => Some(self.now.saturating_add(seconds * 1000)),
            seconds => Some(seconds.saturating_mul(1000)),
        }
    }
}

impl MemcachedServer {
    /// Runs one complete request, which lies at the front of `bytes`, and answers it unless it asks for silence.
    pub(super) fn execute(&mut self, request: &Request, bytes: &[u8], output: &mut Vec<u8>, now: Millis) {
        let call = Call { request, bytes, now };
        let start = output.len();
        let reply = match request.verb {
            Verb::Get | Verb::Gets => self.get(&call, false, output),
            Verb::Gat | Verb::Gats => self.get(&call, true, output),
            Verb::Set | Verb::Add | Verb::Replace | Verb::Cas => self.store(&call),
            Verb::Append | Verb::Prepend => self.extend(&call),
            Verb::Incr => self.count(&call, output, u64::wrapping_add),
            Verb::Decr => self.count(&call, output, u64::saturating_sub),
            Verb::Delete => self.delete(&call),
            Verb::Touch => self.touch(&call),
            Verb::FlushAll => self.flush_all(&call),
            Verb::Verbosity => match call.number::<u32>(request.number) {
                Some(_) => Ok(replies::OK),
                None => Ok(b"CLIENT_ERROR bad command line format\r\n".as_slice()),
            },
            Verb::Version => {
                replies::write_version(output, env!("CARGO_PKG_VERSION"));
                Ok(b"".as_slice())
            }
            Verb::Stats => self.stats(&call, output),
            // Closes the connection before it comes here.
            Verb::Quit => Ok(b"".as_slice()),
        };
        match reply {
            Ok(line) => output.extend_from_slice(line),
            Err(TooLarge) => Rejection::TooLarge.write(output),
        }
        if request.noreply {
            output.truncate(start);
        }
    }

    /// get, gets, gat, gats; `touch`: each key that is there gets a new exptime.
    fn get(&mut self, call: &Call<'_>, touch: bool, output: &mut Vec<u8>) -> Reply {
        let with_cas = matches!(call.request.verb, Verb::Gets | Verb::Gats);
        let start = output.len();
        for key in call.request.keys(call.bytes) {
            self.counters.gets += 1;
            let Some(item) = self.store.get(key, call.now) else { continue };
            self.counters.hits += 1;
            replies::write_value(output, key, item.flags, &item.value, with_cas.then_some(item.cas));
            if touch {
                self.store.set_expiry(key, call.now, call.expires_at());
            }
            // Only repeated keys can ask for more than the store holds.
            if (output.len() - start) as u64 > self.store.capacity() {
                output.truncate(start);
                return Ok(b"SERVER_ERROR out of memory writing get response\r\n");
            }
        }
        Ok(replies::END)
    }

    /// set, add, replace, cas.
    fn store(&mut self, call: &Call<'_>) -> Reply {
        self.counters.sets += 1;
        let (key, data) = (call.key(), call.part(call.request.data));
        let old_cas = self.store.get(key, call.now).map(|item| item.cas);
        match (call.request.verb, old_cas) {
            (Verb::Add, Some(_)) | (Verb::Replace, None) => return Ok(replies::NOT_STORED),
            (Verb::Cas, None) => return Ok(replies::NOT_FOUND),
            (Verb::Cas, Some(cas)) if call.number(call.request.number) != Some(cas) => return Ok(replies::EXISTS),
            _ => {}
        }
        let flags = call.number(call.request.flags).unwrap_or(0);
        if let Err(error) = self.store.set(key, data.to_vec(), flags, call.expires_at()) {
            // As memcached: what was to be replaced and could not be is stale now.
            self.store.remove(key, call.now);
            return Err(error);
        }
        self.counters.stored += 1;
        Ok(replies::STORED)
    }

    /// append, prepend: flags and exptime stay what they are.
    fn extend(&mut self, call: &Call<'_>) -> Reply {
        self.counters.sets += 1;
        let (key, data) = (call.key(), call.part(call.request.data));
        let Some(old) = self.store.get(key, call.now) else { return Ok(replies::NOT_STORED) };
        let len = old.value.len() + data.len();
        let at = if call.request.verb == Verb::Append { old.value.len() } else { 0 };
        self.store.edit(key, call.now, len, |value| drop(value.splice(at..at, data.iter().copied())))?;
        self.counters.stored += 1;
        Ok(replies::STORED)
    }

    fn count(&mut self, call: &Call<'_>, output: &mut Vec<u8>, change: impl Fn(u64, u64) -> u64) -> Reply {
        let Some(delta) = call.number(call.request.number) else { return Ok(replies::INVALID_DELTA) };
        let Some(item) = self.store.get(call.key(), call.now) else { return Ok(replies::NOT_FOUND) };
        let Some(old) = counter(&item.value) else { return Ok(replies::NON_NUMERIC) };
        let new = change(old, delta);
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(new).as_bytes();
        // A shorter number is padded: a value does not shrink.
        let len = item.value.len().max(text.len());
        self.store.edit(call.key(), call.now, len, |value| {
            value.clear();
            value.extend_from_slice(text);
            value.resize(len, b' ');
        })?;
        replies::write_number(output, new);
        Ok(b"")
    }

    fn delete(&mut self, call: &Call<'_>) -> Reply {
        let removed = self.store.remove(call.key(), call.now);
        Ok(if removed.is_some() { replies::DELETED } else { replies::NOT_FOUND })
    }

    fn touch(&mut self, call: &Call<'_>) -> Reply {
        if call.number::<i64>(call.request.exptime).is_none() {
            return Ok(b"CLIENT_ERROR invalid exptime argument\r\n");
        }
        let touched = self.store.set_expiry(call.key(), call.now, call.expires_at());
        Ok(if touched.is_some() { replies::TOUCHED } else { replies::NOT_FOUND })
    }

    /// At once or after a delay, which is read as an exptime is; the last flush_all counts.
    fn flush_all(&mut self, call: &Call<'_>) -> Reply {
        self.counters.flushes += 1;
        self.flush_at = call.expires_at().filter(|at| *at > call.now);
        if self.flush_at.is_none() {
            self.store.clear();
        }
        Ok(replies::OK)
    }

    fn stats(&mut self, call: &Call<'_>, output: &mut Vec<u8>) -> Reply {
        match call.bytes.get(..call.request.line_end as usize).unwrap_or_default().trim_ascii() {
            b"stats" => {}
            b"stats reset" => {
                self.counters = Counters::default();
                return Ok(replies::RESET);
            }
            _ => {
                return Ok(b"CLIENT_ERROR of 'stats' only 'stats reset' takes a word in Outrigger's in-process \
                            servers; point the pool at a real memcached\r\n");
            }
        }
        self.store.purge(call.now);
        let counters = &self.counters;
        replies::write_stat(output, "version", env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            ("pid", u64::from(std::process::id())),
            ("time", call.now.unsigned_abs() / 1000),
            ("pointer_size", u64::from(usize::BITS)),
            ("threads", 1),
            ("cmd_get", counters.gets),
            ("cmd_set", counters.sets),
            ("cmd_flush", counters.flushes),
            ("get_hits", counters.hits),
            ("get_misses", counters.gets - counters.hits),
            ("limit_maxbytes", self.store.capacity()),
            ("bytes", self.store.weight()),
            ("curr_items", self.store.len() as u64),
            ("total_items", counters.stored),
            ("evictions", self.store.evictions()),
        ] {
            replies::write_stat(output, name, value);
        }
        Ok(replies::END)
    }
}

/// A stored value as `strtoull` reads it: white space, a sign, digits; then the end, or white space and anything.
fn counter(value: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let start = value.iter().position(|byte| !is_space(byte))?;
    let number = value.get(start..)?.split(is_space).next()?;
    let number = str::from_utf8(number).ok()?;
    match number.strip_prefix('-') {
        // Of negative numbers only zero is one here.
        Some(digits) => digits.parse().ok().filter(|n| *n == 0 && digits.starts_with('0')),
        None => number.parse().ok(),
    }
}

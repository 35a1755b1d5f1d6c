//! Finds the end of one reply of a server, and checks that it is of the shape that the request gets.
//!
//! A reply of another shape means that replies and requests are out of step: the connection must be closed.

use memchr::memchr;
use thiserror::Error;

use super::request::MAX_KEY_BYTES;
use crate::protocol::{Limits, Parsed};

const END: &[u8] = b"END\r\n";
const CRLF: &[u8] = b"\r\n";

/// The shape of the reply that a verb gets; in every place an error line may stand instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// `VALUE key flags bytes` and a data block, any number of times, then `END`.
    Values,
    /// The same with a `cas` unique behind the length.
    ValuesUnique,
    /// `STORED` or `NOT_STORED`.
    Stored,
    /// `cas`: also `EXISTS` or `NOT_FOUND`.
    StoredUnique,
    /// A number or `NOT_FOUND`.
    Number,
    /// `DELETED` or `NOT_FOUND`.
    Deleted,
    /// `TOUCHED` or `NOT_FOUND`.
    Touched,
    /// `OK`.
    Ok,
    /// `VERSION ...`.
    Version,
    /// `STAT name value` and the like, any number of times, then `END`; or `RESET` or `OK`.
    Stats,
    /// No reply: the server closes the connection.
    Nothing,
}

/// Why bytes of a server are no reply to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScanError {
    /// Not one of the replies that the request can get.
    #[error("the server sent a reply of another kind than {0:?}")]
    Unexpected(Expect),
    /// A `VALUE` line is malformed.
    #[error("the server sent a malformed VALUE line")]
    ValueLine,
    /// A data block does not end with CR LF.
    #[error("the server sent a data block that is longer than it said")]
    DataBlock,
    /// A line ends with LF alone.
    #[error("the server sent a line without CR at its end")]
    LineEnd,
    /// A line does not end within its limit.
    #[error("the server sent a line of more than {limit} bytes")]
    LineTooLong {
        /// In bytes.
        limit: usize,
    },
    /// The reply is larger than its limit.
    #[error("the server sent a reply of more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

impl Expect {
    /// Values come back, and replies of several servers can be merged.
    pub fn is_values(self) -> bool {
        matches!(self, Expect::Values | Expect::ValuesUnique)
    }
}

/// The length of the whole reply at the front of `buf`, once it is all there.
#[inline]
pub fn scan(buf: &[u8], expect: Expect, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    match expect {
        Expect::Values | Expect::ValuesUnique => scan_values(buf, expect, limits),
        Expect::Stored if buf.starts_with(b"STORED\r\n") => Ok(Parsed::Complete(b"STORED\r\n".len())),
        Expect::Stats => scan_stats(buf, limits),
        Expect::Nothing if buf.is_empty() => Ok(Parsed::Complete(0)),
        Expect::Nothing => Err(ScanError::Unexpected(expect)),
        _ => scan_line(buf, expect, limits),
    }
}

fn scan_line(buf: &[u8], expect: Expect, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    match next_line(buf, 0, limits)? {
        None => incomplete(buf, buf.len() + 1, limits),
        Some((line, end)) if is_reply(line, expect) || is_error(line) => Ok(Parsed::Complete(end)),
        Some(_) => Err(ScanError::Unexpected(expect)),
    }
}

fn is_reply(line: &[u8], expect: Expect) -> bool {
    match expect {
        Expect::Stored => matches!(line, b"STORED" | b"NOT_STORED"),
        Expect::StoredUnique => matches!(line, b"STORED" | b"EXISTS" | b"NOT_FOUND" | b"NOT_STORED"),
        Expect::Number => line == b"NOT_FOUND" || is_number(line, 20),
        Expect::Deleted => matches!(line, b"DELETED" | b"NOT_FOUND"),
        Expect::Touched => matches!(line, b"TOUCHED" | b"NOT_FOUND"),
        Expect::Ok => line == b"OK",
        Expect::Version => line.starts_with(b"VERSION "),
        Expect::Values | Expect::ValuesUnique | Expect::Stats | Expect::Nothing => false,
    }
}

fn scan_values(buf: &[u8], expect: Expect, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    let mut at = 0;
    loop {
        let rest = &buf[at..];
        if rest.starts_with(END) {
            return whole(at + END.len(), limits);
        }
        let Some((line, line_end)) = next_line(buf, at, limits)? else {
            return incomplete(buf, at + END.len(), limits);
        };
        if !line.starts_with(b"VALUE ") {
            return if is_error(line) { whole(line_end, limits) } else { Err(ScanError::Unexpected(expect)) };
        }
        let header = Header::parse(line).ok_or(ScanError::ValueLine)?;
        if header.unique != (expect == Expect::ValuesUnique) {
            return Err(ScanError::Unexpected(expect));
        }
        let end = line_end.saturating_add(header.bytes).saturating_add(CRLF.len());
        if end > limits.max_response_bytes {
            return Err(ScanError::TooLarge { limit: limits.max_response_bytes });
        }
        let Some(block) = buf.get(line_end..end) else { return incomplete(buf, end + END.len(), limits) };
        if !block.ends_with(CRLF) {
            return Err(ScanError::DataBlock);
        }
        at = end;
    }
}

fn scan_stats(buf: &[u8], limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    let mut at = 0;
    loop {
        let Some((line, end)) = next_line(buf, at, limits)? else {
            // In place of statistics there may be an `OK`, which is shorter than `END`.
            let shortest = if at == 0 { b"OK\r\n".len() } else { END.len() };
            return incomplete(buf, at + shortest, limits);
        };
        if line == b"END" || is_error(line) || at == 0 && matches!(line, b"RESET" | b"OK") {
            return whole(end, limits);
        }
        if ![&b"STAT "[..], b"ITEM ", b"PREFIX "].iter().any(|word| line.starts_with(word)) {
            return Err(ScanError::Unexpected(Expect::Stats));
        }
        at = end;
    }
}

/// The line at `at` without its end, and the offset behind it; `None` as long as it has no end.
#[inline]
fn next_line<'a>(buf: &'a [u8], at: usize, limits: &Limits) -> Result<Option<(&'a [u8], usize)>, ScanError> {
    let limit = limits.max_line_bytes;
    let rest = &buf[at..];
    let rest = &rest[..rest.len().min(limit)];
    match memchr(b'\n', rest) {
        Some(newline) => match rest[..newline].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, at + newline + 1))),
            None => Err(ScanError::LineEnd),
        },
        None if rest.len() < limit => Ok(None),
        None => Err(ScanError::LineTooLong { limit }),
    }
}

fn whole(end: usize, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    if end > limits.max_response_bytes {
        return Err(ScanError::TooLarge { limit: limits.max_response_bytes });
    }
    Ok(Parsed::Complete(end))
}

fn incomplete(buf: &[u8], need: usize, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    if buf.len() >= limits.max_response_bytes {
        return Err(ScanError::TooLarge { limit: limits.max_response_bytes });
    }
    Ok(Parsed::Incomplete { need: need.max(buf.len() + 1) })
}

/// `ERROR`, `CLIENT_ERROR ...`, `SERVER_ERROR ...`, with or without a text.
fn is_error(line: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
        .iter()
        .any(|word| line.strip_prefix(*word).is_some_and(|rest| matches!(rest.first(), None | Some(b' '))))
}

fn is_number(word: &[u8], most_digits: usize) -> bool {
    (1..=most_digits).contains(&word.len()) && word.iter().all(u8::is_ascii_digit)
}

/// A `VALUE` line taken apart.
struct Header<'a> {
    key: &'a [u8],
    /// Length of the data block without its CR LF.
    bytes: usize,
    /// There is a `cas` unique.
    unique: bool,
}

impl<'a> Header<'a> {
    #[inline]
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_prefix(b"VALUE ")?;
        let (key, line) = split_word(line)?;
        let (flags, line) = split_word(line)?;
        let (bytes, unique) = match memchr(b' ', line) {
            None => (line, None),
            Some(space) => (&line[..space], Some(&line[space + 1..])),
        };
        let sound = (1..=MAX_KEY_BYTES).contains(&key.len())
            && is_number(flags, 10)
            && is_number(bytes, 10)
            && unique.is_none_or(|unique| is_number(unique, 20));
        if !sound {
            return None;
        }
        let bytes = bytes.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(Header { key, bytes: usize::try_from(bytes).ok()?, unique: unique.is_some() })
    }
}

#[inline]
fn split_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr(b' ', line)?;
    Some((&line[..space], &line[space + 1..]))
}

/// One item in the reply to a retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The data block without its CR LF.
    pub data: &'a [u8],
    /// All of it, from `VALUE` to the CR LF of the data block.
    pub whole: &'a [u8],
}

/// The items of a reply that [`scan`] found whole, in their order. What is no item ends the list.
pub fn values(reply: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut rest = reply;
    std::iter::from_fn(move || {
        let (value, behind) = split_value(rest)?;
        rest = behind;
        Some(value)
    })
}

/// Whether a reply that [`scan`] found whole has no items but those that this retrieval asks for, in the order of its keys.
/// If not, replies and requests are out of step. `line` is the request as it was sent, a well formed one.
#[inline]
pub fn is_reply_to(line: &[u8], reply: &[u8]) -> bool {
    !reply.starts_with(b"VALUE ") || is_only_value(line, reply) || are_in_order(line, reply)
}

/// One key, written as nearly every client writes it, and its value: little more than a comparison.
#[inline]
fn is_only_value(line: &[u8], reply: &[u8]) -> bool {
    let after_name = line.strip_prefix(b"get ").or_else(|| line.strip_prefix(b"gets "));
    let Some(key) = after_name.and_then(|rest| rest.strip_suffix(b"\r\n")) else { return false };
    let start = b"VALUE ".len() + key.len();
    if reply.get(b"VALUE ".len()..start) != Some(key) || reply.get(start) != Some(&b' ') || memchr(b' ', key).is_some()
    {
        return false;
    }
    split_value(reply).is_some_and(|(_, behind)| !behind.starts_with(b"VALUE "))
}

fn are_in_order(line: &[u8], reply: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Keys end at blanks only; a CR can be part of one.
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    if matches!(words.next(), Some(b"gat" | b"gats")) {
        words.next();
    }
    values(reply).all(|value| words.any(|key| key == value.key))
}

/// The error line, without its end, in a reply that [`scan`] found whole; it may stand behind some items.
pub fn error_line(reply: &[u8]) -> Option<&[u8]> {
    let mut rest = reply;
    while let Some((_, behind)) = split_value(rest) {
        rest = behind;
    }
    let line = rest[..memchr(b'\n', rest)?].strip_suffix(b"\r")?;
    // Statistics are not looked through: an error stands alone there.
    is_error(line).then_some(line)
}

/// Whether the server may have taken the data block of a storage request for commands, so that more replies than
/// requests can follow: hand on the reply, then close the connection. We send such a request only when it is well formed;
/// a server that calls it malformed, or does not know it, has not read its data block as one.
pub fn leaves_out_of_step(reply: &[u8], expect: Expect) -> bool {
    matches!(expect, Expect::Stored | Expect::StoredUnique)
        && (reply.starts_with(b"ERROR") || reply.starts_with(b"CLIENT_ERROR"))
}

fn split_value(rest: &[u8]) -> Option<(Value<'_>, &[u8])> {
    if !rest.starts_with(b"VALUE ") {
        return None;
    }
    let newline = memchr(b'\n', rest)?;
    let header = Header::parse(rest[..newline].strip_suffix(b"\r")?)?;
    let data_end = (newline + 1).checked_add(header.bytes)?;
    let data = rest.get(newline + 1..data_end)?;
    let whole = rest.get(..data_end.checked_add(CRLF.len())?)?;
    Some((Value { key: header.key, data, whole }, &rest[whole.len()..]))
}

#[cfg(test)]
mod tests;

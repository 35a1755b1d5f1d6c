//! Replies of a server: where one ends, and little else. The proxy forwards their bytes as they are.
//!
//! [`scan`] measures one reply, RESP2 or RESP3, without allocating, recursing or trusting a length. [`Scanner`] does the
//! same in instalments for a reply that arrives in many reads. The few replies that are merged (MGET, DEL) are taken
//! apart by [`elements`] and [`integer`].

use memchr::memchr2;
use thiserror::Error;

use super::number::{Line, decimal, number_line};
use crate::protocol::{Limits, Parsed};

/// The shortest reply or element there is: `+\r\n` or `_\r\n`. In bytes.
const SHORTEST: usize = 3;

/// Deepest nesting that the scanner can follow, whatever `Limits::max_nesting` allows: its stack is an array.
pub const NESTING_CAP: usize = 64;

/// Why the bytes of a server are not a reply. The connection is out of step and must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScanError {
    /// The first byte of a reply or element names no type.
    #[error("reply of unknown type {:?}", char::from(*.0))]
    UnknownType(u8),
    /// `$?`, `*?`, `;` and the like: no server sends them.
    #[error("streamed replies are not supported")]
    Streamed,
    /// The length of a bulk or an aggregate is not a number, or is negative where null does not exist.
    #[error("invalid length in a reply")]
    InvalidLength,
    /// An integer, boolean, double, big number or null that is none.
    #[error("invalid value in a reply")]
    InvalidValue,
    /// A line or a bulk does not end with CRLF.
    #[error("reply without CRLF where one must be")]
    MissingCrlf,
    /// More levels of aggregates than the limit.
    #[error("reply nested too deeply")]
    TooDeep,
    /// The reply is, or announces that it will be, longer than the limit.
    #[error("reply longer than the limit")]
    TooLong,
}

/// Measures the reply at the front of `buf`: its whole length in bytes.
///
/// Attributes (`|`) belong to the reply that they precede and are measured together with it; a push (`>`) is a reply of its
/// own here, and the caller's to tell apart.
#[inline]
pub fn scan(buf: &[u8], limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    match buf.first() {
        Some(b'$' | b'+' | b'-' | b':') => {
            let step = scalar(buf, 0, 0)?;
            conclude(step, 0, limits)
        }
        _ => Scanner::default().resume(buf, limits),
    }
}

/// True for an error reply: `-ERR ...`, or RESP3's `!`.
pub fn is_error(buf: &[u8]) -> bool {
    matches!(buf.first(), Some(b'-' | b'!'))
}

/// The first word of an error reply, which says its kind: `LOADING` of `-LOADING Redis is loading ...`.
pub fn error_word(buf: &[u8]) -> Option<&[u8]> {
    let text = match buf.first()? {
        b'-' => &buf[1..],
        // Its length stands before the text.
        b'!' => &buf[memchr::memchr(b'\n', buf)? + 1..],
        _ => return None,
    };
    text.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).next()
}

/// The value of an integer reply, `:n\r\n`.
pub fn integer(buf: &[u8]) -> Option<i64> {
    let line = buf.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    decimal(line)
}

/// The text of a string reply that is whole, be it a line, a bulk or a verbatim string without its format.
pub fn text(buf: &[u8]) -> Option<&[u8]> {
    let format = match buf.first()? {
        b'+' => return buf[1..].strip_suffix(b"\r\n"),
        b'$' => 0,
        b'=' => 4,
        _ => return None,
    };
    match number_line(buf, 0) {
        Line::Number { value, end } => {
            buf.get(end..end.checked_add(usize::try_from(value).ok()?)?).and_then(|text| text.get(format..))
        }
        _ => None,
    }
}

/// The elements of an array, a set, a push or a map that [`scan`] has found complete, each as its own bytes; of a map keys
/// and values in turn. Nothing for any other reply.
pub fn elements(buf: &[u8]) -> Elements<'_> {
    let none = Elements { rest: &[], left: 0 };
    let each = match buf.first() {
        Some(b'*' | b'~' | b'>') => 1,
        Some(b'%') => 2,
        _ => return none,
    };
    match number_line(buf, 0) {
        Line::Number { value, end } => {
            Elements { rest: &buf[end..], left: usize::try_from(value).unwrap_or(0).saturating_mul(each) }
        }
        _ => none,
    }
}

/// The replies of a transaction that was sent in one piece, all of them whole: that of EXEC, where it begins, and the first
/// error among those before.
pub fn of_transaction(replies: &[u8]) -> (usize, Option<&[u8]>) {
    let (mut last, mut error) = (&replies[..0], None);
    for reply in (Elements { rest: replies, left: usize::MAX }) {
        error = error.or(Some(last).filter(|reply| is_error(reply)));
        last = reply;
    }
    (replies.len() - last.len(), error)
}

/// Iterator of [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Elements<'a> {
    /// The bytes of all that have not been taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many elements the header announces that have not been taken yet.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        /// The reply as a whole was measured under the real limits.
        const MEASURED: Limits = Limits {
            max_request_bytes: usize::MAX,
            max_response_bytes: usize::MAX,
            max_key_bytes: usize::MAX,
            max_arguments: usize::MAX,
            max_line_bytes: usize::MAX,
            max_nesting: usize::MAX,
        };
        if self.left == 0 {
            return None;
        }
        let Ok(Parsed::Complete(length)) = scan(self.rest, &MEASURED) else {
            self.left = 0;
            return None;
        };
        let (element, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.left -= 1;
        Some(element)
    }
}

/// Measures one reply in instalments, looking at each element once however many reads it takes.
///
/// Invariant between calls: `pos` is the start of an element that is not whole yet; `left[..depth]` counts the elements that
/// each open aggregate still lacks, the one being read included.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// Start of the next element, from the start of the reply.
    pos: usize,
    /// Up to here the line at `pos` holds no line end.
    searched: usize,
    /// Open aggregates.
    depth: usize,
    /// Elements that the whole reply still lacks; those of an open aggregate count, it itself does not.
    pending: usize,
    left: [usize; NESTING_CAP],
}

impl Default for Scanner {
    fn default() -> Self {
        Self { pos: 0, searched: 0, depth: 0, pending: 1, left: [0; NESTING_CAP] }
    }
}

impl Scanner {
    /// Continues with `buf`, which holds the same reply from its first byte on, and more of it than last time.
    /// After `Complete` or an error the scanner is spent: start the next reply with a new one.
    pub fn resume(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed<usize>, ScanError> {
        loop {
            let Some(&kind) = buf.get(self.pos) else {
                return conclude(Step::Need(self.pos + SHORTEST), self.pending - 1, limits);
            };
            if is_aggregate(kind) {
                match number(buf, self.pos)? {
                    Ok((value, end)) => self.open(kind, value, end, limits)?,
                    Err(need) => return conclude(Step::Need(need), self.pending - 1, limits),
                }
            } else {
                match scalar(buf, self.pos, self.searched)? {
                    Step::End(end) => {
                        self.pos = end;
                        self.finish_element();
                    }
                    need => {
                        // Only a line end can still be missing; a CR at the very end is looked at again.
                        self.searched = buf.len() - 1;
                        return conclude(need, self.pending - 1, limits);
                    }
                }
            }
            if self.pending == 0 {
                return conclude(Step::End(self.pos), 0, limits);
            }
            // What is announced already must fit; also keeps `pending` far from overflow.
            if self.pending > limits.max_response_bytes / SHORTEST {
                return Err(ScanError::TooLong);
            }
        }
    }

    /// Enters the aggregate whose header ends at `end`.
    fn open(&mut self, kind: u8, value: i64, end: usize, limits: &Limits) -> Result<(), ScanError> {
        self.pos = end;
        if value == -1 && kind == b'*' {
            self.finish_element();
            return Ok(());
        }
        let count = usize::try_from(value).map_err(|_| ScanError::InvalidLength)?;
        let elements = match kind {
            b'%' => count.checked_mul(2),
            // The reply that the attributes belong to follows, and is the element that was expected here.
            b'|' => count.checked_mul(2).and_then(|pairs| pairs.checked_add(1)),
            _ => Some(count),
        };
        let elements = elements.ok_or(ScanError::TooLong)?;
        if elements == 0 {
            self.finish_element();
            return Ok(());
        }
        if self.depth >= limits.max_nesting.min(NESTING_CAP) {
            return Err(ScanError::TooDeep);
        }
        self.pending = self.pending.checked_add(elements - 1).ok_or(ScanError::TooLong)?;
        self.left[self.depth] = elements;
        self.depth += 1;
        Ok(())
    }

    /// Counts one whole element, and closes the aggregates of which it was the last.
    fn finish_element(&mut self) {
        self.pending -= 1;
        while self.depth > 0 {
            self.left[self.depth - 1] -= 1;
            if self.left[self.depth - 1] > 0 {
                return;
            }
            self.depth -= 1;
        }
    }
}

/// What became of one element.
enum Step {
    /// Whole; the position after it.
    End(usize),
    /// Not whole; the least length of the buffer that could make it so.
    Need(usize),
}

/// Turns the outcome of an element into that of the reply, of which `after` more elements are still to come.
#[inline]
fn conclude(step: Step, after: usize, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    let (length, parsed) = match step {
        Step::End(end) => (end, Parsed::Complete(end)),
        Step::Need(need) => {
            let need = after.checked_mul(SHORTEST).and_then(|rest| rest.checked_add(need)).ok_or(ScanError::TooLong)?;
            (need, Parsed::Incomplete { need })
        }
    };
    if length > limits.max_response_bytes { Err(ScanError::TooLong) } else { Ok(parsed) }
}

fn is_aggregate(kind: u8) -> bool {
    matches!(kind, b'*' | b'%' | b'~' | b'>' | b'|')
}

/// Measures the element at `pos`, which is no aggregate. No line end lies in `pos..searched`.
#[inline]
fn scalar(buf: &[u8], pos: usize, searched: usize) -> Result<Step, ScanError> {
    match buf[pos] {
        b'$' => bulk(buf, pos),
        b'+' | b'-' => line(buf, searched.max(pos + 1)),
        b':' => Ok(match number(buf, pos)? {
            Ok((_, end)) => Step::End(end),
            Err(need) => Step::Need(need),
        }),
        b'!' | b'=' => bulk(buf, pos),
        b'_' => fixed(buf, pos, |value| value.is_empty(), 0),
        b'#' => fixed(buf, pos, |value| matches!(value, b"t" | b"f"), 1),
        b',' => checked_line(buf, pos, searched, is_double),
        b'(' => checked_line(buf, pos, searched, is_big_number),
        b';' | b'.' => Err(ScanError::Streamed),
        kind => Err(ScanError::UnknownType(kind)),
    }
}

/// A line of any text, from its first byte that has not been searched yet.
#[inline]
fn line(buf: &[u8], from: usize) -> Result<Step, ScanError> {
    let Some(at) = buf.get(from..).and_then(|rest| memchr2(b'\r', b'\n', rest)).map(|at| from + at) else {
        return Ok(Step::Need(buf.len() + 2));
    };
    match (buf[at], buf.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(Step::End(at + 2)),
        (b'\r', None) => Ok(Step::Need(at + 2)),
        _ => Err(ScanError::MissingCrlf),
    }
}

/// A line whose text must satisfy `valid`.
fn checked_line(buf: &[u8], pos: usize, searched: usize, valid: fn(&[u8]) -> bool) -> Result<Step, ScanError> {
    let step = line(buf, searched.max(pos + 1))?;
    match step {
        Step::End(end) if !valid(&buf[pos + 1..end - 2]) => Err(ScanError::InvalidValue),
        step => Ok(step),
    }
}

/// A line whose text has exactly `length` bytes and satisfies `valid`.
fn fixed(buf: &[u8], pos: usize, valid: fn(&[u8]) -> bool, length: usize) -> Result<Step, ScanError> {
    let end = pos + 1 + length + 2;
    let Some(element) = buf.get(pos + 1..end) else { return Ok(Step::Need(end)) };
    if !element.ends_with(b"\r\n") {
        return Err(ScanError::MissingCrlf);
    }
    if valid(&element[..length]) { Ok(Step::End(end)) } else { Err(ScanError::InvalidValue) }
}

/// `$`, `!` or `=`, a length, a line end, as many bytes, a line end.
#[inline]
fn bulk(buf: &[u8], pos: usize) -> Result<Step, ScanError> {
    let (value, start) = match number(buf, pos)? {
        Ok(header) => header,
        Err(need) => return Ok(Step::Need(need)),
    };
    let Ok(length) = usize::try_from(value) else {
        let null = value == -1 && buf[pos] == b'$';
        return if null { Ok(Step::End(start)) } else { Err(ScanError::InvalidLength) };
    };
    // A verbatim string starts with its format, as in `txt:`.
    if buf[pos] == b'=' && length < 4 {
        return Err(ScanError::InvalidLength);
    }
    let end = start.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(ScanError::TooLong)?;
    match buf.get(end - 2..end) {
        Some(b"\r\n") => Ok(Step::End(end)),
        Some(_) => Err(ScanError::MissingCrlf),
        // A wrong byte after the payload is found as soon as it is there.
        None if buf.get(end - 2).is_some_and(|&byte| byte != b'\r') => Err(ScanError::MissingCrlf),
        None => Ok(Step::Need(end)),
    }
}

/// The number and the end of the line at `pos`, or how long the buffer must be to tell.
#[inline]
fn number(buf: &[u8], pos: usize) -> Result<Result<(i64, usize), usize>, ScanError> {
    match number_line(buf, pos) {
        Line::Number { value, end } => Ok(Ok((value, end))),
        Line::Need(need) => Ok(Err(need)),
        Line::MissingLf => Err(ScanError::MissingCrlf),
        Line::Invalid if buf[pos] == b':' => Err(ScanError::InvalidValue),
        Line::Invalid if buf.get(pos + 1) == Some(&b'?') => Err(ScanError::Streamed),
        Line::Invalid => Err(ScanError::InvalidLength),
    }
}

fn is_double(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;

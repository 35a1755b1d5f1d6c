//! Requests of a client: arrays of bulk strings, or inline commands as one types them into netcat.
//!
//! [`parse`] finds one request and the places of its arguments; nothing is copied, except for an inline command, which
//! is rewritten as an array since servers must never see two spellings. Every length that a header announces is held
//! against the limits at once, before its bytes arrive.

use thiserror::Error;

use super::inline;
use super::number::{Line, is_canonical, number_line};
use super::reply::write_command;
use crate::protocol::{Limits, Parsed};

/// The shortest argument there is: `$0\r\n\r\n`. In bytes.
const SHORTEST_ARGUMENT: usize = 6;

/// Redis's own bound on the length of one argument (`proto-max-bulk-len`). In bytes.
const MAX_BULK: i64 = 512 * 1024 * 1024;

/// Redis's own bound on the number of arguments.
const MAX_MULTIBULK: i64 = i32::MAX as i64;

/// Why the bytes of a client are not a request. What follows them cannot be understood: answer and close.
/// The text is what goes after `-ERR `; Redis's own where Redis would refuse too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// `*` without a number of arguments.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// `$` without the length of an argument.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// Something else than a `$` where an argument must start.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedDollar(u8),
    /// A header or an argument does not end with CRLF.
    #[error("Protocol error: expected CRLF")]
    ExpectedCrlf,
    /// An inline command without a line end within the limit.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// An inline command with a quote that nothing closes, or that something follows.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More arguments than the limit, which is given.
    #[error("Protocol error: too many arguments, the limit is {0}")]
    TooManyArguments(usize),
    /// A request longer than the limit, which is given, or one that announces to be.
    #[error("Protocol error: request too large, the limit is {0} bytes")]
    TooLarge(usize),
    /// `POST` or `Host:`: a web browser was made to talk to this port.
    #[error("Protocol error: this is not an HTTP server")]
    CrossProtocol,
}

/// A byte as it can stand in an error line.
fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        b'\r' | b'\n' => ' ',
        _ => '?',
    }
}

/// The arguments of one request, its name first, as places in the buffer it was parsed from. Owned by the caller and
/// used again for request after request.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// Start and end of each, in `rewritten` if that holds the request, else in the buffer.
    ranges: Vec<(u32, u32)>,
    /// An inline command as an array.
    rewritten: Vec<u8>,
    inline: bool,
    /// Length of the request in the buffer.
    consumed: usize,
}

impl Arguments {
    /// Room for arguments; none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of arguments, the name included. 0 for an empty request, which has no reply.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True for an empty request.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if the request was an inline command.
    #[inline]
    pub fn is_inline(&self) -> bool {
        self.inline
    }

    /// Argument `index`, 0 being the name; `buf` as it was given to [`parse`].
    #[inline]
    pub fn get<'a>(&'a self, buf: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.ranges.get(index)?;
        let source = if self.inline { &self.rewritten } else { buf };
        source.get(start as usize..end as usize)
    }

    /// The bytes to forward: the request as it came, or the array form of an inline command.
    #[inline]
    pub fn frame<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        if self.inline { &self.rewritten } else { buf.get(..self.consumed).unwrap_or(buf) }
    }

    /// All arguments in order.
    pub fn iter<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(move |index| self.get(buf, index))
    }

    /// Gives back what an unusually large request made it hold.
    pub fn shrink(&mut self) {
        const KEPT: usize = 4096;
        self.ranges.shrink_to(KEPT);
        self.rewritten.shrink_to(KEPT);
    }
}

/// Parses the request at the front of `buf` into `args`; returns its length there, in bytes.
///
/// `*0\r\n`, an empty line and the like are complete requests without arguments, to be skipped. After an incomplete
/// request or an error `args` means nothing.
#[inline]
pub fn parse(buf: &[u8], limits: &Limits, args: &mut Arguments) -> Result<Parsed<usize>, RequestError> {
    args.ranges.clear();
    args.inline = false;
    let parsed = match buf.first() {
        Some(b'*') => parse_array(buf, limits, args)?,
        Some(_) => parse_inline(buf, limits, args)?,
        None => Parsed::Incomplete { need: 1 },
    };
    if let Parsed::Complete(consumed) = parsed {
        args.consumed = consumed;
    }
    Ok(parsed)
}

/// Positions are kept in 32 bits.
fn max_bytes(limits: &Limits) -> usize {
    limits.max_request_bytes.min(u32::MAX as usize)
}

fn parse_array(buf: &[u8], limits: &Limits, args: &mut Arguments) -> Result<Parsed<usize>, RequestError> {
    let (count, mut pos) = match number_line(buf, 0) {
        Line::Number { value, end } if is_canonical(&buf[1..end - 2]) => (value, end),
        Line::Need(need) => return Ok(Parsed::Incomplete { need }),
        Line::MissingLf => return Err(RequestError::ExpectedCrlf),
        _ => return Err(RequestError::InvalidMultibulkLength),
    };
    if count > MAX_MULTIBULK {
        return Err(RequestError::InvalidMultibulkLength);
    }
    // Redis takes any negative number for an empty request.
    let count = usize::try_from(count).unwrap_or(0);
    if count > limits.max_arguments {
        return Err(RequestError::TooManyArguments(limits.max_arguments));
    }
    let max_bytes = max_bytes(limits);
    for after in (0..count).rev() {
        let (start, end) = match argument(buf, pos)? {
            Ok(place) => place,
            Err(need) => return announced(need, after, max_bytes),
        };
        if end > max_bytes {
            return Err(RequestError::TooLarge(max_bytes));
        }
        // Both fit: `max_bytes` does.
        args.ranges.push((start as u32, end as u32));
        pos = end + 2;
    }
    if pos > max_bytes {
        return Err(RequestError::TooLarge(max_bytes));
    }
    Ok(Parsed::Complete(pos))
}

/// An incomplete request that must reach `need` bytes for the argument at hand, after which `after` more follow.
fn announced(need: usize, after: usize, max_bytes: usize) -> Result<Parsed<usize>, RequestError> {
    let need = after.checked_mul(SHORTEST_ARGUMENT).and_then(|rest| rest.checked_add(need));
    match need {
        Some(need) if need <= max_bytes => Ok(Parsed::Incomplete { need }),
        _ => Err(RequestError::TooLarge(max_bytes)),
    }
}

/// The start and end of the argument whose header is at `pos`, or the length that the buffer must reach for it.
#[inline]
fn argument(buf: &[u8], pos: usize) -> Result<Result<(usize, usize), usize>, RequestError> {
    match buf.get(pos) {
        Some(b'$') => {}
        Some(&other) => return Err(RequestError::ExpectedDollar(other)),
        None => return Ok(Err(pos + SHORTEST_ARGUMENT)),
    }
    let (length, start) = match number_line(buf, pos) {
        Line::Number { value, end } if is_canonical(&buf[pos + 1..end - 2]) => (value, end),
        Line::Need(need) => return Ok(Err(need.max(pos + SHORTEST_ARGUMENT))),
        Line::MissingLf => return Err(RequestError::ExpectedCrlf),
        _ => return Err(RequestError::InvalidBulkLength),
    };
    if !(0..=MAX_BULK).contains(&length) {
        return Err(RequestError::InvalidBulkLength);
    }
    let end = start + length as usize;
    match buf.get(end..end + 2) {
        Some(b"\r\n") => Ok(Ok((start, end))),
        Some(_) => Err(RequestError::ExpectedCrlf),
        None if buf.get(end).is_some_and(|&byte| byte != b'\r') => Err(RequestError::ExpectedCrlf),
        None => Ok(Err(end + 2)),
    }
}

fn parse_inline(buf: &[u8], limits: &Limits, args: &mut Arguments) -> Result<Parsed<usize>, RequestError> {
    let longest = limits.max_line_bytes.min(max_bytes(limits));
    let window = &buf[..buf.len().min(longest)];
    let Some(newline) = memchr::memchr(b'\n', window) else {
        // One byte may be all that is missing: a bare LF ends the line too.
        let too_big = buf.len() >= longest;
        return if too_big { Err(RequestError::TooBigInline) } else { Ok(Parsed::Incomplete { need: buf.len() + 1 }) };
    };
    let line = &buf[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = inline::split(line).ok_or(RequestError::UnbalancedQuotes)?;
    if words.len() > limits.max_arguments {
        return Err(RequestError::TooManyArguments(limits.max_arguments));
    }
    if words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")) {
        return Err(RequestError::CrossProtocol);
    }
    args.inline = true;
    args.rewritten.clear();
    write_command(&mut args.rewritten, &words);
    let mut end = header_length(words.len());
    for word in &words {
        let start = end + header_length(word.len());
        end = start + word.len();
        let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(end)) else {
            return Err(RequestError::TooLarge(max_bytes(limits)));
        };
        args.ranges.push((from, to));
        end += 2;
    }
    Ok(Parsed::Complete(newline + 1))
}

/// Length of a header line such as `*3\r\n`.
fn header_length(number: usize) -> usize {
    3 + number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests;

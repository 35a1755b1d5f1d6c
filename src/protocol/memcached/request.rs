//! Finds one request at the front of a buffer: its line, its keys, its data block. Copies nothing.
//!
//! ```text
//!   set  user:7 0 -1 5 noreply \r\n hello\r\n
//!        keys[0] │ │ │ └ noreply_range, with the space before it
//!          flags ┘ │ └ the length of `data`
//!          exptime ┘            line_end at the \r, line_len after the \n, `len` after the data block
//! ```
//! Invariant of a complete request: every range lies in `0..len`, and `len` equals `consumed`.

use memchr::memchr;

use super::commands::{self, Command, Layout, Verb};
use super::number;
use super::replies::Rejection;
use crate::protocol::Limits;

/// Start and end of a part of a request, as offsets into the buffer that starts with it.
pub type Span = (u32, u32);

/// Longest key that memcached takes, in bytes.
pub const MAX_KEY_BYTES: usize = 250;

/// Longest line that is taken whatever the limits say, in bytes. A line is looked through again at every read until its
/// end is there, so the cost of one grows with its square.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Most key ranges whose memory is kept from one request to the next.
const KEPT_KEYS: usize = 4096;

/// Most words looked at on a line other than a list of keys: one more than any command takes.
const MAX_WORDS: usize = 7;

/// One request, as ranges into the buffer it was found in. Owned by the caller and used again for the next one, so that
/// parsing does not allocate once it is warm.
#[derive(Debug, Clone)]
pub struct Request {
    /// The command.
    pub verb: Verb,
    /// The keys in the order of the request; one for every verb that has a key but the retrievals.
    pub keys: Vec<Span>,
    /// The client wants no answer, not even a refusal.
    pub noreply: bool,
    /// The word `noreply` with the space before it: what a forwarded request leaves out.
    pub noreply_range: Option<Span>,
    /// Offset of the CR or LF that ends the command line.
    pub line_end: u32,
    /// Length of the command line with its end, in bytes.
    pub line_len: u32,
    /// Storage: the flags.
    pub flags: Option<Span>,
    /// Storage, `gat`, `gats`, `touch`: the expiry time. `flush_all`: the delay, if there is one.
    pub exptime: Option<Span>,
    /// `cas`: the unique. `incr`, `decr`: the delta, not looked at. `verbosity`: the level, not looked at.
    pub number: Option<Span>,
    /// Storage: the data block without its CR LF.
    pub data: Option<Span>,
    /// Length of the whole request, in bytes.
    pub len: u32,
}

/// What [`parse`] found at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole, well formed request; the scratch describes it.
    Complete {
        /// Its length, in bytes.
        consumed: usize,
    },
    /// Not a whole request yet.
    Incomplete {
        /// The least total length that the buffer must reach before another try can succeed; more than it holds now.
        need: usize,
    },
    /// Refused, and the stream goes on behind it: answer `reply` in order unless the scratch says `noreply`, discard
    /// `consumed` bytes of the buffer and then the next `skip` bytes of the stream.
    Rejected {
        /// Bytes of the buffer that belong to it.
        consumed: usize,
        /// Bytes that belong to it and have not come yet: the buffer is exhausted unless this is 0.
        skip: u64,
        /// The answer.
        reply: Rejection,
    },
    /// Nobody knows where the next request starts: answer `reply`, then close.
    Fatal {
        /// The answer.
        reply: Rejection,
    },
}

impl Default for Request {
    fn default() -> Self {
        Self {
            verb: Verb::Get,
            keys: Vec::new(),
            noreply: false,
            noreply_range: None,
            line_end: 0,
            line_len: 0,
            flags: None,
            exptime: None,
            number: None,
            data: None,
            len: 0,
        }
    }
}

impl Request {
    /// The bytes to forward: those before and those behind the word `noreply`. The proxy always asks for a reply and
    /// drops it, so that no reply can be taken for another's. `buf` is the buffer that was parsed.
    pub fn forward_parts<'a>(&self, buf: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match self.noreply_range {
            None => (part(buf, (0, self.len)), &[]),
            Some((start, end)) => (part(buf, (0, start)), part(buf, (end, self.len))),
        }
    }

    /// The keys themselves.
    pub fn keys<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.keys.iter().map(|&key| part(buf, key))
    }

    /// Appends what the fragment of a retrieval starts with: `get`, or `gat 60`, with this expiry time or the client's. A
    /// space and a key follow, for each of its keys, then CR LF.
    pub fn write_fragment_start(&self, buf: &[u8], exptime: Option<i64>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb.name().as_bytes());
        if let Some(own) = self.exptime {
            out.push(b' ');
            match exptime {
                Some(exptime) => out.extend_from_slice(itoa::Buffer::new().format(exptime).as_bytes()),
                None => out.extend_from_slice(part(buf, own)),
            }
        }
    }

    fn clear(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        if keys.capacity() > KEPT_KEYS {
            keys.shrink_to(KEPT_KEYS);
        }
        *self = Self { keys, ..Self::default() };
    }
}

/// The bytes of a range; empty if it does not lie in the buffer (it is not the one that was parsed).
pub fn part(buf: &[u8], (start, end): Span) -> &[u8] {
    buf.get(start as usize..end as usize).unwrap_or_default()
}

/// Looks for one request at the front of `buf` and describes it in `request`, whose former content is lost. When it is
/// rejected only `noreply` and, where the command is known, `verb` mean something.
pub fn parse(buf: &[u8], limits: &Limits, request: &mut Request) -> Outcome {
    const BINARY_REQUEST: u8 = 0x80;
    request.clear();
    if buf.first() == Some(&BINARY_REQUEST) {
        return Outcome::Fatal { reply: Rejection::Binary };
    }
    let newline = match find_newline(buf, limits) {
        Ok(newline) => newline,
        Err(outcome) => return outcome,
    };
    let end = if newline > 0 && buf[newline - 1] == b'\r' { newline - 1 } else { newline };
    request.line_end = end as u32;
    request.line_len = newline as u32 + 1;
    request.len = request.line_len;
    let mut words = Words::new(&buf[..end]);
    let name = words.next().map_or(&[][..], |name| part(buf, name));
    let Some(command) = commands::lookup(name) else { return unknown(name, words, buf, request) };
    request.verb = command.verb;
    let parsed = match command.layout {
        Layout::Keys | Layout::ExptimeKeys => retrieval(command, words, buf, limits, request),
        _ => with_fields(command, words, buf, limits, request),
    };
    parsed.unwrap_or_else(|reply| refuse_line(request, reply))
}

/// The offset of the LF that ends the line. Lists of keys may be as long as a request, other lines are short.
fn find_newline(buf: &[u8], limits: &Limits) -> Result<usize, Outcome> {
    let limit = limits.max_line_bytes.min(MAX_LINE_BYTES);
    let head = &buf[..buf.len().min(limit)];
    if let Some(newline) = memchr(b'\n', head) {
        return Ok(newline);
    }
    // Judged by the head alone, or it would depend on how much has come.
    let limit = if head.len() < limit || !starts_retrieval(head) {
        limit
    } else {
        limit.max(limits.max_request_bytes.min(MAX_LINE_BYTES))
    };
    let tail = &buf[head.len()..buf.len().min(limit).max(head.len())];
    match memchr(b'\n', tail) {
        Some(newline) => Ok(head.len() + newline),
        None if buf.len() < limit => Err(Outcome::Incomplete { need: buf.len() + 1 }),
        None => Err(Outcome::Fatal { reply: Rejection::LineTooLong }),
    }
}

fn starts_retrieval(head: &[u8]) -> bool {
    let blanks = head.iter().take_while(|&&byte| byte == b' ').count();
    let line = &head[blanks..];
    [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|name| line.starts_with(name))
}

/// Unknown and meta commands. Of a meta set the data block goes with the line, as in memcached.
fn unknown(name: &[u8], words: Words<'_>, buf: &[u8], request: &Request) -> Outcome {
    if !matches!(name, [b'm', b'g' | b's' | b'd' | b'n' | b'e' | b'a']) {
        return refuse_line(request, Rejection::Error);
    }
    if name == b"ms"
        && let (fields, 2.., _) = words.fields()
        && (fields[0].1 - fields[0].0) as usize <= MAX_KEY_BYTES
        && let Some((length, _)) = number::length(part(buf, fields[1])).value()
    {
        return refuse(buf, u64::from(request.line_len) + u64::from(length) + 2, Rejection::Meta);
    }
    refuse_line(request, Rejection::Meta)
}

fn retrieval(
    command: &Command,
    mut words: Words<'_>,
    buf: &[u8],
    limits: &Limits,
    request: &mut Request,
) -> Result<Outcome, Rejection> {
    let mut odd = false;
    if command.layout == Layout::ExptimeKeys {
        let exptime = words.next().ok_or(Rejection::Error)?;
        odd = number::exptime(part(buf, exptime)).value().ok_or(Rejection::InvalidExptime)?.1;
        request.exptime = Some(exptime);
    }
    let longest = longest_key(limits);
    for key in words.by_ref() {
        if (key.1 - key.0) as usize > longest {
            return Err(Rejection::BadFormat);
        }
        if request.keys.len() + 1 >= limits.max_arguments {
            return Err(Rejection::TooManyKeys);
        }
        request.keys.push(key);
    }
    if request.keys.is_empty() {
        return Err(Rejection::Error);
    }
    Ok(complete(request, odd || words.cut))
}

/// Every command but the retrievals: a handful of words, the last of which may be `noreply`.
fn with_fields(
    command: &Command,
    words: Words<'_>,
    buf: &[u8],
    limits: &Limits,
    request: &mut Request,
) -> Result<Outcome, Rejection> {
    let (fields, count, cut) = words.fields();
    let (fewest, most) = command.layout.words();
    if !(fewest..=most).contains(&count) {
        return Err(Rejection::Error);
    }
    let fields = &fields[..count.min(MAX_WORDS)];
    if let (Some(fewest), Some(&last)) = (command.layout.noreply_from(), fields.last())
        && count >= fewest
        && part(buf, last) == b"noreply"
    {
        request.noreply = true;
        // A space stands before every word but the first of the line.
        request.noreply_range = Some((last.0 - 1, last.1));
    }
    match (command.layout, fields) {
        (Layout::Store, &[key, flags, exptime, length, ..]) => {
            storage(key, [flags, exptime, length], None, cut, buf, limits, request)
        }
        (Layout::StoreUnique, &[key, flags, exptime, length, unique, ..]) => {
            storage(key, [flags, exptime, length], Some(unique), cut, buf, limits, request)
        }
        // It stands where the number must: without it the request would not be one.
        (Layout::KeyNumber, [_, _]) | (Layout::Level, [_]) if request.noreply => Err(Rejection::BadFormat),
        (Layout::KeyNumber, &[key, number, ..]) => {
            push_key(key, limits, request)?;
            *(if command.verb == Verb::Touch { &mut request.exptime } else { &mut request.number }) = Some(number);
            Ok(complete(request, cut))
        }
        (Layout::Delete, &[key, ref rest @ ..]) => {
            check_delete(rest, buf, request)?;
            push_key(key, limits, request)?;
            Ok(complete(request, cut))
        }
        (Layout::Flush, fields) => {
            let mut odd = false;
            // What `noreply` leaves; a second word is not looked at, as in memcached.
            if count != usize::from(request.noreply)
                && let Some(&delay) = fields.first()
            {
                odd = number::exptime(part(buf, delay)).value().ok_or(Rejection::InvalidExptime)?.1;
                request.exptime = Some(delay);
            }
            Ok(complete(request, odd || cut))
        }
        (Layout::Level, &[level, ..]) => {
            request.number = Some(level);
            Ok(complete(request, cut))
        }
        _ => Ok(complete(request, cut)),
    }
}

/// All of this must be valid, or the server would not read the data block as one.
fn storage(
    key: Span,
    [flags, exptime, length]: [Span; 3],
    unique: Option<Span>,
    cut: bool,
    buf: &[u8],
    limits: &Limits,
    request: &mut Request,
) -> Result<Outcome, Rejection> {
    push_key(key, limits, request)?;
    let (_, odd_flags) = number::flags(part(buf, flags)).value().ok_or(Rejection::BadFormat)?;
    let (_, odd_exptime) = number::exptime(part(buf, exptime)).value().ok_or(Rejection::BadFormat)?;
    let (bytes, odd_length) = number::length(part(buf, length)).value().ok_or(Rejection::BadFormat)?;
    let odd_unique = match unique {
        Some(unique) => number::unique(part(buf, unique)).value().ok_or(Rejection::BadFormat)?.1,
        None => false,
    };
    // At most a line and 2 GiB: fits.
    let len = request.line_len + bytes + 2;
    if len as usize > limits.max_request_bytes {
        return Ok(refuse(buf, u64::from(len), Rejection::TooLarge));
    }
    let Some(whole) = buf.get(..len as usize) else { return Ok(Outcome::Incomplete { need: len as usize }) };
    if !whole.ends_with(b"\r\n") {
        return Ok(refuse(buf, u64::from(len), Rejection::BadDataChunk));
    }
    request.flags = Some(flags);
    request.exptime = Some(exptime);
    request.number = unique;
    request.data = Some((request.line_len, len - 2));
    request.len = len;
    Ok(complete(request, cut || odd_flags || odd_exptime || odd_length || odd_unique))
}

/// `delete key`, `delete key 0`, `delete key noreply`, `delete key 0 noreply`; of more words memcached looks at the ends.
fn check_delete(rest: &[Span], buf: &[u8], request: &Request) -> Result<(), Rejection> {
    let zero = rest.first().is_some_and(|&word| part(buf, word) == b"0");
    let valid = match rest.len() {
        0 => true,
        1 => zero || request.noreply,
        _ => zero && request.noreply,
    };
    if valid { Ok(()) } else { Err(Rejection::DeleteUsage) }
}

fn longest_key(limits: &Limits) -> usize {
    limits.max_key_bytes.min(MAX_KEY_BYTES)
}

fn push_key(key: Span, limits: &Limits, request: &mut Request) -> Result<(), Rejection> {
    if (key.1 - key.0) as usize > longest_key(limits) {
        return Err(Rejection::BadFormat);
    }
    request.keys.push(key);
    Ok(())
}

/// The request as it stands; an odd one is taken off the stream as memcached would, and refused.
fn complete(request: &Request, odd: bool) -> Outcome {
    let consumed = request.len as usize;
    if odd {
        Outcome::Rejected { consumed, skip: 0, reply: Rejection::BadFormat }
    } else {
        Outcome::Complete { consumed }
    }
}

fn refuse_line(request: &Request, reply: Rejection) -> Outcome {
    Outcome::Rejected { consumed: request.line_len as usize, skip: 0, reply }
}

/// Refuses a request of `len` bytes, whether they have all come or not.
fn refuse(buf: &[u8], len: u64, reply: Rejection) -> Outcome {
    let consumed = (buf.len() as u64).min(len);
    Outcome::Rejected { consumed: consumed as usize, skip: len - consumed, reply }
}

/// The words of a line: what stands between spaces. The line ends at a NUL, since for memcached it does.
struct Words<'a> {
    line: &'a [u8],
    at: usize,
    /// A NUL was met. Known for the whole line only when there are no more words.
    cut: bool,
}

impl<'a> Words<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0, cut: false }
    }

    /// The first words, how many there are in all, and whether a NUL ends them.
    fn fields(mut self) -> ([Span; MAX_WORDS], usize, bool) {
        let mut fields = [(0, 0); MAX_WORDS];
        let mut count = 0;
        for word in self.by_ref() {
            if let Some(field) = fields.get_mut(count) {
                *field = word;
            }
            count += 1;
        }
        (fields, count, self.cut)
    }
}

impl Iterator for Words<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        while self.line.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        let start = self.at;
        while let Some(&byte) = self.line.get(self.at) {
            if byte <= b' ' {
                if byte == b' ' {
                    break;
                }
                if byte == 0 {
                    self.cut = true;
                    self.line = &self.line[..self.at];
                    break;
                }
            }
            self.at += 1;
        }
        (self.at > start).then_some((start as u32, self.at as u32))
    }
}

#[cfg(test)]
mod tests;

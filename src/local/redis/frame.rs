//! Redis requests: finds the end of a flat `*N` of bulk strings, then hands exactly those bytes to `redis-protocol`.
//!
//! Its decoder recurses into nested arrays without a bound and believes announced lengths, so it never sees anything
//! that [`Framer`] has not measured. A request over the limit is skipped without being kept, and answered: the
//! connection is shared by many clients, so it must survive one client's oversized value.

use bytes::{Buf, BytesMut};
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

/// Longest header line (`*` or `$`, an integer, CRLF), in bytes.
const MAX_HEADER: usize = 32;

/// What the front of the input is.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed {
    /// Not a whole request yet.
    Incomplete,
    /// A whole request of this many bytes.
    Complete(usize),
    /// A request over the limit has been skipped to its end.
    Oversized,
}

/// The stream is not requests (any more): the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("Protocol error: expected '*' and '$' only")]
    NotFlat,
    #[error("Protocol error: invalid multibulk length")]
    ArgumentCount,
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    #[error("Protocol error: too big header line")]
    HeaderLine,
}

/// Measures one request after another; resumes where it stopped, so no byte is looked at twice.
pub struct Framer {
    /// Whole requests over this many bytes are skipped.
    max_bytes: usize,
    max_arguments: usize,
    /// How much of the request is understood, in bytes from its start; beyond the input while a bulk is awaited.
    scanned: usize,
    /// Arguments still to come; `None` before the `*N` line.
    left: Option<usize>,
    /// The front of this request has been thrown away.
    skipping: bool,
}

impl Framer {
    pub fn new(max_bytes: usize, max_arguments: usize) -> Self {
        Self { max_bytes, max_arguments, scanned: 0, left: None, skipping: false }
    }

    /// Measures the request at the front of `input`; takes bytes from it only where a request is skipped.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Framed, FrameError> {
        loop {
            if self.skipping || self.scanned > self.max_bytes {
                self.skipping = true;
                let gone = self.scanned.min(input.len());
                input.advance(gone);
                self.scanned -= gone;
            }
            if self.scanned > input.len() {
                return Ok(Framed::Incomplete);
            }
            if self.left == Some(0) {
                return Ok(self.finish());
            }
            let rest = input.get(self.scanned..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest.get(..rest.len().min(MAX_HEADER)).unwrap_or_default()) else {
                return if rest.len() < MAX_HEADER { Ok(Framed::Incomplete) } else { Err(FrameError::HeaderLine) };
            };
            let line = rest.get(..end).unwrap_or_default();
            self.read_header(line, end + 1)?;
        }
    }

    fn read_header(&mut self, line: &[u8], line_len: usize) -> Result<(), FrameError> {
        let digits = line.strip_suffix(b"\r").and_then(|l| l.get(1..)).unwrap_or_default();
        let number: Option<i64> = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
        self.scanned += line_len;
        match (line.first(), self.left) {
            (Some(b'*'), None) => {
                // As Redis: a count of zero or less is an empty request.
                let count = number.ok_or(FrameError::ArgumentCount)?;
                let count = usize::try_from(count).unwrap_or(0);
                if count > self.max_arguments {
                    return Err(FrameError::ArgumentCount);
                }
                self.left = Some(count);
            }
            (Some(b'$'), Some(left)) => {
                let len = number.and_then(|n| usize::try_from(n).ok()).ok_or(FrameError::BulkLength)?;
                self.scanned = self.scanned.checked_add(len + 2).ok_or(FrameError::BulkLength)?;
                self.left = Some(left - 1);
            }
            _ => return Err(FrameError::NotFlat),
        }
        Ok(())
    }

    fn finish(&mut self) -> Framed {
        let framed = if self.skipping { Framed::Oversized } else { Framed::Complete(self.scanned) };
        *self = Self::new(self.max_bytes, self.max_arguments);
        framed
    }
}

/// The arguments of one request that [`Framer`] has measured.
pub fn arguments(request: &[u8]) -> Result<Vec<&[u8]>, FrameError> {
    let Ok(Some((RangeFrame::Array(frames), _))) = decode_range(request) else {
        // `*-1` decodes as null: an empty request.
        return Ok(Vec::new());
    };
    frames
        .iter()
        .map(|frame| match frame {
            RangeFrame::BulkString((start, end)) => request.get(*start..*end).ok_or(FrameError::BulkLength),
            _ => Err(FrameError::NotFlat),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces one after another; what came out, with the arguments joined by spaces.
    fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, FrameError> {
        let mut framer = Framer::new(100, 10);
        let mut input = BytesMut::new();
        let mut out = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match framer.next(&mut input)? {
                    Framed::Incomplete => break,
                    Framed::Oversized => out.push("oversized".to_owned()),
                    Framed::Complete(len) => {
                        let request = input.split_to(len);
                        let arguments = arguments(&request)?;
                        out.push(arguments.iter().map(|a| a.escape_ascii().to_string()).collect::<Vec<_>>().join(" "));
                    }
                }
            }
        }
        Ok(out)
    }

    const STREAM: &[u8] =
        b"*1\r\n$4\r\nPING\r\n*0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\na\r\n*\r\n\r\n*-1\r\n*1\r\n$0\r\n\r\n";

    #[test]
    fn pipelined_requests_come_out_whole_or_split_at_every_byte() {
        let expected = ["PING", "", "SET k a\\r\\n*\\r\\n", "", ""];
        assert_eq!(feed([STREAM]).unwrap(), expected);
        for split in 0..=STREAM.len() {
            let (a, b) = STREAM.split_at(split);
            assert_eq!(feed([a, b]).unwrap(), expected, "split at {split}");
        }
        assert_eq!(feed(STREAM.chunks(1)).unwrap(), expected);
    }

    #[test]
    fn a_request_over_the_limit_is_skipped_and_the_next_one_is_found() {
        let large = [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200\r\n".as_slice(), &[b'*'; 200], b"\r\n", STREAM].concat();
        let many = [b"*9\r\n".as_slice(), &b"$20\r\n01234567890123456789\r\n".repeat(9), STREAM].concat();
        let expected = ["oversized", "PING", "", "SET k a\\r\\n*\\r\\n", "", ""];
        for stream in [large, many] {
            assert_eq!(feed([stream.as_slice()]).unwrap(), expected);
            assert_eq!(feed(stream.chunks(1)).unwrap(), expected);
            assert_eq!(feed(stream.chunks(7)).unwrap(), expected);
        }
    }

    #[test]
    fn a_skipped_request_is_not_kept() {
        let mut framer = Framer::new(100, 10);
        let mut input = BytesMut::from(b"*2\r\n$3\r\nGET\r\n$1000000\r\n".as_slice());
        for _ in 0..900 {
            input.extend_from_slice(&[0; 1000]);
            assert_eq!(framer.next(&mut input), Ok(Framed::Incomplete));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn what_is_not_a_flat_array_is_refused_before_the_decoder_sees_it() {
        let nested = b"*1\r\n".repeat(2000);
        let cases: [(&[u8], FrameError); 9] = [
            (&nested, FrameError::NotFlat),
            (b"PING\r\n", FrameError::NotFlat),
            (b"*1\r\n:1\r\n", FrameError::NotFlat),
            (b"*11\r\n", FrameError::ArgumentCount),
            (b"*x\r\n", FrameError::ArgumentCount),
            (b"*1\n", FrameError::ArgumentCount),
            (b"*1\r\n$-1\r\n", FrameError::BulkLength),
            (b"*1\r\n$99999999999999999999\r\n", FrameError::BulkLength),
            (b"*000000000000000000000000000000000000001\r\n", FrameError::HeaderLine),
        ];
        for (bytes, error) in cases {
            assert_eq!(feed([bytes]), Err(error), "{}", bytes[..bytes.len().min(40)].escape_ascii());
        }
    }

    #[test]
    fn lengths_near_the_end_of_the_number_range_do_not_overflow() {
        for bulk in [i64::MAX, i64::MAX - 40] {
            let stream = format!("*3\r\n$1\r\na\r\n${bulk}\r\n");
            assert_eq!(feed([stream.as_bytes()]).unwrap(), Vec::<String>::new());
        }
    }
}

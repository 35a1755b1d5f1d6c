//! Finds the end of the next reply, however many reads it takes to come.

use super::{Expect, Reason};
use crate::protocol::redis::response::Scanner;
use crate::protocol::{Limits, Parsed, memcached, redis};

/// Measures one reply after the other.
#[derive(Debug, Default)]
pub struct Measure {
    /// How far the Redis reply at hand has been looked through; `None` before its second look. A large array is not
    /// looked through from its start at every read.
    partial: Option<Scanner>,
    /// Of a transaction: how many replies were found whole, and where the next one begins.
    found: (u32, usize),
}

impl Measure {
    /// The length of the reply at the front of `bytes`. When it is not whole, the next call must bring the same bytes and
    /// more.
    #[inline]
    pub fn reply(&mut self, bytes: &[u8], expect: Expect, limits: &Limits) -> Result<Parsed<usize>, Reason> {
        match expect {
            // A push answers nothing, so it must not take the place of a reply: [`Measure::push`] is for those of RESP3, and
            // no RESP2 server sends one.
            Expect::Resp if bytes.first() == Some(&b'>') => Err(Reason::Protocol("a RESP3 push".into())),
            Expect::Resp => self.resp(bytes, limits).map_err(|e| Reason::Protocol(e.to_string())),
            Expect::Transaction(before) => self.transaction(bytes, before, limits),
            Expect::Memcached(expect) => {
                memcached::response::scan(bytes, expect, limits).map_err(|e| Reason::Protocol(e.to_string()))
            }
        }
    }

    /// As [`Measure::reply`] for Redis, where pushes are welcome as well.
    pub fn reply_or_push(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed<usize>, Reason> {
        self.resp(bytes, limits).map_err(|e| Reason::Protocol(e.to_string()))
    }

    fn transaction(&mut self, bytes: &[u8], before: u32, limits: &Limits) -> Result<Parsed<usize>, Reason> {
        loop {
            let (whole, start) = self.found;
            match self.reply_or_push(&bytes[start..], limits)? {
                Parsed::Incomplete { need } => return Ok(Parsed::Incomplete { need: start + need }),
                Parsed::Complete(length) if whole == before && bytes[start] != b'>' => {
                    self.found = (0, 0);
                    return Ok(Parsed::Complete(start + length));
                }
                // A push among them answers nothing.
                Parsed::Complete(length) => {
                    self.found = (whole + u32::from(bytes[start] != b'>'), start + length);
                }
            }
        }
    }

    #[inline(always)]
    fn resp(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed<usize>, redis::response::ScanError> {
        let Some(scanner) = &mut self.partial else {
            let parsed = redis::response::scan(bytes, limits)?;
            if let Parsed::Incomplete { .. } = parsed {
                self.partial = Some(Scanner::default());
            }
            return Ok(parsed);
        };
        let parsed = scanner.resume(bytes, limits)?;
        if let Parsed::Complete(_) = parsed {
            self.partial = None;
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_measured_whole_and_in_instalments() {
        let limits = Limits::default();
        let stream = b"*2\r\n$3\r\nabc\r\n*1\r\n:7\r\n+OK\r\n$-1\r\n*3\r\n+a\r\n-b\r\n$10\r\n0123456789\r\n:1\r\n";
        let lengths = [21, 5, 5, 29, 4];
        for step in 1..stream.len() {
            let (mut measure, mut start, mut found) = (Measure::default(), 0, Vec::new());
            for end in (0..stream.len()).step_by(step).chain([stream.len()]) {
                while start < end {
                    match measure.reply(&stream[start..end], Expect::Resp, &limits) {
                        Ok(Parsed::Complete(length)) => found.push(length),
                        Ok(Parsed::Incomplete { need }) => {
                            assert!(need > end - start);
                            break;
                        }
                        Err(reason) => panic!("{reason}"),
                    }
                    start += found.last().copied().unwrap_or_default();
                }
            }
            assert_eq!(found, lengths, "in steps of {step}");
        }
    }

    #[test]
    fn a_transaction_is_one_reply_however_it_comes() {
        let limits = Limits::default();
        let begin = b"+OK\r\n+QUEUED\r\n>2\r\n+a\r\n:1\r\n-ERR no\r\n";
        for end in [&b"*2\r\n+OK\r\n$1\r\nx\r\n"[..], b"-EXECABORT\r\n", b"*-1\r\n", b">1\r\n+a\r\n_\r\n"] {
            let whole = [begin, end].concat();
            let stream = [&whole[..], b":7\r\n", &whole[..]].concat();
            for step in 1..stream.len() {
                let (mut measure, mut start, mut found) = (Measure::default(), 0, Vec::new());
                for upto in (0..stream.len()).step_by(step).chain([stream.len()]) {
                    while start < upto {
                        let expect = if found.len() == 1 { Expect::Resp } else { Expect::Transaction(3) };
                        match measure.reply(&stream[start..upto], expect, &limits) {
                            Ok(Parsed::Complete(length)) => found.push(length),
                            Ok(Parsed::Incomplete { need }) => {
                                assert!(need > upto - start);
                                break;
                            }
                            Err(reason) => panic!("{reason}"),
                        }
                        start += found.last().copied().unwrap_or_default();
                    }
                }
                assert_eq!(found, [whole.len(), 4, whole.len()], "in steps of {step}");
            }
        }
    }

    #[test]
    fn a_large_array_is_looked_through_once() {
        let limits = Limits::default();
        let elements = 200_000;
        let reply =
            [format!("*{elements}\r\n").into_bytes(), b"$20\r\n01234567890123456789\r\n".repeat(elements)].concat();
        let started = std::time::Instant::now();
        let mut measure = Measure::default();
        for end in (1..reply.len()).step_by(1000) {
            let parsed = measure.reply(&reply[..end], Expect::Resp, &limits);
            assert!(matches!(parsed, Ok(Parsed::Incomplete { .. })));
        }
        assert_eq!(measure.reply(&reply, Expect::Resp, &limits), Ok(Parsed::Complete(reply.len())));
        // From the start at each of the 5,400 reads it takes half a minute.
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }
}

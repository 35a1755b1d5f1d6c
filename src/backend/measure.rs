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
            Expect::Memcached(expect) => {
                memcached::response::scan(bytes, expect, limits).map_err(|e| Reason::Protocol(e.to_string()))
            }
        }
    }

    /// As [`Measure::reply`] for Redis, where pushes are welcome as well.
    pub fn reply_or_push(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed<usize>, Reason> {
        self.resp(bytes, limits).map_err(|e| Reason::Protocol(e.to_string()))
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

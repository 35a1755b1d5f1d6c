//! Caps how long a stand-in pool keeps an item: writes the request with another expiry time than the client's.

use super::Verb;
use super::number;
use super::request::{Request, part};

/// memcached takes larger expiry times for Unix times, smaller ones for seconds from now on. In seconds.
const LONGEST_RELATIVE: i64 = 30 * 24 * 60 * 60;

/// The longest lifetime of an item, and what is needed to hold an expiry time against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// In seconds; 0 counts as 1, since for memcached it would mean for ever.
    pub seconds: i64,
    /// Unix time, in seconds.
    pub now: i64,
}

impl Cap {
    /// The expiry time to send in place of this one. A negative one, or a time that has passed, stays: the item is to be
    /// gone at once.
    pub fn exptime(self, exptime: i64) -> i64 {
        let longest = self.seconds.max(1);
        let lifetime = match exptime {
            ..0 => return exptime,
            0 => longest,
            1..=LONGEST_RELATIVE => exptime.min(longest),
            _ if exptime <= self.now => return exptime,
            _ => exptime.saturating_sub(self.now).min(longest),
        };
        if lifetime <= LONGEST_RELATIVE { lifetime } else { self.now.saturating_add(lifetime) }
    }
}

impl Request {
    /// The expiry time to send in place of the request's own; `None` for a request that has none (`flush_all` has a delay).
    /// `buf` is the buffer that was parsed.
    pub fn capped_exptime(&self, buf: &[u8], cap: Cap) -> Option<i64> {
        let exptime = self.exptime.filter(|_| self.verb != Verb::FlushAll)?;
        let (exptime, _) = number::exptime(part(buf, exptime)).value()?;
        Some(cap.exptime(exptime))
    }

    /// Appends the whole request, without `noreply`, with this expiry time in place of its own.
    pub fn write_with_exptime(&self, buf: &[u8], exptime: i64, out: &mut Vec<u8>) {
        if self.verb.is_retrieval() {
            // Written anew, so that the blanks of a line at its limit do not carry it over that.
            self.write_fragment_start(buf, Some(exptime), out);
            for key in self.keys(buf) {
                out.push(b' ');
                out.extend_from_slice(key);
            }
            return out.extend_from_slice(b"\r\n");
        }
        let (before, after) = self.forward_parts(buf);
        let Some((start, end)) = self.exptime else { return };
        // It stands before `noreply`, if that is there.
        out.extend_from_slice(before.get(..start as usize).unwrap_or_default());
        out.extend_from_slice(itoa::Buffer::new().format(exptime).as_bytes());
        out.extend_from_slice(before.get(end as usize..).unwrap_or_default());
        out.extend_from_slice(after);
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Outcome, parse};
    use super::*;
    use crate::protocol::Limits;

    const NOW: i64 = 1_700_000_000;
    const DAY: i64 = 24 * 60 * 60;

    fn cap(seconds: i64) -> Cap {
        Cap { seconds, now: NOW }
    }

    #[test]
    fn an_item_lives_no_longer_than_the_cap() {
        for (exptime, capped) in [
            (0, 60),
            (10, 10),
            (60, 60),
            (61, 60),
            (30 * DAY, 60),
            (NOW + 10, 10),
            (NOW + 60, 60),
            (NOW + 1000, 60),
            (i64::MAX, 60),
        ] {
            assert_eq!(cap(60).exptime(exptime), capped, "{exptime}");
        }
    }

    #[test]
    fn what_is_to_be_gone_at_once_stays_so() {
        for exptime in [-1, i64::MIN, NOW, NOW - 1, 30 * DAY + 1] {
            assert_eq!(cap(60).exptime(exptime), exptime);
        }
    }

    #[test]
    fn a_cap_that_memcached_would_take_for_a_date_becomes_one() {
        assert_eq!(cap(30 * DAY).exptime(0), 30 * DAY);
        assert_eq!(cap(31 * DAY).exptime(0), NOW + 31 * DAY);
        assert_eq!(cap(31 * DAY).exptime(30 * DAY), 30 * DAY);
        assert_eq!(cap(31 * DAY).exptime(NOW + 100 * DAY), NOW + 31 * DAY);
        // None would be for ever.
        assert_eq!(cap(0).exptime(0), 1);
        assert_eq!(cap(-5).exptime(9), 1);
    }

    /// What is sent for a request, capped to 60 s.
    fn sent(line: &str) -> Option<String> {
        let mut request = Request::default();
        let buf = format!("{line}get next\r\n").into_bytes();
        let outcome = parse(&buf, &Limits::default(), &mut request);
        assert_eq!(outcome, Outcome::Complete { consumed: line.len() }, "{line:?}");
        let exptime = request.capped_exptime(&buf, cap(60))?;
        let mut out = Vec::new();
        request.write_with_exptime(&buf, exptime, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn requests_are_written_with_the_capped_time_and_nothing_else_changed() {
        for (line, expected) in [
            ("set k 1 0 5\r\nhello\r\n", "set k 1 60 5\r\nhello\r\n"),
            ("set  k 1  900 5 \r\nhello\r\n", "set  k 1  60 5 \r\nhello\r\n"),
            ("add 0 0 0 1 noreply\r\n0\r\n", "add 0 0 60 1\r\n0\r\n"),
            ("replace k 0 -1 1\r\nx\r\n", "replace k 0 -1 1\r\nx\r\n"),
            ("cas k 0 30 1 7 noreply\r\nx\r\n", "cas k 0 30 1 7\r\nx\r\n"),
            ("touch k 100\r\n", "touch k 60\r\n"),
            ("touch k 0 noreply\r\n", "touch k 60\r\n"),
            ("gat 0 k\r\n", "gat 60 k\r\n"),
            ("gats  1800000000  a   b \r\n", "gats 60 a b\r\n"),
        ] {
            assert_eq!(sent(line).as_deref(), Some(expected));
        }
        for line in ["get k\r\n", "incr k 5\r\n", "delete k\r\n", "flush_all 900\r\n"] {
            assert_eq!(sent(line), None);
        }
        // They have an expiry time on their line, but memcached does not look at it.
        assert_eq!(sent("append k 0 0 1\r\nx\r\n").as_deref(), Some("append k 0 60 1\r\nx\r\n"));
    }
}

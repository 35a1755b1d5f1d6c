//! What a request asks for, told from a copy of it that may lack its end.

use std::cell::Cell;

use super::commands::learnt::last_learnt;
use super::commands::{self, Resolved};
use super::number::{Line, number_line};

/// The name of the command, and each of its keys that can be seen, to `visit`: as much of the key as there is, and its
/// length. Of a transaction in one piece EXEC, and the keys of its requests.
pub(in crate::protocol) fn glimpse<'a>(
    request: &'a [u8],
    mut visit: impl FnMut(&'a [u8], usize),
) -> Option<&'static str> {
    let Some(mut rest) = request.strip_prefix(b"*1\r\n$5\r\nMULTI\r\n") else {
        return Some(glimpse_one(request, &mut visit)?.0);
    };
    while let Some((_, end)) = glimpse_one(rest, &mut visit) {
        rest = rest.get(end..).unwrap_or_default();
    }
    Some("exec")
}

/// Of one request; and where the next one begins.
fn glimpse_one<'a>(request: &'a [u8], visit: &mut impl FnMut(&'a [u8], usize)) -> Option<(&'static str, usize)> {
    let cut = Cut::of(request)?;
    let whole = |index| cut.argument(index).filter(|(known, length)| known.len() == *length).map(|(known, _)| known);
    let command = match commands::resolve(cut.count, whole) {
        Resolved::Command(command) => command,
        Resolved::Unknown => match commands::resolve_within(last_learnt(whole(0)?)?, cut.count, whole) {
            Resolved::Command(command) => command,
            _ => return None,
        },
        _ => return None,
    };
    let mut see = |index| {
        if let Some((known, length)) = cut.argument(index) {
            visit(known, length);
        }
    };
    match command.first_key_only() {
        Some(index) => see(index),
        // A request that could not be sent on with these keys was not; what is not there cannot be seen.
        None => drop(command.visit_keys(cut.count, whole, |index, _| see(index))),
    }
    Some((command.name, cut.end_of_request()))
}

/// The arguments of a request that may be cut off anywhere. Made for looking at one after the other.
struct Cut<'a> {
    request: &'a [u8],
    /// Arguments that the whole request has.
    count: usize,
    /// Where the first one is.
    first: usize,
    /// An argument, and where it is.
    at: Cell<(usize, usize)>,
    /// From this one on there is nothing.
    end: Cell<usize>,
}

impl<'a> Cut<'a> {
    fn of(request: &'a [u8]) -> Option<Self> {
        request.first()?;
        let Line::Number { value, end: first } = number_line(request, 0) else { return None };
        let count = usize::try_from(value).ok()?;
        Some(Self { request, count, first, at: Cell::new((0, first)), end: Cell::new(count) })
    }

    /// What is there of an argument, and its length.
    fn argument(&self, index: usize) -> Option<(&'a [u8], usize)> {
        if index >= self.end.get() {
            return None;
        }
        if index < self.at.get().0 {
            self.at.set((0, self.first));
        }
        loop {
            let (at, start) = self.at.get();
            let Some((content, length)) = self.header(start) else {
                self.end.set(at);
                return None;
            };
            if at == index {
                let rest = &self.request[content..];
                return Some((&rest[..length.min(rest.len())], length));
            }
            self.at.set((at + 1, content.saturating_add(length).saturating_add(2)));
        }
    }

    /// Where the request ends, or would end.
    fn end_of_request(&self) -> usize {
        match self.argument(self.count.saturating_sub(1)) {
            Some(_) => {
                let (_, start) = self.at.get();
                self.header(start)
                    .map_or(usize::MAX, |(content, length)| content.saturating_add(length).saturating_add(2))
            }
            None => usize::MAX,
        }
    }

    /// Where the content of the argument begins whose header is here, and its length.
    fn header(&self, start: usize) -> Option<(usize, usize)> {
        if self.request.get(start) != Some(&b'$') {
            return None;
        }
        let Line::Number { value, end } = number_line(self.request, start) else { return None };
        Some((end, usize::try_from(value).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::redis::reply::write_command;

    fn request(words: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let mut request = Vec::new();
        write_command(&mut request, &words);
        request
    }

    fn seen(request: &[u8]) -> (Option<&'static str>, Vec<(String, usize)>) {
        let mut keys = Vec::new();
        let command =
            glimpse(request, |known, length| keys.push((String::from_utf8_lossy(known).into_owned(), length)));
        (command, keys)
    }

    #[test]
    fn commands_and_their_keys_are_seen() {
        for (words, command, keys) in [
            ("GET a", "get", "a"),
            ("set key value EX 10", "set", "key"),
            ("MGET a b c", "mget", "a b c"),
            ("MSET a 1 b 2", "mset", "a b"),
            ("eval return 2 a b c", "eval", "a b"),
            ("XREAD COUNT 2 STREAMS a b 0 0", "xread", "a b"),
            ("XINFO STREAM a", "xinfo|stream", "a"),
            ("SORT a BY w STORE b", "sort", "a b"),
            ("SINTERSTORE c a b", "sinterstore", "c a b"),
            ("PUBLISH channel text", "publish", ""),
        ] {
            let (found, seen) = seen(&request(words));
            let seen: Vec<String> = seen.into_iter().map(|(key, _)| key).collect();
            assert_eq!((found, seen.join(" ")), (Some(command), keys.to_owned()), "{words}");
        }
    }

    #[test]
    fn of_a_request_that_is_cut_anywhere_there_is_never_another_key() {
        let whole = request("MSET first 1 second 2 third 3");
        for cut in 0..whole.len() {
            let (command, keys) = seen(&whole[..cut]);
            assert!(command.is_none_or(|name| name == "mset"), "{command:?}");
            for ((seen, length), key) in keys.iter().zip(["first", "second", "third"]) {
                assert!(key.starts_with(seen) && *length == key.len(), "{seen:?} of {key} cut at {cut}");
            }
        }
        let (command, keys) = seen(&request("SET abcdefghij v")[..24]);
        assert_eq!((command, keys), (Some("set"), vec![("abcdef".to_owned(), 10)]));
    }

    #[test]
    fn of_a_transaction_the_keys_of_all_its_requests_are_seen() {
        let whole = ["MULTI", "SET first 1", "MGET second third", "PING", "INCR fourth", "EXEC"].map(request).concat();
        for cut in 15..=whole.len() {
            let (command, keys) = seen(&whole[..cut]);
            assert_eq!(command, Some("exec"));
            for ((seen, length), key) in keys.iter().zip(["first", "second", "third", "fourth"]) {
                assert!(key.starts_with(seen) && *length == key.len(), "{seen:?} of {key} cut at {cut}");
            }
            assert!(cut < whole.len() || keys.len() == 4, "{keys:?}");
        }
    }

    #[test]
    fn what_is_no_request_shows_nothing() {
        for bytes in ["", "*", "*1\r\n", "*-1\r\n", "*1\r\n$4\r\nNOPE\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "+OK\r\n"] {
            assert_eq!(seen(bytes.as_bytes()).1, [], "{bytes:?}");
        }
    }

    #[test]
    fn many_announced_arguments_that_are_not_there_take_no_time() {
        let cut = b"*1000000\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1";
        let begun = std::time::Instant::now();
        assert_eq!(seen(cut).1.len(), 2);
        assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
    }
}

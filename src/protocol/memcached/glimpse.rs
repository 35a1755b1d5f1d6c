//! What a request asks for, told from a copy of it that may lack its end.

use super::commands::{self, Layout};

/// The name of the command, and each of its keys that can be seen, to `visit`.
pub(in crate::protocol) fn glimpse<'a>(
    request: &'a [u8],
    mut visit: impl FnMut(&'a [u8], usize),
) -> Option<&'static str> {
    let end = memchr::memchr2(b'\r', b'\n', request).unwrap_or(request.len());
    let mut words = request[..end].split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let command = commands::lookup(words.next()?)?;
    let (skipped, most) = match command.layout {
        Layout::Keys => (0, usize::MAX),
        Layout::ExptimeKeys => (1, usize::MAX),
        Layout::Store | Layout::StoreUnique | Layout::KeyNumber | Layout::Delete => (0, 1),
        Layout::Flush | Layout::Level | Layout::Free => (0, 0),
    };
    words.skip(skipped).take(most).for_each(|key| visit(key, key.len()));
    Some(command.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(request: &str) -> (Option<&'static str>, String) {
        let mut keys = Vec::new();
        let command = glimpse(request.as_bytes(), |key, length| {
            assert_eq!(key.len(), length);
            keys.push(String::from_utf8_lossy(key).into_owned());
        });
        (command, keys.join(" "))
    }

    #[test]
    fn commands_and_their_keys_are_seen() {
        for (request, command, keys) in [
            ("get a\r\n", "get", "a"),
            ("gets  a b  c \r\n", "gets", "a b c"),
            ("gat 10 a b\r\n", "gat", "a b"),
            ("set a 0 0 5\r\nhello\r\n", "set", "a"),
            ("set a 0 0 500\r\nhel", "set", "a"),
            ("cas a 0 0 1 17\r\nx\r\n", "cas", "a"),
            ("delete a\n", "delete", "a"),
            ("touch a 10\r\n", "touch", "a"),
            ("flush_all 10\r\n", "flush_all", ""),
        ] {
            assert_eq!(seen(request), (Some(command), keys.to_owned()), "{request:?}");
        }
    }

    #[test]
    fn what_is_no_request_shows_nothing() {
        for request in ["", "\r\n", " ", "nope a\r\n", "GET a\r\n"] {
            assert_eq!(seen(request), (None, String::new()), "{request:?}");
        }
    }
}

//! What came on a connection that may have subscriptions: replies, confirmations of subscriptions, and messages.

use crate::protocol::redis::response::{elements, integer};

/// What one whole reply or push is, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something that was published.
    Message,
    /// A subscription began or ended: of which family, and how many of it there are now.
    Confirmation(Family, u64),
    /// Anything else.
    Other,
}

/// The server counts subscriptions by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// To channels and patterns.
    Global = 0,
    /// To channels of one shard.
    Shard = 1,
}

/// What `whole`, an array or a push, is.
pub(super) fn kind_of(whole: &[u8]) -> Kind {
    let mut parts = elements(whole);
    let family = match parts.next().map(word) {
        Some(b"message" | b"pmessage" | b"smessage") => return Kind::Message,
        Some(b"subscribe" | b"unsubscribe" | b"psubscribe" | b"punsubscribe") => Family::Global,
        Some(b"ssubscribe" | b"sunsubscribe") => Family::Shard,
        _ => return Kind::Other,
    };
    let count = parts.nth(1).and_then(integer).and_then(|count| u64::try_from(count).ok());
    count.map_or(Kind::Other, |count| Kind::Confirmation(family, count))
}

/// The text of a bulk or a simple string.
fn word(element: &[u8]) -> &[u8] {
    let text = match element.first() {
        Some(b'$') => element.splitn(2, |byte| *byte == b'\n').nth(1),
        Some(b'+') => element.get(1..),
        _ => None,
    };
    text.and_then(|text| text.strip_suffix(b"\r\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_confirmations_are_told_apart_from_replies() {
        let cases: [(&[u8], Kind); 9] = [
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", Kind::Message),
            (b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$1\r\nb\r\n", Kind::Message),
            (b">3\r\n+smessage\r\n$1\r\na\r\n$1\r\nb\r\n", Kind::Message),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n", Kind::Confirmation(Family::Global, 2)),
            (b"*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n", Kind::Confirmation(Family::Global, 0)),
            (b">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n", Kind::Confirmation(Family::Shard, 1)),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", Kind::Other),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb\r\n", Kind::Other),
            (b"+message\r\n", Kind::Other),
        ];
        for (whole, kind) in cases {
            assert_eq!(kind_of(whole), kind, "{}", String::from_utf8_lossy(whole));
        }
    }
}

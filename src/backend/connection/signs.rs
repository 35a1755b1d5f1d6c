//! What the replies of one read say about the server.

use std::time::Instant;

use super::{Connection, Entry, Expect, Reason, redis};

/// Gathered over one read, so that a thousand replies tell as much as one.
#[derive(Default)]
pub(super) struct Signs {
    /// There was a reply.
    heard: bool,
    /// There was a good one, and in time.
    answered: bool,
    /// It says that it cannot serve: in which words, and when the last request that it refused was queued.
    refused: Option<(String, Instant)>,
}

impl Connection {
    /// Takes one reply into account.
    pub(super) fn note<R>(&self, signs: &mut Signs, entry: &Entry<R>, reply: &[u8]) {
        signs.heard = true;
        if !self.is_failure_reply(entry.expect, reply) {
            // One that comes too late helps nobody.
            signs.answered |= !entry.expired;
            return;
        }
        let begun = entry.deadline.map_or(self.heard.get(), |deadline| self.begun(deadline, entry.slow));
        match &mut signs.refused {
            Some((_, last)) => *last = begun.max(*last),
            None => signs.refused = Some((String::from_utf8_lossy(&reply[1..]).trim_end().to_owned(), begun)),
        }
    }

    /// Whether a reply says that the server cannot serve now.
    fn is_failure_reply(&self, expect: Expect, reply: &[u8]) -> bool {
        if expect != Expect::Resp || reply.first() != Some(&b'-') || self.server().failure_replies.is_empty() {
            return false;
        }
        let Some(word) = redis::response::error_word(reply) else { return false };
        self.server().failure_replies.iter().any(|listed| listed.as_bytes() == word)
    }

    /// Tells what the replies of one read have shown.
    pub(super) fn tell_signs(&self, signs: Signs) {
        if !self.is_telling() {
            return;
        }
        if let Some((words, begun)) = signs.refused {
            self.health().failed(begun, &Reason::NotReady(words), "the server is not ready");
        }
        if signs.heard {
            self.recovery.heard();
        }
        if signs.answered {
            self.health().answered();
        }
    }
}

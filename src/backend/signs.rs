//! What the replies of one read say about the server.

use std::time::Instant;

use super::{Expect, Reason, Server, ServerHealth};

/// Gathered over one read, so that a thousand replies tell as much as one.
#[derive(Default)]
pub(super) struct Signs {
    /// There was a reply.
    pub heard: bool,
    /// There was a good one, and in time.
    answered: bool,
    /// It says that it cannot serve: in which words, and when the last request that it refused was queued.
    refused: Option<(String, Instant)>,
}

impl Signs {
    /// Takes one reply into account. `begun`: when its request was queued.
    pub fn note(
        &mut self,
        server: &Server,
        expect: Expect,
        reply: &[u8],
        in_time: bool,
        begun: impl FnOnce() -> Instant,
    ) {
        self.heard = true;
        // Of a transaction that failed it is not known which request was refused, and why.
        if matches!(expect, Expect::Transaction(_)) && reply.first() == Some(&b'-') {
            return;
        }
        if !server.is_failure_reply(expect, reply) {
            // One that comes too late helps nobody.
            self.answered |= in_time;
            return;
        }
        let begun = begun();
        match &mut self.refused {
            Some((_, last)) => *last = begun.max(*last),
            None => self.refused = Some((String::from_utf8_lossy(&reply[1..]).trim_end().to_owned(), begun)),
        }
    }

    /// Tells what the replies of one read have shown.
    pub fn tell(self, health: &dyn ServerHealth) {
        if let Some((words, begun)) = self.refused {
            health.failed(begun, &Reason::NotReady(words), "the server is not ready");
        }
        if self.answered {
            health.answered();
        }
    }
}

//! What a connection does about scripts: which of them the server has, and an EVALSHA that it has not got.

use super::{Connection, Entry, Lost};
use crate::protocol::redis::script;

impl Connection {
    /// Whether the server at the other end has this script for sure.
    pub fn has_script(&self, sha: &script::Sha) -> bool {
        self.known.has(sha, self.wire.pass.now())
    }

    /// A request that ran this script was answered just now. It was sent when everything had been forgotten `as_of` times.
    pub fn ran_script(&self, sha: script::Sha, as_of: u64) {
        self.known.ran(sha, as_of, self.wire.pass.now());
    }

    /// The reply at hand says that the server has not got a script. If the oldest request is an EVALSHA of a script that it
    /// should have: the request, if there is a copy of all of it.
    #[cold]
    pub(super) fn lacks_script(&self) -> Option<Lost> {
        let (in_flight, replay) = (self.wire.in_flight.borrow(), self.replay.borrow());
        let entry = in_flight.next().filter(|entry| entry.script)?;
        let copy = replay.front(entry.kept);
        match script::sha_of_request(copy) {
            Some(sha) => self.known.lacks(&sha),
            None => self.known.clear(),
        }
        (copy.len() == in_flight.bytes_of_next()).then(|| lost(entry, copy))
    }
}

fn lost<R>(entry: &Entry<R>, copy: &[u8]) -> Lost {
    Lost {
        bytes: bytes::Bytes::copy_from_slice(copy),
        expect: entry.expect,
        repeatable: false,
        attempts: entry.attempts,
        deadline: entry.deadline,
    }
}

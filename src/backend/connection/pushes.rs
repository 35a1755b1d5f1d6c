//! Pushes of RESP3: what a server says although nobody asked. Connections that sessions share subscribe to nothing and track
//! nothing, so there should be none; should one come, it answers nothing and must not be taken for a reply.

use super::{Connection, Input, Parsed, Reason, Server};
use crate::protocol::redis::Version;

impl Connection {
    /// What begins like a push is one.
    pub(super) fn may_be_pushed(&self) -> bool {
        self.made_for.borrow().as_ref().is_some_and(|made_for| made_for.login.version == Version::Resp3)
    }

    /// Drops the push at the front of the input. False: it is not whole yet.
    pub(super) fn drop_push(&self, input: &mut Input<'_>) -> Result<bool, Reason> {
        match self.measure.borrow_mut().reply_or_push(input.bytes(), &self.server().limits)? {
            Parsed::Incomplete { need } => {
                input.incomplete(need);
                Ok(false)
            }
            Parsed::Complete(length) => {
                input.skip(length);
                if let Some(pushes) = self.pushes.tell(self.wire.pass.now()) {
                    let Server { pool, name: server, .. } = &*self.server();
                    tracing::info!(pool, server, pushes, "dropped what a server pushed although nobody asked for it");
                }
                Ok(true)
            }
        }
    }
}

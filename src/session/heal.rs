//! An EVALSHA of a script that its server has lost unseen, as somebody else has had it forget all: it is sent a second time,
//! with its body. Only while no other request of the same client is behind it, which it would come after.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::Session;
use crate::backend::{Lost, Requester, Ticket};
use crate::io::Payload;
use crate::protocol::redis::script;

/// A request that waits for the session's task to send it again. There is one at the most: it is the newest.
#[derive(Default)]
pub(super) struct Unhealed(RefCell<Option<(Ticket, Lost, Bytes)>>);

impl Session {
    /// The server said that it has not got the script. What is to be done is done by the session's task: here a connection is
    /// in the middle of its replies.
    pub(super) fn lacks_script(self: Rc<Self>, ticket: Ticket, request: Lost, refusal: Payload<'_>) {
        if self.broken.get() || !self.is_newest(ticket) {
            return self.reply(ticket, refusal);
        }
        *self.unhealed.0.borrow_mut() = Some((ticket, request, refusal.into_bytes()));
        self.wake();
    }

    /// Sends it again, before any other request is taken, or tells the client what the server said.
    pub(super) fn heal(self: &Rc<Self>) {
        let Some((ticket, request, refusal)) = self.unhealed.0.take() else { return };
        let sha = script::sha_of_request(&request.bytes);
        let known = sha.is_some_and(|sha| self.newest_pool().scripts().body(&sha).is_some());
        if known && self.resend(ticket, &request) {
            return self.cells.scripts_sent.increment();
        }
        self.clone().reply(ticket, Payload::Owned(refusal));
    }

    /// No other request is behind this one.
    fn is_newest(&self, ticket: Ticket) -> bool {
        let replies = self.replies.borrow();
        match Self::is_unheard(ticket) {
            true => self.unheard.get() == 1 && replies.unanswered() == 0,
            false => self.unheard.get() == 0 && replies.is_newest(ticket),
        }
    }
}

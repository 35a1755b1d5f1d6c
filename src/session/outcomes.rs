//! What becomes of requests that are on their way: a reply, or none.

use std::rc::Rc;

use super::{Dialect, Session, memcached, redis};
use crate::backend::{Failure, Lost, Requester, Ticket};
use crate::io::Payload;
use crate::protocol::outcome_of;
use crate::telemetry::{Outcome, Trouble};

impl Session {
    /// Settles a fragment of a request that is already on its way, in place of a server: with its reply, or with an error.
    pub(super) fn settle_part(self: &Rc<Self>, ticket: Ticket, result: Result<&[u8], &[u8]>) {
        if Self::is_unheard(ticket) {
            return match result {
                Ok(reply) => self.settle_unheard(ticket, outcome_of(reply)),
                Err(_) => self.fail_unheard(ticket, Trouble::Ejected),
            };
        }
        match result {
            Ok(reply) => self.replies.borrow_mut().deliver(ticket, Payload::Borrowed(reply), &self.shared.pass),
            Err(error) => self.fail_heard(ticket, error, Trouble::Ejected),
        }
        self.progressed();
    }

    /// A request, or a fragment of one, fails with this error.
    pub(super) fn fail_heard(&self, ticket: Ticket, error: &[u8], trouble: Trouble) {
        if self.replies.borrow_mut().fail(ticket, error, &self.shared.pass) {
            self.count(trouble);
        }
    }

    /// What the client does not want to hear has come to its end.
    pub(super) fn settle_unheard(self: &Rc<Self>, ticket: Ticket, outcome: Outcome) {
        self.count_unheard(ticket.part as usize, outcome);
        self.unheard.set(self.unheard.get() - 1);
        self.progressed();
    }

    /// The same, and no server has answered it.
    pub(super) fn fail_unheard(self: &Rc<Self>, ticket: Ticket, trouble: Trouble) {
        if Self::is_counted(ticket) {
            self.count(trouble);
        }
        self.settle_unheard(ticket, Outcome::Failed);
    }
}

impl Requester for Session {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        if Self::is_unheard(ticket) {
            self.settle_unheard(ticket, outcome_of(payload.as_slice()));
        } else if !self.broken.get() {
            self.replies.borrow_mut().deliver(ticket, payload, &self.shared.pass);
            self.progressed();
            self.cut_if_hopeless();
        }
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        if Self::is_unheard(ticket) {
            return self.fail_unheard(ticket, failure.reason.trouble());
        }
        if self.broken.get() || failure.lost.is_some_and(|lost| self.resend(ticket, lost)) {
            return;
        }
        self.cells.forward_error.increment();
        let mut error = Vec::new();
        match &*self.dialect.borrow() {
            Dialect::Redis(_) => redis::write_failure(&mut error, failure),
            Dialect::Memcached(_) => memcached::write_failure(&mut error, failure),
        }
        self.fail_heard(ticket, &error, failure.reason.trouble());
        self.progressed();
    }

    fn no_script(self: Rc<Self>, ticket: Ticket, request: Lost, payload: Payload<'_>) {
        self.lacks_script(ticket, request, payload);
    }
}

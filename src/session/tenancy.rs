//! A dedicated connection in the hands of a session.
//!
//! Invariants:
//! - what a session has on a dedicated connection and what it has on shared ones never wait for replies at the same time
//!   ([`Session::settles_first`]), so none of its requests overtakes another;
//! - a session that ends has given back every connection it leased.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::posts::Post;
use super::{Dialect, Session};
use crate::backend::{Answer, Dedicated, Failure, Requester, Tenant, Ticket, Wait};
use crate::io::{Outbound, Pass, Payload};
use crate::pool::{Pool, Refusal, ServerId};
use crate::protocol::redis::response;

/// In place of a request's number: the session's own request, not its client's.
const OWN: u64 = u64::MAX - 1;

const CLIENT_ID: &[u8] = b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";

/// What the session asks on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// MULTI, and the transaction waits for the reply.
    Multi,
    /// DISCARD or UNWATCH.
    Discard,
    /// SUBSCRIBE and its kin.
    Subscription,
    /// CLIENT ID.
    Number,
}

impl Own {
    pub(super) fn ticket(self) -> Ticket {
        Ticket { sequence: OWN, part: self as u32 }
    }
}

/// How far a tenancy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Leased,
    /// MULTI was sent for the first time on this connection. Nothing may follow before it is known to be accepted.
    Proving,
    GivenBack,
    /// For this reason.
    Lost(String),
}

pub(super) struct Tenancy {
    session: Rc<Session>,
    pub(super) server: ServerId,
    connection: RefCell<Option<Rc<Dedicated>>>,
    standing: RefCell<Standing>,
    /// Unanswered requests with a ticket.
    pending: Cell<usize>,
    /// It is given back as soon as nothing is pending.
    ending: Cell<bool>,
    /// What ends it must be accepted, or something of the session is left at the server.
    leaves: Cell<bool>,
    /// It carries subscriptions.
    subscribes: Cell<bool>,
    /// What the session's card says of a request that waits here.
    post: RefCell<Option<Post>>,
    /// That is still to be said.
    has_to_say: Cell<bool>,
}

impl Tenancy {
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// It has no connection any more.
    pub(super) fn is_over(&self) -> bool {
        self.connection.borrow().as_ref().is_none_or(|connection| connection.is_lost())
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.get() > 0
    }

    /// What was sent last ends it: once that is answered nothing of the session is left at the server.
    pub(super) fn end_when_answered(&self) {
        self.ending.set(true);
    }

    /// The same with EXEC, DISCARD or UNWATCH, as which it must be accepted for that.
    pub(super) fn end_when_accepted(&self) {
        self.leaves.set(true);
        self.end_when_answered();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// It is for subscriptions.
    pub(super) fn subscribe(&self) {
        self.subscribes.set(true);
    }

    /// The session takes no more messages for now, or takes more again.
    pub(super) fn pause_reading(&self, pause: bool) {
        self.connection().iter().for_each(|connection| connection.pause_reading(pause));
    }

    /// The connection, as long as there is one.
    pub(super) fn connection(&self) -> Option<Rc<Dedicated>> {
        self.connection.borrow().clone()
    }

    /// Sends one request of the client. False: there is no connection any more.
    pub(super) fn send(&self, ticket: Ticket, wait: Wait, write: impl FnOnce(&mut Outbound, &Pass)) -> bool {
        self.send_for(ticket, Answer::One, wait, write)
    }

    pub(super) fn send_for(
        &self,
        ticket: Ticket,
        answer: Answer,
        wait: Wait,
        write: impl FnOnce(&mut Outbound, &Pass),
    ) -> bool {
        let Some(connection) = self.connection() else { return false };
        self.pending.set(self.pending.get() + 1);
        connection.send(Some(ticket), answer, wait, write);
        true
    }

    /// Sends a request of the session's own whose reply matters.
    pub(super) fn send_own(&self, own: Own, request: &[u8]) {
        if own == Own::Multi {
            *self.standing.borrow_mut() = Standing::Proving;
        }
        self.send(own.ticket(), Wait::Usual, |out, pass| out.push(Payload::Borrowed(request), pass));
    }

    /// Sends a request whose reply is known beforehand, or does not matter.
    pub(super) fn send_unasked(&self, request: &[u8]) {
        if let Some(connection) = self.connection() {
            connection.send(None, Answer::One, Wait::Usual, |out, pass| out.push(Payload::Borrowed(request), pass));
        }
    }

    /// The next request waits for something to happen, this long. So that others may have that end before, the server is asked
    /// what it calls the connection, if that is not known yet: the question goes along with the request.
    pub(super) fn take_up_post(&self, wait: Wait) {
        self.session.card.posts.expect();
        self.has_to_say.set(true);
        match self.connection().map(|connection| connection.number_at_server()) {
            Some(Some(number)) => self.tell_post(Some(number)),
            Some(None) => {
                let write = |out: &mut Outbound, pass: &Pass| out.push(Payload::Borrowed(CLIENT_ID), pass);
                self.send(Own::Number.ticket(), wait, write);
            }
            None => drop(self.leave_post()),
        }
    }

    fn tell_post(&self, number: Option<i64>) {
        if let Some(connection) = self.connection().filter(|_| self.has_to_say.replace(false)) {
            let post = Post { server: self.server, address: connection.address(), number };
            self.session.card.posts.take_up(post.clone());
            *self.post.borrow_mut() = Some(post);
        }
    }

    /// Nothing waits here any more. True: somebody has had the server end it, and that may not have come there yet.
    fn leave_post(&self) -> bool {
        if self.has_to_say.replace(false) {
            self.session.card.posts.expect_no_more();
        }
        self.post.take().is_some_and(|post| self.session.card.posts.leave(&post))
    }

    /// One request less is pending; gives the connection back if that was the last thing wanted of it.
    fn answered(self: &Rc<Self>) {
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() > 0 {
            return;
        }
        if self.ending.get() {
            self.give_back(!self.leaves.get());
        }
        self.session.go_on_if_answered();
    }

    /// `clean`: nothing of the session is left at the server.
    pub(super) fn give_back(self: &Rc<Self>, clean: bool) {
        if let Some(connection) = self.connection.take() {
            *self.standing.borrow_mut() = Standing::GivenBack;
            let ordered = self.leave_post();
            connection.give_back(clean && !ordered);
            self.session.forget(self);
        }
    }

    fn own_answered(self: &Rc<Self>, ticket: Ticket, accepted: bool, why: impl FnOnce() -> String) {
        if ticket == Own::Discard.ticket() && !accepted {
            // Something of the transaction is left at the server.
            self.give_back(false);
        }
        if ticket != Own::Multi.ticket() {
            return;
        }
        let proving = *self.standing.borrow() == Standing::Proving;
        if proving && accepted {
            self.connection().iter().for_each(|connection| connection.set_proven());
            *self.standing.borrow_mut() = Standing::Leased;
        } else if proving {
            *self.standing.borrow_mut() = Standing::Lost(why());
        }
    }
}

impl Requester for Tenancy {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        if ticket == Own::Subscription.ticket() {
            self.session.heard_on_line(&self, payload, true);
            return self.answered();
        }
        if ticket == Own::Number.ticket() {
            let number = response::integer(payload.as_slice());
            self.connection().iter().for_each(|connection| connection.set_number_at_server(number));
            self.tell_post(number);
            return self.answered();
        }
        if ticket.sequence == OWN {
            let reply = payload.as_slice();
            self.own_answered(ticket, reply == b"+OK\r\n", || reply.trim_ascii().escape_ascii().to_string());
            self.answered();
            return self.session.progressed();
        }
        if self.leaves.get() && self.pending.get() == 1 {
            let reply = payload.as_slice();
            self.leaves.set(response::is_error(reply) && response::error_word(reply) != Some(b"EXECABORT"));
        }
        self.answered();
        self.session.clone().reply(ticket, payload);
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        if ticket.sequence == OWN {
            self.own_answered(ticket, false, || failure.to_string());
            self.answered();
            return self.session.progressed();
        }
        self.answered();
        self.session.clone().fail(ticket, failure);
    }
}

impl Tenant for Tenancy {
    fn message(self: Rc<Self>, _line: u32, payload: Payload<'_>) {
        // A connection that is for something else has none.
        if self.subscribes.get() {
            self.session.heard_on_line(&self, payload, false);
        }
    }

    fn lost(self: Rc<Self>, _line: u32, failure: &Failure<'_>) {
        if self.connection.take().is_some() {
            self.leave_post();
            *self.standing.borrow_mut() = Standing::Lost(failure.to_string());
            self.session.forget(&self);
            if self.subscribes.get() {
                self.session.lost_line(&self, &failure.to_string());
            }
        }
    }
}

impl Session {
    /// Leases a connection to the server at `place`, which takes traffic.
    ///
    /// # Errors
    /// Why there is none to be had.
    pub(super) fn lease(self: &Rc<Self>, pool: &Pool, place: usize) -> Result<Rc<Tenancy>, Refusal> {
        let tenancy = Rc::new(Tenancy {
            session: self.clone(),
            server: pool.server_id(place),
            connection: RefCell::default(),
            standing: RefCell::new(Standing::Leased),
            pending: Cell::new(0),
            ending: Cell::new(false),
            leaves: Cell::new(false),
            subscribes: Cell::new(false),
            post: RefCell::default(),
            has_to_say: Cell::new(false),
        });
        let connection = pool.lease(place, self.variant(), tenancy.clone(), 0)?;
        *tenancy.connection.borrow_mut() = Some(connection);
        self.tenancies.borrow_mut().push(tenancy.clone());
        Ok(tenancy)
    }

    /// A tenancy is over.
    fn forget(self: &Rc<Self>, tenancy: &Rc<Tenancy>) {
        self.tenancies.borrow_mut().retain(|other| !Rc::ptr_eq(other, tenancy));
        self.progressed();
    }

    /// Gives everything back, whatever is going on there.
    pub(super) fn give_back_all(&self) {
        if let Dialect::Redis(state) = &mut *self.dialect.borrow_mut() {
            state.disengage();
        }
        self.drop_subscriptions();
        let all = self.tenancies.take();
        for tenancy in all {
            tenancy.leave_post();
            if let Some(connection) = tenancy.connection.take() {
                connection.give_back(false);
            }
        }
    }
}

//! Asking a server what it is, once for all sessions of a worker that want to know.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::Pool;
use crate::backend::{Expect, Facts, Failure, Request, Requester, Ticket};
use crate::io::Payload;
use crate::protocol::redis::reply;

/// A question under way, and who waits for the answer.
pub(super) struct Asking {
    facts: Arc<Facts>,
    /// Questions so far, and the last one that is over.
    asked: Cell<u64>,
    over: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Asking {
    pub(super) fn new(facts: Arc<Facts>) -> Rc<Self> {
        Rc::new(Self { facts, asked: Cell::new(0), over: Cell::new(0), waiting: RefCell::default() })
    }

    fn is_over(&self) {
        self.over.set(self.asked.get());
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl Requester for Asking {
    fn reply(self: Rc<Self>, _: Ticket, payload: Payload<'_>) {
        self.facts.learn(payload.as_slice());
        self.is_over();
    }

    fn fail(self: Rc<Self>, _: Ticket, _: &Failure<'_>) {
        self.is_over();
    }
}

impl Pool {
    /// Has a server that takes traffic say what it is, with a HELLO that changes nothing of the connection. `waker` is woken
    /// when it has, or has not in the time of a request: when the question with this number is over, see
    /// [`Pool::was_answered`]. `None`: there is nobody to ask.
    pub fn ask_what_servers_are(&self, session: u64, waker: &Waker) -> Option<u64> {
        let asking = &self.asking;
        if asking.over == asking.asked {
            let live = (0..self.servers()).filter(|place| self.away(*place).is_none());
            let mut connections = live.map(|place| self.connection(place, session, self.usual));
            let connection = connections.find(|connection| connection.has_room())?;
            asking.asked.set(asking.asked.get() + 1);
            let request = Request { repeatable: true, ..Request::once(Ticket::default(), Expect::Resp) };
            connection
                .send(Some(asking.clone()), request, |out, pass| reply::write_command(out.tail(pass), &["HELLO"]));
        }
        let mut waiting = asking.waiting.borrow_mut();
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        Some(asking.asked.get())
    }

    /// The question is over, answered or not. One that was asked by a pool before this one is.
    pub fn was_answered(&self, question: u64) -> bool {
        self.asking.over.get() >= question || self.asking.asked.get() < question
    }
}

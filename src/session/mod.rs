//! Towards the clients: one session per client connection.
//!
//! ```text
//!  client ──► read ──► parse every whole request ──► pool ──► connection (append)
//!     ▲                     │ answered here              │
//!     └── end of the pass ──┴── slots, in order ◄────────┘ reply
//! ```
//! A session stops reading while it is owed too many replies or holds too many unsent bytes, those to be expected
//! included ([`window`]), or while a connection it needs has no room; nothing is dropped, the client just finds its socket
//! full. Only when the whole process has no room are requests refused, and clients cut that do not read ([`overload`]).

pub mod carried;
mod change;
mod depart;
mod memcached;
mod merge;
mod meter;
mod overload;
mod patience;
mod redis;
mod replies;
mod resend;
mod window;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::backend::{Failure, Requester, Ticket};
use crate::config::Protocol;
use crate::io::{Flush, Held, Inbound, Input, Pass, Payload, Stream};
use crate::pool::{Away, Pool};
use crate::protocol::outcome_of;
use crate::telemetry::{Class, Ending, Outcome, PoolCells, Trouble};

pub use depart::Departure;
use meter::{Asked, Meter, Verdict};
pub use overload::{Common, Patrol};
use patience::Patience;
use replies::Replies;

/// What the sessions of one worker share.
pub struct Shared {
    pub pass: Rc<Pass>,
    /// Unix time at which the process started, in seconds.
    pub started: u64,
    common: Arc<Common>,
    /// Reasons to look after sessions now and then: sockets that take no more, large requests of which only a part has
    /// come.
    watched: Cell<usize>,
    scratch: RefCell<Scratch>,
    /// Set once the process drains: sessions close when nothing is owed.
    draining: Cell<bool>,
    /// Set once another process takes this one's place: sessions go there instead.
    departure: RefCell<Option<Departure>>,
}

/// Parse results, reused by all sessions of a worker so that a request allocates nothing.
#[derive(Default)]
struct Scratch {
    arguments: crate::protocol::redis::request::Arguments,
    keys: Vec<u32>,
    text: crate::protocol::memcached::Request,
}

impl Shared {
    pub fn new(pass: Rc<Pass>, common: Arc<Common>, started: u64) -> Rc<Self> {
        Rc::new(Self {
            pass,
            started,
            common,
            watched: Cell::new(0),
            scratch: RefCell::default(),
            draining: Cell::new(false),
            departure: RefCell::default(),
        })
    }

    /// From now on sessions finish what is in flight and close. Wake each with [`Session::wake`].
    pub fn drain(&self) {
        self.draining.set(true);
    }
}

/// What became of the bytes at the front of the input.
enum Step {
    /// A request was taken; look for the next.
    Next,
    /// No whole request is there.
    Incomplete,
    /// A request is there but cannot be sent now; it stays in the input.
    NoRoom,
    /// Nothing more is read; close when all that is owed is sent.
    Close,
}

/// Per-protocol state.
enum Dialect {
    Redis(redis::State),
    Memcached(memcached::State),
}

/// One client connection.
pub struct Session {
    /// Unique in the process; what `CLIENT ID` answers.
    pub id: u64,
    shared: Rc<Shared>,
    /// The one that requests go by.
    pool: RefCell<Rc<Pool>>,
    /// The one to go by as soon as no request of the one before is unanswered.
    next_pool: RefCell<Option<Rc<Pool>>>,
    cells: Arc<PoolCells>,
    dialect: RefCell<Dialect>,
    /// `None` once the session has ended, although servers may still owe it replies.
    stream: RefCell<Option<Stream>>,
    inbound: RefCell<Inbound>,
    replies: RefCell<Replies>,
    /// Requests on their way whose replies the client does not want to hear.
    unheard: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// On the pass's list.
    dirty: Cell<bool>,
    /// The socket takes no more bytes for now.
    blocked: Cell<bool>,
    /// Not reading until there is room.
    paused: Cell<bool>,
    /// Nothing more is read; ends when all that is owed is sent.
    closing: Cell<bool>,
    /// Its pool is gone: ends when nothing is owed.
    leaving: Cell<bool>,
    /// The socket is dead; ends now.
    broken: Cell<bool>,
    /// Why it ends, as soon as that is known.
    ending: Cell<Option<Ending>>,
    /// Much of the client's is held, most likely a part of a large request.
    bulky: Cell<bool>,
    patience: Patience,
    /// What it holds, as counted: for the client, and of the client's.
    held_replies: Held,
    held_input: Held,
}

impl Session {
    pub fn new(id: u64, stream: Stream, pool: Rc<Pool>, shared: Rc<Shared>) -> Rc<Self> {
        let dialect = match pool.settings.protocol {
            Protocol::Redis => Dialect::Redis(redis::State::new(&pool)),
            Protocol::Memcached => Dialect::Memcached(memcached::State::default()),
        };
        let pass = &shared.pass;
        let (held_replies, held_input) = (Held::new(pass.clone()), Held::new(pass.clone()));
        let (patience, limits) = (Patience::new(pass.now()), &pool.shared().session_limits);
        Rc::new(Self {
            id,
            replies: RefCell::new(Replies::new(limits.max_session_bytes, Meter::new(pool.cells().clone()))),
            shared,
            cells: pool.cells().clone(),
            pool: RefCell::new(pool),
            next_pool: RefCell::default(),
            dialect: RefCell::new(dialect),
            stream: RefCell::new(Some(stream)),
            inbound: RefCell::default(),
            unheard: Cell::new(0),
            waker: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            leaving: Cell::new(false),
            broken: Cell::new(false),
            ending: Cell::new(None),
            bulky: Cell::new(false),
            patience,
            held_replies,
            held_input,
        })
    }

    /// The session's task; ends when the client has gone or has been told all it is owed after its last request.
    pub async fn run(self: Rc<Self>) {
        self.cells.client_connections.add(1);
        self.cells.client_connections_total.increment();
        poll_fn(|cx| self.poll(cx)).await;
        self.cells.endings.of(self.ending.get().unwrap_or(Ending::Reset)).increment();
        self.broken.set(true);
        if let Some(stream) = self.stream.borrow_mut().take() {
            stream.shutdown_write();
        }
        // Servers may owe it replies for long, and hold on to it until then; its bytes are of no use any more.
        self.inbound.take();
        self.hold_input();
        self.release_replies();
        self.set_blocked(false);
        self.cells.client_connections.sub(1);
    }

    /// Has the task look at the session again.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.remember(cx);
        // Of one that was ended nothing more is taken: its connections may be gone already.
        let failed = self.broken.get() || self.poll_unblock(cx).is_err() || self.poll_requests(cx).is_err();
        if failed || self.broken.get() {
            self.cells.client_err.increment();
            return Poll::Ready(());
        }
        if self.departs() {
            return Poll::Ready(());
        }
        // Only now: requests that have come already, or that a pause held back, are still taken; half of one waits for its
        // other half.
        let ends = self.leaving.get() || (self.shared.draining.get() && self.shared.departure.borrow().is_none());
        if ends && self.inbound.borrow().is_empty() {
            self.ends_for(Ending::Drained);
            self.closing.set(true);
        }
        if self.closing.get() && self.replies.borrow().is_settled() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn poll_unblock(self: &Rc<Self>, cx: &mut Context<'_>) -> std::io::Result<()> {
        if self.blocked.get()
            && let Some(stream) = &*self.stream.borrow()
            && let Poll::Ready(ready) = stream.poll_write_ready(cx)
        {
            ready?;
            self.set_blocked(false);
            self.mark_dirty();
        }
        Ok(())
    }

    fn poll_requests(self: &Rc<Self>, cx: &mut Context<'_>) -> std::io::Result<()> {
        if self.paused.get() && self.has_room() {
            self.paused.set(false);
            self.inbound.borrow_mut().resume(|input| self.consume(input));
        }
        if self.must_look_again() && !self.paused.get() {
            self.inbound.borrow_mut().resume(|input| self.consume(input));
        }
        while !self.paused.get() && !self.closing.get() {
            let mut stream = self.stream.borrow_mut();
            let Some(stream) = &mut *stream else { break };
            let consume = |input: &mut Input<'_>| self.consume(input);
            match self.inbound.borrow_mut().poll_read(cx, stream, &self.shared.pass, consume) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    // The client has sent its last request; it may still be waiting for replies.
                    self.cells.client_eof.increment();
                    self.ends_for(Ending::Client);
                    self.closing.set(true);
                }
                Poll::Ready(Ok(_)) => self.patience.heard(self.shared.pass.now()),
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        self.hold_input();
        Ok(())
    }

    /// Takes every request that is whole and may be sent.
    fn consume(self: &Rc<Self>, input: &mut Input<'_>) {
        if !self.may_go_on() || self.shared.keeps_for_departure(input.bytes().len()) {
            return self.paused.set(true);
        }
        let pool = self.pool();
        let (mut requests, before) = (0, input.bytes().len());
        let mut dialect = self.dialect.borrow_mut();
        let mut scratch = self.shared.scratch.borrow_mut();
        while !input.bytes().is_empty() {
            if !self.is_admitted() {
                self.paused.set(true);
                break;
            }
            let step = match &mut *dialect {
                Dialect::Redis(state) => redis::step(self, &pool, state, &mut scratch, input),
                Dialect::Memcached(state) => memcached::step(self, &pool, state, &mut scratch, input),
            };
            match step {
                Step::Next => requests += 1,
                Step::Incomplete => break,
                Step::NoRoom => {
                    self.paused.set(true);
                    break;
                }
                Step::Close => {
                    self.ends_for(Ending::Protocol);
                    self.closing.set(true);
                    input.skip(input.bytes().len());
                }
            }
        }
        self.cells.request_bytes.add((before - input.bytes().len()) as u64);
        self.shared.pass.hear(self.id, requests);
    }

    /// Whether one more request may be taken.
    fn is_admitted(&self) -> bool {
        self.shared.admits(&self.pool.borrow().shared().session_limits, &self.replies.borrow(), 1)
    }

    /// Whether a paused session reads on: when half of its limits is free again.
    fn has_room(&self) -> bool {
        self.may_go_on() && self.shared.admits(&self.pool.borrow().shared().session_limits, &self.replies.borrow(), 2)
    }

    /// Who is told what becomes of the request at hand, whose `replies` the client wants to hear or not.
    fn asker(self: &Rc<Self>, class: Class, replies: bool) -> (Rc<dyn Requester>, Ticket) {
        let ticket = match replies {
            true => self.replies.borrow_mut().reserve(self.asked(class)),
            false => self.unheard(Some(class)),
        };
        (self.clone(), ticket)
    }

    /// A request that has just come.
    fn asked(&self, class: Class) -> Asked {
        Asked::now(class, &self.shared.pass)
    }

    /// Whether a server has yet to answer.
    fn is_awaiting(&self) -> bool {
        self.unheard.get() > 0 || self.replies.borrow().unanswered() > 0
    }

    /// Pauses until `connection` has room.
    fn wait_for(&self, connection: &crate::backend::Connection) -> Step {
        if let Some(waker) = &*self.waker.borrow() {
            connection.wait_for_room(waker);
        }
        Step::NoRoom
    }

    /// Why a request, or a fragment of one, cannot be forwarded, in words for the client; counts it as twemproxy does.
    fn why_away(&self, away: Away) -> String {
        self.cells.forward_error.increment();
        self.pool.borrow().why_away(away)
    }

    /// Answers the request at hand, in its turn. `heard`: the client wants to hear it; if not, it is only counted.
    fn answer(self: &Rc<Self>, heard: bool, verdict: Verdict, write: impl FnOnce(&mut Vec<u8>)) {
        if !heard {
            return self.count_unheard_answer(verdict, write);
        }
        self.replies.borrow_mut().answer(&self.shared.pass, |reply| self.count_answer(verdict, reply), write);
        self.mark_dirty();
    }

    /// Settles a fragment of a request that is already on its way, in place of a server: with its reply, or with an error.
    fn settle_part(self: &Rc<Self>, ticket: Ticket, result: Result<&[u8], &[u8]>) {
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
    fn fail_heard(&self, ticket: Ticket, error: &[u8], trouble: Trouble) {
        if self.replies.borrow_mut().fail(ticket, error, &self.shared.pass) {
            self.count(trouble);
        }
    }

    fn mark_dirty(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.shared.pass.mark(self.clone());
        }
    }

    /// After replies came or went: write what there is, and wake the task when it can go on.
    fn progressed(self: &Rc<Self>) {
        let replies = self.replies.borrow();
        if !replies.out.is_empty() && !self.blocked.get() {
            self.mark_dirty();
        }
        let settled = replies.is_settled();
        self.held_replies.set(replies.bytes());
        drop(replies);
        self.go_over();
        let leaves = self.closing.get() || self.shared.departure.borrow().is_some();
        if (leaves && settled) || (self.paused.get() && self.has_room()) {
            self.wake();
        }
    }

    /// What the client does not want to hear has come to its end.
    fn settle_unheard(self: &Rc<Self>, ticket: Ticket, outcome: Outcome) {
        self.count_unheard(ticket.part as usize, outcome);
        self.unheard.set(self.unheard.get() - 1);
        self.progressed();
    }

    /// The same, and no server has answered it.
    fn fail_unheard(self: &Rc<Self>, ticket: Ticket, trouble: Trouble) {
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
}

impl Flush for Session {
    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        if self.broken.get() {
            return;
        }
        if self.blocked.get() {
            // What the session answers itself goes into the out buffer all the same.
            return self.held_replies.set(self.replies.borrow().bytes());
        }
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else { return };
        let mut replies = self.replies.borrow_mut();
        let (mut written, now) = (0, self.shared.pass.now());
        let result = replies.out.write_to(stream, &self.shared.pass, usize::MAX, |n| written += n);
        self.held_replies.set(replies.bytes());
        drop(replies);
        self.cells.response_bytes.add(written as u64);
        match result {
            Ok(true) => {
                self.patience.flowing(now);
                self.progressed();
            }
            Ok(false) => {
                self.patience.stalled(written, now);
                self.set_blocked(true);
                self.wake();
            }
            Err(_) => {
                self.broken.set(true);
                self.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests;

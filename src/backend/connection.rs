//! One pipelined connection to a server, shared by all sessions of a worker.
//!
//! ```text
//!  session ─send─► out buffer ──(end of the pass: one write)──► server
//!              └─► in-flight ◄──(reply: oldest first)────────── server
//! ```
//! It connects when the first request is queued, and again after a loss when requests are left. `recovery` says what
//! becomes of them, and `deadlines` what is given up when.

mod change;
mod deadlines;
mod gauges;
mod notice;
mod recovery;
mod signs;

use std::cell::{Cell, Ref, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::connect::connect;
use super::in_flight::{Entry, InFlight};
use super::measure::Measure;
use super::replay::Replay;
use super::{Expect, Failure, Lost, Reason, Request, Requester, Server, ServerHealth, Ticket, Time};
use crate::io::{Flush, Held, Inbound, Input, Outbound, Pass, Stream};
use crate::protocol::{Parsed, memcached, redis};
use crate::telemetry::ServerCells;

use gauges::Queues;
use notice::Notice;
pub use notice::Records;
use recovery::Recovery;
use signs::Signs;

/// A connection on which nothing was heard for so long may have died unseen: its next request is watched more closely.
const IDLE: Duration = Duration::from_secs(1);

/// After so many bytes a connection leaves the rest to the next pass, so that what has come is written first.
const MOST_AT_ONCE: usize = 1 << 20;

/// A connection, connected or not. [`Connection::run`] drives it.
pub struct Connection {
    server: RefCell<Arc<Server>>,
    health: RefCell<Rc<dyn ServerHealth>>,
    pass: Rc<Pass>,
    cells: Arc<ServerCells>,
    notice: Notice,
    link: RefCell<Option<Stream>>,
    out: RefCell<Outbound>,
    inbound: RefCell<Inbound>,
    measure: RefCell<Measure>,
    in_flight: RefCell<InFlight<Rc<dyn Requester>>>,
    replay: RefCell<Replay>,
    recovery: Recovery,
    /// The task's own waker.
    waker: RefCell<Option<Waker>>,
    /// Sessions that wait for room.
    waiting: RefCell<Vec<Waker>>,
    /// On the pass's list.
    dirty: Cell<bool>,
    /// The socket takes no more bytes for now.
    blocked: Cell<bool>,
    /// The link is to be given up; the task takes it from here.
    broken: RefCell<Option<Reason>>,
    /// Nothing more is written but the rest of a request; the link ends when the server has answered what was.
    retiring: Cell<bool>,
    /// Not wanted any more: ends when nothing is in flight.
    leaving: Cell<bool>,
    /// The server is ejected, and yet answers what is in flight.
    released: Cell<bool>,
    /// The description that the link was made by.
    made_for: RefCell<Option<Arc<Server>>>,
    /// When the connection under way must have been made.
    connect_by: Cell<Option<Instant>>,
    /// What this connection has added to the queue gauges.
    counted: Cell<Queues>,
    held: Held,
    /// When bytes last came, or when the oldest given-up request was given up.
    heard: Cell<Instant>,
    /// When the first request after a long silence was sent, as long as it is not answered.
    roused: Cell<Option<Instant>>,
    /// Connect although nothing is queued.
    eager: Cell<bool>,
}

impl Connection {
    /// A connection that is not made yet; spawn [`Connection::run`] for it.
    pub fn new(server: Arc<Server>, health: Rc<dyn ServerHealth>, pass: Rc<Pass>, records: Records) -> Rc<Self> {
        let (heard, held) = (Cell::new(pass.now()), Held::new(pass.clone()));
        let recovery = Recovery::new(server.max_reconnect_delay);
        Rc::new(Self {
            held,
            health: RefCell::new(health),
            pass,
            notice: Notice::new(&records, &server),
            cells: records.cells,
            server: RefCell::new(server),
            link: RefCell::default(),
            out: RefCell::new(Outbound::keeping()),
            inbound: RefCell::default(),
            measure: RefCell::default(),
            in_flight: RefCell::default(),
            replay: RefCell::default(),
            recovery,
            waker: RefCell::default(),
            waiting: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            broken: RefCell::default(),
            retiring: Cell::new(false),
            leaving: Cell::new(false),
            released: Cell::new(false),
            made_for: RefCell::default(),
            connect_by: Cell::new(None),
            counted: Cell::default(),
            heard,
            roused: Cell::new(None),
            eager: Cell::new(false),
        })
    }

    /// The server this connection leads to.
    pub fn server(&self) -> Ref<'_, Server> {
        Ref::map(self.server.borrow(), |server| &**server)
    }

    fn health(&self) -> Ref<'_, dyn ServerHealth> {
        Ref::map(self.health.borrow(), |health| &**health)
    }

    /// There is a link.
    pub fn is_up(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Unanswered requests.
    pub fn in_flight(&self) -> usize {
        self.in_flight.borrow().len()
    }

    /// Connects now, without waiting for a request.
    pub fn preconnect(&self) {
        self.eager.set(true);
        self.wake();
    }

    /// Whether one more request may be sent. If not, wait with [`Connection::wait_for_room`].
    pub fn has_room(&self) -> bool {
        self.in_flight.borrow().len() < self.server().max_requests && self.out.borrow().len() < self.server().max_bytes
    }

    /// Wakes `waker` when there is room again.
    pub fn wait_for_room(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Queues one request, whose bytes `write` appends. The reply, or the failure, goes to `requester`; with `None` it is
    /// dropped.
    pub fn send(
        self: &Rc<Self>,
        requester: Option<Rc<dyn Requester>>,
        request: Request,
        write: impl FnOnce(&mut Outbound, &Pass),
    ) {
        debug_assert!(!self.leaving.get(), "a request for a server that is not wanted any more");
        let mut out = self.out.borrow_mut();
        let before = out.len();
        write(&mut out, &self.pass);
        let bytes = out.len() - before;
        let entry = Entry::new(requester, request.ticket, request.expect, self.deadline(request.time));
        let mut entry = entry.at(self.pass.stamp());
        (entry.attempts, entry.slow) = (request.attempts, request.time == Time::Slow);
        let beginning = out.beginning_of_last(bytes);
        entry.sampled = self.notice_request(bytes, beginning);
        let mut replay = self.replay.borrow_mut();
        if request.repeatable && beginning.len() == bytes {
            entry.kept = replay.keep(beginning);
            entry.repeatable = entry.kept > 0;
        }
        if entry.kept == 0 {
            entry.kept = replay.keep_beginning(beginning);
        }
        drop((out, replay));
        // Only what can be sent again gains from an early doubt.
        if request.time == Time::Usual && request.repeatable {
            self.rouse();
        }
        if entry.deadline.is_some() {
            self.pass.watch_deadlines();
        }
        self.in_flight.borrow_mut().push(entry, bytes);
        let cells = &self.cells;
        cells.requests.increment();
        cells.request_bytes.add(bytes as u64);
        if self.link.borrow().is_some() {
            self.mark_dirty();
        } else {
            self.held.set(self.out.borrow().len());
            self.wake();
        }
    }

    fn mark_dirty(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.pass.mark(self.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// The connection's task: ends after [`Connection::leave`]; drop it to close.
    pub async fn run(self: Rc<Self>) {
        while poll_fn(|cx| self.poll_wanted(cx)).await {
            let begun = Instant::now();
            match self.establish().await {
                Err(reason) => self.not_connected(begun, reason),
                Ok(stream) => {
                    self.connected(stream, begun);
                    let reason = poll_fn(|cx| self.poll_serve(cx)).await;
                    if self.is_up() {
                        self.disconnected(reason);
                    }
                }
            }
        }
        self.wait_until(None);
    }

    /// Whether a link is to be made; if not, none ever will be.
    fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.remember(cx);
        if self.may_end() {
            return Poll::Ready(false);
        }
        if self.is_backing_off() || self.health().is_ejected() {
            self.turn_away();
            return if self.may_end() { Poll::Ready(false) } else { Poll::Pending };
        }
        if self.eager.replace(false) || !self.in_flight.borrow().is_empty() { Poll::Ready(true) } else { Poll::Pending }
    }

    /// Connects, unless [`Connection::check_deadlines`] calls it off.
    async fn establish(&self) -> Result<Stream, Reason> {
        // What ended the connection before this one says nothing about it.
        *self.broken.borrow_mut() = None;
        let server = self.server.borrow().clone();
        self.connect_by.set(server.connect_timeout.map(|limit| self.pass.now() + limit));
        self.pass.watch_deadlines();
        *self.made_for.borrow_mut() = Some(server.clone());
        self.cells.connecting.add(1);
        let mut attempt = pin!(connect(&server));
        let result = poll_fn(|cx| match self.broken.borrow_mut().take() {
            Some(reason) => Poll::Ready(Err(reason)),
            // Nobody looks after it any more, and a server may let it wait for ever.
            None if self.may_end() => Poll::Ready(Err(Reason::Removed)),
            None => attempt.as_mut().poll(cx),
        });
        let result = result.await;
        self.connect_by.set(None);
        self.cells.connecting.sub(1);
        // In other words than of a connection that breaks later.
        result.map_err(Reason::of_connecting)
    }

    fn connected(self: &Rc<Self>, stream: Stream, begun: Instant) {
        *self.link.borrow_mut() = Some(stream);
        *self.broken.borrow_mut() = None;
        self.blocked.set(false);
        self.retiring.set(false);
        self.heard.set(self.pass.now());
        self.recovery.connected(begun);
        self.cells.server_connections.add(1);
        self.cells.server_connections_total.increment();
        if !self.out.borrow().is_empty() {
            self.mark_dirty();
        }
        // The addresses, or the whole description, may have changed while it was made.
        self.follow();
    }

    fn poll_serve(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        self.remember(cx);
        if !self.is_up() {
            // Given up meanwhile.
            return Poll::Ready(Reason::Ejected);
        }
        if let Err(reason) = self.poll_unblock(cx).and_then(|()| self.poll_replies(cx)) {
            return Poll::Ready(reason);
        }
        // Only now: what the server said before the write failed answers requests.
        if let Some(reason) = self.broken.borrow_mut().take() {
            return Poll::Ready(reason);
        }
        if self.may_end() || (self.retiring.get() && self.owes_nothing()) {
            return Poll::Ready(Reason::Moved);
        }
        self.wake_waiting();
        Poll::Pending
    }

    /// The server was ejected although it is well: what was sent to it is still answered, what cannot be sent at once is
    /// handed back.
    pub fn release(self: &Rc<Self>) {
        if self.is_up() {
            self.clone().flush();
            if self.out.borrow().is_empty() {
                return self.released.set(true);
            }
        }
        self.abandon();
    }

    /// The server was ejected: hands back at once all that waits for it.
    pub fn abandon(&self) {
        self.released.set(false);
        if self.in_flight.borrow().is_empty() {
            return;
        }
        if self.is_up() {
            self.disconnected(Reason::Ejected);
        } else {
            self.fail_queued(&self.last_reason());
        }
        self.wake();
    }

    fn poll_unblock(self: &Rc<Self>, cx: &mut Context<'_>) -> Result<(), Reason> {
        if !self.blocked.get() {
            return Ok(());
        }
        let link = self.link.borrow();
        let Some(stream) = &*link else { return Ok(()) };
        if let Poll::Ready(ready) = stream.poll_write_ready(cx) {
            ready?;
            self.blocked.set(false);
            self.mark_dirty();
        }
        Ok(())
    }

    fn poll_replies(&self, cx: &mut Context<'_>) -> Result<(), Reason> {
        let mut link = self.link.borrow_mut();
        let Some(stream) = &mut *link else { return Ok(()) };
        let mut read = 0;
        loop {
            let mut result = Ok(());
            let consume = |input: &mut Input<'_>| result = self.consume(input);
            match self.inbound.borrow_mut().poll_read(cx, stream, &self.pass, consume) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Reason::Closed),
                Poll::Ready(Ok(n)) => {
                    self.hear();
                    read += n;
                }
                Poll::Ready(Err(e)) => return Err(e.into()),
            }
            result?;
            self.count_queues();
            if read >= MOST_AT_ONCE {
                self.pass.go_on_later(cx.waker());
                return Ok(());
            }
        }
    }

    fn hear(&self) {
        self.heard.set(self.pass.now());
        self.roused.set(None);
    }

    /// Hands every whole reply to the request at the head of the queue.
    fn consume(&self, input: &mut Input<'_>) -> Result<(), Reason> {
        let cells = &self.cells;
        let mut signs = Signs::default();
        while !input.bytes().is_empty() {
            let next = self.in_flight.borrow().next().map(|e| (e.expect, e.kept, e.repeatable, (e.queued, e.sampled)));
            let Some((expect, kept, repeatable, (queued, sampled))) = next else {
                return Err(Reason::Protocol("a reply that no request asked for".into()));
            };
            let length = match self.measure.borrow_mut().reply(input.bytes(), expect, &self.server().limits)? {
                Parsed::Complete(length) => length,
                Parsed::Incomplete { need } => {
                    input.incomplete(need);
                    break;
                }
            };
            let reply = &input.bytes()[..length];
            self.check_keys(expect, if repeatable { kept } else { 0 }, reply)?;
            self.notice_reply(queued, sampled, reply);
            let Some(entry) = self.in_flight.borrow_mut().answered() else { break };
            if kept > 0 {
                self.replay.borrow_mut().release(kept);
            }
            cells.responses.increment();
            cells.response_bytes.add(length as u64);
            if self.pass.measures() {
                cells.latency.record(self.pass.stamp().since(entry.written));
                cells.queue_latency.record(entry.written.since(entry.queued));
            }
            let payload = input.take(length);
            let out_of_step = matches!(expect, Expect::Memcached(e)
                if memcached::response::leaves_out_of_step(payload.as_slice(), e));
            self.note(&mut signs, &entry, payload.as_slice());
            if let Some(requester) = entry.requester {
                requester.reply(entry.ticket, payload);
            }
            if out_of_step {
                return Err(Reason::OutOfStep);
            }
        }
        self.tell_signs(signs);
        Ok(())
    }

    /// A value of another key than was asked for must never reach a client.
    fn check_keys(&self, expect: Expect, kept: u32, reply: &[u8]) -> Result<(), Reason> {
        match expect {
            Expect::Memcached(_)
                if kept > 0 && !memcached::response::is_reply_to(self.replay.borrow().front(kept), reply) =>
            {
                Err(Reason::Protocol("a value of another key than was asked for".into()))
            }
            _ => Ok(()),
        }
    }

    /// Lets the sessions that wait go on when half of the room is free: woken for each free place, they would all run
    /// for one of them to get it.
    fn wake_waiting(&self) {
        if !self.waiting.borrow().is_empty()
            && self.in_flight.borrow().len() <= self.server().max_requests / 2
            && self.out.borrow().len() <= self.server().max_bytes / 2
        {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

impl Flush for Connection {
    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        let most = if self.retiring.get() { self.in_flight.borrow().rest_of_request() } else { usize::MAX };
        if self.blocked.get() || most == 0 {
            return self.count_queues();
        }
        let link = self.link.borrow();
        let Some(stream) = &*link else { return };
        let mut written = 0;
        let result = self.out.borrow_mut().write_to(stream, &self.pass, most, |n| written += n);
        self.in_flight.borrow_mut().wrote(written, self.pass.stamp());
        match result {
            Ok(true) => {}
            Ok(false) => {
                self.blocked.set(true);
                self.wake();
            }
            Err(error) => self.give_up(error.into()),
        }
        self.count_queues();
        self.wake_waiting();
    }
}

#[cfg(test)]
mod tests;

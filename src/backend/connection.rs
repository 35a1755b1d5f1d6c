//! One pipelined connection to a server, shared by all sessions of a worker.
//!
//! ```text
//!  session ─send─► out buffer ──(end of the pass: one write)──► server
//!              └─► in-flight ◄──(reply: oldest first)────────── server
//! ```
//! It connects when the first request is queued, and again after a loss when requests are left that were never written.
//! Requests that were written when it was lost fail with the reason: whether the server ran them cannot be known.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::connect::connect;
use super::in_flight::InFlight;
use super::measure::Measure;
use super::{Expect, Failure, Reason, Requester, Server, Ticket};
use crate::io::{Flush, Inbound, Input, Outbound, Pass, Stream};
use crate::protocol::Parsed;
use crate::protocol::memcached;
use crate::telemetry::{ServerCells, WorkerCells};

/// The lengths of a connection's two queues, in requests and in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Queues {
    unwritten: u64,
    unwritten_bytes: u64,
    unanswered: u64,
    unanswered_bytes: u64,
}

/// A connection, connected or not. [`Connection::run`] drives it.
pub struct Connection {
    server: Rc<Server>,
    pass: Rc<Pass>,
    cells: Arc<WorkerCells>,
    /// Index of the pool and of the server in `cells`.
    place: (usize, usize),
    link: RefCell<Option<Stream>>,
    out: RefCell<Outbound>,
    inbound: RefCell<Inbound>,
    measure: RefCell<Measure>,
    in_flight: RefCell<InFlight<Rc<dyn Requester>>>,
    /// The task's own waker.
    waker: RefCell<Option<Waker>>,
    /// Sessions that wait for room.
    waiting: RefCell<Vec<Waker>>,
    /// On the pass's list.
    dirty: Cell<bool>,
    /// The socket takes no more bytes for now.
    blocked: Cell<bool>,
    /// A write failed; the task takes it from here.
    broken: RefCell<Option<Reason>>,
    /// When the connection under way must have been made.
    connect_by: Cell<Option<Instant>>,
    /// What this connection has added to the queue gauges.
    counted: Cell<Queues>,
    /// When bytes last came, or when the oldest given-up request was given up.
    heard: Cell<Instant>,
    /// Connect although nothing is queued.
    eager: Cell<bool>,
    /// Connections lost or not made since the server was last heard; of these only the first is worth a line in the log.
    failures: Cell<u64>,
}

impl Connection {
    /// A connection that is not made yet; spawn [`Connection::run`] for it.
    pub fn new(server: Rc<Server>, pass: Rc<Pass>, cells: Arc<WorkerCells>, place: (usize, usize)) -> Rc<Self> {
        let heard = Cell::new(pass.now());
        Rc::new(Self {
            server,
            pass,
            cells,
            place,
            link: RefCell::default(),
            out: RefCell::new(Outbound::keeping()),
            inbound: RefCell::default(),
            measure: RefCell::default(),
            in_flight: RefCell::default(),
            waker: RefCell::default(),
            waiting: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            broken: RefCell::default(),
            connect_by: Cell::new(None),
            counted: Cell::default(),
            heard,
            eager: Cell::new(false),
            failures: Cell::new(0),
        })
    }

    /// The server this connection leads to.
    pub fn server(&self) -> &Server {
        &self.server
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
        self.in_flight.borrow().len() < self.server.max_requests && self.out.borrow().len() < self.server.max_bytes
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
        ticket: Ticket,
        expect: Expect,
        write: impl FnOnce(&mut Outbound, &Pass),
    ) {
        let mut out = self.out.borrow_mut();
        let before = out.len();
        write(&mut out, &self.pass);
        let bytes = out.len() - before;
        drop(out);
        let deadline = self.server.timeout.map(|t| self.pass.now() + t);
        self.in_flight.borrow_mut().push(requester, ticket, expect, bytes, deadline);
        let cells = self.cells();
        cells.requests.increment();
        cells.request_bytes.add(bytes as u64);
        if deadline.is_some() {
            self.pass.watch_deadlines();
        }
        if self.link.borrow().is_some() {
            self.mark_dirty();
        } else {
            self.wake();
        }
    }

    fn mark_dirty(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.pass.mark(self.clone());
        }
    }

    fn cells(&self) -> &ServerCells {
        &self.cells.pools[self.place.0].servers[self.place.1]
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

    /// The connection's task: never ends by itself; drop it to close.
    pub async fn run(self: Rc<Self>) {
        loop {
            poll_fn(|cx| self.poll_wanted(cx)).await;
            match self.establish().await {
                Err(reason) => {
                    self.cells().server_err.increment();
                    self.failed(&reason, "cannot connect");
                    self.fail_queued(&reason);
                }
                Ok(stream) => {
                    self.connected(stream);
                    let reason = poll_fn(|cx| self.poll_serve(cx)).await;
                    self.disconnected(&reason);
                }
            }
        }
    }

    fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.remember(cx);
        if self.eager.replace(false) || !self.in_flight.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Connects, unless [`Connection::check_deadlines`] calls it off.
    async fn establish(&self) -> Result<Stream, Reason> {
        // What ended the connection before this one says nothing about it.
        *self.broken.borrow_mut() = None;
        self.connect_by.set(self.server.connect_timeout.map(|limit| self.pass.now() + limit));
        self.pass.watch_deadlines();
        let mut attempt = pin!(connect(&self.server));
        let result = poll_fn(|cx| match self.broken.borrow_mut().take() {
            Some(reason) => Poll::Ready(Err(reason)),
            None => attempt.as_mut().poll(cx),
        });
        let result = result.await;
        self.connect_by.set(None);
        result
    }

    fn connected(self: &Rc<Self>, stream: Stream) {
        *self.link.borrow_mut() = Some(stream);
        *self.broken.borrow_mut() = None;
        self.blocked.set(false);
        self.heard.set(self.pass.now());
        self.cells().server_connections.add(1);
        self.cells().server_connections_total.increment();
        if !self.out.borrow().is_empty() {
            self.mark_dirty();
        }
    }

    fn poll_serve(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        self.remember(cx);
        if let Err(reason) = self.poll_unblock(cx).and_then(|()| self.poll_replies(cx)) {
            return Poll::Ready(reason);
        }
        // Only now: what the server said before the write failed answers requests.
        if let Some(reason) = self.broken.borrow_mut().take() {
            return Poll::Ready(reason);
        }
        self.wake_waiting();
        Poll::Pending
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
        loop {
            let mut result = Ok(());
            let consume = |input: &mut Input<'_>| result = self.consume(input);
            match self.inbound.borrow_mut().poll_read(cx, stream, &self.pass, consume) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Reason::Closed),
                Poll::Ready(Ok(_)) => self.hear(),
                Poll::Ready(Err(e)) => return Err(e.into()),
            }
            result?;
        }
    }

    fn hear(&self) {
        self.heard.set(self.pass.now());
        let failures = self.failures.take();
        if failures > 0 {
            tracing::info!(pool = self.server.pool, server = self.server.name, failures, "the server answers again");
        }
    }

    /// Hands every whole reply to the request at the head of the queue.
    fn consume(&self, input: &mut Input<'_>) -> Result<(), Reason> {
        let cells = self.cells();
        while !input.bytes().is_empty() {
            let Some(expect) = self.in_flight.borrow().expect() else {
                return Err(Reason::Protocol("a reply that no request asked for".into()));
            };
            let length = match self.measure.borrow_mut().reply(input.bytes(), expect, &self.server.limits)? {
                Parsed::Complete(length) => length,
                Parsed::Incomplete { need } => {
                    input.incomplete(need);
                    break;
                }
            };
            let Some(entry) = self.in_flight.borrow_mut().answered() else { break };
            cells.responses.increment();
            cells.response_bytes.add(length as u64);
            let payload = input.take(length);
            let out_of_step = matches!(expect, Expect::Memcached(e)
                if memcached::response::leaves_out_of_step(payload.as_slice(), e));
            if let Some(requester) = entry.requester {
                requester.reply(entry.ticket, payload);
            }
            if out_of_step {
                return Err(Reason::Protocol("the server may have taken a data block for commands".into()));
            }
        }
        self.count_queues();
        Ok(())
    }

    /// Called by the worker's ticker: gives up what is overdue. True while something has a deadline.
    ///
    /// A connection on which a request expired and from which not a byte came for another `timeout` is given up as well.
    pub fn check_deadlines(&self, now: Instant) -> bool {
        let by = self.connect_by.get();
        if by.is_some_and(|by| by <= now) {
            let limit = self.server.connect_timeout.unwrap_or_default();
            self.give_up(Reason::ConnectTimedOut(limit.as_millis()));
        }
        let Some(timeout) = self.server.timeout else { return by.is_some() };
        self.expire(now);
        if self.in_flight.borrow().has_expired() {
            if self.link.borrow().is_none() {
                // No reply to it can come, and it must not be sent any more; others may need its room.
                self.forget_written();
                self.wake_waiting();
            } else if self.heard.get() + timeout <= now {
                self.give_up(Reason::Silent(timeout.as_millis()));
            }
        }
        let in_flight = self.in_flight.borrow();
        by.is_some() || in_flight.has_expired() || in_flight.deadline().is_some()
    }

    fn give_up(&self, reason: Reason) {
        self.broken.borrow_mut().get_or_insert(reason);
        self.wake();
    }

    fn expire(&self, now: Instant) {
        let reason = Reason::TimedOut(self.server.timeout.unwrap_or_default().as_millis());
        loop {
            let first = !self.in_flight.borrow().has_expired();
            let Some((requester, ticket)) = self.in_flight.borrow_mut().expire_next(now) else { return };
            if first {
                self.heard.set(now);
            }
            self.cells().server_timedout.increment();
            if let Some(requester) = requester {
                requester.fail(ticket, &self.failure(&reason));
            }
        }
    }

    fn failure<'a>(&'a self, reason: &'a Reason) -> Failure<'a> {
        Failure { pool: &self.server.pool, server: &self.server.name, reason }
    }

    fn disconnected(&self, reason: &Reason) {
        *self.link.borrow_mut() = None;
        *self.inbound.borrow_mut() = Inbound::default();
        *self.measure.borrow_mut() = Measure::default();
        let cells = self.cells();
        cells.server_connections.sub(1);
        match reason {
            Reason::Closed => cells.server_eof.increment(),
            _ => cells.server_err.increment(),
        }
        let failed = self.forget_written();
        let idle = failed.is_empty() && self.in_flight.borrow().is_empty();
        if idle && *reason == Reason::Closed {
            tracing::debug!(pool = self.server.pool, server = self.server.name, "server closed an idle connection");
            return self.wake_waiting();
        }
        self.failed(reason, "connection lost");
        self.fail(failed, reason);
        // A server that takes connections only to drop them is not asked in circles.
        if self.failures.get() > 1 {
            self.fail_queued(reason);
        }
    }

    /// Counts a failure. One line in the log when a server starts to fail; [`Connection::hear`] writes one when it ends.
    fn failed(&self, reason: &Reason, what: &str) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        let (pool, server) = (&self.server.pool, &self.server.name);
        match failures {
            1 => tracing::warn!(pool, server, %reason, "{what}"),
            _ => tracing::debug!(pool, server, %reason, failures, "{what}"),
        }
    }

    /// Fails everything that is queued.
    fn fail_queued(&self, reason: &Reason) {
        let failed = self.in_flight.borrow_mut().drain();
        self.out.borrow_mut().clear(&self.pass);
        self.count_queues();
        self.fail(failed.into_iter().map(|e| (e.requester, e.ticket)).collect(), reason);
    }

    fn fail(&self, failed: Vec<(Option<Rc<dyn Requester>>, Ticket)>, reason: &Reason) {
        for (requester, ticket) in failed {
            if let Some(requester) = requester {
                requester.fail(ticket, &self.failure(reason));
            }
        }
        self.wake_waiting();
    }

    /// Takes the requests that the lost connection had written, in part or whole, and those that have expired, out of
    /// both queues.
    fn forget_written(&self) -> Vec<(Option<Rc<dyn Requester>>, Ticket)> {
        let (failed, bytes) = self.in_flight.borrow_mut().disconnect();
        let mut out = self.out.borrow_mut();
        out.advance(bytes);
        if out.is_empty() {
            out.clear(&self.pass);
        }
        drop(out);
        self.count_queues();
        failed.into_iter().map(|e| (e.requester, e.ticket)).collect()
    }

    /// Brings the queue gauges, which the connections of a server share, up to date.
    fn count_queues(&self) {
        let (in_flight, unwritten_bytes) = (self.in_flight.borrow(), self.out.borrow().len() as u64);
        let unwritten = in_flight.unwritten() as u64;
        let now = Queues {
            unwritten,
            unwritten_bytes,
            unanswered: in_flight.len() as u64 - unwritten,
            unanswered_bytes: in_flight.bytes().saturating_sub(unwritten_bytes),
        };
        let before = self.counted.replace(now);
        let cells = self.cells();
        cells.in_queue.add(now.unwritten.wrapping_sub(before.unwritten));
        cells.in_queue_bytes.add(now.unwritten_bytes.wrapping_sub(before.unwritten_bytes));
        cells.out_queue.add(now.unanswered.wrapping_sub(before.unanswered));
        cells.out_queue_bytes.add(now.unanswered_bytes.wrapping_sub(before.unanswered_bytes));
    }

    /// Lets the sessions that wait go on when half of the room is free: woken for each free place, they would all run
    /// for one of them to get it.
    fn wake_waiting(&self) {
        if !self.waiting.borrow().is_empty()
            && self.in_flight.borrow().len() <= self.server.max_requests / 2
            && self.out.borrow().len() <= self.server.max_bytes / 2
        {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

impl Flush for Connection {
    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        if self.blocked.get() {
            return;
        }
        let link = self.link.borrow();
        let Some(stream) = &*link else { return };
        let mut written = 0;
        let result = self.out.borrow_mut().write_to(stream, &self.pass, |n| written += n);
        self.in_flight.borrow_mut().wrote(written);
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

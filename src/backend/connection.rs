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
mod notice;
mod pushes;
mod recovery;
mod scripts;
mod transactions;

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::in_flight::Entry;
use super::measure::Measure;
use super::replay::Replay;
use super::scripts::Known;
use super::signs::Signs;
use super::wire::Wire;
use super::{Expect, Failure, Lost, Reason, Request, Requester, Server, ServerHealth, Ticket, Time};
use crate::io::{Flush, Input, Outbound, Pass, Stream};
use crate::protocol::{Parsed, memcached, redis};
use crate::telemetry::Fold;

use notice::Notice;
pub use notice::Records;
use recovery::Recovery;

/// A connection on which nothing was heard for so long may have died unseen: its next request is watched more closely.
const IDLE: Duration = Duration::from_secs(1);

/// A connection, connected or not. [`Connection::run`] drives it.
pub struct Connection {
    server: RefCell<Arc<Server>>,
    health: RefCell<Rc<dyn ServerHealth>>,
    wire: Wire<Rc<dyn Requester>>,
    notice: Notice,
    known: Known,
    /// The server has accepted MULTI on this link.
    takes_transactions: Cell<bool>,
    pushes: Fold,
    measure: RefCell<Measure>,
    replay: RefCell<Replay>,
    recovery: Recovery,
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
        let heard = Cell::new(pass.now());
        let recovery = Recovery::new(server.max_reconnect_delay);
        Rc::new(Self {
            health: RefCell::new(health),
            notice: Notice::new(&records, &server),
            known: Known::new(records.scripts.clone()),
            takes_transactions: Cell::new(false),
            wire: Wire::new(pass, (records.cells, records.facts), Outbound::keeping()),
            pushes: Fold::default(),
            server: RefCell::new(server),
            measure: RefCell::default(),
            replay: RefCell::default(),
            recovery,
            broken: RefCell::default(),
            retiring: Cell::new(false),
            leaving: Cell::new(false),
            released: Cell::new(false),
            made_for: RefCell::default(),
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
        self.wire.is_up()
    }

    /// Unanswered requests.
    pub fn in_flight(&self) -> usize {
        self.wire.in_flight.borrow().len()
    }

    /// Connects now, without waiting for a request.
    pub fn preconnect(&self) {
        self.eager.set(true);
        self.wake();
    }

    /// Whether one more request may be sent. If not, wait with [`Connection::wait_for_room`].
    pub fn has_room(&self) -> bool {
        self.wire.has_room(&self.server())
    }

    /// Wakes `waker` when there is room again.
    pub fn wait_for_room(&self, waker: &Waker) {
        self.wire.wait_for_room(waker);
    }

    /// Queues one request, whose bytes `write` appends. The reply, or the failure, goes to `requester`; with `None` it is
    /// dropped.
    // It is most of what a request costs here, and its callers are few.
    #[inline(always)]
    pub fn send(
        self: &Rc<Self>,
        requester: Option<Rc<dyn Requester>>,
        request: Request,
        write: impl FnOnce(&mut Outbound, &Pass),
    ) {
        debug_assert!(!self.leaving.get(), "a request for a server that is not wanted any more");
        let wire = &self.wire;
        let mut out = wire.out.borrow_mut();
        let before = out.len();
        write(&mut out, &wire.pass);
        let bytes = out.len() - before;
        let entry = Entry::new(requester, request.ticket, request.expect, self.deadline(request.time));
        let mut entry = entry.at(wire.pass.stamp());
        (entry.attempts, entry.slow) = (request.attempts, request.time == Time::Slow);
        let beginning = out.beginning_of_last(bytes);
        entry.sampled = self.notice_request(bytes, beginning);
        let mut replay = self.replay.borrow_mut();
        entry.script = request.script;
        if (request.repeatable || request.script) && beginning.len() == bytes {
            entry.kept = replay.keep(beginning);
            entry.repeatable = request.repeatable && entry.kept > 0;
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
            wire.pass.watch_deadlines();
        }
        wire.in_flight.borrow_mut().push(entry, bytes);
        wire.cells.requests.increment();
        wire.cells.request_bytes.add(bytes as u64);
        wire.queued(self);
    }

    fn wake(&self) {
        self.wire.wake();
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
        self.wire.remember(cx);
        if self.may_end() {
            return Poll::Ready(false);
        }
        if self.is_backing_off() || self.health().is_ejected() {
            self.turn_away();
            return if self.may_end() { Poll::Ready(false) } else { Poll::Pending };
        }
        if self.eager.replace(false) || !self.wire.in_flight.borrow().is_empty() {
            Poll::Ready(true)
        } else {
            Poll::Pending
        }
    }

    /// Connects, unless [`Connection::check_deadlines`] calls it off.
    async fn establish(&self) -> Result<Stream, Reason> {
        // What ended the connection before this one says nothing about it.
        *self.broken.borrow_mut() = None;
        let server = self.server.borrow().clone();
        *self.made_for.borrow_mut() = Some(server.clone());
        let called_off = || {
            let broken = self.broken.borrow_mut().take();
            // Nobody looks after it any more, and a server may let it wait for ever.
            broken.or_else(|| self.may_end().then_some(Reason::Removed))
        };
        self.wire.connect(&server, called_off).await
    }

    fn connected(self: &Rc<Self>, stream: Stream, begun: Instant) {
        self.wire.connected(stream, self);
        *self.broken.borrow_mut() = None;
        self.retiring.set(false);
        self.heard.set(self.wire.pass.now());
        self.recovery.connected(begun);
        // The addresses, or the whole description, may have changed while it was made.
        self.follow();
    }

    fn poll_serve(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        self.wire.remember(cx);
        if !self.is_up() {
            // Given up meanwhile.
            return Poll::Ready(Reason::Ejected);
        }
        if let Err(reason) = self.wire.poll_unblock(cx, self).and_then(|()| self.poll_replies(cx)) {
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
            if self.wire.out.borrow().is_empty() {
                return self.released.set(true);
            }
        }
        self.abandon();
    }

    /// The server was ejected: hands back at once all that waits for it.
    pub fn abandon(&self) {
        self.released.set(false);
        if self.wire.in_flight.borrow().is_empty() {
            return;
        }
        if self.is_up() {
            self.disconnected(Reason::Ejected);
        } else {
            self.fail_queued(&self.last_reason());
        }
        self.wake();
    }

    fn poll_replies(&self, cx: &mut Context<'_>) -> Result<(), Reason> {
        if self.wire.poll_read(cx, || true, |input| self.consume(input))? > 0 {
            self.hear();
        }
        Ok(())
    }

    fn hear(&self) {
        self.heard.set(self.wire.pass.now());
        self.roused.set(None);
    }

    /// Hands every whole reply to the request at the head of the queue.
    fn consume(&self, input: &mut Input<'_>) -> Result<(), Reason> {
        let cells = &self.wire.cells;
        let mut signs = Signs::default();
        while let Some(first) = input.bytes().first() {
            if *first == b'>' && self.may_be_pushed() {
                if self.drop_push(input)? {
                    continue;
                }
                break;
            }
            let next =
                self.wire.in_flight.borrow().next().map(|e| (e.expect, e.kept, e.repeatable, (e.queued, e.sampled)));
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
            let lacking = if redis::script::is_noscript(reply) { self.lacks_script() } else { None };
            let Some(entry) = self.wire.in_flight.borrow_mut().answered() else { break };
            if kept > 0 {
                self.replay.borrow_mut().release(kept);
            }
            cells.responses.increment();
            cells.response_bytes.add(length as u64);
            if self.wire.pass.measures() {
                cells.latency.record(self.wire.pass.stamp().since(entry.written));
                cells.queue_latency.record(entry.written.since(entry.queued));
            }
            let (payload, may_be_open) = match expect {
                Expect::Transaction(_) => self.take_outcome(input, length),
                _ => (input.take(length), false),
            };
            let out_of_step = may_be_open
                || matches!(expect, Expect::Memcached(e)
                if memcached::response::leaves_out_of_step(payload.as_slice(), e));
            signs.note(&self.server(), expect, payload.as_slice(), !entry.expired, || self.queued_at(&entry));
            if let Some(requester) = entry.requester {
                match lacking {
                    None => requester.reply(entry.ticket, payload),
                    Some(request) => requester.no_script(entry.ticket, request, payload),
                }
            }
            if out_of_step {
                return Err(Reason::OutOfStep);
            }
        }
        self.tell_signs(signs);
        Ok(())
    }

    /// When a request was queued, about.
    fn queued_at<R>(&self, entry: &Entry<R>) -> Instant {
        entry.deadline.map_or(self.heard.get(), |deadline| self.begun(deadline, entry.slow))
    }

    /// Tells what the replies of one read have shown.
    fn tell_signs(&self, signs: Signs) {
        if !self.is_telling() {
            return;
        }
        if signs.heard {
            self.recovery.heard();
        }
        signs.tell(&*self.health());
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

    fn wake_waiting(&self) {
        self.wire.wake_waiting(&self.server());
    }
}

impl Flush for Connection {
    fn flush(self: Rc<Self>) {
        self.wire.unmark();
        let most = if self.retiring.get() { self.wire.in_flight.borrow().rest_of_request() } else { usize::MAX };
        if let Err(reason) = self.wire.write(most) {
            self.give_up(reason);
        }
        self.wake_waiting();
    }
}

#[cfg(test)]
mod tests;

//! A connection that one session has to itself for a while: for what a server remembers of a connection (MULTI, WATCH,
//! subscriptions) and for what holds it up (BLPOP).
//!
//! ```text
//!  new ──lease──► leased ──give back, clean──► idle ──lease──► leased ...
//!                   │ lost, or given back unclean │ lost, or too long unused
//!                   ▼                             ▼
//!                  over                          over
//! ```
//! It has one life: it connects at once, what is queued before there is a link waits for it, and with the link it ends.
//! Nothing is sent twice, because what a server was in the middle of on a connection is not known to any other.
//!
//! Time runs for the oldest request only, from when it became that: those after it cannot be answered before.

mod ending;
mod kind;
mod replies;

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::connect::{address, is_current};
use super::in_flight::Entry;
use super::measure::Measure;
use super::wire::Wire;
use super::{Expect, Facts, Failure, Reason, Requester, Server, ServerHealth, Ticket, Variant};
use crate::io::{Flush, Outbound, Pass, Payload};
use crate::telemetry::ServerCells;

/// Whoever has a dedicated connection to itself. Of every request sent with a ticket exactly one of
/// [`Requester::reply`] and [`Requester::fail`] is called, once, in the order of the requests, until it gives the connection
/// back. In any of its calls a tenant may send, and may give the connection back.
pub trait Tenant: Requester {
    /// Something that no request asked for, whole: a message of a subscription, the confirmation of one that is not its
    /// request's last (see [`Answer::Confirmations`]), any other push. In the order in which it came, among replies as well.
    fn message(self: Rc<Self>, line: u32, payload: Payload<'_>);
    /// The connection is gone, for this reason; every unanswered request has failed before. Nothing may be sent on it any
    /// more, and it need not be given back.
    fn lost(self: Rc<Self>, line: u32, failure: &Failure<'_>);
}

/// Whoever keeps the dedicated connections to one server.
pub trait Keeper {
    /// What the process thinks of the server.
    fn health(&self) -> Rc<dyn ServerHealth>;
    /// An attempt to connect that began then has failed, or if `linked` the link was lost without a word, and the server is to
    /// blame.
    fn not_connected(&self, begun: Instant, linked: bool, reason: &Reason);
    /// A link was made.
    fn connected(&self);
    /// Something was heard on a new link.
    fn heard(&self);
    /// This connection is over; called before its tenant is told.
    fn lost(&self, number: u64);
    /// Its tenant has no use for it any more.
    fn take_back(&self, dedicated: &Rc<Dedicated>, clean: bool);
    /// Whether the loss of a link that was begun then is news: links that are lost together tell of one event.
    fn is_news(&self, begun: Instant) -> bool;
}

/// A server need not look more often than this whether the time of a blocked client is over: once a tenth of a second, unless
/// its `hz` was changed.
const LOOKS: Duration = Duration::from_millis(500);

/// How long a request may take. When it has taken longer the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `timeout`.
    Usual,
    /// `slow_timeout`.
    Slow,
    /// A blocking command's own time, [`LOOKS`] and `timeout`. It says nothing about the server.
    For(Duration),
    /// As long as the connection lives.
    Ever,
}

/// What a request gets from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One reply.
    One,
    /// So many confirmations of subscriptions, or one error: SUBSCRIBE and its like. The last one, or the error, is the
    /// reply; those before are messages. That is one for each channel named, or without names one for each that there is,
    /// and one if there is none.
    Confirmations(u32),
}

/// What is remembered of a request.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// The tenant waits for the reply.
    wanted: bool,
    answer: Answer,
    wait: Wait,
}

impl Claim {
    /// How long it takes says something about the server.
    fn is_measured(&self) -> bool {
        matches!(self.wait, Wait::Usual | Wait::Slow)
    }
}

/// A connection of one tenant, or of none. [`Dedicated::run`] drives it.
pub struct Dedicated {
    /// The keeper's number for it.
    pub number: u64,
    /// What it was set up as.
    pub variant: Variant,
    keeper: Weak<dyn Keeper>,
    server: RefCell<Arc<Server>>,
    wire: Wire<Claim>,
    measure: RefCell<Measure>,
    tenancy: RefCell<Option<(Rc<dyn Tenant>, u32)>>,
    /// The link is to be given up; the task takes it from here.
    broken: RefCell<Option<Reason>>,
    /// Its tenant has left: it ends when what is queued is written.
    closing: Cell<bool>,
    /// The server is ejected by order: it ends when what is in flight is answered.
    released: Cell<bool>,
    /// It is over.
    lost: Cell<bool>,
    /// Its tenant takes no more for now.
    paused: Cell<bool>,
    /// When the oldest request must be answered.
    due: Cell<Option<Instant>>,
    /// Confirmations that the oldest request has got.
    confirmed: Cell<u32>,
    /// Of the oldest requests so many were queued behind one that may block.
    held_up: Cell<usize>,
    /// By family, as the server counts them.
    subscriptions: Cell<[u64; 2]>,
    proven: Cell<bool>,
    /// Where the link leads.
    address: RefCell<Arc<str>>,
    /// What the server calls the link, if somebody has asked.
    number_at_server: Cell<Option<i64>>,
    /// The server has said something.
    heard: Cell<bool>,
    begun: Cell<Instant>,
    /// When its last tenant gave it back.
    pub(crate) idle_since: Cell<Instant>,
}

impl Dedicated {
    /// A connection for this tenant, which calls it by the number `line`. It is made by [`Dedicated::run`], to be spawned.
    pub fn new(
        (number, keeper): (u64, Weak<dyn Keeper>),
        (variant, server): (Variant, Arc<Server>),
        (pass, cells, facts): (Rc<Pass>, Arc<ServerCells>, Arc<Facts>),
        (tenant, line): (Rc<dyn Tenant>, u32),
    ) -> Rc<Self> {
        let now = pass.now();
        Rc::new(Self {
            number,
            variant,
            keeper,
            server: RefCell::new(server),
            wire: Wire::new(pass, (cells, facts), Outbound::default()),
            measure: RefCell::default(),
            tenancy: RefCell::new(Some((tenant, line))),
            broken: RefCell::default(),
            closing: Cell::new(false),
            released: Cell::new(false),
            lost: Cell::new(false),
            paused: Cell::new(false),
            due: Cell::new(None),
            confirmed: Cell::new(0),
            held_up: Cell::new(0),
            subscriptions: Cell::default(),
            proven: Cell::new(false),
            address: RefCell::new(Arc::from("")),
            number_at_server: Cell::new(None),
            heard: Cell::new(false),
            begun: Cell::new(now),
            idle_since: Cell::new(now),
        })
    }

    /// The server it leads to.
    pub fn server(&self) -> Ref<'_, Server> {
        Ref::map(self.server.borrow(), |server| &**server)
    }

    /// There is a link.
    pub fn is_up(&self) -> bool {
        self.wire.is_up() && !self.lost.get()
    }

    /// It is over: nothing may be sent any more.
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Unanswered requests.
    pub fn in_flight(&self) -> usize {
        self.wire.in_flight.borrow().len()
    }

    /// Whether one more request may be sent. If not, wait with [`Dedicated::wait_for_room`].
    pub fn has_room(&self) -> bool {
        self.wire.has_room(&self.server())
    }

    /// Wakes `waker` when there is room again.
    pub fn wait_for_room(&self, waker: &Waker) {
        self.wire.wait_for_room(waker);
    }

    /// MULTI was accepted on this connection before: it need not be waited for again.
    pub fn is_proven(&self) -> bool {
        self.proven.get()
    }

    pub fn set_proven(&self) {
        self.proven.set(true);
    }

    /// Where the link leads; empty before there is one.
    pub fn address(&self) -> Arc<str> {
        self.address.borrow().clone()
    }

    /// What CLIENT ID has answered on it.
    pub fn number_at_server(&self) -> Option<i64> {
        self.number_at_server.get()
    }

    pub fn set_number_at_server(&self, number: Option<i64>) {
        self.number_at_server.set(number);
    }

    /// There are subscriptions, as far as the server has confirmed.
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.get() != [0, 0]
    }

    /// The tenant takes no more for now, or takes more again. What one read has brought still comes. Meanwhile no time
    /// runs: the reply may be there.
    pub fn pause_reading(&self, pause: bool) {
        if self.paused.replace(pause) && !pause {
            self.start_clock();
            self.wire.wake();
        }
    }

    /// Queues one request, whose bytes `write` appends. The reply, or the failure, goes to the tenant under this ticket; with
    /// `None` it is dropped.
    pub fn send(
        self: &Rc<Self>,
        ticket: Option<Ticket>,
        answer: Answer,
        wait: Wait,
        write: impl FnOnce(&mut Outbound, &Pass),
    ) {
        debug_assert!(!self.is_lost() && self.tenancy.borrow().is_some(), "a request on a connection that is over");
        if self.is_lost() {
            return;
        }
        let wire = &self.wire;
        let mut out = wire.out.borrow_mut();
        let before = out.len();
        write(&mut out, &wire.pass);
        let bytes = out.len() - before;
        drop(out);
        let claim = Claim { wanted: ticket.is_some(), answer, wait };
        let entry = Entry::new(Some(claim), ticket.unwrap_or_default(), Expect::Resp, None).at(wire.pass.stamp());
        wire.in_flight.borrow_mut().push(entry, bytes);
        wire.cells.requests.increment();
        wire.cells.request_bytes.add(bytes as u64);
        if self.in_flight() == 1 {
            self.start_clock();
        }
        wire.queued(self);
    }

    /// Its tenant has no use for it any more, and is told of nothing any more. `clean`: nothing of the tenant is left on the
    /// server's side, so that another may have it.
    pub fn give_back(self: &Rc<Self>, clean: bool) {
        match self.keeper.upgrade() {
            Some(keeper) => keeper.take_back(self, clean),
            None => self.close(),
        }
    }

    /// The time of the oldest request begins to run.
    fn start_clock(&self) {
        let wait = self.wire.in_flight.borrow().oldest().and_then(|oldest| Some(oldest.requester?.wait));
        let limit = wait.and_then(|wait| self.limit(wait));
        self.due.set(limit.and_then(|limit| self.wire.pass.now().checked_add(limit)));
        if self.due.get().is_some() {
            self.wire.pass.watch_deadlines();
        }
    }

    fn limit(&self, wait: Wait) -> Option<Duration> {
        let Server { timeout, slow_timeout, .. } = *self.server();
        match wait {
            Wait::Usual => timeout,
            Wait::Slow => slow_timeout,
            Wait::For(own) => timeout.and_then(|timeout| own.checked_add(LOOKS)?.checked_add(timeout)),
            Wait::Ever => None,
        }
    }

    /// The connection's task: ends with the connection; drop it to close.
    pub async fn run(self: Rc<Self>) {
        let server = self.server.borrow().clone();
        self.begun.set(Instant::now());
        let stream = self.wire.connect(&server, || self.called_off()).await;
        let reason = match stream {
            Err(reason) => reason,
            Ok(stream) => {
                *self.address.borrow_mut() = address(&server.endpoint, Some(&stream)).into();
                self.wire.connected(stream, &self);
                self.keeper.upgrade().iter().for_each(|keeper| keeper.connected());
                if let Some(Wait::For(_)) = self.oldest_wait() {
                    self.start_clock();
                }
                poll_fn(|cx| self.poll_serve(cx)).await
            }
        };
        self.end(&reason);
    }

    /// Why it is not to be made any more.
    fn called_off(&self) -> Option<Reason> {
        let over = self.lost.get() || self.closing.get();
        self.broken.borrow_mut().take().or(over.then_some(Reason::Removed))
    }

    fn oldest_wait(&self) -> Option<Wait> {
        Some(self.wire.in_flight.borrow().oldest()?.requester?.wait)
    }

    fn poll_serve(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        self.wire.remember(cx);
        let read = |cx: &mut Context<'_>| {
            self.wire.poll_read(cx, || !self.paused.get() && !self.lost.get(), |input| self.consume(input))
        };
        if let Err(reason) = self.wire.poll_unblock(cx, self).and_then(|()| read(cx).map(drop)) {
            return Poll::Ready(reason);
        }
        // Only now: what the server said before the write failed answers requests.
        if let Some(reason) = self.broken.borrow_mut().take() {
            return Poll::Ready(reason);
        }
        if self.lost.get() || (self.closing.get() && (self.wire.out.borrow().is_empty() || self.wire.blocked.get())) {
            return Poll::Ready(Reason::Removed);
        }
        if self.released.get() && self.in_flight() == 0 {
            return Poll::Ready(Reason::Ejected);
        }
        self.wire.wake_waiting(&self.server());
        Poll::Pending
    }
}

/// What its keeper does with it.
impl Dedicated {
    /// Has another tenant from now on.
    pub fn move_in(&self, tenant: Rc<dyn Tenant>, line: u32) {
        debug_assert!(self.tenancy.borrow().is_none() && self.is_reusable());
        *self.tenancy.borrow_mut() = Some((tenant, line));
    }

    /// Its tenant has left, and is told of nothing any more.
    pub fn move_out(&self) {
        self.tenancy.take();
        self.pause_reading(false);
    }

    /// The next tenant would find nothing of the one before: nothing is owed, and no bytes are left over.
    pub fn is_reusable(&self) -> bool {
        let empty = self.in_flight() == 0 && self.wire.out.borrow().is_empty();
        // While it is read from, what is left over is found right afterwards, as nobody has asked for it.
        let nothing_left = self.wire.inbound.try_borrow().map_or(true, |inbound| inbound.is_empty());
        let ends = self.closing.get() || self.released.get() || self.broken.borrow().is_some();
        self.is_up() && empty && nothing_left && !self.is_subscribed() && !ends
    }

    /// A new connection would lead to the same address, as far as can be seen now.
    pub fn is_current(&self) -> bool {
        self.wire.look_at_link(|link| is_current(&self.server().endpoint, link)).unwrap_or(true)
    }

    /// Goes by another description that leads to the same server.
    pub fn update(&self, server: Arc<Server>) {
        *self.server.borrow_mut() = server;
    }
}

impl Flush for Dedicated {
    fn flush(self: Rc<Self>) {
        self.wire.unmark();
        if self.lost.get() {
            return;
        }
        if let Err(reason) = self.wire.write(usize::MAX) {
            self.give_up(reason);
        }
        if self.closing.get() {
            self.wire.wake();
        }
        self.wire.wake_waiting(&self.server());
    }
}

#[cfg(test)]
mod tests;

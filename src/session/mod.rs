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

mod amid;
pub mod carried;
mod change;
pub mod clients;
mod depart;
mod flush;
mod heal;
mod memcached;
mod merge;
mod meter;
mod outcomes;
mod overload;
mod patience;
mod presence;
mod redis;
mod replies;
mod resend;
mod shared;
mod subscriptions;
mod tenancy;
mod window;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use crate::backend::{Requester, Ticket, Variant};
use crate::config::Protocol;
use crate::io::{Held, Inbound, Input, Stream};
use crate::pool::{Away, Pool};
use crate::telemetry::{Class, Ending, PoolCells};

use clients::{Card, Gate};
pub use depart::Departure;
use meter::{Asked, Meter, Verdict};
pub use overload::{Common, Patrol};
use patience::Patience;
use replies::Replies;
use shared::Scratch;
pub use shared::Shared;
use subscriptions::Subscriptions;
use tenancy::Tenancy;

/// What became of the bytes at the front of the input.
enum Step {
    /// A request was taken; look for the next.
    Next,
    /// No whole request is there.
    Incomplete,
    /// A request is there but cannot be sent now; it stays in the input.
    NoRoom,
    /// A request was taken that is answered when something happens, and nothing more is until then.
    Stall,
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
    /// What the connections are set up as that its requests go by.
    variant: Cell<Variant>,
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
    /// See [`Session::hold_back`].
    holding: Cell<bool>,
    /// The client has the rights that its pool gives its user.
    followed: Cell<bool>,
    /// Why it ends, as soon as that is known.
    ending: Cell<Option<Ending>>,
    /// Much of the client's is held, most likely a part of a large request.
    bulky: Cell<bool>,
    /// Its next request waits at the gate of the pool.
    held: Cell<bool>,
    /// What others see of it.
    card: Arc<Card>,
    gate: Arc<Gate>,
    patience: Patience,
    /// Connections that it has to itself.
    tenancies: RefCell<Vec<Rc<Tenancy>>>,
    /// Takes nothing more until everything taken is answered.
    settling: Cell<bool>,
    /// Waits for the reply to a blocking request; only whether its client is still there is looked at.
    stalled: Cell<bool>,
    /// What it is subscribed to; most are not.
    subscriptions: RefCell<Option<Box<Subscriptions>>>,
    /// It has subscriptions, or had some a moment ago.
    subscribing: Cell<bool>,
    /// The client is owed confirmations of subscriptions.
    owing: Cell<bool>,
    /// The worker looks after its subscriptions now and then.
    patrolled: Cell<bool>,
    /// The client has gone, and nobody waits for what it is owed.
    gone: Cell<bool>,
    /// What it holds, as counted: for the client, and of the client's.
    held_replies: Held,
    held_input: Held,
    unhealed: heal::Unhealed,
}

impl Session {
    pub fn new(id: u64, stream: Stream, pool: Rc<Pool>, shared: Rc<Shared>) -> Rc<Self> {
        let card = Arc::new(Card::new(id, &stream));
        card.show(pool.usual());
        let gate = shared.common.roll.enter(pool.shared().id, card.clone());
        let dialect = match pool.settings.protocol {
            Protocol::Redis => Dialect::Redis(redis::State::new(&pool, &card)),
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
            variant: Cell::new(pool.usual()),
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
            holding: Cell::new(false),
            followed: Cell::new(false),
            ending: Cell::new(None),
            bulky: Cell::new(false),
            held: Cell::new(false),
            card,
            gate,
            patience,
            tenancies: RefCell::default(),
            settling: Cell::new(false),
            stalled: Cell::new(false),
            subscriptions: RefCell::default(),
            subscribing: Cell::new(false),
            owing: Cell::new(false),
            patrolled: Cell::new(false),
            gone: Cell::new(false),
            held_replies,
            held_input,
            unhealed: heal::Unhealed::default(),
        })
    }

    /// The session's task; ends when the client has gone or has been told all it is owed after its last request.
    pub async fn run(self: Rc<Self>) {
        self.cells.client_connections.add(1);
        self.cells.client_connections_total.increment();
        poll_fn(|cx| self.poll(cx)).await;
        self.cells.endings.of(self.ending.get().unwrap_or(Ending::Reset)).increment();
        self.broken.set(true);
        self.let_go();
        self.give_back_all();
        if let Some(stream) = self.stream.borrow_mut().take() {
            stream.shutdown_write();
        }
        // Servers may owe it replies for long, and hold on to it until then; its bytes are of no use any more.
        self.inbound.take();
        self.hold_input();
        self.release_replies();
        self.set_blocked(false);
        self.take_off_the_roll();
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
        if self.card.is_killed() {
            self.ends_for(Ending::Killed);
            return Poll::Ready(());
        }
        // Of one that was ended nothing more is taken: its connections may be gone already.
        let failed = self.broken.get() || self.poll_unblock(cx).is_err() || self.poll_requests(cx).is_err();
        if failed || self.broken.get() {
            self.cells.client_err.increment();
            return Poll::Ready(());
        }
        if self.subscribing.get() {
            self.tend_subscriptions();
        }
        self.follow_users();
        if self.gone.get() || self.departs() {
            return Poll::Ready(());
        }
        // Only now: requests that have come already, or that a pause held back, are still taken; half of one waits for its
        // other half.
        if self.is_to_end() && self.inbound.borrow().is_empty() && !self.is_amid(&self.dialect.borrow()) {
            self.ends_for(Ending::Drained);
            self.closing.set(true);
        }
        let settled = self.replies.borrow().is_settled() && !self.owing.get();
        if self.closing.get() && settled { Poll::Ready(()) } else { Poll::Pending }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
            self.card.waits_with(cx.waker().clone());
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
        self.heal();
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
                Poll::Ready(Ok(_)) => {
                    let now = self.shared.pass.now();
                    self.patience.heard(now);
                    self.card.hear(now);
                }
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        self.poll_stalled(cx)?;
        self.hold_input();
        Ok(())
    }

    /// Takes every request that is whole and may be sent.
    fn consume(self: &Rc<Self>, input: &mut Input<'_>) {
        if !self.may_go_on() {
            return self.paused.set(true);
        }
        if !self.follow_users() {
            return input.skip(input.bytes().len());
        }
        let pool = self.pool();
        let (mut requests, before) = (0, input.bytes().len());
        let departs = self.shared.keeps_for_departure(before);
        let mut dialect = self.dialect.borrow_mut();
        let mut scratch = self.shared.scratch.borrow_mut();
        while !input.bytes().is_empty() {
            if !self.is_admitted() || (departs && !self.is_amid(&dialect)) {
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
                Step::Stall => {
                    self.stalled.set(true);
                    self.card.blocks.store(true, Relaxed);
                    self.paused.set(true);
                    requests += 1;
                    break;
                }
                Step::Close => {
                    self.ends_for(Ending::Protocol);
                    self.closing.set(true);
                    input.skip(input.bytes().len());
                }
            }
        }
        if let Dialect::Redis(state) = &*dialect {
            state.note_command(&self.card);
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
        if self.stalled.get() || (self.settling.get() && self.is_awaiting()) {
            return false;
        }
        self.settling.set(false);
        self.may_go_on() && self.shared.admits(&self.pool.borrow().shared().session_limits, &self.replies.borrow(), 2)
    }

    /// Who is told what becomes of the request at hand, whose `replies` the client wants to hear or not.
    fn asker(self: &Rc<Self>, class: Class, replies: bool) -> (Rc<dyn Requester>, Ticket) {
        (self.clone(), self.ticket(class, replies))
    }

    /// For the reply to the request at hand, which the client wants to hear or not.
    fn ticket(&self, class: Class, replies: bool) -> Ticket {
        match replies {
            true => self.replies.borrow_mut().reserve(self.asked(class)),
            false => self.unheard(Some(class)),
        }
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

    fn mark_dirty(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.shared.pass.mark(self.clone());
        }
    }

    /// After replies came or went: write what there is, and wake the task when it can go on.
    fn progressed(self: &Rc<Self>) {
        self.let_go();
        let replies = self.replies.borrow();
        if !replies.out.is_empty() && !self.blocked.get() {
            self.mark_dirty();
        }
        let settled = replies.is_settled();
        self.held_replies.set(replies.bytes());
        drop(replies);
        self.go_over();
        if self.subscribing.get() {
            self.resume_lines();
        }
        let leaves = self.closing.get() || self.is_to_end() || self.shared.departure.borrow().is_some();
        if (leaves && settled) || (self.paused.get() && self.has_room()) {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests;

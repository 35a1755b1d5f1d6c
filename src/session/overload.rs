//! What a session does when there is no room left in the process, or no patience with its client.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::clients::Roll;
use super::patience::{Limits, Verdict};
use super::replies::Replies;
use super::{Session, Shared};
use crate::config::{SessionLimits, Settings};
use crate::io::{Budget, Level};
use crate::telemetry::Ending;

/// What a session may hold, in bytes, without being taken for part of the trouble when the process is full.
const SPARED: usize = 64 * 1024;

/// A client that has taken something within this time reads, however much is held for it.
const DOUBT: Duration = Duration::from_millis(50);

/// What the sessions of all workers share.
pub struct Common {
    pub budget: std::sync::Arc<Budget>,
    pub(super) give_back: Option<fn()>,
    pub(super) roll: Roll,
}

impl Common {
    /// `give_back`: has the allocator give back what the calling thread has freed.
    pub fn new(settings: &Settings, give_back: Option<fn()>) -> std::sync::Arc<Self> {
        let budget = std::sync::Arc::new(Budget::new(settings.session_limits.max_buffered_bytes));
        std::sync::Arc::new(Self { budget, give_back, roll: Roll::default() })
    }
}

impl Shared {
    /// Whether a session with these replies may take one more request, when it may use 1/`fraction` of its limits.
    pub(super) fn admits(&self, limits: &SessionLimits, replies: &Replies, fraction: usize) -> bool {
        let most = limits.max_session_bytes.div_ceil(fraction);
        replies.unanswered() < limits.max_session_requests.div_ceil(fraction)
            && match self.pass.level() {
                Level::Calm => replies.admits(most),
                Level::Full => replies.admits(most.min(SPARED / fraction)),
                // The request will be refused, and no reply is to be expected.
                Level::Refusing | Level::Cutting => replies.bytes() < most.min(SPARED / fraction),
            }
    }

    /// There is one more reason to look after sessions now and then, or one less.
    pub(super) fn watch(&self, more: bool) {
        if more {
            self.watched.set(self.watched.get() + 1);
            self.pass.watch_deadlines();
        } else {
            self.watched.set(self.watched.get() - 1);
        }
    }

    /// Gives memory back if it is time to; whether it will be.
    pub fn give_back(&self) -> bool {
        if self.pass.gives_back()
            && let Some(give_back) = self.common.give_back
        {
            give_back();
        }
        self.pass.ebbs()
    }

    /// The error for a request that the process has no room for.
    pub(super) fn overload_text(&self) -> String {
        let budget = self.pass.budget();
        format!("proxy overloaded: {} bytes buffered, limit {} (max_buffered_bytes)", budget.total(), budget.limit())
    }
}

impl Session {
    /// Whether the request at hand must be refused instead of going to a server; counts it.
    pub(super) fn refuses(&self) -> bool {
        let refuses = self.shared.pass.level() >= Level::Refusing;
        if refuses {
            self.cells.client_refused_overload.increment();
        }
        refuses
    }

    /// As [`Session::refuses`], for a request of which so many bytes have come and more are to come. Waiting for the rest
    /// would not do: were all large requests half there, none would ever be whole.
    pub(super) fn refuses_half(&self, bytes: usize) -> bool {
        bytes > SPARED && self.refuses()
    }

    /// Whether a half request is to be looked at again although nothing more has come of it.
    pub(super) fn must_look_again(&self) -> bool {
        self.shared.pass.level() >= Level::Refusing && self.inbound.borrow().len() > SPARED
    }

    /// After a reply was taken in, and now and then: cuts the client if it does not read and the process cannot hold more
    /// for it.
    pub(super) fn cut_if_hopeless(&self) {
        if self.blocked.get() && !self.broken.get() && self.shared.pass.level() == Level::Cutting {
            let bytes = self.replies.borrow().bytes();
            let untaken = || self.stream.borrow().as_ref().and_then(|stream| stream.untaken());
            if bytes > self.pool().shared().session_limits.max_session_bytes
                && self.patience.took_nothing_for(self.shared.pass.now(), untaken) >= DOUBT
            {
                self.cells.client_cut_overload.increment();
                self.ends_for(Ending::Overload);
                self.cut(bytes, "the process holds too much");
            }
        }
    }

    /// Called now and then by the worker: ends the session if its client does not read, or says nothing, or has stopped in
    /// a request for which there is no room any more.
    pub fn check_patience(self: &Rc<Self>, now: Instant) {
        if self.holding.get() {
            self.progressed();
        }
        if self.must_look_again() || self.patrolled.get() {
            self.wake();
        }
        // Perhaps all of its replies came at once, too soon to tell whether it reads.
        self.cut_if_hopeless();
        // Not that of the pool it goes by: a client that does not read may never go by the next one.
        let pool = self.newest_pool().settings.clone();
        let limits = Limits { write: pool.client_write_timeout, idle: pool.client_idle_timeout };
        let (settled, bytes) = {
            let replies = self.replies.borrow();
            // One whose request waits at the gate has not fallen silent.
            // Who listens need not say anything.
            let waits = self.held.get() || self.subscribing.get();
            (replies.is_settled() && !waits, replies.bytes())
        };
        let untaken = || self.stream.borrow().as_ref().and_then(|stream| stream.untaken());
        match self.patience.judge(limits, settled, now, untaken) {
            Some(Verdict::Slow(_)) if !self.broken.get() => {
                self.cells.client_cut_slow.increment();
                self.ends_for(Ending::Slow);
                self.cut(bytes, "it took nothing for client_write_timeout");
            }
            Some(Verdict::Idle(passed)) if !self.closing.get() => {
                let (pool, idle_ms) = (&pool.name, passed.as_millis());
                tracing::debug!(pool, client = self.id, idle_ms, "closing an idle client");
                self.cells.client_closed_idle.increment();
                self.ends_for(Ending::Idle);
                self.closing.set(true);
                self.wake();
            }
            _ => {}
        }
    }

    /// Ends the session of a client that does not read, and what is held for it.
    fn cut(&self, bytes: usize, reason: &str) {
        let current = self.pool();
        let pool = &current.settings.name;
        tracing::debug!(pool, client = self.id, unsent_bytes = bytes, reason, "cutting a client that does not read");
        if let Some(clients) = current.shared().cut.tell(Instant::now()) {
            tracing::warn!(pool, clients, unsent_bytes = bytes, reason, "cut clients that do not read");
        }
        if let Some(stream) = &*self.stream.borrow() {
            stream.abort();
        }
        self.broken.set(true);
        // Not a byte more of it is read, not even what a pause held back.
        self.closing.set(true);
        self.paused.set(false);
        self.release_replies();
        self.wake();
    }

    /// The bytes held for the client are of no use any more.
    pub(super) fn release_replies(&self) {
        self.replies.take().out.clear(&self.shared.pass);
        self.held_replies.set(0);
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        if self.blocked.replace(blocked) != blocked {
            self.shared.watch(blocked);
        }
    }

    /// Counts what is held of the client's.
    pub(super) fn hold_input(&self) {
        let bytes = self.inbound.borrow().len();
        self.held_input.set(bytes);
        self.card.input.store(bytes, Relaxed);
        if self.bulky.replace(bytes > SPARED) != (bytes > SPARED) {
            self.shared.watch(self.bulky.get());
        }
    }
}

/// When a worker looks after the patience with its clients.
pub struct Patrol {
    /// Between two looks.
    interval: Duration,
    /// Idle clients are closed.
    idle: bool,
    next: Option<Instant>,
}

impl Patrol {
    /// For these pools: four looks within the shortest limit, but no more than a few a second.
    pub fn new(settings: &Settings) -> Self {
        const SHORTEST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(1);
        let limits = settings.pools.iter().flat_map(|pool| [pool.client_write_timeout, pool.client_idle_timeout]);
        let shortest = limits.flatten().min().unwrap_or(LONGEST);
        let idle = settings.pools.iter().any(|pool| pool.client_idle_timeout.is_some());
        Self { interval: (shortest / 4).clamp(SHORTEST, LONGEST), idle, next: None }
    }

    /// How soon the worker must tick next, if at all.
    pub fn wants_tick(&self, shared: &Shared, sessions: usize) -> Option<Duration> {
        let wants = shared.watched.get() > 0 || (self.idle && sessions > 0);
        wants.then_some(self.interval)
    }

    /// Whether it is time for a look.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + self.interval);
        }
        due
    }
}

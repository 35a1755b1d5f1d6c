//! What a connection gives up, and when.
//!
//! | what | after |
//! |---|---|
//! | a request | its time limit, from queueing; its entry stays to swallow the late reply |
//! | a link on which a request expired | another `timeout` without a byte, unless the server is at a slow one with time left |
//! | a link that had been idle | half of `timeout` without a byte, so that there is time to ask again; not for slow ones |
//! | an attempt to connect | `connect_timeout` |
//! | a link to a server that was ejected meanwhile, made or in the making | at once |

use std::time::{Duration, Instant};

use super::{Connection, IDLE, Reason, Server, Time};

impl Connection {
    /// When a request must be answered.
    pub(super) fn deadline(&self, time: Time) -> Option<Instant> {
        match time {
            Time::Usual => self.server().timeout.map(|t| self.wire.pass.now() + t),
            Time::Slow => self.server().slow_timeout.map(|t| self.wire.pass.now() + t),
            Time::Until(deadline) => deadline,
        }
    }

    /// Before a request is queued: notes when it is the first after a long silence.
    pub(super) fn rouse(&self) {
        if self.wire.in_flight.borrow().is_empty() && self.wire.pass.now() >= self.heard.get() + IDLE && self.is_up() {
            self.roused.set(Some(self.wire.pass.now()));
        }
    }

    /// Called by the worker's ticker, and when a server was ejected: gives up what is overdue. True while something has a
    /// deadline.
    pub fn check_deadlines(&self, now: Instant) -> bool {
        let connecting = self.wire.connect_by.get().is_some();
        if let Some(reason) = self.wire.connects_too_long(&self.server(), now) {
            self.give_up(reason);
        }
        self.expire(now);
        self.check_link(now);
        let reconnects = self.reconnect_when_due(now);
        let in_flight = self.wire.in_flight.borrow();
        connecting || reconnects || in_flight.has_expired() || in_flight.soonest().is_some()
    }

    fn check_link(&self, now: Instant) {
        let in_flight = self.wire.in_flight.borrow();
        let (some, expired, stuck) = (!in_flight.is_empty(), in_flight.has_expired(), in_flight.is_stuck());
        drop(in_flight);
        if some && self.health().is_ejected() && !self.released.get() {
            return self.give_up(Reason::Ejected);
        }
        if !self.is_up() {
            if expired {
                // No reply to them can come, and they must not be sent any more; others may need their room.
                self.forget_expired();
            }
            return;
        }
        let Server { timeout, slow_timeout, .. } = *self.server();
        // Since when nothing has come, and how long that may last.
        let roused = self.roused.get().zip(timeout.map(|limit| limit / 2));
        let stuck = timeout.or(slow_timeout).filter(|_| stuck).map(|limit| (self.heard.get(), limit));
        let silent = [roused, stuck].into_iter().flatten().find(|(since, limit)| *since + *limit <= now);
        if let Some((_, limit)) = silent {
            self.give_up(Reason::Silent(limit.as_millis()));
        }
    }

    pub(super) fn give_up(&self, reason: Reason) {
        self.broken.borrow_mut().get_or_insert(reason);
        self.wake();
    }

    fn expire(&self, now: Instant) {
        let had_expired = self.wire.in_flight.borrow().has_expired();
        self.notice_overdue(now);
        let overdue = self.wire.in_flight.borrow_mut().expire(now);
        let Some(first) = overdue.first() else { return };
        if !had_expired {
            self.heard.set(now);
        }
        let reasons = [false, true].map(|slow| Reason::TimedOut(self.limit(slow).as_millis()));
        let reason = &reasons[usize::from(first.slow)];
        // One that had been elsewhere before was late when it came.
        let own = overdue.iter().filter(|request| request.attempts == 0);
        if let Some(begun) = own.map(|request| self.begun(request.deadline, request.slow)).max()
            && self.is_telling()
        {
            self.health().failed(begun, reason, "no reply in time");
        }
        let server = self.server.borrow().clone();
        for request in overdue {
            self.wire.cells.server_timedout.increment();
            if let Some(requester) = request.requester {
                requester.fail(request.ticket, &server.failure(&reasons[usize::from(request.slow)]));
            }
        }
    }

    /// How long a request may take.
    fn limit(&self, slow: bool) -> Duration {
        let Server { timeout, slow_timeout, .. } = *self.server();
        let limit = if slow { slow_timeout.or(timeout) } else { timeout.or(slow_timeout) };
        limit.unwrap_or_default()
    }

    /// When a request with this deadline was queued.
    pub(super) fn begun(&self, deadline: Instant, slow: bool) -> Instant {
        deadline.checked_sub(self.limit(slow)).unwrap_or(deadline)
    }
}
